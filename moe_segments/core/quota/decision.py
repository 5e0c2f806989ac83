"""Quota costs and quota decisions, as values. Times are journal microseconds."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

import attrs

__all__ = ["Cost", "Decision", "Granted", "LimitState", "Never", "Unit", "Wait"]


class Unit(IntEnum):
    """Units of limits; the first three are the place of their amount in a `Cost`."""

    OPERATION = 0
    USER = 1
    SEGMENT = 2
    CALL = 3


class Cost(NamedTuple):
    """The cost of one send.

    Attributes:
        operations: File-segment operations.
        rows: Users uploaded.
        segments: Active segments taken.
        call: The call of the v3 API that it is, one of `limits.CALL_LIMITS`; empty for none that has a quota.
    """

    operations: int = 0
    rows: int = 0
    segments: int = 0
    call: str = ""

    def asks(self, unit: int) -> int:
        """Return how much of a unit it may spend."""
        amounts = (self.operations, self.rows, self.segments, 1 if self.call else 0)
        return amounts[unit]


@attrs.frozen
class Granted:
    """A request that fits every limit now."""


@attrs.frozen
class Wait:
    """A request that does not fit yet.

    Attributes:
        until_us: The earliest time it can fit, if all in flight ended as soon as it can; None: nothing known
            will make it fit.
        limit: The limit that is free last.
        used: What counts against that limit.
        requested: What was asked of it.
        capacity: What it allows.
    """

    until_us: int | None
    limit: str
    used: int
    requested: int
    capacity: int


@attrs.frozen
class Never:
    """A request that is larger than a whole limit.

    Attributes:
        limit: The limit.
        requested: What was asked of it.
        capacity: What it allows.
    """

    limit: str
    requested: int
    capacity: int


Decision: TypeAlias = Granted | Wait | Never


@attrs.frozen
class LimitState:
    """One limit at one moment. Times in journal microseconds.

    Attributes:
        limit: Its name.
        used: What counts against it, operations in flight included.
        pending: How much of that is in flight.
        external: How much of that somebody else spent.
        capacity: What it allows, headroom and margin taken off.
        next_release_us: When the next of it is free, if all in flight ended now; None when none is used.
        closed_until_us: Taken to be full until then by a 429 or a quarantine; 0 when it is not.
    """

    limit: str
    used: int
    pending: int
    external: int
    capacity: int
    next_release_us: int | None
    closed_until_us: int
