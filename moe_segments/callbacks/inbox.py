"""The inbox of `CallbackReceiver`: find the send of a token, read on for new ones, append callbacks.

The first readable callback of a job is always written. Of what comes on top, unparsed or different, only so much is
kept per token, so that a leaked address cannot fill the disk; the same body twice is one callback. No secret of the
exchange is kept: a callback that repeats its own address is kept without the token.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import CallbackReceived
from moe_segments.core.wire.callbacks import Unparsed, decode_callback, unsigned
from moe_segments.core.wire.redaction import MASK
from moe_segments.models import FileFailed, FileProcessed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.state.jobs import JobRecord, Jobs
    from moe_segments.core.wire.redaction import Redactor
    from moe_segments.journal.replica import Replica

__all__ = ["Inbox", "Refreshes", "callback_event", "lookup", "names_of", "refused_event"]

MAX_SURPLUS: Final = 20
_NOBODY: Final = "0" * 64  # compared with when a token is unknown, so that it costs the same
_NAMES: Final = {
    kind: tuple(field.name for field in attrs.fields(kind) if field.name != "extra")
    for kind in (FileProcessed, FileFailed)
}
_UNPARSED: Final = "unparsed"
_REPEATED: Final = "repeated"
_FOREIGN: Final = ("request_id", "db_name", "error_message")  # texts that anything may be in


def lookup(replica: Replica | None, token_sha256: str) -> tuple[JobRecord, int] | None:
    """Return the job and the send that a token was made for."""
    jobs = replica.state.jobs if replica is not None else None
    send = jobs.tokens.get(token_sha256) if jobs is not None else None
    is_known = hmac.compare_digest(token_sha256, _NOBODY if send is None else token_sha256)
    if jobs is None or send is None or not is_known:
        return None
    record = jobs.records.get(send[0])
    return None if record is None else (record, send[1])


class Inbox:
    """Writes callbacks down: the first one of a job always, of what comes on top only so much."""

    def __init__(self) -> None:
        self._first: set[str] = set()  # jobs whose first readable callback is being written
        self._surplus: dict[str, _Surplus] = {}  # by token digest

    async def take(self, replica: Replica, token_sha256: str, record: JobRecord, event: CallbackReceived) -> str:
        """Make a callback durable, unless it is there already. Returns its outcome, see `events.CallbackStored`.

        Raises:
            JournalError: It may or may not be durable.
        """
        if event.digest == record.digest:
            return _REPEATED
        is_readable = event.outcome != _UNPARSED
        if is_readable and record.digest is None and record.id not in self._first:
            await self._take_first(replica, event)
            return event.outcome
        surplus = self._surplus.setdefault(token_sha256, _Surplus())
        return await self._take_surplus(replica, event, surplus, record.conflicts)

    async def _take_first(self, replica: Replica, event: CallbackReceived) -> None:
        self._first.add(event.job)
        try:
            await replica.record(event)
        finally:
            self._first.discard(event.job)

    async def _take_surplus(self, replica: Replica, event: CallbackReceived, surplus: _Surplus, conflicts: int) -> str:
        if event.digest in surplus.stored:
            return _REPEATED
        if max(surplus.begun, conflicts) >= MAX_SURPLUS:
            return "surplus"
        surplus.begun += 1
        try:
            await replica.record(event)
        except BaseException:
            surplus.begun -= 1
            raise
        surplus.stored.add(event.digest)
        return _UNPARSED if event.outcome == _UNPARSED else "conflict"


@attrs.define
class _Surplus:
    """The unparsed and conflicting bodies of one token.

    Attributes:
        begun: How many were written or are being written.
        stored: The digests of those that are durable.
    """

    begun: int = 0
    stored: set[str] = attrs.field(factory=set)


class Refreshes:
    """Reads what other processes wrote, at most one read in *interval_s*; who waits for one shares it."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._not_before_s = -math.inf
        self._waiting: dict[Replica, asyncio.Future[None]] = {}
        self._running: asyncio.Task[None] | None = None

    async def one(self, replica: Replica) -> None:
        """Return after a read that began after this call.

        Raises:
            JournalError: The journal cannot be read.
        """
        loop = asyncio.get_running_loop()
        if replica not in self._waiting:
            self._waiting[replica] = loop.create_future()
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run())
        await asyncio.shield(self._waiting[replica])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(self._not_before_s - loop.time())
            self._not_before_s = loop.time() + self._interval_s
            replica = next(iter(self._waiting))
            await _refresh(replica, self._waiting.pop(replica))


async def _refresh(replica: Replica, told: asyncio.Future[None]) -> None:
    try:
        await replica.refresh()
    except Exception as error:  # noqa: BLE001 - handed to each who waits
        told.set_exception(error)
        told.exception()  # seen, also when everybody who waited has gone
    else:
        told.set_result(None)


def callback_event(
    record: JobRecord, attempt: int, body: bytes, names: Sequence[str], redactor: Redactor
) -> CallbackReceived:
    """Return what a callback says, as the journal keeps it.

    Args:
        record: The job it is about.
        attempt: The send it is about.
        body: Its bytes.
        names: What the job's segment may be called; empty: anything.
        redactor: Takes out what nobody is to read.
    """
    digest, verdict = hashlib.sha256(body).hexdigest(), decode_callback(body, names)
    if isinstance(verdict, Unparsed):
        raw = redactor.text(unsigned(body).decode("utf-8", "replace"))
        return CallbackReceived(record.id, attempt, digest, _UNPARSED, {"reason": verdict.reason, "raw": raw})
    outcome = "processed" if isinstance(verdict, FileProcessed) else "failed"
    values_found = verdict.values_found if isinstance(verdict, FileProcessed) else None
    return CallbackReceived(record.id, attempt, digest, outcome, _fields(verdict, redactor), values_found)


def refused_event(record: JobRecord, attempt: int, reason: str) -> CallbackReceived:
    """Return that a callback came whose body was not read, and why."""
    digest = hashlib.sha256(reason.encode()).hexdigest()
    return CallbackReceived(record.id, attempt, digest, _UNPARSED, {"reason": reason, "raw": ""})


def names_of(jobs: Jobs, record: JobRecord) -> tuple[str, ...]:
    """Return what the segment of a job may be called: as it was asked for, as the service answered, as it is known."""
    cs_id = (record.accepted or {}).get("cs_id") or record.operation.get("cs_id")
    names = (record.operation.get("name"), (record.accepted or {}).get("cs_name"), jobs.aliases.get(f"id:{cs_id}"))
    return tuple(dict.fromkeys(str(name) for name in names if name))


def _fields(verdict: FileProcessed | FileFailed, redactor: Redactor) -> dict[str, object]:
    fields = {name: getattr(verdict, name) for name in _NAMES[type(verdict)]}
    for name in _FOREIGN:
        if fields.get(name):
            fields[name] = redactor.text(str(fields[name]))
    if not verdict.extra:
        return fields
    extra = redactor.value(verdict.extra)
    return fields | {"extra": extra if isinstance(extra, dict) else {MASK: MASK}}
