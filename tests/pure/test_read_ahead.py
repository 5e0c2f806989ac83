"""A source is read again in few large pieces, and says the same as in many small ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moe_segments.core.files.chunks import ReadAhead


@given(
    data=st.binary(max_size=200),
    asked=st.lists(st.tuples(st.integers(0, 220), st.integers(0, 60)), max_size=20),
    ahead=st.integers(1, 80),
)
def test_it_gives_what_the_source_gives_in_whatever_order(
    data: bytes, asked: list[tuple[int, int]], ahead: int
) -> None:
    read = ReadAhead(lambda offset, size: data[offset : offset + size], ahead)
    for offset, size in asked:
        assert read(offset, size) == data[offset : offset + size]


def test_many_small_pieces_are_read_in_few_large_ones() -> None:
    reads: list[tuple[int, int]] = []

    def reread(offset: int, size: int) -> bytes:
        reads.append((offset, size))
        return bytes(size)

    read = ReadAhead(reread, 1_000)
    for offset in range(0, 3_000, 100):
        read(offset, 100)
    read(3_000, 5_000)
    assert reads == [(0, 1_000), (1_000, 1_000), (2_000, 1_000), (3_000, 5_000)]
