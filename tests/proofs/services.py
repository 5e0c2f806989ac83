"""Seven ways in which a service may count a quota, none of them ours. Nothing here is shared with the package.

Each is told of every operation in the order and at the time the service counts it, in whole microseconds of the
service's own clock, and says whether the service would have answered 429. It counts the operation all the same, so that
one objection does not hide the next. *excess* is what files were larger than declared, in so far as nobody could know
of it when the operation was reserved: the service may object to that much.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

__all__ = ["ASSERTED", "GRAIN_S", "MODELS", "REPORTED", "Model"]

GRAIN_S: Final = 60  # how coarse the buckets are


class Model(Protocol):
    """One counter of one limit: at most *limit* in *window_us*.

    Attributes:
        carries: What was once too much goes on mattering after its window, so all excess is forgiven for good.
    """

    carries: bool

    def __init__(self, limit: int, window_us: int) -> None: ...

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        """Count *weight* at *at_us*. Returns whether the service would have refused it."""


class SlidingLog:
    """Every hit is kept, and counts while it is younger than the window."""

    carries = False

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit, self.window_us = limit, window_us
        self.hits: deque[tuple[int, int]] = deque()
        self.total = 0

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        while self.hits and self._is_over(at_us - self.hits[0][0]):
            self.total -= self.hits.popleft()[1]
        self.hits.append((at_us, weight))
        self.total += weight
        return self.total > self.limit + excess

    def _is_over(self, age_us: int) -> bool:
        return age_us >= self.window_us


class InclusiveLog(SlidingLog):
    """A hit that is exactly as old as the window still counts."""

    def _is_over(self, age_us: int) -> bool:
        return age_us > self.window_us


class MinuteBuckets:
    """A counter a minute. The window is that many whole ones and the running one, so a hit stays for W to W + 60 s."""

    carries = False

    def __init__(self, limit: int, window_us: int) -> None:
        self.grain_us = GRAIN_S * 1_000_000
        self.limit, self.span = limit, -(-window_us // self.grain_us)
        self.counts: dict[int, int] = {}

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        minute = at_us // self.grain_us
        self.counts = {at: count for at, count in self.counts.items() if at >= minute - self.span}
        self.counts[minute] = self.counts.get(minute, 0) + weight
        return sum(self.counts.values()) > self.limit + excess


class FixedWindows:
    """A counter that starts anew at every full window of the clock."""

    carries = False

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit, self.window_us = limit, window_us
        self.number, self.count = -1, 0

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        number = at_us // self.window_us
        if number != self.number:
            self.number, self.count = number, 0
        self.count += weight
        return self.count > self.limit + excess


class FirstHitWindows:
    """A counter that starts with the first hit and is dropped a window later, as a key with an expiry is."""

    carries = False

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit, self.window_us = limit, window_us
        self.over_us, self.count = 0, 0

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        if at_us >= self.over_us:
            self.over_us, self.count = at_us + self.window_us, 0
        self.count += weight
        return self.count > self.limit + excess


class TokenBucket:
    """At most *limit* tokens, and as many again in a window, drop by drop."""

    carries = True

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit, self.window_us = limit, window_us
        self.spent, self.last_us = 0, 0  # in tokens times the window, so that it stays whole

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        self.spent = max(0, self.spent - (at_us - self.last_us) * self.limit) + weight * self.window_us
        self.last_us = at_us
        return self.spent > (self.limit + excess) * self.window_us


class WeightedCounter:
    """Two fixed windows, the last one weighed by how much of it the sliding one still covers: an approximation."""

    carries = True

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit, self.window_us = limit, window_us
        self.number, self.count, self.before = -1, 0, 0

    def objects(self, at_us: int, weight: int, excess: int = 0) -> bool:
        number, passed_us = divmod(at_us, self.window_us)
        if number != self.number:
            self.before = self.count if number == self.number + 1 else 0
            self.number, self.count = number, 0
        self.count += weight
        weighed = self.count * self.window_us + self.before * (self.window_us - passed_us)
        return weighed > (self.limit + excess) * self.window_us


ASSERTED: Final[dict[str, type[Model]]] = {
    "sliding log": SlidingLog,
    "inclusive log": InclusiveLog,
    "minute buckets": MinuteBuckets,
    "fixed windows": FixedWindows,
    "first-hit windows": FirstHitWindows,
    "token bucket": TokenBucket,
}
REPORTED: Final[dict[str, type[Model]]] = {"weighted counter": WeightedCounter}
MODELS: Final[dict[str, type[Model]]] = ASSERTED | REPORTED
