"""Values of the governor: usage, planned starts, grants, and refusals with every fact."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.state.verdicts import Ask, Busy, Deferred, KeyBad, NameUsed, TooLarge, Verdict
from moe_segments.errors import (
    AuthenticationFailed,
    Forbidden,
    MoeSegmentsError,
    NameTaken,
    QuotaExceeded,
    QuotaNeverFits,
    SegmentBusy,
)

if TYPE_CHECKING:
    from moe_segments.core.quota.decision import LimitState
    from moe_segments.models import FilterOperation, Operation

__all__ = ["Grant", "LimitUsage", "PlannedStart", "at", "moment_of", "name_taken", "refusal_for", "usage_of"]

_SECOND_US: Final = 1_000_000
_UNAUTHORIZED: Final = 401


@attrs.frozen(kw_only=True)
class Grant:
    """Leave to send one request once.

    Attributes:
        job: The job.
        attempt: The number of this send within the job; job and attempt name the row.
        send_by_s: When the request must have started, on the governor's clock, seconds.
        lease_s: When the row counts as ended although nothing was heard, on the same clock, seconds.
        at_us: When it was granted, journal microseconds.
    """

    job: str
    attempt: int
    send_by_s: float
    lease_s: float
    at_us: int


@attrs.frozen(kw_only=True)
class LimitUsage:
    """One limit, now.

    Attributes:
        limit: Its name, a field of `QuotaLimits`.
        used: What counts against it, in-flight operations included.
        pending: How much of that is in flight or waits for its callback.
        external: How much of that somebody else spent, as recorded or observed.
        capacity: What it allows, headroom and margin taken off.
        remaining: What is left of it now; 0 while it is closed.
        next_release: When the next of it is free at the earliest, aware UTC; None when nothing is used.
        closed_until: Taken to be full until then by a 429 or a quarantine, aware UTC; None when it is not.
    """

    limit: str
    used: int
    pending: int
    external: int
    capacity: int
    remaining: int
    next_release: datetime | None
    closed_until: datetime | None


@attrs.frozen(kw_only=True)
class PlannedStart:
    """The planned start of one operation.

    Attributes:
        operation: The operation.
        start: The earliest moment, aware UTC; None when nothing known will let it start.
        limit: The limit it waits for last; None when it can start now.
        wait_s: Seconds from now to *start*; infinite when that is None.
    """

    operation: Operation | FilterOperation
    start: datetime | None
    limit: str | None
    wait_s: float


def refusal_for(
    verdict: Verdict, now_us: int, patience_s: float, ask: Ask, shift_us: int = 0
) -> MoeSegmentsError | None:
    """Return the error for a verdict that is no admission, or None while there is patience left for it.

    Args:
        verdict: What was decided.
        now_us: When, journal microseconds.
        patience_s: How long the caller would still wait, seconds.
        ask: What was asked for.
        shift_us: How much the wall clock is ahead of the journal's.
    """
    match verdict:
        case Deferred():
            return _exceeded(verdict, now_us, patience_s, shift_us)
        case Busy():
            return _busy(verdict, now_us, patience_s, ask, shift_us)
        case TooLarge(never):
            return QuotaNeverFits(never.limit, never.requested, never.capacity)
        case KeyBad(status):
            return _rejected_key(status)
        case NameUsed():
            return name_taken(str(ask.operation["name"]), verdict)
        case _:
            return None


def name_taken(name: str, used: NameUsed) -> NameTaken:
    """Return the error for a create of a name that is used up."""
    return NameTaken(name, used.job, used.cs_id)


def _exceeded(later: Deferred, now_us: int, patience_s: float, shift_us: int) -> QuotaExceeded | None:
    wait, start_us = later.wait, later.start_us
    if 0 < patience_s >= _seconds(start_us, now_us):
        return None
    if start_us is not None and start_us <= now_us:  # it fits, and could delay others until what is in flight ends
        start_us = wait.until_us
    wait_s, ready_at = _seconds(start_us, now_us), moment_of(start_us, shift_us)
    return QuotaExceeded(wait.limit, wait.used, wait.requested, wait.capacity, ready_at, wait_s)


def _seconds(at_us: int | None, now_us: int) -> float:
    return math.inf if at_us is None else max(0.0, (at_us - now_us) / _SECOND_US)


def _busy(busy: Busy, now_us: int, patience_s: float, ask: Ask, shift_us: int) -> SegmentBusy | None:
    until_us = now_us if busy.until_us is None else busy.until_us
    wait_s = _seconds(until_us, now_us)
    if patience_s > 0 and not (busy.in_line and wait_s > patience_s):
        return None
    return SegmentBusy(ask.keys[0], busy.job, at(until_us + shift_us), wait_s)


def _rejected_key(status: int) -> MoeSegmentsError:
    kind, title = (AuthenticationFailed, "Unauthorized") if status == _UNAUTHORIZED else (Forbidden, "Forbidden")
    return kind(
        status,
        title,
        "not sent: the service answered this to this key before; use another key, or call list_segments once "
        "when the key works again",
    )


def usage_of(state: LimitState, shift_us: int = 0) -> LimitUsage:
    """Return a limit as people read it, on a wall clock that is so much ahead of the journal's."""
    closed = moment_of(state.closed_until_us or None, shift_us)
    return LimitUsage(
        limit=state.limit,
        used=state.used,
        pending=state.pending,
        external=state.external,
        capacity=state.capacity,
        remaining=0 if closed else max(0, state.capacity - state.used),
        next_release=moment_of(state.next_release_us, shift_us),
        closed_until=closed,
    )


def moment_of(at_us: int | None, shift_us: int = 0) -> datetime | None:
    """Return a journal time as aware UTC, on a wall clock that is so much ahead of the journal's; None stays None."""
    return None if at_us is None else at(at_us + shift_us)


def at(at_us: int) -> datetime:
    """Return a journal time as aware UTC."""
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)
    except OverflowError:  # a segment may expire in millions of years
        return datetime.max.replace(tzinfo=UTC)
