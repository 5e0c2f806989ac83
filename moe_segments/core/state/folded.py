"""The data that a log folds to: quotas, jobs, claims, origin, rejected keys. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.core.audiences.gone import GoneSegments
from moe_segments.core.audiences.memberships import Memberships
from moe_segments.core.quota.claims import Claims
from moe_segments.core.quota.ledger import Ledger
from moe_segments.core.state.jobs import Jobs

if TYPE_CHECKING:
    from moe_segments.core.events import Copying, Moved, Opened
    from moe_segments.limits import QuotaLimits

__all__ = ["FoldedState"]


class FoldedState:
    """The data of a log up to one version.

    Attributes:
        limits: The quotas.
        version: The last batch folded; 0 before the first.
        now_us: The last batch's time.
        ledger: The quotas.
        jobs: The jobs.
        opened: Whose log it is; None before its first entry.
        rejected_keys: Fingerprints of keys answered with 401 or 403, with the status.
        claims: Waiters of all processes.
        moved: Where this log goes on instead; None while it goes on here.
        copying: What is being migrated into it; None when nothing is.
        memberships: What each segment was last known to hold.
        gone: Segments that the service refused to change.
        origins: The logs that this one stands for, by identity, with the last version of each.
    """

    ledger: Ledger
    jobs: Jobs

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self.version = 0
        self.now_us = 0
        self.ledger, self.jobs = Ledger(limits), Jobs(limits)
        self.opened: Opened | None = None
        self.rejected_keys: dict[str, int] = {}
        self.claims: Claims = Claims()
        self.memberships: Memberships = Memberships()
        self.gone: GoneSegments = GoneSegments()
        self.moved: Moved | None = None
        self.copying: Copying | None = None
        self.origins: dict[str, int] = {}
