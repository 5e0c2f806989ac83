"""Carry a journal over to another place, so that no usage is lost, none is doubled, and no job hears nothing of it.

The order of steps is what makes that so; each is durable before the next, and all can be run again.

1. The target is barred by `Copying`: whoever opens it is refused until everything is there. A target that holds
   anything else is refused.
2. The source is closed by `Moved`, appended where it is serial. After it no decision is made there, by whichever
   process: each reads it before it decides and then raises `JournalMoved`. What became of sends that were under way
   is still written there.
3. Everything is carried over in order: batches under their own ids and times, with the checkpoint that stands for those
   that are gone. Sends that are under way are waited for, at the longest until their time-out.
4. What is there is read back and compared.
5. The target ends with `Copied`, appended only if nobody wrote there meanwhile. It names the log that it stands for,
   so that no host's witness doubts it, and by how much the target's clock may be ahead of the source's: everything
   that was carried over ends so much later, so that no quota is free too early.

Run again after that, it carries over what was written to the source since then, under the target's own, later, times.
`call_off` undoes 2 as long as 5 has not happened. Each run of either marks target and source anew, the target first,
and ends the copy, or opens the source, only if no other mark has come between: of a copy and a call-off at the same
time one gives up.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from moe_segments.core.events import Checkpoint, Copied, Copying, Moved, Stayed
from moe_segments.errors import InputError, JournalError, JournalMoved
from moe_segments.journal import open_journal
from moe_segments.journal.again import surely
from moe_segments.journal.place import file_of, place_of
from moe_segments.journal.whole import folded, whole_log
from moe_segments.models import JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event
    from moe_segments.core.state import WorkspaceState
    from moe_segments.journal import Journal

__all__ = ["CopyReport", "call_off", "copy_journal", "existing_journal"]

T = TypeVar("T")
_OF_MOVES: Final = (Moved, Stayed, Copying, Copied)  # of one place only, never carried over
_LOOK_S: Final = 1.0
_SECOND_US: Final = 1_000_000
_CALLED_OFF: Final = "the copy was called off, or another one runs beside it; look which, and run this again"


@attrs.frozen(kw_only=True)
class CopyReport:
    """What a copy did.

    Attributes:
        to: The target, as it may be shown.
        batches: How many batches were carried over, now and before.
        late: How many of them came after the copy was complete.
        was_complete: It had been complete before this run.
        postponed_us: How much later everything ends, for the clocks' sake.
        left: How many were added to the source after the last look; another run carries them over.
    """

    to: str
    batches: int
    late: int = 0
    was_complete: bool = False
    postponed_us: int = 0
    left: int = 0


class _Shown:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.now_us = 0

    def __call__(self) -> int:
        """Microseconds since the epoch."""
        return self.now_us


async def copy_journal(
    source_url: str,
    target_url: str,
    scope: str,
    *,
    state_dir: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> CopyReport:
    """Carry the log of *scope* over, close it where it was, and open it where it is now.

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
    shown = _Shown()
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(existing_journal(source_url, scope, state_dir=state_dir))
        target = await stack.enter_async_context(_opened(_target(target_url, scope, clock=shown)))
        found, there = folded(await source.read(0)), folded(await target.read(0))
        _refuse(source, found, target, there, source_url, target_url)
        place = place_of(target_url)
        if source.journal_id in there.origins:
            return await _carry_late(source, target_url, scope, there, place)
        marker = there.copying or Copying(place_of(source_url), source.journal_id)
        await _begin(target, there, marker, shown, at_us=(await whole_log(source))[0].at_us)
        await _close(source, found, Moved(place, target.journal_id))
        await _carry(source, target, there, marker, shown)
        await _settled(source, found, tell)
        batches, last = await _carry(source, target, there, marker, shown)
        _fold(found, await source.read(found.version))
        if found.moved is None:
            raise JournalError(_CALLED_OFF)
        origins = {**found.origins, source.journal_id: last}
        postponed_us = await _open(source, target_url, scope, there, origins)
        left = len(await source.read(last))
        return CopyReport(to=place, batches=batches, postponed_us=postponed_us, left=left)


async def call_off(source_url: str, target_url: str, scope: str) -> None:
    """Let the source go on where it is, after a copy that was not completed. What the target holds stays unusable.

    Raises:
        InputError: There is nothing to call off, or the copy is complete.
        JournalError: One of them cannot be used.
    """
    # A clock that shows less than the log's last time: what is appended changes none of those that may follow.
    journal = _target(target_url, scope, clock=_Shown())
    async with existing_journal(source_url, scope) as source, _opened(journal) as target:
        found, there = folded(await source.read(0)), folded(await target.read(0))
        if found.moved is None:
            raise InputError("this journal goes on here: there is nothing to call off", "FROM")
        is_there = found.moved.journal_id == target.journal_id
        if not is_there and (there.version or found.moved.to != place_of(target_url)):
            raise InputError(f"it is on its way to {found.moved.to}: name that one", "TO")

        def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            _fold(there, missed)
            if there.version and there.copying is None:
                raise InputError("the copy is complete, and may be in use already: go on there", "TO")
            # A copy that runs elsewhere then gives up.
            return [there.copying or Copying(place_of(source_url), source.journal_id)]

        def stay(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            if any(isinstance(batch.events[0], Moved) for batch in missed):
                raise JournalError("another copy has begun meanwhile; nothing was called off: end that one first")
            return [Stayed()]

        await _transact(target, there.version, decide)
        await _transact(source, found.version, stay)


@asynccontextmanager
async def existing_journal(url: str, scope: str, *, state_dir: Path | None = None) -> AsyncIterator[Journal]:
    """The log of *scope* at *url*, opened; closed at the end.

    Raises:
        InputError: There is none, or it lasts no longer than its process.
        JournalError: It cannot be used.
    """
    if url == "memory:":
        raise InputError("memory: ends with its process; name the journal that the clients use", "journal")
    missing = f"there is no journal of {scope} at {place_of(url)}: check the URL, the workspace and the data center"
    found = open_journal(url, scope, state_dir=state_dir)
    if _is_missing(url):  # opening it would make one
        raise InputError(missing, "journal")
    async with _opened(found) as journal:
        if journal.is_new or await _is_empty(journal):
            raise InputError(missing, "journal")
        yield journal


async def _is_empty(journal: Journal) -> bool:
    try:
        return not await journal.read(0)
    except JournalError:  # so there is something, and whoever reads it is told what is wrong
        return False


def _is_missing(url: str) -> bool:
    path = file_of(url)
    return path is not None and not path.is_file()


def _target(url: str, scope: str, *, clock: _Shown | None = None) -> Journal:
    if url == "memory:":
        raise InputError("memory: ends with its process: nothing can be kept there", "TO")
    return open_journal(url, scope, clock=clock)  # its witness is handed over once everything is there


@asynccontextmanager
async def _opened(journal: Journal) -> AsyncIterator[Journal]:
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


async def _begin(target: Journal, there: WorkspaceState, marker: Copying, shown: _Shown, *, at_us: int) -> None:
    """Bar the target; each run says so anew, so that one that runs beside it, or calls it off, is noticed."""
    shown.now_us = at_us

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        _fold(there, missed)
        if there.version and (there.copying is None or there.copying.journal_id != marker.journal_id):
            raise InputError("somebody else has begun to use it: name an empty place", "TO")
        return [marker]

    batch = await _transact(target, there.version, decide)
    _fold(there, [batch] if batch is not None else [])


async def _close(source: Journal, found: WorkspaceState, moved: Moved) -> None:
    """Close the source: from here on nothing is decided there. Each run says so anew, to know of a later `Stayed`."""

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        _fold(found, missed)
        if found.moved is not None and found.moved.journal_id != moved.journal_id:
            raise JournalMoved(found.moved.to)
        return [moved]

    batch = await _transact(source, found.version, decide)
    _fold(found, [batch] if batch is not None else [])


async def _settled(source: Journal, found: WorkspaceState, tell: Callable[[str], None]) -> None:
    """Wait for sends that are under way, each at the longest until it must be over."""
    is_told = False
    while True:
        _fold(found, await source.read(found.version))
        now_us = await _now_us(source, found.version)
        sending = [job for job in found.jobs.records.values() if job.state_at(now_us) == JobState.RESERVED]
        if not sending:
            return
        rest_s = max(job.doubt_us - now_us for job in sending) / _SECOND_US
        if not is_told:
            tell(f"waiting for {len(sending)} operations that are being sent, {rest_s:.0f} s at the longest")
            is_told = True
        await source.changed(found.version, min(_LOOK_S, rest_s))


async def _carry(
    source: Journal, target: Journal, there: WorkspaceState, marker: Copying, shown: _Shown
) -> tuple[int, int]:
    """Append what the target does not have yet. Returns how many batches it has then, and the source's last version.

    Raises:
        JournalError: It holds something else.
    """
    log = await whole_log(source)
    wanted = _carried(source, log, marker)
    kept = list(_without_moves(await whole_log(target)))
    for batch in wanted[len(kept) :]:
        shown.now_us = batch.at_us
        await _append_barred(target, there, batch)
    got = _without_moves(await whole_log(target))
    facts = [[(batch.id, batch.at_us, batch.events) for batch in log] for log in (wanted, got)]
    if facts[0] != facts[1]:
        raise JournalError(
            "what is at the target is not what was carried over: if another copy runs, let it end and run this again; "
            "else somebody wrote there, and it has to be emptied first"
        )
    return len(wanted), log[-1].version


async def _open(source: Journal, target_url: str, scope: str, there: WorkspaceState, origins: Mapping[str, int]) -> int:
    """Let the target go on in the place of the source, on its own clock, unless anybody wrote there meanwhile.

    Returns:
        How much later everything ends there, microseconds.
    """

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        if missed:
            raise JournalError(_CALLED_OFF)
        return [Copied(origins, postponed_us)]

    async with _opened(_target(target_url, scope)) as target:
        # In this order, each on its own server: what passes between the two only makes it more.
        source_us = await _now_us(source, origins[source.journal_id])
        postponed_us = max(0, await _now_us(target, there.version) - source_us)
        await _transact(target, there.version, decide)
    return postponed_us


async def _carry_late(source: Journal, target_url: str, scope: str, there: WorkspaceState, place: str) -> CopyReport:
    """Append what was written to the source after the copy was complete. It ends by the target's clock, so later."""
    since = there.origins[source.journal_id]
    log = await whole_log(source)
    batches = list(_without_moves(batch for batch in log if batch.version > since))
    async with _opened(_target(target_url, scope)) as target:
        for batch in batches:
            await _append(target, batch)
        if log[-1].version > since:
            told = Copied({source.journal_id: log[-1].version})
            await _append(target, attrs.evolve(log[-1], id=secrets.token_hex(12), events=(told,)))
    total = len(list(_without_moves(log)))
    return CopyReport(to=place, batches=total, late=len(batches), was_complete=True)


# Their parts


def _carried(source: Journal, log: Sequence[Batch], marker: Copying) -> list[Batch]:
    """The source's log as the target is to hold it, versions aside."""
    return [_barred(batch, source, marker) for batch in _without_moves(log)]


def _barred(batch: Batch, source: Journal, marker: Copying) -> Batch:
    """A checkpoint is renamed, as its name may be taken there, and says that it is not all."""
    checkpoint = batch.events[0]
    if not isinstance(checkpoint, Checkpoint):
        return batch
    state = {**checkpoint.state, "moved": None, "copying": attrs.asdict(marker)}
    barred = attrs.evolve(checkpoint, state=state)
    return attrs.evolve(batch, id=f"{source.journal_id[:12]}-{batch.id}", events=(barred,))


def _without_moves(batches: Iterable[Batch]) -> Iterator[Batch]:
    return (batch for batch in batches if not isinstance(batch.events[0], _OF_MOVES))


def _fold(state: WorkspaceState, batches: Sequence[Batch]) -> None:
    for batch in batches:
        state.fold(batch)


async def _append(target: Journal, batch: Batch) -> None:
    await surely(lambda: target.append(batch.events, batch_id=batch.id))


async def _append_barred(target: Journal, there: WorkspaceState, batch: Batch) -> None:
    """Append a batch under its own time, which is right only as long as nothing is decided there."""

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        _fold(there, missed)
        if there.copying is None or any(isinstance(batch.events[0], Copying) for batch in missed):
            raise JournalError(_CALLED_OFF)
        return batch.events

    appended = await surely(lambda: target.transact(there.version, decide, batch_id=batch.id))
    _fold(there, [appended] if appended is not None else [])


async def _transact(
    journal: Journal, after: int, decide: Callable[[Sequence[Batch], int], Sequence[Event]]
) -> Batch | None:
    batch_id = secrets.token_hex(12)
    return await surely(lambda: journal.transact(after, decide, batch_id=batch_id))


async def _now_us(journal: Journal, after: int) -> int:
    """The time that the journal itself shows."""
    seen: list[int] = []

    def look(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
        seen.append(now_us)
        return ()

    await _transact(journal, after, look)
    return seen[-1]
