"""The cases that break naive quota ledgers, each with the test that holds it.

========================================================  =============================================================
case                                                      held by
========================================================  =============================================================
slow answer                                               pure/test_governor:
                                                          test_an_operation_counts_from_its_answer_not_from_its_send
time-out, then late processing                            pure/test_governor:
                                                          test_an_unknown_outcome_counts_for_as_long_as_...
                                                          here: test_a_request_counted_at_the_last_moment_of_d_...
kill between reserve and send                             pure/test_governor:
                                                          test_an_abandoned_reservation_counts_as_spent_after_its_lease
kill between send and receipt                             live/test_client:
                                                          test_a_job_whose_process_died_is_unknown_after_a_restart
                                                          here: test_a_restart_gives_nothing_back
process stopped and resumed past its lease                pure/test_governor: test_a_late_answer_stamps_the_row_anew
                                                          here: test_a_process_that_slept_past_its_fence_does_not_send
PUT re-sent                                               live/test_transport:
                                                          test_a_kept_connection_that_drops_is_maybe_and_not_sent_again
two processes reserving the last slot                     here: test_of_two_processes_at_the_last_slot_one_gets_it
                                                          live/test_sqlite_processes:
                                                          test_four_processes_share_one_hundred_places
wall clock +-1 h                                          live/test_sqlite_witness:
                                                          test_setting_the_wall_clock_does_not_move_the_journal_s
                                                          contract: test_time_never_runs_backwards
                                                          here: test_a_clock_that_is_set_back_only_makes_us_wait
Redis fail-over, restart, eviction, key expiry            belong to the Redis engine's contract, with that engine
journal deleted, copied, restored, two paths              live/test_sqlite_witness: test_a_deleted_journal_is_noticed,
                                                          test_a_copy_in_use_beside_its_original_is_noticed,
                                                          test_a_restored_backup_is_noticed,
                                                          test_two_paths_for_one_workspace_are_noticed_...
                                                          pure/test_governor:
                                                          test_a_doubtful_journal_takes_every_window_to_be_full
fork with an open handle                                  live/test_sqlite_journal:
                                                          test_a_forked_child_is_refused_and_leaves_the_parent_alone
callback before the 202                                   live/test_client:
                                                          test_a_callback_faster_than_the_answer_ends_the_job
                                                          here: test_a_callback_before_the_answer_ends_both_counts
callback never                                            pure/test_governor:
                                                          test_a_callback_that_never_comes_frees_the_users_after_...
callback after we gave up                                 here: test_a_callback_after_we_gave_up_counts_from_then
file bigger than declared                                 pure/test_governor:
                                                          test_the_callbacks_count_replaces_the_declared_one
                                                          here: test_users_found_in_a_file_declared_empty_are_counted
weight above the limit                                    pure/test_governor:
                                                          test_a_file_larger_than_the_day_is_refused_as_such
day limit tighter than 24 hours of the hour limit         pure/test_governor:
                                                          test_the_day_binds_where_it_is_tighter_than_its_hours
first start after unknown spending                        here: test_what_was_spent_before_the_first_start_...
limit lowered while rows live                             here: test_a_limit_lowered_while_rows_live_...
reservation not durable before the grant                  here: test_a_reservation_whose_commit_fails_is_not_granted
send cut off before its answer                            here: test_a_send_that_is_cut_off_after_its_connection_...
unknown change                                            here: test_a_doubtful_change_is_not_repeated_...
waiter that goes away                                     proofs/test_waiters: test_a_waiter_that_is_cancelled_...
========================================================  =============================================================
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import Answered, CallbackReceived, Event, NeverSent, OwnerGone, Unknown
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask
from moe_segments.errors import JournalError, NotSent, OutcomeUnknown, QuotaExceeded
from moe_segments.governor.governor import Governor, Grant
from moe_segments.governor.pace import Pace
from moe_segments.http.transport import Maybe
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.models import AddUsers, Credentials, JobState
from moe_segments.settings import Settings
from moe_segments.submission.dispatcher import Dispatcher
from moe_segments.submission.file_preparer import FilePreparer
from moe_segments.submission.recorder import OutcomeRecorder
from moe_segments.submission.submit_operation import SubmissionFactory
from moe_segments.telemetry.emitter import Events
from moe_segments.telemetry.life import Life
from moe_segments.testing import EPOCH_US, journal_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from moe_segments.core.events import Batch
    from moe_segments.core.wire.file_segments import Request
    from moe_segments.http.transport import Attempt
    from moe_segments.journal import Decide

virtual_time = pytest.mark.virtual_time

LIMITS = QuotaLimits(guard_s=0, external_active_margin=0)
HOUR, DAY = 3_600.0, 86_400.0
FENCE_S, TIMEOUT_S = 30, 60
LEASE_S = FENCE_S + TIMEOUT_S + LIMITS.count_late_s
SECOND = 1_000_000
ONE = Cost(1)


class Process:
    """One process on a log: its replica and its governor."""

    def __init__(self, journal: MemoryJournal, limits: QuotaLimits) -> None:
        self.replica = Replica(journal, limits)
        self.governor = Governor(self.replica, limits, clock=asyncio.get_running_loop().time)

    async def reserve(self, job: str, cost: Cost = ONE, max_wait_s: float = 0.0) -> Grant:
        """Ask for one operation whose callback can come."""
        ask = Ask(
            job=job,
            operation={"op": "add", "name": job},
            cost=cost,
            keys=(job,),
            fence_us=FENCE_S * SECOND,
            timeout_us=TIMEOUT_S * SECOND,
            token_sha256=f"token-{job}",
        )
        grant = await self.governor.reserve(ask, max_wait_s=max_wait_s)
        assert grant is not None
        return grant

    async def tell(self, *events: Event) -> None:
        """Write down what happened."""
        await self.replica.record(*events)

    async def used(self, limit: str = "operations_per_hour") -> int:
        """What counts against a limit."""
        return (await self.governor.usage())[limit].used


@asynccontextmanager
async def a_process(
    journal: MemoryJournal | None = None, limits: QuotaLimits = LIMITS, *, announce: bool = False
) -> AsyncIterator[Process]:
    process = Process(journal or MemoryJournal(clock=journal_clock), limits)
    await process.replica.open()
    await process.governor.open("https://api-01.moengage.com", on_lost_journal="wait", announce=announce)
    try:
        yield process
    finally:
        await process.governor.close()
        await process.replica.close()


def accepted(grant: Grant) -> Answered:
    return Answered(grant.job, grant.attempt, 202, accepted={"cs_name": "x"})


def processed(grant: Grant, found: int) -> CallbackReceived:
    return CallbackReceived(grant.job, grant.attempt, "digest", "processed", {}, found)


def test_every_case_names_a_test_that_exists() -> None:
    """The list above is true."""
    files = (path for path in Path(__file__).parent.parent.glob("*/test_*.py"))
    defined = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = re.findall(r"test_\w+(?!\w*:)", __doc__ or "")
    tests = [name for name in named if not list(Path(__file__).parent.parent.glob(f"*/{name}.py"))]
    assert len(tests) > 30
    assert [name for name in tests if f"def {name}" not in defined] == []


def now_s() -> float:
    return asyncio.get_running_loop().time()


@virtual_time
async def test_a_request_counted_at_the_last_moment_of_d_still_fits_its_window() -> None:
    """The service takes it up a quarter of an hour after we gave up: the eleventh leaves an hour after that."""
    async with a_process() as process:
        grants = [await process.reserve(f"job-{n}") for n in range(10)]
        await asyncio.sleep(TIMEOUT_S)
        for grant in grants:
            await process.tell(Unknown(grant.job, grant.attempt, "time-out"))
        counted_s = now_s() + LIMITS.count_late_s
        await process.reserve("eleventh", max_wait_s=math.inf)
        assert now_s() >= counted_s + HOUR


@virtual_time
async def test_a_restart_gives_nothing_back() -> None:
    """Its process is gone and said so; what it had reserved may have been sent, so it counts to its lease's end."""
    journal = MemoryJournal(clock=journal_clock)
    async with a_process(journal) as process:
        grants = [await process.reserve(f"job-{n}") for n in range(10)]
    async with a_process(journal) as process:
        await process.tell(*(OwnerGone(grant.job, grant.attempt) for grant in grants))
        assert await process.used() == 10
        await process.reserve("eleventh", max_wait_s=math.inf)
        assert now_s() == pytest.approx(LEASE_S + HOUR, abs=0.01)


@virtual_time
async def test_a_process_that_slept_past_its_fence_does_not_send() -> None:
    """Stopped between its reservation and its send: the row's end would not cover the request, so it is given back."""
    async with a_process() as process:
        grant = await process.reserve("job")
        await asyncio.sleep(LEASE_S + 5 * HOUR)
        assert not process.governor.may_start(grant)
        await process.tell(NeverSent(grant.job, grant.attempt, "too late to leave"))
        assert await process.used() == 0


@virtual_time
async def test_of_two_processes_at_the_last_slot_one_gets_it() -> None:
    """Both ask in the same turn of the loop, on a log of which neither has read the other's part."""
    journal = MemoryJournal(clock=journal_clock)
    async with a_process(journal) as one, a_process(journal) as other:
        for number in range(9):
            await one.reserve(f"job-{number}")
        asked = await asyncio.gather(one.reserve("mine"), other.reserve("theirs"), return_exceptions=True)
        assert sum(isinstance(answer, Grant) for answer in asked) == 1
        assert sum(isinstance(answer, QuotaExceeded) for answer in asked) == 1
        assert await one.used() == await other.used() == 10


@virtual_time
@pytest.mark.parametrize("step_s", [-HOUR, -90.0])
async def test_a_clock_that_is_set_back_only_makes_us_wait(step_s: float) -> None:
    """The log's time stands still until the clock has caught up, so no window is ever shorter."""
    set_by_us = 0
    journal = MemoryJournal(clock=lambda: journal_clock() + set_by_us)
    async with a_process(journal) as process:
        await asyncio.sleep(2 * HOUR)
        for number in range(10):
            await process.tell(accepted(await process.reserve(f"job-{number}")))
        set_by_us = round(step_s * SECOND)
        with pytest.raises(QuotaExceeded):
            await process.reserve("at once")
        await process.reserve("eleventh", max_wait_s=math.inf)
        assert now_s() >= 3 * HOUR - step_s - 0.01


@virtual_time
async def test_a_callback_before_the_answer_ends_both_counts() -> None:
    """The file was processed, so operation and users were counted before it came; the answer that follows adds none."""
    async with a_process() as process:
        grant = await process.reserve("job", Cost(1, 500))
        await process.tell(processed(grant, 400))
        await asyncio.sleep(50)
        await process.tell(accepted(grant))
        assert (await process.used(), await process.used("users_per_day")) == (1, 400)
        await asyncio.sleep(HOUR - 50)
        assert await process.used() == 0
        await asyncio.sleep(DAY - HOUR)
        assert await process.used("users_per_day") == 0


@virtual_time
async def test_a_callback_after_we_gave_up_counts_from_then() -> None:
    """The allowance had passed and a day after it too; the users it tells of may have been counted a moment ago."""
    async with a_process() as process:
        grant = await process.reserve("job", Cost(1, 2_000_000))
        await process.tell(accepted(grant))
        await asyncio.sleep(LIMITS.processing_allowance_s + DAY + 1)
        assert await process.used("users_per_day") == 0
        await process.tell(processed(grant, 1_500_000))
        assert (await process.used("users_per_day"), await process.used()) == (1_500_000, 0)
        await process.reserve("next", Cost(1, 1_000_000), max_wait_s=math.inf)
        assert now_s() == pytest.approx(LIMITS.processing_allowance_s + 2 * DAY + 1, abs=0.01)


@virtual_time
async def test_users_found_in_a_file_declared_empty_are_counted() -> None:
    """The callback's higher number raises the row always, also from nothing."""
    async with a_process() as process:
        grant = await process.reserve("job", Cost(1, 0))
        await process.tell(accepted(grant))
        await process.tell(processed(grant, 1_999_999))
        with pytest.raises(QuotaExceeded):
            await process.reserve("next", Cost(1, 2))


@virtual_time
@pytest.mark.parametrize("counts", [True, False])
async def test_users_that_the_limits_do_not_count_stay_uncounted(counts: bool) -> None:  # noqa: FBT001 - parametrised
    """A removed file's rows are counted or not by setting; its callback does not change that."""
    limits = QuotaLimits(guard_s=0, remove_counts_users=counts)
    async with a_process(limits=limits) as process:
        ask = Ask(
            job="job",
            operation={"op": "remove", "name": "s"},
            cost=Cost(1),
            keys=("s",),
            fence_us=SECOND,
            timeout_us=SECOND,
            token_sha256="token",
        )
        grant = await process.governor.reserve(ask)
        assert grant is not None
        await process.tell(processed(grant, 70))
        assert await process.used("users_per_day") == (70 if counts else 0)


@virtual_time
async def test_what_was_spent_before_the_first_start_can_be_told(caplog: pytest.LogCaptureFixture) -> None:
    """A new log says that it takes nothing to have been spent; once told, it counts what was, from when it was."""
    with caplog.at_level(logging.WARNING):
        async with a_process(announce=True) as process:
            assert "this journal is new" in caplog.text
            await asyncio.sleep(HOUR)
            spent_at = datetime.fromtimestamp(EPOCH_US / SECOND + HOUR / 2, UTC)
            await process.governor.record_external(operations=8, rows=1_999_000, at=spent_at)
            await process.reserve("ninth")
            await process.reserve("tenth")
            with pytest.raises(QuotaExceeded):
                await process.reserve("eleventh", max_wait_s=60)
            with pytest.raises(QuotaExceeded):
                await process.reserve("large", Cost(0, 2_000))


@virtual_time
async def test_a_limit_lowered_while_rows_live_is_kept_from_the_next_start_on() -> None:
    """Rows above the new limit run out; nothing leaves until the count is below it, and then as soon as it is."""
    journal = MemoryJournal(clock=journal_clock)
    async with a_process(journal) as process:
        for number in range(8):
            await process.tell(accepted(await process.reserve(f"job-{number}")))
            await asyncio.sleep(60)
    async with a_process(journal, QuotaLimits(guard_s=0, operations_per_hour=3)) as process:
        usage = (await process.governor.usage())["operations_per_hour"]
        assert (usage.used, usage.capacity, usage.remaining) == (8, 3, 0)
        await process.reserve("next", max_wait_s=math.inf)
        assert now_s() == pytest.approx(HOUR + 5 * 60, abs=0.01)
    async with a_process(journal) as process:  # raised again: what is left of the old ones is all that counts
        assert await process.used() == 3


class FailingAtTheLast(MemoryJournal):
    """A journal that takes its time, and whose commit fails after everything was decided."""

    fails = True

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        if self.fails:

            def refused(missed: Sequence[Batch], now_us: int) -> Sequence[Event]:
                decide(missed, now_us)
                raise JournalError("the disk is full")

            return await super().transact(after, refused, batch_id=batch_id)
        return await super().transact(after, decide, batch_id=batch_id)


@virtual_time
async def test_a_reservation_whose_commit_fails_is_not_granted() -> None:
    """It was decided, and is not durable: nobody may send on it, and nothing counts."""
    journal = FailingAtTheLast(clock=journal_clock)
    journal.fails = False
    async with a_process(journal) as process:
        await process.reserve("before")
        journal.fails = True
        for number in range(12):
            with pytest.raises(JournalError, match="full"):
                await process.reserve(f"job-{number}", max_wait_s=math.inf)
        journal.fails = False
        assert await process.used() == 1
        for number in range(9):
            await process.reserve(f"again-{number}")


class Wire:
    """A transport whose service never answers: it hangs, or drops the connection."""

    def __init__(self, *, hangs: bool = False, is_obtained: bool = True) -> None:
        self.hangs, self.is_obtained, self.arrived = hangs, is_obtained, 0

    async def send(self, _: Request, attempt: Attempt) -> Maybe:
        """One request, and whether its connection was made."""
        attempt.obtained = self.is_obtained
        self.arrived += self.is_obtained
        if self.hangs:
            await asyncio.Event().wait()
        return Maybe("the connection was closed before an answer")


async def dispatch(
    process: Process, wire: Wire, job: str, patience_s: float, *, max_attempts: int = 5, pace: Pace | None = None
) -> None:
    """Add users to a segment through all the steps of a client."""
    credentials = Credentials(workspace_id="W1", api_key="a-key-of-some-length", data_center="01")
    settings = Settings(
        base_url="https://api-01.moengage.com", journal="memory:", limits=LIMITS, max_attempts=max_attempts
    )
    replica, governor = process.replica, process.governor
    submissions = SubmissionFactory(
        credentials, settings, replica=replica, file_preparer=FilePreparer(settings, None), receiver=None
    )
    dispatcher = Dispatcher(
        settings,
        replica=replica,
        governor=governor,
        pace=pace or Pace(1_000, FENCE_S),
        transport=wire,  # type: ignore[arg-type]  # as much of one as is used here
        recorder=OutcomeRecorder(credentials, settings, replica=replica, governor=governor),
    )
    operation = AddUsers(
        name="diwali", attribute_name="ID", attribute_type="string", file_url="https://files.example/f", rows=3
    )
    life = Life.of(Events("W1.03"), job, operation)
    await dispatcher.dispatch(submissions.make(operation, job, now_s() + patience_s, life=life))


@virtual_time
async def test_a_request_that_is_held_up_past_its_fence_does_not_leave() -> None:
    """Its turn always comes after its fence: it is given back, and nothing arrived."""
    async with a_process() as process:
        wire, pace = Wire(), Pace(1 / (FENCE_S + 1), FENCE_S)

        async def one_ahead() -> None:
            while True:
                with pace.place() as place:
                    await pace.turn(place, lambda: True)

        ahead = asyncio.ensure_future(one_ahead())
        await asyncio.sleep(0)
        with pytest.raises(NotSent):
            await dispatch(process, wire, "job", 0, max_attempts=1, pace=pace)
        ahead.cancel()
        assert wire.arrived == 0
        assert await process.used() == 0


@virtual_time
@pytest.mark.parametrize("is_obtained", [True, False])
async def test_a_send_that_is_cut_off_after_its_connection_counts(is_obtained: bool) -> None:  # noqa: FBT001 - as above
    """With a connection the service may have it: unknown. Without one provably nothing left: all is given back."""
    async with a_process() as process:
        wire = Wire(hangs=True, is_obtained=is_obtained)
        task = asyncio.ensure_future(dispatch(process, wire, "job", 0))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        state = process.replica.state.jobs.records["job"].state
        assert state == (JobState.UNKNOWN if is_obtained else JobState.NOT_SENT)
        assert await process.used() == int(is_obtained)
        assert await process.used("users_per_day") == 3 * is_obtained


@virtual_time
async def test_a_doubtful_change_is_not_repeated_however_patient_its_caller_is() -> None:
    """It may have worked: once more would spend again, so the doubt is named and one request arrived."""
    async with a_process() as process:
        wire = Wire()
        with pytest.raises(OutcomeUnknown):
            await dispatch(process, wire, "job", math.inf)
        assert wire.arrived == 1
        assert await process.used() == 1
