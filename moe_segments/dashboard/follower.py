"""Follow a journal from outside its clients: read it, fold it, never write to it.

Nothing is appended, and nothing is compacted. What goes wrong after the first opening is noted and tried again for
ever: the journal is opened anew, so a server that was restarted and a file that was put back are followed as they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import InputError, JournalReplaced, MoeSegmentsError
from moe_segments.governor.governor import boot_time_s
from moe_segments.journal.tools.log import entries_of
from moe_segments.journal.tools.migrate import existing_journal, now_us_of
from moe_segments.journal.tools.replay import limits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import Batch
    from moe_segments.journal.protocol import Journal
    from moe_segments.journal.tools.log import LogEntry
    from moe_segments.limits import QuotaLimits

__all__ = ["Follower"]

_KEPT: Final = 200  # entries of the log
_RETRY_S: Final = 1.0
_CLOCK_S: Final = 30.0  # how often the journal is asked for its time, and whether it is still there
_FOLDED_AT_ONCE: Final = 200  # batches, in one step of the loop
_SECOND_US: Final = 1_000_000
_log = logging.getLogger("moe_segments.dashboard")
_QUIET: Final = frozenset({"claims_renewed", "checkpoint"})  # which say nothing new


class Follower:
    """The state of one journal as it is now, and the end of its log.

    Args:
        url: The journal's URL.
        scope: What shares one quota: workspace and data center.
        limits: The quotas, at any speed; the journal's own speed is taken.

    Attributes:
        state: The folded state; None before the journal was read.
        log: The last entries, oldest first.
        problem: Why the journal cannot be read now; None while it can.
        read_us: The journal's time when it was last heard of.
    """

    read_us: int
    shift_us: int

    def __init__(self, url: str, scope: str, limits: QuotaLimits) -> None:
        self._url, self._scope, self._limits = url, scope, limits
        self.state: WorkspaceState | None = None
        self.log: deque[LogEntry] = deque(maxlen=_KEPT)
        self.problem: str | None = None
        self.read_us = 0
        self._read_s = 0.0
        self.shift_us = 0

    def now_us(self) -> int:
        """Return the journal's time as known without asking."""
        return self.read_us + round((boot_time_s() - self._read_s) * _SECOND_US)

    async def follow(self, opened: asyncio.Future[None]) -> None:
        """Follow the journal until cancelled.

        Args:
            opened: Done when the journal was read for the first time, or with what is wrong with it; then this ends.
        """
        while True:
            try:
                async with existing_journal(self._url, self._scope) as journal:
                    await self._read_all(journal)
                    self.problem = None
                    if not opened.done():
                        opened.set_result(None)
                    await self._read_on(journal)
            except MoeSegmentsError as error:
                if not opened.done():
                    opened.set_exception(error)
                    return
                # One that was exchanged is opened anew at once; what is wrong with that one is then told.
                self.problem = self.problem if isinstance(error, JournalReplaced) else _said(error)
            except Exception as error:  # noqa: BLE001 - a page that stands still would say nothing
                if not opened.done():
                    opened.set_exception(error)
                    return
                _log.exception("a mistake in following the journal; trying again")
                self.problem = f"A mistake of this program: {type(error).__name__}"
            await asyncio.sleep(_RETRY_S)

    async def _read_all(self, journal: Journal) -> None:
        batches = await journal.read(0)
        scale = limits_of(batches).scale
        limits = self._limits if scale == self._limits.scale else self._limits.scaled(scale / self._limits.scale)
        state = WorkspaceState(limits)
        await _fold(state, batches)
        last = await journal.read(max(0, state.version - _KEPT))
        await self._set_clock(journal, state)
        self.log.clear()
        self._note(last)
        self.state = state

    async def _read_on(self, journal: Journal) -> None:
        state = self.state
        assert state is not None
        while True:
            if await journal.changed(state.version, _CLOCK_S):
                later = await journal.read(state.version)
                await _fold(state, later)
                self._note(later)
            if boot_time_s() - self._read_s >= _CLOCK_S:
                await self._set_clock(journal, state)

    async def _set_clock(self, journal: Journal, state: WorkspaceState) -> None:
        self.read_us, self._read_s = await now_us_of(journal, state.version), boot_time_s()
        # As the governor has it: less than half a second is how long an answer took.
        self.shift_us = round((time.time() * _SECOND_US - self.read_us) / _SECOND_US) * _SECOND_US

    def _note(self, batches: Sequence[Batch]) -> None:
        self.log.extend(entry for entry in entries_of(batches) if entry.event not in _QUIET)


def _said(error: MoeSegmentsError) -> str:
    """Return an error's sentence, without the name of the parameter that nobody gave just now."""
    return f"{error.problem if isinstance(error, InputError) else error}".removesuffix(".")


async def _fold(state: WorkspaceState, batches: Sequence[Batch]) -> None:
    for number, batch in enumerate(batches, 1):
        for _ in state.folding(batch):
            await asyncio.sleep(0)
        if not number % _FOLDED_AT_ONCE:
            await asyncio.sleep(0)
