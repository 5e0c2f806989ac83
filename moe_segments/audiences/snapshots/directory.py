"""Keep snapshots in a directory of this host, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from errno import ENOTEMPTY
from typing import TYPE_CHECKING, Final

from moe_segments.audiences.snapshots.format import SnapshotAltered, folder_of, packed, unpacked
from moe_segments.errors import InputError
from moe_segments.files.sources import is_regular
from moe_segments.journal.local.files import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from moe_segments.core.audiences.streams import Block

__all__ = ["SnapshotDirectory"]

_READ_BYTES: Final = 1 << 16


class SnapshotDirectory:
    """The snapshots in one directory.

    Args:
        directory: Where they are. Made with the first one, with mode 0700.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, segment: str, blocks: Iterable[Block]) -> tuple[str, int]:
        """Write a snapshot, see `Snapshots.write`."""
        place = self._place(segment)
        temporary = place / f"{secrets.token_hex(8)}.new"
        try:
            make_private_directories(place)
            try:
                digest, count = _written(temporary, blocks)
                temporary.rename(place / digest)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"the snapshot of {segment!r} cannot be written ({error.strerror})", "snapshots") from None
        _sync(place)
        return digest, count

    def read(self, segment: str, digest: str) -> Iterator[Block]:
        """Yield a snapshot's values, see `Snapshots.read`."""
        try:
            with (self._place(segment) / digest).open("rb") as file:
                yield from unpacked(segment, iter(lambda: file.read(_READ_BYTES), b""), digest)
        except OSError as error:
            raise SnapshotAltered(f"a snapshot of {segment!r} cannot be read ({type(error).__name__})") from None

    def has(self, segment: str, digests: Collection[str]) -> bool:
        """Return whether all of these are there, see `Snapshots.has`."""
        return all(is_regular(self._place(segment) / digest) for digest in digests)

    def keep_only(self, segment: str, digests: Collection[str]) -> None:
        """Delete the other snapshots of a segment, see `Snapshots.keep_only`."""
        with suppress(OSError):
            for path in self._place(segment).iterdir():
                if path.name not in digests:
                    path.unlink(missing_ok=True)

    def forget(self, segment: str) -> bool:
        """Delete all snapshots of a segment, see `Snapshots.forget`."""
        self.keep_only(segment, ())
        try:
            self._place(segment).rmdir()
        except FileNotFoundError:
            return False
        except OSError as error:
            what = "; a sync that goes on writes one: try again once it has ended" if error.errno == ENOTEMPTY else ""
            problem = f"the snapshots of {segment!r} cannot be deleted ({error.strerror}){what}"
            raise InputError(problem, "snapshots") from None
        return True

    def _place(self, segment: str) -> Path:
        return self._directory / folder_of(segment)


def _written(path: Path, blocks: Iterable[Block]) -> tuple[str, int]:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        found = packed(blocks, file.write)
        file.flush()
        os.fsync(file.fileno())
    return found


def _sync(directory: Path) -> None:
    with suppress(OSError):  # not every system can
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
