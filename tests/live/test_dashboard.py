"""The dashboard's server: what it shows of a real journal, that it writes nothing, and whom it does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import os
import re
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import attrs
import pytest

from moe_segments import Credentials, InputError, QuotaLimits, SegmentsClient
from moe_segments.dashboard import Dashboard
from moe_segments.journal import tools
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.sandbox import Sandbox
from tests.fleet.servers import redis_server
from tests.live.dashboard_world import FIELDS, HOSTILE, dashboard_world, doubtful, hostile
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.asyncio

KEY: Final = "the-key-that-nobody-may-see"
CREDENTIALS: Final = Credentials(workspace_id="W1", api_key=KEY, data_center="01")
SERVICE: Final = "http://127.0.0.1:9"
PATIENCE_S: Final = 30.0


@attrs.frozen
class Answer:
    """An answer, as it came."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def said(self) -> str:
        """The text of the page, its tags left out."""
        body = self.text.partition("<body>")[2].partition("<script")[0]
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


async def ask(url: str, path: str = "", method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, headers=headers, allow_redirects=False) as response,
    ):
        return Answer(response.status, dict(response.headers), await response.text())


def client_on(journal: str, **more: Any) -> SegmentsClient:
    return SegmentsClient(CREDENTIALS, journal=journal, base_url=SERVICE, **more)


async def a_journal(directory: Path) -> str:
    """One in a file, with what a client writes first and a little usage."""
    url = f"sqlite:///{directory / 'quota.db'}"
    async with client_on(url) as client:
        await client.governor.record_external(operations=3, rows=5_000)
    return url


async def first_event(url: str) -> dict[str, str]:
    """The sections that an open page is sent first."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}events") as response:
        assert response.content_type == "text/event-stream"
        line = await asyncio.wait_for(response.content.readline(), PATIENCE_S)
    sections = json.loads(line.removeprefix(b"data: "))
    assert isinstance(sections, dict)
    return sections


async def until(url: str, *said: str, without: str = "\x00") -> str:
    """Look until the page says all of it, as somebody who loads it again would."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            text = (await ask(url)).said
            if all(one in text for one in said) and without not in text:
                return text
            await asyncio.sleep(0.05)


# What it shows


async def test_a_journal_is_shown_without_a_key(tmp_path: Path) -> None:
    """Quotas, with what others spent; and what there is to say where there is nothing yet."""
    url = await a_journal(tmp_path)
    async with Dashboard(url, CREDENTIALS.scope).serve() as address:
        said = (await ask(address)).said
        sections = await first_event(address)

    assert "7 free of 10" in said
    assert "3 used · 3 by others" in said
    assert "Nobody waits. One more operation could start now." in said
    assert said.count("None yet") == 2
    assert list(sections) == ["source", "notices", "quotas", "plan", "jobs", "callbacks", "segments", "log"]


async def test_what_clients_do_is_shown_as_they_do_it(tmp_path: Path) -> None:
    """An operation from its acceptance to its figures, an unknown one on top, callbacks, the log."""
    async with (
        dashboard_world(tmp_path) as world,
        world.client() as client,
        Dashboard(world.url, world.scope).serve() as address,
    ):
        job = await client.create_file_segment(name="diwali", values=["u1", "u2", "nobody"], expiry_time=30, **FIELDS)
        await job.result(timeout=PATIENCE_S)
        await until(address, "3 → 3 → 2", "1 arrived, last day", "67 %", "callback diwali processed, 3 values found")
        await doubtful(client, world)
        said = await until(address, "1 job of unknown outcome", "1 failed", "1 unreadable")

    jobs = said.partition(" Jobs ")[2]
    places = [jobs.index(job) for job in ("add loyalty_gold", "create store_pune", "create browse_abandon")]
    assert places == sorted(places)


async def test_who_waits_is_shown_with_the_start_that_the_governor_names(tmp_path: Path) -> None:
    """The same forecast, from another process's side."""
    async with dashboard_world(tmp_path) as world, world.client() as client:
        await client.governor.record_external(operations=9, rows=10)
        waiting = [
            asyncio.create_task(
                client.create_file_segment(name=f"s{number}", values=["u1"], expiry_time=30, max_wait_s=1e6, **FIELDS)
            )
            for number in range(3)
        ]
        async with Dashboard(world.url, world.scope).serve() as address:
            await until(address, "2 in line", "1 → 1 → 1")
            page = (await ask(address)).text
        usage = await client.governor.usage()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    shown = re.findall(r'data-name="Starts"><span><time datetime="([^"]+)"', page)
    release = usage["operations_per_hour"].next_release
    assert release is not None
    assert len(shown) == 2
    assert shown[0][:19] == release.isoformat()[:19]


async def test_a_journal_of_a_sandbox_is_shown_at_its_own_speed(tmp_path: Path) -> None:
    """Nobody has to say --speed, and the limits that were set are kept."""
    url = f"sqlite:///{tmp_path / 'quota.db'}"
    limits = QuotaLimits(operations_per_hour=7)
    async with client_on(url, limits=limits.scaled(60)) as client:
        await client.governor.record_external(operations=2)
        release = (await client.governor.usage())["operations_per_hour"].next_release
    async with Dashboard(url, CREDENTIALS.scope, limits).serve() as address:
        page = await ask(address)

    assert "5 free of 7" in page.said
    assert "speed 60 times" in page.said
    assert release is not None
    assert f'datetime="{release.isoformat()[:19]}' in page.text


# What it does not do


async def test_nothing_is_written_to_the_journal(tmp_path: Path) -> None:
    """Not a byte of the file, however long somebody looks."""
    url = await a_journal(tmp_path)
    before = hashlib.sha256((tmp_path / "quota.db").read_bytes()).digest()
    async with Dashboard(url, CREDENTIALS.scope).serve() as address:
        for _ in range(3):
            await ask(address)
            await first_event(address)
    events = [entry.event async for entry in tools.read_log(url, CREDENTIALS.scope)]

    assert hashlib.sha256((tmp_path / "quota.db").read_bytes()).digest() == before
    assert events == ["opened", "external"]


async def test_no_secret_is_on_the_page(tmp_path: Path) -> None:
    """No key, no token, no query of an address, no value of a file."""
    async with (
        dashboard_world(tmp_path) as world,
        world.client() as client,
        Dashboard(world.url, world.scope).serve() as address,
    ):
        await doubtful(client, world)
        await client.create_file_segment(
            name="signed", file_url=f"{world.sandbox.url}/x.csv?signature=s3cr3t", rows=1, expiry_time=30, **FIELDS
        )
        await until(address, "signed")
        text = (await ask(address)).text
        callbacks = [str(each.ask.callback_url) for each in world.sandbox.workspace.submissions]

    shown = re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL)
    assert len(callbacks) >= 5
    for secret in (world.sandbox.credentials.api_key, "s3cr3t", "x.csv", "u7", *(url[-43:] for url in callbacks)):
        assert secret not in shown


async def test_a_name_that_was_made_to_point_here_reads_nothing(tmp_path: Path) -> None:
    """Neither the page nor its events; loopback is known by each of its names."""
    async with Dashboard(await a_journal(tmp_path), CREDENTIALS.scope).serve() as address:
        port = address.rsplit(":", 1)[1].rstrip("/")
        hosts = ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "")
        refused = [await ask(address, path, headers={"Host": host}) for host in hosts for path in ("", "events")]
        known = [await ask(address, headers={"Host": f"{host}:{port}"}) for host in ("localhost", "127.0.0.1", "[::1]")]

    assert {answer.status for answer in refused} <= {400, 403}
    assert all("7 free" not in answer.text for answer in refused)
    assert {answer.status for answer in known} == {200}


async def test_a_page_of_another_site_gets_no_events(tmp_path: Path) -> None:
    """As its browser says whose page it is; and no answer gives another origin leave to read it."""
    async with Dashboard(await a_journal(tmp_path), CREDENTIALS.scope).serve() as address:
        refused = [
            await ask(address, "events", headers={"Sec-Fetch-Site": site}) for site in ("cross-site", "same-site")
        ]
        page = await ask(address, headers={"Origin": "https://evil.example"})

    assert [answer.status for answer in refused] == [403, 403]
    assert not [name for answer in (*refused, page) for name in answer.headers if name.lower().startswith("access-")]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_nothing_but_reading_is_answered(tmp_path: Path, method: str) -> None:
    async with Dashboard(await a_journal(tmp_path), CREDENTIALS.scope).serve() as address:
        answers = [await ask(address, path, method) for path in ("", "events")]
        heads = [await ask(address, path, "HEAD") for path in ("", "events")]

    assert [answer.status for answer in answers] == [405, 405]
    assert [(head.status, head.text) for head in heads] == [(200, "")] * 2


async def test_every_answer_says_what_a_browser_may_do_with_it(tmp_path: Path) -> None:
    """Nothing is kept, framed, sent on, loaded from elsewhere, or run but the page's own script."""
    async with Dashboard(await a_journal(tmp_path), CREDENTIALS.scope).serve() as address:
        page, missing = await ask(address), await ask(address, "nothing")

    policy = page.headers["Content-Security-Policy"]
    assert missing.status == 404
    for answer in (page, missing):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.text.count("<script") == page.text.count("<style") == 1
    assert not re.search(r"\son\w+=|\sstyle=|(?:src|href)=\"(?!data:,)", page.text)


async def test_what_comes_from_outside_is_text(tmp_path: Path) -> None:
    """In names, errors, manifests and callbacks; what would turn the direction of text is shown as an escape."""
    url = await a_journal(tmp_path)
    journal = SqliteJournal(tmp_path / "quota.db", CREDENTIALS.scope)
    await journal.open()
    await hostile(journal)
    await journal.close()
    async with Dashboard(url, CREDENTIALS.scope).serve() as address:
        page = await ask(address)

    assert "<img" not in page.text
    assert "\u202e" not in page.text
    assert page.said.count(HOSTILE.replace("\u202e", "\\u202e")) >= 8


# Where there is no journal


@pytest.mark.parametrize("journal", ["memory:", "sqlite:///nowhere.db"])
async def test_a_journal_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    """A mistyped one is not made, and one in memory is another process's."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        async with Dashboard(journal, CREDENTIALS.scope).serve():
            pass
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - an empty directory


@pytest.mark.parametrize("port", [-1, 65_536, None])
async def test_a_port_that_cannot_be_used_is_refused(tmp_path: Path, port: int | None) -> None:
    """Out of range, or taken."""
    url = await a_journal(tmp_path)
    async with Dashboard(url, CREDENTIALS.scope).serve() as address:
        wanted = int(address.rsplit(":", 1)[1].rstrip("/")) if port is None else port
        with pytest.raises(InputError, match="65535" if port is not None else "name another"):
            async with Dashboard(url, CREDENTIALS.scope).serve(wanted):
                pass


async def test_a_journal_that_goes_away_is_told_and_taken_up_again(tmp_path: Path) -> None:
    """What was read last goes on being shown; when the file is back, so is the rest."""
    url, path = await a_journal(tmp_path), tmp_path / "quota.db"
    async with Dashboard(url, CREDENTIALS.scope).serve() as address:
        path.rename(tmp_path / "elsewhere.db")
        away = await until(address, "Journal away", "The journal cannot be read")
        (tmp_path / "elsewhere.db").rename(path)
        await until(address, "Live", without="The journal cannot be read")
        async with client_on(url) as client:
            await client.governor.record_external(operations=1)
        await until(address, "6 free of 10")

    assert "7 free of 10" in away


async def test_a_journal_that_was_exchanged_is_shown_as_it_is_now(tmp_path: Path) -> None:
    """A backup that was put back, or a new one."""
    url, other = await a_journal(tmp_path), tmp_path / "other"
    other.mkdir()
    async with client_on(f"sqlite:///{other / 'quota.db'}") as client:
        await client.governor.record_external(operations=8)
    async with Dashboard(url, CREDENTIALS.scope).serve() as address:
        await until(address, "7 free of 10")
        shutil.copy(other / "quota.db", tmp_path / "new.db")
        (tmp_path / "new.db").replace(tmp_path / "quota.db")
        await until(address, "2 free of 10", "Live")


@pytest.mark.processes
@pytest.mark.timeout(120)
async def test_a_journal_on_a_server_is_followed_through_its_restart() -> None:
    """On Redis: shown while it is used, told when it is away, taken up again."""
    with redis_server() as server:
        async with (
            Sandbox(processing_s=(0, 0)) as sandbox,
            SegmentsClient(sandbox.credentials, journal=server.url, base_url=sandbox.url) as client,
            Dashboard(server.url, sandbox.credentials.scope).serve() as address,
        ):
            url = f"{sandbox.url}/none.csv"
            await client.create_file_segment(
                name="before", file_url=url, rows=5, expiry_time=30, preflight="off", **FIELDS
            )
            await until(address, "before", "9 free of 10")
            server.kill()
            await until(address, "Journal away", "9 free of 10")
            server.start()
            await until(address, "Live", without="Journal away")
            await client.create_file_segment(
                name="after", file_url=url, rows=5, expiry_time=30, preflight="off", **FIELDS
            )
            await until(address, "after", "8 free of 10")


# The command


@pytest.mark.processes
async def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """It needs no key, says where the page is, and takes no other address."""
    url, port = await a_journal(tmp_path), free_port()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MOE_WORKSPACE_ID": "W1", "MOE_DATA_CENTER": "01"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moe_segments", "dashboard", "--port", str(port), "--journal", url, "--json"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    told = json.loads(await asyncio.wait_for(process.stdout.readuntil(b"}\n"), PATIENCE_S))
    said = (await ask(told["url"])).said
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    assert told == {"url": f"http://127.0.0.1:{port}/", "journal": tools.place_of(url), "scope": CREDENTIALS.scope}
    assert "7 free of 10" in said
    assert process.returncode == 0
    assert b"on this machine alone" in err


@pytest.mark.processes
async def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """A journal that is not there: one sentence, exit code 2, nothing made."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MOE_WORKSPACE_ID": "W1", "MOE_DATA_CENTER": "01"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moe_segments", "dashboard", "--journal", f"sqlite:///{tmp_path / 'none.db'}"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    assert (process.returncode, out) == (2, b"")
    assert b"there is no journal of W1@01" in err
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - an empty directory
