"""List the rules of a file of users, as data: code, severity, one line. A code never changes its meaning.

The service documents few of them; each rule's section in docs/preflight.md says where it comes from and what to do.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BAD_UTF8",
    "BOM",
    "COMPRESSED",
    "CONTROL",
    "CRLF",
    "DAMAGED_NUMBER",
    "DOCUMENT",
    "DUPLICATE",
    "EDGE_BLANKS",
    "EMPTY_FILE",
    "EMPTY_ROW",
    "EXPIRED_URL",
    "FLOATS",
    "HEADER",
    "INVISIBLE",
    "LETTER_CASE",
    "LONE_CR",
    "LONG_ROW",
    "MENDED",
    "MORE_COLUMNS",
    "NOT_A_NUMBER",
    "NOT_NFC",
    "NO_FINAL_NEWLINE",
    "ODD_LENGTH",
    "QUOTES",
    "ROWS_NOT_CHECKED",
    "RULES",
    "SCIENTIFIC",
    "SEPARATOR",
    "SHORT_LIVED_URL",
    "SPECIAL",
    "SPLIT",
    "TEMPORARY_URL",
    "TOO_LARGE",
    "TOO_MANY_FOR_A_DAY",
    "TOO_MANY_FOR_A_SEGMENT",
    "TRAILING_COMMA",
    "UNLIKE_FIRST",
    "UTF16",
    "Rule",
    "Severity",
]


class Severity(StrEnum):
    """Severity of a finding for the file."""

    ERROR = "error"  # the service would refuse the file, or lose rows of it
    WARNING = "warning"  # it may
    NOTE = "note"  # good to know


@attrs.frozen(kw_only=True)
class Rule:
    """A rule of a file.

    Attributes:
        code: Stable name, MOE101 and so on.
        title: What is wrong, in few words.
        severity: What it means for the file; strict mode makes an error of `SPECIAL`.
        help: What it does to the upload and what helps, one line.
    """

    code: str
    title: str
    severity: Severity
    help: str


EMPTY_FILE: Final = "MOE101"
EMPTY_ROW: Final = "MOE102"
MORE_COLUMNS: Final = "MOE103"
TRAILING_COMMA: Final = "MOE104"
QUOTES: Final = "MOE105"
EDGE_BLANKS: Final = "MOE106"
CONTROL: Final = "MOE107"
BAD_UTF8: Final = "MOE108"
UTF16: Final = "MOE109"
COMPRESSED: Final = "MOE110"
DOCUMENT: Final = "MOE111"
LONE_CR: Final = "MOE112"
BOM: Final = "MOE113"
CRLF: Final = "MOE114"
NO_FINAL_NEWLINE: Final = "MOE115"
HEADER: Final = "MOE116"
DUPLICATE: Final = "MOE117"
SPECIAL: Final = "MOE118"
NOT_A_NUMBER: Final = "MOE119"
DAMAGED_NUMBER: Final = "MOE120"
TOO_LARGE: Final = "MOE121"
TOO_MANY_FOR_A_DAY: Final = "MOE122"
TOO_MANY_FOR_A_SEGMENT: Final = "MOE123"
LONG_ROW: Final = "MOE124"
ROWS_NOT_CHECKED: Final = "MOE125"
SHORT_LIVED_URL: Final = "MOE126"
NOT_NFC: Final = "MOE127"
LETTER_CASE: Final = "MOE128"
INVISIBLE: Final = "MOE129"
FLOATS: Final = "MOE130"
SEPARATOR: Final = "MOE131"
UNLIKE_FIRST: Final = "MOE132"
ODD_LENGTH: Final = "MOE133"
SCIENTIFIC: Final = "MOE134"
TEMPORARY_URL: Final = "MOE135"
EXPIRED_URL: Final = "MOE136"

# What `clean_file` mends without guessing.
MENDED: Final = frozenset(
    {
        *(EMPTY_ROW, TRAILING_COMMA, QUOTES, EDGE_BLANKS, UTF16, LONE_CR, BOM, CRLF, DUPLICATE, LONG_ROW, INVISIBLE),
    }
)
# What `split_file` mends.
SPLIT: Final = frozenset({TOO_LARGE, TOO_MANY_FOR_A_DAY, TOO_MANY_FOR_A_SEGMENT})

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_TABLE: Final = (
    (EMPTY_FILE, _ERROR, "no value in the file", "there is nothing to upload"),
    (EMPTY_ROW, _ERROR, "empty row", "MoEngage forbids empty rows: delete it"),
    (MORE_COLUMNS, _ERROR, "more than one column", "MoEngage takes one value a line: keep one column"),
    (TRAILING_COMMA, _ERROR, "trailing comma", "MoEngage forbids a comma after the value: delete it"),
    (QUOTES, _ERROR, "double quotes", "MoEngage reads quotes as part of the value: delete them"),
    (EDGE_BLANKS, _ERROR, "blanks at the edges", "blanks are part of the value, which then matches nobody: trim it"),
    (CONTROL, _ERROR, "control character", "a tab, NUL or other control character is in the value: delete it"),
    (BAD_UTF8, _ERROR, "no valid UTF-8", "the bytes are of another encoding or damaged: export the file as UTF-8"),
    (UTF16, _ERROR, "UTF-16 or UTF-32", "two or four bytes a character: export the file as UTF-8"),
    (COMPRESSED, _ERROR, "compressed", "MoEngage takes plain text: unpack it, or export the sheet as CSV"),
    (DOCUMENT, _ERROR, "no CSV", "this is HTML, XML, JSON or PDF: often a login page; give the file itself"),
    (LONE_CR, _ERROR, "carriage return inside a row", "only a line feed ends a row: save it with Unix line ends"),
    (BOM, _WARNING, "byte order mark", "three bytes before the first value, which may then match nobody: remove them"),
    (
        CRLF,
        _WARNING,
        "Windows line ends",
        "undocumented: a carriage return may become part of each value; save with LF",
    ),
    (NO_FINAL_NEWLINE, _NOTE, "no newline at the end", "harmless, unless the file was cut off"),
    (HEADER, _WARNING, "row equal to the attribute's name", "MoEngage documents no header row: it is taken as a value"),
    (DUPLICATE, _ERROR, "duplicate", "MoEngage forbids duplicates, and each one spends a user of the day: delete it"),
    (SPECIAL, _WARNING, "special character", "documents of MoEngage disagree on these: look whether it is meant"),
    (NOT_A_NUMBER, _ERROR, "no number", "the attribute is a double: digits, at most one point, no separators"),
    (
        DAMAGED_NUMBER,
        _WARNING,
        "number that a spreadsheet may have damaged",
        "digits past the 15th are lost: export as text",
    ),
    (TOO_LARGE, _ERROR, "file too large", "MoEngage takes 150 MB: split it"),
    (TOO_MANY_FOR_A_DAY, _ERROR, "more rows than users a day", "the day's quota can never hold it: split it over days"),
    (TOO_MANY_FOR_A_SEGMENT, _ERROR, "more rows than a segment takes", "at most 5 million: split it over segments"),
    (LONG_ROW, _ERROR, "row too long", "no identifier is that long: are the line ends missing?"),
    (ROWS_NOT_CHECKED, _ERROR, "too many rows to check", "rows from here on were counted and not checked: split it"),
    (SHORT_LIVED_URL, _WARNING, "URL expires within a day", "MoEngage may fetch it hours later: presign it for longer"),
    (NOT_NFC, _WARNING, "characters not composed (NFC)", "it looks like the composed form and does not equal it"),
    (LETTER_CASE, _WARNING, "e-mail with capital letters", "it matches only a user stored with the same letters"),
    (INVISIBLE, _ERROR, "invisible character", "the value looks right and matches nobody: --fix removes it"),
    (FLOATS, _ERROR, "whole numbers exported as decimals", "1001.0 is not 1001: export the column as text"),
    (SEPARATOR, _ERROR, "columns with another separator", "MoEngage takes one value a line: keep one column"),
    (UNLIKE_FIRST, _WARNING, "first row looks like a header", "it is taken as a value: delete the row"),
    (ODD_LENGTH, _WARNING, "value of another length", "it may be cut off, or have lost a zero: look at it"),
    (SCIENTIFIC, _ERROR, "numbers in scientific notation", "a spreadsheet cut the digits off: export as text"),
    (
        TEMPORARY_URL,
        _WARNING,
        "URL signed with temporary credentials",
        "it stops working when they expire, whatever its own date: sign it with a permanent key",
    ),
    (EXPIRED_URL, _ERROR, "URL has expired", "MoEngage cannot fetch the file: sign a new URL"),
)

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {code: Rule(code=code, title=title, severity=severity, help=text) for code, severity, title, text in _TABLE}
)
