"""How stale do segments get whose members change all the time?

    python -m benchmarks.membership_day [--segments N] [--days D] [--every S]

Twenty segments, one change a second each, for a virtual day: 1.7 million changes, users who join and users who leave.
The service allows 100 operations and two million users a day. An add and a remove for each of 20 segments are 40
operations, so the best that a day's operations allow is a lag of 9.6 hours: 40 of 100 operations are 9.6 of 24 hours.
The lag of a change ends with the callback that confirms it; the service takes up to ten minutes.

Bounds: no change is lost, at most 100 operations and 2,000,000 users are sent within the day, and the largest lag is at
most 1.1 times the best. The rest of the day is flushed after it, and then the segments have to be exactly what was
asked for. Time is virtual; the stand-in for the service, the journal in memory and the outbox in a file are real.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.verdict import state_fact, state_figure
from moe_segments import CallbackReceiver, FileProcessed, SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock, run_virtually
from moe_segments.testing.virtual_time import EPOCH_US

if TYPE_CHECKING:
    from moe_segments import Membership
    from moe_segments.sandbox import Submission

__all__ = ["Day", "lived"]

DAY_S: Final = 86_400
OPERATIONS: Final = 100
USERS: Final = 2_000_000
LAG_BOUND: Final = 1.1
LEAVE: Final = 0.4  # of the changes


@attrs.define
class Day:
    """What a virtual day brought.

    Attributes:
        changes: How many changes were acknowledged.
        operations: How many operations the service took within each day.
        users: How many users they had.
        largest_lag_s: The largest lag of any segment.
        wrong: How many members of segments are not as they were asked for after all is flushed.
        rejections: How often the service answered 429.
    """

    changes: int = 0
    operations: list[int] = attrs.field(factory=list)
    users: list[int] = attrs.field(factory=list)
    largest_lag_s: float = 0.0
    wrong: int = 0
    rejections: int = 0


class Crowd:
    """The members that one segment should have, and the changes that make it so."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self._chance, self._made = name, random.Random(seed), 0
        self.members: list[str] = []

    def change(self, count: int) -> tuple[list[str], list[str]]:
        """Return users who join and users who leave."""
        joining, leaving = list[str](), list[str]()
        for _ in range(count):
            if len(self.members) > count and self._chance.random() < LEAVE:
                index = self._chance.randrange(len(self.members) - len(joining))
                self.members[index], self.members[-1] = self.members[-1], self.members[index]
                leaving.append(self.members.pop())
            else:
                self._made += 1
                joining.append(f"{self.name}-{self._made:07}")
                self.members.append(joining[-1])
        return [one for one in joining if one not in leaving], leaving


async def lived(place: Path, *, segments: int, days: float, every_s: float, per_s: float = 1.0) -> Day:
    """Live through some days of changes; then wait until all is flushed."""
    day, crowds = Day(), [Crowd(f"segment-{number:02}", number) for number in range(segments)]
    async with (
        Sandbox(clock=lambda: journal_clock() / 1e6, processing_s=(60, 600)) as sandbox,
        CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600) as receiver,
        SegmentsClient(
            sandbox.credentials,
            journal=MemoryJournal(clock=journal_clock),
            callbacks=receiver,
            limits=sandbox.limits,
            base_url=sandbox.url,
            publish=sandbox.publish,
            poll_s=60.0,
            clock=asyncio.get_running_loop().time,
        ) as client,
    ):
        fields = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30, "outbox": place / "outbox.db"}
        handles = [client.membership(crowd.name, **fields) for crowd in crowds]  # type: ignore[arg-type]  # named
        began_s = asyncio.get_running_loop().time()
        watching = asyncio.create_task(watched(client, day))
        while asyncio.get_running_loop().time() - began_s < days * DAY_S:
            await asyncio.gather(*map(partial(changed, day, round(every_s * per_s)), handles, crowds))
            await asyncio.sleep(every_s)
        sent_at = [(each.accepted_at - EPOCH_US / 1e6, rows_of(each)) for each in sandbox.workspace.submissions]
        for number in range(round(days)):
            of_the_day = [rows for at_s, rows in sent_at if number * DAY_S <= at_s < (number + 1) * DAY_S]
            day.operations.append(len(of_the_day))
            day.users.append(sum(of_the_day))
        watching.cancel()
        await asyncio.gather(*(handle.flushed() for handle in handles))
        members = {segment.name: segment.members for segment in sandbox.workspace.segments}
        day.wrong = sum(len(members[crowd.name] ^ set(crowd.members)) for crowd in crowds)
        day.rejections = sandbox.workspace.rejections
    return day


async def changed(day: Day, count: int, handle: Membership, crowd: Crowd) -> None:
    """Change the members of one segment."""
    joining, leaving = crowd.change(count)
    await handle.add(*joining)
    await handle.remove(*leaving)
    day.changes += len(joining) + len(leaving)


def rows_of(submission: Submission) -> int:
    """How many rows the service found in a file; 0 where it has not ended."""
    return submission.result.values_found if isinstance(submission.result, FileProcessed) else 0


async def watched(client: SegmentsClient, day: Day) -> None:
    """Look at the lag each minute."""
    while True:
        await asyncio.sleep(60)
        day.largest_lag_s = max(day.largest_lag_s, *(one.lag_s for one in await client.memberships()))


def report(day: Day, segments: int) -> bool:
    """Print what was found beside its bounds. Returns whether all are met."""
    best_s = DAY_S * 2 * segments / OPERATIONS
    print(f"{day.changes:,} changes were acknowledged; operations a day {day.operations}, users a day {day.users}")
    within = (
        state_fact("no change was lost: every segment has exactly its members", holds=not day.wrong),
        state_fact("the service never answered 429", holds=not day.rejections),
        state_figure("operations of the fullest day", max(day.operations), OPERATIONS, "operations"),
        state_figure("users of the fullest day", max(day.users), USERS, "users"),
        state_figure("the largest lag over the best possible", day.largest_lag_s / best_s, LAG_BOUND, "times"),
        state_figure("the largest lag", day.largest_lag_s / 3_600, LAG_BOUND * best_s / 3_600, "h"),
    )
    return all(within)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--days", type=float, default=1)
    parser.add_argument("--every", type=float, default=10, help="seconds between two changes of each segment's members")
    parser.add_argument("--directory", type=Path, default=None, help="where the outbox is made")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as place:
        work = partial(lived, Path(place), segments=arguments.segments, days=arguments.days, every_s=arguments.every)
        day = run_virtually(work, in_memory=True)
    within = report(day, arguments.segments)
    print(f"took {time.monotonic() - began_s:.0f} s")
    sys.exit(not within)


if __name__ == "__main__":
    main()
