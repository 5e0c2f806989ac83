"""kill -9 of processes that change memberships and flush them: nothing that was acknowledged is lost.

The sandbox and the receiver run here, in the process that kills. A worker writes to a file what it is about to say of a
user, and afterwards that it was acknowledged, so what it had heard when it died is known for certain.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from moe_segments import CallbackReceiver
from moe_segments.sandbox import FaultKind, Sandbox
from tests.proofs import cases, say
from tests.proofs.killing import a_nursery, check_integrity, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.timeout(1_800)]

KILLS: Final = cases(short=10, full=200)
SEED: Final = 20_261_130
SPEED: Final = 1_800.0  # an hour is two seconds
SEGMENTS: Final = ("vip", "lapsed")
WORKERS: Final = 2
TROUBLES: Final = 2  # that wait for their occasion: there are fewer operations than kills
FAULTS: Final = (FaultKind.FAIL_PROCESSING, FaultKind.LOSE_ANSWER, FaultKind.DROP, FaultKind.SERVER_ERROR)

WORKER: Final = """
import asyncio, logging, os, random
import moe_segments.memberships.membership, moe_segments.memberships.outbox.sqlite
from moe_segments import MoeSegmentsError, QuotaLimits, SegmentsClient
from moe_segments.models import Credentials

async def say_so(task, log, memberships, own, chance):
    number = 0
    while not task["last"]:
        name = chance.choice(task["segments"])
        user = f"u{task['slot']}-{own}-{chance.randrange(12)}"
        word = chance.choice("+-")
        os.write(log, f"? {name} {word} {user}\\n".encode())
        await (memberships[name].add(user) if word == "+" else memberships[name].remove(user))
        os.write(log, f"! {name} {word} {user}\\n".encode())
        await asyncio.sleep(chance.uniform(0, 0.02))

async def work(task):
    log = os.open(task["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    async with SegmentsClient(
        Credentials(**task["credentials"]), journal=task["journal"], base_url=task["base_url"],
        callbacks=task["callbacks"], publish=task["publish"], limits=QuotaLimits().scaled(task["speed"]),
        requests_per_s=1000, poll_s=0.05, connect_timeout_s=1, read_timeout_s=2, total_timeout_s=3,
    ) as client:
        memberships = {
            name: client.membership(name, attribute_name="ID", attribute_type="string", expiry_time=30)
            for name in task["segments"]
        }
        if task["last"]:
            for membership in memberships.values():
                await membership.flushed()
            os.write(log, b"done\\n")
            return
        await asyncio.gather(*(
            say_so(task, log, memberships, own, random.Random(f"{task['seed']} {own}")) for own in range(4)
        ))

logging.disable(logging.WARNING)
"""


def heard(text: str) -> tuple[dict[str, set[str]], dict[str, set[str]], int]:
    """Return what the last words of workers were: members by segment, users who may be either, acknowledgements."""
    members: dict[str, set[str]] = {name: set() for name in SEGMENTS}
    doubtful: dict[str, set[str]] = {name: set() for name in SEGMENTS}
    acknowledged = 0
    for line in text.splitlines():
        mark, *rest = line.split()
        if mark == "done":
            continue
        name, word, user = rest
        if mark == "?":
            doubtful[name].add(user)
            continue
        acknowledged += 1
        doubtful[name].discard(user)
        (members[name].add if word == "+" else members[name].discard)(user)
    return members, doubtful, acknowledged


async def test_no_acknowledged_change_is_lost_however_often_its_process_is_killed(tmp_path: Path) -> None:
    """One of two workers dies at a random moment, again and again, while operations fail and answers get lost."""
    chance, log = random.Random(SEED), tmp_path / "heard"
    log.touch()
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with Sandbox(speed=SPEED, latency_s=(0, 0.05), processing_s=(0, 0.2)) as sandbox:
        receiver = CallbackReceiver(journal=journal, scopes=[sandbox.credentials.scope], limits=sandbox.limits)
        async with receiver.serve() as serving:
            task = {
                "credentials": attrs.asdict(sandbox.credentials),
                "journal": journal,
                "base_url": sandbox.url,
                "callbacks": serving.public_url,
                "publish": f"{sandbox.url}/_files/flushed",
                "speed": SPEED,
                "segments": SEGMENTS,
                "log": str(log),
                "last": False,
            }
            async with a_nursery(WORKER, tmp_path) as nursery:
                workers = [await nursery.born(task | place(slot, 0)) for slot in range(WORKERS)]
                for kill in range(1, KILLS + 1):
                    await asyncio.sleep(chance.uniform(0.05, 1.5))
                    if chance.random() < 0.5 and sum(sandbox.queued_faults.values()) < TROUBLES:
                        sandbox.fail_next(chance.choice(FAULTS))
                    slot = chance.randrange(WORKERS)
                    os.kill(workers[slot], signal.SIGKILL)
                    workers[slot] = await nursery.born(task | place(slot, kill))
                for worker in workers:
                    os.kill(worker, signal.SIGKILL)
                before = len(sandbox.workspace.submissions)
                await nursery.born(task | place(0, 0) | {"last": True})
                await until(lambda: "done" in log.read_text(), patience_s=300)
            await sandbox.idle()
        members, doubtful, acknowledged = heard(log.read_text())
        held = {segment.name: segment.members for segment in sandbox.workspace.segments}
        say(f"seed {SEED}: {KILLS} kills, {acknowledged} changes, {before} operations before the last run")
        assert before, "nothing was sent while workers were killed"
        assert acknowledged > KILLS * 10
        assert sandbox.workspace.rejections == 0
        for name in SEGMENTS:
            wrong = (held.get(name, set()) ^ members[name]) - doubtful[name]
            assert not wrong, f"{name}: {len(wrong)} of {len(members[name])}"
    check_integrity(tmp_path / "quota.db.outbox")


def place(slot: int, kill: int) -> dict[str, Any]:
    """The place of a worker, and the seed of the chance by which it works."""
    return {"slot": slot, "seed": f"{SEED} {slot} {kill}"}
