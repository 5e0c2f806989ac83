"""`journal`: back up a journal, move one to another place, check one, read one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from moe_segments.bulk import EXIT_FAILED, EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.running import moment_since, run, unless_stopped
from moe_segments.cli.session import TO_READ, in_force, settings_of
from moe_segments.errors import InputError
from moe_segments.journal import tools
from moe_segments.settings import is_loopback, problem_of_quotes, state_dir_or_none

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from moe_segments.cli.options import Common
    from moe_segments.journal.tools import CheckReport, CopyReport, LogEntry

__all__ = ["backup", "check", "copy", "log", "whose_journal"]

_FROM_ENVIRONMENT: Final = "env:"
_NAME_WIDTH: Final = 15


def backup(to: str, *, replaces: bool, common: Common) -> int:
    """Write a copy of a journal to a file. Returns the exit code."""
    return run(lambda stop: _backup(to, replaces, common, stop))


def copy(source: str, target: str, *, cancels: bool, common: Common) -> int:
    """Carry a journal over, or call that off. Returns the exit code."""
    return run(lambda stop: _copy(source, target, cancels, common, stop))


def check(url: str | None, common: Common) -> int:
    """Check a journal. Returns the exit code: 1 when something is wrong with it."""
    return run(lambda stop: _check(url, common, stop))


def log(url: str | None, *, follow: bool, since: str | None, common: Common) -> int:
    """Say what a journal holds. Returns the exit code."""
    return run(lambda stop: _log(url, follow, since, common, stop))


async def _backup(to: str, replaces: bool, common: Common, _: asyncio.Event) -> int:  # noqa: FBT001 - as `--force`
    scope, url, _witness = whose_journal(common, None)
    report = await tools.backup_journal(url, to, scope, replace=replaces)
    if common.json:
        output.document(attrs.asdict(report))
    else:
        output.say(f"{report.of} is in {report.to} as of version {report.version}, {report.file_bytes:,} bytes")
    return EXIT_OK


async def _copy(source: str, target: str, cancels: bool, common: Common, _: asyncio.Event) -> int:  # noqa: FBT001 - as `--cancel`
    scope, source, witness_dir = whose_journal(common, source)
    target = _url(target, "TO")
    if cancels:
        await tools.cancel_copy(source, target, scope)
        _tell_called_off(source, common)
        return EXIT_OK
    report = await tools.copy_journal(source, target, scope, state_dir=witness_dir, tell=output.note)
    if common.json:
        output.document({"scope": scope, **attrs.asdict(report)})
    else:
        output.say(_of_copy(report, scope))
    if report.left:
        output.note(f"{report.left} batches were added to the old place meanwhile: run this again to carry them over")
    return EXIT_OK


def _tell_called_off(source: str, common: Common) -> None:
    if common.json:
        output.document({"cancelled": True, "journal": tools.place_of(source)})
    else:
        output.say(f"cancelled: the journal goes on at {tools.place_of(source)}")


def _of_copy(report: CopyReport, scope: str) -> str:
    if report.was_complete and not report.late:
        return f"the journal of {scope} is at {report.to} already, with {report.jobs} jobs"
    if report.was_complete:
        return f"{report.late} batches that were written at the old place since then are at {report.to}, too"
    return (
        f"the journal of {scope} is at {report.to} now, {report.jobs} jobs and all usage compared; the old place is "
        "closed, says so to whoever uses it and keeps the log: give the new URL to every process"
    )


async def _check(url: str | None, common: Common, _: asyncio.Event) -> int:
    scope, url, _witness = whose_journal(common, url)
    report = await tools.check(url, scope)
    if common.json:
        output.document(
            {"journal": tools.place_of(url), "scope": scope, "sound": not report.problems, **attrs.asdict(report)}
        )
    else:
        output.say(_summary(report, tools.place_of(url), scope), *(f"- {text}" for text in report.problems))
    return EXIT_FAILED if report.problems else EXIT_OK


def _summary(report: CheckReport, place: str, scope: str) -> str:
    kept = f"versions {report.first} to {report.last}" if report.batches else "nothing that can be read"
    stands = f", a checkpoint for all up to {report.checkpoint}" if report.checkpoint else ""
    went = f"; it has moved to {report.moved_to}" if report.moved_to else ""
    came = f"; a copy from {report.copied_from} is not complete" if report.copied_from else ""
    verdict = f"{len(report.problems)} problems" if report.problems else "sound"
    return f"{verdict}: {scope} at {place}, {kept}{stands}, {report.jobs} jobs{went}{came}"


async def _log(url: str | None, follow: bool, since: str | None, common: Common, stop: asyncio.Event) -> int:  # noqa: FBT001 - as `--follow`
    scope, url, _witness = whose_journal(common, url)
    moment = moment_since(since)

    async def show() -> None:
        async for entry in tools.read_log(url, scope, since=moment, follow=follow):
            if not _show(entry, common):
                return

    await unless_stopped(show(), stop)
    return EXIT_OK


def _show(entry: LogEntry, common: Common) -> bool:
    """Show an entry. Returns whether somebody still reads."""
    if common.json:
        data = attrs.asdict(entry, recurse=False)
        del data["text"], data["fields"]
        return output.line({**data, **entry.fields})
    moment = f"{entry.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
    return output.say(f"{moment} UTC  {entry.version:>6}  {entry.event:{_NAME_WIDTH}} {entry.text}".rstrip())


def _url(text: str, parameter: str) -> str:
    """Return a URL as given, or from a variable: everybody on the machine sees the command line.

    Raises:
        InputError: The variable is not set.
    """
    if not text.startswith(_FROM_ENVIRONMENT):
        return text
    name = text.removeprefix(_FROM_ENVIRONMENT)
    url = os.environ.get(name, "").strip()
    if not url:
        raise InputError(f"the variable {name} is not set", parameter)
    if problem := problem_of_quotes(url):
        raise InputError(problem, name)
    return url


def whose_journal(common: Common, url: str | None) -> tuple[str, str, Path | None]:
    """Return whose log: the scope, the journal's URL, and where this host's witness is, if there is one.

    Raises:
        InputError: Settings are missing or wrong, or the journal of a sandbox was not named.
    """
    named = common.journal if url is None else _url(url, "URL")
    if common.sandbox:
        from moe_segments.sandbox import DEMO_CREDENTIALS  # a server of its own, which few commands need

        if named is None:
            raise InputError("name the journal that the sandbox was run on", "URL")
        return DEMO_CREDENTIALS.scope, named, None
    found = in_force(settings_of(common, required=TO_READ))
    is_local = is_loopback(urlsplit(found.settings.base_url).hostname)
    return found.credentials.scope, named or found.settings.journal, None if is_local else state_dir_or_none()
