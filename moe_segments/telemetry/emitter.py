"""Tell events to consumers. A consumer that raises is logged once, and changes nothing.

Consumers are plain functions, called in the event loop, in the order in which they were added; they must not block.
An event is made only when somebody consumes it. A consumer that is a `Tracing` is also entered around the send of each
request, and asked for the trace context that the journal keeps with a job.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import contextmanager
from types import CoroutineType
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Protocol, TypeAlias, TypeVar

from moe_segments.errors import InputError
from moe_segments.telemetry import events as told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from moe_segments.journal.local.outage import Outage
    from moe_segments.journal.replica import Replica
    from moe_segments.telemetry.events import Event, Sent
    from moe_segments.telemetry.logs import LogConsumer

__all__ = ["Consumer", "Consumers", "Events", "Tracing", "Waiting", "consumers_of", "guarded", "tell_outages"]

P = ParamSpec("P")
T = TypeVar("T")
Consumer: TypeAlias = "Callable[[Event], object]"
Consumers: TypeAlias = "Consumer | Sequence[Consumer] | None"
_NOT_AWAITED: Final = (
    "must be a plain function: it is called in the event loop and not awaited; put what it is told into an "
    "asyncio.Queue to await something for it"
)
# A plain function is never cancelled: a `CancelledError` of it is one of a future of its own.
_FAILURES: Final = (Exception, asyncio.CancelledError)
_log = logging.getLogger("moe_segments.events")


class Tracing(ABC):
    """A consumer that also traces: its span is current while a request is sent, and the journal keeps its context."""

    @abstractmethod
    def __call__(self, event: Event) -> object:
        """Take in an event."""

    @abstractmethod
    def around(self, sent: Sent) -> AbstractContextManager[object]:
        """Return a context manager for the send that *sent* tells of."""

    @abstractmethod
    def trace_of(self, job: str) -> str | None:
        """Return the W3C `traceparent` of a job's operation; None where it has none."""


def consumers_of(on_event: object) -> tuple[Consumer, ...]:
    """Return the consumers of an argument `on_event`: one function, several, or None.

    Raises:
        InputError: One is no function, or one to be awaited.
    """
    several = on_event if isinstance(on_event, Sequence) else () if on_event is None else (on_event,)
    for consumer in several:
        if not callable(consumer):
            raise InputError(f"must be a function of one event, or several, not {type(consumer).__name__}", "on_event")
        _refuse_awaited(consumer, "on_event")
    return tuple(several)


def guarded(listener: object, field: str) -> Callable[[object], None]:
    """Return a function that tells a function of the caller's, which changes nothing by what it raises.

    Args:
        listener: The function, of one value. The first exception that it raises is logged.
        field: The parameter that it came in.

    Raises:
        InputError: It is no function, or one to be awaited.
    """
    if not callable(listener):
        raise InputError(f"must be a plain function of one value, not {type(listener).__name__}", field)
    _refuse_awaited(listener, field)
    has_failed = False

    def tell(value: object) -> None:
        nonlocal has_failed
        try:
            _hand(value, listener, field)
        except _FAILURES as error:  # what it does is its own affair
            if not has_failed:
                has_failed = True
                _log.error("%s=%r failed; its further failures are not logged", field, listener, exc_info=error)

    return tell


class Waiting(Protocol):
    """The membership changes of a segment that are not applied yet, as far as metrics tell of them."""

    @property
    def name(self) -> str:
        """Return the segment's name."""

    @property
    def lag_s(self) -> float:
        """Return the age of the oldest change, seconds."""

    @property
    def pending(self) -> int:
        """Return how many values wait."""


class Events:
    """Who is told of the events of one client or receiver.

    Args:
        scope: What every event says of itself.
        consumers: Who is told, after the log.
        log: The log; None for none.

    Attributes:
        scope: Whose quota the events concern.
        sent_here: Jobs that were sent from here and have not ended.
    """

    scope: str

    def __init__(self, scope: str, consumers: Iterable[Consumer] = (), *, log: LogConsumer | None = None) -> None:
        self.scope, self._log = scope, log
        self._consumers = tuple(consumers)
        self._tracing = tuple(consumer for consumer in self._consumers if isinstance(consumer, Tracing))
        self._failed: set[int] = set()  # consumers whose failure is logged
        self._replica: Replica | None = None
        self._statuses: Callable[[], Awaitable[Sequence[Waiting]]] | None = None
        self.sent_here: set[str] = set()

    def __repr__(self) -> str:
        return f"Events({self.scope!r}, consumers={len(self._consumers)})"

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """Return who is told, besides the log."""
        return self._consumers

    def subscribe(self, consumer: Consumer) -> Callable[[], None]:
        """Tell *consumer* of events from now on. Returns what ends that.

        Args:
            consumer: A plain function of one event. It is called in the event loop and must not block.

        Raises:
            InputError: It is no function, or one to be awaited.
        """
        self._set((*self._consumers, *consumers_of(consumer)))
        return lambda: self._set(tuple(one for one in self._consumers if one is not consumer))

    @contextmanager
    def reading(self, replica: Replica) -> Iterator[None]:
        """Let metrics read a journal while inside, for as long as it is open."""
        self._replica = replica
        try:
            yield
        finally:
            self._replica = None

    def replicas(self) -> Mapping[str, Replica]:
        """Return the journal by its scope, while it is open; for metrics."""
        return {} if self._replica is None else {self.scope: self._replica}

    def waiting_in(self, statuses: Callable[[], Awaitable[Sequence[Waiting]]]) -> None:
        """Let metrics ask for the membership changes that wait in an outbox from now on."""
        self._statuses = statuses

    async def memberships(self) -> Sequence[Waiting]:
        """Return how far each segment is behind its membership changes; none where no outbox is used. For metrics.

        Raises:
            NotSent: The client is closed.
            OutboxError: The outbox cannot be read.
        """
        return () if self._statuses is None else await self._statuses()

    def _set(self, consumers: tuple[Consumer, ...]) -> None:
        self._consumers = consumers
        self._tracing = tuple(consumer for consumer in consumers if isinstance(consumer, Tracing))

    def hears(self, kind: object) -> bool:
        """Return whether anybody takes in an event of this kind, so that it is worth making."""
        return bool(self._consumers) or (self._log is not None and self._log.hears(kind))

    def emit(self, kind: Callable[Concatenate[str, P], Event], *args: P.args, **fields: P.kwargs) -> None:
        """Tell an event of *kind* with these fields, without its scope."""
        if self.hears(kind):
            self.tell(kind(self.scope, *args, **fields))

    def tell(self, event: Event, *, but: Sequence[Consumer] = ()) -> None:
        """Tell *event* to the log and to every consumer, those left out who heard of it elsewhere."""
        if self._log is not None:
            self._log(event)
        for consumer in self._consumers:
            if consumer in but:
                continue
            try:
                _hand(event, consumer, "on_event")
            except _FAILURES as error:  # what a consumer does is its own affair
                self._complain(consumer, error)

    @contextmanager
    def around(self, sent: Sent) -> Iterator[None]:
        """Tell of a send, and have the span of every tracing consumer current inside."""
        self.tell(sent)
        entered: list[tuple[Tracing, AbstractContextManager[object]]] = []
        for consumer in self._tracing:
            with self._guarded(consumer):
                context = consumer.around(sent)
                context.__enter__()
                entered.append((consumer, context))
        try:
            yield
        finally:
            for consumer, context in reversed(entered):
                with self._guarded(consumer):
                    context.__exit__(*sys.exc_info())  # what it returns must not hide how the send ended

    def trace_of(self, job: str) -> str | None:
        """Return the trace context to keep with a job; None where nobody traces it."""
        for consumer in self._tracing:
            with self._guarded(consumer):
                if (trace := consumer.trace_of(job)) is not None:
                    return trace
        return None

    @contextmanager
    def _guarded(self, consumer: object) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:  # as above
            self._complain(consumer, error)

    def _complain(self, consumer: object, error: BaseException) -> None:
        """Log the first failure of a consumer with its traceback, and nothing of further ones."""
        if id(consumer) not in self._failed:
            self._failed.add(id(consumer))
            _log.error("%r failed on an event; its further failures are not logged", consumer, exc_info=error)


def _refuse_awaited(listener: Callable[..., object], field: str) -> None:
    """Refuse a function that would have to be awaited.

    Raises:
        InputError: It is one.
    """
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
        raise InputError(_NOT_AWAITED, field)


def _hand(value: T, listener: Callable[[T], object], field: str) -> None:
    """Hand an event or another value over.

    Raises:
        InputError: The function returned a coroutine, as one that only looks like a plain function does.
    """
    returned = listener(value)
    if isinstance(returned, CoroutineType):
        returned.close()
        raise InputError(_NOT_AWAITED, field)


def tell_outages(outage: Outage, tell: Callable[[Event], None], scope: str) -> None:
    """Tell of the outages of a journal as they are warned of, and of their end."""
    outage.on_warning = lambda reason: tell(told.JournalUnavailable(scope, reason=reason))
    outage.on_end = lambda away_s: tell(told.JournalAvailable(scope, away_s=away_s))
