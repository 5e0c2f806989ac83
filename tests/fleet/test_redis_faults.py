"""Two processes at work on one Redis while everything between breaks: nothing acknowledged is lost, nothing done twice.

Each process decides and records without a pause, each time under a name of its own, and says what was acknowledged.
Meanwhile requests and answers are lost, connections cut and swallowed, the server stopped, killed and restarted. The
log must then hold every name that was acknowledged, and each name once at most.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from moe_segments.core.events import ExternalUsage, Reserved
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.journal.redis.engine import RedisJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.fleet.proxy import Fault, Proxy
from tests.fleet.redis_worlds import server
from tests.fleet.worlds import reserve
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch
    from tests.fleet.servers import RedisServer

__all__ = ["server"]  # a fixture

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.timeout(900)]

ROUNDS: Final = cases(short=3, full=30)  # of each kind of fault
TIMEOUT_S: Final = 0.4  # of an answer

# Decide and record until the file `stop` exists; say what was acknowledged, and what was not.
WORKER: Final = """
import asyncio, os, sys
from pathlib import Path
from moe_segments.core.events import ExternalUsage, Reserved
from moe_segments.errors import JournalError
from moe_segments.journal.replica import Replica
from moe_segments.journal.replica import Replica
from moe_segments.journal.redis.engine import RedisJournal
from moe_segments.limits import QuotaLimits

url, me, stop, rate = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])

def drifting():
    import time
    return int(time.monotonic_ns() // 1_000 * rate)

def reserve(job):
    def question(state, now_us):
        event = Reserved(job, 1, {"op": "create"}, 1, 0, 0, (), 30, 60)
        state.try_reserve(event, now_us)
        return [event], None
    return question

async def one(replica, number):
    name = me * 1_000_000 + number
    doing = replica.ask(reserve(str(name))) if number % 3 else replica.record(ExternalUsage(operations=1, rows=name))
    try:
        await doing
    except JournalError as error:
        os.write(1, f"failed {name} {type(error).__name__}\\n".encode())
    else:
        os.write(1, f"done {name}\\n".encode())

async def main():
    from moe_segments.journal.local.clock import BootClock
    replica = Replica(RedisJournal(url, "W1", poll_s=0.05, host=BootClock(boot_us=drifting)), QuotaLimits())
    await replica.open()
    numbers = iter(range(1_000_000))

    async def task():
        while not stop.exists():
            await one(replica, next(numbers))
            await asyncio.sleep(0.002)

    await asyncio.gather(*[task() for _ in range(3)])
    await replica.refresh()
    os.write(1, f"jobs {len(replica.state.jobs.records)} {replica.state.version}\\n".encode())
    await replica.close()

asyncio.run(main())
"""


@attrs.define
class Scene:
    """Two processes at work.

    Attributes:
        server: The server.
        proxies: The way there of each.
        said: What each said so far.
    """

    server: RedisServer
    proxies: list[Proxy]
    said: list[list[str]]

    def proxy(self) -> Proxy:
        """One of the ways."""
        return random.choice(self.proxies)

    async def progress(self) -> None:
        """Both go on: what is broken is whole again."""
        before = [len(said) for said in self.said]
        async with asyncio.timeout(30):
            while any(len(said) < had + 5 for said, had in zip(self.said, before, strict=True)):
                await asyncio.sleep(0.005)


@asynccontextmanager
async def working(server: RedisServer, stop: Path) -> AsyncIterator[Scene]:
    async with Proxy(("127.0.0.1", server.port)) as one, Proxy(("127.0.0.1", server.port)) as two:
        scene = Scene(server, [one, two], [[], []])
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WORKER, f"redis://127.0.0.1:{proxy.port}/0?timeout_s={TIMEOUT_S}"),
                *(str(number), str(stop), rate),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for number, (proxy, rate) in enumerate(zip(scene.proxies, ("0.7", "1.4"), strict=True))
        ]
        listening = [
            asyncio.ensure_future(_listen(process, said)) for process, said in zip(processes, scene.said, strict=True)
        ]
        try:
            await scene.progress()
            yield scene
            await asyncio.to_thread(stop.touch)
            async with asyncio.timeout(30):
                await asyncio.gather(*listening)
            for process in processes:
                assert process.stderr is not None
                assert await process.wait() == 0, (await process.stderr.read()).decode()
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.communicate()


async def _listen(process: asyncio.subprocess.Process, said: list[str]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        said.append(line.decode().strip())  # noqa: PERF401 - each as it comes


# Faults


def losing(fault: Fault) -> Callable[[Scene], Awaitable[None]]:
    async def strike(scene: Scene) -> None:
        proxy = scene.proxy()
        proxy.arm(fault, b"EVALSHA")
        await asyncio.wait_for(proxy.faulted.wait(), 10)

    return strike


async def cut(scene: Scene) -> None:
    """In the middle of whatever is under way."""
    scene.proxy().cut()


async def away(scene: Scene) -> None:
    """Nobody gets through for longer than a time-out."""
    proxy = scene.proxy()
    proxy.is_down = True
    await asyncio.sleep(TIMEOUT_S * 1.5)
    proxy.is_down = False


async def slow(scene: Scene) -> None:
    """Some answers come in time and some do not."""
    proxy = scene.proxy()
    proxy.delay_s = TIMEOUT_S / 2
    await asyncio.sleep(TIMEOUT_S * 1.5)
    proxy.delay_s = 0.0


async def killed(scene: Scene) -> None:
    """Signal 9, and back on the same disk."""
    scene.server.kill()
    await asyncio.sleep(random.uniform(0, 0.3))
    await asyncio.to_thread(scene.server.start)


async def stopped(scene: Scene) -> None:
    """In good order, as for an upgrade."""
    await asyncio.to_thread(scene.server.stop)
    await asyncio.to_thread(scene.server.start)


async def stalled(scene: Scene) -> None:
    """It stands still for longer than a time-out, and then does all it was asked."""
    scene.server.pause()
    await asyncio.sleep(TIMEOUT_S * 1.5)
    scene.server.resume()


async def forgotten(scene: Scene) -> None:
    """Its scripts are gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.server.port)
    writer.write(b"SCRIPT FLUSH\r\n")
    assert await reader.readline() == b"+OK\r\n"
    writer.close()
    await writer.wait_closed()


FAULTS: Final = (
    *(losing(fault) for fault in Fault),
    cut,
    away,
    slow,
    killed,
    stopped,
    stalled,
    forgotten,
)


def names_in(batches: Sequence[Batch]) -> list[str]:
    """Every name that the log holds."""
    names = []
    for event in itertools.chain.from_iterable(batch.events for batch in batches):
        if isinstance(event, Reserved):
            names.append(event.job)
        elif isinstance(event, ExternalUsage):
            names.append(str(event.rows))
    return names


async def log_of(server: RedisServer) -> Sequence[Batch]:
    journal = RedisJournal(server.url, "W1")
    await journal.open()
    try:
        return await journal.read(0)
    finally:
        await journal.close()


async def test_whatever_breaks_what_was_acknowledged_is_there_and_nothing_is_there_twice(
    server: RedisServer, tmp_path: Path
) -> None:
    """Each kind of fault three times over in random order; both processes see the same log in the end."""
    faults = [fault for fault in FAULTS for _ in range(ROUNDS)]
    random.shuffle(faults)
    async with working(server, tmp_path / "stop") as scene:
        for fault in faults:
            await fault(scene)
            await scene.progress()
    lines = [line.split() for said in scene.said for line in said]
    done = {words[1] for words in lines if words[0] == "done"}
    failed = [words for words in lines if words[0] == "failed"]
    batches = await log_of(server)
    names = names_in(batches)
    say(f"{len(faults)} faults: {len(done)} acknowledged, {len(failed)} failed, {len(batches)} batches")
    assert [batch.version for batch in batches] == list(range(1, len(batches) + 1))
    assert len(names) == len(set(names)), "something was done twice"
    assert done <= set(names), "something acknowledged was lost"
    assert set(names) - done <= {words[1] for words in failed}
    state = WorkspaceState(QuotaLimits())
    for batch in batches:
        state.fold(batch)
    seen = [words for words in lines if words[0] == "jobs"]
    assert max(int(words[2]) for words in seen) == state.version
    assert str(len(state.jobs.records)) in {words[1] for words in seen}


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name)
async def test_a_lost_reservation_is_granted_once_and_within_the_send_fence(server: RedisServer, fault: Fault) -> None:
    async with Proxy(("127.0.0.1", server.port)) as proxy:
        replica = Replica(RedisJournal(f"redis://127.0.0.1:{proxy.port}/0?timeout_s={TIMEOUT_S}", "W1"), QuotaLimits())
        await replica.open()
        proxy.arm(fault, b"EVALSHA")
        answers = await asyncio.gather(*(replica.ask(reserve(f"j{number}", 5)) for number in range(8)))
        assert list(answers) == [True] * 5 + [False] * 3
        assert proxy.faulted.is_set()
        await replica.close()
    assert len(names_in(await log_of(server))) == 5
