"""Where a journal lies, with the data behind it: saved, stopped, and put back while it is open."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from tests.fleet.postgres_server import PostgresServer, postgres_server
from tests.fleet.servers import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Store", "store_of"]


@attrs.define
class Store:
    """Where a journal lies, and the data behind it.

    Attributes:
        url: The journal's.
        data: The directory or the file.
        copy: Of it.
        server: What serves it; None for a file.
    """

    url: str
    data: Path
    copy: Path
    server: RedisServer | PostgresServer | None = None

    def save(self) -> None:
        """Copy the data."""
        self.stop()
        _copied(self.data, self.copy)
        self.start()

    def go_back(self) -> None:
        """Come back with the copy."""
        self.stop()
        if self.server is None:
            self.data.write_bytes(self.copy.read_bytes())  # the same file, under whoever has it open
        else:
            shutil.rmtree(self.data)
            _copied(self.copy, self.data)
        self.start()

    def stop(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.stop()

    def start(self) -> None:
        """Start the server, if there is one."""
        if self.server is not None:
            self.server.start()


def _copied(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)  # with its owner, too


@contextmanager
def store_of(engine: str, tmp_path: Path, *, timeout_s: float = 3) -> Iterator[Store]:
    """A journal's place on one of `redis`, `postgres`, `sqlite`; its server is gone afterwards."""
    copy = tmp_path / "copy"
    if engine == "redis":
        with redis_server() as redis:
            yield Store(f"{redis.url}?timeout_s={timeout_s}", redis.directory / "appendonlydir", copy, redis)
    elif engine == "postgres":
        with postgres_server() as postgres:
            yield Store(f"{postgres.url}?timeout_s={timeout_s}", postgres.data, copy, postgres)
    else:
        yield Store(f"sqlite:///{tmp_path / 'quota.db'}", tmp_path / "quota.db", copy)
