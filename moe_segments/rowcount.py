"""How many values a file has, by reading it once: an upper bound, since an empty line counts too.

Only a line feed ends a line; what follows the last one counts when it is not empty. The file's host never
sees our credentials: the request is made without the session's headers, cookies and authentication.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from moe_segments.errors import PreflightError
from moe_segments.limits import FILE_CONTENT_TYPES
from moe_segments.models import problem_of_url, url_without_query

if TYPE_CHECKING:
    from moe_segments.settings import Settings

__all__ = ["count_rows", "file_timeouts"]

_BLOCK_BYTES: Final = 262_144
_FILE_TOTAL_S: Final = 3_600.0  # 150 MB at 40 KB/s
_MB: Final = 1_000_000


def file_timeouts(settings: Settings) -> aiohttp.ClientTimeout:
    """The time-outs of reading a file: as for the service, but an hour in total, since a file is large."""
    return aiohttp.ClientTimeout(
        total=max(_FILE_TOTAL_S, settings.total_timeout_s),
        connect=settings.connect_timeout_s,
        sock_connect=settings.connect_timeout_s,
        sock_read=settings.read_timeout_s,
    )


async def count_rows(
    source: Path | str,
    *,
    session: aiohttp.ClientSession,
    max_bytes: int,
    timeouts: aiohttp.ClientTimeout,
    proxy: str | None = None,
) -> int:
    """Read a file once and count its lines.

    Args:
        source: A path, or a public URL as text.
        session: Lends its connector, and nothing else.
        max_bytes: Largest file, bytes.
        timeouts: For a URL, see `file_timeouts`.
        proxy: An HTTP proxy to reach the URL through.

    Returns:
        The number of lines, at least 1.

    Raises:
        PreflightError: It cannot be read, is empty, too large, or not what the service would take.
    """
    if isinstance(source, Path):
        return await asyncio.to_thread(_count_path, source, max_bytes)
    if problem := problem_of_url(source):
        raise PreflightError("the file's URL", problem)
    tally = _Tally(url_without_query(source), max_bytes)
    async with aiohttp.ClientSession(
        connector=session.connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeouts,
        auto_decompress=False,
        trust_env=False,
    ) as own:
        return await _count_url(own, source, tally, proxy)


class _Tally:
    """Counts lines over blocks.

    Attributes:
        source: What errors call the file.
    """

    def __init__(self, source: str, max_bytes: int) -> None:
        self.source = source
        self._max_bytes = max_bytes
        self._bytes = self._feeds = 0
        self._last = b""

    def add(self, block: bytes) -> None:
        self.check_size(self._bytes + len(block))
        self._bytes += len(block)
        self._feeds += block.count(b"\n")
        self._last = block[-1:] or self._last

    def check_size(self, file_bytes: int) -> None:
        if file_bytes > self._max_bytes:
            most = f"{self._max_bytes / _MB:g} MB"
            raise self.error(f"is larger than {most}, the most MoEngage takes: split it into smaller files")

    def rows(self) -> int:
        if not self._bytes:
            raise self.error("is empty: there is nothing to upload")
        return self._feeds + (self._last != b"\n")

    def error(self, problem: str) -> PreflightError:
        return PreflightError(self.source, problem)


def _count_path(path: Path, max_bytes: int) -> int:
    tally = _Tally(str(path), max_bytes)
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, and be empty afterwards
            raise tally.error("is no regular file")
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                tally.add(block)
    except OSError as error:
        raise tally.error(f"cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError:
        raise tally.error("is no path") from None
    return tally.rows()


async def _count_url(session: aiohttp.ClientSession, url: str, tally: _Tally, proxy: str | None) -> int:
    try:
        async with session.get(
            URL(url, encoded=True),  # as it is: a presigned URL is signed to the letter
            headers={"Accept": "*/*", "Accept-Encoding": "identity"},
            allow_redirects=False,
            proxy=proxy,
        ) as response:
            _check_headers(response, tally)
            async for block in response.content.iter_chunked(_BLOCK_BYTES):
                tally.add(block)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise tally.error(f"cannot be read: {_why(error)}") from None
    return tally.rows()


def _check_headers(response: aiohttp.ClientResponse, tally: _Tally) -> None:
    if 300 <= response.status < 400:  # noqa: PLR2004 - the redirects
        raise tally.error("redirects to another address: give the address it ends at")
    if response.status != 200:  # noqa: PLR2004 - OK
        raise tally.error(f"answers HTTP {response.status}: MoEngage reads it without a login, and so do we")
    if response.content_type.lower() not in FILE_CONTENT_TYPES:
        raise tally.error(
            f"is served as {response.content_type[:100]!r}: MoEngage takes {', '.join(FILE_CONTENT_TYPES)}"
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise tally.error("is served compressed: MoEngage takes plain text")
    tally.check_size(response.content_length or 0)


def _why(error: Exception) -> str:
    # Types only: the text of an aiohttp error holds the URL with its signature.
    if isinstance(error, TimeoutError):
        return f"no answer within the time-out ({type(error).__name__})"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"it broke off ({type(error).__name__})"
    return f"the connection failed ({type(error).__name__})"
