"""What is sent next, and when, as values."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_segments.core.audiences.backlog import (
    Backlog,
    Forecast,
    Pace,
    gap_us,
    is_late,
    most_urgent,
    retry_s,
    room,
)
from moe_segments.core.state.jobs import JobRecord
from moe_segments.memberships.verdicts import AGAIN, APPLIED, WAIT, verdict_of
from moe_segments.models import JobState

NOW_US = 1_000_000_000_000
S = 1_000_000
DAY_US = 86_400 * S


def backlog(name: str = "vip", *, age_s: float = 100, **fields: Any) -> Backlog:
    given: dict[str, Any] = {
        "segment": 1,
        "name": name,
        "attribute_name": "ID",
        "attribute_type": "string",
        "expiry_time": None,
        "max_age_s": None,
        "priority": 0,
        "adds": 1,
        "removes": 0,
        "oldest_us": NOW_US - round(age_s * S),
        "oldest": 1,
        "tip": 1,
        "batch": None,
        "added_last": False,
    }
    return Backlog(**given | fields)


def order(*backlogs: Backlog) -> list[str]:
    return [one.name for one in most_urgent(backlogs, NOW_US, gather_us=10 * S)]


def test_the_wait_after_failures_grows_up_to_six_hours_and_stays_there() -> None:
    assert [retry_s(failures) for failures in (1, 2, 3, 5, 6, 1_000, 10**9)] == [60, 240, 960, 15_360, *[21_600] * 3]


def test_the_oldest_is_the_most_urgent() -> None:
    assert order(backlog("b", age_s=20), backlog("a", age_s=50), backlog("c", age_s=15)) == ["a", "b", "c"]


def test_a_step_of_priority_counts_like_ten_times_the_age() -> None:
    assert order(backlog("old", age_s=990), backlog("dear", age_s=100, priority=1)) == ["dear", "old"]
    assert order(backlog("older", age_s=1_010), backlog("dear", age_s=100, priority=1)) == ["older", "dear"]
    assert order(backlog("normal", age_s=20), backlog("cheap", age_s=190, priority=-1)) == ["normal", "cheap"]


def test_a_segment_that_may_be_less_stale_is_more_urgent() -> None:
    assert order(backlog("old", age_s=3_600), backlog("fresh", age_s=60, max_age_s=600)) == ["fresh", "old"]
    assert order(backlog("lax", age_s=200, max_age_s=86_400), backlog("old", age_s=201)) == ["old", "lax"]


def test_changes_gather_before_they_are_sent_and_less_long_where_the_segment_must_be_fresh() -> None:
    assert order(backlog(age_s=9.9)) == []
    assert order(backlog(age_s=10)) == ["vip"]
    assert order(backlog(age_s=3, max_age_s=6)) == ["vip"]
    assert order(backlog(age_s=100, adds=0, oldest_us=None)) == []


def test_adds_and_removes_take_turns() -> None:
    assert backlog(adds=1, removes=1).is_add_next
    assert not backlog(adds=1, removes=1, added_last=True).is_add_next
    assert backlog(adds=1, removes=0, added_last=True).is_add_next
    assert not backlog(adds=0, removes=1).is_add_next


def test_a_segment_is_late_once_it_is_staler_than_it_may_be() -> None:
    assert not is_late(backlog(age_s=1e6), NOW_US)
    assert not is_late(backlog(age_s=60, max_age_s=60), NOW_US)
    assert is_late(backlog(age_s=60.1, max_age_s=60), NOW_US)


# The pace


def empty(capacity: int = 100) -> Forecast:
    return Forecast(capacity=capacity, steps=[(0, 0)])


def test_the_operations_of_an_unused_day_are_spread_over_it() -> None:
    assert gap_us(empty(), DAY_US) == DAY_US / 98, "two of a hundred are left to direct callers"


def test_what_others_spent_makes_the_gap_longer_until_it_is_free_again() -> None:
    spent = Forecast(capacity=100, steps=[(0, 60), (DAY_US // 2, 0)])
    assert gap_us(spent, DAY_US) == DAY_US / 2 / 38
    soon_free = Forecast(capacity=100, steps=[(0, 60), (3_600 * S, 0)])
    assert gap_us(soon_free, DAY_US) == DAY_US / 98


def test_there_is_no_gap_that_helps_while_only_what_is_left_alone_is_free() -> None:
    assert gap_us(Forecast(capacity=100, steps=[(0, 98), (3_600 * S, 0)]), DAY_US) == math.inf


def sent_in_a_day(wishes_s: float) -> list[float]:
    """When operations leave that are wanted every so often, seconds."""
    pace, gap, sent, now = Pace(), DAY_US / 98, list[float](), 0
    while now < DAY_US:
        if pace.wait_us(now, gap, 100):
            now += round(pace.wait_us(now, gap, 100)) + 1
            continue
        pace = pace.after(now, gap)
        sent.append(now / S)
        now += round(wishes_s * S)
    return sent


def test_a_few_operations_leave_at_once_and_many_evenly() -> None:
    sent = sent_in_a_day(1)
    assert [at_s < 60 for at_s in sent[:5]] == [True] * 4 + [False], "four of a hundred at once"
    assert len(sent) <= 98 + 4
    gaps = [after - before for before, after in pairwise(sent[4:])]
    assert max(gaps) < 86_400 / 98 + 2


@given(st.integers(1_000, 80_000))
def test_operations_that_come_seldom_never_wait(wishes_s: int) -> None:
    assert sent_in_a_day(wishes_s) == [float(at_s) for at_s in range(0, 86_400, wishes_s)]


# Room


def limits(hour: int = 0, day: int = 0, users: int = 0) -> dict[str, Forecast]:
    return {
        "operations_per_hour": Forecast(capacity=10, steps=[(0, hour), (3_600 * S, 0)]),
        "operations_per_day": Forecast(capacity=100, steps=[(0, day)]),
        "users_per_day": Forecast(capacity=2_000_000, steps=[(0, users)]),
    }


@pytest.mark.parametrize(
    ("used", "rows", "found"),
    [
        ({}, 34_000, 34_000),
        ({"hour": 7}, 34_000, 34_000),
        ({"hour": 8}, 34_000, 0),
        ({"day": 97}, 34_000, 34_000),
        ({"day": 98}, 34_000, 0),
        ({"users": 1_800_000}, 34_000, 34_000),
        ({"users": 1_890_000}, 34_000, 0),
        ({}, 5_000_000, 1_900_000),
        ({"users": 1_600_000}, 400_000, 300_000),
        ({"users": 1_750_000}, 400_000, 0),
    ],
)
def test_some_of_each_limit_is_left_alone_and_parts_are_worth_an_operation(
    used: dict[str, int], rows: int, found: int
) -> None:
    assert room(limits(**used), rows) == found


def test_a_small_limit_is_used_whole() -> None:
    small = {name: attrs.evolve(one, capacity=4) for name, one in limits().items()}
    assert room(small, 3) == 3


# What became of a batch


def record_of(state: str, *, op: str = "add", **fields: Any) -> JobRecord:
    given: dict[str, Any] = {"awaits_callback": True, "busy_until_us": NOW_US + 1}
    return JobRecord("j", {"op": op}, state, since_us=0, **given | fields)


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        (None, AGAIN),
        (record_of(JobState.PLANNED), AGAIN),
        (record_of(JobState.NOT_SENT), AGAIN),
        (record_of(JobState.RESERVED), WAIT),
        (record_of(JobState.RESERVED, busy_until_us=NOW_US), AGAIN),
        (record_of(JobState.ACCEPTED), WAIT),
        (record_of(JobState.ACCEPTED, busy_until_us=NOW_US), AGAIN),
        (record_of(JobState.ACCEPTED, awaits_callback=False, busy_until_us=0), APPLIED),
        (record_of(JobState.UNKNOWN), WAIT),
        (record_of(JobState.UNKNOWN, busy_until_us=NOW_US), AGAIN),
        (record_of(JobState.UNKNOWN, awaits_callback=False, busy_until_us=NOW_US), AGAIN),
        (record_of(JobState.PROCESSED, busy_until_us=0), APPLIED),
        (record_of(JobState.FAILED, busy_until_us=0), AGAIN),
        (record_of(JobState.REFUSED, status=400, busy_until_us=0), AGAIN),
        (record_of(JobState.REFUSED, status=404, busy_until_us=0), AGAIN),
        (record_of(JobState.REFUSED, status=404, busy_until_us=0, op="remove"), APPLIED),
        (record_of(JobState.REFUSED, status=429, busy_until_us=0, op="remove"), AGAIN),
    ],
)
def test_a_batch_is_applied_once_it_is_said_so_and_sent_again_once_nothing_more_can_be_heard(
    record: JobRecord | None, verdict: object
) -> None:
    assert verdict_of(record, NOW_US) == verdict
