"""A Redis that may lose what it acknowledged is refused, and a log that went back is noticed, open or not."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import BusyLoadingError

from moe_segments.core.events import Checkpoint, Quarantined, Trusted
from moe_segments.errors import JournalError
from moe_segments.governor.governor import Governor
from moe_segments.journal.redis.engine import RedisJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.fleet.proxy import Proxy
from tests.fleet.redis_worlds import admin_of, opened, server, tell
from tests.fleet.servers import redis_server
from tests.fleet.worlds import FACT, fact, fill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis import Redis

    from tests.fleet.servers import RedisServer

__all__ = ["server"]  # a fixture

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

HEAD = "moe-segments:{W1}:head"
LOG = "moe-segments:{W1}:log"
KEPT = "moe-segments:{W1}:checkpoint"


async def doubt_of(url: str, state_dir: Path) -> str | None:
    async with opened(url, state_dir=state_dir) as journal:
        return journal.doubt


# What the server promises


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("no-appendfsync-on-rewrite", "yes"),
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-policy", "volatile-ttl"),
    ],
)
async def test_a_server_that_may_forget_is_refused_unless_that_is_accepted(
    server: RedisServer, caplog: pytest.LogCaptureFixture, setting: str, value: str
) -> None:
    """In words. Before anything is written; the message says what to set, and the words."""
    with admin_of(server) as admin:
        admin.config_set(setting, value)
        with pytest.raises(JournalError, match=f"{setting} is {value}") as caught:
            await RedisJournal(server.url, "W1").open()
        assert f"{setting} " in caught.value.problem.partition("Either set")[2]
        assert "?durability=accepted-risk" in caught.value.problem
        assert admin.dbsize() == 0
        with caplog.at_level(logging.WARNING):
            async with opened(f"{server.url}?durability=accepted-risk") as journal:
                await journal.append([FACT], batch_id="a")
        assert [setting in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_server_that_does_not_tell_is_refused_unless_that_is_accepted(
    server: RedisServer, *, forgets: bool
) -> None:
    """As managed ones do not; what INFO says of it counts all the same."""
    with admin_of(server) as admin:
        if forgets:
            admin.config_set("appendonly", "no")
        tell(admin, "ACL SETUSER moe on >pw ~* &* +@all -config")
    url = server.url.replace("//", "//moe:pw@")
    said = "appendonly is no" if forgets else r"CONFIG GET is forbidden.*allow this user \+config\|get"
    with pytest.raises(JournalError, match=said):
        await RedisJournal(url, "W1").open()
    async with opened(f"{url}?durability=accepted-risk") as journal:
        await journal.append([FACT], batch_id="a")


async def test_the_promise_is_asked_for_again_with_each_connection(server: RedisServer) -> None:
    """A server that comes back with other settings is not the one that was trusted."""
    async with opened(server.url) as journal:
        await journal.append([FACT], batch_id="a")
        server.kill()
        server.settings["appendfsync"] = "everysec"
        server.start()
        for _ in range(2):
            with pytest.raises(JournalError, match=r"appendfsync is everysec|did not answer"):
                await journal.append([FACT], batch_id="b")
        with pytest.raises(JournalError, match="appendfsync is everysec"):
            await journal.append([FACT], batch_id="b")


async def test_a_replica_is_refused_whatever_is_accepted(server: RedisServer) -> None:
    with redis_server({"replicaof": f"127.0.0.1 {server.port}"}) as replica:
        with pytest.raises(JournalError, match=r"is a replica.*name that one"):
            await RedisJournal(f"{replica.url}?durability=accepted-risk", "W1").open()


async def test_a_full_server_records_nothing_and_says_what_helps(server: RedisServer) -> None:
    async with opened(server.url) as journal:
        batches = await fill(journal, 2)
        with admin_of(server) as admin:
            admin.config_set("maxmemory", "1mb")
            with pytest.raises(JournalError, match="give it more memory"):
                await journal.append([FACT], batch_id="c")
            assert list(await journal.read(0)) == batches
            admin.config_set("maxmemory", "0")
        assert (await journal.append([FACT], batch_id="c")).version == 3


# Restarts that kept everything


async def test_a_killed_server_has_every_batch_it_acknowledged(server: RedisServer, tmp_path: Path) -> None:
    """Signal 9 right after an answer, five times over; no doubt comes of it."""
    acknowledged = []
    async with opened(server.url, state_dir=tmp_path) as journal:
        for turn in range(5):
            acknowledged += await fill(journal, 10, prefix=f"{turn} ")
            server.kill()
            server.start()
            assert list(await journal.read(0)) == acknowledged
    assert await doubt_of(server.url, tmp_path) is None


async def test_a_call_waits_for_a_server_that_is_restarted(server: RedisServer) -> None:
    """Nothing was asked of the new one yet, so nothing is in doubt; and an idle connection may have died unseen."""
    async with opened(server.url) as journal:
        await fill(journal, 1)
        server.stop()
        reading = asyncio.ensure_future(journal.read(0))
        await asyncio.sleep(0.2)
        server.start()
        assert len(await reading) == 1


# Logs that went back


async def test_a_flushed_journal_is_noticed_while_it_is_open_and_afterwards(
    server: RedisServer, tmp_path: Path
) -> None:
    async with opened(server.url, state_dir=tmp_path) as journal:
        await fill(journal, 3)
        with admin_of(server) as admin:
            admin.flushall()
        for call in (
            journal.read(0),
            journal.append([FACT], batch_id="x"),
            journal.transact(3, lambda _, __: [FACT], batch_id="y"),
            journal.checkpoint(3, fact(0), keep_since_us=0),
        ):
            with pytest.raises(JournalError, match="is gone"):
                await call
        async with opened(server.url) as other:
            assert other.is_new
            await fill(other, 4)
        with pytest.raises(JournalError, match="exchanged for another"):
            await journal.append([FACT], batch_id="x")
    async with opened(server.url, state_dir=tmp_path) as journal:
        assert journal.doubt is not None
        assert "replaced" in journal.doubt
        assert "version 3" in journal.doubt


async def test_a_flushed_journal_starts_anew_in_doubt(server: RedisServer, tmp_path: Path) -> None:
    """Until somebody has written it down: who only looks leaves the doubt to the next."""
    async with opened(server.url, state_dir=tmp_path) as journal:
        await fill(journal, 3)
    with admin_of(server) as admin:
        admin.flushall()
    assert "starts anew" in str(await doubt_of(server.url, tmp_path))
    assert "was replaced" in str(await doubt_of(server.url, tmp_path))
    async with opened(server.url, state_dir=tmp_path) as journal:
        await journal.append([FACT], batch_id="noted")
    assert await doubt_of(server.url, tmp_path) is None


async def test_an_old_copy_put_back_is_noticed(server: RedisServer, tmp_path: Path) -> None:
    """Shorter than what was seen; and as long again, with other batches."""
    state_dir, copy = tmp_path / "state", tmp_path / "copy"
    async with opened(server.url, state_dir=state_dir) as journal:
        await fill(journal, 3)
        server.stop()
        shutil.copytree(server.directory / "appendonlydir", copy)
        server.start()
        assert len(await journal.read(0)) == 3
        await fill(journal, 6)
        server.stop()
        shutil.rmtree(server.directory / "appendonlydir")
        shutil.copytree(copy, server.directory / "appendonlydir")
        server.start()
        with pytest.raises(JournalError, match="ends at version 3 and version 6 was seen"):
            await journal.read(0)
        assert "put back to version 3 although version 6" in str(await doubt_of(server.url, state_dir))
        async with opened(server.url) as other:
            await fill(other, 9, prefix="other ")
        with pytest.raises(JournalError, match="has another version 6"):
            await journal.append([FACT], batch_id="x")
        assert "went on from there: its version 6" in str(await doubt_of(server.url, state_dir))


async def test_a_fail_over_to_a_replica_that_lagged_closes_every_window(server: RedisServer, tmp_path: Path) -> None:
    """What the old primary acknowledged and the new one never saw may have been spent."""
    with redis_server({"replicaof": f"127.0.0.1 {server.port}"}) as replica:
        async with Proxy(("127.0.0.1", server.port)) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}/0"
            follower = Replica(RedisJournal(url, "W1", state_dir=tmp_path), QuotaLimits())
            await follower.open()
            await follower.record(FACT)
            with admin_of(replica) as admin:
                while not has_first(admin):
                    await asyncio.sleep(0.002)
                tell(admin, "REPLICAOF NO ONE")
                await follower.record(FACT)
                server.kill()
            proxy.target = "127.0.0.1", replica.port
            proxy.cut()
            with pytest.raises(JournalError, match=r"ends at version 1 and version 2 was seen"):
                await follower.record(FACT)
            await follower.close()

            await starts_quarantined(url, tmp_path)


def has_first(admin: Redis) -> bool:
    """The replica has the first batch; while it takes in what there was, it answers nothing."""
    try:
        return bool(admin.hget(HEAD, "version") == "1")
    except BusyLoadingError:
        return False


async def starts_quarantined(url: str, state_dir: Path) -> None:
    follower = Replica(RedisJournal(url, "W1", state_dir=state_dir), QuotaLimits())
    await follower.open()
    governor = Governor(follower, QuotaLimits())
    await governor.open("http://127.0.0.1", on_lost_journal="wait", announce=False)
    assert {limit.remaining for name, limit in (await governor.usage()).items() if name != "active_segments"} == {0}
    assert any(isinstance(event, Quarantined) for batch in await follower.journal.read(0) for event in batch.events)
    await governor.close()
    await follower.close()


@pytest.mark.parametrize("key", ["log", "ids", "head", "checkpoint"])
async def test_an_evicted_key_is_noticed(server: RedisServer, key: str) -> None:
    """By who has the journal open and by who opens it; nothing is appended to what is left."""
    async with opened(server.url) as journal:
        await fill(journal, 4)
        await journal.checkpoint(3, fact(0), keep_since_us=2**60)
        with admin_of(server) as admin:
            admin.delete(f"moe-segments:{{W1}}:{key}")
        with pytest.raises(JournalError, match=r"damaged|gone"):
            await journal.read(0)
        if key != "checkpoint":  # which is missed by who reads from the start
            with pytest.raises(JournalError, match=r"damaged|gone"):
                await journal.append([FACT], batch_id="x")
            with pytest.raises(JournalError, match="damaged"):
                await RedisJournal(server.url, "W1").open()


async def test_another_server_for_the_same_workspace_is_noticed(server: RedisServer, tmp_path: Path) -> None:
    """Two journals count one quota twice."""
    async with opened(server.url, state_dir=tmp_path) as journal:
        await fill(journal, 2)
    with redis_server() as other:
        doubt = await doubt_of(other.url, tmp_path)
    assert f"was at redis://127.0.0.1:{server.port}/0" in str(doubt)


async def test_a_url_mistyped_once_casts_no_doubt_on_the_right_one(server: RedisServer, tmp_path: Path) -> None:
    """Until something is reserved there, or it is said to be the one to trust."""
    async with opened(server.url, state_dir=tmp_path) as journal:
        await fill(journal, 2)
    with redis_server() as other:
        async with opened(other.url, state_dir=tmp_path) as journal:
            await journal.append([Quarantined("another one")], batch_id="a")
            assert await doubt_of(server.url, tmp_path) is None
        async with opened(other.url, state_dir=tmp_path) as journal:
            await journal.append([Trusted("this one")], batch_id="b")
        assert await doubt_of(other.url, tmp_path) is None
        assert "two journals" in str(await doubt_of(server.url, tmp_path))


async def test_what_others_commit_ends_no_doubt_of_ours(server: RedisServer, tmp_path: Path) -> None:
    async with opened(server.url, state_dir=tmp_path) as journal:
        await fill(journal, 2)
    with admin_of(server) as admin:
        admin.flushall()
    async with opened(server.url, state_dir=tmp_path) as journal, opened(server.url) as other:
        await fill(other, 5)
        assert len(await journal.read(0)) == 5
    assert "replaced" in str(await doubt_of(server.url, tmp_path))


async def test_another_program_s_keys_are_left_alone(server: RedisServer) -> None:
    with admin_of(server) as admin:
        admin.set(HEAD, "mine")
        with pytest.raises(JournalError, match="another program"):
            await RedisJournal(server.url, "W1").open()
        assert admin.get(HEAD) == "mine"


async def rewrite(admin: Any, version: int, **fields: str | bytes | None) -> None:  # its types name both clients
    """Put the log there anew, with other fields in one entry: a stream's entries cannot be changed."""
    entries = admin.xrange(LOG)
    admin.delete(LOG)
    for place, kept in entries:
        changed = {**kept, **fields} if place == f"{version}-0" else kept
        admin.xadd(LOG, {field: value for field, value in changed.items() if value is not None}, id=place)


DAMAGES: list[Callable[[Redis], object]] = [
    lambda admin: rewrite(admin, 2, e='[["external",{"operations":9}]]'),
    lambda admin: rewrite(admin, 2, a="1790000000000000"),
    lambda admin: rewrite(admin, 2, i="another"),
    lambda admin: rewrite(admin, 2, c=None),
    lambda admin: rewrite(admin, 2, c="0000000000000000"),
    lambda admin: rewrite(admin, 2, e=b"\xff"),
    lambda admin: rewrite(admin, 2, a="soon"),
    lambda admin: admin.xdel(LOG, "2-0"),
    lambda admin: admin.xdel(LOG, "4-0"),
    lambda admin: admin.hset(HEAD, "at", "1"),
    lambda admin: admin.hset(HEAD, "version", "9"),
    lambda admin: admin.hset(HEAD, "unsealed", "9"),
    lambda admin: admin.hset(HEAD, "sum", "0"),
    lambda admin: admin.hdel(HEAD, "sum"),
    lambda admin: admin.hdel(HEAD, "at"),
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_was_changed_is_refused(server: RedisServer, damage: Callable[[Redis], object]) -> None:
    """By whoever reads it, whether it was open or not, and before anything is decided on it."""
    async with opened(server.url) as journal:
        await fill(journal, 4)
        with admin_of(server) as admin:
            done = damage(admin)
            if asyncio.iscoroutine(done):
                await done
        with pytest.raises(JournalError, match=r"damaged|put back or exchanged"):
            await journal.read(0)
        with pytest.raises(JournalError, match=r"damaged|put back or exchanged"):
            await journal.transact(0, lambda _missed, _now_us: [FACT], batch_id="new")
    with pytest.raises(JournalError, match="damaged"):
        async with opened(server.url) as other:
            await other.read(0)


@pytest.mark.parametrize("field", ["version", "at", "state", "sum"])
async def test_a_checkpoint_that_was_changed_is_refused(server: RedisServer, field: str) -> None:
    async with opened(server.url) as journal:
        batches = await fill(journal, 4)
        await journal.checkpoint(3, Checkpoint({"folded": 3}), keep_since_us=batches[2].at_us)
        with admin_of(server) as admin:
            changed = {"version": "4", "state": f"{admin.hget(KEPT, 'state')!s} "}
            admin.hset(KEPT, field, changed.get(field, "1"))
        with pytest.raises(JournalError, match="damaged"):
            await journal.read(0)
        with admin_of(server) as admin:
            admin.hdel(KEPT, field)
        with pytest.raises(JournalError, match="damaged"):
            await journal.read(0)


async def test_an_id_that_leads_elsewhere_is_refused(server: RedisServer) -> None:
    """The stored batch would be another one."""
    async with opened(server.url) as journal:
        await fill(journal, 3)
        with admin_of(server) as admin:
            for wrong in ("2", "9"):
                admin.hset("moe-segments:{W1}:ids", "b1", wrong)
                with pytest.raises(JournalError, match="damaged"):
                    await journal.append([FACT], batch_id="b1")


async def test_a_journal_without_checksums_is_read_and_goes_on_with_them(server: RedisServer) -> None:
    """As the version before wrote it."""
    async with opened(server.url) as journal:
        batches = await fill(journal, 4)
        await journal.checkpoint(2, Checkpoint({"folded": 2}), keep_since_us=0)
        journal_id = journal.journal_id
    with admin_of(server) as admin:
        admin.hdel(HEAD, "sum", "unsealed")
        admin.hset(HEAD, "schema", "1")
        admin.hdel(KEPT, "sum")
        for version in range(1, 5):
            await rewrite(admin, version, c=None)
    async with opened(server.url) as journal:
        assert journal.journal_id == journal_id
        assert list(await journal.read(0)) == batches
        await journal.checkpoint(2, Checkpoint({"folded": 2}), keep_since_us=0)
        more = await fill(journal, 2, "more")
    async with opened(server.url) as journal:
        assert list(await journal.read(0)) == [*batches, *more]
        with admin_of(server) as admin:
            await rewrite(admin, 5, c=None)
        with pytest.raises(JournalError, match="damaged"):
            await journal.read(0)


# A missing driver


async def test_a_missing_driver_is_named_with_the_extra_that_brings_it() -> None:
    script = """
import sys
sys.modules["redis"] = None
from moe_segments.journal import open_journal
try:
    open_journal("redis://u:canary@h/0", "W1")
except Exception as error:
    print(type(error).__name__, error)
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert out.decode().startswith("InputError")
    assert "pip install 'moe-segments[redis]'" in out.decode()
    assert "canary" not in out.decode()
