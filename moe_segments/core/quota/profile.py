"""The usage of one limit from now on, as a step function of time. Pure: no clock, no I/O.

The steps are kept in blocks with the sum, the peak and the low of each, so that a search skips what cannot decide it.
Times are integer microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from copy import copy
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Profile"]

_BLOCK: Final = 48  # steps of one block; a block twice as long is cut in two


class Profile:
    """The usage of one limit over time.

    Args:
        capacity: What the limit allows.
        now_us: Where the profile begins.
        used: What is counted from then on.
        ends: When how much of that stops counting.
    """

    __slots__ = ("_deltas", "_firsts", "_floors", "_marks", "_sums", "_times", "_top", "capacity", "now_us")

    capacity: int
    now_us: int

    def __init__(self, capacity: int, now_us: int, used: int, ends: Iterable[tuple[int, int]] = ()) -> None:
        self.capacity, self.now_us = capacity, now_us
        self._top = used  # never less than the peak
        steps = {now_us: used}
        for at_us, weight in ends:
            end_us = max(at_us, now_us)
            steps[end_us] = steps.get(end_us, 0) - weight
        times = sorted(steps)
        self._times = [times[at : at + _BLOCK] for at in range(0, len(times), _BLOCK)]
        self._deltas = [[steps[at_us] for at_us in block] for block in self._times]
        self._firsts = [block[0] for block in self._times]
        self._sums = [sum(block) for block in self._deltas]
        self._marks: list[tuple[int, int] | None] = [None] * len(self._times)  # peak and low; None: to be worked out
        self._floors: dict[tuple[int, int | None], int | None] = {}

    def copied(self) -> Profile:
        """Return a copy that goes its own way."""
        other = copy(self)
        other._times = [block[:] for block in self._times]  # noqa: SLF001 - its own
        other._deltas = [block[:] for block in self._deltas]  # noqa: SLF001
        other._firsts, other._floors = self._firsts[:], self._floors.copy()  # noqa: SLF001
        other._sums, other._marks = self._sums[:], self._marks[:]  # noqa: SLF001 - its own kind
        return other

    # Changing

    def add(self, from_us: int, until_us: int | None, weight: int) -> None:
        """Count *weight* from one moment until another; None: for ever. A negative weight frees it."""
        if weight < 0:
            self._floors.clear()  # it may fit earlier than was found
        self._top += max(0, weight)
        self._step(from_us, weight)
        if until_us is not None:
            self._step(until_us, -weight)

    def _step(self, at_us: int, delta: int) -> None:
        block = max(0, bisect_right(self._firsts, at_us) - 1)
        times, deltas = self._times[block], self._deltas[block]
        at = bisect_left(times, at_us)
        if at < len(times) and times[at] == at_us:
            deltas[at] += delta
        else:
            times.insert(at, at_us)
            deltas.insert(at, delta)
        self._firsts[block], self._marks[block] = times[0], None
        self._sums[block] += delta
        if len(times) >= 2 * _BLOCK:
            self._cut(block)

    def _cut(self, block: int) -> None:
        times, deltas = self._times[block], self._deltas[block]
        parts = deltas[:_BLOCK], deltas[_BLOCK:]
        self._times[block : block + 1] = times[:_BLOCK], times[_BLOCK:]
        self._deltas[block : block + 1] = parts
        self._firsts[block : block + 1] = times[0], times[_BLOCK]
        self._sums[block : block + 1] = map(sum, parts)
        self._marks[block : block + 1] = None, None

    def _marked(self, block: int) -> tuple[int, int]:
        """Work out the peak and the low of a block, from its beginning on."""
        levels = list(accumulate(self._deltas[block]))
        marks = self._marks[block] = max(levels), min(levels)
        return marks

    # Asking

    def level_before(self, at_us: int) -> int:
        """Return what is counted just before a moment."""
        block = max(0, bisect_left(self._firsts, at_us) - 1)
        return sum(self._sums[:block]) + sum(self._deltas[block][: bisect_left(self._times[block], at_us)])

    def next_step_us(self, after_us: int) -> int | None:
        """Return the first moment after another at which what is counted may change; None when there is none."""
        for times in self._times:
            if times[-1] > after_us:
                return times[bisect_right(times, after_us)]
        return None

    def steps(self) -> Iterator[tuple[int, int]]:
        """Yield from which moment how much is counted, where that changes."""
        level = 0
        for times, deltas in zip(self._times, self._deltas, strict=True):
            for at_us, delta in zip(times, deltas, strict=True):
                level += delta
                if delta or at_us == self._firsts[0]:
                    yield at_us, level

    def peak(self, from_us: int, until_us: int) -> int:
        """Return the most that is counted at any moment from one on and before another."""
        level = top = self.level_before(from_us + 1)
        for block in range(max(0, bisect_right(self._firsts, from_us) - 1), len(self._firsts)):
            if self._firsts[block] >= until_us:
                break
            times, deltas = self._times[block], self._deltas[block]
            first, last = bisect_right(times, from_us), bisect_left(times, until_us)
            if first == 0 and last == len(times):
                top = max(top, level + (self._marks[block] or self._marked(block))[0])
                level += self._sums[block]
                continue
            for delta in deltas[first:last]:
                level += delta
                top = max(top, level)
        return top

    def first_fit(self, from_us: int, length_us: int | None, weight: int) -> int | None:
        """Return the first moment from *from_us* on at which *weight* fits for *length_us*; None when it never does.

        Weights of one size class share what is known of the past: before its floor none of them fits.
        """
        if weight <= 0 or self._top + weight <= self.capacity:
            return from_us
        least = 1 << (weight.bit_length() - 1)
        key = (least, length_us)
        floor_us = self._floors.get(key, self.now_us)
        if floor_us is not None and from_us <= max(floor_us, self.now_us):
            floor_us = self._floors[key] = self._search(max(floor_us, self.now_us), length_us, least)
        if floor_us is None:
            return None
        from_us = max(from_us, floor_us)
        return from_us if from_us == floor_us and weight == least else self._search(from_us, length_us, weight)

    def _search(self, from_us: int, length_us: int | None, weight: int) -> int | None:  # noqa: C901 - one loop
        room = self.capacity - weight
        firsts, sums, marks = self._firsts, self._sums, self._marks
        block = max(0, bisect_right(firsts, from_us) - 1)
        skip = bisect_right(self._times[block], from_us)
        level = sum(sums[:block]) + sum(self._deltas[block][:skip])
        fit = from_us if level <= room else None
        for at in range(block, len(firsts)):
            if skip == 0:
                peak, low = marks[at] or self._marked(at)
                if fit is not None:
                    if length_us is not None and firsts[at] >= fit + length_us:
                        return fit
                    if level + peak <= room:
                        level += sums[at]
                        continue
                elif level + low > room:
                    level += sums[at]
                    continue
            for at_us, delta in zip(self._times[at][skip:], self._deltas[at][skip:], strict=True):
                if fit is not None and length_us is not None and at_us >= fit + length_us:
                    return fit
                level += delta
                if level > room:
                    fit = None
                elif fit is None:
                    fit = at_us
            skip = 0
        return fit
