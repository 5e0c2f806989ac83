"""The page at `/`: what `overview` tells, as HTML rendered here. Pure.

Each section is rendered whole; an open page is sent those that changed, as server-sent events. What came with a request
is put into the HTML by `moe_segments.page.pieces` alone, which escapes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from moe_segments.page.document import Look
from moe_segments.page.gauge import Gauge, bar, label_of
from moe_segments.page.pieces import badge, count, name, span, table, text, utc_time, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_segments.sandbox.page.overview import Json

__all__ = ["LOOK", "SHOWN", "render_sections"]

SHOWN: Final = 40  # rows of each table
_HERE: Final = Path(__file__).parent
LOOK: Final = Look(
    title="Sandbox",
    header="<h1>Segments sandbox</h1>",
    events="/_sandbox/events",
    files=(_HERE / "sandbox.css", _HERE / "sandbox.js"),
)
_ALWAYS_SHOWN: Final = 4  # quotas, the other ones once they are used
_GOOD_BELOW: Final = 400


def render_sections(data: Json) -> dict[str, str]:
    """Return the inside of each section, by its name."""
    totals = _object(data["totals"])
    time = _object(data["time"])
    return {
        "clock": f"{text(_clock(time['now']))} UTC, {_number(time['speed']):g} times as fast",
        "totals": _totals(totals),
        "controls": _controls(time),
        "quotas": "<h2>Quotas</h2>" + _quotas(_rows(data["quotas"])),
        "segments": _table("Segments", totals["segments"], _SEGMENT_COLUMNS, _rows(data["segments"])),
        "operations": _table("Operations", totals["operations"], _OPERATION_COLUMNS, _rows(data["operations"])),
        "callbacks": _table("Callbacks", totals["callback_tries"], _CALLBACK_COLUMNS, _rows(data["callbacks"])),
        "requests": _table("Requests", totals["requests"], _REQUEST_COLUMNS, _rows(data["requests"])),
        "faults": "<h2>Faults</h2>" + _faults(_rows(data["faults"])),
    }


# Sections


def _totals(totals: Json) -> str:
    figures = (
        ("active segments", totals["active_segments"]),
        ("operations unfinished", totals["unfinished_operations"]),
        ("callbacks delivered", totals["callbacks_delivered"]),
        ("answered 429", totals["rejections"]),
    )
    tiles = "".join(f"<li><b>{count(value)}</b> {label}</li>" for label, value in figures)
    return f'<ul class="tiles">{tiles}</ul>'


def _controls(time: Json) -> str:
    """Render the controls, apart from what changes every second: a button replaced while it is pressed does nothing."""
    steps = (("+1 min", 60), ("+1 h", 3_600), ("+1 day", 86_400)) if time["is_settable"] else ()
    speed = _number(time["speed"])
    moves = "".join(f'<button data-advance="{step_s / speed!r}">{label}</button>' for label, step_s in steps)
    return f"{moves}<button data-reset>Reset</button>"


def _quotas(quotas: list[Json]) -> str:
    windows, (active,) = quotas[:-1], quotas[-1:]
    shown = [*windows[: _ALWAYS_SHOWN - 1], active]
    shown += [each for each in windows[_ALWAYS_SHOWN - 1 :] if each["used"]]
    return f'<ul class="quotas">{"".join(map(_quota, shown))}</ul>'


def _quota(quota: Json) -> str:
    used, capacity = int(_number(quota["used"])), int(_number(quota["capacity"]))
    gauge = Gauge(limit=str(quota["limit"]), used=used, capacity=capacity)
    release = "" if quota["next_release_s"] is None else f"next release in {span(_number(quota['next_release_s']))}"
    return (
        f"<li><span>{text(label_of(gauge.limit))}</span><span><b>{used:,}</b> of {capacity:,}</span>{bar(gauge)}"
        f"<small>{release or ('nothing used' if not used else 'until archived')}</small></li>"
    )


def _faults(faults: list[Json]) -> str:
    groups = []
    for on in ("requests", "callbacks"):
        items = "".join(_fault(each) for each in faults if each["on"] == on)
        groups.append(f'<h3>On {on}</h3><ul class="faults">{items}</ul>')
    return "".join(groups)


def _fault(fault: Json) -> str:
    kind, probability = text(fault["kind"]), _number(fault["probability"])
    checked = " checked" if probability else ""
    likely = f"{100 * probability:g} %" if 0 < probability < 1 else ""
    queued = f"next {fault['queued']}" if fault["queued"] else ""
    said = words(kind)
    return (
        f'<li><label><input type="checkbox" role="switch" data-fault="{kind}" data-key="fault {kind}"{checked}> {said}'
        f"</label><small>{likely} {queued}</small>"
        f'<button data-once="{kind}" data-key="once {kind}" aria-label="{said}, once">once</button></li>'
    )


def _table(title: str, total: object, columns: Mapping[str, Callable[[Json], str]], rows: list[Json]) -> str:
    heading = f"<h2>{title} <small>{count(total)}</small></h2>"
    if not rows:
        return f'{heading}<p class="none">None yet.</p>'
    return heading + table(columns, rows, label=title)


def _counts(row: Json) -> str:
    if row["state"] == "failed":
        return f"{text(row['status'])}: {text(row['error_message'])}"
    if row["state"] == "waiting":
        return "waiting"
    found, processed, matched = (count(row[field]) for field in ("values_found", "values_processed", "user_count"))
    return f"{found} → {processed} → {matched}"


def _lasts(row: Json) -> str:
    if row["archived_at"] is not None:
        return f"archived {_clock(row['archived_at'])[5:]}"
    return "" if row["expires_in_s"] is None else f"expires in {span(_number(row['expires_in_s']))}"


_SEGMENT_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Name": lambda row: name(row["name"]),
    "State": lambda row: badge(row["state"]),
    "Users": lambda row: count(row["users"]) if row["users"] is not None else f"<i>{text(row['description'])}</i>",
    "Lasts": lambda row: text(_lasts(row)),
}
_OPERATION_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Operation": lambda row: text(row["op"]),
    "Segment": lambda row: name(row["segment"]),
    "State": lambda row: badge(row["state"]),
    "Found → processed → matched": _counts,
    "Accepted": lambda row: utc_time(row["accepted_at"]),
}
_CALLBACK_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Segment": lambda row: name(row["segment"]),
    "Answer": lambda row: _status(row["status"], row["problem"]),
    "Try": lambda row: text(row["attempt"]),
    "Fault": lambda row: _fault_name(row["fault"]),
    "At": lambda row: utc_time(row["at"]),
}
_REQUEST_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Request": lambda row: f"{text(row['method'])} {name(row['path'])}",
    "Answer": lambda row: _status(row["status"] or None, "dropped"),
    "Why": lambda row: _fault_name(row["fault"]) or words(row["limit"] or ""),
    "At": lambda row: utc_time(row["at"]),
}


# Pieces


def _status(status: object, problem: object) -> str:
    shown = problem if status is None else status
    good = isinstance(status, int) and status < _GOOD_BELOW
    return f'<span class="badge {"processed" if good else "failed"}">{text(shown)}</span>'


def _fault_name(fault: object) -> str:
    return "" if fault is None else words(fault)


def _clock(moment: object) -> str:
    return str(moment).replace("T", " ").partition(".")[0]


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def _object(value: object) -> Json:
    assert isinstance(value, dict)
    return value


def _rows(value: object) -> list[Json]:
    assert isinstance(value, list)
    return value
