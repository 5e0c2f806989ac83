"""What does it cost to answer a callback only after it is durable?

    python -m benchmarks.receiver_rate [--rounds N] [--directory DIR] [--sync-ms MS]

Three questions, asked in turn within one run, so that a noisy neighbour troubles both sides of each ratio:

1. SQLite: callbacks one after another, over HTTP, against the least that answers over HTTP: a bare aiohttp handler
   that makes a bare durable transaction in a thread and then answers, with the same table and PRAGMAs on the same disk,
   no journal around it. Wanted: at least 0.75.
2. SQLite: 32 callbacks at a time against one at a time. Wanted: at least 5 times, since they share a commit.
3. Memory: callbacks against a bare aiohttp handler that reads JSON and answers 200. No bound.

Beside it, what both reach of bare transactions without HTTP. With `--sync-ms 2` all of it runs as on a disk whose syncs
take that much longer, such as a cloud volume's. Where other programs use the disk meanwhile, the ratios scatter too
widely to say anything.

Every callback is the first one of its own job. A second process sends all requests, by the same code for both sides.
Printed are medians over rounds; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
from aiohttp import web

from benchmarks.slow_disk import again_with_slow_syncs, is_slowed
from benchmarks.verdict import state_figure
from moe_segments.callbacks.receiver import CallbackReceiver, new_token, token_digest
from moe_segments.core.events import Reserved
from moe_segments.journal import open_journal
from moe_segments.journal.replica import Replica
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

SCOPE: Final = "W1.03"
AT_ONCE: Final = 32
PARTS: Final = 10  # a round takes the sides in turn this often
SLOW: Final = 10  # durable operations of a part, one after another
QUICK: Final = 200  # requests of a part without a disk
BODY: Final = json.dumps(
    {
        "db_name": "demo",
        "segment_name": "diwali_2026",
        "request_id": "5f3e0c1a",
        "status": 201,
        "values_found": 48_210,
        "values_processed": 48_190,
        "user_count": 40_002,
    }
).encode()
PRAGMAS: Final = ("PRAGMA journal_mode=DELETE", "PRAGMA synchronous=EXTRA")

Order: TypeAlias = "tuple[int, list[bytes], int]"  # port, requests, how many at a time


# The sender, in a process of its own


def send_orders(orders: Connection) -> None:
    """Send what is ordered and report how many seconds it took, until told to end."""
    while (order := orders.recv()) is not None:
        orders.send(asyncio.run(_send_all(*order)))


async def _send_all(port: int, requests: list[bytes], at_once: int) -> float:
    loop = asyncio.get_running_loop()
    rest = iter(requests)
    senders = [(await loop.create_connection(lambda: _Sender(rest), "127.0.0.1", port))[1] for _ in range(at_once)]
    began_s = time.perf_counter()
    for sender in senders:
        sender.send_next()
    await asyncio.gather(*(sender.done for sender in senders))
    return time.perf_counter() - began_s


class _Sender(asyncio.Protocol):
    """One connection: the next request goes out when the last one was answered with an empty 200."""

    def __init__(self, rest: Iterator[bytes]) -> None:
        self._rest = rest
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200") or not data.endswith(b"\r\n\r\n"):
            self.done.set_exception(RuntimeError(f"not an empty 200: {data[:80]!r}"))
            return
        self.send_next()

    def send_next(self) -> None:
        request = next(self._rest, None)
        if request is not None:
            self._transport.write(request)
            return
        self._transport.close()
        self.done.set_result(None)


# The receiving side


@attrs.frozen
class Target:
    """A receiver and its journal.

    Attributes:
        receiver: It listens.
        replica: Its journal.
        prefix: What makes job names unique.
    """

    receiver: CallbackReceiver
    replica: Replica
    prefix: str

    async def requests(self, name: str, count: int) -> tuple[int, list[bytes]]:
        """The port, and a callback for each of *count* new jobs."""
        tokens = [new_token() for _ in range(count)]
        events = [_reserved(f"{self.prefix} {name} {i}", token) for i, token in enumerate(tokens)]
        await self.replica.ask(lambda _state, _now_us: (events, None))
        assert self.receiver.port is not None
        return self.receiver.port, [_post(f"/{SCOPE}/{token}") for token in tokens]


def _reserved(job: str, token: str) -> Reserved:
    operation = {"op": "add", "name": "diwali_2026", "rows": 48_210}
    return Reserved(job, 1, operation, operations=1, rows=48_210, keys=(job,), token_sha256=token_digest(token))


def _post(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}"
    return f"{head}\r\n\r\n".encode() + BODY


@asynccontextmanager
async def target(journal_url: str) -> AsyncIterator[Target]:
    replica = Replica(open_journal(journal_url, SCOPE), QuotaLimits())
    await replica.open()
    receiver = CallbackReceiver()
    receiver.bind(SCOPE, replica)
    async with receiver.serve():
        yield Target(receiver, replica, journal_url.partition(":")[0])
    await replica.close()


@asynccontextmanager
async def bare_handler() -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.Response:
        await request.json()
        return web.Response()

    async with answering(handle) as port:
        yield port


@asynccontextmanager
async def answering(handle: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_post("/{scope}/{token}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site.port
    await runner.cleanup()


@asynccontextmanager
async def bare_durable_handler(path: Path) -> AsyncIterator[int]:
    """The least that answers after a transaction of its own."""
    worker = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    transactions = bare_transactions(path)
    insert = await loop.run_in_executor(worker, transactions.__enter__)

    async def handle(request: web.Request) -> web.Response:
        await request.json()
        await loop.run_in_executor(worker, insert, 1)
        return web.Response()

    async with answering(handle) as port:
        yield port
    await loop.run_in_executor(worker, transactions.__exit__, None, None, None)
    worker.shutdown()


@contextmanager
def bare_transactions(path: Path) -> Iterator[Callable[[int], float]]:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (*PRAGMAS, *MIGRATIONS[0]):
        connection.execute(statement).fetchall()
    events, versions = BODY.decode(), itertools.count(1)

    def insert(count: int) -> float:
        began_s = time.perf_counter()
        for version in itertools.islice(versions, count):
            connection.execute("BEGIN IMMEDIATE")
            row = (SCOPE, version, new_token(), time.time_ns() // 1_000, events)
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        return time.perf_counter() - began_s

    yield insert
    connection.close()


# Rounds


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


async def seconds_for(orders: Connection, port: int, requests: list[bytes], at_once: int) -> float:
    """How long the sender takes to get all *requests* answered."""
    orders.send((port, requests, at_once))
    taken_s: float = await asyncio.get_running_loop().run_in_executor(None, orders.recv)
    return taken_s


@attrs.frozen
class Bench:
    """Everything that is measured.

    Attributes:
        orders: To the sender.
        insert: Makes so many bare transactions, and says how long they took.
        durable: The receiver over SQLite.
        memory: The receiver over memory.
        bare_port: Of the bare handler.
        floor_port: Of the one that makes a bare transaction first.
    """

    orders: Connection
    insert: Callable[[int], float]
    durable: Target
    memory: Target
    bare_port: int
    floor_port: int

    async def sqlite_part(self, name: str) -> dict[str, float]:
        """Seconds taken on each side where a disk is involved."""
        one = await self.durable.requests(f"{name}-one", SLOW)
        floor = [_post(f"/{SCOPE}/{new_token()}") for _ in range(SLOW)]
        many = await self.durable.requests(f"{name}-many", SLOW * AT_ONCE)
        return {
            "transactions": self.insert(SLOW),
            "sqlite, 1 at a time": await seconds_for(self.orders, *one, 1),
            "the least over HTTP": await seconds_for(self.orders, self.floor_port, floor, 1),
            "sqlite, 32 at a time": await seconds_for(self.orders, *many, AT_ONCE) / AT_ONCE,
        }

    async def memory_part(self, name: str) -> dict[str, float]:
        """Seconds taken on each side where none is."""
        bare = [_post(f"/{SCOPE}/{new_token()}") for _ in range(QUICK)]
        ours = await self.memory.requests(name, QUICK)
        return {
            "bare handler": await seconds_for(self.orders, self.bare_port, bare, AT_ONCE),
            "memory": await seconds_for(self.orders, *ours, AT_ONCE),
        }

    async def round(self, number: int) -> dict[str, float]:
        """Operations a second of each side, over parts in turn."""
        taken_s: Counter[str] = Counter()
        for part in range(PARTS):
            taken_s.update(await self.sqlite_part(f"{number}-{part}"))
            taken_s.update(await self.memory_part(f"{number}-{part}"))
        counts = dict.fromkeys(taken_s, SLOW * PARTS) | dict.fromkeys(("bare handler", "memory"), QUICK * PARTS)
        return {name: counts[name] / seconds for name, seconds in taken_s.items()}


async def measure(rounds: int, directory: Path) -> list[dict[str, float]]:
    async with AsyncExitStack() as stack:
        bench = Bench(
            stack.enter_context(sender()),
            stack.enter_context(bare_transactions(directory / "bare.db")),
            await stack.enter_async_context(target(f"sqlite:///{directory / 'quota.db'}")),
            await stack.enter_async_context(target("memory:")),
            await stack.enter_async_context(bare_handler()),
            await stack.enter_async_context(bare_durable_handler(directory / "floor.db")),
        )
        return [await bench.round(number) for number in range(rounds)]


def report(rounds: list[dict[str, float]]) -> bool:
    """Print what was found; whether every bound is met."""
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        print(f"{name:<22}{statistics.median(values):>8,.0f} a second, {min(values):,.0f} to {max(values):,.0f}")
    added_s = [1 / found["sqlite, 1 at a time"] - 1 / found["transactions"] for found in rounds]
    print(f"a callback takes {statistics.median(added_s) * 1_000:.2f} ms more than its transaction")
    for ours, theirs in (
        ("the least over HTTP", "transactions"),
        ("sqlite, 1 at a time", "transactions"),
        ("memory", "bare handler"),
    ):
        print(f"{ours} / {theirs}: {_told(_ratios(rounds, ours, theirs))}, no bound")
    within = True
    for ours, theirs, wanted in (
        ("sqlite, 1 at a time", "the least over HTTP", 0.75),
        ("sqlite, 32 at a time", "sqlite, 1 at a time", 5.0),
    ):
        ratios = _ratios(rounds, ours, theirs)
        what = f"{ours} / {theirs} ({min(ratios):.2f} to {max(ratios):.2f})"
        within &= state_figure(what, statistics.median(ratios), wanted, "of its rate", at_least=True)
    return within


def _ratios(rounds: list[dict[str, float]], ours: str, theirs: str) -> list[float]:
    return [found[ours] / found[theirs] for found in rounds]


def _told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--directory", type=Path, default=None, help="where the files are made; default: here")
    parser.add_argument("--sync-ms", type=float, default=None, help="run it again with syncs that take longer by this")
    arguments = parser.parse_args()
    if arguments.sync_ms is not None and not is_slowed():
        print(f"on a disk whose syncs take {arguments.sync_ms:g} ms longer:")
        sys.exit(again_with_slow_syncs(arguments.sync_ms, "benchmarks.receiver_rate", *sys.argv[1:]))
    with tempfile.TemporaryDirectory(dir=arguments.directory or Path.cwd()) as directory:
        within = report(asyncio.run(measure(arguments.rounds, Path(directory))))
    sys.exit(not within)


if __name__ == "__main__":
    main()
