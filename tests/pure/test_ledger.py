"""What each event makes of the ledger, in figures: short windows without a guard, so that every time is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments.core.events import (
    ActiveObserved,
    Adopted,
    Answered,
    CallbackReceived,
    Event,
    ExternalUsage,
    NeverSent,
    Quarantined,
    Reserved,
    Throttled,
    Trusted,
    Unknown,
)
from moe_segments.core.quota.decision import Cost, Granted, LimitState, Never, Unit, Wait
from moe_segments.core.quota.ledger import Ledger
from moe_segments.core.quota.window import TRIM_AT
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from moe_segments.core.quota.decision import Decision

S: Final = 1_000_000
LATE, ALLOWANCE, HOUR, DAY = 20, 200, 100, 1_000
LEASE: Final = 3 + 7 + LATE  # fence, time-out
LIFE: Final = 2 * 50 + 5  # two days of expiry, and slack
TOKEN: Final = "a" * 64


def ledger(**changes: Any) -> Ledger:
    limits: dict[str, Any] = {
        "operations_per_hour": 3,
        "operations_per_day": 6,
        "users_per_day": 100,
        "active_segments": 10,
        "external_active_margin": 2,
        "minute_s": 10,
        "hour_s": HOUR,
        "day_s": DAY,
        "guard_s": 0,
        "count_late_s": LATE,
        "processing_allowance_s": ALLOWANCE,
        "expiry_day_s": 50,
        "expiry_slack_s": 5,
        "list_per_minute": 2,
        "get_per_minute": 2,
    }
    return Ledger(QuotaLimits(**limits | changes))


def created(job: str = "j", *, rows: int = 10, token: str | None = TOKEN) -> Reserved:
    operation = {"op": "create", "name": job}
    return Reserved(job, 1, operation, 1, rows, 1, (job,), 3 * S, 7 * S, token_sha256=token, expiry_days=2)


def fold(one: Ledger, at: float, *events: Event) -> None:
    for event in events:
        one.fold(event, round(at * S))


def state(one: Ledger, at: float, limit: str) -> LimitState:
    return next(state for state in one.usage(round(at * S)) if state.limit == limit)


def used(one: Ledger, at: float) -> tuple[int, int, int, int]:
    """Operations an hour, a day, users, segments."""
    states = one.usage(round(at * S))
    return states[0].used, states[1].used, states[2].used, states[3].used


def until(decision: Decision) -> float | None:
    assert isinstance(decision, Wait)
    return None if decision.until_us is None else decision.until_us / S


def test_a_row_without_news_counts_from_its_lease() -> None:
    """Its users from the allowance after it, its segment until its life after it."""
    one = ledger()
    fold(one, 0, created())
    assert used(one, 0) == (1, 1, 10, 1)
    assert used(one, LEASE + HOUR - 0.1) == (1, 1, 10, 1)
    assert used(one, LEASE + HOUR) == (0, 1, 10, 1)
    assert used(one, LEASE + LIFE) == (0, 1, 10, 0)
    assert used(one, LEASE + DAY) == (0, 0, 10, 0)
    assert used(one, LEASE + ALLOWANCE + DAY - 0.1) == (0, 0, 10, 0)
    assert used(one, LEASE + ALLOWANCE + DAY) == (0, 0, 0, 0)


def test_an_acceptance_counts_from_its_time_and_users_from_the_callback() -> None:
    one = ledger()
    fold(one, 0, created())
    fold(one, 5, Answered("j", 1, 202, accepted={"cs_id": "1"}))
    assert used(one, 5 + HOUR - 0.1)[:2] == (1, 1)
    assert used(one, 5 + HOUR)[:2] == (0, 1)
    assert state(one, 5, "active_segments").pending == 0
    fold(one, 110, CallbackReceived("j", 1, "d", "processed", {}, values_found=30))
    assert used(one, 110) == (0, 1, 30, 1)
    assert used(one, 110 + LIFE)[3] == 0
    assert used(one, 110 + DAY - 0.1)[2] == 30
    assert used(one, 110 + DAY)[2] == 0
    assert one.rows == {}


@pytest.mark.parametrize(
    ("found", "lowers", "counted"),
    [(None, True, 10), (4, True, 4), (4, False, 10), (10, False, 10), (2**50, True, 2**40)],
)
def test_what_a_callback_found_raises_the_users_and_lowers_them_by_setting(
    found: int | None, counted: int, *, lowers: bool
) -> None:
    one = ledger(callback_lowers_users=lowers)
    fold(one, 0, created())
    fold(one, 5, CallbackReceived("j", 1, "d", "processed", {}, values_found=found))
    assert used(one, 5)[2] == counted


@pytest.mark.parametrize(("op", "counts", "counted"), [("add", False, 30), ("remove", True, 30), ("remove", False, 0)])
def test_users_found_where_none_were_declared_count_if_such_a_file_counts(
    op: str, counted: int, *, counts: bool
) -> None:
    one = ledger(remove_counts_users=counts)
    fold(one, 0, Reserved("j", 1, {"op": op, "name": "s"}, 1, 0, 0, ("s",), 3 * S, 7 * S, token_sha256=TOKEN))
    fold(one, 5, CallbackReceived("j", 1, "d", "processed", {}, values_found=30))
    assert used(one, 5) == (1, 1, counted, 0)


def test_a_callback_before_the_answer_ends_the_operation_too() -> None:
    one = ledger()
    fold(one, 0, created())
    fold(one, 5, CallbackReceived("j", 1, "d", "failed", {}))
    assert used(one, 5 + HOUR)[0] == 0


def test_a_callback_that_cannot_be_read_ends_nothing() -> None:
    one = ledger()
    fold(one, 0, created())
    fold(one, 5, CallbackReceived("j", 1, "d", "unparsed", {}))
    assert used(one, 5 + HOUR)[0] == 1
    assert "j" in one.rows
    fold(one, 5 + HOUR, CallbackReceived("j", 1, "e", "failed", {}))
    assert used(one, 5 + HOUR) == (1, 1, 0, 1)
    assert one.rows == {}


@pytest.mark.parametrize("news", ["callback", "adopted"])
def test_what_was_counted_early_enough_keeps_its_end(news: str) -> None:
    """A doubt ends late after the attempt; what shows that it was processed earlier ends it then, and not later."""
    seen: dict[str, Event] = {
        "callback": CallbackReceived("j", 1, "d", "processed", {}),
        "adopted": Adopted("j", 1, "7"),
    }
    early, late = ledger(), ledger()
    for one, at in ((early, 15), (late, 60)):
        fold(one, 0, created())
        fold(one, 10, Unknown("j", 1, "lost"))
        assert used(one, 10 + LATE + HOUR - 0.1)[0] == 1
        fold(one, at, seen[news])
    assert used(early, 15 + HOUR)[0] == 0
    assert used(late, 10 + LATE + HOUR - 0.1)[0] == 1
    assert used(late, 10 + LATE + HOUR)[0] == 0


def test_an_unknown_row_counts_as_late_as_it_may_have_been_counted() -> None:
    one = ledger()
    fold(one, 0, created())
    fold(one, 10, Unknown("j", 1, "lost"))
    assert used(one, 10 + LATE + LIFE - 0.1)[3] == 1
    assert used(one, 10 + LATE + LIFE)[3] == 0
    assert used(one, 10 + LATE + ALLOWANCE + DAY - 0.1)[2] == 10
    assert used(one, 10 + LATE + ALLOWANCE + DAY)[2] == 0


def test_a_refusal_keeps_the_operation_and_gives_back_the_rest() -> None:
    one = ledger()
    fold(one, 0, created("spends"), created("free"))
    fold(one, 5, Answered("spends", 1, 400, error={"title": "no"}))
    fold(one, 5, Answered("free", 1, 429, error={"title": "no"}, spends=False))
    assert used(one, 5) == (1, 1, 0, 0)
    assert used(one, 5 + HOUR)[0] == 0
    assert one.rows == {}


def test_what_was_never_sent_gives_everything_back() -> None:
    one = ledger()
    fold(one, 0, created(), Reserved("l", 1, {"op": "list"}, 0, 0, 0, (), 3 * S, 7 * S, call="list"))
    fold(
        one, 5, NeverSent("j", 1, "no connection"), NeverSent("l", 1, "no connection"), NeverSent("x", 1, "unheard of")
    )
    assert used(one, 5) == (0, 0, 0, 0)
    assert state(one, 5, "list_per_minute").used == 0
    assert one.rows == {}


def test_without_a_callback_users_count_for_the_allowance_and_the_row_is_done() -> None:
    one = ledger()
    fold(one, 0, created(token=None))
    fold(one, 5, Answered("j", 1, 202, accepted={}))
    assert one.rows == {}
    assert used(one, 5 + ALLOWANCE + DAY - 0.1)[2] == 10
    assert used(one, 5 + ALLOWANCE + DAY)[2] == 0


def test_an_archive_frees_the_segment_it_named() -> None:
    one = ledger()
    fold(one, 0, created("a", token=None), created("b", token=None))
    fold(one, 1, *(Answered(name, 1, 202, accepted={"cs_id": f"id-{name}"}) for name in "ab"))
    archive = {"op": "archive", "name": "other", "cs_id": "id-a"}
    fold(one, 2, Reserved("x", 1, archive, 0, 0, 0, ("a",), 3 * S, 7 * S))
    assert used(one, 2)[3] == 2
    fold(one, 3, Answered("x", 1, 200, accepted={}))
    assert used(one, 3)[3] == 1
    assert {lease.name for lease in one.active.leases.values()} == {"b"}


def test_what_others_spent_counts_where_they_said_and_is_told() -> None:
    one = ledger()
    fold(one, 50, ExternalUsage(2, 30, 40 * S))
    assert (state(one, 50, "operations_per_hour").external, state(one, 50, "users_per_day").external) == (2, 30)
    assert state(one, 49.9, "get_per_minute").external == 0  # nobody can say how many of those others made
    assert used(one, 40 + HOUR - 0.1) == (2, 2, 30, 0)
    assert used(one, 40 + HOUR) == (0, 2, 30, 0)
    assert state(one, 40 + HOUR, "operations_per_hour").external == 0
    assert state(one, 40 + HOUR, "get_per_minute").external == 0
    one.prune(round((40 + DAY) * S) - 1)
    assert len(one.external) == 1
    one.prune((40 + DAY) * S)
    assert one.external == []
    fold(one, 1_000 + DAY, ExternalUsage(1, 1, (500 + DAY) * S))
    one.prune((1_000 + 2 * DAY) * S)
    assert one.external == []
    fold(one, 3 * DAY, ExternalUsage(2**60, 2**60, 3 * DAY * S))
    assert used(one, 3 * DAY)[:3] == (2**40, 2**40, 2**40)


def test_an_operation_is_forgotten_thirty_days_after_it_was_reserved() -> None:
    """So long its callback may be late."""
    one, kept_s = ledger(), 30 * 86_400
    fold(one, 2_000_001, created())
    one.prune((2_000_001 + kept_s) * S)
    assert list(one.rows) == ["j"]
    one.prune((2_000_001 + kept_s) * S + 1)
    assert one.rows == {}


def test_a_full_limit_tells_until_when_and_a_closed_one_too() -> None:
    one = ledger()
    for number in range(3):
        fold(one, number, created(str(number)), Answered(str(number), 1, 202, accepted={}))
    cost = Cost(1, 10, 1)
    decision = one.decide(cost, 50 * S)
    assert decision == Wait(HOUR * S, "operations_per_hour", 3, 1, 3)
    assert isinstance(one.decide(cost, HOUR * S), Granted)
    assert one.decide(Cost(1, 101, 0), 50 * S) == Never("users_per_day", 101, 100)
    fold(one, 50, Throttled("operations_per_day", 150 * S))
    assert until(one.decide(cost, 60 * S)) == 150
    assert state(one, 60, "operations_per_day").closed_until_us == 150 * S
    assert state(one, 150, "operations_per_day").closed_until_us == 0
    fold(one, 151, Quarantined("lost"))
    assert (one.quarantine or "") == "lost"
    assert until(one.decide(Cost(1), 152 * S)) == 151 + DAY
    assert until(one.decide(Cost(call="get"), 152 * S)) == 151 + DAY
    fold(one, 153, Trusted("known"))
    assert one.quarantine is None
    assert isinstance(one.decide(Cost(1), 153 * S), Granted)


def test_a_quarantine_lasts_a_whole_window_and_trust_ends_it_without_a_trace() -> None:
    one = ledger()
    fold(one, 10, Quarantined("lost"))
    assert {window.closed_until_us for window in one.windows} == {(10 + HOUR) * S, (10 + DAY) * S}
    fold(one, 11, Trusted("known"))
    assert {window.closed_until_us for window in one.all_windows()} == {0}


@pytest.mark.parametrize(
    ("cost", "fits"),
    [
        (Cost(), True),
        (Cost(3), True),
        (Cost(4), False),
        (Cost(1, 100), True),
        (Cost(1, 101), False),
        (Cost(segments=8), True),
        (Cost(segments=9), False),
        (Cost(call="get"), True),
        (Cost(3, 100, 8, "get"), True),
        (Cost(call="list"), False),
        (Cost(3, 100, 8, "list"), False),
    ],
)
def test_room_is_for_what_fits_every_limit_that_it_asks(cost: Cost, *, fits: bool) -> None:
    """Whoever else waits. Two calls a minute are used up here."""
    one = ledger()
    for job in ("l", "m"):
        fold(one, 0, Reserved(job, 1, {"op": "list"}, 0, 0, 0, (), 3 * S, 7 * S, call="list"))
    assert one.room(S).takes(cost) is fits


def test_a_call_that_waits_asks_for_one() -> None:
    """And what waits for operations asks for as many as it has."""
    one = ledger()
    for job in ("l", "m"):
        fold(one, 0, Reserved(job, 1, {"op": "list"}, 0, 0, 0, (), 3 * S, 7 * S, call="list"))
        fold(one, 0, Answered(job, 1, 200))
    assert one.decide(Cost(call="list"), S) == Wait(10 * S, "list_per_minute", 2, 1, 2)
    cost = Cost(3, 20, 2, "list")
    assert [cost.asks(unit) for unit in Unit] == [3, 20, 2, 1]
    assert [Cost().asks(unit) for unit in Unit] == [0, 0, 0, 0]


def test_a_limit_that_is_full_leaves_room_for_what_does_not_ask_it() -> None:
    one = ledger()
    fold(one, 0, *(created(str(number), rows=33) for number in range(3)))
    room = one.room(S)
    assert (room.operations, room.rows, room.segments) == (0, 1, 5)
    assert room.takes(Cost(0, 1, 5))
    assert not room.takes(Cost(1))
    fold(one, 1, Throttled("active_segments", 30 * S))
    assert one.room(30 * S - 1).segments == 0
    assert one.room(30 * S).segments == 5
    closed = [state(one, at, "active_segments").closed_until_us for at in (29, 30, 31)]
    assert closed == [30 * S, 0, 0]


def test_there_is_no_room_in_a_limit_that_is_closed_or_probed() -> None:
    """After a 429 for one operation only, until its outcome is known."""
    one = ledger()
    fold(one, 1, Throttled("operations_per_hour", 30 * S, probe=True))
    assert [one.room(at * S).operations for at in (29, 30)] == [0, 3]
    fold(one, 30, created("probe"))
    assert one.room(30 * S).operations == 0
    assert not one.room(30 * S).takes(Cost(1))
    fold(one, 31, Answered("probe", 1, 202, accepted={}))
    assert one.room(31 * S).operations == 2


def test_after_a_429_there_is_one_probe_until_one_is_accepted() -> None:
    """Strikes count once a burst; what was reserved before the pause proves nothing about what comes after it."""
    one = ledger()
    window = one.windows[0]
    fold(one, 0, created("before"))
    for at in (1, 2):
        fold(one, at, Throttled("operations_per_hour", 50 * S, probe=True))
    assert (window.strikes, window.probing, window.throttled_until_us) == (1, True, 50 * S)
    assert [other for other in one.all_windows() if other.throttled_until_us or other.probing] == [window]
    fold(one, 3, Throttled("operations_per_hour", 40 * S, probe=True))
    assert window.throttled_until_us == 50 * S
    fold(one, 4, Answered("before", 1, 202, accepted={}))
    assert (window.strikes, window.probing) == (1, True)
    fold(one, 50, created("probe"))
    assert until(one.decide(Cost(1), 50 * S)) == 50 + LEASE - LATE
    fold(one, 52, Answered("probe", 1, 202, accepted={}))
    assert (window.strikes, window.probing) == (0, False)
    assert one.decide(Cost(1), 52 * S) == Granted()
    for at in (60, 70, 80):  # each when the pause before is over: bursts of their own
        fold(one, at, Throttled("operations_per_hour", (at + 10) * S))
    assert (window.strikes, window.probing) == (3, False)


def test_which_window_a_429_is_about() -> None:
    """The one whose capacity it named, else the fullest; until it said so, else until our oldest ends."""
    one = ledger()
    fold(one, 0, created(), Answered("j", 1, 202, accepted={}))
    assert one.throttle_for(6, 30 * S, 10 * S) == Throttled("operations_per_day", 40 * S)
    assert one.throttle_for(None, 30 * S, 10 * S) == Throttled("operations_per_hour", 40 * S)
    assert one.throttle_for(None, None, 10 * S) == Throttled("operations_per_hour", HOUR * S, probe=True)
    assert one.throttle_for(None, None, HOUR * S) == Throttled("operations_per_day", DAY * S, probe=True)
    assert one.throttle_for(2, None, 20 * S, "get") == Throttled("get_per_minute", 30 * S, probe=True)
    full = ledger()
    fold(full, 5, ExternalUsage(3, 0, 5 * S))  # all of the hour, and half of the day
    assert full.throttle_for(None, 30 * S, 10 * S) == Throttled("operations_per_hour", 40 * S)
    fold(one, 10, ExternalUsage(0, 99, 10 * S))  # users are no operations, however full their day is
    assert one.throttle_for(None, 30 * S, 10 * S) == Throttled("operations_per_hour", 40 * S)
    fold(one, 10, Throttled("operations_per_hour", 11 * S))
    assert one.throttle_for(3, 0, 20 * S) == Throttled("operations_per_hour", 20 * S + 2 * (HOUR * S // 64))


def test_the_gauge_is_full_for_as_long_as_the_service_says() -> None:
    one = ledger()
    fold(one, 0, ActiveObserved(5, "list"), created(token=None))
    assert used(one, 0)[3] == 6
    fold(one, 1, Throttled("active_segments", 30 * S), Throttled("active_segments", 20 * S))
    assert state(one, 1, "active_segments").closed_until_us == 30 * S
    assert state(one, 30, "active_segments").closed_until_us == 0
    assert until(one.decide(Cost(segments=1), 29 * S)) == 30
    assert isinstance(one.decide(Cost(segments=1), 30 * S), Granted)
    fold(one, 31, ActiveObserved(7, "hint"))
    fold(one, 32, ActiveObserved(3, "hint"))
    assert until(one.decide(Cost(segments=1), 33 * S)) == LEASE + LIFE
    fold(one, 34, ActiveObserved(8, "list"))
    assert one.decide(Cost(segments=2), 34 * S) == Wait(None, "active_segments", 9, 2, 8)


def test_reads_count_in_their_pools_and_end_with_their_answer_or_doubt() -> None:
    one = ledger()
    for job in ("answered", "doubted", "free", "silent"):
        fold(one, 0, Reserved(job, 1, {"op": "get"}, 0, 0, 0, (), 3 * S, 7 * S, call="get"))
    fold(one, 1, Answered("answered", 1, 200), Unknown("doubted", 1, "lost"), Answered("free", 1, 404, spends=False))
    assert state(one, 1, "get_per_minute").used == 3
    assert state(one, 11, "get_per_minute").used == 2
    assert state(one, 1 + LATE + 10, "get_per_minute").used == 1
    assert state(one, LEASE + 10, "get_per_minute").used == 0
    assert "doubted" not in one.rows


@pytest.mark.parametrize(("doubted_at", "adopted_at", "counted_from"), [(10, 15, 15), (10, 40, 30), (None, 6, 6)])
def test_a_filter_segment_that_is_found_was_counted_by_then(
    doubted_at: float | None, adopted_at: float, counted_from: float
) -> None:
    """After a doubt as well as without one; never later than the doubt had it."""
    one = ledger()
    create = {"op": "create_filter", "name": "f"}
    fold(one, 0, Reserved("f", 1, create, 0, 0, 1, ("f",), 3 * S, 7 * S, call="create_filter"))
    if doubted_at is not None:
        fold(one, doubted_at, Unknown("f", 1, "lost"))
    fold(one, adopted_at, Adopted("f", 1, "7"))
    assert state(one, counted_from + HOUR - 0.1, "list_per_hour").used == 1
    assert state(one, counted_from + HOUR, "list_per_hour").used == 0
    assert used(one, 10**7)[3] == 1


def test_rows_that_no_callback_can_change_are_forgotten_after_a_month() -> None:
    one, month = ledger(), 30 * 86_400
    fold(one, 0, created("old"))
    fold(one, 1, created("young"))
    one.prune(month * S)
    assert set(one.rows) == {"old", "young"}
    one.prune(month * S + 1)
    assert set(one.rows) == {"young"}


@pytest.mark.parametrize(("entries", "left"), [(TRIM_AT - 1, TRIM_AT - 1), (TRIM_AT, 0)])
def test_entries_that_no_window_counts_are_dropped_once_they_are_many(entries: int, left: int) -> None:
    one = ledger()
    for u_us in range(entries):
        one.operations.add(u_us, 1)
        one.pools["get"].history.add(u_us, 1)
    one.advance_for_good(DAY * S + entries)
    assert (len(one.operations.us), len(one.pools["get"].history.us)) == (left, left)
    assert used(one, DAY + 1)[:2] == (0, 0)


def test_a_limit_of_calls_is_kept_under_the_name_of_its_pool() -> None:
    shared, apart = ledger(), ledger(filter_calls_shared=False)
    assert shared.kept_as("create_filter_per_hour") == "list_per_hour"
    assert apart.kept_as("create_filter_per_hour") == "create_filter_per_hour"
    assert shared.kept_as("operations_per_hour") == "operations_per_hour"
    for one, held in ((shared, 1), (apart, 0)):
        fold(
            one,
            0,
            Reserved("f", 1, {"op": "create_filter", "name": "f"}, 0, 0, 1, ("f",), 3 * S, 7 * S, call="create_filter"),
        )
        assert state(one, 0, "list_per_minute").used == held
        assert used(one, 10**7)[3] == 1  # nothing but an archive frees it
