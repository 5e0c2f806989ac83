"""Prove on the bytes which rows repeat an earlier one, in bounded memory, with numpy (extra `fast`).

What is asked is a pair: the first row of some hash, and another one of the same hash. The first rows are kept, as many
as there is room for; then whatever follows in the source is read once and compared with them; then come the next ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import numpy as np
import numpy.typing as npt

from moe_segments.core.seen import Duplicates, text_of
from moe_segments.core.seen_rows import LONG_BYTES, PAD_BYTES, WORD, Rows, words_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.seen import Place, Reread
    from moe_segments.core.seen_rows import Flags, Numbers, Words

__all__ = ["LINE_BITS", "Proof"]

LINE_BITS: Final = 25  # 33 million lines
_BITS: Final = np.uint64(LINE_BITS)
_LOW: Final = np.uint64((1 << LINE_BITS) - 1)
_PLACE_BYTES: Final = 8  # of a row that is kept: its line, and where its bytes are
_MOST_WORDS: Final = LONG_BYTES // WORD + 1
# What to keep of the words of a row of so many bytes: these and the line feed; of a longer one, `LONG_BYTES`.
_KEEP: Final = (
    (np.arange(_MOST_WORDS * WORD) < np.append(np.arange(LONG_BYTES + 1) + 1, LONG_BYTES)[:, None]) * np.uint8(255)
).view("<u8")


class Proof:
    """Compares every pair."""

    def __init__(
        self, pairs: Words, places: Sequence[Place], sizes: Sequence[tuple[int, int]], reread: Reread, slice_rows: int
    ) -> None:
        """Begin.

        Args:
            pairs: Line of the first row above, line of the other one below, ascending. Overwritten.
            places: Where the chunks are.
            sizes: Of the shortest and the longest row of each, bytes.
            reread: Gives bytes of the source once more, by offset and size.
            slice_rows: How many pairs are looked at at a time.
        """
        self._slice_rows = slice_rows
        self._pairs, self._places, self._sizes, self._reread = pairs, places, sizes, reread
        self._first_lines = np.array([place.first_line for place in places], dtype=np.uint64)
        self._lines = pairs.view(np.uint32)  # of duplicates: they are written where pairs were that are done with
        self._number = 0

    def duplicates(self, most: int, window_bytes: int) -> Duplicates:
        """Which of them are duplicates.

        Args:
            most: How many of them with both lines.
            window_bytes: How much may be kept at a time.
        """
        shown: list[tuple[int, bytes, int]] = []
        windows = list(self._windows(window_bytes))
        kept = _Kept(max(window.rows for window in windows), max(window.size for window in windows))
        for window in windows:
            kept.begin(window.rows)
            shown = sorted(shown + self._proved(window, kept, most))[:most]
        lines = self._lines[: self._number]
        lines.sort()
        return Duplicates(lines=lines.data, first=tuple(shown))

    def _windows(self, window_bytes: int) -> Iterator[_Window]:
        """Those pairs whose first rows fit into memory together."""
        numbers = np.zeros(len(self._places), dtype=np.int64)
        for lines in _different(self._pairs, self._slice_rows):
            numbers += np.diff(np.searchsorted(lines, self._first_lines), append=lines.size)
        bounds = np.searchsorted(self._pairs, self._first_lines << _BITS).tolist()
        begin = rows = used = 0
        slots: dict[int, int] = {}
        for index in np.flatnonzero(numbers).tolist():
            number, place = int(numbers[index]), self._places[index]
            slot = _slot(number, self._sizes[index][1], place.size)
            size = number * slot or place.size + 2
            if rows and used + size + (rows + number) * _PLACE_BYTES > window_bytes:
                yield _Window(self._pairs[begin : bounds[index]], rows, used, slots)
                begin, rows, used, slots = bounds[index], 0, 0, {}
            slots[index] = slot
            rows, used = rows + number, used + size
        yield _Window(self._pairs[begin:], rows, used, slots)

    def _proved(self, window: _Window, kept: _Kept, most: int) -> list[tuple[int, bytes, int]]:
        """Note which of its pairs are duplicates; the first ones with their bytes and both lines."""
        pairs = window.pairs
        _number(pairs, kept.lines, self._slice_rows)
        firsts = np.append(np.searchsorted(kept.lines, self._first_lines.astype(np.uint32)), kept.lines.size)
        others = np.append(np.searchsorted(pairs, self._first_lines << _BITS), pairs.size)
        shown: list[tuple[int, bytes, int]] = []
        for index in np.flatnonzero(np.diff(firsts) | np.diff(others)).tolist():
            place, (shortest, longest) = self._places[index], self._sizes[index]
            rows = Rows.of(text_of(self._reread, place), longest if longest == shortest else None)
            if firsts[index] < firsts[index + 1]:
                kept.keep(rows, place.first_line, slice(firsts[index], firsts[index + 1]), window.slots[index])
            if others[index] < others[index + 1]:
                part = pairs[others[index] : others[index + 1]]
                lines, repeated = kept.repeated(rows, place.first_line, part)
                self._lines[self._number : self._number + lines.size] = lines
                self._number += lines.size
                some = slice(max(0, most - len(shown)))
                told = zip(lines[some].tolist(), repeated[some].tolist(), strict=True)
                shown += [(line, rows.row(line - place.first_line), first) for line, first in told]
        return shown


@attrs.frozen
class _Window:
    """Some pairs, and what their first rows need.

    Attributes:
        pairs: See `Proof`.
        rows: How many first rows they have.
        size: Bytes for all of these.
        slots: See `_slot`, by chunk.
    """

    pairs: Words
    rows: int
    size: int
    slots: dict[int, int]


class _Kept:
    """First rows, with their bytes.

    Attributes:
        lines: Their lines, ascending.
    """

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self._all_lines = self.lines = np.empty(most_rows, dtype=np.uint32)
        self._places = np.empty(most_rows, dtype=np.uint32)
        self._data = np.empty(most_bytes + PAD_BYTES, dtype=np.uint8)
        self._used = 0
        self._unequal: dict[int, dict[bytes, int]] = {}  # rows that only have the hash of one that is kept

    def begin(self, number: int) -> None:
        """Keep other rows from now on, and so many of them."""
        self.lines, self._used, self._unequal = self._all_lines[:number], 0, {}

    def keep(self, rows: Rows, first_line: int, which: slice, slot: int) -> None:
        """Keep the bytes of some of a chunk's rows.

        Args:
            rows: Of the chunk.
            first_line: The line of the first of them.
            which: Of `lines`.
            slot: See `_slot`.
        """
        starts = rows.starts[self.lines[which].astype(np.int64) - first_line]
        if slot:
            wide = np.ndarray(rows.data.size - slot, dtype=f"V{slot}", buffer=rows.data.data, strides=(1,))
            data = wide[starts].view(np.uint8)
            self._places[which] = self._used + np.arange(0, data.size, slot)
        else:
            data = rows.data[: len(rows.text)]
            self._places[which] = self._used + starts
        self._data[self._used : self._used + data.size] = data
        self._used += data.size

    def repeated(self, rows: Rows, first_line: int, pairs: Words) -> tuple[Numbers, Numbers]:
        """Which of a chunk's rows repeat an earlier one: their lines, and those of the first of each value.

        Args:
            rows: Of the chunk.
            first_line: The line of the first of them.
            pairs: Which row to compare with which one; see `_number`.
        """
        lines, which = (pairs >> _BITS).astype(np.int64), (pairs & _LOW).astype(np.int64)
        firsts = self.lines[which].astype(np.int64)
        same = self._equal(rows, lines - first_line, self._places[which].astype(np.int64))
        if same is None:
            return lines, firsts
        for at in np.flatnonzero(~same).tolist():
            line = int(lines[at])
            among = self._unequal.setdefault(int(which[at]), {})
            firsts[at] = among.setdefault(rows.row(line - first_line), line)
        same = firsts != lines
        return lines[same], firsts[same]

    def _equal(self, rows: Rows, numbers: Numbers, places: Numbers) -> Flags | None:
        """Which of some rows, by number, have the bytes that are kept at these places; None: all of them."""
        starts, sizes = rows.starts[numbers], rows.sizes[numbers]
        longest = int(sizes.max())
        words = min(longest, LONG_BYTES) // WORD + 1
        differences = words_at(rows.data, starts, words)
        differences ^= words_at(self._data, places, words)
        differences &= _KEEP[np.minimum(sizes, LONG_BYTES + 1), :words]
        if longest <= LONG_BYTES and not differences.any():
            return None
        same: Flags = np.bitwise_or.reduce(differences, axis=1) == 0
        for at in np.flatnonzero(same & (sizes > LONG_BYTES)).tolist():
            begin, size, place = int(starts[at]), int(sizes[at]) + 1, int(places[at])
            same[at] = rows.text[begin : begin + size] == self._data[place : place + size].tobytes()
        return same


def _slot(number: int, longest: int, chunk_bytes: int) -> int:
    """How many bytes each of *number* rows of a chunk is kept in; 0: the whole chunk is kept."""
    return longest + 1 if longest <= LONG_BYTES and number * (longest + 1) * 9 < chunk_bytes * 8 else 0


def _different(pairs: Words, slice_rows: int) -> Iterator[Words]:
    """The different first lines of ascending pairs, a slice's worth at a time."""
    before = _LOW
    for at in range(0, pairs.size, slice_rows):
        lines = pairs[at : at + slice_rows] >> _BITS
        yield lines[_fresh(lines, before)]
        before = lines[-1]


def _fresh(lines: Words, before: np.uint64) -> Flags:
    """Which are not the one before them."""
    fresh = np.empty(lines.size, dtype=np.bool_)
    fresh[0] = lines[0] != before
    np.not_equal(lines[1:], lines[:-1], out=fresh[1:])
    return fresh


def _number(pairs: Words, firsts: npt.NDArray[np.uint32], slice_rows: int) -> None:
    """Make of each pair the line of the other row above, and the number of the first one below; ascending.

    Args:
        pairs: Ascending. Overwritten.
        firsts: Is given the lines of the first rows.
        slice_rows: How many are looked at at a time.
    """
    before, number = _LOW, 0
    for at in range(0, pairs.size, slice_rows):
        part = pairs[at : at + slice_rows]
        lines = part >> _BITS
        fresh = _fresh(lines, before)
        numbers = np.cumsum(fresh, dtype=np.uint64)
        numbers += np.uint64(number)
        numbers -= np.uint64(1)
        part &= _LOW
        part <<= _BITS
        part |= numbers
        here = lines[fresh]
        firsts[number : number + here.size] = here
        number, before = number + here.size, lines[-1]
    pairs.sort()
