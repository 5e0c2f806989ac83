"""Hold every send until the documented quotas allow it, across tasks, processes and crashes.

Decisions are `core.state.admission` and `core.quota.ledger`, made inside the journal's own serial step; this module is
in front of them, and `governor.queue` is who waits. One pass decides for everyone who waits, first come first; one
timer wakes the queue when the next slot can be free. A wait longer than the caller allows is refused at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from contextlib import ExitStack
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from moe_segments.core.events import Opened, Quarantined, Reserved, Trusted
from moe_segments.core.state.admission import Round, admit, readmit
from moe_segments.core.state.verdicts import Admitted, Ask, Busy, Deferred, Known, Paced, Verdict
from moe_segments.core.state.waiting_line import Outlook
from moe_segments.errors import JournalAmbiguous, JournalError, JournalUnavailable, MoeSegmentsError, NotSent
from moe_segments.governor.paced_grants import grant_within
from moe_segments.governor.plan_queries import PlanCalls
from moe_segments.governor.queue import Claims, Waiter, Waiters
from moe_segments.governor.usage import Grant, LimitUsage, PlannedStart, refusal_for
from moe_segments.governor.usage_queries import QuotaCalls
from moe_segments.governor.wait_notices import WaitNotices
from moe_segments.journal.local.outage import AWAY
from moe_segments.telemetry.emitter import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.pace import Pace, Place
    from moe_segments.governor.plan_queries import AnyFile
    from moe_segments.journal.replica import Question, Replica
    from moe_segments.limits import QuotaLimits

__all__ = ["Governor", "Grant", "LimitUsage", "PlannedStart"]

T = TypeVar("T")

_SECOND_US: Final = 1_000_000
_AFTER_OUTAGE_S: Final = 1.0  # between two tries to reach a journal that is away, besides the time each of them takes
_LONGEST_SLEEP_S: Final = 3_600.0  # a timer is set again at least this often
# Windows has neither.
_BOOT_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
_AFTER_FAILURE_S: Final = 1.0
_log = logging.getLogger("moe_segments.governor")


def boot_time_s() -> float:
    """Seconds since the boot, suspend included where the system can tell."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class _Pending(Enum):
    """The outcome of a caller that goes on waiting: neither granted nor refused."""

    WAITS = "waits"


_Outcome: TypeAlias = "Grant | MoeSegmentsError | _Pending | None"


class Governor(QuotaCalls, PlanCalls):
    """The quotas of one workspace, decided in its journal.

    Args:
        replica: Of the journal.
        limits: The quotas.
        clock: Seconds, which the send fence is measured on.
        rows_of: How many rows a file was found to have, for plans; None where that is not known.
        awaits_callback: Whether an operation's callback comes to us, for plans.
        attempt_s: How long after its grant a request may still be under way, for plans: fence and time-out.
        pace: What requests go through once they are granted; None where none do.
        wall: This host's wall clock, seconds, which people's moments are on; None: the journal's clock is theirs, too.
        events: Who is told who waits; None: nobody.
    """

    limits: QuotaLimits
    closed: bool

    def __init__(
        self,
        replica: Replica,
        limits: QuotaLimits,
        *,
        clock: Callable[[], float] = boot_time_s,
        rows_of: Callable[[AnyFile], int | None] = lambda _: None,
        awaits_callback: Callable[[AnyFile], bool] = lambda _: True,
        attempt_s: float = 90.0,
        pace: Pace | None = None,
        wall: Callable[[], float] | None = None,
        events: Events | None = None,
    ) -> None:
        self.limits, self._rows_of, self._awaits_callback = limits, rows_of, awaits_callback
        self._attempt_us = round(attempt_s * _SECOND_US)
        self._replica, self._clock, self._pace, self._wall = replica, clock, pace, wall
        if pace is not None:
            pace.on_room = self._kick_if_waiting
        self._queue = Waiters()
        self._outlook = Outlook()
        self._claims = Claims(replica, self._queue, scale=limits.scale)
        self._notices = WaitNotices(replica, self._queue, events or Events(""), self.shift_us)
        self._passing: asyncio.Task[None] | None = None
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._watching = ExitStack()
        self._is_watching = False
        self._stop_listening: Callable[[], None] | None = None
        self.closed = False

    async def open(self, origin: str, *, on_lost_journal: Literal["wait", "trust"], announce: bool) -> None:
        """Take up the journal for a service, noticing when it belongs to another or may have lost history.

        Args:
            origin: Scheme, host and port of the service.
            on_lost_journal: "wait" takes every window for full where history may be lost; "trust" does not.
            announce: Warn where the journal is new.

        Raises:
            JournalError: The journal belongs to another service or to windows of another length.
        """
        journal = self._replica.journal
        doubt, scale = journal.doubt, self.limits.scale

        def question(state: WorkspaceState, _: int) -> tuple[Sequence[Event], bool]:
            _refuse_other(state.opened, origin, scale)
            events: list[Event] = [] if state.opened else [Opened(origin, scale)]
            known = state.ledger.quarantine
            reason = doubt or known
            if reason and on_lost_journal == "trust":
                events.append(Trusted(reason))
            elif doubt and doubt != known:  # else who looks at a journal again and again would never see it free
                events.append(Quarantined(doubt))
            return events, doubt == known

        is_known = await self._replica.ask(question)
        self._stop_listening = self._replica.subscribers.on_change(self._kick_if_changed)
        if doubt:
            _log.warning(
                "%s; %s",
                doubt,
                "trusted all the same, as asked for"
                if on_lost_journal == "trust"
                else f"every window is taken to be full from {'when this was seen first' if is_known else 'now'}, "
                "unless you trust it: on_lost_journal='trust', governor.lift_quarantine, or moe-segments quota --trust",
            )
        elif journal.is_new and announce:
            _log.warning(
                "this journal is new: it takes nothing to have been spent in the last 24 hours; "
                "if that is not so, tell it: governor.record_external, or moe-segments quota --spent-operations"
            )

    async def close(self) -> None:
        """Refuse whoever still waits; give back what was granted to nobody."""
        self.closed = True
        self._claims.stop_retrying()
        self._refuse(tuple(self._queue), NotSent("the client is closing"))
        if self._pace is not None:
            await self._pace.close()
        self._set_timer(None)
        self._stop_watching()
        await self._notices.stop()
        if self._passing is not None:
            await asyncio.gather(self._passing, return_exceptions=True)
        await self._claims.flush()
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    # What the client asks

    async def reserve(self, ask: Ask, *, max_wait_s: float = 0.0, place: Place | None = None) -> Grant | None:
        """Wait for leave to send one request, first come, first served.

        Cancelling it frees the place in line, and gives back what was granted meanwhile. With a *place* in the pace
        it is granted only when its turn there is near; that wait has no bound.

        Args:
            ask: What is to be sent, and what it spends.
            max_wait_s: Longest wait for quota and segment, seconds; 0 refuses at once.
            place: Its turn in the pace; None where nothing is paced.

        Returns:
            The grant, durable; None when the journal knows the job and it is not to be sent again.

        Raises:
            QuotaExceeded: A limit stays full for longer than *max_wait_s*.
            QuotaNeverFits: It is larger than a whole limit.
            SegmentBusy: Its segment is not free within *max_wait_s*.
            AuthenticationFailed, Forbidden: The key was rejected before.
            NotSent: The governor is closing.
            JournalError: Nothing can be decided, so nothing is sent.
        """
        if self.closed:
            raise NotSent("the client is closing")
        self._replica.check_place()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + max_wait_s
        waiter = Waiter(ask, deadline_s, loop.create_future(), place)
        self._queue.add(waiter)
        self._kick()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise

    def may_start(self, grant: Grant) -> bool:
        """Return whether the request may still start; past its fence the reservation's end would not cover it.

        Args:
            grant: The leave to send it.

        Returns:
            False when it is too late to send.
        """
        return self._clock() < grant.send_by_s

    def shift_us(self) -> int:
        """Return how much this host's wall clock is ahead of the journal's, in whole seconds, microseconds.

        Returns:
            The difference; negative when the journal's clock is ahead.
        """
        if self._wall is None:
            return 0
        ahead_us = self._wall() * _SECOND_US - self._replica.now_us()
        return round(ahead_us / _SECOND_US) * _SECOND_US  # less than half a second is how long an answer took

    def now_s(self) -> float:
        """Return the present moment as the governor tells moments, epoch seconds.

        Returns:
            Seconds since the epoch, on this host's wall clock.
        """
        return (self._replica.now_us() + self.shift_us()) / _SECOND_US

    def seconds_until(self, moment: datetime) -> float:
        """Return how long it is until a moment that the governor told, seconds; negative when it is over.

        Args:
            moment: Aware.

        Returns:
            Seconds.
        """
        return moment.timestamp() - self.now_s()

    def report_if_late(self, grant: Grant) -> None:
        """Warn of an outcome that became known after its lease: until now its row counted as ended too early.

        Args:
            grant: The leave to send it.
        """
        late_s = self._clock() - grant.lease_s
        if late_s > 0:
            _log.warning(
                "job %s: its outcome became known %.0f s after its lease; its quota is counted anew from now",
                grant.job,
                late_s,
            )

    def _abandon(self, waiter: Waiter) -> None:
        if self._queue.remove(waiter):
            if not waiter.claimed:  # it may have a place that nobody else knows of
                self._outlook.forget()
            self._claims.end(waiter)
            self._rest_if_nobody_waits()
        if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            self._claims.release(waiter.future.result())

    # Passes

    def _kick_if_changed(self) -> None:
        is_changed = self._outlook.revision != self._replica.state.revision
        if self._queue and (is_changed or self._replica.is_replaced):
            self._kick()

    def _kick_if_waiting(self) -> None:
        if self._queue:
            self._kick()

    def _wake_up(self) -> None:
        self._timer = None
        self._kick_if_waiting()

    def _kick(self) -> None:
        self._again = True
        if self._passing is None:
            self._passing = asyncio.get_running_loop().create_task(self._pass_until_quiet())

    async def _pass_until_quiet(self) -> None:
        try:
            while self._again and self._queue:
                self._again = False
                await self._pass()
        except Exception:  # noqa: BLE001 - whoever waits must not be left without a timer
            _log.exception("a mistake in deciding who may leave; trying again")
            self._outlook.forget()
        finally:
            self._passing = None
            self._rest_if_nobody_waits()
            if self._queue and self._timer is None:
                self._set_timer(_AFTER_FAILURE_S)

    def _rest_if_nobody_waits(self) -> None:
        if not self._queue:
            self._set_timer(None)
            self._stop_watching()

    async def _pass(self) -> None:
        queue = self._queue
        if not queue.asks and not (self._pace and self._pace.room()):
            self._wait_for_room()
            return
        waiters, ahead = tuple(queue), len(queue.paced)
        patience_us = queue.patience_us(asyncio.get_running_loop().time())
        question, reserved = _noting(self._question(waiters, patience_us))
        started_s = self._clock()  # before the reservation, so the fence is early rather than late
        try:
            step, now_us, renewed = await self._replica.ask(question)
        except Exception as error:  # noqa: BLE001 - handed to each whose wait it ends
            self._outlook.forget()
            self._undecided(waiters, error, reserved)
            return
        for position in step.claimed:
            waiters[position].claimed = True
            if waiters[position] not in queue:  # gone meanwhile
                self._claims.end(waiters[position])
        self._claims.made(now_us, anew=bool(step.claimed), renewed=renewed)
        if out_of_quota := [waiters[at] for at in range(ahead) if at not in step.verdicts]:
            queue.put_back(out_of_quota)
            self._again = True
        for position, verdict in step.verdicts.items():
            self._deliver(waiters[position], verdict, now_us, started_s, is_forecast=position - ahead in patience_us)
        self._again = self._again or not step.is_done
        self._sleep(now_us, step.wake_us)

    def _question(self, waiters: Sequence[Waiter], patience_us: dict[int, int]) -> Question[tuple[Round, int, bool]]:
        """Return the decision on those who wait for the pace alone, and then on the others, in one step."""
        ahead, asks = tuple(self._queue.paced.values()), tuple(self._queue.asks.values())
        fresh_from = len(asks) - len(self._queue.fresh)
        claims, outlook, pace, runs = self._claims, self._outlook, self._pace, 0
        room, has_spare = (pace.room(), pace.room(in_background=True) > 0) if pace else (0, False)

        def is_in_background(position: int) -> bool | None:
            place = waiters[position].place
            return None if place is None else place.in_background

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[Round, int, bool]]:
            nonlocal runs
            runs += 1
            if runs > 1 or ahead:  # what the run before noted did not happen, or what is tried here may not
                outlook.forget()
            again = readmit(state, ahead, now_us) if ahead else {}
            step = tried = admit(
                state,
                asks,
                now_us,
                patience_us=patience_us,
                fresh_from=fresh_from,
                outlook=outlook,
                for_us=claims.for_us,
                waiter=claims.waiter,
            ).behind(len(ahead), again)
            if pace is not None:
                step = grant_within(state, tried, now_us, is_in_background, room, has_spare=has_spare)
            if step is not tried or ahead:
                outlook.forget()
            renewal = claims.renewal(now_us)
            return [*step.events, *renewal], (step, now_us, bool(renewal))

        return question

    def _undecided(self, waiters: Sequence[Waiter], error: Exception, reserved: Collection[str]) -> None:
        """Let callers wait on while the journal is away; tell *error* to whoever it ends the wait of.

        Args:
            waiters: Of the callers.
            error: Why nothing was decided.
            reserved: The jobs that may have been reserved all the same, where the answer was lost.
        """
        now_s = asyncio.get_running_loop().time()
        is_away = isinstance(error, JournalUnavailable | JournalAmbiguous)
        is_lost = isinstance(error, JournalAmbiguous)
        affected = tuple(self._queue) if self._replica.is_replaced else waiters
        gone = [
            waiter
            for waiter in affected
            if not is_away or waiter.deadline_s <= now_s or (is_lost and waiter.ask.job in reserved)
        ]
        self._refuse(gone, error)
        if not self._queue or not is_away:
            return
        waiting = len(self._queue)
        self._replica.outage.warn(
            AWAY, "%d waiting for the journal, which cannot be reached, and go on waiting: %s", waiting, error
        )
        pause_s = _AFTER_OUTAGE_S * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load
        self._set_timer(max(0.001, min(pause_s, self._queue.next_deadline_s() - now_s)))
        self._watch()

    def _refuse(self, waiters: Sequence[Waiter], error: Exception) -> None:
        for waiter in waiters:
            self._queue.remove(waiter)
            self._claims.end(waiter)
            waiter.fail(error)

    def _deliver(self, waiter: Waiter, verdict: Verdict, now_us: int, started_s: float, *, is_forecast: bool) -> None:
        """Hand the verdict over if it is final for this waiter."""
        outcome = self._outcome(verdict, now_us, started_s, waiter.ask, waiter.deadline_s)
        if outcome is not _Pending.WAITS and not is_forecast and isinstance(verdict, (Deferred, Busy)):
            self._queue.urgent[waiter] = None  # too late as far as that is known: refused with all that is ahead
            self._again = True
            outcome = _Pending.WAITS
        if outcome is _Pending.WAITS:
            if isinstance(verdict, Paced):
                self._queue.leave_to_pace(waiter)
            self._queue.fresh.pop(waiter, None)
            if is_forecast:
                self._queue.urgent.pop(waiter, None)
            if isinstance(verdict, Deferred | Busy):
                self._notices.note(waiter, verdict)
            return
        self._queue.remove(waiter)
        if isinstance(outcome, MoeSegmentsError):
            self._claims.end(waiter)
            waiter.fail(outcome)
            return
        if outcome is None:  # known meanwhile: no reservation ends its claim
            self._claims.end(waiter)
        if waiter.future.done():
            self._claims.release(outcome)
            return
        if waiter.place is not None and outcome is not None:
            waiter.place.hold()
        waiter.future.set_result(outcome)

    def _outcome(self, verdict: Verdict | None, now_us: int, started_s: float, ask: Ask, deadline_s: float) -> _Outcome:
        """Return what a verdict is to who asked: a grant, None for a job that is known, an error, or to wait."""
        if isinstance(verdict, Admitted):
            event = verdict.event
            send_by_s = started_s + event.fence_us / _SECOND_US
            lease_s = send_by_s + event.timeout_us / _SECOND_US + self.limits.count_late_s
            return Grant(job=event.job, attempt=event.attempt, send_by_s=send_by_s, lease_s=lease_s, at_us=now_us)
        if verdict is None or (isinstance(verdict, Deferred) and deadline_s == math.inf):
            return _Pending.WAITS
        if isinstance(verdict, Known):
            return None
        if isinstance(verdict, Paced):
            return _Pending.WAITS
        patience_s = deadline_s - asyncio.get_running_loop().time()
        return refusal_for(verdict, now_us, patience_s, ask, self.shift_us()) or _Pending.WAITS

    def _sleep(self, now_us: int, wake_us: int | None) -> None:
        """Set the timer for when somebody may leave, is too late, or has to be claimed for again."""
        if not self._queue:
            return
        waits_us = [at_us - now_us for at_us in (wake_us, self._claims.renew_us()) if at_us is not None]
        pause_s = (
            min(_LONGEST_SLEEP_S, *(wait_us / _SECOND_US for wait_us in waits_us)) if waits_us else _LONGEST_SLEEP_S
        )
        self._set_timer(max(0.0, min(self._queue.next_deadline_s() - asyncio.get_running_loop().time(), pause_s)))
        self._wait_for_room()
        self._watch()

    def _wait_for_room(self) -> None:
        places = [waiter.place for waiter in self._queue.paced if waiter.place is not None]
        if self._pace is not None and places:
            self._pace.wait_for_room(in_background=all(place.in_background for place in places))

    def _watch(self) -> None:
        if not self._is_watching:
            self._watching.enter_context(self._replica.watching())
            self._is_watching = True

    def _stop_watching(self) -> None:
        if self._is_watching:
            self._watching.close()
            self._is_watching = False

    def _set_timer(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else asyncio.get_running_loop().call_later(delay_s, self._wake_up)


def _noting(question: Question[T]) -> tuple[Question[T], Collection[str]]:
    """Return *question*, and the jobs that any of its runs reserved."""
    reserved: set[str] = set()

    def noting(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], T]:
        events, answer = question(state, now_us)
        reserved.update(event.job for event in events if isinstance(event, Reserved))
        return events, answer

    return noting, reserved


def _refuse_other(opened: Opened | None, origin: str, scale: float) -> None:
    if opened is None or (opened.origin, opened.scale) == (origin, scale):
        return
    if opened.origin != origin:
        raise JournalError(
            f"this journal belongs to {opened.origin} and the client talks to {origin}; "
            "name another journal, so that one service's usage is not taken for the other's"
        )
    raise JournalError(
        f"this journal was kept at speed {opened.scale:g} (windows that many times shorter than documented) and the "
        f"client's speed is {scale:g}; use the same (--speed, QuotaLimits().scaled), or name another journal"
    )
