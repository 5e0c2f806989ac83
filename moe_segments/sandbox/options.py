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
    from collections.abc import Collection, Iterable

__all__ = ["connected_host", "known_dialects", "known_users", "listening_host", "own_names"]


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


def listening_host(host: str, allowed_hosts: Collection[str]) -> str:
    """Return the address to listen on: of loopback, or any other where it is said which hosts may be named.

    Raises:
        InputError: It is no address, or reaches beyond this machine and no host is allowed.
    """
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise InputError(f"must be an address such as 127.0.0.1 or 0.0.0.0, not {host!r}", "host") from None
    if not is_loopback and not allowed_hosts:
        raise InputError(
            f"must be a loopback address such as 127.0.0.1, not {host!r}: to be reached from elsewhere, list the names "
            "that it has there, and those of its files and receivers, with allowed_hosts",
            "host",
        )
    return host


def own_names(host: str, allowed_hosts: Collection[str]) -> frozenset[str]:
    """Return the names besides loopback under which the sandbox answers; none where it listens on loopback alone."""
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        return frozenset()
    own = () if address.is_unspecified else (str(address),)
    return frozenset((*own, *(each.removeprefix("[").removesuffix("]").lower().rstrip(".") for each in allowed_hosts)))


def connected_host(host: str) -> str:
    """Return the host to connect to on this machine, as a URL has it, when *host* is listened on."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        return "[::1]" if address.version == 6 else "127.0.0.1"  # noqa: PLR2004 - of IP
    return f"[{address}]" if address.version == 6 else host  # noqa: PLR2004 - of IP
