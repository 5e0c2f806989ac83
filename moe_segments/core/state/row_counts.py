"""Row counts of a file on its way from the disk to the segment.

Four numbers should agree and often do not: rows as checked here, rows the service found, values it could use, users it
knows. Each step has causes of its own, so each is told by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from moe_segments.types import with_older_pickles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moe_segments.core.state.jobs import JobRecord

__all__ = ["FileFigures", "figures_of"]

_FEW = 2  # fewer users than one value in this many is worth a warning


@with_older_pickles
@attrs.frozen(kw_only=True)
class FileFigures:
    """One file's rows, step by step. A number is None where that step was not taken, or is not known yet.

    Attributes:
        rows: Rows that the preflight counted.
        distinct_rows: Different values among them.
        duplicates: Values given as `values` that were dropped before because they came twice; None for a file.
        found: Rows the service found.
        processed: Usable values among those.
        matched: Users of the workspace among those.
    """

    rows: int | None = None
    distinct_rows: int | None = None
    duplicates: int | None = None
    found: int | None = None
    processed: int | None = None
    matched: int | None = None

    @property
    def lost(self) -> int | None:
        """Values that were in the file and that the service did not find or could not use; None before its callback."""
        expected = self.found if self.distinct_rows is None else self.distinct_rows
        return None if expected is None or self.processed is None else max(0, expected - self.processed)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return where rows were lost, one sentence a step; empty when none were, or no callback has come."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        if self.found is None or self.processed is None or self.matched is None:
            return
        if self.rows is not None and self.distinct_rows is not None:
            if self.found < self.distinct_rows:
                yield f"the service found {self.found:,} rows where {self.distinct_rows:,} different ones were checked"
            elif self.found > self.rows:
                yield f"the service found {self.found:,} rows where {self.rows:,} were checked: it read another file"
        usable = self.found if self.distinct_rows is None else min(self.found, self.distinct_rows)
        if self.processed < usable:
            yield f"the service could use {self.processed:,} of {usable:,} different values"
        if self.processed and self.matched * _FEW < self.processed:
            share = "none" if not self.matched else f"only {self.matched:,}"
            yield (
                f"{share} of {self.processed:,} values are users of the workspace: check attribute_name, "
                "attribute_type and how the values are spelt"
            )


def figures_of(record: JobRecord) -> FileFigures:
    """Return the figures of a job's file, from what the journal knows."""
    checked, told = record.operation.get("checked"), record.result or {}
    before: Mapping[str, object] = checked if isinstance(checked, dict) else {}
    return FileFigures(
        rows=_number(before, "rows"),
        distinct_rows=_number(before, "distinct_rows"),
        duplicates=_number(before, "duplicates"),
        found=_number(told, "values_found"),
        processed=_number(told, "values_processed"),
        matched=_number(told, "user_count"),
    )


def _number(facts: Mapping[str, object], name: str) -> int | None:
    value = facts.get(name)
    return value if isinstance(value, int) else None
