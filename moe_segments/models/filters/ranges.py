"""Time ranges and counts of an action filter. Pure.

Source: https://moengage.com/docs/api/filter-segments/create-filter-segment, read 2026-08-01.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from moe_segments.errors import InputError
from moe_segments.models.filters.rules import (
    EXECUTIONS,
    PERIOD_UNITS,
    RANGE_TYPES,
    VALUE_TYPES,
    first_moment,
    is_count,
    last_moment,
    moment_text,
    period_of,
    present,
    refuse_other,
)
from moe_segments.types import UNSET, Unset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime, tzinfo
    from typing import Self

__all__ = ["Execution", "TimeRange"]


@attrs.frozen(kw_only=True)
class Execution:
    """The number of times an action was executed.

    Attributes:
        type: "atleast", "exactly", "atmost", "firstTime" or "lastTime".
        count: How many times, from 0; 1 for the first and the last time.
        extra: Fields the documents do not name.
    """

    type: str = "atleast"
    count: int = 1
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        refuse_other(EXECUTIONS, self.type, "execution")
        if not is_count(self.count):
            raise InputError(f"must be a whole number from 0, not {self.count!r}", "count")

    def to_payload(self) -> dict[str, Any]:
        """Return the fields as they are sent."""
        return {"type": self.type, "count": self.count, **self.extra}


@attrs.frozen(kw_only=True)
class TimeRange:
    """The time range in which an action was executed.

    Make it with `in_the_last`, `between`, `on`, `before` or `after`. A datetime needs a zone and is sent as UTC; a date
    is a whole day of *zone*, so `between` two dates includes both, `before` ends before the day begins and `after`
    begins when it is over.

    Attributes:
        type: "inTheLast", "between", "on", "before" or "after".
        value_type: "absolute" or "relative_past".
        value: A moment as text, or how many units.
        value1: The end of `between`.
        period_unit: "days", "weeks" or "months"; "days" where the range is absolute.
        extra: Fields the documents do not name.
    """

    type: str
    value_type: str
    value: str | int
    value1: str | Unset = UNSET
    period_unit: str = "days"
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        for known, value, field in (
            (RANGE_TYPES, self.type, "primary_time_range"),
            (VALUE_TYPES, self.value_type, "value_type"),
            (PERIOD_UNITS, self.period_unit, "period_unit"),
        ):
            if value not in known:
                refuse_other(known, value, field)
        if not isinstance(self.value, str) and not is_count(self.value):
            raise InputError("must be text or a whole number", "value")
        if not isinstance(self.value1, str | Unset):
            raise InputError("must be text", "value1")
        if self.value1 is UNSET and self.type == "between":
            raise InputError("between needs two moments", "value1")

    @classmethod
    def in_the_last(cls, *, days: int | None = None, weeks: int | None = None, months: int | None = None) -> Self:
        """Return the last so many days, weeks or months, as seen when the segment is counted.

        Args:
            days: So many days; one of the three is given.
            weeks: So many weeks.
            months: So many months.

        Returns:
            The range.

        Raises:
            InputError: Not exactly one is given, or it is no whole number from 1.
        """
        count, unit = period_of(days, weeks, months)
        return cls(type="inTheLast", value_type="relative_past", value=count, period_unit=unit)

    @classmethod
    def between(cls, start: date | datetime, end: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the range from *start* to *end*, both included.

        Args:
            start: The first moment, an aware datetime, or the first day.
            end: The last moment, or the last day, as a whole.
            zone: Where a date's day begins; None for UTC.

        Returns:
            The range.

        Raises:
            InputError: A datetime has no zone, or *end* is before *start*.
        """
        first, last = _bounds(start, end, zone)
        return cls(type="between", value_type="absolute", value=first, value1=last)

    @classmethod
    def on(cls, day: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the range of one day.

        Args:
            day: The day, or an aware datetime in it.
            zone: Where a date's day begins; None for UTC.

        Returns:
            The range.

        Raises:
            InputError: A datetime has no zone, or something is no date.
        """
        return cls(type="on", value_type="absolute", value=_first(day, zone))

    @classmethod
    def before(cls, when: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the time before a moment, or before a day begins.

        Args:
            when: A moment, an aware datetime, or a day.
            zone: Where a date's day begins; None for UTC.

        Returns:
            The range.

        Raises:
            InputError: A datetime has no zone, or something is no date.
        """
        return cls(type="before", value_type="absolute", value=_first(when, zone))

    @classmethod
    def after(cls, when: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the time after a moment, or when a day is over.

        Args:
            when: A moment, an aware datetime, or a day.
            zone: Where a date's day begins; None for UTC.

        Returns:
            The range.

        Raises:
            InputError: A datetime has no zone, or something is no date.
        """
        return cls(type="after", value_type="absolute", value=_last(when, zone))

    def to_payload(self) -> dict[str, Any]:
        """Return the fields as they are sent.

        Returns:
            The fields, by the names of the documents.
        """
        fields = {
            "type": self.type,
            "value_type": self.value_type,
            "value": self.value,
            "value1": self.value1,
            "period_unit": self.period_unit,
        }
        return present(fields, self.extra)


def _first(when: date | datetime, zone: tzinfo | None) -> str:
    return moment_text(first_moment(when) if zone is None else first_moment(when, zone))


def _last(when: date | datetime, zone: tzinfo | None) -> str:
    return moment_text(last_moment(when) if zone is None else last_moment(when, zone))


def _bounds(start: date | datetime, end: date | datetime, zone: tzinfo | None) -> tuple[str, str]:
    first, last = _first(start, zone), _last(end, zone)
    if last < first:
        raise InputError(f"ends before it begins: {last} is before {first}")
    return first, last
