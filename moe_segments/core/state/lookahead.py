"""Forecast when callers with a limited wait can start, behind everybody in line. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.core.quota.forecast import Schedule
from moe_segments.core.state.verdicts import Busy, Deferred, verdict_of
from moe_segments.core.state.waiting_line import Waiting, is_in_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from moe_segments.core.quota.forecast import Start
    from moe_segments.core.state.waiting_line import Step

__all__ = ["look_ahead"]

_MOST_PLACED: Final = 384  # who is given a place in the schedule in one step
_STALE_US: Final = 60_000_000  # how long operations in flight are taken to have ended when the forecast was made


def look_ahead(step: Step) -> None:
    """Forecast the start of callers with a limited wait, and refuse those whose start is too late for them."""
    wanted = {position for position in step.patience_us if position < step.known and _is_in_line(step, position)}
    if not wanted:
        return
    outlook, schedule = step.outlook, _kept_schedule(step)
    placed = outlook.placed
    budget = _MOST_PLACED
    for one in _to_place(step):
        if not wanted:
            break
        if one.job in placed and one.position not in wanted:
            continue
        if budget == 0:
            _put_off(step, wanted)
            return
        budget -= 1
        start = placed.get(one.job) or schedule.find(one.demand(step.state))
        if one.position in wanted and one.position is not None:
            wanted.discard(one.position)
            if _will_not_wait(step, one.position, start):
                continue
        if one.job not in placed:
            schedule.take(one.demand(step.state), start, one.job)
            placed[one.job] = start
    else:
        outlook.claims = step.state.claims.made
        if wanted and step.line is None:  # in line, and not as it was
            _put_off(step, wanted)
            outlook.forget()


def _is_in_line(step: Step, position: int) -> bool:
    verdict = step.verdicts.get(position)
    if verdict is None and (verdict := step.barred(step.asks[position])) is not None:
        step.verdicts[position] = verdict
    return verdict is None or isinstance(verdict, Deferred) or (isinstance(verdict, Busy) and verdict.in_line)


def _kept_schedule(step: Step) -> Schedule:
    """Return the schedule as far as it was made; one that was begun is finished, whatever changes meanwhile."""
    outlook, state, now_us = step.outlook, step.state, step.now_us
    schedule = outlook.schedule
    if schedule is not None and outlook.claims is not None:
        is_stale = schedule.in_flight and now_us - schedule.made_us > _STALE_US
        if outlook.schedule_revision != state.revision or is_stale:
            schedule = None
    if schedule is None:
        schedule = outlook.schedule = Schedule(state.ledger, now_us, state.claims.passers)
        outlook.schedule_revision, outlook.placed, outlook.claims = state.revision, {}, 0
    schedule.move_on(now_us)
    return schedule


def _to_place(step: Step) -> Iterator[Waiting]:
    """Return those in line that the schedule may not have, in order."""
    if step.line is not None:
        yield from (one for one in step.line if one.ask is not None or step.waits_for_segment(one) is None)
        return
    state, now_us, ours = step.state, step.now_us, _ours(step)
    gone = {step.asks[position].job for position, _ in step.granted}
    for job, claim in state.claims.made_since(step.outlook.claims or 0):
        if job not in gone and claim.until_us > now_us and state.jobs.holder(claim.demand.keys, now_us) is None:
            position = ours.get(job)
            yield Waiting(job, position, None if position is None else step.asks[position], claim.demand)
    for position in step.unclaimed:
        yield Waiting(step.asks[position].job, position, step.asks[position])


def _ours(step: Step) -> Mapping[str, int]:
    """Return the positions of those whose start is wanted and who have a claim."""
    return {step.asks[at].job: at for at in step.patience_us if at < step.fresh_from}


def _will_not_wait(step: Step, position: int, start: Start) -> bool:
    """Say when it starts. Returns whether that is too late for it."""
    verdict = step.verdicts.get(position)
    if not (isinstance(verdict, Deferred) and verdict.start_us == step.now_us):  # or it fits, and others must end first
        step.verdicts[position] = verdict_of(start)
    return not is_in_time(start.at_us, step.now_us, step.patience_us[position])


def _put_off(step: Step, wanted: Collection[int]) -> None:
    """Go on in the next step: nothing is said until then of those whose start is not known yet, nor behind them."""
    step.is_done = False
    step.outlook.claims = None
    first = min(wanted)
    for position in range(first, step.known):
        if isinstance(step.verdicts.get(position), Deferred | Busy):
            del step.verdicts[position]
