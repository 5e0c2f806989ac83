"""What does a durable reservation in PostgreSQL cost beside the bare insert it needs, and how soon do hosts hear of it?

    python -m benchmarks.postgres_reservation [--rounds N] [--directory DIR]

A private server on loopback with the durability it comes with, its data in DIR. Ours: `Governor.reserve` for an
operation of 20,000 users, one task after another, or 100 tasks at a time that share round trips; once on a fresh
journal and once beside 10,000 live entries. The floor: one `INSERT` of a row of the same size into a table of the same
shape, prepared, in autocommit, through psycopg's asyncio connection as everybody uses it: `execute`, with a cursor.
Ours is prepared, too, and goes to libpq over a connection of the same driver without a cursor; what the insert costs in
that way is shown beside the floor, and is not judged. Beside them a `SELECT 1` through the floor's connection; and
pyrate-limiter on the same server through psycopg's pool, which promises less: without weight, and with 20,000 users
each beside a hundred such, where a weight of n is n rows.

The sides take turns in short slices, since a disk has moods. A ratio is of medians over slices. Bounds: one task at
most 1.8 times the bare insert; 100 tasks at least 10 times its rate.

Four processes in a closed loop fight for thirty places in two seconds, as in `benchmarks.contention`: no
over-admission, nobody starved, and 99 of 100 calls within 100 ms. From a callback stored in one process to the wake-up
of who waits for it in another: at most 50 ms at the median with the server's news, and without them within the poll of
250 ms and its jitter.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import random
import statistics
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import psycopg
from psycopg_pool import ConnectionPool

from benchmarks.asking import ROWS, SCOPE, governed
from benchmarks.contention import FAIR, WORKERS, all_told, judged, work
from benchmarks.peers import PyratePostgres, loaded
from benchmarks.sqlite_reservation import SLICE, WIDE, many_tasks, one_reservation, one_task, peer_calls
from benchmarks.verdict import ratio_of_medians, state, state_fact, state_figure
from moe_segments.core.events import CallbackReceived, ExternalUsage
from moe_segments.journal.follower import Follower
from moe_segments.journal.postgres import PostgresJournal
from moe_segments.journal.postgres_wire import Wire
from tests.fleet.postgres_server import postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from benchmarks.sqlite_reservation import Sample
    from moe_segments.core.events import Batch
    from moe_segments.governor import Governor
    from tests.fleet.postgres_server import PostgresServer

ONE_BOUND: Final = 1.8
TOGETHER_BOUND: Final = 10.0
P99_MS: Final = 100.0
WAKE_MS: Final = 50.0
POLL_S: Final = 0.25
LIVE: Final = 10_000
TRIES: Final = 2_500
WAKES: Final = 60
TABLE: Final = (
    "CREATE TABLE bare (scope bigint NOT NULL, version bigint NOT NULL, id text NOT NULL, at_us bigint NOT NULL, "
    "events text NOT NULL, PRIMARY KEY (scope, version), UNIQUE (scope, id))"
)
DEAF: Final = "deaf"


# The floors


def bare_inserts(connection: psycopg.AsyncConnection) -> Sample:
    events, versions = one_reservation(), itertools.count(1)

    async def sample() -> float:
        began_s = time.perf_counter()
        for version in itertools.islice(versions, SLICE):
            row = (1, version, f"{version:032x}", time.time_ns() // 1_000, events)
            await connection.execute("INSERT INTO bare VALUES (%s, %s, %s, %s, %s)", row)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def raw_inserts(wire: Wire) -> Sample:
    events, versions = one_reservation(), itertools.count(1)

    async def sample() -> float:
        began_s = time.perf_counter()
        for version in itertools.islice(versions, SLICE):
            row = (2, version, f"{version:032x}", time.time_ns() // 1_000, events)
            await wire.row(b"INSERT INTO bare VALUES (%s, %s, %s, %s, %s)", row)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def selects(connection: psycopg.AsyncConnection) -> Sample:
    async def sample() -> float:
        began_s = time.perf_counter()
        for _ in range(SLICE):
            await connection.execute("SELECT 1")
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

    server: PostgresServer
    stack: AsyncExitStack
    names: Iterator[str]
    sides: dict[str, Sample] = attrs.field(factory=dict)

    async def add_floors(self) -> None:
        """What psycopg and the server cost by themselves."""
        connecting = psycopg.AsyncConnection.connect(self.server.url, autocommit=True, prepare_threshold=0)
        connection = await self.stack.enter_async_context(await connecting)
        await connection.execute(TABLE)
        self.sides["SELECT 1"] = selects(connection)
        self.sides["bare insert"] = bare_inserts(connection)
        connecting = psycopg.AsyncConnection.connect(self.server.url, autocommit=True, prepare_threshold=None)
        wire = Wire(await self.stack.enter_async_context(await connecting), 10.0, prepares=True)
        self.stack.callback(wire.close)
        self.sides["bare insert without a cursor"] = raw_inserts(wire)

    async def add_journals(self) -> None:
        """Ours: fresh, full of what lives, and together."""
        fresh, _ = await self._governor("fresh")
        full, follower = await self._governor("full")
        for _ in range(LIVE // 100):
            await follower.record(*(ExternalUsage(1, ROWS, follower.state.now_us) for _ in range(100)))
        together, _ = await self._governor("together")
        self.sides["one task"] = one_task(fresh, self.names)
        self.sides[f"one task, beside {LIVE:,} live"] = one_task(full, self.names)
        self.sides["100 tasks"] = many_tasks(together, self.names)

    async def _governor(self, scope: str) -> tuple[Governor, Follower]:
        journal = PostgresJournal(self.server.url, scope, state_dir=self.server.directory)  # with its witness
        return await self.stack.enter_async_context(governed(journal, WIDE))

    def add_peers(self) -> None:
        """pyrate-limiter, where it is installed."""
        pyrate = loaded("pyrate_limiter")
        if pyrate is None:
            return
        pool = self.stack.enter_context(ConnectionPool(self.server.url, min_size=1, max_size=2, open=True))
        for name, rows, count in (("unweighted", 0, SLICE), ("100 live of 20,000", ROWS, 1)):
            peer = PyratePostgres(pyrate, WIDE, pool, f"rows{rows}")
            peer.fill(100, rows)
            self.sides[f"pyrate-limiter, {name}"] = peer_calls(peer, rows, count)

    async def measure(self, rounds: int) -> dict[str, list[float]]:
        """Seconds an operation, by side."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for sample in self.sides.values():
            await sample()
        for _ in range(rounds):
            for side, sample in random.sample(list(self.sides.items()), len(self.sides)):
                found[side].append(await sample())
        return {side: found[side] for side in self.sides}


async def measured(server: PostgresServer, rounds: int) -> dict[str, list[float]]:
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
    bare_s = found["bare insert"]
    within = [
        state(f"{side} over a bare insert", ratio_of_medians(taken_s, bare_s), ONE_BOUND)
        for side, taken_s in found.items()
        if side.startswith("one task")
    ]
    times = 1 / ratio_of_medians(found["100 tasks"], bare_s)
    what = "the rate of 100 tasks over that of bare inserts"
    within.append(state_figure(what, times, TOGETHER_BOUND, "times", at_least=True))
    return all(within)


# Four processes


async def log_of(server: PostgresServer) -> Sequence[Batch]:
    journal = PostgresJournal(server.url, SCOPE)
    await journal.open()
    try:
        return await journal.read(0)
    finally:
        await journal.close()


def contend(server: PostgresServer) -> bool:
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
    follower = Follower(PostgresJournal(url, scope, poll_s=POLL_S), WIDE)
    await follower.open()
    for number in range(WAKES):
        waiting = asyncio.ensure_future(follower.job_changed(f"j{number}"))
        await asyncio.sleep(0.02)  # it waits, and hears
        orders.send("waiting")
        await waiting
        orders.send(time.monotonic())
    await follower.close()


async def _store(orders: Connection, url: str, scope: str) -> list[float]:
    follower = Follower(PostgresJournal(url, scope), WIDE)
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


def wake(url: str, heard_at: str, scope: str) -> list[float]:
    """Milliseconds from what one process stored to the wake-up of another, which reaches the server at *heard_at*."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=wait_for_callbacks, args=(theirs,))
    process.start()
    try:
        ours.send((heard_at, scope))
        return [one_s * 1_000 for one_s in asyncio.run(_store(ours, url, scope))]
    finally:
        process.join(10)
        process.terminate()


def wakes(server: PostgresServer) -> bool:
    # A role with a single connection gets none to listen with.
    server.sql(f"CREATE ROLE {DEAF} LOGIN CONNECTION LIMIT 1")
    server.sql(f"GRANT pg_read_all_data, pg_write_all_data TO {DEAF}")
    told = wake(server.url, server.url, "told")
    polled = wake(server.url, server.url.replace("//moe@", f"//{DEAF}@"), "polled")
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
    with postgres_server(parent=arguments.directory or Path.cwd()) as server:
        found = [report(asyncio.run(measured(server, arguments.rounds))), contend(server), wakes(server)]
    sys.exit(not all(found))


if __name__ == "__main__":
    main()
