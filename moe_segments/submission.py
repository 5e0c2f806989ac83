"""One operation from leave to outcome: reserve near its turn, send once, write down what is known, perhaps again.

What the journal says if it stops here: before the reservation nothing; after it the row counts until its lease, so a
crash costs quota and never a second send; after the send the outcome is written before anybody hears of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.admission import Ask, cost_of
from moe_segments.core.events import Event, NeverSent, Unknown
from moe_segments.core.jobs import remembered, segment_keys
from moe_segments.core.retry import Again, Ending, Step, next_step
from moe_segments.core.wire import encode
from moe_segments.core.wire_filters import encode_filter, filters_digest
from moe_segments.errors import MoeSegmentsError, NameTaken
from moe_segments.job_info import unknown_of
from moe_segments.journal.owner import this_process
from moe_segments.models import CreateFileSegment, CreateFilterSegment, FileOperation, JobState, UpdateFilterSegment
from moe_segments.reading import MOST_LATE, Reader
from moe_segments.settling import LATE, Settler
from moe_segments.tokens import new_token, token_digest
from moe_segments.transport import NOT_IN_TIME, Attempt, Delivery, Unsent

if TYPE_CHECKING:
    from moe_segments.core.wire import Request
    from moe_segments.governor import Governor
    from moe_segments.intake import Intake, Taken
    from moe_segments.journal.follower import Follower
    from moe_segments.models import Credentials, FilterOperation, Operation, Segment
    from moe_segments.pace import Pace, Place
    from moe_segments.quota import Grant
    from moe_segments.receiver import CallbackReceiver
    from moe_segments.settings import Settings
    from moe_segments.transport import Transport

__all__ = ["Submission", "Submitter"]

_SECOND_US: Final = 1_000_000
_OF_FILTERS: Final = (CreateFilterSegment, UpdateFilterSegment)


@attrs.define(eq=False)
class Submission:
    """One operation on its way.

    Attributes:
        operation: What to do; its rows are known before it is carried out.
        job_id: The job.
        deadline_s: Until when it may wait for quota and segment, on the loop's clock.
        taken: Its file, ready to be sent; None for an operation without a file.
        retry_unknown: Send again although an earlier send may have worked.
        left: Its turn came and its request leaves, so that it can no longer be called off.
        doubt: Why an earlier send of it may have worked.
        segment: What a filter-segment operation was answered with.
        attempts: Sends so far, and tries to make one; those that came too late for their own fence not counted.
        late: How many did.
        lingers: A send that never left, after which the journal still waits for another.
        ended: Done as its task ends.
    """

    operation: Operation | FilterOperation
    job_id: str
    deadline_s: float
    taken: Taken | None = None
    retry_unknown: bool = False
    left: bool = False
    doubt: MoeSegmentsError | None = None
    segment: Segment | None = None
    attempts: int = 0
    late: int = 0
    lingers: NeverSent | None = None
    ended: asyncio.Future[None] = attrs.field(factory=lambda: asyncio.get_running_loop().create_future())

    def end(self) -> None:
        """Wake who waits for it. Idempotent."""
        if not self.ended.done():
            self.ended.set_result(None)


class Submitter:
    """Carries out submissions for one client.

    Attributes:
        sending: Jobs whose request is on its way from here.
        reader: Asks the service for segments.
    """

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        *,
        follower: Follower,
        governor: Governor,
        intake: Intake,
        transport: Transport,
        pace: Pace,
        receiver: CallbackReceiver | None,
    ) -> None:
        self._credentials, self._settings = credentials, settings
        self._follower, self._governor, self._transport, self._pace = follower, governor, transport, pace
        self._intake, self._receiver = intake, receiver
        self._owner = this_process()
        self._fence_us = round(settings.send_by_s * _SECOND_US)
        self._timeout_us = round(settings.total_timeout_s * _SECOND_US)
        self._fingerprint: str | None = None
        self.sending: set[str] = set()
        self._settler = Settler(
            settings,
            follower=follower,
            governor=governor,
            key_fingerprint=self.key_fingerprint,
            goes_on=self._goes_on,
        )
        self.reader = Reader(
            credentials,
            settings,
            follower=follower,
            governor=governor,
            transport=transport,
            pace=pace,
            key_fingerprint=self.key_fingerprint,
            record=self._settler.record,
        )

    # One operation

    async def carry_out(self, submission: Submission) -> None:
        """Send until the table in `core.retry` says to stop. On return the journal knows the job's acceptance.

        Raises:
            QuotaError: Refused locally; nothing was sent.
            NotSent: Provably never sent, after as many tries as the settings allow.
            OutcomeUnknown: It may have worked; AnswerShapeError for a success that is not as documented.
            ApiError: The service refused it.
            JournalError: The journal cannot be used.
        """
        try:
            while True:
                submission.attempts += 1
                error, ending = await self._attempt(submission)
                if error is None:
                    return
                await asyncio.sleep(self._pause_after(submission, error, ending))
        except BaseException:
            if submission.lingers is not None:  # nobody sends it again, and whoever follows the job has to hear of it
                await asyncio.shield(self._settler.record(attrs.evolve(submission.lingers, again=False)))
            raise
        finally:
            submission.end()  # the task's last step: who waits goes on with the next one

    def _pause_after(self, submission: Submission, error: MoeSegmentsError, ending: Ending | None) -> float:
        """How long to wait before the next send; raises the error where there is to be none."""
        if error is LATE and submission.late < MOST_LATE:  # what came between outlasted its fence: in line again
            submission.left = False
            submission.attempts, submission.late = submission.attempts - 1, submission.late + 1
            return 0.0
        if ending is Ending.MAYBE:
            submission.doubt = error
        pause_s = None if ending is None else self._pause_s(submission, ending)
        if pause_s is None:
            raise self._doubt_of(submission) or error if ending is Ending.NOT_SENT else error
        submission.left = False
        return pause_s

    def _doubt_of(self, submission: Submission) -> MoeSegmentsError | None:
        """That an earlier send may have worked, also one of another process; None when none can have."""
        record = self._follower.state.jobs.records.get(submission.job_id)
        if record is None or record.state != JobState.UNKNOWN:
            return None
        return unknown_of(record)

    def _step(self, submission: Submission, ending: Ending) -> Step:
        return next_step(
            submission.operation.op,
            ending,
            submission.attempts,
            count_late_s=self._settings.limits.count_late_s,
            max_attempts=self._settings.max_attempts,
        )

    def _goes_on(self, submission: Submission, unsent: Unsent) -> bool:
        """Whether what never left is tried again."""
        if self._governor.closed:
            return False
        if unsent is NOT_IN_TIME and submission.late < MOST_LATE:
            return True
        return isinstance(self._step(submission, Ending.NOT_SENT), Again)

    def _pause_s(self, submission: Submission, ending: Ending) -> float | None:
        """How long to wait before the next send; None when there is to be none."""
        step = self._step(submission, ending)
        if not isinstance(step, Again):
            return None
        pause_s = step.at_least_s + random.uniform(0, step.jitter_s)  # noqa: S311 - spreads load, guards nothing
        if ending is Ending.MAYBE:
            submission.retry_unknown = True
            patience_s = submission.deadline_s - asyncio.get_running_loop().time()
            return pause_s if pause_s <= patience_s else None
        return pause_s

    async def _attempt(self, submission: Submission) -> tuple[MoeSegmentsError | None, Ending | None]:
        with self._pace.place() as place:
            return await self._attempt_from(place, submission)

    async def _attempt_from(
        self, place: Place, submission: Submission
    ) -> tuple[MoeSegmentsError | None, Ending | None]:
        token = self._new_token(submission.operation)
        ask = self._ask(submission, token)
        patience_s = submission.deadline_s - asyncio.get_running_loop().time()
        request = self._request(submission, token)  # what cannot be built must not have reserved anything
        try:
            grant = await self._governor.reserve(ask, max_wait_s=max(0.0, patience_s), place=place)
        except MoeSegmentsError as refusal:
            doubt = submission.doubt or (self._doubt_of(submission) if isinstance(refusal, NameTaken) else None)
            if doubt is None:
                raise
            raise doubt from refusal  # this one was not sent, but the one before it may have worked
        if grant is None:  # the journal knows the job; a repeat that is out of order leaves it as doubtful as it was
            return submission.doubt, None
        submission.lingers = None
        if submission.taken is not None and not self._intake.is_fresh(submission.taken):
            if (changed := await self._changed(submission.taken, grant)) is not None:
                return submission.doubt or changed, None  # an earlier send of it may have worked
            request = self._request(submission, token)  # an address may have been signed anew
        try:
            delivery = await self._send(place, submission, grant, request)
        finally:
            self.sending.discard(grant.job)
        return await self._settler.settle(submission, grant, delivery)

    async def _changed(self, taken: Taken, grant: Grant) -> MoeSegmentsError | None:
        """Why the file cannot be sent after all: then the reservation is given back."""
        try:
            await self._intake.look_again(taken)
        except MoeSegmentsError as error:
            await self._settler.record(NeverSent(grant.job, grant.attempt, str(error)))
            return error
        except BaseException:
            await self._settler.record(
                NeverSent(grant.job, grant.attempt, "it was called off before anything was sent")
            )
            raise
        return None

    def _new_token(self, operation: Operation | FilterOperation) -> str | None:
        if self._receiver is None or not isinstance(operation, FileOperation) or operation.callback_url:
            return None
        return new_token()

    def _ask(self, submission: Submission, token: str | None) -> Ask:
        operation = submission.operation
        known = remembered(operation)
        if submission.taken is not None and (facts := submission.taken.facts) is not None:
            known["checked"] = facts
        if (digest := self.filters_digest(operation, submission.job_id)) is not None:
            known["filters"] = digest
        return Ask(
            job=submission.job_id,
            operation=known,
            cost=cost_of(operation, self._settings.limits),
            keys=segment_keys(operation),
            fence_us=self._fence_us,
            timeout_us=self._timeout_us,
            key_fingerprint=self.key_fingerprint(),
            token_sha256=None if token is None else token_digest(token),
            expiry_days=operation.expiry_time if isinstance(operation, CreateFileSegment) else None,
            owner=self._owner,
            retry_unknown=submission.retry_unknown,
        )

    def filters_digest(self, operation: Operation | FilterOperation, job_id: str) -> str | None:
        """What the journal knows of a job's filters; None for an operation without."""
        if not isinstance(operation, _OF_FILTERS):
            return None
        return filters_digest(operation, job_id=job_id, api_key=self._credentials.api_key)

    def _request(self, submission: Submission, token: str | None) -> Request:
        callback_url = None
        if token is not None and self._receiver is not None:
            callback_url = self._receiver.url_for(self._credentials.scope, token)
        operation = submission.operation
        if isinstance(operation, _OF_FILTERS):
            return encode_filter(operation, credentials=self._credentials)
        return encode(
            operation,
            credentials=self._credentials,
            file_url=None if submission.taken is None else submission.taken.file_url,
            callback_url=callback_url,
            content_type=self._settings.content_type,
        )

    async def _send(self, place: Place, submission: Submission, grant: Grant, request: Request) -> Delivery:
        attempt = Attempt()
        try:
            if not await self._pace.turn(place, lambda: self._held_back(grant) is None):
                return self._held_back(grant) or Unsent("the client is closing")
            submission.left = True
            self.sending.add(grant.job)
            return await self._transport.send(request, attempt)
        except asyncio.CancelledError:
            event: Event = (
                Unknown(grant.job, grant.attempt, "the client was closed before an answer came")
                if attempt.obtained
                else NeverSent(grant.job, grant.attempt, "called off before it was sent")
            )
            await self._settler.record(event)
            raise

    def _held_back(self, grant: Grant) -> Unsent | None:
        """Why the request may not leave any more."""
        if not self._governor.may_start(grant):
            return NOT_IN_TIME
        if self.key_fingerprint() in self._follower.state.rejected_keys:
            return Unsent("the service rejected this key meanwhile")
        return None

    def key_fingerprint(self) -> str:
        """The key, salted with the journal's identity and hashed: what the journal may know of it."""
        if self._fingerprint is None:
            self._fingerprint = self._hashed_key()
        return self._fingerprint

    def _hashed_key(self) -> str:
        salted = f"{self._follower.journal.journal_id}/{self._credentials.workspace_id}/{self._credentials.api_key}"
        return hashlib.sha256(salted.encode()).hexdigest()[:32]
