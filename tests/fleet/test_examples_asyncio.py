"""The example of plain processes runs as its header says, on every engine that a fleet may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.fleet.examples import SPEED, ran
from tests.fleet.postgres_server import postgres_server
from tests.fleet.servers import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def journal(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """What stands behind the command: nothing, or the URL of a server."""
    match request.param:
        case "redis":
            with redis_server() as redis:
                yield (redis.url,)
        case "postgres":
            with postgres_server() as postgres:
                yield (postgres.url,)
        case _:
            yield ()


async def test_three_processes_share_ten_operations_an_hour(journal: tuple[str, ...]) -> None:
    said = await ran({**os.environ, "SPEED": str(SPEED)}, "examples/fleet_asyncio.py", *journal)
    assert said.count("has 36 users") == 15
    assert "15 segments, 0 answers of 429" in said
