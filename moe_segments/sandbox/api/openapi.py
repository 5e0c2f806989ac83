"""The sandbox's own OpenAPI 3.1 document: ten operations, every answer, what each field may be. Pure.

It says exactly what the sandbox accepts: a request that fits the document is not malformed, one that does not is. Where
the vendor's pages disagree it names every answer of every `Dialect`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from moe_segments.limits import NAME_MAX_CHARS
from moe_segments.sandbox.api.answers import PLATFORM_TYPES, V2, V3
from moe_segments.sandbox.api.bodies import EMAIL, EXPIRY_DAYS_MAX, NAME, URL
from moe_segments.sandbox.model.filters import (
    BARE_OPERATORS,
    COUNT_MAX,
    EXECUTIONS,
    GROUP_OPERATORS,
    MOMENT,
    OPERATORS,
    PERIOD_UNITS,
    REFERENCE,
    RELATIVE,
    TEXT,
    TIME_RANGES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["document"]

_Json: TypeAlias = "dict[str, object]"

_TEXT: Final[_Json] = {"type": "string", "pattern": TEXT}
_NAME: Final[_Json] = {"type": "string", "pattern": NAME, "maxLength": NAME_MAX_CHARS}
_URL: Final[_Json] = {"type": "string", "pattern": URL}
_EMAIL: Final[_Json] = {"type": "string", "pattern": EMAIL}
_STRING: Final[_Json] = {"type": "string"}
_INTEGER: Final[_Json] = {"type": "integer", "minimum": 0}
_BOOLEAN: Final[_Json] = {"type": "boolean"}
_TIME: Final[_Json] = {"type": "string", "description": "UTC, without a zone."}
_PLAIN: Final[_Json] = {"type": ["string", "number"]}
_VALUE: Final[_Json] = {"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array", "items": _PLAIN}]}
_WHAT: Final[Mapping[int, str]] = {
    200: "Done.",
    201: "Created.",
    202: "Accepted.",
    400: "A field, a header or the body is not as documented.",
    401: "The workspace ID and its API key do not belong together.",
    403: "Not allowed, by the service, the platform or a firewall.",
    404: "There is no such segment.",
    409: "The name, or the definition, is in use.",
    412: "The segment would refer to itself.",
    413: "The definition is too complex.",
    429: "A quota is used up, or too many segments are active.",
    500: "The service broke.",
    502: "A gateway before the service broke.",
    503: "A gateway before the service has nobody to ask.",
    504: "A gateway before the service waited in vain.",
}


def document(workspace_id: str) -> _Json:
    """Return the document of a sandbox for this workspace."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sandbox of moe-segments",
            "version": "3",
            "description": "A stand-in for the segments service on loopback. Nothing here reaches the real one.",
        },
        "servers": [{"url": "/"}],
        "security": [{"basic": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "parameters": _parameters(workspace_id),
            "schemas": _schemas(),
        },
    }


# Paths


def _paths() -> _Json:
    file = f"{V2}/file-segment"
    update, target = _ref("FileUpdate"), _ref("Target")
    return {
        file: {"post": _file("createFileSegment", _ref("FileCreate"), {409}, bare=True)},
        f"{file}/add-users": {"put": _file("addUsersToFileSegment", update, {404})},
        f"{file}/remove-users": {"put": _file("removeUsersFromFileSegment", update, {404})},
        f"{file}/replace": {"put": _file("replaceUsersInFileSegment", update, {404})},
        f"{V2}/archive": {"patch": _v2("archiveCustomSegment", target, {200, 202}, {404})},
        f"{V2}/unarchive": {"patch": _v2("unarchiveCustomSegment", target, {200, 202}, {404})},
        V3: {
            "get": _v3("listCustomSegments", {200: _ref("SegmentList")}, set(), parameters=["Name"]),
            "post": _v3("createFilterSegment", {201: _ref("SegmentFound")}, {404, 409, 413}, body=_ref("FilterCreate")),
        },
        f"{V3}/{{id}}": {
            "get": _v3(
                "getCustomSegment",
                {200: {"anyOf": [_ref("SegmentList"), _ref("SegmentFound")]}},
                {404},
                parameters=["Id"],
            ),
            "patch": _v3(
                "updateFilterSegment",
                {200: _ref("SegmentFound")},
                {404, 409, 412, 413},
                parameters=["Id"],
                body=_ref("FilterUpdate"),
            ),
        },
    }


def _file(operation_id: str, body: _Json, errors: set[int], *, bare: bool = False) -> _Json:
    callback: _Json = {
        "post": {
            "requestBody": _content(_ref("Callback"), required=True),
            "responses": {"200": {"description": "Acknowledged; anything else is tried again."}},
        }
    }
    operation = _v2(operation_id, body, {202}, errors)
    if bare:
        responses = operation["responses"]
        assert isinstance(responses, dict)
        responses["200"] = {"description": "Accepted, without a body: one of the dialects."}
    return operation | {"callbacks": {"processed": {"{$request.body#/callback_url}": callback}}}


def _v2(operation_id: str, body: _Json, successes: set[int], errors: set[int]) -> _Json:
    good = {status: _ref("Accepted") for status in successes}
    return _operation(operation_id, good, _errors("ErrorV2", errors), body=body)


def _v3(
    operation_id: str,
    successes: Mapping[int, _Json],
    errors: set[int],
    *,
    parameters: Iterable[str] = (),
    body: _Json | None = None,
) -> _Json:
    operation = _operation(operation_id, successes, _errors("ErrorV3", errors), body=body)
    refs = [{"$ref": f"#/components/parameters/{name}"} for name in ("AppKey", *parameters)]
    return operation | {"parameters": refs}


def _operation(operation_id: str, good: Mapping[int, _Json], bad: Mapping[int, _Json], *, body: _Json | None) -> _Json:
    responses: _Json = {
        str(status): {"description": _WHAT[status], **_content(schema)} for status, schema in {**good, **bad}.items()
    }
    for status in (502, 503, 504):
        responses[str(status)] = {"description": _WHAT[status], "content": {"text/html": {"schema": _STRING}}}
    operation: _Json = {"operationId": operation_id, "responses": responses}
    return operation if body is None else operation | {"requestBody": _content(body, required=True)}


def _errors(shape: str, statuses: set[int]) -> Mapping[int, _Json]:
    """Return the answers to what goes wrong, in the service's shape or in that of whoever stands before it."""
    every = sorted({400, 401, 403, 429, 500} | statuses)
    return {status: {"anyOf": [_ref(name) for name in _shapes(shape, status)]} for status in every}


def _shapes(shape: str, status: int) -> list[str]:
    platform = ["ErrorOfPlatform"] if status in PLATFORM_TYPES else []
    return [shape, *platform, *(["ErrorOfFirewall"] if status == 403 else [])]  # noqa: PLR2004 - a status


def _content(schema: _Json, *, required: bool | None = None) -> _Json:
    content: _Json = {"content": {"application/json": {"schema": schema}}}
    return content if required is None else content | {"required": required}


def _parameters(workspace_id: str) -> _Json:
    return {
        "AppKey": {"name": "MOE-APPKEY", "in": "header", "required": True, "schema": {"enum": [workspace_id]}},
        "Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
        "Name": {"name": "name", "in": "query", "required": False, "schema": _STRING},
    }


# Schemas


def _schemas() -> _Json:
    return {**_requests_v2(), **_requests_v3(), **_answers()}


def _requests_v2() -> _Json:
    target = {"name": _TEXT, "cs_id": _STRING}
    common: dict[str, _Json] = {
        "attribute_name": _TEXT,
        "attribute_type": {"enum": ["string", "double"]},
        "file_url": _URL,
        "callback_url": _URL,
        "emails": {"type": "array", "items": _EMAIL},
    }
    days: _Json = {"type": "integer", "minimum": 1, "maximum": EXPIRY_DAYS_MAX}
    needed = ["name", "attribute_name", "attribute_type", "file_url"]
    return {
        "FileCreate": _object({"name": _NAME, "cs_id": _STRING, **common, "expiry_time": days}, needed, "expiry_time"),
        "FileUpdate": _object({**target, **common}, needed),
        "Target": _object(target, ["name"]),
    }


def _requests_v3() -> _Json:
    group = _ref("FilterGroup")
    definition: dict[str, _Json] = {
        "included_filters": group,
        "excluded_filters": {"anyOf": [group, {"type": "null"}]},
    }
    filters = [_ref(name) for name in ("AttributeFilter", "ActionFilter", "NestedFilters", "Reference", "OtherFilter")]
    return {
        "FilterCreate": _object({"name": _NAME, **definition}, ["name", "included_filters"]),
        "FilterUpdate": _object({"name": _NAME, "updated_by": _EMAIL, **definition}, ["included_filters"]),
        "Filter": {"anyOf": filters},
        "FilterGroup": _group(_ref("Filter")),
        "AttributeFilter": {"anyOf": list(_attribute_filters())},
        "ActionFilter": _action_filter(),
        "NestedFilters": _nested(),
        "Reference": _reference(),
        "OtherFilter": {
            **_object({"filter_type": {**_TEXT, "not": {"enum": [*_DOCUMENTED, REFERENCE]}}}, ["filter_type"]),
            "not": {"required": ["filters"]},
        },
    }


_DOCUMENTED: Final = ("user_attributes", "actions")


def _group(item: _Json) -> _Json:
    return _object(
        {"filter_operator": {"enum": list(GROUP_OPERATORS)}, "filters": {"type": "array", "items": item}},
        ["filter_operator", "filters"],
    )


def _nested() -> _Json:
    group = _group(_ref("Filter"))
    properties = group["properties"]
    assert isinstance(properties, dict)
    return group | {"properties": properties | {"filter_type": {"not": {"enum": list(_DOCUMENTED)}}}}


def _reference() -> _Json:
    reference = _object({"filter_type": {"const": REFERENCE}, "id": _TEXT, "cs_id": _TEXT}, ["filter_type"])
    return reference | {"anyOf": [{"required": ["id"]}, {"required": ["cs_id"]}], "not": {"required": ["filters"]}}


def _attribute_filters() -> Iterable[_Json]:
    """Return one schema for each data type and each number of values that its operators compare with."""
    for data_type, operators in OPERATORS.items():
        bare = [each for each in operators if each in BARE_OPERATORS]
        between = [each for each in operators if each == "between"]
        valued = [each for each in operators if each not in (*bare, *between)]
        for names, needed in ((bare, ()), (valued, ("value",)), (between, ("value", "value1"))):
            if names:
                yield _attribute_filter(data_type, names, *needed)


def _attribute_filter(data_type: str, operators: list[str], *needed: str) -> _Json:
    return _object(
        {
            "filter_type": {"const": "user_attributes"},
            "name": _TEXT,
            "data_type": {"const": data_type},
            "operator": {"enum": operators},
            "value": _VALUE,
            "value1": _PLAIN,
            "negate": _BOOLEAN,
            "case_sensitive": _BOOLEAN,
        },
        ["filter_type", "name", "data_type", "operator"],
        *needed,
    )


def _action_filter() -> _Json:
    count: _Json = {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}
    return _object(
        {
            "filter_type": {"const": "actions"},
            "action_name": _TEXT,
            "executed": _BOOLEAN,
            "execution": _object({"type": {"enum": list(EXECUTIONS)}, "count": count}, ["type", "count"]),
            "primary_time_range": {"anyOf": list(_time_ranges())},
            "attributes": _group(_ref("AttributeFilter")),
        },
        ["filter_type", "action_name", "executed", "execution", "primary_time_range"],
    )


def _time_ranges() -> Iterable[_Json]:
    single = [each for each in TIME_RANGES if each != "between"]
    for value_type, pattern in (("absolute", MOMENT), ("relative_past", RELATIVE)):
        value: _Json = {"type": "string", "pattern": pattern}
        for names, needed in ((single, ()), (["between"], ("value1",))):
            yield _object(
                {
                    "type": {"enum": names},
                    "value_type": {"const": value_type},
                    "value": value,
                    "value1": value,
                    "period_unit": {"enum": list(PERIOD_UNITS)},
                },
                ["type", "value_type", "value", "period_unit"],
                *needed,
            )


def _answers() -> _Json:
    item: dict[str, _Json] = {"name": _STRING, "id": _STRING, "created_time": _TIME, "type": _STRING, "source": _STRING}
    group: _Json = {"type": "object"}
    full: dict[str, _Json] = {
        **item,
        "updated_time": _TIME,
        "description": _STRING,
        "included_filters": group,
        "excluded_filters": group,
    }
    envelope: dict[str, _Json] = {"response_id": _STRING, "type": {"const": "custom_segment"}}
    error: dict[str, _Json] = {
        "code": _STRING,
        "message": _STRING,
        "existing_cs_name": _STRING,
        "existing_cs_id": _STRING,
        "actual_count": _INTEGER,
        "limit": _INTEGER,
    }
    refused: dict[str, _Json] = {
        "message": _STRING,
        "type": {"enum": sorted(PLATFORM_TYPES.values())},
        "request_id": _STRING,
    }
    callback: dict[str, _Json] = {"db_name": _STRING, "segment_name": _STRING, "request_id": _STRING}
    counts: dict[str, _Json] = {"values_found": _INTEGER, "values_processed": _INTEGER, "user_count": _INTEGER}
    return {
        "Accepted": _exact(
            {"message": _STRING, "success": {"const": True}, "cs_name": _STRING, "cs_id": _STRING}, optional=["cs_id"]
        ),
        "SegmentList": _exact({"data": {"type": "array", "items": _exact(item)}, **envelope}),
        "SegmentFound": _exact(
            {
                "data": _exact(full, optional=["description", "included_filters", "excluded_filters"]),
                **envelope,
            }
        ),
        "ErrorV2": _exact({"title": _STRING, "description": _STRING}, optional=["description"]),
        "ErrorV3": _exact({**envelope, "error": _exact(error, optional=list(error)[2:])}),
        "ErrorOfPlatform": _exact({"status": {"const": "fail"}, "error": _exact(refused)}),
        "ErrorOfFirewall": _exact({"error": _STRING, "message": _STRING}),
        "Callback": {
            "anyOf": [
                _exact({**callback, "status": {"const": 201}, **counts}),
                _exact({**callback, "status": {"enum": [400, 500]}, "error_message": _STRING}),
            ]
        },
    }


def _object(properties: Mapping[str, _Json], required: Iterable[str], *more: str) -> _Json:
    return {"type": "object", "properties": dict(properties), "required": [*required, *more]}


def _exact(properties: Mapping[str, _Json], *, optional: Iterable[str] = ()) -> _Json:
    left_out = set(optional)
    required = [name for name in properties if name not in left_out]
    return _object(properties, required) | {"additionalProperties": False}


def _ref(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}
