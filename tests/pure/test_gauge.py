"""The gauge of active segments against a list that is looked through from end to end for everything."""

from __future__ import annotations

import inspect
import pickle
import random
from typing import TYPE_CHECKING

import attrs
import pytest

from moe_segments.core.quota.active_segments import ActiveSegments, Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORIES, STEPS = 300, 60
HALF = 0.5
NAMES, IDS = ("a", "b", "c"), (None, "1", "2", "3")


@attrs.define
class Listed:
    """Every lease in one dict, and no index."""

    leases: dict[str, Lease] = attrs.field(factory=dict)
    external: int = 0

    def take(self, row: str, name: str, cs_id: str | None, until_us: int | None) -> None:
        self.leases[row] = Lease(name, cs_id, until_us)

    def prolong(self, row: str, until_us: int | None) -> None:
        if row in self.leases:
            self.leases[row].until_us, self.leases[row].confirmed = until_us, False

    def confirm(self, row: str, until_us: int | None, cs_id: str | None) -> None:
        lease = self.leases.pop(row, None)
        if lease is not None:
            cs_id = cs_id or lease.cs_id
            self.archive(lease.name, cs_id)
            self.leases[row] = Lease(lease.name, cs_id, until_us, confirmed=True)

    def later(self, row: str, by_us: int) -> None:
        if row in self.leases:
            self._delay(self.leases[row], by_us)

    @staticmethod
    def _delay(lease: Lease, by_us: int) -> None:
        if lease.until_us is not None:
            lease.until_us += by_us

    def observe(self, count: int, *, authoritative: bool) -> None:
        others = max(0, count - sum(lease.confirmed for lease in self.leases.values()))
        self.external = others if authoritative else max(others, self.external)

    def free(self, row: str) -> None:
        self.leases.pop(row, None)

    def archive(self, name: str, cs_id: str | None) -> None:
        rows = [row for row, lease in self.leases.items() if cs_id is not None and lease.cs_id == cs_id]
        rows = rows or [
            row for row, lease in self.leases.items() if lease.name == name and (cs_id is None or lease.cs_id is None)
        ]
        for row in rows:
            del self.leases[row]

    def advance(self, now_us: int) -> None:
        self.leases = {
            row: lease for row, lease in self.leases.items() if lease.until_us is None or lease.until_us > now_us
        }


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_what_is_indexed_is_what_a_list_says(seed: int) -> None:
    """Names and identifiers few enough to meet: of segments in flight, confirmed, doubted again, archived, expired."""
    chance = random.Random(seed)
    gauge, listed, now_us = ActiveSegments(1_000), Listed(), 0
    for number in range(STEPS):
        row, old = f"row-{number}", f"row-{chance.randrange(number + 1)}"
        name, cs_id = chance.choice(NAMES), chance.choice(IDS)
        until_us = chance.choice((None, now_us + chance.randrange(1, 40)))
        now_us += chance.randrange(3)
        steps: Sequence[tuple[str, *tuple[object, ...]]] = (
            ("take", row, name, cs_id, until_us),
            ("take", chance.choice((row, old)), name, None, until_us),
            *(("confirm", old, until_us, cs_id),) * 2,
            ("prolong", old, until_us),
            ("free", old),
            ("archive", name, cs_id),
            ("later", old, chance.randrange(9)),
            ("observe", chance.randrange(9)),
            ("advance", now_us),
            ("advance", now_us),
        )
        step, *values = chance.choice(steps)
        options = {"authoritative": chance.random() < HALF} if step == "observe" else {}
        for one in (gauge, listed):
            getattr(one, step)(*values, **options)
        assert gauge.leases == listed.leases
        assert (gauge.used, gauge.external) == (len(listed.leases) + listed.external, listed.external)
        ends = sorted(lease.until_us for lease in listed.leases.values() if lease.until_us is not None)
        assert gauge.next_release_us() == (ends[0] if ends else None)
        for over in range(1, gauge.used + 1):  # the earliest time at which so many fewer are active
            assert gauge.fits_at_us(over, now_us) == (ends[over - 1] if over <= len(ends) else None)
        assert gauge.fits_at_us(gauge.used + 1, now_us) is None
        assert gauge.pending == sum(not lease.confirmed for lease in listed.leases.values())
        assert {row for row in listed.leases if gauge.holds(row)} == set(listed.leases)
    gauge.advance(now_us + 1_000)
    assert all(lease.until_us is None for lease in gauge.leases.values())


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_time_that_was_an_estimate_is_taken_back(seed: int) -> None:
    """What expired by then counts again, unless that time was certain; what was freed meanwhile does not."""
    chance = random.Random(seed)
    gauge, listed = ActiveSegments(1_000), Listed()
    for number in range(chance.randrange(12)):
        until_us = chance.choice((None, chance.randrange(100)))
        for one in (gauge, listed):
            one.take(f"row-{number}", chance.choice(NAMES), None, until_us)
    certain_us, estimated_us = sorted(chance.sample(range(100), 2))
    for one in (gauge, listed):
        one.advance(certain_us)
    gauge.forget_expired()
    gauge.advance(estimated_us)
    listed_then = Listed(dict(listed.leases))
    listed_then.advance(estimated_us)
    assert gauge.leases.keys() == listed_then.leases.keys()
    back_us = chance.randrange(certain_us, estimated_us)
    for one in (gauge, listed):
        one.advance(back_us)
    assert gauge.leases.keys() == listed.leases.keys()
    for one in (gauge, listed):
        one.advance(100)
    assert gauge.leases.keys() == listed.leases.keys()


def test_full_because_the_service_said_so_lasts_until_it_said() -> None:
    """A segment that expires before then makes no room."""
    gauge = ActiveSegments(10, full_until_us=50)
    gauge.take("a", "a", None, 20)
    gauge.take("b", "b", None, 70)
    assert [gauge.fits_at_us(over, 10) for over in (-1, 0, 1, 2, 3)] == [50, 50, 50, 70, None]
    gauge.free("a")
    assert gauge.fits_at_us(1, 10) == 70


def test_an_end_that_is_moved_often_is_still_the_last_one() -> None:
    """What is expected of the earlier ones is tidied up now and then."""
    gauge = ActiveSegments(10)
    gauge.take("often", "a", None, 1_000)
    gauge.take("once", "b", None, 1_100)
    gauge.take("never", "c", None, None)
    for _ in range(200):
        gauge.later("often", 1)
    for now_us, left in ((1_099, {"often", "once", "never"}), (1_100, {"often", "never"}), (1_200, {"never"})):
        gauge.advance(now_us)
        assert gauge.leases.keys() == left


def test_ends_that_are_moved_or_taken_back_are_not_kept_for_ever() -> None:
    """A gauge that was used for long takes as much memory as one that counts the same."""
    gauge = ActiveSegments(10)
    for number in range(3):
        gauge.take(f"stays-{number}", f"s{number}", None, 10**9)
    small = len(pickle.dumps(gauge))
    for number in range(5_000):
        gauge.take("goes", "g", None, 10**6 + number)
        gauge.free("goes")
        gauge.later("stays-1", 1)
    assert len(pickle.dumps(gauge)) < small + 8_000
    gauge.advance(10**9 + 4_999)
    assert gauge.leases.keys() == {"stays-1"}


def test_a_gauge_is_made_of_its_baseline_alone() -> None:
    """Leases come in one by one, so that every index knows them."""
    assert list(inspect.signature(ActiveSegments).parameters) == ["capacity", "external", "full_until_us"]
