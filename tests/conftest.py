"""Shared by all tests: virtual time, and how a missing server is treated."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING

import pytest

from moe_segments.testing import run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable


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
