"""When each of many operations can start, if each starts as early as the quotas allow. Pure: no clock, no I/O.

Looking ahead assumes that operations end at once and files are processed at once; what is in flight ends as soon as it
can. So a plan is the earliest that can happen, and what happens is later by the answers' and callbacks' latency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from moe_segments.core.decisions import Cost, Granted, Never, Wait

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moe_segments.core.quotas import Quotas

__all__ = ["Start", "starts"]


@attrs.frozen
class Start:
    """When one operation can start.

    Attributes:
        at_us: The earliest time, journal microseconds; None when nothing known will let it start.
        limit: The limit it waits for last; None when it waits for none.
        used: What counts against that limit before it is free; 0 when it waits for none.
        requested: What it asks of that limit.
        capacity: What that limit allows.
    """

    at_us: int | None
    limit: str | None = None
    used: int = 0
    requested: int = 0
    capacity: int = 0


def starts(quotas: Quotas, costs: Iterable[Cost], now_us: int) -> Iterator[Start]:
    """The start of each operation, in order, none overtaking an earlier one. One that never fits starts never."""
    ahead = quotas.projected(now_us)
    start = Start(now_us)
    for number, cost in enumerate(costs):
        if not any(cost):
            yield Start(now_us)  # an archive waits for no quota, so it stands in no line
            continue
        found = _start(ahead, cost, start)
        if found.at_us is not None:
            start = found
            ahead.spend(cost, found.at_us, f"planned {number}")
        yield found


def _start(ahead: Quotas, cost: Cost, before: Start) -> Start:
    """The earliest start not before that of the one ahead; who starts with it waits for the same limit."""
    found = before
    while found.at_us is not None:
        match ahead.decide(cost, found.at_us):
            case Granted():
                return found
            case Never(limit, requested, capacity):
                return Start(None, limit, 0, requested, capacity)
            case Wait(until_us, limit, used, requested, capacity):
                assert until_us is None or until_us > found.at_us  # or this would not end
                found = Start(until_us, limit, used, requested, capacity)
    return found
