"""Which values have been seen before: exact, on the bytes themselves, one set of values in the standard library alone.

The line of a value's first occurrence is not kept for every value; it is looked up in the source for the few duplicates
that are shown. `moe_segments.core.seen_fast` does the same in a sixth of the memory and time, with numpy.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from moe_segments.core.chunks import between_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_segments.core.chunks import Chunk

    Reread = Callable[[int, int], bytes]  # offset, size: those bytes of the source once more

__all__ = ["Duplicates", "Place", "SeenValues", "values_of"]

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


class Seen(Protocol):
    """What a check needs: tell it every chunk, then ask once."""

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk.

        Args:
            chunk: The rows.
            first_line: The line of the first of them.
            blank: Those that are blank and not empty, numbered from 0; left out like the empty ones.

        Returns:
            How many rows the chunk has, and whether one of them is empty.
        """

    def finish(self, reread: Reread | None, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the first occurrence, where *reread* is there to find it."""


class SeenValues:
    """Keeps every value in a set."""

    def __init__(self) -> None:
        self.values = {b""}  # the empty row is found like a value seen before
        self.places: list[Place] = []
        self.lines = array(_LINES)
        self.shown: list[tuple[int, bytes]] = []

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """See `Seen`."""
        rows = chunk.text[1:-1].split(b"\n")
        self.places.append(Place(chunk.offset, chunk.size, first_line))
        if blank or not self.values.isdisjoint(rows):
            return len(rows), self._add_one_by_one(rows, first_line)
        before = len(self.values)
        self.values.update(rows)
        if len(self.values) - before < len(rows):
            self.values.difference_update(rows)  # all were new, so this takes back what was just added
            self._add_one_by_one(rows, first_line)
        return len(rows), False

    def finish(self, reread: Reread | None, most: int) -> Duplicates:
        """See `Seen`."""
        shown = self.shown[:most]
        first = _first_lines({row for _, row in shown}, self.places, reread) if reread else {}
        return Duplicates(lines=self.lines, first=tuple((line, row, first.get(row)) for line, row in shown))

    def _add_one_by_one(self, rows: Sequence[bytes], first_line: int) -> bool:
        values = self.values
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
        self.lines.extend(repeated)
        self.shown += [(line, rows[line - first_line]) for line in repeated[: _SHOWN_MOST - len(self.shown)]]
        return has_empty


_SHOWN_MOST: Final = 1_000


def values_of(reread: Reread, place: Place) -> bytes:
    """A chunk's text once more."""
    return between_feeds(reread(place.offset, place.size))


def _first_lines(wanted: set[bytes], places: Sequence[Place], reread: Reread) -> dict[bytes, int]:
    """The line on which each of the *wanted* values is for the first time."""
    found: dict[bytes, int] = {}
    for place in places:
        if not wanted:
            break
        text = values_of(reread, place)
        for value in tuple(wanted):
            at = text.find(b"\n" + value + b"\n")
            if at >= 0:
                found[value] = place.first_line + text.count(b"\n", 1, at + 1)
                wanted.discard(value)
    return found
