"""`sync` and `audiences`: segments brought to the members they should have, and what is known of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from moe_segments import read_audiences
from moe_segments.bulk import EXIT_FAILED, EXIT_INPUT, EXIT_OK, EXIT_QUOTA, EXIT_UNKNOWN, exit_code_of
from moe_segments.cli import output
from moe_segments.cli.running import run, unless_stopped
from moe_segments.cli.session import open_session
from moe_segments.errors import InputError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from moe_segments import Audience, AudienceReport, SyncPlan, SyncReport
    from moe_segments.cli.options import Common, Receiving, Sending

__all__ = ["forget_audience", "show_audiences", "sync_audiences"]

_FIGURES: Final = ("added", "removed", "unchanged", "users", "matched")
_STOPPING: Final = "stopping: what was sent goes on and its callbacks count; the same command goes on from there"


def sync_audiences(
    path: Path, only: Sequence[str], *, dry_run: bool, sending: Sending, receiving: Receiving, common: Common
) -> int:
    """Sync the audiences of a file. Returns the exit code."""

    async def command(stop: asyncio.Event) -> int:
        audiences = _only(read_audiences(path), only)
        async with open_session(common, receiving, sending) as session:
            if dry_run:
                _show_plan(await unless_stopped(session.client.plan_sync(audiences), stop), common)
                return EXIT_OK
            output.note(f"{len(audiences)} audiences of {path.name}")
            report = await unless_stopped(session.client.sync(audiences), stop)
        _show_report(report, common)
        return max((_code_of(one) for one in report.audiences), default=EXIT_OK)

    return run(command, stopping=_STOPPING)


def show_audiences(common: Common) -> int:
    """List what is known of segments that were synced. Returns the exit code."""

    async def command(_: asyncio.Event) -> int:
        async with open_session(common) as session:
            known = await session.client.audiences()
        if common.json:
            output.document({"audiences": [one.to_json() for one in known]})
            return EXIT_OK
        columns = ("segment", "members", "known", "last sync (UTC)", "status", "match rate", "all sent (UTC)")
        rows = [
            (
                Text(output.clean(one.name)),
                output.figure(one.size),
                "yes" if one.is_known else "no: replaced next",
                f"{one.last.at:%m-%d %H:%M}" if one.last else "",
                str(one.last.facts["status"]) if one.last else "",
                _share(one.last.match_rate if one.last else None),
                f"{one.full_at:%m-%d %H:%M}" if one.full_at else "",
            )
            for one in known
        ]
        output.show(output.table(columns, rows, numbers=("members",)))
        return EXIT_OK

    return run(command)


def forget_audience(name: str, common: Common) -> int:
    """Forget the members of a segment. Returns the exit code."""

    async def command(_: asyncio.Event) -> int:
        async with open_session(common) as session:
            if name not in [one.name for one in await session.client.audiences()]:
                raise InputError(f"no audience {name!r} was synced on this journal", "name")
            await session.client.forget_audience(name)
        output.note(f"{name}: its members are unknown now and its snapshots on this host are deleted")
        return EXIT_OK

    return run(command)


def _only(audiences: list[Audience], only: Sequence[str]) -> list[Audience]:
    names = [audience.name for audience in audiences]
    if unknown := sorted(set(only) - set(names)):
        raise InputError(f"the file has no audience {unknown[0]!r}; it has {', '.join(names)}", "--only")
    return [audience for audience in audiences if not only or audience.name in only]


def _code_of(report: AudienceReport) -> int:
    if report.ok:
        return EXIT_OK
    if report.error is not None:
        return exit_code_of(report.error)
    return {"refused": EXIT_INPUT, "busy": EXIT_QUOTA, "unknown": EXIT_UNKNOWN}.get(report.status, EXIT_FAILED)


def _show_report(report: SyncReport, common: Common) -> None:
    if common.json:
        output.document(report.to_json())
        return
    columns = ("segment", "status", "sent", *_FIGURES, "match rate", "before", "problem")
    output.show(output.table(columns, map(_cells, report.audiences), numbers=_FIGURES))


def _cells(one: AudienceReport) -> list[Text | str]:
    problem = "; ".join([*([str(one.error)] if one.error else []), *one.warnings])
    return [
        Text(output.clean(one.name)),
        one.status,
        " + ".join(one.operations) or "nothing",
        *(output.figure(number) for number in (one.added, one.removed, one.unchanged, one.users, one.matched)),
        _share(one.match_rate),
        _share(one.last_match_rate),
        Text(output.clean(problem)),
    ]


def _show_plan(plan: SyncPlan, common: Common) -> None:
    if common.json:
        output.document(plan.to_json())
        return
    columns = ("segment", "to be sent", "added", "removed", "unchanged", "users", "problem")
    rows: list[list[Text | str]] = [
        [
            Text(output.clean(one.name)),
            " + ".join(one.operations) or "nothing",
            *(output.figure(number) for number in (one.added, one.removed, one.unchanged, one.users)),
            Text(output.clean(str(one.error or ""))),
        ]
        for one in plan.audiences
    ]
    output.show(output.table(columns, rows, numbers=("added", "removed", "unchanged", "users")))
    if plan.plan.all_sent_by is not None:
        output.note(f"all sent by {output.clock_time(plan.plan.all_sent_by)}")


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
