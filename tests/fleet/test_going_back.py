"""A server or file that comes back without what it had acknowledged: noticed by everybody who has it open, at once.

The fault is played for real: the data of a running server are copied, the server goes on, and then comes back with the
copy. For SQLite the file is put back in place under its open connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
from redis import Redis

from moe_segments.client.job import Job
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.verdicts import Ask
from moe_segments.errors import JournalError, JournalReplaced, JournalUnavailable, QuotaExceeded
from moe_segments.governor.governor import Governor
from moe_segments.journal import open_journal
from moe_segments.journal.local.witness_file import WitnessFile, in_state_directory
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.fleet.postgres_server import PostgresServer
from tests.fleet.proxy import Proxy
from tests.fleet.redis_worlds import tell
from tests.fleet.stores import Store, store_of
from tests.fleet.worlds import FACT, reserve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

SCOPE = "W1"


@pytest.fixture(params=["redis", "postgres", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_of(request.param, tmp_path) as made:
        yield made


@pytest.fixture(params=["redis", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_of(request.param, tmp_path) as made:
        yield made


@asynccontextmanager
async def following(
    store: Store, state_dir: Path | None = None, limits: QuotaLimits | None = None
) -> AsyncIterator[Replica]:
    journal = open_journal(store.url, SCOPE, state_dir=state_dir, poll_s=0.05)
    replica = Replica(journal, limits or QuotaLimits())
    await replica.open()
    try:
        yield replica
    finally:
        await replica.close()


def witnessed(state_dir: Path) -> int:
    seen = WitnessFile(in_state_directory(state_dir, SCOPE)).recall()
    assert seen is not None
    return seen.version


# The record of the host


async def test_who_was_idle_is_stopped_by_what_the_host_s_other_processes_saw(store: Store, tmp_path: Path) -> None:
    """It has seen no more than the copy holds; and the witness it shares with them does not go back."""
    state_dir = tmp_path / "state"
    async with following(store, state_dir) as idle, following(store, state_dir) as busy:
        for number in range(3):
            await idle.ask(reserve(f"idle {number}"))
        store.save()
        await busy.refresh()
        for number in range(4):
            await busy.ask(reserve(f"busy {number}"))
        store.go_back()

        with pytest.raises(JournalReplaced, match=r"version 3.*version 7|version 7.*version 3"):
            await idle.ask(reserve("after"))
        assert witnessed(state_dir) == 7
        with pytest.raises(JournalReplaced):
            await busy.ask(reserve("after"))
        assert witnessed(state_dir) == 7
    async with following(store, state_dir) as later:
        assert "put back to version 3 although version 7" in str(later.journal.doubt)


async def test_a_log_that_was_put_back_and_went_on_stops_who_was_idle(store: Store, tmp_path: Path) -> None:
    """Another host, without this one's witness, has filled it up to the same versions again."""
    state_dir = tmp_path / "state"
    async with following(store, state_dir) as idle, following(store, state_dir) as busy:
        await idle.ask(reserve("idle"))
        store.save()
        await busy.refresh()
        await busy.ask(reserve("busy"))
        store.go_back()
        if store.server is None:  # whose witness beside the file is every process's
            for beside in store.data.parent.glob("*.witness"):
                beside.unlink()
        async with following(store, tmp_path / "elsewhere") as elsewhere:
            for number in range(5):
                await elsewhere.ask(reserve(f"elsewhere {number}"))
        for tried in (idle, busy):
            with pytest.raises(JournalReplaced):
                await tried.ask(reserve("after"))
        assert witnessed(state_dir) == 2


async def test_what_is_read_in_several_parts_is_compared_with_the_host_s_record_too(
    store: Store, tmp_path: Path
) -> None:
    state_dir = tmp_path / "state"
    async with following(store, state_dir) as idle, following(store, state_dir) as busy:
        for _ in range(560):
            await busy.record(FACT)
        store.save()
        await busy.refresh()
        await busy.record(FACT)
        store.go_back()
        with pytest.raises(JournalReplaced):
            await idle.refresh()
        assert witnessed(state_dir) == 561


async def test_a_log_that_moved_under_a_decision_grants_nothing(server: Store, tmp_path: Path) -> None:
    """Between the look at the witness and the commit everything happens: others spend, and the log is put back."""
    state_dir = tmp_path / "state"
    assert server.server is not None
    async with Proxy(("127.0.0.1", server.server.port)) as proxy:
        far = attrs.evolve(server, url=server.url.replace(f":{server.server.port}/", f":{proxy.port}/"))
        async with following(far, state_dir) as slow:
            await slow.ask(reserve("slow"))

            async def others_spend_and_it_goes_back() -> None:
                proxy.first = None
                async with following(server, state_dir) as busy:
                    for number in range(3):
                        await busy.ask(reserve(f"busy {number}"))
                await asyncio.to_thread(cut_to, server, 1)

            proxy.first = others_spend_and_it_goes_back
            with pytest.raises(JournalReplaced, match="version 4"):
                await slow.ask(reserve("late"))
            assert witnessed(state_dir) == 4


def cut_to(store: Store, version: int) -> None:
    """Take away what came after *version*, with every connection alive."""
    if isinstance(store.server, PostgresServer):
        store.server.sql(f"DELETE FROM moe_segments.batches WHERE version > {version}")
        return
    assert store.server is not None
    with Redis(port=store.server.port, decode_responses=True) as admin:
        log = f"moe-segments:{{{SCOPE}}}:log"
        for entry, _ in admin.xrange(log, f"({version}-0"):
            admin.xdel(log, entry)
        tell(admin, "XSETID", log, f"{version}-0")
        ((_, last),) = admin.xrange(log, f"{version}-0")
        head = f"moe-segments:{{{SCOPE}}}:head"
        sealed = (admin.hget(head, "journal"), str(version), last["i"], last["a"], admin.hget(head, "unsealed"))
        digest = hashlib.sha1("\n".join(map(str, sealed)).encode(), usedforsecurity=False).hexdigest()[:16]
        admin.hset(head, mapping={"version": version, "id": last["i"], "at": last["a"], "sum": digest})


async def test_processes_that_write_by_turns_cast_no_doubt_on_one_another(store: Store, tmp_path: Path) -> None:
    """Facts and decisions of three, one of which only reads; the witness never goes back."""
    state_dir = tmp_path / "state"
    async with (
        following(store, state_dir) as one,
        following(store, state_dir) as two,
        following(store, state_dir) as three,
    ):
        last = 0

        async def work(replica: Replica, name: str) -> None:
            for number in range(20):
                if number % 3:
                    await replica.ask(reserve(f"{name} {number}"))
                else:
                    await replica.record(FACT)

        async def look() -> None:
            nonlocal last
            for _ in range(40):
                await three.refresh()
                assert witnessed(state_dir) >= last
                last = witnessed(state_dir)

        await asyncio.gather(work(one, "one"), work(two, "two"), look())
        await asyncio.gather(one.refresh(), two.refresh(), three.refresh())
        assert one.state.version == two.state.version == three.state.version == witnessed(state_dir) == 40


# Whoever waits


@pytest.mark.parametrize("waits_for", ["job", "quota", "segment", "end"])
async def test_whoever_waits_is_told_at_once(
    store: Store, tmp_path: Path, waits_for: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(store) as replica:
        governor = Governor(replica, QuotaLimits())
        await governor.open("http://127.0.0.1", on_lost_journal="wait", announce=False)
        store.save()
        await governor.reserve(ask("held", "segment"))
        if waits_for == "quota":
            await governor.record_external(operations=9, rows=0)
        waiting = asyncio.ensure_future(waiter(waits_for, replica, governor))
        await asyncio.sleep(0.2)  # it stands in line
        assert not waiting.done()
        store.go_back()
        with pytest.raises(JournalReplaced):
            await asyncio.wait_for(waiting, 20)
        with pytest.raises(JournalReplaced):
            await replica.check()
        await governor.close()
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] != []
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 4


async def waiter(kind: str, replica: Replica, governor: Governor) -> object:
    match kind:
        case "job":
            return await Job("held", replica).wait_until(lambda record: record.terminal, None)
        case "end":
            return await replica.until_replaced()
        case _:
            key = "segment" if kind == "segment" else "other"
            return await governor.reserve(ask("waits", key), max_wait_s=math.inf)


def ask(job: str, key: str) -> Ask:
    return Ask(
        job=job,
        operation={"op": "create", "name": key},
        cost=Cost(1, 0, 0),
        keys=(key,),
        fence_us=30_000_000,
        timeout_us=60_000_000,
        key_fingerprint="key",
    )


# A server that is away


async def test_a_wait_outlasts_an_outage_with_one_warning(server: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The slot comes while the server is away; it is taken when that is back."""
    limits = QuotaLimits().scaled(1_200)  # an hour is three seconds
    async with following(server, limits=limits) as replica:
        governor = Governor(replica, limits)
        await governor.open("http://127.0.0.1", on_lost_journal="wait", announce=False)
        await governor.record_external(operations=10, rows=0)
        with pytest.raises(QuotaExceeded):
            await governor.reserve(ask("refused", "one"))
        waiting = asyncio.ensure_future(governor.reserve(ask("waits", "two"), max_wait_s=math.inf))
        await asyncio.sleep(0.2)  # it stands in line
        caplog.clear()
        server.stop()
        with pytest.raises(JournalUnavailable):
            await replica.refresh()
        await asyncio.sleep(4)  # more than one try of each
        assert not waiting.done()
        warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1, warnings
        server.start()
        assert await asyncio.wait_for(waiting, 30) is not None
        await governor.close()


async def test_a_call_holds_for_its_time_out_and_then_says_that_the_server_is_away(server: Store) -> None:
    """So that a plain loop does not spin; and many at once take no longer than one."""
    async with following(server) as replica:
        journal, loop = replica.journal, asyncio.get_running_loop()
        server.stop()
        began_s = loop.time()
        calls = (
            journal.read(0),
            journal.append([FACT], batch_id="a"),
            journal.transact(0, lambda _, __: [FACT], batch_id="b"),
            journal.changed(0, 30),
            journal.read(0),
        )
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, JournalUnavailable)
        assert 2 <= loop.time() - began_s <= 6
        began_s = loop.time()
        with pytest.raises(JournalUnavailable):
            await journal.read(0)
        assert 2 <= loop.time() - began_s <= 6
        reading = asyncio.ensure_future(journal.read(0))
        await asyncio.sleep(0.5)
        server.start()
        assert await asyncio.wait_for(reading, 10) == []


async def test_a_journal_that_is_away_is_not_healthy(server: Store) -> None:
    async with following(server) as replica:
        await replica.check()
        server.stop()
        with pytest.raises(JournalError):
            await asyncio.wait_for(replica.check(), 4)
        server.start()
        await asyncio.wait_for(replica.refresh(), 10)
        await replica.check()


async def test_a_checkpoint_past_what_was_seen_hides_no_loss(store: Store, tmp_path: Path) -> None:
    """What the idle one had seen is compacted away in the copy; its host has seen more than the copy holds."""
    state_dir = tmp_path / "state"
    async with following(store, state_dir) as idle, following(store, state_dir) as busy:
        await idle.ask(reserve("idle"))
        for number in range(4):
            await busy.ask(reserve(f"before {number}"))
        await busy.journal.checkpoint(busy.state.version, busy.state.snapshot(), keep_since_us=busy.state.now_us + 1)
        store.save()
        await busy.refresh()
        await busy.ask(reserve("busy"))
        store.go_back()
        with pytest.raises(JournalReplaced):
            await idle.ask(reserve("after"))
        assert witnessed(state_dir) == 6
