"""What can be asked of the quotas, and the verdicts on it. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.core.quota.decision import Cost, Never, Wait
from moe_segments.core.quota.forecast import Demand, Start
from moe_segments.core.quota.ledger import life_us
from moe_segments.limits import CREATE_FILTER_CALLS
from moe_segments.models import (
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    CreateFilterSegment,
    FilterOperation,
    Operation,
    RemoveUsers,
    ReplaceUsers,
    UnarchiveSegment,
    UpdateFilterSegment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.events import Reserved
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.limits import QuotaLimits

__all__ = [
    "NOT_NOW",
    "Admitted",
    "Ask",
    "Busy",
    "Deferred",
    "KeyBad",
    "Known",
    "NameUsed",
    "Paced",
    "TooLarge",
    "Verdict",
    "cost_of",
    "name_used",
    "verdict_of",
    "wait_of",
]


@attrs.frozen(kw_only=True)
class Ask:
    """A request to send one operation.

    Attributes:
        job: The job's identifier.
        operation: Its fields as remembered.
        cost: What it may spend.
        keys: What it keeps busy.
        fence_us: How long after the reservation it may still start.
        timeout_us: How long its request may take.
        key_fingerprint: The key it would be sent with.
        token_sha256: Its callback's token, hashed; None when no callback of ours can come.
        expiry_days: Days until its segment expires, for a create.
        owner: The process that would send it.
        retry_unknown: Send again although an earlier send may have worked.
    """

    job: str
    operation: Mapping[str, object] = attrs.field(hash=False)
    cost: Cost
    keys: tuple[str, ...]
    fence_us: int
    timeout_us: int
    key_fingerprint: str = ""
    token_sha256: str | None = None
    expiry_days: int | None = None
    owner: str | None = None
    retry_unknown: bool = False

    @property
    def attempt_us(self) -> int:
        """How long after the reservation its request may still be under way."""
        return self.fence_us + self.timeout_us

    def demand(self, state: WorkspaceState) -> Demand:
        """Return what it takes, under every name that is known for its segment."""
        operation = self.operation
        life = None if self.expiry_days is None else life_us(self.expiry_days, state.limits)
        return Demand(
            self.cost,
            tuple(state.jobs.known_as(self.keys)),
            awaits_callback=self.token_sha256 is not None,
            life_us=life,
            attempt_us=self.attempt_us,
            archives=_archived(operation) if operation.get("op") == "archive" else None,
        )


@attrs.frozen
class Admitted:
    """A decision to send; its event makes the reservation durable."""

    event: Reserved


@attrs.frozen
class Deferred:
    """A quota is full, or those ahead need what is left of it.

    Attributes:
        wait: The limit that binds this operation, with its own figures, and until when at the earliest.
        start_us: When it can start at the earliest; None when nothing known will let it. Those ahead are counted where
            a forecast was asked for or the operation could start soon.
    """

    wait: Wait
    start_us: int | None


@attrs.frozen
class Busy:
    """A decision to wait: the segment is busy.

    Attributes:
        job: The job that holds it.
        until_us: Until when at the latest, or when that job starts if it waits itself; None when that is unknown.
        in_line: Whether it waits behind that job in the line for quota, rather than for that job to end.
    """

    job: str
    until_us: int | None
    in_line: bool = True


@attrs.frozen
class TooLarge:
    """A decision that a request never fits."""

    never: Never


@attrs.frozen
class KeyBad:
    """The service rejected this key, with this status."""

    status: int


@attrs.frozen
class NameUsed:
    """A refusal: the name of the create is used up.

    Attributes:
        job: The job that shows it.
        cs_id: The identifier of the segment that has the name; None where that is not known.
    """

    job: str
    cs_id: str | None


@attrs.frozen
class Known:
    """The journal knows this job already, and it is not to be sent (again)."""


@attrs.frozen
class Paced:
    """A decision to wait for the pace without a reservation; the quotas have room. See `governor.paced_grants`."""


Verdict: TypeAlias = Admitted | Deferred | Busy | TooLarge | KeyBad | NameUsed | Known | Paced
NOT_NOW: Final = Deferred(Wait(None, "", 0, 0, 0), None)  # nobody asked when


def cost_of(operation: Operation | FilterOperation, limits: QuotaLimits) -> Cost:  # noqa: PLR0911 - one a kind
    """Return what one send of an operation may spend. Rows that are not known yet weigh nothing here.

    The documents name create, add and remove for the hour and the day; replace has a 429 of its own and is counted,
    like the users of remove and replace, unless the limits say otherwise.
    """
    if isinstance(operation, CreateFilterSegment):
        return Cost(segments=1, call=CREATE_FILTER_CALLS)
    match operation:
        case CreateFileSegment():
            return Cost(1, operation.rows or 0, 1)
        case RemoveUsers():
            rows = operation.rows or 0 if limits.remove_counts_users else 0
            return Cost(int(limits.remove_counts_operation), rows)
        case ReplaceUsers():
            rows = operation.rows or 0 if limits.replace_counts_users else 0
            return Cost(int(limits.replace_counts_operation), rows)
        case UnarchiveSegment():
            return Cost(segments=1)
        case ArchiveSegment() | UpdateFilterSegment():
            return Cost()  # no limit is documented for either
        case AddUsers():
            return Cost(1, operation.rows or 0)


def name_used(state: WorkspaceState, op: object, name: object, job: str) -> NameUsed | None:
    """Return what shows that the name of a segment to create is used up; None where nothing does."""
    used_by = state.jobs.name_used_by(op, name, job)
    if used_by is None:
        return None
    record = state.jobs.records.get(used_by)  # forgotten after 90 days, the name is not
    cs_id = ((record and record.accepted) or {}).get("cs_id")
    return NameUsed(used_by, None if cs_id is None else str(cs_id))


def verdict_of(start: Start) -> Deferred | Busy:
    """Return the verdict on one that starts later."""
    if start.behind is not None and start.limit is None:
        return Busy(start.behind, start.at_us)
    return Deferred(wait_of(start), start.at_us)


def wait_of(start: Start) -> Wait:
    """Return the limit that binds a start, and until when."""
    return Wait(start.at_us, start.limit or "", start.used, start.requested, start.capacity)


def _archived(operation: Mapping[str, object]) -> tuple[str, str | None]:
    cs_id = operation.get("cs_id")
    return str(operation.get("name", "")), cs_id if isinstance(cs_id, str) else None
