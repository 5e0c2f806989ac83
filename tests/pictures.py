"""The pictures in the docs, from real runs: `python -m tests.pictures`.

Needs Debian's chromium and, for names in Hindi and Arabic, its fonts-noto-core. The picture of the alerts needs its
prometheus, and is left as it is without.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import struct
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from playwright.async_api import async_playwright

from moe_segments import CallbackReceiver, SegmentsClient, TooManyRequests
from moe_segments.bulk import run_bulk
from moe_segments.bulk.manifest import read_manifest
from moe_segments.dashboard import Dashboard
from moe_segments.sandbox import FaultKind, Faults, Sandbox
from tests.live.dashboard_world import FIELDS, a_week, dashboard_world, doubtful, file_of
from tests.live.prometheus_world import alone, create, prometheus, seen, spend_elsewhere
from tests.small_png import small_png

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

DOCS: Final = Path(__file__).parents[1] / "docs"
WIDTH: Final = 1_366
PHONE: Final = {"width": 390, "height": 844}
GAP: Final = 16
NAMES: Final = (
    *("store_delhi", "store_mumbai", "store_chennai", "store_kolkata", "newsletter_weekly", "churn_risk", "gifting"),
    *("first_order", "second_order", "winback", "onam_2026", "eid_2026", "holi_2027", "students", "pro_members"),
)


def manifest(directory: Path) -> Path:
    """A manifest of a create for each name."""
    lines = ["op,name,attribute_name,attribute_type,file,expiry_time,rows"]
    for number, name in enumerate(NAMES):
        rows = 4_200 + 1_370 * number
        path = file_of(directory, name, (f"u{user}" for user in range(rows)))
        lines.append(f"create,{name},ID,string,{path},30,{rows}")
    written = directory / "nightly.csv"
    written.write_text("\n".join(lines) + "\n")
    return written


@asynccontextmanager
async def a_busy_page(directory: Path) -> AsyncIterator[str]:
    """A week of work, jobs in doubt, a run, and operations in line."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(dashboard_world(directory))
        await a_week(world)
        client = await stack.enter_async_context(world.client())
        await doubtful(client, world)
        await client.governor.record_external(operations=1, rows=240_000)
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(run_bulk(client, read_manifest(manifest(directory))))]
        await asyncio.sleep(5)
        for name, rows in (("high_value", 612_000), ("night_owls", 48_200)):
            create = client.create_file_segment(
                name=name,
                file_url=f"{world.sandbox.url}/{name}.csv",
                rows=rows,
                expiry_time=30,
                max_wait_s=1e6,
                **FIELDS,
            )
            tasks.append(asyncio.create_task(create))
        stack.push_async_callback(_cancelled, tasks)
        await asyncio.sleep(1)
        yield await stack.enter_async_context(Dashboard(world.url, world.scope).serve())


async def _cancelled(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def shot(browser: Browser, url: str, scheme: Any, size: Any, *, below: str | None = None) -> bytes:
    """A picture of the page, from its top or from a section."""
    context = await browser.new_context(color_scheme=scheme, viewport=size)
    page = await context.new_page()
    await page.goto(url)
    await page.locator("#segments table").wait_for()
    await page.wait_for_timeout(1_500)
    if below is not None:
        await page.evaluate(f"scrollTo(0, document.getElementById('{below}').offsetTop - 16)")
    picture = await page.screenshot()
    await context.close()
    return picture


async def beside(browser: Browser, *pictures: bytes) -> bytes:
    """Pictures of one height beside one another."""
    shown = "".join(f"<img src='data:image/png;base64,{base64.b64encode(one).decode()}'>" for one in pictures)
    sizes = [struct.unpack(">II", one[16:24]) for one in pictures]  # of their headers
    width = sum(width + GAP for width, _ in sizes) - GAP
    page = await browser.new_page(viewport={"width": width, "height": sizes[0][1]})
    await page.set_content(f"<body style='margin:0;display:flex;gap:{GAP}px;background:#8886'>{shown}</body>")
    return await page.screenshot()


@asynccontextmanager
async def a_sandbox() -> AsyncIterator[str]:
    """A sandbox that was used for a while."""
    sandbox = Sandbox(speed=60, users=[f"u{number}" for number in range(900)], faults=Faults(slow=0.25, slow_s=(0, 0)))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sandbox)
        receiver = await stack.enter_async_context(CallbackReceiver().serve())
        client = await stack.enter_async_context(
            SegmentsClient(
                sandbox.credentials,
                journal="memory:",
                callbacks=receiver,
                base_url=sandbox.url,
                publish=sandbox.publish,
                limits=sandbox.limits,
            )
        )
        for number, name in enumerate(("newsletter", "diwali_2026", "cart_monday", "cart_tuesday", "store_delhi")):
            values = [f"u{user}" for user in range(1_000 + 20 * number)]
            await client.create_file_segment(name=name, values=values, expiry_time=30, **FIELDS)
        await sandbox.idle()
        await client.archive_segment(name="newsletter")
        for name in ("diwali_2026", "store_delhi"):
            await client.add_users(name=name, values=["u1", "u2", "nobody"], **FIELDS)
        await sandbox.idle()
        sandbox.fail_next(FaultKind.LOSE_CALLBACK, 2)
        yield f"{sandbox.url}/"


@asynccontextmanager
async def alerts(server: str, directory: Path) -> AsyncIterator[str]:
    """Prometheus' page when one alert fires, and one waits for its five minutes."""
    async with (
        alone(directory, metrics=True) as (receiver, client, sandbox),
        prometheus(server, directory, receiver) as url,
        aiohttp.ClientSession() as session,
    ):
        await client.governor.record_external(rows=1_900_000)
        await spend_elsewhere(sandbox)
        with suppress(TooManyRequests):
            await client.submit(create("late"))
        await seen(session, f"{url}/api/v1/alerts", '"state":"firing"', '"state":"pending"')
        yield f"{url}/classic/alerts"


async def shot_of_alerts(browser: Browser, url: str) -> bytes:
    """A picture of all alerts, with what the firing one says."""
    page = await browser.new_page(viewport={"width": 1_100, "height": 400})
    await page.goto(url)
    await page.locator("div.show-annotations").click()
    await page.locator(".alert_header.alert-danger").click()
    await page.mouse.move(0, 0)
    return await page.screenshot(full_page=True)


async def main() -> None:
    """Write all of them."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moe-segments-")))
        url = await stack.enter_async_context(a_busy_page(directory))
        sandbox = await stack.enter_async_context(a_sandbox())
        player = await stack.enter_async_context(async_playwright())
        browser = await player.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        pictures = {
            "dashboard": await shot(browser, url, "light", {"width": WIDTH, "height": 950}),
            "dashboard-jobs": await shot(browser, url, "dark", {"width": WIDTH, "height": 960}, below="jobs"),
            "dashboard-phone": await beside(
                browser,
                await shot(browser, url, "light", PHONE),
                await shot(browser, url, "dark", PHONE, below="jobs"),
                await shot(browser, url, "light", PHONE, below="segments"),
            ),
        }
        pictures["sandbox"] = await beside(
            browser,
            await shot(browser, sandbox, "light", {"width": 1_180, "height": 860}),
            await shot(browser, sandbox, "dark", {"width": 390, "height": 860}),
        )
        server = shutil.which("prometheus")
        if server is None:
            sys.stdout.write("alerts.png: left as it is; it needs prometheus, of Debian's package of that name\n")
        else:
            (directory / "alerts").mkdir()
            async with alerts(server, directory / "alerts") as url:
                pictures["alerts"] = await shot_of_alerts(browser, url)
        await browser.close()
    for name, picture in pictures.items():
        path = DOCS / f"{name}.png"
        path.write_bytes(small_png(picture))
        sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
