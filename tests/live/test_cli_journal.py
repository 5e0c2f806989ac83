"""The commands that move, check and read a journal."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.fleet.moves import EVERYTHING, filled, opened, reserved
from tests.fleet.servers import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments.core.events import Event

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

SCOPE = "W1@01"


@asynccontextmanager
async def running(*arguments: str, home: Path, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MOE_")}
    variables |= {"MOE_WORKSPACE_ID": "W1", "MOE_DATA_CENTER": "01", "XDG_STATE_HOME": str(home)} | environ
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moe_segments", "journal", *arguments),
        cwd=home,
        env={**variables, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str, home: Path, **environ: str) -> tuple[int, str, str]:
    async with running(*arguments, home=home, **environ) as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def test_a_journal_moves_and_everything_is_told(tmp_path: Path) -> None:
    """To a server whose URL holds a password, which nobody sees."""
    old = f"sqlite:///{tmp_path}/old.db"
    await filled(old, SCOPE)
    with redis_server({"requirepass": "canary-password"}) as server:
        new = server.url.replace("redis://", "redis://:canary-password@")

        first = await run("copy", old, "env:NEW", "--json", home=tmp_path, NEW=new)
        again = await run("copy", old, "env:NEW", home=tmp_path, NEW=new)
        sound = await run("check", "env:NEW", "--json", home=tmp_path, NEW=new)
        moved = await run("check", home=tmp_path, MOE_JOURNAL=old)
        late = await run("copy", old, f"sqlite:///{tmp_path}/other.db", home=tmp_path)

    assert (first[0], again[0], sound[0], moved[0], late[0]) == (0, 0, 0, 0, 2)
    assert json.loads(first[1])["jobs"] == 4
    assert "already" in again[1]
    assert json.loads(sound[1])["sound"] is True
    assert f"it has moved to {server.url}" in moved[1]
    assert server.url in late[2]
    assert "canary" not in repr([first, again, sound, moved, late])


async def test_what_is_wrong_is_told_with_exit_code_1(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    await filled(url, SCOPE)
    with closing(sqlite3.connect(tmp_path / "quota.db")) as file, file:
        file.execute("DELETE FROM batches WHERE version = 3")

    code, out, _ = await run("check", url, home=tmp_path)

    assert code == 1
    assert "between version 2 and version 4 something is missing" in out


async def test_the_log_has_a_line_for_every_event(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    await filled(url, SCOPE, checkpoint_at=7, keep_from=4)
    events: list[Event] = [event for batch in EVERYTHING[3:] for event in batch]

    code, out, _ = await run("log", url, home=tmp_path)
    data = [json.loads(line) for line in (await run("log", url, "--json", home=tmp_path))[1].splitlines()]
    none = await run("log", url, "--since", "2100-01-01", home=tmp_path)
    some = await run("log", url, "--since", "1h", home=tmp_path)

    assert code == 0
    assert len(out.splitlines()) == len(events) + 1
    assert sorted(line["event"] for line in data) == sorted(["checkpoint", *(event.name for event in events)])
    assert (none[0], none[1], some[1]) == (0, "", out)
    assert "a: processed, 12 values found" in out


@pytest.mark.parametrize("since", ["yesterday", "5", "2026-99-01"])
async def test_a_span_that_is_none_is_bad_input(since: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    await filled(url, SCOPE)
    code, _, err = await run("log", url, "--since", since, home=tmp_path)
    assert (code, "--since" in err) == (2, True)


async def test_the_log_is_followed_until_ctrl_c(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    await filled(url, SCOPE)
    async with running("log", url, "--follow", "--json", home=tmp_path) as process:
        assert process.stdout is not None
        for _ in [event for batch in EVERYTHING for event in batch]:
            await asyncio.wait_for(process.stdout.readline(), 20)
        async with opened(url, SCOPE) as journal:
            await journal.append(EVERYTHING[9], batch_id="new")
        line: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 130
    assert (line["event"], line["batch"]) == ("external", "new")


@pytest.mark.parametrize("command", ["check", "log"])
async def test_a_journal_that_is_not_there_is_bad_input_and_is_not_made(command: str, tmp_path: Path) -> None:
    code, _, err = await run(command, f"sqlite:///{tmp_path}/typo.db", home=tmp_path)
    assert (code, "there is no journal of W1@01" in err) == (2, True)
    assert not (tmp_path / "typo.db").exists()


async def test_what_cannot_be_called_off_is_bad_input(tmp_path: Path) -> None:
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    await filled(old, SCOPE)
    nothing = await run("copy", old, new, "--cancel", home=tmp_path)
    await run("copy", old, new, home=tmp_path)
    complete = await run("copy", old, new, "--cancel", home=tmp_path)
    assert (nothing[0], complete[0]) == (2, 2)
    assert "nothing to cancel" in nothing[2]
    assert "complete" in complete[2]


async def test_a_copy_that_was_stopped_is_called_off_and_the_journal_goes_on(tmp_path: Path) -> None:
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    await filled(old, SCOPE)
    async with opened(old, SCOPE) as journal:
        await journal.append([reserved("sending", attempt_us=90_000_000)], batch_id="sending")
    async with running("copy", old, new, home=tmp_path) as process:
        assert process.stderr is not None
        assert b"being sent" in await asyncio.wait_for(process.stderr.readline(), 20)
        process.kill()
    barred = await run("check", old, home=tmp_path)

    code, out, _ = await run("copy", old, new, "--cancel", home=tmp_path)

    assert (code, "cancelled" in out) == (0, True)
    assert "it has moved to" in barred[1]
    assert "it has moved to" not in (await run("check", old, home=tmp_path))[1]
