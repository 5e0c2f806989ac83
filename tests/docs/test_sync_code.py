"""What docs/sync-code.md promises to code that is not asynchronous, tried on a sandbox in a thread of its own."""

from __future__ import annotations

import ast
import asyncio
import inspect
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import attrs
import pytest
from asgiref.sync import async_to_sync

from moe_segments import CreateFileSegment, JobState, SegmentsClient
from moe_segments.errors import InputError, JournalError
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PATIENCE_S: Final = 60


@attrs.frozen
class Place:
    """A sandbox in a thread of its own, and the variables that lead to it and to one SQLite journal."""

    sandbox: Sandbox
    variables: Mapping[str, str]
    url: str

    def operation(self, number: int) -> CreateFileSegment:
        return CreateFileSegment(
            name=f"segment_{number}",
            attribute_name="ID",
            attribute_type="string",
            file_url=self.url,
            rows=3,
            expiry_time=30,
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "users.csv").write_text("u1\nu2\nu3\n")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def opened() -> tuple[Sandbox, str]:
        sandbox = await Sandbox().__aenter__()
        return sandbox, await sandbox.publish(tmp_path / "users.csv")

    sandbox, url = asyncio.run_coroutine_threadsafe(opened(), loop).result(PATIENCE_S)
    variables = {
        "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
        "MOE_API_KEY": sandbox.credentials.api_key,
        "MOE_DATA_CENTER": sandbox.credentials.data_center,
        "MOE_BASE_URL": sandbox.url,
        "MOE_JOURNAL": f"sqlite:///{tmp_path}/quota.db",
    }
    try:
        yield Place(sandbox, variables, url)
    finally:
        asyncio.run_coroutine_threadsafe(sandbox.__aexit__(None, None, None), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def submitted(variables: Mapping[str, str], operation: CreateFileSegment, job_id: str) -> str:
    async with SegmentsClient.from_env(environ=variables) as client:
        return (await client.submit(operation, job_id=job_id)).state


async def used(variables: Mapping[str, str]) -> int:
    async with SegmentsClient.from_env(environ=variables) as client:
        return (await client.governor.usage())["operations_per_hour"].used


def task(variables: Mapping[str, str], operation: CreateFileSegment, job_id: str) -> str:
    """As a task of Celery does it: in a process that was forked, a loop and a client for each."""
    return asyncio.run(submitted(variables, operation, job_id))


def test_each_asyncio_run_counts_on_what_the_one_before_spent(place: Place) -> None:
    for number in range(3):
        assert task(place.variables, place.operation(number), f"job-{number}") == JobState.ACCEPTED
        assert asyncio.run(used(place.variables)) == number + 1


def test_a_task_that_is_repeated_attaches_to_its_job(place: Place) -> None:
    for _ in range(3):
        assert task(place.variables, place.operation(1), "nightly") == JobState.ACCEPTED
    assert asyncio.run(used(place.variables)) == 1
    assert len([each for each in place.sandbox.workspace.requests if each.path.endswith("file-segment")]) == 1


def test_a_notebook_s_cells_share_a_client(place: Place) -> None:
    """A cell is compiled with `await` allowed at its top, and runs in the loop of all cells."""
    client = SegmentsClient.from_env(environ=place.variables)
    names: dict[str, object] = {"stack": AsyncExitStack(), "made": client}
    cells = (
        "client = await stack.enter_async_context(made)",
        "usage = await client.governor.usage()",
        "await stack.aclose()",
    )
    with asyncio.Runner() as runner:
        for cell in cells:
            code = compile(cell, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            runner.run(_awaited(eval(code, names)))
    assert names["usage"]


async def _awaited(done: object) -> None:
    if inspect.isawaitable(done):
        await done


def test_a_client_of_another_loop_is_refused(place: Place) -> None:
    async def kept() -> None:
        async with SegmentsClient.from_env(environ=place.variables) as client:
            with pytest.raises(InputError, match="another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(_used_by(client)))

    asyncio.run(kept())


async def _used_by(client: SegmentsClient) -> None:
    await client.governor.usage()


def test_a_sync_view_calls_it_by_asgiref(place: Place) -> None:
    """As Django does: from a thread without a loop."""
    assert async_to_sync(used)(place.variables) == 0
    assert async_to_sync(submitted)(place.variables, place.operation(1), "view") == JobState.ACCEPTED
    assert async_to_sync(used)(place.variables) == 1


def test_a_thread_with_a_loop_serves_sync_code(place: Place) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        stack, closed = AsyncExitStack(), SegmentsClient.from_env(environ=place.variables)
        client = asyncio.run_coroutine_threadsafe(stack.enter_async_context(closed), loop).result(PATIENCE_S)
        asyncio.run_coroutine_threadsafe(client.submit(place.operation(1)), loop).result(PATIENCE_S)
        usage = asyncio.run_coroutine_threadsafe(client.governor.usage(), loop).result(PATIENCE_S)
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert usage["operations_per_hour"].used == 1


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_forked_workers_share_the_quota(place: Place) -> None:
    """As a pool of Celery does: each worker is a fork, and each task opens its client."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max_workers=2, mp_context=context) as pool:
        began = [pool.submit(task, place.variables, place.operation(number), f"job-{number}") for number in range(6)]
        states = [each.result(PATIENCE_S) for each in began]
    assert states == [JobState.ACCEPTED] * 6
    assert asyncio.run(used(place.variables)) == 6
    assert place.sandbox.workspace.rejections == 0


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_client_that_was_opened_before_a_fork_is_refused_in_the_child(place: Place) -> None:
    async def forked() -> int:
        async with SegmentsClient.from_env(environ=place.variables) as client:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    await client.submit(place.operation(1))
                except JournalError as error:
                    code = 0 if "fork" in str(error) else 2
                finally:
                    os._exit(code)
            status = await asyncio.to_thread(os.waitpid, child, 0)
            assert (await client.governor.usage())["operations_per_hour"].used == 0
            return os.waitstatus_to_exitcode(status[1])

    assert asyncio.run(forked()) == 0
    assert not place.sandbox.workspace.requests
