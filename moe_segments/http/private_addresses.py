"""Keep reads of a URL that somebody else chose out of private networks, by the address that is connected to.

A name may resolve to one address when it is checked and to another when it is used. So nothing is resolved ahead: each
address is judged when its socket is made, after the last resolution and whatever the host was written like.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from moe_segments.types import FetchPrivate

__all__ = ["PrivateAddress", "connector_for", "is_public", "names_private_host"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_TEXT: Final = "the address is not a public one"
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Written out: what the standard library calls global differs between its versions.
_NOT_PUBLIC: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            *("5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)


class PrivateAddress(PermissionError):
    """An address that must not be connected to."""

    def __init__(self) -> None:
        super().__init__(13, _TEXT)  # one text for all, so that several addresses add up to this class


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet; an IPv4 one inside an IPv6 one is judged as itself."""
    ip = _parsed(address)
    return ip is not None and not any(ip in network for network in _NOT_PUBLIC if network.version == ip.version)


def connector_for(fetch_private: FetchPrivate, *, resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
    """Return a connector that reaches public addresses, and what *fetch_private* adds. Make it inside a loop.

    Its sockets raise `PrivateAddress`, which aiohttp hands on as the `os_error` of a `ClientConnectorError`.

    Args:
        fetch_private: What may be reached besides.
        resolver: Resolves names; None: as the system does.
    """
    if fetch_private is True:
        return aiohttp.TCPConnector(resolver=resolver)

    def make(addr_info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = addr_info
        if not _is_allowed(str(address[0]), fetch_private):
            raise PrivateAddress
        return socket.socket(family=family, type=kind, proto=protocol)

    return aiohttp.TCPConnector(resolver=resolver, socket_factory=make)


def names_private_host(host: str, fetch_private: FetchPrivate) -> bool:
    """Return whether a URL's host is by itself a private one, however it is written. A proxy resolves the others."""
    if fetch_private is True:
        return False
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return fetch_private != "loopback"
    address = _written_as_number(host) or host
    return _parsed(address) is not None and not _is_allowed(address, fetch_private)


def _is_allowed(address: str, fetch_private: FetchPrivate) -> bool:
    if fetch_private == "loopback" and (ip := _parsed(address)) is not None and ip.is_loopback:
        return True
    return is_public(address)


def _parsed(address: str) -> _Address | None:
    """Return the address that is meant; None for what is none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and (ip in _MAPPED or ip in _NAT64):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _written_as_number(host: str) -> str | None:
    """Return the IPv4 address that systems read from 2130706433, 0x7f.1 or 0177.0.0.1; None for what is none."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
