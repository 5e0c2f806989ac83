"""Run a manifest: journal first, then submit what is left, then report each line.

A run is known by the digest of its manifest, a job by its run and line. So the same call after an interruption, a crash
or a reboot goes on where the journal stands, and what was sent is never sent again in silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import attrs

from moe_segments.bulk.manifest import ManifestError, Mistake
from moe_segments.client.client import replica_of
from moe_segments.core.events import Planned, RunStarted
from moe_segments.core.state.jobs import remembered
from moe_segments.core.state.verdicts import name_used
from moe_segments.errors import (
    ApiError,
    AuthenticationFailed,
    CallbackTimeout,
    CallbackUnreadable,
    FileProcessingFailed,
    Forbidden,
    InputError,
    JournalAmbiguous,
    JournalError,
    JournalReplaced,
    JournalUnavailable,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
    PreflightError,
    QuotaError,
    TooManyRequests,
)
from moe_segments.governor.usage import name_taken
from moe_segments.models import CreateFileSegment, JobState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.client.client import SegmentsClient
    from moe_segments.client.submit_many import Outcome
    from moe_segments.core.events import Event
    from moe_segments.core.state.jobs import JobRecord, Jobs
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.errors import NameTaken
    from moe_segments.models import Operation
    from moe_segments.submission.job_info import JobInfo
    from moe_segments.submission.preflight_policy import Preflight

__all__ = [
    "EXIT_FAILED",
    "EXIT_INPUT",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_QUOTA",
    "EXIT_UNKNOWN",
    "BulkReport",
    "BulkRow",
    "check_key",
    "exit_code_of",
    "is_under_way",
    "refuse_used_names",
    "remaining_entries",
    "row_of",
    "run_bulk",
    "run_id_for",
]

T = TypeVar("T")
_log = logging.getLogger("moe_segments.bulk")

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INPUT: Final = 2
EXIT_QUOTA: Final = 3
EXIT_UNKNOWN: Final = 4
EXIT_REPLACED: Final = 74  # EX_IOERR of sysexits.h
EXIT_UNAVAILABLE: Final = 75  # EX_TEMPFAIL
EXIT_INTERRUPTED: Final = 130

# Which of several lines' codes a run ends with: look first, then mend, then wait, then read.
_MOST_URGENT_FIRST: Final = (EXIT_UNKNOWN, EXIT_REPLACED, EXIT_UNAVAILABLE, EXIT_INPUT, EXIT_QUOTA, EXIT_FAILED)
_EXIT_OF_ERRORS: Final[tuple[tuple[tuple[type[Exception], ...], int], ...]] = (
    ((JournalReplaced,), EXIT_REPLACED),
    ((JournalUnavailable, JournalAmbiguous), EXIT_UNAVAILABLE),
    ((InputError, PreflightError, JournalError, AuthenticationFailed, Forbidden), EXIT_INPUT),
    ((QuotaError, TooManyRequests), EXIT_QUOTA),
    ((OutcomeUnknown, CallbackTimeout, CallbackUnreadable), EXIT_UNKNOWN),
)
_EXIT_OF_STATES: Final[Mapping[str, int]] = {
    JobState.PROCESSED: EXIT_OK,
    JobState.ACCEPTED: EXIT_OK,
    JobState.PLANNED: EXIT_FAILED,
    JobState.FAILED: EXIT_FAILED,
    JobState.REFUSED: EXIT_FAILED,
    JobState.NOT_SENT: EXIT_FAILED,
    JobState.UNREADABLE: EXIT_UNKNOWN,
}
_FORGOTTEN: Final = "ended"  # the state of a job that ended so long ago that the journal dropped it
_PLANNED_AT_ONCE: Final = 500
_KEY_CHECK_S: Final = 10.0  # a service that is away longer is waited for by the operations themselves


def exit_code_of(error: BaseException) -> int:
    """Return the command line's exit code for an error: 2 bad input, 3 a quota, 4 outcome unknown, 1 anything else."""
    return next((code for kinds, code in _EXIT_OF_ERRORS if isinstance(error, kinds)), EXIT_FAILED)


@attrs.frozen(kw_only=True)
class BulkRow:
    """The result of one line.

    Attributes:
        line: Its line in the manifest.
        op: The operation.
        name: The segment.
        job_id: Its job.
        state: One of `JobState`, or "ended" when the journal has dropped it meanwhile.
        rows: Rows that the preflight counted; None where it did not run.
        distinct_rows: Different values among them.
        found: Rows the service found in the file; None where no callback said so.
        processed: Usable values among them.
        matched: Users of the workspace among those.
        warning: Where rows were lost on the way; None when none were.
        error: Why it did not end well; None when it did.
        exit_code: What this line alone would have ended the command with.
    """

    line: int
    op: str
    name: str
    job_id: str
    state: str
    rows: int | None = None
    distinct_rows: int | None = None
    found: int | None = None
    processed: int | None = None
    matched: int | None = None
    warning: str | None = None
    error: str | None = None
    exit_code: int = EXIT_OK

    def to_json(self) -> dict[str, object]:
        """Return the row as JSON-ready data."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class BulkReport:
    """The result of a manifest.

    Attributes:
        run: The run's identifier.
        manifest: The file's name.
        rows: One for each line, in order.
        elapsed_s: How long this call took, seconds.
        already_finished: The run had ended before this call, so nothing was done.
        interrupted: It was stopped; the same call goes on.
    """

    run: str
    manifest: str
    rows: tuple[BulkRow, ...] = attrs.field(repr=lambda rows: f"<{len(rows)} rows>")
    elapsed_s: float
    already_finished: bool = False
    interrupted: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many lines are in each state."""
        return Counter(row.state for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 all processed or accepted, or finished before; 130 interrupted; else the most urgent of the rows'."""
        if self.already_finished:
            return EXIT_OK
        if self.interrupted:
            return EXIT_INTERRUPTED
        codes = {row.exit_code for row in self.rows}
        return next((code for code in _MOST_URGENT_FIRST if code in codes), EXIT_OK)

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON-ready data."""
        return {
            "run": self.run,
            "manifest": self.manifest,
            "exit_code": self.exit_code,
            "already_finished": self.already_finished,
            "interrupted": self.interrupted,
            "elapsed_s": round(self.elapsed_s, 3),
            "counts": dict(self.counts),
            "rows": [row.to_json() for row in self.rows],
        }


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
) -> BulkReport:
    """Carry out a manifest, or what is left of it.

    Args:
        client: Open; its journal is the run's memory.
        manifest: What is to be done.
        concurrency: Operations under way at a time, waiting ones included.
        again: Begin a new run when the last one of this manifest has ended; else that one goes on.
        on_unknown: "retry" sends operations of unknown outcome again, where nothing later was sent to their segment.
        preflight: "error", "warn" or "off": each file is checked when its turn comes; None: as the client says. All of
            them are checked before by `moe_segments.checking.check_files`.
        result_timeout_s: Longest wait for each callback, seconds; None: as long as the quota holds the users.
        on_outcome: Told of each line as it ends.
        stop: Once set, nothing new is sent, what is on its way is settled, and the report says *interrupted*.

    Returns:
        A row for each line.

    Raises:
        AuthenticationFailed: The key is wrong. No operation was sent.
        ManifestError: A run begins, and the names of creates are used up: all of them. Nothing was sent.
        JournalReplaced: The journal is another one than was opened: start again.
        JournalError: The journal cannot be used. Nothing was sent.
    """
    began_s = time.monotonic()
    await replica_of(client).refresh()
    refuse_used_names(client, manifest, again=again)
    running = _Running(client, manifest, run_id_for(client, manifest, again=again))
    finished = running.is_finished()
    interrupted = False
    if not finished:
        outcomes = client.submit_many(  # which refuses what it cannot use before the plan is written
            running.operations(),
            concurrency=concurrency,
            result_timeout_s=result_timeout_s,
            on_unknown=on_unknown,
            preflight=preflight,
        )
        await running.write_plan()
        await _unless_stopped(check_key(client, manifest.entries[0].operation.name), stop)
        interrupted = await running.follow(outcomes, on_outcome, stop)
    return BulkReport(
        run=running.run,
        manifest=manifest.name,
        rows=tuple(running.rows()),
        elapsed_s=time.monotonic() - began_s,
        already_finished=finished,
        interrupted=interrupted,
    )


def run_id_for(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> str:
    """Return the run that `run_bulk` would resume: the last of the manifest, or with *again* the next."""
    jobs, base = replica_of(client).state.jobs, manifest.digest[:16]
    known = {_generation(run, base) for run in jobs.runs} - {0}
    latest = max(known, default=1)
    run = _run_id(base, latest)
    if again and known and _Running(client, manifest, run).is_finished():
        return _run_id(base, latest + 1)
    return run


def is_under_way(client: SegmentsClient, manifest: Manifest, run: str) -> bool:
    """Return whether an earlier call began this run of the manifest and did not end it."""
    return run in replica_of(client).state.jobs.runs and not _Running(client, manifest, run).is_finished()


def refuse_used_names(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> None:
    """Refuse to begin a run with creates whose names are used up. In a run that goes on, each ends with its own error.

    Raises:
        ManifestError: There are such: all of them.
    """
    running = _Running(client, manifest, run_id_for(client, manifest, again=again))
    if running.run in replica_of(client).state.jobs.runs:
        return
    mistakes = tuple(
        Mistake(entry.line, error.field, error.problem)
        for entry in manifest.entries
        if (error := running.name_taken(entry)) is not None
    )
    if mistakes:
        raise ManifestError(manifest.name, mistakes)


def remaining_entries(client: SegmentsClient, manifest: Manifest, *, again: bool = False) -> tuple[Entry, ...]:
    """Return the entries that `run_bulk` would still send."""
    running = _Running(client, manifest, run_id_for(client, manifest, again=again))
    return tuple(entry for entry in manifest.entries if running.may_send(entry))


def row_of(info: JobInfo, error: Exception | None = None) -> BulkRow:
    """Return one job as a row, from what the journal knows of it and from what its caller was told."""
    figures = info.figures
    code = exit_code_of(error) if error else _EXIT_OF_STATES.get(info.state, EXIT_UNKNOWN)
    return BulkRow(
        line=info.line or 0,
        op=info.op,
        name=str(info.segment or info.cs_id),
        job_id=info.id,
        state=info.state,
        rows=figures.rows,
        distinct_rows=figures.distinct_rows,
        found=figures.found,
        processed=figures.processed,
        matched=figures.matched,
        warning="; ".join(figures.warnings) or None,
        error=str(error) if error else _problem_of(info.error),
        exit_code=code,
    )


class _Running:
    """One run of a manifest on a client."""

    def __init__(self, client: SegmentsClient, manifest: Manifest, run: str) -> None:
        self.run = run
        self._client, self._manifest = client, manifest
        self._errors: dict[str, Exception] = {}
        self._job_ids = {f"{run}.{entry.line}": entry for entry in manifest.entries}
        self._job_id_of = {id(entry.operation): job_id for job_id, entry in self._job_ids.items()}
        known = self._jobs.runs.get(run)
        self._planned_before = frozenset(known.jobs) if known else frozenset()

    @property
    def _jobs(self) -> Jobs:
        return replica_of(self._client).state.jobs

    def is_finished(self) -> bool:
        """Return whether every line has ended, or cannot be sent since the create before it was refused."""
        refused: set[str] = set()
        for job_id, entry in self._job_ids.items():
            if entry.operation.name in refused:
                continue
            if not self._has_ended(job_id):
                return False
            record = self._jobs.records.get(job_id)
            if record is not None and isinstance(entry.operation, CreateFileSegment) and record.accepted is None:
                refused.add(entry.operation.name)
        return True

    def _has_ended(self, job_id: str) -> bool:
        record = self._jobs.records.get(job_id)
        if record is None:
            return self._is_forgotten(job_id)
        if self.name_taken(self._job_ids[job_id]) is not None:
            return True
        now_us = replica_of(self._client).now_us()
        return record.settled and not self._jobs.may_send(job_id, retry_unknown=False, now_us=now_us)

    def may_send(self, entry: Entry) -> bool:
        """Return whether this line would still be sent."""
        job_id = f"{self.run}.{entry.line}"
        now_us = replica_of(self._client).now_us()
        if self._is_forgotten(job_id) or self.name_taken(entry) is not None:
            return False
        return self._jobs.may_send(job_id, retry_unknown=False, now_us=now_us)

    def name_taken(self, entry: Entry) -> NameTaken | None:
        """Return why a create that is still to be sent cannot be: its name is used up. None for any other line."""
        job_id, operation = f"{self.run}.{entry.line}", entry.operation
        now_us = replica_of(self._client).now_us()
        if self._is_forgotten(job_id) or not self._jobs.may_send(job_id, retry_unknown=False, now_us=now_us):
            return None
        used = name_used(replica_of(self._client).state, operation.op, operation.name, job_id)
        return None if used is None else name_taken(operation.name, used)

    def operations(self) -> dict[str, Operation]:
        """Return what there is to submit or to ask about, by job."""
        return {job_id: entry.operation for job_id, entry in self._job_ids.items() if not self._is_forgotten(job_id)}

    def _is_forgotten(self, job_id: str) -> bool:
        return job_id in self._planned_before and job_id not in self._jobs.records

    async def write_plan(self) -> None:
        """Write down what is not written down yet: all of it before the first operation is sent."""
        while await replica_of(self._client).ask(self._next_of_plan):
            pass

    def _next_of_plan(self, state: WorkspaceState, _: int) -> tuple[Sequence[Event], bool]:
        """Return the next part of the plan and whether there is more, decided in the journal."""
        run = state.jobs.runs.get(self.run)
        known = state.jobs.records.keys() | set(run.jobs if run else ())
        missing = [job_id for job_id in self._job_ids if job_id not in known]
        events: list[Event] = [] if run else [RunStarted(self.run, self._manifest.name, len(self._job_ids))]
        for job_id in missing[:_PLANNED_AT_ONCE]:
            entry = self._job_ids[job_id]
            events.append(Planned(job_id, remembered(entry.operation), self.run, entry.line))
        return events, len(missing) > _PLANNED_AT_ONCE

    async def follow(
        self,
        outcomes: AsyncIterator[Outcome],
        on_outcome: Callable[[BulkRow], None] | None,
        stop: asyncio.Event | None,
    ) -> bool:
        """Take outcomes as they come. Returns whether it was stopped before all had ended."""
        async with aclosing(_until(outcomes, stop)) as coming:
            async for outcome in coming:
                job_id = self._job_id_of[id(outcome.operation)]
                if outcome.error is not None:
                    self._errors[job_id] = outcome.error
                if on_outcome is not None:
                    on_outcome(self._row(job_id))
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

    def rows(self) -> Iterator[BulkRow]:
        """Return every line as it stands."""
        return (self._row(job_id) for job_id in self._job_ids)

    def _row(self, job_id: str) -> BulkRow:
        entry, record = self._job_ids[job_id], self._jobs.records.get(job_id)
        if record is None:
            operation = entry.operation
            return BulkRow(line=entry.line, op=operation.op, name=operation.name, job_id=job_id, state=_FORGOTTEN)
        error = self._errors.get(job_id) or self.name_taken(entry)
        row = row_of(self._client.job(job_id).info, error)
        return attrs.evolve(row, line=entry.line)


def _run_id(base: str, generation: int) -> str:
    return base if generation == 1 else f"{base}-{generation}"


def _generation(run: str, base: str) -> int:
    """Return which run of the manifest this is, from 1; 0 when it is none of it."""
    if run == base:
        return 1
    suffix = run.removeprefix(f"{base}-")
    return int(suffix) if suffix != run and suffix.isdecimal() else 0


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


def _problem_of(error: MoeSegmentsError | None) -> str | None:  # noqa: PLR0911 - one a kind
    """Return why a job did not end well, as a row has room for it."""
    match error:
        case None:
            return None
        case FileProcessingFailed():
            return error.error_message
        case ApiError():
            told = ": ".join(text for text in (error.title, error.description) if text)
            return f"HTTP {error.status} {told}".rstrip()
        case OutcomeUnknown():
            return ": ".join(text for text in (error.reason, error.title, error.description) if text)
        case CallbackUnreadable():
            return f"a callback came that cannot be read ({error.reason})"
        case NotSent():
            return error.reason
        case _:
            return str(error)
