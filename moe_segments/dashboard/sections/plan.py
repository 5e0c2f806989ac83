"""The plan ahead: who waits in line, in whichever process, when each starts, and what it waits for. Pure.

The starts of those in line come from their claims in the journal, by the same forecast that the clients' own decisions
follow. Operations in flight are taken to end now, so these are the earliest moments. Behind them stand the operations
of runs that are planned and not in line yet, as in their manifest; a run in the best order may choose another order.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.core.quota.decision import Cost
from moe_segments.core.quota.forecast import Demand, Schedule
from moe_segments.core.quota.ledger import life_us
from moe_segments.core.state.jobs import recalled, segment_keys
from moe_segments.core.state.verdicts import cost_of
from moe_segments.errors import InputError
from moe_segments.models import CreateFileSegment, JobState
from moe_segments.submission.job_info import has_ended

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from moe_segments.core.quota.claims import Claim
    from moe_segments.core.quota.forecast import Start
    from moe_segments.core.state.jobs import JobRecord, Run
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.dashboard.sections.view import View
    from moe_segments.limits import QuotaLimits

__all__ = ["PlanAhead", "RunProgress", "Waiting", "plan_of"]

_MOST_PLACED: Final = 400  # who is given a place in the schedule: that takes time
_MOST_RUNS: Final = 4
_SECOND_US: Final = 1_000_000
_ATTEMPT_US: Final = 90 * _SECOND_US  # as a client's by default: its fence and its time-out


@attrs.frozen(kw_only=True)
class Waiting:
    """One operation that waits.

    Attributes:
        segment: What its segment is called.
        op: What it does, as far as the journal tells.
        rows: Users that it spends.
        start_us: When it starts at the earliest, journal time; None when nothing known lets it start.
        limit: The limit that it waits for last; None where it waits for none.
        is_busy: It waits for another operation on its segment.
        is_planned: It is not in line yet.
    """

    segment: str
    op: str
    rows: int
    start_us: int | None
    limit: str | None
    is_busy: bool
    is_planned: bool = False


@attrs.frozen(kw_only=True)
class RunProgress:
    """A bulk run that has not ended.

    Attributes:
        manifest: The name of its manifest.
        total: How many operations it has.
        ended: How many of them have ended.
        counts: How many of them are in each state.
    """

    manifest: str
    total: int
    ended: int
    counts: Mapping[str, int] = attrs.field(hash=False)


@attrs.frozen(kw_only=True)
class PlanAhead:
    """Everything that is to come.

    Attributes:
        waiting: Those who wait, in line, and behind them those who are planned; no more than are given a place.
        in_line: How many wait.
        planned: How many operations of runs are not in line yet.
        idle: How many of runs that nothing was heard of for a day; they are not in the plan.
        next_us: When one more file operation could start behind the line; None when nothing known lets it.
        runs: Bulk runs that have not ended.
    """

    waiting: tuple[Waiting, ...]
    in_line: int
    planned: int
    idle: int
    next_us: int | None
    runs: tuple[RunProgress, ...]


def plan_of(view: View) -> PlanAhead:
    """Return the plan ahead."""
    state, now_us = view.state, view.now_us
    schedule = Schedule(state.ledger, now_us, state.claims.passers)
    standing = list(state.claims.standing(now_us))
    in_line = {job for job, _ in standing}
    waiting = [_placed(state, schedule, job, claim) for job, claim in standing[:_MOST_PLACED]]
    next_us = schedule.find(Demand(Cost(operations=1, rows=1))).at_us
    planned, idle = _planned(state, in_line, now_us)
    waiting += (_forecast(schedule, record, state.limits) for record in islice(planned, _MOST_PLACED - len(waiting)))
    return PlanAhead(
        waiting=tuple(waiting),
        in_line=len(standing),
        planned=len(planned),
        idle=idle,
        next_us=next_us,
        runs=tuple(_runs(state, now_us)),
    )


def _placed(state: WorkspaceState, schedule: Schedule, job: str, claim: Claim) -> Waiting:
    is_busy = state.jobs.holder(claim.demand.keys, schedule.now_us) is not None
    # Whoever waits for a segment stands in nobody's way, and comes into line when it is free.
    start: Start | None = None if is_busy else schedule.place(claim.demand, job)
    record = state.jobs.records.get(job)
    known = {} if record is None else record.operation
    return Waiting(
        segment=_segment_of(claim.demand.keys) or str(known.get("name") or job),
        op=str(known.get("op") or _op_of(claim.demand.cost)),
        rows=claim.demand.cost.rows,
        start_us=None if start is None else start.at_us,
        limit=None if start is None else start.limit,
        is_busy=is_busy or (start is not None and start.behind is not None),
    )


def _planned(state: WorkspaceState, in_line: Collection[str], now_us: int) -> tuple[list[JobRecord], int]:
    """Return what is planned and not in line, and how many more there are of runs that nothing was heard of."""
    records, since_us = state.jobs.records, now_us - round(state.limits.day_s * _SECOND_US)
    planned: list[JobRecord] = []
    idle = 0
    for run in state.jobs.runs.values():
        known = [record for job in run.jobs if (record := records.get(job)) is not None]
        rest = [record for record in known if record.state == JobState.PLANNED and record.id not in in_line]
        if max((record.since_us for record in known), default=0) > since_us:
            planned += rest
        else:
            idle += len(rest)
    return planned, idle


def _forecast(schedule: Schedule, record: JobRecord, limits: QuotaLimits) -> Waiting:
    demand = _demand_of(record, limits)
    start = None if demand is None else schedule.place(demand, record.id)
    return Waiting(
        segment=str(record.operation.get("name") or record.operation.get("cs_id") or record.id),
        op=str(record.operation.get("op") or ""),
        rows=0 if demand is None else demand.cost.rows,
        start_us=None if start is None else start.at_us,
        limit=None if start is None else start.limit,
        is_busy=start is not None and start.behind is not None,
        is_planned=True,
    )


def _demand_of(record: JobRecord, limits: QuotaLimits) -> Demand | None:
    """Return what a planned operation asks for; None where that cannot be read."""
    checked: Any = record.operation.get("checked") or {}  # JSON of the preflight
    try:
        operation = recalled({"rows": checked.get("rows"), **record.operation})
    except (InputError, KeyError, TypeError):  # another program wrote it
        return None
    life = None
    if isinstance(operation, CreateFileSegment) and operation.expiry_time is not None:
        life = life_us(operation.expiry_time, limits)
    return Demand(cost_of(operation, limits), segment_keys(operation), life_us=life, attempt_us=_ATTEMPT_US)


def _segment_of(keys: tuple[str, ...]) -> str:
    """Return the name among what an operation keeps busy, else the identifier."""
    return next((key for key in keys if not key.startswith("id:")), keys[0].removeprefix("id:") if keys else "")


def _op_of(cost: Cost) -> str:
    """Return what a claim says of its operation."""
    if cost.call:
        return cost.call
    return "create" if cost.segments else "update"


def _runs(state: WorkspaceState, now_us: int) -> Iterator[RunProgress]:
    open_runs = (_progress(run, state, now_us) for run in reversed(state.jobs.runs.values()))
    shown = (run for run in open_runs if run.ended < run.total)
    for _, run in zip(range(_MOST_RUNS), shown, strict=False):
        yield run


def _progress(run: Run, state: WorkspaceState, now_us: int) -> RunProgress:
    known = [record for job in run.jobs if (record := state.jobs.records.get(job)) is not None]
    states = [record.state_at(now_us) for record in known]
    ended = sum(has_ended(record, at) for record, at in zip(known, states, strict=True))
    return RunProgress(manifest=run.manifest, total=run.total, ended=ended, counts=Counter(states))
