"""One thread that runs one call after another, and the right to begin a call or to give it up."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Turn", "WorkerThread"]

P = ParamSpec("P")
T = TypeVar("T")

_Call: TypeAlias = "Callable[[], None]"


class WorkerThread(Executor):
    """An executor of one daemon thread, for `loop.run_in_executor`.

    Unlike `ThreadPoolExecutor` it never keeps the interpreter from ending: a call that waits for another
    process' lock is not worth waiting for, and a transaction that is cut off was not acknowledged.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        # The thread holds the queue and not this object, so one that is forgotten still ends its thread.
        self._end = weakref.finalize(self, self._calls.put, None)
        self._end.atexit = False
        threading.Thread(target=_work, args=(self._calls,), name=name, daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run *fn* after everything that was submitted before.

        Raises:
            RuntimeError: It was shut down.
        """
        if not self._end.alive:
            raise RuntimeError("the worker thread was shut down")
        future: Future[T] = Future()
        self._calls.put(partial(_run, future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - inherited
        """End the thread after what is queued. Waits for nothing and calls nothing off, whatever is asked."""
        self._end()


def _work(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # an idle thread holds on to nothing


def _run(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)


class Turn:
    """One call's right to happen. Either the worker takes it and works, or the caller takes it and gives up.

    Args:
        timeout_s: How long the caller waits for it to begin, seconds.

    Attributes:
        until_s: The moment the caller gives up, on `time.monotonic`, seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self.until_s: float = time.monotonic() + timeout_s
        self._token = threading.Lock()

    def take(self) -> bool:
        """Return whether the call is the asker's now; true for the first one only, from whichever thread."""
        return self._token.acquire(blocking=False)
