"""Run a manifest: find what earlier runs did, journal the rest, submit it, report each line.

A line is known by what it says, see `bulk.lines`, a run by the digest of its manifest. So the same call after an
interruption, a crash or a reboot goes on where the journal stands, an edited manifest sends what is new in it, and what
was done is never sent again in silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import attrs

from moe_segments.bulk.assignment import Line, assign, is_open
from moe_segments.bulk.lines import is_done, is_void, says, with_digests
from moe_segments.bulk.manifest import ManifestError, Mistake
from moe_segments.bulk.parts import jobs_of, size_of, sizes_of_large
from moe_segments.bulk.report import FORGOTTEN, BulkReport, BulkRow, exit_code_of, merged_row, row_of, whole_of
from moe_segments.client.client import replica_of
from moe_segments.client.ordering import cut, part_id
from moe_segments.core.events import Planned, RunStarted
from moe_segments.core.state.jobs import CREATES, remembered
from moe_segments.core.state.verdicts import name_used
from moe_segments.errors import AuthenticationFailed, MoeSegmentsError, NoUsersMatched
from moe_segments.governor.usage import name_taken
from moe_segments.models import CreateFileSegment, FileOperation, JobState
from moe_segments.telemetry.emitter import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.client.client import SegmentsClient
    from moe_segments.client.submit_many import Outcome
    from moe_segments.core.events import Event
    from moe_segments.core.planning.parts import Part
    from moe_segments.core.state.jobs import JobRecord, Jobs
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.errors import NameTaken
    from moe_segments.governor.plan_queries import Order
    from moe_segments.models import Operation
    from moe_segments.submission.preflight_policy import Preflight

__all__ = [
    "BulkReport",
    "BulkRow",
    "Running",
    "check_key",
    "exit_code_of",
    "is_under_way",
    "opened_run",
    "refuse_used_names",
    "remaining_entries",
    "row_of",
    "run_bulk",
    "run_id_for",
]

T = TypeVar("T")
_log = logging.getLogger("moe_segments.bulk")

_PLANNED_AT_ONCE: Final = 500
_KEY_CHECK_S: Final = 10.0  # a service that is away longer is waited for by the operations themselves


async def run_bulk(
    client: SegmentsClient,
    manifest: Manifest,
    *,
    concurrency: int = 100,
    again: bool = False,
    on_unknown: Literal["raise", "retry"] = "raise",
    preflight: Preflight | None = None,
    result_timeout_s: float | None = None,
    on_outcome: Callable[[BulkRow], None] | None = None,
    stop: asyncio.Event | None = None,
    order: Order = "best",
) -> BulkReport:
    """Carry out a manifest, or what is left of it.

    What earlier runs of it did is not sent again, also when it was edited since: lines are known by what they say. What
    was refused or failed is sent again.

    Args:
        client: Open; its journal is the run's memory.
        manifest: What is to be done.
        concurrency: Operations under way at a time, waiting ones included.
        again: Repeat lines that were done before, but for creates, when none is under way; else that run goes on.
        on_unknown: "retry" sends operations of unknown outcome again, where nothing later was sent to their segment.
        preflight: "error", "warn" or "off": each file is checked when its turn comes; None: as the client says. All of
            them are checked before by `moe_segments.checking.check_files`.
        result_timeout_s: Longest wait for each callback, seconds; None: as long as the quota holds the users.
        on_outcome: Told of each line as it ends. What it raises is logged once.
        stop: Once set, nothing new is sent, what is on its way is settled, and the report says *interrupted*.
        order: "best" sends the lines so that the last one starts as early as was found, those of a higher priority
            first; "given" keeps the manifest's order.

    Returns:
        A row for each line.

    Raises:
        AuthenticationFailed: The key is wrong. No operation was sent.
        ManifestError: New lines create segments whose names are used up, or files cannot be read: all of them. Nothing
            was sent.
        InputError: *on_outcome* is no plain function. Nothing was sent.
        JournalReplaced: The journal is another one than was opened: start again.
        JournalError: The journal cannot be used. Nothing was sent.
    """
    began_s = time.monotonic()
    tell = None if on_outcome is None else guarded(on_outcome, "on_outcome")
    manifest = await with_digests(manifest)
    running = await opened_run(client, manifest, order=order, again=again, preflight=preflight)
    running.refuse_used_names()
    finished = running.is_finished()
    interrupted = False
    await running.look_at_done()
    if not finished:
        outcomes = client.submit_many(  # which refuses what it cannot use before the plan is written
            running.operations(),
            concurrency=concurrency,
            result_timeout_s=result_timeout_s,
            on_unknown=on_unknown,
            preflight=preflight,
            order=order,
            priority=running.priority_of if order == "best" else None,
        )
        await running.write_plan()
        if tell is not None:
            for row in running.done_rows():
                tell(row)
        await _unless_stopped(check_key(client, manifest.entries[0].operation.name), stop)
        interrupted = await running.follow(outcomes, tell, stop)
    return BulkReport(
        run=running.run,
        manifest=manifest.name,
        rows=tuple(running.rows()),
        elapsed_s=time.monotonic() - began_s,
        already_finished=finished,
        interrupted=interrupted,
    )


async def opened_run(
    client: SegmentsClient, manifest: Manifest, *, order: Order, again: bool, preflight: Preflight | None = None
) -> Running:
    """Return a run on what the journal says now. In the best order, new lines that are too large are cut.

    Args:
        client: Open.
        manifest: With its digests.
        order: As for `run_bulk`.
        again: As for `run_bulk`.
        preflight: As for `run_bulk`.
    """
    await replica_of(client).refresh()
    running = Running(client, manifest, again=again)
    new = tuple(line.entry for line in running.lines if line.is_new)
    if order == "given" or not (sizes := await sizes_of_large(client, new, preflight or client.settings.preflight)):
        return running
    return Running(client, manifest, again=again, sizes=sizes)


def run_id_for(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> str:
    """Return the run that `run_bulk` would go on with, or begin."""
    return Running(client, manifest, again=again).run


def is_under_way(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> bool:
    """Return whether `run_bulk` would go on with what an earlier call began."""
    return Running(client, manifest, again=again).is_under_way()


def refuse_used_names(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> None:
    """Refuse new lines that create a segment whose name is used up. A line planned before ends with its own error.

    Raises:
        ManifestError: There are such: all of them.
    """
    Running(client, manifest, again=again).refuse_used_names()


def remaining_entries(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> tuple[Entry, ...]:
    """Return the entries that `run_bulk` would still send, in order."""
    return tuple(line.entry for line in Running(client, manifest, again=again).to_send())


class Running:
    """One run of a manifest on a client, from what the journal says when it begins.

    Attributes:
        run: Its identifier.
        lines: The lines with their jobs.
    """

    run: str
    lines: tuple[Line, ...]

    def __init__(
        self,
        client: SegmentsClient,
        manifest: Manifest,
        *,
        again: bool,
        sizes: Mapping[int, Sequence[Part]] = MappingProxyType({}),
    ) -> None:
        self._client, self._manifest = client, manifest
        self._errors: dict[str, Exception] = {}
        assignment = assign(self._jobs, manifest, again=again, now_us=self._now_us())
        self.run, self.lines, self._is_repeat = assignment.run, assignment.lines, assignment.is_repeat
        self._left = {line: self._left_of(line, sizes) for line in self.lines if not line.is_done}
        self._line_of = {id(operation): line for line, left in self._left.items() for operation in left.values()}

    @property
    def _jobs(self) -> Jobs:
        return replica_of(self._client).state.jobs

    def _now_us(self) -> int:
        return replica_of(self._client).now_us()

    def _operation_of(self, line: Line) -> Operation:
        """Return what is submitted: a job that was sent keeps the path that its file had."""
        operation, record = line.entry.operation, self._jobs.records.get(line.job_id)
        path = None if record is None else record.operation.get("file")
        if path is None or not isinstance(operation, FileOperation):
            return operation
        return attrs.evolve(operation, file=Path(str(path)))

    def _left_of(self, line: Line, sizes: Mapping[int, Sequence[Part]]) -> dict[str, Operation]:
        """Return by job what of a line is not done: itself, or its parts up to one that can never be."""
        known, operation = jobs_of(self._jobs, line.job_id), line.entry.operation
        parts = [size_of(record) for record in known] if len(known) > 1 else sizes.get(line.entry.line, ())
        if not (parts and (line.is_new or len(known) > 1)) or not isinstance(operation, FileOperation):
            return {line.job_id: self._operation_of(line)}
        left: dict[str, Operation] = {}
        for number, part in enumerate(cut(operation, parts, Path(str(operation.file))), 1):
            job_id = part_id(line.job_id, number)
            record = self._jobs.records.get(job_id)
            if record is not None and is_done(record):
                continue
            left[job_id] = part
            if record is not None and is_void(record) and not self._may_send(job_id):
                break
        return left

    def _may_send(self, job_id: str) -> bool:
        return self._jobs.may_send(job_id, retry_unknown=False, now_us=self._now_us())

    # What there is to do

    def is_finished(self) -> bool:
        """Return whether every line is done, or can never be."""
        return all(self._has_ended(line) for line in self.lines)

    def _has_ended(self, line: Line) -> bool:
        if line.is_done or line.is_new or self.name_taken(line) is not None:
            return not line.is_new
        records = (self._jobs.records.get(job_id) for job_id in self._left[line])
        return all(record is not None and not is_open(self._jobs, record, self._now_us()) for record in records)

    def is_under_way(self) -> bool:
        """Return whether it goes on with what an earlier call began, and has something left."""
        goes_on = any(not line.is_new or (line.replaces and not self._is_repeat) for line in self.lines)
        return goes_on and not self.is_finished()

    def to_send(self) -> Iterator[Line]:
        """Return the lines that are still to be sent, in order."""
        for line, left in self._left.items():
            if self.name_taken(line) is None and any(map(self._may_send, left)):
                yield line

    def sends(self, line: Line) -> Mapping[str, Operation]:
        """Return what of a line is still to be sent, by job, in order."""
        return {job_id: operation for job_id, operation in self._left[line].items() if self._may_send(job_id)}

    def operations(self) -> Mapping[str, Operation]:
        """Return what there is to submit or to wait for, by job, in order."""
        return {job_id: operation for left in self._left.values() for job_id, operation in left.items()}

    def line_of(self, operation: Operation) -> Line:
        """Return the line of one of `operations`."""
        return self._line_of[id(operation)]

    def priority_of(self, operation: Operation) -> float:
        """Return how urgent one of `operations` is."""
        return self.line_of(operation).entry.priority

    def name_taken(self, line: Line) -> NameTaken | None:
        """Return why a create that is still to be sent cannot be: its name is used up. None for any other line."""
        operation = line.entry.operation
        if line.is_done or not self._may_send(line.job_id):
            return None
        used = name_used(replica_of(self._client).state, operation.op, operation.name, line.job_id)
        return None if used is None else name_taken(operation.name, used)

    def refuse_used_names(self) -> None:
        """Refuse new creates of names that are used up, or that another job is about to use.

        Raises:
            ManifestError: There are such: all of them.
        """
        creating = self._being_created()
        mistakes: list[Mistake] = []
        for line in self.lines:
            name = line.entry.operation.name
            if not line.is_new:
                continue
            if (error := self.name_taken(line)) is not None:
                mistakes.append(Mistake(line.entry.line, error.field, error.problem))
            elif isinstance(line.entry.operation, CreateFileSegment) and name in creating:
                problem = f"job {creating[name]} creates it, and how that ended is not known yet: wait, or look at it"
                mistakes.append(Mistake(line.entry.line, "name", problem))
        if mistakes:
            raise ManifestError(self._manifest.name, tuple(mistakes))

    def _being_created(self) -> Mapping[str, str]:
        """Return by name the jobs of other lines that may have created a segment."""
        ours = {line.job_id for line in self.lines}
        return {
            str(record.operation["name"]): record.id
            for record in self._jobs.records.values()
            if record.operation["op"] in CREATES
            and record.id not in ours
            and record.state in (JobState.RESERVED, JobState.UNKNOWN)
        }

    async def write_plan(self) -> None:
        """Write down what is not written down yet: all of it before the first operation is sent."""
        while await replica_of(self._client).ask(self._next_of_plan):
            pass

    def _next_of_plan(self, state: WorkspaceState, _: int) -> tuple[Sequence[Event], bool]:
        """Return the next part of the plan and whether there is more, decided in the journal."""
        run = state.jobs.runs.get(self.run)
        new = [line for line in self.lines if line.is_new]
        known = state.jobs.records.keys() | set(run.jobs if run else ())
        missing = [line for line in new if line.job_id not in known]
        events: list[Event] = [RunStarted(self.run, self._manifest.name, len(new))] if new and not run else []
        for line in missing[:_PLANNED_AT_ONCE]:
            first, *parts = (
                Planned(job_id, remembered(operation), line=line.entry.line)
                for job_id, operation in self._left[line].items()
            )
            first = attrs.evolve(first, run=self.run, says=says(line.entry), replaces=line.replaces)
            events += [first, *parts]  # together: a line is done when all its parts are
        return events, len(missing) > _PLANNED_AT_ONCE

    async def follow(
        self,
        outcomes: AsyncIterator[Outcome],
        on_outcome: Callable[[BulkRow], None] | None,
        stop: asyncio.Event | None,
    ) -> bool:
        """Take outcomes as they come. Returns whether it was stopped before all had ended."""
        awaited = {line: len(left) for line, left in self._left.items()}
        job_of = {id(operation): job_id for job_id, operation in self.operations().items()}
        async with aclosing(_until(outcomes, stop)) as coming:
            async for outcome in coming:
                line = self.line_of(outcome.operation)
                awaited[line] -= 1
                if outcome.error is not None:
                    self._errors[job_of[id(outcome.operation)]] = outcome.error
                if on_outcome is not None and not awaited[line]:
                    for row in self.rows_of(line):
                        on_outcome(row)
        if stop is None or not stop.is_set():
            return False
        await self._settle()
        return not self.is_finished()

    async def _settle(self) -> None:
        """Let the answers arrive to what was sent: the client goes on with it, within its time-outs."""
        settings = self._client.settings
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.send_by_s + settings.total_timeout_s):
                await replica_of(self._client).refresh()  # a decision that was under way shows after it
                for job_id in self.operations():
                    await self._client.job(job_id).wait_until(_is_off_its_way, None)

    async def look_at_done(self) -> None:
        """Find among what was done before the files that matched nobody, which is an error where the client says so."""
        for record in [one for line in self.lines if line.is_done for one in jobs_of(self._jobs, line.job_id)]:
            if record.result and not record.result.get("user_count"):
                try:
                    await self._client.job(record.id).result(timeout=0)
                except NoUsersMatched as error:
                    self._errors[record.id] = error

    def done_rows(self) -> Iterator[BulkRow]:
        """Return the lines that were done before this call."""
        return (row for line in self.lines if line.is_done for row in self.rows_of(line))

    def rows(self) -> Sequence[BulkRow]:
        """Return every line as it stands."""
        return sorted((row for line in self.lines for row in self.rows_of(line)), key=lambda row: row.line)

    def rows_of(self, line: Line) -> Iterator[BulkRow]:
        """Return a line as it stands, and those that were merged into it."""
        row = self.row(line)
        yield row
        for other in line.entry.merged:
            yield merged_row(row, other)

    def row(self, line: Line) -> BulkRow:
        """Return a line as it stands."""
        entry, records = line.entry, jobs_of(self._jobs, line.job_id)
        if not records:
            return BulkRow(
                line=entry.line,
                op=entry.operation.op,
                name=entry.operation.name,
                job_id=line.job_id,
                state=FORGOTTEN,
                done_before=True,
            )
        errors = [self._errors.get(record.id) for record in records]
        errors[0] = errors[0] or self.name_taken(line)
        pairs = zip(records, errors, strict=True)
        rows = [row_of(self._client.job(record.id).info, error) for record, error in pairs]
        return attrs.evolve(whole_of(rows), line=entry.line, done_before=line.is_done)


def _is_off_its_way(record: JobRecord) -> bool:
    return record.state != JobState.RESERVED


async def check_key(client: SegmentsClient, name: str) -> None:
    """Ask for a segment: a read spends no operation, and a wrong key is known before any is sent.

    Raises:
        AuthenticationFailed: The service does not take the key.
    """
    try:
        async with asyncio.timeout(_KEY_CHECK_S):
            await client.list_segments(name=name)
    except AuthenticationFailed:
        raise
    except (MoeSegmentsError, TimeoutError) as error:
        _log.info("the key could not be checked by a read, going on: %s", type(error).__name__)


async def _until(outcomes: AsyncIterator[Outcome], stop: asyncio.Event | None) -> AsyncGenerator[Outcome, None]:
    """Return the outcomes, until there are no more or *stop* is set."""
    while (outcome := await _unless_stopped(anext(outcomes, None), stop)) is not None:
        yield outcome


async def _unless_stopped(work: Awaitable[T], stop: asyncio.Event | None) -> T | None:
    """Return the result of *work*; None when *stop* is set before, and then it is cancelled."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
