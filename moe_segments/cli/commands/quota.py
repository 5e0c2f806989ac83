"""`quota`: usage of each limit and its next release. Also the line of figures under other results."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
from rich.console import Console
from rich.live import Live
from rich.text import Text

from moe_segments.bulk import EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.commands.audiences.lag import drawn_lag, plain_lag
from moe_segments.cli.running import Stopped, run, unless_stopped
from moe_segments.cli.session import TO_READ, open_session
from moe_segments.cli.table import Column, Table, terminal_width
from moe_segments.cli.terminal import unguarded
from moe_segments.errors import InputError, JournalUnavailable, OutboxError
from moe_segments.limits import ACTIVE_SEGMENTS, CALL_LIMITS, CREATE_FILTER_CALLS, GET_CALLS, LIST_CALLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from moe_segments import Governor, LimitUsage, SegmentsClient
    from moe_segments.cli.options import Common, Telling

T = TypeVar("T")

__all__ = ["quota_line", "show_quota", "wait_s", "waiting_sentence", "what_it_waits_for"]

_TOLD_BY: Final = {
    "operations": "--spent-operations",
    "rows": "--spent-rows",
    "n": "--active",
    "users": "--users",
    "prometheus": "--prometheus",
}
_BAR_CELLS: Final = 24
_EVERY_S: Final = 1.0
_LEFT_OUT: Final = ("by others", "in flight", "UTC", "", "next release")
_WORDS: Final[Mapping[str, str]] = {
    "operations_per_hour": "operations in the hour",
    "operations_per_day": "operations in the day",
    "users_per_day": "users in the day",
    "active_segments": "active segments",
    **{
        f"{call}_per_{unit}": f"{words} in the {unit}"
        for call, words in (
            (LIST_CALLS, "lists"),
            (CREATE_FILTER_CALLS, "filter creates"),
            (GET_CALLS, "gets"),
        )
        for unit in ("minute", "hour", "day")
    },
}
_CALLS: Final = {name: call for call, names in CALL_LIMITS.items() for name in names}


def show_quota(*, watch: bool, prometheus: Path | None, telling: Telling, common: Common) -> int:
    """Tell the journal what is to be told, then show the quotas, once or until stopped. Returns the exit code."""
    return run(lambda stop: _show_quota(common, stop, telling, watch=watch, prometheus=prometheus), options=_TOLD_BY)


def quota_line(usage: Mapping[str, LimitUsage]) -> str:
    """Return all quotas in one line; those of lists, gets and filter creates only where they are used."""
    shown = [one for one in usage.values() if one.used or one.limit not in _CALLS]
    return "quotas: " + ", ".join(f"{one.used:,} of {one.capacity:,} {_words(one.limit)}" for one in shown)


def what_it_waits_for(usage: Mapping[str, LimitUsage], *, is_call: bool = False) -> LimitUsage | None:
    """Return the full limit that frees last, if any is full: of file operations, or of lists and filter creates."""
    asked = {LIST_CALLS, CREATE_FILTER_CALLS} if is_call else set()
    names = {
        name for name in usage if (_CALLS[name] in asked if name in _CALLS else not is_call or name == ACTIVE_SEGMENTS)
    }
    full = [one for one in usage.values() if one.limit in names and one.remaining <= 0 and _free_at(one) > 0]
    return max(full, key=_free_at, default=None)


def waiting_sentence(full: LimitUsage) -> str:
    """Return which limit is full and when the next slot comes."""
    return f"{full.limit} is full ({full.used:,} of {full.capacity:,}); next slot in {output.span(wait_s(full))}"


def wait_s(full: LimitUsage) -> float:
    """Seconds until a full limit has room again, at the earliest."""
    return max(0.0, _free_at(full) - time.time())


async def _show_quota(
    common: Common, stop: asyncio.Event, telling: Telling, *, watch: bool, prometheus: Path | None
) -> int:
    _check(telling, prometheus, watch=watch)
    async with open_session(common, required=TO_READ) as session:
        await _tell(session.client.governor, telling)
        if prometheus is not None:
            await _write(prometheus, session.client)
        elif watch:
            with contextlib.suppress(Stopped):
                await unless_stopped(_watch(session.client, common), stop)
        else:
            await _show_once(session.client, common)
            if (reason := await session.client.governor.quarantine()) is not None:
                output.note(
                    f"in quarantine: {reason}; limits are taken to be full until then; --trust ends that, and "
                    "--spent-operations and --spent-rows say what was spent in the last day"
                )
    return EXIT_OK


async def _write(path: Path, client: SegmentsClient) -> None:
    from moe_segments.telemetry.prometheus import write_textfile  # of an extra

    try:
        await write_textfile(path, client)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or type(error).__name__}", "prometheus") from None


def _check(telling: Telling, prometheus: Path | None, *, watch: bool) -> None:
    """Check the options before a journal is made, and before anything is told to it."""
    if prometheus is not None:
        from moe_segments.telemetry.prometheus import check_textfile  # of an extra

        check_textfile(prometheus)
        if watch:
            raise InputError("is written once: leave out --watch, and have it written now and then", "prometheus")
    told = {"operations": telling.spent_operations, "rows": telling.spent_rows, "n": telling.active or 0}
    for name, amount in told.items():
        if amount < 0:
            raise InputError(f"must be a whole number from 0, not {amount}", name)


async def _tell(governor: Governor, telling: Telling) -> None:
    operations, rows = telling.spent_operations, telling.spent_rows
    if telling.trust:
        await governor.lift_quarantine(operations=operations, rows=rows)
    elif operations or rows:
        await governor.record_external(operations=operations, rows=rows)
    if telling.active is not None:
        await governor.observe_active_segments(telling.active)


async def _show_once(client: SegmentsClient, common: Common) -> bool:
    if common.json:
        output.document(await _document(client))
        return True
    return output.write(await _whole(client))


async def _document(client: SegmentsClient) -> dict[str, object]:
    return {"limits": _plain(await client.governor.usage()), "memberships": plain_lag(await client.memberships())}


async def _whole(client: SegmentsClient) -> str:
    """Return the quotas, and below them the segments whose membership changes wait, or why that is not known."""
    drawn = _drawn(await client.governor.usage())
    try:
        return drawn + drawn_lag(await client.memberships())
    except OutboxError as error:
        return f"{drawn}\nmembership changes: {error}\n"


async def _watch(client: SegmentsClient, common: Common) -> None:
    if common.json:
        async for document in _again(lambda: _document(client)):
            if not output.line(document):
                return
    elif not output.redraws(sys.stdout):
        async for text in _again(lambda: _whole(client)):
            if not output.write(text):
                return
    console = Console(file=unguarded(sys.stdout), highlight=False)
    with output.drawn(Live(console=console, auto_refresh=False, redirect_stdout=False)) as live:
        async for text in _again(lambda: _whole(client)):
            live.update(Text.from_ansi(text, no_wrap=True), refresh=True)


async def _again(read: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
    """Yield what is read, once a second. A journal that is away is said once, and read again when it is back."""
    is_away = False
    while True:
        try:
            yield await read()
            is_away = False
        except JournalUnavailable as error:
            if not is_away:
                output.note(f"the journal is away, and is read again when it is back: {error}")
            is_away = True
        await asyncio.sleep(_EVERY_S)


def _drawn(usage: Mapping[str, LimitUsage]) -> str:
    """Return the quotas as a table, each line ended."""
    lines = StringIO()
    columns = (
        Column(name="quota", least=22),
        Column(name="", least=8, most=_BAR_CELLS),
        *(Column(name=name, is_number=True) for name in ("used", "of", "in flight", "by others")),
        Column(name="next release"),
        *(() if output.is_utc() else (Column(name="UTC"),)),
    )
    table = Table(columns, left_out=_LEFT_OUT, room=terminal_width(), print_line=lambda line: lines.write(line) > 0)
    for one in usage.values():
        figures = (output.figure(number) for number in (one.used, one.capacity, one.pending, one.external))
        utc = () if output.is_utc() else (output.utc_time(one.closed_until or one.next_release),)
        table.add((_words(one.limit), partial(_bar, one), *figures, _release(one), *utc))
    table.end()
    return lines.getvalue()


def _bar(one: LimitUsage, width: int) -> str:
    filled = width if one.closed_until else min(width, -(-one.used * width // max(1, one.capacity)))
    full, empty = "█░" if output.speaks_unicode() else "#."
    return full * filled + empty * (width - filled)


def _release(one: LimitUsage) -> str:
    if one.closed_until is not None:
        return f"full until {output.local_time(one.closed_until)}"
    return output.local_time(one.next_release)


def _free_at(one: LimitUsage) -> float:
    moments = [moment.timestamp() for moment in (one.next_release, one.closed_until) if moment is not None]
    return max(moments, default=0.0)


def _words(limit: str) -> str:
    return _WORDS.get(limit, limit)


def _plain(usage: Mapping[str, LimitUsage]) -> dict[str, object]:
    return {name: attrs.asdict(one) for name, one in usage.items()}
