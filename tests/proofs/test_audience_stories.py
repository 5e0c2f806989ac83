"""Random stories of syncs in virtual time: after a sync that went well the segment's members are the desired ones.

Files fail, answers and callbacks are lost, processes die, snapshots are deleted, altered and restored, others change
segments by a call or in the dashboard, two hosts sync, some audiences go in parts over days. Each story is one seed;
the service never answers 429 and sees no send that the journal does not know.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import Audience, MoeSegmentsError, QuotaLimits
from moe_segments.errors import JournalUnavailable
from moe_segments.sandbox import FaultKind
from tests.live.audience_world import FIELDS, World, in_virtual_time, world
from tests.proofs import cases

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from moe_segments import SyncReport

SEEDS: Final = cases(10, 300)
STEPS: Final = 12
WORLDS: Final = (  # of which two send some audiences in parts, and one of those over days
    *(None, None, None),
    *(QuotaLimits(file_bytes=150), QuotaLimits(file_bytes=150), QuotaLimits(users_per_day=40)),
)
POOL: Final = [f"user-{number:02}" for number in range(60)]
NAMES: Final = ("vip", "lapsed")
ON_REQUESTS: Final = (
    *(FaultKind.SLOW, FaultKind.COUNT_LATE, FaultKind.DROP, FaultKind.LOSE_ANSWER),
    *(FaultKind.SERVER_ERROR, FaultKind.SERVER_ERROR_COUNTED),
)
ON_FILES: Final = (
    *(FaultKind.FAIL_PROCESSING, FaultKind.LOSE_CALLBACK, FaultKind.DOUBLE_CALLBACK),
    *(FaultKind.EARLY_CALLBACK, FaultKind.LATE_CALLBACK, FaultKind.GARBAGE_CALLBACK),
)
TROUBLES: Final = 2  # that wait for their occasion
MOMENTS_S: Final = (0.0, 0.01, 0.1, 0.3, 1.0, 10.0, 4_000.0, 90_000.0)  # of a sync that is stopped
TRIES: Final = 2 + TROUBLES


class MortalJournal:
    """A journal that one process has open, until that process dies: then nothing it says is written any more."""

    def __init__(self, journal: Any) -> None:
        self._journal, self.is_dead = journal, False

    def __getattr__(self, name: str) -> Any:
        if self.is_dead and name in ("transact", "append"):
            raise JournalUnavailable("this process is dead")
        return getattr(self._journal, name)


class Story:
    """One history, drawn by chance."""

    def __init__(self, w: World, seed: int) -> None:
        self.w, self.chance = w, random.Random(seed)
        self.desired: dict[str, set[str]] = {name: set(POOL[:30]) for name in NAMES}
        self.place = w.place
        self.kept: dict[Path, bytes] = {}
        self.distrusted = set[str]()  # edited in the dashboard, which nobody has told

    def change(self) -> None:
        """Some come, some go."""
        name = self.chance.choice(NAMES)
        changes = self.chance.sample(POOL, self.chance.choice((1, 3, 20)))
        self.desired[name] = self.desired[name] ^ set(changes) or {POOL[0]}

    async def sync(
        self, host: int = 0, journal: Any = None, max_wait_s: float = 1e9, place: Path | None = None
    ) -> SyncReport:
        """Sync both as they are desired now."""
        wanted = {name: set(members) for name, members in self.desired.items()}
        full = {name: 1e-9 if name in self.distrusted else None for name in NAMES}
        audiences = [
            Audience(name, members=members, max_removed=1, priority=len(name), full_every_days=full[name], **FIELDS)
            for name, members in wanted.items()
        ]
        async with self.w.client(host, journal) as client:
            return await client.sync(audiences, snapshots=place or self.place, max_wait_s=max_wait_s)

    async def checked(self, host: int = 0, place: Path | None = None) -> bool:
        """Sync, and see that what went well is as desired. Returns whether all went well."""
        report = await self.sync(host, place=place)
        for one in report.audiences:
            if one.ok:
                assert self.w.members(one.name) == self.desired[one.name], one
                self.distrusted.discard(one.name)
        return report.ok

    async def killed(self) -> None:
        """Kill a process at any moment of its sync: its right to the segments is not given up."""
        journal = MortalJournal(self.w.journal)
        running = asyncio.ensure_future(self.sync(journal=journal))
        await asyncio.sleep(self.chance.choice(MOMENTS_S))
        journal.is_dead = True
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def cut_off(self) -> None:
        """Cancel a sync at any moment."""
        running = asyncio.ensure_future(self.sync())
        await asyncio.sleep(self.chance.choice(MOMENTS_S))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def on_two_hosts(self) -> None:
        """Two hosts sync at the same time, with snapshots that they share or of their own."""
        place = self.chance.choice((self.place, self.place.with_name("of the other host")))
        await asyncio.gather(self.checked(), self.checked(host=1, place=place))

    async def called(self) -> None:
        """Somebody changes a segment by another call."""
        async with self.w.client() as client:
            try:
                job = await client.add_users(
                    name=self.chance.choice(NAMES),
                    attribute_name="ID",
                    attribute_type="string",
                    values=self.chance.sample(POOL, 3),
                    max_wait_s=1e9,
                )
                await job.result(timeout=self.chance.choice((0, 30_000)))
            except MoeSegmentsError:
                pass  # there is no such segment yet, or a fault was meant for it

    async def edited(self) -> None:
        """Somebody changes a segment in the dashboard, and says so; or the days are over after which all are sent."""
        name = self.chance.choice(NAMES)
        for segment in self.w.sandbox.workspace.segments:
            if segment.name == name:
                segment.members ^= set(self.chance.sample(POOL, 5))
        if self.chance.random() < 0.5:
            self.distrusted.add(name)
            await asyncio.sleep(1)
            return
        async with self.w.client() as client:
            await client.forget_audience(name, snapshots=self.place)

    async def spoil(self) -> None:
        """Snapshots are deleted, altered, or cut."""
        for path in self.place.rglob("*"):
            if path.is_file() and self.chance.random() < 0.7:
                data = path.read_bytes()
                path.write_bytes(self.chance.choice((data[:-9], data[:40] + b"\0" + data[41:], b"")))
                if self.chance.random() < 0.3:
                    path.unlink()

    async def keep(self) -> None:
        """A backup of the snapshots is made."""
        self.kept = {path: path.read_bytes() for path in self.w.place.parent.rglob("*/*/*") if path.is_file()}

    async def restore(self) -> None:
        """The snapshots are those of the backup again."""
        for path in self.w.place.parent.rglob("*/*/*"):
            if path.is_file():
                path.unlink()
        for path, data in self.kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    async def move(self) -> None:
        """The snapshots are somewhere else from now on."""
        self.place = self.chance.choice((self.w.place, self.w.place.with_name("elsewhere")))

    def trouble(self) -> None:
        """Something goes wrong with one of the next operations."""
        if sum(self.w.sandbox.queued_faults.values()) < TROUBLES:
            kinds = ON_REQUESTS if self.chance.random() < 0.5 else ON_FILES
            self.w.sandbox.fail_next(self.chance.choice(kinds))

    async def step(self) -> None:
        """Do one thing."""
        self.change()
        if self.chance.random() < 0.5:
            self.trouble()
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "sync": self.checked,
            "killed": self.killed,
            "cut off": self.cut_off,
            "two hosts": self.on_two_hosts,
            "called": self.called,
            "edited": self.edited,
            "spoiled": self.spoil,
            "moved": self.move,
            "kept": self.keep,
            "restored": self.restore,
        }
        await steps[self.chance.choice(("sync", *steps))]()

    async def end(self) -> None:
        """Once nothing goes wrong any more, a sync or two make it right."""
        for _ in range(TRIES):
            if await self.checked():
                break
        else:
            raise AssertionError(f"not in order after {TRIES} syncs")
        await self.w.sandbox.idle()
        assert {name: self.w.members(name) for name in NAMES} == self.desired
        report = await self.sync()
        assert [one.status for one in report.audiences] == ["unchanged"] * len(NAMES)

    async def sends_are_known(self) -> None:
        """Every send that the service accepted is a send of a job in the journal."""
        async with self.w.client() as client:
            sends = sum([job.attempts async for job in client.jobs()])
        assert len(self.w.sandbox.workspace.submissions) <= sends


@pytest.mark.parametrize("seed", range(SEEDS))
def test_members_are_as_desired_after_a_sync_that_went_well(tmp_path: Path, seed: int) -> None:
    @in_virtual_time
    async def story() -> None:
        chance = random.Random(f"{seed} world")
        processing_s = chance.choice(((0, 0), (0, 60), (600, 4_000)))
        limits = chance.choice(WORLDS)
        async with world(tmp_path, latency_s=(0, 0.4), processing_s=processing_s, limits=limits, seed=seed) as w:
            told = Story(w, seed)
            for _ in range(STEPS):
                await told.step()
            await told.end()
            await told.sends_are_known()

    story()
