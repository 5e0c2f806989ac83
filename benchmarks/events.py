"""Measure what a consumer of events costs beside a client that nobody listens to.

    python -m benchmarks.events [--rounds N]

A create as in `benchmarks.client_overhead`: a memory journal, quotas and pace out of the way, rows given, no receiver,
one at a time, against a server in a second process that does nothing but answer. No service is that quick and no
journal, so a share here is larger than in any use. What is measured is processor time of this process, of which a busy
machine takes none away. The sides take turns call by call, each with a client that was opened before.

Wanted: with a function that keeps each event at most 1.05 of the client without. Beside it, without a bound, what comes
with the package: the log at INFO written to memory, the metrics for Prometheus, and OpenTelemetry with its SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import logging
import sys
import time
from collections import defaultdict
from contextlib import AsyncExitStack, contextmanager
from statistics import median
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from benchmarks.client_overhead import CREDENTIALS, LIMITS, MINIMAL, Ours, server
from benchmarks.verdict import ratio_of_medians, spread, state
from moe_segments import SegmentsClient
from moe_segments.telemetry.otel import OpenTelemetry
from moe_segments.telemetry.prometheus import PrometheusMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_segments.events import Event

BOUND: Final = 1.05
NOBODY, A_FUNCTION, THE_LOG = "nobody listens", "a function", "the log at INFO"
CALLS: Final = 200  # of each side in a round
WARM: Final = 20  # calls before, which fill caches


class Kept:
    """A consumer that keeps what it is told, in a list that does not grow."""

    def __init__(self) -> None:
        self.last: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep *event*."""
        self.last[:] = [event]


@contextmanager
def logged(*, is_on: bool) -> Iterator[None]:
    """Log at INFO into memory while inside, if that is wanted."""
    logger = logging.getLogger("moe_segments")
    if not is_on:
        yield
        return
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def clients(url: str) -> dict[str, SegmentsClient]:
    """A client for each side."""

    def client(consumer: Kept | None = None) -> SegmentsClient:
        return SegmentsClient(
            CREDENTIALS,
            journal="memory:",
            limits=LIMITS,
            base_url=url,
            requests_per_s=10**6,
            total_timeout_s=30,
            preflight="off",
            on_event=consumer,
        )

    made = {
        NOBODY: client(),
        A_FUNCTION: client(Kept()),
        THE_LOG: client(),
        "Prometheus": client(),
        "OpenTelemetry": client(),
    }
    PrometheusMetrics(registry=CollectorRegistry()).watch(made["Prometheus"])
    providers = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    OpenTelemetry(tracer_provider=providers[0], meter_provider=providers[1]).watch(made["OpenTelemetry"])
    return made


async def processor_s(side: Ours, name: str) -> float:
    """Processor time of one create."""
    call = side.prepared(name)
    begun_s = time.process_time()
    await call()
    return time.process_time() - begun_s


async def round_of(url: str, names: Iterator[str]) -> dict[str, float]:
    """Processor time of a create of each side: the median of many, call by call in turn."""
    taken_s: defaultdict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        sides = {name: Ours(await stack.enter_async_context(client)) for name, client in clients(url).items()}
        order = list(sides.items())
        for number in range(WARM + CALLS):
            for name, side in order if number % 2 else reversed(order):
                with logged(is_on=name == THE_LOG):
                    one_s = await processor_s(side, next(names))
                if number >= WARM:
                    taken_s[name].append(one_s)
    return {name: median(samples) for name, samples in taken_s.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    names = (f"segment {number}" for number in range(10**9))
    found: defaultdict[str, list[float]] = defaultdict(list)
    with server(MINIMAL) as url:
        for _ in range(rounds):
            for side, taken_s in asyncio.run(round_of(url, names)).items():
                found[side].append(taken_s)
    for side, taken in found.items():
        print(f"  {side:<18}{spread(taken)}  {ratio_of_medians(taken, found[NOBODY]):.3f}")
    sys.exit(not state("a function that keeps each event", ratio_of_medians(found[A_FUNCTION], found[NOBODY]), BOUND))


if __name__ == "__main__":
    main()
