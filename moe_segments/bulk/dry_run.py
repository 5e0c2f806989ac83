"""Plan a manifest, or find out all that a run of it would before its first send. Nothing is sent, uploaded or written.

Lines that earlier runs have done, or that are under way, are told as they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.bulk.lines import with_digests
from moe_segments.bulk.report import DONE_BEFORE, EXIT_FAILED, EXIT_OK, EXIT_QUOTA, exit_code_of, most_urgent
from moe_segments.bulk.run import opened_run
from moe_segments.client.submit_many import Outcome
from moe_segments.errors import InputError
from moe_segments.models import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, tzinfo

    from moe_segments.bulk.assignment import Line
    from moe_segments.bulk.manifest import Manifest
    from moe_segments.bulk.run import Running
    from moe_segments.client.client import SegmentsClient
    from moe_segments.governor.plan import Plan
    from moe_segments.governor.plan_queries import Order
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["BulkPlan", "PlannedRow", "dry_run_bulk", "plan_bulk", "planned_row"]

_REFUSED: Final = "refused"


@attrs.frozen(kw_only=True)
class PlannedRow:
    """The planned start of one line.

    Attributes:
        line: Its line in the manifest; 0 for one that stands in none.
        op: The operation.
        name: The segment.
        state: "planned"; "refused" where it would be; "done before"; else how its job stands, one of `JobState`.
        start: When it would start, aware UTC; None when it never would, or has started before.
        wait_s: Seconds until then; None likewise.
        limit: The limit that it waits for last, or that it never fits; None when it can start now.
        rows: Its users, at most; None where nobody counts them.
        priority: How urgent it is.
        doubts: What is doubtful though no error, one sentence each.
        error: Why it would be refused; None when it would not.
        exit_code: What this line alone would end the command with.
        parts: In how many operations it is still to be sent; the start is that of the first of them.
        merged_into: The line that it was merged into, and that is sent for both; None for one that was not merged.
    """

    line: int
    op: str
    name: str
    state: str = JobState.PLANNED
    start: datetime | None = None
    wait_s: float | None = None
    limit: str | None = None
    rows: int | None = None
    priority: float = 0
    doubts: tuple[str, ...] = ()
    error: str | None = None
    exit_code: int = EXIT_OK
    parts: int = 1
    merged_into: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the row as JSON-ready data; its start is a `datetime`.

        Returns:
            The fields.
        """
        data = attrs.asdict(self)
        wait_s = self.wait_s
        return {**data, "doubts": list(self.doubts), "wait_s": None if wait_s is None else round(wait_s, 3)}


@attrs.frozen(kw_only=True)
class BulkPlan:
    """The plan of what is left of a manifest.

    Attributes:
        run: The run that would go on, or begin.
        manifest: The file's name.
        rows: One for each line, in order.
        plan: The plan of the operations that can be sent.
    """

    run: str
    manifest: str
    rows: tuple[PlannedRow, ...] = attrs.field(repr=lambda rows: f"<{len(rows)} rows>")
    plan: Plan = attrs.field(repr=False)

    @property
    def left(self) -> tuple[PlannedRow, ...]:
        """The lines that are still to be sent."""
        return tuple(row for row in self.rows if row.state in (JobState.PLANNED, _REFUSED))

    @property
    def never(self) -> tuple[PlannedRow, ...]:
        """Those of them that would never start, as things are."""
        return tuple(row for row in self.left if row.start is None)

    @property
    def exit_code(self) -> int:
        """0 all would be sent; 2 bad input; 3 a quota refuses one, or one never starts; 1 one would be refused."""
        return most_urgent(row.exit_code for row in self.rows)

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON-ready data; moments are `datetime`s.

        Returns:
            The figures of the whole, without the rows.
        """
        return {
            "run": self.run,
            "manifest": self.manifest,
            "total": len(self.rows),
            "all_sent_by": self.plan.all_sent_by,
            "operations_spent": self.plan.operations,
            "users_spent": self.plan.users,
            "exit_code": self.exit_code,
        }

    def to_svg(self, *, zone: tzinfo | None = None) -> str:
        """Return the plan as the text of an SVG file, see `Plan.to_svg`.

        Args:
            zone: The time zone of what is written; None for the machine's.

        Returns:
            The text of the file.
        """
        return self.plan.to_svg(zone=zone)


async def plan_bulk(
    client: SegmentsClient, manifest: Manifest, *, order: Order = "best", again: bool = False
) -> BulkPlan:
    """Return when each line that is left of a manifest would start. Only large local files are read.

    Args:
        client: Open.
        manifest: What is to be done, with the rows of its files, see `count_rows`.
        order: As for `run_bulk`.
        again: As for `run_bulk`.

    Returns:
        The plan.

    Raises:
        InputError: The rows of a file are not known.
        ManifestError: New lines create segments whose names are used up, or files cannot be read: all of them.
        JournalError: The journal cannot be used.
    """
    running = await _running(client, manifest, order=order, again=again)
    operations = [operation for line in running.to_send() for operation in running.sends(line).values()]
    refusals = await client.governor.refusals(operations)
    pairs = zip(operations, refusals, strict=True)
    outcomes = [Outcome(operation=operation, error=error) for operation, error in pairs if error is not None]
    left = [operation for operation, error in zip(operations, refusals, strict=True) if error is None]
    priorities = [running.priority_of(operation) for operation in left] if order == "best" else None
    plan = await client.governor.plan(left, order=order, priorities=priorities)
    planned = zip(left, plan, strict=True)
    outcomes += [Outcome(operation=operation, planned=start) for operation, start in planned]
    return _whole(running, manifest, outcomes, plan)


async def dry_run_bulk(
    client: SegmentsClient,
    manifest: Manifest,
    *,
    order: Order = "best",
    again: bool = False,
    preflight: Preflight | None = None,
) -> BulkPlan:
    """Do what `run_bulk` does before its first send, and return what it would send when, and what would be refused.

    Files are checked, so is the right to publish them, and one list call, where its quota allows it at once, shows
    creates of names that are used and segments that are not there. Nothing is sent, uploaded or written.

    Args:
        client: Open.
        manifest: What is to be done.
        order: As for `run_bulk`.
        again: As for `run_bulk`.
        preflight: As for `run_bulk`.

    Returns:
        The plan.

    Raises:
        AuthenticationFailed: The key is wrong.
        ManifestError: New lines create segments whose names are used up, or files cannot be read: all of them.
        JournalError: The journal cannot be used.
    """
    running = await _running(client, manifest, order=order, again=again, preflight=preflight)
    outcomes = [
        outcome
        async for outcome in client.submit_many(
            {job_id: one for line in running.to_send() for job_id, one in running.sends(line).items()},
            order=order,
            priority=running.priority_of if order == "best" else None,
            preflight=preflight,
            dry_run=True,
        )
    ]
    plan = next((outcome.plan for outcome in outcomes if outcome.plan is not None), None)
    return _whole(running, manifest, outcomes, await client.governor.plan([]) if plan is None else plan)


async def _running(
    client: SegmentsClient, manifest: Manifest, *, order: Order, again: bool, preflight: Preflight | None = None
) -> Running:
    running = await opened_run(client, await with_digests(manifest), order=order, again=again, preflight=preflight)
    running.refuse_used_names()
    return running


def _whole(running: Running, manifest: Manifest, outcomes: Iterable[Outcome], plan: Plan) -> BulkPlan:
    parts: dict[Line, list[Outcome]] = {}
    for outcome in outcomes:
        parts.setdefault(running.line_of(outcome.operation), []).append(outcome)
    rows: list[PlannedRow] = []
    for line in running.lines:
        row = _row_of_parts(line, parts[line]) if line in parts else _standing(running, line)
        others = (attrs.evolve(row, line=other, rows=None, merged_into=row.line) for other in line.entry.merged)
        rows += [row, *others]
    rows.sort(key=lambda row: row.line)
    return BulkPlan(run=running.run, manifest=manifest.name, rows=tuple(rows), plan=plan)


def _row_of_parts(line: Line, parts: Sequence[Outcome]) -> PlannedRow:
    """Return the row of a line: the start of its first part; what is wrong with any of them."""
    rows = [planned_row(part, line=line.entry.line, priority=line.entry.priority) for part in parts]
    told = next((row for row in rows if row.start is None), min(rows, key=lambda row: row.wait_s or 0))
    counts = [row.rows for row in rows if row.rows is not None]
    doubts = tuple(dict.fromkeys(doubt for row in rows for doubt in row.doubts))
    rows_of_all = sum(counts) if counts else None
    return attrs.evolve(told, op=line.entry.operation.op, rows=rows_of_all, doubts=doubts, parts=len(rows))


def planned_row(outcome: Outcome, *, line: int = 0, priority: float = 0) -> PlannedRow:
    """Return one outcome of a dry run as a row.

    Args:
        outcome: With its planned start, or with the error that refuses it.
        line: Its line in a manifest, from 1; 0 for one that stands in none.
        priority: How urgent it is.
    """
    operation, start, error = outcome.operation, outcome.planned, outcome.error
    rows = getattr(operation if start is None else start.operation, "rows", None)
    row = PlannedRow(
        line=line, op=operation.op, name=operation.name, rows=rows, priority=priority, doubts=outcome.doubts
    )
    if error is not None:
        # A name that the service lists and the journal does not know: a run would be answered with a conflict.
        is_conflict = type(error) is InputError and error.field == "name"
        code, limit = EXIT_FAILED if is_conflict else exit_code_of(error), getattr(error, "limit", None)
        return attrs.evolve(row, state=_REFUSED, limit=limit, error=str(error), exit_code=code)
    if start is None or start.start is None:
        return attrs.evolve(row, limit=None if start is None else start.limit, exit_code=EXIT_QUOTA)
    return attrs.evolve(row, start=start.start, wait_s=start.wait_s, limit=start.limit)


def _standing(running: Running, line: Line) -> PlannedRow:
    """Return a line that is not to be sent, as it stands."""
    row = running.row(line)
    is_awaited = row.state == JobState.RESERVED  # its answer is on its way
    return PlannedRow(
        line=row.line,
        op=row.op,
        name=row.name,
        state=DONE_BEFORE if row.done_before else row.state,
        rows=row.rows,
        priority=line.entry.priority,
        error=row.error,
        exit_code=EXIT_OK if is_awaited else row.exit_code,
    )
