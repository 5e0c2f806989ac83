"""Questions about the quotas: usage, usage of others. `Governor` inherits them.

Each is one question to the journal. None waits in line, and none changes what was granted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from moe_segments.core.events import ActiveObserved, ExternalUsage, Trusted
from moe_segments.errors import InputError
from moe_segments.governor.usage import usage_of
from moe_segments.limits import is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.governor.usage import LimitUsage
    from moe_segments.journal.replica import Replica
    from moe_segments.limits import QuotaLimits

__all__ = ["QuotaCalls"]

_SECOND_US: Final = 1_000_000
_MOST: Final = 10**9  # of anything that is told; more is a mistake


class _Governor(Protocol):
    """The part of the governor that these calls need."""

    limits: QuotaLimits
    _replica: Replica

    def shift_us(self) -> int: ...


class QuotaCalls:
    """The calls of people and tools rather than of the client."""

    async def usage(self: _Governor) -> Mapping[str, LimitUsage]:
        """Return every limit by its name, as the journal stands now.

        Returns:
            What is used, pending and left of each limit, and when it is freed next.

        Raises:
            JournalError: The journal cannot be read.
        """
        states = await self._replica.ask(lambda state, now_us: ((), state.ledger.usage(now_us)))
        shift_us = self.shift_us()
        return {state.limit: usage_of(state, shift_us) for state in states}

    async def quarantine(self: _Governor) -> str | None:
        """Return why windows are taken to be full although they are not, as history may be lost; None where none is.

        Returns:
            What speaks for a loss. `lift_quarantine` ends it.

        Raises:
            JournalError: The journal cannot be read.
        """
        return await self._replica.ask(lambda state, now_us: ((), state.ledger.quarantine_at(now_us)))

    async def record_external(
        self: _Governor, *, operations: int = 0, rows: int = 0, at: datetime | None = None
    ) -> None:
        """Tell the journal what somebody else spent, such as people in the dashboard.

        Args:
            operations: File-segment operations, from 0.
            rows: Users uploaded, from 0.
            at: When, aware; None for now. Usage older than a window no longer counts in it.

        Raises:
            InputError: A number is negative, or the moment has no zone or lies in the future.
            JournalError: It could not be written.
        """
        _check_amount("operations", operations)
        _check_amount("rows", rows)
        if at is not None and at.tzinfo is None:
            raise InputError("needs a time zone", "at")
        at_us = None if at is None else round(at.timestamp() * _SECOND_US) - self.shift_us()

        def question(_: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            if at_us is not None and at_us > now_us:
                raise InputError("lies in the future", "at")
            return [ExternalUsage(operations, rows, now_us if at_us is None else at_us)], None

        await self._replica.ask(question)

    async def observe_active_segments(self: _Governor, n: int) -> None:
        """Tell the journal how many segments of all types are active now, those of this journal included.

        Args:
            n: How many, from 0.

        Raises:
            InputError: *n* is no whole number from 0.
            JournalError: It could not be written.
        """
        _check_amount("n", n)
        await self._replica.record(ActiveObserved(n))

    async def lift_quarantine(self: _Governor, *, operations: int = 0, rows: int = 0) -> None:
        """State what was spent in the last day, and trust the journal for the rest.

        Args:
            operations: File-segment operations, counted as if spent now.
            rows: Users uploaded, counted as if spent now.

        Raises:
            InputError: A number is negative.
            JournalError: It could not be written.
        """
        _check_amount("operations", operations)
        _check_amount("rows", rows)

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
            reason = state.ledger.quarantine or "stated by the user"
            return [ExternalUsage(operations, rows, now_us), Trusted(reason)], None

        await self._replica.ask(question)


def _check_amount(field: str, amount: object) -> None:
    if not is_whole(amount) or amount > _MOST:
        raise InputError(f"must be a whole number from 0 to {_MOST}, not {amount!r}", field)
