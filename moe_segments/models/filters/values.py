"""Filters as frozen values, sent as `included_filters` and decoded from answers. Pure.

A typed value always fits the documents: a combination that does not is refused when it is made. What the documents do
not know, such as other filter types, operators and shapes, is a `RawFilter` and stays untouched; fields they do not
know stay in `extra`. So whatever was read is sent again as it was: see `payloads.filter_from`.

Values combine: `a & b`, `a | b`, `~a`. Make them with `moe_segments.models.filters`.

Source: https://moengage.com/docs/api/filter-segments/create-filter-segment, read 2026-08-01. Groups inside groups and
references to segments are what the dashboard's *Segment Payload* holds; the documents only mention them.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from moe_segments.errors import InputError
from moe_segments.models.filters.ranges import Execution, TimeRange
from moe_segments.models.filters.rules import (
    FILTER_OPERATORS,
    NEEDS_NO_VALUE,
    present,
    problem_of_operator,
    refuse_blank,
    refuse_other,
)
from moe_segments.types import UNSET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime, tzinfo
    from typing import Self

__all__ = [
    "ACTIONS",
    "ATTRIBUTE_FILTERS",
    "NESTED",
    "SEGMENTS",
    "ActionFilter",
    "AttributeFilter",
    "Filter",
    "FilterGroup",
    "RawFilter",
    "SegmentFilter",
    "combined",
]

ATTRIBUTE_FILTERS: Final = ("user_attributes", "event_attributes")
ACTIONS: Final = "actions"
NESTED: Final = "nested_filters"
SEGMENTS: Final = "custom_segments"
_OPPOSITE: Final = {"and": "or", "or": "and"}


class _Combines:
    """`&`, `|` and `~` of filters."""

    __slots__ = ()

    def __and__(self, other: Filter) -> FilterGroup:
        return combined("and", (self, other))  # type: ignore[arg-type]  # each heir is a Filter

    def __or__(self, other: Filter) -> FilterGroup:
        return combined("or", (self, other))  # type: ignore[arg-type]  # each heir is a Filter

    def __invert__(self) -> Self:
        raise InputError(
            f"a {type(self).__name__} has no opposite: put it among the excluded_filters", "included_filters"
        )


def _frozen_value(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _thawed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _is_sendable(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is UNSET or isinstance(value, str | int)


@attrs.frozen(kw_only=True)
class AttributeFilter(_Combines):
    """Users, or occurrences of an action, by the value of an attribute.

    Attributes:
        name: The attribute.
        data_type: "string", "double", "datetime" or "bool".
        operator: One that fits the type, see `rules.OPERATORS`.
        value: What to compare with; UNSET for `exists` and `today`.
        value1: The second value of `between`.
        negate: The opposite is meant; None: not said, which the service takes for false.
        case_sensitive: Whether case matters; None: not said, which the service takes for false.
        filter_type: "user_attributes", as documented everywhere; the dashboard says "event_attributes" in an action.
        extra: Fields the documents do not name; sent as they are.

    Raises:
        InputError: The operator does not fit the type (it says which do), or a value is missing.
    """

    name: str
    data_type: str
    operator: str
    value: object = attrs.field(default=UNSET, converter=_frozen_value)
    value1: object = UNSET
    negate: bool | None = False
    case_sensitive: bool | None = None
    filter_type: str = ATTRIBUTE_FILTERS[0]
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        refuse_blank(self.name, "name")
        if self.filter_type not in ATTRIBUTE_FILTERS:
            refuse_other(ATTRIBUTE_FILTERS, self.filter_type, "filter_type")
        if problem := problem_of_operator(self.data_type, self.operator):
            raise InputError(f"{self.name}: {problem}", "operator")
        if self.value is UNSET and self.operator not in NEEDS_NO_VALUE:
            raise InputError(f"{self.name}: {self.operator} needs a value", "value")
        if self.value1 is UNSET and self.operator == "between":
            raise InputError(f"{self.name}: between needs two values", "value1")
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if not all(map(_is_sendable, values)) or not _is_sendable(self.value1):
            raise InputError(f"{self.name}: values are text, finite numbers, booleans or lists of them", "value")

    def __invert__(self) -> Self:
        return attrs.evolve(self, negate=not self.negate)

    def to_payload(self) -> dict[str, Any]:
        """Return the filter as it is sent.

        Returns:
            The fields, by the names of the documents.
        """
        fields = {
            "filter_type": self.filter_type,
            "name": self.name,
            "data_type": self.data_type,
            "operator": self.operator,
            "value": _thawed(self.value),
            "value1": self.value1,
            "negate": self.negate,
            "case_sensitive": self.case_sensitive,
        }
        return present(fields, self.extra)


@attrs.frozen(kw_only=True)
class ActionFilter(_Combines):
    """Users who executed an action, or did not, so often, in a time.

    Made by `builders.did`; each method gives a new value with one thing more. A time range is needed before it is sent.

    Attributes:
        action_name: The action, by its internal name.
        executed: Whether it was executed.
        execution: How often.
        primary_time_range: When; None while that was not said.
        attributes: Which occurrences, by their attributes; None: not said.
        extra: Fields the documents do not name.
    """

    action_name: str
    executed: bool = True
    execution: Execution = attrs.field(factory=Execution)
    primary_time_range: TimeRange | None = None
    attributes: FilterGroup | None = attrs.field(factory=lambda: FilterGroup())  # noqa: PLW0108 - it is made later
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        refuse_blank(self.action_name, "action_name")

    def __invert__(self) -> Self:
        return attrs.evolve(self, executed=not self.executed)

    # How often

    def at_least(self, count: int) -> Self:
        """Return the filter for at least *count* occurrences.

        Args:
            count: How many times, a whole number from 0.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: *count* is no whole number from 0.
        """
        return self._so_often("atleast", count)

    def at_most(self, count: int) -> Self:
        """Return the filter for at most *count* occurrences.

        Args:
            count: How many times, a whole number from 0.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: *count* is no whole number from 0.
        """
        return self._so_often("atmost", count)

    def exactly(self, count: int) -> Self:
        """Return the filter for exactly *count* occurrences.

        Args:
            count: How many times, a whole number from 0.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: *count* is no whole number from 0.
        """
        return self._so_often("exactly", count)

    def for_the_first_time(self) -> Self:
        """Return the filter for users whose first time ever is in the time range.

        Returns:
            A copy with it; this filter stays as it is.
        """
        return self._so_often("firstTime", 1)

    def for_the_last_time(self) -> Self:
        """Return the filter for users whose last time is in the time range.

        Returns:
            A copy with it; this filter stays as it is.
        """
        return self._so_often("lastTime", 1)

    def _so_often(self, kind: str, count: int) -> Self:
        return attrs.evolve(self, execution=Execution(type=kind, count=count))

    # When

    def in_the_last(self, *, days: int | None = None, weeks: int | None = None, months: int | None = None) -> Self:
        """Return the filter for the last so many days, weeks or months.

        Args:
            days: So many days; one of the three is given.
            weeks: So many weeks.
            months: So many months.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: Not exactly one is given, or it is no whole number from 1.
        """
        return self.within(TimeRange.in_the_last(days=days, weeks=weeks, months=months))

    def between(self, start: date | datetime, end: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the filter from *start* to *end*, both included; dates are whole days of *zone*, UTC by default.

        Args:
            start: The first moment, an aware datetime, or the first day.
            end: The last moment, or the last day, as a whole.
            zone: Where a date's day begins; None for UTC.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: A datetime has no zone, or *end* is before *start*.
        """
        return self.within(TimeRange.between(start, end, zone=zone))

    def on(self, day: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the filter for one day.

        Args:
            day: The day, or an aware datetime in it.
            zone: Where a date's day begins; None for UTC.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: A datetime has no zone, or something is no date.
        """
        return self.within(TimeRange.on(day, zone=zone))

    def before(self, when: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the filter for the time before a moment, or before a day begins.

        Args:
            when: A moment, an aware datetime, or a day.
            zone: Where a date's day begins; None for UTC.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: A datetime has no zone, or something is no date.
        """
        return self.within(TimeRange.before(when, zone=zone))

    def after(self, when: date | datetime, *, zone: tzinfo | None = None) -> Self:
        """Return the filter for the time after a moment, or when a day is over.

        Args:
            when: A moment, an aware datetime, or a day.
            zone: Where a date's day begins; None for UTC.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: A datetime has no zone, or something is no date.
        """
        return self.within(TimeRange.after(when, zone=zone))

    def within(self, time_range: TimeRange) -> Self:
        """Return the filter for this time range.

        Args:
            time_range: When.

        Returns:
            A copy with it; this filter stays as it is.
        """
        return attrs.evolve(self, primary_time_range=time_range)

    # Which

    def where(self, *filters: AttributeFilter | FilterGroup | RawFilter) -> Self:
        """Return the filter for occurrences whose attributes fit all of these.

        Args:
            *filters: Conditions on attributes of the action, see `attribute`; those given before still hold.

        Returns:
            A copy with it; this filter stays as it is.

        Raises:
            InputError: One is no filter.
        """
        so_far = self.attributes.filters if self.attributes is not None else ()
        attributes = combined("and", (*so_far, *filters)) if self._plain_and else combined("and", filters)
        return attrs.evolve(self, attributes=attributes)

    @property
    def _plain_and(self) -> bool:
        return self.attributes is not None and self.attributes.filter_operator == "and"

    def to_payload(self) -> dict[str, Any]:
        """Return the filter as it is sent.

        Returns:
            The fields, by the names of the documents.

        Raises:
            InputError: It does not say when.
        """
        if self.primary_time_range is None:
            raise InputError(
                f"{self.action_name}: say when, such as .in_the_last(days=30) or .between(start, end)",
                "primary_time_range",
            )
        fields = {
            "filter_type": ACTIONS,
            "action_name": self.action_name,
            "attributes": None if self.attributes is None else self.attributes.to_payload(),
            "executed": self.executed,
            "execution": self.execution.to_payload(),
            "primary_time_range": self.primary_time_range.to_payload(),
        }
        return present(fields, self.extra)


@attrs.frozen(kw_only=True)
class SegmentFilter(_Combines):
    """Users of another segment.

    The documents mention such references (too many of them, or a circle, is refused) and do not show them; this is how
    the dashboard's payload has them.

    Attributes:
        id: The segment's identifier.
        name: Its name; None: not said.
        extra: Other fields.
    """

    id: str
    name: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        refuse_blank(self.id, "id")

    def to_payload(self) -> dict[str, Any]:
        """Return the filter as it is sent.

        Returns:
            The fields, by the names of the documents.
        """
        return present({"filter_type": SEGMENTS, "id": self.id, "name": self.name}, self.extra)


@attrs.frozen
class RawFilter(_Combines):
    """A filter as it is, such as one copied from the dashboard; sent untouched.

    Attributes:
        payload: A JSON object.

    Raises:
        InputError: The payload is no JSON object.
    """

    payload: Mapping[str, Any] = attrs.field(hash=False, repr=lambda payload: f"<{len(payload)} fields>")

    def __attrs_post_init__(self) -> None:
        try:
            json.dumps(dict(self.payload), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise InputError(
                "must be a JSON object: text, finite numbers, booleans, lists, objects", "filters"
            ) from None

    def to_payload(self) -> dict[str, Any]:
        """Return the payload itself.

        Returns:
            A copy of it.
        """
        return dict(self.payload)


def _tuple_of(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    return tuple(filters)


@attrs.frozen(kw_only=True)
class FilterGroup(_Combines):
    """Filters of which all hold, or any.

    Attributes:
        filter_operator: "and" or "or".
        filters: The filters.
        extra: Fields the documents do not name.
    """

    filter_operator: str = "and"
    filters: tuple[Filter, ...] = attrs.field(default=(), converter=_tuple_of)
    extra: Mapping[str, object] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        refuse_other(FILTER_OPERATORS, self.filter_operator, "filter_operator")
        for one in self.filters:
            if not isinstance(one, _Combines):
                raise InputError(f"holds filters, not {type(one).__name__}: see moe_segments.models.filters", "filters")

    def __invert__(self) -> Self:
        opposites = [~one for one in self.filters]
        return attrs.evolve(self, filter_operator=_OPPOSITE[self.filter_operator], filters=opposites)

    def to_payload(self) -> dict[str, Any]:
        """Return the group as it is sent: groups inside it are named as nested.

        Returns:
            The fields, by the names of the documents.
        """
        filters = [_nested(one) if isinstance(one, FilterGroup) else one.to_payload() for one in self.filters]
        return {"filter_operator": self.filter_operator, "filters": filters, **self.extra}


def _nested(group: FilterGroup) -> dict[str, Any]:
    return {"filter_type": NESTED, **group.to_payload()}


Filter: TypeAlias = AttributeFilter | ActionFilter | SegmentFilter | RawFilter | FilterGroup


def combined(operator: str, filters: Iterable[Filter]) -> FilterGroup:
    """Return one group of filters; those that are groups of the same operator themselves are taken apart.

    Raises:
        InputError: One is no filter.
    """
    flat: list[Filter] = []
    for one in filters:
        if isinstance(one, FilterGroup) and one.filter_operator == operator and not one.extra:
            flat += one.filters
        else:
            flat.append(one)
    return FilterGroup(filter_operator=operator, filters=flat)
