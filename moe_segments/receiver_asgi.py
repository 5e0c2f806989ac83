"""The ASGI 3 face of `CallbackReceiver`: what `receiver.asgi` does. Needs no server library.

Deadlines of headers and connections are the host's. The body's deadline is ours, as its size is. Paths are looked at
as they were sent, before unquoting, where the host tells them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from urllib.parse import quote, unquote, urlsplit

from moe_segments.errors import MoeSegmentsError
from moe_segments.receiver import MAX_BODY_BYTES, TOO_SLOW, Reply, refusal

if TYPE_CHECKING:
    from moe_segments.receiver import CallbackReceiver

__all__ = ["Application", "Receive", "Scope", "Send", "answer", "application", "scope_and_token"]

Scope: TypeAlias = Mapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
Send: TypeAlias = Callable[[dict[str, object]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S: Final = 15.0
_NOWHERE: Final = ("", "")


def application(receiver: CallbackReceiver) -> Application:
    """The receiver as a function: of a method, uvicorn takes it that it speaks ASGI 2."""

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(receiver, scope, receive, send)

    return asgi


async def answer(receiver: CallbackReceiver, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ASGI scope: http and lifespan; any other kind is left alone."""
    if scope["type"] == "lifespan":
        await _live(receiver, receive, send)
    elif scope["type"] == "http":
        reply = await _decide(receiver, scope, receive)
        if reply is not None:
            await _reply(reply, send)


def scope_and_token(path: str, *prefixes: str) -> tuple[str, str]:
    """The last two segments of a quoted path, unquoted; two empty texts when it does not fit.

    Args:
        path: The path as it was sent.
        prefixes: What may stand before them, each or all in this order.
    """
    for rest in _without(path, prefixes):
        segments = rest.split("/")
        if len(segments) == 3 and not segments[0]:  # noqa: PLR2004 - nothing, scope, token
            return unquote(segments[1]), unquote(segments[2])
    return _NOWHERE


def _without(path: str, prefixes: Iterable[str]) -> Iterable[str]:
    yield path
    for prefix in prefixes:
        yield path.removeprefix(prefix)
    for prefix in prefixes:
        path = path.removeprefix(prefix)
    yield path


async def _live(receiver: CallbackReceiver, receive: Receive, send: Send) -> None:
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


async def _decide(receiver: CallbackReceiver, scope: Scope, receive: Receive) -> Reply | None:
    headers = _headers(scope)
    method, encoding = str(scope["method"]), headers.get(b"content-encoding", b"").decode("latin-1")
    declared = headers.get(b"content-length", b"")
    refused = refusal(method, encoding, int(declared) if declared.isdigit() else 0)
    if refused is not None:
        return refused
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await _body(receive)
    except TimeoutError:
        return TOO_SLOW
    if body is None:
        return None
    return await receiver.decide(*_address(receiver, scope), method, encoding, body)


def _address(receiver: CallbackReceiver, scope: Scope) -> tuple[str, str]:
    raw_path = scope.get("raw_path")
    path = raw_path.decode("latin-1") if isinstance(raw_path, bytes) else quote(str(scope["path"]))
    return scope_and_token(path, quote(str(scope.get("root_path", ""))), urlsplit(receiver.public_url or "").path)


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    return {name.lower(): value for name, value in cast("Iterable[tuple[bytes, bytes]]", scope["headers"])}


async def _body(receive: Receive) -> bytes | None:
    """The body as far as needed; None when the sender hung up, so that nobody waits for an answer."""
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
    headers = {"content-length": "0", **reply.headers}
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": b""})
