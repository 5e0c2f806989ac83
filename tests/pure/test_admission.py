"""Who may leave, who waits for what and until when, in figures: short windows without a guard."""

from __future__ import annotations

import random
from typing import Any, Final

import attrs
import pytest

from moe_segments.core.events import (
    ActiveObserved,
    Answered,
    Batch,
    CallbackReceived,
    Claimed,
    KeyRejected,
    NeverSent,
    Reserved,
    Throttled,
    Unclaimed,
    Unknown,
)
from moe_segments.core.quota.decision import Cost, Granted, Never, Unit, Wait
from moe_segments.core.quota.forecast import Demand, Schedule, Start, starts
from moe_segments.core.state.admission import admit, forecast, readmit, schedule_of
from moe_segments.core.state.verdicts import (
    NOT_NOW,
    Admitted,
    Ask,
    Busy,
    Deferred,
    KeyBad,
    Known,
    NameUsed,
    TooLarge,
    cost_of,
    verdict_of,
)
from moe_segments.core.state.waiting_line import Ahead, Outlook, Step, Waiting, is_in_time
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    CreateFilterSegment,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
    UpdateFilterSegment,
)
from tests.lines import ALLOWANCE, DAY, EVER, HOUR, LATE, LIFE, LIMITS, MINUTE, Line, S, ask

# What is asked


FILE: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string", "file_url": "https://h/f.csv"}
UNCOUNTED: Final = {
    "remove_counts_operation": False,
    "remove_counts_users": False,
    "replace_counts_operation": False,
    "replace_counts_users": False,
}
COUNTED: Final = dict.fromkeys(UNCOUNTED, True)


@pytest.mark.parametrize(
    ("operation", "counted", "uncounted"),
    [
        (CreateFileSegment(name="s", rows=7, expiry_time=2, **FILE), Cost(1, 7, 1), Cost(1, 7, 1)),
        (CreateFileSegment(name="s", expiry_time=2, **FILE), Cost(1, 0, 1), Cost(1, 0, 1)),
        (AddUsers(name="s", rows=7, **FILE), Cost(1, 7), Cost(1, 7)),
        (AddUsers(name="s", **FILE), Cost(1), Cost(1)),
        (RemoveUsers(name="s", rows=7, **FILE), Cost(1, 7), Cost()),
        (RemoveUsers(name="s", **FILE), Cost(1), Cost()),
        (ReplaceUsers(name="s", rows=7, **FILE), Cost(1, 7), Cost()),
        (ReplaceUsers(name="s", **FILE), Cost(1), Cost()),
        (ArchiveSegment(name="s"), Cost(), Cost()),
        (CreateFilterSegment(name="s", included_filters=()), *(Cost(0, 0, 1, "create_filter"),) * 2),
        (UnarchiveSegment(name="s"), Cost(0, 0, 1), Cost(0, 0, 1)),
        (UpdateFilterSegment(cs_id="7", included_filters=()), Cost(), Cost()),
    ],
)
def test_each_kind_of_operation_costs_what_its_limits_count(operation: Any, counted: Cost, uncounted: Cost) -> None:
    assert cost_of(operation, attrs.evolve(LIMITS, **COUNTED)) == counted  # type: ignore[arg-type]
    assert cost_of(operation, attrs.evolve(LIMITS, **UNCOUNTED)) == uncounted  # type: ignore[arg-type]


def test_a_demand_is_what_was_asked_under_every_name_that_is_known() -> None:
    line = Line()
    line.tell(1, Reserved("old", 1, {"op": "add", "name": "s"}, 1, 0, 0, ("s",), 3 * S, 7 * S))
    line.tell(2, Answered("old", 1, 202, accepted={"cs_id": "7"}))
    demand = ask("j", Cost(1, 2, 1), keys=("s",), expiry_days=2).demand(line.state)
    assert demand == Demand(Cost(1, 2, 1), ("s", "id:7"), awaits_callback=True, life_us=LIFE * S, attempt_us=10 * S)
    assert ask("j", token_sha256=None).demand(line.state) == Demand(
        Cost(1, 10), ("s-j",), awaits_callback=False, attempt_us=10 * S
    )
    for fields, archived in (({"name": "s"}, ("s", None)), ({"cs_id": "7"}, ("", "7")), ({"cs_id": 7}, ("", None))):
        archive = ask("j", operation={"op": "archive", **fields})
        assert archive.demand(line.state).archives == archived


@pytest.mark.parametrize(
    ("start_us", "patience_us", "is_it"),
    [
        (150, 50, True),
        (151, 50, False),
        (100, 0, False),
        (100, 1, True),
        (None, 50, False),
        (90, 5, True),
        (90, -1, False),
    ],
)
def test_a_start_is_in_time_within_the_wait_that_is_allowed(
    start_us: int | None, patience_us: int, *, is_it: bool
) -> None:
    assert is_in_time(start_us, 100, patience_us) is is_it


def test_the_verdict_on_a_start_is_its_limit_or_the_job_ahead() -> None:
    assert verdict_of(Start(9, "l", 3, 1, 4)) == Deferred(Wait(9, "l", 3, 1, 4), 9)
    assert verdict_of(Start(9, "l", 3, 1, 4, behind="j")) == Deferred(Wait(9, "l", 3, 1, 4), 9)
    assert verdict_of(Start(9, behind="j")) == Busy("j", 9)
    assert verdict_of(Start(9)) == Deferred(Wait(9, "", 0, 0, 0), 9)


# Who may leave


def test_whoever_is_admitted_is_reserved_as_asked() -> None:
    """Another send of the job is the next one, and says whether an earlier one may have worked."""
    line = Line()
    first = ask("j", Cost(1, 10, 1), expiry_days=2, owner="me", key_fingerprint="k")
    (verdict,) = line.said(1, first)
    assert isinstance(verdict, Admitted)
    expected = Reserved("j", 1, first.operation, 1, 10, 1, ("s-j",), 3 * S, 7 * S, "token j", 2, "me")
    assert verdict.event == expected
    line.tell(1, verdict.event)
    line.tell(2, Unknown("j", 1, "lost"))
    assert line.said(3, first) == [Known()]
    (verdict,) = line.said(3, attrs.evolve(first, retry_unknown=True))
    assert isinstance(verdict, Admitted)
    assert (verdict.event.attempt, verdict.event.duplicate_possible) == (2, True)
    line.tell(3, Reserved("k", 1, {"op": "list"}, 0, 0, 0, (), 3 * S, 7 * S, call="list"))
    line.tell(3, Reserved("m", 1, {"op": "add", "name": "m"}, 0, 0, 0, ("m",), 3 * S, 7 * S))
    line.tell(4, NeverSent("m", 1, "no connection"))
    (verdict,) = line.said(5, ask("m"))
    assert isinstance(verdict, Admitted)
    assert (verdict.event.attempt, verdict.event.duplicate_possible) == (2, False)
    (verdict,) = line.said(5, ask("l", Cost(call="list"), keys=(), operation={"op": "list"}))
    assert isinstance(verdict, Admitted)
    assert verdict.event.call == "list"


def test_what_bars_a_request_is_told_before_its_quota() -> None:
    """A rejected key, a job that was sent, a name that is used up, a segment that is busy, in this order."""
    line = Line()
    line.tell(1, Reserved("busy", 1, {"op": "add", "name": "s"}, 1, 0, 0, ("s",), 3 * S, 7 * S))
    create = {"op": "create", "name": "used"}
    line.tell(1, Reserved("made", 1, create, 1, 0, 1, ("used",), 3 * S, 7 * S))
    line.tell(2, Answered("made", 1, 202, accepted={"cs_id": 7}), KeyRejected("bad", 403))
    too_large = Cost(4, 10)
    assert line.said(
        3,
        ask("busy", too_large, key_fingerprint="bad"),
        ask("busy", too_large, operation=create, keys=("s",)),
        ask("j", too_large, operation=create, keys=("s",)),
        ask("j", too_large, operation={**create, "op": "add"}, keys=("s",)),
        ask("j", too_large, operation=create, keys=("t",), key_fingerprint="good"),
        ask("k", too_large),
    ) == [
        KeyBad(403),
        Known(),
        NameUsed("made", "7"),
        Busy("busy", (1 + 10 + LATE) * S, in_line=False),
        NameUsed("made", "7"),
        TooLarge(Never("operations_per_hour", 4, 3)),
    ]
    assert line.decided(3, ask("j", keys=("s",))).wake_us == (1 + 10 + LATE) * S
    assert line.said(31, ask("j", keys=("s",)))[0] != Busy("busy", 31 * S, in_line=False)


def test_who_has_to_wait_is_told_the_limit_and_until_when() -> None:
    """The first in line who waits; behind it whoever delays nobody leaves, and whoever would does not."""
    line = Line()
    line.spent(1, "a", rows=60)
    line.spent(2, "b")
    heavy, light, other, call = ask("h", Cost(1, 50)), ask("l", Cost(1)), ask("o", Cost(1)), ask("c", Cost(call="list"))
    step = line.decided(3, heavy, light, other, call, patience_us={0: EVER, 1: EVER, 2: EVER})
    users = Wait((1 + ALLOWANCE + DAY) * S, "users_per_day", 60, 50, 100)
    assert step.verdicts[0] == Deferred(users, users.until_us)
    assert isinstance(step.verdicts[1], Admitted)
    assert step.verdicts[2] == Deferred(Wait((1 + HOUR) * S, "operations_per_hour", 3, 1, 3), (1 + HOUR) * S)
    assert isinstance(step.verdicts[3], Admitted)
    assert (step.is_done, step.claimed) == (True, [])
    assert [event.job for event in step.events] == ["l", "c"]


def test_without_patience_nobody_is_told_when() -> None:
    line = Line()
    line.spent(1, "a", "b", "c")
    step = line.decided(3, ask("j"), ask("k", Cost(1, 101)))
    assert step.verdicts == {0: NOT_NOW, 1: TooLarge(Never("users_per_day", 101, 100))}
    assert (step.wake_us, step.is_done, step.events, step.claimed) == ((1 + HOUR) * S, True, [], [])
    assert line.decided(3, ask("j"), fresh_from=1).verdicts == {}


@pytest.mark.parametrize(("patience_s", "waits"), [(98, True), (97.999_999, False), (0, False)])
def test_who_would_wait_long_enough_is_claimed_as_asked(patience_s: float, *, waits: bool) -> None:
    line = Line()
    line.spent(1, "a", "b", "c")
    one = ask("j", Cost(1, 20, 1), expiry_days=2)
    step = line.decided(3, one, patience_us={0: round(patience_s * S)}, for_us=9 * S, waiter="me")
    claim = Claimed(
        "j", 1, 20, 1, 9 * S, "", ("s-j",), awaits_callback=True, expiry_days=2, attempt_us=10 * S, waiter="me"
    )
    assert (step.events, step.claimed) == (([claim], [0]) if waits else ([], []))
    assert line.decided(3, one, for_us=9 * S, waiter="me").events == [claim]
    assert line.decided(3, one, for_us=9 * S).events == []


def test_claims_and_grants_are_in_the_order_of_the_line() -> None:
    line = Line()
    line.spent(1, "a", rows=60)
    line.tell(2, Claimed("c", 1, 0, 0, EVER, waiter="me", keys=("s-c",)))
    asks = ask("h", Cost(1, 50)), ask("c", Cost(1)), ask("l", Cost(1)), ask("i", Cost(1, 50))
    step = line.decided(3, *asks, for_us=9 * S, waiter="me")
    assert [(type(event), event.job) for event in step.events] == [
        (Reserved, "c"),
        (Claimed, "h"),
        (Reserved, "l"),
        (Claimed, "i"),
    ]
    assert step.claimed == [0, 3]


def test_the_claims_of_others_come_first_and_their_lapse_wakes() -> None:
    line = Line()
    line.spent(1, "a", "b")
    line.tell(2, Claimed("theirs", 1, 0, 0, 30 * S, waiter="other", keys=("t",)))
    (verdict,) = line.said(3, ask("j", Cost(1)), patience_us={0: EVER})
    assert verdict == Deferred(Wait((1 + HOUR) * S, "operations_per_hour", 3, 1, 3), (1 + HOUR) * S)
    assert line.decided(3, ask("j", Cost(1))).wake_us == 32 * S
    (verdict,) = line.said(32, ask("j", Cost(1)))
    assert isinstance(verdict, Admitted)


def test_a_claim_for_a_segment_that_is_busy_is_in_nobodys_way() -> None:
    line = Line()
    line.spent(1, "a")
    line.tell(1, Reserved("b", 1, {"op": "add", "name": "t"}, 1, 0, 0, ("t",), 3 * S, 7 * S))
    line.tell(2, Claimed("theirs", 1, 0, 0, EVER, waiter="other", keys=("t",)))
    (verdict,) = line.said(3, ask("j", Cost(1)))
    assert isinstance(verdict, Admitted)
    assert line.starts(3, Demand(Cost(1))) == [3]


def test_two_of_one_segment_leave_one_after_the_other() -> None:
    line = Line()
    first, second = ask("j", Cost(1)), ask("k", Cost(1), keys=("s-j",))
    verdicts = line.said(1, first, second)
    assert isinstance(verdicts[0], Admitted)
    assert verdicts[1] == Busy("j", (1 + 10 + LATE + ALLOWANCE) * S, in_line=False)
    line.spent(1, "a", "b", "c")
    verdicts = line.said(2, first, second, patience_us={0: EVER, 1: EVER})
    assert isinstance(verdicts[0], Deferred)
    assert verdicts[1] == Deferred(attrs.evolve(verdicts[0].wait), (1 + HOUR) * S)


def test_what_fitted_before_is_admitted_whoever_is_ahead_if_it_still_fits() -> None:
    line = Line()
    line.spent(1, "a")
    line.tell(2, Claimed("theirs", 2, 0, 0, EVER, waiter="other"))
    admitted = readmit(line.state, [ask("j"), ask("k", keys=("s-j",)), ask("l"), ask("m")], 3 * S)
    assert {position: verdict.event.job for position, verdict in admitted.items()} == {0: "j", 2: "l"}


def test_a_step_behind_grants_that_were_made_again_keeps_its_own() -> None:
    line = Line()
    line.spent(1, "a", "b")
    step = line.decided(2, ask("j"), ask("k"), for_us=S, waiter="me")
    again = readmit(line.state, [ask("x")], 2 * S)
    both = step.behind(3, again)
    assert both.verdicts == {0: again[0], 3: step.verdicts[0], 4: step.verdicts[1]}
    assert both.events == [again[0].event, *step.events]
    assert (both.claimed, both.wake_us, both.is_done) == ([4], step.wake_us, True)
    assert step.behind(0, {}) is step


def test_an_outlook_that_knows_nothing_has_to_look() -> None:
    outlook = Outlook()
    assert outlook.wakes(0, 0)
    outlook.revision = 5
    assert not outlook.wakes(5, 100)
    outlook.wake_us = 100
    assert [outlook.wakes(5, at_us) for at_us in (99, 100, 101)] == [False, True, True]
    assert outlook.wakes(6, 99)
    outlook = Outlook(5, schedule=Schedule(WorkspaceState(LIMITS).ledger, 0))
    outlook.forget()
    assert outlook.schedule is None
    assert outlook.wakes(5, 99)


# When it starts


def test_operations_are_placed_in_order_and_those_behind_fill_the_gaps() -> None:
    line = Line()
    line.spent(1, "a", "b", rows=30)
    rows, one = Demand(Cost(1, 50)), Demand(Cost(1, 30))
    end = 1 + ALLOWANCE + DAY
    assert line.starts(2, rows, one, one, Demand(Cost(1))) == [end, 2, 2 + DAY, 1 + HOUR]
    assert line.starts(2, Demand(Cost(1, 101)), Demand(Cost(4)), Demand(Cost(1, 40))) == [None, None, 2]


def test_a_start_has_the_figures_of_the_limit_that_binds_it() -> None:
    line = Line()
    line.spent(1, "a", "b", "c", rows=20)
    found = forecast(line.state, [Demand(Cost(1)), Demand(Cost(1, 50)), Demand(Cost(0, 101))], 2 * S)
    assert found == [
        Start((1 + HOUR) * S, "operations_per_hour", 3, 1, 3),
        Start((1 + ALLOWANCE + DAY) * S, "users_per_day", 60, 50, 100),
        Start(None, "users_per_day", 60, 101, 100),
    ]


def test_a_placed_operation_counts_as_if_it_ended_where_it_starts() -> None:
    """Its users until the allowance after that where no callback comes."""
    line = Line()
    for awaits, end in ((True, DAY), (False, ALLOWANCE + DAY)):
        demands = [Demand(Cost(1, 60), awaits_callback=awaits), Demand(Cost(1, 60))]
        assert line.starts(2, *demands) == [2, 2 + end]
    assert line.starts(2, *(Demand(Cost(1)),) * 7) == [2, 2, 2, 2 + HOUR, 2 + HOUR, 2 + HOUR, 2 + DAY]
    assert line.starts(2, *(Demand(Cost(call="list")),) * 3) == [2, 2, 2 + MINUTE]


def test_segments_count_for_their_life_and_an_archive_frees_one() -> None:
    line = Line()
    ever, two_days = Demand(Cost(0, 0, 1)), Demand(Cost(0, 0, 1), ("made",), life_us=LIFE * S)
    archive = Demand(Cost(), ("made",), archives=("made", None))
    assert line.starts(2, ever, ever, two_days, two_days, ever) == [2, 2, 2, 2, 2 + LIFE]
    assert line.starts(2, *(ever,) * 5) == [2, 2, 2, 2, None]
    assert line.starts(2, ever, ever, ever, two_days, archive, ever) == [2, 2, 2, 2, 2, 2]
    for number in range(4):
        create = {"op": "create", "name": f"n{number}"}
        line.tell(3, Reserved(f"n{number}", 1, create, 0, 0, 1, (), 3 * S, 7 * S, expiry_days=2))
    assert line.starts(4, ever) == [4 + LIFE]  # in flight, made now at the latest as far as is expected
    known = Demand(Cost(), ("n1",), archives=("n1", None))
    assert line.starts(4, ever, known) == [4, 4]
    line.tell(5, *(Answered(f"n{number}", 1, 202, accepted={}) for number in range(4)))
    assert line.starts(6, ever) == [5 + LIFE]
    assert line.starts(6, *(ever,) * 5) == [5 + LIFE] * 4 + [None]


def test_operations_on_one_segment_start_no_earlier_than_the_one_before() -> None:
    line = Line()
    line.spent(1, "a", "b", "c")
    schedule = Schedule(line.state.ledger, 2 * S)
    first = schedule.place(Demand(Cost(1), ("s", "id:7")), "j")
    second = schedule.place(Demand(Cost(), ("id:7",)), "k")
    assert first.at_us == (1 + HOUR) * S
    assert second == attrs.evolve(first, behind="j")
    assert schedule.before(("x", "s")) == ("j", first)
    assert schedule.before(("id:7",)) == ("k", second)
    assert schedule.before(("x",)) is None
    never = schedule.place(Demand(Cost(4), ("n",)), "never")
    assert (never.at_us, schedule.place(Demand(Cost(), ("n",)), "l")) == (None, attrs.evolve(never, behind="never"))
    later = schedule.place(Demand(Cost(3), ("s",)), "m")
    assert (later.at_us, later.behind) == ((1 + DAY) * S, None)
    assert schedule.find(Demand(Cost(), ("s", "n"))).behind == "l"


def test_a_schedule_moves_on_with_time_and_a_copy_goes_its_own_way() -> None:
    line = Line()
    schedule = Schedule(line.state.ledger, 2 * S)
    schedule.place(Demand(Cost(2)))
    other = schedule.copied()
    assert other.place(Demand(Cost(2))).at_us == (2 + HOUR) * S
    assert schedule.find(Demand(Cost(1))).at_us == 2 * S
    schedule.move_on(5 * S)
    schedule.move_on(4 * S)
    assert schedule.find(Demand(Cost(1))).at_us == 5 * S
    assert dict(schedule.usage())["operations_per_hour"].level_before(3 * S) == 2
    assert set(dict(schedule.usage())) == {"operations_per_hour", "operations_per_day"}


def test_who_passes_is_held_where_it_could_delay_somebody_ahead() -> None:
    """As if nothing were heard of it, nor of those who passed before, for as long as can be."""
    line = Line()
    line.spent(1, "a")
    schedule = Schedule(line.state.ledger, 50 * S)
    quick = Demand(Cost(1), attempt_us=10 * S)
    assert schedule.place(Demand(Cost(3))).at_us == (1 + HOUR) * S
    assert schedule.find(quick).at_us == (1 + HOUR + HOUR) * S
    schedule = Schedule(line.state.ledger, 2 * S)
    schedule.take(Demand(Cost(2)), Start((2 + HOUR + 5) * S))
    assert schedule.find(quick).at_us == 2 * S
    assert schedule.held(quick) is None
    schedule.take(quick, Start(2 * S))
    schedule.passed(quick)
    held = schedule.held(quick)
    assert held is not None
    assert (held.limit, held.requested, held.capacity) == ("operations_per_hour", 1, 3)


def test_what_costs_nothing_leaves_while_limits_are_closed() -> None:
    """An archive waits for no quota, alone or behind somebody who does."""
    line = Line()
    line.tell(2, Throttled("operations_per_hour", 40 * S), Throttled("users_per_day", 40 * S))
    assert isinstance(line.said(3, ask("a", Cost()))[0], Admitted)
    waits, leaves = line.said(3, ask("w"), ask("a", Cost()))
    assert (isinstance(waits, Deferred), isinstance(leaves, Admitted)) == (True, True)


def test_archives_are_placed_before_those_whom_they_make_room_for() -> None:
    line = Line()
    for number in range(4):
        create = {"op": "create", "name": f"n{number}"}
        line.tell(1, Reserved(f"n{number}", 1, create, 0, 0, 1, (), 3 * S, 7 * S))
        line.tell(1, Answered(f"n{number}", 1, 202, accepted={}))
    schedule = Schedule(line.state.ledger, 2 * S)
    archive = Demand(Cost(), ("n0",), archives=("n0", None))
    found = list(starts(schedule, [Demand(Cost(0, 0, 1)), archive, Demand(Cost(0, 0, 1)), archive]))
    assert [start.at_us for start in found] == [2 * S, 2 * S, None, 2 * S]


def test_a_limit_that_is_closed_takes_nobody_until_it_opens() -> None:
    """By a 429 about the active segments as about a window. A limit that is open begins with what is counted."""
    line = Line()
    line.spent(1, "a")
    one, segment = Demand(Cost(1)), Demand(Cost(0, 0, 1))
    schedule = Schedule(line.state.ledger, 2 * S)
    assert [schedule.place(demand).at_us for demand in (one, segment)] == [2 * S, 2 * S]
    levels = {limit: next(iter(profile.steps())) for limit, profile in schedule.usage()}
    assert levels == {
        "operations_per_hour": (2 * S, 2),
        "operations_per_day": (2 * S, 2),
        "active_segments": (2 * S, 1),
    }
    line.tell(2, Throttled("operations_per_hour", 40 * S), Throttled("active_segments", 30 * S))
    assert line.starts(3, one, segment) == [40, 30]
    assert line.starts(40, one, segment) == [40, 40]
    found = forecast(line.state, [one, segment], 3 * S)
    assert found == [
        Start(40 * S, "operations_per_hour", 1, 1, 3),
        Start(30 * S, "active_segments", 0, 1, 4),
    ]


def test_the_later_of_two_that_wait_for_a_segment_is_the_one_to_wait_for() -> None:
    line = Line()
    for keys in (("s", "t"), ("t", "s")):
        schedule = Schedule(line.state.ledger, 2 * S)
        schedule.take(Demand(Cost(), ("s",)), Start(50 * S), "early")
        schedule.take(Demand(Cost(), ("t",)), Start(60 * S), "late")
        found = schedule.find(Demand(Cost(), keys))
        assert (found.at_us, found.behind) == (60 * S, "late")


@pytest.mark.parametrize(
    ("unit", "first", "quick", "passer"),
    [
        ("operations_per_hour", Cost(1), Cost(1), Cost(1)),
        ("users_per_day", Cost(0, 30), Cost(0, 30), Cost(0, 40)),
        ("list_per_minute", Cost(call="list"), Cost(call="list"), Cost(call="create_filter")),
    ],
)
def test_those_who_passed_before_are_taken_to_end_as_late_as_can_be(
    unit: str, first: Cost, quick: Cost, passer: Cost
) -> None:
    """Rows in flight that passed somebody count beside whoever would pass next; those that ended do not."""
    capacity = {"list_per_minute": 2, "users_per_day": 100}.get(unit, 3)
    span = {"list_per_minute": MINUTE, "users_per_day": DAY}.get(unit, HOUR)
    one = Demand(quick, attempt_us=10 * S)
    line = Line()
    for passers, ends, is_held in (((), False, False), (("p",), False, True), (("p", "gone"), True, False)):
        line = Line()
        operation = {"op": "add", "name": "p"}
        spends = (passer.operations, passer.rows, 0)
        row = Reserved("p", 1, operation, *spends, (), 3 * S, 7 * S, token_sha256="t" * 64, call=passer.call)
        line.tell(1, row)
        if ends:
            line.tell(1.5, NeverSent("p", 1, "no connection"))
        schedule = Schedule(line.state.ledger, 2 * S, passers)
        amount = first if unit != "operations_per_hour" else Cost(2)
        if unit == "users_per_day":
            amount = Cost(0, 70)
        schedule.take(Demand(amount), Start((2 + span + 5) * S))
        held = schedule.held(one)
        assert (held is not None) is is_held
        if held is not None:
            assert (held.limit, held.capacity) == (unit, capacity)
    schedule = Schedule(line.state.ledger, 2 * S)
    schedule.passed(one)
    schedule.take(Demand(first if unit != "users_per_day" else Cost(0, 41)), Start((2 + span + 5) * S))
    assert (schedule.held(one) is not None) is (unit != "operations_per_hour")


def test_newcomers_for_whom_there_is_no_room_are_told_without_a_look_at_the_others() -> None:
    line, outlook = Line(), Outlook()
    line.spent(1, "a", "b", "c")
    first, second, third = ask("j"), ask("k"), ask("l", Cost(4))
    options: dict[str, Any] = {"outlook": outlook, "for_us": EVER, "waiter": "me"}
    step = admit(line.state, [first], 2 * S, **options)
    assert step.claimed == [0]
    line.tell(2, *step.events)
    outlook.revision = line.state.revision
    step = admit(line.state, [first, second, third], 3 * S, fresh_from=1, **options)
    assert step.verdicts == {1: NOT_NOW, 2: TooLarge(Never("operations_per_hour", 4, 3))}
    assert ([event.job for event in step.events], step.claimed) == (["k"], [1])
    assert step.wake_us == (1 + HOUR) * S
    line.tell(3, *step.events)
    outlook.revision = line.state.revision
    fourth = ask("m", Cost(call="list"))
    step = admit(line.state, [first, second, fourth], 4 * S, fresh_from=2, **options)
    assert [event.job for event in step.events] == ["m"]


def test_what_is_asked_can_stand_in_a_set() -> None:
    """By its values, apart from the operation's, which have no order to be compared in."""
    assert len({ask("j"), ask("j"), ask("k")}) == 2


@pytest.mark.parametrize(("ahead_s", "is_held"), [(HOUR + 29.999_999, True), (HOUR + 30, False)])
def test_one_is_held_for_as_long_as_it_may_count_and_no_longer(ahead_s: float, *, is_held: bool) -> None:
    """Its attempt, then as late as the service may count it, then the window."""
    line = Line()
    schedule = Schedule(line.state.ledger, 2 * S)
    schedule.take(Demand(Cost(3)), Start(round((2 + ahead_s) * S)))
    held = schedule.held(Demand(Cost(1), attempt_us=10 * S))
    assert (held is not None) is is_held
    if held is not None:
        assert held == Start((2 + 2 * HOUR) * S + 29_999_999, "operations_per_hour", 3, 1, 3)


def test_what_bars_one_behind_a_waiter_is_told_all_the_same() -> None:
    line = Line()
    line.spent(1, "a", rows=60)
    line.tell(2, Reserved("sent", 1, {"op": "add", "name": "t"}, 0, 0, 0, ("t",), 3 * S, 7 * S))
    asks = ask("h", Cost(1, 50)), ask("sent", Cost(1)), ask("b", Cost(1), keys=("t",)), ask("l", Cost(1))
    verdicts = line.said(3, *asks)
    assert isinstance(verdicts[0], Deferred)
    assert verdicts[1:3] == [Known(), Busy("sent", (2 + 10 + LATE) * S, in_line=False)]
    assert isinstance(verdicts[3], Admitted)


def test_a_start_is_forecast_anew_when_something_has_changed() -> None:
    """With what the step before knew as without it, although nobody has a claim."""
    line, outlook = Line(), Outlook()
    line.spent(1, "a", "b", "c")
    one, patience = ask("j"), {0: EVER}
    first = admit(line.state, [one], 2 * S, patience_us=patience, outlook=outlook).verdicts[0]
    assert isinstance(first, Deferred)
    assert first.start_us == (1 + HOUR) * S
    line.tell(3, Throttled("operations_per_hour", 150 * S))
    second = admit(line.state, [one], 4 * S, patience_us=patience, outlook=outlook).verdicts[0]
    assert isinstance(second, Deferred)
    assert second.start_us == 150 * S


def test_a_start_that_hangs_on_what_is_in_flight_is_forecast_anew_after_a_minute() -> None:
    """The forecast takes what is in flight to end when it is made; nothing says so when it does not."""
    line, outlook, starts_us = Line(), Outlook(), []
    line.tell(1, *(Reserved(job, 1, {"op": "add", "name": job}, 1, 0, 0, (), 3 * S, 90 * S) for job in "abc"))
    for at in (2, 62, 63, 80):
        step = admit(line.state, [ask("j", Cost(1))], at * S, patience_us={0: EVER}, outlook=outlook)
        verdict = step.verdicts[0]
        assert isinstance(verdict, Deferred)
        starts_us.append(verdict.start_us)
    assert starts_us == [(2 + HOUR) * S, (2 + HOUR) * S, (63 + HOUR) * S, (63 + HOUR) * S]


def test_a_start_tells_what_is_used_now_however_much_of_it_ends_before() -> None:
    line = Line()
    line.spent(1, "a", rows=60)
    line.spent(5, "b", rows=30)
    (start,) = forecast(line.state, [Demand(Cost(1, 80))], 6 * S)
    assert start == Start((5 + ALLOWANCE + DAY) * S, "users_per_day", 90, 80, 100)


def test_who_will_not_wait_so_long_takes_no_place() -> None:
    """Whoever is behind starts as if it were not there; whoever waits long enough is ahead."""
    line = Line()
    line.spent(1, "a", rows=60)
    asks = ask("j", Cost(1, 60)), ask("k", Cost(1, 60))
    freed_us = (1 + ALLOWANCE + DAY) * S
    for patience_us, start_us in ((S, freed_us), (EVER, freed_us), (10**10 * S, freed_us + DAY * S)):
        step = line.decided(2, *asks, patience_us={0: patience_us, 1: 10**10 * S})
        verdicts = step.verdicts
        assert isinstance(verdicts[0], Deferred)
        assert isinstance(verdicts[1], Deferred)
        assert verdicts[0].start_us == freed_us
        if patience_us != EVER:
            assert verdicts[1].start_us == start_us


def test_a_newcomer_s_start_is_behind_all_claims_that_stand_and_are_not_held_up() -> None:
    """One that has lapsed, one whose segment is busy and one that is granted are in nobody's way."""
    line, outlook = Line(), Outlook()
    line.spent(1, "a", "b")
    line.tell(1, Reserved("busy", 1, {"op": "add", "name": "t"}, 1, 0, 0, ("t",), 3 * S, 7 * S))
    line.tell(
        2,
        Claimed("stands", 1, 0, 0, EVER, keys=("u",)),
        Claimed("lapses", 3, 0, 0, 2 * S, keys=("v",)),
        Claimed("held-up", 3, 0, 0, EVER, keys=("t",)),
        Claimed("mine", 1, 0, 0, EVER, keys=("s-mine",), waiter="me"),
    )
    mine, new = ask("mine", Cost(1)), ask("new", Cost(2))
    options: dict[str, Any] = {"outlook": outlook, "waiter": "me", "for_us": EVER}
    step = admit(line.state, [mine], 5 * S, **options)
    assert step.verdicts == {0: NOT_NOW}
    step = admit(line.state, [mine, new], 6 * S, patience_us={0: EVER, 1: EVER}, fresh_from=1, **options)
    verdicts = [step.verdicts[position] for position in (0, 1)]
    starts_us = [verdict.start_us for verdict in verdicts if isinstance(verdict, Deferred)]
    assert starts_us == [(1 + HOUR) * S, (1 + DAY) * S]
    for is_done in (False, True):  # who has a place already is looked for among all in line
        step = admit(line.state, [mine, new], 7 * S, patience_us={0: EVER, 1: EVER}, fresh_from=2, **options)
        assert step.is_done is is_done
    verdicts = [step.verdicts[position] for position in (0, 1)]
    assert [verdict.start_us for verdict in verdicts if isinstance(verdict, Deferred)] == starts_us


def test_a_start_is_the_same_for_a_governor_that_knows_nothing_of_the_line() -> None:
    """A claim whose segment is busy keeps no place, whether its line is looked through or remembered."""
    line = Line()
    line.spent(1, "a", "b")
    line.tell(1, Reserved("busy", 1, {"op": "add", "name": "t"}, 1, 0, 0, ("t",), 3 * S, 7 * S))
    line.tell(2, Claimed("held-up", 3, 0, 0, EVER, keys=("t",)))
    starts_us = []
    for knows in (False, True):
        outlook = Outlook()
        if knows:
            admit(line.state, [], 5 * S, outlook=outlook, waiter="me", for_us=EVER)
        step = admit(line.state, [ask("new", Cost(2))], 6 * S, patience_us={0: EVER}, outlook=outlook)
        verdict = step.verdicts[0]
        assert isinstance(verdict, Deferred)
        starts_us.append(verdict.start_us)
    assert starts_us == [(1 + HOUR) * S] * 2


@pytest.mark.parametrize("patience_us", [0, S, EVER])
def test_what_is_not_in_line_is_not_forecast(patience_us: int) -> None:
    line = Line()
    line.spent(1, "a", "b", "c")
    line.tell(2, Reserved("sent", 1, {"op": "add", "name": "t"}, 0, 0, 0, ("t",), 3 * S, 7 * S))
    asks = ask("sent"), ask("w", keys=("t",)), ask("large", Cost(4)), ask("j")
    verdicts = line.said(3, *asks, patience_us=dict.fromkeys(range(4), patience_us))
    assert verdicts[:3] == [
        Known(),
        Busy("sent", (2 + 10 + LATE) * S, in_line=False),
        TooLarge(Never("operations_per_hour", 4, 3)),
    ]
    assert isinstance(verdicts[3], Deferred)
    assert verdicts[3].start_us == (1 + HOUR) * S


def test_a_step_grants_a_part_of_very_many_and_says_that_it_is_not_done() -> None:
    """The next ones go on where it stopped, until everybody has left."""
    state = WorkspaceState(attrs.evolve(LIMITS, operations_per_hour=2_000, operations_per_day=2_000))
    asks, outlook, left = [ask(str(number), Cost(1)) for number in range(1_300)], Outlook(), 0
    while asks:
        step = admit(state, asks, 5 * S, outlook=outlook)
        granted = [position for position, verdict in step.verdicts.items() if isinstance(verdict, Admitted)]
        assert 0 < len(granted) <= 512
        assert granted == list(range(len(granted)))
        assert step.is_done is (len(granted) == len(asks))
        state.keep(Batch(state.version + 1, "b", 5 * S, tuple(step.events)))
        left += len(granted)
        asks = asks[len(granted) :]
    assert left == 1_300


def test_a_schedule_has_a_place_for_all_who_wait_but_those_that_are_left_out() -> None:
    line = Line()
    line.spent(1, "a", "b")
    line.tell(2, *(Claimed(job, 1, 0, 0, EVER, keys=(job,)) for job in ("first", "second")))
    for without, start_s in (((), 1 + HOUR), (("first",), 1 + HOUR), (("first", "second"), 3)):
        assert schedule_of(line.state, 3 * S, without).find(Demand(Cost(1))).at_us == start_s * S


def granted_one_by_one(state: WorkspaceState, asks: list[Ask], now_us: int) -> list[str]:
    """Who may leave by the rule itself: everybody has a place, and whoever is placed now and is not held leaves."""
    step, ahead, left = Step(state, asks, now_us, {}, 0, Outlook()), None, []
    for position, asked in enumerate(asks):
        one, fits = Waiting(asked.job, position, asked), isinstance(step.decide(asked.cost), Granted)
        if ahead is None and not fits:
            ahead = Ahead(state, now_us)
        if ahead is not None:
            start = ahead.start_of(one)
            fits = fits and start.at_us == now_us and ahead.held(one) is None
            ahead.take(one, start, is_gone=fits)
        if fits:
            left.append(step.grant(asked).event.job)
    state.take_back()
    return left


@pytest.mark.parametrize("seed", range(40))
def test_whoever_is_not_looked_at_could_not_have_left(seed: int) -> None:
    """A step looks at no more of a line than it has to, and grants what the rule grants."""
    chance = random.Random(seed)
    limits = attrs.evolve(LIMITS, operations_per_hour=200, operations_per_day=chance.choice((30, 300)))
    line = Line(attrs.evolve(limits, users_per_day=1_000, active_segments=12))
    state = line.state
    line.spent(1, *(f"spent {number}" for number in range(5)), rows=chance.choice((0, 20, 60)))
    for number in range(chance.randrange(4)):  # in flight, and some of them before somebody who waited
        line.tell(2, Claimed(f"claim {number}", 1, 900, 0, 30 * S, waiter="other", keys=(f"c{number}",)))
        line.tell(3, Reserved(f"early {number}", 1, {"op": "add", "name": "e"}, 1, 40, 0, (), 3 * S, 7 * S))
    asks = [
        ask(
            str(number),
            Cost(chance.choice((0, 1, 1)), chance.randrange(chance.choice((8, 60, 700))), chance.choice((0, 0, 0, 1))),
            token_sha256=chance.choice((None, "token")),
            timeout_us=chance.choice((7, 30)) * S,
            expiry_days=2,
        )
        for number in range(chance.choice((5, 60, 300)))
    ]
    expected = granted_one_by_one(state, asks, 40 * S)
    step = line.decided(40, *asks)
    assert [event.job for event in step.events] == expected[: len(step.events)]
    assert (len(step.events) == len(expected)) or not step.is_done


@pytest.mark.parametrize("short_is_first", [True, False])
def test_whoever_may_leave_does_whatever_is_known_of_another_kind(*, short_is_first: bool) -> None:
    """A short attempt ends before somebody ahead starts; a long one, before or behind it, might not."""
    line = Line()
    line.spent(1, "a", rows=60)
    ahead, short, long = ask("ahead", Cost(3, 50)), ask("short", Cost(1)), ask("long", Cost(1), timeout_us=27 * S)
    behind = (short, long) if short_is_first else (long, short)
    step = line.decided(1_070, ahead, *behind)
    assert [event.job for event in step.events] == ["short"]


def test_whoever_is_not_looked_at_is_looked_at_when_it_might_leave() -> None:
    """What keeps it is over when those ahead have ended, if it lasts as long as it can."""
    line = Line()
    line.spent(1, "a", rows=60)
    step = line.decided(1_070, ask("ahead", Cost(3, 50)), ask("long", Cost(1), timeout_us=27 * S))
    assert (step.events, step.is_done, step.wake_us) == ([], True, (1_070 + 1_201 - 1_070 - HOUR) * S)


def test_one_without_a_callback_may_leave_where_one_with_a_callback_may_not() -> None:
    """Its users count for longer in any case, and no longer at the latest: what is full until then is not its doing."""
    line = Line(attrs.evolve(LIMITS, operations_per_hour=30, operations_per_day=60))
    line.spent(1, "a", rows=60)
    line.tell(2, Claimed("theirs", 1, 25, 0, EVER, waiter="other", keys=("t",)))
    line.tell(2, Reserved("passes", 1, {"op": "add", "name": "p"}, 1, 20, 0, ("p",), 3 * S, 7 * S, "its token"))
    line.tell(2, Unclaimed("theirs"))
    ahead, without, having = ask("ahead", Cost(1, 25)), ask("w", Cost(1, 10), token_sha256=None), ask("h")
    assert [event.job for event in line.decided(3, ahead, without, having).events] == ["w"]
    assert [event.job for event in line.decided(3, ahead, having, without).events] == ["w"]
    assert line.decided(3, ahead, having).events == []


def test_a_long_line_is_looked_at_as_far_as_somebody_may_leave() -> None:
    """Of a thousand for whom there is room now one may leave before the first; the others wait for the same."""
    line = Line(attrs.evolve(LIMITS, operations_per_hour=10_000, operations_per_day=10_000))
    line.spent(1, "a", rows=60)
    asks = [ask("first", Cost(1, 90)), *(ask(str(number), Cost(1, 8)) for number in range(1_000))]
    step = line.decided(40, *asks)
    assert ([event.job for event in step.events], step.is_done) == (["0"], True)
    assert step.wake_us == (40 + 10 + LATE) * S  # then the one that left has ended, whatever became of it
    assert step.verdicts[1_000] == NOT_NOW
    asked = line.decided(40, *asks, patience_us={5: EVER}).verdicts[5]
    assert asked == Deferred(Wait((1 + ALLOWANCE + 2 * DAY) * S, "users_per_day", 98, 8, 100), 40 * S)


def test_whoever_waits_behind_another_of_its_segment_is_in_line_and_whoever_waits_for_its_end_is_not() -> None:
    """One has a claim like everybody who waits; the other has none: its place is that of when its segment is free."""
    line = Line(attrs.evolve(LIMITS, operations_per_hour=10_000, operations_per_day=10_000))
    line.spent(1, "a", rows=60)
    line.tell(30, Reserved("sent", 1, {"op": "add", "name": "t"}, 0, 0, 0, ("t",), 3 * S, 7 * S))
    asks = [ask("first", Cost(1, 90)), *(ask(job, Cost(1, 8)) for job in ("passes", "held"))]
    asks += [ask("behind", Cost(1), keys=("s-held",)), ask("later", Cost(1), keys=("t",))]
    step = line.decided(40, *asks, for_us=EVER, waiter="me")
    assert step.verdicts[3] == Busy("held", 40 * S, in_line=True)
    assert step.verdicts[4] == Busy("sent", (30 + 10 + LATE) * S, in_line=False)
    assert [asks[position].job for position in step.claimed] == ["first", "held", "behind"]


def test_whoever_never_starts_keeps_nobody_waiting() -> None:
    """Nothing known will free a segment for it; it is told so, and whoever is behind it leaves."""
    line = Line()
    line.tell(1, ActiveObserved(4))
    asks = ask("never", Cost(1, 10, 1)), ask("a", Cost(1, 40)), ask("b", Cost(1, 50))
    step = line.decided(2, *asks)
    assert step.verdicts[0] == Deferred(Wait(None, "active_segments", 4, 1, 4), None)
    assert [event.job for event in step.events] == ["a", "b"]


def test_whoever_passed_and_whose_outcome_is_unknown_counts_once() -> None:
    """Its users are taken to count for as long as can be already, so there is nothing to add for its late end."""
    line = Line()
    line.tell(1, ActiveObserved(4))
    line.tell(1, Claimed("never", 1, 10, 1, EVER, waiter="other", keys=("n",)))
    line.tell(2, Reserved("passes", 1, {"op": "add", "name": "p"}, 1, 60, 0, ("p",), 3 * S, 7 * S))
    line.tell(3, Unknown("passes", 1, "lost"))
    assert [event.job for event in line.decided(4, ask("j", Cost(1, 40))).events] == ["j"]


@pytest.mark.parametrize("life", [None, 50])
def test_an_archive_frees_what_a_segment_made_ahead_of_it_would_count_for(life: int | None) -> None:
    """For ever, where it never expires."""
    line = Line()
    line.tell(1, ActiveObserved(3))
    made = Demand(Cost(1, 0, 1), ("s",), life_us=None if life is None else life * S)
    archive = Demand(Cost(), ("s",), archives=("s", None))
    another = Demand(Cost(1, 0, 1), ("t",))
    assert line.starts(2, made, archive, another) == [2, 2, 2]
    assert line.starts(2, made, another) == [2, None if life is None else 2 + life]


def test_an_archive_of_what_has_expired_frees_nothing() -> None:
    """Its segment waits for the hour, and is over by then: who came first had its place already."""
    line = Line()
    line.tell(1, ActiveObserved(3))
    line.spent(1, "a", "b")
    made, late = Demand(Cost(1, 0, 1), ("s",), life_us=9 * S), Demand(Cost(1), ("s",))
    archive, one = Demand(Cost(), ("s",), archives=("s", None)), Demand(Cost(0, 0, 1), ("t",), life_us=500 * S)
    assert line.starts(2, made, late, archive, one, attrs.evolve(one, keys=("u",))) == [2, 101, 101, 11, 511]


def test_whoever_there_is_no_room_for_is_looked_at_when_there_is() -> None:
    """Also where there is room for a lighter one, which may not pass."""
    line = Line()
    for job, at, rows in (("b", 1, 20), ("a", 50, 60)):
        line.tell(at, Reserved(job, 1, {"op": "add", "name": job}, 1, rows, 0, (), 3 * S, 7 * S, f"token {job}"))
        accepted = Answered(job, 1, 202, accepted={"cs_name": job})
        line.tell(at, accepted, CallbackReceived(job, 1, "digest", "processed", {}, rows))
    step = line.decided(300, ask("first", Cost(0, 90)), ask("heavy", Cost(1, 25)), ask("light", Cost(1, 15)))
    assert (step.events, step.wake_us) == ([], (1 + DAY) * S)


def test_the_spare_of_a_kind_is_what_those_ahead_leave_at_the_worst() -> None:
    """The least of all limits of a unit, less what passed and may end late too, until something ahead changes."""
    line = Line()
    schedule = Schedule(line.state.ledger, 2 * S)
    kind = Demand(Cost(1, 1), attempt_us=10 * S)
    assert schedule.spare(kind) == ({Unit.OPERATION: 3, Unit.USER: 100}, None)
    schedule.take(Demand(Cost(1, 30)), Start((2 + DAY + 5) * S))
    schedule.take(Demand(Cost(1, 10)), Start((2 + DAY + 7) * S))
    assert schedule.spare(kind) == ({Unit.OPERATION: 3, Unit.USER: 60}, 7 * S)
    schedule.passed(Demand(Cost(2, 15)))
    assert schedule.spare(kind) == ({Unit.OPERATION: 1, Unit.USER: 45}, 7 * S)
    schedule.take(Demand(Cost(3)), Start((2 + HOUR + 4) * S))
    assert schedule.spare(kind) == ({Unit.OPERATION: -2, Unit.USER: 45}, 6 * S)
    for passed in range(3):
        assert schedule.spare(Demand(Cost(call="list"))) == ({Unit.CALL: 2 - passed}, None)
        schedule.passed(Demand(Cost(call="list")))
