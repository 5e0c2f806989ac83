"""`CallbackReceiver` as an ASGI 3 application. Needs no server library.

Deadlines of headers and connections are the host's. The body's deadline is ours, as its size is. Paths are looked at
as they were sent, before unquoting, where the host tells them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from urllib.parse import quote

from moe_segments.callbacks.http_replies import MAX_BODY_BYTES, TOO_SLOW, Reply
from moe_segments.callbacks.tokens import scope_and_token
from moe_segments.errors import MoeSegmentsError

if TYPE_CHECKING:
    from moe_segments.callbacks.http_replies import Decider

__all__ = ["Application", "Receive", "Scope", "Send", "answer", "application"]

Scope: TypeAlias = Mapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
Send: TypeAlias = Callable[[dict[str, object]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S: Final = 15.0


def application(receiver: Decider) -> Application:
    """Return the receiver as a function: of a method, uvicorn takes it that it speaks ASGI 2."""

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(receiver, scope, receive, send)

    return asgi


async def answer(receiver: Decider, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ASGI scope: http and lifespan; any other kind is left alone."""
    if scope["type"] == "lifespan":
        await _live(receiver, receive, send)
    elif scope["type"] == "http":
        reply = await _decide(receiver, scope, receive)
        if reply is not None:
            await _reply(reply, send)


async def _live(receiver: Decider, receive: Receive, send: Send) -> None:
    await receive()
    try:
        await receiver.__aenter__()
    except MoeSegmentsError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    try:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    finally:
        await receiver.__aexit__(None, None, None)
    await send({"type": "lifespan.shutdown.complete"})


async def _decide(receiver: Decider, scope: Scope, receive: Receive) -> Reply | None:
    headers, address = _headers(scope), _address(scope)
    declared = headers.get(b"content-length", b"")
    reply = await receiver.decide_unread(
        *address,
        str(scope["method"]),
        headers.get(b"content-encoding", b"").decode("latin-1"),
        int(declared) if declared.isdigit() else 0,
    )
    if reply is not None:
        return reply
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await _body(receive)
    except TimeoutError:
        return TOO_SLOW
    return None if body is None else await receiver.take(*address, body)


def _address(scope: Scope) -> tuple[str, str]:
    raw_path = scope.get("raw_path")
    return scope_and_token(raw_path.decode("latin-1") if isinstance(raw_path, bytes) else quote(str(scope["path"])))


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the headers by name in lower case; what is given several times is one list."""
    headers: dict[bytes, bytes] = {}
    for name, value in cast("Iterable[tuple[bytes, bytes]]", scope["headers"]):
        before = headers.get(name.lower())
        headers[name.lower()] = value if before is None else before + b", " + value
    return headers


async def _body(receive: Receive) -> bytes | None:
    """Return the body as far as needed; None when the sender hung up, so that nobody waits for an answer."""
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += cast("bytes", message.get("body", b""))
        if not message.get("more_body", False):
            break
    return bytes(body)


async def _reply(reply: Reply, send: Send) -> None:
    headers = {"content-length": str(len(reply.body)), **reply.headers}
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": reply.body})
