"""The history and its windows against a list that is added up anew for every question."""

from __future__ import annotations

import random
from typing import Final

import attrs
import pytest

from moe_segments.core.quota.window import SILENT_US, TRIM_AT, Hold, UsageHistory, Window

HISTORIES: Final = 200
STEPS: Final = 60
SPANS_US: Final = (20, 50)


def history_with_windows() -> UsageHistory:
    history = UsageHistory()
    for span_us in SPANS_US:
        Window(history, limit="l", unit=0, capacity=10, span_us=span_us)
    return history


@attrs.define
class Listed:
    """Every entry and every hold, in no order."""

    entries: list[tuple[int, int]] = attrs.field(factory=list)
    held: list[Hold] = attrs.field(factory=list)
    now_us: int = 0

    def advance(self, now_us: int) -> None:
        self.now_us = now_us
        for hold in [hold for hold in self.held if hold.bound_us <= now_us]:
            self.held.remove(hold)
            self.entries.append((hold.bound_us, hold.weight))

    def counted(self, span_us: int) -> list[tuple[int, int]]:
        """What counts, each with the earliest end it may still get."""
        settled = [(u_us, weight) for u_us, weight in self.entries if u_us + span_us > self.now_us]
        return sorted(settled + [(hold.expected_us(self.now_us), hold.weight) for hold in self.held])

    def fits_at_us(self, over: int, span_us: int) -> int:
        for u_us, weight in self.counted(span_us):
            over -= weight
            if over <= 0:
                return u_us + span_us
        raise AssertionError("asked for more than is counted")


class Both:
    """A history and a list that the same things happen to."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.history, self.listed = chance, history_with_windows(), Listed()
        self.holds: list[Hold] = []  # every hold there was

    def hold(self) -> None:
        silence_us = self.chance.choice((0, 5, SILENT_US))
        hold = Hold(self.chance.randrange(1, 5), self.listed.now_us + self.chance.randrange(1, 40), silence_us)
        self.holds.append(hold)
        self.history.hold(hold)
        self.listed.held.append(hold)

    def _forget(self, hold: Hold) -> None:
        if hold in self.listed.held:
            self.listed.held.remove(hold)
        elif hold.u_us is not None:
            self.listed.entries.remove((hold.u_us, hold.weight))

    def settle(self, hold: Hold) -> None:
        u_us, weight = self.listed.now_us + self.chance.randrange(-3, 9), self.chance.choice((None, 1, 7))
        self._forget(hold)
        self.history.settle(hold, u_us, weight)
        assert (hold.u_us, hold.weight) == (u_us, weight or hold.weight)
        self.listed.entries.append((u_us, hold.weight))

    def release(self, hold: Hold) -> None:
        self._forget(hold)
        self.history.release(hold)
        assert hold.u_us is None

    def rebound(self, hold: Hold) -> None:
        bound_us, silence_us = self.listed.now_us + self.chance.randrange(1, 30), self.chance.choice((0, 5))
        self._forget(hold)
        self.history.rebound(hold, bound_us, silence_us)
        assert (hold.bound_us, hold.doubt_us) == (bound_us, bound_us - silence_us)
        self.listed.held.append(hold)

    def add(self) -> None:
        u_us, weight = self.listed.now_us + self.chance.randrange(-30, 30), self.chance.randrange(1, 5)
        self.history.add(u_us, weight)
        self.listed.entries.append((u_us, weight))

    def advance(self, by_us: int) -> None:
        now_us = self.listed.now_us + by_us
        self.history.advance(now_us)
        self.listed.advance(now_us)

    def agree(self) -> None:
        now_us = self.listed.now_us
        self.advance(0)  # an end that came late may be over already
        assert self.history.held == sum(hold.weight for hold in self.listed.held)
        for window in self.history.windows:
            used = sum(weight for _, weight in self.listed.counted(window.span_us))
            assert window.used == used
            for over in {1, used // 2, used} - {0} if used else ():
                assert window.fits_at_us(over, now_us) == self.listed.fits_at_us(over, window.span_us)
            first_us = self.listed.fits_at_us(1, window.span_us) if used else None
            assert window.next_release_us(now_us) == first_us


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_windows_agree_with_a_list_added_up_anew(seed: int) -> None:
    """Holds, ends that come late or early, bounds that pass, usage of others, and a time that was an estimate."""
    chance = random.Random(seed)
    both = Both(chance)
    for _ in range(STEPS):
        old = chance.choice(both.holds) if both.holds else None
        match chance.randrange(9):
            case 0 | 1:
                both.hold()
            case 2 if old:
                both.settle(old)
            case 3 if old:
                both.release(old)
            case 4 if old:
                both.rebound(old)
            case 5:
                both.add()
            case 6:
                both.advance(-chance.randrange(4))
            case _:
                both.advance(chance.randrange(12))
        both.agree()


@pytest.mark.parametrize(
    ("silence_us", "now_us", "expected_us"), [(20, 29, 29), (20, 30, 50), (20, 31, 50), (0, 49, 49), (SILENT_US, 0, 50)]
)
def test_an_end_is_expected_at_any_moment_until_silence_makes_it_the_bound(
    silence_us: int, now_us: int, expected_us: int
) -> None:
    hold = Hold(1, 50, silence_us)
    assert hold.expected_us(now_us) == expected_us
    assert hold.doubt_us == 50 - silence_us


def test_asking_for_more_than_is_counted_is_a_mistake() -> None:
    history = history_with_windows()
    history.add(5, 2)
    history.hold(Hold(1, 9, 0))
    with pytest.raises(AssertionError, match="more than is counted"):
        history.windows[0].fits_at_us(4, 0)


@pytest.mark.parametrize(("extra", "left"), [(0, 1), (-1, TRIM_AT)])
def test_what_no_window_counts_any_more_is_cut_off_once_it_is_much(extra: int, left: int) -> None:
    """Sums and later entries stay as they were."""
    history = history_with_windows()
    for u_us in range(TRIM_AT + extra):
        history.add(u_us, 3)
    now_us = TRIM_AT + SPANS_US[1]
    history.add(now_us, 7)

    history.trim(now_us)

    assert len(history.us) == left
    assert [window.used for window in history.windows] == [7, 7]
    history.add(now_us - 1, 2)  # a late end, before the last entry
    assert [window.used for window in history.windows] == [9, 9]
    history.advance(now_us + SPANS_US[0])
    assert [window.used for window in history.windows] == [0, 9]


@pytest.mark.parametrize(
    ("strikes", "pause_us"), [(0, 0), (1, 200), (2, 400), (5, 3_200), (6, 6_400), (7, 6_400), (99, 6_400)]
)
def test_each_429_in_a_row_doubles_the_least_pause_up_to_a_whole_window(strikes: int, pause_us: int) -> None:
    window = Window(UsageHistory(), limit="l", unit=0, capacity=10, span_us=6_400)
    window.strikes = strikes
    assert window.least_pause_us() == pause_us


@pytest.mark.parametrize(("now_us", "ends_us"), [(0, 10), (9, 10), (10, 30), (28, 30), (29, 30), (30, 40), (39, 40)])
def test_a_probe_ends_when_the_first_in_flight_does(now_us: int, ends_us: int) -> None:
    """As long as it may end at any moment, when it no longer may; after that, at its bound; later than now."""
    history = history_with_windows()
    history.hold(Hold(1, 50, 20))
    history.hold(Hold(1, 40, 30))
    assert history.windows[0].probe_ends_us(now_us) == ends_us


@pytest.mark.parametrize("weight", [1, 2, 5, 7])
def test_what_is_released_is_the_entry_of_its_weight(weight: int) -> None:
    """Of those that ended at the same time, in whichever order; with none beside it, too."""
    history = history_with_windows()
    holds = {weight: Hold(weight, 90, 0) for weight in (5, 1, 7, 2)}
    for hold in holds.values():
        history.hold(hold)
        history.settle(hold, 10)
    history.add(9, 3)
    history.add(11, 4)
    history.release(holds.pop(weight))
    assert list(history.counted(0)) == [(9, 3), *((10, kept) for kept in holds), (11, 4)]
    for kept, hold in holds.items():
        history.release(hold)
        assert (10, kept) not in history.counted(0)
    assert list(history.counted(0)) == [(9, 3), (11, 4)]


def test_what_was_trimmed_can_be_released_all_the_same() -> None:
    """Also where nothing is left at all: no window counts it any more."""
    history = history_with_windows()
    hold = Hold(5, 90, 0)
    history.hold(hold)
    history.settle(hold, 10)
    for _ in range(TRIM_AT):
        history.add(10, 1)
    history.trim(1_000)
    assert len(history.us) == 0
    history.release(hold)
    assert [window.used for window in history.windows] == [0, 0]
    history.add(1_000, 3)
    assert [window.used for window in history.windows] == [3, 3]
