"""Operations as calls: what is reserved and sent for each, and what is kept of its acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.callbacks.tokens import new_token, token_digest
from moe_segments.core.state.jobs import remembered, segment_keys
from moe_segments.core.state.verdicts import Ask, cost_of
from moe_segments.core.wire.file_segments import decode_acceptance, encode
from moe_segments.core.wire.filter_segments import decode_made, encode_filter, filters_digest
from moe_segments.journal.local.process import this_process
from moe_segments.models import Accepted, CreateFileSegment, CreateFilterSegment, FileOperation, UpdateFilterSegment
from moe_segments.submission.calls import Call, key_fingerprint
from moe_segments.submission.job_info import facts_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.callbacks.receiver import CallbackReceiver
    from moe_segments.core.wire.file_segments import Answer, Request
    from moe_segments.journal.replica import Replica
    from moe_segments.models import Credentials, FilterOperation, Operation, Segment
    from moe_segments.settings import Settings
    from moe_segments.submission.file_preparer import FilePreparer, PreparedFile
    from moe_segments.telemetry.life import Life

__all__ = ["Submission", "SubmissionFactory"]

_SECOND_US: Final = 1_000_000
_OF_FILTERS: Final = (CreateFilterSegment, UpdateFilterSegment)


class SubmissionFactory:
    """A maker of one client's submissions.

    Args:
        credentials: Who calls.
        settings: Limits, time-outs and content type.
        replica: The journal, whose identity salts the key.
        file_preparer: Looks at a file again that had to wait.
        receiver: The receiver that callbacks come to; None for none.
    """

    credentials: Credentials
    settings: Settings
    replica: Replica
    file_preparer: FilePreparer
    receiver: CallbackReceiver | None

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        *,
        replica: Replica,
        file_preparer: FilePreparer,
        receiver: CallbackReceiver | None,
    ) -> None:
        self.credentials, self.settings = credentials, settings
        self.replica, self.file_preparer, self.receiver = replica, file_preparer, receiver
        self.owner: str | None = this_process()

    def make(
        self,
        operation: Operation | FilterOperation,
        job_id: str,
        deadline_s: float,
        prepared: PreparedFile | None = None,
        *,
        life: Life,
        retry_unknown: bool = False,
    ) -> Submission:
        """Return the call that submits an operation, whose rows are known."""
        return Submission(
            self,
            operation,
            prepared,
            op=operation.op,
            life=life,
            job_id=job_id,
            deadline_s=deadline_s,
            retry_unknown=retry_unknown,
        )

    def filters_digest(self, operation: Operation | FilterOperation, job_id: str) -> str | None:
        """Return what the journal knows of a job's filters; None for an operation without."""
        if not isinstance(operation, _OF_FILTERS):
            return None
        return filters_digest(operation, job_id=job_id, api_key=self.credentials.api_key)


@attrs.define(eq=False)
class Submission(Call):
    """One operation that is being submitted.

    Attributes:
        made_by: The factory, with what all submissions of its client share.
        operation: What to do.
        prepared: Its file, ready to be sent; None for an operation without a file.
        segment: What a filter-segment operation was answered with.
        token: The address of its callback; None when no callback of ours can come. Another for each send.
    """

    made_by: SubmissionFactory
    operation: Operation | FilterOperation
    prepared: PreparedFile | None = None
    segment: Segment | None = None
    token: str | None = attrs.field(default=None, repr=False)

    def prepare(self) -> tuple[Ask, Request]:
        """See `Call`."""
        is_called_back = isinstance(self.operation, FileOperation) and not self.operation.callback_url
        self.token = new_token() if is_called_back and self.made_by.receiver is not None else None
        return self._ask(), self._request()

    async def look_again(self) -> Request | None:
        """See `Call`. A file that had to wait is the one that was checked, and its address may be signed anew."""
        files = self.made_by.file_preparer
        if self.prepared is None or files.is_fresh(self.prepared):
            return None
        await files.look_again(self.prepared)
        return self._request()

    def read(self, answer: Answer) -> Mapping[str, object]:
        """See `Call`."""
        if isinstance(self.operation, _OF_FILTERS):
            self.segment = decode_made(answer, job_id=self.job_id)
            return facts_of(Accepted(cs_name=self.segment.name, cs_id=self.segment.id))
        return facts_of(decode_acceptance(answer, self.operation, job_id=self.job_id))

    def _ask(self) -> Ask:
        operation, settings, made_by = self.operation, self.made_by.settings, self.made_by
        assert self.job_id is not None
        known = remembered(operation)
        if self.prepared is not None and (facts := self.prepared.facts) is not None:
            known["checked"] = facts
        if (digest := made_by.filters_digest(operation, self.job_id)) is not None:
            known["filters"] = digest
        if (trace := self.life.trace()) is not None:
            known["trace"] = trace
        return Ask(
            job=self.job_id,
            operation=known,
            cost=cost_of(operation, settings.limits),
            keys=segment_keys(operation),
            fence_us=round(settings.send_by_s * _SECOND_US),
            timeout_us=round(settings.total_timeout_s * _SECOND_US),
            key_fingerprint=key_fingerprint(made_by.credentials, made_by.replica.journal.journal_id),
            token_sha256=None if self.token is None else token_digest(self.token),
            expiry_days=operation.expiry_time if isinstance(operation, CreateFileSegment) else None,
            owner=made_by.owner,
            retry_unknown=self.retry_unknown,
        )

    def _request(self) -> Request:
        operation, made_by = self.operation, self.made_by
        if isinstance(operation, _OF_FILTERS):
            return encode_filter(operation, credentials=made_by.credentials)
        callback_url = None
        if self.token is not None and made_by.receiver is not None:
            callback_url = made_by.receiver.url_for(made_by.credentials.scope, self.token)
        return encode(
            operation,
            credentials=made_by.credentials,
            file_url=None if self.prepared is None else self.prepared.file_url,
            callback_url=callback_url,
            content_type=made_by.settings.content_type,
        )
