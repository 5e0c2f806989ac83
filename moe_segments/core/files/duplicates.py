"""Find the rows of a file that repeat an earlier one: exactly, and in about eight bytes a row. Pure.

Only a hash of each row is kept. Rows whose hash came more than once are suspects. They are read from the source again
and compared byte for byte, so that a collision of hashes is never a duplicate.

The hashes are kept in 256 arrays, and each array is examined alone. This keeps every single step short: other threads,
such as the one of an event loop, run between two of them.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from itertools import compress, count
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.files.chunks import ReadAhead, between_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_segments.core.files.chunks import Chunk, Reread


__all__ = ["DuplicateFinder", "Duplicates", "Place"]

_PARTS: Final = 256
_SLICE: Final = 50_000
_LINES: Final = "I"  # 4 bytes a duplicate
_VALUES_LEAST, _VALUES_MOST = 100_000, 500_000  # of suspects compared in one pass over the source


@attrs.frozen
class Place:
    """The place of a chunk in its source.

    Attributes:
        offset: Where its first row begins, bytes.
        size: Its size, bytes.
        first_line: The line of its first row, from 1.
    """

    offset: int
    size: int
    first_line: int


@attrs.frozen(kw_only=True)
class Duplicates:
    """All rows that repeat an earlier one.

    Attributes:
        lines: Their lines, ascending.
        first: The first of them: line, bytes, and line of the value's first occurrence.
    """

    lines: Sequence[int]
    first: Sequence[tuple[int, bytes, int]]


class DuplicateFinder:
    """A collector of chunks that tells their duplicates at the end. Blank rows are no values and no duplicates.

    Attributes:
        places: The places of the chunks, in their order.
    """

    def __init__(self, reread: Reread, *, hash_row: Callable[[bytes], int] = hash) -> None:
        """Begin with no rows.

        Args:
            reread: Returns bytes of the source, by offset and size.
            hash_row: Returns at most 64 bits, with a sign. Collisions cost time and change nothing else.
        """
        self.places: list[Place] = []
        self._reread, self._hash = reread, hash_row
        self._parts = [array("q") for _ in range(_PARTS)]
        self._append = [part.append for part in self._parts]

    def add(self, chunk: Chunk, rows: Sequence[bytes], first_line: int) -> None:
        """Take the next chunk.

        Args:
            chunk: Where it is in the source.
            rows: Its rows.
            first_line: The line of the first of them.
        """
        self.places.append(Place(chunk.offset, chunk.size, first_line))
        if b"" in rows or b" " in chunk.text or b"\t" in chunk.text:
            rows = [row for row in rows if row.strip(b" \t")]
        append = self._append
        for key in map(self._hash, rows):
            append[key % _PARTS](key)

    def finish(self, most: int) -> Duplicates:
        """Return all duplicates, the first *most* of them with bytes and both lines; called once, at the end."""
        found = [self._duplicates_among(suspects, most) for suspects in self._suspects()]
        return Duplicates(
            lines=array(_LINES, heapq.merge(*(lines for lines, _ in found))),
            first=sorted(one for _, first in found for one in first)[:most],
        )

    def _suspects(self) -> Iterator[set[int]]:
        """Yield the hashes that came more than once: in several sets, where they are so many that memory counts."""
        repeated, distinct = [], 0
        self._append.clear()
        while self._parts:
            part = self._parts.pop()
            hashes: set[int] = set()
            for keys in _slices(part):
                hashes.update(keys)
            distinct += len(hashes)
            if len(hashes) < len(part):
                times: Counter[int] = Counter()
                for keys in _slices(part):
                    times.update(keys)
                repeated.append(array("q", (key for key, number in times.items() if number > 1)))
        suspects: set[int] = set()
        for hashes_of_part in repeated:
            suspects.update(hashes_of_part)
            if len(suspects) > min(max(_VALUES_LEAST, distinct // 3), _VALUES_MOST):
                yield suspects
                suspects = set()
        if suspects:
            yield suspects

    def _duplicates_among(self, suspects: set[int], most: int) -> tuple[array[int], list[tuple[int, bytes, int]]]:
        """Read the source again; return the lines of the duplicates with these hashes, and the first *most* in full."""
        first_lines: list[dict[bytes, int]] = [{} for _ in range(_PARTS)]
        lines = array(_LINES)
        read = ReadAhead(self._reread)
        first: list[tuple[int, bytes, int]] = []
        for place in self.places:
            rows = between_feeds(read(place.offset, place.size))[1:-1].split(b"\n")
            hashes = list(map(self._hash, rows))
            for index in compress(count(), map(suspects.__contains__, hashes)):
                line, row = place.first_line + index, rows[index]
                earlier = first_lines[hashes[index] % _PARTS].setdefault(row, line)
                if earlier < line and row.strip(b" \t"):
                    lines.append(line)
                    if len(first) < most:
                        first.append((line, row, earlier))
        while first_lines:
            first_lines.pop()  # one by one: to free them all at once takes long
        return lines, first


def _slices(part: array[int]) -> Iterator[array[int]]:
    """Yield an array in pieces: one value in every row makes a part as long as the file."""
    return (part[at : at + _SLICE] for at in range(0, len(part), _SLICE))
