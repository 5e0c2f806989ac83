"""Progress of a bulk run or a sync: a bar on a terminal, else a line whenever the run begins to wait for a slot."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from moe_segments import JobState
from moe_segments.cli import output
from moe_segments.cli.commands.quota import wait_s, waiting_sentence, what_it_waits_for
from moe_segments.cli.terminal import unguarded
from moe_segments.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from moe_segments import LimitUsage, RunInfo, SegmentsClient

__all__ = ["Standing", "shown", "states_in_words", "watching"]

_EVERY_S: Final = 0.25
_LAST_LOOK_S: Final = 1.0
_BAR_CELLS: Final = 16
_SAME_MOMENT_S: Final = 0.5  # two looks at one release differ by less
_WORDS: Final[Mapping[str, str]] = {
    JobState.PLANNED: "waiting",
    JobState.RESERVED: "on its way",
    JobState.ACCEPTED: "being processed",
    JobState.NOT_SENT: "not sent",
    JobState.UNREADABLE: "with an unreadable callback",
}


@attrs.frozen(kw_only=True)
class Standing:
    """Progress of a run or a sync.

    Attributes:
        done: How many have ended.
        total: Of how many.
        waiting: How many operations wait for a slot.
        words: What the others are doing.
    """

    done: int
    total: int
    waiting: int = 0
    words: str


class _Face(Protocol):
    def update(self, standing: Standing, full: LimitUsage | None) -> None: ...


@asynccontextmanager
async def watching(client: SegmentsClient, run: str, total: int) -> AsyncIterator[None]:
    """Show the progress of a bulk run while inside.

    Args:
        client: Whose journal has the run.
        run: The run's identifier.
        total: How many operations it has, until the journal says so.
    """

    async def look() -> Standing | None:
        async for known in client.runs(run=run):
            return _standing(known)
        return None

    async with shown(client, look, total):
        yield


@asynccontextmanager
async def shown(
    client: SegmentsClient, look: Callable[[], Awaitable[Standing | None]], total: int
) -> AsyncIterator[None]:
    """Show progress while inside.

    Args:
        client: Whose quota is waited for.
        look: Says how far it has got; None: nothing is known yet.
        total: Of how many, until that is known.
    """
    with contextlib.ExitStack() as stack:
        face: _Face = _Lines()
        if output.redraws(sys.stderr):
            bar = _progress()
            stack.enter_context(output.drawn(bar))
            face = _Bar(bar, total)
        looking = asyncio.create_task(_look(client, look, face))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            if isinstance(face, _Bar):  # it stays on the terminal
                with contextlib.suppress(JournalError, TimeoutError):
                    async with asyncio.timeout(_LAST_LOOK_S):
                        await _look_once(client, look, face, waits=False)


async def _look(client: SegmentsClient, look: Callable[[], Awaitable[Standing | None]], face: _Face) -> None:
    while True:
        with contextlib.suppress(JournalError):  # the run itself says so, when it matters
            await _look_once(client, look, face, waits=True)
        await asyncio.sleep(_EVERY_S)


async def _look_once(
    client: SegmentsClient, look: Callable[[], Awaitable[Standing | None]], face: _Face, *, waits: bool
) -> None:
    standing = await look()
    if standing is not None:
        waits = waits and standing.waiting > 0
        face.update(standing, what_it_waits_for(await client.governor.usage()) if waits else None)


def _standing(run: RunInfo) -> Standing:
    """Return how far a bulk run has got; accepted jobs for which no callback comes are not being processed."""
    counts = Counter(run.counts)
    settled = run.ended - sum(counts.get(state, 0) for state in JobState.TERMINAL)
    words = f"{settled} accepted" if settled else ""
    counts[JobState.ACCEPTED] -= settled
    return Standing(
        done=run.ended + run.counts.get(JobState.UNREADABLE, 0),
        total=run.total,
        waiting=run.counts.get(JobState.PLANNED, 0),
        words=", ".join(filter(None, (words, states_in_words(counts)))),
    )


def states_in_words(counts: Mapping[str, int]) -> str:
    """Return how many jobs are in each state."""
    counted = Counter(counts)
    counted[JobState.RESERVED] += counted.pop(JobState.SENDING, 0)
    return ", ".join(f"{number} {_WORDS.get(state, state)}" for state, number in sorted(counted.items()) if number)


def _progress() -> Progress:
    return Progress(
        BarColumn(bar_width=_BAR_CELLS),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        console=Console(file=unguarded(sys.stderr), highlight=False),
        redirect_stdout=False,  # results stay where they belong
    )


class _Bar:
    """A progress bar with counts and the wait until the next slot."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._task = progress, progress.add_task("", total=total)

    def update(self, standing: Standing, full: LimitUsage | None) -> None:
        wait = f"; next slot in {output.span(wait_s(full))}" if full is not None else ""
        words = f"{standing.words}{wait}"
        self._progress.update(self._task, total=standing.total, completed=standing.done, description=words)


class _Lines:
    """One line for each slot that is waited for."""

    def __init__(self) -> None:
        self._told_s = 0.0

    def update(self, standing: Standing, full: LimitUsage | None) -> None:
        if full is None:
            return
        free_s = time.time() + wait_s(full)
        if abs(free_s - self._told_s) >= _SAME_MOMENT_S:
            self._told_s = free_s
            output.note(f"{standing.waiting} waiting: {waiting_sentence(full)}")
