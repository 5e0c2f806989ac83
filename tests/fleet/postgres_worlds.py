"""What the PostgreSQL tests share: a server of one's own, a schema of one's own, journals and replicas on them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest

from moe_segments.journal.postgres.engine import PostgresJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.fleet.postgres_server import PostgresServer, postgres_server, shared_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from moe_segments.core.events import Batch, Event

__all__ = ["LISTENERS", "LOCK", "Place", "always", "followed", "held", "opened", "place", "server", "waiting"]

# The number of the only log's lock, in SQL; `{s}` is the schema. What follows takes it, and finds who waits or listens.
_NUMBER = (
    "(SELECT (('x' || substr(encode(sha256(('moe_segments/' || journal_id)::bytea), 'hex'), 1, 16))::bit(64) >> 1)"
)
_NUMBER += "::bigint FROM {s}.scopes)"
LOCK = f"SELECT pg_advisory_xact_lock({_NUMBER})"
_WAITERS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'"
LISTENERS = f"SELECT pid FROM pg_stat_activity WHERE state = 'idle' AND query LIKE 'LISTEN %' || {_NUMBER} || '%'"


@attrs.frozen
class Place:
    """A schema in the server that all tests of this process share.

    Attributes:
        server: It.
        schema: Its name.
    """

    server: PostgresServer
    schema: str

    @property
    def url(self) -> str:
        """The journal URL over TCP."""
        return f"{self.server.url}?schema={self.schema}"

    @property
    def unix_url(self) -> str:
        """The journal URL over the Unix socket."""
        return f"{self.server.unix_url}&schema={self.schema}"

    def url_at(self, port: int) -> str:
        """The journal URL through another port, a proxy's."""
        return f"{self.server.url_at(port)}?schema={self.schema}"

    def sql(self, statement: str) -> str:
        """What psql prints; `{s}` is the schema."""
        return self.server.sql(statement.replace("{s}", self.schema))


@pytest.fixture
def place() -> Place:
    """A schema of this test's own."""
    return Place(shared_postgres(), f"test_{secrets.token_hex(8)}")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own."""
    with postgres_server() as made:
        yield made


@asynccontextmanager
async def opened(url: str, scope: str = "W1", **options: Any) -> AsyncIterator[PostgresJournal]:  # its own parameters
    journal = PostgresJournal(url, scope, **options)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def followed(url: str, scope: str = "W1", **options: Any) -> AsyncIterator[Replica]:  # its own parameters
    replica = Replica(PostgresJournal(url, scope, **options), QuotaLimits())
    await replica.open()
    try:
        yield replica
    finally:
        await replica.close()


@asynccontextmanager
async def held(place: Place, lock: str = LOCK) -> AsyncIterator[None]:
    """Another session has *lock* within this block, however long that takes."""
    async with await psycopg.AsyncConnection.connect(place.server.url) as session:
        await session.execute(lock.replace("{s}", place.schema).encode())
        yield


async def waiting(place: Place, call: asyncio.Future[Any]) -> None:
    """Until *call* waits for a lock at the server. No other test asks that server at the same time."""
    while await asyncio.to_thread(place.sql, _WAITERS) == "0":
        assert not call.done(), "it did not wait"


def always(*events: Event) -> Callable[[Sequence[Batch], int], Sequence[Event]]:
    """A decision that is always the same."""
    return lambda _missed, _now_us: events
