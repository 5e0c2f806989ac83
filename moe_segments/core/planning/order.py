"""Choose the order in which many operations are submitted. Pure: no clock, no I/O, no chance but the seed.

First come, first served wastes days: an operation of many users that comes late finds every day half full. Here the
order is searched for, and told by the one forecast. The forecast of a run that submits in this order is the plan.

A plan is better when fewer operations never start, then when the last one starts earlier, then when all together start
earlier. It is never worse than the given order. Every priority is planned for itself behind the higher ones, so none
of those starts later. Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from moe_segments.core.planning.board import Board
from moe_segments.core.planning.search import Search
from moe_segments.core.quota.forecast import Schedule
from moe_segments.errors import InputError, QuotaNeverFits
from moe_segments.limits import is_finite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from moe_segments.core.quota.forecast import Demand, Start
    from moe_segments.core.state.folded import FoldedState

__all__ = ["Line", "Order", "Problem", "best_order"]

_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs calls every validator with

_MOST_PLACED: Final = 25_000  # operations placed in a search, unless a number of tries is given
_MOST_TRIES, _FEWEST_TRIES = 500, 4
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
class Order:
    """An order to submit in, and what it leads to.

    Attributes:
        positions: Those of the lines, in the order to submit them.
        starts: When each line can start and which limit binds it, by position.
    """

    positions: tuple[int, ...]
    starts: tuple[Start, ...]

    @property
    def last_us(self) -> int | None:
        """The last start; None where an operation never starts, and where there is none."""
        moments = [start.at_us for start in self.starts]
        known = [at_us for at_us in moments if at_us is not None]
        return max(known) if known and len(known) == len(moments) else None


def best_order(
    state: FoldedState,
    lines: Sequence[Line],
    now_us: int,
    *,
    tries: int | None = None,
    seed: int = 0,
    without: Collection[str] = (),
) -> Order:
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
    problem = Problem(state, lines, now_us, without=without)
    positions = problem.positions(tries, seed=seed)
    return _told(state, now_us, problem.waiting, problem.demands, positions)


class Problem:
    """What an order is searched for, taken from the state once: the search itself needs no state, so it may take long.

    Args:
        state: What is known, up to now.
        lines: The operations; those on one segment keep their order.
        now_us: The journal's time.
        without: As for `best_order`.

    Attributes:
        waiting: Who waits already, and for what.
        demands: What the lines ask for, under every name of their segments.

    Raises:
        InputError: A create comes after another operation on its segment.
        QuotaNeverFits: An operation is larger than a whole limit.
    """

    def __init__(
        self, state: FoldedState, lines: Sequence[Line], now_us: int, *, without: Collection[str] = ()
    ) -> None:
        self.waiting: list[tuple[str, Demand]] = [
            (job, claim.demand)
            for job, claim in state.claims.standing(now_us)
            if job not in without and state.jobs.holder(claim.demand.keys, now_us) is None
        ]
        keys = [tuple(state.jobs.known_as(line.demand.keys)) for line in lines]
        chains = _linked([*keys, *(demand.keys for _, demand in self.waiting)])
        self.demands: list[Demand] = [
            _known_by(line.demand, names) for line, names in zip(lines, _joined(keys, chains), strict=True)
        ]
        _check(state, lines, chains)
        self._board = board = Board(state.ledger, now_us)
        self._tasks = [board.task(demand, chains[at]) for at, demand in enumerate(self.demands)]
        ahead = [board.task(demand, chains[len(lines) + at]) for at, (_, demand) in enumerate(self.waiting)]
        for task in ahead:
            board.place(task)
        self._groups = _groups(lines, chains, taken={task.chain for task in ahead})

    def positions(self, tries: int | None = None, *, seed: int = 0) -> list[int]:
        """Return the positions of the lines in the best order that was found; called once."""
        board, tasks = self._board, self._tasks
        if tries is None:
            tries = max(_FEWEST_TRIES, min(_MOST_TRIES, _MOST_PLACED // max(1, len(tasks))))
        found: list[int] = []
        for group in self._groups:
            search = Search(board, [tasks[at] for at in group], [self.demands[at].cost.rows for at in group], seed)
            for at, at_us in search.best(tries):
                board.take(tasks[group[at]], at_us)
                found.append(group[at])
        return found


def _told(
    state: FoldedState, now_us: int, waiting: Iterable[tuple[str, Demand]], demands: Sequence[Demand], order: list[int]
) -> Order:
    """Return the plan as the one forecast tells it."""
    schedule = Schedule(state.ledger, now_us, state.claims.passers)
    for job, demand in waiting:
        schedule.place(demand, job)
    starts = {at: schedule.place(demands[at]) for at in order}
    return Order(positions=tuple(order), starts=tuple(starts[at] for at in range(len(demands))))


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


def _joined(keys: Sequence[tuple[str, ...]], chains: Sequence[int]) -> list[tuple[str, ...]]:
    """Return for each every key that is known for its segment."""
    known: dict[int, dict[str, None]] = {}
    for number, names in zip(chains, keys, strict=False):
        known.setdefault(number, {}).update(dict.fromkeys(names))
    return [tuple(known[number]) for number, _ in zip(chains, keys, strict=False)]


def _known_by(demand: Demand, keys: tuple[str, ...]) -> Demand:
    return demand if demand.keys == keys else attrs.evolve(demand, keys=keys)


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
