"""The jobs: those in doubt first, then the newest; of each file what was found, processed and matched. Pure."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.dashboard.sections.view import segment_of
from moe_segments.models import JobState
from moe_segments.page.pieces import badge, count, hint, local_time, name, plural, table, words
from moe_segments.submission.job_info import info_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.state.jobs import JobRecord
    from moe_segments.dashboard.sections.view import View
    from moe_segments.submission.job_info import JobInfo

__all__ = ["JobList", "jobs_of", "render_jobs"]

_SHOWN: Final = 40
_IN_DOUBT: Final = (JobState.UNKNOWN, JobState.UNREADABLE)
_ORDER: Final = (
    *_IN_DOUBT,
    *(JobState.FAILED, JobState.REFUSED, JobState.NOT_SENT),
    *(JobState.PLANNED, JobState.RESERVED, JobState.ACCEPTED, JobState.PROCESSED),
)


@attrs.frozen(kw_only=True)
class JobList:
    """The jobs that are shown, and how many there are.

    Attributes:
        shown: Those in doubt first, then the newest.
        counts: How many are in each state.
    """

    shown: tuple[tuple[JobInfo, int], ...]
    counts: Mapping[str, int] = attrs.field(hash=False)


def jobs_of(view: View) -> JobList:
    """Return the jobs; the planned ones are counted only, as the plan shows them."""
    states = {record.id: record.state_at(view.now_us) for record in view.state.jobs.records.values()}
    begun = (record for record in view.state.jobs.records.values() if states[record.id] != JobState.PLANNED)
    shown = nlargest(_SHOWN, begun, key=lambda record: (_urgency(states[record.id]), record.since_us))
    return JobList(
        shown=tuple((_info(record, states[record.id], view.shift_us), record.since_us) for record in shown),
        counts=Counter(states.values()),
    )


def _urgency(state: str) -> int:
    """Return how far on top jobs of a state are."""
    return len(_IN_DOUBT) - _IN_DOUBT.index(state) if state in _IN_DOUBT else 0


def _info(record: JobRecord, state: str, shift_us: int) -> JobInfo:
    info = info_of(record, state, shift_us)
    return info if info.segment else attrs.evolve(info, segment=segment_of(record))


# HTML


def render_jobs(view: View, jobs: JobList) -> str:
    """Return the section."""
    total = sum(jobs.counts.values())
    heading = f"<h2>Jobs <small>{count(total)}</small></h2>"
    if not total:
        return f'{heading}<p class="none">None yet. An operation shows here from the moment its quota is held.</p>'
    chips = "".join(
        f"<li>{badge(state)} {count(jobs.counts[state])}</li>" for state in _ORDER if jobs.counts.get(state)
    )
    columns = {
        "State": lambda one: badge(one[0].state),
        "Operation": lambda one: words(one[0].op),
        "Segment": lambda one: name(one[0].segment),
        "Found → processed → matched": lambda one: _outcome(one[0]),
        "Since": lambda one: local_time(view.iso(one[1])),
    }
    more = total - len(jobs.shown) - jobs.counts.get(JobState.PLANNED, 0)
    rest = (
        f'<p class="none">{plural(more, "older job")}: <code>moe-segments jobs</code> lists them.</p>'
        if more > 0
        else ""
    )
    rows = table(
        columns,
        jobs.shown,
        label="Jobs",
        kind="jobs",
        row_class=lambda one: "doubt" if one[0].state in _IN_DOUBT else "",
    )
    return f'{heading}<ul class="chips">{chips}</ul>{rows}{rest}'


def _outcome(info: JobInfo) -> str:
    figures = info.figures
    if info.state == JobState.PROCESSED:
        steps = (figures.found, figures.processed, figures.matched)
        said = " → ".join("?" if step is None else count(step) for step in steps)
        return said + "".join(map(hint, figures.warnings))
    if info.error is not None:
        return hint(info.error)
    if info.state == JobState.ACCEPTED and info.awaits_callback:
        return "<i>waits for its callback</i>"
    return f"<i>{plural(figures.rows, 'row')}</i>" if figures.rows else ""
