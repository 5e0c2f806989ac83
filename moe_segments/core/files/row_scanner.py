"""Scan a chunk of rows for whatever breaks a rule, exactly.

Most chunks hold plain rows alone, which a few searches over the whole chunk prove. Rows that they cannot clear are
examined one by one, by all rules.

Invisible characters are those of Unicode category Cf (format), and a few of other categories. Blanks are those of the
categories Zs, Zl and Zp, and the tab.
"""

from __future__ import annotations

import math
import re
import unicodedata
from itertools import compress, count
from typing import TYPE_CHECKING, Final

from moe_segments.core.files import rules
from moe_segments.core.files.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.files.report import Tally

__all__ = ["RowScanner", "code_points", "edge_blanks", "invisible_characters", "without_invisible"]

_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.+-_"
_SHORT_INTEGER: Final = re.compile(rb"[0-9]{1,15}")
_CHARACTERS: Final = (
    (rules.MORE_COLUMNS, re.compile(rb",(?=[ \t]*+[^ \t])")),
    (rules.TRAILING_COMMA, re.compile(rb",[ \t]*+\Z")),
    (rules.QUOTES, re.compile(rb'"')),
    (rules.LONE_CR, re.compile(rb"\r")),
    (rules.CONTROL, re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")),
    (rules.SPECIAL, re.compile(rb"[!#$%&'()*/:;<=>?\[\\\]^`{|}~\x80-\xff]")),
)
_ESCAPED_BYTE: Final = re.compile("[\udc80-\udcff]")
_NUMBER: Final = re.compile(rb"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_SHEET_NUMBER: Final = re.compile(rb"[+-]?[0-9](?:[.,][0-9]++)?[eE]\+[0-9]{2,3}")
_INTEGER: Final = re.compile(rb"[+-]?0*+([0-9]++)(?:\.0*+)?")
_NAMED: Final = frozenset({rules.INVISIBLE, rules.EDGE_BLANKS})
_LARGEST_EXACT: Final = 2**53
_LARGEST_EXACT_DIGITS: Final = 16
# Fillers, the grapheme joiner and the braille blank: shown as nothing, and letters, marks or symbols by category.
_OTHERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_JOINERS: Final = frozenset("\u200c\u200d")
_MARKS: Final = frozenset(("Mn", "Mc", "Lo", "Lm", "So", "Sk"))
_NAMED_MOST: Final = 3


class RowScanner:
    """A scanner of chunks that tells a tally which rows break which rule."""

    def __init__(self, tally: Tally, *, attribute_name: str | None, is_double: bool) -> None:
        self._tally, self._is_double = tally, is_double
        self._name = attribute_name.encode() if attribute_name else None

    def scan(self, text: bytes, rows: Sequence[bytes], first_line: int) -> None:
        """Tell what breaks a rule in a chunk.

        Args:
            text: See `moe_segments.core.files.chunks.Chunk`.
            rows: The rows of it.
            first_line: The line of the first of them.
        """
        self._tell_headers(text, rows, first_line)
        for index in sorted(self._suspects(text, rows)):
            for code in self._broken(rows[index]):
                message = _named(code, rows[index]) if code in _NAMED else None
                self._tally.add(code, first_line + index, rows[index], message=message)

    def _tell_headers(self, text: bytes, rows: Sequence[bytes], first_line: int) -> None:
        name = self._name
        if name is None:
            return
        if first_line == 1 and rows[0] != name and _bare(rows[0]) == _bare(name):
            self._tally.add(rules.HEADER, 1, rows[0])
        if name in text:
            for line, row in enumerate(rows, first_line):
                if row == name:
                    self._tally.add(rules.HEADER, line, row)

    def _suspects(self, text: bytes, rows: Sequence[bytes]) -> set[int]:
        """Return which rows of a chunk, from 0, may break a rule by themselves."""
        suspects: set[int] = set()
        minded = text.translate(None, _PLAIN)  # of each row the bytes that are minded
        if len(minded) > len(rows) + 1:
            suspects.update(compress(count(), minded[1:-1].split(b"\n")))
        if b"" in rows:
            suspects.update(index for index, row in enumerate(rows) if not row)
        if b"@" in text and text != text.lower():
            suspects.update(index for index, row in enumerate(rows) if _has_capital_in_address(row))
        if b"+" in text and (b"e+" in text or b"E+" in text):
            suspects.update(index for index, row in enumerate(rows) if _SHEET_NUMBER.fullmatch(row))
        if self._is_double:
            suspects.update(index for index, row in enumerate(rows) if not _SHORT_INTEGER.fullmatch(row))
        return suspects

    def _broken(self, row: bytes) -> Iterator[str]:
        """Yield the rules that a row breaks by itself."""
        value = row.strip(b" \t")
        if not value:
            yield rules.EMPTY_ROW
        elif value != row:
            yield rules.EDGE_BLANKS
        for code, pattern in _CHARACTERS:
            if pattern.search(row):
                yield code
        if _has_capital_in_address(row):
            yield rules.LETTER_CASE
        if _SHEET_NUMBER.fullmatch(row) or (self._is_double and _is_inexact(row)):
            yield rules.DAMAGED_NUMBER
        if self._is_double and value and not _is_number(row):
            yield rules.NOT_A_NUMBER
        if not row.isascii():
            yield from _broken_by_text(row.decode("utf-8", "surrogateescape"), is_trimmed=value == row)


def _broken_by_text(text: str, *, is_trimmed: bool) -> Iterator[str]:
    """Yield the rules that a row breaks by characters beyond ASCII."""
    if is_trimmed and edge_blanks(text):
        yield rules.EDGE_BLANKS
    if invisible_characters(text):
        yield rules.INVISIBLE
    if _ESCAPED_BYTE.search(text):
        yield rules.BAD_UTF8
    if not unicodedata.is_normalized("NFC", text):
        yield rules.NOT_NFC


def _named(code: str, row: bytes) -> str | None:
    """Return a message that names the characters nobody can see; None where the rule's title says enough."""
    text = row.decode("utf-8", "surrogateescape")
    characters = invisible_characters(text) if code == rules.INVISIBLE else edge_blanks(text).strip(" \t")
    return f"{RULES[code].title} {code_points(characters)}" if characters else None


def _has_capital_in_address(row: bytes) -> bool:
    return b"@" in row and row != row.lower()


def _bare(row: bytes) -> str:
    return row.decode("utf-8", "replace").strip(" \t\"'").casefold()


def _is_number(row: bytes) -> bool:
    return _NUMBER.fullmatch(row) is not None and math.isfinite(float(row))


def _is_inexact(row: bytes) -> bool:
    """Tell whether a double cannot hold the whole number of a row."""
    integer = _INTEGER.fullmatch(row)
    if integer is None:
        return False
    return len(integer[1]) > _LARGEST_EXACT_DIGITS or int(integer[1]) > _LARGEST_EXACT


def invisible_characters(text: str) -> str:
    """Return the invisible characters of a value, in their order.

    A joiner (U+200C, U+200D) between two characters of a script or an emoji that needs it is part of the value.
    """
    return "".join(one for at, one in enumerate(text) if _is_invisible(text, at))


def without_invisible(text: str) -> str:
    """Return a value without its invisible characters, and without the blanks that are then at its edges."""
    while True:
        left = "".join(one for at, one in enumerate(text) if not _is_invisible(text, at))
        left = left[len(_leading_blanks(left)) :]
        left = left[: len(left) - len(_leading_blanks(left[::-1]))]
        if left == text:
            return text
        text = left  # a joiner may have lost its neighbour


def edge_blanks(text: str) -> str:
    """Return the blanks at the beginning and at the end of a value."""
    leading = _leading_blanks(text)
    return leading if len(leading) == len(text) else leading + _leading_blanks(text[::-1])[::-1]


def code_points(characters: str) -> str:
    """Return the different characters by code point and name, the first three of them."""
    different = list(dict.fromkeys(characters))
    named = ", ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".rstrip() for one in different[:_NAMED_MOST])
    return named if len(different) <= _NAMED_MOST else f"{named} and {len(different) - _NAMED_MOST} more"


def _is_invisible(text: str, at: int) -> bool:
    one = text[at]
    if one in _JOINERS:
        return not (0 < at < len(text) - 1 and _is_joined(text[at - 1]) and _is_joined(text[at + 1]))
    return one in _OTHERS or unicodedata.category(one) == "Cf"


def _is_joined(one: str) -> bool:
    return not one.isascii() and unicodedata.category(one) in _MARKS


def _leading_blanks(text: str) -> str:
    return "".join(_taken_while_blank(text))


def _taken_while_blank(text: str) -> Iterator[str]:
    for one in text:
        if one != "\t" and unicodedata.category(one) not in ("Zs", "Zl", "Zp"):
            return
        yield one
