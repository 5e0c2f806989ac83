"""Look into the sandbox and steer it over HTTP: `/_sandbox/…` for programs, `/` for people.

It needs no credentials, so it must not be had by a page of somebody else that runs in the same user's browser:

- every request must name a loopback or listed host, so that a name made to point here (DNS rebinding) gets nowhere;
- what changes something must be JSON from this origin or from no page at all: a form of another page cannot send
  JSON, its script is stopped by the browser's preflight, and both are refused by their Origin besides.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from moe_segments.errors import InputError
from moe_segments.page.document import page_response
from moe_segments.page.guard import ALWAYS, FOREIGN, Refused, check_host, check_site
from moe_segments.page.live import LivePages
from moe_segments.sandbox.api.bodies import Malformed, read_object
from moe_segments.sandbox.api.openapi import document
from moe_segments.sandbox.model.faults import known_kind
from moe_segments.sandbox.page.html import LOOK, SHOWN, render_sections
from moe_segments.sandbox.page.overview import LAST, Observed, faults_of, overview, time_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from moe_segments.models import Credentials
    from moe_segments.sandbox.model.faults import FaultKind
    from moe_segments.sandbox.page.overview import Json

__all__ = ["Control"]

_PREFIX: Final = "/_sandbox"
_LAST_DIGITS: Final = 6
_READS: Final = frozenset({"GET", "HEAD"})
_CHANGE: Final = ("probability", "times")


class Controlled(Observed, Protocol):
    """A sandbox that can be steered."""

    @property
    def credentials(self) -> Credentials:
        """Return what the client under test signs in with."""

    def fail_next(self, kind: FaultKind | str, times: int = 1, *, status: int | None = None) -> None:
        """Play a fault on the next occasions."""

    def advance(self, seconds: float) -> None:
        """Move the clock forward, seconds."""

    async def reset(self) -> None:
        """Forget everything that was asked."""


class Control:
    """The routes over one sandbox.

    Args:
        sandbox: Which.
        names: Hosts besides loopback that requests may name.
    """

    def __init__(self, sandbox: Controlled, names: frozenset[str] = frozenset()) -> None:
        self._sandbox, self._names = sandbox, names
        self._pages = LivePages(lambda: render_sections(overview(sandbox, SHOWN)))

    def add_to(self, app: web.Application) -> None:
        """Serve the routes from *app*."""
        get: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/": self._page,
            "/openapi.json": self._openapi,
            f"{_PREFIX}/events": self._pages.events,
            f"{_PREFIX}/state": self._state,
            f"{_PREFIX}/faults": self._faults,
            f"{_PREFIX}/time": self._time,
        }
        post: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            f"{_PREFIX}/faults": self._switch,
            f"{_PREFIX}/time": self._advance,
            f"{_PREFIX}/reset": self._reset,
        }
        for path, handler in get.items():
            app.router.add_get(path, _guarded(handler, self._names))
        for path, handler in post.items():
            app.router.add_post(path, _guarded(handler, self._names))

    async def close(self) -> None:
        """End the pages that are being looked after."""
        await self._pages.close()

    async def _page(self, _: web.Request) -> web.Response:
        return page_response(LOOK, render_sections(overview(self._sandbox, SHOWN)))

    async def _openapi(self, _: web.Request) -> web.Response:
        return _answer(document(self._sandbox.credentials.workspace_id))

    async def _state(self, request: web.Request) -> web.Response:
        wanted = request.query.get("last", str(LAST))
        if not wanted.isascii() or not wanted.isdecimal() or len(wanted) > _LAST_DIGITS:
            raise InputError(f"must be a whole number of at most {_LAST_DIGITS} digits", "last")
        return _answer(overview(self._sandbox, int(wanted)))

    async def _faults(self, _: web.Request) -> web.Response:
        return _answer({"faults": faults_of(self._sandbox)})

    async def _time(self, _: web.Request) -> web.Response:
        return _answer(time_of(self._sandbox))

    async def _switch(self, request: web.Request) -> web.Response:
        fields = await _fields(request)
        kind, sandbox = known_kind(fields.get("kind")), self._sandbox
        given = [name for name in _CHANGE if name in fields]
        if len(given) != 1:
            raise InputError("give either probability, to switch it on or off, or times, for the next occasions")
        if given == ["probability"]:
            sandbox.faults = sandbox.faults.switched(kind, fields["probability"])  # type: ignore[arg-type] # checked
        else:
            sandbox.fail_next(kind, fields["times"], status=fields.get("status"))  # type: ignore[arg-type] # checked
        return await self._faults(request)

    async def _advance(self, request: web.Request) -> web.Response:
        fields = await _fields(request)
        self._sandbox.advance(fields.get("advance_s"))  # type: ignore[arg-type] # it is checked there
        return await self._time(request)

    async def _reset(self, request: web.Request) -> web.Response:
        await _fields(request)
        await self._sandbox.reset()
        return _answer(overview(self._sandbox))


def _guarded(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], names: frozenset[str]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler, behind the checks that stand in for credentials; bad input becomes a 400."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            check_host(request, names)
            if request.method not in _READS:
                _check_origin(request)
            response = await handler(request)
        except Refused as refused:
            response = _answer({"error": refused.problem}, refused.status)
        except (InputError, Malformed) as problem:
            response = _answer({"error": str(problem)}, 400)
        if not response.prepared:
            response.headers.update(ALWAYS)
        return response

    return guarded


def _check_origin(request: web.Request) -> None:
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        raise Refused(403, FOREIGN)
    check_site(request)
    if request.content_type != "application/json":
        raise Refused(415, "Content-Type must be application/json")


async def _fields(request: web.Request) -> Mapping[str, object]:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Malformed("The body is too large.") from None
    return read_object(body, request.headers.get("Content-Type", ""), types=("application/json",))


def _answer(value: Json, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), status=status, content_type="application/json")
