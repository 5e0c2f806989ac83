"""Mend rows: what can be mended without guessing, and a count of each thing that was done. Pure.

Letters, their case and their composition stay as they are, and so does what only the file's owner can decide:
columns, control characters, bytes that are no UTF-8.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from moe_segments.core import rules
from moe_segments.core.chunks import CHUNK_BYTES, LONGEST_ROW_BYTES, Chunk, Chunker
from moe_segments.core.seen import SeenValues

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moe_segments.core.chunks import LongRow

__all__ = ["Mender", "mended"]

_MINDED: Final = b' \t",' + bytes(range(0x80, 0x100))
_UNMINDED: Final = bytes(sorted(set(range(256)) - set(_MINDED)))
_WIDE_EDGES: Final = re.compile(
    r"\A[ \t\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]+|"
    r"[ \t\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]+\Z"
)


class Mender:
    """Takes blocks of bytes, gives mended rows in their order.

    Attributes:
        counts: Rule code to how often it was mended: rows, except for MOE113 and MOE115, which are of the whole file.
        rows: Rows taken, by any kind of line end.
        rows_given: Rows given.
    """

    def __init__(
        self,
        *,
        attribute_name: str | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        longest_row_bytes: int = LONGEST_ROW_BYTES,
    ) -> None:
        self._chunker = Chunker(chunk_bytes, longest_row_bytes)
        self._header = attribute_name.casefold() if attribute_name else None
        self._seen = SeenValues()
        self._ends_in_cr = False
        self.counts: dict[str, int] = {}
        self.rows = self.rows_given = 0

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

    def _with_feeds(self, block: bytes) -> bytes:
        """The block with every kind of line end made a line feed; a carriage return at its end waits for the next."""
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
            if isinstance(piece, Chunk):
                rows = self._kept(piece.text)
                if rows:
                    yield rows
            else:
                self.rows += 1
                self._tell(rules.LONG_ROW)

    def _kept(self, text: bytes) -> bytes:
        is_first, taken = not self.rows, text.count(b"\n") - 1
        self.rows += taken
        if is_first or b"\n\n" in text or text.translate(None, _UNMINDED):
            text = self._mended(text, is_first=is_first)
        if len(text) == 1:
            return b""
        already = len(self._seen.lines)
        first_line = 1
        rows, _ = self._seen.add(Chunk(text, 0, 0), first_line, ())
        repeated = self._seen.lines[already:]
        if repeated:
            self._tell(rules.DUPLICATE, len(repeated))
            text = _without(text, {line - first_line for line in repeated})
        self.rows_given += rows - len(repeated)
        return text[1:]

    def _mended(self, text: bytes, *, is_first: bool) -> bytes:
        kept = []
        for number, row in enumerate(text[1:-1].split(b"\n")):
            if row.translate(None, _UNMINDED):
                value, codes = mended(row)
                for code in codes:
                    self._tell(code)
            else:
                value = row
            if not value:
                self._tell(rules.EMPTY_ROW)
            elif self._header and is_first and not number and _text(value).casefold() == self._header:
                self._tell(rules.HEADER)
            else:
                kept.append(value)
        return b"\n".join((b"", *kept, b"")) if kept else b"\n"

    def _tell(self, code: str, number: int = 1) -> None:
        if number:
            self.counts[code] = self.counts.get(code, 0) + number


def mended(row: bytes) -> tuple[bytes, set[str]]:
    """A row as it should be.

    Args:
        row: Without its line end.

    Returns:
        The value, trimmed, without commas at its end and without the quotes around it; and the rules that it broke.
        What would still break a rule without its quotes keeps them.
    """
    codes: set[str] = set()
    value = _trimmed(row)
    if value != row and value:
        codes.add(rules.EDGE_BLANKS)
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
    value = row.strip(b" \t")
    if value.isascii():
        return value
    text = value.decode("utf-8", "surrogateescape")
    return _WIDE_EDGES.sub("", text).encode("utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _without(text: bytes, numbers: set[int]) -> bytes:
    rows = text[1:-1].split(b"\n")
    kept = [row for number, row in enumerate(rows) if number not in numbers]
    return b"\n".join((b"", *kept, b"")) if kept else b"\n"
