"""Record how a send ended, before anybody hears of it: answered, refused, throttled, unknown, never sent.

Nothing can undo a send, so a journal that fails at that moment is asked again, and a cancellation takes nothing back.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import ActiveObserved, Answered, KeyAccepted, KeyRejected, NeverSent, Throttled, Unknown
from moe_segments.core.state.retry import Ending, ending_of
from moe_segments.core.wire.file_segments import error_from, throttle_facts
from moe_segments.errors import (
    AnswerShapeError,
    ApiError,
    JournalError,
    JournalMoved,
    JournalReplaced,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
    ServerError,
    TooManyRequests,
)
from moe_segments.governor.usage import moment_of
from moe_segments.http.transport import Delivery, Maybe, Replied, Unsent
from moe_segments.limits import ACTIVE_SEGMENTS
from moe_segments.submission.calls import key_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.quota.decision import Cost
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.core.wire.file_segments import Answer
    from moe_segments.governor.governor import Governor
    from moe_segments.governor.usage import Grant
    from moe_segments.journal.replica import Replica
    from moe_segments.models import Credentials
    from moe_segments.settings import Settings
    from moe_segments.submission.calls import Call

__all__ = ["OutcomeRecorder", "ending_of_delivery"]

_SECOND_US: Final = 1_000_000
_RECORD_PAUSES_S: Final = (0.1, 0.5, 2.0)
_KEY_STATUSES: Final = (401, 403)
_PAUSES: Final = 60  # parts of an hour: the pause after a 429 that names no shorter and no window of ours


def ending_of_delivery(delivery: Delivery) -> Ending | None:
    """Return how a send ended; None when it went well."""
    match delivery:
        case Unsent():
            return Ending.NOT_SENT
        case Maybe():
            return Ending.MAYBE
        case Replied(answer):
            return ending_of(answer.status)


class OutcomeRecorder:
    """The record of one client's sends.

    Args:
        credentials: Whose key an answer may reject.
        settings: Its limits say which answers spend quota.
        replica: The journal.
        governor: Who granted the sends.
    """

    def __init__(self, credentials: Credentials, settings: Settings, *, replica: Replica, governor: Governor) -> None:
        self._credentials, self._settings = credentials, settings
        self._replica, self._governor = replica, governor

    async def settle(
        self, call: Call, cost: Cost, grant: Grant, delivery: Delivery, *, again: bool
    ) -> MoeSegmentsError | None:
        """Record how a send ended. A cancellation cannot take it back: see `Replica.record`.

        Args:
            call: What was sent, or was to be.
            cost: What it may have spent.
            grant: Its reservation.
            delivery: What is known of it.
            again: It is going to be sent again.

        Returns:
            The error that it ended with; None when it went well.

        Raises:
            OutcomeUnknown: It was sent, and how it ended could not be recorded.
            JournalError: It was not sent, and that could not be recorded.
        """
        self._governor.report_if_late(grant)
        error, events = self._found(call, grant, delivery, again=again)
        try:
            if isinstance(error, TooManyRequests) and isinstance(delivery, Replied):
                return await self._throttled(grant.job, cost, error, events, delivery.answer)
            await self.record(*events)
        except JournalError as problem:
            if call.job_id is None:  # what cannot be recorded counts until its lease, and the answer is good
                self._replica.outage.warn(
                    "read", "how a read ended could not be written down, it counts until its lease: %s", problem
                )
                return error
            if isinstance(delivery, Unsent):
                raise
            raise _unrecorded(call.job_id, delivery, error, problem) from problem
        return error

    def _found(
        self, call: Call, grant: Grant, delivery: Delivery, *, again: bool
    ) -> tuple[MoeSegmentsError | None, list[Event]]:
        """Return the error that a send ended with, and what the journal is to know of it."""
        match delivery:
            case Unsent(reason, cause):
                never = NeverSent(grant.job, grant.attempt, reason, again=again and call.job_id is not None)
                call.announced_retry = never if never.again else None
                return cause or NotSent(reason), [never]
            case Maybe(reason):
                return _doubt(call, reason), [Unknown(grant.job, grant.attempt, reason)]
            case Replied(answer):
                if ending_of(answer.status) is None:
                    return self._went_well(call, grant, answer)
                return self._went_badly(call, grant, answer)

    def _went_well(self, call: Call, grant: Grant, answer: Answer) -> tuple[MoeSegmentsError | None, list[Event]]:
        job, attempt, fingerprint = grant.job, grant.attempt, self._fingerprint()
        is_proof = call.job_id is None and fingerprint in self._replica.state.rejected_keys
        works: list[Event] = [KeyAccepted(fingerprint)] if is_proof else []
        try:
            facts = call.read(answer)
        except AnswerShapeError as misfit:
            return misfit, [Answered(job, attempt, answer.status, problem=misfit.problem), *works]
        return None, [Answered(job, attempt, answer.status, accepted=facts), *works]

    def _went_badly(self, call: Call, grant: Grant, answer: Answer) -> tuple[MoeSegmentsError, list[Event]]:
        job, attempt, status = grant.job, grant.attempt, answer.status
        error = error_from(answer, job_id=call.job_id)
        kept = _remembered_error(error)
        if ending_of(status) is Ending.MAYBE:
            reason = f"the service answered HTTP {status}"
            return _doubt(call, reason, error), [Unknown(job, attempt, reason, status, kept)]
        spends = self._settings.limits.spends(status)
        is_key_bad = call.job_id is not None and status in _KEY_STATUSES
        rejected: list[Event] = [KeyRejected(self._fingerprint(), status)] if is_key_bad else []
        return error, [Answered(job, attempt, status, error=kept, spends=spends), *rejected]

    def _fingerprint(self) -> str:
        return key_fingerprint(self._credentials, self._replica.journal.journal_id)

    async def _throttled(
        self, job: str, cost: Cost, error: ApiError, refused: Sequence[Event], answer: Answer
    ) -> TooManyRequests:
        """Record a 429: something outside this journal uses the quota. Returns the error; nothing is sent again."""
        facts = throttle_facts(answer, now_s=time.time())
        wait_us = None if facts.wait_s is None else round(facts.wait_s * _SECOND_US)
        pause_us = max(wait_us or 0, round(self._settings.limits.hour_s / _PAUSES * _SECOND_US))

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[str | None, int, int]]:
            if cost.segments and (facts.actual_count is not None or not (cost.operations or cost.call)):
                count = [] if facts.actual_count is None else [ActiveObserved(facts.actual_count, "service")]
                full = Throttled(ACTIVE_SEGMENTS, now_us + pause_us, job=job)
                return [*refused, *count, full], (full.limit, full.until_us, now_us)
            if not cost.operations and not cost.call:
                return refused, (None, now_us + pause_us, now_us)
            full = attrs.evolve(
                state.ledger.throttle_for(facts.named_limit_capacity, wait_us, now_us, cost.call), job=job
            )
            return [*refused, full], (full.limit, full.until_us, now_us)

        limit, until_us, now_us = await self._replica.ask(question)
        return TooManyRequests(
            error.status,
            error.title,
            error.description,
            error.request_id,
            error.details,
            error.job_id,
            limit,
            moment_of(until_us, self._governor.shift_us()),
            max(0, until_us - now_us) / _SECOND_US,
        )

    async def record(self, *events: Event) -> None:
        """Write down what happened; a journal that fails now is asked a few more times, as nothing can undo a send.

        Raises:
            JournalError: It could not be written. The reservation goes on counting until its lease.
        """
        try:
            await self._replica.record(*events)
        except (JournalMoved, JournalReplaced):  # for good
            raise
        except JournalError as error:
            await asyncio.shield(self._record_again(error, *events))

    async def _record_again(self, error: JournalError, *events: Event) -> None:
        for pause_s in _RECORD_PAUSES_S:
            self._replica.outage.warn("outcome", "an outcome could not be written down, trying again: %s", error)
            await asyncio.sleep(pause_s)
            try:
                await self._replica.record(*events)
            except (JournalMoved, JournalReplaced):
                raise
            except JournalError as failed:
                error = failed
            else:
                return
        await self._replica.record(*events)


def _doubt(call: Call, reason: str, error: ApiError | None = None) -> MoeSegmentsError:
    """Return the error of a send that may have worked."""
    if call.job_id is None:
        return error or ServerError(0, "no answer", reason)
    said = () if error is None else (error.status, error.title, error.description)
    return OutcomeUnknown(call.job_id, reason, *said)


def _unrecorded(
    job_id: str, delivery: Delivery, error: MoeSegmentsError | None, problem: JournalError
) -> OutcomeUnknown:
    """Return the error of a send whose outcome could not be recorded."""
    status = delivery.answer.status if isinstance(delivery, Replied) else None
    said = "no answer" if status is None else f"HTTP {status}"
    title, description = getattr(error, "title", None), getattr(error, "description", None)
    reason = f"it was sent, the service said {said}, and that could not be written down: {problem}"
    return OutcomeUnknown(job_id, reason, status, title, description)


def _remembered_error(error: ApiError) -> dict[str, object]:
    kept = {
        "title": error.title,
        "description": error.description,
        "request_id": error.request_id,
        "details": dict(error.details) or None,
    }
    return {name: value for name, value in kept.items() if value is not None}
