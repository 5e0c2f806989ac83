"""Memberships: what a segment is known to hold, folded from the journal's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from moe_segments.core.events import (
    Answered,
    AudienceSynced,
    Batch,
    CallbackReceived,
    Event,
    MembershipForgotten,
    MembershipPlanned,
    NeverSent,
    Reserved,
    SyncHeld,
    SyncReleased,
    Unknown,
    decode,
    encode,
)
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000
START_US = 1_790_000_000 * SECOND


class Log:
    """A journal's events, folded as they would be read again from the disk."""

    def __init__(self) -> None:
        self.state, self.at_us = WorkspaceState(QuotaLimits()), START_US
        self(SyncHeld("me", ("vip",), 10**15))

    def __call__(self, *events: Event) -> None:
        self.at_us += SECOND
        version = self.state.version + 1
        self.state.fold(Batch(version, f"batch-{version}", self.at_us, decode(encode(events))))

    def plan(self, *steps: tuple[str, str, int, tuple[str, ...]], owner: str = "me") -> None:
        membership = self.state.memberships.of.get("vip")
        generation = 1 + (membership.generation if membership else 0)
        fields = [
            {"job": job, "op": op, "rows": rows, "holds": list(holds), "size": 9} for job, op, rows, holds in steps
        ]
        self(MembershipPlanned(owner, "vip", generation, fields))

    def send(self, job: str, op: str = "add", attempt: int = 1, keys: tuple[str, ...] = ("vip",)) -> None:
        operation = {"op": op, "name": keys[0]}
        self(Reserved(job, attempt, operation, operations=1, rows=3, keys=keys, token_sha256=f"{job}/{attempt}"))

    def accept(self, job: str, cs_id: str | None = None) -> None:
        self(Answered(job, 1, 202, accepted={"message": "", "cs_name": "vip", "cs_id": cs_id}))

    def callback(self, job: str, outcome: str = "processed", found: int | None = 3, digest: str = "one") -> None:
        self(CallbackReceived(job, 1, digest, outcome, {"status": 200}, values_found=found))

    @property
    def holds(self) -> tuple[str, ...] | None:
        held = self.state.memberships.known("vip", self.state.jobs)
        return None if held is None else held.holds

    def reopened(self) -> Log:
        checkpoint = decode(encode([self.state.snapshot()]))
        self.state = WorkspaceState(QuotaLimits())
        self.at_us += SECOND
        self.state.fold(Batch(9_999, "checkpoint", self.at_us, checkpoint))
        return self


@pytest.fixture
def log() -> Log:
    return Log()


def created(log: Log) -> Log:
    log.plan(("j1", "create", 3, ("A",)))
    log.send("j1", "create")
    log.accept("j1", "id-1")
    log.callback("j1")
    return log


def test_nothing_is_held_before_the_callback_says_processed(log: Log) -> None:
    log.plan(("j1", "create", 3, ("A",)))
    steps: list[Callable[[], None]] = [lambda: log.send("j1", "create"), lambda: log.accept("j1")]
    steps.append(lambda: log.callback("j1"))
    seen = []
    for step in steps:
        step()
        seen.append(log.holds)
    assert seen == [None, None, ("A",)]


def test_an_add_and_a_remove_are_confirmed_one_by_one(log: Log) -> None:
    created(log)
    log.plan(("j2", "add", 3, ("A", "B")), ("j3", "remove", 3, ("B",)))
    seen = []
    for job, op in (("j2", "add"), ("j3", "remove")):
        log.send(job, op)
        seen.append(log.holds)
        log.callback(job)
        seen.append(log.holds)
    assert seen == [None, ("A", "B"), None, ("B",)]


@pytest.mark.parametrize(("outcome", "found"), [("failed", None), ("unparsed", None), ("processed", 2)])
def test_a_file_that_failed_or_was_read_in_part_makes_members_unknown(
    log: Log, outcome: str, found: int | None
) -> None:
    created(log)
    log.plan(("j2", "add", 3, ("B",)))
    log.send("j2")
    log.callback("j2", outcome, found)
    assert log.holds is None


FOREIGN: dict[str, Callable[[Log], None]] = {
    "in flight": lambda _: None,
    "accepted": lambda log: log.accept("other"),
    "processed": lambda log: log.callback("other"),
    "unknown": lambda log: log(Unknown("other", 1, "no answer")),
}


@pytest.mark.parametrize("fate", FOREIGN)
@pytest.mark.parametrize("key", ["vip", "id:id-1"])
def test_a_send_that_was_not_announced_makes_members_unknown(log: Log, fate: str, key: str) -> None:
    created(log)
    log.send("other", keys=(key,))
    FOREIGN[fate](log)
    assert log.holds is None


@pytest.mark.parametrize("fate", FOREIGN)
def test_an_add_upon_unknown_members_is_no_promotion(log: Log, fate: str) -> None:
    """Even when the other send went between the announcement and the send."""
    created(log)
    log.plan(("j2", "add", 3, ("B",)))
    log.send("other")
    FOREIGN[fate](log)
    log.send("j2")
    log.callback("j2")
    assert log.holds is None


def test_a_replace_makes_unknown_members_known(log: Log) -> None:
    created(log)
    log.send("other")
    log.plan(("j2", "replace", 3, ("B",)))
    log.send("j2", "replace")
    log.callback("j2")
    assert log.holds == ("B",)


def test_a_replace_that_something_followed_is_no_promotion(log: Log) -> None:
    created(log)
    log.plan(("j2", "replace", 3, ("B",)))
    log.send("j2", "replace")
    log.send("other")
    log.callback("j2")
    assert log.holds is None


HARMLESS: dict[str, Callable[[Log, str], None]] = {
    "refused": lambda log, job: log(Answered(job, 1, 400, error={"title": "no"})),
    "not sent": lambda log, job: log(NeverSent(job, 1, "no connection")),
    "to be sent again": lambda log, job: log(NeverSent(job, 1, "no connection", again=True)),
}


@pytest.mark.parametrize("fate", HARMLESS)
def test_a_send_that_did_nothing_leaves_members_known(log: Log, fate: str) -> None:
    created(log)
    log.plan(("j2", "add", 3, ("B",)))
    for job in ("other", "j2"):
        log.send(job)
        HARMLESS[fate](log, job)
    assert log.holds == ("A",)
    log.send("j2", attempt=2)
    log.callback("j2")
    assert log.holds == ("B",)


def test_what_did_nothing_does_not_hide_what_came_before_it(log: Log) -> None:
    created(log)
    log.send("other")
    log.send("refused")
    HARMLESS["refused"](log, "refused")
    assert log.holds is None


def test_the_same_callback_twice_is_one_and_a_different_one_changes_nothing(log: Log) -> None:
    created(log)
    log.callback("j1")
    log.callback("j1", "failed", digest="two")
    assert log.holds == ("A",)


def test_one_plan_replaces_another_and_the_older_send_is_a_foreign_one(log: Log) -> None:
    created(log)
    log.plan(("j2", "add", 3, ("B",)))
    log.plan(("j3", "add", 3, ("C",)))
    log.send("j2")
    log.callback("j2")
    assert log.holds is None


def test_one_owner_at_a_time_plans(log: Log) -> None:
    created(log)
    log(SyncHeld("you", ("vip",), 10**15))
    log.plan(("j2", "add", 3, ("B",)), owner="you")
    log.send("j2")
    log.callback("j2")
    assert log.holds is None
    assert log.state.memberships.worker("vip", log.at_us) == "me"
    log(SyncReleased("you", ("vip",)))
    assert log.state.memberships.worker("vip", log.at_us) == "me"
    log(SyncReleased("me", ("vip",)), SyncHeld("you", ("vip",), 5 * SECOND))
    assert log.state.memberships.worker("vip", log.at_us) == "you"
    assert log.state.memberships.worker("vip", log.at_us + 5 * SECOND) is None


def test_what_is_forgotten_is_unknown(log: Log) -> None:
    created(log)
    log(MembershipForgotten("vip"))
    assert log.holds is None


@pytest.mark.parametrize(
    ("op", "status", "gone"), [("add", 404, {"vip"}), ("remove", 400, {"vip"}), ("add", 401, set())]
)
def test_a_refusal_that_is_about_the_segment_is_remembered(log: Log, op: str, status: int, gone: set[str]) -> None:
    log.send("j1", op)
    log(Answered("j1", 1, status, error={"title": "no"}))
    log.reopened()
    assert set(log.state.gone.of) == gone


def test_a_refusal_of_an_identifier_says_nothing_of_the_name(log: Log) -> None:
    operation = {"op": "add", "name": "vip", "cs_id": "another"}
    log(Reserved("j1", 1, operation, operations=1, rows=3, keys=("vip", "id:another"), token_sha256="j1/1"))
    log(Answered("j1", 1, 404, error={"title": "no"}))
    assert log.state.gone.of == {}


@pytest.mark.parametrize(
    ("op", "status", "gone"),
    [
        *[("create", 202, set()), ("unarchive", 202, set()), ("unarchive", 400, set())],
        *[("unarchive", 404, {"vip"}), ("unarchive", 403, {"vip"}), ("create", 409, {"vip"}), ("add", 403, {"vip"})],
    ],
)
def test_a_refusal_is_forgotten_once_the_service_shows_that_the_segment_is_there(
    log: Log, op: str, status: int, gone: set[str]
) -> None:
    log.send("j1")
    log(Answered("j1", 1, 404, error={"title": "no"}))
    log.send("j2", op)
    if status == 202:
        log.accept("j2")
    else:
        log(Answered("j2", 1, status, error={"title": "no"}))
    assert set(log.state.gone.of) == gone


@pytest.mark.parametrize(("outcome", "gone"), [("processed", set()), ("failed", {"vip"})])
def test_a_callback_without_an_answer_shows_that_the_segment_is_there(log: Log, outcome: str, gone: set[str]) -> None:
    log.send("j1")
    log(Answered("j1", 1, 404, error={"title": "no"}))
    log.send("j2", "create")
    log.callback("j2", outcome)
    assert set(log.state.gone.of) == gone


def test_a_checkpoint_keeps_memberships(log: Log) -> None:
    """Confirmed ones, announced ones, their history and who works on them."""
    created(log)
    log(AudienceSynced("vip", {"added": 3}))
    log.plan(("j2", "add", 3, ("B",)))
    log.reopened()
    assert log.holds == ("A",)
    assert log.state.memberships.worker("vip", log.at_us) == "me"
    history: list[dict[str, Any]] = log.state.memberships.of["vip"].history
    assert [one["added"] for one in history] == [3]
    log.state.version = 9_999
    log.send("j2")
    log.reopened()
    log.state.version = 9_999
    log.callback("j2")
    assert log.holds == ("B",)
