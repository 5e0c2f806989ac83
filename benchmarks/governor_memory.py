"""What do a reservation and its settlement cost through the governor, on a journal in memory?

    python -m benchmarks.governor_memory [--rounds N]

One operation is `Governor.reserve` for one operation of 20,000 users and, when it was granted, the record of its
acceptance through the same replica, as a submit makes them; nothing is sent in between. Four ways: one after
another; as creates, one after another, beside 400 to 900 segments that are active already; 100 tasks at a time, each of
which lets the others run while it "sends"; and 20 tasks that wait in the line of an hour with ten operations, in
virtual time, so that every operation is a wait, a timer, a wake and a pass.

Microseconds of processor time an operation, with the loop and the watch over the journal, medians over interleaved
rounds. Nothing here waits for anything else, so on an idle machine it is also the time that passes. Bounds: 90 one
after another and as creates, 40 together; beside them the prices of those that wait, and of `asyncio.sleep(0)`, which
is what one turn of the loop costs here now.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import statistics
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from benchmarks.asking import accepted, asked, governed
from benchmarks.verdict import state_figure
from moe_segments.journal.memory import MemoryJournal
from moe_segments.limits import QuotaLimits
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_segments.core.state.verdicts import Ask
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica

BOUNDS_US: Final = {"one after another": 90.0, "creates beside active ones": 90.0, "100 at a time": 40.0}
WIDE: Final = QuotaLimits(operations_per_hour=10**6, operations_per_day=10**6, users_per_day=10**12)
NARROW: Final = QuotaLimits(operations_per_day=10**6, users_per_day=10**12)
CALLS: Final = 500  # of a slice
ACTIVE: Final = 400  # segments before a slice of creates
AT_ONCE: Final = 100
WAITING: Final = 20


async def operate(governor: Governor, replica: Replica, ask: Ask, *, turns: int = 0) -> None:
    """Reserve, let others run, settle."""
    grant = await governor.reserve(ask, max_wait_s=math.inf)
    for _ in range(turns):
        await asyncio.sleep(0)
    await replica.record(accepted(grant))


async def one_after_another(names: Iterator[str], *, segments: int = 0) -> float:
    asks = [asked(name, segments=segments) for name in itertools.islice(names, CALLS)]
    async with governed(MemoryJournal(), WIDE) as (governor, replica):
        for name in itertools.islice(names, ACTIVE * segments):
            await operate(governor, replica, asked(name, segments=segments))
        began_s = time.process_time()
        for ask in asks:
            await operate(governor, replica, ask)
        return (time.process_time() - began_s) / CALLS


async def at_a_time(names: Iterator[str]) -> float:
    rest = iter([asked(name) for name in itertools.islice(names, CALLS)])

    async def work(governor: Governor, replica: Replica) -> None:
        for ask in rest:
            await operate(governor, replica, ask, turns=1)

    async with governed(MemoryJournal(), WIDE) as (governor, replica):
        began_s = time.process_time()
        await asyncio.gather(*(work(governor, replica) for _ in range(AT_ONCE)))
        return (time.process_time() - began_s) / CALLS


async def in_line(names: Iterator[str]) -> float:
    rest = iter([asked(name) for name in itertools.islice(names, CALLS)])

    async def work(governor: Governor, replica: Replica) -> None:
        for ask in rest:
            await operate(governor, replica, ask)

    clock = asyncio.get_running_loop().time
    async with governed(MemoryJournal(clock=journal_clock), NARROW, clock=clock) as (governor, replica):
        began_s = time.process_time()
        await asyncio.gather(*(work(governor, replica) for _ in range(WAITING)))
        return (time.process_time() - began_s) / CALLS


async def turns() -> float:
    began_s = time.process_time()
    for _ in range(CALLS):
        await asyncio.sleep(0)
    return (time.process_time() - began_s) / CALLS


def round_of(names: Iterator[str]) -> dict[str, float]:
    return {
        "one after another": asyncio.run(one_after_another(names)),
        "creates beside active ones": asyncio.run(one_after_another(names, segments=1)),
        "100 at a time": asyncio.run(at_a_time(names)),
        "20 in line for an hour of ten": run_virtually(lambda: in_line(names)),
        "a turn of the loop": asyncio.run(turns()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds: int = parser.parse_args().rounds
    names = (f"segment {number}" for number in itertools.count())
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for side, taken_s in round_of(names).items():
            found[side].append(taken_s * 1e6)
    for side, taken_us in found.items():
        print(f"  {side:<32}{statistics.median(taken_us):>8.1f} us ({min(taken_us):.1f} to {max(taken_us):.1f})")
    within = [state_figure(side, statistics.median(found[side]), bound, "us") for side, bound in BOUNDS_US.items()]
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
