"""The journal: one append-only, versioned, durable log per workspace and data center.

An engine does two things durably. `transact` hands a pure decision everything that happened and appends what
it decides, all in one serial step; `append` records what happened, always. Everything else, the folding, the
grouping and the waking, is `replica.Replica`, the same over every engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_segments.core.events import Batch, Event

__all__ = ["Clock", "Decide", "Journal"]

Decide: TypeAlias = "Callable[[Sequence[Batch], int], Sequence[Event]]"
Clock: TypeAlias = "Callable[[], int]"


class Journal(Protocol):
    """One log. Every engine keeps these promises; the contract suite checks them.

    Versions count from 1 without gaps. A batch's `at_us` is the engine's clock or the last batch's, whichever
    is later, so time never runs backwards in a log. An appended batch survives the process, and for a durable
    engine the power. An engine that cannot keep this raises `JournalError` and appends nothing; one that cannot
    tell, since an answer was lost, raises `JournalAmbiguous`, and is asked again with the same batch id. While its
    server is away a call tries for a bounded time, then raises `JournalUnavailable`. Once the log is not the one that
    was opened, as it went back or was exchanged, every call raises `JournalReplaced`, `changed` included.

    Attributes:
        journal_id: The log's identity, random, made with it; a copied or new log has another history.
        doubt: Why this log may have lost history, as its witness saw it; None when there is no doubt.
        is_new: This log was made by this `open`.
        spans_hosts: Processes of several hosts may use it.
    """

    spans_hosts: bool
    journal_id: str
    doubt: str | None
    is_new: bool

    async def open(self) -> None:
        """Make or open the log.

        Raises:
            JournalError: It cannot be used, with what to do.
        """

    async def close(self) -> None:
        """Let go of it. Idempotent."""

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        """Decide on everything that happened, and append what was decided, with nothing in between.

        Calls `decide(missed, now_us)` with the batches after version *after* (the first may be a checkpoint
        that stands for everything up to its version) and the engine's clock. What it returns becomes one
        batch; returns None, and writes nothing, when it returns no event. *decide* may run in another thread
        and more than once: only its last run counts. What it raises is passed on, and nothing is appended.

        A *batch_id* that the log already holds is not appended again: *decide* is not called and the stored
        batch is returned.
        """

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """Record what happened, whatever the version. Idempotent by *batch_id*, as in `transact`."""

    async def read(self, after: int) -> Sequence[Batch]:
        """Return the batches after version *after*; the first may be a checkpoint."""

    async def checkpoint(self, version: int, state: Event, *, keep_since_us: int) -> None:
        """Let *state* stand for everything up to *version*; drop what it covers and is older than *keep_since_us*.

        Batch ids younger than that go on being recognised. An older checkpoint is replaced, never a newer
        one.
        """

    async def changed(self, after: int, timeout_s: float) -> bool:
        """Wait until a version above *after* may exist, at most *timeout_s*. False when the time passed."""
