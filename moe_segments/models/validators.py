"""Validators of single fields: each returns what is wrong, in words for the caller, or None.

None of them repeats a value that may be a secret: a key, a signed URL, an address of a person.
"""

from __future__ import annotations

import inspect
import os
import re
import unicodedata
from collections.abc import AsyncIterable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from moe_segments.errors import InputError
from moe_segments.limits import DATA_CENTERS, NAME_FORBIDDEN, NAME_MAX_CHARS, NAME_RESERVED
from moe_segments.models.urls import path_at_home
from moe_segments.types import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import attrs

__all__ = [
    "attribute_type_of",
    "doubt_of_name",
    "optional_group",
    "path_of",
    "problem_of_attribute_type",
    "problem_of_data_center",
    "problem_of_emails",
    "problem_of_expiry_time",
    "problem_of_key",
    "problem_of_name",
    "problem_of_optional_email",
    "problem_of_optional_header",
    "problem_of_optional_name",
    "problem_of_optional_path",
    "problem_of_optional_rows",
    "problem_of_optional_text",
    "problem_of_optional_url",
    "problem_of_optional_values",
    "problem_of_quotes",
    "problem_of_text",
    "problem_of_url",
    "problem_of_values",
    "problem_of_workspace",
    "refuse_with",
    "shown_group",
    "tuple_of",
]

_MAX_DAYS: Final = 2**31 - 1  # documented as int32
_EMAIL: Final = r"[^@\s,;<>\"]+@[^@\s,;<>\"]+\.[^@\s,;<>\"]+"
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # marks and letters without a shape
_NAMED_MOST: Final = 3
_BOM: Final = "\ufeff"  # at an edge it is left over from a file, and a blank to many
_ATTRIBUTE_TYPES: Final = ("string", "double")
_QUOTES: Final = (
    "''",
    '""',
    "``",
    "\u2018\u2019",
    "\u201c\u201d",
    "\u201e\u201c",
    "\u00ab\u00bb",
)  # opening and closing
_Attribute: TypeAlias = "attrs.Attribute[Any]"  # what attrs calls every validator with


def problem_of_name(name: object) -> str | None:  # noqa: PLR0911 - each rule returns its own sentence
    """Return what is wrong with a segment name, or None. The service may accept a bad one and show zero users.

    Refused is what the documents forbid, and what no name can mean: control characters, line breaks, blanks at an edge.
    """
    if not isinstance(name, str):
        return f'must be text, such as "vip_2026", not {type(name).__name__}'
    if all(one.isspace() or _is_unseen(one) for one in name):
        return "a segment needs a name that is not blank"
    if len(name) > NAME_MAX_CHARS:
        return f"has {len(name)} characters; MoEngage takes {NAME_MAX_CHARS}"
    if not NAME_FORBIDDEN.isdisjoint(name):
        return f"must not contain {' '.join(sorted(NAME_FORBIDDEN.intersection(name)))}"
    if controls := [one for one in name if _is_control(one)]:
        return f"must not contain control characters or line breaks: there is {_named(controls)}"
    if name != name.strip() or name != name.strip(_BOM):
        return "must not begin or end with a blank, nor with a byte order mark"
    if name.startswith("."):
        return "must not begin with a dot"
    if name.lower() in NAME_RESERVED:
        return f"{name!r} is reserved"
    return None


def doubt_of_name(name: object) -> str | None:
    """Return which characters of a segment name nobody sees, or None. It is a name all the same."""
    unseen = [one for one in name if _is_unseen(one)] if isinstance(name, str) else []
    if not unseen:
        return None
    return f"has characters that nobody sees ({_named(unseen)}): without them it is the name of another segment"


def _is_control(one: str) -> bool:
    """Return whether a character is a control character, a line break or half of one that is no text."""
    return unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs")


def _is_unseen(one: str) -> bool:
    """Return whether a character is shown as nothing or as another: joiners, directions, blanks, unassigned ones."""
    category = unicodedata.category(one)
    return category in ("Cf", "Co", "Cn") or (category == "Zs" and one != " ") or one in _FILLERS


def _named(characters: Sequence[str]) -> str:
    different = list(dict.fromkeys(characters))
    named = ", ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".rstrip() for one in different[:_NAMED_MOST])
    return named if len(different) <= _NAMED_MOST else f"{named} and {len(different) - _NAMED_MOST} more"


def problem_of_values(values: object) -> str | None:  # noqa: PLR0911 - one return a kind
    """Return why *values* are no source of users' values, or None. Nothing is read from them."""
    if isinstance(values, str | bytes | bytearray | memoryview):
        return "must be several values, such as a list of them; for a file give file="
    if isinstance(values, os.PathLike) or hasattr(values, "read"):
        return "must be values, not a file: give its path as file="
    if isinstance(values, Mapping):
        return f"must be values, not of type {type(values).__name__}: give its keys or its values"
    if hasattr(values, "columns") or hasattr(values, "num_columns"):
        return f"must be one column, not of type {type(values).__name__}: select a column of it"
    if inspect.iscoroutine(values):
        return "must be values, not a coroutine: await it first, or give the function without calling it"
    if not (isinstance(values, Iterable | AsyncIterable) or callable(values)):
        kind = type(values).__name__
        return f"must be an iterable or an async iterable of text or ints, or a function that returns one, not {kind}"
    return None


def problem_of_optional_values(values: object) -> str | None:
    """Return what is wrong with values that may be left out, or None; see `problem_of_values`."""
    return None if values is None else problem_of_values(values)


def problem_of_url(url: object) -> str | None:  # noqa: PLR0911 - each rule returns its own sentence
    """Return what is wrong with a public http(s) URL, or None. Never repeats the URL: it may hold a signature."""
    if not isinstance(url, str) or not url:
        return "must be a URL, such as https://files.example.com/users.csv"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be plain ASCII without blanks; percent-encode the rest"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("https", "http"):
        return "must begin with https:// or http://"
    if not host:
        return "has no host"
    if parts.username is not None or parts.password is not None:
        return "must not carry a user name or a password"
    return None


def refuse_with(problem_of: Callable[[object], str | None]) -> Callable[[object, _Attribute, object], None]:
    """Return a validator of attrs that raises `InputError` with the field's name."""

    def validate(_: object, attribute: _Attribute, value: object) -> None:
        if problem := problem_of(value):
            raise InputError(problem, attribute.name)

    return validate


def problem_of_optional_text(value: object) -> str | None:
    """Return what is wrong with a text that may be left out, or None."""
    if value is not None and (not isinstance(value, str) or not value.strip()):
        return "must be text that is not blank, or left out"
    return None


def problem_of_optional_header(value: object) -> str | None:
    """Return what is wrong with the text of a header that may be left out, or None."""
    if problem := problem_of_quotes(value):
        return problem
    if value is not None and not (isinstance(value, str) and value.strip() and value.isascii() and value.isprintable()):
        return "must be plain ASCII text that is not blank, or left out: it is sent as a header"
    return None


def problem_of_text(value: object) -> str | None:
    """Return what is wrong with a text, or None."""
    if not isinstance(value, str) or not value.strip():
        return "must be text that is not blank"
    if controls := [one for one in value if _is_control(one)]:
        return f"must not contain control characters or line breaks: there is {_named(controls)}"
    return None


def attribute_type_of(value: str) -> str:
    """Return the type of an attribute in lower case, as the service takes it; what is no text as it is."""
    try:
        return value.strip().lower()
    except AttributeError:
        return value  # for the validator to judge


def problem_of_attribute_type(value: object) -> str | None:
    """Return what is wrong with the type of an attribute, or None."""
    return None if value in _ATTRIBUTE_TYPES else f"must be 'string' or 'double', not {value!r}"


def problem_of_optional_url(value: object) -> str | None:
    """Return what is wrong with a public http(s) URL that may be left out, or None."""
    return None if value is None else problem_of_url(value)


def problem_of_emails(value: object) -> str | None:
    """Return what is wrong with a tuple of e-mail addresses, or None. Never repeats one."""
    assert isinstance(value, tuple)
    for position, email in enumerate(value, start=1):
        if not isinstance(email, str) or not re.fullmatch(_EMAIL, email):
            return f"address {position} is not an e-mail address"
    return None


def problem_of_optional_rows(value: object) -> str | None:
    """Return what is wrong with a number of rows that may be left out, or None."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        return f"must be a whole number from 0, not {value!r}"
    return None


def problem_of_expiry_time(value: object) -> str | None:
    """Return what is wrong with the days until a segment is archived, or None."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_DAYS:
        return f"must be a whole number of days from 1 to {_MAX_DAYS}, not {value!r}"
    return None


def problem_of_quotes(value: object) -> str | None:
    """Return what is wrong with a value that is in quotes, or None. Never repeats it."""
    if not isinstance(value, str) or len(value) < 2 or value[0] + value[-1] not in _QUOTES:  # noqa: PLR2004 - a pair
        return None
    return (
        "is in quotes, which are taken as part of the value: leave them out; a shell would, and docker's --env-file "
        "keeps them"
    )


def problem_of_data_center(value: object) -> str | None:
    """Return what is wrong with the name of a data center, or None."""
    if problem := problem_of_quotes(value):
        return problem
    if not isinstance(value, str) or value not in DATA_CENTERS:
        return f"{value!r} is no data center; MoEngage has {', '.join(DATA_CENTERS)}"
    return None


def problem_of_key(value: object) -> str | None:
    """Return what is wrong with an API key, or None. Never repeats it."""
    if problem := problem_of_quotes(value):
        return problem
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or not value.isascii():
        return "must be the key as shown on the dashboard's Data tile"
    return None


def problem_of_workspace(value: object) -> str | None:
    """Return what is wrong with a workspace's identifier, or None."""
    if problem := problem_of_quotes(value):
        return problem
    if not isinstance(value, str) or not re.fullmatch(r"[!-9;-~]{1,128}", value):
        return "must be the workspace ID as shown under Settings > Account > APIs"
    return None


def tuple_of(value: object) -> object:
    """Addresses as a tuple; one text alone is refused, as it would be taken for a list of letters."""
    if value is None:
        return ()
    if isinstance(value, str):
        raise InputError("must be a list of addresses, not one text", "emails")
    return tuple(value) if hasattr(value, "__iter__") else value


def path_of(value: object) -> object:
    """Return text, or what stands for a path, as a path; anything else as it is, for the validator to judge."""
    return path_at_home(value) if isinstance(value, str) or hasattr(value, "__fspath__") else value


def problem_of_optional_path(value: object) -> str | None:
    """Return what is wrong with a path that may be left out, or None."""
    return None if value is None else problem_of_path(value)


def problem_of_path(value: object) -> str | None:
    """Return what is wrong with a path, or None; tell what to use instead of what was meant."""
    if isinstance(value, Path):
        is_url = re.match(r"https?:/", str(value), re.IGNORECASE)  # a path has no double slash
        return "is a URL, not a path; users at a URL are given as file_url" if is_url else None
    kind = type(value).__name__
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"must be the path of one file, not a {kind}: call once for each file; write values to a file first"
    if hasattr(value, "read"):
        return "must be a path, not an open file: give its name"
    return "must be a path, not None" if value is None else f"must be a path, not of type {kind}"


def checked_path(value: object, field: str) -> Path:
    """Return a path given as such, or as text.

    Raises:
        InputError: The value is no path.
    """
    value = path_of(value)
    if problem := problem_of_path(value):
        raise InputError(problem, field)
    assert isinstance(value, Path)
    return value


def optional_group(value: Any) -> Any:
    """Return filters as a group, see `moe_segments.models.filters`; None and UNSET as they are."""
    from moe_segments.models.filters.payloads import group_of  # who makes no filter segment does not pay for them

    return group_of(value) if value is not UNSET and value is not None else value


def shown_group(group: object) -> str:
    """Return a group as it may be shown: its values may be about people."""
    filters = getattr(group, "filters", None)
    if isinstance(filters, tuple):
        return f"<{len(filters)} filters>"
    return repr(group) if group is None or group is UNSET else f"<{type(group).__name__}>"


def problem_of_optional_email(value: object) -> str | None:
    """Return what is wrong with an e-mail address that may be left out, or None. Never repeats it."""
    if value is not None and (not isinstance(value, str) or not re.fullmatch(_EMAIL, value)):
        return "must be an e-mail address, or left out"
    return None


def problem_of_optional_name(value: object) -> str | None:
    """Return what is wrong with a segment name that may be UNSET, or None."""
    return None if value is UNSET else problem_of_name(value)
