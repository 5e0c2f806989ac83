"""The format of a snapshot: sorted, without repeats, compressed, known by its digest.

Its name is the SHA-256 of its bytes, which begin with chance: so the digest, which the journal keeps, tells nothing of
the members. Whether a snapshot is what the segment holds is the journal's to say; a snapshot that is missing or altered
is no snapshot.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from moe_segments.audiences.sorted_file import lines_of
from moe_segments.errors import MoeSegmentsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from moe_segments.core.audiences.streams import Block

__all__ = ["SnapshotAltered", "Snapshots", "folder_of", "packed", "unpacked"]

_MAGIC: Final = "moe-segments snapshot 1"
_LEVEL: Final = 1  # level 6 takes six times as long for a tenth less
_UNZIPPED_BYTES: Final = 1 << 17
_GZIP: Final = 31  # zlib's window bits for gzip


class SnapshotAltered(MoeSegmentsError):
    """A snapshot is missing, or not what was written: the members of its segment are unknown."""


class Snapshots(Protocol):
    """A place for snapshots. Each call takes long: make it in a thread."""

    def write(self, segment: str, blocks: Iterable[Block]) -> tuple[str, int]:
        """Write a snapshot and return its digest and how many values it has. It is there as a whole or not at all.

        Raises:
            InputError: It cannot be written.
            PreflightError: There is no room for it, or its store refuses it.
        """

    def read(self, segment: str, digest: str) -> Iterator[Block]:
        """Yield a snapshot's values. Only at the end it is known to be whole: do nothing that matters before.

        Raises:
            SnapshotAltered: It is missing or altered.
            PreflightError: Its store cannot be reached.
        """

    def has(self, segment: str, digests: Collection[str]) -> bool:
        """Return whether all of these are there, altered or not.

        Raises:
            PreflightError: Their store cannot be reached.
        """

    def keep_only(self, segment: str, digests: Collection[str]) -> None:
        """Delete the other snapshots of a segment. Raises nothing: the next sync tries again."""

    def forget(self, segment: str) -> bool:
        """Delete all snapshots of a segment. Return whether there was one.

        Raises:
            InputError: They cannot be deleted.
            PreflightError: Their store refuses it or cannot be reached.
        """


def folder_of(segment: str) -> str:
    """Return the name of the folder for a segment's snapshots."""
    return hashlib.sha256(segment.encode()).hexdigest()[:32]


def packed(blocks: Iterable[Block], put: Callable[[bytes], object]) -> tuple[str, int]:
    """Hand on the bytes of a snapshot, piece by piece. Returns its digest and how many values it has."""
    packer, digest, count = zlib.compressobj(_LEVEL, wbits=_GZIP), hashlib.sha256(), 0

    def hand_on(data: bytes) -> None:
        if data:
            digest.update(data)
            put(data)

    hand_on(packer.compress(f"{_MAGIC} {secrets.token_hex(16)}\n".encode()))
    for block in blocks:
        count += len(block)
        hand_on(packer.compress(lines_of(block)))
    hand_on(packer.flush())
    return digest.hexdigest(), count


def unpacked(segment: str, pieces: Iterable[bytes], digest: str) -> Iterator[Block]:
    """Yield the values of a snapshot from its bytes.

    Raises:
        SnapshotAltered: They are not what was written.
    """
    seen, rest, is_begun = hashlib.sha256(), b"", False
    altered = SnapshotAltered(f"a snapshot of {segment!r} was altered")
    try:
        for data in _unzipped(pieces, seen.update):
            whole, newline, rest = (rest + data).rpartition(b"\n")
            if not newline:
                continue
            values = whole.decode("latin-1").split("\n")
            if not is_begun:
                is_begun = True
                if not values.pop(0).startswith(_MAGIC):
                    raise SnapshotAltered(f"a snapshot of {segment!r} is of another version")
            if values:
                yield values
    except zlib.error:
        raise altered from None
    if seen.hexdigest() != digest:
        raise altered


def _unzipped(pieces: Iterable[bytes], see: Callable[[bytes], object]) -> Iterator[bytes]:
    """Yield the bytes before compression, never many at once: values that are alike become very small."""
    unpacker = zlib.decompressobj(wbits=_GZIP)
    for piece in pieces:
        see(piece)
        left = piece
        while left:
            yield unpacker.decompress(left, _UNZIPPED_BYTES)
            left = unpacker.unconsumed_tail
    yield unpacker.flush()
