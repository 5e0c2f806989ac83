"""Every exception of this package: one root, families by whose move it is.

`InputError`, `PreflightError`: yours, fix the input. `QuotaError`: nobody's, wait. `NotSent`: repeat freely.
`OutcomeUnknown`: look before repeating; an `AnswerShapeError` is one. `ApiError`: the service said no.
`JournalError`: the place that remembers is not usable, so nothing is sent.

Each error holds its facts as positional arguments, so it survives pickling, and builds its sentence in `__str__`.
None holds a key, a token, a body of a file or a user identifier.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = [
    "AnswerShapeError",
    "ApiError",
    "AuthenticationFailed",
    "BadRequest",
    "CallbackTimeout",
    "CallbackUnreadable",
    "Conflict",
    "FileProcessingFailed",
    "FlushTimeout",
    "Forbidden",
    "InputError",
    "JournalAmbiguous",
    "JournalError",
    "JournalMoved",
    "JournalReplaced",
    "JournalUnavailable",
    "MoeSegmentsError",
    "NameTaken",
    "NoUsersMatched",
    "NotFound",
    "NotSent",
    "OutboxError",
    "OutcomeUnknown",
    "PreflightError",
    "QuotaError",
    "QuotaExceeded",
    "QuotaNeverFits",
    "SegmentBusy",
    "ServerError",
    "TooManyRequests",
]


class MoeSegmentsError(Exception):
    """The root: catch this to catch everything this package raises on purpose."""


class InputError(MoeSegmentsError):
    """An argument that cannot be used. Nothing was sent, nothing was spent.

    Attributes:
        problem: What is wrong and what helps, one sentence.
        field: The parameter, column or option it is about; None when it is about the whole.
    """

    problem: str
    field: str | None

    def __init__(self, problem: str, field: str | None = None) -> None:
        super().__init__(problem, field)
        self.problem, self.field = problem, field

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem


class NameTaken(InputError):
    """The name of a segment to create is used up: the journal knows the job that shows it. Nothing was sent.

    A name is used up for ever: by a segment that is archived, and by a create whose file could not be processed, too.
    Sent all the same, the create would spend an operation and be answered with a `Conflict`.

    Attributes:
        existing_cs_name: The name, as in `Conflict`.
        used_by: The job that used it, or was answered that it is used. `client.job` knows it for 90 days after its end.
        existing_cs_id: The identifier of its segment, as in `Conflict`; None where the journal does not know it.
    """

    existing_cs_name: str
    used_by: str
    existing_cs_id: str | None

    def __init__(self, existing_cs_name: str, used_by: str, existing_cs_id: str | None = None) -> None:
        which = f" (id {existing_cs_id})" if existing_cs_id else ""
        super().__init__(
            f"{existing_cs_name!r} is used up for ever, as job {used_by} shows; nothing was sent: go on with the "
            f"segment that has it{which}, or choose another name",
            "name",
        )
        self.args: tuple[Any, ...] = (existing_cs_name, used_by, existing_cs_id)
        self.existing_cs_name, self.used_by, self.existing_cs_id = existing_cs_name, used_by, existing_cs_id


class PreflightError(MoeSegmentsError):
    """The file could not be read or breaks a documented rule. Nothing was sent, nothing was spent.

    Attributes:
        source: The file's path, or its URL without query.
        problem: What is wrong and what helps, one sentence.
        report: The `PreflightReport` with its findings; None where the file could not be read at all. A pickle has no
            value of the file.
    """

    source: str
    problem: str
    report: Any

    def __init__(self, source: str, problem: str, report: Any = None) -> None:  # its type lives above this room
        super().__init__(source, problem, report)
        self.source, self.problem, self.report = source, problem, report

    def __repr__(self) -> str:
        return f"PreflightError({self.source!r}, {self.problem!r})"

    def __reduce__(self) -> tuple[type[PreflightError], tuple[object, ...]]:
        report = None if self.report is None else self.report.without_rows()  # queues and trackers keep pickles
        return PreflightError, (self.source, self.problem, report)

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


class QuotaError(MoeSegmentsError):
    """Refused locally by the governor. Nothing was sent, nothing was spent."""


class QuotaExceeded(QuotaError):
    """A documented quota is full for longer than the caller would wait.

    Attributes:
        limit: The limit that binds last, named as the field of `QuotaLimits`.
        used: What counts against it now, in-flight operations included.
        requested: What this operation asked for.
        capacity: What the limit allows, headroom taken off.
        ready_at: The earliest moment this could fit, aware UTC; None when nothing known will free it.
        wait_s: Seconds from the decision to *ready_at*; infinite when that is None.
    """

    limit: str
    used: int
    requested: int
    capacity: int
    ready_at: datetime | None
    wait_s: float

    def __init__(
        self,
        limit: str,
        used: int,
        requested: int,
        capacity: int,
        ready_at: datetime | None,
        wait_s: float,
    ) -> None:
        super().__init__(limit, used, requested, capacity, ready_at, wait_s)
        self.limit, self.used, self.requested, self.capacity = limit, used, requested, capacity
        self.ready_at, self.wait_s = ready_at, wait_s

    def __str__(self) -> str:
        full = f"{self.limit}: {self.used:,} of {self.capacity:,} used and {self.requested:,} asked for"
        if self.ready_at is None:
            return f"{full}; nothing known will free it: archive segments or tell the journal what you observe"
        return f"{full}; fits at {_utc(self.ready_at)}, in {_span(self.wait_s)}"


class QuotaNeverFits(QuotaError):
    """The request is larger than the whole limit, so no wait would help.

    Attributes:
        limit: The limit, named as the field of `QuotaLimits`.
        requested: What this operation asked for.
        capacity: What the limit allows, headroom taken off.
    """

    limit: str
    requested: int
    capacity: int

    def __init__(self, limit: str, requested: int, capacity: int) -> None:
        super().__init__(limit, requested, capacity)
        self.limit, self.requested, self.capacity = limit, requested, capacity

    def __str__(self) -> str:
        return (
            f"{self.limit}: {self.requested:,} asked for and {self.capacity:,} is all the limit allows; "
            f"split the file into parts that fit, or set {self.limit} if support has raised it for you"
        )


class SegmentBusy(QuotaError):
    """The segment takes one operation at a time, and another one is not finished.

    Attributes:
        segment: The segment's name.
        job_id: The job that holds it.
        ready_at: The moment it is free at the latest, aware UTC.
        wait_s: Seconds from the decision to *ready_at*.
    """

    segment: str
    job_id: str
    ready_at: datetime
    wait_s: float

    def __init__(self, segment: str, job_id: str, ready_at: datetime, wait_s: float) -> None:
        super().__init__(segment, job_id, ready_at, wait_s)
        self.segment, self.job_id, self.ready_at, self.wait_s = segment, job_id, ready_at, wait_s

    def __str__(self) -> str:
        return (
            f"segment {self.segment!r} is busy with job {self.job_id}, at the latest until "
            f"{_utc(self.ready_at)}; await that job, or pass max_wait_s (--max-wait)"
        )


class NotSent(MoeSegmentsError):
    """Provably never sent: no connection was obtained, or it was cancelled. Repeat freely.

    Attributes:
        reason: Why, one sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"nothing was sent: {self.reason}"


class OutcomeUnknown(MoeSegmentsError):
    """The request may have reached the service, and no usable answer is known.

    The operation counts as spent. A later callback still ends the job.

    Attributes:
        job_id: The job; `client.job(job_id)` finds it again, also in another process.
        reason: What happened, one sentence.
        status: The HTTP status of the answer; None where there was no answer.
        title: The service's short text, or the status' own name; None where that is not known.
        description: The service's longer text, or None.
    """

    job_id: str
    reason: str
    status: int | None
    title: str | None
    description: str | None

    def __init__(
        self,
        job_id: str,
        reason: str,
        status: int | None = None,
        title: str | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(job_id, reason, status, title, description)
        self.job_id, self.reason = job_id, reason
        self.status, self.title, self.description = status, title, description

    def __str__(self) -> str:
        return f"job {self.job_id}: the outcome is unknown ({self.reason}{self._said()}); look before you repeat it"

    def _said(self) -> str:
        """Return the service's own words, where the reason does not have them."""
        words = [text for text in (self.title, self.description) if text and text not in self.reason]
        return "".join(f": {text}" for text in words)


class AnswerShapeError(OutcomeUnknown):
    """An answer that the documents do not describe: the call may well have worked.

    Attributes:
        job_id: The job, whose state is *unknown*; empty for a read, which changes nothing and may be repeated.
        status: The HTTP status.
        problem: What did not fit, with its path.
    """

    args: tuple[Any, ...]
    problem: str

    status: int

    def __init__(self, status: int, problem: str, job_id: str | None = None) -> None:
        super().__init__(job_id or "", f"HTTP {status} with an answer that is not as documented: {problem}", status)
        self.args, self.problem = (status, problem, job_id), problem

    def __str__(self) -> str:
        return super().__str__() if self.job_id else self.reason


class ApiError(MoeSegmentsError):
    """The service answered with an error status.

    Attributes:
        status: The HTTP status; 0 where a read got no answer at all.
        title: The service's short text, or the status' own name.
        description: The service's longer text, or None.
        request_id: The answer's identifier where it carries one.
        details: The decoded error object as it came; empty when the body was no JSON object.
        job_id: The job it belongs to, where there is one.
    """

    status: int
    title: str
    description: str | None
    request_id: str | None

    def __init__(
        self,
        status: int,
        title: str,
        description: str | None = None,
        request_id: str | None = None,
        details: Mapping[str, object] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(status, title, description, request_id, details, job_id)
        self.status, self.title, self.description, self.request_id = status, title, description, request_id
        self.details: Mapping[str, object] = details or {}
        self.job_id = job_id

    def __str__(self) -> str:
        is_refusal = self.status >= 300  # noqa: PLR2004 - else the status says that all is well, or there is none
        text = f"HTTP {self.status} {self.title}" if is_refusal else self.title
        if self.description:
            text += f": {self.description}"
        if self.request_id:
            text += f" (request {self.request_id})"
        return text


class BadRequest(ApiError):
    """400: the service does not accept the request as it is. 412: filters in a circle. 413: too many or too deep."""


class AuthenticationFailed(ApiError):
    """401: the key is wrong. No further operation is sent with it until it changes."""


class Forbidden(ApiError):
    """403: the key, the address or the segment's kind does not allow it."""


class NotFound(ApiError):
    """404: no such segment. Nothing was changed."""


class Conflict(ApiError):
    """409: the name, or the same set of filters, exists already; names stay used for ever."""

    @property
    def existing_cs_name(self) -> str | None:
        """The segment in the way, where the service names it."""
        return _text(self.details.get("existing_cs_name"))

    @property
    def existing_cs_id(self) -> str | None:
        """The identifier of the segment in the way, where the service gives it."""
        return _text(self.details.get("existing_cs_id"))

    def __str__(self) -> str:
        text = super().__str__()
        if self.existing_cs_name is None:
            return text
        return f"{text}; in the way is {self.existing_cs_name!r} ({self.existing_cs_id or 'no id given'})"


class TooManyRequests(ApiError):
    """429 although our count had room: something outside this journal uses the workspace's quota.

    Attributes:
        limit: The limit taken to be full, named as the field of `QuotaLimits`; None where unknown.
        ready_at: From when the governor admits operations again, aware UTC; None where unknown. A call is not
            repeated: submit again with the same `job_id` then.
        wait_s: Seconds from the answer to *ready_at*; infinite where that is unknown.
    """

    limit: str | None
    ready_at: datetime | None
    wait_s: float

    def __init__(
        self,
        status: int,
        title: str,
        description: str | None = None,
        request_id: str | None = None,
        details: Mapping[str, object] | None = None,
        job_id: str | None = None,
        limit: str | None = None,
        ready_at: datetime | None = None,
        wait_s: float = math.inf,  # a pickle of an earlier version has none
    ) -> None:
        super().__init__(status, title, description, request_id, details, job_id)
        self.args: tuple[Any, ...] = (*self.args, limit, ready_at, wait_s)
        self.limit, self.ready_at, self.wait_s = limit, ready_at, wait_s

    @property
    def actual_count(self) -> int | None:
        """Active segments as the service counts them, where the answer says so."""
        return _whole(self.details.get("actual_count"))

    @property
    def allowed_count(self) -> int | None:
        """Return how many active segments the service allows, where the answer says so; its field is called limit."""
        return _whole(self.details.get("limit"))

    def __str__(self) -> str:
        text = f"{super().__str__()}; something outside this journal uses the workspace's quota"
        if self.ready_at is not None:
            text += f"; {self.limit or 'the quota'} is taken to be full until {_utc(self.ready_at)}"
        return text


class ServerError(ApiError):
    """5xx, or no answer, on a read. On any other call that is an `OutcomeUnknown`."""


class FileProcessingFailed(MoeSegmentsError):
    """The service accepted the operation and failed to process its file.

    A create that failed leaves a segment of zero users and a name that is used up: go on with replace or add.

    Attributes:
        status: 400 or 500, from the callback.
        error_message: The service's text.
        request_id: The service's identifier of this processing.
        segment_name: The segment, from the callback; None where it does not say.
        db_name: The database, from the callback; None where it does not say.
    """

    status: int
    error_message: str
    request_id: str | None
    segment_name: str | None
    db_name: str | None

    def __init__(
        self,
        status: int,
        error_message: str,
        request_id: str | None = None,
        segment_name: str | None = None,
        db_name: str | None = None,
    ) -> None:
        super().__init__(status, error_message, request_id, segment_name, db_name)
        self.status, self.error_message, self.request_id = status, error_message, request_id
        self.segment_name, self.db_name = segment_name, db_name

    def __str__(self) -> str:
        prefix = f"segment {self.segment_name!r}: " if self.segment_name else ""
        suffix = f" (request {self.request_id})" if self.request_id else ""
        return f"{prefix}processing failed with {self.status}: {self.error_message}{suffix}"


class NoUsersMatched(FileProcessingFailed):
    """The service processed the file with status 201, and the segment has no user: the silent failure.

    Nothing of the file is a user of the workspace. A create leaves a segment of zero users and a name that is used up:
    go on with replace or add.

    Attributes:
        segment_name: The segment.
        request_id: The service's identifier of this processing.
        values_found: Rows that the service found in the file.
        values_processed: Usable values among them.
        db_name: The database; None where the callback does not say.
    """

    values_found: int
    values_processed: int

    segment_name: str

    def __init__(
        self,
        segment_name: str,
        request_id: str | None,
        values_found: int,
        values_processed: int,
        db_name: str | None = None,
    ) -> None:
        super().__init__(201, "no users matched", request_id, segment_name, db_name)
        self.args: tuple[Any, ...] = (segment_name, request_id, values_found, values_processed, db_name)
        self.values_found, self.values_processed = values_found, values_processed

    def __str__(self) -> str:
        return (
            f"segment {self.segment_name!r}: {self.values_found:,} rows found, {self.values_processed:,} usable, and "
            "none is a user of this workspace; check attribute_name, attribute_type and how the values are spelt"
        )


class CallbackTimeout(MoeSegmentsError):
    """No callback within the time given. The job goes on; ask again with `client.job(job_id)`.

    Attributes:
        job_id: The job.
        timeout_s: How long was waited, seconds.
    """

    job_id: str
    timeout_s: float

    def __init__(self, job_id: str, timeout_s: float) -> None:
        super().__init__(job_id, timeout_s)
        self.job_id, self.timeout_s = job_id, timeout_s

    def __str__(self) -> str:
        return f"job {self.job_id}: no callback within {_span(self.timeout_s)}; the job goes on"


class CallbackUnreadable(MoeSegmentsError):
    """A callback came that cannot be read, so it is not known how the file's processing ended.

    The callback is kept in the journal, without secrets. A later one that can be read still ends the job.

    Attributes:
        job_id: The job; `client.job(job_id)` finds it again, also in another process.
        reason: What did not fit, with its path; never a value of the callback.
    """

    job_id: str
    reason: str

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(job_id, reason)
        self.job_id, self.reason = job_id, reason

    def __str__(self) -> str:
        return (
            f"job {self.job_id}: a callback came that cannot be read ({self.reason}); "
            f"'moe-segments jobs {self.job_id}' shows it; look at the segment before you repeat anything"
        )


class JournalError(MoeSegmentsError):
    """The journal cannot be used, so nothing is sent.

    Attributes:
        problem: What is wrong and what helps, one paragraph.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class JournalAmbiguous(JournalError):
    """The journal's answer was lost: what was told may be recorded, or not. Nothing is granted and nothing is sent.

    Telling it again is safe: a job is known by its id. What was reserved all the same counts until its lease.
    """


class JournalUnavailable(JournalError):
    """The journal cannot be reached for now. Nothing was recorded; the same call may work later.

    Operations that wait for quota or for a callback go on waiting.
    """


class JournalReplaced(JournalError):
    """The log behind an open journal is not the log that was opened: the server or file went back, or was exchanged.

    Fatal: every later call of this client or receiver fails in the same way, and everybody who waits is told at once.
    Start the process again; the journal is then opened in doubt, and every window is taken for full.
    """


class JournalMoved(JournalError):
    """The journal was copied to another place and goes on there. Nothing is sent, and nothing is lost.

    Attributes:
        to: Where it is now, without user and password.
    """

    args: tuple[Any, ...]
    to: str

    def __init__(self, to: str) -> None:
        super().__init__(
            f"this journal has moved to {to}; nothing is sent from here: name that place in journal= or MOE_JOURNAL, "
            "with its user and password, and start again"
        )
        self.args, self.to = (to,), to


class OutboxError(MoeSegmentsError):
    """The outbox of membership changes cannot be used. Changes that it acknowledged before are in it.

    Attributes:
        problem: What is wrong and what helps, one paragraph.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class FlushTimeout(MoeSegmentsError):
    """Changes of a membership were not applied within the time given. They are safe, and are sent when quotas allow.

    Attributes:
        segment: The segment.
        pending: How many changes wait, later ones included.
        timeout_s: How long was waited, seconds.
        reason: What the last try to send them ended with; None where none failed.
    """

    segment: str
    pending: int
    timeout_s: float
    reason: str | None

    def __init__(self, segment: str, pending: int, timeout_s: float, reason: str | None = None) -> None:
        super().__init__(segment, pending, timeout_s, reason)
        self.segment, self.pending, self.timeout_s, self.reason = segment, pending, timeout_s, reason

    def __str__(self) -> str:
        text = f"segment {self.segment!r}: {self.pending:,} changes wait after {_span(self.timeout_s)}"
        return f"{text}; the last try: {self.reason}" if self.reason else f"{text}; they are sent when quotas allow"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if type(value) is int else None  # True is no count


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
