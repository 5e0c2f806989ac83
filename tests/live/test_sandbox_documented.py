"""Every documented status of every operation can be had from the sandbox, in the shape its OpenAPI document says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp
import attrs
import pytest

from moe_segments.limits import QuotaLimits
from moe_segments.sandbox import CallLimits, Dialect, FaultKind, Sandbox

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="needs jsonschema_rs: pip install schemathesis")

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = "dict[str, Any]"
V2, V3 = "/v2/custom-segments", "/v3/custom-segments"
FIVES: Final = (500, 502, 503, 504)

# The vendor's documents of August 2026, and 403, which the platform and a firewall answer whatever is asked.
DOCUMENTED: Final[Mapping[str, tuple[int, ...]]] = {
    "create": (200, 202, 400, 401, 403, 409, 429, *FIVES),
    "add": (202, 400, 401, 403, 404, 429, *FIVES),
    "remove": (202, 400, 401, 403, 404, 429, *FIVES),
    "replace": (202, 400, 401, 403, 404, 429, *FIVES),
    "archive": (200, 202, 400, 401, 403, 404, *FIVES),
    "unarchive": (200, 202, 400, 401, 403, 404, 429, *FIVES),
    "list": (200, 400, 401, 403, 429, *FIVES),
    "create_filter": (201, 400, 401, 403, 409, 413, 429, *FIVES),
    "get": (200, 400, 401, 403, 404, 429, *FIVES),
    "update_filter": (200, 400, 401, 403, 404, 409, 412, 413, 429, *FIVES),
}
ROUTES: Final[Mapping[str, tuple[str, str]]] = {
    "create": ("POST", f"{V2}/file-segment"),
    "add": ("PUT", f"{V2}/file-segment/add-users"),
    "remove": ("PUT", f"{V2}/file-segment/remove-users"),
    "replace": ("PUT", f"{V2}/file-segment/replace"),
    "archive": ("PATCH", f"{V2}/archive"),
    "unarchive": ("PATCH", f"{V2}/unarchive"),
    "list": ("GET", V3),
    "create_filter": ("POST", V3),
    "get": ("GET", f"{V3}/{{id}}"),
    "update_filter": ("PATCH", f"{V3}/{{id}}"),
}
PAIRS: Final = [(op, status) for op, statuses in DOCUMENTED.items() for status in statuses]


@attrs.define
class Scene:
    """A sandbox with a file segment `file`, a filter segment `filter` and one archived, and what is sent to it.

    Attributes:
        sandbox: The sandbox.
        session: What sends.
        ids: Identifiers by name.
        document: Its OpenAPI document.
    """

    sandbox: Sandbox
    session: aiohttp.ClientSession
    ids: dict[str, str] = attrs.field(factory=dict)
    document: Json = attrs.field(factory=dict)

    async def set_up(self) -> None:
        """Make the segments."""
        async with self.session.get(f"{self.sandbox.url}/openapi.json") as response:
            self.document = await response.json()
        await self.send("create", body=fitting("create", "file"))
        await self.send("create", body=fitting("create", "old"))
        await self.send("archive", body={"name": "old"})
        await self.send("create_filter", body=fitting("create_filter", "filter"))
        self.ids = {each.name: each.id for each in self.sandbox.workspace.segments}

    async def send(
        self, op: str, *, body: object = None, cs_id: str = "x", key: str | None = None, app_key: str | None = None
    ) -> tuple[int, bytes]:
        """One request of an operation: status and body, which must be as the document says."""
        credentials = self.sandbox.credentials
        headers = {
            "Authorization": aiohttp.encode_basic_auth(credentials.workspace_id, key or credentials.api_key),
            "MOE-APPKEY": app_key or credentials.workspace_id,
            "Content-Type": "application/json",
        }
        method, path = ROUTES[op]
        data = None if body is None else json.dumps(body).encode()
        url = self.sandbox.url + path.replace("{id}", cs_id)
        async with self.session.request(method, url, data=data, headers=headers) as response:
            answered = await response.read()
            check(self.document, method, path, response.status, response.content_type, answered)
            return response.status, answered

    async def provoke(self, op: str, status: int) -> tuple[int, bytes]:
        """Send what is to be answered with this status."""
        if status >= 500:
            self.sandbox.fail_next(FaultKind.SERVER_ERROR, status=status)
        elif status == 401:
            return await self.send(op, body=fitting(op, "new"), key="wrong")
        elif status == 403 and op != "update_filter":
            self.sandbox.fail_next(FaultKind.FIREWALL)
        elif status == 429:
            return await self.throttle(op)
        elif status == 400 and op in ("list", "get"):
            return await self.send(op, app_key="other")
        body, cs_id = self.sent(op, status)
        return await self.send(op, body=body, cs_id=cs_id)

    def sent(self, op: str, status: int) -> tuple[object, str]:
        """The body and the identifier in the path."""
        names = {200: "filter", 403: "file", 404: "none"}
        cs_id = self.ids.get(names.get(status, "filter"), "0" * 24)
        body = fitting(op, target(op, status))
        match status:
            case 400:
                return {}, cs_id
            case 412:
                return filters([{"filter_type": "custom_segments", "id": cs_id}]), cs_id
            case 413:
                return {"name": "new"} | filters([attribute("x" * 60_000)]), cs_id
            case 409 if op == "update_filter":
                return {"name": "file"} | filters([attribute("new")]), cs_id
            case _:
                return body, cs_id

    async def throttle(self, op: str) -> tuple[int, bytes]:
        """Use the quota of an operation up, then once more."""
        if op in ("create", "add", "remove", "replace"):
            self.sandbox.workspace.spend_elsewhere(operations=10)
        elif op == "unarchive":
            self.sandbox.workspace.external_active = 1_000
        else:
            await self.send(op, body=fitting(op, "one"), cs_id=self.ids["filter"])
            return await self.send(op, body=fitting(op, "two", "Delhi"), cs_id=self.ids["filter"])
        return await self.send(op, body=fitting(op, target(op, 429)))


def target(op: str, status: int) -> str:
    """Which segment a request is about."""
    if status == 404:
        return "none"
    if op in ("create", "create_filter"):
        return "file" if status == 409 else "new"
    return "old" if op == "unarchive" else "file"


def attribute(value: str) -> Json:
    return {"filter_type": "user_attributes", "name": "city", "data_type": "string", "operator": "in", "value": value}


def filters(group: list[Json]) -> Json:
    return {"included_filters": {"filter_operator": "and", "filters": group}}


def fitting(op: str, name: str, value: str = "Pune") -> Json | None:
    """A body that fits the document."""
    file = {"attribute_name": "ID", "attribute_type": "string", "file_url": "http://127.0.0.1:1/n.csv"}
    match op:
        case "create":
            return {"name": name, "expiry_time": 30, **file}
        case "add" | "remove" | "replace":
            return {"name": name, **file}
        case "archive" | "unarchive":
            return {"name": name}
        case "create_filter":
            return {"name": name} | filters([attribute(f"{name} {value}")])
        case "update_filter":
            return filters([attribute(value)])
        case _:
            return None


def check(document: Json, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """An answer against the document; before that is known, nothing is checked."""
    if not document:
        return
    response = document["paths"][path][method.lower()]["responses"][str(status)]
    if not body:
        assert "content" not in response or status > 500
        return
    schema = response["content"][content_type]["schema"]
    if content_type == "application/json":
        jsonschema_rs.validate({**schema, "components": document["components"]}, json.loads(body))


def dialect_of(op: str, status: int) -> Dialect:
    if op == "get" and status == 404:
        return Dialect.V3_OBJECT
    if status == 200 and op in ("create", "archive", "unarchive"):
        return Dialect.V2_200 if op == "create" else Dialect.V2_ARCHIVE_200
    return Dialect.V2_202


@pytest.mark.parametrize(("op", "status"), PAIRS)
@pytest.mark.asyncio
async def test_every_documented_status_can_be_had(op: str, status: int) -> None:
    """And its body is as the sandbox's own document says."""
    one = (1, 1, 1) if status == 429 else None
    calls = CallLimits(
        list_calls=one or (50, 200, 1_000),
        get_calls=one or (100, 1_000, 4_000),
        create_calls=(2, 2, 2),
        update_calls=one,
    )
    async with (
        aiohttp.ClientSession() as session,
        Sandbox(dialect=dialect_of(op, status), call_limits=calls, processing_s=(60, 60)) as sandbox,
    ):
        scene = Scene(sandbox, session)
        await scene.set_up()
        answered, _ = await scene.provoke(op, status)
        record = sandbox.workspace.requests[-1]

    assert (answered, record.status) == (status, status)
    assert status in (401, 403, *FIVES) or record.op == op


@pytest.mark.asyncio
async def test_the_429_of_active_segments_says_how_many_there_are() -> None:
    """The other form of the 429 of a create, and of an update while too many are active."""
    async with aiohttp.ClientSession() as session, Sandbox(limits=QuotaLimits(active_segments=60)) as sandbox:
        scene = Scene(sandbox, session)
        await scene.set_up()
        sandbox.workspace.external_active = 100
        create = await scene.send("create_filter", body=fitting("create_filter", "new"))
        update = await scene.send("update_filter", body=fitting("update_filter", ""), cs_id=scene.ids["filter"])

    for status, body in (create, update):
        error = json.loads(body)["error"]
        assert (status, error["actual_count"], error["limit"]) == (429, 102, 60)


@pytest.mark.parametrize("op", DOCUMENTED)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.asyncio
async def test_the_platform_before_the_service_answers_in_its_own_shape(op: str, status: int) -> None:
    """Whatever is asked; the request is neither decided nor counted."""
    async with aiohttp.ClientSession() as session, Sandbox() as sandbox:
        scene = Scene(sandbox, session)
        sandbox.fail_next("platform_error", status=status)
        answered, body = await scene.send(op, body=fitting(op, "new"))

    assert answered == status
    assert set(json.loads(body)) == {"status", "error"}
    assert set(json.loads(body)["error"]) == {"message", "type", "request_id"}
    assert sandbox.workspace.segments == ()


def test_the_document_is_openapi_and_names_every_status() -> None:
    """All that is documented, and no operation besides."""
    from moe_segments.sandbox.api.openapi import document

    told: Json = document("W1")
    named = {
        (method.upper(), path): {int(status) for status in operation["responses"]}
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
    }
    assert told["openapi"] == "3.1.0"
    assert set(named) == set(ROUTES.values())
    for op, statuses in DOCUMENTED.items():
        assert set(statuses) - {429} <= named[ROUTES[op]]
    for name, schema in told["components"]["schemas"].items():
        jsonschema_rs.validator_for({**schema, "$id": f"urn:{name}", "components": told["components"]})
