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
    from collections.abc import Set as AbstractSet

    from moe_segments.core.state import WorkspaceState
    from moe_segments.limits import QuotaLimits

__all__ = [
    "Admitted",
    "Ask",
    "Busy",
    "KeyBad",
    "Known",
    "Later",
    "NameUsed",
    "Paced",
    "TooLarge",
    "Verdict",
    "admit",
    "cost_of",
    "name_used",
    "passed",
]


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
class NameUsed:
    """It is a create, and its name is used up.

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
    """Its quotas have room; it waits for the pace, without a reservation. See `core.pacing`."""


Verdict: TypeAlias = Admitted | Later | Busy | TooLarge | KeyBad | NameUsed | Known | Paced
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


def admit(
    state: WorkspaceState,
    asks: Sequence[Ask],
    now_us: int,
    *,
    look_ahead_for: AbstractSet[int] = frozenset(),
    patient: AbstractSet[int] = frozenset(),
) -> list[Verdict]:
    """The verdict on each ask, in order. Reservations are tried on *state*, for the caller to keep or take back.

    Args:
        state: What is known, up to now.
        asks: Who waits, first come first.
        now_us: The journal's time.
        look_ahead_for: Positions whose earliest start is to be worked out with everyone ahead counted; for the
            others `Later.start_us` is when they would fit alone.
        patient: Positions that would wait for ever and have been looked at before: behind one that waits for the same,
            they are not looked at again.
    """
    line = _Line(state, now_us, asks)
    if state.rejected_keys:
        patient = frozenset()
    verdicts: list[Verdict] = (
        [
            (line.still_waiting(ask) if position in patient else None) or line.verdict(ask)
            for position, ask in enumerate(asks)
        ]
        if patient
        else [line.verdict(ask) for ask in asks]
    )
    if not look_ahead_for:
        return verdicts
    wanted = [position for position in look_ahead_for if isinstance(verdicts[position], Later)]
    if wanted:
        _look_ahead(state, asks, verdicts, now_us, max(wanted))
    return verdicts


def name_used(state: WorkspaceState, op: object, name: object, job: str) -> NameUsed | None:
    """Return what shows that the name of a segment to create is used up; None where nothing does."""
    used_by = state.jobs.name_used_by(op, name, job)
    if used_by is None:
        return None
    record = state.jobs.records.get(used_by)  # forgotten after 90 days, the name is not
    cs_id = ((record and record.accepted) or {}).get("cs_id")
    return NameUsed(used_by, None if cs_id is None else str(cs_id))


def passed(asks: Sequence[Ask], verdicts: Sequence[Verdict]) -> dict[int, Ask]:
    """By position, the asks that others passed, as they are to be put the next time: knowing which rows did."""
    behind: tuple[str, ...] = ()
    again: dict[int, Ask] = {}
    for position in range(len(asks) - 1, -1, -1):
        verdict = verdicts[position]
        if isinstance(verdict, Admitted):
            behind += (verdict.event.row,)
        elif behind and isinstance(verdict, Later):
            again[position] = attrs.evolve(asks[position], passed_by=asks[position].passed_by + behind)
    return again


@attrs.define(eq=False)
class _Ahead:
    """Somebody who waits and must not be made to start later.

    Attributes:
        cost: What it asks for.
        wait: What keeps it; None for one in another process that could go now and has not yet.
        start_us: Its start if those that passed it end as late as they can.
        passed_by: Rows that left although it was there before.
        lapses_us: When it no longer needs to be minded.
    """

    cost: Cost
    wait: Wait | None
    start_us: int
    passed_by: list[str]
    lapses_us: int = _LAST_MOMENT_US


class _Line:
    """One pass over those who wait."""

    def __init__(self, state: WorkspaceState, now_us: int, asks: Sequence[Ask]) -> None:
        self._state, self._now_us, self._asks = state, now_us, asks
        self._blocked: dict[Cost, _Ahead] = {}  # the first of ours that waits for each cost
        self._later: dict[Cost, Later] = {}
        self._claims: dict[str, _Ahead] | None = None  # of other processes, by job
        self._claimed: dict[str, str] = {}
        self._unlooked: list[Ask] = []

    def still_waiting(self, ask: Ask) -> Later | None:
        """The verdict of the one ahead that asks for the same, if there is one that waits."""
        later = self._later.get(ask.cost)
        if later is None or self._name_used(ask) is not None:
            return None
        self._unlooked.append(ask)
        return later

    def verdict(self, ask: Ask) -> Verdict:
        state = self._state
        if state.rejected_keys:
            status = state.rejected_keys.get(ask.key_fingerprint)
            if status is not None:
                return KeyBad(status)
        if not state.jobs.may_send(ask.job, retry_unknown=ask.retry_unknown, now_us=self._now_us):
            return Known()
        used = self._name_used(ask)
        if used is not None:
            return used
        busy = self._busy(ask)
        if busy is not None:
            return busy
        verdict = self._on_quota(ask)
        if isinstance(verdict, Later):
            self._claimed.update(dict.fromkeys(ask.keys, ask.job))
        return verdict

    def _name_used(self, ask: Ask) -> NameUsed | None:
        return name_used(self._state, ask.operation.get("op"), ask.operation.get("name"), ask.job)

    def _busy(self, ask: Ask) -> Busy | None:
        jobs = self._state.jobs
        if jobs.holders:
            holder = jobs.holder(ask.keys, self._now_us)
            if holder is not None and holder.id != ask.job:
                return Busy(holder.id, holder.busy_until_us)
        for ahead in self._unlooked:
            for key in ahead.keys:
                self._claimed.setdefault(key, ahead.job)
        self._unlooked.clear()
        if self._claimed:
            for key in jobs.known_as(ask.keys):
                if key in self._claimed:
                    return Busy(self._claimed[key], None)
        return None

    def _on_quota(self, ask: Ask) -> Verdict:
        later = self._later.get(ask.cost)
        if later is not None:
            return later
        match self._state.ledger.decide(ask.cost, self._now_us):
            case Never() as never:
                return TooLarge(never)
            case Wait() as wait:
                return self._block(ask, wait)
            case Granted():
                return self._unless_it_delays(ask)

    def _block(self, ask: Ask, wait: Wait) -> Later:
        rows = self._state.ledger.rows
        ahead = _Ahead(ask.cost, wait, _start_us(wait), [row for row in ask.passed_by if row in rows])
        if ahead.passed_by:
            ahead.start_us = self._latest_start_us(ahead)
        self._blocked[ask.cost] = ahead
        self._later[ask.cost] = later = Later(wait, wait.until_us)
        return later

    def _unless_it_delays(self, ask: Ask) -> Verdict:
        ahead = self._ahead_of(ask)
        event = _reserved(self._state, ask, self._now_us)
        self._state.try_reserve(event, self._now_us)
        if not ahead:
            return Admitted(event)
        for one in ahead:
            one.passed_by.append(event.row)
        delayed = next((one for one in ahead if self._latest_start_us(one) > one.start_us), None)
        if delayed is None:
            return Admitted(event)
        wait = self._wait_behind(delayed)
        for one in ahead:
            one.passed_by.pop()
        self._state.take_back_last()
        return Later(wait, wait.until_us)

    def _ahead_of(self, ask: Ask) -> list[_Ahead]:
        """Those who came before: ours that wait, and others' claims."""
        ahead = list(self._blocked.values())
        if self._state.claims.live:
            if self._claims is None:
                self._claims = self._others()
            claims = self._claims
            ahead += [claims[job] for job, _ in self._state.claims.ahead_of(ask.job, self._now_us) if job in claims]
        return ahead

    def _others(self) -> dict[str, _Ahead]:
        """What other processes' claims can count on now, before any of ours goes."""
        state, ours = self._state, {ask.job for ask in self._asks}
        found: dict[str, _Ahead] = {}
        for job, claim in state.claims.ahead_of("", self._now_us):
            if job in ours:
                continue
            rows = [row for row in claim.passed_by if row in state.ledger.rows]
            decision = state.ledger.decide(claim.cost, self._now_us)
            wait = decision if isinstance(decision, Wait) else None
            one = _Ahead(claim.cost, wait, self._now_us, rows, claim.until_us)
            one.start_us = self._latest_start_us(one)
            found[job] = one
        return found

    def _wait_behind(self, one: _Ahead) -> Wait:
        """What to wait for behind somebody: that it can start, with room for both, or that its claim lapses."""
        wait = one.wait or self._state.ledger.decide(one.cost, self._now_us)
        assert isinstance(wait, Wait)  # or it would not be delayed
        lapses_first = one.lapses_us < _start_us(wait)
        return attrs.evolve(wait, until_us=one.lapses_us) if lapses_first else wait

    def _latest_start_us(self, one: _Ahead) -> int:
        """When it can start if those that passed it, all together, end as late as they can."""
        with self._state.ledger.at_their_longest(one.passed_by):
            decision = self._state.ledger.decide(one.cost, self._now_us)
        return _start_us(decision) if isinstance(decision, Wait) else self._now_us


def _start_us(wait: Wait) -> int:
    return _LAST_MOMENT_US if wait.until_us is None else wait.until_us


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
