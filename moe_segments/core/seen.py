"""Which values have been seen before: exact, on the bytes themselves, with the standard library alone.

Where the source can be read again, a set of hashes is kept, else the values. The line of a value's first occurrence is
not kept for every value; it is looked up in the source for the few duplicates that are shown.
`moe_segments.core.seen_fast` does the same in a small part of the memory and time, with numpy.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from itertools import compress, islice
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from moe_segments.core.chunks import between_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_segments.core.chunks import Chunk

    Reread = Callable[[int, int], bytes]  # offset, size: those bytes of the source once more

__all__ = ["Duplicates", "Place", "SeenHalves", "SeenHashes", "SeenValues", "rows_of", "text_of"]

T = TypeVar("T")

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


class SeenHashes:
    """Keeps 60 bits of each row's hash, which is less than half of what the rows themselves would take.

    A chunk's hashes are put into the set all at once, and only if the set has not grown by as many can a row of the
    chunk be there twice. The first few such chunks are suspected as a whole; where there are more, hashes are put in
    one by one, and only rows whose hash is there already are suspected. At the end suspected rows are looked for in the
    source, byte for byte, so that it does not matter how the hashes fall.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(self, reread: Reread, *, key_bits: int = 60) -> None:
        """Begin.

        Args:
            reread: Gives bytes of the source once more, by offset and size.
            key_bits: How much of a hash is kept, at most 60; fewer only to test that it does not matter.
        """
        self.places: list[Place] = []
        self._reread = reread
        self._mask = (1 << min(key_bits, _HASH_BITS)) - 1
        self._hashes = {hash(b"") & self._mask}  # an empty row is found like a value seen before
        self._doubtful = 0
        self._lines, self._rows = array(_LINES), list[bytes]()  # of suspected rows

    @property
    def is_crowded(self) -> bool:
        """Whether so many rows are suspected that `SeenHalves` is the better way."""
        return len(self._rows) > _SUSPECTS_LEAST + len(self._hashes) // _VALUES_A_SUSPECT

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk; see `moe_segments.core.repeats.Repeats.add`."""
        rows = chunk.text[1:-1].split(b"\n")
        self.places.append(Place(chunk.offset, chunk.size, first_line))
        has_empty = b"" in rows
        if blank:
            rows = [row if row.strip(b" \t") else b"" for row in rows]
        mask, seen = self._mask, self._hashes
        hashes = [hash(row) & mask for row in rows]
        if self._doubtful == _DOUBTFUL_MOST:
            seen.intersection(hashes)  # brings what it meets into the processor's cache, many at once
            add = seen.add
            self._suspect(
                [index for index, value in enumerate(hashes) if value in seen or add(value)], rows, first_line
            )
            return len(rows), has_empty
        before = len(seen)
        seen.update(hashes)
        grown = len(seen) - before
        if grown == len(rows):
            return len(rows), False
        if grown < len(rows) - rows.count(b""):
            self._doubtful += 1
            self._suspect(range(len(rows)), rows, first_line)
        return len(rows), has_empty

    def finish(self, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the first occurrence's line."""
        first = self._first_lines()
        is_repeat = [first[row] < line for line, row in zip(self._lines, self._rows, strict=True)]
        lines = array(_LINES, compress(self._lines, is_repeat))
        shown = zip(lines, compress(self._rows, is_repeat), strict=True)
        return Duplicates(lines=lines, first=tuple((line, row, first[row]) for line, row in islice(shown, most)))

    def let_go(self) -> Iterator[None]:
        """Forget the hashes, a few at each step."""
        return _emptied(self._hashes)

    def _suspect(self, indexes: Sequence[int], rows: Sequence[bytes], first_line: int) -> None:
        some = [index for index in indexes if rows[index]]
        self._lines.extend(first_line + index for index in some)
        self._rows.extend(rows[index] for index in some)

    def _first_lines(self) -> dict[bytes, int]:
        """The line on which each suspected row is for the first time."""
        first: dict[bytes, int] = {}
        wanted = set(self._rows)
        for place in self.places:
            if not wanted:
                break
            rows = rows_of(self._reread, place)
            if here := wanted.intersection(rows):
                wanted -= here
                if len(here) <= _FEW:
                    first.update((row, place.first_line + rows.index(row)) for row in here)
                    continue
                for line, row in enumerate(rows, place.first_line):
                    if row in here:
                        first.setdefault(row, line)
        return first


class SeenHalves:
    """Keeps the values themselves, but not all at once: half while the source comes, half when it is read again.

    Made for sources of which many rows are there twice.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(self, reread: Reread) -> None:
        self.places: list[Place] = []
        self._reread = reread
        self._half = _Half(0)

    def add(self, chunk: Chunk, first_line: int, _: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk; see `moe_segments.core.repeats.Repeats.add`."""
        self.places.append(Place(chunk.offset, chunk.size, first_line))
        return self._half.take(chunk.text, first_line)

    def add_again(self, places: Sequence[Place]) -> None:
        """Take the chunks that another one has taken already."""
        for place in places:
            self.places.append(place)
            self._half.take(text_of(self._reread, place), place.first_line)

    def finish(self, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the first occurrence's line."""
        for _ in self.let_go():
            pass
        other = _Half(1)
        for place in self.places:
            other.take(text_of(self._reread, place), place.first_line)
        shown = sorted(self._half.shown + other.shown)[:most]
        first = _first_lines({row for _, row in shown}, self.places, self._reread)
        return Duplicates(
            lines=_merged(self._half.lines, other.lines),
            first=tuple((line, row, first[row]) for line, row in shown),
        )

    def let_go(self) -> Iterator[None]:
        """Forget the values, a few at each step."""
        return self._half.let_go()


class _Half:
    """Half of the values, by their hash.

    Attributes:
        lines: Of rows that are there before, ascending.
        shown: The first of these rows.
    """

    def __init__(self, which: int) -> None:
        """Begin; *which*: the last bit of the values' hashes."""
        self._which = which
        self._values = {b""}  # the empty row is found like a value seen before
        self.lines = array(_LINES)
        self.shown: list[tuple[int, bytes]] = []

    def take(self, text: bytes, first_line: int) -> tuple[int, bool]:
        """Take those rows of a chunk's text that are of this half: how many rows it has, and whether one is empty."""
        rows = text[1:-1].split(b"\n")
        has_empty = b"" in rows
        values = self._values
        if b" " in text or b"\t" in text:
            rows = [row if row.strip(b" \t") else b"" for row in rows]
        which = self._which
        picked = [row for row in rows if hash(row) & 1 == which]
        if values.isdisjoint(picked):
            before = len(values)
            values.update(picked)
            if len(values) - before == len(picked):
                return len(rows), has_empty
            values.difference_update(picked)  # all were new, so this takes back what was just added
        self._repeat(picked, rows, first_line)
        return len(rows), has_empty

    def _repeat(self, picked: Sequence[bytes], rows: Sequence[bytes], first_line: int) -> None:
        values, repeated, which = self._values, array(_LINES), self._which
        lines = [line for line, row in enumerate(rows, first_line) if hash(row) & 1 == which]
        if b"" not in picked and values.issuperset(picked):
            repeated.extend(lines)
        else:
            for line, row in zip(lines, picked, strict=True):
                if row not in values:
                    values.add(row)
                elif row:
                    repeated.append(line)
        self.shown += [(line, rows[line - first_line]) for line in repeated[: _SHOWN_MOST - len(self.shown)]]
        self.lines += repeated

    def let_go(self) -> Iterator[None]:
        """Forget the values, a few at each step."""
        return _emptied(self._values)


class SeenValues:
    """Keeps every value in a set, where the source cannot be read again.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._values = {b""}  # the empty row is found like a value seen before
        self._lines = array(_LINES)  # ascending
        self._shown: list[tuple[int, bytes]] = []

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk; see `moe_segments.core.repeats.Repeats.add`."""
        rows = chunk.text[1:-1].split(b"\n")
        self.places.append(Place(chunk.offset, chunk.size, first_line))
        values = self._values
        if blank or not values.isdisjoint(rows):
            return len(rows), self._add_one_by_one(rows, first_line)
        before = len(values)
        values.update(rows)
        if len(values) - before == len(rows):
            return len(rows), False
        values.difference_update(rows)  # all were new, so this takes back what was just added
        return len(rows), self._add_one_by_one(rows, first_line)

    def finish(self, most: int) -> Duplicates:
        """All duplicates, and the first *most* of them without the first occurrence's line."""
        return Duplicates(lines=self._lines, first=tuple((line, row, None) for line, row in self._shown[:most]))

    def let_go(self) -> Iterator[None]:
        """Forget the values, a few at each step."""
        return _emptied(self._values)

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
        self._lines += repeated
        self._shown += [(line, rows[line - first_line]) for line in repeated[: _SHOWN_MOST - len(self._shown)]]
        return has_empty


_ROWS_A_STEP: Final = 5_000  # about a millisecond
_SHOWN_MOST: Final = 10_000
_HASH_BITS: Final = 60  # an int of 32 bytes; with more it has 48
_DOUBTFUL_MOST: Final = 4
_SUSPECTS_LEAST: Final = 20_000
_VALUES_A_SUSPECT: Final = 20
_FEW: Final = 8  # of a chunk's rows, that are looked for one by one


def _merged(lines: array[int], others: array[int]) -> array[int]:
    """All of them, ascending as both are."""
    merged, begin = array(_LINES), 0
    for at in range(0, len(lines), _ROWS_A_STEP):
        part = lines[at : at + _ROWS_A_STEP]
        end = bisect_left(others, part[-1], begin)
        merged.extend(sorted(part + others[begin:end]))
        begin = end
    return merged + others[begin:]


def _emptied(values: set[T]) -> Iterator[None]:
    """Forget values, a few at each step: forgetting millions at once would hold up every other thread."""
    take = iter(values.pop, None)
    while values:
        deque(islice(take, min(_ROWS_A_STEP, len(values))), maxlen=0)
        yield


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
