"""Verify a whole log: gaps, clocks that ran backwards, names used twice.

The checkpoint is compared with what is still there of what it stands for: a job that was reserved in a batch that is
kept must be in the checkpoint as those batches leave it, and its operation must be counted.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import Checkpoint, decode, encode
from moe_segments.core.state.checkpoint import checkpoint_of, take
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.errors import JournalError
from moe_segments.journal.tools.migrate import existing_journal
from moe_segments.journal.tools.replay import folded, limits_of, parts_of
from moe_segments.limits import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from moe_segments.core.events import Batch
    from moe_segments.journal.protocol import Journal


__all__ = ["CheckReport", "check", "check_journal"]

_SAME: Final = ("state", "since_us", "attempt", "status", "digest", "result")


@attrs.frozen(kw_only=True)
class CheckReport:
    """The result of verifying a log.

    Attributes:
        journal_id: Its identity.
        batches: How many are kept.
        first: The oldest version that is kept; 0 when nothing can be read.
        last: The newest.
        checkpoint: The version up to which a checkpoint stands for what is gone; None when nothing is gone.
        jobs: How many are remembered.
        moved_to: Where it goes on instead; None when it goes on here.
        copied_from: Where what is here comes from, as long as not all of it is; None otherwise.
        problems: What is wrong, a sentence each; empty when nothing is.
    """

    journal_id: str
    batches: int = 0
    first: int = 0
    last: int = 0
    checkpoint: int | None = None
    jobs: int = 0
    moved_to: str | None = None
    copied_from: str | None = None
    problems: Sequence[str] = ()


async def check(url: str, scope: str) -> CheckReport:
    """Read a whole log and look for what is wrong with it. Changes nothing.

    Raises:
        InputError: There is no such journal, or it lasts no longer than its process.
        JournalError: It cannot be opened.
    """
    async with existing_journal(url, scope) as journal:
        return await check_journal(journal)


async def check_journal(journal: Journal) -> CheckReport:
    """Read an open log to its end and check it; changes nothing."""
    doubts = [journal.doubt] if journal.doubt else []
    try:
        covered, stand_in, rest = await parts_of(journal)
    except JournalError as error:
        return CheckReport(journal_id=journal.journal_id, problems=[*doubts, str(error)])
    kept = [*covered, *rest]
    problems = [*doubts, *_of_versions(covered, stand_in, rest), *_of_times_and_ids(covered, stand_in, rest)]
    state, problem = _folded([*covered, *([stand_in] if stand_in else []), *rest])
    if problem is not None:
        problems.append(problem)
    if stand_in is not None:
        problems += _of_checkpoint(covered, stand_in)
    return CheckReport(
        journal_id=journal.journal_id,
        batches=len(kept),
        first=kept[0].version if kept else 0,
        last=kept[-1].version if kept else 0,
        checkpoint=stand_in.version if stand_in else None,
        jobs=len(state.jobs.records),
        moved_to=state.moved.to if state.moved else None,
        copied_from=state.copying.place if state.copying else None,
        problems=problems,
    )


def _of_versions(covered: Sequence[Batch], stand_in: Batch | None, rest: Sequence[Batch]) -> Iterator[str]:
    kept = [*covered, *rest]
    if kept and stand_in is None and kept[0].version != 1:
        yield f"the log begins with version {kept[0].version}, and no checkpoint stands for those before"
    for earlier, later in itertools.pairwise(kept):
        if later.version > earlier.version + 1:
            yield f"between version {earlier.version} and version {later.version} something is missing"
        elif later.version <= earlier.version:
            yield f"version {later.version} follows version {earlier.version}"
    if stand_in is not None and not covered and rest and rest[0].version != stand_in.version + 1:
        yield f"the checkpoint ends at version {stand_in.version} and the log goes on with version {rest[0].version}"


def _of_times_and_ids(covered: Sequence[Batch], stand_in: Batch | None, rest: Sequence[Batch]) -> Iterator[str]:
    kept = [*covered, *rest]
    in_order = [*covered, *([stand_in] if stand_in else []), *rest]
    for earlier, later in itertools.pairwise(in_order):
        if later.at_us < earlier.at_us:
            behind_s = (earlier.at_us - later.at_us) / 1_000_000
            yield f"version {later.version} is stamped {behind_s:g} s before version {earlier.version}"
    for batch_id, times in Counter(batch.id for batch in kept).items():
        if times > 1:
            yield f"the batch id {batch_id!r} is there {times} times"
    for batch in kept:
        if not batch.events:
            yield f"version {batch.version} holds no event"


def _folded(batches: Sequence[Batch]) -> tuple[WorkspaceState, str | None]:
    try:
        return folded(batches), None
    except Exception as error:  # noqa: BLE001 - whatever a damaged entry leads to is what is looked for
        return _until(batches), f"the log cannot be folded: {type(error).__name__}: {error}"


def _until(batches: Sequence[Batch]) -> WorkspaceState:
    """Return the state before the batch that cannot be folded."""
    state = WorkspaceState(_limits(batches))
    for batch in batches:
        try:
            state.fold(batch)
        except Exception:  # noqa: BLE001 - whatever it leads to, this is the damaged one
            break
    return state


def _limits(batches: Sequence[Batch]) -> QuotaLimits:
    try:
        return limits_of(batches)
    except Exception:  # noqa: BLE001 - a damaged entry may lead to anything, and is told of elsewhere
        return QuotaLimits()


def _of_checkpoint(covered: Sequence[Batch], stand_in: Batch) -> Iterator[str]:
    limits = _limits([stand_in])
    whole, partly = _fresh([stand_in], limits), _fresh(covered, limits)
    if whole is None or partly is None:
        yield f"the checkpoint at version {stand_in.version}, or what is kept before it, cannot be folded"
        return
    name = f"the checkpoint at version {stand_in.version}"
    for job, record in partly.jobs.records.items():
        other = whole.jobs.records.get(job)
        if other is None:
            yield f"{name} does not know job {job}"
            continue
        wrong = [field for field in _SAME if getattr(record, field) != getattr(other, field)]
        if wrong:
            yield f"{name} says otherwise of job {job} than the batches before it: {', '.join(wrong)}"
    for token, send in partly.jobs.tokens.items():
        if whole.jobs.tokens.get(token) != send:
            yield f"{name} does not know the callback address of job {send[0]}"
    missing = _not_counted(covered, partly, whole, stand_in.at_us)
    if missing:
        yield f"{name} does not count {missing} operations that ended before it"
    if not _reads_back(stand_in, limits):
        yield f"{name} does not read back as it was written"


def _fresh(batches: Sequence[Batch], limits: QuotaLimits) -> WorkspaceState | None:
    state = WorkspaceState(limits)
    try:
        for batch in batches:
            state.fold(batch)
    except Exception:  # noqa: BLE001 - a damaged entry may lead to anything, and is told of elsewhere
        return None
    return state


def _not_counted(covered: Sequence[Batch], partly: WorkspaceState, whole: WorkspaceState, at_us: int) -> int:
    """Operations that ended with a kept batch, that a window still counts, and that the checkpoint lacks."""
    stamps = {batch.at_us for batch in covered}  # other ends depend on limits that the log does not hold
    longest_us = max(window.span_us for window in partly.ledger.windows)
    wanted = Counter(u_us for u_us in partly.ledger.operations.us if u_us in stamps and u_us + longest_us > at_us)
    return sum((wanted - Counter(whole.ledger.operations.us)).values())


def _reads_back(stand_in: Batch, limits: QuotaLimits) -> bool:
    event = stand_in.events[0]
    assert isinstance(event, Checkpoint)
    state = WorkspaceState(limits)
    state.fold(stand_in)
    again = checkpoint_of(*take(state))
    if event.state.get("format") != again.state["format"]:  # of an earlier version, which wrote another form
        return True
    (read,) = decode(encode([again]))
    return read == event
