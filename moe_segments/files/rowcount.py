"""Count the values of a file by reading it once: an upper bound, since an empty line counts too.

Only a line feed ends a line; what follows the last one counts when it is not empty. `moe_segments.files.check_file`
says the same and everything else about the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.errors import PreflightError
from moe_segments.files.remote import file_timeouts
from moe_segments.files.sources import check_size
from moe_segments.files.stream import Web, pour

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from moe_segments.types import FetchPrivate

__all__ = ["count_rows", "file_timeouts"]


async def count_rows(
    source: Path | str,
    *,
    max_bytes: int,
    timeouts: aiohttp.ClientTimeout,
    proxy: str | None = None,
    session: aiohttp.ClientSession | None = None,
    fetch_private: FetchPrivate = False,
) -> int:
    """Read a file once and count its lines.

    Args:
        source: A path, or a public URL as text.
        max_bytes: Largest file, bytes.
        timeouts: For a URL, see `file_timeouts`.
        proxy: An HTTP proxy to reach the URL through.
        session: Lends its connector, and nothing else; needs *fetch_private*.
        fetch_private: Which addresses besides public ones are read.

    Returns:
        The number of lines, at least 1.

    Raises:
        PreflightError: It cannot be read, is empty, too large, or not what the service would take.
    """
    web = Web(max_bytes=max_bytes, session=session, timeouts=timeouts, proxy=proxy, fetch_private=fetch_private)
    return await pour(source, lambda origin: _LineCounter(origin.name, max_bytes), web=web)


class _LineCounter:
    """A counter of the lines of what is poured in."""

    def __init__(self, source: str, max_bytes: int) -> None:
        self._source, self._max_bytes = source, max_bytes
        self._bytes = self._feeds = 0
        self._last = b""

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        self._bytes += len(block)
        check_size(self._bytes, self._max_bytes, self._source)
        self._feeds += block.count(b"\n")
        self._last = block[-1:]

    def finish(self) -> int:
        """Return the number of lines."""
        if not self._bytes:
            raise PreflightError(self._source, "is empty: there is nothing to upload")
        return self._feeds + (self._last != b"\n")

    def close(self) -> None:
        """Do nothing: nothing is open."""
