"""What does a submit cost beside a bare request of aiohttp with the same body to the same server?

    python -m benchmarks.client_overhead [--rounds N]

Ours: `client.add_users` on a memory journal, quotas and pace out of the way, rows given, no receiver, a segment of its
own for each call; it ends when the journal knows the acceptance. The bare peer: a default `aiohttp.ClientSession` that
keeps its connections, sends the same method, address, headers and body, and reads the JSON of the answer; it remembers
nothing. Both talk to one minimal aiohttp server in a second process, which reads the body and answers 202 as
documented.

Each round takes the sides in turn, in slices, with a client and a session of its own that are opened before. A ratio
is the median of ours over the median of the peer, of seconds a request: 1.0 would mean that governor, journal and
retries cost nothing. Wanted: at most 2.0 with one at a time and 1.5 with 50. The third side, without a bound, is the
bare peer with a new connection for each request, as the client makes them: what is left above it is our own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
import attrs
from aiohttp import web

from benchmarks.verdict import ratio_of_medians, spread, state
from moe_segments import AddUsers, Credentials, QuotaLimits, SegmentsClient
from moe_segments.core.wire import Request, authorization, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

CREDENTIALS: Final = Credentials(workspace_id="W1", api_key="not-a-real-key", data_center="03")
LIMITS: Final = QuotaLimits(operations_per_hour=10**6, operations_per_day=10**6, users_per_day=10**9)
BOUNDS: Final = {1: 2.0, 50: 1.5}  # by how many at a time
CALLS: Final = {1: 25, 50: 150}  # of a slice
SLICES: Final = 4  # of a round
ACCEPTANCE: Final = {
    "message": "Adding users was taken up",
    "success": True,
    "cs_name": "winter_sale",
    "cs_id": "64f0c1d2e3a4b5c6d7e8f901",
}
_ACCEPTED: Final = 202

Call: TypeAlias = "Callable[[str], Awaitable[object]]"


# The server, in a process of its own


def serve(told: Connection) -> None:
    """Answer every request with an acceptance until the other end hangs up."""
    asyncio.run(_serve(told))


async def _serve(told: Connection) -> None:
    body = json.dumps(ACCEPTANCE).encode()

    async def accept(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=_ACCEPTED, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1_024)
    await site.start()
    told.send(site.port)
    await asyncio.get_running_loop().run_in_executor(None, told.poll, None)
    await runner.cleanup()


@contextmanager
def server() -> Iterator[str]:
    """The address of the server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        ours.send(None)
        process.join()


# The sides


FILE_URL: Final = "https://files.example.com/exports/users.csv?signature=0123456789abcdef"


@attrs.frozen
class Ours:
    """The client.

    Attributes:
        client: Open.
    """

    client: SegmentsClient

    async def call(self, name: str) -> None:
        """Add users to the segment *name*."""
        await self.client.add_users(
            name=name, attribute_name="ID", attribute_type="string", file_url=FILE_URL, rows=1_000
        )


def the_same_request() -> Request:
    """What the client sends, by its own encoder."""
    operation = AddUsers(name="segment 1234", attribute_name="ID", attribute_type="string", file_url=FILE_URL)
    return encode(operation, credentials=CREDENTIALS)


@attrs.frozen
class Bare:
    """The same request by aiohttp alone.

    Attributes:
        session: Open.
        url: Of the server.
        request: What to send; its body is made before.
    """

    session: aiohttp.ClientSession
    url: str
    request: Request

    async def call(self, _: str) -> None:
        """Send the request and read its answer."""
        headers = {**self.request.headers, "Authorization": authorization(CREDENTIALS)}
        url = self.url + self.request.path
        async with self.session.request(self.request.method, url, data=self.request.body, headers=headers) as answer:
            assert answer.status == _ACCEPTED
            assert await answer.json() == ACCEPTANCE


async def seconds_a_call(call: Call, names: Iterator[str], count: int, at_once: int) -> float:
    """Make *count* calls, *at_once* at a time, and say how many seconds one took."""
    rest = iter([next(names) for _ in range(count)])

    async def work() -> None:
        for name in rest:
            await call(name)

    began_s = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.perf_counter() - began_s) / count


async def round_of(url: str, at_once: int, names: Iterator[str]) -> dict[str, float]:
    """Seconds a request of each side, over slices in turn."""
    request = the_same_request()
    taken_s: defaultdict[str, float] = defaultdict(float)
    async with AsyncExitStack() as stack:
        client = SegmentsClient(
            CREDENTIALS, journal="memory:", limits=LIMITS, base_url=url, requests_per_s=10**6, total_timeout_s=30
        )
        kept = await stack.enter_async_context(aiohttp.ClientSession())
        fresh = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)))
        sides: dict[str, Call] = {
            "client": Ours(await stack.enter_async_context(client)).call,
            "bare": Bare(kept, url, request).call,
            "bare, new connections": Bare(fresh, url, request).call,
        }
        for call in sides.values():
            await seconds_a_call(call, names, at_once, at_once)  # opens connections, fills caches
        for _ in range(SLICES):
            for side, call in sides.items():
                taken_s[side] += await seconds_a_call(call, names, CALLS[at_once], at_once) / SLICES
    return taken_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    names = (f"segment {number}" for number in range(10**9))
    found: dict[int, defaultdict[str, list[float]]] = {at_once: defaultdict(list) for at_once in BOUNDS}
    with server() as url:
        for _ in range(rounds):
            for at_once, samples in found.items():
                for side, taken_s in asyncio.run(round_of(url, at_once, names)).items():
                    samples[side].append(taken_s)
    within = [report(at_once, samples) for at_once, samples in found.items()]
    sys.exit(not all(within))


def report(at_once: int, samples: dict[str, list[float]]) -> bool:
    print(f"{at_once} at a time, a request:")
    for side, taken_s in samples.items():
        print(f"  {side:<24}{spread(taken_s)}")
    own = ratio_of_medians(samples["client"], samples["bare, new connections"])
    print(f"  client over bare with new connections: {own:.2f}")
    return state(f"{at_once} at a time", ratio_of_medians(samples["client"], samples["bare"]), BOUNDS[at_once])


if __name__ == "__main__":
    main()
