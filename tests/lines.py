"""A line before a ledger with short windows, for tests of who may leave: a state, what it is told, what it decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from moe_segments.core.events import Answered, Batch, Event, Reserved
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.admission import Round, admit, forecast
from moe_segments.core.state.verdicts import Ask, Verdict
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from moe_segments.core.quota.forecast import Demand

__all__ = ["ALLOWANCE", "DAY", "EVER", "HOUR", "LATE", "LIFE", "LIMITS", "MINUTE", "Line", "S", "ask"]

S: Final = 1_000_000
HOUR, DAY, MINUTE, LATE, ALLOWANCE = 100, 1_000, 10, 20, 200
LIFE: Final = 2 * 50 + 5
EVER: Final = 10**6 * S
LIMITS: Final = QuotaLimits(
    operations_per_hour=3,
    operations_per_day=6,
    users_per_day=100,
    active_segments=4,
    external_active_margin=0,
    minute_s=MINUTE,
    hour_s=HOUR,
    day_s=DAY,
    guard_s=0,
    count_late_s=LATE,
    processing_allowance_s=ALLOWANCE,
    expiry_day_s=50,
    expiry_slack_s=5,
    list_per_minute=2,
)


def ask(job: str, cost: Cost | None = None, **changes: Any) -> Ask:
    fields: dict[str, Any] = {
        "job": job,
        "operation": {"op": "add", "name": f"s-{job}"},
        "cost": Cost(1, 10) if cost is None else cost,
        "keys": (f"s-{job}",),
        "fence_us": 3 * S,
        "timeout_us": 7 * S,
        "token_sha256": f"token {job}",
    }
    return Ask(**fields | changes)


class Line:
    """A state, and the batches that follow one another in it."""

    def __init__(self, limits: QuotaLimits = LIMITS) -> None:
        self.state = WorkspaceState(limits)

    def tell(self, at: float, *events: Event) -> None:
        self.state.fold(Batch(self.state.version + 1, "b", round(at * S), events))

    def spent(self, at: float, *jobs: str, rows: int = 0) -> None:
        """Operations without users or callbacks that were answered."""
        for job in jobs:
            self.tell(at, Reserved(job, 1, {"op": "add", "name": job}, 1, rows, 0, (), 3 * S, 7 * S))
            self.tell(at, Answered(job, 1, 202, accepted={}))

    def decided(self, at: float, *asks: Ask, **options: Any) -> Round:
        step = admit(self.state, asks, round(at * S), **options)
        self.state.take_back()
        return step

    def said(self, at: float, *asks: Ask, **options: Any) -> list[Verdict | None]:
        step = self.decided(at, *asks, **options)
        return [step.verdicts.get(position) for position in range(len(asks))]

    def starts(self, at: float, *demands: Demand) -> list[float | None]:
        found = forecast(self.state, demands, round(at * S))
        return [None if start.at_us is None else start.at_us / S for start in found]
