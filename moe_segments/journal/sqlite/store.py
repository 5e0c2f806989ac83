"""One log in one SQLite file, used by the one thread that owns the connection.

Each public method is one transaction and leaves none open, whatever happens in it. A write takes its turn in
the file's queue, then `BEGIN IMMEDIATE`; it reads what it missed, decides, inserts and commits. What the
store remembers between transactions, the tip of the log, is checked against the file in each, so a file that
was exchanged or put back while it was open is noticed before anything is decided on it.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import sqlite3
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from moe_segments.core.events import Batch, Reserved, Trusted, decode, encode
from moe_segments.errors import JournalError, JournalReplaced
from moe_segments.journal.checksum import checksum
from moe_segments.journal.local.clock import Anchor, BootClock
from moe_segments.journal.local.file_errors import DAMAGE, damaged, explain, is_busy
from moe_segments.journal.local.files import FileQueue, make_private_directories, make_private_file, refuse_network
from moe_segments.journal.local.state_directory import usable
from moe_segments.journal.local.witness import Witness
from moe_segments.journal.local.witness_file import Sighting
from moe_segments.journal.sqlite.schema import MIGRATIONS, migrate, refuse_foreign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.events import Event
    from moe_segments.journal.protocol import Clock, Decide
    from moe_segments.journal.sqlite.schema import Migration
    from moe_segments.journal.sqlite.worker import Turn

__all__ = ["Found", "Options", "SqliteStore", "lock_path"]

_Row: TypeAlias = "tuple[int, str, int, str]"  # without the checksum, which has been compared

_LOG: Final = logging.getLogger("moe_segments.journal")
_WAL_FROM: Final = (3, 51, 3)  # earlier ones lose committed rows when several connections checkpoint
_BUSY_PAUSE_S: Final = 0.001
_UNSYNCHRONISED: Final = (
    "the system clock is not synchronised, so nobody knows how long this host was off: no time is taken to have passed "
    "since the journal's last entry, and quota may be free later than it could be; start this after the clock is "
    "synchronised (NTP)"
)

_BATCH: Final = "SELECT version, id, at_us, events, checksum FROM batches WHERE scope = ?"
_BY_ID: Final = f"{_BATCH} AND id = ?"
_AT: Final = f"{_BATCH} AND version = ?"
_FROM: Final = f"{_BATCH} AND version >= ? ORDER BY version"
_LAST: Final = f"{_BATCH} ORDER BY version DESC LIMIT 1"
_TIP: Final = "SELECT version, id, at_us FROM batches WHERE scope = ? ORDER BY version DESC LIMIT 1"
_ADD: Final = "INSERT INTO batches (scope, version, id, at_us, events, checksum) VALUES (?, ?, ?, ?, ?, ?)"
_CHECKPOINT: Final = "SELECT version, at_us, state, checksum FROM checkpoints WHERE scope = ?"
_KEEP: Final = "INSERT OR REPLACE INTO checkpoints (scope, version, at_us, state, checksum) VALUES (?, ?, ?, ?, ?)"
_SCOPE: Final = "SELECT journal_id, boot_id, wall_us, boot_us, lag_us, is_sure, checksum FROM scopes WHERE scope = ?"
_NAME: Final = (
    "INSERT OR REPLACE INTO scopes (scope, journal_id, boot_id, wall_us, boot_us, lag_us, is_sure, checksum) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


@attrs.frozen(kw_only=True)
class Options:
    """Options of a store.

    Attributes:
        scope: Which of the file's logs.
        clock: Microseconds since the epoch; None for *host*, anchored in the file.
        host: The sources of the host's time.
        state_dir: Where the second witness is kept; None for none.
        journal_mode: "DELETE" or "WAL".
        lock_timeout_s: How long another's SQLite lock is waited for, seconds.
        pragmas: Further PRAGMA statements for the connection, without the word.
        migrations: How older files become current.
        makes_directories: Whether missing directories are made; else a path with one is refused as mistyped.
    """

    scope: str
    clock: Clock | None = None
    host: BootClock = attrs.field(factory=BootClock)
    state_dir: Path | None = None
    journal_mode: Literal["DELETE", "WAL"] = "DELETE"
    lock_timeout_s: float = 30.0
    pragmas: Sequence[str] = ()
    migrations: Sequence[Migration] = MIGRATIONS
    makes_directories: bool = False


@attrs.frozen
class Found:
    """The findings of opening a store.

    Attributes:
        journal_id: The log's identity.
        is_new: This opening made the log.
        doubt: Why it may have lost history; None when nothing speaks against it.
    """

    journal_id: str
    is_new: bool
    doubt: str | None


@attrs.frozen
class _Tip:
    """The last batch of the log; version 0 when it is empty."""

    version: int = 0
    id: str = ""
    at_us: int = 0


def lock_path(journal: Path) -> Path:
    """Return the file whose lock is the queue of everybody who writes to *journal*."""
    return journal.with_name(f"{journal.name}.lock")


class SqliteStore:
    """One log. Make it anywhere, use it in one thread only.

    Args:
        path: The file.
        options: How.
    """

    def __init__(self, path: Path, options: Options) -> None:
        self._path = Path(os.path.realpath(path))  # two names of one file must share one queue
        self._options = options
        self._scope = options.scope
        self._tip = _Tip()
        self._journal_id = ""
        self._anchor: Anchor | None = None
        self._held = ExitStack()

    @property
    def path(self) -> Path:
        """The real path of the file."""
        return self._path

    @property
    def known_version(self) -> int:
        """The last version this store has seen. Safe to ask from any thread."""
        return self._tip.version

    def open(self, turn: Turn) -> Found:
        """Make or open the file and the log in it.

        Raises:
            JournalError: It cannot be used, with what to do.
        """
        try:
            return self._open(turn)
        except (sqlite3.Error, OSError, *DAMAGE) as error:
            self.close()
            raise explain(error, self._path) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of everything. Idempotent; whatever was not committed is not in the log."""
        self._held.close()

    def transact(self, turn: Turn, after: int, decide: Decide, batch_id: str) -> Batch | None:
        """See `Journal.transact`."""
        with self._writing(turn):
            stored = self._stored(batch_id)
            if stored is not None:
                return stored
            missed = self._since(after)
            now_us = max(self._tip.at_us, self._clock())
            events = tuple(decide(missed, now_us))
            return self._add(Batch(self._tip.version + 1, batch_id, now_us, events)) if events else None

    def append(self, turn: Turn, events: Sequence[Event], batch_id: str) -> Batch:
        """See `Journal.append`."""
        with self._writing(turn):
            stored = self._stored(batch_id)
            if stored is not None:
                return stored
            self._confirm(self._from(self._tip.version), 0)
            now_us = max(self._tip.at_us, self._clock())
            return self._add(Batch(self._tip.version + 1, batch_id, now_us, tuple(events)))

    def read(self, _turn: Turn, after: int) -> Sequence[Batch]:
        """See `Journal.read`. In the writers' queue: beside it SQLite's busy handler would have a reader sleep."""
        self._refuse_exchanged()
        with self._queue.turn():
            self._until_free("BEGIN")
            try:
                self._take_up_what_the_host_has_seen()
                return self._since(after)
            finally:
                self._end()

    def last_version(self, _turn: Turn) -> int:
        """Return the last version in the file. The cheapest look there is; writes nothing."""
        self._refuse_exchanged()
        self._take_up_what_the_host_has_seen()  # before the file is read, which may go on meanwhile
        rows: list[tuple[int, str, int]] = self._all(_TIP, self._scope)
        last = _Tip(*rows[0]) if rows else _Tip()
        if not isinstance(last.version, int):
            raise damaged(self._path, "a version is no number")
        if last.version < self._tip.version or (last.version == self._tip.version and last.id != self._tip.id):
            raise self._went_back(last, 0)
        return last.version

    def checkpoint(self, turn: Turn, version: int, state: Event, keep_since_us: int) -> None:
        """See `Journal.checkpoint`."""
        with self._writing(turn):
            self._confirm(self._from(self._tip.version), version)
            kept = self._kept()
            if kept and kept.version > version:
                return
            rows = self._rows(_AT, self._scope, version)
            if version < 1 or not (rows or kept):
                raise JournalError(f"a checkpoint stands for versions from 1 on that the log holds, not for {version}")
            at_us = rows[0][2] if rows else kept.at_us if kept else 0
            # The last batch stays, always: it holds the log's version and its latest time.
            self._all(
                "DELETE FROM batches WHERE scope = ? AND version <= ? AND version < ? AND at_us < ?",
                *(self._scope, version, self._tip.version, keep_since_us),
            )
            text = encode([state])
            self._all(_KEEP, self._scope, version, at_us, text, checksum(self._journal_id, version, at_us, text))
            self._until_free("COMMIT")

    def _open(self, turn: Turn) -> Found:
        self._find_directory()
        refuse_network(self._path)
        if self._options.journal_mode == "WAL" and sqlite3.sqlite_version_info < _WAL_FROM:
            raise JournalError(
                f"journal_mode WAL needs SQLite {'.'.join(map(str, _WAL_FROM))} or later and this is "
                f"{sqlite3.sqlite_version}, which can lose committed rows in it; use the default, DELETE"
            )
        with FileQueue.joined(lock_path(self._path)) as self._queue:
            self._held.callback(self._queue.close)
            _begin(turn)
            make_private_file(self._path)
            self._connect()
            self._until_free("BEGIN IMMEDIATE")
            try:
                is_new = self._prepare()
                self._until_free("COMMIT")
            finally:
                self._end()
            self._set_journal_mode()
            self._place = self._identity()
            self._witness = Witness(usable(self._options.state_dir, self._scope), self._scope, self._path)
            self._held.callback(self._witness.close)
            doubt = self._witness.examine(self._sighting(), is_new=is_new, id_at=self._id_at)
        return Found(self._journal_id, is_new, doubt)

    def _find_directory(self) -> None:
        directory = self._path.parent
        if not self._options.makes_directories and not directory.exists():
            raise JournalError(
                f"the journal {self._path} cannot be made: there is no directory {directory}; make it, or mend the path"
            )
        make_private_directories(directory)

    def _connect(self) -> None:
        # "rw" never makes a file, which would get other permissions than ours.
        self._connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=self._options.lock_timeout_s,
        )
        self._held.callback(self._connection.close)
        synchronous = "FULL" if self._options.journal_mode == "WAL" else "EXTRA"
        for pragma in (
            f"synchronous = {synchronous}",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            *self._options.pragmas,
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        refuse_foreign(self._connection, self._path, self._options.migrations)

    def _prepare(self) -> bool:
        """Bring tables, log and clock about inside the open transaction; whether the log was made."""
        found = self._all("PRAGMA integrity_check(1)")
        if found != [("ok",)]:
            raise damaged(self._path, str(found[0][0]).replace("\n", ": ") if found else "nothing can be read")
        migrate(self._connection, self._options.migrations)
        named = self._named()
        self._journal_id, anchor = named or (secrets.token_hex(16), None)
        last = self._rows(_LAST, self._scope)
        self._tip = _Tip(*last[0][:3]) if last else _Tip()
        if not last and self._kept() is not None:
            raise damaged(self._path, "every batch is missing")
        if self._options.clock is None:
            before, anchor = anchor, self._options.host.anchor(anchor, last_at_us=self._tip.at_us)
            self._go_by(anchor)
            if anchor != before and not anchor.is_sure and last:
                _LOG.warning(_UNSYNCHRONISED)
        else:
            self._clock: Clock = self._options.clock
        self._name(anchor or Anchor("", 0, 0), named)
        return not named

    def _named(self) -> tuple[str, Anchor] | None:
        """Return the log's identity and its anchor; None before it has one."""
        for *fields, found in self._all(_SCOPE, self._scope):
            self._compare(found, self._scope, *fields)
            journal_id, boot_id, wall_us, boot_us, lag_us, is_sure = fields
            return journal_id, Anchor(boot_id, wall_us, boot_us, lag_us, is_sure=bool(is_sure))
        return None

    def _name(self, anchor: Anchor, named: tuple[str, Anchor] | None) -> None:
        if named != (self._journal_id, anchor):
            row = self._scope, self._journal_id, *attrs.astuple(anchor)[:-1], int(anchor.is_sure)
            self._all(_NAME, *row, checksum(*row))

    def _go_by(self, anchor: Anchor) -> None:
        self._anchor, self._clock = anchor, self._options.host.clock(anchor)

    def _anchor_again(self, turn: Turn) -> None:
        """Ask the wall clock once it is synchronised, where it was not when this boot's first client asked it."""
        if self._anchor is None or self._anchor.is_sure or self._options.host.is_synchronised() is False:
            return
        self._until_free("BEGIN IMMEDIATE", turn.until_s)
        try:
            named, last = self._named(), self._rows(_LAST, self._scope)
            if named is None:
                raise damaged(self._path, "its name is missing")
            anchor = self._options.host.anchor(named[1], last_at_us=last[0][2] if last else 0)
            self._name(anchor, named)
            self._until_free("COMMIT")
        finally:
            self._end()
        self._go_by(anchor)

    def _set_journal_mode(self) -> None:
        wanted = self._options.journal_mode.lower()
        try:
            mode = self._connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0]
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            mode = "another one"
        if mode != wanted:
            raise JournalError(
                f"the journal {self._path} is in use with another journal_mode than {wanted.upper()}; "
                "give every process the same one, or end the others first"
            )

    @contextmanager
    def _writing(self, turn: Turn) -> Iterator[None]:
        """Yield a write transaction in its turn; what the body has not committed is undone."""
        with self._queue.turn():
            self._refuse_exchanged()
            self._anchor_again(turn)
            self._until_free("BEGIN IMMEDIATE", turn.until_s)
            try:
                _begin(turn)
                self._take_up_what_the_host_has_seen()
                yield
            finally:
                self._end()

    def _refuse_exchanged(self) -> None:
        # The connection would go on with a file that nobody else sees.
        if self._identity() != self._place:
            raise JournalReplaced(
                f"the journal {self._path} was deleted or exchanged while it was open; nothing was "
                "recorded: end every process that uses it, put it back if you can, and start again"
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _add(self, batch: Batch) -> Batch:
        row = batch.version, batch.id, batch.at_us, encode(batch.events)
        self._all(_ADD, self._scope, *row, checksum(self._journal_id, *row))
        self._until_free("COMMIT")
        self._tip = _Tip(batch.version, batch.id, batch.at_us)
        counts = any(isinstance(event, Reserved | Trusted) for event in batch.events)
        self._witness.note(self._sighting(), {batch.version: batch.id}, counts=counts)
        return batch

    def _take_up_what_the_host_has_seen(self) -> None:
        """Expect the log to hold what another process of this host has seen of it."""
        seen = self._witness.ahead(self._sighting())
        if seen is not None:
            self._tip = _Tip(seen.version, seen.batch_id)

    def _sighting(self) -> Sighting:
        return Sighting(self._journal_id, self._tip.version, str(self._path), self._tip.id)

    def _id_at(self, version: int) -> str | None:
        rows = self._all("SELECT id FROM batches WHERE scope = ? AND version = ?", self._scope, version)
        return rows[0][0] if rows else None

    def _stored(self, batch_id: str) -> Batch | None:
        rows = self._rows(_BY_ID, self._scope, batch_id)
        if rows and rows[0][1] != batch_id:
            raise damaged(self._path, "a batch lies under another one's id")
        return _batch(rows[0]) if rows else None

    def _from(self, version: int) -> list[_Row]:
        return self._rows(_FROM, self._scope, version)

    def _rows(self, statement: str, *values: object) -> list[_Row]:
        """Return the batches that a statement finds, each compared with its checksum."""
        rows = []
        for *row, found in self._all(statement, *values):
            self._compare(found, self._journal_id, *row)
            rows.append(cast("_Row", tuple(row)))
        return rows

    def _compare(self, found: object, *fields: Any) -> None:  # whatever a damaged file holds
        try:
            is_right = checksum(*fields) == found
        except TypeError:
            is_right = False
        if not is_right:
            raise damaged(self._path, "a record does not fit its checksum")

    def _kept(self) -> Batch | None:
        """Return the checkpoint; None before the first."""
        for *row, found in self._all(_CHECKPOINT, self._scope):
            self._compare(found, self._journal_id, *row)
            version, at_us, state = row
            return Batch(version, f"checkpoint-{version}", at_us, decode(state))
        return None

    def _since(self, after: int) -> list[Batch]:
        """Return the batches after version *after*, or the checkpoint and what follows it where some are gone."""
        # From the tip on, so that one question finds what is new and confirms that the old is still there.
        rows = self._from(min(after, self._tip.version))
        self._confirm(rows, after)
        if not rows or rows[0][0] <= after + 1:
            return [_batch(row) for row in rows if row[0] > after]
        kept = self._kept()
        if not kept or not rows[0][0] - 1 <= kept.version <= rows[-1][0]:
            raise damaged(self._path, f"batches before version {rows[0][0]} are missing")
        return [kept, *(_batch(row) for row in rows if row[0] > kept.version)]

    def _confirm(self, rows: Sequence[_Row], reached: int) -> None:
        """Check that the log, its last rows at hand, goes on where it was left; move the tip to its end."""
        for (earlier, *_), (later, *_) in itertools.pairwise(rows):
            if later != earlier + 1:
                raise damaged(self._path, f"between version {earlier} and version {later} something is missing")
        last = _Tip(*rows[-1][:3]) if rows else _Tip()
        place = self._tip.version - rows[0][0] if rows else -1
        is_other = 0 <= place < len(rows) and rows[place][1] != self._tip.id
        if is_other or last.version < max(self._tip.version, reached):
            raise self._went_back(last, reached)
        self._tip = last

    def _went_back(self, last: _Tip, reached: int) -> JournalReplaced:
        return JournalReplaced(
            f"the journal {self._path} ends at version {last.version} and version "
            f"{max(self._tip.version, reached)} was seen of it: it was put back or exchanged while it "
            "was open; nothing was recorded: end every process that uses it, and start again"
        )

    def _all(self, statement: str, *values: object) -> list[Any]:  # what a column holds, only its statement tells
        try:
            return self._connection.execute(statement, values).fetchall()
        except (sqlite3.Error, *DAMAGE) as error:
            raise explain(error, self._path) from error

    def _until_free(self, statement: str, until_s: float | None = None) -> None:
        """Run BEGIN or COMMIT, again while another connection is in the way: busy has not failed."""
        until_s = time.monotonic() + self._options.lock_timeout_s if until_s is None else until_s
        while True:
            try:
                self._connection.execute(statement)
            except (sqlite3.Error, *DAMAGE) as error:
                if not is_busy(error) or time.monotonic() >= until_s:
                    raise explain(error, self._path) from error
                time.sleep(_BUSY_PAUSE_S)
            else:
                return

    def _end(self) -> None:
        if self._connection.in_transaction:
            # An error here means that SQLite has rolled back by itself.
            with suppress(sqlite3.Error, *DAMAGE):
                self._connection.execute("ROLLBACK")


def _begin(turn: Turn) -> None:
    if not turn.take():
        raise JournalError("whoever asked for this has given up waiting; nothing was recorded")


def _batch(row: _Row) -> Batch:
    version, batch_id, at_us, events = row
    return Batch(version, batch_id, at_us, decode(events))
