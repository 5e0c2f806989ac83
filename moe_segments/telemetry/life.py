"""The life of one submission, told as events: submitted, reserved, sent, answered, and one end.

Times are measured on the event loop's clock.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moe_segments.errors import AnswerShapeError, JournalError, MoeSegmentsError, NotSent, OutcomeUnknown
from moe_segments.models import JobState
from moe_segments.telemetry import events as told
from moe_segments.types import Unset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.errors import TooManyRequests
    from moe_segments.models import FilterOperation, Operation
    from moe_segments.telemetry.emitter import Events

__all__ = ["Life", "segment_of", "tell_found"]


def segment_of(operation: Mapping[str, object]) -> str | None:
    """Return the segment of an operation as the journal remembers it: its name, or `id:` and its identifier."""
    name, cs_id = operation.get("name"), operation.get("cs_id")
    if isinstance(name, str) and name:
        return name
    return f"id:{cs_id}" if cs_id else None


class Life:
    """The events of one submission. It ends once; a later end is not told.

    Args:
        events: Who is told.
        job: The job's identifier; None for a read.
        operation: What it does.
        segment: Its segment.
    """

    is_dispatched: bool
    is_over: bool

    __slots__ = ("_begun_s", "_events", "_job", "_operation", "_segment", "is_dispatched", "is_over")

    def __init__(self, events: Events, *, job: str | None, operation: str, segment: str | None) -> None:
        self._events, self._job, self._operation, self._segment = events, job, operation, segment
        self._begun_s = _now_s()
        self.is_over = self.is_dispatched = False

    @classmethod
    def of(cls, events: Events, job: str, operation: Operation | FilterOperation) -> Life:
        """Return the life of a job's submission."""
        name = None if isinstance(operation.name, Unset) else operation.name
        cs_id = getattr(operation, "cs_id", None)
        segment = name or (f"id:{cs_id}" if cs_id else None)
        return cls(events, job=job, operation=operation.op, segment=segment)

    @contextmanager
    def begun(self) -> Iterator[Life]:
        """Tell that it was submitted, and how it ends where that comes before it is dispatched."""
        self._events.emit(told.Submitted, job=self._job, operation=self._operation, segment=self._segment)
        try:
            yield self
        except BaseException as error:
            if not self.is_dispatched:
                self.end(error)
            raise

    def trace(self) -> str | None:
        """Return its trace context for the journal, as the W3C `traceparent` has it; None where nobody traces it."""
        return None if self._job is None else self._events.trace_of(self._job)

    def reserved(self, attempt: int, since_s: float) -> None:
        """Tell that its quota is held, for which it waited since a moment of the loop's clock."""
        if self._job is not None:
            self._events.sent_here.add(self._job)
        self._events.emit(
            told.Reserved,
            job=self._job,
            operation=self._operation,
            segment=self._segment,
            attempt=attempt,
            waited_s=_now_s() - since_s,
        )

    @contextmanager
    def sending(self, attempt: int, status: Callable[[], int | None]) -> Iterator[None]:
        """Tell that its request leaves, have the spans of who traces it current inside, and tell the answer.

        Args:
            attempt: The number of this send.
            status: Returns the HTTP status of the answer; None where none came.
        """
        if not (self._events.hears(told.Sent) or self._events.hears(told.Answered)):
            yield
            return
        begun_s = _now_s()
        sent = told.Sent(
            self._events.scope, job=self._job, operation=self._operation, segment=self._segment, attempt=attempt
        )
        with self._events.around(sent):
            yield
        if (answered := status()) is not None:
            self._events.emit(
                told.Answered,
                job=self._job,
                operation=self._operation,
                segment=self._segment,
                attempt=attempt,
                status=answered,
                took_s=_now_s() - begun_s,
            )

    def throttled(self, error: TooManyRequests, wait_s: float | None) -> None:
        """Tell of a 429 although the journal's count had room."""
        self._events.emit(
            told.Throttled,
            job=self._job,
            operation=self._operation,
            segment=self._segment,
            limit=error.limit,
            ready_at=error.ready_at,
            wait_s=wait_s,
        )

    def retried(self, reason: str, pause_s: float) -> None:
        """Tell that it is going to be sent again."""
        self._events.emit(
            told.Retried,
            job=self._job,
            operation=self._operation,
            segment=self._segment,
            reason=reason,
            pause_s=pause_s,
        )

    # Its end

    def accepted(self, cs_id: object) -> None:
        """Tell that the service accepted it. A read has no such end."""
        if self._is_first_end() and self._job is not None:
            self._events.emit(
                told.Accepted,
                job=self._job,
                operation=self._operation,
                segment=self._segment,
                cs_id=None if cs_id is None else str(cs_id),
                took_s=self._took_s(),
            )

    def attached(self, state: str) -> None:
        """Tell that the journal knows its job, so that it is not sent again."""
        if self._is_first_end():
            self._events.emit(
                told.Attached, job=self._job, operation=self._operation, segment=self._segment, state=state
            )

    def end(self, error: BaseException) -> None:
        """Tell how it ended, by the error that its caller gets."""
        if not self._is_first_end():
            return
        match error:
            case AnswerShapeError() if self._job is None:  # a read changes nothing
                self._refused(error)
            case OutcomeUnknown():
                self._unknown(error.reason, error.status)
            case NotSent():
                self._not_sent(error.reason)
            case JournalError():
                self._not_sent(str(error))
            case MoeSegmentsError():
                self._refused(error)
            case asyncio.CancelledError() if self._job is None:  # nobody misses what a read would have said
                pass
            case asyncio.CancelledError():
                self._not_sent("its caller went away before it was sent")
            case _:
                self._not_sent(f"a mistake in this program: {type(error).__name__}")

    def _is_first_end(self) -> bool:
        was_over, self.is_over = self.is_over, True
        return not was_over

    def _unknown(self, reason: str, status: int | None) -> None:
        self._events.emit(
            told.Unknown,
            job=self._job,
            operation=self._operation,
            segment=self._segment,
            reason=reason,
            status=status,
            took_s=self._took_s(),
        )

    def _not_sent(self, reason: str) -> None:
        self._events.emit(
            told.NotSent,
            job=self._job,
            operation=self._operation,
            segment=self._segment,
            reason=reason,
            took_s=self._took_s(),
        )

    def _refused(self, error: MoeSegmentsError) -> None:
        ready_at: datetime | None = getattr(error, "ready_at", None)
        wait_s: float | None = getattr(error, "wait_s", None)
        self._events.emit(
            told.Refused,
            job=self._job,
            operation=self._operation,
            segment=self._segment,
            error=type(error).__name__,
            reason=str(error),
            limit=getattr(error, "limit", None) or None,
            status=getattr(error, "status", None) or None,
            ready_at=ready_at,
            wait_s=None if wait_s == math.inf else wait_s,
            took_s=self._took_s(),
        )

    def _took_s(self) -> float:
        return _now_s() - self._begun_s


def tell_found(events: Events, record: JobRecord) -> None:
    """Tell what was found out of a job whose own process told nothing more: adopted, unknown or never sent."""
    job, operation, segment = record.id, str(record.operation.get("op")), segment_of(record.operation)
    if record.adopted:
        cs_id = (record.accepted or {}).get("cs_id")
        events.emit(
            told.Accepted,
            job=job,
            operation=operation,
            segment=segment,
            cs_id=None if cs_id is None else str(cs_id),
            adopted=True,
        )
    elif record.state == JobState.UNKNOWN:
        events.emit(told.Unknown, job=job, operation=operation, segment=segment, reason=record.reason or "")
    elif record.state == JobState.NOT_SENT:
        events.emit(told.NotSent, job=job, operation=operation, segment=segment, reason=record.reason or "")


def _now_s() -> float:
    return asyncio.get_running_loop().time()
