"""What a person has to know at once: the journal is away, quotas are closed, outcomes are unknown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_segments.errors import JournalMoved
from moe_segments.models import JobState
from moe_segments.page.gauge import label_of
from moe_segments.page.pieces import local_time, plural, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moe_segments.dashboard.sections.jobs import JobList
    from moe_segments.dashboard.sections.quotas import Quota
    from moe_segments.dashboard.sections.view import View

__all__ = ["render_notices", "render_source"]


def render_source(view: View, last_us: int) -> str:
    """Return where all this comes from, and whether it is current.

    Args:
        view: The look.
        last_us: When the last batch was written, journal time.
    """
    opened = view.state.opened
    facts = [f"<b>{text(view.scope)}</b>", _fact("journal", view.place)]
    if opened is not None:
        facts.append(_fact("service", opened.origin))
        facts += [_fact("speed", f"{opened.scale:g} times")] if opened.scale != 1 else []
    is_away = view.problem is not None
    state = '<span class="state away">Journal away</span>' if is_away else '<span class="state live">Live</span>'
    wrote = f"<span><i>last entry</i> {local_time(view.iso(last_us), relative=True)}</span>"
    return f'<p class="facts">{state} {" ".join(facts)} {wrote}</p>'


def _fact(name: str, said: str) -> str:
    return f"<span><i>{name}</i> {text(said)}</span>"


def render_notices(view: View, quotas: list[Quota], jobs: JobList) -> str:
    """Return the notices, the most urgent first; nothing where there is none."""
    return "".join(f'<p class="notice {kind}">{said}</p>' for kind, said in _notices(view, quotas, jobs))


def _notices(view: View, quotas: list[Quota], jobs: JobList) -> Iterator[tuple[str, str]]:
    state = view.state
    if view.problem is not None:
        yield (
            "bad",
            (
                "<strong>The journal cannot be read.</strong> What is shown may be old. It is tried again and again. "
                f"{text(view.problem)}."
            ),
        )
    if isinstance(state.barred, JournalMoved):
        yield "bad", f"<strong>This journal has moved.</strong> {text(state.barred)}"
    elif state.barred is not None:
        yield "bad", f"<strong>Nothing is sent on this journal.</strong> {text(state.barred)}"
    if quarantine := state.ledger.quarantine_at(view.now_us):
        yield "bad", f"<strong>Every window is taken for full.</strong> {text(quarantine)}"
    for fingerprint, status in state.rejected_keys.items():
        yield (
            "bad",
            (
                f"<strong>An API key was answered {status}.</strong> Nothing is sent with the key of fingerprint "
                f"{text(fingerprint[:8])}."
            ),
        )
    if unknown := jobs.counts.get(JobState.UNKNOWN, 0):
        yield (
            "bad",
            (
                f"<strong>{plural(unknown, 'job')} of unknown outcome.</strong> Each may have worked: look in MoEngage "
                "before it is sent again. A late callback still ends it."
            ),
        )
    for quota in quotas:
        if quota.closed_us is not None and not quarantine:
            yield (
                "high",
                (
                    f"<strong>{text(label_of(quota.gauge.limit))} is closed</strong> until "
                    f"{local_time(view.iso(quota.closed_us))}: the service answered 429 although there was room, so "
                    "something outside this journal uses the quota."
                ),
            )
