"""Reconcile creates whose outcome is unknown: one that took effect has left a segment of its name.

What is found is adopted in the journal; what is not found stays unknown. Looking spends calls, never an operation.
"""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from moe_segments.core.events import Adopted
from moe_segments.errors import JournalAmbiguous, JournalReplaced, JournalUnavailable, MoeSegmentsError
from moe_segments.models import CreateFileSegment, CreateFilterSegment, JobState
from moe_segments.telemetry.life import tell_found

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica
    from moe_segments.settings import Settings
    from moe_segments.submission.list_and_get import Reader
    from moe_segments.telemetry.emitter import Events

__all__ = ["Reconciler"]

T = TypeVar("T")

_AFTER_OUTAGE_S: Final = 1.0
_SECOND_US: Final = 1_000_000
_LOOKED_FOR: Final = (CreateFileSegment.op, CreateFilterSegment.op)
_LOOK_AT: Final = (1 / 180, 1 / 15, 1.0)  # parts of D after which an unknown create is looked for
_log = logging.getLogger("moe_segments.client")


class Reconciler:
    """The search for one client's lost creates, each in a task of its own.

    Args:
        settings: How long a send can take, and D.
        replica: The journal.
        governor: Knows how the journal's clock and the wall clock differ.
        reader: Asks the service for segments.
        events: Who is told of what is found.
    """

    def __init__(
        self, settings: Settings, *, replica: Replica, governor: Governor, reader: Reader, events: Events
    ) -> None:
        self._settings, self._replica, self._governor, self._reader = settings, replica, governor, reader
        self._events = events
        self._looking: dict[str, asyncio.Task[None]] = {}

    def look_for(self, job_id: str) -> None:
        """Start to look for the segment of an unknown create, unless that goes on already. Ignores other jobs."""
        record = self._replica.state.jobs.records[job_id]
        if record.operation.get("op") not in _LOOKED_FOR or job_id in self._looking:
            return
        task = asyncio.get_running_loop().create_task(self._seek(job_id))
        self._looking[job_id] = task
        task.add_done_callback(lambda done: self._looked(done, job_id))

    async def stop(self) -> None:
        """Stop looking."""
        for task in self._looking.values():
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)

    def _looked(self, task: asyncio.Task[None], job_id: str) -> None:
        self._looking.pop(job_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            mistake = None if isinstance(error, MoeSegmentsError) else error
            _log.error("job %s: the search for its segment ended: %s", job_id, error, exc_info=mistake)

    async def _seek(self, job_id: str) -> None:
        """Look for the segment of an unknown create, at growing distances, until it is found or D has passed."""
        late_s = self._settings.limits.count_late_s
        begun_s = asyncio.get_running_loop().time()
        for part in _LOOK_AT:
            await asyncio.sleep(begun_s + part * late_s - asyncio.get_running_loop().time())
            record = self._replica.state.jobs.records.get(job_id)
            if record is None or record.state != JobState.UNKNOWN:
                return
            try:
                name = str(record.operation["name"])
                listing = partial(self._reader.look_up, name, max_wait_s=late_s)
                found, service_s = await self._reached(job_id, listing)
            except JournalReplaced:
                raise
            except MoeSegmentsError as error:
                _log.info("job %s: looking for its segment failed: %s", job_id, error)
                continue
            oldest_s = self._sent_at_s(record, service_s)
            for segment in found:
                if segment.created_time is not None and segment.created_time.timestamp() >= oldest_s:
                    adopted = Adopted(job_id, record.attempt, segment.id, segment.created_time.isoformat())
                    await self._reached(job_id, partial(self._replica.record, adopted))
                    tell_found(self._events, self._replica.state.jobs.records.get(job_id, record))
                    return

    async def _reached(self, job_id: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what *call* returns; repeat it while the journal is away."""
        while True:
            try:
                return await call()
            except (JournalUnavailable, JournalAmbiguous) as error:
                self._replica.outage.warn(
                    f"search {job_id}", "job %s: the search for its segment waits for the journal: %s", job_id, error
                )
            await asyncio.sleep(_AFTER_OUTAGE_S * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

    def _sent_at_s(self, record: JobRecord, service_s: float | None) -> float:
        """Return when the job's last send was reserved, on the service's clock as its `Date` just showed it.

        A Date is cut to whole seconds and took a moment to arrive, so this is early rather than late. Without one the
        wall clocks are taken to agree: a segment that seems older is not adopted, and the job stays unknown.
        """
        attempt_s = self._settings.send_by_s + self._settings.total_timeout_s
        reserved_s = record.doubt_us / _SECOND_US - attempt_s
        if service_s is None:
            return reserved_s + self._governor.shift_us() / _SECOND_US
        return service_s - (self._replica.now_us() / _SECOND_US - reserved_s)
