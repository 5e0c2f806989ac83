"""How long does an event loop wait for its turn while a file is checked as it comes over HTTP?

    python -m benchmarks.preflight_loop [--rounds N] [--share S]

The file (4 million UUIDs, 148 MB with `--share 1`) is served by another process on loopback and checked by
`check_file(url)`; beside it a task asks to be woken every millisecond and notes how much later it is. The loop's own
delay with nothing else to do, and while the same bytes are read and thrown away, is shown beside it, since a machine
that is busy delays everybody. Bounds: 99 of 100 within 10 ms, the worst 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

from benchmarks.file_makers import made
from benchmarks.verdict import state_figure
from moe_segments.files.check import check_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

BOUNDS_MS: Final = {"check": (10.0, 50.0)}
EVERY_S: Final = 0.001
SIDES: Final = ("idle", "reading", "check")


def serve(path: Path) -> None:
    """In a process of its own: serve one file, and print the port."""

    async def handler(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers={"Content-Type": "text/csv"})

    async def run() -> None:
        application = web.Application()
        application.router.add_get("/users.csv", handler)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    asyncio.run(run())


@contextlib.contextmanager
def served(path: Path) -> Iterator[str]:
    command = (sys.executable, "-m", "benchmarks.preflight_loop", "--serve", str(path))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/users.csv"
        finally:
            process.communicate()


async def reading(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        async for _ in response.content.iter_chunked(262_144):
            pass


async def idle(_: str) -> None:
    await asyncio.sleep(1)


async def checked(url: str) -> None:
    await check_file(url, timeouts=aiohttp.ClientTimeout(total=600), fetch_private="loopback")


WORK: Final[dict[str, Callable[[str], Awaitable[None]]]] = {
    "idle": idle,
    "reading": reading,
    "check": checked,
}


@contextlib.asynccontextmanager
async def watched(delays_s: list[float]) -> AsyncIterator[None]:
    async def tick() -> None:
        while True:
            due_s = time.perf_counter() + EVERY_S
            await asyncio.sleep(EVERY_S)
            delays_s.append(max(0.0, time.perf_counter() - due_s))

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()


async def delays_of(side: str, url: str) -> list[float]:
    delays_s: list[float] = []
    async with watched(delays_s):
        await WORK[side](url)
    return delays_s


def one_run(side: str, url: str) -> None:
    delays_ms = sorted(delay * 1_000 for delay in asyncio.run(delays_of(side, url)))
    print(delays_ms[int(len(delays_ms) * 0.99)], delays_ms[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
    elif arguments.one:
        one_run(*arguments.one)
    else:
        with tempfile.TemporaryDirectory() as place, served(made("uuids", Path(place), arguments.share)) as url:
            sys.exit(not told(measure(url, arguments.rounds)))


def measure(url: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, samples in found.items():
            command = (sys.executable, "-m", "benchmarks.preflight_loop", "--one", side, url)
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            p99, worst = map(float, done.stdout.split())
            samples.append((p99, worst))
    return found


def told(found: dict[str, list[tuple[float, float]]]) -> bool:
    within = []
    for side, samples in found.items():
        p99, worst = (statistics.median(column) for column in zip(*samples, strict=True))
        print(f"{side:<8} p99 {p99:.2f} ms, worst {worst:.2f} ms (medians of {len(samples)} rounds)", flush=True)
        if side in BOUNDS_MS:
            bounds = BOUNDS_MS[side]
            within.append(state_figure(f"{side}, 99 of 100", p99, bounds[0], "ms"))
            within.append(state_figure(f"{side}, the worst", worst, bounds[1], "ms"))
    return all(within)


if __name__ == "__main__":
    main()
