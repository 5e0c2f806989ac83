"""Read a file's values block by block, as the service is documented to: one value a line. Pure."""

from __future__ import annotations

import re
from typing import Final

from moe_segments.sandbox.model.records import Rows

__all__ = ["RowReader"]

_VALUE_MAX_BYTES: Final = 4_096
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class RowReader:
    """Collects the rows of one file.

    A row is a line that is not wholly empty. It is usable when it is UTF-8, not blank, without quotes, commas
    or control characters, at most 4,096 bytes long and, where the attribute is a double, a number. A usable
    value counts once. Only the line end is trimmed, so a value with a blank at its edge matches nobody.

    Args:
        attribute_type: "string" or "double".
    """

    def __init__(self, attribute_type: str = "string") -> None:
        self._is_number = attribute_type == "double"
        self._rest = b""
        self._found = 0
        self._values: set[str] = set()

    def feed(self, block: bytes) -> None:
        """Take the next block of the file, of any length."""
        *lines, rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._row(line)
        self._rest = rest[: _VALUE_MAX_BYTES + 2]  # beyond that it is unusable, whatever follows

    def finish(self) -> Rows:
        """Return what the file holds, once all of it was fed."""
        self._row(self._rest)
        self._rest = b""
        return Rows(found=self._found, values=frozenset(self._values))

    def _row(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        if not line:
            return
        self._found += 1
        if len(line) <= _VALUE_MAX_BYTES and (value := self._usable(line)) is not None:
            self._values.add(value)

    def _usable(self, line: bytes) -> str | None:
        try:
            value = line.decode()
        except UnicodeDecodeError:
            return None
        if not value.strip() or '"' in value or "," in value or not value.isprintable():
            return None
        return None if self._is_number and not _NUMBER.fullmatch(value) else value
