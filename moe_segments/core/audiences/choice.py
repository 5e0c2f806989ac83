"""Choose the cheapest operations that make segments what they should be, from sizes alone. Pure: no clock, no I/O.

One operation counts more than users while the hour is the bottleneck, users count more while the day is. So the choice
is made for all audiences of a sync together: the operations whose plan ends first, then those that spend fewer users,
then fewer operations. Whoever knows the quotas says when a plan ends.
"""

from __future__ import annotations

from itertools import product
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
    """

    mode: Mode = "mirror"
    given: int
    exists: bool = True
    held: int | None = None
    last_held: int | None = None
    added: int = 0
    removed: int = 0


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


def options(sizes: Sizes) -> tuple[Option, ...]:
    """Return every way to do it that can be the cheapest; the one of the fewest users first.

    Members that are unknown are replaced as a whole. Modes that leave other members alone cannot replace: they send
    all that the source gives.

    Raises:
        InputError: There is no way: a segment of unknown members cannot be emptied.
    """
    given, added, removed = sizes.given, sizes.added, sizes.removed
    if not sizes.exists:
        return (Option((("create", given),) if given and sizes.mode != "remove" else ()),)
    if sizes.held is None:
        op = "replace" if sizes.mode == "mirror" else sizes.mode
        if not given and op == "replace":
            raise InputError("a segment whose members are unknown cannot be emptied: archive it instead", "members")
        return (Option(((op, given),) if given else ()),)
    changes = Option(tuple((op, users) for op, users in (("add", added), ("remove", removed)) if users))
    if sizes.mode != "mirror" or not given or not changes.operations:
        return (changes,)
    whole = Option((("replace", given),))
    if whole.users <= changes.users:
        return (whole,)
    return (changes, whole) if len(changes.operations) > 1 else (changes,)


def candidates(audiences: Sequence[Sequence[Option]]) -> Iterator[tuple[Option, ...]]:
    """Yield the combinations of one option each that can be the best of all.

    Few are yielded all. Of many audiences only those are that replace the segments for which it costs the fewest
    users: with as many operations, any other combination spends more.
    """
    if prod(len(each) for each in audiences) <= _ALL_TRIED:
        yield from product(*audiences)
        return
    chosen = [each[0] for each in audiences]
    yield tuple(chosen)
    two = [index for index, each in enumerate(audiences) if len(each) > 1]
    for index in sorted(two, key=lambda at: audiences[at][1].users - audiences[at][0].users):
        chosen[index] = audiences[index][1]
        yield tuple(chosen)


def to_try(count: int, scores: Mapping[int, tuple[float, int, int]]) -> list[int]:
    """Return which candidates to score next, by their number; none once the best is among *scores*.

    Along the candidates operations become fewer and users more. So the end of the plan falls while the hour binds and
    rises once the day does, and a search around the best one so far finds the best one.

    Args:
        count: How many candidates there are.
        scores: By number: end of the plan, users, operations.
    """
    if not scores:
        return sorted({*range(0, count, max(1, count // _GRID)), count - 1})
    best = min(scores, key=lambda number: (scores[number], number))
    below = max((number for number in scores if number < best), default=best)
    above = min((number for number in scores if number > best), default=best)
    return [number for number in {(below + best) // 2, (best + above) // 2} if number not in scores]


def check_guards(sizes: Sizes, guards: Guards) -> None:
    """Refuse what changes a segment by more than its guards allow.

    Where the members are unknown, the size that was last known is compared: at least the difference is removed.

    Raises:
        InputError: A guard forbids it; it says which and by how much.
    """
    if not sizes.given:
        if not guards.allow_empty:
            raise InputError("the source is empty: nothing was sent; allow_empty=True empties the segment", "members")
        return
    before = sizes.last_held if sizes.held is None else sizes.held
    if not sizes.exists or not before:
        return
    is_known = sizes.held is not None
    removed = sizes.removed if is_known else max(0, before - sizes.given) if sizes.mode == "mirror" else 0
    added = sizes.added if is_known else max(0, sizes.given - before) if sizes.mode == "mirror" else 0
    if removed > before * guards.max_removed:
        share = f"{removed / before:.0%} of {before:,} users would be removed, more than {guards.max_removed:.0%}"
        raise InputError(f"{share}: nothing was sent; check the source, or raise max_removed", "max_removed")
    if guards.max_added is not None and added > guards.max_added:
        more = f"{added:,} users would be added, more than {guards.max_added:,}"
        raise InputError(f"{more}: nothing was sent; check the source, or raise max_added", "max_added")
