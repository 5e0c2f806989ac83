"""Answer the documented calls: credentials, body, workspace, and an answer in the shape of its version. Pure.

Each version has its own shape of error, and the documents disagree on the shape of success: see `Dialect`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.sandbox.bodies import Malformed, read_ask, read_object, read_target
from moe_segments.sandbox.records import Op, Refusal, SandboxSegment, Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.models import Credentials
    from moe_segments.sandbox.workspace import Workspace

__all__ = ["Api", "Call", "Dialect", "Reply", "server_error"]

_V2: Final = "/v2/custom-segments"
_V3: Final = "/v3/custom-segments"
_FILE_ROUTES: Final = {
    ("POST", f"{_V2}/file-segment"): Op.CREATE,
    ("PUT", f"{_V2}/file-segment/add-users"): Op.ADD,
    ("PUT", f"{_V2}/file-segment/remove-users"): Op.REMOVE,
    ("PUT", f"{_V2}/file-segment/replace"): Op.REPLACE,
}
_LIFECYCLE_ROUTES: Final = {
    ("PATCH", f"{_V2}/archive"): "archive",
    ("PATCH", f"{_V2}/unarchive"): "unarchive",
}
_PATHS: Final = {path for _, path in (*_FILE_ROUTES, *_LIFECYCLE_ROUTES)}
_OK, _ACCEPTED, _TOO_MANY = 200, 202, 429
_WRONG_METHOD: Final = Refusal(status=405, title="Method Not Allowed", description="Another method is documented.")
_NO_SUCH_CALL: Final = Refusal(status=404, title="Not Found", description="No such call is documented.")


class Dialect(StrEnum):
    """Which of the vendor's pages the answers follow, where the pages disagree.

    - `V2_202`: the newest pages: 202 with `cs_id`; get by id answers with a list.
    - `V2_202_NO_ID`: 202 without `cs_id`.
    - `V2_200`: a create is answered with a bare 200, no body.
    - `V2_ARCHIVE_200`: archive and unarchive answer 200 without `cs_id`.
    - `V3_OBJECT`: get by id answers with one object.
    """

    V2_202 = "v2-202"
    V2_202_NO_ID = "v2-202-no-id"
    V2_200 = "v2-200"
    V2_ARCHIVE_200 = "v2-archive-200"
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


class Api:
    """The documented calls over one workspace.

    Args:
        workspace: What is decided on.
        credentials: Who may call.
        dialect: Which pages the answers follow.
        retry_headers: Whether a 429 carries `Retry-After` and `x-ratelimit-*`.
    """

    def __init__(
        self, workspace: Workspace, credentials: Credentials, *, dialect: Dialect, retry_headers: bool
    ) -> None:
        self._workspace, self._credentials = workspace, credentials
        self._dialect, self._retry_headers = dialect, retry_headers
        self._ids = 0

    def answer(self, call: Call) -> Reply:
        """Decide one call. What it changes in the workspace is changed when this returns."""
        route = (call.method, call.path)
        if op := _FILE_ROUTES.get(route):
            return self._file(op, call)
        if lifecycle := _LIFECYCLE_ROUTES.get(route):
            return self._lifecycle(lifecycle, call)
        if call.path == _V3 or call.path.startswith(f"{_V3}/"):
            return self._v3(call)
        if call.path in _PATHS:
            return self._refuse_v2(_WRONG_METHOD)
        return self._refuse_v2(_NO_SUCH_CALL)

    def _file(self, op: Op, call: Call) -> Reply:
        name: str | None = None
        refusal = self._refuse_credentials(call)
        if refusal is None:
            try:
                fields = self._fields(call)
                name = read_target(fields)[0]
                outcome = self._workspace.submit(read_ask(op, fields, self._db_name(call)))
            except Malformed as problem:
                outcome = _malformed(problem)
            if isinstance(outcome, Submission):
                return self._accepted(op, outcome)
            refusal = outcome
        counted = self._workspace.rejected(refusal.status)
        return attrs.evolve(self._refuse_v2(refusal), op=op.value, segment=name, counted=counted)

    def _accepted(self, op: Op, submission: Submission) -> Reply:
        bare = self._dialect is Dialect.V2_200 and op is Op.CREATE
        return Reply(
            status=_OK if bare else _ACCEPTED,
            body=b"" if bare else self._success(f"{op} was accepted", submission.segment),
            op=op.value,
            segment=submission.segment.name,
            counted=submission.counted,
            submission=submission,
        )

    def _lifecycle(self, op: str, call: Call) -> Reply:
        name: str | None = None
        outcome: SandboxSegment | Refusal | None = self._refuse_credentials(call)
        if outcome is None:
            try:
                name, cs_id = read_target(self._fields(call))
                act = self._workspace.archive if op == "archive" else self._workspace.unarchive
                outcome = act(name, cs_id)
            except Malformed as problem:
                outcome = _malformed(problem)
        if isinstance(outcome, Refusal):
            return attrs.evolve(self._refuse_v2(outcome), op=op, segment=name)
        old = self._dialect is Dialect.V2_ARCHIVE_200
        body = self._success(f"{op} was done", outcome, with_id=not old)
        return Reply(status=_OK if old else _ACCEPTED, body=body, op=op, segment=outcome.name)

    def _v3(self, call: Call) -> Reply:
        cs_id = call.path.removeprefix(_V3).removeprefix("/")
        op = "get" if cs_id else "list"
        refusal = self._refuse_v3_call(call)
        data = refusal or (self._get(cs_id) if cs_id else self._list(call.name))
        if isinstance(data, Refusal):
            return attrs.evolve(self._refuse_v3(data), op=op, segment=call.name)
        return Reply(status=_OK, body=self._envelope(data=data), op=op, segment=call.name)

    def _refuse_v3_call(self, call: Call) -> Refusal | None:
        if call.method != "GET":
            return _WRONG_METHOD
        if refusal := self._refuse_credentials(call):
            return refusal
        if call.headers.get("MOE-APPKEY") != self._credentials.workspace_id:
            text = "The header MOE-APPKEY must be the workspace ID."
            return Refusal(status=400, title="Request Error", description=text)
        return None

    def _list(self, name: str | None) -> list[Mapping[str, object]] | Refusal:
        listed = self._workspace.listed(name)
        return listed if isinstance(listed, Refusal) else [_segment_json(segment) for segment in listed]

    def _get(self, cs_id: str) -> list[Mapping[str, object]] | Mapping[str, object] | Refusal:
        segment = self._workspace.get(cs_id)
        if isinstance(segment, Refusal):
            return segment
        if self._dialect is not Dialect.V3_OBJECT:
            return [_segment_json(segment)] if segment else []
        if segment is None:
            return Refusal(status=404, title="Entity Not Found", description=f"No segment has the id {cs_id!r}.")
        return _segment_json(segment)

    def _fields(self, call: Call) -> Mapping[str, object]:
        if call.body is None:
            raise Malformed("The body is too large.")
        return read_object(call.body, call.headers.get("Content-Type", ""))

    def _db_name(self, call: Call) -> str:
        named = call.headers.get("MOE-DBNAME") or call.headers.get("Database")
        return named or self._credentials.db_name or "sandbox"

    def _refuse_credentials(self, call: Call) -> Refusal | None:
        scheme, _, encoded = call.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            given = b""
        wanted = f"{self._credentials.workspace_id}:{self._credentials.api_key}".encode()
        if scheme.lower() == "basic" and hmac.compare_digest(given, wanted):
            return None
        text = "The workspace ID and its API key do not belong together."
        return Refusal(status=401, title="Authentication required", description=text)

    def _success(self, message: str, segment: SandboxSegment, *, with_id: bool = True) -> bytes:
        body: dict[str, object] = {"message": message, "success": True, "cs_name": segment.name}
        if with_id and self._dialect is not Dialect.V2_202_NO_ID:
            body["cs_id"] = segment.id
        return _json(body)

    def _refuse_v2(self, refusal: Refusal) -> Reply:
        body = {"title": refusal.title, "description": refusal.description}
        return self._refused(refusal, _json(body))

    def _refuse_v3(self, refusal: Refusal) -> Reply:
        error: dict[str, object] = {"code": refusal.title, "message": refusal.description}
        if refusal.limit == "active_segments":
            error |= {"actual_count": refusal.used, "limit": refusal.capacity}
        return self._refused(refusal, self._envelope(error=error))

    def _refused(self, refusal: Refusal, body: bytes) -> Reply:
        headers = self._headers(refusal) if self._retry_headers and refusal.status == _TOO_MANY else {}
        return Reply(status=refusal.status, body=body, headers=headers, limit=refusal.limit)

    def _headers(self, refusal: Refusal) -> dict[str, str]:
        headers = {"x-ratelimit-limit": str(refusal.capacity), "x-ratelimit-remaining": "0"}
        if refusal.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(refusal.retry_after_s))
            headers["x-ratelimit-reset"] = str(math.ceil(self._workspace.now() + refusal.retry_after_s))
        return headers

    def _envelope(self, **content: object) -> bytes:
        self._ids += 1
        return _json({**content, "response_id": f"{self._ids:08x}", "type": "custom_segment"})


def server_error(path: str, status: int, *, has_body: bool) -> Reply:
    """What the service or a gateway before it answers when it breaks: JSON for 500, else HTML or nothing."""
    title = {
        500: "Internal Server Error",
        502: "Bad Gateway",
        503: "Service Unavailable",
        504: "Gateway Timeout",
    }
    if status != 500:  # noqa: PLR2004 - the only one with a documented body
        page = f"<html><head><title>{status} {title[status]}</title></head></html>".encode() if has_body else b""
        return Reply(status=status, body=page, headers={"Content-Type": "text/html"})
    if path.startswith(_V3):
        error = {"code": title[status], "message": "The sandbox was told to fail."}
        return Reply(status=status, body=_json({"response_id": "0", "type": "custom_segment", "error": error}))
    return Reply(status=status, body=_json({"title": title[status]}))


def _malformed(problem: Malformed) -> Refusal:
    return Refusal(status=400, title="Invalid Request", description=str(problem))


def _segment_json(segment: SandboxSegment) -> Mapping[str, object]:
    created = datetime.fromtimestamp(segment.created_at, UTC).replace(tzinfo=None)
    return {
        "name": segment.name,
        "id": segment.id,
        "created_time": created.isoformat(timespec="microseconds"),  # without a zone, as the service sends it
        "type": "FILE",
        "source": "API",
    }


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value).encode()
