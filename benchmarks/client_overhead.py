"""What does a create cost beside a bare request of aiohttp with the same body to the same server?

    python -m benchmarks.client_overhead [--rounds N]

Ours: `client.create_file_segment` on a memory journal, quotas and pace out of the way, rows given, no receiver, a
segment of its own for each call; it ends when the journal knows the acceptance. The bare peer: an
`aiohttp.ClientSession` that opens a new connection for each request, as the client does. It sends the same method,
address, headers and body, reads the JSON of the answer, and remembers nothing. Both talk to one sandbox in a second
process, whose quotas and processing are out of the way.

Each round takes the sides in turn, in slices, with a client and a session of its own that are opened before. A ratio
is the median of ours over the median of the peer, of seconds a request: 1.0 would mean that governor, journal and
retries cost nothing. Wanted: at most 1.3 with one at a time and 1.5 with 50.

Beside it, without a bound, the same against a server that does nothing but answer: no service is that quick, so this
is the processor time of the client laid bare. And a peer that keeps its connections.
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
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
import attrs
from aiohttp import web

from benchmarks.verdict import ratio_of_medians, spread, state
from moe_segments import CreateFileSegment, Credentials, QuotaLimits, SegmentsClient
from moe_segments.core.wire.file_segments import authorization, encode
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

CREDENTIALS: Final = Credentials(workspace_id="W1", api_key="not-a-real-key", data_center="03")
LIMITS: Final = QuotaLimits(
    operations_per_hour=10**6, operations_per_day=10**6, users_per_day=10**9, active_segments=10**6
)
BOUNDS: Final = {1: 1.3, 50: 1.5}  # by how many at a time
SANDBOX, MINIMAL = "the sandbox", "a server that only answers"
CALLS: Final = {1: 25, 50: 150}  # of a slice
SLICES: Final = 4  # of a round
_ACCEPTED: Final = 202

Call: TypeAlias = "Callable[[], Awaitable[object]]"


# The servers, each in a process of its own


def serve(kind: str, told: Connection) -> None:
    """Answer every request with an acceptance until the other end hangs up."""
    asyncio.run(_serve_sandbox(told) if kind == SANDBOX else _serve(told))


async def _serve_sandbox(told: Connection) -> None:
    async with Sandbox(credentials=CREDENTIALS, limits=LIMITS, processing_s=(3_600, 3_600)) as sandbox:
        told.send(sandbox.url)
        await asyncio.get_running_loop().run_in_executor(None, told.poll, None)


async def _serve(told: Connection) -> None:
    body = json.dumps({"message": "taken up", "success": True, "cs_name": "sale", "cs_id": "64f0c1d2e3a4b5c6d7e8f901"})

    async def accept(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=_ACCEPTED, body=body.encode(), content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1_024)
    await site.start()
    told.send(f"http://127.0.0.1:{site.port}")
    await asyncio.get_running_loop().run_in_executor(None, told.poll, None)
    await runner.cleanup()


@contextmanager
def server(kind: str) -> Iterator[str]:
    """The address of a server."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(kind, theirs))
    process.start()
    try:
        yield ours.recv()
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

    def prepared(self, name: str) -> Call:
        """What creates the segment *name*."""
        return partial(
            self.client.create_file_segment,
            name=name,
            attribute_name="ID",
            attribute_type="string",
            expiry_time=30,
            file_url=FILE_URL,
            rows=1_000,
        )


@attrs.frozen
class Bare:
    """The same request by aiohttp alone.

    Attributes:
        session: Open.
        url: Of the server.
    """

    session: aiohttp.ClientSession
    url: str

    def prepared(self, name: str) -> Call:
        """What sends the request for *name*, made before by the client's own encoder, and reads its answer."""
        operation = CreateFileSegment(
            name=name, attribute_name="ID", attribute_type="string", expiry_time=30, file_url=FILE_URL
        )
        request = encode(operation, credentials=CREDENTIALS)
        headers = {**request.headers, "Authorization": authorization(CREDENTIALS)}
        return partial(self._send, request.method, self.url + request.path, request.body, headers)

    async def _send(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> None:
        async with self.session.request(method, url, data=body, headers=headers) as answer:
            assert answer.status == _ACCEPTED
            assert (await answer.json())["success"]


async def seconds_a_call(side: Ours | Bare, names: Iterator[str], count: int, at_once: int) -> float:
    """Make *count* calls, *at_once* at a time, and say how many seconds one took."""
    rest = iter([side.prepared(next(names)) for _ in range(count)])

    async def work() -> None:
        for call in rest:
            await call()

    began_s = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.perf_counter() - began_s) / count


async def round_of(url: str, at_once: int, names: Iterator[str]) -> dict[str, float]:
    """Seconds a request of each side, over slices in turn."""
    taken_s: defaultdict[str, float] = defaultdict(float)
    async with AsyncExitStack() as stack:
        client = SegmentsClient(
            CREDENTIALS,
            journal="memory:",
            limits=LIMITS,
            base_url=url,
            requests_per_s=10**6,
            total_timeout_s=30,
            preflight="off",  # the file is nowhere: requests are measured, as on the bare side
        )
        kept = await stack.enter_async_context(aiohttp.ClientSession())
        fresh = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)))
        sides: dict[str, Ours | Bare] = {
            "client": Ours(await stack.enter_async_context(client)),
            "bare": Bare(fresh, url),
            "bare, connections kept": Bare(kept, url),
        }
        for side in sides.values():
            await seconds_a_call(side, names, at_once, at_once)  # opens connections, fills caches
        for _ in range(SLICES):
            for name, side in sides.items():
                taken_s[name] += await seconds_a_call(side, names, CALLS[at_once], at_once) / SLICES
    return taken_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    names = (f"segment {number}" for number in range(10**9))
    found: defaultdict[tuple[str, int], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with server(SANDBOX) as sandbox, server(MINIMAL) as minimal:
        for _ in range(rounds):
            for kind, url in ((SANDBOX, sandbox), (MINIMAL, minimal)):
                for at_once in BOUNDS:
                    for side, taken_s in asyncio.run(round_of(url, at_once, names)).items():
                        found[kind, at_once][side].append(taken_s)
    within = [report(kind, at_once, samples) for (kind, at_once), samples in found.items()]
    sys.exit(not all(within))


def report(kind: str, at_once: int, samples: dict[str, list[float]]) -> bool:
    print(f"{kind}, {at_once} at a time, a request:")
    for side, taken_s in samples.items():
        print(f"  {side:<24}{spread(taken_s)}")
    ratio = ratio_of_medians(samples["client"], samples["bare"])
    kept = ratio_of_medians(samples["client"], samples["bare, connections kept"])
    print(f"  client over bare with connections kept: {kept:.2f}")
    if kind == SANDBOX:
        return state(f"{kind}, {at_once} at a time", ratio, BOUNDS[at_once])
    print(f"{kind}, {at_once} at a time: ratio {ratio:.2f}")
    return True


if __name__ == "__main__":
    main()
