"""How far a segment is behind the changes that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["MembershipStatus"]


@attrs.frozen(kw_only=True)
class MembershipStatus:
    """The changes of a segment that are not applied yet, now.

    Attributes:
        name: The segment's name.
        adds: Values that wait to be added.
        removes: Values that wait to be removed.
        is_sending: Whether some of them are sent now, or sent and not confirmed.
        oldest_at: When the oldest of them was asked for, aware UTC; None where there is none.
        lag_s: How long ago that was; 0 where there is none.
        max_age_s: How stale the segment may get; None: as stale as the quotas make it.
        is_late: Whether it is staler than that.
        error: What the last try to send ended with, in this process; or, in every process, why nothing is sent to a
            segment that the service said is not there. None where all is well.
        retry_at: When the next try comes after that error, at the earliest; None without an error.
    """

    name: str
    adds: int
    removes: int
    is_sending: bool
    oldest_at: datetime | None
    lag_s: float
    max_age_s: float | None
    is_late: bool
    error: str | None = None
    retry_at: datetime | None = None

    @property
    def pending(self) -> int:
        """How many changes wait, adds and removes."""
        return self.adds + self.removes
