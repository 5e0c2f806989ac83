"""The state of a journal: what a batch makes of it. What is tried on it leaves no trace once it is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.core.events import (
    Answered,
    Batch,
    Claimed,
    ClaimsRenewed,
    Copied,
    Copying,
    Event,
    KeyAccepted,
    KeyRejected,
    Moved,
    NeverSent,
    Opened,
    Reserved,
    Stayed,
    Throttled,
    Unclaimed,
    Unknown,
    encode,
)
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import JournalError, JournalMoved
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

S: Final = 1_000_000
LIMITS: Final = QuotaLimits(expiry_day_s=50, expiry_slack_s=5)
OPENED: Final = Opened("https://api-01.moengage.com", 1.0)


def folded(*events: Event, at: float = 10, state: WorkspaceState | None = None) -> WorkspaceState:
    """The state after one more batch."""
    state = state or WorkspaceState(LIMITS)
    state.fold(batch_after(state, events, at))
    return state


def batch_after(state: WorkspaceState, events: Sequence[Event], at: float) -> Batch:
    return Batch(state.version + 1, f"batch-{state.version + 1}", round(at * S), tuple(events))


def sent(
    job: str = "j", attempt: int = 1, *, name: str = "s", token: str | None = None, op: str = "add", call: str = ""
) -> Reserved:
    operation = {"op": op} if call else {"op": op, "name": name}
    keys = () if call else (name,)
    spends = 0 if call else 1
    return Reserved(job, attempt, operation, spends, 5 * spends, 0, keys, 3 * S, 7 * S, token_sha256=token, call=call)


def facts(state: WorkspaceState) -> object:
    """All that is known, as a checkpoint would hold it, and who holds which segment."""
    jobs = state.jobs
    return (
        encode([state.snapshot()]),
        dict(jobs.holders),
        dict(jobs.last_sent),
        dict(jobs.tokens),
        list(jobs.records),
        [(one.limit, one.used, one.pending) for one in state.ledger.usage(state.now_us)],
    )


# Folding


def test_a_batch_is_taken_in_once() -> None:
    """One at or below the version changes nothing."""
    state = folded(OPENED, sent())
    before = facts(state)
    for version in (0, 1):
        state.fold(Batch(version, "again", 99 * S, (sent("k"),)))
    assert (state.version, state.now_us, facts(state)) == (1, 10 * S, before)
    folded(sent("k", name="t"), at=11, state=state)
    assert (state.version, state.now_us, set(state.jobs.records)) == (2, 11 * S, {"j", "k"})


def test_whose_log_it_is_was_said_first() -> None:
    state = folded(OPENED)
    folded(Opened("https://api-02.moengage.com", 2.0), state=state)
    assert state.opened == OPENED


def test_what_follows_a_checkpoint_in_its_batch_is_taken_in_after_it() -> None:
    before = folded(OPENED, sent())
    state = folded(before.snapshot(), KeyRejected("a", 401))
    assert (state.opened, set(state.jobs.records), state.rejected_keys) == (OPENED, {"j"}, {"a": 401})


def test_a_key_is_rejected_until_it_is_accepted() -> None:
    state = folded(KeyRejected("a", 401), KeyRejected("b", 403), KeyAccepted("unheard of"))
    assert state.rejected_keys == {"a": 401, "b": 403}
    folded(KeyAccepted("a"), state=state)
    assert state.rejected_keys == {"b": 403}


@pytest.mark.parametrize(
    ("event", "grows"),
    [
        (sent("k", name="t"), True),
        (Answered("j", 1, 202, accepted={}), True),
        (Throttled("operations_per_hour", 99 * S), True),
        (KeyRejected("a", 401), True),
        (Unclaimed("c"), True),
        (Claimed("d", 1, for_us=S), False),
        (ClaimsRenewed("w", S), False),
    ],
)
def test_what_may_change_a_decision_makes_the_revision_grow(event: Event, *, grows: bool) -> None:
    """Whoever comes last in line changes nothing for those before."""
    state = folded(sent(), Claimed("c", 1, for_us=S))
    before = state.revision
    folded(event, state=state)
    assert (state.revision > before) is grows


def test_who_was_granted_waits_no_more() -> None:
    state = folded(Claimed("j", 1, for_us=90 * S), Claimed("k", 1, for_us=90 * S))
    folded(sent(), state=state)
    assert list(state.claims.live) == ["k"]


# Bars


def bar(state: WorkspaceState) -> str:
    return str(state.barred or "")


def test_a_log_that_moved_is_barred_until_it_stays() -> None:
    state = folded(OPENED)
    assert bar(state) == ""
    folded(Moved("redis://elsewhere", "id"), state=state)
    assert bar(state) == str(JournalMoved("redis://elsewhere"))
    folded(Stayed(), state=state)
    assert bar(state) == ""


def test_a_log_that_is_copied_into_is_barred_until_all_is_there() -> None:
    state = folded(OPENED)
    folded(Copying("sqlite:///old", "old-id"), state=state)
    assert "sqlite:///old was being copied" in bar(state)
    folded(Copied({"old-id": 7}), state=state)
    assert bar(state) == ""
    assert state.origins == {"old-id": 7}


@pytest.mark.parametrize(("by_s", "ends_at"), [(0, 100), (40, 140)])
def test_a_copy_that_told_how_far_its_clock_was_ahead_is_postponed(by_s: int, ends_at: int) -> None:
    """An earlier version told so at its end. Nothing but that end does it."""
    state = folded(OPENED)
    folded(Copying("sqlite:///old", "old-id"), Throttled("operations_per_hour", 100 * S), state=state)
    folded(Copied({"old-id": 7}, postponed_us=by_s * S), at=60, state=state)
    assert state.ledger.windows[0].throttled_until_us == ends_at * S
    folded(Copied({"old-id": 8}, postponed_us=30 * S), at=61, state=state)  # nothing is being copied
    assert state.ledger.windows[0].throttled_until_us == ends_at * S


def test_what_cannot_be_understood_bars_the_log_before_anything_else() -> None:
    state = folded(Moved("redis://elsewhere", "id"))
    wrong = Throttled("operations_per_hour", "soon")  # type: ignore[arg-type]  # as a damaged entry has it
    with pytest.raises(JournalError, match="version 2 cannot be understood") as caught:
        folded(wrong, state=state)
    assert state.barred is caught.value
    assert state.version == 1
    with pytest.raises(JournalError, match="version 2 cannot be understood"):
        folded(Stayed(), state=state)


# Trying


def test_what_is_taken_back_leaves_no_trace() -> None:
    """A first send, a further one, a second one of the same segment, one with a token, and a read."""
    state = folded(sent("old", token="a" * 64), Unknown("old", 1, "lost"), sent("gone", name="g"))
    folded(NeverSent("gone", 1, "no connection"), at=11, state=state)
    before, revision = facts(state), state.revision
    tries = [
        sent("old", 2, token="b" * 64),
        sent("new"),
        sent("gone", 2, name="g"),
        sent("other", name="o", token="c" * 64),
        sent("l", op="list", call="list"),
    ]
    for count in range(len(tries) + 1):
        for event in tries[:count]:
            state.try_reserve(event, 12 * S)
        for event in tries[:count]:
            if event.keys:
                assert state.jobs.records[event.job].attempt == event.attempt
        state.take_back()
        assert facts(state) == before
        assert state.revision >= revision + 2 * count


def test_the_last_one_tried_is_taken_back_alone() -> None:
    state = folded(OPENED)
    state.try_reserve(sent("a"), 11 * S)
    first = dict(state.jobs.holders), set(state.ledger.rows)
    state.try_reserve(sent("b"), 11 * S)
    assert (state.jobs.holders, set(state.ledger.rows)) == ({"s": "b"}, {"a", "b"})
    revision = state.revision
    state.take_back_last()
    assert (state.jobs.holders, set(state.ledger.rows)) == first
    assert state.revision > revision
    assert state.keep(batch_after(state, [], 11)) is False, "one is still tried"


@pytest.mark.parametrize(
    ("wrong", "at"),
    [("version", 12), ("earlier", 11.999_999), ("fewer", 12), ("more", 12), ("another", 12), ("order", 12)],
)
def test_only_a_batch_of_exactly_what_was_tried_is_kept(wrong: str, at: float) -> None:
    state = folded(OPENED)
    tries = [sent("a", name="a"), sent("b", name="b")]
    for event in tries:
        state.try_reserve(event, 12 * S)
    events = {
        "fewer": tries[:1],
        "more": [*tries, sent("c", name="c")],
        "another": [tries[0], sent("b", name="b")],
        "order": tries[::-1],
    }.get(wrong, tries)
    version = state.version + (2 if wrong == "version" else 1)
    assert not state.keep(Batch(version, "batch", round(at * S), tuple(events)))
    assert (state.version, state.now_us) == (1, 10 * S)
    state.take_back()
    assert state.ledger.rows == {}


@pytest.mark.parametrize("late_s", [0, 4])
def test_what_is_kept_is_as_if_it_had_been_folded(late_s: int) -> None:
    """At the time of the batch, not at that of the trial; the line moves on; nothing is left to take back."""
    tries = [
        sent("j", token="a" * 64),
        sent("k", name="t"),
        sent("l", op="get", call="get"),
        sent("f", op="create_filter", call="create_filter"),
    ]
    tried, plain = (folded(OPENED, Claimed("first", 1, for_us=90 * S), Claimed("j", 1, for_us=90 * S)) for _ in "ab")
    for event in tries:
        tried.try_reserve(event, 12 * S)
    revision = tried.revision
    batch = batch_after(tried, tries, 12 + late_s)
    assert tried.keep(batch)
    plain.fold(batch)
    tried.take_back()
    assert (tried.version, tried.now_us) == (2, (12 + late_s) * S)
    assert list(tried.claims.live) == ["first"]
    assert list(tried.claims.passers) == ["j", "k", "l", "f"]
    assert facts(tried) == facts(plain)
    assert tried.revision == revision + (late_s > 0)


def test_what_became_durable_at_once_changes_no_decision() -> None:
    """It was counted when it was tried; made durable later, it counts until later."""
    for late_s, grows in ((0, False), (1, True)):
        state = folded(OPENED)
        event = sent()
        state.try_reserve(event, 12 * S)
        revision = state.revision
        assert state.keep(batch_after(state, [event], 12 + late_s))
        assert (state.revision > revision) is grows
