"""What each event makes of a job and of the segment it keeps busy, in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import AddUsers, CreateFileSegment, UpdateFilterSegment
from moe_segments.core.events import (
    Adopted,
    Answered,
    CallbackReceived,
    Event,
    NeverSent,
    OwnerGone,
    Planned,
    Reserved,
    RunStarted,
    Unknown,
)
from moe_segments.core.state.jobs import KEEP_DAYS, JobRecord, Jobs, recalled, remembered, segment_keys
from moe_segments.limits import QuotaLimits
from moe_segments.models import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

S: Final = 1_000_000
LATE, ALLOWANCE = 20, 200
OVER: Final = 3 + 7  # fence, time-out
DAY_US: Final = 86_400 * S
TOKEN: Final = "a" * 64


def jobs(*events: Event, at: float = 0) -> Jobs:
    one = Jobs(QuotaLimits(count_late_s=LATE, processing_allowance_s=ALLOWANCE))
    fold(one, at, *events)
    return one


def fold(one: Jobs, at: float, *events: Event) -> None:
    for event in events:
        one.fold(event, round(at * S))


def sent(job: str = "j", attempt: int = 1, *, name: str = "s", token: str | None = None, **options: Any) -> Reserved:
    keys = options.pop("keys", (name,))
    operation = {"op": "add", "name": name}
    return Reserved(job, attempt, operation, 1, 1, 0, keys, 3 * S, 7 * S, token_sha256=token, **options)


def accepted(job: str = "j", attempt: int = 1, cs_id: str | None = None) -> Answered:
    return Answered(job, attempt, 202, accepted={} if cs_id is None else {"cs_id": cs_id})


def busy_until(one: Jobs, key: str = "s") -> float:
    """When the segment is free, seconds; 0 when it is."""
    record = one.holder((key,), 0)
    return 0 if record is None else record.busy_until_us / S


@pytest.mark.parametrize(
    ("event", "state", "busy", "busy_with_callback"),
    [
        (None, JobState.RESERVED, OVER + LATE, OVER + LATE + ALLOWANCE),
        (accepted(), JobState.ACCEPTED, 0, 5 + ALLOWANCE),
        (Answered("j", 1, 400, error={"title": "no"}), JobState.REFUSED, 0, 0),
        (Answered("j", 1, 200, problem="no JSON"), JobState.UNKNOWN, 5 + LATE, 5 + LATE + ALLOWANCE),
        (Unknown("j", 1, "lost", 502), JobState.UNKNOWN, 5 + LATE, 5 + LATE + ALLOWANCE),
        (NeverSent("j", 1, "no connection"), JobState.NOT_SENT, 0, 0),
        (NeverSent("j", 1, "a 429", again=True), JobState.PLANNED, 0, 0),
        (OwnerGone("j", 1), JobState.UNKNOWN, OVER + LATE, OVER + LATE + ALLOWANCE),
        (Adopted("j", 1, "7"), JobState.ACCEPTED, 0, 5 + ALLOWANCE),
        (CallbackReceived("j", 1, "d", "processed", {}), JobState.PROCESSED, 0, 0),
        (CallbackReceived("j", 1, "d", "failed", {}), JobState.FAILED, 0, 0),
        (Unknown("j", 2, "of another send"), JobState.RESERVED, OVER + LATE, OVER + LATE + ALLOWANCE),
        (Unknown("k", 1, "of another job"), JobState.RESERVED, OVER + LATE, OVER + LATE + ALLOWANCE),
    ],
)
def test_what_an_event_makes_of_a_send(event: Event | None, state: str, busy: float, busy_with_callback: float) -> None:
    """Its state since then, and how long its segment is busy, without a callback to come and with one."""
    for token, until in ((None, busy), (TOKEN, busy_with_callback)):
        one = jobs(sent(token=token))
        if event is not None:
            fold(one, 5, event)
        record = one.records["j"]
        assert (record.state, busy_until(one)) == (state, until)
        assert record.since_us == (0 if state == JobState.RESERVED else 5 * S)
        assert record.settled is (record.terminal or (state == JobState.ACCEPTED and token is None))
        assert (one.holder(("s",), round(until * S)), one.holder(("t",), 0)) == (None, None)
        if until:
            assert one.holder(("s",), round(until * S) - 1) is record


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Answered("j", 1, 200, problem="no JSON"), "no JSON"),
        (Answered("j", 1, 200), "the answer could not be read"),
        (Unknown("j", 1, "lost", 502), "lost"),
        (NeverSent("j", 1, "no connection"), "no connection"),
        (OwnerGone("j", 1), "the process that was sending it is gone"),
        (Answered("j", 1, 400, error={}), None),
        (accepted(), None),
    ],
)
def test_a_doubt_has_its_reason(event: Event, reason: str | None) -> None:
    assert jobs(sent(), event).records["j"].reason == reason


def test_a_job_that_ends_gives_back_what_it_holds_itself() -> None:
    """Another one that was sent to the same segment after it holds it for as long as it runs."""
    one = jobs(sent("j", keys=("s", "t")), sent("k", name="s"))
    assert one.holders == {"s": "k", "t": "j"}
    fold(one, 1, Answered("j", 1, 400, error={}))
    assert one.holders == {"s": "k"}
    assert one.holder(("s",), 2 * S) is one.records["k"]
    fold(one, 2, Answered("k", 1, 400, error={}))
    assert one.holders == {}


def test_silence_is_a_doubt_once_the_attempt_must_be_over() -> None:
    record = jobs(sent()).records["j"]
    assert record.state_at(OVER * S - 1) == JobState.RESERVED
    assert record.state_at(OVER * S) == JobState.UNKNOWN
    assert not record.may_have_worked_at(OVER * S - 1)
    assert record.may_have_worked_at(OVER * S)


def test_a_later_send_that_never_left_leaves_the_doubt_of_the_earlier() -> None:
    one = jobs(sent(), sent(attempt=2, duplicate_possible=True))
    assert one.records["j"].may_have_worked_at(0)
    fold(one, 5, NeverSent("j", 2, "no connection"))
    assert one.records["j"].state == JobState.UNKNOWN
    assert "never left: no connection" in (one.records["j"].reason or "")


def test_the_first_callback_stands_and_a_different_one_is_a_conflict() -> None:
    one = jobs(sent(token=TOKEN))
    fold(one, 1, CallbackReceived("j", 1, "?", "unparsed", {}))
    assert (one.records["j"].unparsed, one.records["j"].state) == (True, JobState.RESERVED)
    for digest in ("first", "first", "other", "third"):
        fold(one, 2, CallbackReceived("j", 1, digest, "processed", {"digest": digest}))
    fold(one, 3, CallbackReceived("unheard of", 1, "first", "failed", {}))
    record = one.records["j"]
    assert (record.state, record.result, record.conflicts) == (JobState.PROCESSED, {"digest": "first"}, 2)
    fold(one, 4, accepted(cs_id="7"), Unknown("j", 1, "late"), Adopted("j", 1, "8"), OwnerGone("j", 1))
    assert (record.state, record.accepted, record.adopted) == (JobState.PROCESSED, {"cs_id": "7"}, False)
    assert one.tokens == {TOKEN: ("j", 1)}


@pytest.mark.parametrize("chars", [0, 4_095, 4_096, 4_097, 9_000])
def test_of_a_callback_that_cannot_be_read_the_beginning_is_kept(chars: int) -> None:
    """4,096 characters of it, and a sign that there was more."""
    body = {"reason": "not JSON", "raw": "x" * chars}
    record = jobs(sent(), CallbackReceived("j", 1, "?", "unparsed", body)).records["j"]
    kept = "x" * chars if chars <= 4_096 else "x" * 4_096 + "…"
    assert record.unread == {"reason": "not JSON", "raw": kept}
    assert record.unreadable_reason == "not JSON"
    assert jobs(sent(), CallbackReceived("j", 1, "?", "unparsed", {})).records["j"].unreadable_reason


def test_what_was_given_up_and_answered_all_the_same_is_what_was_answered() -> None:
    """Its process had stalled: nobody knew that it was sent."""
    one = jobs(sent(), NeverSent("j", 1, "past its fence"))
    fold(one, 5, accepted(cs_id="7"))
    assert one.records["j"].state == JobState.ACCEPTED


@pytest.mark.parametrize(
    ("events", "again", "again_if_asked"),
    [
        ((), True, True),
        ((Planned("j", {"op": "add"}),), True, True),
        ((sent(),), False, False),
        ((sent(), accepted()), False, False),
        ((sent(), NeverSent("j", 1, "no connection")), True, True),
        ((sent(), Answered("j", 1, 429, error={})), True, True),
        ((sent(), Answered("j", 1, 400, error={})), False, False),
        ((sent(), Unknown("j", 1, "lost")), False, True),
        ((sent(), Unknown("j", 1, "lost"), sent("k")), False, False),
        ((sent(), Unknown("j", 1, "lost"), sent("k", name="t")), False, True),
        ((sent("k"), sent(), Unknown("j", 1, "lost")), False, True),
    ],
)
def test_what_may_be_sent_again(events: tuple[Event, ...], *, again: bool, again_if_asked: bool) -> None:
    """A doubtful one where that was asked for, and nothing was sent to its segment after it."""
    one = jobs(*events)
    assert one.may_send("j", retry_unknown=False, now_us=5 * S) is again
    assert one.may_send("j", retry_unknown=True, now_us=5 * S) is again_if_asked


@pytest.mark.parametrize(("other_at", "again"), [(19, True), (20, False), (21, False)])
def test_a_segment_is_one_by_its_name_and_by_its_identifier(other_at: float, *, again: bool) -> None:
    """An acceptance said that they are the same: so by which name anything was sent does not matter."""
    one = jobs(sent("first", name="s"), accepted("first", cs_id="7"))
    assert list(one.known_as(("s", "t"))) == ["s", "id:7", "t"]
    assert list(one.known_as(("id:7",))) == ["id:7", "s"]
    sends = [(20, sent("j", keys=("id:7",))), (other_at, sent("k", name="s"))]
    for at, event in sorted(sends, key=lambda send: send[0]):
        fold(one, at, event)
    assert one.holder(("s",), 22 * S) is not None
    assert one.holder(("id:7",), 22 * S) is not None
    fold(one, 23, Unknown("j", 1, "lost"))
    assert one.may_send("j", retry_unknown=True, now_us=24 * S) is again


def test_an_acceptance_without_an_identifier_names_nothing_else() -> None:
    assert jobs(sent(), accepted()).aliases == {}


def test_later_by_as_much_as_it_became_durable_later() -> None:
    one = jobs(sent(), sent("done", name="t"), NeverSent("done", 1, "no connection"), Planned("p", {"op": "add"}))
    one.restamp("j", 4 * S)
    record = one.records["j"]
    assert (record.since_us, record.doubt_us, record.busy_until_us) == (4 * S, 14 * S, 34 * S)


def test_a_read_is_no_job() -> None:
    one = jobs(Reserved("l", 1, {"op": "list"}, 0, 0, 0, (), 3, 7, call="list"))
    assert one.records == {}


def test_a_run_knows_its_jobs_in_order_and_is_begun_once() -> None:
    one = jobs(RunStarted("r", "m.csv", 3), at=1)
    fold(one, 2, RunStarted("r", "again.csv", 9), *(Planned(job, {"op": "add"}, "r", 4) for job in ("a", "b", "a")))
    fold(one, 3, Planned("c", {"op": "add"}, "unheard of", 4))
    run = one.runs["r"]
    assert (run.manifest, run.total, run.started_us, run.jobs) == ("m.csv", 3, S, ["a", "b"])
    assert (one.records["a"].run, one.records["a"].line, one.records["a"].state) == ("r", 4, JobState.PLANNED)


def test_what_ended_is_remembered_for_ninety_days() -> None:
    """With its token, its run and its names; what goes on is remembered for as long as it does."""
    one = jobs(RunStarted("r", "m", 1), RunStarted("empty", "m", 0), Planned("old", {"op": "add"}, "r", 1))
    fold(
        one,
        0,
        sent("old", name="old", token=TOKEN),
        accepted("old", cs_id="1"),
        sent("open", name="open", token="b" * 64),
    )
    fold(one, 0, accepted("open", cs_id="2"), CallbackReceived("old", 1, "d", "processed", {}))
    fold(one, 1, sent("young", name="young"), accepted("young", cs_id="3"))
    kept_us = KEEP_DAYS * DAY_US
    one.prune(kept_us)
    assert set(one.records) == {"old", "open", "young"}
    assert set(one.runs) == {"r", "empty"}
    one.prune(kept_us + 1)
    assert set(one.records) == {"open", "young"}
    assert one.tokens == {"b" * 64: ("open", 1)}
    assert set(one.runs) == {"empty"}
    assert set(one.last_sent) == {"open", "young"}
    assert one.aliases == {"open": "id:2", "id:2": "open", "young": "id:3", "id:3": "young"}


def test_what_is_remembered_of_an_operation_is_an_operation_again() -> None:
    create = CreateFileSegment(
        name="s", attribute_name="ID", attribute_type="string", file_url="https://h/f.csv?sig=x", rows=3, expiry_time=9
    )
    kept = remembered(create)
    assert kept == {
        "op": "create",
        "name": "s",
        "attribute_name": "ID",
        "attribute_type": "string",
        "file_url": "https://h/f.csv",
        "rows": 3,
        "expiry_time": 9,
    }
    assert remembered(recalled({**kept, "checked": {}, "filters": "d"})) == kept
    given = AddUsers(name="s", attribute_name="ID", attribute_type="string", values=["a user"])
    assert remembered(given) == {
        "op": "add",
        "name": "s",
        "attribute_name": "ID",
        "attribute_type": "string",
        "values": True,
    }
    renamed: Mapping[str, object] = {"op": "update_filter", "cs_id": "7"}
    assert isinstance(recalled(renamed), UpdateFilterSegment)


def test_what_an_operation_keeps_busy() -> None:
    options: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "file_url": "https://h/f.csv"}
    assert segment_keys(AddUsers(name="s", **options)) == ("s",)
    assert segment_keys(AddUsers(name="s", cs_id="7", **options)) == ("s", "id:7")
    assert segment_keys(UpdateFilterSegment(cs_id="7", included_filters=())) == ("id:7",)


def test_a_new_record_is_in_nobodys_way() -> None:
    record = JobRecord("j", {}, JobState.PLANNED, 5)
    assert (record.attempt, record.busy_until_us, record.doubt_us, record.conflicts) == (0, 0, 0, 0)
    assert (record.awaits_callback, record.duplicate_possible, record.unparsed, record.adopted) == (False,) * 4


def test_a_send_follows_those_that_were_sent_last_on_its_segment() -> None:
    """Under each of its names; its own earlier attempt is none of them and changes nothing of what it follows."""
    one = jobs(sent("a"), accepted("a"))
    assert one.records["a"].follows == ()
    fold(one, 1, sent("b"), NeverSent("b", 1, "a 429", again=True))
    assert one.records["b"].follows == ("a",)
    fold(one, 2, sent("b", 2))
    assert one.records["b"].follows == ("a",)
    fold(one, 3, accepted("b", 2), sent("c", name="t"), accepted("c"), sent("d", keys=("s", "t")))
    assert one.records["d"].follows == ("b", "c")
