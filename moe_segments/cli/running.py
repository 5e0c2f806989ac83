"""Run one command: its event loop, its signals, its exit code. One place where errors become sentences.

The first Ctrl-C or SIGTERM asks the command to stop in good order, the second ends the process at once; the journal
stands either way. A terminal that closes (SIGHUP) is a first one, however often it says so; under nohup it is none.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from moe_segments.bulk import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, exit_code_of
from moe_segments.cli.output import is_lost, note
from moe_segments.errors import (
    AuthenticationFailed,
    InputError,
    JournalAmbiguous,
    JournalUnavailable,
    MoeSegmentsError,
    PreflightError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

__all__ = ["Stopped", "check_seconds", "moment_since", "run", "tell", "unless_stopped"]

T = TypeVar("T")
_OPTIONS: Final = {  # by the names that the library has for the same
    **{
        name: f"--{name.replace('_', '-')}"
        for name in (
            *("attribute_name", "attribute_type", "expiry_time", "file", "file_url", "rows", "updated_by"),
            *("concurrency", "host", "port", "users"),
        )
    },
    "emails": "--email",
    "since": "--since",
}
_AGO: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_HANGUP: Final = getattr(signal, "SIGHUP", None)  # no other system than Unix has it


class Stopped(Exception):
    """The user stopped the command before it had ended."""


def run(
    command: Callable[[asyncio.Event], Coroutine[object, object, int]],
    *,
    stopping: str | None = None,
    options: Mapping[str, str] = _OPTIONS,
) -> int:
    """Run a command to its end.

    Args:
        command: Takes the event that is set when the user wants it to stop; returns its exit code.
        stopping: What to say when the user does.
        options: What the command calls the library's parameters.

    Returns:
        The exit code. Errors of this package are told on standard error; any other is the caller's to see.
    """
    try:
        code = asyncio.run(_with_signals(command, stopping))
        return EXIT_FAILED if code == EXIT_OK and is_lost() else code
    except Stopped:
        return EXIT_INTERRUPTED
    except MoeSegmentsError as error:
        return tell(error, options)


def tell(error: MoeSegmentsError, options: Mapping[str, str] = _OPTIONS) -> int:
    """Tell an error on standard error. Returns the exit code."""
    said = error
    if type(error) is InputError and error.field is not None:
        said = InputError(error.problem, options.get(error.field, error.field))
    note(f"moe-segments: {said}{_hint(error)}")
    return exit_code_of(error)


def check_seconds(value: float | None, option: str) -> None:
    """Refuse what is no time to wait, before anything is done.

    Raises:
        InputError: The value is no number of seconds from 0.
    """
    if value is not None and not value >= 0:
        raise InputError(f"must be seconds from 0, or inf, not {value!r}", option)


def _hint(error: MoeSegmentsError) -> str:
    """Return what a user of the command line can do, where the error's own sentence cannot know it."""
    if isinstance(error, AuthenticationFailed):
        return "; check MOE_WORKSPACE_ID, MOE_API_KEY and MOE_DATA_CENTER"
    if isinstance(error, JournalUnavailable | JournalAmbiguous):
        return "; run the same command again later"
    if isinstance(error, PreflightError) and error.report is not None:
        command = None if "://" in error.source else error.report.fix_command(error.source)
        return f"; mend it: {command}" if command else "; 'moe-segments preflight FILE' shows every line"
    return ""


def moment_since(text: str | None) -> datetime | None:
    """Return the moment from which on something is listed; None for all of it.

    Args:
        text: A moment, in UTC where it names no zone, or a span until now, such as 90m, 12h or 2d.

    Raises:
        InputError: It is neither a moment nor a span.
    """
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        try:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except (OverflowError, ValueError):  # longer than there are dates, or than a number may be
            return None
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise InputError(
                f"must be a moment, such as 2026-11-24T06:00, or a span until now, such as 90m or 2d, not {text!r}",
                "since",
            ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


async def unless_stopped(work: Awaitable[T], stop: asyncio.Event) -> T:
    """Return the result of *work*, unless *stop* is set before: then it is cancelled.

    Raises:
        Stopped: It was set.
    """
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Stopped
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _with_signals(
    command: Callable[[asyncio.Event], Coroutine[object, object, int]], stopping: str | None
) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            if number == _HANGUP:  # of a terminal that closes, the shell and the system each send one
                return
            os._exit(EXIT_INTERRUPTED)
        stop.set()
        if stopping is not None:
            note(stopping)

    signals = [signal.SIGINT, signal.SIGTERM]
    if _HANGUP is not None and signal.getsignal(_HANGUP) != signal.SIG_IGN:
        signals.append(_HANGUP)
    for number in signals:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await command(stop)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
