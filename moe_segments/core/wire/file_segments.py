"""Encode requests; decode answers to values or errors. Pure: no clock, no I/O.

Rules of this file. What we send holds documented fields only. What we read is strict in type ("201" is not
201, null is not "None", true is not 1) and gentle in content: unknown fields go to `extra`, unknown text
passes through, and nothing is decided by matching on text. Whatever the bytes, each raises only what it says.

Source: https://moengage.com/docs/api/file-segments/create-file-segment and its neighbours, read 2026-08-01.
"""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus, urlsplit

import attrs

from moe_segments.core.wire.strict_json import (
    MAX_COUNT,
    Mismatch,
    cleaned,
    http_date,
    json_value,
    moment,
    number,
    object_at,
    structured,
)
from moe_segments.errors import (
    AnswerShapeError,
    ApiError,
    AuthenticationFailed,
    BadRequest,
    Conflict,
    Forbidden,
    InputError,
    NotFound,
    ServerError,
    TooManyRequests,
)
from moe_segments.models import (
    Accepted,
    AddUsers,
    CreateFileSegment,
    FileOperation,
    RemoveUsers,
    ReplaceUsers,
    Segment,
)
from moe_segments.models.urls import server_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.models import Credentials, Operation

__all__ = [
    "Answer",
    "Request",
    "ThrottleFacts",
    "authorization",
    "check_id",
    "decode_acceptance",
    "decode_segments",
    "encode",
    "encode_get",
    "encode_list",
    "error_from",
    "error_kind",
    "headers_for",
    "segment_at",
    "throttle_facts",
    "value_of",
]

JSON_TYPE: Final = "application/json"
_TO_JSON: Final = json.JSONEncoder(separators=(",", ":")).encode

_FILE_SEGMENT: Final = "/v2/custom-segments/file-segment"
_SEGMENTS: Final = "/v3/custom-segments"
_ROUTES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "create": ("POST", _FILE_SEGMENT),
        "add": ("PUT", f"{_FILE_SEGMENT}/add-users"),
        "remove": ("PUT", f"{_FILE_SEGMENT}/remove-users"),
        "replace": ("PUT", f"{_FILE_SEGMENT}/replace"),
        "archive": ("PATCH", "/v2/custom-segments/archive"),
        "unarchive": ("PATCH", "/v2/custom-segments/unarchive"),
    }
)
_ERRORS: Final[Mapping[int, type[ApiError]]] = MappingProxyType(
    {
        400: BadRequest,
        401: AuthenticationFailed,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        412: BadRequest,
        413: BadRequest,
        429: TooManyRequests,
    }
)
_KEPT_HEADERS: Final = frozenset(
    {
        "content-type",
        "date",
        "location",
        "retry-after",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    }
)
_TIMES: Final = ("created_time", "updated_time")
_REDIRECTS: Final = range(300, 400)
_ELSEWHERE: Final = "another address"
_MAX_DETAILS: Final = 32
_SECRET_MIN_CHARS: Final = 16  # shorter parts of a URL are words, and words occur in honest answers
_MAX_WAIT_S: Final = 32 * 86_400.0  # a longer wait is a misread header


@attrs.frozen(kw_only=True)
class Request:
    """One HTTP request, without the Authorization header: the transport adds that.

    Attributes:
        method: The HTTP method.
        path: The path below the origin.
        query: Pairs of the query, not yet encoded.
        headers: Header names and values.
        body: The body, JSON; None for none. Shown as a size only.
        secrets: Parts of the body that an answer may echo and nobody should read: tokens, signatures, addresses.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    body: bytes | None = attrs.field(default=None, repr=lambda body: "None" if body is None else _size(body))
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)


def _size(body: bytes) -> str:
    return f"<{len(body)} bytes>"


def _kept(headers: Mapping[str, str]) -> Mapping[str, str]:
    lowered = ((name.lower(), value) for name, value in headers.items())
    kept = {name: value for name, value in lowered if name in _KEPT_HEADERS}
    if "location" in kept:
        kept["location"] = cleaned(server_of(kept["location"]) or _ELSEWHERE)
    return kept


@attrs.frozen
class Answer:
    """One HTTP answer.

    Attributes:
        status: The HTTP status.
        headers: The headers of use to us, names in lower case.
        body: The body, decompressed. Shown as a size only.
        body_complete: Whether *body* was read to its end; False when the connection broke or it was too long.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=_kept, hash=False)
    body: bytes = attrs.field(default=b"", repr=_size)
    body_complete: bool = True

    def header(self, name: str) -> str | None:
        """Return a header of the answer.

        Args:
            name: Its name, in any case.

        Returns:
            Its value; None where there is none.
        """
        return self.headers.get(name.lower())


@attrs.frozen(kw_only=True)
class ThrottleFacts:
    """The facts of a 429; all of them optional.

    Attributes:
        wait_s: Seconds to wait, from the answer on.
        named_limit_capacity: The capacity of the limit that was hit, which tells which limit it was.
        actual_count: Active segments as the service counts them.
        limit: How many active segments it allows.
    """

    wait_s: float | None = None
    named_limit_capacity: int | None = None
    actual_count: int | None = None
    limit: int | None = None


def encode(
    operation: Operation,
    *,
    credentials: Credentials,
    file_url: str | None = None,
    callback_url: str | None = None,
    content_type: str = JSON_TYPE,
) -> Request:
    """Return the request of an operation.

    Args:
        operation: What to do.
        credentials: Whose workspace and which database; the key is not used here.
        file_url: Where the file was published; None for the operation's own.
        callback_url: The address with its token; None for the operation's own.
        content_type: Sent with file-segment operations; lifecycle calls are documented as JSON only.

    Raises:
        InputError: A file-segment operation without any URL: its file has to be published first.
    """
    method, path = _ROUTES[operation.op]
    fields: dict[str, object] = {"name": operation.name}
    if isinstance(operation, FileOperation):
        fields |= _file_fields(operation, file_url, callback_url)
    else:
        content_type = JSON_TYPE
    if not isinstance(operation, CreateFileSegment):
        fields["cs_id"] = operation.cs_id
    present = {name: value for name, value in fields.items() if value is not None}
    return Request(
        method=method,
        path=path,
        headers=headers_for(credentials) | {"Content-Type": content_type},
        body=_TO_JSON(present).encode("ascii"),
        secrets=(*_secrets(present.get("file_url"), present.get("callback_url")), *getattr(operation, "emails", ())),
    )


def encode_list(name: str | None, *, credentials: Credentials) -> Request:
    """Return the request that lists segments: those named exactly *name*, or all."""
    query = () if name is None else (("name", name),)
    return Request(method="GET", path=_SEGMENTS, query=query, headers=headers_for(credentials))


def encode_get(cs_id: str, *, credentials: Credentials) -> Request:
    """Return the request for one segment by its identifier.

    Raises:
        InputError: The identifier has other characters than letters and digits, so it is no identifier.
    """
    return Request(method="GET", path=f"{_SEGMENTS}/{check_id(cs_id)}", headers=headers_for(credentials))


def check_id(cs_id: str) -> str:
    """Return the identifier itself.

    Raises:
        InputError: It has other characters than letters and digits, so it is no identifier.
    """
    if not cs_id.isascii() or not cs_id.isalnum():
        raise InputError("must be the identifier as the service gave it: letters and digits", "cs_id")
    return cs_id


def authorization(credentials: Credentials) -> str:
    """Return the value of the Authorization header. A secret: add it to a request last and show it nowhere."""
    pair = f"{credentials.workspace_id}:{credentials.api_key}"
    return f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"


def _file_fields(
    operation: CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers,
    file_url: str | None,
    callback_url: str | None,
) -> dict[str, object]:
    url = file_url or operation.file_url
    if url is None:
        raise InputError("publish the file first: the service reads it from a URL", "file_url")
    return {
        "attribute_name": operation.attribute_name,
        "attribute_type": operation.attribute_type,
        "file_url": url,
        "callback_url": callback_url or operation.callback_url,
        "emails": list(operation.emails) or None,
        "expiry_time": operation.expiry_time if isinstance(operation, CreateFileSegment) else None,
    }


def headers_for(credentials: Credentials) -> dict[str, str]:
    """Return the headers of any request, without its content type and without Authorization."""
    headers = {"Accept": JSON_TYPE, "MOE-APPKEY": credentials.workspace_id}
    if credentials.db_name is not None:
        # One page names it Database, the newer ones MOE-DBNAME: both, until they agree.
        headers |= {"MOE-DBNAME": credentials.db_name, "Database": credentials.db_name}
    return headers


def _secrets(file_url: object, callback_url: object) -> tuple[str, ...]:
    parts = [*_query_parts(file_url), *_query_parts(callback_url)]
    if isinstance(callback_url, str):
        parts += urlsplit(callback_url).path.split("/")
    return tuple(part for part in dict.fromkeys(parts) if len(part) >= _SECRET_MIN_CHARS)


def _query_parts(url: object) -> list[str]:
    query = url.partition("?")[2] if isinstance(url, str) else ""
    if not query:
        return []
    values = [pair.partition("=")[2] for pair in query.split("&")]
    return [query, *values, *(unquote_plus(value) for value in values if "%" in value or "+" in value)]


def decode_acceptance(answer: Answer, operation: Operation, *, job_id: str | None = None) -> Accepted:
    """Return what a 2xx to an operation says. A bare one without a body is an acceptance too.

    Raises:
        AnswerShapeError: Not as documented: HTML, wrong types, `success: false`, broken off.
    """
    if answer.body_complete and not answer.body.strip():
        return Accepted(cs_name=operation.name)
    try:
        accepted = structured(Accepted, value_of(answer))
    except Mismatch as mismatch:
        raise AnswerShapeError(answer.status, str(mismatch), job_id) from None
    if accepted.success is False:
        raise AnswerShapeError(answer.status, "success is false @ $.success", job_id)
    return accepted if accepted.cs_name else attrs.evolve(accepted, cs_name=operation.name)


def decode_segments(answer: Answer) -> tuple[Segment, ...]:
    """Return the segments in an envelope `{data, response_id, type}`, where data is a list or one object.

    Raises:
        AnswerShapeError: Not as documented.
    """
    try:
        envelope = object_at(value_of(answer), "$")
        data = envelope.get("data")
        if isinstance(data, list):
            return tuple(segment_at(item, f"$.data[{index}]") for index, item in enumerate(data))
        return (segment_at(data, "$.data"),)
    except Mismatch as mismatch:
        raise AnswerShapeError(answer.status, str(mismatch)) from None


def error_from(answer: Answer, *, job_id: str | None = None) -> ApiError:
    """Return the error that a non-2xx answer is, by its status alone; the texts are for people.

    Decodes the four documented shapes; anything else (HTML, nothing) takes the status' own name for a title.
    `details` keeps the scalar fields of the error object, texts shortened.
    """
    body = _object_or_empty(answer)
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else {}
    return error_kind(answer.status)(
        answer.status,
        _first_text(body.get("title"), error.get("code"), error.get("type"), inner) or _phrase(answer.status),
        _first_text(body.get("description"), error.get("message"), body.get("message")) or _redirect(answer),
        _first_text(error.get("request_id"), body.get("request_id"), body.get("response_id")),
        _details(error or body),
        job_id,
    )


def error_kind(status: int) -> type[ApiError]:
    """Return the class of the error that an answer with this status is."""
    rest = ServerError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ApiError
    return _ERRORS.get(status, rest)


def throttle_facts(answer: Answer, *, now_s: float) -> ThrottleFacts:
    """Return what a 429 tells of when and which: the longest wait that its headers name. Garbage is ignored.

    Args:
        answer: The 429.
        now_s: Our wall clock, epoch seconds; used for moments where the answer has no Date of its own.
    """
    dated_s = http_date(answer.header("date"))
    reference_s = now_s if dated_s is None else dated_s
    named = (
        number(answer.header("retry-after")),
        _since(http_date(answer.header("retry-after")), reference_s),
        _since(number(answer.header("x-ratelimit-reset")), reference_s),
    )
    waits_s = [max(0.0, wait_s) for wait_s in named if wait_s is not None and abs(wait_s) <= _MAX_WAIT_S]
    capacity = number(answer.header("x-ratelimit-limit"))
    inner = _object_or_empty(answer).get("error")
    error = inner if isinstance(inner, dict) else {}
    return ThrottleFacts(
        wait_s=max(waits_s, default=None),
        named_limit_capacity=int(capacity) if capacity is not None and capacity >= 1 else None,
        actual_count=_count(error.get("actual_count")),
        limit=_count(error.get("limit")),
    )


def value_of(answer: Answer) -> object:
    """Return the JSON value of an answer that was read to its end.

    Raises:
        Mismatch: It was not, or is no JSON.
    """
    if not answer.body_complete:
        raise Mismatch(f"the body broke off, or is longer than is read, after {len(answer.body):,} bytes @ $")
    return json_value(answer.body)


def _object_or_empty(answer: Answer) -> dict[str, object]:
    try:
        return object_at(value_of(answer), "$")
    except Mismatch:
        return {}


def segment_at(value: object, path: str) -> Segment:
    """Return the segment that a JSON object is; a time that cannot be read stays in `extra` as it is.

    Raises:
        Mismatch: The value is no segment.
    """
    fields = object_at(value, path)
    try:
        return structured(Segment, fields, path)
    except Mismatch:
        unreadable = {name: fields[name] for name in _TIMES if _is_unreadable(fields.get(name))}
        if not unreadable:
            raise
    segment = structured(Segment, {name: item for name, item in fields.items() if name not in unreadable}, path)
    return attrs.evolve(segment, extra={**segment.extra, **unreadable})


def _is_unreadable(time: object) -> bool:
    return isinstance(time, str) and moment(time) is None


def _first_text(*candidates: object) -> str | None:
    texts = (cleaned(text) for text in candidates if isinstance(text, str))
    return next((text for text in texts if text), None)


def _details(error: Mapping[str, object]) -> dict[str, object]:
    scalars = [(name, value) for name, value in error.items() if not isinstance(value, dict | list)]
    return {
        cleaned(name): cleaned(value) if isinstance(value, str) else value for name, value in scalars[:_MAX_DETAILS]
    }


def _redirect(answer: Answer) -> str | None:
    """Return what helps after a redirect, which is never followed; None for any other answer."""
    if answer.status not in _REDIRECTS:
        return None
    to = answer.header("location") or _ELSEWHERE
    return f"it redirects to {to}, which is not followed: check base_url and data_center"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown Status"


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def _since(moment_s: float | None, reference_s: float) -> float | None:
    return None if moment_s is None else moment_s - reference_s
