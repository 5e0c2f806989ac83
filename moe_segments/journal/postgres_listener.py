"""A second connection that hears what other clients append, kept while anybody waits for news.

It holds `LISTEN` on the log's channel; each append notifies it with its version. What it does not hear (a network
that swallows, a pooler that cannot listen) the journal's own poll finds. It never raises: a connection that is lost
is made again, with a growing pause, and whoever waits looks once when it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from typing import TYPE_CHECKING, Final

from moe_segments.journal.postgres_session import connected, cut

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from moe_segments.journal.postgres_url import Target

__all__ = ["Listener"]

_PAUSES_S: Final = (0.1, 0.5, 2.0, 10.0)
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_log = logging.getLogger("moe_segments.journal")


class Listener:
    """Hears one channel.

    Args:
        target: Of the server.
        channel: What is listened to, a name without quotation marks.
        heard: Called in the loop with each version that was told, and with 0 when something may have been missed.

    Attributes:
        is_heard: The connection listens, and nothing was missed since something was heard.
    """

    def __init__(self, target: Target, channel: str, heard: Callable[[int], None]) -> None:
        self._target, self._channel, self._heard = target, channel, heard
        self._connection: psycopg.AsyncConnection | None = None
        self._is_closed = self.is_heard = False
        self._task = asyncio.get_running_loop().create_task(self._listen())

    def missed(self) -> None:
        """Rely on looking again: an append was found that was not told of."""
        self.is_heard = False

    async def close(self) -> None:
        """Hear no more. Idempotent."""
        self._is_closed = True
        if self._connection is not None:
            cut(self._connection)  # the driver would first try to call off what it waits for
        else:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        failures = 0
        while not self._is_closed:
            try:
                async with await connected(self._target) as self._connection:
                    await self._begin(self._connection)
                    failures, self.is_heard = 0, True
                    self._heard(0)
                    async for told in self._connection.notifies():
                        self.is_heard = True
                        self._heard(int(told.payload) if _VERSION.fullmatch(told.payload) else 0)
            except Exception as error:  # noqa: BLE001 - looking again finds everything
                # The command connection says what is wrong, to those who can act on it.
                _log.debug("the journal's notifications were lost, listening again: %s", type(error).__name__)
            if self.is_heard:  # who waits looks, now and more often
                self.is_heard = False
                self._heard(0)
            self._connection = None
            pause_s = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
            failures += 1
            await self._pause(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load

    async def _pause(self, pause_s: float) -> None:
        if not self._is_closed:
            await asyncio.sleep(pause_s)

    async def _begin(self, connection: psycopg.AsyncConnection) -> None:
        timer = asyncio.get_running_loop().call_later(self._target.timeout_s, cut, connection)
        try:
            await connection.execute(f'LISTEN "{self._channel}"'.encode())
        finally:
            timer.cancel()
