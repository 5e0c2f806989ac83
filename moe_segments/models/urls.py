"""Redact URLs: what may be shown, logged or remembered of each kind. Pure; never raises, never repeats a secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

__all__ = ["journal_url_of", "masked_url", "path_at_home", "place_of", "server_of", "url_without_query"]

_SHOWN_OPTIONS: Final = ("schema", "db", "host", "port", "dbname")  # that say which journal it is
_DATABASES: Final = (".db", ".sqlite", ".sqlite3")


def journal_url_of(value: Any) -> Any:
    """Return the URL of the journal that a path names; anything else as it is, for the validator to judge.

    Text is a path when it has a slash, begins with `.` or `~`, or ends as databases do. `quota` might be a host.
    """
    if isinstance(value, os.PathLike):
        return f"sqlite:///{os.fspath(value)}"
    if not isinstance(value, str):
        return value
    begins_as_path = value.startswith(("/", "./", "../", "~"))
    is_path = begins_as_path or (":" not in value and ("/" in value or value.lower().endswith(_DATABASES)))
    return f"sqlite:///{value}" if is_path else value


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


def path_at_home(path: str | os.PathLike[str]) -> Path:
    """Return a path whose ~ is the home directory; as it is where there is none, which is said when it is opened."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def place_of(url: str) -> str:
    """Return the place that a journal URL names.

    What cannot be told apart from a password is left out: this is for people, not for opening it again.
    """
    whole: str = journal_url_of(url)
    scheme, separator, rest = whole.partition("://")
    if not separator:
        return scheme.partition(":")[0] + ":"
    if scheme == "sqlite":
        return f"sqlite:///{path_at_home(rest.removeprefix('/')).absolute()}"
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
