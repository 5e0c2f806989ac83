"""JSON bytes and header text to values, strictly in type. Pure: no clock, no I/O.

cattrs alone turns null into the text 'None', "201" into 201 and "false" into True: exact hooks stop it. What
does not fit is a `Mismatch` whose text holds a path and never a value, such as `expected int @ $.status`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import attrs

from moe_segments.models import Accepted, FileFailed, FileProcessed, Segment

if TYPE_CHECKING:
    import cattrs

    from moe_segments.models.filters.values import FilterGroup, RawFilter

__all__ = [
    "MAX_COUNT",
    "MAX_DEPTH",
    "MAX_TEXT_CHARS",
    "Mismatch",
    "cleaned",
    "exact_int",
    "foreign_coding",
    "http_date",
    "json_value",
    "moment",
    "number",
    "object_at",
    "structured",
    "whole_number",
]

MAX_DEPTH: Final = 32
MAX_TEXT_CHARS: Final = 300
MAX_COUNT: Final = 2**40  # more than any file has rows; sums of many still fit 64 bits

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Patterns are compiled when they are first needed, which for most programs is never.
_HTTP_DATE: Final = r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
_NUMBER: Final = r"-?[0-9]{1,15}(\.[0-9]{1,9})?"
_WHOLE: Final = r"\s*([0-9]{1,15})(?:\.0+)?\s*"
_CODING_CHARS: Final = 80

_Made = TypeVar("_Made", Accepted, FileProcessed, FileFailed, Segment)


class Mismatch(Exception):
    """A value that does not fit, with its path where there is one."""


def json_value(body: bytes) -> object:
    """Return the value of a JSON text: UTF-8, finite numbers, no field twice, nested at most `MAX_DEPTH` deep.

    Raises:
        Mismatch: The text is no such JSON.
    """
    try:
        text = body.decode("utf-8").removeprefix("\ufeff")
        value = _parsed(text)
        if text.count("{") + text.count("[") > MAX_DEPTH:  # else it cannot be nested deeper
            _check_depth(value)
        if "\\u" in text and "\\ud" in text.lower():  # half a surrogate pair is text that no journal can store
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise Mismatch(f"JSON nested deeper than {MAX_DEPTH} @ $") from None
    except UnicodeError:
        raise Mismatch("not UTF-8 text @ $") from None
    except ValueError:
        raise Mismatch("not JSON @ $") from None
    return value


def object_at(value: object, path: str) -> dict[str, object]:
    """Return the value itself, which must be a JSON object.

    Raises:
        Mismatch: The value is no object.
    """
    if not isinstance(value, dict):
        raise Mismatch(f"expected object @ {path}")
    return value


def structured(kind: type[_Made], value: object, path: str = "$") -> _Made:
    """Return a model from a JSON object; fields it does not have go to its `extra`.

    Raises:
        Mismatch: A field is missing or of another type; all of them, with their paths.
    """
    fields = object_at(value, path)
    names = _NAMES[kind]
    known: dict[str, object] = {}
    extra: dict[str, object] = {}
    for name, item in fields.items():
        (known if name in names else extra)[name] = item
    known["extra"] = extra
    import cattrs  # 40 ms, and nothing is decoded before the first answer

    try:
        return _converter().structure(known, kind)
    except cattrs.BaseValidationError as error:
        raise Mismatch("; ".join(sorted(cattrs.transform_error(error, path, _told)))) from None


# The fields of each model that an object may name.
_NAMES: Final[Mapping[type, frozenset[str]]] = {
    kind: frozenset(field.name for field in attrs.fields(kind)) - {"extra"}
    for kind in (Accepted, FileProcessed, FileFailed, Segment)
}


def exact_int(value: object, path: str) -> int:
    """Return the value itself, which must be an int (True is none) that a journal can hold.

    Raises:
        Mismatch: The value is no int.
    """
    try:
        return _exact_int(value, int)
    except Mismatch as mismatch:
        raise Mismatch(f"{mismatch} @ {path}") from None


def whole_number(value: object, path: str) -> int:
    """Return the whole number that a value is beyond doubt: 2, 2.0, "2" or "2.0".

    Raises:
        Mismatch: The value is no whole number, or one that a journal cannot hold.
    """
    if isinstance(value, str) and (digits := re.fullmatch(_WHOLE, value)):
        value = int(digits[1])
    elif type(value) is float and value.is_integer():
        value = int(value)
    return exact_int(value, path)


def foreign_coding(header: str | None) -> str | None:
    """Return what a Content-Encoding header names besides *identity*, fit to be shown; None for nothing.

    A header without a value says as little as no header: stores and proxies send it for plain files.
    """
    codings = [coding.strip() for coding in (header or "").split(",")]
    foreign = [coding for coding in codings if coding.lower() not in ("", "identity")]
    return repr(cleaned(", ".join(foreign))[:_CODING_CHARS]) if foreign else None


def moment(text: str) -> datetime | None:
    """Return an ISO 8601 time as aware UTC, None when it is none. The service sends no zone and means UTC."""
    try:
        read = datetime.fromisoformat(text)
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def cleaned(text: str) -> str:
    """Foreign text, fit to be shown: one line, no control characters, at most `MAX_TEXT_CHARS`."""
    head = text[: 4 * MAX_TEXT_CHARS]
    if not head.isprintable():
        head = "".join(char if char.isprintable() else " " for char in head)
    words = " ".join(head.split())
    return words if len(words) <= MAX_TEXT_CHARS else f"{words[: MAX_TEXT_CHARS - 1]}…"


def number(text: str | None) -> float | None:
    """Return the number that a header is, None when it is none."""
    return float(text) if text is not None and re.fullmatch(_NUMBER, text.strip()) else None


def http_date(text: str | None) -> float | None:
    """Return the moment that a header like Date names, epoch seconds; None when it is none."""
    if text is None or not (found := re.fullmatch(_HTTP_DATE, text.strip())) or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    month = _MONTHS.index(found[2]) + 1
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Mismatch("a field given twice @ $")
    return fields


def _not_finite(_: str) -> NoReturn:
    raise Mismatch("a number that is not finite @ $")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


# Made once: `json.loads` makes a decoder for each text when it is given hooks.
_parsed: Final[Callable[[str], object]] = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_not_finite, parse_float=_finite
).decode


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return
        level = [child for node in level for child in _children(node)]
    raise Mismatch(f"JSON nested deeper than {MAX_DEPTH} @ $")


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def _exact(kind: type) -> Callable[[object, object], object]:
    def hook(value: object, _: object) -> object:
        if type(value) is not kind:
            raise Mismatch(f"expected {kind.__name__}")
        return value

    return hook


def _exact_int(value: object, _: object) -> int:
    if type(value) is not int:  # not isinstance: True is not 1
        raise Mismatch("expected int")
    if abs(value) > MAX_COUNT:
        raise Mismatch(f"expected int of at most {MAX_COUNT:,}")
    return value


def _exact_float(value: object, _: object) -> float:
    if type(value) is float:
        return value
    return float(_exact_int(value, int))


def _exact_moment(value: object, _: object) -> datetime:
    read = moment(value) if isinstance(value, str) else None
    if read is None:
        raise Mismatch("expected an ISO 8601 time")
    return read


def _optional_group(value: object, _: object) -> FilterGroup | RawFilter | None:
    from moe_segments.models.filters.payloads import group_from  # who never sees a filter does not pay for them

    if value is None:
        return None
    if not isinstance(value, dict):
        raise Mismatch("expected object")
    return group_from(value)


def _optional(hook: Callable[[object, object], object]) -> Callable[[object, object], object]:
    def optional(value: object, kind: object) -> object:
        return None if value is None else hook(value, kind)

    return optional


def _as_it_is(value: object, _: object) -> object:
    return value


def _told(error: BaseException, _: type | None) -> str:
    return "required field missing" if isinstance(error, KeyError) else str(error)


@cache
def _converter() -> cattrs.Converter:
    import cattrs
    from cattrs.gen import make_dict_structure_fn, override

    converter = cattrs.Converter()
    from moe_segments.models.filters.values import FilterGroup, RawFilter

    hooks = {str: _exact(str), bool: _exact(bool), int: _exact_int, float: _exact_float, datetime: _exact_moment}
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
        # Said here, or the library asks itself each time what an optional one is.
        converter.register_structure_hook(kind | None, _optional(hook))
    converter.register_structure_hook(FilterGroup | RawFilter | None, _optional_group)
    for made in (Accepted, FileProcessed, FileFailed, Segment):
        # The models name these two for the type checker only.
        names = {"Mapping": Mapping, "datetime": datetime, "FilterGroup": FilterGroup, "RawFilter": RawFilter}
        attrs.resolve_types(made, localns=names)
        made_hook = make_dict_structure_fn(made, converter, extra=override(struct_hook=_as_it_is))
        converter.register_structure_hook(made, made_hook)
    return converter
