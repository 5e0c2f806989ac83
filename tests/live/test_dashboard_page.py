"""The dashboard in a real browser: it fits, it can be read and used by anybody, and it keeps up with a run."""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp
import pytest
import pytest_asyncio

from moe_segments.bulk import run_bulk
from moe_segments.bulk.manifest import read_manifest
from moe_segments.dashboard import Dashboard
from moe_segments.journal.sqlite.engine import SqliteJournal
from tests.live.dashboard_world import ARABIC, HINDI, HOSTILE, a_week, dashboard_world, doubtful, file_of, hostile
from tests.live.test_timeline import contrast

playwright = pytest.importorskip("playwright.async_api", reason="needs playwright: pip install playwright")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from moe_segments import SegmentsClient
    from tests.live.dashboard_world import DashboardWorld

CHROMIUM: Final = shutil.which("chromium")
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WIDTHS: Final = (390, 1_366)
SOON_MS: Final = 30_000
SECTIONS: Final = ("Journal", "Notices", "Quotas", "Plan ahead", "Jobs", "Callbacks", "Segments and audiences", "Log")

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.processes,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]

# Of each element that shows text of its own: its colour and what is behind it.
COLORS: Final = """() => {
  const parts = (color) => color.match(/[0-9.]+/g).map(Number);
  const shown = [...document.querySelectorAll("body *")].filter((one) =>
    [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && one.getClientRects().length
    && !one.closest("svg, script, style, .unseen, thead") && !one.hidden);
  return shown.map((one) => {
    let behind = one, ground = [0, 0, 0, 0];
    while (behind && ground[3] === 0) {
      ground = parts(getComputedStyle(behind).backgroundColor);
      if (ground.length === 3) ground.push(1);
      behind = behind.parentElement;
    }
    return [one.textContent.trim().slice(0, 30), parts(getComputedStyle(one).color).slice(0, 3), ground.slice(0, 3)];
  });
}"""


class Visit:
    """One page in a profile of its own, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    async def text(self, section: str) -> str:
        """What a section says."""
        return await self.page.locator(f"#{section}").inner_text()

    async def until(self, section: str, text: str) -> None:
        """Wait until a section says it."""
        await self.page.locator(f"#{section}").get_by_text(text).first.wait_for(timeout=SOON_MS)

    async def evaluate(self, script: str) -> Any:
        """The value of a script."""
        return await self.page.evaluate(script)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with playwright.async_playwright() as player:
        browser = await player.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        await browser.close()


@asynccontextmanager
async def visit(browser: Browser, url: str, width: int = 1_366, **options: Any) -> AsyncIterator[Visit]:
    context = await browser.new_context(viewport={"width": width, "height": 800}, **options)
    page = await context.new_page()
    visited = Visit(page)
    await page.goto(url)
    yield visited
    await context.close()


@asynccontextmanager
async def a_full_page(tmp_path: Path) -> AsyncIterator[tuple[DashboardWorld, SegmentsClient, str]]:
    """A week of work, jobs in doubt, hostile text, and operations that wait."""
    async with dashboard_world(tmp_path) as world:
        await a_week(world)
        journal = SqliteJournal(world.path, world.scope)
        await journal.open()
        await hostile(journal)
        await journal.close()
        async with world.client() as client:
            await doubtful(client, world)
            async with Dashboard(world.url, world.scope).serve() as url:
                yield world, client, url


def manifest(directory: Path, count: int) -> Path:
    """A manifest of so many creates."""
    lines = ["op,name,attribute_name,attribute_type,file,expiry_time,rows"]
    for number in range(count):
        path = file_of(directory, f"f{number}", (f"u{user}" for user in range(10 + number)))
        lines.append(f"create,nightly_{number},ID,string,{path},30,{10 + number}")
    written = directory / "nightly.csv"
    written.write_text("\n".join(lines) + "\n")
    return written


@pytest.mark.timeout(240)
async def test_the_page_fits_and_can_be_read_in_every_window(browser: Browser, tmp_path: Path) -> None:
    """No scrolling sideways, in light and dark; names in any script; text that stands out from its ground."""
    colors: set[str] = set()
    async with a_full_page(tmp_path) as (_, __, url):
        for width in WIDTHS:
            for scheme in SCHEMES:
                async with visit(browser, url, width, color_scheme=scheme) as seen:
                    await seen.until("segments", HINDI)
                    await seen.until("segments", ARABIC)
                    wider = await seen.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                    pairs = await seen.evaluate(COLORS)
                    colors.add(await seen.evaluate("getComputedStyle(document.body).backgroundColor"))
                    assert seen.complaints == []
                assert wider <= 0, (width, scheme)
                low = [(text, ink, ground) for text, ink, ground in pairs if contrast(ink, ground) < 4.5]
                assert len(pairs) > 100
                assert low == [], (width, scheme)

    assert len(colors) == 2


@pytest.mark.timeout(240)
async def test_what_comes_from_outside_is_text_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    """A name that is a picture with a script stays a name, also when it arrives while the page is open."""
    async with dashboard_world(tmp_path) as world, world.client():
        async with Dashboard(world.url, world.scope).serve() as url, visit(browser, url) as seen:
            journal = SqliteJournal(world.path, world.scope)
            await journal.open()
            await hostile(journal)
            await journal.close()
            await seen.until("plan", "<img src=x")
            await seen.until("jobs", "<img src=x")
            await seen.until("callbacks", "<img src=x")
            await seen.until("log", "<img src=x")
            pictures = await seen.evaluate("document.querySelectorAll('img, main script, main style').length")
            directions = await seen.evaluate("[...document.querySelectorAll('bdi')].every((one) => one.dir === 'auto')")
            title, segments = await seen.page.title(), await seen.text("segments")

    assert (pictures, directions) == (0, True)
    assert "taken" not in title
    assert HOSTILE.replace("\u202e", "\\u202e") in segments
    assert seen.complaints == []
    assert [one for one in seen.asked if not one.startswith((url, "data:"))] == []


@pytest.mark.timeout(240)
async def test_the_page_keeps_up_with_a_run(browser: Browser, tmp_path: Path) -> None:
    """Nobody loads it again: the run, the quota, jobs, callbacks, the log, and the starts of what is left."""
    async with dashboard_world(tmp_path) as world, world.client() as client:
        async with Dashboard(world.url, world.scope).serve() as url, visit(browser, url) as seen:
            before = await seen.text("jobs"), await seen.text("plan"), await seen.text("quotas")
            run = asyncio.create_task(run_bulk(client, read_manifest(manifest(tmp_path, 13))))
            await seen.until("plan", "10 of 13 ended")
            await seen.until("jobs", "19 → 19 → 19")
            await seen.until("callbacks", "nightly_9")
            await seen.until("log", "10 values found")
            await seen.until("plan", "nightly_12")
            starts = await seen.page.locator("#plan td[data-name=Starts]").all_inner_texts()
            dots = await seen.page.locator("#plan .track circle").count()
            quotas = await seen.text("quotas")
            loads = [one for one in seen.asked if one == url]
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run

    assert "None yet" in before[0]
    assert "Nobody waits" in before[1]
    assert re.search(r"10\s+free of 10", before[2])
    assert re.search(r"0\s+free of 10", quotas)
    assert "Next free in" in quotas or "All free in" in quotas
    assert len(starts) == dots == 3
    assert all(re.match(r"in (6[01] min|1 h)", start) for start in starts)
    assert len(loads) == 1
    assert seen.complaints == []


async def test_times_are_the_reader_s(browser: Browser, tmp_path: Path) -> None:
    """In the zone of the browser; beside it the page counts on by itself."""
    async with dashboard_world(tmp_path) as world, world.client() as client:
        await client.governor.record_external(operations=1)
        async with Dashboard(world.url, world.scope).serve() as url:
            async with visit(browser, url, timezone_id="Asia/Kolkata") as seen:
                release = seen.page.locator("#quotas time[data-local]").first
                moment, shown = await release.get_attribute("datetime"), await release.inner_text()
                title = await release.get_attribute("title")

    assert moment is not None
    hours, minutes = (int(part) for part in moment[11:16].split(":"))
    ahead = (hours * 60 + minutes + 330) % 1_440
    assert f"{ahead // 60:02}:{ahead % 60:02}" in shown
    assert "GMT+5:30" in str(title)


@pytest.mark.timeout(240)
async def test_everything_is_reached_by_landmarks_and_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    """Each section is named, each table has headers, each part that scrolls can be focused and keeps it."""
    async with a_full_page(tmp_path) as (_, client, url), visit(browser, url) as seen:
        await seen.until("plan", "in line")
        named = [await seen.page.get_by_role("region", name=name, exact=True).count() for name in SECTIONS]
        headers = await seen.page.get_by_role("columnheader").count()
        bars = await seen.evaluate(
            "[...document.querySelectorAll('svg')].every((one) => one.ariaHidden || one.role && one.ariaLabel)"
        )
        stops: list[str] = []
        for _ in range(12):
            await seen.page.keyboard.press("Tab")
            stops.append(await seen.evaluate("document.activeElement.dataset.key ?? ''"))
        await seen.page.locator("[data-key=Jobs]").focus()
        await seen.page.keyboard.press("End")
        while not await seen.evaluate("document.activeElement.scrollTop"):
            await asyncio.sleep(0.05)
        await client.governor.observe_active_segments(20)
        await client.create_file_segment(
            name="later", values=["u1"], expiry_time=3, attribute_name="ID", attribute_type="string"
        )
        await seen.until("jobs", "later")
        kept = await seen.evaluate("[document.activeElement.dataset.key, document.activeElement.scrollTop > 0]")
        language = await seen.evaluate("document.documentElement.lang")

    assert set(named) == {1}, dict(zip(SECTIONS, named, strict=True))
    assert headers == 5 + 5 + 3 + 5
    assert bars
    assert [stop for stop in stops if stop][:5] == ["plan", "Jobs", "Callbacks", "Segments", "log"]
    assert kept == ["Jobs", True]
    assert language == "en"


async def test_marked_text_is_not_taken_away(browser: Browser, tmp_path: Path) -> None:
    """Somebody who copies an identifier keeps it marked while the page changes; then the change comes."""
    async with dashboard_world(tmp_path) as world, world.client() as client:
        await client.governor.record_external(operations=1)
        async with Dashboard(world.url, world.scope).serve() as url, visit(browser, url) as seen:
            await seen.until("log", "1 operations")
            await seen.evaluate("getSelection().selectAllChildren(document.querySelector('#log li:last-child'))")
            marked = await seen.evaluate("getSelection().toString()")
            await client.governor.record_external(operations=2)
            await seen.until("quotas", "3 used")
            during = await seen.evaluate("getSelection().toString()"), await seen.text("log")
            await seen.evaluate("getSelection().removeAllRanges()")
            await seen.until("log", "2 operations")

    assert marked
    assert during[0] == marked
    assert "2 operations" not in during[1]


async def test_the_page_s_policy_stops_what_is_not_its_own(browser: Browser, tmp_path: Path) -> None:
    """A script that got in regardless would not run, and reach nobody."""
    async with dashboard_world(tmp_path) as world, world.client():
        async with Dashboard(world.url, world.scope).serve() as url, visit(browser, url) as seen:
            await seen.evaluate(
                """() => {
                  const script = document.createElement("script");
                  script.textContent = "window.ran = 1";
                  document.body.append(script);
                  document.body.insertAdjacentHTML("beforeend", "<img src=/x onerror='window.ran = 2'>");
                }"""
            )
            ran = await seen.evaluate("window.ran")
            left = await seen.evaluate("fetch('http://127.0.0.1:1/').then(() => 'left', () => 'stopped')")

    assert ran is None
    assert left == "stopped"
    assert sum("Content Security Policy" in each for each in seen.complaints) >= 3


async def test_a_journal_or_a_server_that_is_gone_is_told(browser: Browser, tmp_path: Path) -> None:
    """What is shown may be old; both are taken up again without a load."""
    async with dashboard_world(tmp_path) as world, world.client():
        serving = Dashboard(world.url, world.scope).serve()
        url = await serving.__aenter__()
        async with visit(browser, url) as seen:
            await seen.until("source", "Live")
            world.path.rename(tmp_path / "elsewhere.db")
            await seen.until("source", "Journal away")
            notice = await seen.text("notices")
            (tmp_path / "elsewhere.db").rename(world.path)
            await seen.until("source", "Live")
            await serving.__aexit__(None, None, None)
            await seen.page.locator("#link").wait_for(state="visible", timeout=SOON_MS)
            port = int(url.rsplit(":", 1)[1].rstrip("/"))
            async with Dashboard(world.url, world.scope).serve(port):
                await seen.page.locator("#link").wait_for(state="hidden", timeout=SOON_MS)

    assert "The journal cannot be read" in notice
    assert "What is shown may be old" in notice


async def test_a_page_that_found_no_room_comes_back(browser: Browser, tmp_path: Path) -> None:
    """So many pages are looked after; one more says so, and goes on when another is closed."""
    async with (
        dashboard_world(tmp_path) as world,
        world.client() as client,
        Dashboard(world.url, world.scope).serve() as url,
        aiohttp.ClientSession() as session,
    ):
        others = [await session.get(f"{url}events") for _ in range(16)]
        async with visit(browser, url) as seen:
            await seen.page.locator("#link").wait_for(state="visible", timeout=SOON_MS)
            for other in others:
                other.close()
            await seen.page.locator("#link").wait_for(state="hidden", timeout=SOON_MS)
            await client.governor.record_external(operations=4)
            await seen.until("quotas", "4 used")

    assert [other.status for other in others] == [200] * 16
