"""A journal is backed up while others use it, and a copy that is put back is known to be older than what was seen."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments import Credentials, InputError, JournalError, QuotaExceeded, SegmentsClient
from moe_segments.journal.local.witness_file import beside
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.journal.tools import backup_journal, check, copy_journal
from moe_segments.journal.tools.replay import folded
from tests.fleet.moves import EVERYTHING, empty_place, facts, filled, log_of
from tests.places import full_disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(90)]

ENGINES: Final = ("sqlite", "redis", "postgres")
WRITER: Final = """
import asyncio, sys
from moe_segments.core.events import ExternalUsage
from moe_segments.journal.sqlite.engine import SqliteJournal

async def main(path, scope, name):
    journal = SqliteJournal(path, scope)
    await journal.open()
    number = 0
    while True:
        number += 1
        batch = await journal.append([ExternalUsage(operations=1)], batch_id=f"{name}-{number}")
        print(batch.version, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def scope() -> str:
    return f"W{secrets.token_hex(6)}@01"


def somebody() -> Credentials:
    return Credentials(workspace_id=f"W{secrets.token_hex(6)}", api_key="key", data_center="01")


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


class Writers:
    """Four processes that append to one journal as fast as they can.

    Attributes:
        acknowledged: The last version that any of them was told of.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self._moved = asyncio.Event()

    async def listen(self, stream: asyncio.StreamReader) -> None:
        """Hear what one of them was told."""
        while line := await stream.readline():
            self.acknowledged = max(self.acknowledged, int(line))
            self._moved.set()

    async def reach(self, version: int) -> None:
        """Wait until they are as far as that."""
        while self.acknowledged < version:
            self._moved.clear()
            await self._moved.wait()


@asynccontextmanager
async def writing(path: Path, scope: str) -> AsyncIterator[Writers]:
    writers = Writers()
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, str(path), scope, f"p{number}"), stdout=asyncio.subprocess.PIPE
        )
        for number in range(4)
    ]
    listening = [asyncio.ensure_future(writers.listen(each.stdout)) for each in processes if each.stdout is not None]
    try:
        await writers.reach(1)
        yield writers
    finally:
        for process in processes:
            process.kill()
        await asyncio.gather(*listening, *(process.wait() for process in processes))


@pytest.mark.processes
async def test_a_copy_taken_while_four_processes_write_is_a_beginning_of_the_log(scope: str, tmp_path: Path) -> None:
    """It holds everything that was acknowledged before it was begun, has no gap, and is sound."""
    path = tmp_path / "quota.db"
    url, reports = f"sqlite:///{path}", []
    async with writing(path, scope) as writers:
        for number in range(5):
            before = writers.acknowledged
            reports.append(await backup_journal(url, tmp_path / f"copy-{number}.db", scope))
            assert reports[-1].version >= before
            await writers.reach(reports[-1].version + 4)  # and they go on

    whole = await log_of(url, scope)
    assert [report.version for report in reports] == sorted({report.version for report in reports})
    for report in reports:
        kept = await log_of(f"sqlite:///{report.to}", scope)
        assert kept == whole[: report.version]
        assert (await check(f"sqlite:///{report.to}", scope)).problems == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_copy_holds_all_usage_and_every_job(engine: str, scope: str, tmp_path: Path) -> None:
    """Whatever the journal is kept in, the copy is one private file, and the journal stays in use."""
    url, to = empty_place(engine, tmp_path), tmp_path / "backups" / "copy.db"
    to.parent.mkdir()
    await filled(url, scope, checkpoint_at=7)
    before = await log_of(url, scope)

    report = await backup_journal(url, to, scope)

    assert names_in(to.parent) == {"copy.db"}
    assert to.stat().st_mode & 0o777 == 0o600
    assert (report.version, report.file_bytes) == (before[-1].version, to.stat().st_size)
    assert "password" not in report.of
    after = await log_of(f"sqlite:///{to}", scope)
    if engine == "sqlite":
        assert after == before
    else:  # a server's clock may be behind this host's, then all is later by that
        later_us = folded(after).ledger.operations.us[0] - folded(before).ledger.operations.us[0]
        assert facts(after, later_us) == facts(before)
    assert await log_of(url, scope) == before
    await filled_once_more(url, scope)


async def filled_once_more(url: str, scope: str) -> None:
    """The journal takes what comes, as before."""
    from moe_segments.journal import open_journal

    journal = open_journal(url, scope)
    await journal.open()
    await journal.append(EVERYTHING[9], batch_id="after")
    await journal.close()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_copy_that_is_put_back_is_known_to_be_older(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's witness has seen more: every window is taken for full until somebody says what was spent."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    url, credentials, to = empty_place(engine, tmp_path), somebody(), tmp_path / "copy.db"
    async with SegmentsClient(credentials, journal=url) as client:
        await client.governor.record_external(operations=1)
    await backup_journal(url, to, credentials.scope)
    async with SegmentsClient(credentials, journal=url) as client:
        await client.governor.record_external(operations=9)

    restored = f"sqlite:///{to}"
    if engine == "sqlite":
        shutil.copy(to, Path(url.removeprefix("sqlite:///")))
        restored = url
    async with SegmentsClient(credentials, journal=restored) as client:
        with pytest.raises(QuotaExceeded):
            await client.create_file_segment(
                name="s",
                attribute_name="ID",
                attribute_type="string",
                file_url="https://files.example.com/f.csv",
                expiry_time=1,
                rows=1,
                preflight="off",
            )
        usage = await client.governor.usage()
        assert usage["operations_per_hour"].closed_until is not None

        await client.governor.lift_quarantine(operations=9)
        usage = await client.governor.usage()
        assert (usage["operations_per_hour"].used, usage["operations_per_hour"].closed_until) == (10, None)


@pytest.mark.parametrize("engine", ["redis", "postgres"])
async def test_a_copy_of_a_server_that_lost_nothing_since_is_taken_over(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was written since, so nothing is missing; from there it moves to a new server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    url, credentials, to = empty_place(engine, tmp_path), somebody(), tmp_path / "copy.db"
    async with SegmentsClient(credentials, journal=url) as client:
        await client.governor.record_external(operations=3)
    await backup_journal(url, to, credentials.scope)

    new = empty_place(engine, tmp_path)
    await copy_journal(f"sqlite:///{to}", new, credentials.scope)
    async with SegmentsClient(credentials, journal=new) as client:
        usage = (await client.governor.usage())["operations_per_hour"]
        assert (usage.used, usage.closed_until) == (3, None)


async def test_a_journal_of_an_earlier_version_is_copied_as_it_is(scope: str, tmp_path: Path) -> None:
    """What is backed up before an upgrade is readable by what wrote it, and the backup upgrades nothing."""
    path, to = tmp_path / "quota.db", tmp_path / "copy.db"
    old = SqliteJournal(path, scope, migrations=MIGRATIONS[:1])
    with pytest.raises(JournalError):
        await old.open()  # this code cannot go on with it, but it has made its tables
    with closing(sqlite3.connect(path)) as file:
        if not file.execute("PRAGMA user_version").fetchone()[0]:
            for statement in MIGRATIONS[0]:
                file.execute(statement)
            file.execute("PRAGMA user_version = 1")
        file.execute("INSERT INTO scopes VALUES (?, 'id', 'boot', 0, 0)", (scope,))
        file.execute("INSERT INTO batches VALUES (?, 1, 'b', 1, '[]')", (scope,))
        file.commit()

    await backup_journal(f"sqlite:///{path}", to, scope)

    for each in (path, to):
        with closing(sqlite3.connect(each)) as file:
            assert file.execute("PRAGMA user_version").fetchone() == (1,)


async def test_a_place_that_is_no_place_for_a_copy_is_refused(scope: str, tmp_path: Path) -> None:
    """Before anything is read; and nothing is overwritten unless that is said."""
    url = empty_place("sqlite", tmp_path)
    await filled(url, scope)
    there = tmp_path / "there.db"
    there.write_text("precious")
    here = set(names_in(tmp_path))

    for to, told in (
        (there, "is there"),
        (tmp_path, "is there"),
        (tmp_path / "none" / "copy.db", "there is no directory"),
        ("redis://127.0.0.1:1/0", "a backup is a file"),
        ("postgresql://h/d", "a backup is a file"),
    ):
        with pytest.raises(InputError, match=told):
            await backup_journal(url, to, scope)
    for wrong in ("memory:", f"sqlite:///{tmp_path / 'nothing.db'}"):
        with pytest.raises(InputError):
            await backup_journal(wrong, tmp_path / "copy.db", scope)
    with pytest.raises(InputError, match="there is no journal of W-other@01"):
        await backup_journal(url, tmp_path / "copy.db", "W-other@01")
    with pytest.raises(JournalError, match="is no journal"):
        await backup_journal(f"sqlite:///{there}", tmp_path / "copy.db", scope)
    assert (names_in(tmp_path), there.read_text()) == (here, "precious")

    assert (await backup_journal(url, f"sqlite:///{there}", scope, replace=True)).version == len(EVERYTHING)
    assert names_in(tmp_path) == here


def inode(path: Path) -> int:
    """Which file has this name."""
    return path.stat().st_ino


@pytest.mark.parametrize("other", ["the same path", "symlink", "hard link"])
async def test_a_copy_never_takes_the_journals_own_place(other: str, scope: str, tmp_path: Path) -> None:
    """Whoever has the journal open would go on with the file that was there: two journals count one quota twice."""
    url = empty_place("sqlite", tmp_path)
    await filled(url, scope)
    path = Path(url.removeprefix("sqlite:///"))
    to = path if other == "the same path" else tmp_path / "other.db"
    if other != "the same path":
        (os.symlink if other == "symlink" else os.link)(path, to)
    before = inode(path)

    with pytest.raises(InputError, match="is the journal itself"):
        await backup_journal(url, to, scope, replace=True)

    assert (inode(path), inode(to)) == (before, before)


@pytest.mark.parametrize("free_bytes", [0, 20_480])
async def test_a_full_disk_is_blamed_for_the_copy(free_bytes: int, scope: str, tmp_path: Path) -> None:
    """The journal is well; nothing is left on the disk that is full."""
    url, volume = empty_place("sqlite", tmp_path), tmp_path / "volume"
    await filled(url, scope)
    with full_disk(volume, free_bytes):
        with pytest.raises(JournalError) as caught:
            await backup_journal(url, volume / "copy.db", scope)
        assert names_in(volume) == {"filling"}

    assert f"the copy {volume / 'copy.db'} cannot be written" in str(caught.value)
    assert url.removeprefix("sqlite:///") not in str(caught.value)


@pytest.mark.processes
async def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    """From the journal that the other commands use."""
    url, scope = empty_place("sqlite", tmp_path), "W@01"
    await filled(url, scope)
    command = [sys.executable, "-m", "moe_segments", "journal", "backup", str(tmp_path / "copy.db")]
    environ = {"MOE_WORKSPACE_ID": "W", "MOE_DATA_CENTER": "01", "MOE_JOURNAL": url, "HOME": str(tmp_path)}

    ended = await _ended([*command, "--json"], environ)
    assert ended[0] == 0
    told = json.loads(ended[1])
    assert (told["of"], told["to"], told["version"]) == (url, str(tmp_path / "copy.db"), len(EVERYTHING))
    refused = await _ended(command, environ)
    assert (refused[0], "is there: choose another name" in refused[2]) == (2, True)
    replaced = await _ended([*command, "--force"], environ)
    assert (replaced[0], f"as of version {len(EVERYTHING)}" in replaced[1]) == (0, True)
    assert not beside(tmp_path / "copy.db", scope).exists()


async def _ended(command: Sequence[str], environ: dict[str, str]) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
