"""Check and read the parameters of `Sandbox` before anything is started."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

from moe_segments.errors import InputError
from moe_segments.sandbox.api.answers import Dialect
from moe_segments.sandbox.model.rows import RowReader

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["known_dialects", "known_users", "loopback"]


def known_users(users: Path | Iterable[str] | None) -> Iterable[str] | None:
    """Return the users the workspace knows; None: all of them.

    Raises:
        InputError: The file cannot be read, or one text was given instead of several.
    """
    if not isinstance(users, os.PathLike):
        if isinstance(users, str):
            raise InputError("must be a path or several texts, not one text", "users")
        return users
    reader = RowReader()
    try:
        reader.feed(Path(users).expanduser().read_bytes())
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}", "users") from None
    return reader.finish().values


def known_dialects(dialects: str | Iterable[str]) -> frozenset[Dialect]:
    """Return the dialects of these names.

    Raises:
        InputError: One is no dialect.
    """
    named = (dialects,) if isinstance(dialects, str) else tuple(dialects)
    try:
        return frozenset(map(Dialect, named))
    except ValueError:
        raise InputError(f"{dialects!r} is none of {', '.join(Dialect)}, nor several of them", "dialect") from None


def loopback(host: str) -> str:
    """Return the address, if it is one of loopback.

    Raises:
        InputError: It is not.
    """
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise InputError(f"must be a loopback address such as 127.0.0.1, not {host!r}", "host")
    return host
