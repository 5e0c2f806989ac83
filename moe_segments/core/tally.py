"""Exact totals of each rule beside a list of findings that is capped."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from moe_segments.core import rules
from moe_segments.core.report import Finding, shown
from moe_segments.core.rules import RULES, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def room(self, code: str) -> int:
        """How many more findings of a rule are kept."""
        return self._most - len(self._findings.get(code, ()))

    def whole(self, code: str, message: str | None = None, line: int | None = None) -> None:
        """Tell something of the whole file."""
        self.add(code, 1, [(line, None, None)], message)

    def add(
        self,
        code: str,
        number: int,
        places: Iterable[tuple[int | None, bytes | None, int | None]],
        message: str | None = None,
    ) -> None:
        """Tell of *number* rows; *places* are line, row and other line of the first ones, taken while there is room."""
        self.counts[code] = self.counts.get(code, 0) + number
        kept = self._findings.setdefault(code, [])
        for line, row, other in islice(places, self.room(code)):
            kept.append(
                Finding(
                    code=code,
                    severity=self.severity(code),
                    line=line,
                    other_line=other,
                    message=message or RULES[code].title,
                    row=None if row is None else shown(row),
                )
            )

    def severity(self, code: str) -> Severity:
        """What a rule's findings mean here."""
        return Severity.ERROR if self._strict and code == rules.SPECIAL else RULES[code].severity

    def findings(self) -> tuple[Finding, ...]:
        """All that were kept, by code and line."""
        return tuple(chain.from_iterable(sorted(self._findings[code], key=_line) for code in sorted(self._findings)))


def _line(finding: Finding) -> int:
    return finding.line or 0
