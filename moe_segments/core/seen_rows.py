"""The rows of a chunk as numbers, eight bytes at a time, with numpy (extra `fast`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LONG_BYTES", "PAD_BYTES", "WORD", "Flags", "Numbers", "Rows", "Words", "rest_of", "words_at"]

Words: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

WORD: Final = 8
_FEED: Final = ord("\n")
LONG_BYTES: Final = 128  # rows longer than this are few in a chunk, and are looked at one by one
PAD_BYTES: Final = LONG_BYTES + 2 * WORD  # read beyond the last row, and not minded
# What to keep of a word of which only so many bytes, from 0, belong to the row.
_KEEP: Final = np.array([(1 << (8 * size)) - 1 for size in range(9)], dtype=np.uint64)


@attrs.frozen
class Rows:
    """The rows of a chunk's text.

    Attributes:
        text: See `moe_segments.core.chunks.Chunk`.
        data: Its bytes, padded.
        words: The eight bytes from each position on, as a number.
        starts: Where each row begins.
        sizes: How long it is.
    """

    text: bytes = attrs.field(repr=False)
    data: npt.NDArray[np.uint8] = attrs.field(repr=False)
    words: Words = attrs.field(repr=False)
    starts: Numbers
    sizes: Numbers

    @classmethod
    def of(cls, text: bytes, size: int | None = None) -> Rows:
        """Of a chunk's text; *size*: of all rows, where it is known to be one."""
        padded = text + bytes(PAD_BYTES)
        data = np.frombuffer(padded, dtype=np.uint8)
        words = np.ndarray(len(text), dtype="<u8", buffer=padded, strides=(1,))
        if size is not None:
            starts = np.arange(1, len(text), size + 1)
            return cls(text, data, words, starts, np.full(starts.size, size))
        feeds = np.flatnonzero(data[: len(text)] == _FEED)
        starts = feeds[:-1] + 1
        return cls(text, data, words, starts, feeds[1:] - starts)

    def row(self, number: int) -> bytes:
        """One row."""
        begin = int(self.starts[number])
        return self.text[begin : begin + int(self.sizes[number])]

    def full_words(self, number: int, size: int | None) -> Words:
        """The first *number* words from where each row begins, a line each; *size*: of all rows, where it is one."""
        if size is not None:
            shape, strides = (self.starts.size, number), (size + 1, WORD)
            return np.ndarray(shape, dtype="<u8", buffer=self.data.data, offset=int(self.starts[0]), strides=strides)
        return words_at(self.data, self.starts, number)  # gathered at once, for no more than one word costs

    def last_word(self, shortest: int, size: int | None) -> Words:
        """The last eight bytes of all rows, all bytes of one that has fewer; *size* is as for `full_words`."""
        if size is not None:
            begin = int(self.starts[0]) + max(size - WORD, 0)
            shape, strides = (self.starts.size,), (size + 1,)
            words: Words = np.ndarray(shape, dtype="<u8", buffer=self.data.data, offset=begin, strides=strides)
            return words if size >= WORD else words & _KEEP[size]
        if shortest >= WORD:
            words = self.words[self.starts + (self.sizes - WORD)]
        else:
            words = self.words[self.starts + np.maximum(self.sizes - WORD, 0)]
            words &= _KEEP[np.minimum(self.sizes, WORD)]
        return words


def words_at(data: npt.NDArray[np.uint8], places: Numbers, number: int) -> Words:
    """The first *number* words from each of some places in bytes on, a line each."""
    width = number * WORD
    wide = np.ndarray(data.size - width, dtype=f"V{width}", buffer=data.data, strides=(1,))
    words: Words = wide[places].view("<u8").reshape(-1, number)
    return words


def rest_of(data: bytes, lines: Sequence[int], first_line: int, *, has_empty: bool) -> tuple[bytes, int]:
    """Rows without some of them: what `moe_segments.core.seen.rest_of` says."""
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == _FEED) + 1
    is_out = np.zeros(ends.size, dtype=np.bool_)
    is_out[np.array(lines, dtype=np.int64) - first_line] = True
    empty = 0
    if has_empty:
        is_empty = np.diff(ends, prepend=0) == 1
        empty = int(np.count_nonzero(is_empty))
        is_out |= is_empty
    bounds = np.append(0, ends)[np.flatnonzero(np.diff(is_out, prepend=True, append=True))].tolist()
    return b"".join([data[begin:end] for begin, end in zip(bounds[::2], bounds[1::2], strict=True)]), empty
