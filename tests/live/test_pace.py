"""The pace: a slot carries a request, in order, however many wait and whatever becomes of them. In virtual time."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from moe_segments import (
    ArchiveSegment,
    CreateFileSegment,
    CreateFilterSegment,
    Credentials,
    JobState,
    JournalError,
    NotSent,
    OutcomeUnknown,
    QuotaExceeded,
    QuotaLimits,
    SegmentsClient,
)
from moe_segments.core.events import Reserved
from moe_segments.governor.pace import Pace
from moe_segments.journal.memory import MemoryJournal
from moe_segments.models.filters import attribute
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from moe_segments.core.events import Batch, Event
    from moe_segments.journal import Decide

CREDENTIALS: Final = Credentials(workspace_id="W1", api_key="a-key-of-some-length", data_center="01")
LARGE: Final = QuotaLimits(operations_per_hour=300, operations_per_day=10**6, users_per_day=10**9)
ANSWER_S: Final = 0.05
AHEAD_S: Final = 10.0


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test in a loop whose clock jumps and whose network is its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        run_virtually(functools.partial(test, **arguments), in_memory=True)

    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Service:
    """Accepts everything, and notes when it came."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        self.arrivals.append((now_s(), str(body.get("name", request.path))))
        status = self.status
        await asyncio.sleep(ANSWER_S)
        if status != 200:
            return web.json_response({"title": "no"}, status=status)
        if request.method == "GET":
            return web.json_response({"data": []})
        if "included_filters" in body:
            made = {"id": f"id {body['name']}", "name": body["name"], "type": "FILTER", "status": "active"}
            return web.json_response({"data": made}, status=201)
        return web.json_response({"success": True})

    def times_s(self, what: str = "") -> list[float]:
        """When those whose name begins so arrived."""
        return [at_s for at_s, name in self.arrivals if name.startswith(what)]


class SlowJournal(MemoryJournal):
    """A journal on a far server, which may fail."""

    def __init__(self, latency_s: float) -> None:
        super().__init__(clock=journal_clock)
        self.latency_s, self.failures = latency_s, 0

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        await asyncio.sleep(self.latency_s)
        if self.failures:
            self.failures -= 1
            raise JournalError("the server is away")
        return await super().transact(after, decide, batch_id=batch_id)

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        await asyncio.sleep(self.latency_s)
        return await super().append(events, batch_id=batch_id)


@asynccontextmanager
async def served(rate: float = 5.0, **options: Any) -> AsyncIterator[tuple[Service, SegmentsClient]]:
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", service.answer)
    settings: dict[str, Any] = {"journal": MemoryJournal(clock=journal_clock), "preflight": "off"}
    async with TestServer(app, host="127.0.0.1") as server:
        url = str(server.make_url(""))
        async with SegmentsClient(
            CREDENTIALS, base_url=url, requests_per_s=rate, clock=now_s, **(settings | options)
        ) as client:
            yield service, client


def archive(number: int) -> ArchiveSegment:
    return ArchiveSegment(name=f"old {number:03}")


def creation(number: int = 0) -> CreateFileSegment:
    return CreateFileSegment(
        name=f"new {number:03}",
        attribute_name="ID",
        attribute_type="string",
        expiry_time=30,
        file_url="https://files.example/f",
        rows=1,
    )


def start(client: SegmentsClient, operation: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(client.submit(operation, **options))


def assert_even(times_s: Sequence[float], rate: float, *, within: float = 1.05) -> None:
    """One after another, no two closer than the pace allows, and no slot without a request."""
    gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
    assert min(gaps_s) >= 1 / rate - 1e-3
    assert times_s[-1] - times_s[0] <= within * len(times_s) / rate


# The figures


@in_virtual_time
async def test_a_backlog_longer_than_the_fence_uses_every_slot_in_order() -> None:
    """400 archives at once and a create beside them, which starts at its place in line."""
    async with served() as (service, client):
        waiting = [start(client, archive(number)) for number in range(400)]
        await asyncio.sleep(0)
        waiting.append(start(client, creation(), max_wait_s=600))
        jobs = await asyncio.gather(*waiting)
        assert {job.state for job in jobs} == {JobState.ACCEPTED}
        assert {job.record.attempt for job in jobs} == {1}  # no reservation grew too old to be used
        assert service.arrivals[399][0] <= 1.05 * 400 / 5
        assert service.times_s("new")[0] <= 1.05 * 401 / 5
        assert [name for _, name in service.arrivals] == [f"old {number:03}" for number in range(400)] + ["new 000"]
        assert_even(service.times_s(), 5)


@in_virtual_time
async def test_submit_many_keeps_its_pace() -> None:
    async with served(2) as (service, client):
        outcomes = [outcome async for outcome in client.submit_many(archive(number) for number in range(120))]
        assert [outcome.error for outcome in outcomes] == [None] * 120
        assert service.times_s()[-1] <= 1.10 * 120 / 2


@in_virtual_time
async def test_a_quota_larger_than_the_fence_covers_is_used_at_the_pace() -> None:
    async with served(limits=LARGE) as (service, client):
        await asyncio.gather(*(client.submit(creation(number)) for number in range(250)))
        assert service.times_s()[-1] <= 1.10 * 250 / 5


@in_virtual_time
async def test_a_window_that_opens_for_many_at_once_is_used_at_the_pace() -> None:
    """They waited for quota, and are all free to leave in the same moment."""
    async with served(limits=LARGE) as (service, client):
        await asyncio.gather(*(client.submit(creation(number), max_wait_s=math.inf) for number in range(600)))
        second = service.times_s()[300:]
        assert_even(second, 5)


# Who goes first, and who is refused


@in_virtual_time
async def test_who_does_not_fit_behind_those_in_the_pace_is_refused_at_once() -> None:
    """Of 320 creates 300 leave at the pace; the others know at once, not when their turn would come."""
    async with served(limits=LARGE) as (service, client):
        waiting = [start(client, creation(number)) for number in range(320)]
        await asyncio.sleep(1)
        refused = [task for task in waiting if task.done() and task.exception() is not None]
        assert len(refused) == 20
        assert all(isinstance(task.exception(), QuotaExceeded) for task in refused)
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(service.arrivals) == 300


@in_virtual_time
async def test_who_comes_later_and_does_not_fit_hears_it_as_soon_as_the_line_moves() -> None:
    """Asked for one by one: nobody waits for a turn that its quota cannot have, and the time it is told is true."""
    async with served(limits=LARGE) as (service, client):
        waiting = []
        for number in range(320):
            waiting.append(start(client, creation(number)))
            for _ in range(10):
                await asyncio.sleep(0)
        await asyncio.sleep(6)
        refused = [task.exception() for task in waiting if task.done()]
        refused = [error for error in refused if error is not None]
        assert len(refused) == 20
        for error in refused:
            assert isinstance(error, QuotaExceeded)
            assert error.limit == "operations_per_hour"
            assert error.wait_s > 3_600
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(service.arrivals) == 300


@in_virtual_time
async def test_callers_go_before_look_ups_of_lost_creates() -> None:
    """Forty lost creates are looked for at the same moment; archives asked for a little later leave first."""
    journal = MemoryJournal(clock=journal_clock)
    async with served(limits=LARGE, journal=journal) as (service, client):
        service.status = 503
        lost = [start(client, creation(number)) for number in range(40)]
        await asyncio.gather(*lost, return_exceptions=True)
        assert all(isinstance(task.exception(), OutcomeUnknown) for task in lost)
        service.status = 200
        await asyncio.sleep(LARGE.count_late_s / 15 - 10)  # until shortly before they are looked for again
        looked_up, begun_s = len(service.times_s("/v3")), now_s()
        await asyncio.gather(*(client.submit(archive(number)) for number in range(200)))
        assert service.times_s("old")[-1] - begun_s <= 1.05 * 201 / 5
        before = len([at_s for at_s in service.times_s("/v3") if at_s < service.times_s("old")[-1]])
        assert before <= looked_up + 1
        assert_even([at_s for at_s in service.times_s() if at_s >= begun_s][:200], 5)
        await asyncio.sleep(60)
        assert len(service.times_s("/v3")) == looked_up + 40  # and then every one of them leaves
        events = [event for batch in await journal.read(0) for event in batch.events]
        reads = [event for event in events if isinstance(event, Reserved) and event.operation["op"] == "list"]
        assert len(reads) <= len(service.times_s("/v3")) + 2  # none was reserved long before it could leave


@in_virtual_time
async def test_requests_of_all_kinds_share_one_line() -> None:
    """Reads, creates with filters and archives in the order in which they were asked for."""
    async with served() as (service, client):
        waiting: list[asyncio.Task[Any]] = []
        for number in range(45):
            filters = attribute("city").is_in(f"c{number}")
            waiting += [
                start(client, archive(number)),
                start(client, CreateFilterSegment(name=f"made {number}", included_filters=filters)),
            ]
            await asyncio.sleep(0.01)
            waiting.append(asyncio.ensure_future(client.list_segments(f"seen {number}")))
            await asyncio.sleep(0.01)
        await asyncio.gather(*waiting, return_exceptions=True)
        kinds = [name[:3] for _, name in service.arrivals]
        assert kinds[:75] == ["old", "mad", "/v3"] * 25  # then the calls of the minute are spent
        assert_even(service.times_s()[:75], 5)


# Whoever goes away


@in_virtual_time
async def test_a_caller_that_is_cancelled_in_the_pace_costs_no_slot() -> None:
    """Those with a reservation and those without: nothing of them arrives, nothing counts, the others close up."""
    async with served(limits=LARGE) as (service, client):
        waiting = [start(client, creation(number)) for number in range(200)]
        await asyncio.sleep(1.01)
        for number, task in enumerate(waiting):
            if number % 4 and number >= 10:
                task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        kept = [f"new {number:03}" for number in range(200) if number < 10 or not number % 4]
        assert [name for _, name in service.arrivals] == kept
        assert_even(service.times_s(), 5)
        assert (await client.governor.usage())["operations_per_hour"].used == len(kept)


@in_virtual_time
async def test_the_last_one_that_is_cancelled_leaves_its_slot_to_the_next_comer() -> None:
    """At a pace of one in a hundred seconds it would show."""
    async with served(0.01) as (service, client):
        await client.submit(archive(0))
        going = start(client, archive(1))
        await asyncio.sleep(99)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        await asyncio.sleep(50)
        begun_s = now_s()
        await client.submit(archive(2))
        assert service.times_s()[-1] - begun_s < 1
        assert len(service.arrivals) == 2


@in_virtual_time
async def test_closing_ends_those_that_wait_in_the_pace() -> None:
    """Each hears that nothing was sent, and nothing stays reserved."""
    journal = MemoryJournal(clock=journal_clock)
    async with served(limits=LARGE, journal=journal) as (service, client):
        waiting = [start(client, creation(number)) for number in range(200)]
        await asyncio.sleep(0.5)
        waiting += [asyncio.ensure_future(client.list_segments(f"seen {number}")) for number in range(20)]
        await asyncio.sleep(0.51)
        begun_s = now_s()
        await client.aclose()
        assert now_s() - begun_s < 1
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(one, NotSent) for one in ended) == 220 - len(service.arrivals)
        states = [record.state for record in client._replica.state.jobs.records.values()]
        assert states.count(JobState.ACCEPTED) == len(service.arrivals) == 6
        assert set(states) <= {JobState.ACCEPTED, JobState.NOT_SENT}


@in_virtual_time
async def test_a_key_that_is_rejected_stops_the_line_without_a_slot() -> None:
    """What is already reserved does not leave any more, and a read that tests the key goes at once."""
    async with served(1) as (service, client):
        waiting = [start(client, archive(number)) for number in range(30)]
        await asyncio.sleep(2.5)
        service.status = 401
        await asyncio.gather(*waiting, return_exceptions=True)
        assert now_s() < 8
        assert len(service.arrivals) <= 5
        service.status = 200
        begun_s = now_s()
        await client.list_segments("x")
        assert now_s() - begun_s <= 1 + 2 * ANSWER_S


# Paces, fences and journals


@pytest.mark.parametrize(("rate", "count"), [(0.01, 4), (0.1, 12), (1.0, 60), (1_000.0, 400), (10**9, 300)])
@in_virtual_time
async def test_any_pace_is_kept(rate: float, count: int) -> None:
    async with served(rate) as (service, client):
        await asyncio.gather(*(client.submit(archive(number)) for number in range(count)))
        times_s = service.times_s()
        assert len(times_s) == count
        assert times_s[-1] - times_s[0] <= max(1.05 * count / rate, 1)
        if rate <= 1_000:
            assert min(after - before for before, after in itertools.pairwise(times_s)) >= 1 / rate - 1e-3


@pytest.mark.parametrize("latency_s", [0.0, 0.1, 0.2])
@in_virtual_time
async def test_a_short_fence_is_kept(latency_s: float) -> None:
    """Scaled windows have a fence of two seconds."""
    limits = QuotaLimits().scaled(60)
    async with served(4, limits=limits, journal=SlowJournal(latency_s)) as (service, client):
        await asyncio.gather(*(client.submit(archive(number)) for number in range(100)))
        assert service.times_s()[-1] <= 1.05 * 100 / 4 + latency_s * 10
        records = client._replica.state.jobs.records.values()
        assert {record.attempt for record in records} == {1}  # no reservation grew too old to be used


@pytest.mark.parametrize("rate", [0.1, 5.0, 100.0])
@in_virtual_time
async def test_a_slow_journal_costs_no_slot(rate: float) -> None:
    """A reservation takes longer than a slot of the pace lasts."""
    async with served(rate, journal=SlowJournal(1.0)) as (service, client):
        count = round(min(300, 60 * rate))
        await asyncio.gather(*(client.submit(archive(number)) for number in range(count)))
        assert_even(service.times_s(), rate)


@in_virtual_time
async def test_a_journal_that_fails_for_a_moment_costs_those_who_asked_and_no_slot() -> None:
    journal = SlowJournal(0.1)
    async with served(journal=journal) as (service, client):
        first = [start(client, archive(number)) for number in range(30)]
        await asyncio.sleep(0.01)
        journal.failures = 1
        await asyncio.sleep(0.2)
        second = [start(client, archive(number)) for number in range(30, 60)]
        ended = await asyncio.gather(*first, *second, return_exceptions=True)
        assert all(isinstance(one, JournalError) for one in ended[:30])
        assert not any(isinstance(one, BaseException) for one in ended[30:])
        assert_even(service.times_s(), 5)


@in_virtual_time
async def test_two_clients_on_one_journal_keep_the_quota_and_their_pace() -> None:
    """A pace is a client's own; what waits in it holds nothing that the other could use."""
    journal = MemoryJournal(clock=journal_clock)
    limits = QuotaLimits(operations_per_hour=100, operations_per_day=10**4)
    async with served(1, limits=limits, journal=journal) as (service, first):
        url = first.settings.base_url
        second = SegmentsClient(
            CREDENTIALS, base_url=url, requests_per_s=5, clock=now_s, limits=limits, journal=journal, preflight="off"
        )
        async with second:
            waiting = [start(first, creation(number)) for number in range(100)]
            await asyncio.sleep(1)
            waiting += [start(second, creation(number + 100)) for number in range(100)]
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert len(service.arrivals) == 100
        assert len(service.times_s("new 1")) > 50
        assert sum(isinstance(one, QuotaExceeded) for one in ended) == 100


# The line itself


@pytest.mark.asyncio
async def test_who_comes_as_a_turn_is_free_does_not_overtake_who_waits_for_it() -> None:
    """The loop was busy when the turn came, so that it is free while the one who waits has not woken yet."""
    pace, left = Pace(20, AHEAD_S), []

    async def one(name: str) -> None:
        with pace.place() as place:
            assert await pace.turn(place, lambda: True)
            left.append(name)

    await one("first")
    waiting = [asyncio.create_task(one(name)) for name in ("second", "third")]
    await asyncio.sleep(0)
    time.sleep(0.06)  # noqa: ASYNC251 - the loop is to be late
    await one("fourth")
    await asyncio.gather(*waiting)
    assert left == ["first", "second", "third", "fourth"]


@in_virtual_time
async def test_a_caller_overtakes_a_look_up_that_waits_for_its_turn() -> None:
    """Also where the look-up was the first in line."""
    pace, left = Pace(1, AHEAD_S), []

    async def one(name: str, *, in_background: bool = False) -> None:
        with pace.place(in_background=in_background) as place:
            assert await pace.turn(place, lambda: True)
            left.append(name)

    waiting = [asyncio.create_task(one("first"))]
    await asyncio.sleep(0.1)
    waiting += [asyncio.create_task(one(name, in_background=True)) for name in ("look-up", "another")]
    await asyncio.sleep(0.1)
    waiting += [asyncio.create_task(one(name)) for name in ("second", "third")]
    await asyncio.gather(*waiting)
    assert left == ["first", "second", "third", "look-up", "another"]


@in_virtual_time
async def test_a_turn_given_in_the_moment_of_a_cancellation_is_handed_on() -> None:
    """The second in line leaves at that turn, not a hundred seconds later."""
    pace, left = Pace(0.01, AHEAD_S), []

    async def one(name: str, may_leave: Callable[[], bool] = lambda: True) -> None:
        with pace.place() as place:
            if await pace.turn(place, may_leave):
                left.append((name, now_s()))

    def cancels() -> bool:
        asyncio.get_running_loop().call_soon(first.cancel)
        return True

    await one("before")
    first, second = asyncio.create_task(one("first", cancels)), asyncio.create_task(one("second"))
    await asyncio.gather(first, second, return_exceptions=True)
    assert first.cancelled()
    assert [name for name, _ in left] == ["before", "second"]
    assert left[-1][1] == pytest.approx(100, abs=0.01)


@in_virtual_time
async def test_room_comes_back_whatever_becomes_of_a_place() -> None:
    """Given up, used or never held: what is counted is what is held."""
    pace = Pace(1, AHEAD_S)
    all_of_it = pace.room()
    assert all_of_it == 11
    with pace.place() as kept, pace.place() as unused:
        kept.hold()
        kept.hold()
        assert pace.room() == all_of_it - 1
        assert not unused.held
        assert pace.room(in_background=True) == 0
    assert pace.room() == all_of_it
    with pace.place() as used:
        used.hold()
        assert await pace.turn(used, lambda: True)
        assert pace.held == 0
    await asyncio.sleep(20)
    assert pace.room() == all_of_it
