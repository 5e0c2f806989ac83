"""The gauge of active segments against a list that is looked through from end to end for everything."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import attrs
import pytest

from moe_segments.core.gauge import ActiveSegments, Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORIES, STEPS = 300, 60
NAMES, IDS = ("a", "b", "c"), (None, "1", "2", "3")


@attrs.define
class Listed:
    """Every lease in one dict, and no index."""

    leases: dict[str, Lease] = attrs.field(factory=dict)

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
            ("advance", now_us),
        )
        step, *values = chance.choice(steps)
        for one in (gauge, listed):
            getattr(one, step)(*values)
        assert gauge.leases == listed.leases
        assert gauge.used == len(listed.leases)
        assert gauge.pending == sum(not lease.confirmed for lease in listed.leases.values())
        assert {row for row in listed.leases if gauge.holds(row)} == set(listed.leases)
    gauge.advance(now_us + 1_000)
    assert all(lease.until_us is None for lease in gauge.leases.values())
