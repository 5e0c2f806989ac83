"""An engine that cannot tell whether it wrote is asked again with the same batch id; nothing is granted meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import ExternalUsage, Reserved
from moe_segments.errors import JournalAmbiguous, JournalError, JournalUnavailable
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import Batch, Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal import Decide
    from moe_segments.journal.replica import Question

pytestmark = pytest.mark.virtual_time


class LossyJournal(MemoryJournal):
    """Loses the requests and answers of as many calls as it is told to.

    Attributes:
        lost: What is to happen to the next calls: "request", "answer", "unreachable" or "unusable", of which the last
            two are known not to have been written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[str] = []

    async def transact(self, after: int, decide: Decide, *, batch_id: str) -> Batch | None:
        lost = self._lose()
        decide(await self.read(after), 0)  # an engine may decide before it asks, and decide anew
        if lost == "request":
            raise JournalAmbiguous("no answer")
        batch = await super().transact(after, decide, batch_id=batch_id)
        if lost == "answer":
            raise JournalAmbiguous("no answer")
        return batch

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        lost = self._lose()
        if lost == "request":
            raise JournalAmbiguous("no answer")
        batch = await super().append(events, batch_id=batch_id)
        if lost == "answer":
            raise JournalAmbiguous("no answer")
        return batch

    def _lose(self) -> str:
        lost = self.lost.pop(0) if self.lost else ""
        if lost == "unreachable":
            raise JournalUnavailable("nobody there")
        if lost == "unusable":
            raise JournalError("it was put back")
        return lost


def reserve(job: str) -> Question[str]:
    """Reserve once; the answer is the job's name, or that it is known."""

    def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], str]:
        if job in state.jobs.records:
            return [], f"{job} is known"
        event = Reserved(job, 1, {"op": "create"}, 1, 0, 0, (), 30, 60)
        state.try_reserve(event, now_us)
        return [event], job

    return question


async def opened(journal: LossyJournal) -> Replica:
    replica = Replica(journal, QuotaLimits())
    await replica.open()
    return replica


@pytest.mark.parametrize("lost", [["request"], ["answer"], ["request", "request", "answer", "unreachable", "answer"]])
async def test_a_lost_answer_is_asked_for_again_and_granted_once(lost: list[str]) -> None:
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = lost

    answers = await asyncio.gather(replica.ask(reserve("a")), replica.ask(reserve("b")))

    assert list(answers) == ["a", "b"]
    assert [len(batch.events) for batch in await journal.read(0)] == [2]
    assert sorted(replica.state.jobs.records) == ["a", "b"]
    await replica.close()


@pytest.mark.parametrize("lost", [["request"], ["answer"], ["answer", "unreachable", "answer"]])
async def test_a_fact_whose_answer_was_lost_is_recorded_once(lost: list[str]) -> None:
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = lost

    await replica.record(ExternalUsage(operations=3))

    assert len(await journal.read(0)) == 1
    assert replica.state.version == 1
    await replica.close()


async def test_the_answer_is_that_of_the_run_that_was_written() -> None:
    """Asked again, the question may be answered differently; only what is durable is granted."""
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = ["answer"]
    runs = 0

    def greedy(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], int]:
        nonlocal runs
        runs += 1
        events, _ = reserve(f"run {runs}")(state, now_us)
        return events, runs

    answer = await replica.ask(greedy)
    assert answer < runs
    assert list(replica.state.jobs.records) == [f"run {answer}"]
    await replica.close()


async def test_what_stays_unknown_is_raised_before_the_send_fence() -> None:
    """Nothing is granted; what was asked later waited, and is asked in its turn."""
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = ["answer", *["request"] * 1_000]
    began_s = asyncio.get_running_loop().time()

    with pytest.raises(JournalAmbiguous, match="no answer"):
        await replica.ask(reserve("a"))

    assert 10 < asyncio.get_running_loop().time() - began_s < 20
    journal.lost.clear()
    assert await replica.ask(reserve("a")) == "a is known"
    await replica.close()


async def test_what_stays_unknown_is_not_said_to_be_unwritten() -> None:
    """As when the server goes away: later tries wrote nothing, and that says nothing of the first one."""
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = ["answer", *["unreachable"] * 1_000]

    with pytest.raises(JournalAmbiguous) as caught:
        await replica.ask(reserve("a"))

    assert caught.value.problem == "no answer"
    assert str(caught.value.__cause__) == "nobody there"
    await replica.close()


async def test_what_was_certainly_not_written_is_raised_at_once() -> None:
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = ["unreachable"]

    with pytest.raises(JournalError, match="nobody there") as caught:
        await replica.ask(reserve("a"))

    assert not isinstance(caught.value, JournalAmbiguous)
    assert await replica.ask(reserve("a")) == "a"
    await replica.close()


async def test_a_journal_that_became_unusable_is_not_asked_on() -> None:
    journal = LossyJournal()
    replica = await opened(journal)
    journal.lost[:] = ["answer", "unusable"]
    began_s = asyncio.get_running_loop().time()

    with pytest.raises(JournalError, match="it was put back"):
        await replica.ask(reserve("a"))

    assert asyncio.get_running_loop().time() - began_s < 1
    await replica.close()
