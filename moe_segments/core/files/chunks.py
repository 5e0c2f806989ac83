"""Cut blocks of bytes, of whatever size, into chunks of whole rows, and read them again. Only a line feed ends a row.

A row longer than the cap never stays in memory: it is told as a `LongRow`, with its first bytes. In a chunk each row is
between two line feeds, the first one put in front, and Windows line ends are plain ones: a pattern can say where a row
begins and ends without an anchor, and cannot cross it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.files.file_format import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reread = Callable[[int, int], bytes]  # offset, size -> those bytes of the source

__all__ = [
    "AHEAD_BYTES",
    "BOM_BYTES",
    "CHUNK_BYTES",
    "LONGEST_ROW_BYTES",
    "Chunk",
    "Chunker",
    "LongRow",
    "ReadAhead",
    "between_feeds",
]

AHEAD_BYTES: Final = 1 << 20
CHUNK_BYTES: Final = 98_304  # what is made of so much comes from memory that is at hand, not from fresh pages
LONGEST_ROW_BYTES: Final = 4_096
BOM_BYTES: Final = b"\xef\xbb\xbf"


@attrs.frozen
class Chunk:
    """A chunk of whole rows, none of them longer than the cap.

    Attributes:
        text: A line feed, then each row with one at its end; see `between_feeds`.
        offset: Where the first row begins in the source, bytes.
        size: How many bytes of the source it is; may name one more than there are at the very end.
        crlf: How many rows ended with a carriage return and a line feed.
        first_crlf: The first row of the source that did, numbered from 0 in this chunk, where it is in this chunk.
    """

    text: bytes = attrs.field(repr=False)
    offset: int
    size: int
    crlf: int = 0
    first_crlf: int | None = None


@attrs.frozen
class LongRow:
    """A row longer than the cap.

    Attributes:
        head: Its first bytes.
        size: Its length in bytes, without the line feed.
    """

    head: bytes = attrs.field(repr=False)
    size: int


def between_feeds(rows: bytes) -> bytes:
    """Return rows of a source as the text of a chunk: between line feeds, without a carriage return before one."""
    text = b"\n" + rows if rows.endswith(b"\n") else b"\n" + rows + b"\n"
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text


class Chunker:
    """A cutter of blocks into chunks.

    Attributes:
        has_bom: The source began with a byte order mark, which is in no chunk.
        is_open: The last row had no line feed; known at the end.
    """

    has_bom: bool
    is_open: bool

    def __init__(self, chunk_bytes: int = CHUNK_BYTES, longest_row_bytes: int = LONGEST_ROW_BYTES) -> None:
        self._chunk_bytes, self._longest = chunk_bytes, longest_row_bytes
        self._kept: list[bytes | memoryview] = []
        self._kept_bytes = 0
        self._offset = 0  # of the first byte kept
        self._long: LongRow | None = None  # a row too long whose end has not come yet
        self._at_start = True
        self._has_crlf = False
        self.has_bom = self.is_open = False

    def feed(self, block: bytes | memoryview) -> Iterator[Chunk | LongRow]:
        """Take the next bytes of the source, at most a chunk's worth at a time; give what is complete."""
        self._kept.append(block)
        self._kept_bytes += len(block)
        if self._kept_bytes >= (max(self._chunk_bytes, HEAD_BYTES) if self._at_start else self._chunk_bytes):
            yield from self._cut(is_last=False)

    def finish(self) -> Iterator[Chunk | LongRow]:
        """Give the rest; nothing may be fed afterwards."""
        yield from self._cut(is_last=True)

    def _cut(self, *, is_last: bool) -> Iterator[Chunk | LongRow]:
        data = self._taken()
        if is_last and (data or self._long) and not data.endswith(b"\n"):
            self.is_open = True
            data += b"\n"
        if self._long is not None:
            end = data.find(b"\n")
            size = self._long.size + (len(data) if end < 0 else end)
            self._long = LongRow(self._long.head, size)
            if end < 0:
                self._offset += len(data)
                return
            yield self._long
            self._long = None
            self._offset += end + 1
            data = data[end + 1 :]
        end = data.rfind(b"\n") + 1
        yield from self._rows(data[:end])
        self._offset += end
        self._keep(data[end:])

    def _taken(self) -> bytes:
        data = b"".join(self._kept)
        self._kept, self._kept_bytes = [], 0
        if self._at_start and data:
            self._at_start = False
            if data.startswith(BOM_BYTES):
                self.has_bom, self._offset = True, len(BOM_BYTES)
                return data[len(BOM_BYTES) :]
        return data

    def _keep(self, rest: bytes) -> None:
        if len(rest) > self._longest:
            self._long = LongRow(rest[: self._longest], len(rest))
            self._offset += len(rest)
        elif rest:
            self._kept, self._kept_bytes = [rest], len(rest)

    def _rows(self, data: bytes) -> Iterator[Chunk | LongRow]:
        begin = at = 0
        while at < len(data):  # one look a cap's length: where a line feed is that near, no row is too long
            end = data.rfind(b"\n", at, at + self._longest + 1)
            if end < 0:
                yield from self._chunk(data, begin, at)
                end = data.find(b"\n", at)
                yield LongRow(data[at : at + self._longest], end - at)
                begin = end + 1
            at = end + 1
        yield from self._chunk(data, begin, len(data))

    def _chunk(self, data: bytes, begin: int, end: int) -> Iterator[Chunk]:
        if begin < end:
            rows = data[begin:end]
            text = between_feeds(rows)
            crlf = len(rows) + 1 - len(text)
            first = rows.count(b"\n", 0, rows.find(b"\r\n")) if crlf and not self._has_crlf else None
            self._has_crlf = self._has_crlf or crlf > 0
            yield Chunk(text, self._offset + begin, len(rows), crlf, first)


class ReadAhead:
    """A reader that keeps what comes after the bytes it is asked for.

    A thread that reads often and briefly gives up the interpreter lock each time and has it back before the event
    loop's thread wakes up, which then waits on and on. So it is to read rarely.

    Args:
        reread: Returns bytes of the source, by offset and size.
        ahead_bytes: How many to read at a time at least.
    """

    def __init__(self, reread: Reread, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._reread, self._ahead_bytes = reread, ahead_bytes
        self._begin, self._data = 0, b""

    def __call__(self, offset: int, size: int) -> bytes:
        """Return bytes of the source; fewer at its end."""
        at = offset - self._begin
        if at < 0 or at + size > len(self._data):
            self._begin, self._data = offset, self._reread(offset, max(size, self._ahead_bytes))
            at = 0
        return self._data[at : at + size]
