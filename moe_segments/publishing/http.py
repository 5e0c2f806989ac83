"""Publishing over plain HTTP: send a file to a sandbox, and probe an address as the service will fetch it.

A HEAD would prove nothing: an address is signed for GET alone, and stores answer 403 to anything else.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
from yarl import URL

from moe_segments.core.wire.strict_json import foreign_coding
from moe_segments.errors import PreflightError
from moe_segments.http.private_addresses import connector_for
from moe_segments.limits import FILE_CONTENT_TYPES
from moe_segments.models.urls import url_without_query
from moe_segments.publishing.local_file import blocks_of
from moe_segments.settings import tls_context

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.types import FetchPrivate

__all__ = ["Glance", "fetch_once", "glance", "put_file"]

_OK, _PARTIAL, _CREATED, _NO_CONTENT, _NO_ROOM = 200, 206, 201, 204, 507
_RANGE: Final = re.compile(r"bytes 0-0/(\d+)")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3_600, connect=10, sock_read=60)


async def put_file(url: str, path: Path, sha256: str, file_bytes: int) -> bool:
    """Send a file to a server on this machine, unless it is there. Returns whether it was sent.

    Raises:
        PreflightError: The server does not take it, or the file changed meanwhile.
    """
    async with _session() as session:
        try:
            if await _holds(session, url, file_bytes):
                return False
            async with session.put(
                URL(url, encoded=True),
                data=blocks_of(path, sha256),
                headers={"Content-Type": "text/csv", "Content-Length": str(file_bytes)},
                allow_redirects=False,
            ) as response:
                status = response.status
        except PreflightError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise PreflightError(
                str(path),
                f"could not be published to {url_without_query(url)} ({type(error).__name__}): see whether the sandbox "
                "still runs there",
            ) from None
    if status not in (_OK, _CREATED, _NO_CONTENT):
        why = ", as there is no room for it there" if status == _NO_ROOM else ""
        raise PreflightError(str(path), f"could not be published: {url_without_query(url)} answers HTTP {status}{why}")
    return True


async def fetch_once(url: str, file_bytes: int, *, proxy: str | None = None, ca_file: Path | None = None) -> None:
    """Fetch the first byte of a published file, without any credentials, as the service will.

    Args:
        url: Where it is.
        file_bytes: How large it has to be.
        proxy: An HTTP proxy to reach it through.
        ca_file: Certificates that are trusted beside the system's own.

    Raises:
        PreflightError: It cannot be fetched, or is not what was put there.
    """
    try:
        problem = _problem_of(await glance(url, proxy=proxy, ca_file=ca_file), file_bytes)
    except (aiohttp.ClientError, OSError) as error:  # their texts hold the signature
        problem = f"no answer ({type(error).__name__})"
    if problem:
        raise PreflightError(url_without_query(url), f"was published and cannot be fetched: {problem}")


@attrs.frozen(kw_only=True)
class Glance:
    """The answer of an address to a GET of the first byte.

    Attributes:
        status: 206 or 200 when it is there.
        content_type: As served, in small letters.
        coding: How it is encoded, fit to be shown; None when it is not.
        file_bytes: Size of the whole file; None where it is not said.
        etag: Its entity tag, without the mark of a weak one; None where it has none.
        modified: When it was changed last, as it is said; None where it is not.
    """

    status: int
    content_type: str
    coding: str | None
    file_bytes: int | None
    etag: str | None
    modified: str | None

    @property
    def is_there(self) -> bool:
        """Return whether a file is there."""
        return self.status in (_OK, _PARTIAL)


async def glance(
    url: str,
    *,
    proxy: str | None = None,
    ca_file: Path | None = None,
    total_s: float | None = None,
    fetch_private: FetchPrivate = True,
) -> Glance:
    """Look at what is at an address, and take no more than its first byte.

    Args:
        url: Where.
        proxy: An HTTP proxy to reach it through.
        ca_file: Certificates that are trusted beside the system's own.
        total_s: Longest time, seconds; None: as for a file.
        fetch_private: Which addresses besides public ones are looked at, without a proxy.

    Raises:
        aiohttp.ClientError: No answer. Its text may hold a signature.
        OSError: The same.
    """
    async with (
        asyncio.timeout(total_s),
        _session(True if proxy else fetch_private) as session,
        session.get(
            URL(url, encoded=True),  # as it is: it is signed to the letter
            headers={"Range": "bytes=0-0", "Accept": "*/*", "Accept-Encoding": "identity"},
            allow_redirects=False,
            proxy=proxy,
            ssl=tls_context(ca_file) or True,
        ) as response,
    ):
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        etag = response.headers.get("ETag")
        return Glance(
            status=response.status,
            content_type=response.content_type.lower(),
            coding=foreign_coding(", ".join(response.headers.getall("Content-Encoding", ()))),
            file_bytes=int(found[1]) if response.status == _PARTIAL and found else response.content_length,
            etag=None if etag is None else etag.removeprefix("W/"),
            modified=response.headers.get("Last-Modified"),
        )


def _problem_of(seen: Glance, file_bytes: int) -> str | None:
    if not seen.is_there:
        return f"HTTP {seen.status}; the service needs to read it without a login"
    if seen.content_type not in FILE_CONTENT_TYPES:
        return f"it is served as {seen.content_type[:100]!r}; MoEngage takes {', '.join(FILE_CONTENT_TYPES)}"
    if seen.coding is not None:
        return f"it is served compressed, with Content-Encoding {seen.coding}; MoEngage takes plain text"
    if seen.file_bytes != file_bytes:
        return f"it has {seen.file_bytes} bytes there, and {file_bytes} here"
    return None


async def _holds(session: aiohttp.ClientSession, url: str, file_bytes: int) -> bool:
    async with session.head(URL(url, encoded=True), allow_redirects=False) as response:
        return response.status == _OK and response.content_length == file_bytes


def _session(fetch_private: FetchPrivate = True) -> aiohttp.ClientSession:  # noqa: FBT002 - its only argument
    return aiohttp.ClientSession(
        connector=connector_for(fetch_private),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_TIMEOUT,
        trust_env=False,
    )
