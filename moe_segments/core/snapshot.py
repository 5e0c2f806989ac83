"""A folded state as JSON-ready data and back, for checkpoints. Pure: no clock, no I/O.

It holds facts, as the log does: entries with their `u`, holds with their bounds, so that a reader with other limits
counts them by its own windows.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.core.claims import Claims
from moe_segments.core.events import Copying, ExternalUsage, Moved, Opened, row_of
from moe_segments.core.gauge import ActiveSegments
from moe_segments.core.jobs import JobRecord, Jobs, Run
from moe_segments.core.ledger import CallRow, Ledger, Row
from moe_segments.core.tape import Hold, Tape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.state import WorkspaceState

__all__ = ["restore", "take"]

_FORMAT: Final = 3  # of the data; 1 had no number, 2 knew of claims for users only
_CLAIMS_OF_ALL: Final = 3
_NAMES: Final = tuple(field.name for field in attrs.fields(JobRecord))
_DEFAULTS: Final = tuple(field.default for field in attrs.fields(JobRecord))
_VALUES: Final = attrgetter(*_NAMES)


def take(state: WorkspaceState) -> Mapping[str, object]:
    """The state as data for `json.dumps`."""
    return {
        "format": _FORMAT,
        "version": state.version,
        "now_us": state.now_us,
        "opened": attrs.asdict(state.opened) if state.opened else None,
        "rejected_keys": dict(state.rejected_keys),
        "ledger": _ledger(state.ledger),
        "jobs": _jobs(state.jobs),
        "claims": state.claims.taken(),
        "moved": attrs.asdict(state.moved) if state.moved else None,
        "copying": attrs.asdict(state.copying) if state.copying else None,
        "origins": dict(state.origins),
    }


def restore(state: WorkspaceState, data: Mapping[str, Any]) -> None:
    """Make *state* what it was when `take` made *data*, now or in an earlier version of this package."""
    if "format" not in data:
        data = _from_first_format(data)
    state.ledger, state.jobs = _ledger_from(state, data["ledger"]), _jobs_from(state, data["jobs"])
    state.version, state.now_us = data["version"], data["now_us"]
    state.opened = Opened(**data["opened"]) if data["opened"] else None
    state.rejected_keys = dict(data["rejected_keys"])
    state.claims = Claims()
    if data.get("format", 1) < _CLAIMS_OF_ALL:
        state.claims.restore_old(data.get("claims", {}))
    else:
        state.claims.restore(data["claims"])
    moved, copying = data.get("moved"), data.get("copying")
    state.moved = Moved(**moved) if moved else None
    state.copying = Copying(**copying) if copying else None
    state.origins = dict(data.get("origins", {}))


def _from_first_format(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """As 0.1.0 wrote it: rows named `job/attempt`, with their segment's name; no identifiers of segments."""
    ledger = data["ledger"]
    rows = {}
    for row_id, fields in ledger["rows"].items():
        kept = {field: value for field, value in fields.items() if field not in ("name", "lease_us")}
        kept["archives"] = (fields["name"], None) if fields["archives"] else None
        rows[_row_from_first_format(row_id)] = kept
    leases = [[_row_from_first_format(row_id), *lease, None] for row_id, *lease in ledger["active"]["leases"]]
    return {**data, "ledger": {**ledger, "rows": rows, "active": {**ledger["active"], "leases": leases}}}


def _row_from_first_format(row_id: str) -> str:
    job, _, attempt = row_id.rpartition("/")
    return row_of(job, int(attempt))


def _ledger(ledger: Ledger) -> dict[str, object]:
    active = ledger.active
    return {
        "entries": [_entries(tape) for tape in ledger.tapes],
        "calls": {pool.key: _entries(pool.tape) for pool in ledger.distinct_pools},
        "rows": {row_id: _row(row) for row_id, row in ledger.rows.items()},
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


def _entries(tape: Tape) -> list[list[int]]:
    sums = tape.sums
    return [[u_us, sums[at + 1] - sums[at]] for at, u_us in enumerate(tape.us)]


def _row(row: Row) -> dict[str, object]:
    holds = {"operations": _hold(row.operations), "users": _hold(row.users)}
    if isinstance(row, CallRow):
        holds["called"] = _hold(row.called)
    return attrs.asdict(row, filter=lambda field, _: field.name not in holds) | holds


def _hold(hold: Hold | None) -> list[int | None] | None:
    return None if hold is None else [hold.weight, hold.bound_us, hold.doubt_us, hold.u_us]


def _ledger_from(state: WorkspaceState, data: Mapping[str, Any]) -> Ledger:
    ledger = Ledger(state.limits)
    for tape, entries in zip(ledger.tapes, data["entries"], strict=True):
        for u_us, weight in entries:
            tape.add(u_us, weight)
    _add_calls(ledger, data.get("calls", {}))
    for row_id, fields in data["rows"].items():
        ledger.rows[row_id] = _row_from(ledger, fields)
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
    values = {
        **fields,
        "operations": _hold_from(ledger.operations, fields["operations"]),
        "users": _hold_from(ledger.users, fields["users"]),
        "archives": fields["archives"] and tuple(fields["archives"]),
    }
    if "called" not in fields:
        return Row(**values)
    return CallRow(**values | {"called": _hold_from(ledger.pools[fields["call"]].tape, fields["called"])})


def _add_calls(ledger: Ledger, calls: Mapping[str, list[list[int]]]) -> None:
    for key, entries in calls.items():
        # A pool that was shared counts in each of ours: nobody wrote down which call an entry was.
        for pool in dict.fromkeys(ledger.pools[call] for call in key.split("+")):
            for u_us, weight in entries:
                pool.tape.add(u_us, weight)


def _hold_from(tape: Tape, fields: list[Any] | None) -> Hold | None:
    if fields is None:
        return None
    weight, bound_us, doubt_us, u_us = fields
    hold = Hold(weight, bound_us, bound_us - doubt_us)
    hold.u_us = u_us
    if u_us is None:
        tape.hold(hold)
    return hold


def _active_from(capacity: int, data: Mapping[str, Any]) -> ActiveSegments:
    active = ActiveSegments(capacity, external=data["external"], full_until_us=data["full_until_us"])
    for row, name, until_us, confirmed, cs_id in data["leases"]:
        active.take(row, name, cs_id, until_us, confirmed=confirmed)
    return active


def _jobs(jobs: Jobs) -> dict[str, object]:
    return {
        "records": [_record(record) for record in jobs.records.values()],
        "tokens": dict(jobs.tokens),  # in memory it is kept as it is, and these go on changing
        "holders": dict(jobs.holders),
        "last_sent": dict(jobs.last_sent),
        "runs": [attrs.asdict(run) for run in jobs.runs.values()],
    }


def _record(record: JobRecord) -> dict[str, object]:
    values = zip(_NAMES, _VALUES(record), _DEFAULTS, strict=True)
    return {name: value for name, value, default in values if value is not default and value != default}


def _jobs_from(state: WorkspaceState, data: Mapping[str, Any]) -> Jobs:
    jobs = Jobs(state.limits)
    for fields in data["records"]:
        record = JobRecord(**fields)
        record.keys = tuple(record.keys)
        jobs.records[record.id] = record
        jobs.alias(record)
    jobs.tokens = {token: (job, attempt) for token, (job, attempt) in data["tokens"].items()}
    jobs.holders, jobs.last_sent = dict(data["holders"]), dict(data["last_sent"])
    jobs.runs = {fields["id"]: Run(**fields) for fields in data["runs"]}
    return jobs
