"""`jobs`: the operations in the journal and their states."""

from __future__ import annotations

import sys
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.bulk import EXIT_OK, row_of
from moe_segments.cli import output
from moe_segments.cli.running import moment_since, run, unless_stopped
from moe_segments.cli.session import TO_READ, open_session
from moe_segments.cli.table import STATE_STYLES, Column, Table, show_facts, terminal_width
from moe_segments.errors import InputError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Sequence

    from moe_segments import Accepted, FileFailed, FileProcessed, JobInfo, SegmentsClient
    from moe_segments.bulk import BulkRow
    from moe_segments.cli.options import Common

__all__ = ["FIGURES", "Listed", "figures_of", "show_jobs", "told_acceptance"]

FIGURES: Final = tuple(Column(name=name, is_number=True) for name in ("rows", "found", "processed", "matched"))
_LEFT_OUT: Final = (*(column.name for column in FIGURES), "UTC", "since", "op", "problem", "segment")
_ON_A_TERMINAL: Final = 50
_OPTIONS: Final = {name: f"--{name}" for name in ("state", "since", "limit")}


@attrs.frozen(kw_only=True)
class Listed:
    """Which jobs are listed, see `SegmentsClient.jobs`; the filters hold together.

    Attributes:
        run: Only those of this bulk run.
        state: Only those in one of these states; none for all.
        segment: Only those of the segment of this name or identifier.
        since: Only those that got into their state since: a moment or a span, see `moment_since`.
        limit: At most so many, the last ones; None for 50 on a terminal, and all elsewhere.
    """

    run: str | None
    state: tuple[str, ...]
    segment: str | None
    since: str | None
    limit: int | None


_ANY: Final = Listed(run=None, state=(), segment=None, since=None, limit=None)


def show_jobs(job: str | None, listed: Listed, common: Common) -> int:
    """List jobs, or show one. Returns the exit code."""
    return run(lambda stop: _show(job, listed, common, stop), options=_OPTIONS)


async def _show(job: str | None, listed: Listed, common: Common, stop: asyncio.Event) -> int:
    since = moment_since(listed.since)
    if listed.limit is not None and listed.limit < 1:
        raise InputError(f"must be a whole number from 1, not {listed.limit}", "limit")
    if job is not None and attrs.astuple(listed) != attrs.astuple(_ANY):
        raise InputError("is shown alone: leave the job out to list those that the options choose", "JOB")
    async with open_session(common, required=TO_READ) as session:
        if job is not None:
            _show_one(_one(session.client, job), common)
            return EXIT_OK
        await _check_run(session.client, listed.run)
        found = session.client.jobs(
            state=listed.state or None, segment=listed.segment, run=listed.run, since=since,
            limit=listed.limit if common.json else None,
        )  # fmt: skip
        if common.json:
            await unless_stopped(output.list_document("jobs", (_told(info) async for info in found)), stop)
        else:
            await unless_stopped(_show_table(found, listed), stop)
    return EXIT_OK


def _show_one(info: JobInfo, common: Common) -> None:
    if common.json:
        output.document(_told(info))
    else:
        show_facts({name: _text(value) for name, value in _told(info).items() if value})


def _one(client: SegmentsClient, job: str) -> JobInfo:
    try:
        return client.job(job).info
    except InputError:
        raise InputError(
            f"the journal knows no job {job!r}; without a job, the command lists them all", "job"
        ) from None


async def _check_run(client: SegmentsClient, run_id: str | None) -> None:
    runs = [known.id async for known in client.runs()] if run_id is not None else []
    if run_id is not None and run_id not in runs:
        raise InputError(f"the journal knows no run {run_id!r}; it has {', '.join(runs) or 'none'}", "--run")


def _told(info: JobInfo) -> dict[str, object]:
    row = row_of(info).to_json()
    return {
        "job_id": info.id,
        "run": info.run,
        "line": info.line,
        "state": info.state,
        "since": info.since,
        "attempts": info.attempts,
        "duplicate_possible": info.duplicate_possible,
        "operation": dict(info.operation),
        "accepted": told_acceptance(info.accepted),
        "evidence": None if info.evidence is None else attrs.asdict(info.evidence),
        "result": _told_result(info.result),
        "unreadable": info.unreadable,
        "warning": row["warning"],
        "error": row["error"],
    }


def told_acceptance(accepted: Accepted | None) -> dict[str, object] | None:
    """Return an acceptance for JSON, without the fields that the service left out."""
    if accepted is None:
        return None
    return {name: value for name, value in attrs.asdict(accepted).items() if value is not None and value != {}}


def _told_result(result: FileProcessed | FileFailed | None) -> dict[str, object] | None:
    if result is None:
        return None
    return {name: value for name, value in attrs.asdict(result).items() if value != {}}


async def _show_table(found: AsyncIterator[JobInfo], listed: Listed) -> None:
    room = terminal_width()
    limit = listed.limit or (None if room is None else _ON_A_TERMINAL)
    columns = (
        Column(name="job"),
        Column(name="op"),
        Column(name="segment", least=8),
        Column(name="state", styles=STATE_STYLES),
        Column(name="since"),
        *(() if output.is_utc() else (Column(name="UTC"),)),
        *FIGURES,
        Column(name="problem", least=16),
    )
    table = Table(columns, left_out=_LEFT_OUT, room=room)
    if limit is None:
        async for info in found:
            if not table.add(_cells(info)):
                return
        table.end()
        return
    number = 0
    last: deque[JobInfo] = deque(maxlen=min(limit, sys.maxsize))
    async for info in found:
        number += 1
        last.append(info)
    if all(table.add(_cells(info)) for info in last) and table.end() and number > limit:
        output.note(f"{number - limit:,} more before these: --limit {number} shows all, as does a pipe")


def _cells(info: JobInfo) -> Sequence[str]:
    row = row_of(info)
    times = [output.local_time(info.since), *([] if output.is_utc() else [output.utc_time(info.since)])]
    return [row.job_id, row.op, row.name, info.state, *times, *figures_of(row), row.error or ""]


def figures_of(row: BulkRow) -> list[str]:
    """Return the cells of the columns `FIGURES`."""
    return [output.figure(number) for number in (row.rows, row.found, row.processed, row.matched)]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return output.clock_time(value) if isinstance(value, datetime) else str(value)
