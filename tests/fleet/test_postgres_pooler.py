"""A journal in PostgreSQL behind pgbouncer in transaction mode: each transaction may get another session."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from moe_segments.errors import JournalError
from tests.fleet.postgres_server import nobody_when_root, shared_postgres
from tests.fleet.postgres_worlds import Place, always, opened, place
from tests.fleet.worlds import FACT
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.events import Batch, Event

__all__ = ["place"]  # a fixture

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

SETTINGS = """
[databases]
postgres = host={directory} port={port} user=moe
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
logfile = {directory}/pgbouncer.log
"""


@contextmanager
def running() -> Iterator[int]:
    """The port of a pgbouncer in front of the shared server."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("needs pgbouncer: apt-get install pgbouncer")
    server, own = shared_postgres(), free_port()
    settings = server.directory / "pgbouncer.ini"
    settings.write_text(SETTINGS.format(directory=server.directory, port=server.port, own=own))
    settings.chmod(0o644)  # whoever the pooler runs as
    with subprocess.Popen(
        [program, "-q", str(settings)], cwd=server.directory, stderr=subprocess.DEVNULL, **nobody_when_root()
    ) as process:
        try:
            yield own
        finally:
            process.kill()


@pytest.fixture
def pooled(place: Place) -> Iterator[str]:
    """The journal URL of *place* through the pooler."""
    with running() as port:
        yield place.url_at(port)


async def ready(url: str) -> None:
    """Wait until it lets somebody through."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with opened(url):
                    return
            except JournalError:
                await asyncio.sleep(0.02)


async def test_a_journal_behind_a_pooler_decides_exactly_and_nothing_lasts_in_a_session(
    pooled: str, place: Place
) -> None:
    """Three handles on three sessions that are dealt out in turn: no statement is prepared, nobody listens."""
    await ready(pooled)
    async with opened(pooled) as one, opened(pooled) as two, opened(pooled) as three:

        def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            return [FACT] if len(missed) < 40 else []

        asked = [
            handle.transact(0, decide, batch_id=f"{at} {number}")
            for number in range(25)
            for at, handle in enumerate((one, two, three))
        ]
        granted = [batch for batch in await asyncio.gather(*asked) if batch is not None]
        assert sorted(batch.version for batch in granted) == list(range(1, 41))
        await one.checkpoint(30, FACT, keep_since_us=0)
        assert place.sql("SELECT count(*) FROM pg_listening_channels()") == "0"
        assert place.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'") == "0"


async def test_news_comes_by_the_poll(pooled: str) -> None:
    await ready(pooled)
    async with opened(pooled, poll_s=0.05) as one, opened(pooled) as two:
        waiting = asyncio.ensure_future(one.changed(0, timeout_s=30))
        await asyncio.sleep(0.02)
        assert await two.transact(0, always(FACT), batch_id="a") is not None
        assert await asyncio.wait_for(waiting, 5)
