"""Splitting what does not fit a day, and merging neighbours that do."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_segments.core.planning.parts import Neighbour, Part, merged, split
from moe_segments.errors import InputError, QuotaNeverFits
from moe_segments.limits import QuotaLimits

LIMITS = QuotaLimits()


def sizes(op: str, rows: int, limits: QuotaLimits = LIMITS, file_bytes: int = 0) -> list[tuple[str, int]]:
    """The parts, as pairs."""
    return [(part.op, part.rows) for part in split(op, rows, limits, file_bytes=file_bytes)]


@pytest.mark.parametrize("op", ["create", "add", "remove", "replace"])
@pytest.mark.parametrize("rows", [0, 1, 2_000_000])
def test_what_fits_a_day_stays_whole(op: str, rows: int) -> None:
    """One part, of its own kind."""
    assert split(op, rows, LIMITS, file_bytes=150_000_000) == (Part(op=op, rows=rows),)


@pytest.mark.parametrize(
    ("op", "further"), [("create", "add"), ("replace", "add"), ("add", "add"), ("remove", "remove")]
)
def test_what_does_not_fit_a_day_is_continued_by_adds_or_removes(op: str, further: str) -> None:
    """The first part keeps the kind, and every part but the last is a full day."""
    assert sizes(op, 4_500_000) == [(op, 2_000_000), (further, 2_000_000), (further, 500_000)]


def test_headroom_is_left_free() -> None:
    """A day is what this client may use of it."""
    limits = QuotaLimits(headroom={"users_per_day": 500_000})
    assert sizes("add", 2_000_000, limits) == [("add", 1_500_000), ("add", 500_000)]


def test_a_file_that_is_too_large_is_split_by_its_bytes() -> None:
    """In proportion to the users."""
    assert sizes("create", 1_000_000, file_bytes=400_000_000) == [
        ("create", 375_000),
        ("add", 375_000),
        ("add", 250_000),
    ]


def test_what_spends_no_users_is_split_by_its_bytes_alone() -> None:
    """A remove that does not count may be longer than a day."""
    free = attrs.evolve(LIMITS, remove_counts_users=False)
    assert sizes("remove", 4_000_000, free) == [("remove", 4_000_000)]
    assert sizes("remove", 4_000_000, free, file_bytes=300_000_000) == [("remove", 2_000_000)] * 2


@given(st.sampled_from(["create", "add", "remove", "replace"]), st.integers(0, 5_000_000), st.integers(0, 900_000_000))
def test_parts_are_few_and_each_fits(op: str, rows: int, file_bytes: int) -> None:
    """Nothing is lost, no part is empty or too large, and fewer would not do."""
    try:
        parts = split(op, rows, LIMITS, file_bytes=file_bytes)
    except QuotaNeverFits:
        assert file_bytes > rows * LIMITS.file_bytes
        return
    assert sum(part.rows for part in parts) == rows
    most = max(part.rows for part in parts)
    assert most <= LIMITS.users_per_day
    assert len(parts) == 1 or min(part.rows for part in parts) > 0
    if file_bytes > LIMITS.file_bytes:
        assert most * file_bytes <= LIMITS.file_bytes * rows
    assert (len(parts) - 1) * most < max(rows, 1)


@pytest.mark.parametrize("op", ["create", "add", "replace"])
def test_more_users_than_a_segment_holds_are_refused(op: str) -> None:
    """No split helps: several segments do."""
    with pytest.raises(InputError, match=r"rows: 11,000,000 users .* at most 5,000,000: spread them over 3 segments"):
        split(op, 11_000_000, LIMITS)
    assert len(split(op, 5_000_000, LIMITS)) == 3


def test_a_row_larger_than_a_file_is_refused() -> None:
    """It can never be sent."""
    with pytest.raises(QuotaNeverFits, match="file_bytes"):
        split("add", 1, LIMITS, file_bytes=150_000_001)


# Merging


def beside(op: str, chain: str, rows: int | None = 10, file_bytes: int | None = 100, alike: str = "") -> Neighbour:
    """One operation that may be merged."""
    return Neighbour(op=op, chain=chain, rows=rows, file_bytes=file_bytes, alike=alike)


def test_neighbouring_adds_and_neighbouring_removes_on_one_segment_become_one() -> None:
    """Whatever lies between on other segments."""
    lines = [beside(*one) for one in (("add", "a"), ("add", "b"), ("add", "a"), ("remove", "a"), ("remove", "a"))]
    assert merged(lines, LIMITS) == ((0, 2), (1,), (3, 4))


def test_an_operation_between_keeps_its_neighbours_apart() -> None:
    """An add before a remove and an add behind it are not the same as both before it."""
    lines = [beside(op, "a") for op in ("add", "remove", "add", "replace", "add", "add", "create", "create")]
    assert merged(lines, LIMITS) == ((0,), (1,), (2,), (3,), (4, 5), (6,), (7,))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"rows": 1_500_000}, {"rows": 500_001}),
        ({"file_bytes": 100_000_000}, {"file_bytes": 50_000_000}),
        ({"rows": None}, {}),
        ({}, {"rows": None}),
        ({"file_bytes": None}, {}),
        ({"alike": "ID"}, {"alike": "EMAIL"}),
    ],
)
def test_what_does_not_fit_together_is_not_merged(one: dict[str, object], other: dict[str, object]) -> None:
    """Users of a day, bytes of a file with a line feed between, unknown sizes, another attribute."""
    lines = [beside("add", "a", **one), beside("add", "a", **other)]  # type: ignore[arg-type]  # fields by name
    assert merged(lines, LIMITS) == ((0,), (1,))


def test_a_group_that_is_full_is_followed_by_another() -> None:
    """Three of 0.9 million are two operations."""
    assert merged([beside("add", "a", 900_000)] * 3, LIMITS) == ((0, 1), (2,))
