"""Tell of the callbacks of one receiver: those of its consumers, and of the clients that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.telemetry import events as told
from moe_segments.telemetry.emitter import Events, tell_outages
from moe_segments.telemetry.life import segment_of
from moe_segments.telemetry.logs import LogConsumer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import CallbackReceived
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.journal.local.outage import Outage
    from moe_segments.telemetry.emitter import Consumer

__all__ = ["CallbackDesk"]


class CallbackDesk:
    """Who is told of a receiver's callbacks.

    Args:
        consumers: The receiver's own, told whichever scope it is.
    """

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._consumers, self._log = tuple(consumers), LogConsumer(is_alone=True)
        self._nowhere = Events("", self._consumers, log=self._log)  # for what names no scope of ours
        self._by_scope: dict[str, tuple[Events, ...]] = {}

    def serve(self, scope: str, events: Events | None, outage: Outage | None = None) -> None:
        """Tell of the callbacks of *scope* from now on.

        Args:
            scope: Whose callbacks.
            events: Those of the client, with its log; None for a receiver that serves alone.
            outage: Of the receiver's own journal; None for that of a client.
        """
        if events is None:
            own = Events(scope, self._consumers, log=self._log)
            self._by_scope[scope] = (own,)
            if outage is not None:
                tell_outages(outage, own)
        else:
            others = [consumer for consumer in self._consumers if consumer not in events.consumers]
            self._by_scope[scope] = (events, Events(scope, others))

    def leave(self, scope: str) -> None:
        """Tell of the callbacks of *scope* no more."""
        self._by_scope.pop(scope, None)

    def stored(
        self, scope: str, record: JobRecord, event: CallbackReceived, outcome: str, delay_s: float | None
    ) -> None:
        """Tell that a callback is durable, or was there already."""
        trace, reason = record.operation.get("trace"), event.body.get("reason")
        for events in self._of(scope):
            events.emit(
                told.CallbackStored,
                job=record.id,
                operation=str(record.operation.get("op")),
                segment=segment_of(record.operation),
                outcome=outcome,
                reason=str(reason) if outcome == "unparsed" and reason else None,
                delay_s=delay_s,
                trace=None if trace is None else str(trace),
            )

    def lost(self, scope: str, status: int, cause: str, reason: str) -> None:
        """Tell that a callback, or what looked like one, was not stored."""
        for events in self._of(scope):
            events.emit(told.CallbackLost, status=status, cause=cause, reason=reason)

    def _of(self, scope: str) -> tuple[Events, ...]:
        return self._by_scope.get(scope) or (self._nowhere,)
