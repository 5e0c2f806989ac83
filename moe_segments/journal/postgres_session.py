"""The one connection over which a PostgreSQL journal asks, made again when it was lost. Used by one call at a time.

A call that got no answer ends in `Lost`: the server may have done it or not, and the connection is given up, as an
answer that comes late must not be taken for another call's. A call that the server refused ends in `JournalError`,
and the server has undone it. A connection that was lost while nobody used it is noticed before anything is sent.

Whoever stands between (pgbouncer) gives each transaction another session of the server's. Then no statement is
prepared, nothing is kept in a session, and nobody listens.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

import attrs
import psycopg
from psycopg import conninfo

from moe_segments.errors import InputError, JournalError, JournalUnavailable
from moe_segments.journal.again import held
from moe_segments.journal.postgres_problems import explain, is_refusal, unreachable
from moe_segments.journal.postgres_url import ACCEPTED_RISK
from moe_segments.journal.postgres_wire import Wire, cut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from moe_segments.journal.postgres_url import Target
    from moe_segments.journal.postgres_wire import Row

__all__ = ["Lost", "Session", "connected", "place_of"]

_OLDEST: Final = 120_000
_CONNECT_S: Final = "10"
_FIRST_GREETING_S: Final = 30.0  # another opener may be making the tables
_SERVER: Final = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery(), "
    "current_setting('server_version_num')::integer, pg_backend_pid(), current_setting('default_transaction_isolation')"
)
_READ_COMMITTED: Final = "read committed"
# A peer that is gone without a word is noticed within half a minute, unless the URL says otherwise.
_DEFAULTS: Final = {
    "connect_timeout": _CONNECT_S,
    "application_name": "moe_segments",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


class Lost(Exception):
    """No answer came; whether the server did what it was asked is unknown.

    Attributes:
        reason: How the connection was lost, one phrase.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen
class _Server:
    """What a server says of itself.

    Attributes:
        fsync: "on" where a commit waits for the disk.
        full_page_writes: "on" where a torn page is mended after a crash.
        is_standby: It replays another server's log.
        version: As 150004.
        backend_pid: Of the session that answered.
        isolation: At which its transactions run, unless they say otherwise.
    """

    fsync: str
    full_page_writes: str
    is_standby: bool
    version: int
    backend_pid: int
    isolation: str


def place_of(target: Target) -> str:
    """Host, port and database of *target* as they may be shown.

    Raises:
        InputError: libpq cannot read the URL.
    """
    try:
        parts = conninfo.conninfo_to_dict(target.conninfo)
    except psycopg.ProgrammingError:  # libpq quotes what it cannot read, and that may be the password
        raise InputError(
            "libpq cannot read this postgresql:// URL: see that special characters of the password are %-encoded and "
            "that every parameter after the ? is one of libpq's or ours (schema, durability, timeout_s)",
            "journal",
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "local socket"
    port = parts.get("port") or os.environ.get("PGPORT") or "5432"
    database = parts.get("dbname") or os.environ.get("PGDATABASE") or parts.get("user") or "default database"
    return f"{host}:{port}/{database}, schema {target.schema}"


async def connected(target: Target) -> psycopg.AsyncConnection:
    """A connection of its own, in autocommit mode.

    Raises:
        psycopg.Error: There is none.
    """
    given = conninfo.conninfo_to_dict(target.conninfo)
    defaults = {key: value for key, value in _DEFAULTS.items() if key not in given}
    whole = conninfo.make_conninfo(target.conninfo, **defaults)
    return await psycopg.AsyncConnection.connect(whole, autocommit=True, prepare_threshold=None)


class Session:
    """A connection to *target* that has been checked, whenever one is needed.

    Args:
        target: Where.
        begun: Called with each new connection before it is used.

    Attributes:
        place: The server as it may be shown.
        until_s: Until when the call that goes on tries to reach the server, on the loop's clock; see `hold`.
        is_direct: The server answers itself, with no pooler between; known once there was a connection.
    """

    def __init__(self, target: Target, begun: Callable[[psycopg.AsyncConnection], Awaitable[None]]) -> None:
        self.place, self.is_direct = place_of(target), False
        self._target, self._begun = target, begun
        self._wire: Wire | None = None
        self._failure: str | None = None  # of the last try to connect
        self.until_s = 0.0
        self._greeting_s = max(target.timeout_s, _FIRST_GREETING_S)

    async def close(self) -> None:
        """Let go of the connection. Idempotent."""
        self._let_go()

    def hold(self) -> float:
        """Return until when a call that is made now tries to reach the server, on the loop's clock."""
        return asyncio.get_running_loop().time() + self._target.timeout_s

    async def ready(self) -> Wire:
        """The connection, made anew where there is none or the old one is dead. Nothing has been asked yet.

        Raises:
            JournalUnavailable: The server could not be reached until `until_s`.
            JournalError: There is no server that may keep a journal.
        """
        if self._wire is not None and self._wire.is_dead:
            self._let_go()
        if self._wire is None:
            if self._failure is not None and asyncio.get_running_loop().time() > self.until_s:
                raise JournalUnavailable(self._failure)  # the calls before this one have tried all the time
            self._wire = await held(self._new, self.until_s)
        return self._wire

    async def row(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """The first row that one statement, a transaction of its own, answers with. One round trip.

        Raises:
            JournalError: There is no server, or it refused.
            Lost: No answer came.
        """
        wire = await self.ready()
        try:
            return await wire.row(statement, values)
        except psycopg.Error as error:
            self._fail(error, wire)

    async def begin(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """Begin a transaction with *statement*; end it with `commit` or `rollback`. Two round trips.

        Not one, in a pipeline: the driver ends that with a flush, at which the server no longer looks whether the
        client falls silent within its transaction.
        """
        with self._lent(await self.ready()) as connection:
            await connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
            cursor = await connection.execute(statement, values)
            return await cursor.fetchone()

    async def commit(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """Run *statement* in the open transaction and commit it. One round trip."""
        if self._wire is None:
            raise Lost("the connection was lost within a transaction")
        with self._lent(self._wire) as connection:
            async with connection.pipeline():
                cursor = await connection.execute(statement, values)
                await connection.execute(b"COMMIT")
            return await cursor.fetchone()

    async def rollback(self) -> None:
        """Undo the open transaction, if there is one left."""
        wire = self._wire
        if wire is None or wire.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        with suppress(Lost, JournalError), self._lent(wire) as connection:
            await connection.execute(b"ROLLBACK")
            return
        self._let_go()  # the server ends what a lost connection began

    async def _new(self) -> Wire:
        connection = await self._attempt()
        if isinstance(connection, JournalError):
            self._failure = connection.problem
            raise connection
        try:
            with self._greeting(connection):
                self.is_direct = await self._check(connection)
                await self._begun(connection)
        except Lost as lost:
            raise JournalUnavailable(
                f"the journal's server went away while it was greeted, nothing was recorded: {lost.reason}; "
                f"see that it runs and try again ({self.place})"
            ) from None
        except BaseException:
            await connection.close()
            raise
        self._greeting_s, self._failure = self._target.timeout_s, None
        return Wire(connection, self._target.timeout_s, prepares=self.is_direct)

    async def _attempt(self) -> psycopg.AsyncConnection | JournalError:
        # Returned and not raised: the driver's error holds the password, and must not hang on to ours.
        try:
            return await connected(self._target)
        except psycopg.Error as error:
            return unreachable(error, self.place, self._target)

    async def _check(self, connection: psycopg.AsyncConnection) -> bool:
        """Refuse a server that cannot keep a journal. Returns whether it answers itself, with nobody between."""
        row = await (await connection.execute(_SERVER.encode())).fetchone()
        server = _Server(*row or ())
        if server.version < _OLDEST:
            raise JournalError(
                f"the journal needs PostgreSQL {_OLDEST // 10_000} or later and this is {server.version // 10_000} "
                f"({self.place})"
            )
        if server.is_standby:  # for now: a fail-over may be under way
            raise JournalUnavailable(
                f"the journal's server is a standby, which takes no writes ({self.place}): name the primary, or every "
                "host with target_session_attrs=read-write, in the journal URL"
            )
        off = [name for name in ("fsync", "full_page_writes") if getattr(server, name) != "on"]
        if off and not self._target.accepts_risk:
            raise JournalError(
                f"the journal's server runs with {' = off, '.join(off)} = off ({self.place}): a loss of power loses or "
                "damages what it has acknowledged, and then the quota is overspent; set them on and reload, or, to "
                f"accept that risk in words, add durability={ACCEPTED_RISK} behind the ? of the journal's URL"
            )
        is_direct = server.backend_pid == connection.info.backend_pid  # a pooler makes up the one it gives
        if is_direct and server.isolation != _READ_COMMITTED:
            await connection.execute(b"SET default_transaction_isolation = 'read committed'")
        return is_direct

    @contextmanager
    def _greeting(self, connection: psycopg.AsyncConnection) -> Iterator[None]:
        """Give the connection up where no answer comes; tell a lost answer from a refusal."""
        timer = asyncio.get_running_loop().call_later(self._greeting_s, cut, connection)
        try:
            yield
        except psycopg.Error as error:
            if is_refusal(error):
                raise explain(error, self.place) from error
            is_late = timer.when() <= asyncio.get_running_loop().time()
            connection.pgconn.finish()
            raise Lost(_lost(self._greeting_s, is_late=is_late)) from None
        finally:
            timer.cancel()

    @contextmanager
    def _lent(self, wire: Wire) -> Iterator[psycopg.AsyncConnection]:
        """The connection for the driver's own calls, whose errors are told apart as `row`'s are."""
        try:
            with wire.lent() as connection:
                yield connection
        except psycopg.Error as error:
            self._fail(error, wire)

    def _fail(self, error: psycopg.Error, wire: Wire) -> NoReturn:
        """Raise what *error* means: the server has refused, or the answer was lost, and then the connection is."""
        if is_refusal(error):
            raise explain(error, self.place) from error
        self._let_go()
        raise Lost(_lost(self._target.timeout_s, is_late=wire.is_late)) from None

    def _let_go(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def _lost(timeout_s: float, *, is_late: bool) -> str:
    return f"no answer came within {timeout_s:g} s" if is_late else "the connection was lost"
