"""One look at a journal, which the sections of the page are made from. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from moe_segments.governor.usage import at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal.tools.log import LogEntry

__all__ = ["View", "segment_of"]


@attrs.frozen(kw_only=True)
class View:
    """A journal at one moment.

    Attributes:
        state: The folded state. Only time may pass in it.
        now_us: The journal's time.
        shift_us: How much the wall clock is ahead of the journal's.
        log: The end of its log, oldest first.
        place: The journal's place, as it may be shown.
        scope: What shares one quota: workspace and data center.
        problem: Why the journal cannot be read now; None while it can.
    """

    state: WorkspaceState
    now_us: int
    shift_us: int = 0
    log: Sequence[LogEntry] = ()
    place: str = ""
    scope: str = ""
    problem: str | None = None

    def iso(self, at_us: int) -> str:
        """Return a journal time as ISO 8601 in UTC."""
        return iso(at(at_us + self.shift_us))


def iso(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def segment_of(record: JobRecord) -> str:
    """Return what a job's segment is called: its name, else its identifier."""
    operation = record.operation
    return str(operation.get("name") or operation.get("cs_id") or (record.accepted or {}).get("cs_id") or "")
