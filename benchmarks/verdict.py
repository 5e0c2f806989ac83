"""How a benchmark says what it found: medians, a ratio, the bound, PASS or over."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ratio_of_medians", "spread", "state", "state_fact", "state_figure"]


def spread(samples: Sequence[float], unit: str = "ms", factor: float = 1_000.0) -> str:
    """The median of seconds and the range around it, in another unit."""
    low, high = min(samples) * factor, max(samples) * factor
    return f"{statistics.median(samples) * factor:.2f} {unit} ({low:.2f} to {high:.2f}, {len(samples)} rounds)"


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times the peer's median ours is."""
    return statistics.median(ours) / statistics.median(theirs)


def state(what: str, ratio: float, bound: float) -> bool:
    """Print the ratio beside its bound. Returns whether it is within."""
    within = ratio <= bound
    print(f"{what}: ratio {ratio:.2f}, bound {bound:.2f}: {'PASS' if within else 'over'}", flush=True)
    return within


def state_figure(what: str, figure: float, bound: float, unit: str, *, at_least: bool = False) -> bool:
    """Print a figure beside its bound. Returns whether it is within."""
    within = figure >= bound if at_least else figure <= bound
    limit = "at least" if at_least else "at most"
    print(f"{what}: {figure:,.2f} {unit}, {limit} {bound:,.2f}: {'PASS' if within else 'over'}", flush=True)
    return within


def state_fact(what: str, *, holds: bool) -> bool:
    """Print whether what was promised held. Returns it."""
    print(f"{what}: {'PASS' if holds else 'failed'}", flush=True)
    return holds
