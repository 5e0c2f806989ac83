"""What does a reservation cost that survives the loss of power, beside the bare transaction it needs?

    python -m benchmarks.sqlite_reservation [--rounds N] [--directory DIR]

Ours: `Governor.reserve` on a SQLite journal for an operation of 20,000 users, one task after another, or 100 tasks at a
time that share commits. The floor: `BEGIN IMMEDIATE`, one insert of a row of the same size into the same table, and
`COMMIT`, with the same PRAGMAs, in a file beside it on the same disk, by one connection in one thread and with nothing
around it. Beside them one write of 512 bytes with `fdatasync`, and pyrate-limiter's SQLite bucket with the PRAGMAs that
it sets, which promise less: a hundred operations without weight, and with 20,000 users each, where a weight of n is n
rows.

The sides take turns in short slices, since a disk has moods. A ratio is of medians over slices. Bounds: one task at
most 1.7 times the bare transaction; 100 tasks at least 20 times its rate (in WAL 10 times the rate of its own bare
transaction, where this SQLite may be trusted with it). A refusal reads and does not write: no byte of any file of the
journal changes, nor its times, and no file comes or goes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from benchmarks.asking import ROWS, SCOPE, asked, governed
from benchmarks.peers import PyrateSqlite, loaded
from benchmarks.reservations import (
    SLICE,
    WIDE,
    many_tasks,
    measured_in_turns,
    one_reservation,
    one_task,
    peer_calls,
    show,
)
from benchmarks.verdict import ratio_of_medians, state, state_fact, state_figure
from moe_segments.errors import QuotaExceeded
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.reservations import Found, Sample

Mode: TypeAlias = Literal["DELETE", "WAL"]

ONE_BOUND: Final = 1.7
TOGETHER_BOUNDS: Final[dict[Mode, float]] = {"DELETE": 20.0, "WAL": 10.0}
SYNCHRONOUS: Final[dict[Mode, str]] = {"DELETE": "EXTRA", "WAL": "FULL"}
WAL_FROM: Final = (3, 51, 3)
REFUSALS: Final = 1_000


# The floors


def bare_transactions(connection: sqlite3.Connection, mode: Mode) -> Sample:
    pragmas = (f"PRAGMA journal_mode={mode}", f"PRAGMA synchronous={SYNCHRONOUS[mode]}")
    for statement in (*pragmas, *MIGRATIONS[0]):
        connection.execute(statement).fetchall()
    events, versions = one_reservation(), itertools.count(1)

    async def sample() -> float:
        began_s = time.perf_counter()
        for version in itertools.islice(versions, SLICE):
            connection.execute("BEGIN IMMEDIATE")
            row = (SCOPE, version, f"{version:032x}", time.time_ns() // 1_000, events)
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        return (time.perf_counter() - began_s) / SLICE

    return sample


def syncs(fd: int) -> Sample:
    async def sample() -> float:
        began_s = time.perf_counter()
        for number in range(SLICE):
            os.pwrite(fd, bytes([number]) * 512, 512 * number)
            os.fdatasync(fd)
        return (time.perf_counter() - began_s) / SLICE

    return sample


# Rounds


@attrs.define
class Bench:
    """Everything that is measured in one directory.

    Attributes:
        directory: Of all files.
        stack: What is to be closed.
        names: Of segments, each used once.
        sides: By name.
    """

    directory: Path
    stack: AsyncExitStack
    names: Iterator[str]
    sides: dict[str, Sample] = attrs.field(factory=dict)

    async def add_journals(self, mode: Mode) -> None:
        """Ours and its floor in one journal mode."""
        journal = SqliteJournal(self.directory / f"quota-{mode}.db", SCOPE, journal_mode=mode)
        governor, _ = await self.stack.enter_async_context(governed(journal, WIDE))
        connection = sqlite3.connect(self.directory / f"bare-{mode}.db", isolation_level=None)
        self.stack.enter_context(closing(connection))
        self.sides[f"{mode}, bare transaction"] = bare_transactions(connection, mode)
        self.sides[f"{mode}, one task"] = one_task(governor, self.names)
        self.sides[f"{mode}, 100 tasks"] = many_tasks(governor, self.names)

    def add_sync(self) -> None:
        """The disk alone."""
        fd = os.open(self.directory / "sync", os.O_RDWR | os.O_CREAT, 0o600)
        self.stack.callback(os.close, fd)
        self.sides["one fdatasync"] = syncs(fd)

    def add_peers(self) -> None:
        """pyrate-limiter, where it is installed."""
        pyrate = loaded("pyrate_limiter")
        if pyrate is None:
            return
        for name, rows, count in (("unweighted", 0, SLICE), ("100 live of 20,000", ROWS, 1)):
            peer = PyrateSqlite(pyrate, WIDE, self.directory / f"pyrate-{rows}.db")
            peer.fill(100, rows)
            self.stack.callback(peer.close)
            self.sides[f"pyrate-limiter, {name}"] = peer_calls(peer, rows, count)


def wal_is_sound() -> bool:
    """Whether the journal takes WAL from this SQLite; says why not."""
    if sqlite3.sqlite_version_info >= WAL_FROM:
        return True
    print(f"WAL: skipped, this SQLite is {sqlite3.sqlite_version}; before 3.51.3 it can lose committed rows in WAL")
    return False


async def measured(directory: Path, rounds: int) -> Found:
    async with AsyncExitStack() as stack:
        bench = Bench(directory, stack, (f"segment {number}" for number in itertools.count()))
        await bench.add_journals("DELETE")
        if wal_is_sound():
            await bench.add_journals("WAL")
        bench.add_sync()
        bench.add_peers()
        return await measured_in_turns(bench.sides, rounds)


# Refusals


@attrs.frozen
class Refused:
    """What 1,000 refusals did.

    Attributes:
        taken_s: Of each.
        unchanged: Whether all files are as they were.
    """

    taken_s: list[float]
    unchanged: bool


def footprint(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with the time it was written and its bytes."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(directory.iterdir())}


async def refuse(directory: Path) -> Refused:
    async with governed(SqliteJournal(directory / "quota.db", SCOPE), QuotaLimits()) as (governor, _):
        for number in range(QuotaLimits().operations_per_hour):
            await governor.reserve(asked(f"taken {number}"), max_wait_s=0)
        before, taken_s = footprint(directory), []
        for number in range(REFUSALS):
            ask = asked(f"refused {number}")
            began_s = time.perf_counter()
            try:
                await governor.reserve(ask, max_wait_s=0)
            except QuotaExceeded:
                taken_s.append(time.perf_counter() - began_s)
        return Refused(taken_s, len(taken_s) == REFUSALS and footprint(directory) == before)


# Report


def report(found: Found) -> bool:
    show(found)
    within = []
    for mode, least in TOGETHER_BOUNDS.items():
        bare_s = found.get(f"{mode}, bare transaction")
        if bare_s is None:
            continue
        one = ratio_of_medians(found[f"{mode}, one task"], bare_s)
        times = 1 / ratio_of_medians(found[f"{mode}, 100 tasks"], bare_s)
        within.append(state(f"{mode}, one task over a bare transaction", one, ONE_BOUND))
        what = f"{mode}, the rate of 100 tasks over that of bare transactions"
        within.append(state_figure(what, times, least, "times", at_least=True))
    return all(within)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--directory", type=Path, default=None, help="where the files are made; default: here")
    arguments = parser.parse_args()
    place = arguments.directory or Path.cwd()
    with tempfile.TemporaryDirectory(dir=place) as directory, tempfile.TemporaryDirectory(dir=place) as other:
        within = report(asyncio.run(measured(Path(directory), arguments.rounds)))
        refused = asyncio.run(refuse(Path(other)))
    median_s = statistics.median(refused.taken_s)
    print(f"a refusal: {median_s * 1e6:,.0f} us, {1 / median_s:,.0f} a second")
    unwritten = state_fact("1,000 refusals left every file as it was", holds=refused.unchanged)
    sys.exit(not (within and unwritten))


if __name__ == "__main__":
    main()
