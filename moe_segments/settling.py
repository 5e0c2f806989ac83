"""Write down how a send ended, before anybody hears of it: answered, refused, throttled, unknown, never sent.

Nothing can undo a send, so a journal that fails at that moment is asked again, and a cancellation takes nothing back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.admission import cost_of
from moe_segments.core.events import ActiveObserved, Answered, KeyRejected, NeverSent, Throttled, Unknown
from moe_segments.core.retry import Ending, ending_of
from moe_segments.core.wire import decode_acceptance, error_from, throttle_facts
from moe_segments.core.wire_filters import decode_made
from moe_segments.errors import (
    AnswerShapeError,
    ApiError,
    JournalError,
    JournalMoved,
    JournalReplaced,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
    TooManyRequests,
)
from moe_segments.job import facts_of
from moe_segments.limits import ACTIVE_SEGMENTS
from moe_segments.models import Accepted, CreateFilterSegment, UpdateFilterSegment
from moe_segments.quota import moment_of
from moe_segments.transport import NOT_IN_TIME, Delivery, Maybe, Replied, Unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.state import WorkspaceState
    from moe_segments.core.wire import Answer
    from moe_segments.governor import Governor
    from moe_segments.journal.follower import Follower
    from moe_segments.quota import Grant
    from moe_segments.settings import Settings
    from moe_segments.submission import Submission

__all__ = ["LATE", "Settler"]

LATE: Final = NotSent(NOT_IN_TIME.reason)

_SECOND_US: Final = 1_000_000
_RECORD_PAUSES_S: Final = (0.1, 0.5, 2.0)
_KEY_STATUSES: Final = (401, 403)
_TOO_MANY: Final = 429
_OF_FILTERS: Final = (CreateFilterSegment, UpdateFilterSegment)
_PAUSES: Final = 60  # parts of an hour: the pause after a 429 that names no shorter and no window of ours
_log = logging.getLogger("moe_segments.client")


class Settler:
    """Settles sends for one client.

    Args:
        settings: Whose limits say what an answer spends.
        follower: The journal.
        governor: Who gave leave.
        key_fingerprint: The key, as the journal knows it.
        goes_on: Whether what never left is tried again.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        follower: Follower,
        governor: Governor,
        key_fingerprint: Callable[[], str],
        goes_on: Callable[[Submission, Unsent], bool],
    ) -> None:
        self._settings, self._follower, self._governor = settings, follower, governor
        self._key_fingerprint, self._goes_on = key_fingerprint, goes_on

    async def settle(
        self, submission: Submission, grant: Grant, delivery: Delivery
    ) -> tuple[MoeSegmentsError | None, Ending | None]:
        """Write down how it ended, then say so. A cancellation cannot take it back: see `Follower.record`."""
        self._governor.report_if_late(grant)
        try:
            if isinstance(delivery, Replied):
                return await self._replied(submission, grant, delivery.answer)
            if isinstance(delivery, Maybe):
                return await self._unknown(submission, grant, delivery.reason)
            return await self._unsent(submission, grant, delivery)
        except JournalError as error:
            if isinstance(delivery, Unsent):
                raise
            said = f"HTTP {delivery.answer.status}" if isinstance(delivery, Replied) else "no answer"
            problem = f"it was sent, the service said {said}, and that could not be written down: {error}"
            return OutcomeUnknown(submission.job_id, problem, *_words_of(delivery)), None

    async def _unsent(self, submission: Submission, grant: Grant, delivery: Unsent) -> tuple[MoeSegmentsError, Ending]:
        never = NeverSent(grant.job, grant.attempt, delivery.reason, again=self._goes_on(submission, delivery))
        submission.lingers = never if never.again else None
        await self.record(never)
        return LATE if delivery is NOT_IN_TIME else NotSent(delivery.reason), Ending.NOT_SENT

    async def _unknown(
        self, submission: Submission, grant: Grant, reason: str, answer: Answer | None = None
    ) -> tuple[MoeSegmentsError, Ending]:
        if answer is None:
            await self.record(Unknown(grant.job, grant.attempt, reason))
            return OutcomeUnknown(submission.job_id, reason), Ending.MAYBE
        error = error_from(answer, job_id=grant.job)
        await self.record(Unknown(grant.job, grant.attempt, reason, answer.status, _remembered_error(error)))
        return OutcomeUnknown(submission.job_id, reason, error.status, error.title, error.description), Ending.MAYBE

    async def _replied(
        self, submission: Submission, grant: Grant, answer: Answer
    ) -> tuple[MoeSegmentsError | None, Ending | None]:
        ending = ending_of(answer.status)
        if ending is Ending.MAYBE:
            return await self._unknown(submission, grant, f"the service answered HTTP {answer.status}", answer)
        if ending is not None:
            return await self._refused(submission, grant, answer), ending
        job, attempt = grant.job, grant.attempt
        try:
            accepted = _accepted(submission, answer)
        except AnswerShapeError as misfit:
            await self.record(Answered(job, attempt, answer.status, problem=misfit.problem))
            return misfit, None
        await self.record(Answered(job, attempt, answer.status, accepted=facts_of(accepted)))
        return None, None

    async def _refused(self, submission: Submission, grant: Grant, answer: Answer) -> MoeSegmentsError:
        job, attempt = grant.job, grant.attempt
        error = error_from(answer, job_id=job)
        spends = self._settings.limits.spends(answer.status)
        refused = Answered(job, attempt, answer.status, error=_remembered_error(error), spends=spends)
        if answer.status == _TOO_MANY:
            return await self._throttled(submission, refused, error, answer)
        rejected = [KeyRejected(self._key_fingerprint(), answer.status)] if answer.status in _KEY_STATUSES else []
        await self.record(refused, *rejected)
        return error

    async def _throttled(
        self, submission: Submission, refused: Answered, error: ApiError, answer: Answer
    ) -> TooManyRequests:
        """Rule 13: somebody else spends. Written down for everybody, told to the caller, not repeated here."""
        facts = throttle_facts(answer, now_s=time.time())
        wait_us = None if facts.wait_s is None else round(facts.wait_s * _SECOND_US)
        cost = cost_of(submission.operation, self._settings.limits)
        pause_us = max(wait_us or 0, round(self._settings.limits.hour_s / _PAUSES * _SECOND_US))

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[str | None, int]]:
            if cost.segments and (facts.actual_count is not None or not (cost.operations or cost.call)):
                count = [] if facts.actual_count is None else [ActiveObserved(facts.actual_count, "service")]
                full = Throttled(ACTIVE_SEGMENTS, now_us + pause_us, job=refused.job)
                return [refused, *count, full], (full.limit, full.until_us)
            if not cost.operations and not cost.call:
                return [refused], (None, now_us + pause_us)
            full = attrs.evolve(
                state.ledger.throttle_for(facts.named_limit_capacity, wait_us, now_us, cost.call), job=refused.job
            )
            return [refused, full], (full.limit, full.until_us)

        limit, until_us = await self._follower.ask(question)
        _log.warning("HTTP 429 although the quota had room: somebody else spends it; %s is taken to be full", limit)
        return TooManyRequests(
            error.status,
            error.title,
            error.description,
            error.request_id,
            error.details,
            error.job_id,
            limit,
            moment_of(until_us),
        )

    async def record(self, *events: Event) -> None:
        """Write down what happened; a journal that fails now is asked a few more times, as nothing can undo a send.

        Raises:
            JournalError: It could not be written. The reservation goes on counting until its lease.
        """
        try:
            if self._follower.answers_now:
                self._follower.record_now(events)
            else:
                await self._follower.record(*events)
        except (JournalMoved, JournalReplaced):  # for good
            raise
        except JournalError as error:
            await asyncio.shield(self._record_again(error, *events))

    async def _record_again(self, error: JournalError, *events: Event) -> None:
        for pause_s in _RECORD_PAUSES_S:
            self._follower.outage.warn("outcome", "an outcome could not be written down, trying again: %s", error)
            await asyncio.sleep(pause_s)
            try:
                await self._follower.record(*events)
            except (JournalMoved, JournalReplaced):
                raise
            except JournalError as failed:
                error = failed
            else:
                return
        await self._follower.record(*events)


def _accepted(submission: Submission, answer: Answer) -> Accepted:
    """What a success says; the segment that it shows is the submission's.

    Raises:
        AnswerShapeError: Not as documented.
    """
    operation = submission.operation
    if isinstance(operation, _OF_FILTERS):
        segment = submission.segment = decode_made(answer, job_id=submission.job_id)
        return Accepted(cs_name=segment.name, cs_id=segment.id)
    return decode_acceptance(answer, operation, job_id=submission.job_id)


def _words_of(delivery: Delivery) -> tuple[int | None, str | None, str | None]:
    """The status, title and description of an answer; None for each where there was no answer, or a success."""
    if not isinstance(delivery, Replied):
        return None, None, None
    if ending_of(delivery.answer.status) is None:
        return delivery.answer.status, None, None
    error = error_from(delivery.answer)
    return error.status, error.title, error.description


def _remembered_error(error: ApiError) -> dict[str, object]:
    kept = {
        "title": error.title,
        "description": error.description,
        "request_id": error.request_id,
        "details": dict(error.details) or None,
    }
    return {name: value for name, value in kept.items() if value is not None}
