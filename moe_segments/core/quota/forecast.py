"""The forecast: when each of many operations can start. A pass admits by it. Pure: no clock, no I/O.

Operations are placed in the order of the line. Each gets the earliest start at which it fits every limit beside all
that counts and all that were placed before it (conservative backfilling), so whoever comes later moves nobody who was
there before. A placed operation counts as if it were answered, and its file processed, in the moment it starts.
To be placed it needs room for longer than that, for as long as it would count if nothing were ever heard of it: so it
does not delay those it passes.

A pass places those who wait and lets go whoever is placed now. A forecast places them and then those who ask. So the
two agree, and a placing stays right while time passes: a start that came true counts exactly as it was placed.
"""

from __future__ import annotations

from copy import copy
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import attrs

from moe_segments import limits as documented
from moe_segments.core.quota.decision import Cost, Unit
from moe_segments.core.quota.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moe_segments.core.quota.active_segments import Lease
    from moe_segments.core.quota.usage import Quotas, Row
    from moe_segments.core.quota.window import Window

__all__ = ["Demand", "Schedule", "Start", "starts", "starts_in_turn"]


@attrs.frozen
class Demand:
    """The demand of one operation, and for how long.

    Attributes:
        cost: What it may spend.
        keys: What it keeps busy, under every name that is known for it: one operation at a time.
        awaits_callback: Its users count from its callback; otherwise from the end of the processing allowance.
        life_us: How long its segment counts as active once made; None for ever.
        attempt_us: How long after its start its request may still be under way.
        archives: Name and identifier of the segment that it frees; None when it frees none.
    """

    cost: Cost
    keys: tuple[str, ...] = ()
    awaits_callback: bool = True
    life_us: int | None = None
    attempt_us: int = 0
    archives: tuple[str, str | None] | None = None


@attrs.frozen
class Start:
    """The start of one operation, and the limit that binds it.

    Attributes:
        at_us: The earliest time, journal microseconds; None when nothing known will let it start.
        limit: The limit it waits for last; None when it waits for none.
        used: What counts against that limit until then; 0 when it waits for none.
        requested: What it asks of that limit.
        capacity: What that limit allows.
        behind: The job whose segment it waits for, where that binds it; else None.
    """

    at_us: int | None
    limit: str | None = None
    used: int = 0
    requested: int = 0
    capacity: int = 0
    behind: str | None = None


class _Need(NamedTuple):
    """The part of a demand on one limit: for so long, and for so long at most; None for ever."""

    profile: Profile
    window: Window | None  # None: the active segments
    weight: int
    short_us: int | None
    long_us: int | None


class Schedule:
    """The starts of those in line, and what is taken of each limit by them and by all that counts.

    Args:
        quotas: What counts. It is read now and never changed.
        now_us: The time.
        passers: Rows that passed somebody who waits.

    Attributes:
        made_us: When it was made.
        in_flight: Whether something was in flight then, whose end is taken to be then.
    """

    made_us: int
    now_us: int

    def __init__(self, quotas: Quotas, now_us: int, passers: Iterable[str] = ()) -> None:
        self._quotas, self.now_us, self.made_us = quotas, now_us, now_us
        quotas.advance(now_us)
        self._profiles: dict[int, Profile] = {}
        self._active: Profile | None = None
        self._asked: tuple[Demand, Sequence[_Need]] | None = None
        self._made: dict[str, tuple[int, int | None]] = {}
        self._last: dict[str, tuple[str, Start]] = {}
        self._late_us, self._allowance_us = quotas.late_us, quotas.allowance_us
        self._tails = [0, 0, 0]  # by unit: what is held by those that passed, which may end late
        self._call_tails: dict[str, int] = {}
        self.in_flight: bool = any(history.holds for history in quotas.histories)
        for row in (quotas.rows[row_id] for row_id in passers if row_id in quotas.rows):
            self._mind(row)

    def copied(self) -> Schedule:
        """Return a copy that goes its own way: a trial costs no more than what is placed in it."""
        other = copy(self)
        other._asked = None  # noqa: SLF001 - its own, as the others
        other._profiles = {key: profile.copied() for key, profile in self._profiles.items()}  # noqa: SLF001 - its own
        other._active = None if self._active is None else self._active.copied()  # noqa: SLF001
        other._made, other._last = self._made.copy(), self._last.copy()  # noqa: SLF001
        other._tails, other._call_tails = self._tails[:], self._call_tails.copy()  # noqa: SLF001
        return other

    def move_on(self, now_us: int) -> None:
        """Let time pass: nobody starts before *now_us* any more."""
        self.now_us = max(self.now_us, now_us)
        for profile in self._every_profile():
            profile.now_us = self.now_us

    def _every_profile(self) -> Iterator[Profile]:
        yield from self._profiles.values()
        if self._active is not None:
            yield self._active

    # Placing

    def place(self, demand: Demand, job: str = "") -> Start:
        """Return the earliest start of *demand* behind all that were placed before, and take its room from then on."""
        start = self.find(demand)
        self.take(demand, start, job)
        return start

    def find(self, demand: Demand) -> Start:
        """Return the earliest start of *demand* behind all that were placed before, without taking anything."""
        at_us, before = self.now_us, None
        for key in demand.keys:
            one = self._last.get(key)
            if one is not None and (before is None or _is_later(one[1], before[1])):
                before = one
        if before is not None:
            job, first = before
            if first.at_us is None:
                return attrs.evolve(first, behind=job)
            at_us = max(at_us, first.at_us)
            found = self._fit(demand, at_us)
            return attrs.evolve(first, at_us=at_us, behind=job) if found.at_us == at_us else found
        return self._fit(demand, at_us)

    def take(self, demand: Demand, start: Start, job: str = "") -> None:
        """Take what *demand* needs from its start on."""
        for key in demand.keys:
            self._last[key] = job, start
        if start.at_us is None:
            return
        for profile, _, weight, short_us, _ in self._needs(demand):
            profile.add(start.at_us, None if short_us is None else start.at_us + short_us, weight)
        if demand.cost.segments:
            end_us = None if demand.life_us is None else start.at_us + demand.life_us
            self._made.update(dict.fromkeys(demand.keys, (start.at_us, end_us)))
        if demand.archives is not None:
            self._free(demand, start.at_us)

    def before(self, keys: Iterable[str]) -> tuple[str, Start] | None:
        """Return the job that was placed last on a segment, and its start; None when none was."""
        return next((self._last[key] for key in keys if key in self._last), None)

    def _fit(self, demand: Demand, from_us: int) -> Start:
        at_us, before_us, binding = from_us, None, None
        while at_us != before_us:  # until it fits all of them at the same time
            before_us = at_us
            for need in self._needs(demand):
                fits_us = need.profile.first_fit(at_us, need.long_us, need.weight)
                if fits_us is None:
                    return self._start(None, need)
                if fits_us > at_us:
                    at_us, binding = fits_us, need
        return Start(at_us) if binding is None else self._start(at_us, binding)

    def _start(self, at_us: int | None, need: _Need) -> Start:
        window, capacity = need.window, need.profile.capacity
        used = self._quotas.active.used if window is None else window.used
        limit = documented.ACTIVE_SEGMENTS if window is None else window.limit
        closed_us = self._quotas.active.full_until_us if window is None else window.closed_until_us
        if at_us is not None and at_us > closed_us and used + need.weight <= capacity:
            used = min(need.profile.level_before(at_us), capacity)  # those ahead take it until then
        return Start(at_us, limit, used, need.weight, capacity)

    # Passing

    def held(self, demand: Demand) -> Start | None:
        """Return what keeps *demand*, which fits now, because it could delay somebody ahead; None when it could not.

        It could if nothing were heard for as long as can be of it and of all that passed before. The start is when
        there is room for all of them.
        """
        for profile, window, weight, from_us, until_us, tail in self._late(demand):
            top = profile.peak(from_us, until_us) + tail
            if top + weight > profile.capacity:
                at_us = profile.first_fit(self.now_us, until_us - self.now_us, weight + tail)
                return Start(at_us, window.limit, min(top, profile.capacity), weight, profile.capacity)
        return None

    def spare(self, demand: Demand) -> tuple[dict[int, int], int | None]:
        """Return how much of each unit that *demand* asks for is not held if it ends as late, and until when it is not.

        None is for ever. Whoever is placed later can only make it less.
        """
        amounts: dict[int, int] = {}
        changes_us: list[int] = []
        for profile, window, _, from_us, until_us, tail in self._late(demand):
            amount = profile.capacity - profile.peak(from_us, until_us) - tail
            amounts[window.unit] = min(amount, amounts.get(window.unit, amount))
            step_us = profile.next_step_us(from_us)
            if step_us is not None:
                changes_us.append(self.now_us + step_us - from_us)
        return amounts, min(changes_us, default=None)

    def _late(self, demand: Demand) -> Iterator[tuple[Profile, Window, int, int, int, int]]:
        """Yield for each limit its weight, when it counts only if it ends late, and how much else may end late."""
        for profile, window, weight, short_us, long_us in self._needs(demand):
            if window is not None and short_us is not None and long_us is not None:  # not the active segments
                is_call = window.unit == Unit.CALL
                tail = self._call_tails.get(demand.cost.call, 0) if is_call else self._tails[window.unit]
                yield profile, window, weight, self.now_us + short_us, self.now_us + long_us, tail

    def passed(self, demand: Demand) -> None:
        """Note that *demand* left before somebody ahead of it: its usage may end late."""
        self._tails[0] += demand.cost.operations
        self._tails[1] += demand.cost.rows
        if demand.cost.call:
            self._call_tails[demand.cost.call] = self._call_tails.get(demand.cost.call, 0) + 1

    def _mind(self, row: Row) -> None:
        for unit, hold in enumerate((row.operations, row.users)):
            if hold is not None and hold.u_us is None and self.now_us < hold.doubt_us:  # or it is known to end late
                self._tails[unit] += hold.weight
        call = getattr(row, "call", "")
        if call and row.called.u_us is None:  # type: ignore[attr-defined]  # a CallRow
            for other in self._quotas.pools[call].calls:
                self._call_tails[other] = self._call_tails.get(other, 0) + 1

    # What is taken

    def usage(self) -> Iterator[tuple[str, Profile]]:
        """Yield the limits that what was placed needs, by name, with their usage from now on."""
        quotas = self._quotas
        pools = (quotas.pool_at(call, self.now_us).windows for call in quotas.pools)
        for window in (*quotas.windows, *(one for windows in pools for one in windows)):
            if (profile := self._profiles.get(id(window))) is not None:
                yield window.limit, profile
        if self._active is not None:
            yield documented.ACTIVE_SEGMENTS, self._active

    def _needs(self, demand: Demand) -> Sequence[_Need]:
        """Return its part on each limit; it is asked for once more when the demand is placed."""
        if self._asked is None or self._asked[0] is not demand:
            self._asked = demand, self._made_needs(demand)
        return self._asked[1]

    def _made_needs(self, demand: Demand) -> Sequence[_Need]:
        operations, rows, segments, call = demand.cost
        late_us = demand.attempt_us + self._late_us
        needs = []
        quotas = self._quotas
        for window in quotas.windows:
            weight = rows if window.unit == Unit.USER else operations
            if not weight:
                continue
            short_us, long_us = window.span_us, window.span_us + late_us
            if window.unit == Unit.USER:
                short_us += 0 if demand.awaits_callback else self._allowance_us
                long_us += self._allowance_us
            needs.append(_Need(self._profile(window), window, weight, short_us, long_us))
        if call:
            needs += [
                _Need(self._profile(window), window, 1, window.span_us, window.span_us + late_us)
                for window in quotas.pool_at(call, self.now_us).windows
            ]
        if segments:
            needs.append(_Need(self._gauge(), None, segments, demand.life_us, demand.life_us))
        return needs

    def _profile(self, window: Window) -> Profile:
        profile = self._profiles.get(id(window))
        if profile is None:
            profile = self._profiles[id(window)] = self._made_profile(window)
        return profile

    def _made_profile(self, window: Window) -> Profile:
        now_us, history, span_us = self.now_us, window.history, window.span_us
        ends = [(u_us + span_us, weight) for u_us, weight in history.counted(window.head)]
        ends += [(hold.expected_us(now_us) + span_us, hold.weight) for hold in history.holds]
        profile = Profile(window.capacity, now_us, window.used, ends)
        closed_us = window.closed_until_us
        if window.probing and history.holds:
            closed_us = max(closed_us, window.probe_ends_us(now_us))
        if closed_us > now_us:
            profile.add(now_us, closed_us, window.capacity)
        return profile

    def _gauge(self) -> Profile:
        if self._active is None:
            active, now_us = self._quotas.active, self.now_us
            ends = [(self._expected_end_us(row_id, lease), 1) for row_id, lease in active.leases.items()]
            known = [(end_us, weight) for end_us, weight in ends if end_us is not None]
            self._active = Profile(active.capacity, now_us, active.used, known)
            if active.full_until_us > now_us:
                self._active.add(now_us, active.full_until_us, active.capacity)
        return self._active

    def _expected_end_us(self, row_id: str, lease: Lease) -> int | None:
        """Return when a segment expires, if it was made now where that is not known; None for never."""
        row = self._quotas.rows.get(row_id)
        if lease.until_us is None or lease.confirmed or row is None or row.life_us is None:
            return lease.until_us
        return min(lease.until_us, self.now_us + row.life_us)

    def _free(self, demand: Demand, at_us: int) -> None:
        """Let an archive free what its segment counts for."""
        assert demand.archives is not None
        made = [self._made.pop(key) for key in demand.keys if key in self._made]
        if made:
            from_us, until_us = made[0]
            if until_us is None or until_us > at_us:
                self._gauge().add(max(at_us, from_us), until_us, -1)
            return
        for lease in self._quotas.active.found(*demand.archives):
            if lease.until_us is None or lease.until_us > at_us:
                self._gauge().add(at_us, lease.until_us, -1)


def starts(schedule: Schedule, demands: Sequence[Demand]) -> Iterator[Start]:
    """Yield the start of each demand in order, as if all were asked for now.

    An archive waits for no quota, so what it frees is free for those before it, too.
    """
    busy: set[str] = set()
    first: dict[int, Start] = {}
    for number, demand in enumerate(demands):
        if demand.archives is not None and busy.isdisjoint(demand.keys) and schedule.before(demand.keys) is None:
            first[number] = schedule.find(demand)
            schedule.take(attrs.evolve(demand, keys=()), first[number])
        busy.update(demand.keys)
    for number, demand in enumerate(demands):
        yield first[number] if number in first else schedule.place(demand)


def starts_in_turn(schedule: Schedule, demands: Sequence[Demand]) -> list[Start]:
    """Return the start of each demand, asked for now or, on a segment of one before it, once that has ended.

    Who is asked for later comes into line behind all that are there then.
    """
    first: list[int] = []
    following: dict[int, list[int]] = {}
    last: dict[str, int] = {}
    for number, demand in enumerate(demands):
        before = max((last[key] for key in demand.keys if key in last), default=None)
        (first if before is None else following.setdefault(before, [])).append(number)
        last.update(dict.fromkeys(demand.keys, number))
    first.sort(key=lambda number: demands[number].archives is None)  # what an archive frees is free for those before it
    turns = count()
    line = [(float(schedule.now_us), next(turns), number) for number in first]  # sorted, so it is a heap
    found: dict[int, Start] = {}
    while line:
        _, _, number = heappop(line)
        start = found[number] = schedule.place(demands[number])
        ended_us = inf if start.at_us is None else start.at_us
        for other in following.get(number, ()):
            heappush(line, (ended_us, next(turns), other))
    return [found[number] for number in range(len(demands))]


def _is_later(one: Start, other: Start) -> bool:
    return one.at_us is None or (other.at_us is not None and one.at_us > other.at_us)
