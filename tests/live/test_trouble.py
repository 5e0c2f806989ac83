"""What goes wrong around a send: each once broke a promise, and is held here."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    CallbackReceiver,
    CreateFileSegment,
    InputError,
    JobState,
    JournalError,
    NotSent,
    Operation,
    OutcomeUnknown,
    PreflightError,
    QuotaExceeded,
    QuotaLimits,
    SegmentsClient,
    TooManyRequests,
)
from moe_segments.client.client import replica_of
from moe_segments.core.events import CallbackReceived, ExternalUsage, Reserved
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.sandbox import DEMO_CREDENTIALS
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.core.state.workspace import WorkspaceState

pytestmark = pytest.mark.asyncio

FIELDS: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "file_url": "https://h.example/f.csv"}
LIMITS = QuotaLimits().scaled(3_600)


def create(name: str, **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(**(FIELDS | {"name": name, "expiry_time": 30, "rows": 3} | fields))


class Service:
    """Answers what it is told to, and counts."""

    def __init__(self, status: int = 202, headers: dict[str, str] | None = None, body: object = None) -> None:
        self.status, self.headers, self.body = status, headers or {}, body
        self.hits = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.hits += 1
        return web.json_response(self.body or {"success": True}, status=self.status, headers=self.headers)

    def server(self, port: int | None = None) -> TestServer:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.answer)
        return TestServer(app, port=port)


def client_at(server: BaseTestServer, **options: Any) -> SegmentsClient:
    settings: dict[str, Any] = {"journal": "memory:", "limits": LIMITS, "requests_per_s": 500}
    settings |= {"preflight": "off"}  # the files of these tests are nowhere
    return SegmentsClient(DEMO_CREDENTIALS, base_url=str(server.make_url("")), **(settings | options))


async def test_a_number_that_no_file_has_does_not_break_the_log() -> None:
    """It would be in the log for ever: the edge refuses it, and a log that holds one still opens."""
    async with Service().server() as server, client_at(server) as client:
        with pytest.raises(InputError):
            await client.governor.record_external(operations=10**19)
        await replica_of(client).record(ExternalUsage(0, 10**30, replica_of(client).now_us()))
        await replica_of(client).record(CallbackReceived("nobody", 1, "d", "processed", {}, 2**63))
        assert (await client.governor.usage())["users_per_day"].used >= 2_000_000


async def test_a_reservation_asked_together_with_a_fact_knows_it(tmp_path: Path) -> None:
    """One step of the journal for both must not admit past what was told first."""
    replica = Replica(SqliteJournal(tmp_path / "q.db", "W"), QuotaLimits())
    await replica.open()

    def told(_: WorkspaceState, now_us: int) -> tuple[list[ExternalUsage], None]:
        return [ExternalUsage(10, 0, now_us)], None

    def used(state: WorkspaceState, now_us: int) -> tuple[list[Reserved], int]:
        return [], state.ledger.usage(now_us)[0].used

    _, seen = await asyncio.gather(replica.ask(told), replica.ask(used))
    assert seen == 10
    await replica.close()


@pytest.mark.parametrize("op", ["archive", "unarchive"])
async def test_a_429_on_a_call_without_quota_is_not_hammered(op: str) -> None:
    """`submit_many` puts it back in line, and the line has to wait for what the service named."""
    from moe_segments import ArchiveSegment, UnarchiveSegment

    operation: Operation = ArchiveSegment(name="s") if op == "archive" else UnarchiveSegment(name="s")
    service = Service(429, {"Retry-After": "30"}, {"title": "Too Many Requests"})
    async with service.server() as server, client_at(server) as client:
        many = client.submit_many([operation])
        waiting = asyncio.ensure_future(anext(many))
        while not service.hits:
            await asyncio.sleep(0.01)
        await asyncio.wait([waiting], timeout=1)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
    assert service.hits == 1


@pytest.mark.parametrize("ahead_s", [-3_600, 3_600])
async def test_a_journal_of_another_time_shows_people_their_own(ahead_s: int) -> None:
    """Its clock runs an hour before or behind: moments are converted, both ways, and waits are not longer."""
    service = Service(429, {"Retry-After": "1"}, {"title": "Too Many Requests"})
    journal = MemoryJournal(clock=lambda: time.time_ns() // 1_000 + ahead_s * 1_000_000)
    near = timedelta(seconds=5)
    async with service.server() as server, client_at(server, journal=journal, limits=QuotaLimits()) as client:
        with pytest.raises(TooManyRequests) as told:
            await client.archive_segment(name="s")
        assert told.value.ready_at is not None
        assert abs(told.value.ready_at - datetime.now(UTC) - timedelta(minutes=1)) < near
        assert told.value.wait_s == pytest.approx(60)
        for spent in (timedelta(minutes=50), timedelta()):
            await client.governor.record_external(operations=5, at=datetime.now(UTC) - spent)
        with pytest.raises(InputError, match="future"):
            await client.governor.record_external(operations=1, at=datetime.now(UTC) + timedelta(minutes=10))
        with pytest.raises(QuotaExceeded) as refused:
            await client.submit(create("a"))
        assert refused.value.ready_at is not None
        assert abs(refused.value.ready_at - datetime.now(UTC) - timedelta(seconds=refused.value.wait_s)) < near
        assert abs(refused.value.wait_s - 600 - 62.8) < near.total_seconds()
        (planned,) = await client.governor.plan([create("a")])
        assert planned.start is not None
        assert abs(planned.start - refused.value.ready_at) < near
        used = (await client.governor.usage())["operations_per_hour"]
        assert used.next_release is not None
        assert abs(used.next_release - refused.value.ready_at) < near


@pytest.mark.parametrize("ahead_s", [-3_600, 3_600])
async def test_a_minute_named_by_the_service_is_a_minute_on_any_journal_s_clock(ahead_s: int) -> None:
    """`submit_many` waits for what a 429 named, not until the journal's moment on the wall clock."""
    service = Service(429, {"Retry-After": "1"}, {"title": "Too Many Requests"})
    journal = MemoryJournal(clock=lambda: time.time_ns() // 1_000 + ahead_s * 1_000_000)
    async with service.server() as server, client_at(server, journal=journal) as client:
        many = client.submit_many([ArchiveSegment(name="s")])
        waiting = asyncio.ensure_future(anext(many))
        while not service.hits:
            await asyncio.sleep(0.01)
        begun_s, service.status = time.monotonic(), 200
        outcome = await asyncio.wait_for(waiting, 60)
        assert outcome.error is None
        assert time.monotonic() - begun_s > 0.8


async def test_a_429_says_how_long_to_wait_whatever_the_journal_s_clock() -> None:
    """The minute that the service named, counted from its answer."""
    service = Service(429, {"Retry-After": "60"}, {"title": "Too Many Requests"})
    journal = MemoryJournal(clock=lambda: time.time_ns() // 1_000 + 3_600 * 1_000_000)
    async with service.server() as server, client_at(server, journal=journal) as client:
        with pytest.raises(TooManyRequests) as caught:
            await client.archive_segment(name="s")
    assert 55 < caught.value.wait_s <= 61


async def test_what_cannot_be_built_reserves_nothing() -> None:
    """A receiver that is not reachable, a publisher that gives no address: refused before anything is spent."""
    service = Service()
    async with service.server() as server:
        async with client_at(server, callbacks=CallbackReceiver()) as client:
            with pytest.raises(InputError):
                await client.submit(create("a"))
            assert (await client.governor.usage())["operations_per_hour"].used == 0
    assert service.hits == 0


async def test_a_publisher_that_fails_is_an_outcome_like_any_other(tmp_path: Path) -> None:
    """Each operation of many ends in exactly one, whatever its publisher raises or returns."""
    (tmp_path / "f.csv").write_text("u\n")

    async def publish(path: Path) -> str:
        if path.name == "f.csv":
            raise OSError("no such bucket")
        return ""

    (tmp_path / "g.csv").write_text("u\n")
    files = [tmp_path / "f.csv", tmp_path / "g.csv"]
    operations = [create(f"s{n}", file_url=None, file=file) for n, file in enumerate(files)]
    async with Service().server() as server, client_at(server, publish=publish) as client:
        outcomes = [outcome async for outcome in client.submit_many(operations)]
    assert {type(outcome.error) for outcome in outcomes} == {PreflightError, InputError}


async def test_a_journal_that_fails_after_the_send_leaves_the_outcome_unknown() -> None:
    """'Nothing was sent' would be untrue: the service has it."""
    service = Service()
    journal = MemoryJournal()
    async with service.server() as server, client_at(server, journal=journal) as client:
        works = journal.append

        async def full(*_: object, **__: object) -> None:
            raise JournalError("the disk is full")

        journal.append = full  # type: ignore[method-assign,assignment]  # the disk's state
        with pytest.raises(OutcomeUnknown, match="HTTP 202"):
            await client.submit(create("a"))
        journal.append = works  # type: ignore[method-assign]  # and room again
    assert service.hits == 1


async def test_many_requests_at_a_slow_pace_all_leave() -> None:
    """Waiting for one's turn beyond the fence means a new reservation, not a failure."""
    service = Service()
    async with service.server() as server, client_at(server, requests_per_s=4) as client:
        wide = [client.archive_segment(name=f"s{n}") for n in range(14)]
        assert len(await asyncio.gather(*wide)) == 14
    assert service.hits == 14


async def test_who_awaits_a_result_hears_of_the_closing() -> None:
    """Nobody else would wake him."""
    async with Service().server() as server, CallbackReceiver().serve() as receiver:
        async with client_at(server, callbacks=receiver) as client:
            job = await client.submit(create("a"))
            waiting = asyncio.ensure_future(job.result())
            await asyncio.sleep(0.05)
        with pytest.raises(JournalError, match="closed"):
            await asyncio.wait_for(waiting, 20)


async def test_a_callback_for_a_client_that_is_gone_is_asked_to_come_again() -> None:
    """The journal is still there; 404 would tell the service that nobody wants it."""
    async with Service().server() as server, CallbackReceiver().serve() as receiver:
        async with client_at(server, callbacks=receiver):
            pass
        reply = await receiver.decide(DEMO_CREDENTIALS.scope, "token", "POST", None, b"{}")
        assert reply.status == 503


async def test_closing_does_not_wait_for_who_sleeps_between_two_sends() -> None:
    """He is told that nothing more will be sent; what was sent stays as doubtful as it was."""
    service = Service(503)
    async with service.server() as server:
        async with client_at(server, limits=QuotaLimits()) as client:
            sleeping = asyncio.ensure_future(client.archive_segment(name="s", max_wait_s=math.inf))
            while not any(r.state == JobState.UNKNOWN for r in replica_of(client).state.jobs.records.values()):
                await asyncio.sleep(0.01)
            begun = time.monotonic()
        assert time.monotonic() - begun < 20
        with pytest.raises((OutcomeUnknown, NotSent)):
            await sleeping


async def test_closing_tells_who_sleeps_after_a_send_that_never_left() -> None:
    """The journal hears first that nobody sends it again, which takes some steps of the loop."""
    limits = QuotaLimits()
    nobody = Service().server(free_port())
    await nobody.start_server()
    async with client_at(nobody, limits=limits) as client:
        await nobody.close()
        sleeping = asyncio.ensure_future(client.archive_segment(name="s", max_wait_s=math.inf))
        while not any(record.reason for record in replica_of(client).state.jobs.records.values()):
            await asyncio.sleep(0.01)
    with pytest.raises(NotSent):
        await sleeping
    assert [record.state for record in replica_of(client).state.jobs.records.values()] == [JobState.NOT_SENT]


async def test_a_receiver_of_its_own_writes_a_doubt_down(tmp_path: Path) -> None:
    """Its first callback would otherwise make the witness forget that history may be lost."""
    path, scope = tmp_path / "q.db", DEMO_CREDENTIALS.scope
    async with Service().server() as server, client_at(server, journal=f"sqlite:///{path}") as client:
        await client.submit(create("a"))
    path.unlink()
    async with CallbackReceiver("http://127.0.0.1:9/x", journal=f"sqlite:///{path}", scopes=[scope]):
        pass
    replica = Replica(SqliteJournal(path, scope), LIMITS)
    await replica.open()
    assert replica.state.ledger.quarantine
    await replica.close()


async def test_an_answer_that_is_not_as_documented_holds_the_next_one_back() -> None:
    """The first may have worked, so its segment's state is not known."""
    service = Service(body=["not", "an", "object"])
    update = AddUsers(**(FIELDS | {"name": "s", "rows": 1}))
    async with service.server() as server, client_at(server) as client:
        outcomes = [outcome async for outcome in client.submit_many([update, update])]
    assert service.hits == 1
    assert isinstance(outcomes[1].error, NotSent)
    assert outcomes[0].job is not None


async def test_a_question_that_fails_is_told_to_its_asker_alone() -> None:
    """One mistake in a group is not the others'."""
    replica = Replica(MemoryJournal(), QuotaLimits())
    await replica.open()

    def wrong(*_: object) -> tuple[list[Reserved], None]:
        raise ValueError("a mistake")

    ask = Ask(job="j", operation={}, cost=Cost(1), keys=("s",), fence_us=1, timeout_us=1)
    assert ask.cost.operations == 1
    fine, failed = await asyncio.gather(
        replica.ask(lambda _, now_us: ((), now_us)), replica.ask(wrong), return_exceptions=True
    )
    assert isinstance(fine, int)
    assert isinstance(failed, ValueError)
    await replica.close()


async def test_a_repeat_that_never_leaves_does_not_make_the_first_send_unsent() -> None:
    """The service had the first one: nobody may hear that nothing was sent, or send it once more in silence."""
    service, limits = Service(500), QuotaLimits().scaled(36_000)
    server = service.server(free_port())
    await server.start_server()
    async with client_at(server, limits=limits, max_attempts=2) as client:
        archiving = asyncio.ensure_future(client.submit(ArchiveSegment(name="s"), max_wait_s=math.inf, job_id="a"))
        adding = client.submit(AddUsers(**(FIELDS | {"name": "t", "rows": 1})), job_id="b")
        with pytest.raises(OutcomeUnknown):
            await adding
        while service.hits < 2:
            await asyncio.sleep(0.01)
        port = server.port
        await server.close()
        with pytest.raises(OutcomeUnknown):
            await archiving
        again = AddUsers(**(FIELDS | {"name": "t", "rows": 1}))
        with pytest.raises(OutcomeUnknown):
            await client.submit(again, job_id="b", on_unknown="retry", max_wait_s=math.inf)
        jobs = replica_of(client).state.jobs.records
        assert {name: jobs[name].state for name in ("a", "b")} == dict.fromkeys("ab", JobState.UNKNOWN)
        service.status = 202
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", service.answer)
        async with TestServer(app, port=port):
            assert (await client.submit(again, job_id="b")).state == JobState.UNKNOWN
            assert service.hits == 2
            job = await client.submit(again, job_id="b", on_unknown="retry", max_wait_s=math.inf)
            assert (job.state, job.duplicate_possible, service.hits) == (JobState.ACCEPTED, True, 3)


async def test_what_was_never_sent_is_no_duplicate_when_it_is_sent() -> None:
    """Whatever was asked for in case of doubt: there was none."""
    service = Service()
    server = service.server(free_port())
    await server.start_server()
    port = server.port
    async with client_at(server, max_attempts=1) as client:
        await server.close()
        for _ in range(2):
            with pytest.raises(NotSent):
                await client.submit(create("a"), job_id="j", on_unknown="retry")
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", service.answer)
        async with TestServer(app, port=port):
            assert not (await client.submit(create("a"), job_id="j", on_unknown="retry")).duplicate_possible
