"""Events for users: what happened to an operation, to a callback, to the journal. Values without behaviour.

They are not the journal's events (`core.events`): those are facts on the disk, these are told to consumers and gone.
Users import them as `from moe_segments import events`, since some share a name with an exception or a result.

Durations are seconds, moments aware UTC. No event holds a key, a token, the query of an address or a value of a file. A
segment's name and a job's identifier are in them, and so are sentences of the service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import attrs

if TYPE_CHECKING:
    from datetime import datetime

# Which of these are public, `moe_segments.events` says.


@attrs.frozen
class Event:
    """Something that happened. Every event is one.

    Attributes:
        scope: Whose quota it concerns: workspace and data center; empty where a callback names none that is served.
    """

    name: ClassVar[str] = "event"
    scope: str


@attrs.frozen
class OperationEvent(Event):
    """Something that happened to one operation, or to one read of the service.

    Attributes:
        job: The job's identifier; None for a list or a get, which are no jobs.
        operation: What it does: create, add, remove, replace, archive, unarchive, create_filter, update_filter, list
            or get.
        segment: The segment's name, or `id:` and its identifier; None where it names none.
    """

    job: str | None = attrs.field(kw_only=True)
    operation: str = attrs.field(kw_only=True)
    segment: str | None = attrs.field(kw_only=True)


# The life of an operation, in the order in which it goes


@attrs.frozen(kw_only=True)
class Submitted(OperationEvent):
    """An operation was submitted. One of Accepted, Refused, NotSent, Unknown or Attached follows."""

    name: ClassVar[str] = "submitted"


@attrs.frozen(kw_only=True)
class Waiting(OperationEvent):
    """It waits for a quota, or for its segment. Told once for each reason in a row.

    Attributes:
        limit: The limit that is full; None while its segment is busy.
        behind: The job that keeps its segment busy; None where a limit is full.
        starts_at: When it will start as far as is known now; None where nothing known will let it.
        wait_s: How long that is from now, seconds; None likewise.
    """

    name: ClassVar[str] = "waiting"
    limit: str | None = None
    behind: str | None = None
    starts_at: datetime | None = None
    wait_s: float | None = None


@attrs.frozen(kw_only=True)
class Reserved(OperationEvent):
    """Its quota is held, durably.

    Attributes:
        attempt: The number of this send within the job, from 1.
        waited_s: How long it waited for quota, segment and pace.
    """

    name: ClassVar[str] = "reserved"
    attempt: int
    waited_s: float


@attrs.frozen(kw_only=True)
class Sent(OperationEvent):
    """Its request leaves now.

    Attributes:
        attempt: The number of this send within the job, from 1.
    """

    name: ClassVar[str] = "sent"
    attempt: int


@attrs.frozen(kw_only=True)
class Answered(OperationEvent):
    """The service answered a request, whatever it said.

    Attributes:
        attempt: The number of this send within the job, from 1.
        status: The HTTP status.
        took_s: From its first byte to the end of the answer.
    """

    name: ClassVar[str] = "answered"
    attempt: int
    status: int
    took_s: float


@attrs.frozen(kw_only=True)
class Throttled(OperationEvent):
    """The service answered 429 although the journal's count had room: something outside this journal uses the quota.

    Attributes:
        limit: The limit that is taken to be full; None where the answer names none that is counted.
        ready_at: Until when; None where it is not known.
        wait_s: How long that is from now; None likewise.
    """

    name: ClassVar[str] = "throttled"
    limit: str | None = None
    ready_at: datetime | None = None
    wait_s: float | None = None


@attrs.frozen(kw_only=True)
class Retried(OperationEvent):
    """It is going to be sent again.

    Attributes:
        reason: How the send before it ended: not_sent, no_answer, or the HTTP status.
        pause_s: How long it pauses before it is in line again.
    """

    name: ClassVar[str] = "retried"
    reason: str
    pause_s: float


@attrs.frozen(kw_only=True)
class Accepted(OperationEvent):
    """The service accepted it.

    Attributes:
        cs_id: The segment's identifier; None where the answer has none.
        took_s: From its submission to now; None for one that was found in the service's list later.
        adopted: Its answer was lost, and the service's list shows its segment.
    """

    name: ClassVar[str] = "accepted"
    cs_id: str | None = None
    took_s: float | None = None
    adopted: bool = False


@attrs.frozen(kw_only=True)
class Refused(OperationEvent):
    """It was refused: by a quota or a check before it was sent, or by the service.

    Attributes:
        error: The name of the exception that its caller gets, such as QuotaExceeded.
        reason: What that exception says.
        limit: The limit that refused it; None where no limit did.
        status: The service's HTTP status; None where it was not sent.
        ready_at: When it would fit; None where that is not known or of no use.
        wait_s: How long that is from now; None likewise.
        took_s: From its submission to now.
    """

    name: ClassVar[str] = "refused"
    error: str
    reason: str
    limit: str | None = None
    status: int | None = None
    ready_at: datetime | None = None
    wait_s: float | None = None
    took_s: float


@attrs.frozen(kw_only=True)
class NotSent(OperationEvent):
    """It was provably never sent, and is not going to be: no connection, the client closed, its caller went away.

    Attributes:
        reason: Why.
        took_s: From its submission to now; None for one whose process died.
    """

    name: ClassVar[str] = "not_sent"
    reason: str
    took_s: float | None = None


@attrs.frozen(kw_only=True)
class Unknown(OperationEvent):
    """It was sent, and nobody knows whether it worked. Evidence may still come.

    Attributes:
        reason: What happened.
        status: The HTTP status where there was one.
        took_s: From its submission to now; None for one whose process died.
    """

    name: ClassVar[str] = "unknown"
    reason: str
    status: int | None = None
    took_s: float | None = None


@attrs.frozen(kw_only=True)
class Attached(OperationEvent):
    """The journal knows its job already, so it was not sent again.

    Attributes:
        state: The job's state, one of `JobState`.
    """

    name: ClassVar[str] = "attached"
    state: str


@attrs.frozen(kw_only=True)
class Processed(OperationEvent):
    """Its callback said that the file was processed. Told in the process that submitted it or follows it.

    Attributes:
        values_found: Rows that the service found.
        values_processed: Rows that it could use.
        user_count: Users that it knows of those.
        took_s: From its acceptance to its callback; None where the acceptance was not seen.
    """

    name: ClassVar[str] = "processed"
    values_found: int
    values_processed: int
    user_count: int
    took_s: float | None = None


@attrs.frozen(kw_only=True)
class Failed(OperationEvent):
    """Its callback said that the file could not be processed. Told in the process that submitted it or follows it.

    Attributes:
        reason: What the service said.
        status: The status in the callback; None where it has none.
        took_s: From its acceptance to its callback; None where the acceptance was not seen.
    """

    name: ClassVar[str] = "failed"
    reason: str
    status: int | None = None
    took_s: float | None = None


# Callbacks, told by whoever receives them


@attrs.frozen(kw_only=True)
class CallbackStored(OperationEvent):
    """A callback came and is durable in the journal. Told by the receiver that took it.

    Attributes:
        outcome: What it says: processed or failed; unparsed where it cannot be read; repeated where it was there
            already; conflict where it says something else than the one before, which counts; surplus where too many
            such came, so that it was not kept.
        reason: Why it cannot be read; None for others.
        delay_s: From the operation's acceptance to now; None where the acceptance is not known, or it ended before.
        trace: The trace context of the operation, as the W3C `traceparent` has it; None where none was kept.
    """

    name: ClassVar[str] = "callback_stored"
    outcome: str
    reason: str | None = None
    delay_s: float | None = None
    trace: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class CallbackLost(Event):
    """A callback, or what looked like one, came and was not stored. After a 503 the service comes again.

    Attributes:
        status: The HTTP status that it was answered with.
        cause: Why, in one word: path, scope, token, encoding, size, closed or journal.
        reason: Why, for people.
    """

    name: ClassVar[str] = "callback_lost"
    status: int
    cause: str
    reason: str


# The journal


@attrs.frozen(kw_only=True)
class JournalUnavailable(Event):
    """The journal cannot be used for now. Told once for each outage and minute; nothing is sent meanwhile.

    Attributes:
        reason: What does not work.
    """

    name: ClassVar[str] = "journal_unavailable"
    reason: str


@attrs.frozen(kw_only=True)
class JournalAvailable(Event):
    """The journal answers again after an outage.

    Attributes:
        away_s: How long the outage was, from its first warning.
    """

    name: ClassVar[str] = "journal_available"
    away_s: float


# Membership


@attrs.frozen(kw_only=True)
class MembershipLag(Event):
    """How far a segment is behind the changes that were asked for.

    Attributes:
        segment: The segment's name.
        lag_s: The age of its oldest change that is not applied.
        max_age_s: How old a change may get; None where nothing was said.
        pending: Changes that are not applied.
    """

    name: ClassVar[str] = "membership_lag"
    segment: str
    lag_s: float
    max_age_s: float | None = None
    pending: int


KINDS: Final[tuple[type[Event], ...]] = (
    Submitted,
    Waiting,
    Reserved,
    Sent,
    Answered,
    Throttled,
    Retried,
    Accepted,
    Refused,
    NotSent,
    Unknown,
    Attached,
    Processed,
    Failed,
    CallbackStored,
    CallbackLost,
    JournalUnavailable,
    JournalAvailable,
    MembershipLag,
)
