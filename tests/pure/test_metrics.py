"""The names of events and metrics, which are a contract: the code, the pages and the conventions agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from moe_segments import events
from moe_segments.telemetry.events import KINDS
from moe_segments.telemetry.metrics import ATTRIBUTES, METRICS, Kind, Sample, measured
from tests.tables_of_telemetry import event_rows, metric_rows, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moe_segments.events import Event

DOCS: Final = Path(__file__).parents[2] / "docs"
OPERATION: Final[dict[str, Any]] = {"job": "j1", "operation": "create", "segment": "vip"}


@pytest.mark.parametrize("name", METRICS)
def test_a_name_follows_the_conventions(name: str) -> None:
    """Lower case, dots between, one namespace, no unit and no suffix in it."""
    metric = METRICS[name]
    assert re.fullmatch(r"moe_segments(\.[a-z_]+)+", name)
    assert not name.endswith(("seconds", "total"))
    assert metric.unit in ("s", "1") or re.fullmatch(r"\{[a-z]+\}", metric.unit)
    assert metric.kind is not Kind.HISTOGRAM or metric.unit == "s"
    assert set(metric.labels) <= set(ATTRIBUTES)
    assert metric.labels[0] == "scope"


def test_names_differ_in_prometheus_too() -> None:
    assert len({metric.exposed_name for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize(
    ("event", "samples"),
    [
        (
            events.Accepted("W1", **OPERATION, took_s=0.5),
            [
                ("operations", 1, ("W1", "create", "accepted")),
                ("operation.duration", 0.5, ("W1", "create", "accepted")),
            ],
        ),
        (events.Accepted("W1", **OPERATION, adopted=True), [("operations", 1, ("W1", "create", "accepted"))]),
        (
            events.Refused("W1", job=None, operation="list", segment=None, error="QuotaExceeded", reason="", took_s=0),
            [("refusals", 1, ("W1", "list", "QuotaExceeded", ""))],
        ),
        (
            events.CallbackStored("W1", **OPERATION, outcome="repeated", delay_s=3.0),
            [("callbacks", 1, ("W1", "create", "repeated"))],
        ),
        (events.Waiting("W1", **OPERATION, behind="j0"), [("waits", 1, ("W1", "create", "segment"))]),
        (events.Throttled("W1", **OPERATION, limit="users_per_day"), [("throttled", 1, ("W1", "users_per_day"))]),
        (
            events.MembershipLag("W1", segment="vip", lag_s=7.0, pending=3),
            [],  # a scrape asks how it stands
        ),
        (events.Sent("W1", **OPERATION, attempt=1), []),
    ],
)
def test_an_event_is_measured(event: Event, samples: list[tuple[str, float, tuple[str, ...]]]) -> None:
    assert list(measured(event)) == [Sample(f"moe_segments.{name}", value, labels) for name, value, labels in samples]


def test_every_sample_fits_its_metric() -> None:
    """As many values as the metric has labels, of every kind of event."""
    values = {"took_s": 1.0, "waited_s": 1.0, "delay_s": 1.0, "attempt": 1, "status": 200, "wait_s": 1.0}
    for kind in KINDS:
        fields: dict[str, Any] = {field.name: values.get(field.name, field.name) for field in attrs.fields(kind)}
        for sample in measured(kind(**fields)):
            assert len(sample.labels) == len(METRICS[sample.metric].labels)


# The pages


@pytest.mark.parametrize(("page", "rows"), [("events.md", event_rows), ("metrics.md", metric_rows)])
def test_the_table_of_a_page_is_that_of_the_code(page: str, rows: Callable[[], Iterator[tuple[str, ...]]]) -> None:
    """`python -m tests.tables_of_telemetry` prints both."""
    assert f"\n{table(rows())}\n" in (DOCS / page).read_text("utf-8")
