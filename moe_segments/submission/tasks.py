"""Calls under way in one client, each in a task of its own; and what is left of those whose process is gone.

Whoever submitted may go away at any moment: the task ends all the same, and the journal has its outcome. Closing waits
for what was sent and calls off the rest.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from moe_segments.core.events import NeverSent, OwnerGone
from moe_segments.errors import MoeSegmentsError, NotSent, OutcomeUnknown, ServerError
from moe_segments.journal.local.process import is_gone
from moe_segments.models import JobState
from moe_segments.submission.list_and_get import Reader
from moe_segments.submission.reconciler import Reconciler
from moe_segments.telemetry.life import tell_found

if TYPE_CHECKING:
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica
    from moe_segments.models import Credentials
    from moe_segments.settings import Settings
    from moe_segments.submission.calls import Call
    from moe_segments.submission.dispatcher import Dispatcher
    from moe_segments.telemetry.emitter import Events

__all__ = ["CallTasks"]

_log = logging.getLogger("moe_segments.client")
_SETTLING_S: Final = 5.0  # beyond the request's own time-out, for writing its outcome down


class CallTasks:
    """The tasks of one client's calls.

    Args:
        credentials: Who calls.
        settings: How long an answer may take.
        replica: The journal.
        governor: Closed before these are finished.
        dispatcher: Carries each of them out.
        events: Who is told of them.

    Attributes:
        reader: Asks the service for segments.
    """

    reader: Reader

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        *,
        replica: Replica,
        governor: Governor,
        dispatcher: Dispatcher,
        events: Events,
    ) -> None:
        self._replica, self._governor, self._dispatcher, self._events = replica, governor, dispatcher, events
        self.reader = Reader(credentials, settings, self.carry_out, events)
        self._answers_within_s = settings.total_timeout_s + _SETTLING_S
        self._recent_us = round(settings.limits.day_s * 1_000_000)
        self._reconciler = Reconciler(settings, replica=replica, governor=governor, reader=self.reader, events=events)
        self._tasks: dict[asyncio.Task[None], Call] = {}

    async def carry_out(self, call: Call) -> None:
        """Run it in a task of its own, so that a caller that goes away loses no outcome."""
        task = asyncio.get_running_loop().create_task(self._dispatcher.dispatch(call))
        self._tasks[task] = call
        try:
            await call.ended  # rather than the task, which a caller that is cancelled would take along
            if not task.done():  # it was called off
                await asyncio.wait([task])
        except asyncio.CancelledError:
            task.add_done_callback(self._carried_out_unheard)
            if (call.job_id is None or not call.left) and not task.done():  # nobody misses what a read would say
                task.cancel()
                await asyncio.wait([task])
            raise
        self._carried_out(task)
        if task.cancelled():  # by closing, not by the caller
            raise _closed(call)
        task.result()

    def _carried_out_unheard(self, task: asyncio.Task[None]) -> None:
        """End a submission whose caller is gone: the journal has its outcome, and the log its error."""
        job_id = self._tasks[task].job_id
        error = None if task.cancelled() else task.exception()
        if isinstance(error, MoeSegmentsError):
            _log.warning("job %s: it failed after its caller had gone: %s", job_id, error)
        elif error is not None:
            _log.error("job %s: it failed after its caller had gone", job_id, exc_info=error)
        self._carried_out(task)

    def _carried_out(self, task: asyncio.Task[None]) -> None:
        call = self._tasks.pop(task)
        if not task.cancelled():
            task.exception()  # told to its caller, or logged
        record = self._replica.state.jobs.records.get(call.job_id or "")
        if record is not None and record.state == JobState.UNKNOWN and not self._governor.closed:
            self._reconciler.look_for(record.id)

    async def finish(self) -> None:
        """Let answers arrive and be written down, no longer than a request may take; call off what only waits."""
        await self._reconciler.stop()
        for task, call in self._tasks.items():
            if not call.left:  # it waits, perhaps between two sends
                task.cancel()
                call.end()  # before its first step it could not say so itself
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._answers_within_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def mark_orphaned_jobs(self) -> None:
        """Record jobs as unknown whose process died while it was sending: they are never sent again in silence."""
        records = self._replica.state.jobs.records
        spans_hosts = self._replica.journal.spans_hosts
        lost = [_lost_with(record) for record in records.values() if _is_lost(record, spans_hosts=spans_hosts)]
        if lost:
            await self._replica.record(*lost)
            for event in lost:
                tell_found(self._events, records[event.job])
        recent_us = self._replica.now_us() - self._recent_us
        for record in tuple(records.values()):
            if record.state == JobState.UNKNOWN and record.since_us >= recent_us:
                self._reconciler.look_for(record.id)


def _is_lost(record: JobRecord, *, spans_hosts: bool) -> bool:
    """Return whether its process died while it was sending, or before it sent again."""
    on_its_way = record.state == JobState.RESERVED or (record.state == JobState.PLANNED and record.attempt > 0)
    return on_its_way and is_gone(record.owner, spans_hosts=spans_hosts)


def _lost_with(record: JobRecord) -> OwnerGone | NeverSent:
    """Return the job state after *event*."""
    if record.state == JobState.RESERVED:
        return OwnerGone(record.id, record.attempt)
    return NeverSent(record.id, record.attempt, "the process that was to send it again is gone")


def _closed(call: Call) -> MoeSegmentsError:
    if call.doubt is not None:
        return call.doubt
    if call.left:
        reason = "the client was closed before an answer came"
        return ServerError(0, "no answer", reason) if call.job_id is None else OutcomeUnknown(call.job_id, reason)
    return NotSent("the client is closing")
