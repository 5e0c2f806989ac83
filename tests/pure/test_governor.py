"""The governor's promises, in virtual time over the memory journal."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import (
    ActiveObserved,
    Adopted,
    Answered,
    CallbackReceived,
    Event,
    KeyAccepted,
    KeyRejected,
    NeverSent,
    Unknown,
)
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask
from moe_segments.errors import (
    AuthenticationFailed,
    InputError,
    JournalError,
    NotSent,
    QuotaExceeded,
    QuotaNeverFits,
    SegmentBusy,
)
from moe_segments.governor.governor import Governor, Grant
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.models import AddUsers, ArchiveSegment, CreateFileSegment
from moe_segments.testing import EPOCH_US, journal_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.virtual_time

ORIGIN = "https://api-01.moengage.com"
LIMITS = QuotaLimits(guard_s=0, external_active_margin=0)
HOUR = 3_600.0
FENCE_S, TIMEOUT_S = 30, 60
ONE = Cost(1)
LEASE_S = FENCE_S + TIMEOUT_S + LIMITS.count_late_s


class Desk:
    """A governor with short words for what a client does with it."""

    def __init__(self, journal: MemoryJournal, limits: QuotaLimits) -> None:
        self.replica = Replica(journal, limits)
        self.governor = Governor(self.replica, limits, clock=asyncio.get_running_loop().time)
        self.count = 0

    async def reserve(
        self,
        cost: Cost = ONE,
        *,
        max_wait_s: float = 0,
        name: str | None = None,
        op: str = "add",
        token: bool = False,
        operation: dict[str, object] | None = None,
        keys: tuple[str, ...] = (),
    ) -> Grant:
        self.count += 1
        job = f"job-{id(self)}-{self.count}"
        grant = await self.governor.reserve(
            Ask(
                job=job,
                operation=operation or {"op": op, "name": name or job},
                cost=cost,
                keys=keys or (name or job,),
                fence_us=FENCE_S * 1_000_000,
                timeout_us=TIMEOUT_S * 1_000_000,
                key_fingerprint="key",
                token_sha256=f"token-{job}" if token else None,
                expiry_days=30 if op == "create" else None,
            ),
            max_wait_s=max_wait_s,
        )
        assert grant is not None
        return grant

    async def tell(self, event: Event) -> None:
        await self.replica.record(event)

    async def answered(self, grant: Grant, status: int = 202) -> None:
        accepted = {"cs_name": "x"} if status == 202 else None
        error = None if accepted else {"title": "no"}
        await self.tell(Answered(grant.job, grant.attempt, status, accepted=accepted, error=error))

    async def callback(self, grant: Grant, outcome: str = "processed", found: int | None = None) -> None:
        await self.tell(CallbackReceived(grant.job, grant.attempt, "digest", outcome, {}, found))

    async def send(self, cost: Cost = ONE, **options: object) -> Grant:
        grant = await self.reserve(cost, **options)  # type: ignore[arg-type]  # the same options
        await self.answered(grant)
        return grant


@asynccontextmanager
async def a_desk(limits: QuotaLimits = LIMITS, journal: MemoryJournal | None = None) -> AsyncIterator[Desk]:
    desk = Desk(journal or MemoryJournal(clock=journal_clock), limits)
    await desk.replica.open()
    await desk.governor.open(ORIGIN, on_lost_journal="wait", announce=False)
    try:
        yield desk
    finally:
        await desk.governor.close()
        await desk.replica.close()


def now_s() -> float:
    return asyncio.get_running_loop().time()


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(EPOCH_US / 1_000_000 + seconds, UTC)


async def test_the_eleventh_operation_of_an_hour_is_refused_with_every_fact() -> None:
    """Ten operations an hour; the refusal says what is full, by how much, and until when."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.send()
            await asyncio.sleep(10)

        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()

    error = caught.value
    assert (error.limit, error.used, error.requested, error.capacity) == ("operations_per_hour", 10, 1, 10)
    assert error.ready_at == at(HOUR)
    assert error.wait_s == HOUR - 100


async def test_a_slot_is_used_as_soon_as_it_is_free() -> None:
    """With no guard the eleventh leaves an hour after the first was answered, not later."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.send()
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(HOUR, abs=0.01)


async def test_the_guard_is_waited_for() -> None:
    """A counter of whole minutes keeps an operation for up to a minute longer."""
    limits = QuotaLimits()
    async with a_desk(limits) as desk:
        for _ in range(10):
            await desk.send()
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(HOUR + limits.guard_for(HOUR), abs=0.01)


async def test_an_operation_counts_from_its_answer_not_from_its_send() -> None:
    """The service may have counted it at any moment before we read the answer."""
    async with a_desk() as desk:
        grants = [await desk.reserve() for _ in range(10)]
        await asyncio.sleep(50)
        for grant in grants:
            await desk.answered(grant)
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(50 + HOUR, abs=0.01)


async def test_an_abandoned_reservation_counts_as_spent_after_its_lease() -> None:
    """Silence costs quota: the service may have counted the request we never saw answered."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.reserve()
        await asyncio.sleep(FENCE_S + TIMEOUT_S)

        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve(max_wait_s=60)
        assert caught.value.ready_at == at(LEASE_S + HOUR)

        await asyncio.sleep(LEASE_S)
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
        assert caught.value.ready_at == at(LEASE_S + HOUR)

        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(LEASE_S + HOUR, abs=0.01)


async def test_an_unknown_outcome_counts_for_as_long_as_the_service_may_still_count_it() -> None:
    """After a time-out the service may count the request for another quarter of an hour."""
    async with a_desk() as desk:
        for _ in range(10):
            grant = await desk.reserve()
            await desk.tell(Unknown(grant.job, grant.attempt, "time-out"))
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(LIMITS.count_late_s + HOUR, abs=0.01)


async def test_what_was_provably_never_sent_is_given_back_at_once() -> None:
    """Everything: the operation, the users, the segment."""
    async with a_desk() as desk:
        cost = Cost(1, 2_000_000, 1)
        grant = await desk.reserve(cost, op="create")
        await desk.tell(NeverSent(grant.job, grant.attempt, "no connection"))
        assert all(usage.used == 0 for usage in (await desk.governor.usage()).values())
        await desk.reserve(cost, op="create")


async def test_a_refused_operation_spends_the_hour_and_gives_the_users_back() -> None:
    """Whether a 4xx spends an operation is undocumented: it is counted; its file was never read."""
    async with a_desk() as desk:
        grant = await desk.reserve(Cost(1, 500, 1), op="create")
        await desk.answered(grant, 409)
        usage = await desk.governor.usage()
        assert [usage[name].used for name in ("operations_per_hour", "users_per_day", "active_segments")] == [1, 0, 0]


async def test_a_late_answer_stamps_the_row_anew() -> None:
    """An answer after the lease moves the end: the service may have counted until then."""
    async with a_desk() as desk:
        grants = [await desk.reserve() for _ in range(10)]
        await asyncio.sleep(LEASE_S + 100)
        for grant in grants:
            await desk.answered(grant)
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(LEASE_S + 100 + HOUR, abs=0.01)


async def test_the_day_binds_where_it_is_tighter_than_its_hours() -> None:
    """A hundred a day is less than twenty-four times ten an hour."""
    async with a_desk() as desk:
        for _ in range(100):
            await desk.send(max_wait_s=math.inf)
        assert now_s() == pytest.approx(9 * HOUR, abs=1)
        await asyncio.sleep(HOUR)
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
        assert caught.value.limit == "operations_per_day"
        assert caught.value.ready_at == at(86_400)


async def test_users_are_held_until_the_callback_and_for_a_day_after_it() -> None:
    """The file is read after the answer, so its users count from the callback."""
    async with a_desk() as desk:
        grant = await desk.send(Cost(1, 2_000_000), token=True)
        await asyncio.sleep(5 * HOUR)
        assert (await desk.governor.usage())["users_per_day"].pending == 2_000_000
        await desk.callback(grant, found=2_000_000)
        await desk.reserve(Cost(1, 1), max_wait_s=math.inf)
        assert now_s() == pytest.approx(5 * HOUR + 86_400, abs=0.01)


async def test_a_callback_that_never_comes_frees_the_users_after_the_allowance() -> None:
    """No sweeper is needed: the hold was born with its end."""
    async with a_desk() as desk:
        await desk.send(Cost(1, 2_000_000), token=True)
        await desk.reserve(Cost(1, 1), max_wait_s=math.inf)
        assert now_s() == pytest.approx(LIMITS.processing_allowance_s + 86_400, abs=0.01)


async def test_the_callbacks_count_replaces_the_declared_one() -> None:
    """More rows than declared are charged; fewer are given back."""
    async with a_desk() as desk:
        more, fewer = await desk.send(Cost(1, 100), token=True), await desk.send(Cost(1, 100), token=True)
        await desk.callback(more, found=150)
        await desk.callback(fewer, found=60)
        assert (await desk.governor.usage())["users_per_day"].used == 210


async def test_a_failure_callback_gives_the_users_back() -> None:
    """A file that was not processed uploaded nobody."""
    async with a_desk() as desk:
        grant = await desk.send(Cost(1, 100), token=True)
        await desk.callback(grant, "failed")
        usage = await desk.governor.usage()
        assert (usage["users_per_day"].used, usage["operations_per_hour"].used) == (0, 1)


async def test_a_callback_that_cannot_be_read_frees_nothing() -> None:
    """It may be about anything, so users are held as long as without it, and so is the segment; a later one counts."""
    async with a_desk() as desk:
        grant = await desk.send(Cost(1, 2_000_000), token=True)
        await asyncio.sleep(HOUR)
        await desk.callback(grant, "unparsed")
        assert (await desk.governor.usage())["users_per_day"].pending == 2_000_000
        assert desk.replica.state.jobs.records[grant.job].busy_until_us > desk.replica.now_us()
        await desk.reserve(Cost(1, 1), max_wait_s=math.inf)
        assert now_s() == pytest.approx(LIMITS.processing_allowance_s + 86_400, abs=0.01)
    async with a_desk() as desk:
        grant = await desk.send(Cost(1, 100), token=True)
        await desk.callback(grant, "unparsed")
        await desk.callback(grant, found=150)
        assert (await desk.governor.usage())["users_per_day"].used == 150


async def test_a_callback_that_cannot_be_read_says_that_the_service_has_the_operation() -> None:
    """So an operation of unknown outcome is not sent again, also not where that was asked for."""
    async with a_desk() as desk:
        jobs = desk.replica.state.jobs
        grant = await desk.reserve(ONE, token=True)
        await desk.tell(Unknown(grant.job, grant.attempt, "time-out"))
        assert jobs.may_send(grant.job, retry_unknown=True, now_us=desk.replica.now_us())
        await desk.callback(grant, "unparsed")
        assert not jobs.may_send(grant.job, retry_unknown=True, now_us=desk.replica.now_us())


async def test_a_file_larger_than_the_day_is_refused_as_such() -> None:
    """No wait would help, so waiting for ever is refused too."""
    async with a_desk() as desk:
        with pytest.raises(QuotaNeverFits) as caught:
            await desk.reserve(Cost(1, 2_100_000), max_wait_s=math.inf)
    assert (caught.value.limit, caught.value.requested) == ("users_per_day", 2_100_000)


async def test_waiters_are_served_in_the_order_they_came() -> None:
    """First come, first served, ten an hour."""
    async with a_desk() as desk:
        served: list[int] = []

        async def one(number: int) -> None:
            await desk.send(max_wait_s=math.inf)
            served.append(number)

        await asyncio.gather(*(one(number) for number in range(35)))
    assert served == sorted(served)


async def test_a_wait_longer_than_allowed_is_refused_at_once() -> None:
    """Those ahead are counted: the twelfth in line would wait two hours, so one hour is refused now."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.send()
        waiting = [asyncio.ensure_future(desk.send(max_wait_s=math.inf)) for _ in range(10)]
        await asyncio.sleep(1)
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve(max_wait_s=HOUR + 600)
        assert now_s() == pytest.approx(1, abs=0.01)
        assert caught.value.wait_s == pytest.approx(2 * HOUR - 1, abs=1)
        await asyncio.gather(*waiting)


async def test_a_cancelled_waiter_frees_its_place() -> None:
    """Nobody waits behind somebody who left."""
    async with a_desk() as desk:
        for _ in range(9):
            await desk.send()
        heavy = asyncio.ensure_future(desk.reserve(Cost(1, 2_000_000), max_wait_s=math.inf))
        await heavy
        blocked = asyncio.ensure_future(desk.reserve(max_wait_s=math.inf))
        await asyncio.sleep(1)
        blocked.cancel()
        await asyncio.gather(blocked, return_exceptions=True)
        await desk.reserve(max_wait_s=math.inf)
        usage = await desk.governor.usage()
        assert usage["operations_per_hour"].used <= 10


async def test_cancelling_at_the_moment_of_the_grant_gives_it_back() -> None:
    """At whatever moment the caller goes away, nothing stays reserved for it."""
    for turns in range(8):
        async with a_desk() as desk:
            task = asyncio.ensure_future(desk.reserve(max_wait_s=math.inf))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            kept = not isinstance((await asyncio.gather(task, return_exceptions=True))[0], BaseException)
            await asyncio.sleep(1)
            assert (await desk.governor.usage())["operations_per_hour"].used == int(kept)


async def test_who_turns_out_to_be_known_while_it_waits_leaves_no_claim_in_the_way_of_others() -> None:
    """A lost create that waits to be sent again is found at the service: nothing is reserved that ends its claim."""
    async with a_desk() as desk:
        lost = await desk.reserve(name="s", op="create")
        await desk.tell(Unknown(lost.job, 1, "no answer"))
        for _ in range(9):
            await desk.send()
        ask = Ask(
            job=lost.job,
            operation={"op": "create", "name": "s"},
            cost=ONE,
            keys=("s",),
            fence_us=FENCE_S * 1_000_000,
            timeout_us=TIMEOUT_S * 1_000_000,
            key_fingerprint="key",
            token_sha256=None,
            retry_unknown=True,
        )
        again = asyncio.create_task(desk.governor.reserve(ask, max_wait_s=math.inf))
        await asyncio.sleep(1)
        assert list(desk.replica.state.claims.live) == [lost.job]

        await desk.tell(Adopted(lost.job, 1, "7"))
        assert await again is None
        await asyncio.sleep(1)
        assert not desk.replica.state.claims.live
        await desk.reserve(name="s", max_wait_s=HOUR + 1)


async def test_a_light_operation_passes_a_heavy_one_only_when_it_delays_nothing() -> None:
    """Backfilling: users are short for the heavy one until tomorrow, the hour is not."""
    async with a_desk() as desk:
        await desk.send(Cost(1, 1_500_000))
        heavy = asyncio.ensure_future(desk.reserve(Cost(1, 1_000_000), max_wait_s=math.inf))
        await asyncio.sleep(1)
        await desk.send(Cost(1, 0))
        await desk.send(Cost(1, 500_000 - 1))  # released only after the heavy one needs it? see below
        assert not heavy.done()
        await heavy
        allowance = LIMITS.processing_allowance_s
        assert now_s() == pytest.approx(86_400 + allowance, abs=1)


async def test_a_light_operation_that_would_delay_the_heavy_one_waits_behind_it() -> None:
    """What it would hold is what the heavy one waits for."""
    async with a_desk() as desk:
        await desk.send(Cost(1, 1_500_000))
        heavy = asyncio.ensure_future(desk.send(Cost(1, 1_900_000), max_wait_s=math.inf))
        await asyncio.sleep(1)
        light = asyncio.ensure_future(desk.send(Cost(1, 200_000), max_wait_s=math.inf))
        await heavy
        assert not light.done()
        assert now_s() == pytest.approx(86_400 + LIMITS.processing_allowance_s, abs=1)
        await light


async def test_a_segment_takes_one_operation_at_a_time() -> None:
    """Files of one segment queue behind one another, so a second is refused until the first has ended."""
    async with a_desk() as desk:
        first = await desk.send(name="diwali", token=True)
        with pytest.raises(SegmentBusy) as caught:
            await desk.reserve(name="diwali")
        assert caught.value.job_id == first.job
        second = asyncio.ensure_future(desk.reserve(name="diwali", max_wait_s=60))
        await asyncio.sleep(5)
        await desk.callback(first)
        await second
        assert now_s() == pytest.approx(5, abs=0.01)


async def test_without_a_callback_the_acceptance_frees_the_segment() -> None:
    """Nothing else can be waited for."""
    async with a_desk() as desk:
        await desk.send(name="diwali")
        await desk.reserve(name="diwali")


async def test_who_waits_for_a_segment_stands_in_nobodys_way() -> None:
    """It enters the line for quota when its segment is free."""
    async with a_desk() as desk:
        await desk.send(name="diwali", token=True)
        waiting = asyncio.ensure_future(desk.reserve(name="diwali", max_wait_s=math.inf))
        await asyncio.sleep(1)
        for _ in range(9):
            await desk.send()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_patience_for_a_segment_ends_when_it_was_said_to() -> None:
    """max_wait_s covers the wait for the segment too."""
    async with a_desk() as desk:
        await desk.send(name="diwali", token=True)
        with pytest.raises(SegmentBusy):
            await desk.reserve(name="diwali", max_wait_s=60)
        assert now_s() == pytest.approx(60, abs=0.01)


async def test_headroom_is_left_for_others() -> None:
    """People in the dashboard keep what was set aside."""
    async with a_desk(QuotaLimits(guard_s=0, headroom={"operations_per_hour": 3})) as desk:
        for _ in range(7):
            await desk.send()
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
    assert caught.value.capacity == 7


@pytest.mark.parametrize("call", ["list", "create_filter", "get"])
async def test_headroom_is_left_for_others_in_calls_too(call: str) -> None:
    """The calls of the v3 API as well, each in its own window."""
    limits = QuotaLimits(guard_s=0, headroom={f"{call}_per_minute": 47}, filter_calls_shared=False)
    left = {"list": 3, "create_filter": 3, "get": 53}[call]
    async with a_desk(limits) as desk:
        for _ in range(left):
            await desk.reserve(Cost(call=call), op="list")
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve(Cost(call=call), op="list")
    assert (caught.value.limit, caught.value.used, caught.value.capacity) == (f"{call}_per_minute", left, left)


async def test_a_light_one_behind_a_heavy_one_is_told_its_own_limit_and_start() -> None:
    """It passes in an hour, and a wait of two hours is enough; the heavy one waits for the next day."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.send(Cost(1, 150_000), token=True)
        heavy = asyncio.ensure_future(desk.send(Cost(1, 1_000_000), max_wait_s=math.inf, token=True))
        await asyncio.sleep(1)
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve(Cost(1, 1))
        error = caught.value
        assert (error.limit, error.used, error.requested, error.capacity) == ("operations_per_hour", 10, 1, 10)
        assert (error.ready_at, error.wait_s) == (at(HOUR), HOUR - 1)
        await desk.send(Cost(1, 1), max_wait_s=7_200)
        assert now_s() == pytest.approx(HOUR, abs=1e-6)
        heavy.cancel()
        await asyncio.gather(heavy, return_exceptions=True)


def _created(number: int, expiry_time: int = 1) -> CreateFileSegment:
    return CreateFileSegment(
        name=f"n{number}",
        attribute_name="ID",
        attribute_type="string",
        file_url="https://h/f",
        expiry_time=expiry_time,
        rows=0,
    )


async def test_planned_segments_expire_like_any_other() -> None:
    """Ten fit beside fifty others; the eleventh starts when the first of the ten has expired, and so on for ever."""
    limits = QuotaLimits(guard_s=0, active_segments=60, external_active_margin=0)
    async with a_desk(limits) as desk:
        await desk.governor.observe_active_segments(50)
        planned = await desk.governor.plan([_created(number) for number in range(2_000)])
        assert [start.wait_s for start in planned] == [number // 10 * 2 * 86_400 for number in range(2_000)]
        assert {start.limit for start in planned[10:]} == {"active_segments"}


async def test_a_planned_archive_frees_its_segment() -> None:
    """An archive waits for no quota, so what it frees is free for whoever stands before it, too."""
    limits = QuotaLimits(guard_s=0, active_segments=1, external_active_margin=0)
    async with a_desk(limits) as desk:
        await desk.send(Cost(1, 0, 1), name="n0", op="create")
        create, archive = await desk.governor.plan([_created(1), ArchiveSegment(name="n0")])
        assert (create.wait_s, archive.wait_s) == (0, 0)


async def test_operations_on_one_segment_are_planned_one_after_another() -> None:
    """The second waits for the first, and for nothing longer when that is answered at once."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.send()
        created, added, other = await desk.governor.plan([_created(1), _adding("n1"), _adding("n2")])
        assert [start.wait_s for start in (created, added, other)] == [HOUR] * 3


def _adding(name: str) -> AddUsers:
    return AddUsers(name=name, attribute_name="ID", attribute_type="string", file_url="https://h/f", rows=0)


async def test_what_others_spent_is_counted_once_it_is_recorded() -> None:
    """Also at the time it was spent."""
    async with a_desk() as desk:
        await asyncio.sleep(HOUR)
        await desk.governor.record_external(operations=10, at=at(HOUR / 2))
        assert (await desk.governor.usage())["operations_per_hour"].external == 10
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(1.5 * HOUR, abs=0.01)


async def test_external_usage_in_the_future_or_without_a_zone_is_refused() -> None:
    """A wrong moment would free or block quota at the wrong time."""
    async with a_desk() as desk:
        for moment in (at(60), at(0).replace(tzinfo=None)):
            with pytest.raises(InputError):
                await desk.governor.record_external(operations=1, at=moment)
        with pytest.raises(InputError):
            await desk.governor.record_external(operations=-1)


async def test_active_segments_are_a_gauge_freed_by_archive_and_expiry() -> None:
    """A create takes one until a confirmed archive, or its expiry and a day."""
    limits = QuotaLimits(guard_s=0, active_segments=2, external_active_margin=0)
    async with a_desk(limits) as desk:
        await desk.send(Cost(1, 0, 1), name="a", op="create")
        await desk.send(Cost(1, 0, 1), name="b", op="create")
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve(Cost(1, 0, 1), name="c", op="create")
        assert caught.value.limit == "active_segments"
        assert caught.value.ready_at == at(31 * 86_400)
        await desk.send(Cost(), name="a", op="archive")
        await desk.send(Cost(1, 0, 1), name="c", op="create")
        await desk.reserve(Cost(1, 0, 1), name="d", op="create", max_wait_s=math.inf)
        assert now_s() == pytest.approx(31 * 86_400, abs=1)


async def test_an_archive_by_identifier_frees_that_segment_whatever_name_it_gives() -> None:
    """Where both are sent the identifier wins at the service, so it has to win here."""
    async with a_desk() as desk:
        for name in ("a", "b"):
            grant = await desk.reserve(Cost(1, 0, 1), name=name, op="create")
            await desk.tell(Answered(grant.job, 1, 202, accepted={"cs_name": name, "cs_id": f"id of {name}"}))
        operation: dict[str, object] = {"op": "archive", "name": "a", "cs_id": "id of b"}
        grant = await desk.reserve(Cost(), name="a", op="archive", operation=operation)
        await desk.answered(grant)
        leases = desk.replica.state.ledger.active.leases.values()
        assert [lease.name for lease in leases] == ["a"]


async def test_a_segment_known_by_its_identifier_is_busy_by_its_name_too() -> None:
    """One operation at a time on a segment, however each of them names it."""
    async with a_desk() as desk:
        grant = await desk.reserve(Cost(1, 0, 1), name="a", op="create")
        await desk.tell(Answered(grant.job, 1, 202, accepted={"cs_name": "a", "cs_id": "1f"}))
        await desk.reserve(name="a", keys=("some other name", "id:1f"))
        with pytest.raises(SegmentBusy):
            await desk.reserve(name="a")
        with pytest.raises(SegmentBusy):
            await desk.reserve(keys=("id:1f",))


async def test_an_unknown_archive_frees_nothing_and_an_unknown_create_takes_one() -> None:
    """In doubt the segment is active."""
    async with a_desk() as desk:
        grant = await desk.reserve(Cost(1, 0, 1), name="a", op="create")
        await desk.tell(Unknown(grant.job, grant.attempt, "lost"))
        await asyncio.sleep(LIMITS.count_late_s)
        grant = await desk.reserve(Cost(), name="a", op="archive")
        await desk.tell(Unknown(grant.job, grant.attempt, "lost"))
        assert (await desk.governor.usage())["active_segments"].used == 1


async def test_observed_active_segments_are_a_baseline() -> None:
    """Somebody counted 999 in the dashboard, ours included."""
    async with a_desk() as desk:
        await desk.send(Cost(1, 0, 1), op="create")
        await desk.governor.observe_active_segments(999)
        usage = (await desk.governor.usage())["active_segments"]
        assert (usage.used, usage.external, usage.remaining) == (999, 998, 1)
        await desk.tell(ActiveObserved(500, "hint"))
        assert (await desk.governor.usage())["active_segments"].used == 999


async def test_the_margin_is_kept_for_segments_nobody_told_us_of() -> None:
    """Fifty of a thousand by default."""
    async with a_desk(QuotaLimits()) as desk:
        assert (await desk.governor.usage())["active_segments"].capacity == 950


async def test_a_foreign_429_closes_the_window_until_the_service_said() -> None:
    """Somebody else spends: nothing of ours leaves before the named moment."""
    async with a_desk() as desk:
        grant = await desk.reserve()
        await desk.answered(grant, 429)
        throttled = await desk.replica.ask(lambda state, now: ((), state.ledger.throttle_for(10, 600_000_000, now)))
        await desk.tell(throttled)
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
        assert caught.value.ready_at == at(600)
        assert (await desk.governor.usage())["operations_per_hour"].closed_until == at(600)
        await desk.reserve(max_wait_s=math.inf)
        assert now_s() == pytest.approx(600, abs=0.01)


async def test_a_429_that_names_no_time_is_followed_by_one_probe() -> None:
    """When our oldest row expires one operation goes, and the rest waits for its answer."""
    async with a_desk() as desk:
        await desk.send()
        await asyncio.sleep(60)
        grant = await desk.reserve()
        await desk.answered(grant, 429)
        await desk.tell(await desk.replica.ask(lambda state, now: ((), state.ledger.throttle_for(None, None, now))))
        waiting = [asyncio.ensure_future(desk.reserve(max_wait_s=math.inf)) for _ in range(3)]
        await asyncio.sleep(HOUR)
        assert [task.done() for task in waiting] == [True, False, False]
        await desk.answered(await waiting[0])
        await asyncio.gather(*waiting)


async def test_repeated_429s_are_not_hammered_however_soon_the_service_invites_back() -> None:
    """The pause doubles with each one in a row, up to a window."""
    async with a_desk() as desk:
        pauses = []
        for _ in range(12):
            grant = await desk.reserve(max_wait_s=math.inf)
            await desk.answered(grant, 429)
            before = now_s()
            await desk.tell(await desk.replica.ask(lambda state, now: ((), state.ledger.throttle_for(10, 0, now))))
            probe = await desk.reserve(max_wait_s=math.inf)
            pauses.append(now_s() - before)
            await desk.tell(NeverSent(probe.job, probe.attempt, "only to measure"))
        assert pauses[0] < 1
        assert pauses == sorted(pauses)
        assert pauses[-1] >= HOUR - 1


async def test_a_rejected_key_sends_nothing_more_until_it_works_again() -> None:
    """A wrong key must not eat the hour."""
    async with a_desk() as desk:
        await desk.tell(KeyRejected("key", 401))
        with pytest.raises(AuthenticationFailed):
            await desk.reserve(max_wait_s=math.inf)
        await desk.tell(KeyAccepted("key"))
        await desk.reserve()


async def test_two_governors_on_one_journal_share_the_quota() -> None:
    """As two processes do: together they get ten, and a release wakes the other."""
    journal = MemoryJournal(clock=journal_clock)
    async with a_desk(journal=journal) as one, a_desk(journal=journal) as other:
        grants = [await desk.reserve() for desk in (one, other) * 5]
        waiting = asyncio.ensure_future(other.reserve(max_wait_s=math.inf))
        await asyncio.sleep(10)
        with pytest.raises(QuotaExceeded):
            await one.reserve()
        await one.tell(NeverSent(grants[0].job, grants[0].attempt, "no connection"))
        await waiting
        assert now_s() < 12


async def test_a_journal_of_another_service_or_scale_is_refused() -> None:
    """One service's usage is not taken for the other's."""
    journal = MemoryJournal(clock=journal_clock)
    async with a_desk(journal=journal):
        pass
    for origin, limits in (("http://127.0.0.1:1", LIMITS), (ORIGIN, LIMITS.scaled(600))):
        replica = Replica(journal, limits)
        await replica.open()
        with pytest.raises(JournalError, match="journal"):
            await Governor(replica, limits).open(origin, on_lost_journal="wait", announce=False)
        await replica.close()


async def test_a_doubtful_journal_takes_every_window_to_be_full() -> None:
    """History may be lost: what was spent is unknown, so a full window is waited for."""
    journal = MemoryJournal(clock=journal_clock)
    journal.doubt = "the journal is older than it was"
    async with a_desk(journal=journal) as desk:
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
        assert caught.value.ready_at == at(86_400)
        await desk.governor.lift_quarantine(operations=4)
        usage = (await desk.governor.usage())["operations_per_hour"]
        assert (usage.used, usage.closed_until) == (4, None)
        await desk.reserve()


async def test_why_every_window_is_full_can_be_asked_until_none_is() -> None:
    """Nothing is used, and nothing fits: whoever looks later than the warning has to find the reason."""
    journal = MemoryJournal(clock=journal_clock)
    journal.doubt = "the journal is older than it was"
    async with a_desk(journal=journal) as desk:
        assert await desk.governor.quarantine() == "the journal is older than it was"
        await asyncio.sleep(2 * 86_400)
        assert await desk.governor.quarantine() is None


async def test_a_doubt_that_is_known_is_not_waited_for_again_and_a_new_one_is() -> None:
    """A command that looks every hour would keep every window full for ever."""
    journal = MemoryJournal(clock=journal_clock)
    journal.doubt = "this journal was at another place (version 7 was seen there)"
    for _ in range(3):
        async with a_desk(journal=journal):
            await asyncio.sleep(3_600)
    async with a_desk(journal=journal) as desk:
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
        assert caught.value.ready_at == at(86_400)
    journal.doubt = "this journal was at another place (version 8 was seen there)"
    async with a_desk(journal=journal) as desk:
        with pytest.raises(QuotaExceeded) as caught:
            await desk.reserve()
        assert caught.value.ready_at == at(3 * 3_600 + 86_400)


async def test_usage_and_plan_agree_with_what_then_happens() -> None:
    """Each planned start is the moment at which the operation then leaves."""
    async with a_desk() as desk:
        for _ in range(7):
            await desk.send()
        operations = [
            CreateFileSegment(
                name=f"n{number}",
                attribute_name="ID",
                attribute_type="string",
                file_url="https://h/f",
                expiry_time=30,
                rows=1,
            )
            for number in range(25)
        ]
        planned = [start.start for start in await desk.governor.plan(operations)]
        left = []
        for _ in operations:
            await desk.send(Cost(1, 1, 1), op="create", max_wait_s=math.inf)
            left.append(at(now_s()))
        for start, moment in zip(planned, left, strict=True):
            assert start is not None
            assert abs(start - moment) < timedelta(seconds=0.1)
        with pytest.raises(InputError):
            await desk.governor.plan(
                [
                    CreateFileSegment(
                        name="n", attribute_name="ID", attribute_type="string", file_url="https://h/f", expiry_time=1
                    )
                ]
            )


async def test_closing_refuses_whoever_waits() -> None:
    """Nothing was sent for them, and they hear so."""
    async with a_desk() as desk:
        for _ in range(10):
            await desk.send()
        waiting = asyncio.ensure_future(desk.reserve(max_wait_s=math.inf))
        await asyncio.sleep(1)
        await desk.governor.close()
        with pytest.raises(NotSent):
            await waiting


async def test_a_journal_that_fails_sends_nothing() -> None:
    """Fail closed: each who waits hears of it, and the next try works when the journal does."""
    async with a_desk() as desk:
        journal = desk.replica.journal
        works = journal.transact

        async def broken(*_: object, **__: object) -> None:
            raise JournalError("the disk is full")

        journal.transact = broken  # type: ignore[method-assign]  # an engine that fails
        with pytest.raises(JournalError, match="full"):
            await desk.reserve(max_wait_s=math.inf)
        journal.transact = works  # type: ignore[method-assign]  # and works again
        await desk.reserve()


async def test_a_grant_past_its_fence_may_not_start() -> None:
    """Its end would not cover a request that starts so late."""
    async with a_desk() as desk:
        grant = await desk.reserve()
        assert desk.governor.may_start(grant)
        await asyncio.sleep(FENCE_S)
        assert not desk.governor.may_start(grant)
