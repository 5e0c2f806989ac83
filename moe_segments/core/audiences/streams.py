"""Merge and compare sorted streams of values in bounded memory. Pure: no clock, no I/O.

A stream is an iterator of blocks. A block is a list of values, not empty, sorted and without repeats; each block
begins after the last value of the one before. What is held at a time is one block of each stream.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Block", "Compared", "compared", "merged"]

_AT_ONCE: Final = 8_192  # values of all streams together: who handles more holds up all threads

Block: TypeAlias = "list[str]"


class Compared(NamedTuple):
    """The values of two streams within one span of the order.

    Attributes:
        added: Those of the second stream alone.
        removed: Those of the first stream alone.
        common: Those of both.
    """

    added: Block
    removed: Block
    common: Block


def merged(streams: Sequence[Iterable[Block]]) -> Iterator[Block]:
    """Yield the values of all streams as one stream."""
    for parts in _aligned(streams):
        values = [value for part in parts for value in part]
        values.sort()  # the parts are sorted already, which the sort takes advantage of
        yield list(dict.fromkeys(values))


def compared(held: Iterable[Block], given: Iterable[Block]) -> Iterator[Compared]:
    """Yield what *given* has more and less than *held*, span by span."""
    for before, after in _aligned((held, given)):
        old, new = set(before), set(after)
        yield Compared(
            added=[value for value in after if value not in old],
            removed=[value for value in before if value not in new],
            common=[value for value in after if value in old],
        )


def _aligned(streams: Sequence[Iterable[Block]]) -> Iterator[list[Block]]:
    """Yield the part of each stream up to one value, so that equal values come together; never many at once."""
    most = max(1, _AT_ONCE // max(1, len(streams)))
    iterators = [iter(stream) for stream in streams]
    heads = [next(iterator, []) for iterator in iterators]
    while any(heads):
        last = min(head[:most][-1] for head in heads if head)
        parts = []
        for index, head in enumerate(heads):
            cut = bisect_right(head, last)
            parts.append(head[:cut])
            if cut:
                heads[index] = head[cut:] or next(iterators[index], [])
        yield parts
