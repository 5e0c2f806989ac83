"""Memberships: what each segment was last known to hold. Pure: no clock, no I/O.

What a send makes of a segment is announced before it. It holds once the callback of that send says *processed*, in
whichever process it arrives: folding the callback is the promotion. Any other send to the segment makes its members
unknown, as does one that failed, or whose outcome is unknown. Values are not here: `holds` names files of values.

Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from moe_segments.core.events import (
    AudienceSynced,
    CallbackReceived,
    MembershipForgotten,
    MembershipPlanned,
    SyncHeld,
    SyncReleased,
)
from moe_segments.models import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from moe_segments.core.events import Event

__all__ = ["Held", "Membership", "Memberships", "Step", "restore", "taken"]

_HISTORY: Final = 30  # syncs of a segment that are remembered
_HARMLESS: Final = frozenset({JobState.PLANNED, JobState.NOT_SENT, JobState.REFUSED})


class Sent(Protocol):
    """The part of a job's record that tells what became of its segment."""

    @property
    def operation(self) -> Mapping[str, object]:
        """The operation's fields."""

    @property
    def state(self) -> str:
        """Return one of `JobState`."""

    @property
    def digest(self) -> str | None:
        """The digest of the callback that ended it."""

    @property
    def duplicate_possible(self) -> bool:
        """Whether an earlier send of it may have worked."""

    @property
    def follows(self) -> tuple[str, ...]:
        """The jobs that were sent to its segment before it."""


class Jobs(Protocol):
    """The part of the folded jobs that tells what was sent to a segment."""

    @property
    def records(self) -> Mapping[str, Sent]:
        """By a job's identifier, its record."""

    @property
    def last_sent(self) -> Mapping[str, str]:
        """By a key of a segment, the job that was sent to it last."""

    def known_as(self, keys: tuple[str, ...]) -> Iterator[str]:
        """Return *keys* and what else the same segments are known by."""


def _as_texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Held:
    """The members of a segment, as a callback confirmed them.

    Attributes:
        holds: Digests of the snapshots that are the members together.
        size: How many values they are.
        job: The job whose callback confirmed them.
        since_us: When it did.
        full_us: When all of them were last sent at once.
        before: How many they were before a creation or a replacement in parts that is not done; None where all is.
    """

    holds: tuple[str, ...] = attrs.field(converter=_as_texts)
    size: int
    job: str
    since_us: int
    full_us: int
    before: int | None = None


@attrs.frozen(kw_only=True)
class Step:
    """The announcement of one send.

    Attributes:
        job: The job that sends.
        op: Its operation.
        rows: The rows of its file.
        holds: Snapshots that are the members after it; empty where they stay unknown.
        size: How many values they are.
        before: As in `Held`, after it.
    """

    job: str
    op: str
    rows: int
    holds: tuple[str, ...] = attrs.field(default=(), converter=_as_texts)
    size: int = 0
    before: int | None = None

    @property
    def is_full(self) -> bool:
        """Return whether the members after it do not depend on those before."""
        return self.op in ("create", "replace")


@attrs.define
class Membership:
    """The membership of one segment.

    Attributes:
        generation: How often sends were announced.
        held: What was confirmed last; whether it holds still is asked of `Memberships.known`. None before the first.
        steps: The sends announced last, not confirmed yet, by job.
        history: The last syncs, oldest first.
    """

    generation: int = 0
    held: Held | None = None
    steps: dict[str, Step] = attrs.field(factory=dict)
    history: list[dict[str, Any]] = attrs.field(factory=list)


class Memberships:
    """The memberships of one journal, and who works on them.

    Attributes:
        of: By the segment's name.
        workers: By the segment's name: who syncs it, and until when that holds unless it is renewed.
    """

    def __init__(self) -> None:
        self.of: dict[str, Membership] = {}
        self.workers: dict[str, tuple[str, int]] = {}

    # Asking

    def known(self, name: str, jobs: Jobs) -> Held | None:
        """Return the members of a segment; None where they are unknown."""
        membership = self.of.get(name)
        if membership is None or membership.held is None:
            return None
        last = [jobs.last_sent[key] for key in jobs.known_as((name,)) if key in jobs.last_sent]
        return membership.held if last and _goes_back(last, membership.held.job, jobs) else None

    @staticmethod
    def is_matched_by(held: Held, jobs: Jobs, *, attribute_name: str, attribute_type: str) -> bool:
        """Return whether members were sent as values of an attribute: those of another one are no other members."""
        record = jobs.records.get(held.job)
        sent = {} if record is None else record.operation
        return sent.get("attribute_name", attribute_name) == attribute_name and (
            sent.get("attribute_type", attribute_type) == attribute_type
        )

    def worker(self, name: str, now_us: int) -> str | None:
        """Return who syncs a segment now; None for nobody."""
        owner, until_us = self.workers.get(name, ("", 0))
        return owner if now_us < until_us else None

    # Folding

    def fold(self, event: Event, at_us: int, jobs: Jobs) -> None:
        """Take in one event that the jobs have taken in already."""
        match event:
            case CallbackReceived():
                self._callback(event, at_us, jobs)
            case SyncHeld() | SyncReleased():
                for name in event.segments:
                    self._work(name, event, at_us)
            case MembershipPlanned():
                self._planned(event, at_us)
            case AudienceSynced(segment, facts):
                history = self.of.setdefault(segment, Membership()).history
                history.append({**facts, "at_us": at_us})
                del history[:-_HISTORY]
            case MembershipForgotten(segment):
                if segment in self.of:
                    self.of[segment].held = None
                    self.of[segment].steps.clear()
            case _:
                pass

    def _work(self, name: str, event: SyncHeld | SyncReleased, at_us: int) -> None:
        if isinstance(event, SyncHeld) and self.worker(name, at_us) in (None, event.owner):
            self.workers[name] = event.owner, at_us + event.for_us
        elif isinstance(event, SyncReleased) and self.workers.get(name, ("", 0))[0] == event.owner:
            del self.workers[name]

    def _planned(self, event: MembershipPlanned, at_us: int) -> None:
        if self.worker(event.segment, at_us) != event.owner:
            return  # somebody else works on it now
        membership = self.of.setdefault(event.segment, Membership())
        if event.generation == membership.generation + 1:
            membership.generation = event.generation
            membership.steps = {step.job: step for step in map(_step_of, event.steps)}

    def _callback(self, event: CallbackReceived, at_us: int, jobs: Jobs) -> None:
        record = jobs.records.get(event.job)
        name = None if record is None else record.operation.get("name")
        membership = self.of.get(str(name))
        if record is None or membership is None or event.job not in membership.steps:
            return
        if record.state not in (JobState.PROCESSED, JobState.FAILED) or record.digest != event.digest:
            return  # it cannot be read, or says something else than the one before it
        step, held = membership.steps.pop(event.job), membership.held
        if event.outcome != "processed" or event.values_found != step.rows or not step.holds:
            return  # what the service read is not what was sent
        if not _is_last(event.job, str(name), jobs):
            return
        if not step.is_full and (held is None or not _goes_back(record.follows, held.job, jobs)):
            return  # it changed something that is unknown
        full_us = at_us if step.is_full or held is None else held.full_us
        membership.held = Held(
            holds=step.holds, size=step.size, job=event.job, since_us=at_us, full_us=full_us, before=step.before
        )


def _is_last(job: str, name: str, jobs: Jobs) -> bool:
    return all(jobs.last_sent.get(key, job) == job for key in jobs.known_as((name,)))


def _goes_back(sent: list[str] | tuple[str, ...], confirmed: str, jobs: Jobs) -> bool:
    """Return whether nothing that may have changed a segment was sent after *confirmed*, from the last sends back."""
    rest, seen = list(sent), set[str]()
    while rest:
        job = rest.pop()
        if job == confirmed:
            continue
        record = jobs.records.get(job)
        if record is None or job in seen or record.state not in _HARMLESS or record.duplicate_possible:
            return False
        if not record.follows:
            return False
        seen.add(job)
        rest.extend(record.follows)
    return bool(sent)


def _step_of(fields: Mapping[str, Any]) -> Step:
    return Step(**fields)


# Checkpoints


def taken(memberships: Memberships) -> list[list[Any]]:
    """Return the memberships as data for JSON."""
    return [[name, attrs.asdict(each)] for name, each in memberships.of.items()]


def restore(memberships: Memberships, items: list[list[Any]]) -> None:
    """Take in what `taken` returned."""
    for name, fields in items:
        steps = {job: _step_of(step) for job, step in fields.pop("steps").items()}
        held = fields.pop("held")
        memberships.of[name] = Membership(steps=steps, held=held and Held(**held), **fields)
