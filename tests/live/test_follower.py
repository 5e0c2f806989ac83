"""A replica of a long journal lets the event loop go on while it reads it and while it writes a checkpoint."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import Batch, Checkpoint, ExternalUsage, Reserved
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import JournalError
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Event

JOBS = 2_000
NOW_US = 1_790_000_000_000_000


def reserved(number: int) -> Reserved:
    return Reserved(f"job-{number}", 1, {"op": "add", "name": f"s{number}"}, 1, 1, 0, (f"s{number}",), 30, 60)


def long_state() -> WorkspaceState:
    state = WorkspaceState(QuotaLimits())
    for number in range(1, JOBS + 1):
        state.fold(Batch(number, str(number), NOW_US + number, (reserved(number),)))
    return state


async def turns_during(work: Awaitable[object]) -> int:
    """How often the loop came round for somebody else meanwhile."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    await asyncio.sleep(0)
    turns = 0
    await work
    turning.cancel()
    return turns


@pytest.mark.asyncio
async def test_a_journal_in_memory_groups_concurrent_records_as_every_engine_does() -> None:
    """Tests that run on `memory:` run the way that users run: one queue, one batch for those who come together."""
    replica = Replica(MemoryJournal(), QuotaLimits())
    await replica.open()

    moments = await asyncio.gather(*(replica.record(ExternalUsage()) for _ in range(3)))

    assert replica.state.version == 1
    assert len(set(moments)) == 1
    await replica.close()


@pytest.mark.asyncio
async def test_opening_a_long_journal_lets_the_loop_go_on() -> None:
    """A part of its checkpoint, or two hundred batches, at a stretch."""
    journal = MemoryJournal()
    for name in ("gone", "kept"):
        await journal.append([ExternalUsage()], batch_id=name)
    checkpoint = long_state().snapshot()
    await journal.checkpoint(2, checkpoint, keep_since_us=2**62)
    for number in range(2_000):
        await journal.append([ExternalUsage()], batch_id=str(number))
    replica = Replica(journal, QuotaLimits())

    turns = await turns_during(replica.open())

    assert len(replica.state.jobs.records) == JOBS
    assert turns >= len(checkpoint.parts) + 10
    await replica.close()


@pytest.mark.asyncio
async def test_a_checkpoint_is_written_while_the_loop_goes_on() -> None:
    """A part of two hundred jobs at a stretch; what is recorded meanwhile is no part of it."""
    ticks = itertools.count(NOW_US, 10_000_000)
    journal = MemoryJournal(clock=lambda: next(ticks))
    replica = Replica(journal, QuotaLimits())
    await replica.open()
    await replica.record(*(reserved(number) for number in range(JOBS)))
    for _ in range(JOBS - 1):  # the last one makes a checkpoint due
        await replica.record(ExternalUsage())
    version, turns = replica.state.version, 0
    late = asyncio.create_task(replica.record(reserved(JOBS)))
    while not isinstance((await journal.read(0))[0].events[0], Checkpoint) and turns < JOBS:
        await asyncio.sleep(0)
        turns += 1
    await late

    checkpoint = (await journal.read(0))[0]
    again = WorkspaceState(QuotaLimits())
    again.fold(checkpoint)
    assert checkpoint.version <= version
    assert len(again.jobs.records) == JOBS
    assert turns >= JOBS // 200
    await replica.close()


@pytest.mark.asyncio
async def test_who_missed_much_catches_up_before_it_decides(tmp_path: Path) -> None:
    """What it decides on is everything, and reading it let the loop go on."""
    idle = Replica(SqliteJournal(tmp_path / "quota.db", "W1"), QuotaLimits())
    other = SqliteJournal(tmp_path / "quota.db", "W1")
    await idle.open()
    await other.open()
    for number in range(450):
        await other.append([reserved(number)], batch_id=str(number))

    def question(state: WorkspaceState, _now_us: int) -> tuple[Sequence[Event], int]:
        return (), len(state.jobs.records)

    assert await idle.ask(question) == 450
    await other.close()
    await idle.close()


@pytest.mark.asyncio
async def test_a_journal_that_cannot_be_understood_decides_nothing_any_more(tmp_path: Path) -> None:
    """Half of an entry may have been counted."""
    replica = Replica(SqliteJournal(tmp_path / "quota.db", "W1"), QuotaLimits())
    other = SqliteJournal(tmp_path / "quota.db", "W1")
    await replica.open()
    await other.open()
    await other.append([ExternalUsage("many")], batch_id="newer")  # type: ignore[arg-type]  # as a later version may
    for _ in range(2):
        with pytest.raises(JournalError, match="cannot be understood"):
            await replica.ask(lambda _state, now_us: ((), now_us))
    with pytest.raises(JournalError, match="cannot be understood"):
        await replica.record(ExternalUsage(operations=1))
    await other.close()
    await replica.close()
