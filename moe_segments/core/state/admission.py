"""Admission: decide, in order, which waiters may send now. Pure: no clock, no I/O.

First come, first served. Everybody in line, in whichever process, has a place in the schedule of
`core.quota.forecast`; whoever is placed now may leave. So a light operation passes those ahead only when that makes
nobody's start later, even if nothing is ever heard of it. A segment takes one operation at a time; who waits for a
segment that is busy stands in nobody's way, and comes into line when it is free.

A step looks at a part of a long line: a walk goes on in the next step where it stopped. Where nobody waits there is no
schedule, and a newcomer for whom there is no room is told so without a look at the others.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import Claimed, Reserved
from moe_segments.core.quota.decision import Granted, Never, Wait
from moe_segments.core.quota.forecast import Demand, Schedule, Start, starts
from moe_segments.core.state.lookahead import look_ahead
from moe_segments.core.state.verdicts import Admitted, Busy, Deferred, TooLarge, Verdict, verdict_of, wait_of
from moe_segments.core.state.waiting_line import Ahead, Outlook, Spare, Step, Waiting, Walk, is_in_time

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from moe_segments.core.state.verdicts import Ask
    from moe_segments.core.state.workspace import WorkspaceState

__all__ = ["Round", "admit", "forecast", "readmit", "schedule_of"]

_MOST_GRANTS: Final = 48  # of one step: the journal is held for so long
_MOST_FIRST: Final = 512  # of one step, where nobody is ahead, so that there is little to look at
_MOST_PLACED: Final = 384  # who is given a place in the schedule in one step


@attrs.frozen
class Round:
    """The decisions of one step.

    Attributes:
        verdicts: By position, where there is something new to say.
        events: To be made durable: the grants, and the claims of those who begin to wait, in the order of the line.
        claimed: The positions of those.
        wake_us: When somebody may be able to leave, if nothing else happens before; None when that is unknown.
        is_done: Whether everybody was looked at; otherwise the next step goes on.
    """

    verdicts: dict[int, Verdict]
    events: list[Claimed | Reserved]
    claimed: list[int]
    wake_us: int | None
    is_done: bool

    def behind(self, ahead: int, again: Mapping[int, Admitted]) -> Round:
        """Return this behind the grants *again*, of *ahead* positions that come before all of its own."""
        if not ahead:
            return self
        return attrs.evolve(
            self,
            verdicts={**again, **{position + ahead: verdict for position, verdict in self.verdicts.items()}},
            events=[*(admitted.event for admitted in again.values()), *self.events],
            claimed=[position + ahead for position in self.claimed],
        )


def admit(
    state: WorkspaceState,
    asks: Sequence[Ask],
    now_us: int,
    *,
    patience_us: Mapping[int, int] | None = None,
    fresh_from: int = 0,
    outlook: Outlook | None = None,
    for_us: int = 0,
    waiter: str = "",
) -> Round:
    """Decide who may leave. Reservations are tried on *state*, for the caller to keep or take back.

    Args:
        state: What is known, up to now.
        asks: Who waits here, first come first.
        now_us: The journal's time.
        patience_us: Positions whose start is to be forecast, with how long each would wait for it.
        fresh_from: The first position that no step has looked at.
        outlook: What the step before this one knew; it is brought up to date.
        for_us: How long a claim stands.
        waiter: Who renews it; without one nothing is claimed.
    """
    step = Step(state, asks, now_us, patience_us or {}, fresh_from, Outlook() if outlook is None else outlook)
    _run(step)
    return _round(step, for_us, waiter)


def readmit(state: WorkspaceState, asks: Sequence[Ask], now_us: int) -> dict[int, Admitted]:
    """Admit *asks*, which fitted before, on *state*, whoever is ahead. Returns those that still fit, by position."""
    step = Step(state, asks, now_us, {}, 0, Outlook())
    return {
        position: step.grant(ask)
        for position, ask in enumerate(asks)
        if step.barred(ask) is None and isinstance(step.decide(ask.cost), Granted)
    }


def forecast(state: WorkspaceState, demands: Sequence[Demand], now_us: int) -> list[Start]:
    """Return when each of *demands* can start if all were asked for now in this order, behind all who wait."""
    return list(starts(schedule_of(state, now_us), demands))


def schedule_of(state: WorkspaceState, now_us: int, without: Collection[str] = ()) -> Schedule:
    """Return the schedule in which all who wait have their place, but for the jobs *without*."""
    schedule = Schedule(state.ledger, now_us, state.claims.passers)
    for job, claim in state.claims.standing(now_us):
        if job not in without and state.jobs.holder(claim.demand.keys, now_us) is None:
            schedule.place(claim.demand, job)
    return schedule


def _run(step: Step) -> None:
    """Look at who came since, or at everybody; then forecast the starts that are asked for."""
    nobody_waits = step.fresh_from == 0 and not step.state.claims.live
    if nobody_waits or step.outlook.wakes(step.state.revision, step.now_us) or not _only_news(step):
        _everybody(step)
    if step.patience_us and step.outlook.walk is None:
        look_ahead(step)


def _only_news(step: Step) -> bool:
    """Look at who came since; false when one of them could leave, so that all have to be looked at."""
    step.wake(step.outlook.wake_us)
    room = step.state.ledger.room(step.now_us)
    for position in range(step.fresh_from, step.known):
        ask = step.asks[position]
        verdict = step.barred(ask)
        if verdict is None and room.takes(ask.cost):
            return False
        if verdict is None:
            step.unclaimed.append(position)
        step.verdicts[position] = verdict or step.no_room(ask.cost)
    step.wake_for(step.asks[position].cost for position in step.unclaimed)
    return True


def _everybody(step: Step) -> None:
    """Go through the line, as far as somebody behind could leave now: a step of that, when it is long."""
    step.verdicts, step.unclaimed, step.wake_us = {}, [], None
    outlook, state = step.outlook, step.state
    begins = outlook.walk is None
    walk = outlook.walk or Walk(_in_order(step), state.claims.made)
    if not begins:
        _take_up(step, walk)
    still, rest = _look_at(step, walk)
    step.wake(walk.wake_us)
    walk.line, walk.wake_us, walk.revision = rest, step.wake_us, state.revision
    step.line = still + rest if begins else None


def _look_at(step: Step, walk: Walk) -> tuple[list[Waiting], list[Waiting]]:
    """Decide on those in line, until nobody behind could leave now, or for one step.

    Returns:
        Those who were looked at and still wait; and those who were not looked at.
    """
    line = walk.line
    last = _last_candidate(step, line, len(line) - 1, walk.ahead)
    at = placed = 0
    still: list[Waiting] = []
    while at <= last and placed < _MOST_PLACED:
        if len(step.granted) >= (_MOST_FIRST if walk.ahead is None else _MOST_GRANTS):
            break
        one = line[at]
        verdict = step.barred(one.ask) if one.ask else step.waits_for_segment(one)
        if verdict is None and walk.ahead is None and (verdict := _first(step, one)) is None:
            last = _last_candidate(step, line, last)
            if at > last:
                break
            walk.ahead = Ahead(step.state, step.now_us)
        if verdict is None and walk.ahead is not None:
            verdict = _behind(step, one, walk.ahead)
            placed += 1
            if isinstance(verdict, Admitted) or placed.bit_count() == 1:  # seldom: each time so many more are ahead
                last = _last_candidate(step, line, last, walk.ahead)
        if isinstance(verdict, Deferred) or (isinstance(verdict, Busy) and verdict.in_line):
            still.append(one)
        assert verdict is not None
        step.note(one, verdict)
        at += 1
    if at <= last:
        step.outlook.walk, step.is_done = walk, False
    else:
        _unlooked(step, line[at:], walk.ahead)
        step.outlook.walk, step.is_done = None, step.is_done and not walk.is_stale
    return still, line[at:]


def _take_up(step: Step, walk: Walk) -> None:
    """Go on with a walk: with those who still wait and were not looked at, and then with those who came since."""
    state, live = step.state, step.state.claims.live
    walk.is_stale = walk.is_stale or state.revision != walk.revision
    ours = {ask.job: position for position, ask in enumerate(islice(step.asks, step.known))}
    line = [one for one in walk.line if (one.job in ours if one.ask else one.job in live)]
    for one in line:
        if one.ask is not None:
            one.position = ours[one.job]
    line += (
        Waiting(job, None, None, claim.demand) for job, claim in state.claims.made_since(walk.claims) if job not in ours
    )
    known = {one.job for one in line}
    news = ((position, step.asks[position]) for position in range(step.fresh_from, step.known))
    line += (Waiting(ask.job, position, ask) for position, ask in news if ask.job not in known)
    step.unclaimed += (one.position for one in line if one.position is not None and one.job not in live)
    walk.line, walk.claims = line, state.claims.made
    if walk.ahead is not None:
        walk.ahead.move_on(step.now_us)


def _first(step: Step, one: Waiting) -> Verdict | None:
    """Return the verdict on one with nobody ahead; None when it has to wait."""
    if one.ask is None:
        return None
    decision = step.decide(one.cost)
    if isinstance(decision, Never):
        return TooLarge(decision)
    return step.grant(one.ask) if isinstance(decision, Granted) else None


def _behind(step: Step, one: Waiting, ahead: Ahead) -> Verdict:
    """Return the verdict on one with somebody ahead, or who is the first that waits."""
    now_us = step.now_us
    never = step.state.ledger.never(one.cost)
    if never is not None:
        return TooLarge(never)
    start = ahead.start_of(one)
    if one.ask is not None and start.at_us == now_us and start.behind is None:
        decision = step.decide(one.cost)
        held = ahead.held(one)
        if isinstance(decision, Granted) and held is None:
            ahead.take(one, start, is_gone=True)
            return step.grant(one.ask)
        if isinstance(decision, Wait):  # one operation probes, or a hold ends at any moment
            held = Start(decision.until_us, decision.limit, decision.used, decision.requested, decision.capacity)
            step.wake(decision.until_us)
        assert held is not None
        ahead.take(one, start)
        step.wake_at_bounds()
        return Deferred(wait_of(held), now_us)
    ahead.take(one, start)
    step.wake(start.at_us)
    return verdict_of(start)


def _in_order(step: Step) -> list[Waiting]:
    """Return everybody in line: the claims in their order, then who has none, as they came."""
    state = step.state
    line: list[Waiting] = []
    claimed: set[int] = set()
    if state.claims.live:
        ours = {ask.job: position for position, ask in enumerate(islice(step.asks, step.known))}
        for job, claim in state.claims.standing(step.now_us):
            position = ours.get(job)
            if position is None:
                line.append(Waiting(job, None, None, claim.demand))
                step.wake(claim.until_us)
            else:
                claimed.add(position)
                line.append(Waiting(job, position, step.asks[position], claim.demand))
    for position in range(step.known) if len(claimed) < step.known else ():
        if position not in claimed:
            line.append(Waiting(step.asks[position].job, position, step.asks[position]))
            step.unclaimed.append(position)
    return line


def _last_candidate(step: Step, line: Sequence[Waiting], last: int, ahead: Ahead | None = None) -> int:
    """Return the last of ours in line, up to *last*, who needs a look; -1 when nobody does.

    There is room for it, and those *ahead* may let it pass as far as they have their places, or it asks when it starts.
    Beyond it nobody can leave, whoever else is placed before. Where keys were rejected everybody is looked at.
    """
    if step.state.rejected_keys:
        return last
    room, spare = step.state.ledger.room(step.now_us), Spare(step, ahead)
    while last >= 0:
        one = line[last]
        if one.ask and room.takes(one.cost) and (one.position in step.patience_us or spare.takes(one.ask)):
            break
        last -= 1
    return last


def _unlooked(step: Step, line: Sequence[Waiting], ahead: Ahead | None) -> None:
    """Note the newcomers among those who cannot leave now: there is no room for them, or those *ahead* need it."""
    names, step.outlook.names = step.outlook.names, len(step.state.jobs.names)
    are_told = names != step.outlook.names  # whose name is used up meanwhile is told before its turn
    for one in line if are_told or step.fresh_from < step.known else ():
        if one.ask is None or one.position is None:
            continue
        if one.position >= step.fresh_from or (are_told and step.name_used(one.ask) is not None):
            step.note(one, step.barred(one.ask) or step.no_room(one.cost))
    costs = [one.cost for one in line if one.ask is not None]
    if ahead is not None:
        room, held = step.state.ledger.room(step.now_us), len(costs)
        costs = [cost for cost in costs if not room.takes(cost)]
        if len(costs) < held:
            step.wake_at_bounds()
    step.wake_for(costs)


def _round(step: Step, for_us: int, waiter: str) -> Round:
    """Sum up, and note what the next step may rely on."""
    outlook, asks = step.outlook, step.asks
    claimed = [position for position in step.unclaimed if waiter and _goes_on_waiting(step, position)]
    events: list[Claimed | Reserved] = [verdict.event for _, verdict in step.granted]
    if claimed:  # whoever had a claim was ahead of all who had none
        unclaimed = frozenset(step.unclaimed)
        placed: list[tuple[int, Claimed | Reserved]] = [
            (position if position in unclaimed else -1, verdict.event) for position, verdict in step.granted
        ]
        placed += [(position, _claimed(asks[position], step.state, for_us, waiter)) for position in claimed]
        placed.sort(key=itemgetter(0))
        events = [event for _, event in placed]
    outlook.revision, outlook.wake_us = (step.state.revision if step.is_done else None), step.wake_us
    return Round(step.verdicts, events, claimed, step.wake_us, step.is_done)


def _goes_on_waiting(step: Step, position: int) -> bool:
    """Return whether it stays in line."""
    verdict, patience_us = step.verdicts.get(position), step.patience_us.get(position)
    match verdict:
        case None:
            return step.is_done
        case Deferred(_, start_us) | Busy(_, start_us, True):
            return patience_us is None or is_in_time(start_us, step.now_us, patience_us)
        case _:
            return False


def _claimed(ask: Ask, state: WorkspaceState, for_us: int, waiter: str) -> Claimed:
    operations, rows, segments, call = ask.cost
    return Claimed(
        ask.job,
        operations,
        rows,
        segments,
        for_us,
        call,
        tuple(state.jobs.known_as(ask.keys)),
        ask.token_sha256 is not None,
        ask.expiry_days,
        ask.attempt_us,
        waiter,
    )
