"""`jobs`: the operations in the journal and their states."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import attrs
from rich.text import Text

from moe_segments.bulk import EXIT_OK, row_of
from moe_segments.cli import output
from moe_segments.cli.running import run
from moe_segments.cli.session import TO_READ, open_session
from moe_segments.errors import InputError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from moe_segments import Accepted, FileFailed, FileProcessed, JobInfo, SegmentsClient
    from moe_segments.cli.options import Common

__all__ = ["show_jobs", "told_acceptance"]

_FIGURES: Final = ("rows", "found", "processed", "matched")


def show_jobs(job: str | None, run_id: str | None, common: Common) -> int:
    """List jobs, or show one. Returns the exit code."""
    return run(lambda stop: _show(job, run_id, common, stop))


async def _show(job: str | None, run_id: str | None, common: Common, _: asyncio.Event) -> int:
    async with open_session(common, required=TO_READ) as session:
        jobs = [_one(session.client, job)] if job is not None else await _all(session.client, run_id)
    if common.json:
        told = [_told(info) for info in jobs]
        output.document(told[0] if job is not None else {"jobs": told})
    elif job is not None:
        output.show(output.table(("", ""), [(name, _text(value)) for name, value in _told(jobs[0]).items() if value]))
    else:
        _show_table(jobs)
    return EXIT_OK


def _one(client: SegmentsClient, job: str) -> JobInfo:
    try:
        return client.job(job).info
    except InputError:
        raise InputError(
            f"the journal knows no job {job!r}; without a job, the command lists them all", "job"
        ) from None


async def _all(client: SegmentsClient, run_id: str | None) -> list[JobInfo]:
    runs = [known.id async for known in client.runs()] if run_id is not None else []
    if run_id is not None and run_id not in runs:
        raise InputError(f"the journal knows no run {run_id!r}; it has {', '.join(runs) or 'none'}", "--run")
    return [info async for info in client.jobs(run=run_id)]


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
    """Return an acceptance as it is told in JSON: what the service did not say is left out."""
    if accepted is None:
        return None
    return {name: value for name, value in attrs.asdict(accepted).items() if value is not None and value != {}}


def _told_result(result: FileProcessed | FileFailed | None) -> dict[str, object] | None:
    if result is None:
        return None
    return {name: value for name, value in attrs.asdict(result).items() if value != {}}


def _show_table(jobs: Sequence[JobInfo]) -> None:
    columns = ("job", "op", "segment", "state", "since (UTC)", *_FIGURES, "problem")
    output.show(output.table(columns, (_cells(info) for info in jobs), numbers=_FIGURES))


def _cells(info: JobInfo) -> Sequence[Text | str]:
    row = row_of(info)
    figures = (output.figure(number) for number in (row.rows, row.found, row.processed, row.matched))
    since = f"{info.since:%m-%d %H:%M:%S}"
    return [row.job_id, row.op, row.name, output.styled_state(info.state), since, *figures, row.error or ""]


def _text(value: object) -> Text:
    if isinstance(value, dict):
        return Text(output.clean(", ".join(f"{name} {part}" for name, part in value.items())))
    return Text(output.clean(output.clock_time(value) if isinstance(value, datetime) else str(value)))
