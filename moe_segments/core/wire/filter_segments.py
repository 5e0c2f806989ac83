"""Requests and answers of filter segments: create, update, and one segment by its identifier. Pure.

The rules of `core.wire.file_segments` hold here too.

Source: https://moengage.com/docs/api/filter-segments/create-filter-segment and its neighbours, read 2026-08-01.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Final

from moe_segments.core.wire.file_segments import JSON_TYPE, Request, check_id, headers_for, segment_at, value_of
from moe_segments.core.wire.strict_json import Mismatch, object_at
from moe_segments.errors import AnswerShapeError, InputError, NotFound
from moe_segments.models import CreateFilterSegment, UpdateFilterSegment
from moe_segments.types import UNSET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.wire.file_segments import Answer
    from moe_segments.models import Credentials, FilterOperation, Segment

__all__ = ["are_other_filters", "decode_got", "decode_made", "encode_filter", "filters_digest", "payload_of"]

SEGMENTS_PATH: Final = "/v3/custom-segments"
_TO_JSON: Final = json.JSONEncoder(separators=(",", ":")).encode
_OK: Final = 200


def encode_filter(operation: FilterOperation, *, credentials: Credentials) -> Request:
    """Return the request of a filter-segment operation.

    Raises:
        InputError: It has no filters, an action filter does not say when, or the identifier is none.
    """
    secrets: tuple[str, ...] = ()
    if isinstance(operation, CreateFilterSegment):
        method, path = "POST", SEGMENTS_PATH
    else:
        method, path = "PATCH", f"{SEGMENTS_PATH}/{check_id(operation.cs_id)}"
        secrets = (operation.updated_by,) if operation.updated_by else ()
    return Request(
        method=method,
        path=path,
        headers=headers_for(credentials) | {"Content-Type": JSON_TYPE},
        body=_TO_JSON(payload_of(operation)).encode("ascii"),
        secrets=secrets,
    )


def payload_of(operation: FilterOperation) -> dict[str, Any]:
    """Return the body of a filter-segment operation, as JSON data.

    Raises:
        InputError: It has no filters, or an action filter does not say when.
    """
    from moe_segments.models.filters.values import FilterGroup, RawFilter  # who sends no filter does not pay for them

    included = operation.included_filters
    if _has_none(operation):
        raise InputError("give at least one filter: none would mean everybody", "included_filters")
    fields: dict[str, Any] = {"name": operation.name, "included_filters": included.to_payload()}
    excluded = operation.excluded_filters
    if isinstance(excluded, FilterGroup | RawFilter):
        fields["excluded_filters"] = excluded.to_payload()
    elif excluded is None and isinstance(operation, UpdateFilterSegment):
        fields["excluded_filters"] = None
    if isinstance(operation, UpdateFilterSegment) and operation.updated_by:
        fields["updated_by"] = operation.updated_by
    return {name: value for name, value in fields.items() if value is not UNSET} | dict(operation.extra)


def filters_digest(operation: FilterOperation, *, job_id: str, api_key: str) -> str | None:
    """Return a digest of an operation's filters: it tells other filters apart and reveals nothing.

    Filters may be about people, and a plain digest of a short one could be guessed from. So it is keyed with the API
    key, which the journal does not hold, and the job; a part before the colon tells one key from another.

    Returns:
        The digest; None for an operation that was recalled without its filters.

    Raises:
        InputError: An action filter does not say when.
    """
    if _has_none(operation):
        return None
    beside = ("name", "updated_by")  # the journal has the one, and the other is about who, not about what
    told = {name: value for name, value in payload_of(operation).items() if name not in beside}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return f"{_keyed(api_key, f'key {job_id}')[:8]}:{_keyed(api_key, f'filters {job_id} {text}')[:32]}"


def are_other_filters(kept: object, asked: str | None) -> bool:
    """Return whether two digests of one job are of different filters. False where that cannot be told."""
    if not isinstance(kept, str) or asked is None or kept.partition(":")[0] != asked.partition(":")[0]:
        return False
    return kept != asked


def _keyed(api_key: str, text: str) -> str:
    return hmac.new(api_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def decode_made(answer: Answer, *, job_id: str | None = None) -> Segment:
    """Return the segment that a create or an update answered with.

    Raises:
        AnswerShapeError: Not as documented.
    """
    try:
        return segment_at(_data_of(answer), "$.data")
    except Mismatch as mismatch:
        raise AnswerShapeError(answer.status, str(mismatch), job_id) from None


def _has_none(operation: FilterOperation) -> bool:
    return getattr(operation.included_filters, "filters", None) == ()


def decode_got(answer: Answer, cs_id: str) -> Segment:
    """Return the segment of this identifier in an answer that holds one object, or a list as the documents have it.

    Raises:
        NotFound: The list is empty, or holds other segments only.
        AnswerShapeError: Not as documented.
    """
    try:
        data = _data_of(answer)
        if not isinstance(data, list):
            return segment_at(data, "$.data")
        segments = [segment_at(item, f"$.data[{index}]") for index, item in enumerate(data)]
    except Mismatch as mismatch:
        raise AnswerShapeError(answer.status, str(mismatch)) from None
    for segment in segments:
        if segment.id == cs_id:
            return segment
    raise NotFound(_OK, "Not Found", f"the service lists no segment {cs_id}")


def _data_of(answer: Answer) -> object:
    envelope: Mapping[str, object] = object_at(value_of(answer), "$")
    return envelope.get("data")
