"""Read a file on disk block by block; it must stay as it is until the end."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.errors import PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

__all__ = ["BLOCK_BYTES", "OpenFile", "check_size", "opened"]

BLOCK_BYTES: Final = 262_144
_MB: Final = 1_000_000


@attrs.frozen
class OpenFile:
    """A regular file on disk, open for reading.

    Attributes:
        file_bytes: Its size when it was opened, bytes.
    """

    _file: FileIO
    file_bytes: int

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, once."""
        while block := self._file.read(BLOCK_BYTES):
            yield block

    def reread(self, offset: int, size: int) -> bytes:
        """Some of its bytes once more."""
        return os.pread(self._file.fileno(), size, offset)


@contextmanager
def opened(path: Path) -> Iterator[OpenFile]:
    """Open a regular file, which must stay as it is until the end.

    Raises:
        PreflightError: It cannot be read, is no regular file, or changed meanwhile.
    """
    try:
        with _opened(path) as file:
            before = os.fstat(file.fileno())
            yield OpenFile(file, before.st_size)
            if not (_state(before) == _state(os.fstat(file.fileno())) == _state(path.stat())):
                raise PreflightError(str(path), "changed while it was read: wait until it is written, then try again")
    except OSError as error:
        raise PreflightError(str(path), f"cannot be read: {error.strerror or type(error).__name__}") from None


def _opened(path: Path) -> FileIO:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and be empty afterwards
            raise PreflightError(str(path), "is no regular file")
        return path.open("rb", buffering=0)
    except ValueError:
        raise PreflightError(str(path), "is no path") from None


def _state(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def check_size(file_bytes: int, max_bytes: int, source: str) -> None:
    """Refuse a file that is too large to be read at all.

    Raises:
        PreflightError: It is.
    """
    if file_bytes > max_bytes:
        most = f"{max_bytes / _MB:g} MB"
        raise PreflightError(source, f"is larger than {most}, the most MoEngage takes: split it into smaller files")
