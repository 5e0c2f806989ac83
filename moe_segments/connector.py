"""Connections that are used again only while they are provably open, for a moment.

A request on a connection that the service has just closed is a *maybe*, where on a fresh one it would have been
answered. So a kept connection is looked at right before it is used: anything there to read, be it the end, means that
the service is done with it, and another one is made; nothing was sent by then. And it is kept for two seconds only,
shorter than any server's idle time-out is, so that a burst shares it and a lone request never meets that moment.
"""

from __future__ import annotations

import select
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs

if TYPE_CHECKING:
    import asyncio

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

__all__ = ["ATTEMPT", "Attempt", "KeptConnector"]

KEPT_S: Final = 2.0  # the shortest idle time-out among common servers and proxies is 5 s


@attrs.define
class Attempt:
    """What is known of one send so far, also when it is cancelled; one per send.

    The connector fills it, or a trace in a session that is not ours.

    Attributes:
        obtained: A connection was obtained: from here on the service may have the request.
        reused: That connection had served another request before.
        answered: A status line was parsed.
        status: That status; None before.
    """

    obtained: bool = False
    reused: bool = False
    answered: bool = False
    status: int | None = None


ATTEMPT: ContextVar[Attempt | None] = ContextVar("moe_segments_attempt", default=None)


class KeptConnector(aiohttp.TCPConnector):
    """As aiohttp's, but a connection is used again only if the other side has said nothing since. See the module.

    It notes on the `Attempt` what it obtained, before a byte of the request can leave.
    """

    def __init__(self) -> None:
        super().__init__(keepalive_timeout=KEPT_S)
        self._served: set[ResponseHandler] = set()  # of the connections that were obtained and are open

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - inherited
    ) -> Connection:
        """A fresh connection, or a kept one that is still open as this returns."""
        attempt = ATTEMPT.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            reused = protocol in self._served
            if reused and not _is_unspoken(connection):
                connection.close()
                continue
            if protocol is not None and not reused:
                self._served = {one for one in self._served if one.is_connected()} | {protocol}
            if attempt is not None:
                attempt.obtained, attempt.reused = True, reused
            return connection


def _is_unspoken(connection: Connection) -> bool:
    """Whether nothing has come in: neither read already, which would pass for the next answer, nor still to read."""
    protocol = connection.protocol
    return protocol is not None and not protocol.should_close and is_quiet(connection.transport)


def is_quiet(transport: asyncio.Transport | None) -> bool:
    """Whether nothing has come in on this connection, its end included."""
    taken = None if transport is None or transport.is_closing() else transport.get_extra_info("socket")
    if taken is None:
        return False
    poll = select.poll()
    poll.register(taken.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not poll.poll(0)
