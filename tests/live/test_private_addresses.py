"""A URL that somebody else chose is read from public addresses alone, judged by the address that is connected to."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from moe_segments import CreateFileSegment, InputError, PreflightError, SegmentsClient
from moe_segments.cli.app import run
from moe_segments.files.check import check_file, clean_file, split_file
from moe_segments.http.private_addresses import PrivateAddress, connector_for, is_public
from moe_segments.publishing.http import glance
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REFUSED: Final = "is at an address of this machine or of a private network"
PRIVATE: Final = [
    "127.0.0.1",
    "127.8.8.8",
    "localhost",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.254",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "255.255.255.255",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.0.1.",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::a00:1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
]


class Host:
    """A server on loopback: one file, a redirect to it, and who came."""

    def __init__(self) -> None:
        self.seen = list[str]()
        self.port = 0

    async def serve(self, request: web.Request) -> web.Response:
        """Give the file, or redirect to it."""
        self.seen.append(f"{request.host}{request.path}")
        if request.path == "/redirect":
            raise web.HTTPFound(f"http://127.0.0.1:{self.port}/f.csv")
        return web.Response(body=b"u-1\nu-2\n", content_type="text/csv")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Host]:
        """Serve while inside."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.serve)
        async with TestServer(app) as server:
            self.port = server.port or 0
            yield self


class Names(AbstractResolver):
    """Resolves a name to one address after the other, as a name server that rebinds does."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the next address."""
        found = self._addresses.pop(0)
        return [ResolveResult(hostname=host, host=found, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Do nothing."""


def create(file_url: str, **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(
        name="s", attribute_name="ID", attribute_type="string", file_url=file_url, expiry_time=1, **fields
    )


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.asyncio
async def test_a_private_address_is_not_read_however_it_is_written(host: str) -> None:
    """A tenant's URL must not read this machine, the network around it or a cloud's metadata."""
    async with Host().running() as server:
        with pytest.raises(PreflightError) as caught:
            await check_file(f"http://{host}:{server.port}/f.csv?sig=CANARY")

        assert REFUSED in caught.value.problem
        assert "CANARY" not in str(caught.value)
        assert server.seen == []


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.asyncio
async def test_a_proxy_is_not_asked_for_a_private_address(host: str) -> None:
    """The proxy connects, so only what the URL says by itself can be held here."""
    async with Host().running() as proxy:
        with pytest.raises(PreflightError, match=REFUSED):
            await check_file(f"http://{host}/f.csv", proxy=f"http://127.0.0.1:{proxy.port}")

        assert proxy.seen == []


@pytest.mark.asyncio
async def test_a_proxy_on_a_private_network_is_used_for_a_name() -> None:
    """Names are the proxy's affair, and the proxy's own address is its owner's."""
    async with Host().running() as proxy:
        report = await check_file("http://files.example.com/f.csv", proxy=f"http://127.0.0.1:{proxy.port}")

    assert (report.rows, proxy.seen) == (2, ["files.example.com/f.csv"])


@pytest.mark.asyncio
async def test_every_reader_of_urls_refuses_and_reads_when_told_to(tmp_path: Path) -> None:
    """Checking, cleaning and splitting."""
    async with Host().running() as server:
        url = f"http://127.0.0.1:{server.port}/f.csv"
        for call in (check_file(url), clean_file(url, tmp_path / "c.csv"), split_file(url, tmp_path / "parts")):
            with pytest.raises(PreflightError, match=REFUSED):
                await call
        assert (server.seen, (tmp_path / "c.csv").exists()) == ([], False)

        assert (await check_file(url, fetch_private=True)).rows == 2
        assert (await clean_file(url, tmp_path / "c.csv", fetch_private="loopback")).rows == 2
        assert len((await split_file(url, tmp_path / "parts", fetch_private=True)).parts) == 1


@pytest.mark.asyncio
async def test_a_redirect_leads_nowhere() -> None:
    """Not even where the first address may be read."""
    async with Host().running() as server:
        with pytest.raises(PreflightError, match="redirects"):
            await check_file(f"http://127.0.0.1:{server.port}/redirect", fetch_private=True)

        assert server.seen == [f"127.0.0.1:{server.port}/redirect"]


@pytest.mark.parametrize("fetch_private", [False, "loopback"])
@pytest.mark.asyncio
async def test_a_name_that_resolves_anew_is_judged_anew(fetch_private: Any) -> None:
    """What is connected to is what was judged: no answer of a name server counts for a later one."""
    addresses = ("10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "0.0.0.0")
    connector = connector_for(fetch_private, resolver=Names(*addresses))
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in addresses:
            connector.clear_dns_cache()  # as when its time is over
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.get("http://files.example.com:9/f.csv")
            assert isinstance(caught.value.os_error, PrivateAddress)


@pytest.mark.asyncio
async def test_a_look_at_a_file_that_waited_is_held_to_the_same() -> None:
    """The name may resolve to something else by then."""
    async with Host().running() as server:
        url = f"http://127.0.0.1:{server.port}/f.csv"
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await glance(url, fetch_private=False)
        assert isinstance(caught.value.os_error, PrivateAddress)
        assert server.seen == []
        assert (await glance(url, fetch_private="loopback")).is_there


@pytest.mark.asyncio
async def test_a_lent_session_needs_leave() -> None:
    """Its connector was made by somebody else and connects to anything."""
    async with Host().running() as server, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/f.csv"
        with pytest.raises(InputError, match="fetch_private=True"):
            await check_file(url, session=session)
        assert server.seen == []
        assert (await check_file(url, session=session, fetch_private=True)).rows == 2


@pytest.mark.asyncio
async def test_a_client_of_a_sandbox_on_this_machine_reads_this_machine_alone() -> None:
    """Where the service itself is on loopback, files are there, too; and what is said goes before that."""
    async with Host().running() as server, Sandbox() as sandbox:
        url = f"http://127.0.0.1:{server.port}/f.csv"
        where: dict[str, Any] = {"base_url": sandbox.url, "journal": "memory:"}

        async with SegmentsClient(sandbox.credentials, **where) as client:
            assert (await client.preflight(create(url))).rows == 2
            with pytest.raises(PreflightError, match=REFUSED):
                await client.preflight(create("http://10.0.0.1/f.csv"))
            with pytest.raises(PreflightError, match=REFUSED):
                await client.count_rows(create("http://169.254.169.254/latest/meta-data/"))
        server.seen.clear()
        async with SegmentsClient(sandbox.credentials, **where, fetch_private=False) as client:
            with pytest.raises(PreflightError, match=REFUSED):
                await client.preflight(create(url))
            with pytest.raises(PreflightError, match=REFUSED):
                await client.submit(create(url), preflight="off")  # it is read to be counted
            assert server.seen == []


@pytest.mark.parametrize("given", [None, False])
@pytest.mark.asyncio
async def test_a_client_of_the_service_reads_no_private_address(given: Any) -> None:
    """By default, and when it is told so."""
    async with Host().running() as server:
        client = SegmentsClient.from_env(
            environ={"MOE_WORKSPACE_ID": "W", "MOE_API_KEY": "K", "MOE_DATA_CENTER": "01", "MOE_JOURNAL": "memory:"}
            | ({} if given is None else {"MOE_FETCH_PRIVATE": "no"})
        )
        async with client:
            with pytest.raises(PreflightError, match=REFUSED):
                await client.preflight(create(f"http://127.0.0.1:{server.port}/f.csv"))
        assert server.seen == []


@pytest.mark.parametrize(
    ("text", "reads"), [("1", True), ("true", True), ("loopback", True), ("0", False), ("", False)]
)
def test_the_command_reads_private_addresses_when_told_to(
    text: str, *, reads: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By option or by variable."""
    monkeypatch.delenv("MOE_BASE_URL", raising=False)
    monkeypatch.setenv("MOE_FETCH_PRIVATE", text)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()  # nobody is there: what is allowed finds that out, what is not does not even try

    code = run(["preflight", f"http://127.0.0.1:{port}/f.csv"])
    told = capsys.readouterr().err
    assert code == 2
    assert (REFUSED in told, "the connection failed" in told) == (not reads, reads)

    monkeypatch.delenv("MOE_FETCH_PRIVATE")
    run(["preflight", "--fetch-private", f"http://127.0.0.1:{port}/f.csv"])
    assert "the connection failed" in capsys.readouterr().err


def test_what_is_public_and_what_is_not() -> None:
    """The registries' special blocks are written out; an IPv4 address inside an IPv6 one counts as itself."""
    public = (
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "64:ff9b::808:808",
        "::ffff:8.8.8.8",
    )
    other = ("198.18.0.1", "192.0.0.9", "240.0.0.1", "2001:db8::1", "2001::1", "100::1", "fe80::1%1", "", "x", "1.2.3")

    assert [each for each in public if not is_public(each)] == []
    assert [each for each in other if is_public(each)] == []
