"""Every documented answer of every operation, over a real socket, through the whole client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from moe_segments import (
    AuthenticationFailed,
    BadRequest,
    Conflict,
    Credentials,
    Forbidden,
    JobState,
    MoeSegmentsError,
    NotFound,
    OutcomeUnknown,
    QuotaLimits,
    Segment,
    SegmentsClient,
    ServerError,
    TooManyRequests,
    attribute,
)
from moe_segments.client.client import replica_of
from tests.documented import CALLBACK_STATUSES, OPERATIONS, PAIRS, SAMPLES, samples_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

READS: Final = ("list", "get")
FILTERS: Final = ("create_filter", "update_filter")
FILE: Final[dict[str, Any]] = {
    "name": "winter_sale",
    "attribute_name": "ID",
    "attribute_type": "string",
    "file_url": "https://files.example.com/w.csv",
    "rows": 3,
}
CS_ID: Final = "64f0c1d2e3a4b5c6d7e8f901"
IN_PUNE: Final = attribute("city").is_in("Pune")
CALLS: Final[dict[str, Callable[[SegmentsClient], Awaitable[object]]]] = {
    "create": lambda client: client.create_file_segment(**FILE, expiry_time=30),
    "add": lambda client: client.add_users(**FILE),
    "remove": lambda client: client.remove_users(**FILE),
    "replace": lambda client: client.replace_users(**FILE),
    "archive": lambda client: client.archive_segment(name="winter_sale"),
    "unarchive": lambda client: client.unarchive_segment(name="winter_sale"),
    "list": lambda client: client.list_segments(),
    "create_filter": lambda client: client.create_filter_segment(name="winter_buyers", included_filters=IN_PUNE),
    "get": lambda client: client.get_segment(CS_ID),
    "update_filter": lambda client: client.update_filter_segment(CS_ID, included_filters=IN_PUNE),
}
ERRORS: Final[dict[int, type[MoeSegmentsError]]] = {
    400: BadRequest,
    401: AuthenticationFailed,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: BadRequest,
    413: BadRequest,
    429: TooManyRequests,
}
EVERY: Final = [(op, status, path) for op, status in PAIRS for path in samples_of(op, status)]


@pytest.mark.parametrize(("op", "status"), PAIRS)
def test_every_documented_pair_has_a_sample(op: str, status: int) -> None:
    """All of them: an answer nobody wrote down is an answer nobody has read."""
    assert samples_of(op, status)


@pytest.mark.parametrize("status", CALLBACK_STATUSES)
def test_every_documented_callback_has_a_sample(status: int) -> None:
    """Read in `tests/pure/test_wire.py`."""
    assert samples_of("callback", status)


def test_every_operation_is_called_here() -> None:
    """And nothing else."""
    assert set(CALLS) == {each.op for each in OPERATIONS}


async def answering(status: int, body: bytes) -> AsyncIterator[SegmentsClient]:
    """A client of a service that answers everything so."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with (
        TestServer(app) as server,
        SegmentsClient(
            Credentials(workspace_id="W1", api_key="k", data_center="01"),
            journal="memory:",
            base_url=str(server.make_url("/")),
            limits=QuotaLimits(count_late_s=0),
            max_attempts=1,
            preflight="off",
        ) as client,
    ):
        yield client


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("op", "status", "path"), [pytest.param(*each, id=str(each[2].relative_to(SAMPLES))) for each in EVERY]
)
async def test_every_documented_answer_is_what_it_says(op: str, status: int, path: Path) -> None:
    """A success is read, a refusal has the class of its status, and what proves nothing is unknown."""
    async for client in answering(status, path.read_bytes()):  # noqa: ASYNC240 - a small file
        try:
            answered = await CALLS[op](client)
        except MoeSegmentsError as error:
            check_refusal(client, op, status, path, error)
            return
        assert status < 300
        check_success(client, op, answered)


def check_success(client: SegmentsClient, op: str, answered: object) -> None:
    """What it says is there, and the journal agrees."""
    if op == "list":
        assert isinstance(answered, tuple)
        assert all(isinstance(segment, Segment) for segment in answered)
    elif op == "get":
        assert isinstance(answered, Segment)
        assert answered.id == CS_ID
    else:
        (record,) = replica_of(client).state.jobs.records.values()
        assert record.state == JobState.ACCEPTED
        assert record.accepted is not None
        assert isinstance(answered, Segment) == (op in FILTERS)


def check_refusal(client: SegmentsClient, op: str, status: int, path: Path, error: MoeSegmentsError) -> None:
    """The class by the status; the facts by the body."""
    if op == "get" and path.stem == "200-none":
        assert isinstance(error, NotFound)
    elif op in READS:
        assert type(error) is (ServerError if status >= 500 else ERRORS[status])
    elif status >= 500:
        assert isinstance(error, OutcomeUnknown)
        assert client.job(error.job_id).state == JobState.UNKNOWN
    else:
        assert type(error) is ERRORS[status]
        (record,) = replica_of(client).state.jobs.records.values()
        assert (record.state, record.status) == (JobState.REFUSED, status)
    if isinstance(error, Conflict) and op in FILTERS and path.stem == "409":
        assert (error.existing_cs_name, error.existing_cs_id) == ("autumn_sale", "64f0c1d2e3a4b5c6d7e8f903")
    if isinstance(error, TooManyRequests) and path.stem == "429-segments":
        assert (error.actual_count, error.allowed_count) == (1001, 1000)
