"""Cut blocks of bytes into parts of whole rows, each within a number of rows and of bytes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.core.files.chunks import BOM_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cutter", "RowTooLong"]

_SMALL_BYTES: Final = 512
_LONGEST_BYTES: Final = 1_048_576  # a row that long is none: the line ends are missing


class RowTooLong(Exception):
    """A row alone is larger than a part may be, or than a megabyte."""


class Cutter:
    """A cutter of blocks into pieces, each with the number of its part, from 0.

    Attributes:
        has_bom: The file began with a byte order mark, which is in no part.
        is_open: The last row had no line feed and was given one.
    """

    has_bom: bool
    is_open: bool

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._part = self._rows = self._bytes = 0
        self._kept = b""
        self._at_start = True
        self.has_bom = self.is_open = False

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes, int]]:
        """Take the next bytes of the file.

        Returns:
            Part, bytes and how many rows they are, of the rows that are complete.

        Raises:
            RowTooLong: A row does not fit into any part.
        """
        data = self._kept + block if self._kept else block
        if self._at_start:
            if len(data) < len(BOM_BYTES):
                self._kept = data
                return
            self._at_start = False
            self.has_bom = data.startswith(BOM_BYTES)
            data = data.removeprefix(BOM_BYTES)
        end = data.rfind(b"\n") + 1
        self._kept = data[end:]
        if len(self._kept) > min(self._max_bytes, _LONGEST_BYTES):
            raise RowTooLong
        yield from self._cut(data[:end])

    def finish(self) -> Iterator[tuple[int, bytes, int]]:
        """Return the rest, as `feed` does."""
        if self._at_start:
            self.has_bom = self._kept.startswith(BOM_BYTES)
            self._kept = self._kept.removeprefix(BOM_BYTES)
        self.is_open = bool(self._kept) and not self._kept.endswith(b"\n")
        yield from self._cut(self._kept + b"\n" if self.is_open else self._kept)

    def _cut(self, data: bytes) -> Iterator[tuple[int, bytes, int]]:
        begin = 0
        while begin < len(data):
            end = begin + self._max_bytes - self._bytes
            end = len(data) if end >= len(data) else data.rfind(b"\n", begin, end) + 1
            if end <= begin:  # no row fits into what is left of this part
                self._next_part()
                continue
            rows = data.count(b"\n", begin, end)
            if rows > self._max_rows - self._rows:
                rows = self._max_rows - self._rows
                end = _after_rows(data, begin, end, rows)
            if rows:
                yield self._part, data[begin:end], rows
            self._rows += rows
            self._bytes += end - begin
            begin = end
            if self._rows == self._max_rows:
                self._next_part(is_full=True)

    def _next_part(self, *, is_full: bool = False) -> None:
        if not self._rows and not is_full:
            raise RowTooLong
        self._part += 1
        self._rows = self._bytes = 0


def _after_rows(data: bytes, begin: int, end: int, rows: int) -> int:
    """Return the position after *rows* line feeds from *begin* on; there are more of them before *end*."""
    while rows and end - begin > _SMALL_BYTES:
        middle = (begin + end) // 2
        here = data.count(b"\n", begin, middle)
        if here >= rows:
            end = middle
        else:
            begin, rows = middle, rows - here
    for _ in range(rows):
        begin = data.index(b"\n", begin) + 1
    return begin
