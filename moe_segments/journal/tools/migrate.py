"""Migrate a journal to another place: no usage is lost or doubled, and every job follows.

Each step is durable before the next. A migration that was interrupted starts again from the beginning.

1. Bar the target with `Copying`: whoever opens it is refused until everything is there. A target that holds anything
   else is refused.
2. Fence the source: `Moved` is appended where the source is serial. Whoever decides there afterwards reads it first and
   raises `JournalMoved`. Outcomes of sends in flight are still written there.
3. Wait for sends in flight, at the longest until their time-out.
4. Write the folded state of the source as one batch of the target: a `Checkpoint` that lifts the bar and names the log
   that the target stands for, so that no host's witness doubts it. Where the target's clock is ahead, every time in it
   is later by the difference, so that no quota is free too early.
5. Read the target back and compare.

Run again after that, it appends what was written to the source since then, under the target's own, later, times.
`cancel_copy` undoes 2 as long as 4 has not happened. Each run of either bars the target anew, and writes there only if
no other did meanwhile: of a migration and a cancellation at the same time one gives up. The log itself stays at the
source.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import Checkpoint, Copied, Copying, Moved, Stayed, encode
from moe_segments.core.state import checkpoint as snapshot
from moe_segments.errors import InputError, JournalError, JournalMoved
from moe_segments.journal.opening import file_of, open_journal
from moe_segments.journal.retry_ambiguous import retry_ambiguous
from moe_segments.journal.tools.replay import folded
from moe_segments.models import JobState
from moe_segments.models.urls import place_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal.protocol import Journal

__all__ = [
    "CopyReport",
    "cancel_copy",
    "copy_journal",
    "existing_journal",
    "now_us_of",
    "opened",
    "stand_in",
    "transact",
]

_OF_MOVES: Final = (Moved, Stayed, Copying, Copied)  # of one place only, never carried over
_LOOK_S: Final = 1.0
_SECOND_US: Final = 1_000_000
_CANCELLED: Final = "the copy was cancelled, or another one runs beside it; look which, and run this again"


@attrs.frozen(kw_only=True)
class CopyReport:
    """The result of a migration.

    Attributes:
        to: The target, as it may be shown.
        jobs: How many jobs are there.
        late: How many batches were appended after the copy was complete.
        was_complete: It had been complete before this run.
        postponed_us: How much later everything ends, for the clocks' sake.
        left: How many batches were added to the source after the last look; another run carries them over.
    """

    to: str
    jobs: int
    late: int = 0
    was_complete: bool = False
    postponed_us: int = 0
    left: int = 0


async def copy_journal(
    source_url: str,
    target_url: str,
    scope: str,
    *,
    state_dir: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> CopyReport:
    """Close the log of *scope* where it is, and open it at the target.

    Args:
        source_url: The journal's URL.
        target_url: Where it is to go on: a place that is empty, or was left by an earlier run of this.
        scope: What shares one quota: workspace and data center.
        state_dir: Of this host's witness, which knows whether the source has lost history; None for no such check.
        tell: Takes a sentence when something takes long.

    Raises:
        InputError: The two cannot be copied from and to; nothing was changed.
        JournalError: One of them cannot be used. Nothing is sent meanwhile; run it again.
    """
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(existing_journal(source_url, scope, state_dir=state_dir))
        target = await stack.enter_async_context(opened(_target(target_url, scope)))
        found, there = folded(await source.read(0)), folded(await target.read(0))
        _refuse(source, found, target, there, source_url, target_url)
        if source.journal_id in there.origins:
            return await _append_late(source, target, there, place_of(target_url))
        await _bar(target, there, there.copying or Copying(place_of(source_url), source.journal_id))
        await _fence(source, found, Moved(place_of(target_url), target.journal_id))
        await _wait_for_sends(source, found, tell)
        # In this order, each on its own server: what passes between the two only makes it more.
        source_us = await now_us_of(source, found.version)
        postponed_us = max(0, await now_us_of(target, there.version) - source_us)
        await _write(source, found, target, there, postponed_us)
        left = len(await source.read(found.version))
        jobs = len(found.jobs.records)
        return CopyReport(to=place_of(target_url), jobs=jobs, postponed_us=postponed_us, left=left)


async def cancel_copy(source_url: str, target_url: str, scope: str) -> None:
    """Let the source go on where it is, after a migration that was not completed.

    Raises:
        InputError: There is nothing to cancel, or the copy is complete.
        JournalError: One of them cannot be used.
    """
    async with existing_journal(source_url, scope) as source, opened(_target(target_url, scope)) as target:
        found, there = folded(await source.read(0)), folded(await target.read(0))
        if found.moved is None:
            raise InputError("this journal goes on here: there is nothing to cancel", "FROM")
        is_there = found.moved.journal_id == target.journal_id
        if not is_there and (there.version or found.moved.to != place_of(target_url)):
            raise InputError(f"it is on its way to {found.moved.to}: name that one", "TO")

        def stay(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            if any(isinstance(batch.events[0], Moved) for batch in missed):
                raise JournalError("another copy has begun meanwhile; nothing was cancelled: end that one first")
            return [Stayed()]

        await _bar(target, there, there.copying or Copying(place_of(source_url), source.journal_id))
        await transact(source, found.version, stay)


@asynccontextmanager
async def existing_journal(url: str, scope: str, *, state_dir: Path | None = None) -> AsyncIterator[Journal]:
    """Open the log of *scope* at *url*; close it at the end.

    Raises:
        InputError: There is none, or it lasts no longer than its process.
        JournalError: It cannot be used.
    """
    if url == "memory:":
        raise InputError("memory: ends with its process; name the journal that the clients use", "journal")
    missing = f"there is no journal of {scope} at {place_of(url)}: check the URL, the workspace and the data center"
    path, found = file_of(url), open_journal(url, scope, state_dir=state_dir)
    if path is not None and not path.is_file():  # opening it would make one
        raise InputError(missing, "journal")
    async with opened(found) as journal:
        if journal.is_new or await _is_empty(journal):
            raise InputError(missing, "journal")
        yield journal


async def _is_empty(journal: Journal) -> bool:
    try:
        return not await journal.read(0)
    except JournalError:  # so there is something, and whoever reads it is told what is wrong
        return False


def _target(url: str, scope: str) -> Journal:
    if url == "memory:":
        raise InputError("memory: ends with its process: nothing can be kept there", "TO")
    return open_journal(url, scope)  # its witness is handed over once everything is there


@asynccontextmanager
async def opened(journal: Journal) -> AsyncIterator[Journal]:
    """Open a journal; close it at the end."""
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def _refuse(
    source: Journal, found: WorkspaceState, target: Journal, there: WorkspaceState, source_url: str, target_url: str
) -> None:
    """Refuse what cannot be copied, before anything is changed."""
    if source.doubt:
        raise JournalError(
            f"{source.doubt}; start a client on it first, which takes every window for full, or say "
            "'moe-segments quota --trust'"
        )
    if source.journal_id == target.journal_id:
        raise InputError(f"{place_of(source_url)} and {place_of(target_url)} are one journal", "TO")
    if found.copying is not None:
        raise InputError(f"a copy from {found.copying.place} into it is not complete: finish that first", "FROM")
    if found.moved is not None and found.moved.journal_id != target.journal_id:
        raise JournalMoved(found.moved.to)
    is_ours = there.copying is not None and there.copying.journal_id == source.journal_id
    if there.version and not is_ours and source.journal_id not in there.origins:
        raise InputError(
            f"{place_of(target_url)} holds a journal of this workspace already, and two cannot be made one: "
            "name an empty place",
            "TO",
        )


# The steps


async def _bar(target: Journal, there: WorkspaceState, marker: Copying) -> None:
    """Bar the target. Each run says so anew, so that one that runs beside it, or cancels it, is noticed."""

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        _fold(there, missed)
        if marker.journal_id in there.origins:
            raise InputError("the copy is complete, and may be in use already: go on there", "TO")
        if there.version and (there.copying is None or there.copying.journal_id != marker.journal_id):
            raise InputError("somebody else has begun to use it: name an empty place", "TO")
        return [marker]

    batch = await transact(target, there.version, decide)
    _fold(there, [batch] if batch is not None else [])


async def _fence(source: Journal, found: WorkspaceState, moved: Moved) -> None:
    """Close the source: from here on nothing is decided there. Each run says so anew, to know of a later `Stayed`."""

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        _fold(found, missed)
        if found.moved is not None and found.moved.journal_id != moved.journal_id:
            raise JournalMoved(found.moved.to)
        return [moved]

    batch = await transact(source, found.version, decide)
    _fold(found, [batch] if batch is not None else [])


async def _wait_for_sends(source: Journal, found: WorkspaceState, tell: Callable[[str], None]) -> None:
    """Wait for sends in flight, each at the longest until it must be over."""
    is_told = False
    while True:
        _fold(found, await source.read(found.version))
        now_us = await now_us_of(source, found.version)
        sending = [job for job in found.jobs.records.values() if job.state_at(now_us) == JobState.RESERVED]
        if not sending:
            return
        rest_s = max(job.doubt_us - now_us for job in sending) / _SECOND_US
        if not is_told:
            tell(f"waiting for {len(sending)} operations that are being sent, {rest_s:.0f} s at the longest")
            is_told = True
        await source.changed(found.version, min(_LOOK_S, rest_s))


async def _write(
    source: Journal, found: WorkspaceState, target: Journal, there: WorkspaceState, postponed_us: int
) -> None:
    """Write the source's state to the barred target, all of it in one batch, and read it back.

    Raises:
        JournalError: The copy was cancelled, or somebody wrote to the target meanwhile.
    """
    if found.moved is None:
        raise JournalError(_CANCELLED)
    events = (stand_in(source, found, postponed_us),)

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        if missed:
            raise JournalError(_CANCELLED)
        return events

    await transact(target, there.version, decide)
    written = await target.read(there.version)
    if not written or encode(written[0].events) != encode(events):
        raise JournalError("the target does not hold what was written to it: it must not be used; name another place")


def stand_in(source: Journal, found: WorkspaceState, postponed_us: int) -> Checkpoint:
    """Return a checkpoint of what was *found* in *source*, for a log that names the one that it stands for.

    Args:
        source: The log.
        found: All of it, folded.
        postponed_us: How much later everything ends, for the clocks' sake.
    """
    made = snapshot.postponed(found.snapshot(), postponed_us)
    origins = {**found.origins, source.journal_id: found.version}
    return attrs.evolve(made, state={**made.state, "moved": None, "copying": None, "origins": origins})


async def _append_late(source: Journal, target: Journal, there: WorkspaceState, place: str) -> CopyReport:
    """Append what was written to the source after the migration. It ends by the target's clock, so later."""
    since = there.origins[source.journal_id]
    missed = await source.read(since)
    late = [batch for batch in missed if not isinstance(batch.events[0], (*_OF_MOVES, Checkpoint))]
    for batch in late:
        await _append(target, batch.events, batch.id)
    if late:
        await _append(target, [Copied({source.journal_id: missed[-1].version})], secrets.token_hex(12))
    return CopyReport(to=place, jobs=len(there.jobs.records), late=len(late), was_complete=True)


def _fold(state: WorkspaceState, batches: Sequence[Batch]) -> None:
    for batch in batches:
        state.fold(batch)


async def _append(target: Journal, events: Sequence[Event], batch_id: str) -> None:
    await retry_ambiguous(lambda: target.append(events, batch_id=batch_id))


async def transact(
    journal: Journal, after: int, decide: Callable[[Sequence[Batch], int], Sequence[Event]]
) -> Batch | None:
    """Decide and append, asked again where the answer was lost. See `Journal.transact`."""
    batch_id = secrets.token_hex(12)
    return await retry_ambiguous(lambda: journal.transact(after, decide, batch_id=batch_id))


async def now_us_of(journal: Journal, after: int) -> int:
    """Return the time of the journal's own clock."""
    seen: list[int] = []

    def look(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
        seen.append(now_us)
        return ()

    await transact(journal, after, look)
    return seen[-1]
