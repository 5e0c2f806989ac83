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

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from moe_segments import limits as documented
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
from moe_segments.core.quota.decision import Cost, Decision, Granted, LimitState, Never, Unit, Wait
from moe_segments.core.quota.usage import SECOND_US, CallRow, Quotas, Row, holds_of, whole_us
from moe_segments.core.quota.window import SILENT_US, Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_segments.limits import QuotaLimits

__all__ = ["CallRow", "Cost", "Decision", "Granted", "Ledger", "LimitState", "Never", "Row", "Unit", "Wait", "life_us"]

_MOST: Final = 2**40  # weight of one entry at most, whatever a log says: running sums are 64 bits
_KEEP_US: Final = 30 * 86_400 * SECOND_US  # how long a callback may be late and still re-stamp its users


class Ledger(Quotas):
    """The usage of every limit, folded from the events of one journal."""

    def fold(self, event: Event, at_us: int) -> None:
        """Take in one event of a batch stamped *at_us*."""
        fold = _FOLDS.get(type(event))
        if fold is not None:  # events about jobs and keys spend nothing
            fold(self, event, at_us)

    def reserve(self, event: Reserved, at_us: int) -> None:
        """Hold what one send may spend, with its end in case nobody ever reports one."""
        operation, lease_us = event.operation, at_us + event.fence_us + event.timeout_us + self.late_us
        if event.call in self.pools:  # any other is one that a later version counts
            self._reserve_call(event, at_us, lease_us)
            return
        row = self.rows[event.row] = Row(
            at_us,
            archives=_segment_of(operation) if operation.get("op") == "archive" else None,
            awaits_callback=event.token_sha256 is not None,
            life_us=None if event.expiry_days is None else life_us(event.expiry_days, self.limits),
        )
        if event.operations:
            row.operations = Hold(event.operations, lease_us, self.late_us)
            self.operations.hold(row.operations)
        if event.rows or (row.awaits_callback and operation.get("op") in self._uploads):  # it may find some
            row.users = Hold(event.rows, lease_us + self.allowance_us, self._users_late_us)
            self.users.hold(row.users)
        if event.segments:
            self.active.take(event.row, *_segment_of(operation), _plus(lease_us, row.life_us))

    def _reserve_call(self, event: Reserved, at_us: int, lease_us: int) -> None:
        row = CallRow(at_us, call=event.call, called=Hold(1, lease_us, self.late_us))
        self.rows[event.row] = row
        self._history_of(row).hold(row.called)
        if event.segments:
            self.active.take(event.row, *_segment_of(event.operation), None)

    def restamp(self, row_id: str, by_us: int) -> None:
        """Move a reservation by *by_us*: it became durable that much later than it was decided."""
        row = self.rows[row_id]
        row.reserved_us += by_us
        for hold in holds_of(row):
            hold.bound_us += by_us
        self.active.later(row_id, by_us)

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
            self._history_of(row).release(row.called)
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
            self._history_of(row).settle(row.called, at_us)
        else:
            self._history_of(row).release(row.called)

    def _refused(self, row_id: str, row: Row) -> None:
        if row.users:
            self.users.release(row.users)
        self.active.free(row_id)
        del self.rows[row_id]

    def _end_probing(self, row: Row) -> None:
        for window in chain(self.windows, self.pools[row.call].windows if isinstance(row, CallRow) else ()):
            if window.strikes and row.reserved_us >= window.throttled_until_us:
                window.probing, window.strikes = False, 0

    def _hold_users(self, row_id: str, row: Row, from_us: int) -> None:
        """Users count from the file's processing, which nobody tells us but the callback."""
        bound_us = from_us + self.allowance_us
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
        counted_us = at_us + self.late_us
        if row.operations:
            self.operations.settle(row.operations, counted_us)
        if isinstance(row, CallRow):
            self._history_of(row).settle(row.called, counted_us)
            if not self.active.holds(row_id):  # a read: nothing more can be heard of it
                del self.rows[row_id]
        if row.users:
            self.users.rebound(row.users, counted_us + self.allowance_us, SILENT_US)
        self.active.prolong(row_id, _plus(counted_us, row.life_us))

    def _callback(self, event: CallbackReceived, at_us: int) -> None:
        row_id = _row_of(event)
        row = self.rows.get(row_id)
        if row is None or event.outcome == "unparsed":  # which may be about anything, so nothing ends by it
            return
        # The file was processed, so the operation was counted before now, whatever we had to assume until here.
        if row.operations and (row.operations.u_us is None or row.operations.u_us > at_us):
            self.operations.settle(row.operations, at_us)
        if row.users and event.outcome == "failed":
            self.users.release(row.users)
        elif row.users:
            self.users.settle(row.users, at_us, self._rows_found(row.users.weight, event.values_found))
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
            history = self.pool_at(row.call, at_us).history
            if row.called.u_us is None or row.called.u_us > at_us:
                history.settle(row.called, at_us)
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

    def kept_as(self, limit: str) -> str:
        """Return the name under which a limit of calls is kept here: another process may not have shared its pool."""
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
        self.external: list[ExternalUsage] = [usage for usage in self.external if usage.at_us > now_us - longest_us]


def _row_of(event: NeverSent | Answered | Unknown | CallbackReceived | Adopted) -> str:
    return event.job if event.attempt == 1 else row_of(event.job, event.attempt)


def _segment_of(operation: Mapping[str, object]) -> tuple[str, str | None]:
    return str(operation.get("name", "")), _text(operation.get("cs_id"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def life_us(expiry_days: int, limits: QuotaLimits) -> int:
    """Return how long a segment counts as active once it was made."""
    return whole_us(expiry_days * limits.expiry_day_s + limits.expiry_slack_s)


def _plus(from_us: int, life_us: int | None) -> int | None:
    return None if life_us is None else from_us + life_us


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
