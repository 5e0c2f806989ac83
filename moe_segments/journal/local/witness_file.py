"""The file of a witness: one line of JSON in a block of fixed size, written by a single call, with a checksum.

A record that does not fit its checksum is taken for absent, with a line in the log.
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
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.journal.local.files import open_private

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Sighting", "WitnessFile", "beside", "in_state_directory", "record_of"]

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


class WitnessFile:
    """One file of a witness, for one thread.

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
