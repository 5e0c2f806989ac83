"""Write a file so that it is there whole or not at all: a temporary file beside it, fsync, rename."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from moe_segments.errors import InputError, PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Output", "refuse_target", "settled"]


class Output:
    """A file being written under another name until it is complete.

    Attributes:
        path: Where it will be.
        file_bytes: How much was written, bytes.
    """

    path: Path
    file_bytes: int

    def __init__(self, path: Path) -> None:
        self.path, self.file_bytes = path, 0
        self._sha256 = hashlib.sha256()
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
        try:
            self._descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from None
        self._temporary: Path | None = temporary

    def write(self, data: bytes | memoryview) -> None:
        """Append.

        Raises:
            PreflightError: It cannot be written.
        """
        self._sha256.update(data)
        self.file_bytes += len(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def reread(self, offset: int, size: int) -> bytes:
        """Return some of what was written."""
        return os.pread(self._descriptor, size, offset)

    def rewrite(self, pieces: Iterable[bytes]) -> None:
        """Replace what was written.

        Args:
            pieces: They may be made of what is read again here, if all of them up to any one have no more bytes than
                were read for them.

        Raises:
            PreflightError: It cannot be written.
        """
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.file_bytes, self._sha256 = 0, hashlib.sha256()
        for piece in pieces:
            self.write(piece)
        try:
            os.ftruncate(self._descriptor, self.file_bytes)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def end(self) -> str:
        """Close the file and return its sha256, in hex."""
        self._close()
        return self._sha256.hexdigest()

    def sync(self) -> None:
        """Make what was written durable, still under its other name; after `end`.

        Raises:
            PreflightError: It cannot be written.
        """
        assert self._temporary is not None  # not renamed yet
        try:
            descriptor = os.open(self._temporary, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def rename(self, *, replaces: bool = True) -> None:
        """Give it its name, in place of what had it.

        Args:
            replaces: Whether something may have it; else that is an error, also when it came a moment ago.

        Raises:
            PreflightError: It cannot get it.
        """
        assert self._temporary is not None  # once
        try:
            if not replaces:
                _link(self._temporary, self.path)
            self._temporary.replace(self.path)  # of two links to one file it may leave both
            self._temporary.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self._temporary = None

    def close(self) -> None:
        """Close the file; remove it if it was not renamed."""
        self._close()
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._temporary = None

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))


def settled(directory: Path) -> None:
    """Make the names in a directory durable."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_target(source: object, target: Path, *, replace: bool) -> None:
    """Refuse to write over what is read, or over what is to stay.

    Raises:
        InputError: *target* is the file *source*, by whatever name, or no place for a file, or there and not to be
            replaced.
    """
    with contextlib.suppress(OSError):
        if isinstance(source, Path) and target.samefile(source):
            raise InputError(f"{target} is the file itself, which is never overwritten: choose another name", "to")
    with contextlib.suppress(OSError):  # of a place that cannot be looked at: nor can it be written to
        if target.exists() and not target.is_file():
            raise InputError(f"{target} is there and is no file: choose another name", "to")
        if target.exists() and not replace:
            raise InputError(f"{target} is there: choose another name, or allow that it is replaced", "to")


def _unwritable(path: Path, error: OSError | ValueError) -> PreflightError:
    return PreflightError(str(path), f"cannot be written: {getattr(error, 'strerror', None) or type(error).__name__}")
