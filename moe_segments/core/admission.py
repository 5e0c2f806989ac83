"""Decide for everyone who waits, in order, what may leave now. Pure: no clock, no I/O.

First come, first served. A light operation passes a heavy one that is not ready only when that does not make the heavy
one's earliest start later (backfilling). A segment takes one operation at a time; who waits for a segment stands in
nobody's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.core.decisions import Cost, Granted, Never, Wait
from moe_segments.core.events import Reserved
from moe_segments.core.plan import starts
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
    from collections.abc import Mapping, Sequence

    from moe_segments.core.state import WorkspaceState
    from moe_segments.limits import QuotaLimits

__all__ = ["Admitted", "Ask", "Busy", "KeyBad", "Known", "Later", "TooLarge", "Verdict", "admit", "cost_of", "passed"]


@attrs.frozen(kw_only=True)
class Ask:
    """One operation that wants to be sent.

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
        passed_by: Rows that left while it waited and came after it; see `passed`.
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
    passed_by: tuple[str, ...] = ()


@attrs.frozen
class Admitted:
    """It may leave; the event makes it durable."""

    event: Reserved


@attrs.frozen
class Later:
    """A quota is full, or others are ahead. See `core.ledger.Wait`.

    Attributes:
        wait: The limit that binds, and until when it does at the earliest.
        start_us: When it can start at the earliest, those ahead of it counted; None when unknown.
    """

    wait: Wait
    start_us: int | None


@attrs.frozen
class Busy:
    """Its segment is busy.

    Attributes:
        job: The job that holds it.
        until_us: Until when at the latest; None when that job waits itself.
    """

    job: str
    until_us: int | None


@attrs.frozen
class TooLarge:
    """It never fits."""

    never: Never


@attrs.frozen
class KeyBad:
    """The service rejected this key, with this status."""

    status: int


@attrs.frozen
class Known:
    """The journal knows this job already, and it is not to be sent (again)."""


Verdict: TypeAlias = Admitted | Later | Busy | TooLarge | KeyBad | Known
_LAST_MOMENT_US: Final = 2**62


def cost_of(operation: Operation | FilterOperation, limits: QuotaLimits) -> Cost:  # noqa: PLR0911 - one a kind
    """What one send of an operation may spend. Rows that are not known yet weigh nothing here.

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


def admit(state: WorkspaceState, asks: Sequence[Ask], now_us: int, *, look_ahead_for: frozenset[int]) -> list[Verdict]:
    """The verdict on each ask, in order. Reservations are tried on *state*, for the caller to keep or take back.

    Args:
        state: What is known, up to now.
        asks: Who waits, first come first.
        now_us: The journal's time.
        look_ahead_for: Positions whose earliest start is to be worked out with everyone ahead counted; for the
            others `Later.start_us` is when they would fit alone.
    """
    line = _Line(state, now_us)
    verdicts = [line.verdict(ask) for ask in asks]
    wanted = [position for position in look_ahead_for if isinstance(verdicts[position], Later)]
    if wanted:
        _look_ahead(state, asks, verdicts, now_us, max(wanted))
    return verdicts


def passed(asks: Sequence[Ask], verdicts: Sequence[Verdict]) -> list[Ask]:
    """The asks as they are to be put the next time, knowing which rows have passed those that wait for a quota."""
    behind: tuple[str, ...] = ()
    again: list[Ask] = []
    for ask, verdict in zip(reversed(asks), reversed(verdicts), strict=True):
        if isinstance(verdict, Admitted):
            behind += (verdict.event.row,)
        waits = behind and isinstance(verdict, Later)
        again.append(attrs.evolve(ask, passed_by=ask.passed_by + behind) if waits else ask)
    return again[::-1]


class _Line:
    """One pass over those who wait."""

    def __init__(self, state: WorkspaceState, now_us: int) -> None:
        self._state, self._now_us = state, now_us
        self._blocked: dict[Cost, Wait] = {}
        self._passed_by: dict[Cost, list[str]] = {}  # rows that went although the first to ask for this waits
        self._start_us: dict[Cost, int] = {}  # its start if they end as late as they can
        self._claimed: dict[str, str] = {}

    def verdict(self, ask: Ask) -> Verdict:
        state = self._state
        status = state.rejected_keys.get(ask.key_fingerprint)
        if status is not None:
            return KeyBad(status)
        if not state.jobs.may_send(ask.job, retry_unknown=ask.retry_unknown, now_us=self._now_us):
            return Known()
        busy = self._busy(ask)
        if busy is not None:
            return busy
        verdict = self._on_quota(ask)
        if isinstance(verdict, Later):
            self._claimed.update(dict.fromkeys(ask.keys, ask.job))
        return verdict

    def _busy(self, ask: Ask) -> Busy | None:
        holder = self._state.jobs.holder(ask.keys, self._now_us)
        if holder is not None and holder.id != ask.job:
            return Busy(holder.id, holder.busy_until_us)
        for key in self._state.jobs.known_as(ask.keys):
            if key in self._claimed:
                return Busy(self._claimed[key], None)
        return None

    def _on_quota(self, ask: Ask) -> Verdict:
        if ask.cost in self._blocked:
            wait = self._blocked[ask.cost]
            return Later(wait, wait.until_us)
        match self._state.ledger.decide(ask.cost, self._now_us):
            case Never() as never:
                return TooLarge(never)
            case Wait() as wait:
                self._block(ask, wait)
                return Later(wait, wait.until_us)
            case Granted():
                return self._unless_it_delays(ask)

    def _block(self, ask: Ask, wait: Wait) -> None:
        rows = self._state.ledger.rows
        self._blocked[ask.cost] = wait
        self._passed_by[ask.cost] = [row for row in ask.passed_by if row in rows]
        self._start_us[ask.cost] = self._latest_start_us(ask.cost) if self._passed_by[ask.cost] else _start_us(wait)

    def _unless_it_delays(self, ask: Ask) -> Verdict:
        event = _reserved(self._state, ask)
        self._state.try_reserve(event, self._now_us)
        if not self._blocked:
            return Admitted(event)
        for passed_by in self._passed_by.values():
            passed_by.append(event.row)
        delayed = next(
            (wait for cost, wait in self._blocked.items() if self._latest_start_us(cost) > self._start_us[cost]), None
        )
        if delayed is None:
            return Admitted(event)
        for passed_by in self._passed_by.values():
            passed_by.pop()
        self._state.take_back_last()
        return Later(delayed, delayed.until_us)

    def _latest_start_us(self, cost: Cost) -> int:
        """When who asks for *cost* can start if those that passed, all together, end as late as they can."""
        with self._state.ledger.at_their_longest(self._passed_by[cost]):
            decision = self._state.ledger.decide(cost, self._now_us)
        return _start_us(decision) if isinstance(decision, Wait) else self._now_us


def _start_us(wait: Wait) -> int:
    return _LAST_MOMENT_US if wait.until_us is None else wait.until_us


def _reserved(state: WorkspaceState, ask: Ask) -> Reserved:
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
        duplicate_possible=ask.retry_unknown and record is not None and record.attempt > 0,
    )


def _look_ahead(state: WorkspaceState, asks: Sequence[Ask], verdicts: list[Verdict], now_us: int, last: int) -> None:
    queue = [position for position, verdict in enumerate(verdicts[: last + 1]) if isinstance(verdict, Later)]
    planned = starts(state.ledger, (asks[position].cost for position in queue), now_us)
    for position, start in zip(queue, planned, strict=True):
        verdict = verdicts[position]
        assert isinstance(verdict, Later)
        wait = verdict.wait
        if start.limit is not None:
            wait = Wait(start.at_us, start.limit, start.used, start.requested, start.capacity)
        verdicts[position] = Later(wait, start.at_us)
