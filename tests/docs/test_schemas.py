"""What `--json` prints fits its schema, and the schema names all of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from tests.docs.pages import DOCS, ROOT
from tests.docs.schemas import PRINTED, SCHEMAS, files, strict
from tests.docs.world import World, sandbox_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FIELDS: Final = ("--attribute-name", "ID", "--attribute-type", "string")
LISTEN: Final = ("--listen", "127.0.0.1:0")
FILTER: Final = {
    "filter_type": "user_attributes",
    "name": "city",
    "data_type": "string",
    "operator": "in",
    "value": ["Pune"],
    "negate": False,
    "case_sensitive": False,
}
PATIENCE_S: Final = 200


@attrs.frozen
class Shell:
    """Runs commands with `--json` in the world of a page."""

    world: World

    async def document(self, *command: str, code: int = 0) -> Any:
        """Return the document that a command prints."""
        return json.loads(await self._out(*command, code=code))

    async def lines(self, *command: str, code: int = 0) -> list[Any]:
        """Return the JSON Lines that a command prints."""
        return [json.loads(line) for line in (await self._out(*command, code=code)).splitlines()]

    async def first(self, *command: str) -> Any:
        """Return the document that a server prints when it serves; it is ended then."""
        process = await self._started(*command)
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)
        process.terminate()
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        return json.loads(out)

    async def _out(self, *command: str, code: int) -> str:
        process = await self._started(*command)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == code, err.decode()
        return out.decode()

    async def _started(self, *command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("moe-segments", *command, "--json"),
            cwd=self.world.directory,
            env=self.world.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@contextlib.asynccontextmanager
async def shell_in(directory: Path) -> AsyncIterator[Shell]:
    async with sandbox_world(directory, from_nothing=False) as world:
        del world.environment["MOE_CALLBACK_URL"]
        yield Shell(world)


def holds(name: str, *documents: Any) -> None:
    """Fail unless the documents fit the schema and have no field that it does not name."""
    assert documents
    validator = Draft202012Validator(strict(SCHEMAS[name]), format_checker=FormatChecker())
    for document in documents:
        wrong = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(document)]
        assert wrong == [], f"docs/schemas/{name}.json: describe it in tests/docs/schemas.py"


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_operations(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        create = ("create", "--name", "s1", *FIELDS, "--expiry-time", "30", "--file", "users.csv")
        holds("planned-operation", await shell.document(*create, *LISTEN, "--dry-run"))
        holds(
            "operation",
            await shell.document(*create, *LISTEN),
            await shell.document("add-users", "--name", "s1", *FIELDS, "--file", "lapsed.csv", "--max-wait", "60"),
            await shell.document("archive", "--name", "s1"),
        )
        segments = await shell.document("list")
        holds("segments", segments)
        cs_id = segments["segments"][0]["id"]
        (tmp_path / "filter.json").write_text(json.dumps(FILTER))
        holds(
            "segment",
            await shell.document("get", cs_id),
            await shell.document("create-filter", "f1", "--filters", "filter.json"),
        )
        jobs = await shell.document("jobs")
        holds("jobs", jobs)
        holds("job", await shell.document("jobs", jobs["jobs"][0]["job_id"]))


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_an_operation_that_failed(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        create = ("create", "--name", "s1", *FIELDS, "--expiry-time", "30", "--file", "users.csv")
        await shell.document(*create, *LISTEN)
        holds("operation", await shell.document("remove-users", "--name", "none", *FIELDS, "--file", "a.csv", code=1))
        jobs = await shell.document("jobs")
        assert any(job["error"] for job in jobs["jobs"])
        holds("jobs", jobs)


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_bulk_runs_and_plans(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        holds("bulk-plan", await shell.document("plan", "examples/bulk.csv"))
        holds("bulk-plan", await shell.document("bulk", "examples/bulk.csv", *LISTEN, "--dry-run"))
        lines = await shell.lines("bulk", "examples/bulk.csv", *LISTEN)
        assert [line["type"] for line in lines] == ["outcome"] * 14 + ["report"]
        holds("bulk-line", *lines)
        holds("bulk-line", *await shell.lines("bulk", "examples/bulk.csv", *LISTEN))
        holds("journal-log-line", *(_without_facts(line) for line in await shell.lines("journal", "log")))


def _without_facts(line: dict[str, Any]) -> dict[str, Any]:
    """An event's own fields differ from event to event; those that all have are described."""
    described = SCHEMAS["journal-log-line"]["properties"]
    assert isinstance(described, dict)
    return {name: value for name, value in line.items() if name in described}


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_audiences(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        sync = ("sync", "examples/audiences.toml", *LISTEN)
        holds("sync-plan", await shell.document(*sync, "--dry-run"))
        holds("sync", await shell.document(*sync), await shell.document(*sync))
        holds("audiences", await shell.document("audiences"))


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_preflights(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        (tmp_path / "bad.csv").write_text("ID\nu1\nu1\n\n")
        holds(
            "preflight",
            await shell.document("preflight", "users.csv"),
            await shell.document("preflight", "bad.csv", "--attribute-name", "ID", code=1),
            await shell.document("preflight", "users.csv", "examples/bulk.csv"),
            await shell.document("preflight", "users.csv", "nowhere.csv", code=2),
            await shell.document("preflight", "bad.csv", "--fix", "good.csv", "--split", "parts"),
        )


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_journals_settings_and_servers(tmp_path: Path) -> None:
    async with shell_in(tmp_path) as shell:
        holds("quota", await shell.document("quota", "--spent-operations", "2"))
        holds("config", await shell.document("config"), await shell.document("config", "--speed", "0", code=2))
        holds("journal-check", await shell.document("journal", "check"))
        holds("journal-backup", await shell.document("journal", "backup", "copy.db"))
        holds("receive", await shell.first("receive", "--port", "0"))
        holds("sandbox", await shell.first("sandbox"))
        holds("dashboard", await shell.first("dashboard", "--port", "0"))
        holds("journal-copy", await shell.document("journal", "copy", "copy.db", "new.db"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(json.loads((DOCS / "schemas" / f"{name}.json").read_text("utf-8")))


def test_every_schema_is_tried_and_said_to_be_of_a_command() -> None:
    tried = set(re.findall(r'holds\(\s*"([\w-]+)"', (ROOT / "tests/docs/test_schemas.py").read_text("utf-8")))
    assert tried == set(SCHEMAS) == set(PRINTED.values())


def test_the_files_of_the_schemas_are_those_of_the_code() -> None:
    """`python -m tests.docs.reference` writes them anew."""
    written = {path: path.read_text("utf-8") for path in (DOCS / "schemas").glob("*.json")}
    assert written == files()


def test_a_field_that_no_schema_names_is_found() -> None:
    with pytest.raises(AssertionError, match="describe it"):
        holds("receive", {"scope": "W1@01", "public_url": "http://127.0.0.1", "port": 1, "new": 1})


def test_every_command_with_json_has_a_schema() -> None:
    """But for those that print nothing on success."""
    commands = (DOCS / "commands.md").read_text("utf-8")
    found = {
        name.removeprefix("moe-segments ")
        for name, body in re.findall(
            r"^#+ (moe-segments [\w -]+)\n(.*?)(?=^#+ |\Z)", commands, re.MULTILINE | re.DOTALL
        )
        if "--json" in body
    }
    told = {re.sub(r" \(JSON Lines\)|; .*| --dry-run| JOB", "", part) for key in PRINTED for part in key.split(", ")}
    silent = {"audiences forget", "completion"}
    assert found - silent <= told
