"""Write changes of many tasks together: what came while one transaction was written is the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_segments.memberships.outbox.protocol import Change, Outbox

__all__ = ["GroupWriter"]


class GroupWriter:
    """A writer of changes.

    Args:
        outbox: Where they go.
        now_us: The journal's time, microseconds.
    """

    def __init__(self, outbox: Outbox, now_us: Callable[[], int]) -> None:
        self._outbox, self._now_us = outbox, now_us
        self._waiting: list[tuple[Change, asyncio.Future[int]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, change: Change) -> int:
        """Write one change. It is durable when this returns; a caller that is cancelled may have written it.

        Returns:
            Its number.

        Raises:
            InputError: It is matched against another attribute than its segment; it is not written.
            OutboxError: It may or may not be written.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, future))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return await future

    async def close(self) -> None:
        """Return when everything that was asked for is written."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._write_group(group)
        finally:
            self._writing = None

    async def _write_group(self, group: list[tuple[Change, asyncio.Future[int]]]) -> None:
        try:
            tips = await self._outbox.write([change for change, _ in group], self._now_us())
        except BaseException as error:  # whoever waits is told, whatever it is
            if isinstance(error, InputError) and len(group) > 1:  # of one of them
                for each in group:
                    await self._write_group([each])
                return
            _fail(group, error)
            if not isinstance(error, Exception):
                raise
            return
        for change, future in group:
            if not future.done():
                future.set_result(tips[change.segment])


def _fail(group: Sequence[tuple[Change, asyncio.Future[int]]], error: BaseException) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
