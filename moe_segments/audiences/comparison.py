"""Read the source of an audience and compare it with what its segment holds, in files, beside the event loop."""

from __future__ import annotations

import logging
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.audiences.sorted_file import SortedFile, Sorter
from moe_segments.core.audiences.choice import Sizes
from moe_segments.core.audiences.streams import compared, merged
from moe_segments.core.files.chunks import BOM_BYTES
from moe_segments.core.files.rules import BOM, CRLF, DUPLICATE, SPLIT
from moe_segments.errors import PreflightError
from moe_segments.files.check import check_file
from moe_segments.files.sources import is_regular
from moe_segments.files.stream import in_thread
from moe_segments.files.value_file import ValueCheck
from moe_segments.files.values import ValueReader
from moe_segments.submission.preflight_policy import doubtful_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from moe_segments.audiences.audience import Audience
    from moe_segments.core.audiences.choice import Option
    from moe_segments.core.audiences.memberships import Held
    from moe_segments.core.audiences.streams import Block
    from moe_segments.core.files.report import PreflightReport
    from moe_segments.limits import QuotaLimits
    from moe_segments.types import Values

__all__ = ["Comparison", "compare", "members_after", "read_source"]

_READ_BYTES: Final = 1 << 18
_LEFT_OUT: Final = (BOM, CRLF)  # what is not sent
_log = logging.getLogger("moe_segments.audiences")


async def read_source(audience: Audience, limits: QuotaLimits) -> SortedFile:
    """Return the values of an audience's source, sorted, each once. Nothing is kept of one that fails half way.

    Raises:
        InputError: A value cannot be one, or the source raised an exception, which is the cause then.
        PreflightError: Its file breaks a rule or cannot be read, or there is no room for the values.
    """
    source, name = await audience.opened(), f"the members of {audience.name!r}"
    report = await _check(source, audience, limits) if isinstance(source, Path) else None
    sorter = Sorter(name)
    try:
        if isinstance(source, Path):
            await in_thread(_read_file, source, sorter)
        else:
            report = await _read_values(source, sorter, audience, name)
        given = await in_thread(sorter.finish)
    finally:
        sorter.close()
    for sentence in () if report is None else doubtful_rules(report):
        _log.warning("%s: %s", name, sentence)
    return given


async def _read_values(source: Values, sorter: Sorter, audience: Audience, name: str) -> PreflightReport:
    check = ValueCheck(name, attribute_name=audience.attribute_name, attribute_type=audience.attribute_type)

    def take(lines: bytes) -> None:
        check.feed(lines)
        sorter.feed(lines)

    reader = ValueReader(source, attribute_type=audience.attribute_type, allow_empty=True)
    async with aclosing(aiter(reader)) as blocks:  # at once, as the source may hold a cursor or a program
        async for lines in blocks:
            await in_thread(take, lines)
    return await in_thread(check.finish)


async def _check(path: Path, audience: Audience, limits: QuotaLimits) -> PreflightReport | None:
    """Refuse a file that breaks a rule: duplicates are dropped, and its size matters only in what is sent."""
    if await in_thread(_is_empty, path):
        return None
    report = await check_file(
        path, attribute_name=audience.attribute_name, attribute_type=audience.attribute_type, limits=limits
    )
    broken = [finding for finding in report.errors if finding.code not in SPLIT | {DUPLICATE}]
    if broken:
        count = report.counts[broken[0].code]
        problem = f"{broken[0].code} {broken[0].message} ({count:,} times); run: moe-segments preflight {path}"
        raise PreflightError(str(path), problem, report)
    return attrs.evolve(report, findings=tuple(one for one in report.findings if one.code not in _LEFT_OUT))


def _is_empty(path: Path) -> bool:
    return is_regular(path) and not path.stat().st_size


def _read_file(path: Path, sorter: Sorter) -> None:
    """Read the values of a file: a byte order mark and the kind of its line ends are no part of them."""
    try:
        with path.open("rb") as file:
            rest = b"" if (begin := file.read(len(BOM_BYTES))) == BOM_BYTES else begin
            while data := file.read(_READ_BYTES):
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    sorter.feed((whole + newline).replace(b"\r\n", b"\n"))
            if rest:
                sorter.feed(rest.removesuffix(b"\r") + b"\n")
    except OSError as error:
        raise PreflightError(str(path), f"cannot be read ({error.strerror})") from None


@attrs.define(eq=False)
class Comparison:
    """A source, compared with what its segment holds.

    Attributes:
        audience: Whose.
        held: What the segment holds; None where that is unknown.
        sizes: How many values are what.
        unchanged: Members that stay.
        given: The values of the source.
        added: Those to be added.
        removed: Members to be removed.
        options: The ways to do it, see `parts.options_of`; empty until they were looked for.
    """

    audience: Audience
    held: Held | None
    sizes: Sizes
    unchanged: int
    given: SortedFile
    added: SortedFile
    removed: SortedFile
    options: tuple[Option, ...] = ()

    def file_for(self, op: str) -> SortedFile:
        """Return the values that an operation sends."""
        if op in ("create", "replace") or self.held is None:
            return self.given
        return self.added if op == "add" else self.removed

    def remove_files(self) -> None:
        """Delete its files. Does nothing the second time."""
        for file in (self.given, self.added, self.removed):
            file.remove()


def compare(
    audience: Audience,
    given: SortedFile,
    held: Held | None,
    blocks: Iterable[Block],
    *,
    exists: bool,
    last_held: int | None,
) -> Comparison:
    """Compare the values of a source with the members of its segment. Takes long: call it in a thread.

    Args:
        audience: Whose they are.
        given: The values of the source.
        held: What the segment holds; None where that is unknown.
        blocks: Those members.
        exists: Whether there is a segment.
        last_held: How many members there were when they were known.

    Raises:
        SnapshotAltered: The members cannot be read.
        PreflightError: There is no room for the differences.
    """
    name = f"the changes of {audience.name!r}"
    added, removed, unchanged = SortedFile(name), SortedFile(name), 0
    try:
        for part in compared(blocks, given.blocks()) if held is not None else ():
            if audience.mode != "remove":
                added.append(part.added)
            if audience.mode != "add":
                removed.append(part.common if audience.mode == "remove" else part.removed)
            unchanged += len(part.removed if audience.mode == "remove" else part.common)
            unchanged += len(part.removed) if audience.mode == "add" else 0
    except BaseException:
        added.remove()
        removed.remove()
        raise
    sizes = Sizes(
        mode=audience.mode,
        given=given.count,
        exists=exists,
        held=None if held is None else held.size,
        last_held=last_held,
        added=added.count,
        removed=removed.count,
        before=None if held is None else held.before,
    )
    return Comparison(audience, held, sizes, unchanged, given, added, removed)


def members_after(comparison: Comparison, blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the members that the segment has when all is done.

    Args:
        comparison: The source, and what the segment holds.
        blocks: The members now; of no meaning where all are replaced.
    """
    mode, given = comparison.audience.mode, comparison.given.blocks()
    if mode == "mirror" or not comparison.sizes.exists:
        yield from given
    elif mode == "add":
        yield from merged([blocks, given])
    else:
        yield from (part.removed for part in compared(blocks, given) if part.removed)
