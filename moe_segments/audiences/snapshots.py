"""Keep snapshots: files of a segment's members on this host, known by their digest.

A snapshot is sorted, without repeats, compressed, and readable by its owner alone. Its name is the SHA-256 of its
bytes, which begin with chance: so the digest, which the journal keeps, tells nothing of the members. Whether a
snapshot is what the segment holds is the journal's to say; a snapshot that is missing or altered is no snapshot.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from moe_segments.audiences.sorted_file import lines_of
from moe_segments.errors import MoeSegmentsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from moe_segments.core.audiences.streams import Block

__all__ = ["SnapshotAltered", "Snapshots"]

_MAGIC: Final = "moe-segments snapshot 1"
_READ_BYTES: Final = 1 << 16
_LEVEL: Final = 1  # level 6 takes six times as long for a tenth less
_GZIP: Final = 31  # zlib's window bits for gzip


class SnapshotAltered(MoeSegmentsError):
    """A snapshot is missing, or not what was written: the members of its segment are unknown."""


class Snapshots:
    """The snapshots in one directory.

    Args:
        directory: Where they are. Made with the first one, with mode 0700.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, segment: str, blocks: Iterable[Block]) -> tuple[str, int]:
        """Write a snapshot and return its digest and how many values it has.

        Raises:
            OSError: It cannot be written.
        """
        place = self._place(segment)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = place / f"{secrets.token_hex(8)}.new"
        try:
            digest, count = _written(temporary, blocks)
            temporary.rename(place / digest)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(place)
        return digest, count

    def read(self, segment: str, digest: str) -> Iterator[Block]:
        """Yield a snapshot's values. Only at the end it is known to be whole: do nothing that matters before.

        Raises:
            SnapshotAltered: It is missing or altered.
        """
        try:
            with (self._place(segment) / digest).open("rb") as file:
                yield from _read(iter(lambda: file.read(_READ_BYTES), b""), digest)
        except (OSError, zlib.error) as error:
            raise SnapshotAltered(f"a snapshot of {segment!r} cannot be read ({type(error).__name__})") from None

    def has(self, segment: str, digests: Collection[str]) -> bool:
        """Return whether all of these are there, altered or not."""
        return all((self._place(segment) / digest).is_file() for digest in digests)

    def keep_only(self, segment: str, digests: Collection[str]) -> None:
        """Delete the other snapshots of a segment. Raises nothing."""
        with suppress(OSError):
            for path in self._place(segment).iterdir():
                if path.name not in digests:
                    path.unlink(missing_ok=True)

    def forget(self, segment: str) -> None:
        """Delete all snapshots of a segment. Raises nothing."""
        self.keep_only(segment, ())
        with suppress(OSError):
            self._place(segment).rmdir()

    def _place(self, segment: str) -> Path:
        return self._directory / hashlib.sha256(segment.encode()).hexdigest()[:32]


def _written(path: Path, blocks: Iterable[Block]) -> tuple[str, int]:
    packer, digest, count = zlib.compressobj(_LEVEL, wbits=_GZIP), hashlib.sha256(), 0

    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:

        def put(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        put(packer.compress(f"{_MAGIC} {secrets.token_hex(16)}\n".encode()))
        for block in blocks:
            count += len(block)
            put(packer.compress(lines_of(block)))
        put(packer.flush())
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), count


def _read(pieces: Iterator[bytes], digest: str) -> Iterator[Block]:
    unpacker, seen, rest, is_begun = zlib.decompressobj(wbits=_GZIP), hashlib.sha256(), b"", False
    for piece in pieces:
        seen.update(piece)
        whole, newline, rest = (rest + unpacker.decompress(piece)).rpartition(b"\n")
        if not newline:
            continue
        values = whole.decode("latin-1").split("\n")
        if not is_begun:
            is_begun = True
            if not values.pop(0).startswith(_MAGIC):
                raise SnapshotAltered("it is no snapshot of this version")
        if values:
            yield values
    if seen.hexdigest() != digest:
        raise SnapshotAltered("a snapshot was altered")


def _sync(directory: Path) -> None:
    with suppress(OSError):  # not every system can
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
