"""Which rows repeat an earlier one, on both paths, against a dict.

With hashes that say next to nothing and room for next to nothing: only the bytes can tell, a few rows at a time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.core.chunks import Chunk, Chunker
from moe_segments.core.seen import SeenHashes
from tests.proofs import cases, say

if TYPE_CHECKING:
    from moe_segments.core.seen_fast import SeenKeys

FILES: Final = cases(150, 3_000)
SEED: Final = 20_261_125
LONGEST: Final = 400
KEY_BITS: Final = (0, 1, 4, 9, 39)
ENDS: Final = ("", "x", "y" * 7, "z" * 30, "w" * 120, "v" * 128, "u" * 129, "t" * 300)


def random_rows(chance: random.Random) -> list[bytes]:
    """Rows of a few lengths, most of them there again: at once, in the same order, or anywhere."""
    number = chance.choice((1, 5, 40, 400))
    some = [number] if chance.random() < 0.5 else range(number)
    ends = chance.sample(ENDS, chance.randint(1, 4))
    values = [f"{chance.choice(some):0{chance.choice((1, 6))}}{chance.choice(ends)}" for _ in range(number)]
    if chance.random() < 0.4:  # all of one length
        values = [f"{value[:12]:0>12}" for value in values]
    if chance.random() < 0.3:  # they differ at the end
        values = [value[::-1] for value in values]
    how = chance.randrange(4)
    rows = [value for value in values for _ in "12"] if how == 0 else values * chance.randint(1, 3)
    if how == 1:
        chance.shuffle(rows)
    if chance.random() < 0.3:
        for _ in range(number // 8):
            rows[chance.randrange(len(rows))] = chance.choice(("", " ", "\t "))
    return [row.encode() for row in rows]


def fed(seen: SeenHashes | SeenKeys, data: bytes, chunk_bytes: int) -> None:
    """Everything that is not longer than the longest."""
    chunker, line = Chunker(chunk_bytes, LONGEST), 1
    blocks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    for piece in (*(piece for block in blocks for piece in chunker.feed(block)), *chunker.finish()):
        rows = piece.text.split(b"\n")[1:-1] if isinstance(piece, Chunk) else [b""]
        if isinstance(piece, Chunk):
            blank = [number for number, row in enumerate(rows) if row and not row.strip()]
            assert seen.add(piece, line, blank) == (len(rows), b"" in rows)
        line += len(rows)


def found(seen: SeenHashes | SeenKeys, most: int) -> tuple[list[int], list[tuple[int, bytes, int | None]]]:
    told = seen.finish(most)
    return list(told.lines), list(told.first)


def test_duplicates_are_those_of_a_dict() -> None:
    """All of their lines; of the first ones the bytes and the line of the first occurrence."""
    pytest.importorskip("numpy", reason="needs numpy: pip install 'moe-segments[fast]'")
    from moe_segments.core.seen_fast import SeenKeys

    number = 0
    for file in range(FILES):
        chance = random.Random(SEED + file)
        rows, most = random_rows(chance), chance.choice((1, 3, 10_000))
        if chance.random() < 0.2:
            rows.insert(chance.randrange(len(rows)), b"l" * (LONGEST + 1))
        data = b"\r\n".join((*rows, b"")) if chance.random() < 0.1 else b"\n".join((*rows, b""))
        met: dict[bytes, int] = {}
        wanted = [
            (line, row, met[row])
            for line, row in enumerate(rows, 1)
            if row.strip() and len(row) <= LONGEST and met.setdefault(row, line) < line
        ]

        def reread(offset: int, size: int, data: bytes = data) -> bytes:
            return data[offset : offset + size]

        bits, few = chance.choice(KEY_BITS), chance.choice((0, 0, 5, 20_000))
        for seen in (
            SeenHashes(reread, key_bits=bits, few=few),
            SeenKeys(
                reread,
                key_bits=bits,
                window_bytes=chance.choice((0, 0, 400, 100_000)),
                slice_rows=chance.choice((1, 2, 7, 100, 32_768)),
            ),
        ):
            fed(seen, data, chance.choice((1, 60, 500, 5_000)))
            lines, first = found(seen, most)
            assert lines == [line for line, _, _ in wanted], f"file {file} of seed {SEED}"
            assert first == wanted[:most], f"file {file} of seed {SEED}"
        number += len(wanted)
    assert number > 0
    say(f"{FILES} files, {number} duplicates")
