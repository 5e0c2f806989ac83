"""The sandbox over real sockets: each documented call, its errors, its quotas, its callbacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from moe_segments.limits import FILE_CONTENT_TYPES, QuotaLimits
from moe_segments.models import Credentials
from moe_segments.sandbox import Dialect, Sandbox
from tests.live.sandbox_world import T0, Answer, Clock, hook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

V2, V3 = "/v2/custom-segments", "/v3/custom-segments"
CREATE, ADD = f"{V2}/file-segment", f"{V2}/file-segment/add-users"
UPDATES = {"add": ADD, "remove": f"{V2}/file-segment/remove-users", "replace": f"{V2}/file-segment/replace"}


class Caller:
    """A client that signs in and does nothing else."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def __call__(
        self,
        sandbox: Sandbox,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request."""
        workspace_id = sandbox.credentials.workspace_id
        signed = aiohttp.encode_basic_auth(workspace_id, key or sandbox.credentials.api_key)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "Authorization": signed,
            "MOE-APPKEY": workspace_id,
            "Content-Type": "application/json",
            **(headers or {}),
        }
        async with self._session.request(method, sandbox.url + path, data=data, headers=sent) as response:
            received = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, received, await response.text())


class Receiver:
    """Takes callbacks; answers with the statuses it was given, then with 200."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.bodies: list[dict[str, object]] = []

    async def take(self, request: web.Request) -> web.Response:
        """Keep one callback."""
        self.bodies.append(await request.json())
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest_asyncio.fixture
async def call() -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(session)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with hook(receiver.take) as receiver.url:
        yield receiver


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(processing_s=(0, 0), clock=Clock()) as sandbox:
        yield sandbox


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    path.write_text("u1\nu2\n\nu3\nu3\n")
    return path


def body(name: str = "diwali", **fields: object) -> dict[str, object]:
    return {
        "name": name,
        "attribute_name": "ID",
        "attribute_type": "string",
        "file_url": "http://127.0.0.1:1/none.csv",
        "expiry_time": 30,
        **fields,
    }


@pytest.mark.asyncio
async def test_a_created_segment_is_told_about_and_filled(call: Caller, receiver: Receiver, users: Path) -> None:
    """202 with its identifier, then a callback: found, usable, known."""
    async with Sandbox(users=["u1", "u9"], processing_s=(0, 0)) as sandbox:
        url = await sandbox.publish(users)
        answer = await call(sandbox, "POST", CREATE, body(file_url=url, callback_url=receiver.url))
        await sandbox.idle()
        segment = sandbox.workspace.find("diwali")

    assert segment is not None
    assert answer.status == 202
    assert set(answer.json) == {"message", "success", "cs_name", "cs_id"}
    assert (answer.json["success"], answer.json["cs_name"], answer.json["cs_id"]) == (
        True,
        "diwali",
        segment.id,
    )
    assert receiver.bodies == [
        {
            "db_name": "sandbox",
            "segment_name": "diwali",
            "request_id": sandbox.workspace.submissions[0].request_id,
            "status": 201,
            "values_found": 4,
            "values_processed": 3,
            "user_count": 1,
        }
    ]
    assert segment.members == {"u1"}


@pytest.mark.asyncio
async def test_updates_change_the_members_in_the_order_of_acceptance(
    call: Caller, receiver: Receiver, tmp_path: Path
) -> None:
    """Files of one segment queue behind each other, however long the first one takes."""
    async with Sandbox(processing_s=(0, 0.05), seed=3) as sandbox:
        for op, values in (("create", "a\nb"), ("add", "c"), ("remove", "a"), ("replace", "z"), ("add", "y")):
            path = tmp_path / f"{op}{values[0]}.csv"
            path.write_text(values)
            fields = body(file_url=await sandbox.publish(path), callback_url=receiver.url)
            method, route = ("POST", CREATE) if op == "create" else ("PUT", UPDATES[op])
            answer = await call(sandbox, method, route, fields)
            assert answer.status == 202
        await sandbox.idle()

    finished = [each.finished_at for each in sandbox.workspace.submissions]
    segment = sandbox.workspace.find("diwali")
    assert segment is not None
    assert segment.members == {"z", "y"}
    assert finished == sorted(at for at in finished if at is not None)
    assert len(receiver.bodies) == 5


@pytest.mark.asyncio
async def test_archive_unarchive_list_and_get(call: Caller, sandbox: Sandbox) -> None:
    """The lifecycle answers 202 and the segment shows in lists by its exact name."""
    cs_id = (await call(sandbox, "POST", CREATE, body())).json["cs_id"]
    await call(sandbox, "POST", CREATE, body("other"))

    archived = await call(sandbox, "PATCH", f"{V2}/archive", {"name": "diwali", "cs_id": cs_id})
    active_then = sandbox.workspace.usage()["active_segments"]
    unarchived = await call(sandbox, "PATCH", f"{V2}/unarchive", {"name": "diwali"})
    everything = await call(sandbox, "GET", V3)
    by_name = await call(sandbox, "GET", f"{V3}?name=diwali")
    by_id = await call(sandbox, "GET", f"{V3}/{cs_id}")

    assert (archived.status, unarchived.status, active_then) == (202, 202, 1)
    assert archived.json["cs_id"] == cs_id
    data = everything.json["data"]
    assert isinstance(data, list)
    assert [each["name"] for each in data] == ["diwali", "other"]
    assert by_name.json["data"] == by_id.json["data"] == data[:1]
    assert data[0]["created_time"] == "2023-11-14T22:13:20.000000"


@pytest.mark.parametrize(
    ("dialect", "answers", "kind_of_get"),
    [
        (Dialect.V2_202, [(202, True), (202, True), (202, True)], list),
        (Dialect.V2_202_NO_ID, [(202, False), (202, False), (202, False)], list),
        (Dialect.V2_200, [(200, None), (202, True), (202, True)], list),
        (Dialect.V2_ARCHIVE_200, [(202, True), (202, True), (200, False)], list),
        (Dialect.V3_OBJECT, [(202, True), (202, True), (202, True)], dict),
    ],
)
@pytest.mark.asyncio
async def test_every_dialect_of_the_documents_can_be_spoken(
    call: Caller,
    dialect: Dialect,
    answers: list[tuple[int, bool | None]],
    kind_of_get: type,
) -> None:
    """Create, add, archive: the status, and whether the identifier is there; None is no body at all."""
    async with Sandbox(dialect=dialect) as sandbox:
        seen = [
            await call(sandbox, "POST", CREATE, body()),
            await call(sandbox, "PUT", ADD, body()),
            await call(sandbox, "PATCH", f"{V2}/archive", {"name": "diwali"}),
        ]
        got = await call(sandbox, "GET", f"{V3}/{sandbox.workspace.segments[0].id}")

    assert [(each.status, "cs_id" in each.json if each.text else None) for each in seen] == answers
    assert isinstance(got.json["data"], kind_of_get)


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"name": " "},
        {"name": "a|b"},
        {"name": "All Users"},
        {"attribute_name": ""},
        {"attribute_type": "int"},
        {"file_url": "ftp://127.0.0.1/x"},
        {"file_url": "http://"},
        {"file_url": "http://[::1"},
        {"file_url": "http://127.0.0.1:99999/"},
        {"callback_url": 3},
        {"callback_url": "hook"},
        {"emails": "a@b.cc"},
        {"emails": ["nobody"]},
        {"expiry_time": "30"},
        {"expiry_time": 0},
        {"expiry_time": True},
        {"cs_id": 3},
    ],
)
@pytest.mark.asyncio
async def test_a_malformed_field_is_a_400_that_names_it(
    call: Caller, sandbox: Sandbox, change: dict[str, object]
) -> None:
    """And spends nothing."""
    answer = await call(sandbox, "POST", CREATE, body() | change)

    assert answer.status == 400
    assert set(answer.json) == {"title", "description"}
    assert str(answer.json["description"]).startswith(next(iter(change)))
    assert sandbox.workspace.counted == ()


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b'{"name": NaN}', b"\xff", b"[" * 100_000, b'{"name":"' + b"x" * 300_000 + b'"}'],
)
@pytest.mark.asyncio
async def test_a_body_that_is_no_json_object_is_a_400(call: Caller, sandbox: Sandbox, raw: bytes) -> None:
    """Whatever it is, the sandbox stands."""
    for method, path in (("POST", CREATE), ("PUT", ADD), ("PATCH", f"{V2}/archive")):
        assert (await call(sandbox, method, path, raw)).status == 400


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", *FILE_CONTENT_TYPES])
@pytest.mark.asyncio
async def test_every_documented_content_type_is_taken(call: Caller, sandbox: Sandbox, content_type: str) -> None:
    """The create page lists the types of a file as those of the request."""
    headers = {"Content-Type": content_type}

    assert (await call(sandbox, "POST", CREATE, body(), headers=headers)).status == 202


@pytest.mark.asyncio
async def test_the_documented_errors_come_in_their_shapes(call: Caller, sandbox: Sandbox) -> None:
    """401, 404, 409 and the v3 errors; none of them spends an operation by default."""
    await call(sandbox, "POST", CREATE, body())
    v2 = [
        await call(sandbox, "POST", CREATE, body(), key="wrong"),
        await call(sandbox, "POST", CREATE, body()),
        await call(sandbox, "PUT", ADD, body("none")),
        await call(sandbox, "PATCH", f"{V2}/archive", {"name": "none"}),
        await call(sandbox, "PATCH", f"{V2}/unarchive", {"name": "none"}, key="wrong"),
        await call(sandbox, "POST", CREATE, body(), headers={"Content-Type": "application/xml"}),
        await call(sandbox, "GET", CREATE),
    ]
    v3 = [
        await call(sandbox, "GET", V3, key="wrong"),
        await call(sandbox, "GET", V3, headers={"MOE-APPKEY": "other"}),
    ]

    assert [each.status for each in v2] == [401, 409, 404, 404, 401, 400, 405]
    assert all(set(each.json) == {"title", "description"} for each in v2)
    assert [each.status for each in v3] == [401, 400]
    assert all(set(each.json) == {"error", "response_id", "type"} for each in v3)
    assert len(sandbox.workspace.counted) == 1


@pytest.mark.asyncio
async def test_the_eleventh_operation_is_a_429_until_the_hour_has_passed(call: Caller) -> None:
    """The window is measured on the injected clock; headers tell when, if asked for."""
    clock = Clock()
    async with Sandbox(clock=clock, retry_headers=True) as sandbox:
        first = [(await call(sandbox, "POST", CREATE, body(f"s{n}"))).status for n in range(10)]
        refused = await call(sandbox, "PUT", ADD, body("s1"))
        clock.now += 3_600
        after = await call(sandbox, "PUT", ADD, body("s1"))

    assert first == [202] * 10
    assert (refused.status, after.status) == (429, 202)
    assert set(refused.json) == {"title", "description"}
    assert refused.headers["retry-after"] == "3600"
    assert refused.headers["x-ratelimit-reset"] == str(int(T0 + 3_600))
    assert sandbox.workspace.rejections == 1
    assert [each.limit for each in sandbox.workspace.requests if each.status == 429] == ["operations_per_hour"]


@pytest.mark.asyncio
async def test_the_other_quotas_answer_429_too(call: Caller) -> None:
    """The day, the active segments and the lists, and without headers unless asked for."""
    limits = QuotaLimits(operations_per_day=3, active_segments=2, external_active_margin=0)
    async with Sandbox(clock=Clock(), limits=limits) as sandbox:
        statuses = [(await call(sandbox, "POST", CREATE, body(name))).status for name in "abc"]
        await call(sandbox, "PATCH", f"{V2}/archive", {"name": "a"})
        statuses.append((await call(sandbox, "POST", CREATE, body("c"))).status)
        unarchived = await call(sandbox, "PATCH", f"{V2}/unarchive", {"name": "a"})
        day = await call(sandbox, "PUT", ADD, body("b"))
        lists = [await call(sandbox, "GET", V3) for _ in range(51)]

    assert statuses == [202, 202, 429, 202]
    assert (unarchived.status, day.status) == (429, 429)
    assert "retry-after" not in day.headers
    assert [each.status for each in lists] == [200] * 50 + [429]
    assert [each.limit for each in sandbox.workspace.requests if each.limit] == [
        "active_segments",
        "active_segments",
        "operations_per_day",
        "list_per_minute",
    ]


@pytest.mark.asyncio
async def test_rejected_requests_spend_when_the_sandbox_is_told_so(call: Caller) -> None:
    """The strict reading of what the documents leave open."""
    async with Sandbox(clock=Clock(), count_rejected=True) as sandbox:
        await call(sandbox, "POST", CREATE, body(), key="wrong")
        await call(sandbox, "POST", CREATE, {"name": "only"})
        await call(sandbox, "PUT", ADD, body("none"))
        usage = sandbox.workspace.usage()

    assert usage["operations_per_hour"] == 3
    assert [each.counted for each in sandbox.workspace.requests] == [True] * 3


@pytest.mark.asyncio
async def test_speed_makes_the_windows_shorter(call: Caller) -> None:
    """At 3600 times the speed, an hour is a second; the client takes its limits from the sandbox."""
    clock = Clock()
    async with Sandbox(speed=3_600, clock=clock) as sandbox:
        answers = [await call(sandbox, "POST", CREATE, body(f"s{n}")) for n in range(11)]
        clock.now += 1
        after = await call(sandbox, "POST", CREATE, body("after"))

    assert [each.status for each in (*answers, after)] == [202] * 10 + [429, 202]
    assert (sandbox.limits.hour_s, sandbox.limits.scale) == (1, 3_600)


@pytest.mark.asyncio
async def test_users_beyond_the_day_are_felt_by_the_callback(call: Caller, receiver: Receiver, users: Path) -> None:
    """The operation is a 202; the file then fails with 400 and zero users."""
    async with Sandbox(limits=QuotaLimits(users_per_day=3), processing_s=(0, 0)) as sandbox:
        fields = body(file_url=await sandbox.publish(users), callback_url=receiver.url)
        answer = await call(sandbox, "POST", CREATE, fields, headers={"MOE-DBNAME": "db9"})
        await sandbox.idle()

    assert answer.status == 202
    assert (receiver.bodies[0]["status"], receiver.bodies[0]["db_name"]) == (400, "db9")
    assert set(receiver.bodies[0]) == {"db_name", "segment_name", "request_id", "status", "error_message"}


@pytest.mark.asyncio
async def test_a_callback_is_repeated_until_it_is_acknowledged(call: Caller, receiver: Receiver, users: Path) -> None:
    """Only 200 acknowledges; after five tries the sandbox gives up."""
    receiver.statuses = [500, 204, 302]
    async with Sandbox(processing_s=(0, 0), callback_pauses_s=(0.001,) * 4) as sandbox:
        fields = body(file_url=await sandbox.publish(users), callback_url=receiver.url)
        await call(sandbox, "POST", CREATE, fields)
        await sandbox.idle()
        receiver.statuses = [503] * 9
        await call(sandbox, "PUT", ADD, fields)
        await sandbox.idle()

    assert [each.status for each in sandbox.workspace.deliveries] == [500, 204, 302, 200] + [503] * 5
    assert [each.attempt for each in sandbox.workspace.deliveries] == [1, 2, 3, 4, 1, 2, 3, 4, 5]
    assert len({json.dumps(each) for each in receiver.bodies}) == 2


@pytest.mark.asyncio
async def test_other_credentials_and_another_loopback_address(call: Caller) -> None:
    """The address is free to choose within loopback, the key altogether."""
    credentials = Credentials(workspace_id="W1", api_key="mine", data_center="03", db_name="db")
    async with Sandbox(credentials=credentials, host="127.0.0.2") as sandbox:
        assert sandbox.url.startswith("http://127.0.0.2:")
        assert (await call(sandbox, "POST", CREATE, body())).status == 202
        assert (await call(sandbox, "POST", CREATE, body(), key="other")).status == 401


@pytest.mark.asyncio
async def test_what_is_not_documented_is_not_found(call: Caller, sandbox: Sandbox) -> None:
    """A wrong path is a 404 and a wrong method a 405, never a success."""
    assert (await call(sandbox, "GET", f"{V2}/none")).status == 404
    assert (await call(sandbox, "POST", f"{V3}/x/y")).status == 405
    assert (await call(sandbox, "GET", "/none")).status == 404
