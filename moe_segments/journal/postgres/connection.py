"""The connection of a PostgreSQL journal, reopened when it was lost. One call at a time.

A call that got no answer ends in `Lost`: the server may have done it or not, and the connection is given up, as an
answer that comes late must not be taken for another call's. A call that the server refused ends in `JournalError`,
and the server has undone it. A connection that was lost while nobody used it is noticed before anything is sent.

Whoever stands between (pgbouncer) gives each transaction another session of the server's. Then no statement is
prepared, nothing is kept in a session, and nobody listens.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import psycopg
from psycopg import conninfo

from moe_segments.errors import InputError, JournalError, JournalUnavailable
from moe_segments.journal.postgres.errors import explain, is_refusal, unreachable
from moe_segments.journal.postgres.url import ACCEPTED_RISK
from moe_segments.journal.retry_ambiguous import held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from moe_segments.journal.postgres.url import Target

__all__ = ["Lost", "Row", "Session", "connected", "cut", "place_of"]

Row: TypeAlias = "tuple[Any, ...]"  # what a column holds, only its statement tells

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
    """The properties a server reports.

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
    """Return a connection of its own, in autocommit mode.

    Raises:
        psycopg.Error: No connection can be made.
    """
    given = conninfo.conninfo_to_dict(target.conninfo)
    defaults = {key: value for key, value in _DEFAULTS.items() if key not in given}
    whole = conninfo.make_conninfo(target.conninfo, **defaults)
    return await psycopg.AsyncConnection.connect(whole, autocommit=True)


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

    place: str
    is_direct: bool

    def __init__(self, target: Target, begun: Callable[[psycopg.AsyncConnection], Awaitable[None]]) -> None:
        self.place, self.is_direct = place_of(target), False
        self._target, self._begun = target, begun
        self._connection: psycopg.AsyncConnection | None = None
        self._failure: str | None = None  # of the last try to connect
        self.until_s: float = 0.0
        self._greeting_s = max(target.timeout_s, _FIRST_GREETING_S)

    async def close(self) -> None:
        """Let go of the connection. Idempotent."""
        await self._let_go()

    def hold(self) -> float:
        """Return until when a call that is made now tries to reach the server, on the loop's clock."""
        return asyncio.get_running_loop().time() + self._target.timeout_s

    async def ready(self) -> psycopg.AsyncConnection:
        """Return the connection, made anew where there is none or the old one is dead. Nothing has been asked yet.

        Raises:
            JournalUnavailable: The server could not be reached until `until_s`.
            JournalError: There is no server that may keep a journal.
        """
        if self._connection is not None and (self._connection.closed or _has_news(self._connection)):
            await self._let_go()  # a server that has something to say unasked says goodbye
        if self._connection is None:
            if self._failure is not None and asyncio.get_running_loop().time() > self.until_s:
                raise JournalUnavailable(self._failure)  # the calls before this one have tried all the time
            self._connection = await held(self._new, self.until_s)
        return self._connection

    async def row(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """Return the first row of the answer to one statement, a transaction of its own. One round trip.

        Raises:
            JournalError: There is no server, or it refused.
            Lost: No answer came.
        """
        async with self._answering(await self.ready()) as connection:
            # As text, so that one prepared statement serves numbers of every size.
            texts = [None if value is None else str(value) for value in values]
            cursor = await connection.execute(statement, texts, prepare=True)
            return await cursor.fetchone()

    async def begin(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """Begin a transaction with *statement*; end it with `commit` or `rollback`. Two round trips.

        Not one, in a pipeline: the driver ends that with a flush, at which the server no longer looks whether the
        client falls silent within its transaction.
        """
        async with self._answering(await self.ready()) as connection:
            await connection.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED")
            cursor = await connection.execute(statement, values)
            return await cursor.fetchone()

    async def commit(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """Run *statement* in the open transaction and commit it. One round trip."""
        if self._connection is None:
            raise Lost("the connection was lost within a transaction")
        async with self._answering(self._connection) as connection:
            async with connection.pipeline():
                cursor = await connection.execute(statement, values)
                await connection.execute(b"COMMIT")
            return await cursor.fetchone()

    async def rollback(self) -> None:
        """Undo the open transaction, if there is one left."""
        open_one = self._connection
        if open_one is None or open_one.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        with suppress(Lost, JournalError):
            async with self._answering(open_one) as connection:
                await connection.execute(b"ROLLBACK")
            return
        await self._let_go()  # the server ends what a lost connection began

    async def _new(self) -> psycopg.AsyncConnection:
        connection = await self._attempt()
        if isinstance(connection, JournalError):
            self._failure = connection.problem
            raise connection
        try:
            async with self._answering(connection, self._greeting_s):
                self.is_direct = await self._check(connection)
                if not self.is_direct:  # the next transaction may run in another session of the server's
                    connection.prepare_threshold = None
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
        return connection

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

    @asynccontextmanager
    async def _answering(
        self, connection: psycopg.AsyncConnection, timeout_s: float | None = None
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        """Use *connection* for a call; cut it where no answer comes in time, and tell a lost answer from a refusal.

        Cut, and not cancelled: a cancelled call first asks the server to give it up, and waits until it has.
        """
        timeout_s = self._target.timeout_s if timeout_s is None else timeout_s
        timer = asyncio.get_running_loop().call_later(timeout_s, cut, connection)
        try:
            yield connection
        except psycopg.Error as error:
            if is_refusal(error):
                raise explain(error, self.place) from error
            is_late = timer.when() <= asyncio.get_running_loop().time()
            await self._drop(connection)
            raise Lost(_lost(timeout_s, is_late=is_late)) from None
        except asyncio.CancelledError:
            if connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:  # its answer may still come
                await self._drop(connection)
            raise
        finally:
            timer.cancel()

    async def _let_go(self) -> None:
        if self._connection is not None:
            await self._drop(self._connection)

    async def _drop(self, connection: psycopg.AsyncConnection) -> None:
        if connection is self._connection:
            self._connection = None
        await connection.close()


def cut(connection: psycopg.AsyncConnection) -> None:
    """Break it: whoever waits for an answer then reads the end of the stream, encrypted or not."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def _has_news(connection: psycopg.AsyncConnection) -> bool:
    """Return whether there is something to read, without waiting for it."""
    if not hasattr(select, "poll"):
        return bool(select.select([connection.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _lost(timeout_s: float, *, is_late: bool) -> str:
    return f"no answer came within {timeout_s:g} s" if is_late else "the connection was lost"
