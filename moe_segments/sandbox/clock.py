"""The sandbox's own clock: wall time that only goes forward, and that can be moved forward."""

from __future__ import annotations

import time

from moe_segments.errors import InputError
from moe_segments.limits import is_finite

__all__ = ["LONGEST_STEP_S", "ForwardClock"]

LONGEST_STEP_S = 10 * 366 * 86_400.0


class ForwardClock:
    """Epoch seconds that never go back, whatever is done to the system's clock."""

    def __init__(self) -> None:
        self._origin_s = time.time() - time.monotonic()
        self._ahead_s = 0.0

    def __call__(self) -> float:
        """Return the moment."""
        return self._origin_s + self._ahead_s + time.monotonic()

    @property
    def ahead_s(self) -> float:
        """The clock's lead over the wall clock, seconds."""
        return self._ahead_s

    def advance(self, seconds: float) -> None:
        """Move it forward.

        Raises:
            InputError: Not a number from 0 to ten years, in all.
        """
        if not is_finite(seconds) or not 0 <= seconds <= LONGEST_STEP_S - self._ahead_s:
            raise InputError("must be a number of seconds from 0, ten years in all at most", "advance_s")
        self._ahead_s += seconds
