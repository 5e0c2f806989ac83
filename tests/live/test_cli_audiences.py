"""`sync` and `audiences` as a user meets them: processes, exit codes, and what is printed."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from moe_segments import Audience, InputError, read_audiences
from tests.live.test_cli import EXAMPLES, Ended, Shell, a_shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

LISTENING = ("--listen", "127.0.0.1:0")
HEAD = 'attribute_name = "ID"\nattribute_type = "string"\nexpiry_time = 30\n'
KILLS = 6


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


def audiences(shell: Shell, **sources: str) -> str:
    """Write a file of audiences; the rest of each is the same."""
    path = shell.directory / "audiences.toml"
    path.write_text("".join(f'[[audience]]\nname = "{name}"\n{HEAD}{lines}\n' for name, lines in sources.items()))
    return str(path)


async def synced(shell: Shell, *arguments: str) -> Ended:
    """Sync with files published by the sandbox's own store."""
    sandbox = shell.sandbox
    return await shell.run_at_speed("sync", *arguments, "--publish", sandbox.files_url, *LISTENING)


def members(shell: Shell, name: str) -> set[str]:
    return next(segment.members for segment in shell.segments if segment.name == name)


def printing(*values: str, code: int = 0) -> str:
    """Return the line of a command that prints values and ends with a code."""
    script = "; ".join([*(f"print('{value}')" for value in values), f"raise SystemExit({code})"])
    return f'command = ["{sys.executable}", "-c", "{script}"]'


async def test_the_second_time_only_differences_are_sent(shell: Shell) -> None:
    path = audiences(shell, vip='file = "users.csv"', lapsed=printing("u-7", "u-8"))
    first = await synced(shell, path, "--json")
    assert first.code == 0, first.err
    assert [one["operations"] for one in first.document["audiences"]] == [["create"], ["create"]]
    (shell.directory / "users.csv").write_text("u-1\nu-2\nu-3\nu-4\n")
    dry = await synced(shell, path, "--dry-run", "--json")
    assert [(one["operations"], one["users"]) for one in dry.document["audiences"]] == [(["add"], 1), ([], 0)]
    second = await synced(shell, path)
    assert second.code == 0, second.err
    assert "add" in second.out
    assert "unchanged" in second.out
    assert (members(shell, "vip"), members(shell, "lapsed")) == ({"u-1", "u-2", "u-3", "u-4"}, {"u-7", "u-8"})
    assert shell.sent() == {("create", "vip"): 1, ("create", "lapsed"): 1, ("add", "vip"): 1}


async def test_what_is_known_is_listed_and_forgotten(shell: Shell) -> None:
    path = audiences(shell, vip='file = "users.csv"')
    await synced(shell, path)
    (known,) = (await shell.run_at_speed("audiences", "--json")).document["audiences"]
    assert (known["name"], known["size"], known["is_known"], known["last"]["matched"]) == ("vip", 3, True, 3)
    assert "100.0%" in (await shell.run_at_speed("audiences")).out
    assert (await shell.run_at_speed("audiences", "forget", "vip")).code == 0
    assert (await shell.run_at_speed("audiences", "forget", "unheard-of")).code == 2
    (known,) = (await shell.run_at_speed("audiences", "--json")).document["audiences"]
    assert known["is_known"] is False
    assert [path for path in shell.directory.glob("quota.db.snapshots/*/*/*") if path.is_file()] == []
    assert (await synced(shell, path, "--json")).document["audiences"][0]["operations"] == ["replace"]


async def test_a_command_that_fails_sends_nothing_and_stops_no_other(shell: Shell) -> None:
    path = audiences(shell, bad=printing("u-1", code=3), good=printing("u-2"))
    result = await synced(shell, path, "--json")
    assert result.code == 2
    bad, good = result.document["audiences"]
    assert (bad["status"], good["status"]) == ("refused", "synced")
    assert "ended with exit code 3" in bad["error"]
    assert shell.sent() == {("create", "good"): 1}


async def test_only_the_named_audiences_are_synced(shell: Shell) -> None:
    path = audiences(shell, one=printing("u-1"), two=printing("u-2"))
    assert (await synced(shell, path, "--only", "two")).code == 0
    assert shell.sent() == {("create", "two"): 1}
    result = await synced(shell, path, "--only", "three")
    assert (result.code, "it has one, two" in result.err) == (2, True)


async def test_the_example_runs_on_the_embedded_sandbox(shell: Shell) -> None:
    shutil.copytree(EXAMPLES, shell.directory / "examples")
    arguments = ("examples/audiences.toml", "--sandbox", "--speed", "600", "--json")
    result = await shell.run("sync", *arguments, MOE_BASE_URL="", MOE_JOURNAL="")
    assert result.code == 0, result.err
    assert [one["status"] for one in result.document["audiences"]] == ["synced", "synced"]


async def test_a_killed_sync_goes_on_by_the_same_command(tmp_path: Path) -> None:
    """Killed at random moments: the process that comes next does not wait for the dead one's right."""
    async with a_shell(tmp_path, latency_s=0.05) as shell:
        chance, wanted = random.Random(5), set[str]()
        path = audiences(shell, vip='file = "users.csv"\nmax_removed = 1.0')
        for number in range(KILLS):
            wanted = {f"u-{chance.randrange(90)}" for _ in range(40)}
            (tmp_path / "users.csv").write_text("".join(f"{value}\n" for value in wanted))
            options = ("--publish", shell.sandbox.files_url, *LISTENING, "--speed", "600")
            process = await shell.start("sync", path, *options)
            await asyncio.sleep(0.8 + 0.15 * number)
            if process.returncode is None:
                process.kill()
            await process.communicate()
        results = [await synced(shell, path, "--json") for _ in range(3)]
        assert results[-1].code == 0, results
        assert results[-1].document["audiences"][0]["status"] == "unchanged"
        await shell.sandbox.idle()
        assert members(shell, "vip") == wanted
        assert shell.sandbox.workspace.rejections == 0


BROKEN: dict[str, str] = {
    "no TOML": "[[audience",
    "and nothing else": "title = 'x'",
    "needs exactly one of 'file', 'query', 'command'": f'[[audience]]\nname = "a"\n{HEAD}',
    "has 'color'": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\ncolor = 1',
    "needs 'attribute_name'": '[[audience]]\nname = "a"\nattribute_type = "string"\nfile = "f"',
    "mode: must be": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\nmode = "x"',
    "must be a list of a program": f'[[audience]]\nname = "a"\n{HEAD}command = "ls"',
}


@pytest.mark.parametrize("said", BROKEN)
async def test_a_file_of_audiences_says_what_is_wrong_and_where(tmp_path: Path, said: str) -> None:
    path = tmp_path / "audiences.toml"
    path.write_text(BROKEN[said])
    with pytest.raises(InputError, match=said):
        read_audiences(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_audiences(tmp_path / "missing.toml")


async def test_a_file_of_audiences_is_read(tmp_path: Path) -> None:
    path = tmp_path / "audiences.toml"
    path.write_text(f'[[audience]]\nname = "a"\n{HEAD}file = "f.csv"\npriority = 2')
    fields: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30, "priority": 2}
    (read,) = read_audiences(str(path))
    expected = Audience("a", members=read.members, **fields)
    assert read == expected
    assert read.members == tmp_path / "f.csv"
