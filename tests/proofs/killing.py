"""Processes that are killed, and what has to hold afterwards: shared by the proofs with kill -9.

A nursery is a process that forks a worker for each line it reads, so that a new one starts at once. Everything that is
started belongs to one process group, which is killed at the end, by its number.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, Final

from moe_segments import FileFailed, JobState
from moe_segments.core.events import CallbackReceived, Reserved
from moe_segments.journal.replica import Replica
from moe_segments.journal.sqlite.engine import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from moe_segments import QuotaLimits
    from moe_segments.core.events import Batch
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.sandbox import RequestRecord, Sandbox
    from moe_segments.sandbox.model.records import Submission

__all__ = [
    "Nursery",
    "a_group",
    "a_nursery",
    "check_callbacks",
    "check_integrity",
    "file_calls",
    "is_alive",
    "jobs_by_token",
    "state_of",
    "token_of",
    "until",
    "worst_window",
]

FILE_CALLS: Final = frozenset({"create", "add", "remove", "replace"})

# Follows a program that defines the coroutine `work`. A line of JSON on the standard input starts a worker, which is a
# fork and does that work; the end of the input is the end of all of them.
_FORKS: Final = """
import asyncio, gc, json, os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(work(json.loads(line)))
        os._exit(0)
    print(child, flush=True)
os.killpg(os.getpgid(0), signal.SIGKILL)
"""


class Nursery:
    """A process that starts workers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._tasks, self._numbers = process.stdin, process.stdout

    async def born(self, task: Mapping[str, Any]) -> int:
        """Start a worker. Returns its process' number."""
        self._tasks.write(f"{json.dumps(task)}\n".encode())
        await self._tasks.drain()
        return int(await self._numbers.readline())


@asynccontextmanager
async def a_nursery(program: str, directory: Path) -> AsyncIterator[Nursery]:
    """A nursery whose workers do the `work` of *program*. All are killed at the end; none may have told an error."""
    errors = directory / "stderr"
    with errors.open("wb") as stderr:
        async with a_group(
            *(sys.executable, "-c", program + _FORKS),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        ) as process:
            yield Nursery(process)
    assert errors.read_text() == ""


@asynccontextmanager
async def a_group(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that leads a group of its own; the group is killed at the end."""
    process = await asyncio.create_subprocess_exec(*arguments, start_new_session=True, **options)
    try:
        yield process
    finally:
        # It was not waited for yet, so its number, which is the group's, is still its own.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def is_alive(process: int) -> bool:
    """Return whether there is such a process; a nursery leaves none that has ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def until(holds: Callable[[], bool], patience_s: float = 60.0) -> None:
    """Wait for what *holds* tells; fail where it takes longer than one is patient."""
    async with asyncio.timeout(patience_s):
        while not holds():
            await asyncio.sleep(0.02)


# What is left


async def state_of(path: Path, scope: str, limits: QuotaLimits) -> tuple[Sequence[Batch], Mapping[str, JobRecord]]:
    """The whole log, where it was not compacted, and every job."""
    journal = SqliteJournal(path, scope)
    replica = Replica(journal, limits)
    await replica.open()
    try:
        return await journal.read(0), replica.state.jobs.records
    finally:
        await replica.close()


def file_calls(sandbox: Sandbox) -> list[RequestRecord]:
    """Return what was sent to it, reads left out."""
    return [request for request in sandbox.workspace.requests if request.op in FILE_CALLS]


def worst_window(moments_s: Sequence[float], window_s: float) -> int:
    """The most moments that any window holds."""
    worst = start = 0
    for end, moment_s in enumerate(moments_s):
        while moments_s[start] + window_s <= moment_s:
            start += 1
        worst = max(worst, end - start + 1)
    return worst


def jobs_by_token(batches: Sequence[Batch]) -> dict[str | None, str]:
    """By the digest of the token that its callback comes on, the job."""
    return {event.token_sha256: event.job for batch in batches for event in batch.events if isinstance(event, Reserved)}


def token_of(submission: Submission) -> str:
    """The digest of the token in the address that the service was given for its callback."""
    return hashlib.sha256((submission.ask.callback_url or "").rpartition("/")[2].encode()).hexdigest()


def check_integrity(path: Path) -> None:
    """See that SQLite finds nothing wrong with the file."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def check_callbacks(
    sandbox: Sandbox, batches: Sequence[Batch], records: Mapping[str, JobRecord], acknowledged: set[str]
) -> None:
    """See that each callback that was answered with 200 is in the journal, under the job whose token it came on."""
    jobs = jobs_by_token(batches)
    stored = {
        (event.job, event.body.get("request_id"))
        for batch in batches
        for event in batch.events
        if isinstance(event, CallbackReceived)
    }
    for submission in sandbox.workspace.submissions:
        if submission.request_id in acknowledged:
            job = jobs[token_of(submission)]
            assert (job, submission.request_id) in stored, f"{submission.segment.name}: acknowledged and not stored"
            expected = JobState.FAILED if isinstance(submission.result, FileFailed) else JobState.PROCESSED
            assert records[job].state == expected
