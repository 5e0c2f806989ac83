"""Which values have been seen before: exact, in 8 bytes a row, with numpy (extra `fast`), imported for large files.

Each row becomes one 64-bit word: a hash of its bytes above, its line below. Sorted in place, rows of one value stand
side by side. What stands side by side is only a candidate: it is read from the source again and compared byte for byte,
so that the answer is that of `moe_segments.core.seen`, however the hashes fall.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from moe_segments.core.seen import Duplicates, Place, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.chunks import Chunk
    from moe_segments.core.seen import Reread

__all__ = ["LINE_BITS", "SeenKeys"]

LINE_BITS: Final = 25  # 33 million lines
_WORD: Final = 8
_GROWTH_ROWS: Final = 262_144
_SLICE_ROWS: Final = 131_072
_LONG_BYTES: Final = 128  # rows longer than this are few in a chunk, and are hashed one by one
_LINES: Final = np.uint64((1 << LINE_BITS) - 1)
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_START: Final = np.uint64(0xD6E8FEB86659FD93)
_HALF: Final = np.uint64(32)
_BLANK: Final = re.compile(rb"\n[ \t]++(?=\n)")
# What to keep of a word of which only so many bytes, from 0, belong to the row.
_KEEP: Final = np.array([(1 << (8 * size)) - 1 for size in range(9)], dtype=np.uint64)

_Words: TypeAlias = npt.NDArray[np.uint64]
_Numbers: TypeAlias = npt.NDArray[np.int64]
_Flags: TypeAlias = npt.NDArray[np.bool_]


@attrs.frozen
class _Rows:
    """The rows of a chunk's text.

    Attributes:
        data: The text's bytes.
        words: The eight bytes from each position on, as a number; the text is padded for them.
        starts: Where each row begins.
        sizes: How long it is.
    """

    data: npt.NDArray[np.uint8] = attrs.field(repr=False)
    words: _Words = attrs.field(repr=False)
    starts: _Numbers
    sizes: _Numbers

    @classmethod
    def of(cls, text: bytes) -> _Rows:
        """Of a chunk's text."""
        padded = text + bytes(_LONG_BYTES)  # read beyond the last row, and not minded
        data = np.frombuffer(padded, dtype=np.uint8)
        feeds = np.flatnonzero(data[: len(text)] == 10)  # noqa: PLR2004 - a line feed
        words = np.ndarray(len(text), dtype="<u8", buffer=padded, strides=(1,))
        starts = feeds[:-1] + 1
        return cls(data, words, starts, feeds[1:] - starts)

    def full_words(self, number: int, size: int | None) -> _Words:
        """The first *number* words from where each row begins, a line each; *size*: of all rows, where it is one."""
        if size is not None:
            shape, strides = (self.starts.size, number), (size + 1, _WORD)
            return np.ndarray(shape, dtype="<u8", buffer=self.data.data, offset=int(self.starts[0]), strides=strides)
        width = number * _WORD  # gathered at once, for no more than one word costs
        wide = np.ndarray(self.data.size - width, dtype=f"V{width}", buffer=self.data.data, strides=(1,))
        words: _Words = wide[self.starts].view("<u8").reshape(-1, number)
        return words

    def last_word(self, shortest: int, size: int | None) -> _Words:
        """The last eight bytes of all rows, all bytes of one that has fewer; *size* is as for `full_words`."""
        if size is not None:
            begin = int(self.starts[0]) + max(size - _WORD, 0)
            shape, strides = (self.starts.size,), (size + 1,)
            words: _Words = np.ndarray(shape, dtype="<u8", buffer=self.data.data, offset=begin, strides=strides)
            return words if size >= _WORD else words & _KEEP[size]
        if shortest >= _WORD:
            words = self.words[self.starts + (self.sizes - _WORD)]
        else:
            words = self.words[self.starts + np.maximum(self.sizes - _WORD, 0)]
            words &= _KEEP[np.minimum(self.sizes, _WORD)]
        return words

    def word(self, number: int, rows: _Numbers | slice, left: _Numbers) -> _Words:
        """Word *number* of some rows, of which *left* bytes are left from there on; what is past the end is zero."""
        words = self.words[self.starts[rows] + number * _WORD]
        if int(left.min()) < _WORD:
            words &= _KEEP[np.minimum(left, _WORD)]
        return words


class SeenKeys:
    """Keeps one word a row.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(self, reread: Reread, *, key_bits: int = 64 - LINE_BITS) -> None:
        """Begin.

        Args:
            reread: Gives bytes of the source once more, by offset and size.
            key_bits: How much of the hash is kept; fewer than there is room for only to test that it does not matter.
        """
        self._keep = np.uint64(((1 << key_bits) - 1) << (64 - key_bits)) if key_bits else np.uint64(0)
        self._keys: _Words = np.empty(_GROWTH_ROWS, dtype=np.uint64)
        self._count = 0
        self._reread = reread
        self.places: list[Place] = []

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int]) -> tuple[int, bool]:
        """Take the rows of the next chunk; see `moe_segments.core.repeats.Repeats.add`."""
        return self._add(chunk.text, Place(chunk.offset, chunk.size, first_line), blank)

    def add_again(self, places: Sequence[Place]) -> None:
        """Take the chunks that another one has taken already."""
        for place in places:
            text = text_of(self._reread, place)
            blank = [text.count(b"\n", 1, match.start() + 1) for match in _BLANK.finditer(text)]
            self._add(text, place, blank)

    def finish(self, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the line of the first occurrence."""
        keys = self._keys[: self._count]
        keys.sort()
        candidates = _side_by_side(keys)
        self._keys = keys = np.empty(0, dtype=np.uint64)
        if not candidates.lines.size:
            return Duplicates(lines=array("I"), first=())
        return _Proof(candidates, self.places, self._reread, most).duplicates()

    def _add(self, text: bytes, place: Place, blank: Sequence[int]) -> tuple[int, bool]:
        rows = _Rows.of(text)
        self.places.append(place)
        number = rows.sizes.size
        keys = _hashes(rows, text)
        keys &= self._keep  # the low bits are the line's
        keys |= np.arange(place.first_line, place.first_line + number, dtype=np.uint64)
        shortest = int(rows.sizes.min())
        if blank or not shortest:
            wanted = rows.sizes > 0
            wanted[list(blank)] = False
            keys = keys[wanted]
        end = self._count + keys.size
        if end > self._keys.size:
            self._keys.resize(end + _GROWTH_ROWS, refcheck=False)  # the pages are moved, not copied
        self._keys[self._count : end] = keys
        self._count = end
        return number, not shortest


def _hashes(rows: _Rows, text: bytes) -> _Words:
    """A hash of each row's size, last word and full words, in this order whatever the other rows of the chunk are."""
    sizes, number = rows.sizes, rows.sizes.size
    shortest, longest = int(sizes.min()), int(sizes.max())
    hashes: _Words = sizes.astype(np.uint64) * _MULTIPLIER + _START
    size = shortest if shortest == longest else None
    hashes ^= rows.last_word(shortest, size)
    _mix(hashes)
    usual = min((len(text) - 1 - number) // number, _LONG_BYTES) // _WORD  # as many words as a row has on average
    if usual:
        words = rows.full_words(usual, size)
        for index in range(usual):
            mixed = hashes ^ words[:, index]
            _mix(mixed)
            if shortest >= (index + 1) * _WORD:
                hashes = mixed
            else:
                np.copyto(hashes, mixed, where=sizes >= (index + 1) * _WORD)
    for index in range(usual, min(longest, _LONG_BYTES) // _WORD):
        some = np.flatnonzero(sizes >= (index + 1) * _WORD)
        mixed = hashes[some] ^ rows.words[rows.starts[some] + index * _WORD]
        _mix(mixed)
        hashes[some] = mixed
    hashes *= _MULTIPLIER
    if longest > _LONG_BYTES:
        for index in np.flatnonzero(sizes > _LONG_BYTES).tolist():
            begin = int(rows.starts[index])
            hashes[index] = hash(text[begin : begin + int(sizes[index])]) & 0xFFFF_FFFF_FFFF_FFFF
    return hashes


def _mix(hashes: _Words) -> None:
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF


@attrs.frozen
class _Candidates:
    """Rows whose hash another row has too.

    Attributes:
        lines: Their lines, ascending.
        groups: For each the number of its hash, from 0.
        count: How many hashes there are.
    """

    lines: _Numbers
    groups: _Numbers
    count: int


def _side_by_side(keys: _Words) -> _Candidates:
    """The rows of sorted *keys* that have a neighbour of the same hash."""
    found: list[_Words] = []
    begins: list[_Flags] = []
    carried = False  # the last row of the slice before has the hash of the first one of this
    for at in range(0, keys.size, _SLICE_ROWS):
        part = keys[at : at + _SLICE_ROWS + 1]
        same = (part[1:] ^ part[:-1]) <= _LINES  # [i]: row i has the hash of row i + 1
        here = min(_SLICE_ROWS, keys.size - at)
        after = np.zeros(here, dtype=np.bool_)
        after[: same.size] = same
        before = np.empty(here, dtype=np.bool_)
        before[0] = carried
        before[1:] = after[:-1]
        carried = bool(after[-1])
        wanted = after | before
        if wanted.any():
            found.append(part[:here][wanted] & _LINES)
            begins.append(~before[wanted])
    if not found:
        return _Candidates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 0)
    groups = np.cumsum(np.concatenate(begins), dtype=np.int64) - 1
    lines = np.concatenate(found).astype(np.int64)
    order = np.argsort(lines)
    return _Candidates(lines[order], groups[order], int(groups[-1]) + 1)


class _Proof:
    """Compares candidates on their bytes: each with the first row of its hash; where they differ, with the others."""

    def __init__(self, candidates: _Candidates, places: Sequence[Place], reread: Reread, most: int) -> None:
        self._candidates, self._places, self._reread, self._most = candidates, places, reread, most
        self._first_line = np.zeros(candidates.count, dtype=np.int64)  # 0: none yet
        self._first_at = np.zeros(candidates.count, dtype=np.int64)
        self._first_size = np.zeros(candidates.count, dtype=np.int64)
        self._bytes = np.zeros(_SLICE_ROWS, dtype=np.uint8)  # of the first rows, one after another
        self._used = 0
        self._others: dict[int, dict[bytes, int]] = {}
        self._lines = array("I")
        self._shown: list[tuple[int, bytes, int | None]] = []

    def duplicates(self) -> Duplicates:
        """Which of them are duplicates."""
        for place, begin, end in self._places_of_candidates():
            self._prove(place, slice(begin, end))
        return Duplicates(lines=self._lines, first=tuple(self._shown))

    def _places_of_candidates(self) -> Iterator[tuple[Place, int, int]]:
        first_lines = np.array([place.first_line for place in self._places], dtype=np.int64)
        bounds = np.append(np.searchsorted(self._candidates.lines, first_lines), self._candidates.lines.size)
        for index in np.flatnonzero(np.diff(bounds)).tolist():
            yield self._places[index], int(bounds[index]), int(bounds[index + 1])

    def _prove(self, place: Place, candidates: slice) -> None:
        text = text_of(self._reread, place)
        rows, groups = _Rows.of(text), self._candidates.groups[candidates]
        lines = self._candidates.lines[candidates]
        numbers = lines - place.first_line
        fresh = np.flatnonzero(self._first_line[groups] == 0)
        if fresh.size:
            _, at = np.unique(groups[fresh], return_index=True)
            firsts = fresh[at]
            self._keep_first(rows, numbers[firsts], groups[firsts], lines[firsts])
        rest = np.flatnonzero(self._first_line[groups] != lines)
        if rest.size:
            self._compare(text, rows, numbers[rest], groups[rest], lines[rest])

    def _keep_first(self, rows: _Rows, numbers: _Numbers, groups: _Numbers, lines: _Numbers) -> None:
        sizes = rows.sizes[numbers]
        ends = np.cumsum(sizes)
        total = int(ends[-1])
        self._first_line[groups], self._first_size[groups] = lines, sizes
        self._first_at[groups] = self._used + ends - sizes
        if self._used + total + _WORD > self._bytes.size:
            self._bytes = np.concatenate((self._bytes, np.zeros(self._bytes.size + total, dtype=np.uint8)))
        where = np.repeat(rows.starts[numbers] - (ends - sizes), sizes) + np.arange(total)
        self._bytes[self._used : self._used + total] = rows.data[where]
        self._used += total

    def _compare(self, text: bytes, rows: _Rows, numbers: _Numbers, groups: _Numbers, lines: _Numbers) -> None:
        same = self._equals_first(rows, numbers, groups)
        repeated: dict[int, int] = {}
        if not same.all():
            for index in np.flatnonzero(~same).tolist():
                begin = int(rows.starts[numbers[index]])
                value = text[begin : begin + int(rows.sizes[numbers[index]])]
                line = int(lines[index])
                first = self._others.setdefault(int(groups[index]), {}).setdefault(value, line)
                if first != line:
                    repeated[line] = first
        found = lines[same]
        if repeated:
            found = np.sort(np.concatenate((found, np.fromiter(repeated, dtype=np.int64))))
        if len(self._shown) < self._most:
            self._show(text, rows, numbers, groups, lines, found, repeated)
        self._lines.frombytes(found.astype(np.uint32).tobytes())

    def _equals_first(self, rows: _Rows, numbers: _Numbers, groups: _Numbers) -> _Flags:
        sizes = rows.sizes[numbers]
        same: _Flags = sizes == self._first_size[groups]
        stored = np.ndarray(self._bytes.size - _WORD + 1, dtype="<u8", buffer=self._bytes.data, strides=(1,))
        for number in range((int(sizes.max()) + _WORD - 1) // _WORD):
            begin = number * _WORD
            some = np.flatnonzero(same & (sizes > begin))
            if not some.size:
                break
            left = sizes[some] - begin
            theirs = stored[self._first_at[groups[some]] + begin] & _KEEP[np.minimum(left, _WORD)]
            same[some] = rows.word(number, numbers[some], left) == theirs
        return same

    def _show(
        self,
        text: bytes,
        rows: _Rows,
        numbers: _Numbers,
        groups: _Numbers,
        lines: _Numbers,
        found: _Numbers,
        repeated: dict[int, int],
    ) -> None:
        for line in found[: self._most - len(self._shown)].tolist():
            index = int(np.searchsorted(lines, line))
            begin = int(rows.starts[numbers[index]])
            value = text[begin : begin + int(rows.sizes[numbers[index]])]
            self._shown.append((line, value, repeated.get(line, int(self._first_line[groups[index]]))))
