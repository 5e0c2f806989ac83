"""The promises of `Journal`, checked on every engine.

To check another engine, add a place to `PLACES` in conftest.py; from outside, import all of this module's tests and
define fixtures `place` and `clock` of your own beside them.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import (
    ActiveObserved,
    Answered,
    Batch,
    CallbackReceived,
    Checkpoint,
    ExternalUsage,
    NeverSent,
    Opened,
    Planned,
    Reserved,
    Throttled,
    Unknown,
)
from moe_segments.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from moe_segments.core.events import Event
    from moe_segments.journal import Clock, Decide, Journal
    from tests.contract.conftest import FakeClock, Place

T0_US = 1_790_000_000_000_000
FAR_US = 2**60
STATE = Checkpoint({"folded": [1, 2]})


def fact(number: int = 0) -> Event:
    return ExternalUsage(operations=1, rows=number, at_us=T0_US)


def always(*events: Event) -> Decide:
    return lambda _missed, _now_us: events


@asynccontextmanager
async def opened(place: Place, scope: str = "W1", *, clock: Clock | None = None) -> AsyncIterator[Journal]:
    journal = place.journal(scope, clock=clock)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def fill(journal: Journal, count: int) -> list[Batch]:
    return [await journal.append([fact(number)], batch_id=f"b{number}") for number in range(1, count + 1)]


async def reserve(journal: Journal, capacity: int, batch_id: str) -> Batch | None:
    """Append one batch unless the log holds *capacity* of them, knowing nothing beforehand."""
    return await journal.transact(
        0, lambda missed, _now_us: [fact()] if len(missed) < capacity else [], batch_id=batch_id
    )


def is_whole(batches: Sequence[Batch]) -> bool:
    return [batch.version for batch in batches] == list(range(1, len(batches) + 1))


@pytest.mark.asyncio
async def test_a_new_log_is_empty_named_and_beyond_doubt(place: Place) -> None:
    async with opened(place) as journal:
        assert journal.is_new
        assert journal.journal_id
        assert journal.doubt is None
        assert list(await journal.read(0)) == []


@pytest.mark.asyncio
async def test_versions_count_from_one_without_gaps(place: Place) -> None:
    async with opened(place) as journal:
        await journal.append([fact()], batch_id="a")
        await journal.transact(1, always(), batch_id="nothing")
        await journal.transact(1, always(fact()), batch_id="b")
        await journal.append([fact()], batch_id="c")

        batches = await journal.read(0)

    assert [(batch.version, batch.id) for batch in batches] == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.asyncio
async def test_time_never_runs_backwards(place: Place, clock: FakeClock) -> None:
    """A clock that is set back makes the log's time stand still, for decisions and for facts."""
    seen_us: list[int] = []

    def decide(_missed: Sequence[Batch], now_us: int) -> Sequence[Event]:
        seen_us.append(now_us)
        return [fact()]

    async with opened(place, clock=clock) as journal:
        for number, now_us in enumerate((T0_US + 5, T0_US - 3_600_000_000, T0_US + 6)):
            clock.now_us = now_us
            await journal.append([fact()], batch_id=f"append-{number}")
            await journal.transact(2 * number + 1, decide, batch_id=f"transact-{number}")
        batches = await journal.read(0)

    assert [batch.at_us - T0_US for batch in batches] == [5, 5, 5, 5, 6, 6]
    assert seen_us == [batch.at_us for batch in batches[1::2]]


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [0, 2, 4])
async def test_a_decision_sees_exactly_what_it_missed(place: Place, after: int) -> None:
    seen: list[Batch] = []

    def decide(missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        seen[:] = missed
        return [fact()]

    async with opened(place) as journal:
        batches = await fill(journal, 4)
        await journal.transact(after, decide, batch_id="decision")

    assert seen == batches[after:]


@pytest.mark.asyncio
async def test_deciding_nothing_writes_nothing(place: Place) -> None:
    async with opened(place) as journal:
        assert await journal.transact(0, always(), batch_id="a") is None
        assert list(await journal.read(0)) == []


@pytest.mark.asyncio
async def test_a_decision_that_raises_writes_nothing_and_is_passed_on(place: Place) -> None:
    """Whatever it raises, an error that looks like the disk's included; the journal goes on working."""

    def decide(_missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        raise OSError(28, "not the journal's disk")

    async with opened(place) as journal:
        with pytest.raises(OSError, match="not the journal's disk"):
            await journal.transact(0, decide, batch_id="a")
        assert list(await journal.read(0)) == []
        assert await journal.transact(0, always(fact()), batch_id="a") is not None


@pytest.mark.asyncio
async def test_asking_again_with_an_id_returns_the_stored_batch(place: Place) -> None:
    """An append whose answer was lost is simply asked again; nothing is decided twice."""

    def never(_missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        raise AssertionError

    async with opened(place) as journal:
        appended = await journal.append([fact(1)], batch_id="a")
        decided = await journal.transact(1, always(fact(2)), batch_id="b")

        assert await journal.append([fact(9)], batch_id="a") == appended
        assert await journal.append([fact(9)], batch_id="b") == decided
        assert await journal.transact(0, never, batch_id="a") == appended
        assert await journal.transact(2, never, batch_id="b") == decided
        assert len(await journal.read(0)) == 2


@pytest.mark.asyncio
async def test_one_loop_s_tasks_decide_one_after_another(place: Place) -> None:
    async with opened(place) as journal:
        asked = (reserve(journal, 10, f"task-{number}") for number in range(30))
        granted = [batch for batch in await asyncio.gather(*asked) if batch is not None]

        assert len(granted) == 10
        assert is_whole(await journal.read(0))


@pytest.mark.asyncio
async def test_several_handles_decide_one_after_another(place: Place) -> None:
    if not place.is_shared:
        pytest.skip("this engine's handle is its log")
    async with opened(place) as one, opened(place) as two, opened(place) as three:
        handles = itertools.cycle((one, two, three))
        asked = (reserve(next(handles), 10, f"task-{number}") for number in range(30))
        granted = [batch for batch in await asyncio.gather(*asked) if batch is not None]

        assert len(granted) == 10
        assert is_whole(await one.read(0))
        assert await one.read(0) == await two.read(0)
        assert [one.is_new, two.is_new, three.is_new] == [True, False, False]


@pytest.mark.asyncio
async def test_a_log_outlives_its_handle(place: Place) -> None:
    async with opened(place) as journal:
        batches, name = await fill(journal, 3), journal.journal_id

    async with opened(place) as journal:
        assert list(await journal.read(0)) == batches
        assert (journal.journal_id, journal.is_new, journal.doubt) == (name, False, None)
        assert (await journal.append([fact()], batch_id="next")).version == 4


@pytest.mark.asyncio
async def test_closing_twice_is_closing_once(place: Place) -> None:
    async with opened(place) as journal:
        await journal.close()


@pytest.mark.asyncio
async def test_scopes_do_not_see_one_another(place: Place) -> None:
    """Each workspace has its own versions, batch ids, checkpoint and name."""
    async with opened(place, "W1") as one, opened(place, "w1") as two:
        await fill(one, 3)
        await one.checkpoint(3, STATE, keep_since_us=FAR_US)
        batch = await two.append([fact(7)], batch_id="b1")

        assert list(await two.read(0)) == [batch]
        assert batch.version == 1
        assert one.journal_id != two.journal_id


@pytest.mark.asyncio
async def test_a_cancelled_call_leaves_a_whole_log_that_goes_on(place: Place) -> None:
    """Either nothing or the whole batch is there, and the next call is not held up."""
    async with opened(place) as journal:
        for turns in range(6):
            task = asyncio.ensure_future(journal.append([fact(1), fact(2)], batch_id=f"cut-{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = await journal.append([fact()], batch_id="last")
        batches = await journal.read(0)

    assert is_whole(batches)
    assert batches[-1] == last
    assert all(len(batch.events) == 2 for batch in batches[:-1])


@pytest.mark.asyncio
async def test_events_come_back_as_they_were(place: Place) -> None:
    events = (
        Opened("https://api-03.example.com", 1.0),
        Planned("j1", {"op": "create", "name": "ディワリ", "rows": None}, run="r", line=1),
        Reserved("j1", 1, {"op": "create"}, 1, 48_210, 1, ("ディワリ", "id:1"), 30, 60, "a" * 64, 30, "boot/1/2"),
        Answered("j1", 1, 202, accepted={"success": True, "cs_id": None}),
        CallbackReceived("j1", 1, "d", "processed", {"values": [1, 2.5, "x"]}, values_found=3),
        NeverSent("j2", 1, "no connection"),
        Unknown("j3", 2, "time-out", status=504),
        Throttled("operations_per_hour", T0_US, probe=True),
        ActiveObserved(0),
    )
    async with opened(place) as journal:
        batch = await journal.append(events, batch_id="all")
        assert batch.events == events
    async with opened(place) as journal:
        assert list(await journal.read(0)) == [batch]


@pytest.mark.asyncio
async def test_a_log_that_ends_before_its_reader_is_refused(place: Place) -> None:
    """Whoever has read further has read another log, and must not decide on this one."""
    async with opened(place) as journal:
        await fill(journal, 2)
        with pytest.raises(JournalError):
            await journal.read(3)
        with pytest.raises(JournalError):
            await journal.transact(3, always(fact()), batch_id="a")
        with pytest.raises(JournalError):
            await journal.checkpoint(3, STATE, keep_since_us=0)
        assert len(await journal.read(0)) == 2


@pytest.mark.asyncio
async def test_a_checkpoint_stands_for_what_is_gone(place: Place) -> None:
    seen: list[Batch] = []

    def decide(missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        seen[:] = missed
        return ()

    async with opened(place) as journal:
        batches = await fill(journal, 5)
        await journal.checkpoint(3, STATE, keep_since_us=FAR_US)
        stand_in = Batch(3, "checkpoint-3", batches[2].at_us, (STATE,))

        assert list(await journal.read(0)) == [stand_in, *batches[3:]]
        assert list(await journal.read(3)) == batches[3:]
        assert list(await journal.read(4)) == batches[4:]
        await journal.transact(1, decide, batch_id="a")
        assert seen == [stand_in, *batches[3:]]


@pytest.mark.asyncio
async def test_a_newer_checkpoint_is_never_replaced_by_an_older(place: Place) -> None:
    async with opened(place) as journal:
        await fill(journal, 5)
        await journal.checkpoint(4, STATE, keep_since_us=FAR_US)
        await journal.checkpoint(2, Checkpoint({"older": True}), keep_since_us=FAR_US)
        assert [batch.id for batch in await journal.read(0)] == ["checkpoint-4", "b5"]

        await journal.checkpoint(5, STATE, keep_since_us=FAR_US)
        assert [batch.id for batch in await journal.read(0)] == ["checkpoint-5"]


@pytest.mark.asyncio
async def test_young_batch_ids_outlive_a_checkpoint(place: Place, clock: FakeClock) -> None:
    async with opened(place, clock=clock) as journal:
        await journal.append([fact()], batch_id="old")
        clock.now_us += 1_000
        young = await journal.append([fact()], batch_id="young")
        await journal.append([fact()], batch_id="last")
        await journal.checkpoint(3, STATE, keep_since_us=clock.now_us)

        assert await journal.append([fact(9)], batch_id="young") == young
        assert (await journal.append([fact(9)], batch_id="old")).version == 4


@pytest.mark.asyncio
async def test_versions_and_time_go_on_over_a_checkpoint_of_everything(place: Place, clock: FakeClock) -> None:
    async with opened(place, clock=clock) as journal:
        await fill(journal, 3)
        await journal.checkpoint(3, STATE, keep_since_us=FAR_US)
    clock.now_us -= 1_000
    async with opened(place, clock=clock) as journal:
        batch = await journal.append([fact()], batch_id="next")
        assert (batch.version, batch.at_us) == (4, T0_US)
        assert [one.id for one in await journal.read(0)] == ["checkpoint-3", "next"]


@pytest.mark.asyncio
async def test_changed_answers_at_once_when_there_is_more(place: Place) -> None:
    async with opened(place) as journal:
        await fill(journal, 2)
        assert await journal.changed(1, timeout_s=0)
        assert not await journal.changed(2, timeout_s=0.01)


@pytest.mark.asyncio
async def test_changed_is_woken_by_an_append(place: Place) -> None:
    """The handle's own append wakes everybody who waits, without a poll."""
    async with opened(place) as journal:
        waiting = [asyncio.ensure_future(journal.changed(0, timeout_s=30)) for _ in range(3)]
        await asyncio.sleep(0.005)
        await journal.append([fact()], batch_id="a")
        assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == [True, True, True]


@pytest.mark.asyncio
async def test_changed_notices_another_handle(place: Place) -> None:
    async with opened(place) as one, opened(place) as two:
        waiting = asyncio.ensure_future(one.changed(0, timeout_s=30))
        await asyncio.sleep(0.005)
        await two.append([fact()], batch_id="a")
        assert await asyncio.wait_for(waiting, 20)


@pytest.mark.asyncio
async def test_a_long_log_is_read_whole(place: Place) -> None:
    """However an engine divides it: from the beginning, from any place, by who had it open and by who opens it."""
    count, begin = 1_230, 700
    async with opened(place) as one, opened(place) as idle:
        await idle.read(0)
        batches = await fill(one, count)
        assert list(await one.read(0)) == batches
        assert list(await idle.read(0)) == batches
        seen: list[Batch] = []

        def decide(missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
            seen[:] = missed
            return [fact()]

        last = await idle.transact(0, decide, batch_id="late")
        assert last is not None
        assert seen == batches

        await one.checkpoint(begin, STATE, keep_since_us=batches[99].at_us)
        stand_in = Batch(begin, f"checkpoint-{begin}", batches[begin - 1].at_us, (STATE,))
        assert list(await one.read(0)) == [stand_in, *batches[begin:], last]
        assert list(await idle.read(begin - 1)) == [*batches[begin - 1 :], last]
    if place.is_shared:
        async with opened(place) as other:
            assert list(await other.read(0)) == [stand_in, *batches[begin:], last]
            assert await other.transact(0, decide, batch_id="later") is not None
            assert seen == [stand_in, *batches[begin:], last]
