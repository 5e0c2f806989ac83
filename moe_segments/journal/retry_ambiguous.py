"""Retry an append whose answer was lost, with the same batch id, for a bounded time.

An engine that cannot tell whether it wrote raises `JournalAmbiguous`; one that cannot reach its server for now,
`JournalUnavailable`. Asking again with the same batch id is safe, since a batch is appended once whatever happens, and
the answer tells. Meanwhile nothing is granted; what stays unknown is raised, and whatever was written then counts until
its lease.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from typing import TYPE_CHECKING, Final, TypeVar

from moe_segments.errors import JournalAmbiguous, JournalError, JournalUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["held", "retry_ambiguous"]

T = TypeVar("T")

# Below the send fence, so that what is granted after all may still start.
_FOR_S: Final = 15.0
_PAUSES_S: Final = (0.0, 0.05, 0.2, 0.5, 1.0)  # the last one goes on
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_log = logging.getLogger("moe_segments.journal")


async def held(attempt: Callable[[], Awaitable[T]], until_s: float) -> T:
    """Return what *attempt* returns; repeat it with a growing pause while the server cannot be reached.

    Args:
        attempt: Asks nothing of the server before it is connected, so that it can be repeated.
        until_s: The moment of the last repetition, on the loop's clock.

    Raises:
        JournalUnavailable: The server could not be reached until then.
    """
    time, pause_s = asyncio.get_running_loop().time, _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except JournalUnavailable:
            if time() + pause_s > until_s:
                raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def retry_ambiguous(call: Callable[[], Awaitable[T]], warn: Callable[[str], None] = _log.warning) -> T:
    """Return what *call* returns, made again with a growing pause while its outcome is unknown, for 15 seconds.

    Args:
        call: One call to an engine, with the same batch id each time.
        warn: Logs that it is asked again.

    Raises:
        JournalAmbiguous: It is still unknown whether anything was written.
        JournalError: The first call wrote nothing; or the journal has become unusable meanwhile.
    """
    try:
        return await call()
    except JournalAmbiguous as error:
        warn(f"asking the journal again whether this was written: {error}")
        doubt = error.problem  # the words are those of a call that may have written
        last: JournalError = error
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _FOR_S
    for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1])):
        if loop.time() + pause_s > until_s:
            break
        await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load
        try:
            return await call()
        except JournalAmbiguous as error:
            doubt, last = error.problem, error
        except JournalUnavailable as error:  # that it wrote nothing, it says of this call, and not of the first
            last = error
    raise JournalAmbiguous(doubt) from last
