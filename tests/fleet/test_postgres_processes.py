"""Many processes on one PostgreSQL: the limit is met exactly, nobody starves, and who is killed holds nobody up."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments.core.events import Reserved
from tests.fleet.postgres_worlds import Place, followed, opened, place
from tests.fleet.worlds import FACT
from tests.proofs import IS_FULL, cases, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["place"]  # a fixture

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

PROCESSES: Final = 8
TRIES: Final = 100  # of each

PRELUDE: Final = """
import asyncio, json, math, os, random, sys, time
from moe_segments.core.state.verdicts import Ask
from moe_segments.core.quota.decision import Cost
from moe_segments.core.events import Answered, ExternalUsage
from moe_segments.errors import QuotaExceeded
from moe_segments.governor.governor import Governor
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.replica import Replica
from moe_segments.journal.postgres.engine import PostgresJournal
from moe_segments.limits import QuotaLimits

url, me, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""

# Reserve so many times in several tasks; each host's clocks run at a rate of their own.
RESERVE: Final = """
limits = QuotaLimits(**settings["limits"])
granted, waits_s, rate = 0, [], random.Random(me).uniform(0.5, 2)

async def one(governor, replica, number):
    global granted
    name = f"{me}-{number}"
    ask = Ask(job=name, operation={"op": "add", "name": name}, cost=Cost(1, 1), keys=(name,),
              fence_us=30_000_000, timeout_us=60_000_000)
    begun_s = time.monotonic()
    try:
        grant = await governor.reserve(ask, max_wait_s=0)
    except QuotaExceeded:
        pass
    else:
        granted += 1
        await replica.record(Answered(grant.job, grant.attempt, 200, accepted={"cs_name": grant.job}))
    waits_s.append(time.monotonic() - begun_s)

async def main():
    host = BootClock(boot_us=lambda: int(time.monotonic_ns() // 1_000 * rate))
    replica = Replica(PostgresJournal(url, "W1", host=host), limits)
    await replica.open()
    governor = Governor(replica, limits)
    await governor.open("http://127.0.0.1", on_lost_journal="trust", announce=False)
    numbers = iter(range(settings["tries"]))
    ready()

    async def task():
        for number in numbers:
            await one(governor, replica, number)

    await asyncio.gather(*[task() for _ in range(settings["tasks"])])
    await governor.close()
    await replica.close()
    print(json.dumps({"granted": granted, "tries": len(waits_s), "longest_s": max(waits_s)}))

asyncio.run(main())
"""

OPEN: Final = """
async def main():
    journal = PostgresJournal(url, "W1")
    ready()
    await journal.open()
    batch = await journal.append([ExternalUsage(operations=1)], batch_id=me)
    print(json.dumps({"id": journal.journal_id, "is_new": journal.is_new, "version": batch.version}))
    await journal.close()

asyncio.run(main())
"""

# Append until killed, and say so after each batch that was acknowledged.
APPEND_FOREVER: Final = """
async def main():
    journal = PostgresJournal(url, "W1")
    await journal.open()
    ready()
    after = 0
    for number in range(10**9):
        after = (await journal.transact(after, lambda missed, now_us: [ExternalUsage(operations=1)],
                                        batch_id=f"{settings['turn']}-{me}-{number}")).version
        os.write(1, f"{settings['turn']}-{me}-{number}\\n".encode())

asyncio.run(main())
"""

# Wait until somebody says something of the job, and say it.
WAIT: Final = """
async def main():
    limits = QuotaLimits()
    replica = Replica(PostgresJournal(url, "W1", poll_s=settings["poll_s"]), limits)
    await replica.open()
    waiting = asyncio.ensure_future(replica.job_changed("j1"))
    await asyncio.sleep(0.5)
    ready()
    await asyncio.wait_for(waiting, 30)
    print(json.dumps({"state": replica.state.jobs.records["j1"].state, "at": time.time()}))
    await replica.close()

asyncio.run(main())
"""


@contextmanager
def started(body: str, url: str, count: int, **settings: Any) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes that all begin now. None of them outlives this."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body, url, f"p{number}", json.dumps(settings)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def said(processes: Sequence[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """What each says at its end."""
    found = []
    for process in processes:
        out, err = process.communicate(timeout=150)
        assert (process.returncode, err) == (0, ""), err
        found.append(json.loads(out))
    return found


@pytest.mark.parametrize("tasks", [1, 5] if IS_FULL else [5])
def test_of_more_tries_than_places_exactly_the_places_are_granted(place: Place, tasks: int) -> None:
    """Half of all tries fit the window. Every try comes to an answer, and each process gets its share."""
    tries = PROCESSES * TRIES
    places = tries // 2
    limits = {"operations_per_hour": places, "operations_per_day": 10 * places}
    began_s = time.monotonic()
    with started(RESERVE, place.url, PROCESSES, tries=TRIES, tasks=tasks, limits=limits) as processes:
        found = said(processes)
    longest_s = max(one["longest_s"] for one in found)
    granted = [one["granted"] for one in found]
    say(
        f"{tries} tries, {tasks} at once: {granted}, the longest {longest_s:.2f} s, "
        f"all {time.monotonic() - began_s:.1f} s"
    )
    assert sum(granted) == places
    assert [one["tries"] for one in found] == [TRIES] * PROCESSES
    assert min(granted) >= places / PROCESSES / 10

    async def reserved() -> list[str]:
        async with opened(place.url) as journal:
            batches = await journal.read(0)
        assert [batch.version for batch in batches] == list(range(1, len(batches) + 1))
        assert [batch.at_us for batch in batches] == sorted(batch.at_us for batch in batches)
        return [event.job for batch in batches for event in batch.events if isinstance(event, Reserved)]

    jobs = asyncio.run(reserved())
    assert len(jobs) == len(set(jobs)) == places


@pytest.mark.parametrize("attempt", range(cases(short=2, full=10)))
def test_eight_processes_make_one_journal_at_the_same_moment(place: Place, attempt: int) -> None:
    with started(OPEN, place.url, PROCESSES) as processes:
        found = said(processes)
    assert len({one["id"] for one in found}) == 1
    assert [one["is_new"] for one in found].count(True) == 1
    assert sorted(one["version"] for one in found) == list(range(1, PROCESSES + 1))


def test_processes_that_are_killed_leave_what_they_acknowledged_and_nothing_locked(place: Place) -> None:
    """Signal 9 at whatever point; whoever comes next does not wait for them."""
    lines: set[str] = set()
    for turn in range(3):
        with started(APPEND_FOREVER, f"{place.url}&timeout_s=5", 3, turn=turn) as processes:
            for process in processes:
                assert process.stdout is not None
                lines.update(process.stdout.readline().strip() for _ in range(2))
            time.sleep(0.2)
            for process in processes:
                process.kill()
            for process in processes:
                lines.update(process.communicate(timeout=30)[0].split("\n")[:-1])

        async def whole(turn: int = turn) -> Sequence[str]:
            async with opened(f"{place.url}&timeout_s=5") as journal:
                await journal.append([FACT], batch_id=f"next {turn}")
                batches = await journal.read(0)
            assert [batch.version for batch in batches] == list(range(1, len(batches) + 1))
            return [batch.id for batch in batches]

        assert lines <= set(asyncio.run(whole()))
    assert len(lines) > 9


@pytest.mark.parametrize("poll_s", [30.0, 0.2])
def test_what_one_process_stores_wakes_who_waits_for_it_in_another(place: Place, poll_s: float) -> None:
    async def store() -> float:
        async with followed(place.url) as replica:
            await replica.record(Reserved("j1", 1, {"op": "create"}, 1, 0, 0, (), 30, 60))
            return time.time()

    with started(WAIT, place.url, 2, poll_s=poll_s) as processes:
        stored_at = asyncio.run(store())
        found = said(processes)
    say(f"poll {poll_s} s: woken after {[round((one['at'] - stored_at) * 1000) for one in found]} ms")
    assert [one["state"] for one in found] == ["reserved"] * 2
