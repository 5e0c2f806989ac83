"""Understand what people write into a manifest: names of fields and operations, numbers, addresses. Pure.

What can mean one thing only is taken for that; anything else is an `InputError` that says what to write.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Final

from moe_segments.errors import InputError
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    Operation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KINDS", "addresses", "field_of", "finite_number", "kind_of", "whole_number"]

KINDS: Final[Mapping[str, type[Operation]]] = {
    kind.op: kind for kind in (CreateFileSegment, AddUsers, RemoveUsers, ReplaceUsers, ArchiveSegment, UnarchiveSegment)
}
_OBJECT: Final = re.compile(r"(file)?(users?|segments?)$")  # what an operation is done to, as in add_users
_FIELDS: Final = (
    *("op", "name", "attribute_name", "attribute_type", "file_url", "file", "emails", "callback_url", "rows"),
    *("expiry_time", "cs_id", "priority"),
)
_OTHER_NAMES: Final[dict[str, str]] = {
    **dict.fromkeys(("operation", "action"), "op"),
    **dict.fromkeys(("segment", "segmentname"), "name"),
    **dict.fromkeys(("filepath", "path"), "file"),
    **dict.fromkeys(("url",), "file_url"),
    **dict.fromkeys(("email",), "emails"),
    **dict.fromkeys(("expiry", "expirydays"), "expiry_time"),
}
_KNOWN: Final[dict[str, str]] = {field.replace("_", ""): field for field in _FIELDS} | _OTHER_NAMES
_BETWEEN_ADDRESSES: Final = re.compile(r"[;,\s]+")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL: Final = re.compile(r"([+-]?[0-9]{1,18})\.(0|00|0{4,9})")  # three zeros may be thousands
_GROUPED: Final = re.compile(r"[0-9]{1,3}(?P<mark>[,'\u2019 _])[0-9]{3}((?P=mark)[0-9]{3})*|[0-9]{1,3}(\.[0-9]{3}){2,}")
_GROUPED_BY_LAKHS: Final = re.compile(r"[0-9]{1,2}(,[0-9]{2})+,[0-9]{3}")
_DOUBTFUL: Final = re.compile(r"[0-9]{1,3}\.[0-9]{3}")
_DAYS: Final = re.compile(r"([0-9]{1,9}) ?(d|days?)", re.IGNORECASE)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*|[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{4}|[0-9]{2})")
_REPEATED_CHARS: Final = 40


def field_of(text: str) -> str | None:
    """Return the field that the name of a column or of a key stands for; None for none.

    Case, blanks, hyphens, underscores and invisible characters do not matter: `File URL` is `file_url`.
    """
    return _KNOWN.get(_letters(text))


def kind_of(text: str) -> type[Operation] | None:
    """Return the operation of a name as people write it, such as `add`, `add_users`, `Add Users`; None for none."""
    letters = _letters(text)
    return KINDS.get(letters) or KINDS.get(_OBJECT.sub("", letters))


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(one for one in plain if one.isalnum() or not (one.isspace() or one in "_-" or _is_unseen(one)))


def _is_unseen(one: str) -> bool:
    return unicodedata.category(one) == "Cf"


def whole_number(field: str, value: object) -> object:
    """Return the whole number that is meant by a cell or by a value of JSON; what is no number as it is.

    Raises:
        InputError: It is text that means none, or may mean two.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    text = _seen(value)
    if _WHOLE.fullmatch(text):
        return int(text)
    if found := _DECIMAL.fullmatch(text):
        return int(found[1])
    if _GROUPED.fullmatch(text) or _GROUPED_BY_LAKHS.fullmatch(text):
        return int(re.sub("[^0-9]", "", text))
    if field == "expiry_time" and (found := _DAYS.fullmatch(text)):
        return int(found[1])
    raise InputError(_problem_of_number(field, text))


def finite_number(value: object) -> float:
    """Return the finite number that is meant by a cell or by a value of JSON.

    Raises:
        InputError: It is none.
    """
    text = _seen(value) if isinstance(value, str) else repr(value)
    is_number = not isinstance(value, bool) and _NUMBER.fullmatch(text) is not None
    if not is_number or not math.isfinite(found := float(text)):
        shown = f", not {text!r}" if _is_harmless(text) else ""
        raise InputError(f"must be a finite number, such as 1 or -2.5{shown}")
    return found


def _seen(value: str) -> str:
    """Return a text without what nobody sees, and without blanks around it."""
    return "".join(one for one in unicodedata.normalize("NFKC", value) if not _is_unseen(one)).strip()


def _is_harmless(text: str) -> bool:
    """Return whether a text may be repeated in a message: no address, no URL, not endless."""
    return len(text) <= _REPEATED_CHARS and "@" not in text and "://" not in text


def _problem_of_number(field: str, text: str) -> str:
    if _DATE.fullmatch(text):
        what = "a number of days, such as 30" if field == "expiry_time" else "a whole number"
        return f"is {what}, not a date ({text})"
    if _DOUBTFUL.fullmatch(text):
        return f"must be a whole number: {text} may mean two, so write it without a separator"
    return f"must be a whole number, not {text!r}" if _is_harmless(text) else "must be a whole number"


def addresses(text: str) -> tuple[str, ...]:
    """Return the e-mail addresses of a cell, separated by semicolons, commas or blanks."""
    return tuple(address for address in _BETWEEN_ADDRESSES.split(text) if address)
