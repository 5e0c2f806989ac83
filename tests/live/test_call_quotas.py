"""The quotas of lists, gets and filter creates, against a sandbox that enforces them: no 429 of our making."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import (
    AuthenticationFailed,
    CreateFilterSegment,
    Credentials,
    NotSent,
    OutcomeUnknown,
    QuotaExceeded,
    QuotaLimits,
    SegmentsClient,
    ServerError,
    TooManyRequests,
    attribute,
)
from moe_segments.client.client import replica_of
from moe_segments.errors import InputError
from moe_segments.sandbox import CallLimits, FaultKind, Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio

SPEED = 3_600.0  # an hour is a second
FEW = CallLimits(list_calls=(3, 6, 1_000), create_calls=(3, 6, 1_000), get_calls=(4, 8, 1_000), is_shared=True)
LIMITS = QuotaLimits(
    list_per_minute=3,
    list_per_hour=6,
    create_filter_per_minute=3,
    create_filter_per_hour=6,
    get_per_minute=4,
    get_per_hour=8,
)
LISTS = ("list_per_minute", "list_per_hour", "list_per_day")


@asynccontextmanager
async def pair(speed: float = SPEED, limits: QuotaLimits = LIMITS, **options: Any) -> AsyncIterator[Any]:
    """A sandbox with few calls, and a client that knows of it."""
    async with Sandbox(speed=speed, call_limits=FEW) as sandbox:
        settings: dict[str, Any] = {"journal": "memory:", "base_url": sandbox.url, "requests_per_s": 500}
        async with SegmentsClient(sandbox.credentials, limits=limits.scaled(speed), **(settings | options)) as client:
            yield sandbox, client


def filters(number: int) -> Any:
    return attribute("n").is_in(number)


async def test_who_waits_is_never_answered_429() -> None:
    """Forty tasks list, get and create at once; each gets its turn, and the service never objects."""
    async with pair() as (sandbox, client):
        made = await client.create_filter_segment(name="s", included_filters=filters(-1))
        calls = [
            *(client.list_segments(max_wait_s=math.inf) for _ in range(10)),
            *(client.get_segment(made.id, max_wait_s=math.inf) for _ in range(12)),
            *(
                client.create_filter_segment(name=f"s{n}", included_filters=filters(n), max_wait_s=math.inf)
                for n in range(6)
            ),
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*calls)
        assert [request.status for request in sandbox.workspace.requests if request.status == 429] == []


async def test_a_call_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    """With the moment at which it will, as for every other quota."""
    async with pair(speed=1) as (sandbox, client):
        for _ in range(3):
            await client.list_segments()
        with pytest.raises(QuotaExceeded) as caught:
            await client.list_segments()
        error = caught.value
        assert (error.limit, error.used, error.capacity) == ("list_per_minute", 3, 3)
        assert 100 < error.wait_s < 130
        with pytest.raises(QuotaExceeded):
            await client.list_segments(max_wait_s=60)
        with pytest.raises(QuotaExceeded):  # they share
            await client.create_filter_segment(name="a", included_filters=filters(1))
        with pytest.raises(InputError):
            await client.list_segments(max_wait_s=-1)
        assert len(sandbox.workspace.requests) == 3


async def test_pools_can_be_told_apart() -> None:
    """For a workspace where they are: then a create does not care for lists."""
    limits = QuotaLimits(list_per_minute=1, create_filter_per_minute=2, filter_calls_shared=False)
    async with pair(speed=1, limits=limits) as (_, client):
        await client.list_segments()
        await client.create_filter_segment(name="a", included_filters=filters(1))
        usage = await client.governor.usage()
        assert [usage[f"{call}_per_minute"].used for call in ("list", "create_filter", "get")] == [1, 1, 0]
        with pytest.raises(QuotaExceeded):
            await client.list_segments()
        await client.create_filter_segment(name="b", included_filters=filters(2))


async def test_a_read_counts_and_leaves_no_job() -> None:
    """It is in the journal for what it spends, not for itself."""
    async with pair(speed=1) as (_, client):
        await client.list_segments()
        usage = await client.governor.usage()
        assert [usage[name].used for name in LISTS] == [1, 1, 1]
        assert [usage[name].pending for name in LISTS] == [0, 0, 0]
        assert not replica_of(client).state.jobs.records
        assert not replica_of(client).state.ledger.rows
        assert usage["operations_per_hour"].used == 0


async def test_a_read_whose_answer_is_lost_counts_until_it_can_no_longer_be_counted() -> None:
    """And it is read again, which counts once more."""
    async with pair(speed=1, max_attempts=2) as (sandbox, client):
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        await client.list_segments()
        minute = (await client.governor.usage())["list_per_minute"]
        assert (minute.used, minute.pending) == (2, 0)
        assert not replica_of(client).state.ledger.rows
        await client.list_segments()
        with pytest.raises(QuotaExceeded) as caught:
            await client.list_segments()
        assert caught.value.wait_s < 130  # the answered ones are free before the lost one


async def test_a_read_that_never_left_gives_its_place_back() -> None:
    """No connection: provably not counted."""
    async with pair(speed=1, base_url="http://127.0.0.1:9", max_attempts=1) as (_, client):
        with pytest.raises(NotSent):
            await client.list_segments()
        assert (await client.governor.usage())["list_per_minute"].used == 0


async def test_a_read_that_is_called_off_is_written_down() -> None:
    """Whoever cancels it leaves nothing in flight for ever."""
    async with pair(speed=1) as (sandbox, client):
        sandbox.fail_next(FaultKind.SLOW)
        sandbox.faults = type(sandbox.faults)(slow_s=(5, 5))
        task = asyncio.create_task(client.list_segments())
        while not sandbox.workspace.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        usage = (await client.governor.usage())["list_per_minute"]
        assert (usage.used, usage.pending) == (1, 0)


async def test_a_client_that_closes_lets_the_answer_of_a_read_arrive() -> None:
    """And has it written down: nothing is in flight for whoever opens the journal next."""
    async with Sandbox(faults=Faults(slow_s=(0.5, 0.5))) as sandbox:
        sandbox.fail_next(FaultKind.SLOW)
        client = SegmentsClient(sandbox.credentials, journal="memory:", base_url=sandbox.url)
        async with client:
            task = asyncio.create_task(client.list_segments())
            while not sandbox.workspace.requests:
                await asyncio.sleep(0.01)
        assert await task == ()
        limits = replica_of(client).state.ledger.usage(2**62)
        (state, *_) = [limit for limit in limits if limit.limit == "list_per_day"]
        assert state.pending == 0


async def test_a_plan_knows_the_calls() -> None:
    """When each create could start, and which of the quotas it waits for."""
    async with pair(speed=1) as (_, client):
        creates = [CreateFilterSegment(name=f"s{n}", included_filters=filters(n)) for n in range(5)]
        plan = await client.governor.plan(creates)
        assert [one.limit for one in plan] == [None, None, None, "list_per_minute", "list_per_minute"]


async def test_a_429_that_others_caused_closes_the_pool_for_everybody() -> None:
    """Rule 13, for calls: the caller hears of it, the journal knows it, and nobody hammers."""
    async with pair(speed=1, limits=QuotaLimits()) as (sandbox, client):
        for _ in range(3):
            await client.list_segments()
        with pytest.raises(TooManyRequests) as caught:
            await client.list_segments()
        assert caught.value.limit in LISTS
        assert caught.value.ready_at is not None
        closed = (await client.governor.usage())[caught.value.limit]
        assert closed.closed_until == caught.value.ready_at
        with pytest.raises(QuotaExceeded):
            await client.list_segments()
        with pytest.raises(QuotaExceeded):
            await client.create_filter_segment(name="a", included_filters=filters(1))
        assert len(sandbox.workspace.requests) == 4


async def test_a_429_on_a_filter_create_names_its_pool() -> None:
    """Unless the answer counts active segments, it is about the calls."""
    async with pair(speed=1, limits=QuotaLimits()) as (_, client):
        for number in range(3):
            await client.create_filter_segment(name=f"s{number}", included_filters=filters(number))
        with pytest.raises(TooManyRequests) as caught:
            await client.create_filter_segment(name="s3", included_filters=filters(3))
        assert caught.value.limit in LISTS
        assert (await client.governor.usage())["active_segments"].closed_until is None


async def test_a_look_up_spends_from_the_same_pool() -> None:
    """What resolves an unknown create is a list like any other."""
    limits = QuotaLimits(count_late_s=0.5)
    async with pair(speed=1, limits=limits) as (sandbox, client):
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.create_filter_segment(name="a", included_filters=filters(1))
        assert await client.job(caught.value.job_id).wait_until(lambda record: record.adopted, 5)
        assert (await client.governor.usage())["list_per_minute"].used == 2


async def test_a_rejected_key_may_still_ask() -> None:
    """A read that works is what opens the breaker again; one that does not costs no file operation."""
    async with Sandbox() as sandbox:
        wrong = Credentials(workspace_id=sandbox.credentials.workspace_id, api_key="wrong", data_center="01")
        async with SegmentsClient(wrong, journal="memory:", base_url=sandbox.url) as client:
            for _ in range(2):
                with pytest.raises(AuthenticationFailed):
                    await client.list_segments()
            assert (await client.governor.usage())["list_per_minute"].used == 2


async def test_two_processes_share_the_calls(tmp_path: Any) -> None:
    """One journal, one pool."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with pair(speed=1, journal=journal) as (sandbox, one):
        async with SegmentsClient(sandbox.credentials, journal=journal, base_url=sandbox.url, limits=LIMITS) as other:
            await one.list_segments()
            await other.list_segments()
            await one.list_segments()
            with pytest.raises(QuotaExceeded):
                await other.list_segments()


async def test_no_answer_at_all_is_said_after_the_last_attempt() -> None:
    """Each attempt was a send of its own."""
    async with pair(speed=1, max_attempts=2) as (sandbox, client):
        sandbox.fail_next(FaultKind.SERVER_ERROR, 2)
        with pytest.raises(ServerError):
            await client.list_segments()
        assert (await client.governor.usage())["list_per_minute"].used == 2
