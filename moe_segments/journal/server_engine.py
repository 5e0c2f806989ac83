"""The base of the journals on a server: when they may be used, how they wait, how a batch is confirmed."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalAmbiguous, JournalError, JournalUnavailable
from moe_segments.journal.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch

__all__ = ["Notifications", "ServerJournal"]

_LISTENING_POLL_S: Final = 5.0  # a safety net, for many processes a light one
_PAUSES_S: Final = (0.1, 0.5, 2.0, 10.0)
_log = logging.getLogger("moe_segments.journal")


class Notifications(ABC):
    """Notifications of other handles' appends, over a second connection. A hint, never proof.

    The connection is made when somebody first waits, and made again with a growing pause when it breaks. What was
    missed meanwhile is found by the look that every notification leads to.

    Args:
        notifier: Notified of each append.

    Attributes:
        notified: The last version that a notification named; what was read since corrects it.
        are_heard: The connection listens, and nothing was missed since something was heard.
    """

    notified: int
    are_heard: bool

    def __init__(self, notifier: Notifier) -> None:
        self.notified, self.are_heard = 0, False
        self._notifier = notifier
        self._failures = 0
        self._listening: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Listen from now on. Idempotent."""
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    def missed(self) -> None:
        """Rely on looking again: an append was found without a notification."""
        self.are_heard = False

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    @abstractmethod
    async def _hear(self) -> None:
        """Connect, call `_connected`, then `_heard` for each append, until the connection ends."""

    def _connected(self) -> None:
        self._failures, self.are_heard = 0, True
        self._notifier.notify()  # something may have been missed

    def _heard(self, version: int) -> None:
        self.notified, self.are_heard = max(self.notified, version), True
        self._notifier.notify()

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except Exception as error:  # noqa: BLE001 - looking again finds everything
                # The connection for commands says what is wrong, to those who can act on it.
                _log.debug("no news of the journal for a moment, looking for them: %s", type(error).__name__)
            if self.are_heard:  # who waits looks, now and more often
                self.are_heard = False
                self._notifier.notify()
            pause_s = _PAUSES_S[min(self._failures, len(_PAUSES_S) - 1)]
            self._failures += 1
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load


class ServerJournal(ABC):
    """The part of the `Journal` promise that is the same on every server.

    Args:
        scope: Which log: what shares one quota.
        state_dir: Where this host's witness is kept; None for none.
        poll_s: How often `changed` looks for what was not told, seconds, give or take a quarter.

    Attributes:
        journal_id: The log's identity; empty before `open`.
        doubt: Why the log may have lost history, as this host's witness saw it when it was opened; None without one.
        is_new: This `open` made the log.
        spans_hosts: Always True.
    """

    journal_id: str
    is_new: bool

    spans_hosts = True

    def __init__(self, scope: str, state_dir: Path | None, poll_s: float) -> None:
        self.journal_id, self.is_new = "", False
        self.doubt: str | None = None
        self._scope, self._state_dir, self._poll_s = scope, state_dir, poll_s
        self._notifier = Notifier()
        self._is_open, self._pid = False, 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r}, {self._scope!r})"

    @property
    @abstractmethod
    def _place(self) -> str:
        """The server as it may be shown."""

    @property
    @abstractmethod
    def _last_seen(self) -> int:
        """The last version that any process of this host has seen, as far as its witness knows."""

    @property
    @abstractmethod
    def _notifications(self) -> Notifications | None:
        """Return what is listened to; None where nothing can be."""

    @abstractmethod
    async def _is_changed(self, after: int) -> bool:
        """Look whether the log goes on after version *after*, or is another one, which reading then says."""

    async def changed(self, after: int, timeout_s: float) -> bool:
        """Wait until a version above *after* may exist, at most *timeout_s* seconds.

        This handle's own appends wake it at once, others' as soon as the server tells of them. A look finds what it did
        not tell: every five seconds while news arrive, every `poll_s` where they do not.

        Raises:
            JournalError: The server cannot be read.
        """
        self._check_usable()
        news = self._notifications
        if news is not None:
            news.begin()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while max(self._last_seen, news.notified if news is not None else 0) <= after:
            if await self._is_changed(after):
                if news is not None:
                    news.missed()
                return True
            rest_s = until_s - loop.time()
            if rest_s <= 0:
                return False
            are_heard = news is not None and news.are_heard
            poll_s = max(self._poll_s, _LISTENING_POLL_S) if are_heard else self._poll_s
            await self._notifier.wait(min(rest_s, poll_s * random.uniform(0.75, 1.25)))  # noqa: S311 - spreads the polls
        return True

    @abstractmethod
    async def read(self, after: int) -> Sequence[Batch]:
        """See `Journal.read`."""

    async def _confirmed(self, batch: Batch) -> Batch:
        """Return *batch* once the log was found to hold what other processes of this host saw meanwhile.

        Raises:
            JournalReplaced: It holds something else.
            JournalAmbiguous: The server could not be asked.
        """
        if self._last_seen > batch.version:
            try:
                await self.read(batch.version)
            except JournalUnavailable as error:
                raise JournalAmbiguous(error.problem) from error
        return batch

    def _check_usable(self) -> None:
        """Refuse to use a handle that is not open, or another process's.

        Raises:
            JournalError: The handle is not open here.
        """
        if not self._is_open:
            raise JournalError(f"the journal is not open; open it first ({self._place})")
        if self._pid != os.getpid():
            raise JournalError(
                f"the journal was opened in process {self._pid} and this is process {os.getpid()}, forked from it; "
                f"open a journal (a client) of its own in each process ({self._place})"
            )
