"""Do four processes on one journal file get exactly what there is, each its share, and none of them waits long?

    python -m benchmarks.contention [--tries N] [--directory DIR]

Four processes, each with a governor of its own on one SQLite file, try 100,000 times in all to reserve one operation of
one user, as fast as they are answered. A window is two seconds here and holds thirty, with no guard, so that slots come
free all the time and the last one is always fought for; what a process gets it settles at once, in the journal, as an
acceptance.

Every try remembers the journal's time of its decision. Afterwards each is held against the log, by an oracle that
shares no code with the ledger: a reservation with thirty others counted is an over-admission, a refusal with fewer a
false one. Nobody is starved when each process got at least half of a fair share. The longest wait is that of one try or
one settlement, from the call to its answer. Bound: 100 ms.

Beside it, without a bound: the longest wait of four processes that fight for bare transactions with the same PRAGMAs
through SQLite's own busy handler. A disk that stalls for others stalls here, too: compare the medians first.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from benchmarks.asking import SCOPE, accepted, asked, governed
from benchmarks.verdict import state_fact, state_figure
from moe_segments.core.events import Answered, Batch, Reserved, decode, row_of
from moe_segments.errors import QuotaExceeded
from moe_segments.journal import open_journal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from moe_segments.journal.replica import Question

WORKERS: Final = 4
TRIES: Final = 100_000
LONGEST_MS: Final = 100.0
FAIR: Final = 0.5
CAPACITY: Final = 30
WINDOW_S: Final = 2.0
WINDOW_US: Final = round(WINDOW_S * 1_000_000)
LIMITS: Final = QuotaLimits(
    operations_per_hour=CAPACITY,
    operations_per_day=10**9,
    users_per_day=10**12,
    hour_s=WINDOW_S,
    guard_s=0,
    count_late_s=WINDOW_S,
    processing_allowance_s=WINDOW_S,
)
BARE: Final = 1_500  # transactions of a process
PATIENCE_S: Final = 100.0

Work: TypeAlias = "tuple[str, int, int]"  # the journal's URL or the file, who, how many


# A worker, in a process of its own


@attrs.define
class Told:
    """What a worker reports.

    Attributes:
        refused_us: The journal's time of each refusal.
        granted: How many tries were granted.
        waits_s: How long each try and each settlement took.
    """

    refused_us: list[int] = attrs.field(factory=list)
    granted: int = 0
    waits_s: list[float] = attrs.field(factory=list)


class Witnessed(Replica):
    """A replica that remembers when the journal decided."""

    decided_us = 0

    async def ask(self, question: Question[object]) -> object:  # type: ignore[override]  # passes on whatever it is
        """As ever, and noted."""

        def noted(state: object, now_us: int) -> object:
            self.decided_us = now_us
            return question(state, now_us)  # type: ignore[arg-type]  # what the replica gives

        return await super().ask(noted)  # type: ignore[arg-type]  # of the same form


def work(orders: Connection) -> None:
    """Say when ready, wait for the word, try, report."""
    url, who, tries = orders.recv()
    asyncio.run(_work(orders, url, who, tries))


async def _work(orders: Connection, url: str, who: int, tries: int) -> None:
    told = Told()
    async with governed(open_journal(url, SCOPE), LIMITS, follows=Witnessed) as (governor, replica):
        assert isinstance(replica, Witnessed)
        orders.send("ready")
        orders.recv()
        for number in range(tries):
            ask = asked(f"{who}-{number}", 1)
            began_s = time.perf_counter()
            try:
                grant = await governor.reserve(ask, max_wait_s=0)
            except QuotaExceeded:
                told.refused_us.append(replica.decided_us)
                told.waits_s.append(time.perf_counter() - began_s)
                continue
            reserved_s = time.perf_counter()
            await replica.record(accepted(grant))
            told.granted += 1
            told.waits_s += [reserved_s - began_s, time.perf_counter() - reserved_s]
    orders.send(told)


def work_bare(orders: Connection) -> None:
    """The same number of processes at bare transactions, with SQLite's busy handler in between."""
    path, who, tries = orders.recv()
    connection = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
    for statement in ("PRAGMA synchronous=EXTRA", "CREATE TABLE IF NOT EXISTS rows (who INTEGER, number INTEGER)"):
        connection.execute(statement)
    told = Told()
    orders.send("ready")
    orders.recv()
    for number in range(tries):
        began_s = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows VALUES (?, ?)", (who, number))
        connection.execute("COMMIT")
        told.waits_s.append(time.perf_counter() - began_s)
    connection.close()
    orders.send(told)


@contextmanager
def workers(target: object) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(WORKERS)]
    processes = [context.Process(target=target, args=(theirs,)) for _, theirs in pipes]  # type: ignore[arg-type]  # a function
    for process in processes:
        process.start()
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for process in processes:
            process.join(PATIENCE_S)
            process.terminate()


def all_told(target: object, place: str, tries: int) -> list[Told]:
    """What the workers report after *tries* each."""
    with workers(target) as orders:
        for who, order in enumerate(orders):
            order.send((place, who, tries))
        for order in orders:
            order.recv()  # all are ready, so that none begins before another
        for order in orders:
            order.send("go")
        return [order.recv() for order in orders]


# The oracle


@attrs.define
class Oracle:
    """The window by the log alone: who is in flight, and who ended within the last window.

    Attributes:
        in_flight: Jobs that were reserved and have not ended.
        ended_us: When those ended that still count, in order.
    """

    in_flight: set[str] = attrs.field(factory=set)
    ended_us: deque[int] = attrs.field(factory=deque)

    def counted(self, now_us: int) -> int:
        """How many count at a time that does not go backwards."""
        while self.ended_us and self.ended_us[0] + WINDOW_US <= now_us:
            self.ended_us.popleft()
        return len(self.in_flight) + len(self.ended_us)


def log_of(path: Path) -> list[Batch]:
    """The whole log, past the journal's own reader."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT version, id, at_us, events FROM batches ORDER BY version").fetchall()
    connection.close()
    assert rows[0][0] == 1, "the oracle needs the log from its beginning"
    return [Batch(version, batch_id, at_us, decode(events)) for version, batch_id, at_us, events in rows]


def judged(log: Sequence[Batch], refused_us: Iterable[int]) -> tuple[int, int]:
    """How many reservations were too many, and how many refusals were false."""
    oracle, refusals = Oracle(), deque(sorted(refused_us))
    too_many = false = 0
    for batch in log:
        while refusals and refusals[0] < batch.at_us:
            false += oracle.counted(refusals.popleft()) < CAPACITY
        for event in batch.events:
            if isinstance(event, Reserved):
                too_many += oracle.counted(batch.at_us) >= CAPACITY
                oracle.in_flight.add(event.row)
            elif isinstance(event, Answered):
                oracle.in_flight.discard(row_of(event.job, event.attempt))
                oracle.ended_us.append(batch.at_us)
    return too_many, false + sum(oracle.counted(now_us) < CAPACITY for now_us in refusals)


# Report


def show(what: str, told: Sequence[Told]) -> float:
    """Print how long one waited. Returns the longest, milliseconds."""
    waits_ms = sorted(wait_s * 1_000 for one in told for wait_s in one.waits_s)
    median, late = statistics.median(waits_ms), waits_ms[len(waits_ms) * 999 // 1_000]
    print(
        f"{what}: {median:.2f} ms at the median, {late:.1f} ms for 999 of 1,000, {waits_ms[-1]:.1f} ms at the longest"
    )
    return waits_ms[-1]


def report(told: Sequence[Told], log: Sequence[Batch], taken_s: float) -> bool:
    tries = sum(len(one.refused_us) + one.granted for one in told)
    granted = [one.granted for one in told]
    too_many, false = judged(log, (moment_us for one in told for moment_us in one.refused_us))
    written = sum(isinstance(event, Reserved) for batch in log for event in batch.events)
    print(f"{tries:,} tries in {taken_s:.0f} s, {tries / taken_s:,.0f} a second; granted by process: {granted}")
    least = FAIR * sum(granted) / WORKERS
    return all(
        [
            state_fact(f"over-admissions: {too_many}", holds=not too_many),
            state_fact(f"false refusals: {false}", holds=not false),
            state_fact(f"granted and written: {sum(granted)} and {written}", holds=sum(granted) == written),
            state_fact(f"nobody starved: at least {least:.0f} each", holds=min(granted) >= least),
            state_figure("the longest wait", show("one call", told), LONGEST_MS, "ms"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--directory", type=Path, default=None, help="where the files are made; default: here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory or Path.cwd()) as directory:
        path = Path(directory) / "quota.db"
        began_s = time.perf_counter()
        told = all_told(work, f"sqlite:///{path}", arguments.tries // WORKERS)
        within = report(told, log_of(path), time.perf_counter() - began_s)
        show("SQLite's busy handler, bare transactions", all_told(work_bare, f"{directory}/bare.db", BARE))
    sys.exit(not within)


if __name__ == "__main__":
    main()
