"""A plan: when each of many operations starts, what limits it, and how full the limits are meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

import attrs

from moe_segments.governor.usage import at
from moe_segments.types import Unset

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from moe_segments.core.quota.decision import Cost
    from moe_segments.governor.timeline import Bar
    from moe_segments.governor.usage import PlannedStart

__all__ = ["LimitForecast", "Plan"]


@attrs.frozen(kw_only=True)
class LimitForecast:
    """The usage of one limit from now on, if the plan is carried out.

    Attributes:
        limit: Its name, a field of `QuotaLimits`.
        capacity: What it allows, headroom and margin taken off.
        steps: From which moment, aware UTC, how much is used, ascending; each lasts until the next.
    """

    limit: str
    capacity: int
    steps: tuple[tuple[datetime, int], ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Plan(Sequence["PlannedStart"]):
    """The planned starts of operations, in the order they were asked for. A sequence of `PlannedStart`.

    Attributes:
        starts: One for each operation, as they were given.
        order: Their positions, in the order to submit them.
        made_at: When it was made, aware UTC.
    """

    starts: tuple[PlannedStart, ...]
    order: tuple[int, ...]
    made_at: datetime
    _costs: Sequence[Cost] = attrs.field(repr=False)  # of each operation
    _used: Sequence[tuple[str, int, Sequence[tuple[int, int]]]] = attrs.field(repr=False)  # limit, capacity, steps
    _shift_us: int = attrs.field(repr=False)

    @overload
    def __getitem__(self, index: int) -> PlannedStart: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PlannedStart, ...]: ...
    def __getitem__(self, index: int | slice) -> PlannedStart | tuple[PlannedStart, ...]:
        return self.starts[index]

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def limits(self) -> tuple[LimitForecast, ...]:
        """The limits that the operations use, over time."""
        return tuple(
            LimitForecast(
                limit=limit, capacity=capacity, steps=tuple((at(at_us + self._shift_us), used) for at_us, used in steps)
            )
            for limit, capacity, steps in self._used
        )

    @property
    def all_sent_by(self) -> datetime | None:
        """When the last operation that can start does, aware UTC; None where none can."""
        return max((start.start for start in self.starts if start.start is not None), default=None)

    @property
    def never(self) -> tuple[PlannedStart, ...]:
        """Those that nothing known will let start."""
        return tuple(start for start in self.starts if start.start is None)

    @property
    def operations(self) -> int:
        """How many file-segment operations the plan spends."""
        return sum(cost.operations for one, cost in zip(self.starts, self._costs, strict=True) if one.start is not None)

    @property
    def users(self) -> int:
        """How many users the plan spends."""
        return sum(cost.rows for one, cost in zip(self.starts, self._costs, strict=True) if one.start is not None)

    def to_svg(self, *, zone: tzinfo | None = None) -> str:
        """Return the plan as the text of an SVG file: a row for each operation, a lane for each limit.

        Args:
            zone: The time zone of what is written; None for the machine's.

        Returns:
            The text of the file.
        """
        from moe_segments.governor.timeline import Lane, draw

        bars = [_bar(self.starts[position], self._costs[position].rows) for position in self.order]
        lanes = [
            Lane(limit=one.limit, capacity=one.capacity, steps=[(at.timestamp(), used) for at, used in one.steps])
            for one in self.limits
        ]
        return draw(bars, lanes, now_s=self.made_at.timestamp(), zone=zone)


def _bar(start: PlannedStart, rows: int) -> Bar:
    from moe_segments.governor.timeline import Bar

    operation = start.operation
    name = getattr(operation, "cs_id", "") if isinstance(operation.name, Unset) else operation.name
    at_s = None if start.start is None else start.start.timestamp()
    return Bar(segment=str(name), op=operation.op, start_s=at_s, limit=start.limit, rows=rows)
