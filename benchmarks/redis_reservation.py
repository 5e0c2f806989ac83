"""What does a durable reservation in Redis cost beside the bare script it needs, and how soon do hosts hear of it?

    python -m benchmarks.redis_reservation [--rounds N] [--directory DIR]

A private server on loopback, `appendfsync always`, its data in DIR. Ours: `Governor.reserve` for an operation of 20,000
users, one task after another, or 100 tasks at a time that share round trips; once on a fresh journal and once beside
10,000 live entries, and for a weight of one and of two million users. The floor: `EVALSHA` of a script that does
nothing but `XADD` one entry of the same bytes, through redis-py's asyncio client. Beside them a `PING` through the same
client; and limits and pyrate-limiter on the same server through redis-py's blocking client, which promise less: without
weight, and with 20,000 users each beside a hundred such, where a weight of n is n entries.

The sides take turns in short slices, since a disk has moods. A ratio is of medians over slices. Bounds: one task at
most 1.5 times the bare script, whatever weighs and lives; 100 tasks at least 10 times its rate.

Four processes in a closed loop fight for thirty places in two seconds, as in `benchmarks.contention`: no
over-admission, nobody starved, and 99 of 100 calls within 50 ms. From a callback stored in one process to the wake-up
of who waits for it in another: at most 50 ms at the median with the server's news, and without them within the poll of
250 ms and its jitter.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import multiprocessing
import random
import statistics
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from benchmarks.asking import ROWS, SCOPE, asked, governed
from benchmarks.contention import FAIR, WORKERS, all_told, judged, work
from benchmarks.peers import LimitsRedis, PyrateRedis, loaded
from benchmarks.verdict import ratio_of_medians, state, state_fact, state_figure
from moe_segments.core.admission import Admitted, admit
from moe_segments.core.events import CallbackReceived, ExternalUsage, encode
from moe_segments.core.state import WorkspaceState
from moe_segments.journal.follower import Follower
from moe_segments.journal.redis import RedisJournal
from moe_segments.limits import QuotaLimits
from tests.fleet.servers import redis_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from benchmarks.peers import Peer
    from moe_segments.core.events import Batch
    from moe_segments.governor import Governor
    from tests.fleet.servers import RedisServer

Sample: TypeAlias = "Callable[[], Awaitable[float]]"  # seconds an operation, over one slice

ONE_BOUND: Final = 1.5
TOGETHER_BOUND: Final = 10.0
P99_MS: Final = 50.0
WAKE_MS: Final = 50.0
POLL_S: Final = 0.25
SLICE: Final = 20
TASKS: Final = 100
EACH: Final = 5  # reservations of a task in a slice
LIVE: Final = 10_000
HEAVY: Final = 2_000_000
TRIES: Final = 8_000  # of each process: some six windows
WAKES: Final = 60
WIDE: Final = QuotaLimits(operations_per_hour=10**6, operations_per_day=10**7, users_per_day=10**13)
BARE: Final = "redis.call('XADD', KEYS[1], '*', 'i', ARGV[1], 'a', ARGV[2], 'e', ARGV[3]) return {'done', ARGV[2], 1}"


# Ours


def one_task(governor: Governor, names: Iterator[str], rows: int = ROWS) -> Sample:
    async def sample() -> float:
        asks = [asked(name, rows) for name in itertools.islice(names, SLICE)]
        began_s = time.perf_counter()
        for ask in asks:
            await governor.reserve(ask, max_wait_s=0)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def many_tasks(governor: Governor, names: Iterator[str]) -> Sample:
    async def sample() -> float:
        rest = iter([asked(name) for name in itertools.islice(names, TASKS * EACH)])

        async def task() -> None:
            for ask in rest:
                await governor.reserve(ask, max_wait_s=math.inf)

        began_s = time.perf_counter()
        await asyncio.gather(*(task() for _ in range(TASKS)))
        return (time.perf_counter() - began_s) / (TASKS * EACH)

    return sample


# The floors


def bare_scripts(client: AsyncRedis, sha: str) -> Sample:
    events, numbers = _one_reservation(), itertools.count()

    async def sample() -> float:
        began_s = time.perf_counter()
        for number in itertools.islice(numbers, SLICE):
            await client.evalsha(sha, 1, "bare", f"{number:020x}", str(time.time_ns() // 1_000), events)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def _one_reservation() -> str:
    """What the journal writes for one of ours."""
    verdict, *_ = admit(WorkspaceState(WIDE), [asked("segment 12345")], 0, look_ahead_for=frozenset())
    assert isinstance(verdict, Admitted)
    return encode([verdict.event])


def pings(client: AsyncRedis) -> Sample:
    async def sample() -> float:
        began_s = time.perf_counter()
        for _ in range(SLICE):
            await client.ping()
        return (time.perf_counter() - began_s) / SLICE

    return sample


def peer_calls(peer: Peer, rows: int, count: int) -> Sample:
    async def sample() -> float:
        began_s = time.perf_counter()
        for _ in range(count):
            assert peer.admit(rows)
        return (time.perf_counter() - began_s) / count

    return sample


# Rounds


@attrs.define
class Bench:
    """Everything that is measured on one server.

    Attributes:
        server: The server.
        stack: What is to be closed.
        names: Of segments, each used once.
        sides: By name.
    """

    server: RedisServer
    stack: AsyncExitStack
    names: Iterator[str]
    sides: dict[str, Sample] = attrs.field(factory=dict)

    async def add_floors(self) -> None:
        """What redis-py itself costs."""
        client = await self.stack.enter_async_context(AsyncRedis(port=self.server.port))
        self.sides["ping"] = pings(client)
        self.sides["bare script"] = bare_scripts(client, await client.script_load(BARE))

    async def add_journals(self) -> None:
        """Ours: fresh, full of what lives, heavy, and together."""
        fresh, _ = await self._governor("fresh")
        full, follower = await self._governor("full")
        for _ in range(LIVE // 100):
            await follower.record(*(ExternalUsage(1, ROWS, follower.state.now_us) for _ in range(100)))
        together, _ = await self._governor("together")
        self.sides["one task"] = one_task(fresh, self.names)
        self.sides["one task, of one user"] = one_task(fresh, self.names, 1)
        self.sides["one task, of two million"] = one_task(fresh, self.names, HEAVY)
        self.sides[f"one task, beside {LIVE:,} live"] = one_task(full, self.names)
        self.sides["100 tasks"] = many_tasks(together, self.names)

    async def _governor(self, scope: str) -> tuple[Governor, Follower]:
        journal = RedisJournal(self.server.url, scope, state_dir=self.server.directory)  # with its witness
        return await self.stack.enter_async_context(governed(journal, WIDE))

    def add_peers(self) -> None:
        """Other limiters, where they are installed."""
        limits, pyrate = loaded("limits"), loaded("pyrate_limiter")
        client = self.stack.enter_context(Redis(port=self.server.port))
        for name, rows, count in (("unweighted", 0, SLICE), ("100 live of 20,000", ROWS, 1)):
            peers: dict[str, Peer] = {}
            if limits is not None:
                peers["limits"] = LimitsRedis(limits, WIDE, self.server.url, name)
            if pyrate is not None:
                peers["pyrate-limiter"] = PyrateRedis(pyrate, WIDE, client, name)
            for which, peer in peers.items():
                peer.fill(100, rows)
                self.sides[f"{which}, {name}"] = peer_calls(peer, rows, count)

    async def measure(self, rounds: int) -> dict[str, list[float]]:
        """Seconds an operation, by side."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for sample in self.sides.values():
            await sample()
        for _ in range(rounds):
            for side, sample in random.sample(list(self.sides.items()), len(self.sides)):
                found[side].append(await sample())
        return {side: found[side] for side in self.sides}


async def measured(server: RedisServer, rounds: int) -> dict[str, list[float]]:
    async with AsyncExitStack() as stack:
        bench = Bench(server, stack, (f"segment {number}" for number in itertools.count()))
        await bench.add_floors()
        await bench.add_journals()
        bench.add_peers()
        return await bench.measure(rounds)


def report(found: dict[str, list[float]]) -> bool:
    for side, taken_s in found.items():
        us = [one_s * 1e6 for one_s in taken_s]
        print(f"  {side:<36}{statistics.median(us):>10,.0f} us ({min(us):,.0f} to {max(us):,.0f})")
    bare_s = found["bare script"]
    within = [
        state(f"{side} over a bare script", ratio_of_medians(taken_s, bare_s), ONE_BOUND)
        for side, taken_s in found.items()
        if side.startswith("one task")
    ]
    times = 1 / ratio_of_medians(found["100 tasks"], bare_s)
    what = "the rate of 100 tasks over that of bare scripts"
    within.append(state_figure(what, times, TOGETHER_BOUND, "times", at_least=True))
    return all(within)


# Four processes


async def log_of(server: RedisServer) -> Sequence[Batch]:
    journal = RedisJournal(server.url, SCOPE)
    await journal.open()
    try:
        return await journal.read(0)
    finally:
        await journal.close()


def contend(server: RedisServer) -> bool:
    told = all_told(work, server.url, TRIES)
    too_many, _ = judged(asyncio.run(log_of(server)), ())
    granted = [one.granted for one in told]
    waits_ms = sorted(wait_s * 1_000 for one in told for wait_s in one.waits_s)
    median_ms, longest_ms = statistics.median(waits_ms), waits_ms[-1]
    print(f"four processes, {TRIES * WORKERS:,} tries: granted by process {granted}; {median_ms:.2f} ms at the median")
    p99_ms = waits_ms[len(waits_ms) * 99 // 100]
    return all(
        [
            state_fact(f"over-admissions: {too_many}", holds=not too_many),
            state_fact("nobody starved", holds=min(granted) >= FAIR * sum(granted) / WORKERS),
            state_figure(f"99 of 100 calls (the longest: {longest_ms:.0f} ms)", p99_ms, P99_MS, "ms"),
        ]
    )


# From a callback to the wake-up


def wait_for_callbacks(orders: Connection) -> None:
    """In a process of its own: say when each of the jobs has news."""
    asyncio.run(_wait(orders, *orders.recv()))


async def _wait(orders: Connection, url: str, scope: str) -> None:
    follower = Follower(RedisJournal(url, scope, poll_s=POLL_S), WIDE)
    await follower.open()
    for number in range(WAKES):
        waiting = asyncio.ensure_future(follower.job_changed(f"j{number}"))
        await asyncio.sleep(0.02)  # it waits, and hears
        orders.send("waiting")
        await waiting
        orders.send(time.monotonic())
    await follower.close()


async def _store(orders: Connection, server: RedisServer, scope: str) -> list[float]:
    follower = Follower(RedisJournal(server.url, scope), WIDE)
    await follower.open()
    taken_s = []
    for number in range(WAKES):
        assert await asyncio.to_thread(orders.recv) == "waiting"
        await asyncio.sleep(random.uniform(0, POLL_S / 2))
        await follower.record(CallbackReceived(f"j{number}", 1, "d", "processed", {}))
        stored_s = time.monotonic()
        taken_s.append((await asyncio.to_thread(orders.recv)) - stored_s)
    await follower.close()
    return taken_s


def wake(server: RedisServer, url: str, scope: str) -> list[float]:
    """Milliseconds from what one process stored to the wake-up of another."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=wait_for_callbacks, args=(theirs,))
    process.start()
    try:
        ours.send((url, scope))
        return [one_s * 1_000 for one_s in asyncio.run(_store(ours, server, scope))]
    finally:
        process.join(10)
        process.terminate()


def wakes(server: RedisServer) -> bool:
    with Redis(port=server.port) as client:
        deaf: Any = client.execute_command("ACL SETUSER deaf on >pw ~* &* +@all -subscribe")
        assert deaf in {b"OK", True, "OK"}
    told, polled = wake(server, server.url, "told"), wake(server, server.url.replace("//", "//deaf:pw@"), "polled")
    return all(
        [
            state_figure("from a stored callback to the wake-up, median", statistics.median(told), WAKE_MS, "ms"),
            state_figure("the same without news, longest", max(polled), POLL_S * 1_250 + WAKE_MS, "ms"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", type=Path, default=None, help="where the server's data lie; default: here")
    arguments = parser.parse_args()
    with redis_server(parent=arguments.directory or Path.cwd()) as server:
        found = [report(asyncio.run(measured(server, arguments.rounds))), contend(server), wakes(server)]
    sys.exit(not all(found))


if __name__ == "__main__":
    main()
