"""Statements over one PostgreSQL connection with nothing between them and libpq.

The driver makes the connection and checks it; then its socket is watched here for as long as it is used, and libpq is
given text and asked for text. A cursor, its conversions and a watch begun anew for each call would cost three times
what the call itself costs, in the processor's time.

One call at a time. As with the driver's own calls, one that is cancelled is called off at the server, and the
cancellation goes on when it has ended there.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import psycopg
from psycopg import errors
from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg.pq.abc import PGresult

__all__ = ["Row", "Wire", "cut"]

Row: TypeAlias = "tuple[Any, ...]"  # what a column holds, only its statement tells

_CALLING_OFF_S: Final = 5.0
_FAILED: Final = frozenset((ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE))
_INTEGERS: Final = frozenset((20, 21, 23))  # the numbers of the types bigint, smallint and integer


@attrs.frozen
class _Statement:
    """A statement as libpq takes it.

    Attributes:
        text: With `$1` in the place of the first value.
        name: Under which the server keeps it prepared; empty where it does not.
    """

    text: bytes
    name: bytes


class Wire:
    """The raw use of *connection*, from now until `close`, in the running loop.

    Args:
        connection: Idle, in autocommit mode.
        timeout_s: How long an answer is waited for; then the connection is cut.
        prepares: Each statement is kept prepared at the server.

    Attributes:
        connection: It.
        is_late: It was cut, as an answer did not come in time.
    """

    def __init__(self, connection: psycopg.AsyncConnection, timeout_s: float, *, prepares: bool) -> None:
        self.connection, self.is_late = connection, False
        self._pgconn, self._timeout_s, self._prepares = connection.pgconn, timeout_s, prepares
        self._codec = connection.info.encoding
        self._loop = asyncio.get_running_loop()
        self._descriptor = self._pgconn.socket
        self._has_news = _poll_of(self._descriptor)
        self._statements: dict[bytes, _Statement] = {}
        self._heard: asyncio.Future[None] | None = None
        self._until_s: float | None = None  # by when the call that goes on has to be answered
        self._timer: asyncio.TimerHandle | None = None
        self._listens = False
        self._listen()

    @property
    def is_dead(self) -> bool:
        """Nothing should be asked over it any more. A server that has something to say unasked says goodbye."""
        return self.connection.closed or bool(self._has_news())

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._unlisten()
        self._pgconn.finish()

    async def row(self, statement: bytes, values: Sequence[object]) -> Row | None:
        """The first row of the answer to *statement*, which has `%s` in the place of each value. One round trip.

        Raises:
            psycopg.Error: The server refused, or no answer came.
        """
        texts = [None if value is None else str(value).encode(self._codec) for value in values]
        with self._watched():
            known = self._statements.get(statement) or await self._known(statement)
            if known.name:
                self._pgconn.send_query_prepared(known.name, texts)
            else:
                self._pgconn.send_query_params(known.text, texts)
            result = await self._result()
        return None if result.ntuples == 0 else self._first_row(result)

    @contextmanager
    def lent(self) -> Iterator[psycopg.AsyncConnection]:
        """The connection, for the driver's own calls meanwhile; their answers are waited for as long as ours."""
        self._unlisten()
        try:
            with self._watched():
                yield self.connection
        finally:
            if not self.connection.closed:
                self._listen()

    # Asking

    async def _known(self, statement: bytes) -> _Statement:
        first, *rest = statement.split(b"%s")
        text = first + b"".join(b"$%d%s" % (at, part) for at, part in enumerate(rest, 1))
        known = _Statement(text, b"moe_segments_%d" % len(self._statements) if self._prepares else b"")
        if known.name:
            self._pgconn.send_prepare(known.name, text)
            await self._result()
        self._statements[statement] = known
        return known

    async def _result(self) -> PGresult:
        """The answer to what was given to libpq; nothing is under way afterwards."""
        try:
            return await self._read()
        except asyncio.CancelledError:
            await self._call_off()
            raise

    async def _read(self) -> PGresult:
        pgconn = self._pgconn
        while pgconn.flush():  # the socket takes no more for now
            await self._writable()
        results: list[PGresult] = []
        while True:
            if self._listens and pgconn.is_busy():
                self._heard = self._loop.create_future()
                await self._heard
            result = pgconn.get_result()
            if result is None:
                break
            results.append(result)
        for result in results:
            if result.status in _FAILED:
                raise errors.error_from_result(result, self._codec)
        return results[0]

    async def _writable(self) -> None:
        self._heard = heard = self._loop.create_future()
        self._loop.add_writer(self._descriptor, _end, heard)
        try:
            await heard
        finally:
            self._loop.remove_writer(self._descriptor)

    async def _call_off(self) -> None:
        """End what goes on, at the server, too; or else give up the connection."""
        try:
            async with asyncio.timeout(_CALLING_OFF_S):
                if self._pgconn.is_busy():
                    await self.connection.cancel_safe(timeout=_CALLING_OFF_S)
                await self._read()
        except errors.QueryCanceled:  # as it was to be
            pass
        except (psycopg.Error, TimeoutError, asyncio.CancelledError):
            self.close()

    def _first_row(self, result: PGresult) -> Row:
        return tuple(self._value(result, at) for at in range(result.nfields))

    def _value(self, result: PGresult, at: int) -> object:
        value = result.get_value(0, at)
        if value is None:
            return None
        return int(value) if result.ftype(at) in _INTEGERS else value.decode(self._codec)

    # Hearing

    def _listen(self) -> None:
        self._listens = True
        self._loop.add_reader(self._descriptor, self._hear)

    def _unlisten(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._descriptor)

    def _hear(self) -> None:
        """Take what came. What comes when nobody waits is left where it is, a goodbye, see `is_dead`."""
        heard = self._heard
        if heard is None:
            self._unlisten()
            return
        try:
            self._pgconn.consume_input()
        except psycopg.Error:  # what goes on hears of it from libpq
            self._unlisten()  # at once: libpq has closed the descriptor, and the next file may get its number
            _end(heard)
            return
        if not self._pgconn.is_busy():
            _end(heard)

    # One timer for all calls: it looks when the first of them would be late, and then for the one that goes on.

    @contextmanager
    def _watched(self) -> Iterator[None]:
        self._until_s = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._until_s, self._look)
        try:
            yield
        finally:
            self._until_s = self._heard = None

    def _look(self) -> None:
        self._timer = None
        if self._until_s is None:
            return
        if self._loop.time() >= self._until_s:
            self.is_late = True
            cut(self.connection)
        else:
            self._timer = self._loop.call_at(self._until_s, self._look)


def cut(connection: psycopg.AsyncConnection) -> None:
    """Break it: whoever waits for an answer then reads the end of the stream, encrypted or not."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _poll_of(descriptor: int) -> Callable[[], object]:
    """What tells, without waiting, whether there is something to read: kept, since it is asked before every call."""
    if not hasattr(select, "poll"):
        return lambda: select.select([descriptor], [], [], 0)[0]
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: poll.poll(0)
