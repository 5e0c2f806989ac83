"""A quota as a bar: what is used, what of it is pending or was spent by others, and when the next of it is free. Pure.

A small quota is drawn as cells, one for each operation, so that it is counted at a glance; a large one as one bar.
"""

from __future__ import annotations

from typing import Final

import attrs

from moe_segments.page.pieces import plural, text

__all__ = ["Gauge", "bar", "label_of", "level"]

_LABELS: Final = {
    "operations_per_hour": "File operations, hour",
    "operations_per_day": "File operations, day",
    "users_per_day": "Users, day",
    "active_segments": "Active segments",
    "list_per_minute": "Lists, minute",
    "list_per_hour": "Lists, hour",
    "list_per_day": "Lists, day",
    "create_filter_per_minute": "Filter creates, minute",
    "create_filter_per_hour": "Filter creates, hour",
    "create_filter_per_day": "Filter creates, day",
    "get_per_minute": "Gets, minute",
    "get_per_hour": "Gets, hour",
    "get_per_day": "Gets, day",
}
_NEARLY_FULL: Final = 0.8
_MOST_CELLS: Final = 20
_GAP: Final = 0.8  # between two cells, percent of the bar
_LEAST: Final = 0.6  # percent of the bar: what is used is seen, however little it is


@attrs.frozen(kw_only=True)
class Gauge:
    """One quota, now.

    Attributes:
        limit: Its name, a field of `QuotaLimits`.
        used: What counts against it.
        capacity: What it allows.
        pending: How much of *used* is in flight or waits for its callback.
        external: How much of *used* others spent.
        is_closed: Nothing fits until a later moment, whatever *used* says.
    """

    limit: str
    used: int
    capacity: int
    pending: int = 0
    external: int = 0
    is_closed: bool = False

    @property
    def free(self) -> int:
        """What still fits."""
        return 0 if self.is_closed else max(0, self.capacity - self.used)


def label_of(limit: str) -> str:
    """Return a quota's name for people."""
    return _LABELS.get(limit, limit.replace("_", " "))


def level(gauge: Gauge) -> str:
    """Return the class of a gauge: fine, high or full."""
    if not gauge.free:
        return "full"
    return "high" if gauge.used >= _NEARLY_FULL * gauge.capacity else "fine"


def bar(gauge: Gauge) -> str:
    """Return the bar, with a sentence for who cannot see it."""
    parts = [f"{gauge.used:,} of {plural(gauge.capacity, 'unit')} used"]
    parts += [f"{gauge.pending:,} of them pending"] if gauge.pending else []
    parts += [f"{gauge.external:,} by others"] if gauge.external else []
    parts += ["closed"] if gauge.is_closed else []
    draw = _cells if 0 < gauge.capacity <= _MOST_CELLS else _whole
    return f'<svg class="bar {level(gauge)}" role="img" aria-label="{text(", ".join(parts))}">{draw(gauge)}</svg>'


def _amounts(gauge: Gauge) -> tuple[int, int, int]:
    """Return what is used for good, by others, and pending; together as much as is used."""
    used = max(0, gauge.used)
    pending = min(used, max(0, gauge.pending))
    external = min(used - pending, max(0, gauge.external))
    return used - pending - external, external, pending


def _cells(gauge: Gauge) -> str:
    settled, external, pending = _amounts(gauge)
    ends = (("used", settled), ("external", settled + external), ("pending", settled + external + pending))
    width = (100 + _GAP) / gauge.capacity
    return "".join(
        f'<rect class="{next((kind for kind, end in ends if cell < end), "free")}" x="{cell * width:.2f}%" '
        f'width="{width - _GAP:.2f}%" height="100%" rx="2"/>'
        for cell in range(gauge.capacity)
    )


def _whole(gauge: Gauge) -> str:
    parts, at = ['<rect class="free" width="100%" height="100%"/>'], 0.0
    for kind, amount in zip(("used", "external", "pending"), _amounts(gauge), strict=True):
        share = max(_LEAST, 100 * amount / max(1, gauge.capacity)) if amount else 0.0
        width = min(share, 100 - at)
        if width > 0:
            parts.append(f'<rect class="{kind}" x="{at:.2f}%" width="{width:.2f}%" height="100%"/>')
        at += width
    return "".join(parts)
