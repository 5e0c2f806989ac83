"""Choose where an outbox is: beside the journal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from moe_segments.errors import InputError
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.opening import file_of
from moe_segments.settings import state_dir

if TYPE_CHECKING:
    from moe_segments.journal.protocol import Journal
    from moe_segments.memberships.outbox.protocol import Outbox

__all__ = ["outbox_of", "place_of"]

_POSTGRES: Final = ("postgresql", "postgres")


def place_of(outbox: Path | str | None, journal: str, engine: Journal, scope: str) -> Path | str | None:
    """Return where an outbox is: a file, a `postgresql://` URL, or None for memory.

    Args:
        outbox: Where the user wants it; None: beside a journal in a file, in the database of one in PostgreSQL, in the
            user's state directory for one in Redis, in memory for one in memory.
        journal: The journal's URL.
        engine: The journal, for one that was given as an object.
        scope: Workspace and data center.

    Raises:
        InputError: *outbox* cannot be used, or the journal is an object that does not say where it is.
    """
    if outbox is not None:
        return _given(outbox)
    if journal == "memory:" or isinstance(engine, MemoryJournal):
        return None
    if urlsplit(journal).scheme in _POSTGRES:
        return journal
    if (file := file_of(journal)) is not None:
        return file.absolute().with_name(f"{file.name}.outbox")
    if journal == "engine:":
        raise InputError(
            "must say where changes are kept, as the journal is an object: a path, or a postgresql:// URL", "outbox"
        )
    return state_dir() / "outbox" / f"{scope}.db"


def _given(outbox: Path | str) -> Path | str:
    if isinstance(outbox, str) and urlsplit(outbox).scheme in _POSTGRES:
        return outbox
    file = outbox if isinstance(outbox, Path) else file_of(outbox)
    if file is None or not str(outbox):
        raise InputError("must be a path, or a postgresql:// URL", "outbox")
    return file.absolute()


def outbox_of(place: Path | str | None, scope: str) -> Outbox:
    """Return the outbox at a place, not yet opened.

    Raises:
        InputError: The driver of PostgreSQL is not installed.
    """
    if not isinstance(place, str):
        from moe_segments.memberships.outbox.sqlite import SqliteOutbox

        return SqliteOutbox(place, scope)
    try:
        from moe_segments.memberships.outbox.postgres import PostgresOutbox
    except ModuleNotFoundError as missing:
        raise InputError(
            f"this outbox needs a driver that is not installed ({missing.name}): pip install 'moe-segments[postgres]'",
            "outbox",
        ) from None
    return PostgresOutbox(place, scope)
