"""Decide whether a request fits every documented quota at once. Pure: no clock, no I/O.

The rules, and why they suffice, are in docs/why-the-windows-are-exact.md. In short: a row counts from its reservation;
once its outcome is known it counts until `u + window + guard`, where `u` is the journal's time after the outcome; a
row that nobody ended gets its lease as `u`. So an operation is admitted only when the service, which counted each
earlier one before its `u`, must have let go of enough of them.

Times are integer microseconds of the journal's clock. `fold` mutates the state it owns; `decide` changes nothing but
what `advance` does, which is the passing of time.

Source of the quotas: https://moengage.com/docs/api/file-segments/create-file-segment, read 2026-08-01.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments import limits as documented
from moe_segments.core.decisions import Cost, Decision, Granted, LimitState, Never, Unit, Wait
from moe_segments.core.events import (
    ActiveObserved,
    Adopted,
    Answered,
    CallbackReceived,
    Event,
    ExternalUsage,
    NeverSent,
    Quarantined,
    Reserved,
    Throttled,
    Trusted,
    Unknown,
    row_of,
)
from moe_segments.core.gauge import ActiveSegments
from moe_segments.core.pools import Pool, pools_for
from moe_segments.core.tape import SILENT_US, Hold, Tape, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from moe_segments.limits import QuotaLimits

__all__ = ["CallRow", "Cost", "Decision", "Granted", "Ledger", "LimitState", "Never", "Row", "Unit", "Wait"]

SECOND_US: Final = 1_000_000
_MOST: Final = 2**40  # weight of one entry at most, whatever a log says: running sums are 64 bits
_KEEP_US: Final = 30 * 86_400 * SECOND_US  # how long a callback may be late and still re-stamp its users


_GRANTED: Final = Granted()


@attrs.define(eq=False, weakref_slot=False)
class Row:
    """One send that has not ended for good: what it holds, and what it would take or free.

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


class Ledger:
    """What is spent, by the events of one journal, under one set of limits."""

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self._late_us, self._allowance_us = _us(limits.count_late_s), _us(limits.processing_allowance_s)
        self._users_late_us = self._late_us + self._allowance_us
        self._uploads = _uploads(limits)
        self.rows: dict[str, Row] = {}
        self.operations, self.users = Tape(), Tape()
        self.tapes = (self.operations, self.users)
        self.windows = tuple(self._make_windows())
        self.pools = pools_for(limits)
        self.distinct_pools = tuple(dict.fromkeys(self.pools.values()))
        self._every_tape = tuple(self.all_tapes())
        spare = limits.headroom.get(documented.ACTIVE_SEGMENTS, 0) + limits.external_active_margin
        self.active = ActiveSegments(max(0, limits.active_segments - spare))
        self.external: list[ExternalUsage] = []
        self.quarantine: str | None = None

    def _make_windows(self) -> Iterator[Window]:
        for limit, unit, window_s in (
            (documented.OPERATIONS_PER_HOUR, Unit.OPERATION, self.limits.hour_s),
            (documented.OPERATIONS_PER_DAY, Unit.OPERATION, self.limits.day_s),
            (documented.USERS_PER_DAY, Unit.USER, self.limits.day_s),
        ):
            yield Window(
                self.tapes[unit],
                limit=limit,
                unit=unit,
                capacity=getattr(self.limits, limit) - self.limits.headroom.get(limit, 0),
                span_us=_us(window_s + self.limits.guard_for(window_s)),
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
        """As `advance`, to the time of a batch: no later one is earlier, so what is over by then can go."""
        self.advance(now_us)
        self.active.forget_expired()
        for tape in self._every_tape:
            tape.trim(now_us)

    def decide(self, cost: Cost, now_us: int) -> Decision:
        """Whether *cost* fits every limit at *now_us*, else until when not, else that it never will."""
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
            for window in self._pool_at(cost.call, now_us).windows:
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

    @staticmethod
    def _blocked_until_us(window: Window, weight: int, now_us: int) -> int:
        """When *weight* fits this window; 0 when it does now."""
        tape = window.tape
        sums = tape.sums
        over = sums[-1] - sums[window.head] + tape.held + weight - window.capacity
        if now_us < window.throttled_until_us or now_us < window.quarantined_until_us:
            closed_us = max(window.throttled_until_us, window.quarantined_until_us)
            return max(closed_us, window.fits_at_us(over, now_us)) if over > 0 else closed_us
        if over > 0:
            return window.fits_at_us(over, now_us)
        if window.probing and tape.holds:
            ends_us = (hold.doubt_us if now_us < hold.doubt_us else hold.bound_us for hold in tape.holds)
            return max(now_us + 1, min(ends_us))
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

    def _pool_at(self, call: str, now_us: int) -> Pool:
        """The pool of a call, as of now: it moves on when it is looked at, so that nobody else pays for it."""
        pool = self.pools[call]
        pool.tape.advance(now_us)
        return pool

    def _tape_of(self, row: CallRow) -> Tape:
        return self.pools[row.call].tape

    def all_windows(self) -> Iterator[Window]:
        """Every window: of file operations, of users, of calls."""
        yield from self.windows
        for pool in self.distinct_pools:
            yield from pool.windows

    def usage(self, now_us: int) -> tuple[LimitState, ...]:
        """Every limit at *now_us*."""
        self.advance(now_us)
        for pool in self.distinct_pools:
            pool.tape.advance(now_us)
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
        closed_us = max(window.throttled_until_us, window.quarantined_until_us)
        return LimitState(
            window.limit,
            window.used,
            window.tape.held,
            external,
            window.capacity,
            window.next_release_us(now_us),
            closed_us if closed_us > now_us else 0,
        )

    def throttle_for(self, named_capacity: int | None, wait_us: int | None, now_us: int, call: str = "") -> Throttled:
        """What to take as full after a 429 that we did not foresee.

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
            windows = self._pool_at(call, now_us).windows
        named = [window for window in windows if getattr(self.limits, window.limit) == named_capacity]
        window = named[0] if named else max(windows, key=lambda window: window.used / window.capacity)
        if wait_us is not None:
            return Throttled(window.limit, now_us + max(wait_us, window.least_pause_us()))
        latest_us = now_us + window.span_us
        release_us = window.next_release_us(now_us)
        return Throttled(window.limit, min(latest_us, release_us or latest_us), probe=True)

    def projected(self, now_us: int) -> Ledger:
        """A copy in which everything in flight ends as soon as it can, for looking ahead."""
        self.advance(now_us)
        copy = Ledger(self.limits)
        for tape, ours in zip(copy.all_tapes(), self.all_tapes(), strict=True):
            tape.us, tape.sums = ours.us[:], ours.sums[:]
            for hold in ours.holds:
                tape.add(hold.expected_us(now_us), hold.weight)
        for window, our in zip(copy.all_windows(), self.all_windows(), strict=True):
            window.throttled_until_us, window.quarantined_until_us = (
                our.throttled_until_us,
                our.quarantined_until_us,
            )
        copy.active = self.active.copied()
        copy.advance(now_us)
        return copy

    def all_tapes(self) -> Iterator[Tape]:
        """Every tape: of file operations, of users, of calls."""
        yield from self.tapes
        for pool in self.distinct_pools:
            yield pool.tape

    def spend(self, cost: Cost, at_us: int, label: str) -> None:
        """Count *cost* as ended at *at_us*: what looking ahead does with each start."""
        for tape, amount in zip(self.tapes, (cost.operations, cost.rows), strict=True):
            if amount:
                tape.add(at_us, amount)
        if cost.call:
            self.pools[cost.call].tape.add(at_us, 1)
        for number in range(cost.segments):
            self.active.take(f"{label}/{number}", label, None, None)

    @contextmanager
    def at_their_longest(self, row_ids: Iterable[str]) -> Iterator[None]:
        """Inside, what these rows hold is taken to end as late as it can rather than as soon."""
        holds = [hold for row_id in row_ids for hold in _holds_of(self.rows[row_id])]
        silences = [(hold, hold.silence_us) for hold in holds]
        for hold, _ in silences:
            hold.silence_us = SILENT_US
        try:
            yield
        finally:
            for hold, silence_us in silences:
                hold.silence_us = silence_us

    # Folding: what happened

    def fold(self, event: Event, at_us: int) -> None:
        """Take in one event of a batch stamped *at_us*."""
        fold = _FOLDS.get(type(event))
        if fold is not None:  # events about jobs and keys spend nothing
            fold(self, event, at_us)

    def reserve(self, event: Reserved, at_us: int) -> None:
        """Hold what one send may spend, with its end in case nobody ever reports one."""
        operation, lease_us = event.operation, at_us + event.fence_us + event.timeout_us + self._late_us
        if event.call in self.pools:  # any other is one that a later version counts
            self._reserve_call(event, at_us, lease_us)
            return
        row = self.rows[event.row] = Row(
            at_us,
            archives=_segment_of(operation) if operation.get("op") == "archive" else None,
            awaits_callback=event.token_sha256 is not None,
            life_us=None if event.expiry_days is None else _life_us(event.expiry_days, self.limits),
        )
        if event.operations:
            row.operations = Hold(event.operations, lease_us, self._late_us)
            self.operations.hold(row.operations)
        if event.rows or (row.awaits_callback and operation.get("op") in self._uploads):  # it may find some
            row.users = Hold(event.rows, lease_us + self._allowance_us, self._users_late_us)
            self.users.hold(row.users)
        if event.segments:
            self.active.take(event.row, *_segment_of(operation), _plus(lease_us, row.life_us))

    def _reserve_call(self, event: Reserved, at_us: int, lease_us: int) -> None:
        row = CallRow(at_us, call=event.call, called=Hold(1, lease_us, self._late_us))
        self.rows[event.row] = row
        self._tape_of(row).hold(row.called)
        if event.segments:
            self.active.take(event.row, *_segment_of(event.operation), None)

    def restamp(self, row_id: str, by_us: int) -> None:
        """A row that was reserved just now became durable *by_us* later than it was decided."""
        row = self.rows[row_id]
        row.reserved_us += by_us
        for hold in _holds_of(row):
            hold.bound_us += by_us
        lease = self.active.leases.get(row_id)
        if lease is not None and lease.until_us is not None:
            self.active.prolong(row_id, lease.until_us + by_us)

    def forget(self, row_id: str) -> None:
        """Give everything back: it was provably never sent."""
        row = self.rows.pop(row_id, None)
        if row is None:
            return
        if row.operations:
            self.operations.release(row.operations)
        if row.users:
            self.users.release(row.users)
        if isinstance(row, CallRow):
            self._tape_of(row).release(row.called)
        self.active.free(row_id)

    def _answered(self, event: Answered, at_us: int) -> None:
        row_id = _row_of(event)
        row = self.rows.get(row_id)
        if row is None:
            return
        if row.operations and event.spends:
            self.operations.settle(row.operations, at_us)
        elif row.operations:
            self.operations.release(row.operations)
        if isinstance(row, CallRow):
            self._answered_call(row, event, at_us)
        if event.error is not None:
            self._refused(row_id, row)
            return
        if event.accepted is not None:
            self._end_probing(row)
            cs_id = _text(event.accepted.get("cs_id"))
            self.active.confirm(row_id, _plus(at_us, row.life_us), cs_id)
            if row.archives:
                name, asked_id = row.archives
                self.active.archive(name, asked_id or cs_id)
        self._hold_users(row_id, row, at_us)

    def _answered_call(self, row: CallRow, event: Answered, at_us: int) -> None:
        if event.spends:
            self._tape_of(row).settle(row.called, at_us)
        else:
            self._tape_of(row).release(row.called)

    def _refused(self, row_id: str, row: Row) -> None:
        if row.users:
            self.users.release(row.users)
        self.active.free(row_id)
        del self.rows[row_id]

    def _end_probing(self, row: Row) -> None:
        calls = self.pools[row.call].windows if isinstance(row, CallRow) else ()
        for window in (*self.windows, *calls):
            if window.strikes and row.reserved_us >= window.throttled_until_us:
                window.probing, window.strikes = False, 0

    def _hold_users(self, row_id: str, row: Row, from_us: int) -> None:
        """Users count from the file's processing, which nobody tells us but the callback."""
        bound_us = from_us + self._allowance_us
        if row.users and row.awaits_callback:
            self.users.rebound(row.users, bound_us, 0)
            return
        if row.users:
            self.users.settle(row.users, bound_us)
        if not row.awaits_callback:
            del self.rows[row_id]

    def _unknown(self, event: Unknown, at_us: int) -> None:
        row_id = _row_of(event)
        row = self.rows.get(row_id)
        if row is None:
            return
        counted_us = at_us + self._late_us
        if row.operations:
            self.operations.settle(row.operations, counted_us)
        if isinstance(row, CallRow):
            self._tape_of(row).settle(row.called, counted_us)
            if row_id not in self.active.leases:  # a read: nothing more can be heard of it
                del self.rows[row_id]
        if row.users:
            self.users.rebound(row.users, counted_us + self._allowance_us, SILENT_US)
        self.active.prolong(row_id, _plus(counted_us, row.life_us))

    def _callback(self, event: CallbackReceived, at_us: int) -> None:
        row_id = _row_of(event)
        row = self.rows.get(row_id)
        if row is None:
            return
        # The file was processed, so the operation was counted before now, whatever we had to assume until here.
        if row.operations and (row.operations.u_us is None or row.operations.u_us > at_us):
            self.operations.settle(row.operations, at_us)
        if row.users and event.outcome == "failed":
            self.users.release(row.users)
        elif row.users:
            self.users.settle(row.users, at_us, self._rows_found(row.users.weight, event.values_found))
        if event.outcome != "unparsed":
            self.active.confirm(row_id, _plus(at_us, row.life_us))
            del self.rows[row_id]

    def _rows_found(self, declared: int, found: int | None) -> int:
        if found is None or (found < declared and not self.limits.callback_lowers_users):
            return declared
        return min(found, _MOST)

    def _adopted(self, event: Adopted, at_us: int) -> None:
        row_id = _row_of(event)
        row = self.rows.get(row_id)
        if row is None:
            return
        if row.operations and (row.operations.u_us is None or row.operations.u_us > at_us):
            self.operations.settle(row.operations, at_us)
        if isinstance(row, CallRow):
            tape = self._pool_at(row.call, at_us).tape
            if row.called.u_us is None or row.called.u_us > at_us:
                tape.settle(row.called, at_us)
        self.active.confirm(row_id, _plus(at_us, row.life_us), event.cs_id)

    def _never_sent(self, event: NeverSent, _: int) -> None:
        self.forget(_row_of(event))

    def _spent_by_others(self, event: ExternalUsage, _: int) -> None:
        self.external.append(event)
        if event.operations:
            self.operations.add(event.at_us, min(event.operations, _MOST))
        if event.rows:
            self.users.add(event.at_us, min(event.rows, _MOST))

    def _observed(self, event: ActiveObserved, _: int) -> None:
        self.active.observe(event.count, authoritative=event.source != "hint")

    def _throttle(self, event: Throttled, at_us: int) -> None:
        if event.limit == documented.ACTIVE_SEGMENTS:
            self.active.full_until_us = max(self.active.full_until_us, event.until_us)
        limit = self.kept_as(event.limit)
        for window in self.all_windows():
            if window.limit == limit:
                window.strikes += at_us >= window.throttled_until_us  # those of one burst are one
                window.throttled_until_us = max(window.throttled_until_us, event.until_us)
                window.probing = event.probe

    def _quarantine(self, event: Quarantined, at_us: int) -> None:
        self.quarantine = event.reason
        for window in self.all_windows():
            window.quarantined_until_us = at_us + window.span_us

    def _trust(self, _: Trusted, __: int) -> None:
        self.quarantine = None
        for window in self.all_windows():
            window.quarantined_until_us = 0

    def postpone(self, by_us: int) -> None:
        """Let everything end so much later: it was stamped by a clock that is so much behind this log's."""
        tapes = (*self.tapes, *(pool.tape for pool in self.distinct_pools))
        held = {hold: None for tape in tapes for hold in tape.holds}
        for row in self.rows.values():
            held |= dict.fromkeys(_holds_of(row))
        for hold in held:
            hold.postpone(by_us)
        for tape in tapes:
            tape.postpone(by_us)
        for row in self.rows.values():
            row.reserved_us += by_us
        self.active.postpone(by_us)
        self.external = [attrs.evolve(usage, at_us=usage.at_us + by_us) for usage in self.external]

    def kept_as(self, limit: str) -> str:
        """The name under which a limit of calls is kept here: another process may not have shared its pool."""
        names = documented.CALL_LIMITS[documented.CREATE_FILTER_CALLS]
        if limit not in names or not self.limits.filter_calls_shared:
            return limit
        return documented.CALL_LIMITS[documented.LIST_CALLS][names.index(limit)]

    # Remembering

    def prune(self, now_us: int) -> None:
        """Drop what no window counts and no callback can change any more."""
        self.advance(now_us)
        for row_id in [row_id for row_id, row in self.rows.items() if row.reserved_us + _KEEP_US < now_us]:
            del self.rows[row_id]
        longest_us = max(window.span_us for window in self.windows)
        self.external = [usage for usage in self.external if usage.at_us > now_us - longest_us]


def _holds_of(row: Row) -> tuple[Hold, ...]:
    holds = (row.operations, row.users, row.called if isinstance(row, CallRow) else None)
    return tuple(hold for hold in holds if hold is not None)


def _row_of(event: NeverSent | Answered | Unknown | CallbackReceived | Adopted) -> str:
    return event.job if event.attempt == 1 else row_of(event.job, event.attempt)


def _segment_of(operation: Mapping[str, object]) -> tuple[str, str | None]:
    return str(operation.get("name", "")), _text(operation.get("cs_id"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _uploads(limits: QuotaLimits) -> frozenset[str]:
    """The operations whose callback may find users of which none were declared."""
    kinds = {
        "create": True,
        "add": True,
        "remove": limits.remove_counts_users,
        "replace": limits.replace_counts_users,
    }
    return frozenset(kind for kind, counts in kinds.items() if counts)


def _life_us(expiry_days: int, limits: QuotaLimits) -> int:
    return _us(expiry_days * limits.expiry_day_s + limits.expiry_slack_s)


def _amount(usage: ExternalUsage, unit: int) -> int:
    if unit == Unit.CALL:
        return 0  # nobody can say how many of them others made
    return usage.operations if unit == Unit.OPERATION else usage.rows


def _plus(from_us: int, life_us: int | None) -> int | None:
    return None if life_us is None else from_us + life_us


def _us(seconds: float) -> int:
    return round(seconds * SECOND_US)


_FOLDS: Final[dict[type[Event], Callable[[Ledger, Any, int], None]]] = {
    Reserved: Ledger.reserve,
    NeverSent: Ledger._never_sent,  # noqa: SLF001 - the class's own table, made after it
    Answered: Ledger._answered,  # noqa: SLF001
    Unknown: Ledger._unknown,  # noqa: SLF001
    CallbackReceived: Ledger._callback,  # noqa: SLF001
    Adopted: Ledger._adopted,  # noqa: SLF001
    ExternalUsage: Ledger._spent_by_others,  # noqa: SLF001
    ActiveObserved: Ledger._observed,  # noqa: SLF001
    Throttled: Ledger._throttle,  # noqa: SLF001
    Quarantined: Ledger._quarantine,  # noqa: SLF001
    Trusted: Ledger._trust,  # noqa: SLF001
}
