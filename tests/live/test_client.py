"""The client's promises against the sandbox: real sockets, both journals, every way an attempt can end."""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest

from moe_segments import (
    AddUsers,
    AuthenticationFailed,
    BadRequest,
    CallbackTimeout,
    CallbackUnreadable,
    Conflict,
    CreateFileSegment,
    Credentials,
    FileProcessingFailed,
    InputError,
    JobState,
    JournalError,
    NotFound,
    NotSent,
    Outcome,
    OutcomeUnknown,
    PreflightError,
    QuotaExceeded,
    QuotaLimits,
    QuotaNeverFits,
    SegmentBusy,
    SegmentsClient,
    TooManyRequests,
)
from moe_segments.client.client import replica_of
from moe_segments.sandbox import FaultKind, Sandbox
from tests.live.sandbox_world import client_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments.models import Operation

pytestmark = pytest.mark.asyncio

SPEED = 3_600.0  # an hour is a second
FIELDS: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string"}


def create(url: str, name: str = "diwali", **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(**(FIELDS | {"name": name, "file_url": url, "expiry_time": 30, "rows": 3} | fields))


def add(url: str, name: str = "diwali", **fields: Any) -> AddUsers:
    return AddUsers(**(FIELDS | {"name": name, "file_url": url, "rows": 3} | fields))


async def test_a_created_segment_ends_with_its_callbacks_figures(sandbox: Sandbox, url: str) -> None:
    """The first thing a user does: create, then await the result."""
    async with client_on(sandbox) as client:
        job = await client.create_file_segment(name="diwali", file_url=url, expiry_time=30, **FIELDS)
        assert job.accepted is not None
        assert job.accepted.cs_name == "diwali"
        done = await job.result(timeout=5)
        assert (done.values_found, done.values_processed, done.user_count) == (3, 3, 3)
        assert job.state == JobState.PROCESSED
        assert await job.result() == done


async def test_every_file_operation_reaches_the_segment(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Create, add, remove and replace, each after the other has ended."""
    (tmp_path / "more.csv").write_text("u-3\nu-4\n")
    async with client_on(sandbox) as client:
        more = FIELDS | {"name": "s", "file": tmp_path / "more.csv"}
        for submit, fields, expected in (
            (client.create_file_segment, FIELDS | {"name": "s", "file_url": url, "expiry_time": 1}, 3),
            (client.add_users, more, 4),
            (client.remove_users, more, 2),
            (client.replace_users, more, 2),
        ):
            job = await submit(**fields)
            await job.result(timeout=5)
            segment = sandbox.workspace.find("s")
            assert segment is not None
            assert len(segment.members) == expected


async def test_archive_and_unarchive_answer_and_move_the_gauge(sandbox: Sandbox, url: str) -> None:
    """They spend no file operation and await no callback."""
    async with client_on(sandbox) as client:
        await (await client.submit(create(url))).result(timeout=5)
        assert (await client.archive_segment(name="diwali")).success
        assert (await client.governor.usage())["active_segments"].used == 0
        assert (await client.unarchive_segment(name="diwali")).success
        usage = await client.governor.usage()
        assert (usage["active_segments"].used, usage["operations_per_hour"].used) == (1, 1)


async def test_segments_are_listed_by_exact_name(sandbox: Sandbox, url: str) -> None:
    """Reading spends no file quota."""
    async with client_on(sandbox) as client:
        await client.submit(create(url))
        assert [segment.name for segment in await client.list_segments(name="diwali")] == ["diwali"]
        assert await client.list_segments(name="holi") == ()


async def test_the_eleventh_operation_is_refused_before_the_service_hears_of_it(sandbox: Sandbox, url: str) -> None:
    """Ten an hour: the eleventh costs nothing and says when."""
    async with client_on(sandbox) as client:
        for number in range(10):
            await client.submit(create(url, f"s{number}"))
        with pytest.raises(QuotaExceeded) as caught:
            await client.submit(create(url, "s10"))
        assert caught.value.limit == "operations_per_hour"
        assert caught.value.ready_at is not None
        assert len(sandbox.workspace.counted) == 10
        await client.submit(create(url, "s10"), max_wait_s=5)
        assert sandbox.workspace.rejections == 0


async def test_forty_operations_at_once_meet_no_429(sandbox: Sandbox, url: str) -> None:
    """The promise, on a real socket: all are processed, the service never objects."""
    async with client_on(sandbox) as client:
        outcomes = [outcome async for outcome in client.submit_many(create(url, f"s{n}") for n in range(40))]
    assert [outcome.error for outcome in outcomes] == [None] * 40
    assert sandbox.workspace.rejections == 0


async def test_rows_are_counted_when_they_are_not_given(sandbox: Sandbox, url: str) -> None:
    """The file is read once, so the day's users are known before anything is sent."""
    async with client_on(sandbox, callbacks=None) as client:
        await client.submit(create(url, rows=None))
        assert (await client.governor.usage())["users_per_day"].used == 3


async def test_a_file_that_cannot_be_counted_is_refused_before_anything_is_sent(sandbox: Sandbox, url: str) -> None:
    """A URL that answers 404 would cost a tenth of the hour."""
    async with client_on(sandbox) as client:
        with pytest.raises(PreflightError):
            await client.submit(create(f"{sandbox.url}/_files/nothing/here.csv", rows=None))
        for file in ("nowhere.csv", "x" * 300):
            with pytest.raises(InputError, match="no file"):
                await client.submit(create("x", file_url=None, file=file))
        assert sandbox.workspace.counted == ()


async def test_a_file_larger_than_a_day_never_fits(sandbox: Sandbox, url: str) -> None:
    """Refused without waiting, and without publishing the file."""
    async with client_on(sandbox) as client:
        with pytest.raises(QuotaNeverFits):
            await client.submit(create(url, rows=2_000_001), max_wait_s=math.inf)


async def test_a_second_operation_on_a_segment_waits_for_the_first(sandbox: Sandbox, url: str) -> None:
    """Or is refused at once, naming the job that holds it."""
    sandbox.fail_next(FaultKind.LATE_CALLBACK)
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        with pytest.raises(SegmentBusy) as caught:
            await client.submit(add(url))
        assert caught.value.job_id == job.id


@pytest.mark.parametrize("status", [401, 404, 409])
async def test_a_refusal_is_the_error_of_its_status(sandbox: Sandbox, url: str, status: int) -> None:
    """With the job refused, and the same error from anybody who awaits it."""
    wrong = attrs.evolve(sandbox.credentials, api_key="wrong-wrong-wrong")
    async with client_on(sandbox, credentials=wrong if status == 401 else sandbox.credentials) as client:
        if status == 409:
            async with client_on(sandbox) as other:  # whose journal this one does not know
                await (await other.submit(create(url))).result(timeout=5)
        kind = {401: AuthenticationFailed, 404: NotFound, 409: Conflict}[status]
        with pytest.raises(kind) as caught:
            await client.submit(add(url, "nobody") if status == 404 else create(url))
        assert caught.value.status == status
        assert caught.value.job_id is not None
        job = client.job(caught.value.job_id)
        assert job.state == JobState.REFUSED
        with pytest.raises(kind):
            await job.result(timeout=1)


async def test_a_wrong_key_spends_one_request_and_no_more(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Also not from the next process on the same journal, until the key changes."""
    wrong = attrs.evolve(sandbox.credentials, api_key="wrong-wrong-wrong")
    journal = f"sqlite:///{tmp_path / 'q.db'}"
    for name in ("a", "b"):
        async with client_on(sandbox, credentials=wrong, journal=journal) as client:
            with pytest.raises(AuthenticationFailed):
                await client.submit(create(url, name))
    assert len(sandbox.workspace.requests) == 1
    async with client_on(sandbox, journal=journal) as client:
        await client.submit(create(url, "c"))


async def test_a_key_that_works_again_is_taken_back_by_a_read(sandbox: Sandbox, url: str) -> None:
    """The account was repaired, the key is the same: one list call shows it."""
    async with client_on(sandbox) as client:
        from moe_segments.core.events import KeyRejected
        from moe_segments.submission.calls import key_fingerprint

        fingerprint = key_fingerprint(client._credentials, client._replica.journal.journal_id)
        await replica_of(client).record(KeyRejected(fingerprint, 403))
        with pytest.raises(Exception, match="not sent"):
            await client.submit(create(url))
        await client.list_segments()
        await client.submit(create(url))


async def test_a_lost_answer_is_unknown_and_its_callback_still_ends_it(sandbox: Sandbox, url: str) -> None:
    """Never guessed, never sent again, and not forgotten either."""
    sandbox.fail_next(FaultKind.LOSE_ANSWER)
    async with client_on(sandbox) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.submit(create(url))
        job = client.job(caught.value.job_id)
        done = await job.result(timeout=5)
        assert done.user_count == 3
        assert job.state == JobState.PROCESSED
    assert len(sandbox.workspace.counted) == 1


async def test_an_unknown_create_is_found_in_the_list(sandbox: Sandbox, url: str) -> None:
    """Evidence that costs no file quota: it exists, and since when."""
    sandbox.fail_next(FaultKind.LOSE_ANSWER)
    async with client_on(sandbox, callbacks=None) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.submit(create(url))
        job = client.job(caught.value.job_id)
        assert await job.wait_until(lambda record: record.adopted, 5)
        assert job.state == JobState.ACCEPTED
        assert job.accepted is not None
        assert job.accepted.cs_id


@pytest.mark.parametrize("ahead_s", [-7_200.0, 7_200.0])
async def test_an_unknown_create_is_found_however_wrong_a_clock_is(tmp_path: Path, ahead_s: float) -> None:
    """The service's own Date says how old its segment is."""
    (tmp_path / "users.csv").write_text("u-1\nu-2\nu-3\n")
    clock = lambda: time.time() + ahead_s  # noqa: E731 - a clock is a callable
    async with Sandbox(speed=SPEED, processing_s=(0, 0), clock=clock) as sandbox:
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        async with client_on(sandbox, callbacks=None) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await client.submit(create(await sandbox.publish(tmp_path / "users.csv")))
            assert await client.job(caught.value.job_id).wait_until(lambda record: record.adopted, 5)


async def test_a_segment_that_was_there_before_is_not_taken_for_ours(sandbox: Sandbox, url: str) -> None:
    """Its name is ours, and it is older than what we sent: somebody else made it."""
    async with client_on(sandbox, callbacks=None) as elsewhere:
        await elsewhere.submit(create(url))
    sandbox.advance(60)  # a Date counts whole seconds
    lists = _lists(sandbox)
    sandbox.fail_next(FaultKind.DROP)
    async with client_on(sandbox, callbacks=None) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.submit(create(url))
        job = client.job(caught.value.job_id)
        while _lists(sandbox) == lists:
            await asyncio.sleep(0.01)
        assert not await job.wait_until(lambda record: record.adopted, 1.5)
        assert job.state == JobState.UNKNOWN


def _lists(sandbox: Sandbox) -> int:
    return sum(request.op == "list" for request in sandbox.workspace.requests)


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.SERVER_ERROR_COUNTED, FaultKind.DROP])
async def test_no_file_operation_is_sent_twice_by_itself(sandbox: Sandbox, url: str, kind: FaultKind) -> None:
    """A 5xx or a reset may have counted: the doubt is named, the request arrives once."""
    async with client_on(sandbox) as client:
        await (await client.submit(create(url))).result(timeout=5)
        sandbox.fail_next(kind)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.submit(add(url))
        assert client.job(caught.value.job_id).record.operation["op"] == "add"
    assert len(sandbox.workspace.requests) == 2


async def test_a_repeat_that_is_asked_for_is_marked(sandbox: Sandbox, url: str) -> None:
    """`on_unknown="retry"` sends an unknown job again, and says that it may have happened twice."""
    async with client_on(sandbox, callbacks=None) as client:
        await client.submit(create(url))
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        with pytest.raises(OutcomeUnknown):
            await client.submit(add(url), job_id="mine")
        assert (await client.submit(add(url), job_id="mine")).state == JobState.UNKNOWN
        job = await client.submit(add(url), job_id="mine", on_unknown="retry")
        assert job.state == JobState.ACCEPTED
        assert job.duplicate_possible
    assert len(sandbox.workspace.counted) == 3


async def test_nobody_listening_is_not_sent_and_gives_everything_back(sandbox: Sandbox, url: str) -> None:
    """No connection was obtained: provably free, so it may be repeated, and was as often as the settings say."""
    async with client_on(sandbox, base_url="http://127.0.0.1:9", max_attempts=1) as client:
        with pytest.raises(NotSent):
            await client.submit(create(url))
        assert (await client.governor.usage())["operations_per_hour"].used == 0
        [record] = replica_of(client).state.jobs.records.values()
        assert record.state == JobState.NOT_SENT


async def test_a_connection_that_fails_is_tried_again(sandbox: Sandbox, url: str) -> None:
    """Not sent may be repeated freely, each time with a reservation of its own."""
    from moe_segments.http.transport import Unsent

    async with client_on(sandbox) as client:
        send, failures = client._transport.send, iter([Unsent("no route"), None])

        async def flaky(*arguments: Any) -> Any:
            return next(failures, None) or await send(*arguments)

        client._transport.send = flaky  # type: ignore[method-assign,assignment]  # the network's weather
        states: list[str] = []
        records = replica_of(client).state.jobs.records
        replica_of(client).subscribers.on_change(lambda: states.extend(record.state for record in records.values()))
        job = await client.submit(create(url))
        assert job.record.attempt == 2
        assert JobState.PLANNED in states
        assert JobState.NOT_SENT not in states, "whoever follows the job would take that for its end"
        assert (await client.governor.usage())["operations_per_hour"].used == 1


async def test_a_429_that_we_did_not_foresee_is_raised_and_waited_for(sandbox: Sandbox, url: str) -> None:
    """Somebody else spends: said with the time, never repeated by itself for a direct caller."""
    sandbox.workspace.spend_elsewhere(operations=10)
    async with client_on(sandbox) as client:
        with pytest.raises(TooManyRequests) as caught:
            await client.submit(create(url))
        assert caught.value.limit == "operations_per_hour"
        assert caught.value.ready_at is not None
        assert len(sandbox.workspace.requests) == 1
        with pytest.raises(QuotaExceeded):
            await client.submit(create(url))
        assert len(sandbox.workspace.requests) == 1


async def test_many_put_an_operation_back_in_line_after_a_429(sandbox: Sandbox, url: str) -> None:
    """As a new row of the same job, when the window is open again."""
    sandbox.workspace.spend_elsewhere(operations=10)
    async with client_on(sandbox) as client:
        [outcome] = [outcome async for outcome in client.submit_many([create(url)])]
        assert outcome.error is None
        assert outcome.job is not None
        assert outcome.job.record.attempt == 2


async def test_a_failed_file_is_a_failed_job(sandbox: Sandbox, url: str) -> None:
    """Accepted, then failed: the service's words, and the users given back."""
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        with pytest.raises(FileProcessingFailed) as caught:
            await job.result(timeout=5)
        assert caught.value.status == 500
        assert (await client.governor.usage())["users_per_day"].used == 0


async def test_a_callback_faster_than_the_answer_ends_the_job(sandbox: Sandbox, url: str) -> None:
    """And the answer that follows still tells the segment's identifier."""
    sandbox.fail_next(FaultKind.EARLY_CALLBACK)
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        assert job.state == JobState.PROCESSED
        assert job.accepted is not None
        assert job.accepted.cs_id


async def test_a_callback_twice_is_one_result(sandbox: Sandbox, url: str) -> None:
    """The first terminal event stays."""
    sandbox.fail_next(FaultKind.DOUBLE_CALLBACK)
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        await job.result(timeout=5)
        await sandbox.idle()
        assert job.record.conflicts == 0


async def test_without_a_callback_in_time_the_job_goes_on(sandbox: Sandbox, url: str) -> None:
    """CallbackTimeout names the job; it can be asked again."""
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        with pytest.raises(CallbackTimeout) as caught:
            await job.result(timeout=0.1)
        assert caught.value.job_id == job.id
        assert job.state == JobState.ACCEPTED


async def test_a_callback_that_cannot_be_read_is_told_and_a_later_one_ends_the_job(
    sandbox: Sandbox, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not "no callback": one came. What it was is kept, and nobody has to wait for it in vain."""
    sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
    async with client_on(sandbox) as client:
        job = await client.submit(create(url))
        with pytest.raises(CallbackUnreadable, match=r"not JSON @ \$.*moe-segments jobs") as caught:
            await asyncio.wait_for(job.result(), 10)
        with pytest.raises(CallbackUnreadable):
            await job.result()
        await sandbox.idle()
        assert (caught.value.job_id, caught.value.reason) == (job.id, "not JSON @ $")
        assert (job.state, client.job(job.id).state) == (JobState.UNREADABLE, JobState.UNREADABLE)
        assert job.record.unread == {"reason": "not JSON @ $", "raw": sandbox.workspace.deliveries[-1].body.decode()}
        assert f"job {job.id}: create of 'diwali': a callback came that cannot be read (not JSON @ $)" in caplog.text

        told = sandbox.workspace.submissions[-1].ask.callback_url
        assert told is not None
        figures = {"values_found": "3", "values_processed": 3.0, "user_count": 3}
        async with aiohttp.ClientSession() as session, session.post(told, json={"status": 201} | figures) as response:
            assert response.status == 200
        done = await job.result(timeout=5)
        assert (done.segment_name, done.user_count, done.request_id) == ("diwali", 3, None)
        assert job.state == JobState.PROCESSED


async def test_without_a_receiver_a_result_is_refused_at_once(sandbox: Sandbox, url: str) -> None:
    """Waiting for a callback that cannot come would be for ever."""
    async with client_on(sandbox, callbacks=None) as client:
        job = await client.submit(create(url))
        with pytest.raises(InputError, match="receiver"):
            await job.result()


async def test_a_job_is_resumed_by_another_process_on_the_same_journal(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """Submitted by one client, its callback taken by a second, awaited in a third."""
    journal = f"sqlite:///{tmp_path / 'q.db'}"
    sandbox.fail_next(FaultKind.LATE_CALLBACK)
    async with client_on(sandbox, journal=journal) as submitting:
        async with client_on(sandbox, journal=journal, callbacks=None) as awaiting:
            job_id = (await submitting.submit(create(url))).id
            job = awaiting.job(job_id)
            assert (await job.result(timeout=10)).user_count == 3
            assert job.operation == attrs.evolve(create(url))


async def test_a_job_that_is_called_off_between_two_tries_ends(sandbox: Sandbox, url: str) -> None:
    """Whoever follows it hears that nobody sends it again."""
    async with client_on(sandbox, base_url="http://127.0.0.1:9") as client:
        submitting = asyncio.ensure_future(client.submit(create(url), job_id="mine"))
        while "mine" not in replica_of(client).state.jobs.records or client.job("mine").state != JobState.PLANNED:
            await asyncio.sleep(0.01)
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        assert client.job("mine").state == JobState.NOT_SENT
        with pytest.raises(NotSent):
            await client.job("mine").result(timeout=1)


async def test_a_job_whose_process_died_between_two_tries_ends(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """It was provably never sent, and the next client on the journal says so."""
    from moe_segments.core.events import NeverSent, Reserved
    from moe_segments.core.state.jobs import remembered

    journal = f"sqlite:///{tmp_path / 'q.db'}"
    async with client_on(sandbox, journal=journal) as client:
        event = Reserved("mine", 1, remembered(create(url)), 1, 3, 1, ("diwali",), 30_000_000, owner="another-boot/1/1")
        await replica_of(client).ask(lambda _, __: ([event], None))
        await replica_of(client).record(NeverSent("mine", 1, "no connection", again=True))
        assert client.job("mine").state == JobState.PLANNED
    async with client_on(sandbox, journal=journal) as client:
        assert client.job("mine").state == JobState.NOT_SENT


async def test_a_job_id_stands_for_one_operation(sandbox: Sandbox, url: str) -> None:
    """Attached to another one's job, a caller would take its result for its own."""
    async with client_on(sandbox) as client:
        await client.submit(create(url), job_id="mine")
        with pytest.raises(InputError, match="another operation already"):
            await client.submit(add(url), job_id="mine")
        for wrong in ("", "two\nlines", "x" * 201):
            with pytest.raises(InputError, match="printable"):
                await client.submit(add(url), job_id=wrong)
    assert len(sandbox.workspace.counted) == 1


async def test_a_job_id_of_ones_own_is_sent_once(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """At the same time, later, and from another process."""
    journal = f"sqlite:///{tmp_path / 'q.db'}"
    async with client_on(sandbox, journal=journal) as client:
        jobs = await asyncio.gather(*(client.submit(create(url), job_id="mine") for _ in range(5)))
        assert {job.id for job in jobs} == {"mine"}
    async with client_on(sandbox, journal=journal) as client:
        await client.submit(create(url), job_id="mine")
    assert len(sandbox.workspace.counted) == 1


async def test_cancelling_at_any_step_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    """At each of the first steps of the loop: either nothing counts, or the request's outcome is in the journal."""
    (tmp_path / "users.csv").write_text("u-1\n")
    wide = QuotaLimits(operations_per_hour=1_000, operations_per_day=1_000)
    async with Sandbox(limits=wide, speed=SPEED, processing_s=(0, 0)) as sandbox:
        url = await sandbox.publish(tmp_path / "users.csv")
        for turns in range(60):
            async with client_on(sandbox) as client:
                task = asyncio.ensure_future(client.submit(create(url, f"t{turns}")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            records = replica_of(client).state.jobs.records.values()
            assert {record.state for record in records} <= {
                JobState.NOT_SENT,
                JobState.ACCEPTED,
                JobState.PROCESSED,
            }, (turns, records)
            assert replica_of(client).state.ledger.operations.held == 0


async def test_a_caller_that_goes_away_loses_no_outcome(sandbox: Sandbox, url: str) -> None:
    """The request had left: its answer is written down although nobody waits for it any more."""
    sandbox.fail_next(FaultKind.SLOW)
    async with client_on(sandbox) as client:
        task = asyncio.ensure_future(client.submit(create(url), job_id="mine"))
        while not sandbox.workspace.counted:
            await asyncio.sleep(0.01)
        assert client.job("mine").state == JobState.SENDING
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert client.job("mine").state == JobState.SENDING
        assert (await client.job("mine").result(timeout=10)).user_count == 3


async def test_closing_lets_the_answer_arrive(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Admission stops, what was sent is settled, the journal knows."""
    journal = f"sqlite:///{tmp_path / 'q.db'}"
    sandbox.fail_next(FaultKind.SLOW)
    async with client_on(sandbox, journal=journal) as client:
        task = asyncio.ensure_future(client.submit(create(url), job_id="mine"))
        while "mine" not in client._dispatcher.sending:
            await asyncio.sleep(0.01)
    assert (await task).accepted is not None
    async with client_on(sandbox, journal=journal) as client:
        assert client.job("mine").accepted is not None
        with pytest.raises(NotSent):
            await closed_client_submit(client, url)


async def test_closing_lets_go_of_who_had_not_begun(sandbox: Sandbox, url: str) -> None:
    """Its task is cancelled before its first step, and cannot say so itself."""
    async with client_on(sandbox) as client:
        task = asyncio.ensure_future(client.submit(create(url, rows=3), preflight="off"))
        await asyncio.sleep(0)
        assert client._call_tasks._tasks
        await client.aclose()
        async with asyncio.timeout(5):
            with pytest.raises(NotSent, match="closing"):
                await task
        assert not client._call_tasks._tasks
    assert not sandbox.workspace.requests


async def closed_client_submit(client: SegmentsClient, url: str) -> None:
    await client.aclose()
    await client.submit(create(url, "late"))


async def test_many_attach_to_what_was_sent_before_also_behind_what_did_not_go_through(
    sandbox: Sandbox, url: str
) -> None:
    """The add of an earlier run is accepted; that the create's outcome is unknown now changes nothing of that."""
    async with client_on(sandbox, callbacks=None) as client:
        await client.submit(create(url), job_id="first")
        await client.submit(add(url), job_id="accepted")
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        operations = {"lost": add(url), "accepted": add(url), "never": add(url)}
        outcomes = {one.job.id if one.job else "never": one async for one in client.submit_many(operations)}
        assert isinstance(outcomes["lost"].error, OutcomeUnknown)
        assert outcomes["accepted"].error is None
        assert isinstance(outcomes["never"].error, NotSent)
        assert len(sandbox.workspace.submissions) == 3


async def test_a_dependent_operation_is_sent_when_the_create_was_told_that_the_segment_exists(
    sandbox: Sandbox, url: str
) -> None:
    """Another journal created it: the 409 is the create's own."""
    async with client_on(sandbox) as other:
        await (await other.submit(create(url))).result(timeout=5)
    async with client_on(sandbox) as client:
        outcomes = [outcome async for outcome in client.submit_many([create(url), add(url)])]
    assert [type(outcome.error) for outcome in outcomes] == [Conflict, type(None)]


async def test_a_dependent_operation_is_held_back_when_the_create_did_not_go_through(
    sandbox: Sandbox, url: str
) -> None:
    """An add to a segment that does not exist would cost a slot for a 404."""
    sandbox.fail_next(FaultKind.PLATFORM_ERROR, status=400)
    async with client_on(sandbox) as client:
        outcomes = [outcome async for outcome in client.submit_many([create(url), add(url)])]
    assert [type(outcome.error) for outcome in outcomes] == [BadRequest, NotSent]
    assert len(sandbox.workspace.requests) == 1


async def test_operations_on_one_segment_keep_their_order(sandbox: Sandbox, url: str) -> None:
    """Also among many, also with a concurrency of its own for others."""
    operations: list[Operation] = [create(url, "s"), *(add(url, "s") for _ in range(4)), create(url, "other")]
    async with client_on(sandbox) as client:
        done: list[Outcome] = [outcome async for outcome in client.submit_many(operations, concurrency=3)]
    mine = [outcome.operation for outcome in done if outcome.operation.name == "s"]
    assert mine == operations[:5]
    assert all(outcome.error is None for outcome in done)


async def test_leaving_the_iterator_cancels_what_was_not_sent(sandbox: Sandbox, url: str) -> None:
    """What has left goes on; nothing else does."""
    async with client_on(sandbox) as client:
        many = client.submit_many(create(url, f"s{n}") for n in range(100))
        async for _ in many:
            break
        await many.aclose()  # type: ignore[attr-defined]  # an async generator
        while client._dispatcher.sending:
            await asyncio.sleep(0.01)
        sent = len(sandbox.workspace.requests)
        await asyncio.sleep(1.2)
        assert len(sandbox.workspace.requests) == sent <= 12


async def test_an_injected_session_is_used_and_not_closed(sandbox: Sandbox, url: str) -> None:
    """It belongs to the caller."""
    async with aiohttp.ClientSession() as session:
        async with client_on(sandbox, session=session) as client:
            await client.submit(create(url))
        assert not session.closed


async def test_a_client_is_refused_outside_its_context_and_loop(sandbox: Sandbox, url: str) -> None:
    """With what to do instead."""
    client = SegmentsClient(sandbox.credentials, base_url=sandbox.url, journal="memory:")
    with pytest.raises(InputError, match="async with"):
        await client.submit(create(url))
    for wrong in ({"journal": "mysql://x"}, {"base_url": "http://example.com"}, {"on_lost_journal": "hope"}):
        with pytest.raises(InputError):
            SegmentsClient(sandbox.credentials, **({"base_url": sandbox.url, "journal": "memory:"} | wrong))  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.asyncio
@pytest.mark.parametrize("given", ["x", None, 1, CreateFileSegment, {"op": "create", "api_key": "key-of-somebody"}])
async def test_what_is_no_operation_is_refused_as_such(sandbox: Sandbox, url: str, given: Any) -> None:
    """By every way in, before anything is sent; it is named by its type, since it may hold a secret."""

    async def coming() -> AsyncIterator[Any]:
        yield given

    async def all_of(operations: Any) -> None:
        async for _ in client.submit_many(operations):
            pass

    async with client_on(sandbox) as client:
        ways = [client.submit(given), client.preflight(given)]
        ways += [all_of(source) for source in ([create(url), given], {"mine": given}, iter([given]), coming())]
        ways += [client.governor.plan(operations) for operations in ([create(url), given], iter([given]))]
        if given is not CreateFileSegment:  # nor is one thing several
            ways += [all_of(given), client.governor.plan(given)]
        for way in ways:
            with pytest.raises(InputError, match="operation") as caught:
                await way
            assert "key-of-somebody" not in str(caught.value)
    assert not sandbox.workspace.requests


async def test_one_operation_is_not_several(sandbox: Sandbox, url: str) -> None:
    """Where a list of one was meant."""
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="must be several operations, such as a list of them"):
            await client.governor.plan(create(url))  # type: ignore[arg-type]  # the mistake itself
        with pytest.raises(InputError, match="must be several operations"):
            client.submit_many(create(url))  # type: ignore[arg-type]  # the same


async def test_a_word_that_is_none_of_two_is_refused(sandbox: Sandbox, url: str) -> None:
    """It was taken for the first one."""
    wrong: Any = "retyr"
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="on_unknown: must be 'raise' or 'retry'"):
            await client.submit(create(url), on_unknown=wrong)
        with pytest.raises(InputError, match="on_unknown: must be 'raise' or 'retry'"):
            client.submit_many([create(url)], on_unknown=wrong)
    assert not sandbox.workspace.requests


async def test_a_deleted_journal_is_noticed(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """The witness beside it knows that there was one, so every window is waited for."""
    path = tmp_path / "q.db"
    async with client_on(sandbox, journal=f"sqlite:///{path}") as client:
        await client.submit(create(url))
    path.unlink()
    async with client_on(sandbox, journal=f"sqlite:///{path}") as client:
        with pytest.raises(QuotaExceeded):
            await client.submit(create(url, "b"))
    async with client_on(sandbox, journal=f"sqlite:///{path}", on_lost_journal="trust") as client:
        await client.submit(create(url, "b"))


async def test_another_service_on_the_same_journal_is_refused(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """A sandbox's usage is not the real one's."""
    journal = f"sqlite:///{tmp_path / 'q.db'}"
    async with client_on(sandbox, journal=journal) as client:
        await client.submit(create(url))
    with pytest.raises(JournalError, match="belongs to"):
        async with client_on(sandbox, journal=journal, base_url="http://127.0.0.1:9"):
            pass


async def test_a_job_whose_process_died_is_unknown_after_a_restart(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """At most once: it is named, and not sent again by the same call."""
    from moe_segments.core.events import Reserved
    from moe_segments.core.state.jobs import remembered

    journal = f"sqlite:///{tmp_path / 'q.db'}"
    async with client_on(sandbox, journal=journal, callbacks=None) as client:
        event = Reserved(
            "mine", 1, remembered(create(url)), 1, 3, 1, ("diwali",), 30_000_000, 60_000_000, owner="another-boot/1/1"
        )
        await replica_of(client).ask(lambda _, __: ([event], None))
    async with client_on(sandbox, journal=journal, callbacks=None) as client:
        assert client.job("mine").state == JobState.UNKNOWN
        assert (await client.submit(create(url), job_id="mine")).state == JobState.UNKNOWN
    assert sandbox.workspace.counted == ()


async def test_no_secret_is_shown_anywhere(
    sandbox: Sandbox, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys, tokens and signatures: not in logs, reprs, errors or the journal."""
    caplog.set_level(logging.DEBUG)
    key, signature = "canary-key-0123456789", "canary-signature-0123456789"
    wrong = Credentials(workspace_id="SANDBOX", api_key=key, data_center="01")
    shown: list[str] = [repr(wrong), str(wrong)]
    path = tmp_path / "q.db"
    async with client_on(sandbox, credentials=wrong, journal=f"sqlite:///{path}") as client:
        shown += [repr(client), repr(client.settings), repr(client.governor), repr(client._transport)]
        for operation in (create(f"{url}?sig={signature}"), create(f"{url}?sig={signature}", "b")):
            shown.append(repr(operation))
            with pytest.raises(AuthenticationFailed) as caught:
                await client.submit(operation)
            shown += [repr(caught.value), str(caught.value), repr(pickle.loads(pickle.dumps(caught.value)))]
        with pytest.raises(PreflightError) as counted:
            await client.submit(create(f"{sandbox.url}/_files/nothing/here.csv?sig={signature}", "c", rows=None))
        shown += [repr(counted.value), str(counted.value)]
    shown += [path.read_bytes().decode("latin1"), caplog.text]
    for text in shown:
        assert key not in text
        assert signature not in text


async def test_limits_are_checked_when_they_are_made() -> None:
    """A setting that cannot work is refused with its name."""
    for wrong in (
        {"operations_per_hour": 0},
        {"headroom": {"x": 1}},
        {"guard_s": -1},
        {"hour_s": 10**400},
        {"consumes": {500: False}},
    ):
        with pytest.raises(InputError):
            QuotaLimits(**wrong)
