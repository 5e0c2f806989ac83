"""A limit's usage over time against a list with the level of each moment."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.core.quota.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY: Final = 12
NOW, SPAN = 100, 1_200  # where the list begins, and how long it is; after it the last level stays


class Levels:
    """The level of each moment from `NOW` on."""

    def __init__(self, used: int, ends: list[tuple[int, int]]) -> None:
        self.levels = [used - sum(weight for end, weight in ends if end <= NOW + at) for at in range(SPAN)]

    def add(self, from_us: int, until_us: int | None, weight: int) -> None:
        for at in range(from_us - NOW, SPAN if until_us is None else min(until_us - NOW, SPAN)):
            self.levels[at] += weight

    def peak(self, from_us: int, until_us: int) -> int:
        return max(self.levels[from_us - NOW : max(until_us, from_us + 1) - NOW])

    def level_before(self, at_us: int) -> int:
        return self.levels[at_us - NOW - 1] if at_us > NOW else 0

    def first_fit(self, from_us: int, length_us: int | None, weight: int) -> int | None:
        room, fit = CAPACITY - weight, None
        for at in range(from_us - NOW, SPAN):
            if self.levels[at] > room:
                fit = None
            elif fit is None:
                fit = NOW + at
            if fit is not None and length_us is not None and NOW + at - fit + 1 >= length_us:
                return fit
        return fit

    def steps(self) -> list[tuple[int, int]]:
        changes = [at for at in range(1, SPAN) if self.levels[at] != self.levels[at - 1]]
        return [(NOW + at, self.levels[at]) for at in (0, *changes)]


def made(chance: random.Random, count: int, most: int) -> tuple[Profile, Levels]:
    """A profile and a list of the same: what is counted now ends in *count* steps."""
    ends = [(NOW + chance.randrange(-5, 200), chance.randrange(1, most)) for _ in range(count)]
    used = sum(weight for _, weight in ends) + chance.randrange(3)
    return Profile(CAPACITY, NOW, used, ends), Levels(used, ends)


def agree(chance: random.Random, profile: Profile, levels: Levels) -> None:
    steps = [step for step in profile.steps() if step[0] < NOW + SPAN]
    assert [
        step for step, before in zip(steps, [None, *steps], strict=False) if not before or step[1] != before[1]
    ] == (levels.steps())
    for _ in range(4):
        from_us, length_us = NOW + chance.randrange(200), chance.choice((1, 7, 60, 150, 400))
        assert profile.peak(from_us, from_us + length_us) == levels.peak(from_us, from_us + length_us)
        assert profile.level_before(from_us) == levels.level_before(from_us)
        changes = [at_us for at_us, _ in levels.steps() if at_us > from_us]
        next_us = profile.next_step_us(from_us)
        assert next_us is None or next_us > from_us
        assert not changes or (next_us is not None and next_us <= changes[0])


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(("count", "most", "changes"), [(0, 2, 40), (8, 4, 40), (120, 2, 120)])
def test_whatever_is_placed_the_profile_is_that_of_the_list(seed: int, count: int, most: int, changes: int) -> None:
    """Placed where it fits first, freed, or closed for a while, at any time and for any length; so is a copy of it."""
    chance = random.Random(seed)
    profile, levels = made(chance, count, most)
    lengths, weights = (None, 1, 7, 40), (1, 2, 3, 5, 8, CAPACITY)
    for _ in range(changes):
        from_us, length_us, weight = NOW + chance.randrange(150), chance.choice(lengths), chance.choice(weights)
        found_us = profile.first_fit(from_us, length_us, weight)
        assert found_us == levels.first_fit(from_us, length_us, weight)
        step = chance.random()
        if step < 0.6 and found_us is not None and found_us < NOW + SPAN // 2 and length_us is not None:
            until_us: int | None = found_us + length_us
            at_us, change = found_us, weight
        elif step < 0.7:
            at_us, until_us, change = from_us, from_us + chance.randrange(1, 30), chance.choice((1, 2, CAPACITY))
        elif step < 0.8:
            at_us, until_us, change = from_us, chance.choice((None, from_us + 20)), -1
        else:
            continue
        for one in (profile, levels):
            one.add(at_us, until_us, change)
        agree(chance, profile, levels)
        if step < 0.1:
            copied = profile.copied()
            copied.add(at_us, at_us + 3, 5)
            copied.add(at_us + 1, None, -2)
            agree(chance, profile, levels)
            profile = profile.copied()


def test_more_than_a_limit_allows_never_fits_and_nothing_always_does() -> None:
    profile = Profile(CAPACITY, NOW, CAPACITY, [(NOW + 50, CAPACITY)])
    assert profile.first_fit(NOW, 10, CAPACITY + 1) is None
    assert profile.first_fit(NOW, None, CAPACITY + 1) is None
    full = Profile(CAPACITY, NOW, CAPACITY, [])
    assert [full.first_fit(NOW, 10, 1) for _ in range(2)] == [None, None]
    assert profile.first_fit(NOW, 10, 0) == NOW
    assert profile.first_fit(NOW, 10, CAPACITY) == NOW + 50
    assert profile.first_fit(NOW + 60, 10, CAPACITY) == NOW + 60
    assert Profile(CAPACITY, NOW, CAPACITY + 3, []).first_fit(NOW, 10, 0) == NOW  # others spent more than there is


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (lambda one: one.first_fit(NOW, None, 1), None),
        (lambda one: one.first_fit(NOW, 30, 1), NOW + 10),
        (lambda one: one.first_fit(NOW, 31, 1), None),
        (lambda one: one.peak(NOW + 10, NOW + 40), CAPACITY - 1),
        (lambda one: one.peak(NOW + 10, NOW + 41), CAPACITY),
        (lambda one: one.peak(NOW + 9, NOW + 10), CAPACITY),
        (lambda one: one.level_before(NOW + 10), CAPACITY),
        (lambda one: one.level_before(NOW + 11), CAPACITY - 1),
    ],
)
def test_a_gap_takes_what_is_no_longer_than_it(asked: Callable[[Profile], int | None], found: int | None) -> None:
    """Room from 110 to 140, and none after it."""
    profile = Profile(CAPACITY, NOW, CAPACITY, [(NOW + 10, 1)])
    profile.add(NOW + 40, None, 1)
    assert asked(profile) == found


def test_what_is_freed_lets_something_in_earlier_than_was_found() -> None:
    profile = Profile(CAPACITY, NOW, CAPACITY, [(NOW + 50, 4)])
    assert profile.first_fit(NOW, 10, 2) == NOW + 50
    profile.add(NOW + 20, None, -2)
    assert profile.first_fit(NOW, 10, 2) == NOW + 20


def test_time_that_has_passed_takes_nobody() -> None:
    """Whoever asks from a moment in the past is told one that is not."""
    profile = Profile(CAPACITY, NOW, CAPACITY - 1, [])
    profile.add(NOW, NOW + 5, 1)
    profile.now_us = NOW + 30
    assert profile.first_fit(NOW, 10, 1) == NOW + 30


def test_a_peak_far_ahead_is_found_behind_many_steps() -> None:
    """A thousand steps up and down, and one that stays; the highest is among the last."""
    profile, levels = Profile(CAPACITY, NOW, 0), Levels(0, [])
    for one in (profile, levels):
        for at_us in range(NOW + 1, NOW + 1_001, 2):
            one.add(at_us, at_us + 1, 1)
        one.add(NOW + 3, None, 2)
        one.add(NOW + 900, NOW + 905, 3)
    for from_us, until_us in ((0, 899), (0, 901), (100, 1_000), (10, 500), (904, 1_000), (905, 1_000)):
        assert profile.peak(NOW + from_us, NOW + until_us) == levels.peak(NOW + from_us, NOW + until_us)
    assert profile.peak(NOW, NOW + 1_000) == 6
    for from_us, length_us in ((0, 899), (0, 898), (0, 901), (0, None), (300, 590), (300, 601), (600, 400), (904, 90)):
        for weight in (6, 7, 10):
            found = profile.first_fit(NOW + from_us, length_us, weight)
            assert found == levels.first_fit(NOW + from_us, length_us, weight), (from_us, length_us, weight)


def test_steps_between_many_others_move_none_of_those() -> None:
    """Four hundred steps, and as many again between the first ones of them."""
    ends = [(at_us, 1) for at_us in range(NOW + 2, NOW + 802, 2)]
    profile, levels = Profile(CAPACITY, NOW, 400, ends), Levels(400, ends)
    for one in (profile, levels):
        for at_us in range(NOW + 101, NOW + 501):
            one.add(at_us, at_us + 300, 1)
    agree(random.Random(1), profile, levels)
    for at_us in range(NOW, NOW + 1_000, 50):
        assert profile.level_before(at_us) == levels.level_before(at_us)


def test_the_next_step_is_the_first_one_after_a_moment() -> None:
    """Also where it is in a later block of many, and none where nothing changes any more."""
    profile = Profile(CAPACITY, NOW, 0)
    for at_us in range(NOW + 10, NOW + 2_010, 10):
        profile.add(at_us, None, 1)
    for after_us in range(NOW, NOW + 2_000, 7):
        assert profile.next_step_us(after_us) == after_us + 10 - (after_us - NOW) % 10
    assert profile.next_step_us(NOW - 1) == NOW
    assert profile.next_step_us(NOW + 2_000) is None
