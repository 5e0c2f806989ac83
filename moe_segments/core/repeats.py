"""Which rows repeat an earlier one: by a set, and from some size on, where numpy is installed, with numpy."""

from __future__ import annotations

import gc
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from moe_segments.core.seen import SeenHashes, SeenValues, rest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.chunks import Chunk
    from moe_segments.core.seen import Duplicates, Place, Reread
    from moe_segments.core.seen_fast import SeenKeys

__all__ = ["FAST_FROM_ROWS", "Repeats"]

FAST_FROM_ROWS: Final = 300_000  # below it the import of numpy costs more than it saves
_OLD_FROM_ROWS: Final = 100_000


class Repeats:
    """Told every chunk, then asked once."""

    def __init__(
        self,
        *,
        reread: Reread | None,
        expected_bytes: int | None = None,
        fast_from_rows: int | None = FAST_FROM_ROWS,
        key_bits: int | None = None,
    ) -> None:
        """Begin.

        Args:
            reread: Gives bytes of the source once more, by offset and size.
            expected_bytes: How large the source will be, where that is known.
            fast_from_rows: From how many rows on numpy is used, where it is installed and *reread* given; None: never.
            key_bits: How much of a hash is kept; only to test that it does not matter.
        """
        self._reread, self._expected_bytes = reread, expected_bytes
        self._fast_from = fast_from_rows if reread else None
        self._key_bits = key_bits
        self._seen: SeenValues | SeenHashes | SeenKeys = SeenValues()
        if reread is not None:
            self._seen = SeenHashes(reread) if key_bits is None else SeenHashes(reread, key_bits=key_bits)
        self._rows = 0
        self._rest_of = rest_of

    @property
    def places(self) -> list[Place]:
        """Where the chunks are that were taken."""
        return self._seen.places

    def add(self, chunk: Chunk, first_line: int, blank: Sequence[int] = ()) -> tuple[int, bool]:
        """Take the rows of the next chunk.

        Args:
            chunk: The rows.
            first_line: The line of the first of them.
            blank: Those that are blank and not empty, numbered from 0; left out like the empty ones.

        Returns:
            How many rows the chunk has, and whether one of them is empty.
        """
        told = self._seen.add(chunk, first_line, blank)
        before, self._rows = self._rows, self._rows + told[0]
        if before < _OLD_FROM_ROWS <= self._rows:
            # What is kept is one set. It is old from now on for the garbage collector, which else would look through
            # millions of its entries at once, somewhere on the way, and hold up every other thread meanwhile.
            gc.collect(1)
        if self._fast_from is not None and self._rows_expected(chunk) >= self._fast_from:
            self._go_fast()
        return told

    def finish(self, most: int) -> Duplicates:
        """All duplicates; the first *most* of them with the first occurrence's line, where it can be read again."""
        return self._seen.finish(most)

    def rest_of(self, place: Place, lines: Sequence[int], *, has_empty: bool) -> tuple[bytes, int]:
        """A chunk's rows once more, of a source of plain line feeds; see `moe_segments.core.seen.rest_of`."""
        assert self._reread is not None  # as the caller sees to
        data = self._reread(place.offset, place.size)
        return self._rest_of(data, lines, place.first_line, has_empty=has_empty) if lines or has_empty else (data, 0)

    def let_go(self) -> Iterator[None]:
        """Forget everything, a little at each step. Nothing can be asked afterwards."""
        return self._seen.let_go() if isinstance(self._seen, SeenHashes | SeenValues) else iter(())

    def _rows_expected(self, chunk: Chunk) -> float:
        return max(self._rows, self._rows * (self._expected_bytes or 0) / (chunk.offset + chunk.size))

    def _go_fast(self) -> None:
        self._fast_from = None  # once
        if find_spec("numpy") is None:  # a module that cannot be loaded costs memory until then
            return
        try:
            from moe_segments.core import seen_rows  # numpy costs more than a small file
            from moe_segments.core.seen_fast import SeenKeys
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "numpy":
                raise
            return
        assert self._reread is not None  # or this would never be asked for
        seen = SeenKeys(self._reread) if self._key_bits is None else SeenKeys(self._reread, key_bits=self._key_bits)
        self._rest_of = seen_rows.rest_of
        places, self._seen = self._seen.places, seen  # lets go of what it kept
        seen.add_again(places)
