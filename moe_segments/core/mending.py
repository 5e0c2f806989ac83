"""Mend rows: what can be mended without guessing, and a count of each thing that was done. Pure.

Letters, their case and their composition stay as they are, and so does what only the file's owner can decide:
columns, control characters, bytes that are no UTF-8.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import chain
from typing import TYPE_CHECKING, Final

from moe_segments.core import rules
from moe_segments.core.chunks import CHUNK_BYTES, LONGEST_ROW_BYTES, Chunk, Chunker, spans_around
from moe_segments.core.repeats import FAST_FROM_ROWS, Repeats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from moe_segments.core.chunks import LongRow
    from moe_segments.core.seen import Reread

__all__ = ["Mender", "mended"]

_FEW_BYTES: Final = 3_072  # of a chunk, that only the rows around them are mended
_MINDED: Final = b' \t",' + bytes(range(0x80, 0x100))
_UNMINDED: Final = bytes(sorted(set(range(256)) - set(_MINDED)))
_WIDE_EDGES: Final = re.compile(
    r"\A[ \t\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]+|"
    r"[ \t\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]+\Z"
)
# Rows are between two line feeds, as in `Chunk.text`. No pattern can take longer than the text is long: what repeats
# gives nothing back, and in a run of blanks or commas only the first one is a beginning.
_WIDE_BLANK: Final = re.compile(
    rb"\xc2\xa0|\xe1\x9a\x80|\xe2\x80[\x80-\x8d\xa8\xa9\xaf]|\xe2\x81[\x9f\xa0]|\xe3\x80\x80|\xef\xbb\xbf"
)
_ONLY_BLANKS: Final = re.compile(rb"\n[ \t]++(?=\n)")
_BLANKS_AT_BOTH: Final = re.compile(rb"\n[ \t][^\n]*+(?<=[ \t])(?=\n)")
_LEADING_BLANKS: Final = re.compile(rb"\n[ \t]++")
_TRAILING_BLANKS: Final = re.compile(rb"[ \t](?<![ \t][ \t])[ \t]*+(?=\n)")
_TRAILING_COMMAS: Final = re.compile(rb"[, \t](?<![, \t][, \t])[, \t]*+(?=\n)")
# Here a value gives back the blanks at its end: a group that gives nothing back matches wrongly before Python 3.11.5.
_QUOTED: Final = re.compile(rb'(\n)"[ \t]*+((?:[^\n",]*[^\n", \t])?)[ \t]*+"(?=\n)')
# What may be around every row of a file: before, after, what it breaks.
_AROUND: Final = (
    (b'"', b'",', (rules.TRAILING_COMMA, rules.QUOTES)),
    (b'"', b'"', (rules.QUOTES,)),
    (b"", b",", (rules.TRAILING_COMMA,)),
)


class Mender:
    """Takes blocks of bytes, gives mended rows in their order; then says which of them to leave out.

    What is given has to be kept where it can be read again: empty rows are still in it, and so are duplicates, which
    are known only at the end.

    Attributes:
        counts: Rule code to how often it was mended: rows, except for MOE113 and MOE115, which are of the whole file.
        rows: Rows taken, by any kind of line end.
    """

    def __init__(
        self,
        *,
        reread: Reread,
        attribute_name: str | None = None,
        expected_bytes: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        longest_row_bytes: int = LONGEST_ROW_BYTES,
        fast_from_rows: int | None = FAST_FROM_ROWS,
        key_bits: int | None = None,
    ) -> None:
        """Begin.

        Args:
            reread: Gives bytes of what was given once more, by offset and size.
            attribute_name: A first row equal to it, in any letter case, is a header and left out.
            expected_bytes: How large the file will be, where that is known.
            chunk_bytes: How many bytes are looked at at a time.
            longest_row_bytes: A row that is longer is left out.
            fast_from_rows: See `moe_segments.core.repeats.Repeats`.
            key_bits: The same.
        """
        self._chunker = Chunker(chunk_bytes, longest_row_bytes)
        self._header = attribute_name.casefold() if attribute_name else None
        self._repeats = Repeats(
            reread=reread, expected_bytes=expected_bytes, fast_from_rows=fast_from_rows, key_bits=key_bits
        )
        self._with_empty: set[int] = set()  # offsets of what was given
        self._given_bytes = self._given_rows = 0
        self._ends_in_cr = False
        self._left_out = 0
        self.counts: dict[str, int] = {}
        self.rows = 0

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
        """What was given without its empty rows and its duplicates; None when it has none. Once, after `finish`.

        A piece never has more bytes than were read again before: it may be written over them.
        """
        lines = self._repeats.finish(0).lines
        self._left_out += len(lines)
        self._tell(rules.DUPLICATE, len(lines))
        if not lines and not self._with_empty:
            return None
        return self._without(lines)

    @property
    def rows_kept(self) -> int:
        """Rows that are neither empty nor left out; right once everything of `kept` was taken."""
        return self._given_rows - self._left_out

    def _without(self, lines: Sequence[int]) -> Iterator[bytes]:
        places, begin = self._repeats.places, 0
        ends = chain((place.first_line for place in places[1:]), (self._given_rows + 1,))
        for place, end_line in zip(places, ends, strict=True):
            end = bisect_left(lines, end_line, begin)
            has_empty = place.offset in self._with_empty
            rows, empty = self._repeats.rest_of(place, lines[begin:end], has_empty=has_empty)
            self._left_out += empty
            self._tell(rules.EMPTY_ROW, empty)
            if rows:
                yield rows
            begin = end

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
                text = self._mended(piece.text)
                if len(text) > 1:
                    yield text[1:]
                    self._take(text)  # only now it can be read again
            else:
                self.rows += 1
                self._tell(rules.LONG_ROW)

    def _mended(self, text: bytes) -> bytes:
        minded = text.translate(None, _UNMINDED)
        if len(minded) > _FEW_BYTES:
            if minded.isascii() or not _WIDE_BLANK.search(text):
                text = self._mended_alike(text, minded) or self._mended_whole(text, minded)
            else:
                text = b"\n".join((b"", *map(self._mended_row, text[1:-1].split(b"\n")), b""))
        elif minded:
            text = b"".join(self._mended_around(text, minded))
        if not self.rows and self._header:
            first, rest = text[1 : text.find(b"\n", 1)], text[text.find(b"\n", 1) :]
            if first.decode("utf-8", "replace").casefold() == self._header:
                self._tell(rules.HEADER)
                self.rows += 1
                return rest
        return text

    def _mended_alike(self, text: bytes, minded: bytes) -> bytes | None:
        """All rows of a text when every one has the same around it, and nothing else to mind; None when not."""
        number = text.count(b"\n") - 1
        for before, after, codes in _AROUND:
            if len(minded) != number * len(before + after) or not text.startswith(b"\n" + before):
                continue
            if text.endswith(after + b"\n"):
                rows = text[1 + len(before) : -1 - len(after)].split(after + b"\n" + before)
                if len(rows) == number:
                    for code in codes:
                        self._tell(code, number)
                    return b"\n".join((b"", *rows, b""))
        return None

    def _mended_whole(self, text: bytes, minded: bytes) -> bytes:
        """All rows of a text at once, as `mended` does it; there are no blanks in it but ASCII's."""
        if b" " in minded or b"\t" in minded:
            text = self._without_edge_blanks(text)
        if b"," in minded:
            text, number = _TRAILING_COMMAS.subn(b"", text)
            self._tell(rules.TRAILING_COMMA, number)
        if b'"' in minded:
            pieces = _QUOTED.split(text)
            text = b"".join(pieces)
            self._tell(rules.QUOTES, len(pieces) // 3)
        return text

    def _without_edge_blanks(self, text: bytes) -> bytes:
        text = _ONLY_BLANKS.sub(b"\n", text)
        both = len(_BLANKS_AT_BOTH.findall(text))
        text, leading = _LEADING_BLANKS.subn(b"\n", text)
        text, trailing = _TRAILING_BLANKS.subn(b"", text)
        self._tell(rules.EDGE_BLANKS, leading + trailing - both)
        return text

    def _mended_around(self, text: bytes, minded: bytes) -> Iterator[bytes]:
        done = 0
        for begin, end in spans_around(text, minded):
            yield text[done:begin]
            yield self._mended_row(text[begin:end])
            done = end
        yield text[done:]

    def _mended_row(self, row: bytes) -> bytes:
        value, codes = mended(row)
        for code in codes:
            self._tell(code)
        return value

    def _take(self, text: bytes) -> None:
        chunk = Chunk(text, self._given_bytes, len(text) - 1)
        rows, has_empty = self._repeats.add(chunk, self._given_rows + 1)
        if has_empty:
            self._with_empty.add(chunk.offset)
        self.rows += rows
        self._given_rows += rows
        self._given_bytes += chunk.size

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
