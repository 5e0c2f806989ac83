"""The line of those who wait, and what is known of it between two steps. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from moe_segments.core.quota.forecast import Schedule

if TYPE_CHECKING:
    from moe_segments.core.quota.decision import Cost
    from moe_segments.core.quota.forecast import Demand, Start
    from moe_segments.core.state.verdicts import Ask
    from moe_segments.core.state.workspace import WorkspaceState

__all__ = ["Ahead", "Outlook", "Waiting", "Walk"]


class Waiting:
    """A waiter in line: one of ours, with a position, or the claim of another process."""

    __slots__ = ("_demand", "ask", "cost", "job", "position")

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
        self._anybody = False

    def move_on(self, now_us: int) -> None:
        """Let time pass."""
        self._schedule.move_on(now_us)

    def start_of(self, one: Waiting) -> Start:
        """Return when it starts."""
        return self._schedule.find(one.demand(self._state))

    def held(self, one: Waiting) -> Start | None:
        """Return what keeps one that fits now because it could delay somebody ahead; None when it could not."""
        return self._schedule.held(one.demand(self._state)) if self._anybody else None

    def take(self, one: Waiting, start: Start, *, is_gone: bool = False) -> None:
        """Give it its place."""
        self._schedule.take(one.demand(self._state), start, one.job)
        if is_gone and self._anybody:
            self._schedule.passed(one.demand(self._state))
        self._anybody = self._anybody or (start.at_us is not None and not is_gone)


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
        revision: That of the state in which nobody could leave before `wake_us`; -1 for none.
        wake_us: Until when nobody can leave, unless the state changes; None: for ever.
        schedule: Where those in line start, as far as that was asked for; None when it was not.
        schedule_revision: That of the state the schedule was made from.
        placed: The jobs that are in it, and where.
        claims: Claims up to this number are in it for certain; -1 while it is being made.
        walk: A way through the line that is not over.
        names: How many names were used up when those in line were last told.
    """

    revision: int = -1
    wake_us: int | None = None
    schedule: Schedule | None = None
    schedule_revision: int = -1
    placed: dict[str, Start] = attrs.field(factory=dict)
    claims: int = 0
    walk: Walk | None = None
    names: int = 0

    def forget(self) -> None:
        """Work everything out again."""
        self.revision, self.schedule, self.walk = -1, None, None

    def wakes(self, revision: int, now_us: int) -> bool:
        """Return whether somebody may leave now who could not before."""
        if self.walk is not None or self.revision != revision:
            return True
        return self.wake_us is not None and now_us >= self.wake_us
