"""Errors of SQLite and the operating system in one paragraph that says what to do. Pure."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalError, JournalUnavailable, OutboxError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DAMAGE", "damaged", "explain", "explain_outbox", "is_busy"]

_FULL: Final = "the disk that holds the journal {path} is full; nothing was recorded: make room there and try again"
_READ_ONLY: Final = (
    "the journal {path} cannot be written: it, its directory or its file system is read-only for this user; "
    "give this user write access to both, or name another path"
)
_BUSY: Final = (
    "another program has kept the journal {path} locked for longer than the lock time-out; nothing was "
    "recorded: end what holds it (a backup, a database shell with an open transaction) and try again"
)
_DAMAGED: Final = (
    "the journal {path} is damaged; nothing was recorded: stop every process that uses it, keep a copy, and "
    "restore it from a backup or delete it; "
    "its witness then has the quota taken for spent until a full window has passed"
)
_NOT_A_JOURNAL: Final = "{path} is no journal: it is not an SQLite file; name another path, or move that file away"
_UNOPENABLE: Final = (
    "the journal {path} cannot be opened: its directory may be missing, or this user may not read it; "
    "make the directory, or name another path"
)
_NO_DIRECTORY: Final = (
    "the journal {path} cannot be made: part of its path is a file and not a directory; name another path"
)

_OTHER: Final = "the journal {path} cannot be used; nothing was recorded: see to the cause and try again"
_MOVED_AWAY: Final = (
    "stop every process that uses it and move it away; then a new one is made, without the changes that waited in it: "
    "sync the segment, or restore the file from a backup"
)
_OF_AN_OUTBOX: Final[Mapping[str, str]] = {
    _DAMAGED: f"the outbox {{path}} is damaged; nothing was written: {_MOVED_AWAY}",
    _NOT_A_JOURNAL: (
        "{path} is no outbox: it is not an SQLite file; nothing was written: name another place with outbox=, or, "
        f"if it was one, {_MOVED_AWAY}"
    ),
}

# What the driver raises beside its own errors when a file is damaged: text that is none, numbers that do not fit.
DAMAGE: Final = (UnicodeError, OverflowError)

_BY_SQLITE_CODE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _NOT_A_JOURNAL,
    sqlite3.SQLITE_CANTOPEN: _UNOPENABLE,
}
_BY_ERRNO: Final[Mapping[int, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EEXIST: _NO_DIRECTORY,
    errno.ENOENT: _UNOPENABLE,
}


def damaged(path: Path, what: str) -> JournalError:
    """Return the error to raise where the journal *path* holds what was never written so."""
    return JournalError(f"{_DAMAGED.replace('{path}', str(path))} ({what})")


def explain(error: sqlite3.Error | OSError | UnicodeError | OverflowError, path: Path) -> JournalError:
    """Return the error to raise for *error* at the journal *path*."""
    text, cause = _told(error)
    kind = JournalUnavailable if text in (_BUSY, _FULL) else JournalError  # which may be over soon
    return kind(f"{text.replace('{path}', str(path))} ({cause})")


def explain_outbox(error: sqlite3.Error | OSError | UnicodeError | OverflowError, path: Path | None) -> OutboxError:
    """Return the error to raise for *error* at the outbox *path*. It has no value of a user."""
    text, cause = _told(error)
    if isinstance(error, sqlite3.Error) and not hasattr(error, "sqlite_errorcode"):
        text, cause = _DAMAGED, type(error).__name__  # the driver's own words repeat the text that it cannot read
    own = text.replace("the journal {path}", "the outbox {path}").replace("nothing was recorded", "nothing was written")
    return OutboxError(f"{_OF_AN_OUTBOX.get(text, own).replace('{path}', str(path or 'in memory'))} ({cause})")


def _told(error: sqlite3.Error | OSError | UnicodeError | OverflowError) -> tuple[str, str]:
    """Return what is said about an error, with a place for the path, and its cause."""
    if isinstance(error, DAMAGE):
        return _DAMAGED, type(error).__name__
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, _OTHER), error.strerror or type(error).__name__
    return _BY_SQLITE_CODE.get(_primary_code(error), _OTHER), str(error)


def is_busy(error: Exception) -> bool:
    """Return whether another connection is in the way, so that the same statement may work later."""
    return _primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _primary_code(error: Exception) -> int:
    # The module's own errors carry no code; the low byte of an extended code is its family.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
