"""Submit many operations: bounded concurrency, in order for each segment, exactly one outcome each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Mapping
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import attrs

from moe_segments.client.ordering import Planned, checked_lines, in_best_order, in_parts, part_id
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
from moe_segments.models import Accepted, CreateFileSegment, FileOperation, FileProcessed, JobState
from moe_segments.models.arguments import check_operation
from moe_segments.submission.job_info import unknown_of
from moe_segments.telemetry.life import Life
from moe_segments.types import with_older_pickles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from moe_segments.client.job import Job
    from moe_segments.core.files.report import PreflightReport
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.governor.governor import Governor
    from moe_segments.governor.plan import Plan
    from moe_segments.governor.plan_queries import Order
    from moe_segments.governor.usage import PlannedStart
    from moe_segments.journal.replica import Replica
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import Operation
    from moe_segments.settings import Settings
    from moe_segments.submission.file_preparer import FilePreparer
    from moe_segments.submission.preflight_policy import Preflight
    from moe_segments.telemetry.emitter import Events

__all__ = ["Outcome", "each_line", "outcomes"]

Source: TypeAlias = "Iterable[Operation] | AsyncIterable[Operation] | Mapping[str, Operation]"
_END: Final = object()


class _Client(Protocol):
    """The part of the client that many operations need."""

    settings: Settings
    limits: QuotaLimits
    governor: Governor
    events: Events

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

    async def preflight(self, operation: FileOperation) -> PreflightReport:
        """Check an operation's file now."""

    def job(self, job_id: str) -> Job:
        """Return the job of an identifier."""


@with_older_pickles
@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of one operation of many.

    Attributes:
        operation: What was asked for.
        job: Its job; None when it never became one.
        result: The callback's figures, or the acceptance where no callback can come; None on an error.
        error: Why there is no result; None when there is one.
        planned: When it would start, for a dry run; else None.
        doubts: What is doubtful though no error, one sentence each, for a dry run.
        plan: The plan of the whole dry run; else None.
        parts: The outcomes of its parts, in order, where it was too large for a day and was split; else empty. The
            result is their sum then, and the error that of the first part that has one.
    """

    operation: Operation
    job: Job | None = None
    result: FileProcessed | Accepted | None = None
    error: MoeSegmentsError | None = None
    planned: PlannedStart | None = None
    doubts: tuple[str, ...] = ()
    plan: Plan | None = attrs.field(default=None, repr=False)
    parts: tuple[Outcome, ...] = ()


async def outcomes(
    client: _Client,
    source: Source,
    *,
    replica: Replica,
    files: FilePreparer,
    concurrency: int,
    max_wait_s: float,
    result_timeout_s: float | None,
    on_unknown: Literal["raise", "retry"],
    preflight: Preflight | None,
    order: Order = "given",
    priority: Callable[[Operation], float] | None = None,
) -> AsyncIterator[Outcome]:
    """Submit all of *source* and yield each outcome as it comes. See `SegmentsClient.submit_many`."""
    many = _Many(client, replica, files, max_wait_s, result_timeout_s, on_unknown, preflight, concurrency)
    lines = each_line(source) if order == "given" else many.in_best_order(source, priority)
    feeding = asyncio.get_running_loop().create_task(many.feed(lines))
    try:
        while (outcome := await many.done.get()) is not _END:
            assert isinstance(outcome, Outcome)
            yield outcome
        await feeding
    finally:
        feeding.cancel()
        await many.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await many.close()


class _Many:
    def __init__(
        self,
        client: _Client,
        replica: Replica,
        files: FilePreparer,
        max_wait_s: float,
        result_timeout_s: float | None,
        on_unknown: Literal["raise", "retry"],
        preflight: Preflight | None,
        concurrency: int,
    ) -> None:
        self._replica, self._files = replica, files
        self._client, self._on_unknown, self._preflight = client, on_unknown, preflight
        self._max_wait_s, self._result_timeout_s = max_wait_s, result_timeout_s
        self._room = asyncio.Semaphore(concurrency)
        self._tasks: dict[asyncio.Task[bool], None] = {}  # in the order they came
        self._last: dict[str, asyncio.Task[bool]] = {}
        self._failure: BaseException | None = None
        self._parts: dict[Planned, list[Outcome | None]] = {}  # of a line that was split
        self._open = AsyncExitStack()
        self._changed = asyncio.Event()
        self._ours: set[str] = set()
        self._following: dict[Planned, None] = {}  # those that wait for the one before them on their segment
        self.done: asyncio.Queue[object] = asyncio.Queue()

    async def feed(self, lines: AsyncIterator[Planned]) -> None:
        """Start each operation when there is room; one of a segment follows the one before it."""
        loop = asyncio.get_running_loop()
        try:
            async for line in lines:
                await self._room.acquire()
                if isinstance(self._failure, JournalReplaced):  # nothing more can be sent
                    break
                before = self._last.get(line.operation.name)
                if before is not None and not before.done():
                    self._following[line] = None
                task = loop.create_task(self._one(line, before))
                self._last[line.operation.name] = task
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

    async def in_best_order(
        self, source: Source, priority: Callable[[Operation], float] | None
    ) -> AsyncIterator[Planned]:
        """Yield the operations in the best order, each when it is due; large ones in parts."""
        lines: list[Planned] = []
        async for line in each_line(source, priority):
            self._ours.add(line.job_id)
            if self._is_to_send(line):
                lines.append(line)
            else:  # under way or ended: nothing of it is planned
                yield line
        checked = await checked_lines(
            self._client, self._files, lines, self._preflight or self._client.settings.preflight
        )
        made: list[Planned] = []
        for line in checked:
            # One that is journaled, or that its caller has cut, stays as it is.
            is_fixed = part_id(line.job_id, 2) in self._ours or line.job_id in self._replica.state.jobs.records
            parts = await in_parts(self._files, line, self._client.limits)
            if is_fixed and len(parts) > 1:
                parts = [line]
            made += parts if parts[0].whole is None else await self._kept(line, parts)
        self._ours.update(line.job_id for line in made)
        async for line in in_best_order(
            self._client,
            made,
            max_wait_s=self._max_wait_s,
            changed=self._changed,
            following=self._not_in_line,
            others=self._others,
        ):
            yield line

    async def _kept(self, line: Planned, parts: list[Planned]) -> list[Planned]:
        """Return the parts of a line. Their rows are kept as they are now, as days pass until the last is sent."""
        sources = parts if getattr(line.operation, "values", None) is None else [line]  # values are kept as a whole
        try:
            for source in sources:
                await self._open.enter_async_context(self._files.values_written(source.operation))
        except MoeSegmentsError as error:
            return [attrs.evolve(line, error=error)]
        self._parts[line] = [None] * len(parts)
        return parts

    def _is_to_send(self, line: Planned) -> bool:
        jobs, is_retried = self._replica.state.jobs, self._on_unknown == "retry"
        return jobs.may_send(line.job_id, retry_unknown=is_retried, now_us=self._replica.now_us())

    def _not_in_line(self) -> Sequence[Planned]:
        """Return those that follow another on their segment and were not sent yet, in the order they were given."""
        records = self._replica.state.jobs.records
        return [
            line
            for line in self._following
            if (record := records.get(line.job_id)) is None or record.state == JobState.PLANNED
        ]

    async def _others(self) -> object:
        """Return what others have spent and wait for, as far as it matters whether that has changed."""
        usage = await self._client.governor.usage()
        state = self._replica.state
        known = len(state.jobs.records) - sum(job_id in state.jobs.records for job_id in self._ours)
        waiting = len(state.claims.live) - sum(job_id in state.claims.live for job_id in self._ours)
        return known, waiting, [(one.external, one.closed_until) for one in usage.values()]

    async def close(self) -> None:
        """Remove what was kept for the parts of large operations."""
        await self._open.aclose()

    async def _one(self, line: Planned, before: asyncio.Task[bool] | None) -> bool:
        """Carry out one. Returns whether a later operation on its segment may follow."""
        operation = line.operation
        if line.error is not None:
            refused = Outcome(operation=operation, error=line.error)
            self._report(line, refused)
            return self._clears_the_way(refused)
        may_follow = before is None or await before
        if not may_follow and self._is_to_send(line):  # one that is under way or has ended is attached to
            self._following.pop(line, None)
            held_back = NotSent(f"an earlier operation on {operation.name!r} did not go through: see to that one first")
            self._report(line, Outcome(operation=operation, error=held_back))
            return False
        outcome = await self._outcome(line.job_id, operation)
        self._following.pop(line, None)
        if isinstance(outcome.error, JournalReplaced):
            self._failure = self._failure or outcome.error
        if _spent_otherwise(outcome, self._client.limits):
            self._changed.set()
        self._report(line, outcome)
        return may_follow and self._clears_the_way(outcome)

    def _clears_the_way(self, outcome: Outcome) -> bool:
        """Return whether the segment may be there and its state is known, so that a later operation makes sense.

        After a create that was refused it is there only where the refusal shows that its name is used.
        """
        operation = outcome.operation
        if isinstance(outcome.error, OutcomeUnknown | JournalError):
            return False
        if outcome.error is None or not isinstance(operation, CreateFileSegment):
            return True
        is_accepted = outcome.job is not None and outcome.job.accepted is not None
        return is_accepted or operation.name in self._replica.state.jobs.names

    def _report(self, line: Planned, outcome: Outcome) -> None:
        """Tell the outcome of a line; that of a part with the others of its line."""
        if line.whole is None:
            self.done.put_nowait(outcome)
            return
        outcomes = self._parts[line.whole]
        outcomes[outcomes.index(None)] = outcome  # they end one after another
        parts = [part for part in outcomes if part is not None]
        if len(parts) == len(outcomes):
            self.done.put_nowait(_sum_of(line.whole, parts))

    async def _outcome(self, job_id: str, operation: Operation) -> Outcome:
        job: Job | None = None
        try:
            async with self._files.values_written(operation):  # once, however often it is submitted
                job = await self._submit(job_id, operation)
            return await self._result(operation, job)
        except OutcomeUnknown as error:
            return await self._evidence(operation, self._client.job(error.job_id), error)
        except MoeSegmentsError as error:
            known = None if isinstance(error, SegmentBusy) else getattr(error, "job_id", None)  # that is another's
            return Outcome(operation=operation, job=job or (self._client.job(known) if known else None), error=error)

    async def _submit(self, job_id: str, operation: Operation) -> Job:
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
                job_id, pause_s = error.job_id, self._pause_s(error, tries)
                Life.of(self._client.events, job_id, operation).retried("429", pause_s)
                await asyncio.sleep(pause_s)
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
        """Return the outcome of an unknown job once its callback or the service's list has told it, or time is up."""
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


def _spent_otherwise(outcome: Outcome, limits: QuotaLimits) -> bool:
    """Return whether an operation may have spent something else than planned."""
    rows, result = getattr(outcome.operation, "rows", None), outcome.result
    if outcome.error is not None or rows is None or not isinstance(result, FileProcessed):
        return outcome.error is not None
    return result.values_found > rows or (limits.callback_lowers_users and result.values_found < rows)


_ON_ITS_WAY: Final = (JobState.PLANNED, JobState.RESERVED)


def _sum_of(line: Planned, parts: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a line that was carried out in parts."""
    results = [part.result for part in parts]
    processed = [result for result in results if isinstance(result, FileProcessed)]
    result = results[-1]
    if len(processed) == len(parts):
        result = attrs.evolve(
            processed[-1],
            values_found=sum(one.values_found for one in processed),
            values_processed=sum(one.values_processed for one in processed),
            user_count=sum(one.user_count for one in processed),
        )
    error = next((part.error for part in parts if part.error is not None), None)
    return Outcome(
        operation=line.operation,
        job=parts[0].job,
        result=result if error is None else None,
        error=error,
        parts=tuple(parts),
    )


async def each_line(source: Source, priority: Callable[[Operation], float] | None = None) -> AsyncIterator[Planned]:
    """Yield each operation as a line.

    Raises:
        InputError: One is no operation.
    """
    pairs = _pairs(source)
    async for job_id, operation in pairs:
        check_operation(operation, "operations")
        urgent = 0 if priority is None else priority(operation)
        yield Planned(job_id=os.urandom(8).hex() if job_id is None else job_id, operation=operation, priority=urgent)


async def _pairs(source: Source) -> AsyncIterator[tuple[str | None, Operation]]:
    if isinstance(source, Mapping):
        for job_id, operation in source.items():
            yield job_id, operation
    elif isinstance(source, AsyncIterable):
        async for operation in source:
            yield None, operation
    else:
        for operation in source:
            yield None, operation
