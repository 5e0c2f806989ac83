"""kill -9 at random moments of a sync: what was acknowledged is kept, and the next run makes the members right.

The sandbox runs here, in the process that kills. A sync is a process of its own with its own receiver, on one SQLite
journal with its snapshots beside it; files are small, so that some operations go in parts. After one or two that were
killed comes one that may end: then the members are the desired ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from moe_segments import QuotaLimits
from moe_segments.sandbox import Sandbox
from tests.ports import free_port
from tests.proofs import cases, say
from tests.proofs.killing import (
    a_nursery,
    check_callbacks,
    check_integrity,
    file_calls,
    is_alive,
    jobs_by_token,
    state_of,
    token_of,
    until,
    worst_window,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proofs.killing import Nursery

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.timeout(3_600)]

KILLS: Final = cases(short=10, full=200)
SEED: Final = 20_261_130
SPEED: Final = 1_200.0  # an hour is three seconds
LIMITS: Final = QuotaLimits(
    operations_per_hour=60,
    operations_per_day=100_000,
    users_per_day=10_000_000,
    active_segments=1_000,
    file_bytes=600,
    count_late_s=SPEED,
    processing_allowance_s=12 * SPEED,  # on a busy machine a callback takes seconds
)
GIVEN: Final = (
    *("operations_per_hour", "operations_per_day", "users_per_day", "active_segments", "file_bytes"),
    *("count_late_s", "processing_allowance_s"),
)
POOL: Final = [f"user-{number:03}" for number in range(300)]
NAMES: Final = ("vip", "lapsed", "new")
ACKNOWLEDGED: Final = frozenset({"synced", "unchanged"})

# A sync writes its report to a file, whole or not at all.
SYNC: Final = """
import json, logging, os
import aiohttp, aiohttp.web
from moe_segments import Audience, CallbackReceiver, QuotaLimits, SegmentsClient
from moe_segments.models import Credentials
import moe_segments.audiences.sync, moe_segments.audiences.snapshots.directory, moe_segments.journal.sqlite.engine
import moe_segments.publishing.publisher, moe_segments.submission.file_preparer

async def work(task):
    async with (
        CallbackReceiver().serve(port=task["port"]) as receiver,
        SegmentsClient(
            Credentials(**task["credentials"]), journal=task["journal"], base_url=task["base_url"], callbacks=receiver,
            publish=task["publish"], limits=QuotaLimits(**task["limits"]).scaled(task["speed"]), requests_per_s=1000,
            poll_s=0.05, connect_timeout_s=1, read_timeout_s=2, total_timeout_s=3,
        ) as client,
    ):
        audiences = [
            Audience(name, attribute_name="ID", attribute_type="string", members=members, expiry_time=30, max_removed=1)
            for name, members in task["desired"].items()
        ]
        report = await client.sync(audiences, max_wait_s=120)
    with open(task["report"] + ".new", "w") as file:
        json.dump(report.to_json(), file)
    os.rename(task["report"] + ".new", task["report"])

logging.disable(logging.CRITICAL)
"""


class Syncs:
    """Syncs as processes of a nursery, and what they were to bring about."""

    def __init__(self, nursery: Nursery, sandbox: Sandbox, directory: Path) -> None:
        self._nursery, self._sandbox, self._directory = nursery, sandbox, directory
        self.chance, self.kills, self.runs = random.Random(SEED), 0, 0
        self.desired = {name: set(POOL[:180]) for name in NAMES}
        self._port = free_port()

    @property
    def journal(self) -> Path:
        """The file of the journal."""
        return self._directory / "quota.db"

    @property
    def _report(self) -> Path:
        return self._directory / f"report-{self.runs}.json"

    def change(self) -> None:
        """Some come, some go."""
        for name in NAMES:
            changed = self.chance.sample(POOL, self.chance.choice((0, 2, 10, 150)))
            self.desired[name] = self.desired[name] ^ set(changed) or {POOL[0]}

    async def start(self) -> int:
        """Start a sync of all as they are desired now. Returns its process' number."""
        self.runs += 1
        task = {
            "credentials": attrs.asdict(self._sandbox.credentials),
            "journal": f"sqlite:///{self.journal}",
            "base_url": self._sandbox.url,
            "publish": f"{self._sandbox.url}/_files/sync",
            "limits": {name: getattr(LIMITS, name) for name in GIVEN},
            "speed": SPEED,
            "port": self._port,
            "report": str(self._report),
            "desired": {name: sorted(members) for name, members in self.desired.items()},
        }
        return await self._nursery.born(task)

    async def killed(self) -> None:
        """Start a sync and kill it, unless it is done before."""
        process = await self.start()
        await asyncio.sleep(self.chance.choice((0.05, 0.3, 0.6, 1.2)) * self.chance.random())
        if not self._report.exists():
            os.kill(process, signal.SIGKILL)
            self.kills += 1
        await until(lambda: not is_alive(process))  # it listens on the port that the next one needs

    async def finished(self) -> None:
        """Start a sync and let it end: then the members are as desired."""
        process = await self.start()
        await until(lambda: not is_alive(process), patience_s=180)
        assert self._report.exists(), f"sync {self.runs} failed, see stderr"
        report = json.loads(self._report.read_text())
        for one in report["audiences"]:
            assert one["status"] in ACKNOWLEDGED, (self.kills, one)
            members = next(each.members for each in self._sandbox.workspace.segments if each.name == one["name"])
            assert members == self.desired[one["name"]], (self.kills, one)

    async def unchanged(self) -> None:
        """See that a sync of what is there already sends nothing."""
        before = len(file_calls(self._sandbox))
        await self.finished()
        assert len(file_calls(self._sandbox)) == before


async def test_killed_syncs_lose_nothing_double_nothing_and_the_next_run_makes_members_right(tmp_path: Path) -> None:
    """Killed at any moment, once or several times in a row, with other members desired each time."""
    pauses_s = tuple(pause_s * SPEED for pause_s in (0.2, 0.4, 0.8, 1.6, 3.2))
    async with Sandbox(
        speed=SPEED, limits=LIMITS, latency_s=(0, 0.05), processing_s=(0, 0.1), callback_pauses_s=pauses_s, seed=SEED
    ) as sandbox:
        async with a_nursery(SYNC, tmp_path) as nursery:
            syncs = Syncs(nursery, sandbox, tmp_path)
            while syncs.kills < KILLS:
                syncs.change()
                await syncs.killed()
                if syncs.chance.random() < 0.6:
                    await syncs.finished()
            await syncs.finished()
            await syncs.unchanged()
        await sandbox.idle()
        await check(sandbox, syncs)


async def check(sandbox: Sandbox, syncs: Syncs) -> None:
    """See that every arrival has its row, that none came twice, and that every acknowledged callback is kept."""
    batches, records = await state_of(syncs.journal, sandbox.credentials.scope, sandbox.limits)
    calls, workspace = file_calls(sandbox), sandbox.workspace
    worst = worst_window(workspace.counted, sandbox.limits.hour_s)
    acknowledged = {delivery.request_id for delivery in workspace.deliveries if delivery.status == 200}
    say(
        f"seed {SEED}: {syncs.kills} kills of {syncs.runs} syncs, {len(calls)} operations, "
        f"{len(acknowledged)} callbacks acknowledged, fullest window {worst} of {sandbox.limits.operations_per_hour}"
    )
    assert [call for call in calls if call.status == 429] == []
    assert {call.op for call in calls} == {"create", "add", "remove", "replace"}
    jobs = jobs_by_token(batches)
    arrivals = Counter(jobs[token_of(submission)] for submission in workspace.submissions)
    assert max(arrivals.values()) == 1, "sent twice"
    assert not [job for job, record in records.items() if record.duplicate_possible]
    assert any(".2" in job for job in arrivals), "nothing was sent in parts"
    check_callbacks(sandbox, batches, records, acknowledged)
    check_integrity(syncs.journal)
