"""The aiohttp faces of `CallbackReceiver`: an application to mount, and a hardened server of its own.

aiohttp.web has no read time-out, so each connection here has one deadline at a time: for the headers from their first
byte, for the request from the end of its headers to the end of its answer, for the silence between requests. Past it
the connection is cut. A byte now and then extends nothing: only what was due ends a deadline.

Neither a path nor what a parser quotes of a request goes into a log or an answer. Times are seconds.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

import attrs
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from moe_segments.errors import InputError
from moe_segments.receiver import BROKEN_OFF, MAX_BODY_BYTES, TOO_SLOW, CallbackReceiver, Reply
from moe_segments.receiver_asgi import BODY_TIMEOUT_S
from moe_segments.tokens import scope_and_token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage

__all__ = ["RECEIVER", "Deadlines", "application", "listener_at", "listening"]

RECEIVER: Final = web.AppKey("moe_segments_receiver", CallbackReceiver)
TEMPLATE: Final = "/{scope}/{token}"

_LINGER_S: Final = 2.0  # a refused body is read on for this long, so that its sender sees the answer
_ACCEPTING_STEPS: Final = 4  # of the loop, from an accepted socket to its protocol
_SHUTDOWN_S: Final = 5.0  # for requests in progress
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_SERVER: Final[Mapping[str, str]] = MappingProxyType({"Server": "moe-segments"})  # and not which versions of what
_LOOKS: Final = 20  # how often deadlines are looked at within the shortest of them
_OWN_FAULT: Final = 500
_KEPT_OPEN: Final = frozenset({200, 404, 503})  # after anything else part of the body may be on its way
_EXPECTATION_FAILED: Final = Reply(417)
_log = logging.getLogger("moe_segments.receiver")
_access_log = logging.getLogger("moe_segments.receiver.access")


@attrs.frozen
class Deadlines:
    """How long a connection may take for what, seconds.

    Attributes:
        header_s: From the first byte of a request to the end of its headers.
        request_s: From there to the end of its answer.
        keep_alive_s: Silence between two requests.
    """

    header_s: float
    request_s: float
    keep_alive_s: float


def application(receiver: CallbackReceiver) -> web.Application:
    """The application to mount at the path of the public address. Opens the receiver as the host starts."""
    app = web.Application()
    app[RECEIVER] = receiver
    app.router.add_route("*", "/{path:.*}", _routed, expect_handler=_expected)
    app.cleanup_ctx.append(_opened)
    return app


async def _opened(app: web.Application) -> AsyncIterator[None]:
    async with app[RECEIVER]:
        yield


async def _routed(request: web.Request) -> web.StreamResponse:
    return _response(await _reply(request.config_dict[RECEIVER], request))


async def _expected(request: web.Request) -> web.StreamResponse | None:
    refused = await _continued(request.config_dict[RECEIVER], request)
    return None if refused is None else _response(refused)


async def _continued(receiver: CallbackReceiver, request: web.BaseRequest) -> Reply | None:
    """Ask for the body where the sender waits to be asked, unless it is refused anyway."""
    reply = await _reply_unread(receiver, request)
    if reply is not None or request.version < (1, 1):
        return reply
    if request.headers["Expect"].lower() != "100-continue":
        return _EXPECTATION_FAILED
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
    return None


async def _reply(receiver: CallbackReceiver, request: web.BaseRequest) -> Reply:
    reply = await _reply_unread(receiver, request)
    if reply is not None:
        return reply
    content = request.content
    try:
        body = content.read_nowait() if content.is_eof() else await _body(content)
    except (web.RequestPayloadError, ConnectionError):
        return BROKEN_OFF
    except TimeoutError:
        return TOO_SLOW
    return await receiver.take(*scope_and_token(request.raw_path), body)


async def _reply_unread(receiver: CallbackReceiver, request: web.BaseRequest) -> Reply | None:
    codings = request.headers.getall("Content-Encoding", ())
    return await receiver.decide_unread(
        *scope_and_token(request.raw_path), request.method, ", ".join(codings), request.content_length or 0
    )


async def _body(content: StreamReader) -> bytes:
    """The body as far as needed to see whether it is too large."""
    async with asyncio.timeout(BODY_TIMEOUT_S):
        body = bytearray()
        while len(body) <= MAX_BODY_BYTES and not content.at_eof():
            body += await content.readany()
        return bytes(body)


def _response(reply: Reply, headers: Mapping[str, str] = _NO_HEADERS) -> web.Response:
    response = web.Response(status=reply.status, headers={**reply.headers, **headers} if reply.headers else headers)
    if reply.status not in _KEPT_OPEN:
        response.force_close()
    return response


@asynccontextmanager
async def listening(
    receiver: CallbackReceiver, listener: socket.socket, deadlines: Deadlines, max_connections: int
) -> AsyncIterator[int]:
    """Serve *receiver* on a socket of `listener_at` while inside; gives the port."""
    server = _Server(receiver, deadlines, max_connections)
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    watch = asyncio.get_running_loop().create_task(server.watch())
    try:
        await web.SockSite(runner, listener).start()
        try:
            yield listener.getsockname()[1]
        finally:
            await _stop_accepting(listener)
    finally:
        watch.cancel()
        await runner.cleanup()


def listener_at(host: str, port: int) -> socket.socket:
    """A socket that listens. Who connects waits in its queue until somebody serves.

    Raises:
        InputError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OverflowError:
        raise InputError(f"must be from 0 to 65535, not {port}", "port") from None
    except OSError as error:
        raise _unusable(host, port, error) from None


async def _stop_accepting(listener: socket.socket) -> None:
    """Take no new connection, and let those just accepted be made: a closed server would drop them half made."""
    with suppress(NotImplementedError, RuntimeError):  # a loop that forbids it has to be trusted with it
        asyncio.get_running_loop().remove_reader(listener)
    for _ in range(_ACCEPTING_STEPS):
        await asyncio.sleep(0)


def _unusable(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"{port} on {host} is in use: end the program that listens there, or pass another port, 0 for a free one",
            "port",
        )
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "no such address"
    return InputError(f"cannot listen on {host} port {port}: {reason}", "host")


class _Server(web.Server):
    """Makes a `_Connection` of each connection, up to a cap, and answers its requests without a router."""

    def __init__(self, receiver: CallbackReceiver, deadlines: Deadlines, max_connections: int) -> None:
        super().__init__(self._answer, request_factory=self._begun)
        self.deadlines = deadlines
        self._receiver, self._max_connections = receiver, max_connections

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return _Connection(self, loop=asyncio.get_running_loop())

    @property
    def is_full(self) -> bool:
        """No further connection is served."""
        return len(self.connections) >= self._max_connections

    async def watch(self) -> None:
        """Cut the connections whose deadline has passed, until cancelled."""
        loop, pause_s = asyncio.get_running_loop(), min(attrs.astuple(self.deadlines)) / _LOOKS
        while True:
            await asyncio.sleep(pause_s)
            for connection in self.connections:
                cast("_Connection", connection).cut_if_due(loop.time())

    def _begun(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        cast("_Connection", protocol).request_begun()
        return self._make_request(message, payload, protocol, writer, task)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        refused: Reply | None = None
        if request.version < (1, 0):  # the parser lets 0.9 through
            refused = BROKEN_OFF
        elif "Expect" in request.headers:
            refused = await _continued(self._receiver, request)
        if refused is not None:
            return _response(refused, _SERVER)
        return _response(await _reply(self._receiver, request), _SERVER)


class _Connection(web.RequestHandler):
    """One connection, cut when its deadline passes."""

    __slots__ = ("_deadlines", "_due_s", "_is_idle", "_server", "_wire")

    def __init__(self, server: _Server, *, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._deadlines = server, server.deadlines
        super().__init__(
            server,
            loop=loop,
            # Later than ours: a second clock for the same silence, which only idle connections obey.
            keepalive_timeout=self._deadlines.keep_alive_s + self._deadlines.header_s,
            access_log_class=_AccessLogger,
            access_log=_access_log,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )
        self._is_idle = False
        self._wire: asyncio.Transport | None = None
        self._due_s = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away when there are too many."""
        self._wire = cast("asyncio.Transport", transport)
        if self._server.is_full:
            self.force_close()
            self._wire.write(_FULL)
            self._wire.close()
            return
        super().connection_made(transport)
        self._due_in(self._deadlines.header_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the first ones after a silence begin the headers of a request."""
        if self._is_idle:
            self._is_idle = False
            self._due_in(self._deadlines.header_s)
        super().data_received(data)

    def request_begun(self) -> None:
        """The headers are complete."""
        self._is_idle = False
        self._due_in(self._deadlines.request_s)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; then silence is in order, for a while."""
        finished = await super().finish_response(request, resp, start_time)
        self._is_idle = True
        self._due_in(self._deadlines.keep_alive_s)
        return finished

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is due any more."""
        self._wire = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request, so it is not passed on
    ) -> web.StreamResponse:
        """An empty answer. What is no HTTP is not logged as it came: its first line holds the path."""
        if status >= _OWN_FAULT:
            _log.error("a callback was not taken in, because of a mistake in this program", exc_info=exc)
        else:
            _log.debug("a request could not be read: %s", type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError
        return _response(Reply(status), _SERVER)

    def cut_if_due(self, now_s: float) -> None:
        """End the connection if what is due by now is not there."""
        if now_s >= self._due_s and self._wire is not None:
            self._wire.abort()

    def _due_in(self, seconds: float) -> None:
        self._due_s = self._loop.time() + seconds


class _AccessLogger(AbstractAccessLogger):
    """One line a request, by the route's template: the path is a secret."""

    @property
    def enabled(self) -> bool:
        """Somebody reads it."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Method, template, status and time taken."""
        self.logger.info("%s %s %d in %.1f ms", request.method, TEMPLATE, response.status, time * 1_000)
