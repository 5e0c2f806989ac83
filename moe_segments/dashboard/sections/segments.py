"""The segments: members, match rates over time, the last operation or sync, and when each expires. Pure.

A match rate is the share of usable values that are users of the workspace. Those of an audience are of its last thirty
syncs; those of another segment are of its jobs that the journal remembers.
"""

from __future__ import annotations

from heapq import nlargest
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.dashboard.sections.view import segment_of
from moe_segments.models import JobState
from moe_segments.page.pieces import badge, count, local_time, name, plural, table, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from moe_segments.core.audiences.memberships import Membership
    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.dashboard.sections.view import View

__all__ = ["KnownSegment", "render_segments", "segments_of"]

_SHOWN: Final = 40
_MOST_POINTS: Final = 30
_LOW: Final = 0.5  # fewer users than one value in two is worth a look
_ROOM: Final = 8  # percent of the height of a curve, above and below
_RIGHT: Final = 94  # where the last point is, percent of the width
_BUSY: Final = "syncing"


@attrs.define(kw_only=True)
class KnownSegment:
    """One segment, as the journal knows it.

    Attributes:
        name: What it is called.
        is_audience: It was synced.
        size: Its members as a callback confirmed them last; None where they never were, or it is no audience.
        is_known: Its members are known now.
        is_syncing: Somebody syncs it now.
        rates: When which share matched, oldest first.
        last: What was done last: an operation, or how the last sync ended.
        last_us: When.
        until_us: When it expires, as far as is known; None where it does not.
    """

    name: str
    is_audience: bool = False
    size: int | None = None
    is_known: bool = False
    is_syncing: bool = False
    rates: list[tuple[int, float]] = attrs.field(factory=list)
    last: str = ""
    last_us: int = 0
    until_us: int | None = None


def segments_of(view: View) -> list[KnownSegment]:
    """Return the segments, those that something was done with last first."""
    state, found = view.state, dict[str, KnownSegment]()
    for record in state.jobs.records.values():
        if record.state != JobState.PLANNED and (called := segment_of(record)):
            _take_in(found.setdefault(called, KnownSegment(name=called)), record)
    for called, membership in state.memberships.of.items():
        segment = found.setdefault(called, KnownSegment(name=called))
        _sync(segment, membership)
        segment.is_known = state.memberships.known(called, state.jobs) is not None
        segment.is_syncing = state.memberships.worker(called, view.now_us) is not None
    for lease in state.ledger.active.leases.values():
        if lease.name in found:
            found[lease.name].until_us = lease.until_us
    return sorted(found.values(), key=lambda one: -one.last_us)


def _take_in(segment: KnownSegment, record: JobRecord) -> None:
    if record.since_us >= segment.last_us:
        segment.last, segment.last_us = str(record.operation.get("op") or ""), record.since_us
    if record.state == JobState.PROCESSED:
        result = record.result or {}
        _rate(segment.rates, record.since_us, result.get("values_processed"), result.get("user_count"))


def _sync(segment: KnownSegment, membership: Membership) -> None:
    segment.is_audience = True
    segment.size = None if membership.held is None else membership.held.size
    if not membership.history:
        return
    segment.rates = []
    for facts in membership.history:
        _rate(segment.rates, facts["at_us"], facts.get("processed"), facts.get("matched"))
    last: Mapping[str, Any] = membership.history[-1]  # numbers of a report, as the journal keeps them
    if last["at_us"] >= segment.last_us:
        segment.last, segment.last_us = f"sync: {last.get('status', '')}", last["at_us"]


def _rate(rates: list[tuple[int, float]], at_us: int, processed: object, matched: object) -> None:
    if isinstance(processed, int) and isinstance(matched, int) and processed > 0:
        rates.append((at_us, min(1.0, matched / processed)))


# HTML


def render_segments(view: View, segments: Sequence[KnownSegment]) -> str:
    """Return the section."""
    heading = f"<h2>Segments and audiences <small>{count(len(segments))}</small></h2>"
    if not segments:
        return f'{heading}<p class="none">None yet. A segment shows here after its first operation.</p>'
    columns = {
        "Segment": lambda one: name(one.name),
        "Members": _members,
        "Match rate": _match_rate,
        "Last": lambda one: f"{words(one.last)} <small>{local_time(view.iso(one.last_us))}</small>",
        "Expires": lambda one: "" if one.until_us is None else local_time(view.iso(one.until_us), relative=True),
    }
    shown = nlargest(_SHOWN, segments, key=lambda one: (one.is_syncing, one.is_audience, one.last_us))
    more = len(segments) - len(shown)
    rest = f'<p class="none">{plural(more, "segment")} more, used longer ago.</p>' if more else ""
    return heading + table(columns, shown, label="Segments", numbers=("Members",), kind="segments") + rest


def _members(segment: KnownSegment) -> str:
    if segment.is_syncing:
        return badge(_BUSY)
    if not segment.is_audience:
        return ""
    if segment.size is None:
        return "<i>not known</i>"
    return count(segment.size) + ("" if segment.is_known else " <small>replaced next</small>")


def _match_rate(segment: KnownSegment) -> str:
    rates = [rate for _, rate in segment.rates[-_MOST_POINTS:]]
    if not rates:
        return ""
    kind = "low" if rates[-1] < _LOW else "good"
    return f'<span class="rate {kind}"><b>{_percent(rates[-1])}</b>{_curve(rates) if len(rates) > 1 else ""}</span>'


def _curve(rates: Sequence[float]) -> str:
    """Return the rates as a line from 0 to 100 percent, with a dot at the last one."""
    step = _RIGHT / (len(rates) - 1)
    points = [(step * place, _ROOM + (100 - 2 * _ROOM) * (1 - rate)) for place, rate in enumerate(rates)]
    lines = "".join(
        f'<line x1="{x1:.1f}%" y1="{y1:.1f}%" x2="{x2:.1f}%" y2="{y2:.1f}%"/>'
        for (x1, y1), (x2, y2) in pairwise(points)
    )
    said = f"{_percent(rates[0])} to {_percent(rates[-1])} over {plural(len(rates), 'file')}"
    x, y = points[-1]
    return (
        f'<svg class="spark" role="img" aria-label="{said}"><title>{said}</title>{lines}'
        f'<circle cx="{x:.1f}%" cy="{y:.1f}%" r="2.5"/></svg>'
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f} %" if rate in (0, 1) or rate >= 0.1 else f"{100 * rate:.1f} %"  # noqa: PLR2004 - one digit
