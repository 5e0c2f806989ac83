"""The rows that repeat an earlier one, against a dict.

With hashes that say next to nothing: only the bytes can tell.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from moe_segments.core.files.chunks import Chunk, Chunker
from moe_segments.core.files.duplicates import DuplicateFinder
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import Callable

FILES: Final = cases(150, 3_000)
SEED: Final = 20_261_125
LONGEST: Final = 400
KEY_BITS: Final = (0, 1, 4, 9, 60)
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


def fed(finder: DuplicateFinder, data: bytes, chunk_bytes: int) -> None:
    """Give it everything that is not longer than the longest."""
    chunker, line = Chunker(chunk_bytes, LONGEST), 1
    blocks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    for piece in (*(piece for block in blocks for piece in chunker.feed(block)), *chunker.finish()):
        rows = piece.text.split(b"\n")[1:-1] if isinstance(piece, Chunk) else [b""]
        if isinstance(piece, Chunk):
            finder.add(piece, rows, line)
        line += len(rows)


def weak_hash(bits: int) -> Callable[[bytes], int]:
    """A hash that keeps so many bits."""
    return lambda row: hash(row) & ((1 << bits) - 1)


def compare(rows: list[bytes], *, most: int, bits: int, chunk_bytes: int, ends: bytes = b"\n") -> int:
    """Fail where a dict finds other duplicates; return how many there are."""
    data = ends.join((*rows, b""))
    met: dict[bytes, int] = {}
    wanted = [
        (line, row, met[row])
        for line, row in enumerate(rows, 1)
        if row.strip() and len(row) <= LONGEST and met.setdefault(row, line) < line
    ]
    finder = DuplicateFinder(lambda offset, size: data[offset : offset + size], hash_row=weak_hash(bits))
    fed(finder, data, chunk_bytes)
    told = finder.finish(most)
    assert list(told.lines) == [line for line, _, _ in wanted]
    assert list(told.first) == wanted[:most]
    return len(wanted)


def test_duplicates_are_those_of_a_dict() -> None:
    """All of their lines; of the first ones the bytes and the line of the first occurrence."""
    number = 0
    for file in range(FILES):
        chance = random.Random(SEED + file)
        rows = random_rows(chance)
        if chance.random() < 0.2:
            rows.insert(chance.randrange(len(rows)), b"l" * (LONGEST + 1))
        try:
            number += compare(
                rows,
                most=chance.choice((1, 3, 10_000)),
                bits=chance.choice(KEY_BITS),
                chunk_bytes=chance.choice((1, 60, 500, 5_000)),
                ends=b"\r\n" if chance.random() < 0.1 else b"\n",
            )
        except AssertionError as error:
            error.add_note(f"file {file} of seed {SEED}")
            raise
    assert number > 0
    say(f"{FILES} files, {number} duplicates")


def test_very_many_duplicates_are_those_of_a_dict() -> None:
    """From some number of values on the source is read again several times, each time for some of the values."""
    values = [b"%d" % number for number in range(150_000)]
    again = values.copy()
    random.Random(SEED).shuffle(again)
    for bits in (16, 60):
        assert compare([*values, *again, *values[:10]], most=20, bits=bits, chunk_bytes=98_304) == 150_010
