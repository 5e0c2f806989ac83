"""Jobs and bulk runs of the journal, as frozen values."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.core.state.row_counts import FileFigures, figures_of
from moe_segments.core.wire.file_segments import error_kind
from moe_segments.errors import (
    AnswerShapeError,
    ApiError,
    CallbackUnreadable,
    FileProcessingFailed,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
)
from moe_segments.governor.usage import at
from moe_segments.models import Accepted, FileFailed, FileProcessed, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.state.jobs import JobRecord

__all__ = [
    "Evidence",
    "JobInfo",
    "RunInfo",
    "acceptance_of",
    "evidence_of",
    "facts_of",
    "failure_of",
    "has_ended",
    "info_of",
    "unknown_of",
]

_DIGEST: Final = "filters"  # what the journal keeps of filters, which says nothing to people
_SUCCESSES: Final = range(200, 300)


@attrs.frozen(kw_only=True)
class Evidence:
    """The evidence that resolved a send whose answer was lost.

    Attributes:
        source: "list": the service lists the segment; "callback": it reported the file.
        cs_id: The segment's identifier, where the list showed it.
        created_time: When the service created the segment that was found, aware UTC.
    """

    source: str
    cs_id: str | None = None
    created_time: datetime | None = None


@attrs.frozen(kw_only=True)
class JobInfo:
    """One job, as the journal knows it at one moment.

    Attributes:
        id: Its identifier; `client.job(id)` follows it.
        op: The operation: "create", "add", "remove", "replace", "archive", "unarchive", "create_filter" or
            "update_filter".
        segment: The name of its segment; None where the operation gave an identifier alone.
        cs_id: The identifier of its segment; None where neither the operation nor the service gave one.
        operation: The operation's fields as the journal keeps them: no query of a URL, no address, no filter.
        state: One of `JobState`.
        since: When it got into this state, aware UTC.
        attempts: Sends so far.
        awaits_callback: Whether a callback of ours can come, or has come.
        has_ended: Whether nothing more happens by itself: a terminal state, or accepted and no callback can come.
        duplicate_possible: Whether an earlier send of it may have worked too.
        run: The bulk run it belongs to; None for none.
        line: Its line in the run's manifest.
        status: The last HTTP status, None before an answer.
        accepted: What the service answered when it took the operation.
        result: What the callback said.
        unreadable: What came instead of a callback that can be read: its text, and why it cannot; None otherwise.
        evidence: What resolved it although its answer was lost.
        figures: What became of its file's rows.
        error: Why it did not end well, as `Job.result` raises it; None when it did, or has not ended.
    """

    id: str
    op: str
    segment: str | None
    cs_id: str | None
    operation: Mapping[str, object] = attrs.field(hash=False)
    state: str
    since: datetime
    attempts: int
    awaits_callback: bool
    has_ended: bool
    duplicate_possible: bool
    run: str | None
    line: int | None
    status: int | None
    accepted: Accepted | None
    result: FileProcessed | FileFailed | None
    unreadable: Mapping[str, object] | None = attrs.field(hash=False)
    evidence: Evidence | None
    figures: FileFigures
    error: MoeSegmentsError | None = attrs.field(eq=False)


@attrs.frozen(kw_only=True)
class RunInfo:
    """One bulk run, as the journal knows it at one moment.

    Attributes:
        id: Its identifier; `client.jobs(run=id)` are its jobs.
        manifest: The name of its manifest.
        total: How many operations it has.
        started: When it began, aware UTC.
        counts: How many of its jobs are in each state. Jobs that ended more than 90 days ago are not among them.
        ended: How many of those have ended, see `JobInfo.has_ended`.
    """

    id: str
    manifest: str
    total: int
    started: datetime
    counts: Mapping[str, int] = attrs.field(hash=False)
    ended: int


def info_of(record: JobRecord, state: str, shift_us: int = 0) -> JobInfo:
    """Return a job as a value.

    Args:
        record: What the journal knows of it.
        state: Its state now, which may be *sending*, or *unknown* when no news came in time.
        shift_us: How much the wall clock is ahead of the journal's.
    """
    operation = {
        name: dict(value) if isinstance(value, dict) else value  # a copy, as the journal's is not to be changed
        for name, value in record.operation.items()
        if name != _DIGEST
    }
    name, given_id = operation.get("name"), operation.get("cs_id")
    told_id = (record.accepted or {}).get("cs_id")
    return JobInfo(
        id=record.id,
        op=str(operation["op"]),
        segment=None if name is None else str(name),
        cs_id=_text(told_id) or _text(given_id),
        operation=operation,
        state=state,
        since=at(record.since_us + shift_us),
        attempts=record.attempt,
        awaits_callback=record.awaits_callback,
        has_ended=has_ended(record, state),
        duplicate_possible=record.duplicate_possible,
        run=record.run,
        line=record.line,
        status=record.status,
        accepted=acceptance_of(record),
        result=_result_of(record),
        unreadable=dict(record.unread) if record.is_unreadable and record.unread is not None else None,
        evidence=evidence_of(record),
        figures=figures_of(record),
        error=failure_of(record, state),
    )


def has_ended(record: JobRecord, state: str) -> bool:
    """Return whether nothing more happens to a job by itself; while its answer is read, something does."""
    return record.settled and state != JobState.SENDING


def acceptance_of(record: JobRecord) -> Accepted | None:
    """Return what the service answered when it took the operation."""
    accepted: Any = record.accepted  # from the journal, which wrote it from an Accepted
    return None if accepted is None else Accepted(**accepted)


def evidence_of(record: JobRecord) -> Evidence | None:
    """Return what resolved a job whose answer was lost."""
    if record.adopted:
        cs_id: Any = (record.accepted or {}).get("cs_id")
        created = record.adopted_created
        return Evidence(source="list", cs_id=cs_id, created_time=datetime.fromisoformat(created) if created else None)
    if record.result is not None and record.accepted is None:
        return Evidence(source="callback")
    return None


def failure_of(record: JobRecord, state: str) -> MoeSegmentsError | None:
    """Return why a job did not end well; None when it did, or has not ended."""
    result: Any = record.result  # from the journal, which wrote it from the callback's value
    match state:
        case JobState.FAILED:
            return FileProcessingFailed(
                result["status"],
                result["error_message"],
                result["request_id"],
                result["segment_name"],
                result.get("db_name"),
            )
        case JobState.REFUSED:
            return _refusal_of(record)
        case JobState.NOT_SENT:
            return NotSent(record.reason or "it was cancelled")
        case JobState.UNKNOWN:
            return unknown_of(record)
        case JobState.UNREADABLE:
            return CallbackUnreadable(record.id, record.unreadable_reason)
        case _:
            return None


def _refusal_of(record: JobRecord) -> ApiError:
    """Return the error of a refused job, made of the answer that the journal keeps."""
    error: Any = record.error or {}  # from the journal, which wrote it from an ApiError
    status = record.status or 0
    return error_kind(status)(
        status,
        error.get("title", ""),
        error.get("description"),
        error.get("request_id"),
        error.get("details"),
        record.id,
    )


def unknown_of(record: JobRecord) -> OutcomeUnknown:
    """Return the error of a job whose outcome is unknown, with the service's answer where there was one."""
    error: Any = record.error or {}  # from the journal, which wrote it from an ApiError
    reason = record.reason or "no answer was recorded"
    if record.status is not None and record.status in _SUCCESSES and not record.duplicate_possible:
        return AnswerShapeError(record.status, reason, record.id)
    return OutcomeUnknown(record.id, reason, record.status, error.get("title"), error.get("description"))


def _result_of(record: JobRecord) -> FileProcessed | FileFailed | None:
    result: Any = record.result  # from the journal, which wrote it from the callback's value
    match record.state:
        case JobState.PROCESSED:
            return FileProcessed(**result)
        case JobState.FAILED:
            return FileFailed(**result)
        case _:
            return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def facts_of(value: Accepted) -> dict[str, object]:
    """Return an acceptance as the journal keeps it: its fields, without those that say nothing."""
    facts = {
        "message": value.message,
        "success": value.success,
        "cs_name": value.cs_name,
        "cs_id": value.cs_id,
        "extra": value.extra or None,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}
