"""The retry policy, cell by cell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_segments.core.state.retry import Again, Ending, ending_of, next_send

LATE_S = 900.0
WRITES = ("create", "create_filter", "add", "remove", "replace", "update_filter")
CHANGES = ("add", "remove", "replace", "update_filter")
LIFECYCLE = ("archive", "unarchive")
READS = ("list", "get")
ALL = WRITES + LIFECYCLE + READS


def step(op: str, ending: Ending, attempts: int = 1) -> Again | None:
    return next_send(op, ending, attempts, count_late_s=LATE_S)


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize(("attempts", "bound_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0)])
def test_what_was_never_sent_is_sent_again_soon(op: str, attempts: int, bound_s: float) -> None:
    """Full jitter: from nothing to a bound that doubles."""
    assert step(op, Ending.NOT_SENT, attempts) == Again(at_least_s=0, jitter_s=bound_s)


@pytest.mark.parametrize("op", ALL)
def test_the_fifth_attempt_is_the_last(op: str) -> None:
    """Whoever cannot connect five times has a problem that a sixth does not solve."""
    assert step(op, Ending.NOT_SENT, 4) is not None
    assert step(op, Ending.NOT_SENT, 5) is None


@given(st.integers(1, 10**9))
def test_the_bound_never_passes_a_minute(attempts: int) -> None:
    """However many attempts are allowed."""
    again = next_send("list", Ending.NOT_SENT, attempts, count_late_s=LATE_S, max_attempts=10**10)

    assert isinstance(again, Again)
    assert again.jitter_s == min(60, 2 ** min(attempts - 1, 6))


@pytest.mark.parametrize("op", ALL)
def test_a_throttled_request_is_never_repeated_by_itself(op: str) -> None:
    """Somebody else spends: another send would only be refused, and counted."""
    assert step(op, Ending.THROTTLED) is None


@pytest.mark.parametrize("op", ALL)
def test_a_refusal_is_final(op: str) -> None:
    """The same request gets the same answer, and each costs quota."""
    assert step(op, Ending.REFUSED) is None


@pytest.mark.parametrize("op", ["create", "create_filter"])
def test_a_doubtful_create_is_never_repeated(op: str) -> None:
    """A name is used up for ever: look for evidence."""
    assert step(op, Ending.MAYBE) is None


@pytest.mark.parametrize("op", CHANGES)
def test_a_doubtful_change_is_not_repeated_by_itself(op: str) -> None:
    """Harmless to the membership, but it spends again."""
    assert step(op, Ending.MAYBE) is None


@pytest.mark.parametrize("op", LIFECYCLE)
def test_a_doubtful_archive_is_repeated_when_the_first_can_no_longer_count(op: str) -> None:
    """Idempotent, but not before D."""
    assert step(op, Ending.MAYBE) == Again(at_least_s=LATE_S, jitter_s=1)


@pytest.mark.parametrize("op", READS)
def test_a_doubtful_read_is_repeated(op: str) -> None:
    """Reading changes nothing."""
    assert step(op, Ending.MAYBE) == Again(at_least_s=0, jitter_s=1)


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (200, None),
        (202, None),
        (307, Ending.REFUSED),
        (400, Ending.REFUSED),
        (401, Ending.REFUSED),
        (409, Ending.REFUSED),
        (429, Ending.THROTTLED),
        (500, Ending.MAYBE),
        (504, Ending.MAYBE),
        (101, Ending.REFUSED),
    ],
)
def test_a_status_tells_how_a_send_ended(status: int, ending: Ending | None) -> None:
    """A gateway's 504 does not know whether the service had it."""
    assert ending_of(status) is ending
