"""kill -9 at random points: workers on one SQLite journal, and the command line's bulk run and receiver.

The sandbox runs here, in the process that kills, so what arrived is known for certain.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from moe_segments import JobState, QuotaLimits
from moe_segments.core.events import NeverSent
from moe_segments.journal.local.process import is_gone, this_process
from moe_segments.sandbox import Faults, Sandbox
from tests.ports import free_port
from tests.proofs import cases, say
from tests.proofs.killing import (
    a_group,
    a_nursery,
    check_callbacks,
    check_integrity,
    file_calls,
    state_of,
    until,
    worst_window,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.timeout(1_800)]

WORKER_KILLS: Final = cases(short=12, full=1_000)
COMMAND_KILLS: Final = cases(short=3, full=200)
WORKERS: Final = 4
SEED: Final = 20_261_123

# Windows of three seconds. Sixty fit one, so that the limit binds although killed sends go on counting for a while: a
# lease is the fence (2 s where limits are scaled), the time-out (3 s) and D (2 s). A busy machine fills them, too.
SPEED: Final = 1_200.0
BASE: Final = QuotaLimits(
    operations_per_hour=60,
    operations_per_day=100_000,
    users_per_day=10_000_000,
    active_segments=1_000_000,
    count_late_s=2 * SPEED,
)

# A worker submits one create after the other under ids that the next one in its place repeats.
WORKER: Final = """
import asyncio, logging, math, sys
import aiohttp
from moe_segments import CreateFileSegment, MoeSegmentsError, QuotaLimits, SegmentsClient
from moe_segments.models import Credentials

async def submit(client, slot, number, url):
    operation = CreateFileSegment(name=f"{slot}-{number}", attribute_name="ID", attribute_type="string",
                                  file_url=url, rows=1, expiry_time=30)
    try:
        await client.submit(operation, job_id=operation.name, max_wait_s=math.inf)
    except MoeSegmentsError as error:
        if type(error).__name__ not in ("OutcomeUnknown", "NotSent"):
            print(repr(error), file=sys.stderr, flush=True)

async def work(task):
    slot = task["slot"]
    async with SegmentsClient(
        Credentials(**task["credentials"]), journal=task["journal"], base_url=task["base_url"],
        limits=QuotaLimits(**task["limits"]).scaled(task["speed"]), requests_per_s=1000, poll_s=0.05,
        connect_timeout_s=1, read_timeout_s=2, total_timeout_s=3,
    ) as client:
        mine = [job.id async for job in client.jobs() if job.id.startswith(f"{slot}-")]
        numbers = iter(range(max(0, len(mine) - 5), 10**9))

        async def one_after_the_other():
            for number in numbers:
                await submit(client, slot, number, task["file_url"])

        await asyncio.gather(one_after_the_other(), one_after_the_other())

logging.disable(logging.WARNING)
"""


# Who is dead


async def test_a_killed_process_is_known_to_be_gone_before_anybody_waits_for_it() -> None:
    """In a container without an init nobody does."""
    tell = "from moe_segments.journal.local.process import this_process; print(this_process(), flush=True); input()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {tell!r}]); input()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        owner = (await process.stdout.readline()).decode().strip()
        assert not is_gone(owner)
        os.kill(int(owner.split("/")[2]), signal.SIGKILL)
        await until(lambda: is_gone(owner))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def test_a_process_of_another_container_is_not_taken_for_dead() -> None:
    """Containers share the boot and not the process numbers: a live send there must not be told as gone."""
    mine = this_process()
    assert mine is not None
    boot, namespace, _, start = mine.split("/")
    assert not is_gone(mine)
    assert is_gone(f"{boot}/{namespace}/4194304/{start}"), "no such process here"
    assert not is_gone(f"{boot}/pid:[1]/4194304/{start}")
    assert is_gone(f"another-boot/pid:[1]/{os.getpid()}/{start}")
    assert not is_gone(f"another-boot/pid:[1]/{os.getpid()}/{start}", spans_hosts=True), (
        "another host's, for all we know"
    )
    assert is_gone(f"{boot}/{namespace}/4194304/{start}", spans_hosts=True)


# Four workers


async def test_killed_workers_never_pass_a_limit_and_leave_no_send_without_a_row(tmp_path: Path) -> None:
    """A random one of four dies at a random moment, again and again, while all of them want more than the limit."""
    chance = random.Random(SEED)
    path = tmp_path / "quota.db"
    (tmp_path / "users.csv").write_text("u-1\n")
    async with Sandbox(speed=SPEED, limits=BASE, latency_s=(0, 0.05), processing_s=(0, 0)) as sandbox:
        task = {
            "credentials": attrs.asdict(sandbox.credentials),
            "journal": f"sqlite:///{path}",
            "base_url": sandbox.url,
            "limits": {
                "operations_per_hour": BASE.operations_per_hour,
                "operations_per_day": BASE.operations_per_day,
                "users_per_day": BASE.users_per_day,
                "active_segments": BASE.active_segments,
                "count_late_s": BASE.count_late_s,
            },
            "speed": SPEED,
            "file_url": await sandbox.publish(tmp_path / "users.csv"),
        }
        async with a_nursery(WORKER, tmp_path) as nursery:
            workers = [await nursery.born(task | {"slot": f"w{slot}"}) for slot in range(WORKERS)]
            await until(lambda: len(sandbox.workspace.counted) > BASE.operations_per_hour)
            for _ in range(WORKER_KILLS):
                await asyncio.sleep(chance.uniform(0, 0.6))
                slot = chance.randrange(WORKERS)
                os.kill(workers[slot], signal.SIGKILL)
                workers[slot] = await nursery.born(task | {"slot": f"w{slot}"})
            await asyncio.sleep(1)
        await asyncio.sleep(0.2)
        await check_workers(sandbox, path)


async def check_workers(sandbox: Sandbox, path: Path) -> None:
    limits = sandbox.limits
    calls = file_calls(sandbox)
    batches, records = await state_of(path, sandbox.credentials.scope, limits)
    worst = worst_window(sandbox.workspace.counted, limits.hour_s)
    say(
        f"seed {SEED}: {WORKER_KILLS} kills, {len(calls)} arrivals, {len(records)} jobs, fullest window {worst} of "
        f"{limits.operations_per_hour}"
    )
    assert [call for call in calls if call.status == 429] == []
    assert worst <= limits.operations_per_hour
    assert worst > limits.operations_per_hour / 2, "the limit was never near"
    arrivals = Counter(str(call.segment) for call in calls)
    assert arrivals.keys() <= records.keys(), "an arrival without a row"
    assert max(arrivals.values()) == 1, "sent twice"
    for name in arrivals:
        assert records[name].state in {JobState.RESERVED, JobState.ACCEPTED, JobState.UNKNOWN}, f"{name} is lost"
    assert not [job for job, record in records.items() if record.duplicate_possible]
    never = {event.job for batch in batches for event in batch.events if isinstance(event, NeverSent)}
    assert not never & arrivals.keys()
    check_integrity(path)


# The command line


class Commands:
    """`bulk` and `receive` as real processes, on one journal, against the sandbox in this process."""

    def __init__(self, sandbox: Sandbox, directory: Path, port: int) -> None:
        self.sandbox, self.directory, self.port = sandbox, directory, port
        self._environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(directory),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
            "MOE_API_KEY": sandbox.credentials.api_key,
            "MOE_DATA_CENTER": sandbox.credentials.data_center,
            "MOE_BASE_URL": sandbox.url,
            "MOE_JOURNAL": f"sqlite:///{directory / 'quota.db'}",
            "MOE_CALLBACK_URL": f"http://127.0.0.1:{port}",
        }

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A command; its group is killed at the end. What it says goes to a file."""
        with (self.directory / f"{arguments[0]}.log").open("ab") as log:
            async with a_group(
                *(sys.executable, "-m", "moe_segments", *arguments, "--speed", str(COMMAND_SPEED), "--json"),
                env=self._environ,
                cwd=self.directory,
                stdout=log,
                stderr=log,
            ) as process:
                yield process

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A receiver that answers."""
        async with self.started("receive", "--port", str(self.port)) as process:
            await until(self._answers)
            yield process

    async def next_send(self, process: asyncio.subprocess.Process) -> None:
        """Wait until something is sent, or the process ends."""
        sent = len(file_calls(self.sandbox))
        await until(lambda: len(file_calls(self.sandbox)) > sent or process.returncode is not None)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


COMMAND_SPEED: Final = 1_200.0  # an hour is three seconds
LINES: Final = cases(short=24, full=700)


@asynccontextmanager
async def some_commands(directory: Path) -> AsyncIterator[Commands]:
    """A sandbox that is slow enough to be killed in front of, and forgiving with callbacks."""
    async with Sandbox(
        speed=COMMAND_SPEED,
        latency_s=(0, 0.3),
        processing_s=(0, 0.3),
        faults=Faults(double_callback=0.1, early_callback=0.1),
        callback_pauses_s=tuple(pause_s * COMMAND_SPEED for pause_s in (0.3, 0.6, 1.2, 2.4, 4.8)),
    ) as sandbox:
        (directory / "users.csv").write_text("u-1\nu-2\nu-3\n")
        url = await sandbox.publish(directory / "users.csv")
        rows = "".join(f"create,s{number},ID,string,{url},30,3\n" for number in range(LINES))
        header = "op,name,attribute_name,attribute_type,file_url,expiry_time,rows\n"
        (directory / "bulk.csv").write_text(header + rows)
        yield Commands(sandbox, directory, free_port())


async def test_killed_bulk_runs_and_receivers_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """One of them dies at a random moment and is started again, until the manifest is done."""
    chance = random.Random(SEED)
    async with some_commands(tmp_path) as commands:
        kills = 0
        async with AsyncExitStack() as receivers:
            await receivers.enter_async_context(commands.receiving())
            bulk = ("bulk", "bulk.csv", "--concurrency", "6", "--result-timeout", "8", "--unchecked")
            while kills < COMMAND_KILLS:
                async with commands.started(*bulk) as process:
                    if chance.random() < 0.5:  # else it may die before it sends, which takes the longer the more lines
                        await commands.next_send(process)
                    await asyncio.wait((asyncio.ensure_future(process.wait()),), timeout=chance.uniform(0.8, 3.0))
                    if process.returncode is not None:
                        assert process.returncode in {0, 4}, (tmp_path / "bulk.log").read_text()[-2_000:]
                        break
                kills += 1
                if kills < COMMAND_KILLS and chance.random() < 0.5:
                    await receivers.aclose()
                    await asyncio.sleep(chance.uniform(0, 0.4))
                    await receivers.enter_async_context(commands.receiving())
                    kills += 1
            await commands.sandbox.idle()
        await check_commands(commands, kills)


async def check_commands(commands: Commands, kills: int) -> None:
    sandbox, path = commands.sandbox, commands.directory / "quota.db"
    batches, records = await state_of(path, sandbox.credentials.scope, sandbox.limits)
    calls = file_calls(sandbox)
    delivered = [delivery for delivery in sandbox.workspace.deliveries if delivery.status == 200]
    say(f"seed {SEED}: {kills} kills, {len(calls)} sends, {len(delivered)} callbacks acknowledged")
    assert [call for call in calls if call.status == 429] == []
    assert len(calls) > kills
    arrivals = Counter(str(call.segment) for call in calls)
    by_name = {str(record.operation["name"]): record for record in records.values()}
    assert max(arrivals.values()) == 1, "sent twice"
    sent = {name for name, record in by_name.items() if record.attempt}
    assert arrivals.keys() <= sent, "an arrival without a row"
    for name in sent - arrivals.keys():
        assert by_name[name].state in {JobState.RESERVED, JobState.UNKNOWN, JobState.NOT_SENT}, f"{name} never arrived"
    for name in arrivals:
        assert by_name[name].state not in {JobState.PLANNED, JobState.NOT_SENT}, f"{name} was sent"
    check_callbacks(sandbox, batches, records, {delivery.request_id for delivery in delivered})
    check_integrity(path)
