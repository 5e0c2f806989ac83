"""Tasks in the background never end in silence: what fails is logged with its job, and tried again where that helps."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import CreateFileSegment, JournalError, JournalReplaced, JournalUnavailable, OutcomeUnknown
from moe_segments.client.client import SegmentsClient, replica_of
from moe_segments.core.events import Adopted, Answered, Event, ExternalUsage
from moe_segments.journal.local.outage import Outage
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.sandbox import FaultKind, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch

FACT = ExternalUsage(operations=1)


class FailingJournal(MemoryJournal):
    """A log in memory that fails as it is told to.

    Attributes:
        changes: What the next looks for changes raise.
        appends: What the next appends of an event of a kind raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Exception] = []
        self.appends: dict[type[Event], list[Exception]] = {}

    async def changed(self, after: int, timeout_s: float) -> bool:
        if self.changes:
            raise self.changes.pop(0)
        return await super().changed(after, timeout_s)

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        for event in events:
            if errors := self.appends.get(type(event)):
                raise errors.pop(0)
        return await super().append(events, batch_id=batch_id)


# The watch


@pytest.mark.virtual_time
async def test_the_watch_outlives_whatever_it_meets(caplog: pytest.LogCaptureFixture) -> None:
    journal = FailingJournal()
    replica = Replica(journal, QuotaLimits())
    await replica.open()
    journal.changes = [RuntimeError("a mistake"), OSError("out of files"), JournalUnavailable("away")]
    waiting = asyncio.ensure_future(replica.job_changed("a"))
    await asyncio.sleep(10)
    assert not journal.changes
    await journal.append([Answered("a", 1, 202)], batch_id="elsewhere")
    await asyncio.wait_for(waiting, 10)
    assert "a mistake" in caplog.text
    await replica.close()


@pytest.mark.virtual_time
async def test_a_journal_that_was_replaced_ends_the_watch_and_all_who_wait() -> None:
    journal = FailingJournal()
    replica = Replica(journal, QuotaLimits())
    await replica.open()
    waiting = [asyncio.ensure_future(replica.job_changed(name)) for name in "ab"]
    ending = asyncio.ensure_future(replica.until_replaced())
    await asyncio.sleep(0)
    journal.changes = [JournalReplaced("it was put back")]
    await journal.append([FACT], batch_id="elsewhere")
    ended, endless = await asyncio.wait((*waiting, ending), timeout=10)
    assert not endless
    assert all(isinstance(one.exception(), JournalReplaced) for one in ended)
    for call in (replica.refresh(), replica.record(FACT), replica.ask(lambda *_: ((), None)), replica.check()):
        with pytest.raises(JournalReplaced):
            await call
    await replica.close()


@pytest.mark.virtual_time
async def test_a_listener_that_fails_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica(FailingJournal(), QuotaLimits())
    await replica.open()

    def fail() -> None:
        raise RuntimeError("a mistake of a listener")

    replica.subscribers.on_change(fail)
    await replica.record(FACT)
    await asyncio.wait_for(replica.record(FACT), 10)
    await asyncio.wait_for(replica.refresh(), 10)
    assert "a mistake of a listener" in caplog.text
    await replica.close()


# Warnings


def test_an_outage_is_told_once_then_once_a_minute_and_the_next_one_at_once(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    outage = Outage(clock=lambda: now_s)
    told: list[float] = []
    for tick in range(1_500):  # tenths of a second
        now_s = tick / 10
        caplog.clear()
        outage.warn("away", "the journal is away")
        if any(record.levelno == logging.WARNING for record in caplog.records):
            told.append(now_s)
    assert told == [0.0, 60.0, 120.0]
    now_s = 160.0
    outage.over()
    caplog.clear()
    outage.warn("away", "the journal is away")
    outage.warn("away", "the journal is away")
    outage.warn("doubt", "was it written")
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2


# Searches and submissions


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [JournalUnavailable("away"), JournalError("full")])
async def test_the_search_for_a_lost_create_goes_on_after_an_outage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: JournalError
) -> None:
    """Or says why it ended, and for which job."""
    (tmp_path / "users.csv").write_text("u-1\n")
    journal = FailingJournal()
    journal.appends[Adopted] = [error, error]
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as sandbox:
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        async with client_on(sandbox, journal) as client:
            with pytest.raises(OutcomeUnknown) as caught:
                await client.submit(create("lost", await sandbox.publish(tmp_path / "users.csv")))
            job = client.job(caught.value.job_id)
            is_found = await job.wait_until(lambda record: record.adopted, 8)
            assert is_found is isinstance(error, JournalUnavailable)
            assert f"job {job.id}: the search for its segment" in caplog.text


@pytest.mark.asyncio
async def test_what_fails_after_its_caller_left_is_logged_with_its_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "users.csv").write_text("u-1\n")
    journal = FailingJournal()
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as sandbox:
        sandbox.fail_next(FaultKind.SLOW)
        async with client_on(sandbox, journal) as client:
            journal.appends[Answered] = [JournalReplaced("it was put back")]
            operation = create("left", await sandbox.publish(tmp_path / "users.csv"))
            submitting = asyncio.ensure_future(client.submit(operation, job_id="mine"))
            while "mine" not in replica_of(client).state.jobs.records:
                await asyncio.sleep(0.01)
            submitting.cancel()
            async with asyncio.timeout(10):
                while "job mine: it failed after its caller had gone" not in caplog.text:
                    await asyncio.sleep(0.01)


def create(name: str, url: str) -> CreateFileSegment:
    return CreateFileSegment(
        name=name, attribute_name="ID", attribute_type="string", file_url=url, expiry_time=30, rows=1
    )


def client_on(sandbox: Sandbox, journal: MemoryJournal) -> SegmentsClient:
    settings: dict[str, Any] = {"limits": sandbox.limits, "base_url": sandbox.url, "requests_per_s": 1_000}
    return SegmentsClient(sandbox.credentials, journal=journal, preflight="off", **settings)
