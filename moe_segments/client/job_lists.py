"""The calls that list what the journal knows: jobs and bulk runs. `SegmentsClient` has them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import attrs

from moe_segments.errors import InputError
from moe_segments.governor.usage import at
from moe_segments.limits import is_whole
from moe_segments.models import JobState
from moe_segments.submission.job_info import JobInfo, RunInfo, has_ended, info_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from datetime import datetime

    from moe_segments.core.state.jobs import JobRecord, Jobs, Run
    from moe_segments.governor.governor import Governor
    from moe_segments.journal.replica import Replica

__all__ = ["JobCalls"]

T = TypeVar("T")
_SECOND_US: Final = 1_000_000
_AT_ONCE: Final = 200  # values, after which the event loop has its turn
_STATES: Final = tuple(state for name, state in vars(JobState).items() if name.isupper() and isinstance(state, str))


class _Client(Protocol):
    """The part of the client that these calls need."""

    _replica: Replica
    governor: Governor

    def _check_usable(self) -> None: ...

    def _state_of(self, record: JobRecord) -> str: ...


class JobCalls:
    """The calls that list jobs and runs."""

    def jobs(
        self: _Client,
        *,
        state: str | Iterable[str] | None = None,
        segment: str | None = None,
        run: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[JobInfo]:
        """List the jobs that the journal knows, in the order in which they came. Filters hold together.

        ```python
        async for job in client.jobs(state=(JobState.FAILED, JobState.UNKNOWN), since=yesterday):
            print(job.segment, job.error)
        ```

        The journal is read first, so the jobs of other processes are there too. Jobs that ended more than 90 days ago
        are forgotten.

        Args:
            state: One of `JobState`, or several; None for all.
            segment: The name of their segment, or its identifier; None for all.
            run: The bulk run they belong to; None for all.
            since: Aware. Jobs that got into their state then or later; None for all.
            limit: At most so many, the last ones; None for all.

        Yields:
            What the journal knows of each job.

        Raises:
            InputError: A filter cannot be used: there is no such state, *since* has no zone, *limit* is below 1.
            JournalError: The journal cannot be read. Raised by the iteration.
        """
        self._check_usable()
        shift_us = self.governor.shift_us()
        since_us = _since_us(since) - shift_us
        wanted = _Wanted(states=_states(state), segment=segment, run=run, since_us=since_us, shift_us=shift_us)
        return _jobs(self._replica, self._state_of, wanted, _checked_limit(limit))

    def runs(
        self: _Client, *, run: str | None = None, since: datetime | None = None, limit: int | None = None
    ) -> AsyncIterator[RunInfo]:
        """List the bulk runs that the journal knows, in the order in which they began. The journal is read first.

        Args:
            run: The identifier of one run; None for all.
            since: Aware. Runs that began then or later; None for all.
            limit: At most so many, the last ones; None for all.

        Yields:
            What the journal knows of each run.

        Raises:
            InputError: A filter cannot be used.
            JournalError: The journal cannot be read. Raised by the iteration.
        """
        self._check_usable()
        shift_us = self.governor.shift_us()
        wanted = _Wanted(states=None, segment=None, run=run, since_us=_since_us(since) - shift_us, shift_us=shift_us)
        return _runs(self._replica, self._state_of, wanted, _checked_limit(limit))


@attrs.frozen(kw_only=True)
class _Wanted:
    """Which jobs are asked for."""

    states: frozenset[str] | None
    segment: str | None
    run: str | None
    since_us: int
    shift_us: int

    def select(self, jobs: Jobs, state_of: Callable[[JobRecord], str]) -> list[JobRecord]:
        """Return the jobs that fit, in order."""
        keys = None if self.segment is None else frozenset(jobs.known_as((self.segment, f"id:{self.segment}")))
        return [
            record
            for record in jobs.records.values()
            if self.run in (None, record.run)
            and record.since_us >= self.since_us
            and (keys is None or not keys.isdisjoint(_keys_of(record)))
            and self.has_state(state_of(record))
        ]

    def has_state(self, state: str) -> bool:
        """Return whether a job of this state is asked for."""
        return self.states is None or state in self.states


async def _jobs(
    replica: Replica, state_of: Callable[[JobRecord], str], wanted: _Wanted, limit: int | None
) -> AsyncIterator[JobInfo]:
    await replica.refresh()
    selected = _last(wanted.select(replica.state.jobs, state_of), limit)
    for number, record in enumerate(selected, start=1):
        state = state_of(record)
        if wanted.has_state(state):  # it may have changed while the earlier ones were looked at
            yield info_of(record, state, wanted.shift_us)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


async def _runs(
    replica: Replica, state_of: Callable[[JobRecord], str], wanted: _Wanted, limit: int | None
) -> AsyncIterator[RunInfo]:
    await replica.refresh()
    jobs = replica.state.jobs
    selected = [one for one in jobs.runs.values() if wanted.run in (None, one.id) and one.started_us >= wanted.since_us]
    for one in _last(selected, limit):
        yield _run_info(one, jobs, state_of, wanted.shift_us)
        await asyncio.sleep(0)


def _run_info(run: Run, jobs: Jobs, state_of: Callable[[JobRecord], str], shift_us: int) -> RunInfo:
    known = [(record, state_of(record)) for job in run.jobs if (record := jobs.records.get(job)) is not None]
    return RunInfo(
        id=run.id,
        manifest=run.manifest,
        total=run.total,
        started=at(run.started_us + shift_us),
        counts=Counter(state for _, state in known),
        ended=sum(has_ended(record, state) for record, state in known),
    )


def _keys_of(record: JobRecord) -> set[str]:
    """Return what the job's segment is called: its name, and its identifiers."""
    name, cs_id = record.operation.get("name"), record.operation.get("cs_id")
    told_id = (record.accepted or {}).get("cs_id")
    return {str(name), f"id:{cs_id}", f"id:{told_id}"}


def _last(found: Sequence[T], limit: int | None) -> Sequence[T]:
    return found if limit is None else found[-limit:]


def _states(state: str | Iterable[str] | None) -> frozenset[str] | None:
    if state is None:
        return None
    states = frozenset((state,) if isinstance(state, str) else state)
    for one in states:
        if one not in _STATES:
            raise InputError(f"{one!r} is no state of a job; there are {', '.join(_STATES)}", "state")
    return states


def _since_us(since: datetime | None) -> int:
    if since is None:
        return 0
    if getattr(since, "tzinfo", None) is None:  # a date has none either
        raise InputError(f"must be a moment with a time zone, not {since!r}", "since")
    return round(since.timestamp() * _SECOND_US)


def _checked_limit(limit: int | None) -> int | None:
    if limit is not None and not is_whole(limit, 1):
        raise InputError(f"must be a whole number from 1, not {limit!r}", "limit")
    return limit
