"""A server that is away, or comes back as another one, as users meet it: clients, bulk runs, commands, the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import sys
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from moe_segments.bulk.manifest import read_manifest
from moe_segments.bulk.run import run_bulk
from moe_segments.callbacks.receiver import CallbackReceiver
from moe_segments.client.client import SegmentsClient, replica_of
from moe_segments.errors import JournalError, JournalReplaced
from moe_segments.models import CreateFileSegment
from moe_segments.sandbox import Sandbox
from tests.fleet.stores import Store, store_of
from tests.fleet.worlds import FACT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from moe_segments.bulk.run import BulkRow

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(120)]

SPEED = 1_200.0  # an hour is three seconds
HEADER = "op,name,attribute_name,attribute_type,file_url,expiry_time,rows\n"


@pytest.fixture(params=["redis", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with store_of(request.param, tmp_path, timeout_s=2) as made:
        yield made


@asynccontextmanager
async def client_on(store: Store, sandbox: Sandbox) -> AsyncIterator[SegmentsClient]:
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials,
            journal=store.url,
            callbacks=receiver,
            limits=sandbox.limits,
            base_url=sandbox.url,
            requests_per_s=1_000,
            preflight="off",
        ) as client,
    ):
        yield client


def creates(tmp_path: Path, url: str, count: int) -> Path:
    path = tmp_path / "bulk.csv"
    path.write_text(HEADER + "".join(f"create,s{number},ID,string,{url},30,1\n" for number in range(count)))
    return path


async def url_of(sandbox: Sandbox, tmp_path: Path) -> str:
    (tmp_path / "users.csv").write_text("u-1\n")
    return await sandbox.publish(tmp_path / "users.csv")


async def test_a_bulk_run_outlasts_an_outage_while_it_waits(store: Store, tmp_path: Path) -> None:
    """Ten go at once; the others wait for the hour, during which the server is away."""
    async with Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox:
        async with client_on(store, sandbox) as client:
            manifest = read_manifest(creates(tmp_path, await url_of(sandbox, tmp_path), 14))
            ended: list[BulkRow] = []
            ten = asyncio.Event()

            def on_outcome(row: BulkRow) -> None:
                ended.append(row)
                if len(ended) == 10:
                    ten.set()

            running = asyncio.ensure_future(run_bulk(client, manifest, on_outcome=on_outcome))
            await asyncio.wait_for(ten.wait(), 30)
            store.stop()
            await asyncio.sleep(6)  # the slots come meanwhile, and every call's time-out passes
            assert not running.done()
            store.start()
            report = await asyncio.wait_for(running, 60)
    assert Counter(row.state for row in report.rows) == {"processed": 14}
    assert report.exit_code == 0


async def test_many_operations_end_at_once_with_a_journal_that_went_back(store: Store, tmp_path: Path) -> None:
    async with Sandbox(speed=1, processing_s=(0, 0)) as sandbox:
        async with client_on(store, sandbox) as client:
            url = await url_of(sandbox, tmp_path)
            operations = [
                CreateFileSegment(
                    name=f"s{n}", attribute_name="ID", attribute_type="string", file_url=url, expiry_time=30, rows=1
                )
                for n in range(300)
            ]
            store.save()
            outcomes = client.submit_many(operations, concurrency=20)
            for _ in range(10):
                assert (await anext(outcomes)).error is None
            store.go_back()

            async def rest() -> None:
                async for outcome in outcomes:
                    assert isinstance(outcome.error, JournalError)

            with pytest.raises(JournalReplaced):
                await asyncio.wait_for(rest(), 30)
            with pytest.raises(JournalReplaced):
                await run_bulk(client, read_manifest(creates(tmp_path, url, 2)))


async def test_an_outage_is_one_line_of_each_kind(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However many ask, wait, receive and write meanwhile."""
    async with Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox:
        async with client_on(store, sandbox) as client:
            stop = asyncio.Event()

            async def write() -> None:
                while not stop.is_set():
                    try:
                        await replica_of(client).record(FACT)
                    except JournalError:
                        await asyncio.sleep(0.01)

            writing = [asyncio.ensure_future(write()) for _ in range(20)]
            with replica_of(client).watching():
                await asyncio.sleep(0.3)
                caplog.clear()
                store.stop()
                await asyncio.sleep(1.5)
                store.start()
                await asyncio.wait_for(replica_of(client).record(FACT), 20)
            stop.set()
            await asyncio.gather(*writing)
    lines = Counter(record.message[:30] for record in caplog.records if record.levelno >= logging.WARNING)
    assert sum(lines.values()) <= 3, lines
    assert max(lines.values(), default=0) <= 1, lines


# Commands


def environ(sandbox: Sandbox, store: Store) -> dict[str, str]:
    return {
        **os.environ,
        "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
        "MOE_API_KEY": sandbox.credentials.api_key,
        "MOE_DATA_CENTER": sandbox.credentials.data_center,
        "MOE_BASE_URL": sandbox.url,
        "MOE_JOURNAL": store.url,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


async def command(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moe_segments", *arguments),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_a_receiver_ends_with_its_own_code_when_the_journal_went_back(store: Store) -> None:
    """So that a supervisor starts it again; the log says what to do."""
    async with Sandbox(speed=SPEED) as sandbox:
        async with client_on(store, sandbox) as client:
            store.save()
            await replica_of(client).record(FACT)
        receiving = await command(
            "receive", "--port", "0", "--json", "--speed", f"{SPEED:g}", env=environ(sandbox, store)
        )
        assert receiving.stdout is not None
        json.loads(await asyncio.wait_for(receiving.stdout.readuntil(b"}\n"), 30))
        store.go_back()
        _, said = await asyncio.wait_for(receiving.communicate(), 30)
    assert receiving.returncode == 74, said
    assert b"again" in said


async def test_a_command_without_its_journal_says_how_to_resume(store: Store, tmp_path: Path) -> None:
    async with Sandbox(speed=SPEED) as sandbox:
        manifest = creates(tmp_path, await url_of(sandbox, tmp_path), 2)
        store.stop()
        running = await command("bulk", str(manifest), "--speed", f"{SPEED:g}", env=environ(sandbox, store))
        _, said = await asyncio.wait_for(running.communicate(), 60)
        assert running.returncode == 75, said
        assert b"run the same command again" in said
        assert len(said.splitlines()) == 1
        store.start()


async def test_watching_the_quota_outlasts_an_outage(store: Store) -> None:
    """It says so once, and goes on when the server is back."""
    async with Sandbox(speed=SPEED) as sandbox:
        watching = await command("quota", "--watch", "--json", "--speed", f"{SPEED:g}", env=environ(sandbox, store))
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert b"limits" in await asyncio.wait_for(watching.stdout.readline(), 60)
        store.stop()
        while b"the journal is away" not in (said := await asyncio.wait_for(watching.stderr.readline(), 60)):
            assert said, "it ended"
        with contextlib.suppress(TimeoutError):
            while True:  # what was written before
                assert await asyncio.wait_for(watching.stdout.readline(), 3), "it ended"
        store.start()
        assert b"limits" in await asyncio.wait_for(watching.stdout.readline(), 60)
        watching.terminate()
        _, said = await asyncio.wait_for(watching.communicate(), 60)
        assert b"the journal is away" not in said


async def test_a_waiting_submit_begun_while_the_server_is_away_is_sent_later(store: Store, tmp_path: Path) -> None:
    async with Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox:
        async with client_on(store, sandbox) as client:
            url = await url_of(sandbox, tmp_path)
            store.stop()
            creating = asyncio.ensure_future(
                client.create_file_segment(
                    name="later",
                    attribute_name="ID",
                    attribute_type="string",
                    file_url=url,
                    expiry_time=30,
                    rows=1,
                    max_wait_s=math.inf,
                )
            )
            await asyncio.sleep(3)
            assert not creating.done()
            store.start()
            job = await asyncio.wait_for(creating, 30)
            assert (await job.result(30, raise_on_zero_users=False)).values_found == 1
