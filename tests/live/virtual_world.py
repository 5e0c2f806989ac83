"""A sandbox, a receiver and clients in virtual time, at the documented limits."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from moe_segments import CallbackReceiver, SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["client_of", "stage"]


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[Sandbox, CallbackReceiver]]:
    """A sandbox that processes each file after half a minute, and a receiver that waits for hours."""
    async with Sandbox(clock=lambda: journal_clock() / 1e6, processing_s=(30, 30)) as sandbox:
        async with CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600) as receiver:
            yield sandbox, receiver


def client_of(sandbox: Sandbox, **options: Any) -> SegmentsClient:
    """A client that is not open yet. Its journal is its own: two of them spend behind each other's backs."""
    settings: dict[str, Any] = {
        "credentials": sandbox.credentials,
        "journal": MemoryJournal(clock=journal_clock),
        "limits": sandbox.limits,
        "base_url": sandbox.url,
        "publish": sandbox.publish,
        "clock": asyncio.get_running_loop().time,
        **options,
    }
    return SegmentsClient(settings.pop("credentials"), **settings)
