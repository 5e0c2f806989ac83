"""The page at `/`: what `overview` tells, as HTML rendered here, with its style and its script. Pure.

Each section is rendered whole; an open page is sent those that changed, as server-sent events. Everything that came
with a request is escaped where it enters the HTML, by `_text`, and nowhere else is text put into it.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_segments.sandbox.page.overview import Json

__all__ = ["SHOWN", "render_page", "render_sections"]

SHOWN: Final = 40  # rows of each table

_QUOTAS: Final = {
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
_ALWAYS_SHOWN: Final = 4  # quotas, the other ones once they are used
_NEARLY_FULL: Final = 0.8


def render_page(data: Json, nonce: str) -> str:
    """Return the whole page.

    Args:
        data: What `overview` returns.
        nonce: What the page's policy names its style and script by.
    """
    sections = "".join(
        f'<section id="{name}" aria-label="{name}">{inner}</section>' for name, inner in render_sections(data).items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>Sandbox</title><link rel="icon" href="data:,">'
        f'<style nonce="{nonce}">{_STYLE}</style></head><body>'
        '<header><h1>Segments sandbox</h1><p id="link" role="status" hidden>Not connected; trying again.</p></header>'
        f'<main>{sections}</main><script nonce="{nonce}">{_SCRIPT}</script></body></html>'
    )


def render_sections(data: Json) -> dict[str, str]:
    """Return the inside of each section, by its name."""
    totals = _object(data["totals"])
    time = _object(data["time"])
    return {
        "clock": f"{_text(_clock(time['now']))} UTC, {_number(time['speed']):g} times as fast",
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
    tiles = "".join(f"<li><b>{_count(value)}</b> {name}</li>" for name, value in figures)
    return f'<ul class="tiles">{tiles}</ul>'


def _controls(time: Json) -> str:
    """Apart from what changes every second: a button that is replaced while it is pressed is never clicked."""
    steps = (("+1 min", 60), ("+1 h", 3_600), ("+1 day", 86_400)) if time["is_settable"] else ()
    speed = _number(time["speed"])
    moves = "".join(f'<button data-advance="{step_s / speed!r}">{name}</button>' for name, step_s in steps)
    return f"{moves}<button data-reset>Reset</button>"


def _quotas(quotas: list[Json]) -> str:
    windows, (active,) = quotas[:-1], quotas[-1:]
    shown = [*windows[: _ALWAYS_SHOWN - 1], active]
    shown += [each for each in windows[_ALWAYS_SHOWN - 1 :] if each["used"]]
    return f'<ul class="quotas">{"".join(map(_quota, shown))}</ul>'


def _quota(quota: Json) -> str:
    used, capacity = int(_number(quota["used"])), int(_number(quota["capacity"]))
    part = min(1.0, used / capacity)
    level = "full" if used >= capacity else "high" if part >= _NEARLY_FULL else "fine"
    name = _QUOTAS.get(str(quota["limit"]), str(quota["limit"]).replace("_", " "))
    release = "" if quota["next_release_s"] is None else f"next release in {_span(_number(quota['next_release_s']))}"
    bar = (
        f'<svg class="bar {level}" role="img" aria-label="{used} of {capacity}"><rect width="100%" height="100%"/>'
        f'<rect class="used" width="{100 * part:.2f}%" height="100%"/></svg>'
    )
    return (
        f"<li><span>{_text(name)}</span><span><b>{used:,}</b> of {capacity:,}</span>{bar}"
        f"<small>{release or ('nothing used' if not used else 'until archived')}</small></li>"
    )


def _faults(faults: list[Json]) -> str:
    groups = []
    for on in ("requests", "callbacks"):
        items = "".join(_fault(each) for each in faults if each["on"] == on)
        groups.append(f'<h3>On {on}</h3><ul class="faults">{items}</ul>')
    return "".join(groups)


def _fault(fault: Json) -> str:
    kind, probability = _text(fault["kind"]), _number(fault["probability"])
    checked = " checked" if probability else ""
    likely = f"{100 * probability:g} %" if 0 < probability < 1 else ""
    queued = f"next {fault['queued']}" if fault["queued"] else ""
    name = kind.replace("_", " ")
    return (
        f'<li><label><input type="checkbox" role="switch" data-fault="{kind}"{checked}> {name}</label>'
        f'<small>{likely} {queued}</small><button data-once="{kind}" aria-label="{name}, once">once</button></li>'
    )


def _table(title: str, total: object, columns: Mapping[str, Callable[[Json], str]], rows: list[Json]) -> str:
    heading = f"<h2>{title} <small>{_count(total)}</small></h2>"
    if not rows:
        return f'{heading}<p class="none">None yet.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td data-name="{name}">{_boxed(cell(row))}</td>' for name, cell in columns.items()) + "</tr>"
        for row in rows
    )
    return f'{heading}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _boxed(inner: str) -> str:
    """Return one box for what is beside its name on a phone; nothing at all where there is nothing."""
    return inner and f"<span>{inner}</span>"


def _counts(row: Json) -> str:
    if row["state"] == "failed":
        return f"{_text(row['status'])}: {_text(row['error_message'])}"
    if row["state"] == "waiting":
        return "waiting"
    found, processed, matched = (_count(row[name]) for name in ("values_found", "values_processed", "user_count"))
    return f"{found} → {processed} → {matched}"


def _lasts(row: Json) -> str:
    if row["archived_at"] is not None:
        return f"archived {_clock(row['archived_at'])[5:]}"
    return "" if row["expires_in_s"] is None else f"expires in {_span(_number(row['expires_in_s']))}"


_SEGMENT_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Name": lambda row: f"<bdi>{_text(row['name'])}</bdi>",
    "State": lambda row: _badge(row["state"]),
    "Users": lambda row: _count(row["users"]) if row["users"] is not None else f"<i>{_text(row['description'])}</i>",
    "Lasts": lambda row: _text(_lasts(row)),
}
_OPERATION_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Operation": lambda row: _text(row["op"]),
    "Segment": lambda row: f"<bdi>{_text(row['segment'])}</bdi>",
    "State": lambda row: _badge(row["state"]),
    "Found → processed → matched": _counts,
    "Accepted": lambda row: _when(row["accepted_at"]),
}
_CALLBACK_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Segment": lambda row: f"<bdi>{_text(row['segment'])}</bdi>",
    "Answer": lambda row: _status(row["status"], row["problem"]),
    "Try": lambda row: _text(row["attempt"]),
    "Fault": lambda row: _fault_name(row["fault"]),
    "At": lambda row: _when(row["at"]),
}
_REQUEST_COLUMNS: Final[Mapping[str, Callable[[Json], str]]] = {
    "Request": lambda row: f"{_text(row['method'])} <bdi>{_text(row['path'])}</bdi>",
    "Answer": lambda row: _status(row["status"] or None, "dropped"),
    "Why": lambda row: _fault_name(row["fault"]) or _text(str(row["limit"] or "").replace("_", " ")),
    "At": lambda row: _when(row["at"]),
}


# Pieces


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _badge(state: object) -> str:
    return f'<span class="badge {_text(state)}">{_text(state)}</span>'


def _status(status: object, problem: object) -> str:
    shown = problem if status is None else status
    good = isinstance(status, int) and status < 400  # noqa: PLR2004 - errors begin there
    return f'<span class="badge {"processed" if good else "failed"}">{_text(shown)}</span>'


def _fault_name(fault: object) -> str:
    return "" if fault is None else _text(str(fault).replace("_", " "))


def _count(value: object) -> str:
    return f"{int(_number(value)):,}"


def _clock(moment: object) -> str:
    return str(moment).replace("T", " ").partition(".")[0]


def _when(moment: object) -> str:
    """Without its year, which a table has no room for."""
    return f'<time datetime="{_text(moment)}">{_text(_clock(moment)[5:])}</time>'


def _span(seconds: float) -> str:
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s" if seconds >= 10 else f"{max(seconds, 0):.1f} s"  # noqa: PLR2004 - one digit


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def _object(value: object) -> Json:
    assert isinstance(value, dict)
    return value


def _rows(value: object) -> list[Json]:
    assert isinstance(value, list)
    return value


_SCRIPT: Final = """
"use strict";
const post = (path, fields) => fetch("/_sandbox/" + path, {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(fields)});
addEventListener("click", ({target: {dataset}}) => {
  if (dataset.advance) post("time", {advance_s: Number(dataset.advance)});
  if (dataset.once) post("faults", {kind: dataset.once, times: 1});
  if ("reset" in dataset) post("reset", {});
});
addEventListener("change", ({target}) => {
  if (target.dataset.fault) post("faults", {kind: target.dataset.fault, probability: Number(target.checked)});
});
const keyOf = ({dataset: {fault, once}}) => fault ? `[data-fault=${fault}]` : once ? `[data-once=${once}]` : "";
const source = new EventSource("/_sandbox/events");
source.onmessage = ({data}) => {
  const focused = keyOf(document.activeElement);
  for (const [name, inner] of Object.entries(JSON.parse(data))) document.getElementById(name).innerHTML = inner;
  if (focused && document.activeElement === document.body) document.querySelector(focused)?.focus();
};
const link = document.getElementById("link");
source.onopen = () => { link.hidden = true; };
source.onerror = () => { link.hidden = false; };
"""

_STYLE: Final = """
:root { --ink: #1d2330; --soft: #5c6575; --line: #dde1e8; --page: #f5f6f8; --card: #fff; --fine: #2f7d62;
  --high: #b26a00; --full: #c0392b; --track: #e7eaef; --link: #2456b8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #9aa4b5; --line: #2c3442; --page: #12161d;
  --card: #1a202a; --fine: #4cb991; --high: #e0a040; --full: #ee6c5f; --track: #2a3240; --link: #8ab1ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header, main { max-width: 76rem; margin: 0 auto; padding: 0 1rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1rem; padding-top: 1rem; }
h1 { margin: 0; font-size: 1.35rem; }
h2 { margin: 0 0 .6rem; font-size: 1.05rem; }
h3 { margin: .8rem 0 .3rem; font-size: .8rem; color: var(--soft); font-weight: 600; }
h2 small, small, .none { color: var(--soft); font-weight: 400; font-size: .85rem; }
#link { margin: 0; color: var(--full); }
main { display: grid; grid-template-columns: minmax(0, 1fr) 19rem; gap: 1rem; padding-bottom: 2rem; }
section { grid-column: 1; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; }
#clock, #totals, #controls { grid-column: 1 / -1; background: none; border: 0; padding: 0; }
#clock { color: var(--soft); }
#faults { grid-column: 2; grid-row: 4 / span 5; align-self: start; }
ul { list-style: none; margin: 0; padding: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .6rem 1rem;
  color: var(--soft); }
.tiles b { display: block; color: var(--ink); font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.quotas { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem 1.5rem; }
.quotas li { display: grid; grid-template-columns: 1fr auto; gap: .2rem .5rem; font-variant-numeric: tabular-nums; }
.quotas small, .bar { grid-column: 1 / -1; }
.bar { width: 100%; height: .6rem; border-radius: .3rem; fill: var(--track); overflow: hidden; }
.bar.fine .used { fill: var(--fine); } .bar.high .used { fill: var(--high); } .bar.full .used { fill: var(--full); }
.scroll { overflow-x: auto; max-height: 24rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-size: .8rem; color: var(--soft); font-weight: 600; position: sticky; top: 0;
  background: var(--card); }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: break-word; }
th, time { white-space: nowrap; }
bdi { overflow-wrap: anywhere; min-width: 8.5rem; display: inline-block; }
td i { color: var(--soft); }
.badge { border-radius: 1rem; padding: 0 .55rem; border: 1px solid currentColor; font-size: .85rem;
  white-space: nowrap; }
.active, .processed { color: var(--fine); } .failed { color: var(--full); } .waiting { color: var(--high); }
.archived { color: var(--soft); }
.faults li { display: flex; align-items: center; gap: .5rem; padding: .15rem 0; }
.faults label { flex: 1; display: flex; align-items: center; cursor: pointer; }
input[role=switch] { appearance: none; width: 2.2rem; height: 1.2rem; border-radius: 1rem; background: var(--track);
  vertical-align: -.25rem; margin: 0 .4rem 0 0; position: relative; cursor: pointer; border: 1px solid var(--soft); }
input[role=switch]::after { content: ""; position: absolute; inset: 2px auto 2px 2px; width: .85rem; border-radius: 50%;
  background: var(--soft); }
input[role=switch]:checked { background: var(--full); border-color: var(--full); }
input[role=switch]:checked::after { inset: 2px 2px 2px auto; background: #fff; }
button { font: inherit; font-size: .85rem; color: var(--link); background: var(--card); cursor: pointer;
  border: 1px solid var(--line); border-radius: .4rem; padding: .2rem .6rem; margin-right: .4rem; }
.faults button { margin: 0; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 60rem) { main { grid-template-columns: minmax(0, 1fr); }
  #faults { grid-column: 1; grid-row: auto; } }
@media (max-width: 36rem) { .tiles { grid-template-columns: 1fr 1fr; } .scroll { max-height: 28rem; }
  thead { display: none; } tr { display: block; padding: .5rem 0;
  border-bottom: 1px solid var(--line); } td { display: flex; gap: .75rem; border: 0; padding: .1rem 0; }
  td:empty { display: none; } td > span { min-width: 0; }
  td::before { content: attr(data-name); color: var(--soft); font-size: .8rem; flex: 0 0 6.5rem; padding-top: .1rem; }
  .faults li { padding: .35rem 0; } button { padding: .4rem .8rem; } }
"""
