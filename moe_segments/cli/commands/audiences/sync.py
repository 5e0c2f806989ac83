"""`sync`: segments brought to the members they should have."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from moe_segments import AudienceReport, JobState, read_audiences
from moe_segments.bulk import EXIT_FAILED, EXIT_INPUT, EXIT_OK, EXIT_QUOTA, EXIT_UNKNOWN, exit_code_of
from moe_segments.cli import output
from moe_segments.cli.commands.audiences.known import share
from moe_segments.cli.commands.progress import Standing, shown, states_in_words
from moe_segments.cli.commands.quota import what_it_waits_for
from moe_segments.cli.running import run, unless_stopped
from moe_segments.cli.session import open_session
from moe_segments.cli.table import Cell, Column, Table, terminal_width
from moe_segments.errors import InputError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from moe_segments import Audience, SegmentsClient, SyncPlan, SyncReport
    from moe_segments.cli.options import Common, Receiving, Sending

__all__ = ["sync_audiences"]

_FIGURES: Final = tuple(Column(name=name, is_number=True) for name in ("added", "removed", "unchanged", "users"))
_AT_WORK: Final = (JobState.PLANNED, JobState.RESERVED, JobState.SENDING, JobState.ACCEPTED)
_SETTLES: Final = timedelta(seconds=2)  # from the end of a job to the report of its audience
_NOT_PUBLISHED: Final = "say where files are put for the service to fetch, such as s3://bucket/prefix"
_NOBODY_HEARS: Final = (
    "no callback can come here, so the next sync replaces all members: --callback-url and --listen let it be heard"
)
_STOPPING: Final = "stopping: what was sent goes on and its callbacks count; the same command goes on from there"


def sync_audiences(
    path: Path, only: Sequence[str], *, dry_run: bool, sending: Sending, receiving: Receiving, common: Common
) -> int:
    """Sync the audiences of a file. Returns the exit code."""

    async def command(stop: asyncio.Event) -> int:
        audiences = read_audiences(path, only=only)
        async with open_session(common, receiving, sending, check=_check_publishes, remembers=True) as session:
            if dry_run:
                plan = await unless_stopped(session.client.plan_sync(audiences), stop)
                _show_plan(plan, common)
                return max((exit_code_of(one.error) for one in plan.audiences if one.error), default=EXIT_OK)
            count = len(audiences)
            output.note(f"{count} audience{'' if count == 1 else 's'} of {path.name}")
            done = list[AudienceReport]()
            async with shown(session.client, lambda: _standing(session.client, audiences, done), count):
                report = await unless_stopped(session.client.sync(audiences, on_report=done.append), stop)
        _show_report(report, common)
        if not session.receives:
            output.note(_NOBODY_HEARS)
        return max((_code_of(one) for one in report.audiences), default=EXIT_OK)

    return run(command, stopping=None if dry_run else _STOPPING, options={"file": "FILE", "only": "--only"})


def _check_publishes(client: SegmentsClient) -> None:
    if not client.publishes:
        raise InputError(_NOT_PUBLISHED, "--publish")


async def _standing(client: SegmentsClient, audiences: Sequence[Audience], done: Sequence[AudienceReport]) -> Standing:
    """Return how far a sync has got: audiences that ended, and what the operations of the others are doing."""
    names = {audience.name for audience in audiences} - {one.name for one in done}
    just_now = datetime.now(UTC) - _SETTLES
    settling = {job.segment async for job in client.jobs(state=JobState.TERMINAL, since=just_now)} & names
    states = Counter([job.state async for job in client.jobs(state=_AT_WORK) if job.segment in names])
    others = len(names) - len(settling) - states.total()
    if others > 0 and what_it_waits_for(await client.governor.usage()) is not None:
        states[JobState.PLANNED] += others  # the journal hears of them once they have a slot
    words = states_in_words(states) if states or done else "reading and comparing"
    return Standing(done=len(done), total=len(audiences), waiting=states[JobState.PLANNED], words=words)


def _code_of(report: AudienceReport) -> int:
    if report.ok:
        return EXIT_OK
    if report.error is not None:
        return exit_code_of(report.error)
    return {"refused": EXIT_INPUT, "busy": EXIT_QUOTA, "unknown": EXIT_UNKNOWN}.get(report.status, EXIT_FAILED)


def _show_report(report: SyncReport, common: Common) -> None:
    if common.json:
        output.document(report.to_json())
        return
    columns = (
        *(Column(name="segment", least=20), Column(name="status"), Column(name="sent"), *_FIGURES),
        *(Column(name=name, is_number=True) for name in ("matched", "match rate", "before")),
        *_problem_column(),
    )
    table = Table(columns, left_out=("before", "users", "matched", "unchanged"), room=terminal_width())
    for one in report.audiences:
        table.add(_cells(one))
    table.end()
    _explain({one.name: _problem_of(one) for one in report.audiences})


def _problem_column() -> tuple[Column, ...]:
    """Return the column of problems where nothing is cut; on a terminal they follow the table, each in full."""
    return () if terminal_width() is not None else (Column(name="problem"),)


def _explain(problems: Mapping[str, str]) -> None:
    for name, problem in problems.items():
        if problem and terminal_width() is not None:
            output.note(f"{name}: {problem}", folds=True)


def _problem_of(one: AudienceReport) -> str:
    return "; ".join([*([str(one.error)] if one.error else []), *one.warnings])


def _cells(one: AudienceReport) -> tuple[Cell, ...]:
    figures = map(output.figure, (one.added, one.removed, one.unchanged, one.users, one.matched))
    sent = " + ".join(one.operations) or "nothing"
    cells = (one.name, one.status, sent, *figures, share(one.match_rate), share(one.last_match_rate))
    return cells if terminal_width() is not None else (*cells, _problem_of(one))


def _show_plan(plan: SyncPlan, common: Common) -> None:
    if common.json:
        output.document(plan.to_json())
        return
    columns = (
        *(Column(name="segment", least=20), Column(name="to be sent"), *_FIGURES),
        *_problem_column(),
    )
    table = Table(columns, left_out=("users", "unchanged"), room=terminal_width())
    for one in plan.audiences:
        figures = map(output.figure, (one.added, one.removed, one.unchanged, one.users))
        cells = (one.name, " + ".join(one.operations) or "nothing", *figures)
        table.add(cells if terminal_width() is not None else (*cells, str(one.error or "")))
    table.end()
    _explain({one.name: str(one.error or "") for one in plan.audiences})
    if plan.plan.all_sent_by is not None:
        output.note(f"all sent by {output.clock_time(plan.plan.all_sent_by)}")
