"""A name that was created once is used up for ever: a create that would be answered 409 spends nothing."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from moe_segments import (
    AddUsers,
    BadRequest,
    Conflict,
    CreateFileSegment,
    FileProcessingFailed,
    JobState,
    NameTaken,
    NotSent,
    OutcomeUnknown,
    SegmentBusy,
    SegmentsClient,
    attribute,
)
from moe_segments.bulk.checks import check_files
from moe_segments.bulk.manifest import ManifestError, read_manifest
from moe_segments.bulk.run import run_bulk
from moe_segments.client.client import replica_of
from moe_segments.core.events import Answered, Reserved
from moe_segments.sandbox import FaultKind, Sandbox
from tests.live.sandbox_world import client_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from moe_segments.models import Operation

pytestmark = pytest.mark.asyncio

NOWHERE = "http://127.0.0.1:9/nobody-reads-this.csv"
IN_PUNE = attribute("city").is_in("Pune")
IN_AGRA = attribute("city").is_in("Agra")
HEADER = "op,name,attribute_name,attribute_type,file_url,expiry_time,rows\n"


def create(url: str, name: str = "diwali", **fields: Any) -> CreateFileSegment:
    known: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30, "rows": 3}
    return CreateFileSegment(**(known | {"name": name, "file_url": url} | fields))


def add(url: str, name: str = "diwali") -> AddUsers:
    return AddUsers(name=name, attribute_name="ID", attribute_type="string", file_url=url, rows=3)


def sent(sandbox: Sandbox) -> list[tuple[str | None, str | None]]:
    """What reached the service, but for look-ups."""
    return [(request.op, request.segment) for request in sandbox.workspace.requests if request.op != "list"]


# What uses a name up


async def accepted(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    return (await client.submit(create(url))).id


async def processed(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    job = await client.submit(create(url))
    await job.result(timeout=5)
    return job.id


async def failed(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    job = await client.submit(create(url))
    with pytest.raises(FileProcessingFailed):
        await job.result(timeout=5)
    return job.id


async def archived(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    job_id = await processed(client, sandbox, url)
    await client.archive_segment(name="diwali")
    return job_id


async def answered_409(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    async with client_on(sandbox) as other:
        await processed(other, sandbox, url)
    with pytest.raises(Conflict) as caught:
        await client.submit(create(url))
    assert caught.value.job_id is not None
    return caught.value.job_id


async def lost_and_called_back(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    sandbox.fail_next(FaultKind.LOSE_ANSWER)
    with pytest.raises(OutcomeUnknown) as caught:
        await client.submit(create(url))
    await client.job(caught.value.job_id).result(timeout=5)
    return caught.value.job_id


async def of_filters(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    await client.create_filter_segment(name="diwali", included_filters=IN_PUNE)
    (job,) = replica_of(client).state.jobs.records
    return job


async def renamed(client: SegmentsClient, sandbox: Sandbox, url: str) -> str:
    made = await client.create_filter_segment(name="holi", included_filters=IN_PUNE)
    await client.update_filter_segment(made.id, name="diwali", included_filters=IN_PUNE)
    return list(replica_of(client).state.jobs.records)[-1]


USES: list[Callable[[SegmentsClient, Sandbox, str], Awaitable[str]]] = [
    *(accepted, processed, failed, archived, answered_409, lost_and_called_back, of_filters, renamed)
]


@pytest.mark.parametrize("use", USES)
async def test_a_used_name_is_refused_before_anything_is_spent_or_read(
    sandbox: Sandbox, url: str, use: Callable[[SegmentsClient, Sandbox, str], Awaitable[str]]
) -> None:
    """With the job that shows it, by whichever call, for both kinds of segment."""
    async with client_on(sandbox) as client:
        job_id = await use(client, sandbox, url)
        before, known = sent(sandbox), set(replica_of(client).state.jobs.records)  # the search for it may still read
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.create_file_segment(
                name="diwali", attribute_name="ID", attribute_type="string", file_url=NOWHERE, expiry_time=30
            ),
            lambda: client.submit(create(NOWHERE, rows=None), max_wait_s=math.inf, job_id="another"),
            lambda: client.create_filter_segment(name="diwali", included_filters=IN_AGRA, max_wait_s=math.inf),
            lambda: client.governor.plan([add(url, "other"), create(url)]),
        ]
        for call in calls:
            with pytest.raises(NameTaken) as caught:
                await call()
            assert (caught.value.existing_cs_name, caught.value.used_by) == ("diwali", job_id)
            assert job_id in str(caught.value)
            assert caught.value.field == "name"
        assert sent(sandbox) == before
        assert set(replica_of(client).state.jobs.records) == known


async def test_the_refusal_names_the_segment_that_has_the_name(sandbox: Sandbox, url: str) -> None:
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        with pytest.raises(NameTaken) as caught:
            await client.submit(create(url))
        assert job.accepted is not None
        assert caught.value.existing_cs_id == job.accepted.cs_id


async def test_the_same_job_again_is_no_second_create(sandbox: Sandbox, url: str) -> None:
    """It attaches, as ever; also to one whose file failed."""
    async with client_on(sandbox) as client:
        sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        job = await client.submit(create(url), job_id="mine")
        with pytest.raises(FileProcessingFailed):
            await job.result(timeout=5)
        again = await client.submit(create(url), job_id="mine")
        assert again.state == JobState.FAILED
        assert sent(sandbox) == [("create", "diwali")]


@pytest.mark.parametrize("other", ["Diwali", "diwali2", "diwali\N{COMBINING ACUTE ACCENT}"])
async def test_another_name_is_free_however_similar(sandbox: Sandbox, url: str, other: str) -> None:
    """Names are compared as the service does, character by character."""
    async with client_on(sandbox) as client:
        await processed(client, sandbox, url)
        await (await client.submit(create(url, other))).result(timeout=5)


async def test_other_operations_on_the_name_go_through(sandbox: Sandbox, url: str) -> None:
    """They are what a used name is for."""
    async with client_on(sandbox) as client:
        await processed(client, sandbox, url)
        await (await client.submit(add(url))).result(timeout=5)


# What leaves a name free


async def test_a_create_that_was_refused_leaves_its_name_free(sandbox: Sandbox, url: str) -> None:
    sandbox.fail_next(FaultKind.PLATFORM_ERROR, status=400)
    async with client_on(sandbox) as client:
        with pytest.raises(BadRequest):
            await client.submit(create(url))
        await (await client.submit(create(url))).result(timeout=5)


async def test_a_create_that_never_left_leaves_its_name_free(sandbox: Sandbox, url: str) -> None:
    async with client_on(sandbox, base_url="http://127.0.0.1:9", max_attempts=1) as nobody:
        for _ in range(2):
            with pytest.raises(NotSent):
                await nobody.submit(create(url))


async def test_filters_that_another_segment_has_leave_the_name_free(sandbox: Sandbox) -> None:
    """That 409 is about the filters, and says so by naming the other segment."""
    async with client_on(sandbox) as client:
        await client.create_filter_segment(name="holi", included_filters=IN_PUNE)
        with pytest.raises(Conflict):
            await client.create_filter_segment(name="diwali", included_filters=IN_PUNE)
        await client.create_filter_segment(name="diwali", included_filters=IN_AGRA)


async def test_a_create_of_unknown_outcome_stays_an_unknown_matter(sandbox: Sandbox, url: str) -> None:
    """Its segment is busy, and a repeat on request is answered by the service."""
    sandbox.fail_next(FaultKind.LOSE_ANSWER)
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    limits = attrs.evolve(sandbox.limits, count_late_s=600.0)
    async with client_on(sandbox, limits=limits) as client:
        with pytest.raises(OutcomeUnknown) as lost:
            await client.submit(create(url), job_id="lost")
        with pytest.raises(SegmentBusy):
            await client.submit(create(url))
        with pytest.raises(Conflict):
            await client.submit(create(url), job_id="lost", on_unknown="retry")
    assert lost.value.job_id == "lost"
    assert sent(sandbox) == [("create", "diwali")] * 2


async def test_another_workspace_has_names_of_its_own(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with client_on(sandbox, journal) as client:
        await processed(client, sandbox, url)
    other = attrs.evolve(sandbox.credentials, workspace_id="another")
    async with client_on(sandbox, journal, credentials=other) as client:
        assert len(await client.governor.plan([create(url)])) == 1


# Who hears of it


async def test_another_process_hears_of_it_when_it_asks(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Decided in the journal: what a process has not heard yet does not cost an operation."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with client_on(sandbox, journal) as idle, client_on(sandbox, journal) as busy:
        job_id = await processed(busy, sandbox, url)
        with pytest.raises(NameTaken) as caught:
            await idle.submit(create(url))
        assert caught.value.used_by == job_id
    async with client_on(sandbox, journal) as later:
        with pytest.raises(NameTaken):
            await later.submit(create(url))
    assert sent(sandbox) == [("create", "diwali")]


async def test_who_waits_for_quota_hears_of_it_at_once(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Rather than wait, behind others, for a slot that it could only waste."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    limits = attrs.evolve(sandbox.limits, hour_s=3_600.0, day_s=86_400.0)
    async with (
        client_on(sandbox, journal, limits=limits) as client,
        client_on(sandbox, journal, limits=limits) as other,
    ):
        await client.governor.record_external(operations=10)
        ahead, waiting = (
            asyncio.ensure_future(client.submit(create(url, name), max_wait_s=math.inf, preflight="off"))
            for name in ("ahead", "diwali")
        )
        for _ in range(20):  # each is a question to the journal after those of the two
            await client.governor.usage()
        kept = {"op": "create_filter", "name": "diwali"}  # by one that knows nothing of who waits
        made = Answered("elsewhere", 1, 201, accepted={"cs_name": "diwali", "cs_id": "64f0c1d2e3a4b5c6d7e8f901"})
        await replica_of(other).record(Reserved("elsewhere", 1, kept, 0, 0, 1, ("diwali",), 0, 0), made)
        with pytest.raises(NameTaken):
            async with asyncio.timeout(10):
                await waiting
        assert not ahead.done()
        ahead.cancel()


async def test_many_go_on_without_it(sandbox: Sandbox, url: str) -> None:
    """What follows it goes on, too: the segment that has the name is there."""
    async with client_on(sandbox) as client:
        await processed(client, sandbox, url)
        operations: list[Operation] = [create(url), add(url), create(url, "holi")]
        outcomes = {outcome.operation: outcome async for outcome in client.submit_many(operations)}
    first, second, third = (outcomes[operation] for operation in operations)
    assert isinstance(first.error, NameTaken)
    assert first.job is None, "the job that has the name is another"
    assert (second.error, third.error) == (None, None)
    assert Counter(sent(sandbox)) == Counter([("create", "diwali"), ("add", "diwali"), ("create", "holi")])


async def test_one_of_many_whose_segment_is_busy_is_no_job_of_another(sandbox: Sandbox, url: str) -> None:
    """The job that keeps it busy is in the error."""
    sandbox.fail_next(FaultKind.LATE_CALLBACK)
    async with client_on(sandbox) as client:
        holder = await client.submit(create(url))
        (outcome,) = [outcome async for outcome in client.submit_many([add(url)], max_wait_s=0)]
    assert isinstance(outcome.error, SegmentBusy)
    assert outcome.error.job_id == holder.id
    assert outcome.job is None


# Bulk


async def test_a_run_does_not_begin_with_names_that_are_used(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """All of them are told by their lines, before a file is read and before the plan is written."""
    path = tmp_path / "bulk.csv"
    path.write_text(
        HEADER + "".join(f"create,{name},ID,string,{NOWHERE},30,3\n" for name in ("holi", "diwali", "onam", "lohri"))
    )
    manifest = read_manifest(path)
    async with client_on(sandbox) as client:
        for name in ("diwali", "lohri"):
            await (await client.submit(create(url, name))).result(timeout=5)
        version = replica_of(client).state.version
        for call in (run_bulk(client, manifest), check_files(client, manifest)):
            with pytest.raises(ManifestError) as caught:
                await call
            assert [(mistake.line, mistake.field) for mistake in caught.value.mistakes] == [(3, "name"), (5, "name")]
        assert replica_of(client).state.version == version
    assert sent(sandbox) == [("create", "diwali"), ("create", "lohri")]


async def test_a_run_that_was_begun_goes_on_without_the_line(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """The name was used up meanwhile: the line ends with that error, the rest is carried out, and the run has ended."""
    path = tmp_path / "bulk.csv"
    path.write_text(
        f"{HEADER}create,holi,ID,string,{url},30,3\ncreate,diwali,ID,string,{url},30,3\nadd,diwali,ID,string,{url},,3\n"
    )
    manifest = read_manifest(path)
    stop = asyncio.Event()
    async with client_on(sandbox) as client:
        stop.set()
        assert (await run_bulk(client, manifest, stop=stop)).interrupted
        job_id = await processed(client, sandbox, url)
        report = await run_bulk(client, manifest)
        assert [row.state for row in report.rows] == ["processed", "planned", "processed"]
        assert job_id in (report.rows[1].error or "")
        assert report.exit_code == 2
        again = await run_bulk(client, manifest)
        assert again.already_finished
        assert job_id in (again.rows[1].error or "")
        with pytest.raises(ManifestError):
            await run_bulk(client, manifest, again=True)
    assert Counter(sent(sandbox)) == Counter([("create", "diwali"), ("create", "holi"), ("add", "diwali")])
