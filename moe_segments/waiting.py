"""Who waits in line for leave to send, and what the journal is told of them: claims, and what was called off.

Nobody is held up for it: it is written by tasks of their own, except for claims, which a pass makes before it rests.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from moe_segments.core.admission import Busy, Later
from moe_segments.core.events import Claimed, NeverSent, Unclaimed
from moe_segments.errors import JournalError, JournalMoved
from moe_segments.limits import USERS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.admission import Ask, Verdict
    from moe_segments.journal.follower import Follower
    from moe_segments.pace import Place
    from moe_segments.quota import Grant

__all__ = ["Claims", "Ticket", "until_us"]

_SECOND_US: Final = 1_000_000
_CLAIM_S: Final = 1_800.0  # how long a claim outlives its process, at the documented speed; renewed at half of it
_TOLD_AGAIN_S: Final = 5.0  # how often the end of a claim is told to a journal that fails
_log = logging.getLogger("moe_segments.governor")


class Ticket:
    """One who waits.

    Attributes:
        ask: What for.
        deadline_s: Until when, on the loop's clock.
        fresh: No pass has seen it yet.
        verdict: What the last pass said; those that one answer serves share one object.
        claimed_us: When its claim was last made, journal time.
        future: Done with the grant, or the refusal.
        place: Where it stands in the pace; None when it does not go through one.
    """

    __slots__ = ("ask", "claimed_us", "deadline_s", "fresh", "future", "place", "verdict")

    def __init__(
        self, ask: Ask, deadline_s: float, future: asyncio.Future[Grant | None], place: Place | None = None
    ) -> None:
        self.ask, self.deadline_s, self.future, self.place = ask, deadline_s, future, place
        self.fresh = True
        self.verdict: Verdict | None = None
        self.claimed_us: int | None = None

    def fail(self, error: Exception) -> None:
        """Refuse it, unless it is gone."""
        if not self.future.done():
            self.future.set_exception(error)

    def waits_for_users(self) -> bool:
        """Whether this is what binds it, rather than somebody ahead."""
        match self.verdict:
            case Later(wait, _):
                return wait.limit == USERS_PER_DAY and wait.requested == self.ask.cost.rows
            case _:
                return False


def until_us(verdict: Verdict | None) -> int | None:
    """When what it waits for can be free, journal time; None where nothing tells."""
    match verdict:
        case Later(wait, _):
            return wait.until_us
        case Busy(_, until_us):
            return until_us
        case _:
            return None


class Claims:
    """Tells the journal of those who wait, see `core.claims`, and of what was granted to nobody.

    Args:
        follower: Of the journal.
        queue: Those who wait, first come first; the governor's own list.
        scale: How many times shorter than documented the windows are.
    """

    def __init__(self, follower: Follower, queue: Sequence[Ticket], *, scale: float) -> None:
        self._follower, self._queue = follower, queue
        self._claim_us = round(_CLAIM_S / scale * _SECOND_US)
        self._closing = asyncio.Event()
        self._telling: dict[asyncio.Task[None], None] = {}

    def hurry(self) -> None:
        """From now on nothing is tried again."""
        self._closing.set()

    async def told(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def claim(self, now_us: int) -> None:
        """Say for the first of each size that waits for users, in whichever process, that it was here first.

        Raises:
            JournalError: It could not be written; others may pass.
        """
        due_us = now_us - self._claim_us // 2
        is_due = any(ticket.claimed_us is not None and ticket.claimed_us <= due_us for ticket in self._queue)
        heads: set[int] = set()
        claims: list[Claimed] = []
        for ticket in self._queue:
            is_head = id(ticket.verdict) not in heads and ticket.waits_for_users()
            heads.add(id(ticket.verdict))
            if is_head if ticket.claimed_us is None else is_due:
                ticket.claimed_us = now_us
                claims.append(Claimed(ticket.ask.job, *ticket.ask.cost[:3], self._claim_us))
        if claims:
            await self._follower.record(*claims)

    def renewals_us(self) -> Iterator[int]:
        """When each claim is to be made again, journal time."""
        for ticket in self._queue:
            if ticket.claimed_us is not None:
                yield ticket.claimed_us + self._claim_us // 2

    def end(self, ticket: Ticket) -> None:
        """It waits no more; nothing to tell where it had no claim."""
        if ticket.claimed_us is not None:
            ticket.claimed_us = None
            self._tell(Unclaimed(ticket.ask.job))

    def release(self, grant: Grant | None) -> None:
        """Nobody is there to take the grant."""
        if grant is not None:
            self._tell(NeverSent(grant.job, grant.attempt, "called off before it was sent"))

    def _tell(self, event: NeverSent | Unclaimed) -> None:
        task = asyncio.get_running_loop().create_task(self._write(event))
        self._telling[task] = None
        task.add_done_callback(self._told)

    async def _write(self, event: NeverSent | Unclaimed) -> None:
        """Write it down; the end of a claim as often as it takes, until that claim lapses or is made again."""
        now_s = asyncio.get_running_loop().time
        lapses_s = now_s() + self._claim_us / _SECOND_US
        while True:
            try:
                await self._follower.record(event)
            except JournalMoved:
                raise
            except JournalError:
                if isinstance(event, NeverSent) or self._closing.is_set() or now_s() > lapses_s:
                    raise
            else:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TOLD_AGAIN_S)
            if any(ticket.ask.job == event.job and ticket.claimed_us is not None for ticket in self._queue):
                return

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._follower.outage.warn(
                "cancelled", "what was called off could not be written down, and lapses by itself: %s", error
            )
