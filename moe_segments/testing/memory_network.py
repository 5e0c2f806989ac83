"""Connections inside one event loop, without sockets: nothing is lost in a kernel, and the order is always the same.

`Network` knows who listens where; `connected` joins two protocols. What is written arrives in the loop's next round. A
reader that pauses pauses its writer beyond 64 KiB. `close` ends a connection after what was written, `abort` resets it.
Each end runs in the context it was made in, a server's in the one it began to listen in, as with sockets.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Factory", "Listener", "MemoryTransport", "Network", "connected"]

Address: TypeAlias = "tuple[str, int]"
Factory: TypeAlias = "Callable[[], asyncio.BaseProtocol]"

_ANY: Final = ""
_FIRST_PORT: Final = 49_152
_HIGH_BYTES: Final = 1 << 16
_LOW_BYTES: Final = 1 << 14


class Listener(NamedTuple):
    """A listener at an address: its protocol factory and its context."""

    factory: Factory
    context: contextvars.Context


class MemoryTransport(asyncio.Transport):
    """One end of a connection.

    Args:
        loop: Runs both ends.
        protocol: Whom it belongs to.
        here: This end's address.
        there: The other end's address.
        context: What its protocol is told in.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        here: Address,
        there: Address,
        context: contextvars.Context,
    ) -> None:
        super().__init__({"sockname": here, "peername": there})
        self._loop, self._protocol, self._context = loop, protocol, context
        self._peer: MemoryTransport | None = None
        self._came: deque[bytes] = deque()  # from the other end, not handed over yet
        self._came_bytes = 0
        self._ended = self._end_told = self._closing = self._reading_paused = self._writing_paused = False
        self._delivery: asyncio.Handle | None = None

    def join(self, peer: MemoryTransport) -> None:
        """Make *peer* the other end of this one."""
        self._peer = peer

    # Writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Hand *data* to the other end in the loop's next round; to nobody once this end is closed."""
        if self._closing or self._peer is None or not data:
            return
        self._peer._take(bytes(data))  # noqa: SLF001 - two ends of one thing
        if self._peer._came_bytes > _HIGH_BYTES and not self._writing_paused:  # noqa: SLF001 - two ends of one thing
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Write them all."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Close the writing side; reading goes on."""
        if self._peer is not None:
            self._peer._take_end()  # noqa: SLF001 - two ends of one thing

    def can_write_eof(self) -> bool:
        """Return True: the writing side can be closed alone."""
        return True

    def get_write_buffer_size(self) -> int:
        """Return what the other end has not read yet, bytes."""
        return 0 if self._peer is None else self._peer._came_bytes  # noqa: SLF001 - two ends of one thing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Accept a limit and leave everything as it is."""

    # Reading

    def pause_reading(self) -> None:
        """Hand nothing more to the protocol."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Go on handing over."""
        self._reading_paused = False
        self._deliver_soon()

    def is_reading(self) -> bool:
        """Return whether what comes is handed over."""
        return not (self._reading_paused or self._closing)

    def _take(self, data: bytes) -> None:
        if not self._closing:
            self._came.append(data)
            self._came_bytes += len(data)
            self._deliver_soon()

    def _take_end(self) -> None:
        self._ended = True
        self._deliver_soon()

    def _deliver_soon(self) -> None:
        if self._delivery is None:
            self._delivery = self._loop.call_soon(self._deliver, context=self._context)

    def _deliver(self) -> None:
        self._delivery = None
        if not self.is_reading():
            return
        assert isinstance(self._protocol, asyncio.Protocol)
        if self._came:
            data = self._came.popleft()
            self._came_bytes -= len(data)
            if self._peer is not None:
                self._peer._resume_writing(self._came_bytes)  # noqa: SLF001 - two ends of one thing
            self._deliver_soon()
            self._protocol.data_received(data)
        elif self._ended and not self._end_told:
            self._end_told = True
            if not self._protocol.eof_received():
                self.close()

    def _resume_writing(self, waiting_bytes: int) -> None:
        if self._writing_paused and waiting_bytes <= _LOW_BYTES:
            self._writing_paused = False
            self._loop.call_soon(self._protocol.resume_writing, context=self._context)

    # Ending

    def close(self) -> None:
        """End the connection after what was written."""
        if not self._closing:
            self.write_eof()
            self._lose(None)

    def abort(self) -> None:
        """Reset the connection: the other end loses what it has not read."""
        if self._closing:
            return
        peer = self._peer
        self._lose(None)
        if peer is not None:
            self._loop.call_soon(peer._lose, ConnectionResetError(errno.ECONNRESET, "reset by the other end"))  # noqa: SLF001 - two ends of one thing

    def is_closing(self) -> bool:
        """Return whether it is closed or about to be."""
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to *protocol* from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def _lose(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._came.clear()
        self._came_bytes = 0
        if self._peer is not None:
            self._peer._resume_writing(0)  # noqa: SLF001 - two ends of one thing
        self._loop.call_soon(self._protocol.connection_lost, error, context=self._context)


def connected(
    loop: asyncio.AbstractEventLoop, client: asyncio.BaseProtocol, server: Listener, here: Address, there: Address
) -> MemoryTransport:
    """Connect *client* to who listens. Returns the client's end."""
    accepted = server.context.run(server.factory)
    near = MemoryTransport(loop, client, here, there, contextvars.copy_context())
    far = MemoryTransport(loop, accepted, there, here, server.context.copy())
    near.join(far)
    far.join(near)
    server.context.copy().run(accepted.connection_made, far)
    client.connection_made(near)
    return near


class _Listening:
    """Stands for a listening socket: has an address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def getsockname(self) -> Address:
        """Host and port."""
        return self._address


class _Server(asyncio.AbstractServer):
    """A server at some addresses of a network."""

    def __init__(
        self,
        network: Network,
        loop: asyncio.AbstractEventLoop,
        addresses: Sequence[Address],
        bound: socket.socket | None,
    ) -> None:
        self._network, self._loop, self._addresses, self._bound = network, loop, addresses, bound
        self.sockets = tuple(_Listening(address) for address in addresses)

    def close(self) -> None:
        """Listen no longer; connections go on."""
        self._network.forget(self._addresses)
        if self._bound is not None:
            self._bound.close()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop it serves in."""
        return self._loop

    def is_serving(self) -> bool:
        """Return whether it listens."""
        return all(self._network.find(address) is not None for address in self._addresses)

    async def start_serving(self) -> None:
        """Do nothing: the server serves from the beginning."""

    async def serve_forever(self) -> None:
        """Wait until cancelled."""
        await self._loop.create_future()

    async def wait_closed(self) -> None:
        """Return at once: there is nothing to wait for."""


class Network:
    """The listeners of one event loop, by address."""

    def __init__(self) -> None:
        self._listening: dict[Address, Listener] = {}
        self._next_port = _FIRST_PORT

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Factory,
        hosts: Sequence[str | None],
        port: int,
        bound: socket.socket | None = None,
    ) -> asyncio.AbstractServer:
        """Let *factory* make the protocol of each connection to these hosts, on *port* or, if 0, on a free one.

        Args:
            loop: Runs it.
            factory: Makes the protocols.
            hosts: Names or addresses; None for any.
            port: Where.
            bound: A socket that keeps this address from others on this machine; closed with the server.

        Raises:
            OSError: An address is taken.
        """
        port = port or self.free_port()
        addresses = [(_host(host), port) for host in hosts]
        for address in addresses:
            if address in self._listening:
                raise OSError(errno.EADDRINUSE, f"{address[0] or 'any address'} port {port} is taken in this loop")
        self._listening |= dict.fromkeys(addresses, Listener(factory, contextvars.copy_context()))
        return _Server(self, loop, [(host or "127.0.0.1", port) for host, port in addresses], bound)

    def find(self, address: Address) -> Listener | None:
        """Return the listener of an address."""
        host, port = address
        return self._listening.get((_host(host), port)) or self._listening.get((_ANY, port))

    def forget(self, addresses: Iterable[Address]) -> None:
        """Remove the listener of an address. Idempotent."""
        for host, port in addresses:
            self._listening.pop((_host(host), port), None)
            self._listening.pop((_ANY, port), None)

    def dial(self, address: Address) -> Listener:
        """Return the listener of an address.

        Raises:
            ConnectionRefusedError: Nobody does.
        """
        listener = self.find(address)
        if listener is None:
            where = f"{address[0]} port {address[1]}"
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody in this loop listens on {where}")
        return listener

    def free_port(self) -> int:
        """Return a port that nobody has had yet."""
        self._next_port += 1
        return self._next_port - 1


def _host(host: str | None) -> str:
    if host in {None, "", "0.0.0.0", "::"}:  # noqa: S104 - names, nothing is bound
        return _ANY
    return "127.0.0.1" if host == "localhost" else str(host)
