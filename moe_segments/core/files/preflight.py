"""Check a file by all rules: take its blocks as they come, return an exact verdict. Pure: no clock, no I/O.

    check = Preflight(source="users.csv", reread=reread)
    for block in blocks:
        check.feed(block)
    report = check.finish()

Lines are physical and counted from 1; only a line feed ends one. Memory stays bounded whatever the file is: rows longer
than a cap are not kept, and after a cap of rows the rest is counted and not looked at.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from moe_segments.core.files import rules
from moe_segments.core.files.chunks import CHUNK_BYTES, LONGEST_ROW_BYTES, Chunk, Chunker
from moe_segments.core.files.duplicates import DuplicateFinder, Duplicates
from moe_segments.core.files.file_format import HEAD_BYTES, foreign_format
from moe_segments.core.files.report import Finding, PreflightReport, Tally
from moe_segments.core.files.row_scanner import RowScanner
from moe_segments.core.files.shape import FileShape
from moe_segments.limits import DOCUMENTED, USERS_PER_DAY, QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moe_segments.core.files.chunks import LongRow, Reread

__all__ = ["FINDINGS_PER_RULE", "ROWS_CHECKED_MOST", "Finding", "Preflight", "PreflightReport"]

FINDINGS_PER_RULE: Final = 20
ROWS_CHECKED_MOST: Final = 25_000_000
_NONE: Final = Duplicates(lines=(), first=())


class Preflight:
    """A check of one file."""

    def __init__(
        self,
        *,
        reread: Reread | None,
        source: str = "the file",
        attribute_name: str | None = None,
        attribute_type: str = "string",
        strict: bool = False,
        limits: QuotaLimits | None = None,
        findings_per_rule: int = FINDINGS_PER_RULE,
        rows_checked_most: int = ROWS_CHECKED_MOST,
        longest_row_bytes: int = LONGEST_ROW_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Begin a check.

        Args:
            reread: Returns bytes of the source once more, by offset and size; None: duplicates are not sought.
            source: What the report calls the file.
            attribute_name: A row equal to it is a header.
            attribute_type: "double" wants numbers; "string" takes any value.
            strict: Special characters are errors.
            limits: Largest file and users a day; the documented ones by default.
            findings_per_rule: How many findings of each rule are kept; all are counted.
            rows_checked_most: After so many rows the rest is counted and not looked at.
            longest_row_bytes: A row that is longer is told and not looked at.
            chunk_bytes: How many bytes are looked at at a time.
        """
        self._source, self._limits, self._most = source, limits or QuotaLimits(), findings_per_rule
        self._rows_most = rows_checked_most
        self._tally = Tally(findings_per_rule, strict=strict)
        self._scanner = RowScanner(self._tally, attribute_name=attribute_name, is_double=attribute_type == "double")
        self._shape = FileShape(is_double=attribute_type == "double")
        self._chunker = Chunker(chunk_bytes, longest_row_bytes)
        self._chunk_bytes = chunk_bytes
        self._duplicates = None if reread is None else DuplicateFinder(reread)
        self._sha256 = hashlib.sha256()
        self._head = b""
        self._foreign: tuple[str, str] | None = None
        self._rows = self._bytes = self._left_out = 0

    @property
    def file_bytes(self) -> int:
        """Number of bytes taken so far."""
        return self._bytes

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the file, as many as there are."""
        self._sha256.update(block)
        self._bytes += len(block)
        if len(self._head) < HEAD_BYTES:
            self._head += block[: HEAD_BYTES - len(self._head)]
        view = memoryview(block)
        for begin in range(0, len(block), self._chunk_bytes):
            self._take(self._chunker.feed(view[begin : begin + self._chunk_bytes]))

    def finish(self, *, etag: str | None = None, whole: Iterable[tuple[str, str]] = ()) -> PreflightReport:
        """Return the report on all that was taken; called once, at the end.

        Args:
            etag: The entity tag the file was served with.
            whole: What else is to be told of the file: code and message.
        """
        self._take(self._chunker.finish())
        duplicates = _NONE if self._duplicates is None else self._duplicates.finish(self._most)
        for line, row, first_line in duplicates.first:
            self._tally.add(rules.DUPLICATE, line, row, other_line=first_line)
        if more := len(duplicates.lines) - len(duplicates.first):
            self._tally.count(rules.DUPLICATE, more)
        distinct = self._rows - self._left_out - self._tally.counts.get(rules.EMPTY_ROW, 0) - len(duplicates.lines)
        self._whole_file(distinct)
        for found in self._shape.findings():
            if found.code != rules.UNLIKE_FIRST or rules.HEADER not in self._tally.counts:
                self._tally.add(found.code, found.line, found.row, message=found.message)
        for code, message in whole:
            self._tally.add(code, message=message)
        findings = self._tally.findings()
        return PreflightReport(
            source=self._source,
            rows=self._rows,
            distinct_rows=distinct,
            file_bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            etag=etag,
            findings=findings,
            counts={code: self._tally.counts[code] for code in sorted(self._tally.counts)},
        )

    def _take(self, pieces: Iterable[Chunk | LongRow]) -> None:
        for piece in pieces:
            if not self._rows:
                self._begin()
            if not isinstance(piece, Chunk):
                self._take_long(piece)
            elif self._foreign or self._rows >= self._rows_most:
                self._pass_over(piece)
            else:
                self._take_chunk(piece)

    def _begin(self) -> None:
        self._foreign = foreign_format(self._head)

    def _take_chunk(self, chunk: Chunk) -> None:
        first_line = self._rows + 1
        rows = chunk.text[1:-1].split(b"\n")
        self._scanner.scan(chunk.text, rows, first_line)
        if chunk.crlf:
            if chunk.first_crlf is not None:
                self._tally.add(rules.CRLF, first_line + chunk.first_crlf)
            self._tally.count(rules.CRLF, chunk.crlf - (chunk.first_crlf is not None))
        self._shape.add(rows, first_line)
        if self._duplicates is not None:
            self._duplicates.add(chunk, rows, first_line)
        self._rows += len(rows)

    def _pass_over(self, chunk: Chunk) -> None:
        if not self._foreign and rules.ROWS_NOT_CHECKED not in self._tally.counts:
            self._tally.add(rules.ROWS_NOT_CHECKED, self._rows + 1)
        rows = chunk.text.count(b"\n") - 1
        self._rows += rows
        self._left_out += rows

    def _take_long(self, row: LongRow) -> None:
        self._rows += 1
        self._left_out += 1
        if self._foreign:
            return
        if self._rows > self._rows_most:
            return
        self._tally.add(rules.LONG_ROW, self._rows, row.head, message=f"{row.size:,} bytes in one row")
        if b"\r" in row.head:
            self._tally.add(rules.LONE_CR, self._rows, row.head)

    def _whole_file(self, distinct: int) -> None:
        tell = self._tally.add
        if self._foreign:
            tell(self._foreign[0], message=self._foreign[1])
        elif not distinct and not self._left_out:
            tell(rules.EMPTY_FILE)
        if self._chunker.has_bom and not self._foreign:
            tell(rules.BOM)
        if self._chunker.is_open and not self._foreign:
            tell(rules.NO_FINAL_NEWLINE)
        if self._bytes > self._limits.file_bytes:
            tell(rules.TOO_LARGE, message=f"{self._bytes:,} bytes of at most {self._limits.file_bytes:,}")
        a_day = self._limits.users_per_day - self._limits.headroom.get(USERS_PER_DAY, 0)
        if self._rows > a_day:
            tell(rules.TOO_MANY_FOR_A_DAY, message=f"{self._rows:,} rows of at most {a_day:,}")
        a_segment = DOCUMENTED["file_segment_users"].figure
        if self._rows > a_segment:
            tell(rules.TOO_MANY_FOR_A_SEGMENT, message=f"{self._rows:,} rows of at most {a_segment:,}")
