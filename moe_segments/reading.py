"""Ask the service for segments. A read changes nothing, so it is repeated where no answer came."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, TypeVar

from moe_segments.core.events import KeyAccepted
from moe_segments.core.retry import Again, Ending, ending_of, next_step
from moe_segments.core.wire import decode_segments, encode_get, encode_list, error_from, throttle_facts
from moe_segments.core.wire_filters import decode_got
from moe_segments.errors import MoeSegmentsError, NotSent, ServerError
from moe_segments.transport import Delivery, Maybe, Replied, Unsent

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.core.wire import Answer, Request
    from moe_segments.journal.follower import Follower
    from moe_segments.models import Credentials, Segment
    from moe_segments.settings import Settings
    from moe_segments.transport import Transport

__all__ = ["Reader"]

T = TypeVar("T")


class Reader:
    """Reads for one client."""

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        *,
        follower: Follower,
        transport: Transport,
        key_fingerprint: Callable[[], str],
    ) -> None:
        self._credentials, self._settings = credentials, settings
        self._follower, self._transport = follower, transport
        self._key_fingerprint = key_fingerprint

    async def list_segments(self, name: str | None) -> tuple[Segment, ...]:
        """Segments named exactly *name*, or all that the service lists."""
        return await self._read("list", encode_list(name, credentials=self._credentials), decode_segments)

    async def get_segment(self, cs_id: str) -> Segment:
        """The segment of this identifier."""
        request = encode_get(cs_id, credentials=self._credentials)
        return await self._read("get", request, lambda answer: decode_got(answer, cs_id))

    async def _read(self, op: str, request: Request, decode: Callable[[Answer], T]) -> T:
        attempts = 0
        while True:
            attempts += 1
            await self._transport.pace.wait()
            delivery = await self._transport.send(request)
            if isinstance(delivery, Replied) and ending_of(delivery.answer.status) is None:
                await self._key_works()
                return decode(delivery.answer)
            error, ending, wait_s = _failed(delivery)
            step = next_step(
                op,
                ending,
                attempts,
                count_late_s=self._settings.limits.count_late_s,
                retry_after_s=wait_s,
                max_attempts=self._settings.max_attempts,
            )
            # A 429 on a read may name any wait; the caller hears of it rather than hang here.
            if not isinstance(step, Again) or ending is Ending.THROTTLED:
                raise error
            await asyncio.sleep(step.at_least_s + random.uniform(0, step.jitter_s))  # noqa: S311 - spreads load

    async def _key_works(self) -> None:
        fingerprint = self._key_fingerprint()
        if fingerprint in self._follower.state.rejected_keys:
            await self._follower.record(KeyAccepted(fingerprint))


def _failed(delivery: Delivery) -> tuple[MoeSegmentsError, Ending, float | None]:
    match delivery:
        case Unsent(reason):
            return NotSent(reason), Ending.NOT_SENT, None
        case Maybe(reason):
            return ServerError(0, "no answer", reason), Ending.MAYBE, None
        case Replied(answer):
            ending = ending_of(answer.status)
            assert ending is not None
            return error_from(answer), ending, throttle_facts(answer, now_s=time.time()).wait_s
