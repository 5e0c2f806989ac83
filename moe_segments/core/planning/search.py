"""Search for the best order of operations of one priority. Pure: no clock, no I/O, no chance but the seed.

List scheduling with backfilling places the operations in an order, each at its earliest start. A local search then
changes the best order a little again and again, and keeps a change when nothing gets worse.

The search places an operation where there is room for as long as it counts. A run asks for room for longer, in case
nothing is ever heard of it, where somebody ahead starts later. So what is found is sorted by start: then nobody among
them is ahead who starts later. In that order it is placed once more as a run places it, and taken if it is better than
the given order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.planning.board import Board, Task

__all__ = ["Search"]

_MOST_MOVED: Final = 3  # operations of one change
_CHEAP: Final = 2  # tries that are not worth a look at whether they can help


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


class _Found(NamedTuple):
    """An order that was tried, where each starts by position, and what that is worth."""

    order: list[int]
    starts: list[int | None]
    worth: _Worth


class Search:
    """A search for the best order of the operations of one priority.

    Args:
        board: All that counts, and all that was placed before. It is not changed.
        tasks: The operations in the given order.
        rows: Their users.
        seed: What the changes are drawn by.
    """

    def __init__(self, board: Board, tasks: Sequence[Task], rows: Sequence[int], seed: int) -> None:
        self._board, self._tasks, self._rows, self._chance = board, board.binding(tasks), rows, _Chance(seed)
        links: dict[int, list[list[int]]] = {}
        for at, task in enumerate(tasks):
            chain = links.setdefault(task.chain, [])
            if chain and task.leases is not None:
                chain[-1].append(at)
            else:
                chain.append([at])
        self._links = {number: chain for number, chain in links.items() if chain != [chain[0][:1]]}

    def best(self, tries: int) -> Iterator[tuple[int, int | None]]:
        """Yield the positions of the operations in the best of so many orders, each with its start."""
        order = given = list(range(len(self._tasks)))
        starts = self._placed(given, self._tasks)
        worth = _worth_of(starts)
        if not (tries > _CHEAP and self._cannot_improve(worth)):
            found = self._searched(given, tries)
            if found.worth < worth:
                trial = sorted(found.order, key=lambda at: (found.starts[at] is None, found.starts[at] or 0))
                placed = self._placed(trial, self._tasks)
                if _worth_of(placed) < worth:
                    order, starts = trial, placed
        return ((at, starts[at]) for at in order)

    def _placed(self, order: Sequence[int], tasks: Sequence[Task]) -> list[int | None]:
        """Return the starts of *tasks*, by position, where a run submits them in this order."""
        board = self._board.copied()
        starts: list[int | None] = [None] * len(order)
        for at in order:
            starts[at] = board.place(tasks[at])
        return starts

    def _cannot_improve(self, worth: _Worth) -> bool:
        """Return whether the given order is as good as if operations and calls alone were counted."""
        light = [self._board.lightened(task) for task in self._tasks]
        return _worth_of(self._placed(range(len(light)), light)) >= worth

    def _searched(self, given: list[int], tries: int) -> _Found:
        """Return the best order that was found in so many tries."""
        by_size = sorted(given, key=lambda at: -self._rows[at])
        best = self._tried(given, None)
        assert best is not None
        for trial in (by_size, by_size[::-1])[:tries]:
            best = self._tried(trial, best) or best
        for _ in range(tries - 2):
            best = self._tried(self._changed(best.order), best) or best
        return best

    def _tried(self, order: list[int], best: _Found | None) -> _Found | None:
        """Place the operations in an order that is to be sorted by start; None when *best* is better."""
        order = self._repaired(order)
        board = self._board.copied()
        latest_us = None if best is None or best.worth.never else best.worth.last_us
        starts: list[int | None] = [None] * len(order)
        for at in order:
            starts[at] = at_us = board.place(self._tasks[at], is_early=True)
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
        """Return an order in which the operations on one segment take the places of one another, in their order.

        An archive comes right behind what it has to wait for: it costs nothing and frees a segment.
        """
        if not self._links:
            return order
        repaired = list[int]()
        left = {number: iter(chain) for number, chain in self._links.items()}
        for at in order:
            number = self._tasks[at].chain
            repaired += next(left[number], ()) if number in left else (at,)
        return repaired


def _worth_of(starts: Sequence[int | None]) -> _Worth:
    known = [at_us for at_us in starts if at_us is not None]
    return _Worth(len(starts) - len(known), max(known, default=0), sum(known))
