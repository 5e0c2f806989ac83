"""Documented facts as data: quotas, file rules, name rules, data centres. Each with source and date.

`QuotaLimits` is the value the governor runs on; the documented figures are its defaults, and what the documents
leave open is a setting with a safe default. Units are in the names: `_s` seconds, `_bytes` bytes.
"""

from __future__ import annotations

import sys
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

import attrs

from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ACTIVE_SEGMENTS",
    "CALL_LIMITS",
    "CREATE_FILTER_CALLS",
    "DATA_CENTERS",
    "DOCUMENTED",
    "FETCH_ADDRESSES",
    "FILE_CONTENT_TYPES",
    "GET_CALLS",
    "LIMIT_NAMES",
    "LIST_CALLS",
    "NAME_FORBIDDEN",
    "NAME_MAX_CHARS",
    "NAME_RESERVED",
    "READ_ON",
    "SOURCE_CREATE",
    "Documented",
    "QuotaLimits",
]

READ_ON: Final = date(2026, 8, 1)
_DOCS: Final = "https://moengage.com/docs/api"
SOURCE_CREATE: Final = f"{_DOCS}/file-segments/create-file-segment"
_SOURCE_LIST: Final = f"{_DOCS}/filter-segments/list-segments"
_SOURCE_CREATE_FILTER: Final = f"{_DOCS}/filter-segments/create-filter-segment"
_SOURCE_GET: Final = f"{_DOCS}/filter-segments/get-segment-by-id"

MINUTE_S: Final = 60.0
HOUR_S: Final = 3_600.0
DAY_S: Final = 86_400.0

OPERATIONS_PER_HOUR: Final = "operations_per_hour"
OPERATIONS_PER_DAY: Final = "operations_per_day"
USERS_PER_DAY: Final = "users_per_day"
ACTIVE_SEGMENTS: Final = "active_segments"

# The calls of the v3 API that have quotas of their own, each with the names of those of a minute, an hour and a day.
LIST_CALLS: Final = "list"
CREATE_FILTER_CALLS: Final = "create_filter"
GET_CALLS: Final = "get"
CALL_LIMITS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        call: (f"{call}_per_minute", f"{call}_per_hour", f"{call}_per_day")
        for call in (LIST_CALLS, CREATE_FILTER_CALLS, GET_CALLS)
    }
)
LIMIT_NAMES: Final = (
    *(OPERATIONS_PER_HOUR, OPERATIONS_PER_DAY, USERS_PER_DAY, ACTIVE_SEGMENTS),
    *(name for names in CALL_LIMITS.values() for name in names),
)


@attrs.frozen(kw_only=True)
class Documented:
    """One documented figure.

    Attributes:
        figure: The number as documented, in the unit of *what*.
        what: What is limited, with its unit.
        window_s: The sliding window, seconds; None for a gauge or a size.
        source: The page.
        read_on: The day it was read.
    """

    figure: int
    what: str
    window_s: float | None
    source: str
    read_on: date


DOCUMENTED: Final[Mapping[str, Documented]] = MappingProxyType(
    {
        OPERATIONS_PER_HOUR: Documented(
            figure=10,
            what="file-segment operations (create, add, remove; replace has a 429 of its own)",
            window_s=HOUR_S,
            source=SOURCE_CREATE,
            read_on=READ_ON,
        ),
        OPERATIONS_PER_DAY: Documented(
            figure=100,
            what="file-segment operations",
            window_s=DAY_S,
            source=SOURCE_CREATE,
            read_on=READ_ON,
        ),
        USERS_PER_DAY: Documented(
            figure=2_000_000,
            what="users uploaded by file (raisable by the vendor's support)",
            window_s=DAY_S,
            source=SOURCE_CREATE,
            read_on=READ_ON,
        ),
        ACTIVE_SEGMENTS: Documented(
            figure=1_000,
            what="active segments of all types at a time",
            window_s=None,
            source=SOURCE_CREATE,
            read_on=READ_ON,
        ),
        # The documents say "150 MB" and never which MB: the smaller reading is refused above.
        "file_bytes": Documented(
            figure=150_000_000, what="bytes of one file", window_s=None, source=SOURCE_CREATE, read_on=READ_ON
        ),
        "file_segment_users": Documented(
            figure=5_000_000,
            what="users in one file segment",
            window_s=None,
            source=SOURCE_CREATE,
            read_on=READ_ON,
        ),
        **{
            name: Documented(figure=figure, what=f"{call} calls", window_s=window_s, source=source, read_on=READ_ON)
            for call, figures, source in (
                (LIST_CALLS, (50, 200, 1_000), _SOURCE_LIST),
                (CREATE_FILTER_CALLS, (50, 200, 1_000), _SOURCE_CREATE_FILTER),
                (GET_CALLS, (100, 1_000, 4_000), _SOURCE_GET),
            )
            for name, figure, window_s in zip(CALL_LIMITS[call], figures, (MINUTE_S, HOUR_S, DAY_S), strict=True)
        },
    }
)

# https://moengage.com/docs/api/introduction
DATA_CENTERS: Final[Mapping[str, str]] = MappingProxyType(
    {dc: f"https://api-{dc}.moengage.com" for dc in ("01", "02", "03", "04", "05", "06", "101")}
)

# The addresses that fetch a `file_url`, by data centre: for allow lists; they may change.
FETCH_ADDRESSES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "01": ("184.72.243.80", "34.218.145.185"),
        "02": ("18.195.110.23",),
        "03": ("3.6.251.95",),
        "04": ("3.139.47.208",),
        "05": ("18.143.35.151",),
        "06": ("43.218.197.196",),
        "101": (),
    }
)

# What the file's own server may answer as its content type; documented, oddly, as the request's header.
FILE_CONTENT_TYPES: Final = (
    "text/csv",
    "application/csv",
    "application/vnd.ms-excel",
    "text/plain",
    "application/octet-stream",
    "binary/octet-stream",
)

NAME_MAX_CHARS: Final = 200
NAME_FORBIDDEN: Final = frozenset(':|*?\\<>=$"')
NAME_RESERVED: Final = frozenset({"all users"})

_CLOCK_DRIFT = 500e-6  # two clocks of one hour may differ by this part of it
_CLOCK_SLACK_S = 1.0


_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs calls every validator with


def is_whole(value: object, least: int = 0) -> TypeGuard[int]:
    """Return whether *value* is an int, and no bool, from *least*."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_finite(value: object) -> bool:
    """Return whether *value* is a number, and no bool, that is neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _positive_int(_: object, attribute: _Attribute, value: object) -> None:
    if not is_whole(value, 1):
        raise InputError(f"must be a whole number from 1, not {value!r}", attribute.name)


def _not_negative_int(_: object, attribute: _Attribute, value: object) -> None:
    if not is_whole(value):
        raise InputError(f"must be a whole number from 0, not {value!r}", attribute.name)


def _positive_s(_: object, attribute: _Attribute, value: float) -> None:
    if not is_finite(value) or value <= 0:
        raise InputError(f"must be a positive number of seconds, not {value!r}", attribute.name)


def _not_negative_s(_: object, attribute: _Attribute, value: float) -> None:
    if not is_finite(value) or value < 0:
        raise InputError(f"must be a number of seconds from 0, not {value!r}", attribute.name)


def _flag(_: object, attribute: _Attribute, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"must be True or False, not {value!r}", attribute.name)


def _copied_amounts(value: Mapping[str, int]) -> Mapping[str, int]:
    return dict(value)


def _copied_statuses(value: Mapping[int, bool]) -> Mapping[int, bool]:
    return dict(value)


def _check_headroom(limits: QuotaLimits, _: object, value: Mapping[str, int]) -> None:
    for name, amount in value.items():
        if name not in LIMIT_NAMES:
            raise InputError(f"{name!r} is no limit; the limits are {', '.join(LIMIT_NAMES)}", "headroom")
        capacity = getattr(limits, name)
        if not is_whole(amount) or amount >= capacity:
            raise InputError(f"{name} must leave room: from 0 to {capacity - 1}, not {amount!r}", "headroom")


def _check_consumes(_: object, __: object, value: Mapping[object, object]) -> None:
    for status, spends in value.items():
        if status not in range(400, 500) or not isinstance(spends, bool):
            raise InputError(
                f"maps a status from 400 to 499 to True or False, not {status!r} to {spends!r}; "
                "a 2xx always spends and a 5xx proves nothing",
                "consumes",
            )


@attrs.frozen(kw_only=True)
class QuotaLimits:
    """The limits the governor enforces and how it treats what the documents leave open.

    Attributes:
        operations_per_hour: File-segment operations in any *hour_s* seconds.
        operations_per_day: File-segment operations in any *day_s* seconds.
        users_per_day: Users uploaded in any *day_s* seconds.
        active_segments: Active segments of all types at a time.
        list_per_minute: Lists of segments in any *minute_s* seconds.
        list_per_hour: Lists of segments in any *hour_s* seconds.
        list_per_day: Lists of segments in any *day_s* seconds.
        create_filter_per_minute: Creates of filter segments in any *minute_s* seconds.
        create_filter_per_hour: Creates of filter segments in any *hour_s* seconds.
        create_filter_per_day: Creates of filter segments in any *day_s* seconds.
        get_per_minute: Segments got by their identifier in any *minute_s* seconds.
        get_per_hour: Segments got by their identifier in any *hour_s* seconds.
        get_per_day: Segments got by their identifier in any *day_s* seconds.
        filter_calls_shared: Whether lists and creates of filter segments spend from one pool, that of the lists. Their
            pages state the same figures and do not say.
        file_bytes: Largest file, bytes.
        minute_s: Length of the minute window, seconds.
        hour_s: Length of the hour window, seconds.
        day_s: Length of the day window, seconds.
        headroom: Limit name to the amount left for others, such as people in the dashboard.
        consumes: Status (4xx) to whether such an answer spends an operation; a status not named spends.
        guard_s: Granularity of the service's counting, seconds: a counter of whole minutes keeps an
            operation for up to a minute longer than its window.
        count_late_s: How long the service may still count an operation after we stopped waiting, seconds.
        processing_allowance_s: How long users are held when no callback comes, seconds.
        external_active_margin: Active segments left free for what others create unseen.
        remove_counts_operation: Whether remove spends an operation.
        replace_counts_operation: Whether replace spends an operation.
        remove_counts_users: Whether remove spends its file's rows.
        replace_counts_users: Whether replace spends its file's rows.
        callback_lowers_users: Whether a callback that found fewer rows than declared gives the rest back.
        expiry_slack_s: How long past its expiry a segment still counts as active, seconds.
        expiry_day_s: The length of a day of `expiry_time`, seconds.
        scale: How many times shorter than documented the windows are; set by `scaled`.
    """

    operations_per_hour: int = attrs.field(default=10, validator=_positive_int)
    operations_per_day: int = attrs.field(default=100, validator=_positive_int)
    users_per_day: int = attrs.field(default=2_000_000, validator=_positive_int)
    active_segments: int = attrs.field(default=1_000, validator=_positive_int)
    list_per_minute: int = attrs.field(default=50, validator=_positive_int)
    list_per_hour: int = attrs.field(default=200, validator=_positive_int)
    list_per_day: int = attrs.field(default=1_000, validator=_positive_int)
    create_filter_per_minute: int = attrs.field(default=50, validator=_positive_int)
    create_filter_per_hour: int = attrs.field(default=200, validator=_positive_int)
    create_filter_per_day: int = attrs.field(default=1_000, validator=_positive_int)
    get_per_minute: int = attrs.field(default=100, validator=_positive_int)
    get_per_hour: int = attrs.field(default=1_000, validator=_positive_int)
    get_per_day: int = attrs.field(default=4_000, validator=_positive_int)
    filter_calls_shared: bool = attrs.field(default=True, validator=_flag)
    file_bytes: int = attrs.field(default=150_000_000, validator=_positive_int)
    minute_s: float = attrs.field(default=MINUTE_S, validator=_positive_s)
    hour_s: float = attrs.field(default=HOUR_S, validator=_positive_s)
    day_s: float = attrs.field(default=DAY_S, validator=_positive_s)
    headroom: Mapping[str, int] = attrs.field(
        factory=dict, converter=_copied_amounts, validator=_check_headroom, hash=False
    )
    consumes: Mapping[int, bool] = attrs.field(
        factory=dict, converter=_copied_statuses, validator=_check_consumes, hash=False
    )
    guard_s: float = attrs.field(default=60.0, validator=_not_negative_s)
    count_late_s: float = attrs.field(default=900.0, validator=_not_negative_s)
    processing_allowance_s: float = attrs.field(default=21_600.0, validator=_not_negative_s)
    external_active_margin: int = attrs.field(default=50, validator=_not_negative_int)
    remove_counts_operation: bool = attrs.field(default=True, validator=_flag)
    replace_counts_operation: bool = attrs.field(default=True, validator=_flag)
    remove_counts_users: bool = attrs.field(default=True, validator=_flag)
    replace_counts_users: bool = attrs.field(default=True, validator=_flag)
    callback_lowers_users: bool = attrs.field(default=True, validator=_flag)
    expiry_slack_s: float = attrs.field(default=DAY_S, validator=_not_negative_s)
    expiry_day_s: float = attrs.field(default=DAY_S, validator=_positive_s)
    scale: float = attrs.field(default=1.0, validator=_positive_s)

    def __attrs_post_init__(self) -> None:
        spare = self.external_active_margin + self.headroom.get(ACTIVE_SEGMENTS, 0)
        if spare >= self.active_segments:
            problem = f"must, with the headroom, stay below active_segments ({self.active_segments})"
            raise InputError(problem, "external_active_margin")

    def guard_for(self, window_s: float) -> float:
        """Return how long an operation counts beyond a window: granularity, clock drift and a second of slack.

        All of it shrinks with the scale, except that the drift is a part of the window already.

        Args:
            window_s: Length of the window, seconds.

        Returns:
            The guard, seconds; 0 where `guard_s` is.
        """
        if self.guard_s == 0:
            return 0.0
        return self.guard_s + _CLOCK_DRIFT * window_s + _CLOCK_SLACK_S / self.scale

    def spends(self, status: int) -> bool:
        """Return whether an answer with this status keeps its operation; a status not named in *consumes* does.

        Args:
            status: The HTTP status.

        Returns:
            True where it counts.
        """
        return self.consumes.get(status, True)

    def scaled(self, n: float) -> QuotaLimits:
        """Return these limits with windows, guard, D, allowance and expiry *n* times shorter, for a sandbox.

        Time-outs, the send fence and back-off are not part of the limits and do not shrink here.

        Args:
            n: How many times shorter, above 0.

        Returns:
            A copy.

        Raises:
            InputError: *n* is no positive number.
        """
        if not is_finite(n) or n <= 0:
            raise InputError(f"must be a positive number, not {n!r}", "n")
        return attrs.evolve(
            self,
            minute_s=self.minute_s / n,
            hour_s=self.hour_s / n,
            day_s=self.day_s / n,
            guard_s=self.guard_s / n,
            count_late_s=self.count_late_s / n,
            processing_allowance_s=self.processing_allowance_s / n,
            expiry_slack_s=self.expiry_slack_s / n,
            expiry_day_s=self.expiry_day_s / n,
            scale=self.scale * n,
        )
