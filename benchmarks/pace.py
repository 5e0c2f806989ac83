"""Does every slot of the pace carry a request, however many wait for one?

    python -m benchmarks.pace

Everything runs in virtual time and over a network in memory, so each figure is exact and the same on any machine. A
service answers after 50 ms and notes when each request arrived. The ideal for N requests is N / rate: a ratio is of
the arrival that is named over its ideal.

1. 400 archives at once at 5 requests a second, which is the default. The ideal for the last is 80 s.
2. A create that is asked for right after them. The ideal is its place in line, the 401st.
3. `submit_many` of 120 archives at 2 requests a second: 60 s.
4. 250 creates at once, where the limits allow 300 an hour: 50 s.

Bounds: 1.05 for the first two, 1.10 for the others. A refusal would be an error here.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.verdict import state
from moe_segments import ArchiveSegment, CreateFileSegment, Credentials, QuotaLimits, SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ARCHIVES: Final = 400
MANY: Final = 120
CREATES: Final = 250
RATE: Final = 5.0
SLOW_RATE: Final = 2.0
ANSWER_S: Final = 0.05
BESIDE_BOUND, OTHER_BOUND = 1.05, 1.10
LARGE: Final = QuotaLimits(operations_per_hour=300, operations_per_day=10**6, users_per_day=10**9)
CREDENTIALS: Final = Credentials(workspace_id="W1", api_key="a-key-of-some-length", data_center="01")


@attrs.define
class Service:
    """A service that notes what arrives.

    Attributes:
        arrivals: When each request arrived, on the loop's clock, and what it was.
        status: What an operation is answered with.
    """

    arrivals: list[tuple[float, str]] = attrs.field(factory=list)
    status: int = 200

    async def answer(self, request: web.Request) -> web.Response:
        """Accept anything."""
        body = await request.json() if request.can_read_body else {}
        self.arrivals.append((asyncio.get_running_loop().time(), f"{request.method} {body.get('name', request.path)}"))
        await asyncio.sleep(ANSWER_S)
        if request.method == "GET":
            return web.json_response({"data": []})
        return web.json_response({"success": True}, status=self.status)

    def times_s(self, what: str = "") -> list[float]:
        """When the requests whose description holds *what* arrived."""
        return [at_s for at_s, shown in self.arrivals if what in shown]


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[Service, SegmentsClient]]:
    """A service and a client of it, in this loop."""
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", service.answer)
    async with (
        TestServer(app, host="127.0.0.1") as server,
        SegmentsClient(
            CREDENTIALS,
            base_url=str(server.make_url("")),
            clock=asyncio.get_running_loop().time,
            **{"journal": MemoryJournal(clock=journal_clock), "preflight": "off", "requests_per_s": RATE, **options},
        ) as client,
    ):
        yield service, client


def archives(count: int) -> list[ArchiveSegment]:
    """So many, each of another segment."""
    return [ArchiveSegment(name=f"old {number}") for number in range(count)]


def creation(name: str) -> CreateFileSegment:
    """A small one."""
    return CreateFileSegment(
        name=name,
        attribute_name="ID",
        attribute_type="string",
        expiry_time=30,
        file_url="https://files.example/f",
        rows=1,
    )


async def archives_and_a_create() -> tuple[float, float]:
    """When the last of many archives and a create beside them arrived, each over its ideal."""
    async with served() as (service, client):
        waiting = [asyncio.ensure_future(client.submit(one)) for one in archives(ARCHIVES)]
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(client.submit(creation("new"), max_wait_s=600)))
        await asyncio.gather(*waiting)
        last_s, beside_s = service.times_s("old")[-1], service.times_s("new")[-1]
    return last_s * RATE / ARCHIVES, beside_s * RATE / (ARCHIVES + 1)


async def many_archives() -> float:
    """When the last of `submit_many` arrived, over its ideal."""
    async with served(requests_per_s=SLOW_RATE) as (service, client):
        outcomes = [outcome async for outcome in client.submit_many(archives(MANY))]
        assert [outcome.error for outcome in outcomes] == [None] * MANY
        return service.times_s()[-1] * SLOW_RATE / MANY


async def creates_of_a_large_quota() -> float:
    """When the last of many creates arrived that the hour has room for, over its ideal."""
    async with served(limits=LARGE) as (service, client):
        await asyncio.gather(*(client.submit(creation(f"new {number}")) for number in range(CREATES)))
        return service.times_s()[-1] * RATE / CREATES


def main() -> None:
    last, beside = run_virtually(archives_and_a_create, in_memory=True)
    within = [
        state(f"{ARCHIVES} archives at {RATE:g} a second, over N / rate", last, BESIDE_BOUND),
        state("a create asked for after them, over its place in line", beside, BESIDE_BOUND),
        state(
            f"submit_many of {MANY} at {SLOW_RATE:g} a second, over N / rate",
            run_virtually(many_archives, in_memory=True),
            OTHER_BOUND,
        ),
        state(
            f"{CREATES} creates where {LARGE.operations_per_hour} an hour are allowed, over N / rate",
            run_virtually(creates_of_a_large_quota, in_memory=True),
            OTHER_BOUND,
        ),
    ]
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
