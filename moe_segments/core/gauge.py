"""The number of active segments: those we know by name, and those that others made. Pure: no clock, no I/O.

Ours count from the reservation of a create or an unarchive until a confirmed archive or their expiry. The rest is a
baseline that somebody observed, and a margin for what nobody told us.
"""

from __future__ import annotations

from heapq import heappop, heappush

import attrs

__all__ = ["ActiveSegments", "Lease"]

_SPARE = 64


@attrs.define
class Lease:
    """One segment of ours that counts as active.

    Attributes:
        name: The segment's name.
        cs_id: Its identifier; None as long as nobody said it.
        until_us: When it stops counting by itself; None when nothing but an archive frees it.
        confirmed: The service said that it exists.
    """

    name: str
    cs_id: str | None
    until_us: int | None
    confirmed: bool = False


@attrs.define
class ActiveSegments:
    """A gauge with an observed baseline.

    Attributes:
        capacity: What may be active, headroom and margin taken off.
        external: What others have active, as observed.
        leases: Ours, by the row that made them.
        full_until_us: Taken to be full until then, because the service said so.
    """

    capacity: int
    external: int = 0
    leases: dict[str, Lease] = attrs.field(factory=dict)
    full_until_us: int = 0
    _ends: list[tuple[int, str]] = attrs.field(factory=list, init=False)
    _expired: dict[str, Lease] = attrs.field(factory=dict, init=False)  # since the last time that was certain
    _now_us: int = attrs.field(default=0, init=False)

    def copied(self) -> ActiveSegments:
        """A copy that goes its own way."""
        copy = attrs.evolve(self, leases={row: attrs.evolve(lease) for row, lease in self.leases.items()})
        copy._ends = self._ends[:]  # noqa: SLF001 - of the same class
        return copy

    @property
    def used(self) -> int:
        """Ours and theirs."""
        return len(self.leases) + self.external

    @property
    def pending(self) -> int:
        """Ours that the service has not confirmed."""
        return sum(not lease.confirmed for lease in self.leases.values())

    def take(self, row: str, name: str, cs_id: str | None, until_us: int | None) -> None:
        """Count the segment that *row* makes."""
        self.leases[row] = Lease(name, cs_id, until_us)
        self._expect(row, until_us)

    def prolong(self, row: str, until_us: int | None) -> None:
        """Nobody knows whether the segment of *row* was made, so that it may count until later."""
        lease = self.leases.get(row)
        if lease is not None:
            lease.until_us, lease.confirmed = until_us, False
            self._expect(row, until_us)

    def _expect(self, row: str, until_us: int | None) -> None:
        if until_us is not None:
            heappush(self._ends, (until_us, row))
        if len(self._ends) > 2 * len(self.leases) + _SPARE:  # of leases that were taken back or moved
            self._ends = sorted((one.until_us, name) for name, one in self.leases.items() if one.until_us is not None)

    def confirm(self, row: str, until_us: int | None, cs_id: str | None = None) -> None:
        """The service took it: exactly one active segment has this name, and this identifier where it said one."""
        lease = self.leases.pop(row, None)
        if lease is None:
            return
        cs_id = cs_id or lease.cs_id
        self.archive(lease.name, cs_id)
        self.take(row, lease.name, cs_id, until_us)
        self.leases[row].confirmed = True

    def free(self, row: str) -> None:
        """It was not made after all."""
        self.leases.pop(row, None)

    def archive(self, name: str, cs_id: str | None = None) -> None:
        """The service archived a segment. Where both are known the identifier says which, as for the service."""
        known = [row for row, lease in self.leases.items() if cs_id is not None and lease.cs_id == cs_id]
        for row in known or [row for row, lease in self.leases.items() if _may_be(lease, name, cs_id)]:
            del self.leases[row]

    def observe(self, count: int, *, authoritative: bool) -> None:
        """Somebody counted *count* active segments, ours included. A hint only ever raises the baseline."""
        confirmed = len(self.leases) - self.pending
        external = max(0, count - confirmed)
        self.external = external if authoritative else max(self.external, external)

    def advance(self, now_us: int) -> None:
        """Stop counting those that have expired; count them again when that time was an estimate, and too late."""
        if now_us < self._now_us:
            self._turn_back(now_us)
        self._now_us = now_us
        while self._ends and self._ends[0][0] <= now_us:
            until_us, row = heappop(self._ends)
            lease = self.leases.get(row)
            if lease is not None and lease.until_us == until_us:
                self._expired[row] = self.leases.pop(row)

    def _turn_back(self, now_us: int) -> None:
        for row, lease in tuple(self._expired.items()):
            if lease.until_us is not None and lease.until_us > now_us:
                del self._expired[row]
                self.leases[row] = lease
                self._expect(row, lease.until_us)

    def forget_expired(self) -> None:
        """The last `advance` was to a time that no later one comes before."""
        self._expired.clear()

    def postpone(self, by_us: int) -> None:
        """Let everything end so much later."""
        self.full_until_us += by_us * bool(self.full_until_us)
        self._ends = []
        for row, lease in self.leases.items():
            if lease.until_us is not None:
                lease.until_us += by_us
                self._expect(row, lease.until_us)

    def fits_at_us(self, over: int, now_us: int) -> int | None:
        """When *over* fewer are active at the earliest, by expiry alone; None when that never happens."""
        if self.used - over < 0:
            return None
        if self.full_until_us > now_us and over <= 0:
            return self.full_until_us
        ends = sorted(lease.until_us for lease in self.leases.values() if lease.until_us is not None)
        return max(ends[over - 1], self.full_until_us) if over <= len(ends) else None

    def next_release_us(self) -> int | None:
        """When the next of ours expires."""
        return min((lease.until_us for lease in self.leases.values() if lease.until_us is not None), default=None)


def _may_be(lease: Lease, name: str, cs_id: str | None) -> bool:
    return lease.name == name and (cs_id is None or lease.cs_id is None)
