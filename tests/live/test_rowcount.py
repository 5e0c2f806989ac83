"""A file is counted by reading it once, from disk or from its public URL, and its host learns nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.cookies
import os
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from moe_segments.errors import PreflightError
from moe_segments.files.check import check_file
from moe_segments.files.remote import file_timeouts
from moe_segments.files.stream import count_rows
from moe_segments.settings import Settings
from tests.live.network import serving

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "CANARY-9f8e7d6c"
TIMEOUTS = aiohttp.ClientTimeout(total=2, sock_read=0.3)
MB = 1_000_000


def file_of(body: bytes, **options: Any) -> Any:  # a handler of aiohttp.web
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, **{"content_type": "text/csv", **options})

    return handler


async def count(source: Path | str, *, max_bytes: int = MB, proxy: str | None = None) -> int:
    return await count_rows(source, max_bytes=max_bytes, timeouts=TIMEOUTS, proxy=proxy, fetch_private=True)


async def refused(source: Path | str, *, max_bytes: int = MB) -> PreflightError:
    with pytest.raises(PreflightError) as caught:
        await count(source, max_bytes=max_bytes)
    assert CANARY not in f"{caught.value!r} {caught.value}"
    return caught.value


LINES = [
    (b"a", 1),
    (b"a\n", 1),
    (b"a\nb", 2),
    (b"a\r\nb\r\n", 2),
    (b"a\rb\x0bc\x0cd\x85e", 1),
    ("a\u2028b\u2029".encode(), 1),
    (b"\n", 1),
    (b"\n\na", 3),
    (b"\xff\x00\xfe\n\x00", 2),
    (b"a\n" * 200_000 + b"b", 200_001),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("body", "rows"), LINES)
async def test_only_a_line_feed_ends_a_line(body: bytes, rows: int, tmp_path: Path) -> None:
    """The last one may lack it; an empty one counts, since the number is an upper bound."""
    path = tmp_path / "users.csv"
    path.write_bytes(body)

    assert await count(path) == rows
    async with serving(file_of(body)) as url:
        assert await count(f"{url}/users.csv") == rows


@given(st.binary(min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_the_count_is_that_of_the_lines(body: bytes) -> None:
    """Against splitting, the slow way."""
    lines = body.split(b"\n")
    rows = len(lines) - (lines[-1] == b"")

    async def counted() -> int:
        async with serving(file_of(body)) as url:
            return await count(url)

    assert asyncio.run(counted()) == rows


@pytest.mark.asyncio
async def test_an_empty_file_is_nothing_to_upload(tmp_path: Path) -> None:
    """It would cost an operation and match nobody."""
    path = tmp_path / "users.csv"
    path.touch()

    assert "empty" in (await refused(path)).problem
    async with serving(file_of(b"")) as url:
        assert "empty" in (await refused(f"{url}/users.csv")).problem


@pytest.mark.asyncio
async def test_a_file_too_large_is_refused_with_what_helps(tmp_path: Path) -> None:
    """One byte above, and not one below."""
    path = tmp_path / "users.csv"
    path.write_bytes(b"x" * MB)

    assert await count(path, max_bytes=MB) == 1
    error = await refused(path, max_bytes=MB - 1)
    assert str(error).startswith(f"{path}: is larger than 999,999 bytes")
    assert "split" in error.problem


@pytest.mark.asyncio
async def test_a_url_too_large_is_refused_before_it_is_read() -> None:
    """Its host says how long it is."""
    async with serving(file_of(b"a\n" * 1_000)) as url:
        assert "larger" in (await refused(f"{url}/users.csv", max_bytes=1_999)).problem
        assert await count(f"{url}/users.csv", max_bytes=2_000) == 1_000


@pytest.mark.asyncio
async def test_a_url_without_a_length_is_refused_as_soon_as_it_is_too_long() -> None:
    """A host that goes on for ever does not keep us."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        await response.prepare(request)
        with contextlib.suppress(OSError):
            while True:
                await response.write(b"a\n" * 10_000)
        return response

    async with serving(endless) as url:
        assert "larger" in (await refused(url)).problem


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "nul"])
async def test_a_path_that_cannot_be_read_is_refused(kind: str, tmp_path: Path) -> None:
    """A pipe too: it would be waited for, and be empty for the upload."""
    path = tmp_path / ("users\0.csv" if kind == "nul" else "users.csv")
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)

    assert (await refused(path)).source == str(path)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [204, 206, 401, 403, 404, 500])
async def test_any_status_but_200_is_refused(status: int) -> None:
    """The service fetches it without a login, hours later."""
    async with serving(file_of(b"a\n" if status != 204 else b"", status=status)) as url:
        assert f"HTTP {status}" in (await refused(f"{url}/users.csv?sig={CANARY}")).problem


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """Often it leads to a login page, which has lines too."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": f"/login?{CANARY}"})

    async with serving(handler) as url:
        assert f"HTTP {status} and redirects" in (await refused(f"{url}/users.csv?sig={CANARY}")).problem
    assert asked == ["/users.csv"]


@pytest.mark.asyncio
@pytest.mark.parametrize("header", ["text/csv; charset=utf-8", "TEXT/PLAIN", "binary/octet-stream"])
async def test_a_documented_content_type_is_taken(header: str) -> None:
    """Whatever its case and its parameters."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"a\n", headers={"Content-Type": header})

    async with serving(handler) as url:
        assert await count(url) == 1


@pytest.mark.asyncio
async def test_a_login_page_is_no_file() -> None:
    """HTML with status 200 is the usual one."""
    async with serving(file_of(b"<html>", content_type="text/html")) as url:
        error = await refused(f"{url}/users.csv?sig={CANARY}")

    assert "text/html" in error.problem
    assert error.source == f"{url}/users.csv"


@pytest.mark.asyncio
async def test_a_compressed_file_is_refused() -> None:
    """The service would read it as one garbled line."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(
            body=gzip.compress(b"a\n"), headers={"Content-Type": "text/csv", "Content-Encoding": "gzip"}
        )

    async with serving(handler) as url:
        assert "compressed" in (await refused(url)).problem


@pytest.mark.asyncio
async def test_a_file_that_breaks_off_is_not_counted() -> None:
    """A count of half a file would be no upper bound."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv", "Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"a\n")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(half) as url:
        assert "broke off" in (await refused(f"{url}/users.csv?sig={CANARY}")).problem


@pytest.mark.asyncio
async def test_a_host_that_hangs_is_given_up() -> None:
    """Within the time-out."""
    stop = asyncio.Event()

    async def hanging(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv", "Content-Length": "100"})
        await response.prepare(request)
        await stop.wait()
        return response

    async with serving(hanging) as url:
        assert "time-out" in (await refused(url)).problem
        stop.set()


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["users.csv", "ftp://x/y", f"https://u:{CANARY}@x/y", "http://[", ""])
async def test_a_text_that_is_no_public_url_is_refused(url: str) -> None:
    """Nothing is fetched, and nothing of it repeated."""
    assert (await refused(url)).source == "the file's URL"


@pytest.mark.asyncio
async def test_a_host_that_is_not_there_is_named() -> None:
    """Without the signature in its query."""
    async with serving(file_of(b"a\n")) as url:
        pass
    error = await refused(f"{url}/users.csv?sig={CANARY}")

    assert error.source == f"{url}/users.csv"
    assert "ClientConnectorError" in error.problem


@pytest.mark.asyncio
async def test_the_files_host_learns_nothing_of_the_session() -> None:
    """Neither its headers nor its cookies; and the URL arrives to the letter."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=b"a\n", content_type="text/csv")

    jar = aiohttp.CookieJar(unsafe=True)
    headers = {"Authorization": f"Basic {CANARY}", "MOE-APPKEY": CANARY}
    async with serving(handler) as url, aiohttp.ClientSession(cookie_jar=jar, headers=headers) as session:
        jar.update_cookies(http.cookies.SimpleCookie({"session": CANARY}), URL(url))
        assert len(jar) == 1
        address = f"{url}/a%2Bb/%7Eme.csv?X-Sig=%2f%3D%7e"
        report = await check_file(address, session=session, timeouts=TIMEOUTS, fetch_private=True)
        assert not session.closed

    assert report.rows == 1
    assert CANARY not in str(seen[0].headers)
    assert seen[0].raw_path == "/a%2Bb/%7Eme.csv?X-Sig=%2f%3D%7e"


@pytest.mark.asyncio
async def test_a_proxy_is_used_only_when_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never from the environment."""
    hosts: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        hosts.append(request.host)
        return web.Response(body=b"a\n", content_type="text/csv")

    async with serving(handler) as url:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert await count(url) == 1
        assert await count("http://files.example.com/users.csv", proxy=url) == 1

    assert hosts[-1] == "files.example.com"


@pytest.mark.asyncio
async def test_a_file_on_disk_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    """It is read in a thread of the loop's executor, which stays for the next one."""
    path = tmp_path / "users.csv"
    path.write_bytes(b"a\n")
    before = set(threading.enumerate())

    assert await count(path) == 1
    assert len(set(threading.enumerate()) - before) == 1


def test_a_file_has_an_hour() -> None:
    """Silence ends as early as for any answer."""
    timeouts = file_timeouts(Settings(base_url="https://api-03.moengage.com", journal="memory:"))

    assert (timeouts.total, timeouts.sock_read) == (3_600, 30)
