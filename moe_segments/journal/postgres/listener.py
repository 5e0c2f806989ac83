"""Notifications of other handles' appends in PostgreSQL, over a second connection.

It holds `LISTEN` on the log's channel; each append notifies it with its version.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from moe_segments.journal.postgres.connection import connected, cut
from moe_segments.journal.server_engine import Notifications

if TYPE_CHECKING:
    import psycopg

    from moe_segments.journal.notifier import Notifier
    from moe_segments.journal.postgres.url import Target

__all__ = ["Listener"]

_VERSION: Final = re.compile(r"[0-9]{1,18}")


class Listener(Notifications):
    """Hears one channel.

    Args:
        target: Of the server.
        channel: What is listened to, a name without quotation marks.
        notifier: Wakes who waits, for each notification.
    """

    def __init__(self, target: Target, channel: str, notifier: Notifier) -> None:
        super().__init__(notifier)
        self._target, self._channel = target, channel
        self._connection: psycopg.AsyncConnection | None = None

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._connection is not None:
            cut(self._connection)  # the driver would first try to cancel what it waits for
        await super().close()

    async def _hear(self) -> None:
        try:
            async with await connected(self._target) as self._connection:
                timer = asyncio.get_running_loop().call_later(self._target.timeout_s, cut, self._connection)
                try:
                    await self._connection.execute(f'LISTEN "{self._channel}"'.encode())
                finally:
                    timer.cancel()
                self._connected()
                async for news in self._connection.notifies():
                    self._heard(int(news.payload) if _VERSION.fullmatch(news.payload) else 0)
        finally:
            self._connection = None
