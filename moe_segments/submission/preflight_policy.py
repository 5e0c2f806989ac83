"""The preflight policy: what a report means for an operation, in sentences without values of the file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from moe_segments.errors import InputError, PreflightError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moe_segments.core.files.report import Finding, PreflightReport

__all__ = ["Preflight", "broken_rules", "checked_preflight", "doubtful_rules", "enforce", "problem_of_rows"]

Preflight: TypeAlias = Literal["error", "warn", "off"]
_MODES: Final[tuple[Preflight, ...]] = ("error", "warn", "off")
_TOLD_RULES: Final = 3
_log = logging.getLogger("moe_segments.client")


def checked_preflight(value: object) -> Preflight:
    """Return one of the three modes.

    Raises:
        InputError: The value is none of "error", "warn" and "off".
    """
    for mode in _MODES:
        if value == mode:
            return mode
    raise InputError(f"must be 'error', 'warn' or 'off', not {value!r}", "preflight")


def problem_of_rows(declared: int | None, report: PreflightReport) -> str | None:
    """Return what is wrong with the rows that were declared for a file; None when nothing is, or none were."""
    if declared is None or declared >= report.rows:
        return None
    return f"is {declared:,} and the file has {report.rows:,}: give an upper bound, or leave it out to be counted"


def broken_rules(report: PreflightReport) -> tuple[str, ...]:
    """Return the rules that a file breaks, one sentence each."""
    return _sentences(report, report.errors)


def doubtful_rules(report: PreflightReport) -> tuple[str, ...]:
    """Return what is allowed in a file and seldom meant, one sentence each."""
    return _sentences(report, report.warnings)


def enforce(report: PreflightReport, mode: Preflight, *, has_told: bool) -> None:
    """Let a file pass, or not.

    Args:
        report: What was found in it.
        mode: What broken rules do.
        has_told: Somebody has this report already, so that nothing needs to be logged.

    Raises:
        PreflightError: It breaks rules, and that is an error.
    """
    if not report.ok and mode == "error":
        raise PreflightError(report.source, _first_of(broken_rules(report)), report)
    if has_told:
        return
    if not report.ok:
        _log.warning("%s is sent although it breaks rules: %s", report.source, _first_of(broken_rules(report)))
    for sentence in doubtful_rules(report):
        _log.warning("%s: %s", report.source, sentence)


def _sentences(report: PreflightReport, findings: Iterable[Finding]) -> tuple[str, ...]:
    from moe_segments.core.files.rules import RULES  # only once there is something to say

    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.code, finding)
    return tuple(
        f"{code} {finding.message}{_where(finding.line, report.counts[code])}: {RULES[code].help}"
        for code, finding in first.items()
    )


def _where(line: int | None, count: int) -> str:
    if line is None:
        return ""
    return f" (line {line:,})" if count == 1 else f" ({count:,} rows, first on line {line:,})"


def _first_of(sentences: tuple[str, ...]) -> str:
    more = f"; and {len(sentences) - _TOLD_RULES} more" if len(sentences) > _TOLD_RULES else ""
    return "; ".join(sentences[:_TOLD_RULES]) + more
