"""A private PostgreSQL for tests: on a Unix socket and a loopback port, in a directory of its own, ended with the test.

Without the programs a test is skipped with a reason that names the Debian package; in CI that is a failure, see
`tests/conftest.py`.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

from tests.fleet.servers import made_directory
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PostgresServer", "nobody_when_root", "postgres_program", "postgres_server", "shared_postgres"]

_STARTS_WITHIN_S: Final = 60.0
_DEBIAN: Final = Path("/usr/lib/postgresql")
USER: Final = "moe"
SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "60",
    "shared_buffers": "16MB",
    "log_min_messages": "warning",
}


def postgres_program(name: str) -> str:
    """Where *name*, one of PostgreSQL's programs, is; the test is skipped where it is not."""
    found = shutil.which(name)
    # Debian keeps those of several versions side by side, and none of them on the path.
    kept = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if found is None and not kept:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    return found or str(kept[-1])


class PostgresServer:
    """One PostgreSQL on a loopback port and a Unix socket. Start it, kill it, start it again on the same data.

    Args:
        directory: Of its data and its log; a short path, as the socket lies in it.
        settings: Of its configuration, over `SETTINGS`.
        password: Of the user `moe`; None lets everybody in.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        *,
        password: str | None = None,
        port: int | None = None,
    ) -> None:
        self.directory, self.password = directory, password
        self.settings = {**SETTINGS, **(settings or {})}
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The directory of its data."""
        return self.directory / "data"

    @property
    def socket(self) -> Path:
        """The path of its Unix socket."""
        return self.directory / f".s.PGSQL.{self.port}"

    @property
    def url(self) -> str:
        """Its journal URL over TCP."""
        return self.url_at(self.port)

    @property
    def unix_url(self) -> str:
        """Its journal URL over the Unix socket."""
        return f"postgresql://{self._user}@/postgres?host={quote(str(self.directory), safe='')}&port={self.port}"

    def url_at(self, port: int) -> str:
        """Its journal URL through another port, a proxy's."""
        return f"postgresql://{self._user}@127.0.0.1:{port}/postgres"

    def make(self) -> None:
        """Make its data, without a sync: they are a test's."""
        secret = self.directory / "password"
        secret.write_text(self.password or "moe")
        method = "scram-sha-256" if self.password else "trust"
        arguments = ["-U", USER, "-A", method, "--pwfile", str(secret), "-E", "UTF8", "--no-locale", "-N"]
        if os.geteuid() == 0:
            for path in (self.directory, secret):
                shutil.chown(path, _nobody().pw_uid, _nobody().pw_gid)
        self._run("initdb", "-D", str(self.data), *arguments)

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
        } | self.settings
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [postgres_program("postgres"), "-D", str(self.data), *options],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                **nobody_when_root(),
            )
        until_s = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"postgres did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Signal 9 to the server and every session of it, at whatever point they are. Idempotent."""
        if self._process is not None:
            sessions = _children(self._process.pid)
            self._process.kill()
            for pid in sessions:  # else a session that outlives the server keeps the next one from starting
                _signal(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            until_s = time.monotonic() + _STARTS_WITHIN_S
            while any(_runs(pid) for pid in sessions) and time.monotonic() < until_s:
                time.sleep(0.005)

    def hold_still(self) -> None:
        """Stop what works beside the sessions for good: from here on only a session brings the log to the disk.

        Else the one that does it every `wal_writer_delay`, or another one that needs a page written, may happen to do
        it for a session that did not. Only `kill` ends such a server.
        """
        assert self._process is not None
        for pid in _children(self._process.pid):
            _signal(pid, signal.SIGSTOP)

    def stop(self) -> None:
        """End it in good order, whoever is connected. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def sql(self, statement: str) -> str:
        """What psql prints for one statement, over the Unix socket."""
        arguments = ["-h", str(self.directory), "-p", str(self.port), "-U", USER, "-d", "postgres", "-Atqc", statement]
        return self._run("psql", *arguments, "-v", "ON_ERROR_STOP=1", PGPASSWORD=self.password or "")

    def _run(self, program: str, *arguments: str, **environ: str) -> str:
        done = subprocess.run(
            [postgres_program(program), *arguments],
            cwd=self.directory,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            **nobody_when_root(),
        )
        assert done.returncode == 0, done.stderr
        said: str = done.stdout.strip()
        return said

    @property
    def _user(self) -> str:
        return f"{USER}:{quote(self.password, safe='')}" if self.password else USER

    def _answers(self) -> bool:
        done = subprocess.run(
            [postgres_program("pg_isready"), "-q", "-h", str(self.directory), "-p", str(self.port)], check=False
        )
        return done.returncode == 0


@contextmanager
def postgres_server(
    settings: Mapping[str, str] | None = None,
    *,
    password: str | None = None,
    parent: Path | None = None,
    port: int | None = None,
) -> Iterator[PostgresServer]:
    """A server in a directory of its own below *parent*, listening on *port*; both are gone afterwards."""
    postgres_program("initdb")
    directory = made_directory("moe-pg-", parent)
    server = PostgresServer(directory, settings, password=password, port=port)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


@functools.cache
def shared_postgres() -> PostgresServer:
    """One running server for all tests of this process, ended with it. A test takes a schema of its own in it."""
    stack = ExitStack()
    server = stack.enter_context(postgres_server())
    atexit.register(stack.close)
    return server


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def nobody_when_root() -> dict[str, Any]:
    """Whom to run as, for `subprocess`: PostgreSQL and pgbouncer refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": _nobody().pw_uid, "group": _nobody().pw_gid, "extra_groups": ()}


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it went by itself
        return
