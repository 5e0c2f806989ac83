"""A journal in PostgreSQL: for a fleet that has one, any number of hosts, with no server of ours.

One decision is one round trip as long as nobody else was quicker, and it is exact:

- The caller's copy of the log ends at version *v*. `decide` runs here, on that copy, at a moment *t* that is not later
  than the server's clock: the last reading of that clock, which was old already when it arrived, and what has passed
  since then on this host's boot clock. Then one function call at the server takes the log's lock, reads the end of the
  log and after it the clock, and appends if and only if the log still ends at *v* and its time, `max(clock, last at)`,
  has reached *t*. So what was decided was decided on everything that had happened, and as if at *t*: nothing that is
  free only later than the batch's own `at` was taken. Whatever this host's clocks do, that comparison is the server's.
- Otherwise the same answer brings what was missed, and the server's time under the lock, and `decide` runs again on
  those. Who has lost twice takes the lock first, decides, and appends and commits in one more round trip: the server
  gives the lock out in the order it was asked for, so a far or slow client cannot starve. A client that goes silent
  while it holds the lock is ended by the server after three seconds.
- A refusal writes nothing, so nothing would notice that it was decided on an old copy. Therefore `decide` is never
  believed when it returns no event (or raises) before the log and the clock were read within this call: then it is
  read, one round trip, and `decide` runs on that. In a batch that grants to one and refuses another, the refusal was
  checked along with the grant: the log had not moved, and the time is behind the server's by a network delay, never by
  more than a second (a host that slept, a boot clock that stands still): that too the server compares.

Every time is the server's `clock_timestamp()`, or the last batch's where that is later. The tables are ordinary,
logged ones; every append is committed with `synchronous_commit` on, whatever the role's default. An append whose answer
was lost raises `JournalAmbiguous`: ask again with the same batch id. Only the ids that this handle has asked for before
are looked up before `decide` runs; another handle's id is found by the append, and what `decide` returned is dropped.

Calls of one handle are made one after another over one connection. A call whose task is cancelled is called off at the
server, or comes to its end there; only then does the cancellation go on, so the next call finds the log as it is. A
second connection listens for other clients' appends while somebody waits for them.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Final, TypeVar

from moe_segments.core.events import Batch
from moe_segments.errors import JournalError
from moe_segments.journal.bell import LISTENING_POLL_S, Bell
from moe_segments.journal.clock import BootClock
from moe_segments.journal.postgres_listener import Listener
from moe_segments.journal.postgres_log import PostgresLog, View
from moe_segments.journal.postgres_schema import MIGRATIONS
from moe_segments.journal.postgres_url import target_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Event
    from moe_segments.journal import Clock, Decide
    from moe_segments.journal.postgres_schema import Migration

__all__ = ["PostgresJournal", "from_url"]

T = TypeVar("T")

_UNLOCKED_TRIES: Final = 2
_LOCKED_TRIES: Final = 5
_IDS_REMEMBERED: Final = 10_000


def from_url(
    url: str, scope: str, *, clock: Clock | None = None, state_dir: Path | None = None, poll_s: float = 0.25
) -> PostgresJournal:
    """The engine for `open_journal`; see `PostgresJournal`."""
    return PostgresJournal(url, scope, clock=clock, state_dir=state_dir, poll_s=poll_s)


class PostgresJournal:
    """The `Journal` promise on a PostgreSQL server. Every method raises `JournalError` when it cannot be kept.

    Args:
        url: `postgresql://user:password@host/database`, see `postgres_url.target_of`. Never shown.
        scope: Which of the schema's logs: what shares one quota.
        clock: Microseconds since the epoch, for tests, in the place of the server's.
        state_dir: Where this host's witness is kept; None for none.
        poll_s: How often `changed` looks for what was not notified, seconds, give or take a quarter.
        host: The source of this host's boot clock, for tests.
        migrations: How older schemas become current, for tests.

    Attributes:
        journal_id: The log's identity; empty before `open`.
        doubt: Why the log may have lost history, as this host's witness saw it when it was opened; None without one.
        is_new: This `open` made the log.
        immediate: Always False.
        spans_hosts: Always True.

    Raises:
        InputError: The URL cannot be read.
    """

    immediate = False
    spans_hosts = True

    def __init__(
        self,
        url: str,
        scope: str,
        *,
        clock: Clock | None = None,
        state_dir: Path | None = None,
        poll_s: float = 0.25,
        host: BootClock | None = None,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        self.journal_id = ""
        self.doubt: str | None = None
        self.is_new = False
        self._target, self._scope = target_of(url), scope
        boot_us = (host or BootClock()).boot_us
        self._log = PostgresLog(self._target, scope, clock=clock, boot_us=boot_us, migrations=migrations)
        self._state_dir, self._poll_s = state_dir, poll_s
        self._told = 0  # the last version that was notified
        self._ids: dict[str, None] = {}  # asked for by this handle, oldest first
        self._bell = Bell()
        self._turn = asyncio.Lock()
        self._listener: Listener | None = None
        self._is_open = False
        self._pid = 0

    def __repr__(self) -> str:
        return f"PostgresJournal({self._log.place}, {self._scope!r})"

    async def open(self) -> None:
        """Make or open the log. Does nothing when it is open.

        Raises:
            JournalError: It cannot be used, with what to do.
        """
        if self._is_open:
            return
        self._pid, self._is_open, self._told = os.getpid(), True, 0
        try:
            self.doubt = await self._run(lambda: self._log.open(self._state_dir))
        except BaseException:
            self._is_open = False
            await self._log.close()
            raise
        self.journal_id, self.is_new = self._log.journal_id, self._log.is_new

    async def close(self) -> None:
        """Let go of the server after what was asked before. Idempotent."""
        if not self._is_open or self._pid != os.getpid():  # after a fork the connections are the parent's
            return
        self._is_open = False
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close()
        async with self._turn:
            await self._log.close()

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        """Decide and append, in one round trip where nobody was quicker. See `Journal.transact`.

        Raises:
            JournalError: Nothing was recorded.
            JournalAmbiguous: The answer was lost: ask again with the same *batch_id*.
        """
        return await self._run(lambda: self._transact(after, decide, batch_id))

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened, in one round trip. See `Journal.append`.

        Raises:
            JournalError: Nothing was recorded.
            JournalAmbiguous: The answer was lost: ask again with the same *batch_id*.
        """
        return await self._run(lambda: self._record(tuple(events), batch_id))

    async def read(self, after: int) -> Sequence[Batch]:
        """The batches after version *after*, in one round trip. See `Journal.read`.

        Raises:
            JournalError: The server cannot be asked, or its log does not reach *after*.
        """
        view = await self._run(lambda: self._log.look(after))
        self._told = min(self._told, view.end)  # anybody may notify anything; `changed` looks before it waits
        return view.missed

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*. See `Journal.checkpoint`.

        Raises:
            JournalError: Nothing was changed; or the log does not reach *version*; or the answer was lost, which does
                no harm.
        """
        await self._run(lambda: self._log.compact(version, state, keep_since_us))

    async def changed(self, after: int, timeout_s: float) -> bool:
        """Wait until a version above *after* may exist, at most *timeout_s* seconds.

        This handle's own appends wake it at once, others' by the server's notification, and a look at the log every
        `poll_s` finds what was not notified: everything, where a pooler stands between.

        Raises:
            JournalError: The server cannot be asked.
        """
        self._check_usable()
        if self._listener is None and self._log.session.is_direct:  # a pooler lends a session to whoever comes next
            self._listener = Listener(self._target, self._log.channel, self._heard)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while max(self._told, self._log.tip) <= after:
            tip = self._log.tip
            if await self._run(self._log.last_version) > after:
                if self._listener is not None and self._log.tip > max(self._told, tip):
                    self._listener.missed()
                return True
            rest_s = until_s - loop.time()
            if rest_s <= 0:
                return False
            jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads the polls of many processes
            is_told = self._listener is not None and self._listener.is_heard
            poll_s = max(self._poll_s, LISTENING_POLL_S) if is_told else self._poll_s
            await self._bell.heard(min(rest_s, poll_s * jitter))
        return True

    # Calls, one at a time

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work* in its turn. Where the task is cancelled meanwhile, the driver first calls off what goes on."""
        self._check_usable()
        until_s = self._log.session.hold()  # the wait for the turn included
        async with self._turn:
            self._check_usable()
            self._log.session.until_s = until_s
            return await work()

    def _check_usable(self) -> None:
        if not self._is_open:
            raise JournalError(f"the journal is not open; open it first ({self._log.place})")
        if self._pid != os.getpid():
            raise JournalError(
                f"the journal was opened in process {self._pid} and this is process {os.getpid()}, forked from it; "
                f"open a journal (a client) of its own in each process ({self._log.place})"
            )

    async def _transact(self, after: int, decide: Decide, batch_id: str) -> Batch | None:
        if batch_id in self._ids and (stored := await self._log.stored(batch_id)) is not None:
            return await self._log.confirmed(stored)
        self._remember(batch_id)
        self._log.take_up_what_the_host_has_seen()
        is_read = after != self._log.tip
        view = await self._log.look(after) if is_read else self._log.guess()
        for _ in range(_UNLOCKED_TRIES):
            events = tuple(decide(view.missed, view.now_us)) if is_read else _guessed(decide, view)
            if not events and not is_read:
                view, is_read = await self._log.look(after), True
                events = tuple(decide(view.missed, view.now_us))
            if not events:
                return None
            answer = await self._log.append(events, batch_id, after=after, view=view)
            if isinstance(answer, Batch):
                return await self._log.confirmed(self._told_others(answer))
            view, is_read = answer, True
        batch = await self._transact_locked(after, decide, batch_id)
        return batch and await self._log.confirmed(batch)

    async def _transact_locked(self, after: int, decide: Decide, batch_id: str) -> Batch | None:
        """Take the lock, then decide: nobody can be quicker."""
        for _ in range(_LOCKED_TRIES):
            try:
                answer = await self._log.lock(batch_id, after)
                if isinstance(answer, Batch):
                    return answer
                events = tuple(decide(answer.missed, answer.now_us))
                if not events:
                    return None
                answer = await self._log.append(events, batch_id, after=after, view=answer, is_locked=True)
                if isinstance(answer, Batch):
                    return self._told_others(answer)
            finally:
                await self._log.unlock()
        raise JournalError(f"the server's clock goes back and forth: see to its time source ({self._log.place})")

    async def _record(self, events: tuple[Event, ...], batch_id: str) -> Batch:
        self._remember(batch_id)
        return self._told_others(await self._log.record(events, batch_id))

    def _remember(self, batch_id: str) -> None:
        self._ids[batch_id] = None
        if len(self._ids) > _IDS_REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def _told_others(self, batch: Batch) -> Batch:
        self._bell.ring()
        return batch

    def _heard(self, version: int) -> None:
        self._told = max(self._told, version)
        self._bell.ring()


def _guessed(decide: Decide, view: View) -> tuple[Event, ...]:
    """What *decide* says of a copy that may be old: only what it appends will be checked, so nothing else counts."""
    try:
        return tuple(decide(view.missed, view.now_us))
    except Exception:  # noqa: BLE001 - it is asked again on what was read, and then what it raises is passed on
        return ()
