"""Where the rows of a file were lost between the disk and the segment, in figures and in sentences."""

from __future__ import annotations

import pytest

from moe_segments.core.state.jobs import JobRecord
from moe_segments.core.state.row_counts import FileFigures, figures_of
from moe_segments.models import JobState

CHECKED = {"rows": 12, "distinct_rows": 10}
TOLD = {"values_found": 10, "values_processed": 9, "user_count": 7}


def figures(checked: object = None, told: dict[str, object] | None = None) -> FileFigures:
    operation = {"op": "add"} if checked is None else {"op": "add", "checked": checked}
    return figures_of(JobRecord("j", operation, JobState.PROCESSED, 0, result=told))


def test_what_the_preflight_counted_and_the_callback_told_is_put_together() -> None:
    """A number is None where its step was not taken, or where something else stands in its place."""
    assert figures(CHECKED, dict(TOLD)) == FileFigures(rows=12, distinct_rows=10, found=10, processed=9, matched=7)
    assert figures() == FileFigures()
    assert figures("later", {"values_found": "10", "user_count": None}) == FileFigures()


@pytest.mark.parametrize(
    ("distinct_rows", "found", "processed", "lost"),
    [
        (10, 8, 7, 3),
        (10, 12, 10, 0),
        (10, 12, 11, 0),
        (None, 8, 7, 1),
        (0, 8, 7, 0),
        (10, None, None, None),
        (10, 8, None, None),
        (None, None, 7, None),
    ],
)
def test_lost_is_what_was_in_the_file_and_not_used(
    distinct_rows: int | None, found: int | None, processed: int | None, lost: int | None
) -> None:
    """Against the values that were checked, or else those that the service found; never fewer than none."""
    assert FileFigures(distinct_rows=distinct_rows, found=found, processed=processed).lost == lost


def test_figures_are_told_apart_by_their_names() -> None:
    """Five numbers in a row are too easily exchanged."""
    with pytest.raises(TypeError):
        FileFigures(12, 10)  # type: ignore[call-arg]  # what is to be refused


def warnings(
    rows: int | None, distinct_rows: int | None, found: int | None, processed: int | None, matched: int | None
) -> list[str]:
    """The beginning of each warning."""
    told = FileFigures(rows=rows, distinct_rows=distinct_rows, found=found, processed=processed, matched=matched)
    return [warning.split(":")[0] for warning in told.warnings]


FOUND = "the service found 1,200 rows where "
USED = "the service could use 999 of "


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((1_300, 1_200, 1_200, 1_200, 600), []),
        ((1_300, 1_250, 1_200, 1_200, 600), [f"{FOUND}1,250 different ones were checked"]),
        ((1_200, 1_000, 1_200, 1_000, 500), []),
        ((1_199, 1_000, 1_200, 1_000, 500), [f"{FOUND}1,199 were checked"]),
        ((None, 1_250, 1_200, 1_200, 600), []),
        ((1_300, None, 1_200, 1_200, 600), []),
        ((1_300, 1_000, 1_200, 999, 600), [f"{USED}1,000 different values"]),
        ((None, None, 1_200, 999, 600), [f"{USED}1,200 different values"]),
        ((None, 1_300, 1_200, 999, 600), [f"{USED}1,200 different values"]),
        ((None, None, 1_200, 1_201, 601), []),
        ((None, None, 1_200, 1_200, 599), ["only 599 of 1,200 values are users of the workspace"]),
        ((None, None, 1_200, 1_200, 1), ["only 1 of 1,200 values are users of the workspace"]),
        ((None, None, 1_200, 1_200, 0), ["none of 1,200 values are users of the workspace"]),
        ((None, None, 1, 1, 0), ["none of 1 values are users of the workspace"]),
        ((0, 0, 0, 0, 0), []),
        ((1_300, 1_250, None, 999, 0), []),
        ((1_300, 1_250, 1_200, None, 0), []),
        ((1_300, 1_250, 1_200, 999, None), []),
    ],
)
def test_each_step_at_which_rows_were_lost_is_told_by_itself(
    numbers: tuple[int | None, int | None, int | None, int | None, int | None], told: list[str]
) -> None:
    """Nothing is told before all three numbers of the callback are there."""
    assert warnings(*numbers) == told
