"""Helpers of tests on a sandbox: a client of it, a clock that stands, an answer as it came, where callbacks go."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
from aiohttp import web

from moe_segments import CallbackReceiver, SegmentsClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from moe_segments.sandbox import Sandbox

__all__ = ["T0", "Answer", "Clock", "client_on", "hook"]

T0: Final = 1_700_000_000.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        """The moment."""
        return self.now


@attrs.frozen
class Answer:
    """An answer of the sandbox, as it came."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> dict[str, object]:
        """The body, which must be a JSON object."""
        value = json.loads(self.text)
        assert isinstance(value, dict)
        return value


@asynccontextmanager
async def hook(take: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The address at which *take* answers callbacks."""
    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_on(sandbox: Sandbox, journal: Any = "memory:", **options: Any) -> AsyncIterator[SegmentsClient]:
    """A client that publishes to the sandbox and has a receiver, unless *options* say otherwise."""
    async with CallbackReceiver().serve() as receiver:
        settings: dict[str, Any] = {
            "credentials": sandbox.credentials,
            "callbacks": receiver,
            "limits": sandbox.limits,
            "base_url": sandbox.url,
            "requests_per_s": 500,
            "publish": sandbox.publish,
            "poll_s": 0.02,
            **options,
        }
        async with SegmentsClient(settings.pop("credentials"), journal=journal, **settings) as client:
            yield client
