"""What do 200 waiters cost from the first grant to the last?

    python -m benchmarks.waiters [--rounds N]

200 tasks ask a governor at once for one operation each, with all the patience there is, where the hour allows ten:
nineteen windows pass in virtual time until the last one leaves. Each settles its operation as soon as it is granted.
Processor time of this process, milliseconds, from the first grant to the last; the median over rounds. The timers are
those that the loop holds in the middle of the wait: with 200 waiters as many as with one, of which one is the
governor's and one the watch over the journal, where other processes' changes would be seen. Bound: 20 ms.

Beside it, without a bound: the same with 20 waiters, times ten, which shows what the length of the line costs.

Then the growth, over 500 to 8,000 waiters: a burst of which half are light and overtake those that wait for users, a
burst of the same, bursts of all sizes, and arrivals one by one with a finite wait. The exponent is that of the
processor time between the smallest and the largest. How far down the line somebody can still leave is chance where the
sizes are mixed, so that there the time is that of three lines in different orders. The longest step is how long one
decision held the loop and the journal, without the interpreter's collections of garbage, which take longer the more
the process holds and may fall into any step. Bounds: an exponent of 1.3, and 50 ms a step.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from benchmarks.asking import accepted, asked, governed
from benchmarks.verdict import state_fact, state_figure
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Question, Replica
from moe_segments.limits import QuotaLimits
from moe_segments.testing import VirtualTimeLoop, journal_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.governor import Governor

T = TypeVar("T")

BOUND_MS: Final = 20.0
WAITERS: Final = 200
FEWER: Final = 20
LIMITS: Final = QuotaLimits(operations_per_day=10**6, users_per_day=10**12)


class CountingLoop(VirtualTimeLoop):
    """A virtual loop that knows its timers."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[asyncio.TimerHandle] = []

    def call_at(  # type: ignore[override]  # the stubs' type variables add nothing here
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As ever, and noted."""
        timer = super().call_at(when, callback, *args, context=context)
        self._timers.append(timer)
        return timer

    def timers(self) -> int:
        """How many are set."""
        self._timers = [timer for timer in self._timers if not timer.cancelled() and timer.when() > self.time()]
        return len(self._timers)


@attrs.frozen
class Found:
    """One run.

    Attributes:
        cpu_s: Processor time from the first to the last grant.
        timers: Timers that were set while all but ten waited.
        order: Who was granted, in order.
    """

    cpu_s: float
    timers: int
    order: list[int]


async def wait_in_line(waiters: int) -> Found:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    order: list[int] = []
    moments: list[float] = []

    async def one(number: int, governor: Governor, replica: Replica) -> None:
        grant = await governor.reserve(asked(f"segment {number}"), max_wait_s=math.inf)
        moments.append(time.process_time())
        order.append(number)
        await replica.record(accepted(grant))

    async with governed(MemoryJournal(clock=journal_clock), LIMITS, clock=loop.time) as (governor, replica):
        waiting = [asyncio.create_task(one(number, governor, replica)) for number in range(waiters)]
        await asyncio.sleep(30)
        timers = loop.timers()
        await asyncio.gather(*waiting)
    return Found(moments[-1] - moments[0], timers, order)


def run(waiters: int) -> Found:
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return runner.run(wait_in_line(waiters))


WIDE: Final = QuotaLimits(operations_per_hour=10**6, operations_per_day=10**6)
SIZES: Final = (500, 2_000, 8_000)
STEP_BOUND_MS, EXPONENT_BOUND = 50.0, 1.3
ORDERS: Final = (7_919, 104_729, 15_485_863)  # of lines with the same sizes


class Collections:
    """Return how long the interpreter has collected garbage so far."""

    taken_s = 0.0

    @classmethod
    def note(cls, phase: str, _: object) -> None:
        """Called at the start and at the end of each."""
        cls.taken_s += time.thread_time() if phase == "stop" else -time.thread_time()


class TimedFollower(Replica):
    """A replica that knows how long a decision took, at most."""

    longest_s = 0.0

    async def ask(self, question: Question[T]) -> T:
        """As ever, and timed."""

        def timed(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], T]:
            began_s, collected_s = time.thread_time(), Collections.taken_s
            try:
                return question(state, now_us)
            finally:
                taken_s = time.thread_time() - began_s - (Collections.taken_s - collected_s)
                TimedFollower.longest_s = max(TimedFollower.longest_s, taken_s)

        return await super().ask(timed)


async def crowd(
    waiters: int, rows: Callable[[int], int], limits: QuotaLimits, *, apart_s: float, wait_s: float
) -> float:
    """Processor time until everybody who asks has left or knows that it waits."""
    clock = asyncio.get_running_loop().time
    journal = MemoryJournal(clock=journal_clock)
    async with governed(journal, limits, clock=clock, follows=TimedFollower) as (governor, replica):

        async def one(number: int) -> None:
            grant = await governor.reserve(asked(f"segment {number}", rows(number)), max_wait_s=wait_s)
            await replica.record(accepted(grant))

        began_s, tasks = time.process_time(), []
        for number in range(waiters):
            tasks.append(asyncio.create_task(one(number)))
            if apart_s:
                await asyncio.sleep(apart_s)
        await asyncio.sleep(1)
        taken_s = time.process_time() - began_s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return taken_s


async def mixed_crowds(waiters: int) -> float:
    """Processor time of a line of all sizes in each of several orders."""

    async def one(order: int) -> float:
        return await crowd(waiters, lambda number: number * order % 400_000, WIDE, apart_s=0, wait_s=math.inf)

    return sum([await one(order) for order in ORDERS])


def show_growth() -> list[bool]:
    """Print the exponent and the longest step of each shape. Returns whether each is within its bounds."""
    within = []
    gc.callbacks.append(Collections.note)
    shapes: dict[str, Callable[[int], Coroutine[Any, Any, float]]] = {
        "burst, light ones overtake heavy ones": lambda size: crowd(
            size, lambda number: 10 if number % 2 else 1_500_000, WIDE, apart_s=0, wait_s=math.inf
        ),
        "burst of the same": lambda size: crowd(size, lambda _: 1_000, QuotaLimits(), apart_s=0, wait_s=math.inf),
        "bursts of all sizes": mixed_crowds,
        "arrivals one by one": lambda size: crowd(
            size, lambda number: 1 + number % 1_000, QuotaLimits(), apart_s=0.001, wait_s=10.0**8
        ),
    }
    for name, shape in shapes.items():
        taken_s = []
        TimedFollower.longest_s = 0.0
        for size in SIZES:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                taken_s.append(runner.run(shape(size)))
        exponent = math.log(taken_s[-1] / taken_s[0]) / math.log(SIZES[-1] / SIZES[0])
        figures = ", ".join(f"{size}: {one_s:.2f} s" for size, one_s in zip(SIZES, taken_s, strict=True))
        print(f"{name}: {figures}")
        within.append(state_figure(f"{name}, exponent", exponent, EXPONENT_BOUND, ""))
        within.append(state_figure(f"{name}, longest step", TimedFollower.longest_s * 1_000, STEP_BOUND_MS, "ms"))
    return within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds: int = parser.parse_args().rounds
    found: defaultdict[int, list[Found]] = defaultdict(list)
    for _ in range(rounds):
        for waiters in (WAITERS, FEWER):
            found[waiters].append(run(waiters))
    alone = run(LIMITS.operations_per_hour + 1).timers
    took_ms = {waiters: statistics.median(one.cpu_s for one in runs) * 1_000 for waiters, runs in found.items()}
    print(f"20 waiters, times ten: {took_ms[FEWER] * 10:.1f} ms")
    timers = max(one.timers for one in found[WAITERS])
    within = [
        state_figure("200 waiters, from the first to the last grant", took_ms[WAITERS], BOUND_MS, "ms"),
        state_fact(f"timers with 190 waiting: {timers}, with one waiting: {alone}", holds=timers == alone),
        state_fact("first come, first served", holds=all(one.order == sorted(one.order) for one in found[WAITERS])),
    ]
    within += show_growth()
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
