"""What an outbox promises: changes that it took are durable, the last word on a value wins, nothing is lost.

A change of a value takes the place of the earlier one, under a new number. Numbers of a segment grow with the order in
which changes became durable. So a batch is named by a number: what changed meanwhile has a later one, and stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from moe_segments.audiences.protocol import Client as AudienceClient
from moe_segments.core.audiences.backlog import Backlog, Batch
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from moe_segments.core.audiences.backlog import Pace
    from moe_segments.models import FilterOperation, Operation
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["Change", "Client", "Declared", "Outbox", "backlog_of", "check_declared", "check_matched"]

_COLUMNS: Final = tuple(field.name for field in attrs.fields(Backlog))[:-2]  # without batch and kind


class Client(AudienceClient, Protocol):
    """The part of the client that sends batches."""

    async def submit(
        self,
        operation: Operation | FilterOperation,
        *,
        max_wait_s: float = 0.0,
        job_id: str | None = None,
        preflight: Preflight | None = None,
    ) -> object:
        """Submit an operation under an identifier of the caller's own."""


@attrs.frozen(kw_only=True)
class Declared:
    """A segment whose membership changes, as the client declared it.

    Attributes:
        name: Its name.
        attribute_name: The user attribute that values are matched against.
        attribute_type: "string" or "double".
        expiry_time: Days until the service archives it; None: it is not created.
        max_age_s: How stale it may get, seconds; None: as stale as the quotas make it.
        priority: How urgent its changes are.
    """

    name: str
    attribute_name: str
    attribute_type: str
    expiry_time: int | None
    max_age_s: float | None
    priority: int


@attrs.frozen(kw_only=True)
class Change:
    """Values of one segment that are added or removed together.

    Attributes:
        segment: What the outbox calls it.
        adds: Whether they are added.
        values: The values. Never shown.
        matched: Name and type of the attribute that they are matched against; None: whatever the segment's is.
    """

    segment: int
    adds: bool
    values: Sequence[str] = attrs.field(repr=False)
    matched: tuple[str, str] | None = None


def check_declared(segment: Declared, found: Sequence[Any] | None) -> None:
    """Let a segment be declared, unless that would match values that wait against another attribute.

    Args:
        segment: The declaration.
        found: Attribute's name and type of the one before, and how many changes wait; None where there is none.

    Raises:
        InputError: It would.
    """
    if found is None:
        return
    name, kind, waiting = found
    if waiting and (name, kind) != (segment.attribute_name, segment.attribute_type):
        raise InputError(
            f"{segment.name!r} has {waiting:,} changes that are matched against {name!r} ({kind}): "
            "wait until they are flushed, or delete them with forget_audience",
            "attribute_name",
        )


def check_matched(change: Change, found: tuple[str, str]) -> None:
    """Let a change be written, unless another process has declared its segment for another attribute meanwhile.

    Raises:
        InputError: It has.
    """
    if change.matched not in (None, found):
        name, kind = found
        raise InputError(
            f"the segment is matched against {name!r} ({kind}) by another process now; nothing was written",
            "attribute_name",
        )


def backlog_of(row: Sequence[Any]) -> Backlog:
    """Return the backlog of a segment from a row of an outbox: its fields in order, then those of its batch."""
    *fields, job, job_adds, job_up_to, job_last = row
    batch = None if job is None else Batch(job=job, adds=bool(job_adds), up_to=job_up_to, last_value=job_last)
    named = dict(zip(_COLUMNS, fields, strict=True))
    return Backlog(**named, batch=batch, added_last=bool(job_adds))


class Outbox(Protocol):
    """A durable place for membership changes of one workspace. Every method raises `OutboxError` when it fails."""

    async def open(self) -> None:
        """Make or open it."""

    async def close(self) -> None:
        """Let go of it. Idempotent."""

    async def is_there(self) -> bool:
        """Return whether it was made before. Makes nothing."""

    async def declare(self, segment: Declared) -> int:
        """Write down how a segment is flushed. Returns what the outbox calls it.

        Raises:
            InputError: Changes wait that are matched against another attribute.
        """

    async def write(self, changes: Sequence[Change], now_us: int) -> Mapping[int, int]:
        """Write changes, in order, durably and all or none. Returns the last number of each segment.

        Raises:
            InputError: A change is matched against another attribute than its segment.
        """

    async def backlogs(self) -> Sequence[Backlog]:
        """Return the backlog of every segment, those without changes included."""

    async def values(self, segment: int, *, adds: bool, up_to: int, after: str, most: int) -> list[str]:
        """Return values of one kind, in the order of their bytes, that come after *after*."""

    async def begin(self, segment: int, batch: Batch) -> None:
        """Write down that a batch is about to be sent."""

    async def end(self, segment: int, batch: Batch, *, is_applied: bool) -> None:
        """Take an applied batch out of the backlog; leave one that is not, to be sent again."""

    async def discard(
        self, segment: int, up_to: int, *, adds: bool | None = None, values: Collection[str] | None = None
    ) -> None:
        """Delete changes up to a number: of one kind or both, of some values or all."""

    async def forget(self, name: str) -> None:
        """Delete all changes of a segment, and what was sent of them."""

    async def pace(self) -> Pace:
        """Return the pace that all processes share."""

    async def keep_pace(self, pace: Pace) -> None:
        """Write the pace down."""
