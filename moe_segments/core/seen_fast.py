"""Which values have been seen before: exact, in 8 bytes a row, with numpy (extra `fast`), imported for large files.

Each row becomes one 64-bit word: a hash of its bytes above, its line below. Sorted in place, rows of one value stand
side by side. What stands side by side is only a candidate: it is read from the source again and compared byte for byte
by `moe_segments.core.seen_proof`, so that the answer is that of `moe_segments.core.seen`, however the hashes fall.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Final

import numpy as np

from moe_segments.core.seen import Duplicates, Place, text_of
from moe_segments.core.seen_proof import LINE_BITS, Proof
from moe_segments.core.seen_rows import LONG_BYTES, WORD, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.chunks import Chunk
    from moe_segments.core.seen import Reread
    from moe_segments.core.seen_rows import Words

__all__ = ["SeenKeys"]

_GROWTH_ROWS: Final = 262_144
_SLICE_ROWS: Final = 32_768  # as many as fit the processor's cache
_WINDOW_BYTES: Final = 8_388_608
_BITS: Final = np.uint64(LINE_BITS)
_LINES: Final = np.uint64((1 << LINE_BITS) - 1)
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_START: Final = np.uint64(0xD6E8FEB86659FD93)
_HALF: Final = np.uint64(32)
_BLANK: Final = re.compile(rb"\n[ \t]++(?=\n)")


class SeenKeys:
    """Keeps one word a row.

    Attributes:
        places: Where the chunks are that were taken.
    """

    def __init__(
        self,
        reread: Reread,
        *,
        key_bits: int = 64 - LINE_BITS,
        window_bytes: int = _WINDOW_BYTES,
        slice_rows: int = _SLICE_ROWS,
    ) -> None:
        """Begin.

        Args:
            reread: Gives bytes of the source once more, by offset and size.
            key_bits: How much of the hash is kept; fewer than there is room for only to test that it does not matter.
            window_bytes: How much may be kept at a time for the proof, beside 8 bytes for each row that needs none.
            slice_rows: How many words are looked at at a time.
        """
        self._window_bytes, self._slice_rows = window_bytes, slice_rows
        self._keep = np.uint64(((1 << key_bits) - 1) << (64 - key_bits)) if key_bits else np.uint64(0)
        self._keys: Words = np.empty(_GROWTH_ROWS, dtype=np.uint64)
        self._count = 0
        self._reread = reread
        self._sizes: list[tuple[int, int]] = []
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
        keys, self._keys = self._keys, np.empty(0, dtype=np.uint64)
        keys[: self._count].sort()
        number = _pairs(keys[: self._count], self._slice_rows)
        if not number:
            return Duplicates(lines=array("I"), first=())
        keys.resize(number, refcheck=False)  # nothing else knows of it; what it does not need is memory for the proof
        keys.sort()
        spare_bytes = (self._count - number) * WORD
        proof = Proof(keys, self.places, self._sizes, self._reread, self._slice_rows)
        return proof.duplicates(most, self._window_bytes + spare_bytes)

    def _add(self, text: bytes, place: Place, blank: Sequence[int]) -> tuple[int, bool]:
        rows = Rows.of(text)
        number, shortest, longest = rows.sizes.size, int(rows.sizes.min()), int(rows.sizes.max())
        self.places.append(place)
        self._sizes.append((shortest, longest))
        keys = _hashes(rows, shortest, longest)
        keys &= self._keep  # the low bits are the line's
        keys |= np.arange(place.first_line, place.first_line + number, dtype=np.uint64)
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


def _hashes(rows: Rows, shortest: int, longest: int) -> Words:
    """A hash of each row's size, last word and full words, in this order whatever the other rows of the chunk are."""
    sizes, number = rows.sizes, rows.sizes.size
    hashes: Words = sizes.astype(np.uint64) * _MULTIPLIER + _START
    size = shortest if shortest == longest else None
    hashes ^= rows.last_word(shortest, size)
    _mix(hashes)
    usual = min((len(rows.text) - 1 - number) // number, LONG_BYTES) // WORD  # as many words as a row has on average
    if usual:
        words = rows.full_words(usual, size)
        for index in range(usual):
            mixed = hashes ^ words[:, index]
            _mix(mixed)
            if shortest >= (index + 1) * WORD:
                hashes = mixed
            else:
                np.copyto(hashes, mixed, where=sizes >= (index + 1) * WORD)
    for index in range(usual, min(longest, LONG_BYTES) // WORD):
        some = np.flatnonzero(sizes >= (index + 1) * WORD)
        mixed = hashes[some] ^ rows.words[rows.starts[some] + index * WORD]
        _mix(mixed)
        hashes[some] = mixed
    hashes *= _MULTIPLIER
    if longest > LONG_BYTES:
        for index in np.flatnonzero(sizes > LONG_BYTES).tolist():
            hashes[index] = hash(rows.row(index)) & 0xFFFF_FFFF_FFFF_FFFF
    return hashes


def _mix(hashes: Words) -> None:
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF


def _pairs(keys: Words, slice_rows: int) -> int:
    """Make of sorted *keys*, in their place, the lines of the first row and of each other one of the same hash.

    Returns:
        How many pairs these are; nothing is to be read behind them.
    """
    count, first = 0, keys[:1] & _LINES
    for at in range(0, keys.size - 1, slice_rows):
        part = keys[at : at + slice_rows + 1]
        lines = part[1:] & _LINES
        is_new = (part[1:] ^ part[:-1]) > _LINES
        if is_new.all():
            first = lines[-1:]
            continue
        firsts = np.concatenate((first, lines[is_new]))
        same = ~is_new
        pairs = firsts[np.cumsum(is_new)[same]] << _BITS
        pairs |= lines[same]
        keys[count : count + pairs.size] = pairs
        count, first = count + pairs.size, firsts[-1:]
    return count
