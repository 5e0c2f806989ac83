"""Jobs: the state of each operation, and the segments that are busy. Pure: no clock, no I/O.

A job is one operation of the user's; each send of it is an attempt with a row of its own in the ledger. A job ends in
exactly one terminal state, the first that arrives; a later, different callback is kept as a conflict. A send whose
process died is *unknown*, never sent again in silence.

Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, get_args

import attrs

from moe_segments.core.events import (
    Adopted,
    Answered,
    CallbackReceived,
    Event,
    NeverSent,
    OwnerGone,
    Planned,
    Reserved,
    RunStarted,
    Unknown,
)
from moe_segments.errors import InputError
from moe_segments.models import (
    CreateFileSegment,
    CreateFilterSegment,
    FileOperation,
    FilterOperation,
    JobState,
    Operation,
    UpdateFilterSegment,
)
from moe_segments.models.urls import url_without_query
from moe_segments.types import Unset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moe_segments.limits import QuotaLimits

__all__ = ["JobRecord", "Jobs", "Run", "recalled", "remembered", "segment_keys"]

_BESIDE: Final = frozenset(
    {"op", "checked", "filters", "trace"}
)  # what `remembered` keeps that is no field of an operation
READS: Final = ("list", "get")
CREATES: Final = (CreateFileSegment.op, CreateFilterSegment.op)
_NAMING: Final = (*CREATES, UpdateFilterSegment.op)  # after these a segment has the name
KEEP_DAYS: Final = 90  # how long a finished job is remembered
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
_SECOND_US: Final = 1_000_000
_RAW_CHARS: Final = 4_096  # of a callback that cannot be read; its batch holds all of it
_KINDS: Final[Mapping[str, type[Operation | FilterOperation]]] = {
    kind.op: kind for kind in (*get_args(Operation), *get_args(FilterOperation))
}


def remembered(operation: Operation | FilterOperation) -> dict[str, object]:
    """Return an operation as the journal keeps it: no query of a URL, no e-mail address, no callback URL, no filter."""
    kept: dict[str, object] = {"op": operation.op, "name": operation.name or None}
    if isinstance(operation, FileOperation):
        kept["attribute_name"] = operation.attribute_name
        kept["attribute_type"] = operation.attribute_type
        kept["file_url"] = url_without_query(operation.file_url) if operation.file_url else None
        kept["file"] = str(operation.file) if operation.file else None
        kept["values"] = True if operation.values is not None else None
        kept["rows"] = operation.rows
        kept["expiry_time"] = getattr(operation, "expiry_time", None)
    kept["cs_id"] = getattr(operation, "cs_id", None)
    return {field: value for field, value in kept.items() if value is not None}


def recalled(kept: Mapping[str, object]) -> Operation | FilterOperation:
    """Return the operation that `remembered` kept; a filter segment's has no filters and cannot be sent."""
    fields = {field: value for field, value in kept.items() if field not in _BESIDE}
    if "values" in fields:
        fields["values"] = _values_not_kept
    kind = _KINDS[str(kept["op"])]
    if issubclass(kind, CreateFilterSegment | UpdateFilterSegment):
        fields["included_filters"] = ()
    return kind(**fields)  # type: ignore[arg-type]  # checked by the model's validators


def _values_not_kept() -> NoReturn:
    """Stand for the values of an operation that was read from the journal.

    Raises:
        InputError: Always, when values are read from it.
    """
    raise InputError("the journal does not keep values: give the operation with its values again", "values")


def segment_keys(operation: Operation | FilterOperation) -> tuple[str, ...]:
    """Return what an operation keeps busy: the segment by its name, and by its identifier where that is given."""
    cs_id = getattr(operation, "cs_id", None)
    by_name = () if isinstance(operation.name, Unset) else (operation.name,)
    return (*by_name, f"id:{cs_id}") if cs_id else by_name


@attrs.define(eq=False)
class JobRecord:
    """The record of one job.

    Attributes:
        id: The job's identifier.
        operation: Its fields, see `remembered`; with `checked`, what its preflight found, `filters`, see
            `core.wire.filter_segments.filters_digest`, and `trace`, the W3C `traceparent` of its submission.
        state: One of `JobState`.
        since_us: When it got into this state.
        attempt: The number of its last send, 0 before the first.
        keys: What it keeps busy while it does.
        busy_until_us: Until when at the latest; 0 when it keeps nothing busy.
        doubt_us: When a reserved job without news counts as unknown.
        awaits_callback: A callback of ours can come.
        owner: The process that sends.
        status: The last HTTP status, or the callback's.
        accepted: message, success, cs_name, cs_id.
        error: title, description, request_id, details of a refusal, or of a 5xx that left the outcome unknown.
        result: The terminal callback's fields.
        reason: Why it is unknown or was not sent.
        run: The bulk run it belongs to.
        line: Its line in the manifest.
        says: What that line says, as a digest; None where an earlier version planned it.
        replaces: The job of an earlier run that it stands in for.
        duplicate_possible: An earlier send of it may have worked.
        digest: The terminal callback's digest.
        conflicts: Later callbacks that said something else.
        unparsed: A callback came that could not be read.
        unread: Why the last such callback could not be read, and the beginning of it: `reason`, `raw`.
        adopted: The service's list showed its segment.
        adopted_created: When the service created the segment that was found, ISO 8601.
        follows: The jobs that were sent to its segment before it, under any of its names.
    """

    id: str
    operation: Mapping[str, object]
    state: str
    since_us: int
    attempt: int = 0
    keys: tuple[str, ...] = ()
    busy_until_us: int = 0
    doubt_us: int = 0
    awaits_callback: bool = False
    owner: str | None = None
    status: int | None = None
    accepted: Mapping[str, object] | None = None
    error: Mapping[str, object] | None = None
    result: Mapping[str, object] | None = None
    reason: str | None = None
    run: str | None = None
    line: int | None = None
    says: str | None = None
    replaces: str | None = None
    duplicate_possible: bool = False
    digest: str | None = None
    conflicts: int = 0
    unparsed: bool = False
    unread: Mapping[str, object] | None = None
    adopted: bool = False
    adopted_created: str | None = None
    follows: tuple[str, ...] = ()

    @property
    def terminal(self) -> bool:
        """Return whether the job has ended."""
        return self.state in JobState.TERMINAL

    @property
    def settled(self) -> bool:
        """Terminal, or accepted with no callback to wait for."""
        return self.terminal or (self.state == JobState.ACCEPTED and not self.awaits_callback)

    @property
    def is_unreadable(self) -> bool:
        """Return whether the only callback that came cannot be read."""
        return self.unparsed and self.state in (JobState.RESERVED, JobState.ACCEPTED, JobState.UNKNOWN)

    @property
    def unreadable_reason(self) -> str:
        """Return why the callback cannot be read."""
        return str((self.unread or {}).get("reason") or "it is not as documented")

    def state_at(self, now_us: int) -> str:
        """Return the state at a time: a send without news is unknown once its attempt must be over."""
        if self.state == JobState.RESERVED and now_us < self.doubt_us:
            return JobState.RESERVED
        if self.is_unreadable:
            return JobState.UNREADABLE
        return JobState.UNKNOWN if self.state == JobState.RESERVED else self.state

    def may_have_worked_at(self, now_us: int) -> bool:
        """Return whether a send of it so far may have worked, at a time at which it is to be sent once more."""
        return self.duplicate_possible or self.state_at(now_us) == JobState.UNKNOWN


@attrs.define
class Run:
    """One bulk run.

    Attributes:
        id: Derived from the manifest.
        manifest: The file's name.
        total: How many operations it has.
        started_us: When it began.
        jobs: Its jobs in the manifest's order.
    """

    id: str
    manifest: str
    total: int
    started_us: int
    jobs: list[str] = attrs.field(factory=list)


class Jobs:
    """Every job of one journal.

    Attributes:
        names: By name of a segment, the job that shows that it is used up. Never forgotten.
    """

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self.records: dict[str, JobRecord] = {}
        self.tokens: dict[str, tuple[str, int]] = {}
        self.holders: dict[str, str] = {}
        self.last_sent: dict[str, str] = {}
        self.runs: dict[str, Run] = {}
        self.aliases: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self._late_us = round(limits.count_late_s * _SECOND_US)
        self._allowance_us = round(limits.processing_allowance_s * _SECOND_US)

    # Asking

    def holder(self, keys: tuple[str, ...], now_us: int) -> JobRecord | None:
        """Return the job that keeps any of *keys* busy at *now_us*, by whichever of its names."""
        for key in self.known_as(keys):
            record = self.records.get(self.holders.get(key, ""))
            if record is not None and now_us < record.busy_until_us:
                return record
        return None

    def may_send(self, job: str, *, retry_unknown: bool, now_us: int) -> bool:
        """Return whether a (further) send of this job is in order.

        A job that is on its way, accepted or ended is not sent again; an unknown one only when that was asked for
        and no later operation was sent to its segment.
        """
        record = self.records.get(job)
        if record is None or record.state in (JobState.PLANNED, JobState.NOT_SENT):
            return True
        if record.state == JobState.REFUSED:
            return record.status == _TOO_MANY
        if retry_unknown and record.state_at(now_us) == JobState.UNKNOWN:
            return all(self._was_last(record, key) for key in self.known_as(record.keys))
        return False

    def _was_last(self, record: JobRecord, key: str) -> bool:
        """Return whether it was the last send to its segment; under another name, by the times of the sends."""
        last = self.records.get(self.last_sent.get(key, record.id))
        if last is None or last is record:
            return True
        return key not in record.keys and last.doubt_us < record.doubt_us

    def name_used_by(self, op: object, name: object, job: str) -> str | None:
        """Return the other job that shows that the name is used up; None for a free name, and for what creates nothing.

        Args:
            op: The operation's `op`.
            name: Its segment's name.
            job: Its own job.
        """
        if op not in CREATES or not isinstance(name, str):
            return None
        other = self.names.get(name)
        return None if other == job else other

    def learn_name(self, record: JobRecord) -> None:
        """Keep the name of a segment that was created, or that the service said exists."""
        name = record.operation.get("name")
        if record.operation.get("op") not in _NAMING or not isinstance(name, str):
            return
        if record.accepted is not None or record.result is not None:
            self.names[name] = record.id
        elif record.state == JobState.REFUSED and record.status == _CONFLICT:
            details: Any = (record.error or {}).get("details") or {}  # JSON
            if details.get("existing_cs_name") in (None, name):  # else the filters are another segment's, not the name
                self.names.setdefault(name, record.id)

    def known_as(self, keys: tuple[str, ...]) -> Iterator[str]:
        """Yield *keys* and what else their segments are known by: a name's identifier, an identifier's name."""
        for key in keys:
            yield key
            if key in self.aliases:
                yield self.aliases[key]

    # Folding

    def fold(self, event: Event, at_us: int) -> None:
        """Take in one event of a batch stamped *at_us*."""
        match event:
            case Reserved():
                self.reserve(event, at_us)
            case NeverSent():
                self._never_sent(event, at_us)
            case Answered():
                self._answered(event, at_us)
                self._learn_name(event)
            case Unknown():
                self._unknown(event, at_us)
            case OwnerGone():
                self._owner_gone(event, at_us)
            case CallbackReceived():
                self._callback(event, at_us)
                self._learn_name(event)
            case Adopted():
                self._adopted(event, at_us)
                self._learn_name(event)
            case Planned():
                self._planned(event, at_us)
            case RunStarted():
                self.runs.setdefault(event.run, Run(event.run, event.manifest, event.total, at_us))
            case _:
                pass  # events about quotas and keys say nothing of a job

    def reserve(self, event: Reserved, at_us: int) -> None:
        """Fold a reservation. A read is no job: nobody asks for it again."""
        if event.operation.get("op") in READS:
            return
        record = self.records.get(event.job)
        if record is None:
            record = self.records[event.job] = JobRecord(event.job, event.operation, JobState.PLANNED, at_us)
        attempt_over_us = at_us + event.fence_us + event.timeout_us
        lease_us = attempt_over_us + self._late_us
        self._enter(record, JobState.RESERVED, at_us)
        record.operation = event.operation
        record.attempt, record.keys, record.owner = event.attempt, event.keys, event.owner
        record.doubt_us = attempt_over_us
        record.awaits_callback = event.token_sha256 is not None
        record.busy_until_us = lease_us + (self._allowance_us if record.awaits_callback else 0)
        record.duplicate_possible = event.duplicate_possible
        record.unparsed, record.unread = False, None  # of an earlier send
        if event.token_sha256 is not None:
            self.tokens[event.token_sha256] = (event.job, event.attempt)
        before = {self.last_sent[key]: None for key in self.known_as(event.keys) if key in self.last_sent}
        before.pop(event.job, None)  # its own earlier attempt
        record.follows = tuple(before) or record.follows
        for key in event.keys:
            self.holders[key] = self.last_sent[key] = event.job

    def restamp(self, job: str, by_us: int) -> None:
        """Move a reservation by *by_us*: it became durable that much later than it was decided."""
        record = self.records[job]
        record.since_us += by_us
        record.doubt_us += by_us
        record.busy_until_us += by_us

    def _planned(self, event: Planned, at_us: int) -> None:
        if event.job in self.records:
            return
        self.records[event.job] = JobRecord(
            event.job,
            event.operation,
            JobState.PLANNED,
            at_us,
            run=event.run,
            line=event.line,
            says=event.says,
            replaces=event.replaces,
        )
        if event.run in self.runs:
            self.runs[event.run].jobs.append(event.job)

    def _never_sent(self, event: NeverSent, at_us: int) -> None:
        record = self._current(event)
        if record is None:
            return
        if record.duplicate_possible:  # so the job is what it was before this send
            self._doubt(record, f"an earlier send may have worked, and a later one never left: {event.reason}", at_us)
            return
        self._enter(record, JobState.PLANNED if event.again else JobState.NOT_SENT, at_us)
        record.reason = event.reason
        self._release(record)

    def _answered(self, event: Answered, at_us: int) -> None:
        record = self._current(event)
        if record is None:
            return
        if record.terminal and record.state != JobState.NOT_SENT:
            record.accepted = record.accepted or event.accepted  # the callback was faster than the answer
            self.alias(record)
            return
        record.status, record.accepted, record.error = event.status, event.accepted, event.error
        if event.accepted is not None:
            self._accept(record, at_us)
        elif event.error is not None:
            self._enter(record, JobState.REFUSED, at_us)
            self._release(record)
        else:
            self._doubt(record, event.problem or "the answer could not be read", at_us)

    def _accept(self, record: JobRecord, at_us: int) -> None:
        self.alias(record)
        self._enter(record, JobState.ACCEPTED, at_us)
        if record.awaits_callback:
            record.busy_until_us = at_us + self._allowance_us
        else:
            self._release(record)

    def _unknown(self, event: Unknown, at_us: int) -> None:
        record = self._current(event)
        if record is None or record.terminal:
            return
        record.status, record.error = event.status, event.error
        self._doubt(record, event.reason, at_us)

    def _doubt(self, record: JobRecord, reason: str, at_us: int) -> None:
        self._enter(record, JobState.UNKNOWN, at_us)
        record.reason = reason
        record.busy_until_us = at_us + self._late_us + (self._allowance_us if record.awaits_callback else 0)

    def _owner_gone(self, event: OwnerGone, at_us: int) -> None:
        record = self._current(event)
        if record is None or record.state != JobState.RESERVED:
            return
        self._enter(record, JobState.UNKNOWN, at_us)
        record.reason = "the process that was sending it is gone"

    def _adopted(self, event: Adopted, at_us: int) -> None:
        record = self._current(event)
        if record is None or record.terminal:
            return
        record.adopted, record.adopted_created = True, event.created_time
        record.accepted = {"cs_name": record.operation.get("name"), "cs_id": event.cs_id}
        self._accept(record, at_us)

    def _callback(self, event: CallbackReceived, at_us: int) -> None:
        record = self.records.get(event.job)
        if record is None:
            return
        if record.state in (JobState.PROCESSED, JobState.FAILED):
            record.conflicts += event.digest != record.digest
            return
        if event.outcome == "unparsed":
            record.unparsed = True
            reason, raw = event.body.get("reason"), str(event.body.get("raw") or "")
            record.unread = {"reason": reason, "raw": raw if len(raw) <= _RAW_CHARS else f"{raw[:_RAW_CHARS]}…"}
            return
        self._enter(record, JobState.PROCESSED if event.outcome == "processed" else JobState.FAILED, at_us)
        record.result, record.digest = event.body, event.digest
        self._release(record)

    def _current(self, event: NeverSent | Answered | Unknown | OwnerGone | Adopted) -> JobRecord | None:
        """Return the job, if the event is about its last send."""
        record = self.records.get(event.job)
        return record if record is not None and record.attempt == event.attempt else None

    def _learn_name(self, event: Answered | CallbackReceived | Adopted) -> None:
        record = self.records.get(event.job)
        if record is not None:
            self.learn_name(record)

    def _enter(self, record: JobRecord, state: str, at_us: int) -> None:
        record.state, record.since_us = state, at_us

    def _release(self, record: JobRecord) -> None:
        record.busy_until_us = 0
        for key in record.keys:
            if self.holders.get(key) == record.id:
                del self.holders[key]

    def alias(self, record: JobRecord) -> None:
        """Learn from an acceptance which name and which identifier are the same segment."""
        accepted = record.accepted or {}
        name, cs_id = accepted.get("cs_name") or record.operation.get("name"), accepted.get("cs_id")
        if name and cs_id:
            key = f"id:{cs_id}"
            self.aliases[str(name)], self.aliases[key] = key, str(name)

    # Remembering

    def prune(self, now_us: int) -> None:
        """Forget jobs that ended more than 90 days ago, with their tokens and runs. The names stay."""
        oldest_us = now_us - KEEP_DAYS * 86_400 * _SECOND_US
        gone = {job for job, record in self.records.items() if record.settled and record.since_us < oldest_us}
        if not gone:
            return
        self.records = {job: record for job, record in self.records.items() if job not in gone}
        self.tokens = {token: send for token, send in self.tokens.items() if send[0] not in gone}
        self.last_sent = {key: job for key, job in self.last_sent.items() if job not in gone}
        self.runs = {run.id: run for run in self.runs.values() if not gone.issuperset(run.jobs) or not run.jobs}
        self.aliases = {}
        for record in self.records.values():
            self.alias(record)
