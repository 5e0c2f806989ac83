"""Find out whether a segment is there before an operation is spent on it: by the journal, else by the list call."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Final, Protocol

from moe_segments.errors import InputError
from moe_segments.governor.usage import at
from moe_segments.models import CreateFilterSegment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.governor import Governor
    from moe_segments.models import Segment

__all__ = ["SegmentGone", "is_there", "refusal_of"]

_MISSING: Final = (
    "the service said at {at} that there is no file segment {name!r} (HTTP 404), so nothing is sent to it: it was "
    "never created, was deleted or renamed, or is a segment of filters. A name that was used is used up for ever: take "
    "another one; where it is there again, run: moe-segments unarchive {quoted}, which spends no operation"
)
_ARCHIVED: Final = (
    "the service refused the last operation on {name!r} at {at} (HTTP 400), and by this journal it is archived or has "
    "expired, so nothing is sent to it: run: moe-segments unarchive {quoted}, which spends no operation; or take "
    "another name"
)
_OF_FILTERS: Final = "{name!r} is a segment of filters, as job {job} shows, so nothing is sent to it: take another name"


class SegmentGone(InputError):
    """The service said that nothing can be sent to a segment, and nothing has changed since. Nothing was sent."""


class Client(Protocol):
    """The part of the client that knows what is there."""

    @property
    def governor(self) -> Governor:
        """Return what knows by how much the wall clock is ahead."""

    async def list_segments(self, name: str | None = None, *, max_wait_s: float = 0.0) -> tuple[Segment, ...]:
        """Ask the service for segments. Spends no file operation."""


async def is_there(client: Client, state: WorkspaceState, name: str, *, max_wait_s: float) -> bool:
    """Return whether there is a file segment of this name, as far as anybody knows.

    Args:
        client: Asks the service where the journal does not know.
        state: The journal.
        name: The segment's name.
        max_wait_s: Longest wait of that question, seconds.

    Raises:
        SegmentGone: The service refused the last operation on it, and nothing shows that it is there again.
        MoeSegmentsError: The service could not be asked.
    """
    shift_us, gone = client.governor.shift_us(), state.gone.of.get(name)
    refusal = refusal_of(state, name, shift_us)
    if refusal is None and _is_used(state, name):
        return True
    if refusal is not None and (gone is None or not gone.is_missing):  # lists show such segments, too
        raise refusal
    listed = await client.list_segments(name, max_wait_s=max_wait_s)
    if refusal is None or gone is None:
        return bool(listed)
    if not listed and not _is_used(state, name):
        return False
    if _shows(listed, state, name, at(gone.at_us + shift_us)):
        return True
    raise refusal


def refusal_of(state: WorkspaceState, name: str, shift_us: int) -> SegmentGone | None:
    """Return why nothing is sent to a segment, by the journal alone; None where something can be.

    Args:
        state: The journal.
        name: The segment's name.
        shift_us: How much the wall clock is ahead of the journal's.
    """
    job = state.jobs.names.get(name, "")
    user, gone = state.jobs.records.get(job), state.gone.of.get(name)
    if user is not None and user.accepted is not None and user.operation.get("op") == CreateFilterSegment.op:
        return SegmentGone(_OF_FILTERS.format(name=name, job=job))
    if gone is None or not (gone.is_missing or _is_archived(state, name)):
        return None
    text, moment = _MISSING if gone.is_missing else _ARCHIVED, at(gone.at_us + shift_us)
    return SegmentGone(text.format(name=name, quoted=quote(name), at=f"{moment:%Y-%m-%d %H:%M:%S} UTC"))


def _is_archived(state: WorkspaceState, name: str) -> bool:
    """Return whether a segment that this journal created does not count as active any more."""
    created = state.jobs.records.get(state.jobs.names.get(name, ""))
    is_ours = created is not None and (created.accepted is not None or created.result is not None)
    return is_ours and not state.ledger.active.found(name)


def _is_used(state: WorkspaceState, name: str) -> bool:
    membership = state.memberships.of.get(name)
    return name in state.jobs.names or (membership is not None and membership.held is not None)


def _shows(listed: Iterable[Segment], state: WorkspaceState, name: str, gone_at: datetime) -> bool:
    """Return whether the list shows the segment that the journal knows, or one that was created since."""
    return any(
        state.jobs.aliases.get(name) == f"id:{one.id}" or (one.created_time is not None and one.created_time > gone_at)
        for one in listed
    )
