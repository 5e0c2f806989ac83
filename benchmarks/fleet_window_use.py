"""Do three processes on one SQLite journal use every slot of the hour as soon as it is free, and none before?

    python -m benchmarks.fleet_window_use [--rounds N]

40 creates go through three worker processes, each with a client and a receiver of its own and all with the same
journal file, to one sandbox in this process with a latency of 0 to 50 ms and windows 600 times shorter than documented:
ten operations in 6 s. All must be processed, and the sandbox, which counts in its own way, must not answer one 429.

The ratio is of the time from the first to the last moment at which the sandbox counted a create, over the shortest that
windows and guard allow: three times (window + guard), since forty creates fill four windows. 1.0 cannot be reached,
as a slot is free only when its operation's answer is in the journal, which takes the latency. Wanted: at most 1.10.
Printed are each round's figures; the ratio is of the median. A 429 or a create that is not processed is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import statistics
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from benchmarks.verdict import state
from moe_segments import CallbackReceiver, CreateFileSegment, QuotaLimits, SegmentsClient
from moe_segments.sandbox import DEMO_CREDENTIALS, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

BOUND: Final = 1.10
CREATES: Final = 40
WORKERS: Final = 3
SPEED: Final = 600
LATENCY_S: Final = (0.0, 0.05)
REQUESTS_PER_S: Final = 50.0
PATIENCE_S: Final = 60.0  # for a callback
LIMITS: Final = QuotaLimits().scaled(SPEED)
SLOTS: Final = LIMITS.operations_per_hour
LEAST_S: Final = (CREATES // SLOTS - 1) * (LIMITS.hour_s + LIMITS.guard_for(LIMITS.hour_s))
_TOO_MANY: Final = 429

Work: TypeAlias = "tuple[str, str, str, list[str]]"  # journal URL, service, file URL, names


# A worker, in a process of its own


def work(orders: Connection) -> None:
    """Say when ready, wait for the word, create what was ordered, report how each ended."""
    asyncio.run(_work(orders))


async def _work(orders: Connection) -> None:
    loop = asyncio.get_running_loop()
    journal, base_url, file_url, names = await loop.run_in_executor(None, orders.recv)
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            DEMO_CREDENTIALS,
            journal=journal,
            callbacks=receiver,
            limits=LIMITS,
            base_url=base_url,
            requests_per_s=REQUESTS_PER_S,
        ) as client,
    ):
        orders.send("ready")
        await loop.run_in_executor(None, orders.recv)
        outcomes = client.submit_many([_create(name, file_url) for name in names], result_timeout_s=PATIENCE_S)
        orders.send([str(outcome.error or "processed") async for outcome in outcomes])


def _create(name: str, file_url: str) -> CreateFileSegment:
    return CreateFileSegment(
        name=name, attribute_name="ID", attribute_type="string", file_url=file_url, expiry_time=30, rows=3
    )


@contextmanager
def workers() -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(WORKERS)]
    processes = [context.Process(target=work, args=(theirs,)) for _, theirs in pipes]
    for process in processes:
        process.start()
    try:
        yield [ours for ours, _ in pipes]
    finally:
        for process in processes:
            process.join(PATIENCE_S)
            process.terminate()


# A round


@attrs.frozen
class Found:
    """What the sandbox saw, and what the workers reported.

    Attributes:
        sent_s: The moments at which it counted a create, in order.
        throttled: How often it answered 429.
        endings: How each create ended: "processed", or the error.
    """

    sent_s: list[float]
    throttled: int
    endings: list[str]

    @property
    def span_s(self) -> float:
        """From the first to the last."""
        return self.sent_s[-1] - self.sent_s[0]

    @property
    def idle_s(self) -> list[float]:
        """How long each slot was left unused by those who could have had it, beyond window and guard."""
        span_s = LEAST_S / (CREATES // SLOTS - 1)
        return [later - earlier - span_s for earlier, later in zip(self.sent_s, self.sent_s[SLOTS:], strict=False)]

    @property
    def is_right(self) -> bool:
        """Whether all were processed and none was refused."""
        return not self.throttled and self.endings == ["processed"] * CREATES


async def round_in(directory: Path) -> Found:
    """One run of the fleet on a journal in *directory*."""
    loop = asyncio.get_running_loop()
    file = directory / "users.csv"
    file.write_text("a\nb\nc\n", encoding="utf-8")
    names = [f"fleet {number}" for number in range(CREATES)]
    with workers() as orders:
        async with Sandbox(speed=SPEED, latency_s=LATENCY_S) as sandbox:
            file_url = await sandbox.publish(file)
            for number, order in enumerate(orders):
                ordered: Work = (f"sqlite:///{directory / 'quota.db'}", sandbox.url, file_url, names[number::WORKERS])
                order.send(ordered)
            for order in orders:
                await loop.run_in_executor(None, order.recv)  # all are ready, so that none begins before another
            for order in orders:
                order.send("go")
            endings = [await loop.run_in_executor(None, order.recv) for order in orders]
            requests = sandbox.workspace.requests
    return Found(
        sorted(request.at for request in requests if request.counted),
        sum(request.status == _TOO_MANY for request in requests),
        list(itertools.chain(*endings)),
    )


def show(number: int, found: Found) -> None:
    idle_ms = [idle_s * 1_000 for idle_s in found.idle_s]
    print(
        f"round {number}: {found.span_s:.3f} s from first to last, {found.throttled} times 429, "
        f"{found.endings.count('processed')} of {CREATES} processed; a slot was idle for "
        f"{statistics.median(idle_ms):.0f} ms ({min(idle_ms):.0f} to {max(idle_ms):.0f})",
        flush=True,
    )
    for ending in sorted(set(found.endings) - {"processed"}):
        print(f"  {ending}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    print(f"{CREATES} creates, {SLOTS} slots: windows and guard allow {LEAST_S:.3f} s")
    all_found = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as directory:
            all_found.append(asyncio.run(round_in(Path(directory))))
        show(number, all_found[-1])
    span_s = statistics.median(found.span_s for found in all_found)
    within = state("first to last send", span_s / LEAST_S, BOUND)
    right = all(found.is_right for found in all_found)
    print("no 429 and all processed: " + ("PASS" if right else "failed"))
    sys.exit(not (within and right))


if __name__ == "__main__":
    main()
