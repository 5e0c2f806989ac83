"""A plan as a value and as a picture: what it says of starts and limits, and how it looks in a browser."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio

from moe_segments import ArchiveSegment, CreateFileSegment, Plan, ReplaceUsers, SegmentsClient
from moe_segments.governor.timeline import Bar, Lane, draw
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SVG: Final = "{http://www.w3.org/2000/svg}"
FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}
NOW_S: Final = 1_795_000_000.0
HOSTILE: Final = '</text><script>alert(1)</script>&"\u202e\x07'
NAMES: Final = ("diwali_vip", "कर्मचारी", "عملاء", "n" * 200, HOSTILE, "排灯节" * 60)
IST: Final = timezone(timedelta(hours=5.5), "IST")


@pytest_asyncio.fixture
async def client() -> AsyncIterator[SegmentsClient]:
    async with (
        Sandbox() as sandbox,
        SegmentsClient(sandbox.credentials, base_url=sandbox.url, journal="memory:") as running,
    ):
        yield running


def replaces(count: int, rows: int = 1_000) -> list[ReplaceUsers]:
    url = "https://files.example.com/a.csv"
    return [ReplaceUsers(name=f"s{number}", file_url=url, rows=rows, **FIELDS) for number in range(count)]


def picture(count: int = 30, *, never: bool = False) -> str:
    bars = [
        Bar(
            segment=f"{NAMES[number % len(NAMES)]}{number}",
            op="create",
            start_s=NOW_S + number // 10 * 3_660,
            limit="operations_per_hour" if number >= 10 else None,
            rows=number * 1_000,
        )
        for number in range(count)
    ]
    if never:
        bars.append(Bar(segment="too many", op="create", start_s=None, limit="active_segments"))
    hour = [(NOW_S + hours * 3_660.0, 10) for hours in range(max(1, count // 10))]
    return draw(bars, [Lane(limit="operations_per_hour", capacity=10, steps=hour)], now_s=NOW_S, zone=IST)


def texts(svg: str) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.asyncio
async def test_a_plan_says_by_when_all_is_sent_and_what_it_spends(client: SegmentsClient) -> None:
    """A sequence of starts, with the sums that people ask for."""
    plan = await client.governor.plan([*replaces(12), ArchiveSegment(name="old")])

    assert isinstance(plan, Plan)
    assert (len(plan), plan.operations, plan.users, plan.never) == (13, 12, 12_000, ())
    assert plan.all_sent_by == plan[11].start
    assert [start.limit for start in plan[9:12]] == [None, "operations_per_hour", "operations_per_hour"]
    hour = next(one for one in plan.limits if one.limit == "operations_per_hour")
    assert (hour.capacity, max(used for _, used in hour.steps), hour.steps[-1][1]) == (10, 10, 0)


@pytest.mark.asyncio
async def test_a_plan_counts_the_users_of_values(client: SegmentsClient) -> None:
    """As many as there are, although nobody declared `rows`."""
    plan = await client.governor.plan([ReplaceUsers(name="s", values=["u1", "u2"], **FIELDS)])
    assert plan.users == 2
    assert "1 operation, 2 users" in texts(plan.to_svg())


@pytest.mark.asyncio
async def test_a_plan_in_which_nothing_can_start_has_no_end(client: SegmentsClient) -> None:
    """More segments than may be active, and none of them ever expires."""
    await client.governor.observe_active_segments(1_000)
    url = "https://files.example.com/a.csv"
    create = CreateFileSegment(name="new", file_url=url, rows=1, expiry_time=30, **FIELDS)
    plan = await client.governor.plan([create])

    assert plan.all_sent_by is None
    assert [start.operation for start in plan.never] == [create]
    assert any("never" in text for text in texts(plan.to_svg()))


@pytest.mark.asyncio
async def test_the_picture_has_a_row_for_each_operation_and_a_lane_for_each_limit(client: SegmentsClient) -> None:
    """Who looks at it sees every segment, every limit that is used, the end and the zone of the times."""
    svg = (await client.governor.plan(replaces(12))).to_svg(zone=IST)

    said = " ".join(texts(svg))
    for one in (
        *(f"s{number}" for number in range(12)),
        "operations_per_day",
        "users_per_day: peak 12,000 of 2,000,000",
    ):
        assert one in said
    assert "12 operations, 12,000 users" in said
    assert "All sent by" in said
    assert "IST" in said


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    """Names come from outside: no element, no control character, no turned direction."""
    svg = picture()
    tree = ET.fromstring(svg)
    assert {one.tag for one in tree.iter()} <= {
        SVG + tag for tag in ("svg", "g", "title", "desc", "style", "rect", "line", "text", "tspan")
    }
    assert not any(one in svg for one in "\u202e\x07")


def test_many_operations_are_thin_rows_with_their_names_to_be_pointed_at() -> None:
    """A thousand rows of text would be no picture."""
    tree = ET.fromstring(picture(1_000))
    assert float(tree.attrib["height"]) < 5_000
    assert sum(one.tag == f"{SVG}g" for one in tree) == 1_000
    assert all(group.find(f"{SVG}title") is not None for group in tree.iter(f"{SVG}g"))


def test_an_empty_plan_is_a_picture_too() -> None:
    """Nothing to do is an answer."""
    assert any("0 operations" in text for text in texts(draw([], [], now_s=NOW_S)))


def test_the_axis_is_in_the_zone_that_was_asked_for() -> None:
    """Half an hour off is India's time."""
    assert datetime.fromtimestamp(NOW_S, UTC).astimezone(IST).strftime("%d %b %Y") in " ".join(texts(picture()))
    assert "17:30" in texts(picture())


CHROMIUM: Final = shutil.which("chromium")


@pytest.mark.asyncio
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1_280])
@pytest.mark.parametrize("drawn", [picture(never=True), picture(1), picture(1_000), draw([], [], now_s=NOW_S - 1_200)])
async def test_the_picture_is_readable_in_a_browser(tmp_path: Path, width: int, scheme: Any, drawn: str) -> None:
    """Nothing sticks out, no name lies over another, and text stands out from its ground."""
    playwright = pytest.importorskip("playwright.async_api", reason="needs playwright: pip install playwright")
    file = tmp_path / "plan.svg"
    file.write_text(drawn)
    async with playwright.async_playwright() as player:
        browser = await player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        page = await context.new_page()
        await page.goto(file.as_uri())
        boxes = await page.evaluate(
            """() => [...document.querySelectorAll("text")].map(one => {
                const box = one.getBoundingClientRect();
                return [one.textContent, box.left, box.right, box.top, box.bottom];
            })"""
        )
        colors = await page.evaluate(
            """() => {
                const of = (one, what) => getComputedStyle(one)[what].match(/[0-9.]+/g).slice(0, 3).map(Number);
                return [...document.querySelectorAll("text, tspan")].map(
                    one => [of(one, "fill"), of(document.documentElement, "backgroundColor")]);
            }"""
        )
        await browser.close()

    assert all(left >= 0 and right <= width for _, left, right, _, _ in boxes), boxes
    names = sorted((top, bottom) for text, _, _, top, bottom in boxes if text.startswith("\u2068"))
    assert all(later[0] >= earlier[1] - 6 for earlier, later in pairwise(names))
    assert min(contrast(*pair) for pair in colors) >= 4.5


def contrast(one: list[float], other: list[float]) -> float:
    """The ratio of two colours' luminance, from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: list[float]) -> float:
    parts = [part / 255 for part in color]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
