"""The order of many operations: as good as can be found, never worse than given, and what a forecast says of it."""

from __future__ import annotations

import random
from itertools import permutations
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_segments.core.events import Answered, Batch, Claimed, Event, Quarantined, Reserved, Throttled
from moe_segments.core.planning.board import Board
from moe_segments.core.planning.order import Line, Order, best_order
from moe_segments.core.quota.decision import Cost, Granted
from moe_segments.core.quota.forecast import Demand, Schedule
from moe_segments.core.state.admission import forecast
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import InputError, QuotaNeverFits
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOW = 1_000 * SECOND
SMALL = QuotaLimits(
    operations_per_hour=3,
    operations_per_day=7,
    users_per_day=100,
    active_segments=6,
    external_active_margin=0,
    list_per_minute=2,
    list_per_hour=3,
    list_per_day=5,
    minute_s=10,
    hour_s=60,
    day_s=300,
    guard_s=0,
    count_late_s=20,
    processing_allowance_s=30,
    expiry_day_s=40,
    expiry_slack_s=0,
)
CROWDED = attrs.evolve(SMALL, active_segments=2)
PUNCTUAL = attrs.evolve(SMALL, count_late_s=0, processing_allowance_s=0)
FULL = QuotaLimits(guard_s=0)
ROWS = st.sampled_from([0, 1, 10, 25, 40, 55, 70, 100])


def line(
    rows: int, segment: str = "", *, op: str = "add", priority: Any = 0, segments: int = 0, life_s: int | None = None
) -> Line:
    """One operation."""
    archives = (segment, None) if op == "archive" else None
    cost = Cost() if op == "archive" else Cost(1, rows, segments)
    life_us = None if life_s is None else life_s * SECOND
    demand = Demand(cost, (segment,) if segment else (), life_us=life_us, archives=archives)
    return Line(demand=demand, op=op, priority=priority)


def numbered(sizes: Iterable[int]) -> list[Line]:
    """Operations of these sizes, each on a segment of its own."""
    return [line(rows, f"s{number}") for number, rows in enumerate(sizes)]


def moments(found: Order) -> list[int]:
    """When each starts, where all do."""
    return [start.at_us for start in found.starts if start.at_us is not None]


def last_h(found: Order) -> float:
    """Hours until the last start."""
    assert found.last_us is not None
    return (found.last_us - NOW) / HOUR


def state_of(limits: QuotaLimits, *batches: tuple[int, Event]) -> WorkspaceState:
    """What is known after these events, each at so many seconds before now."""
    state = WorkspaceState(limits)
    for ago_s, event in batches:
        state.fold(Batch(state.version + 1, "b", NOW - ago_s * SECOND, (event,)))
    return state


def reserved(job: str, cost: Cost) -> Reserved:
    """A reservation."""
    return Reserved(
        job=job,
        attempt=1,
        operation={"op": "create" if cost.segments else "add", "name": job},
        operations=cost.operations,
        rows=cost.rows,
        segments=cost.segments,
        call=cost.call,
        keys=(job,),
        fence_us=SECOND,
        timeout_us=SECOND,
        expiry_days=2 if cost.segments else None,
        token_sha256=f"token {job}",
    )


COSTS = st.builds(Cost, st.integers(0, 1), ROWS, st.sampled_from([0, 0, 1]), st.sampled_from(["", "", "", "list"]))


@st.composite
def pasts(draw: st.DrawFn, limits: QuotaLimits, *, waiters: bool = True) -> WorkspaceState:
    """Sends that ended or are under way, closed limits, and others who wait."""
    state = WorkspaceState(limits)
    moments_s = draw(st.lists(st.sampled_from([400, 299, 200, 59, 30, 10, 5, 0]), max_size=8))
    for number, ago_s in enumerate(sorted(moments_s, reverse=True)):
        at_us = NOW - ago_s * SECOND
        cost = draw(COSTS)
        if not isinstance(state.ledger.decide(cost, at_us), Granted):
            continue
        events: list[Event] = [reserved(f"past {number}", cost)]
        if draw(st.booleans()):
            events.append(Answered(f"past {number}", 1, 202, accepted={"cs_name": f"past {number}"}))
        for event in events:
            state.fold(Batch(state.version + 1, "b", at_us, (event,)))
    news: list[Event] = []
    if draw(st.booleans()):
        until_us = NOW + draw(st.sampled_from([-1, -1, 1, 50, 400])) * SECOND
        limit = draw(st.sampled_from(["operations_per_hour", "operations_per_day", "list_per_hour"]))
        news.append(Throttled(limit, until_us, probe=draw(st.booleans())))
    if draw(st.integers(0, 6)) == 0:
        news.append(Quarantined("a test"))
    for number in range(draw(st.integers(0, 3)) if waiters else 0):
        cost = draw(COSTS)
        keys = (draw(st.sampled_from(["s0", "s1", f"other {number}"])),)
        news.append(
            Claimed(
                f"waits {number}",
                cost.operations,
                cost.rows,
                cost.segments,
                3_600 * SECOND,
                cost.call,
                keys,
                True,  # noqa: FBT003 - awaits_callback
                2 if cost.segments else None,
                2 * SECOND,
                "somebody",
            )
        )
    for event in news:
        state.fold(Batch(state.version + 1, "b", NOW, (event,)))
    state.ledger.advance(NOW)
    return state


@st.composite
def line_sets(draw: st.DrawFn, most: int = 8) -> list[Line]:
    """Operations of all kinds, some on one segment, some urgent."""
    lines = []
    for number in range(draw(st.integers(1, most))):
        cost = draw(COSTS)
        segment = draw(st.sampled_from([f"own {number}", "s0", "s1", "past 1"]))
        archives = draw(st.integers(0, 5)) == 0
        demand = Demand(
            Cost() if archives else cost,
            (segment,),
            awaits_callback=draw(st.sampled_from([True, True, False])),
            life_us=draw(st.sampled_from([50, 400, 10**9])) * SECOND,
            attempt_us=draw(st.sampled_from([0, 12 * SECOND])),
            archives=(segment, None) if archives else None,
        )
        lines.append(Line(demand=demand, priority=draw(st.sampled_from([0, 0, 1, 2.5]))))
    return lines


# The lean schedule


@given(st.sampled_from([SMALL, CROWDED]).flatmap(lambda limits: pasts(limits, waiters=False)), line_sets(12))
@settings(max_examples=250, deadline=None)
def test_the_board_finds_the_starts_that_the_schedule_finds(state: WorkspaceState, lines: list[Line]) -> None:
    """The search and the forecast count alike, whatever was spent, closed, archived or is on one segment."""
    board, schedule = Board(state.ledger, NOW), Schedule(state.ledger, NOW)
    segments = sorted({one.demand.keys for one in lines})
    tasks = [board.task(one.demand, segments.index(one.demand.keys)) for one in lines]
    lean, told = board.copied(), [schedule.place(one.demand).at_us for one in lines]
    assert [lean.place(task) for task in tasks] == told
    leaner = board.copied()
    assert [leaner.place(task) for task in board.binding(tasks)] == told


def test_what_an_archive_frees_is_free_for_those_placed_later() -> None:
    """Also where it was found before that nothing will ever be free."""
    one, two, three = (line(1, name, op="create", segments=1).demand for name in ("one", "two", "three"))
    demands = [one, two, line(0, "one", op="archive").demand, three]
    board = Board(state_of(attrs.evolve(SMALL, active_segments=1)).ledger, NOW)
    tasks = [board.task(demand, number) for demand, number in zip(demands, (0, 1, 0, 2), strict=True)]
    assert [board.place(task) for task in tasks] == [NOW, None, NOW, NOW]


def test_what_is_archived_twice_is_freed_once() -> None:
    """One place is free, and not two."""
    one, two, three = (line(1, name, op="create", segments=1).demand for name in ("one", "two", "three"))
    demands = [one, *[line(0, "one", op="archive").demand] * 2, two, three]
    board = Board(state_of(attrs.evolve(SMALL, active_segments=1)).ledger, NOW)
    tasks = [board.task(demand, number) for demand, number in zip(demands, (0, 0, 0, 1, 2), strict=True)]
    assert [board.place(task) for task in tasks] == [NOW, NOW, NOW, NOW, None]


def test_a_segment_that_is_under_way_expires_as_if_it_was_made_now() -> None:
    """As the schedule has it: two days of forty seconds, and not the time that an unheard request may take besides."""
    state = state_of(attrs.evolve(SMALL, active_segments=1), (0, reserved("past", Cost(1, 1, 1))))
    demand = line(1, "new", op="create", segments=1, life_s=80).demand
    board = Board(state.ledger, NOW)
    starts = [board.place(board.task(demand, 0)), Schedule(state.ledger, NOW).place(demand).at_us]
    assert starts == [NOW + 80 * SECOND] * 2


# A plan is a forecast


@given(pasts(SMALL), line_sets())
@settings(max_examples=100, deadline=None)
def test_the_starts_of_a_plan_are_those_of_a_forecast_in_its_order(state: WorkspaceState, lines: list[Line]) -> None:
    """Whoever submits in the order of the plan is told the same starts."""
    found = best_order(state, lines, NOW, tries=10)
    assert sorted(found.positions) == list(range(len(lines)))
    told = forecast(state, [lines[at].demand for at in found.positions], NOW)
    assert [found.starts[at].at_us for at in found.positions] == [start.at_us for start in told]


@given(pasts(SMALL), st.lists(ROWS, min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_a_plan_is_never_worse_than_first_come_first_served(state: WorkspaceState, sizes: list[int]) -> None:
    """The last one starts no later, and if it starts then, all together start no later."""
    lines = numbered(sizes)
    given_us = [start.at_us for start in forecast(state, [one.demand for one in lines], NOW)]
    found_us = [start.at_us for start in best_order(state, lines, NOW, tries=10).starts]
    assert _worth(found_us) <= _worth(given_us)


def _worth(starts_us: Sequence[int | None]) -> tuple[int, int, int]:
    known = [at_us for at_us in starts_us if at_us is not None]
    return len(starts_us) - len(known), max(known, default=0), sum(known)


@given(pasts(PUNCTUAL, waiters=False), st.lists(ROWS, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_no_permutation_of_a_few_is_better(state: WorkspaceState, sizes: list[int]) -> None:
    """Every order of up to six operations is tried by brute force."""
    lines = numbered(sizes)
    every = (
        _worth([start.at_us for start in forecast(state, [one.demand for one in order], NOW)])
        for order in permutations(lines)
    )
    assert _worth([start.at_us for start in best_order(state, lines, NOW).starts]) == min(every)


@pytest.mark.parametrize("seed", range(3))
def test_no_permutation_of_seven_is_better(seed: int) -> None:
    """The same for seven, with half a day spent and a segment that two of them are on."""
    state = state_of(PUNCTUAL, (200, reserved("past", Cost(1, 45))))
    lines = [line((number * (31 + seed) + 17) % 83 + 5, f"s{min(number, 5)}") for number in range(7)]
    every = (
        _worth([start.at_us for start in forecast(state, [lines[at].demand for at in order], NOW)])
        for order in permutations(range(7))
        if order.index(5) < order.index(6)
    )
    assert _worth([start.at_us for start in best_order(state, lines, NOW).starts]) == min(every)


def test_the_same_seed_leads_to_the_same_plan() -> None:
    """Nothing is drawn but by the seed."""
    lines = numbered((number * 37) % 71 + 5 for number in range(40))
    assert best_order(state_of(SMALL), lines, NOW, seed=3) == best_order(state_of(SMALL), lines, NOW, seed=3)


def test_what_cannot_be_better_keeps_the_given_order() -> None:
    """Where no limit of users binds, nothing is reordered for nothing."""
    lines = numbered(range(5, 0, -1))
    assert best_order(state_of(FULL), lines, NOW).positions == (0, 1, 2, 3, 4)


def test_nothing_to_plan_is_an_empty_plan() -> None:
    """No operations, no starts."""
    found = best_order(state_of(FULL), [], NOW)
    assert (found.positions, found.starts, found.last_us) == ((), (), None)


# The windows, by plain lists


@given(line_sets(12))
@settings(max_examples=80, deadline=None)
def test_no_window_of_a_plan_overflows(lines: list[Line]) -> None:
    """Counted by lists of moments: an hour, a day, the users of a day, the calls, the active segments."""
    found = best_order(state_of(SMALL), lines, NOW, tries=10)
    began = [
        (start.at_us, one.demand) for start, one in zip(found.starts, lines, strict=True) if start.at_us is not None
    ]
    for at_us, _ in began:
        for span_s, capacity, weight in (
            (60, 3, lambda demand: demand.cost.operations),
            (300, 7, lambda demand: demand.cost.operations),
            (300, 100, lambda demand: demand.cost.rows),
            (10, 2, lambda demand: bool(demand.cost.call)),
            (60, 3, lambda demand: bool(demand.cost.call)),
            (300, 5, lambda demand: bool(demand.cost.call)),
        ):
            assert sum(weight(demand) for s, demand in began if at_us - span_s * SECOND < s <= at_us) <= capacity
        assert _active(began, at_us) <= 6


def _active(began: Sequence[tuple[int, Demand]], at_us: int) -> int:
    count = 0
    for since_us, demand in began:
        if not demand.cost.segments or since_us > at_us:
            continue
        ended = demand.life_us is not None and since_us + demand.life_us <= at_us
        gone = any(
            other.archives is not None and other.keys == demand.keys and since_us <= when_us <= at_us
            for when_us, other in began
        )
        count += not ended and not gone
    return count


# Precedence and priority


@given(pasts(SMALL), line_sets(10))
@settings(max_examples=80, deadline=None)
def test_operations_on_one_segment_keep_their_order(state: WorkspaceState, lines: list[Line]) -> None:
    """In the order of the plan and in their starts."""
    found = best_order(state, lines, NOW, tries=10)
    for keys in {one.demand.keys for one in lines}:
        chain = [at for at in found.positions if lines[at].demand.keys == keys]
        assert chain == sorted(chain)
        starts = [found.starts[at].at_us for at in chain]
        known = [at_us for at_us in starts if at_us is not None]
        assert known == sorted(known)
        assert starts[: len(known)] == known


def test_a_segment_is_one_by_its_name_and_by_its_identifier() -> None:
    """What is known under two names keeps its order, also when only a later line or the journal says so."""
    name, both, cs_id = ("vip",), ("vip", "id:c1"), ("id:c1",)
    lines = [Line(demand=Demand(Cost(1, rows), keys)) for rows, keys in ((10, cs_id), (60, name), (90, both), (50, ()))]
    found = best_order(state_of(SMALL), lines, NOW)
    assert [at for at in found.positions if at < 3] == [0, 1, 2]
    told = state_of(SMALL, (100, reserved("vip", Cost(1, 45))))
    accepted = {"cs_name": "vip", "cs_id": "c1"}
    told.fold(Batch(2, "b", NOW - 90 * SECOND, (Answered("vip", 1, 202, accepted=accepted),)))
    lines = [Line(demand=Demand(Cost(1, 60), cs_id)), Line(demand=Demand(Cost(1, 40), name))]
    found = best_order(told, lines, NOW)
    assert found.positions == (0, 1)
    assert moments(found) == sorted(moments(found))
    assert moments(found)[0] > NOW


@given(pasts(SMALL), st.lists(st.tuples(ROWS, st.integers(0, 2)), min_size=1, max_size=10))
@settings(max_examples=80, deadline=None)
def test_a_higher_priority_is_never_delayed_by_a_lower_one(
    state: WorkspaceState, wanted: list[tuple[int, int]]
) -> None:
    """The urgent ones start when they would start if the others were not there."""
    lines = [line(rows, f"new {number}", priority=level) for number, (rows, level) in enumerate(wanted)]
    whole = best_order(state, lines, NOW, tries=10)
    for level in (1, 2):
        urgent = [at for at, one in enumerate(lines) if one.priority >= level]
        alone = best_order(state, [lines[at] for at in urgent], NOW, tries=10)
        assert [whole.starts[at].at_us for at in urgent] == [start.at_us for start in alone.starts]


@given(pasts(SMALL), st.lists(st.tuples(ROWS, st.integers(0, 1)), min_size=2, max_size=10))
@settings(max_examples=80, deadline=None)
def test_a_lower_priority_is_never_worse_than_given_behind_the_higher_ones(
    state: WorkspaceState, wanted: list[tuple[int, int]]
) -> None:
    """The rest is planned in the room that the urgent ones leave."""
    lines = [line(rows, f"new {number}", priority=level) for number, (rows, level) in enumerate(wanted)]
    found = best_order(state, lines, NOW, tries=10)
    urgent = [at for at in found.positions if lines[at].priority]
    rest = [at for at, one in enumerate(lines) if not one.priority]
    told = forecast(state, [lines[at].demand for at in (*urgent, *rest)], NOW)
    given_us = [start.at_us for start in told[len(urgent) :]]
    assert _worth([found.starts[at].at_us for at in rest]) <= _worth(given_us)


def test_what_is_less_urgent_fills_the_room_that_is_left() -> None:
    """Beside an urgent one of 60 there is room for 40 today, and 55 and 45 are a day of their own."""
    lines = [line(60, "now", priority=1), *numbered([55, 45, 40])]
    assert sorted(moments(best_order(state_of(SMALL), lines, NOW))) == [NOW] * 2 + [NOW + 300 * SECOND] * 2


def test_what_comes_before_an_urgent_operation_on_its_segment_is_as_urgent() -> None:
    """An urgent add does not wait behind a create that waits behind everybody."""
    lines = [
        *(line(60, f"s{number}", priority=1) for number in range(2)),
        line(10, "vip", op="create", segments=1),
        line(80, "vip", priority=2),
    ]
    found = best_order(state_of(SMALL), lines, NOW)
    assert found.positions[:2] == (2, 3)
    assert [found.starts[at].at_us for at in (2, 3)] == [NOW, NOW]


def test_an_archive_goes_first_where_it_frees_a_segment() -> None:
    """Six are active; a create starts at once because the archive behind it is submitted before it, urgent or not."""
    crowded = attrs.evolve(SMALL, expiry_day_s=10_000)
    state = state_of(crowded, *((900, reserved(f"old {number}", Cost(0, 0, 1))) for number in range(6)))
    lines = [line(10, "new", op="create", segments=1, priority=1), line(0, "old 3", op="archive")]
    found = best_order(state, lines, NOW)
    assert found.positions == (1, 0)
    assert moments(found) == [NOW, NOW]
    assert best_order(state, lines[:1], NOW).starts[0].at_us != NOW


def test_an_archive_of_a_segment_that_is_still_to_be_made_waits_for_it() -> None:
    """It stays behind the create of its own segment."""
    lines = [line(10, "new", op="create", segments=1), line(0, "new", op="archive")]
    assert best_order(state_of(SMALL), lines, NOW).positions == (0, 1)


def test_an_archive_comes_right_behind_what_it_waits_for() -> None:
    """Three segments pass through the one place that is free: each is archived before the next is made."""
    limits = attrs.evolve(SMALL, active_segments=1)
    names = ["one", "two", "three"]
    lives = {"one": 10**8, "two": 10**8 + 1, "three": 10**8 + 2}
    lines = [
        *(line(10, name, op="create", segments=1, life_s=lives[name]) for name in names),
        *(line(0, name, op="archive") for name in names),
    ]
    assert moments(best_order(state_of(limits), lines, NOW, tries=0)) == [NOW] * 6


# Who is there already


def test_those_in_line_are_ahead_and_ours_among_them_can_be_planned_anew() -> None:
    """A claim keeps its place, unless it belongs to one of the lines."""
    claim = Claimed("waits", 1, 100, 0, 3_600 * SECOND, "", ("a",), True, None, SECOND, "us")  # noqa: FBT003
    state = state_of(PUNCTUAL, (0, claim))
    assert moments(best_order(state, [line(50, "b")], NOW)) == [NOW + 300 * SECOND]
    both = [line(100, "a"), line(50, "b")]
    assert sorted(moments(best_order(state, both, NOW, without={"waits"}))) == [NOW, NOW + 300 * SECOND]


def test_who_waits_for_a_busy_segment_is_in_nobodys_way() -> None:
    """It comes into line when its segment is free, as for a forecast."""
    claim = Claimed("waits", 1, 100, 0, 3_600 * SECOND, "", ("vip",), True, None, SECOND, "them")  # noqa: FBT003
    state = state_of(SMALL, (10, reserved("vip", Cost(1, 1))), (0, claim))
    assert moments(best_order(state, [line(50, "b")], NOW)) == [NOW]


def test_an_arrival_during_a_run_keeps_what_was_planned() -> None:
    """Planned anew in the planned order, a small arrival fits in and the last start stays."""
    lines = numbered((number * 37) % 71 + 5 for number in range(40))
    first = best_order(state_of(PUNCTUAL), lines, NOW)
    again = best_order(state_of(PUNCTUAL), [*(lines[at] for at in first.positions), line(1, "arrival")], NOW, tries=2)
    assert again.last_us is not None
    assert first.last_us is not None
    assert again.last_us <= first.last_us + 60 * SECOND


# How good a plan is


@pytest.mark.parametrize(
    ("sizes", "most_h"),
    [
        ([700_000] * 6 + [1_300_000] * 6, 5 * 24),
        ([500_000, 1_500_000] * 5, 4 * 24),
        ([1_000_001] * 5, 4 * 24),
        ([400_000] * 5 + [600_000, 700_000, 700_000], 24),
        ([100] * 150, 28),
    ],
)
def test_days_are_filled(sizes: list[int], most_h: float) -> None:
    """The last start is where the lower bound has it."""
    assert last_h(best_order(state_of(FULL), numbered(sizes), NOW)) <= most_h


def test_large_ones_are_packed_as_if_each_counted_no_longer_than_it_does() -> None:
    """Four days and not five: submitted in the order of their starts, nobody has to pass anybody who waits."""
    chance = random.Random(8)
    sizes = [chance.randint(400_000, 1_100_000) for _ in range(12)]
    for some, days in ((sizes, 3), ([100] * 30 + [1_900_000] * 2, 1)):
        found = best_order(state_of(FULL), numbered(some), NOW)
        assert last_h(found) == days * 24
        starts = [found.starts[at].at_us or 0 for at in found.positions]
        assert starts == sorted(starts)


# Bad input


@pytest.mark.parametrize("priority", [True, float("nan"), float("inf"), 10**400, "high", "1", None, [1], 1j])
def test_a_priority_that_is_no_number_is_refused(priority: object) -> None:
    """By name, with what a priority looks like."""
    with pytest.raises(InputError, match=r"priority: must be a number such as 0, 1 or -2.5, not"):
        line(1, "s", priority=priority)


@pytest.mark.parametrize("op", ["replace", "add", "remove", "archive", "create"])
def test_a_create_behind_another_operation_on_its_segment_is_refused(op: str) -> None:
    """No order can be right, and the message names both operations."""
    lines = [line(1, "other"), line(1, "vip", op=op), line(1, "vip", op="create", segments=1)]
    with pytest.raises(InputError, match=rf"op: operation 3 creates a segment that operation 2 \({op}\) is on already"):
        best_order(state_of(FULL), lines, NOW)


def test_an_operation_larger_than_a_day_is_refused_with_what_helps() -> None:
    """It never fits: it has to be split before it is planned."""
    with pytest.raises(QuotaNeverFits, match=r"2,000,001 asked for and 2,000,000 is all .* split the file"):
        best_order(state_of(FULL), [line(2_000_001, "s")], NOW)


def test_an_operation_that_never_starts_leaves_the_others_their_starts() -> None:
    """Where all segments are taken for ever, a create has no start and says which limit binds it."""
    full = attrs.evolve(SMALL, active_segments=1)
    lines = [line(1, f"s{number}", op="create", segments=1) for number in range(2)] + [line(5, "other")]
    found = best_order(state_of(full), lines, NOW)
    assert [start.at_us for start in found.starts] == [NOW, None, NOW]
    assert found.starts[1].limit == "active_segments"
    assert found.last_us is None


def test_each_of_two_segments_made_alike_is_freed_by_its_archive() -> None:
    """Both were made in one moment with one life: that they end together does not make them one."""
    state = state_of(attrs.evolve(CROWDED, operations_per_hour=100, operations_per_day=100))
    lines = [
        *(line(1, name, op="create", segments=1, life_s=10**8) for name in ("one", "two")),
        *(line(0, name, op="archive") for name in ("one", "two")),
        *(line(1, name, op="create", segments=1, life_s=10**8) for name in ("three", "four")),
    ]
    assert [start.at_us for start in forecast(state, [one.demand for one in lines], NOW)][4:] == [NOW, NOW]
