"""Measure how stale segments get whose members change all the time.

    python -m benchmarks.membership_day [--segments N] [--days D] [--every S]

Twenty segments, one change a second each, for a virtual day: 1.7 million changes, users who join and users who leave.
The service allows 100 operations and two million users a day. An add and a remove for each of 20 segments are 40
operations, so the best that a day's operations allow is a lag of 9.6 hours: 40 of 100 operations are 9.6 of 24 hours.
The lag of a change ends with the callback that confirms it; the service takes up to ten minutes.

Bounds: no change is lost, at most 100 operations and 2,000,000 users are sent within the day, and the largest lag is at
most 1.1 times the best. The rest of the day is flushed after it, and then the segments have to be exactly what was
asked for. Time is virtual; the stand-in for the service, the journal in memory and the outbox in a file are real.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.verdict import state_fact, state_figure
from moe_segments.testing import run_virtually
from tests.proofs.membership_days import BEST_SHARE_S, LAG_BOUND, OPERATIONS, USERS, Day, lived


def report(day: Day, segments: int) -> bool:
    """Print what was found beside its bounds. Returns whether all are met."""
    best_s = BEST_SHARE_S * segments
    print(f"{day.changes:,} changes were acknowledged; operations a day {day.operations}, users a day {day.users}")
    within = (
        state_fact("no change was lost: every segment has exactly its members", holds=not day.wrong),
        state_fact("the service never answered 429", holds=not day.rejections),
        state_figure("operations of the fullest day", max(day.operations), OPERATIONS, "operations"),
        state_figure("users of the fullest day", max(day.users), USERS, "users"),
        state_figure("the largest lag over the best possible", day.largest_lag_s / best_s, LAG_BOUND, "times"),
        state_figure("the largest lag", day.largest_lag_s / 3_600, LAG_BOUND * best_s / 3_600, "h"),
    )
    return all(within)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--days", type=float, default=1)
    parser.add_argument("--every", type=float, default=10, help="seconds between two changes of each segment's members")
    parser.add_argument("--directory", type=Path, default=None, help="where the outbox is made")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as place:
        work = partial(lived, Path(place), segments=arguments.segments, days=arguments.days, every_s=arguments.every)
        day = run_virtually(work, in_memory=True)
    within = report(day, arguments.segments)
    print(f"took {time.monotonic() - began_s:.0f} s")
    sys.exit(not within)


if __name__ == "__main__":
    main()
