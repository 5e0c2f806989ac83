"""Settled and held usage of one unit, and the sliding windows that look at it. Pure: no clock, no I/O.

A settled entry is `(u, weight)`: the journal's time after which the service cannot have counted it, and how much it
counts. A window of span S (its length plus guard) counts an entry while `now < u + S`. One history serves every window
of its unit: the hour and the day look at the same entries through spans of their own.

A hold is usage whose `u` is not known yet. It is born with a bound, so a crash needs no sweeper: when the bound has
passed without news, the bound becomes its `u`.

Times are integer microseconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SILENT_US", "TRIM_AT", "Hold", "UsageHistory", "Window"]

SILENT_US = 2**62  # as `Hold.silence_us`: its end is expected at its bound and not before
_SHORTEST_PAUSE = 32  # the part of a window that is the pause after a second 429 in a row
TRIM_AT = 4_096  # entries that no window counts any more, before the arrays are cut


class Hold:
    """Usage that is held, or was and can still be re-stamped.

    Attributes:
        weight: How much it counts.
        bound_us: The `u` it gets when nothing is heard of it.
        silence_us: How long before its bound its end is no longer expected at any moment, but only at the bound.
        u_us: Its `u` once settled, else None.
    """

    __slots__ = ("bound_us", "silence_us", "u_us", "weight")

    weight: int
    bound_us: int
    silence_us: int

    def __init__(self, weight: int, bound_us: int, silence_us: int) -> None:
        self.weight, self.bound_us, self.silence_us = weight, bound_us, silence_us
        self.u_us: int | None = None

    @property
    def doubt_us(self) -> int:
        """The time until which its end is expected at any moment; after that only at its bound."""
        return self.bound_us - self.silence_us

    def expected_us(self, now_us: int) -> int:
        """Return the earliest `u` it may still get."""
        return now_us if now_us < self.bound_us - self.silence_us else self.bound_us


class UsageHistory:
    """The usage of one unit, ordered by `u`, with running sums."""

    __slots__ = ("held", "holds", "next_bound_us", "now_us", "sums", "us", "windows")

    def __init__(self) -> None:
        self.us: array[int] = array("q")
        self.sums: array[int] = array("q", [0])  # sums[i]: weight of the entries before i, and of all that were trimmed
        self.holds: dict[Hold, None] = {}  # a set in the order they came, of half the size
        self.held: int = 0
        self.next_bound_us: int | None = None
        self.windows: list[Window] = []
        self.now_us: int = 0

    def hold(self, hold: Hold) -> None:
        """Count *hold* until it is settled or released."""
        self.holds[hold] = None
        self.held += hold.weight
        if self.next_bound_us is None or hold.bound_us < self.next_bound_us:
            self.next_bound_us = hold.bound_us

    def settle(self, hold: Hold, u_us: int, weight: int | None = None) -> None:
        """Give *hold* its `u`, and a weight where that is known better; also when it had one already."""
        self.release(hold)
        if weight is not None:
            hold.weight = weight
        hold.u_us = u_us
        self.add(u_us, hold.weight)

    def release(self, hold: Hold) -> None:
        """Count *hold* no more."""
        if hold.u_us is not None:
            self._remove(hold.u_us, hold.weight)
            hold.u_us = None
        elif hold in self.holds:
            del self.holds[hold]
            self.held -= hold.weight

    def rebound(self, hold: Hold, bound_us: int, silence_us: int) -> None:
        """Move the bound of *hold*, which is held again if its old bound had settled it."""
        self.release(hold)
        hold.bound_us, hold.silence_us = bound_us, silence_us
        self.hold(hold)

    def add(self, u_us: int, weight: int) -> None:
        """Count *weight* from now until each window's span after *u_us*."""
        us, sums = self.us, self.sums
        if not us or u_us >= us[-1]:
            us.append(u_us)
            sums.append(sums[-1] + weight)
            return
        at = bisect_right(us, u_us)
        us.insert(at, u_us)
        sums.insert(at + 1, sums[at] + weight)
        for later in range(at + 2, len(sums)):
            sums[later] += weight
        for window in self.windows:
            window.inserted(at)

    def _remove(self, u_us: int, weight: int) -> None:
        us, sums = self.us, self.sums
        at = bisect_left(us, u_us)
        while at < len(us) and us[at] == u_us and sums[at + 1] - sums[at] != weight:
            at += 1
        if at == len(us) or us[at] != u_us:
            return  # trimmed: no window counts it any more
        del us[at]
        del sums[at + 1]
        for later in range(at + 1, len(sums)):
            sums[later] -= weight
        for window in self.windows:
            window.removed(at)

    def counted(self, first: int) -> Iterator[tuple[int, int]]:
        """Yield the `u` and the weight of each settled entry from the place *first* on."""
        sums = self.sums
        for at in range(first, len(self.us)):
            yield self.us[at], sums[at + 1] - sums[at]

    def advance(self, now_us: int) -> None:
        """Let bounds that have passed become `u`, and windows move on; or back, from a time that was an estimate."""
        us = self.us
        if now_us < self.now_us:
            for window in self.windows:
                window.head = bisect_right(us, now_us - window.span_us)
        self.now_us = now_us
        if self.next_bound_us is not None and now_us >= self.next_bound_us:
            for hold in [hold for hold in self.holds if hold.bound_us <= now_us]:
                self.settle(hold, hold.bound_us)
            self.next_bound_us = min((hold.bound_us for hold in self.holds), default=None)
        for window in self.windows:
            if window.head < len(us) and us[window.head] <= now_us - window.span_us:
                window.advance(now_us)

    def trim(self, now_us: int) -> None:
        """Cut off what no window counts at *now_us*, a time that no later one comes before; `TRIM_AT` or nothing."""
        self.advance(now_us)
        gone = min(window.head for window in self.windows)
        if gone < TRIM_AT:
            return
        del self.us[:gone]
        del self.sums[:gone]
        for window in self.windows:
            window.head -= gone


class Window:
    """One sliding window over a history.

    Attributes:
        limit: The limit's name.
        unit: Which part of a cost it weighs.
        capacity: What it allows, headroom taken off.
        span_us: Its length plus its guard.
        head: The first entry of the history it still counts.
        throttled_until_us: Full until then, because the service said so.
        probing: After that, one operation at a time until one is accepted.
        strikes: How often in a row the service said so.
        quarantined_until_us: Full until then, because history may be lost.
    """

    __slots__ = (
        "capacity",
        "head",
        "history",
        "limit",
        "probing",
        "quarantined_until_us",
        "span_us",
        "strikes",
        "throttled_until_us",
        "unit",
    )

    history: UsageHistory
    limit: str
    unit: int
    capacity: int
    span_us: int
    throttled_until_us: int
    quarantined_until_us: int

    def __init__(self, history: UsageHistory, *, limit: str, unit: int, capacity: int, span_us: int) -> None:
        self.history, self.limit, self.unit = history, limit, unit
        self.capacity, self.span_us = capacity, span_us
        self.head: int = 0
        self.throttled_until_us = self.quarantined_until_us = 0
        self.probing: bool = False
        self.strikes: int = 0
        history.windows.append(self)

    def advance(self, now_us: int) -> None:
        """Stop counting the entries whose time is over."""
        us, head, oldest = self.history.us, self.head, now_us - self.span_us
        size = len(us)
        while head < size and us[head] <= oldest:
            head += 1
        self.head = head

    def inserted(self, at: int) -> None:
        """Account for an entry that was inserted at this place."""
        if at < self.head:
            self.head += 1

    def removed(self, at: int) -> None:
        """Account for an entry that was removed from this place."""
        if at < self.head:
            self.head -= 1

    def least_pause_us(self) -> int:
        """Return the shortest pause after a 429, however soon the service invites back: twice as long each time."""
        shortest_us = self.span_us // _SHORTEST_PAUSE
        return min(self.span_us, shortest_us << min(self.strikes - 1, _SHORTEST_PAUSE)) if self.strikes else 0

    @property
    def closed_until_us(self) -> int:
        """The end of a closure by a 429 or a quarantine; 0 when there is none."""
        return max(self.throttled_until_us, self.quarantined_until_us)

    def free(self, now_us: int) -> int:
        """Return how much fits now, as of the last `advance`."""
        if now_us < self.closed_until_us or (self.probing and self.history.holds):
            return 0
        return self.capacity - self.used

    def probe_ends_us(self, now_us: int) -> int:
        """Return when the outcome of what is in flight is known at the earliest."""
        ends_us = (hold.doubt_us if now_us < hold.doubt_us else hold.bound_us for hold in self.history.holds)
        return max(now_us + 1, min(ends_us))

    @property
    def used(self) -> int:
        """Return what is counted, operations in flight included, as of the last `advance`."""
        sums = self.history.sums
        return sums[-1] - sums[self.head] + self.history.held

    def next_release_us(self, now_us: int) -> int | None:
        """Return when the oldest of what is counted stops counting, if everything in flight ended now."""
        return self.fits_at_us(1, now_us) if self.used else None

    def fits_at_us(self, over: int, now_us: int) -> int:
        """Return the earliest time at which *over* less is counted, if everything in flight ended as soon as it can.

        Args:
            over: From 1 to what is counted now.
            now_us: The time of the last `advance`.
        """
        us, sums = self.history.us, self.history.sums
        at = bisect_left(sums, sums[self.head] + over, self.head) - 1
        if at < len(us) and (us[at] <= now_us or not self.history.holds):
            return us[at] + self.span_us
        return self._fits_among_late_us(over, now_us)

    def _fits_among_late_us(self, over: int, now_us: int) -> int:
        us, sums = self.history.us, self.history.sums
        first_late = bisect_right(us, now_us, self.head)
        over -= sums[first_late] - sums[self.head]
        late = [(us[at], sums[at + 1] - sums[at]) for at in range(first_late, len(us))]
        late += [(hold.expected_us(now_us), hold.weight) for hold in self.history.holds]
        late.sort()
        for u_us, weight in late:
            over -= weight
            if over <= 0:
                return u_us + self.span_us
        raise AssertionError("asked for more than is counted")
