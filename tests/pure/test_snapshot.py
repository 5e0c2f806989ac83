"""A checkpoint is read by later versions of the package as what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_segments.core.events import (
    Answered,
    Batch,
    CallbackReceived,
    Checkpoint,
    Claimed,
    Copied,
    Copying,
    Event,
    Moved,
    Reserved,
    Stayed,
    Trusted,
    decode,
    encode,
)
from moe_segments.core.state import WorkspaceState
from moe_segments.limits import CALL_LIMITS, QuotaLimits

SAMPLE = Path(__file__).parent.parent / "checkpoints" / "0.1.0.json"
SECOND = 1_000_000
CALLS = {name for names in CALL_LIMITS.values() for name in names}
THEN_US = 1_790_000_000 * SECOND


def restored() -> WorkspaceState:
    state = WorkspaceState(QuotaLimits())
    state.fold(Batch(8, "checkpoint-8", THEN_US + 7 * SECOND, decode(SAMPLE.read_text(encoding="utf-8"))))
    return state


def test_a_checkpoint_of_the_first_version_counts_as_it_did() -> None:
    """An upgrade in the middle of a day neither frees nor adds usage."""
    usage = restored().ledger.usage(THEN_US + 10 * SECOND)
    assert [(limit.limit, limit.used, limit.pending) for limit in usage if limit.limit not in CALLS] == [
        ("operations_per_hour", 4, 2),
        ("operations_per_day", 4, 2),
        ("users_per_day", 210, 210),
        ("active_segments", 2, 1),
    ]


def test_what_a_checkpoint_of_the_first_version_left_open_ends_as_ever() -> None:
    """Answers and callbacks find their rows, first and later attempts, and an archive the segment it named."""
    state = restored()
    news = (
        Answered("three", 1, 202, accepted={"cs_name": "alpha"}),
        CallbackReceived("two", 1, "digest", "failed", {}),
        CallbackReceived("two", 2, "other", "failed", {}),
    )
    state.fold(Batch(9, "nine", THEN_US + 20 * SECOND, news))
    used = {limit.limit: (limit.used, limit.pending) for limit in state.ledger.usage(THEN_US + 20 * SECOND)}
    assert used["users_per_day"] == (110, 110)
    assert used["active_segments"] == (1, 1)


def test_a_checkpoint_of_this_version_is_the_same_after_a_round_trip() -> None:
    """What is written now is read now."""
    text = encode([Checkpoint(restored().snapshot())])
    again = WorkspaceState(QuotaLimits())
    again.fold(Batch(8, "checkpoint-8", THEN_US + 7 * SECOND, decode(text)))
    assert encode([Checkpoint(again.snapshot())]) == text


def test_a_log_that_an_earlier_version_moved_ends_everything_later() -> None:
    """It carried the batches over one by one, and told at the end by how much its clock was ahead."""
    later_us = 600 * SECOND
    state = restored()
    before = [list(tape.us) for tape in state.ledger.tapes]
    holds = [hold.bound_us for tape in state.ledger.tapes for hold in tape.holds]
    state.fold(Batch(9, "nine", THEN_US + 8 * SECOND, (Copying("sqlite:////old.db", "old"),)))
    state.fold(Batch(10, "ten", THEN_US + 8 * SECOND, (Copied({"old": 8}, later_us),)))

    assert [list(tape.us) for tape in state.ledger.tapes] == [[u_us + later_us for u_us in us] for us in before]
    assert [hold.bound_us for tape in state.ledger.tapes for hold in tape.holds] == [end + later_us for end in holds]
    assert (state.version, state.origins, state.barred) == (10, {"old": 8}, None)


def test_a_used_name_outlives_its_job() -> None:
    """Jobs are forgotten after 90 days, names are used up for ever."""
    state = restored()
    state.fold(Batch(9, "nine", THEN_US + 20 * SECOND, (CallbackReceived("one", 1, "digest", "processed", {}),)))
    long_after_us = THEN_US + 91 * 86_400 * SECOND
    state.fold(Batch(10, "ten", long_after_us, (Trusted("test"),)))
    text = encode([Checkpoint(state.snapshot())])
    again = WorkspaceState(QuotaLimits())
    again.fold(Batch(10, "checkpoint-10", long_after_us, decode(text)))
    assert "one" not in again.jobs.records
    assert again.jobs.name_used_by("create", "alpha", "new") == "one"
    assert again.jobs.name_used_by("create_filter", "alpha", "new") == "one"
    assert again.jobs.name_used_by("add", "alpha", "new") is None
    assert encode([Checkpoint(again.snapshot())]) == text


def test_a_checkpoint_without_names_has_those_of_its_jobs() -> None:
    """An earlier version wrote none: what its jobs created is used up all the same."""
    state = restored()
    state.fold(Batch(9, "nine", THEN_US + 20 * SECOND, (CallbackReceived("one", 1, "digest", "processed", {}),)))
    data = {name: value for name, value in state.snapshot().items() if name != "names"}
    again = WorkspaceState(QuotaLimits())
    again.fold(Batch(9, "checkpoint-9", THEN_US + 20 * SECOND, decode(encode([Checkpoint(data)]))))
    assert again.jobs.names == state.jobs.names != {}


@pytest.mark.parametrize(
    "moves",
    [
        (Moved("redis://quota.internal:6379/0", "new"),),
        (Copying("sqlite:////old.db", "old"),),
        (Copying("sqlite:////old.db", "old"), Copied({"old": 7, "older": 5})),
        (Moved("redis://quota.internal:6379/0", "new"), Stayed()),
    ],
)
def test_a_checkpoint_keeps_where_a_log_went_and_where_it_came_from(moves: tuple[Event, ...]) -> None:
    """Compacted, a log that was left is still barred, and one that stands for another still says so."""
    before, after = restored(), WorkspaceState(QuotaLimits())
    for version, event in enumerate(moves, 9):
        before.fold(Batch(version, str(version), THEN_US + 8 * SECOND, (event,)))
    text = encode([Checkpoint(before.snapshot())])
    after.fold(Batch(before.version, "checkpoint", THEN_US + 8 * SECOND, decode(text)))

    assert (after.moved, after.copying, after.origins) == (before.moved, before.copying, before.origins)
    assert str(after.barred) == str(before.barred)


@pytest.mark.parametrize("late_us", [0, 1, 700_000])
def test_what_became_durable_later_than_it_was_decided_is_as_if_folded(late_us: int) -> None:
    """An engine may decide first and stamp afterwards; other processes see only the stamp."""
    events = (
        Reserved("five", 1, {"op": "create", "name": "five"}, 1, 40, 1, ("five",), 30, 60, "a" * 64, 30, "me"),
        Reserved("five", 2, {"op": "create", "name": "five"}, 1, 40, 0, ("five",), 30, 60, None, None, "me"),
        Reserved("six", 1, {"op": "archive", "name": "alpha"}, 0, 0, 0, ("alpha",), 30, 60),
        Reserved("seven", 1, {"op": "list"}, 0, 0, 0, (), 30, 60, call="list"),
        Reserved("eight", 1, {"op": "create_filter", "name": "f"}, 0, 0, 1, ("f",), 30, 60, call="create_filter"),
    )
    at_us = THEN_US + 9 * SECOND
    tried, folded = restored(), restored()
    for state in (tried, folded):
        state.fold(Batch(9, "nine", THEN_US + 8 * SECOND, (Claimed("five", 1, 40, 1, for_us=1_800 * SECOND),)))
    tried.ledger.advance(at_us)
    for event in events:
        tried.try_reserve(event, at_us)
    batch = Batch(10, "ten", at_us + late_us, events)

    assert tried.keep(batch)
    folded.fold(batch)

    assert encode([Checkpoint(tried.snapshot())]) == encode([Checkpoint(folded.snapshot())])
    for now_us in (
        batch.at_us,
        batch.at_us + 91 * SECOND,
        batch.at_us + 40_000 * SECOND,
        batch.at_us + 40 * 86_400 * SECOND,
    ):
        for state in (tried, folded):
            state.ledger.advance(now_us)
        assert tried.ledger.usage(now_us) == folded.ledger.usage(now_us)


def test_what_was_stamped_before_it_was_decided_is_not_kept() -> None:
    state = restored()
    event = Reserved("five", 1, {"op": "add", "name": "five"}, 1, 0, 0, ("five",), 30, 60)
    state.try_reserve(event, THEN_US + 9 * SECOND)
    assert not state.keep(Batch(9, "nine", THEN_US + 9 * SECOND - 1, (event,)))
    state.take_back()
