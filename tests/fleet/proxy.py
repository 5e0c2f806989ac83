"""A TCP proxy that cuts, swallows and delays, in front of any server on this machine.

Within `async with Proxy(target) as proxy` clients connect to 127.0.0.1 at `proxy.port`. `arm` lets one request meet a
`Fault`, `delay_s` holds every piece back, `first` lets something happen before a request goes on, `is_down` cuts all
connections and every new one, `cut` those that are there.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["Fault", "Proxy", "Target"]

Target: TypeAlias = "tuple[str, int] | Path"
_PIECE_BYTES: Final = 1 << 16


class Fault(Enum):
    """What happens to one request, known by its first piece."""

    LOSE_REQUEST = "the server never sees it, and the connection is cut"
    LOSE_ANSWER = "the server answers it, and the connection is cut instead"
    SWALLOW = "the server answers it, and nothing ever comes back over this connection"


class Proxy:
    """One listening port in front of one server; every connection is relayed to one of its own.

    Args:
        target: The server: host and port, or the path of its Unix socket.

    Attributes:
        port: Where it listens on 127.0.0.1, once entered.
        delay_s: How long each piece is held back, each way, seconds.
        first: What is waited for before each piece from a client goes on; None for nothing.
        faulted: Set when an armed fault has struck.
        connections: How many were accepted so far.
        requests: How many pieces came from clients so far: round trips, where each request is one piece.
    """

    def __init__(self, target: Target) -> None:
        self.target, self.port, self.delay_s, self.connections = target, 0, 0.0, 0
        self.requests = 0
        self.first: Callable[[], Awaitable[object]] | None = None
        self.faulted = asyncio.Event()
        self._armed: tuple[Fault, bytes] | None = None
        self._is_down = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        # Not cancelled: each ends by itself, as both its ways are cut.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def is_down(self) -> bool:
        """Whether every connection is cut as soon as it is made. Setting it cuts those that are there."""
        return self._is_down

    @is_down.setter
    def is_down(self, is_down: bool) -> None:
        self._is_down = is_down
        if is_down:
            self.cut()

    def arm(self, fault: Fault, request: bytes = b"") -> None:
        """Let *fault* strike once, at the next piece from a client that holds *request*."""
        self._armed = fault, request
        self.faulted.clear()

    def cut(self) -> None:
        """Break every connection, whatever is under way."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_down:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        # An end that is cancelled would be reported as a mistake of the program's by the stream that began it.
        with suppress(OSError, asyncio.CancelledError):
            await self._relay(reader, writer)
        writer.transport.abort()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self.target, tuple):
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        else:
            far_reader, far_writer = await asyncio.open_unix_connection(self.target)
        self._writers.add(far_writer)
        struck: list[Fault] = []
        ways = [
            asyncio.ensure_future(self._requests(reader, far_writer, struck)),
            asyncio.ensure_future(self._answers(far_reader, writer, struck)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers.discard(far_writer)
            far_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter, struck: list[Fault]
    ) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            self.requests += 1
            await asyncio.sleep(self.delay_s)
            if self.first is not None:
                await self.first()
            if self._armed is not None and self._armed[1] in piece:
                struck.append(self._armed[0])
                self._armed = None
                if struck == [Fault.LOSE_REQUEST]:
                    self.faulted.set()
                    return
            far_writer.write(piece)
            await far_writer.drain()

    async def _answers(
        self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, struck: list[Fault]
    ) -> None:
        while piece := await far_reader.read(_PIECE_BYTES):
            await asyncio.sleep(self.delay_s)
            if struck:
                self.faulted.set()
                if struck == [Fault.LOSE_ANSWER]:
                    return
            else:
                writer.write(piece)
                await writer.drain()
