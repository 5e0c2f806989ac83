"""The checks that stand in for credentials on a page that asks for none: a page of somebody else must not have it.

- Every request must name a loopback or listed host, so that a name made to point here (DNS rebinding) gets nowhere.
- A stream of events, and whatever changes something, must come from this origin or from no page at all.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

__all__ = ["ALWAYS", "FOREIGN", "HOSTS", "Refused", "check_host", "check_site", "is_asked_for"]

if TYPE_CHECKING:
    from aiohttp import web

ALWAYS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOREIGN: Final = "a page of another origin must not use this one"
HOSTS: Final = "ask under a loopback address, such as 127.0.0.1, or as localhost"
_OWN_SITES: Final = ("same-origin", "none")


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: The HTTP status.
        problem: Why, for people.
    """

    status: int
    problem: str

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(status, problem)
        self.status, self.problem = status, problem


def check_host(request: web.Request, names: frozenset[str] = frozenset()) -> None:
    """Refuse a request that names neither loopback nor one of *names*.

    Raises:
        Refused: It names another host.
    """
    if not is_asked_for(request, names):
        raise Refused(403, HOSTS)


def is_asked_for(request: web.Request, names: frozenset[str] = frozenset()) -> bool:
    """Return whether a request names loopback or one of *names*, in small letters."""
    host = _host_of(f"//{request.host}")
    is_local = host == "localhost" or host.endswith(".localhost") or _is_loopback(host)
    return is_local or host.rstrip(".") in names


def check_site(request: web.Request) -> None:
    """Refuse a page of another site, as the browser names it; tools name none.

    Raises:
        Refused: It is one.
    """
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_SITES:
        raise Refused(403, FOREIGN)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
