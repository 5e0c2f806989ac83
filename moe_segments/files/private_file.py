"""Keep a private temporary file that is gone when its process is, at the latest with the next process's start.

The file is in a directory of its own with mode 0700, in the system's temporary directory (`TMPDIR` names another). Its
writer holds a lock on it, which ends with the process: so `remove_orphaned` knows what a killed process left behind.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moe_segments.core.files.chunks import AHEAD_BYTES
from moe_segments.errors import PreflightError

if sys.platform != "win32":  # there, what a killed process left stays until somebody clears it
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PrivateFile", "remove_orphaned"]

_PREFIX: Final = "moe-segments-values-"
_FILE: Final = "values.csv"


class PrivateFile:
    """A temporary file that others cannot read, locked as long as its process lives. It goes with the last reference.

    Args:
        name: What errors call it.

    Raises:
        PreflightError: It cannot be made.
    """

    path: Path

    def __init__(self, name: str) -> None:
        self._name, self._descriptor = name, -1
        try:
            while self._descriptor < 0:
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)) / _FILE
                self._descriptor = self._opened()
        except OSError as error:
            if hasattr(self, "path"):
                _removed(self.path)
            raise _unwritable(name, error) from None
        # For one that is made in a thread, or for a task, whose caller was cancelled and never sees it.
        self._discard = weakref.finalize(self, _discarded, self.path, self._descriptor, os.getpid())
        self._discard.atexit = False

    def _opened(self) -> int:
        """Return its descriptor, locked; -1 where somebody took it for an orphan in the same moment."""
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return -1
        if _is_locked_by_us(descriptor) and self.path.exists():
            return descriptor
        os.close(descriptor)
        return -1

    def append(self, data: bytes) -> None:
        """Write at the end.

        Raises:
            PreflightError: It cannot be written.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise _unwritable(self._name, error) from None

    def reread(self, offset: int, size: int) -> bytes:
        """Return some of its bytes."""
        return os.pread(self._descriptor, size, offset)

    def rewrite(self, pieces: Iterable[bytes]) -> None:
        """Replace its bytes by *pieces*, which may be made of what is read again before it is written over.

        Raises:
            PreflightError: It cannot be written.
        """
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        kept, kept_bytes = [], 0
        for piece in pieces:  # written rarely, as they are read: see `ReadAhead`
            kept.append(piece)
            kept_bytes += len(piece)
            if kept_bytes >= AHEAD_BYTES:
                self.append(b"".join(kept))
                kept, kept_bytes = [], 0
        self.append(b"".join(kept))
        os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR))

    def remove(self) -> None:
        """Delete it and its directory. Does nothing the second time."""
        self._descriptor = -1
        self._discard()


def _unwritable(name: str, error: OSError) -> PreflightError:
    why = error.strerror or type(error).__name__
    advice = "free some room in the temporary directory, or set TMPDIR to a directory with more"
    return PreflightError(name, f"cannot be written to a temporary file ({why}): {advice}")


def remove_orphaned() -> None:
    """Delete the temporary files of values that processes of this user left when they were killed. Raises nothing."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                _remove_if_orphaned(directory / _FILE)


def _remove_if_orphaned(path: Path) -> None:
    if sys.platform == "win32" or path.parent.is_symlink() or path.parent.stat().st_uid != os.getuid():
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        path.parent.rmdir()
        return
    try:
        if _is_locked_by_us(descriptor):
            _removed(path)
    finally:
        os.close(descriptor)


def _is_locked_by_us(descriptor: int) -> bool:
    """Lock a file. Returns whether nobody else had it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _discarded(path: Path, descriptor: int, process: int) -> None:
    if os.getpid() == process:  # not a copy of it, which still uses the file
        _removed(path)
    os.close(descriptor)


def _removed(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()
