"""Print the tables of docs/events.md and docs/metrics.md from the code: `python -m tests.tables_of_telemetry`.

What an event is for is its docstring's first sentence; `tests/pure/test_metrics.py` holds the pages to the code.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import attrs

from moe_segments import events
from moe_segments.telemetry.events import KINDS
from moe_segments.telemetry.logs import LOGGED
from moe_segments.telemetry.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING"}


def event_rows() -> Iterator[tuple[str, ...]]:
    """The rows of the table of events."""
    yield "event", "it says", "fields", "log record"
    for kind in KINDS:
        common = {"scope", "job", "operation", "segment"} if issubclass(kind, events.OperationEvent) else {"scope"}
        fields = ", ".join(field.name for field in attrs.fields(kind) if field.name not in common)
        logged = LOGGED.get(kind)
        record = ""
        if logged is not None:
            names = " or ".join(_LEVELS[level] for level in sorted({logged.level, logged.most}))
            record = f"{names} `{logged.logger.name.removeprefix('moe_segments.')}`"
        says = (inspect.getdoc(kind) or "").partition("\n")[0].partition(". ")[0].rstrip(".")
        yield f"`{kind.__name__}`", says, fields, record


def metric_rows() -> Iterator[tuple[str, ...]]:
    """The rows of the table of metrics."""
    yield "Prometheus", "OpenTelemetry", "kind", "unit", "labels", "it says"
    for metric in METRICS.values():
        names = f"`{metric.exposed_name}`", f"`{metric.name}`"
        yield *names, metric.kind.value, metric.unit.strip("{}"), ", ".join(metric.labels), metric.help.rstrip(".")


def table(rows: Iterator[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    head, *rest = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rest))


if __name__ == "__main__":
    sys.stdout.write(f"{table(event_rows())}\n\n{table(metric_rows())}\n")
