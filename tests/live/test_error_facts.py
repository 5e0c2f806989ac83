"""An error tells the whole truth: the number, the service's words, and what helps; also in another process."""

from __future__ import annotations

import pickle
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from moe_segments import (
    AnswerShapeError,
    ApiError,
    CallbackReceiver,
    Credentials,
    FileProcessingFailed,
    JobState,
    NoUsersMatched,
    OutcomeUnknown,
    QuotaLimits,
    SegmentsClient,
    ServerError,
    attribute,
)
from moe_segments.bulk.manifest import read_manifest
from moe_segments.bulk.run import exit_code_of, run_bulk
from moe_segments.sandbox import FaultKind, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.asyncio

CREDENTIALS = Credentials(workspace_id="W1", api_key="key-of-the-test", data_center="01")
FILE: dict[str, Any] = {
    "name": "diwali",
    "attribute_name": "ID",
    "attribute_type": "string",
    "file_url": "https://files.example.com/d.csv",
    "rows": 3,
}
V2 = b'{"title": "Something broke", "description": "Try again in an hour"}'
V3 = b'{"response_id": "r1", "error": {"code": "Something broke", "message": "Try again in an hour"}}'
WRITES: list[Callable[[SegmentsClient], Awaitable[object]]] = [
    lambda client: client.create_file_segment(**FILE, expiry_time=30),
    lambda client: client.add_users(**FILE),
    lambda client: client.archive_segment(name="diwali"),
    lambda client: client.create_filter_segment(name="diwali", included_filters=attribute("city").is_in("Pune")),
    lambda client: client.update_filter_segment("63a0", included_filters=attribute("city").is_in("Pune")),
]
READS: list[Callable[[SegmentsClient], Awaitable[object]]] = [
    lambda client: client.list_segments(),
    lambda client: client.get_segment("63a0"),
]


@asynccontextmanager
async def answering(
    status: int, body: bytes = b"", content_type: str = "application/json", **headers: str
) -> AsyncIterator[str]:
    """A service that answers everything so."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@asynccontextmanager
async def client_at(url: str, journal: str = "memory:") -> AsyncIterator[SegmentsClient]:
    async with SegmentsClient(
        CREDENTIALS, journal=journal, base_url=url, preflight="off", max_attempts=1, limits=QuotaLimits()
    ) as client:
        yield client


# 5xx


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize(
    ("status", "body", "title", "description"),
    [
        (500, V2, "Something broke", "Try again in an hour"),
        (503, V3, "Something broke", "Try again in an hour"),
        (502, b"<html>no upstream</html>", "Bad Gateway", None),
        (504, b"", "Gateway Timeout", None),
        (599, b"", "Unknown Status", None),
    ],
)
async def test_an_unknown_outcome_has_the_services_words(
    call: Callable[[SegmentsClient], Awaitable[object]], status: int, body: bytes, title: str, description: str | None
) -> None:
    """From the call, and from the journal afterwards."""
    async with answering(status, body) as url, client_at(url) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await call(client)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.status, error.title, error.description) == (status, title, description)
        assert str(status) in str(error)
        assert title in str(error)
        assert description is None or description in str(error)
        assert client.job(error.job_id).state == JobState.UNKNOWN


async def test_an_unknown_outcome_has_the_services_words_in_another_process(tmp_path: Path) -> None:
    """The journal keeps them, and a checkpoint would, too."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with answering(500, V2) as url:
        async with CallbackReceiver().serve() as receiver:
            async with SegmentsClient(
                CREDENTIALS, journal=journal, base_url=url, preflight="off", callbacks=receiver
            ) as client:
                with pytest.raises(OutcomeUnknown) as caught:
                    await client.create_file_segment(**FILE, expiry_time=30)
        async with client_at(url, journal) as client:
            job = client.job(caught.value.job_id)
            with pytest.raises(OutcomeUnknown) as told:
                await job.result(timeout=0)
    assert (told.value.status, told.value.title, told.value.description) == (
        500,
        "Something broke",
        "Try again in an hour",
    )
    assert str(told.value) == str(caught.value)


async def test_an_unknown_outcome_without_an_answer_has_no_words() -> None:
    """Nothing is made up."""
    async with Sandbox() as sandbox:
        sandbox.fail_next(FaultKind.DROP)
        async with SegmentsClient(
            sandbox.credentials, journal="memory:", base_url=sandbox.url, limits=sandbox.limits, preflight="off"
        ) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await client.create_file_segment(**FILE, expiry_time=30)
    assert (caught.value.status, caught.value.title, caught.value.description) == (None, None, None)


async def test_a_line_of_a_run_has_the_services_words(tmp_path: Path) -> None:
    (tmp_path / "bulk.csv").write_text(
        "op,name,attribute_name,attribute_type,file_url,rows\nadd,diwali,ID,string,https://files.example.com/d.csv,3\n"
    )
    async with answering(500, V2) as url, client_at(url) as client:
        report = await run_bulk(client, read_manifest(tmp_path / "bulk.csv"))
        (row,) = report.rows
        assert report.exit_code == 4
    for text in ("500", "Something broke", "Try again in an hour"):
        assert text in (row.error or "")


# An answer that the documents do not describe


@pytest.mark.parametrize("call", WRITES)
async def test_a_success_that_cannot_be_read_is_an_unknown_outcome(
    call: Callable[[SegmentsClient], Awaitable[object]],
) -> None:
    """Whoever handles unknown outcomes handles this one; the job goes on in the journal."""
    async with answering(202, b'{"success": "yes"}') as url, client_at(url) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await call(client)
        error = caught.value
        assert isinstance(error, AnswerShapeError)
        assert (error.status, exit_code_of(error)) == (202, 4)
        assert client.job(error.job_id).state == JobState.UNKNOWN
        for text in (error.job_id, "202", error.problem, "look before you repeat"):
            assert text in str(error)


@pytest.mark.parametrize("call", READS)
async def test_a_read_that_cannot_be_read_asks_nobody_to_look(
    call: Callable[[SegmentsClient], Awaitable[object]],
) -> None:
    """It has no job, and changed nothing."""
    async with answering(200, b'{"data": 5}') as url, client_at(url) as client:
        with pytest.raises(AnswerShapeError) as caught:
            await call(client)
    assert caught.value.job_id == ""
    assert "200" in str(caught.value)
    assert "look before" not in str(caught.value)


# Redirects and other numbers


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 399])
@pytest.mark.parametrize("call", [WRITES[0], WRITES[3], *READS])
async def test_a_redirect_shows_its_number_and_where_to(
    call: Callable[[SegmentsClient], Awaitable[object]], status: int
) -> None:
    """It is not followed, and what helps is another address; its path and query may be secret."""
    location = "https://user:pw@elsewhere.example.com:8443/login?token=hush"
    async with answering(status, Location=location) as url, client_at(url) as client:
        with pytest.raises(ApiError) as caught:
            await call(client)
    assert caught.value.status == status
    assert f"HTTP {status} " in str(caught.value)
    assert "https://elsewhere.example.com:8443" in str(caught.value)
    assert "base_url" in str(caught.value)
    assert not {"hush", "pw", "login"} & set(str(caught.value).replace("?", " ").replace("/", " ").split())
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("location", ["", "/v2/elsewhere", "http://[", "http://host:port/", "ftp:"])
async def test_a_redirect_to_nowhere_is_no_other_error(location: str) -> None:
    async with answering(308, Location=location) as url, client_at(url) as client:
        with pytest.raises(ApiError, match="HTTP 308 Permanent Redirect"):
            await client.list_segments()


@pytest.mark.parametrize("call", READS)
async def test_a_read_that_gets_no_answer_shows_no_number(call: Callable[[SegmentsClient], Awaitable[object]]) -> None:
    async with Sandbox() as sandbox:
        sandbox.fail_next(FaultKind.DROP)
        async with SegmentsClient(
            sandbox.credentials, journal="memory:", base_url=sandbox.url, max_attempts=1, limits=sandbox.limits
        ) as client:
            with pytest.raises(ServerError, match=r"^no answer: "):
                await call(client)


# Processing


async def test_a_failed_file_names_its_segment_and_database(tmp_path: Path) -> None:
    """Several workspaces' results meet in one handler; after a pickle, too."""
    (tmp_path / "users.csv").write_text("u-1\n")
    async with Sandbox(speed=3_600, processing_s=(0, 0), users=()) as sandbox, CallbackReceiver().serve() as receiver:
        async with SegmentsClient(
            sandbox.credentials,
            journal="memory:",
            base_url=sandbox.url,
            limits=sandbox.limits,
            callbacks=receiver,
            publish=sandbox.publish,
        ) as client:
            file: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "file": tmp_path / "users.csv"}
            sandbox.fail_next(FaultKind.FAIL_PROCESSING)
            job = await client.create_file_segment(name="diwali", expiry_time=30, **file)
            with pytest.raises(FileProcessingFailed) as failed:
                await job.result(timeout=5)
            job = await client.create_file_segment(name="holi", expiry_time=30, **file)
            with pytest.raises(NoUsersMatched) as nobody:
                await job.result(timeout=5)
    for caught, name in ((failed, "diwali"), (nobody, "holi")):
        error = pickle.loads(pickle.dumps(caught.value))
        assert error.segment_name == name
        assert error.db_name
        assert name in str(error)
