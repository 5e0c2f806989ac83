"""Choose the cheapest operations that make segments what they should be, from sizes alone. Pure: no clock, no I/O.

One operation counts more than users while the hour is the bottleneck, users count more while the day is. So the choice
is made for all audiences of a sync together: the operations whose plan ends first, then those that spend fewer users,
then fewer operations. Whoever knows the quotas says when a plan ends.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from moe_segments.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Guards", "Mode", "Option", "Sizes", "candidates", "check_guards", "options", "to_try"]

Mode: TypeAlias = Literal["mirror", "add", "remove"]
_ALL_TRIED: Final = 16  # combinations: those of four audiences with two options each
_GRID: Final = 16  # candidates that are tried first
_STEP: Final = 10  # candidates that may end alike while the hour binds: its operations


@attrs.frozen(kw_only=True)
class Sizes:
    """The sizes of one audience and its segment, in users.

    Attributes:
        mode: What the source stands for: all members, members to add, members to remove.
        given: Values of the source.
        exists: Whether there is a segment.
        held: Members of the segment; None where they are unknown.
        last_held: Members when they were last known; None where they never were.
        added: Values of the source that are no members; of no meaning where the members are unknown.
        removed: Members that are to go; likewise.
        before: Members before a creation or a replacement in parts that is not done yet; None where there is none.
    """

    mode: Mode = "mirror"
    given: int
    exists: bool = True
    held: int | None = None
    last_held: int | None = None
    added: int = 0
    removed: int = 0
    before: int | None = None


@attrs.frozen
class Option:
    """Operations that bring one segment to its members, in this order.

    Attributes:
        operations: Each with its users: "create", "add", "remove" or "replace".
    """

    operations: tuple[tuple[str, int], ...] = ()

    @property
    def kind(self) -> str:
        """The operations in words: "nothing" where there is none."""
        return " + ".join(op for op, _ in self.operations) or "nothing"

    @property
    def is_full(self) -> bool:
        """Return whether all members are sent."""
        return bool(self.operations) and self.operations[0][0] in ("create", "replace")

    @property
    def users(self) -> int:
        """The users that all of them spend."""
        return sum(users for _, users in self.operations)


@attrs.frozen(kw_only=True)
class Guards:
    """The limits to what one sync may change.

    Attributes:
        max_removed: The largest share of the segment that may be removed, 0 to 1.
        max_added: The most users that may be added to a segment that exists; None: any number.
        allow_empty: Whether an empty source empties the segment.
    """

    max_removed: float = 0.5
    max_added: int | None = None
    allow_empty: bool = False


Divide: TypeAlias = Callable[[str, int], tuple[tuple[str, int], ...]]


def _undivided(op: str, users: int) -> tuple[tuple[str, int], ...]:
    return ((op, users),)


def options(sizes: Sizes, divide: Divide = _undivided) -> tuple[Option, ...]:
    """Return every way to do it that can be the cheapest; the one of the fewest users first.

    Members that are unknown are replaced as a whole. Modes that leave other members alone cannot replace: they send
    all that the source gives.

    Args:
        sizes: Of the audience and its segment.
        divide: Returns the parts of an operation of so many users, each within a day and a file.

    Raises:
        InputError: There is no way: a segment of unknown members cannot be emptied.
    """
    given, added, removed = sizes.given, sizes.added, sizes.removed

    def way(*operations: tuple[str, int]) -> Option:
        return Option(tuple(part for op, users in operations if users for part in divide(op, users)))

    if not sizes.exists:
        return (Option() if sizes.mode == "remove" else way(("create", given)),)
    if sizes.held is None:
        op = "replace" if sizes.mode == "mirror" else sizes.mode
        if not given and op == "replace":
            raise InputError("a segment whose members are unknown cannot be emptied: archive it instead", "members")
        return (way((op, given)),)
    changes = way(("add", added), ("remove", removed))
    if sizes.mode != "mirror" or not given or not changes.operations:
        return (changes,)
    cheap, dear = sorted((way(("replace", given)), changes), key=lambda one: (one.users, len(one.operations)))
    return (cheap, dear) if len(dear.operations) < len(cheap.operations) else (cheap,)


def candidates(audiences: Sequence[Sequence[Option]]) -> Iterator[tuple[Option, ...]]:
    """Yield the combinations of one option each that can be the best of all.

    Few are yielded all. Of many audiences only those are that replace the segments for which it costs the fewest
    users: with as many operations, any other combination spends more. Where operations are in parts it may save more
    than one, and the fewest users for each that is saved come first.
    """
    if prod(len(each) for each in audiences) <= _ALL_TRIED:
        yield from product(*audiences)
        return
    chosen = [each[0] for each in audiences]
    yield tuple(chosen)
    two = [index for index, each in enumerate(audiences) if len(each) > 1]
    for index in sorted(two, key=lambda at: _price(*audiences[at])):
        chosen[index] = audiences[index][1]
        yield tuple(chosen)


def _price(cheap: Option, dear: Option) -> float:
    """Return the users that each operation costs that is saved."""
    return (dear.users - cheap.users) / (len(cheap.operations) - len(dear.operations))


def to_try(count: int, scores: Mapping[int, tuple[float, int, int]]) -> list[int]:
    """Return which candidates to score next, by their number; none once the best is among *scores*.

    Along the candidates operations become fewer and users more. So the end of the plan falls, in steps, while the hour
    binds and rises once the day does. The best one is the first of the lowest step: looked for before and behind those
    that end earliest so far, and between the first of them, as the day may bind again at the same end.

    Args:
        count: How many candidates there are.
        scores: By number: end of the plan, users, operations.
    """
    step = max(1, count // _GRID)
    if not scores:
        return sorted({*range(0, count, step), count - 1})
    tried, least = sorted(scores), min(ends for ends, _, _ in scores.values())
    lowest = [number for number in tried if scores[number][0] == least]
    first, last = tried.index(lowest[0]), tried.index(lowest[-1])
    near = [number for number in tried if lowest[0] <= number <= lowest[0] + step + _STEP]
    gaps = {*pairwise(tried[max(0, first - 1) : first + 1]), *pairwise(near), *pairwise(tried[last : last + 2])}
    return sorted((below + above) // 2 for below, above in gaps if above - below > 1)


def check_guards(sizes: Sizes, guards: Guards) -> None:
    """Refuse what changes a segment by more than its guards allow.

    Where the members are unknown, the size that was last known is compared: at least the difference is removed. While
    a creation or a replacement goes on in parts, the size before it is compared: what it adds was let pass already.

    Raises:
        InputError: A guard forbids it; it says which and by how much.
    """
    if not sizes.given:
        if not guards.allow_empty:
            raise InputError("the source is empty: nothing was sent; allow_empty=True empties the segment", "members")
        return
    is_known = sizes.held is not None and sizes.before is None
    before = sizes.held if is_known else sizes.last_held if sizes.before is None else sizes.before
    if not sizes.exists or not before:
        return
    removed = sizes.removed if is_known else max(0, before - sizes.given) if sizes.mode == "mirror" else 0
    added = sizes.added if is_known else max(0, sizes.given - before) if sizes.mode == "mirror" else 0
    if removed > before * guards.max_removed:
        share = f"{removed / before:.0%} of {before:,} users would be removed, more than {guards.max_removed:.0%}"
        raise InputError(f"{share}: nothing was sent; check the source, or raise max_removed", "max_removed")
    if guards.max_added is not None and added > guards.max_added:
        more = f"{added:,} users would be added, more than {guards.max_added:,}"
        raise InputError(f"{more}: nothing was sent; check the source, or raise max_added", "max_added")
