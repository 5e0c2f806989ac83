"""Read a manifest: many operations in one CSV or JSON Lines file, one a line, checked as a whole.

A mistake found after the first operation was sent would cost a tenth of an hour, so all of them are found before,
each with its physical line (from 1) and its field. Nothing is fetched and no quota is asked here; local files must
be there.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import attrs

from moe_segments.errors import InputError
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    FileOperation,
    Operation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Entry", "Manifest", "ManifestError", "Mistake", "read_manifest"]

_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs keeps of every field

_SHOWN_MISTAKES: Final = 25
_SHOWN_CHARS: Final = 300
_JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_BETWEEN_ADDRESSES: Final = re.compile(r"[;\s]+")
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")

_KINDS: Final[Mapping[str, type[Operation]]] = {
    "create": CreateFileSegment,
    "add": AddUsers,
    "add-users": AddUsers,
    "remove": RemoveUsers,
    "remove-users": RemoveUsers,
    "replace": ReplaceUsers,
    "replace-users": ReplaceUsers,
    "archive": ArchiveSegment,
    "unarchive": UnarchiveSegment,
}
_OP_NAMES: Final = tuple(dict.fromkeys(kind.op for kind in _KINDS.values()))
_ATTRIBUTES: Final[Mapping[str, _Attribute]] = {
    name: attribute for kind in _KINDS.values() for name, attribute in attrs.fields_dict(kind).items()
}
_FIELDS: Final = ("op", *_ATTRIBUTES)
_NEEDED_COLUMNS: Final = ("op", "name")


@attrs.frozen(order=True)
class Mistake:
    """A mistake in a manifest.

    Attributes:
        line: The physical line, from 1; the first one where a record spans several.
        field: The field; None when it is about the line.
        problem: What is wrong and what helps.
    """

    line: int
    field: str | None
    problem: str

    def __str__(self) -> str:
        where = f"line {self.line}, {_shown(self.field)}" if self.field else f"line {self.line}"
        return f"{where}: {_shown(self.problem)}"


class ManifestError(InputError):
    """A manifest with mistakes, all of them at once. Nothing was sent, nothing was spent.

    Attributes:
        manifest: The file's name.
        mistakes: Every mistake, in order of lines.
    """

    def __init__(self, manifest: str, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(f"{len(mistakes)} mistakes", manifest)
        self.args = (manifest, mistakes)
        self.manifest, self.mistakes = manifest, mistakes

    def __str__(self) -> str:
        total = len(self.mistakes)
        count = "1 mistake" if total == 1 else f"{total:,} mistakes"
        shown = [f"  {mistake}" for mistake in self.mistakes[:_SHOWN_MISTAKES]]
        if total > _SHOWN_MISTAKES:
            shown.append(f"  and {total - _SHOWN_MISTAKES:,} more")
        return "\n".join([f"{self.manifest} has {count}; nothing was sent:", *shown])


@attrs.frozen
class Entry:
    """One operation of a manifest.

    Attributes:
        line: Its physical line, from 1.
        operation: What is to be done.
        content: SHA-256 of its local file, hex; None for none, and until it has been read.
    """

    line: int
    operation: Operation
    content: str | None = None


@attrs.frozen(kw_only=True)
class Manifest:
    """A manifest without mistakes.

    Attributes:
        name: The file's name.
        digest: SHA-256 of its bytes, hex: what a bulk run is known by.
        entries: Its operations in order.
    """

    name: str
    digest: str
    entries: tuple[Entry, ...] = attrs.field(repr=lambda entries: f"<{len(entries)} operations>")

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations alone, in order."""
        return tuple(entry.operation for entry in self.entries)


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    CSV has a header row with the fields' names; JSON Lines has one object a line. Which of both it is, is told by
    the extension (`.csv`; `.jsonl`, `.ndjson`, `.json`), else by the first character. `file` is relative to the
    manifest.

    Args:
        path: The file.

    Returns:
        The manifest, with its operations ready to submit.

    Raises:
        InputError: The file cannot be read.
        ManifestError: It has mistakes: all of them.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no valid path"
        raise InputError(f"the manifest cannot be read: {reason}", str(path)) from None
    reading = _Reading(path.absolute().parent)
    reading.read(content, is_json=_is_json(path, content))
    if reading.mistakes:
        raise ManifestError(path.name, tuple(sorted(reading.mistakes, key=lambda mistake: mistake.line)))
    digest = hashlib.sha256(content).hexdigest()
    return Manifest(name=path.name, digest=digest, entries=tuple(reading.entries))


@attrs.frozen
class _Row:
    """The fields of one line, and those whose mistake is known already."""

    line: int
    values: Mapping[str, object]
    reported: frozenset[str]


@attrs.frozen
class _Object:
    """A JSON object's pairs, so that a key given twice shows."""

    pairs: Sequence[tuple[str, object]]


class _Reading:
    """Collects entries and mistakes while the lines go by."""

    def __init__(self, directory: Path) -> None:
        self.entries: list[Entry] = []
        self.mistakes: list[Mistake] = []
        self._directory = directory
        self._first_use: dict[str, tuple[int, str]] = {}

    def read(self, content: bytes, *, is_json: bool) -> None:
        text, skipped = self._decoded(content)
        rows = self._json_rows(text, skipped) if is_json else self._csv_rows(text, skipped)
        for row in rows:
            self._take(row)
        if not self.entries and not self.mistakes:
            self._mistake(1, None, "the manifest names no operation")

    def _mistake(self, line: int, field: str | None, problem: str) -> None:
        self.mistakes.append(Mistake(line, field, problem))

    # From bytes to rows

    def _decoded(self, content: bytes) -> tuple[str, frozenset[int]]:
        """Return the text, and the lines that are not UTF-8 and so are left out."""
        if content.startswith(_UTF16_BOMS):
            self._mistake(1, None, "the file is UTF-16; save it as UTF-8")
            return "", frozenset()
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

    def _csv_rows(self, text: str, skipped: frozenset[int]) -> Iterator[_Row]:
        header: list[str] | None = None
        for lines, cells in self._records(text):
            if not skipped.isdisjoint(lines) or not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = self._header(lines.start, cells)
            elif len(cells) != len(header):
                self._mistake(lines.start, None, f"has {len(cells)} cells where the header has {len(header)}")
            else:
                filled = ((name, cell) for name, cell in zip(header, cells, strict=True) if cell.strip())
                yield self._row(lines.start, filled, _from_cell, set(_NEEDED_COLUMNS) - set(header))

    def _records(self, text: str) -> Iterator[tuple[range, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        start = 1
        try:
            for cells in reader:
                yield range(start, reader.line_num + 1), cells
                start = reader.line_num + 1
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            self._mistake(start, None, "a quotation mark is not closed" if is_open else f"is not CSV: {error}")

    def _header(self, line: int, cells: list[str]) -> list[str]:
        names = [cell.strip() for cell in cells]
        if len(names) == 1 and ";" in names[0]:
            self._mistake(line, None, "columns are to be separated by commas, not by semicolons")
            return names
        for number, name in enumerate(names):
            if name not in _FIELDS:
                self._mistake(line, name or f"column {number + 1}", _unknown("column", name, _FIELDS))
            elif name in names[:number]:
                self._mistake(line, name, "the column is there twice")
        for name in _NEEDED_COLUMNS:
            if name not in names:
                self._mistake(line, name, "the header row has no such column")
        return names

    def _json_rows(self, text: str, skipped: frozenset[int]) -> Iterator[_Row]:
        for line, content in enumerate(text.split("\n"), start=1):
            if line in skipped or not content.strip():
                continue
            try:
                found = json.loads(content, object_pairs_hook=_Object, parse_constant=_no_constant)
            except (ValueError, RecursionError) as error:
                self._mistake(line, None, f"is not JSON: {getattr(error, 'msg', error)}")
                continue
            if isinstance(found, _Object):
                yield self._row(line, self._known(line, found.pairs), _from_json, set())
            else:
                self._mistake(line, None, "must be one JSON object, such as {…}, on a line of its own")

    def _known(self, line: int, pairs: Sequence[tuple[str, object]]) -> Iterator[tuple[str, object]]:
        seen: set[str] = set()
        for name, value in pairs:
            if name in seen:
                self._mistake(line, name, "is there twice")
            elif name not in _FIELDS:
                self._mistake(line, name or "''", _unknown("field", name, _FIELDS))
            elif value is not None:
                yield name, value
            seen.add(name)

    def _row(
        self,
        line: int,
        given: Iterable[tuple[str, Any]],
        read: Callable[[str, Any], object],
        reported: set[str],
    ) -> _Row:
        values: dict[str, object] = {}
        for name, value in given:
            try:
                values[name] = read(name, value)
            except InputError as error:
                self._mistake(line, name, error.problem)
                reported.add(name)
        return _Row(line, values, frozenset(reported))

    # From rows to operations

    def _take(self, row: _Row) -> None:
        before = len(self.mistakes)
        kind = self._kind(row)
        fields = dict(self._checked(row, kind))
        if kind is not None:
            self._check_missing(row, kind)
            self._check_order(row, kind)
        if kind is None or row.reported or len(self.mistakes) > before:
            return
        try:
            self.entries.append(Entry(row.line, kind(**fields)))
        except InputError as error:
            self._mistake(row.line, error.field, error.problem)

    def _kind(self, row: _Row) -> type[Operation] | None:
        op = row.values.get("op")
        if op is None:
            if "op" not in row.reported:
                self._mistake(row.line, "op", f"is missing: one of {', '.join(_OP_NAMES)}")
            return None
        kind = _KINDS.get(str(op).strip().lower().replace("_", "-"))
        if kind is None:
            self._mistake(row.line, "op", _unknown("operation", op, tuple(_KINDS), shown=_OP_NAMES))
        return kind

    def _checked(self, row: _Row, kind: type[Operation] | None) -> Iterator[tuple[str, Any]]:
        known = _ATTRIBUTES if kind is None else attrs.fields_dict(kind)
        for name, value in row.values.items():
            if name == "op" or name not in _ATTRIBUTES:
                continue
            if kind is not None and name not in known:
                self._mistake(row.line, name, f"{kind.op} takes no {name}")
                continue
            placed = self._directory / value if name == "file" and isinstance(value, str) else value
            if problem := _problem_of(known[name], placed):
                self._mistake(row.line, name, problem)
            yield name, placed

    def _check_missing(self, row: _Row, kind: type[Operation]) -> None:
        given = row.values.keys() | row.reported
        for name, attribute in attrs.fields_dict(kind).items():
            if attribute.default is attrs.NOTHING and name not in given:
                self._mistake(row.line, name, f"is missing: {kind.op} needs it")
        if issubclass(kind, FileOperation):
            sources = given & {"file_url", "file"}
            if not sources:
                self._mistake(row.line, "file_url", f"is missing: {kind.op} needs a file_url or a file")
            elif len(sources) > 1:
                self._mistake(row.line, "file", "give file_url or file, not both")

    def _check_order(self, row: _Row, kind: type[Operation]) -> None:
        name = row.values.get("name")
        if not isinstance(name, str):
            return
        used = self._first_use.setdefault(name, (row.line, kind.op))
        if kind is not CreateFileSegment or used[0] == row.line:
            return
        if used[1] == kind.op:
            self._mistake(row.line, "name", f"is created on line {used[0]} already; names are unique for ever")
        else:
            self._mistake(row.line, "name", f"is used on line {used[0]}, before it is created here")


def _problem_of(attribute: _Attribute, value: object) -> str | None:
    """Return what the model says of one field by itself, without the others."""
    convert: Any = attribute.converter  # a plain function here, whatever the stubs allow besides
    try:
        converted = value if convert is None else convert(value)
        if attribute.validator is not None:
            attribute.validator(None, attribute, converted)
    except InputError as error:
        return error.problem
    return _problem_of_file(converted) if isinstance(converted, Path) else None


def _problem_of_file(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "is not a regular file" if path.exists() else f"there is no file {path.name!r} there"
        with path.open("rb"):
            return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _from_cell(name: str, cell: str) -> object:
    match name:
        case "emails":
            return tuple(address for address in _BETWEEN_ADDRESSES.split(cell) if address)
        case "rows" | "expiry_time":
            if not _INTEGER.fullmatch(cell.strip()):
                raise InputError(f"must be a whole number, not {cell.strip()!r}")
            return int(cell)
        case "name":
            return cell  # a blank at its edge is a mistake that the model names
        case _:
            return cell.strip()


def _from_json(name: str, value: object) -> object:
    if isinstance(value, _Object):
        raise InputError("must not be an object")
    if name == "emails" and not isinstance(value, list):
        raise InputError("must be a list of addresses")
    if name in {"op", "file"} and (not isinstance(value, str) or not value.strip()):
        raise InputError("must be text that is not blank")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _unknown(what: str, name: object, known: Sequence[str], shown: Sequence[str] | None = None) -> str:
    close = difflib.get_close_matches(str(name).strip().lower().replace(" ", "_"), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(shown or known)}"
    return f"no such {what}: {name!r}; {hint}"


def _shown(text: str) -> str:
    """Return a text that may come from the file, on one line and not endless."""
    printable = text if text.isprintable() else repr(text)
    return printable if len(printable) <= _SHOWN_CHARS else f"{printable[:_SHOWN_CHARS]}…"


def _is_json(path: Path, content: bytes) -> bool:
    suffix = path.suffix.lower()
    if suffix in _JSON_SUFFIXES or suffix == ".csv":
        return suffix in _JSON_SUFFIXES
    return content.removeprefix(_UTF8_BOM).lstrip()[:1] == b"{"
