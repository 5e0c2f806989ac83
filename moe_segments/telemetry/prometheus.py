"""Metrics for Prometheus: a collector over the events and journals of clients and receivers. Extra `prometheus`.

    from moe_segments.telemetry.prometheus import PrometheusMetrics

    metrics = PrometheusMetrics()      # in the registry of the process
    metrics.watch(client)              # before or after it is opened; and further clients and receivers

Its names and labels are those of `moe_segments.telemetry.metrics`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from moe_segments.errors import InputError
from moe_segments.telemetry.gauges import Gauges, read, samples_of_waiting, source_of
from moe_segments.telemetry.metrics import BUCKETS_S, METRICS, Kind, measured

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        Counter,
        Histogram,
        generate_latest,
        write_to_textfile,
    )
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _missing:
    raise InputError("metrics for Prometheus need an extra: pip install 'moe-segments[prometheus]'") from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from prometheus_client import Metric as Family

    from moe_segments.telemetry.events import Event
    from moe_segments.telemetry.metrics import Metric, Sample

__all__ = ["PrometheusMetrics", "check_textfile", "own_registry", "write_textfile"]


class PrometheusMetrics(Collector):
    """A collector of everything that is known of the clients and receivers that it watches.

    It is also a consumer of events, which `watch` subscribes. Usage and jobs are read from the journal when the metrics
    are collected: by a server in a thread of its own at that moment, in the event loop's own thread as they were read
    last, unless `refresh` was awaited before.

    Args:
        registry: Where it is registered; by default the registry of the process.

    Attributes:
        registry: That registry.

    Raises:
        InputError: The registry has such a collector already.
    """

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        self._gauges = Gauges()
        self._counted = {metric.name: _counted(metric) for metric in METRICS.values() if not _is_read(metric)}
        self._adds: dict[tuple[str, tuple[str, ...]], Callable[[float], None]] = {}
        self.registry = registry
        try:
            registry.register(self)
        except ValueError:
            raise InputError("has these metrics already: watch several clients with one of them", "registry") from None

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        for metric, value, labels in measured(event):
            add = self._adds.get((metric, labels))
            if add is None:
                add = self._adds[metric, labels] = _adding_to(self._counted[metric].labels(*labels))
            add(value)

    def watch(self, watched: object) -> Self:
        """Watch a `SegmentsClient` or a `CallbackReceiver`, too. Returns this.

        Raises:
            InputError: It is neither.
        """
        self._gauges.watch(watched, self)
        return self

    async def refresh(self) -> None:
        """Read usage and jobs of the journals that were opened in this event loop."""
        await self._gauges.refresh()

    async def exposition(self) -> tuple[str, bytes]:
        """Return the whole registry as a scrape wants it: its content type and its text."""
        await self.refresh()
        return CONTENT_TYPE_LATEST, generate_latest(self.registry)

    def describe(self) -> Iterator[Family]:
        """Yield the metrics without their values, for the registry."""
        for counted in self._counted.values():
            yield from counted.describe()
        yield from _families(())

    def collect(self) -> Iterator[Family]:
        """Yield the metrics with their values."""
        for counted in self._counted.values():
            yield from counted.collect()
        yield from _families(self._gauges.current())


class _Fixed(Collector):
    """Metrics that were read before."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = tuple(samples)

    def collect(self) -> Iterator[Family]:
        """Yield them."""
        yield from _families(self._samples)


def own_registry() -> CollectorRegistry:
    """Return a registry that holds nothing else."""
    return CollectorRegistry()


def check_textfile(path: Path) -> None:
    """Refuse a file that the textfile collector would not read, or that has no place, before anything is done for it.

    Raises:
        InputError: Its name ends otherwise, there is no such directory, or it is one.
    """
    if path.suffix != ".prom":
        raise InputError("must end in .prom: the textfile collector reads no other file", "prometheus")
    if not path.parent.is_dir() or path.is_dir():
        error = errno.EISDIR if path.is_dir() else errno.ENOENT
        raise InputError(f"{path} cannot be written: {os.strerror(error)}", "prometheus")


async def write_textfile(path: Path | str, client: object) -> None:
    """Write what the journal and the outbox of an open client hold, for the textfile collector of the node exporter.

    Whoever reads the file sees all of it or what was there before.

    Args:
        path: The file; its name must end in `.prom`, since the collector reads no other.
        client: A `SegmentsClient`, or a `CallbackReceiver`.

    Raises:
        InputError: The name ends otherwise, there is no such directory, or *client* is neither.
        JournalError: The journal cannot be read.
        OutboxError: Its outbox cannot be read.
        OSError: The file cannot be written.
    """
    check_textfile(Path(path))
    registry = own_registry()
    source = source_of(client)
    samples: list[Sample] = []
    for scope, replica in source.replicas().items():
        samples += await read(scope, replica)
        samples += samples_of_waiting(scope, await source.memberships())
    registry.register(_Fixed(samples))
    write_to_textfile(str(path), registry)


def _is_read(metric: Metric) -> bool:
    """Return whether a metric is read when it is collected; the others are counted from events."""
    return metric.kind is Kind.GAUGE


def _adding_to(counted: Counter | Histogram) -> Callable[[float], None]:
    """Return what takes in a measurement of these labels."""
    return counted.inc if isinstance(counted, Counter) else counted.observe


def _counted(metric: Metric) -> Counter | Histogram:
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(metric.prometheus_name, metric.help, metric.labels, registry=None, buckets=BUCKETS_S)
    return Counter(metric.prometheus_name, metric.help, metric.labels, registry=None)


def _families(samples: Iterable[Sample]) -> Iterator[Family]:
    families = {
        metric.name: GaugeMetricFamily(metric.prometheus_name, metric.help, labels=metric.labels)
        for metric in METRICS.values()
        if _is_read(metric)
    }
    for sample in samples:
        families[sample.metric].add_metric(sample.labels, sample.value)
    yield from families.values()
