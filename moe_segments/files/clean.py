"""Write a cleaned copy of a file of users: what can be mended without guessing is mended, the order stays."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import attrs

from moe_segments.core.files.chunks import CHUNK_BYTES
from moe_segments.core.files.cleaner import Mender
from moe_segments.core.files.file_format import HEAD_BYTES, foreign_format, utf16_codec
from moe_segments.core.files.report import copied_counts
from moe_segments.core.files.rules import RULES, UTF16
from moe_segments.errors import PreflightError
from moe_segments.files.atomic_write import Output, refuse_target, settled
from moe_segments.files.stream import Web, given_source, stream_into
from moe_segments.limits import QuotaLimits
from moe_segments.models.validators import checked_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import aiohttp

    from moe_segments.files.stream import Origin, Source
    from moe_segments.types import FetchPrivate, Values

__all__ = ["CleanReport", "clean_file"]


@attrs.frozen(kw_only=True)
class CleanReport:
    """A report on a cleaned copy.

    Attributes:
        source: What was read: a path, or a URL without its query.
        path: The cleaned copy.
        rows: Rows read, whatever kind of line end they had.
        rows_written: Rows written, each one different from the others.
        file_bytes: Size of the copy, bytes.
        sha256: Of the copy, in hex.
        changes: Rule code to how many rows were mended or left out because of it.
    """

    source: str
    path: Path
    rows: int
    rows_written: int
    file_bytes: int
    sha256: str
    changes: Mapping[str, int] = attrs.field(converter=copied_counts, hash=False)

    def as_text(self) -> str:
        """Return the report for people, several lines.

        Returns:
            The figures, and a line for each rule by which rows were changed.
        """
        head = f"{self.path}: {self.rows_written:,} of {self.rows:,} rows, {self.file_bytes:,} bytes"
        return "\n".join(
            (head, *(f"  {number:,} x {code} {RULES[code].title}" for code, number in self.changes.items()))
        )

    def as_json(self) -> dict[str, object]:
        """Return the report as data for `json.dumps`.

        Returns:
            The fields.
        """
        return {
            "source": self.source,
            "path": str(self.path),
            "rows": self.rows,
            "rows_written": self.rows_written,
            "file_bytes": self.file_bytes,
            "sha256": self.sha256,
            "changes": dict(self.changes),
        }


async def clean_file(
    source: Source | None = None,
    to: Path | str | None = None,
    *,
    values: Values | None = None,
    attribute_name: str | None = None,
    replace: bool = True,
    limits: QuotaLimits | None = None,
    session: aiohttp.ClientSession | None = None,
    timeouts: aiohttp.ClientTimeout | None = None,
    proxy: str | None = None,
    ca_file: Path | None = None,
    fetch_private: FetchPrivate = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> CleanReport:
    """Write a copy of a file as the service takes it: UTF-8 without BOM, LF, trimmed, unquoted, no row twice.

    Rows keep their order. Left out are empty rows, duplicates, rows longer than 4,096 bytes, and a first row equal to
    *attribute_name*. Letter case and composition stay; columns, control characters and bytes that are no UTF-8 too,
    since only the file's owner can tell what they should be: check the copy.

    Args:
        source: A path, as text too; bytes; an async iterator of blocks; or a public URL as text.
        values: The values themselves instead, see `moe_segments.types.Values`.
        to: The copy. It is there whole or not at all, and never in place of the source.
        attribute_name: The attribute the values are matched against.
        replace: Whether a file that exists is replaced by the copy; else that is an error.
        limits: From a URL or an iterator no more than its `file_bytes` is read.
        session: As for `check_file`.
        timeouts: For a URL; by default 10 s to connect, 30 s of silence, an hour in total.
        proxy: For a URL: an HTTP proxy to reach it through.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        fetch_private: As for `check_file`.
        progress: Told how many bytes were read, and of how many where that is known, in any thread.

    Returns:
        What was written and changed.

    Raises:
        PreflightError: The file cannot be read, changed meanwhile, or is compressed or no CSV; or the copy cannot be
            written. There is no copy then.
        InputError: *to* is the source, or exists and *replace* is false.
    """
    source, target = given_source(source, values), checked_path(to, "to")
    refuse_target(source, target, replace=replace)
    web = Web(
        max_bytes=(limits or QuotaLimits()).file_bytes,
        session=session,
        timeouts=timeouts,
        proxy=proxy,
        ca_file=ca_file,
        fetch_private=fetch_private,
    )
    return await stream_into(
        source, lambda origin: _Cleaning(origin, target, attribute_name, replace=replace), web=web, progress=progress
    )


class _Cleaning:
    """A writer of the mended copy, which is written over itself where rows have to go."""

    def __init__(self, origin: Origin, target: Path, attribute_name: str | None, *, replace: bool) -> None:
        self._name, self._target, self._replace = origin.name, target, replace
        self._output = Output(target)
        self._mender = Mender(reread=self._output.reread, attribute_name=attribute_name)
        self._head: bytes | None = b""  # None once it is known what the file is
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        if self._head is not None:
            self._head += block
            if len(self._head) < HEAD_BYTES:
                return
            block = self._begun()
        self._take(block, is_last=False)

    def finish(self) -> CleanReport:
        """Complete the copy and return the report."""
        self._take(b"" if self._head is None else self._begun(), is_last=True)
        for rows in self._mender.finish():
            self._output.write(rows)
        if (kept := self._mender.kept()) is not None:
            self._output.rewrite(kept)
        sha256 = self._output.end()
        self._output.sync()
        self._output.rename(replaces=self._replace)
        settled(self._target.parent)
        return CleanReport(
            source=self._name,
            path=self._target,
            rows=self._mender.rows,
            rows_written=self._mender.rows_kept,
            file_bytes=self._output.file_bytes,
            sha256=sha256,
            changes={code: self._mender.counts[code] for code in sorted(self._mender.counts)},
        )

    def close(self) -> None:
        """Close the copy; remove it if it is not complete."""
        self._output.close()

    def _begun(self) -> bytes:
        assert self._head is not None  # as the callers see to
        head, self._head = self._head, None
        if (codec := utf16_codec(head[:HEAD_BYTES])) is not None:
            self._decoder = codecs.getincrementaldecoder(codec)()
            self._mender.counts[UTF16] = 1
        elif (foreign := foreign_format(head[:HEAD_BYTES])) is not None:
            code, format_name = foreign
            raise PreflightError(self._name, f"is {format_name} and cannot be cleaned: {RULES[code].help}")
        return head

    def _take(self, block: bytes, *, is_last: bool) -> None:
        if self._decoder is not None:
            try:
                block = self._decoder.decode(block, is_last).encode()
            except UnicodeError:
                raise PreflightError(self._name, "is damaged UTF-16: export it as UTF-8") from None
        for begin in range(0, len(block), CHUNK_BYTES):
            for rows in self._mender.feed(block[begin : begin + CHUNK_BYTES]):
                self._output.write(rows)
