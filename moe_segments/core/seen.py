"""Which values have been seen before: exact, on the bytes themselves, one set of values in the standard library alone.

The line of a value's first occurrence is not kept for every value; it is looked up in the source for the few duplicates
that are shown. `moe_segments.core.seen_fast` does the same in a sixth of the memory and time, with numpy.
"""

from __future__ import annotations

from array import array
from collections import deque
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.chunks import between_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_segments.core.chunks import Chunk

    Reread = Callable[[int, int], bytes]  # offset, size: those bytes of the source once more

__all__ = ["Duplicates", "Place", "SeenValues", "rows_of", "text_of"]

_LINES: Final = "I"  # 4 bytes a duplicate


@attrs.frozen
class Place:
    """Where a chunk is: enough to read it once more.

    Attributes:
        offset: Of its first row in the source, bytes.
        size: Bytes.
        first_line: The line of its first row.
    """

    offset: int
    size: int
    first_line: int


@attrs.frozen(kw_only=True)
class Duplicates:
    """Every row that repeats an earlier one.

    Attributes:
        lines: Their lines, ascending.
        first: Line, bytes and line of the first occurrence, of the first ones.
    """

    lines: array[int]
    first: tuple[tuple[int, bytes, int | None], ...]


class SeenValues:
    """Keeps every value in a set.

    A chunk's rows are put into the set all at once, and only if the set has not grown by as many is there a duplicate
    in the chunk. Which rows they are the set cannot tell any more: the first few such chunks are read again. Where
    there are more, each chunk is compared with the set before it is put in.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(self, reread: Reread | None) -> None:
        self.places: list[Place] = []
        self._reread = reread
        self._values = {b""}  # the empty row is found like a value seen before
        self._doubtful: list[Place] = []
        self._is_hopeful = reread is not None
        self._lines = array(_LINES)  # ascending
        self._shown: list[tuple[int, bytes]] = []

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk; see `moe_segments.core.repeats.Repeats.add`."""
        rows = chunk.text[1:-1].split(b"\n")
        place = Place(chunk.offset, chunk.size, first_line)
        self.places.append(place)
        values = self._values
        if blank or not (self._is_hopeful or values.isdisjoint(rows)):
            return len(rows), self._add_one_by_one(rows, first_line)
        before = len(values)
        values.update(rows)
        if len(values) - before == len(rows):
            return len(rows), False
        if self._is_hopeful:
            self._doubtful.append(place)
            if len(self._doubtful) == _DOUBTFUL_MOST:
                self._settle()
            return len(rows), b"" in rows
        values.difference_update(rows)  # all were new, so this takes back what was just added
        return len(rows), self._add_one_by_one(rows, first_line)

    def finish(self, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the first occurrence's line, where it can be read again."""
        self._settle()
        shown = sorted(self._shown)[:most]
        first = _first_lines({row for _, row in shown}, self.places, self._reread) if self._reread else {}
        return Duplicates(lines=self._lines, first=tuple((line, row, first.get(row)) for line, row in shown))

    def let_go(self) -> Iterator[None]:
        """Forget the values, a few at each step: forgetting millions at once would hold up every other thread."""
        take = iter(self._values.pop, None)
        while self._values:
            deque(islice(take, min(_LET_GO_ROWS, len(self._values))), maxlen=0)
            yield

    def _add_one_by_one(self, rows: Sequence[bytes], first_line: int) -> bool:
        values = self._values
        repeated = array(_LINES)
        has_empty = False
        for line, row in enumerate(rows, first_line):
            if row not in values:
                if row.strip(b" \t"):
                    values.add(row)
            elif row:
                repeated.append(line)
            else:
                has_empty = True
        self._repeat(repeated, rows, first_line)
        return has_empty

    def _settle(self) -> None:
        """Find the duplicates in the doubtful chunks."""
        doubtful, self._doubtful, self._is_hopeful = self._doubtful, [], False
        if not doubtful:
            return
        assert self._reread is not None  # or nothing would be doubtful
        suspects = {row for place in doubtful for row in rows_of(self._reread, place)} - {b""}
        met: set[bytes] = set()
        earlier, self._lines = self._lines, array(_LINES)
        for place in self.places:
            rows = rows_of(self._reread, place)
            if place in doubtful:
                repeated = array(_LINES)
                for line, row in enumerate(rows, place.first_line):
                    if row in met:
                        repeated.append(line)
                    elif row:
                        met.add(row)
                self._repeat(repeated, rows, place.first_line)
                if place == doubtful[-1]:
                    break
            else:
                met |= suspects.intersection(rows)
        self._lines = array(_LINES, merge(earlier, self._lines))

    def _repeat(self, repeated: array[int], rows: Sequence[bytes], first_line: int) -> None:
        self._lines.extend(repeated)
        self._shown += [(line, rows[line - first_line]) for line in repeated[: _SHOWN_MOST - len(self._shown)]]


_LET_GO_ROWS: Final = 5_000  # about a millisecond
_DOUBTFUL_MOST: Final = 4
_SHOWN_MOST: Final = 10_000


def text_of(reread: Reread, place: Place) -> bytes:
    """A chunk's text once more."""
    return between_feeds(reread(place.offset, place.size))


def rows_of(reread: Reread, place: Place) -> list[bytes]:
    """A chunk's rows once more."""
    return text_of(reread, place)[1:-1].split(b"\n")


def _first_lines(wanted: set[bytes], places: Sequence[Place], reread: Reread) -> dict[bytes, int]:
    """The line on which each of the *wanted* values is for the first time."""
    found: dict[bytes, int] = {}
    for place in places:
        if not wanted:
            break
        text = text_of(reread, place)
        for value in tuple(wanted):
            at = text.find(b"\n" + value + b"\n")
            if at >= 0:
                found[value] = place.first_line + text.count(b"\n", 1, at + 1)
                wanted.discard(value)
    return found
