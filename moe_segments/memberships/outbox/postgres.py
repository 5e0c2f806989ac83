"""An outbox in PostgreSQL, in the schema of the journal: for a fleet on any number of hosts.

A write locks the rows of its segments, in the order of their numbers, for as long as it takes. So the numbers of a
segment's changes grow in the order in which they are committed, and a batch that ends at a number misses none below it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import errors

from moe_segments.core.audiences.backlog import Pace
from moe_segments.errors import OutboxError
from moe_segments.journal.postgres.connection import connected, place_of
from moe_segments.journal.postgres.errors import explain, unreachable
from moe_segments.journal.postgres.schema import named
from moe_segments.journal.postgres.url import target_of
from moe_segments.memberships.outbox.protocol import backlog_of, check_declared, check_matched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from moe_segments.core.audiences.backlog import Backlog, Batch
    from moe_segments.memberships.outbox.protocol import Change, Declared

__all__ = ["PostgresOutbox"]

T = TypeVar("T")
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('moe_segments/outbox/' || %s, 0))"
_IS_THERE: Final = """
    SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = 'outbox_paces')"""
_SCHEMA: Final = (
    "CREATE SCHEMA IF NOT EXISTS {s}",
    """CREATE TABLE IF NOT EXISTS {s}.outbox_segments (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, scope text NOT NULL, name text NOT NULL,
        attribute_name text NOT NULL, attribute_type text NOT NULL, expiry_time integer, max_age_s double precision,
        priority bigint NOT NULL, tip bigint NOT NULL DEFAULT 0, adds bigint NOT NULL DEFAULT 0,
        removes bigint NOT NULL DEFAULT 0, oldest_us bigint, oldest bigint NOT NULL DEFAULT 0, job text,
        job_adds boolean NOT NULL DEFAULT false, job_up_to bigint NOT NULL DEFAULT 0, job_last text COLLATE "C",
        UNIQUE (scope, name)
    )""",
    """CREATE TABLE IF NOT EXISTS {s}.outbox_changes (
        segment bigint NOT NULL, value text COLLATE "C" NOT NULL, adds boolean NOT NULL, number bigint NOT NULL,
        at_us bigint NOT NULL, PRIMARY KEY (segment, value)
    )""",
    "CREATE TABLE IF NOT EXISTS {s}.outbox_paces (scope text PRIMARY KEY, due_us bigint NOT NULL)",
)
_DECLARE: Final = """
    INSERT INTO {s}.outbox_segments (scope, name, attribute_name, attribute_type, expiry_time, max_age_s, priority)
    VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (scope, name) DO UPDATE SET
        attribute_name = excluded.attribute_name, attribute_type = excluded.attribute_type,
        expiry_time = excluded.expiry_time, max_age_s = excluded.max_age_s, priority = excluded.priority
    RETURNING number"""
_BACKLOGS: Final = """
    SELECT number, name, attribute_name, attribute_type, expiry_time, max_age_s, priority, adds, removes, oldest_us,
        oldest, tip, job, job_adds, job_up_to, job_last FROM {s}.outbox_segments WHERE scope = %s ORDER BY number"""
_MATCHED: Final = """
    SELECT attribute_name, attribute_type, adds + removes FROM {s}.outbox_segments
    WHERE scope = %s AND name = %s FOR UPDATE"""
_HOLD: Final = """
    SELECT number, attribute_name, attribute_type FROM {s}.outbox_segments
    WHERE number = ANY(%s) ORDER BY number FOR UPDATE"""
# All parts of one statement see the changes as they were before it.
_WRITE: Final = """
    WITH given AS (
        SELECT * FROM unnest(%s::bigint[], %s::text[], %s::boolean[], %s::integer[]) AS g (segment, value, adds, place)
    ), new AS (
        SELECT g.segment, g.value, g.adds, s.tip + g.place AS number, b.adds AS before,
            CASE WHEN b.adds = g.adds AND b.number > s.job_up_to THEN b.at_us ELSE %s END AS at_us
        FROM given g JOIN {s}.outbox_segments s ON s.number = g.segment
        LEFT JOIN {s}.outbox_changes b ON b.segment = g.segment AND b.value = g.value COLLATE "C"
    ), put AS (
        INSERT INTO {s}.outbox_changes (segment, value, adds, number, at_us)
        SELECT segment, value, adds, number, at_us FROM new
        ON CONFLICT (segment, value) DO UPDATE SET
            adds = excluded.adds, number = excluded.number, at_us = excluded.at_us
    ), counted AS (
        SELECT segment, max(number) AS tip, min(number) AS first,
            count(*) FILTER (WHERE adds) - count(*) FILTER (WHERE before) AS adds,
            count(*) FILTER (WHERE NOT adds) - count(*) FILTER (WHERE NOT before) AS removes
        FROM new GROUP BY segment
    )
    UPDATE {s}.outbox_segments s SET tip = c.tip, adds = s.adds + c.adds, removes = s.removes + c.removes,
        oldest_us = coalesce(s.oldest_us, %s), oldest = CASE WHEN s.oldest = 0 THEN c.first ELSE s.oldest END
    FROM counted c WHERE s.number = c.segment RETURNING s.number, s.tip"""
_VALUES: Final = """
    SELECT value FROM {s}.outbox_changes
    WHERE segment = %s AND value > %s COLLATE "C" AND adds = %s AND number <= %s ORDER BY value LIMIT %s"""
_BEGIN: Final = """
    UPDATE {s}.outbox_segments SET job = %s, job_adds = %s, job_up_to = %s, job_last = %s WHERE number = %s"""
_HOLD_BATCH: Final = "SELECT number FROM {s}.outbox_segments WHERE number = %s AND job = %s FOR UPDATE"
_END: Final = "UPDATE {s}.outbox_segments SET job = NULL, job_up_to = 0, job_last = NULL WHERE number = %s AND job = %s"
_DROP: Final = "UPDATE {s}.outbox_segments SET job = NULL, job_up_to = 0, job_last = NULL WHERE number = %s"
_RECOUNT: Final = """
    UPDATE {s}.outbox_segments SET (adds, removes, oldest_us, oldest) = (
        SELECT count(*) FILTER (WHERE adds), count(*) FILTER (WHERE NOT adds), min(at_us), coalesce(min(number), 0)
        FROM {s}.outbox_changes WHERE segment = %s) WHERE number = %s"""
_DELETE: Final = "DELETE FROM {s}.outbox_changes WHERE segment = %s AND number <= %s"
_TRIES: Final = 3
_PAUSE_S: Final = 0.2


class PostgresOutbox:
    """The `Outbox` promise on a PostgreSQL server.

    Args:
        url: As of a journal: `postgresql://user:password@host/database?schema=…`. Never shown.
        scope: Workspace and data center.

    Raises:
        InputError: The URL cannot be read.
    """

    def __init__(self, url: str, scope: str) -> None:
        self._target, self._scope = target_of(url), scope
        self._place = place_of(self._target)
        self._connection: psycopg.AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def open(self) -> None:
        """Make its tables, or use those that are there.

        Raises:
            OutboxError: The server cannot be reached, or this role may not make them.
        """
        await self._run(self._prepare)

    async def close(self) -> None:
        """Let go of the server after what was asked before. Idempotent."""
        async with self._turn:
            self._is_closed = True
            await self._let_go()

    async def is_there(self) -> bool:
        """See `Outbox.is_there`."""
        try:
            return await self._run(self._has_tables)
        finally:
            await self._let_go()

    async def declare(self, segment: Declared) -> int:
        """See `Outbox.declare`."""
        fields = (segment.name, segment.attribute_name, segment.attribute_type, segment.expiry_time, segment.max_age_s)

        async def work(connection: psycopg.AsyncConnection) -> int:
            async with connection.transaction():
                found = await connection.execute(self._of(_MATCHED), (self._scope, segment.name))
                check_declared(segment, await found.fetchone())
                put = await connection.execute(self._of(_DECLARE), (self._scope, *fields, segment.priority))
                ((number,),) = await put.fetchall()
            return int(number)

        return await self._run(work)

    async def write(self, changes: Sequence[Change], now_us: int) -> Mapping[int, int]:
        """See `Outbox.write`."""
        segments = sorted({change.segment for change in changes})

        async def work(connection: psycopg.AsyncConnection) -> dict[int, int]:
            async with connection.transaction():
                async with connection.pipeline():
                    await connection.execute("SET LOCAL synchronous_commit = on")
                    held = await connection.execute(self._of(_HOLD), (segments,))
                    put = await connection.execute(self._of(_WRITE), (*_columns(changes), now_us, now_us))
                matched = {number: (name, kind) for number, name, kind in await held.fetchall()}
                for change in changes:
                    check_matched(change, matched[change.segment])
                return dict(await put.fetchall())

        return await self._run(work)

    async def backlogs(self) -> Sequence[Backlog]:
        """See `Outbox.backlogs`."""
        return [backlog_of(row) for row in await self._rows(_BACKLOGS, (self._scope,))]

    async def values(self, segment: int, *, adds: bool, up_to: int, after: str, most: int) -> list[str]:
        """See `Outbox.values`."""
        return [value for (value,) in await self._rows(_VALUES, (segment, after, adds, up_to, most))]

    async def begin(self, segment: int, batch: Batch) -> None:
        """See `Outbox.begin`."""
        await self._all((_BEGIN, (batch.job, batch.adds, batch.up_to, batch.last_value, segment)))

    async def end(self, segment: int, batch: Batch, *, is_applied: bool) -> None:
        """See `Outbox.end`."""

        async def work(connection: psycopg.AsyncConnection) -> None:
            async with connection.transaction():
                held = await connection.execute(self._of(_HOLD_BATCH), (segment, batch.job))
                if await held.fetchone() is None:
                    return
                if is_applied:
                    which = f'{_DELETE} AND adds = %s AND value <= %s COLLATE "C"'
                    asked = (segment, batch.up_to, batch.adds, batch.last_value)
                    await connection.execute(self._of(which), asked)
                    await connection.execute(self._of(_RECOUNT), (segment, segment))
                await connection.execute(self._of(_END), (segment, batch.job))

        await self._run(work)

    async def discard(
        self, segment: int, up_to: int, *, adds: bool | None = None, values: Collection[str] | None = None
    ) -> None:
        """See `Outbox.discard`."""
        which: str = _DELETE
        asked: list[object] = [segment, up_to]
        if adds is not None:
            which, asked = f"{which} AND adds = %s", [*asked, adds]
        if values is not None:
            which, asked = f'{which} AND value = ANY(%s::text[] COLLATE "C")', [*asked, list(values)]
        await self._all((_HOLD, ([segment],)), (which, asked), (_RECOUNT, (segment, segment)))

    async def forget(self, name: str) -> None:
        """See `Outbox.forget`."""
        rows = await self._rows(
            "SELECT number FROM {s}.outbox_segments WHERE scope = %s AND name = %s", (self._scope, name)
        )
        for (number,) in rows:
            clear = "DELETE FROM {s}.outbox_changes WHERE segment = %s"
            await self._all((_HOLD, ([number],)), (clear, (number,)), (_RECOUNT, (number, number)), (_DROP, (number,)))

    async def pace(self) -> Pace:
        """See `Outbox.pace`."""
        rows = await self._rows("SELECT due_us FROM {s}.outbox_paces WHERE scope = %s", (self._scope,))
        return Pace(*rows[0]) if rows else Pace()

    async def keep_pace(self, pace: Pace) -> None:
        """See `Outbox.keep_pace`."""
        keep = "INSERT INTO {s}.outbox_paces VALUES (%s, %s) ON CONFLICT (scope) DO UPDATE SET due_us = excluded.due_us"
        await self._all((keep, (self._scope, pace.due_us)))

    # Asking

    def _of(self, statement: str) -> bytes:
        return named(statement, self._target.schema)

    async def _prepare(self, connection: psycopg.AsyncConnection) -> None:
        if await self._has_tables(connection):
            return
        async with connection.transaction():
            await connection.execute(_LOCK, (self._target.schema,))
            for statement in _SCHEMA[1 if await self._has_schema(connection) else 0 :]:
                await connection.execute(self._of(statement))

    async def _has_tables(self, connection: psycopg.AsyncConnection) -> bool:
        cursor = await connection.execute(_IS_THERE, (self._target.schema,))
        return await cursor.fetchone() == (True,)

    async def _has_schema(self, connection: psycopg.AsyncConnection) -> bool:
        cursor = await connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", (self._target.schema,))
        return await cursor.fetchone() is not None

    async def _rows(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        async def work(connection: psycopg.AsyncConnection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(self._of(statement), values)).fetchall()

        return await self._run(work)

    async def _all(self, *statements: tuple[str, Sequence[object]]) -> None:
        """Run statements in one transaction."""

        async def work(connection: psycopg.AsyncConnection) -> None:
            async with connection.transaction():
                for statement, values in statements:
                    await connection.execute(self._of(statement), values)

        await self._run(work)

    async def _run(self, work: Callable[[psycopg.AsyncConnection], Awaitable[T]]) -> T:
        """Do *work* on the connection, once more on a new one where it was lost: everything here may be done twice.

        Raises:
            OutboxError: The server refused, or cannot be reached.
        """
        async with self._turn:
            left = _TRIES
            while True:
                if self._is_closed:
                    raise OutboxError("the outbox is closed")
                left -= 1
                try:
                    return await work(await self._ready())
                except psycopg.Error as error:
                    is_lost = self._connection is None or self._connection.closed
                    if not (is_lost and left):
                        raise self._problem(error) from None
                except BaseException:
                    await self._let_go()  # cancelled within a call: nobody reads its answer
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _ready(self) -> psycopg.AsyncConnection:
        if self._connection is None or self._connection.closed:
            self._connection = None
            self._connection = await connected(self._target)
            self._connection.prepare_threshold = None  # a pooler gives each transaction another session
        return self._connection

    def _problem(self, error: psycopg.Error) -> OutboxError:
        is_refused = error.sqlstate is not None and not isinstance(error, errors.AdminShutdown)
        told = explain(error, self._place) if is_refused else unreachable(error, self._place, self._target)
        return OutboxError(told.problem.replace("the journal", "the outbox"))

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _columns(changes: Sequence[Change]) -> tuple[list[int], list[str], list[bool], list[int]]:
    """Return the last word on each value: segment, value, kind, and the place of its change among those."""
    places: dict[int, int] = {}
    last: dict[tuple[int, str], tuple[bool, int]] = {}
    for change in changes:
        place = places[change.segment] = places.get(change.segment, 0) + 1
        last.update({(change.segment, value): (change.adds, place) for value in change.values})
    return (
        [segment for segment, _ in last],
        [value for _, value in last],
        [adds for adds, _ in last.values()],
        [place for _, place in last.values()],
    )
