"""Witness files: a log's identity and the last version any client saw.

A log that was deleted, put back from a copy or exchanged looks perfectly well by itself. Its witnesses do not
go back with it: one lies beside the journal, one, when there is a state directory, away from it. A witness is
written inside the journal's queue after each commit and is not synced: it may lag behind after a crash, never
run ahead. A witness of one log never goes back, unless the log itself says that its history is in doubt.

One line of JSON in a block of fixed size, written by a single call, with a check sum. What does not check is
taken for absent, and said so in the log.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import sys
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.errors import JournalReplaced
from moe_segments.journal.local.files import make_private_directories, open_private
from moe_segments.journal.local.outage import Outage

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Sighting", "Witness", "Witnesses", "beside", "in_state_directory", "record_of"]

_LOG: Final = logging.getLogger("moe_segments.journal")
_BLOCK_BYTES: Final = 512
_READS: Final = 3
_LONGEST_BYTES: Final = 64 * _BLOCK_BYTES


@attrs.frozen
class Sighting:
    """A log as it was seen.

    Attributes:
        journal_id: Its identity.
        version: Its last version.
        path: The real path of the journal's file, or the server that holds it.
        batch_id: The id of the batch at that version, where an engine can be asked for it.
    """

    journal_id: str
    version: int
    path: str
    batch_id: str = ""


def beside(journal: Path, scope: str) -> Path:
    """Return the witness of *scope* beside the file *journal*."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", scope)[:40]
    # The digest keeps scopes apart that differ only in what a file name cannot hold.
    return journal.with_name(f"{journal.name}.{safe}-{_digest(scope)[:8]}.witness")


def in_state_directory(state_dir: Path, scope: str) -> Path:
    """Return the witness of *scope* in the user's state directory, wherever the journal lies."""
    return state_dir / "witness" / f"{_digest(scope)[:16]}.json"


class Witness:
    """One witness file. Used by one thread; its writers take turns in the journal's queue.

    Args:
        path: The file; made by the first `write`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._last: tuple[bytes, Sighting | None] = b"", None

    def recall(self) -> Sighting | None:
        """Return what was seen last; None when nothing was, or nothing that can be read.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            line = self.path.read_bytes().partition(b"\n")[0]
        except FileNotFoundError:
            return None
        seen = _parsed(line)
        if seen is None:
            _LOG.warning("the witness %s is damaged and taken for absent; the next commit writes it anew", self.path)
        return seen

    def latest(self) -> Sighting | None:
        """Return what was seen last, by any process; None when nothing was, or nothing that can be read.

        Cheap enough for every call to the journal. Raises nothing: a witness that cannot be read says nothing.
        """
        with suppress(OSError):
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDWR)
            for _ in range(_READS):
                record = _read(self._fd)
                if record != self._last[0]:
                    self._last = record, _parsed(record.partition(b"\n")[0])
                if self._last[1] is not None:
                    break  # else it may have been read in the middle of a write
            return self._last[1]
        return None

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Keep other processes from writing meanwhile. Yields False where one of them is writing just now.

        Never waits: a process that was stopped while it wrote would hold up every other one.
        """
        if sys.platform == "win32":
            yield True
            return
        try:
            if self._fd is None:
                self._fd = open_private(self.path)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def write(self, record: bytes, seen: Sighting | None = None) -> None:
        """Remember *record*, whole: what it held before is covered. With what it says, it need not be read again.

        Raises:
            OSError: The file cannot be written.
        """
        if self._fd is None:
            self._fd = open_private(self.path)
        _write(self._fd, record)
        if seen is not None:
            self._last = record, seen

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class Witnesses:
    """Every witness of one log.

    Args:
        journal: The real path of the journal's file.
        scope: Which of its logs.
        state_dir: Where the second witness is kept; None for none.

    Raises:
        OSError: The state directory cannot be made.
    """

    def __init__(self, journal: Path, scope: str, state_dir: Path | None) -> None:
        self._witnesses = [Witness(beside(journal, scope))]
        self._is_elsewhere = self._is_doubted = False
        self._outage = Outage()
        if state_dir is not None:
            path = in_state_directory(state_dir, scope)
            make_private_directories(path.parent)
            self._witnesses.append(Witness(path))

    def examine(self, found: Sighting, *, is_new: bool, id_at: Callable[[int], str | None]) -> str | None:
        """Return why the log that was found may have lost history; None when nothing speaks against it.

        *id_at* returns the id of a batch of the log by its version; None where it holds that no more.

        Without a doubt the witnesses note what was found. With one they stay as they are until the next
        `note`, so that a client that stops here leaves the doubt to the next.

        Raises:
            OSError: A witness cannot be read or written.
        """
        for witness in self._witnesses:
            seen = witness.recall()
            if seen is None or not seen.version:  # nothing was recorded that could be lost
                continue
            doubt = _doubt(seen, found, is_new=is_new, id_at=id_at)
            if doubt is not None:
                self._is_doubted = True
                self._is_elsewhere = _is_another_file(seen.path, found.path)
                return doubt
        self._note(found)
        return None

    def reached(self, found: Sighting) -> int:
        """Return the last version of the log that any process of this host has seen; 0 while there is a doubt."""
        records = () if self._is_doubted else (witness.latest() for witness in self._witnesses)
        return max((seen.version for seen in records if seen is not None and _is_same_log(seen, found)), default=0)

    def confirm(self, found: Sighting, ids: Mapping[int, str]) -> None:
        """Check that the open log holds what other processes have seen of it. Call it inside the journal's queue.

        Args:
            found: The log as it is.
            ids: Its batches by version, from the last one that this process has seen.

        Raises:
            JournalReplaced: It has lost something of that.
        """
        if self._is_doubted:  # which is said already
            return
        for witness in self._witnesses:
            seen = witness.latest()
            if seen is None or not _is_same_log(seen, found):
                continue
            if seen.version > found.version:
                what = f"was put back to version {found.version} although version {seen.version} was seen"
            elif seen.batch_id and ids.get(seen.version, seen.batch_id) != seen.batch_id:
                what = f"was put back and went on from there: its version {seen.version} changed"
            else:
                continue
            raise JournalReplaced(
                f"the journal at {found.path} {what} by another process; nothing was recorded: end every process that "
                "uses it, and start again, which takes the windows for full"
            )

    def note(self, seen: Sighting, *, counts: bool = True) -> None:
        """Remember what was committed. Never fails: the commit stands, and a witness may lag.

        Args:
            seen: The log as it is now.
            counts: What was committed spends quota, or says that this log is the one to trust. Before that a log at
                another path than the known one does not take its place: a path mistyped once casts no doubt on the
                right one.
        """
        self._is_elsewhere, self._is_doubted = self._is_elsewhere and not counts, False
        try:
            self._note(seen)
        except OSError as error:
            self._outage.warn("witness", "a witness of the journal could not be written: %s", error)

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        for witness in self._witnesses:
            witness.close()

    def _note(self, seen: Sighting) -> None:
        record = record_of(seen)
        beside, *elsewhere = self._witnesses
        beside.write(record)
        for witness in () if self._is_elsewhere else elsewhere:
            try:
                witness.write(record)
            except OSError as error:  # it lags; the journal itself can be used
                self._outage.warn("witness", "a witness of the journal could not be written: %s", error)


def _doubt(seen: Sighting, found: Sighting, *, is_new: bool, id_at: Callable[[int], str | None]) -> str | None:
    known = f"version {seen.version} was seen"
    if seen.path != found.path and _is_another_file(seen.path, found.path):
        return (
            f"this workspace's journal was at {seen.path} and is there still, while this one is at "
            f"{found.path}: two journals count one quota twice; use {seen.path} ({known} there)"
        )
    if seen.journal_id != found.journal_id and is_new:
        return f"the journal at {seen.path} was deleted or moved away ({known}), and {found.path} starts anew"
    if seen.journal_id != found.journal_id:
        return f"the journal at {found.path} was replaced by another one ({known} of the one before)"
    if seen.version > found.version:
        return f"the journal at {found.path} was put back to version {found.version} although {known}"
    if seen.batch_id and (id_at(seen.version) or seen.batch_id) != seen.batch_id:
        return f"the journal at {found.path} was put back and went on from there: its version {seen.version} changed"
    return None


def _is_same_log(seen: Sighting, found: Sighting) -> bool:
    return (seen.journal_id, seen.path) == (found.journal_id, found.path)


def _is_another_file(one: str, other: str) -> bool:
    try:
        return not Path(one).samefile(other)
    except OSError:  # the one that was seen is gone: moved or deleted, the identity tells which
        return False


if sys.platform == "win32":

    def _write(fd: int, record: bytes) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, record)

    def _read(fd: int) -> bytes:
        os.lseek(fd, 0, os.SEEK_SET)
        return os.read(fd, _LONGEST_BYTES)

else:

    def _write(fd: int, record: bytes) -> None:
        os.pwrite(fd, record, 0)

    def _read(fd: int) -> bytes:
        return os.pread(fd, _LONGEST_BYTES, 0)


_quoted = functools.cache(json.dumps)  # a process has few journals, and each of its commits names one


def record_of(seen: Sighting) -> bytes:
    """Return what a witness's file holds of *seen*: one line in a block of fixed size, with its check sum."""
    head = f'{{"journal_id":"{seen.journal_id}","version":{seen.version:20d},"path":{_quoted(seen.path)}'
    if seen.batch_id:
        head += f',"batch_id":{json.dumps(seen.batch_id)}'
    line = f'{head},"check":"{zlib.crc32(head.encode()):08x}"}}\n'.encode()
    return line.ljust(-(-len(line) // _BLOCK_BYTES) * _BLOCK_BYTES)


def _parsed(line: bytes) -> Sighting | None:
    head, _, check = line.rpartition(b',"check":')
    if check != b'"%08x"}' % zlib.crc32(head):
        return None
    fields = json.loads(line)
    return Sighting(fields["journal_id"], fields["version"], fields["path"], fields.get("batch_id", ""))


def _digest(scope: str) -> str:
    return hashlib.sha256(scope.encode()).hexdigest()
