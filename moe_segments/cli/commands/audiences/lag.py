"""Draw how far segments are behind their membership changes: a table below the quotas."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.cli import output
from moe_segments.cli.table import Column, Table, terminal_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments import MembershipStatus

__all__ = ["drawn_lag", "plain_lag"]

_LEFT_OUT: Final = ("to remove", "to add", "at most")


def drawn_lag(statuses: Sequence[MembershipStatus]) -> str:
    """Return the segments that are behind as a table after an empty line, and why nothing is sent; else nothing."""
    behind = [one for one in statuses if one.pending]
    if not behind:
        return ""
    lines = StringIO()
    columns = (
        Column(name="membership", least=10),
        Column(name="behind", is_number=True),
        Column(name="at most", is_number=True),
        Column(name="to add", is_number=True),
        Column(name="to remove", is_number=True),
        Column(name="state"),
    )
    table = Table(columns, left_out=_LEFT_OUT, room=terminal_width(), print_line=lambda line: lines.write(line) > 0)
    for one in behind:
        table.add(
            (
                one.name,
                output.span(one.lag_s),
                "" if one.max_age_s is None else output.span(one.max_age_s),
                output.figure(one.adds),
                output.figure(one.removes),
                _state(one),
            )
        )
    table.end()
    lines.writelines(f"{one.name}: {one.error}\n" for one in behind if one.error is not None)
    return f"\n{lines.getvalue()}"


def plain_lag(statuses: Sequence[MembershipStatus]) -> list[dict[str, object]]:
    """Return every segment for JSON."""
    return [{**attrs.asdict(one), "pending": one.pending} for one in statuses]


def _state(one: MembershipStatus) -> str:
    state = "sending" if one.is_sending else "waits"
    return f"late, {state}" if one.is_late else state
