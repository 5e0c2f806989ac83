"""The tables of a journal file, their upgrades, and the marks of a file of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from moe_segments.errors import JournalError
from moe_segments.journal.checksum import checksum

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["APPLICATION_ID", "MIGRATIONS", "Migration", "migrate", "refuse_foreign"]

Migration: TypeAlias = "Sequence[str]"

APPLICATION_ID: Final = 0x6D6F6573  # "moes"

# Migration number i makes a file of schema version i one of i + 1. Never change one that was released.
# They may call `checksum_of`, which is `journal.checksum.checksum`.
MIGRATIONS: Final[Sequence[Migration]] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """CREATE TABLE scopes (
            scope TEXT PRIMARY KEY, journal_id TEXT NOT NULL,
            boot_id TEXT NOT NULL, wall_us INTEGER NOT NULL, boot_us INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE batches (
            scope TEXT NOT NULL, version INTEGER NOT NULL, id TEXT NOT NULL, at_us INTEGER NOT NULL,
            events TEXT NOT NULL, PRIMARY KEY (scope, version)
        ) WITHOUT ROWID""",
        "CREATE UNIQUE INDEX batch_ids ON batches (scope, id)",
        """CREATE TABLE checkpoints (
            scope TEXT PRIMARY KEY, version INTEGER NOT NULL, at_us INTEGER NOT NULL, state TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE scopes ADD COLUMN lag_us INTEGER DEFAULT 0",
        "ALTER TABLE scopes ADD COLUMN is_sure INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE scopes ADD COLUMN checksum TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE batches ADD COLUMN checksum TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE checkpoints ADD COLUMN checksum TEXT NOT NULL DEFAULT ''",
        "UPDATE scopes SET checksum = checksum_of(scope, journal_id, boot_id, wall_us, boot_us, lag_us, is_sure)",
        """UPDATE batches SET checksum = checksum_of(
            (SELECT journal_id FROM scopes WHERE scopes.scope = batches.scope), version, id, at_us, events)""",
        """UPDATE checkpoints SET checksum = checksum_of(
            (SELECT journal_id FROM scopes WHERE scopes.scope = checkpoints.scope), version, at_us, state)""",
    ),
)


def refuse_foreign(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Check that the file is empty or a journal that this version can read. Changes nothing.

    Raises:
        JournalError: It is another program's database, or a newer version's journal.
        sqlite3.Error: It is no database, or cannot be read.
    """
    application_id, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application_id != APPLICATION_ID and not (is_empty and application_id == version == 0):
        raise JournalError(f"{path} is another program's database; name another path for the journal")
    if version > len(migrations):
        raise JournalError(
            f"the journal {path} was written by a newer moe_segments (schema {version}, this one knows "
            f"{len(migrations)}); upgrade moe_segments"
        )


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the file to the newest schema. Call it inside a write transaction: all steps happen, or none."""
    connection.create_function("checksum_of", -1, checksum)
    version = _pragma(connection, "user_version")
    for migration in migrations[version:]:
        for statement in migration:
            connection.execute(statement)
    if version != len(migrations):
        connection.execute(f"PRAGMA user_version = {len(migrations)}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
