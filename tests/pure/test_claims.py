"""Who stands in the line of a journal, and for how long: first come, first served, until a claim lapses."""

from __future__ import annotations

from typing import Final

import pytest

from moe_segments.core.events import Batch, Claimed, ClaimsRenewed, Event, Reserved, Unclaimed, decode, encode
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits

S: Final = 1_000_000
LIFE_S: Final = 10
LIMITS: Final = QuotaLimits(expiry_day_s=50, expiry_slack_s=5)


class Log:
    """A state, and the batches that follow one another in it."""

    def __init__(self) -> None:
        self.state = WorkspaceState(LIMITS)

    def fold(self, at: float, *events: Event) -> None:
        version = self.state.version + 1
        self.state.fold(Batch(version, str(version), round(at * S), events))

    def line(self, at: float) -> list[str]:
        return [job for job, _ in self.state.claims.standing(round(at * S))]

    def compacted(self) -> Log:
        """A reader that starts from a checkpoint of this one."""
        later, checkpoint = Log(), self.state.snapshot()
        batch = Batch(self.state.version, "checkpoint", self.state.now_us, decode(encode([checkpoint])))
        later.state.fold(batch)
        return later


def claimed(job: str, waiter: str = "w", for_s: float = LIFE_S, **options: object) -> Claimed:
    return Claimed(job, 1, 40, 1, round(for_s * S), waiter=waiter, **options)  # type: ignore[arg-type]


def reserved(job: str, row: str | None = None) -> Reserved:
    attempt = 1 if row is None else int(row.rpartition(".")[2])
    return Reserved(job, attempt, {"op": "add", "name": job}, 1, 40, 0, (job,), 3 * S, 7 * S)


def test_the_line_is_in_the_order_of_the_claims_until_each_lapses() -> None:
    log = Log()
    log.fold(0, claimed("a"))
    log.fold(4, claimed("b"), claimed("c", for_s=1))
    assert log.line(4) == ["a", "b", "c"]
    assert log.line(5 - 0.001) == ["a", "b", "c"]
    assert log.line(5) == ["a", "b"]
    assert log.line(LIFE_S - 0.001) == ["a", "b"]
    assert log.line(LIFE_S) == ["b"]
    assert log.line(4 + LIFE_S) == []


def test_a_claim_made_again_keeps_its_place_and_stands_longer() -> None:
    """Its demand is the first one's; who has lapsed comes last, with what it asks for now."""
    log = Log()
    log.fold(0, claimed("a"), claimed("b", for_s=100))
    log.fold(4, claimed("a", waiter="other"))
    assert log.line(4 + LIFE_S - 0.001) == ["a", "b"]
    assert log.line(4 + LIFE_S) == ["b"]
    log.fold(5, ClaimsRenewed("other", 30 * S))
    assert log.line(35 - 0.001) == ["a", "b"]
    log.fold(35, Claimed("a", 2, 7, 0, LIFE_S * S, waiter="w"))
    assert log.line(35) == ["b", "a"]
    assert log.state.claims.live["a"].demand.cost == Cost(2, 7, 0)


def test_a_waiter_renews_its_own_claims_that_have_not_lapsed() -> None:
    log = Log()
    log.fold(0, claimed("a", "x"), claimed("b", "y"), claimed("c", "x", for_s=5))
    log.fold(5, ClaimsRenewed("x", 20 * S))
    assert log.line(5) == ["a", "b"]
    assert log.line(LIFE_S) == ["a"]
    assert log.line(25 - 0.001) == ["a"]
    assert log.line(25) == []


def test_who_waits_no_more_is_gone_from_the_line() -> None:
    log = Log()
    log.fold(0, claimed("a"), claimed("b"))
    log.fold(1, Unclaimed("a"), Unclaimed("unheard of"))
    assert log.line(1) == ["b"]
    log.fold(2, reserved("b"))
    assert log.line(2) == []


@pytest.mark.parametrize(
    ("job", "at", "passes"),
    [("a", 1, False), ("b", 1, True), ("unclaimed", 1, True), ("b", LIFE_S, False), ("a", LIFE_S, True)],
)
def test_a_row_passed_somebody_if_the_first_who_waited_was_another(job: str, at: float, *, passes: bool) -> None:
    """The first one passes nobody, and who has lapsed is passed by nobody."""
    log = Log()
    log.fold(0, claimed("a"), claimed("b", for_s=100))
    log.fold(at, reserved(job))
    assert list(log.state.claims.passers) == ([job] if passes else [])
    assert job not in log.line(at)


def test_a_checkpoint_keeps_the_line_and_those_who_passed_it() -> None:
    """Each with all that it asked for; not those who have lapsed, nor rows that have ended."""
    log = Log()
    wide = claimed("wide", keys=("s", "id:7"), awaits_callback=False, expiry_days=2, attempt_us=9, call="get")
    log.fold(0, claimed("lapses", for_s=3), claimed("a"), wide)
    log.fold(1, reserved("passes"), reserved("passes", "passes.2"))
    log.fold(3, claimed("b", "x"))
    later = log.compacted()
    for one in (log, later):
        assert one.line(3) == ["a", "wide", "b"]
        assert list(one.state.claims.live) == ["a", "wide", "b"]
        assert list(one.state.claims.passers) == list(log.state.claims.passers)
        demand = one.state.claims.live["wide"].demand
        assert demand.cost == Cost(1, 40, 1, "get")
        assert (demand.keys, demand.awaits_callback) == (("s", "id:7"), False)
        assert (demand.life_us, demand.attempt_us) == ((2 * 50 + 5) * S, 9)
        one.fold(4, ClaimsRenewed("x", 90 * S))
        assert one.line(20) == ["b"]
    assert "passes" in later.state.claims.passers


def test_a_claim_asks_for_nothing_that_it_does_not_name() -> None:
    log = Log()
    log.fold(0, Claimed("a", for_us=S))
    demand = log.state.claims.live["a"].demand
    assert (demand.cost, demand.keys, demand.awaits_callback) == (Cost(0, 0, 0, ""), (), True)
    assert (demand.life_us, demand.attempt_us, log.state.claims.live["a"].waiter) == (None, 0, "")
