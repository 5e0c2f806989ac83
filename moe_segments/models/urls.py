"""Redact URLs: what may be shown, logged or remembered of each kind. Pure; never raises, never repeats a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

__all__ = ["masked_url", "place_of", "server_of", "url_without_query"]

_SHOWN_OPTIONS: Final = ("schema", "db", "host", "port", "dbname")  # that say which journal it is


def url_without_query(url: str) -> str:
    """Return scheme, host and path of a checked http(s) URL: its query may be a signature."""
    start, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{start}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def masked_url(url: str | None) -> str:
    """Return the `repr` of a URL that a setting holds, without user name, password and query."""
    if url is None:
        return "None"
    scheme, separator, rest = url.partition("://")
    _, at, public = rest.rpartition("@")  # the last one: a password may hold any character
    return repr(f"{scheme}{separator}{'***' if at else ''}{at}{public.partition('?')[0]}")


def server_of(url: str) -> str | None:
    """Return scheme, host and port of an address that others sent; None where it names no host."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else None


def place_of(url: str) -> str:
    """Return the place that a journal URL names.

    What cannot be told apart from a password is left out: this is for people, not for opening it again.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return scheme.partition(":")[0] + ":"
    if scheme == "sqlite":
        return f"sqlite:///{Path(rest.removeprefix('/')).expanduser().absolute()}"
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query)
    except ValueError:  # its text may hold a piece of the password
        return f"{scheme}://…"
    userinfo, _, host = parts.netloc.rpartition("@")
    if rest.count("@") != parts.netloc.count("@") or (":" in userinfo and not host):
        return f"{scheme}://…"  # a password with a / ? or # that was not quoted: where it ends nobody can tell
    shown = "&".join(f"{key}={value}" for key, value in options if key in _SHOWN_OPTIONS)
    return f"{scheme}://{host}{parts.path}{f'?{shown}' if shown else ''}"
