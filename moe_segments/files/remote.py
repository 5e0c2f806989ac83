"""Read a file block by block from its public URL.

The file's host never sees our credentials: the request is made without the session's headers, cookies and
authentication. No redirect is followed: often it leads to a login page, which has lines too. A URL may come from
somebody else, so private addresses are refused by default, see `http.private_addresses`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp
import attrs
from yarl import URL

from moe_segments.core.wire.presigned_url import expiry_of, has_temporary_credentials
from moe_segments.core.wire.strict_json import foreign_coding
from moe_segments.errors import InputError, PreflightError
from moe_segments.files.sources import BLOCK_BYTES, check_size
from moe_segments.http.private_addresses import PrivateAddress, connector_for, names_private_host
from moe_segments.limits import FILE_CONTENT_TYPES
from moe_segments.models.urls import url_without_query
from moe_segments.models.validators import problem_of_url
from moe_segments.settings import tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments.settings import Settings
    from moe_segments.types import FetchPrivate

__all__ = ["Served", "file_timeouts", "serving_of"]

_FILE_TOTAL_S: Final = 3_600.0  # 150 MB at 40 KB/s
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 30.0
_PRIVATE: Final = (
    "is at an address of this machine or of a private network, which MoEngage cannot reach and which is not read here: "
    "give a public address, or allow it with fetch_private=True, MOE_FETCH_PRIVATE=1 or --fetch-private"
)
_NO_LOGIN: Final = "MoEngage reads it without a login, and so do we"
_REFUSED: Final = frozenset({400, 401, 403})  # by stores, for a signature that has expired
_STATUSES: Final = {
    204: "the host has no content to send: upload the file there first",
    206: "the host sends a part of the file only, without being asked to: MoEngage takes the whole file with HTTP 200",
    401: f"the host wants a login: {_NO_LOGIN}; presign the URL or make the file public",
    403: f"the host refuses to give the file: {_NO_LOGIN}; presign the URL, or allow MoEngage's addresses and ours",
    404: "the host has no file at this address",
    410: "the file is gone from this address",
    429: "the file's host has had too many requests, which is no limit of MoEngage's: try again later",
}


def file_timeouts(settings: Settings | None = None) -> aiohttp.ClientTimeout:
    """Return the time-outs of reading a file: as for the service, but an hour in total, since a file is large."""
    return aiohttp.ClientTimeout(
        total=max(_FILE_TOTAL_S, settings.total_timeout_s if settings else 0),
        connect=settings.connect_timeout_s if settings else _CONNECT_S,
        sock_connect=settings.connect_timeout_s if settings else _CONNECT_S,
        sock_read=settings.read_timeout_s if settings else _SILENCE_S,
    )


@attrs.frozen
class Served:
    """A file that its host has begun to send.

    Attributes:
        blocks: Its bytes.
        etag: Its entity tag, as it came.
        file_bytes: Its size, bytes, where the host says so.
    """

    blocks: AsyncIterator[bytes] = attrs.field(repr=False)
    etag: str | None
    file_bytes: int | None


@asynccontextmanager
async def serving_of(
    url: str,
    *,
    session: aiohttp.ClientSession | None,
    max_bytes: int,
    timeouts: aiohttp.ClientTimeout,
    proxy: str | None = None,
    ca_file: Path | None = None,
    fetch_private: FetchPrivate = False,
) -> AsyncIterator[Served]:
    """Ask a host for a file, and give what it sends while inside.

    Args:
        url: A public URL.
        session: Lends its connector, and nothing else; None makes one. Needs *fetch_private*.
        max_bytes: Largest file, bytes.
        timeouts: See `file_timeouts`.
        proxy: An HTTP proxy to reach the URL through, which then resolves its host and decides where to connect.
        ca_file: Certificates in PEM that are trusted beside the system's own.
        fetch_private: Which addresses besides public ones are read.

    Raises:
        InputError: A session is lent without *fetch_private*.
        PreflightError: It cannot be read, is too large, or is not served as MoEngage takes it. From the blocks too.
    """
    if problem := problem_of_url(url):
        raise PreflightError("the file's URL", problem)
    if session is not None and fetch_private is not True:
        raise InputError("connects to any address: give fetch_private=True with it, or leave it out", "session")
    source, address = url_without_query(url), URL(url, encoded=True)  # as it is: a signature covers every letter
    if names_private_host(address.host or "", fetch_private):
        raise PreflightError(source, _PRIVATE)
    async with aiohttp.ClientSession(
        connector=session.connector if session else connector_for(True if proxy else fetch_private),
        connector_owner=session is None,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeouts,
        auto_decompress=False,
        trust_env=False,
    ) as own:
        try:
            async with own.get(
                address,
                headers={"Accept": "*/*", "Accept-Encoding": "identity"},
                allow_redirects=False,
                proxy=proxy,
                ssl=tls_context(ca_file) or True,
            ) as response:
                _check_headers(response, source)
                check_size(response.content_length or 0, max_bytes, source)
                yield Served(
                    _blocks(response, max_bytes, source), response.headers.get("ETag"), response.content_length
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(getattr(error, "os_error", None), PrivateAddress):
                raise PreflightError(source, _PRIVATE) from None
            raise PreflightError(source, f"cannot be read: {_why(error)}") from None


async def _blocks(response: aiohttp.ClientResponse, max_bytes: int, source: str) -> AsyncIterator[bytes]:
    read_bytes = 0
    async for block in response.content.iter_chunked(BLOCK_BYTES):
        read_bytes += len(block)
        check_size(read_bytes, max_bytes, source)
        yield block


def _check_headers(response: aiohttp.ClientResponse, source: str) -> None:
    if response.status != 200:  # noqa: PLR2004 - OK
        raise PreflightError(source, _problem_of_status(response))
    if response.content_type.lower() not in FILE_CONTENT_TYPES:
        raise PreflightError(
            source, f"is served as {response.content_type[:100]!r}: MoEngage takes {', '.join(FILE_CONTENT_TYPES)}"
        )
    if coding := foreign_coding(", ".join(response.headers.getall("Content-Encoding", ()))):
        raise PreflightError(source, f"is served compressed, with Content-Encoding {coding}: MoEngage takes plain text")


def _problem_of_status(response: aiohttp.ClientResponse) -> str:
    status = response.status
    if 300 <= status < 400:  # noqa: PLR2004 - the redirects
        return f"answers HTTP {status} and redirects to another address: give the address it ends at"
    said = _STATUSES.get(status) or ("the host is in trouble: try again later" if status >= 500 else _NO_LOGIN)  # noqa: PLR2004
    if status in _REFUSED:
        said += _of_signature(str(response.url))
    if status == 429 and (wait := response.headers.get("Retry-After", "")).isdecimal():  # noqa: PLR2004
        said += f"; the host asks to wait {int(wait[:9]):,} s"
    return f"answers HTTP {status}: {said}"


def _of_signature(url: str) -> str:
    """Return what a presigned URL that was refused says of itself, never repeating it."""
    expires_s = expiry_of(url)
    if expires_s is not None:
        with suppress(OverflowError, ValueError, OSError):
            until = datetime.fromtimestamp(expires_s, UTC)
            verb = "expired" if until <= datetime.now(UTC) else "expires"
            return f"; its signature {verb} on {until:%Y-%m-%d at %H:%M} UTC"
    return "; it was signed with temporary credentials" if has_temporary_credentials(url) else ""


def _why(error: Exception) -> str:
    # Types only: the text of an aiohttp error holds the URL with its signature.
    if isinstance(error, TimeoutError):
        return f"no answer within the time-out ({type(error).__name__})"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"it broke off ({type(error).__name__})"
    return f"the connection failed ({type(error).__name__})"
