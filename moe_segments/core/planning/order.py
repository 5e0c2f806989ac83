"""Choose the order in which many operations are submitted. Pure: no clock, no I/O, no chance but the seed.

First come, first served wastes days: an operation of many users that comes late finds every day half full. A plan is
searched for in three steps. Operations are placed in several orders, each at its earliest start (list scheduling with
backfilling). The best order is changed a little again and again, and a change is kept when nothing gets worse (local
search). The result is sorted by start, because a run serves its line first come, first served: nobody starts later
than in the search when the line stands in the order of the starts.

A plan is better when fewer operations never start, then when the last one starts earlier, then when all together start
earlier. It is never worse than the given order. Every priority is planned for itself behind the higher ones, so none
of those starts later. Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import attrs

from moe_segments.core.planning.board import Board, Task
from moe_segments.core.quota.forecast import Schedule
from moe_segments.errors import InputError, QuotaNeverFits
from moe_segments.limits import is_finite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from moe_segments.core.quota.forecast import Demand, Start
    from moe_segments.core.state.folded import FoldedState

__all__ = ["Line", "Plan", "plan"]

_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs calls every validator with

_MOST_PLACED: Final = 40_000  # operations placed by one search, unless a number of tries is given
_MOST_TRIES, _FEWEST_TRIES = 500, 4
_MOST_MOVED: Final = 3  # operations of one change
_FIRST: Final = float("inf")  # the priority of archives that need not wait


def _check_priority(_: object, attribute: _Attribute, value: object) -> None:
    if not is_finite(value):
        raise InputError(f"must be a number such as 0, 1 or -2.5, not {value!r}", attribute.name)


@attrs.frozen(kw_only=True)
class Line:
    """One operation to plan.

    Attributes:
        demand: What it asks for.
        op: Its kind, such as "create"; empty where the order needs no check.
        priority: A higher one is never delayed by a lower one; a finite number.

    Raises:
        InputError: The priority is no finite number.
    """

    demand: Demand
    op: str = ""
    priority: float = attrs.field(default=0, validator=_check_priority)


@attrs.frozen(kw_only=True)
class Plan:
    """An order and what it leads to.

    Attributes:
        order: The positions of the lines, in the order to submit them.
        starts: When each line can start and which limit binds it, by position.
    """

    order: tuple[int, ...]
    starts: tuple[Start, ...]

    @property
    def last_us(self) -> int | None:
        """The last start; None where an operation never starts, and where there is none."""
        moments = [start.at_us for start in self.starts]
        known = [at_us for at_us in moments if at_us is not None]
        return max(known) if known and len(known) == len(moments) else None


def plan(
    state: FoldedState,
    lines: Sequence[Line],
    now_us: int,
    *,
    tries: int | None = None,
    seed: int = 0,
    without: Collection[str] = (),
) -> Plan:
    """Order *lines* so that the last starts as early as was found, behind all who wait already.

    The same arguments lead to the same plan. To plan anew during a run, give what has not started in the planned
    order, the arrivals behind it, and few tries.

    Args:
        state: What is known, up to now.
        lines: The operations; those on one segment keep their order.
        now_us: The journal's time.
        tries: How many orders to try besides the given one, for each priority; None: by the number of operations.
        seed: What the changes are drawn by.
        without: Jobs whose places in line do not count, because they are among *lines*.

    Returns:
        The plan. Its starts are those of a forecast in its order.

    Raises:
        InputError: A create comes after another operation on its segment.
        QuotaNeverFits: An operation is larger than a whole limit: split it first, see `parts`.
    """
    waiting = [
        (job, claim.demand)
        for job, claim in state.claims.standing(now_us)
        if job not in without and state.jobs.holder(claim.demand.keys, now_us) is None
    ]
    demands = [attrs.evolve(line.demand, keys=tuple(state.jobs.known_as(line.demand.keys))) for line in lines]
    chains = _linked([*(demand.keys for demand in demands), *(demand.keys for _, demand in waiting)])
    demands = [attrs.evolve(one, keys=keys) for one, keys in zip(demands, _joined(demands, chains), strict=True)]
    _check(state, lines, chains)
    board = Board(state.ledger, now_us)
    tasks = [board.task(demand, chains[at]) for at, demand in enumerate(demands)]
    ahead = [board.task(demand, chains[len(lines) + at]) for at, (_, demand) in enumerate(waiting)]
    for task in ahead:
        board.place(task)
    found: list[int] = []
    for group in _groups(lines, chains, taken={task.chain for task in ahead}):
        search = _Search(board, [tasks[at] for at in group], [demands[at].cost.rows for at in group], seed)
        for at, at_us in search.best(tries):
            board.take(tasks[group[at]], at_us)
            found.append(group[at])
    return _told(state, now_us, waiting, demands, found)


def _told(
    state: FoldedState, now_us: int, waiting: Iterable[tuple[str, Demand]], demands: Sequence[Demand], order: list[int]
) -> Plan:
    """Return the plan as the one forecast tells it."""
    schedule = Schedule(state.ledger, now_us, state.claims.passers)
    for job, demand in waiting:
        schedule.place(demand, job)
    starts = {at: schedule.place(demands[at]) for at in order}
    return Plan(order=tuple(order), starts=tuple(starts[at] for at in range(len(demands))))


# What belongs together


def _linked(keys: Sequence[tuple[str, ...]]) -> list[int]:
    """Return for each the number of its segment: who shares a key with another, directly or not, is on the same."""
    parent: dict[object, object] = {}

    def root(one: object) -> object:
        while (above := parent.setdefault(one, one)) != one:
            parent[one] = parent[above]
            one = above
        return one

    for at, names in enumerate(keys):
        for name in names:
            parent[root(name)] = root(at)
    numbers: dict[object, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(keys))]


def _joined(demands: Sequence[Demand], chains: Sequence[int]) -> list[tuple[str, ...]]:
    """Return for each demand every key that is known for its segment."""
    known: dict[int, dict[str, None]] = {}
    for number, demand in zip(chains, demands, strict=False):
        known.setdefault(number, {}).update(dict.fromkeys(demand.keys))
    return [tuple(known[number]) for number, _ in zip(chains, demands, strict=False)]


def _check(state: FoldedState, lines: Sequence[Line], chains: Sequence[int]) -> None:
    first: dict[int, int] = {}
    for at, (line, number) in enumerate(zip(lines, chains, strict=False)):
        before = first.setdefault(number, at)
        if line.op == "create" and before != at:
            raise InputError(
                f"operation {at + 1} creates a segment that operation {before + 1} ({lines[before].op or 'unnamed'}) "
                "is on already: a create comes first, and once; put it first, or leave it out where the segment exists",
                "op",
            )
        never = state.ledger.never(line.demand.cost)
        if never is not None:
            raise QuotaNeverFits(never.limit, never.requested, never.capacity)


def _groups(lines: Sequence[Line], chains: Sequence[int], taken: Collection[int]) -> list[list[int]]:
    """Return the positions by priority, the highest first.

    Whatever comes before an operation on the same segment is at least as urgent as that. An archive that nothing comes
    before costs nothing and may free a segment that a create needs, so it goes first.
    """
    urgency: dict[int, float] = {}
    ranks = [0.0] * len(lines)
    for at in range(len(lines) - 1, -1, -1):
        number, own = chains[at], lines[at].priority
        ranks[at] = urgency[number] = max(own, urgency.get(number, own))
    seen = set(taken)
    for at, line in enumerate(lines):
        if line.demand.archives is not None and chains[at] not in seen:
            ranks[at] = _FIRST
        seen.add(chains[at])
    ranked = sorted(range(len(lines)), key=lambda at: -ranks[at])
    return [list(group) for _, group in groupby(ranked, key=lambda at: ranks[at])]


# The search


class _Worth(NamedTuple):
    """What a plan is worth; less is better: how many never start, the last start, and the sum of all."""

    never: int
    last_us: int
    sum_us: int


class _Chance:
    """Numbers that look like chance, the same for the same seed (a linear congruential generator, Knuth's figures)."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, end: int) -> int:
        """Return a number from 0, below *end*."""
        self._state = (self._state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        return (self._state >> 33) % end


class _Search:
    """A search for the best order of the operations of one priority.

    Args:
        board: All that counts, and all that was placed before. It is not changed.
        tasks: The operations in the given order.
        rows: Their users.
        seed: What the changes are drawn by.
    """

    def __init__(self, board: Board, tasks: Sequence[Task], rows: Sequence[int], seed: int) -> None:
        self._board, self._tasks, self._rows, self._chance = board, board.binding(tasks), rows, _Chance(seed)
        members: dict[int, list[int]] = {}
        for at, task in enumerate(tasks):
            members.setdefault(task.chain, []).append(at)
        self._members = {number: some for number, some in members.items() if len(some) > 1}

    def best(self, tries: int | None) -> Iterator[tuple[int, int | None]]:
        """Yield the positions of the operations in the best order that was found, each with its start."""
        order = given = list(range(len(self._tasks)))
        starts = self._placed(given, self._tasks)
        worth = _worth_of(starts)
        if len(given) > 1 and not self._cannot_improve(worth):
            trial = self._searched(given, tries)
            found = self._placed(trial, self._tasks)
            if _worth_of(found) < worth:
                order, starts = trial, found
        return ((at, starts[at]) for at in order)

    def _placed(self, order: Sequence[int], tasks: Sequence[Task]) -> list[int | None]:
        """Return the starts of *tasks*, by position, where a run submits them in this order."""
        board = self._board.copied()
        starts: list[int | None] = [None] * len(order)
        for at in order:
            starts[at] = board.place(tasks[at])
        return starts

    def _cannot_improve(self, worth: _Worth) -> bool:
        """Return whether the given order is as good as if nobody had any users: then it is as good as can be."""
        light = [self._board.without_users(task) for task in self._tasks]
        return _worth_of(self._placed(range(len(light)), light)) >= worth

    def _searched(self, given: list[int], tries: int | None) -> list[int]:
        """Return the best order that was found in so many tries."""
        if tries is None:
            tries = max(_FEWEST_TRIES, min(_MOST_TRIES, _MOST_PLACED // len(given)))
        by_size = sorted(given, key=lambda at: -self._rows[at])
        best = self._tried(given, None)
        assert best is not None
        for trial in (by_size, by_size[::-1])[:tries]:
            best = self._tried(trial, best) or best
        for _ in range(tries - 2):
            best = self._tried(self._changed(best.order), best) or best
        starts = best.starts
        return sorted(given, key=lambda at: (starts[at] is None, starts[at] or 0, at))

    def _tried(self, order: list[int], best: _Found | None) -> _Found | None:
        """Place the operations in an order that is to be sorted by start; None when *best* is better."""
        order = self._repaired(order)
        board, base, tasks = self._board.copied(), self._board, self._tasks
        latest_us = None if best is None or best.worth.never else best.worth.last_us
        starts: list[int | None] = [None] * len(order)
        for at in order:
            starts[at] = at_us = board.place_early(tasks[at], base)
            if latest_us is not None and (at_us is None or at_us > latest_us):
                return None
        worth = _worth_of(starts)
        return None if best is not None and worth > best.worth else _Found(order, starts, worth)

    def _changed(self, order: Sequence[int]) -> list[int]:
        """Return an order in which a few operations are elsewhere."""
        changed, chance = list(order), self._chance
        for _ in range(1 + chance.below(_MOST_MOVED)):
            moved = changed.pop(chance.below(len(changed)))
            changed.insert(chance.below(len(changed) + 1), moved)
        return changed

    def _repaired(self, order: list[int]) -> list[int]:
        """Return an order in which the operations on one segment take the places of one another, in their order."""
        if not self._members:
            return order
        left = {number: iter(some) for number, some in self._members.items()}
        numbers = ((at, self._tasks[at].chain) for at in order)
        return [next(left[number]) if number in left else at for at, number in numbers]


class _Found(NamedTuple):
    """An order that was tried, where each starts by position, and what that is worth."""

    order: list[int]
    starts: list[int | None]
    worth: _Worth


def _worth_of(starts: Sequence[int | None]) -> _Worth:
    known = [at_us for at_us in starts if at_us is not None]
    return _Worth(len(starts) - len(known), max(known, default=0), sum(known))
