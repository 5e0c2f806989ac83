"""The documented API as a model: segments, quotas and files of one workspace. No I/O; the clock is injected.

It counts in its own way, with plain lists of moments, and knows nothing of the client's ledger, so that each
checks the other. Moments are seconds on the injected clock, lengths are seconds.

Where the documents are silent: a request is looked at in the order 400, 404, 409, 429; an unarchived segment
stays active until it is archived again; a file for an archived segment is a 400; archiving what is
archived and unarchiving what is active are accepted.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from moe_segments.limits import DOCUMENTED, QuotaLimits
from moe_segments.models import FileFailed, FileProcessed
from moe_segments.sandbox.records import (
    CREATED,
    Ask,
    Delivery,
    Op,
    Refusal,
    RequestRecord,
    Rows,
    SandboxSegment,
    Submission,
)
from moe_segments.sandbox.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["REJECTIONS", "Workspace"]

REJECTIONS: Final = frozenset({400, 401, 404, 409, 429})
MAX_SEGMENT_USERS: Final = DOCUMENTED["file_segment_users"].figure
_MINUTE_S: Final = 60.0
# https://moengage.com/docs/api/filter-segments/list-segments and …/get-segment-by-id: minute, hour, day
_READS: Final = {"list": (DOCUMENTED["list_per_minute"].figure, 200, 1_000), "get": (100, 1_000, 4_000)}
_MEMBERS_KEPT_DAYS: Final = 30  # an archived file segment loses its users after this
_LISTED_DAYS: Final = 180  # an archived segment is no longer listed after this


class Workspace:
    """Everything the service would remember of one workspace.

    Args:
        clock: Seconds; the workspace never lets it run backwards.
        limits: The quotas, with windows already scaled; guard, headroom and margins are the client's affair.
        directory: The users the workspace knows, matched as text; None: it knows every usable value.
        seed: Of the identifiers; the same seed gives the same ones.
        count_rejected: Whether rejected file requests spend an operation: all, none, or by status.
        segment_users: Most users in one file segment.
        history: How many requests, counted moments, submissions and deliveries are remembered.

    Attributes:
        limits: The quotas.
        external_active: Active segments made elsewhere, such as in the dashboard; settable.
        rejections: How many requests were answered 429.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        limits: QuotaLimits | None = None,
        directory: Iterable[str] | None = None,
        seed: int = 0,
        count_rejected: bool | Collection[int] = False,
        segment_users: int = MAX_SEGMENT_USERS,
        history: int = 100_000,
    ) -> None:
        self.limits = limits or QuotaLimits()
        self.external_active = 0
        self.rejections = 0
        self._clock, self._now = clock, clock()
        self._directory = None if directory is None else frozenset(directory)
        self._random = random.Random(f"{seed} identifiers")  # noqa: S311 - repeatable, nothing is secret
        if isinstance(count_rejected, bool):
            count_rejected = REJECTIONS if count_rejected else ()
        self._segment_users = segment_users
        self._count_rejected = frozenset(count_rejected)
        self._hour = Window(self.limits.operations_per_hour, self.limits.hour_s)
        self._day = Window(self.limits.operations_per_day, self.limits.day_s)
        self._users = Window(self.limits.users_per_day, self.limits.day_s)
        self._reads = {op: self._read_windows(*figures) for op, figures in _READS.items()}
        self._by_name: dict[str, SandboxSegment] = {}
        self._by_id: dict[str, SandboxSegment] = {}
        self._active = 0
        self._expiries: list[tuple[float, str]] = []
        self._requests: deque[RequestRecord] = deque(maxlen=history)
        self._counted: deque[float] = deque(maxlen=history)
        self._submissions: deque[Submission] = deque(maxlen=history)
        self._deliveries: deque[Delivery] = deque(maxlen=history)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The requests so far, oldest first."""
        return tuple(self._requests)

    @property
    def counted(self) -> tuple[float, ...]:
        """The moments at which a file-segment operation was counted, oldest first."""
        return tuple(self._counted)

    @property
    def submissions(self) -> tuple[Submission, ...]:
        """The accepted file operations, oldest first."""
        return tuple(self._submissions)

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The attempts to deliver a callback, oldest first."""
        return tuple(self._deliveries)

    @property
    def segments(self) -> tuple[SandboxSegment, ...]:
        """Every segment ever created, archived ones included, oldest first."""
        self.now()
        return tuple(self._by_id.values())

    def now(self) -> float:
        """The moment, after archiving what has expired by then."""
        self._now = max(self._now, self._clock())
        while self._expiries and self._expiries[0][0] <= self._now:
            expires_at, cs_id = heapq.heappop(self._expiries)
            segment = self._by_id[cs_id]
            if segment.is_active and segment.expires_at == expires_at:
                self._archive(segment, expires_at)
        return self._now

    def usage(self) -> dict[str, int]:
        """What counts now, by the names of `limits.LIMIT_NAMES`."""
        now = self.now()
        return {
            "operations_per_hour": self._hour.used(now),
            "operations_per_day": self._day.used(now),
            "users_per_day": self._users.used(now),
            "active_segments": self._active + self.external_active,
        }

    def spend_elsewhere(self, *, operations: int = 0, users: int = 0) -> None:
        """Spend quota as somebody else would, such as a colleague in the dashboard."""
        now = self.now()
        for _ in range(operations):
            self._hour.spend(now)
            self._day.spend(now)
        if users:
            self._users.spend(now, users)

    def find(self, name: str | None, cs_id: str | None = None) -> SandboxSegment | None:
        """The segment, archived or not; *cs_id* wins over *name* where both are given."""
        self.now()
        return self._by_id.get(cs_id) if cs_id else self._by_name.get(name or "")

    def submit(self, ask: Ask) -> Submission | Refusal:
        """Accept a file operation and count it, or say why not; nothing changes then."""
        now = self.now()
        found = self.find(ask.name, ask.cs_id)
        counts = self._counts_operation(ask.op)
        refusal = self._refuse_target(ask, found) or (self._refuse_operation(now) if counts else None)
        if refusal is None and ask.op is Op.CREATE:
            refusal = self._refuse_active()
        if refusal is not None:
            return refusal
        segment = found or self._create(ask, now)
        if counts:
            self._count(now)
        submission = Submission(
            request_id=f"{self._random.getrandbits(128):032x}",
            ask=ask,
            segment=segment,
            accepted_at=now,
            counted=counts,
        )
        self._submissions.append(submission)
        return submission

    def archive(self, name: str, cs_id: str | None = None) -> SandboxSegment | Refusal:
        """Archive a segment, which frees one active segment."""
        segment = self.find(name, cs_id)
        if segment is None:
            return _not_found(name, cs_id)
        if segment.is_active:
            self._archive(segment, self._now)
        return segment

    def unarchive(self, name: str, cs_id: str | None = None) -> SandboxSegment | Refusal:
        """Make an archived segment active again, if the limit of active segments allows."""
        segment = self.find(name, cs_id)
        if segment is None:
            return _not_found(name, cs_id)
        if segment.archived_at is None:
            return segment
        if refusal := self._refuse_active():
            return refusal
        if segment.archived_at + self._days(_MEMBERS_KEPT_DAYS) <= self._now:
            segment.members.clear()
        segment.archived_at = segment.expires_at = None
        self._active += 1
        return segment

    def listed(self, name: str | None = None) -> tuple[SandboxSegment, ...] | Refusal:
        """The segments, or the one of exactly this name; those archived for 180 days are left out."""
        if refusal := self._refuse_read("list"):
            return refusal
        named = self._by_id.values() if name is None else [self._by_name.get(name)]
        return tuple(segment for segment in named if segment is not None and self._is_listed(segment))

    def get(self, cs_id: str) -> SandboxSegment | Refusal | None:
        """The segment of this identifier, or None."""
        if refusal := self._refuse_read("get"):
            return refusal
        segment = self._by_id.get(cs_id)
        return segment if segment is not None and self._is_listed(segment) else None

    def process(self, submission: Submission, rows: Rows) -> FileProcessed | FileFailed:
        """Apply a file to its segment, or fail it: then no membership changes and no users are spent."""
        now, ask, segment = self.now(), submission.ask, submission.segment
        counts = self._counts_users(ask.op)
        if counts and not self._users.fits(now, rows.found):
            used, capacity = self._users.used(now), self._users.capacity
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
            self._users.spend(now, rows.found)
        processed = FileProcessed(
            segment_name=segment.name,
            request_id=submission.request_id,
            status=CREATED,
            values_found=rows.found,
            values_processed=len(rows.values),
            user_count=len(known),
            db_name=ask.db_name,
        )
        submission.result, submission.finished_at = processed, now
        return processed

    def fail(self, submission: Submission, status: int, error_message: str) -> FileFailed:
        """End a file operation as failed, with the status (400 or 500) and text of its callback."""
        failed = FileFailed(
            segment_name=submission.segment.name,
            request_id=submission.request_id,
            status=status,
            error_message=error_message,
            db_name=submission.ask.db_name,
        )
        submission.result, submission.finished_at = failed, self.now()
        return failed

    def rejected(self, status: int) -> bool:
        """Count a rejected file request if this workspace counts such; says whether it did."""
        counts = status in self._count_rejected
        if counts:
            self._count(self.now())
        return counts

    def remember(self, record: RequestRecord | Delivery) -> None:
        """Put a request or a delivery on record."""
        if isinstance(record, Delivery):
            self._deliveries.append(record)
            return
        self._requests.append(record)
        self.rejections += record.limit is not None

    def _count(self, now: float) -> None:
        self._hour.spend(now)
        self._day.spend(now)
        self._counted.append(now)

    def _counts_operation(self, op: Op) -> bool:
        switch = {
            Op.REMOVE: self.limits.remove_counts_operation,
            Op.REPLACE: self.limits.replace_counts_operation,
        }
        return switch.get(op, True)

    def _counts_users(self, op: Op) -> bool:
        switch = {Op.REMOVE: self.limits.remove_counts_users, Op.REPLACE: self.limits.replace_counts_users}
        return switch.get(op, True)

    def _read_windows(self, minute: int, hour: int, day: int) -> tuple[Window, ...]:
        lengths_s = (_MINUTE_S / self.limits.scale, self.limits.hour_s, self.limits.day_s)
        return tuple(Window(figure, length_s) for figure, length_s in zip((minute, hour, day), lengths_s, strict=True))

    def _refuse_target(self, ask: Ask, found: SandboxSegment | None) -> Refusal | None:
        if ask.op is Op.CREATE:
            if ask.name not in self._by_name:
                return None
            return Refusal(status=409, title="Resource not created", description=f"{ask.name!r} is a name in use.")
        if found is None:
            return _not_found(ask.name, ask.cs_id)
        if not found.is_active:
            text = "The segment is archived: unarchive it first."
            return Refusal(status=400, title="Invalid Request", description=text)
        return None

    def _refuse_operation(self, now: float) -> Refusal | None:
        windows = {"operations_per_hour": self._hour, "operations_per_day": self._day}
        for limit, window in windows.items():
            if not window.fits(now):
                return _too_many(limit, window, now)
        return None

    def _refuse_active(self) -> Refusal | None:
        active, capacity = self._active + self.external_active, self.limits.active_segments
        if active < capacity:
            return None
        return Refusal(
            status=429,
            title="Too Many Requests",
            description=f"{active} segments are active and {capacity} may be: archive one first.",
            limit="active_segments",
            used=active,
            capacity=capacity,
        )

    def _refuse_read(self, op: str) -> Refusal | None:
        now = self.now()
        for name, window in zip(("minute", "hour", "day"), self._reads[op], strict=True):
            if not window.fits(now):
                return _too_many(f"{op}_per_{name}", window, now)
        for window in self._reads[op]:
            window.spend(now)
        return None

    def _create(self, ask: Ask, now: float) -> SandboxSegment:
        assert ask.expiry_days is not None, "a create without expiry_time is refused as malformed"
        segment = SandboxSegment(
            id=f"{self._random.getrandbits(96):024x}",
            name=ask.name,
            created_at=now,
            expires_at=now + self._days(ask.expiry_days),
        )
        self._by_name[segment.name] = self._by_id[segment.id] = segment
        assert segment.expires_at is not None
        heapq.heappush(self._expiries, (segment.expires_at, segment.id))
        self._active += 1
        return segment

    def _archive(self, segment: SandboxSegment, at: float) -> None:
        segment.archived_at = at
        self._active -= 1

    def _days(self, days: int) -> float:
        return days * self.limits.expiry_day_s

    def _is_listed(self, segment: SandboxSegment) -> bool:
        return segment.archived_at is None or segment.archived_at + self._days(_LISTED_DAYS) > self._now

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


def _not_found(name: str, cs_id: str | None) -> Refusal:
    what = f"cs_id {cs_id!r}" if cs_id else f"name {name!r}"
    return Refusal(status=404, title="Entity Not Found", description=f"No segment has the {what}.")


def _too_many(limit: str, window: Window, now: float) -> Refusal:
    used, capacity = window.used(now), window.capacity
    return Refusal(
        status=429,
        title="Too Many Requests",
        description=f"{limit}: {used} of {capacity} are used.",
        limit=limit,
        retry_after_s=window.wait_s(now),
        used=used,
        capacity=capacity,
    )
