"""One log in PostgreSQL over one connection: statements and the meaning of their answers. One call at a time.

What it remembers between calls, the tip of the log, goes along with every call and is compared at the server, so that
a log that was put back, failed over or exchanged while it was open is noticed before anything is appended to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.core.events import Batch, Reserved, Trusted, decode, encode, joined
from moe_segments.errors import JournalAmbiguous, JournalError, JournalReplaced, JournalUnavailable
from moe_segments.journal.checksum import DIGITS, checksum
from moe_segments.journal.local.state_directory import usable
from moe_segments.journal.local.witness import Witness
from moe_segments.journal.local.witness_file import Sighting
from moe_segments.journal.postgres import schema as sql
from moe_segments.journal.postgres.connection import Lost, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import psycopg

    from moe_segments.core.events import Event
    from moe_segments.journal.postgres.connection import Row
    from moe_segments.journal.postgres.url import Target
    from moe_segments.journal.protocol import Clock

__all__ = ["PostgresLog", "View"]

_ANY_US: Final = 2**60
_LOCK_SHARE: Final = 0.8  # of the time an answer is waited for, so that who waits in vain hears why
_LONG: Final = 1_000_000  # characters
_GUESS_US: Final = 1_000_000
_DRIFT: Final = 10_000  # one part in so many is more than two disciplined clocks drift apart


@attrs.frozen
class View:
    """The log as the server showed it.

    Attributes:
        end: Its last version.
        missed: The batches after the version asked for; the first may be a checkpoint.
        now_us: The log's time when it was read.
        slack_us: How far the log's time may have moved on when something is appended to this.
        is_all: There was no more than one answer holds.
    """

    end: int
    missed: Sequence[Batch]
    now_us: int
    slack_us: int = _ANY_US
    is_all: bool = True


@attrs.frozen
class _Tip:
    """The last batch of the log as it was seen; version 0 when it is empty."""

    version: int = 0
    id: str = ""
    at_us: int = 0


class PostgresLog:
    """The log *scope* at *target*.

    Args:
        target: Where.
        scope: Which of the schema's logs.
        clock: In the place of the server's, for tests.
        boot_us: This host's boot clock, microseconds.
        migrations: How older schemas become current, for tests.

    Attributes:
        journal_id: The log's identity; empty before `open`.
        is_new: `open` made it.
    """

    journal_id: Any
    is_new: bool

    def __init__(
        self,
        target: Target,
        scope: str,
        *,
        clock: Clock | None,
        boot_us: Callable[[], int],
        migrations: Sequence[sql.Migration] = sql.MIGRATIONS,
    ) -> None:
        self.journal_id, self.is_new = "", False
        self.session: Session = Session(target, self._greeted)
        self._target, self._scope, self._clock, self._boot_us = target, scope, clock, boot_us
        self._migrations = migrations
        self._number = self._lock = 0
        self._wait_ms = max(round(target.timeout_s * _LOCK_SHARE * 1_000), 1)
        self._tip = _Tip()
        self._read_at_us = 0, 0  # the server's clock, and the boot clock when that arrived
        self._witness = Witness(None, scope)
        self._statements: dict[str, bytes] = {}

    @property
    def tip(self) -> int:
        """The last version that was seen."""
        return self._tip.version

    @property
    def place(self) -> str:
        """The server as it may be shown."""
        return self.session.place

    @property
    def channel(self) -> str:
        """Return where appends to this log are notified."""
        return f"moe_segments_{self._lock}"

    def guess(self) -> View:
        """Return the log as it is if nobody has written since, at a time that it has reached and not left far behind.

        The server compares: where this host's boot clock runs wrong after all, that costs a round trip.
        """
        return View(self._tip.version, (), self._now_us(), _GUESS_US)

    def _now_us(self) -> int:
        if self._clock is not None:
            return max(self._clock(), self._tip.at_us)
        clock_us, boot_us = self._read_at_us
        passed_us = max(self._boot_us() - boot_us, 0)
        return max(clock_us + passed_us - passed_us // _DRIFT, self._tip.at_us)

    async def open(self, state_dir: Path | None) -> str | None:
        """Make or find the log. Returns why it may have lost history, as this host's witness saw it.

        Raises:
            JournalError: It cannot be used.
        """
        self.journal_id, self._tip = "", _Tip()
        try:
            self._witness = Witness(usable(state_dir, self._scope), self._scope)
        except OSError as error:
            raise JournalError(
                f"the journal's witness in {state_dir} cannot be read or made ({error.strerror}): give this user "
                "access to that directory"
            ) from error
        self._tip = await self._end()
        seen = self._witness.seen
        kept = await self._read(sql.ID_AT, seen.version) if seen is not None else None
        held = kept[0] if kept else None
        return self._witness.examine(self._sighting(), is_new=self.is_new, id_at=lambda _: held)

    async def close(self) -> None:
        """Let go of everything. Idempotent."""
        await self.session.close()
        self._witness.close()

    # Reading

    async def look(self, after: int) -> View:
        """Return what came after version *after*, and the time. One round trip where that is not much.

        Raises:
            JournalError: The server cannot be asked, or its log is not the one that was seen.
        """
        self.take_up_what_the_host_has_seen()
        view = await self._look(after)
        missed = view.missed
        while not view.is_all:
            await asyncio.sleep(0)
            view = await self._look(missed[-1].version if missed else after)
            missed = joined(missed, view.missed)
        return attrs.evolve(view, missed=missed)

    async def _look(self, after: int) -> View:
        row = await self._read(sql.LOOK, min(self._tip.version, after), after)
        assert row is not None
        found, clock_us = row
        now_us = self._time(clock_us)
        if len(found) > _LONG:  # with a checkpoint, which took a while to arrive
            await asyncio.sleep(0)
        return self._view(found, after, now_us)

    async def last_version(self) -> int:
        """Return the last version there is. The cheapest look."""
        self.take_up_what_the_host_has_seen()
        last = await self._end()
        if last.version < self._tip.version or (last.version == self._tip.version and last.id != self._tip.id):
            raise self._exchanged(last.version)
        return last.version

    async def _end(self) -> _Tip:
        row = await self._read(sql.LAST)
        return _Tip(*row) if row is not None else _Tip()

    def take_up_what_the_host_has_seen(self) -> None:
        """Ask the server from now on for what another process of this host has seen, where that is more."""
        seen = self._witness.ahead(self._sighting())
        if seen is not None:
            self._tip = _Tip(seen.version, seen.batch_id)

    async def stored(self, batch_id: str) -> Batch | None:
        """Return the batch of that id, if the log holds it."""
        row = await self._read(sql.STORED, batch_id)
        return None if row is None else self._named(self._batch(row), batch_id)

    # Writing

    async def append(
        self, events: Sequence[Event], batch_id: str, *, after: int, view: View, is_locked: bool = False
    ) -> Batch | View:
        """Append what was decided on *view*, unless the log or its time is not there: then what is. One round trip.

        Args:
            events: What.
            batch_id: Its name; a batch of that name that is stored already is returned.
            after: What the caller had read.
            view: What the decision saw.
            is_locked: `lock` was called; the transaction is committed.

        Raises:
            JournalError: Nothing was recorded.
            JournalAmbiguous: The answer was lost.
        """
        row = await self._write(batch_id, encode(events), after, view, commit=is_locked)
        answer = self._answer(row, batch_id, events, after)
        return answer if isinstance(answer, Batch) or answer.is_all else await self.look(after)

    async def record(self, events: Sequence[Event], batch_id: str) -> Batch:
        """Append what happened, whatever the version. One round trip; errors as `append`."""
        self.take_up_what_the_host_has_seen()
        row = await self._write(batch_id, encode(events), None, None)
        answer = self._answer(row, batch_id, events, 0)
        assert isinstance(answer, Batch)
        return answer

    async def lock(self, batch_id: str, after: int) -> Batch | View:
        """Begin a transaction that holds the log's lock, and look; end it with `append` or `unlock`. One round trip."""
        values = self._values(batch_id, None, after, None)
        try:
            row = await self.session.begin(self._statement(sql.APPEND), values)
        except Lost as lost:
            raise self._unanswered(lost) from None
        assert row is not None
        return self._answer(row, batch_id, (), after)

    async def unlock(self) -> None:
        """End what `lock` began and nobody committed."""
        await self.session.rollback()

    async def compact(self, version: int, state: Event, keep_since_us: int) -> None:
        """See `Journal.checkpoint`."""
        text = encode([state])
        await asyncio.sleep(0)  # it is long, and so is sending it
        values = (*self._seen, version, text, keep_since_us)
        try:
            row = await self.session.row(self._statement(sql.CHECKPOINT), values)
        except Lost as lost:
            raise JournalError(
                f"{lost.reason} while the journal was compacted; whether it was does no harm ({self.place})"
            ) from None
        assert row is not None
        outcome, *numbers = row[0].split()
        if outcome == "other":
            raise self._exchanged(int(numbers[0]), version)
        if outcome == "damaged":
            raise self._damaged()
        if outcome == "absent":
            raise JournalError(f"a checkpoint stands for versions from 1 on that the log holds, not for {version}")

    async def _write(
        self, batch_id: str, events: str, after: int | None, view: View | None, *, commit: bool = False
    ) -> Row:
        values = self._values(batch_id, events, after, view)
        call = self.session.commit if commit else self.session.row
        try:
            row = await call(self._statement(sql.APPEND), values)
        except Lost as lost:
            raise JournalAmbiguous(
                f"{lost.reason}, so whether this was recorded is unknown; ask again, which is safe ({self.place})"
            ) from None
        assert row is not None
        return row

    async def _read(self, statement: str, *values: object) -> Row | None:
        """Return a row of this log that is only read, so asked for once more where no answer came."""
        try:
            return await self._read_once(statement, values)
        except Lost:
            pass
        try:
            return await self._read_once(statement, values)
        except Lost as lost:
            raise self._unanswered(lost) from None

    async def _read_once(self, statement: str, values: Sequence[object]) -> Row | None:
        await self.session.ready()  # which finds the log's number
        return await self.session.row(self._statement(statement), (self._number, *values))

    def _unanswered(self, lost: Lost) -> JournalUnavailable:
        return JournalUnavailable(
            f"{lost.reason} from the journal's server, and nothing was recorded: see that it runs and can be reached, "
            f"then try again ({self.place})"
        )

    @property
    def _seen(self) -> tuple[str, str]:
        """The end of the log that was seen, which every call says first."""
        return str(self._tip.version), self._tip.id

    def _values(
        self, batch_id: str, events: str | None, after: int | None, view: View | None
    ) -> tuple[str | None, ...]:
        """Return the arguments of `append` at the server, as text, so that one statement serves every call."""
        seen = (None, None, None) if view is None else (str(view.end), str(view.now_us), str(view.slack_us))
        clock_us = None if self._clock is None else str(self._clock())
        return (*self._seen, None if after is None else str(after), *seen, batch_id, events, clock_us)

    def _statement(self, statement: str) -> bytes:
        found = self._statements.get(statement)
        if found is None:
            mine = statement.replace("{log}", f"{self._number}, {self._lock}, {self._wait_ms}")
            found = self._statements[statement] = sql.named(mine, self._target.schema)
        return found

    async def _greeted(self, connection: psycopg.AsyncConnection) -> None:
        """Find the log over a new connection: the one that was opened, or none."""
        is_new = False
        if not self.journal_id:
            await sql.prepare(connection, self._target, self._migrations)
            is_new = await sql.made_scope(connection, self._target.schema, self._scope)
        cursor = await connection.execute(self._statement(sql.SCOPE), (self._scope,))
        row = await cursor.fetchone()
        if row is None or self.journal_id not in {"", row[1]}:
            raise self._exchanged(0)
        self._number, journal_id, clock_us = row
        self._statements.clear()
        self._read_at_us = clock_us, self._boot_us()
        if not self.journal_id:
            self.journal_id, self.is_new = journal_id, is_new
            digest = hashlib.sha256(f"moe_segments/{journal_id}".encode()).digest()
            self._lock = int.from_bytes(digest[:8]) >> 1

    # What answers say

    def _answer(self, row: Row, batch_id: str, events: Sequence[Event], after: int) -> Batch | View:
        head, _, shown = row[0].partition("\n")
        outcome, *numbers = head.split(" ")
        if outcome == "other":
            raise self._exchanged(int(numbers[0]), after)
        version, at_us, clock_us = map(int, numbers)
        self._time(clock_us)
        match outcome:
            case "added":
                counts = any(isinstance(event, Reserved | Trusted) for event in events)
                self._tip = _Tip(version, batch_id, at_us)
                self._witness.note(self._sighting(), counts=counts)
                return Batch(version, batch_id, at_us, tuple(events))
            case "stored":
                return self._batch((version, batch_id, at_us, shown[DIGITS:], shown[:DIGITS]))
            case _:
                return self._view(shown, after, at_us)

    def _view(self, found: str, after: int, clock_us: int) -> View:
        listed, _, state = found.partition("\x1e")
        try:
            kept, rows = json.loads(listed)
        except ValueError:
            raise self._damaged() from None
        rows = rows or []
        batches = [self._batch(row) for row in rows]
        self._confirm(rows, after)
        missed = [batch for batch in batches if batch.version > (after if kept is None else kept[0])]
        if kept is not None:
            version, at_us, checksum_found = kept
            self._compare(checksum_found, version, "", at_us, state)
            missed.insert(0, Batch(version, f"checkpoint-{version}", at_us, decode(state)))
        begin = missed[0].version if kept is not None else after + 1
        if [batch.version for batch in missed] != list(range(begin, begin + len(missed))):
            raise JournalReplaced(f"the journal is damaged: batches after version {after} are missing ({self.place})")
        return View(self._tip.version, missed, max(clock_us, self._tip.at_us), is_all=len(rows) < sql.PAGE)

    def _batch(self, row: Sequence[Any]) -> Batch:
        """Return the batch of a row, compared with its checksum."""
        version, batch_id, at_us, events, found = row
        self._compare(found, version, batch_id, at_us, events)
        return Batch(version, batch_id, at_us, decode(events))

    def _named(self, batch: Batch, batch_id: str) -> Batch:
        if batch.id != batch_id:
            raise self._damaged()
        return batch

    def _compare(self, found: object, *fields: Any) -> None:
        if checksum(self._number, *fields) != found:
            raise self._damaged()

    def _damaged(self) -> JournalReplaced:
        return JournalReplaced(
            "the journal is damaged: a record does not fit its checksum; nothing was recorded: stop every process that "
            f"uses it, and restore it from a backup ({self.place})"
        )

    def _confirm(self, rows: Sequence[Any], after: int) -> None:
        """Check that the log, its last rows at hand, goes on where it was left; move the tip to its end."""
        last = _Tip(*rows[-1][:3]) if rows else _Tip()
        place = self._tip.version - rows[0][0] if rows else -1
        is_other = 0 <= place < len(rows) and rows[place][1] != self._tip.id
        ends_early = len(rows) < sql.PAGE and last.version < max(self._tip.version, after)
        if is_other or ends_early:
            raise self._exchanged(last.version, after)
        is_news = last.version > self._tip.version
        if last.version >= self._tip.version:  # else there is more to come
            self._tip = last
        if is_news:
            self._witness.note(self._sighting(), {row[0]: row[1] for row in rows}, is_ours=False)

    def _time(self, clock_us: int) -> int:
        """Return the clock as the server reads it, kept for `now_us`; or the one given in its place."""
        if self._clock is not None:
            return self._clock()
        self._read_at_us = clock_us, self._boot_us()
        return clock_us

    def _sighting(self) -> Sighting:
        return Sighting(self.journal_id, self._tip.version, self.place, self._tip.id)

    def _exchanged(self, version: int, reached: int | None = 0) -> JournalReplaced:
        return JournalReplaced(
            f"the journal ends at version {version} and version {max(self._tip.version, reached or 0)} was seen of it, "
            "or another history: it was put back, failed over to a server that lagged, or exchanged while it was open; "
            f"nothing was recorded: end every process that uses it, and start again ({self.place})"
        )
