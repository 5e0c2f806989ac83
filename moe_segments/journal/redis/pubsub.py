"""Notifications of other handles' appends in Redis, over a second connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.journal.server_engine import Notifications

if TYPE_CHECKING:
    from moe_segments.journal.notifier import Notifier
    from moe_segments.journal.redis.connection import Link

__all__ = ["News"]

_SILENCE_S: Final = 15.0  # then the connection is asked whether it is there


class News(Notifications):
    """The subscription of one journal.

    Args:
        link: The way to the server.
        channel: What is published there: versions.
        notifier: Wakes who waits, for each.
    """

    def __init__(self, link: Link, channel: bytes, notifier: Notifier) -> None:
        super().__init__(notifier)
        self._link, self._channel = link, channel

    async def _hear(self) -> None:
        """Notify of each version, until the connection ends or two silences follow one another."""
        async with self._link.subscription(self._channel) as subscription:
            self._connected()
            asked = False
            while True:
                message = await subscription.get_message(timeout=_SILENCE_S)
                if message is None and asked:
                    return
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    self._heard(int(message["data"]))
                asked = message is None
