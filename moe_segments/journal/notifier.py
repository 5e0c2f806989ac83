"""A notifier for the tasks of one loop: each waiter is woken by the next notification."""

from __future__ import annotations

import asyncio
import math

__all__ = ["Notifier"]


class Notifier:
    """Wakes every task that waits, at once; nothing is remembered for those who come later."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[bool], None] = {}  # in the order they came

    def notify(self) -> None:
        """Wake everybody who waits. Call it in the loop's thread."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            # A loop that died with a waiter left it here; a test's second loop must not stumble over it.
            if not waiter.get_loop().is_closed():
                _answer(waiter, notified=True)

    async def wait(self, timeout_s: float) -> bool:
        """Wait for the next notification, at most *timeout_s* seconds. False when the time passed."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters[waiter] = None
        timer = None if timeout_s == math.inf else loop.call_later(timeout_s, _answer, waiter)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._waiters.pop(waiter, None)


def _answer(waiter: asyncio.Future[bool], *, notified: bool = False) -> None:
    if not waiter.done():
        waiter.set_result(notified)
