"""Private files, the fair queue in front of a file, and file systems that cannot keep a journal."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalError
from moe_segments.journal.local.file_errors import explain

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = [
    "FileQueue",
    "file_system",
    "holder",
    "make_private_directories",
    "make_private_file",
    "open_private",
    "refuse_network",
]

_MOUNTS: Final = Path("/proc/mounts")
_LOCKS: Final = Path("/proc/locks")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_NETWORK: Final = frozenset(
    (
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.ceph",
        "fuse.davfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    )
)


def make_private_directories(directory: Path) -> None:
    """Make *directory* and its missing parents, each for this user alone and durable in its own parent.

    Raises:
        OSError: One of them cannot be made.
    """
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    for place in reversed(missing):
        with suppress(FileExistsError):  # another process was quicker
            place.mkdir(mode=0o700)
            place.chmod(0o700)  # whatever the umask
            _sync(place.parent)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))


def make_private_file(path: Path) -> None:
    """Make an empty file for this user alone, or leave the one that is there.

    Call it inside the queue: closing a file drops every lock that this process has on it, SQLite's too, and
    only a file that was not there before is sure to have none.

    Raises:
        OSError: It cannot be made, or is no ordinary file.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        path.chmod(0o600)  # whatever the umask
        return
    if path.is_dir():
        raise JournalError(f"{path} is a directory; name a file in it, such as {path / 'quota.db'}")
    if not stat.S_ISREG(path.stat().st_mode):
        raise JournalError(f"{path} is not an ordinary file; name another path for the journal")


def open_private(path: Path) -> int:
    """Return a descriptor of the file *path*, made for this user alone when missing.

    Raises:
        OSError: It cannot be made or opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    path.chmod(0o600)  # whatever the umask
    return fd


def refuse_network(path: Path) -> None:
    """Refuse a file system whose locks or syncs are another host's promise.

    Raises:
        JournalError: *path* lies on one, as far as the system tells.
    """
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:  # no such list on this system
        return
    kind = file_system(path, mounts)
    if kind in _NETWORK:
        raise JournalError(
            f"the journal {path} would lie on a network file system ({kind}); its locks and syncs cannot "
            "be relied on: name a path on a local disk, or use a journal made for several hosts"
        )


def file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds *path*, by the text of /proc/mounts; None if unknown."""
    best: tuple[int, str | None] = (0, None)
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), point)  # a blank is written \\040
        if path.is_relative_to(place) and len(place) >= best[0]:  # the later of two on one point is on top
            best = len(place), kind
    return best[1]


def holder(path: Path) -> int | None:
    """Return the process that holds the queue's file *path*, where the system tells."""
    try:
        found = path.stat()
        locks = _LOCKS.read_text()
    except OSError:
        return None
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in locks.splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5] == place:
            return int(words[4]) or None
    return None


class FileQueue:
    """A fair queue of writers, kept by the kernel, over every handle, thread and process of this host.

    SQLite's own busy handler lets the unlucky starve. Where the system has no `flock` there is no queue, and
    SQLite's lock alone keeps the log serial.

    Args:
        path: A file beside the journal; made when missing and kept, since whoever waits holds it open.

    Raises:
        OSError: The file cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_made = not path.exists()
        self._fd = open_private(path)

    @classmethod
    @contextmanager
    def joined(cls, path: Path) -> Iterator[Self]:
        """Yield a queue in its first turn. One that was made for it is taken away again when the body raises.

        So what is refused as a journal has nothing new beside it. Close the queue after the block, also when it raised.

        Raises:
            JournalError: The system cannot lock this file.
            OSError: The file cannot be made or opened.
        """
        while True:
            queue = cls(path)
            with queue.turn():
                if queue._is_there():
                    try:
                        yield queue
                    except BaseException:
                        queue._retract()
                        raise
                    return
            queue.close()  # whoever made it was refused and took it away while this one waited

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until it is this handle's turn, however long that takes, and end the turn on leaving.

        Raises:
            JournalError: The system cannot lock this file.
        """
        if sys.platform == "win32":
            yield
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            raise explain(error, self._path) from error
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _is_there(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        return False

    def _retract(self) -> None:
        if self._is_made:
            with suppress(OSError):  # a system that keeps open files: then it stays
                self._path.unlink()

    def close(self) -> None:
        """Let go of the file. Call it once."""
        os.close(self._fd)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
