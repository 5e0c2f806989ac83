"""The tasks of one client: each call runs in one; and the jobs that a dead process left behind.

A caller may be cancelled at any moment: its task goes on, and the journal gets the outcome. Closing waits for what was
sent and cancels the rest.
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
        """Dispatch *call* in a task of its own, so that its outcome is recorded although its caller is cancelled."""
        task = asyncio.get_running_loop().create_task(self._dispatcher.dispatch(call))
        self._tasks[task] = call
        try:
            await call.ended  # not the task: cancelling this caller would cancel it, too
            if not task.done():  # it was cancelled
                await asyncio.wait([task])
        except asyncio.CancelledError:
            task.add_done_callback(self._carried_out_unheard)
            if (call.job_id is None or not call.has_left) and not task.done():  # nobody waits for what a read says
                task.cancel()
                await asyncio.wait([task])
            raise
        self._carried_out(task)
        if task.cancelled():  # by closing, not by the caller
            raise _closed(call)
        task.result()

    def _carried_out_unheard(self, task: asyncio.Task[None]) -> None:
        """Log the error of a call whose caller is gone: nobody else would see it."""
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
        """Let answers arrive and be written down, no longer than a request may take; cancel what only waits."""
        await self._reconciler.stop()
        for task, call in self._tasks.items():
            if not call.has_left:  # it waits, perhaps between two sends
                task.cancel()
                call.end()  # a task that was cancelled before its first step does not
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._answers_within_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def mark_orphaned_jobs(self) -> None:
        """Record the outcome of jobs whose process died as unknown, or as never sent; look for what is unknown."""
        records = self._replica.state.jobs.records
        spans_hosts = self._replica.journal.spans_hosts
        events = [_orphaned(record) for record in records.values() if _is_orphaned(record, spans_hosts=spans_hosts)]
        if events:
            await self._replica.record(*events)
            for event in events:
                tell_found(self._events, records[event.job])
        recent_us = self._replica.now_us() - self._recent_us
        for record in tuple(records.values()):
            if record.state == JobState.UNKNOWN and record.since_us >= recent_us:
                self._reconciler.look_for(record.id)


def _is_orphaned(record: JobRecord, *, spans_hosts: bool) -> bool:
    """Return whether the process of a job died while it was sending, or before it sent again."""
    on_its_way = record.state == JobState.RESERVED or (record.state == JobState.PLANNED and record.attempt > 0)
    return on_its_way and is_gone(record.owner, spans_hosts=spans_hosts)


def _orphaned(record: JobRecord) -> OwnerGone | NeverSent:
    """Return the event for a job whose process is gone: its send may have worked, or none was on its way."""
    if record.state == JobState.RESERVED:
        return OwnerGone(record.id, record.attempt)
    return NeverSent(record.id, record.attempt, "the process that was to send it again is gone")


def _closed(call: Call) -> MoeSegmentsError:
    """Return the error for the caller of a call that was cancelled because the client closed."""
    if call.doubt is not None:
        return call.doubt
    if call.has_left:
        reason = "the client was closed before an answer came"
        return ServerError(0, "no answer", reason) if call.job_id is None else OutcomeUnknown(call.job_id, reason)
    return NotSent("the client is closing")
