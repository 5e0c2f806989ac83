"""A checkpoint is read by later versions of the package as what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from moe_segments.core.events import (
    Answered,
    Batch,
    CallbackReceived,
    Claimed,
    Copied,
    Copying,
    Event,
    ExternalUsage,
    Moved,
    Reserved,
    RunStarted,
    Stayed,
    Throttled,
    Trusted,
    decode,
    encode,
)
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import JournalError
from moe_segments.limits import CALL_LIMITS, QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SAMPLE = Path(__file__).parent.parent / "checkpoints" / "format-2.json"
SECOND = 1_000_000
CALLS = {name for names in CALL_LIMITS.values() for name in names}
THEN_US = 1_790_000_000 * SECOND


def restored() -> WorkspaceState:
    state = WorkspaceState(QuotaLimits())
    state.fold(Batch(8, "checkpoint-8", THEN_US + 7 * SECOND, decode(SAMPLE.read_text(encoding="utf-8"))))
    return state


def test_a_checkpoint_of_an_earlier_version_counts_as_it_did() -> None:
    """An upgrade in the middle of a day neither frees nor adds usage."""
    usage = restored().ledger.usage(THEN_US + 10 * SECOND)
    assert [(limit.limit, limit.used, limit.pending) for limit in usage if limit.limit not in CALLS] == [
        ("operations_per_hour", 4, 2),
        ("operations_per_day", 4, 2),
        ("users_per_day", 210, 210),
        ("active_segments", 2, 1),
    ]


def test_what_a_checkpoint_of_an_earlier_version_left_open_ends_as_ever() -> None:
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
    text = encode([restored().snapshot()])
    again = WorkspaceState(QuotaLimits())
    again.fold(Batch(8, "checkpoint-8", THEN_US + 7 * SECOND, decode(text)))
    assert encode([again.snapshot()]) == text


def test_a_log_that_an_earlier_version_moved_ends_everything_later() -> None:
    """It carried the batches over one by one, and told at the end by how much its clock was ahead."""
    later_us = 600 * SECOND
    state = restored()
    before = [list(history.us) for history in state.ledger.histories]
    holds = [hold.bound_us for history in state.ledger.histories for hold in history.holds]
    state.fold(Batch(9, "nine", THEN_US + 8 * SECOND, (Copying("sqlite:////old.db", "old"),)))
    state.fold(Batch(10, "ten", THEN_US + 8 * SECOND, (Copied({"old": 8}, later_us),)))

    assert [list(history.us) for history in state.ledger.histories] == [
        [u_us + later_us for u_us in us] for us in before
    ]
    assert [hold.bound_us for history in state.ledger.histories for hold in history.holds] == [
        end + later_us for end in holds
    ]
    assert (state.version, state.origins, state.barred) == (10, {"old": 8}, None)


def test_a_used_name_outlives_its_job() -> None:
    """Jobs are forgotten after 90 days, names are used up for ever."""
    state = restored()
    state.fold(Batch(9, "nine", THEN_US + 20 * SECOND, (CallbackReceived("one", 1, "digest", "processed", {}),)))
    long_after_us = THEN_US + 91 * 86_400 * SECOND
    state.fold(Batch(10, "ten", long_after_us, (Trusted("test"),)))
    text = encode([state.snapshot()])
    again = WorkspaceState(QuotaLimits())
    again.fold(Batch(10, "checkpoint-10", long_after_us, decode(text)))
    assert "one" not in again.jobs.records
    assert again.jobs.name_used_by("create", "alpha", "new") == "one"
    assert again.jobs.name_used_by("create_filter", "alpha", "new") == "one"
    assert again.jobs.name_used_by("add", "alpha", "new") is None
    assert encode([again.snapshot()]) == text


def test_a_checkpoint_without_names_has_those_of_its_jobs() -> None:
    """An earlier version wrote none: what its jobs created is used up all the same."""
    state = restored()
    state.fold(Batch(9, "nine", THEN_US + 20 * SECOND, (CallbackReceived("one", 1, "digest", "processed", {}),)))
    assert state.jobs.names == {"alpha": "one"}


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
    text = encode([before.snapshot()])
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

    assert encode([tried.snapshot()]) == encode([folded.snapshot()])
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


# What a later version may have written


ACTIVE = {"external": 0, "full_until_us": 0, "leases": []}
LATER: list[tuple[str, Callable[[Any], Mapping[str, object]]]] = [
    ("format", lambda state: {**state, "format": 99}),
    ("'later'", lambda state: {**state, "later": 1}),
    ("'later'", lambda state: {**state, "ledger": {**state["ledger"], "later": 1}}),
    ("'later'", lambda state: {**state, "ledger": {**state["ledger"], "active": {**ACTIVE, "later": 1}}}),
    ("'later'", lambda state: {**state, "opened": {"origin": "https://x", "scale": 1.0, "later": 1}}),
    ("'later'", lambda state: {**state, "moved": {"to": "x", "journal_id": "y", "later": 1}}),
    ("'later'", lambda state: {**state, "copying": {"place": "x", "journal_id": "y", "later": 1}}),
]


@pytest.mark.parametrize(("what", "change"), LATER)
def test_a_later_version_s_checkpoint_is_refused(what: str, change: Callable[[Any], Mapping[str, object]]) -> None:
    """Read without what this version does not know, it would be another state."""
    checkpoint = restored().snapshot()
    later = attrs.evolve(checkpoint, state=change(checkpoint.state))
    state = WorkspaceState(QuotaLimits())
    with pytest.raises(JournalError, match=rf"{what}.*upgrade moe_segments"):
        state.fold(Batch(8, "checkpoint-8", THEN_US, decode(encode([later]))))
    assert "upgrade moe_segments" in str(state.barred)
    with pytest.raises(JournalError, match="upgrade moe_segments"):
        state.fold(Batch(9, "nine", THEN_US, (Stayed(),)))


@pytest.mark.parametrize("name", ["rows", "records", "runs"])
def test_a_later_version_s_field_in_a_part_of_a_checkpoint_is_refused(name: str) -> None:
    before = restored()
    before.fold(Batch(9, "nine", THEN_US + 8 * SECOND, (RunStarted("run", "manifest.csv", 3),)))
    checkpoint = before.snapshot()
    parts = [json.loads(part) for part in checkpoint.parts]
    for kind, items in parts:
        if kind == name:
            (items[0][1] if name == "rows" else items[0])["later"] = 1
    later = attrs.evolve(checkpoint, parts=tuple(map(json.dumps, parts)))
    with pytest.raises(JournalError, match=r"'later'.*upgrade moe_segments"):
        WorkspaceState(QuotaLimits()).fold(Batch(8, "checkpoint-8", THEN_US, (later,)))


def test_a_later_version_s_kind_of_part_is_refused() -> None:
    checkpoint = restored().snapshot()
    more = (*checkpoint.parts, '["later",[]]')
    later = attrs.evolve(checkpoint, state={**checkpoint.state, "parts": len(more)}, parts=more)
    with pytest.raises(JournalError, match=r"'later'.*upgrade moe_segments"):
        WorkspaceState(QuotaLimits()).fold(Batch(8, "checkpoint-8", THEN_US, (later,)))


@pytest.mark.parametrize(
    "text",
    ['[["later",{}]]', '[["stayed",{"later":1}]]', '[["answered",{"job":"a","attempt":1,"status":2,"later":1}]]'],
)
def test_a_later_version_s_event_is_refused(text: str) -> None:
    with pytest.raises(JournalError, match=r"later.*upgrade moe_segments"):
        decode(text)


@pytest.mark.parametrize("lost", [0, 3, -1])
def test_a_checkpoint_without_one_of_its_parts_is_refused(lost: int) -> None:
    checkpoint = restored().snapshot()
    parts = list(checkpoint.parts)
    del parts[lost]
    state = WorkspaceState(QuotaLimits())
    with pytest.raises(JournalError, match="cannot be understood"):
        state.fold(Batch(8, "checkpoint-8", THEN_US, (attrs.evolve(checkpoint, parts=tuple(parts)),)))
    assert state.barred is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "null", "7", "[7]", "[[7]]", '["answered"]', '[["answered"]]', '[["answered",7]]', "[" * 100_000),
        *(
            '[["answered",{}]]',
            '[["stayed",{}]]\x1e[]',
            '[["reserved",{"job":"a","attempt":1,"operation":{},"keys":7}]]',
        ),
    ],
)
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(JournalError):
        decode(text)


@pytest.mark.parametrize(
    "event",
    [
        Answered("three", 1, "x", accepted=7),  # type: ignore[arg-type]  # as a damaged entry may have it
        Reserved("six", 1, 7, operations="1"),  # type: ignore[arg-type]
        CallbackReceived("two", 2, "d", "processed", {}, "9"),  # type: ignore[arg-type]
        ExternalUsage("a", "b", "c"),  # type: ignore[arg-type]
        Throttled("users_per_day", "soon"),  # type: ignore[arg-type]
        Copied(7),  # type: ignore[arg-type]
    ],
)
def test_an_entry_that_cannot_be_folded_is_a_journal_error_and_bars_the_state(event: Event) -> None:
    """Half of it may have been counted, so nothing is decided any more."""
    state = restored()
    with pytest.raises(JournalError, match="version 9 cannot be understood"):
        state.fold(Batch(9, "nine", THEN_US + 8 * SECOND, (event,)))
    assert state.barred is not None


def test_a_long_checkpoint_is_made_and_read_in_short_steps() -> None:
    """An event loop goes on between two of them: each holds some hundred items at most."""
    state = WorkspaceState(QuotaLimits())
    for number in range(1, 1_001):
        job = f"job-{number}"
        event = Reserved(
            job, 1, {"op": "add", "name": f"s{number}"}, 1, 1, 0, (f"s{number}",), 30, 60, f"{number:064x}"
        )
        state.fold(Batch(number, job, THEN_US + number, (event,)))
    checkpoint = state.snapshot()
    again = WorkspaceState(QuotaLimits())
    steps = again.folding(Batch(1_000, "checkpoint-1000", THEN_US + 1_000, (checkpoint,)))

    assert len(checkpoint.parts) == 25
    for _ in steps:
        assert again.version == 0, "what is read between two steps is whole"
    assert encode([again.snapshot()]) == encode([checkpoint])
