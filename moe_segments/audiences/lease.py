"""The right to sync segments: one process at a time, told by the journal, renewed while it works."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from moe_segments.core.events import SyncHeld, SyncReleased
from moe_segments.errors import JournalError
from moe_segments.journal.local.process import is_gone, this_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal.replica import Replica

__all__ = ["Lease"]

_FOR_S: Final = 300.0  # how long others wait for a host that has died
_RENEWED_AFTER_S: Final = 100.0
_SECOND_US: Final = 1_000_000


class Lease:
    """The right of one sync to its segments.

    Args:
        replica: The journal.

    Attributes:
        owner: What the journal calls this sync.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.owner: str = f"{this_process()}|{secrets.token_hex(8)}"
        self._names: set[str] = set()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew it while inside, and give it up at the end."""
        renewing = asyncio.get_running_loop().create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if self._names:
                with suppress(JournalError):  # then it ends by itself
                    await asyncio.shield(self._replica.record(SyncReleased(self.owner, tuple(sorted(self._names)))))

    async def take(self, names: Sequence[str]) -> set[str]:
        """Take the right to those segments that nobody else has. Returns which of *names* it has now.

        Raises:
            JournalError: The journal cannot be read or written.
        """

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            events: list[Event] = []
            for name in names:
                worker = state.memberships.worker(name, now_us)
                if worker not in (None, self.owner) and self._is_gone(worker):
                    events.append(SyncReleased(worker, (name,)))
            return [*events, SyncHeld(self.owner, tuple(names), round(_FOR_S * _SECOND_US))], None

        await self._replica.ask(question)
        taken = {name for name in names if self._has(name)}
        self._names |= taken
        return taken

    def may_take(self, name: str) -> bool:
        """Return whether nobody else has the right to a segment, as far as is known. Writes nothing."""
        worker = self._replica.state.memberships.worker(name, self._replica.now_us())
        return worker in (None, self.owner) or self._is_gone(worker)

    def _has(self, name: str) -> bool:
        return self._replica.state.memberships.worker(name, self._replica.now_us()) == self.owner

    def _is_gone(self, worker: str | None) -> bool:
        process = (worker or "").partition("|")[0]
        return "/" in process and is_gone(process, spans_hosts=self._replica.journal.spans_hosts)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEWED_AFTER_S)
            with suppress(JournalError):
                await self.take(sorted(self._names))
