"""A virtual day of changes: how stale segments get, and what that costs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from moe_segments.testing import run_virtually
from tests.proofs import IS_FULL, say
from tests.proofs.membership_days import BEST_SHARE_S, LAG_BOUND, OPERATIONS, USERS, lived

if TYPE_CHECKING:
    from pathlib import Path

SEGMENTS = 20


@pytest.mark.timeout(1_800)
def test_a_day_of_changes_is_as_fresh_as_the_operations_of_a_day_allow(tmp_path: Path) -> None:
    """Nothing is lost, no quota is passed, and the largest lag is near the best that a hundred operations allow."""
    per_s = 1.0 if IS_FULL else 0.01
    work = partial(lived, tmp_path, segments=SEGMENTS, days=1, every_s=10 if IS_FULL else 1_200, per_s=per_s)
    day = run_virtually(work, in_memory=True)

    say(f"{day.changes:,} changes, {day.operations} operations, {day.users} users, lag {day.largest_lag_s:,.0f} s")
    assert (day.wrong, day.rejections) == (0, 0)
    assert max(day.operations) <= OPERATIONS
    assert max(day.users) <= USERS
    assert day.largest_lag_s <= LAG_BOUND * BEST_SHARE_S * SEGMENTS
