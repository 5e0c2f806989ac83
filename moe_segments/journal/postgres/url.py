"""The URL of a PostgreSQL journal, parsed into the driver's options and ours. Pure.

`postgresql://user:password@host:5432/database?sslmode=verify-full&schema=quota`: everything that libpq takes goes
to libpq unchanged, several hosts and `target_session_attrs` included; without a host it takes PGHOST, PGSERVICE and
the password file as ever. The options of our own are listed at `target_of`. The URL itself is never shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote

import attrs

from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ACCEPTED_RISK", "DEFAULT_SCHEMA", "Target", "target_of"]

ACCEPTED_RISK: Final = "accepted-risk"
DEFAULT_SCHEMA: Final = "moe_segments"
_OURS: Final = ("schema", "durability", "timeout_s")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")  # the same with quotation marks as without
_SCHEMES: Final = frozenset(("postgresql", "postgres"))
_TIMEOUT_S: Final = 10.0
_LONGEST_S: Final = 3_600.0


@attrs.frozen(kw_only=True)
class Target:
    """A place for journals.

    Attributes:
        conninfo: What libpq is given, a URL. Holds the password, so it is never shown.
        secrets: What must not appear in a message, as written and as read, longest first.
        schema: The schema that holds the tables.
        accepts_risk: The user accepts that what was acknowledged may be lost.
        timeout_s: How long one answer is waited for, seconds.
    """

    conninfo: str = attrs.field(repr=False)
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    schema: str = DEFAULT_SCHEMA
    accepts_risk: bool = False
    timeout_s: float = _TIMEOUT_S


def target_of(url: str) -> Target:
    """Take a `postgresql://` URL apart.

    Options of ours behind `?`: `schema`, up to 48 lower-case letters, digits and `_`, by default `moe_segments`;
    `durability=accepted-risk` accepts a server that may lose what it acknowledged; `timeout_s`. The rest is libpq's.

    Raises:
        InputError: One of ours cannot be used, or an @ stands where none can be. Nothing of the URL is repeated but an
            option's name.
    """
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in _SCHEMES or not separator:
        raise InputError("write it as postgresql://user:password@host/database", "journal")
    place, _, query = rest.partition("?")
    _check_at_signs(place)
    # To libpq a blank is %20, and a plus sign what it says.
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    ours = {key: value for key, value in pairs if key in _OURS}
    theirs = [(key, value) for key, value in pairs if key not in _OURS]
    return Target(
        conninfo=f"postgresql://{place}{_query(theirs)}",
        secrets=_secrets_of(place, theirs),
        schema=_schema(ours),
        accepts_risk=_accepts_risk(ours),
        timeout_s=_seconds(ours),
    )


def _check_at_signs(place: str) -> None:
    """Refuse a password with a bare `@` or `/`: libpq takes the rest for a host or a database, and those are shown.

    Raises:
        InputError: It has one. The sentence never repeats it.
    """
    authority, _, path = place.partition("/")
    if authority.count("@") > 1 or "@" in path:
        raise InputError(
            "this postgresql:// URL has an @ where none can be: characters such as @ : / in a user name, a password or "
            "a database are written %40 %3A %2F",
            "journal",
        )


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    parts = [f"{quote(key, safe='')}={quote(value, safe='/')}" for key, value in pairs]
    return f"?{'&'.join(parts)}" if parts else ""


def _secrets_of(place: str, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    userinfo, at, _ = place.rpartition("@")
    password = userinfo.partition(":")[2] if at else ""
    found = {password, unquote(password), *(value for key, value in pairs if "password" in key)}
    return tuple(sorted(found - {""}, key=len, reverse=True))


def _schema(options: Mapping[str, str]) -> str:
    schema = options.get("schema", DEFAULT_SCHEMA)
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise InputError(
            "schema in a PostgreSQL URL is 1 to 48 lower-case letters, digits or _, begins with no digit and not with "
            "pg_, and is quota, for example",
            "journal",
        )
    return schema


def _accepts_risk(options: Mapping[str, str]) -> bool:
    if options.get("durability", ACCEPTED_RISK) != ACCEPTED_RISK:
        raise InputError(f"durability in a PostgreSQL URL may be {ACCEPTED_RISK}", "journal")
    return "durability" in options


def _seconds(options: Mapping[str, str]) -> float:
    try:
        seconds = float(options.get("timeout_s", _TIMEOUT_S))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise InputError("timeout_s in a PostgreSQL URL is a number of seconds, such as 10", "journal")
    return seconds
