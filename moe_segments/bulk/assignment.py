"""Decide which job carries out each line of a manifest: one of an earlier run, or a new one. Pure, given the digests.

What is done stays done. What is under way, planned or of unknown outcome keeps its job. What was refused or failed gets
a new job, and so does a line that something new before it in the manifest would undo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from moe_segments.bulk.lines import is_void, standing, undone_by
from moe_segments.bulk.parts import all_done, jobs_of
from moe_segments.core.state.jobs import remembered
from moe_segments.models import CreateFileSegment, JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.bulk.manifest import Entry, Manifest
    from moe_segments.core.state.jobs import JobRecord, Jobs, Run

__all__ = ["Assignment", "Line", "assign", "is_open"]

_NEVER_SENT = (JobState.PLANNED, JobState.NOT_SENT)


@attrs.frozen
class Line:
    """A line of a manifest and its job.

    Attributes:
        entry: The line.
        job_id: Its job, of this run or of an earlier one.
        is_new: The job is yet to be planned.
        replaces: The earlier job that a new one stands in for.
        is_done: It was done before.
    """

    entry: Entry
    job_id: str
    is_new: bool = False
    replaces: str | None = None
    is_done: bool = False


@attrs.frozen
class Assignment:
    """The jobs of all lines, in the manifest's order.

    Attributes:
        run: The run that takes the new jobs; without any the one that goes on.
        lines: The lines.
        is_repeat: All that can be are repeated on purpose.
    """

    run: str
    lines: tuple[Line, ...]
    is_repeat: bool


def assign(jobs: Jobs, manifest: Manifest, *, again: bool, now_us: int) -> Assignment:
    """Return which job carries out each line.

    Args:
        jobs: What the journal knows.
        manifest: The lines.
        again: All lines get new jobs, unless some are under way; creates that are done cannot be repeated.
        now_us: The journal's time.
    """
    base = manifest.digest[:16]
    generations = {number: run for name, run in jobs.runs.items() if (number := _generation(name, base))}
    latest = generations[max(generations)] if generations else None
    own_runs = frozenset(run.id for run in generations.values())
    found = standing(jobs, manifest.entries, own_runs, now_us)
    forgotten = _forgotten(jobs, own_runs)
    is_repeat = again and (
        latest is None or not any(record and _is_under_way(jobs, record, now_us) for record in found)
    )
    if is_repeat:
        kept, forgotten = _final(jobs, manifest.entries, found), {}
    else:
        kept = _without_undone(jobs, manifest.entries, _kept(jobs, manifest.entries, found, latest, now_us))
    new = [
        entry.line
        for entry, record in zip(manifest.entries, kept, strict=True)
        if record is None and entry.line not in forgotten
    ]
    run = _run_for(jobs, base, latest, max(generations, default=0), new)
    if not new and latest is None:  # all of it is an earlier run's
        run = next((record.run for record in kept if record is not None and record.run), run)
    lines = tuple(
        _line(jobs, run, entry, before, record, forgotten.get(entry.line))
        for entry, before, record in zip(manifest.entries, found, kept, strict=True)
    )
    return Assignment(run, lines, is_repeat)


def is_open(jobs: Jobs, record: JobRecord, now_us: int) -> bool:
    """Return whether a job has not ended, or has not been sent."""
    return not record.settled or jobs.may_send(record.id, retry_unknown=False, now_us=now_us)


def _is_under_way(jobs: Jobs, record: JobRecord, now_us: int) -> bool:
    return any(_can_end(jobs, part, now_us) for part in jobs_of(jobs, record.id))


def _can_end(jobs: Jobs, record: JobRecord, now_us: int) -> bool:
    """Return whether a job is open and can end, which a create of a name that is used up cannot."""
    used_by = jobs.name_used_by(record.operation.get("op"), record.operation.get("name"), record.id)
    return is_open(jobs, record, now_us) and (used_by is None or record.state not in _NEVER_SENT)


def _final(jobs: Jobs, entries: Sequence[Entry], found: Sequence[JobRecord | None]) -> list[JobRecord | None]:
    """Return the jobs that cannot be repeated: creates that have used up their names."""
    return [
        record
        if record is not None and (all_done(jobs, record) or is_void(record)) and _names_are_used(jobs, entry)
        else None
        for entry, record in zip(entries, found, strict=True)
    ]


def _has_ended(jobs: Jobs, record: JobRecord) -> bool:
    return all_done(jobs, record) or any(map(is_void, jobs_of(jobs, record.id)))


def _names_are_used(jobs: Jobs, entry: Entry) -> bool:
    return isinstance(entry.operation, CreateFileSegment) and entry.operation.name in jobs.names


def _kept(
    jobs: Jobs, entries: Sequence[Entry], found: Sequence[JobRecord | None], latest: Run | None, now_us: int
) -> list[JobRecord | None]:
    """Return the jobs that lines keep; None for a line that needs a new one."""
    # A run that repeats all lines was stopped before all were planned: what is left of it is to be repeated, too.
    total = _final(jobs, entries, found).count(None)
    repeating = latest.id if latest is not None and len(latest.jobs) < latest.total == total else None
    return [
        None
        if record is None
        or _needs_another(jobs, entry, record, now_us)
        or (repeating not in (None, record.run) and not _names_are_used(jobs, entry))
        else record
        for entry, record in zip(entries, found, strict=True)
    ]


def _needs_another(jobs: Jobs, entry: Entry, record: JobRecord, now_us: int) -> bool:
    """Return whether a job cannot be sent (again), and its line can be."""
    if record.state in _NEVER_SENT and "values" not in record.operation:  # a part has no path to compare
        return remembered(entry.operation).get("file") != record.operation.get("file")  # the file has moved
    is_lost = any(
        is_void(part) and not jobs.may_send(part.id, retry_unknown=False, now_us=now_us)
        for part in jobs_of(jobs, record.id)
    )
    return is_lost and not _names_are_used(jobs, entry)


def _without_undone(jobs: Jobs, entries: Sequence[Entry], kept: Sequence[JobRecord | None]) -> list[JobRecord | None]:
    """Return the jobs without those that are done, and would be undone by what is still to be sent before them."""
    sent: dict[str, set[str]] = {}  # operations by segment
    left: list[JobRecord | None] = []
    for entry, record in zip(entries, kept, strict=True):
        before = sent.setdefault(entry.operation.name, set())
        done = record is not None and all_done(jobs, record)
        stays = record is not None and not (done and before & undone_by(entry.operation.op))
        if not stays or not done:
            before.add(entry.operation.op)
        left.append(record if stays else None)
    return left


def _forgotten(jobs: Jobs, own_runs: frozenset[str]) -> dict[int, str]:
    """Return by line the jobs of a manifest that ended so long ago that the journal dropped them."""
    planned = [job for run in own_runs for job in jobs.runs[run].jobs if job not in jobs.records]
    return {int(job.rpartition(".")[2]): job for job in planned}


def _line(
    jobs: Jobs, run: str, entry: Entry, before: JobRecord | None, kept: JobRecord | None, forgotten: str | None
) -> Line:
    if kept is not None:
        return Line(entry, kept.id, is_done=all_done(jobs, kept))
    if forgotten is not None:
        return Line(entry, forgotten, is_done=True)
    return Line(entry, f"{run}.{entry.line}", is_new=True, replaces=None if before is None else before.id)


# Runs of one manifest


def _run_for(jobs: Jobs, base: str, latest: Run | None, generation: int, new: Sequence[int]) -> str:
    """Return the run that takes new lines: the last one while its plan is not complete, else the next."""
    if latest is None:
        return base
    is_planned = len(latest.jobs) >= latest.total or any(f"{latest.id}.{line}" in jobs.records for line in new)
    return f"{base}-{generation + 1}" if new and is_planned else latest.id


def _generation(run: str, base: str) -> int:
    """Return which run of the manifest this is, from 1; 0 when it is none of it."""
    if run == base:
        return 1
    suffix = run.removeprefix(f"{base}-")
    return int(suffix) if suffix != run and suffix.isdecimal() else 0
