"""Those who wait: in order, without starvation, without waste, with one timer, and gone without a trace.

The first half asks the pure decision about any line before any ledger. The second half lets a governor serve lines in
virtual time and looks at when each leaves.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_segments.core.events import (
    Answered,
    Batch,
    CallbackReceived,
    Claimed,
    Event,
    Reserved,
    decode,
    encode,
)
from moe_segments.core.quota.decision import Cost, Granted, Wait
from moe_segments.core.quota.usage import Row, holds_of
from moe_segments.core.state.admission import admit, forecast
from moe_segments.core.state.verdicts import Admitted, Ask, Deferred, TooLarge, Verdict
from moe_segments.core.state.waiting_line import Outlook
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import JournalError, QuotaExceeded
from moe_segments.governor.governor import Governor, Grant, PlannedStart
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.models import AddUsers
from moe_segments.testing import VirtualTimeLoop, journal_clock
from tests.proofs import cases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from typing import Any, NoReturn, Self

    from hypothesis.strategies import SearchStrategy

    from moe_segments.journal import Journal
    from moe_segments.journal.replica import Question

T = TypeVar("T")
SECOND = 1_000_000
HOUR = 3_600.0

# The pure decision

LIMITS = QuotaLimits(
    operations_per_hour=4,
    operations_per_day=9,
    users_per_day=100,
    active_segments=5,
    external_active_margin=0,
    hour_s=60,
    day_s=300,
    guard_s=0,
    count_late_s=20,
    processing_allowance_s=30,
    expiry_day_s=40,
    expiry_slack_s=0,
)
COSTS: SearchStrategy[Cost] = st.builds(
    Cost, st.integers(0, 1), st.sampled_from([0, 0, 10, 40, 70, 100]), st.sampled_from([0, 0, 0, 1]), st.just("")
)
HISTORY = st.lists(st.tuples(st.integers(0, 40), COSTS, st.sampled_from(["ended", "ended", "in flight"])), max_size=12)
SEED = st.integers(0, 10**6)
LINE = st.lists(COSTS, min_size=2, max_size=10)


def asked(number: int, cost: Cost) -> Ask:
    """Somebody in line, with a segment of its own."""
    return Ask(
        token_sha256=f"token {number}",
        job=f"waiting-{number}",
        operation={"op": "add", "name": f"segment-{number}"},
        cost=cost,
        keys=(f"segment-{number}",),
        fence_us=2 * SECOND,
        timeout_us=10 * SECOND,
        expiry_days=1 if cost.segments else None,
    )


def said(state: WorkspaceState, asks: Sequence[Ask], now_us: int) -> list[Verdict]:
    """The verdict on each ask, all of them new."""
    verdicts = admit(state, asks, now_us).verdicts
    return [verdicts[position] for position in range(len(asks))]


class Past:
    """What was sent before anybody waited."""

    def __init__(self, history: list[tuple[int, Cost, str]]) -> None:
        self.state, self.now_us, self.in_flight = WorkspaceState(LIMITS), 1_000 * SECOND, list[Reserved]()
        for number, (passed_s, cost, kind) in enumerate(history):
            self.now_us += passed_s * SECOND
            if not isinstance(self.state.ledger.decide(cost, self.now_us), Granted):
                continue
            job = f"past-{number}"
            ask = asked(number, cost)
            event = Reserved(
                job=job,
                attempt=1,
                operation={"op": "add", "name": job},
                operations=cost.operations,
                rows=cost.rows,
                segments=cost.segments,
                fence_us=ask.fence_us,
                timeout_us=ask.timeout_us,
                expiry_days=ask.expiry_days,
                token_sha256=f"token past {number}",
            )
            self.tell(event)
            if kind == "ended":
                self.tell(Answered(job, 1, 409, error={}))
            else:
                self.in_flight.append(event)

    def tell(self, event: Event) -> None:
        """One batch at this time."""
        self.state.fold(Batch(self.state.version + 1, "b", self.now_us, (event,)))

    def twin(self) -> WorkspaceState:
        """A state of its own that knows the same."""
        state = WorkspaceState(LIMITS)
        text = encode([self.state.snapshot()])
        state.fold(Batch(max(1, self.state.version), "twin", self.now_us, decode(text)))
        return state

    def after(self, ending: Sequence[Reserved]) -> WorkspaceState:
        """What is known when all that is in flight, and *ending*, has ended now.

        What is past its bound has ended there: news of it that comes later stamps it anew, which nobody's passing does.
        """
        state = self.twin()
        self.fold(state, self.now_us, *ending)
        rows = state.ledger.rows
        open_ones = [one for one in self.in_flight if one.row in rows and _is_open(rows[one.row])]
        self.fold(state, self.now_us, *(end for event in (*open_ones, *ending) for end in _ended(event)))
        return state

    @staticmethod
    def fold(state: WorkspaceState, at_us: int, *events: Event) -> None:
        """One batch."""
        state.fold(Batch(state.version + 1, "b", at_us, events))


def _is_open(row: Row) -> bool:
    return all(hold.u_us is None for hold in holds_of(row))


def _ended(event: Reserved) -> list[Event]:
    """The news with which a send ends as soon as it can, its users too."""
    accepted = Answered(event.job, 1, 202, accepted={"cs_name": event.operation["name"]})
    return [accepted, CallbackReceived(event.job, 1, "digest", "processed", {}, event.rows)]


@given(HISTORY, LINE)
@settings(max_examples=cases(400, 20_000), deadline=None, print_blob=True)
def test_whoever_passes_makes_nobody_ahead_start_later(history: list[tuple[int, Cost, str]], line: list[Cost]) -> None:
    """Each who waits, and all before it, keep the starts they had, even if nothing is ever heard of those that passed.

    That is the law of backfilling here. It protects everybody in line and not only the head, so that a start that was
    promised is kept whoever comes later.
    """
    past = Past(history)
    asks = [asked(number, cost) for number, cost in enumerate(line)]
    verdicts = said(past.twin(), asks, past.now_us)
    for place, verdict in enumerate(verdicts):
        if not isinstance(verdict, Deferred):
            continue
        before = [one.event for one in verdicts[:place] if isinstance(one, Admitted)]
        behind = [one.event for one in verdicts[place + 1 :] if isinstance(one, Admitted)]
        waiting = [ask for ask, one in zip(asks[: place + 1], verdicts, strict=False) if isinstance(one, Deferred)]
        state = past.after(before)
        demands = [ask.demand(state) for ask in waiting]
        starts = [start.at_us for start in forecast(state, demands, past.now_us)]
        past.fold(state, past.now_us, *behind)
        known = [(at_us, number) for number, at_us in enumerate(starts) if at_us is not None]
        for at_us, number in sorted(known):
            assert isinstance(state.ledger.decide(waiting[number].cost, at_us), Granted)
            event = _reserved(waiting[number])
            past.fold(state, at_us, event)
            past.fold(state, at_us, *_ended(event))


def _reserved(ask: Ask) -> Reserved:
    operations, rows, segments, _ = ask.cost
    return Reserved(
        job=ask.job,
        attempt=1,
        operation=ask.operation,
        operations=operations,
        rows=rows,
        segments=segments,
        fence_us=ask.fence_us,
        timeout_us=ask.timeout_us,
        expiry_days=ask.expiry_days,
        token_sha256=ask.token_sha256,
    )


def test_many_light_ones_together_do_not_delay_a_heavy_one() -> None:
    """Each by itself would leave the heavy one its start; all of them would not."""
    costs = [Cost(rows=40), Cost(rows=70), *[Cost(rows=10)] * 4]
    past = Past([])
    verdicts = said(past.twin(), [asked(*one) for one in enumerate(costs)], past.now_us)
    assert [isinstance(verdict, Admitted) for verdict in verdicts] == [True, False, True, True, True, False]


@given(HISTORY, LINE)
@settings(max_examples=cases(300, 20_000), deadline=None, print_blob=True)
def test_nothing_that_fits_and_harms_nobody_is_held_back(
    history: list[tuple[int, Cost, str]], line: list[Cost]
) -> None:
    """No waste: who waits does not fit beside those who go, or would delay one who was there before."""
    past = Past(history)
    state, asks = past.twin(), [asked(number, cost) for number, cost in enumerate(line)]
    verdicts = said(state, asks, past.now_us)
    blocked: list[tuple[Cost, int | None]] = []
    for ask, verdict in zip(asks, verdicts, strict=True):
        if isinstance(verdict, Admitted | TooLarge):
            continue
        assert isinstance(verdict, Deferred)
        if isinstance(state.ledger.decide(ask.cost, past.now_us), Wait):
            blocked.append((ask.cost, verdict.wait.until_us))
        else:
            assert blocked, "the first in line fits and was not let go"
            assert any(_shares(ask.cost, cost) for cost, _ in blocked), "it shares no limit with anybody ahead"


def _shares(one: Cost, other: Cost) -> bool:
    return any(mine and theirs for mine, theirs in zip(one, other, strict=True))


@given(HISTORY, LINE)
@settings(max_examples=cases(300, 20_000), deadline=None, print_blob=True)
def test_of_the_same_kind_the_first_goes_first(history: list[tuple[int, Cost, str]], line: list[Cost]) -> None:
    """First come, first served, per limit: nobody passes one who asks for the same."""
    past = Past(history)
    asks = [asked(number, cost) for number, cost in enumerate(line)]
    verdicts = said(past.twin(), asks, past.now_us)
    waiting: set[Cost] = set()
    for ask, verdict in zip(asks, verdicts, strict=True):
        assert not (isinstance(verdict, Admitted) and ask.cost in waiting)
        if isinstance(verdict, Deferred):
            waiting.add(ask.cost)


class Service:
    """A service without latency: each send is answered, and its file processed, in the moment it leaves."""

    def __init__(self, past: Past) -> None:
        self.past, self.state, self.now_us = past, past.twin(), past.now_us
        self.left: dict[str, int] = {}
        self.outlooks: dict[int, Outlook] = {}
        self.seen: set[str] = set()
        self._tell(*(end for event in past.in_flight for end in _ended(event)))

    def _tell(self, *events: Event) -> None:
        self.state.fold(Batch(self.state.version + 1, "s", self.now_us, events))

    def serve(self, lines: list[list[Ask]], chance: random.Random, until_us: float = math.inf) -> None:
        """Let each line, of a process of its own, pass until everybody has left who can before *until_us*."""
        while True:
            wakes_us = self._until_quiet(lines, chance)
            wake_us = min((one for one in wakes_us if one is not None), default=None)
            if wake_us is None or wake_us >= until_us:
                return
            assert wake_us > self.now_us
            self.now_us = wake_us

    def _until_quiet(self, lines: list[list[Ask]], chance: random.Random) -> list[int | None]:
        while True:
            version = self.state.version
            order = chance.sample(range(len(lines)), len(lines))
            wakes_us = [self.pass_over(lines[process], process) for process in order]
            if self.state.version == version:
                return wakes_us

    def pass_over(self, line: list[Ask], process: int) -> int | None:
        """One pass of one process; whoever leaves is answered at once."""
        outlook = self.outlooks.setdefault(process, Outlook())
        step = admit(
            self.state,
            line,
            self.now_us,
            fresh_from=sum(ask.job in self.seen for ask in line),
            outlook=outlook,
            for_us=10**15,
            waiter=f"process {process}",
        )
        self.state.take_back()
        self.seen.update(ask.job for ask in line)
        if step.events:
            self._tell(*step.events)
        for event in step.events:
            if isinstance(event, Reserved):
                self.left[event.job] = self.now_us
                line[:] = [ask for ask in line if ask.job != event.job]
                self._tell(*_ended(event))
        return step.wake_us


@given(HISTORY, LINE, st.integers(1, 3), SEED)
@settings(max_examples=cases(600, 20_000), deadline=None, print_blob=True)
def test_the_forecast_is_what_happens(
    history: list[tuple[int, Cost, str]], line: list[Cost], processes: int, seed: int
) -> None:
    """To the microsecond, for everybody in line, in however many processes."""
    chance = random.Random(seed)
    service = Service(Past(history))
    asks = [asked(number, cost) for number, cost in enumerate(line) if _fits_a_limit(cost)]
    demands = [ask.demand(service.state) for ask in asks]
    planned = {
        ask.job: start.at_us for ask, start in zip(asks, forecast(service.state, demands, service.now_us), strict=True)
    }
    lines: list[list[Ask]] = [[] for _ in range(processes)]
    for ask in asks:
        process = chance.randrange(processes)
        lines[process].append(ask)
        service.pass_over(lines[process], process)
    service.serve(lines, chance)
    assert service.left == {job: at_us for job, at_us in planned.items() if at_us is not None}


@given(HISTORY, st.lists(st.tuples(st.integers(0, 90), COSTS), max_size=12), st.integers(1, 3), SEED)
@settings(max_examples=cases(600, 20_000), deadline=None, print_blob=True)
def test_whoever_comes_later_changes_nothing_for_those_before(
    history: list[tuple[int, Cost, str]],
    arrivals: list[tuple[int, Cost]],
    processes: int,
    seed: int,
) -> None:
    """Each leaves in the very microsecond that was forecast when it came, whoever comes after it."""
    chance = random.Random(seed)
    service = Service(Past(history))
    lines: list[list[Ask]] = [[] for _ in range(processes)]
    promised: dict[str, int | None] = {}
    for number, (passed_s, cost) in enumerate(arrivals):
        comes_us = service.now_us + passed_s * SECOND
        service.serve(lines, chance, comes_us + 1)
        service.now_us = comes_us
        if not _fits_a_limit(cost):
            continue
        ask = asked(number, cost)
        (start,) = forecast(service.state, [ask.demand(service.state)], service.now_us)
        promised[ask.job] = start.at_us
        process = chance.randrange(processes)
        lines[process].append(ask)
        service.pass_over(lines[process], process)
    service.serve(lines, chance)
    assert service.left == {job: at_us for job, at_us in promised.items() if at_us is not None}


def _fits_a_limit(cost: Cost) -> bool:
    return cost.rows <= LIMITS.users_per_day


# A governor, in virtual time


class CountingLoop(VirtualTimeLoop):
    """Knows every timer that a governor set."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []
        self.most_alive = 0

    def call_at(  # type: ignore[override]  # the stubs' type variables add nothing here
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As ever, and noted."""
        handle = super().call_at(when, callback, *args, context=context)
        if "Governor" in getattr(callback, "__qualname__", ""):
            self.timers = [timer for timer in self.timers if not timer.cancelled() and timer.when() > self.time()]
            self.timers.append(handle)
            self.most_alive = max(self.most_alive, len(self.timers))
        return handle


def virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, CountingLoop]:
    """Run *main* to its end, which comes within sixty days. Returns what it returned, and its loop."""

    async def ending() -> T:
        async with asyncio.timeout(60 * 24 * HOUR):
            return await main()

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        return runner.run(ending()), loop


class Desk:
    """A governor, and a service that answers at once."""

    def __init__(
        self, limits: QuotaLimits, journal: MemoryJournal | None = None, *, follows: type[Replica] = Replica
    ) -> None:
        self.replica = follows(journal or MemoryJournal(clock=journal_clock), limits)
        self.governor = Governor(self.replica, limits, clock=asyncio.get_running_loop().time)
        self.left: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        await self.replica.open()
        await self.governor.open("https://api-01.moengage.com", on_lost_journal="wait", announce=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.governor.close()
        await self.replica.close()

    async def reserve(self, job: str, cost: Cost, max_wait_s: float = math.inf, *, has_token: bool = False) -> Grant:
        """Wait for leave."""
        ask = Ask(
            job=job,
            operation={"op": "add", "name": job},
            cost=cost,
            keys=(job,),
            fence_us=30 * SECOND,
            timeout_us=60 * SECOND,
            token_sha256=f"token-{job}" if has_token else None,
        )
        grant = await self.governor.reserve(ask, max_wait_s=max_wait_s)
        assert grant is not None
        return grant

    async def send(self, job: str, cost: Cost, max_wait_s: float = math.inf) -> None:
        """Wait for leave, and be answered at once."""
        grant = await self.reserve(job, cost, max_wait_s)
        self.left[job] = asyncio.get_running_loop().time()
        await self.replica.record(Answered(grant.job, grant.attempt, 202, accepted={}))

    async def used(self) -> int:
        """What counts for the hour."""
        return (await self.governor.usage())["operations_per_hour"].used


AT_ONCE = QuotaLimits(guard_s=0, processing_allowance_s=0, users_per_day=100, operations_per_day=40)
WEIGHTS = (0, 0, 1, 10, 40, 90, 100)


def line_of(chance: random.Random, size: int) -> list[tuple[float, Cost]]:
    """Arrivals: when, and for what."""
    moments = sorted(round(chance.uniform(0, 3 * HOUR), 3) for _ in range(size))
    return [(moment, Cost(1, chance.choice(WEIGHTS))) for moment in moments]


async def served(arrivals: list[tuple[float, Cost]]) -> dict[str, float]:
    """When each of them left."""
    async with Desk(AT_ONCE) as desk:

        async def one(number: int, at_s: float, cost: Cost) -> None:
            await asyncio.sleep(at_s)
            await desk.send(f"job-{number}", cost)

        await asyncio.gather(*(one(number, at_s, cost) for number, (at_s, cost) in enumerate(arrivals)))
        return desk.left


def test_what_a_governor_says_is_what_it_does() -> None:
    """A refusal, a plan and the start agree to the microsecond, also with another process's waiters in line."""

    async def main(seed: int) -> int:
        chance = random.Random(seed)
        async with two_desks() as desks:
            loop, tasks = asyncio.get_running_loop(), []
            promised: dict[str, float] = {}
            refusals: list[tuple[QuotaExceeded, PlannedStart]] = []
            for number, (at_s, cost) in enumerate(line_of(chance, 25)):
                await asyncio.sleep(max(0.0, at_s - loop.time()))
                desk, job = chance.choice(desks), f"job-{number}"
                (plan,) = await desk.governor.plan([_adding(job, cost)])
                try:
                    await desk.send(job, cost, 0)
                except QuotaExceeded as error:
                    refusals.append((error, plan))
                    patience_s = plan.wait_s if chance.random() < 0.5 else math.inf
                    with pytest.raises(QuotaExceeded):
                        await desk.send(job, cost, plan.wait_s - 0.000_002)
                    tasks.append(asyncio.ensure_future(desk.send(job, cost, patience_s + 0.000_001)))
                    await asyncio.sleep(0)
                promised[job] = loop.time() + plan.wait_s
            await asyncio.gather(*tasks)
            left = desks[0].left | desks[1].left
            assert left == pytest.approx(promised, abs=1.1e-6)
        for refusal, said_before in refusals:
            facts = refusal.ready_at, refusal.wait_s, refusal.limit
            assert facts == (said_before.start, said_before.wait_s, said_before.limit)
            assert refusal.used + refusal.requested > refusal.capacity
        return len(refusals)

    assert sum(virtually(partial(main, seed))[0] for seed in range(cases(15, 400))) > 50


def _adding(name: str, cost: Cost) -> AddUsers:
    return AddUsers(name=name, attribute_name="ID", attribute_type="string", file_url="https://h/f", rows=cost.rows)


def test_whoever_comes_later_does_not_make_the_head_of_the_line_leave_later() -> None:
    """The first who has to wait leaves when it would have left had nobody come after it."""
    delayed = 0
    for seed in range(cases(20, 200)):
        arrivals = line_of(random.Random(seed), 30)
        with_all, _ = virtually(partial(served, arrivals))
        head = next((n for n, (at_s, _) in enumerate(arrivals) if with_all[f"job-{n}"] > at_s + 0.01), None)
        if head is None:
            continue
        until_head, _ = virtually(partial(served, arrivals[: head + 1]))
        assert with_all[f"job-{head}"] <= until_head[f"job-{head}"] + 0.01, f"seed {seed}"
        delayed += with_all[f"job-{head}"] > arrivals[head][0] + HOUR
    assert delayed > 0


def test_nobody_starves_and_equals_keep_their_order() -> None:
    """All are served; among those who ask for the same, in the order they came."""
    for seed in range(cases(10, 150)):
        arrivals = line_of(random.Random(seed), 40)
        left, loop = virtually(partial(served, arrivals))
        assert len(left) == len(arrivals)
        for cost in {cost for _, cost in arrivals}:
            moments = [left[f"job-{n}"] for n, (_, other) in enumerate(arrivals) if other == cost]
            assert moments == sorted(moments), f"seed {seed}"
        assert loop.most_alive <= 1


def test_a_stream_of_light_ones_does_not_starve_a_heavy_one() -> None:
    """It leaves on the second it was promised, however many small ones come meanwhile."""

    async def main() -> float:
        async with Desk(AT_ONCE) as desk:
            await desk.send("first", Cost(1, 60))
            heavy = asyncio.ensure_future(desk.send("heavy", Cost(1, 90)))
            light = []
            for number in range(200):
                await asyncio.sleep(600)
                light.append(asyncio.ensure_future(desk.send(f"light-{number}", Cost(1, number % 12))))
            await heavy
            for task in light:
                task.cancel()
            await asyncio.gather(*light, return_exceptions=True)
            return desk.left["heavy"]

    assert virtually(main)[0] == pytest.approx(86_400, abs=0.1)


@asynccontextmanager
async def two_desks() -> AsyncIterator[tuple[Desk, Desk]]:
    """Two governors with queues of their own over one journal, as in two processes."""
    journal = MemoryJournal(clock=journal_clock)
    async with Desk(AT_ONCE, journal) as one, Desk(AT_ONCE, journal) as other:
        yield one, other


@contextmanager
def broken(journal: Journal) -> Iterator[None]:
    """An engine that fails while inside."""

    async def fails(*_: object, **__: object) -> NoReturn:
        raise JournalError("the disk is full")

    works = journal.transact, journal.append
    journal.transact = journal.append = fails  # type: ignore[method-assign]
    try:
        yield
    finally:
        journal.transact, journal.append = works  # type: ignore[method-assign]


async def stream(desk: Desk, count: int, apart_s: float) -> dict[str, float]:
    """Light operations, one after another; when each of them left."""
    light = []
    for number in range(count):
        await asyncio.sleep(apart_s)
        light.append(asyncio.ensure_future(desk.send(f"light-{number}", Cost(1, 1 + number % 12))))
    for task in light:
        task.cancel()
    await asyncio.gather(*light, return_exceptions=True)
    return desk.left


def test_a_stream_of_light_ones_in_another_process_does_not_starve_a_heavy_one() -> None:
    """Its claim stands in the journal, so it leaves on the second it was promised there too."""

    async def main() -> float:
        async with two_desks() as (one, other):
            await one.send("first", Cost(1, 60))
            heavy = asyncio.ensure_future(one.send("heavy", Cost(1, 90)))
            await stream(other, 400, 600)
            await heavy
            return one.left["heavy"]

    assert virtually(main)[0] == pytest.approx(86_400, abs=0.1)


def test_two_heavy_ones_in_two_processes_do_not_wait_for_each_other() -> None:
    """Whoever claimed first goes first, the other a day later."""

    async def main() -> tuple[float, float]:
        async with two_desks() as (one, other):
            await one.send("first", Cost(1, 60))
            heavy = asyncio.ensure_future(one.send("heavy", Cost(1, 90)))
            await asyncio.sleep(10)
            heavier = asyncio.ensure_future(other.send("heavier", Cost(1, 90)))
            await stream(one, 400, 600)
            await asyncio.gather(heavy, heavier)
            return one.left["heavy"], other.left["heavier"]

    first_s, second_s = virtually(main)[0]
    assert first_s == pytest.approx(86_400, abs=0.1)
    assert second_s == pytest.approx(2 * 86_400, abs=0.1)


@pytest.mark.parametrize("how", ["its process died", "it was cancelled"])
def test_a_claim_that_nobody_stands_behind_holds_up_nobody_for_long(how: str) -> None:
    """A claim ends with its waiter; one whose process died lapses."""

    async def main() -> float:
        async with two_desks() as (one, other):
            await one.send("first", Cost(1, 60))
            heavy = asyncio.ensure_future(one.send("heavy", Cost(1, 90)))
            await asyncio.sleep(3_000)
            if how == "its process died":
                (claim,) = one.replica.state.claims.live.values()
                operations, rows, segments, _ = claim.demand.cost
                heavy.cancel()
                await asyncio.gather(heavy, return_exceptions=True)
                await one.replica.record(
                    Claimed("heavy", operations, rows, segments, 1_800 * SECOND)
                )  # nobody ends this one
            heavy.cancel()
            await asyncio.gather(heavy, return_exceptions=True)
            began_s = asyncio.get_running_loop().time()
            await other.send("light", Cost(1, 20))
            return other.left["light"] - began_s

    waited_s = virtually(main)[0]
    assert waited_s == pytest.approx(1_800 if how == "its process died" else 0, abs=1)


def test_a_claim_of_one_that_was_refused_by_a_broken_journal_ends_when_it_works_again() -> None:
    """Nobody stands behind it, and it could not be said when that was so."""

    async def main() -> float:
        async with two_desks() as (one, other):
            await one.send("first", Cost(1, 60))
            heavy = asyncio.ensure_future(one.send("heavy", Cost(1, 90)))
            await asyncio.sleep(10)
            with broken(one.replica.journal):
                with pytest.raises(JournalError, match="full"):
                    await one.reserve("what meets it", Cost(1))
                with pytest.raises(JournalError, match="full"):
                    await heavy
                await asyncio.sleep(60)
            began_s = asyncio.get_running_loop().time()
            await other.send("light", Cost(1, 20))
            return other.left["light"] - began_s

    assert virtually(main)[0] == pytest.approx(0, abs=10)


def test_a_claim_that_is_made_again_is_not_taken_back() -> None:
    """Submitted again under its identifier, it waits where it stood, whatever was still to be said of it."""

    async def main() -> None:
        async with two_desks() as (one, other):
            await one.send("first", Cost(1, 60))
            heavy = asyncio.ensure_future(one.send("heavy", Cost(1, 90)))
            await asyncio.sleep(10)
            with broken(one.replica.journal):
                with pytest.raises(JournalError, match="full"):
                    await one.reserve("what meets it", Cost(1))
                with pytest.raises(JournalError, match="full"):
                    await heavy
            heavy = asyncio.ensure_future(one.send("heavy", Cost(1, 90)))
            await asyncio.sleep(60)
            with pytest.raises(QuotaExceeded):
                await other.send("light", Cost(1, 20), 0)
            heavy.cancel()
            await asyncio.gather(heavy, return_exceptions=True)

    virtually(main)


def test_closing_does_not_wait_for_a_broken_journal() -> None:
    """What could not be written down lapses by itself."""

    async def main() -> float:
        desk = await Desk(AT_ONCE).__aenter__()
        await desk.send("first", Cost(1, 60))
        heavy = asyncio.ensure_future(desk.send("heavy", Cost(1, 90)))
        await asyncio.sleep(10)
        with broken(desk.replica.journal):
            for refused in (desk.reserve("what meets it", Cost(1)), heavy):
                with pytest.raises(JournalError, match="full"):
                    await refused
            began_s = asyncio.get_running_loop().time()
            await desk.__aexit__()
            return asyncio.get_running_loop().time() - began_s

    assert virtually(main)[0] == 0


def test_light_ones_that_come_one_after_another_do_not_delay_a_heavy_one() -> None:
    """They pass at different times, and all of them are still being processed when its own quota is free."""

    async def main(light: int) -> float:
        limits = QuotaLimits(guard_s=0, users_per_day=100)
        async with Desk(limits) as desk:

            async def one(job: str, at_s: float, rows: int, callback_s: float) -> None:
                await asyncio.sleep(at_s)
                grant = await desk.reserve(job, Cost(1, rows), has_token=True)
                desk.left[job] = asyncio.get_running_loop().time()
                await desk.replica.record(Answered(grant.job, 1, 202, accepted={}))
                await asyncio.sleep(callback_s)
                await desk.replica.record(CallbackReceived(grant.job, 1, "digest", "processed", {}, rows))

            await asyncio.gather(
                one("first", 0, 40, 600),
                one("heavy", 10, 70, 0),
                *(one(f"light-{number}", 20 + 10 * number, 10, 5_000) for number in range(light)),
            )
            return desk.left["heavy"]

    assert virtually(partial(main, 0))[0] == pytest.approx(86_400 + 600, abs=0.1)
    assert virtually(partial(main, 6))[0] == pytest.approx(86_400 + 600, abs=0.1)


def test_two_hundred_wait_with_one_timer_and_leave_in_order() -> None:
    """No thundering herd: one pass serves whoever can go."""

    async def main() -> dict[str, float]:
        limits = QuotaLimits(guard_s=0, operations_per_day=1_000)
        async with Desk(limits) as desk:
            await asyncio.gather(*(desk.send(f"job-{number}", Cost(1)) for number in range(200)))
            return desk.left

    left, loop = virtually(main)
    assert list(left) == [f"job-{number}" for number in range(200)]
    for number, moment in enumerate(left.values()):
        assert moment == pytest.approx(number // 10 * HOUR, abs=0.1)
    assert loop.most_alive == 1


class CountingReplica(Replica):
    """A replica that knows how many decisions it made."""

    decisions = 0

    async def ask(self, question: Question[T]) -> T:
        """As ever, and counted."""
        self.decisions += 1
        return await super().ask(question)


def test_a_long_line_is_not_gone_through_again_for_what_it_granted_itself() -> None:
    """A pass knows its own grants, and goes on with whoever came since, so that few decisions serve a long line."""

    async def main() -> int:
        limits = QuotaLimits(operations_per_hour=10**6, operations_per_day=10**6)
        async with Desk(limits, follows=CountingReplica) as desk:
            tasks = [
                asyncio.create_task(desk.send(f"job-{number}", Cost(1, number * 7_919 % 400_000)))
                for number in range(2_000)
            ]
            await asyncio.sleep(1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(desk.replica, CountingReplica)
            return desk.replica.decisions

    assert virtually(main)[0] <= 45


def test_an_arrival_costs_the_same_behind_a_long_line() -> None:
    """Whoever comes last looks at nobody ahead: its place is behind them, and the schedule was made before."""

    async def main(ahead: int) -> int:
        calls = 0

        def count(_frame: object, what: str, _argument: object) -> None:
            nonlocal calls
            calls += what == "call"

        async with Desk(QuotaLimits()) as desk:
            tasks = [asyncio.create_task(desk.send(f"job-{number}", Cost(1, 10), 10.0**8)) for number in range(ahead)]
            await asyncio.sleep(1)
            tasks.append(asyncio.create_task(desk.send("the first to come alone", Cost(1, 10), 10.0**8)))
            await asyncio.sleep(1)
            before = sys.getprofile()
            sys.setprofile(count)
            tasks.append(asyncio.create_task(desk.send("last", Cost(1, 10), 10.0**8)))
            await asyncio.sleep(0.001)
            sys.setprofile(before)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return calls

    assert virtually(partial(main, 1_000))[0] <= 1.2 * virtually(partial(main, 100))[0]


def test_a_wait_longer_than_allowed_is_refused_at_once_and_never_at_its_end() -> None:
    """Whoever may wait for long enough is served; whoever may not hears so in the same moment."""

    async def main(arrivals: list[tuple[float, Cost, float]]) -> tuple[int, int]:
        granted = refused = 0
        async with Desk(AT_ONCE) as desk:
            loop = asyncio.get_running_loop()

            async def one(number: int, at_s: float, cost: Cost, patience_s: float) -> None:
                nonlocal granted, refused
                await asyncio.sleep(at_s)
                begun_s = loop.time()
                try:
                    await desk.send(f"job-{number}", cost, patience_s)
                except QuotaExceeded as error:
                    still_s, waited_s = error.wait_s, loop.time() - begun_s
                    refused += 1
                else:
                    assert loop.time() - begun_s <= patience_s + 0.01
                    granted += 1
                    return
                assert waited_s < 0.01
                assert still_s > patience_s - waited_s

            await asyncio.gather(*(one(number, *arrival) for number, arrival in enumerate(arrivals)))
        return granted, refused

    for seed in range(cases(20, 600)):
        chance = random.Random(seed)
        patience = (0.0, 60.0, HOUR, 5 * HOUR, 86_400.0)
        line = line_of(chance, 30)
        arrivals = [(at_s, cost, chance.choice(patience)) for at_s, cost in line]
        (granted, refused), _ = virtually(partial(main, arrivals))
        assert granted + refused == len(arrivals), f"seed {seed}"


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_waiter_that_is_cancelled_at_any_step_leaves_no_trace(who: int) -> None:
    """At every turn of the loop, from its arrival until long after its grant: nothing counts for it."""

    async def main(turns: int) -> tuple[int, int]:
        async with Desk(QuotaLimits(guard_s=0, operations_per_hour=2)) as desk:
            await desk.send("a", Cost(1))
            await desk.send("b", Cost(1))
            tasks = [asyncio.ensure_future(desk.reserve(f"waiting-{n}", Cost(1))) for n in range(3)]
            if turns >= 30:  # around the grant
                await asyncio.sleep(HOUR)
            for _ in range(turns % 30):
                await asyncio.sleep(0)
            tasks[who].cancel()
            await asyncio.gather(tasks[who], return_exceptions=True)
            await asyncio.sleep(60 if turns >= 30 else HOUR + 60)
            granted = [task for task in tasks if task.done() and not task.cancelled()]
            used = await desk.used()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return len(granted), used

    for turns in range(60):
        (granted, used), _ = virtually(partial(main, turns))
        assert used == granted == 2, f"cancelled after {turns} turns"


def test_the_last_waiter_to_leave_takes_the_timer_along() -> None:
    """Also where nothing else happens: nobody is waited for, and no journal is watched for nobody."""

    async def main() -> list[asyncio.TimerHandle]:
        async with Desk(QuotaLimits(guard_s=0)) as desk:
            for number in range(10):
                await desk.send(f"first-{number}", Cost(1))
            task = asyncio.ensure_future(desk.reserve("waiting", Cost(1)))
            await asyncio.sleep(60)
            running = len(asyncio.all_tasks())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(1)
            assert len(asyncio.all_tasks()) <= running - 2  # the waiter and the watch over the journal
            return timers_alive()

    assert virtually(main)[0] == []


def timers_alive() -> list[asyncio.TimerHandle]:
    """The governor's timers that are still to come."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    return [timer for timer in loop.timers if not timer.cancelled() and timer.when() > loop.time()]


def test_everybody_leaving_at_once_leaves_no_timer_and_nothing_reserved() -> None:
    """Half of them in the very turn in which they are granted."""

    async def main() -> tuple[int, int]:
        async with Desk(QuotaLimits(guard_s=0)) as desk:
            for number in range(10):
                await desk.send(f"first-{number}", Cost(1))
            tasks = [asyncio.ensure_future(desk.reserve(f"waiting-{n}", Cost(1))) for n in range(50)]
            await asyncio.sleep(HOUR)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(1)
            kept = sum(not task.cancelled() for task in tasks)
            return len(timers_alive()), await desk.used() - kept

    assert virtually(main)[0] == (0, 0)
