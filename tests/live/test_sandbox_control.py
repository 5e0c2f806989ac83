"""The sandbox's control API: state, faults, time, reset; and who may not use it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
import pytest
import pytest_asyncio

from moe_segments.errors import InputError
from moe_segments.limits import DAY_S
from moe_segments.sandbox import FaultKind, Faults, Sandbox
from tests.live.sandbox_world import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Json: TypeAlias = "dict[str, object]"
CREATE: Final = "/v2/custom-segments/file-segment"
JSON_TYPE: Final = {"Content-Type": "application/json"}


class Steersman:
    """Asks one sandbox without credentials."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self._sandbox, self._session = sandbox, session

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Look."""
        return await self._ask("GET", path, None, headers or {})

    async def post(self, path: str, fields: object, headers: dict[str, str] | None = None) -> Answer:
        """Steer."""
        data = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return await self._ask("POST", path, data, JSON_TYPE | (headers or {}))

    async def create(self, name: str, *, file_url: str = "http://127.0.0.1:1/none.csv") -> int:
        """A signed create."""
        credentials = self._sandbox.credentials
        signed = aiohttp.encode_basic_auth(credentials.workspace_id, credentials.api_key)
        fields = {"name": name, "attribute_name": "ID", "attribute_type": "string", "file_url": file_url}
        body = json.dumps({**fields, "expiry_time": 30}).encode()
        return (await self._ask("POST", CREATE, body, {"Authorization": signed, **JSON_TYPE})).status

    async def _ask(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        async with self._session.request(method, self._sandbox.url + path, data=data, headers=headers) as response:
            lowered = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, lowered, await response.text())


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(processing_s=(0, 0), download_pauses_s=(), faults=Faults(slow_s=(0, 0))) as sandbox:
        yield sandbox


@pytest.fixture
def ask(sandbox: Sandbox, session: aiohttp.ClientSession) -> Steersman:
    return Steersman(sandbox, session)


def rows(answer: Answer, name: str) -> list[Json]:
    value = answer.json[name]
    assert isinstance(value, list)
    return value


@pytest.mark.asyncio
async def test_the_state_tells_what_was_asked_and_what_became_of_it(
    ask: Steersman, sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    """Quotas, segments, operations, requests and faults, newest first, as many as asked for."""
    for name in ("one", "two"):
        await ask.create(name)
    await ask.create("two")
    await sandbox.idle()
    state, last = await ask.get("/_sandbox/state"), await ask.get("/_sandbox/state?last=1")
    hour = rows(state, "quotas")[0]

    assert [each["name"] for each in rows(state, "segments")] == ["two", "one"]
    assert [each["state"] for each in rows(state, "operations")] == ["failed", "failed"]
    assert [each["status"] for each in rows(state, "requests")] == [409, 202, 202]
    assert (hour["limit"], hour["used"], hour["capacity"]) == ("operations_per_hour", 2, 10)
    assert 3_590 < hour["next_release_s"] <= 3_600  # type: ignore[operator]
    assert len(rows(state, "faults")) == len(FaultKind)
    assert [each["name"] for each in rows(last, "segments")] == ["two"]
    assert state.json["totals"] == last.json["totals"]


@pytest.mark.asyncio
async def test_the_state_holds_nothing_secret(ask: Steersman, sandbox: Sandbox) -> None:
    """Neither the key nor the address of a file, which may be signed."""
    await ask.create("one", file_url="http://127.0.0.1:1/f.csv?signature=SECRET")
    await sandbox.idle()
    told = (await ask.get("/_sandbox/state")).text + (await ask.get("/")).text

    assert "one" in told
    assert not [secret for secret in ("SECRET", sandbox.credentials.api_key) if secret in told]


@pytest.mark.asyncio
async def test_faults_are_switched_on_and_off_and_queued(ask: Steersman, sandbox: Sandbox) -> None:
    """A kind that needs the room of others in its group takes it; those of the other group stay."""
    await ask.post("/_sandbox/faults", {"kind": "lose_callback", "probability": 0.5})
    await ask.post("/_sandbox/faults", {"kind": "slow", "probability": 0.4})
    both = await ask.post("/_sandbox/faults", {"kind": "drop", "probability": 0.4})
    alone = await ask.post("/_sandbox/faults", {"kind": "server_error", "probability": 1})
    failed = await ask.create("a")
    off = await ask.post("/_sandbox/faults", {"kind": "server_error", "probability": 0})
    queued = await ask.post("/_sandbox/faults", {"kind": "platform_error", "times": 2, "status": 403})
    platform = [await ask.create("b") for _ in range(3)]

    def likely(answer: Answer) -> Json:
        return {str(each["kind"]): each["probability"] for each in rows(answer, "faults") if each["probability"]}

    assert likely(both) == {"slow": 0.4, "drop": 0.4, "lose_callback": 0.5}
    assert likely(alone) == {"server_error": 1, "lose_callback": 0.5}
    assert likely(off) == {"lose_callback": 0.5} == likely(await ask.get("/_sandbox/faults"))
    assert failed >= 500
    assert [each["queued"] for each in rows(queued, "faults") if each["kind"] == "platform_error"] == [2]
    assert platform == [403, 403, 202]
    assert sandbox.faults.lose_callback == 0.5


@pytest.mark.asyncio
async def test_time_is_moved_forward(ask: Steersman, sandbox: Sandbox) -> None:
    """Windows empty and segments age as if the time had passed."""
    filled = [await ask.create(f"s{n}") for n in range(11)]
    before = (await ask.get("/_sandbox/time")).json
    after = (await ask.post("/_sandbox/time", {"advance_s": 3_600})).json
    again = await ask.create("s11")
    await ask.post("/_sandbox/time", {"advance_s": 30 * DAY_S})

    assert filled == [202] * 10 + [429]
    assert (before["ahead_s"], after["ahead_s"], again) == (0, 3_600, 202)
    assert (before["is_settable"], before["speed"]) == (True, 1)
    assert sandbox.workspace.usage()["active_segments"] == 0


@pytest.mark.asyncio
async def test_a_clock_of_the_caller_s_own_is_not_moved(session: aiohttp.ClientSession) -> None:
    """It belongs to the test that brought it."""
    async with Sandbox(clock=lambda: 1_700_000_000.0) as sandbox:
        ask = Steersman(sandbox, session)
        told, refused = await ask.get("/_sandbox/time"), await ask.post("/_sandbox/time", {"advance_s": 1})
        with pytest.raises(InputError, match="your own"):
            sandbox.advance(1)

    assert (told.json["is_settable"], told.json["now"]) == (False, "2023-11-14T22:13:20.000Z")
    assert (refused.status, "clock" in str(refused.json["error"])) == (400, True)


@pytest.mark.asyncio
async def test_a_reset_forgets_everything(session: aiohttp.ClientSession) -> None:
    """Segments, counts, records, files that wait and answers that wait for them; faults are those of the start."""
    async with Sandbox(processing_s=(60, 60), faults=Faults(slow=0.25, slow_s=(0, 0))) as sandbox:
        ask = Steersman(sandbox, session)
        sandbox.fail_next(FaultKind.EARLY_CALLBACK)
        waiting = asyncio.create_task(ask.create("a"))
        while not sandbox.workspace.submissions:
            await asyncio.sleep(0.01)
        await ask.post("/_sandbox/faults", {"kind": "drop", "probability": 1})
        sandbox.fail_next(FaultKind.LOSE_CALLBACK)
        state = await ask.post("/_sandbox/reset", {})
        answered = await waiting
        await sandbox.idle()
        again = await ask.create("a")

    assert answered == 202
    assert [rows(state, name) for name in ("segments", "operations", "requests", "callbacks")] == [[]] * 4
    assert {each["used"] for each in rows(state, "quotas")} == {0}
    assert {each["kind"]: each["probability"] for each in rows(state, "faults") if each["probability"]} == {
        "slow": 0.25
    }
    assert {each["queued"] for each in rows(state, "faults")} == {0}
    assert again == 202


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("faults", {}),
        ("faults", {"kind": "none", "times": 1}),
        ("faults", {"kind": ["drop"], "times": 1}),
        ("faults", {"kind": "drop"}),
        ("faults", {"kind": "drop", "times": 1, "probability": 1}),
        ("faults", {"kind": "drop", "times": 0}),
        ("faults", {"kind": "drop", "times": 1_001}),
        ("faults", {"kind": "drop", "times": "1"}),
        ("faults", {"kind": "drop", "times": 1, "status": 500}),
        ("faults", {"kind": "server_error", "times": 1, "status": 418}),
        ("faults", {"kind": "server_error", "times": 1, "status": [500]}),
        ("faults", {"kind": "drop", "probability": 1.5}),
        ("faults", {"kind": "drop", "probability": True}),
        ("faults", {"kind": "drop", "probability": "1"}),
        ("time", {}),
        ("time", {"advance_s": -1}),
        ("time", {"advance_s": "1"}),
        ("time", {"advance_s": 1e12}),
        ("time", b'{"advance_s": NaN}'),
        ("time", b"{"),
        ("time", b'{"x":"' + b"x" * 300_000 + b'"}'),
        ("reset", b"[]"),
    ],
)
@pytest.mark.asyncio
async def test_what_makes_no_sense_is_a_400_and_changes_nothing(
    ask: Steersman, sandbox: Sandbox, path: str, fields: object
) -> None:
    """With a sentence that says what is wrong."""
    answer = await ask.post(f"/_sandbox/{path}", fields)

    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert sandbox.faults == Faults(slow_s=(0, 0))
    assert (sandbox.queued_faults, sandbox.ahead_s) == ({}, 0)
    for last in ("x", "-1", "1000000", "0" * 5_000):
        assert (await ask.get(f"/_sandbox/state?last={last}")).status == 400
    assert (await ask.get("/_sandbox/faults/none")).status == 404


FOREIGN: Final = [
    {"Origin": "https://example.com"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Host": "rebound.example.com"},
    {"Host": "127.0.0.1.example.com:80"},
    {"Host": "10.0.0.1"},
    {"Host": ""},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=[":".join(*each.items()) for each in FOREIGN])
@pytest.mark.parametrize("path", ["faults", "time", "reset"])
@pytest.mark.asyncio
async def test_a_page_of_another_origin_changes_nothing(
    ask: Steersman, sandbox: Sandbox, path: str, headers: dict[str, str]
) -> None:
    """Whatever a browser can be made to send across origins is refused before it is read."""
    await ask.create("kept")
    answer = await ask.post(f"/_sandbox/{path}", {"kind": "drop", "probability": 1, "advance_s": 60}, headers)

    assert answer.status in {403, 415}
    assert "access-control-allow-origin" not in answer.headers
    assert sandbox.faults.drop == 0
    assert sandbox.ahead_s == 0
    assert [each.name for each in sandbox.workspace.segments] == ["kept"]


@pytest.mark.asyncio
async def test_the_page_s_own_script_and_tools_without_a_page_may_steer(ask: Steersman, sandbox: Sandbox) -> None:
    """The same origin, as the browser says it, under any name of loopback."""
    port = sandbox.url.rpartition(":")[2]
    statuses = [
        (await ask.post("/_sandbox/time", {"advance_s": 1}, headers)).status
        for headers in (
            {},
            {"Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"},
            {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
            {"Host": f"[::1]:{port}", "Origin": f"http://[::1]:{port}"},
            {"Sec-Fetch-Site": "none"},
        )
    ]

    assert statuses == [200] * 5


@pytest.mark.asyncio
async def test_a_name_that_was_made_to_point_here_reads_nothing(ask: Steersman) -> None:
    """DNS rebinding makes another origin's page one of the same origin; the Host it sends betrays it."""
    for path in ("/", "/_sandbox/state", "/_sandbox/events", "/openapi.json"):
        answer = await ask.get(path, {"Host": "rebound.example.com"})
        assert (answer.status, set(answer.json)) == (403, {"error"})


@pytest.mark.asyncio
async def test_a_page_of_another_origin_does_not_hold_streams_open(ask: Steersman) -> None:
    """There are only so many of them."""
    assert (await ask.get("/_sandbox/events", {"Sec-Fetch-Site": "cross-site"})).status == 403


@pytest.mark.asyncio
async def test_another_method_is_a_405_and_a_preflight_is_not_answered(
    sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    """A browser that asks whether it may, hears nothing."""
    for method, path in (("OPTIONS", "faults"), ("PUT", "time"), ("GET", "reset"), ("DELETE", "state")):
        async with session.request(method, f"{sandbox.url}/_sandbox/{path}") as response:
            assert response.status == 405
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.asyncio
async def test_an_open_page_is_sent_what_changed_and_nothing_else(
    ask: Steersman, sandbox: Sandbox, session: aiohttp.ClientSession
) -> None:
    """Server-sent events: all sections first, then those that changed."""
    async with session.get(f"{sandbox.url}/_sandbox/events") as stream:
        assert stream.content_type == "text/event-stream"
        first = await _event(stream)
        await ask.create("fresh")
        while "segments" not in (changed := await _event(stream)):
            pass

    assert set(first) == {
        *("clock", "totals", "controls", "quotas", "faults"),
        *("segments", "operations", "callbacks", "requests"),
    }
    assert "fresh" in str(changed["segments"])
    assert "controls" not in changed


@pytest.mark.asyncio
async def test_a_page_that_was_closed_is_not_looked_after(
    sandbox: Sandbox, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Its place is free for another one, and nobody is told of an error."""
    statuses = []
    for _ in range(2):
        for _ in range(16):
            async with session.get(f"{sandbox.url}/_sandbox/events") as stream:
                statuses.append(stream.status)
                await _event(stream)
                stream.close()
        await asyncio.sleep(0.6)

    assert statuses == [200] * 32
    assert caplog.records == []


@pytest.mark.asyncio
async def test_open_pages_do_not_hold_the_sandbox_up(session: aiohttp.ClientSession) -> None:
    """So many and no more; leaving the block ends them at once."""
    async with Sandbox() as sandbox, asyncio.timeout(20):
        streams = [await session.get(f"{sandbox.url}/_sandbox/events") for _ in range(17)]
    statuses = [each.status for each in streams]
    for each in streams:
        each.close()

    assert statuses == [200] * 16 + [503]


async def _event(stream: aiohttp.ClientResponse) -> Json:
    line = await stream.content.readline()
    assert await stream.content.readline() == b"\n"
    value = json.loads(line.removeprefix(b"data: "))
    assert isinstance(value, dict)
    return value
