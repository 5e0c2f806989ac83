"""Random stories of membership changes in virtual time: in the end a segment has exactly the users of the last words.

Files fail, answers and callbacks get lost, processes die in the midst of a flush, two hosts share an outbox, syncs and
other calls go between. Each story is one seed; the service never answers 429.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import Audience, MoeSegmentsError, SegmentsClient
from moe_segments.sandbox import FaultKind
from tests.live.audience_world import FIELDS, World, in_virtual_time, world
from tests.proofs import cases
from tests.proofs.test_audience_stories import MortalJournal

if TYPE_CHECKING:
    from pathlib import Path

SEEDS: Final = cases(5, 200)
STEPS: Final = 12
POOL: Final = [f"user-{number:02}" for number in range(40)]
NAMES: Final = ("vip", "lapsed")
HOSTS: Final = 2
DAY_S: Final = 86_400
FAULTS: Final = (
    *(FaultKind.SLOW, FaultKind.COUNT_LATE, FaultKind.DROP, FaultKind.LOSE_ANSWER, FaultKind.SERVER_ERROR),
    *(FaultKind.FAIL_PROCESSING, FaultKind.LOSE_CALLBACK, FaultKind.DOUBLE_CALLBACK, FaultKind.EARLY_CALLBACK),
)


class Story:
    """One history, drawn by chance."""

    def __init__(self, w: World, place: Path, seed: int) -> None:
        self.w, self.place, self.chance = w, place, random.Random(seed)
        self.desired: dict[str, set[str]] = {name: set() for name in NAMES}
        self.doubtful: set[str] = set()  # segments that a sync left who knows how
        self.hosts: list[tuple[AsyncExitStack, MortalJournal, SegmentsClient]] = []

    async def born(self, host: int) -> None:
        """Start a process on a host."""
        stack, journal = AsyncExitStack(), MortalJournal(self.w.journal)
        client = await stack.enter_async_context(self.w.client(host, journal))
        self.hosts.insert(host, (stack, journal, client))
        for name in NAMES:
            self.membership(client, name)

    def membership(self, client: SegmentsClient, name: str) -> Any:
        return client.membership(name, **FIELDS, outbox=self.place, priority=len(name))

    async def died(self) -> None:
        """Kill a process in whatever it does, and start another one."""
        host = self.chance.randrange(HOSTS)
        stack, journal, _ = self.hosts.pop(host)
        journal.is_dead = True
        await stack.aclose()
        await self.born(host)

    async def change(self) -> None:
        """Say something of some users."""
        name, (_, _, client) = self.chance.choice(NAMES), self.chance.choice(self.hosts)
        users = self.chance.sample(POOL, self.chance.choice((1, 2, 8)))
        if self.chance.random() < 0.6:
            await self.membership(client, name).add(*users)
            self.desired[name] |= set(users)
        else:
            await self.membership(client, name).remove(*users)
            self.desired[name] -= set(users)

    async def sync(self) -> None:
        """Say something of all users of a segment; while it works, more is said of some."""
        name, (_, _, client) = self.chance.choice(NAMES), self.chance.choice(self.hosts)
        members = set(self.chance.sample(POOL, 12))
        audience = Audience(name, members=sorted(members), max_removed=1, **FIELDS)
        syncing = asyncio.ensure_future(client.sync([audience], snapshots=self.w.place))
        await asyncio.sleep(0.001)
        later = set[str]()
        while not syncing.done() and self.chance.random() < 0.5:
            later.add(self.chance.choice(POOL))
            await self.membership(client, name).add(*later)
        report = await syncing
        await self.membership(client, name).add(*later)  # whether its source was read before the first time
        if report.ok:
            self.desired[name] = members | later
            self.doubtful.discard(name)
        else:
            self.doubtful.add(name)

    async def step(self) -> None:
        """Do one thing, and let some time pass."""
        if self.chance.random() < 0.4 and sum(self.w.sandbox.queued_faults.values()) < 2:
            self.w.sandbox.fail_next(self.chance.choice(FAULTS))
        match self.chance.choice(("change", "change", "change", "change", "sync", "died")):
            case "sync":
                await self.sync()
            case "died":
                await self.died()
            case _:
                await self.change()
        await asyncio.sleep(self.chance.choice((0.0, 0.1, 10.0, 11.0, 60.0, 900.0, 30_000.0)))

    async def end(self) -> None:
        """Sync what a sync left in doubt; then everything that was said is applied."""
        _, _, client = self.hosts[0]
        for name in sorted(self.doubtful):
            for _ in range(5):
                members = self.desired[name] or {POOL[0]}
                audience = Audience(name, members=sorted(members), max_removed=1, **FIELDS)
                if (await client.sync([audience], snapshots=self.w.place)).ok:
                    self.desired[name] = members
                    break
            else:
                raise AssertionError(f"{name} cannot be synced")
        for name in NAMES:
            await self.membership(client, name).add(POOL[1])
            self.desired[name].add(POOL[1])
            await self.membership(client, name).flushed(timeout=10 * DAY_S)
        await self.w.sandbox.idle()
        assert {name: self.w.members(name) for name in NAMES} == self.desired
        for stack, _, _ in self.hosts:
            await stack.aclose()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_segments_have_the_users_of_the_last_words(tmp_path: Path, seed: int) -> None:
    @in_virtual_time
    async def story() -> None:
        chance = random.Random(f"{seed} world")
        processing_s = chance.choice(((0, 0), (0, 60), (600, 4_000)))
        async with world(tmp_path, latency_s=(0, 0.4), processing_s=processing_s, seed=seed) as w:
            told = Story(w, tmp_path / "outbox.db", seed)
            for host in range(HOSTS):
                await told.born(host)
            for _ in range(STEPS):
                try:
                    await told.step()
                except MoeSegmentsError as error:
                    raise AssertionError("no call of a story fails") from error
            await told.end()

    story()
