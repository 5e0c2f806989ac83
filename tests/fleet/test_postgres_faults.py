"""Two processes on one PostgreSQL while everything between breaks: nothing acknowledged is lost, nothing done twice.

Each decides and records without a pause, each time under a name of its own, and says what was acknowledged. Meanwhile
requests and answers are lost, connections cut, swallowed and delayed, sessions ended by the administrator, the server
restarted and killed with signal 9. Then the log must hold every name that was acknowledged, and each once at most.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import pytest

from moe_segments.core.events import ExternalUsage, Reserved
from moe_segments.errors import JournalAmbiguous, JournalError
from tests.fleet.postgres_worlds import always, opened, server
from tests.fleet.proxy import Fault, Proxy
from tests.fleet.worlds import FACT
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.fleet.postgres_server import PostgresServer

__all__ = ["server"]  # a fixture

T = TypeVar("T")

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(cases(short=180, full=1_800))]

ROUNDS: Final = cases(short=2, full=40)  # of each kind of fault
TIMEOUT_S: Final = 0.5  # of an answer

# Decide and record until the file `stop` exists, on a clock that runs wrong; say what was acknowledged, and what not.
WORKER: Final = """
import asyncio, os, sys, time
from pathlib import Path
from moe_segments.core.events import ExternalUsage, Reserved
from moe_segments.errors import JournalError
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.replica import Replica
from moe_segments.journal.postgres.engine import PostgresJournal
from moe_segments.limits import QuotaLimits

url, me, stop, rate = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])

def reserve(job):
    def question(state, now_us):
        event = Reserved(job, 1, {"op": "create"}, 1, 0, 0, (), 30, 60)
        state.try_reserve(event, now_us)
        return [event], None
    return question

async def one(replica, name):
    doing = replica.ask(reserve(str(name))) if name % 2 else replica.record(ExternalUsage(operations=1, rows=name))
    try:
        await doing
    except JournalError as error:
        os.write(1, f"failed {name} {type(error).__name__} {error}\\n".encode())
        await asyncio.sleep(0.05)
    else:
        os.write(1, f"done {name}\\n".encode())

async def main():
    host = BootClock(boot_us=lambda: int(time.monotonic_ns() // 1_000 * rate))
    replica = Replica(PostgresJournal(url, "W1", poll_s=0.05, host=host), QuotaLimits())
    await replica.open()
    names = iter(range(me * 1_000_000, (me + 1) * 1_000_000))

    async def task():
        while not stop.exists():
            await one(replica, next(names))
            await asyncio.sleep(0.002)

    with replica.watching():
        await asyncio.gather(task(), task(), task())
    await replica.close()

asyncio.run(main())
"""


@attrs.define
class Scene:
    """Two processes at work.

    Attributes:
        server: The server.
        ways: The way there of each.
        said: What each said so far, a line each.
        hearing: What each says, to its end.
    """

    server: PostgresServer
    ways: list[Proxy]
    said: list[list[str]]
    hearing: list[asyncio.Future[str]] = attrs.field(factory=list)

    async def goes_on(self) -> None:
        """Both have got further: what was broken is whole again."""
        had = [self._done(at) for at in range(len(self.said))]
        async with asyncio.timeout(40):
            while any(self._done(at) < before + 3 for at, before in enumerate(had)):
                await asyncio.sleep(0.005)
                for hearing in self.hearing:
                    assert not hearing.done(), hearing.result()

    def _done(self, at: int) -> int:
        return sum(line.startswith("done") for line in self.said[at])


@asynccontextmanager
async def working(server: PostgresServer, stop: Path) -> AsyncIterator[Scene]:
    async with Proxy(("127.0.0.1", server.port)) as one, Proxy(("127.0.0.1", server.port)) as two:
        scene = Scene(server, [one, two], [[], []])
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WORKER, f"{server.url_at(proxy.port)}?timeout_s={TIMEOUT_S}"),
                *(str(number), str(stop), rate),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for number, (proxy, rate) in enumerate(zip(scene.ways, ("0.7", "1.4"), strict=True), 1)
        ]
        scene.hearing = [
            asyncio.ensure_future(_hear(process, said)) for process, said in zip(processes, scene.said, strict=True)
        ]
        try:
            await scene.goes_on()
            yield scene
            await asyncio.to_thread(stop.touch)
            async with asyncio.timeout(40):
                for process, ended in zip(processes, scene.hearing, strict=True):
                    errors = await ended
                    assert await process.wait() == 0, errors
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _hear(process: asyncio.subprocess.Process, said: list[str]) -> str:
    """Note each line as it comes. Returns what was complained of."""
    assert process.stdout is not None
    assert process.stderr is not None
    async for line in process.stdout:
        said.append(line.decode().strip())  # noqa: PERF401 - each as it comes
    return (await process.stderr.read()).decode()


# What breaks


def losing(fault: Fault, request: bytes) -> Callable[[Scene], Awaitable[None]]:
    async def strike(scene: Scene) -> None:
        way = random.choice(scene.ways)
        way.arm(fault, request)
        await asyncio.wait_for(way.faulted.wait(), 20)

    return strike


async def cut(scene: Scene) -> None:
    """In the middle of whatever is under way."""
    random.choice(scene.ways).cut()


async def away(scene: Scene) -> None:
    """Nobody gets through for longer than a time-out."""
    way = random.choice(scene.ways)
    way.is_down = True
    await asyncio.sleep(TIMEOUT_S * 1.5)
    way.is_down = False


async def slow(scene: Scene) -> None:
    """Some answers come in time, and some do not."""
    way = random.choice(scene.ways)
    way.delay_s = TIMEOUT_S / 2
    await asyncio.sleep(TIMEOUT_S * 2)
    way.delay_s = 0.0


async def ended(scene: Scene) -> None:
    """The administrator ends every session, each at whatever point it is."""
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moe_segments'"
    await asyncio.to_thread(scene.server.sql, statement)


async def restarted(scene: Scene) -> None:
    await asyncio.to_thread(scene.server.stop)
    await asyncio.to_thread(scene.server.start)


async def killed(scene: Scene) -> None:
    """Signal 9 to all of it, and back on the same disk."""
    await asyncio.to_thread(scene.server.kill)
    await asyncio.sleep(random.uniform(0, 0.2))
    await asyncio.to_thread(scene.server.start)


FAULTS: Final = {
    "a decision's request is lost": losing(Fault.LOSE_REQUEST, b'"reserved"'),
    "a decision's answer is lost": losing(Fault.LOSE_ANSWER, b'"reserved"'),
    "a decision's answer never comes": losing(Fault.SWALLOW, b'"reserved"'),
    "a fact's request is lost": losing(Fault.LOSE_REQUEST, b'"external"'),
    "a fact's answer is lost": losing(Fault.LOSE_ANSWER, b'"external"'),
    "a fact's answer never comes": losing(Fault.SWALLOW, b'"external"'),
    "anything's answer is lost": losing(Fault.LOSE_ANSWER, b""),
    "cut": cut,
    "away": away,
    "slow": slow,
    "sessions ended": ended,
    "restarted": restarted,
    "killed": killed,
}


@pytest.mark.processes
async def test_nothing_acknowledged_is_lost_and_nothing_is_done_twice(server: PostgresServer, tmp_path: Path) -> None:
    """Every kind of fault several times over, in a random order."""
    faults = random.sample([*FAULTS] * ROUNDS, len(FAULTS) * ROUNDS)
    async with working(server, tmp_path / "stop") as scene:
        for fault in faults:
            await FAULTS[fault](scene)
            await scene.goes_on()
    lines = [line for said in scene.said for line in said]
    acknowledged = [line.removeprefix("done ") for line in lines if line.startswith("done")]
    failed = [line.split(" ", 3) for line in lines if line.startswith("failed")]
    in_doubt = {name for _, name, kind, _ in failed if kind == "JournalAmbiguous"}
    async with opened(server.url) as journal:
        batches = await journal.read(0)
    names = Counter(
        event.job if isinstance(event, Reserved) else str(event.rows)
        for batch in batches
        for event in batch.events
        if isinstance(event, Reserved | ExternalUsage)
    )
    say(
        f"{len(faults)} faults: {len(acknowledged)} acknowledged, {len(names)} in the log, {len(failed)} failed, "
        f"{len(in_doubt)} of them in doubt"
    )
    assert len(faults) >= 25
    assert [batch.version for batch in batches] == list(range(1, len(batches) + 1))
    assert [batch.at_us for batch in batches] == sorted(batch.at_us for batch in batches)
    assert sorted(set(acknowledged) - names.keys()) == [], "acknowledged and lost"
    assert [name for name, count in names.items() if count > 1] == [], "done twice"
    surely_not = [failure for failure in failed if failure[1] not in in_doubt]
    assert [failure for failure in surely_not if failure[1] in names] == [], "failed and done"
    assert len(in_doubt) <= len(faults), "what was in doubt was not asked again"


# One call at a time


@pytest.mark.parametrize("fault", list(Fault))
async def test_an_answer_that_is_lost_is_said_to_be_and_asking_again_tells(
    server: PostgresServer, fault: Fault
) -> None:
    """For a decision and for a fact; the second time the same batch comes back, or the first one."""
    async with Proxy(("127.0.0.1", server.port)) as proxy:
        async with opened(f"{server.url_at(proxy.port)}?timeout_s={TIMEOUT_S}") as journal:
            for number in range(4):
                proxy.arm(fault, b"external")
                with pytest.raises(JournalAmbiguous, match="ask again, which is safe"):
                    await journal.append([FACT], batch_id=f"a{number}")
                await asyncio.wait_for(proxy.faulted.wait(), 20)
                was_written = server.sql(f"SELECT count(*) FROM moe_segments.batches WHERE id = 'a{number}'") == "1"
                assert was_written or fault is Fault.LOSE_REQUEST
                batch = await told(lambda: journal.append([FACT], batch_id=f"a{number}"))  # noqa: B023 - at once
                assert batch.version == 2 * number + 1

                proxy.arm(fault, b"external")
                with pytest.raises(JournalAmbiguous, match="unknown"):
                    await journal.transact(batch.version, always(FACT), batch_id=f"t{number}")
                decided = await told(lambda: journal.transact(batch.version, always(FACT), batch_id=f"t{number}"))  # noqa: B023 - at once
                assert decided is not None
                assert decided.version == 2 * number + 2
            assert len(await journal.read(0)) == 8


async def told(call: Callable[[], Awaitable[T]]) -> T:
    """What *call* says, asked again for as long as a busy machine does not answer in time."""
    while True:
        with suppress(JournalAmbiguous):
            return await call()


async def test_a_read_whose_answer_is_lost_is_made_again(server: PostgresServer) -> None:
    async with Proxy(("127.0.0.1", server.port)) as proxy:
        async with opened(f"{server.url_at(proxy.port)}?timeout_s={TIMEOUT_S}") as journal:
            batch = await journal.append([FACT], batch_id="a")
            for fault in Fault:
                proxy.arm(fault)
                assert list(await journal.read(0)) == [batch]
                proxy.arm(fault)
                assert await journal.transact(1, always(), batch_id=f"refused {fault}") is None


async def test_a_connection_that_died_unused_is_noticed_before_anything_is_sent(server: PostgresServer) -> None:
    """So that nothing is in doubt after a quiet hour behind a fire wall, or after a restart."""
    async with opened(server.url) as journal:
        await journal.append([FACT], batch_id="a")
        server.stop()
        server.start()
        await asyncio.sleep(0.05)
        assert (await journal.append([FACT], batch_id="b")).version == 2


async def test_a_server_that_is_gone_is_said_and_nothing_is_in_doubt(server: PostgresServer) -> None:
    async with opened(server.url) as journal:
        server.stop()
        await asyncio.sleep(0.05)
        for call in (
            journal.append([FACT], batch_id="a"),
            journal.transact(0, always(FACT), batch_id="b"),
            journal.read(0),
            journal.checkpoint(1, FACT, keep_since_us=0),
            journal.changed(0, 1),
        ):
            with pytest.raises(JournalError, match="cannot be reached, nothing was recorded") as caught:
                await call
            assert not isinstance(caught.value, JournalAmbiguous)
        server.start()
        assert (await journal.append([FACT], batch_id="a")).version == 1


async def test_who_falls_silent_while_holding_the_lock_holds_nobody_up(server: PostgresServer) -> None:
    """Stopped between its two round trips; the server ends it, and it finds out when it goes on."""
    async with Proxy(("127.0.0.1", server.port)) as proxy:
        async with opened(server.url_at(proxy.port)) as silent, opened(server.url) as rival:
            await rival.append([FACT], batch_id="first")
            lost, runs = asyncio.Event(), list[object]()

            def decide(missed: object, _: int) -> list[ExternalUsage]:
                runs.append(missed)
                if len(runs) == 3:
                    lost.set()
                return [FACT]

            async def be_quicker_or_silent() -> None:
                if not lost.is_set():
                    await rival.append([FACT], batch_id=f"rush {len(runs)}")
                else:
                    await asyncio.Event().wait()

            proxy.first = be_quicker_or_silent
            deciding = asyncio.ensure_future(silent.transact(0, decide, batch_id="silent"))
            await asyncio.wait_for(lost.wait(), 20)
            try:
                await rival.append([FACT], batch_id="held up")  # or it says that the lock was held for too long
            finally:
                proxy.cut()
            with pytest.raises(JournalAmbiguous):
                await deciding
            names = [batch.id for batch in await rival.read(0)]
            assert "held up" in names
            assert "silent" not in names
