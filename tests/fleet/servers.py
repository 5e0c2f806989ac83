"""Private servers for tests: on a Unix socket and a loopback port, in a directory of their own, ended with the test.

Without the program a test is skipped with a reason that names the Debian package; in CI that is a failure, see
`tests/conftest.py`.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RedisServer", "has_redis", "made_directory", "redis_program", "redis_server", "shared_redis"]

_STARTS_WITHIN_S: Final = 60.0
_LONGEST_PLACE: Final = 60  # characters
DURABLE: Final[Mapping[str, str]] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
    "save": "",
    "repl-diskless-sync-delay": "0",  # replicas of tests need not wait for others
}


def has_redis() -> bool:
    """Whether a server can be started here."""
    return bool(shutil.which("redis-server") or shutil.which("valkey-server"))


def redis_program() -> str:
    """Where redis-server, or Valkey's, is; the test is skipped where neither is."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("needs redis-server: apt-get install redis-server (or valkey-server)")
    return found


class RedisServer:
    """One Redis on a loopback port and a Unix socket. Start it, kill it, start it again on the same data.

    Args:
        directory: Of its data and its log; a short path, as the socket lies in it.
        settings: Of its configuration, over `DURABLE`.

    Attributes:
        port: Where it listens on 127.0.0.1.
        socket: The path of its Unix socket.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory, self.settings = directory, {**DURABLE, **(settings or {})}
        self.port, self.socket = free_port(), directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its journal URL over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Its journal URL over the Unix socket."""
        return f"redis+unix://{self.socket}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = redis_program()
        settings = {"port": str(self.port), "bind": "127.0.0.1", "unixsocket": str(self.socket)} | self.settings
        arguments = [text for name, value in settings.items() for text in (f"--{name}", value)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([program, *arguments], cwd=self.directory, stdout=log, stderr=log)
        until_s = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"redis-server did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.005)

    def kill(self) -> None:
        """Signal 9, at whatever point it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in good order. Idempotent."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It stands still, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                # A password is asked for by a server that is ready, too.
                return sock.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def made_directory(prefix: str, parent: Path | None = None) -> Path:
    """A directory for a server's data and its socket, below *parent* or where temporary files are.

    Not below pytest's own ones: the path of a Unix socket may have some hundred characters. Nor where the user that a
    server runs as, when it may not run as root, does not get to.
    """
    place = parent or Path(tempfile.gettempdir())
    is_closed = os.geteuid() == 0 and any(not at.stat().st_mode & 0o001 for at in (place, *place.parents))
    if parent is None and (len(str(place)) > _LONGEST_PLACE or is_closed):
        place = Path("/tmp")
    return Path(tempfile.mkdtemp(prefix=prefix, dir=place))


@contextmanager
def redis_server(settings: Mapping[str, str] | None = None, *, parent: Path | None = None) -> Iterator[RedisServer]:
    """A server in a directory of its own, running; both are gone afterwards. *parent* is where that is made."""
    directory = made_directory("moe-redis-", parent)
    server = RedisServer(directory, settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@functools.cache
def shared_redis() -> RedisServer:
    """One running server for all tests of this process, ended with it. A test takes a scope of its own in it."""
    stack = ExitStack()
    server = stack.enter_context(redis_server())
    atexit.register(stack.close)
    return server
