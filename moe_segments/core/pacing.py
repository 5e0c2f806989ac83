"""Grant only what can leave soon, out of what may leave by its quotas. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.core.admission import Admitted, Paced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.admission import Verdict
    from moe_segments.core.events import Reserved
    from moe_segments.core.state import WorkspaceState

__all__ = ["PACED", "grant_within"]


PACED: Final = Paced()


def grant_within(
    state: WorkspaceState,
    verdicts: list[Verdict],
    now_us: int,
    paced: Sequence[bool | None],
    room: int,
    *,
    has_spare: bool,
) -> tuple[list[Reserved], list[Verdict]]:
    """Keep the reservations that have room, first come first, and take back the others that were tried on *state*.

    Args:
        state: Where all that were admitted are tried, last.
        verdicts: The verdict on each ask, in order.
        now_us: The journal's time.
        paced: For each ask whether it goes through the pace in the background; None: not through the pace at all.
        room: How many callers may be granted.
        has_spare: Whether one in the background may be granted, where no caller is.

    Returns:
        The reservations, and the verdicts with `PACED` for those that are to wait.
    """
    admitted = [position for position, verdict in enumerate(verdicts) if isinstance(verdict, Admitted)]
    callers = [position for position in admitted if paced[position] is False]
    background = [position for position in admitted if paced[position]]
    waiting = set(callers[room:] + background[int(has_spare and not callers) :])
    if not waiting:
        return [verdict.event for verdict in verdicts if isinstance(verdict, Admitted)], verdicts
    for _ in admitted:
        state.take_back_last()
    shown = list(verdicts)
    granted: list[Reserved] = []
    for position in admitted:
        verdict = verdicts[position]
        assert isinstance(verdict, Admitted)
        if position in waiting:
            shown[position] = PACED
        else:
            granted.append(verdict.event)
            state.try_reserve(verdict.event, now_us)
    return granted, shown
