"""Judge the shape of a whole file: what is right in each row and wrong in all of them, or in one row only. Pure.

Every suspicion is counted over the chunks until the file disproves it, which the first chunk of most files does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.files import rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["FileShape", "ShapeFinding"]

_MOSTLY: Final = 0.9
_NEARLY_ALL: Final = 0.99
_LEAST_VALUES: Final = 2
_SAMPLE_VALUES: Final = 1_000
_SAMPLE_BYTES: Final = 65_536

_LETTER: Final = re.compile(rb"[A-Za-z\x80-\xff]")
_DIGIT: Final = re.compile(rb"[0-9]")
_NUMBERS: Final = {
    rules.FLOATS: (re.compile(rb"[+-]?[0-9]++\.0++"), "end in .0"),
    rules.SCIENTIFIC: (re.compile(rb"[+-]?[0-9](?:[.,][0-9]++)?[eE][+-]?[0-9]++"), "are like 1.2E+14"),
}
_BAR: Final = b"|"
_SEPARATORS: Final = {b";": "semicolon", _BAR: "vertical bar", b"\t": "tab"}
_SEPARATOR_ROW: Final = re.compile(rb"['\"]?sep=.?['\"]?", re.IGNORECASE)

_WORDS: Final = re.compile(r"_?[A-Za-z]+(?:[ _.-][A-Za-z]+){0,4}")
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_]+|[0-9]+")
_HEX_LETTERS: Final = re.compile(r"[a-f]+|[A-F]+")
_HEADERS: Final = frozenset(
    (
        *("id", "uid", "uuid", "guid", "identifier", "userid", "username", "user", "customer", "customerid"),
        *("customernumber", "clientid", "contactid", "memberid", "accountid", "externalid", "uniqueid", "moeuniqueid"),
        *(
            "email",
            "emailid",
            "emailaddress",
            "mail",
            "phone",
            "phonenumber",
            "mobile",
            "mobilenumber",
            "msisdn",
            "name",
        ),
    )
)
_HEADER_WORDS: Final = _HEADERS | {
    "code",
    "number",
    "no",
    "num",
    "key",
    "client",
    "member",
    "account",
    "contact",
    "external",
}
_VALUES_FOR_WORDS: Final = 10
_DIGITS_BELOW: Final = "words in it, and digits in the others"
_DIGITS_LEAST: Final = 0.4  # share of digits in values that are told from words by having some

_ODD_MOST: Final = 2
_EXAMPLES: Final = 50
_LEAST_OF_FIXED: Final = 10
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.+-_"
_NO_DIGITS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ@.+-_"
_ALPHABETS: Final = (
    (10, b"0123456789"),
    (16, b"0123456789abcdefABCDEF"),
    (36, b"0123456789abcdefghijklmnopqrstuvwxyz"),
    (36, b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    (62, _PLAIN),
)


@attrs.frozen(kw_only=True)
class ShapeFinding:
    """A fault in the shape of a file.

    Attributes:
        code: The rule.
        message: What is wrong, with figures and without any value.
        line: The row's line; None when it is about the whole file.
        row: The row.
    """

    code: str
    message: str
    line: int | None = None
    row: bytes | None = attrs.field(default=None, repr=False)


class _Share:
    """A count of the values for which something holds, until it holds for too few of them to matter."""

    def __init__(self, holds: Callable[[bytes], object], least: float = _MOSTLY) -> None:
        self._holds, self._least = holds, least
        self.values = self.number = 0

    def add(self, values: Sequence[bytes]) -> None:
        """Take the values of the next chunk."""
        if self.values > _SAMPLE_VALUES and self.number * 2 < self.values:
            return
        self.values += len(values)
        self.number += sum(1 for value in values if self._holds(value))

    def is_reached(self) -> bool:
        """Tell whether it holds for two values at least, and for nearly all of them."""
        return self.number >= _LEAST_VALUES and self.number >= self._least * self.values

    def is_reached_with(self, first: bytes) -> bool:
        """Tell the same, of the values and the first row; a first row for which it does not hold is left out."""
        if self._holds(first):
            self.values, self.number = self.values + 1, self.number + 1
        return self.is_reached()


class FileShape:
    """A judge of the shape of a file, which takes its rows chunk by chunk and counts the first row apart."""

    def __init__(self, *, is_double: bool) -> None:
        self._first, self._first_line = b"", 0
        self._lengths = Lengths()
        self._separators = {separator: _Share(_holds(separator)) for separator in _SEPARATORS}
        self._left_of_bar: set[bytes] = set()
        self._numbers = (
            {} if is_double else {code: _Share(pattern.fullmatch) for code, (pattern, _) in _NUMBERS.items()}
        )
        self._unlike: dict[str, _Share] = {}  # by what is said of the first row where the share is reached
        self._sample_bytes = self._sample_digits = self._values = 0

    def add(self, rows: Sequence[bytes], first_line: int) -> None:
        """Take the rows of the next chunk."""
        self._lengths.add(rows, first_line)
        if not self._first:
            at = next((at for at, row in enumerate(rows) if row.strip()), len(rows) - 1)
            self._first, self._first_line, rows = rows[at].strip(), first_line + at, rows[at + 1 :]
            self._unlike = dict(_ways_to_be_unlike(self._first))
        values = list(filter(None, rows)) if b"" in rows else rows
        self._values += len(values)
        for share in (*self._separators.values(), *self._numbers.values(), *self._unlike.values()):
            share.add(values)
        if self._sample_bytes < _SAMPLE_BYTES:
            sample = b"".join(values)[: _SAMPLE_BYTES - self._sample_bytes]
            self._sample_bytes += len(sample)
            self._sample_digits += len(sample) - len(sample.translate(None, b"0123456789"))
        if len(self._left_of_bar) < _SAMPLE_VALUES and self._separators[_BAR].number:
            self._left_of_bar.update(value.partition(_BAR)[0] for value in values[:_SAMPLE_VALUES])

    def findings(self) -> Iterator[ShapeFinding]:
        """Yield what is wrong; called once, at the end."""
        for code, share in self._numbers.items():
            if share.is_reached_with(self._first):
                told = f"{share.number:,} of {share.values:,} values {_NUMBERS[code][1]}"
                yield ShapeFinding(code=code, message=told)
        yield from self._of_separators()
        header = self._unlike_first()
        if header is not None:
            yield ShapeFinding(code=rules.UNLIKE_FIRST, message=header, line=self._first_line, row=self._first)
        yield from self._lengths.findings(but=0 if header is None else self._first_line)

    def _of_separators(self) -> Iterator[ShapeFinding]:
        if _SEPARATOR_ROW.fullmatch(self._first):
            message = "the first row is for spreadsheets only"
            yield ShapeFinding(code=rules.SEPARATOR, message=message, line=self._first_line, row=self._first)
        for separator, share in self._separators.items():
            if not share.is_reached_with(self._first):
                continue
            if separator == _BAR and not self._has_column_before_bar(min(share.values, _SAMPLE_VALUES)):
                continue
            told = f"a {_SEPARATORS[separator]} in {share.number:,} of {share.values:,} rows"
            yield ShapeFinding(code=rules.SEPARATOR, message=told)

    def _has_column_before_bar(self, values: int) -> bool:
        """Tell a column from the realm before an identifier, as in auth0|5f7c8e: many values have the same realm."""
        different = {*self._left_of_bar, self._first.partition(_BAR)[0]}
        return values > _LEAST_VALUES and len(different) >= _MOSTLY * values

    def _unlike_first(self) -> str | None:
        """Return why the first row looks like a header; None when it does not."""
        words = _words_of(self._first)
        if self._values and "".join(words) in _HEADERS:
            return "it is a usual name of a column"
        for message, share in self._unlike.items():
            if not share.is_reached():
                continue
            if message != _DIGITS_BELOW:
                return message
            is_told = len(words) > 1 and not _HEADER_WORDS.isdisjoint(words)
            if self._sample_digits > _DIGITS_LEAST * self._sample_bytes and (
                is_told or self._values >= _VALUES_FOR_WORDS
            ):
                return message
        return None


def _ways_to_be_unlike(first: bytes) -> Iterator[tuple[str, _Share]]:
    text = _text_of(first)
    if b"@" not in first:
        yield "no @ in it, and one in the others", _Share(_holds(b"@"), _NEARLY_ALL)
    if any(map(str.isalpha, text)):
        yield "letters in it, and none in the others", _Share(lambda value: not _LETTER.search(value), _NEARLY_ALL)
    if _WORDS.fullmatch(text) and not _HEX_LETTERS.fullmatch(text):
        yield _DIGITS_BELOW, _Share(_DIGIT.search, _NEARLY_ALL)


def _words_of(first: bytes) -> list[str]:
    """Return the words of a name such as customer_id, CustomerId or Customer ID, in small letters."""
    return [word.casefold() for word in _WORD.findall(_text_of(first))]


def _text_of(first: bytes) -> str:
    return first.decode("utf-8", "replace").strip(" \t\"'")


class Lengths:
    """A judge of values that are one or two of another length than all the rest."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._examples: dict[int, list[tuple[int, bytes]]] = {}  # by length, the first plain rows
        self._is_uniform = True

    def add(self, rows: Sequence[bytes], first_line: int) -> None:
        """Take the rows of the next chunk."""
        if not self._is_uniform:
            return
        counts = Counter(map(len, rows))
        del counts[0]
        self._counts.update(counts)
        wanted = {length for length in counts if len(self._examples.setdefault(length, [])) < _EXAMPLES}
        for line, row in enumerate(rows, first_line):
            if not wanted:
                break
            if len(row) in wanted and not row.translate(None, _PLAIN):
                examples = self._examples[len(row)]
                examples.append((line, row))
                if len(examples) == _EXAMPLES:
                    wanted.remove(len(row))
        several = [length for length, number in self._counts.items() if number > _ODD_MOST + 1]
        self._is_uniform = len(several) <= 1 and len(self._counts) <= _ODD_MOST + 2

    def findings(self, *, but: int) -> Iterator[ShapeFinding]:
        """Yield the rows of another length, except for the line *but*, which is a header."""
        if not self._is_uniform or not self._counts:
            return
        length, number = self._counts.most_common(1)[0]
        usual = [row for _, row in self._examples[length]]
        odd = [one for other, some in self._examples.items() if other != length for one in some]
        odd = [one for one in odd if one[0] != but]
        if not 0 < len(odd) <= _ODD_MOST or not usual:
            return
        for line, row in odd:
            if number >= _values_needed(row, usual):
                told = f"{len(row)} characters, and {length} in {number:,} other values"
                yield ShapeFinding(code=rules.ODD_LENGTH, message=told, line=line, row=row)


def _values_needed(row: bytes, usual: Sequence[bytes]) -> float:
    """Return of how many values as long as the *usual* ones it takes, for the length of *row* to be a mistake.

    Numbers that are counted up, or drawn without leading zeros, have another length now and then.
    """
    prefix = _common_prefix(min(usual), max(usual))
    begin = len(prefix) - len(prefix.lstrip(_NO_DIGITS))
    tails = [value[begin:] for value in usual]
    is_counted_up = _DIGIT.search(prefix) and row.startswith(prefix)
    if is_counted_up or b"-" in usual[0] or any(tail.startswith(b"0") for tail in tails):
        return _LEAST_OF_FIXED
    if not row.startswith(prefix[:2]) or row.startswith(b"+"):
        return math.inf  # another series or country, or counted up past 9, 99, 999
    return 10 * next(size for size, letters in _ALPHABETS if not b"".join(tails).translate(None, letters))


def _common_prefix(one: bytes, other: bytes) -> bytes:
    number = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), len(one))
    return one[:number]


def _holds(part: bytes) -> Callable[[bytes], bool]:
    return lambda value: part in value
