"""Traces and metrics for OpenTelemetry, seen by the exporters in memory of its own SDK."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from moe_segments import CallbackReceiver, CreateFileSegment, InputError, QuotaExceeded, SegmentsClient
from moe_segments.client.client import replica_of
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import FaultKind, Sandbox
from moe_segments.telemetry import gauges
from moe_segments.telemetry.metrics import ATTRIBUTES, METRICS
from moe_segments.telemetry.otel import OpenTelemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

pytestmark = pytest.mark.asyncio


class Telemetry:
    """An SDK whose exporters keep everything in memory."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def made(self) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if name in (None, span.name)]

    async def points(self) -> dict[str, list[Any]]:
        """The data points by metric, collected as a periodic reader does, from a thread of its own."""
        data = await asyncio.to_thread(self.reader.get_metrics_data)
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracers)
    yield telemetry
    instrumentor.uninstrument()
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(speed=60, processing_s=(0, 0)) as running:
        yield running


@asynccontextmanager
async def client_on(sandbox: Sandbox, telemetry: Telemetry, **options: Any) -> AsyncIterator[SegmentsClient]:
    async with CallbackReceiver().serve() as receiver:
        client = SegmentsClient(
            sandbox.credentials,
            **{
                "journal": "memory:",
                "callbacks": receiver,
                "limits": sandbox.limits,
                "base_url": sandbox.url,
                "publish": sandbox.publish,
                "poll_s": 0.02,
                **options,
            },
        )
        telemetry.made().watch(client)
        async with client:
            yield client


def create(name: str) -> CreateFileSegment:
    return CreateFileSegment(
        name=name, attribute_name="ID", attribute_type="string", values=["u-1", "u-2"], expiry_time=30
    )


async def test_an_operation_is_a_span_above_its_request_and_linked_from_its_callback(
    sandbox: Sandbox, telemetry: Telemetry
) -> None:
    """And it is a child of whatever span its caller is in."""
    async with client_on(sandbox, telemetry) as client:
        with telemetry.tracers.get_tracer("app").start_as_current_span("nightly") as caller:
            job = await client.submit(create("vip"))
        await job.result(timeout=10)

    (span,), (callback,) = telemetry.spans("moe_segments create"), telemetry.spans("moe_segments callback")
    assert span.context is not None
    requests = [one for one in telemetry.spans() if one.parent and one.parent.span_id == span.context.span_id]
    assert [(one.name, one.kind) for one in requests] == [("POST", SpanKind.CLIENT)]
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert [link.context.span_id for link in callback.links] == [span.context.span_id]
    assert [link.context.trace_id for link in callback.links] == [span.context.trace_id]
    assert (span.kind, callback.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    shown = dict(span.attributes or {})
    assert shown["moe_segments.job.id"] == job.id
    assert shown["moe_segments.segment"] == "vip"
    assert shown["moe_segments.outcome"] == "accepted"
    assert [event.name for event in span.events] == ["reserved"]


async def test_the_callback_is_linked_where_another_process_receives_it(
    sandbox: Sandbox, telemetry: Telemetry, tmp_path: Path
) -> None:
    """The context goes through the journal: nothing else is common to the two."""
    journal, there = f"sqlite:///{tmp_path / 'quota.db'}", Telemetry()
    receiver = CallbackReceiver(journal=journal, scopes=[sandbox.credentials.scope], limits=sandbox.limits)
    there.made().watch(receiver)
    async with receiver.serve():
        async with client_on(sandbox, telemetry, journal=journal, callbacks=receiver.public_url) as client:
            await (await client.submit(create("vip"))).result(timeout=10)

    (span,), (callback,) = telemetry.spans("moe_segments create"), there.spans("moe_segments callback")
    assert span.context is not None
    assert [link.context.span_id for link in callback.links] == [span.context.span_id]


async def test_a_job_that_is_submitted_twice_at_once_is_one_span(sandbox: Sandbox, telemetry: Telemetry) -> None:
    async with client_on(sandbox, telemetry) as client:
        await asyncio.gather(*(client.submit(create("vip"), job_id="nightly") for _ in range(3)))

    assert len(telemetry.spans("moe_segments create")) == 1


async def test_a_refusal_and_a_lost_answer_are_errors_of_their_spans(sandbox: Sandbox, telemetry: Telemetry) -> None:
    async with client_on(sandbox, telemetry) as client:
        await client.governor.record_external(operations=9)
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        with pytest.raises(Exception, match="unknown"):
            await client.submit(create("lost"))
        with pytest.raises(QuotaExceeded):
            await client.submit(create("late"))

    lost, late = telemetry.spans("moe_segments create")
    assert (lost.status.status_code, late.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert dict(late.attributes or {})["error.type"] == "QuotaExceeded"
    assert dict(late.attributes or {})["moe_segments.limit"] == "operations_per_hour"
    assert dict(lost.attributes or {})["moe_segments.outcome"] == "unknown"


async def test_the_metrics_count_operations_and_show_the_journal(sandbox: Sandbox, telemetry: Telemetry) -> None:
    async with client_on(sandbox, telemetry) as client:
        for number in range(3):
            await (await client.submit(create(f"s{number}"))).result(timeout=10)
        points = await telemetry.points()

    scope = {"moe_segments.scope": client.scope}
    (accepted,) = points["moe_segments.operations"]
    assert accepted.value == 3
    assert dict(accepted.attributes) == {
        **scope,
        "moe_segments.operation": "create",
        "moe_segments.outcome": "accepted",
    }
    (request,) = points["moe_segments.request.duration"]
    assert (request.count, request.attributes["http.response.status_code"]) == (3, 202)
    used = {point.attributes["moe_segments.limit"]: point.value for point in points["moe_segments.quota.used"]}
    assert (used["operations_per_hour"], used["users_per_day"], used["active_segments"]) == (3, 6, 3)
    capacity = {point.attributes["moe_segments.limit"]: point.value for point in points["moe_segments.quota.capacity"]}
    assert capacity["operations_per_hour"] == 10
    assert {"moe_segments.callback.delay", "moe_segments.results", "moe_segments.wait.duration"} <= points.keys()


async def test_the_metrics_show_membership_changes_that_wait(
    sandbox: Sandbox, telemetry: Telemetry, tmp_path: Path
) -> None:
    async with client_on(sandbox, telemetry) as client:
        await client.governor.record_external(operations=10)  # so nothing is sent
        vip = client.membership("vip", attribute_name="ID", attribute_type="string", outbox=tmp_path / "outbox.db")
        await vip.add("u1", "u2")
        points = await telemetry.points()

    (pending,) = points["moe_segments.membership.pending"]
    assert pending.value == 2
    assert dict(pending.attributes) == {"moe_segments.scope": client.scope, "moe_segments.segment": "vip"}
    (lag,) = points["moe_segments.membership.lag"]
    assert 0 <= lag.value < 60


class FrozenJournal(MemoryJournal):
    """A journal in memory that can stop to answer, as a server does that is stopped or behind a dead line."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def transact(self, *arguments: Any, **options: Any) -> Any:
        await self.answers.wait()
        return await super().transact(*arguments, **options)

    async def read(self, after: int) -> Any:
        await self.answers.wait()
        return await super().read(after)


async def test_a_journal_that_does_not_answer_holds_no_export_up_and_is_not_shown_as_it_was(
    sandbox: Sandbox, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export of the whole process would be given up after ten seconds, all its metrics with it."""
    monkeypatch.setattr(gauges, "_WITHIN_S", 0.3)
    journal = FrozenJournal()
    async with client_on(sandbox, telemetry, journal=journal) as client:
        await (await client.submit(create("vip"))).result(timeout=10)
        before = await telemetry.points()
        monkeypatch.setattr(gauges, "_FRESH_S", 0.5)
        await asyncio.sleep(0.6)
        journal.answers.clear()
        begun_s = time.monotonic()
        frozen = await telemetry.points()
        took_s = time.monotonic() - begun_s
        journal.answers.set()
        await asyncio.sleep(0.6)
        after = await telemetry.points()

    assert "moe_segments.quota.used" in before
    assert "moe_segments.quota.used" not in frozen
    assert "moe_segments.operations" in frozen  # what was counted here goes on
    assert took_s < 2  # once, not for each gauge
    assert "moe_segments.quota.used" in after


async def test_a_busy_loop_is_waited_for_once_in_a_collection(
    sandbox: Sandbox, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gauge asks; what was read last is shown meanwhile."""
    async with client_on(sandbox, telemetry) as client:
        await (await client.submit(create("vip"))).result(timeout=10)
        await telemetry.points()
        monkeypatch.setattr(gauges, "_WITHIN_S", 0.2)
        monkeypatch.setattr(gauges, "_FRESH_S", 0.5)
        await asyncio.sleep(0.6)

        def collected() -> float:
            begun_s = time.monotonic()
            telemetry.reader.get_metrics_data()
            return time.monotonic() - begun_s

        collecting = asyncio.get_running_loop().run_in_executor(None, collected)
        time.sleep(3)  # noqa: ASYNC251 - the loop is to be busy, so that nothing in it can answer
        assert await collecting < 2


async def test_every_metric_is_in_the_table_with_its_unit_and_attributes(
    sandbox: Sandbox, telemetry: Telemetry
) -> None:
    async with client_on(sandbox, telemetry) as client:
        await (await client.submit(create("vip"))).result(timeout=10)
        data = await asyncio.to_thread(telemetry.reader.get_metrics_data)

    assert data is not None
    found = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if scope.scope.name == "moe_segments"
    ]
    assert found
    for metric in found:
        told = METRICS[metric.name]
        assert metric.unit == told.unit
        allowed = {ATTRIBUTES[label] for label in told.labels}
        for point in metric.data.data_points:
            assert set(point.attributes or {}) <= allowed


async def test_where_nobody_traces_the_journal_is_as_it_always_was(sandbox: Sandbox) -> None:
    """Without a tracer provider there is no context to keep."""
    telemetry = Telemetry()
    client = SegmentsClient(
        sandbox.credentials, journal="memory:", limits=sandbox.limits, base_url=sandbox.url, publish=sandbox.publish
    )
    OpenTelemetry(meter_provider=telemetry.meters).watch(client)
    async with client:
        job = await client.submit(create("vip"))
        assert "trace" not in replica_of(client).state.jobs.records[job.id].operation
    telemetry.meters.shutdown()


async def test_only_clients_and_receivers_can_be_watched(telemetry: Telemetry) -> None:
    with pytest.raises(InputError, match="SegmentsClient"):
        telemetry.made().watch(object())
