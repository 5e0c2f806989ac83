"""taskiq on Redis: twelve tasks, ten operations an hour, and the last two are scheduled rather than slept for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fleet.examples import processes, ran, service
from tests.fleet.servers import redis_server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]
_EXAMPLE = "examples.fleet_taskiq"


async def test_tasks_that_do_not_fit_run_again_when_they_do(tmp_path: Path) -> None:
    with redis_server() as server:
        redis = f"redis://127.0.0.1:{server.port}"
        async with service(server.url, tmp_path, REDIS=redis) as run:
            async with processes(
                run.environment,
                ("-m", "taskiq", "worker", f"{_EXAMPLE}:broker", "--workers", "2"),
                ("-m", "taskiq", "scheduler", f"{_EXAMPLE}:scheduler", "--update-interval", "1"),
            ) as (worked, _):
                await ran(run.environment, "-m", _EXAMPLE, "first", run.file_url, "3")
                await ran(run.environment, "-c", _KICK.format(url=run.file_url))
                await run.until_processed(12)
                await asyncio.sleep(0)
            assert run.sandbox.workspace.rejections == 0
            assert len(run.sandbox.workspace.segments) == 12
            assert any("again at" in line for line in worked), worked


_KICK = """
import asyncio
from examples.fleet_taskiq import broker, create_segment

async def main():
    await broker.startup()
    for number in range(11):
        await create_segment.kiq(name=f"segment_{{number}}", file_url={url!r}, rows=3)
    await broker.shutdown()

asyncio.run(main())
"""
