"""The segments of one workspace: names that are unique for ever, definitions that are unique, ageing. Pure.

A name that was ever used stays used, whether its segment is archived, renamed or of the other kind. A definition is
in use as long as a segment has it, archived ones included. Moments are seconds; nothing here reads a clock.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

from moe_segments.sandbox.model.records import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_segments.sandbox.model.filters import Definition
    from moe_segments.sandbox.model.records import SandboxSegment

__all__ = ["IDLE_DAYS", "LISTED_DAYS", "MEMBERS_KEPT_DAYS", "Registry"]

IDLE_DAYS: Final = 60  # a segment that is not used for so long is archived by the service
MEMBERS_KEPT_DAYS: Final = 30  # an archived file segment loses its users after this
LISTED_DAYS: Final = 180  # an archived segment is no longer listed after this


class Registry:
    """Every segment ever created, and what becomes of it with time.

    Args:
        day_s: The length of a day, seconds.
        idle_days: Days after which an unused segment is archived; None: it stays.

    Attributes:
        active: How many segments are active, as of the last `age`.
    """

    def __init__(self, day_s: float, *, idle_days: int | None = IDLE_DAYS) -> None:
        self.active: int = 0
        self._day_s = day_s
        self._idle_s = None if idle_days is None else idle_days * day_s
        self._names: set[str] = set()
        self._by_name: dict[str, SandboxSegment] = {}
        self._by_id: dict[str, SandboxSegment] = {}
        self._by_definition: dict[str, SandboxSegment] = {}
        self._due: list[tuple[float, str]] = []  # when to look at which segment again
        self._due_of: dict[str, float] = {}  # which of those entries is not stale

    def __iter__(self) -> Iterator[SandboxSegment]:
        return iter(self._by_id.values())

    def __reversed__(self) -> Iterator[SandboxSegment]:
        return reversed(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, name: str | None, cs_id: str | None = None) -> SandboxSegment | None:
        """Return the segment, archived or not; *cs_id* wins over *name* where both are given."""
        return self._by_id.get(cs_id) if cs_id else self._by_name.get(name or "")

    def is_taken(self, name: str, but_by: SandboxSegment | None = None) -> bool:
        """Return whether a name was ever used; its present owner may keep it."""
        return name in self._names and (but_by is None or but_by.name != name)

    def twin(self, definition: Definition, but: SandboxSegment | None = None) -> SandboxSegment | None:
        """Return the other segment that has this definition already."""
        found = self._by_definition.get(definition.key)
        return None if found is but else found

    def missing(self, definition: Definition) -> str | None:
        """Return an identifier that a definition refers to and no segment has."""
        return next((each for each in sorted(definition.references) if each not in self._by_id), None)

    def is_cyclic(self, segment: SandboxSegment, definition: Definition) -> bool:
        """Return whether a segment with this definition would refer to itself, directly or through others."""
        seen: set[str] = set()
        ahead = set(definition.references)
        while ahead:
            seen |= ahead
            found = (self._by_id.get(each) for each in ahead)
            ahead = {ref for each in found if each and each.definition for ref in each.definition.references} - seen
        return segment.id in seen

    def add(self, segment: SandboxSegment) -> None:
        """Take in a new segment."""
        self._names.add(segment.name)
        self._by_name[segment.name] = self._by_id[segment.id] = segment
        if segment.definition is not None:
            self._by_definition[segment.definition.key] = segment
        self.active += 1
        self._look_again(segment)

    def redefine(self, segment: SandboxSegment, name: str | None, definition: Definition, now: float) -> None:
        """Give a filter segment another definition and, where given, another name."""
        if segment.definition is not None:
            self._by_definition.pop(segment.definition.key, None)
        self._by_definition[definition.key] = segment
        segment.definition, segment.updated_at, segment.ran_at = definition, now, now
        if name is not None:
            del self._by_name[segment.name]
            segment.name = name
            self._names.add(name)
            self._by_name[name] = segment

    def archive(self, segment: SandboxSegment, at: float) -> None:
        """Archive an active segment; its users stay for a while."""
        segment.archived_at = at
        self.active -= 1
        self._look_again(segment)

    def unarchive(self, segment: SandboxSegment, now: float) -> None:
        """Make an archived segment active again; it does not expire any more."""
        segment.archived_at = segment.expires_at = None
        segment.ran_at = now
        self.active += 1
        self._look_again(segment)

    def age(self, now: float) -> None:
        """Archive what has expired or was not used, and drop the users of what was archived long ago."""
        while self._due and self._due[0][0] <= now:
            entry_at, cs_id = heapq.heappop(self._due)
            if self._due_of.get(cs_id) != entry_at:
                continue
            del self._due_of[cs_id]
            segment = self._by_id[cs_id]
            due_at = self._due_at(segment)
            if due_at is None or due_at > now:
                self._look_again(segment)
            elif segment.is_active:
                self.archive(segment, due_at)
            else:
                segment.members.clear()

    def is_listed(self, segment: SandboxSegment, now: float) -> bool:
        """Return whether lists show it: always, until it was archived for 180 days."""
        return segment.archived_at is None or segment.archived_at + LISTED_DAYS * self._day_s > now

    def _look_again(self, segment: SandboxSegment) -> None:
        due_at = self._due_at(segment)
        if due_at is not None and due_at < self._due_of.get(segment.id, math.inf):
            self._due_of[segment.id] = due_at
            heapq.heappush(self._due, (due_at, segment.id))

    def _due_at(self, segment: SandboxSegment) -> float | None:
        """Return when the segment next changes by itself; None: never."""
        if segment.archived_at is not None:
            is_file = segment.kind is Kind.FILE
            return segment.archived_at + MEMBERS_KEPT_DAYS * self._day_s if is_file else None
        idle_at = None if self._idle_s is None else segment.ran_at + self._idle_s
        ends = [at for at in (segment.expires_at, idle_at) if at is not None]
        return min(ends, default=None)
