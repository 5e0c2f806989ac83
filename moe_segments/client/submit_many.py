"""Submit many operations: bounded concurrency, in order for each segment, exactly one outcome each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import attrs

from moe_segments.errors import (
    CallbackTimeout,
    JournalError,
    JournalReplaced,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
    SegmentBusy,
    TooManyRequests,
)
from moe_segments.models import Accepted, CreateFileSegment, FileProcessed, JobState
from moe_segments.models.arguments import check_operation
from moe_segments.submission.job_info import unknown_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from moe_segments.client.job import Job
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import Operation
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["Outcome", "outcomes"]

Source: TypeAlias = "Iterable[Operation] | AsyncIterable[Operation] | Mapping[str, Operation]"
ValuesWritten: TypeAlias = "Callable[[Operation], AbstractAsyncContextManager[None]]"
_END: Final = object()


class _Client(Protocol):
    """The part of the client that many operations need."""

    limits: QuotaLimits
    governor: Governor

    async def submit(
        self,
        operation: Operation,
        *,
        job_id: str | None = None,
        max_wait_s: float = 0.0,
        on_unknown: Literal["raise", "retry"] = "raise",
        preflight: Preflight | None = None,
    ) -> Job:
        """Submit one operation."""

    def job(self, job_id: str) -> Job:
        """Return the job of an identifier."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of one operation of many.

    Attributes:
        operation: What was asked for.
        job: Its job; None when it never became one.
        result: The callback's figures, or the acceptance where no callback can come; None on an error.
        error: Why there is no result; None when there is one.
    """

    operation: Operation
    job: Job | None = None
    result: FileProcessed | Accepted | None = None
    error: MoeSegmentsError | None = None


async def outcomes(
    client: _Client,
    source: Source,
    *,
    replica: Replica,
    values_written: ValuesWritten,
    concurrency: int,
    max_wait_s: float,
    result_timeout_s: float | None,
    on_unknown: Literal["raise", "retry"],
    preflight: Preflight | None,
) -> AsyncIterator[Outcome]:
    """Submit all of *source* and yield each outcome as it comes. See `SegmentsClient.submit_many`."""
    many = _Many(client, replica, values_written, max_wait_s, result_timeout_s, on_unknown, preflight, concurrency)
    feeding = asyncio.get_running_loop().create_task(many.feed(source))
    try:
        while (outcome := await many.done.get()) is not _END:
            assert isinstance(outcome, Outcome)
            yield outcome
        await feeding
    finally:
        feeding.cancel()
        await many.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


class _Many:
    def __init__(
        self,
        client: _Client,
        replica: Replica,
        values_written: ValuesWritten,
        max_wait_s: float,
        result_timeout_s: float | None,
        on_unknown: Literal["raise", "retry"],
        preflight: Preflight | None,
        concurrency: int,
    ) -> None:
        self._replica, self._values_written = replica, values_written
        self._client, self._on_unknown, self._preflight = client, on_unknown, preflight
        self._max_wait_s, self._result_timeout_s = max_wait_s, result_timeout_s
        self._room = asyncio.Semaphore(concurrency)
        self._tasks: dict[asyncio.Task[bool], None] = {}  # in the order they came
        self._last: dict[str, asyncio.Task[bool]] = {}
        self._failure: BaseException | None = None
        self.done: asyncio.Queue[object] = asyncio.Queue()

    async def feed(self, source: Source) -> None:
        """Start each operation when there is room; one of a segment follows the one before it."""
        loop = asyncio.get_running_loop()
        try:
            async for job_id, operation in _each(source):
                check_operation(operation, "operations")
                await self._room.acquire()
                if isinstance(self._failure, JournalReplaced):  # nothing more can be sent
                    break
                before = self._last.get(operation.name)
                task = loop.create_task(self._one(job_id, operation, before))
                self._last[operation.name] = task
                self._tasks[task] = None
                task.add_done_callback(self._ended)
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._failure is not None:  # no outcome of an operation: a mistake that must not pass in silence
                raise self._failure
        finally:
            self.done.put_nowait(_END)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._tasks.pop(task, None)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def cancel(self) -> None:
        """Stop what has not been sent; what has been goes on in the client."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, job_id: str | None, operation: Operation, before: asyncio.Task[bool] | None) -> bool:
        """Carry out one. Returns whether a later operation on its segment may follow."""
        if before is not None and not await before:
            held_back = NotSent(f"an earlier operation on {operation.name!r} did not go through")
            self.done.put_nowait(Outcome(operation=operation, error=held_back))
            return False
        outcome = await self._outcome(job_id, operation)
        if isinstance(outcome.error, JournalReplaced):
            self._failure = self._failure or outcome.error
        self.done.put_nowait(outcome)
        return _clears_the_way(outcome)

    async def _outcome(self, job_id: str | None, operation: Operation) -> Outcome:
        job: Job | None = None
        try:
            async with self._values_written(operation):  # once, however often it is submitted
                job = await self._submit(job_id, operation)
            return await self._result(operation, job)
        except OutcomeUnknown as error:
            return await self._evidence(operation, self._client.job(error.job_id), error)
        except MoeSegmentsError as error:
            job_id = None if isinstance(error, SegmentBusy) else getattr(error, "job_id", None)  # that is another's
            return Outcome(operation=operation, job=job or (self._client.job(job_id) if job_id else None), error=error)

    async def _submit(self, job_id: str | None, operation: Operation) -> Job:
        deadline_s = asyncio.get_running_loop().time() + self._max_wait_s
        for tries in count():
            try:
                return await self._client.submit(
                    operation,
                    max_wait_s=max(0.0, deadline_s - asyncio.get_running_loop().time()),
                    job_id=job_id,
                    on_unknown=self._on_unknown,
                    preflight=self._preflight,
                )
            except TooManyRequests as error:
                # Somebody else took the slot. The journal knows until when, so the next try waits for that.
                if asyncio.get_running_loop().time() >= deadline_s or error.job_id is None:
                    raise
                job_id = error.job_id
                await asyncio.sleep(self._pause_s(error, tries))
        raise AssertionError("count never ends")

    def _pause_s(self, error: TooManyRequests, tries: int) -> float:
        """Return the pause after a 429, seconds, longer with each in a row; the governor knows the rest."""
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**tries)
        if error.limit or error.ready_at is None:
            return pause_s
        return max(pause_s, self._client.governor.seconds_until(error.ready_at))

    async def _result(self, operation: Operation, job: Job) -> Outcome:
        if not job.record.awaits_callback:
            await job.wait_until(lambda record: record.state not in _ON_ITS_WAY, self._timeout_s())
        if job.record.awaits_callback or job.record.state in JobState.TERMINAL:
            return Outcome(operation=operation, job=job, result=await job.result(self._timeout_for(job)))
        if job.record.state != JobState.ACCEPTED:
            raise unknown_of(job.record)
        return Outcome(operation=operation, job=job, result=job.accepted)

    async def _evidence(self, operation: Operation, job: Job, error: OutcomeUnknown) -> Outcome:
        """Return an unknown job may still end by its callback, or be found in the service's list."""
        awaited = job.record.awaits_callback or isinstance(operation, CreateFileSegment)
        try:
            if awaited and await job.wait_until(_has_news, self._timeout_for(job)):
                return await self._result(operation, job)
        except JournalReplaced as lost:
            self._failure = self._failure or lost
        except MoeSegmentsError as later:
            return Outcome(operation=operation, job=job, error=later)
        if job.record.state == JobState.ACCEPTED:  # the list showed it; only its callback never came
            return Outcome(operation=operation, job=job, error=CallbackTimeout(job.id, self._timeout_s()))
        return Outcome(operation=operation, job=job, error=error)

    def _timeout_for(self, job: Job) -> float:
        """Return how long a callback is still waited for: not beyond the allowance that began with the acceptance."""
        busy_us = job.record.busy_until_us
        if self._result_timeout_s is not None or not busy_us:
            return self._timeout_s()
        left_s = round((busy_us - self._replica.now_us()) / 1_000_000, 3)  # to be shown, too
        return min(self._timeout_s(), max(_LEAST_WAIT_S, left_s))

    def _timeout_s(self) -> float:
        if self._result_timeout_s is not None:
            return self._result_timeout_s
        limits = self._client.limits
        return limits.processing_allowance_s + limits.count_late_s


_LEAST_WAIT_S: Final = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 60.0


def _has_news(record: JobRecord) -> bool:
    return record.settled or record.is_unreadable


_ON_ITS_WAY: Final = (JobState.PLANNED, JobState.RESERVED)


def _clears_the_way(outcome: Outcome) -> bool:
    """Return whether the segment is there and its state known, so that a later operation makes sense."""
    if isinstance(outcome.error, OutcomeUnknown | JournalError):
        return False
    if outcome.error is None or not isinstance(outcome.operation, CreateFileSegment):
        return True
    return outcome.job is not None and outcome.job.accepted is not None


async def _each(source: Source) -> AsyncIterator[tuple[str | None, Operation]]:
    if isinstance(source, Mapping):
        for job_id, operation in source.items():
            yield job_id, operation
    elif isinstance(source, AsyncIterable):
        async for operation in source:
            yield None, operation
    else:
        for operation in source:
            yield None, operation
