"""What the sandbox fetches and where it delivers: loopback and listed hosts, by the address connected to."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from moe_segments.errors import InputError
from moe_segments.limits import QuotaLimits
from moe_segments.sandbox import Sandbox
from moe_segments.sandbox.fetcher import Fetcher, FileProblem, Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments.models import FileFailed, FileProcessed

REFUSED = "the address is neither loopback nor that of a listed host"


class Names(AbstractResolver):
    """Resolves every name to what the test says; asks nobody."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses, whatever the name."""
        self.asked.append(host)
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0)
            for each in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


class Host:
    """A server of files on loopback: answers as its path says, and knows who came."""

    def __init__(self) -> None:
        self.port, self.paths = 0, list[str]()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One file, or one misdeed."""
        self.paths.append(request.path)
        match request.path:
            case "/redirect":
                raise web.HTTPFound("/ok.csv")
            case "/login":
                return web.Response(text="<html>", content_type="text/html")
            case "/zipped":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"})
            case "/endless":
                return await self._endless(request)
            case "/broken" if len(self.paths) < 3:
                raise web.HTTPServiceUnavailable
            case "/hook":
                raise web.HTTPTemporaryRedirect("/ok.csv")
            case "/ok.csv" | "/broken":
                return web.Response(text="a\nb\n", content_type="text/csv")
            case _:
                raise web.HTTPNotFound

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv"})
        await response.prepare(request)
        while True:
            await response.write(b"value\n" * 1_000)


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Host]:
    host, app = Host(), web.Application()
    app.router.add_route("*", "/{name:.*}", host.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.port = runner.addresses[0][1]
    yield host
    await runner.cleanup()


async def problem(url: str, *, allowed: tuple[str, ...] = (), names: Names | None = None) -> str | None:
    """Why the file is not had, or None where it is."""
    fetcher = Fetcher(Gate(allowed), max_bytes=1_000_000, timeout_s=5, resolver=names or Names("10.0.0.1"))
    try:
        await fetcher.rows(url, "string")
    except FileProblem as found:
        return found.problem
    finally:
        await fetcher.close()
    return None


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/f.csv",
        "http://192.168.1.1/f.csv",
        "http://172.16.0.1/f.csv",
        "http://169.254.169.254/latest/meta-data/",
        "http://192.0.2.1/f.csv",
        "http://198.51.100.7/f.csv",
        "http://0.0.0.0:{port}/ok.csv",
        "http://[::]:{port}/ok.csv",
        "http://[::ffff:127.0.0.1]:{port}/ok.csv",
        "http://[::ffff:7f00:1]:{port}/ok.csv",
        "http://[::ffff:10.0.0.1]/f.csv",
        "http://[::ffff:a9fe:a9fe]/f.csv",
        "http://[64:ff9b::a00:1]/f.csv",
        "http://[fe80::1]/f.csv",
        "http://[fd00:ec2::254]/f.csv",
        "http://255.255.255.255/f.csv",
        "http://224.0.0.1/f.csv",
        "http://localhost:{port}/ok.csv",  # resolved to 10.0.0.1 here, as a rebinding name server would
        "http://evil.localhost:{port}/ok.csv",
        "http://metadata.google.internal/f.csv",
        "http://127.0.0.1.nip.io:{port}/ok.csv",
        "http://localhost.example.com:{port}/ok.csv",
        "https://10.0.0.1/f.csv",
        "http://ⓛocalhost:{port}/ok.csv",
        "http://2130706433:{port}/ok.csv",
        "http://0x7f000001:{port}/ok.csv",
        "http://0177.0.0.1:{port}/ok.csv",
        "http://127.1:{port}/ok.csv",
        "http://127.0.0.1:{port}@10.0.0.1/f.csv",
        "http://user:secret@127.0.0.1:{port}/ok.csv",
        "http://127.0.0.1:{port}\\@10.0.0.1/f.csv",
        "http://10.0.0.1#@127.0.0.1:{port}/ok.csv",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/ok.csv",
        "http:///ok.csv",
    ],
)
@pytest.mark.asyncio
async def test_what_is_neither_loopback_nor_listed_is_not_fetched(host: Host, url: str) -> None:
    """However the address is written, and whatever its name resolves to: refused, not merely out of reach."""
    found = await problem(url.format(port=host.port)) or ""

    assert found.startswith("the address ") or found == "the file's address is not a valid URL"
    assert host.paths == []


@pytest.mark.asyncio
async def test_a_name_that_is_not_listed_is_not_even_resolved() -> None:
    """Asking a name server is traffic too."""
    names = Names("127.0.0.1")

    assert await problem("http://files.example.com/f.csv", names=names) == REFUSED
    assert names.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/ok.csv", "http://127.9.9.9:{port}/ok.csv?a=%2F"])
@pytest.mark.asyncio
async def test_loopback_is_fetched(host: Host, url: str) -> None:
    """Anything in 127.0.0.0/8; only the first is listened on here."""
    found = await problem(url.format(port=host.port))

    assert found in {None, "no connection to the file's server"}
    assert bool(host.paths) == (found is None)


@pytest.mark.asyncio
async def test_a_listed_name_admits_what_it_resolves_to(host: Host) -> None:
    """Except the addresses that name servers are made to lie about."""
    url = f"http://Files.Example.com:{host.port}/ok.csv"
    allowed = ("files.example.com",)

    assert await problem(url, allowed=allowed, names=Names("127.0.0.1")) is None
    for trap in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "::ffff:127.0.0.1"):
        assert await problem(url, allowed=allowed, names=Names(trap, trap)) == REFUSED


def test_the_gate_takes_names_and_addresses_only() -> None:
    """A listed address is that address; an IPv4 one in IPv6 clothes is not."""
    gate = Gate(["10.0.0.5", "[fd00::1]", "Files.Example.com."])

    assert [gate.admits(each) for each in ("10.0.0.5", "fd00::1", "127.0.0.1", "::1")] == [True] * 4
    assert [gate.admits(each) for each in ("10.0.0.6", "::ffff:10.0.0.5", "fd00::2", "x")] == [False] * 4
    assert not [each for each in ("8.8.8.8", "100.100.100.200", "2001:4860:4860::8888") if gate.admits(each)]
    assert gate.admits_name("files.example.com")
    assert not gate.admits_name("example.com")
    for entry in ("http://x", "x:80", "", "*.example.com", "a b"):
        with pytest.raises(InputError):
            Gate([entry])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/redirect", "answered 302"),
        ("/none", "answered 404"),
        ("/login", "as text/html"),
        ("/zipped", "compressed"),
        ("/endless", "larger than 1000000 bytes"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_file_is_not_taken(host: Host, path: str, words: str) -> None:
    """A redirect is not followed, a login page not read, an endless file not awaited."""
    assert words in (await problem(f"http://127.0.0.1:{host.port}{path}") or "")
    assert host.paths == [path]


async def processed(sandbox: Sandbox, file_url: str, **fields: object) -> FileProcessed | FileFailed:
    """What one create over HTTP ends with."""
    body = {
        "name": f"s{len(sandbox.workspace.submissions)}",
        "attribute_name": "ID",
        "attribute_type": "string",
        "file_url": file_url,
        "expiry_time": 1,
        **fields,
    }
    signed = aiohttp.encode_basic_auth(sandbox.credentials.workspace_id, sandbox.credentials.api_key)
    async with (
        aiohttp.ClientSession(headers={"Authorization": signed}) as session,
        session.post(f"{sandbox.url}/v2/custom-segments/file-segment", json=body) as response,
    ):
        assert response.status == 202
    await sandbox.idle()
    result = sandbox.workspace.submissions[-1].result
    assert result is not None
    return result


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_had_fails_with_400(host: Host, tmp_path: Path) -> None:
    """Refused, missing or too large: the callback says so and the segment has zero users."""
    large = tmp_path / "large.csv"
    large.write_bytes(b"x\n" * 501)
    exact = tmp_path / "exact.csv"
    exact.write_bytes(b"x\n" * 500)
    async with Sandbox(limits=QuotaLimits(file_bytes=1_000), processing_s=(0, 0)) as sandbox:
        results = [
            await processed(sandbox, "http://10.0.0.1/f.csv"),
            await processed(sandbox, f"http://127.0.0.1:{host.port}/redirect"),
            await processed(sandbox, await sandbox.publish(large)),
            await processed(sandbox, f"{sandbox.url}/v3/custom-segments"),
            await processed(sandbox, await sandbox.publish(exact)),
        ]

    assert [each.status for each in results] == [400, 400, 400, 400, 201]
    assert sandbox.workspace.usage()["users_per_day"] == 500


@pytest.mark.asyncio
async def test_a_passing_failure_is_tried_again(host: Host) -> None:
    """The service retries a download before it reports a failure."""
    url = f"http://127.0.0.1:{host.port}/broken"
    async with Sandbox(processing_s=(0, 0), download_pauses_s=(0.001, 0.001)) as sandbox:
        result = await processed(sandbox, url)

    assert result.status == 201
    assert host.paths == ["/broken"] * 3


@pytest.mark.asyncio
async def test_callbacks_go_to_admitted_addresses_only_and_follow_nothing(host: Host, tmp_path: Path) -> None:
    """The same gate; a redirect is an answer that is not 200."""
    file = tmp_path / "f.csv"
    file.write_text("a")
    async with Sandbox(processing_s=(0, 0), callback_pauses_s=()) as sandbox:
        url = await sandbox.publish(file)
        for callback_url in (
            "http://169.254.169.254/",
            "http://hooks.example.com/",
            "http://u:p@127.0.0.1/",
            f"http://127.0.0.1:{host.port}/hook",
        ):
            await processed(sandbox, url, callback_url=callback_url)

    deliveries = sandbox.workspace.deliveries
    assert [each.status for each in deliveries] == [None, None, None, 307]
    assert [each.problem for each in deliveries][:2] == [REFUSED, REFUSED]
    assert host.paths == ["/hook"]


@pytest.mark.asyncio
async def test_published_files_are_served_and_nothing_else(tmp_path: Path) -> None:
    """A file, or a directory's files; no way out of it, and no guessing."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.csv").write_text("x")
    (tmp_path / "secret").write_text("s")
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        file_url = await sandbox.publish(tmp_path / "in" / "a b.csv")
        directory_url = await sandbox.publish(str(tmp_path / "in"))
        seen = []
        for url in (
            file_url,
            f"{directory_url}a%20b.csv",
            f"{directory_url}..%2Fsecret",
            f"{directory_url}%00",
            directory_url,
            f"{sandbox.url}/_files/x/secret",
        ):
            async with session.get(URL(url, encoded=True)) as response:
                seen.append((response.status, response.content_type if response.status == 200 else None))
        with pytest.raises(InputError):
            await sandbox.publish(tmp_path / "none")

    assert seen == [(200, "text/csv")] * 2 + [(404, None)] * 4


@pytest.mark.asyncio
async def test_a_file_that_is_published_again_is_served_meanwhile(tmp_path: Path) -> None:
    """Several operations name one file: whoever fetches it never finds it gone."""
    file = tmp_path / "users.csv"
    file.write_text("u1\n")
    statuses: set[int] = set()

    async def publish_and_fetch() -> None:
        for _ in range(30):
            url = await sandbox.publish(file)
            async with session.get(url) as response:
                statuses.add(response.status)

    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        await asyncio.gather(*(publish_and_fetch() for _ in range(8)))
    assert statuses == {200}
