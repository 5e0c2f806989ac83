"""procrastinate on PostgreSQL: twelve tasks, ten operations an hour, and the last two are put off until they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fleet.examples import processes, ran, service
from tests.fleet.postgres_server import postgres_server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]
_EXAMPLE = "examples/fleet_procrastinate.py"


async def test_tasks_that_do_not_fit_run_again_when_they_do(tmp_path: Path) -> None:
    with postgres_server() as server:
        async with service(server.url, tmp_path, DATABASE=server.url) as run:
            await ran(run.environment, _EXAMPLE, "setup")
            await ran(run.environment, "-c", _DEFER.format(url=run.file_url))
            async with processes(run.environment, (_EXAMPLE, "worker"), (_EXAMPLE, "worker")) as worked:
                await ran(run.environment, _EXAMPLE, "defer", "last", run.file_url, "3")
                await run.until_processed(12)
            assert run.sandbox.workspace.rejections == 0
            assert len(run.sandbox.workspace.segments) == 12
            assert sum("accepted" in line or "processed" in line for lines in worked for line in lines) == 12, worked
            assert int(server.sql("SELECT max(attempts) FROM procrastinate_jobs")) > 1  # some were put off


_DEFER = """
import asyncio
from examples.fleet_procrastinate import app, create_segment

async def main():
    async with app.open_async():
        for number in range(11):
            await create_segment.defer_async(name=f"segment_{{number}}", file_url={url!r}, rows=3)

asyncio.run(main())
"""
