"""`bulk` and `plan`: a manifest carried out, or only looked at."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

import attrs

from moe_segments import JobState
from moe_segments.bulk import (
    DONE_BEFORE,
    EXIT_OK,
    EXIT_QUOTA,
    check_files,
    coalesced,
    count_rows,
    dry_run_bulk,
    is_under_way,
    plan_bulk,
    read_manifest,
    refuse_local_files,
    refuse_used_names,
    remaining_entries,
    run_bulk,
    run_id_for,
    with_digests,
)
from moe_segments.cli import output
from moe_segments.cli.commands.jobs import FIGURES, figures_of
from moe_segments.cli.commands.progress import watching
from moe_segments.cli.commands.quota import quota_line
from moe_segments.cli.running import Stopped, check_seconds, run, unless_stopped
from moe_segments.cli.session import TO_READ, open_session
from moe_segments.cli.table import STATE_STYLES, Column, Table, terminal_width
from moe_segments.cli.timeline import check_timeline, draw_timeline
from moe_segments.errors import InputError, JournalError, JournalReplaced

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from moe_segments import Plan, SegmentsClient
    from moe_segments.bulk import BulkPlan, BulkReport, BulkRow, Entry, Manifest, PlannedRow
    from moe_segments.cli.options import Common, Planning, Receiving, Sending
    from moe_segments.cli.session import Session

__all__ = ["BulkOptions", "plan_manifest", "run_manifest"]

_TRIED_AGAIN: Final = (JobState.PLANNED, JobState.NOT_SENT, JobState.REFUSED, JobState.FAILED)
_QUIET_S: Final = 1.0
_NOT_PUBLISHED: Final = (
    "the service cannot read a file of this machine: say with --publish where to put it, such as s3://bucket/prefix, "
    "or upload it where it is public and give file_url"
)
_TO_GO_ON: Final = "runs that can go on need 'moe-segments sandbox', in another terminal"
_SANDBOX_GONE: Final = (
    "run {run} is not finished, and the sandbox that had its segments ended with its command: name another journal "
    f"to begin anew; {_TO_GO_ON}"
)


@attrs.frozen(kw_only=True)
class BulkOptions:
    """Options of a bulk run, see `run_bulk`."""

    again: bool
    concurrency: int
    on_unknown: Literal["raise", "retry"]
    result_timeout_s: float | None
    dry_run: bool


def run_manifest(
    path: Path, options: BulkOptions, planning: Planning, sending: Sending, receiving: Receiving, common: Common
) -> int:
    """Carry out a manifest, or find out what that would do. Returns the exit code."""
    stopping = "stopping: nothing new is sent, answers to what was sent are awaited; once more to quit at once"
    return run(
        lambda stop: _bulk(path, options, planning, sending, receiving, common, stop),
        stopping=None if options.dry_run else stopping,
    )


def plan_manifest(path: Path, planning: Planning, common: Common) -> int:
    """Say when the operations of a manifest could start. Returns the exit code."""
    return run(lambda stop: _plan(path, planning, common, stop))


async def _bulk(
    path: Path,
    options: BulkOptions,
    planning: Planning,
    sending: Sending,
    receiving: Receiving,
    common: Common,
    stop: asyncio.Event,
) -> int:
    check_seconds(options.result_timeout_s, "--result-timeout")
    if options.concurrency < 1:
        raise InputError(f"must be a whole number from 1, not {options.concurrency}", "--concurrency")
    check_timeline(planning)
    manifest = read_manifest(path)

    def check(made: SegmentsClient) -> None:
        if not made.publishes:
            refuse_local_files(manifest, _NOT_PUBLISHED)

    async with open_session(common, receiving, sending, check=check) as session:
        client = session.client
        manifest = await unless_stopped(with_digests(manifest), stop)
        run_id = run_id_for(client, manifest, again=options.again)
        if session.embedded and is_under_way(client, manifest, again=options.again):
            raise InputError(_SANDBOX_GONE.format(run=run_id), "--journal")
        try:
            manifest = await unless_stopped(_checked(client, manifest, options, planning), stop)
        except Stopped:
            output.note("stopped before anything was sent")
            raise
        manifest = await unless_stopped(_merged(client, manifest, planning), stop)
        if options.dry_run:
            work = dry_run_bulk(client, manifest, order=planning.order, again=options.again)
            return _show_plan(await unless_stopped(work, stop), planning, common, is_dry=True)
        _announce(run_id, manifest, len(remaining_entries(client, manifest, again=options.again)))
        await _forecast(client, manifest, planning, again=options.again)
        async with watching(client, run_id, len(manifest.entries)), _resumable(run_id):
            report = await run_bulk(
                client,
                manifest,
                concurrency=options.concurrency,
                again=options.again,
                on_unknown=options.on_unknown,
                preflight=client.settings.preflight,
                result_timeout_s=options.result_timeout_s,
                on_outcome=_show_outcome if common.json else None,
                stop=stop,
                order=planning.order,
            )
        quotas = await _quotas(client)
    _show_report(report, common)
    _explain(report, session)
    output.note(quotas, folds=True)
    return report.exit_code


def _announce(run_id: str, manifest: Manifest, left: int) -> None:
    total = len(manifest.entries)
    of_these = "" if left == total else f", {left} of them still to be sent"
    output.note(f"run {run_id}: {total} operations of {manifest.name}{of_these}")


async def _quotas(client: SegmentsClient) -> str:
    try:
        return quota_line(await client.governor.usage())
    except JournalError as error:  # the report counts, and what the quotas are now does not
        return f"the quotas cannot be read: {error}"


@asynccontextmanager
async def _resumable(run_id: str) -> AsyncIterator[None]:
    """Say how a run goes on that its journal has ended."""
    try:
        yield
    except JournalReplaced:
        output.note(
            f"run {run_id} stopped: the same command resumes it; operations that the journal has lost are sent again"
        )
        raise
    except JournalError:
        output.note(
            f"run {run_id} stopped: the same command resumes it when the journal is back; nothing is sent twice"
        )
        raise


async def _checked(client: SegmentsClient, manifest: Manifest, options: BulkOptions, planning: Planning) -> Manifest:
    """Return the manifest with the rows of its files known, after all of them were checked."""
    if client.settings.preflight == "off":
        return await count_rows(client, manifest, remote=False)
    began_s, told = time.monotonic(), False

    def on_checked(_: Entry) -> None:
        nonlocal told
        if not told and time.monotonic() - began_s > _QUIET_S:
            told = True
            output.note(f"checking the files of {manifest.name} before anything is sent")

    return await check_files(
        client,
        manifest,
        preflight=client.settings.preflight,
        again=options.again,
        order=planning.order,
        on_checked=on_checked,
    )


async def _merged(client: SegmentsClient, manifest: Manifest, planning: Planning) -> Manifest:
    """Return the manifest with its neighbours merged, where that was asked for."""
    if not planning.coalesce:
        return manifest
    merged = await coalesced(manifest, client.limits)
    output.note(f"{len(manifest.entries)} lines are {len(merged.entries)} operations")
    return merged


# Showing a run


def _show_outcome(row: BulkRow) -> None:
    output.line({"type": "outcome", **row.to_json()})


def _show_report(report: BulkReport, common: Common) -> None:
    if not common.json:
        _show_rows(report.rows)
        return
    if report.already_finished:
        for row in report.rows:
            _show_outcome(row)
    summary = {name: value for name, value in report.to_json().items() if name != "rows"}
    output.line({"type": "report", **summary})


def _show_rows(rows: Sequence[BulkRow]) -> None:
    has_problem = any(_said_of(row) for row in rows)
    columns = (
        Column(name="line", is_number=True),
        Column(name="op"),
        Column(name="segment", least=8),
        Column(name="state", styles=STATE_STYLES),
        *FIGURES,
        *((Column(name="problem", least=16),) if has_problem else ()),
    )
    left_out = (*(column.name for column in FIGURES), "op", "problem", "segment")
    table = Table(columns, left_out=left_out, room=terminal_width())
    if all(table.add(_cells(row, has_problem=has_problem)) for row in rows):
        table.end()


def _cells(row: BulkRow, *, has_problem: bool) -> Sequence[str]:
    cells = [str(row.line), row.op, row.name, DONE_BEFORE if row.done_before else row.state, *figures_of(row)]
    return [*cells, _said_of(row)] if has_problem else cells


def _said_of(row: BulkRow) -> str:
    merged = "" if row.merged_into is None else f"merged into line {row.merged_into}"
    return row.error or row.warning or merged


def _explain(report: BulkReport, session: Session) -> None:
    counts = ", ".join(f"{number} {state}" for state, number in report.counts.items())
    if report.already_finished:
        output.note(f"run {report.run} was finished before: {counts}; nothing was sent; {_instead(report)}")
        return
    output.note(f"run {report.run}: {counts}, in {output.span(report.elapsed_s)}", folds=True)
    for sentence in _hints(report, session):
        output.note(sentence)


def _instead(report: BulkReport) -> str:
    """Return what can be done about a run in which nothing is left to send."""
    if any(not row.done_before for row in report.rows):
        return "lines with a problem cannot be done as they stand: edit them, the others are not sent again"
    return "--again repeats it, but for creates: their names are used up"


def _hints(report: BulkReport, session: Session) -> Iterator[str]:
    if report.interrupted and session.embedded:
        yield f"interrupted; the sandbox is gone, and this run with it; {_TO_GO_ON}"
    elif report.interrupted and session.lasts:
        yield f"interrupted; to go on, run the same command again: moe-segments {shlex.join(sys.argv[1:])}"
    elif report.interrupted:
        yield "interrupted; its journal was a throwaway one: name one with --journal to be able to go on"
    elif session.embedded:
        pass  # nothing of it can be tried again
    elif any(report.counts.get(state) for state in _TRIED_AGAIN):
        yield "some operations failed or were not sent: the same command sends what can be sent, nothing that is done"
    if report.counts.get(JobState.UNKNOWN):
        yield "some outcomes are unknown: look at these segments before you repeat anything with --on-unknown retry"
    if report.counts.get(JobState.UNREADABLE):
        yield "some callbacks cannot be read: 'moe-segments jobs JOB' shows what came; look at these segments"
    if report.counts.get(JobState.ACCEPTED) and not session.receives:
        yield (
            "no callback can come here, so how processing ended is not known; "
            "--callback-url and --listen let it be heard"
        )
    if any(row.matched == 0 and row.state == JobState.PROCESSED for row in report.rows):
        yield "some files matched nobody: check attribute_name, attribute_type and the values' spelling"


# Planning


async def _plan(path: Path, planning: Planning, common: Common, stop: asyncio.Event) -> int:
    check_timeline(planning)
    manifest = await with_digests(read_manifest(path))
    async with open_session(common, required=TO_READ) as session:
        client = session.client
        refuse_used_names(client, manifest)
        left = await unless_stopped(_counted(client, manifest), stop)
        left = await unless_stopped(_merged(client, left, planning), stop)
        planned = await unless_stopped(plan_bulk(client, left, order=planning.order), stop)
        return _show_plan(planned, planning, common, is_dry=False)


async def _counted(client: SegmentsClient, manifest: Manifest) -> Manifest:
    """Return the manifest with the rows of what is still to be sent; no other file is read."""
    left = attrs.evolve(manifest, entries=remaining_entries(client, manifest))
    counted = {entry.line: entry for entry in (await count_rows(client, left, remote=True)).entries}
    return attrs.evolve(manifest, entries=tuple(counted.get(entry.line, entry) for entry in manifest.entries))


def _show_plan(planned: BulkPlan, planning: Planning, common: Common, *, is_dry: bool) -> int:
    """Show a plan: all lines of a dry run, else those that are left. Returns the exit code."""
    draw_timeline(planned.plan, planning)
    rows = planned.rows if is_dry else planned.left
    if common.json:
        output.document({**planned.to_json(), "operations": [row.to_json() for row in rows]})
    else:
        _show_starts(rows)
    done = len(planned.rows) - len(planned.left)
    count = f"{len(planned.left)} of {len(planned.rows)} operations left" if done else f"{len(planned.left)} operations"
    if not common.json:
        output.note(count)
        if planned.left:
            output.note(_all_sent(planned.plan, len(planned.never)), folds=True)
            output.note(f"it spends {planned.plan.operations:,} operations and {planned.plan.users:,} users")
    if is_dry:
        output.note(f"dry run of {planned.run}: nothing was sent, uploaded or written")
        return planned.exit_code
    return EXIT_QUOTA if planned.never else EXIT_OK


def _show_starts(rows: Sequence[PlannedRow]) -> None:
    has_problem = any(_problem_of(row) for row in rows)
    columns = (
        Column(name="line", is_number=True),
        Column(name="op"),
        Column(name="segment", least=8),
        Column(name="start"),
        *(() if output.is_utc() else (Column(name="UTC"),)),
        Column(name="wait", is_number=True),
        Column(name="waits for"),
        *((Column(name="problem", least=16),) if has_problem else ()),
    )
    left_out = ("UTC", "op", "waits for", *(("problem",) if has_problem else ()), "segment", "wait")
    table = Table(columns, left_out=left_out, room=terminal_width())
    for row in rows:
        cells = (str(row.line), row.op, row.name, *_start_cells(row))
        if not table.add((*cells, _problem_of(row)) if has_problem else cells):
            return
    table.end()


def _problem_of(row: PlannedRow) -> str:
    merged = "" if row.merged_into is None else f"merged into line {row.merged_into}"
    return row.error or "; ".join(row.doubts) or merged


def _start_cells(row: PlannedRow) -> tuple[str, ...]:
    utc = () if output.is_utc() else (output.utc_time(row.start),)
    if row.start is None or row.wait_s is None:
        is_left = row.state == JobState.PLANNED or row.limit
        return "never" if is_left else row.state, *utc, "", row.limit or ""
    return output.local_time(row.start), *utc, output.span(row.wait_s), row.limit or ""


async def _forecast(client: SegmentsClient, manifest: Manifest, planning: Planning, *, again: bool) -> None:
    """Say by when all that is left of a run is sent, and draw its plan, where that can be known."""
    try:
        planned = await plan_bulk(client, manifest, order=planning.order, again=again)
    except (InputError, JournalError) as error:  # rows that nobody has counted; the run says what is wrong itself
        if planning.timeline is not None:
            output.note(f"the plan cannot be drawn: {error}")
        return
    draw_timeline(planned.plan, planning)
    if planned.left:
        output.note(_all_sent(planned.plan, len(planned.never)), folds=True)


def _all_sent(plan: Plan, never: int) -> str:
    """Return by when all of a plan is sent, in a sentence."""
    last = plan.all_sent_by
    if last is None:
        return f"none of {never:,} can ever be sent, as things are"
    others = f", but for {never:,} that can never be sent, as things are" if never else ""
    return (
        f"all sent by {output.clock_time(last)}{others}, at the earliest: answers and processing take their time, too"
    )
