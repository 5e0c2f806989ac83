"""The sandbox's page in a real browser: what it shows, how it keeps up, what it lets nobody do."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from moe_segments.limits import HOUR_S
from moe_segments.sandbox import FaultKind, Sandbox
from tests.ports import free_port

playwright = pytest.importorskip("playwright.async_api", reason="needs playwright: pip install playwright")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page, Request

CHROMIUM: Final = shutil.which("chromium")
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FILE: Final = "/v2/custom-segments/file-segment"
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
SOON_MS: Final = 30_000
HOSTILE: Final = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"),
]


class Visit:
    """One page in a browser of its own, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)

    async def text(self, section: str) -> str:
        """What a section says."""
        return await self.page.locator(f"#{section}").inner_text()

    async def until(self, section: str, text: str) -> None:
        """Wait until a section says it."""
        await self.page.locator(f"#{section}").get_by_text(text).first.wait_for(timeout=SOON_MS)

    async def overflow_px(self) -> int:
        """How much wider the page is than its window."""
        wider: int = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return wider


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with playwright.async_playwright() as player:
        browser = await player.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        await browser.close()


@asynccontextmanager
async def visit(
    browser: Browser, sandbox: Sandbox, *, scheme: Literal["light", "dark"] = "light", width: int = 1_280
) -> AsyncIterator[Visit]:
    """Open the page, in a profile of its own."""
    context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = await context.new_page()
    visited = Visit(page)
    await page.goto(sandbox.url + "/")
    yield visited
    await context.close()


async def ask(sandbox: Sandbox, method: str, path: str, body: object = None) -> int:
    """One signed request."""
    credentials = sandbox.credentials
    headers = {
        "Authorization": aiohttp.encode_basic_auth(credentials.workspace_id, credentials.api_key),
        "MOE-APPKEY": credentials.workspace_id,
        "Content-Type": "application/json",
    }
    data = json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, sandbox.url + path, data=data, headers=headers) as response,
    ):
        return response.status


async def create(sandbox: Sandbox, name: str, **fields: object) -> int:
    """Create a file segment."""
    body = {"attribute_name": "ID", "attribute_type": "string", "file_url": "http://127.0.0.1:1/n", "expiry_time": 30}
    return await ask(sandbox, "POST", FILE, {"name": name, **body, **fields})


@asynccontextmanager
async def receiving() -> AsyncIterator[str]:
    """Somewhere to call back."""
    app = web.Application()
    app.router.add_post("/hook", _acknowledge)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    await runner.cleanup()


async def _acknowledge(_: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.asyncio
async def test_the_page_keeps_up_with_the_sandbox(browser: Browser, tmp_path: Path) -> None:
    """Quotas, segments, counts and callbacks show without anybody loading the page again."""
    (tmp_path / "users.csv").write_text("u1\nu2\nu2\nbad,\n")
    async with (
        Sandbox(users=["u1"], processing_s=(0, 0)) as sandbox,
        receiving() as hook,
        visit(browser, sandbox) as seen,
    ):
        before = await seen.text("segments")
        url = await sandbox.publish(tmp_path / "users.csv")
        await create(sandbox, "diwali", file_url=url, callback_url=hook)
        await seen.until("operations", "4 → 2 → 1")
        await seen.until("callbacks", "200")
        await seen.until("segments", "diwali")
        quotas, totals = await seen.text("quotas"), await seen.text("totals")
        await ask(sandbox, "PATCH", "/v2/custom-segments/archive", {"name": "diwali"})
        await seen.until("segments", "archived")
        elsewhere = [url for url in seen.asked if not url.startswith((f"{sandbox.url}/", "data:"))]

    assert "None yet" in before
    assert "1 of 10" in quotas
    assert "next release in 60 min" in quotas
    assert "1\ncallbacks delivered" in totals
    assert seen.complaints == []
    assert elsewhere == []


@pytest.mark.asyncio
async def test_the_page_steers_the_sandbox(browser: Browser) -> None:
    """A switch, a fault for the next request, time, and a reset; also by keyboard."""
    async with Sandbox() as sandbox, visit(browser, sandbox) as seen:
        drop = seen.page.get_by_role("switch", name="drop")
        await drop.focus()
        await seen.page.keyboard.press("Space")
        while not sandbox.faults.drop:
            await asyncio.sleep(0.01)
        await seen.page.locator("#faults [data-fault=drop]:checked").wait_for(timeout=SOON_MS)
        await asyncio.sleep(0.5)
        focused = await seen.page.evaluate("document.activeElement.dataset.fault")
        await seen.page.keyboard.press("Space")
        while sandbox.faults.drop:
            await asyncio.sleep(0.01)
        await seen.page.get_by_role("button", name="lose answer, once").click()
        await seen.until("faults", "next 1")
        queued = dict(sandbox.queued_faults)
        await seen.page.get_by_role("button", name="+1 h").click()
        while not sandbox.ahead_s:
            await asyncio.sleep(0.01)
        ahead_s = sandbox.ahead_s
        await seen.page.get_by_role("button", name="Reset").click()
        while sandbox.queued_faults:
            await asyncio.sleep(0.01)

    assert focused == "drop"
    assert queued == {FaultKind.LOSE_ANSWER: 1}
    assert ahead_s == HOUR_S
    assert seen.complaints == []


@pytest.mark.asyncio
async def test_what_comes_from_outside_is_text(browser: Browser) -> None:
    """Names, filters, paths and errors are shown letter by letter; nothing in them is obeyed."""
    value = {"filter_type": "user_attributes", "name": HOSTILE, "data_type": "string", "operator": "in"}
    group = {"filter_operator": "and", "filters": [value | {"value": f'"\x00\r\n\n{HOSTILE}\ud800'}]}
    async with Sandbox(processing_s=(0, 0)) as sandbox:
        created = await ask(
            sandbox, "POST", "/v3/custom-segments", {"name": "'q' & \u202er", "included_filters": group}
        )
        await create(sandbox, f"{HOSTILE}")
        await ask(sandbox, "GET", f"/v3/custom-segments/{HOSTILE.replace('/', '%2F')}%0A%0Adata:%20x")
        async with visit(browser, sandbox) as seen:
            await create(sandbox, "later")
            await seen.until("segments", "later")
            segments, requests = await seen.text("segments"), await seen.text("requests")
            elements = await seen.page.evaluate("document.querySelectorAll('img, main script').length")
            title = await seen.page.title()

    assert created == 201
    assert HOSTILE in segments
    assert "'q' &" in segments
    assert "<img src=x" in requests
    assert (elements, title) == (0, "Sandbox")
    assert seen.complaints == []


@pytest.mark.asyncio
async def test_the_page_s_policy_stops_what_is_not_its_own(browser: Browser) -> None:
    """A script that got in regardless would not run, and reach nobody."""
    async with Sandbox() as sandbox, visit(browser, sandbox) as seen:
        await seen.page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.ran = 1";
              document.body.append(script);
              document.body.insertAdjacentHTML("beforeend", "<b style='color: red'>x</b>");
            }"""
        )
        ran = await seen.page.evaluate("window.ran")
        left = await seen.page.evaluate("fetch('http://127.0.0.1:1/').then(() => 'left', () => 'stopped')")

    assert ran is None
    assert left == "stopped"
    assert sum("Content Security Policy" in each for each in seen.complaints) >= 3


@pytest.mark.asyncio
async def test_the_page_fits_its_window_in_light_and_dark(browser: Browser) -> None:
    """No scrolling sideways, however long a name is; the colours are the reader's choice."""
    background = "getComputedStyle(document.body).backgroundColor"
    colours, overflow_px = set(), []
    async with Sandbox(processing_s=(0, 0)) as sandbox:
        await create(sandbox, "x" * 200)
        for width in (360, 768, 1_280):
            for scheme in SCHEMES:
                async with visit(browser, sandbox, scheme=scheme, width=width) as seen:
                    overflow_px.append(await seen.overflow_px())
                    colours.add(await seen.page.evaluate(background))

    assert max(overflow_px) <= 0
    assert len(colours) == 2


@pytest.mark.asyncio
async def test_a_page_whose_sandbox_is_gone_says_so(browser: Browser) -> None:
    """What it shows may be old."""
    port = free_port()  # which is not somebody else's while the sandbox is gone
    async with Sandbox(port=port) as sandbox:
        visiting = visit(browser, sandbox)
        seen = await visiting.__aenter__()
        connected = await seen.page.locator("#link").is_visible()
    await seen.page.locator("#link").wait_for(state="visible", timeout=SOON_MS)
    async with Sandbox(port=port):
        await seen.page.locator("#link").wait_for(state="hidden", timeout=SOON_MS)
    await visiting.__aexit__(None, None, None)

    assert not connected
