"""Questions about the quotas: usage, plans, usage of others. `Governor` inherits them.

Each is one question to the journal. None waits in line, and none changes what was granted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from moe_segments.core.events import ActiveObserved, ExternalUsage, Trusted
from moe_segments.core.quota.forecast import Demand
from moe_segments.core.quota.ledger import life_us
from moe_segments.core.state.admission import forecast
from moe_segments.core.state.jobs import segment_keys
from moe_segments.core.state.verdicts import cost_of, name_used
from moe_segments.errors import InputError
from moe_segments.governor.usage import PlannedStart, at, moment_of, name_taken, usage_of
from moe_segments.limits import is_whole
from moe_segments.models import ArchiveSegment, CreateFileSegment, FileOperation
from moe_segments.models.arguments import listed
from moe_segments.types import Unset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from moe_segments.core.events import Event
    from moe_segments.core.quota.forecast import Start
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.plan import Plan
    from moe_segments.governor.usage import LimitUsage
    from moe_segments.journal.replica import Replica
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import AddUsers, FilterOperation, Operation, RemoveUsers, ReplaceUsers

    _Usage: TypeAlias = tuple[str, int, tuple[tuple[int, int], ...]]  # limit, capacity, steps
    AnyFile: TypeAlias = CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers

__all__ = ["QuotaCalls"]

_SECOND_US: Final = 1_000_000
_MOST: Final = 10**9  # of anything that is told; more is a mistake


class _Governor(Protocol):
    """The part of the governor that these calls need."""

    limits: QuotaLimits
    _replica: Replica
    _rows_of: Callable[[AnyFile], int | None]
    _awaits_callback: Callable[[AnyFile], bool]
    _attempt_us: int

    def _demand_of(self, operation: Operation | FilterOperation) -> Demand: ...

    def shift_us(self) -> int: ...


class QuotaCalls:
    """The calls of people and tools rather than of the client."""

    async def usage(self: _Governor) -> Mapping[str, LimitUsage]:
        """Return every limit by its name, as the journal stands now.

        Raises:
            JournalError: The journal cannot be read.
        """
        states = await self._replica.ask(lambda state, now_us: ((), state.ledger.usage(now_us)))
        shift_us = self.shift_us()
        return {state.limit: usage_of(state, shift_us) for state in states}

    async def plan(self: _Governor, operations: Iterable[Operation | FilterOperation]) -> Plan:
        """Return when each operation starts if they are submitted now in this order, and which limit binds it.

        Those who wait already, in whichever process, are ahead. Operations are taken to end at once, and those in
        flight now, so these are the earliest moments. A segment is taken to expire as it will.
        Needs `rows` on file operations whose file this client has not checked with `preflight`.

        Raises:
            InputError: A file operation has no `rows` and was not checked, or something else is no operation.
            NameTaken: One is a create, and the journal knows that its name is used up.
            JournalError: The journal cannot be read.
        """
        from moe_segments.governor.plan import Plan  # for those who plan

        planned = listed(operations)
        demands = [self._demand_of(_weighed(operation, self._rows_of)) for operation in planned]

        def question(
            state: WorkspaceState, now_us: int
        ) -> tuple[Sequence[Event], tuple[int, list[Start], list[_Usage]]]:
            for operation in planned:
                if (used := name_used(state, operation.op, operation.name, "")) is not None:
                    raise name_taken(str(operation.name), used)
            found, schedule = forecast(state, demands, now_us)
            usage = [(limit, profile.capacity, tuple(profile.steps())) for limit, profile in schedule.usage()]
            return (), (now_us, found, usage)

        now_us, found, usage = await self._replica.ask(question)
        shift_us = self.shift_us()
        starts = (
            PlannedStart(
                operation=operation,
                start=moment_of(start.at_us, shift_us),
                limit=start.limit,
                wait_s=math.inf if start.at_us is None else (start.at_us - now_us) / _SECOND_US,
            )
            for operation, start in zip(planned, found, strict=True)
        )
        return Plan(
            starts=tuple(starts),
            made_at=at(now_us + shift_us),
            quotas=self.limits,
            used=usage,
            shift_us=shift_us,
        )

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

    async def record_external(
        self: _Governor, *, operations: int = 0, rows: int = 0, at: datetime | None = None
    ) -> None:
        """Tell the journal what somebody else spent, such as people in the dashboard.

        Args:
            operations: File-segment operations, from 0.
            rows: Users uploaded, from 0.
            at: When, aware; None for now. Usage older than a window no longer counts in it.

        Raises:
            InputError: A number is negative, or the moment has no zone or lies in the future.
            JournalError: It could not be written.
        """
        _check_amount("operations", operations)
        _check_amount("rows", rows)
        if at is not None and at.tzinfo is None:
            raise InputError("needs a time zone", "at")
        at_us = None if at is None else round(at.timestamp() * _SECOND_US) - self.shift_us()

        def question(_: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            if at_us is not None and at_us > now_us:
                raise InputError("lies in the future", "at")
            return [ExternalUsage(operations, rows, now_us if at_us is None else at_us)], None

        await self._replica.ask(question)

    async def observe_active_segments(self: _Governor, n: int) -> None:
        """Tell the journal how many segments of all types are active now, those of this journal included.

        Raises:
            InputError: *n* is no whole number from 0.
            JournalError: It could not be written.
        """
        _check_amount("n", n)
        await self._replica.record(ActiveObserved(n))

    async def lift_quarantine(self: _Governor, *, operations: int = 0, rows: int = 0) -> None:
        """State what was spent in the last day, and trust the journal for the rest.

        Args:
            operations: File-segment operations, counted as if spent now.
            rows: Users uploaded, counted as if spent now.

        Raises:
            InputError: A number is negative.
            JournalError: It could not be written.
        """
        _check_amount("operations", operations)
        _check_amount("rows", rows)

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            reason = state.ledger.quarantine or "stated by the user"
            return [ExternalUsage(operations, rows, now_us), Trusted(reason)], None

        await self._replica.ask(question)


def _weighed(
    operation: Operation | FilterOperation, rows_of: Callable[[AnyFile], int | None]
) -> Operation | FilterOperation:
    if not isinstance(operation, FileOperation) or operation.rows is not None:
        return operation
    rows = rows_of(operation)
    if rows is None:
        raise InputError(f"{operation.name!r} needs its rows to be planned: give them, or check its file", "rows")
    return attrs.evolve(operation, rows=rows)


def _check_amount(field: str, amount: object) -> None:
    if not is_whole(amount) or amount > _MOST:
        raise InputError(f"must be a whole number from 0 to {_MOST}, not {amount!r}", field)
