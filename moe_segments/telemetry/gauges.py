"""Metrics of what the journal holds: usage of the limits, jobs that have not ended, callbacks that are awaited.

And of what the outbox of a client holds: membership changes that wait.

They are read when somebody collects metrics: in the event loop by `await refresh()`, from any other thread by
`current()`, which asks the loop and waits. In the loop's own thread `current()` cannot wait, so it returns what was
read last and has it read again. No read takes longer than a few seconds: a server that does not answer, such as a
frozen one, must not hold up the metrics of the whole process, nor be shown as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import ref

from moe_segments.errors import InputError, MoeSegmentsError
from moe_segments.models import JobState
from moe_segments.telemetry.metrics import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from moe_segments.core.events import Event as Fact
    from moe_segments.core.quota.decision import LimitState
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal.replica import Replica
    from moe_segments.telemetry.emitter import Consumer, Waiting

__all__ = ["Gauges", "Source", "read", "samples_of", "samples_of_waiting", "source_of"]

_SECOND_US: Final = 1_000_000
_FRESH_S: Final = 1.0  # several metrics that are collected together are read together
_WITHIN_S: Final = 5.0
_STATES: Final = ("waiting", "reserved", "awaiting_callback", "overdue", "unknown")


class Source(Protocol):
    """The events of a client or a receiver, and the journals behind it."""

    @property
    def consumers(self) -> Sequence[Consumer]:
        """Who is told already."""

    def subscribe(self, consumer: Consumer) -> Callable[[], None]:
        """Tell *consumer* of events from now on. Returns what ends that."""

    def replicas(self) -> Mapping[str, Replica]:
        """Return the journals that are open, by scope."""

    async def memberships(self) -> Sequence[Waiting]:
        """Return how far each segment is behind its membership changes."""


class Gauges:
    """What is known of the journals of several clients and receivers."""

    def __init__(self) -> None:
        self._sources: list[ref[Source]] = []  # which their clients hold: a closed one is not kept
        self._read: dict[str, tuple[Sample, ...]] = {}
        self._read_s: dict[asyncio.AbstractEventLoop, float] = {}  # when the journals of each loop were read
        self._refreshing: asyncio.Task[None] | None = None

    def watch(self, watched: object, consumer: Consumer) -> None:
        """Read the journals of a client or a receiver, too, and tell *consumer* of its events, once.

        Raises:
            InputError: It is neither.
        """
        source = source_of(watched)
        if consumer not in source.consumers:
            source.subscribe(consumer)
        if source not in (known := self._watched()):
            self._sources = [ref(one) for one in (*known, source)]

    async def refresh(self) -> None:
        """Read the journals and outboxes of this event loop. One that cannot be read in time has no metrics."""
        loop = asyncio.get_running_loop()
        here = [(scope, replica) for scope, replica in self._replicas().items() if replica.loop is loop]
        await asyncio.gather(*(self._refresh_one(scope, replica, loop) for scope, replica in here))
        self._note_read(loop)

    async def _refresh_one(self, scope: str, replica: Replica, loop: asyncio.AbstractEventLoop) -> None:
        samples: tuple[Sample, ...] = ()
        with suppress(MoeSegmentsError, TimeoutError):
            async with asyncio.timeout(_WITHIN_S):
                samples = await read(scope, replica)
                samples = (*samples, *await self._waiting(scope, loop))
        if samples:
            self._read[scope] = samples
        else:
            self._read.pop(scope, None)

    def _note_read(self, loop: asyncio.AbstractEventLoop) -> None:
        self._read_s = {one: read_s for one, read_s in self._read_s.items() if not one.is_closed()}
        self._read_s[loop] = time.monotonic()

    async def _waiting(self, scope: str, loop: asyncio.AbstractEventLoop) -> list[Sample]:
        """Return the metrics of membership changes that wait. Clients that share an outbox have the same ones."""
        waiting: dict[str, Waiting] = {}
        for source in self._watched():
            replica = source.replicas().get(scope)
            if replica is not None and replica.loop is loop:
                with suppress(MoeSegmentsError):
                    waiting |= {one.name: one for one in await source.memberships()}
        return list(samples_of_waiting(scope, waiting.values()))

    def current(self) -> list[Sample]:
        """Return what the journals hold: now, or in the thread of their event loop as it was read last."""
        stale_s = time.monotonic() - _FRESH_S
        for loop in {replica.loop for replica in self._replicas().values()}:
            if loop is not None and loop.is_running() and self._read_s.get(loop, stale_s) <= stale_s:
                self._refresh_in(loop)
        open_now = self._replicas()
        return [sample for scope, samples in tuple(self._read.items()) if scope in open_now for sample in samples]

    def _refresh_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is _running_loop():
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = loop.create_task(self.refresh())
            return
        reading = asyncio.run_coroutine_threadsafe(self.refresh(), loop)
        try:
            reading.result(_WITHIN_S + _FRESH_S)
        except (TimeoutError, FutureCancelledError):  # the loop is busy, or ends: what was read last has to do
            reading.cancel()
            self._note_read(loop)  # each gauge of one collection asks, and the next one need not wait as long again

    def _replicas(self) -> dict[str, Replica]:
        return {scope: replica for source in self._watched() for scope, replica in source.replicas().items()}

    def _watched(self) -> list[Source]:
        return [source for one in self._sources if (source := one()) is not None]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def source_of(watched: object) -> Source:
    """Return the events of a client or a receiver.

    Raises:
        InputError: It is neither.
    """
    events: Any = getattr(watched, "events", None)
    if not (hasattr(events, "subscribe") and hasattr(events, "replicas")):
        raise InputError(f"must be a SegmentsClient or a CallbackReceiver, not {type(watched).__name__}", "watched")
    source: Source = events
    return source


async def read(scope: str, replica: Replica) -> tuple[Sample, ...]:
    """Return the metrics of one journal, as it stands now.

    Raises:
        JournalError: It cannot be read.
    """

    def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Fact], tuple[Sample, ...]]:
        records = state.jobs.records.values()
        waiting = sum(1 for _ in state.claims.standing(now_us))
        return (), tuple(samples_of(scope, state.ledger.usage(now_us), records, waiting=waiting, now_us=now_us))

    return await replica.ask(question)


def samples_of(
    scope: str, limits: Iterable[LimitState], records: Iterable[JobRecord], *, waiting: int, now_us: int
) -> Iterator[Sample]:
    """Yield the metrics of one journal.

    Args:
        scope: Whose quota it is.
        limits: Its limits, as they are now.
        records: Its jobs.
        waiting: How many wait for quota.
        now_us: The journal's time.
    """
    for state in limits:
        labels = scope, state.limit
        yield Sample("moe_segments.quota.used", state.used, labels)
        yield Sample("moe_segments.quota.capacity", state.capacity, labels)
        yield Sample("moe_segments.quota.pending", state.pending, labels)
        yield Sample("moe_segments.quota.external", state.external, labels)
        if state.next_release_us is not None:
            yield Sample("moe_segments.quota.next_release", _seconds_until(state.next_release_us, now_us), labels)
        yield Sample("moe_segments.quota.closed", _seconds_until(state.closed_until_us, now_us), labels)
    found = Counter({"waiting": waiting})
    oldest_us = now_us
    for record in records:
        state_now = _state_of(record, now_us)
        if state_now is not None:
            found[state_now] += 1
            if state_now == "awaiting_callback":
                oldest_us = min(oldest_us, record.since_us)
    for name in _STATES:
        yield Sample("moe_segments.jobs", found[name], (scope, name))
    yield Sample("moe_segments.callbacks.oldest", (now_us - oldest_us) / _SECOND_US, (scope,))


def samples_of_waiting(scope: str, waiting: Iterable[Waiting]) -> Iterator[Sample]:
    """Yield the metrics of membership changes that wait.

    Args:
        scope: Whose quota they are to spend.
        waiting: How far each segment is behind.
    """
    for status in waiting:
        labels = scope, status.name
        yield Sample("moe_segments.membership.lag", status.lag_s, labels)
        yield Sample("moe_segments.membership.pending", status.pending, labels)


def _state_of(record: JobRecord, now_us: int) -> str | None:
    """Return the state of a job that has not ended; None for any other."""
    if record.settled or record.state == JobState.PLANNED:
        return None
    state = record.state_at(now_us)
    if state == JobState.ACCEPTED:
        return "awaiting_callback" if now_us < record.busy_until_us else "overdue"
    return "reserved" if state == JobState.RESERVED else "unknown"


def _seconds_until(at_us: int, now_us: int) -> float:
    return max(0.0, (at_us - now_us) / _SECOND_US)
