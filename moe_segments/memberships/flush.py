"""Send one batch of a segment and hear what became of it; or hear what became of one that an earlier process sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from moe_segments.audiences.lease import Lease
from moe_segments.audiences.presence import is_there, refusal_of
from moe_segments.errors import Conflict, MoeSegmentsError, NameTaken, NotFound, OutboxError
from moe_segments.memberships.advance import Advance
from moe_segments.memberships.batch import BatchReader, operation_of
from moe_segments.memberships.verdicts import verdict_of
from moe_segments.submission.job_info import failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.core.audiences.backlog import Backlog, Batch
    from moe_segments.journal.replica import Replica
    from moe_segments.memberships.advance import Snapshots
    from moe_segments.memberships.outbox.protocol import Client, Outbox

__all__ = ["Flush"]

_PATIENCE_S: Final = 30.0  # for the pace, and for somebody who was a moment quicker
_SECOND_US: Final = 1_000_000


class Flush:
    """One flush of a segment.

    Args:
        client: Sends.
        replica: The journal.
        outbox: Where the changes are.
        exists: The names of segments that are known to be there; what is found out is added.
        snapshots: Where snapshots of audiences are; None for nowhere.

    Attributes:
        is_sent: Set when the operation was sent, or is not going to be.
    """

    def __init__(
        self, client: Client, replica: Replica, outbox: Outbox, exists: set[str], snapshots: Snapshots | None
    ) -> None:
        self._client, self._replica, self._outbox, self._exists = client, replica, outbox, exists
        self._snapshots = snapshots
        self.is_sent: asyncio.Event = asyncio.Event()

    async def send(self, backlog: Backlog, rows: int, *, began: Callable[[], object]) -> bool:
        """Send what a segment needs next and wait for its end. Returns whether anything was applied.

        Args:
            backlog: Of the segment, as it was when it was chosen.
            rows: The most values.
            began: Called once the operation has left.

        Raises:
            MoeSegmentsError: It was not applied. Its changes wait for the next flush.
        """
        lease = Lease(self._replica)
        async with lease.kept():
            if backlog.name not in await lease.take([backlog.name]):
                return False  # somebody was quicker
            now = await self._again(backlog)
            if now.batch is not None:
                return await self._settled(now, now.batch)
            if not now.pending:
                return False
            advance = Advance(self._replica, self._snapshots, owner=lease.owner, backlog=now)
            try:
                return await self._sent(now, rows, began, advance)
            finally:
                await advance.close()

    async def _again(self, backlog: Backlog) -> Backlog:
        """Return the backlog of a segment as it is now that nobody else works on it."""
        return next(one for one in await self._outbox.backlogs() if one.segment == backlog.segment)

    async def _sent(self, backlog: Backlog, rows: int, began: Callable[[], object], advance: Advance) -> bool:
        most_bytes = self._client.limits.file_bytes
        reader = BatchReader(self._outbox, backlog, rows=rows, file_bytes=most_bytes, advance=advance)
        op: str | None = None
        error: MoeSegmentsError | None = None
        try:
            op = await self._op(backlog, adds=reader.adds)
            if op is None:
                await self._outbox.discard(backlog.segment, backlog.tip, adds=False)
                return True
            operation = operation_of(backlog, op, values=reader.values)
            await self._client.submit(operation, max_wait_s=_PATIENCE_S, job_id=reader.job, preflight="off")
        except MoeSegmentsError as problem:  # the outbox's own, where it could not be read
            error = problem.__cause__ if isinstance(problem.__cause__, OutboxError) else problem
        finally:
            record = self._replica.state.jobs.records.get(reader.job)
            if record is not None and record.attempt:
                began()
            self.is_sent.set()
        if reader.batch is None:  # nothing was read: what the outbox counted is counted anew
            await self._outbox.discard(backlog.segment, 0)
        elif await self._settled(backlog, reader.batch):
            return True
        if isinstance(error, NotFound):
            self._exists.discard(backlog.name)
        if op == "create" and isinstance(error, NameTaken | Conflict):
            self._exists.add(backlog.name)
            return False
        if error is None and reader.batch is not None:
            error = self._failure(reader.batch)
        if error is not None:
            raise error
        return False

    async def _op(self, backlog: Backlog, *, adds: bool) -> str | None:
        """Return the operation that sends changes: "create", "add" or "remove"; None where there is nobody to remove.

        Raises:
            SegmentGone: Nobody can be added to the segment, nor can it be created.
            MoeSegmentsError: The service could not be asked whether it is there.
        """
        name, state, op = backlog.name, self._replica.state, "add" if adds else "remove"
        refusal = refusal_of(state, name, self._client.governor.shift_us())
        may_create = adds and backlog.expiry_time is not None
        if refusal is None and (name in self._exists or not may_create):
            return op
        if refusal is not None and not adds and name in state.gone.of and state.gone.of[name].is_missing:
            return None
        if await is_there(self._client, state, name, max_wait_s=_PATIENCE_S):
            self._exists.add(name)
            return op
        if refusal is not None and not may_create:
            raise refusal
        return "create"

    async def settle(self, backlog: Backlog) -> bool:
        """Hear what became of the batch of an earlier flush. Returns whether it was applied."""
        self.is_sent.set()
        lease = Lease(self._replica)
        async with lease.kept():
            if backlog.name not in await lease.take([backlog.name]):
                return False
            now = await self._again(backlog)
            return now.batch is not None and await self._settled(now, now.batch)

    async def _settled(self, backlog: Backlog, batch: Batch) -> bool:
        """Wait until it is known what became of a batch, and write that down. Returns whether it was applied."""
        while True:
            now_us = self._replica.now_us()
            record = self._replica.state.jobs.records.get(batch.job)
            verdict = verdict_of(record, now_us)
            if record is None or verdict.is_over:
                await self._outbox.end(backlog.segment, batch, is_applied=verdict.is_applied)
                return verdict.is_applied
            try:
                async with asyncio.timeout((record.busy_until_us - now_us) / _SECOND_US + 0.001):
                    await self._replica.job_changed(batch.job)
            except TimeoutError:
                await self._replica.refresh()

    def _failure(self, batch: Batch) -> MoeSegmentsError | None:
        record = self._replica.state.jobs.records.get(batch.job)
        return None if record is None else failure_of(record, record.state_at(self._replica.now_us()))
