"""What a sync needs of the client. The client offers it, so this package stands below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from moe_segments.core.audiences.choice import Mode
    from moe_segments.core.audiences.streams import Block
    from moe_segments.errors import MoeSegmentsError
    from moe_segments.governor.governor import Governor
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import Accepted, FileProcessed, Segment
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["Changes", "Client", "Outcome"]


class Outcome(Protocol):
    """How one operation of many ended."""

    @property
    def result(self) -> FileProcessed | Accepted | None:
        """The figures of the callback, or the acceptance where no callback can come."""

    @property
    def error(self) -> MoeSegmentsError | None:
        """Why there is no result."""


class Client(Protocol):
    """The part of the client that a sync needs."""

    limits: QuotaLimits
    governor: Governor

    def submit_many(
        self, operations: Mapping[str, Any], *, max_wait_s: float = math.inf, preflight: Preflight | None = None
    ) -> AsyncIterator[Outcome]:
        """Submit operations under identifiers of the caller's own."""

    async def list_segments(self, name: str | None = None, *, max_wait_s: float = 0.0) -> tuple[Segment, ...]:
        """Ask the service for segments."""


class Changes(Protocol):
    """Membership changes that wait, which a sync overtakes."""

    async def mark(self, name: str) -> None:
        """Remember the changes of a segment as they are now: its source is about to be read."""

    async def delete(self, name: str, mode: Mode, given: Iterable[Block]) -> None:
        """Delete what a sync that went well made void."""
