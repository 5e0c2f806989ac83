"""The metrics: one table for OpenTelemetry and Prometheus, and what each event adds to them. Pure.

Names and labels are a contract. In OpenTelemetry a name is as in the table; in Prometheus its dots are underscores, the
unit is appended where it is seconds, and a counter ends in `_total`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from moe_segments.telemetry import events as told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from moe_segments.telemetry.events import Event

__all__ = ["ATTRIBUTES", "BUCKETS_S", "METRICS", "Kind", "Metric", "Sample", "measured"]


class Kind(Enum):
    """What a metric counts."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@attrs.frozen
class Metric:
    """One metric.

    Attributes:
        name: Its name in OpenTelemetry.
        kind: What it counts.
        unit: `s`, or what is counted, in braces.
        labels: The names of its labels in Prometheus; `ATTRIBUTES` has those of OpenTelemetry.
        help: What it says.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str

    @property
    def prometheus_name(self) -> str:
        """Return its name in Prometheus, without the suffix of a counter."""
        return self.name.replace(".", "_") + ("_seconds" if self.unit == "s" else "")

    @property
    def exposed_name(self) -> str:
        """Return its name in Prometheus, as queries have it but for the suffixes of a histogram."""
        return self.prometheus_name + ("_total" if self.kind is Kind.COUNTER else "")


class Sample(NamedTuple):
    """One measurement.

    Attributes:
        metric: The name of a metric.
        value: How much.
        labels: The values of its labels, in the metric's order.
    """

    metric: str
    value: float
    labels: tuple[str, ...]


# What labels are called in OpenTelemetry; those that its semantic conventions name have their name there.
ATTRIBUTES: Final[Mapping[str, str]] = {
    "scope": "moe_segments.scope",
    "operation": "moe_segments.operation",
    "outcome": "moe_segments.outcome",
    "limit": "moe_segments.limit",
    "error": "error.type",
    "status": "http.response.status_code",
    "reason": "moe_segments.reason",
    "cause": "moe_segments.cause",
    "state": "moe_segments.job.state",
    "segment": "moe_segments.segment",
}
BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)
_OPERATION: Final = ("scope", "operation")
_LIMIT: Final = ("scope", "limit")

_ALL: Final = (
    # From events
    Metric(
        "moe_segments.operations",
        Kind.COUNTER,
        "{operation}",
        (*_OPERATION, "outcome"),
        "Submitted operations by how that ended: accepted, refused, not_sent, unknown or attached.",
    ),
    Metric(
        "moe_segments.operation.duration",
        Kind.HISTOGRAM,
        "s",
        (*_OPERATION, "outcome"),
        "From the submission of an operation to that end.",
    ),
    Metric(
        "moe_segments.refusals",
        Kind.COUNTER,
        "{operation}",
        (*_OPERATION, "error", "limit"),
        "Refused operations and reads by exception, and by limit where one refused it.",
    ),
    Metric(
        "moe_segments.waits",
        Kind.COUNTER,
        "{operation}",
        (*_OPERATION, "limit"),
        "Operations and reads that began to wait, by the limit; its name is segment where the segment is busy.",
    ),
    Metric(
        "moe_segments.wait.duration",
        Kind.HISTOGRAM,
        "s",
        _OPERATION,
        "Wait for quota, segment and pace before each send.",
    ),
    Metric(
        "moe_segments.request.duration",
        Kind.HISTOGRAM,
        "s",
        (*_OPERATION, "status"),
        "From the first byte of a request to the end of its answer.",
    ),
    Metric(
        "moe_segments.retries", Kind.COUNTER, "{request}", (*_OPERATION, "reason"), "Repeated sends by their reason."
    ),
    Metric(
        "moe_segments.throttled",
        Kind.COUNTER,
        "{request}",
        _LIMIT,
        "Answers 429 although the journal's count had room: something outside the journal uses the quota.",
    ),
    Metric(
        "moe_segments.results",
        Kind.COUNTER,
        "{operation}",
        (*_OPERATION, "outcome"),
        "Operations that their callback ended, as their client heard it: processed or failed.",
    ),
    Metric(
        "moe_segments.processing.duration",
        Kind.HISTOGRAM,
        "s",
        (*_OPERATION, "outcome"),
        "From the acceptance of an operation to the callback that ended it.",
    ),
    Metric(
        "moe_segments.callbacks",
        Kind.COUNTER,
        "{callback}",
        (*_OPERATION, "outcome"),
        "Callbacks that a receiver took: processed, failed, unparsed, repeated, conflict or surplus.",
    ),
    Metric(
        "moe_segments.callback.delay",
        Kind.HISTOGRAM,
        "s",
        _OPERATION,
        "From the acceptance of an operation to its callback, as the receiver saw it.",
    ),
    Metric(
        "moe_segments.callbacks.lost",
        Kind.COUNTER,
        "{callback}",
        ("scope", "status", "cause"),
        "Callbacks, or what looked like one, that were not stored.",
    ),
    Metric(
        "moe_segments.journal.outages",
        Kind.COUNTER,
        "{warning}",
        ("scope",),
        "Warnings that the journal cannot be used, at most one a minute for each kind of trouble.",
    ),
    # From the journal
    Metric("moe_segments.quota.used", Kind.GAUGE, "1", _LIMIT, "What counts against a limit, in flight included."),
    Metric("moe_segments.quota.capacity", Kind.GAUGE, "1", _LIMIT, "What a limit allows, headroom taken off."),
    Metric(
        "moe_segments.quota.pending",
        Kind.GAUGE,
        "1",
        _LIMIT,
        "How much of what is used is in flight or waits for its callback.",
    ),
    Metric("moe_segments.quota.external", Kind.GAUGE, "1", _LIMIT, "How much of what is used somebody else spent."),
    Metric(
        "moe_segments.quota.next_release",
        Kind.GAUGE,
        "s",
        _LIMIT,
        "Until the next of what is used is free at the earliest; absent when nothing is used.",
    ),
    Metric(
        "moe_segments.quota.closed",
        Kind.GAUGE,
        "s",
        _LIMIT,
        "How long a limit is still taken to be full after a 429 or a loss of history; 0 when it is not.",
    ),
    Metric(
        "moe_segments.jobs",
        Kind.GAUGE,
        "{job}",
        ("scope", "state"),
        "Jobs that have not ended: waiting for quota, reserved, awaiting_callback, overdue (its callback did not come "
        "within the processing allowance) or unknown.",
    ),
    Metric(
        "moe_segments.callbacks.oldest",
        Kind.GAUGE,
        "s",
        ("scope",),
        "Age of the oldest acceptance whose callback is awaited, those overdue left out; 0 when none is.",
    ),
    # From the outbox of a client that takes membership changes
    Metric(
        "moe_segments.membership.lag",
        Kind.GAUGE,
        "s",
        ("scope", "segment"),
        "Age of a segment's oldest membership change that is not applied; 0 when none waits.",
    ),
    Metric(
        "moe_segments.membership.pending",
        Kind.GAUGE,
        "{change}",
        ("scope", "segment"),
        "A segment's membership changes that are not applied.",
    ),
)
METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _ALL}


def measured(event: Event) -> Iterator[Sample]:
    """Yield what an event adds to the metrics."""
    measure = _MEASURES.get(type(event))
    return iter(()) if measure is None else measure(event)


# Each takes events of its own kind alone; see the table below.


def _ended(event: Any) -> Iterator[Sample]:
    if event.job is None:  # a read has no end of its own
        return
    labels = (event.scope, event.operation, event.name)
    yield Sample("moe_segments.operations", 1, labels)
    took_s = getattr(event, "took_s", None)
    if took_s is not None:
        yield Sample("moe_segments.operation.duration", took_s, labels)


def _refused(event: Any) -> Iterator[Sample]:
    yield from _ended(event)
    yield Sample("moe_segments.refusals", 1, (event.scope, event.operation, event.error, event.limit or ""))


def _resulted(event: Any) -> Iterator[Sample]:
    labels = (event.scope, event.operation, event.name)
    yield Sample("moe_segments.results", 1, labels)
    if event.took_s is not None:
        yield Sample("moe_segments.processing.duration", event.took_s, labels)


def _stored(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.callbacks", 1, (event.scope, event.operation, event.outcome))
    if event.delay_s is not None and event.outcome in ("processed", "failed"):
        yield Sample("moe_segments.callback.delay", event.delay_s, (event.scope, event.operation))


def _waiting(event: Any) -> Iterator[Sample]:
    limit = event.limit or ("segment" if event.behind else "")
    yield Sample("moe_segments.waits", 1, (event.scope, event.operation, limit))


def _reserved(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.wait.duration", event.waited_s, (event.scope, event.operation))


def _answered(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.request.duration", event.took_s, (event.scope, event.operation, str(event.status)))


def _retried(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.retries", 1, (event.scope, event.operation, event.reason))


def _throttled(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.throttled", 1, (event.scope, event.limit or ""))


def _lost(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.callbacks.lost", 1, (event.scope, str(event.status), event.cause))


def _unavailable(event: Any) -> Iterator[Sample]:
    yield Sample("moe_segments.journal.outages", 1, (event.scope,))


_MEASURES: Final[Mapping[type[Event], Callable[[Any], Iterator[Sample]]]] = {
    told.Accepted: _ended,
    told.NotSent: _ended,
    told.Unknown: _ended,
    told.Attached: _ended,
    told.Refused: _refused,
    told.Processed: _resulted,
    told.Failed: _resulted,
    told.CallbackStored: _stored,
    told.CallbackLost: _lost,
    told.Waiting: _waiting,
    told.Reserved: _reserved,
    told.Answered: _answered,
    told.Retried: _retried,
    told.Throttled: _throttled,
    told.JournalUnavailable: _unavailable,
}
