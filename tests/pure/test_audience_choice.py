"""Audiences, the pure part: differences of sorted streams, and the choice of operations."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from moe_segments import InputError
from moe_segments.core.audiences.choice import Guards, Option, Sizes, candidates, check_guards, options, to_try
from moe_segments.core.audiences.streams import compared, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

VALUES = some.sets(some.text("abcdé", min_size=1, max_size=3), max_size=40)


def blocks(values: set[str], size: int) -> Iterator[list[str]]:
    inorder = sorted(values)
    return (inorder[at : at + size] for at in range(0, len(inorder), size))


@given(VALUES, VALUES, some.integers(1, 7), some.integers(1, 7))
def test_a_difference_of_streams_is_that_of_sets(held: set[str], new: set[str], one: int, other: int) -> None:
    found = list(compared(blocks(held, one), blocks(new, other)))
    assert [value for part in found for value in part.added] == sorted(new - held)
    assert [value for part in found for value in part.removed] == sorted(held - new)
    assert [value for part in found for value in part.common] == sorted(new & held)


@given(some.lists(VALUES, max_size=5), some.integers(1, 7))
def test_merged_streams_are_the_union_sorted_and_unique(sets: list[set[str]], size: int) -> None:
    found = [value for block in merged([blocks(each, size) for each in sets]) for value in block]
    assert found == sorted(set().union(*sets))


def test_a_stream_is_read_one_block_ahead() -> None:
    """Memory is bounded: nothing is gathered before it is needed."""
    read = []

    def numbered() -> Iterator[list[str]]:
        for number in range(10, 99):
            read.append(number)
            yield [str(number)]

    next(compared(numbered(), iter([["10"], ["99"]])))
    assert len(read) <= 2


def test_a_step_takes_few_values_however_many_streams_there_are() -> None:
    """Else it would hold up the event loop: a hundred runs of a large source begin with a hundred blocks."""
    streams = [[[f"{number:05}-{stream:03}" for number in range(2_000)]] for stream in range(100)]
    found = list(merged(streams))
    assert max(map(len, found)) <= 8_192
    assert [value for block in found for value in block] == sorted(value for (block,) in streams for value in block)
    parts = list(compared(blocks(set(streams[0][0]), 2_000), blocks(set(streams[1][0]), 2_000)))
    assert sum(len(part.added) for part in parts) == sum(len(part.removed) for part in parts) == 2_000


# The choice


def known(mode: str = "mirror", **sizes: int) -> Sizes:
    return Sizes(mode=mode, **sizes)  # type: ignore[arg-type]  # as the table has it


@pytest.mark.parametrize(
    ("sizes", "kinds"),
    [
        (known(given=5, exists=0), ["create"]),
        (known("add", given=5, exists=0), ["create"]),
        (known("remove", given=5, exists=0), ["nothing"]),
        (known(given=5, held=5), ["nothing"]),
        (known(given=90, held=80, added=10), ["add"]),
        (known(given=70, held=80, removed=10), ["remove"]),
        (known(given=80, held=80, added=10, removed=10), ["add + remove", "replace"]),
        (known(given=10, held=80, added=5, removed=75), ["replace"]),
        (known(given=10, held=80, removed=70), ["replace"]),
        (known(given=0, held=80, removed=80), ["remove"]),
        (known("add", given=90, held=80, added=10), ["add"]),
        (known("remove", given=90, held=80, removed=10), ["remove"]),
        (known(given=80), ["replace"]),
        (known("add", given=80), ["add"]),
        (known("remove", given=80), ["remove"]),
    ],
)
def test_the_options_of_an_audience(sizes: Sizes, kinds: list[str]) -> None:
    """Unknown members mean replace; a mode that leaves others alone never replaces."""
    assert [option.kind for option in options(sizes)] == kinds


def test_a_segment_of_unknown_members_is_not_emptied_by_an_empty_replace() -> None:
    with pytest.raises(InputError, match="archive it"):
        options(known(given=0))


def end_of(operations: Sequence[int], per_hour: int, per_day: int) -> int:
    """Return the hour of the last start, by counting: as many an hour, as many users a day."""
    by_hour = (len(operations) - 1) // per_hour
    by_day = -(-sum(operations) // per_day) * 24 - 24
    return max(by_hour, by_day)


def best(combinations: Iterator[tuple[Option, ...]], per_hour: int, per_day: int) -> tuple[int, int, int]:
    def score(combination: tuple[Option, ...]) -> tuple[int, int, int]:
        operations = [users for option in combination for _, users in option.operations]
        return end_of(operations, per_hour, per_day), sum(operations), len(operations)

    return min(map(score, combinations))


AUDIENCES = some.builds(
    lambda held, added, removed: known(
        given=held + added - min(removed, held), held=held, added=added, removed=min(removed, held)
    ),
    some.integers(1, 500),
    some.integers(0, 60),
    some.integers(0, 60),
)


@given(some.lists(AUDIENCES, min_size=1, max_size=8), some.integers(1, 5), some.integers(50, 2_000))
def test_the_choice_is_the_best_of_all_combinations(audiences: list[Sizes], per_hour: int, per_day: int) -> None:
    """First the earliest end, then the fewest users, over all audiences together."""
    each = [_all_ways(sizes) for sizes in audiences]
    found = best(candidates([options(sizes) for sizes in audiences]), per_hour, per_day)
    assert found == best(product(*each), per_hour, per_day)


def _all_ways(sizes: Sizes, divide: Callable[[str, int], tuple[tuple[str, int], ...]] | None = None) -> list[Option]:
    divide = divide or (lambda op, users: ((op, users),) if users else ())
    changes = Option((*divide("add", sizes.added), *divide("remove", sizes.removed)))
    return [changes, Option(divide("replace", sizes.given))] if sizes.given else [changes]


def parts_of(most: int) -> Callable[[str, int], tuple[tuple[str, int], ...]]:
    """Return what divides operations into parts of at most so many users."""

    def divide(op: str, users: int) -> tuple[tuple[str, int], ...]:
        sizes = [most] * (users // most) + [users % most] * (users % most > 0)
        return tuple((op if at == 0 or op == "remove" else "add", size) for at, size in enumerate(sizes))

    return divide


@given(
    some.lists(AUDIENCES, min_size=1, max_size=8), some.integers(1, 5), some.integers(50, 2_000), some.integers(5, 100)
)
def test_the_choice_in_parts_is_the_best_of_all_combinations(
    audiences: list[Sizes], per_hour: int, per_day: int, most: int
) -> None:
    """Whatever parts the operations are divided into: a replacement may save several operations or none."""
    each = [_all_ways(sizes, parts_of(most)) for sizes in audiences]
    found = best(candidates([options(sizes, parts_of(most)) for sizes in audiences]), per_hour, per_day)
    assert found == best(product(*each), per_hour, per_day)


@given(some.lists(AUDIENCES, min_size=9, max_size=11), some.integers(1, 5), some.integers(200, 4_000))
def test_the_choice_for_many_audiences_is_the_best_too(audiences: list[Sizes], per_hour: int, per_day: int) -> None:
    each = [options(sizes) for sizes in audiences]
    assert best(candidates(each), per_hour, per_day) == best(product(*each), per_hour, per_day)


@given(
    some.lists(some.integers(2, 100_000), min_size=9, max_size=120),
    some.integers(1, 10),
    some.integers(10_000, 2_000_000),
)
@example(sizes=[100_000] * 109, per_hour=9, per_day=901_414)  # the hour binds at the same end as the day
def test_few_of_many_candidates_are_tried_and_the_best_is_among_them(
    sizes: list[int], per_hour: int, per_day: int
) -> None:
    each = [options(known(given=size, held=size, added=size // 50 + 1, removed=size // 50 + 1)) for size in sizes]
    combinations = list(candidates(each))
    scores: dict[int, tuple[float, int, int]] = {}
    while numbers := to_try(len(combinations), scores):
        for number in numbers:
            operations = [users for option in combinations[number] for _, users in option.operations]
            scores[number] = end_of(operations, per_hour, per_day), sum(operations), len(operations)
    assert min(scores.values()) == best(iter(combinations), per_hour, per_day)
    assert len(scores) <= 50


@given(some.lists(some.tuples(some.integers(0, 3), some.integers(0, 3), some.integers(0, 3)), min_size=1, max_size=150))
def test_the_search_ends_whatever_the_plans_are(found: list[tuple[int, int, int]]) -> None:
    """A plan that ends in no order with the operations costs no more than some tries, and never the same one twice."""
    scores: dict[int, tuple[float, int, int]] = {}
    while numbers := to_try(len(found), scores):
        assert len(set(numbers)) == len(numbers)
        assert not scores.keys() & set(numbers)
        scores.update((number, found[number]) for number in numbers)
    assert len(scores) <= len(found)


def test_thirty_audiences_are_replaced_in_part() -> None:
    """All replaced need a second day, all changed five hours: a mixture takes four, with the fewest users."""
    each = [options(known(given=100_000, held=100_000, added=2_000, removed=2_000))] * 30
    assert best(candidates(each), 10, 2_000_000) == (4, 10 * 100_000 + 20 * 4_000, 50)


# Guards


@pytest.mark.parametrize(
    ("sizes", "guards", "field"),
    [
        (known(given=0, held=8, removed=8), Guards(), "members"),
        (known("remove", given=0, held=8), Guards(), "members"),
        (known(given=4, held=10, removed=6), Guards(), "max_removed"),
        (known("remove", given=6, held=10, removed=6), Guards(), "max_removed"),
        (known(given=4, last_held=10), Guards(), "max_removed"),
        (known(given=20, held=10, added=11, removed=1), Guards(max_added=10), "max_added"),
        (known("add", given=11, held=10, added=11), Guards(max_added=10), "max_added"),
        (known(given=21, last_held=10), Guards(max_added=10), "max_added"),
    ],
)
def test_a_guard_refuses(sizes: Sizes, guards: Guards, field: str) -> None:
    with pytest.raises(InputError) as caught:
        check_guards(sizes, guards)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("sizes", "guards"),
    [
        (known(given=0, held=8, removed=8), Guards(allow_empty=True)),
        (known(given=5, held=10, removed=5), Guards()),
        (known(given=5, last_held=10), Guards()),
        (known(given=1, held=10, removed=9), Guards(max_removed=1)),
        (known("add", given=1, last_held=10), Guards()),
        (known("remove", given=1, last_held=10), Guards()),
        (known(given=20, exists=0), Guards(max_added=10)),
        (known(given=20), Guards()),
    ],
)
def test_a_guard_lets_pass(sizes: Sizes, guards: Guards) -> None:
    check_guards(sizes, guards)
