"""Fetch files and deliver callbacks without becoming anybody's way into a network.

A server that fetches what it is told to is an SSRF engine. So what is checked is the address *about to be
connected*, below any parsing of URLs and after any name was resolved: loopback, or a host the user listed.
Names that are neither `localhost` nor listed are not even resolved. No redirect is followed, no proxy asked,
no cookie kept.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from moe_segments.core.wire.strict_json import foreign_coding
from moe_segments.errors import InputError
from moe_segments.limits import FILE_CONTENT_TYPES
from moe_segments.models.validators import problem_of_url
from moe_segments.sandbox.model.rows import RowReader

if TYPE_CHECKING:
    from collections.abc import Collection

    from moe_segments.sandbox.model.records import Rows

__all__ = ["Fetcher", "FileProblem", "Gate"]

_BLOCK_BYTES: Final = 1 << 16
_OK: Final = 200
_SERVER_ERRORS: Final = 500
_CALLBACK_TIMEOUT_S: Final = 10.0
_TEXT_OF_REFUSAL: Final = "the address is neither loopback nor that of a listed host"
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(PermissionError):
    """An address that must not be connected to."""

    def __init__(self) -> None:
        super().__init__(13, _TEXT_OF_REFUSAL)  # one text for all, so that several tries add up to this class


class FileProblem(Exception):
    """A file that could not be had.

    Attributes:
        problem: Why, one sentence.
        is_passing: Whether another try may help.
    """

    problem: str
    is_passing: bool

    def __init__(self, problem: str, *, is_passing: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.is_passing = problem, is_passing


class Gate:
    """Which hosts may be named and which addresses connected to.

    Args:
        allowed_hosts: Names and addresses besides loopback. A name admits whatever it resolves to, except
            link-local, multicast, unspecified and reserved addresses; those must be listed themselves.

    Raises:
        InputError: An entry is neither a host name nor an address.
    """

    def __init__(self, allowed_hosts: Collection[str] = ()) -> None:
        self._names: set[str] = set()
        self._addresses: set[_Address] = set()
        self._lent: set[_Address] = set()
        for entry in allowed_hosts:
            self._list(entry)

    def admits_name(self, host: str) -> bool:
        """Return whether a host name may be resolved at all."""
        host = host.lower().rstrip(".")
        return host == "localhost" or host.endswith(".localhost") or host in self._names

    def lend(self, host: str, address: str) -> None:
        """Admit the address that a listed name resolved to."""
        ip = ipaddress.ip_address(address)
        is_trap = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved
        if host.lower().rstrip(".") in self._names and not is_trap:
            self._lent.add(ip)

    def admits(self, address: str) -> bool:
        """Return whether this very address may be connected to. An IPv4 address in IPv6 clothes never is."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            return False
        return ip.is_loopback or ip in self._addresses or ip in self._lent

    def socket(self, addr_info: aiohttp.AddrInfoType) -> socket.socket:
        """Return a socket for an address about to be connected to.

        Raises:
            AddressRefused: The address must not be connected to.
        """
        family, kind, protocol, _, address = addr_info
        if not self.admits(str(address[0])):
            raise AddressRefused
        return socket.socket(family=family, type=kind, proto=protocol)

    def _list(self, entry: str) -> None:
        host = entry.removeprefix("[").removesuffix("]")
        try:
            self._addresses.add(ipaddress.ip_address(host))
        except ValueError:
            if not host or set(host) & set("/:@*? "):
                raise InputError(f"{entry!r} is neither a host name nor an address", "allowed_hosts") from None
            self._names.add(host.lower().rstrip("."))


class _GatedResolver(AbstractResolver):
    def __init__(self, gate: Gate, inner: AbstractResolver) -> None:
        self._gate, self._inner = gate, inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if not self._gate.admits_name(host):
            raise AddressRefused
        found = await self._inner.resolve(host, port, family)
        for each in found:
            self._gate.lend(host, each["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


class Fetcher:
    """Gets files and posts callbacks, to admitted addresses only. Make it inside a running loop; close it.

    Args:
        gate: What is admitted.
        max_bytes: Largest file, bytes.
        timeout_s: Longest download, seconds.
        resolver: Resolves names; None: as the system does.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        max_bytes: int,
        timeout_s: float = 300.0,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_GatedResolver(gate, resolver or aiohttp.ThreadedResolver()),
                socket_factory=gate.socket,
                use_dns_cache=False,
                force_close=True,  # every request is checked, none rides on an older connection
                limit=0,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": "moe-segments-sandbox", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def rows(self, url: str, attribute_type: str) -> Rows:
        """Return the rows of the file at an address.

        Raises:
            FileProblem: It is not admitted, not there, too large, too slow, or not a file as documented.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._rows(_checked(url), attribute_type)
        except TimeoutError:
            raise FileProblem(f"the download took longer than {self._timeout_s:g} s", is_passing=True) from None
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, AddressRefused)
            problem = _TEXT_OF_REFUSAL if refused else "no connection to the file's server"
            raise FileProblem(problem, is_passing=not refused) from None
        except (aiohttp.InvalidURL, ValueError):
            raise FileProblem("the file's address is not a valid URL") from None
        except aiohttp.ClientError as error:
            raise FileProblem(f"the download broke off: {type(error).__name__}", is_passing=True) from None

    async def post(self, url: str, body: bytes) -> tuple[int | None, str | None]:
        """Deliver a callback: the receiver's status, or why there is none."""
        try:
            async with (
                asyncio.timeout(_CALLBACK_TIMEOUT_S),
                self._session.post(
                    _checked(url),
                    data=body,
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response,
            ):
                return response.status, None
        except FileProblem as refused:
            return None, refused.problem
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            os_error = getattr(error, "os_error", None)
            return None, _TEXT_OF_REFUSAL if isinstance(os_error, AddressRefused) else type(error).__name__

    async def _rows(self, url: URL, attribute_type: str) -> Rows:
        async with self._session.get(url, allow_redirects=False) as response:
            self._check(response)
            reader, size_bytes = RowReader(attribute_type), 0
            async for block in response.content.iter_chunked(_BLOCK_BYTES):
                size_bytes += len(block)
                self._check_size(size_bytes)
                reader.feed(block)
            return reader.finish()

    def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status != _OK:
            is_passing = response.status >= _SERVER_ERRORS
            raise FileProblem(f"the file's server answered {response.status}", is_passing=is_passing)
        if coding := foreign_coding(", ".join(response.headers.getall("Content-Encoding", ()))):
            raise FileProblem(f"the file's server sent it compressed, with Content-Encoding {coding}")
        if "Content-Type" in response.headers and response.content_type not in FILE_CONTENT_TYPES:
            raise FileProblem(f"the file's server sent it as {response.content_type}")
        self._check_size(response.content_length or 0)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise FileProblem(f"the file is larger than {self._max_bytes} bytes")


def _checked(url: str) -> URL:
    if problem := problem_of_url(url):
        raise FileProblem(f"the address {problem}")
    return URL(url, encoded=True)
