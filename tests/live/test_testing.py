"""The test tools as a user meets them: the loop, the network in memory, and the plugin in a pytest run of its own."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest
from aiohttp import web

from moe_segments import CallbackReceiver, CreateFileSegment, SegmentsClient
from moe_segments.core.events import OwnerGone
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import EPOCH_US, journal_clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event

BIG: Final = b"x" * 1_000_000

CONFTEST: Final = 'pytest_plugins = ["moe_segments.testing.plugin"]\n'
SUITE: Final = """
    import asyncio
    from datetime import UTC, datetime

    import pytest

    from moe_segments import CreateFileSegment
    from moe_segments.sandbox import FaultKind
    from moe_segments.testing.plugin import VirtualClock


    def create(number, url):
        return CreateFileSegment(
            name=f"s{number}", attribute_name="ID", attribute_type="string", file_url=url, rows=3, expiry_time=30
        )


    @pytest.fixture
    def sandbox_options():
        return {"users": ["u-1", "u-2"]}


    async def test_twenty_five_operations_take_two_virtual_hours(client, sandbox, virtual_clock, tmp_path):
        (tmp_path / "users.csv").write_text("u-1\\nu-2\\nu-3\\n")
        url = await sandbox.publish(tmp_path / "users.csv")
        outcomes = [outcome async for outcome in client.submit_many(create(number, url) for number in range(25))]
        assert [outcome.result.user_count for outcome in outcomes] == [2] * 25
        assert sandbox.workspace.rejections == 0
        assert 7_200 < virtual_clock.time_s() < 7_800
        assert virtual_clock.now() > datetime(2025, 12, 1, 2, tzinfo=UTC)


    async def test_a_lost_callback_is_given_up_after_six_hours(client, sandbox, virtual_clock, tmp_path):
        (tmp_path / "users.csv").write_text("u-1\\n")
        sandbox.fail_next(FaultKind.LOSE_CALLBACK)
        job = await client.submit(create(1, await sandbox.publish(tmp_path / "users.csv")))
        with pytest.raises(Exception, match="no callback within 6 h"):
            await job.result(timeout=21_600)


    async def test_time_alone(virtual_clock):
        await asyncio.sleep(1_000_000)
        assert virtual_clock.time_s() >= 1_000_000
        assert virtual_clock.epoch_us() == round(virtual_clock.epoch_s() * 1e6)


    def test_a_test_that_is_no_coroutine(virtual_clock, client):
        assert isinstance(virtual_clock, VirtualClock)
        usage = virtual_clock.run(client.governor.usage())
        assert usage["operations_per_hour"].remaining == 10


    def test_an_ordinary_test():
        assert True


    class TestInAClass:
        async def test_is_run_too(self, client):
            assert await client.list_segments() == ()


    @pytest.mark.xfail(strict=True, raises=ZeroDivisionError)
    async def test_that_fails_is_seen_to_fail(client):
        1 / 0
"""


FIXTURES: Final = """
    import asyncio

    import pytest
    import pytest_asyncio


    @FIXTURE
    async def segment(client, tmp_path):
        (tmp_path / "users.csv").write_text("u-1\\n")
        job = await client.create_file_segment(
            name="diwali", attribute_name="ID", attribute_type="string", file=tmp_path / "users.csv", expiry_time=30
        )
        await job.result(timeout=21_600)
        yield job
        await client.archive_segment(name="diwali")  # the client is open until its fixtures have ended


    @FIXTURE
    async def named(segment):
        return segment.info.segment


    @FIXTURE
    async def loop():
        return asyncio.get_running_loop()


    async def test_a_segment_is_there(segment, named, client):
        assert (segment.state, named) == ("processed", "diwali")
        assert [job.id async for job in client.jobs()] == [segment.id]


    async def test_every_fixture_runs_in_the_loop_of_its_test(loop, virtual_clock):
        assert loop is asyncio.get_running_loop()


    def test_that_is_no_coroutine(segment):
        assert segment.state == "processed"


    class TestInAClass:
        @FIXTURE
        async def mine(self, client):
            self.listed = await client.list_segments()

        async def test_has_its_own(self, mine):
            assert self.listed == ()


    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def wide():
        return asyncio.get_running_loop()


    @pytest.mark.asyncio(loop_scope="module")
    async def test_without_virtual_time(wide):
        assert wide is asyncio.get_running_loop()
"""


def inner_run(directory: Path, *options: str, suite: str = SUITE) -> subprocess.CompletedProcess[str]:
    """A pytest run as a user's, in a directory of its own."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_mine.py").write_text(textwrap.dedent(suite))
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", directory / "tmp", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.processes
@pytest.mark.parametrize(
    "options",
    [
        ("-p", "no:asyncio", "-p", "no:xdist"),
        ("-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function"),
        ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"),
    ],
    ids=["alone", "beside strict pytest-asyncio", "beside automatic pytest-asyncio"],
)
def test_a_user_s_tests_take_virtual_hours_and_real_moments(tmp_path: Path, options: tuple[str, ...]) -> None:
    """With warnings as errors, and with pytest-asyncio in any mode or not at all."""
    result = inner_run(tmp_path, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed, 1 xfailed" in result.stdout


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["strict", "auto"])
@pytest.mark.parametrize("fixture", ["pytest.fixture", "pytest_asyncio.fixture"])
def test_a_user_s_coroutine_fixtures_run_in_the_loop_of_their_test(tmp_path: Path, mode: str, fixture: str) -> None:
    """However they are made and in each mode of pytest-asyncio, which keeps those of the other tests."""
    options = ("-o", f"asyncio_mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function")
    result = inner_run(tmp_path, *options, "-p", "no:xdist", suite=FIXTURES.replace("FIXTURE", fixture))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "5 passed" in result.stdout


@pytest.mark.processes
def test_nobody_who_does_not_ask_for_the_plugin_imports_pytest() -> None:
    """The package has no use for it."""
    code = "import sys, moe_segments.testing, moe_segments.sandbox; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# The loop


async def serve(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"


@pytest.mark.parametrize("in_memory", [False, True], ids=["sockets", "memory"])
def test_thirty_operations_are_processed_in_three_virtual_hours(tmp_path: Path, *, in_memory: bool) -> None:
    """The same code over real sockets and in memory, at the documented limits."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with (
            Sandbox(clock=lambda: EPOCH_US / 1e6 + loop.time()) as sandbox,
            CallbackReceiver().serve() as receiver,
            SegmentsClient(
                sandbox.credentials,
                journal=MemoryJournal(clock=journal_clock),
                callbacks=receiver,
                base_url=sandbox.url,
                clock=loop.time,
            ) as client,
        ):
            (tmp_path / "users.csv").write_text("u-1\n")
            url = await sandbox.publish(tmp_path / "users.csv")
            operations = [
                CreateFileSegment(
                    name=f"s{n}", attribute_name="ID", attribute_type="string", file_url=url, rows=1, expiry_time=1
                )
                for n in range(30)
            ]
            errors = [outcome.error async for outcome in client.submit_many(operations)]
            assert errors == [None] * 30
            assert sandbox.workspace.rejections == 0
        return loop.time()

    assert 7_200 < run_virtually(main, in_memory=in_memory) < 3 * 3_600


def test_a_pause_that_is_rounded_to_nothing_ends() -> None:
    """Whoever asks again and again to be woken after 1e-17 s gets time to pass all the same."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1e6)
        ready_s = loop.time() + 1e-9
        while loop.time() < ready_s:
            await asyncio.sleep(1e-17)

    run_virtually(main)


def test_a_thread_that_is_busy_when_the_loop_ends_is_waited_for() -> None:
    """Python waits for its threads 300 seconds, which are no virtual ones: else a warning ends the test."""
    begun, ended, release = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        release.wait()
        ended.set()

    async def main() -> None:
        waiting = asyncio.get_running_loop().run_in_executor(None, job)
        begun.wait()
        waiting.cancel()  # nobody waits for it any more, and it goes on
        threading.Timer(0.2, release.set).start()

    run_virtually(main)
    assert ended.is_set()


# The network in memory


def test_a_large_body_goes_both_ways_and_a_slow_reader_holds_its_writer_back() -> None:
    """More than any buffer, there and back."""

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for block in request.content.iter_chunked(10_000):
            await asyncio.sleep(0.01)
            await response.write(block)
        return response

    async def main() -> None:
        runner, url = await serve(echo)
        async with aiohttp.ClientSession() as session, session.post(url, data=BIG) as response:
            await asyncio.sleep(5)
            assert await response.read() == BIG
        await runner.cleanup()

    run_virtually(main, in_memory=True)


def test_many_requests_share_a_kept_connection() -> None:
    """Keep-alive works as over a socket, and ends by the server's own deadline."""

    async def main() -> None:
        seen: list[object] = []

        async def answer(request: web.Request) -> web.Response:
            seen.append(request.transport)
            return web.Response(text="here")

        runner, url = await serve(answer)
        async with aiohttp.ClientSession() as session:
            for pause_s in (0, 1, 10_000):
                await asyncio.sleep(pause_s)
                async with session.get(url) as response:
                    assert await response.text() == "here"
        await runner.cleanup()
        assert seen[0] is seen[1]
        assert seen[1] is not seen[2]

    run_virtually(main, in_memory=True)


def test_an_aborted_connection_is_a_reset_and_a_closed_one_an_end() -> None:
    """Each is what it would be on a socket."""

    async def main() -> None:
        async def hang_up(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.abort() if request.path == "/abort" else request.transport.close()
            return web.Response()

        runner, url = await serve(hang_up)
        async with aiohttp.ClientSession() as session:
            for path, kind in (("abort", aiohttp.ClientOSError), ("close", aiohttp.ServerDisconnectedError)):
                with pytest.raises(kind):
                    await session.post(url + path)
        await runner.cleanup()

    run_virtually(main, in_memory=True)


def test_nobody_outside_the_loop_is_reached() -> None:
    """A name is not looked up and an address not called: a test cannot spend anybody's quota by mistake."""

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            for url in ("http://127.0.0.1:9/", "http://192.0.2.1/", "http://api-01.moengage.com/"):
                with pytest.raises(aiohttp.ClientConnectorError):
                    await session.get(url)
        with pytest.raises(ConnectionRefusedError, match=r"nobody in this loop listens on 127\.0\.0\.1 port 9"):
            await asyncio.open_connection("127.0.0.1", 9)

    run_virtually(main, in_memory=True)


def test_streams_and_servers_of_asyncio_work_in_memory() -> None:
    """Whatever uses the loop's own calls, by name or by address."""

    async def main() -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(shout, "localhost", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError, match="taken"):
            await asyncio.start_server(shout, "localhost", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.writelines([b"hello\n", b"there\n"])
        assert await reader.readline() == b"HELLO\n"
        writer.write_eof()
        assert await reader.read() == b"THERE\n"
        writer.close()
        await writer.wait_closed()
        assert server.is_serving()
        server.close()
        await server.wait_closed()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("localhost", port)

    run_virtually(main, in_memory=True)


def test_a_server_runs_in_its_own_context() -> None:
    """What a caller keeps in a context variable does not leak into the server it calls."""
    caller: contextvars.ContextVar[str] = contextvars.ContextVar("caller", default="nobody")

    async def main() -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(text=caller.get())

        runner, url = await serve(answer)
        caller.set("me")
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.text() == "nobody"
        await runner.cleanup()

    run_virtually(main, in_memory=True)


def test_tls_in_memory_is_refused_in_words() -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError, match="use http addresses"):
            await asyncio.open_connection("127.0.0.1", 443, ssl=True)

    run_virtually(main, in_memory=True)


def test_no_time_passes_while_a_journal_s_thread_works(tmp_path: Path) -> None:
    """Else its lock time-out, and whoever sleeps meanwhile, would be over before the disk has answered."""

    def decide(_missed: Sequence[Batch], _now_us: int) -> Sequence[Event]:
        time.sleep(0.2)
        return (OwnerGone("j", 1),)

    async def asked() -> float:
        journal = SqliteJournal(tmp_path / "quota.db", "W1")
        await journal.open()
        sleeper = asyncio.create_task(asyncio.sleep(3_600))
        given_up = asyncio.create_task(journal.transact(0, decide, batch_id="a"))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await journal.transact(0, decide, batch_id="b") is not None
        assert not sleeper.done()
        sleeper.cancel()
        passed_s = asyncio.get_running_loop().time()
        await journal.close()
        return passed_s

    assert run_virtually(asked) < 1
