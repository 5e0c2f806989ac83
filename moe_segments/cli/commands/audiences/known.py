"""`audiences`: what is known of segments that were synced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.bulk import EXIT_OK
from moe_segments.cli import output
from moe_segments.cli.running import run
from moe_segments.cli.session import open_session
from moe_segments.cli.table import Column, Table, terminal_width

if TYPE_CHECKING:
    import asyncio

    from moe_segments.cli.options import Common

__all__ = ["forget_audience", "share", "show_audiences"]


def show_audiences(common: Common) -> int:
    """List what is known of segments that were synced. Returns the exit code."""

    async def command(_: asyncio.Event) -> int:
        async with open_session(common, remembers=True) as session:
            known = await session.client.audiences()
        if common.json:
            output.document({"audiences": [one.to_json() for one in known]})
            return EXIT_OK
        columns = (
            Column(name="segment", least=12),
            Column(name="members", is_number=True),
            Column(name="known"),
            Column(name="last sync"),
            Column(name="status"),
            Column(name="match rate", is_number=True),
            Column(name="next full replace"),
        )
        table = Table(columns, left_out=("status", "known"), room=terminal_width())
        for one in known:
            table.add(
                (
                    one.name,
                    output.figure(one.size),
                    "yes" if one.is_known else "no",
                    output.local_time(one.last.at if one.last else None),
                    str(one.last.facts["status"]) if one.last else "",
                    share(one.match_rate),
                    "gone" if one.refusal else output.local_time(one.next_full_at) if one.is_known else "next sync",
                )
            )
        table.end()
        for one in known:
            if one.refusal is not None:
                output.note(f"{one.name}: {one.refusal}", folds=True)
        return EXIT_OK

    return run(command)


def forget_audience(name: str, common: Common) -> int:
    """Forget the members of a segment. Returns the exit code."""

    async def command(_: asyncio.Event) -> int:
        async with open_session(common, remembers=True) as session:
            was_known = await session.client.forget_audience(name)
        if was_known:
            output.note(f"{name}: its members are unknown now, its snapshots and the changes that waited are deleted")
        else:
            output.note(f"{name}: nothing is stored of a segment of this name; was another name or journal meant?")
        return EXIT_OK

    return run(command, options={"name": "NAME"})


def share(part: float | None) -> str:
    """Return a share in percent, for tables."""
    return "" if part is None else f"{part:.1%}"
