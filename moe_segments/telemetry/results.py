"""Tell how jobs ended, by the client that sent them or waits for them, whichever process took the callback.

The journal is where a client hears of it, so it is told as soon as the client has read that: at once where its own
receiver takes the callback, else while somebody waits for a result or for quota.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from moe_segments.models import JobState
from moe_segments.telemetry import events as told
from moe_segments.telemetry.life import segment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.journal.replica import Replica
    from moe_segments.telemetry.emitter import Events

__all__ = ["ResultNews"]

_SECOND_US: Final = 1_000_000
_BY_CALLBACK: Final = (JobState.PROCESSED, JobState.FAILED)


class ResultNews:
    """The news of one client's jobs.

    Args:
        events: Who is told.
        replica: The journal, read to its end.
    """

    def __init__(self, events: Events, replica: Replica) -> None:
        self._events, self._replica = events, replica
        self._since_us = replica.state.now_us
        self._accepted_us: dict[str, int] = {}  # when jobs under way were accepted

    def listen(self) -> Callable[[], None]:
        """Tell from now on. Returns what ends that."""
        return self._replica.subscribers.on_jobs(self._heard)

    def _heard(self, jobs: Collection[str] | None) -> None:
        records = self._replica.state.jobs.records
        for job in tuple(records) if jobs is None else jobs:
            record = records.get(job)
            if record is not None:
                self._look_at(record)

    def _look_at(self, record: JobRecord) -> None:
        is_ours = record.id in self._events.sent_here
        if record.settled:
            self._events.sent_here.discard(record.id)
            accepted_us = self._accepted_us.pop(record.id, None)
            is_news = is_ours or (self._replica.subscribers.is_awaited(record.id) and record.since_us > self._since_us)
            if is_news and record.state in _BY_CALLBACK:
                self._tell(record, None if accepted_us is None else (record.since_us - accepted_us) / _SECOND_US)
        elif record.state == JobState.ACCEPTED and (is_ours or self._replica.subscribers.is_awaited(record.id)):
            self._accepted_us[record.id] = record.since_us

    def _tell(self, record: JobRecord, took_s: float | None) -> None:
        operation, segment = str(record.operation.get("op")), segment_of(record.operation)
        result: Any = record.result or {}  # the callback's fields, as the journal has them
        if record.state == JobState.PROCESSED:
            self._events.emit(
                told.Processed,
                job=record.id,
                operation=operation,
                segment=segment,
                values_found=result.get("values_found", 0),
                values_processed=result.get("values_processed", 0),
                user_count=result.get("user_count", 0),
                took_s=took_s,
            )
        else:
            self._events.emit(
                told.Failed,
                job=record.id,
                operation=operation,
                segment=segment,
                reason=str(result.get("error_message") or "the service gave no reason"),
                status=result.get("status"),
                took_s=took_s,
            )
