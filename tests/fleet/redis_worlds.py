"""What the Redis tests share: a server of one's own, its administrator, journals on it, clocks that go wrong."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from moe_segments.journal.redis.engine import RedisJournal
from tests.fleet.servers import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


__all__ = ["admin_of", "calls_of", "opened", "server", "server_us", "tell"]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own."""
    with redis_server() as made:
        yield made


@contextmanager
def admin_of(server: RedisServer, **options: Any) -> Iterator[Redis]:  # redis-py's own options
    """Whoever may do everything to *server*."""
    client = Redis(port=server.port, decode_responses=True, **options)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def opened(url: str, scope: str = "W1", **options: Any) -> AsyncIterator[RedisJournal]:  # its own parameters
    journal = RedisJournal(url, scope, **options)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def calls_of(admin: Redis) -> int:
    """How many scripts the server has run for its clients."""
    stats: dict[str, Any] = admin.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


def server_us(admin: Redis) -> int:
    seconds, micros = admin.time()
    return int(seconds) * 1_000_000 + int(micros)


def tell(admin: Redis, *words: str) -> Any:  # what a command answers
    """A command that redis-py has no name for."""
    return admin.execute_command(*words)  # type: ignore[no-untyped-call]  # so in redis-py
