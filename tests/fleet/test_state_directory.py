"""A journal on a server is used although this host's state directory cannot be; that is said, once, by its own name."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

import pytest

from moe_segments.journal import open_journal
from tests.fleet.postgres_server import shared_postgres
from tests.fleet.servers import shared_redis
from tests.fleet.worlds import FACT
from tests.places import BROKEN, broken, read_only_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVERS = [
    pytest.param(lambda: shared_redis().url, id="redis"),
    pytest.param(lambda: f"{shared_postgres().url}?schema=test_{secrets.token_hex(8)}", id="postgres"),
]


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("url_of", SERVERS)
@pytest.mark.asyncio
async def test_a_state_directory_that_cannot_be_used_is_no_reason_to_refuse_a_server(
    url_of: Callable[[], str], kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is what was named, and it is well."""
    url, scope = url_of(), secrets.token_hex(4)
    with broken(kind, tmp_path / "state") as state_dir, caplog.at_level(logging.WARNING):
        for number in range(3):
            journal = open_journal(url, scope, state_dir=state_dir)
            await journal.open()
            await journal.append([FACT], batch_id=f"b{number}")
            assert journal.doubt is None
            await journal.close()
        told = [record.message for record in caplog.records if "state directory" in record.message]

    assert len(told) == 1
    assert str(state_dir) in told[0]


@pytest.mark.parametrize("url_of", SERVERS)
@pytest.mark.asyncio
async def test_a_witness_that_can_only_be_read_is_still_believed(url_of: Callable[[], str], tmp_path: Path) -> None:
    """It has seen more than the server holds now."""
    url, scope, state_dir = url_of(), secrets.token_hex(4), tmp_path / "state"
    journal = open_journal(url, scope, state_dir=state_dir)
    await journal.open()
    await journal.append([FACT], batch_id="b")
    await journal.close()

    with read_only_disk(state_dir):
        journal = open_journal(
            url_of() if "schema" in url else f"{url.rpartition('/')[0]}/1", scope, state_dir=state_dir
        )
        await journal.open()
        assert "two journals count one quota twice" in str(journal.doubt)
        await journal.close()
