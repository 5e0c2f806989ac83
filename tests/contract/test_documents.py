"""What we send and what we read, held to the vendor's own documents where they lie beside the repository.

They are somebody else's text and no part of this project, so these tests skip where they are not there.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from openapi_schema_validator import OAS30Validator

from moe_segments.core.wire import file_segments as wire
from moe_segments.core.wire.callbacks import decode_callback
from moe_segments.core.wire.file_segments import Answer, Request
from moe_segments.core.wire.filter_segments import decode_got, decode_made, encode_filter
from moe_segments.limits import CALL_LIMITS, DOCUMENTED, QuotaLimits
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    CreateFilterSegment,
    Credentials,
    FileFailed,
    FileProcessed,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
    UpdateFilterSegment,
)
from moe_segments.models.filters import FilterGroup, RawFilter, attribute, did, did_not
from moe_segments.models.filters.payloads import group_from
from moe_segments.models.filters.rules import (
    EXECUTIONS,
    FILTER_OPERATORS,
    OPERATORS,
    PERIOD_UNITS,
    RANGE_TYPES,
    VALUE_TYPES,
)
from tests.documented import CALLBACK_STATUSES, OPERATIONS, PAIRS, samples_of

if TYPE_CHECKING:
    from collections.abc import Iterator

API: Final = Path(os.environ.get("MOE_API_DOCUMENTS") or Path(__file__).parents[2].parent / "shared" / "api")
FULL, CREATE_PAGE = API / "custom-segments-openapi.yml", API / "create-file-segment.md"
pytestmark = pytest.mark.skipif(
    not FULL.exists(),
    reason="the vendor's documents are not there: put them in ../shared/api, or name the place in MOE_API_DOCUMENTS",
)
CREDENTIALS: Final = Credentials(workspace_id="W1", api_key="k", data_center="01", db_name="main")
CS_ID: Final = "64f0c1d2e3a4b5c6d7e8f901"
PATH_OF: Final = {each.op: each for each in OPERATIONS}
_UPDATE: Final[dict[str, Any]] = {"name": "w", "attribute_name": "ID", "attribute_type": "string"}
_URLS: Final[dict[str, Any]] = {
    "file_url": "https://files.example.com/w.csv",
    "callback_url": "https://hooks.example.com/t",
}
# Only what the document has words for: it shows no groups in groups and no references to segments.
FILTERS: Final = (
    attribute("city").is_in("Pune", "Delhi")
    & ~attribute("age").between(18, 30.5)
    & attribute("vip").is_(True)
    & attribute("joined").in_the_last(days=30)
    & attribute("plan", "string").exists()
    & did("Purchase").at_least(2).in_the_last(days=30).where(attribute("price").greater_than(10))
    & did_not("Refund").in_the_last(months=1)
)
REQUESTS: Final[dict[str, Request]] = {
    **{
        operation.op: wire.encode(operation, credentials=CREDENTIALS)
        for operation in (
            CreateFileSegment(**_UPDATE, **_URLS, emails=("a@example.com",), expiry_time=30),
            AddUsers(**_UPDATE, **_URLS, cs_id=CS_ID),
            RemoveUsers(**_UPDATE, **_URLS),
            ReplaceUsers(**_UPDATE, **_URLS),
            ArchiveSegment(name="w"),
            UnarchiveSegment(name="w", cs_id=CS_ID),
        )
    },
    **{
        operation.op: encode_filter(operation, credentials=CREDENTIALS)
        for operation in (
            CreateFilterSegment(name="w", included_filters=FILTERS),
            UpdateFilterSegment(cs_id=CS_ID, included_filters=FILTERS, name="v", updated_by="a@example.com"),
        )
    },
    "list": wire.encode_list("w", credentials=CREDENTIALS),
    "get": wire.encode_get(CS_ID, credentials=CREDENTIALS),
}


@cache
def document() -> dict[str, Any]:
    """The full document of all ten operations."""
    loaded = yaml.safe_load(FULL.read_text(encoding="utf-8"))
    whole: dict[str, Any] = mended(loaded)
    return whole


def mended(node: Any) -> Any:
    """What YAML 1.1 made of `on`, put right: it stands in enumerations only."""
    if isinstance(node, dict):
        enum = {"enum": ["on" if value is True else value for value in node["enum"]]} if "enum" in node else {}
        return {key: mended(value) for key, value in node.items()} | enum
    return [mended(item) for item in node] if isinstance(node, list) else node


def resolved(node: Any) -> Any:
    """What a reference of the document points to."""
    while isinstance(node, dict) and "$ref" in node:
        target: Any = document()
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def operation_of(op: str) -> dict[str, Any]:
    """The document's entry of one of our operations."""
    each = PATH_OF[op]
    entry = document()["paths"][each.path][each.method.lower()]
    assert isinstance(entry, dict)
    return entry


def check(value: object, schema: object) -> None:
    """The value is as the document's schema has it."""
    assert isinstance(schema, dict)
    errors = OAS30Validator({**schema, "components": document()["components"]}).iter_errors(value)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def media_of(op: str, status: int) -> dict[str, Any]:
    """What the document says of the body of an answer."""
    content: dict[str, Any] = resolved(operation_of(op)["responses"][str(status)]).get("content", {})
    media = content.get("application/json", {})
    assert isinstance(media, dict)
    return media


def examples_of(op: str, status: int) -> Iterator[tuple[str, Any]]:
    """The document's own examples of an answer."""
    media = media_of(op, status)
    if isinstance(media.get("example"), dict):
        yield "example", media["example"]
    for name, example in media.get("examples", {}).items():
        yield name, example["value"]


# Our data and the document


def test_our_operations_and_statuses_are_those_of_the_document() -> None:
    """Not one more, not one less: a new one must be met with a sample and a test."""
    named = {
        (method.upper(), path): {int(status) for status in entry["responses"]}
        for path, methods in document()["paths"].items()
        for method, entry in methods.items()
    }

    assert {(each.method, each.path): set(each.statuses) for each in OPERATIONS} == named


def test_the_create_page_has_no_other_statuses() -> None:
    """The mission's own page, which has an OpenAPI document inside."""
    text = CREATE_PAGE.read_text(encoding="utf-8")
    block = re.search(r"```ya?ml[^\n]*\n(.*?)```", text, re.DOTALL)
    assert block is not None
    loaded = yaml.safe_load(block[1])
    (entry,) = (methods["post"] for methods in loaded["paths"].values())

    assert {int(status) for status in entry["responses"]} == set(PATH_OF["create"].statuses)


def test_our_operators_are_those_of_the_document() -> None:
    """Type by type, as its description lists them, and all of its enumeration."""
    schema = document()["components"]["schemas"]["AttributeFilterV3"]
    listed = {
        kind: tuple(part.strip() for part in operators.split(","))
        for kind, operators in re.findall(r"\*\*(\w+):\*\* ([^\n]+)", schema["description"])
    }
    known = {operator for operators in OPERATORS.values() for operator in operators}

    assert {kind: tuple(operators) for kind, operators in OPERATORS.items()} == listed
    assert set(schema["properties"]["operator"]["enum"]) == known
    assert set(schema["properties"]["data_type"]["enum"]) == set(OPERATORS)


def test_our_words_of_an_action_are_those_of_the_document() -> None:
    """How often, and when."""
    schemas = document()["components"]["schemas"]
    action = schemas["ActionFilterV3"]["properties"]
    when = action["primary_time_range"]["properties"]

    assert tuple(action["execution"]["properties"]["type"]["enum"]) == EXECUTIONS
    assert tuple(when["type"]["enum"]) == RANGE_TYPES
    assert tuple(when["value_type"]["enum"]) == VALUE_TYPES
    assert tuple(when["period_unit"]["enum"]) == PERIOD_UNITS
    assert tuple(schemas["FilterGroupV3"]["properties"]["filter_operator"]["enum"]) == FILTER_OPERATORS


@pytest.mark.parametrize("call", CALL_LIMITS)
def test_our_quotas_of_calls_are_those_of_the_document(call: str) -> None:
    """A minute, an hour, a day, as its page states them; and none for an update."""
    text = operation_of(call)["x-mint"]["content"]
    found = re.search(r"(\d+) requests?/minute, (\d+) requests?/hour, and (\d+) requests?/day", text)
    assert found is not None
    figures = tuple(int(figure) for figure in found.groups())

    assert tuple(getattr(QuotaLimits(), name) for name in CALL_LIMITS[call]) == figures
    assert tuple(DOCUMENTED[name].figure for name in CALL_LIMITS[call]) == figures
    assert "requests/" not in operation_of("update_filter")["x-mint"]["content"]


# What we send


@pytest.mark.parametrize("op", PATH_OF)
def test_a_request_is_as_the_document_has_it(op: str) -> None:
    """Method, path, body, and every required header but the one that is about the file's own server."""
    request, entry = REQUESTS[op], operation_of(op)
    parameters = [resolved(parameter) for parameter in entry.get("parameters", ())]
    headers = {name.lower() for name in request.headers}
    required = {
        parameter["name"].lower() for parameter in parameters if parameter["in"] == "header" and parameter["required"]
    }

    assert (request.method, request.path) == (PATH_OF[op].method, PATH_OF[op].path.replace("{id}", CS_ID))
    assert required <= headers
    assert {name for name, _ in request.query} <= {each["name"] for each in parameters if each["in"] == "query"}
    body = resolved(entry["requestBody"]) if "requestBody" in entry else None
    assert (body is None) == (request.body is None)
    if body is not None and request.body is not None:
        assert request.headers["Content-Type"] in body["content"]
        check(json.loads(request.body), body["content"]["application/json"]["schema"])


@pytest.mark.parametrize("wrong", ["filter_operator", "filters"])
@pytest.mark.parametrize("op", ["create_filter", "update_filter"])
def test_a_body_that_is_not_as_documented_is_found(op: str, wrong: str) -> None:
    """The check itself can fail."""
    body = json.loads(REQUESTS[op].body or b"")
    del body["included_filters"][wrong]

    with pytest.raises(AssertionError):
        check(body, operation_of(op)["requestBody"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize("op", [op for op in PATH_OF if op not in ("list", "get")])
def test_a_request_has_no_field_the_document_does_not_name(op: str) -> None:
    """The document forbids none, so its own check would let a slip of the pen pass."""
    request = REQUESTS[op]
    assert request.body is not None
    schema = operation_of(op)["requestBody"]["content"]["application/json"]["schema"]

    assert set(json.loads(request.body)) <= set(properties_of(schema))


def properties_of(schema: Any) -> dict[str, Any]:
    """The properties of a schema and of those it is made of."""
    schema = resolved(schema)
    named: dict[str, Any] = dict(schema.get("properties", {}))
    for part in schema.get("allOf", ()):
        named |= properties_of(part)
    return named


@pytest.mark.parametrize("op", ["create_filter", "update_filter"])
def test_the_documents_own_request_is_sent_as_it_is(op: str) -> None:
    """Read as typed filters, and written again to the byte of meaning."""
    example = operation_of(op)["requestBody"]["content"]["application/json"]["example"]
    group = group_from(example["included_filters"])

    assert group.to_payload() == example["included_filters"]
    assert isinstance(group, FilterGroup)
    assert not any(isinstance(one, RawFilter) for one in group.filters)


# What we read


@pytest.mark.parametrize(("op", "status"), PAIRS)
def test_our_samples_are_as_the_document_has_them(op: str, status: int) -> None:
    """So that what is tested against them is tested against the document."""
    schema = media_of(op, status).get("schema")
    for path in samples_of(op, status):
        if schema is None or path.suffix != ".json" or is_elsewhere(path):
            continue
        check(json.loads(path.read_text()), schema)


def is_elsewhere(path: Path) -> bool:
    """Bodies of a firewall or of the platform, and one object where the document has a list: told on other pages."""
    body = json.loads(path.read_text())
    is_object = path.parent.name == "get" and isinstance(body.get("data"), dict)
    return is_object or ("error" in body and "response_id" not in body)


@pytest.mark.parametrize(("op", "status"), PAIRS)
def test_the_documents_own_answers_are_read(op: str, status: int) -> None:
    """Each as what its status says, with the facts it holds; callbacks among them as callbacks."""
    for name, body in examples_of(op, status):
        raw = json.dumps(body).encode()
        if name.startswith("callback"):
            assert isinstance(decode_callback(raw), FileProcessed if status < 300 else FileFailed)
        elif status < 300:
            check_success(op, Answer(status, {}, raw), body)
        else:
            check_error(Answer(status, {}, raw), body)


def check_success(op: str, answer: Answer, body: dict[str, Any]) -> None:
    """Read by the decoder of its operation; typed where it holds filters."""
    if op == "list":
        assert [segment.name for segment in wire.decode_segments(answer)] == [each["name"] for each in body["data"]]
    elif op == "get":
        assert decode_got(answer, body["data"][0]["id"]).name == body["data"][0]["name"]
    elif op in ("create_filter", "update_filter"):
        segment = decode_made(answer)
        assert isinstance(segment.included_filters, FilterGroup)
        assert segment.included_filters.to_payload() == body["data"]["included_filters"]
        assert not any(isinstance(one, RawFilter) for one in segment.included_filters.filters)
        assert not segment.extra
        assert segment.updated_time is not None
    else:
        accepted = wire.decode_acceptance(answer, ArchiveSegment(name="w"))
        assert (accepted.success, accepted.cs_name, accepted.cs_id) == (True, body["cs_name"], body["cs_id"])


def check_error(answer: Answer, body: dict[str, Any]) -> None:
    """Its texts are those of the body."""
    error = wire.error_from(answer)
    inner = body.get("error", {})
    assert error.title == body.get("title", inner.get("code"))
    assert error.description == body.get("description", inner.get("message"))
    for name in ("existing_cs_name", "existing_cs_id", "actual_count"):
        assert getattr(error, name, inner.get(name)) == inner.get(name)
    assert error.request_id == body.get("response_id")


@pytest.mark.parametrize("status", CALLBACK_STATUSES)
def test_our_callbacks_are_as_the_document_has_them(status: int) -> None:
    """Success and failure."""
    for path in samples_of("callback", status):
        check(json.loads(path.read_text()), {"$ref": "#/components/schemas/CallbackV2"})
