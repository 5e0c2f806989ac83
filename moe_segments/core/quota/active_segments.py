"""The gauge of active segments: our own by name, and a baseline for those of others. Pure: no clock, no I/O.

Ours count from the reservation of a create or an unarchive until a confirmed archive or their expiry. The rest is a
baseline that somebody observed, and a margin for what nobody told us.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ActiveSegments", "Lease"]

_SPARE: Final = 64
_Index: TypeAlias = "dict[str, str | tuple[str, ...]]"  # rows by something of theirs; nearly always one, kept bare


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

    Each is found by its name and its identifier: there may be a thousand of them, and each acceptance looks for the one
    it replaces.

    Attributes:
        capacity: What may be active, headroom and margin taken off.
        external: What others have active, as observed.
        full_until_us: Taken to be full until then, because the service said so.
    """

    capacity: int
    external: int = 0
    full_until_us: int = 0
    _pending: dict[str, Lease] = attrs.field(factory=dict, init=False)  # by the row that made them
    _confirmed: dict[str, Lease] = attrs.field(factory=dict, init=False)
    _named: _Index = attrs.field(factory=dict, init=False)  # rows by name
    _identified: _Index = attrs.field(factory=dict, init=False)  # and by identifier
    _ends: list[tuple[int, str]] = attrs.field(factory=list, init=False)
    _expired: dict[str, Lease] = attrs.field(factory=dict, init=False)  # since the last time that was certain
    _now_us: int = attrs.field(default=0, init=False)

    @property
    def leases(self) -> Mapping[str, Lease]:
        """Ours, by the row that made them."""
        return self._pending | self._confirmed

    @property
    def used(self) -> int:
        """Ours and theirs."""
        return len(self._pending) + len(self._confirmed) + self.external

    @property
    def pending(self) -> int:
        """Ours that the service has not confirmed."""
        return len(self._pending)

    def holds(self, row: str) -> bool:
        """Return whether the segment of *row* counts."""
        return row in self._pending or row in self._confirmed

    def take(self, row: str, name: str, cs_id: str | None, until_us: int | None, *, confirmed: bool = False) -> None:
        """Count the segment that *row* makes."""
        if row in self._pending or row in self._confirmed:
            self._remove(row)
        self._add(row, Lease(name, cs_id, until_us, confirmed))
        self._expect(row, until_us)

    def _add(self, row: str, lease: Lease) -> None:
        (self._confirmed if lease.confirmed else self._pending)[row] = lease
        _enter(self._named, lease.name, row)
        if lease.cs_id is not None:
            _enter(self._identified, lease.cs_id, row)

    def _lease(self, row: str) -> Lease:
        return self._pending.get(row) or self._confirmed[row]

    def _remove(self, row: str) -> Lease | None:
        lease = self._pending.pop(row, None) or self._confirmed.pop(row, None)
        if lease is None:
            return None
        _drop(self._named, lease.name, row)
        if lease.cs_id is not None:
            _drop(self._identified, lease.cs_id, row)
        return lease

    def prolong(self, row: str, until_us: int | None) -> None:
        """Prolong the lease of *row*: whether its segment was made is unknown, so it may count until later."""
        lease = self._remove(row)
        if lease is not None:
            self.take(row, lease.name, lease.cs_id, until_us)

    def later(self, row: str, by_us: int) -> None:
        """Prolong the lease of *row* by *by_us*, if it ends by itself."""
        lease = self._pending.get(row) or self._confirmed.get(row)
        if lease is not None and lease.until_us is not None:
            lease.until_us += by_us
            self._expect(row, lease.until_us)

    def _expect(self, row: str, until_us: int | None) -> None:
        if until_us is not None:
            heappush(self._ends, (until_us, row))
        spare = len(self._ends) - _SPARE
        if spare > 2 * (len(self._pending) + len(self._confirmed)):  # taken back, or moved
            self._ends = sorted((one.until_us, name) for name, one in self.leases.items() if one.until_us is not None)

    def confirm(self, row: str, until_us: int | None, cs_id: str | None = None) -> None:
        """Confirm a lease: exactly one active segment has this name, and this identifier where one was given."""
        lease = self._remove(row)
        if lease is None:
            return
        cs_id = cs_id or lease.cs_id
        self.archive(lease.name, cs_id)
        self._add(row, Lease(lease.name, cs_id, until_us, confirmed=True))
        self._expect(row, until_us)

    def free(self, row: str) -> None:
        """Release a lease: the segment was not made."""
        self._remove(row)

    def archive(self, name: str, cs_id: str | None = None) -> None:
        """Stop counting a segment: the service archived it."""
        for row in self._rows_of(name, cs_id):
            self._remove(row)

    def found(self, name: str, cs_id: str | None = None) -> tuple[Lease, ...]:
        """Return what an archive of this segment would free."""
        return tuple(self._lease(row) for row in self._rows_of(name, cs_id))

    def _rows_of(self, name: str, cs_id: str | None) -> tuple[str, ...]:
        """Return the rows of a segment. Where both are known the identifier says which, as for the service."""
        known = () if cs_id is None else _found(self._identified, cs_id)
        if not known:
            known = _found(self._named, name)
            if cs_id is not None:
                known = tuple(row for row in known if self._lease(row).cs_id is None)
        return known

    def observe(self, count: int, *, authoritative: bool) -> None:
        """Raise the baseline by an observed count of active segments, ours included; a hint never lowers it."""
        external = max(0, count - len(self._confirmed))
        self.external = external if authoritative else max(self.external, external)

    def advance(self, now_us: int) -> None:
        """Stop counting those that have expired; count them again when that time was an estimate, and too late."""
        if now_us < self._now_us:
            self._turn_back(now_us)
        self._now_us = now_us
        while self._ends and self._ends[0][0] <= now_us:
            until_us, row = heappop(self._ends)
            lease = self._pending.get(row) or self._confirmed.get(row)
            if lease is not None and lease.until_us == until_us:
                self._remove(row)
                self._expired[row] = lease

    def _turn_back(self, now_us: int) -> None:
        for row, lease in tuple(self._expired.items()):
            if (lease.until_us or 0) > now_us:
                del self._expired[row]
                self._add(row, lease)
                self._expect(row, lease.until_us)

    def forget_expired(self) -> None:
        """Drop expired leases: no later `advance` goes back before the last one."""
        self._expired.clear()

    def fits_at_us(self, over: int, now_us: int) -> int | None:
        """Return when *over* fewer are active at the earliest, by expiry alone; None when that never happens."""
        if self.full_until_us > now_us and over <= 0:
            return self.full_until_us
        ends = sorted(lease.until_us for lease in self.leases.values() if lease.until_us is not None)
        return max(ends[over - 1], self.full_until_us) if over <= len(ends) else None

    def next_release_us(self) -> int | None:
        """Return when the next of ours expires."""
        return min((lease.until_us for lease in self.leases.values() if lease.until_us is not None), default=None)


def _enter(index: _Index, key: str, row: str) -> None:
    known = index.get(key)
    index[key] = row if known is None else (*_rows(known), row)


def _drop(index: _Index, key: str, row: str) -> None:
    known = index.pop(key)
    if known != row:
        first, *rest = (one for one in _rows(known) if one != row)
        index[key] = (first, *rest) if rest else first


def _found(index: _Index, key: str) -> tuple[str, ...]:
    known = index.get(key)
    return () if known is None else _rows(known)


def _rows(known: str | tuple[str, ...]) -> tuple[str, ...]:
    return (known,) if isinstance(known, str) else known
