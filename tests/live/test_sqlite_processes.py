"""What the SQLite engine promises to several processes, and to tasks that stop waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments.core.events import ExternalUsage
from moe_segments.errors import JournalError
from moe_segments.journal.sqlite.engine import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event

FACT = ExternalUsage(operations=1)
PRELUDE = """
import asyncio, os, sys
from moe_segments.core.events import ExternalUsage
from moe_segments.journal.sqlite.engine import SqliteJournal
path, argument = sys.argv[1:]
FACT = ExternalUsage(operations=1)
"""
# Append until killed, and say so after each batch that was acknowledged.
APPEND_FOREVER = """
async def main():
    journal = SqliteJournal(path, "W1")
    await journal.open()
    for number in range(10**9):
        batch = await journal.append([FACT], batch_id=f"{argument}-{number}")
        os.write(1, f"{batch.version} {batch.id}\\n".encode())
asyncio.run(main())
"""
# Ask for one hundred of one hundred places.
RESERVE = """
async def main():
    journal = SqliteJournal(path, "W1")
    await journal.open()
    granted = 0
    for number in range(60):
        batch = await journal.transact(
            0, lambda missed, now_us: [FACT] if len(missed) < 100 else [], batch_id=f"{argument}-{number}")
        granted += batch is not None
    await journal.close()
    print(granted)
asyncio.run(main())
"""
HOLD = """
import fcntl, time
fd = os.open(path + ".lock", os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
os.write(1, b"held\\n")
time.sleep(60)
"""
# Leave while opening waits for the lock.
STUCK = """
async def main():
    opening = asyncio.ensure_future(SqliteJournal(path, "W1").open())
    await asyncio.wait([opening], timeout=0.2)
    assert not opening.done()
asyncio.new_event_loop().run_until_complete(main())
sys.exit(3)
"""


def script(body: str, path: Path, argument: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + body, str(path), argument],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Another process holds the queue of the journal *path*."""
    with script(HOLD, path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process.pid
        finally:
            process.kill()


@asynccontextmanager
async def opened(path: Path, scope: str = "W1", **options: Any) -> AsyncIterator[SqliteJournal]:  # its own parameters
    journal = SqliteJournal(path, scope, **options)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def grant(missed: Sequence[Batch], now_us: int) -> Sequence[Event]:
    return [FACT]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quota.db"


@pytest.mark.processes
def test_four_processes_share_one_hundred_places(path: Path) -> None:
    processes = [script(RESERVE, path, str(number)) for number in range(4)]
    granted = [int(process.communicate(timeout=60)[0]) for process in processes]

    async def count() -> int:
        async with opened(path) as journal:
            return len(await journal.read(0))

    assert sum(granted) == 100
    assert asyncio.run(count()) == 100


@pytest.mark.processes
def test_killed_processes_leave_every_batch_they_acknowledged(path: Path) -> None:
    """Killed with signal 9 at whatever point, twice over; the log is whole and nobody's lock stays behind."""
    said: set[str] = set()
    for turn in range(2):
        processes = [script(APPEND_FOREVER, path, f"{turn}-{number}") for number in range(2)]
        for process in processes:
            assert process.stdout is not None
            said.add(process.stdout.readline().strip())
        time.sleep(0.05)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            said.update(line for line in process.communicate(timeout=30)[0].splitlines())

    async def read() -> Sequence[Batch]:
        async with opened(path, lock_timeout_s=5) as journal:
            assert journal.doubt is None
            return await journal.read(0)

    batches = asyncio.run(read())
    assert [batch.version for batch in batches] == list(range(1, len(batches) + 1))
    assert said <= {f"{batch.version} {batch.id}" for batch in batches}
    assert len(said) >= 4


@pytest.mark.asyncio
@pytest.mark.processes
async def test_a_held_lock_is_given_up_in_time_and_nothing_is_recorded_later(path: Path) -> None:
    """Appends, decisions and reads behind it alike; who holds it is named."""
    async with opened(path, lock_timeout_s=0.15) as journal:
        with held(path) as pid:
            asked = [
                journal.append([FACT], batch_id="late"),
                journal.transact(0, grant, batch_id="later"),
                journal.read(0),
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [JournalError] * 3
        assert f"process {pid} has held the journal" in str(answers[0])

        batch = await journal.append([FACT], batch_id="next")
        assert list(await journal.read(0)) == [batch]


@pytest.mark.asyncio
async def test_another_program_s_transaction_is_waited_for_and_given_up_in_time(path: Path) -> None:
    async with opened(path, lock_timeout_s=0.15) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN EXCLUSIVE")
            with pytest.raises(JournalError, match=r"held the journal|locked"):
                await journal.append([FACT], batch_id="late")
            shell.execute("ROLLBACK")
        batch = await journal.append([FACT], batch_id="next")
        assert list(await journal.read(0)) == [batch]


@pytest.mark.asyncio
@pytest.mark.processes
async def test_opening_behind_a_held_lock_is_given_up_in_time(path: Path) -> None:
    async with opened(path):
        pass
    with held(path):
        before_s = time.monotonic()
        with pytest.raises(JournalError, match="has held the journal"):
            await SqliteJournal(path, "W2", lock_timeout_s=0.7).open()
        assert 0.7 <= time.monotonic() - before_s < 15, "it waited as long as it would by itself"


@pytest.mark.asyncio
async def test_without_a_queue_sqlite_s_own_lock_keeps_decisions_serial(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no `flock`. The first decision gives another one all the time to come in beside it."""
    inside, most, together = 0, 0, threading.Event()

    def decide(missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside > 1:
            together.set()
        elif not missed:
            together.wait(1)
        inside -= 1
        return [FACT] if len(missed) < 5 else []

    monkeypatch.setattr("moe_segments.journal.local.files.FileQueue.turn", lambda _queue: nullcontext())
    async with opened(path) as one, opened(path) as two:
        asked = (
            journal.transact(0, decide, batch_id=f"{name}-{number}")
            for number in range(8)
            for name, journal in (("one", one), ("two", two))
        )
        granted = [batch for batch in await asyncio.gather(*asked) if batch is not None]
    assert [batch.version for batch in sorted(granted, key=lambda batch: batch.version)] == [1, 2, 3, 4, 5]
    assert most == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("pragmas", [(), ("busy_timeout = 0",)], ids=["waiting", "refused at once"])
async def test_a_commit_waits_for_a_reader_and_has_not_failed(path: Path, pragmas: Sequence[str]) -> None:
    """Whether SQLite waits by itself or answers busy at once."""
    async with opened(path, lock_timeout_s=10, pragmas=pragmas) as journal:
        await journal.append([FACT], batch_id="a")
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN")
            shell.execute("SELECT * FROM batches").fetchall()
            appending = asyncio.ensure_future(journal.append([FACT], batch_id="b"))
            while not path.with_name("quota.db-journal").exists():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            assert not appending.done()
            assert mode(path.with_name("quota.db-journal")) == 0o600
            shell.execute("ROLLBACK")
            assert (await appending).version == 2


@pytest.mark.asyncio
async def test_a_commit_that_never_gets_through_is_taken_back(path: Path) -> None:
    async with opened(path, lock_timeout_s=0.1) as journal:
        await journal.append([FACT], batch_id="a")
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN")
            shell.execute("SELECT * FROM batches").fetchall()
            with pytest.raises(JournalError, match="nothing was recorded"):
                await journal.append([FACT], batch_id="b")
        assert (await journal.append([FACT], batch_id="c")).version == 2


# Cancellation


@pytest.mark.asyncio
async def test_waiting_for_changes_writes_nothing(path: Path) -> None:
    async with opened(path, poll_s=0.01) as journal:
        await journal.append([FACT], batch_id="a")
        before = {place: place.stat() for place in path.parent.iterdir()}
        assert not await journal.changed(1, timeout_s=0.05)
        after = {place: place.stat() for place in path.parent.iterdir()}
    assert [place.st_mtime_ns for place in before.values()] == [place.st_mtime_ns for place in after.values()]
    assert before.keys() == after.keys()


@pytest.mark.asyncio
@pytest.mark.parametrize("lock_timeout_s", [30, 0.02])
async def test_a_decision_that_began_is_finished_whoever_stops_waiting(path: Path, lock_timeout_s: float) -> None:
    """The transaction ends, the batch is found under its id, and whoever waits for changes is woken.

    Also when it takes longer than the lock time-out, which is about the lock alone.
    """
    begun, go_on = threading.Event(), threading.Event()

    def decide(_missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        begun.set()
        assert go_on.wait(10)
        return [FACT]

    async with opened(path, poll_s=30, lock_timeout_s=lock_timeout_s) as journal, opened(path) as other:
        waiting = asyncio.ensure_future(journal.changed(0, timeout_s=30))
        await asyncio.sleep(0.01)
        deciding = asyncio.ensure_future(journal.transact(0, decide, batch_id="cut"))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, 10)
        await asyncio.sleep(0.04)
        deciding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deciding
        go_on.set()

        assert await asyncio.wait_for(waiting, 20)
        assert (await other.append([FACT], batch_id="next")).version == 2
        assert (await journal.append([FACT], batch_id="cut")).version == 1


@pytest.mark.processes
def test_the_interpreter_ends_although_a_call_is_stuck(path: Path) -> None:
    """A daemon thread waits for the lock; nobody waits for the thread."""
    path.with_name("quota.db.lock").touch()
    with held(path), script(STUCK, path) as process:
        assert process.wait(timeout=20) == 3
