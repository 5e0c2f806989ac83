"""The ledger against seven independent ideas of how a service may count.

A history is played by two processes over one log, each entry written as text and read back. Then every model is told
when the service counted what; the six that count exactly must never have had to answer 429. The seventh, the weighted
counter of two windows, is an approximation: nobody who does not know its windows can satisfy it, so its objections are
counted and shown (`-s`), never asserted; the governor meets them by rule 13.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moe_segments.core.quota.decision import Cost, Granted
from tests.proofs import cases, say
from tests.proofs.calls import CallWorld, play_calls
from tests.proofs.services import ASSERTED, MinuteBuckets
from tests.proofs.worlds import PROCESSES, SECOND, Sent, World, play, profile_for, sharpest_guard_s

if TYPE_CHECKING:
    from moe_segments.core.state.workspace import WorkspaceState

STEPS = 40
HISTORIES = cases(60, 2_000)


def played(seed: int, guard_s: float) -> tuple[World, str]:
    """A history from its seed."""
    chance = random.Random(seed)
    world = World(profile_for(chance, guard_s))
    return world, play(world, chance, STEPS)


@pytest.mark.parametrize("model", ASSERTED)
def test_no_history_makes_this_service_answer_429(model: str) -> None:
    """Whatever the latencies, crashes, late counts, clocks and repetitions; with the smallest guard that suffices."""
    admissions = refusals = weighted = 0
    for seed in range(HISTORIES):
        chance = random.Random(f"{model} {seed}")
        sharp_s = sharpest_guard_s(model)
        world, _ = played(seed, chance.choice((sharp_s, sharp_s, sharp_s + 5, 60.0)))
        try:
            weighted += world.judge([model])["weighted counter"]
            world.quiesce()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        admissions, refusals = admissions + world.admissions, refusals + world.refusals
    say(f"{model}: {HISTORIES} histories, {admissions} admitted, {refusals} refused, {weighted} weighted objections")
    assert refusals > admissions / 10  # or the limits never bound, and nothing was shown


@pytest.mark.parametrize("model", ASSERTED)
def test_no_history_of_calls_makes_this_service_answer_429(model: str) -> None:
    """Lists, gets and creates of filter segments, in pools that are shared or not; with the smallest guard too."""
    admissions = refusals = 0
    for seed in range(HISTORIES):
        chance = random.Random(f"calls {model} {seed}")
        world = CallWorld(chance, chance.choice((sharpest_guard_s(model), sharpest_guard_s(model) + 5, 60.0)))
        play_calls(world, 2 * STEPS)
        assert world.objections(model) == 0, f"seed {seed}"
        world.quiesce()
        admissions, refusals = admissions + world.admissions, refusals + world.refusals
    say(f"{model}: {HISTORIES} histories of calls, {admissions} admitted, {refusals} refused")
    assert refusals > admissions / 10  # or the limits never bound, and nothing was shown


def test_without_a_guard_a_service_of_whole_minutes_does_object_to_calls() -> None:
    """The proof can fail."""
    objecting = 0
    for seed in range(60):
        world = CallWorld(random.Random(f"calls {seed}"), 0.0)
        play_calls(world, 2 * STEPS)
        objecting += world.objections("minute buckets") > 0
    assert objecting > 10


def test_the_same_seed_gives_the_same_history() -> None:
    """So a failure can be repeated."""
    for seed in range(20):
        (one, trace), (other, again) = played(seed, 60.0), played(seed, 60.0)
        assert trace == again
        assert one.log == other.log


def test_without_a_guard_a_counter_of_whole_minutes_does_object() -> None:
    """The proof can fail: its models object as soon as a rule is not kept."""
    objecting = 0
    for seed in range(60):
        world, _ = played(seed, 0.0)
        assert "minute buckets" not in world.profile.models
        try:
            world.judge(["minute buckets"])
        except AssertionError:
            objecting += 1
    assert objecting > 10


def test_minute_buckets_keep_a_hit_for_up_to_a_minute_longer() -> None:
    """The very case: ten at the end of a minute, and one more an hour later."""
    service = MinuteBuckets(10, 3_600 * SECOND)
    assert not any(service.objects(59 * SECOND, 1) for _ in range(10))
    assert service.objects(3_659 * SECOND - 1, 1)
    assert not MinuteBuckets(10, 3_600 * SECOND).objects(0, 10)


class ServiceMachine(RuleBasedStateMachine):
    """The same steps, drawn and shrunk by hypothesis, before all the models at once."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World

    @initialize(seed=st.integers(0, 2**16), guard_s=st.sampled_from([0.0, 5.0, 60.0, 60.0]))
    def begin(self, seed: int, guard_s: float) -> None:
        self.world = World(profile_for(random.Random(seed), guard_s))

    @rule(part=st.sampled_from([0.01, 0.3, 1.0, 1.2]), of=st.integers(0, 4))
    def wait(self, part: float, of: int) -> None:
        limits, profile = self.world.limits, self.world.profile
        lengths_s = (profile.fence_s, profile.timeout_s, limits.count_late_s, limits.hour_s, limits.day_s)
        self.world.wait(round(part * lengths_s[of] * SECOND))

    @rule(
        process=st.integers(0, PROCESSES - 1),
        rows=st.sampled_from([0, 1, 20, 40, 100]),
        segments=st.integers(0, 1),
        lean=st.tuples(st.sampled_from([0.0, 1.0, 0.37]), st.sampled_from([0.0, 1.0, 0.37])),
        has_token=st.booleans(),
        sends=st.booleans(),
    )
    def reserve(
        self, process: int, rows: int, segments: int, lean: tuple[float, float], *, has_token: bool, sends: bool
    ) -> None:
        if self.world.reserve(process, rows, segments, lean, has_token=has_token) and sends:
            self.world.send(self.world.sends[-1])

    @rule()
    def wait_as_promised(self) -> None:
        self.world.wait_as_promised()

    @precondition(lambda self: self.world.sends)
    @rule(which=st.integers(0, 9))
    def send(self, which: int) -> None:
        self.world.send(self._sent(which))

    @precondition(lambda self: self.world.sends)
    @rule(which=st.integers(0, 9))
    def never(self, which: int) -> None:
        self.world.never(self._sent(which))

    @precondition(lambda self: self.world.sends)
    @rule(which=st.integers(0, 9), status=st.sampled_from([202, 202, 409, 400]))
    def answer(self, which: int, status: int) -> None:
        self.world.answer(self._sent(which), status)

    @precondition(lambda self: self.world.sends)
    @rule(which=st.integers(0, 9))
    def lose(self, which: int) -> None:
        self.world.lose(self._sent(which))

    @precondition(lambda self: self.world.sends)
    @rule(
        which=st.integers(0, 9),
        outcome=st.sampled_from(["processed", "processed", "failed", "unparsed"]),
        found=st.sampled_from([0, 10, 30, 60, 140]),
    )
    def callback(self, which: int, outcome: str, found: int) -> None:
        self.world.callback(self._sent(which), outcome, found)

    @precondition(lambda self: self.world.sends)
    @rule(which=st.integers(0, 9))
    def repeat(self, which: int) -> None:
        self.world.repeat(self._sent(which))

    @rule(
        process=st.integers(0, PROCESSES - 1),
        capacity=st.none() | st.integers(1, 4),
        from_checkpoint=st.booleans(),
    )
    def crash(self, process: int, capacity: int | None, *, from_checkpoint: bool) -> None:
        most = self.world.profile.limits.operations_per_hour
        self.world.crash(process, capacity and min(capacity, most), from_checkpoint=from_checkpoint)

    @rule(process=st.integers(0, PROCESSES - 1))
    def compact(self, process: int) -> None:
        self.world.compact(process)

    @rule(by_s=st.sampled_from([1, 60, 3_600]))
    def set_clock_back(self, by_s: int) -> None:
        self.world.set_clock_back(by_s * SECOND)

    @rule(process=st.integers(0, PROCESSES - 1), operations=st.integers(0, 2), rows=st.sampled_from([0, 50]))
    def spend_elsewhere(self, process: int, operations: int, rows: int) -> None:
        self.world.spend_elsewhere(process, operations, rows)

    @invariant()
    def processes_agree_on_what_they_have_read(self) -> None:
        one, other = self.world.processes
        if one.version == other.version:
            assert _shown(one) == _shown(other)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            weighted = self.world.judge(self.world.profile.models)["weighted counter"]
            event(f"weighted counter objects: {weighted > 0}")
            self.world.quiesce()

    def _sent(self, which: int) -> Sent:
        sends = self.world.sends
        return sends[-1 - which % len(sends)]


def _shown(state: WorkspaceState) -> object:
    return sorted(state.ledger.rows), {job: record.state for job, record in state.jobs.records.items()}


TestServiceMachine = ServiceMachine.TestCase
TestServiceMachine.settings = settings(
    max_examples=cases(60, 2_000),
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_decision_changes_nothing_but_the_passing_of_time() -> None:
    """Asking twice is asking once."""
    for seed in range(cases(20, 200)):
        world, _ = played(seed, 60.0)
        state = world.processes[0]
        before = state.ledger.usage(world.seen_us)
        first = state.ledger.decide(Cost(1, 10, 1), world.seen_us)
        assert state.ledger.decide(Cost(1, 10, 1), world.seen_us) == first
        assert state.ledger.usage(world.seen_us) == before
        assert isinstance(state.ledger.decide(Cost(), world.seen_us), Granted)
