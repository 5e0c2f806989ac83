"""What a journal in PostgreSQL promises while nothing breaks: round trips, exact decisions by any clock, news."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import Checkpoint
from moe_segments.errors import JournalError
from moe_segments.journal.postgres.engine import PostgresJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.fleet.postgres_worlds import LISTENERS, Place, always, followed, held, opened, place, waiting
from tests.fleet.proxy import Fault, Proxy
from tests.fleet.worlds import FACT, fact, fill, host, reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from moe_segments.core.events import Batch, Event

__all__ = ["place"]  # a fixture

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]


def proxy_of(place: Place) -> Proxy:
    return Proxy(("127.0.0.1", place.server.port))


# Round trips


async def test_an_uncontended_decision_is_one_round_trip(place: Place) -> None:
    """So is a fact; and what a hundred tasks ask at once is two at most."""
    async with proxy_of(place) as proxy, followed(place.url_at(proxy.port)) as replica:
        # Over a new connection each kind of call is prepared once, which is one more.
        assert await replica.ask(reserve("first"))
        await replica.record(FACT)
        for number in range(20):
            before = proxy.requests
            assert await replica.ask(reserve(f"j{number}"))
            await replica.record(FACT)
            assert proxy.requests - before == 2

        before = proxy.requests
        assert all(await asyncio.gather(*(replica.ask(reserve(f"t{number}")) for number in range(100))))
        assert proxy.requests - before <= 2


async def test_a_lost_race_costs_one_round_trip_more(place: Place) -> None:
    """What was missed comes with the news that the race was lost."""
    async with proxy_of(place) as proxy, followed(place.url_at(proxy.port)) as two, followed(place.url) as one:
        assert await two.ask(reserve("prepared"))
        for number in range(10):
            assert await one.ask(reserve(f"one {number}"))
            before = proxy.requests
            assert await two.ask(reserve(f"two {number}"))
            assert proxy.requests - before == 2
            await one.refresh()
        assert len(two.state.jobs.records) == 21


async def test_who_has_lost_twice_takes_the_lock_and_wins(place: Place) -> None:
    """However often others are quicker, and however far this one is."""
    async with opened(place.url) as rival, proxy_of(place) as proxy:
        async with opened(place.url_at(proxy.port)) as journal:
            seen: list[int] = []
            quicker: list[asyncio.Future[Batch]] = []

            def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
                seen.append(len(missed))
                quicker.append(asyncio.ensure_future(rival.append([FACT], batch_id=f"rival {len(seen)}")))
                return [FACT]

            async def be_quicker() -> None:
                if len(quicker) in {1, 2}:  # the third stands behind the lock, until what was decided is there
                    await quicker[-1]

            proxy.first = be_quicker
            batch = await journal.transact(0, decide, batch_id="mine")
            await asyncio.gather(*quicker)

    assert batch is not None
    assert seen == [0, 1, 2], "two lost races, then one decision under the lock"
    assert batch.version == 3


async def test_a_refusal_reads_first_and_writes_nothing(place: Place) -> None:
    async with proxy_of(place) as proxy, followed(place.url_at(proxy.port)) as replica, followed(place.url) as other:
        assert await replica.ask(reserve("a", 2))
        assert await other.ask(reserve("b", 2))
        assert not await replica.ask(reserve("c", 2)), "it had not read that the last place was taken"

        before = proxy.requests, place.sql("SELECT pg_current_wal_insert_lsn()")
        for _ in range(5):
            assert not await replica.ask(reserve("d", 2))
        assert proxy.requests - before[0] == 5
        assert place.sql("SELECT count(*) FROM {s}.batches") == "2"


async def test_a_place_that_was_given_back_elsewhere_is_not_refused(place: Place) -> None:
    """The copy here still shows it taken; a refusal from it would be stale."""
    async with opened(place.url) as one, opened(place.url) as two:
        await one.append([fact(1)], batch_id="taken")
        await two.append([fact(2)], batch_id="given back")

        def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            return [FACT] if any(batch.events == (fact(2),) for batch in missed) else []

        assert await one.transact(1, decide, batch_id="again") is not None


# Clocks


def _fast() -> int:
    return time.monotonic_ns() // 1_000 * 3


def _jumping() -> int:
    return time.monotonic_ns() // 1_000 + random.Random(time.monotonic_ns()).choice((-1, 1)) * 3_600_000_000


def _stopped() -> int:
    return 10**12


def _backwards() -> int:
    return -time.monotonic_ns() // 1_000


CLOCKS = [_fast, _jumping, _stopped, _backwards]


def server_us() -> int:
    """The server's clock: it runs on this host, which the journals under test are told nothing of."""
    return time.time_ns() // 1_000


@pytest.mark.parametrize("boot_us", CLOCKS)
async def test_whatever_this_host_s_clock_does_a_batch_has_the_server_s_time(
    place: Place, boot_us: Callable[[], int]
) -> None:
    """And was decided not after it, and at most a second before."""
    async with opened(place.url, host=host(boot_us)) as journal:
        for number in range(40):
            decided_us: list[int] = []

            def decide(_: Sequence[Batch], now_us: int, decided_us: list[int] = decided_us) -> Sequence[Event]:
                decided_us.append(now_us)
                return [FACT]

            before_us = server_us()
            batch = await journal.transact(number, decide, batch_id=f"b{number}")
            assert batch is not None
            assert before_us <= batch.at_us <= server_us()
            assert 0 <= batch.at_us - decided_us[-1] <= 1_000_000


@pytest.mark.parametrize("boot_us", CLOCKS)
async def test_what_is_free_from_a_moment_on_is_granted_from_it_on_and_never_before(
    place: Place, boot_us: Callable[[], int]
) -> None:
    """A host whose clock runs ahead is not early, and one whose clock stands still is not refused."""
    async with opened(place.url, host=host(boot_us)) as journal:
        await journal.append([FACT], batch_id="first")
        free_us = 2**62

        def decide(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
            return [FACT] if now_us >= free_us else []

        batch, tries = None, itertools.count()
        while batch is None:
            asked_us = server_us()
            batch = await journal.transact(1, decide, batch_id=f"b{next(tries)}")
            assert batch is not None or asked_us < free_us, "it was free when it was refused"
            free_us = min(free_us, server_us() + 60_000)
            await asyncio.sleep(0.01)
    assert batch.at_us >= free_us


async def test_a_host_s_clock_that_leaps_frees_nothing(place: Place) -> None:
    """What was decided at the time it showed is thrown away."""
    leapt_us = 0
    async with opened(place.url, host=host(lambda: time.monotonic_ns() // 1_000 + leapt_us)) as journal:
        await journal.append([FACT], batch_id="first")
        free_us, decided_us = server_us() + 3_600_000_000, list[int]()

        def decide(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
            decided_us.append(now_us)
            return [FACT] if now_us >= free_us else []

        leapt_us = 2 * 3_600_000_000
        assert await journal.transact(1, decide, batch_id="too early") is None
        assert decided_us[0] > free_us > decided_us[-1]


async def test_a_host_that_slept_decides_anew_on_the_server_s_time(place: Place) -> None:
    """Else it would refuse beside a grant what has been free for long."""
    async with opened(place.url, host=host(_stopped)) as journal:
        await journal.append([FACT], batch_id="first")
        await asyncio.sleep(1.1)
        decided_us: list[int] = []

        def decide(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
            decided_us.append(now_us)
            return [FACT]

        batch = await journal.transact(1, decide, batch_id="second")
        assert batch is not None
        assert batch.at_us - decided_us[0] > 1_000_000
        assert batch.at_us - decided_us[-1] < 1_000_000


async def test_the_time_is_read_after_the_wait_for_the_lock(place: Place) -> None:
    """`now()` is the moment a transaction began, which would date a fact before what it waited for."""
    async with opened(place.url) as journal:
        async with held(place):
            appending = asyncio.ensure_future(journal.append([FACT], batch_id="behind"))
            await waiting(place, appending)
            given_back_us = server_us()
        batch = await appending
    assert batch.at_us >= given_back_us, "it was dated before the wait"


async def test_four_hosts_with_clocks_that_go_wrong_take_exactly_the_places(place: Place) -> None:
    replicas = [Replica(PostgresJournal(place.url, "W1", host=host(clock)), QuotaLimits()) for clock in CLOCKS]
    for replica in replicas:
        await replica.open()
    answers = await asyncio.gather(
        *(replica.ask(reserve(f"{at} {number}", 50)) for number in range(25) for at, replica in enumerate(replicas))
    )
    assert sum(answers) == 50
    await replicas[0].refresh()
    assert len(replicas[0].state.jobs.records) == 50
    for replica in replicas:
        await replica.close()


async def test_a_first_run_that_fails_on_what_it_did_not_know_is_run_again(place: Place) -> None:
    """What the decision raises counts only when the server has shown what it was decided on."""
    async with opened(place.url) as one, opened(place.url) as two:
        await one.append([FACT], batch_id="a")

        def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            if not missed:
                raise LookupError("nothing to decide on")
            return [FACT]

        assert await two.transact(0, decide, batch_id="b") is not None
        with pytest.raises(LookupError):
            await two.transact(2, decide, batch_id="c")
        assert len(await one.read(0)) == 2


# News


async def test_who_waits_is_told_by_another_handle_long_before_the_poll(place: Place) -> None:
    async with opened(place.url, poll_s=30) as one, opened(place.url) as two:
        hearing = asyncio.ensure_future(one.changed(0, timeout_s=30))
        await listening(place)
        await two.append([FACT], batch_id="a")
        assert await asyncio.wait_for(hearing, 20)
        assert not await one.changed(1, timeout_s=0.01)


@pytest.mark.parametrize("payload", ["999999", "no version"])
async def test_news_that_are_not_ours_neither_keep_it_busy_nor_end_the_listening(place: Place, payload: str) -> None:
    """Anybody in the database may notify any channel."""
    async with followed(place.url, poll_s=30) as replica, opened(place.url) as two:
        with replica.watching():
            await listening(place)
            place.sql(
                f"SELECT pg_notify(substring(query FROM 'moe_segments_[0-9]+'), '{payload}') "
                f"FROM pg_stat_activity WHERE pid IN ({LISTENERS})"
            )
            await asyncio.sleep(0.3)
            assert not await replica.journal.changed(replica.state.version, 0)
            await two.append([FACT], batch_id="a")
            async with asyncio.timeout(20):
                while not replica.state.version:
                    await asyncio.sleep(0.01)


async def test_a_connection_for_news_that_was_cut_is_made_again(place: Place) -> None:
    async with opened(place.url, poll_s=30) as one, opened(place.url) as two:
        hearing = asyncio.ensure_future(one.changed(0, timeout_s=30))
        await listening(place)
        ended = place.sql(LISTENERS)
        place.sql(f"SELECT pg_terminate_backend({ended})")
        await listening(place, instead_of=ended)
        await two.append([FACT], batch_id="a")
        assert await asyncio.wait_for(hearing, 20)


async def test_without_news_the_poll_finds_it(place: Place) -> None:
    """The network swallows everything on the connection for news; the interval is the caller's."""
    async with proxy_of(place) as proxy, opened(place.url) as two:
        async with opened(place.url_at(proxy.port), poll_s=0.05) as one:
            proxy.arm(Fault.SWALLOW, b"LISTEN")
            hearing = asyncio.ensure_future(one.changed(0, timeout_s=30))
            await proxy.faulted.wait()
            await two.append([FACT], batch_id="a")
            assert await asyncio.wait_for(hearing, 20)


async def listening(place: Place, instead_of: str = "") -> None:
    """Somebody listens to the news of this place's only log, over another session than *instead_of*."""
    while await asyncio.to_thread(place.sql, LISTENERS) in {"", instead_of}:
        await asyncio.sleep(0.002)


# Handles


async def test_a_compacted_log_serves_a_reader_from_anywhere(place: Place) -> None:
    async with opened(place.url) as one, opened(place.url) as two:
        await fill(one, 10)
        await two.read(0)
        await one.checkpoint(8, Checkpoint({"state": 1}), keep_since_us=2**60)
        assert [batch.id for batch in await two.read(2)] == ["checkpoint-8", "b9", "b10"]
        assert [batch.id for batch in await two.read(9)] == ["b10"]
        assert place.sql("SELECT count(*) FROM {s}.batches") == "2"
        assert (await two.append([FACT], batch_id="next")).version == 11


async def test_a_cancelled_call_is_called_off_at_the_server(place: Place) -> None:
    """While it waits for the lock: whoever comes next does not wait for it, nor finds it in the log later."""
    async with opened(place.url) as journal:
        await fill(journal, 1)
        async with held(place):
            calls = [
                asyncio.ensure_future(journal.append([FACT], batch_id="cancelled")),
                asyncio.ensure_future(journal.transact(1, always(FACT), batch_id="cancelled, too")),
            ]
            await waiting(place, calls[0])
            for call in calls:
                call.cancel()
            ended, _ = await asyncio.wait(calls, timeout=20)
            assert len(ended) == 2, "the cancellation waited for the lock"
            assert all(call.cancelled() for call in calls)
        assert (await journal.append([FACT], batch_id="next")).version == 2
        assert [batch.id for batch in await journal.read(0)] == ["b1", "next"]


async def test_a_fork_s_child_is_refused_and_the_parent_goes_on(place: Place) -> None:
    async with opened(place.url) as journal:
        await fill(journal, 1)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                journal.transact(1, always(FACT), batch_id="x").send(None)
            except JournalError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        os.close(writer)
        with os.fdopen(reader) as said:
            assert "forked from it" in said.read()
        assert (await journal.append([FACT], batch_id="after")).version == 2


async def test_a_handle_that_is_not_open_says_so(place: Place) -> None:
    journal = PostgresJournal(place.url, "W1")
    with pytest.raises(JournalError, match="open it first"):
        await journal.read(0)
    await journal.open()
    await journal.open()
    await journal.close()
    await journal.close()
    with pytest.raises(JournalError, match="open it first"):
        await journal.append([FACT], batch_id="a")


async def test_a_unix_socket_and_other_schemas(place: Place) -> None:
    """One schema a journal; many workspaces in each."""
    async with opened(place.unix_url) as one, opened(place.url) as same, opened(f"{place.url}_b") as other:
        await fill(one, 2)
        assert one.journal_id == same.journal_id != other.journal_id
        assert len(await same.read(0)) == 2
        assert not await other.read(0)
    place.sql("DROP SCHEMA {s}_b CASCADE")
