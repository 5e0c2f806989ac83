"""Decide which membership changes are sent next, and when. Pure: no clock, no I/O.

Changes wait in an outbox, by segment. A segment is the more urgent, the older its oldest change is: a priority of one
more counts like ten times the age, and `max_age_s` like a day. So nobody starves, whatever the priorities.

The day's operations are spread over the day: a burst at its start would leave segments without any for the rest of it.
What a few quiet hours left over may be spent at once. Some of each limit is left to direct callers. Times are integer
microseconds of the journal's clock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Backlog", "Batch", "Forecast", "Pace", "gap_us", "is_late", "most_urgent", "retry_s", "room"]

_SECOND_US: Final = 1_000_000
_FIRST_RETRY_S, _LONGEST_RETRY_S = 60.0, 21_600.0
_GROWS: Final = 10  # failures after which the wait grows no more
_DAY_S: Final = 86_400.0
_PRIORITY: Final = 10.0  # times as old, for each step
_BURST: Final = 0.04  # of the day's operations: what quiet hours may leave over for later
_LEFT_ALONE: Final = {"operations_per_hour": 0.2, "operations_per_day": 0.02, "users_per_day": 0.05}
_LEAST_PART: Final = 0.1  # of the users a day: a smaller part of a backlog is not worth an operation


@attrs.frozen(kw_only=True)
class Batch:
    """Changes of one segment that are sent together: those of one kind up to a number and up to a value.

    Attributes:
        job: The job that sends them.
        adds: Whether they are added; else removed.
        up_to: The number of the last change among them; later ones of the same value are no part of it.
        last_value: The last of their values, in the order of bytes. Never shown.
    """

    job: str
    adds: bool
    up_to: int
    last_value: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Backlog:
    """The changes of one segment that are not applied yet.

    Attributes:
        segment: What the outbox calls it.
        name: Its name.
        attribute_name: The user attribute that values are matched against.
        attribute_type: "string" or "double".
        expiry_time: Days until the service archives it, for its creation; None: it is not created.
        max_age_s: How old a change may get, seconds; None: as old as the quotas make it.
        priority: See `most_urgent`.
        adds: Values to be added.
        removes: Values to be removed.
        oldest_us: When the oldest of them was asked for; None where there is none.
        oldest: The number of the oldest of them, or a smaller one; 0 where there is none.
        tip: The number of its last change.
        batch: What was sent last and is not decided; None where nothing is.
        added_last: Whether the batch before was of adds.
    """

    segment: int
    name: str
    attribute_name: str
    attribute_type: str
    expiry_time: int | None
    max_age_s: float | None
    priority: int
    adds: int
    removes: int
    oldest_us: int | None
    oldest: int
    tip: int
    batch: Batch | None
    added_last: bool

    @property
    def pending(self) -> int:
        """Return how many changes wait."""
        return self.adds + self.removes

    @property
    def is_add_next(self) -> bool:
        """Return whether adds are sent next: adds and removes take turns."""
        return bool(self.adds) and not (self.added_last and self.removes)

    def age_us(self, now_us: int) -> int:
        """Return the age of its oldest change; 0 where there is none."""
        return 0 if self.oldest_us is None else max(0, now_us - self.oldest_us)


def is_late(backlog: Backlog, now_us: int) -> bool:
    """Return whether a segment is staler than it may be."""
    return backlog.max_age_s is not None and backlog.age_us(now_us) > backlog.max_age_s * _SECOND_US


def most_urgent(backlogs: Iterable[Backlog], now_us: int, *, gather_us: int) -> list[Backlog]:
    """Return the backlogs that are worth an operation, the most urgent first.

    Args:
        backlogs: Of all segments.
        now_us: Now.
        gather_us: How old a change is before it is sent, so that those that come with it are sent with it; less where
            half of `max_age_s` is less.
    """
    due = [one for one in backlogs if one.pending and one.age_us(now_us) >= _gather_us(one, gather_us)]
    return sorted(due, key=lambda one: (-_urgency(one, now_us), one.oldest))


def _gather_us(backlog: Backlog, gather_us: int) -> float:
    return gather_us if backlog.max_age_s is None else min(gather_us, backlog.max_age_s * _SECOND_US / 2)


def _urgency(backlog: Backlog, now_us: int) -> float:
    target_us = (backlog.max_age_s or _DAY_S) * _SECOND_US
    return math.log(max(1, backlog.age_us(now_us)) / target_us) + backlog.priority * math.log(_PRIORITY)


def retry_s(failures: int) -> float:
    """Return how long a segment waits after failures in a row, from 1: a minute, then four, up to six hours."""
    return min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 4.0 ** min(failures - 1, _GROWS))


# The pace


@attrs.frozen
class Pace:
    """The pace of what is sent: on average one operation each gap, a few at once after quiet hours.

    Attributes:
        due_us: When the next operation is due, had all come evenly.
    """

    due_us: int = 0

    def wait_us(self, now_us: int, gap_us: float, capacity: int) -> float:
        """Return how long the next operation has to wait.

        Args:
            now_us: Now.
            gap_us: The gap between two operations.
            capacity: The operations of a day.
        """
        burst = max(1.0, _BURST * capacity) - 1
        return max(0.0, self.due_us - now_us - burst * gap_us) if gap_us < math.inf else math.inf

    def after(self, now_us: int, gap_us: float) -> Pace:
        """Return the pace after an operation that was sent now."""
        return Pace(max(self.due_us, now_us) + round(gap_us))


@attrs.frozen(kw_only=True)
class Forecast:
    """The usage of one limit from now on, if nothing more is sent.

    Attributes:
        capacity: What it allows.
        steps: From when, counted from now, how much of it is used, ascending; each until the next.
    """

    capacity: int
    steps: Sequence[tuple[int, int]]

    @property
    def used(self) -> int:
        """Return what is used now."""
        return next((used for in_us, used in reversed(self.steps) if in_us <= 0), 0)


def gap_us(day: Forecast, window_us: float) -> float:
    """Return the gap that spreads the operations of the day evenly over it; infinite while there is none.

    Whatever others spent makes it longer: what is left has to last until more is free.
    """
    capacity = day.capacity - _left_alone("operations_per_day", day.capacity)
    gap, used = window_us / capacity, day.used
    for in_us, used_then in day.steps:
        if in_us > 0:
            gap = max(gap, in_us / (capacity - used)) if used < capacity else math.inf
            used = used_then
    return gap


def room(limits: Mapping[str, Forecast], rows: int) -> int:
    """Return how many of *rows* may be sent now; 0 where direct callers should have what is left.

    A backlog that is larger than what the day has left is sent in parts that are worth an operation.
    """
    for name in ("operations_per_hour", "operations_per_day"):
        limit = limits[name]
        if limit.capacity - limit.used <= _left_alone(name, limit.capacity):
            return 0
    users = limits["users_per_day"]
    free = users.capacity - users.used - _left_alone("users_per_day", users.capacity)
    return rows if rows <= free else free if free >= _LEAST_PART * users.capacity else 0


def _left_alone(limit: str, capacity: int) -> int:
    return int(_LEFT_ALONE[limit] * capacity)
