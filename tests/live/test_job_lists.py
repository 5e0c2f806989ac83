"""`client.jobs` and `client.runs`: what the journal knows, as values that do not change under their reader."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from moe_segments import (
    AddUsers,
    CallbackReceiver,
    Conflict,
    CreateFileSegment,
    FileFailed,
    FileProcessed,
    FileProcessingFailed,
    InputError,
    JobInfo,
    JobState,
    JournalError,
    NotFound,
    NotSent,
    OutcomeUnknown,
    SegmentsClient,
    attribute,
)
from moe_segments.bulk.manifest import read_manifest
from moe_segments.bulk.run import run_bulk
from moe_segments.sandbox import FaultKind, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

HEADER = "op,name,attribute_name,attribute_type,file_url,expiry_time,rows\n"


@asynccontextmanager
async def client_on(sandbox: Sandbox, journal: str = "memory:", **options: Any) -> AsyncIterator[SegmentsClient]:
    settings: dict[str, Any] = {"base_url": sandbox.url, "limits": sandbox.limits, "poll_s": 0.02} | options
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials, journal=journal, callbacks=receiver, requests_per_s=500, preflight="off", **settings
        ) as client,
    ):
        yield client


def create(url: str, name: str) -> CreateFileSegment:
    return CreateFileSegment(
        name=name, attribute_name="ID", attribute_type="string", file_url=url, expiry_time=30, rows=3
    )


def add(url: str, name: str, cs_id: str | None = None) -> AddUsers:
    return AddUsers(name=name, attribute_name="ID", attribute_type="string", file_url=url, rows=3, cs_id=cs_id)


async def listed(found: AsyncIterator[JobInfo]) -> list[str]:
    return [info.id async for info in found]


async def every_kind(client: SegmentsClient, sandbox: Sandbox, url: str) -> None:
    """A job in each state that lasts, by its state's name."""
    await (await client.submit(create(url, "one"), job_id="processed")).result(timeout=5)
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    with pytest.raises(FileProcessingFailed):
        await (await client.submit(create(url, "two"), job_id="failed")).result(timeout=5)
    with pytest.raises(NotFound):
        await client.submit(add(url, "nobody"), job_id="refused")
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    await client.submit(create(url, "three"), job_id="accepted")
    sandbox.fail_next(FaultKind.SERVER_ERROR, status=503)
    with pytest.raises(OutcomeUnknown):
        await client.submit(add(url, "one"), job_id="unknown")


async def test_each_job_is_told_with_all_that_is_known(sandbox: Sandbox, url: str) -> None:
    """In the order in which they came, with the error that its result would raise."""
    async with client_on(sandbox) as client:
        before = datetime.now(UTC) - timedelta(minutes=1)
        await every_kind(client, sandbox, url)
        infos = {info.id: info async for info in client.jobs()}
        assert list(infos) == ["processed", "failed", "refused", "accepted", "unknown"]
        assert {job_id: info.state for job_id, info in infos.items()} == {state: state for state in infos}
        assert all(client.job(job_id).info == info for job_id, info in infos.items())

    done = infos["processed"]
    assert (done.op, done.segment, done.attempts, done.status, done.run) == ("create", "one", 1, 202, None)
    assert done.accepted is not None
    assert done.cs_id == done.accepted.cs_id
    assert isinstance(done.result, FileProcessed)
    assert (done.figures.found, done.figures.matched) == (3, 3)
    assert done.since >= before
    assert done.since.utcoffset() == timedelta(0)
    assert dict(done.operation)["file_url"] == url.partition("?")[0]
    assert (done.has_ended, done.error, done.awaits_callback) == (True, None, True)
    assert isinstance(infos["failed"].result, FileFailed)
    kinds = {job_id: type(info.error) for job_id, info in infos.items() if info.error}
    assert kinds == {"failed": FileProcessingFailed, "refused": NotFound, "unknown": OutcomeUnknown}
    assert not infos["accepted"].has_ended
    assert pickle.loads(pickle.dumps(infos["failed"].error)).segment_name == "two"


async def test_a_value_stays_what_it_was(sandbox: Sandbox, url: str) -> None:
    """Whatever happens to its job, and whoever would like to change it."""
    async with client_on(sandbox) as client:
        job = await client.submit(create(url, "one"))
        info = job.info
        await job.result(timeout=5)
        assert (info.state, info.result) == (JobState.ACCEPTED, None)
        assert job.info.state == JobState.PROCESSED
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            info.state = "x"  # type: ignore[misc]  # what is tried
        info.operation["op"] = "x"  # type: ignore[index]  # what is tried
        assert job.info.operation["op"] == "create"
        copy = pickle.loads(pickle.dumps(info))
        assert (copy, copy.operation) == (info, info.operation)


async def test_jobs_are_filtered_by_state(sandbox: Sandbox, url: str) -> None:
    async with client_on(sandbox) as client:
        await every_kind(client, sandbox, url)
        assert await listed(client.jobs(state=JobState.FAILED)) == ["failed"]
        assert await listed(client.jobs(state=[JobState.UNKNOWN, JobState.FAILED])) == ["failed", "unknown"]
        assert await listed(client.jobs(state=JobState.TERMINAL)) == ["processed", "failed", "refused"]
        assert await listed(client.jobs(state=())) == []


async def test_jobs_are_filtered_by_segment_however_it_was_named(sandbox: Sandbox, url: str) -> None:
    """By name or by identifier: what the service told of both makes them one."""
    async with client_on(sandbox) as client:
        job = await client.submit(create(url, "one"), job_id="made")
        await job.result(timeout=5)
        await client.submit(create(url, "two"), job_id="other")
        assert job.accepted is not None
        cs_id = job.accepted.cs_id
        assert cs_id is not None
        await (await client.submit(add(url, "one", cs_id), job_id="added")).result(timeout=5)
        await client.archive_segment(name="one", cs_id=cs_id)
        assert len(await listed(client.jobs(segment="one"))) == 3
        assert await listed(client.jobs(segment=cs_id)) == await listed(client.jobs(segment="one"))
        assert await listed(client.jobs(segment="two")) == ["other"]
        assert await listed(client.jobs(segment="On")) == []


async def test_jobs_are_filtered_by_time_and_cut_to_the_last_ones(sandbox: Sandbox, url: str) -> None:
    """Filters hold together; the limit counts what they let through."""
    async with client_on(sandbox) as client:
        await every_kind(client, sandbox, url)
        infos = {info.id: info async for info in client.jobs()}
        since = infos["refused"].since
        assert await listed(client.jobs(since=since)) == ["refused", "accepted", "unknown"]
        zone = datetime.now().astimezone().tzinfo
        assert await listed(client.jobs(since=since.astimezone(zone))) == ["refused", "accepted", "unknown"]
        assert await listed(client.jobs(limit=2)) == ["accepted", "unknown"]
        assert await listed(client.jobs(limit=100)) == list(infos)
        assert await listed(client.jobs(since=since, state=JobState.TERMINAL, limit=1)) == ["refused"]
        assert await listed(client.jobs(since=datetime.max.replace(tzinfo=UTC))) == []


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"state": "finished"}, "state"),
        ({"state": ["processed", 5]}, "state"),
        ({"since": datetime(2026, 1, 1)}, "since"),  # noqa: DTZ001 - what is refused
        ({"since": date(2026, 1, 1)}, "since"),
        ({"since": "2026-01-01"}, "since"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": True}, "limit"),
    ],
)
async def test_a_filter_that_cannot_be_used_is_refused_at_once(
    sandbox: Sandbox, filters: dict[str, Any], field: str
) -> None:
    """When it is given, not when somebody iterates."""
    async with client_on(sandbox) as client:
        with pytest.raises(InputError) as caught:
            client.jobs(**filters)
        assert caught.value.field == field


async def test_jobs_and_runs_of_another_process_are_there(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """The journal is read first."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    (tmp_path / "bulk.csv").write_text(f"{HEADER}create,one,ID,string,{url},30,3\n")
    async with client_on(sandbox, journal) as idle, client_on(sandbox, journal) as busy:
        report = await run_bulk(busy, read_manifest(tmp_path / "bulk.csv"))
        assert [info.segment async for info in idle.jobs()] == ["one"]
        assert [run.id async for run in idle.runs()] == [report.run]


async def test_a_run_is_told_with_its_counts(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Its jobs are those of `jobs(run=…)`, with their lines."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    before = datetime.now(UTC) - timedelta(minutes=1)
    (tmp_path / "bulk.csv").write_text(
        f"{HEADER}create,one,ID,string,{url},30,3\narchive,one,,,,,\nadd,nobody,ID,string,{url},,3\n"
    )
    (tmp_path / "more.csv").write_text(f"{HEADER}create,two,ID,string,{url},30,3\n")
    async with client_on(sandbox, journal) as client:
        await client.submit(create(url, "alone"))
        first = await run_bulk(client, read_manifest(tmp_path / "bulk.csv"))
        second = await run_bulk(client, read_manifest(tmp_path / "more.csv"))
        runs = [run async for run in client.runs()]
        assert [run.id for run in runs] == [first.run, second.run]
        run = runs[0]
        assert (run.manifest, run.total, dict(run.counts), run.ended) == (
            "bulk.csv",
            3,
            {"processed": 1, "accepted": 1, "refused": 1},
            3,
        )
        assert run.started >= before
        infos = [info async for info in client.jobs(run=run.id)]
        assert [(info.line, info.op, info.has_ended) for info in infos] == [
            (2, "create", True),
            (3, "archive", True),
            (4, "add", True),
        ]
        assert [one.id async for one in client.runs(run=second.run)] == [second.run]
        assert [one.id async for one in client.runs(limit=1)] == [second.run]
        assert [one.id async for one in client.runs(since=runs[1].started)] == [second.run]
        assert [one.id async for one in client.runs(run="unheard of")] == []
        with pytest.raises(InputError):
            client.runs(limit=0)


async def test_a_long_list_lets_others_have_their_turn(sandbox: Sandbox, tmp_path: Path) -> None:
    """The loop goes on between parts of it."""
    (tmp_path / "bulk.csv").write_text(HEADER + "".join(f"archive,s{number},,,,,\n" for number in range(1_000)))
    stop = asyncio.Event()
    stop.set()
    async with client_on(sandbox) as client:
        await run_bulk(client, read_manifest(tmp_path / "bulk.csv"), stop=stop)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        assert len(await listed(client.jobs())) == 1_000
        beside.cancel()
        assert turns >= 4


async def test_a_client_that_is_closed_lists_nothing(sandbox: Sandbox) -> None:
    async with client_on(sandbox) as client:
        pass
    with pytest.raises(NotSent):
        client.jobs()


async def test_a_journal_that_cannot_be_read_is_told(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """By the iteration, and nothing is made up."""
    path = tmp_path / "quota.db"
    async with client_on(sandbox, f"sqlite:///{path}") as client:
        await client.submit(create(url, "one"))
        path.unlink()
        with pytest.raises(JournalError):
            await listed(client.jobs())


async def test_an_acceptance_with_a_conflict_is_listed_with_its_segment_in_the_way(sandbox: Sandbox) -> None:
    async with client_on(sandbox) as client:
        await client.create_filter_segment(name="one", included_filters=attribute("city").is_in("Pune"))
        with pytest.raises(Conflict):
            await client.create_filter_segment(name="two", included_filters=attribute("city").is_in("Pune"))
        (info,) = [info async for info in client.jobs(state=JobState.REFUSED)]
    assert isinstance(info.error, Conflict)
    assert info.error.existing_cs_name == "one"
    assert "filters" not in info.operation
