"""Tell what became of a batch of membership changes, from the record of its job. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.models import JobState

if TYPE_CHECKING:
    from moe_segments.core.state.jobs import JobRecord

__all__ = ["Verdict", "verdict_of"]


@attrs.frozen
class Verdict:
    """The fate of a batch.

    Attributes:
        is_applied: The segment has its changes.
        is_over: Nothing more will be heard of it; its changes are sent again unless they are applied.
    """

    is_applied: bool
    is_over: bool


APPLIED: Final = Verdict(is_applied=True, is_over=True)
AGAIN: Final = Verdict(is_applied=False, is_over=True)
WAIT: Final = Verdict(is_applied=False, is_over=False)
_NOT_FOUND: Final = 404
_ENDED: Final = frozenset({JobState.PLANNED, JobState.NOT_SENT, JobState.FAILED})


def verdict_of(record: JobRecord | None, now_us: int) -> Verdict:
    """Return what became of a batch by the record of its job.

    A batch is applied once its callback says so; where no callback can come, once the service accepted it. Nobody has
    to be removed from a segment that is not there. While the job may still end, its segment is busy.

    Args:
        record: What the journal knows of the job; None where it was never submitted.
        now_us: Now.
    """
    if record is None or record.state in _ENDED:
        return AGAIN
    if record.state == JobState.PROCESSED:
        return APPLIED
    if record.state == JobState.REFUSED:
        return APPLIED if record.status == _NOT_FOUND and record.operation.get("op") == "remove" else AGAIN
    if record.state == JobState.ACCEPTED and not record.awaits_callback:
        return APPLIED
    return WAIT if now_us < record.busy_until_us else AGAIN
