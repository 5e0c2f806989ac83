"""What a journal in Redis promises while nothing breaks: round trips, exact decisions by any clock, news, rights."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments.core.events import Answered, Reserved
from moe_segments.core.quota.decision import Cost, Granted
from moe_segments.errors import InputError, JournalError
from moe_segments.journal import open_journal
from moe_segments.journal.redis.engine import RedisJournal
from moe_segments.journal.redis.scripts import MIGRATIONS
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.fleet.proxy import Proxy
from tests.fleet.redis_worlds import admin_of, calls_of, opened, server, server_us, tell
from tests.fleet.servers import RedisServer, redis_server
from tests.fleet.worlds import FACT, certificate, fact, fill, host, reserve
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from redis import Redis

    from moe_segments.core.events import Batch, Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal import Decide
    from moe_segments.journal.replica import Question

__all__ = ["certificate", "server"]  # fixtures

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rights() -> str:
    """What the docs say a user of its own needs."""
    lines = (DOCS / "journal-redis.md").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("~moe-segments:"))
    return f"{lines[first].strip()} {lines[first + 1].strip()}"


async def followed(url: str, scope: str = "W1", **options: Any) -> Replica:
    replica = Replica(RedisJournal(url, scope, **options), QuotaLimits())
    await replica.open()
    return replica


# Round trips


async def test_an_uncontended_decision_is_one_round_trip(server: RedisServer) -> None:
    """So is a fact; and what a hundred tasks ask at once is two at most."""
    replica = await followed(server.url)
    with admin_of(server) as admin:
        for number in range(20):
            before = calls_of(admin)
            assert await replica.ask(reserve(f"j{number}"))
            await replica.record(FACT)
            assert calls_of(admin) - before == 2

        before = calls_of(admin)
        answers = await asyncio.gather(*(replica.ask(reserve(f"t{number}")) for number in range(100)))
        assert all(answers)
        assert calls_of(admin) - before <= 2
    await replica.close()


async def test_a_lost_race_costs_one_round_trip_more(server: RedisServer) -> None:
    """What was missed comes with the news that the race was lost."""
    one, two = await followed(server.url), await followed(server.url)
    with admin_of(server) as admin:
        for number in range(10):
            assert await one.ask(reserve(f"one {number}"))
            before = calls_of(admin)
            assert await two.ask(reserve(f"two {number}"))
            assert calls_of(admin) - before == 2
            await one.refresh()
    assert len(two.state.jobs.records) == 20
    await one.close()
    await two.close()


async def test_a_refusal_reads_first_and_writes_nothing(server: RedisServer) -> None:
    replica, other = await followed(server.url), await followed(server.url)
    with admin_of(server) as admin:
        assert await replica.ask(reserve("a", 2))
        assert await other.ask(reserve("b", 2))
        assert not await replica.ask(reserve("c", 2)), "it had not read that the last place was taken"
        before = calls_of(admin), admin.info("persistence")["aof_current_size"], admin.dbsize()
        assert not await replica.ask(reserve("d", 2))
        assert calls_of(admin) - before[0] == 1
        assert (admin.info("persistence")["aof_current_size"], admin.dbsize()) == before[1:]
    await replica.close()
    await other.close()


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


@pytest.mark.parametrize("boot_us", CLOCKS)
async def test_whatever_this_host_s_clock_does_a_batch_has_the_server_s_time(
    server: RedisServer, boot_us: Callable[[], int]
) -> None:
    """And was decided not after it, and at most a second before, or as long as an answer took."""
    async with opened(server.url, host=host(boot_us)) as journal:
        with admin_of(server) as admin:
            for number in range(40):
                decided_us: list[int] = []

                def decide(_: Sequence[Batch], now_us: int, decided_us: list[int] = decided_us) -> Sequence[Event]:
                    decided_us.append(now_us)
                    return [FACT]

                before_us = server_us(admin)
                batch = await journal.transact(number, decide, batch_id=f"b{number}")
                after_us = server_us(admin)
                assert batch is not None
                assert before_us <= batch.at_us <= after_us
                assert 0 <= batch.at_us - decided_us[-1] <= max(1_000_000, after_us - before_us)


@pytest.mark.parametrize("boot_us", CLOCKS)
async def test_what_is_free_from_a_moment_on_is_granted_from_it_on_and_never_before(
    server: RedisServer, boot_us: Callable[[], int]
) -> None:
    """A host whose clock runs ahead is not early, and one whose clock stands still is not refused."""
    async with opened(server.url, host=host(boot_us)) as journal:
        await journal.append([FACT], batch_id="first")
        with admin_of(server) as admin:
            free_us = server_us(admin) + 60_000

            def decide(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
                return [FACT] if now_us >= free_us else []

            batch, asked_us, numbers = None, 0, itertools.count()
            while batch is None:
                assert asked_us < free_us, "it was free when it was refused"
                await asyncio.sleep(0.002)
                asked_us = server_us(admin)
                batch = await journal.transact(1, decide, batch_id=f"b{next(numbers)}")
    assert batch.at_us >= free_us


async def test_a_host_that_slept_decides_anew_on_the_server_s_time(server: RedisServer) -> None:
    """Else it would refuse beside a grant what has been free for long. Also when an answer takes as long as that."""
    async with Proxy(("127.0.0.1", server.port)) as proxy:
        async with opened(f"redis://127.0.0.1:{proxy.port}/0", host=host(_stopped)) as journal:
            await journal.append([FACT], batch_id="first")
            await asyncio.sleep(0.6)
            proxy.delay_s = 0.55
            decided_us: list[int] = []

            def decide(_: Sequence[Batch], now_us: int) -> Sequence[Event]:
                decided_us.append(now_us)
                return [FACT]

            batch = await journal.transact(1, decide, batch_id="second")
            assert batch is not None
            assert batch.at_us - decided_us[0] > 2_000_000
            assert batch.at_us - decided_us[1] > 1_000_000
            assert len(decided_us) == 2
            proxy.delay_s = 0.0


async def test_two_hosts_with_clocks_an_hour_apart_take_exactly_the_places(server: RedisServer) -> None:
    replicas = [await followed(server.url, host=host(clock)) for clock in (_fast, _jumping, _stopped, _backwards)]
    answers = await asyncio.gather(
        *(replica.ask(reserve(f"{at} {number}", 50)) for number in range(25) for at, replica in enumerate(replicas))
    )
    assert sum(answers) == 50
    await replicas[0].refresh()
    assert len(replicas[0].state.jobs.records) == 50
    for replica in replicas:
        await replica.close()


async def test_a_host_s_clock_that_leaps_frees_no_quota(server: RedisServer) -> None:
    """The decision made at the time it showed is thrown away, and so is what had passed for the state by then."""
    leapt_us = 0
    replica = await followed(server.url, host=host(lambda: time.monotonic_ns() // 1_000 + leapt_us))

    def operation(job: str) -> Question[bool]:
        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], bool]:
            if not isinstance(state.ledger.decide(Cost(1), now_us), Granted):
                return [], False
            event = Reserved(job, 1, {"op": "add"}, 1, fence_us=30_000_000, timeout_us=60_000_000)
            state.try_reserve(event, now_us)
            return [event], True

        return question

    for number in range(10):
        assert await replica.ask(operation(f"j{number}"))
        await replica.record(Answered(f"j{number}", 1, 202, accepted={}))
    leapt_us = 2 * 3_600_000_000
    granted = await replica.ask(operation("eleventh"))
    await replica.close()
    assert not granted


async def test_a_first_run_that_fails_on_what_it_did_not_know_is_run_again(server: RedisServer) -> None:
    """What the decision raises counts only when the server has confirmed what it was decided on."""
    async with opened(server.url) as one, opened(server.url) as two:
        await one.append([FACT], batch_id="a")

        def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
            if not missed:
                raise LookupError("nothing to decide on")
            return [FACT]

        assert await two.transact(0, decide, batch_id="b") is not None
        with pytest.raises(LookupError):
            await two.transact(2, decide, batch_id="c")
        assert len(await one.read(0)) == 2


# Turns

TURNS = "moe-segments:{W1}:turns"


async def test_who_is_far_away_is_not_starved_by_who_is_near(server: RedisServer) -> None:
    """One appends decisions without a pause; the other's answers take as long as several of those."""
    async with Proxy(("127.0.0.1", server.port)) as proxy, opened(server.url) as near:
        async with opened(f"redis://127.0.0.1:{proxy.port}/0") as far:
            proxy.delay_s = 0.005

            async def decide_on_and_on() -> None:
                for number in itertools.count():
                    await near.transact(near_version[0], noting(near_version), batch_id=f"near {number}")

            near_version = [0]
            going = asyncio.ensure_future(decide_on_and_on())
            try:
                for number in range(3):
                    batch = await asyncio.wait_for(far.transact(0, always, batch_id=f"far {number}"), 20)
                    assert batch is not None
            finally:
                going.cancel()
                await asyncio.gather(going, return_exceptions=True)
    with admin_of(server) as admin:
        assert tell(admin, "LLEN", TURNS) <= 1


def always(_: Sequence[Batch], __: int) -> Sequence[Event]:
    return [FACT]


def noting(version: list[int]) -> Decide:
    """Append in any case, and note where the log ends then."""

    def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
        version[0] = max([version[0], *(batch.version for batch in missed)])
        return [FACT]

    return decide


async def test_who_died_in_line_holds_the_others_up_for_half_a_second(server: RedisServer) -> None:
    """And a fact not at all."""
    async with opened(server.url) as journal:
        await fill(journal, 1)
        with admin_of(server) as admin:
            tell(admin, "RPUSH", TURNS, "dead")
            began_us = server_us(admin)
            tell(admin, "HSET", "moe-segments:{W1}:head", "turn", str(began_us))
            await journal.append([FACT], batch_id="fact")
            assert tell(admin, "LLEN", TURNS) == 1
            batch = await journal.transact(2, always, batch_id="a")
            assert batch is not None
            assert 500_000 < batch.at_us - began_us < 20_000_000
            assert tell(admin, "LLEN", TURNS) == 0


async def test_who_is_refused_in_line_leaves_it(server: RedisServer) -> None:
    """While it stood there, others took what it wanted."""
    async with opened(server.url) as one, opened(server.url) as two:
        with admin_of(server) as admin:
            waiting = await in_line(admin, two, 0)
            await fill(one, 1)
            assert await asyncio.wait_for(waiting, 20) is None
            assert tell(admin, "LLEN", TURNS) == 0


async def in_line(admin: Redis, journal: RedisJournal, version: int) -> asyncio.Future[Batch | None]:
    """A decision that stands behind a dead one; anew where the dead one's half second was over before it was seen."""
    tell(admin, "RPUSH", TURNS, "dead")
    tell(admin, "HSET", "moe-segments:{W1}:head", "turn", str(server_us(admin)))
    deciding = asyncio.ensure_future(journal.transact(version, unless_missed, batch_id=f"refused {version}"))
    await until(lambda: deciding.done() or tell(admin, "LLEN", TURNS) == 2)
    return await in_line(admin, journal, version + 1) if deciding.done() else deciding


def unless_missed(missed: Sequence[Batch], _: int) -> Sequence[Event]:
    return [] if missed else [FACT]


# News


async def test_who_waits_is_told_by_another_handle_long_before_the_poll(server: RedisServer) -> None:
    async with opened(server.url, poll_s=30) as one, opened(server.url) as two:
        with admin_of(server) as admin:
            waiting = asyncio.ensure_future(one.changed(0, timeout_s=30))
            while not admin.pubsub_numsub(one_channel())[0][1]:
                await asyncio.sleep(0.002)
            await two.append([FACT], batch_id="a")
            assert await asyncio.wait_for(waiting, 20)
            assert not await one.changed(1, timeout_s=0.01)


def one_channel() -> str:
    return "moe-segments:{W1}:news"


async def test_without_news_the_poll_finds_it(server: RedisServer) -> None:
    """Nobody tells this user anything; and a connection for news that was cut is made again."""
    with admin_of(server) as admin:
        tell(admin, f"ACL SETUSER deaf on >pw {rights().replace('+subscribe', '')}")
        deaf = server.url.replace("//", "//deaf:pw@")
        async with opened(deaf, poll_s=0.05) as one, opened(server.url) as two:
            waiting = asyncio.ensure_future(one.changed(0, timeout_s=30))
            await asyncio.sleep(0.02)
            await two.append([FACT], batch_id="a")
            assert await asyncio.wait_for(waiting, 20)
        async with opened(server.url, poll_s=30) as one, opened(server.url) as two:
            waiting = asyncio.ensure_future(one.changed(1, timeout_s=30))
            await until(lambda: admin.pubsub_numsub(one_channel())[0][1])
            tell(admin, "CLIENT KILL TYPE pubsub")
            await until(lambda: admin.pubsub_numsub(one_channel())[0][1])
            await two.append([FACT], batch_id="b")
            assert await asyncio.wait_for(waiting, 20)


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.002)


# Ways in


async def test_the_rights_in_the_docs_are_enough(server: RedisServer) -> None:
    """For deciding, recording, compacting and hearing of others."""
    with admin_of(server) as admin:
        tell(admin, f"ACL SETUSER moe on >p%w {rights()}")
    replica = await followed(server.url.replace("//", "//moe:p%25w@"), poll_s=0.05)
    assert await replica.ask(reserve("a"))
    await replica.record(FACT)
    await replica.journal.checkpoint(2, fact(0), keep_since_us=2**60)
    assert not await replica.journal.changed(2, 0.1)
    await replica.close()


async def test_wrong_passwords_are_refused_at_once_and_never_shown(server: RedisServer) -> None:
    with admin_of(server) as admin:
        admin.config_set("requirepass", "right")
    for user in ("", "somebody"):
        journal = open_journal(server.url.replace("//", f"//{user}:canary-pw@"), "W1")
        with pytest.raises(JournalError, match="password in the URL is wrong") as caught:
            await journal.open()
        assert "canary" not in f"{caught.value!r} {journal!r} {vars(caught.value)} {caught.value.__cause__!r}"
    with pytest.raises(JournalError, match="name them in the URL"):
        await open_journal(server.url, "W1").open()
    async with opened(server.url.replace("//", "//:right@")) as journal:
        assert journal.is_new


async def test_a_unix_socket_and_another_database(server: RedisServer) -> None:
    async with opened(server.unix_url) as one, opened(f"{server.unix_url}?db=3") as two, opened(server.url) as three:
        assert one.journal_id == three.journal_id != two.journal_id


async def test_tls_with_a_certificate_that_is_checked(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    port = free_port()
    tls = {"tls-port": str(port), "tls-cert-file": str(cert), "tls-key-file": str(key), "tls-auth-clients": "no"}
    with redis_server(tls) as server:
        assert server.port != port
        async with opened(f"rediss://127.0.0.1:{port}/0?ca_file={cert}") as journal:
            await journal.append([FACT], batch_id="a")
            assert not await journal.changed(1, 0.1)
        with pytest.raises(JournalError, match=r"(?i)certificate"):
            await open_journal(f"rediss://127.0.0.1:{port}/0", "W1").open()


def clustered() -> AbstractContextManager[RedisServer]:
    """A node of a cluster yet to be made."""
    return redis_server({"cluster-enabled": "yes", "cluster-port": str(free_port())})


async def test_a_cluster_is_followed_to_the_node_of_the_workspace() -> None:
    """All keys of a workspace lie in one slot, and each workspace may lie on another node."""
    with clustered() as one, clustered() as two:
        with admin_of(one) as first, admin_of(two) as second:
            tell(first, "CLUSTER ADDSLOTSRANGE 0 8191")
            tell(second, "CLUSTER ADDSLOTSRANGE 8192 16383")
            tell(first, f"CLUSTER MEET 127.0.0.1 {two.port} {two.settings['cluster-port']}")
            await until(lambda: all(tell(admin, "CLUSTER INFO")["cluster_state"] == "ok" for admin in (first, second)))
            for number in range(6):
                replica = await followed(one.url, f"W{number}", poll_s=30)
                assert await replica.ask(reserve("a"))
                assert not await replica.journal.changed(1, 0.02)
                await replica.journal.checkpoint(1, fact(0), keep_since_us=0)
                await replica.close()
            assert 0 < second.dbsize() < 24
            assert first.dbsize() + second.dbsize() == 24


# Schema


async def test_older_journals_are_brought_up_and_newer_ones_refused(server: RedisServer) -> None:
    """All steps at once; a handle that was open before stops."""
    newer = (*MIGRATIONS, "redis.call('HSET', head, 'colour', 'blue')")
    async with opened(server.url) as old:
        batches = await fill(old, 2)
        async with opened(server.url, migrations=newer) as new:
            assert list(await new.read(0)) == batches
            assert (new.journal_id, new.is_new) == (old.journal_id, False)
            await new.append([FACT], batch_id="new")
            with pytest.raises(JournalError, match="another schema"):
                await old.append([FACT], batch_id="old")
    with admin_of(server) as admin:
        assert admin.hget("moe-segments:{W1}:head", "colour") == "blue"
    with pytest.raises(JournalError, match="newer moe_segments"):
        await RedisJournal(server.url, "W1").open()


async def test_the_keys_of_a_workspace_share_one_hash_tag(server: RedisServer) -> None:
    """Whatever its name."""
    for scope in ("W1@03", "a{b}c", "}{", "W 1", "{}"):
        async with opened(server.url, scope) as journal:
            await fill(journal, 1)
            await journal.checkpoint(1, fact(0), keep_since_us=0)
    with admin_of(server) as admin:
        keys = [str(key) for key in admin.scan_iter("*")]
        assert len(keys) == 20
        assert {key.rpartition(":")[2] for key in keys} == {"head", "log", "ids", "checkpoint"}
        assert all(key.count("{") == key.count("}") == 1 for key in keys)


# URLs


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "names no server"),
        ("redis://:canary@", "names no server"),
        ("redis://u:canary@h:canary/0", "cannot be read"),
        ("redis://u:can:ary@h:99999/0", "cannot be read"),
        ("redis://u:canary@h:0/0", "names no server"),
        ("redis://u:canary@h/canary", "database is a number"),
        ("redis://u:canary@h/0?durabilty=canary", "not one of durability"),
        ("redis://u:canary@h/0?durability=canary", "may be accepted-risk"),
        ("redis://u:canary@h/0?timeout_s=canary", "number of seconds"),
        ("redis://u:canary@h/0#canary", "not one of"),
        ("redis://u:canary@h/0?canary", "cannot be read"),
        ("redis+unix://canary/socket", "whole path"),
        ("unix:///", "whole path"),
    ],
)
async def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_journal(url, "W1")
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_nobody_there_is_said_within_the_time_out() -> None:
    journal = open_journal(f"redis://u:canary@127.0.0.1:{free_port()}/0?timeout_s=0.3", "W1")
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(JournalError, match="nothing was recorded: see whether the server runs") as caught:
        await journal.open()
    assert loop.time() - began_s < 3
    assert "canary" not in f"{caught.value!r} {journal!r}"


async def test_a_handle_that_is_not_open_says_so(server: RedisServer) -> None:
    journal = open_journal(server.url, "W1")
    with pytest.raises(JournalError, match="open it first"):
        await journal.read(0)
    await journal.open()
    await journal.open()
    await journal.close()
    await journal.close()
    with pytest.raises(JournalError, match="open it first"):
        await journal.append([FACT], batch_id="a")


@pytest.mark.processes
async def test_a_sandboxed_command_goes_on_with_its_journal_here(server: RedisServer) -> None:
    """The sandbox comes back at the address that the journal was kept for."""
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moe_segments", "quota", "--sandbox", "--json", "--journal", server.url),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert b"operations_per_hour" in out
