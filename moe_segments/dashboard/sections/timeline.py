"""The plan ahead as HTML: a table with a bar for each operation, over an axis that begins now. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.models import JobState
from moe_segments.page.gauge import label_of
from moe_segments.page.pieces import count, local_time, name, plural, text, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.dashboard.sections.plan import PlanAhead, RunProgress, Waiting
    from moe_segments.dashboard.sections.view import View

__all__ = ["render_plan"]

_SHOWN: Final = 40
_SECOND_US: Final = 1_000_000
_MOST_TICKS: Final = 6
_ROOM: Final = 1.06  # right of the last start
_AT_LEAST_S: Final = 1.0
_STEPS_S: Final = (
    *(0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1_800),
    *(3_600, 7_200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 2_592_000),
)
_BAD: Final = (JobState.FAILED, JobState.REFUSED, JobState.NOT_SENT, JobState.UNKNOWN)


def render_plan(view: View, plan: PlanAhead) -> str:
    """Return the section."""
    counts = [f"{count(plan.in_line)} in line"] if plan.in_line else []
    counts += [f"{count(plan.planned)} planned"] if plan.planned else []
    said = f"<small>{', '.join(counts)}</small>"
    runs = f'<ul class="runs">{"".join(map(_run, plan.runs))}</ul>' if plan.runs else ""
    return f"<h2>Plan ahead {said}</h2>{runs}{_table(view, plan) if plan.waiting else ''}{_rest(view, plan)}"


def _rest(view: View, plan: PlanAhead) -> str:
    parts = []
    more = plan.in_line + plan.planned - min(_SHOWN, len(plan.waiting))
    if more > 0:
        parts.append(f"{plural(more, 'operation')} more.")
    if plan.planned:
        parts.append("Hollow ones are planned and not in line yet; their order may change.")
    if plan.idle:
        parts.append(f"{plural(plan.idle, 'operation')} of runs that nothing was heard of for a day are left out.")
    parts.append(_next(view, plan))
    return f'<p class="none">{" ".join(parts)}</p>'


def _next(view: View, plan: PlanAhead) -> str:
    begins = "Behind those in line, one more operation" if plan.in_line else "One more operation"
    begins = begins if plan.waiting else f"Nobody waits. {begins}"
    if plan.next_us is None:
        return f"{begins} could never start, as far as is known."
    if plan.next_us <= view.now_us:
        return f"{begins} could start now."
    iso = view.iso(plan.next_us)
    return f"{begins} could start {local_time(iso, relative=True)}, at {local_time(iso)}."


def _run(run: RunProgress) -> str:
    share = 100 * run.ended / max(1, run.total)
    bad = [f"{count(run.counts[state])} {words(state)}" for state in _BAD if run.counts.get(state)]
    said = f"{count(run.ended)} of {count(run.total)} ended"
    return (
        f"<li><span>{name(run.manifest)}</span><span>{' · '.join([said, *bad])}</span>"
        f'<svg class="bar fine" role="img" aria-label="{said}"><rect class="free" width="100%" height="100%"/>'
        f'<rect class="used" width="{share:.2f}%" height="100%"/></svg></li>'
    )


def _table(view: View, plan: PlanAhead) -> str:
    shown = plan.waiting[:_SHOWN]
    until_s = max((_after_s(view, one) for one in shown if one.start_us is not None), default=0.0) * _ROOM
    until_s = max(until_s, _AT_LEAST_S)
    ticks = _ticks(until_s)
    grid = "".join(f'<line class="grid" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%"/>' for at, _ in ticks)
    axis = "".join(f'<text x="{at:.2f}%" y="12" class="{_side(at)}">{label}</text>' for at, label in ticks)
    wide = f'<span class="unseen">Timeline</span><svg class="axis" aria-hidden="true">{axis}</svg>'
    headings = (("Segment", ""), ("Operation", ""), (wide, ' class="wide"'), ("Starts", ""), ("Waits for", ""))
    head = "".join(f'<th scope="col" role="columnheader"{kind}>{heading}</th>' for heading, kind in headings)
    body = "".join(_row(view, one, until_s, grid) for one in shown)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="Operations in line" data-key="plan">'
        f'<table role="table" class="plan"><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _row(view: View, one: Waiting, until_s: float, grid: str) -> str:
    rows = f" <small>{count(one.rows)}</small>" if one.rows else ""
    starts = "<i>not known</i>"
    track = ""
    if one.start_us is not None:
        after_s = _after_s(view, one)
        at = 100 * after_s / until_s
        kind = f"{text(one.limit or 'free')}{' planned' if one.is_planned else ''}"
        track = (
            f'<line class="wait {kind}" x1="0" x2="{at:.2f}%" y1="50%" y2="50%"/>'
            f'<circle class="{kind}" cx="{at:.2f}%" cy="50%" r="4.5"/>'
        )
        iso = view.iso(one.start_us)
        starts = f"{local_time(iso, relative=True)} <small>{local_time(iso)}</small>" if after_s > 0 else "now"
    return (
        f'<tr role="row"><td role="cell" data-name="Segment"><span>{name(one.segment)}</span></td>'
        f'<td role="cell" data-name="Operation"><span>{words(one.op)}{rows}</span></td>'
        f'<td role="cell" class="wide"><svg class="track" aria-hidden="true">{grid}{track}</svg></td>'
        f'<td role="cell" data-name="Starts"><span>{starts}</span></td>'
        f'<td role="cell" data-name="Waits for"><span>{_waits_for(one)}</span></td></tr>'
    )


def _waits_for(one: Waiting) -> str:
    if one.is_busy:
        return "its segment"
    return "nothing" if one.limit is None else f'<span class="key {text(one.limit)}">{text(label_of(one.limit))}</span>'


def _after_s(view: View, one: Waiting) -> float:
    assert one.start_us is not None
    return max(0.0, (one.start_us - view.now_us) / _SECOND_US)


def _ticks(until_s: float) -> Sequence[tuple[float, str]]:
    """Return where the axis has a tick, percent, and what it says."""
    step_s = next((step_s for step_s in _STEPS_S if until_s / step_s <= _MOST_TICKS), _STEPS_S[-1])
    steps = range(min(_MOST_TICKS, int(until_s / step_s)) + 1)
    return [(100 * number * step_s / until_s, f"+{_exact(number * step_s)}" if number else "now") for number in steps]


def _exact(seconds: float) -> str:
    """Return a length of time that is a whole number of some unit, in that unit."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if not seconds % length_s:
            return f"{seconds / length_s:g} {unit}"
    return f"{seconds:g} s"


def _side(at: float) -> str:
    """Return on which side of its tick a label stands: inside the axis."""
    return "first" if not at else "last" if at > 92 else "middle"  # noqa: PLR2004 - of a hundred
