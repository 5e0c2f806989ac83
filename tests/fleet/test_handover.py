"""One process sends, a second awaits the job, the callback arrives at a third: three hosts, as far as they know."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments.sandbox import Sandbox
from tests.fleet.postgres_server import postgres_server
from tests.fleet.servers import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.timeout(60)]

SPEED: Final = 3_600.0

PRELUDE: Final = """
import asyncio, json, sys
from moe_segments import CallbackReceiver, Credentials, QuotaLimits, SegmentsClient
task = json.loads(sys.argv[1])
limits = QuotaLimits().scaled(task["speed"])

def client(**more):
    return SegmentsClient(
        Credentials(**task["credentials"]), journal=task["journal"], base_url=task["base_url"], limits=limits,
        callbacks=task["callbacks"], **more)

def say(*words):
    print(*words, flush=True)
"""
RECEIVE: Final = """
async def main():
    receiver = CallbackReceiver(journal=task["journal"], scopes=[task["scope"]], limits=limits)
    async with receiver.serve():
        say(receiver.public_url)
        await asyncio.to_thread(sys.stdin.readline)
"""
AWAIT: Final = """
async def main():
    async with client() as waiting:
        job = waiting.job("handed-over")
        say("waiting")
        done = await job.result(timeout=30)
        say(done.user_count, done.values_found)
"""
SEND: Final = """
from moe_segments import CreateFileSegment

async def main():
    async with client() as sending:
        job = await sending.submit(
            CreateFileSegment(name="diwali", attribute_name="ID", attribute_type="string", file_url=task["file_url"],
                              expiry_time=30, rows=3), job_id="handed-over")
        say(job.state)
"""


@pytest.fixture(params=[None, redis_server, postgres_server], ids=["sqlite", "redis", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A journal of this test's own: a file, or on a server."""
    if request.param is None:
        yield f"sqlite:///{tmp_path}/quota.db"
        return
    with request.param() as server:
        yield server.url


@asynccontextmanager
async def running(body: str, task: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of its own; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{PRELUDE}{body}\nasyncio.run(main())", json.dumps(task)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()


async def test_a_job_of_one_process_is_awaited_in_another_and_ended_by_a_third(journal: str, tmp_path: Path) -> None:
    """The second asks for it once the first has sent it and gone."""
    (tmp_path / "users.csv").write_text("u-1\nu-2\nu-3\n")
    async with Sandbox(speed=SPEED, processing_s=(1.5, 1.5)) as sandbox:
        task = {
            "credentials": {
                "workspace_id": sandbox.credentials.workspace_id,
                "api_key": sandbox.credentials.api_key,
                "data_center": sandbox.credentials.data_center,
            },
            "scope": sandbox.credentials.scope,
            "journal": journal,
            "base_url": sandbox.url,
            "speed": SPEED,
            "file_url": await sandbox.publish(tmp_path / "users.csv"),
        }
        async with running(RECEIVE, task) as receiving:
            task["callbacks"] = await line_of(receiving)
            async with running(SEND, task) as sending:
                assert await line_of(sending) == "accepted"
                assert await sending.wait() == 0
            async with running(AWAIT, task) as waiting:
                assert await line_of(waiting) == "waiting"
                assert (await line_of(waiting)).split()[1] == "3"
                assert await waiting.wait() == 0
