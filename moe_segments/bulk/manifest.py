"""Read a manifest: many operations in one CSV or JSON file, checked as a whole.

A mistake found after the first operation was sent would cost a tenth of an hour, so all of them are found before,
each with its physical line (from 1) and its field. Nothing is fetched and no quota is asked here; local files must
be there.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from moe_segments.bulk.cells import KINDS, kind_of
from moe_segments.bulk.rows import RowReader, unknown
from moe_segments.errors import InputError
from moe_segments.models import CreateFileSegment, FileOperation, Operation
from moe_segments.models.urls import path_at_home
from moe_segments.models.validators import doubt_of_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moe_segments.bulk.rows import Row

__all__ = ["Entry", "Manifest", "ManifestError", "Mistake", "read_manifest"]

_log = logging.getLogger("moe_segments.bulk")
_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs keeps of every field

_SHOWN_MISTAKES: Final = 25
_SHOWN_CHARS: Final = 300
_OP_NAMES: Final = tuple(KINDS)
_ATTRIBUTES: Final[Mapping[str, _Attribute]] = {
    name: attribute
    for kind in KINDS.values()
    for name, attribute in attrs.fields_dict(kind).items()
    if name != "values"  # no user's value belongs in a manifest
}
_FIELDS: Final = ("op", *_ATTRIBUTES, "priority")


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

    manifest: str
    mistakes: tuple[Mistake, ...]

    def __init__(self, manifest: str, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(f"{len(mistakes)} mistakes", manifest)
        self.args: tuple[Any, ...] = (manifest, mistakes)
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
        says: What it says, its file's content included, as a digest; None until `with_digests` has read the file.
        priority: How urgent it is, a finite number: with the best order a higher one is never delayed by a lower one.
        merged: The lines after it that were merged into it, see `coalesced`.
    """

    line: int
    operation: Operation
    says: str | None = None
    priority: float = 0
    merged: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class Manifest:
    """A manifest without mistakes.

    Attributes:
        name: The file's name.
        digest: SHA-256 of its bytes, hex: what a bulk run is known by.
        entries: Its operations in order.
        warnings: What is likely to be a mistake, and is let pass; `read_manifest` has logged it.
    """

    name: str
    digest: str
    entries: tuple[Entry, ...] = attrs.field(repr=lambda entries: f"<{len(entries)} operations>")
    warnings: tuple[Mistake, ...] = ()

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations alone, in order."""
        return tuple(entry.operation for entry in self.entries)


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    CSV has a header row with the fields' names, and commas, semicolons, tabs or bars between cells; JSON has one object
    a line, or an array of them. JSON is told by its first character. `file` is relative to the manifest; `~` is the
    home directory. What is written in another way and can mean one thing only is understood, such as `Add Users`,
    `File URL`, `1,000` or `30.0`.

    Args:
        path: The file.

    Returns:
        The manifest, with its operations ready to submit.

    Raises:
        InputError: The file cannot be read.
        ManifestError: It has mistakes: all of them.
    """
    path = path_at_home(path)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no valid path"
        raise InputError(f"the manifest cannot be read: {reason}", str(path)) from None
    reading = _Reading(path.absolute().parent)
    reading.read(content, path.suffix.lower())
    if reading.mistakes:
        raise ManifestError(path.name, tuple(sorted(reading.mistakes, key=lambda mistake: mistake.line)))
    digest = hashlib.sha256(content).hexdigest()
    manifest = Manifest(name=path.name, digest=digest, entries=tuple(reading.entries), warnings=tuple(reading.warnings))
    for warning in manifest.warnings[:_SHOWN_MISTAKES]:
        _log.warning("%s: %s", manifest.name, warning)
    if len(manifest.warnings) > _SHOWN_MISTAKES:
        _log.warning("%s: and %d more such names", manifest.name, len(manifest.warnings) - _SHOWN_MISTAKES)
    return manifest


class _Reading:
    """Collects entries and mistakes while the lines go by."""

    def __init__(self, directory: Path) -> None:
        self.entries: list[Entry] = []
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self._directory = directory
        self._first_use: dict[str, tuple[int, str]] = {}

    def read(self, content: bytes, suffix: str) -> None:
        for row in RowReader(self._mistake, _FIELDS).rows(content, suffix):
            self._take(row)
        if not self.entries and not self.mistakes:
            self._mistake(1, None, "the manifest names no operation")

    def _mistake(self, line: int, field: str | None, problem: str) -> None:
        self.mistakes.append(Mistake(line, field, problem))

    def _take(self, row: Row) -> None:
        before = len(self.mistakes)
        kind = self._kind(row)
        fields = dict(self._checked(row, kind))
        if kind is not None:
            self._check_missing(row, kind)
            self._check_order(row, kind)
        if kind is None or row.reported or len(self.mistakes) > before:
            return
        try:
            urgent = row.values.get("priority", 0.0)
            assert isinstance(urgent, float | int)
            self.entries.append(Entry(row.line, kind(**fields), priority=urgent))
        except InputError as error:
            self._mistake(row.line, error.field, error.problem)
            return
        name = str(fields.get("name"))
        if self._first_use[name][0] == row.line and (doubt := doubt_of_name(name)):  # once for each segment
            self.warnings.append(Mistake(row.line, "name", doubt))

    def _kind(self, row: Row) -> type[Operation] | None:
        op = row.values.get("op")
        if op is None:
            if "op" not in row.reported:
                self._mistake(row.line, "op", f"is missing: one of {', '.join(_OP_NAMES)}")
            return None
        kind = kind_of(str(op))
        if kind is None:
            self._mistake(row.line, "op", unknown("operation", op, _OP_NAMES))
        return kind

    def _checked(self, row: Row, kind: type[Operation] | None) -> Iterator[tuple[str, Any]]:
        known = _ATTRIBUTES if kind is None else attrs.fields_dict(kind)
        for name, value in row.values.items():
            if name == "op" or name not in _ATTRIBUTES:
                continue
            if kind is not None and name not in known:
                self._mistake(row.line, name, f"{kind.op} takes no {name}")
                continue
            placed = self._directory / path_at_home(value) if name == "file" and isinstance(value, str) else value
            if problem := _problem_of_source(name, value) or _problem_of(known[name], placed):
                self._mistake(row.line, name, problem)
            yield name, placed

    def _check_missing(self, row: Row, kind: type[Operation]) -> None:
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

    def _check_order(self, row: Row, kind: type[Operation]) -> None:
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


def _problem_of_source(name: str, value: object) -> str | None:
    """Return that a file is in the column of the other kind of source, or a path in Windows' spelling; None else."""
    if not isinstance(value, str):
        return None
    if name == "file" and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value):
        return "is a URL: give it as file_url, or a path"
    if name == "file" and "\\" in value:
        return "must be a path with / between its parts"
    if name == "file_url" and "://" not in value:
        return "must be a URL, such as https://files.example.com/users.csv; give a local path as file"
    return None


def _problem_of_file(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "is not a regular file" if path.exists() else f"there is no file {path.name!r} there"
        with path.open("rb"):
            return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _shown(text: str) -> str:
    """Return a text that may come from the file, on one line and not endless."""
    printable = text if text.isprintable() else repr(text)
    return printable if len(printable) <= _SHOWN_CHARS else f"{printable[:_SHOWN_CHARS]}…"
