"""Read a file on disk block by block; it must stay as it is until the end."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

__all__ = ["BLOCK_BYTES", "OpenFile", "check_size", "is_regular", "opened"]

_State: TypeAlias = tuple[int, int, int, int]

BLOCK_BYTES: Final = 98_304


@attrs.frozen
class OpenFile:
    """A regular file on disk, open for reading.

    Attributes:
        path: Where it is.
        file_bytes: Its size when it was opened, bytes.
    """

    path: Path
    _file: FileIO
    _state: _State
    file_bytes: int

    def blocks(self) -> Iterator[bytes]:
        """Yield its bytes, once.

        Raises:
            PreflightError: It is not any more what it was when it was opened.
        """
        read_bytes = 0
        while block := self._file.read(BLOCK_BYTES):
            read_bytes += len(block)
            if read_bytes > self.file_bytes:
                break  # it grows, perhaps for ever
            yield block
        self.check_unchanged()

    def reread(self, offset: int, size: int) -> bytes:
        """Return some of its bytes once more."""
        return os.pread(self._file.fileno(), size, offset)

    def check_unchanged(self) -> None:
        """Refuse a file that changed while it was read.

        Raises:
            PreflightError: Its size, its time or the file behind its name is not what it was.
        """
        if not (self._state == _state_of(os.fstat(self._file.fileno())) == _state_of(self.path.stat())):
            raise PreflightError(str(self.path), "changed while it was read: wait until it is written, then try again")


@contextmanager
def opened(path: Path) -> Iterator[OpenFile]:
    """Open a regular file, which must stay as it is until the end.

    Raises:
        PreflightError: It cannot be read, is no regular file, or changed meanwhile.
    """
    try:
        with _opened(path) as file:
            before = os.fstat(file.fileno())
            handle = OpenFile(path, file, _state_of(before), before.st_size)
            try:
                yield handle
            except Exception:
                handle.check_unchanged()  # what cannot be read again may fail anywhere
                raise
            handle.check_unchanged()
    except OSError as error:
        raise PreflightError(str(path), f"cannot be read: {error.strerror or type(error).__name__}") from None


def _opened(path: Path) -> FileIO:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and be empty afterwards
            raise PreflightError(str(path), "is no regular file: name a file, rather than a directory or a pipe")
        return path.open("rb", buffering=0)
    except ValueError:
        raise PreflightError(str(path), "is no path: it holds a character that no path can") from None


def _state_of(stat: os.stat_result) -> _State:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def is_regular(path: Path) -> bool:
    """Return whether there is a regular file at a path, as far as this user can see. Raises nothing."""
    try:
        return path.is_file()
    except OSError:  # its directory is closed to this user, or its name too long
        return False


def check_size(file_bytes: int, max_bytes: int, source: str) -> None:
    """Refuse a file that is too large to be read at all.

    Raises:
        PreflightError: The file is too large.
    """
    if file_bytes > max_bytes:
        most = f"{max_bytes:,} bytes"
        raise PreflightError(source, f"is larger than {most}, the most MoEngage takes: split it into smaller files")
