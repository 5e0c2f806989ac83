"""`jobs`: what the journal knows of each operation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import attrs
from rich.text import Text

from moe_segments.bulk import EXIT_OK, row_of
from moe_segments.cli import output
from moe_segments.cli.running import run
from moe_segments.cli.session import open_session
from moe_segments.errors import InputError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from moe_segments.cli.options import Common
    from moe_segments.client import SegmentsClient
    from moe_segments.core.jobs import JobRecord

__all__ = ["show_jobs"]

_MICRO: Final = 1_000_000
_FIGURES: Final = ("rows", "found", "processed", "matched")


def show_jobs(job: str | None, run_id: str | None, common: Common) -> int:
    """List jobs, or show one. Returns the exit code."""
    return run(lambda stop: _show(job, run_id, common, stop))


async def _show(job: str | None, run_id: str | None, common: Common, _: asyncio.Event) -> int:
    async with open_session(common) as session:
        client = session.client
        records = [_record(client, job)] if job is not None else _records(client, run_id)
        told = [_told(client, record) for record in records]
        states = [client.job(record.id).state for record in records]
    if common.json:
        output.document(told[0] if job is not None else {"jobs": told})
    elif job is not None:
        output.show(output.table(("", ""), [(name, _text(value)) for name, value in told[0].items() if value]))
    else:
        _show_table(records, states)
    return EXIT_OK


def _record(client: SegmentsClient, job: str) -> JobRecord:
    record = client.follower.state.jobs.records.get(job)
    if record is None:
        raise InputError(f"the journal knows no job {job!r}; without a job, the command lists them all", "job")
    return record


def _records(client: SegmentsClient, run_id: str | None) -> list[JobRecord]:
    known = client.follower.state.jobs
    if run_id is not None and run_id not in known.runs:
        raise InputError(f"the journal knows no run {run_id!r}; it has {', '.join(known.runs) or 'none'}", "--run")
    return [record for record in known.records.values() if run_id in (None, record.run)]


def _told(client: SegmentsClient, record: JobRecord) -> dict[str, object]:
    row = row_of(record.id, record, client.job(record.id).state).to_json()
    return {
        "job_id": record.id,
        "run": record.run,
        "line": record.line,
        "state": row["state"],
        "since": _moment(record.since_us),
        "attempts": record.attempt,
        "duplicate_possible": record.duplicate_possible,
        "operation": {name: value for name, value in record.operation.items() if name != "filters"},  # a digest
        "accepted": record.accepted,
        "evidence": None if (found := client.job(record.id).evidence) is None else attrs.asdict(found),
        "result": record.result,
        "unreadable": record.unread if record.is_unreadable else None,
        "warning": row["warning"],
        "error": row["error"],
    }


def _show_table(records: Sequence[JobRecord], states: Sequence[str]) -> None:
    columns = ("job", "op", "segment", "state", "since (UTC)", *_FIGURES, "problem")
    rows = (_cells(record, state) for record, state in zip(records, states, strict=True))
    output.show(output.table(columns, rows, numbers=_FIGURES))


def _cells(record: JobRecord, state: str) -> Sequence[Text | str]:
    row = row_of(record.id, record, state)
    figures = (output.figure(number) for number in (row.rows, row.found, row.processed, row.matched))
    since = f"{_moment(record.since_us):%m-%d %H:%M:%S}"
    return [row.job_id, row.op, row.name, output.styled_state(state), since, *figures, row.error or ""]


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / _MICRO, UTC)


def _text(value: object) -> Text:
    if isinstance(value, dict):
        return Text(output.clean(", ".join(f"{name} {part}" for name, part in value.items())))
    return Text(output.clean(output.clock_time(value) if isinstance(value, datetime) else str(value)))
