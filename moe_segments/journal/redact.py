"""Redact a journal URL: leave out user, password and options."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from moe_segments.models.validators import journal_url_of

__all__ = ["file_of", "place_of"]

_SHOWN_OPTIONS: Final = ("schema", "db", "host", "port", "dbname")  # that say which journal it is


def place_of(url: str) -> str:
    """Return the place that a journal URL names.

    What cannot be told apart from a password is left out: this is for people, not for opening it again.
    """
    url = journal_url_of(url)
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


def file_of(url: str) -> Path | None:
    """Return the file that a path or a `sqlite:///` URL names; None for any other."""
    url = journal_url_of(url)
    path = url.removeprefix("sqlite:///")
    return None if path == url else Path(path).expanduser()
