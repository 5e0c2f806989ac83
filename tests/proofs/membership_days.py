"""Days on which the members of segments change all the time, in virtual time; shared by a proof and a benchmark."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments import CallbackReceiver, FileProcessed, SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock
from moe_segments.testing.virtual_time import EPOCH_US

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments import Membership
    from moe_segments.sandbox import Submission

__all__ = ["BEST_SHARE_S", "DAY_S", "LAG_BOUND", "OPERATIONS", "USERS", "Day", "lived"]

DAY_S: Final = 86_400
OPERATIONS: Final = 100
USERS: Final = 2_000_000
BEST_SHARE_S: Final = 2 * DAY_S / OPERATIONS  # of the lag, for each segment: an add and a remove
LAG_BOUND: Final = 1.1  # times the best
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
