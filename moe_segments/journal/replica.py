"""Keep the folded state of one journal current, and group concurrent requests into one append.

One flush at a time: everything that was asked since the last one becomes one durable step, so a hundred tasks
share one fsync. A failed step fails each of its askers and changes nothing. The state is touched only inside
a flush (by the engine's thread while `transact` runs, by the event loop otherwise), so nobody else may change
it, and what the loop reads of it between flushes is whole.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeAlias, TypeVar

from moe_segments.core.events import (
    Adopted,
    Answered,
    Checkpoint,
    KeyAccepted,
    KeyRejected,
    NeverSent,
    OwnerGone,
    Reserved,
    Throttled,
    Unclaimed,
    Unknown,
)
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import InputError, JournalAmbiguous, JournalError, JournalReplaced, JournalUnavailable
from moe_segments.journal.local.outage import AWAY, Outage
from moe_segments.journal.retry_ambiguous import retry_ambiguous
from moe_segments.journal.subscribers import Subscribers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_segments.core.events import Batch, Event
    from moe_segments.journal.protocol import Decide, Journal
    from moe_segments.limits import QuotaLimits

__all__ = ["Question", "Replica"]

T = TypeVar("T")
Question: TypeAlias = "Callable[[WorkspaceState, int], tuple[Sequence[Event], T]]"

_WATCH_S: Final = 3_600.0  # the engine looks as often as it is set to
_AFTER_FAILURE_S: Final = 1.0
_ANSWERS_WITHIN_S: Final = 2.0  # else a journal is taken for away by those who ask how it is
_CHECKPOINT_EVERY: Final = 2_000  # batches
_FOLDED_AT_ONCE: Final = 200  # batches, in one step of the loop
_KEEP_IDS_US: Final = 3_600 * 1_000_000  # how long a batch id may be asked again
# What became of sends that were under way when the log moved: whoever moves it carries that over, too.
_OF_SENDS: Final = (
    *(Answered, NeverSent, Unknown, OwnerGone, Adopted),
    *(Throttled, KeyRejected, KeyAccepted, Unclaimed),
)
_Run: TypeAlias = "tuple[Sequence[Event], object, bool, Exception | None]"
_log = logging.getLogger("moe_segments.journal")


class _FarBehindError(Exception):
    """So much was missed that it is read first, in steps that let the loop go on."""


class _Asked(Generic[T]):
    __slots__ = ("answer", "answered", "events", "failure", "future", "question")

    def __init__(self, question: Question[T], future: asyncio.Future[T]) -> None:
        self.question, self.future = question, future
        self.events: Sequence[Event] = ()
        self.answer: T | None = None
        self.answered = False
        self.failure: Exception | None = None

    @property
    def run(self) -> _Run:
        """Return how the last run answered it, to be put back."""
        return self.events, self.answer, self.answered, self.failure

    @run.setter
    def run(self, run: _Run) -> None:
        self.events, self.answer, self.answered, self.failure = run  # type: ignore[assignment]  # its own answer


class Replica:
    """The current state of one journal, and the way to change it.

    Args:
        journal: The engine.
        limits: What the state is folded with.
        compacts: Write checkpoints; not for one whose limits may be others than the clients'.

    Attributes:
        state: The folded state; read it, never change it.
        journal: The engine.
        subscribers: Whoever is told when the state changes.
        outage: What warns of a journal that cannot be used.
    """

    journal: Journal

    def __init__(self, journal: Journal, limits: QuotaLimits, *, compacts: bool = True) -> None:
        self.journal, self._compacts = journal, compacts
        self.state: WorkspaceState = WorkspaceState(limits)
        self._facts: list[tuple[Sequence[Event], asyncio.Future[int]]] = []
        self._asked: list[_Asked[object]] = []
        self._refreshing: list[asyncio.Future[None]] = []
        self._flush: asyncio.Task[None] | None = None
        self.subscribers: Subscribers = Subscribers()
        self._read_at = 0, 0.0
        self._loop: asyncio.AbstractEventLoop | None = None  # kept, as a job is also shown where no loop runs
        self._id_prefix, self._ids = f"{os.urandom(8).hex()}-", 0
        self._watchers = 0
        self._watch: asyncio.Task[None] | None = None
        self._checkpointed = 0
        self._pid = os.getpid()
        self._home: asyncio.AbstractEventLoop | None = None  # where it was opened
        self.outage: Outage = Outage()
        self._replaced: JournalReplaced | None = None

    async def open(self) -> None:
        """Open the journal and read it to its end.

        Raises:
            JournalError: It cannot be used.
        """
        await self.journal.open()
        self._pid, self._home, self._replaced = os.getpid(), asyncio.get_running_loop(), None
        await self.refresh()
        self._checkpointed = self.state.version

    async def close(self) -> None:
        """Finish what was asked, then let go of the journal."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        while self._flush is not None:
            await asyncio.wait([self._flush])
        self.subscribers.fail(
            JournalError("the journal was closed while its news was awaited; open it again and ask for the job")
        )
        await self.journal.close()

    def now_us(self) -> int:
        """Return the journal's time as known without asking: that of the last answer plus what has passed."""
        read_us, loop_s = self._read_at
        if not read_us or self._loop is None:
            return self.state.now_us
        return max(self.state.now_us, read_us + round((self._loop.time() - loop_s) * 1_000_000))

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._id_prefix}{self._ids:x}"

    # Asking and telling

    async def ask(self, question: Question[T]) -> T:
        """Put *question* to the state at the journal's own time; what events it returns are durable on return.

        *question* may run in another thread and more than once. Reservations among its events are to be tried on the
        state, see `WorkspaceState.try_reserve`; nothing else of the state may be changed.

        Raises:
            JournalError: Nothing is granted. What was decided may have been written all the same, where the engine
                cannot tell; then it counts until its lease.
        """
        self._begin()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(question, future))  # type: ignore[arg-type]  # answers go back to their own asker
        return await future

    async def record(self, *events: Event) -> int:
        """Write down what happened. Returns the journal's time of it, microseconds.

        The events are on their way when this first waits: a caller that is cancelled then has still reported them.

        Raises:
            JournalError: It may or may not be written.
        """
        self._begin()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._facts.append((events, future))
        return await future

    async def refresh(self) -> None:
        """Read what other processes have written meanwhile. Callers at the same time share one read.

        Raises:
            JournalError: The journal cannot be read.
        """
        self._begin()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refreshing.append(future)
        await future

    # Health

    async def check(self, timeout_s: float = _ANSWERS_WITHIN_S) -> None:
        """Return when the journal answers and is the one that was opened. For readiness probes.

        Args:
            timeout_s: Longest wait for its answer, seconds.

        Raises:
            JournalError: It does not answer, has moved, or is another one; the message says what helps.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.refresh()
        except TimeoutError:
            raise JournalUnavailable(
                f"the journal did not answer within {timeout_s:g} s: see whether its server is up"
            ) from None
        if self.state.barred is not None:
            raise self.state.barred

    async def until_replaced(self) -> NoReturn:
        """Wait until the journal turns out to be another one than was opened, which is watched meanwhile.

        Raises:
            JournalReplaced: The journal is another one now.
            JournalError: It was closed.
        """
        self._refuse_replaced()
        with self.watching():
            await self.subscribers.end()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the event loop that it was opened in; None before."""
        return self._home

    @property
    def is_replaced(self) -> bool:
        """Return whether the journal is another one than was opened, so that nothing works any more."""
        return self._replaced is not None

    def _refuse_replaced(self) -> None:
        if self._replaced is not None:
            raise self._replaced

    def _failed(self, error: Exception) -> None:
        """Note that a call failed. One that says that the journal is another one is the last: tell everybody."""
        if not isinstance(error, JournalReplaced) or self._replaced is not None:
            return
        self._replaced = error
        _log.error("this process cannot go on with its journal: %s", error)
        self.subscribers.fail(error)
        self.subscribers.tell_change()

    # Watching

    async def job_changed(self, job: str) -> None:
        """Return when the journal says something new of this job, through whichever process.

        Raises:
            JournalMoved: It goes on elsewhere, so nothing new will be heard here.
            JournalReplaced: It is another journal than was opened.
        """
        self.check_place()
        self._refuse_replaced()
        if self.state.barred is not None:
            raise self.state.barred
        with self.watching():
            await self.subscribers.news_of(job)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notice other processes' changes while inside."""
        self._watchers += 1
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._watch_journal())
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._watch is not None:
                self._watch.cancel()
                self._watch = None

    async def _watch_journal(self) -> None:
        """Read on as the journal changes, whatever fails meanwhile, until it is closed or found to be another one."""
        while self._replaced is None:
            try:
                if await self.journal.changed(self.state.version, _WATCH_S):
                    await self.refresh()
                self.outage.over()
            except Exception as error:  # noqa: BLE001 - whoever waits would wait for ever
                self._failed(error)
                self._warn_of_outage(error)
                await asyncio.sleep(_AFTER_FAILURE_S * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

    def _warn_of_outage(self, error: Exception) -> None:
        if isinstance(error, JournalReplaced):  # which was said
            return
        mistake = None if isinstance(error, JournalError) else error
        kind = "mistake" if mistake else AWAY
        self.outage.warn(kind, "the journal cannot be read, and is tried again: %s", error, error=mistake)

    # Flushing

    def check_place(self) -> None:
        """Refuse a call from where this cannot work.

        Raises:
            JournalError: From a child process that was forked after the journal was opened.
            InputError: From another event loop than that it was opened in.
        """
        if os.getpid() != self._pid:
            raise JournalError("this journal was opened before a fork; open a client of its own in the child process")
        if self._home is not None and self._home is not asyncio.get_running_loop():
            raise InputError("belongs to another event loop; each loop needs a client of its own", "client")

    def _begin(self) -> None:
        """See to it that what is queued now, before anybody else runs, is flushed."""
        self._refuse_replaced()
        self.check_place()
        if self._flush is None:
            self._flush = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._facts or self._asked or self._refreshing or self._checkpoint_is_due:
                await self._flush_facts()
                await self._flush_asked()
                await self._flush_refreshing()
                self.subscribers.tell(is_barred=self.state.barred is not None)
                await self._checkpoint_if_due()
        except Exception as error:  # noqa: BLE001 - whoever asked would wait for ever
            self.outage.warn("mistake", "a step of the journal failed: %s", error, error=error)
            self._fail_everybody(error)
        finally:
            self._flush = None

    def _fail_everybody(self, error: Exception) -> None:
        facts, self._facts = self._facts, []
        asked, self._asked = self._asked, []
        refreshing, self._refreshing = self._refreshing, []
        _fail([future for _, future in facts], error)
        _fail([one.future for one in asked], error)
        _fail(refreshing, error)

    async def _flush_facts(self) -> None:
        facts, self._facts = self._facts, []
        if not facts:
            return
        events = [event for reported, _ in facts for event in reported]
        batch_id = self._new_id()
        try:
            batch = await retry_ambiguous(lambda: self.journal.append(events, batch_id=batch_id), self._warn_of_doubt)
            await self._catch_up(batch)
        except Exception as error:  # noqa: BLE001 - handed to each who reported
            self._failed(error)
            _fail([future for _, future in facts], error)
            return
        self.outage.over()
        for reported, future in facts:
            try:
                self._refuse_if_moved(reported)
            except JournalError as error:
                _fail([future], error)
            if not future.done():
                future.set_result(batch.at_us)

    def _refuse_if_moved(self, reported: Sequence[Event]) -> None:
        """Refuse facts that were recorded after the log had moved: only outcomes of sends are carried over."""
        if self.state.barred is not None and not all(isinstance(event, _OF_SENDS) for event in reported):
            raise self.state.barred

    async def _catch_up(self, batch: Batch) -> None:
        if batch.version == self.state.version + 1:
            self._fold([batch])
            return
        try:
            await self._read_on()
        except JournalError as error:  # it says that nothing was recorded, and means the read
            raise JournalAmbiguous(f"written, but what others wrote before it cannot be read: {error}") from error

    async def _flush_asked(self) -> None:
        asked, self._asked = self._asked, []
        if not asked:
            return
        try:
            self._decided(await self._transact(asked))
        except Exception as error:  # noqa: BLE001 - handed to each who asked
            self._failed(error)
            self.state.take_back()
            _fail([one.future for one in asked], error)
            return
        self.outage.over()
        self._asked[:0] = [one for one in asked if not one.answered]
        for one in asked:
            if one.answered:
                _deliver(one)

    def _warn_of_doubt(self, text: str) -> None:
        self.outage.warn("doubt", "%s", text)

    async def _transact(self, asked: Sequence[_Asked[object]]) -> Batch | None:
        """Decide and append. Where an answer was lost, whoever asked gets the answer of the run that was written."""
        decide, batch_id = self._decision_on(asked), self._new_id()
        lost: list[list[_Run]] = []

        async def call() -> Batch | None:
            while True:
                try:
                    return await self.journal.transact(self.state.version, decide, batch_id=batch_id)
                except _FarBehindError:
                    await self._read_on()
                except JournalAmbiguous:
                    lost.append([one.run for one in asked])
                    raise

        batch = await retry_ambiguous(call, self._warn_of_doubt)
        if lost and batch is not None:
            _put_back(asked, lost, batch)
        return batch

    def _decision_on(self, asked: Sequence[_Asked[object]]) -> Decide:
        self._loop = asyncio.get_running_loop()

        def decide(missed: Sequence[Batch], now_us: int) -> Sequence[Event]:
            self.state.take_back()
            if len(missed) > _FOLDED_AT_ONCE or (missed and _is_long(missed[0])):
                raise _FarBehindError
            self._hear(missed, now_us)
            events: list[Event] = []
            is_shown = True  # whether the state shows all of *events*: reservations are tried on it, nothing else is
            for one in asked:
                one.answered = is_shown
                if is_shown:
                    _answer(one, self.state, now_us)
                    events += one.events
                    for event in one.events:
                        is_shown = is_shown and isinstance(event, Reserved)
            return events

        return decide

    def _hear(self, missed: Sequence[Batch], now_us: int) -> None:
        """Fold what others wrote, and take the journal's time, before anything is decided."""
        assert self._loop is not None  # set by who asks
        self._fold(missed)
        self._read_at = now_us, self._loop.time()

    def _decided(self, batch: Batch | None) -> None:
        if batch is None:
            self.state.take_back()
        elif self.state.keep(batch):
            for event in batch.events:
                if isinstance(event, Reserved):
                    self.subscribers.note_reservation(event.job)
        else:
            self.state.take_back()
            self._fold([batch])

    async def _flush_refreshing(self) -> None:
        refreshing, self._refreshing = self._refreshing, []
        if not refreshing:
            return
        try:
            await self._read_on()
        except Exception as error:  # noqa: BLE001 - handed to each who asked
            self._failed(error)
            _fail(refreshing, error)
            return
        self.outage.over()
        for future in refreshing:
            if not future.done():
                future.set_result(None)

    async def _read_on(self) -> None:
        """Read and fold what was missed, however much, in steps that let the loop go on."""
        for number, batch in enumerate(await self.journal.read(self.state.version), 1):
            for _ in self.state.folding(batch):
                await asyncio.sleep(0)
            self.subscribers.note(batch)
            if not number % _FOLDED_AT_ONCE:
                await asyncio.sleep(0)

    def _fold(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self.state.fold(batch)
            self.subscribers.note(batch)

    @property
    def _checkpoint_is_due(self) -> bool:
        written = self.state.version - self._checkpointed
        if written < _CHECKPOINT_EVERY or not self._compacts:
            return False
        # A checkpoint costs as much as there are jobs, so it comes the less often the more there are.
        return written >= len(self.state.jobs.records) and self.state.barred is None

    async def _checkpoint_if_due(self) -> None:
        if not self._checkpoint_is_due:
            return
        self._checkpointed = self.state.version
        from moe_segments.core.state.checkpoint import checkpoint_of  # a short-lived client makes none

        head, parts = self.state.taking()
        made = []
        for part in parts:  # nothing is folded meanwhile: this is within a flush
            made.append(part)
            await asyncio.sleep(0)
        try:
            await self.journal.checkpoint(
                self.state.version, checkpoint_of(head, made), keep_since_us=self.state.now_us - _KEEP_IDS_US
            )
        except JournalError as error:
            self._failed(error)
            self.outage.warn("compaction", "the journal was not compacted, it goes on growing: %s", error)


def _is_long(batch: Batch) -> bool:
    return isinstance(batch.events[0], Checkpoint)


def _answer(one: _Asked[T], state: WorkspaceState, now_us: int) -> None:
    if state.barred is not None:
        one.events, one.failure = (), state.barred
        return
    try:
        one.events, one.answer = one.question(state, now_us)
        one.failure = None
    except Exception as error:  # noqa: BLE001 - one asker's mistake is not the others'
        one.events, one.failure = (), error


def _put_back(asked: Sequence[_Asked[object]], lost: Sequence[Sequence[_Run]], batch: Batch) -> None:
    """Let each asker's answer be that of the run whose events *batch* holds: the last one, or one that was lost."""
    for runs in ([one.run for one in asked], *reversed(lost)):
        if tuple(event for events, _, answered, _ in runs if answered for event in events) == batch.events:
            for one, run in zip(asked, runs, strict=True):
                one.run = run
            return
    raise JournalAmbiguous("the journal holds another decision under this one's name; nothing is granted: ask again")


def _deliver(one: _Asked[object]) -> None:
    if one.future.done():
        return
    if one.failure is not None:
        one.future.set_exception(one.failure)
    else:
        one.future.set_result(one.answer)


def _fail(futures: Sequence[asyncio.Future[T]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
