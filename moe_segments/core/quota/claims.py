"""Everybody who waits for quota, in whichever process, first come first. Pure: no clock, no I/O.

An operation that has to wait says so in the journal, in the same step in which that is decided: a claim. It carries
all that the forecast needs, so every process computes the same starts for everybody. A claim lapses unless it is
renewed, so a process that died stands in nobody's way for long.

Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

import attrs

from moe_segments.core.quota.decision import Cost
from moe_segments.core.quota.forecast import Demand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from moe_segments.core.events import Claimed

__all__ = ["Claim", "Claims"]


@attrs.define(eq=False)
class Claim:
    """The claim of an operation that waits.

    Attributes:
        demand: What it asks for.
        until_us: When the claim lapses.
        waiter: Who renews it, together with all of the same waiter.
        number: How many were made in this process before it, and it.
    """

    demand: Demand
    until_us: int
    waiter: str = ""
    number: int = 0


class Claims:
    """The claims of one journal, first come first.

    Attributes:
        live: By job, in the order they were made; those that have lapsed until they are pruned.
        passers: Rows that were reserved while somebody who had come before waited.
        made: The number of the last claim.
    """

    def __init__(self) -> None:
        self.made: int = 0
        self.live: dict[str, Claim] = {}
        self.passers: dict[str, None] = {}

    def make(self, event: Claimed, at_us: int, life_us: int | None) -> None:
        """Take in a claim; one that is made again keeps its place."""
        claim = self.live.get(event.job)
        if claim is not None and claim.until_us > at_us:
            claim.until_us, claim.waiter = at_us + event.for_us, event.waiter
            return
        self.live.pop(event.job, None)
        demand = Demand(
            Cost(event.operations, event.rows, event.segments, event.call),
            event.keys,
            awaits_callback=event.awaits_callback,
            life_us=life_us,
            attempt_us=event.attempt_us,
        )
        self._add(event.job, demand, at_us + event.for_us, event.waiter)

    def _add(self, job: str, demand: Demand, until_us: int, waiter: str = "") -> None:
        self.made += 1
        self.live[job] = Claim(demand, until_us, waiter, self.made)

    def renew(self, waiter: str, at_us: int, for_us: int) -> None:
        """Let the claims of one waiter stand longer, as far as they have not lapsed."""
        for claim in self.live.values():
            if claim.waiter == waiter and claim.until_us > at_us:
                claim.until_us = at_us + for_us

    def end(self, job: str) -> None:
        """Remove a claim: nobody waits for this any more."""
        self.live.pop(job, None)

    def reserved(self, job: str, row: str, at_us: int) -> None:
        """End the claim of *job*, which has its reservation; note its row when it passed somebody who waits."""
        first = next(self.standing(at_us), None)
        if first is not None and first[0] != job:
            self.passers[row] = None
        self.live.pop(job, None)

    def standing(self, now_us: int) -> Iterator[tuple[str, Claim]]:
        """Yield the claims that have not lapsed, first come first."""
        for job, claim in self.live.items():
            if claim.until_us > now_us:
                yield job, claim

    def made_since(self, number: int) -> list[tuple[str, Claim]]:
        """Return the claims after the one of that number, first come first."""
        later = takewhile(lambda one: one[1].number > number, reversed(self.live.items()))
        return list(later)[::-1]

    def prune(self, now_us: int, rows: Iterable[str]) -> None:
        """Drop claims that have lapsed, and rows that have ended."""
        self.live = dict(self.standing(now_us))
        self.passers = {row: None for row in rows if row in self.passers}

    def taken(self) -> Mapping[str, object]:
        """Return the claims as JSON-ready data, for a checkpoint."""
        live = [
            [
                *(job, *one.demand.cost, list(one.demand.keys), one.demand.awaits_callback),
                *(one.demand.life_us, one.demand.attempt_us, one.until_us, one.waiter),
            ]
            for job, one in self.live.items()
        ]
        return {"live": live, "passers": list(self.passers)}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take in what `taken` made."""
        for job, *cost, keys, awaits_callback, life_us, attempt_us, until_us, waiter in data["live"]:
            demand = Demand(Cost(*cost), tuple(keys), awaits_callback, life_us, attempt_us)
            self._add(job, demand, until_us, waiter)
        self.passers = dict.fromkeys(data["passers"])

    def restore_old(self, data: Mapping[str, Any]) -> None:
        """Take in what a version made that knew neither keys nor waiters."""
        for job, (*cost, until_us, passed_by) in data.items():
            self._add(job, Demand(Cost(*cost)), until_us)
            self.passers.update(dict.fromkeys(passed_by))
