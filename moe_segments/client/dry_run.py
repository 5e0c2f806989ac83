"""Dry-run many operations: do all that a run does before its first send. Nothing is sent or spent.

One list call of the segments is made where its own quota allows it at once: it shows which creates would be refused and
which segments are not there. The list may leave out segments, so one that it does not show is a doubt, not an error.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import attrs

from moe_segments.client.ordering import Ordered, Planned, checked_lines, in_parts
from moe_segments.client.submit_many import Outcome
from moe_segments.errors import AuthenticationFailed, InputError, MoeSegmentsError, PreflightError, QuotaNeverFits
from moe_segments.models import CreateFileSegment, FileOperation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from moe_segments.governor.plan_queries import Order
    from moe_segments.governor.usage import PlannedStart
    from moe_segments.models import Segment
    from moe_segments.submission.file_preparer import FilePreparer
    from moe_segments.submission.preflight_policy import Preflight

__all__ = ["dry_outcomes"]

_log = logging.getLogger("moe_segments.client")


class _Client(Ordered, Protocol):
    """The part of the client that a dry run needs."""

    async def list_segments(self, name: str | None = None, *, max_wait_s: float = 0.0) -> tuple[Segment, ...]:
        """List segments."""


async def dry_outcomes(
    client: _Client, files: FilePreparer, lines: Sequence[Planned], *, mode: Preflight, order: Order
) -> AsyncIterator[Outcome]:
    """Yield for each line when it would start, or why it would be refused, in the order they would be sent.

    Args:
        client: Open.
        files: Checks files, and proves that they may be published.
        lines: What is to be done.
        mode: What broken rules of a file do.
        order: In which order.

    Raises:
        AuthenticationFailed: The service does not take the key.
        InputError: With "best", a create comes after another operation on its segment.
    """
    checked = await checked_lines(client, files, await _with_rights(files, lines), mode)
    if order == "best":
        checked = [part for line in checked for part in await in_parts(files, line, client.limits)]
    else:
        checked = await _refused_as_sent(client, checked)
    checked, doubts = await _with_segments(client, checked)
    for line in checked:
        if line.error is not None:
            yield Outcome(operation=line.operation, error=line.error)
    left = [line for line in checked if line.error is None]
    plan = await client.governor.plan(
        [line.operation for line in left],
        order=order,
        priorities=[line.priority for line in left] if order == "best" else None,
    )
    starts = {left[position]: plan[position] for position in plan.order}
    parts: dict[Planned, list[tuple[Planned, PlannedStart]]] = {}
    for line in left:
        parts.setdefault(line.whole or line, []).append((line, starts[line]))
    for whole in dict.fromkeys(line.whole or line for line in starts):
        yield attrs.evolve(_outcome(whole, parts[whole], doubts), plan=plan)


async def _refused_as_sent(client: _Client, lines: list[Planned]) -> list[Planned]:
    """Return the lines with what a send is refused for first: a quota that it never fits, then a broken rule."""
    broken = [line for line in lines if isinstance(line.error, PreflightError) and line.error.report is not None]
    refusals = dict(zip(broken, await client.governor.refusals([line.operation for line in broken]), strict=True))
    never = {line: error for line, error in refusals.items() if isinstance(error, QuotaNeverFits)}
    return [attrs.evolve(line, error=never.get(line, line.error)) for line in lines]


def _outcome(line: Planned, parts: Sequence[tuple[Planned, PlannedStart]], doubts: dict[Planned, str]) -> Outcome:
    said = tuple(doubts[part] for part, _ in parts if part in doubts)
    whole = Outcome(operation=line.operation, planned=parts[0][1], doubts=said)
    if parts[0][0] is line:
        return whole
    told = tuple(Outcome(operation=part.operation, planned=start) for part, start in parts)
    return attrs.evolve(whole, parts=told)


async def _with_rights(files: FilePreparer, lines: Sequence[Planned]) -> list[Planned]:
    """Return the lines; those with local files with the error, where these could not be published."""
    if not any(map(_is_local, lines)):
        return list(lines)
    try:
        await files.check_rights()
    except (InputError, PreflightError) as error:
        return [attrs.evolve(line, error=error) if _is_local(line) else line for line in lines]
    return list(lines)


def _is_local(line: Planned) -> bool:
    return isinstance(line.operation, FileOperation) and line.operation.file_url is None


async def _with_segments(client: _Client, lines: list[Planned]) -> tuple[list[Planned], dict[Planned, str]]:
    """Return the lines, creates of names that the service lists with an error, and what is doubtful of the others."""
    try:
        listed = {segment.name for segment in await client.list_segments()}
    except AuthenticationFailed:
        raise
    except (MoeSegmentsError, TimeoutError) as error:
        _log.info("the segments could not be listed (%s), going on with what the journal knows", type(error).__name__)
        return lines, {}
    known, doubts = set(client.governor.known_segments()) | listed, dict[Planned, str]()
    seen: list[Planned] = []
    for line in lines:
        name, is_create = line.operation.name, isinstance(line.operation, CreateFileSegment)
        if line.error is None and is_create and name in listed:
            problem = f"{name!r} is there already, as the service's list shows: choose another name, or update it"
            line = attrs.evolve(line, error=InputError(problem, "name"))  # noqa: PLW2901 - the same with what was found
        elif not is_create and name not in known and not getattr(line.operation, "cs_id", None):
            doubts[line] = (
                f"neither the journal nor the service's list knows a segment {name!r}; the list may leave some out"
            )
        if line.error is None and is_create:
            known.add(name)
        seen.append(line)
    return seen, doubts
