"""Draw a plan as an SVG: a row for each operation, a lane for each limit, the present moment and the end. Pure.

Positions are percentages and text has a fixed size, so the picture fits any width. Colours follow the reader's choice
of light or dark.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

__all__ = ["Bar", "Lane", "draw"]

_ROW: Final = 20  # pixels of an operation with its name
_THIN_ROW: Final = 4  # where there are too many for names
_NAMED_MOST: Final = 100  # operations
_LANE: Final = 90
_TITLE: Final = 24
_HEAD: Final = 72
_LEFT, _RIGHT = 2.0, 98.0  # per cent between which time runs
_TICKS_MOST: Final = 5
_TICK_S: Final = (60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000)
_COLORS: Final = 4
_EDGE: Final = 0.06  # of the width, on which half a moment has no room on a telephone
_NAME_WIDTH: Final = 22  # of a segment's name beside its bar, in Latin letters; a wide character counts twice
_STYLE: Final = """
svg { color-scheme: light dark; --back: #ffffff; --ink: #1a1d21; --faint: #6b7280; --line: #d7dbe0; --used: #9db8e0;
  --now: #b42318; --c0: #2563ab; --c1: #b45309; --c2: #0f766e; --c3: #7c3aed; --c4: #b42318;
  background: var(--back); font: 12px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --back: #14171a; --ink: #e6e8eb; --faint: #9aa3ad; --line: #353b42;
  --used: #33507c; --now: #ff8a80; --c0: #6ea8f0; --c1: #f0a35e; --c2: #4fc3b5; --c3: #b69cf6; --c4: #ff8a80; } }
text { fill: var(--ink); dominant-baseline: central; paint-order: stroke; stroke: var(--back); stroke-width: 3px; }
rect { shape-rendering: crispEdges; } .more { display: none; } @media (min-width: 700px) { .more { display: inline; } }
.faint { fill: var(--faint); } .title { font-weight: 600; }
.back { fill: var(--back); } .used { fill: var(--used); } .wait { stroke: var(--line); stroke-width: 2; }
.grid { stroke: var(--line); } .full { stroke: var(--faint); stroke-dasharray: 4 3; }
.now { stroke: var(--now); stroke-width: 2; } .end { stroke: var(--ink); stroke-dasharray: 2 3; }
.free { fill: var(--ink); }
.c0 { fill: var(--c0); }
.c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); } .c4 { fill: var(--c4); }
"""


@attrs.frozen(kw_only=True)
class Bar:
    """One operation of a plan.

    Attributes:
        segment: Its segment.
        op: What is done, such as "create".
        start_s: When it starts, epoch seconds; None for never.
        limit: The limit it waits for; None for none.
        rows: Its users; 0 for none.
    """

    segment: str
    op: str
    start_s: float | None
    limit: str | None = None
    rows: int = 0


@attrs.frozen(kw_only=True)
class Lane:
    """The usage of one limit over time.

    Attributes:
        limit: Its name.
        capacity: What it allows.
        steps: From when how much is used, epoch seconds, ascending; each lasts until the next.
    """

    limit: str
    capacity: int
    steps: Sequence[tuple[float, int]]


def draw(bars: Sequence[Bar], lanes: Sequence[Lane], *, now_s: float, zone: tzinfo | None = None) -> str:
    """Return a plan as the text of an SVG file.

    Args:
        bars: The operations, in the order they are to be shown.
        lanes: The limits that are used.
        now_s: The present moment, epoch seconds.
        zone: The time zone of what is written; None for the machine's.
    """
    starts = [bar.start_s for bar in bars if bar.start_s is not None]
    return _Picture(bars, lanes, now_s, max(starts, default=now_s), zone).text()


class _Picture:
    def __init__(
        self, bars: Sequence[Bar], lanes: Sequence[Lane], now_s: float, end_s: float, zone: tzinfo | None
    ) -> None:
        self._bars, self._lanes, self._now_s, self._end_s, self._zone = bars, lanes, now_s, end_s, zone
        self._until_s = max(end_s + (end_s - now_s) * 0.04, now_s + 60)
        self._limits = [lane.limit for lane in lanes]
        self._row = _ROW if len(bars) <= _NAMED_MOST else _THIN_ROW
        height = _HEAD + _TITLE + self._row * len(bars) + (_TITLE + _LANE + 8) * len(lanes) + 16
        self._svg = Element(
            "svg", {"xmlns": "http://www.w3.org/2000/svg", "width": "100%", "height": str(height), "role": "img"}
        )
        self._height = height

    def text(self) -> str:
        """Return the SVG."""
        self._put("title", said=f"Plan of {_count(len(self._bars), 'operation')}")
        self._put("desc", said=f"{self._summary()}. {self._verdict()}")
        self._put("style", said=_STYLE)
        self._put("rect", "back", width="100%", height="100%")
        self._put("text", "title", said=self._summary(), x=f"{_LEFT}%", y="16")
        self._put("text", said=self._verdict(), x=f"{_LEFT}%", y="33")
        self._axis()
        top = self._rows(float(_HEAD))
        for lane in self._lanes:
            top = self._lane(lane, top)
        self._moment(self._now_s, "now", "now")
        if self._end_s > self._now_s:
            self._moment(self._end_s, "end", "")
        indent(self._svg)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(self._svg, encoding="unicode") + "\n"

    def _summary(self) -> str:
        users = sum(bar.rows for bar in self._bars)
        return f"{_count(len(self._bars), 'operation')}, {_count(users, 'user')}"

    def _verdict(self) -> str:
        never = sum(bar.start_s is None for bar in self._bars)
        said = f"{never:,} never" if never else ""
        if len(self._bars) > never:
            said = f"All sent by {self._moment_text(self._end_s)}{f', {said}' if said else ''}"
        return said

    def _axis(self) -> None:
        span_s = self._until_s - self._now_s
        step_s = next((one for one in _TICK_S if span_s / one <= _TICKS_MOST), math.ceil(span_s / _TICKS_MOST))
        at = datetime.fromtimestamp(self._now_s, UTC).astimezone(self._zone)
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        tick = midnight + timedelta(seconds=math.ceil((at - midnight).total_seconds() / step_s) * step_s)
        while tick.timestamp() <= self._until_s:
            x = self._x(tick.timestamp())
            self._put("line", "grid", x1=x, x2=x, y1=str(_HEAD - 10), y2=str(self._height - 10))
            said = f"{tick:%H:%M}" if step_s < 86_400 else f"{tick:%d %b}"  # noqa: PLR2004 - a day
            self._put("text", "faint", said=said, x=x, y=str(_HEAD - 18), **self._anchor_at(tick.timestamp()))
            tick += timedelta(seconds=step_s)

    def _anchor_at(self, at_s: float) -> dict[str, Any]:
        """Return where a moment is written on the axis: in the middle of its line, but for one at the edge."""
        share = self._share(at_s)
        return {"text-anchor": "start" if share < _EDGE else "end" if share > 1 - _EDGE else "middle"}

    def _rows(self, top: float) -> float:
        named = self._row == _ROW
        zone = datetime.fromtimestamp(self._now_s, UTC).astimezone(self._zone)
        self._put("text", "title", said=f"Operations (times in {zone:%Z})", x=f"{_LEFT}%", y=str(top + _TITLE / 2))
        top += _TITLE
        for bar in self._bars:
            self._operation(bar, top, named=named)
            top += self._row
        return top + 8

    def _operation(self, bar: Bar, top: float, *, named: bool) -> None:
        group = SubElement(self._svg, "g")
        middle = top + self._row / 2
        users = f" {_count(bar.rows, 'user')}" if bar.rows else ""
        name, what = f"\u2068{_clean(bar.segment)}\u2069", f"{bar.op}{users}"
        if bar.start_s is None:
            self._put("title", said=f"{name}: {what}, never: {bar.limit or 'no limit'}", within=group)
            self._put("text", "c4", said=f"{_cut(bar.segment)}: never", within=group, x=f"{_LEFT}%", y=str(middle))
            return
        x, height = self._x(bar.start_s), max(2.0, self._row - 6.0)
        why = f", waits for {bar.limit}" if bar.limit else ""
        self._put("title", said=f"{name}: {what}, {self._moment_text(bar.start_s)}{why}", within=group)
        self._put("line", "wait", within=group, x1=self._x(self._now_s), x2=x, y1=str(middle), y2=str(middle))
        color = self._color(bar.limit)
        self._put("rect", color, within=group, x=x, y=str(middle - height / 2), width="6", height=str(height), rx="1")
        if named:
            left = self._share(bar.start_s) < 0.5  # noqa: PLR2004 - the middle
            anchor = {"text-anchor": "start" if left else "end"}
            spot = SubElement(group, "svg", {"x": x, "y": str(middle), "overflow": "visible", "width": "1"})
            text = SubElement(spot, "text", {"x": "10" if left else "-6", "y": "0", **anchor})
            text.text = _cut(bar.segment)
            self._put("tspan", "faint more", said=f" {what}", within=text)

    def _color(self, limit: str | None) -> str:
        """Return the class of the color of what waits for a limit."""
        return f"c{self._limits.index(limit) % _COLORS}" if limit in self._limits else "free"

    def _lane(self, lane: Lane, top: float) -> float:
        peak = max((used for at_s, used in lane.steps if at_s <= self._until_s), default=0)
        middle = top + _TITLE / 2
        self._put("rect", self._color(lane.limit), x=f"{_LEFT}%", y=str(middle - 5), width="10", height="10")
        said = f"{lane.limit}: peak {peak:,} of {lane.capacity:,}"
        self._put("text", "title", said=said, x=f"{_LEFT}%", dx="16", y=str(middle))
        top += _TITLE
        most = max(lane.capacity, peak, 1)
        full = top + _LANE * (1 - lane.capacity / most)
        ends = [*(at_s for at_s, _ in lane.steps[1:]), self._until_s]
        for (at_s, used), end_s in zip(lane.steps, ends, strict=False):
            begin = self._share(max(at_s, self._now_s))
            width = self._share(min(end_s, self._until_s)) - begin
            if used > 0 and width > 0:
                height = _LANE * used / most
                self._put(
                    "rect",
                    "used",
                    x=_percent(begin),
                    width=f"{width * (_RIGHT - _LEFT):.3f}%",
                    y=f"{top + _LANE - height:.2f}",
                    height=f"{height:.2f}",
                )
        self._put("line", "full", x1=f"{_LEFT}%", x2=f"{_RIGHT}%", y1=f"{full:.2f}", y2=f"{full:.2f}")
        base = str(top + _LANE)
        self._put("line", "grid", x1=f"{_LEFT}%", x2=f"{_RIGHT}%", y1=base, y2=base)
        return top + _LANE + 8

    def _moment(self, at_s: float, kind: str, said: str) -> None:
        x = self._x(at_s)
        self._put("line", kind, x1=x, x2=x, y1=str(_HEAD - 10), y2=str(self._height - 10))
        if said:
            self._put("text", "c4", said=said, x=x, y=str(_HEAD - 2), dx="4")

    def _share(self, at_s: float) -> float:
        return (at_s - self._now_s) / (self._until_s - self._now_s)

    def _x(self, at_s: float) -> str:
        return _percent(self._share(at_s))

    def _moment_text(self, at_s: float) -> str:
        at = datetime.fromtimestamp(at_s, UTC).astimezone(self._zone)
        return f"{at:%d %b %Y %H:%M %Z}"

    def _put(
        self, tag: str, kind: str = "", /, *, said: str | None = None, within: Element | None = None, **more: Any
    ) -> None:
        element = SubElement(self._svg if within is None else within, tag, {"class": kind, **more} if kind else more)
        if said is not None:
            element.text = said


def _percent(share: float) -> str:
    return f"{_LEFT + share * (_RIGHT - _LEFT):.3f}%"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _cut(name: str) -> str:
    """Return as much of a segment's name as there is room for, isolated from the direction of the text around it."""
    name = _clean(name)
    widths = accumulate(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in name)
    shown = sum(width <= _NAME_WIDTH for width in widths)
    return f"\u2068{name if shown == len(name) else f'{name[: shown - 1]}…'}\u2069"


def _clean(text: str) -> str:
    """Return text without characters that XML forbids or that turn the direction of what follows."""
    return "".join(one if _is_shown(one) else "\ufffd" for one in text)


def _is_shown(one: str) -> bool:
    if one in "\n\t":
        return True
    is_override = one in "\u202a\u202b\u202d\u202e\u2066\u2067"
    return not is_override and unicodedata.category(one) not in {"Cc", "Cs", "Cn"} and one not in "\ufffe\uffff"
