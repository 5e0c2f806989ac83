"""Calls, answers, and the shapes of the documented answers. Pure.

Errors come in four shapes: v2 `{title, description}`, v3 `{response_id, type, error}`, the platform's
`{status, error}` and a firewall's `{error, message}`; gateways answer HTML or nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.sandbox.model.records import Kind, Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.sandbox.model.records import Refusal, SandboxSegment

__all__ = [
    "PLATFORM_TYPES",
    "V2",
    "V3",
    "Call",
    "Dialect",
    "Reply",
    "firewall_error",
    "platform_error",
    "segment_data",
    "segment_item",
    "server_error",
    "to_json",
    "v2_error",
    "v3_error",
]

V2: Final = "/v2/custom-segments"
V3: Final = "/v3/custom-segments"
_ENCODE: Final = json.JSONEncoder().encode
_TITLES: Final = {
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
PLATFORM_TYPES: Final[Mapping[int, str]] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "TooManyRequests",
    500: "InternalServerError",
}


class Dialect(StrEnum):
    """Which of the vendor's pages the answers follow, where the pages disagree.

    - `V2_202`: the newest pages: 202 with `cs_id`; get by id answers with a list.
    - `V2_202_NO_ID`: 202 without `cs_id`.
    - `V2_200`: a create is answered with a bare 200, no body.
    - `V2_ARCHIVE_200`: archive and unarchive answer 200 without `cs_id`.
    - `V2_DBNAME`: the v2 calls must name a database in `MOE-DBNAME`, which is 400 otherwise.
    - `V3_OBJECT`: get by id answers with one object, in full, and 404 where there is none.
    """

    V2_202 = "v2-202"
    V2_202_NO_ID = "v2-202-no-id"
    V2_200 = "v2-200"
    V2_ARCHIVE_200 = "v2-archive-200"
    V2_DBNAME = "v2-dbname"
    V3_OBJECT = "v3-object"


@attrs.frozen(kw_only=True)
class Call:
    """One HTTP request.

    Attributes:
        method: The method.
        path: The decoded path.
        headers: The headers, their names looked up without regard to case.
        name: The value of `?name=`; None where not sent.
        body: The bytes; None where they were too many to be read.
    """

    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    name: str | None = None
    body: bytes | None = attrs.field(default=b"", repr=False)


@attrs.frozen(kw_only=True)
class Reply:
    """One HTTP answer, and what it means for the sandbox.

    Attributes:
        status: The status.
        body: JSON, or nothing.
        headers: Headers besides the content type.
        op: See `RequestRecord`.
        segment: See `RequestRecord`.
        counted: See `RequestRecord`.
        limit: See `RequestRecord`.
        submission: The accepted file operation, whose file is now to be processed.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    op: str | None = None
    segment: str | None = None
    counted: bool = False
    limit: str | None = None
    submission: Submission | None = None


def to_json(value: Mapping[str, object]) -> bytes:
    """Return a body."""
    return _ENCODE(value).encode()


def v2_error(refusal: Refusal) -> bytes:
    """Return the body of a v2 error."""
    return to_json({"title": refusal.title, "description": refusal.description})


def v3_error(refusal: Refusal, response_id: str) -> bytes:
    """Return the body of a v3 error, with the figures of the active segments and the segment in the way."""
    error: dict[str, object] = {"code": refusal.title, "message": refusal.description}
    if refusal.limit == "active_segments":
        error |= {"actual_count": refusal.used, "limit": refusal.capacity}
    if refusal.existing is not None:
        error |= {"existing_cs_name": refusal.existing.name, "existing_cs_id": refusal.existing.id}
    return to_json({"response_id": response_id, "type": "custom_segment", "error": error})


def server_error(path: str, status: int, *, has_body: bool) -> Reply:
    """Return what the service or a gateway before it answers when it breaks: JSON for 500, else HTML or nothing."""
    if status != 500:  # noqa: PLR2004 - the only one with a documented body
        page = f"<html><head><title>{status} {_TITLES[status]}</title></head></html>".encode() if has_body else b""
        return Reply(status=status, body=page, headers={"Content-Type": "text/html"})
    if path.startswith(V3):
        error = {"code": _TITLES[status], "message": "The sandbox was told to fail."}
        return Reply(status=status, body=to_json({"response_id": "0", "type": "custom_segment", "error": error}))
    return Reply(status=status, body=to_json({"title": _TITLES[status]}))


def platform_error(status: int) -> Reply:
    """Return what the platform before the service answers, whatever was asked."""
    error = {"message": "The sandbox was told to refuse.", "type": PLATFORM_TYPES[status], "request_id": "r-sandbox"}
    return Reply(status=status, body=to_json({"status": "fail", "error": error}))


def firewall_error() -> Reply:
    """Return what a firewall before the service answers, whatever was asked."""
    return Reply(status=403, body=to_json({"error": "Forbidden", "message": "The sandbox was told to block."}))


def segment_item(segment: SandboxSegment) -> dict[str, object]:
    """Return a segment as it stands in a list."""
    return {
        "name": segment.name,
        "id": segment.id,
        "created_time": _moment(segment.created_at),
        "type": "ELASTIC_SEARCH" if segment.kind is Kind.FILTER else "FILE",
        "source": "API",
    }


def segment_data(segment: SandboxSegment) -> dict[str, object]:
    """Return a segment in full: with its filters, where it has some."""
    fields = segment_item(segment) | {"updated_time": _moment(segment.updated_at)}
    definition = segment.definition
    if definition is not None:
        fields |= {"description": definition.description, "included_filters": definition.included}
        if definition.excluded is not None:
            fields["excluded_filters"] = definition.excluded
    return fields


def _moment(at: float) -> str:
    """Return a moment without a zone, as the service sends it."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
