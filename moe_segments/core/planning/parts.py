"""Split an operation that does not fit a day, and merge neighbours that do. Pure: from sizes alone to sizes.

The first part keeps the kind of the operation, so a create still makes the segment and a replace still empties it. All
further parts add (or remove).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments import limits as documented
from moe_segments.errors import InputError, QuotaNeverFits

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from moe_segments.limits import QuotaLimits

__all__ = ["Neighbour", "Part", "counts_users", "merged", "split", "users_a_day"]

_MERGED: Final = frozenset({"add", "remove"})
_FILLING: Final = frozenset({"create", "add", "replace"})  # after these the segment holds all users of the file
_MOST_USERS: Final = documented.DOCUMENTED["file_segment_users"].figure


@attrs.frozen(kw_only=True)
class Part:
    """One operation of a line that was split.

    Attributes:
        op: Its kind: that of the line for the first part, else "add" or "remove".
        rows: Its users, at most.
    """

    op: str
    rows: int


@attrs.frozen(kw_only=True)
class Neighbour:
    """One operation that may be merged with those beside it on its segment.

    Attributes:
        op: Its kind, such as "add".
        chain: Its segment.
        rows: Its users; None when they are not known, and then it is not merged.
        file_bytes: The size of its file; None when there is no local file, and then it is not merged.
        alike: What else must be equal, such as its attribute, its addresses and its priority.
    """

    op: str
    chain: Hashable
    rows: int | None
    file_bytes: int | None
    alike: Hashable = None


def split(op: str, rows: int, limits: QuotaLimits, *, file_bytes: int = 0) -> tuple[Part, ...]:
    """Return the parts of one operation, each within the users of a day and the size of a file.

    As few parts as possible, the fullest first. The bytes of a part are taken to be in proportion to its users;
    whoever cuts the file counts them, and needs one more part where the rows of one part are longer than the others.

    Args:
        op: "create", "add", "remove" or "replace".
        rows: Its users, from 0.
        limits: The limits; their headroom is left free.
        file_bytes: The size of its file, bytes; 0 where that is not known.

    Returns:
        The parts in the order to send them; one where it fits as it is.

    Raises:
        InputError: A segment would hold more users than the service allows.
        QuotaNeverFits: Not even one row fits a file.
    """
    if op in _FILLING and rows > _MOST_USERS:
        raise InputError(
            f"{rows:,} users for one segment, which holds at most {_MOST_USERS:,}: spread them over "
            f"{-(-rows // _MOST_USERS)} segments",
            "rows",
        )
    most = _users_a_part(op, rows, limits, file_bytes)
    if rows <= most:
        return (Part(op=op, rows=rows),)
    further = "remove" if op == "remove" else "add"
    sizes = [most] * (rows // most) + [rows % most] * (rows % most > 0)
    return tuple(Part(op=further if at else op, rows=size) for at, size in enumerate(sizes))


def _users_a_part(op: str, rows: int, limits: QuotaLimits, file_bytes: int) -> int:
    most = users_a_day(limits) if counts_users(op, limits) else max(rows, 1)
    if file_bytes > limits.file_bytes:
        by_size = rows * limits.file_bytes // file_bytes
        if by_size < 1:
            raise QuotaNeverFits("file_bytes", -(-file_bytes // max(rows, 1)), limits.file_bytes)
        most = min(most, by_size)
    return most


def merged(operations: Sequence[Neighbour], limits: QuotaLimits) -> tuple[tuple[int, ...], ...]:
    """Return which operations become one: neighbouring adds, or removes, on one segment, as far as sizes allow.

    Operations on other segments may lie between neighbours. The order of the operations on one segment stays.

    Returns:
        The positions of each operation that is to be sent, by the first of them; a lone one is not merged.
    """
    groups: list[list[int]] = []
    last: dict[Hashable, list[int]] = {}  # by segment, the group that its next operation may join
    for at, operation in enumerate(operations):
        group = last.get(operation.chain)
        if group is not None and _fits([*(operations[other] for other in group), operation], limits):
            group.append(at)
            continue
        last[operation.chain] = [at]
        groups.append(last[operation.chain])
    return tuple(map(tuple, groups))


def _fits(operations: Sequence[Neighbour], limits: QuotaLimits) -> bool:
    first, rows, size = operations[0], 0, 0
    for one in operations:
        if one.op not in _MERGED or (one.op, one.alike) != (first.op, first.alike):
            return False
        if one.rows is None or one.file_bytes is None:
            return False
        rows, size = rows + one.rows, size + one.file_bytes + 1  # a line feed where the last row has none
    most = users_a_day(limits) if counts_users(first.op, limits) else _MOST_USERS
    return rows <= min(most, _MOST_USERS) and size <= limits.file_bytes


def users_a_day(limits: QuotaLimits) -> int:
    """Return the users of one day, headroom taken off."""
    return limits.users_per_day - limits.headroom.get(documented.USERS_PER_DAY, 0)


def counts_users(op: str, limits: QuotaLimits) -> bool:
    """Return whether an operation of this kind spends its users."""
    return {"remove": limits.remove_counts_users, "replace": limits.replace_counts_users}.get(op, True)
