"""The one path to the service: check, wait for quota and pace, reserve, send, classify, record, perhaps again.

What the journal says if it stops here: before the reservation nothing; after it the row counts until its lease, so a
crash costs quota and never a second send; after the send the outcome is written before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import NeverSent, Unknown
from moe_segments.core.state.retry import Ending, next_send
from moe_segments.errors import MoeSegmentsError, NameTaken, TooManyRequests
from moe_segments.http.transport import NOT_IN_TIME, Attempt, Delivery, Replied, Unsent
from moe_segments.models import JobState
from moe_segments.submission.job_info import unknown_of
from moe_segments.submission.recorder import ending_of_delivery

if TYPE_CHECKING:
    from moe_segments.core.state.verdicts import Ask
    from moe_segments.core.wire.file_segments import Request
    from moe_segments.governor.governor import Governor
    from moe_segments.governor.pace import Pace, Place
    from moe_segments.governor.usage import Grant
    from moe_segments.http.transport import Transport
    from moe_segments.journal.replica import Replica
    from moe_segments.settings import Settings
    from moe_segments.submission.calls import Call
    from moe_segments.submission.recorder import OutcomeRecorder

__all__ = ["Dispatcher"]

_MOST_LATE: Final = 20  # a journal or a file server this slow for the fence never gets through


class Dispatcher:
    """The dispatcher of one client's calls: every request to the service goes through `dispatch`.

    Attributes:
        sending: Jobs whose request is on its way from here.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        replica: Replica,
        governor: Governor,
        pace: Pace,
        transport: Transport,
        recorder: OutcomeRecorder,
    ) -> None:
        self._settings, self._replica, self._governor = settings, replica, governor
        self._pace, self._transport, self._recorder = pace, transport, recorder
        self.sending: set[str] = set()

    async def dispatch(self, call: Call) -> None:
        """Send *call* until it went well or `core.state.retry` says to stop. On return the journal knows its outcome.

        Raises:
            QuotaError: Refused locally; nothing was sent.
            NotSent: Provably never sent, after as many tries as the settings allow.
            OutcomeUnknown: It may have worked; AnswerShapeError for a success that is not as documented.
            ApiError: The service refused it.
            JournalError: The journal cannot be used.
        """
        call.life.is_dispatched = True
        try:
            while (pause_s := await self._attempt(call)) is not None:
                call.has_left = False
                await asyncio.sleep(pause_s)
            call.life.accepted(self._cs_id_of(call))
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            call.life.end((self._doubt_of(call) if is_cancelled else None) or error)
            if call.announced_retry is not None:  # no retry comes now, and whoever follows the job has to hear of that
                await asyncio.shield(self._recorder.record(attrs.evolve(call.announced_retry, again=False)))
            raise
        finally:
            call.end()  # the task's last step: who waits goes on with the next one

    async def _attempt(self, call: Call) -> float | None:
        """Send once. Returns how long to wait before the next send, seconds; None when there is to be none."""
        call.attempts += 1
        ask, request = call.prepare()  # what cannot be built must not have reserved anything
        with self._pace.place(in_background=call.in_background) as place:
            grant = await self._reserved(call, ask, place)
            if grant is None:  # the journal knows the job, and it is not to be sent again
                if call.doubt is not None:
                    raise call.doubt
                call.life.attached(self._replica.state.jobs.records[ask.job].state_at(self._replica.now_us()))
                return None
            call.announced_retry = None
            delivery = await self._sent(call, ask, request, place, grant)
        pause_s, ending = self._pause_s(call, delivery), ending_of_delivery(delivery)
        error = await self._recorder.settle(call, ask.cost, grant, delivery, again=pause_s is not None)
        if isinstance(error, TooManyRequests):
            call.life.throttled(error, self._governor.seconds_until(error.ready_at) if error.ready_at else None)
        if ending is Ending.MAYBE and call.job_id is not None:
            call.doubt = error
        if error is not None and pause_s is None:
            raise (self._doubt_of(call) if ending is Ending.NOT_SENT else None) or error
        if pause_s is not None:
            call.life.retried(_reason_of(delivery), pause_s)
        return pause_s

    async def _reserved(self, call: Call, ask: Ask, place: Place) -> Grant | None:
        """Wait for quota, segment and pace. Returns None for a job that the journal knows and that is not sent."""
        since_s = asyncio.get_running_loop().time()
        try:
            grant = await self._governor.reserve(ask, max_wait_s=max(0.0, call.patience_s), place=place)
        except MoeSegmentsError as refusal:
            doubt = call.doubt or (self._doubt_of(call) if isinstance(refusal, NameTaken) else None)
            if doubt is None:
                raise
            raise doubt from refusal  # this one was not sent, but the one before it may have worked
        if grant is not None:
            call.life.reserved(grant.attempt, since_s)
        return grant

    async def _sent(self, call: Call, ask: Ask, request: Request, place: Place, grant: Grant) -> Delivery:
        """Send when its turn in the pace comes, unless it may not be sent any more by then."""
        attempt = Attempt()
        try:
            request = await call.look_again() or request
            if not await self._pace.turn(place, lambda: self._held_back(ask, grant) is None):
                return self._held_back(ask, grant) or Unsent("the client is closing")
            call.has_left = True
            self.sending.add(grant.job)
            with call.life.sending(grant.attempt, lambda: attempt.status):
                return await self._transport.send(request, attempt)
        except MoeSegmentsError as error:  # its file changed
            return Unsent(str(error), error)
        except BaseException:
            await self._recorder.record(
                Unknown(grant.job, grant.attempt, "the client was closed before an answer came")
                if attempt.obtained
                else NeverSent(grant.job, grant.attempt, "cancelled before it was sent")
            )
            raise
        finally:
            self.sending.discard(grant.job)

    def _held_back(self, ask: Ask, grant: Grant) -> Unsent | None:
        """Return why the request may not be sent any more; None when it may."""
        if not self._governor.may_start(grant):
            return NOT_IN_TIME
        if ask.key_fingerprint in self._replica.state.rejected_keys:
            return Unsent("the service rejected this API key meanwhile: give the right one, then submit again")
        return None

    def _pause_s(self, call: Call, delivery: Delivery) -> float | None:
        """Return how long to wait before the next send, seconds; None when there is to be none."""
        ending = ending_of_delivery(delivery)
        if ending is None or self._governor.closed or (isinstance(delivery, Unsent) and delivery.cause is not None):
            return None
        if delivery is NOT_IN_TIME and call.late < _MOST_LATE:  # its turn came after its fence: in line again
            call.attempts, call.late = call.attempts - 1, call.late + 1
            return 0.0
        late_s, most = self._settings.limits.count_late_s, self._settings.max_attempts
        again = next_send(call.op, ending, call.attempts, count_late_s=late_s, max_attempts=most)
        if again is None:
            return None
        pause_s = again.at_least_s + random.uniform(0, again.jitter_s)  # noqa: S311 - spreads load, guards nothing
        if ending is Ending.NOT_SENT or call.job_id is None:
            return pause_s
        call.retry_unknown = True
        return pause_s if pause_s <= call.patience_s else None

    def _doubt_of(self, call: Call) -> MoeSegmentsError | None:
        """Return the error of an earlier send that may have worked, by any process; None when there is none."""
        record = self._replica.state.jobs.records.get(call.job_id or "")
        return unknown_of(record) if record is not None and record.state == JobState.UNKNOWN else None

    def _cs_id_of(self, call: Call) -> object:
        """Return the identifier of the segment of a job that was accepted; None where the service told none."""
        record = self._replica.state.jobs.records.get(call.job_id or "")
        return None if record is None else (record.accepted or {}).get("cs_id")


def _reason_of(delivery: Delivery) -> str:
    """Return how a send ended, in one word."""
    if isinstance(delivery, Replied):
        return str(delivery.answer.status)
    return "not_sent" if isinstance(delivery, Unsent) else "no_answer"
