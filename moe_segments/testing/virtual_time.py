"""An event loop whose time jumps to the next timer as soon as nothing else can happen.

Real sockets and threads go on working: the loop looks for their events first, and does not jump while a job runs in an
executor. So a test waits virtual hours in real milliseconds. Servers in other processes do not share its time: scale
the windows for those instead.

With `in_memory` TCP connections stay inside the loop: whoever listens in it is reached without a socket, whoever does
not is refused. Then no test can reach a network by mistake, ports are never taken, and one seed gives one order of
events; a real socket may deliver a moment later than the loop looks for it.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from moe_segments.testing.memory_network import MemoryTransport, Network, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from moe_segments.testing.memory_network import Factory

__all__ = ["EPOCH_US", "VirtualTimeLoop", "journal_clock", "run_virtually"]

T = TypeVar("T")
EPOCH_US: Final = 1_764_547_200_000_000  # where virtual time begins: 2025-12-01T00:00Z, microseconds
_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_JOB_POLL_S: Final = 0.05
# Rounds of the loop that take no time; each further one takes a microsecond. More than any honest burst needs: how many
# a burst takes depends on threads too, and two runs of one seed would differ by that microsecond.
_ROUNDS_AT_ONCE: Final = 2_000
_ROUND_S: Final = 1e-6


class _JumpingSelector(selectors.DefaultSelector):
    """A selector with virtual time, which it moves forward instead of waiting.

    Attributes:
        now_s: Virtual seconds since the selector was made.
        jobs: Number of jobs that run in threads; time stands still until it is 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.jobs = 0
        self._rounds = 0  # since time moved

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; where nothing is, let *timeout* seconds pass."""
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            self._count_round()
            return events
        if self.jobs or timeout is None:
            return super().select(_JOB_POLL_S if timeout is None else min(timeout, _JOB_POLL_S))
        self.now_s += timeout
        self._rounds = 0
        return []

    def _count_round(self) -> None:
        # Whoever computes a rest of 1e-17 s and asks to be woken then would ask for ever, at the same instant.
        self._rounds += 1
        if self._rounds > _ROUNDS_AT_ONCE:
            self.now_s += _ROUND_S


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector loop with a clock of its own, which starts at 0 and jumps when the loop is idle.

    Args:
        in_memory: TCP connections stay inside the loop, without TLS.
    """

    def __init__(self, *, in_memory: bool = False) -> None:
        self._virtual = _JumpingSelector()
        super().__init__(self._virtual)
        self._network = Network() if in_memory else None
        self._dialled: weakref.WeakKeyDictionary[socket.socket, tuple[str, int]] = weakref.WeakKeyDictionary()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now_s

    def run_in_executor(  # type: ignore[override]  # the stubs' type variables add nothing here
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Run a job in a thread; time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._virtual.jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: asyncio.Future[Any]) -> None:
        self._virtual.jobs -= 1

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        """Wait for the executor's threads; time stands still meanwhile.

        Python 3.12 and later wait at most 300 seconds, which would pass at once.
        """
        self._virtual.jobs += 1
        try:
            await super().shutdown_default_executor(*args, **options)
        finally:
            self._virtual.jobs -= 1

    # The network in memory. The parameters are asyncio's own.

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Create a server; in memory it is reached from inside this loop only."""
        listening: socket.socket | None = options.get("sock")
        if self._network is None or (listening is not None and listening.family not in _FAMILIES):
            return await super().create_server(protocol_factory, host, port, **options)
        _refuse_tls(options)
        if listening is not None:
            host, port = listening.getsockname()[:2]
        hosts = [host] if host is None or isinstance(host, str) else list(host)
        return self._network.listen(self, protocol_factory, hosts, port or 0, listening)

    async def create_connection(
        self, protocol_factory: Factory, host: Any = None, port: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """Connect; in memory to a listener of this loop.

        Raises:
            ConnectionRefusedError: In memory: nobody listens there.
        """
        dialling = options.get("sock")
        address = (host, port) if dialling is None else self._dialled.pop(dialling, None)
        if self._network is None or address is None:
            return await super().create_connection(protocol_factory, host, port, **options)
        _refuse_tls(options)
        if dialling is not None:
            dialling.close()
        server, client = self._network.dial(address), protocol_factory()
        here = ("127.0.0.1", self._network.free_port())
        return connected(self, client, server, here, address), client

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket; in memory only note the address for the `create_connection` that follows.

        Raises:
            ConnectionRefusedError: In memory: nobody listens there.
        """
        if self._network is None or sock.family not in _FAMILIES:
            return await super().sock_connect(sock, address)
        self._network.dial(address[:2])
        self._dialled[sock] = address[:2]
        return None

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Resolve a name; in memory only this machine's names and addresses are known.

        Raises:
            OSError: In memory: any other name.
        """
        if self._network is None:
            return await super().getaddrinfo(host, port, **options)
        numeric = "127.0.0.1" if host == "localhost" else host
        options["flags"] = options.get("flags", 0) | socket.AI_NUMERICHOST
        return socket.getaddrinfo(numeric, port, **options)

    async def sendfile(self, transport: Any, file: Any, offset: int = 0, count: Any = None, **options: Any) -> int:
        """Refuse to send a file in memory, so that aiohttp writes it itself.

        Raises:
            NotImplementedError: In memory.
        """
        if isinstance(transport, MemoryTransport):
            raise NotImplementedError("a connection in memory has no descriptor")
        return await super().sendfile(transport, file, offset, count, **options)


def run_virtually(main: Callable[[], Coroutine[Any, Any, T]], *, in_memory: bool = False) -> T:
    """Run *main* to its end in virtual time, in a loop of its own.

    Args:
        main: Makes the coroutine.
        in_memory: As for `VirtualTimeLoop`.

    Returns:
        What the coroutine returns.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(in_memory=in_memory)) as runner:
        return runner.run(main())


def journal_clock() -> int:
    """Return a journal's clock in the running loop's time, microseconds since the epoch.

    In the loop's own thread only.

    Returns:
        Microseconds.
    """
    return EPOCH_US + round(asyncio.get_running_loop().time() * 1_000_000)


def _refuse_tls(options: dict[str, Any]) -> None:
    if options.get("ssl"):
        raise NotImplementedError("connections in memory have no TLS: use http addresses in tests")
