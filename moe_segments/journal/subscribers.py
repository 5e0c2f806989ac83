"""Whoever in this process is told of changes of a journal: functions that are called, tasks that wait for a job.

What changed is noted while batches are folded, and told at the end of a flush: by then the state is whole.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from moe_segments.core.events import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from moe_segments.core.events import Batch

__all__ = ["Subscribers"]


class Subscribers:
    """The subscribers of one replica, in the event loop that it was opened in."""

    def __init__(self) -> None:
        self._on_change: list[Callable[[], None]] = []
        self._on_jobs: list[Callable[[Collection[str] | None], None]] = []
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}  # by job
        self._until_end: list[asyncio.Future[None]] = []  # of those who wait for nothing else
        self._changed: dict[str | None, None] = {}  # a set in the order of the events, in which waiters wake
        self._has_jumped = self._has_news = False

    def on_change(self, function: Callable[[], None]) -> Callable[[], None]:
        """Call *function* after every change but our own reservations, which free nothing.

        Returns a function that ends it.
        """
        self._on_change.append(function)
        return lambda: self._on_change.remove(function)

    def on_jobs(self, function: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
        """Call *function* with the jobs of which the journal says something new; with None for any job.

        Returns a function that ends it.
        """
        self._on_jobs.append(function)
        return lambda: self._on_jobs.remove(function)

    def is_awaited(self, job: str) -> bool:
        """Return whether somebody waits for news of this job."""
        return job in self._waiters

    async def news_of(self, job: str) -> None:
        """Return when the journal says something new of this job. Raises what `fail` is given."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job, []).append(future)
        try:
            await future
        finally:
            waiters = self._waiters.get(job, [])
            if future in waiters:
                waiters.remove(future)
            if not waiters:
                self._waiters.pop(job, None)

    async def end(self) -> NoReturn:
        """Wait until there is no more news. Raises what `fail` is given."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until_end.append(future)
        try:
            await future
        finally:
            self._until_end.remove(future)
        raise AssertionError("only an error ends it")

    # Telling

    def note(self, batch: Batch) -> None:
        """Note what a batch changed."""
        self._has_news = True
        for event in batch.events:
            self._changed[getattr(event, "job", None)] = None
            self._has_jumped = self._has_jumped or isinstance(event, Checkpoint)

    def note_reservation(self, job: str) -> None:
        """Note a reservation of our own."""
        self._changed[job] = None

    def tell(self, *, is_barred: bool) -> None:
        """Tell what was noted; where the journal *is_barred*, nothing more comes, so every waiter looks again."""
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        # A checkpoint may stand for anything.
        jobs = tuple(self._waiters) if self._has_jumped or is_barred else tuple(changed)
        for job in jobs:
            for future in self._waiters.get(job or "", ()):
                if not future.done():
                    future.set_result(None)
        for function in self._on_jobs:
            function(None if self._has_jumped else [job for job in changed if job is not None])
        self._has_jumped = False
        if self._has_news:
            self._has_news = False
            self.tell_change()

    def tell_change(self) -> None:
        """Call those that are called after every change."""
        for function in tuple(self._on_change):
            function()

    def fail(self, error: Exception) -> None:
        """Raise *error* in every task that waits."""
        for waiters in (*self._waiters.values(), self._until_end):
            for future in waiters:
                if not future.done():
                    future.set_exception(error)
