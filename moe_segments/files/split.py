"""Cut a file of users into parts that each fit the documented limits; the rows stay as they are, in their order."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from moe_segments.core.files.file_format import HEAD_BYTES, foreign_format
from moe_segments.core.files.rules import RULES
from moe_segments.core.files.splitter import Cutter, RowTooLong
from moe_segments.errors import InputError, PreflightError
from moe_segments.files.atomic_write import Output, settled
from moe_segments.files.stream import Web, given_source, stream_into
from moe_segments.limits import DOCUMENTED, USERS_PER_DAY, QuotaLimits, is_whole
from moe_segments.models.validators import checked_path

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from moe_segments.files.stream import Origin, Source
    from moe_segments.types import FetchPrivate, Values

__all__ = ["Part", "SplitReport", "split_file"]

_STEM: Final = "part"
_SUFFIX: Final = ".csv"
_PARTS_MOST: Final = 999
_DIGITS: Final = 3


@attrs.frozen(kw_only=True)
class Part:
    """A part of a file.

    Attributes:
        path: Where it is.
        rows: How many rows it has.
        file_bytes: Its size, bytes.
        sha256: Of its bytes, in hex.
    """

    path: Path
    rows: int
    file_bytes: int
    sha256: str

    def as_json(self) -> dict[str, object]:
        """Return the part as data for `json.dumps`."""
        return {"path": str(self.path), "rows": self.rows, "file_bytes": self.file_bytes, "sha256": self.sha256}


@attrs.frozen(kw_only=True)
class SplitReport:
    """A report on the parts of a file.

    Attributes:
        source: What was read: a path, or a URL without its query.
        parts: The parts, in the order of the file.
        max_rows: Most rows of a part.
        max_bytes: Largest part, bytes.
        bom_removed: The file began with a byte order mark, which is in no part.
        newline_added: The last row had no line feed, and has one now.
    """

    source: str
    parts: tuple[Part, ...]
    max_rows: int
    max_bytes: int
    bom_removed: bool = False
    newline_added: bool = False

    @property
    def rows(self) -> int:
        """Number of rows of all parts."""
        return sum(part.rows for part in self.parts)

    def as_text(self) -> str:
        """Return the report for people, several lines.

        Returns:
            The figures, and a line for each part.
        """
        number = f"{len(self.parts)} part{'' if len(self.parts) == 1 else 's'}"
        head = f"{self.source}: {number} of at most {self.max_rows:,} rows and {self.max_bytes:,} bytes"
        changes = [
            *(["  the byte order mark was left out"] if self.bom_removed else []),
            *(["  a newline was added at the end"] if self.newline_added else []),
        ]
        parts = (f"  {part.path}: {part.rows:,} rows, {part.file_bytes:,} bytes" for part in self.parts)
        return "\n".join((head, *changes, *parts))

    def as_json(self) -> dict[str, object]:
        """Return the report as data for `json.dumps`.

        Returns:
            The fields, and the parts.
        """
        return {
            "source": self.source,
            "rows": self.rows,
            "max_rows": self.max_rows,
            "max_bytes": self.max_bytes,
            "bom_removed": self.bom_removed,
            "newline_added": self.newline_added,
            "parts": [part.as_json() for part in self.parts],
        }


async def split_file(
    source: Source | None = None,
    directory: Path | str | None = None,
    *,
    values: Values | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    limits: QuotaLimits | None = None,
    session: aiohttp.ClientSession | None = None,
    timeouts: aiohttp.ClientTimeout | None = None,
    proxy: str | None = None,
    ca_file: Path | None = None,
    fetch_private: FetchPrivate = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> SplitReport:
    """Cut a file into parts, each with whole rows, each within the limits.

    Rows are not looked at: clean the file first. The parts are `STEM-001.csv` and so on, after the file's own name.
    They are there all or none.

    Args:
        source: A path, as text too; bytes; an async iterator of blocks; or a public URL as text.
        values: The values themselves instead, see `moe_segments.types.Values`.
        directory: Where the parts go; made when it is not there. It may hold no part of this name from before.
        max_rows: Most rows of a part; by default what a day and a segment take.
        max_bytes: Largest part; by default the largest file.
        limits: The limits that the defaults come from. From a URL or an iterator no more than its `file_bytes` is read.
        session: As for `check_file`.
        timeouts: For a URL; by default 10 s to connect, 30 s of silence, an hour in total.
        proxy: For a URL: an HTTP proxy to reach it through.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        fetch_private: As for `check_file`.
        progress: Told how many bytes were read, and of how many where that is known, in any thread.

    Returns:
        The parts; none for an empty file.

    Raises:
        PreflightError: The file cannot be read, changed meanwhile, is no CSV, or has a row that fits into no part; or a
            part cannot be written. There is no part then.
        InputError: An argument is out of range, or there are parts from before.
    """
    limits = limits or QuotaLimits()
    a_day = limits.users_per_day - limits.headroom.get(USERS_PER_DAY, 0)
    max_rows = min(a_day, DOCUMENTED["file_segment_users"].figure) if max_rows is None else max_rows
    max_bytes = limits.file_bytes if max_bytes is None else max_bytes
    for field, value in (("max_rows", max_rows), ("max_bytes", max_bytes)):
        if not is_whole(value, 1):
            raise InputError(f"must be a whole number from 1, not {value!r}", field)
    source = given_source(source, values)
    names = _Names(checked_path(directory, "directory"), source)
    names.prepare()
    web = Web(
        max_bytes=limits.file_bytes,
        session=session,
        timeouts=timeouts,
        proxy=proxy,
        ca_file=ca_file,
        fetch_private=fetch_private,
    )
    return await stream_into(
        source, lambda origin: _Splitting(origin, names, max_rows, max_bytes), web=web, progress=progress
    )


class _Names:
    """Names of the parts."""

    def __init__(self, directory: Path, source: Source) -> None:
        name = ""
        if isinstance(source, Path):
            name = source.name
        elif isinstance(source, str):
            with contextlib.suppress(ValueError):
                name = PurePosixPath(urlsplit(source).path).name
        self._stem = "".join(one if one.isalnum() or one in "-_." else "_" for one in Path(name).stem)[:100] or _STEM
        self._suffix = Path(name).suffix if Path(name).suffix.isascii() and Path(name).suffix[1:].isalnum() else _SUFFIX
        self.directory = directory

    def of(self, number: int) -> Path:
        """Return the path of part *number*, from 0."""
        return self.directory / f"{self._stem}-{number + 1:0{_DIGITS}}{self._suffix}"

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            InputError: It cannot be made, or holds parts of the same name.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            there = sorted(self.directory.iterdir())
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(f"{self.directory} cannot be used: {problem}", "directory") from None
        before = [path for path in there if self._is_part(path)]
        if before:
            raise InputError(
                f"{before[0]} is there from before, and would be taken for a part: move it away",
                "directory",
            )

    def _is_part(self, path: Path) -> bool:
        number = path.stem.removeprefix(f"{self._stem}-")
        is_number = path.stem != number and number.isdecimal() and len(number) == _DIGITS
        return path.suffix == self._suffix and is_number


class _Splitting:
    """A writer of the parts."""

    def __init__(self, origin: Origin, names: _Names, max_rows: int, max_bytes: int) -> None:
        self._name, self._names = origin.name, names
        self._cutter = Cutter(max_rows, max_bytes)
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._outputs: list[Output] = []
        self._parts: list[Part] = []
        self._rows = 0
        self._head = b""

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        if len(self._head) < HEAD_BYTES:
            self._head += block[: HEAD_BYTES - len(self._head)]
        try:
            for number, data, rows in self._cutter.feed(block):
                self._write(number, data, rows)
        except RowTooLong:
            raise PreflightError(self._name, "has a row that fits into no part: are the line ends missing?") from None

    def finish(self) -> SplitReport:
        """Complete the parts and return the report."""
        try:
            for number, data, rows in self._cutter.finish():
                self._write(number, data, rows)
        except RowTooLong:
            raise PreflightError(self._name, "has a row that fits into no part: are the line ends missing?") from None
        self._end_part()
        for output in self._outputs:
            output.sync()
        self._rename_all()
        settled(self._names.directory)
        return SplitReport(
            source=self._name,
            parts=tuple(self._parts),
            max_rows=self._max_rows,
            max_bytes=self._max_bytes,
            bom_removed=self._cutter.has_bom,
            newline_added=self._cutter.is_open,
        )

    def close(self) -> None:
        """Close the parts; remove them if they are not complete."""
        for output in self._outputs:
            output.close()

    def _rename_all(self) -> None:
        named = []
        try:
            for output in self._outputs:
                output.rename(replaces=False)
                named.append(output.path)
        except PreflightError:
            for path in named:  # these are ours: none of the names was there before
                path.unlink(missing_ok=True)
            raise

    def _write(self, number: int, data: bytes, rows: int) -> None:
        if not self._outputs:
            self._check_format()
        if number >= len(self._outputs):
            self._end_part()
            if number >= _PARTS_MOST:
                raise PreflightError(self._name, f"would be more than {_PARTS_MOST:,} parts: allow more rows a part")
            self._outputs.append(Output(self._names.of(number)))
        self._outputs[-1].write(data)
        self._rows += rows

    def _end_part(self) -> None:
        if len(self._parts) < len(self._outputs):
            output = self._outputs[-1]
            sha256 = output.end()
            self._parts.append(Part(path=output.path, rows=self._rows, file_bytes=output.file_bytes, sha256=sha256))
            self._rows = 0

    def _check_format(self) -> None:
        if (foreign := foreign_format(self._head)) is not None:
            code, format_name = foreign
            raise PreflightError(self._name, f"is {format_name} and cannot be split: {RULES[code].help}")
