"""The places where the journals of the contract lie, one for each engine."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

import pytest

from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.sqlite.engine import SqliteJournal
from tests.fleet.postgres_server import shared_postgres
from tests.fleet.servers import shared_redis

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.journal import Clock, Journal

T0_US = 1_790_000_000_000_000


class Place(Protocol):
    """Where the logs of one test lie.

    Attributes:
        is_shared: Handles made for one scope are separate, see one log, and leave it behind when they are closed.
    """

    is_shared: bool

    def journal(self, scope: str = "W1", *, clock: Clock | None = None) -> Journal:
        """A handle on the log of *scope*, not yet opened."""


class MemoryPlace:
    """A handle of the memory engine is its log."""

    is_shared = False

    def __init__(self, directory: Path) -> None:
        self._journals: dict[str, MemoryJournal] = {}

    def journal(self, scope: str = "W1", *, clock: Clock | None = None) -> Journal:
        """See `Place`."""
        return self._journals.setdefault(scope, MemoryJournal(clock=clock))


class SqlitePlace:
    """All scopes in one file."""

    is_shared = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def journal(self, scope: str = "W1", *, clock: Clock | None = None) -> Journal:
        """See `Place`."""
        return SqliteJournal(self._directory / "quota.db", scope, clock=clock, state_dir=self._directory, poll_s=0.02)


class RedisPlace:
    """Logs in one server, those of each test under names of their own."""

    is_shared = True

    def __init__(self, directory: Path) -> None:
        self._url, self._prefix = shared_redis().url, secrets.token_hex(8)

    def journal(self, scope: str = "W1", *, clock: Clock | None = None) -> Journal:
        """See `Place`."""
        from moe_segments.journal.redis.engine import RedisJournal

        return RedisJournal(self._url, f"{self._prefix} {scope}", clock=clock)


class PostgresPlace:
    """Logs in one server, those of each test in a schema of their own."""

    is_shared = True

    def __init__(self, directory: Path) -> None:
        self._url = f"{shared_postgres().unix_url}&schema=contract_{secrets.token_hex(8)}"
        self._directory = directory

    def journal(self, scope: str = "W1", *, clock: Clock | None = None) -> Journal:
        """See `Place`."""
        from moe_segments.journal.postgres.engine import PostgresJournal

        return PostgresJournal(self._url, scope, clock=clock, state_dir=self._directory, poll_s=0.02)


PLACES = [
    pytest.param(MemoryPlace, id="memory"),
    pytest.param(SqlitePlace, id="sqlite"),
    pytest.param(RedisPlace, id="redis"),
    pytest.param(PostgresPlace, id="postgres"),
]


class FakeClock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now_us = T0_US

    def __call__(self) -> int:
        """Microseconds since the epoch."""
        return self.now_us


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made: Place = request.param(tmp_path)
    return made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
