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

Calls of one handle are made one after another over one connection. A call whose task is cancelled is ended at the
server, or comes to its end there; only then does the cancellation go on, so the next call finds the log as it is. A
second connection listens for other clients' appends while somebody waits for them.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, TypeVar

from moe_segments.core.events import Batch
from moe_segments.errors import JournalError
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.postgres.listener import Listener
from moe_segments.journal.postgres.log import PostgresLog, View
from moe_segments.journal.postgres.schema import MIGRATIONS
from moe_segments.journal.postgres.url import target_of
from moe_segments.journal.server_engine import ServerJournal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Event
    from moe_segments.journal.postgres.schema import Migration
    from moe_segments.journal.protocol import Clock, Decide

__all__ = ["PostgresJournal"]

T = TypeVar("T")

_UNLOCKED_TRIES: Final = 2
_LOCKED_TRIES: Final = 5
_IDS_REMEMBERED: Final = 10_000


class PostgresJournal(ServerJournal):
    """The `Journal` promise on a PostgreSQL server. Every method raises `JournalError` when it cannot be kept.

    Args:
        url: `postgresql://user:password@host/database`, see `url.target_of`. Never shown.
        scope: Which of the schema's logs: what shares one quota.
        clock: Microseconds since the epoch, for tests, in the place of the server's.
        state_dir: Where this host's witness is kept; None for none.
        poll_s: How often `changed` looks for what was not notified, seconds, give or take a quarter.
        host: The source of this host's boot clock, for tests.
        migrations: How older schemas become current, for tests.

    Raises:
        InputError: The URL cannot be read.
    """

    is_new: bool
    doubt: str | None
    journal_id: str

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
        super().__init__(scope, state_dir, poll_s)
        self._target = target_of(url)
        boot_us = (host or BootClock()).boot_us
        self._log = PostgresLog(self._target, scope, clock=clock, boot_us=boot_us, migrations=migrations)
        self._ids: dict[str, None] = {}  # asked for by this handle, oldest first
        self._turn = asyncio.Lock()
        self._listener: Listener | None = None

    @property
    def _place(self) -> str:
        return self._log.place

    @property
    def _last_seen(self) -> int:
        self._log.take_up_what_the_host_has_seen()
        return self._log.tip

    @property
    def _notifications(self) -> Listener | None:
        if self._listener is None and self._log.session.is_direct:  # a pooler lends a session to whoever comes next
            self._listener = Listener(self._target, self._log.channel, self._notifier)
        return self._listener

    async def open(self) -> None:
        """Make or open the log. Does nothing when it is open.

        Raises:
            JournalError: It cannot be used, with what to do.
        """
        if self._is_open:
            return
        self._pid, self._is_open = os.getpid(), True
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
        batch = await self._run(lambda: self._transact(after, decide, batch_id))
        return batch and await self._confirmed(batch)

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened, in one round trip. See `Journal.append`.

        Raises:
            JournalError: Nothing was recorded.
            JournalAmbiguous: The answer was lost: ask again with the same *batch_id*.
        """
        return await self._run(lambda: self._record(tuple(events), batch_id))

    async def read(self, after: int) -> Sequence[Batch]:
        """Return the batches after version *after*, in one round trip. See `Journal.read`.

        Raises:
            JournalError: The server cannot be asked, or its log does not reach *after*.
        """
        view = await self._run(lambda: self._log.look(after))
        if self._listener is not None:  # anybody may notify anything
            self._listener.notified = min(self._listener.notified, view.end)
        return view.missed

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*. See `Journal.checkpoint`.

        Raises:
            JournalError: Nothing was changed; or the log does not reach *version*; or the answer was lost, which does
                no harm.
        """
        await self._run(lambda: self._log.compact(version, state, keep_since_us))

    async def _is_changed(self, after: int) -> bool:
        return await self._run(self._log.last_version) > after

    # Calls, one at a time

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work* in its turn. Where the task is cancelled meanwhile, the driver first cancels what goes on."""
        self._check_usable()
        until_s = self._log.session.hold()  # the wait for the turn included
        async with self._turn:
            self._check_usable()
            self._log.session.until_s = until_s
            return await work()

    async def _transact(self, after: int, decide: Decide, batch_id: str) -> Batch | None:
        if batch_id in self._ids and (stored := await self._log.stored(batch_id)) is not None:
            return stored
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
                return self._notified_others(answer)
            view, is_read = answer, True
        return await self._transact_locked(after, decide, batch_id)

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
                    return self._notified_others(answer)
            finally:
                await self._log.unlock()
        raise JournalError(f"the server's clock goes back and forth: see to its time source ({self._log.place})")

    async def _record(self, events: tuple[Event, ...], batch_id: str) -> Batch:
        self._remember(batch_id)
        return self._notified_others(await self._log.record(events, batch_id))

    def _remember(self, batch_id: str) -> None:
        self._ids[batch_id] = None
        if len(self._ids) > _IDS_REMEMBERED:
            del self._ids[next(iter(self._ids))]

    def _notified_others(self, batch: Batch) -> Batch:
        self._notifier.notify()
        return batch


def _guessed(decide: Decide, view: View) -> tuple[Event, ...]:
    """Return what *decide* says of a copy that may be old; only what it appends will be checked."""
    try:
        return tuple(decide(view.missed, view.now_us))
    except Exception:  # noqa: BLE001 - it is asked again on what was read, and then what it raises is passed on
        return ()
