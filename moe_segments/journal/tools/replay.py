"""Replay a whole log, in order, from any engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.core.events import Checkpoint
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.journal.opening import file_of, open_journal
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import Batch
    from moe_segments.journal.protocol import Journal

__all__ = ["folded", "limits_of", "origin_of", "parts_of", "whole_log"]


async def parts_of(journal: Journal) -> tuple[list[Batch], Batch | None, list[Batch]]:
    """Return what is kept: batches covered by the checkpoint, the checkpoint, the batches after it.

    Where nothing is gone, all of it is the rest.

    Raises:
        JournalError: The log cannot be read.
    """
    batches = list(await journal.read(0))
    stand_in = _stand_in_of(batches, 0)
    if stand_in is None:
        return [], None, batches
    # A reader that comes from before the first kept batch is given the checkpoint; one from there on is not.
    before, kept_from = 0, stand_in.version
    while kept_from - before > 1:
        middle = (before + kept_from) // 2
        if _stand_in_of(await journal.read(middle), middle) is None:
            kept_from = middle
        else:
            before = middle
    kept = [batch for batch in await journal.read(kept_from) if batch.version <= stand_in.version]
    return [batch for batch in kept if batch.id != stand_in.id], stand_in, batches[1:]


async def whole_log(journal: Journal) -> list[Batch]:
    """Return every batch that is kept, in the order in which folding them all gives the state.

    Raises:
        JournalError: The log cannot be read.
    """
    covered, stand_in, rest = await parts_of(journal)
    return [*covered, *([stand_in] if stand_in else []), *rest]


def _stand_in_of(batches: Sequence[Batch], after: int) -> Batch | None:
    """Return the checkpoint at the head of what was read after version *after*; None where nothing was missing."""
    first = batches[0] if batches else None
    is_stand_in = first is not None and first.version > after + 1 and _is_checkpoint(first)
    return first if is_stand_in else None


def folded(batches: Sequence[Batch]) -> WorkspaceState:
    """Return the state of *batches*, read from the beginning of a log, at the log's own speed."""
    state = WorkspaceState(limits_of(batches))
    for batch in _since_checkpoint(batches):
        state.fold(batch)
    return state


def limits_of(batches: Sequence[Batch]) -> QuotaLimits:
    """Return the documented limits, at the speed that the log was kept at."""
    probe = WorkspaceState(QuotaLimits())
    for batch in _since_checkpoint(batches):
        probe.fold(batch)
        if probe.opened is not None:
            return QuotaLimits().scaled(probe.opened.scale)
    return QuotaLimits()


def _since_checkpoint(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return the batches that make the state: the last checkpoint and all after it."""
    last = max((place for place, batch in enumerate(batches) if _is_checkpoint(batch)), default=0)
    return batches[last:]


def _is_checkpoint(batch: Batch) -> bool:
    return isinstance(batch.events[0], Checkpoint)


async def origin_of(url: str, scope: str) -> str | None:
    """Return the address of the service that a journal was kept for; None where nothing was kept.

    Raises:
        InputError: The URL cannot be used.
        JournalError: The journal cannot be read.
    """
    path = file_of(url)
    if url == "memory:" or (path is not None and not path.is_file()):  # opening it would make one
        return None
    journal = open_journal(url, scope)
    await journal.open()
    try:
        opened = folded(await journal.read(0)).opened
    finally:
        await journal.close()
    return None if opened is None else opened.origin
