"""Segments that the service refused to change, as there is none of that name or it is archived. Pure.

An operation that is sent again is refused again, and costs one of ten an hour again. So what the service said last is
remembered until it says otherwise: by taking an operation, an archive or an unarchive of that segment.

Times are integer microseconds of the journal's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from moe_segments.core.events import Adopted, Answered, CallbackReceived, MembershipForgotten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from moe_segments.core.events import Event

__all__ = ["Gone", "GoneSegments"]

NOT_FOUND: Final = 404
_BAD_REQUEST: Final = 400  # of a segment that is archived, among others
_OF_THE_CALLER: Final = frozenset({401, 403, 429})  # which say nothing of the segment
_SENDS_A_FILE: Final = frozenset({"add", "remove", "replace"})
_SWITCHES: Final = frozenset({"archive", "unarchive"})


class _Sent(Protocol):
    """The part of a job's record that names its segment."""

    @property
    def operation(self) -> Mapping[str, object]: ...


class _Jobs(Protocol):
    """The part of the folded jobs that is needed."""

    @property
    def records(self) -> Mapping[str, Any]: ...


@attrs.frozen
class Gone:
    """The answer that refused the last operation on a segment.

    Attributes:
        status: 404; or 400, which may have other reasons than the segment.
        at_us: When it came.
    """

    status: int
    at_us: int

    @property
    def is_missing(self) -> bool:
        """Return whether the service said that there is no such segment."""
        return self.status == NOT_FOUND


class GoneSegments:
    """The segments whose last operation was refused.

    Attributes:
        of: By the segment's name.
    """

    def __init__(self) -> None:
        self.of: dict[str, Gone] = {}

    def fold(self, event: Event, at_us: int, jobs: _Jobs) -> None:
        """Take in one event that the jobs have taken in already."""
        match event:
            case Answered():
                self._answered(event, at_us, jobs)
            case CallbackReceived() | Adopted() if self.of:
                if (event.job in jobs.records) and getattr(event, "outcome", "processed") == "processed":
                    self.of.pop(_name(jobs.records[event.job]), None)
            case MembershipForgotten(segment):
                self.of.pop(segment, None)
            case _:
                pass

    def _answered(self, event: Answered, at_us: int, jobs: _Jobs) -> None:
        if event.accepted is not None and not self.of:
            return  # nearly always
        record = jobs.records.get(event.job)
        if record is None:
            return
        op, name = record.operation.get("op"), _name(record)
        if event.accepted is not None:
            self.of.pop(str(event.accepted.get("cs_name") or name), None)
        elif record.operation.get("cs_id") is not None:
            return  # the answer is about that identifier, whatever the name
        elif op in _SENDS_A_FILE and event.status in (NOT_FOUND, _BAD_REQUEST):
            self.of[name] = Gone(event.status, at_us)
        elif op in _SWITCHES and event.status != NOT_FOUND and event.status not in _OF_THE_CALLER:
            self.of.pop(name, None)  # it is there, whatever else is wrong

    # Checkpoints

    def taken(self) -> list[tuple[str, int, int]]:
        """Return them as data for JSON."""
        return [(name, gone.status, gone.at_us) for name, gone in self.of.items()]

    def restore(self, items: Iterable[tuple[str, int, int]]) -> None:
        """Take in what `taken` returned."""
        self.of.update({name: Gone(status, at_us) for name, status, at_us in items})


def _name(record: _Sent) -> str:
    return str(record.operation.get("name", ""))
