"""A journal in one SQLite file on a local disk: the default, for one host and any number of processes.

`synchronous=EXTRA` with `journal_mode=DELETE`: a batch that was acknowledged survives the loss of power. One
thread per open journal owns the connection; one call is one transaction there, and runs to its end whatever
becomes of the task that awaits it. So a cancelled call may have been recorded: ask again with the same batch
id.

Several scopes may share a file, and several handles in any number of processes may share a scope. Every
handle takes its turn in one fair queue, the lock of `<file>.lock`. Beside the file lie the queue's file and
one witness a scope; removing them while nobody uses the journal does no harm but to the memory of the
witness.

A handle belongs to the process that opened it: after a fork open another in the child.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from moe_segments.errors import InputError, JournalError
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.local.files import holder
from moe_segments.journal.notifier import Notifier
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.journal.sqlite.store import Options, SqliteStore, lock_path
from moe_segments.journal.sqlite.worker import Turn, WorkerThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_segments.core.events import Batch, Event
    from moe_segments.journal.protocol import Clock, Decide
    from moe_segments.journal.sqlite.schema import Migration

__all__ = ["SqliteJournal"]

T = TypeVar("T")


class SqliteJournal:
    """The `Journal` promise on one file. Every method raises `JournalError` when the file cannot keep it.

    Args:
        path: The file; made when missing, for this user alone.
        scope: Which of the file's logs: what shares one quota.
        clock: Microseconds since the epoch, for tests; None for the host's, anchored in the file once per boot.
        state_dir: Where a second witness is kept, away from the file; None keeps only the one beside it.
        journal_mode: "DELETE", or "WAL" with SQLite 3.51.3 or later.
        lock_timeout_s: How long a call waits until it is its turn, seconds; then it is given up for good.
        poll_s: How often `changed` looks for what other handles appended, seconds, give or take a quarter.
        host: The sources of the host's time, for tests.
        pragmas: Further PRAGMA statements for the connection, without the word.
        migrations: How older files become current, for tests.
        makes_directories: Whether missing directories are made; else a path with one is refused as mistyped.

    Attributes:
        journal_id: The log's identity; empty before `open`. doubt: Why the log may have lost history, as its
        witnesses saw it when it was opened; None without a doubt. is_new: This `open` made the log.
        spans_hosts: Always False.

    Raises:
        InputError: *path* is `:memory:`.
    """

    journal_id: str
    is_new: bool

    spans_hosts = False

    def __init__(
        self,
        path: str | Path,
        scope: str,
        *,
        clock: Clock | None = None,
        state_dir: Path | None = None,
        journal_mode: Literal["DELETE", "WAL"] = "DELETE",
        lock_timeout_s: float = 30.0,
        poll_s: float = 0.25,
        host: BootClock | None = None,
        pragmas: Sequence[str] = (),
        migrations: Sequence[Migration] = MIGRATIONS,
        makes_directories: bool = False,
    ) -> None:
        self.journal_id = ""
        self.doubt: str | None = None
        self.is_new = False
        self._path = Path(path).absolute()
        if self._path.name.lower() == ":memory:":  # a file of that name would be made
            raise InputError("names no file; a journal in memory is a MemoryJournal, or memory: as a URL", "path")
        self._options = Options(
            scope=scope,
            clock=clock,
            host=host or BootClock(),
            state_dir=state_dir,
            journal_mode=journal_mode,
            lock_timeout_s=lock_timeout_s,
            pragmas=pragmas,
            migrations=migrations,
            makes_directories=makes_directories,
        )
        self._poll_s = poll_s
        self._notifier = Notifier()
        self._pid = 0
        self._worker: WorkerThread | None = None
        self._store = SqliteStore(self._path, self._options)

    async def open(self) -> None:
        """Make or open the log. Does nothing when it is open.

        Raises:
            JournalError: It cannot be used, with what to do.
        """
        if self._worker is not None:
            return
        self._pid = os.getpid()
        self._worker = worker = WorkerThread("moe-segments-journal")
        self._store = store = SqliteStore(self._path, self._options)
        try:
            found = await self._run(store.open)
        except BaseException:
            # Not waited for: an opening that was given up or cancelled may be stuck behind another's lock.
            self._worker = None
            worker.submit(store.close)
            worker.shutdown()
            raise
        self.journal_id, self.is_new, self.doubt = found.journal_id, found.is_new, found.doubt

    async def close(self) -> None:
        """Let go of the file after what was asked before. Idempotent.

        Waits at most the lock time-out: a call that is stuck behind another process' lock is left to the
        thread, which lets go when it can.
        """
        worker, self._worker = self._worker, None
        if worker is None or self._pid != os.getpid():  # after a fork the connection is the parent's
            return
        closing = asyncio.get_running_loop().run_in_executor(worker, self._store.close)
        worker.shutdown()
        await asyncio.wait((closing,), timeout=self._options.lock_timeout_s)

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        """Decide and append in one transaction; *decide* runs in its thread. See `Journal.transact`.

        Raises:
            JournalError: Nothing was recorded, or the answer was lost: ask again with the same *batch_id*.
        """
        store = self._store
        return await self._run(lambda turn: store.transact(turn, after, decide, batch_id))

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened. See `Journal.append`.

        Raises:
            JournalError: Nothing was recorded, or the answer was lost: ask again with the same *batch_id*.
        """
        store = self._store
        return await self._run(lambda turn: store.append(turn, events, batch_id))

    async def read(self, after: int) -> Sequence[Batch]:
        """Return the batches after version *after*. See `Journal.read`.

        Raises:
            JournalError: The file cannot be read, or does not reach *after*.
        """
        store = self._store
        return await self._run(lambda turn: store.read(turn, after))

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*. See `Journal.checkpoint`.

        Raises:
            JournalError: Nothing was changed; or the log does not reach *version*.
        """
        store = self._store
        await self._run(lambda turn: store.checkpoint(turn, version, state, keep_since_us))

    async def changed(self, after: int, timeout_s: float) -> bool:
        """Wait until a version above *after* may exist, at most *timeout_s* seconds.

        This handle's own appends wake it at once; others' are found by a look at the file, which writes
        nothing.

        Raises:
            JournalError: The file cannot be read.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while self._store.known_version <= after and await self._run(self._store.last_version) <= after:
            rest_s = until_s - loop.time()
            if rest_s <= 0:
                return False
            jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads the polls of many processes
            await self._notifier.wait(min(rest_s, self._poll_s * jitter))
        return True

    async def _run(self, work: Callable[[Turn], T]) -> T:
        """Let the thread do *work* to its end, unless its turn does not come in time."""
        worker, turn = self._usable(), Turn(self._options.lock_timeout_s)
        running = asyncio.get_running_loop().run_in_executor(worker, work, turn)
        running.add_done_callback(self._ended)
        done, _ = await asyncio.wait((running,), timeout=self._options.lock_timeout_s)
        if not done and turn.take():
            raise self._given_up()
        return await asyncio.shield(running)  # a cancelled task leaves the work alone

    def _ended(self, running: asyncio.Future[T]) -> None:
        """Wake whoever waits for a change, and retrieve the error, if any: whoever asked may be gone."""
        if not running.cancelled():
            running.exception()
        self._notifier.notify()

    def _usable(self) -> WorkerThread:
        if self._worker is None:
            raise JournalError(f"the journal {self._path} is not open; open it first")
        if self._pid != os.getpid():
            raise JournalError(
                f"the journal {self._path} was opened in process {self._pid} and this is process "
                f"{os.getpid()}, forked from it; open a journal (a client) of its own in each process"
            )
        return self._worker

    def _given_up(self) -> JournalError:
        path = self._store.path
        pid = holder(lock_path(path))
        who = "another process" if pid is None else "this process" if pid == os.getpid() else f"process {pid}"
        return JournalError(
            f"{who} has held the journal {path} for more than {self._options.lock_timeout_s:g} s; nothing "
            "was recorded, and nothing will be for this call: see whether it is stopped or its disk hangs, "
            "end it, and try again"
        )
