"""Measure how long a plan of many audiences takes, and how long thirty audiences take to be sent.

    python -m benchmarks.audience_plans [--rounds N] [--audiences N] [--only plan|thirty]

A hundred audiences of 1,000 to a million members have snapshots; each source has as many values, 1 % of them others,
from a generator over the lines of a file. The time is that from the last value of the last source to the plan: the
processor time of the process, and beside it the time on the clock, which a busy machine makes longer.

Thirty audiences of 100,000 members, each with 2,000 joiners and 2,000 leavers, are synced in virtual time, against the
sandbox. The hours are those from the first operation to the last as the sandbox counted them, without guard; a window
is four seconds longer than an hour nevertheless, for two clocks that differ. Operations and users are what was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.verdict import spread, state_fact, state_figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_segments import SyncPlan
    from moe_segments.audiences.snapshots.directory import SnapshotDirectory
    from moe_segments.core.events import Event

BOUND_S: Final = 2.0
BOUND_H: Final = 4.01
FEWEST, MOST = 1_000, 1_000_000
CHURN: Final = 100  # one in so many
THIRTY, MEMBERS, CHANGED = 30, 100_000, 2_000
DAY_S: Final = 86_400
FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30}


def sizes(count: int) -> list[int]:
    """Return the sizes, from the fewest to the most by equal factors, in a random order."""
    found = [round(FEWEST * (MOST / FEWEST) ** (index / max(1, count - 1))) for index in range(count)]
    random.Random(5).shuffle(found)
    return found


# Many audiences


def prepare(place: Path, count: int) -> None:
    """Make the snapshots, the sources, and the events of a journal that knows the snapshots."""
    from moe_segments.audiences.snapshots.directory import SnapshotDirectory

    snapshots, known = SnapshotDirectory(place / "snapshots" / "SANDBOX@01"), []
    for number, size in enumerate(sizes(count)):
        name, chance = f"audience-{number:03}", random.Random(number)
        old = sorted({f"u{chance.getrandbits(40):011x}" for _ in range(size)})
        new = [f"n{value[1:]}" if index % CHURN == 0 else value for index, value in enumerate(old)]
        chance.shuffle(new)
        (place / f"{name}.csv").write_text("\n".join((*new, "")))
        known.append((name, *_written(snapshots, name, old)))
    (place / "known.json").write_text(json.dumps(known))


def _written(snapshots: SnapshotDirectory, name: str, values: list[str]) -> tuple[str, int]:
    return snapshots.write(name, (values[at : at + 8_192] for at in range(0, len(values), 8_192)))


def _events(name: str, digest: str, size: int) -> tuple[Event, ...]:
    """Return what the journal has of a segment that was created by a sync."""
    from moe_segments.core.events import Answered, CallbackReceived, MembershipPlanned, Reserved

    job, operation = f"job-{name}", {"op": "create", "name": name}
    step = {"job": job, "op": "create", "rows": size, "holds": [digest], "size": size}
    return (
        MembershipPlanned("benchmark", name, 1, (step,)),
        Reserved(job, 1, operation, operations=1, rows=size, segments=1, keys=(name,), token_sha256=job),
        Answered(job, 1, 202, accepted={"message": "", "cs_name": name, "cs_id": name}),
        CallbackReceived(job, 1, "digest", "processed", {"status": 201}, values_found=size),
    )


async def _plan(place: Path) -> tuple[float, float, float, int]:
    """Return seconds of the processor and on the clock after the last source was read, in all, and what was planned."""
    from moe_segments import Audience, SegmentsClient
    from moe_segments.core.events import SyncHeld, SyncReleased
    from moe_segments.journal.memory import MemoryJournal
    from moe_segments.sandbox import DEMO_CREDENTIALS

    known, ago_s = json.loads((place / "known.json").read_text()), [2.0 * DAY_S]
    journal = MemoryJournal(clock=lambda: round((time.time() - ago_s[0]) * 1_000_000))
    names = tuple(name for name, _, _ in known)
    await journal.open()
    await journal.append((SyncHeld("benchmark", names, DAY_S * 1_000_000),), batch_id="held")
    for name, digest, size in known:
        await journal.append(_events(name, digest, size), batch_id=name)
    await journal.append((SyncReleased("benchmark", names),), batch_id="released")
    ago_s[0] = 0.0
    read: list[tuple[float, float]] = []

    def lines(path: Path) -> Iterator[str]:
        with path.open() as file:
            for line in file:
                yield line[:-1]
        read.append((time.process_time(), time.perf_counter()))

    audiences = [Audience(name, members=lambda name=name: lines(place / f"{name}.csv"), **FIELDS) for name in names]
    async with SegmentsClient(DEMO_CREDENTIALS, journal=journal, base_url="http://127.0.0.1:9") as client:
        began_s = time.perf_counter()
        planned: SyncPlan = await client.plan_sync(audiences, snapshots=place / "snapshots")
        ended_s, used_s = time.perf_counter(), time.process_time()
    problems = [one.error for one in planned.audiences if one.error is not None]
    assert not problems, problems[0]
    assert all(one.added == one.removed for one in planned.audiences)
    last = max(read)
    return used_s - last[0], ended_s - last[1], ended_s - began_s, len(planned.plan)


def measure_plan(rounds: int, count: int) -> bool:
    """Plan in processes of their own. Returns whether the bound held."""
    with tempfile.TemporaryDirectory() as directory:
        making = f"from benchmarks.audience_plans import Path, prepare; prepare(Path({directory!r}), {count})"
        subprocess.run([sys.executable, "-c", making], check=True)
        command = [sys.executable, "-m", "benchmarks.audience_plans", "--one", directory]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(rounds)]
    used, clock, whole, operations = zip(*runs, strict=True)
    print(f"{count} audiences, {sum(sizes(count)):,} members, {operations[0]} operations planned")
    print(f"read, compared and planned: {spread(whole, 's', 1)}")
    print(f"from the last value to the plan, on the clock: {spread(clock, 's', 1)}")
    return state_figure("from the last value to the plan, processor", sorted(used)[len(used) // 2], BOUND_S, "s")


# Thirty audiences


async def _thirty(place: Path) -> tuple[float, Counter[str], int]:
    """Return the hours from the first operation to the last, the operations and the users."""
    from moe_segments import Audience, CallbackReceiver, QuotaLimits, SegmentsClient
    from moe_segments.journal.memory import MemoryJournal
    from moe_segments.sandbox import Sandbox
    from moe_segments.testing import journal_clock

    names = [f"audience-{number:02}" for number in range(THIRTY)]
    before = [f"user-{number:06}" for number in range(MEMBERS)]
    after = [*before[CHANGED:], *(f"new-{number:06}" for number in range(CHANGED))]
    receiver = CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600)
    service = Sandbox(clock=lambda: journal_clock() / 1e6, limits=QuotaLimits(guard_s=0))
    async with service as sandbox, receiver as callbacks:
        client = SegmentsClient(
            sandbox.credentials,
            journal=MemoryJournal(clock=journal_clock),
            callbacks=callbacks,
            limits=sandbox.limits,
            base_url=sandbox.url,
            publish=sandbox.publish,
            clock=asyncio.get_running_loop().time,
        )
        async with client:
            made = await client.sync([Audience(name, members=before, **FIELDS) for name in names], snapshots=place)
            assert made.ok
            await asyncio.sleep(25 * 3_600)
            known = len(sandbox.workspace.counted)
            report = await client.sync([Audience(name, members=after, **FIELDS) for name in names], snapshots=place)
        assert report.ok
        assert all(segment.members == set(after) for segment in sandbox.workspace.segments)
        assert sandbox.workspace.rejections == 0
        counted = sandbox.workspace.counted[known:]
    sent = Counter(" + ".join(one.operations) for one in report.audiences)
    return (counted[-1] - counted[0]) / 3_600, sent, sum(one.users for one in report.audiences)


def measure_thirty() -> bool:
    """Sync them. Returns whether the bound held."""
    from moe_segments.testing import run_virtually

    with tempfile.TemporaryDirectory() as directory:
        began_s = time.perf_counter()
        hours, sent, users = run_virtually(lambda: _thirty(Path(directory)), in_memory=True)
    told = ", ".join(f"{count} {how}" for how, count in sent.most_common())
    print(f"thirty audiences: {told}; {users:,} users; {time.perf_counter() - began_s:.0f} s of real time")
    held = state_figure("from the first operation to the last", hours, BOUND_H, "h")
    return state_fact("within the users of a day", holds=users <= 2_000_000) and held


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--audiences", type=int, default=100)
    options.add_argument("--only", choices=("plan", "thirty"))
    options.add_argument("--one")
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(asyncio.run(_plan(Path(chosen.one)))))
        return
    passed = []
    if chosen.only != "thirty":
        passed.append(measure_plan(chosen.rounds, chosen.audiences))
    if chosen.only != "plan":
        passed.append(measure_thirty())
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
