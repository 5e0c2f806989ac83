"""What do 200 waiters cost from the first grant to the last?

    python -m benchmarks.waiters [--rounds N]

200 tasks ask a governor at once for one operation each, with all the patience there is, where the hour allows ten:
nineteen windows pass in virtual time until the last one leaves. Each settles its operation as soon as it is granted.
Processor time of this process, milliseconds, from the first grant to the last; the median over rounds. The timers are
those that the loop holds in the middle of the wait: with 200 waiters as many as with one, of which one is the
governor's and one the watch over the journal, where other processes' changes would be seen. Bound: 20 ms.

Beside it, without a bound: the same with 20 waiters, times ten, which shows what the length of the line costs.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import attrs

from benchmarks.asking import accepted, asked, governed
from benchmarks.verdict import state_fact, state_figure
from moe_segments.journal.memory import MemoryJournal
from moe_segments.limits import QuotaLimits
from moe_segments.testing import VirtualTimeLoop, journal_clock

if TYPE_CHECKING:
    from moe_segments.governor import Governor
    from moe_segments.journal.follower import Follower

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

    async def one(number: int, governor: Governor, follower: Follower) -> None:
        grant = await governor.reserve(asked(f"segment {number}"), max_wait_s=math.inf)
        moments.append(time.process_time())
        order.append(number)
        await follower.record(accepted(grant))

    async with governed(MemoryJournal(clock=journal_clock), LIMITS, clock=loop.time) as (governor, follower):
        waiting = [asyncio.create_task(one(number, governor, follower)) for number in range(waiters)]
        await asyncio.sleep(30)
        timers = loop.timers()
        await asyncio.gather(*waiting)
    return Found(moments[-1] - moments[0], timers, order)


def run(waiters: int) -> Found:
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return runner.run(wait_in_line(waiters))


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
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
