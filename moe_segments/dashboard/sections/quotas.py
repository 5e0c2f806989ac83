"""The quotas: what is free of each, when the next of it is, and how usage falls if nothing more is sent. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.limits import ACTIVE_SEGMENTS
from moe_segments.page.gauge import Gauge, bar, label_of, level
from moe_segments.page.pieces import count, local_time, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.quota.decision import LimitState
    from moe_segments.core.quota.window import Window
    from moe_segments.dashboard.sections.view import View

__all__ = ["Quota", "quotas_of", "render_quotas"]

_MAIN: Final = 4  # quotas with a card of their own: of file operations, users and segments
_HEIGHT: Final = 24  # of the curve, in its own units
_MOST_STEPS: Final = 120  # of the curve


@attrs.frozen(kw_only=True)
class Quota:
    """One quota, now and from now on.

    Attributes:
        gauge: What is used.
        next_us: When the next of it is free, journal time; None when nothing is used or nothing known frees it.
        closed_us: Full until then, because the service said so or history may be lost; None when it is not.
        span_us: How long its window is, guard included; 0 for one without a window.
        steps: When how much is still used, if nothing more is sent: ascending, the last one with 0.
    """

    gauge: Gauge
    next_us: int | None
    closed_us: int | None
    span_us: int = 0
    steps: tuple[tuple[int, int], ...] = ()


def quotas_of(view: View) -> list[Quota]:
    """Return the quotas: the main ones, then those of other calls that are used."""
    ledger, now_us = view.state.ledger, view.now_us
    states = ledger.usage(now_us)
    windows = {window.limit: window for window in ledger.windows}
    return [
        _quota(state, windows.get(state.limit), now_us)
        for place, state in enumerate(states)
        if place < _MAIN or state.used or state.closed_until_us
    ]


def _quota(state: LimitState, window: Window | None, now_us: int) -> Quota:
    closed = state.closed_until_us > now_us
    return Quota(
        gauge=Gauge(
            limit=state.limit,
            used=state.used,
            capacity=state.capacity,
            pending=state.pending,
            external=state.external,
            is_closed=closed,
        ),
        next_us=state.next_release_us,
        closed_us=state.closed_until_us if closed else None,
        span_us=window.span_us if window is not None else 0,
        steps=tuple(_steps(window, now_us)) if window is not None else (),
    )


def _steps(window: Window, now_us: int) -> Iterator[tuple[int, int]]:
    """Yield when how much is still used, if everything in flight ended as soon as it can."""
    history, span_us = window.history, window.span_us
    ends = [(u_us + span_us, weight) for u_us, weight in history.counted(window.head)]
    ends += [(hold.expected_us(now_us) + span_us, hold.weight) for hold in history.holds]
    ends.sort()
    used, every = window.used, max(1, len(ends) // _MOST_STEPS)
    for number, (at_us, weight) in enumerate(ends, 1):
        used -= weight
        if not number % every or number == len(ends):
            yield at_us, used


# HTML


def render_quotas(view: View, quotas: Sequence[Quota]) -> str:
    """Return the section."""
    cards = "".join(_card(view, quota) for quota in quotas[:_MAIN])
    others = "".join(_small(quota) for quota in quotas[_MAIN:])
    small = f'<ul class="others" aria-label="Other calls">{others}</ul>' if others else ""
    return f'<h2 class="unseen">Quotas</h2><div class="cards">{cards}</div>{small}'


def _card(view: View, quota: Quota) -> str:
    gauge = quota.gauge
    return (
        f'<article class="quota {level(gauge)}"><h3>{text(label_of(gauge.limit))}</h3>'
        f'<p class="free"><b>{count(gauge.free)}</b> free of {count(gauge.capacity)}</p>{bar(gauge)}'
        f'<p class="parts">{_parts(gauge)}</p>{_curve(view, quota)}'
        f'<p class="release">{_release(view, quota)}</p></article>'
    )


def _parts(gauge: Gauge) -> str:
    parts = [f"{count(gauge.used)} used"]
    if gauge.pending:
        parts.append(f'<span class="key pending">{count(gauge.pending)} pending</span>')
    if gauge.external:
        parts.append(f'<span class="key external">{count(gauge.external)} by others</span>')
    return " · ".join(parts)


def _release(view: View, quota: Quota) -> str:
    if quota.closed_us is not None:
        return f"<strong>Closed</strong> until {_moment(view, quota.closed_us)}"
    if quota.next_us is None:
        return "All free" if not quota.gauge.used else "Freed by an archive"
    if quota.gauge.limit == ACTIVE_SEGMENTS:
        return f"Next one expires {_moment(view, quota.next_us)}"
    last_us = quota.steps[-1][0] if quota.steps else quota.next_us
    if last_us == quota.next_us:
        return f"All free {_moment(view, quota.next_us)}"
    return f"Next free {_moment(view, quota.next_us)}, all {local_time(view.iso(last_us), relative=True)}"


def _moment(view: View, at_us: int) -> str:
    iso = view.iso(at_us)
    return f"<b>{local_time(iso, relative=True)}</b> <small>{local_time(iso)}</small>"


def _curve(view: View, quota: Quota) -> str:
    """Return how usage falls until all is free, as an area; where nothing is used there is nothing to fall."""
    if not quota.span_us:
        return ""
    until_us = max(1, quota.steps[-1][0] - view.now_us) if quota.steps else 1
    top = max(quota.gauge.capacity, quota.gauge.used, 1)
    points = [(view.now_us, quota.gauge.used), *quota.steps]
    path = [f"M0 {_HEIGHT}", f"V{_y(quota.gauge.used, top)}"]
    for _, (at_us, used) in pairwise(points):
        share = min(1.0, max(0.0, (at_us - view.now_us) / until_us))
        path.append(f"H{100 * share:.2f}V{_y(used, top)}")
    return (
        f'<svg class="curve" viewBox="0 0 100 {_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="area" d="{"".join(path)}V{_HEIGHT}Z"/></svg>'
    )


def _y(used: int, top: int) -> str:
    return f"{_HEIGHT * (1 - max(0, used) / top):.2f}"


def _small(quota: Quota) -> str:
    gauge = quota.gauge
    return (
        f"<li><span>{text(label_of(gauge.limit))}</span>"
        f"<span><b>{count(gauge.used)}</b> of {count(gauge.capacity)}</span>{bar(gauge)}</li>"
    )
