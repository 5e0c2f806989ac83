"""What does a durable reservation in Redis cost beside the bare script it needs, and how soon do hosts hear of it?

    python -m benchmarks.redis_reservation [--rounds N] [--directory DIR]

A private server on loopback, `appendfsync always`, its data in DIR. Ours: `Governor.reserve` for an operation of 20,000
users, one task after another, or 100 tasks at a time that share round trips; once on a fresh journal and once beside
10,000 live entries, and for a weight of one and of two million users. The floor: `EVALSHA` of a script that does
nothing but `XADD` one entry of the same bytes, through redis-py's asyncio client. Beside them a `PING` through the same
client; and limits and pyrate-limiter on the same server through redis-py's blocking client, which promise less: without
weight, and with 20,000 users each beside a hundred such, where a weight of n is n entries.

The sides take turns in short slices, since a disk has moods. A ratio is of medians over slices. Bounds: one task at
most 2.0 times the bare script, whatever weighs and lives; 100 tasks at least 10 times its rate.

Four processes in a closed loop fight for thirty places in two seconds, as in `benchmarks.contention`: no
over-admission, nobody starved, and 99 of 100 calls within 50 ms. From a callback stored in one process to the wake-up
of who waits for it in another: at most 50 ms at the median with the server's news, and without them within the poll of
250 ms and its jitter.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from benchmarks.asking import ROWS, governed
from benchmarks.fleet import contended, woken
from benchmarks.peers import LimitsRedis, PyrateRedis, loaded
from benchmarks.reservations import (
    SLICE,
    WIDE,
    judged_beside,
    many_tasks,
    measured_in_turns,
    one_reservation,
    one_task,
    peer_calls,
    show,
)
from moe_segments.core.events import ExternalUsage
from moe_segments.journal.redis.engine import RedisJournal
from tests.fleet.servers import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peers import Peer
    from benchmarks.reservations import Found, Sample
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica
    from tests.fleet.servers import RedisServer

ONE_BOUND: Final = 2.0
TOGETHER_BOUND: Final = 10.0
P99_MS: Final = 50.0
LIVE: Final = 10_000
HEAVY: Final = 2_000_000
TRIES: Final = 8_000  # of each process: some six windows
BARE: Final = "redis.call('XADD', KEYS[1], '*', 'i', ARGV[1], 'a', ARGV[2], 'e', ARGV[3]) return {'done', ARGV[2], 1}"


# The floors


def bare_scripts(client: AsyncRedis, sha: str) -> Sample:
    events, numbers = one_reservation(), itertools.count()

    async def sample() -> float:
        began_s = time.perf_counter()
        for number in itertools.islice(numbers, SLICE):
            await client.evalsha(sha, 1, "bare", f"{number:020x}", str(time.time_ns() // 1_000), events)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def pings(client: AsyncRedis) -> Sample:
    async def sample() -> float:
        began_s = time.perf_counter()
        for _ in range(SLICE):
            await client.ping()
        return (time.perf_counter() - began_s) / SLICE

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
        full, replica = await self._governor("full")
        for _ in range(LIVE // 100):
            await replica.record(*(ExternalUsage(1, ROWS, replica.state.now_us) for _ in range(100)))
        together, _ = await self._governor("together")
        self.sides["one task"] = one_task(fresh, self.names)
        self.sides["one task, of one user"] = one_task(fresh, self.names, 1)
        self.sides["one task, of two million"] = one_task(fresh, self.names, HEAVY)
        self.sides[f"one task, beside {LIVE:,} live"] = one_task(full, self.names)
        self.sides["100 tasks"] = many_tasks(together, self.names)

    async def _governor(self, scope: str) -> tuple[Governor, Replica]:
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


async def measured(server: RedisServer, rounds: int) -> Found:
    async with AsyncExitStack() as stack:
        bench = Bench(server, stack, (f"segment {number}" for number in itertools.count()))
        await bench.add_floors()
        await bench.add_journals()
        bench.add_peers()
        return await measured_in_turns(bench.sides, rounds)


def deaf_url(server: RedisServer) -> str:
    """The journal's URL for a user who may not subscribe."""
    with Redis(port=server.port) as client:
        deaf: Any = client.execute_command("ACL SETUSER deaf on >pw ~* &* +@all -subscribe")
        assert deaf in {b"OK", True, "OK"}
    return server.url.replace("//", "//deaf:pw@")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", type=Path, default=None, help="where the server's data lie; default: here")
    arguments = parser.parse_args()
    with redis_server(parent=arguments.directory or Path.cwd()) as server:
        found = asyncio.run(measured(server, arguments.rounds))
        show(found)
        within = [
            judged_beside("bare script", found, one_bound=ONE_BOUND, together_bound=TOGETHER_BOUND),
            contended(server.url, tries=TRIES, p99_ms=P99_MS),
            woken(server.url, deaf_url(server)),
        ]
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
