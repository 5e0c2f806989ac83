"""What the server tells of other handles' appends, over a connection of its own. A hint, never proof.

The connection is made when somebody first waits and made again when it breaks; whatever was published meanwhile is
found by the look that every ring of the bell leads to.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

    from moe_segments.journal.bell import Bell
    from moe_segments.journal.redis_link import Link

__all__ = ["News"]

_SILENCE_S: Final = 15.0  # then the connection is asked whether it is there
_PAUSE_S: Final = 0.5
_log = logging.getLogger("moe_segments.journal")


class News:
    """The subscription of one journal.

    Args:
        link: The way to the server.
        channel: What is published there: versions.
        bell: Rung for each.

    Attributes:
        told: The last version that was told; what was read since corrects it.
        are_heard: The subscription stands, and nothing was missed since something was heard.
    """

    def __init__(self, link: Link, channel: bytes, bell: Bell) -> None:
        self.told, self.are_heard = 0, False
        self._link, self._channel, self._bell = link, channel, bell
        self._listening: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Listen from now on. Idempotent."""
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    def missed(self) -> None:
        """Rely on looking again: an append was found that was not told of."""
        self.are_heard = False

    async def close(self) -> None:
        """Listen no more. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._link.subscription(self._channel) as subscription:
                    self.are_heard = True
                    self._bell.ring()
                    await self._hear(subscription)
            except Exception as error:  # noqa: BLE001 - looking again finds everything
                _log.debug("no news of the journal for a moment, looking for them: %s", error)
            if self.are_heard:
                self.are_heard = False
                self._bell.ring()
            await asyncio.sleep(_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

    async def _hear(self, subscription: PubSub) -> None:
        """Ring for each version, until the connection ends or two silences follow one another."""
        asked = False
        while True:
            message = await subscription.get_message(timeout=_SILENCE_S)
            if message is None and asked:
                return
            if message is None:
                await subscription.ping()
            elif message["type"] == "message":
                self.told, self.are_heard = max(self.told, int(message["data"])), True
                self._bell.ring()
            asked = message is None
