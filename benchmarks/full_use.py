"""Does the governor use what the window allows, and never more?

    python -m benchmarks.full_use [--seeds N]

The hour limit alone, the day and the users out of the way. For 240 virtual hours thirty tasks always have one more
operation to send. The service counts it at some moment of the up to 5 s until its answer is here, and the answer is
settled in the journal. Latencies and moments are drawn by the seed, which is printed.

What a window of span S with capacity L allows in a time T is L x ceil(T / S) operations: at each instant 0, S, 2S, ...
before T a full L, which is what the best of all schedules with no latency makes of it. With W an hour that is 2,400;
with the guard, W + G = 3,662.8 s, it is 2,360, which is 98.3 % of 2,400. A use is the number of operations reserved
within T over that.

Bounds, each in the worst of the seeds: with the default guard at least 98 % of what the documented hour alone allows
and so, beyond what is asked, of what hour and guard allow; with guard 0 100 %. A service with a sliding log must never
count more than ten within less than an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.asking import accepted, asked, governed
from benchmarks.verdict import state_fact, state_figure
from moe_segments.journal.memory import MemoryJournal
from moe_segments.limits import HOUR_S, QuotaLimits
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica

HOURS: Final = 240
END_S: Final = HOURS * HOUR_S
LATENCY_S: Final = 5.0
TASKS: Final = 30
GUARDED: Final = QuotaLimits(operations_per_day=10**6, users_per_day=10**12)
UNGUARDED: Final = attrs.evolve(GUARDED, guard_s=0)
CAPACITY: Final = GUARDED.operations_per_hour


@attrs.frozen
class Use:
    """One run.

    Attributes:
        sent_s: When each operation was reserved.
        counted_s: When the service counted it, in order.
    """

    sent_s: list[float]
    counted_s: list[float]

    @property
    def operations(self) -> int:
        """How many were reserved in time."""
        return sum(sent_s < END_S for sent_s in self.sent_s)

    @property
    def is_lawful(self) -> bool:
        """Whether no ten and one lie within less than an hour."""
        pairs = zip(self.counted_s, self.counted_s[CAPACITY:], strict=False)
        return all(later_s - earlier_s >= HOUR_S for earlier_s, later_s in pairs)


async def use(limits: QuotaLimits, seed: int) -> Use:
    chance, loop = random.Random(seed), asyncio.get_running_loop()
    sent_s: list[float] = []
    counted_s: list[float] = []

    async def work(worker: int, governor: Governor, replica: Replica) -> None:
        number = 0
        while loop.time() < END_S:
            number += 1
            grant = await governor.reserve(asked(f"{worker}-{number}"), max_wait_s=math.inf)
            latency_s = chance.uniform(0, LATENCY_S)
            sent_s.append(loop.time())
            counted_s.append(loop.time() + chance.uniform(0, latency_s))
            await asyncio.sleep(latency_s)
            await replica.record(accepted(grant))

    async with governed(MemoryJournal(clock=journal_clock), limits, clock=loop.time) as (governor, replica):
        await asyncio.gather(*(work(worker, governor, replica) for worker in range(TASKS)))
    return Use(sent_s, sorted(counted_s))


def allowed(span_s: float) -> int:
    """The most operations that fit 240 hours so that no window of this span holds more than ten."""
    return CAPACITY * math.ceil(END_S / span_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    seeds: int = parser.parse_args().seeds
    guarded, unguarded = [], []
    for seed in range(seeds):
        guarded.append(run_virtually(lambda seed=seed: use(GUARDED, seed)))  # type: ignore[misc]  # mypy infers no default
        unguarded.append(run_virtually(lambda seed=seed: use(UNGUARDED, seed)))  # type: ignore[misc]  # the same
        print(f"seed {seed}: {guarded[-1].operations} with the guard, {unguarded[-1].operations} without it")
    least, least_bare = min(one.operations for one in guarded), min(one.operations for one in unguarded)
    span_s = HOUR_S + GUARDED.guard_for(HOUR_S)
    in_time = allowed(HOUR_S)
    within = [
        state_figure("with the guard, of the hour", 100 * least / in_time, 98.0, "%", at_least=True),
        state_figure("with the guard, of hour and guard", 100 * least / allowed(span_s), 98.0, "%", at_least=True),
        state_figure("with guard 0, of the hour", 100 * least_bare / in_time, 100.0, "%", at_least=True),
        state_fact("the service never counted more", holds=all(one.is_lawful for one in guarded + unguarded)),
    ]
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
