"""The commands that look at segments, and those for segments of filters."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments import UNSET, CreateFilterSegment, UpdateFilterSegment, payload_from_json
from moe_segments.bulk import EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.commands.quota import waiting_sentence, what_it_waits_for
from moe_segments.cli.running import check_seconds, run, tell, unless_stopped
from moe_segments.cli.session import open_session
from moe_segments.cli.table import Column, Table, show_facts, terminal_width
from moe_segments.errors import InputError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from moe_segments import FilterOperation, Segment
    from moe_segments.cli.options import Common

__all__ = ["create_filter", "get_one", "list_all", "update_filter"]

_STDIN: Final = "-"
_MOST_BYTES: Final = 10_000_000  # a definition has kilobytes; more is another file


def list_all(name: str | None, max_wait: float, common: Common) -> int:
    """List segments. Returns the exit code."""
    return run(lambda stop: _list(name, max_wait, common, stop))


def get_one(cs_id: str, max_wait: float, common: Common) -> int:
    """Show one segment. Returns the exit code."""
    return run(lambda stop: _get(cs_id, max_wait, common, stop))


def create_filter(name: str | None, filters: str, max_wait: float, common: Common) -> int:
    """Create a segment of filters. Returns the exit code."""
    return _submitted(filters, lambda payload: CreateFilterSegment.from_payload(payload, name=name), max_wait, common)


def update_filter(
    cs_id: str, filters: str, name: str | None, updated_by: str | None, max_wait: float, common: Common
) -> int:
    """Give a segment other filters. Returns the exit code."""

    def operation_of(payload: Mapping[str, Any]) -> FilterOperation:
        named = UNSET if name is None else name
        return UpdateFilterSegment.from_payload(cs_id, payload, name=named, updated_by=updated_by)

    return _submitted(filters, operation_of, max_wait, common)


def _submitted(
    filters: str, operation_of: Callable[[Mapping[str, Any]], FilterOperation], max_wait: float, common: Common
) -> int:
    try:
        # Before the loop runs: standard input may be waited for, and Ctrl-C is to end that at once.
        operation = operation_of(_payload(filters))
    except InputError as error:
        return tell(error)
    return run(lambda stop: _submit(operation, max_wait, common, stop))


async def _list(name: str | None, max_wait: float, common: Common, stop: asyncio.Event) -> int:
    check_seconds(max_wait, "--max-wait")
    async with open_session(common) as session:
        segments = await unless_stopped(session.client.list_segments(name, max_wait_s=max_wait), stop)
    if common.json:
        output.document({"segments": [_as_json(segment) for segment in segments]})
        return EXIT_OK
    columns = (
        Column(name="segment", least=12),
        *(Column(name=name) for name in ("id", "created")),
        *(() if output.is_utc() else (Column(name="UTC"),)),
        *(Column(name=name) for name in ("type", "source")),
    )
    table = Table(columns, left_out=("UTC", "source", "type", "created"), room=terminal_width())
    if all(table.add(_cells(one)) for one in segments):
        table.end()
    return EXIT_OK


def _cells(one: Segment) -> list[str]:
    utc = [] if output.is_utc() else [output.utc_time(one.created_time)]
    return [one.name, one.id, output.local_time(one.created_time), *utc, one.type or "", one.source or ""]


async def _get(cs_id: str, max_wait: float, common: Common, stop: asyncio.Event) -> int:
    check_seconds(max_wait, "--max-wait")
    async with open_session(common) as session:
        segment = await unless_stopped(session.client.get_segment(cs_id, max_wait_s=max_wait), stop)
    _show(segment, common)
    return EXIT_OK


async def _submit(operation: FilterOperation, max_wait: float, common: Common, stop: asyncio.Event) -> int:
    check_seconds(max_wait, "--max-wait")
    async with open_session(common) as session:
        client = session.client
        if max_wait and (full := what_it_waits_for(await client.governor.usage(), is_call=True)):
            output.note(waiting_sentence(full))
        job = await unless_stopped(client.submit(operation, max_wait_s=max_wait), stop)
        assert job.segment is not None, "a filter-segment operation that was taken has one"
        _show(job.segment, common)
    return EXIT_OK


def _payload(source: str) -> dict[str, Any]:
    """Return the JSON that a file or standard input holds, as a whole payload.

    Raises:
        InputError: It cannot be read, or is no JSON object or list.
    """
    where = "standard input" if source == _STDIN else source
    try:
        raw = sys.stdin.buffer.read(_MOST_BYTES) if source == _STDIN else _read(Path(source).expanduser())
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror or error}", "--filters") from None
    try:
        return payload_from_json(raw)
    except InputError as error:
        separator = " " if error.problem.startswith("holds") else ": "
        raise InputError(f"{where}{separator}{error.problem}", "--filters") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _as_json(segment: Segment) -> dict[str, object]:
    """Return a segment for JSON, without the fields that the service left out, with its filters as they came."""
    fields = attrs.asdict(segment, recurse=False)
    told = {name: value.to_payload() if hasattr(value, "to_payload") else value for name, value in fields.items()}
    return {name: value for name, value in told.items() if value is not None}


def _show(segment: Segment, common: Common) -> None:
    if common.json:
        output.document(_as_json(segment))
        return
    show_facts({name: _text(value) for name, value in _as_json(segment).items() if value not in ({}, "")})


def _text(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value, indent=2, ensure_ascii=False)
    return output.clock_time(value) if isinstance(value, datetime) else str(value)
