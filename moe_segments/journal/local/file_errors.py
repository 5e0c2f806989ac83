"""Errors of SQLite and the operating system in one paragraph that says what to do. Pure."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalError, JournalUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DAMAGE", "damaged", "explain", "is_busy"]

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
    if isinstance(error, DAMAGE):
        return damaged(path, type(error).__name__)
    if isinstance(error, OSError):
        text, cause = _BY_ERRNO.get(error.errno or 0), error.strerror or type(error).__name__
    else:
        text, cause = _BY_SQLITE_CODE.get(_primary_code(error)), str(error)
    if text is None:
        text = "the journal {path} cannot be used; nothing was recorded: see to the cause and try again"
    kind = JournalUnavailable if text in (_BUSY, _FULL) else JournalError  # which may be over soon
    return kind(f"{text.replace('{path}', str(path))} ({cause})")


def is_busy(error: Exception) -> bool:
    """Return whether another connection is in the way, so that the same statement may work later."""
    return _primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _primary_code(error: Exception) -> int:
    # The module's own errors carry no code; the low byte of an extended code is its family.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
