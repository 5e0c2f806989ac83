"""Check users' values, or write them to a private temporary file, checked, without values that came before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from moe_segments.core.files.chunks import CHUNK_BYTES, ReadAhead
from moe_segments.core.files.cleaner import Mender
from moe_segments.core.files.preflight import Preflight
from moe_segments.core.files.rules import DUPLICATE, EMPTY_FILE, LONG_ROW, RULES, SPLIT
from moe_segments.errors import InputError
from moe_segments.files.check import check_file
from moe_segments.files.private_file import PrivateFile
from moe_segments.files.stream import Web, in_thread, stream_into
from moe_segments.files.values import ValueReader

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments.core.files.report import PreflightReport
    from moe_segments.limits import QuotaLimits
    from moe_segments.types import Values

__all__ = ["ValueCheck", "WrittenValues", "write_values"]

_TIMES_LARGER: Final = 20  # than the largest file: duplicates may have to be dropped first
_ALLOWED: Final = SPLIT | {EMPTY_FILE}  # how many there are matters to what is sent


class ValueCheck:
    """A check of values as they come. How many they are, and that some come twice, is no error.

    Args:
        name: What the report calls them.
        attribute_name: A value equal to it is a header.
        attribute_type: "double" wants numbers.
    """

    def __init__(self, name: str, *, attribute_name: str | None = None, attribute_type: str) -> None:
        self._check = Preflight(reread=None, source=name, attribute_name=attribute_name, attribute_type=attribute_type)

    def feed(self, lines: bytes) -> None:
        """Take whole lines."""
        self._check.feed(lines)

    def finish(self) -> PreflightReport:
        """Return the report on all of them; called once, at the end.

        Raises:
            InputError: One breaks a rule; it names its position, from 1, and the rule.
        """
        report = self._check.finish()
        for finding in report.errors:
            if finding.code not in _ALLOWED:
                rule = RULES[finding.code]
                where = f"value {finding.line:,}" if finding.line else "the values"
                raise InputError(f"{where}: {rule.code} {rule.title}: {rule.help}", "values")
        return report


@attrs.define(eq=False)
class WrittenValues:
    """A private temporary file of values, one a line.

    Attributes:
        path: Where it is, until `remove`.
        report: What its preflight found. Lines are positions in the source, duplicates included.
        duplicates: How many values were dropped because they came before.
    """

    path: Path
    report: PreflightReport
    duplicates: int
    _file: PrivateFile = attrs.field(repr=False)

    def remove(self) -> None:
        """Delete the file. Does nothing the second time."""
        self._file.remove()


async def write_values(
    values: Values,
    *,
    name: str,
    attribute_name: str,
    attribute_type: Literal["string", "double"],
    limits: QuotaLimits,
) -> WrittenValues:
    """Write *values* to a temporary file, check it and drop duplicates. The file is gone if anything fails.

    Args:
        values: Where they come from.
        name: What reports and errors call the source.
        attribute_name: The attribute the values are matched against.
        attribute_type: "double" wants numbers.
        limits: Largest file and users a day.

    Raises:
        InputError: A value cannot be one, there is none, or the source raised an exception, which is the cause.
        PreflightError: There is no room for the file, or it cannot be written.
    """
    reader = ValueReader(values, attribute_type=attribute_type)
    file = PrivateFile(name)
    try:
        check = Preflight(
            source=name,
            reread=file.reread,
            attribute_name=attribute_name,
            attribute_type=attribute_type,
            limits=limits,
        )
        web = Web(max_bytes=limits.file_bytes * _TIMES_LARGER)
        report, duplicates = await stream_into(aiter(reader), lambda _: _Writing(file, check), web=web, name=name), 0
        if DUPLICATE in report.counts and LONG_ROW not in report.counts:
            duplicates = report.counts[DUPLICATE]
            await in_thread(_drop_duplicates, file)
            distinct = await check_file(
                file.path, attribute_name=attribute_name, attribute_type=attribute_type, limits=limits, name=name
            )
            report = _of_distinct(report, distinct)
        return WrittenValues(file.path, report, duplicates, file)
    except BaseException:
        file.remove()
        raise


def _of_distinct(whole: PreflightReport, distinct: PreflightReport) -> PreflightReport:
    """Return the report on the file without duplicates, with the places where the values were in their source."""
    return attrs.evolve(
        distinct,
        findings=tuple(finding for finding in whole.findings if finding.code in distinct.counts),
        counts={code: count for code, count in whole.counts.items() if code in distinct.counts},
    )


class _Writing:
    """A writer of a file's first form, which is checked as it is written."""

    def __init__(self, file: PrivateFile, check: Preflight) -> None:
        self._file, self._check = file, check

    def feed(self, block: bytes) -> None:
        """Write the block, and check it."""
        self._file.append(block)
        self._check.feed(block)

    def finish(self) -> PreflightReport:
        """Return the report on all that was written."""
        return self._check.finish()

    def close(self) -> None:
        """Do nothing: the file is closed when it is removed."""


def _drop_duplicates(file: PrivateFile) -> None:
    """Write a file over itself without the rows that came before."""
    mender, offset, read = Mender(reread=file.reread, mends=False), 0, ReadAhead(file.reread)
    while block := read(offset, CHUNK_BYTES):
        offset += len(block)
        for _ in mender.feed(block):
            pass
    for _ in mender.finish():
        pass
    if (kept := mender.kept()) is not None:
        file.rewrite(kept)
