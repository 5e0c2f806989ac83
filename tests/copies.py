"""Copies of the tree, in which tests are run against changed code: for `tests.mutants` and `tests.random_mutants`.

Each run is a process of its own, forked from one that has loaded what is not of this package: pytest, its plugins and
the libraries. That takes longer than most of the tests.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

__all__ = ["FAILED", "NOT_THE_COPY", "TREE", "Copies", "Copy"]

TREE: Final = Path(__file__).resolve().parent.parent
FAILED: Final = 1
NOT_THE_COPY: Final = 99
_PRELOADED: Final = (
    *("pytest", "pytest_asyncio.plugin", "xdist.plugin", "anyio.pytest_plugin", "pytest_timeout"),
    *("hypothesis.stateful", "hypothesis.extra._patching", "aiohttp.web", "cattrs", "sqlite3", "psycopg"),
    "redis.asyncio",
)
_OPTIONS: Final = (
    *("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--color", "no"),
    *("-p", "no:schemathesis"),  # no test that is named here needs it, and it takes the longest to load
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # what is preloaded is not rewritten
    *("--hypothesis-profile", "unshrunk"),
)

P = ParamSpec("P")
T = TypeVar("T")


class Copy:
    """A copy of the tree.

    Attributes:
        tree: Its root.
    """

    def __init__(self, directory: Path) -> None:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(_PRELOADED))
        self.tree, self._said, self._temporary = directory / "tree", directory / "said", directory / "tmp"
        shutil.copytree(TREE, self.tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "dist"))

    def compile(self, tests: tuple[str, ...]) -> None:
        """Compile the package and these tests, once for all runs: each file as it is without a change."""
        self._start((*_OPTIONS, "--collect-only", *tests), compiles=True).join()

    @contextmanager
    def changed(self, file: str, text: str) -> Iterator[None]:
        """Let *text* stand in a file, given from the tree's root."""
        path = self.tree / file
        original = path.with_suffix(".original")
        shutil.copy2(path, original)
        path.write_text(text, encoding="utf-8")
        try:
            yield
        finally:
            original.replace(path)

    def run(
        self,
        tests: tuple[str, ...],
        *,
        longest_s: float,
        each_s: float,
        cpu_s: int = resource.RLIM_INFINITY,
        memory: int = resource.RLIM_INFINITY,
    ) -> int:
        """Run tests of this copy against it, up to the first that fails.

        Args:
            tests: As pytest takes them.
            longest_s: How long all may take, seconds.
            each_s: How long each may take, seconds.
            cpu_s: How long the processor may work for them, which a busy machine does not lengthen.
            memory: How many bytes they may take.

        Returns:
            The exit status of pytest; `FAILED` when they do not end, `NOT_THE_COPY` when they tried something else.
        """
        process = self._start((*_OPTIONS, "--timeout", str(each_s), *tests), cpu_s, memory)
        process.join(longest_s)
        status = process.exitcode
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)  # and whoever it has left behind
        process.join()
        shutil.rmtree(self._temporary, ignore_errors=True)
        if status is None or status < 0:
            with self._said.open("a") as file:
                file.write("\nFAILED by never ending")
            return FAILED
        return status

    def _start(
        self,
        arguments: tuple[str, ...],
        cpu_s: int = resource.RLIM_INFINITY,
        memory: int = resource.RLIM_INFINITY,
        *,
        compiles: bool = False,
    ) -> BaseProcess:
        # A directory of its own: all that run at once would tidy pytest's usual one, and stumble over each other.
        arguments = ("--basetemp", str(self._temporary), *arguments)
        process = multiprocessing.get_context("forkserver").Process(
            target=_run,
            args=(str(self.tree), arguments, str(self._said), cpu_s, memory),
            kwargs={"compiles": compiles},
        )
        process.start()
        return process

    @property
    def said(self) -> str:
        """What the last run said."""
        return self._said.read_text(errors="replace")


class Copies:
    """Copies that are used side by side, each for one thing at a time."""

    def __init__(self, directory: Path, count: int, tests: tuple[str, ...]) -> None:
        self._free: SimpleQueue[Copy] = SimpleQueue()
        for number in range(count):
            copy = Copy(directory / str(number))
            copy.compile(tests)
            self._free.put(copy)

    def lend(self, use: Callable[Concatenate[Copy, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call *use* with a copy, once one is free."""
        copy = self._free.get()
        try:
            return use(copy, *args, **kwargs)
        finally:
            self._free.put(copy)


def _run(tree: str, arguments: tuple[str, ...], said: str, cpu_s: int, memory: int, *, compiles: bool) -> None:
    """In a process of its own: run pytest in a copy, and end with its status."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with Path(said).open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "moe_segments")]:
        del sys.modules[name]
    for name in ("MOE_PROOF", "PYTEST_ADDOPTS"):
        os.environ.pop(name, None)
    os.environ["PYTHONPATH"], os.environ["PYTHONDONTWRITEBYTECODE"] = tree, "1"
    os.chdir(tree)
    sys.path.insert(0, tree)
    sys.dont_write_bytecode = not compiles
    import pytest

    status = int(pytest.main([*arguments]))
    import moe_segments

    ours = (moe_segments.__file__ or "").startswith(tree)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if ours else NOT_THE_COPY)
