"""pytest fixtures for tests of your own application, in virtual hours.

Switch them on in a `conftest.py`:

    pytest_plugins = ["moe_segments.testing.plugin"]

A coroutine test that takes `client`, `sandbox` or `virtual_clock` runs in a loop whose clock jumps; it needs no marker,
and pytest-asyncio may be there or not. All of them share that loop, and nothing leaves it: connections stay in memory.

    async def test_the_eleventh_segment_waits_for_its_hour(client, virtual_clock):
        await my_app.create_segments(client, 11)
        assert virtual_clock.time_s() > 3_600

Coroutine fixtures of such a test run in that loop too, whether `pytest.fixture` or `pytest_asyncio.fixture` made them,
in every mode of pytest-asyncio. Only fixtures of a wider scope than the test's do not.

    @pytest.fixture
    async def segment(client, tmp_path):
        job = await client.create_file_segment(...)
        await job.result(timeout=3_600)
        yield job
        await client.archive_segment(name="diwali")

The fixtures `sandbox_options` and `client_options` are there to be overridden: parameters of `Sandbox` and of
`SegmentsClient`.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from moe_segments.callbacks.receiver import CallbackReceiver
from moe_segments.client.client import SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing.virtual_time import EPOCH_US, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

__all__ = ["VirtualClock", "client", "client_options", "sandbox", "sandbox_options", "virtual_clock"]

T = TypeVar("T")
_SECOND_US = 1_000_000


class VirtualClock:
    """The time of one test, which begins at 2025-12-01T00:00Z and jumps to the next thing that happens.

    Wait with `asyncio.sleep`. Where your own code reads a clock, let it take one of these.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner, self._loop = runner, runner.get_loop()

    def time_s(self) -> float:
        """Seconds since the test began."""
        return self._loop.time()

    def epoch_s(self) -> float:
        """Return the virtual time like `time.time`, epoch seconds."""
        return EPOCH_US / _SECOND_US + self._loop.time()

    def epoch_us(self) -> int:
        """Return the clock for a journal of your own: `SqliteJournal(path, scope, clock=virtual_clock.epoch_us)`."""
        return EPOCH_US + round(self._loop.time() * _SECOND_US)

    def now(self) -> datetime:
        """Return the virtual time like `datetime.now(UTC)`."""
        return datetime.fromtimestamp(self.epoch_s(), UTC)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end from a fixture that is no coroutine."""
        return self._runner.run(coroutine)

    def enter(self, stack: ExitStack, context: AbstractAsyncContextManager[T]) -> T:
        """Enter an asynchronous context in this loop; *stack* leaves it there, too."""
        entered = self.run(context.__aenter__())
        stack.callback(lambda: self.run(context.__aexit__(None, None, None)))
        return entered


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Yield the test's time; the test itself runs in its loop."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(in_memory=True)) as runner:
        yield VirtualClock(runner)


@pytest.fixture
def sandbox_options() -> Mapping[str, Any]:
    """Parameters of the sandbox, to be overridden: `latency_s`, `faults`, `users`, `limits`, and so on."""
    return {}


@pytest.fixture
def sandbox(virtual_clock: VirtualClock, sandbox_options: Mapping[str, Any]) -> Iterator[Sandbox]:
    """Yield the stand-in for the service, at the documented limits, in virtual time."""
    with ExitStack() as stack:
        yield virtual_clock.enter(stack, Sandbox(**{"clock": virtual_clock.epoch_s, **sandbox_options}))


@pytest.fixture
def client_options() -> Mapping[str, Any]:
    """Parameters of the client, to be overridden."""
    return {}


@pytest.fixture
def client(
    virtual_clock: VirtualClock, sandbox: Sandbox, client_options: Mapping[str, Any]
) -> Iterator[SegmentsClient]:
    """Yield a client of the sandbox with a receiver and a journal of its own, open."""
    options: dict[str, Any] = {
        "credentials": sandbox.credentials,
        "journal": MemoryJournal(clock=virtual_clock.epoch_us),
        "limits": sandbox.limits,
        "base_url": sandbox.url,
        "publish": sandbox.publish,
        "clock": virtual_clock.time_s,
        **client_options,
    }
    with ExitStack() as stack:
        if "callbacks" not in options:
            # Long deadlines: looking at them is what virtual hours would be spent on.
            receiver = CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600)
            options["callbacks"] = virtual_clock.enter(stack, receiver)
        yield virtual_clock.enter(stack, SegmentsClient(options.pop("credentials"), **options))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Run a coroutine fixture of a test that takes `virtual_clock` in that clock's loop, where the test runs.

    As the outermost wrapper it acts before pytest-asyncio, which would run the fixture in a loop of its own.
    """
    function = fixturedef.func
    is_coroutine = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if not is_coroutine or fixturedef.scope != "function" or "virtual_clock" not in request.fixturenames:
        return (yield)
    clock: VirtualClock = request.getfixturevalue("virtual_clock")
    if inspect.ismethod(function) and isinstance(request.instance, type(function.__self__)):
        function = function.__func__.__get__(request.instance)  # each test has an instance of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixturedef, "func", _in_its_loop(function, clock))
        return (yield)


def _in_its_loop(function: Callable[..., Any], clock: VirtualClock) -> Callable[..., Any]:
    def result(**arguments: object) -> object:
        return clock.run(function(**arguments))

    def results(**arguments: object) -> Iterator[object]:
        with ExitStack() as stack:
            yield clock.enter(stack, asynccontextmanager(function)(**arguments))

    return results if inspect.isasyncgenfunction(function) else result


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test that takes one of these fixtures in their loop."""
    clock = pyfuncitem.funcargs.get("virtual_clock")
    # Where pytest-asyncio runs every coroutine it has wrapped this one, and left the original at hand.
    function: Callable[..., Any] = getattr(pyfuncitem.obj, "__wrapped__", pyfuncitem.obj)
    if not isinstance(clock, VirtualClock) or not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}
    clock.run(function(**arguments))
    return True
