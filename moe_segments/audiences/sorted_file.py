"""Sort values of any number in bounded memory: sorted runs in a private file, merged when they are read.

A value is a text of one byte a character: the bytes of its line. So the order is that of the bytes, on every machine.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from moe_segments.core.audiences.streams import merged
from moe_segments.files.private_file import PrivateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from moe_segments.core.audiences.streams import Block

__all__ = ["SortedFile", "Sorter", "lines_of"]

_RUN: Final = 50_000  # values of one run
_SORTED: Final = 4_096  # values handled at a time, as all threads stand still meanwhile
_READ_BYTES: Final = 1 << 15


class SortedFile:
    """A private temporary file of values, sorted, each once, one a line.

    Args:
        name: What errors call it.

    Attributes:
        name: What errors call it.
        count: How many values it has.
        file_bytes: Its size, bytes.
    """

    name: str
    count: int
    file_bytes: int

    def __init__(self, name: str) -> None:
        self._file, self.name = PrivateFile(name), name
        self.count = self.file_bytes = 0

    @property
    def path(self) -> Path:
        """Where it is, until `remove`."""
        return self._file.path

    def append(self, block: Block) -> None:
        """Write values that come after those before.

        Raises:
            PreflightError: They cannot be written.
        """
        if block:
            data = lines_of(block)
            self._file.append(data)
            self.file_bytes += len(data)
            self.count += len(block)

    def blocks(self, begin: int = 0, count: int | None = None) -> Iterator[Block]:
        """Yield its values, or *count* of them from *begin*."""
        end = self.count if count is None else begin + count
        at = 0
        for block in _read(self._file, 0, self.file_bytes):
            if at >= end:
                return
            if part := block[max(0, begin - at) : end - at]:
                yield part
            at += len(block)

    def remove(self) -> None:
        """Delete it. Does nothing the second time."""
        self._file.remove()


class Sorter:
    """A sorter of lines.

    Args:
        name: What errors call the source.
    """

    def __init__(self, name: str) -> None:
        self._name, self._runs = name, PrivateFile(name)
        self._spans: list[tuple[int, int]] = []
        self._values: list[str] = []
        self._end = 0

    def feed(self, lines: bytes) -> None:
        """Take whole lines.

        Raises:
            PreflightError: There is no room for them.
        """
        values = lines.decode("latin-1").split("\n")
        values.pop()  # behind the last line break
        for begin in range(0, len(values), _SORTED):
            self._values += sorted(values[begin : begin + _SORTED])
            time.sleep(0)  # let the event loop have its turn at once
        if len(self._values) >= _RUN:
            self._flush()

    def _flush(self) -> None:
        values, begin = self._values, self._end
        last: str | None = None
        time.sleep(0)
        values.sort()  # a merge, as its parts are sorted
        for at in range(0, len(values), _SORTED):
            block = list(dict.fromkeys(values[at : at + _SORTED]))
            data = lines_of(block[1:] if block[0] == last else block)
            last = block[-1]
            self._runs.append(data)
            self._end += len(data)
        if self._end > begin:
            self._spans.append((begin, self._end))
        self._values = []

    def finish(self) -> SortedFile:
        """Return all values, sorted, each once.

        Raises:
            PreflightError: There is no room for them.
        """
        self._flush()
        whole = SortedFile(self._name)
        try:
            for block in merged([_read(self._runs, *span) for span in self._spans]):
                whole.append(block)
        except BaseException:
            whole.remove()
            raise
        finally:
            self.close()
        return whole

    def close(self) -> None:
        """Delete its runs. Does nothing the second time."""
        self._runs.remove()


def lines_of(block: Iterable[str]) -> bytes:
    """Return values as lines."""
    return "\n".join((*block, "")).encode("latin-1")


def _read(file: PrivateFile, begin: int, end: int) -> Iterator[Block]:
    rest = b""
    while begin < end:
        data = file.reread(begin, min(_READ_BYTES, end - begin))
        begin += len(data)
        whole, newline, rest = (rest + data).rpartition(b"\n")
        if newline:
            yield whole.decode("latin-1").split("\n")
