"""What several benchmarks ask a governor for, and how it is opened and told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from moe_segments.core.events import Answered
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask
from moe_segments.governor.governor import Governor, boot_time_s
from moe_segments.journal.replica import Replica

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from moe_segments.governor.governor import Grant
    from moe_segments.journal import Journal
    from moe_segments.limits import QuotaLimits

__all__ = ["ORIGIN", "ROWS", "SCOPE", "accepted", "asked", "governed"]

ORIGIN: Final = "http://127.0.0.1"
SCOPE: Final = "W1.03"
ROWS: Final = 20_000  # users of one operation: a hundred of them fill the documented day
_SECOND_US: Final = 1_000_000


def asked(name: str, rows: int = ROWS, *, segments: int = 0) -> Ask:
    """One operation on a segment of its own."""
    return Ask(
        job=name,
        operation={"op": "add", "name": name, "attribute_name": "ID", "attribute_type": "string", "rows": rows},
        cost=Cost(1, rows, segments),
        keys=(name,),
        fence_us=30 * _SECOND_US,
        timeout_us=60 * _SECOND_US,
    )


def accepted(grant: Grant | None) -> Answered:
    """The service took what was granted."""
    assert grant is not None
    return Answered(grant.job, grant.attempt, 202, accepted={"success": True, "cs_name": grant.job})


@asynccontextmanager
async def governed(
    journal: Journal,
    limits: QuotaLimits,
    *,
    clock: Callable[[], float] = boot_time_s,
    follows: type[Replica] = Replica,
) -> AsyncIterator[tuple[Governor, Replica]]:
    """A governor on *journal*, open."""
    replica = follows(journal, limits)
    await replica.open()
    governor = Governor(replica, limits, clock=clock)
    try:
        await governor.open(ORIGIN, on_lost_journal="trust", announce=False)
        yield governor, replica
    finally:
        await governor.close()
        await replica.close()
