"""Admission: decide, in order, which waiters may send now. Pure: no clock, no I/O.

First come, first served. Everybody in line, in whichever process, has a place in the schedule of `core.plan`; whoever
is placed now may leave. So a light operation passes those ahead only when that makes nobody's start later, even if
nothing is ever heard of it. A segment takes one operation at a time; who waits for a segment that is busy stands in
nobody's way, and comes into line when it is free.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.core.events import Claimed, Reserved
from moe_segments.core.quota.decision import Cost, Granted, Never, Wait
from moe_segments.core.quota.forecast import Demand, Schedule, Start, starts
from moe_segments.core.quota.ledger import life_us
from moe_segments.limits import CREATE_FILTER_CALLS
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    CreateFilterSegment,
    FilterOperation,
    Operation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
    UpdateFilterSegment,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.limits import QuotaLimits

__all__ = [
    "Admitted",
    "Ask",
    "Busy",
    "KeyBad",
    "Known",
    "Later",
    "NameUsed",
    "Outlook",
    "Paced",
    "Round",
    "TooLarge",
    "Verdict",
    "admit",
    "cost_of",
    "forecast",
    "name_used",
    "tried_again",
]


@attrs.frozen(kw_only=True)
class Ask:
    """A request to send one operation.

    Attributes:
        job: The job's identifier.
        operation: Its fields as remembered.
        cost: What it may spend.
        keys: What it keeps busy.
        fence_us: How long after the reservation it may still start.
        timeout_us: How long its request may take.
        key_fingerprint: The key it would be sent with.
        token_sha256: Its callback's token, hashed; None when no callback of ours can come.
        expiry_days: Days until its segment expires, for a create.
        owner: The process that would send it.
        retry_unknown: Send again although an earlier send may have worked.
    """

    job: str
    operation: Mapping[str, object] = attrs.field(hash=False)
    cost: Cost
    keys: tuple[str, ...]
    fence_us: int
    timeout_us: int
    key_fingerprint: str = ""
    token_sha256: str | None = None
    expiry_days: int | None = None
    owner: str | None = None
    retry_unknown: bool = False

    def demand(self, state: WorkspaceState) -> Demand:
        """Return what it takes, under every name that is known for its segment."""
        operation = self.operation
        life = None if self.expiry_days is None else life_us(self.expiry_days, state.limits)
        return Demand(
            self.cost,
            tuple(state.jobs.known_as(self.keys)),
            awaits_callback=self.token_sha256 is not None,
            life_us=life,
            attempt_us=self.fence_us + self.timeout_us,
            archives=_archived(operation) if operation.get("op") == "archive" else None,
        )


@attrs.frozen
class Admitted:
    """A decision to send; its event makes the reservation durable."""

    event: Reserved


@attrs.frozen
class Later:
    """A quota is full, or those ahead need what is left of it.

    Attributes:
        wait: The limit that binds this operation, with its own figures, and until when at the earliest.
        start_us: When it can start at the earliest; None when nothing known will let it. Those ahead are counted where
            a forecast was asked for or the operation could start soon.
    """

    wait: Wait
    start_us: int | None


@attrs.frozen
class Busy:
    """A decision to wait: the segment is busy.

    Attributes:
        job: The job that holds it.
        until_us: Until when at the latest, or when that job starts if it waits itself; None when that is unknown.
        in_line: Whether it waits behind that job in the line for quota, rather than for that job to end.
    """

    job: str
    until_us: int | None
    in_line: bool = True


@attrs.frozen
class TooLarge:
    """A decision that a request never fits."""

    never: Never


@attrs.frozen
class KeyBad:
    """The service rejected this key, with this status."""

    status: int


@attrs.frozen
class NameUsed:
    """A refusal: the name of the create is used up.

    Attributes:
        job: The job that shows it.
        cs_id: The identifier of the segment that has the name; None where that is not known.
    """

    job: str
    cs_id: str | None


@attrs.frozen
class Known:
    """The journal knows this job already, and it is not to be sent (again)."""


@attrs.frozen
class Paced:
    """A decision to wait for the pace without a reservation; the quotas have room. See `core.state.pacing`."""


Verdict: TypeAlias = Admitted | Later | Busy | TooLarge | KeyBad | NameUsed | Known | Paced
_NOT_NOW: Final = Later(Wait(None, "", 0, 0, 0), None)  # nobody asked when
_MOST_GRANTS: Final = 48  # of one step: the journal is held for so long
_MOST_FIRST: Final = 512  # of one step, where nobody is ahead, so that there is little to look at
_MOST_NEWS: Final = 2_048  # who is looked at for the first time in one step
_MOST_PLACED: Final = 192  # who is given a place in the schedule in one step
_STALE_US: Final = 60_000_000  # how long operations in flight are taken to have ended when the forecast was made


def cost_of(operation: Operation | FilterOperation, limits: QuotaLimits) -> Cost:  # noqa: PLR0911 - one a kind
    """Return what one send of an operation may spend. Rows that are not known yet weigh nothing here.

    The documents name create, add and remove for the hour and the day; replace has a 429 of its own and is counted,
    like the users of remove and replace, unless the limits say otherwise.
    """
    if isinstance(operation, CreateFilterSegment):
        return Cost(segments=1, call=CREATE_FILTER_CALLS)
    match operation:
        case CreateFileSegment():
            return Cost(1, operation.rows or 0, 1)
        case RemoveUsers():
            rows = operation.rows or 0 if limits.remove_counts_users else 0
            return Cost(int(limits.remove_counts_operation), rows)
        case ReplaceUsers():
            rows = operation.rows or 0 if limits.replace_counts_users else 0
            return Cost(int(limits.replace_counts_operation), rows)
        case UnarchiveSegment():
            return Cost(segments=1)
        case ArchiveSegment() | UpdateFilterSegment():
            return Cost()  # no limit is documented for either
        case AddUsers():
            return Cost(1, operation.rows or 0)


@attrs.define(eq=False)
class Outlook:
    """The knowledge that a governor keeps of its line between two steps.

    It is only ever a shortcut: an empty one leads to the same decisions.

    Attributes:
        revision: That of the state in which nobody could leave before `wake_us`; -1 for none.
        wake_us: Until when nobody can leave, unless the state changes; None: for ever.
        schedule: Where those in line start, as far as that was asked for; None when it was not.
        schedule_revision: That of the state the schedule was made from.
        placed: The jobs that are in it, and where.
        claims: How many of the claims are in it for certain, from the first; -1 while it is being made.
        walk: A way through the line that is not over.
        names: How many names were used up when those in line were last told.
    """

    revision: int = -1
    wake_us: int | None = None
    schedule: Schedule | None = None
    schedule_revision: int = -1
    placed: dict[str, Start] = attrs.field(factory=dict)
    claims: int = 0
    walk: _Walk | None = None
    names: int = 0

    def forget(self) -> None:
        """Work everything out again."""
        self.revision, self.schedule, self.walk = -1, None, None

    def wakes(self, revision: int, now_us: int) -> bool:
        """Return whether somebody may leave now who could not before."""
        if self.walk is not None or self.revision != revision:
            return True
        return self.wake_us is not None and now_us >= self.wake_us


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
    step = _Step(state, asks, now_us, patience_us or {}, fresh_from, Outlook() if outlook is None else outlook)
    step.run()
    return step.round(for_us, waiter)


def tried_again(state: WorkspaceState, asks: Sequence[Ask], now_us: int) -> dict[int, Admitted]:
    """Try the reservations of *asks*, which fitted before, on *state*. Returns those that still fit, by position."""
    return _Step(state, asks, now_us, {}, 0, Outlook()).tried_again()


def name_used(state: WorkspaceState, op: object, name: object, job: str) -> NameUsed | None:
    """Return what shows that the name of a segment to create is used up; None where nothing does."""
    used_by = state.jobs.name_used_by(op, name, job)
    if used_by is None:
        return None
    record = state.jobs.records.get(used_by)  # forgotten after 90 days, the name is not
    cs_id = ((record and record.accepted) or {}).get("cs_id")
    return NameUsed(used_by, None if cs_id is None else str(cs_id))


def forecast(state: WorkspaceState, demands: Sequence[Demand], now_us: int) -> tuple[list[Start], Schedule]:
    """Return when each of *demands* can start if all were asked for now in this order, behind all who wait.

    Beside it, the schedule in which all of them have their place.
    """
    schedule = Schedule(state.ledger, now_us, state.claims.passers)
    for job, claim in state.claims.standing(now_us):
        if state.jobs.holder(claim.demand.keys, now_us) is None:
            schedule.place(claim.demand, job)
    return list(starts(schedule, demands)), schedule


class _Waiting:
    """A waiter in line: one of ours, with a position, or the claim of another process."""

    __slots__ = ("ask", "demand", "job", "position")

    def __init__(self, job: str, demand: Demand, position: int | None, ask: Ask | None) -> None:
        self.job, self.demand, self.position, self.ask = job, demand, position, ask


class _Step:
    """A step over the waiters."""

    def __init__(
        self,
        state: WorkspaceState,
        asks: Sequence[Ask],
        now_us: int,
        patience_us: Mapping[int, int],
        fresh_from: int,
        outlook: Outlook,
    ) -> None:
        self._state, self._asks, self._now_us = state, asks, now_us
        self._patience_us, self._fresh_from, self._outlook = patience_us, fresh_from, outlook
        self._verdicts: dict[int, Verdict] = {}
        self._known = min(len(asks), fresh_from + _MOST_NEWS)  # who is looked at in this step
        self._is_done = self._known == len(asks)
        self._line: list[_Waiting] | None = None  # who still waits, first come first; None: as it was, and the news
        self._unclaimed: list[int] = []  # who is in line without a claim
        self._wake_us: int | None = None
        self._granted: list[tuple[int, Admitted]] = []

    def run(self) -> None:
        """Decide."""
        if self._outlook.wakes(self._state.revision, self._now_us) or not self._only_news():
            self._everybody()
        if self._patience_us and self._outlook.walk is None:
            self._look_ahead()

    def tried_again(self) -> dict[int, Admitted]:
        """Grant what is not barred and fits, in order, whoever is ahead."""
        return {
            position: self._grant(ask)
            for position, ask in enumerate(self._asks)
            if self._barred(ask) is None and isinstance(self._decide(ask.cost), Granted)
        }

    # When nothing has changed since nobody could leave

    def _only_news(self) -> bool:
        """Look at who came since; false when one of them could leave, so that all have to be looked at."""
        self._wake(self._outlook.wake_us)
        room = self._state.ledger.room(self._now_us)
        for position in range(self._fresh_from, self._known):
            ask = self._asks[position]
            verdict = self._barred(ask)
            if verdict is None and room.takes(ask.cost):
                return False
            if verdict is None:
                self._unclaimed.append(position)
            self._verdicts[position] = verdict or self._no_room(ask.cost)
        self._wake_for(self._asks[position].cost for position in self._unclaimed)
        return True

    # Otherwise

    def _everybody(self) -> None:
        """Go through the line, as far as somebody behind could leave now: a step of that, when it is long."""
        self._verdicts, self._unclaimed, self._wake_us = {}, [], None
        outlook, state, now_us = self._outlook, self._state, self._now_us
        walk, outlook.walk = outlook.walk, None
        if walk is None:
            walk = _Walk(self._in_order(), state.revision)
            begins = True
        else:
            self._is_done = False  # who came since is looked at when this is over
            self._take_up(walk)
            begins = False
        line = walk.line
        last = self._last_candidate(line, len(line) - 1)
        at = looked = 0
        still: list[_Waiting] = []
        while at <= last and looked < _MOST_PLACED:
            if len(self._granted) >= (_MOST_FIRST if walk.ahead is None else _MOST_GRANTS):
                break
            one, at = line[at], at + 1
            verdict = self._barred(one.ask) if one.ask else self._waits_for_segment(one)
            if verdict is None and walk.ahead is None:
                verdict = self._first(one)
            if verdict is None:
                walk.ahead = walk.ahead or _Ahead(state, now_us)
                verdict = self._behind(one, walk.ahead)
                looked += 1
            if isinstance(verdict, Admitted):
                last = self._last_candidate(line, last)
            elif isinstance(verdict, Later) or (isinstance(verdict, Busy) and verdict.in_line):
                still.append(one)
            self._tell(one, verdict)
        if at <= last:
            self._wake(walk.wake_us)
            walk.line, walk.wake_us = line[at:], self._wake_us
            outlook.walk, self._is_done = walk, False
        else:
            self._unlooked(line[at:])
            self._wake(walk.wake_us)
            if not begins and state.revision == walk.revision:
                self._is_done = all(at in self._verdicts for at in range(self._fresh_from, len(self._asks)))
        self._line = still + line[at:] if begins else None

    def _take_up(self, walk: _Walk) -> None:
        """Go on with those who still wait, of whom the steps before did not come to look at."""
        ours = {ask.job: position for position, ask in enumerate(islice(self._asks, self._known))}
        live = self._state.claims.live
        walk.line = [one for one in walk.line if (one.job in ours if one.ask else one.job in live)]
        for one in walk.line:
            if one.ask is not None:
                one.position = ours[one.job]
                if one.job not in live:
                    self._unclaimed.append(one.position)
        if walk.ahead is not None:
            walk.ahead.move_on(self._now_us)

    def _first(self, one: _Waiting) -> Verdict | None:
        """Return the verdict on one with nobody ahead; None when it has to wait."""
        if one.ask is None:
            return None
        decision = self._decide(one.demand.cost)
        if isinstance(decision, Never):
            return TooLarge(decision)
        return self._grant(one.ask) if isinstance(decision, Granted) else None

    def _behind(self, one: _Waiting, ahead: _Ahead) -> Verdict:
        """Return the verdict on one with somebody ahead, or who is the first that waits."""
        now_us = self._now_us
        never = self._state.ledger.never(one.demand.cost)
        if never is not None:
            return TooLarge(never)
        start = ahead.start_of(one)
        if one.ask is not None and start.at_us == now_us and start.behind is None:
            decision = self._decide(one.demand.cost)
            held = ahead.held(one)
            if isinstance(decision, Granted) and held is None:
                ahead.take(one, start, is_gone=True)
                return self._grant(one.ask)
            if isinstance(decision, Wait):  # one operation probes, or a hold ends at any moment
                held = Start(decision.until_us, decision.limit, decision.used, decision.requested, decision.capacity)
                self._wake(decision.until_us)
            assert held is not None
            ahead.take(one, start)
            self._wake_at_bounds()
            return Later(_wait_of(held), now_us)
        ahead.take(one, start)
        if start.at_us is not None and start.at_us > now_us:
            self._wake(start.at_us)
        return _verdict_of(start)

    def _in_order(self) -> list[_Waiting]:
        """Everybody in line: the claims in their order, then who has none, as they came."""
        state = self._state
        line: list[_Waiting] = []
        claimed: set[int] = set()
        if state.claims.live:
            ours = {ask.job: position for position, ask in enumerate(islice(self._asks, self._known))}
            for job, claim in state.claims.standing(self._now_us):
                position = ours.get(job)
                if position is None:
                    line.append(_Waiting(job, claim.demand, None, None))
                    self._wake(claim.until_us)
                else:
                    claimed.add(position)
                    line.append(_Waiting(job, claim.demand, position, self._asks[position]))
        for position in range(self._known):
            if position not in claimed:
                ask = self._asks[position]
                line.append(_Waiting(ask.job, ask.demand(state), position, ask))
                self._unclaimed.append(position)
        return line

    def _last_candidate(self, line: Sequence[_Waiting], last: int) -> int:
        """Return the last of ours in line, up to *last*, for which there is room now; -1 when there is none.

        Beyond it nobody can leave, so nobody there needs to be looked at. Where keys were rejected everybody is.
        """
        if self._state.rejected_keys:
            return last
        room = self._state.ledger.room(self._now_us)
        while last >= 0 and not (line[last].ask and room.takes(line[last].demand.cost)):
            last -= 1
        return last

    def _barred(self, ask: Ask) -> Verdict | None:
        """Return why it is not in line at all; None when it is."""
        state, now_us = self._state, self._now_us
        if state.rejected_keys:
            status = state.rejected_keys.get(ask.key_fingerprint)
            if status is not None:
                return KeyBad(status)
        if not state.jobs.may_send(ask.job, retry_unknown=ask.retry_unknown, now_us=now_us):
            return Known()
        used = self._name_used(ask)
        if used is not None:
            return used
        if state.jobs.holders:
            holder = state.jobs.holder(ask.keys, now_us)
            if holder is not None and holder.id != ask.job:
                self._wake(holder.busy_until_us)
                return Busy(holder.id, holder.busy_until_us, in_line=False)
        return None

    def _name_used(self, ask: Ask) -> NameUsed | None:
        return name_used(self._state, ask.operation.get("op"), ask.operation.get("name"), ask.job)

    def _waits_for_segment(self, one: _Waiting) -> Verdict | None:
        """Return the verdict `Busy` for a waiter of another process; None when its segment is free."""
        holder = self._state.jobs.holder(one.demand.keys, self._now_us)
        return None if holder is None else Busy(holder.id, holder.busy_until_us, in_line=False)

    def _grant(self, ask: Ask) -> Admitted:
        event = _reserved(self._state, ask, self._now_us)
        self._state.try_reserve(event, self._now_us)
        return Admitted(event)

    def _tell(self, one: _Waiting, verdict: Verdict) -> None:
        if one.position is None:
            return
        if verdict is not _NOT_NOW or one.position >= self._fresh_from:
            self._verdicts[one.position] = verdict
            if isinstance(verdict, Admitted):
                self._granted.append((one.position, verdict))

    def _unlooked(self, line: Sequence[_Waiting]) -> None:
        """Note the newcomers among those for whom there is no room now."""
        names, self._outlook.names = self._outlook.names, len(self._state.jobs.names)
        are_told = names != self._outlook.names  # whose name is used up meanwhile is told before its turn
        for one in line:
            if one.ask is None or one.position is None:
                continue
            if one.position >= self._fresh_from or (are_told and self._name_used(one.ask) is not None):
                self._tell(one, self._barred(one.ask) or self._no_room(one.demand.cost))
        self._wake_for(one.demand.cost for one in line if one.ask is not None)

    def _no_room(self, cost: Cost) -> Verdict:
        never = self._state.ledger.never(cost)
        return _NOT_NOW if never is None else TooLarge(never)

    def _wake_for(self, costs: Iterable[Cost]) -> None:
        """Look again when there is room for the lightest of each kind."""
        least: dict[tuple[int, int, str], int] = {}
        for operations, rows, segments, call in costs:
            if rows < least.get((operations, segments, call), rows + 1):
                least[operations, segments, call] = rows
        for (operations, segments, call), rows in least.items():
            decision = self._decide(Cost(operations, rows, segments, call))
            if isinstance(decision, Wait):
                self._wake(decision.until_us)

    def _decide(self, cost: Cost) -> Granted | Wait | Never:
        return self._state.ledger.decide(cost, self._now_us)

    def _wake(self, at_us: int | None) -> None:
        if at_us is not None and at_us > self._now_us and (self._wake_us is None or at_us < self._wake_us):
            self._wake_us = at_us

    def _wake_at_bounds(self) -> None:
        """Look again when something in flight ends although nothing is heard of it."""
        for tape in self._state.ledger.all_tapes():
            self._wake(tape.next_bound_us)

    # Looking ahead

    def _look_ahead(self) -> None:
        """Work out the start of those who would not wait for ever, behind everybody in line."""
        wanted = {position for position in self._patience_us if position < self._known and self._is_in_line(position)}
        if not wanted:
            return
        outlook, schedule = self._outlook, self._kept_schedule()
        placed = outlook.placed
        budget = _MOST_PLACED
        for one in self._to_place():
            if not wanted:
                break
            if one.job in placed and one.position not in wanted:
                continue
            if budget == 0:
                self._put_off(wanted)
                return
            budget -= 1
            start = placed.get(one.job) or schedule.find(one.demand)
            if one.position in wanted and one.position is not None:
                wanted.discard(one.position)
                if self._will_not_wait(one.position, start):
                    continue
            if one.job not in placed:
                schedule.take(one.demand, start, one.job)
                placed[one.job] = start
        else:
            outlook.claims = len(self._state.claims.live)
            if wanted and self._line is None:  # in line, and not as it was
                self._put_off(wanted)
                outlook.forget()

    def _is_in_line(self, position: int) -> bool:
        verdict = self._verdicts.get(position)
        if verdict is None and (verdict := self._barred(self._asks[position])) is not None:
            self._verdicts[position] = verdict
        return verdict is None or isinstance(verdict, Later) or (isinstance(verdict, Busy) and verdict.in_line)

    def _kept_schedule(self) -> Schedule:
        """Return the schedule as far as it was made; one that was begun is finished, whatever changes meanwhile."""
        outlook, state, now_us = self._outlook, self._state, self._now_us
        schedule = outlook.schedule
        is_whole = outlook.claims >= 0
        if schedule is not None and is_whole:
            is_stale = schedule.in_flight and now_us - schedule.made_us > _STALE_US
            if outlook.schedule_revision != state.revision or is_stale:
                schedule = None
        if schedule is None:
            schedule = outlook.schedule = Schedule(state.ledger, now_us, state.claims.passers)
            outlook.schedule_revision, outlook.placed, outlook.claims = state.revision, {}, 0
        schedule.move_on(now_us)
        return schedule

    def _to_place(self) -> Iterator[_Waiting]:
        """Return those in line that the schedule may not have, in order."""
        if self._line is not None:
            yield from self._line
            return
        state, now_us, ours = self._state, self._now_us, self._ours()
        for job, claim in islice(state.claims.live.items(), max(0, self._outlook.claims), None):
            if claim.until_us > now_us and state.jobs.holder(claim.demand.keys, now_us) is None:
                position = ours.get(job)
                yield _Waiting(job, claim.demand, position, None if position is None else self._asks[position])
        for position in self._unclaimed:
            ask = self._asks[position]
            yield _Waiting(ask.job, ask.demand(state), position, ask)

    def _ours(self) -> Mapping[str, int]:
        """Return the positions of those whose start is wanted and who have a claim."""
        return {self._asks[at].job: at for at in self._patience_us if at < self._fresh_from}

    def _will_not_wait(self, position: int, start: Start) -> bool:
        """Say when it starts. Returns whether that is too late for it."""
        patience_us, verdict = self._patience_us[position], self._verdicts.get(position)
        if isinstance(verdict, Later) and verdict.start_us == self._now_us:  # it fits, and others must end first
            return patience_us == 0
        self._verdicts[position] = _verdict_of(start)
        return not _is_in_time(start.at_us, self._now_us, patience_us)

    def _put_off(self, wanted: Collection[int]) -> None:
        """Go on in the next step: nothing is said until then of those whose start is not known yet, nor behind them."""
        self._is_done = False
        self._outlook.claims = -1
        first = min(wanted)
        for position in range(first, self._known):
            if isinstance(self._verdicts.get(position), Later | Busy):
                del self._verdicts[position]
        self._unclaimed = [position for position in self._unclaimed if position < first]

    # What comes of it

    def round(self, for_us: int, waiter: str) -> Round:
        """Sum up, and note what the next step may rely on."""
        outlook, asks = self._outlook, self._asks
        claimed = [position for position in self._unclaimed if waiter and self._goes_on_waiting(position)]
        events: list[Claimed | Reserved] = [verdict.event for _, verdict in self._granted]
        if claimed:  # whoever had a claim was ahead of all who had none
            unclaimed = frozenset(self._unclaimed)
            placed: list[tuple[int, Claimed | Reserved]] = [
                (position if position in unclaimed else -1, verdict.event) for position, verdict in self._granted
            ]
            placed += [(position, _claimed(asks[position], self._state, for_us, waiter)) for position in claimed]
            placed.sort(key=itemgetter(0))
            events = [event for _, event in placed]
        outlook.revision, outlook.wake_us = (self._state.revision if self._is_done else -1), self._wake_us
        return Round(self._verdicts, events, claimed, self._wake_us, self._is_done)

    def _goes_on_waiting(self, position: int) -> bool:
        """Return whether it stays in line."""
        verdict, patience_us = self._verdicts.get(position), self._patience_us.get(position)
        match verdict:
            case None:
                return self._is_done
            case Later(_, start_us) | Busy(_, start_us, True):
                return patience_us is None or _is_in_time(start_us, self._now_us, patience_us)
            case _:
                return False


@attrs.define(eq=False)
class _Walk:
    """A way through the line that takes several steps.

    Attributes:
        line: Those who are still to be looked at.
        revision: That of the state when it began.
        ahead: Those who were found to wait; None as long as nobody was.
        wake_us: When one of those who were looked at may be able to leave.
    """

    line: list[_Waiting]
    revision: int
    ahead: _Ahead | None = None
    wake_us: int | None = None


class _Ahead:
    """Those who wait ahead of somebody that could leave now, and where they start.

    Args:
        state: What is known.
        now_us: The time.
    """

    def __init__(self, state: WorkspaceState, now_us: int) -> None:
        self._schedule = Schedule(state.ledger, now_us, state.claims.passers)
        self._anybody = False

    def move_on(self, now_us: int) -> None:
        """Let time pass."""
        self._schedule.move_on(now_us)

    def start_of(self, one: _Waiting) -> Start:
        """Return when it starts."""
        return self._schedule.find(one.demand)

    def held(self, one: _Waiting) -> Start | None:
        """Return what keeps one that fits now because it could delay somebody ahead; None when it could not."""
        return self._schedule.held(one.demand) if self._anybody else None

    def take(self, one: _Waiting, start: Start, *, is_gone: bool = False) -> None:
        """Give it its place."""
        self._schedule.take(one.demand, start, one.job)
        if is_gone and self._anybody:
            self._schedule.passed(one.demand)
        self._anybody = self._anybody or (start.at_us is not None and not is_gone)


def _is_in_time(start_us: int | None, now_us: int, patience_us: int) -> bool:
    return start_us is not None and 0 < patience_us >= start_us - now_us


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
        ask.fence_us + ask.timeout_us,
        waiter,
    )


def _verdict_of(start: Start) -> Later | Busy:
    if start.behind is not None and start.limit is None:
        return Busy(start.behind, start.at_us)
    return Later(_wait_of(start), start.at_us)


def _wait_of(start: Start) -> Wait:
    return Wait(start.at_us, start.limit or "", start.used, start.requested, start.capacity)


def _reserved(state: WorkspaceState, ask: Ask, now_us: int) -> Reserved:
    record = state.jobs.records.get(ask.job)
    return Reserved(
        job=ask.job,
        attempt=record.attempt + 1 if record else 1,
        operation=ask.operation,
        operations=ask.cost.operations,
        rows=ask.cost.rows,
        segments=ask.cost.segments,
        call=ask.cost.call,
        keys=ask.keys,
        fence_us=ask.fence_us,
        timeout_us=ask.timeout_us,
        token_sha256=ask.token_sha256,
        expiry_days=ask.expiry_days,
        owner=ask.owner,
        duplicate_possible=record is not None and record.may_have_worked_at(now_us),
    )


def _archived(operation: Mapping[str, object]) -> tuple[str, str | None]:
    cs_id = operation.get("cs_id")
    return str(operation.get("name", "")), cs_id if isinstance(cs_id, str) else None
