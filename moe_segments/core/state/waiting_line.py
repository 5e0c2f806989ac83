"""The line of those who wait, one step over it, and what is known between two steps. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import Reserved
from moe_segments.core.quota.decision import Cost, Granted, Never, Wait
from moe_segments.core.quota.forecast import Demand, Schedule
from moe_segments.core.state.verdicts import (
    NOT_NOW,
    Admitted,
    Busy,
    KeyBad,
    Known,
    NameUsed,
    TooLarge,
    Verdict,
    name_used,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_segments.core.quota.forecast import Start
    from moe_segments.core.state.verdicts import Ask
    from moe_segments.core.state.workspace import WorkspaceState

__all__ = ["Ahead", "Outlook", "Spare", "Step", "Waiting", "Walk", "is_in_time"]

_MOST_NEWS: Final = 2_048  # who is looked at for the first time in one step


class Waiting:
    """A waiter in line: one of ours, with a position, or the claim of another process."""

    __slots__ = ("_demand", "ask", "cost", "job", "position")

    job: str
    position: int | None
    ask: Ask | None

    def __init__(self, job: str, position: int | None, ask: Ask | None, demand: Demand | None = None) -> None:
        self.job, self.position, self.ask, self._demand = job, position, ask, demand
        self.cost: Cost = demand.cost if ask is None else ask.cost  # type: ignore[union-attr]  # one of them is there

    def demand(self, state: WorkspaceState) -> Demand:
        """Return what it takes."""
        if self._demand is None:
            assert self.ask is not None
            self._demand = self.ask.demand(state)
        return self._demand


class Ahead:
    """Those who wait ahead of somebody that could leave now, and where they start.

    Args:
        state: What is known.
        now_us: The time.
    """

    def __init__(self, state: WorkspaceState, now_us: int) -> None:
        self._state, self._schedule = state, Schedule(state.ledger, now_us, state.claims.passers)

    def move_on(self, now_us: int) -> None:
        """Let time pass."""
        self._schedule.move_on(now_us)

    def start_of(self, one: Waiting) -> Start:
        """Return when it starts."""
        return self._schedule.find(one.demand(self._state))

    def held(self, one: Waiting) -> Start | None:
        """Return what keeps one that fits now because it could delay somebody ahead; None when it could not."""
        return self._schedule.held(one.demand(self._state))

    def spare(self, kind: Demand) -> tuple[Mapping[int, int], int | None]:
        """Return how much could leave now as *kind* without delaying anybody ahead, and until when; None: for ever."""
        return self._schedule.spare(kind)

    def take(self, one: Waiting, start: Start, *, is_gone: bool = False) -> None:
        """Give it its place."""
        self._schedule.take(one.demand(self._state), start, one.job)
        if is_gone:
            self._schedule.passed(one.demand(self._state))


class Spare:
    """What may leave before those who have their places already.

    Whoever does not fit in it now cannot leave once others have their places too: those take more, and free nothing.

    Args:
        step: It is woken when somebody who does not fit may fit.
        ahead: Those who have their places; None when nobody waits.
    """

    def __init__(self, step: Step, ahead: Ahead | None) -> None:
        self._step, self._ahead = step, ahead
        self._found: dict[Demand, tuple[Mapping[int, int], int | None]] = {}

    def takes(self, ask: Ask) -> bool:
        """Return whether *ask*, for which there is room now, may leave."""
        if self._ahead is None:
            return True
        cost = ask.cost
        kind = Demand(
            Cost(1, 1, call=cost.call),  # of each unit something: how much is asked for is compared
            awaits_callback=ask.token_sha256 is not None,
            attempt_us=ask.attempt_us,
        )
        if kind not in self._found:
            self._found[kind] = self._ahead.spare(kind)
        amounts, until_us = self._found[kind]
        if all(cost.asks(unit) <= max(0, amount) for unit, amount in amounts.items()):
            return True
        self._step.wake(until_us)
        return False


@attrs.define(eq=False)
class Walk:
    """A way through the line that takes several steps.

    Attributes:
        line: Those who are still to be looked at.
        claims: The number of the last claim that it knows.
        revision: That of the state after the last step.
        is_stale: Whether something changed meanwhile that those who were looked at may be told of.
        ahead: Those who were found to wait; None as long as nobody was.
        wake_us: When one of those who were looked at may be able to leave.
    """

    line: list[Waiting]
    claims: int
    revision: int = 0
    is_stale: bool = False
    ahead: Ahead | None = None
    wake_us: int | None = None


@attrs.define(eq=False)
class Outlook:
    """The knowledge that a governor keeps of its line between two steps.

    It is only ever a shortcut: an empty one leads to the same decisions.

    Attributes:
        revision: That of the state in which nobody could leave before `wake_us`; None: of none.
        wake_us: Until when nobody can leave, unless the state changes; None: for ever.
        schedule: Where those in line start, as far as that was asked for; None when it was not.
        schedule_revision: That of the state the schedule was made from.
        placed: The jobs that are in it, and where.
        claims: Claims up to this number are in it for certain; None while it is being made.
        walk: A way through the line that is not over.
        names: How many names were used up when those in line were last told.
    """

    revision: int | None = None
    wake_us: int | None = None
    schedule: Schedule | None = None
    schedule_revision: int = -1
    placed: dict[str, Start] = attrs.field(factory=dict)
    claims: int | None = 0
    walk: Walk | None = None
    names: int = 0

    def forget(self) -> None:
        """Work everything out again."""
        self.revision = self.schedule = self.walk = None

    def wakes(self, revision: int, now_us: int) -> bool:
        """Return whether somebody may leave now who could not before."""
        if self.walk is not None or self.revision != revision:
            return True
        return self.wake_us is not None and now_us >= self.wake_us


class Step:
    """A step over the waiters.

    Attributes:
        state: What is known; reservations are tried on it.
        asks: Who waits here, first come first.
        now_us: The journal's time.
        patience_us: Positions whose start is to be forecast, with how long each would wait for it.
        fresh_from: The first position that no step has looked at.
        outlook: What the step before this one knew.
        verdicts: By position, where there is something new to say.
        known: How many of *asks* are looked at in this step.
        is_done: Whether everybody was looked at.
        line: Who still waits, first come first; None: as it was, and the news.
        unclaimed: The positions of those in line without a claim.
        wake_us: When somebody may be able to leave, if nothing else happens before.
        granted: Who may leave, by position.
    """

    state: WorkspaceState
    asks: Sequence[Ask]
    now_us: int
    patience_us: Mapping[int, int]
    fresh_from: int
    outlook: Outlook

    def __init__(
        self,
        state: WorkspaceState,
        asks: Sequence[Ask],
        now_us: int,
        patience_us: Mapping[int, int],
        fresh_from: int,
        outlook: Outlook,
    ) -> None:
        self.state, self.asks, self.now_us = state, asks, now_us
        self.patience_us, self.fresh_from, self.outlook = patience_us, fresh_from, outlook
        self.verdicts: dict[int, Verdict] = {}
        self.known: int = min(len(asks), fresh_from + _MOST_NEWS)
        self.is_done: bool = self.known == len(asks)
        self.line: list[Waiting] | None = None
        self.unclaimed: list[int] = []
        self.wake_us: int | None = None
        self.granted: list[tuple[int, Admitted]] = []

    def barred(self, ask: Ask) -> Verdict | None:
        """Return why it is not in line at all; None when it is."""
        state, now_us = self.state, self.now_us
        if state.rejected_keys:
            status = state.rejected_keys.get(ask.key_fingerprint)
            if status is not None:
                return KeyBad(status)
        if not state.jobs.may_send(ask.job, retry_unknown=ask.retry_unknown, now_us=now_us):
            return Known()
        if state.jobs.names and (used := self.name_used(ask)) is not None:
            return used
        if state.jobs.holders:
            holder = state.jobs.holder(ask.keys, now_us)
            if holder is not None and holder.id != ask.job:
                self.wake(holder.busy_until_us)
                return Busy(holder.id, holder.busy_until_us, in_line=False)
        return None

    def name_used(self, ask: Ask) -> NameUsed | None:
        """Return what shows that the name of its create is used up; None where nothing does."""
        return name_used(self.state, ask.operation.get("op"), ask.operation.get("name"), ask.job)

    def waits_for_segment(self, one: Waiting) -> Verdict | None:
        """Return the verdict `Busy` for a waiter of another process; None when its segment is free."""
        holder = self.state.jobs.holder(one.demand(self.state).keys, self.now_us)
        return None if holder is None else Busy(holder.id, holder.busy_until_us, in_line=False)

    def grant(self, ask: Ask) -> Admitted:
        """Try its reservation on the state."""
        event = _reserved(self.state, ask, self.now_us)
        self.state.try_reserve(event, self.now_us)
        return Admitted(event)

    def note(self, one: Waiting, verdict: Verdict) -> None:
        """Note the verdict on one of ours, unless it waits on as before."""
        if one.position is None:
            return
        if verdict is not NOT_NOW or one.position >= self.fresh_from:
            self.verdicts[one.position] = verdict
            if isinstance(verdict, Admitted):
                self.granted.append((one.position, verdict))

    def no_room(self, cost: Cost) -> Verdict:
        """Return the verdict on one for which there is no room now."""
        never = self.state.ledger.never(cost)
        return NOT_NOW if never is None else TooLarge(never)

    def wake_for(self, costs: Iterable[Cost]) -> None:
        """Look again when there is room for the lightest of each kind."""
        least: dict[tuple[int, int, str], int] = {}
        for operations, rows, segments, call in costs:
            if rows < least.get((operations, segments, call), rows + 1):
                least[operations, segments, call] = rows
        for (operations, segments, call), rows in least.items():
            decision = self.decide(Cost(operations, rows, segments, call))
            if isinstance(decision, Wait):
                self.wake(decision.until_us)

    def decide(self, cost: Cost) -> Granted | Wait | Never:
        """Decide by the quotas alone, whoever is ahead."""
        return self.state.ledger.decide(cost, self.now_us)

    def wake(self, at_us: int | None) -> None:
        """Look again at that time, if not before."""
        if at_us is not None and at_us > self.now_us and (self.wake_us is None or at_us < self.wake_us):
            self.wake_us = at_us

    def wake_at_bounds(self) -> None:
        """Look again when something in flight ends although nothing is heard of it."""
        for history in self.state.ledger.all_histories():
            self.wake(history.next_bound_us)


def is_in_time(start_us: int | None, now_us: int, patience_us: int) -> bool:
    """Return whether a start comes within the wait that its caller allows."""
    return start_us is not None and 0 < patience_us >= start_us - now_us


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
