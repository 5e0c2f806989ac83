"""Events as log records: the consumer that every client and receiver has.

Each kind of event has a logger, a level and a sentence. Its fields are in `extra` under stable keys: `moe_event` is its
name, and `moe_` with a field's name has that field, where it is not None. Moments are ISO 8601 texts there, so that
every value can be written as JSON.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.telemetry import events as told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_segments.telemetry.events import Event

__all__ = ["LOGGED", "LogConsumer", "extra_of"]

_TELL_AGAIN_S: Final = 60.0
_UNKNOWN_TIME: Final = "an unknown time"
_KEPT: Final = ("processed", "failed")  # outcomes of a callback that are no news beside the job's own
_MINUTE_S, _HOUR_S = 60, 3_600
Said: TypeAlias = tuple[str, tuple[object, ...]]  # a template and its values


def extra_of(event: Event) -> dict[str, object]:
    """Return an event's fields as the keys of a log record."""
    extra: dict[str, object] = {"moe_event": event.name}
    for name, key in _KEYS[type(event)]:
        value = getattr(event, name)
        if value is not None:
            extra[key] = value.isoformat() if isinstance(value, datetime) else value
    return extra


class LogConsumer:
    """The log of one client or receiver.

    What a stranger can cause as often as he likes, such as callbacks on unknown addresses, is logged once a minute.

    Args:
        is_alone: A receiver's own log, without a client in the process that tells how a job ended.
    """

    def __init__(self, *, is_alone: bool = False) -> None:
        self._is_alone = is_alone
        self._floods: dict[tuple[object, ...], _Flood] = {}

    def hears(self, kind: object) -> bool:
        """Return whether an event of this kind can be logged as logging is configured now."""
        logged = LOGGED.get(kind)  # type: ignore[call-overload]  # whatever is no kind of event is not in it
        return logged is not None and logged.logger.isEnabledFor(logged.most)

    def __call__(self, event: Event) -> None:
        """Log an event."""
        logged = LOGGED.get(type(event))
        if logged is None:
            return
        level = self._level_of(event, logged.level)
        if not logged.logger.isEnabledFor(level):
            return
        template, values = logged.said(event)
        if (key := _flood_key(event)) is not None:
            untold = self._floods.setdefault(key, _Flood()).untold(asyncio.get_running_loop().time())
            if untold is None:
                return
            if untold:
                template, values = f"{template}; %d more since the last such line", (*values, untold)
        logged.logger.log(level, template, *values, extra=extra_of(event))

    def _level_of(self, event: Event, usual: int) -> int:
        match event:
            case told.CallbackStored(outcome=outcome):
                if outcome in _KEPT:
                    return logging.INFO if self._is_alone else logging.DEBUG
                return logging.DEBUG if outcome == "repeated" else logging.WARNING
            case told.MembershipLag(lag_s=lag_s, max_age_s=max_age_s):
                return usual if max_age_s is None or lag_s <= max_age_s else logging.WARNING
            case told.Refused(status=429):  # told as throttled
                return logging.DEBUG
            case told.CallbackLost(cause="journal"):  # told of the journal
                return logging.DEBUG
            case _:
                return usual


@attrs.define
class _Flood:
    """A record that is logged once a minute.

    Attributes:
        next_s: When it may be logged again.
        missed: How often it was not since the last time.
    """

    next_s: float = float("-inf")
    missed: int = 0

    def untold(self, now_s: float) -> int | None:
        """Return how many were not logged since the last one; None when this one is not, either."""
        if now_s < self.next_s:
            self.missed += 1
            return None
        missed, self.missed, self.next_s = self.missed, 0, now_s + _TELL_AGAIN_S
        return missed


def _flood_key(event: Event) -> tuple[object, ...] | None:
    match event:
        case told.CallbackLost(status=status, cause=cause):
            return event.scope, status, cause
        case told.CallbackStored(outcome="surplus", job=job):
            return event.scope, job
        case _:
            return None


# Sentences


def _subject(event: told.OperationEvent) -> Said:
    what = event.operation.replace("_", " ")
    if event.job is None:
        return ("%s", (what,)) if event.segment is None else ("%s of %r", (what, event.segment))
    if event.segment is None:
        return "job %s: %s", (event.job, what)
    return "job %s: %s of %r", (event.job, what, event.segment)


def _of(event: told.OperationEvent, template: str, *values: object) -> Said:
    subject, first = _subject(event)
    return f"{subject} {template}", (*first, *(_one_line(value) for value in values))


def _one_line(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value


def _span(seconds: float | None) -> str:
    if seconds is None or seconds == float("inf"):
        return _UNKNOWN_TIME
    if seconds < _MINUTE_S:
        return f"{seconds:.3g} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    hours, rest = divmod(round(seconds / _MINUTE_S), 60)
    return f"{hours} h {rest} min"


def _utc(moment: datetime | None) -> str:
    return _UNKNOWN_TIME if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _waiting(event: Event) -> Said:
    assert isinstance(event, told.Waiting)
    if event.behind is not None:
        return _of(event, "waits for its segment, which job %s keeps busy", event.behind)
    what = event.limit or "those ahead of it"
    if event.starts_at is None:
        return _of(event, "waits for %s; nothing known says until when", what)
    return _of(event, "waits for %s; it will start at %s, in %s", what, _utc(event.starts_at), _span(event.wait_s))


def _throttled(event: Event) -> Said:
    assert isinstance(event, told.Throttled)
    return _of(
        event,
        "was answered HTTP 429 although the quota had room: something outside this journal uses it; %s is taken to be "
        "full until %s",
        event.limit or "the quota",
        _utc(event.ready_at),
    )


def _accepted(event: Event) -> Said:
    assert isinstance(event, told.Accepted)
    if event.adopted:
        return _of(event, "was accepted: its answer was lost, and the service lists its segment")
    return _of(event, "was accepted after %s", _span(event.took_s))


def _processed(event: Event) -> Said:
    assert isinstance(event, told.Processed)
    return _of(
        event,
        "was processed: %d rows found, %d usable, %d users matched; %s after its acceptance",
        event.values_found,
        event.values_processed,
        event.user_count,
        _span(event.took_s),
    )


def _failed(event: Event) -> Said:
    assert isinstance(event, told.Failed)
    return _of(event, "failed: %s; %s after its acceptance", event.reason, _span(event.took_s))


def _refused(event: Event) -> Said:
    assert isinstance(event, told.Refused)
    return _of(event, "was refused: %s", event.reason)


def _not_sent(event: Event) -> Said:
    assert isinstance(event, told.NotSent)
    return _of(event, "was not sent: %s", event.reason)


def _unknown(event: Event) -> Said:
    assert isinstance(event, told.Unknown)
    return _of(event, "may have worked, its outcome is unknown: %s", event.reason)


def _retried(event: Event) -> Said:
    assert isinstance(event, told.Retried)
    return _of(event, "is sent again after %s (%s)", _span(event.pause_s), event.reason)


def _attached(event: Event) -> Said:
    assert isinstance(event, told.Attached)
    return _of(event, "is not sent again: the journal knows it as %s", event.state)


def _reserved(event: Event) -> Said:
    assert isinstance(event, told.Reserved)
    return _of(event, "has its quota after %s, send %d", _span(event.waited_s), event.attempt)


def _submitted(event: Event) -> Said:
    assert isinstance(event, told.Submitted)
    return _of(event, "was submitted")


_OUTCOMES: Final[Mapping[str, str]] = {
    "processed": "a callback came: processed",
    "failed": "a callback came: failed",
    "repeated": "the same callback came again",
    "unparsed": "a callback came that cannot be read (%s); it is kept",
    "conflict": "another, different callback; it is kept, and the first one counts",
    "surplus": "too many different callbacks: no more of them are kept",
}


def _stored(event: Event) -> Said:
    assert isinstance(event, told.CallbackStored)
    template, values = _subject(event)
    text = _OUTCOMES.get(event.outcome, event.outcome)
    return f"{template}: {text}", (*values, _one_line(event.reason or "")) if "%s" in text else values


def _lost(event: Event) -> Said:
    assert isinstance(event, told.CallbackLost)
    return "a callback was answered %d: %s", (event.status, _one_line(event.reason))


def _journal_available(event: Event) -> Said:
    assert isinstance(event, told.JournalAvailable)
    return "the journal answers again after %s", (_span(event.away_s),)


def _lag(event: Event) -> Said:
    assert isinstance(event, told.MembershipLag)
    late = "" if event.max_age_s is None else f", at most {_span(event.max_age_s)} are allowed"
    return f"segment %r: %d changes wait to be applied, the oldest for %s{late}", (
        event.segment,
        event.pending,
        _span(event.lag_s),
    )


@attrs.frozen
class Logged:
    """How a kind of event is logged.

    Attributes:
        logger: Where to.
        level: The usual level.
        said: Returns the sentence, as a template and its values.
        most: The highest level that it may have.
    """

    logger: logging.Logger
    level: int
    said: Callable[[Event], Said]
    most: int


def _logged(logger: str, level: int, said: Callable[[Event], Said], most: int | None = None) -> Logged:
    return Logged(logging.getLogger(f"moe_segments.{logger}"), level, said, level if most is None else most)


# Each send is logged by `http.transport` with what came of it, and outages by `journal.local.outage`, once a minute.
LOGGED: Final[Mapping[type[Event], Logged]] = {
    told.Submitted: _logged("client", logging.DEBUG, _submitted),
    told.Waiting: _logged("governor", logging.INFO, _waiting),
    told.Reserved: _logged("governor", logging.DEBUG, _reserved),
    told.Throttled: _logged("client", logging.WARNING, _throttled),
    told.Retried: _logged("client", logging.INFO, _retried),
    told.Accepted: _logged("client", logging.INFO, _accepted),
    told.Refused: _logged("client", logging.INFO, _refused),
    told.NotSent: _logged("client", logging.INFO, _not_sent),
    told.Unknown: _logged("client", logging.WARNING, _unknown),
    told.Attached: _logged("client", logging.INFO, _attached),
    told.Processed: _logged("client", logging.INFO, _processed),
    told.Failed: _logged("client", logging.INFO, _failed),
    told.CallbackStored: _logged("receiver", logging.DEBUG, _stored, logging.WARNING),
    told.CallbackLost: _logged("receiver", logging.WARNING, _lost),
    told.JournalAvailable: _logged("journal", logging.INFO, _journal_available),
    told.MembershipLag: _logged("membership", logging.INFO, _lag, logging.WARNING),
}
_KEYS: Final = {kind: tuple((field.name, f"moe_{field.name}") for field in attrs.fields(kind)) for kind in told.KINDS}
