"""A file on its way into an operation: checked, weighed, published, the same still; and what became of its rows."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    CallbackReceiver,
    CreateFileSegment,
    FileFigures,
    InputError,
    JobState,
    NoUsersMatched,
    PreflightError,
    PublishedFile,
    QuotaNeverFits,
    ReplaceUsers,
    SegmentsClient,
)
from moe_segments.client.client import replica_of
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock, run_virtually
from tests.live.sandbox_world import client_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SPEED = 3_600.0
FIELDS: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string"}
BAD = 'u-1\n"u-2"\nu-3\n\nu-1\n'
GOOD = "u-1\nu-2\nu-3\n"


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(speed=SPEED, processing_s=(0, 0), users=["u-1", "u-2", "u-3"]) as running:
        yield running


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return written(tmp_path / "users.csv", GOOD)


def written(path: Path, content: str, *, older_s: float = 0.0) -> Path:
    path.write_text(content)
    if older_s:
        now_s = path.stat().st_mtime - older_s
        os.utime(path, (now_s, now_s))
    return path


def create(file: Path | None = None, url: str | None = None, **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(**(FIELDS | {"name": "diwali", "file": file, "file_url": url, "expiry_time": 30} | fields))


def sent(sandbox: Sandbox) -> list[str | None]:
    return [request.op for request in sandbox.workspace.requests]


async def spent(client: SegmentsClient) -> tuple[int, int]:
    usage = await client.governor.usage()
    return usage["operations_per_hour"].used, usage["users_per_day"].used


# Checked before anything is spent


@pytest.mark.asyncio
@pytest.mark.parametrize("is_local", [True, False])
async def test_a_bad_file_is_refused_before_anything_is_spent(sandbox: Sandbox, tmp_path: Path, is_local: bool) -> None:  # noqa: FBT001 - a table
    path = written(tmp_path / "bad.csv", BAD)
    published: list[Path] = []

    async def publish(path: Path) -> str:
        published.append(path)
        return await sandbox.publish(path)

    url = None if is_local else await sandbox.publish(path)
    async with client_on(sandbox, publish=publish) as client:
        with pytest.raises(PreflightError) as caught:
            await client.submit(create(path if is_local else None, url))

        assert (sent(sandbox), published, await spent(client)) == ([], [], (0, 0))
        assert replica_of(client).state.jobs.records == {}
    report = caught.value.report
    assert (report.rows, report.distinct_rows, report.ok) == (5, 3, False)
    assert {finding.code for finding in report.errors} == {"MOE102", "MOE105", "MOE117"}
    assert "MOE105 double quotes (line 2)" in str(caught.value)
    assert "u-2" not in f"{caught.value} {caught.value!r}"
    assert report.errors[0].row is not None
    kept = pickle.dumps(caught.value)
    assert pickle.loads(kept).report.counts == report.counts
    assert b"u-2" not in kept


@pytest.mark.asyncio
async def test_every_file_operation_is_checked(sandbox: Sandbox, tmp_path: Path) -> None:
    file = written(tmp_path / "bad.csv", BAD)
    async with client_on(sandbox) as client:
        for submit, fields in (
            (client.create_file_segment, FIELDS | {"expiry_time": 1}),
            (client.add_users, FIELDS),
            (client.remove_users, FIELDS),
            (client.replace_users, FIELDS),
        ):
            with pytest.raises(PreflightError):
                await submit(name="s", file=file, **fields)
        outcomes = [outcome async for outcome in client.submit_many([create(file)])]
    assert isinstance(outcomes[0].error, PreflightError)
    assert sent(sandbox) == []


@pytest.mark.asyncio
async def test_warn_says_what_is_wrong_and_goes_on(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "bad.csv", BAD)
    async with client_on(sandbox, preflight="warn") as client:
        job = await client.submit(create(file))
        await job.result(timeout=5)
    assert "is sent although it breaks rules: MOE102 empty row (line 4)" in caplog.text
    assert "u-2" not in caplog.text
    assert job.figures.rows == 5


@pytest.mark.asyncio
async def test_what_is_allowed_and_seldom_meant_is_logged_once(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not again to whoever has the report."""
    file = written(tmp_path / "header.csv", "ID\nu-1\n")
    async with client_on(sandbox) as client:
        await client.submit(create(file))
        assert "header.csv: MOE116 row equal to the attribute's name (line 1)" in caplog.text
        caplog.clear()
        await client.preflight(create(file, name="other"))
        await client.submit(create(file, name="other"))
    assert "MOE116" not in caplog.text


@pytest.mark.asyncio
async def test_off_does_not_look_at_a_file_whose_rows_are_declared(sandbox: Sandbox) -> None:
    """Such as one that only the service's own addresses may fetch."""
    unreachable = "http://127.0.0.1:9/users.csv"
    async with client_on(sandbox, preflight="off") as client:
        await client.submit(create(url=unreachable, rows=3))
        assert await spent(client) == (1, 3)
        with pytest.raises(PreflightError, match="cannot be read"):
            await client.submit(create(url=unreachable, rows=3, name="other"), preflight="error")


@pytest.mark.asyncio
async def test_a_call_goes_before_the_client(sandbox: Sandbox, tmp_path: Path) -> None:
    file = written(tmp_path / "bad.csv", BAD)
    async with client_on(sandbox) as client:
        await client.create_file_segment(name="s", file=file, expiry_time=1, preflight="off", **FIELDS)
        outcomes = [one async for one in client.submit_many([create(file)], preflight="off")]
    assert outcomes[0].error is None
    assert sent(sandbox).count("create") == 2


@pytest.mark.asyncio
async def test_a_mode_that_is_none_is_refused(sandbox: Sandbox, users: Path) -> None:
    with pytest.raises(InputError, match="preflight"):
        SegmentsClient(sandbox.credentials, journal="memory:", preflight="strict")  # type: ignore[arg-type]
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="preflight"):
            await client.submit(create(users), preflight=True)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="preflight"):
            client.submit_many([create(users)], preflight="none")  # type: ignore[arg-type]


# Weighed


@pytest.mark.asyncio
async def test_rows_are_counted_and_weigh_on_the_days_users(sandbox: Sandbox, users: Path) -> None:
    async with client_on(sandbox) as client:
        await client.submit(create(users))
        assert (await spent(client))[1] == 3


@pytest.mark.asyncio
async def test_more_rows_than_declared_are_refused_and_an_upper_bound_is_kept(sandbox: Sandbox, users: Path) -> None:
    async with client_on(sandbox, callbacks=None) as client:
        with pytest.raises(InputError, match="rows: is 2 and the file has 3"):
            await client.submit(create(users, rows=2))
        assert (sent(sandbox), await spent(client)) == ([], (0, 0))
        await client.submit(create(users, rows=7))
        assert (await spent(client))[1] == 7


@pytest.mark.asyncio
async def test_a_file_that_no_day_can_take_is_said_to_be_so(tmp_path: Path) -> None:
    limits = Sandbox(speed=SPEED).limits
    async with Sandbox(speed=SPEED) as sandbox:
        file = written(tmp_path / "many.csv", "".join(f"u-{number}\n" for number in range(limits.users_per_day + 1)))
        async with client_on(sandbox) as client:
            with pytest.raises(QuotaNeverFits):
                await client.submit(create(file))
    assert sent(sandbox) == []


# The same still


@pytest.mark.asyncio
async def test_a_plan_knows_the_rows_of_a_file_that_was_checked(sandbox: Sandbox, users: Path, tmp_path: Path) -> None:
    """By an equal operation, which is not taken out of memory by looking; others need their rows still."""
    async with client_on(sandbox, limits=attrs.evolve(sandbox.limits, users_per_day=4)) as client:
        operation = create(users)
        with pytest.raises(InputError, match=r"give rows=, or await client\.preflight"):
            await client.governor.plan([operation])
        await client.preflight(operation)
        for _ in range(2):
            first, second = await client.governor.plan([create(users), create(users, name="diwali", rows=2)])
            assert (first.operation, first.limit, second.limit) == (operation, None, "users_per_day")
        with pytest.raises(InputError, match=r"'holi' needs its rows.*preflight"):
            await client.governor.plan([operation, create(users, name="holi")])


@pytest.mark.asyncio
@pytest.mark.parametrize("is_local", [True, False])
async def test_what_was_checked_is_what_is_sent(sandbox: Sandbox, users: Path, is_local: bool) -> None:  # noqa: FBT001 - a table
    """A file that changed meanwhile is refused; checked anew, it goes."""
    written(users, GOOD, older_s=60)
    operation = create(users) if is_local else create(url=await sandbox.publish(users))
    async with client_on(sandbox) as client:
        assert (await client.preflight(operation)).rows == 3
        written(users, "u-1\nu-2\nu-9\n")
        with pytest.raises(PreflightError, match="has changed since it was checked"):
            await client.submit(operation)
        assert (sent(sandbox), await spent(client)) == ([], (0, 0))

        assert (await client.preflight(operation)).ok
        assert (await client.submit(operation)).accepted is not None


@pytest.mark.asyncio
async def test_a_file_that_is_gone_meanwhile_is_refused(sandbox: Sandbox, users: Path) -> None:
    operation = create(url=await sandbox.publish(users.parent) + users.name)  # a directory is served as it is
    async with client_on(sandbox) as client:
        await client.preflight(operation)
        await asyncio.to_thread(users.unlink)
        with pytest.raises(PreflightError, match="answers HTTP 404 now"):
            await client.submit(operation)
    assert sent(sandbox) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("tells", ["Last-Modified", "size"])
async def test_a_host_without_entity_tags_is_asked_for_what_it_has(sandbox: Sandbox, tells: str) -> None:
    file: dict[str, Any] = {"body": GOOD, "headers": {"Content-Type": "text/csv"}}

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=file["body"], headers=file["headers"])

    app = web.Application()
    app.router.add_get("/users.csv", serve)
    async with TestServer(app) as server, client_on(sandbox) as client:
        operation = create(url=str(server.make_url("/users.csv")))
        if tells == "Last-Modified":
            file["headers"]["Last-Modified"] = "Mon, 23 Nov 2026 10:00:00 GMT"
        assert (await client.preflight(operation)).etag is None
        if tells == "size":
            file["body"] = "u-1\n"
        else:
            file["headers"]["Last-Modified"] = "Mon, 23 Nov 2026 10:00:01 GMT"
        with pytest.raises(PreflightError, match="has changed since it was checked"):
            await client.submit(operation)
        await client.preflight(operation)
        assert (await client.submit(operation)).accepted is not None


@pytest.mark.asyncio
async def test_a_check_is_not_made_twice(sandbox: Sandbox, users: Path) -> None:
    """The second time the file is only looked at: an equal operation, whatever rows it names by then."""
    operation = create(url=await sandbox.publish(users))
    async with client_on(sandbox) as client:
        await client.preflight(operation)
        job = await client.submit(create(url=operation.file_url, rows=5))
        assert job.figures.rows == 3


@pytest.mark.asyncio
async def test_what_has_no_file_is_not_checked(sandbox: Sandbox) -> None:
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="others have no file"):
            await client.preflight(ArchiveSegment(name="s"))  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_file_that_changes_while_it_is_published_is_refused(sandbox: Sandbox, users: Path) -> None:
    async def publish(path: Path) -> str:
        await asyncio.to_thread(written, path, "u-4\n")
        return await sandbox.publish(path)

    async with client_on(sandbox, publish=publish) as client:
        with pytest.raises(PreflightError, match="has changed since it was checked"):
            await client.submit(create(users))
    assert sent(sandbox) == []


@asynccontextmanager
async def full_hour(users: Path, publish: Any = None) -> AsyncIterator[tuple[Sandbox, SegmentsClient]]:
    """A client in virtual time whose hour is spent."""
    loop = asyncio.get_running_loop()
    async with Sandbox(clock=lambda: journal_clock() / 1e6, users=["u-1"]) as sandbox:
        options = {"journal": MemoryJournal(clock=journal_clock), "limits": sandbox.limits, "clock": loop.time}
        receiver = CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600)
        async with receiver as callbacks:
            async with client_on(
                sandbox, callbacks=callbacks, publish=publish(sandbox) if publish else sandbox.publish, **options
            ) as client:
                for number in range(client.limits.operations_per_hour):
                    await client.submit(create(users, name=f"s{number}"))
                yield sandbox, client


@pytest.mark.parametrize("is_local", [True, False])
def test_a_file_that_changes_while_its_operation_waits_gives_its_quota_back(users: Path, is_local: bool) -> None:  # noqa: FBT001 - a table
    other = written(users.with_name("other.csv"), GOOD, older_s=60)

    async def story() -> None:
        async with full_hour(users) as (sandbox, client):
            operation = create(other) if is_local else create(url=await sandbox.publish(other))
            waiting = asyncio.ensure_future(client.submit(operation, max_wait_s=7_200, job_id="late"))
            await asyncio.sleep(600)
            written(other, "u-9\n")
            with pytest.raises(PreflightError, match="has changed since it was checked"):
                await waiting
            assert sent(sandbox).count("create") == client.limits.operations_per_hour
            assert client.job("late").state == JobState.NOT_SENT
            assert (await spent(client))[0] == client.limits.operations_per_hour - 1  # as the first one has left

    run_virtually(story, in_memory=True)


def test_a_file_that_stays_as_it_is_goes_when_its_time_has_come(users: Path) -> None:
    async def story() -> None:
        async with full_hour(users) as (sandbox, client):
            await client.submit(create(users), max_wait_s=7_200)
            await client.submit(create(url=await sandbox.publish(users), name="url"), max_wait_s=7_200)
            assert sent(sandbox).count("create") == client.limits.operations_per_hour + 2

    run_virtually(story, in_memory=True)


def test_an_address_that_would_end_too_soon_is_signed_anew(users: Path) -> None:
    """A day or more is left of it when the operation goes, however long that waited."""
    given: list[str] = []

    def publisher(sandbox: Sandbox) -> Any:
        async def publish(path: Path) -> PublishedFile:
            url = f"{await sandbox.publish(path)}?signed={len(given)}"
            given.append(url)
            left_s = 86_300 if path.name == "other.csv" and len(given) == 11 else 86_500
            ends = datetime.now(UTC) + timedelta(seconds=left_s)
            return PublishedFile(url=url, expires_at=ends, key="", sha256="")

        return publish

    async def story() -> None:
        other = written(users.with_name("other.csv"), GOOD)
        async with full_hour(users, publisher) as (sandbox, client):
            await client.submit(create(other), max_wait_s=7_200)
            assert len(given) == 12
            fetched = sandbox.workspace.submissions[-1].ask.file_url
            assert fetched == given[11]

    run_virtually(story, in_memory=True)


# What became of it


@pytest.mark.asyncio
async def test_a_job_tells_what_became_of_its_rows(sandbox: Sandbox, tmp_path: Path, caplog: Any) -> None:
    file = written(tmp_path / "some.csv", "u-1\nu-2\nu-8\n")
    async with client_on(sandbox) as client:
        job = await client.submit(create(file))
        await job.result(timeout=5)
        figures = client.job(job.id).figures
        assert client.job(job.id).operation.name == "diwali"
    assert figures == FileFigures(rows=3, distinct_rows=3, found=3, processed=3, matched=2)
    assert (figures.lost, figures.warnings) == (0, ())
    assert "job " not in caplog.text


@pytest.mark.asyncio
async def test_rows_that_were_lost_on_the_way_are_said_to_be(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "bad.csv", "u-1\nu-2,x\nu-3,y\n")
    async with client_on(sandbox, preflight="warn") as client:
        job = await client.submit(create(file))
        await job.result(timeout=5)
    assert job.figures.lost == 2
    assert "the service could use 1 of 3 different values" in job.figures.warnings[0]
    assert f"job {job.id}: the service could use 1 of 3 different values" in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("op", ["create", "replace"])
async def test_a_segment_left_without_users_is_an_error(sandbox: Sandbox, users: Path, tmp_path: Path, op: str) -> None:
    """Status 201 and nobody in it: the failure that says nothing."""
    nobody = written(tmp_path / "nobody.csv", "x-1\nx-2\n")
    async with client_on(sandbox) as client:
        if op == "replace":
            await (await client.submit(create(users))).result(timeout=5)
        operation = create(nobody) if op == "create" else ReplaceUsers(name="diwali", file=nobody, **FIELDS)
        job = await client.submit(operation)
        with pytest.raises(NoUsersMatched) as caught:
            await job.result(timeout=5)

        assert (caught.value.status, caught.value.values_found, caught.value.values_processed) == (201, 2, 2)
        assert job.state == JobState.PROCESSED
        assert job.figures.matched == 0
        assert (await job.result(raise_on_zero_users=False)).user_count == 0
        with pytest.raises(NoUsersMatched):
            await client.job(job.id).result(timeout=5)


@pytest.mark.asyncio
async def test_whoever_expects_it_may_switch_that_off(sandbox: Sandbox, tmp_path: Path) -> None:
    nobody = written(tmp_path / "nobody.csv", "x-1\nx-2\n")
    async with client_on(sandbox, raise_on_zero_users=False) as client:
        job = await client.submit(create(nobody))
        assert (await job.result(timeout=5)).user_count == 0
        with pytest.raises(NoUsersMatched):
            await job.result(raise_on_zero_users=True)


@pytest.mark.asyncio
async def test_adding_nobody_is_a_warning(sandbox: Sandbox, users: Path, tmp_path: Path, caplog: Any) -> None:
    """The segment keeps its users, so it is no failure by itself."""
    nobody = written(tmp_path / "nobody.csv", "x-1\nx-2\n")
    async with client_on(sandbox) as client:
        await (await client.submit(create(users))).result(timeout=5)
        job = await client.submit(AddUsers(name="diwali", file=nobody, **FIELDS))
        assert (await job.result(timeout=5)).user_count == 0
    assert "none of 2 values are users of the workspace" in caplog.text
    assert logging.getLevelName(caplog.records[-1].levelno) == "WARNING"


@pytest.mark.asyncio
async def test_many_operations_tell_of_segments_without_users(sandbox: Sandbox, tmp_path: Path) -> None:
    nobody = written(tmp_path / "nobody.csv", "x-1\nx-2\n")
    async with client_on(sandbox) as client:
        outcomes = [one async for one in client.submit_many([create(nobody)])]
    assert isinstance(outcomes[0].error, NoUsersMatched)
    assert outcomes[0].job is not None
    assert outcomes[0].job.figures.rows == 2


@pytest.mark.parametrize(
    ("figures", "warning"),
    [
        (FileFigures(rows=10, distinct_rows=10), None),
        (FileFigures(rows=10, distinct_rows=10, found=10, processed=10, matched=10), None),
        (FileFigures(rows=10, distinct_rows=8, found=10, processed=8, matched=8), None),
        (FileFigures(rows=10, distinct_rows=8, found=8, processed=8, matched=8), None),
        (FileFigures(rows=10, distinct_rows=10, found=10, processed=10, matched=5), None),
        (FileFigures(found=10, processed=10, matched=10), None),
        (FileFigures(rows=10, distinct_rows=8, found=7, processed=7, matched=7), "found 7 rows where 8 different ones"),
        (FileFigures(rows=10, distinct_rows=8, found=11, processed=8, matched=8), "it read another file"),
        (FileFigures(rows=10, distinct_rows=8, found=10, processed=7, matched=7), "could use 7 of 8 different values"),
        (FileFigures(found=10, processed=7, matched=7), "could use 7 of 10"),
        (FileFigures(rows=10, distinct_rows=10, found=10, processed=10, matched=4), "only 4 of 10 values are users"),
        (FileFigures(rows=10, distinct_rows=10, found=10, processed=10, matched=0), "none of 10 values are users"),
    ],
)
def test_a_step_that_lost_rows_is_named(figures: FileFigures, warning: str | None) -> None:
    assert len(figures.warnings) == (warning is not None)
    assert warning is None or warning in figures.warnings[0]
