"""Read the JSON bodies of the calls as strictly as they are documented. Pure.

https://moengage.com/docs/api/file-segments/create-file-segment and its neighbours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from moe_segments.limits import FILE_CONTENT_TYPES, NAME_MAX_CHARS
from moe_segments.sandbox.model.filters import BLANK, is_text, read_definition, whole
from moe_segments.sandbox.model.records import Ask, FilterAsk, Op

if TYPE_CHECKING:
    from moe_segments.sandbox.model.filters import Complexity

__all__ = [
    "EMAIL",
    "EXPIRY_DAYS_MAX",
    "NAME",
    "URL",
    "Malformed",
    "read_ask",
    "read_filter_ask",
    "read_object",
    "read_target",
]

Fields: TypeAlias = Mapping[str, object]

EXPIRY_DAYS_MAX: Final = 2**31 - 1

# As patterns, since the OpenAPI document states the same ones.
EMAIL: Final = rf"^[^@{BLANK}]+@[^@{BLANK}]+\.[^@{BLANK}]+$"
_PORT: Final = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
URL: Final = (
    r"^[hH][tT][tT][pP][sS]?://([!-\"$-.0->A-Z\\^-~]*@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)"
    rf"(:{_PORT})?([/?#][!-~]*)?$"
)
_IN_NAME: Final = r":|*?\\<>=$\"\x00-\x1f\x7f-\x9f"
NAME: Final = (
    r"^(?![aA][lL][lL] [uU][sS][eE][rR][sS]$)"
    rf"[^.{_IN_NAME}{BLANK}]([^{_IN_NAME}]*[^{_IN_NAME}{BLANK}])?$"
)
_EMAIL, _URL, _NAME = map(re.compile, (EMAIL, URL, NAME))
_CONTENT_TYPES: Final = frozenset({"", "application/json", *FILE_CONTENT_TYPES})


class Malformed(Exception):
    """A request that is not as documented; its text says what is wrong."""


def read_object(body: bytes, content_type: str, *, types: Collection[str] = _CONTENT_TYPES) -> Fields:
    """Return the JSON object in a body.

    Args:
        body: The bytes as they came.
        content_type: The header; one of *types*.
        types: application/json, each documented type of a file, or empty.

    Raises:
        Malformed: Another content type, or no JSON object.
    """
    if content_type.partition(";")[0].strip().lower() not in types:
        raise Malformed("Content-Type must be application/json.")
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Malformed("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise Malformed("The body must be a JSON object.")
    return value


def read_target(fields: Fields) -> tuple[str, str | None]:
    """Return the name and the identifier a call is about.

    Raises:
        Malformed: The name is missing, or one of them is no text.
    """
    return _text(fields, "name"), _optional_text(fields, "cs_id") or None


def read_ask(op: Op, fields: Fields, db_name: str) -> Ask:
    """Return a file operation.

    Args:
        op: Which of the four.
        fields: The body's object; what is not documented is ignored.
        db_name: The database the request names, or the workspace's own.

    Raises:
        Malformed: A field is missing or not as documented.
    """
    name, cs_id = read_target(fields)
    if op is Op.CREATE:
        _check_name(name)
    _text(fields, "attribute_name")
    attribute_type = _text(fields, "attribute_type")
    if attribute_type not in ("string", "double"):
        raise Malformed("attribute_type: must be string or double.")
    _check_emails(fields.get("emails", []))
    return Ask(
        op=op,
        name=name,
        cs_id=None if op is Op.CREATE else cs_id,
        attribute_type=attribute_type,
        file_url=_url("file_url", _text(fields, "file_url")),
        callback_url=_optional_url(fields, "callback_url"),
        expiry_days=_days(fields) if op is Op.CREATE else None,
        db_name=db_name,
    )


def read_filter_ask(fields: Fields, complexity: Complexity, *, is_update: bool) -> FilterAsk:
    """Return a request to create or update a filter segment.

    Args:
        fields: The body's object; what is not documented is ignored.
        complexity: What the definition may be at most.
        is_update: Whether the name may be left out and `updated_by` may be there.

    Raises:
        Malformed: A field is missing or not as documented.
        FilterProblem: The definition is not as documented.
        TooComplex: The definition is more than *complexity* allows.
    """
    name = None if is_update and "name" not in fields else _text(fields, "name")
    if name is not None:
        _check_name(name)
    if is_update and "updated_by" in fields:
        _check_emails([fields["updated_by"]], "updated_by")
    groups = {"included_filters": fields.get("included_filters")}
    if fields.get("excluded_filters") is not None:  # null says nobody, as nothing does on a create
        groups["excluded_filters"] = fields["excluded_filters"]
    keeps = is_update and "excluded_filters" not in fields
    return FilterAsk(name=name, definition=read_definition(groups, complexity), keeps_excluded=keeps)


def _check_name(name: str) -> None:
    if len(name) > NAME_MAX_CHARS:
        raise Malformed(f"name: has {len(name)} characters and may have {NAME_MAX_CHARS}.")
    if not _NAME.fullmatch(name):
        raise Malformed(
            'name: must not contain : | * ? \\ < > = $ " or control characters, nor begin with a dot, nor begin or end '
            "with a blank, nor be All Users."
        )


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number that cannot be written again")
    return number


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _text(fields: Fields, field: str) -> str:
    value = fields.get(field)
    if not is_text(value):
        raise Malformed(f"{field}: is required and must be text that is not blank.")
    return value


def _optional_text(fields: Fields, field: str) -> str | None:
    value = fields.get(field, "")
    if not isinstance(value, str):
        raise Malformed(f"{field}: must be text.")
    return value


def _optional_url(fields: Fields, field: str) -> str | None:
    return _url(field, _text(fields, field)) if field in fields else None


def _url(field: str, url: str) -> str:
    if not _URL.fullmatch(url):
        raise Malformed(f"{field}: must be a URL that begins with https:// or http://.")
    return url


def _days(fields: Fields) -> int:
    days = whole(fields.get("expiry_time"))
    if days is None or not 1 <= days <= EXPIRY_DAYS_MAX:
        raise Malformed(f"expiry_time: is required and must be a whole number of days from 1 to {EXPIRY_DAYS_MAX}.")
    return days


def _check_emails(emails: object, field: str = "emails") -> None:
    if not isinstance(emails, list) or not all(isinstance(e, str) and _EMAIL.fullmatch(e) for e in emails):
        raise Malformed(f"{field}: must be e-mail addresses.")
