"""A journal that lasts as long as its process: lists, for tests, sandboxes and throwaway runs.

Everything happens inside one step of the loop, so it is serial without a lock. Several replicas of one loop
may share one journal: one's append wakes the others at once. Use it from the thread of that loop only.
"""

from __future__ import annotations

import bisect
import secrets
from typing import TYPE_CHECKING

from moe_segments.core.events import Batch
from moe_segments.errors import JournalError, JournalReplaced
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import Event
    from moe_segments.journal.protocol import Clock, Decide

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """The `Journal` promise without a disk: what it holds does not survive the process.

    Args:
        clock: Microseconds since the epoch, for tests; None for the host's, anchored when this was made.

    Attributes:
        journal_id: Random, made with it.
        doubt: Always None: there is nothing it could have lost.
        is_new: The last `open` was the first.
        spans_hosts: Always False.
    """

    is_new: bool

    doubt: str | None = None
    spans_hosts = False

    def __init__(self, *, clock: Clock | None = None) -> None:
        host = BootClock()
        self.journal_id: str = secrets.token_hex(16)
        self.is_new = False
        self._clock = clock or host.clock(host.anchor())
        self._opened = False
        self._batches: list[Batch] = []
        self._by_id: dict[str, Batch] = {}
        self._dropped = 0  # versions 1 to this one are gone; the checkpoint stands for them
        self._checkpoint: Batch | None = None
        self._notifier = Notifier()

    async def open(self) -> None:
        """Note whether this is the first opening."""
        self.is_new, self._opened = not self._opened, True

    async def close(self) -> None:
        """Do nothing: others may share the log, and it can be opened again."""

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        """Decide and append in one step of the loop; see `Journal.transact`.

        Raises:
            JournalError: The log does not reach *after*.
        """
        stored = self._by_id.get(batch_id)
        if stored is not None:
            return stored
        now_us = self._now_us()
        events = decide(self._since(after), now_us)
        return self._add(batch_id, now_us, events) if events else None

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened; see `Journal.append`."""
        stored = self._by_id.get(batch_id)
        return stored if stored is not None else self._add(batch_id, self._now_us(), events)

    async def read(self, after: int) -> Sequence[Batch]:
        """Return the batches after version *after*; see `Journal.read`.

        Raises:
            JournalError: The log does not reach *after*.
        """
        return self._since(after)

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*; see `Journal.checkpoint`.

        Raises:
            JournalError: The log does not reach *version*.
        """
        self._refuse_beyond(version)
        if version < 1:
            raise JournalError(f"a checkpoint stands for versions from 1 on, not for {version}")
        if self._checkpoint is not None and self._checkpoint.version > version:
            return
        at_us = self._batches[version - self._dropped - 1].at_us if version > self._dropped else self._gone_at_us()
        self._checkpoint = Batch(version, f"checkpoint-{version}", at_us, (state,))
        self._drop(version, keep_since_us)

    async def changed(self, after: int, timeout_s: float) -> bool:
        """Wait until a version above *after* exists, at most *timeout_s* seconds; the append wakes it."""
        return self._last_version() > after or (await self._notifier.wait(timeout_s) and self._last_version() > after)

    def _last_version(self) -> int:
        return self._dropped + len(self._batches)

    def _now_us(self) -> int:
        now_us = self._clock()
        return max(now_us, self._batches[-1].at_us) if self._batches else now_us

    def _since(self, after: int) -> Sequence[Batch]:
        if after == self._last_version():
            return ()
        self._refuse_beyond(after)
        if after >= self._dropped or self._checkpoint is None:
            return self._batches[after - self._dropped :]
        return [self._checkpoint, *self._batches[self._checkpoint.version - self._dropped :]]

    def _refuse_beyond(self, version: int) -> None:
        if version > self._last_version():
            raise JournalReplaced(
                f"version {version} was asked for and the log in memory ends at {self._last_version()}: "
                "it is another log than the one that was read; open it again"
            )

    def _add(self, batch_id: str, at_us: int, events: Sequence[Event]) -> Batch:
        batch = Batch(self._last_version() + 1, batch_id, at_us, tuple(events))
        self._batches.append(batch)
        self._by_id[batch_id] = batch
        self._notifier.notify()
        return batch

    def _gone_at_us(self) -> int:
        # Only a checkpoint drops, and never more than it covers, so this one is being made again.
        return self._checkpoint.at_us if self._checkpoint is not None else 0

    def _drop(self, version: int, keep_since_us: int) -> None:
        # The last batch stays, always: it holds the log's version and its latest time.
        covered = min(version - self._dropped, len(self._batches) - 1)
        old = bisect.bisect_left(self._batches, keep_since_us, 0, max(covered, 0), key=lambda batch: batch.at_us)
        for batch in self._batches[:old]:
            del self._by_id[batch.id]
        del self._batches[:old]
        self._dropped += old
