"""The ledger's windows against a list that is added up anew each time."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_segments.core.events import Answered, Batch, NeverSent, Reserved, Unknown
from moe_segments.core.quota.decision import Cost, Granted, Never, Wait
from moe_segments.core.quota.forecast import Demand, Schedule
from moe_segments.core.quota.ledger import Ledger
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits

SECOND = 1_000_000
LIMITS = QuotaLimits(
    operations_per_hour=4,
    operations_per_day=9,
    users_per_day=100,
    hour_s=60,
    day_s=300,
    guard_s=5,
    count_late_s=40,
    processing_allowance_s=80,
)


@attrs.define
class Entry:
    """What one operation counts, as the rules say it."""

    weight: Cost
    lease_us: int
    users_bound_us: int
    u_us: int | None = None
    users_u_us: int | None = None
    gone: bool = False


class Oracle:
    """Rules 1 to 6 in their plainest form: a list, added up at each question."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def counted(self, now_us: int) -> tuple[int, int, int]:
        hour = self._span(LIMITS.hour_s)
        day = self._span(LIMITS.day_s)
        alive = [entry for entry in self.entries.values() if not entry.gone]
        return (
            sum(e.weight.operations for e in alive if now_us < self._u(e, now_us) + hour),
            sum(e.weight.operations for e in alive if now_us < self._u(e, now_us) + day),
            sum(e.weight.rows for e in alive if now_us < self._users_u(e, now_us) + day),
        )

    def fits(self, cost: Cost, now_us: int) -> bool:
        hour, day, users = self.counted(now_us)
        return (
            (not cost.operations or hour + cost.operations <= LIMITS.operations_per_hour)
            and (not cost.operations or day + cost.operations <= LIMITS.operations_per_day)
            and (not cost.rows or users + cost.rows <= LIMITS.users_per_day)
        )

    @staticmethod
    def _span(window_s: float) -> int:
        return round((window_s + LIMITS.guard_for(window_s)) * SECOND)

    @staticmethod
    def _u(entry: Entry, now_us: int) -> int:
        if entry.u_us is not None:
            return entry.u_us
        return min(entry.lease_us, now_us)

    @staticmethod
    def _users_u(entry: Entry, now_us: int) -> int:
        if entry.users_u_us is not None:
            return entry.users_u_us
        return min(entry.users_bound_us, now_us)


STEP = st.tuples(
    st.sampled_from(["reserve", "reserve", "answer", "refuse", "unknown", "never"]),
    st.integers(0, 30 * SECOND),
    st.integers(0, 1),
    st.integers(0, 60),
    st.integers(0, 50),
)


@given(st.lists(STEP, max_size=60))
@settings(max_examples=400, deadline=None)
def test_the_windows_agree_with_a_list_added_up_anew(steps: list[tuple[str, int, int, int, int]]) -> None:
    """An admission is granted exactly when the plain sums leave room, and a promised time is never early."""
    ledger, oracle, now, sent = Ledger(LIMITS), Oracle(), 1_000 * SECOND, 0
    for kind, passed, operations, rows, which in steps:
        now += passed
        cost = Cost(operations, rows)
        if kind == "reserve":
            decision = ledger.decide(cost, now)
            assert isinstance(decision, Granted) == oracle.fits(cost, now)
            if isinstance(decision, Wait):
                assert decision.until_us is not None
                assert decision.until_us > now
            if isinstance(decision, Granted):
                sent += 1
                event = _reserved(sent, cost)
                ledger.fold(event, now)
                over = now + event.fence_us + event.timeout_us
                lease = over + round(LIMITS.count_late_s * SECOND)
                oracle.entries[event.row] = Entry(cost, lease, lease + round(LIMITS.processing_allowance_s * SECOND))
        elif oracle.entries:
            row = sorted(oracle.entries)[which % len(oracle.entries)]
            _end(ledger, oracle, row, kind, now)
        ledger.advance(now)
        assert tuple(window.used for window in ledger.windows) == oracle.counted(now)


def _reserved(number: int, cost: Cost) -> Reserved:
    return Reserved(
        job=f"j{number:03}",
        attempt=1,
        operation={"op": "add", "name": "s"},
        operations=cost.operations,
        rows=cost.rows,
        fence_us=2 * SECOND,
        timeout_us=10 * SECOND,
    )


def _end(ledger: Ledger, oracle: Oracle, row: str, kind: str, now: int) -> None:
    entry, job = oracle.entries[row], row.partition("/")[0]
    if row not in ledger.rows or entry.users_u_us is not None or entry.gone:
        return
    allowance = round(LIMITS.processing_allowance_s * SECOND)
    late = round(LIMITS.count_late_s * SECOND)
    match kind:
        case "answer":
            ledger.fold(Answered(job, 1, 202, accepted={}), now)
            entry.u_us, entry.users_u_us = now, now + allowance
        case "refuse":
            ledger.fold(Answered(job, 1, 409, error={}), now)
            entry.u_us, entry.users_u_us = now, now
            entry.weight = Cost(entry.weight.operations, 0)
        case "unknown":
            ledger.fold(Unknown(job, 1, "lost"), now)
            entry.u_us = now + late
            entry.users_bound_us = now + late + allowance
        case _:
            ledger.fold(NeverSent(job, 1, "refused"), now)
            entry.gone = True


@given(
    st.lists(st.tuples(st.integers(1, 20 * SECOND), st.integers(0, 40)), min_size=1, max_size=40),
    st.integers(1, 100),
)
@settings(max_examples=300, deadline=None)
def test_the_time_promised_is_the_first_at_which_it_fits(history: list[tuple[int, int]], rows: int) -> None:
    """Nothing is wasted: at the promised time it fits, a microsecond before it does not."""
    ledger, now = Ledger(LIMITS), 1_000 * SECOND
    for number, (passed, weight) in enumerate(history):
        now += passed
        event = _reserved(number, Cost(1, weight))
        if isinstance(ledger.decide(Cost(1, weight), now), Granted):
            ledger.fold(event, now)
            ledger.fold(Answered(event.job, 1, 409, error={}), now)
    cost = Cost(1, rows)
    start_us = Schedule(ledger, now).find(Demand(cost)).at_us
    assert start_us is not None
    assert start_us == now or isinstance(ledger.decide(cost, start_us - 1), Wait)
    assert isinstance(ledger.decide(cost, start_us), Granted)


def _used(state: WorkspaceState, now_us: int) -> list[int]:
    return [limit.used for limit in state.ledger.usage(now_us)]


def test_a_question_at_a_time_that_lay_ahead_frees_nothing_for_one_before_it() -> None:
    """An engine over a network first decides at an estimate, which a host's clock that leaps makes too late."""
    state = WorkspaceState(attrs.evolve(LIMITS, active_segments=1, external_active_margin=0))
    batch = Batch(1, "b", 1_000 * SECOND, tuple(_reserved(number, Cost(1, 1)) for number in range(3)))
    made = Reserved("made", 1, {"op": "create", "name": "made"}, 1, 1, 1, expiry_days=1)
    listed = Reserved("listed", 1, {"op": "list"}, call="list")
    state.fold(attrs.evolve(batch, events=(*batch.events, made, listed)))
    before = _used(state, 1_001 * SECOND)
    assert not any(_used(state, (1_000 + 40 * 86_400) * SECOND))
    assert _used(state, 1_001 * SECOND) == before
    state.fold(Batch(2, "c", 1_002 * SECOND, (Answered("made", 1, 202, accepted={"cs_id": "x"}),)))
    state.fold(Batch(3, "d", 1_003 * SECOND, ()))
    assert _used(state, 1_003 * SECOND) == before


def test_a_request_larger_than_a_limit_is_refused_as_such() -> None:
    """No wait would help, so none is offered."""
    assert Ledger(LIMITS).decide(Cost(1, 101), 0) == Never("users_per_day", 101, 100)
