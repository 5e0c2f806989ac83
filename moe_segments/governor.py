"""Hold every send until the documented quotas allow it, across tasks, processes and crashes.

Decisions are `core.admission` and `core.ledger`, made inside the journal's own serial step; this module is the queue
in front of them. One pass decides for everyone who waits, first come first; one timer wakes the queue when the next
slot can be free. A wait longer than the caller allows is refused at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import ExitStack, suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from moe_segments.core.admission import Admitted, Ask, Busy, Known, Later, Verdict, admit, cost_of, passed
from moe_segments.core.events import (
    ActiveObserved,
    Claimed,
    ExternalUsage,
    NeverSent,
    Opened,
    Quarantined,
    Trusted,
    Unclaimed,
)
from moe_segments.core.plan import starts
from moe_segments.errors import InputError, JournalError, JournalMoved, MoeSegmentsError, NotSent
from moe_segments.limits import USERS_PER_DAY, is_whole
from moe_segments.models import FileOperation
from moe_segments.operations import listed
from moe_segments.quota import Grant, LimitUsage, PlannedStart, moment_of, refusal_for, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from moe_segments.core.events import Event
    from moe_segments.core.state import WorkspaceState
    from moe_segments.journal.follower import Follower, Question
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import AddUsers, CreateFileSegment, FilterOperation, Operation, RemoveUsers, ReplaceUsers

    AnyFile: TypeAlias = CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers

__all__ = ["Governor", "Grant", "LimitUsage", "PlannedStart"]

_SECOND_US: Final = 1_000_000
_MOST: Final = 10**9  # of anything that is told; more is a mistake
_LONGEST_SLEEP_S: Final = 3_600.0  # a timer is set again at least this often
_CLAIM_S: Final = 1_800.0  # how long a claim outlives its process, at the documented speed; renewed at half of it
_TOLD_AGAIN_S: Final = 5.0  # how often the end of a claim is told to a journal that fails
_ALONE: Final = frozenset({0})  # the position of one who asks by itself
_log = logging.getLogger("moe_segments.governor")


def boot_time_s() -> float:
    """Seconds since the boot, suspend included where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class _Still(Enum):
    """No grant, and no refusal either."""

    WAITS = "waits"


_Outcome: TypeAlias = "Grant | MoeSegmentsError | _Still | None"


class _Ticket:
    """One who waits."""

    __slots__ = ("ask", "claimed_us", "deadline_s", "fresh", "future", "verdict")

    def __init__(
        self, ask: Ask, deadline_s: float, future: asyncio.Future[Grant | None], verdict: Verdict | None
    ) -> None:
        self.ask, self.deadline_s, self.future = ask, deadline_s, future
        self.fresh, self.verdict = verdict is None, verdict
        self.claimed_us: int | None = None  # when its claim was last made, journal time


class Governor:
    """The quotas of one workspace, decided in its journal.

    Args:
        follower: Of the journal.
        limits: The quotas.
        clock: Seconds, which the send fence is measured on.
        rows_of: How many rows a file was found to have, for plans; None where that is not known.
    """

    def __init__(
        self,
        follower: Follower,
        limits: QuotaLimits,
        *,
        clock: Callable[[], float] = boot_time_s,
        rows_of: Callable[[AnyFile], int | None] = lambda _: None,
    ) -> None:
        self.limits, self._rows_of = limits, rows_of
        self._follower, self._clock = follower, clock
        self._queue: list[_Ticket] = []
        self._passing: asyncio.Task[None] | None = None
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._watching = ExitStack()
        self._is_watching = False
        self._stop_listening: Callable[[], None] | None = None
        self.closed = False
        self._closing = asyncio.Event()
        self._releases: dict[asyncio.Task[None], None] = {}
        self._claim_us = round(_CLAIM_S / limits.scale * _SECOND_US)

    async def open(self, origin: str, *, on_lost_journal: Literal["wait", "trust"], announce: bool) -> None:
        """Take up the journal for a service, noticing when it belongs to another or may have lost history.

        Raises:
            JournalError: The journal belongs to another service or to windows of another length.
        """
        journal = self._follower.journal
        doubt, scale = journal.doubt, self.limits.scale

        def question(state: WorkspaceState, _: int) -> tuple[Sequence[Event], None]:
            _refuse_other(state.opened, origin, scale)
            events: list[Event] = [] if state.opened else [Opened(origin, scale)]
            reason = doubt or state.ledger.quarantine
            if reason and on_lost_journal == "trust":
                events.append(Trusted(reason))
            elif doubt:
                events.append(Quarantined(doubt))
            return events, None

        await self._follower.ask(question)
        self._stop_listening = self._follower.listen(self._kick_if_waiting)
        if doubt:
            _log.warning(
                "%s; %s",
                doubt,
                "trusted all the same, as asked for"
                if on_lost_journal == "trust"
                else "every window is taken to be full from now, unless you trust it: on_lost_journal='trust', "
                "governor.lift_quarantine, or moe-segments quota --trust",
            )
        elif journal.is_new and announce:
            _log.warning(
                "this journal is new: it takes nothing to have been spent in the last 24 hours; "
                "if that is not so, tell it: governor.record_external, or moe-segments quota --spent-operations"
            )

    async def close(self) -> None:
        """Refuse whoever still waits; give back what was granted to nobody."""
        self.closed = True
        self._closing.set()
        for ticket in self._queue:
            _fail(ticket, NotSent("the client is closing"))
            self._unclaim(ticket)
        self._queue.clear()
        self._set_timer(None)
        self._stop_watching()
        if self._passing is not None:
            await asyncio.gather(self._passing, return_exceptions=True)
        await asyncio.gather(*self._releases, return_exceptions=True)
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None

    # What users ask

    async def usage(self) -> Mapping[str, LimitUsage]:
        """Every limit by its name, as the journal stands now.

        Raises:
            JournalError: The journal cannot be read.
        """
        states = await self._follower.ask(lambda state, now_us: ((), state.ledger.usage(now_us)))
        return {state.limit: usage_of(state) for state in states}

    async def plan(self, operations: Iterable[Operation | FilterOperation]) -> list[PlannedStart]:
        """When each operation can start if they are submitted now in this order, and which limit binds it.

        Operations are taken to end at once, so these are the earliest moments. Needs `rows` on file operations whose
        file this client has not checked with `preflight`.

        Raises:
            InputError: A file operation has no `rows` and was not checked, or something else is no operation.
            JournalError: The journal cannot be read.
        """
        planned = listed(operations)
        costs = [cost_of(self._weighed(operation), self.limits) for operation in planned]
        now_us, found = await self._follower.ask(
            lambda state, now_us: ((), (now_us, list(starts(state.ledger, costs, now_us))))
        )
        return [
            PlannedStart(
                operation=operation,
                start=moment_of(start.at_us),
                limit=start.limit,
                wait_s=math.inf if start.at_us is None else (start.at_us - now_us) / _SECOND_US,
            )
            for operation, start in zip(planned, found, strict=True)
        ]

    def _weighed(self, operation: Operation | FilterOperation) -> Operation | FilterOperation:
        if not isinstance(operation, FileOperation) or operation.rows is not None:
            return operation
        rows = self._rows_of(operation)
        if rows is None:
            raise InputError(f"{operation.name!r} needs its rows to be planned: give them, or check its file", "rows")
        return attrs.evolve(operation, rows=rows)

    async def record_external(self, *, operations: int = 0, rows: int = 0, at: datetime | None = None) -> None:
        """Tell the journal what somebody else spent, such as people in the dashboard.

        Args:
            operations: File-segment operations, from 0.
            rows: Users uploaded, from 0.
            at: When, aware; None for now. Usage older than a window no longer counts in it.

        Raises:
            InputError: A number is negative, or the moment has no zone or lies in the future.
            JournalError: It could not be written.
        """
        _check_amount("operations", operations)
        _check_amount("rows", rows)
        if at is not None and at.tzinfo is None:
            raise InputError("needs a time zone", "at")
        at_us = None if at is None else round(at.timestamp() * _SECOND_US)

        def question(_: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            if at_us is not None and at_us > now_us:
                raise InputError("lies in the future", "at")
            return [ExternalUsage(operations, rows, now_us if at_us is None else at_us)], None

        await self._follower.ask(question)

    async def observe_active_segments(self, n: int) -> None:
        """Tell the journal how many segments of all types are active now, those of this journal included.

        Raises:
            InputError: *n* is no whole number from 0.
            JournalError: It could not be written.
        """
        _check_amount("n", n)
        await self._follower.record(ActiveObserved(n))

    async def lift_quarantine(self, *, operations: int = 0, rows: int = 0) -> None:
        """State what was spent in the last day, and trust the journal for the rest.

        Args:
            operations: File-segment operations, counted as if spent now.
            rows: Users uploaded, counted as if spent now.

        Raises:
            InputError: A number is negative.
            JournalError: It could not be written.
        """
        _check_amount("operations", operations)
        _check_amount("rows", rows)

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            reason = state.ledger.quarantine or "stated by the user"
            return [ExternalUsage(operations, rows, now_us), Trusted(reason)], None

        await self._follower.ask(question)

    # What the client asks

    async def reserve(self, ask: Ask, *, max_wait_s: float = 0.0) -> Grant | None:
        """Wait for leave to send one request, first come, first served.

        Cancelling it frees the place in line, and gives back what was granted meanwhile.

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
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + max_wait_s
        verdict: Verdict | None = None
        if not self._queue and self._passing is None and self._follower.answers_now:
            outcome, verdict = self._decided_at_once(ask, deadline_s)
            if isinstance(outcome, MoeSegmentsError):
                raise outcome
            if outcome is not _Still.WAITS:
                return outcome
        ticket = _Ticket(ask, deadline_s, loop.create_future(), verdict)
        self._queue.append(ticket)
        self._kick()
        try:
            return await ticket.future
        except asyncio.CancelledError:
            self._abandon(ticket)
            raise

    def _decided_at_once(self, ask: Ask, deadline_s: float) -> tuple[_Outcome, Verdict]:
        """Decide in this step of the loop, when nobody is ahead and the journal need not be waited for."""
        started_s = self._clock()
        asks = (ask,)
        look_ahead_for = _ALONE if deadline_s < math.inf else frozenset()

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[Verdict, int]]:
            (verdict,) = admit(state, asks, now_us, look_ahead_for=look_ahead_for)
            return ((verdict.event,) if isinstance(verdict, Admitted) else ()), (verdict, now_us)

        verdict, now_us = self._follower.ask_now(question)
        return self._outcome(verdict, now_us, started_s, ask, deadline_s), verdict

    async def give_back(self, grant: Grant, reason: str) -> None:
        """The request was provably never sent: everything it held is free again."""
        await self._follower.record(NeverSent(grant.job, grant.attempt, reason))

    def may_start(self, grant: Grant) -> bool:
        """Whether the request may still start; past its fence the reservation's end would not cover it."""
        return self._clock() < grant.send_by_s

    def report_if_late(self, grant: Grant) -> None:
        """Say so when an outcome became known after its lease: until now the row counted as ended too early."""
        late_s = self._clock() - grant.lease_s
        if late_s > 0:
            _log.warning(
                "job %s: its outcome became known %.0f s after its lease; its quota is counted anew from now",
                grant.job,
                late_s,
            )

    def _abandon(self, ticket: _Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._unclaim(ticket)
            self._kick_if_waiting()
            self._rest_if_nobody_waits()
        if ticket.future.done() and not ticket.future.cancelled() and ticket.future.exception() is None:
            self._release(ticket.future.result())

    def _release(self, grant: Grant | None) -> None:
        if grant is not None:
            self._tell(NeverSent(grant.job, grant.attempt, "called off before it was sent"))

    def _tell(self, event: NeverSent | Unclaimed) -> None:
        task = asyncio.get_running_loop().create_task(self._write(event))
        self._releases[task] = None
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
                if isinstance(event, NeverSent) or self.closed or now_s() > lapses_s:
                    raise
            else:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TOLD_AGAIN_S)
            if any(ticket.ask.job == event.job and ticket.claimed_us is not None for ticket in self._queue):
                return

    def _told(self, task: asyncio.Task[None]) -> None:
        self._releases.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("what was called off could not be written down, and lapses by itself: %s", error)

    # Claims, see `core.claims`

    async def _claim(self, now_us: int) -> None:
        """Say for the first of each size that waits for users, in whichever process, that it was here first."""
        due_us = now_us - self._claim_us // 2
        is_due = any(ticket.claimed_us is not None and ticket.claimed_us <= due_us for ticket in self._queue)
        heads: set[int] = set()
        claims: list[Claimed] = []
        for ticket in self._queue:
            is_head = id(ticket.verdict) not in heads and _waits_for_users(ticket)
            heads.add(id(ticket.verdict))
            if is_head if ticket.claimed_us is None else is_due:
                ticket.claimed_us = now_us
                claims.append(Claimed(ticket.ask.job, *ticket.ask.cost[:3], self._claim_us))
        if claims:
            await self._follower.record(*claims)

    def _unclaim(self, ticket: _Ticket) -> None:
        if ticket.claimed_us is not None:
            ticket.claimed_us = None
            self._tell(Unclaimed(ticket.ask.job))

    # Passes

    def _kick_if_waiting(self) -> None:
        if self._queue:
            self._kick()

    def _kick(self) -> None:
        self._again = True
        if self._passing is None:
            self._passing = asyncio.get_running_loop().create_task(self._pass_until_quiet())

    async def _pass_until_quiet(self) -> None:
        try:
            while self._again and self._queue:
                self._again = False
                await self._pass()
        finally:
            self._passing = None
            self._rest_if_nobody_waits()

    def _rest_if_nobody_waits(self) -> None:
        if not self._queue:
            self._set_timer(None)
            self._stop_watching()

    async def _pass(self) -> None:
        tickets = tuple(self._queue)
        question = self._question(tickets)
        started_s = self._clock()  # before the reservation, so the fence is early rather than late
        try:
            verdicts, now_us = await self._follower.ask(question)
        except Exception as error:  # noqa: BLE001 - handed to each who waits
            self._drop(tickets)
            for ticket in tickets:
                self._unclaim(ticket)
                _fail(ticket, error)
            return
        for position, ask in passed([ticket.ask for ticket in tickets], verdicts).items():
            tickets[position].ask = ask
        done = [
            ticket
            for ticket, verdict in zip(tickets, verdicts, strict=True)
            if self._deliver(ticket, verdict, now_us, started_s)
        ]
        if done:
            self._drop(done)
        try:
            await self._claim(now_us)
        except JournalError as error:
            _log.warning("a claim could not be written down, others may pass: %s", error)
        self._sleep(now_us)

    def _question(self, tickets: Sequence[_Ticket]) -> Question[tuple[list[Verdict], int]]:
        asks = [ticket.ask for ticket in tickets]
        ahead_for: set[int] = set()
        patient: set[int] = set()
        for position, ticket in enumerate(tickets):
            if ticket.fresh is (ticket.deadline_s < math.inf):
                (ahead_for if ticket.fresh else patient).add(position)

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[list[Verdict], int]]:
            verdicts = admit(state, asks, now_us, look_ahead_for=ahead_for, patient=patient)
            return [verdict.event for verdict in verdicts if isinstance(verdict, Admitted)], (verdicts, now_us)

        return question

    def _drop(self, tickets: Sequence[_Ticket]) -> None:
        gone = set(map(id, tickets))
        self._queue = [ticket for ticket in self._queue if id(ticket) not in gone]

    def _deliver(self, ticket: _Ticket, verdict: Verdict, now_us: int, started_s: float) -> bool:
        """Hand the verdict over if it is final for this ticket. Returns whether it was."""
        ticket.fresh, ticket.verdict = False, verdict
        outcome = self._outcome(verdict, now_us, started_s, ticket.ask, ticket.deadline_s)
        if outcome is _Still.WAITS:
            return False
        if isinstance(outcome, MoeSegmentsError):
            self._unclaim(ticket)
            _fail(ticket, outcome)
        elif not ticket.future.done():
            ticket.future.set_result(outcome)
        else:
            self._release(outcome)
        return True

    def _outcome(self, verdict: Verdict, now_us: int, started_s: float, ask: Ask, deadline_s: float) -> _Outcome:
        """What a verdict is to who asked: a grant, None for a job that is known, an error, or to wait."""
        if isinstance(verdict, Admitted):
            event = verdict.event
            send_by_s = started_s + event.fence_us / _SECOND_US
            lease_s = send_by_s + event.timeout_us / _SECOND_US + self.limits.count_late_s
            return Grant(job=event.job, attempt=event.attempt, send_by_s=send_by_s, lease_s=lease_s, at_us=now_us)
        if isinstance(verdict, Later) and deadline_s == math.inf:
            return _Still.WAITS
        if isinstance(verdict, Known):
            return None
        return refusal_for(verdict, now_us, deadline_s - asyncio.get_running_loop().time(), ask) or _Still.WAITS

    def _sleep(self, now_us: int) -> None:
        if not self._queue:
            return
        until_s = min(ticket.deadline_s for ticket in self._queue)
        waits_us = [_LONGEST_SLEEP_S * _SECOND_US]
        for verdict in {id(ticket.verdict): ticket.verdict for ticket in self._queue}.values():
            until_us = _until_us(verdict)
            if until_us is not None:
                waits_us.append(until_us - now_us)
        waits_us += [
            ticket.claimed_us + self._claim_us // 2 - now_us for ticket in self._queue if ticket.claimed_us is not None
        ]
        pause_s = min(until_s - asyncio.get_running_loop().time(), min(waits_us) / _SECOND_US)
        self._set_timer(max(0.001, pause_s))
        if not self._is_watching:
            self._watching.enter_context(self._follower.watching())
            self._is_watching = True

    def _stop_watching(self) -> None:
        self._watching.close()
        self._is_watching = False

    def _set_timer(self, delay_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay_s is None else asyncio.get_running_loop().call_later(delay_s, self._kick_if_waiting)


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


def _waits_for_users(ticket: _Ticket) -> bool:
    """Whether this is what binds it, rather than somebody ahead."""
    match ticket.verdict:
        case Later(wait, _):
            return wait.limit == USERS_PER_DAY and wait.requested == ticket.ask.cost.rows
        case _:
            return False


def _until_us(verdict: Verdict | None) -> int | None:
    match verdict:
        case Later(wait, _):
            return wait.until_us
        case Busy(_, until_us):
            return until_us
        case _:
            return None


def _fail(ticket: _Ticket, error: Exception) -> None:
    if not ticket.future.done():
        ticket.future.set_exception(error)


def _check_amount(field: str, amount: object) -> None:
    if not is_whole(amount) or amount > _MOST:  # type: ignore[operator]  # a whole number by then
        raise InputError(f"must be a whole number from 0 to {_MOST}, not {amount!r}", field)
