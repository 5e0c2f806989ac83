"""Say before a flush what its segment holds after it, so that it does not become unknown to `sync`.

Only for a segment whose members a sync has confirmed: no snapshot is made for one that is never synced. The snapshot
becomes current when the callback of the flush says *processed*, as that of a sync does (`core.audiences.memberships`).
Whatever goes wrong here stops no flush: then the members are unknown, and the next mirror replaces them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import attrs

from moe_segments.audiences.sorted_file import SortedFile
from moe_segments.core.audiences.memberships import Step
from moe_segments.core.audiences.streams import compared, merged
from moe_segments.core.events import MembershipPlanned
from moe_segments.errors import MoeSegmentsError
from moe_segments.files.stream import in_thread

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from moe_segments.core.audiences.backlog import Backlog
    from moe_segments.core.audiences.memberships import Held
    from moe_segments.core.audiences.streams import Block
    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal.replica import Replica

__all__ = ["Advance", "Snapshots"]

_log = logging.getLogger("moe_segments.membership")


class Snapshots(Protocol):
    """The part of the snapshots that a flush needs. Each call takes long: make it in a thread."""

    def write(self, segment: str, blocks: Iterable[Block]) -> tuple[str, int]:
        """Write a snapshot and return its digest and how many values it has."""

    def read(self, segment: str, digest: str) -> Iterator[Block]:
        """Yield a snapshot's values."""

    def keep_only(self, segment: str, digests: Collection[str]) -> None:
        """Delete the other snapshots of a segment."""


def _held(state: WorkspaceState, backlog: Backlog) -> Held | None:
    """Return what a segment holds, as values of the same attribute; None where that is unknown."""
    held = state.memberships.known(backlog.name, state.jobs)
    kind = {"attribute_name": backlog.attribute_name, "attribute_type": backlog.attribute_type}
    return held if held is not None and state.memberships.is_matched_by(held, state.jobs, **kind) else None


class Advance:
    """The announcement of what a segment holds after one flush.

    Args:
        replica: The journal.
        snapshots: Where they are; None for nowhere.
        owner: Who has the right to the segment, see `Lease`.
        backlog: The segment's.
    """

    def __init__(self, replica: Replica, snapshots: Snapshots | None, *, owner: str, backlog: Backlog) -> None:
        self._replica, self._snapshots, self._owner, self._name = replica, snapshots, owner, backlog.name
        self._held = None if snapshots is None else _held(replica.state, backlog)
        self._values = None if self._held is None else SortedFile(f"the changes of {self._name!r}")

    async def take(self, values: Sequence[str]) -> None:
        """Take values that are sent, in the order of their bytes."""
        if self._values is not None:
            await in_thread(self._values.append, [value.encode().decode("latin-1") for value in values])

    async def announce(self, job: str, *, adds: bool) -> None:
        """Write the snapshot of the members to come, and announce the send to the journal. All values were taken."""
        if self._held is None:
            return
        try:
            digest, size = await in_thread(self._write, self._held, adds)
            await self._plan(self._held, job, adds=adds, digest=digest, size=size)
        except (MoeSegmentsError, OSError) as error:
            _log.warning("segment %r: its next mirror replaces all its members: %s", self._name, error)

    async def close(self) -> None:
        """Delete its temporary file, and the snapshots that nobody needs any more."""
        if self._values is None or self._snapshots is None:
            return
        self._values.remove()
        membership = self._replica.state.memberships.of.get(self._name)
        if membership is not None:
            kept = {digest for step in membership.steps.values() for digest in step.holds}
            kept |= set(membership.held.holds if membership.held is not None else ())
            try:
                await in_thread(self._snapshots.keep_only, self._name, kept)
            except MoeSegmentsError as error:  # a bucket that is away; the next flush or sync deletes them
                _log.warning("segment %r: snapshots that nobody needs any more are still there: %s", self._name, error)

    def _write(self, held: Held, adds: bool) -> tuple[str, int]:  # noqa: FBT001 - handed to a thread
        assert self._snapshots is not None
        assert self._values is not None
        before = [self._snapshots.read(self._name, digest) for digest in held.holds]
        if adds:
            return self._snapshots.write(self._name, merged([*before, self._values.blocks()]))
        left = (part.removed for part in compared(merged(before), self._values.blocks()))
        return self._snapshots.write(self._name, (block for block in left if block))

    async def _plan(self, held: Held, job: str, *, adds: bool, digest: str, size: int) -> None:
        assert self._values is not None
        op, rows = "add" if adds else "remove", self._values.count
        step = Step(job=job, op=op, rows=rows, holds=(digest,), size=size)

        def question(state: WorkspaceState, _: int) -> tuple[Sequence[Event], None]:
            membership = state.memberships.of.get(self._name)
            if membership is None or state.memberships.known(self._name, state.jobs) != held:
                return (), None
            generation = membership.generation + 1
            return (MembershipPlanned(self._owner, self._name, generation, (attrs.asdict(step),)),), None

        await self._replica.ask(question)
