"""Read a source once more from its beginning to its end, in few large pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Reread = Callable[[int, int], bytes]  # offset, size -> those bytes of the source

__all__ = ["AHEAD_BYTES", "ReadAhead"]

AHEAD_BYTES: Final = 1 << 20


class ReadAhead:
    """A reader that keeps what comes after the bytes it is asked for.

    A thread that reads often and briefly gives up the interpreter lock each time and has it back before the event
    loop's thread wakes up, which then waits on and on. So it is to read rarely.

    Args:
        reread: Returns bytes of the source, by offset and size.
        ahead_bytes: How many to read at a time at least.
    """

    def __init__(self, reread: Reread, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._reread, self._ahead_bytes = reread, ahead_bytes
        self._begin, self._data = 0, b""

    def __call__(self, offset: int, size: int) -> bytes:
        """Return bytes of the source; fewer at its end."""
        at = offset - self._begin
        if at < 0 or at + size > len(self._data):
            self._begin, self._data = offset, self._reread(offset, max(size, self._ahead_bytes))
            at = 0
        return self._data[at : at + size]
