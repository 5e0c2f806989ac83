"""kill -9 of processes that change memberships and flush them: nothing that was acknowledged is lost.

The sandbox and the receiver run here, in the process that kills. A worker writes to a file what it is about to say of a
user, and afterwards that it was acknowledged, so what it had heard when it died is known for certain.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import CallbackReceiver
from moe_segments.sandbox import FaultKind, Sandbox
from tests.proofs import cases, say
from tests.proofs.test_kills import a_group, check_integrity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.timeout(1_800)]

KILLS: Final = cases(short=10, full=200)
SEED: Final = 20_261_130
SPEED: Final = 1_800.0  # an hour is two seconds
SEGMENTS: Final = ("vip", "lapsed")
WORKERS: Final = 2
TROUBLES: Final = 2  # that wait for their occasion: there are fewer operations than kills
FAULTS: Final = (FaultKind.FAIL_PROCESSING, FaultKind.LOSE_ANSWER, FaultKind.DROP, FaultKind.SERVER_ERROR)

# As in `test_kills`: a line of JSON starts a worker, which is a fork; the end of the input is the end of all.
NURSERY: Final = """
import asyncio, gc, json, logging, os, random, signal, sys
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
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(work(json.loads(line)))
        os._exit(0)
    print(child, flush=True)
os.killpg(os.getpgid(0), signal.SIGKILL)
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
        credentials = {"workspace_id": "SANDBOX", "api_key": sandbox.credentials.api_key, "data_center": "01"}
        async with receiver.serve() as serving:
            task = {
                "credentials": credentials,
                "journal": journal,
                "base_url": sandbox.url,
                "callbacks": serving.public_url,
                "publish": f"{sandbox.url}/_files/flushed",
                "speed": SPEED,
                "segments": SEGMENTS,
                "log": str(log),
                "last": False,
            }
            errors = tmp_path / "stderr"
            with errors.open("wb") as stderr:
                async with a_group(
                    *(sys.executable, "-c", NURSERY),
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=stderr,
                ) as nursery:
                    workers = [await born(nursery, task, slot, 0) for slot in range(WORKERS)]
                    for kill in range(1, KILLS + 1):
                        await asyncio.sleep(chance.uniform(0.05, 1.5))
                        if chance.random() < 0.5 and sum(sandbox.queued_faults.values()) < TROUBLES:
                            sandbox.fail_next(chance.choice(FAULTS))
                        slot = chance.randrange(WORKERS)
                        os.kill(workers[slot], signal.SIGKILL)
                        workers[slot] = await born(nursery, task, slot, kill)
                    for worker in workers:
                        os.kill(worker, signal.SIGKILL)
                    before = len(sandbox.workspace.submissions)
                    await born(nursery, task | {"last": True}, 0, 0)
                    async with asyncio.timeout(300):
                        while "done" not in log.read_text():
                            await asyncio.sleep(0.1)
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
    assert errors.read_text() == ""


async def born(nursery: asyncio.subprocess.Process, task: Mapping[str, Any], slot: int, kill: int) -> int:
    """Start a worker in a place. Returns its process' number."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{json.dumps({**task, 'slot': slot, 'seed': f'{SEED} {slot} {kill}'})}\n".encode())
    await nursery.stdin.drain()
    return int(await nursery.stdout.readline())
