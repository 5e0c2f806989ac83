"""Report what a preflight found: findings with line and row, exact counts, the verdict; as text and as data.

Findings hold rows of the file, that is identifiers of users: they are left out of every `repr`, and masked on request.
"""

from __future__ import annotations

from itertools import chain
from pathlib import PurePath
from shlex import quote
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.files.rules import CRLF, HEADER, MENDED, RULES, SPECIAL, SPLIT, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Finding", "PreflightReport", "Tally", "copied_counts", "masked", "shown"]

_ROW_MOST: Final = 120
_SHAPES: Final = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "X" * 26 + "x" * 26 + "9" * 10
)


def copied_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return a copy that later changes of the caller do not reach."""
    return dict(counts)


@attrs.frozen(kw_only=True)
class Finding:
    """A place where a file breaks a rule.

    Attributes:
        code: The rule, a key of `moe_segments.core.files.rules.RULES`.
        severity: "error", "warning" or "note".
        line: Physical line number from 1; None when it is about the whole file.
        other_line: For a duplicate: the line of the value's first occurrence.
        message: What is wrong, one line without any value of the file.
        row: The row as text, cut to 120 characters, bytes that are no UTF-8 escaped; None where it is about the whole
            file. Not in `repr`.
    """

    code: str
    severity: Severity
    line: int | None
    other_line: int | None = None
    message: str
    row: str | None = attrs.field(default=None, repr=False)

    def as_json(self, *, mask: bool = False) -> dict[str, object]:
        """Return the finding as data for `json.dumps`.

        Args:
            mask: Replace letters and digits of the row, so that no identifier is seen.

        Returns:
            The fields.
        """
        row = masked(self.row) if mask and self.row is not None else self.row
        return {
            "code": self.code,
            "severity": self.severity.value,
            "line": self.line,
            "other_line": self.other_line,
            "message": self.message,
            "row": row,
        }


@attrs.frozen(kw_only=True)
class PreflightReport:
    """A report on one file. `ok` is the verdict.

    Attributes:
        source: What was checked: a path, or a URL without its query.
        rows: Physical lines, the empty ones included; what the upload counts at most.
        distinct_rows: Different values, the empty row left out; rows too long or not checked (MOE125) are none.
        file_bytes: Size, bytes.
        sha256: Of the bytes, in hex.
        etag: The entity tag the URL was served with; None otherwise.
        findings: The first findings of each rule, by rule and line; `counts` tells how many there are.
        counts: Rule code to the exact number of rows (or 1 for the whole file) that break it.
    """

    source: str
    rows: int
    distinct_rows: int
    file_bytes: int
    sha256: str
    etag: str | None = None
    findings: tuple[Finding, ...] = ()
    counts: Mapping[str, int] = attrs.field(factory=dict, converter=copied_counts, hash=False)

    @property
    def ok(self) -> bool:
        """True when no finding is an error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that are errors, the first ones of each rule."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are warnings, the first ones of each rule."""
        return self._of(Severity.WARNING)

    @property
    def only_too_large(self) -> bool:
        """Return whether nothing but its size is an error, so that splitting the file is enough."""
        return {finding.code for finding in self.errors} <= SPLIT

    @property
    def can_be_mended(self) -> bool:
        """Return whether cleaning and splitting the file removes every error."""
        return {finding.code for finding in self.errors} <= MENDED | SPLIT

    def fix_command(self, path: str) -> str | None:
        """Return the command that mends what can be mended in a file without guessing; None when nothing can.

        Args:
            path: The file.

        Returns:
            The command line, quoted for a shell.
        """
        broken, file = set(self.counts), PurePath(path)
        fix = f" --fix {quote(str(file.with_suffix('.clean.csv')))}" if broken & MENDED else ""
        split = f" --split {quote(str(file.with_suffix('.parts')))}" if broken & SPLIT else ""
        header = self._header_option() if fix else ""
        return f"moe-segments preflight {quote(path)}{header}{fix}{split}" if fix or split else None

    def as_text(self, *, mask: bool = False) -> str:
        """Return the report for people, several lines.

        Args:
            mask: Replace letters and digits of the rows shown, so that no identifier is seen.

        Returns:
            The verdict, the figures, and a line for each finding.
        """
        return "\n".join(self._lines(mask=mask))

    def as_json(self, *, mask: bool = False) -> dict[str, object]:
        """Return the report as data for `json.dumps`.

        Args:
            mask: Replace letters and digits of the rows, so that no identifier is seen.

        Returns:
            The fields, `ok`, and the findings.
        """
        return {
            "source": self.source,
            "ok": self.ok,
            "rows": self.rows,
            "distinct_rows": self.distinct_rows,
            "file_bytes": self.file_bytes,
            "sha256": self.sha256,
            "etag": self.etag,
            "counts": dict(self.counts),
            "findings": [finding.as_json(mask=mask) for finding in self.findings],
        }

    def without_rows(self) -> PreflightReport:
        """Return the same report without any value of the file, to be kept or sent elsewhere.

        Returns:
            A copy.
        """
        return attrs.evolve(self, findings=tuple(attrs.evolve(finding, row=None) for finding in self.findings))

    def _header_option(self) -> str:
        """Return the option by which a header row is left out of a copy, too; none where the first row is no header."""
        for finding in self.findings:
            if finding.code == HEADER and finding.line == 1 and finding.row is not None:
                name = finding.row.strip(" \t\"'")
                return f" --attribute-name {quote(name)}"
        return ""

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def _lines(self, *, mask: bool) -> Iterator[str]:
        yield f"{self.source}: {self._verdict()}"
        yield f"  {self.rows:,} rows, {self.distinct_rows:,} distinct values, {self.file_bytes:,} bytes"
        yield f"  sha256 {self.sha256}"
        for code, count in self.counts.items():
            told = [finding for finding in self.findings if finding.code == code]
            yield f"  {code} {told[0].severity}: {RULES[code].title}{_places(count, told)}; {RULES[code].help}"
            yield from (line for finding in told if (line := _place(finding, mask=mask)))
            if told[0].line is not None and count > len(told) and code != CRLF:
                yield f"    and {count - len(told):,} more"

    def _verdict(self) -> str:
        numbers = [(severity, len({one.code for one in self._of(severity)})) for severity in Severity]
        said = ", ".join(f"{number} {_plural(severity.value, number)}" for severity, number in numbers if number)
        return f"{'ready' if self.ok else 'not ready'}{f' ({said} by rule)' if said else ''}"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"


def _places(count: int, told: list[Finding]) -> str:
    if told[0].line is None:
        return f" ({told[0].message})" if told[0].message != RULES[told[0].code].title else ""
    return f", {count:,} {_plural('row', count)}"


def _place(finding: Finding, *, mask: bool) -> str:
    if finding.line is None:
        return ""
    other = f" as line {finding.other_line:,}" if finding.other_line is not None else ""
    title = RULES[finding.code].title
    said = f" ({finding.message.removeprefix(title).strip()})" if finding.message != title else ""
    row = f": |{masked(finding.row) if mask else finding.row}|" if finding.row is not None else ""
    return f"    line {finding.line:,}{other}{said}{row}"


def shown(row: bytes) -> str:
    """Return a row as text that a terminal can show: cut, with everything escaped that is not printable."""
    text = row[: 4 * _ROW_MOST].decode("utf-8", "backslashreplace")
    text = "".join(one if one.isprintable() else _escaped(one) for one in text[:_ROW_MOST])
    return text if len(row) <= _ROW_MOST else f"{text[:_ROW_MOST]}…"


def masked(row: str) -> str:
    """Return the shape of a row: letters become x or X, digits 9, everything else that is no ASCII a dot."""
    return "".join(one if one.isascii() or one == "…" else "·" for one in row.translate(_SHAPES))


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


class Tally:
    """Exact counts of each rule, and the first findings of each.

    Attributes:
        counts: Code to the number of rows, or 1 for the whole file.
    """

    def __init__(self, most: int, *, strict: bool) -> None:
        self._most, self._strict = most, strict
        self._findings: dict[str, list[Finding]] = {}
        self.counts: dict[str, int] = {}

    def add(
        self,
        code: str,
        line: int | None = None,
        row: bytes | None = None,
        *,
        message: str | None = None,
        other_line: int | None = None,
    ) -> None:
        """Count one row that breaks a rule, or the whole file; keep the first findings."""
        self.count(code, 1)
        if self.counts[code] > self._most:
            return
        severity = Severity.ERROR if self._strict and code == SPECIAL else RULES[code].severity
        finding = Finding(
            code=code,
            severity=severity,
            line=line,
            other_line=other_line,
            message=message or RULES[code].title,
            row=None if row is None else shown(row),
        )
        self._findings.setdefault(code, []).append(finding)

    def count(self, code: str, rows: int) -> None:
        """Count more rows that break a rule, without a finding for them."""
        self.counts[code] = self.counts.get(code, 0) + rows

    def findings(self) -> tuple[Finding, ...]:
        """Return all that were kept, by code and line."""
        return tuple(chain.from_iterable(sorted(self._findings[code], key=_line) for code in sorted(self._findings)))


def _line(finding: Finding) -> int:
    return finding.line or 0
