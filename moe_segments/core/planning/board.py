"""A lean schedule for the search over orders: flat lists, a start and nothing else. Pure: no clock, no I/O.

`core.quota.forecast.Schedule` says when an operation starts and why. The search asks only for the time, some hundred
times for each operation, so it has a schedule of its own. A property test holds that both find the same starts.
Times are integer microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from moe_segments.core.quota.decision import Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from moe_segments.core.quota.active_segments import Lease
    from moe_segments.core.quota.forecast import Demand
    from moe_segments.core.quota.usage import Quotas
    from moe_segments.core.quota.window import Window

__all__ = ["Board", "Need", "Steps", "Task"]


class Steps:
    """The usage of one limit from now on, as two lists: moments, and what is counted from each on.

    Args:
        capacity: What the limit allows.
        now_us: Where it begins.
        used: What is counted from then on.
        ends: When how much of that stops counting.
    """

    __slots__ = ("_floors", "_levels", "_times", "capacity")

    def __init__(self, capacity: int, now_us: int, used: int, ends: Iterable[tuple[int, int]] = ()) -> None:
        self.capacity: int = capacity
        deltas = {now_us: used}
        for end_us, weight in ends:
            at_us = max(end_us, now_us)
            deltas[at_us] = deltas.get(at_us, 0) - weight
        self._times = sorted(deltas)
        self._levels = list(accumulate(deltas[at_us] for at_us in self._times))
        self._floors: dict[tuple[int, int | None], int | None] = {}

    def copied(self) -> Steps:
        """Return a copy that goes its own way."""
        other = object.__new__(Steps)
        other.capacity = self.capacity
        other._times, other._levels = self._times[:], self._levels[:]
        other._floors = self._floors.copy()
        return other

    def add(self, from_us: int, until_us: int | None, weight: int) -> None:
        """Count *weight* from one moment until another; None: for ever. A negative weight frees it."""
        if weight < 0:
            self._floors.clear()  # it may fit earlier than was found
        levels = self._levels
        first = self._cut(from_us)
        for at in range(first, len(levels) if until_us is None else self._cut(until_us)):
            levels[at] += weight

    def _cut(self, at_us: int) -> int:
        """Return the place of the step that begins at a moment; make one where there is none."""
        times = self._times
        at = bisect_left(times, at_us)
        if at == len(times) or times[at] != at_us:
            times.insert(at, at_us)
            self._levels.insert(at, self._levels[at - 1])
        return at

    @property
    def peak(self) -> int:
        """The most that is counted at any time."""
        return max(self._levels)

    def first_fit(self, from_us: int, length_us: int | None, weight: int) -> int | None:
        """Return the first moment from *from_us* on at which *weight* fits for *length_us*; None when it never does.

        Weights of one size class share what is known of the past: before its floor none of them fits.
        """
        least = 1 << (weight.bit_length() - 1)
        key = (least, length_us)
        floor_us = self._floors.get(key, self._times[0])
        if floor_us is not None and from_us <= floor_us:
            floor_us = self._floors[key] = self._search(floor_us, length_us, least)
        if floor_us is None or (from_us <= floor_us and weight == least):
            return floor_us
        return self._search(max(from_us, floor_us), length_us, weight)

    def _search(self, at_us: int, length_us: int | None, weight: int) -> int | None:
        times, levels, room = self._times, self._levels, self.capacity - weight
        at, size = bisect_right(times, at_us) - 1, len(times)
        while True:
            while levels[at] > room:
                at += 1
                if at == size:
                    return None
            at_us = max(at_us, times[at])
            end = size if length_us is None else bisect_left(times, at_us + length_us, at)
            if max(levels[at:end]) <= room:
                return at_us
            at = end - 1
            while levels[at] <= room:  # the last step without room is in the way of every earlier start
                at -= 1


class Need(NamedTuple):
    """The part of a demand on one limit.

    Attributes:
        limit: The place of the limit on the board.
        weight: How much is counted.
        short_us: For how long, once it started; None for ever.
        long_us: For how long there must be room; None for ever.
    """

    limit: int
    weight: int
    short_us: int | None
    long_us: int | None


class Task(NamedTuple):
    """One operation on the board.

    Attributes:
        needs: What it takes of the limits.
        chain: Its segment: the operations of one chain start in their order.
        makes: Whether its segment is active from its start on.
        life_us: For how long then; None for ever.
        leases: The active segments of the journal that an archive frees; None for what is no archive.
    """

    needs: tuple[Need, ...]
    chain: int
    makes: bool = False
    life_us: int | None = None
    leases: tuple[Lease, ...] | None = None


class Board:
    """The usage of every limit by all that counts and all that was placed.

    Args:
        quotas: What counts. It is read now and never changed.
        now_us: The time.
    """

    def __init__(self, quotas: Quotas, now_us: int) -> None:
        quotas.advance(now_us)
        self._quotas, self._now_us = quotas, now_us
        self._limits: list[Steps] = []
        self._places: dict[int, int] = {}  # by the identity of a window, or of the gauge
        self._kinds: dict[tuple[bool, int, str], list[tuple[int, int, int, int]]] = {}
        self._ready_us: dict[int, int | None] = {}
        self._made: dict[int, tuple[int, int | None]] = {}

    def copied(self) -> Board:
        """Return a copy that goes its own way."""
        other = object.__new__(Board)
        other.__dict__.update(self.__dict__)
        other._limits = [steps.copied() for steps in self._limits]
        other._ready_us, other._made = self._ready_us.copy(), self._made.copy()
        return other

    # Making tasks

    def task(self, demand: Demand, chain: int) -> Task:
        """Return what *demand* takes of this board; to be asked before the board is copied."""
        operations, rows, segments, _ = demand.cost
        found = [
            Need(limit, weight, short_us, long_us)
            for limit, unit, short_us, long_us in self._spans(demand)
            if (weight := rows if unit == Unit.USER else 1 if unit == Unit.CALL else operations)
        ]
        if segments:
            found.append(Need(self._gauge(), segments, demand.life_us, demand.life_us))
        leases = None
        if demand.archives is not None:
            self._gauge()
            leases = self._quotas.active.found(*demand.archives)
        return Task(tuple(found), chain, bool(segments), demand.life_us, leases)

    def _spans(self, demand: Demand) -> list[tuple[int, int, int, int]]:
        """Return each window by its place, with its unit, and for how long such an operation counts in it."""
        key = awaits_callback, attempt_us, call = demand.awaits_callback, demand.attempt_us, demand.cost.call
        if key not in self._kinds:
            quotas, kind = self._quotas, self._kinds.setdefault(key, [])
            late_us, allowance_us = attempt_us + quotas.late_us, quotas.allowance_us
            for window in (*quotas.windows, *(quotas.pool_at(call, self._now_us).windows if call else ())):
                is_users = window.unit == Unit.USER
                short_us = window.span_us + (allowance_us if is_users and not awaits_callback else 0)
                long_us = window.span_us + late_us + (allowance_us if is_users else 0)
                kind.append((self._place_of(window), window.unit, short_us, long_us))
        return self._kinds[key]

    def binding(self, tasks: Sequence[Task]) -> list[Task]:
        """Return *tasks* without their needs of limits that have room for all of them together at any time."""
        totals = [0] * len(self._limits)
        for task in tasks:
            for need in task.needs:
                totals[need.limit] += need.weight
        binds = [steps.peak + total > steps.capacity for steps, total in zip(self._limits, totals, strict=True)]
        return [task._replace(needs=tuple(need for need in task.needs if binds[need.limit])) for task in tasks]

    def lightened(self, task: Task) -> Task:
        """Return *task* as if it had no users and made no segment."""
        heavy = {id(window) for window in self._quotas.windows if window.unit == Unit.USER} | {id(self._quotas.active)}
        limits = {place for key, place in self._places.items() if key in heavy}
        return task._replace(needs=tuple(need for need in task.needs if need.limit not in limits))

    def _place_of(self, window: Window) -> int:
        place = self._places.get(id(window))
        if place is None:
            now_us, history, span_us = self._now_us, window.history, window.span_us
            ends = [(u_us + span_us, weight) for u_us, weight in history.counted(window.head)]
            ends += [(hold.expected_us(now_us) + span_us, hold.weight) for hold in history.holds]
            closed_us = window.closed_until_us
            if window.probing and history.holds:
                closed_us = max(closed_us, window.probe_ends_us(now_us))
            place = self._places[id(window)] = self._entered(
                Steps(window.capacity, now_us, window.used, ends), closed_us
            )
        return place

    def _gauge(self) -> int:
        active = self._quotas.active
        place = self._places.get(id(active))
        if place is None:
            ends = [(self._expected_end_us(row_id, lease), 1) for row_id, lease in active.leases.items()]
            known = [(end_us, weight) for end_us, weight in ends if end_us is not None]
            place = self._places[id(active)] = self._entered(
                Steps(active.capacity, self._now_us, active.used, known), active.full_until_us
            )
        return place

    def _entered(self, steps: Steps, closed_us: int) -> int:
        if closed_us > self._now_us:
            steps.add(self._now_us, closed_us, steps.capacity)
        self._limits.append(steps)
        return len(self._limits) - 1

    def _expected_end_us(self, row_id: str, lease: Lease) -> int | None:
        """Return when a segment expires, if it was made now where that is not known; None for never."""
        row = self._quotas.rows.get(row_id)
        if lease.until_us is None or lease.confirmed or row is None or row.life_us is None:
            return lease.until_us
        return min(lease.until_us, self._now_us + row.life_us)

    # Placing

    def place(self, task: Task, *, is_early: bool = False) -> int | None:
        """Return the earliest start of *task* behind all that were placed before, and take its room from then on.

        Args:
            task: What is to be placed.
            is_early: Whether there need only be room for as long as it counts: where those placed before will be
                reordered by their starts. Otherwise the start is that of `Schedule.place`.

        Returns:
            The start; None when nothing known will let it start.
        """
        at_us = self._fit(task.needs, self._ready_us.get(task.chain, self._now_us), is_early=is_early)
        self.take(task, at_us)
        return at_us

    def _fit(self, needs: Sequence[Need], at_us: int | None, *, is_early: bool) -> int | None:
        if at_us is None:
            return None
        limits, settled = self._limits, 0
        while settled < len(needs):
            for limit, weight, short_us, long_us in needs:
                fits_us = limits[limit].first_fit(at_us, short_us if is_early else long_us, weight)
                if fits_us is None:
                    return None
                settled += 1
                if fits_us > at_us:
                    at_us, settled = fits_us, 1
                if settled >= len(needs):
                    break
        return at_us

    def take(self, task: Task, at_us: int | None) -> None:
        """Take what *task* needs from its start on; None: it never starts, nor does any behind it in its chain."""
        self._ready_us[task.chain] = at_us
        if at_us is None:
            return
        for limit, weight, short_us, _ in task.needs:
            self._limits[limit].add(at_us, None if short_us is None else at_us + short_us, weight)
        if task.makes:
            self._made[task.chain] = at_us, None if task.life_us is None else at_us + task.life_us
        if task.leases is not None:
            self._free(task, task.leases, at_us)

    def _free(self, task: Task, leases: Sequence[Lease], at_us: int) -> None:
        """Let an archive free what its segment counts for."""
        made = self._made.pop(task.chain, None)
        ends = [made] if made is not None else [(at_us, lease.until_us) for lease in leases]
        for from_us, until_us in ends:
            if until_us is None or until_us > at_us:
                self._limits[self._gauge()].add(max(at_us, from_us), until_us, -1)
