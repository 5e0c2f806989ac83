"""The sections of the dashboard, each from a folded log: what they count, in which order, and what they forecast."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import pytest

from moe_segments.core.events import (
    Answered,
    AudienceSynced,
    Batch,
    CallbackReceived,
    Claimed,
    Event,
    ExternalUsage,
    KeyRejected,
    Moved,
    Opened,
    Planned,
    Quarantined,
    Reserved,
    RunStarted,
    Throttled,
    Unknown,
)
from moe_segments.core.state.admission import forecast
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.dashboard.sections.callbacks import callbacks_of
from moe_segments.dashboard.sections.jobs import jobs_of
from moe_segments.dashboard.sections.notices import render_notices
from moe_segments.dashboard.sections.plan import plan_of
from moe_segments.dashboard.sections.quotas import quotas_of, render_quotas
from moe_segments.dashboard.sections.segments import render_segments, segments_of
from moe_segments.dashboard.sections.timeline import render_plan
from moe_segments.dashboard.sections.view import View
from moe_segments.limits import QuotaLimits
from moe_segments.page.gauge import Gauge, bar
from moe_segments.page.pieces import name, table, text

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3_600 * SECOND_US
T0: Final = 1_795_000_000 * SECOND_US
TOKEN: Final = "ab" * 32


class Log:
    """A log that is folded as it is written."""

    def __init__(self) -> None:
        self.state = WorkspaceState(QuotaLimits())
        self.at_us = T0
        self.write(Opened("https://api-03.moengage.com", 1.0))

    def write(self, *events: Event, after_s: float = 0.001) -> None:
        """Append a batch, so long after the last one."""
        self.at_us += round(after_s * SECOND_US)
        version = self.state.version + 1
        self.state.fold(Batch(version, f"b{version}", self.at_us, events))

    def send(self, job: str, segment: str, op: str = "create", *, rows: int = 10, token: bool = True) -> None:
        """Reserve an operation."""
        operation = {"op": op, "name": segment, "attribute_name": "ID", "attribute_type": "string", "rows": rows}
        digest = job.encode().hex().ljust(64, "0") if token else None
        self.write(
            Reserved(
                job, 1, operation, 1, rows, int(op == "create"), (segment,), 30 * SECOND_US, 60 * SECOND_US, digest
            )
        )

    def accept(self, job: str, segment: str, op: str = "create", **more: Any) -> None:
        """Reserve an operation, and have it accepted."""
        self.send(job, segment, op, **more)
        self.write(Answered(job, 1, 202, accepted={"message": "ok", "cs_name": segment}))

    def process(self, job: str, segment: str, figures: tuple[int, int, int], op: str = "create") -> None:
        """Have an operation accepted and processed."""
        self.accept(job, segment, op, rows=figures[0])
        found, processed, matched = figures
        body = {"request_id": job, "segment_name": segment, "status": 200, "values_found": found}
        body |= {"values_processed": processed, "user_count": matched}
        self.write(CallbackReceived(job, 1, job, "processed", body, found))

    def view(self, after_s: float = 0.0, **more: Any) -> View:
        """A look at it, so long after the last batch."""
        return View(state=self.state, now_us=self.at_us + round(after_s * SECOND_US), **more)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip()


# Quotas


def test_a_quota_says_what_is_free_and_when_usage_falls() -> None:
    """Two operations of ours, one of them pending, and one of somebody else."""
    log = Log()
    log.process("a", "s1", (100, 100, 90))
    log.write(ExternalUsage(1, 50, T0), after_s=600)
    log.send("b", "s2")
    hour = quotas_of(log.view())[0]

    assert (hour.gauge.used, hour.gauge.pending, hour.gauge.external, hour.gauge.free) == (3, 1, 1, 7)
    assert [used for _, used in hour.steps] == [2, 1, 0]
    assert hour.next_us == hour.steps[0][0]
    assert hour.steps[0][0] == T0 + log.state.ledger.windows[0].span_us


def test_a_quota_that_the_service_closed_is_full_whatever_is_used() -> None:
    log = Log()
    log.write(Throttled("operations_per_hour", log.at_us + HOUR_US))
    view = log.view()
    quotas = quotas_of(view)

    assert quotas[0].gauge.free == 0
    assert "Closed until" in text_of(render_quotas(view, quotas))
    assert "File operations, hour is closed" in text_of(render_notices(view, quotas, jobs_of(view)))


def test_a_small_quota_is_drawn_as_cells_and_a_large_one_as_a_bar() -> None:
    """One cell for each operation; of a bar what is used is seen, however little it is."""
    cells = bar(Gauge(limit="operations_per_hour", used=4, capacity=10, pending=1, external=1))
    whole = bar(Gauge(limit="users_per_day", used=1, capacity=2_000_000))

    assert [cells.count(f'class="{kind}"') for kind in ("used", "external", "pending", "free")] == [2, 1, 1, 6]
    assert 'aria-label="4 of 10 units used, 1 of them pending, 1 by others"' in cells
    width = re.search(r'class="used" x="0.00%" width="([0-9.]+)%"', whole)
    assert width is not None
    assert float(width[1]) > 0.5


@pytest.mark.parametrize("used", [0, 1, 10, 15, 10**9])
@pytest.mark.parametrize("capacity", [0, 1, 10, 21, 2_000_000])
def test_no_gauge_is_drawn_beyond_its_width(used: int, capacity: int) -> None:
    """Whatever a journal says: more used than there is, or no capacity at all."""
    svg = bar(Gauge(limit="x", used=used, capacity=capacity, pending=used, external=used))
    for x, width in re.findall(r'(?:x="([0-9.]+)%" )?width="([0-9.]+)%"', svg):
        assert float(x or 0) + float(width) <= 100.01


# The plan


def claim(job: str, segment: str, rows: int = 10) -> Claimed:
    return Claimed(job, 1, rows, 1, for_us=48 * HOUR_US, keys=(segment,), waiter="w")


def test_the_plan_is_the_forecast_that_the_clients_follow() -> None:
    """Twelve wait while ten are used: two windows."""
    log = Log()
    for number in range(10):
        log.process(f"done{number}", f"d{number}", (1, 1, 1))
    log.write(*(claim(f"j{number}", f"s{number}") for number in range(12)))
    plan = plan_of(log.view())

    alone = Log()
    for number in range(10):
        alone.process(f"done{number}", f"d{number}", (1, 1, 1))
    demands = [one.demand for _, one in log.state.claims.standing(log.at_us)]
    expected = [start.at_us for start in forecast(alone.state, demands, alone.at_us)]

    assert [one.start_us for one in plan.waiting] == expected
    assert len(set(expected)) > 1
    assert {one.limit for one in plan.waiting} == {"operations_per_hour"}
    assert plan.in_line == 12
    assert plan.next_us is not None
    assert plan.next_us >= max(filter(None, expected))


def test_who_waits_for_a_busy_segment_has_no_start_and_delays_nobody() -> None:
    log = Log()
    log.accept("first", "vip")
    log.write(claim("second", "vip"), claim("other", "else"))
    first, second = plan_of(log.view()).waiting

    assert (first.is_busy, first.start_us) == (True, None)
    assert (second.is_busy, second.start_us) == (False, log.at_us)
    assert "its segment" in text_of(render_plan(log.view(), plan_of(log.view())))


def a_run(log: Log, count: int) -> None:
    operations = [
        {"op": "create", "name": f"n{number}", "attribute_name": "ID", "attribute_type": "string", "rows": 5}
        | {"file_url": "https://files.example.com/a.csv", "expiry_time": 30}
        for number in range(count)
    ]
    log.write(RunStarted("r", "nightly.csv", count))
    log.write(*(Planned(f"r{number}", one, "r", number + 1) for number, one in enumerate(operations)))


def test_what_a_run_has_planned_stands_behind_the_line() -> None:
    """As hollow marks, since its order may change; and the run says how far it is."""
    log = Log()
    log.write(ExternalUsage(9, 0, T0))
    a_run(log, 3)
    log.write(claim("j", "s"))
    plan = plan_of(log.view())
    html = render_plan(log.view(), plan)

    assert [(one.segment, one.is_planned) for one in plan.waiting] == [
        *(("s", False), ("n0", True), ("n1", True), ("n2", True))
    ]
    assert plan.waiting[0].start_us == log.at_us
    assert [one.start_us == log.at_us for one in plan.waiting[1:]] == [False] * 3
    assert html.count('class="operations_per_hour planned"') == 3
    assert "0 of 3 ended" in text_of(html)


def test_a_run_that_nothing_was_heard_of_for_a_day_is_no_plan() -> None:
    """Its process may be gone for ever."""
    log = Log()
    a_run(log, 3)
    plan = plan_of(log.view(after_s=100_000))

    assert (plan.waiting, plan.planned, plan.idle) == ((), 0, 3)
    assert "3 operations of runs that nothing was heard of for a day" in text_of(render_plan(log.view(), plan))


def test_a_thousand_who_wait_are_counted_and_not_all_drawn() -> None:
    log = Log()
    log.write(*(claim(f"j{number}", f"s{number}") for number in range(1_000)))
    plan = plan_of(log.view())
    html = render_plan(log.view(), plan)

    assert plan.in_line == 1_000
    assert html.count("<tr") == 41
    assert "960 operations more" in text_of(html)


# Jobs and callbacks


def test_jobs_in_doubt_are_on_top_however_old_they_are() -> None:
    """The unknown first, then what cannot be read, then the newest; a send without news is one in doubt in time."""
    log = Log()
    log.send("lost", "s1")
    log.write(Unknown("lost", 1, "the connection was closed"))
    log.accept("garbled", "s2")
    log.write(CallbackReceived("garbled", 1, "d", "unparsed", {"reason": "not JSON", "raw": "x"}))
    log.send("silent", "s3")
    for number in range(50):
        log.process(f"p{number}", f"t{number}", (1, 1, 1))
    soon, late = jobs_of(log.view()), jobs_of(log.view(after_s=10_000))

    assert [info.id for info, _ in soon.shown][:3] == ["lost", "garbled", "p49"]
    assert {info.id for info, _ in late.shown[:2]} == {"lost", "silent"}
    assert soon.counts == {"unknown": 1, "unreadable": 1, "reserved": 1, "processed": 50}
    assert len(soon.shown) == 40


def test_a_callback_is_late_when_the_quota_no_longer_holds_for_it() -> None:
    """Awaited before, late after; those that came, cannot be read, or say two things are counted by themselves."""
    log = Log()
    log.accept("w", "s1")
    log.accept("nobody-calls", "s2", token=False)
    log.accept("garbled", "s3")
    log.write(CallbackReceived("garbled", 1, "d", "unparsed", {"reason": "not JSON", "raw": "x"}))
    log.process("p", "s4", (3, 2, 1))
    log.write(CallbackReceived("p", 1, "another", "failed", {"status": 500}))
    allowance_s = QuotaLimits().processing_allowance_s
    early, late = callbacks_of(log.view()), callbacks_of(log.view(after_s=allowance_s))

    assert (early.waiting, early.late, early.unreadable, early.arrived, early.differing) == (1, 0, 1, 1, 1)
    assert (late.waiting, late.late) == (0, 1)
    assert [one.kind for one in late.shown] == ["unreadable", "late", "processed"]


# Segments


def test_a_segment_has_the_match_rates_of_its_jobs_or_of_its_syncs() -> None:
    """Oldest first; an audience's are those of its syncs."""
    log = Log()
    for number, matched in enumerate((90, 60, 30)):
        log.process(f"p{number}", "steady", (100, 100, matched), "replace")
    log.process("a", "vip", (10, 10, 1))
    for matched in (5, 10):
        facts = {"status": "synced", "processed": 10, "matched": matched}
        log.write(AudienceSynced("vip", facts), after_s=60)
    vip, steady = segments_of(log.view())

    assert (vip.name, vip.is_audience, vip.last) == ("vip", True, "sync: synced")
    assert [rate for _, rate in vip.rates] == [0.5, 1.0]
    assert [rate for _, rate in steady.rates] == [0.9, 0.6, 0.3]
    html = render_segments(log.view(), [steady])
    assert 'aria-label="90 % to 30 % over 3 files"' in html
    assert 'class="rate low"' in html


# Notices


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Quarantined("the file was put back"), "Every window is taken for full. the file was put back"),
        (KeyRejected("f" * 64, 401), "An API key was answered 401"),
        (Moved("redis://elsewhere/0", "id"), "This journal has moved"),
    ],
)
def test_what_stops_everything_is_said_on_top(event: Event, said: str) -> None:
    log = Log()
    log.write(event)
    view = log.view()
    assert said in text_of(render_notices(view, quotas_of(view), jobs_of(view)))


def test_a_quarantine_is_said_while_it_lasts_and_hides_no_later_429() -> None:
    log = Log()
    log.write(Quarantined("the file was put back"))
    later_s = 2 * 86_400.0
    view = log.view(later_s)
    assert render_notices(view, quotas_of(view), jobs_of(view)) == ""
    log.write(Throttled("operations_per_hour", view.now_us + 3_600 * SECOND_US), after_s=later_s)
    view = log.view()
    assert "is closed" in text_of(render_notices(view, quotas_of(view), jobs_of(view)))


def test_where_all_is_well_nothing_is_said() -> None:
    log = Log()
    log.process("p", "s", (1, 1, 1))
    view = log.view()
    assert render_notices(view, quotas_of(view), jobs_of(view)) == ""
    assert "old" in render_notices(attrs.evolve(view, problem="away"), quotas_of(view), jobs_of(view))


# Pieces


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#x27;"),
        ("\u202efdp.exe", "\\u202efdp.exe"),
        ("a\u200bb\x00\n", "a\\u200bb\\x00\\n"),
        ("क्\u200dष نمی\u200cخواهم", "क्\u200dष نمی\u200cخواهم"),  # noqa: RUF001 - as it is written
        ("\ud800", "\\ud800"),
    ],
)
def test_text_is_shown_letter_by_letter(given: str, shown: str) -> None:
    """What a browser would obey or hide is an escape; joiners of scripts that need them stay."""
    assert text(given) == shown


def test_a_name_has_a_direction_of_its_own() -> None:
    assert name("عملاء") == '<bdi dir="auto" lang="">عملاء</bdi>'


def test_a_table_says_what_its_parts_are() -> None:
    """Also where its rows are shown as cards, and it can be scrolled by keyboard."""
    html = table({"Name": name, "Size": lambda _: ""}, ["x"], label="Things")
    assert html.count('scope="col" role="columnheader"') == 2
    assert html.count('role="row"') == 2
    assert '<td role="cell" data-name="Size"></td>' in html
    assert 'tabindex="0" role="group" aria-label="Things"' in html
