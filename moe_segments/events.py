"""The events that `SegmentsClient(on_event=…)` and `CallbackReceiver(on_event=…)` tell.

Import the module, since some names are those of exceptions or results, too:

    from moe_segments import events

    def on_event(event: events.Event) -> None:
        match event:
            case events.Refused(limit=limit, ready_at=ready_at):
                ...
"""

from __future__ import annotations

from moe_segments.telemetry.emitter import Consumer, Events
from moe_segments.telemetry.events import (
    Accepted,
    Answered,
    Attached,
    CallbackLost,
    CallbackStored,
    Event,
    Failed,
    JournalAvailable,
    JournalUnavailable,
    MembershipLag,
    NotSent,
    OperationEvent,
    Processed,
    Refused,
    Reserved,
    Retried,
    Sent,
    Submitted,
    Throttled,
    Unknown,
    Waiting,
)

__all__ = [
    "Accepted",
    "Answered",
    "Attached",
    "CallbackLost",
    "CallbackStored",
    "Consumer",
    "Event",
    "Events",
    "Failed",
    "JournalAvailable",
    "JournalUnavailable",
    "MembershipLag",
    "NotSent",
    "OperationEvent",
    "Processed",
    "Refused",
    "Reserved",
    "Retried",
    "Sent",
    "Submitted",
    "Throttled",
    "Unknown",
    "Waiting",
]
