"""Decode callbacks: what the service says of a file that it processed. Pure: no clock, no I/O.

A callback comes once and cannot be asked for again, so more of it is read than of an answer: there a "201" is 201.

Source: https://moengage.com/docs/api/file-segments/create-file-segment and its neighbours, read 2026-08-01.
"""

from __future__ import annotations

import json
import re
import unicodedata
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.core.wire.strict_json import Mismatch, cleaned, json_value, object_at, structured, whole_number
from moe_segments.models import FileFailed, FileProcessed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CallbackVerdict", "Unparsed", "decode_callback", "unsigned"]

_COUNTS: Final = ("values_found", "values_processed", "user_count")
# As text and as JSON, in which a slash and an ampersand may be escaped; bounded, so that no body takes long.
_QUERIES: Final = rb"""(?i)(https?:(?:\\?/){2}[^\s?"'<>]{1,2048})\?(?:[^\s"'<>\\]|\\u[0-9a-f]{4}|\\/)+"""


@attrs.frozen
class Unparsed:
    """A callback that is not as documented.

    Attributes:
        reason: What did not fit, with its path; never a value of the body.
    """

    reason: str


CallbackVerdict: TypeAlias = FileProcessed | FileFailed | Unparsed


def decode_callback(body: bytes, names: Sequence[str] = ()) -> CallbackVerdict:
    """Return what a callback says: processed, failed, or unparsed and why. Never raises, whatever the bytes.

    Read is what is beyond doubt. The status alone makes a failure; a success needs all its counts. Where a field that
    decides nothing has another type, it goes to `extra` as it is.

    Args:
        body: The bytes as they came.
        names: What the segment may be called, the usual name first; empty: anything.
    """
    try:
        return _callback(object_at(json_value(unsigned(body)), "$"), names)
    except Mismatch as mismatch:
        return Unparsed(cleaned(str(mismatch)))


def unsigned(body: bytes) -> bytes:
    """Return a callback's bytes without the query of any URL: it may name a presigned file."""
    return re.sub(_QUERIES, rb"\1?***", body) if b"?" in body else body


def _callback(fields: Mapping[str, object], names: Sequence[str]) -> FileProcessed | FileFailed:
    if "status" not in fields:
        raise Mismatch("required field missing @ $.status")
    status = whole_number(fields["status"], "$.status")
    is_failure = HTTPStatus.BAD_REQUEST <= status <= 599  # noqa: PLR2004 - the last of the error statuses
    if not is_failure and status != HTTPStatus.CREATED:
        raise Mismatch("expected 201 or an error status @ $.status")
    known, odd = _labels(fields)
    known["status"] = status
    known["segment_name"] = _segment_name(fields.get("segment_name"), names)
    if is_failure:
        known["error_message"] = _error_message(fields.get("error_message"))
        made: FileProcessed | FileFailed = structured(FileFailed, known)
    else:
        known.update((name, whole_number(fields[name], f"$.{name}")) for name in _COUNTS if name in fields)
        made = _counted(structured(FileProcessed, known))
    return attrs.evolve(made, extra={**made.extra, **odd}) if odd else made


def _labels(fields: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Return the fields with labels as text, and those labels that are no text; a label decides nothing."""
    known, odd = dict(fields), dict[str, object]()
    for name in ("request_id", "db_name"):
        label = known.pop(name, None)
        if isinstance(label, str) or (text := _number_text(label)) is None:
            (known if isinstance(label, str) else odd)[name] = label
        else:
            known[name] = text
    return known, {name: label for name, label in odd.items() if label is not None}


def _number_text(value: object) -> str | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return cleaned(str(value)) if type(value) in (int, float) else None


def _segment_name(value: object, names: Sequence[str]) -> object:
    """Return the segment's name; that of the job where the callback has none: its token names the job already."""
    name = _number_text(value) or value
    if names and (name is None or (isinstance(name, str) and not name.strip())):
        return names[0]
    if names and isinstance(name, str) and name not in names and _same(name) not in {_same(known) for known in names}:
        raise Mismatch("another segment's name @ $.segment_name")
    return name


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _error_message(value: object) -> str:
    text = cleaned(value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False))
    return text or "the service gave no reason"


def _counted(processed: FileProcessed) -> FileProcessed:
    for name in _COUNTS:
        if getattr(processed, name) < 0:
            raise Mismatch(f"expected a count from 0 @ $.{name}")
    if processed.values_processed > processed.values_found:
        raise Mismatch("more values processed than found @ $.values_processed")
    return processed
