"""Tell who waits, what for, and when it will start.

A start is a forecast over the whole line, which no decision needs. So it is asked for apart from the decisions, at most
once a second, for all who began to wait meanwhile. Who has left by then did not wait long enough to be told of.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from moe_segments.core.quota.forecast import Schedule, Start
from moe_segments.core.state.jobs import READS
from moe_segments.core.state.verdicts import Busy
from moe_segments.errors import JournalError
from moe_segments.governor.usage import moment_of
from moe_segments.telemetry import events as told
from moe_segments.telemetry.life import segment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.state.verdicts import Verdict
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.queue import Waiter, Waiters
    from moe_segments.journal.replica import Replica
    from moe_segments.telemetry.emitter import Events

__all__ = ["WaitNotices"]

_SECOND_US: Final = 1_000_000
_EVERY_S: Final = 1.0
_NOBODY_KNOWS: Final = Start(None)
_MOST_PLACED: Final = 256  # who is forecast: the journal is held for so long


class WaitNotices:
    """The notices of one governor.

    Args:
        replica: Of the journal.
        waiters: Those who wait.
        events: Who is told.
        shift_us: Returns how much the wall clock is ahead of the journal's.
    """

    def __init__(self, replica: Replica, waiters: Waiters, events: Events, shift_us: Callable[[], int]) -> None:
        self._replica, self._waiters, self._events, self._shift_us = replica, waiters, events, shift_us
        self._noted: dict[Waiter, str | None] = {}  # with the job that keeps its segment busy
        self._telling: asyncio.Task[None] | None = None
        self._next_s = 0.0

    def note(self, waiter: Waiter, verdict: Verdict) -> None:
        """Have it told that a caller waits, unless that was told for the same reason."""
        holder = verdict.job if isinstance(verdict, Busy) and not verdict.in_line else None
        reason = "quota" if holder is None else "segment"
        if waiter.told == reason or not self._events.hears(told.Waiting):
            return
        waiter.told = reason
        self._noted[waiter] = holder
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def stop(self) -> None:
        """Tell no more."""
        self._noted.clear()
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell_all(self) -> None:
        time = asyncio.get_running_loop().time
        try:
            while self._noted:
                await asyncio.sleep(self._next_s - time())
                self._next_s = time() + _EVERY_S
                noted, self._noted = self._noted, {}
                outlook = await self._outlook() if self._are_in_line(noted) else (0, {})
                for waiter, holder in noted.items():
                    if waiter in self._waiters:
                        self._tell(waiter, holder, *outlook)
        finally:
            self._telling = None

    def _are_in_line(self, noted: Mapping[Waiter, str | None]) -> bool:
        return any(holder is None and waiter in self._waiters for waiter, holder in noted.items())

    async def _outlook(self) -> tuple[int, dict[str, Start]]:
        """Return the journal's time, and when each of those in line starts; nothing of that during an outage."""
        try:
            return await self._replica.ask(_starts)
        except JournalError:  # which is told of anyway
            return 0, {}

    def _tell(self, waiter: Waiter, holder: str | None, now_us: int, starts: Mapping[str, Start]) -> None:
        ask = waiter.ask
        op = str(ask.operation.get("op"))
        start = starts.get(ask.job, _NOBODY_KNOWS) if holder is None else _NOBODY_KNOWS
        at_us = start.at_us
        self._events.emit(
            told.Waiting,
            job=None if op in READS else ask.job,
            operation=op,
            segment=segment_of(ask.operation),
            limit=start.limit or None,
            behind=holder or start.behind,
            starts_at=moment_of(at_us, self._shift_us()),
            wait_s=None if at_us is None else max(0.0, (at_us - now_us) / _SECOND_US),
        )


def _starts(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[int, dict[str, Start]]]:
    """Return when each of those in line starts, in whichever process; behind so many of them what they wait for."""
    schedule = Schedule(state.ledger, now_us, state.claims.passers)
    starts: dict[str, Start] = {}
    last = _NOBODY_KNOWS
    for job, claim in state.claims.standing(now_us):
        if state.jobs.holder(claim.demand.keys, now_us) is not None:
            continue
        if len(starts) < _MOST_PLACED:
            last = starts[job] = schedule.place(claim.demand, job)
        else:
            starts[job] = Start(None, last.limit)
    return (), (now_us, starts)
