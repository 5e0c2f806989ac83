"""Sync audiences: read, compare, choose, announce, send, and say what became of it.

Before anything is sent, a snapshot of the members to come is on the disk and the journal knows its digest. It becomes
what the segment holds when the callback says *processed*. So a sync that is killed anywhere is simply called again:
what was sent meanwhile is waited for, what was not is compared anew.
"""

from __future__ import annotations

import asyncio
import logging
import math
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from moe_segments.audiences.audience import (
    Audience,
    AudienceReport,
    PlannedAudience,
    SyncPlan,
    SyncReport,
    checked_audiences,
)
from moe_segments.audiences.comparison import Comparison, compare, members_after, read_source
from moe_segments.audiences.lease import Lease
from moe_segments.audiences.parts import Holds, Send, holds_after, operation_of, options_of, sends_of, steps_of
from moe_segments.audiences.presence import is_there
from moe_segments.audiences.snapshots.format import SnapshotAltered
from moe_segments.audiences.sorted_file import SortedFile
from moe_segments.core.audiences.choice import Option, candidates, check_guards, to_try
from moe_segments.core.audiences.streams import merged
from moe_segments.core.events import AudienceSynced, MembershipPlanned
from moe_segments.errors import (
    InputError,
    MoeSegmentsError,
    NoUsersMatched,
    OutcomeUnknown,
    PreflightError,
    SegmentBusy,
)
from moe_segments.files.stream import in_thread
from moe_segments.governor.usage import at
from moe_segments.models import FileProcessed, JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from moe_segments.audiences.protocol import Changes, Client, Outcome
    from moe_segments.audiences.snapshots.format import Snapshots
    from moe_segments.core.audiences.memberships import Held, Step
    from moe_segments.core.audiences.streams import Block
    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal.replica import Replica

__all__ = ["plan_sync", "sync"]

_AT_ONCE: Final = 4  # sources read at a time, for the memory and the disk
_POLL_S, _LONGEST_POLL_S = 1.0, 60.0  # between two looks whether another host is done
_POLL_SHARE: Final = 1 / 60  # of the wait so far: another host may work for days
_SECOND_US: Final = 1_000_000
_DAY_S: Final = 86_400
_UNCONFIRMED: Final = (
    "something else changed the segment meanwhile, or a file was read in part: the next sync replaces it"
)
_SENT_IN_PART: Final = "{done} of {all} operations went through: the next sync goes on from there"
_NO_RECEIVER: Final = "no callback can come, so the members stay unknown: every sync replaces them; give callbacks="
_log = logging.getLogger("moe_segments.audiences")
T = TypeVar("T")


async def sync(
    client: Client,
    audiences: Iterable[Audience],
    *,
    replica: Replica,
    snapshots: Snapshots | None,
    max_wait_s: float = math.inf,
    changes: Changes | None = None,
    on_report: Callable[[AudienceReport], None] = lambda _: None,
) -> SyncReport:
    """Bring segments to the members they should have. See `SegmentsClient.sync`."""
    checked = checked_audiences(audiences)
    await replica.refresh()
    working = _Sync(client, replica, snapshots, max_wait_s, changes, on_report)
    async with working.lease.kept():
        names = [audience.name for audience in checked]
        taken = await working.lease.take(names)
        is_free = {name: name in taken and working.holder(name) is None for name in names}
        now = [audience for audience in checked if is_free[audience.name]]
        later = [audience for audience in checked if not is_free[audience.name]]
        done = await _all_of([working.turn(now), *(working.turn_once_free(audience) for audience in later)])
    reports = {report.name: report for group in done for report in group}
    return SyncReport(tuple(reports[name] for name in names))


async def plan_sync(
    client: Client, audiences: Iterable[Audience], *, replica: Replica, snapshots: Snapshots | None
) -> SyncPlan:
    """Say what a sync would do, and when. See `SegmentsClient.plan_sync`."""
    checked = checked_audiences(audiences)
    await replica.refresh()
    working = _Sync(client, replica, snapshots, math.inf)
    compared = await working.compared(checked)
    try:
        ready = _by_priority(one for one in compared if isinstance(one, Comparison))
        options = await working.chosen(ready)
        operations = [
            operation_of(comparison.audience, op, users, comparison.given.path)
            for comparison, option in zip(ready, options, strict=True)
            for op, users in option.operations
        ]
        plan = await client.governor.plan(operations)
    finally:
        _remove_files(compared)
    chosen = {comparison.audience.name: option for comparison, option in zip(ready, options, strict=True)}
    return SyncPlan(
        audiences=tuple(
            _planned(one, chosen[one.audience.name])
            if isinstance(one, Comparison)
            else PlannedAudience(name=one.name, error=one.error)
            for one in compared
        ),
        plan=plan,
    )


class _Sync:
    """One sync at work.

    Args:
        client: Sends, plans and looks up.
        replica: The journal.
        snapshots: Where they are; None: members stay unknown.
        max_wait_s: Longest wait of each operation, seconds.
        changes: Membership changes that it overtakes; None where there are none.
        on_report: Is told of each audience once it has ended.
    """

    def __init__(
        self,
        client: Client,
        replica: Replica,
        snapshots: Snapshots | None,
        max_wait_s: float,
        changes: Changes | None = None,
        on_report: Callable[[AudienceReport], None] = lambda _: None,
    ) -> None:
        self._client, self._replica, self._max_wait_s, self._changes = client, replica, max_wait_s, changes
        self._on_report, self._snapshots = on_report, snapshots
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._deadline_s = asyncio.get_running_loop().time() + max_wait_s
        self.lease = Lease(replica)

    # Waiting for others

    def holder(self, name: str) -> SegmentBusy | None:
        """Return which job keeps a segment busy; None when it is free."""
        now_us = self._replica.now_us()
        record = self._replica.state.jobs.holder((name,), now_us)
        if record is None:
            return None
        wait_s = (record.busy_until_us - now_us) / _SECOND_US
        return SegmentBusy(name, record.id, at(record.busy_until_us), wait_s)

    async def turn_once_free(self, audience: Audience) -> list[AudienceReport]:
        """Sync one audience once nobody else works on its segment."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while audience.name not in await self.lease.take([audience.name]):
            if self._left_s() <= 0:
                error = InputError(
                    f"{audience.name!r} is being synced by another process: try again later", "audiences"
                )
                return [self._told(AudienceReport(name=audience.name, status="busy", error=error))]
            poll_s = max(_POLL_S, (loop.time() - began_s) * _POLL_SHARE)
            await asyncio.sleep(min(poll_s, _LONGEST_POLL_S, self._left_s()))
            await self._replica.refresh()
        while (busy := self.holder(audience.name)) is not None:
            if self._left_s() <= 0:
                return [self._told(AudienceReport(name=audience.name, status="busy", error=busy))]
            try:
                async with asyncio.timeout(max(0.001, min(busy.wait_s, self._left_s()))):
                    await self._replica.job_changed(busy.job_id)
            except TimeoutError:
                pass
        return await self.turn([audience])

    def _told(self, report: AudienceReport) -> AudienceReport:
        self._on_report(report)
        return report

    def _left_s(self) -> float:
        return self._deadline_s - asyncio.get_running_loop().time()

    # The way of some audiences together

    async def turn(self, audiences: Sequence[Audience]) -> list[AudienceReport]:
        """Sync audiences whose segments are free. What is chosen for one takes all others into account."""
        compared = await self.compared(audiences)
        try:
            ready = _by_priority(one for one in compared if isinstance(one, Comparison))
            options = await self.chosen(ready)
            refused = [self._told(one) for one in compared if isinstance(one, AudienceReport)]
            done = list[asyncio.Task[AudienceReport]]()
            pairs = zip(ready, options, strict=True)
            for _, group in groupby(pairs, key=lambda pair: pair[0].audience.priority):
                sent = [(asyncio.Event(), *pair) for pair in group]
                done += [asyncio.create_task(self._carried_out(*each)) for each in sent]
                for all_sent, _, _ in sent:
                    await all_sent.wait()
            try:
                return [*refused, *await asyncio.gather(*done)]
            finally:
                for task in done:
                    task.cancel()
                await asyncio.gather(*done, return_exceptions=True)  # they use the files
        finally:
            _remove_files(compared)

    async def compared(self, audiences: Sequence[Audience]) -> list[Comparison | AudienceReport]:
        """Read all sources and compare them. A source that cannot be used is a report, and stops no other."""

        async def one(audience: Audience) -> Comparison | AudienceReport:
            try:
                async with self._room:
                    done.append(await self._compared(audience))
                    return done[-1]
            except MoeSegmentsError as error:
                return AudienceReport(name=audience.name, status="refused", error=error)

        done = list[Comparison]()
        try:
            return await _all_of(map(one, audiences))
        except BaseException:
            _remove_files(done)
            raise

    async def _compared(self, audience: Audience) -> Comparison:
        max_wait_s = max(0.0, self._left_s())
        exists = await is_there(self._client, self._replica.state, audience.name, max_wait_s=max_wait_s)
        if self._changes is not None:
            await self._changes.mark(audience.name)
        given = await read_source(audience, self._client.limits)
        try:
            comparison = await self._compared_with(audience, given, exists=exists)
            try:
                check_guards(comparison.sizes, audience.guards)
                _check_expiry(comparison)
                comparison.options = await in_thread(options_of, comparison, self._client.limits)
            except BaseException:
                comparison.remove_files()
                raise
        except BaseException:
            given.remove()
            raise
        return comparison

    async def _compared_with(self, audience: Audience, given: Any, *, exists: bool) -> Comparison:
        membership = self._replica.state.memberships.of.get(audience.name)
        held, last = self._held(audience), None if membership is None else membership.held
        facts: dict[str, Any] = {"exists": exists, "last_held": None if last is None else last.size}
        if held is not None:
            try:
                return await in_thread(lambda: compare(audience, given, held, self._blocks(audience, held), **facts))
            except SnapshotAltered as error:
                _log.warning("%s: %s; all its members are sent again", audience.name, error)
        return await in_thread(lambda: compare(audience, given, None, (), **facts))

    def _held(self, audience: Audience) -> Held | None:
        """Return what a segment holds; None where it is unknown, or is to be sent in full again."""
        state = self._replica.state
        held = state.memberships.known(audience.name, state.jobs)
        if held is None or self._snapshots is None:
            return None
        kind = {"attribute_name": audience.attribute_name, "attribute_type": audience.attribute_type}
        if not state.memberships.is_matched_by(held, state.jobs, **kind):
            return None
        if audience.full_every_days is not None and held.before is None:  # else all are being sent, in parts
            every_us = audience.full_every_days * _DAY_S * _SECOND_US / self._client.limits.scale
            if self._replica.now_us() - held.full_us >= every_us:
                return None
        return held

    def _blocks(self, audience: Audience, held: Held) -> Iterable[Block]:
        assert self._snapshots is not None  # else nothing is held
        streams = [self._snapshots.read(audience.name, digest) for digest in held.holds]
        return streams[0] if len(streams) == 1 else merged(streams)

    async def chosen(self, comparisons: Sequence[Comparison]) -> tuple[Option, ...]:
        """Choose for all together: what ends first, then what spends fewer users, then fewer operations."""
        combinations = list(candidates([comparison.options for comparison in comparisons]))
        if len(combinations) == 1:
            return combinations[0]
        scores: dict[int, tuple[float, int, int]] = {}
        while numbers := to_try(len(combinations), scores):
            for number in numbers:
                scores[number] = await self._score(comparisons, combinations[number])
        return combinations[min(scores, key=lambda number: (scores[number], number))]

    async def _score(self, comparisons: Sequence[Comparison], combination: Sequence[Option]) -> tuple[float, int, int]:
        operations = [
            operation_of(comparison.audience, op, users, comparison.given.path)
            for comparison, option in zip(comparisons, combination, strict=True)
            for op, users in option.operations
        ]
        plan = await self._client.governor.plan(operations)
        ends_s = max((start.wait_s for start in plan), default=0.0)
        return round(ends_s) if ends_s < math.inf else ends_s, sum(each.users for each in combination), len(operations)

    # The way of one audience

    async def _carried_out(self, all_sent: asyncio.Event, comparison: Comparison, option: Option) -> AudienceReport:
        try:
            return self._told(await self._synced(comparison, option, all_sent))
        except MoeSegmentsError as error:
            return self._told(AudienceReport(name=comparison.audience.name, status="failed", error=error))
        finally:
            all_sent.set()

    async def _synced(self, comparison: Comparison, option: Option, all_sent: asyncio.Event) -> AudienceReport:
        report = _begun(comparison, option, self._last_match_rate(comparison.audience.name))
        if option.operations:
            sends = sends_of(comparison, option)
            steps = await self._announced(comparison, sends)
            report = await self._sent(comparison, sends, steps, report, all_sent)
        if self._changes is not None and report.ok:
            await self._changes.delete(report.name, comparison.audience.mode, comparison.given.blocks())
        await self._replica.record(AudienceSynced(comparison.audience.name, _facts_of(report, comparison.audience)))
        await self._clear(comparison.audience.name)
        return report

    def _last_match_rate(self, name: str) -> float | None:
        membership = self._replica.state.memberships.of.get(name)
        for past in reversed(membership.history if membership else []):
            if past.get("processed"):
                return float(past["matched"] / past["processed"])
        return None

    async def _announced(self, comparison: Comparison, sends: Sequence[Send]) -> tuple[Step, ...]:
        """Write the snapshots of the members to come and announce the sends to the journal.

        Raises:
            InputError: The segment was changed since it was compared, or is being synced by another process.
            JournalError: It cannot be announced.
        """
        name, held = comparison.audience.name, comparison.held
        after = await self._written(comparison, sends)

        def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], tuple[Step, ...] | None]:
            membership = state.memberships.of.get(name)
            is_same = held is None or state.memberships.known(name, state.jobs) == held
            if not is_same or state.memberships.worker(name, now_us) != self.lease.owner:
                return (), None
            generation = 1 + (membership.generation if membership is not None else 0)
            steps = steps_of(comparison, sends, after, generation)
            fields = tuple(attrs.asdict(step) for step in steps)
            return (MembershipPlanned(self.lease.owner, name, generation, fields),), steps

        steps = await self._replica.ask(question)
        if steps is None or set(self._replica.state.memberships.of[name].steps) != {step.job for step in steps}:
            raise InputError(
                f"{name!r} was changed by somebody else meanwhile: nothing was sent, sync again", "audiences"
            )
        return steps

    async def _written(self, comparison: Comparison, sends: Sequence[Send]) -> Sequence[Holds]:
        """Write snapshots of the members after each send. Returns none where they stay unknown."""
        audience, held, snapshots = comparison.audience, comparison.held, self._snapshots
        is_known = held is not None or audience.mode == "mirror" or not comparison.sizes.exists
        if snapshots is None or not is_known:
            return [Holds((), 0)] * len(sends)

        def write() -> Sequence[Holds]:
            blocks = () if held is None else self._blocks(audience, held)
            digest, size = snapshots.write(audience.name, members_after(comparison, blocks))
            now = Holds((), 0) if held is None or sends[0].is_full else Holds(held.holds, held.size)
            return holds_after(
                sends, now, Holds((digest,), size), lambda send: snapshots.write(audience.name, send.blocks())[0]
            )

        try:
            return await in_thread(write)
        except SnapshotAltered as error:  # since it was compared
            raise InputError(f"{error}, as of now: nothing was sent; sync again", "snapshots") from None
        except (InputError, PreflightError) as error:
            told = error.problem if isinstance(error, InputError) else str(error)
            raise InputError(f"{told}: nothing was sent", "snapshots") from None

    async def _sent(
        self,
        comparison: Comparison,
        sends: Sequence[Send],
        steps: Sequence[Step],
        report: AudienceReport,
        all_sent: asyncio.Event,
    ) -> AudienceReport:
        """Send one operation after another; the next one only once the one before is processed."""
        name, results = comparison.audience.name, list[FileProcessed]()
        for number, (send, step) in enumerate(zip(sends, steps, strict=True)):
            is_sent = all_sent if step is steps[-1] else asyncio.Event()
            outcome = await self._outcome(step.job, comparison.audience, send, is_sent)
            result, error = outcome.result, outcome.error
            if isinstance(result, FileProcessed):
                results.append(result)
            elif isinstance(error, NoUsersMatched):
                report = attrs.evolve(report, warnings=(*report.warnings, str(error)))
            elif error is not None:
                status = "unknown" if isinstance(error, OutcomeUnknown) else "failed"
                done = (_SENT_IN_PART.format(done=number, all=len(sends)),) if number else ()
                return _counted(
                    attrs.evolve(report, status=status, error=error, warnings=(*report.warnings, *done)), results
                )
            else:
                report = attrs.evolve(report, status="accepted")
        report = _counted(report, results)
        state = self._replica.state
        held = state.memberships.known(name, state.jobs)
        if report.status == "accepted":
            return attrs.evolve(report, warnings=(*report.warnings, _NO_RECEIVER))
        if steps[-1].holds and (held is None or held.job != steps[-1].job):
            return attrs.evolve(report, status="unknown", warnings=(*report.warnings, _UNCONFIRMED))
        return report

    async def _outcome(self, job: str, audience: Audience, send: Send, is_sent: asyncio.Event) -> Outcome:
        part = SortedFile(f"a part of {send.source.name}") if send.is_part else None
        telling = asyncio.create_task(self._tell_once_sent(job, is_sent))
        try:
            if part is not None:
                await in_thread(send.copy_to, part)
            operation = operation_of(audience, send.op, send.rows, (part or send.source).path)
            # The source was checked as a whole. What is odd about a difference alone is no error.
            outcomes = self._client.submit_many({job: operation}, max_wait_s=max(0.0, self._left_s()), preflight="off")
            (outcome,) = [outcome async for outcome in outcomes]
            return outcome
        finally:
            telling.cancel()
            if part is not None:
                part.remove()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell_once_sent(self, job: str, is_sent: asyncio.Event) -> None:
        """Set an event when quota is held for a job, after which no lower priority can delay it."""
        while (record := self._replica.state.jobs.records.get(job)) is None or record.state == JobState.PLANNED:
            await self._replica.job_changed(job)
        is_sent.set()

    async def _clear(self, name: str) -> None:
        """Delete the snapshots of a segment that the journal does not know any more."""
        membership = self._replica.state.memberships.of.get(name)
        if self._snapshots is None or membership is None:
            return
        kept = {digest for step in membership.steps.values() for digest in step.holds}
        kept |= set(membership.held.holds if membership.held is not None else ())
        await in_thread(self._snapshots.keep_only, name, kept)


async def _all_of(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do works at the same time. When one raises the others are cancelled, and all have ended on return."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _by_priority(comparisons: Iterable[Comparison]) -> list[Comparison]:
    return sorted(comparisons, key=lambda comparison: -comparison.audience.priority)


def _check_expiry(comparison: Comparison) -> None:
    audience = comparison.audience
    if not comparison.sizes.exists and audience.expiry_time is None:
        raise InputError(f"{audience.name!r} does not exist: its creation needs it", "expiry_time")


def _remove_files(compared: Iterable[Comparison | AudienceReport]) -> None:
    for one in compared:
        if isinstance(one, Comparison):
            one.remove_files()


def _numbers(comparison: Comparison, option: Option) -> dict[str, Any]:
    """Return what an option does to the members, as far as that is known."""
    is_known = comparison.held is not None
    is_removal = comparison.audience.mode == "remove"
    sent = 0 if is_known or not option.operations else comparison.given.count
    return {
        "added": comparison.added.count if is_known else 0 if is_removal else sent,
        "removed": comparison.removed.count if is_known else sent if is_removal else 0,
        "unchanged": comparison.unchanged,
        "operations": tuple(op for op, _ in option.operations),
        "users": option.users,
    }


def _planned(comparison: Comparison, option: Option) -> PlannedAudience:
    return PlannedAudience(name=comparison.audience.name, **_numbers(comparison, option))


def _begun(comparison: Comparison, option: Option, last_match_rate: float | None) -> AudienceReport:
    return AudienceReport(
        name=comparison.audience.name,
        status="synced" if option.operations else "unchanged",
        last_match_rate=last_match_rate,
        **_numbers(comparison, option),
    )


def _counted(report: AudienceReport, results: Sequence[FileProcessed]) -> AudienceReport:
    if not results:
        return report
    return attrs.evolve(
        report,
        found=sum(result.values_found for result in results),
        processed=sum(result.values_processed for result in results),
        matched=sum(result.user_count for result in results),
    )


def _facts_of(report: AudienceReport, audience: Audience) -> dict[str, object]:
    """Return what the journal keeps of a report."""
    fields = ("status", "added", "removed", "unchanged", "operations", "users", "found", "processed", "matched")
    facts = {field: getattr(report, field) for field in fields}
    return {**facts, "operations": list(report.operations), "full_every_days": audience.full_every_days}
