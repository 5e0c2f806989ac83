"""The report of a bulk run: a row for each line, and the exit codes of the command line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.errors import (
    ApiError,
    AuthenticationFailed,
    CallbackTimeout,
    CallbackUnreadable,
    FileProcessingFailed,
    Forbidden,
    InputError,
    JournalAmbiguous,
    JournalError,
    JournalReplaced,
    JournalUnavailable,
    MoeSegmentsError,
    NotSent,
    OutcomeUnknown,
    PreflightError,
    QuotaError,
    TooManyRequests,
)
from moe_segments.models import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from moe_segments.submission.job_info import JobInfo

__all__ = [
    "DONE_BEFORE",
    "EXIT_FAILED",
    "EXIT_INPUT",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_QUOTA",
    "EXIT_UNKNOWN",
    "FORGOTTEN",
    "BulkReport",
    "BulkRow",
    "exit_code_of",
    "merged_row",
    "most_urgent",
    "row_of",
    "whole_of",
]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INPUT: Final = 2
EXIT_QUOTA: Final = 3
EXIT_UNKNOWN: Final = 4
EXIT_REPLACED: Final = 74  # EX_IOERR of sysexits.h
EXIT_UNAVAILABLE: Final = 75  # EX_TEMPFAIL
EXIT_INTERRUPTED: Final = 130

# Which of several lines' codes a run ends with: look first, then mend, then wait, then read.
_MOST_URGENT_FIRST: Final = (EXIT_UNKNOWN, EXIT_REPLACED, EXIT_UNAVAILABLE, EXIT_INPUT, EXIT_QUOTA, EXIT_FAILED)
_EXIT_OF_ERRORS: Final[tuple[tuple[tuple[type[Exception], ...], int], ...]] = (
    ((JournalReplaced,), EXIT_REPLACED),
    ((JournalUnavailable, JournalAmbiguous), EXIT_UNAVAILABLE),
    ((InputError, PreflightError, JournalError, AuthenticationFailed, Forbidden), EXIT_INPUT),
    ((QuotaError, TooManyRequests), EXIT_QUOTA),
    ((OutcomeUnknown, CallbackTimeout, CallbackUnreadable), EXIT_UNKNOWN),
)
_EXIT_OF_STATES: Final[Mapping[str, int]] = {
    JobState.PROCESSED: EXIT_OK,
    JobState.ACCEPTED: EXIT_OK,
    JobState.PLANNED: EXIT_FAILED,
    JobState.FAILED: EXIT_FAILED,
    JobState.REFUSED: EXIT_FAILED,
    JobState.NOT_SENT: EXIT_FAILED,
    JobState.UNREADABLE: EXIT_UNKNOWN,
}
DONE_BEFORE: Final = "done before"
FORGOTTEN: Final = "ended"  # the state of a job that ended so long ago that the journal dropped it


def exit_code_of(error: BaseException) -> int:
    """Return the command line's exit code for an error: 2 bad input, 3 a quota, 4 outcome unknown, 1 anything else.

    Args:
        error: What was raised.

    Returns:
        The code.
    """
    return next((code for kinds, code in _EXIT_OF_ERRORS if isinstance(error, kinds)), EXIT_FAILED)


def most_urgent(codes: Iterable[int]) -> int:
    """Return which of several lines' exit codes a run ends with."""
    given = set(codes)
    return next((code for code in _MOST_URGENT_FIRST if code in given), EXIT_OK)


@attrs.frozen(kw_only=True)
class BulkRow:
    """The result of one line.

    Attributes:
        line: Its line in the manifest.
        op: The operation.
        name: The segment.
        job_id: Its job.
        state: One of `JobState`, or "ended" when the journal has dropped it meanwhile.
        rows: Rows that the preflight counted; None where it did not run.
        distinct_rows: Different values among them.
        found: Rows the service found in the file; None where no callback said so.
        processed: Usable values among them.
        matched: Users of the workspace among those.
        warning: Where rows were lost on the way; None when none were.
        error: Why it did not end well; None when it did.
        done_before: It was done before this call: by an earlier run of this manifest, or of what it was edited from.
        exit_code: What this line alone would have ended the command with.
        parts: In how many operations it was sent: more than one where it was too large for a day or a file. The figures
            are their sums; state and error are those of the first part that is not processed.
        merged_into: The line that it was merged into, which has the figures of both; None for one that was not merged.
    """

    line: int
    op: str
    name: str
    job_id: str
    state: str
    rows: int | None = None
    distinct_rows: int | None = None
    found: int | None = None
    processed: int | None = None
    matched: int | None = None
    warning: str | None = None
    error: str | None = None
    done_before: bool = False
    exit_code: int = EXIT_OK
    parts: int = 1
    merged_into: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the row as JSON-ready data.

        Returns:
            The fields.
        """
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class BulkReport:
    """The result of a manifest.

    Attributes:
        run: The run's identifier.
        manifest: The file's name.
        rows: One for each line, in order.
        elapsed_s: How long this call took, seconds.
        already_finished: Every line was done before this call, or can never be, so nothing was sent.
        interrupted: It was stopped; the same call goes on.
    """

    run: str
    manifest: str
    rows: tuple[BulkRow, ...] = attrs.field(repr=lambda rows: f"<{len(rows)} rows>")
    elapsed_s: float
    already_finished: bool = False
    interrupted: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many lines were done before, and how many others are in each state."""
        return Counter(DONE_BEFORE if row.done_before else row.state for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 all processed or accepted, now or before; 130 interrupted; else the most urgent of the rows'."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        return most_urgent(row.exit_code for row in self.rows)

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON-ready data.

        Returns:
            The figures of the whole, and the rows.
        """
        return {
            "run": self.run,
            "manifest": self.manifest,
            "exit_code": self.exit_code,
            "already_finished": self.already_finished,
            "interrupted": self.interrupted,
            "elapsed_s": round(self.elapsed_s, 3),
            "counts": dict(self.counts),
            "rows": [row.to_json() for row in self.rows],
        }


def row_of(info: JobInfo, error: Exception | None = None) -> BulkRow:
    """Return one job as a row, from what the journal knows of it and from what its caller was told."""
    figures = info.figures
    code = exit_code_of(error) if error else _EXIT_OF_STATES.get(info.state, EXIT_UNKNOWN)
    return BulkRow(
        line=info.line or 0,
        op=info.op,
        name=str(info.segment or info.cs_id),
        job_id=info.id,
        state=info.state,
        rows=figures.rows,
        distinct_rows=figures.distinct_rows,
        found=figures.found,
        processed=figures.processed,
        matched=figures.matched,
        warning="; ".join(figures.warnings) or None,
        error=str(error) if error else _problem_of(info.error),
        exit_code=code,
    )


def whole_of(rows: Sequence[BulkRow]) -> BulkRow:
    """Return the row of a line from those of its parts."""
    told = next((row for row in rows if row.error or row.state != JobState.PROCESSED), rows[-1])
    return attrs.evolve(
        told,
        op=rows[0].op,
        job_id=rows[0].job_id,
        parts=len(rows),
        exit_code=most_urgent(row.exit_code for row in rows),
        warning="; ".join(row.warning for row in rows if row.warning) or None,
        rows=_sum(row.rows for row in rows),
        distinct_rows=_sum(row.distinct_rows for row in rows),
        found=_sum(row.found for row in rows),
        processed=_sum(row.processed for row in rows),
        matched=_sum(row.matched for row in rows),
    )


def merged_row(row: BulkRow, line: int) -> BulkRow:
    """Return the row of a line that was merged into that of *row*."""
    return BulkRow(
        line=line,
        op=row.op,
        name=row.name,
        job_id=row.job_id,
        state=row.state,
        error=row.error,
        done_before=row.done_before,
        exit_code=row.exit_code,
        merged_into=row.line,
    )


def _sum(figures: Iterable[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _problem_of(error: MoeSegmentsError | None) -> str | None:  # noqa: PLR0911 - one a kind
    """Return why a job did not end well, as a row has room for it."""
    match error:
        case None:
            return None
        case FileProcessingFailed():
            return error.error_message
        case ApiError():
            told = ": ".join(text for text in (error.title, error.description) if text)
            return f"HTTP {error.status} {told}".rstrip()
        case OutcomeUnknown():
            return ": ".join(text for text in (error.reason, error.title, error.description) if text)
        case CallbackUnreadable():
            return f"a callback came that cannot be read ({error.reason})"
        case NotSent():
            return error.reason
        case _:
            return str(error)
