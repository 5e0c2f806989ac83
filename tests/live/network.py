"""A host of files, and between a client and a server of plain HTTP a proxy and an entrance with TLS: all real."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

__all__ = ["HttpProxy", "Seen", "certificate_for", "http_proxy", "serving", "tls_entrance"]

_HEAD_END: Final = b"\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@attrs.frozen
class Seen:
    """A request as a proxy saw it.

    Attributes:
        method: CONNECT, or the method of a request in plain HTTP.
        target: As it was asked for.
        headers: By name in small letters.
    """

    method: str
    target: str
    headers: Mapping[str, str] = attrs.field(repr=False)


@attrs.frozen
class HttpProxy:
    """A proxy that tunnels and forwards.

    Attributes:
        port: Where it listens on 127.0.0.1.
        seen: What it was asked for.
    """

    port: int
    seen: list[Seen] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        """Its URL, without a login."""
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def http_proxy(hosts: Mapping[str, int], *, login: str | None = None) -> AsyncIterator[HttpProxy]:
    """Serve a proxy.

    Args:
        hosts: What it resolves: a name to the port on this machine that stands for it.
        login: NAME:PASSWORD that it wants; None for nobody's.
    """
    tasks: set[asyncio.Task[None]] = set()
    seen: list[Seen] = []
    wanted = None if login is None else f"Basic {base64.b64encode(login.encode()).decode()}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(_HEAD_END)
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        seen.append(Seen(method, target, headers))
        parts = urlsplit(target if "://" in target else f"//{target}")
        if wanted is not None and headers.get("proxy-authorization") != wanted:
            writer.write(_REFUSED)
            return
        host = parts.hostname or ""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", hosts.get(host) or parts.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = target.partition(parts.netloc)[2] or "/"
            kept = "\r\n".join(line for line in lines if line and not line.lower().startswith("proxy-"))
            up_writer.write(f"{method} {path} HTTP/1.1\r\n{kept}\r\n\r\n".encode())
        await _relayed(reader, writer, up_reader, up_writer)

    async with _listening(serve, tasks) as port:
        yield HttpProxy(port, seen)


@asynccontextmanager
async def tls_entrance(port: int, certificate: Path) -> AsyncIterator[int]:
    """Take TLS before the server at *port* of this machine. Yields the entrance's own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _relayed(reader, writer, *await asyncio.open_connection("127.0.0.1", port))

    async with _listening(serve, tasks, context) as own:
        yield own


def certificate_for(name: str, directory: Path) -> Path:
    """Return a self-signed certificate of a host, with its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    path = directory / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


@asynccontextmanager
async def _listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tasks: set[asyncio.Task[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _relayed(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> None:
    async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(65_536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    try:
        await asyncio.gather(pour(reader, up_writer), pour(up_reader, writer))
    finally:
        up_writer.close()


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The address of a server whose every path *handler* answers."""
    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    async with TestServer(application) as server:
        yield f"http://127.0.0.1:{server.port}"
