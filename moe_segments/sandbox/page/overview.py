"""An overview of the sandbox as JSON values: for `/_sandbox/state` and for the page at `/`. Pure.

Nothing secret is in it: no key, no address of a file or of a callback, no user.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from moe_segments.models import FileProcessed
from moe_segments.sandbox.model.faults import CALLBACK_FAULTS, FaultKind
from moe_segments.sandbox.model.history import newest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.limits import QuotaLimits
    from moe_segments.sandbox.model.faults import Faults
    from moe_segments.sandbox.model.records import Delivery, RequestRecord, SandboxSegment, Submission
    from moe_segments.sandbox.model.workspace import Workspace

__all__ = ["LAST", "Json", "Observed", "faults_of", "overview", "time_of"]

Json: TypeAlias = "dict[str, object]"
LAST: Final = 100  # so many of each kind of record are shown unless more are asked for


class Observed(Protocol):
    """A sandbox as its overview reads it."""

    faults: Faults

    @property
    def workspace(self) -> Workspace:
        """Return what was asked, counted, processed and delivered."""

    @property
    def limits(self) -> QuotaLimits:
        """Return the quotas in force."""

    @property
    def queued_faults(self) -> Mapping[FaultKind, int]:
        """Return how often each fault is still to be played."""

    @property
    def ahead_s(self) -> float | None:
        """Return how far the clock was moved ahead, seconds; None where it is the caller's own."""


def overview(sandbox: Observed, last: int = LAST) -> Json:
    """Return the whole overview, newest records first.

    Args:
        sandbox: Of which.
        last: How many segments, operations, callbacks and requests are shown; the totals count all.
    """
    workspace, history = sandbox.workspace, sandbox.workspace.history
    now = workspace.now()
    return {
        "time": time_of(sandbox),
        "quotas": _quotas(workspace, now),
        "totals": workspace.totals(),
        "segments": [_segment(each, now) for each in workspace.newest_segments(last)],
        "operations": [_operation(each) for each in newest(history.submissions, last)],
        "callbacks": [_delivery(each) for each in newest(history.deliveries, last)],
        "requests": [_request(each) for each in newest(history.requests, last)],
        "faults": faults_of(sandbox),
    }


def time_of(sandbox: Observed) -> Json:
    """Return the sandbox's clock and speed."""
    return {
        "now": _moment(sandbox.workspace.now()),
        "speed": sandbox.limits.scale,
        "ahead_s": sandbox.ahead_s,
        "is_settable": sandbox.ahead_s is not None,
    }


def faults_of(sandbox: Observed) -> list[Json]:
    """Return every fault, how likely it is and how often it is queued."""
    queued = sandbox.queued_faults
    return [
        {
            "kind": kind.value,
            "on": "callbacks" if kind in CALLBACK_FAULTS else "requests",
            "probability": sandbox.faults.probability(kind),
            "queued": queued.get(kind, 0),
        }
        for kind in FaultKind
    ]


def _quotas(workspace: Workspace, now: float) -> list[Json]:
    active: Json = {
        "limit": "active_segments",
        "used": workspace.usage()["active_segments"],
        "capacity": workspace.limits.active_segments,
        "window_s": None,
        "next_release_s": None,
    }
    windows: list[Json] = [
        {
            "limit": limit,
            "used": window.used(now),
            "capacity": window.capacity,
            "window_s": window.window_s,
            "next_release_s": window.release_s(now),
        }
        for limit, window in workspace.windows().items()
    ]
    return [*windows, active]


def _segment(segment: SandboxSegment, now: float) -> Json:
    expires_at = segment.expires_at if segment.is_active else None
    return {
        "id": segment.id,
        "name": segment.name,
        "kind": segment.kind.value,
        "state": "active" if segment.is_active else "archived",
        "users": len(segment.members) if segment.definition is None else None,
        "description": segment.definition.description if segment.definition else None,
        "created_at": _moment(segment.created_at),
        "archived_at": None if segment.archived_at is None else _moment(segment.archived_at),
        "expires_in_s": None if expires_at is None else expires_at - now,
    }


def _operation(submission: Submission) -> Json:
    result = submission.result
    outcome: Mapping[str, object] = {}
    if isinstance(result, FileProcessed):
        outcome = {
            "values_found": result.values_found,
            "values_processed": result.values_processed,
            "user_count": result.user_count,
        }
    elif result is not None:
        outcome = {"status": result.status, "error_message": result.error_message}
    return {
        "request_id": submission.request_id,
        "op": submission.ask.op.value,
        "segment": submission.segment.name,
        "state": "waiting" if result is None else "processed" if isinstance(result, FileProcessed) else "failed",
        "accepted_at": _moment(submission.accepted_at),
        "finished_at": None if submission.finished_at is None else _moment(submission.finished_at),
        **outcome,
    }


def _delivery(delivery: Delivery) -> Json:
    return {
        "at": _moment(delivery.at),
        "request_id": delivery.request_id,
        "segment": delivery.segment,
        "attempt": delivery.attempt,
        "status": delivery.status,
        "problem": delivery.problem,
        "fault": delivery.fault,
    }


def _request(record: RequestRecord) -> Json:
    return {
        "at": _moment(record.at),
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "op": record.op,
        "segment": record.segment,
        "counted": record.counted,
        "limit": record.limit,
        "fault": record.fault,
    }


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
