"""The rows of a query as the members of an audience: one column, streamed, read in a thread of their own.

The thread is a daemon: a query that takes minutes before its first row holds up neither Ctrl-C nor the end of the
process. Nothing that the query may change is kept: its transaction is rolled back.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import attrs

from moe_segments.audiences.sources.database import Database  # noqa: TC001 - attrs reads the annotations
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import CursorResult
    from sqlalchemy.exc import SQLAlchemyError

__all__ = ["Query"]

_BLOCK_ROWS: Final = 5_000
_AHEAD: Final = 2  # blocks that wait to be taken


@attrs.frozen
class Query:
    """A query whose rows are the members. Calling it asks the database.

    Attributes:
        sql: A statement that gives one column.
        database: Who is asked.
    """

    sql: str = attrs.field(repr=False)
    database: Database

    def __call__(self) -> AsyncIterator[object]:
        """Ask the database, and return the values of its rows."""
        return self._values()

    async def _values(self) -> AsyncIterator[object]:
        """Yield the values.

        Raises:
            InputError: The database cannot be reached, the query fails, or it does not give one column.
        """
        reader = _Reader(self._blocks())
        try:
            while (block := await reader.next()) is not None:
                for value in block:
                    yield value
        finally:
            reader.leave()

    def _blocks(self) -> Iterator[list[object]]:
        """Yield the values in blocks. What goes wrong is told without the statement, the values and the secrets."""
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.exc import SQLAlchemyError

        try:
            engine = create_engine(self.database.url, poolclass=NullPool)
            with engine.connect() as connection:
                if engine.dialect.name == "sqlite":  # where changes of the schema are beyond a rollback
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                # The statement goes to the driver as it is: neither ':' nor '%' means anything in it.
                streaming = connection.execution_options(
                    stream_results=True, max_row_buffer=_BLOCK_ROWS, no_parameters=True
                )
                with closing(streaming.exec_driver_sql(self.sql)) as result:
                    _check_columns(result)
                    for rows in result.scalars().partitions(_BLOCK_ROWS):
                        yield [_plain(value) for value in rows]
        except InputError:
            raise
        except SQLAlchemyError as error:
            problem = self.database.hidden(_said(error))
        except Exception as error:  # noqa: BLE001 - a driver's own, whose text may hold anything
            problem = type(error).__name__
        else:
            return
        # Raised here, so that the database's own error is nowhere in this one.
        raise InputError(f"failed: {problem}; nothing was sent", "query")


class _Reader:
    """A thread that reads blocks ahead, a few of them, and ends soon after nobody wants more."""

    def __init__(self, blocks: Iterator[list[object]]) -> None:
        self._loop, self._source = asyncio.get_running_loop(), blocks
        self._room, self._is_left = threading.Semaphore(_AHEAD), threading.Event()
        self._blocks = asyncio.Queue[list[object] | InputError | None]()
        threading.Thread(target=self._read, name="moe-segments-query", daemon=True).start()

    async def next(self) -> list[object] | None:
        """Return the next block; None at the end.

        Raises:
            InputError: It could not be read.
        """
        block = await self._blocks.get()
        self._room.release()
        if isinstance(block, InputError):
            raise block
        return block

    def leave(self) -> None:
        """Let the thread end. It is not waited for: it may wait for the database."""
        self._is_left.set()
        self._room.release()

    def _read(self) -> None:
        try:
            for block in self._source:
                self._room.acquire()
                if self._is_left.is_set():
                    return
                self._give(block)
        except InputError as error:
            self._give(error)
        else:
            self._give(None)

    def _give(self, block: list[object] | InputError | None) -> None:
        if not self._is_left.is_set():
            with suppress(RuntimeError):  # the loop is closed: nobody is there any more
                self._loop.call_soon_threadsafe(self._blocks.put_nowait, block)


def _check_columns(result: CursorResult[Any]) -> None:
    if not result.returns_rows:
        raise InputError("gives no rows: write a SELECT", "query")
    if (count := len(result.keys())) != 1:
        raise InputError(f"gives {count} columns: select one", "query")


def _plain(value: Any) -> object:
    """Return what databases give for identifiers as text or an int; anything else as it is."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return value


def _said(error: SQLAlchemyError) -> str:
    """Return what a database says, in one line; only the kind where its words may repeat values of rows."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError

    if not isinstance(error, DBAPIError):
        return type(error).__name__
    original = error.orig
    kind, state = type(original).__name__, getattr(original, "sqlstate", None)
    if isinstance(error, InterfaceError | OperationalError | ProgrammingError):
        lines = str(original).strip().splitlines()
        return f"{kind}: {lines[0]}" if lines else kind
    return f"{kind} (SQLSTATE {state})" if state else kind
