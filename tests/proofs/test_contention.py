"""Many processes on one journal: the limit is met exactly, nobody is told "locked", nobody starves."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments.core.events import Answered, Reserved
from moe_segments.journal import open_journal
from tests.fleet.servers import redis_server
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PROCESSES: Final = cases(short=4, full=8)
RESERVATIONS: Final = cases(short=50, full=100)  # of each process
TASKS: Final = 5  # in each process
WINDOW_S: Final = 1.0

# Reserve so many times in several tasks once told to begin; say how it went in one JSON document.
WORKER: Final = """
import asyncio, json, math, sys, time
from moe_segments.core.state.verdicts import Ask
from moe_segments.core.quota.decision import Cost
from moe_segments.core.events import Answered
from moe_segments.errors import QuotaExceeded
from moe_segments.governor.governor import Governor
from moe_segments.journal.replica import Replica
from moe_segments.journal import open_journal
from moe_segments.limits import QuotaLimits

url, me, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
limits = QuotaLimits(**settings["limits"])
granted, refused, waits_s = 0, 0, []

async def one(governor, replica, number):
    global granted, refused
    ask = Ask(job=f"{me}-{number}", operation={"op": "add", "name": f"{me}-{number}"}, cost=Cost(1, 1),
              keys=(f"{me}-{number}",), fence_us=30_000_000, timeout_us=60_000_000)
    begun_s = time.monotonic()
    try:
        grant = await governor.reserve(ask, max_wait_s=math.inf if settings["waits"] else 0)
    except QuotaExceeded:
        refused += 1
    else:
        granted += 1
        await replica.record(Answered(grant.job, grant.attempt, 200, accepted={"cs_name": grant.job}))
    waits_s.append(time.monotonic() - begun_s)

async def main():
    replica = Replica(open_journal(url, "W1", poll_s=0.05), limits)
    await replica.open()
    governor = Governor(replica, limits)
    await governor.open("http://127.0.0.1", on_lost_journal="trust", announce=False)
    numbers = iter(range(settings["reservations"]))
    print("ready", flush=True)
    sys.stdin.readline()

    async def task():
        for number in numbers:
            await one(governor, replica, number)

    await asyncio.gather(*[task() for _ in range(settings["tasks"])])
    await governor.close()
    await replica.close()
    print(json.dumps({"granted": granted, "refused": refused, "longest_s": max(waits_s)}))

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A journal of this test's own, in each engine that several processes may share."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'quota.db'}"
    else:
        with redis_server() as server:
            yield server.url


@contextmanager
def workers(url: str, settings: dict[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    """So many processes that wait to be told to begin. None of them outlives this."""
    arguments = [sys.executable, "-c", WORKER, url]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [*arguments, f"p{number}", json.dumps(settings)],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def run(url: str, *, waits: bool, **limits: float) -> list[dict[str, Any]]:
    """What each of the processes says; all begin at the same moment."""
    settings = {"reservations": RESERVATIONS, "tasks": TASKS, "waits": waits, "limits": limits}
    with workers(url, settings) as processes:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = []
        for process in processes:
            out, err = process.communicate(timeout=240)
            assert (process.returncode, err) == (0, ""), err
            said.append(json.loads(out))
    return said


def log_of(url: str) -> Sequence[Batch]:
    """All that is in the journal."""

    async def read() -> Sequence[Batch]:
        journal = open_journal(url, "W1")
        await journal.open()
        try:
            return await journal.read(0)
        finally:
            await journal.close()

    return asyncio.run(read())


def test_of_more_tries_than_places_exactly_the_places_are_granted(url: str) -> None:
    """Half of the tries fit the window. Nobody waits for quota, all wait for the file, and each process gets some."""
    tries = PROCESSES * RESERVATIONS
    places = tries // 2
    said = run(url, waits=False, operations_per_hour=places, operations_per_day=10 * places)
    longest_s = max(one["longest_s"] for one in said)
    say(f"{PROCESSES} processes, {tries} tries, {places} places: longest decision {longest_s * 1000:.0f} ms")
    assert sum(one["granted"] for one in said) == places
    assert sum(one["refused"] for one in said) == tries - places
    assert min(one["granted"] for one in said) > 0
    assert sum(isinstance(event, Reserved) for batch in log_of(url) for event in batch.events) == (places)


def test_who_waits_gets_a_place_in_some_window_and_no_window_has_one_too_many(url: str) -> None:
    """A quarter of all in each window: the last is granted not long after the third one ended."""
    wanted = PROCESSES * RESERVATIONS
    places = wanted // 4
    said = run(
        url,
        waits=True,
        operations_per_hour=places,
        operations_per_day=10 * wanted,
        hour_s=WINDOW_S,
        guard_s=0,
    )
    assert [one["granted"] for one in said] == [RESERVATIONS] * PROCESSES
    batches = log_of(url)
    taken_s = _check_windows(batches, places)
    longest_s = max(one["longest_s"] for one in said)
    say(f"{wanted} in windows of {places}: {taken_s:.2f} s in all, longest wait {longest_s:.2f} s")
    assert taken_s >= 3 * WINDOW_S
    assert taken_s < 8 * WINDOW_S, "places were left unused"


def _check_windows(batches: Sequence[Batch], places: int) -> float:
    """Replay who held a place when. Returns the seconds from the first reservation to the last."""
    until_us: dict[str, float] = {}
    moments_us: list[int] = []
    for batch in batches:
        for event in batch.events:
            if isinstance(event, Reserved):
                until_us[event.job] = float("inf")
                moments_us.append(batch.at_us)
                assert sum(end_us > batch.at_us for end_us in until_us.values()) <= places
            elif isinstance(event, Answered):
                until_us[event.job] = batch.at_us + WINDOW_S * 1e6
    return (moments_us[-1] - moments_us[0]) / 1e6
