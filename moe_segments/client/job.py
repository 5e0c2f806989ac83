"""A handle on one operation, in this process or another."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from moe_segments.core.state.jobs import recalled, remembered
from moe_segments.core.state.row_counts import figures_of
from moe_segments.core.wire.filter_segments import are_other_filters
from moe_segments.errors import CallbackTimeout, InputError, JournalAmbiguous, JournalUnavailable, NoUsersMatched
from moe_segments.models import (
    Accepted,
    CreateFileSegment,
    CreateFilterSegment,
    FileProcessed,
    JobState,
    ReplaceUsers,
    Segment,
    UpdateFilterSegment,
)
from moe_segments.submission.job_info import Evidence, acceptance_of, evidence_of, failure_of, info_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.core.state.row_counts import FileFigures
    from moe_segments.journal.replica import Replica
    from moe_segments.models import FilterOperation, Operation
    from moe_segments.submission.job_info import JobInfo

__all__ = ["Evidence", "Job", "refuse_other"]


_FILTER_OPS: Final = (CreateFilterSegment.op, UpdateFilterSegment.op)

_log = logging.getLogger("moe_segments.client")
_MUST_MATCH: Final = frozenset({CreateFileSegment.op, ReplaceUsers.op})  # after these the segment is empty


class Job:
    """One operation, followed through the journal.

    Attributes:
        id: Its identifier; `client.job(id)` finds it again, also in another process.
    """

    __slots__ = ("_is_sending", "_operation", "_raise_on_zero_users", "_replica", "_segment", "_shift_us", "id")

    id: str

    def __init__(
        self,
        job_id: str,
        replica: Replica,
        operation: Operation | FilterOperation | None = None,
        is_sending: Callable[[str], bool] = lambda _: False,
        *,
        raise_on_zero_users: bool = True,
        shift_us: Callable[[], int] = lambda: 0,
    ) -> None:
        self._shift_us = shift_us
        self.id, self._raise_on_zero_users = job_id, raise_on_zero_users
        self._replica, self._operation, self._is_sending = replica, operation, is_sending
        self._segment: Segment | None = None

    def __repr__(self) -> str:
        record = self._replica.state.jobs.records.get(self.id)
        return f"<Job {self.id} {record.operation['op']} {self.state}>" if record else f"<Job {self.id}>"

    @property
    def operation(self) -> Operation | FilterOperation:
        """Return what was asked for.

        From another process: without a URL's query, e-mail and callback addresses, filters.
        """
        return self._operation or recalled(self._record.operation)

    @property
    def state(self) -> str:
        """Return one of `JobState`, as far as this process has heard; `refresh` reads what others wrote."""
        if self._is_sending(self.id):
            return JobState.SENDING
        return self._record.state_at(self._replica.now_us())

    @property
    def accepted(self) -> Accepted | None:
        """The service's acceptance; None before it, or when it was not seen."""
        return acceptance_of(self._record)

    @property
    def segment(self) -> Segment | None:
        """The segment that a filter-segment operation made or changed; None for others, and while it is not known.

        In the process that sent it all that the answer said; elsewhere, or after a look-up, its name and identifier.
        """
        record = self._record
        if self._segment is not None or record.operation.get("op") not in _FILTER_OPS:
            return self._segment
        accepted = self.accepted
        if accepted is None or accepted.cs_id is None:
            return None
        evidence = self.evidence
        return Segment(
            name=accepted.cs_name or "", id=accepted.cs_id, created_time=evidence.created_time if evidence else None
        )

    @segment.setter
    def segment(self, segment: Segment | None) -> None:
        self._segment = segment

    @property
    def evidence(self) -> Evidence | None:
        """The evidence that resolved a lost answer; None when the answer came, or while there is none."""
        return evidence_of(self._record)

    @property
    def figures(self) -> FileFigures:
        """The counts of the file's rows, from the preflight to the segment, with warnings."""
        return figures_of(self._record)

    @property
    def duplicate_possible(self) -> bool:
        """Return whether an earlier send of this job may have worked too."""
        return self._record.duplicate_possible

    @property
    def info(self) -> JobInfo:
        """Everything that this process has heard of it, as a value; `refresh` reads what others wrote."""
        return info_of(self._record, self.state, self._shift_us())

    @property
    def record(self) -> JobRecord:
        """Return what the journal keeps of it, for this package's own use; others take `info`."""
        return self._record

    @property
    def _record(self) -> JobRecord:
        record = self._replica.state.jobs.records.get(self.id)
        if record is None:
            raise InputError(f"the journal knows no job {self.id!r}; refresh it, or check the identifier", "job_id")
        return record

    async def refresh(self) -> None:
        """Read what other processes wrote meanwhile.

        Raises:
            JournalError: The journal cannot be read.
        """
        await self._replica.refresh()

    async def result(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - the public name
        *,
        raise_on_zero_users: bool | None = None,
    ) -> FileProcessed:
        """Wait for the callback that ends the job, through whichever process it arrives.

        Rows that were lost on the way are logged as a warning, and told by `figures`.

        Args:
            timeout: Longest wait, seconds; None waits for ever.
            raise_on_zero_users: Whether a create or replace that matched nobody is an error; None: as the client says.

        Returns:
            The processed file's figures: found, usable, known to the workspace.

        Raises:
            FileProcessingFailed: The service could not process the file.
            NoUsersMatched: It did, and the segment that was created or replaced has no user.
            CallbackUnreadable: A callback came that cannot be read. A later one may still end the job: ask again.
            CallbackTimeout: Nothing within *timeout*. The job goes on.
            OutcomeUnknown: Nothing within *timeout*, and it is not known whether the service took it.
            ApiError: The service refused the operation.
            NotSent: It was never sent.
            InputError: No callback can come: it was submitted without a receiver, or has none.
            JournalReplaced: The journal is another one than was opened.
            JournalError: The journal cannot be read. One that is away for a while is waited for.
        """
        await self._refresh_if_reachable()
        if not self._record.awaits_callback and not self._record.terminal and self._record.attempt:
            raise InputError(
                "no callback can come for this job: it was submitted without a receiver of ours; "
                "`accepted` is all there will be",
                "callbacks",
            )
        await self.wait_until(lambda record: record.terminal or record.is_unreadable, timeout)
        processed = self._outcome(timeout)
        raises = self._raise_on_zero_users if raise_on_zero_users is None else raise_on_zero_users
        self._look_at(processed, raise_on_zero_users=raises)
        return processed

    async def _refresh_if_reachable(self) -> None:
        """Read on; a journal that is away is waited for, where the job is known."""
        try:
            await self.refresh()
        except (JournalUnavailable, JournalAmbiguous):
            if self.id not in self._replica.state.jobs.records:
                raise

    def _look_at(self, processed: FileProcessed, *, raise_on_zero_users: bool) -> None:
        for warning in self.figures.warnings:
            _log.warning("job %s: %s", self.id, warning)
        if raise_on_zero_users and not processed.user_count and self._record.operation["op"] in _MUST_MATCH:
            raise NoUsersMatched(
                processed.segment_name,
                processed.request_id,
                processed.values_found,
                processed.values_processed,
                processed.db_name,
            )

    async def wait_until(self, holds: Callable[[JobRecord], bool], timeout_s: float | None) -> bool:
        """Wait until something holds of the job's record.

        Args:
            holds: What is waited for.
            timeout_s: Longest wait, seconds; None waits for ever.

        Returns:
            Whether it holds.

        Raises:
            JournalError: The journal went back, or was exchanged.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(self._record):
                    await self._replica.job_changed(self.id)
        except TimeoutError:
            return holds(self._record)
        return True

    def _outcome(self, timeout_s: float | None) -> FileProcessed:
        record = self._record
        if record.state == JobState.PROCESSED:
            result: Any = record.result  # from the journal, which wrote it from the callback's value
            return FileProcessed(**result)
        state = JobState.UNREADABLE if record.is_unreadable else record.state_at(self._replica.now_us())
        raise failure_of(record, state) or CallbackTimeout(self.id, timeout_s or 0.0)


def refuse_other(record: JobRecord, operation: Operation | FilterOperation, filters: str | None) -> None:
    """Refuse another operation for this job; what was unknown then, such as the rows, may be known now.

    Args:
        record: What the journal knows of the job.
        operation: What is asked for under its identifier.
        filters: The digest of its filters; None for an operation without.

    Raises:
        InputError: It is another operation.
    """
    asked = remembered(operation)
    differing = [
        field
        for field in ("op", "name", "cs_id", "file_url", "file", "values")
        if record.operation.get(field) != asked.get(field)
    ]
    if are_other_filters(record.operation.get("filters"), filters):
        differing.append("filters")
    if differing:
        segment = record.operation.get("name") or record.operation.get("cs_id")
        raise InputError(
            f"{record.id!r} is another operation already ({record.operation['op']} {segment!r}, which "
            f"differs in {', '.join(differing)}); choose another identifier",
            "job_id",
        )
