"""Which values have been seen before: exact, on the bytes themselves, with the standard library alone.

Where the source can be read again, a set of hashes is kept, else the values. The line of a value's first occurrence is
not kept for every value; it is looked up in the source for the few duplicates that are shown.
`moe_segments.core.seen_fast` does the same in a small part of the memory and time, with numpy.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from itertools import compress, count, islice
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from moe_segments.core.chunks import between_feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from moe_segments.core.chunks import Chunk

    Reread = Callable[[int, int], bytes]  # offset, size: those bytes of the source once more

__all__ = ["Duplicates", "Place", "SeenHashes", "SeenValues", "rest_of", "rows_of", "text_of"]

T = TypeVar("T")

_LINES: Final = "I"  # 4 bytes a duplicate
_ROWS_A_STEP: Final = 5_000  # about a millisecond
_SHOWN_MOST: Final = 10_000
_HASH_BITS: Final = 60  # an int of 32 bytes; with more it has 48
_DOUBTFUL_MOST: Final = 4
_PART_KNOWN: Final = 8  # from this part of a chunk's hashes on it is worth it to add all at once
_FEW_SUSPECTS: Final = 20_000
_VALUES_A_SUSPECT: Final = 20
_OTHERS: Final = bytes.maketrans(b"\0\1", b"\1\0")
_FEW: Final = 8  # of a chunk's rows, that are looked for one by one


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

    lines: Sequence[int]
    first: tuple[tuple[int, bytes, int | None], ...]


class SeenHashes:
    """Keeps 60 bits of each row's hash, which is less than half of what the rows themselves would take.

    A chunk's hashes are put into the set all at once, and only if the set has not grown by as many can a row of the
    chunk be there twice. The first few such chunks are suspected as a whole; where there are more, only rows are whose
    hash is there already. At the end suspected rows are looked for in the source, byte for byte, so that it does not
    matter how the hashes fall.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(self, reread: Reread, *, key_bits: int = 60, few: int = _FEW_SUSPECTS) -> None:
        """Begin.

        Args:
            reread: Gives bytes of the source once more, by offset and size.
            key_bits: How much of a hash is kept, at most 60; fewer only to test that it does not matter.
            few: How many suspected rows are kept at least, and so many values compared at a time; the same.
        """
        self._few = few
        self.places: list[Place] = []
        self._reread = reread
        self._mask = (1 << min(key_bits, _HASH_BITS)) - 1
        self._hashes = {hash(b"") & self._mask}  # an empty row is found like a value seen before
        self._doubtful: dict[int, int] = {}  # chunks that are suspected as a whole, and how many rows they have
        self._suspects: dict[int, bytes] = {}  # by chunk: for each row, whether it is suspected
        self._rows: list[bytes] | None = []  # the suspected rows, while they are few

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk; see `moe_segments.core.repeats.Repeats.add`."""
        rows = chunk.text[1:-1].split(b"\n")
        self.places.append(Place(chunk.offset, chunk.size, first_line))
        has_empty = b"" in rows
        if blank:
            rows = [row if row.strip(b" \t") else b"" for row in rows]
        mask = self._mask
        hashes = [hash(row) & mask for row in rows]
        if len(self._doubtful) == _DOUBTFUL_MOST:
            suspects = self._known(hashes)
        else:
            before = len(self._hashes)
            self._hashes.update(hashes)
            grown = len(self._hashes) - before
            if grown == len(rows) or grown == len(rows) - rows.count(b""):
                return len(rows), has_empty
            self._doubtful[len(self.places) - 1] = len(rows)
            suspects = b"\1" * len(rows)
        self._suspect(_without_empty(suspects, rows) if has_empty or blank else suspects, rows)
        return len(rows), has_empty

    def finish(self, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the first occurrence's line."""
        if self._rows is None:
            return self._finish_crowded(most)
        first = _first_lines(set(self._rows), self.places, self._reread)
        lines, rows = _lines_of(self._suspects, self.places), self._rows
        is_repeat = [first[row] < line for line, row in zip(lines, rows, strict=True)]
        lines = array(_LINES, compress(lines, is_repeat))
        shown = zip(lines, compress(rows, is_repeat), strict=True)
        return Duplicates(lines=lines, first=tuple((line, row, first[row]) for line, row in islice(shown, most)))

    def let_go(self) -> Iterator[None]:
        """Forget the hashes, a few at each step."""
        return _emptied(self._hashes)

    def _known(self, hashes: Sequence[int]) -> bytes:
        """For each of a chunk's hashes, whether it is there already; all are then."""
        seen = self._hashes
        known = seen.intersection(hashes)  # brings them into the processor's cache, many at once
        if len(known) == len(hashes):
            return b"\1" * len(hashes)
        if len(known) > len(hashes) // _PART_KNOWN:
            before = len(seen)
            seen.update(hashes)
            flags = bytes(map(known.__contains__, hashes))
            if flags.count(0) == len(seen) - before:
                return flags
            seen = known  # one that is new is here twice
        add = seen.add
        return bytes([value in seen or add(value) is not None for value in hashes])

    def _suspect(self, suspects: bytes, rows: Sequence[bytes]) -> None:
        if 1 not in suspects:
            return
        self._suspects[len(self.places) - 1] = suspects
        if self._rows is not None:
            self._rows.extend(compress(rows, suspects))
            if len(self._rows) > self._few + len(self._hashes) // _VALUES_A_SUSPECT:
                self._rows = None

    def _finish_crowded(self, most: int) -> Duplicates:
        values_most = max(self._few, len(self._hashes) // 2) + sum(self._doubtful.values())
        for _ in self.let_go():
            pass
        self._hashes = set()  # of an empty one the memory is still there
        return _Suspects(self._suspects, self._doubtful, self.places, self._reread).duplicates(most, values_most)


class _Suspects:
    """Very many rows that were suspected, compared with the other ones by so many of their values at a time.

    No two of the other rows are the same, so that a suspected row whose value is not among them is the first of its
    value, or repeats another suspected one.
    """

    def __init__(
        self, suspects: Mapping[int, bytes], doubtful: Collection[int], places: Sequence[Place], reread: Reread
    ) -> None:
        """Begin.

        Args:
            suspects: By chunk, for each row whether it is suspected.
            doubtful: Chunks that are suspected as a whole and hold rows that are the first of their value.
            places: Where the chunks are.
            reread: Gives bytes of the source once more, by offset and size.
        """
        self._suspects, self._doubtful, self._places, self._reread = suspects, doubtful, places, reread

    def duplicates(self, most: int, values_most: int) -> Duplicates:
        """Which of them are duplicates; *most* is as for `SeenHashes.finish`, *values_most* how many values to keep."""
        firsts: set[int] = set()
        unproved: set[bytes] = set()
        left = iter(self._suspects.items())
        while values := self._values(left, values_most):
            firsts.update(self._firsts(values))
            unproved |= values
        firsts.update(_first_lines(unproved, self._places, self._reread).values())
        lines = _without(_lines_of(self._suspects, self._places), sorted(firsts))
        shown = list(self._rows_on(lines[:most]))
        first = _first_lines({row for _, row in shown}, self._places, self._reread)
        return Duplicates(lines=lines, first=tuple((line, row, first[row]) for line, row in shown))

    def _values(self, left: Iterator[tuple[int, bytes]], values_most: int) -> set[bytes]:
        """The values of suspected rows, from so many of the chunks that are left."""
        values: set[bytes] = set()
        for index, suspects in left:
            rows = rows_of(self._reread, self._places[index])
            values.update(compress(rows, suspects))
            if len(values) >= values_most:
                break
        return values

    def _firsts(self, values: set[bytes]) -> Iterator[int]:
        """Take from the *values* what is in a row that is not suspected.

        Returns:
            The lines of those that are in a chunk suspected as a whole, and nowhere before.
        """
        for index, place in enumerate(self._places):
            if not values:
                return
            suspects = self._suspects.get(index)
            if suspects is None:
                values.difference_update(rows_of(self._reread, place))
            elif index in self._doubtful:
                for line, row in enumerate(rows_of(self._reread, place), place.first_line):
                    if row in values:
                        values.discard(row)
                        yield line
            elif 0 in suspects:
                values.difference_update(compress(rows_of(self._reread, place), suspects.translate(_OTHERS)))

    def _rows_on(self, lines: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Some lines of suspected rows, ascending, and these rows."""
        begin = 0
        for index, suspects in self._suspects.items():
            if begin == len(lines):
                return
            place = self._places[index]
            end = bisect_left(lines, place.first_line + len(suspects), begin)
            if begin < end:
                rows = rows_of(self._reread, place)
                yield from ((line, rows[line - place.first_line]) for line in lines[begin:end])
            begin = end


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


def _without_empty(suspects: bytes, rows: Sequence[bytes]) -> bytes:
    """The flags of a chunk's rows without those of the empty ones."""
    flags = bytearray(suspects)
    at = flags.find(1)
    while at >= 0:
        flags[at] = bool(rows[at])
        at = flags.find(1, at + 1)
    return bytes(flags)


def _lines_of(suspects: Mapping[int, bytes], places: Sequence[Place]) -> array[int]:
    """The lines of the suspected rows."""
    lines = array(_LINES)
    for index, flags in suspects.items():
        lines.extend(compress(count(places[index].first_line), flags))
    return lines


def _without(lines: array[int], some: Sequence[int]) -> array[int]:
    """Ascending lines without *some* of them, which ascend too."""
    left, begin = array(_LINES), 0
    for line in some:
        end = bisect_left(lines, line, begin)
        left += lines[begin:end]
        begin = end + 1
    return left + lines[begin:]


def _emptied(values: set[T]) -> Iterator[None]:
    """Forget values, a few at each step: forgetting millions at once would hold up every other thread."""
    take = iter(values.pop, None)
    while values:
        deque(islice(take, min(_ROWS_A_STEP, len(values))), maxlen=0)
        yield


def rest_of(data: bytes, lines: Sequence[int], first_line: int, *, has_empty: bool) -> tuple[bytes, int]:
    """Rows with a line feed each, without some of them.

    Args:
        data: The rows.
        lines: Of those to leave out, ascending.
        first_line: The line of the first row.
        has_empty: The empty ones are to be left out too.

    Returns:
        What is left, and how many empty rows there were, 0 where that was not asked.
    """
    rows, empty = data.split(b"\n"), 0  # and nothing, after the last line feed
    for line in reversed(lines):
        del rows[line - first_line]
    if has_empty:
        empty = rows.count(b"") - 1
        rows = [*filter(None, rows), b""]
    return b"\n".join(rows), empty


def text_of(reread: Reread, place: Place) -> bytes:
    """A chunk's text once more."""
    return between_feeds(reread(place.offset, place.size))


def rows_of(reread: Reread, place: Place) -> list[bytes]:
    """A chunk's rows once more."""
    return text_of(reread, place)[1:-1].split(b"\n")


def _first_lines(wanted: set[bytes], places: Sequence[Place], reread: Reread) -> dict[bytes, int]:
    """The line on which each of the *wanted* values is for the first time."""
    first: dict[bytes, int] = {}
    left = set(wanted)
    for place in places:
        if not left:
            break
        rows = rows_of(reread, place)
        if here := left.intersection(rows):
            left -= here
            if len(here) <= _FEW:
                first.update((row, place.first_line + rows.index(row)) for row in here)
                continue
            for line, row in enumerate(rows, place.first_line):
                if row in here:
                    first.setdefault(row, line)
    return first
