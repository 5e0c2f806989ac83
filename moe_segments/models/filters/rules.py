"""Documented rules of filters, as data, and the format of moments. Pure.

A moment is sent as UTC with milliseconds, such as `2026-03-04T05:06:07.000Z`. A date is a whole day of a zone, UTC
unless another is named: it begins at its first moment and ends one millisecond before the next day's.

Source: https://moengage.com/docs/api/filter-segments/create-filter-segment, read 2026-08-01.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from moe_segments.errors import InputError
from moe_segments.types import UNSET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

__all__ = [
    "EXECUTIONS",
    "FILTER_OPERATORS",
    "NEEDS_NO_VALUE",
    "OPERATORS",
    "PERIOD_UNITS",
    "RANGE_TYPES",
    "VALUE_TYPES",
    "first_moment",
    "is_count",
    "last_moment",
    "moment_text",
    "operators_of",
    "period_of",
    "present",
    "problem_of_operator",
    "refuse_blank",
    "refuse_other",
    "type_of",
]

# Which operators an attribute of a data type takes.
OPERATORS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "bool": ("is", "exists"),
        "double": ("in", "between", "lessThan", "greaterThan", "exists"),
        "string": (
            "in",
            "contains",
            "containsInTheFollowing",
            "startWithInTheFollowing",
            "endsWithInTheFollowing",
            "exists",
            "is",
        ),
        "datetime": ("inTheLast", "on", "between", "before", "after", "inTheNext", "exists", "today"),
    }
)
# The documents spell it one way in the list of operators and another elsewhere: both are taken, neither is changed.
_OTHER_SPELLINGS: Final[Mapping[str, str]] = MappingProxyType({"startsWithInTheFollowing": "startWithInTheFollowing"})
NEEDS_NO_VALUE: Final = frozenset({"exists", "today"})
FILTER_OPERATORS: Final = ("and", "or")
EXECUTIONS: Final = ("atleast", "exactly", "atmost", "firstTime", "lastTime")
RANGE_TYPES: Final = ("on", "inTheLast", "before", "after", "between")
VALUE_TYPES: Final = ("absolute", "relative_past")
PERIOD_UNITS: Final = ("days", "weeks", "months")

_MILLISECOND: Final = timedelta(milliseconds=1)
_MOST_PERIODS: Final = 36_500  # a hundred years of days; more is a slip of the pen


def operators_of(data_type: str) -> tuple[str, ...]:
    """Return the documented operators of a data type; none for a type that is not documented."""
    return OPERATORS.get(data_type, ())


def problem_of_operator(data_type: str, operator: str) -> str | None:
    """Return what is wrong with an operator on a data type, or None."""
    if data_type not in OPERATORS:
        return f"must be {', '.join(OPERATORS)}, not {data_type!r}"
    fitting = operators_of(data_type)
    if _OTHER_SPELLINGS.get(operator, operator) in fitting:
        return None
    return f"a {data_type} attribute takes {', '.join(fitting)}; {operator!r} does not fit it"


def refuse_other(values: tuple[str, ...], value: object, field: str) -> None:
    """Refuse a value that is none of *values*.

    Raises:
        InputError: The value is none of them; the sentence names them.
    """
    if not isinstance(value, str) or value not in values:
        raise InputError(f"must be {', '.join(values)}, not {value!r}", field)


def refuse_blank(value: object, field: str) -> None:
    """Refuse what is no text or a blank one.

    Raises:
        InputError: The value is no text, or blank.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError("must be text that is not blank", field)


def present(fields: Mapping[str, object], extra: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields that are said, and *extra* as it is."""
    return {name: value for name, value in fields.items() if value is not UNSET and value is not None} | dict(extra)


def type_of(value: object) -> str | None:
    """Return the data type that a Python value has in a filter, or None."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "double" if math.isfinite(value) else None
    if isinstance(value, str):
        return "string"
    return "datetime" if isinstance(value, date) else None  # a datetime is a date too


def period_of(days: int | None, weeks: int | None, months: int | None) -> tuple[str, str]:
    """Return how many, as the text that is sent, and of which unit.

    Raises:
        InputError: Not exactly one is given, or it is no whole number from 1.
    """
    given = [
        (unit, count) for unit, count in zip(PERIOD_UNITS, (days, weeks, months), strict=True) if count is not None
    ]
    if len(given) != 1:
        raise InputError("give exactly one of days, weeks and months")
    unit, count = given[0]
    if not is_count(count, 1) or count > _MOST_PERIODS:
        raise InputError(f"must be a whole number from 1 to {_MOST_PERIODS}, not {count!r}", unit)
    return str(count), unit


def is_count(value: object, least: int = 0) -> bool:
    """Return whether *value* is an int, and no bool, that the service's 32 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def first_moment(when: date | datetime, zone: tzinfo = UTC) -> datetime:
    """Return the moment itself, or the first one of a day in *zone*; aware UTC.

    Raises:
        InputError: A datetime without a zone, or no date at all.
    """
    if isinstance(when, datetime):
        return _converted(when)
    return _day_begins(when, zone)


def last_moment(when: date | datetime, zone: tzinfo = UTC) -> datetime:
    """Return the moment itself, or the last millisecond of a day in *zone*; aware UTC.

    Raises:
        InputError: A datetime without a zone, or no date at all.
    """
    if isinstance(when, datetime):
        return _converted(when)
    try:
        return _day_begins(when + timedelta(days=1), zone) - _MILLISECOND
    except (OverflowError, TypeError):
        raise InputError(f"must be a date or a datetime with a zone, not {when!r}") from None


def moment_text(moment: datetime) -> str:
    """Return an aware UTC moment as the service writes it: milliseconds and a Z."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _converted(moment: datetime) -> datetime:
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InputError(
            f"{moment.isoformat()} has no zone: give one, such as datetime(..., tzinfo=UTC), or a date for a whole day"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InputError(f"{moment.isoformat()} is out of range") from None


def _day_begins(day: date, zone: tzinfo) -> datetime:
    if not isinstance(day, date):
        raise InputError(f"must be a date or a datetime with a zone, not {day!r}")
    try:
        return datetime.combine(day, time.min, zone).astimezone(UTC)
    except OverflowError:
        raise InputError(f"{day.isoformat()} is out of range") from None
