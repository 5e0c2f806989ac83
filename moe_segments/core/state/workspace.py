"""The folded state of one journal: quotas, jobs, origin, rejected keys. Pure.

`WorkspaceState` is what a replica keeps current. Reservations can be tried on it and taken back, so that several
can be decided together before any of them is durable.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from moe_segments.core.events import (
    Checkpoint,
    Claimed,
    ClaimsRenewed,
    Copied,
    Copying,
    Event,
    KeyAccepted,
    KeyRejected,
    Moved,
    Opened,
    Reserved,
    Stayed,
    Unclaimed,
)
from moe_segments.core.quota.ledger import life_us
from moe_segments.core.state.folded import FoldedState
from moe_segments.core.state.jobs import READS, JobRecord
from moe_segments.errors import JournalError, JournalMoved

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from moe_segments.core.events import Batch
    from moe_segments.limits import QuotaLimits

__all__ = ["WorkspaceState"]

# What concerns neither quotas nor jobs: asked first, as the others are nearly all there is.
_OF_THE_LOG: Final = frozenset(
    (Opened, KeyRejected, KeyAccepted, Checkpoint, Claimed, ClaimsRenewed, Unclaimed, Moved, Stayed, Copying, Copied)
)

_OF_THE_LINE: Final = frozenset((Claimed, ClaimsRenewed))  # whoever comes after the others changes nothing for them


class WorkspaceState(FoldedState):
    """The state after the batches folded so far, on which decisions are tried.

    Attributes:
        revision: Grows with all that may change a decision, except that more stand in line.
    """

    version: int
    now_us: int
    opened: Opened | None

    def __init__(self, limits: QuotaLimits) -> None:
        super().__init__(limits)
        self.revision: int = 0
        self._tried: list[tuple[Reserved, JobRecord | None, list[tuple[str, str | None, str | None]]]] = []
        self._tried_at_us = 0
        self._damage: JournalError | None = None

    def fold(self, batch: Batch) -> None:
        """Take in the next batch; one at or below `version` changes nothing.

        Raises:
            JournalError: The batch cannot be understood. The state is of no use from then on, and barred.
        """
        for _ in self.folding(batch):
            pass

    def folding(self, batch: Batch) -> Iterable[None]:
        """Do as `fold`, in steps where it takes long; between them the state is what it was before."""
        if batch.version <= self.version:
            return ()
        if self._damage is not None:
            raise self._damage
        if batch.events and isinstance(batch.events[0], Checkpoint):
            return self._restoring(batch, batch.events[0])
        try:
            self._take_in(batch)
        except Exception as error:
            raise self._barred_by(error, batch) from error
        return ()

    def _restoring(self, batch: Batch, checkpoint: Checkpoint) -> Iterator[None]:
        from moe_segments.core.state import checkpoint as snapshot  # a young log has none

        try:
            yield from snapshot.restoring(self, checkpoint)
            self._take_in(batch)
        except Exception as error:
            raise self._barred_by(error, batch) from error

    def _take_in(self, batch: Batch) -> None:
        if self.copying is not None:  # before time passes: what is postponed has not ended yet
            self._postpone(sum(event.postponed_us for event in batch.events if isinstance(event, Copied)))
        self.ledger.advance_for_good(batch.at_us)
        for event in batch.events:
            self._fold(event, batch.at_us)
        self.version, self.now_us = batch.version, batch.at_us

    def _barred_by(self, error: Exception, batch: Batch) -> JournalError:
        if not isinstance(error, JournalError):
            error = JournalError(
                f"the journal's entry at version {batch.version} cannot be understood "
                f"({type(error).__name__}: {error}): it is damaged, or a newer moe_segments wrote it; nothing is sent: "
                "upgrade moe_segments, or restore the journal"
            )
        self._damage = error
        return error

    def _fold(self, event: Event, at_us: int) -> None:
        self.revision += type(event) not in _OF_THE_LINE
        if type(event) not in _OF_THE_LOG:
            self.ledger.fold(event, at_us)
            self.jobs.fold(event, at_us)
            self.memberships.fold(event, at_us, self.jobs)
            self.gone.fold(event, at_us, self.jobs)
            if self.claims.live and isinstance(event, Reserved):
                self.claims.reserved(event.job, event.row, at_us)
            return
        match event:
            case Opened():
                self.opened = self.opened or event
            case KeyRejected(fingerprint, status):
                self.rejected_keys[fingerprint] = status
            case KeyAccepted(fingerprint):
                self.rejected_keys.pop(fingerprint, None)
            case Claimed() | ClaimsRenewed() | Unclaimed():
                self._fold_claim(event, at_us)
            case Moved() | Stayed() | Copying() | Copied():
                self._fold_move(event)
            case _:
                pass  # folded above

    def _fold_claim(self, event: Claimed | ClaimsRenewed | Unclaimed, at_us: int) -> None:
        match event:
            case Claimed():
                life = None if event.expiry_days is None else life_us(event.expiry_days, self.limits)
                self.claims.make(event, at_us, life)
            case ClaimsRenewed(waiter, for_us):
                self.claims.renew(waiter, at_us, for_us)
            case Unclaimed(job):
                self.claims.end(job)

    def _fold_move(self, event: Moved | Stayed | Copying | Copied) -> None:
        match event:
            case Moved():
                self.moved = event
            case Stayed():
                self.moved = None
            case Copying():
                self.copying = event
            case Copied(origins):
                self.copying = None
                self.origins.update(origins)

    def _postpone(self, by_us: int) -> None:
        """Fold the end of a migration by an earlier version, which told by how much its clock was ahead."""
        if by_us > 0:
            from moe_segments.core.state import checkpoint as snapshot  # few logs hold such a migration

            for _ in snapshot.restoring(self, snapshot.postponed(self.snapshot(), by_us)):
                pass

    @property
    def barred(self) -> JournalError | None:
        """Return why nothing may be decided on this log; None when it may."""
        if self._damage is not None:
            return self._damage
        if self.moved is not None:
            return JournalMoved(self.moved.to)
        if self.copying is not None:
            return JournalError(
                f"the journal at {self.copying.place} was being copied into this one and not all of it is here; "
                "nothing is sent: run the same 'moe-segments journal copy' again"
            )
        return None

    def try_reserve(self, event: Reserved, at_us: int) -> None:
        """Count a reservation that is not durable yet; `take_back` undoes every one tried."""
        jobs = self.jobs
        record = jobs.records.get(event.job)
        keys = [(key, jobs.holders.get(key), jobs.last_sent.get(key)) for key in event.keys]
        self._tried.append((event, copy.copy(record) if record else None, keys))
        self._tried_at_us = at_us
        self.revision += 1
        self.ledger.reserve(event, at_us)
        self.jobs.reserve(event, at_us)

    def keep(self, batch: Batch) -> bool:
        """Let what was tried stand, if *batch* is exactly that, made durable then or later. Returns whether it is."""
        late_us = batch.at_us - self._tried_at_us
        is_same = [id(event) for event, _, __ in self._tried] == [id(event) for event in batch.events]
        if not is_same or batch.version != self.version + 1 or late_us < 0:
            return False
        if late_us:
            self._restamp(batch.at_us, late_us)
            self.revision += 1
        if self.claims.live:
            for event, _, __ in self._tried:
                self.claims.reserved(event.job, event.row, batch.at_us)
        self._tried.clear()
        self.version, self.now_us = batch.version, batch.at_us
        return True

    def _restamp(self, at_us: int, late_us: int) -> None:
        """Move what was tried to the batch's time: an engine that decides before it appends stamps a little later."""
        self.ledger.advance_for_good(at_us)
        for event, _, __ in self._tried:
            self.ledger.restamp(event.row, late_us)
        for job in {event.job for event, _, __ in self._tried if event.operation.get("op") not in READS}:
            self.jobs.restamp(job, late_us)

    def take_back(self) -> None:
        """Undo everything tried, last first."""
        while self._tried:
            self.take_back_last()

    def take_back_last(self) -> None:
        """Undo what was tried last."""
        event, record, keys = self._tried.pop()
        self.revision += 1
        self.ledger.forget(event.row)
        self._restore_job(event, record)
        for key, holder, sent in keys:
            _put_back(self.jobs.holders, key, holder)
            _put_back(self.jobs.last_sent, key, sent)

    def _restore_job(self, event: Reserved, record: JobRecord | None) -> None:
        if record is None:
            self.jobs.records.pop(event.job, None)  # a read has none
        else:
            self.jobs.records[event.job] = record
        if event.token_sha256 is not None:
            self.jobs.tokens.pop(event.token_sha256, None)

    def snapshot(self) -> Checkpoint:
        """Return this state as a checkpoint, without what is too old to matter."""
        from moe_segments.core.state.checkpoint import checkpoint_of  # a short-lived client makes none

        return checkpoint_of(*self.taking())

    def taking(self) -> tuple[Mapping[str, object], Iterator[str]]:
        """Do as `snapshot` in steps: see `core.state.checkpoint.take`, and `checkpoint_of` for the end."""
        from moe_segments.core.state import checkpoint as snapshot

        self.ledger.prune(self.now_us)
        self.jobs.prune(self.now_us)
        self.claims.prune(self.now_us, self.ledger.rows)
        return snapshot.take(self)


def _put_back(mapping: dict[str, str], key: str, value: str | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value
