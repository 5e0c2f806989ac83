"""Who waits, in whichever process, for more than is free: claims that lighter operations must not push back. Pure.

Within one process the queue says who came first. Across processes nobody sees the others' queues, so an operation that
waits for many users at once would starve behind a stream of small ones elsewhere. The first that waits for such a
quota says so in the journal; whoever came later may then pass only when that does not delay it. A claim lapses unless
it is renewed, so a process that died stands in nobody's way for long.

Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from moe_segments.core.decisions import Cost

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from moe_segments.core.events import Claimed

__all__ = ["Claim", "Claims"]


@attrs.define(eq=False)
class Claim:
    """One operation that waits.

    Attributes:
        cost: What it asks for.
        until_us: When the claim lapses.
        passed_by: Rows that were reserved since it was made.
    """

    cost: Cost
    until_us: int
    passed_by: list[str] = attrs.field(factory=list)


class Claims:
    """The claims of one journal, first come first.

    Attributes:
        live: By job, in the order they were made; those that have lapsed until they are pruned.
    """

    def __init__(self) -> None:
        self.live: dict[str, Claim] = {}

    def make(self, event: Claimed, at_us: int) -> None:
        """Take in a claim; one that is made again keeps its place."""
        claim = self.live.get(event.job)
        if claim is not None and claim.until_us > at_us:
            claim.until_us = at_us + event.for_us
            return
        self.live.pop(event.job, None)
        self.live[event.job] = Claim(Cost(event.operations, event.rows, event.segments), at_us + event.for_us)

    def end(self, job: str) -> None:
        """Nobody waits for this any more."""
        self.live.pop(job, None)

    def reserved(self, job: str, row: str) -> None:
        """*job* got what it wanted; the others were passed by its row."""
        self.live.pop(job, None)
        for claim in self.live.values():
            claim.passed_by.append(row)

    def ahead_of(self, job: str, now_us: int) -> Iterator[tuple[str, Claim]]:
        """The claims that came before that of *job*; all of them when it has none."""
        for other, claim in self.live.items():
            if other == job:
                return
            if claim.until_us > now_us:
                yield other, claim

    def prune(self, now_us: int, rows: Collection[str]) -> None:
        """Drop claims that have lapsed, and rows that have ended."""
        self.live = {job: claim for job, claim in self.live.items() if claim.until_us > now_us}
        for claim in self.live.values():
            claim.passed_by = [row for row in claim.passed_by if row in rows]
