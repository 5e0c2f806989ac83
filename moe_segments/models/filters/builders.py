"""Build filters that read well.

```python
attribute("city").is_in("Pune", "Delhi") & did("Purchase").at_least(2).in_the_last(days=30)
did("Search").where(attribute("term").contains("shoes")).on(date(2026, 3, 4), zone=ZoneInfo("Asia/Kolkata"))
~attribute("plan").is_("free") | in_segment("64f0c1d2e3a4b5c6d7e8f901")
```

Everything is checked here, before anything is sent: an operator that does not fit the type of its value is refused with
those that do. Dates and zones: see `TimeRange`.

Source: https://moengage.com/docs/api/filter-segments/create-filter-segment, read 2026-08-01.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import attrs

from moe_segments.errors import InputError
from moe_segments.models.filters.payloads import filter_from
from moe_segments.models.filters.ranges import TimeRange
from moe_segments.models.filters.rules import (
    OPERATORS,
    first_moment,
    last_moment,
    moment_text,
    period_of,
    problem_of_operator,
    refuse_blank,
    refuse_other,
    type_of,
)
from moe_segments.models.filters.values import (
    ActionFilter,
    AttributeFilter,
    Filter,
    FilterGroup,
    SegmentFilter,
    combined,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

__all__ = ["Attribute", "all_of", "any_of", "attribute", "did", "did_not", "in_segment", "raw_filter"]


def attribute(
    name: str,
    data_type: Literal["string", "double", "datetime", "bool"] | None = None,
    *,
    case_sensitive: bool = False,
) -> Attribute:
    """Return an attribute to compare: of the user, or inside `ActionFilter.where` of the action.

    Args:
        name: Its name.
        data_type: Its type; None: that of the value it is compared with. `exists` needs one.
        case_sensitive: Whether case matters where text is compared.

    Returns:
        The attribute; its methods compare it and make the filter.

    Raises:
        InputError: The name is blank or the type unknown.
    """
    return Attribute(name, data_type, case_sensitive)


def did(action_name: str) -> ActionFilter:
    """Match users who executed an action, at least once if nothing else is said.

    Say when, and how often: `did("Purchase").at_least(2).in_the_last(days=30)`.

    Args:
        action_name: The action, by its internal name.

    Returns:
        The filter; it needs a time before it is sent.

    Raises:
        InputError: The name is blank.
    """
    return ActionFilter(action_name=action_name)


def did_not(action_name: str) -> ActionFilter:
    """Match users who did not execute an action.

    Args:
        action_name: The action, by its internal name.

    Returns:
        The filter; it needs a time before it is sent.

    Raises:
        InputError: The name is blank.
    """
    return ActionFilter(action_name=action_name, executed=False)


def in_segment(cs_id: str, name: str | None = None) -> SegmentFilter:
    """Match users of another segment.

    Args:
        cs_id: The segment's identifier.
        name: Its name; None: not said.

    Returns:
        The filter.

    Raises:
        InputError: The identifier is blank.
    """
    return SegmentFilter(id=cs_id, name=name)


def all_of(*filters: Filter) -> FilterGroup:
    """Match users who fit all of these filters.

    Args:
        *filters: Filters or groups.

    Returns:
        The group.

    Raises:
        InputError: One is no filter.
    """
    return combined("and", filters)


def any_of(*filters: Filter) -> FilterGroup:
    """Match users who fit any of these filters.

    Args:
        *filters: Filters or groups.

    Returns:
        The group.

    Raises:
        InputError: One is no filter.
    """
    return combined("or", filters)


def raw_filter(payload: Mapping[str, Any]) -> Filter:
    """Return a filter copied from elsewhere, such as the dashboard; undocumented fields stay untouched.

    Args:
        payload: A JSON object.

    Returns:
        A filter that can be read and changed; a `RawFilter` where the documents do not know it.

    Raises:
        InputError: It is no JSON object.
    """
    return filter_from(payload)


@attrs.frozen
class Attribute:
    """An attribute that is about to be compared.

    Attributes:
        name: Its name.
        data_type: Its type; None: that of the value.
        case_sensitive: Whether case matters where text is compared.
    """

    name: str
    data_type: str | None = None
    case_sensitive: bool = False

    def __attrs_post_init__(self) -> None:
        refuse_blank(self.name, "name")
        if self.data_type is not None:
            refuse_other(tuple(OPERATORS), self.data_type, "data_type")

    # Text and booleans

    def is_(self, value: str | bool) -> AttributeFilter:  # noqa: FBT001 - the value that is compared with
        """Match a value that is this text, or this boolean."""
        return self._compared("is", value)

    def is_in(self, *values: str | float) -> AttributeFilter:
        """Match a value that is one of these texts or numbers."""
        return self._compared_with_all("in", values)

    def contains(self, text: str) -> AttributeFilter:
        """Match a value that contains this text."""
        return self._compared("contains", text)

    def contains_any(self, *texts: str) -> AttributeFilter:
        """Match a value that contains one of these texts."""
        return self._compared_with_all("containsInTheFollowing", texts)

    def starts_with(self, *texts: str) -> AttributeFilter:
        """Match a value that begins with one of these texts."""
        return self._compared_with_all("startWithInTheFollowing", texts)

    def ends_with(self, *texts: str) -> AttributeFilter:
        """Match a value that ends with one of these texts."""
        return self._compared_with_all("endsWithInTheFollowing", texts)

    # Numbers and times

    def less_than(self, number: float) -> AttributeFilter:
        """Match a value below this number."""
        return self._compared("lessThan", number)

    def greater_than(self, number: float) -> AttributeFilter:
        """Match a value above this number."""
        return self._compared("greaterThan", number)

    def between(
        self, low: float | date | datetime, high: float | date | datetime, *, zone: tzinfo | None = None
    ) -> AttributeFilter:
        """Match a value between two numbers or moments; dates are whole days of *zone*, UTC by default, both included.

        Raises:
            InputError: The second is before the first, or they are not of one type.
        """
        if type_of(low) != type_of(high):
            raise InputError(f"{self.name}: compares values of one type, not {low!r} and {high!r}", "value1")
        if isinstance(low, date) and isinstance(high, date):
            when = TimeRange.between(low, high, zone=zone)
            return self._made("between", "datetime", value=when.value, value1=when.value1)
        if not isinstance(low, date) and not isinstance(high, date) and high < low:
            raise InputError(f"{self.name}: {high!r} is below {low!r}", "value1")
        return self._made("between", self._type_for("between", low), value=low, value1=high)

    def on(self, day: date | datetime, *, zone: tzinfo | None = None) -> AttributeFilter:
        """Match a date on this day."""
        return self._made("on", "datetime", value=self._moment(day, zone))

    def before(self, when: date | datetime, *, zone: tzinfo | None = None) -> AttributeFilter:
        """Match a date before this moment, or before this day begins."""
        return self._made("before", "datetime", value=self._moment(when, zone))

    def after(self, when: date | datetime, *, zone: tzinfo | None = None) -> AttributeFilter:
        """Match a date after this moment, or after this day."""
        last = last_moment(when) if zone is None else last_moment(when, zone)
        return self._made("after", "datetime", value=moment_text(last))

    def in_the_last(
        self, *, days: int | None = None, weeks: int | None = None, months: int | None = None
    ) -> AttributeFilter:
        """Match a date in the last *days*, *weeks* or *months*."""
        return self._relative("inTheLast", "relative_past", days, weeks, months)

    def in_the_next(
        self, *, days: int | None = None, weeks: int | None = None, months: int | None = None
    ) -> AttributeFilter:
        """Match a date in the next *days*, *weeks* or *months*."""
        return self._relative("inTheNext", "relative_future", days, weeks, months)

    def today(self) -> AttributeFilter:
        """Match a date of today."""
        return self._made("today", "datetime")

    # Anything

    def exists(self) -> AttributeFilter:
        """Match any value.

        Raises:
            InputError: The attribute's type was not said, and no value tells it.
        """
        if self.data_type is None:
            raise InputError(f'say which type, such as attribute({self.name!r}, "string")', "data_type")
        return self._made("exists", self.data_type)

    def _moment(self, when: date | datetime, zone: tzinfo | None) -> str:
        return moment_text(first_moment(when) if zone is None else first_moment(when, zone))

    def _relative(
        self, operator: str, value_type: str, days: int | None, weeks: int | None, months: int | None
    ) -> AttributeFilter:
        # A bare number has no unit, and the documents name none here: as in the time range of an action.
        count, unit = period_of(days, weeks, months)
        return self._made(operator, "datetime", value=count, extra={"value_type": value_type, "period_unit": unit})

    def _compared(self, operator: str, value: object) -> AttributeFilter:
        return self._made(operator, self._type_for(operator, value), value=value)

    def _compared_with_all(self, operator: str, values: tuple[object, ...]) -> AttributeFilter:
        if not values:
            raise InputError(f"{self.name}: give at least one value", "value")
        types = {self._type_for(operator, value) for value in values}
        if len(types) > 1:
            raise InputError(f"{self.name}: compares values of one type, not {' and '.join(sorted(types))}", "value")
        return self._made(operator, types.pop(), value=values)

    def _type_for(self, operator: str, value: object) -> str:
        if self.data_type is not None and (problem := problem_of_operator(self.data_type, operator)):
            raise InputError(f"{self.name}: {problem}", "operator")
        found = type_of(value)
        if found is None:
            raise InputError(f"{self.name}: {value!r} is no text, finite number, boolean or date", "value")
        if self.data_type is not None and found != self.data_type:
            raise InputError(f"{self.name}: is a {self.data_type} and {value!r} is a {found}", "value")
        return found

    def _made(self, operator: str, data_type: str, **fields: Any) -> AttributeFilter:
        if self.data_type is not None and self.data_type != data_type:
            problem = problem_of_operator(self.data_type, operator) or f"is a {self.data_type}, not a {data_type}"
            raise InputError(f"{self.name}: {problem}", "operator")
        sensitivity = self.case_sensitive if data_type == "string" else None
        return AttributeFilter(
            name=self.name, data_type=data_type, operator=operator, case_sensitive=sensitivity, **fields
        )
