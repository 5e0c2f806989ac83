"""Plans: when operations can start, in the order they are given or in the best one. `Governor` inherits this.

The journal is asked for what is known, and the search for an order runs in a thread, beside the event loop and without
the journal. Then the journal is asked for the forecast in that order: what a run in this order will do.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import attrs

from moe_segments.core.quota.forecast import Demand, starts_in_turn
from moe_segments.core.quota.ledger import life_us
from moe_segments.core.state.admission import schedule_of
from moe_segments.core.state.jobs import segment_keys
from moe_segments.core.state.verdicts import cost_of, name_used
from moe_segments.errors import InputError, NameTaken, QuotaNeverFits
from moe_segments.governor.usage import PlannedStart, at, moment_of, name_taken
from moe_segments.models import ArchiveSegment, CreateFileSegment, FileOperation
from moe_segments.models.arguments import listed
from moe_segments.types import Unset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.planning.order import Problem
    from moe_segments.core.quota.forecast import Start
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.plan import Plan
    from moe_segments.journal.replica import Replica
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import AddUsers, FilterOperation, Operation, RemoveUsers, ReplaceUsers

    _Usage: TypeAlias = tuple[str, int, tuple[tuple[int, int], ...]]  # limit, capacity, steps
    AnyFile: TypeAlias = CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers

__all__ = ["Order", "PlanCalls", "checked_order"]

Order: TypeAlias = Literal["given", "best"]
_ORDERS: Final[tuple[Order, ...]] = ("given", "best")
_SECOND_US: Final = 1_000_000


def checked_order(value: object) -> Order:
    """Return one of the two orders.

    Raises:
        InputError: It is neither.
    """
    for order in _ORDERS:
        if value == order:
            return order
    raise InputError(f"must be 'given' or 'best', not {value!r}", "order")


class _Governor(Protocol):
    """The part of the governor that these calls need."""

    limits: QuotaLimits
    _replica: Replica
    _rows_of: Callable[[AnyFile], int | None]
    _awaits_callback: Callable[[AnyFile], bool]
    _attempt_us: int

    def _demand_of(self, operation: Operation | FilterOperation) -> Demand: ...

    def shift_us(self) -> int: ...


class PlanCalls:
    """The calls that look ahead."""

    async def plan(
        self: _Governor,
        operations: Iterable[Operation | FilterOperation],
        *,
        order: Order = "given",
        priorities: Sequence[float] | None = None,
        tries: int | None = None,
        without: Collection[str] = (),
    ) -> Plan:
        """Return when each operation starts if they are submitted now, and which limit binds it.

        Those who wait already, in whichever process, are ahead. An operation comes into line once the one before it on
        its segment has ended, as `submit_many` has it. Operations are taken to end at once, and those in flight now, so
        these are the earliest moments. A segment is taken to expire as it will.
        Needs `rows` on file operations whose file this client has not checked with `preflight`.

        Args:
            operations: What to plan.
            order: "given", or "best": the last one starts as early as was found. Operations on one segment keep their
                order.
            priorities: One for each operation, any finite number: a higher one is never delayed by a lower one. Only
                with "best"; None: all alike.
            tries: How many orders to try besides the given one; None: as many as are worth it.
            without: Jobs that may wait already and are among *operations*, so that they are not ahead.

        Returns:
            The plan; its `order` says in which order to submit.

        Raises:
            InputError: A file operation has no `rows` and was not checked, something else is no operation, a create
                comes after another operation on its segment, or a priority is no number.
            QuotaNeverFits: An operation is larger than a whole limit. Only with "best".
            NameTaken: One is a create, and the journal knows that its name is used up.
            JournalError: The journal cannot be read.
        """
        from moe_segments.governor.plan import Plan  # for those who plan

        planned, order = listed(operations), checked_order(order)
        if priorities is not None and (order == "given" or len(priorities) != len(planned)):
            raise InputError('must be one number for each operation, with order="best"', "priorities")
        demands = [self._demand_of(_weighed(operation, self._rows_of)) for operation in planned]
        positions = list(range(len(planned)))
        if order == "best":
            problem = await self._replica.ask(
                lambda state, now_us: _problem(state, planned, demands, priorities, now_us, without)
            )
            positions = await asyncio.to_thread(problem.positions, tries)
            demands = problem.demands

        def question(
            state: WorkspaceState, now_us: int
        ) -> tuple[Sequence[Event], tuple[int, dict[int, Start], list[_Usage]]]:
            _refuse_used(state, planned)
            schedule = schedule_of(state, now_us, without)
            if order == "given":
                found = dict(enumerate(starts_in_turn(schedule, demands)))
            else:
                found = {position: schedule.place(demands[position]) for position in positions}
            usage = [(limit, profile.capacity, tuple(profile.steps())) for limit, profile in schedule.usage()]
            return (), (now_us, found, usage)

        now_us, found, usage = await self._replica.ask(question)
        shift_us = self.shift_us()
        return Plan(
            starts=tuple(
                PlannedStart(
                    operation=operation,
                    start=moment_of(found[position].at_us, shift_us),
                    limit=found[position].limit,
                    wait_s=_wait_s(found[position].at_us, now_us),
                )
                for position, operation in enumerate(planned)
            ),
            order=tuple(positions),
            made_at=at(now_us + shift_us),
            costs=[demand.cost for demand in demands],
            used=usage,
            shift_us=shift_us,
        )

    def known_segments(self: _Governor) -> list[str]:
        """Return the names of the segments that the journal knows to be there, or that may be.

        Returns:
            The names.
        """
        return list(self._replica.state.jobs.names)

    async def refusals(
        self: _Governor, operations: Iterable[Operation | FilterOperation]
    ) -> list[NameTaken | QuotaNeverFits | None]:
        """Return why each operation could never be sent, as the journal knows it; None where nothing is in its way.

        Args:
            operations: Operations, their `rows` known.

        Returns:
            One for each operation, in their order.

        Raises:
            InputError: A file operation has no `rows` and was not checked, or something is no operation.
            JournalError: The journal cannot be read.
        """
        planned = listed(operations)
        demands = [self._demand_of(_weighed(operation, self._rows_of)) for operation in planned]

        def question(state: WorkspaceState, _: int) -> tuple[Sequence[Event], list[NameTaken | QuotaNeverFits | None]]:
            return (), [_refusal(state, *one) for one in zip(planned, demands, strict=True)]

        return await self._replica.ask(question)

    def _demand_of(self: _Governor, operation: Operation | FilterOperation) -> Demand:
        life = None
        if isinstance(operation, CreateFileSegment) and operation.expiry_time is not None:
            life = life_us(operation.expiry_time, self.limits)
        archives = None
        if isinstance(operation, ArchiveSegment):
            archives = ("" if isinstance(operation.name, Unset) else operation.name, operation.cs_id)
        return Demand(
            cost_of(operation, self.limits),
            segment_keys(operation),
            awaits_callback=not isinstance(operation, FileOperation) or self._awaits_callback(operation),
            life_us=life,
            attempt_us=self._attempt_us,
            archives=archives,
        )


def _problem(
    state: WorkspaceState,
    planned: Sequence[Operation | FilterOperation],
    demands: Sequence[Demand],
    priorities: Sequence[float] | None,
    now_us: int,
    without: Collection[str],
) -> tuple[Sequence[Event], Problem]:
    from moe_segments.core.planning.order import Line, Problem  # for those who plan

    _refuse_used(state, planned)
    lines = [
        Line(demand=demand, op=operation.op, priority=0 if priorities is None else priorities[position])
        for position, (operation, demand) in enumerate(zip(planned, demands, strict=True))
    ]
    return (), Problem(state, lines, now_us, without=without)


def _refuse_used(state: WorkspaceState, planned: Sequence[Operation | FilterOperation]) -> None:
    for operation in planned:
        if (used := name_used(state, operation.op, operation.name, "")) is not None:
            raise name_taken(str(operation.name), used)


def _refusal(
    state: WorkspaceState, operation: Operation | FilterOperation, demand: Demand
) -> NameTaken | QuotaNeverFits | None:
    if (used := name_used(state, operation.op, operation.name, "")) is not None:
        return name_taken(str(operation.name), used)
    never = state.ledger.never(demand.cost)
    return None if never is None else QuotaNeverFits(never.limit, never.requested, never.capacity)


def _wait_s(at_us: int | None, now_us: int) -> float:
    return math.inf if at_us is None else (at_us - now_us) / _SECOND_US


def _weighed(
    operation: Operation | FilterOperation, rows_of: Callable[[AnyFile], int | None]
) -> Operation | FilterOperation:
    if not isinstance(operation, FileOperation) or operation.rows is not None:
        return operation
    rows = rows_of(operation)
    if rows is None:
        raise InputError(
            f"{operation.name!r} needs its rows to be planned: give rows=, or await client.preflight(operation) before",
            "rows",
        )
    return attrs.evolve(operation, rows=rows)
