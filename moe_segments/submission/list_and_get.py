"""Reads as calls: list and get. A read changes nothing, so it is repeated where no answer came.

A read is no job: the journal keeps only the quota that it spends.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask
from moe_segments.core.wire.file_segments import decode_segments, encode_get, encode_list
from moe_segments.core.wire.filter_segments import decode_got
from moe_segments.core.wire.strict_json import http_date
from moe_segments.journal.local.process import this_process
from moe_segments.limits import GET_CALLS, LIST_CALLS
from moe_segments.submission.calls import Call
from moe_segments.telemetry.life import Life

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from moe_segments.core.wire.file_segments import Answer, Request
    from moe_segments.models import Credentials, Segment
    from moe_segments.settings import Settings
    from moe_segments.telemetry.emitter import Events

__all__ = ["Read", "Reader"]

T = TypeVar("T")
_SECOND_US: Final = 1_000_000


@attrs.define(eq=False)
class Read(Call, Generic[T]):
    """One list or get on its way.

    Attributes:
        settings: Time-outs.
        request: What is sent.
        decode: Returns the value of a successful answer.
        value: That value, once there is an answer.
    """

    settings: Settings
    request: Request
    decode: Callable[[Answer], T]
    value: T | None = None

    def prepare(self) -> tuple[Ask, Request]:
        """See `Call`. Each send is a row of its own, under a name of its own."""
        ask = Ask(
            job=f"{self.op}-{os.urandom(8).hex()}",
            operation={"op": self.op},
            cost=Cost(call=self.op),
            keys=(),
            fence_us=round(self.settings.send_by_s * _SECOND_US),
            timeout_us=round(self.settings.total_timeout_s * _SECOND_US),
            owner=this_process(),
        )
        return ask, self.request

    def read(self, answer: Answer) -> Mapping[str, object]:
        """See `Call`."""
        self.value = self.decode(answer)
        return {}


class Reader:
    """Reads for one client.

    Args:
        credentials: Who asks.
        settings: Time-outs.
        carry_out: Dispatches a call.
        events: Who is told of it.
    """

    def __init__(
        self,
        credentials: Credentials,
        settings: Settings,
        carry_out: Callable[[Call], Awaitable[None]],
        events: Events,
    ) -> None:
        self._credentials, self._settings, self._carry_out = credentials, settings, carry_out
        self._events = events

    async def list_segments(self, name: str | None, *, max_wait_s: float) -> tuple[Segment, ...]:
        """Return the segments named exactly *name*, or all that the service lists."""
        return await self._read(LIST_CALLS, self._listing(name), decode_segments, max_wait_s)

    async def get_segment(self, cs_id: str, *, max_wait_s: float) -> Segment:
        """Return the segment of this identifier."""
        request = encode_get(cs_id, credentials=self._credentials)
        return await self._read(GET_CALLS, request, lambda answer: decode_got(answer, cs_id), max_wait_s)

    async def look_up(self, name: str, *, max_wait_s: float) -> tuple[tuple[Segment, ...], float | None]:
        """Return the segments of this name, and the service's own time, epoch seconds, where it said so.

        Callers' requests go first.
        """
        return await self._read(LIST_CALLS, self._listing(name), _dated, max_wait_s, in_background=True)

    def _listing(self, name: str | None) -> Request:
        return encode_list(name, credentials=self._credentials)

    async def _read(
        self,
        op: str,
        request: Request,
        decode: Callable[[Answer], T],
        max_wait_s: float,
        *,
        in_background: bool = False,
    ) -> T:
        deadline_s = asyncio.get_running_loop().time() + max_wait_s
        life = Life(self._events, job=None, operation=op, segment=None)
        call = Read(
            self._settings, request, decode, op=op, life=life, deadline_s=deadline_s, in_background=in_background
        )
        await self._carry_out(call)
        assert call.value is not None, "a read that went well has its value"
        return call.value


def _dated(answer: Answer) -> tuple[tuple[Segment, ...], float | None]:
    return decode_segments(answer), http_date(answer.header("date"))
