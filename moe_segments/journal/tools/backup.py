"""Back up a journal to a file while it is in use: a copy as of one moment, whole or not at all.

A journal in a file is copied as a file by SQLite's own online backup, with every workspace in it. It is not opened as a
journal, so it keeps its schema. Of a journal on a server the state of one workspace is written to a new file, as one
batch that names the log that it stands for: usage, jobs, runs and callback addresses, not the log of past events.

A copy that is put back is older than what this host's witness has seen, which is noticed when it is opened.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.errors import InputError, JournalError, JournalMoved
from moe_segments.journal.local.file_errors import DAMAGE, damaged, explain
from moe_segments.journal.local.files import FileQueue
from moe_segments.journal.opening import file_of, open_journal
from moe_segments.journal.sqlite.schema import MIGRATIONS, refuse_foreign
from moe_segments.journal.sqlite.store import lock_path
from moe_segments.journal.tools.migrate import existing_journal, now_us_of, opened, stand_in, transact
from moe_segments.journal.tools.replay import folded
from moe_segments.models.urls import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BackupReport", "backup_journal"]

_RETRY_S: Final = 0.01  # while a writer is committing
_COPIES: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}
)  # nothing else is written
_LAST: Final = "SELECT max(version) FROM (SELECT version FROM batches WHERE scope = ? UNION ALL SELECT 0)"


@attrs.frozen(kw_only=True)
class BackupReport:
    """The result of a backup.

    Attributes:
        of: The journal, as it may be shown.
        to: The copy.
        version: The last version of the journal that is in it.
        file_bytes: Its size, bytes.
    """

    of: str
    to: str
    version: int
    file_bytes: int


async def backup_journal(url: str, to: Path | str, scope: str, *, replace: bool = False) -> BackupReport:
    """Write a copy of a journal to a file, while others use it.

    Args:
        url: The journal's URL.
        to: A path, or a `sqlite:///` URL. Its directory has to exist.
        scope: What shares one quota: workspace and data center. A file is copied with all that it holds.
        replace: Whether the copy may take the place of a file.

    Raises:
        InputError: There is no such journal, or *to* is no place for the copy.
        JournalError: The journal cannot be read, or the copy not be written. There is no copy then.
    """
    target = _target(to, replace=replace)
    source = file_of(url)
    _refuse_itself(source, target)
    with _beside(target) as path:
        if source is not None:
            version = await asyncio.to_thread(_copied, source, path, scope, target)
        else:
            version = await _written(url, path, scope)
        file_bytes = await asyncio.to_thread(_settled, path, target, replace=replace)
    return BackupReport(of=place_of(url), to=str(target), version=version, file_bytes=file_bytes)


def _target(to: Path | str, *, replace: bool) -> Path:
    target = (file_of(to) if isinstance(to, str) else None) or Path(to)
    if isinstance(to, str) and "://" in to and file_of(to) is None:
        raise InputError("must be a path or a sqlite:/// URL: a backup is a file; 'journal copy' moves a journal", "TO")
    if not target.parent.is_dir():
        raise InputError(f"there is no directory {target.parent}; make it, or mend the path", "TO")
    if target.exists() and not (replace and target.is_file()):
        raise InputError(f"{target} is there: choose another name, or say --force (replace=True) to replace it", "TO")
    return target


def _refuse_itself(source: Path | None, target: Path) -> None:
    """Refuse to put a copy in the journal's own place: whoever has it open would go on with the file that was there."""
    with suppress(OSError):  # one of them is not there
        if source is not None and target.samefile(source):
            raise InputError(f"{target} is the journal itself, which is in use: choose another name", "TO")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a path on the disk of *target*, in a directory that is gone at the end."""
    try:
        directory = tempfile.mkdtemp(prefix=".moe-segments-", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from None
    try:
        yield Path(directory) / "copy.db"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _copied(source: Path, path: Path, scope: str, target: Path) -> int:
    """Copy a file that others write to. Returns the last version of *scope* in the copy."""
    missing = InputError(
        f"there is no journal of {scope} at {source}: check the URL, the workspace and the data center", "journal"
    )
    source = Path(os.path.realpath(source))
    if not source.is_file():
        raise missing
    try:
        with _turn_of(source), closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True)) as journal:
            refuse_foreign(journal, source, MIGRATIONS)
            with closing(sqlite3.connect(path)) as copy:
                # In one step: a copy in several begins again with each commit of another program.
                journal.backup(copy, pages=-1, sleep=_RETRY_S)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, whatever the journal is kept in
                found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
                if found != "ok":
                    raise damaged(source, str(found).replace("\n", ": "))
                version: int = copy.execute(_LAST, (scope,)).fetchone()[0]
    except (sqlite3.Error, OSError, *DAMAGE) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _COPIES:
            raise _unwritable(target, error) from None
        raise explain(error, source) from error
    if not version:
        raise missing
    return version


@contextmanager
def _turn_of(source: Path) -> Iterator[None]:
    """Wait for a turn among the writers, whose locks would starve a reader. Go without where nobody can write."""
    with ExitStack() as stack:
        with suppress(OSError):
            if lock_path(source).exists():  # whoever writes has made it
                stack.enter_context(stack.enter_context(closing(FileQueue(lock_path(source)))).turn())
        yield


async def _written(url: str, path: Path, scope: str) -> int:
    """Write what a server holds of *scope* to a new file. Returns the version that it is as of."""
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(existing_journal(url, scope))
        target = await stack.enter_async_context(opened(open_journal(f"sqlite:///{path}", scope)))
        found = folded(await source.read(0))
        if found.moved is not None:
            raise JournalMoved(found.moved.to)
        if found.copying is not None:
            raise InputError(f"a copy from {found.copying.place} into it is not complete: finish that first", "journal")
        source_us = await now_us_of(source, found.version)
        event = stand_in(source, found, max(0, await now_us_of(target, 0) - source_us))
        await transact(target, 0, lambda _, __: [event])
        return found.version


def _settled(path: Path, target: Path, *, replace: bool) -> int:
    """Make the copy durable and give it its name. Returns its size, bytes."""
    try:
        path.chmod(0o600)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        if replace:
            path.replace(target)
        else:
            _give_name(path, target)
        with suppress(OSError):  # a system that syncs no directories
            directory = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return target.stat().st_size
    except OSError as error:
        raise _unwritable(target, error) from None


def _give_name(path: Path, target: Path) -> None:
    try:
        os.link(path, target)  # which takes nobody's place, also that of a file that came a moment ago
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        path.replace(target)


def _unwritable(target: Path, error: Exception) -> JournalError:
    why = getattr(error, "strerror", None) or str(error)
    return JournalError(
        f"the copy {target} cannot be written ({why}); there is none now, and the journal is as it was: make room, or "
        "name another path"
    )
