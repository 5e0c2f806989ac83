"""An outbox in one SQLite file, for one host and any number of processes; or in memory, for a journal in memory.

`synchronous=EXTRA` with `journal_mode=DELETE`, as the journal: what was acknowledged survives the loss of power. One
thread owns the connection; writers of all processes take turns in a fair queue. What is deleted is overwritten.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from moe_segments.core.audiences.backlog import Pace
from moe_segments.errors import JournalError, OutboxError
from moe_segments.journal.local.file_errors import DAMAGE, explain_outbox, is_busy
from moe_segments.journal.local.files import FileQueue, make_private_directories, make_private_file, refuse_network
from moe_segments.journal.sqlite.worker import WorkerThread
from moe_segments.memberships.outbox.protocol import backlog_of, check_declared, check_matched

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from moe_segments.core.audiences.backlog import Backlog, Batch
    from moe_segments.memberships.outbox.protocol import Change, Declared

__all__ = ["PRAGMAS", "SCHEMA", "SqliteOutbox"]

T = TypeVar("T")
_APPLICATION_ID: Final = 0x6D6F656F  # "moeo"
_VERSION: Final = 1
PRAGMAS: Final = ("synchronous = EXTRA", "trusted_schema = OFF", "secure_delete = ON")
SCHEMA: Final = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    """CREATE TABLE segments (
        number INTEGER PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL,
        attribute_name TEXT NOT NULL, attribute_type TEXT NOT NULL, expiry_time INTEGER, max_age_s REAL,
        priority INTEGER NOT NULL, tip INTEGER NOT NULL DEFAULT 0,
        adds INTEGER NOT NULL DEFAULT 0, removes INTEGER NOT NULL DEFAULT 0, oldest_us INTEGER,
        oldest INTEGER NOT NULL DEFAULT 0, job TEXT, job_adds INTEGER NOT NULL DEFAULT 0,
        job_up_to INTEGER NOT NULL DEFAULT 0, job_last TEXT, UNIQUE (scope, name)
    )""",
    """CREATE TABLE changes (
        segment INTEGER NOT NULL, value TEXT NOT NULL, adds INTEGER NOT NULL, number INTEGER NOT NULL,
        at_us INTEGER NOT NULL, PRIMARY KEY (segment, value)
    ) WITHOUT ROWID""",
    "CREATE TABLE paces (scope TEXT PRIMARY KEY, due_us INTEGER NOT NULL) WITHOUT ROWID",
)
_BACKLOGS: Final = """
    SELECT number, name, attribute_name, attribute_type, expiry_time, max_age_s, priority, adds, removes, oldest_us,
        oldest, tip, job, job_adds, job_up_to, job_last FROM segments WHERE scope = ? ORDER BY number"""
_DECLARE: Final = """
    INSERT INTO segments (scope, name, attribute_name, attribute_type, expiry_time, max_age_s, priority)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (scope, name) DO UPDATE SET
        attribute_name = excluded.attribute_name, attribute_type = excluded.attribute_type,
        expiry_time = excluded.expiry_time, max_age_s = excluded.max_age_s, priority = excluded.priority"""
_MATCHED: Final = "SELECT attribute_name, attribute_type, adds + removes FROM segments WHERE scope = ? AND name = ?"
_STATE: Final = """
    SELECT tip, job_up_to, adds, removes, oldest_us, oldest, attribute_name, attribute_type
    FROM segments WHERE number = ?"""
_PUT: Final = "INSERT OR REPLACE INTO changes (segment, value, adds, number, at_us) VALUES (?, ?, ?, ?, ?)"
_VALUES: Final = """
    SELECT value FROM changes WHERE segment = ? AND value > ? AND adds = ? AND number <= ? ORDER BY value LIMIT ?"""
_RECOUNT: Final = """
    UPDATE segments SET (adds, removes, oldest_us, oldest) = (
        SELECT coalesce(sum(adds), 0), count(*) - coalesce(sum(adds), 0), min(at_us), coalesce(min(number), 0)
        FROM changes WHERE segment = segments.number) WHERE number = ?"""
_NTH: Final = "SELECT value FROM changes WHERE segment = ? AND value > ? ORDER BY value LIMIT 1 OFFSET ?"
_JOB: Final = "SELECT job FROM segments WHERE number = ?"
_DELETE: Final = """
    DELETE FROM changes WHERE segment = ? AND value > ? AND value <= ? AND number <= ? AND adds IN (?, ?)"""
_DELETE_ONE: Final = "DELETE FROM changes WHERE segment = ? AND value = ? AND number <= ? AND adds IN (?, ?)"
_BEHIND_ALL: Final = b""  # to SQLite every text comes before every blob
_BUSY_PAUSE_S: Final = 0.001
_LOCK_TIMEOUT_S: Final = 30.0
_AT_ONCE: Final = 20_000  # changes deleted in one transaction, so that nobody waits long for it


class SqliteOutbox:
    """The `Outbox` promise on one file.

    Args:
        path: The file, made with its directory when missing, for this user alone; None: in memory, gone with it.
        scope: Workspace and data center.
    """

    def __init__(self, path: Path | None, scope: str) -> None:
        self._path, self._scope = path, scope
        self._worker: WorkerThread | None = None
        self._held = ExitStack()
        self._queue: FileQueue | None = None
        self._file: tuple[int, int] | None = None

    async def open(self) -> None:
        """Make or open the file.

        Raises:
            OutboxError: It cannot be used.
        """
        self._worker = WorkerThread("moe-segments-outbox")
        try:
            await self._run(self._open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of the file after what was asked before. Idempotent."""
        worker, self._worker = self._worker, None
        if worker is not None:
            closing = asyncio.get_running_loop().run_in_executor(worker, self._held.close)
            worker.shutdown()
            await asyncio.wait((closing,), timeout=_LOCK_TIMEOUT_S)

    async def is_there(self) -> bool:
        """See `Outbox.is_there`."""
        try:
            return self._path is not None and await asyncio.to_thread(self._path.exists)
        except OSError as error:
            raise explain_outbox(error, self._path) from None

    async def declare(self, segment: Declared) -> int:
        """See `Outbox.declare`."""

        def work() -> int:
            with self._writing() as connection:
                check_declared(segment, connection.execute(_MATCHED, (self._scope, segment.name)).fetchone())
                connection.execute(
                    _DECLARE,
                    (
                        *(self._scope, segment.name, segment.attribute_name, segment.attribute_type),
                        *(segment.expiry_time, segment.max_age_s, segment.priority),
                    ),
                )
                return self._number(segment.name)

        return await self._run(work)

    async def write(self, changes: Sequence[Change], now_us: int) -> Mapping[int, int]:
        """See `Outbox.write`."""

        def work() -> Mapping[int, int]:
            tips: dict[int, int] = {}
            with self._writing() as connection:
                for change in changes:
                    tips[change.segment] = _put(connection, change, now_us)
            return tips

        return await self._run(work)

    async def backlogs(self) -> Sequence[Backlog]:
        """See `Outbox.backlogs`."""
        rows = await self._run(lambda: self._connection.execute(_BACKLOGS, (self._scope,)).fetchall())
        return [backlog_of(row) for row in rows]

    async def values(self, segment: int, *, adds: bool, up_to: int, after: str, most: int) -> list[str]:
        """See `Outbox.values`."""
        asked = (segment, after, adds, up_to, most)
        return [value for (value,) in await self._run(lambda: self._connection.execute(_VALUES, asked).fetchall())]

    async def begin(self, segment: int, batch: Batch) -> None:
        """See `Outbox.begin`."""
        row = (batch.job, batch.adds, batch.up_to, batch.last_value, segment)
        await self._change("UPDATE segments SET job=?, job_adds=?, job_up_to=?, job_last=? WHERE number=?", row)

    async def end(self, segment: int, batch: Batch, *, is_applied: bool) -> None:
        """See `Outbox.end`."""
        if is_applied:
            await self._delete(segment, batch.up_to, adds=batch.adds, last=batch.last_value, job=batch.job)
        ended = "UPDATE segments SET job = NULL, job_up_to = 0, job_last = NULL WHERE number = ? AND job = ?"
        await self._change(ended, (segment, batch.job))

    async def discard(
        self, segment: int, up_to: int, *, adds: bool | None = None, values: Collection[str] | None = None
    ) -> None:
        """See `Outbox.discard`."""
        if values is None:
            await self._delete(segment, up_to, adds=adds)
            return
        kinds = _kinds(adds=adds)

        def work() -> None:
            with self._writing() as connection:
                connection.executemany(_DELETE_ONE, ((segment, value, up_to, *kinds) for value in values))
                connection.execute(_RECOUNT, (segment,))

        await self._run(work)

    async def forget(self, name: str) -> None:
        """See `Outbox.forget`."""

        def work() -> None:
            with self._writing() as connection:
                number = self._number(name)
                connection.execute("DELETE FROM changes WHERE segment = ?", (number,))
                connection.execute(_RECOUNT, (number,))
                connection.execute("UPDATE segments SET job = NULL, job_last = NULL WHERE number = ?", (number,))

        await self._run(work)

    async def pace(self) -> Pace:
        """See `Outbox.pace`."""
        asked = "SELECT due_us FROM paces WHERE scope = ?"
        row = await self._run(lambda: self._connection.execute(asked, (self._scope,)).fetchone())
        return Pace(*row) if row else Pace()

    async def keep_pace(self, pace: Pace) -> None:
        """See `Outbox.keep_pace`."""
        await self._change("INSERT OR REPLACE INTO paces VALUES (?, ?)", (self._scope, pace.due_us))

    # In the thread

    def _open(self) -> None:
        if self._path is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
        else:
            refuse_network(self._path)
            make_private_directories(self._path.parent)
            self._queue = FileQueue(self._path.with_name(f"{self._path.name}.lock"))
            self._held.callback(self._queue.close)
            with self._queue.turn():
                make_private_file(self._path)
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_LOCK_TIMEOUT_S
            )
            self._file = self._identity()
        self._held.callback(self._connection.close)
        for pragma in PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        with self._writing() as connection:
            self._prepare(connection)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application_id == _APPLICATION_ID and version <= _VERSION:
            return
        if application_id == _APPLICATION_ID:
            raise OutboxError(f"the outbox {self._path} was written by a newer moe_segments; upgrade moe_segments")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise OutboxError(f"{self._path} is no outbox but another database; name another place with outbox=")
        for statement in SCHEMA:
            connection.execute(statement)

    def _number(self, name: str) -> int:
        asked = "SELECT number FROM segments WHERE scope = ? AND name = ?"
        row = self._connection.execute(asked, (self._scope, name)).fetchone()
        return int(row[0]) if row else 0

    async def _change(self, statement: str, values: Sequence[object]) -> None:
        def work() -> None:
            with self._writing() as connection:
                connection.execute(statement, values)

        await self._run(work)

    async def _delete(
        self, segment: int, up_to: int, *, adds: bool | None, last: str | None = None, job: str | None = None
    ) -> None:
        """Delete changes, some thousands at a time, and count what is left.

        Args:
            segment: Of which segment.
            up_to: Up to which number.
            adds: Of which kind; None for both.
            last: Up to which value; None for all.
            job: Whose batch this is; nothing is deleted once it is no longer.
        """
        after: str | None = ""
        while after is not None:
            after = await self._run(partial(self._delete_some, segment, up_to, _kinds(adds=adds), after, last, job))

    def _delete_some(
        self, segment: int, up_to: int, kinds: tuple[bool, bool], after: str, last: str | None, job: str | None
    ) -> str | None:
        """Delete the changes of some thousand values. Returns the last of those; None at the end."""
        with self._writing() as connection:
            if job is not None and connection.execute(_JOB, (segment,)).fetchone() != (job,):
                return None
            found = connection.execute(_NTH, (segment, after, _AT_ONCE)).fetchone()
            is_end = found is None or (last is not None and found[0] >= last)
            until = (_BEHIND_ALL if last is None else last) if is_end else found[0]
            connection.execute(_DELETE, (segment, after, until, up_to, *kinds))
            if is_end:  # what is left is counted once
                connection.execute(_RECOUNT, (segment,))
            return None if is_end else found[0]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a write transaction, which is undone where the body raises."""
        turn: AbstractContextManager[None] = nullcontext() if self._queue is None else self._queue.turn()
        with turn:
            if self._path is not None and self._identity() != self._file:
                raise OutboxError(
                    f"the outbox {self._path} was deleted or exchanged while it was open; nothing was written: "
                    "put it back if you can, and start again"
                )
            self._until_free("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._until_free("COMMIT")
            finally:
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")

    def _identity(self) -> tuple[int, int] | None:
        assert self._path is not None
        with suppress(OSError):
            found = self._path.stat()
            return found.st_dev, found.st_ino
        return None

    def _until_free(self, statement: str) -> None:
        until_s = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                self._connection.execute(statement)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= until_s:
                    raise
                time.sleep(_BUSY_PAUSE_S)
            else:
                return

    async def _run(self, work: Callable[[], T]) -> T:
        """Let the thread do *work* to its end, whatever becomes of the caller.

        Raises:
            OutboxError: It failed.
        """
        if self._worker is None:
            raise OutboxError("the outbox is closed")
        running = asyncio.get_running_loop().run_in_executor(self._worker, work)
        running.add_done_callback(_told)
        try:
            return await asyncio.shield(running)
        except (sqlite3.Error, OSError, *DAMAGE) as error:
            raise explain_outbox(error, self._path) from None
        except JournalError as error:  # of what it shares with the journal
            raise OutboxError(str(error).replace("the journal", "the outbox")) from None


def _kinds(*, adds: bool | None) -> tuple[bool, bool]:
    return (False, True) if adds is None else (adds, adds)


def _told(running: asyncio.Future[Any]) -> None:
    """Take what failed for told: whoever asked may be gone."""
    if not running.cancelled():
        running.exception()


def _put(connection: sqlite3.Connection, change: Change, now_us: int) -> int:
    """Write the values of one change. Returns its number."""
    segment = change.segment
    tip, fence, adds, removes, oldest_us, oldest, *matched = connection.execute(_STATE, (segment,)).fetchone()
    check_matched(change, (matched[0], matched[1]))
    number = tip + 1
    for value in change.values:
        at_us = now_us
        before = connection.execute(
            "SELECT adds, number, at_us FROM changes WHERE segment = ? AND value = ?", (segment, value)
        ).fetchone()
        if before is not None:
            adds, removes = adds - before[0], removes - (not before[0])
            if before[0] == change.adds and before[1] > fence:  # it waits already, and is not under way
                at_us = before[2]
        connection.execute(_PUT, (segment, value, change.adds, number, at_us))
        adds, removes = adds + change.adds, removes + (not change.adds)
    connection.execute(
        "UPDATE segments SET tip = ?, adds = ?, removes = ?, oldest_us = ?, oldest = ? WHERE number = ?",
        (number, adds, removes, now_us if oldest_us is None else oldest_us, oldest or number, segment),
    )
    return int(number)
