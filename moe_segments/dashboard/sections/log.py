"""The end of the journal's log, newest first, each entry with the segment that it is about. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from moe_segments.dashboard.sections.view import iso, segment_of
from moe_segments.page.pieces import local_time, name, text, words

if TYPE_CHECKING:
    from datetime import datetime

    from moe_segments.dashboard.sections.view import View
    from moe_segments.journal.tools.log import LogEntry

__all__ = ["render_log"]

_SHOWN: Final = 60
_BAD: Final = frozenset({"unknown", "owner_gone", "throttled", "quarantined", "key_rejected", "moved"})
_GOOD: Final = frozenset({"processed"})


def render_log(view: View) -> str:
    """Return the section."""
    heading = "<h2>Log <small>newest first</small></h2>"
    if not view.log:
        return f'{heading}<p class="none">Nothing was written since the journal was compacted.</p>'
    entries = "".join(_entry(view, entry) for entry in list(view.log)[-_SHOWN:][::-1])
    return (
        f'{heading}<div class="scroll" tabindex="0" role="group" aria-label="Log, newest first" data-key="log">'
        f'<ol class="log">{entries}</ol></div>'
    )


def _entry(view: View, entry: LogEntry) -> str:
    job = str(entry.fields.get("job") or "")
    record = view.state.jobs.records.get(job)
    called = _claimed(entry) if record is None else segment_of(record)
    segment = f"{name(called)} " if called else ""
    said = entry.text.removeprefix(f"{job}: ").removeprefix(f"{job} ") if called else entry.text
    return (
        f'<li class="{_kind(entry)}">{local_time(iso(_wall(view, entry.at)))} <b>{words(entry.event)}</b> '
        f"{segment}<span>{text(said)}</span></li>"
    )


def _claimed(entry: LogEntry) -> str:
    """Return the segment that a claim is about: its job is not known before it is sent."""
    keys: Any = entry.fields.get("keys") or ()  # of text
    return next((str(key) for key in keys if not str(key).startswith("id:")), "")


def _wall(view: View, moment: datetime) -> datetime:
    return moment + timedelta(microseconds=view.shift_us)


def _kind(entry: LogEntry) -> str:
    fields: Any = entry.fields  # of an event of any kind
    outcome = fields.get("outcome")
    if entry.event in _BAD or outcome in ("failed", "unparsed") or fields.get("error") is not None:
        return "bad"
    return "good" if outcome in _GOOD else "plain"
