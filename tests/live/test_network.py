"""Behind a company's proxy and with its certificates: through real ones on this machine."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from moe_segments import CreateFileSegment, NotSent, SegmentsClient
from moe_segments.errors import InputError
from moe_segments.sandbox import Sandbox
from moe_segments.settings import Settings
from tests.live.network import HttpProxy, certificate_for, http_proxy, tls_entrance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

HOST: Final = "segments.test"  # a name that no resolver knows: only the proxy does
PASSWORD: Final = "CANARY-3f19"
VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
SETTINGS: Final = Settings(base_url="https://api-03.moengage.com", journal="memory:")


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as one:
        yield one


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def port_of(sandbox: Sandbox) -> int:
    port = urlsplit(sandbox.url).port
    assert port is not None
    return port


@asynccontextmanager
async def far_away(sandbox: Sandbox, certificate: Path, login: str | None = None) -> AsyncIterator[HttpProxy]:
    """The sandbox as a service that only a proxy reaches, with TLS; and that proxy."""
    async with tls_entrance(port_of(sandbox), certificate) as port, http_proxy({HOST: port}, login=login) as proxy:
        yield proxy


def client_for(sandbox: Sandbox, **settings: Any) -> SegmentsClient:
    return SegmentsClient(sandbox.credentials, **{"journal": "memory:", "base_url": f"https://{HOST}", **settings})


async def test_requests_go_through_a_proxy_that_sees_no_key(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is told a host, and then relays what it cannot read."""
    certificate = certificate_for(HOST, tmp_path)
    async with (
        far_away(sandbox, certificate, f"me:{PASSWORD}") as proxy,
        client_for(sandbox, proxy=f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}", ca_file=certificate) as client,
    ):
        assert await client.list_segments() == ()

    assert [(one.method, one.target) for one in proxy.seen] == [("CONNECT", f"{HOST}:443")]
    assert "authorization" not in proxy.seen[0].headers


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_the_environments_proxy_is_used_where_that_was_asked_for(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    certificate = certificate_for(HOST, tmp_path)
    async with far_away(sandbox, certificate) as proxy:
        monkeypatch.setenv(variable, f"127.0.0.1:{proxy.port}" if variable == "ALL_PROXY" else proxy.url)
        async with client_for(sandbox, trust_env=True, ca_file=certificate) as client:
            await client.list_segments()

    assert len(proxy.seen) == 1


@pytest.mark.parametrize(
    ("url", "exempt", "is_used"),
    [
        ("https://api-03.moengage.com", "", True),
        ("https://api-03.moengage.com", ".moengage.com", False),
        ("https://api-03.moengage.com", "*", False),
        ("https://127.0.0.1:8765", "", False),
        ("http://localhost:8765", "", False),
    ],
)
async def test_who_is_exempt_is_reached_without_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, exempt: str, *, is_used: bool
) -> None:
    """So is this machine, always: the key would leave it in clear."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    settings = Settings(base_url=url, journal="memory:", trust_env=True)
    assert (settings.proxy_for(url) is not None) is is_used


async def test_the_environments_proxy_is_not_used_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    assert SETTINGS.proxy_for("https://api-03.moengage.com") is None


async def test_a_proxy_of_the_environment_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is spent, and without its password."""
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://me:{PASSWORD}@proxy.example.com:1080")
    with pytest.raises(InputError, match="must be a URL, such as http://proxy") as caught:
        Settings(base_url="https://api-03.moengage.com", journal="memory:", trust_env=True)
    assert caught.value.field == "HTTPS_PROXY"
    assert PASSWORD not in str(caught.value)


async def test_a_proxy_that_refuses_spends_nothing_and_leaks_nothing(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = certificate_for(HOST, tmp_path)
    with caplog.at_level(logging.DEBUG):
        async with (
            far_away(sandbox, certificate, "me:other") as proxy,
            client_for(
                sandbox, proxy=f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}", ca_file=certificate, max_attempts=1
            ) as client,
        ):
            with pytest.raises(NotSent, match="the proxy refused to connect") as caught:
                await client.archive_segment(name="diwali")
            used = (await client.governor.usage())["operations_per_hour"].used
            shown = repr(client) + repr(client.settings) + str(caught.value) + repr(caught.value) + caplog.text

    assert used == 0
    assert "not sent, the proxy refused to connect" in caplog.text
    assert PASSWORD not in shown


async def test_plain_requests_are_forwarded_with_the_content_type_that_was_set(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The documents list one that is not the body's; whoever needs it sets it."""
    users = tmp_path / "users.csv"
    users.write_text("u-1\nu-2\n")
    url = await sandbox.publish(users)
    async with (
        http_proxy({}) as proxy,
        SegmentsClient.from_env(
            environ={"MOE_CONTENT_TYPE": "text/csv", "MOE_PROXY": proxy.url, "MOE_JOURNAL": "memory:"},
            workspace_id=sandbox.credentials.workspace_id,
            api_key=sandbox.credentials.api_key,
            data_center=sandbox.credentials.data_center,
            base_url=sandbox.url,
        ) as client,
    ):
        await client.create_file_segment(
            name="diwali", attribute_name="ID", attribute_type="string", file_url=url, expiry_time=3
        )

    sent = [one for one in proxy.seen if one.method == "POST"]
    assert [one.headers["content-type"] for one in sent] == ["text/csv"]
    assert {one.method for one in proxy.seen if one.target == url} == {"GET"}  # its file was read through it, too


async def test_a_file_is_read_through_the_environments_proxy(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "users.csv"
    users.write_text("u-1\nu-2\n")
    path = urlsplit(await sandbox.publish(users)).path
    operation = CreateFileSegment(
        name="a", attribute_name="ID", attribute_type="string", file_url=f"http://files.test{path}", expiry_time=3
    )
    async with http_proxy({"files.test": port_of(sandbox)}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with client_for(sandbox, base_url=sandbox.url, trust_env=True) as client:
            assert (await client.preflight(operation)).rows == 2
    assert {one.target for one in proxy.seen} == {operation.file_url}


async def test_certificates_of_a_file_are_trusted_beside_the_systems(sandbox: Sandbox, tmp_path: Path) -> None:
    certificate = certificate_for("localhost", tmp_path)
    async with tls_entrance(port_of(sandbox), certificate) as port:
        url = f"https://localhost:{port}"
        async with client_for(sandbox, base_url=url, ca_file=certificate) as client:
            assert await client.list_segments() == ()
        async with client_for(sandbox, base_url=url, max_attempts=1) as client:
            with pytest.raises(NotSent, match="the service's certificate is not trusted"):
                await client.list_segments()


async def test_a_file_behind_such_a_certificate_can_be_checked(sandbox: Sandbox, tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("u-1\nu-2\n")
    path = urlsplit(await sandbox.publish(users)).path
    certificate = certificate_for("localhost", tmp_path)
    async with (
        tls_entrance(port_of(sandbox), certificate) as port,
        client_for(sandbox, base_url=sandbox.url, ca_file=certificate) as client,
    ):
        operation = CreateFileSegment(
            name="a",
            attribute_name="ID",
            attribute_type="string",
            file_url=f"https://localhost:{port}{path}",
            expiry_time=3,
        )
        assert (await client.preflight(operation)).rows == 2
