"""Choose what is sent next, and when: one flush in preparation at a time, any number that wait for their callback."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.audiences.lease import Lease
from moe_segments.audiences.presence import SegmentGone, refusal_of
from moe_segments.core.audiences.backlog import Backlog, Forecast, gap_us, is_late, most_urgent, retry_s, room
from moe_segments.errors import MoeSegmentsError, OutboxError, QuotaExceeded, SegmentBusy, TooManyRequests
from moe_segments.memberships.batch import operation_of
from moe_segments.memberships.flush import Flush
from moe_segments.telemetry.events import MembershipLag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from moe_segments.governor.plan import Plan
    from moe_segments.journal.replica import Replica
    from moe_segments.memberships.advance import Snapshots
    from moe_segments.memberships.outbox.protocol import Client, Outbox
    from moe_segments.telemetry.emitter import Events

__all__ = ["Flusher", "Trouble"]

_GATHER_S: Final = 10.0  # for all but the last, divided by the speed of the limits
_POLL_S: Final = 60.0  # what other processes wrote and died with
_FULL_POLL_S: Final = 60.0  # between two looks at quotas that are full
_LEAST_POLL_S: Final = 0.05
_SECOND_US: Final = 1_000_000
_TELL_EVERY_S: Final = 3_600.0  # that a segment is late
_log = logging.getLogger("moe_segments.membership")


@attrs.frozen
class Trouble:
    """The last failure of a segment.

    Attributes:
        count: How many there were in a row.
        error: The last one.
        until_us: When the segment is tried again.
    """

    count: int
    error: MoeSegmentsError
    until_us: int


class Flusher:
    """The task of a client that sends what gathered in its outbox.

    Args:
        client: Sends and plans.
        replica: The journal.
        outbox: Where changes gather.
        events: Who is told of lag.
        snapshots: Returns where snapshots of audiences are; None for nowhere.
        changed: Called when the outbox was found changed.

    Attributes:
        troubles: By segment's name, what its last flush failed with.
    """

    def __init__(
        self,
        client: Client,
        replica: Replica,
        outbox: Outbox,
        *,
        events: Events,
        snapshots: Callable[[], Awaitable[Snapshots | None]],
        changed: Callable[[], None],
    ) -> None:
        self._client, self._replica, self._outbox, self._events = client, replica, outbox, events
        self._changed, self._scale = changed, client.limits.scale
        self._find_snapshots = snapshots
        self._snapshots: Snapshots | None = None
        self._flushes: dict[str, asyncio.Task[None]] = {}
        self._preparing: Flush | None = None
        self._seen: Sequence[Backlog] = ()
        self._exists: set[str] = set()
        self._told_us: dict[str, int] = {}
        self._awake, self._lease = asyncio.Event(), Lease(replica)  # the lease is only asked
        self._alarm: asyncio.TimerHandle | None = None
        self._gap_us = 0.0
        self._full_until_us = 0
        self.troubles: dict[str, Trouble] = {}

    def wrote(self, max_age_s: float | None) -> None:
        """Look at the outbox again once a change that was written now is due.

        Args:
            max_age_s: How stale its segment may get.
        """
        gather_s = self._scaled(_GATHER_S) if max_age_s is None else min(self._scaled(_GATHER_S), max_age_s / 2)
        loop = asyncio.get_running_loop()
        if self._alarm is not None and self._alarm.when() <= loop.time() + gather_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_later(gather_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._awake.set()

    async def run(self) -> None:
        """Work until cancelled. Its flushes end with it; what they sent is heard of by the next one."""
        self._snapshots = await self._find_snapshots()
        try:
            while True:
                self._awake.clear()
                pause_s = await self._turn_or_rest()
                try:
                    async with asyncio.timeout(pause_s):
                        await self._awake.wait()
                except TimeoutError:
                    pass
        finally:
            if self._alarm is not None:
                self._alarm.cancel()
            for flush in self._flushes.values():
                flush.cancel()
            await asyncio.gather(*self._flushes.values(), return_exceptions=True)

    async def _turn_or_rest(self) -> float:
        try:
            return await self._turn()
        except MoeSegmentsError as error:
            _log.warning("the changes of memberships wait: %s", error)
        except Exception:  # noqa: BLE001 - whatever it is, what waits is tried again
            _log.exception("the changes of memberships wait; this is a mistake of moe_segments")
        return self._scaled(_FULL_POLL_S)

    async def _turn(self) -> float:
        """Begin what can be begun now. Returns when to look again, seconds."""
        backlogs = await self._outbox.backlogs()
        if any(isinstance(trouble.error, SegmentGone) for trouble in self.troubles.values()):
            await self._replica.refresh()  # another process may have unarchived it
        now_us = self._replica.now_us()
        self._tell_lag(backlogs, now_us)
        if backlogs != self._seen:
            self._seen = backlogs
            self._changed()
        free = [one for one in backlogs if one.name not in self._flushes and self._lease.may_take(one.name)]
        for backlog in free:
            if backlog.batch is not None and not self._rests(backlog, now_us):
                flush = self._flush()
                self._begin(backlog, flush, flush.settle(backlog))
        pause_s = self._scaled(_POLL_S)
        if self._preparing is not None or now_us < self._full_until_us:
            return pause_s
        free = [one for one in free if one.name not in self._flushes and self._may_send(one, now_us)]
        due = most_urgent(free, now_us, gather_us=round(self._scaled(_GATHER_S) * _SECOND_US))
        if not due:
            return pause_s
        if wait_s := await self._wait_s(due[0]):
            self._full_until_us = now_us + round(min(wait_s, self._scaled(_FULL_POLL_S)) * _SECOND_US)
        return min(pause_s, max(wait_s, _LEAST_POLL_S))

    def _may_send(self, backlog: Backlog, now_us: int) -> bool:
        is_busy = self._replica.state.jobs.holder((backlog.name,), now_us) is not None
        return not is_busy and not self._rests(backlog, now_us)

    def _rests(self, backlog: Backlog, now_us: int) -> bool:
        trouble = self.troubles.get(backlog.name)
        if trouble is None or now_us >= trouble.until_us:
            return False
        is_back = isinstance(trouble.error, SegmentGone) and refusal_of(self._replica.state, backlog.name, 0) is None
        return not is_back

    async def _wait_s(self, backlog: Backlog) -> float:
        """Send what a segment needs if pace and quotas allow that now. Returns how long to wait otherwise."""
        capacity = self._client.limits.operations_per_day
        pace = await self._outbox.pace()
        if wait_us := pace.wait_us(self._replica.now_us(), self._gap_us, capacity):
            return wait_us / _SECOND_US
        op = "add" if backlog.is_add_next else "remove"
        plan = await self._client.governor.plan([operation_of(backlog, op, values=(), rows=1)])
        if plan[0].wait_s:
            return plan[0].wait_s
        forecasts = _without_planned(plan)
        window_s = self._client.limits.day_s + self._client.limits.guard_for(self._client.limits.day_s)
        gap = gap_us(forecasts["operations_per_day"], window_s * _SECOND_US)
        rows = room(forecasts, backlog.adds if backlog.is_add_next else backlog.removes)
        if not rows or gap == math.inf:
            return self._scaled(_FULL_POLL_S)
        self._gap_us = gap
        if wait_us := pace.wait_us(self._replica.now_us(), gap, capacity):
            return wait_us / _SECOND_US
        flush = self._preparing = self._flush()

        def began() -> None:
            after = pace.after(self._replica.now_us(), self._gap_us)
            keeping.append(asyncio.ensure_future(self._outbox.keep_pace(after)))

        keeping: list[asyncio.Future[None]] = []

        async def send() -> bool:
            try:
                return await flush.send(backlog, rows, began=began)
            finally:
                await asyncio.gather(*keeping)

        self._begin(backlog, flush, send())
        return 0.0

    def _flush(self) -> Flush:
        return Flush(self._client, self._replica, self._outbox, self._exists, self._snapshots)

    def _begin(self, backlog: Backlog, flush: Flush, work: Coroutine[object, object, bool]) -> None:
        self._flushes[backlog.name] = asyncio.ensure_future(self._carried_out(backlog.name, flush, work))

    async def _carried_out(self, name: str, flush: Flush, work: Coroutine[object, object, bool]) -> None:
        watching = asyncio.ensure_future(self._until_sent(flush))
        try:
            if await work:
                self.troubles.pop(name, None)
        except MoeSegmentsError as error:
            self._note(name, error)
        except Exception as error:  # noqa: BLE001 - told and tried again later, or it would come again at once
            _log.exception("segment %r: its changes were not applied; this is a mistake of moe_segments", name)
            self._note(name, OutboxError(f"a mistake of moe_segments, of which the log tells: {type(error).__name__}"))
        finally:
            flush.is_sent.set()
            await asyncio.gather(watching, return_exceptions=True)
            self._flushes.pop(name, None)
            self._awake.set()

    async def _until_sent(self, flush: Flush) -> None:
        await flush.is_sent.wait()
        if self._preparing is flush:
            self._preparing = None
        self._awake.set()

    def _note(self, name: str, error: MoeSegmentsError) -> None:
        """Remember a failure, and when to try again: an operation that fails costs one of the day's, too."""
        now_us = self._replica.now_us()
        count = self.troubles[name].count if name in self.troubles else 0
        if isinstance(error, QuotaExceeded | SegmentBusy):
            wait_s = error.wait_s
        elif isinstance(error, TooManyRequests) and error.ready_at is not None:
            wait_s = max(self._scaled(_FULL_POLL_S), self._client.governor.seconds_until(error.ready_at))
        else:
            count += 1
            wait_s = self._scaled(retry_s(count))
            what = "wait" if isinstance(error, SegmentGone) else "were not applied and are sent again"
            _log.warning("segment %r: its changes %s: %s", name, what, error)
        self.troubles[name] = Trouble(count, error, now_us + round(wait_s * _SECOND_US))

    def _tell_lag(self, backlogs: Sequence[Backlog], now_us: int) -> None:
        every_us = self._scaled(_TELL_EVERY_S) * _SECOND_US
        for one in backlogs:
            if not is_late(one, now_us):
                self._told_us.pop(one.name, None)
            elif now_us - self._told_us.get(one.name, -round(every_us)) >= every_us:
                self._told_us[one.name] = now_us
                self._events.emit(
                    MembershipLag,
                    segment=one.name,
                    lag_s=one.age_us(now_us) / _SECOND_US,
                    max_age_s=one.max_age_s,
                    pending=one.pending,
                )

    def _scaled(self, seconds: float) -> float:
        return max(_LEAST_POLL_S, seconds / self._scale)


def _without_planned(plan: Plan) -> dict[str, Forecast]:
    """Return the usage of each limit without the one operation of one user that was planned."""
    return {
        limit.limit: Forecast(
            capacity=limit.capacity,
            steps=[
                (round((at - plan.made_at).total_seconds() * _SECOND_US), max(0, used - 1)) for at, used in limit.steps
            ],
        )
        for limit in plan.limits
    }
