"""Keep open pages current: server-sent events, each a JSON object of section to HTML for the sections that changed."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from aiohttp import web

from moe_segments.page.guard import ALWAYS, check_site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LivePages"]

_LOOK_S: Final = 0.25  # how often an open page is looked after
_ALIVE_S: Final = 15.0  # how often one is written to at least, so that a broken connection is noticed
_MOST_PAGES: Final = 16


class LivePages:
    """The pages that are open, each behind a request that does not end.

    Args:
        render: Returns the sections as they are now, by name.
    """

    def __init__(self, render: Callable[[], Mapping[str, str]]) -> None:
        self._render = render
        self._pages: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        """End the pages that are being looked after."""
        pages = tuple(self._pages)
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send what changes on the page until it is closed.

        Raises:
            Refused: A page of another site asks.
            web.HTTPServiceUnavailable: Too many pages are open.
        """
        check_site(request)
        if request.method == "HEAD":  # there is nothing to keep open for it
            return web.Response(content_type="text/event-stream", headers=ALWAYS)
        if len(self._pages) >= _MOST_PAGES:
            raise web.HTTPServiceUnavailable(text="too many pages are open")
        task = asyncio.current_task()
        assert task is not None
        self._pages.add(task)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **ALWAYS})
        try:
            await response.prepare(request)
            await self._follow(request, response)
        except ConnectionError:
            pass  # the page was closed while it was written to
        finally:
            self._pages.discard(task)
        return response

    async def _follow(self, request: web.Request, response: web.StreamResponse) -> None:
        loop, shown = asyncio.get_running_loop(), dict[str, str]()
        written_s = loop.time()
        while request.transport is not None and not request.transport.is_closing():
            sections = dict(self._render())
            changed = {name: html for name, html in sections.items() if shown.get(name) != html}
            if changed:
                await response.write(b"data: " + json.dumps(changed).encode() + b"\n\n")
                written_s = loop.time()
            elif loop.time() - written_s > _ALIVE_S:
                await response.write(b":\n\n")
                written_s = loop.time()
            shown = sections
            await asyncio.sleep(_LOOK_S)
