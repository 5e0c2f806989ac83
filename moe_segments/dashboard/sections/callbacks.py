"""The callbacks: how many arrived, which are awaited or late, and which cannot be read. Pure.

One is late when the processing allowance has passed since the acceptance: from then on its segment is free for others,
and its users are counted as the file's rows.
"""

from __future__ import annotations

from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.dashboard.sections.view import segment_of
from moe_segments.models import JobState
from moe_segments.page.pieces import badge, count, hint, local_time, name, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.dashboard.sections.view import View

__all__ = ["Callback", "Callbacks", "callbacks_of", "render_callbacks"]

_SHOWN: Final = 12  # of each kind
_SECOND_US: Final = 1_000_000


@attrs.frozen(kw_only=True)
class Callback:
    """One callback that came, or is awaited.

    Attributes:
        kind: "unreadable", "late", "waiting", "processed" or "failed".
        segment: What its segment is called.
        at_us: When it came, or the operation was accepted.
        said: What is wrong with it; empty for nothing.
    """

    kind: str
    segment: str
    at_us: int
    said: str = ""


@attrs.frozen(kw_only=True)
class Callbacks:
    """The callbacks that are shown, and how many there are.

    Attributes:
        shown: What needs a look, then what is awaited, the oldest first, then what arrived, the newest first.
        arrived: How many arrived in the last day.
        waiting: How many are awaited, late ones left out.
        late: How many are late.
        unreadable: How many cannot be read.
        differing: How many jobs had a second one that said something else.
    """

    shown: tuple[Callback, ...]
    arrived: int
    waiting: int
    late: int
    unreadable: int
    differing: int


def callbacks_of(view: View) -> Callbacks:
    """Return the callbacks of all jobs."""
    kinds: dict[str, list[JobRecord]] = {kind: [] for kind in ("unreadable", "late", "waiting", "arrived")}
    for record in view.state.jobs.records.values():
        if (kind := _kind_of(record, view.now_us)) is not None:
            kinds[kind].append(record)
    day_us = round(view.state.limits.day_s * _SECOND_US)
    shown = [
        *(_callback(record, "unreadable", record.unreadable_reason) for record in _newest(kinds["unreadable"])),
        *(_callback(record, "late") for record in _oldest(kinds["late"])),
        *(_callback(record, "waiting") for record in _oldest(kinds["waiting"])),
        *(_callback(record, record.state, _differing(record)) for record in _newest(kinds["arrived"])),
    ]
    return Callbacks(
        shown=tuple(shown),
        arrived=sum(record.since_us > view.now_us - day_us for record in kinds["arrived"]),
        waiting=len(kinds["waiting"]),
        late=len(kinds["late"]),
        unreadable=len(kinds["unreadable"]),
        differing=sum(record.conflicts > 0 for record in kinds["arrived"]),
    )


def _kind_of(record: JobRecord, now_us: int) -> str | None:
    if record.is_unreadable:
        return "unreadable"
    if record.state in (JobState.PROCESSED, JobState.FAILED):
        return "arrived"
    if record.state == JobState.ACCEPTED and record.awaits_callback:
        return "late" if now_us >= record.busy_until_us else "waiting"
    return None


def _callback(record: JobRecord, kind: str, said: str = "") -> Callback:
    return Callback(kind=kind, segment=segment_of(record), at_us=record.since_us, said=said)


def _differing(record: JobRecord) -> str:
    return "another one said something else" if record.conflicts else ""


def _newest(records: Iterable[JobRecord]) -> list[JobRecord]:
    return nlargest(_SHOWN, records, key=lambda record: record.since_us)


def _oldest(records: Iterable[JobRecord]) -> list[JobRecord]:
    return nsmallest(_SHOWN, records, key=lambda record: record.since_us)


# HTML


def render_callbacks(view: View, callbacks: Callbacks) -> str:
    """Return the section."""
    figures = (
        ("arrived, last day", callbacks.arrived, ""),
        ("awaited", callbacks.waiting, ""),
        ("late", callbacks.late, "bad"),
        ("unreadable", callbacks.unreadable, "bad"),
        *((("differing", callbacks.differing, "bad"),) if callbacks.differing else ()),
    )
    chips = "".join(
        f'<li class="{kind if number else "nil"}"><b>{count(number)}</b> {label}</li>'
        for label, number, kind in figures
    )
    heading = f'<h2>Callbacks</h2><ul class="figures">{chips}</ul>'
    if not callbacks.shown:
        return f'{heading}<p class="none">None is awaited, and none has come yet.</p>'
    columns = {
        "Segment": lambda one: name(one.segment) + hint(one.said),
        "Callback": lambda one: badge(one.kind),
        "Since": lambda one: local_time(view.iso(one.at_us), relative=True),
    }
    return heading + table(
        columns,
        callbacks.shown,
        label="Callbacks",
        kind="callbacks",
        row_class=lambda one: "doubt" if one.kind in ("unreadable", "late") else "",
    )
