"""Give many operations in the best order, each when it is due, and plan anew what has not started.

An operation is given an hour before its planned start: early enough to use a slot that becomes free before, late enough
to change the order of the rest when somebody else spends quota meanwhile. No operation is given early while another one
waits for its segment, and with that stands outside the line: whoever comes first in line goes first.
"""

from __future__ import annotations

import asyncio
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from moe_segments.core.planning.parts import split
from moe_segments.errors import InputError, JournalUnavailable, MoeSegmentsError, PreflightError, QuotaNeverFits
from moe_segments.limits import USERS_PER_DAY
from moe_segments.models import AddUsers, CreateFileSegment, FileOperation, RemoveUsers
from moe_segments.submission.preflight_policy import enforce, problem_of_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from moe_segments.core.planning.parts import Part
    from moe_segments.governor.governor import Governor
    from moe_segments.limits import QuotaLimits
    from moe_segments.models import Operation
    from moe_segments.submission.file_preparer import FilePreparer
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["Ordered", "Planned", "checked_lines", "cut", "in_best_order", "in_parts", "part_id", "rows_of", "sizes_of"]

_FEW_TRIES: Final = 20  # of a plan that is made anew
_AWAY_S: Final = 1.0  # between two looks at a journal that is away
_SAME_S: Final = 1.0  # a start that moved by less is the same
_SPARE: Final = 0.95  # of the largest file: the rows of one part may be longer than those of another


@attrs.frozen(kw_only=True, eq=False)
class Planned:
    """An operation that is to be submitted.

    Attributes:
        job_id: Its job's identifier.
        operation: What to do.
        priority: How urgent it is.
        error: Why it cannot be submitted; None where nothing is in its way.
        whole: The line that it is a part of; None for one that was not split.
    """

    job_id: str
    operation: Operation
    priority: float = 0
    error: MoeSegmentsError | None = None
    whole: Planned | None = None


class Ordered(Protocol):
    """The part of the client that the order needs."""

    limits: QuotaLimits
    governor: Governor


async def checked_lines(
    client: Ordered, files: FilePreparer, lines: Iterable[Planned], mode: Preflight
) -> list[Planned]:
    """Return the lines, each with what is in its way: its file, its name, its size. All files are read once.

    Args:
        client: Open.
        files: Of the client.
        lines: What is to be done.
        mode: What broken rules of a file do.
    """
    checked = await asyncio.gather(*(_with_file_checked(files, line, mode, client.limits) for line in lines))
    fine = [line.operation for line in checked if line.error is None]
    refusals = iter(await client.governor.refusals(fine))
    return [line if line.error is not None else attrs.evolve(line, error=next(refusals)) for line in checked]


async def _with_file_checked(files: FilePreparer, line: Planned, mode: Preflight, limits: QuotaLimits) -> Planned:
    operation = line.operation
    if not isinstance(operation, FileOperation):
        return line
    if mode == "off" and operation.rows is not None and (operation.file is None or _has_rows(operation.file)):
        return line
    try:
        report = await files.report_on(operation)
        if mode != "off" and (problem := problem_of_rows(operation.rows, report)):
            raise InputError(problem, "rows")
        is_publishable = operation.file is None or 0 < report.file_bytes <= limits.file_bytes
        enforce(report, mode if is_publishable else "error", has_told=False)
    except PreflightError as error:
        is_unread = mode == "warn" and operation.rows is not None and error.report is None  # goes on without, as a send
        return line if is_unread else attrs.evolve(line, error=error)
    except MoeSegmentsError as error:
        return attrs.evolve(line, error=error)
    return line


def _has_rows(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:
        return False


async def in_parts(files: FilePreparer, line: Planned, limits: QuotaLimits) -> list[Planned]:
    """Return a line that is too large for a day or a file as parts that fit; any other line as it is.

    The first part keeps the kind of the operation, the others add, or remove. Each reads its rows when it is its turn.
    A file that is not on this machine cannot be split.

    Args:
        files: Of the client.
        line: Checked, see `checked_lines`.
        limits: The limits of a day and of a file.
    """
    operation = line.operation
    path = files.path_of(operation) if isinstance(operation, FileOperation) else None
    if path is None or not isinstance(operation, FileOperation) or not _is_too_large(line, limits, path):
        return [line]
    try:
        rows = files.rows_of(operation)  # not as declared: that may be more, and where nothing was checked less
        parts = sizes_of(operation.op, await files.count(operation) if rows is None else rows, limits, path)
    except MoeSegmentsError as error:
        return [attrs.evolve(line, error=error)]
    if len(parts) == 1:
        return [line]
    return [
        Planned(job_id=part_id(line.job_id, number), operation=part, priority=line.priority, whole=line)
        for number, part in enumerate(cut(operation, parts, path), 1)
    ]


def part_id(job_id: str, number: int) -> str:
    """Return the identifier of a part's job: the first part has that of the whole."""
    return job_id if number == 1 else f"{job_id}.{number}"


def sizes_of(op: str, rows: int, limits: QuotaLimits, path: Path) -> tuple[Part, ...]:
    """Return the parts that fit a day and a file; one where it fits as it is.

    Raises:
        InputError: A segment would hold more users than the service allows.
        QuotaNeverFits: Not even one row fits a file.
    """
    file_bytes = path.stat().st_size
    if file_bytes > limits.file_bytes:
        limits = attrs.evolve(limits, file_bytes=max(1, int(limits.file_bytes * _SPARE)))
    return split(op, rows, limits, file_bytes=file_bytes)


def cut(operation: FileOperation, parts: Sequence[Part], path: Path) -> list[Operation]:
    """Return an operation as its parts. Each reads its rows of the file when it is its turn.

    Args:
        operation: The whole.
        parts: The kind and the rows of each part.
        path: Where the rows are.
    """
    begins = accumulate((part.rows for part in parts), initial=0)
    pairs = zip(parts, begins, strict=False)
    return [_part(operation, part.op, rows_of(path, begin, part.rows), part.rows) for part, begin in pairs]


def _is_too_large(line: Planned, limits: QuotaLimits, path: Path) -> bool:
    """Return whether nothing is in the way of a line but that it is too large for a day or a file."""
    error = line.error
    if isinstance(error, PreflightError):
        return error.report is not None and error.report.only_too_large
    if isinstance(error, QuotaNeverFits):
        return error.limit == USERS_PER_DAY
    return error is None and path.stat().st_size > limits.file_bytes


def _part(operation: FileOperation, op: str, values: Callable[[], Iterator[str]], rows: int) -> Operation:
    if op == operation.op:
        return attrs.evolve(operation, file=None, values=values, rows=rows)  # type: ignore[return-value]  # its kind
    kind = RemoveUsers if op == RemoveUsers.op else AddUsers
    return kind(
        name=operation.name,
        attribute_name=operation.attribute_name,
        attribute_type=operation.attribute_type,
        emails=operation.emails,
        callback_url=operation.callback_url,
        cs_id=None if isinstance(operation, CreateFileSegment) else getattr(operation, "cs_id", None),
        values=values,
        rows=rows,
    )


def rows_of(path: Path, begin: int, count: int) -> Callable[[], Iterator[str]]:
    """Return a function that reads some rows of a file."""

    def read() -> Iterator[str]:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for row in islice(file, begin, begin + count):
                yield row.rstrip("\r\n")

    return read


async def in_best_order(
    client: Ordered,
    lines: list[Planned],
    *,
    max_wait_s: float,
    changed: asyncio.Event,
    following: Callable[[], Sequence[Planned]],
    others: Callable[[], Awaitable[object]],
) -> AsyncIterator[Planned]:
    """Yield *lines* in the best order, each when it is due. What is left is planned anew when others spend quota.

    Args:
        client: Open.
        lines: Checked, see `checked_lines`.
        max_wait_s: Longest wait of each. One whose start is later is given at once, to be refused.
        changed: Set when an operation ended otherwise than planned, so that quota may be free.
        following: Returns those that were given and may not stand in line yet, because they wait for their segment. As
            long as there are any, nobody is given early.
        others: Returns what others have spent and wait for; another value when that has changed.

    Raises:
        InputError: A create comes after another operation on its segment.
    """
    for line in lines:
        if line.error is not None:
            yield line
    left, starts = [line for line in lines if line.error is None], dict[Planned, float]()
    early_s, seen = client.limits.hour_s, None
    while left:
        refused: list[Planned] = []
        try:
            if (spent := await others()) != seen or changed.is_set():
                given, first = following(), not starts
                changed.clear()
                left, refused = await _without_refused(client, left)
                starts = await _planned(client, [*given, *left], tries=None if first else _FEW_TRIES)
                if following() != given:  # one was sent meanwhile, and counted twice
                    changed.set()
                    left += refused
                    continue
                seen = spent
                left.sort(key=starts.__getitem__)
        except JournalUnavailable:  # those in line go on waiting, too; the journal has warned
            left += refused
            changed.set()
            await asyncio.sleep(_AWAY_S)
            continue
        for line in refused:
            yield line
        now_s = client.governor.now_s()
        for line in tuple(left):
            wait_s = starts[line] - now_s
            if wait_s <= _SAME_S or wait_s > max_wait_s or (wait_s <= early_s and not following()):
                left.remove(line)
                yield line
        next_s = starts[left[0]] - client.governor.now_s() if left else 0.0
        await _until(changed, min(early_s, next_s if following() else max(next_s - early_s, _SAME_S if left else 0.0)))


async def _without_refused(client: Ordered, lines: Sequence[Planned]) -> tuple[list[Planned], list[Planned]]:
    """Return those that may still be sent, and the others with their errors: somebody else has used their names."""
    refusals = await client.governor.refusals([line.operation for line in lines])
    pairs = tuple(zip(lines, refusals, strict=True))
    refused = [attrs.evolve(line, error=error) for line, error in pairs if error is not None]
    return [line for line, error in pairs if error is None], refused


async def _planned(client: Ordered, lines: Sequence[Planned], *, tries: int | None) -> dict[Planned, float]:
    """Return *lines* in the best order with the start of each; epoch seconds, or infinite."""
    plan = await client.governor.plan(
        [line.operation for line in lines],
        order="best",
        priorities=[line.priority for line in lines],
        tries=tries,
        without=[line.job_id for line in lines],
    )
    now_s = plan.made_at.timestamp()
    return {lines[position]: now_s + plan[position].wait_s for position in plan.order}


async def _until(changed: asyncio.Event, longest_s: float) -> None:
    """Wait until the quotas have changed, at most *longest_s* seconds."""
    try:
        async with asyncio.timeout(longest_s):
            await changed.wait()
    except TimeoutError:
        return
