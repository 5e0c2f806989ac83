"""How many file operations a second does the sandbox accept, so that users' load tests are not held up by it?

    python -m benchmarks.sandbox_rate [--rounds N]

The quotas are out of the way, and files are fetched an hour later, so that accepting is all that is measured: signed
creates, adds, removes and replaces over HTTP, on 32 connections. The server has one process, so one core; a second
process sends everything as ready-made bytes. A bare aiohttp handler that reads JSON and answers 202 is asked in turn
within the same run. Wanted: at least 1,500 a second at the median, and beside it what of the server's core that took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
from aiohttp import web

from benchmarks.verdict import state_figure
from moe_segments.limits import QuotaLimits
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from multiprocessing.connection import Connection

AT_ONCE: Final = 32
REQUESTS: Final = 2_000  # of a round and a side
WANTED: Final = 1_500.0
MOST: Final = 10**9
DEFERRED_S: Final = (3_600.0, 3_600.0)
FILE: Final = "/v2/custom-segments/file-segment"
UPDATES: Final = ("add-users", "remove-users", "replace")
FIELDS: Final = {
    "attribute_name": "ID",
    "attribute_type": "string",
    "file_url": "http://127.0.0.1:1/users.csv",
    "callback_url": "http://127.0.0.1:1/hook",
}

Order: TypeAlias = "tuple[int, list[bytes]]"  # port, requests


# The sender, in a process of its own


def send_orders(orders: Connection) -> None:
    """Send what is ordered and report how many seconds it took, until told to end."""
    while (order := orders.recv()) is not None:
        orders.send(asyncio.run(_send_all(*order)))


async def _send_all(port: int, requests: list[bytes]) -> float:
    loop = asyncio.get_running_loop()
    rest = iter(requests)
    senders = [(await loop.create_connection(lambda: _Sender(rest), "127.0.0.1", port))[1] for _ in range(AT_ONCE)]
    began_s = time.perf_counter()
    for sender in senders:
        sender.send_next()
    await asyncio.gather(*(sender.done for sender in senders))
    return time.perf_counter() - began_s


class _Sender(asyncio.Protocol):
    """One connection: the next request goes out when the last one was accepted."""

    def __init__(self, rest: Iterator[bytes]) -> None:
        self._rest = rest
        self._got = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        if not self._got.startswith(b"HTTP/1.1 202"):
            self.done.set_exception(RuntimeError(f"not a 202: {self._got[:200]!r}"))
        elif self._got.endswith(b"}"):
            self._got = b""
            self.send_next()

    def send_next(self) -> None:
        request = next(self._rest, None)
        if request is not None:
            self._transport.write(request)
            return
        self._transport.close()
        self.done.set_result(None)


@contextmanager
def sender() -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=send_orders, args=(theirs,))
    process.start()
    try:
        yield ours
    finally:
        ours.send(None)
        process.join()


# The receiving side


def operations(authorization: str, name: str, count: int) -> list[bytes]:
    """A quarter of each operation; a create comes long before what changes its segment."""
    names = [f"{name} {n}" for n in range(count // 4)]
    creates = [_request("POST", FILE, authorization, {"name": each, "expiry_time": 30, **FIELDS}) for each in names]
    updates = [
        _request("PUT", f"{FILE}/{update}", authorization, {"name": each, **FIELDS})
        for update in UPDATES
        for each in names
    ]
    return creates + updates


def _request(method: str, path: str, authorization: str, fields: dict[str, object]) -> bytes:
    body = json.dumps(fields).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def bare_handler() -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.Response:
        fields = await request.json()
        body = json.dumps({"message": "accepted", "success": True, "cs_name": fields["name"], "cs_id": "0" * 24})
        return web.Response(status=202, body=body.encode(), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site.port
    await runner.cleanup()


async def seconds_for(orders: Connection, port: int, requests: list[bytes]) -> tuple[float, float]:
    """How long it takes to get all *requests* accepted, and what this process works meanwhile."""
    began_s = time.process_time()
    orders.send((port, requests))
    taken_s: float = await asyncio.get_running_loop().run_in_executor(None, orders.recv)
    return taken_s, time.process_time() - began_s


async def measure(rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Acceptances a second of the sandbox, of the bare handler, and seconds of work for each of the sandbox's."""
    limits = QuotaLimits(operations_per_hour=MOST, operations_per_day=MOST, users_per_day=MOST, active_segments=MOST)
    ours, bare, work_s = [], [], []
    with sender() as orders:
        async with Sandbox(limits=limits, processing_s=DEFERRED_S) as sandbox, bare_handler() as bare_port:
            credentials, port = sandbox.credentials, int(sandbox.url.rpartition(":")[2])
            signed = aiohttp.encode_basic_auth(credentials.workspace_id, credentials.api_key)
            for number in range(rounds + 1):  # the first one warms both up
                requests = operations(signed, str(number), REQUESTS)
                taken_s, worked_s = await seconds_for(orders, port, requests)
                bare_s, _ = await seconds_for(orders, bare_port, requests)
                ours.append(REQUESTS / taken_s)
                bare.append(REQUESTS / bare_s)
                work_s.append(worked_s / REQUESTS)
            accepted = len(sandbox.workspace.submissions)
    assert accepted == (rounds + 1) * REQUESTS, f"{accepted} were accepted"
    return ours[1:], bare[1:], work_s[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    ours, bare, work_s = asyncio.run(measure(parser.parse_args().rounds))
    for name, rates in (("sandbox", ours), ("bare handler", bare)):
        print(f"{name:<14}{statistics.median(rates):>8,.0f} a second, {min(rates):,.0f} to {max(rates):,.0f}")
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    print(f"sandbox / bare handler: {statistics.median(ratios):.2f}")
    print(f"one acceptance: {statistics.median(work_s) * 1e6:,.0f} us of the server's core")
    state_figure("acceptances of file operations", statistics.median(ours), WANTED, "a second", at_least=True)


if __name__ == "__main__":
    main()
