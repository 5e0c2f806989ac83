"""Grant only what can leave soon, out of what may leave by its quotas. Pure: no clock, no I/O."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import Reserved
from moe_segments.core.state.verdicts import Admitted, Paced

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.core.state.admission import Round
    from moe_segments.core.state.workspace import WorkspaceState

__all__ = ["PACED", "grant_within"]


PACED: Final = Paced()


def grant_within(
    state: WorkspaceState,
    step: Round,
    now_us: int,
    is_in_background: Callable[[int], bool | None],
    room: int,
    *,
    has_spare: bool,
) -> Round:
    """Keep the reservations that have room, first come first, and take back the others that were tried on *state*.

    Args:
        state: Where all that were admitted are tried, last.
        step: What was decided by the quotas alone.
        now_us: The journal's time.
        is_in_background: By position, whether it goes through the pace in the background; None: not through the pace.
        room: How many callers may be granted.
        has_spare: Whether one in the background may be granted, where no caller is.

    Returns:
        *step*, with `PACED` for those that are to wait; the same object where nobody is.
    """
    callers: dict[str, int] = {}
    background: dict[str, int] = {}
    for position, verdict in step.verdicts.items():
        if isinstance(verdict, Admitted) and (last := is_in_background(position)) is not None:
            (background if last else callers)[verdict.event.row] = position
    spare = int(has_spare and not callers)
    waiting = dict([*islice(callers.items(), room, None), *islice(background.items(), spare, None)])
    if not waiting:
        return step
    tried = [event for event in step.events if isinstance(event, Reserved)]
    for _ in tried:
        state.take_back_last()
    for event in tried:
        if event.row not in waiting:
            state.try_reserve(event, now_us)
    events = [event for event in step.events if not (isinstance(event, Reserved) and event.row in waiting)]
    return attrs.evolve(step, events=events, verdicts=step.verdicts | dict.fromkeys(waiting.values(), PACED))
