"""A quarter of a year of operation in virtual time: no error, and nothing grows but what is meant to be remembered."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from moe_segments.core.events import ActiveObserved, Answered, CallbackReceived, Event, NeverSent, Unknown
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.jobs import KEEP_DAYS
from moe_segments.core.state.verdicts import Ask
from moe_segments.governor.governor import Governor, Grant
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.testing import VirtualTimeLoop, journal_clock
from tests.proofs import cases, say
from tests.proofs.services import SlidingLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SECOND, DAY_S = 1_000_000, 86_400.0
OPERATIONS = cases(600, 8_760)
QUARTER_S = 91.25 * DAY_S
SPACING_S = QUARTER_S / OPERATIONS
REMEMBERED = round(KEEP_DAYS * DAY_S / SPACING_S)
HINTS = cases(8, 0)  # further entries for each operation, so that the short form compacts too
CHECKPOINT_EVERY = 2_000  # batches, as the replica does
ENTRIES = 2 * (4_096 + 500)  # of both histories, before what no window counts is cut off


class TimerLoop(VirtualTimeLoop):
    """Knows how many timers are set."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[asyncio.TimerHandle] = []

    def call_at(  # type: ignore[override]  # the stubs' type variables add nothing here
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As ever, and noted."""
        handle = super().call_at(when, callback, *args, context=context)
        self._timers.append(handle)
        return handle

    def alive(self) -> int:
        """How many are still to come."""
        self._timers = [timer for timer in self._timers if not timer.cancelled() and timer.when() > self.time()]
        return len(self._timers)


@attrs.frozen
class Sizes:
    """What a process holds at one moment.

    Attributes:
        rows: Sends that are not over.
        entries: Of the histories.
        leases: Of active segments.
        jobs: Remembered.
        tokens: Remembered.
        keys: Segments with an operation, or a last one.
        batches: In the log.
        tasks: Of the loop.
        timers: Of the loop.
        files: Open descriptors.
    """

    rows: int
    entries: int
    leases: int
    jobs: int
    tokens: int
    keys: int
    batches: int
    tasks: int
    timers: int
    files: int


def open_files() -> int:
    """Descriptors of this process, where the system tells."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


async def sizes_of(replica: Replica) -> Sizes:
    """Looks without changing anything."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TimerLoop)
    ledger, jobs = replica.state.ledger, replica.state.jobs
    return Sizes(
        rows=len(ledger.rows),
        entries=sum(len(history.us) for history in ledger.histories),
        leases=len(ledger.active.leases),
        jobs=len(jobs.records),
        tokens=len(jobs.tokens),
        keys=len(jobs.holders) + len(jobs.last_sent),
        batches=len(await replica.journal.read(0)),
        tasks=len(asyncio.all_tasks()),
        timers=loop.alive(),
        files=open_files(),
    )


class Quarter:
    """Operations at an even pace, each with a fate of its own."""

    def __init__(self, replica: Replica, governor: Governor, seed: int) -> None:
        self.replica, self.governor, self.chance = replica, governor, random.Random(seed)
        self.fates: Counter[str] = Counter()
        self.hour, self.day = SlidingLog(10, 3_600 * SECOND), SlidingLog(100, 86_400 * SECOND)
        self.objections = 0

    async def run(self) -> Iterator[Sizes]:
        """Play it all. Returns what was held at the end of each day."""
        seen, running = [], set[asyncio.Task[None]]()
        for number in range(OPERATIONS):
            task = asyncio.ensure_future(self.one(number))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(SPACING_S * 0.999 if self.chance.random() < 0.9 else SPACING_S * 1.009)
            if number % max(1, OPERATIONS // 91) == 0:
                seen.append(await sizes_of(self.replica))
        await asyncio.gather(*running)
        return iter(seen)

    async def one(self, number: int) -> None:
        """One operation from leave to end."""
        chance = self.chance
        is_create, has_token = chance.random() < 0.3, chance.random() < 0.9
        job, name = f"job-{number}", f"made-{number}" if is_create else f"segment-{number % 400}"  # names are used up
        grant = await self.governor.reserve(
            Ask(
                job=job,
                operation={"op": "create" if is_create else "add", "name": name},
                cost=Cost(1, chance.choice((10, 1_000, 15_000)), int(is_create)),
                keys=(name,),
                fence_us=30 * SECOND,
                timeout_us=60 * SECOND,
                token_sha256=f"token-{number}" if has_token else None,
                expiry_days=chance.choice((1, 3, 5)) if is_create else None,
            ),
            max_wait_s=30 * DAY_S,
        )
        assert grant is not None
        await asyncio.sleep(chance.choice((0.0, 1.0, 20.0)))
        fate = chance.choices(("done", "refused", "lost", "unsent", "silent"), (80, 6, 5, 5, 4))[0]
        self.fates[fate] += 1
        for _ in range(HINTS):
            await self._tell(ActiveObserved(0, "hint"))
        await self._end(grant, fate, has_token=has_token)

    async def _end(self, grant: Grant, fate: str, *, has_token: bool) -> None:
        job, attempt = grant.job, grant.attempt
        if fate == "unsent":
            await self._tell(NeverSent(job, attempt, "no connection"))
            return
        now_us = journal_clock()
        self.objections += self.hour.objects(now_us, 1) + self.day.objects(now_us, 1)
        if fate == "silent":  # its process is gone; the callback may come all the same
            pass
        elif fate == "lost":
            await self._tell(Unknown(job, attempt, "time-out"))
        elif fate == "refused":
            await self._tell(Answered(job, attempt, 409, error={"title": "no"}))
            return
        else:
            await self._tell(Answered(job, attempt, 202, accepted={"cs_name": job, "cs_id": f"id-{job}"}))
        if has_token and self.chance.random() < 0.9:
            await asyncio.sleep(self.chance.choice((5.0, 300.0, 3_600.0, 40_000.0)))
            outcome = "failed" if self.chance.random() < 0.05 else "processed"
            for _ in range(1 + (self.chance.random() < 0.05)):
                await self._tell(CallbackReceived(job, attempt, "digest", outcome, {"user_count": 5}, 9))

    async def _tell(self, event: Event) -> None:
        await self.replica.record(event)


async def forgotten(replica: Replica) -> None:
    """Another quarter without operations, and a checkpoint: only what never ended is remembered."""
    await asyncio.sleep(KEEP_DAYS * DAY_S)
    for _ in range(CHECKPOINT_EVERY + len(replica.state.jobs.records)):
        await replica.record(ActiveObserved(0))
    await asyncio.sleep(1)
    sizes = await sizes_of(replica)
    assert (sizes.rows, sizes.leases) == (0, 0), sizes
    assert not any(record.settled for record in replica.state.jobs.records.values())
    assert sizes.tokens <= sizes.jobs < OPERATIONS / 4, sizes


def test_a_quarter_of_operation_is_without_error_and_grows_nothing() -> None:
    """One operation every quarter of an hour; lost, refused, silent and late ones among them."""

    async def main() -> tuple[list[Sizes], Quarter, int]:
        limits = QuotaLimits()
        replica = Replica(MemoryJournal(clock=journal_clock), limits)
        await replica.open()
        governor = Governor(replica, limits, clock=asyncio.get_running_loop().time)
        await governor.open("https://api-01.moengage.com", on_lost_journal="wait", announce=False)
        quarter = Quarter(replica, governor, seed=1)
        seen = list(await quarter.run())
        await asyncio.sleep(3 * DAY_S)
        assert all(usage.used == 0 for name, usage in (await governor.usage()).items() if name != "active_segments")
        last = await sizes_of(replica)
        version = replica.state.version
        await forgotten(replica)
        await governor.close()
        await replica.close()
        return [*seen, last], quarter, version

    with asyncio.Runner(loop_factory=TimerLoop) as runner:
        seen, quarter, version = runner.run(main())

    last = seen[-1]
    say(f"quarter: {OPERATIONS} operations, {version} batches, {dict(quarter.fates)}, at the end {last}")
    assert sum(quarter.fates.values()) == OPERATIONS
    assert quarter.objections == 0
    assert version > 2 * OPERATIONS
    compacted = max(CHECKPOINT_EVERY, *(size.jobs for size in seen))
    assert max(size.batches for size in seen) <= compacted + 300  # ids are kept for an hour
    assert last.batches < version / 2
    month = seen[: len(seen) // 3]
    for field in ("leases", "tasks", "timers", "files"):
        early, late = (max(getattr(size, field) for size in part) for part in (month, seen))
        assert late <= max(2 * early, early + 10), f"{field} grew from {early} to {late}"
    assert all(size.jobs <= REMEMBERED + compacted for size in seen)  # pruned at each checkpoint
    assert all(size.tokens <= size.jobs for size in seen)
    assert all(size.keys <= 2 * size.jobs for size in seen)  # a segment is held, or was used, by a job that is known
    assert all(size.rows <= REMEMBERED / 2 for size in seen)  # for a month a late callback may come
    assert all(size.entries <= ENTRIES for size in seen)
    assert last.timers <= 1
    assert last.tasks <= 2
