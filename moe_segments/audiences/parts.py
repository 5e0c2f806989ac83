"""Make the operations of an audience: cut what does not fit a day or a file, and say what is held after each."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from moe_segments.audiences.sorted_file import SortedFile, lines_of
from moe_segments.core.audiences.choice import Option, options
from moe_segments.core.audiences.memberships import Step
from moe_segments.core.planning.parts import split
from moe_segments.errors import QuotaNeverFits
from moe_segments.models import AddUsers, CreateFileSegment, RemoveUsers, ReplaceUsers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from moe_segments.audiences.audience import Audience
    from moe_segments.audiences.comparison import Comparison
    from moe_segments.core.audiences.streams import Block
    from moe_segments.limits import QuotaLimits

__all__ = ["Holds", "Send", "holds_after", "operation_of", "options_of", "sends_of", "steps_of"]


@attrs.frozen(kw_only=True)
class Send:
    """An operation and the values that it sends.

    Attributes:
        op: "create", "add", "remove" or "replace".
        rows: How many values.
        source: The file that they are in.
        begin: How many values of that file come before them.
        number: Its number among the operations of this kind, from 1.
    """

    op: str
    rows: int
    source: SortedFile
    begin: int = 0
    number: int = 1

    @property
    def is_full(self) -> bool:
        """Return whether the members after it do not depend on those before."""
        return self.op in ("create", "replace")

    @property
    def is_part(self) -> bool:
        """Return whether the file has other values, too."""
        return self.rows < self.source.count

    def blocks(self) -> Iterator[Block]:
        """Yield its values."""
        return self.source.blocks(self.begin, self.rows)

    def copy_to(self, file: SortedFile) -> None:
        """Write its values to an empty file.

        Raises:
            PreflightError: There is no room for them.
        """
        for block in self.blocks():
            file.append(block)


def options_of(comparison: Comparison, limits: QuotaLimits) -> tuple[Option, ...]:
    """Return the ways to do it, each operation within a day and a file. May read files: call it in a thread.

    Raises:
        InputError: There is no way, or a segment would hold more users than the service allows.
        QuotaNeverFits: Not even one value fits a file.
    """
    sizes = comparison.sizes
    if sizes.mode == "add" and sizes.held is not None:
        split("replace", sizes.held + sizes.added, limits)  # which refuses more members than a segment may have
    return options(sizes, lambda op, _: _parts(op, comparison.file_for(op), limits))


def _parts(op: str, file: SortedFile, limits: QuotaLimits) -> tuple[tuple[str, int], ...]:
    parts = split(op, file.count, limits)
    if file.file_bytes <= limits.file_bytes:
        return tuple((part.op, part.rows) for part in parts)
    sizes = _rows_of_parts(file.blocks(), parts[0].rows, limits.file_bytes)
    further = "remove" if op == "remove" else "add"
    return tuple((further if at else op, rows) for at, rows in enumerate(sizes))


def _rows_of_parts(blocks: Iterable[Block], most: int, file_bytes: int) -> Iterator[int]:
    """Yield how many values each part has: as many as fit, since the values of one may be longer than of another."""
    rows = taken = 0
    for block in blocks:
        size = len(lines_of(block))
        if rows + len(block) <= most and taken + size <= file_bytes:
            rows, taken = rows + len(block), taken + size
            continue
        for value in block:
            size = len(value) + 1
            if size > file_bytes:
                raise QuotaNeverFits("file_bytes", size, file_bytes)
            if rows == most or taken + size > file_bytes:
                yield rows
                rows = taken = 0
            rows, taken = rows + 1, taken + size
    yield rows


def sends_of(comparison: Comparison, option: Option) -> tuple[Send, ...]:
    """Return the operations of an option, each with its values."""
    begins: dict[int, int] = {}
    numbers: dict[str, Iterator[int]] = {}
    sends = []
    for op, rows in option.operations:
        source = comparison.given if option.is_full else comparison.file_for(op)
        begin = begins.get(id(source), 0)
        begins[id(source)] = begin + rows
        number = next(numbers.setdefault(op, count(1)))
        sends.append(Send(op=op, rows=rows, source=source, begin=begin, number=number))
    return tuple(sends)


class Holds(NamedTuple):
    """The members of a segment at one time.

    Attributes:
        digests: Snapshots that are the members together; none where they are unknown.
        size: How many values they are.
    """

    digests: tuple[str, ...]
    size: int


def holds_after(sends: Sequence[Send], now: Holds, final: Holds, write: Callable[[Send], str]) -> list[Holds]:
    """Return what the segment holds after each send.

    Args:
        sends: What is sent, in order; removes come last.
        now: What it holds now; nothing where all members are sent.
        final: What it holds when all is done.
        write: Writes a snapshot of what one sends, and returns its digest.
    """
    after, (digests, size) = list[Holds](), now
    adds = [send for send in sends if send.op != "remove"]
    removes = sends[len(adds) :]
    for send in adds[:-1]:
        digests, size = (*digests, write(send)), size + send.rows
        after.append(Holds(digests, size))
    if adds:  # all who were and all who will be: those that are to be removed are members still
        after.append(Holds((*now.digests, *final.digests), size + adds[-1].rows))
    left = [(write(send), send.rows) for send in removes[1:]]
    for at in range(len(left)):
        digests = tuple(digest for digest, _ in left[at:])
        after.append(Holds((*final.digests, *digests), final.size + sum(rows for _, rows in left[at:])))
    return [*after, final] if removes else [*after[:-1], final]


def steps_of(
    comparison: Comparison, sends: Sequence[Send], after: Sequence[Holds], generation: int
) -> tuple[Step, ...]:
    """Return the announcement of each send, with what the segment holds after it."""
    sizes = comparison.sizes
    before = sizes.before
    if before is None and sends[0].is_full:
        before = (sizes.last_held if sizes.held is None else sizes.held) or 0
    last, key = len(sends) - 1, hashlib.sha256(comparison.audience.name.encode()).hexdigest()[:16]
    return tuple(
        Step(
            job=f"sync-{key}-{generation}-{send.op}" + (f".{send.number}" if send.number > 1 else ""),
            op=send.op,
            rows=send.rows,
            holds=holds.digests,
            size=holds.size,
            before=None if index == last else before,
        )
        for index, (send, holds) in enumerate(zip(sends, after, strict=True))
    )


def operation_of(
    audience: Audience, op: str, rows: int, path: Path
) -> CreateFileSegment | AddUsers | RemoveUsers | ReplaceUsers:
    """Return an operation on the segment of an audience that sends a file, or is to be planned."""
    fields: dict[str, Any] = {
        "name": audience.name,
        "attribute_name": audience.attribute_name,
        "attribute_type": audience.attribute_type,
        "file": path,
        "rows": rows,
    }
    match op:
        case "create":
            return CreateFileSegment(**fields | {"expiry_time": audience.expiry_time})
        case "add":
            return AddUsers(**fields)
        case "remove":
            return RemoveUsers(**fields)
        case _:
            return ReplaceUsers(**fields)
