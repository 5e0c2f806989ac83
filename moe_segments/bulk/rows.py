"""Read the rows of a manifest: CSV of any usual separator, JSON Lines, or one JSON array. Pure.

A row has the physical line that it begins on, from 1, and the fields that it gives. Mistakes are collected, so that one
does not hide another.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs

from moe_segments.bulk.cells import addresses, field_of, finite_number, kind_of, whole_number
from moe_segments.core.files.file_format import HEAD_BYTES, foreign_format
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Row", "RowReader", "looks_like_manifest", "unknown"]

_NEEDED_COLUMNS: Final = ("op", "name")
_NUMBERS: Final = ("rows", "expiry_time")
_SEPARATORS: Final = (",", ";", "\t", "|")
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # which Excel writes and reads
_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_OBJECTS: Final = re.compile(r"\s*(\[\s*)?\{")
_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_BETWEEN_VALUES: Final = re.compile(r"[ \t\r\n,]*")
_AS_TEXT: Final = "save it as CSV in UTF-8, or as JSON Lines"
# What helps with a file that is no text, by the beginning of its format's name.
_HELP: Final[Mapping[str, str]] = {
    "UTF-": "save it as UTF-8",
    "ZIP, or an Excel": "open the sheet and save it as CSV in UTF-8, or unpack the archive",
    "an old Excel": "open the sheet and save it as CSV in UTF-8",
    "Parquet": "export it as CSV or JSON Lines",
    "HTML": "it may be a page to log in: download the file itself",
}


@attrs.frozen
class Row:
    """The fields of one line, and those whose mistake is known already."""

    line: int
    values: Mapping[str, object]
    reported: frozenset[str]


@attrs.frozen
class _Object:
    """A JSON object's pairs, so that a key given twice shows."""

    pairs: Sequence[tuple[str, object]]


class RowReader:
    """A reader of one manifest's bytes.

    Args:
        mistake: Told of each mistake: its line, its field or None, the problem.
        fields: The fields that there are.
    """

    def __init__(self, mistake: Callable[[int, str | None, str], None], fields: Sequence[str]) -> None:
        self._mistake, self._fields = mistake, fields

    def rows(self, content: bytes, suffix: str) -> Iterator[Row]:
        """Return the rows, one after another. *suffix* is the file's, lower case."""
        problem = _problem_of_format(content)
        if problem is not None:
            self._mistake(1, None, problem)
            return
        text, skipped = self._decoded(content)
        begin = text.lstrip()[:1]
        if begin in ("{", "[") or suffix in _JSON_SUFFIXES:
            yield from self._json_rows(text, skipped)
        else:
            yield from self._csv_rows(text, skipped)

    def _decoded(self, content: bytes) -> tuple[str, frozenset[int]]:
        """Return the text, and the lines that are not UTF-8 and so are left out."""
        content = content.removeprefix(_UTF8_BOM)
        try:
            return content.decode(), frozenset()
        except UnicodeDecodeError:
            skipped = frozenset(self._undecodable(content.split(b"\n")))
            return content.decode(errors="replace"), skipped

    def _undecodable(self, lines: Iterable[bytes]) -> Iterator[int]:
        for line, content in enumerate(lines, start=1):
            try:
                content.decode()
            except UnicodeDecodeError as error:
                self._mistake(line, None, f"byte {error.start + 1} is not UTF-8; save the file as UTF-8")
                yield line

    # CSV

    def _csv_rows(self, text: str, skipped: frozenset[int]) -> Iterator[Row]:
        header: list[str | None] | None = None
        for lines, cells in self._records(text):
            if not skipped.isdisjoint(lines) or not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = self._header(lines.start, cells)
                if header is None:
                    return
            elif any(cell.strip() for cell in cells[len(header) :]) or len(cells) < len(header):
                problem = f"has {len(cells)} cells where the header has {len(header)}"
                self._mistake(lines.start, None, f"{problem}; a cell with a separator in it needs quotation marks")
            else:
                filled = self._filled(lines.start, header, cells)
                yield self._row(lines.start, filled, _from_cell, set(_NEEDED_COLUMNS).difference(header))

    def _filled(self, line: int, header: Sequence[str | None], cells: Sequence[str]) -> Iterator[tuple[str, str]]:
        for number, (name, cell) in enumerate(zip(header, cells, strict=False), start=1):
            if not cell.strip():
                continue
            if name is None:
                self._mistake(line, f"column {number}", "has a value, and no name in the header row")
            else:
                yield name, cell

    def _records(self, text: str) -> Iterator[tuple[range, list[str]]]:
        named = _SEPARATOR_LINE.match(text)
        if named is not None:
            text = "\n" + text[named.end() :]  # the lines keep their numbers
        separator = named[1] if named is not None else _separator_of(text)
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        start = 1
        try:
            for cells in reader:
                yield range(start, reader.line_num + 1), cells
                start = reader.line_num + 1
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            self._mistake(start, None, "a quotation mark is not closed" if is_open else f"is not CSV: {error}")

    def _header(self, line: int, cells: list[str]) -> list[str | None] | None:
        """Return the field of each column, None for a column without a name; None when there is no header row."""
        if kind_of(cells[0]) is not None and not any(field_of(cell) for cell in cells):
            self._mistake(
                line, None, f"there is no header row; write one above it, such as {','.join(self._fields[:5])}"
            )
            return None
        names: list[str | None] = []
        for cell in cells:
            name = field_of(cell) or cell.strip() or None
            if name is not None and name not in self._fields:
                self._mistake(line, name, unknown("column", name, self._fields))
            elif name is not None and name in names:
                self._mistake(line, name, "the column is there twice")
            names.append(name)
        for name in _NEEDED_COLUMNS:
            if name not in names:
                self._mistake(line, name, "the header row has no such column")
        return names

    # JSON

    def _json_rows(self, text: str, skipped: frozenset[int]) -> Iterator[Row]:
        first = next((line.strip() for line in text.split("\n") if line.strip()), "")
        is_one_document = first.startswith("[") or (first.startswith("{") and not first.endswith(("}", "},")))
        values = self._values_of(text) if is_one_document else self._values_by_line(text, skipped)
        for line, found in values:
            if isinstance(found, _Object):
                yield self._row(line, self._known(line, found.pairs), _from_json, set())
            else:
                self._mistake(line, None, "must be one JSON object, such as {…}")

    def _values_by_line(self, text: str, skipped: frozenset[int]) -> Iterator[tuple[int, object]]:
        for line, content in enumerate(text.split("\n"), start=1):
            if line in skipped or not content.strip():
                continue
            try:
                yield line, _DECODER.decode(content.strip().removesuffix(","))
            except (ValueError, RecursionError) as error:
                self._mistake(line, None, _problem_of_json(error))

    def _values_of(self, text: str) -> Iterator[tuple[int, object]]:
        """Return the values of an array, or of objects over several lines, each with the line that it begins on."""
        begin, line, counted = _end(_BLANKS, text, 0), 1, 0
        is_array = text[begin] == "["
        begin += is_array
        while True:
            begin = _end(_BETWEEN_VALUES, text, begin)
            line, counted = line + text.count("\n", counted, begin), begin
            if begin == len(text) or (is_array and text[begin] == "]"):
                break
            try:
                value, begin = _DECODER.raw_decode(text, begin)
            except json.JSONDecodeError as error:
                self._mistake(error.lineno, None, _problem_of_json(error))
                return
            except (ValueError, RecursionError) as error:
                self._mistake(line, None, _problem_of_json(error))
                return
            yield line, value
        if is_array and text[begin:].strip() != "]":
            self._mistake(line, None, "the array is not closed, or something follows it")

    def _known(self, line: int, pairs: Sequence[tuple[str, object]]) -> Iterator[tuple[str, object]]:
        seen: set[str] = set()
        for given, value in pairs:
            name = field_of(given) or given
            if name in seen:
                self._mistake(line, name, "is there twice")
            elif name not in self._fields:
                self._mistake(line, name or "''", unknown("field", name, self._fields))
            elif value is not None:
                yield name, value
            seen.add(name)

    def _row(
        self,
        line: int,
        given: Iterable[tuple[str, Any]],
        read: Callable[[str, Any], object],
        reported: set[str],
    ) -> Row:
        values: dict[str, object] = {}
        for name, value in given:
            try:
                values[name] = read(name, value)
            except InputError as error:
                self._mistake(line, name, error.problem)
                reported.add(name)
        return Row(line, values, frozenset(reported))


def looks_like_manifest(head: bytes, suffix: str) -> bool:
    """Return whether a file that begins with *head* is a manifest, by its header row or its first character.

    Args:
        head: The file's first bytes.
        suffix: The end of its name, lower case, such as `.csv`.
    """
    text = head.decode("utf-8-sig", "replace")
    if suffix in _JSON_SUFFIXES:
        return _OBJECTS.match(text) is not None
    text = _SEPARATOR_LINE.sub("", text, count=1) if _SEPARATOR_LINE.match(text) else text
    return set(_NEEDED_COLUMNS) <= _known_fields(text, _separator_of(text))


def _separator_of(text: str) -> str:
    """Return the separator that makes most columns of the header known; a comma in doubt."""
    return max(_SEPARATORS, key=lambda separator: (len(_known_fields(text, separator)), separator == ","))


def _known_fields(text: str, separator: str) -> set[str]:
    """Return the fields that the first row names."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return {name for cell in first.split(separator) if (name := field_of(cell.strip().strip('"'))) is not None}


def _problem_of_format(content: bytes) -> str | None:
    """Return what the file is when it is no text, with what helps; None for text."""
    found = foreign_format(content[:HEAD_BYTES])
    if found is None or found[1] == "JSON":
        return f"the file is not text; {_AS_TEXT}" if b"\0" in content[:HEAD_BYTES] else None
    name = found[1]
    what = next((what for begin, what in _HELP.items() if name.startswith(begin)), None)
    return f"the file is {name}; {what or _AS_TEXT}"


def _problem_of_json(error: Exception) -> str:
    where = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
    return f"is not JSON: {getattr(error, 'msg', error)}{where}"


def _end(pattern: re.Pattern[str], text: str, begin: int) -> int:
    found = pattern.match(text, begin)
    return begin if found is None else found.end()


def _from_cell(name: str, cell: str) -> object:
    if name == "emails":
        return addresses(cell)
    if name == "priority":
        return finite_number(cell)
    return whole_number(name, cell) if name in _NUMBERS else cell.strip()


def _from_json(name: str, value: object) -> object:
    if isinstance(value, _Object):
        raise InputError("must not be an object")
    if name == "emails" and isinstance(value, str):
        return addresses(value)
    if name == "emails" and not isinstance(value, list):
        raise InputError("must be a list of addresses")
    if name in {"op", "file"} and (not isinstance(value, str) or not value.strip()):
        raise InputError("must be text that is not blank")
    if name == "priority":
        return finite_number(value) if not isinstance(value, str) or value.strip() else 0.0
    return whole_number(name, value) if name in _NUMBERS else value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_no_constant)


def unknown(what: str, name: object, known: Sequence[str], shown: Sequence[str] | None = None) -> str:
    """Return the sentence about a name that there is not, with the one that is meant or with all there are."""
    close = difflib.get_close_matches(str(name).strip().lower().replace(" ", "_"), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(shown or known)}"
    return f"no such {what}: {name!r}; {hint}"
