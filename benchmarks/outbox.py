"""Measure a membership change that survives the loss of power beside the bare insert that it needs.

    python -m benchmarks.outbox [--rounds N] [--directory DIR]

Ours: `Membership.add` of one user on an outbox in an SQLite file, through an open client: one task after another, or
100 tasks at a time that share commits. The values are checked, the last word on each user is looked up, and what waits
is counted. The floor: `BEGIN IMMEDIATE`, one insert of the same row into the same table, and `COMMIT`, with the same
PRAGMAs, in a file beside it on the same disk, by one connection in one thread and with nothing around it.

The sides take turns in short slices, since a disk has moods. A ratio is of medians over slices. Bounds: one task at
most 1.5 times the bare insert, 100 tasks at least 20 times its rate.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sqlite3
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.reservations import EACH, SLICE, TASKS, measured_in_turns, show
from benchmarks.verdict import ratio_of_medians, state, state_figure
from moe_segments import SegmentsClient
from moe_segments.memberships.outbox.sqlite import PRAGMAS, SCHEMA
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.reservations import Found, Sample
    from moe_segments import Membership

ONE_BOUND: Final = 1.5
TOGETHER_BOUND: Final = 20.0
BARE: Final = "bare insert"


def bare_inserts(connection: sqlite3.Connection, users: Iterator[str]) -> Sample:
    """Insert the row of a change, and nothing else."""
    for statement in (*(f"PRAGMA {pragma}" for pragma in PRAGMAS), *SCHEMA):
        connection.execute(statement).fetchall()

    async def sample() -> float:
        began_s = time.perf_counter()
        for user in itertools.islice(users, SLICE):
            connection.execute("BEGIN IMMEDIATE")
            row = (1, user, True, 17, time.time_ns() // 1_000)
            connection.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        return (time.perf_counter() - began_s) / SLICE

    return sample


def one_task(vip: Membership, users: Iterator[str]) -> Sample:
    """Add one user after another."""

    async def sample() -> float:
        began_s = time.perf_counter()
        for user in itertools.islice(users, SLICE):
            await vip.add(user)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def many_tasks(vip: Membership, users: Iterator[str]) -> Sample:
    """Add users in a hundred tasks at a time."""

    async def sample() -> float:
        rest = iter(list(itertools.islice(users, TASKS * EACH)))

        async def work() -> None:
            for user in rest:
                await vip.add(user)

        began_s = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(TASKS)))
        return (time.perf_counter() - began_s) / (TASKS * EACH)

    return sample


async def measured(directory: Path, rounds: int) -> Found:
    """Measure all sides in turns."""
    users = (f"user-{number:09}" for number in itertools.count())
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox())
        client = await stack.enter_async_context(
            SegmentsClient(
                sandbox.credentials,
                base_url=sandbox.url,
                journal=directory / "quota.db",
                limits=sandbox.limits,
                publish=sandbox.publish,
            )
        )
        await client.governor.record_external(operations=10)  # so that nothing is flushed meanwhile
        vip = client.membership("vip", attribute_name="ID", attribute_type="string")
        await vip.add(next(users))
        connection = stack.enter_context(closing(sqlite3.connect(directory / "bare.db", isolation_level=None)))
        sides = {
            BARE: bare_inserts(connection, users),
            "one task": one_task(vip, users),
            "100 tasks": many_tasks(vip, users),
        }
        return await measured_in_turns(sides, rounds)


def report(found: Found) -> bool:
    """Print what was found beside its bounds. Returns whether both are met."""
    show(found)
    one = ratio_of_medians(found["one task"], found[BARE])
    times = 1 / ratio_of_medians(found["100 tasks"], found[BARE])
    within = (
        state(f"one task over a {BARE}", one, ONE_BOUND),
        state_figure(f"the rate of 100 tasks over that of {BARE}s", times, TOGETHER_BOUND, "times", at_least=True),
    )
    return all(within)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", type=Path, default=None, help="where the files are made; default: here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory or Path.cwd()) as directory:
        within = report(asyncio.run(measured(Path(directory), arguments.rounds)))
    sys.exit(not within)


if __name__ == "__main__":
    main()
