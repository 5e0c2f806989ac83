"""Count on a sliding window with a plain list of moments, oldest first. Pure: `now` comes in, seconds.

What happened at *t* counts until *t* + window, that very moment excluded.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]


class Window:
    """Amounts and the moments they were spent.

    Attributes:
        capacity: The most that may count at a time.
        window_s: How long an amount counts, seconds.
    """

    capacity: int
    window_s: float

    def __init__(self, capacity: int, window_s: float) -> None:
        self.capacity, self.window_s = capacity, window_s
        self._spent: deque[tuple[float, int]] = deque()
        self._used = 0

    @property
    def spent(self) -> tuple[tuple[float, int], ...]:
        """The moments and the amounts that were spent then, oldest first."""
        return tuple(self._spent)

    def used(self, now: float) -> int:
        """Return what counts at *now*. Older amounts are dropped from the left, so each is looked at once."""
        while self._spent and self._spent[0][0] + self.window_s <= now:
            self._used -= self._spent.popleft()[1]
        return self._used

    def fits(self, now: float, amount: int = 1) -> bool:
        """Return whether *amount* more would stay within the capacity."""
        return self.used(now) + amount <= self.capacity

    def spend(self, now: float, amount: int = 1) -> None:
        """Count *amount* from *now* on, whether it fits or not."""
        self._spent.append((now, amount))
        self._used += amount

    def release_s(self, now: float) -> float | None:
        """Seconds until the oldest amount stops counting; None when nothing counts."""
        return self._spent[0][0] + self.window_s - now if self.used(now) else None

    def wait_s(self, now: float) -> float | None:
        """Seconds until one more fits if nothing else is spent; None when it never will."""
        if not self.capacity:
            return None
        over = self.used(now) + 1 - self.capacity
        ready_at = now
        for at, spent in self._spent:
            if over <= 0:
                break
            over -= spent
            ready_at = at + self.window_s
        return ready_at - now
