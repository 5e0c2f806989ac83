"""Serve the page of one journal on loopback: read-only, without a key, to no page but its own."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from moe_segments.dashboard.follower import Follower
from moe_segments.dashboard.sections.callbacks import callbacks_of, render_callbacks
from moe_segments.dashboard.sections.jobs import jobs_of, render_jobs
from moe_segments.dashboard.sections.log import render_log
from moe_segments.dashboard.sections.notices import render_notices, render_source
from moe_segments.dashboard.sections.plan import plan_of
from moe_segments.dashboard.sections.quotas import quotas_of, render_quotas
from moe_segments.dashboard.sections.segments import render_segments, segments_of
from moe_segments.dashboard.sections.timeline import render_plan
from moe_segments.dashboard.sections.view import View
from moe_segments.errors import InputError
from moe_segments.limits import QuotaLimits
from moe_segments.models.urls import place_of
from moe_segments.page.document import Look, page_response
from moe_segments.page.guard import ALWAYS, Refused, check_host
from moe_segments.page.live import LivePages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

__all__ = ["Dashboard"]

_HOST: Final = "127.0.0.1"
_LAST_PORT: Final = 65_535
_SHUTDOWN_S: Final = 0.5
_OLD_S: Final = 2.0  # after so long a look is taken anew although nothing was written: time passes in it
_OLD_AT_LEAST_S: Final = 0.5  # likewise, where windows are shorter
_RESTS: Final = (
    4  # times as long as a look took until the next one: a large journal that is busy leaves time for others
)
_HERE: Final = Path(__file__).parent
_LANDMARKS: Final = {
    "source": "Journal",
    "notices": "Notices",
    "quotas": "Quotas",
    "plan": "Plan ahead",
    "jobs": "Jobs",
    "segments": "Segments and audiences",
    "callbacks": "Callbacks",
    "log": "Log",
}


class Dashboard:
    """A live page of what a journal holds: quotas, the plan ahead, jobs, segments, callbacks, the log.

    It reads the journal itself, as another process than the clients, writes nothing to it and needs no API key. It
    listens on 127.0.0.1 alone and answers to loopback names alone. It shows names of segments and numbers; no key, no
    token, no address of a file, no value of one.

    ```python
    async with Dashboard("sqlite:///quota.db", "W1@03").serve(8760) as url:
        ...
    ```

    Args:
        journal: The journal's URL, or a path.
        scope: What shares one quota: workspace and data center, see `SegmentsClient.scope`.
        limits: The quotas that its clients count with; the documented ones by default. Its own speed is taken.
    """

    def __init__(self, journal: str, scope: str, limits: QuotaLimits | None = None) -> None:
        self._follower = Follower(journal, scope, limits or QuotaLimits())
        self._place, self._scope = place_of(journal), scope
        self._pages = LivePages(self._sections)
        self._shown: Mapping[str, str] = {}
        self._shown_for: tuple[object, ...] = ()
        self._shown_s = self._took_s = 0.0

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Follow the journal and serve its page while inside. Yields its address.

        Args:
            port: The port on 127.0.0.1, 0 for a free one.

        Raises:
            InputError: There is no such journal, it lasts no longer than its process, or the port cannot be used.
            JournalError: The journal cannot be read.
        """
        async with AsyncExitStack() as stack:
            opened = asyncio.get_running_loop().create_future()
            following = asyncio.create_task(self._follower.follow(opened))
            stack.push_async_callback(_ended, following)
            await opened
            runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.push_async_callback(self._pages.close)
            try:
                await web.TCPSite(runner, _HOST, port).start()
            except (OSError, OverflowError) as error:
                raise InputError(_problem_of(port, error), "port") from None
            yield f"http://{_HOST}:{runner.addresses[0][1]}/"

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[_guarded])
        app.router.add_get("/", self._page)
        app.router.add_get("/events", self._pages.events)
        return app

    async def _page(self, _: web.Request) -> web.Response:
        look = Look(
            title=f"{self._scope} · moe-segments",
            header="<h1>Segments dashboard</h1>",
            events="/events",
            files=(_HERE / "dashboard.css",),
            landmarks=_LANDMARKS,
        )
        return page_response(look, self._sections())

    def _sections(self) -> Mapping[str, str]:
        """Return the sections; the same ones as long as nothing was written and little time has passed."""
        follower = self._follower
        assert follower.state is not None  # nothing is served before
        now_s = time.monotonic()
        shown_for = follower.state, follower.state.version, follower.problem
        old_s = max(_OLD_AT_LEAST_S, _OLD_S / follower.state.limits.scale)
        age_s = now_s - self._shown_s
        if age_s > old_s or (shown_for != self._shown_for and age_s > _RESTS * self._took_s):
            self._shown, self._shown_for, self._shown_s = self._rendered(), shown_for, now_s
            self._took_s = time.monotonic() - now_s
        return self._shown

    def _rendered(self) -> Mapping[str, str]:
        follower = self._follower
        assert follower.state is not None
        view = View(
            state=follower.state,
            now_us=follower.now_us(),
            shift_us=follower.shift_us,
            log=follower.log,
            place=self._place,
            scope=self._scope,
            problem=follower.problem,
        )
        quotas, jobs = quotas_of(view), jobs_of(view)
        return {
            "source": render_source(view, follower.state.now_us),
            "notices": render_notices(view, quotas, jobs),
            "quotas": render_quotas(view, quotas),
            "plan": render_plan(view, plan_of(view)),
            "jobs": render_jobs(view, jobs),
            "callbacks": render_callbacks(view, callbacks_of(view)),
            "segments": render_segments(view, segments_of(view)),
            "log": render_log(view),
        }


@web.middleware
async def _guarded(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer requests that name loopback, and say on every answer what a browser may do with it."""
    try:
        check_host(request)
        response = await handler(request)
    except Refused as refused:
        response = web.Response(status=refused.status, text=refused.problem)
    except web.HTTPException as error:
        error.headers.update(ALWAYS)
        raise
    if not response.prepared:
        response.headers.update(ALWAYS)
    return response


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _problem_of(port: int, error: Exception) -> str:
    if not 0 <= port <= _LAST_PORT:
        return f"must be from 0 to {_LAST_PORT}, not {port}"
    reason = getattr(error, "strerror", None) or str(error)
    return f"cannot listen on port {port} of {_HOST}: {reason}; name another, or 0 for a free one"
