"""Look at a chunk of rows and tell what breaks a rule, exactly, without a loop over the rows.

One `translate` shows whether a chunk has a byte that any rule minds. If few, only the rows around them are looked at;
if many, all. Then each rule is one pattern that matches a row once and cannot cross a line feed, so that the number of
its matches is the number of rows. Patterns rely on `Chunk.text`: every row is between two line feeds.
"""

from __future__ import annotations

import math
import re
import unicodedata
from itertools import chain, compress, count, islice
from operator import ne
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core import rules
from moe_segments.core.chunks import spans_around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moe_segments.core.tally import Tally

__all__ = ["Looker"]

_LOWER: Final = b"abcdefghijklmnopqrstuvwxyz0123456789@.+-_"
_UPPER: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS: Final = b"0123456789\n"
_PLAIN: Final = _LOWER + b"\n"
_COMMON: Final = _LOWER + _UPPER + b'\n\r\t ,"'
_NO_COMMA: Final = bytes(sorted(set(range(256)) - set(b",")))
_FEED: Final = 10
_FEW_BYTES: Final = 1_536  # of a chunk, that only the rows around them are looked at

# Blanks and invisible characters beyond ASCII, as UTF-8: no-break space, the spaces of U+2000, zero width, and so on.
_WIDE_BLANKS: Final = (
    rb"\xc2\xa0",
    rb"\xe1\x9a\x80",
    rb"\xe2\x80[\x80-\x8d\xa8\xa9\xaf]",
    rb"\xe2\x81[\x9f\xa0]",
    rb"\xe3\x80\x80",
    rb"\xef\xbb\xbf",
)
_EMPTY: Final = re.compile(rb"\n(?=\n)")
_ONLY_BLANKS: Final = re.compile(rb"\n[ \t]++(?=\n)")
# Of an edge the first pattern matches the whole row from the line feed before it, the second the line feed at its end.
_LEADS: Final = re.compile(rb"\n[ \t][^\n]*")
_ENDS: Final = re.compile(rb"\n(?<=[ \t]\n)")
_LEADS_WIDE: Final = re.compile(rb"\n(?:" + rb"|".join((rb"[ \t]", *_WIDE_BLANKS)) + rb")[^\n]*")
_ENDS_WIDE: Final = re.compile(
    rb"\n(?:" + rb"|".join(rb"(?<=" + blank + rb"\n)" for blank in (rb"[ \t]", *_WIDE_BLANKS)) + rb")"
)
_NUMBER: Final = rb"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_IS_NUMBER: Final = re.compile(_NUMBER)
_NO_NUMBER: Final = re.compile(rb"\n(?!" + _NUMBER + rb"\n)(?![ \t]*\n)[^\n]++")
_ENDS_DAMAGED: Final = re.compile(rb"\+[0-9]{2,3}\n")  # begins with a byte that is found fast
_DAMAGED: Final = re.compile(rb"\n[+-]?[0-9](?:[.,][0-9]++)?[eE]\+[0-9]{2,3}(?=\n)")
_LONG_INTEGER: Final = re.compile(rb"\n[+-]?0*+([1-9][0-9]{15,}+)(?:\.0*+)?(?=\n)")
_HUGE_DIGITS: Final = 300
_HUGE: Final = re.compile(rb"\n((?:[^\neE]*+[eE]\+?0*+[1-9][0-9]{2}|[^\n]{300})[^\n]*)")
_LARGEST_EXACT: Final = 2**53
_ESCAPED_BYTE: Final = re.compile("[\udc80-\udcff][^\n]*")

_MORE_COLUMNS: Final = re.compile(rb",(?=[ \t]*+[^ \t\n])[^\n]*")
_INNER_COMMA: Final = re.compile(rb",[^\n]")
_TRAILING_COMMA: Final = re.compile(rb",[ \t]*+(?=\n)")
_C1: Final = re.compile(rb"\xc2[\x80-\x9f]")
_CONTROL_WIDE: Final = re.compile(rb"(?:[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f])[^\n]*")
_CAPITALS: Final = re.compile(rb"[A-Z][^\n@]*+@[^\n]*|@[^\nA-Z]*+[A-Z][^\n]*")


class _Kind:
    """Some bytes that a row must not have."""

    def __init__(self, pattern: bytes) -> None:
        self._first = re.compile(pattern + rb"[^\n]*")
        kept = {byte for byte in range(256) if re.fullmatch(pattern, bytes((byte,)))}
        self._marked = bytes(1 if byte in kept else byte for byte in range(256))
        self._others = bytes(byte for byte in range(256) if byte not in kept and byte != _FEED)

    def rows(self, text: bytes) -> int:
        """In how many rows one of them is."""
        # Marks and line feeds alone are left: each row that has a mark begins with one.
        return text.translate(self._marked, self._others).count(b"\n\x01")

    def places(self, part: _Part) -> Iterator[tuple[int, bytes, None]]:
        """Those rows."""
        return (part.place(match.start()) for match in self._first.finditer(part.text))


@attrs.frozen
class _Part:
    """The rows that are looked at: a whole chunk, or some of its rows put together in the same form.

    Attributes:
        text: Each row between two line feeds.
        chunk: The text it is of.
        first_line: The line of the chunk's first row.
        starts: Where each row begins in *chunk*; None when *text* is the chunk.
    """

    text: bytes = attrs.field(repr=False)
    chunk: bytes = attrs.field(repr=False)
    first_line: int
    starts: tuple[int, ...] | None

    def index(self, at: int) -> int:
        """Which row of the part, from 0, has the position *at*."""
        return self.text.count(b"\n", 1, at)

    def place(self, at: int) -> tuple[int, bytes, None]:
        """Line and bytes of the row that has the position *at*."""
        begin = self.text.rfind(b"\n", 0, at) + 1
        return self.line(self.index(at)), self.text[begin : self.text.find(b"\n", at)], None

    def line(self, index: int) -> int:
        """The physical line of the part's row *index*."""
        return self.first_line + self.in_chunk(index)

    def in_chunk(self, index: int) -> int:
        """The number in the chunk, from 0, of the part's row *index*."""
        return index if self.starts is None else self.chunk.count(b"\n", 1, self.starts[index])


_QUOTES: Final = _Kind(b'"')
_CARRIAGE_RETURNS: Final = _Kind(b"\r")
_CONTROLS: Final = _Kind(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
_SPECIALS: Final = _Kind(rb"[!#$%&'()*/:;<=>?\[\\\]^`{|}~\x80-\xff]")


class Looker:
    """Looks at chunks and tells a tally."""

    def __init__(self, tally: Tally, *, attribute_name: str | None, is_double: bool) -> None:
        self._tally = tally
        self._name = attribute_name.encode() if attribute_name else None
        self._header = re.compile(rb"\n" + re.escape(self._name) + rb"(?=\n)") if self._name else None
        self._is_double = is_double

    def look(self, text: bytes, first_line: int) -> list[int]:
        """Tell what breaks a rule in a chunk.

        Args:
            text: See `Chunk.text`.
            first_line: The line of its first row.

        Returns:
            The rows of the chunk, numbered from 0, that are blank and not empty. They count as empty.
        """
        whole = _Part(text, text, first_line, None)
        self._header_in(whole)
        if self._is_double:
            self._numbers_in(whole)
        rest = text.translate(None, _PLAIN)
        part, blank = None, []
        if rest:
            minded = rest if b"@" in text else rest.translate(None, _UPPER)
            part = whole if len(minded) > _FEW_BYTES else _around(whole, minded)
            if part is not None:
                blank = self._bytes_in(part, minded)
        self._damage_in(whole)
        return blank

    def look_for_empty(self, text: bytes, first_line: int, blank: list[int]) -> None:
        """Tell the empty rows of a chunk.

        Args:
            text: See `Chunk.text`.
            first_line: The line of its first row.
            blank: The blank ones, as `look` found them.
        """
        number = len(_EMPTY.findall(text)) + len(blank)
        room = self._tally.room(rules.EMPTY_ROW)
        empty = (text.count(b"\n", 1, match.start() + 1) for match in islice(_EMPTY.finditer(text), room))
        indexes = sorted([*empty, *blank[:room]] if room else [])
        self._tally.add(rules.EMPTY_ROW, number, ((first_line + index, b"", None) for index in indexes))

    def _bytes_in(self, part: _Part, minded: bytes) -> list[int]:
        """Tell what is wrong with the rows that are looked at; *minded* are all of their bytes but the plain ones."""
        text = part.text
        if b'"' in minded:
            self._tell_kind(part, rules.QUOTES, _QUOTES)
        if b"," in minded:
            self._commas_in(part, minded)
        if b"\r" in minded:
            self._tell_kind(part, rules.LONE_CR, _CARRIAGE_RETURNS)
        if b"@" in text:
            self._tell(part, rules.LETTER_CASE, _CAPITALS)
        is_ascii = minded.isascii()
        if b"\t" in minded or minded.translate(None, _COMMON):
            if is_ascii or not _C1.search(text):
                self._tell_kind(part, rules.CONTROL, _CONTROLS)
            else:
                self._tell(part, rules.CONTROL, _CONTROL_WIDE)
            self._tell_kind(part, rules.SPECIAL, _SPECIALS)
        blank: list[int] = []
        if not is_ascii or b" " in minded or b"\t" in minded:
            blank = self._blanks_in(part, *((_LEADS, _ENDS) if is_ascii else (_LEADS_WIDE, _ENDS_WIDE)))
        if not is_ascii:
            self._characters_in(part)
        return blank

    def _commas_in(self, part: _Part, minded: bytes) -> None:
        if _INNER_COMMA.search(part.text):
            self._tell(part, rules.MORE_COLUMNS, _MORE_COLUMNS)
            trailing = len(_TRAILING_COMMA.findall(part.text))
        else:  # each one ends its row
            trailing = len(minded.translate(None, _NO_COMMA))
        if trailing:
            places = (part.place(match.start()) for match in _TRAILING_COMMA.finditer(part.text))
            self._tally.add(rules.TRAILING_COMMA, trailing, places)

    def _tell(self, part: _Part, code: str, pattern: re.Pattern[bytes]) -> None:
        number = len(pattern.findall(part.text))
        if number:
            self._tally.add(code, number, (part.place(match.start()) for match in pattern.finditer(part.text)))

    def _tell_kind(self, part: _Part, code: str, kind: _Kind) -> None:
        number = kind.rows(part.text)
        if number:
            self._tally.add(code, number, kind.places(part))

    def _blanks_in(self, part: _Part, leads: re.Pattern[bytes], ends: re.Pattern[bytes]) -> list[int]:
        text = part.text
        rest, leading = leads.subn(b"\n~", text)  # a row is told once, with blanks at one end or both
        number = leading + len(ends.findall(rest))
        if not number:
            return []
        blank = [part.index(match.start() + 1) for match in _ONLY_BLANKS.finditer(text)]
        if number > len(blank):
            self._tally.add(rules.EDGE_BLANKS, number - len(blank), self._edges(part, leads, ends))
        return [part.in_chunk(index) for index in blank]

    def _edges(
        self, part: _Part, leads: re.Pattern[bytes], ends: re.Pattern[bytes]
    ) -> Iterator[tuple[int, bytes, None]]:
        room = self._tally.room(rules.EDGE_BLANKS)
        leading = (match for match in leads.finditer(part.text) if match[0].strip(b"\n \t"))
        ending = (match.start() for match in ends.finditer(part.text))
        # The first row of all is empty: the text's first line feed ends it.
        starts = {match.start() + 1 for match in islice(leading, room)}
        for at in ending:
            begin = part.text.rfind(b"\n", 0, at) + 1
            if part.text[begin:at].strip(b" \t"):
                starts.add(begin)
            if len(starts) > 2 * room:
                break
        return (part.place(begin) for begin in sorted(starts))

    def _characters_in(self, part: _Part) -> None:
        decoded = part.text.decode("utf-8", "surrogateescape")
        number = len(_ESCAPED_BYTE.findall(decoded))
        if number:
            starts = (match.start() for match in _ESCAPED_BYTE.finditer(decoded))
            indexes = (decoded.count("\n", 1, start) for start in starts)
            self._tell_rows(part, rules.BAD_UTF8, number, decoded, indexes)
        if not unicodedata.is_normalized("NFC", decoded):
            composed = unicodedata.normalize("NFC", decoded)
            differs = list(map(ne, decoded[1:].split("\n"), composed[1:].split("\n")))
            self._tell_rows(part, rules.NOT_NFC, sum(differs), decoded, compress(count(), differs))

    def _tell_rows(self, part: _Part, code: str, number: int, decoded: str, indexes: Iterator[int]) -> None:
        def places() -> Iterator[tuple[int, bytes, None]]:
            rows = decoded[1:].split("\n")
            for index in indexes:
                yield part.line(index), rows[index].encode("utf-8", "surrogateescape"), None

        self._tally.add(code, number, places() if self._tally.room(code) else ())

    def _header_in(self, whole: _Part) -> None:
        if self._name is None or self._header is None:
            return
        if whole.first_line == 1:
            first = whole.text[1 : whole.text.find(b"\n", 1)]
            if first != self._name and _bare(first) == _bare(self._name):
                self._tally.add(rules.HEADER, 1, [whole.place(1)])
        if b"\n" + self._name in whole.text:
            number = len(self._header.findall(whole.text))
            if number:
                places = (whole.place(match.start() + 1) for match in self._header.finditer(whole.text))
                self._tally.add(rules.HEADER, number, places)

    def _numbers_in(self, whole: _Part) -> None:
        text, found = whole.text, self._found
        is_plain = not text.translate(None, _DIGITS)
        longest = max(map(len, text.split(b"\n")))
        may_be_huge = longest >= _HUGE_DIGITS or b"e" in text or b"E" in text
        wrong = _NOTHING if is_plain else found(text, rules.NOT_A_NUMBER, _NO_NUMBER)
        huge = found(text, rules.NOT_A_NUMBER, _HUGE, _is_infinite) if may_be_huge else _NOTHING
        self._tell_found(whole, rules.NOT_A_NUMBER, wrong, huge)

    def _damage_in(self, whole: _Part) -> None:
        text, found = whole.text, self._found
        sheet = long = _NOTHING
        if b"+" in text and _ENDS_DAMAGED.search(text):
            sheet = found(text, rules.DAMAGED_NUMBER, _DAMAGED)
        if self._is_double and max(map(len, text.split(b"\n"))) > _EXACT_DIGITS:
            long = found(text, rules.DAMAGED_NUMBER, _LONG_INTEGER, _is_inexact)
        self._tell_found(whole, rules.DAMAGED_NUMBER, sheet, long)

    def _found(
        self,
        text: bytes,
        code: str,
        pattern: re.Pattern[bytes],
        wanted: Callable[[re.Match[bytes]], bool] | None = None,
    ) -> tuple[int, list[int]]:
        """How many rows a pattern finds that begins at the line feed before the row, and where the first rows begin."""
        room = self._tally.room(code)
        if wanted is None:
            starts = [match.start() + 1 for match in islice(pattern.finditer(text), room)]
            return len(pattern.findall(text)), starts
        starts = [match.start() + 1 for match in pattern.finditer(text) if wanted(match)]
        return len(starts), starts[:room]

    def _tell_found(self, part: _Part, code: str, *found: tuple[int, list[int]]) -> None:
        if number := sum([number for number, _ in found]):
            starts = sorted(chain.from_iterable(starts for _, starts in found))
            self._tally.add(code, number, (part.place(start) for start in starts))


_NOTHING: Final[tuple[int, list[int]]] = (0, [])
_EXACT_DIGITS: Final = 15


def _around(whole: _Part, minded: bytes) -> _Part | None:
    """The rows of a chunk that hold one of the bytes in *minded*; None when there is none."""
    rows = spans_around(whole.text, minded)
    if not rows:
        return None
    text = whole.text
    together = b"\n".join((b"", *(text[begin:end] for begin, end in rows), b""))
    return _Part(together, text, whole.first_line, tuple(begin for begin, _ in rows))


def _bare(row: bytes) -> str:
    return row.decode("utf-8", "replace").strip(" \t\"'").casefold()


def _is_inexact(match: re.Match[bytes]) -> bool:
    return len(match[1]) > _EXACT_DIGITS + 1 or int(match[1]) > _LARGEST_EXACT


def _is_infinite(match: re.Match[bytes]) -> bool:
    return _IS_NUMBER.fullmatch(match[1]) is not None and math.isinf(float(match[1]))
