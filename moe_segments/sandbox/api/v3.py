"""Answer the v3 calls: list and get any segment, create and update those of filters. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.sandbox.api.answers import V3, Dialect, Reply, segment_data, segment_item, to_json, v3_error
from moe_segments.sandbox.api.bodies import Malformed, read_filter_ask, read_object
from moe_segments.sandbox.model.filters import FilterProblem, TooComplex
from moe_segments.sandbox.model.records import FilterAsk, Refusal, SandboxSegment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_segments.models import Credentials
    from moe_segments.sandbox.api.answers import Call
    from moe_segments.sandbox.model.workspace import Workspace

__all__ = ["ApiV3"]

_WRONG_METHOD: Final = Refusal(status=405, title="Method Not Allowed", description="Another method is documented.")
_NO_SUCH_CALL: Final = Refusal(status=404, title="Not Found", description="No such call is documented.")
_COLLECTION: Final = {"GET": "list", "POST": "create_filter"}
_SEGMENT: Final = {"GET": "get", "PATCH": "update_filter"}


class ApiV3:
    """The v3 calls over one workspace.

    Args:
        workspace: What is decided on.
        credentials: Who may call; its workspace ID is also due in MOE-APPKEY.
        dialects: Which pages the answers follow.
        refuse_credentials: Says why a call may not be answered at all.
        throttle_headers: The headers of a 429.
    """

    def __init__(
        self,
        workspace: Workspace,
        credentials: Credentials,
        *,
        dialects: frozenset[Dialect],
        refuse_credentials: Callable[[Call], Refusal | None],
        throttle_headers: Callable[[Refusal], Mapping[str, str]],
    ) -> None:
        self._workspace, self._credentials, self._dialects = workspace, credentials, dialects
        self._refuse_credentials, self._throttle_headers = refuse_credentials, throttle_headers
        self._ids = 0

    def answer(self, call: Call) -> Reply:
        """Decide one call."""
        cs_id = call.path.removeprefix(V3).removeprefix("/")
        if not cs_id and call.path != V3:
            return self._refused(_NO_SUCH_CALL, call.name)
        calls = _SEGMENT if cs_id else _COLLECTION
        op = calls.get(call.method)
        if op is None:
            return attrs.evolve(self._refused(_WRONG_METHOD, call.name), headers={"Allow": ", ".join(calls)})
        if refusal := self._refuse(call):
            self._workspace.rejected(refusal.status, op)
            return self._refused(refusal, call.name, op)
        match op:
            case "list":
                return self._list(call.name)
            case "get":
                return self._get(cs_id)
            case _:
                return self._define(op, cs_id, call)

    def _refuse(self, call: Call) -> Refusal | None:
        if refusal := self._refuse_credentials(call):
            return refusal
        if call.headers.get("MOE-APPKEY") != self._credentials.workspace_id:
            text = "The header MOE-APPKEY must be the workspace ID."
            return Refusal(status=400, title="Request Error", description=text)
        return None

    def _list(self, name: str | None) -> Reply:
        listed = self._workspace.listed(name)
        if isinstance(listed, Refusal):
            return self._refused(listed, name, "list")
        return self._found([segment_item(segment) for segment in listed], name, "list")

    def _get(self, cs_id: str) -> Reply:
        segment = self._workspace.get(cs_id)
        if isinstance(segment, Refusal):
            return self._refused(segment, None, "get")
        name = segment.name if segment else None
        if Dialect.V3_OBJECT not in self._dialects:
            return self._found([segment_item(segment)] if segment else [], name, "get")
        if segment is None:
            text = f"No segment has the id {cs_id!r}."
            return self._refused(Refusal(status=404, title="Entity Not Found", description=text), None, "get")
        return self._found(segment_data(segment), name, "get")

    def _define(self, op: str, cs_id: str, call: Call) -> Reply:
        name: str | None = None
        try:
            ask = self._read(op, call)
            name = ask.name
            outcome = self._apply(cs_id, ask)
        except (Malformed, FilterProblem) as problem:
            outcome = Refusal(status=400, title="Invalid Request", description=str(problem))
        except TooComplex as problem:
            outcome = Refusal(status=413, title=problem.title, description=problem.description)
        if isinstance(outcome, Refusal):
            self._workspace.rejected(outcome.status, op)
            return self._refused(outcome, name, op)
        reply = self._found(segment_data(outcome), outcome.name, op)
        return reply if cs_id else attrs.evolve(reply, status=201)

    def _read(self, op: str, call: Call) -> FilterAsk:
        if call.body is None:
            raise TooComplex("Query length limit exceeded", "The body is too large: use fewer filters.")
        fields = read_object(call.body, call.headers.get("Content-Type", ""), types=("", "application/json"))
        return read_filter_ask(fields, self._workspace.complexity, is_update=op == "update_filter")

    def _apply(self, cs_id: str, ask: FilterAsk) -> SandboxSegment | Refusal:
        return self._workspace.update_filter(cs_id, ask) if cs_id else self._workspace.create_filter(ask)

    def _found(self, data: object, name: str | None, op: str) -> Reply:
        body = {"data": data, "response_id": self._response_id(), "type": "custom_segment"}
        return Reply(status=200, body=to_json(body), op=op, segment=name)

    def _refused(self, refusal: Refusal, name: str | None, op: str | None = None) -> Reply:
        return Reply(
            status=refusal.status,
            body=v3_error(refusal, self._response_id()),
            headers=self._throttle_headers(refusal),
            op=op,
            segment=name,
            limit=refusal.limit,
        )

    def _response_id(self) -> str:
        self._ids += 1
        return f"{self._ids:08x}"
