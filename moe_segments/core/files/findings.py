"""Exact totals of each rule beside a list of findings that is capped."""

from __future__ import annotations

from itertools import chain

from moe_segments.core.files import rules
from moe_segments.core.files.report import Finding, shown
from moe_segments.core.files.rules import RULES, Severity

__all__ = ["Tally"]


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
        severity = Severity.ERROR if self._strict and code == rules.SPECIAL else RULES[code].severity
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
