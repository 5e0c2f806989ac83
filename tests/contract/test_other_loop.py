"""A client, its governor and its jobs belong to the event loop that they were opened in, whatever the engine."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import ArchiveSegment, Credentials, InputError, SegmentsClient
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.contract.conftest import Place

ASK = Ask(job="j", operation={"op": "add"}, cost=Cost(1), keys=(), fence_us=1, timeout_us=1)
ARCHIVE = ArchiveSegment(name="s")


async def many(client: SegmentsClient) -> None:
    async for _ in client.submit_many([ARCHIVE]):
        pass


CALLS: dict[str, Callable[[SegmentsClient], Coroutine[Any, Any, object]]] = {
    "submit": lambda client: client.submit(ARCHIVE, max_wait_s=math.inf),
    "submit_many": many,
    "archive_segment": lambda client: client.archive_segment(name="s"),
    "list_segments": lambda client: client.list_segments(),
    "get_segment": lambda client: client.get_segment("id"),
    "usage": lambda client: client.governor.usage(),
    "plan": lambda client: client.governor.plan([ARCHIVE]),
    "record_external": lambda client: client.governor.record_external(operations=1),
    "observe_active_segments": lambda client: client.governor.observe_active_segments(1),
    "lift_quarantine": lambda client: client.governor.lift_quarantine(),
    "reserve": lambda client: client.governor.reserve(ASK, max_wait_s=math.inf),
    "refresh": lambda client: client.job("known").refresh(),
    "result": lambda client: client.job("known").result(),
    "close the client": lambda client: client.aclose(),
}


def test_a_call_from_another_event_loop_is_the_same_mistake_on_every_engine(place: Place) -> None:
    """Each call says so at once, also a second time, and the client goes on working where it belongs."""
    client = SegmentsClient(
        Credentials(workspace_id="W1", api_key="a-key-of-some-length", data_center="01"),
        base_url="http://127.0.0.1:9",
        journal=place.journal(),
        callbacks="http://127.0.0.1:9/moe",
        max_attempts=1,
    )

    async def call(name: str) -> None:
        async with asyncio.timeout(10):
            await CALLS[name](client)

    with asyncio.Runner() as home:
        home.run(client.__aenter__())
        try:
            for name in (*CALLS, *CALLS):
                with pytest.raises(InputError, match="another event loop"):
                    asyncio.run(call(name))
            assert home.run(client.governor.usage())["operations_per_hour"].used == 0
        finally:
            home.run(client.aclose())
