"""Look back on syncs, list what is known of segments, and forget it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from moe_segments.audiences.audience import KnownAudience, PastSync
from moe_segments.audiences.presence import refusal_of
from moe_segments.core.audiences.memberships import Membership
from moe_segments.core.events import MembershipForgotten
from moe_segments.files.stream import in_thread
from moe_segments.governor.usage import at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.audiences.snapshots.format import Snapshots
    from moe_segments.journal.replica import Replica

__all__ = ["forget", "history", "known_audiences"]

_DAY_US: Final = 86_400_000_000


async def history(replica: Replica, name: str, shift_us: int) -> tuple[PastSync, ...]:
    """Return the last syncs of a segment, oldest first. See `SegmentsClient.audience_history`."""
    await replica.refresh()
    membership = replica.state.memberships.of.get(name, Membership())
    return tuple(_past(facts, shift_us) for facts in membership.history)


async def known_audiences(
    replica: Replica, snapshots: Snapshots | None, shift_us: int, scale: float
) -> tuple[KnownAudience, ...]:
    """Return what is known of each segment that was synced, by name. See `SegmentsClient.audiences`."""
    await replica.refresh()
    state, known = replica.state, list[KnownAudience]()
    for name, membership in sorted(state.memberships.of.items()):
        held = state.memberships.known(name, state.jobs)
        is_here = False
        if held is not None and snapshots is not None:
            is_here = await in_thread(snapshots.has, name, held.holds)
        last, refusal = membership.held, refusal_of(state, name, shift_us)
        next_full_us = _next_full_us(membership, scale) if is_here else None
        past = [_past(facts, shift_us) for facts in membership.history]
        known.append(
            KnownAudience(
                name=name,
                size=None if last is None else last.size,
                is_known=is_here,
                confirmed_at=None if last is None else at(last.since_us + shift_us),
                full_at=None if last is None else at(last.full_us + shift_us),
                next_full_at=None if next_full_us is None else at(next_full_us + shift_us),
                match_rate=next((one.match_rate for one in reversed(past) if one.match_rate is not None), None),
                last=past[-1] if past else None,
                refusal=None if refusal is None else str(refusal),
            )
        )
    return tuple(known)


async def forget(replica: Replica, name: str, snapshots: Snapshots | None) -> bool:
    """Take a segment's members for unknown and delete their snapshots. See `SegmentsClient.forget_audience`.

    Returns:
        Whether anything was known of it.
    """
    await replica.refresh()
    membership = replica.state.memberships.of.get(name, Membership())
    is_known = membership.held is not None or bool(membership.steps) or name in replica.state.gone.of
    await replica.record(MembershipForgotten(name))
    has_snapshots = snapshots is not None and await in_thread(snapshots.forget, name)
    return is_known or has_snapshots


def _next_full_us(membership: Membership, scale: float) -> int | None:
    every_days: float | None = membership.history[-1].get("full_every_days") if membership.history else None
    if membership.held is None or every_days is None:
        return None
    return membership.held.full_us + round(every_days * _DAY_US / scale)


def _past(facts: Mapping[str, Any], shift_us: int) -> PastSync:
    return PastSync(
        at=at(facts["at_us"] + shift_us), facts={key: value for key, value in facts.items() if key != "at_us"}
    )
