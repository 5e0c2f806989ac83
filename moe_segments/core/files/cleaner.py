"""Clean rows: mend what needs no guess, and count each change. Pure.

Letters, their case and their composition stay as they are, and so does what only the file's owner can decide:
columns, control characters, bytes that are no UTF-8.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import compress, count
from typing import TYPE_CHECKING, Final

from moe_segments.core.files import rules
from moe_segments.core.files.chunks import CHUNK_BYTES, LONGEST_ROW_BYTES, Chunk, Chunker, ReadAhead
from moe_segments.core.files.duplicates import DuplicateFinder
from moe_segments.core.files.row_scanner import edge_blanks, invisible_characters, without_invisible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moe_segments.core.files.chunks import LongRow, Reread

__all__ = ["Mender", "mended"]

_MINDED: Final = b' \t",' + bytes(range(0x80, 0x100))
_UNMINDED: Final = bytes(sorted(set(range(256)) - {*_MINDED, *b"\n"}))


class Mender:
    """A mender of rows, which gives them in their order and at the end leaves out the duplicates.

    What is given has to be kept where it can be read again: duplicates are still in it, and are known only at the end.

    Attributes:
        counts: Rule code to how often it was mended: rows, except for MOE113 and MOE115, which are of the whole file.
        rows: Rows taken, by any kind of line end.
        rows_kept: Rows given, since `kept` without the duplicates.
    """

    rows: int
    rows_kept: int

    def __init__(
        self,
        *,
        reread: Reread,
        attribute_name: str | None = None,
        mends: bool = True,
        chunk_bytes: int = CHUNK_BYTES,
        longest_row_bytes: int = LONGEST_ROW_BYTES,
    ) -> None:
        """Begin with no rows.

        Args:
            reread: Gives bytes of what was given once more, by offset and size.
            attribute_name: A first row equal to it, in any letter case, is a header and left out.
            mends: False leaves rows as they are; only duplicates and rows that are too long are left out.
            chunk_bytes: How many bytes are looked at at a time.
            longest_row_bytes: A row that is longer is left out.
        """
        self._chunker = Chunker(chunk_bytes, longest_row_bytes)
        self._header = attribute_name.casefold() if attribute_name else None
        self._reread, self._mends = reread, mends
        self._duplicates = DuplicateFinder(reread)
        self._given_bytes = 0
        self._ends_in_cr = False
        self.counts: dict[str, int] = {}
        self.rows = self.rows_kept = 0

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Take the next bytes of the file, at most a chunk's worth at a time; give the rows that are complete."""
        return self._given(self._chunker.feed(self._with_feeds(block)))

    def finish(self) -> Iterator[bytes]:
        """Give the rest."""
        if self._ends_in_cr:  # the file's last byte
            self._ends_in_cr = False
            self._tell(rules.LONE_CR)
            yield from self._given(self._chunker.feed(b"\n"))
        yield from self._given(self._chunker.finish())
        if self._chunker.has_bom:
            self._tell(rules.BOM)
        if self._chunker.is_open:
            self._tell(rules.NO_FINAL_NEWLINE)

    def kept(self) -> Iterator[bytes] | None:
        """Return what was given without its duplicates; None when it has none. Once, after `finish`.

        A piece never has more bytes than were read again before: it may be written over them.
        """
        lines = self._duplicates.finish(0).lines
        self.rows_kept -= len(lines)
        self._tell(rules.DUPLICATE, len(lines))
        return self._without(lines) if lines else None

    def _without(self, lines: Sequence[int]) -> Iterator[bytes]:
        begin, read = 0, ReadAhead(self._reread)
        for place in self._duplicates.places:
            data = read(place.offset, place.size)
            end = bisect_left(lines, place.first_line + data.count(b"\n"), begin)
            if begin < end:
                rows = data.split(b"\n")
                for line in reversed(lines[begin:end]):
                    del rows[line - place.first_line]
                data = b"\n".join(rows)
            if data:
                yield data
            begin = end

    def _with_feeds(self, block: bytes) -> bytes:
        """Return the block with plain line feeds; a carriage return at its end waits for the next block."""
        if self._ends_in_cr:
            block = b"\r" + block
        self._ends_in_cr = block.endswith(b"\r")
        if b"\r" not in block:
            return block
        block = block.removesuffix(b"\r")
        self._tell(rules.CRLF, block.count(b"\r\n"))
        block = block.replace(b"\r\n", b"\n")
        self._tell(rules.LONE_CR, block.count(b"\r"))
        return block.replace(b"\r", b"\n")

    def _given(self, pieces: Iterable[Chunk | LongRow]) -> Iterator[bytes]:
        for piece in pieces:
            if not isinstance(piece, Chunk):
                self.rows += 1
                self._tell(rules.LONG_ROW)
                continue
            rows = self._mended(piece.text)
            if rows:
                data = b"\n".join((*rows, b""))
                yield data
                # Only now it can be read again.
                self._duplicates.add(Chunk(b"\n" + data, self._given_bytes, len(data)), rows, self.rows_kept + 1)
                self.rows_kept += len(rows)
                self._given_bytes += len(data)

    def _mended(self, text: bytes) -> list[bytes]:
        rows = text[1:-1].split(b"\n")
        if not self._mends:
            self.rows += len(rows)
            return rows
        minded = text.translate(None, _UNMINDED)  # of each row the bytes that may have to be mended
        if len(minded) > len(rows) + 1:
            for index in compress(count(), minded[1:-1].split(b"\n")):
                rows[index] = self._mended_row(rows[index])
        first = rows[0] if not self.rows else b""
        self.rows += len(rows)
        if self._header and first.decode("utf-8", "replace").casefold() == self._header:
            self._tell(rules.HEADER)
            del rows[0]
        kept = list(filter(None, rows))
        self._tell(rules.EMPTY_ROW, len(rows) - len(kept))
        return kept

    def _mended_row(self, row: bytes) -> bytes:
        value, codes = mended(row)
        for code in codes:
            self._tell(code)
        return value

    def _tell(self, code: str, number: int = 1) -> None:
        if number:
            self.counts[code] = self.counts.get(code, 0) + number


def mended(row: bytes) -> tuple[bytes, set[str]]:
    """Return a row as it should be, and what was mended.

    Args:
        row: Without its line end.

    Returns:
        The value, trimmed, without commas at its end and without the quotes around it; and the rules that it broke.
        What would still break a rule without its quotes keeps them.
    """
    codes: set[str] = set()
    value = _trimmed(row)
    if value != row and value:
        codes.update(_trimmed_for(row))
    if value.endswith(b","):
        codes.add(rules.TRAILING_COMMA)
        value = _trimmed(value.rstrip(b", \t"))
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        inner = _trimmed(value[1:-1])
        if b'"' not in inner and b"," not in inner:
            codes.add(rules.QUOTES)
            value = inner
    return value, codes


def _trimmed(row: bytes) -> bytes:
    if row.isascii():
        return row.strip(b" \t")
    return without_invisible(row.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _trimmed_for(row: bytes) -> Iterator[str]:
    """Yield the rules for which something of a row was trimmed."""
    text = row.decode("utf-8", "surrogateescape")
    invisible = invisible_characters(text)
    if invisible:
        yield rules.INVISIBLE
    if edge_blanks(text) or len(without_invisible(text)) < len(text) - len(invisible):
        yield rules.EDGE_BLANKS
