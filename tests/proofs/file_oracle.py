"""The file rules the slow way: one row after another, in plain Python, sharing nothing with `moe_segments.core`.

And files to try them on: made of rows that break rules, alone and together.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

__all__ = ["Told", "random_file", "told_by_rows"]

Told = dict[str, list[tuple[int, int | None]]]  # code to each line that breaks it, and the other line

PLAIN: Final = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@.+-_")
WIDE_BLANKS: Final = "\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
FILLERS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
SPREADSHEET: Final = re.compile(r"[+-]?[0-9]([.,][0-9]+)?[eE]\+[0-9]{2,3}")
INTEGER: Final = re.compile(r"[+-]?([0-9]+)(\.0*)?")


def told_by_rows(
    data: bytes, *, name: str | None = None, is_double: bool = False, longest: int = 4_096
) -> tuple[Told, int, int]:
    """What breaks which rule of the rows, in a file that is text; how many rows there are; how many values."""
    told: Told = {}
    data = data.removeprefix(b"\xef\xbb\xbf")
    rows = data.split(b"\n")
    if rows[-1] == b"":
        rows.pop()
    seen: dict[bytes, int] = {}
    for line, raw in enumerate(rows, 1):
        if len(raw) > longest:
            told.setdefault("MOE124", []).append((line, None))
            if b"\r" in raw[:longest]:
                told.setdefault("MOE112", []).append((line, None))
            continue
        value = raw.removesuffix(b"\r")
        if raw != value:
            told.setdefault("MOE114", []).append((line, None))
        for code in codes_of(value, name, is_double=is_double, is_first=line == 1):
            told.setdefault(code, []).append((line, None))
        if value.strip(b" \t"):
            if value in seen:
                told.setdefault("MOE117", []).append((line, seen[value]))
            seen.setdefault(value, line)
    return told, len(rows), len(seen)


def codes_of(value: bytes, name: str | None, *, is_double: bool, is_first: bool) -> Iterator[str]:
    """The rules one row breaks."""
    broken: dict[str, Callable[[], bool]] = {
        "MOE102": lambda: not value.strip(b" \t"),
        "MOE103": lambda: b"," in value.rstrip(b" \t")[:-1],
        "MOE104": lambda: value.rstrip(b" \t").endswith(b","),
        "MOE105": lambda: b'"' in value,
        "MOE106": lambda: _has_edge_blanks(value),
        "MOE107": lambda: any((byte < 32 and byte not in b"\n\r") or byte == 127 for byte in value) or _has_c1(value),
        "MOE108": lambda: not _is_utf8(value),
        "MOE112": lambda: b"\r" in value,
        "MOE116": lambda: name is not None and _is_header(value, name, is_first=is_first),
        "MOE118": lambda: any(byte not in PLAIN and byte > 32 and byte not in b'",\x7f' for byte in value),
        "MOE119": lambda: is_double and bool(value.strip(b" \t")) and not _is_number(_latin(value)),
        "MOE120": lambda: _is_damaged(_latin(value), is_double=is_double),
        "MOE127": lambda: not _is_composed(value),
        "MOE129": lambda: bool(invisible_in(value.decode("utf-8", "surrogateescape"))),
        "MOE128": lambda: b"@" in value and any(65 <= byte <= 90 for byte in value),
    }
    return (code for code, is_broken in broken.items() if is_broken())


def _has_edge_blanks(value: bytes) -> bool:
    if not value.strip(b" \t"):
        return False
    ends = [wide.encode() for wide in WIDE_BLANKS]
    return value != value.strip(b" \t") or any(value.startswith(end) or value.endswith(end) for end in ends)


def invisible_in(text: str) -> list[int]:
    """Where a value has an invisible character; joiners between two characters that they join are none."""
    found = []
    for at, one in enumerate(text):
        if one in "\u200c\u200d":
            around = [unicodedata.category(text[beside]) for beside in (at - 1, at + 1) if 0 <= beside < len(text)]
            kinds = {"Mn", "Mc", "Lo", "Lm", "So", "Sk"}
            if len(around) < 2 or not kinds.issuperset(around) or text[at - 1].isascii() or text[at + 1].isascii():
                found.append(at)
        elif unicodedata.category(one) == "Cf" or one in FILLERS:
            found.append(at)
    return found


def _has_c1(value: bytes) -> bool:
    return any(value[at : at + 1] == b"\xc2" and value[at + 1 : at + 2] in _C1 for at in range(len(value) - 1))


_C1: Final = {bytes((byte,)) for byte in range(0x80, 0xA0)}


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_composed(value: bytes) -> bool:
    text = value.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text) == text


def _is_header(value: bytes, name: str, *, is_first: bool) -> bool:
    if value == name.encode():
        return True
    bare = value.decode("utf-8", "replace").strip(" \t\"'").casefold()
    return is_first and bare == name.strip(" \t\"'").casefold()


def _latin(value: bytes) -> str:
    return value.decode("latin-1")


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _is_damaged(text: str, *, is_double: bool) -> bool:
    if SPREADSHEET.fullmatch(text):
        return True
    integer = INTEGER.fullmatch(text)
    return is_double and integer is not None and int(integer[1]) > 2**53


GOOD: Final = (
    b"anna",
    b"joe@x.com",
    b"+4917012",
    b"7",
    b"42",
    b"a",
    b"3f25-99",
    b"x_y.z",
    b"12345678901234567890",
    b"z" * 130,
)
BAD: Final = (
    *(b"", b" ", b"\t", b" a", b"a ", b"\ta\t", b"a b", b"a,", b"a,b", b",", b",,", b"a, ", b", ,a", b'"a"', b'"'),
    *(b"a\x00b", b"\x7f", b"a\tb", b"a\rb", b"\r", b"a#bc", b"(1)", b"\xff", b"a\xc3", b"\xc3\xa9", b"e\xcc\x81"),
    *("नि\u200dश".encode(), "a\u200db".encode(), "\u202aa\u202c".encode(), "a\u00ad".encode(), "\u3164".encode()),
    *("\u200e\u2003a".encode(), "می\u200cخ".encode(), "👩\u200d👩\u200d".encode(), "\u2066 a".encode()),
    *(b"\xc2\xa0a", b"a\xe2\x80\x8b", b"\xef\xbb\xbfa", b"\xc2\x85", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
    *(b"Joe@X.com", b"joe@X", b"J@x", b"ID", b"id", b'"ID"', b"IDX", b"1.2E+14", b"1,2E+14", b"9e+99", b"1_000"),
    *(b"nan", b"inf", b"-1", b"+1.5", b".5", b"5.", b"1e400", b"1e300", b"0x1", b"9007199254740992"),
    *(
        b"9007199254740993",
        b"009007199254740993.0",
        b"1" * 39,
        b"1" * 40,
        b"1" * 41,
        b"a\r" + b"b" * 60,
        b"c" * 97,
        b"d" * 299,
    ),
    *(b" \xc2\xa0", b"\xc2\xa0 ", b"a\xc2", b"\x80a", b"a@b+12", b"E+12", b"e+12", b"1E+123", b"@", b"@A", b"A@"),
)


def random_file(chance: random.Random) -> bytes:
    """A file of up to a few hundred rows, good ones and bad ones, some of them several times."""
    share = chance.choice((0.0, 0.02, 0.2, 0.6, 1.0))
    numbered = chance.choice((True, False))
    rows = []
    for number in range(chance.choice((0, 1, 2, 3, 10, 60, 300))):
        row = chance.choice(BAD) if chance.random() < share else chance.choice(GOOD)
        if numbered and chance.random() < 0.7:
            row += str(number).encode()
        if chance.random() < share * 0.1:
            row = bytes(chance.choice(b'ab1 ,"\t\r\x00\xc3\xa9\xe2\x80\xff@A#') for _ in range(chance.randrange(12)))
        rows.append(row + chance.choice((b"", b"", b"", b"\r")) * (chance.random() < share))
    if chance.random() < 0.1:
        rows = [row + b"\r" for row in rows]
    begin = b"\xef\xbb\xbf" if chance.random() < 0.1 else b""
    return begin + b"\n".join(rows) + (b"\n" if rows and chance.random() < 0.8 else b"")
