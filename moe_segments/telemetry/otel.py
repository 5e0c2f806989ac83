"""Traces and metrics for OpenTelemetry, over its API alone. Extra `otel`.

    from moe_segments.telemetry.otel import OpenTelemetry

    OpenTelemetry().watch(client)      # before or after it is opened; and further clients and receivers

A span `moe_segments create` lasts from the submission of an operation to its acceptance, or to its other end. It is
current while the request is sent, so the span of an instrumented aiohttp is its child. Its context is kept in the
journal with the job, and the span of a callback is linked to it, in whichever process that arrives.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Final

from moe_segments.errors import InputError
from moe_segments.telemetry import events as told
from moe_segments.telemetry.emitter import Tracing
from moe_segments.telemetry.gauges import Gauges
from moe_segments.telemetry.metrics import ATTRIBUTES, BUCKETS_S, METRICS, Kind, measured

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import Observation
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as _missing:
    raise InputError(
        "traces and metrics for OpenTelemetry need an extra: pip install 'moe-segments[otel]'"
    ) from _missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Self

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from moe_segments.telemetry.events import Event, OperationEvent
    from moe_segments.telemetry.metrics import Metric, Sample

__all__ = ["OpenTelemetry"]

_NAME: Final = "moe_segments"
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.37.0"
_JOB: Final = "moe_segments.job.id"
_MOMENTS: Final = (told.Waiting, told.Reserved, told.Throttled, told.Retried)  # shown on the operation's span
_NUMBERS: Final = frozenset({"status"})  # labels that the conventions have as numbers
_carriers = TraceContextTextMapPropagator()


class OpenTelemetry(Tracing):
    """A consumer of events that makes spans and metrics of them.

    Args:
        tracer_provider: Whose tracer it uses; None for the global one.
        meter_provider: Whose meter it uses; None for the global one.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        version = metadata.version("moe-segments")
        self._tracer = trace.get_tracer(_NAME, version, tracer_provider, _SCHEMA)
        self._gauges = Gauges()
        self._spans: dict[str, Span] = {}  # of operations that are being submitted, by job
        meter = metrics.get_meter(_NAME, version, meter_provider, _SCHEMA)
        self._measures = {metric.name: self._measure_of(meter, metric) for metric in METRICS.values()}

    def watch(self, watched: object) -> Self:
        """Watch a `SegmentsClient` or a `CallbackReceiver`, too. Returns this.

        Raises:
            InputError: It is neither.
        """
        self._gauges.watch(watched, self)
        return self

    # As a consumer

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        for sample in measured(event):
            self._measures[sample.metric](sample.value, _attributes(sample))
        match event:
            case told.Submitted():
                self._begin(event)
            case told.Accepted() | told.Refused() | told.NotSent() | told.Unknown() | told.Attached():
                self._end(event)
            case told.CallbackStored():
                self._called_back(event)
            case told.OperationEvent() if isinstance(event, _MOMENTS):
                if (span := self._spans.get(event.job or "")) is not None:
                    span.add_event(event.name, _facts(event))
            case _:
                pass

    def around(self, sent: told.Sent) -> AbstractContextManager[object]:
        """Return a context in which the operation's span is the current one."""
        span = self._spans.get(sent.job or "")
        if span is None:
            return nullcontext()
        return trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def trace_of(self, job: str) -> str | None:
        """Return the context of a job's span, as the W3C `traceparent` has it; None for one that is not recorded."""
        span = self._spans.get(job)
        if span is None:
            return None
        carrier: dict[str, str] = {}
        _carriers.inject(carrier, trace.set_span_in_context(span))
        return carrier.get("traceparent")

    # Spans

    def _begin(self, event: told.Submitted) -> None:
        assert event.job is not None
        if event.job in self._spans:  # submitted twice at the same time: one of them is sent
            return
        self._spans[event.job] = self._tracer.start_span(
            f"{_NAME} {event.operation}", kind=SpanKind.PRODUCER, attributes=_identity(event)
        )

    def _end(self, event: OperationEvent) -> None:
        span = self._spans.pop(event.job or "", None)
        if span is None:
            return
        span.set_attributes({"moe_segments.outcome": event.name, **_facts(event)})
        if isinstance(event, told.Refused):
            span.set_attribute("error.type", event.error)
        if isinstance(event, told.Refused | told.NotSent | told.Unknown):
            span.set_status(Status(StatusCode.ERROR, event.reason))
        span.end()

    def _called_back(self, event: told.CallbackStored) -> None:
        context = trace.get_current_span(_carriers.extract({"traceparent": event.trace or ""})).get_span_context()
        links = [Link(context)] if context.is_valid else []
        attributes = {**_identity(event), "moe_segments.outcome": event.outcome, **_facts(event)}
        span = self._tracer.start_span(f"{_NAME} callback", kind=SpanKind.CONSUMER, attributes=attributes, links=links)
        if event.outcome in ("failed", "unparsed"):
            span.set_status(Status(StatusCode.ERROR, event.reason or event.outcome))
        span.end()

    # Metrics

    def _measure_of(self, meter: Meter, metric: Metric) -> Callable[[float, Mapping[str, str | int]], None]:
        """Return what takes in a measurement; what the journal holds is asked for instead."""
        match metric.kind:
            case Kind.COUNTER:
                return meter.create_counter(metric.name, metric.unit, metric.help).add
            case Kind.HISTOGRAM:
                return meter.create_histogram(
                    metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=BUCKETS_S
                ).record
            case Kind.GAUGE:
                observed = [partial(self._observed, metric.name)]
                meter.create_observable_gauge(metric.name, observed, metric.unit, metric.help)
                return _not_told

    def _observed(self, metric: str, _: CallbackOptions) -> Iterable[Observation]:
        for sample in self._gauges.current():
            if sample.metric == metric:
                yield Observation(sample.value, _attributes(sample))


def _not_told(*_: object) -> None:
    raise AssertionError("no event measures what is read from the journal")


def _attributes(sample: Sample) -> dict[str, str | int]:
    """Return the attributes of a measurement; an empty label is left out."""
    labels = zip(METRICS[sample.metric].labels, sample.labels, strict=True)
    return {ATTRIBUTES[name]: int(value) if name in _NUMBERS else value for name, value in labels if value}


def _identity(event: OperationEvent) -> dict[str, str]:
    return dict(_named(event))


def _named(event: OperationEvent) -> Iterator[tuple[str, str]]:
    yield "moe_segments.scope", event.scope
    yield "moe_segments.operation", event.operation
    if event.job is not None:
        yield _JOB, event.job
    if event.segment is not None:
        yield "moe_segments.segment", event.segment


def _facts(event: OperationEvent) -> dict[str, str | int | float]:
    """Return the numbers of an event, and the limit, for a span."""
    facts: dict[str, str | int | float] = {}
    for name, attribute in (
        ("limit", "moe_segments.limit"),
        ("wait_s", "moe_segments.wait.duration"),
        ("waited_s", "moe_segments.wait.duration"),
        ("pause_s", "moe_segments.pause.duration"),
        ("delay_s", "moe_segments.callback.delay"),
        ("attempt", "moe_segments.attempt"),
        ("cs_id", "moe_segments.cs_id"),
        ("status", "http.response.status_code"),
    ):
        value = getattr(event, name, None)
        if value is not None and value != float("inf"):
            facts[attribute] = value
    return facts
