"""Usage of every documented quota, and whether a request fits beside it. Pure: no clock, no I/O.

`core.quota.ledger` keeps it by the events of a journal; here is what it counts with, and the decision. `decide` changes
nothing but what `advance` does, which is the passing of time.

Source of the quotas: https://moengage.com/docs/api/file-segments/create-file-segment, read 2026-08-01.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments import limits as documented
from moe_segments.core.events import ExternalUsage, Throttled
from moe_segments.core.quota.active_segments import ActiveSegments
from moe_segments.core.quota.call_limits import Pool, pools_for
from moe_segments.core.quota.decision import Cost, Decision, Granted, LimitState, Never, Unit, Wait
from moe_segments.core.quota.window import TRIM_AT, Hold, UsageHistory, Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from moe_segments.limits import QuotaLimits

__all__ = ["SECOND_US", "CallRow", "Quotas", "Row", "holds_of", "whole_us"]

SECOND_US: Final = 1_000_000
_GRANTED: Final = Granted()
_MOST: Final = 2**62


@attrs.define(eq=False, weakref_slot=False)
class Row:
    """A send that has not ended for good: the amounts it holds, and those it would take or free.

    Attributes:
        reserved_us: When it was reserved.
        operations: Its hold on operations; None when it spends none.
        users: Its hold on users; None when it spends none.
        archives: Name and identifier of the segment it frees when confirmed; None when it frees none.
        awaits_callback: Its users are held until the callback.
        life_us: How long its segment counts as active once made; None for ever.
    """

    reserved_us: int
    operations: Hold | None = None
    users: Hold | None = None
    archives: tuple[str, str | None] | None = None
    awaits_callback: bool = False
    life_us: int | None = None


@attrs.define(eq=False, weakref_slot=False)
class CallRow(Row):
    """One send that spends a call of the v3 API: a row of its own kind, so that the others are none the larger.

    Attributes:
        call: The call, one of `limits.CALL_LIMITS`.
        called: Its hold on that.
    """

    call: str = attrs.field(kw_only=True)
    called: Hold = attrs.field(kw_only=True)


class Quotas:
    """The usage under one set of limits."""

    late_us: int
    allowance_us: int
    operations: UsageHistory
    users: UsageHistory
    pools: Mapping[str, Pool]

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self.late_us, self.allowance_us = whole_us(limits.count_late_s), whole_us(limits.processing_allowance_s)
        self._users_late_us = self.late_us + self.allowance_us
        self._uploads = _uploads(limits)
        self.rows: dict[str, Row] = {}
        self.operations, self.users = UsageHistory(), UsageHistory()
        self.histories: tuple[UsageHistory, UsageHistory] = (self.operations, self.users)
        self.windows: tuple[Window, ...] = tuple(self._make_windows())
        self.pools = pools_for(limits)
        self.distinct_pools: tuple[Pool, ...] = tuple(dict.fromkeys(self.pools.values()))
        self._every_history = tuple(self.all_histories())
        spare = limits.headroom.get(documented.ACTIVE_SEGMENTS, 0) + limits.external_active_margin
        self.active: ActiveSegments = ActiveSegments(limits.active_segments - spare)
        self.external: list[ExternalUsage] = []
        self.quarantine: str | None = None

    def _make_windows(self) -> Iterator[Window]:
        for limit, unit, window_s in (
            (documented.OPERATIONS_PER_HOUR, Unit.OPERATION, self.limits.hour_s),
            (documented.OPERATIONS_PER_DAY, Unit.OPERATION, self.limits.day_s),
            (documented.USERS_PER_DAY, Unit.USER, self.limits.day_s),
        ):
            yield Window(
                self.histories[unit],
                limit=limit,
                unit=unit,
                capacity=getattr(self.limits, limit) - self.limits.headroom.get(limit, 0),
                span_us=whole_us(window_s + self.limits.guard_for(window_s)),
            )

    # Deciding

    def advance(self, now_us: int) -> None:
        """Let time pass up to *now_us*: bounds become ends, windows move on, segments expire.

        An engine may have a decision made at a time that turns out to lie ahead of its clock, and then at an earlier
        one: all that had passed in between counts again.
        """
        self.operations.advance(now_us)
        self.users.advance(now_us)
        self.active.advance(now_us)

    def advance_for_good(self, now_us: int) -> None:
        """Advance to the time of a batch and drop what is over: no later batch is earlier."""
        self.advance(now_us)
        self.active.forget_expired()
        for history in self._every_history:
            if len(history.us) >= TRIM_AT:
                history.trim(now_us)

    def decide(self, cost: Cost, now_us: int) -> Decision:
        """Return whether *cost* fits every limit at *now_us*, else until when not, else that it never will."""
        self.advance(now_us)
        latest_us, binding, amounts = 0, None, cost[:3]
        for window in self.windows:
            weight = amounts[window.unit]
            if not weight:
                continue
            if weight > window.capacity:
                return Never(window.limit, weight, window.capacity)
            until_us = self._blocked_until_us(window, weight, now_us)
            if until_us > latest_us:
                latest_us, binding = until_us, window
        if cost.call:
            for window in self.pool_at(cost.call, now_us).windows:
                until_us = self._blocked_until_us(window, 1, now_us)
                if until_us > latest_us:
                    latest_us, binding = until_us, window
        wait = (
            None
            if binding is None
            else Wait(latest_us, binding.limit, binding.used, cost.asks(binding.unit), binding.capacity)
        )
        if cost.segments:
            wait = self._decide_active(cost.segments, now_us, wait)
        return wait or _GRANTED

    def never(self, cost: Cost) -> Never | None:
        """Return the limit that *cost* is larger than; None when it is not."""
        for window in self.windows:
            weight = cost.rows if window.unit == Unit.USER else cost.operations
            if weight > window.capacity:
                return Never(window.limit, weight, window.capacity)
        return None

    def room(self, now_us: int) -> Room:
        """Return what is free of every limit at *now_us*."""
        self.advance(now_us)
        free = [_MOST, _MOST]
        for window in self.windows:
            free[window.unit] = min(free[window.unit], window.free(now_us))
        active = self.active
        segments = 0 if now_us < active.full_until_us else active.capacity - active.used
        return Room(self, now_us, free[0], free[1], segments)

    @staticmethod
    def _blocked_until_us(window: Window, weight: int, now_us: int) -> int:
        """Return when *weight* fits this window; 0 when it does now."""
        history = window.history
        sums = history.sums
        over = sums[-1] - sums[window.head] + history.held + weight - window.capacity
        if now_us < (closed_us := window.closed_until_us):
            return max(closed_us, window.fits_at_us(over, now_us)) if over > 0 else closed_us
        if over > 0:
            return window.fits_at_us(over, now_us)
        if window.probing and history.holds:
            return window.probe_ends_us(now_us)
        return 0

    def _decide_active(self, segments: int, now_us: int, wait: Wait | None) -> Wait | None:
        active = self.active
        over = active.used + segments - active.capacity
        if over <= 0 and now_us >= active.full_until_us:
            return wait
        until_us = active.fits_at_us(over, now_us)
        if wait is not None and wait.until_us is not None and until_us is not None and until_us <= wait.until_us:
            return wait
        return Wait(until_us, documented.ACTIVE_SEGMENTS, active.used, segments, active.capacity)

    def pool_at(self, call: str, now_us: int) -> Pool:
        """Return the pool of a call, as of now: it moves on when it is looked at, so that nobody else pays for it."""
        pool = self.pools[call]
        pool.history.advance(now_us)
        return pool

    def _history_of(self, row: CallRow) -> UsageHistory:
        return self.pools[row.call].history

    def all_windows(self) -> Iterator[Window]:
        """Return every window: of file operations, of users, of calls."""
        yield from self.windows
        for pool in self.distinct_pools:
            yield from pool.windows

    def quarantine_at(self, now_us: int) -> str | None:
        """Return why windows are taken to be full at *now_us* for want of history; None where none is."""
        is_on = any(window.quarantined_until_us > now_us for window in self.all_windows())
        return self.quarantine if is_on else None

    def usage(self, now_us: int) -> tuple[LimitState, ...]:
        """Return every limit at *now_us*."""
        self.advance(now_us)
        for pool in self.distinct_pools:
            pool.history.advance(now_us)
        windows = tuple(self._window_state(window, now_us) for window in self.windows)
        calls = (self._window_state(window, now_us) for pool in self.distinct_pools for window in pool.windows)
        active = self.active
        return (
            *windows,
            LimitState(
                documented.ACTIVE_SEGMENTS,
                active.used,
                active.pending,
                active.external,
                active.capacity,
                active.next_release_us(),
                active.full_until_us if active.full_until_us > now_us else 0,
            ),
            *calls,
        )

    def _window_state(self, window: Window, now_us: int) -> LimitState:
        oldest_us = now_us - window.span_us
        external = sum(_amount(usage, window.unit) for usage in self.external if usage.at_us > oldest_us)
        closed_us = window.closed_until_us
        return LimitState(
            window.limit,
            window.used,
            window.history.held,
            external,
            window.capacity,
            window.next_release_us(now_us),
            closed_us if closed_us > now_us else 0,
        )

    def throttle_for(self, named_capacity: int | None, wait_us: int | None, now_us: int, call: str = "") -> Throttled:
        """Return what to take as full after a 429 that we did not foresee.

        Args:
            named_capacity: The capacity the answer named, which may tell the hour from the day; None if none.
            wait_us: How long the answer asked to wait; None: a probe when the oldest own row expires, at the
                latest one window after receipt.
            now_us: The journal's time.
            call: The call that was refused; empty for a file operation.
        """
        self.advance(now_us)
        windows: Sequence[Window] = [window for window in self.windows if window.unit is Unit.OPERATION]
        if call:
            windows = self.pool_at(call, now_us).windows
        named = [window for window in windows if getattr(self.limits, window.limit) == named_capacity]
        window = named[0] if named else max(windows, key=lambda window: window.used / window.capacity)
        if wait_us is not None:
            return Throttled(window.limit, now_us + max(wait_us, window.least_pause_us()))
        latest_us = now_us + window.span_us
        release_us = window.next_release_us(now_us)
        return Throttled(window.limit, min(latest_us, release_us or latest_us), probe=True)

    def all_histories(self) -> Iterator[UsageHistory]:
        """Return every history: of file operations, of users, of calls."""
        yield from self.histories
        for pool in self.distinct_pools:
            yield pool.history


@attrs.frozen
class Room:
    """The room of every limit at one moment.

    Attributes:
        quotas: The limits.
        now_us: The moment.
        operations: File-segment operations.
        rows: Users.
        segments: Active segments.
    """

    quotas: Quotas
    now_us: int
    operations: int
    rows: int
    segments: int

    def takes(self, cost: Cost) -> bool:
        """Return whether *cost* fits, whoever else waits."""
        operations, rows, segments, call = cost
        if operations and operations > self.operations:
            return False
        if rows and rows > self.rows:
            return False
        if segments and segments > self.segments:
            return False
        if not call:
            return True
        return all(window.free(self.now_us) > 0 for window in self.quotas.pool_at(call, self.now_us).windows)


def holds_of(row: Row) -> tuple[Hold, ...]:
    """Return all that a row holds."""
    holds = (row.operations, row.users, row.called if isinstance(row, CallRow) else None)
    return tuple(hold for hold in holds if hold is not None)


def _amount(usage: ExternalUsage, unit: int) -> int:
    if unit == Unit.CALL:
        return 0  # nobody can say how many of them others made
    return usage.operations if unit == Unit.OPERATION else usage.rows


def _uploads(limits: QuotaLimits) -> frozenset[str]:
    """Return the operations whose callback may find users of which none were declared."""
    kinds = {
        "create": True,
        "add": True,
        "remove": limits.remove_counts_users,
        "replace": limits.replace_counts_users,
    }
    return frozenset(kind for kind, counts in kinds.items() if counts)


def whole_us(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return round(seconds * SECOND_US)
