"""Limits of v3 calls: pools with windows of a minute, an hour and a day. Pure.

List and create state the same figures and do not say whether they share them: taken to be shared, unless the limits say
otherwise. Then both names stand for one pool. What is written down names the call, so that a reader with other limits
counts it in its own pools.

Source: https://moengage.com/docs/api/filter-segments/list-segments and its neighbours, read 2026-08-01.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments import limits as documented
from moe_segments.core.quota.decision import Unit
from moe_segments.core.quota.window import UsageHistory, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.limits import QuotaLimits

__all__ = ["Pool", "pools_for"]

_SECOND_US: Final = 1_000_000


class Pool:
    """Calls that share their windows.

    Attributes:
        calls: The calls, such as "list".
        history: When they counted.
        windows: A minute, an hour and a day of them.
    """

    __slots__ = ("calls", "history", "windows")

    calls: tuple[str, ...]
    history: UsageHistory

    def __init__(self, calls: tuple[str, ...], limits: QuotaLimits) -> None:
        self.calls, self.history = calls, UsageHistory()
        self.windows: tuple[Window, ...] = tuple(
            Window(
                self.history,
                limit=names[0],
                unit=Unit.CALL,
                capacity=min(getattr(limits, name) - limits.headroom.get(name, 0) for name in names),
                span_us=round((window_s + limits.guard_for(window_s)) * _SECOND_US),
            )
            for names, window_s in zip(
                zip(*(documented.CALL_LIMITS[call] for call in calls), strict=True),
                (limits.minute_s, limits.hour_s, limits.day_s),
                strict=True,
            )
        )

    @property
    def key(self) -> str:
        """Return what a checkpoint calls it."""
        return "+".join(self.calls)


def pools_for(limits: QuotaLimits) -> Mapping[str, Pool]:
    """Return the pool of each call."""
    shared = (documented.LIST_CALLS, documented.CREATE_FILTER_CALLS)
    groups = (shared,) if limits.filter_calls_shared else ((shared[0],), (shared[1],))
    pools = [Pool(calls, limits) for calls in (*groups, (documented.GET_CALLS,))]
    return {call: pool for pool in pools for call in pool.calls}
