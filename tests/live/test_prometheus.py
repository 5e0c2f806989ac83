"""Metrics for Prometheus: read as a scrape reads them, and judged by Prometheus' own tool."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from moe_segments import CallbackReceiver, InputError, SegmentsClient, TooManyRequests
from moe_segments.sandbox import FaultKind, Sandbox
from moe_segments.telemetry.metrics import METRICS, Kind
from moe_segments.telemetry.prometheus import PrometheusMetrics, write_textfile
from tests.live.prometheus_world import EXAMPLES, RULES, SPEED, alone, create, prometheus, seen, spend_elsewhere
from tests.live.virtual_world import client_of, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

DASHBOARD: Final = EXAMPLES / "grafana-dashboard.json"


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of an exposition by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def promtool(*arguments: str, text: bytes | None = None) -> str:
    """What Prometheus' own tool says; Debian has it in the package prometheus."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("needs promtool, of Debian's package prometheus")
    done = subprocess.run((tool, *arguments), input=text, capture_output=True, timeout=60, check=False)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    return said


@asynccontextmanager
async def world(metrics: PrometheusMetrics, **options: Any) -> AsyncIterator[tuple[Sandbox, SegmentsClient]]:
    """A sandbox and a client with a receiver, in virtual time at the documented limits."""
    async with stage() as (sandbox, receiver):
        client = client_of(sandbox, **{"callbacks": receiver, **options})
        metrics.watch(client).watch(receiver)
        async with client:
            yield sandbox, client


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics(registry=CollectorRegistry())


@pytest.mark.virtual_time
async def test_a_scrape_shows_usage_operations_and_callbacks_counted_once(metrics: PrometheusMetrics) -> None:
    """Although both the client and its receiver are watched."""
    async with world(metrics) as (_, client):
        for number in range(3):
            await (await client.submit(create(f"s{number}"))).result(timeout=600)
        _, text = await metrics.exposition()

    scope = {"scope": client.scope}
    assert value(text, "moe_segments_quota_used", limit="operations_per_hour", **scope) == 3
    assert value(text, "moe_segments_quota_capacity", limit="operations_per_hour", **scope) == 10
    assert value(text, "moe_segments_operations_total", operation="create", outcome="accepted", **scope) == 3
    assert value(text, "moe_segments_callbacks_total", operation="create", outcome="processed", **scope) == 3
    assert value(text, "moe_segments_results_total", operation="create", outcome="processed", **scope) == 3
    assert value(text, "moe_segments_callback_delay_seconds_count", operation="create", **scope) == 3
    assert 60 <= value(text, "moe_segments_callback_delay_seconds_sum", operation="create", **scope) <= 120
    assert value(text, "moe_segments_jobs", state="awaiting_callback", **scope) == 0


@pytest.mark.virtual_time
async def test_the_exposition_is_as_prometheus_wants_it(metrics: PrometheusMetrics) -> None:
    async with world(metrics) as (_, client):
        await (await client.submit(create("vip"))).result(timeout=600)
        _, text = await metrics.exposition()
    promtool("check", "metrics", text=text)


@pytest.mark.virtual_time
async def test_a_callback_that_never_came_is_overdue_and_no_longer_the_oldest(metrics: PrometheusMetrics) -> None:
    """Its segment is released by then; an alarm that never ends is no alarm."""
    async with world(metrics) as (sandbox, client):
        sandbox.fail_next(FaultKind.LOSE_CALLBACK)
        await client.submit(create("silent"))
        await asyncio.sleep(3_600)
        _, soon = await metrics.exposition()
        await asyncio.sleep(6 * 3_600)
        _, late = await metrics.exposition()

    scope = {"scope": client.scope}
    assert 3_590 < value(soon, "moe_segments_callbacks_oldest_seconds", **scope) < 3_610
    assert value(soon, "moe_segments_jobs", state="awaiting_callback", **scope) == 1
    assert value(late, "moe_segments_callbacks_oldest_seconds", **scope) == 0
    assert value(late, "moe_segments_jobs", state="overdue", **scope) == 1


@pytest.mark.virtual_time
async def test_membership_changes_that_wait_are_told_as_they_stand_at_the_scrape(metrics: PrometheusMetrics) -> None:
    """Changes are told whether they are late or not; once they are applied nothing waits any more."""
    async with world(metrics) as (_, client):
        labels = {"scope": client.scope, "segment": "vip"}
        _, unused = await metrics.exposition()
        vip = client.membership("vip", attribute_name="ID", attribute_type="string", expiry_time=30, max_age_s=7_200)
        await client.governor.record_external(operations=10)  # so nothing is sent for an hour
        await vip.add("u1", "u2")
        await asyncio.sleep(1_800)
        _, waiting = await metrics.exposition()
        await vip.flushed(timeout=12 * 3_600)
        _, applied = await metrics.exposition()
        promtool("check", "metrics", text=applied)
    _, closed = await metrics.exposition()

    assert b"moe_segments_membership_lag_seconds{" not in unused
    assert 1_790 < value(waiting, "moe_segments_membership_lag_seconds", **labels) < 1_810
    assert value(waiting, "moe_segments_membership_pending", **labels) == 2
    assert value(applied, "moe_segments_membership_lag_seconds", **labels) == 0
    assert value(applied, "moe_segments_membership_pending", **labels) == 0
    assert b"moe_segments_membership_lag_seconds{" not in closed


@pytest.mark.virtual_time
async def test_clients_that_share_an_outbox_tell_of_a_segment_once(metrics: PrometheusMetrics, tmp_path: Path) -> None:
    """A scrape with one label set twice is refused by Prometheus as a whole."""
    async with world(metrics) as (sandbox, client):
        async with client_of(sandbox) as other:
            metrics.watch(other)
            for one in (client, other):
                fields: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30}
                await one.membership("vip", **fields, outbox=tmp_path / "outbox.db").add("u1")
            _, text = await metrics.exposition()
    assert text.count(b"moe_segments_membership_pending{") == 1


@pytest.mark.virtual_time
async def test_what_was_watched_is_not_kept(metrics: PrometheusMetrics) -> None:
    """A worker with a client for each task would keep them all."""
    async with stage() as (sandbox, _):
        client = client_of(sandbox)
        metrics.watch(client)
        async with client:
            await metrics.exposition()
        left = weakref.ref(client.events)
        del client
        gc.collect()
        assert left() is None


@pytest.mark.asyncio
async def test_a_scrape_in_a_thread_of_its_own_reads_the_journal_at_that_moment(metrics: PrometheusMetrics) -> None:
    """As the server of the client library does; and after the client is closed nothing is claimed of its journal."""
    async with Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox:
        client = SegmentsClient(
            sandbox.credentials, journal="memory:", limits=sandbox.limits, base_url=sandbox.url, publish=sandbox.publish
        )
        metrics.watch(client)
        async with client:
            await client.submit(create("vip"))
            text = await asyncio.to_thread(generate_latest, metrics.registry)
            assert value(text, "moe_segments_quota_used", limit="operations_per_hour", scope=client.scope) == 1
        after = await asyncio.to_thread(generate_latest, metrics.registry)
    assert not [name for name, _ in samples(after) if name.startswith("moe_segments_quota")]
    assert value(after, "moe_segments_operations_total", operation="create", outcome="accepted", scope=client.scope)


def test_a_registry_has_these_metrics_once(metrics: PrometheusMetrics) -> None:
    with pytest.raises(InputError, match="watch several clients"):
        PrometheusMetrics(registry=metrics.registry)


# The receiver


@pytest.mark.asyncio
async def test_a_receiver_answers_scrapes_where_that_is_switched_on(tmp_path: Path) -> None:
    async with alone(tmp_path, metrics=True) as (receiver, client, _), aiohttp.ClientSession() as session:
        await (await client.submit(create("vip"))).result(timeout=20)
        async with session.get(f"{receiver.public_url}/-/metrics") as answer:
            text = await answer.read()
            assert answer.status == 200
            assert answer.content_type == "text/plain"
        async with session.head(f"{receiver.public_url}/-/metrics") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with session.post(f"{receiver.public_url}/-/metrics") as answer:
            assert answer.status == 404

    scope = {"scope": client.scope}
    assert value(text, "moe_segments_callbacks_total", operation="create", outcome="processed", **scope) == 1
    assert value(text, "moe_segments_quota_used", limit="users_per_day", **scope) == 2


@pytest.mark.asyncio
async def test_a_receiver_tells_nobody_of_metrics_unless_it_is_asked_to(tmp_path: Path) -> None:
    async with alone(tmp_path) as (receiver, _, _), aiohttp.ClientSession() as session:
        async with session.get(f"{receiver.public_url}/-/metrics") as answer:
            assert (answer.status, await answer.read()) == (405, b"")


@pytest.mark.asyncio
async def test_an_asgi_host_serves_the_metrics_too(tmp_path: Path) -> None:
    async with alone(tmp_path, metrics=True) as (receiver, _, _):
        sent: list[dict[str, Any]] = []

        async def receive() -> Mapping[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/moe/-/metrics",
            "raw_path": b"/moe/-/metrics",
            "headers": [],
        }
        await receiver.asgi(scope, receive, send)

    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(sent[1]["body"])).encode()
    assert b"moe_segments_quota_capacity" in sent[1]["body"]


@pytest.mark.asyncio
async def test_what_a_stranger_sends_makes_no_names_of_metrics(metrics: PrometheusMetrics) -> None:
    """Paths are made up easily, and each label costs memory for ever."""
    receiver = CallbackReceiver(metrics=metrics)
    for number in range(50):
        await receiver.decide(f"W{number}.01", "x", "POST", None, b"{}")
    _, text = await metrics.exposition()
    lost = {key: count for key, count in samples(text).items() if key[0] == "moe_segments_callbacks_lost_total"}
    assert lost == {
        ("moe_segments_callbacks_lost_total", (("cause", "closed"), ("scope", ""), ("status", "503"))): 50.0
    }


# The file


@pytest.mark.asyncio
async def test_the_textfile_holds_journal_and_outbox_and_only_a_name_that_is_read_is_taken(tmp_path: Path) -> None:
    async with alone(tmp_path) as (_, client, _):
        await (await client.submit(create("vip"))).result(timeout=20)
        late = client.membership("late", attribute_name="ID", attribute_type="string", expiry_time=30)
        await late.add("u1", "u2")
        await write_textfile(tmp_path / "moe.prom", client)
        with pytest.raises(InputError, match=r"\.prom"):
            await write_textfile(tmp_path / "moe.txt", client)
        await write_textfile(str(tmp_path / "moe.prom"), client)

    text = (tmp_path / "moe.prom").read_bytes()
    assert value(text, "moe_segments_quota_used", limit="operations_per_hour", scope=client.scope) == 1
    assert value(text, "moe_segments_membership_pending", scope=client.scope, segment="late") == 2
    assert [name for name in os.listdir(tmp_path) if name.startswith("moe")] == ["moe.prom"]  # noqa: PTH208
    promtool("check", "metrics", text=text)


# The command line


@asynccontextmanager
async def command(directory: Path, sandbox: Sandbox, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command of ours, on a journal in *directory*, without an API key."""
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(directory),
        "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
        "MOE_DATA_CENTER": sandbox.credentials.data_center,
        "MOE_BASE_URL": sandbox.url,
        "MOE_JOURNAL": f"sqlite:///{directory / 'quota.db'}",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moe_segments", *arguments, "--speed", str(SPEED)),
        env=environ,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.communicate()


@pytest.mark.asyncio
@pytest.mark.processes
async def test_quota_writes_a_file_for_the_textfile_collector_and_needs_no_key(tmp_path: Path) -> None:
    async with Sandbox(speed=SPEED) as sandbox:
        options = ("quota", "--spent-operations", "4", "--prometheus", "moe.prom")
        async with command(tmp_path, sandbox, *options) as done:
            out, errors = await done.communicate()
            assert (done.returncode, out) == (0, b""), errors.decode()
        for wrong, reason in (
            (("--prometheus", "moe.txt"), "--prometheus: must end in .prom"),
            (("--prometheus", "moe.prom", "--watch"), "leave out --watch"),
            (("--prometheus", "nowhere/moe.prom"), "cannot be written: No such file or directory"),
        ):
            async with command(tmp_path, sandbox, "quota", "--spent-operations", "1", *wrong) as refused:
                _, errors = await refused.communicate()
                assert (refused.returncode, reason in errors.decode()) == (2, True), errors.decode()
        async with command(tmp_path, sandbox, "quota", "--prometheus", "moe.prom") as again:  # the refused told nothing
            await again.communicate()

    text = (tmp_path / "moe.prom").read_bytes()
    scope = sandbox.credentials.scope
    assert value(text, "moe_segments_quota_external", limit="operations_per_hour", scope=scope) == 4
    assert value(text, "moe_segments_quota_used", limit="operations_per_hour", scope=scope) == 4


@pytest.mark.asyncio
@pytest.mark.processes
@pytest.mark.parametrize(("options", "status"), [(("--metrics",), 200), ((), 405)])
async def test_a_receiver_of_the_command_line_answers_scrapes_on_demand(
    options: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    async with Sandbox(speed=SPEED) as sandbox, aiohttp.ClientSession() as session:
        async with command(tmp_path, sandbox, "receive", "--port", "0", "--json", *options) as receiver:
            assert receiver.stdout is not None
            told = json.loads(await asyncio.wait_for(receiver.stdout.readuntil(b"}\n"), 60))
            async with session.get(f"{told['public_url']}/-/metrics") as answer:
                assert answer.status == status
                assert (b"moe_segments_quota_capacity" in await answer.read()) is (status == 200)


# The examples


def test_the_rules_are_valid() -> None:
    assert "3 rules found" in promtool("check", "rules", str(RULES))


def test_every_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    """As rules that record it, since that is what the tool checks."""
    rules = [
        {"record": f"panel:{panel['id']}:{target['refId']}", "expr": target["expr"].replace("$scope", ".+")}
        for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]
        for target in panel["targets"]
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yml"))


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_the_examples_ask_for_metrics_that_exist(path: Path) -> None:
    known = {metric.exposed_name for metric in METRICS.values()} | {
        f"{metric.exposed_name}_{part}"
        for metric in METRICS.values()
        if metric.kind is Kind.HISTOGRAM
        for part in ("bucket", "count", "sum")
    }
    asked = set(re.findall(r"\bmoe_segments_[a-z_]+", path.read_text("utf-8")))
    assert asked
    assert asked <= known


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


@pytest.mark.virtual_time
async def test_each_alert_fires_on_what_a_real_scrape_says(metrics: PrometheusMetrics, tmp_path: Path) -> None:
    """A day that is nearly full of users, a callback that does not come, and somebody else who spends the hour."""
    calm, trouble = b"", b""
    async with world(metrics) as (sandbox, client):
        await (await client.submit(create("calm"))).result(timeout=600)
        _, calm = await metrics.exposition()

        sandbox.fail_next(FaultKind.LOSE_CALLBACK)
        await client.submit(create("silent"))
        await asyncio.sleep(7_200)
        await client.governor.record_external(rows=1_850_000)
        async with client_of(sandbox) as other:
            await asyncio.gather(*(other.submit(create(f"o{number}")) for number in range(10)))
        with pytest.raises(TooManyRequests):
            await client.submit(create("late"))
        _, trouble = await metrics.exposition()

    scope = client.scope
    expected = {
        "MoeSegmentsUsersADayNearlyFull": [{"severity": "warning", "scope": scope}],
        "MoeSegmentsCallbacksLate": [{"severity": "warning", "scope": scope}],
        "MoeSegmentsQuotaUsedElsewhere": [{"severity": "critical", "scope": scope, "limit": "operations_per_hour"}],
    }
    (tmp_path / "rules.yml").write_text(without_annotations(RULES.read_text("utf-8")))
    (tmp_path / "tests.yml").write_text(
        json.dumps(
            {
                "rule_files": ["rules.yml"],
                "tests": [
                    rule_test(calm, {name: [] for name in expected}),
                    rule_test(trouble, expected),
                ],
            }
        )
    )
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "tests.yml"))


def without_annotations(rules: str) -> str:
    """The rules without their texts, which would have to be repeated word by word."""
    import yaml

    loaded = yaml.safe_load(rules)
    for group in loaded["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations")
    return str(yaml.safe_dump(loaded))


def rule_test(text: bytes, alerts: Mapping[str, list[dict[str, str]]]) -> dict[str, object]:
    """A test that has every sample of a scrape stand for half an hour, and looks at the alerts then."""
    series = [
        {"series": f"{name}{{{','.join(f'{key}={json.dumps(one)}' for key, one in labels)}}}", "values": f"{count}x30"}
        for (name, labels), count in samples(text).items()
    ]
    return {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": "20m", "alertname": name, "exp_alerts": [{"exp_labels": labels} for labels in fired]}
            for name, fired in alerts.items()
        ],
    }


@pytest.mark.asyncio
@pytest.mark.processes
async def test_a_real_prometheus_scrapes_the_receiver_and_fires_the_alert(tmp_path: Path) -> None:
    """As a stranger would set it up: the examples as they are, but for the ports."""
    server = shutil.which("prometheus")
    if server is None:
        pytest.skip("needs prometheus, of Debian's package of that name")
    async with (
        alone(tmp_path, metrics=True) as (receiver, client, sandbox),
        prometheus(server, tmp_path, receiver) as url,
        aiohttp.ClientSession() as session,
    ):
        await seen(session, f"{url}/api/v1/query?query=moe_segments_quota_capacity", client.scope)
        await spend_elsewhere(sandbox)
        with pytest.raises(TooManyRequests):
            await client.submit(create("late"))
        await seen(session, f"{url}/api/v1/alerts", "MoeSegmentsQuotaUsedElsewhere")
