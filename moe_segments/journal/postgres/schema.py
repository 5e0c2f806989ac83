"""The tables and functions of a PostgreSQL journal, and how older ones become current.

Everything lies in one schema and is named with it, so that no `search_path` matters. Each function is one step of
the log and holds none of the governor's rules: a log that appends, and the clock. They must run at READ COMMITTED,
where each statement inside sees what was committed before it began; under a snapshot from before the lock they
refuse.

`append` is the one round trip of a decision. It takes the log's lock, a transaction-level advisory one, which the
server gives out in the order it was asked for and keeps until the commit is visible; then it reads the end of the
log, then the clock (`clock_timestamp()`: `now()` is the moment the transaction began, before the wait for the lock).

The lock is taken only for as long as a transaction lasts. Where a client decides while it holds one (see `engine`)
the server itself ends a transaction whose client went silent.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, LiteralString, TypeAlias

from psycopg import IsolationLevel, errors

from moe_segments.errors import JournalError
from moe_segments.journal.postgres.url import ACCEPTED_RISK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import AsyncConnection

    from moe_segments.journal.postgres.url import Target

__all__ = [
    "APPEND",
    "CHECKPOINT",
    "ID_AT",
    "LAST",
    "LOOK",
    "MIGRATIONS",
    "PAGE",
    "SCOPE",
    "STORED",
    "Migration",
    "made_scope",
    "named",
    "prepare",
]

Migration: TypeAlias = "Sequence[str]"

PAGE: Final = 250  # batches in one answer, which are read in a moment; as in `since`'s callers

_CLOCK: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_BEGIN: Final = """
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the journal needs READ COMMITTED' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- Assigned, as PERFORM would run a query for each.
    done := set_config('lock_timeout', p_wait_ms::text, true);
    done := pg_advisory_xact_lock(p_lock)::text;
    SELECT b.version, b.id, b.at_us INTO last_version, last_id, last_at_us
        FROM {s}.batches b WHERE b.scope = p_scope ORDER BY b.version DESC LIMIT 1;
    IF last_version IS DISTINCT FROM p_seen OR last_id IS DISTINCT FROM p_seen_id OR last_version < p_after THEN
        last_version := coalesce(last_version, 0);
        IF last_version < greatest(p_seen, p_after)
            OR (last_version = p_seen AND coalesce(last_id, '') <> p_seen_id)
            OR (last_version > p_seen AND EXISTS (
                SELECT FROM {s}.batches b WHERE b.scope = p_scope AND b.version = p_seen AND b.id <> p_seen_id))
        THEN
            RETURN 'other ' || last_version;
        END IF;
    END IF;
"""

# Migration number i makes a schema of layout i one of i + 1. Never change one that was released. A function that a
# later one replaces is made there alone.
MIGRATIONS: Final[Sequence[Migration]] = (
    (
        """CREATE TABLE {s}.scopes (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, scope text NOT NULL UNIQUE,
            journal_id text NOT NULL, made_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )""",
        """CREATE TABLE {s}.batches (
            scope bigint NOT NULL, version bigint NOT NULL, id text NOT NULL, at_us bigint NOT NULL,
            events text NOT NULL, PRIMARY KEY (scope, version), CONSTRAINT batch_ids UNIQUE (scope, id)
        )""",
        """CREATE TABLE {s}.checkpoints (
            scope bigint PRIMARY KEY, version bigint NOT NULL, at_us bigint NOT NULL, state text NOT NULL
        )""",
    ),
    (
        # `journal.checksum.checksum` of the same fields.
        """CREATE FUNCTION {s}.checksum_of(p_scope bigint, p_version bigint, p_id text, p_at_us bigint, p_text text)
        RETURNS text LANGUAGE sql STABLE AS $$
            SELECT left(encode(sha256(convert_to(
                concat_ws(E'\\n', p_scope, p_version, p_id, p_at_us, p_text), 'UTF8')), 'hex'), 16)
        $$""",
        "ALTER TABLE {s}.batches ADD COLUMN checksum text NOT NULL DEFAULT ''",
        "ALTER TABLE {s}.checkpoints ADD COLUMN checksum text NOT NULL DEFAULT ''",
        "UPDATE {s}.batches SET checksum = {s}.checksum_of(scope, version, id, at_us, events)",
        "UPDATE {s}.checkpoints SET checksum = {s}.checksum_of(scope, version, '', at_us, state)",
        "DROP FUNCTION IF EXISTS {s}.since(bigint, bigint, bigint)",
        # The log from p_from on, p_most at most; with the checkpoint where some are gone. Its text stands behind a
        # separator, since JSON within JSON takes long to read.
        """CREATE FUNCTION {s}.since(p_scope bigint, p_from bigint, p_after bigint, p_most bigint) RETURNS text
        LANGUAGE plpgsql STABLE AS $$
        DECLARE
            kept record;
            shown text;
        BEGIN
            SELECT json_agg(json_build_array(b.version, b.id, b.at_us, b.events, b.checksum) ORDER BY b.version)::text
                INTO shown FROM (
                    SELECT * FROM {s}.batches WHERE scope = p_scope AND version >= p_from
                    ORDER BY version LIMIT p_most) b;
            SELECT * INTO kept FROM {s}.checkpoints c WHERE c.scope = p_scope AND c.version > p_after
                AND NOT EXISTS (SELECT FROM {s}.batches b WHERE b.scope = p_scope AND b.version = p_after + 1);
            IF NOT FOUND THEN
                RETURN '[null,' || coalesce(shown, 'null') || ']';
            END IF;
            RETURN '[' || json_build_array(kept.version, kept.at_us, kept.checksum) || ',' || coalesce(shown, 'null')
                || ']' || chr(30) || kept.state;
        END $$""",
        """CREATE OR REPLACE FUNCTION {s}.append(
            p_scope bigint, p_lock bigint, p_wait_ms bigint, p_seen bigint, p_seen_id text,
            p_after bigint, p_expected bigint, p_now_us bigint, p_slack_us bigint,
            p_id text, p_events text, p_clock_us bigint
        ) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE
            last_version bigint;
            last_id text;
            last_at_us bigint;
            done text;
            clock_us bigint;
            at_us bigint;
            found_version bigint;
            shown text;
        BEGIN
            {begin}
            clock_us := coalesce(p_clock_us, {clock});
            at_us := greatest(clock_us, last_at_us);
            IF p_events IS NULL THEN
                PERFORM set_config('idle_in_transaction_session_timeout', '3s', true);
            ELSIF p_expected IS NULL
                OR (p_expected = last_version AND p_now_us <= at_us AND p_now_us >= at_us - p_slack_us)
            THEN
                INSERT INTO {s}.batches VALUES (p_scope, last_version + 1, p_id, at_us, p_events,
                        {s}.checksum_of(p_scope, last_version + 1, p_id, at_us, p_events))
                    ON CONFLICT ON CONSTRAINT batch_ids DO NOTHING;
                IF FOUND THEN
                    done := pg_notify('moe_segments_' || p_lock, (last_version + 1)::text)::text;
                    RETURN 'added ' || last_version + 1 || ' ' || at_us || ' ' || clock_us;
                END IF;
            END IF;
            SELECT b.version, b.at_us, b.checksum || b.events INTO found_version, at_us, shown
                FROM {s}.batches b WHERE b.scope = p_scope AND b.id = p_id;
            IF FOUND THEN
                RETURN 'stored ' || found_version || ' ' || at_us || ' ' || clock_us || E'\\n' || shown;
            END IF;
            at_us := greatest(clock_us, last_at_us);
            shown := {s}.since(p_scope, least(p_seen, p_after), p_after,
                CASE WHEN p_events IS NULL THEN NULL ELSE 250 END);
            RETURN 'missed ' || last_version || ' ' || at_us || ' ' || clock_us || E'\\n' || shown;
        END $$""",
        """CREATE OR REPLACE FUNCTION {s}.checkpoint(
            p_scope bigint, p_lock bigint, p_wait_ms bigint, p_seen bigint, p_seen_id text,
            p_after bigint, p_state text, p_keep_since_us bigint
        ) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE
            last_version bigint;
            last_id text;
            last_at_us bigint;
            done text;
            kept_version bigint;
            kept_at_us bigint;
            covered_at_us bigint;
        BEGIN
            {begin}
            SELECT c.version, c.at_us INTO kept_version, kept_at_us FROM {s}.checkpoints c WHERE c.scope = p_scope;
            IF kept_version > p_after THEN
                RETURN 'older';
            END IF;
            SELECT b.at_us INTO covered_at_us FROM {s}.batches b WHERE b.scope = p_scope AND b.version = p_after;
            IF covered_at_us IS NULL AND EXISTS (SELECT FROM {s}.checkpoints c WHERE c.scope = p_scope
                AND c.checksum <> {s}.checksum_of(p_scope, c.version, '', c.at_us, c.state))
            THEN
                RETURN 'damaged';
            END IF;
            covered_at_us := coalesce(covered_at_us, kept_at_us);
            IF p_after < 1 OR covered_at_us IS NULL THEN
                RETURN 'absent';
            END IF;
            -- The last batch stays, always: it holds the log's version and its latest time.
            DELETE FROM {s}.batches b WHERE b.scope = p_scope AND b.version <= p_after
                AND b.version < last_version AND b.at_us < p_keep_since_us;
            INSERT INTO {s}.checkpoints AS c VALUES (p_scope, p_after, covered_at_us, p_state,
                    {s}.checksum_of(p_scope, p_after, '', covered_at_us, p_state))
                ON CONFLICT ON CONSTRAINT checkpoints_pkey DO UPDATE SET version = excluded.version,
                at_us = excluded.at_us, state = excluded.state, checksum = excluded.checksum;
            RETURN 'added';
        END $$""",
    ),
)

# Both answer with one text, which costs less than a row: the outcome and its numbers, and below them what is shown.
APPEND: Final = "SELECT {s}.append({log}, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
CHECKPOINT: Final = "SELECT {s}.checkpoint({log}, %s, %s, %s, %s, %s)"
LOOK: Final = "SELECT {s}.since(%s, %s, %s, 250), {clock}"
STORED: Final = "SELECT version, id, at_us, events, checksum FROM {s}.batches WHERE scope = %s AND id = %s"
LAST: Final = "SELECT version, id, at_us FROM {s}.batches WHERE scope = %s ORDER BY version DESC LIMIT 1"
ID_AT: Final = "SELECT id FROM {s}.batches WHERE scope = %s AND version = %s"
SCOPE: Final = "SELECT number, journal_id, {clock} FROM {s}.scopes WHERE scope = %s"
_ADD_SCOPE: Final = "INSERT INTO {s}.scopes (scope, journal_id) VALUES (%s, %s) ON CONFLICT (scope) DO NOTHING"
# Looked up in the tables of the catalog: to_regclass and its like may answer from a cache that is older than the lock.
_HAS_SCHEMA: Final = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)"
_HAS_LAYOUT: Final = (
    "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relname = 'moe_segments_layout')"
)
_HAS_UNLOGGED: Final = (
    "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s "
    "AND c.relname IN ('scopes', 'batches', 'checkpoints') AND c.relpersistence <> 'p')"
)
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('moe_segments/layout/' || %s, 0))"


async def prepare(connection: AsyncConnection, target: Target, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the schema, or bring it to the newest layout: all steps happen, or none, and one opener at a time.

    A role that may not make schemas can use one that is current already.

    Raises:
        JournalError: It is another program's schema, or a newer version's journal, or one that a crash would empty.
        psycopg.Error: The server refused.
    """
    if await _layout(connection, target.schema) != len(migrations):
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        async with connection.transaction():
            await connection.execute(_LOCK, (target.schema,))
            await _migrate(connection, target.schema, migrations)
    if not target.accepts_risk and await _is_so(connection, _HAS_UNLOGGED, target.schema):
        raise JournalError(
            f"tables of the journal in schema {target.schema} are UNLOGGED: a crash of the server empties them; "
            "ALTER TABLE … SET LOGGED, then try again; to accept that risk in words, add durability="
            f"{ACCEPTED_RISK} behind the ? of the journal's URL"
        )


async def made_scope(connection: AsyncConnection, schema: str, scope: str) -> bool:
    """Make the log *scope* unless it is there. Returns whether this call made it."""
    cursor = await connection.execute(named(SCOPE, schema), (scope,))
    if await cursor.fetchone() is not None:
        return False
    cursor = await connection.execute(named(_ADD_SCOPE, schema), (scope, secrets.token_hex(16)))
    return cursor.rowcount == 1  # else another opener was quicker


async def _is_so(connection: AsyncConnection, question: LiteralString, schema: str) -> bool:
    return await (await connection.execute(question, (schema,))).fetchone() == (True,)


async def _layout(connection: AsyncConnection, schema: str) -> int | None:
    """Return the layout of the journal in *schema*; None where there is none."""
    if not await _is_so(connection, _HAS_LAYOUT, schema):
        return None
    cursor = await connection.execute(named("SELECT layout FROM {s}.moe_segments_layout", schema))
    row = await cursor.fetchone()
    return row[0] if row else 0


async def _migrate(connection: AsyncConnection, schema: str, migrations: Sequence[Migration]) -> None:
    layout = await _layout(connection, schema)
    if layout is not None and layout > len(migrations):
        raise JournalError(
            f"the journal in schema {schema} was written by a newer moe_segments (layout {layout}, this one knows "
            f"{len(migrations)}); upgrade moe_segments"
        )
    try:
        if layout is None:
            if not await _is_so(connection, _HAS_SCHEMA, schema):  # else the administrator has made it for this role
                await connection.execute(named("CREATE SCHEMA {s}", schema))
            await connection.execute(named("CREATE TABLE {s}.moe_segments_layout (layout integer NOT NULL)", schema))
            await connection.execute(named("INSERT INTO {s}.moe_segments_layout VALUES (0)", schema))
        for migration in migrations[layout or 0 :]:
            for statement in migration:
                await connection.execute(named(statement, schema))
    except (errors.DuplicateTable, errors.DuplicateFunction, errors.DuplicateObject):
        raise JournalError(
            f"schema {schema} holds tables or functions of another program that are named like the journal's; "
            "name a schema of its own: ?schema=name in the journal URL"
        ) from None
    await connection.execute(named("UPDATE {s}.moe_segments_layout SET layout = %s", schema), (len(migrations),))


def named(statement: str, schema: str) -> bytes:
    """*statement* with the schema's name in the place of `{s}`, and what functions share put in."""
    # Bytes, since the driver takes text only as a literal; the schema's name was checked when the URL was read.
    whole = statement.replace("{begin}", _BEGIN).replace("{clock}", _CLOCK).replace("{s}", f'"{schema}"')
    return whole.encode()
