"""What the benchmarks of durable engines share: slices of reservations, one entry's bytes, peers, and their report."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

from benchmarks.asking import ROWS, asked
from benchmarks.verdict import ratio_of_medians, state, state_figure
from moe_segments.core.events import encode
from moe_segments.core.state.admission import admit
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from benchmarks.peers import Peer
    from moe_segments.governor.governor import Governor

__all__ = [
    "EACH",
    "SLICE",
    "TASKS",
    "WIDE",
    "Found",
    "Sample",
    "judged_beside",
    "many_tasks",
    "measured_in_turns",
    "one_reservation",
    "one_task",
    "peer_calls",
    "show",
]

Sample: TypeAlias = "Callable[[], Awaitable[float]]"  # seconds an operation, over one slice
Found: TypeAlias = "dict[str, list[float]]"  # by side, seconds an operation in each slice

SLICE: Final = 20
TASKS: Final = 100
EACH: Final = 5  # reservations of a task in a slice
WIDE: Final = QuotaLimits(operations_per_hour=10**6, operations_per_day=10**7, users_per_day=10**13)


def one_task(governor: Governor, names: Iterator[str], rows: int = ROWS) -> Sample:
    """Reservations one after another."""

    async def sample() -> float:
        asks = [asked(name, rows) for name in itertools.islice(names, SLICE)]
        began_s = time.perf_counter()
        for ask in asks:
            await governor.reserve(ask, max_wait_s=0)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def many_tasks(governor: Governor, names: Iterator[str]) -> Sample:
    """Reservations of a hundred tasks at a time."""

    async def sample() -> float:
        rest = iter([asked(name) for name in itertools.islice(names, TASKS * EACH)])

        async def work() -> None:
            for ask in rest:
                await governor.reserve(ask, max_wait_s=math.inf)

        began_s = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(TASKS)))
        return (time.perf_counter() - began_s) / (TASKS * EACH)

    return sample


def peer_calls(peer: Peer, rows: int, count: int) -> Sample:
    """So many calls of another limiter."""

    async def sample() -> float:
        began_s = time.perf_counter()
        for _ in range(count):
            assert peer.admit(rows)
        return (time.perf_counter() - began_s) / count

    return sample


def one_reservation() -> str:
    """What the journal writes for one of ours."""
    (event,) = admit(WorkspaceState(WIDE), [asked("segment 12345")], 0).events
    return encode([event])


async def measured_in_turns(sides: Mapping[str, Sample], rounds: int) -> Found:
    """Every side once to warm up, then all in a random order in each round."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for sample in sides.values():
        await sample()
    for _ in range(rounds):
        for side, sample in random.sample(list(sides.items()), len(sides)):
            found[side].append(await sample())
    return {side: found[side] for side in sides}


def show(found: Found) -> None:
    """Print the median of each side and its range."""
    for side, taken_s in found.items():
        us = [one_s * 1e6 for one_s in taken_s]
        print(f"  {side:<36}{statistics.median(us):>10,.0f} us ({min(us):,.0f} to {max(us):,.0f})")


def judged_beside(bare: str, found: Found, *, one_bound: float, together_bound: float) -> bool:
    """Print how each side that begins with "one task", and "100 tasks", do beside the floor *bare*."""
    within = [
        state(f"{side} over a {bare}", ratio_of_medians(taken_s, found[bare]), one_bound)
        for side, taken_s in found.items()
        if side.startswith("one task")
    ]
    times = 1 / ratio_of_medians(found["100 tasks"], found[bare])
    what = f"the rate of 100 tasks over that of {bare}s"
    within.append(state_figure(what, times, together_bound, "times", at_least=True))
    return all(within)
