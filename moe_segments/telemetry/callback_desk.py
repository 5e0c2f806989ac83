"""Tell of the callbacks of one receiver: its own consumers, and those of the clients that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.telemetry import events as told
from moe_segments.telemetry.emitter import Events, tell_outages
from moe_segments.telemetry.life import segment_of
from moe_segments.telemetry.logs import LogConsumer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from moe_segments.core.events import CallbackReceived
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.journal.local.outage import Outage
    from moe_segments.journal.replica import Replica
    from moe_segments.telemetry.emitter import Consumer, Waiting
    from moe_segments.telemetry.events import Event

__all__ = ["CallbackDesk"]


class CallbackDesk:
    """Who is told of a receiver's callbacks.

    Args:
        consumers: The receiver's own, told whichever scope it is.
        replicas: The journals that it serves now, by scope.
    """

    def __init__(self, consumers: Sequence[Consumer], replicas: Mapping[str, Replica]) -> None:
        self._own, self._replicas = Events("", consumers), replicas
        self._log = LogConsumer(is_alone=True)
        self._of_clients: dict[str, Events] = {}

    @property
    def consumers(self) -> Sequence[Consumer]:
        """Return who is told, besides those of clients."""
        return self._own.consumers

    def subscribe(self, consumer: Consumer) -> Callable[[], None]:
        """Tell *consumer* of callbacks from now on. Returns what ends that.

        Args:
            consumer: A plain function of one event. It is called in the event loop and must not block.

        Raises:
            InputError: It is no function, or one to be awaited.
        """
        return self._own.subscribe(consumer)

    def replicas(self) -> Mapping[str, Replica]:
        """Return the journals that are served now, by scope; for metrics."""
        return dict(self._replicas)

    async def memberships(self) -> Sequence[Waiting]:
        """Return nothing: a receiver has no outbox."""
        return ()

    def serve(self, scope: str, events: Events | None, outage: Outage | None = None) -> None:
        """Tell of the callbacks of *scope* from now on.

        Args:
            scope: Whose callbacks.
            events: Those of the client, who are told as well; None for a receiver that serves alone.
            outage: Of the receiver's own journal; None for that of a client.
        """
        if events is not None:
            self._of_clients[scope] = events
        if outage is not None:
            tell_outages(outage, self._tell, scope)

    def leave(self, scope: str) -> None:
        """Tell a client no more."""
        self._of_clients.pop(scope, None)

    def stored(
        self, scope: str, record: JobRecord, event: CallbackReceived, outcome: str, delay_s: float | None
    ) -> None:
        """Tell that a callback is durable, or was there already."""
        trace, reason = record.operation.get("trace"), event.body.get("reason")
        self._tell(
            told.CallbackStored(
                scope,
                job=record.id,
                operation=str(record.operation.get("op")),
                segment=segment_of(record.operation),
                outcome=outcome,
                reason=str(reason) if outcome == "unparsed" and reason else None,
                delay_s=delay_s,
                trace=None if trace is None else str(trace),
            )
        )

    def lost(self, scope: str, status: int, cause: str, reason: str) -> None:
        """Tell that a callback, or what looked like one, was not stored."""
        scope = scope if scope in self._replicas else ""  # else a stranger could make up names of metrics
        self._tell(told.CallbackLost(scope, status=status, cause=cause, reason=reason))

    def _tell(self, event: Event) -> None:
        client = self._of_clients.get(event.scope)
        if client is None:
            self._log(event)
            self._own.tell(event)
        else:
            client.tell(event)
            self._own.tell(event, but=client.consumers)
