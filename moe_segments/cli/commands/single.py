"""The commands for one file operation, archive and unarchive."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    FileOperation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
)
from moe_segments.bulk import EXIT_QUOTA, check_key, exit_code_of, planned_row, row_of
from moe_segments.cli import output
from moe_segments.cli.commands.jobs import told_acceptance
from moe_segments.cli.commands.quota import waiting_sentence, what_it_waits_for
from moe_segments.cli.running import Stopped, check_seconds, run, unless_stopped
from moe_segments.cli.session import open_session
from moe_segments.errors import InputError, MoeSegmentsError, PreflightError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from moe_segments import Job, Operation, SegmentsClient
    from moe_segments.bulk import BulkRow, PlannedRow
    from moe_segments.cli.options import Common, FileOptions, Receiving, Sending, Waiting
    from moe_segments.cli.session import Session

__all__ = ["submit_file", "submit_plain"]

_KINDS: Final[Mapping[str, type[Operation]]] = {
    kind.op: kind for kind in (CreateFileSegment, AddUsers, RemoveUsers, ReplaceUsers, ArchiveSegment, UnarchiveSegment)
}


def submit_file(
    op: str,
    fields: dict[str, Any],
    file: FileOptions,
    sending: Sending,
    waiting: Waiting,
    receiving: Receiving,
    common: Common,
) -> int:
    """Submit one file operation, and wait for its result where a callback can come. Returns the exit code."""
    fields |= attrs.asdict(file)
    fields["emails"] = fields.pop("email")
    return run(lambda stop: _submit(op, fields, sending, waiting, receiving, common, stop))


def submit_plain(op: str, fields: dict[str, Any], waiting: Waiting, common: Common) -> int:
    """Archive or unarchive. Returns the exit code."""
    return run(lambda stop: _submit(op, fields, None, waiting, None, common, stop))


async def _submit(
    op: str,
    fields: Mapping[str, Any],
    sending: Sending | None,
    waiting: Waiting,
    receiving: Receiving | None,
    common: Common,
    stop: asyncio.Event,
) -> int:
    if sending is not None and (fields["file"] is None) == (fields["file_url"] is None):
        raise InputError("give exactly one of --file-url and --file")
    operation = _KINDS[op](**fields)
    check_seconds(waiting.max_wait, "--max-wait")
    check_seconds(waiting.result_timeout, "--result-timeout")
    async with open_session(common, receiving, sending, check=lambda made: _check_file(operation, made)) as session:
        if waiting.dry_run:
            return await unless_stopped(_tried(session.client, operation, waiting, common), stop)
        if isinstance(operation, FileOperation):
            await unless_stopped(check_key(session.client, operation.name), stop)
        job, error = await _followed(session, operation, waiting, stop)
        info = job.info
        row = row_of(info, error)
        _show(row, told_acceptance(info.accepted) or {}, common)
        return row.exit_code


def _check_file(operation: Operation, client: SegmentsClient) -> None:
    if not isinstance(operation, FileOperation) or operation.file is None:
        return
    if not client.publishes:
        raise InputError(
            "the service cannot read a file of this machine: say with --publish where to put it, such as "
            "s3://bucket/prefix, or upload it where it is public and give --file-url",
            "--file",
        )
    try:
        is_there = operation.file.is_file()
    except OSError:  # a name too long, or a directory that is closed to this user
        is_there = False
    if not is_there:
        raise InputError(f"there is no file {operation.file}", "--file")


async def _tried(client: SegmentsClient, operation: Operation, waiting: Waiting, common: Common) -> int:
    """Say when an operation would start. Returns the exit code that it would end with, as far as that can be known."""
    (outcome,) = [one async for one in client.submit_many([operation], dry_run=True)]
    row, error = planned_row(outcome), outcome.error
    if error is not None and row.exit_code == exit_code_of(error):
        _tell_report(error)
        raise error
    if row.wait_s is not None and row.wait_s > waiting.max_wait:
        row = attrs.evolve(row, exit_code=EXIT_QUOTA)
    if common.json:
        output.document({field: value for field, value in row.to_json().items() if field not in {"line", "priority"}})
    else:
        output.say(f"{row.op} {row.name}: {_start_of(row)}")
    for sentence in (*row.doubts, *((row.error,) if row.error else ())):
        output.note(sentence)
    output.note("dry run: nothing was sent, uploaded or written")
    return row.exit_code


def _start_of(row: PlannedRow) -> str:
    """Return when an operation would start, in words."""
    limit = f", {row.limit} is full until then" if row.limit else ""
    if row.error is not None:
        return "would be refused"
    if row.wait_s is None:
        return f"would never start, as things are: {row.limit}"
    if not row.wait_s:
        return "would start now"
    return f"could start at {output.clock_time(row.start)}, in {output.span(row.wait_s)}{limit}"


async def _followed(
    session: Session, operation: Operation, waiting: Waiting, stop: asyncio.Event
) -> tuple[Job, MoeSegmentsError | None]:
    """Return the job, and why it did not end well. An error before there is a job is raised."""
    client, job_id = session.client, secrets.token_hex(8)
    takes_a_slot = isinstance(operation, FileOperation)
    if waiting.max_wait and takes_a_slot and (full := what_it_waits_for(await client.governor.usage())):
        output.note(waiting_sentence(full))
    try:
        job = await unless_stopped(client.submit(operation, max_wait_s=waiting.max_wait, job_id=job_id), stop)
        if session.receives and job.info.awaits_callback:
            await unless_stopped(job.result(_timeout_s(session, waiting)), stop)
    except Stopped:
        is_named = session.lasts and _is_known(client, job_id)  # else it waited, and nothing was sent
        output.note(f"stopping; what was sent is job {job_id}" if is_named else "stopping")
        raise
    except MoeSegmentsError as error:
        if not _is_known(client, job_id):
            _tell_report(error)
            raise
        output.note(f"moe-segments: {error}")
        return client.job(job_id), error
    return job, None


def _tell_report(error: MoeSegmentsError) -> None:
    """Tell what was found in a file, where that is why."""
    if isinstance(error, PreflightError) and error.report is not None:
        output.note(error.report.as_text(mask=True))  # what is said here may be kept in a log


def _is_known(client: SegmentsClient, job_id: str) -> bool:
    try:
        return client.job(job_id).info.id == job_id
    except InputError:
        return False


def _timeout_s(session: Session, waiting: Waiting) -> float:
    if waiting.result_timeout is not None:
        return waiting.result_timeout
    limits = session.client.limits
    return limits.processing_allowance_s + limits.count_late_s


def _show(row: BulkRow, accepted: dict[str, object], common: Common) -> None:
    if common.json:
        told = {field: value for field, value in row.to_json().items() if field != "line"}
        output.document({**told, "accepted": accepted})
        return
    checked = "" if row.rows is None else f"{row.rows:,} checked, "
    figures = (
        f": {checked}{row.found:,} found, {row.processed:,} processed, {row.matched:,} matched"
        if _has_figures(row)
        else ""
    )
    cs_id = f", id {accepted['cs_id']}" if accepted.get("cs_id") else ""
    output.say(f"{row.op} {row.name}: {row.state}{figures} (job {row.job_id}{cs_id})")


def _has_figures(row: BulkRow) -> bool:
    return None not in (row.found, row.processed, row.matched)
