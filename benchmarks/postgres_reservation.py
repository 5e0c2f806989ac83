"""What does a durable reservation in PostgreSQL cost beside the bare insert it needs, and how soon do hosts hear of it?

    python -m benchmarks.postgres_reservation [--rounds N] [--directory DIR]

A private server on loopback with the durability it comes with, its data in DIR. Ours: `Governor.reserve` for an
operation of 20,000 users, one task after another, or 100 tasks at a time that share round trips; once on a fresh
journal and once beside 10,000 live entries. The floor: one `INSERT` of a row of the same size into a table of the same
shape, prepared, in autocommit, through psycopg's asyncio connection, as ours is. Beside them a `SELECT 1` through the
floor's connection; and pyrate-limiter on the same server through psycopg's pool, which promises less: without weight,
and with 20,000 users each beside a hundred such, where a weight of n is n rows.

The sides take turns in short slices, since a disk has moods. A ratio is of medians over slices. Bounds: one task at
most 2.5 times the bare insert; 100 tasks at least 9 times its rate.

Four processes in a closed loop fight for thirty places in two seconds, as in `benchmarks.contention`: no
over-admission, nobody starved, and 99 of 100 calls within 100 ms. From a callback stored in one process to the wake-up
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
from typing import TYPE_CHECKING, Final

import attrs
import psycopg
from psycopg_pool import ConnectionPool

from benchmarks.asking import ROWS, governed
from benchmarks.fleet import contended, woken
from benchmarks.peers import PyratePostgres, loaded
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
from moe_segments.journal.postgres.engine import PostgresJournal
from tests.fleet.postgres_server import postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.reservations import Found, Sample
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica
    from tests.fleet.postgres_server import PostgresServer

ONE_BOUND: Final = 2.5
TOGETHER_BOUND: Final = 9.0
P99_MS: Final = 100.0
LIVE: Final = 10_000
TRIES: Final = 6_000  # of each process: some six windows
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

    async def add_journals(self) -> None:
        """Ours: fresh, full of what lives, and together."""
        fresh, _ = await self._governor("fresh")
        full, replica = await self._governor("full")
        for _ in range(LIVE // 100):
            await replica.record(*(ExternalUsage(1, ROWS, replica.state.now_us) for _ in range(100)))
        together, _ = await self._governor("together")
        self.sides["one task"] = one_task(fresh, self.names)
        self.sides[f"one task, beside {LIVE:,} live"] = one_task(full, self.names)
        self.sides["100 tasks"] = many_tasks(together, self.names)

    async def _governor(self, scope: str) -> tuple[Governor, Replica]:
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


async def measured(server: PostgresServer, rounds: int) -> Found:
    async with AsyncExitStack() as stack:
        bench = Bench(server, stack, (f"segment {number}" for number in itertools.count()))
        await bench.add_floors()
        await bench.add_journals()
        bench.add_peers()
        return await measured_in_turns(bench.sides, rounds)


def deaf_url(server: PostgresServer) -> str:
    """The journal's URL for a role with a single connection, which gets none to listen with."""
    server.sql(f"CREATE ROLE {DEAF} LOGIN CONNECTION LIMIT 1")
    server.sql(f"GRANT pg_read_all_data, pg_write_all_data TO {DEAF}")
    return server.url.replace("//moe@", f"//{DEAF}@")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", type=Path, default=None, help="where the server's data lie; default: here")
    arguments = parser.parse_args()
    with postgres_server(parent=arguments.directory or Path.cwd()) as server:
        found = asyncio.run(measured(server, arguments.rounds))
        show(found)
        within = [
            judged_beside("bare insert", found, one_bound=ONE_BOUND, together_bound=TOGETHER_BOUND),
            contended(server.url, tries=TRIES, p99_ms=P99_MS),
            woken(server.url, deaf_url(server)),
        ]
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
