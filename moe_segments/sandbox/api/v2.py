"""Answer the documented calls: credentials, body, workspace, and an answer in the shape of its version. Pure.

Each version has its own shape of error, and the documents disagree on the shape of success: see `Dialect`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.sandbox.api.answers import V2, V3, Dialect, Reply, to_json, v2_error
from moe_segments.sandbox.api.bodies import Malformed, read_ask, read_object, read_target
from moe_segments.sandbox.api.v3 import ApiV3
from moe_segments.sandbox.model.records import Op, Refusal, SandboxSegment, Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.models import Credentials
    from moe_segments.sandbox.api.answers import Call
    from moe_segments.sandbox.model.workspace import Workspace

__all__ = ["Api"]

_FILE_ROUTES: Final = {
    ("POST", f"{V2}/file-segment"): Op.CREATE,
    ("PUT", f"{V2}/file-segment/add-users"): Op.ADD,
    ("PUT", f"{V2}/file-segment/remove-users"): Op.REMOVE,
    ("PUT", f"{V2}/file-segment/replace"): Op.REPLACE,
}
_LIFECYCLE_ROUTES: Final = {
    ("PATCH", f"{V2}/archive"): "archive",
    ("PATCH", f"{V2}/unarchive"): "unarchive",
}
_METHODS: Final = {path: method for method, path in (*_FILE_ROUTES, *_LIFECYCLE_ROUTES)}
_OK, _ACCEPTED, _TOO_MANY = 200, 202, 429
_WRONG_METHOD: Final = Refusal(status=405, title="Method Not Allowed", description="Another method is documented.")
_NO_SUCH_CALL: Final = Refusal(status=404, title="Not Found", description="No such call is documented.")


class Api:
    """The documented calls over one workspace.

    Args:
        workspace: What is decided on.
        credentials: Who may call.
        dialects: Which pages the answers follow.
        retry_headers: Whether a 429 carries `Retry-After` and `x-ratelimit-*`.
    """

    def __init__(
        self, workspace: Workspace, credentials: Credentials, *, dialects: frozenset[Dialect], retry_headers: bool
    ) -> None:
        self._workspace, self._credentials = workspace, credentials
        self._dialects, self._retry_headers = dialects, retry_headers
        self._wanted = f"{credentials.workspace_id}:{credentials.api_key}".encode()
        self._v3 = ApiV3(
            workspace,
            credentials,
            dialects=dialects,
            refuse_credentials=self._refuse_credentials,
            throttle_headers=self._throttle_headers,
        )

    def answer(self, call: Call) -> Reply:
        """Decide one call. What it changes in the workspace is changed when this returns."""
        route = (call.method, call.path)
        if op := _FILE_ROUTES.get(route):
            return self._file(op, call)
        if lifecycle := _LIFECYCLE_ROUTES.get(route):
            return self._lifecycle(lifecycle, call)
        if call.path == V3 or call.path.startswith(f"{V3}/"):
            return self._v3.answer(call)
        if method := _METHODS.get(call.path):
            return attrs.evolve(self._refuse_v2(_WRONG_METHOD), headers={"Allow": method})
        return self._refuse_v2(_NO_SUCH_CALL)

    def _file(self, op: Op, call: Call) -> Reply:
        name: str | None = None
        refusal = self._refuse_credentials(call) or self._refuse_headers(call)
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
        bare = Dialect.V2_200 in self._dialects and op is Op.CREATE
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
        outcome: SandboxSegment | Refusal | None = self._refuse_credentials(call) or self._refuse_headers(call)
        if outcome is None:
            try:
                name, cs_id = read_target(self._fields(call))
                act = self._workspace.archive if op == "archive" else self._workspace.unarchive
                outcome = act(name, cs_id)
            except Malformed as problem:
                outcome = _malformed(problem)
        if isinstance(outcome, Refusal):
            return attrs.evolve(self._refuse_v2(outcome), op=op, segment=name)
        old = Dialect.V2_ARCHIVE_200 in self._dialects
        body = self._success(f"{op} was done", outcome, with_id=not old)
        return Reply(status=_OK if old else _ACCEPTED, body=body, op=op, segment=outcome.name)

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
        if scheme.lower() == "basic" and hmac.compare_digest(given, self._wanted):
            return None
        text = "The workspace ID and its API key do not belong together."
        return Refusal(status=401, title="Authentication required", description=text)

    def _refuse_headers(self, call: Call) -> Refusal | None:
        if Dialect.V2_DBNAME not in self._dialects or call.headers.get("MOE-DBNAME"):
            return None
        return Refusal(status=400, title="Request Error", description="The header MOE-DBNAME is required.")

    def _success(self, message: str, segment: SandboxSegment, *, with_id: bool = True) -> bytes:
        body: dict[str, object] = {"message": message, "success": True, "cs_name": segment.name}
        if with_id and Dialect.V2_202_NO_ID not in self._dialects:
            body["cs_id"] = segment.id
        return to_json(body)

    def _refuse_v2(self, refusal: Refusal) -> Reply:
        headers = self._throttle_headers(refusal)
        return Reply(status=refusal.status, body=v2_error(refusal), headers=headers, limit=refusal.limit)

    def _throttle_headers(self, refusal: Refusal) -> Mapping[str, str]:
        return self._headers(refusal) if self._retry_headers and refusal.status == _TOO_MANY else {}

    def _headers(self, refusal: Refusal) -> dict[str, str]:
        headers = {"x-ratelimit-limit": str(refusal.capacity), "x-ratelimit-remaining": "0"}
        if refusal.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(refusal.retry_after_s))
            headers["x-ratelimit-reset"] = str(math.ceil(self._workspace.now() + refusal.retry_after_s))
        return headers


def _malformed(problem: Malformed) -> Refusal:
    return Refusal(status=400, title="Invalid Request", description=str(problem))
