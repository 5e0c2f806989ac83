"""A folded state as JSON-ready data and back, for checkpoints. Pure: no clock, no I/O.

It holds facts, as the log does: entries with their `u`, holds with their bounds, so that a reader with other limits
counts them by its own windows.

Long lists lie apart, in parts of bounded length: JSON texts of `[name, items]`. Parts are made and read one by one, so
that whoever does it in an event loop can let it go on after each.
"""

from __future__ import annotations

import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.core.audiences import memberships
from moe_segments.core.audiences.gone import GoneSegments
from moe_segments.core.events import Checkpoint, Copying, ExternalUsage, Moved, Opened
from moe_segments.core.quota.active_segments import ActiveSegments
from moe_segments.core.quota.claims import Claims
from moe_segments.core.quota.ledger import CallRow, Ledger, Row
from moe_segments.core.quota.window import Hold, UsageHistory
from moe_segments.core.state.jobs import JobRecord, Jobs, Run
from moe_segments.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from moe_segments.core.state.folded import FoldedState

__all__ = ["checkpoint_of", "postponed", "restoring", "take"]

_FORMAT: Final = 3  # of the data; 2 had no parts, 1 was never published
_SINCE: Final = 3  # names that are used up, and claims of all who wait; before, names of jobs and claims for users
_PART: Final = 200  # items at most
_FEW: Final = 20  # of long items
_NAMES: Final = tuple(field.name for field in attrs.fields(JobRecord))
_DEFAULTS: Final = tuple(field.default for field in attrs.fields(JobRecord))
_VALUES: Final = attrgetter(*_NAMES)
# What this version reads, by the place in the data; anything else was written by a newer one.
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "checkpoint": frozenset(
        (
            *("format", "version", "now_us", "opened", "rejected_keys", "ledger", "jobs", "claims"),
            *("moved", "copying", "origins", "remembers", "parts"),
        )
    ),
    "ledger": frozenset(("entries", "calls", "rows", "active", "windows", "external", "quarantine")),
    "active": frozenset(("external", "full_until_us", "leases")),
    "row": frozenset(field.name for field in attrs.fields(CallRow)),
    "jobs": frozenset(("records", "tokens", "holders", "last_sent", "runs")),
    "job": frozenset(_NAMES),
    "run": frozenset(field.name for field in attrs.fields(Run)),
    "opened": frozenset(field.name for field in attrs.fields(Opened)),
    "moved": frozenset(field.name for field in attrs.fields(Moved)),
    "copying": frozenset(field.name for field in attrs.fields(Copying)),
}

_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


# Writing


def take(state: FoldedState) -> tuple[Mapping[str, object], Iterator[str]]:
    """Return *state* as data for `json.dumps`, and its parts, which are made one after another.

    What is folded into the state before the last part is made spoils them; the passing of time does not.
    """
    rows = [[row_id, _row(row)] for row_id, row in state.ledger.rows.items()]  # now, as the data shows their ends
    head = {
        "format": _FORMAT,
        "version": state.version,
        "now_us": state.now_us,
        "opened": attrs.asdict(state.opened) if state.opened else None,
        "rejected_keys": dict(state.rejected_keys),
        "ledger": _ledger(state.ledger),
        "claims": state.claims.taken(),
        "moved": attrs.asdict(state.moved) if state.moved else None,
        "copying": attrs.asdict(state.copying) if state.copying else None,
        "origins": dict(state.origins),
        "remembers": len(state.jobs.records),
    }
    return head, _parts(rows, state)


def checkpoint_of(head: Mapping[str, object], parts: Iterable[str]) -> Checkpoint:
    """Return the event that holds what `take` returned."""
    made = tuple(parts)
    return Checkpoint({**head, "parts": len(made)}, made)


def _parts(rows: Sequence[object], state: FoldedState) -> Iterator[str]:
    jobs = state.jobs
    yield from _sliced("rows", rows)
    yield from _sliced("records", list(jobs.records.values()), _record)
    yield from _sliced("tokens", [(token, *send) for token, send in jobs.tokens.items()])
    yield from _sliced("holders", list(jobs.holders.items()))
    yield from _sliced("last_sent", list(jobs.last_sent.items()))
    yield from _sliced("names", list(jobs.names.items()))
    yield from _sliced("runs", list(jobs.runs.values()), attrs.asdict, size=1)  # each with all its jobs
    yield from _sliced("memberships", memberships.taken(state.memberships), size=_FEW)
    yield from _sliced("workers", list(state.memberships.workers.items()))
    yield from _sliced("gone", state.gone.taken())


def _sliced(
    name: str, items: Sequence[Any], encoded: Callable[[Any], object] | None = None, *, size: int = _PART
) -> Iterator[str]:
    for begin in range(0, len(items), size):
        part = items[begin : begin + size]
        yield _ENCODE([name, part if encoded is None else [encoded(item) for item in part]])


def _ledger(ledger: Ledger) -> dict[str, object]:
    active = ledger.active
    return {
        "entries": [_entries(history) for history in ledger.histories],
        "calls": {pool.key: _entries(pool.history) for pool in ledger.distinct_pools},
        "active": {
            "external": active.external,
            "full_until_us": active.full_until_us,
            "leases": [
                [row, lease.name, lease.until_us, lease.confirmed, lease.cs_id] for row, lease in active.leases.items()
            ],
        },
        "windows": [
            [
                window.limit,
                window.throttled_until_us,
                window.probing,
                window.strikes,
                window.quarantined_until_us,
            ]
            for window in ledger.all_windows()
        ],
        "external": [attrs.astuple(usage) for usage in ledger.external],
        "quarantine": ledger.quarantine,
    }


def _entries(history: UsageHistory) -> list[list[int]]:
    sums = history.sums
    return [[u_us, sums[at + 1] - sums[at]] for at, u_us in enumerate(history.us)]


def _row(row: Row) -> dict[str, object]:
    kept: dict[str, object] = {
        "reserved_us": row.reserved_us,
        "operations": _hold(row.operations),
        "users": _hold(row.users),
        "archives": row.archives,
        "awaits_callback": row.awaits_callback,
        "life_us": row.life_us,
    }
    if isinstance(row, CallRow):
        kept["call"], kept["called"] = row.call, _hold(row.called)
    return kept


def _hold(hold: Hold | None) -> list[int | None] | None:
    return None if hold is None else [hold.weight, hold.bound_us, hold.doubt_us, hold.u_us]


def _record(record: JobRecord) -> dict[str, object]:
    values = zip(_NAMES, _VALUES(record), _DEFAULTS, strict=True)
    return {name: value for name, value, default in values if value is not default and value != default}


# Moving


def postponed(checkpoint: Checkpoint, by_us: int) -> Checkpoint:
    """Return *checkpoint* with every time later by *by_us*: it was stamped by a clock that is so much behind."""
    data: Mapping[str, Any] = checkpoint.state
    ledger, active = data["ledger"], data["ledger"]["active"]

    def later(value: int | None) -> int | None:
        return value and value + by_us  # None and 0 say that there is no such time

    def entries(of: list[list[int]]) -> list[list[int]]:
        return [[u_us + by_us, weight] for u_us, weight in of]

    state = {
        **data,
        "now_us": data["now_us"] + by_us,
        "claims": {"live": [], "passers": data["claims"]["passers"]},  # whoever waited there was told that it moved
        "ledger": {
            **ledger,
            "entries": [entries(of) for of in ledger["entries"]],
            "calls": {key: entries(of) for key, of in ledger["calls"].items()},
            "active": {
                **active,
                "full_until_us": later(active["full_until_us"]),
                "leases": [[row, name, later(until_us), *rest] for row, name, until_us, *rest in active["leases"]],
            },
            "windows": [
                [limit, later(throttled_us), probing, strikes, later(quarantined_us)]
                for limit, throttled_us, probing, strikes, quarantined_us in ledger["windows"]
            ],
            "external": [[*amounts, at_us + by_us] for *amounts, at_us in ledger["external"]],
        },
    }
    return Checkpoint(state, tuple(_part_postponed(part, by_us) for part in checkpoint.parts))


def _part_postponed(part: str, by_us: int) -> str:
    name, items = json.loads(part)
    match name:
        case "rows":
            for _, row in items:
                row["reserved_us"] += by_us
                for hold in (row["operations"], row["users"], row.get("called")):
                    if hold is not None:
                        hold[1:] = [None if time_us is None else time_us + by_us for time_us in hold[1:]]
        case "records":
            for record in items:
                record |= {key: record[key] + by_us for key in ("busy_until_us", "doubt_us") if record.get(key)}
        case _:
            pass  # the others have no times that are waited for
    return _ENCODE([name, items])


# Reading


def restoring(state: FoldedState, checkpoint: Checkpoint) -> Iterator[None]:
    """Make *state* what it was when *checkpoint* was taken, by this or an earlier version; in steps, the last at once.

    Raises:
        JournalError: A newer version wrote it.
        Exception: It is damaged.
    """
    data: Mapping[str, Any] = checkpoint.state
    written = data["format"]
    if written > _FORMAT:
        raise JournalError(
            f"the journal's checkpoint was written by a newer moe_segments (format {written}, this one knows "
            f"{_FORMAT}); upgrade moe_segments"
        )
    _refuse_unknown("checkpoint", data)
    if data.get("parts", 0) != len(checkpoint.parts):
        raise ValueError(f"{len(checkpoint.parts)} parts of {data.get('parts', 0)}")
    ledger, jobs = _ledger_from(state, data["ledger"]), Jobs(state.limits)
    held, gone = memberships.Memberships(), GoneSegments()
    for name, items in _items(checkpoint.parts, data):
        _restore_part(name, items, ledger, jobs, held, gone)
        yield
    if written < _SINCE:
        for record in jobs.records.values():
            jobs.learn_name(record)
    state.ledger, state.jobs, state.memberships, state.gone = ledger, jobs, held, gone
    state.version, state.now_us = data["version"], data["now_us"]
    state.opened = _made(Opened, "opened", data["opened"])
    state.rejected_keys = dict(data["rejected_keys"])
    state.claims = Claims()
    if written < _SINCE:
        state.claims.restore_old(data["claims"])
    else:
        state.claims.restore(data["claims"])
    state.moved = _made(Moved, "moved", data.get("moved"))
    state.copying = _made(Copying, "copying", data.get("copying"))
    state.origins = dict(data.get("origins", {}))


def _items(parts: Sequence[str], data: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield what lies in parts, or for the formats without any in the data."""
    for part in parts:
        name, items = json.loads(part)
        yield name, items
    jobs = data.get("jobs")
    if jobs is None:
        return
    _refuse_unknown("jobs", jobs)
    yield "rows", list(data["ledger"]["rows"].items())
    yield "records", jobs["records"]
    yield "tokens", [(token, *send) for token, send in jobs["tokens"].items()]
    yield "holders", list(jobs["holders"].items())
    yield "last_sent", list(jobs["last_sent"].items())
    yield "runs", jobs["runs"]


def _restore_part(
    name: str,
    items: Sequence[Any],
    ledger: Ledger,
    jobs: Jobs,
    held: memberships.Memberships,
    gone: GoneSegments,
) -> None:
    match name:
        case "rows":
            for row_id, fields in items:
                ledger.rows[row_id] = _row_from(ledger, fields)
        case "records":
            for record in map(_job_from, items):
                jobs.records[record.id] = record
                jobs.alias(record)
        case "tokens":
            jobs.tokens.update({token: (job, attempt) for token, job, attempt in items})
        case "holders" | "last_sent" | "names":
            getattr(jobs, name).update(items)
        case "runs":
            jobs.runs.update({run.id: run for run in map(_run_from, items)})
        case "gone":
            gone.restore(items)
        case _:
            _restore_memberships(name, items, held)


def _restore_memberships(name: str, items: Sequence[Any], held: memberships.Memberships) -> None:
    match name:
        case "memberships":
            memberships.restore(held, list(items))
        case "workers":
            held.workers.update({name: (owner, until_us) for name, (owner, until_us) in items})
        case _:
            raise _newer("checkpoint", [name])


def _ledger_from(state: FoldedState, data: Mapping[str, Any]) -> Ledger:
    _refuse_unknown("ledger", data)
    ledger = Ledger(state.limits)
    for history, entries in zip(ledger.histories, data["entries"], strict=True):
        for u_us, weight in entries:
            history.add(u_us, weight)
    _add_calls(ledger, data.get("calls", {}))
    ledger.active = _active_from(ledger.active.capacity, data["active"])
    for limit, throttled_us, probing, strikes, quarantined_us in data["windows"]:
        for window in ledger.all_windows():
            if window.limit == ledger.kept_as(limit):
                window.throttled_until_us, window.probing = throttled_us, probing
                window.strikes, window.quarantined_until_us = strikes, quarantined_us
    ledger.external = [ExternalUsage(*usage) for usage in data["external"]]
    ledger.quarantine = data["quarantine"]
    return ledger


def _row_from(ledger: Ledger, fields: Mapping[str, Any]) -> Row:
    _refuse_unknown("row", fields)
    values = {
        **fields,
        "operations": _hold_from(ledger.operations, fields["operations"]),
        "users": _hold_from(ledger.users, fields["users"]),
        "archives": fields["archives"] and tuple(fields["archives"]),
    }
    if "called" not in fields:
        return Row(**values)
    return CallRow(**values | {"called": _hold_from(ledger.pools[fields["call"]].history, fields["called"])})


def _add_calls(ledger: Ledger, calls: Mapping[str, list[list[int]]]) -> None:
    for key, entries in calls.items():
        # A pool that was shared counts in each of ours: nobody wrote down which call an entry was.
        for pool in dict.fromkeys(ledger.pools[call] for call in key.split("+")):
            for u_us, weight in entries:
                pool.history.add(u_us, weight)


def _hold_from(history: UsageHistory, fields: list[Any] | None) -> Hold | None:
    if fields is None:
        return None
    weight, bound_us, doubt_us, u_us = fields
    hold = Hold(weight, bound_us, bound_us - doubt_us)
    hold.u_us = u_us
    if u_us is None:
        history.hold(hold)
    return hold


def _active_from(capacity: int, data: Mapping[str, Any]) -> ActiveSegments:
    _refuse_unknown("active", data)
    active = ActiveSegments(capacity, external=data["external"], full_until_us=data["full_until_us"])
    for row, name, until_us, confirmed, cs_id in data["leases"]:
        active.take(row, name, cs_id, until_us, confirmed=confirmed)
    return active


def _job_from(fields: Mapping[str, Any]) -> JobRecord:
    _refuse_unknown("job", fields)
    record = JobRecord(**fields)
    record.keys, record.follows = tuple(record.keys), tuple(record.follows)
    return record


def _run_from(fields: Mapping[str, Any]) -> Run:
    _refuse_unknown("run", fields)
    return Run(**fields)


def _made(kind: Callable[..., Any], place: str, fields: Mapping[str, Any] | None) -> Any:
    if not fields:
        return None
    _refuse_unknown(place, fields)
    return kind(**fields)


def _refuse_unknown(place: str, fields: Mapping[str, object]) -> None:
    if not fields.keys() <= _KNOWN[place]:
        raise _newer(place, fields.keys() - _KNOWN[place])


def _newer(place: str, names: Iterable[str]) -> JournalError:
    shown = ", ".join(repr(name) for name in sorted(names))
    return JournalError(
        f"the journal's checkpoint has {shown} in a {place!r}, which this version does not know: upgrade moe_segments"
    )
