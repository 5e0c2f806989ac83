"""The log of a journal, event by event: a sentence for people, data for programs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import attrs

from moe_segments.core import events as facts
from moe_segments.journal.tools.migrate import existing_journal
from moe_segments.journal.tools.replay import whole_log
from moe_segments.models import JobState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from moe_segments.core.events import Batch, Event

__all__ = ["LogEntry", "entries_of", "read_log"]

_SECOND_US: Final = 1_000_000
_WATCH_S: Final = 60.0


@attrs.frozen(kw_only=True)
class LogEntry:
    """One event of a journal.

    Attributes:
        version: The place of its batch in the log.
        at: When it became durable, by the journal's clock, aware UTC.
        at_us: The same, microseconds since the epoch.
        batch: The identifier of its batch, whose events became durable together.
        event: What kind of event it is.
        text: What happened, for people.
        fields: The event's fields; none for a checkpoint.
    """

    version: int
    at: datetime
    at_us: int
    batch: str
    event: str
    text: str
    fields: Mapping[str, object] = attrs.field(hash=False)


async def read_log(
    url: str, scope: str, *, since: datetime | None = None, follow: bool = False
) -> AsyncIterator[LogEntry]:
    """Read the events that a journal keeps, oldest first. Changes nothing.

    Args:
        url: The journal's URL.
        scope: What shares one quota: workspace and data center.
        since: Aware; events from then on. None for all.
        follow: Go on with events as they come, without end.

    Raises:
        InputError: There is no such journal, or it lasts no longer than its process.
        JournalError: It cannot be read.
    """
    since_us = 0 if since is None else round(since.timestamp() * _SECOND_US)
    async with existing_journal(url, scope) as journal:
        batches = await whole_log(journal)
        for entry in entries_of(batch for batch in batches if batch.at_us >= since_us):
            yield entry
        version = batches[-1].version
        while follow:
            if await journal.changed(version, _WATCH_S):
                later = await journal.read(version)
                for entry in entries_of(later):
                    yield entry
                version = later[-1].version if later else version


def entries_of(batches: Iterable[Batch]) -> Iterator[LogEntry]:
    """Yield the events of *batches*, each with its sentence."""
    for batch in batches:
        for event in batch.events:
            yield LogEntry(
                version=batch.version,
                at=_moment_of(batch.at_us),
                at_us=batch.at_us,
                batch=batch.id,
                event=event.name,
                text=_SAY[type(event)](event),
                fields={} if isinstance(event, facts.Checkpoint) else attrs.asdict(event),
            )


def _moment_of(at_us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)


def _send(event: Any) -> str:  # any event about one send
    return f"{event.job}" if event.attempt == 1 else f"{event.job}, send {event.attempt}"


def _operation(fields: Mapping[str, object]) -> str:
    return f"{fields.get('op')} {fields.get('name')!r}"


def _spends(event: facts.Reserved | facts.Claimed) -> str:
    parts = [
        f"{amount:,} {unit}"
        for amount, unit in ((event.operations, "operation"), (event.rows, "users"), (event.segments, "segment"))
        if amount
    ]
    return ", ".join(parts) or "no quota"


def _reserved(event: facts.Reserved) -> str:
    doubled = "; an earlier send of it may have worked" if event.duplicate_possible else ""
    return f"{_send(event)}: {_operation(event.operation)}, {_spends(event)}{doubled}"


def _answered(event: facts.Answered) -> str:
    if event.accepted is not None:
        cs_id = event.accepted.get("cs_id")
        what = f"accepted as {cs_id}" if cs_id else "accepted"
    else:
        what = f"refused: {event.error.get('title')}" if event.error else f"unreadable: {event.problem}"
    return f"{_send(event)}: {event.status}, {what}{'' if event.spends else ', its operation is given back'}"


def _callback(event: facts.CallbackReceived) -> str:
    found = "" if event.values_found is None else f", {event.values_found:,} values found"
    reason = event.body.get("error_message") or event.body.get("reason")
    outcome = JobState.UNREADABLE if event.outcome == "unparsed" else event.outcome
    return f"{_send(event)}: {outcome}{found}{f': {reason}' if reason else ''}"


def _unknown(event: facts.Unknown) -> str:
    return f"{_send(event)}: {f'{event.status}, ' if event.status else ''}{event.reason}"


def _planned(event: facts.Planned) -> str:
    where = f", line {event.line} of run {event.run}" if event.run else ""
    return f"{event.job}: {_operation(event.operation)}{where}"


def _throttled(event: facts.Throttled) -> str:
    probe = ", then one at a time" if event.probe else ""
    job = f" (job {event.job})" if event.job else ""
    return f"{event.limit} is full until {_moment_of(event.until_us):%Y-%m-%d %H:%M:%S} UTC{probe}{job}"


def _checkpoint(event: facts.Checkpoint) -> str:
    jobs: Any = event.state.get("jobs", {})  # JSON
    remembers = event.state.get("remembers", len(jobs.get("records", ())))
    return f"stands for everything before, {remembers} jobs"


_SAY: Final[Mapping[type[Event], Callable[[Any], str]]] = {
    facts.Opened: lambda event: f"{event.origin}, speed {event.scale:g}",
    facts.Quarantined: lambda event: f"every window is taken for full: {event.reason}",
    facts.Trusted: lambda event: f"what is known is all there was: {event.reason}",
    facts.RunStarted: lambda event: f"{event.run}: {event.manifest}, {event.total} operations",
    facts.Planned: _planned,
    facts.Reserved: _reserved,
    facts.NeverSent: lambda event: f"{_send(event)}: {event.reason}; everything is given back",
    facts.Answered: _answered,
    facts.Unknown: _unknown,
    facts.OwnerGone: lambda event: f"{_send(event)}: the process that was sending it is gone",
    facts.Adopted: lambda event: f"{_send(event)}: found in the service's list as {event.cs_id}",
    facts.CallbackReceived: _callback,
    facts.Throttled: _throttled,
    facts.ExternalUsage: lambda event: f"{event.operations:,} operations and {event.rows:,} users of others",
    facts.ActiveObserved: lambda event: f"{event.count:,} active segments, says the {event.source}",
    facts.KeyRejected: lambda event: f"key {event.fingerprint[:8]} was answered {event.status}",
    facts.KeyAccepted: lambda event: f"key {event.fingerprint[:8]} works again",
    facts.Claimed: lambda event: f"{event.job} waits for {_spends(event)}",
    facts.ClaimsRenewed: lambda event: f"{event.waiter} still waits",
    facts.SyncHeld: lambda event: f"{len(event.segments):,} audiences are being synced",
    facts.SyncReleased: lambda event: f"{len(event.segments):,} audiences are not being synced any more",
    facts.MembershipPlanned: lambda event: f"{event.segment}: {len(event.steps)} sends, generation {event.generation}",
    facts.MembershipForgotten: lambda event: f"{event.segment}: its members are unknown",
    facts.AudienceSynced: lambda event: f"{event.segment}: the sync has ended",
    facts.Unclaimed: lambda event: f"{event.job} waits no more",
    facts.Moved: lambda event: f"goes on at {event.to}",
    facts.Stayed: lambda _: "goes on here after all",
    facts.Copying: lambda event: f"from {event.place}",
    facts.Copied: lambda event: f"all of it; ends are postponed by {event.postponed_us / _SECOND_US:g} s",
    facts.Checkpoint: _checkpoint,
}
