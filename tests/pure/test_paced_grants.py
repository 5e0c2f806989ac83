"""Of those who may leave by their quotas, who may leave now by the pace."""

from __future__ import annotations

import pytest

from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.admission import admit
from moe_segments.core.state.verdicts import Admitted
from moe_segments.governor.paced_grants import PACED, grant_within
from tests.lines import Line, S, ask


@pytest.mark.parametrize(
    ("background", "room", "has_spare", "granted"),
    [
        ([False, False], 2, False, [0, 1]),
        ([False, False], 1, True, [0]),
        ([False, True], 2, True, [0]),  # a caller goes first, and the spare place is not beside it
        ([False, True], 2, False, [0]),
        ([False, True], 0, True, []),
        ([True, True], 0, True, [0]),
        ([True, True], 2, False, []),  # callers may come for it
        ([None, True], 0, False, [0]),  # it does not go through the pace
    ],
)
def test_callers_go_first_and_one_look_up_where_there_is_a_place_to_spare(
    background: list[bool | None], room: int, *, has_spare: bool, granted: list[int]
) -> None:
    line = Line()
    asks = [ask("a", Cost(1)), ask("b", Cost(1))]
    tried = admit(line.state, asks, 2 * S)
    step = grant_within(line.state, tried, 2 * S, background.__getitem__, room, has_spare=has_spare)
    left = [position for position in (0, 1) if isinstance(step.verdicts[position], Admitted)]
    assert left == granted
    assert all(step.verdicts[position] == PACED for position in (0, 1) if position not in granted)
    assert [event.job for event in step.events] == [asks[position].job for position in granted]
    usage = line.state.ledger.usage(2 * S)
    assert next(limit for limit in usage if limit.limit == "operations_per_hour").used == len(granted)
