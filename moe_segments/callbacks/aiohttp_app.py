"""`CallbackReceiver` on aiohttp: an application to mount, and a hardened server.

aiohttp.web has no read time-out, so before each of its protocols stands one of ours with one deadline at a time: for
the headers from their first byte, for the request from the end of its headers to the end of its answer, for the silence
between requests. Past it the connection is cut. A byte now and then extends nothing: only what was due ends a deadline.

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
from typing import TYPE_CHECKING, Final

import attrs
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from moe_segments.callbacks.asgi import BODY_TIMEOUT_S
from moe_segments.callbacks.http_replies import BROKEN_OFF, MAX_BODY_BYTES, TOO_SLOW, Decider, Reply
from moe_segments.callbacks.tokens import scope_and_token
from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from aiohttp import StreamReader

__all__ = ["RECEIVER", "Deadlines", "application", "listener_at", "listening"]

RECEIVER: Final = web.AppKey("moe_segments_receiver", Decider)
TEMPLATE: Final = "/{scope}/{token}"

_LINGER_S: Final = 2.0  # a refused body is read on for this long, so that its sender sees the answer
_GRACE_S: Final = 0.02  # for an accepted connection to be made
_SHUTDOWN_S: Final = 5.0  # for requests in progress
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NO_HTTP: Final = b"HTTP/1.1 400 Bad Request\r\nServer: moe-segments\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_SERVER: Final[Mapping[str, str]] = MappingProxyType({"Server": "moe-segments"})  # and not which versions of what
_LOOKS: Final = 20  # how often deadlines are looked at within the shortest of them
_OWN_FAULT: Final = 500
_KEPT_OPEN: Final = frozenset({200, 404, 503})  # after anything else part of the body may be on its way
_EXPECTATION_FAILED: Final = Reply(417)
_log = logging.getLogger("moe_segments.receiver")
_access_log = logging.getLogger("moe_segments.receiver.access")
_unheard = logging.getLogger("moe_segments.receiver.http")
_unheard.addFilter(lambda _: False)  # what aiohttp says of a request quotes it


@attrs.frozen
class Deadlines:
    """Deadlines of a connection, seconds.

    Attributes:
        header_s: From the first byte of a request to the end of its headers.
        request_s: From there to the end of its answer.
        keep_alive_s: Silence between two requests.
    """

    header_s: float
    request_s: float
    keep_alive_s: float


def application(receiver: Decider) -> web.Application:
    """Return the application to mount at the path of the public address. Opens the receiver as the host starts."""
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


async def _continued(receiver: Decider, request: web.BaseRequest) -> Reply | None:
    """Ask for the body where the sender waits to be asked, unless it is refused anyway."""
    reply = await _reply_unread(receiver, request)
    if reply is not None or request.version < (1, 1):
        return reply
    if request.headers["Expect"].lower() != "100-continue":
        return _EXPECTATION_FAILED
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
    return None


async def _reply(receiver: Decider, request: web.BaseRequest) -> Reply:
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


async def _reply_unread(receiver: Decider, request: web.BaseRequest) -> Reply | None:
    codings = request.headers.getall("Content-Encoding", ())
    return await receiver.decide_unread(
        *scope_and_token(request.raw_path), request.method, ", ".join(codings), request.content_length or 0
    )


async def _body(content: StreamReader) -> bytes:
    """Return the body as far as needed to see whether it is too large."""
    async with asyncio.timeout(BODY_TIMEOUT_S):
        body = bytearray()
        while len(body) <= MAX_BODY_BYTES and not content.at_eof():
            body += await content.readany()
        return bytes(body)


def _response(reply: Reply, headers: Mapping[str, str] = _NO_HEADERS) -> web.Response:
    headers = {**reply.headers, **headers} if reply.headers else headers
    response = web.Response(status=reply.status, headers=headers, body=reply.body or None)
    if reply.status not in _KEPT_OPEN:
        response.force_close()
    return response


@asynccontextmanager
async def listening(
    receiver: Decider, listener: socket.socket, deadlines: Deadlines, max_connections: int
) -> AsyncIterator[int]:
    """Serve *receiver* on a socket of `listener_at` while inside; gives the port."""
    loop, doorman = asyncio.get_running_loop(), _Doorman(receiver, deadlines, max_connections)
    server = await loop.create_server(lambda: _Connection(doorman), sock=listener)
    watch = loop.create_task(doorman.watch())
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(NotImplementedError, RuntimeError):  # a loop that forbids it has to be trusted with it
            loop.remove_reader(listener)
        # What was accepted a moment ago is made meanwhile: a closed server would drop it half made.
        await asyncio.sleep(_GRACE_S)
        server.close()
        await doorman.close()
        watch.cancel()


def listener_at(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Who connects waits in its queue until somebody serves.

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


def _unusable(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"{port} on {host} is in use: end the program that listens there, or pass another port, 0 for a free one",
            "port",
        )
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "no such address"
    return InputError(f"cannot listen on {host} port {port}: {reason}", "host")


class _Doorman:
    """The connections of one server, up to a cap, and the answers to their requests. There is no router.

    Attributes:
        deadlines: What each connection is held to.
        server: Makes aiohttp's protocol of a connection.
        connections: Those that are open and served.
        is_closing: No further one is served.
    """

    def __init__(self, receiver: Decider, deadlines: Deadlines, max_connections: int) -> None:
        self.deadlines = deadlines
        self.connections: set[_Connection] = set()
        self.is_closing = False
        self._receiver, self._max_connections = receiver, max_connections
        self.server = web.Server(
            self._answer,
            # Later than ours: a second clock for the same silence, which only idle connections obey.
            keepalive_timeout=deadlines.keep_alive_s + deadlines.header_s,
            access_log_class=_AccessLogger,
            access_log=_access_log,
            logger=_unheard,
            lingering_time=_LINGER_S,
            auto_decompress=False,
        )

    @property
    def is_full(self) -> bool:
        """Refuse further connections."""
        return self.is_closing or len(self.connections) >= self._max_connections

    async def watch(self) -> None:
        """Cut the connections whose deadline has passed, until cancelled."""
        loop, pause_s = asyncio.get_running_loop(), min(attrs.astuple(self.deadlines)) / _LOOKS
        while True:
            await asyncio.sleep(pause_s)
            for connection in tuple(self.connections):
                connection.cut_if_due(loop.time())

    async def close(self) -> None:
        """Let requests in progress be answered, for a while, and end every connection."""
        self.is_closing = True
        await self.server.shutdown(_SHUTDOWN_S)
        for connection in tuple(self.connections):
            connection.cut_if_due(math.inf)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        wire = request.transport
        if not isinstance(wire, _Wire):  # the sender hung up meanwhile
            return _response(BROKEN_OFF)
        wire.connection.request_begun()
        try:
            response = _response(await self._reply(request), _SERVER)
        except Exception as error:  # noqa: BLE001 - answered here, as aiohttp would quote the request
            _log.error("a callback was not taken in, because of a mistake in this program", exc_info=error)
            response = _response(Reply(_OWN_FAULT), _SERVER)
        with suppress(ConnectionError):
            await response.prepare(request)
            await response.write_eof()
        wire.connection.request_answered()
        return response

    async def _reply(self, request: web.BaseRequest) -> Reply:
        refused: Reply | None = None
        if request.version < (1, 0):  # the parser lets 0.9 through
            refused = BROKEN_OFF
        elif "Expect" in request.headers:
            refused = await _continued(self._receiver, request)
        return refused or await _reply(self._receiver, request)


class _Connection(asyncio.Protocol):
    """A connection, cut when its deadline passes. What arrives is handed on to aiohttp's protocol."""

    def __init__(self, doorman: _Doorman) -> None:
        self._doorman, self._deadlines = doorman, doorman.deadlines
        self._loop = asyncio.get_running_loop()
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._is_idle = False
        self._due_s = math.inf
        self.is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away when there are too many."""
        assert isinstance(transport, asyncio.Transport)
        if self._doorman.is_full:
            transport.write(_FULL)
            transport.close()
            return
        self._transport, self._inner = transport, self._doorman.server()
        self._doorman.connections.add(self)
        self._due_in(self._deadlines.header_s)
        self._inner.connection_made(_Wire(transport, self))

    def data_received(self, data: bytes) -> None:
        """Hand bytes on; the first ones after a silence begin the headers of a request."""
        if self._is_idle:
            self._is_idle = False
            self._due_in(self._deadlines.header_s)
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand on that no more will come."""
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """Hand on that the other side reads too slowly."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand on that the other side reads again."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on that it has ended; nothing is due any more."""
        self._transport = None
        self._doorman.connections.discard(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def request_begun(self) -> None:
        """Start the deadline of the request: its headers are complete."""
        self._is_idle, self.is_answering = False, True
        self._due_in(self._deadlines.request_s)

    def request_answered(self) -> None:
        """Start the keep-alive: the answer is sent."""
        self._is_idle, self.is_answering = True, False
        self._due_in(self._deadlines.keep_alive_s)

    def cut_if_due(self, now_s: float) -> None:
        """End the connection if what is due by now is not there."""
        if now_s >= self._due_s and self._transport is not None:
            self._transport.abort()

    def _due_in(self, seconds: float) -> None:
        self._due_s = self._loop.time() + seconds


class _Wire(asyncio.Transport):
    """A connection as aiohttp sees it: what aiohttp answers by itself is replaced by a 400 without a body.

    That is what no HTTP was read from; its own answer would quote it, and name the versions of what runs here.
    """

    def __init__(self, transport: asyncio.Transport, connection: _Connection) -> None:
        super().__init__()
        self.connection, self._transport, self._is_refused = connection, transport, False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send what answers a request."""
        if self.connection.is_answering:
            self._transport.write(data)
        elif not self._is_refused:
            self._is_refused = True
            self._transport.write(_NO_HTTP)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send what answers a request."""
        self.write(b"".join(list_of_data))

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Do as the transport does."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Do as the transport does."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Do as the transport does."""
        self._transport.close()

    def abort(self) -> None:
        """Do as the transport does."""
        self._transport.abort()

    def is_reading(self) -> bool:
        """Do as the transport does."""
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        """Do as the transport does."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Do as the transport does."""
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Do as the transport does."""
        return self._transport.get_write_buffer_size()


class _AccessLogger(AbstractAccessLogger):
    """An access log of one line a request, by the route's template: the path is a secret."""

    @property
    def enabled(self) -> bool:
        """Return whether the access log is read."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log method, template, status and time taken."""
        self.logger.info("%s %s %d in %.1f ms", request.method, TEMPLATE, response.status, time * 1_000)
