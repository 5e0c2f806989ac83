"""How many values a file has, by reading it once: an upper bound, since an empty line counts too.

Only a line feed ends a line; what follows the last one counts when it is not empty. `moe_segments.files.check_file`
says the same and everything else about the file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from moe_segments.errors import PreflightError
from moe_segments.fields import url_without_query
from moe_segments.serving import file_timeouts, serving_of
from moe_segments.sources import check_size, opened

if TYPE_CHECKING:
    import aiohttp

__all__ = ["count_rows", "file_timeouts"]


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
    async with serving_of(source, session=session, max_bytes=max_bytes, timeouts=timeouts, proxy=proxy) as served:
        tally = _Tally(url_without_query(source), max_bytes)
        async for block in served.blocks:
            tally.add(block)
        return tally.rows()


class _Tally:
    """Counts lines over blocks."""

    def __init__(self, source: str, max_bytes: int) -> None:
        self._source, self._max_bytes = source, max_bytes
        self._bytes = self._feeds = 0
        self._last = b""

    def add(self, block: bytes) -> None:
        check_size(self._bytes + len(block), self._max_bytes, self._source)
        self._bytes += len(block)
        self._feeds += block.count(b"\n")
        self._last = block[-1:] or self._last

    def rows(self) -> int:
        if not self._bytes:
            raise PreflightError(self._source, "is empty: there is nothing to upload")
        return self._feeds + (self._last != b"\n")


def _count_path(path: Path, max_bytes: int) -> int:
    tally = _Tally(str(path), max_bytes)
    with opened(path) as file:
        for block in file.blocks():
            tally.add(block)
    return tally.rows()
