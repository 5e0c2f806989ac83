"""Events of the journal and their encoding. Pure: no clock, no I/O.

Events are facts in the order the journal gave them. They carry no time of their own: the engine stamps the batch,
in integer microseconds of the journal's clock. An event holds no secret: no key, no callback token (only its
SHA-256), no query of a URL, no e-mail address, no value of a file.

On disk a batch is a JSON list of `[name, {field: value}]`; a field that has its default is left out. The parts of a
checkpoint follow it, each after a record separator (RFC 7464), which stands in no JSON.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import attrs

from moe_segments.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "ActiveObserved",
    "Adopted",
    "Answered",
    "AudienceSynced",
    "Batch",
    "CallbackReceived",
    "Checkpoint",
    "Claimed",
    "ClaimsRenewed",
    "Copied",
    "Copying",
    "Event",
    "ExternalUsage",
    "KeyAccepted",
    "KeyRejected",
    "MembershipForgotten",
    "MembershipPlanned",
    "Moved",
    "NeverSent",
    "Opened",
    "OwnerGone",
    "Planned",
    "Quarantined",
    "Reserved",
    "RunStarted",
    "Stayed",
    "SyncHeld",
    "SyncReleased",
    "Throttled",
    "Trusted",
    "Unclaimed",
    "Unknown",
    "decode",
    "encode",
    "joined",
    "row_of",
]


def row_of(job: str, attempt: int) -> str:
    """Return the identity of one send. That of a job's first one is the job's own, so that memory holds it once."""
    return job if attempt == 1 else f"{job}\n{attempt}"


def _as_texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _as_facts(values: Iterable[Mapping[str, object]]) -> tuple[Mapping[str, object], ...]:
    return tuple(values)


@attrs.frozen
class Opened:
    """The log begins: whose quota it is. Another origin or scale is refused later.

    Attributes:
        origin: Scheme, host and port of the service.
        scale: How many times shorter than documented the windows are.
    """

    name: ClassVar[str] = "opened"
    origin: str
    scale: float


@attrs.frozen
class Quarantined:
    """The log may have lost history, so every window is taken to be full from now.

    Attributes:
        reason: What was noticed.
    """

    name: ClassVar[str] = "quarantined"
    reason: str


@attrs.frozen
class Trusted:
    """The user said that what the log knows is all there was: a quarantine ends.

    Attributes:
        reason: Why there was anything to trust.
    """

    name: ClassVar[str] = "trusted"
    reason: str


@attrs.frozen
class RunStarted:
    """A bulk run begins.

    Attributes:
        run: Its identifier, derived from the manifest.
        manifest: The file's name.
        total: How many operations it has.
    """

    name: ClassVar[str] = "run"
    run: str
    manifest: str
    total: int


@attrs.frozen
class Planned:
    """An operation that is to be submitted.

    Attributes:
        job: The job's identifier.
        operation: Its fields as remembered, see `core.state.jobs.remembered`.
        run: The bulk run it belongs to.
        line: Its line in the manifest, from 1.
        says: What the line says, as a digest, see `bulk.lines`; None in journals of earlier versions.
        replaces: The job of an earlier run that it stands in for: one that failed, or that is repeated on purpose.
    """

    name: ClassVar[str] = "planned"
    job: str
    operation: Mapping[str, object] = attrs.field(hash=False)
    run: str | None = None
    line: int | None = None
    says: str | None = None
    replaces: str | None = None


@attrs.frozen
class Reserved:
    """Quota is held for one send. Durable before its first byte.

    Attributes:
        job: The job's identifier.
        attempt: The number of this send within the job, from 1; job and attempt name the row.
        operation: Its fields as remembered, see `core.state.jobs.remembered`.
        operations: File-segment operations it may spend, 0 or 1.
        rows: Users it may spend.
        segments: Active segments it may take, 0 or 1.
        keys: What it keeps busy: the segment's name, and `id:` with its identifier.
        fence_us: How long after the reservation the request may still start, microseconds.
        timeout_us: How long the request may take, microseconds.
        token_sha256: Hex digest of the callback's token; None when no callback of ours can come.
        expiry_days: Days until the segment expires, for a create.
        owner: The process that sends, as boot, pid and start time.
        duplicate_possible: An earlier send of this job may have worked.
        call: The call of the v3 API that it is, one of `limits.CALL_LIMITS`; empty for none that has a quota.
    """

    name: ClassVar[str] = "reserved"
    job: str
    attempt: int
    operation: Mapping[str, object] = attrs.field(hash=False)
    operations: int = 0
    rows: int = 0
    segments: int = 0
    keys: tuple[str, ...] = ()
    fence_us: int = 0
    timeout_us: int = 0
    token_sha256: str | None = None
    expiry_days: int | None = None
    owner: str | None = None
    duplicate_possible: bool = False
    call: str = ""

    @property
    def row(self) -> str:
        """The identity of this send."""
        return row_of(self.job, self.attempt)


@attrs.frozen
class NeverSent:
    """Provably no byte left: everything is given back.

    Attributes:
        job: The job.
        attempt: The send.
        reason: Why.
        again: The job goes on: it is in line again, or will be in a moment.
    """

    name: ClassVar[str] = "never_sent"
    job: str
    attempt: int
    reason: str
    again: bool = False


@attrs.frozen
class Answered:
    """The headers of an answer below 500 were read.

    Attributes:
        job: The job.
        attempt: The send.
        status: The HTTP status.
        accepted: message, success, cs_name, cs_id of an acceptance.
        error: title, description, request_id and details of a refusal.
        spends: Whether this answer keeps its operation.
        problem: Why the answer could not be read; then the job is unknown.
    """

    name: ClassVar[str] = "answered"
    job: str
    attempt: int
    status: int
    accepted: Mapping[str, object] | None = attrs.field(default=None, hash=False)
    error: Mapping[str, object] | None = attrs.field(default=None, hash=False)
    spends: bool = True
    problem: str | None = None


@attrs.frozen
class Unknown:
    """The attempt ended and nobody knows whether it counted: time-out, reset, 5xx.

    Attributes:
        job: The job.
        attempt: The send.
        reason: What happened.
        status: The HTTP status where there was one.
        error: title, description, request_id and details of the answer where there was one.
    """

    name: ClassVar[str] = "unknown"
    job: str
    attempt: int
    reason: str
    status: int | None = None
    error: Mapping[str, object] | None = attrs.field(default=None, hash=False)


@attrs.frozen
class OwnerGone:
    """The process that was sending is dead. Quota goes on counting; the job is unknown.

    Attributes:
        job: The job.
        attempt: The send.
    """

    name: ClassVar[str] = "owner_gone"
    job: str
    attempt: int


@attrs.frozen
class Adopted:
    """An unknown create was found in the service's list, created at a fitting time.

    Attributes:
        job: The job.
        attempt: The send.
        cs_id: The segment's identifier.
        created_time: When the service created it, ISO 8601.
    """

    name: ClassVar[str] = "adopted"
    job: str
    attempt: int
    cs_id: str
    created_time: str | None = None


@attrs.frozen
class CallbackReceived:
    """A callback arrived on the token of one send.

    Attributes:
        job: The job.
        attempt: The send.
        digest: SHA-256 of the body, hex: the same body twice is one callback.
        outcome: "processed", "failed" or "unparsed".
        body: The decoded fields; for "unparsed" `reason`, and under `raw` the text as it came. Without secrets.
        values_found: Rows the service found, where it said so.
    """

    name: ClassVar[str] = "callback"
    job: str
    attempt: int
    digest: str
    outcome: str
    body: Mapping[str, object] = attrs.field(hash=False)
    values_found: int | None = None


@attrs.frozen
class Throttled:
    """A 429 although we admitted: somebody else spends.

    Attributes:
        limit: The limit taken to be full.
        until_us: Until when, journal time.
        probe: After that, one operation at a time until one is accepted.
        job: The job that was answered so.
    """

    name: ClassVar[str] = "throttled"
    limit: str
    until_us: int
    probe: bool = False
    job: str | None = None


@attrs.frozen
class ExternalUsage:
    """Quota that somebody else spent, as stated.

    Attributes:
        operations: File-segment operations.
        rows: Users.
        at_us: When, journal time.
    """

    name: ClassVar[str] = "external"
    operations: int = 0
    rows: int = 0
    at_us: int = 0


@attrs.frozen
class ActiveObserved:
    """The number of active segments of the workspace, all types, as stated by who should know.

    Attributes:
        count: Active segments, ours included.
        source: "user" or "service".
    """

    name: ClassVar[str] = "active_observed"
    count: int
    source: str = "user"


@attrs.frozen
class KeyRejected:
    """401 or 403: no operation is sent with this key until it changes or a read works.

    Attributes:
        fingerprint: Salted digest of the key, hex.
        status: The HTTP status.
    """

    name: ClassVar[str] = "key_rejected"
    fingerprint: str
    status: int


@attrs.frozen
class KeyAccepted:
    """A call with this key worked after it had been rejected.

    Attributes:
        fingerprint: Salted digest of the key, hex.
    """

    name: ClassVar[str] = "key_accepted"
    fingerprint: str


@attrs.frozen
class Claimed:
    """An operation waits for quota: who comes later is not to push it back. See `core.quota.claims`.

    Attributes:
        job: The job that waits.
        operations: What it asks for, as in `Reserved`.
        rows: Likewise.
        segments: Likewise.
        for_us: How long the claim stands unless it is renewed, microseconds.
        call: As in `Reserved`.
        keys: What it keeps busy once it goes, under every name that is known for it.
        awaits_callback: Its users count from its callback.
        expiry_days: As in `Reserved`.
        attempt_us: Its fence and its time-out, microseconds.
        waiter: Who renews it.
    """

    name: ClassVar[str] = "claimed"
    job: str
    operations: int = 0
    rows: int = 0
    segments: int = 0
    for_us: int = 0
    call: str = ""
    keys: tuple[str, ...] = ()
    awaits_callback: bool = True
    expiry_days: int | None = None
    attempt_us: int = 0
    waiter: str = ""


@attrs.frozen
class ClaimsRenewed:
    """All that one waiter has claimed stands longer.

    Attributes:
        waiter: Who.
        for_us: How long from now, microseconds.
    """

    name: ClassVar[str] = "claims_renewed"
    waiter: str
    for_us: int


@attrs.frozen
class Unclaimed:
    """The claim of a job has ended.

    Attributes:
        job: The job.
    """

    name: ClassVar[str] = "unclaimed"
    job: str


@attrs.frozen
class SyncHeld:
    """One process syncs segments: others wait. The same one renews it.

    Attributes:
        owner: Who.
        segments: Their names.
        for_us: How long from now, microseconds.
    """

    name: ClassVar[str] = "sync_held"
    owner: str
    segments: tuple[str, ...] = attrs.field(converter=_as_texts)
    for_us: int


@attrs.frozen
class SyncReleased:
    """One process syncs segments no more.

    Attributes:
        owner: Who did.
        segments: Their names.
    """

    name: ClassVar[str] = "sync_released"
    owner: str
    segments: tuple[str, ...] = attrs.field(converter=_as_texts)


@attrs.frozen
class MembershipPlanned:
    """What sends to come make of a segment's members, each once its callback says *processed*.

    Attributes:
        owner: Who syncs the segment.
        segment: Its name.
        generation: One more than before.
        steps: The sends: job, op, rows, digests and size of the members after each. See `core.audiences.memberships`.
    """

    name: ClassVar[str] = "membership_planned"
    owner: str
    segment: str
    generation: int
    steps: tuple[Mapping[str, object], ...] = attrs.field(converter=_as_facts, hash=False)


@attrs.frozen
class MembershipForgotten:
    """The members of a segment are taken to be unknown from now on.

    Attributes:
        segment: Its name.
    """

    name: ClassVar[str] = "membership_forgotten"
    segment: str


@attrs.frozen
class AudienceSynced:
    """A sync of one segment has ended.

    Attributes:
        segment: Its name.
        facts: How it ended, in numbers.
    """

    name: ClassVar[str] = "audience_synced"
    segment: str
    facts: Mapping[str, object] = attrs.field(hash=False)


@attrs.frozen
class Moved:
    """This log goes on at another place: nothing is decided here any more. See `journal.tools.migrate`.

    Attributes:
        to: The new place, as it may be shown.
        journal_id: The identity of the log there.
    """

    name: ClassVar[str] = "moved"
    to: str
    journal_id: str


@attrs.frozen
class Stayed:
    """A move was cancelled before it was complete: this log goes on here."""

    name: ClassVar[str] = "stayed"


@attrs.frozen
class Copying:
    """The start of a migration from another log; nothing is decided before `Copied`.

    Attributes:
        place: Where that log is, as it may be shown.
        journal_id: Its identity.
    """

    name: ClassVar[str] = "copying"
    place: str
    journal_id: str


@attrs.frozen
class Copied:
    """The end of a migration: this log replaces the other one.

    Attributes:
        origins: The logs that this one stands for, by identity, with the last version that was carried over.
        postponed_us: How much later everything before it ends; earlier versions of this package set it.
    """

    name: ClassVar[str] = "copied"
    origins: Mapping[str, int] = attrs.field(hash=False)
    postponed_us: int = 0


@attrs.frozen
class Checkpoint:
    """The folded state up to this version; what came before may be gone.

    Attributes:
        state: JSON-ready state, see `core.state.checkpoint`.
        parts: Its long lists as JSON texts of bounded length, so that each is read in a moment.
    """

    name: ClassVar[str] = "checkpoint"
    state: Mapping[str, object] = attrs.field(hash=False)
    parts: tuple[str, ...] = attrs.field(default=(), repr=False)


Event: TypeAlias = (
    Opened
    | Quarantined
    | Trusted
    | RunStarted
    | Planned
    | Reserved
    | NeverSent
    | Answered
    | Unknown
    | OwnerGone
    | Adopted
    | CallbackReceived
    | Throttled
    | ExternalUsage
    | ActiveObserved
    | KeyRejected
    | KeyAccepted
    | Claimed
    | ClaimsRenewed
    | Unclaimed
    | SyncHeld
    | SyncReleased
    | MembershipPlanned
    | MembershipForgotten
    | AudienceSynced
    | Moved
    | Stayed
    | Copying
    | Copied
    | Checkpoint
)


@attrs.frozen
class Batch:
    """Events that became durable together.

    Attributes:
        version: Its place in the log, from 1, without gaps.
        id: Chosen by who appended it; asking again with the same id returns the same batch.
        at_us: The engine's stamp, microseconds since the epoch, never below an earlier one.
        events: What happened.
    """

    version: int
    id: str
    at_us: int
    events: tuple[Event, ...]


def joined(before: Sequence[Batch], more: Sequence[Batch]) -> Sequence[Batch]:
    """Return what was read, and what was read after it; a checkpoint in *more* that jumps stands for all before it."""
    jumps = bool(more) and bool(before) and more[0].version != before[-1].version + 1
    return more if jumps or not before else [*before, *more]


_EVENTS: Final[Mapping[str, type[Event]]] = {
    kind.name: kind
    for kind in (
        Opened,
        Quarantined,
        Trusted,
        RunStarted,
        Planned,
        Reserved,
        NeverSent,
        Answered,
        Unknown,
        OwnerGone,
        Adopted,
        CallbackReceived,
        Throttled,
        ExternalUsage,
        ActiveObserved,
        KeyRejected,
        KeyAccepted,
        Claimed,
        ClaimsRenewed,
        Unclaimed,
        SyncHeld,
        SyncReleased,
        MembershipPlanned,
        MembershipForgotten,
        AudienceSynced,
        Moved,
        Stayed,
        Copying,
        Copied,
        Checkpoint,
    )
}
_PARTS: Final = "parts"  # of a checkpoint, which are no field of the line
_FIELDS: Final = {
    kind: {field.name: field.default for field in attrs.fields(kind) if field.name != _PARTS}
    for kind in _EVENTS.values()
}


_SEPARATOR: Final = "\x1e"
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))  # `json.dumps` would make one each time


def encode(events: Sequence[Event]) -> str:
    """Return events as one line of JSON; a checkpoint, which stands alone, with its parts behind it."""
    line = _ENCODER.encode([[event.name, _fields(event)] for event in events])
    parts = [part for event in events if isinstance(event, Checkpoint) for part in event.parts]
    return _SEPARATOR.join((line, *parts)) if parts else line


def decode(text: str) -> tuple[Event, ...]:
    """Return the events that `encode` wrote.

    Raises:
        JournalError: The text is damaged, or was written by a newer version of this package.
    """
    line, *parts = text.split(_SEPARATOR)
    try:
        events = tuple(_event(name, fields) for name, fields in json.loads(line))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise JournalError(
            "the journal holds an entry this version cannot read; it is damaged, or was written by a newer "
            f"moe_segments: upgrade, or restore the file ({type(error).__name__})"
        ) from None
    return (_with_parts(events, tuple(parts)),) if parts else events


def _with_parts(events: Sequence[Event], parts: tuple[str, ...]) -> Checkpoint:
    if len(events) != 1 or not isinstance(events[0], Checkpoint):
        raise JournalError("the journal holds an entry with parts that is no checkpoint; it is damaged: restore it")
    return attrs.evolve(events[0], parts=parts)


def _fields(event: Event) -> dict[str, object]:
    fields = _FIELDS[type(event)]
    return {name: value for name, default in fields.items() if (value := getattr(event, name)) != default}


def _event(name: str, fields: dict[str, object]) -> Event:
    kind = _EVENTS.get(name)
    if kind is None:
        raise JournalError(
            f"the journal holds a {name!r} entry, which this version does not know: upgrade moe_segments"
        )
    known = _FIELDS[kind]
    if not fields.keys() <= known.keys():
        raise JournalError(
            f"the journal holds a {name!r} entry with {_names(fields.keys() - known.keys())}, which this version does "
            "not know: upgrade moe_segments"
        )
    if kind is Reserved or kind is Claimed:
        fields["keys"] = tuple(fields.get("keys", ()))  # type: ignore[arg-type]  # a JSON list of text
    return kind(**fields)  # type: ignore[arg-type]  # checked by the constructor's own names


def _names(fields: Iterable[str]) -> str:
    return ", ".join(repr(field) for field in sorted(fields))
