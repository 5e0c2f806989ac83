"""The calls on filter segments, and the reads of segments of any kind. `SegmentsClient` inherits them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Protocol

from moe_segments.core.wire.strict_json import Mismatch, json_value
from moe_segments.errors import InputError
from moe_segments.limits import is_finite
from moe_segments.models import CreateFilterSegment, UpdateFilterSegment
from moe_segments.models.validators import problem_of_name
from moe_segments.submission.job_info import unknown_of
from moe_segments.types import UNSET, Unset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.client.job import Job
    from moe_segments.models import FilterOperation, Operation, Segment
    from moe_segments.models.filters.payloads import Filters
    from moe_segments.submission.tasks import CallTasks

__all__ = ["FilterSegmentCalls", "check_wait", "payload_from_json"]


class _Client(Protocol):
    """The part of the client that these calls need."""

    _call_tasks: CallTasks

    async def submit(self, operation: Operation | FilterOperation, *, max_wait_s: float = 0.0) -> Job: ...

    def _check_usable(self) -> None: ...


class FilterSegmentCalls:
    """The calls of the v3 half of the API."""

    async def create_filter_segment(
        self: _Client,
        *,
        name: str | None = None,
        included_filters: Filters | None = None,
        excluded_filters: Filters | None = None,
        payload: Mapping[str, Any] | None = None,
        max_wait_s: float = 0.0,
    ) -> Segment:
        r"""Create a segment of all users that fit filters. Takes one active segment.

        ```python
        await client.create_filter_segment(
            name="buyers_of_pune",
            included_filters=attribute("city").is_in("Pune") & did("Purchase").at_least(2).in_the_last(days=30))
        ```

        Args:
            name: At most 200 characters, none of `: | * ? \ < > = $ "`, no leading dot; used up for ever.
            included_filters: Who belongs to it, see `attribute` and `did`; several are to hold together; JSON of the
                dashboard's *Segment Payload* is taken as it is.
            excluded_filters: Who does not, although they fit. As in the dashboard's payload; not in the documents.
            payload: A whole *Segment Payload* instead of the filters, with all its fields; *name* wins over its own.
            max_wait_s: Longest wait for quota and segment, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The segment as the service made it.

        Raises:
            InputError: A value breaks a documented rule; nothing was sent.
            NameTaken: The journal knows that the name is used up; nothing was sent.
            QuotaExceeded: As many segments are active as may be, or the calls of the minute, hour or day are spent.
            Conflict: The name, or the same set of filters, exists: `existing_cs_name`, `existing_cs_id`.
            BadRequest: The service does not take the filters; 413: they are too many or nested too deeply.
            TooManyRequests: Something outside this journal uses the quota; `actual_count` where the service counted
                active segments.
            OutcomeUnknown: Sent, answer lost. It is looked for by its name; `client.job(job_id)` knows what was found.
            NotSent: No connection could be made.

        Source: https://moengage.com/docs/api/filter-segments/create-filter-segment, read 2026-08-01.
        """
        if payload is not None:
            _refuse_both(included_filters, excluded_filters)
            operation = CreateFilterSegment.from_payload(payload, name=name)
        else:
            operation = CreateFilterSegment(
                name=name,  # type: ignore[arg-type]  # the value refuses None with a sentence
                included_filters=_required(included_filters),
                excluded_filters=excluded_filters,
            )
        return await _made(self, operation, max_wait_s)

    async def update_filter_segment(
        self: _Client,
        cs_id: str,
        *,
        included_filters: Filters | None = None,
        name: str | Unset = UNSET,
        excluded_filters: Filters | Unset | None = UNSET,
        updated_by: str | None = None,
        payload: Mapping[str, Any] | None = None,
        max_wait_s: float = 0.0,
    ) -> Segment:
        """Give a filter segment other filters, and another name where wanted.

        The documents know no update of a file segment, an archived one, or one made inside the service: 403.

        Args:
            cs_id: The segment's identifier.
            included_filters: Who belongs to it from now on; required, also to change the name alone.
            name: Its new name; UNSET leaves the old one.
            excluded_filters: Who does not; UNSET leaves it open, None says that there are none. Not in the documents.
            updated_by: E-mail address of the person who updates.
            payload: A whole *Segment Payload* instead of the filters, with all its fields.
            max_wait_s: Longest wait for the segment, seconds.

        Returns:
            The segment as the service has it now.

        Raises:
            InputError: A value breaks a documented rule; nothing was sent.
            SegmentBusy: Another operation on this segment is not finished.
            Forbidden: This segment cannot be updated.
            NotFound: No such segment.
            Conflict: The name, or the same set of filters, exists: `existing_cs_name`, `existing_cs_id`.
            BadRequest: The filters are not taken; 412: they refer to the segment itself; 413: they are too complex.
            OutcomeUnknown: Sent, answer lost. The same update again is harmless: look with `get_segment` first.

        Source: https://moengage.com/docs/api/filter-segments/update-filter-segment, read 2026-08-01.
        """
        if payload is not None:
            _refuse_both(included_filters, excluded_filters)
            operation = UpdateFilterSegment.from_payload(cs_id, payload, name=name, updated_by=updated_by)
        else:
            operation = UpdateFilterSegment(
                cs_id=cs_id,
                included_filters=_required(included_filters),
                name=name,
                excluded_filters=excluded_filters,
                updated_by=updated_by,
            )
        return await _made(self, operation, max_wait_s)

    async def get_segment(self: _Client, cs_id: str, *, max_wait_s: float = 0.0) -> Segment:
        """Return one segment of any kind by its identifier. Spends one of 100 a minute, 1000 an hour and 4000 a day.

        Args:
            cs_id: The identifier, as the service gave it.
            max_wait_s: Longest wait for the quota, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The segment, as the service describes it.

        Raises:
            InputError: It is no identifier.
            NotFound: The service knows none.
            QuotaExceeded: The calls of the minute, the hour or the day are spent for longer than *max_wait_s*.
            TooManyRequests: Something outside this journal uses them.
            ApiError: Any other refusal, or no answer.
            AnswerShapeError: An answer that is not as documented.

        Source: https://moengage.com/docs/api/filter-segments/get-segment-by-id, read 2026-08-01.
        """
        self._check_usable()
        check_wait(max_wait_s)
        return await self._call_tasks.reader.get_segment(cs_id, max_wait_s=max_wait_s)

    async def list_segments(self: _Client, name: str | None = None, *, max_wait_s: float = 0.0) -> tuple[Segment, ...]:
        """List segments: those named exactly *name*, or all. The number of them is a hint, not a count.

        Spends one of 50 a minute, 200 an hour and 1000 a day, which creates of filter segments are taken to share.

        Args:
            name: The exact name; None for all.
            max_wait_s: Longest wait for the quota, seconds; 0 refuses at once, `math.inf` waits.

        Returns:
            The segments, in the order of the service.

        Raises:
            InputError: *name* cannot be a segment's name.
            QuotaExceeded: The calls of the minute, the hour or the day are spent for longer than *max_wait_s*.
            TooManyRequests: Something outside this journal uses them.
            ApiError: Any other refusal, or no answer.
            AnswerShapeError: An answer that is not as documented.

        Source: https://moengage.com/docs/api/filter-segments/list-segments, read 2026-08-01.
        """
        self._check_usable()
        if name is not None and (problem := problem_of_name(name)):
            raise InputError(problem, "name")
        check_wait(max_wait_s)
        return await self._call_tasks.reader.list_segments(name, max_wait_s=max_wait_s)


async def _made(client: _Client, operation: FilterOperation, max_wait_s: float) -> Segment:
    job = await client.submit(operation, max_wait_s=max_wait_s)
    if job.segment is None:
        raise unknown_of(job.record)
    return job.segment


def payload_from_json(text: str | bytes) -> dict[str, Any]:
    """Return the whole *Segment Payload* that a JSON text holds, for `payload=` and `from_payload`.

    Args:
        text: A payload of the dashboard, or its filters alone: one, a list of them, or a group.

    Returns:
        A payload with `included_filters`; other fields of a whole payload are kept.

    Raises:
        InputError: It is no JSON, or holds no filters.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value: Any = json_value(raw)
    except Mismatch as mismatch:
        raise InputError(f"{str(mismatch).removesuffix(' @ $')}{_where_broken(raw)}", "payload") from None
    match value:
        case {"included_filters": _}:
            return dict(value)
        case [*filters]:
            return {"included_filters": {"filter_operator": "and", "filters": filters}}
        case {"filter_type": _}:
            return {"included_filters": {"filter_operator": "and", "filters": [value]}}
        case {"filters": _}:
            return {"included_filters": value}
        case _:
            raise InputError("holds no filters: give a filter, a list, a group or a whole payload", "payload")


def _where_broken(raw: bytes) -> str:
    """Return where a text stops being JSON, and why; nothing where that is not what is wrong with it."""
    try:
        json.loads(raw)
    except json.JSONDecodeError as error:
        return f", line {error.lineno}, column {error.colno}: {error.msg}"
    except (ValueError, RecursionError):
        pass
    return ""


def check_wait(max_wait_s: float) -> None:
    """Refuse what is no time to wait.

    Raises:
        InputError: The value is no number of seconds from 0.
    """
    if max_wait_s != math.inf and (not is_finite(max_wait_s) or max_wait_s < 0):
        raise InputError(f"must be seconds from 0, or math.inf, not {max_wait_s!r}", "max_wait_s")


def _required(filters: Filters | None) -> Filters:
    if filters is None:
        raise InputError("give the filters, or a whole payload", "included_filters")
    return filters


def _refuse_both(*filters: Filters | Unset | None) -> None:
    if any(one is not None and one is not UNSET for one in filters):
        raise InputError("a payload brings its own filters: give one or the other", "payload")
