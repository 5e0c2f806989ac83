"""The queue of callers that wait for quota, and the events of those who leave it.

Claims are written with the decisions of a pass. What was cancelled is written by tasks of their own.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import secrets
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final

from moe_segments.core.events import ClaimsRenewed, NeverSent, Unclaimed
from moe_segments.errors import JournalError, JournalMoved

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moe_segments.core.state.verdicts import Ask
    from moe_segments.governor.pace import Place
    from moe_segments.governor.usage import Grant
    from moe_segments.journal.replica import Replica

__all__ = ["Claims", "Waiter", "Waiters"]

_SECOND_US: Final = 1_000_000
_CLAIM_S: Final = 1_800.0  # how long a claim outlives its process, at the documented speed; renewed at half of it
_RETRY_S: Final = 5.0  # between two tries to write the end of a claim to a journal that fails
_log = logging.getLogger("moe_segments.governor")


class Waiter:
    """A caller that waits.

    Attributes:
        ask: What for.
        deadline_s: Until when, on the loop's clock.
        claimed: The journal was told that it waits.
        future: Done with the grant, or the refusal.
        place: Where it stands in the pace; None when it does not go through one.
        number: How many came before it.
        told: What it was last told to wait for; empty before.
    """

    told: str

    __slots__ = ("ask", "claimed", "deadline_s", "future", "number", "place", "told")

    ask: Ask
    deadline_s: float
    place: Place | None
    claimed: bool
    number: int
    future: asyncio.Future[Grant | None]

    def __init__(
        self, ask: Ask, deadline_s: float, future: asyncio.Future[Grant | None], place: Place | None = None
    ) -> None:
        self.ask, self.deadline_s, self.future, self.place = ask, deadline_s, future, place
        self.claimed, self.number, self.told = False, 0, ""

    def fail(self, error: Exception) -> None:
        """Refuse it, unless it is gone."""
        if not self.future.done():
            self.future.set_exception(error)


class Waiters:
    """The waiters of one governor, and when the patience of each ends. Each is in one of two lines.

    Attributes:
        asks: The line for quota, first come first, with what each waits for.
        paced: The line of those for whom there is quota and who wait for the pace, likewise.
        fresh: Those that no pass has looked at: the last of `asks`.
        urgent: Those whose start is to be forecast once more.
    """

    def __init__(self) -> None:
        self.asks: dict[Waiter, Ask] = {}
        self.paced: dict[Waiter, Ask] = {}
        self.fresh: dict[Waiter, None] = {}
        self.urgent: dict[Waiter, None] = {}
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self.asks) + len(self.paced)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self.asks or waiter in self.paced

    def __iter__(self) -> Iterator[Waiter]:
        return chain(self.paced, self.asks)

    def add(self, waiter: Waiter) -> None:
        """Let it wait behind the others."""
        self._count += 1
        waiter.number = self._count
        self.asks[waiter] = waiter.ask
        self.fresh[waiter] = None
        if waiter.deadline_s < math.inf:
            heapq.heappush(self._deadlines, (waiter.deadline_s, waiter.number, waiter))

    def remove(self, waiter: Waiter) -> bool:
        """Remove it from its line. Returns whether it was in one."""
        self.fresh.pop(waiter, None)
        self.urgent.pop(waiter, None)
        was_in_line, was_paced = self.asks.pop(waiter, None), self.paced.pop(waiter, None)
        return was_in_line is not None or was_paced is not None

    def leave_to_pace(self, waiter: Waiter) -> None:
        """Move it from the line for quota to that for the pace."""
        if self.asks.pop(waiter, None) is not None:
            self.paced[waiter] = waiter.ask

    def put_back(self, waiters: Iterable[Waiter]) -> None:
        """Move them from the line for the pace to their old places in that for quota, and forecast them once more."""
        back = {waiter: waiter.ask for waiter in waiters if self.paced.pop(waiter, None) is not None}
        self.urgent.update(dict.fromkeys(back))
        self.asks = dict(sorted((self.asks | back).items(), key=lambda one: one[0].number))

    def next_deadline_s(self) -> float:
        """Return when the patience of the next of them ends, on the loop's clock."""
        while self._deadlines and self._deadlines[0][2] not in self:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def patience_us(self, now_s: float) -> dict[int, int]:
        """Return how long each would wait whose start is to be forecast, by its position in the line for quota."""
        while self.next_deadline_s() <= now_s:
            self.urgent[heapq.heappop(self._deadlines)[2]] = None
        first = len(self.asks) - len(self.fresh)
        wanted = list(enumerate(self.fresh, first))
        if self.urgent:
            wanted = [
                (at, waiter) for at, waiter in enumerate(self.asks) if waiter in self.fresh or waiter in self.urgent
            ]
        return {
            at: max(0, round((waiter.deadline_s - now_s) * _SECOND_US))
            for at, waiter in wanted
            if waiter.deadline_s < math.inf
        }


class Claims:
    """The claims of one governor: it renews them, and writes down what was cancelled (see `core.quota.claims`).

    Args:
        replica: Of the journal.
        waiters: Those who wait.
        scale: How many times shorter than documented the windows are.

    Attributes:
        waiter: The name under which claims are renewed.
        for_us: How long a claim stands.
    """

    def __init__(self, replica: Replica, waiters: Waiters, *, scale: float) -> None:
        self._replica, self._waiters = replica, waiters
        self.for_us: int = max(1, round(_CLAIM_S / scale * _SECOND_US))
        self.waiter: str = secrets.token_hex(8)
        self._renew_us: int | None = None
        self._closing = asyncio.Event()
        self._writing: dict[asyncio.Task[None], None] = {}

    def stop_retrying(self) -> None:
        """Stop retrying."""
        self._closing.set()

    async def flush(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    def renewal(self, now_us: int) -> list[ClaimsRenewed]:
        """Return what is to be written down now for the claims to stand on."""
        is_due = self._renew_us is not None and now_us >= self._renew_us
        return [ClaimsRenewed(self.waiter, self.for_us)] if is_due else []

    def made(self, now_us: int, *, anew: bool, renewed: bool) -> None:
        """Note that claims were written down."""
        if renewed or (anew and self._renew_us is None):
            self._renew_us = now_us + self.for_us // 2

    def renew_us(self) -> int | None:
        """Return when they are to be renewed, journal time; None when nobody waits."""
        if not self._waiters:
            self._renew_us = None
        return self._renew_us

    def end(self, waiter: Waiter) -> None:
        """Remove its claim, if it has one."""
        if waiter.claimed:
            waiter.claimed = False
            self._begin_to_write(Unclaimed(waiter.ask.job))

    def release(self, grant: Grant | None) -> None:
        """Release a grant that no caller takes."""
        if grant is not None:
            self._begin_to_write(NeverSent(grant.job, grant.attempt, "cancelled before it was sent"))

    def _begin_to_write(self, event: NeverSent | Unclaimed) -> None:
        task = asyncio.get_running_loop().create_task(self._write(event))
        self._writing[task] = None
        task.add_done_callback(self._written)

    async def _write(self, event: NeverSent | Unclaimed) -> None:
        """Write it down; the end of a claim as often as it takes, until that claim lapses or is made again."""
        now_s = asyncio.get_running_loop().time
        lapses_s = now_s() + self.for_us / _SECOND_US
        while True:
            try:
                await self._replica.record(event)
            except JournalMoved:
                raise
            except JournalError:
                if isinstance(event, NeverSent) or self._closing.is_set() or now_s() > lapses_s:
                    raise
            else:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _RETRY_S)
            if any(waiter.ask.job == event.job and waiter.claimed for waiter in self._waiters):
                return

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._replica.outage.warn(
                "cancelled", "a cancellation could not be written down, and what it held lapses by itself: %s", error
            )
