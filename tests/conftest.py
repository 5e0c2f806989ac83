"""Shared by all tests: virtual time, patience with slow machines, and nothing skipped in CI for want of a tool."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

from moe_segments.testing import run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# How long an example takes says how busy the machine is. The rest is as it was: in CI the same examples each time.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For mutants, where it matters only that a test fails: the same examples each time, and none of them made smaller.
settings.register_profile(
    "unshrunk",
    settings.get_profile("patient"),
    phases=(Phase.explicit, Phase.generate, Phase.target),
    derandomize=True,
    database=None,
)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a test, or an example of the docs, does to the logger of the package."""
    logger = logging.getLogger("moe_segments")
    level, handlers, propagates = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.setLevel(level)
    logger.handlers[:], logger.propagate = handlers, propagates


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test marked `virtual_time` in a loop whose clock jumps."""
    if pyfuncitem.get_closest_marker("virtual_time") is None:
        return None
    function: Callable[..., object] = pyfuncitem.obj
    assert inspect.iscoroutinefunction(function)
    wanted = inspect.signature(function).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    run_virtually(functools.partial(function, **arguments))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that is skipped because something "needs" installing has failed: the gate installs it."""
    report = yield
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if os.environ.get("CI") and "needs " in reason:
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module."""
    report = yield
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if os.environ.get("CI") and "needs " in reason:
        report.outcome = "failed"
    return report
