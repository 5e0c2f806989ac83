"""The documented API as a model: segments, quotas and files of one workspace. No I/O; the clock is injected.

It counts in its own way, with plain lists of moments, and knows nothing of the client's ledger, so that each
checks the other. Moments are seconds on the injected clock, lengths are seconds.

Where the documents are silent: a request is looked at in the order 400, 413, 404, 403, 409, 412, 429; an unarchived
segment does not expire again; a file for an archived segment is a 400, one for a segment of filters a 404, as is a
filter that refers to no segment; archiving what is archived and unarchiving what is active are accepted; a v3 call
spends its quota when it succeeds, a rejected one where `count_rejected` says so; a segment is used by each file, update
and unarchive, and by `run`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.limits import DOCUMENTED, QuotaLimits
from moe_segments.models import FileFailed, FileProcessed
from moe_segments.sandbox.model.filters import Complexity
from moe_segments.sandbox.model.history import History, newest
from moe_segments.sandbox.model.quotas import CallLimits, Quotas
from moe_segments.sandbox.model.records import (
    CREATED,
    Ask,
    Delivery,
    FilterAsk,
    Kind,
    Op,
    Refusal,
    RequestRecord,
    Rows,
    SandboxSegment,
    Submission,
)
from moe_segments.sandbox.model.refusals import not_found, refuse_active, refuse_definition, refuse_target
from moe_segments.sandbox.model.registry import IDLE_DAYS, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from moe_segments.sandbox.model.windows import Window

__all__ = ["REJECTIONS", "Workspace"]

REJECTIONS: Final = frozenset({400, 401, 403, 404, 409, 412, 413, 429})
MAX_SEGMENT_USERS: Final = DOCUMENTED["file_segment_users"].figure


class Workspace:
    """The state of one workspace.

    Args:
        clock: Seconds; the workspace never lets it run backwards.
        limits: The quotas, with windows already scaled; guard, headroom and margins are the client's affair.
        directory: The users the workspace knows, matched as text; None: it knows every usable value.
        seed: Of the identifiers; the same seed gives the same ones.
        count_rejected: Whether rejected requests spend what an accepted one would: all, none, or by status.
        segment_users: Most users in one file segment.
        call_limits: The quotas of v3 calls; None: those of *limits*.
        complexity: What the definition of a filter segment may be at most.
        idle_days: Days after which a segment that nobody used is archived; None: it stays.
        history: How many requests, counted moments, submissions and deliveries are remembered.

    Attributes:
        limits: The quotas.
        complexity: What the definition of a filter segment may be at most.
        external_active: Active segments made elsewhere, such as in the dashboard; settable.
        history: What happened, and how often.
        on_change: Called after each change of a segment or of what is spent by a file operation; settable.
    """

    limits: QuotaLimits
    complexity: Complexity
    history: History

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        limits: QuotaLimits | None = None,
        directory: Iterable[str] | None = None,
        seed: int = 0,
        count_rejected: bool | Collection[int] = False,
        segment_users: int = MAX_SEGMENT_USERS,
        call_limits: CallLimits | None = None,
        complexity: Complexity | None = None,
        idle_days: int | None = IDLE_DAYS,
        history: int = 100_000,
    ) -> None:
        self.limits = limits or QuotaLimits()
        self.on_change: Callable[[], None] = lambda: None
        self.complexity = complexity or Complexity()
        self._clock, self._now = clock, clock()
        self._directory = None if directory is None else frozenset(directory)
        self._random = random.Random(f"{seed} identifiers")  # noqa: S311 - repeatable, nothing is secret
        if isinstance(count_rejected, bool):
            count_rejected = REJECTIONS if count_rejected else ()
        self._segment_users = segment_users
        self._count_rejected = frozenset(count_rejected)
        self._call_limits, self._idle_days, self._most_remembered = (
            call_limits or CallLimits.of(self.limits),
            idle_days,
            history,
        )
        self.reset()

    def reset(self) -> None:
        """Forget every segment, request, file and count. Time goes on, and identifiers stay unique."""
        self.external_active = 0
        self._quotas = Quotas(self.limits, self._call_limits)
        self._registry = Registry(self.limits.expiry_day_s, idle_days=self._idle_days)
        self.history = History(self._most_remembered)
        self.on_change()

    def restore(self, segments: Iterable[SandboxSegment], spent: Mapping[str, Iterable[tuple[float, int]]]) -> None:
        """Take in segments that were there before, and what was spent.

        Args:
            segments: The segments, archived ones among them.
            spent: By the name of a limit: when something was spent, epoch seconds, and how much.
        """
        self._random.seed(f"{self._now} identifiers")  # others than those that were given
        for segment in segments:
            self._registry.add(segment)
            if segment.archived_at is not None:
                self._registry.archive(segment, segment.archived_at)
        for name, window in self.windows().items():
            for at, amount in spent.get(name, ()):
                window.spend(at, amount)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests so far, oldest first."""
        return tuple(self.history.requests)

    @property
    def counted(self) -> tuple[float, ...]:
        """The moments at which a file-segment operation was counted, oldest first."""
        return tuple(self.history.counted)

    @property
    def submissions(self) -> tuple[Submission, ...]:
        """The accepted file operations, oldest first."""
        return tuple(self.history.submissions)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The attempts to deliver a callback, oldest first."""
        return tuple(self.history.deliveries)

    @property
    def rejections(self) -> int:
        """Return how many requests were answered 429 by a quota."""
        return self.history.rejections

    @property
    def segments(self) -> tuple[SandboxSegment, ...]:
        """Every segment ever created, archived ones included, oldest first."""
        self.now()
        return tuple(self._registry)

    def newest_segments(self, most: int) -> list[SandboxSegment]:
        """Return the segments created last, newest first.

        Args:
            most: At most so many.

        Returns:
            The segments.
        """
        self.now()
        return newest(self._registry, most)

    def now(self) -> float:
        """Return the moment, after archiving what has expired or lay idle by then.

        Returns:
            Seconds, on the sandbox's clock.
        """
        self._now = max(self._now, self._clock())
        self._registry.age(self._now)
        return self._now

    def usage(self) -> dict[str, int]:
        """Return what counts now, by the names of `limits.LIMIT_NAMES`.

        Returns:
            How much of each limit is used.
        """
        now = self.now()
        return {
            "operations_per_hour": self._quotas.hour.used(now),
            "operations_per_day": self._quotas.day.used(now),
            "users_per_day": self._quotas.users.used(now),
            "active_segments": self._registry.active + self.external_active,
        }

    def totals(self) -> dict[str, int]:
        """Return how many segments, requests, operations and callbacks there were.

        Returns:
            A number for each.
        """
        self.now()
        segments = {"segments": len(self._registry), "active_segments": self._registry.active}
        return segments | self.history.totals()

    def windows(self) -> dict[str, Window]:
        """Return the windows of all quotas, by the name of their limit.

        Returns:
            The windows.
        """
        return self._quotas.windows()

    def spend_elsewhere(self, *, operations: int = 0, users: int = 0) -> None:
        """Spend quota as somebody else would, such as a colleague in the dashboard.

        Args:
            operations: File-segment operations.
            users: Users uploaded.
        """
        now = self.now()
        for _ in range(operations):
            self._quotas.count_operation(now)
        if users:
            self._quotas.users.spend(now, users)

    def find(self, name: str | None, cs_id: str | None = None) -> SandboxSegment | None:
        """Return the segment, archived or not; *cs_id* wins over *name* where both are given.

        Args:
            name: Its name; None where only *cs_id* is given.
            cs_id: Its identifier.

        Returns:
            The segment; None where there is none.
        """
        self.now()
        return self._registry.find(name, cs_id)

    def run(self, name: str) -> None:
        """Use an active segment, as a campaign would: the days until it is archived as idle begin anew.

        Args:
            name: Its name.
        """
        found = self.find(name)
        if found is not None and found.is_active:
            found.ran_at = self._now

    def submit(self, ask: Ask) -> Submission | Refusal:
        """Accept a file operation and count it, or say why not; nothing changes then.

        Args:
            ask: What was asked for.

        Returns:
            The accepted operation, or why it was refused.
        """
        now = self.now()
        found = self.find(ask.name, ask.cs_id)
        counts = self._quotas.spends_operation(ask.op)
        refusal = refuse_target(self._registry, ask, found) or (self._quotas.refuse_operation(now) if counts else None)
        if refusal is None and ask.op is Op.CREATE:
            refusal = self._refuse_active()
        if refusal is not None:
            return refusal
        segment = found or self._create(ask, now)
        segment.updated_at = segment.ran_at = now
        if counts:
            self._count(now)
        submission = Submission(
            request_id=f"{self._random.getrandbits(128):032x}",
            ask=ask,
            segment=segment,
            accepted_at=now,
            counted=counts,
        )
        self.history.accepted(submission)
        self.on_change()
        return submission

    def archive(self, name: str, cs_id: str | None = None) -> SandboxSegment | Refusal:
        """Archive a segment, which frees one active segment.

        Args:
            name: Its name.
            cs_id: Its identifier; it wins over *name*.

        Returns:
            The segment, or why it was refused.
        """
        segment = self.find(name, cs_id)
        if segment is None:
            return not_found(name, cs_id)
        if segment.is_active:
            self._registry.archive(segment, self._now)
            self.on_change()
        return segment

    def unarchive(self, name: str, cs_id: str | None = None) -> SandboxSegment | Refusal:
        """Make an archived segment active again, if the limit of active segments allows.

        Args:
            name: Its name.
            cs_id: Its identifier; it wins over *name*.

        Returns:
            The segment, or why it was refused.
        """
        segment = self.find(name, cs_id)
        if segment is None:
            return not_found(name, cs_id)
        if segment.is_active:
            return segment
        if refusal := self._refuse_active():
            return refusal
        self._registry.unarchive(segment, self._now)
        self.on_change()
        return segment

    def create_filter(self, ask: FilterAsk) -> SandboxSegment | Refusal:
        """Create a filter segment, or say why not; nothing changes then.

        Args:
            ask: What was asked for.

        Returns:
            The segment, or why it was refused.
        """
        now = self.now()
        assert ask.name is not None, "a create without a name is refused as malformed"
        refusal = (
            refuse_definition(self._registry, ask)
            or self._quotas.refuse_call("create_filter", now)
            or self._refuse_active()
        )
        if refusal is not None:
            return refusal
        self._quotas.count_call("create_filter", now)
        segment = SandboxSegment(
            id=self._new_id(), name=ask.name, kind=Kind.FILTER, created_at=now, definition=ask.definition
        )
        self._registry.add(segment)
        return segment

    def update_filter(self, cs_id: str, ask: FilterAsk) -> SandboxSegment | Refusal:
        """Give an active filter segment another definition and, where asked, another name.

        Args:
            cs_id: Its identifier.
            ask: What was asked for.

        Returns:
            The segment, or why it was refused.

        Raises:
            TooComplex: It is, together with those that it leaves out already.
        """
        now = self.now()
        segment = self.find(None, cs_id)
        if segment is None:
            return Refusal(status=404, title="Entity Not Found", description=f"No segment has the id {cs_id!r}.")
        if segment.kind is Kind.FILE or not segment.is_active:
            text = f"The segment {segment.name!r} is {'of a file' if segment.is_active else 'archived'}: not updated."
            return Refusal(status=403, title="Forbidden operation", description=text)
        if ask.keeps_excluded and segment.definition is not None:
            ask = attrs.evolve(ask, definition=ask.definition.leaving_out_as(segment.definition, self.complexity))
        refusal = (
            refuse_definition(self._registry, ask, segment)
            or self._quotas.refuse_call("update_filter", now)
            or self._refuse_active(taken=0)
        )
        if refusal is not None:
            return refusal
        self._quotas.count_call("update_filter", now)
        self._registry.redefine(segment, ask.name, ask.definition, now)
        return segment

    def listed(self, name: str | None = None) -> tuple[SandboxSegment, ...] | Refusal:
        """Return the segments, or the one of exactly this name; those archived for 180 days are left out.

        Args:
            name: The exact name; None for all.

        Returns:
            The segments, or why the call was refused.
        """
        if refusal := self._refuse_read("list"):
            return refusal
        named = self._registry if name is None else [self._registry.find(name)]
        return tuple(each for each in named if each is not None and self._registry.is_listed(each, self._now))

    def get(self, cs_id: str) -> SandboxSegment | Refusal | None:
        """Return the segment of this identifier, or None.

        Args:
            cs_id: Its identifier.

        Returns:
            The segment; None where there is none, or why the call was refused.
        """
        if refusal := self._refuse_read("get"):
            return refusal
        segment = self._registry.find(None, cs_id)
        return segment if segment is not None and self._registry.is_listed(segment, self._now) else None

    def process(self, submission: Submission, rows: Rows) -> FileProcessed | FileFailed:
        """Apply a file to its segment, or fail it: then no membership changes and no users are spent.

        Args:
            submission: The accepted operation.
            rows: What its file holds.

        Returns:
            What its callback says.
        """
        now, ask, segment = self.now(), submission.ask, submission.segment
        counts, users = self._quotas.spends_users(ask.op), self._quotas.users
        if counts and not users.fits(now, rows.found):
            used, capacity = users.used(now), users.capacity
            return self.fail(
                submission,
                400,
                f"{rows.found} users are too many: {used} of {capacity} a day are used. No user was changed.",
            )
        known = rows.values if self._directory is None else rows.values & self._directory
        if self._size_after(ask.op, segment, known) > self._segment_users:
            return self.fail(submission, 400, f"A file segment holds {self._segment_users} users. No user was changed.")
        _change(ask.op, segment, known)
        if counts:
            users.spend(now, rows.found)
        processed = FileProcessed(
            segment_name=segment.name,
            request_id=submission.request_id,
            status=CREATED,
            values_found=rows.found,
            values_processed=len(rows.values),
            user_count=len(known),
            db_name=ask.db_name,
        )
        self.history.finished(submission, processed, now)
        self.on_change()
        return processed

    def fail(self, submission: Submission, status: int, error_message: str) -> FileFailed:
        """End a file operation as failed, with the status (400 or 500) and text of its callback.

        Args:
            submission: The accepted operation.
            status: 400 or 500.
            error_message: The text of the callback.

        Returns:
            What its callback says.
        """
        failed = FileFailed(
            segment_name=submission.segment.name,
            request_id=submission.request_id,
            status=status,
            error_message=error_message,
            db_name=submission.ask.db_name,
        )
        self.history.finished(submission, failed, self.now())
        return failed

    def rejected(self, status: int, call: str | None = None) -> bool:
        """Count a rejected request if this workspace counts such; says whether it did.

        Args:
            status: With which it was rejected.
            call: Whose v3 quota it would have spent; None: a file operation.

        Returns:
            Whether it was counted.
        """
        counts = status in self._count_rejected
        if counts and call is None:
            self._count(self.now())
        elif counts and call is not None:
            self._quotas.count_call(call, self.now())
        return counts

    def remember(self, record: RequestRecord | Delivery) -> None:
        """Put a request or a delivery on record.

        Args:
            record: The request or the delivery.
        """
        if isinstance(record, Delivery):
            self.history.delivery(record)
        else:
            self.history.request(record)

    def _count(self, now: float) -> None:
        self._quotas.count_operation(now)
        self.history.counted.append(now)

    def _refuse_active(self, *, taken: int = 1) -> Refusal | None:
        active = self._registry.active + self.external_active
        return refuse_active(active, self.limits.active_segments, taken=taken)

    def _refuse_read(self, op: str) -> Refusal | None:
        now = self.now()
        refusal = self._quotas.refuse_call(op, now)
        if refusal is None:
            self._quotas.count_call(op, now)
        return refusal

    def _create(self, ask: Ask, now: float) -> SandboxSegment:
        assert ask.expiry_days is not None, "a create without expiry_time is refused as malformed"
        expires_at = now + ask.expiry_days * self.limits.expiry_day_s
        segment = SandboxSegment(id=self._new_id(), name=ask.name, created_at=now, expires_at=expires_at)
        self._registry.add(segment)
        return segment

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(96):024x}"

    def _size_after(self, op: Op, segment: SandboxSegment, known: frozenset[str]) -> int:
        return len(segment.members | known) if op is Op.ADD else len(known)


def _change(op: Op, segment: SandboxSegment, known: frozenset[str]) -> None:
    match op:
        case Op.CREATE | Op.REPLACE:
            segment.members = set(known)
        case Op.ADD:
            segment.members |= known
        case Op.REMOVE:
            segment.members -= known
