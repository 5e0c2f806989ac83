"""The recipes for orchestrators and cron: the page shows the files, and the files do what it says."""

from __future__ import annotations

import asyncio
import math
import os
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments import QuotaExceeded, SegmentBusy, SegmentsClient, TooManyRequests
from moe_segments.sandbox import FaultKind
from tests.fleet.examples import ROOT, SPEED, Service, ran, service
from tests.fleet.orchestrators import ApplicationError, loaded, run_task, scheduled, workflow
from tests.fleet.postgres_server import postgres_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

MORE_THAN_AN_HOUR: Final = 12  # creates, of which an hour takes ten
HOUR: Final = timedelta(hours=1)
NEVER: Final = QuotaExceeded("active_segments", 1_000, 1, 1_000, None, math.inf)
SOON: Final = QuotaExceeded("operations_per_hour", 10, 1, 10, datetime(2026, 1, 1, tzinfo=UTC), 5.0)
BUSY: Final = SegmentBusy("vip", "job-1", datetime(2026, 1, 1, tzinfo=UTC), 21_600.0)
BUSY_FOR_EVER: Final = SegmentBusy("vip", "job-1", datetime(2026, 1, 1, tzinfo=UTC), math.inf)
THROTTLED: Final = TooManyRequests(429, "Slow down", None, None, {}, "job-1", "operations_per_hour", SOON.ready_at, 5.0)


@asynccontextmanager
async def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service, and all that `SegmentsClient.from_env` needs for it."""
    async with service(f"sqlite:///{tmp_path / 'quota.db'}", tmp_path) as running:
        more = {"MOE_SPEED": str(SPEED), "MOE_PUBLISH": running.sandbox.files_url}
        for name, value in {**running.environment, **more}.items():
            monkeypatch.setenv(name, value)
        yield running
        assert running.sandbox.workspace.rejections == 0


def audiences(tmp_path: Path, *, count: int = MORE_THAN_AN_HOUR, broken: bool = False) -> str:
    path = tmp_path / "audiences.toml"
    fields = 'attribute_name = "ID"\nattribute_type = "string"\nexpiry_time = 365\nfile = "users.csv"\n'
    names = [f"nightly_{number}" for number in range(count)]
    text = "".join(f'[[audience]]\nname = "{name}"\n{fields}' for name in names)
    if broken:
        text += f'[[audience]]\nname = "broken"\n{fields.replace("users.csv", "missing.csv")}'
    path.write_text(text)
    return str(path)


def created(running: Service) -> set[str]:
    submissions = running.sandbox.workspace.submissions
    assert len(submissions) == len({each.segment.name for each in submissions}), "each once"
    return {each.segment.name for each in submissions}


@pytest.mark.parametrize("example", ["airflow_dag.py", "prefect_flow.py", "temporal_activities.py"])
async def test_the_page_shows_the_file_that_is_tested(example: str) -> None:
    page, text = ((ROOT / path).read_text("utf-8") for path in ("docs/orchestrators.md", f"examples/{example}"))
    (shown,) = re.findall(
        rf"\(\.\./examples/{example}\):\n\n<!-- [^\n]* -->\n```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert shown == text


@pytest.mark.parametrize("example", ["airflow_dag.py", "prefect_flow.py"])
async def test_a_task_that_is_put_off_never_comes_back_at_once(example: str) -> None:
    """Where nothing says when the quota is free, an hour passes; for a busy segment five minutes at most."""
    next_look, now = loaded(example).next_look, datetime.now(UTC)
    assert HOUR <= next_look(NEVER) - now < 2 * HOUR
    assert next_look(SOON) == next_look(THROTTLED) == SOON.ready_at
    for busy in (BUSY, BUSY_FOR_EVER):
        assert timedelta(minutes=5) <= next_look(busy) - now < HOUR


async def test_an_activity_that_is_put_off_never_comes_back_at_once() -> None:
    pause = loaded("temporal_activities.py").pause
    assert [pause(each) for each in (NEVER, SOON, THROTTLED, BUSY, BUSY_FOR_EVER)] == [
        *(HOUR, timedelta(seconds=5), timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=5))
    ]


async def test_the_airflow_recipe_syncs_what_fits_and_is_put_off_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with environment(tmp_path, monkeypatch) as running:
        operator = loaded("airflow_dag.py").SyncAudiences
        result, moments = await asyncio.to_thread(run_task, operator(task_id="t", audiences=audiences(tmp_path)))
        assert result["ok"] is True
        assert len(created(running)) == MORE_THAN_AN_HOUR
        assert 1 <= len(moments) <= 4
        with pytest.raises(RuntimeError, match=r"broken: .*missing\.csv"):
            await asyncio.to_thread(run_task, operator(task_id="t", audiences=audiences(tmp_path, broken=True)))
        assert len(created(running)) == MORE_THAN_AN_HOUR, "what was done is not done again"


async def test_the_prefect_recipe_syncs_what_fits_and_schedules_itself_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with environment(tmp_path, monkeypatch) as running:
        flow = loaded("prefect_flow.py").sync_audiences
        scheduled.clear()
        await flow(audiences(tmp_path))
        runs = 1
        assert len(created(running)) < MORE_THAN_AN_HOUR
        while scheduled:
            (next_run,) = scheduled
            scheduled.clear()
            assert next_run.name == "sync-audiences/nightly"
            await asyncio.sleep((next_run.scheduled_time - datetime.now(UTC)).total_seconds())
            await flow(**next_run.parameters)
            runs += 1
        assert len(created(running)) == MORE_THAN_AN_HOUR
        assert runs <= 5
        with pytest.raises(RuntimeError, match=r"broken: .*missing\.csv"):
            await flow(audiences(tmp_path, broken=True))


async def test_the_temporal_recipe_says_when_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with environment(tmp_path, monkeypatch) as running, SegmentsClient.from_env() as client:
        activities, pauses = loaded("temporal_activities.py").Segments(client), list[timedelta]()

        async def tried(number: int) -> None:
            workflow.set(f"workflow-{number}")
            job = None
            while job is None:
                try:
                    job = await activities.create_segment(f"segment-{number}", running.file_url)
                except ApplicationError as error:
                    pauses.append(error.next_retry_delay)
                    await asyncio.sleep(error.next_retry_delay.total_seconds())
            assert await activities.create_segment(f"segment-{number}", running.file_url) == job == f"workflow-{number}"

        await asyncio.gather(*map(tried, range(MORE_THAN_AN_HOUR)))
        assert len(created(running)) == MORE_THAN_AN_HOUR
        assert 1 <= len(pauses) <= 20
        assert min(pauses) > timedelta(0)


@pytest.mark.parametrize("example", ["airflow_dag.py", "temporal_activities.py"])
async def test_work_that_somebody_else_s_spending_stops_is_put_off_and_done_later(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 429 of the service, which the journal could not know of, loses no work."""
    async with service(f"sqlite:///{tmp_path / 'quota.db'}", tmp_path) as running:
        more = {"MOE_SPEED": str(SPEED), "MOE_PUBLISH": running.sandbox.files_url}
        for name, value in {**running.environment, **more}.items():
            monkeypatch.setenv(name, value)
        running.sandbox.fail_next(FaultKind.PLATFORM_ERROR, status=429)
        if example == "airflow_dag.py":
            operator = loaded(example).SyncAudiences
            _, moments = await asyncio.to_thread(
                run_task, operator(task_id="t", audiences=audiences(tmp_path, count=1))
            )
            assert len(moments) == 1
            assert len(created(running)) == 1
            return
        async with SegmentsClient.from_env() as client:
            activities = loaded(example).Segments(client)
            workflow.set("workflow-1")
            with pytest.raises(ApplicationError) as put_off:
                await activities.create_segment("segment", running.file_url)
            await asyncio.sleep(put_off.value.next_retry_delay.total_seconds())
            assert await activities.create_segment("segment", running.file_url) == "workflow-1"
            assert created(running) == {"segment"}


async def test_the_nightly_sync_from_postgresql_sends_only_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres_server() as warehouse:
        warehouse.sql("CREATE TABLE customers (id text PRIMARY KEY, spent int, last_seen timestamptz)")
        warehouse.sql(
            "INSERT INTO customers SELECT 'c-' || n, n, now() - n * interval '1 day' FROM generate_series(1, 1200) n"
        )
        async with environment(tmp_path, monkeypatch) as running:
            monkeypatch.setenv("WAREHOUSE", warehouse.url)
            said = await ran(os.environ, "examples/nightly_sync_postgres.py")
            assert said.splitlines() == [
                "nightly_big_spenders: synced, sent create: 201 added, 0 removed ",
                "nightly_lapsed: synced, sent create: 1111 added, 0 removed ",
            ]
            warehouse.sql("UPDATE customers SET last_seen = now() WHERE id = 'c-500'")
            warehouse.sql("INSERT INTO customers VALUES ('c-new', 5000, now())")
            said = await ran(os.environ, "examples/nightly_sync_postgres.py")
            assert said.splitlines() == [
                "nightly_big_spenders: synced, sent add: 1 added, 0 removed ",
                "nightly_lapsed: synced, sent remove: 0 added, 1 removed ",
            ]
            members = {each.name: each.members for each in running.sandbox.workspace.segments}
            assert members["nightly_big_spenders"] == {*(f"c-{n}" for n in range(1_000, 1_201)), "c-new"}
            assert "c-500" not in members["nightly_lapsed"]
