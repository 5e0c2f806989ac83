"""A sandbox that other containers reach: it listens where it is told to, and answers to the names that were listed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from moe_segments import InputError, SegmentsClient
from moe_segments.sandbox import DEMO_CREDENTIALS, Sandbox
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

PATHS = ("/", "/openapi.json", "/_sandbox/state", "/_files/x/y.csv", "/v3/custom-segments", "/-/live")
NAMES = ("sandbox", "Hooks.Example.com.")


async def statuses(session: aiohttp.ClientSession, sandbox: Sandbox, host: str) -> Sequence[int]:
    """How each path is answered when *host* is asked for; the connection goes to loopback."""
    found = []
    for path in PATHS:
        async with session.get(f"{sandbox.url}{path}", headers={"Host": host}) as response:
            found.append(response.status)
    return found


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
@pytest.mark.asyncio
async def test_beyond_loopback_it_answers_to_listed_names_alone(address: str) -> None:
    """A page whose name was made to point here (DNS rebinding) gets nowhere, whatever it asks for."""
    async with Sandbox(host=address, allowed_hosts=NAMES) as sandbox, aiohttp.ClientSession() as session:
        known = [200, 200, 200, 404, 401, 200]
        for host in ("sandbox", "SANDBOX:8765", "hooks.example.com", "127.0.0.1", "localhost:1", "[::1]"):
            assert await statuses(session, sandbox, host) == known
        for host in (
            "evil.example.com",
            "sandbox.evil.example.com",
            "10.0.0.1:80",
            "192.168.1.1",
            "localhost.evil.com",
            "x@y",
        ):
            assert await statuses(session, sandbox, host) == [421] * len(PATHS)


@pytest.mark.asyncio
async def test_on_loopback_it_stays_as_it_was() -> None:
    """Listed hosts are fetched from; its page and its controls answer to loopback names alone."""
    async with Sandbox(allowed_hosts=NAMES) as sandbox, aiohttp.ClientSession() as session:
        assert (await statuses(session, sandbox, "sandbox"))[:3] == [403, 403, 403]


def test_listening_beyond_loopback_without_a_listed_host_says_what_to_list() -> None:
    """Off by default: it fetches what it is told to."""
    with pytest.raises(InputError, match="allowed_hosts"):
        Sandbox(host="0.0.0.0")


@pytest.mark.asyncio
async def test_it_fetches_by_the_address_that_a_listed_name_has() -> None:
    """Being reachable from elsewhere admits no other address than before."""
    async with Sandbox(host="0.0.0.0", allowed_hosts=["sandbox"], processing_s=(0, 0)) as sandbox:
        async with SegmentsClient(
            DEMO_CREDENTIALS, base_url=sandbox.url, journal="memory:", limits=sandbox.limits, preflight="off"
        ) as client:
            await client.create_file_segment(
                name="s",
                attribute_name="ID",
                attribute_type="string",
                file_url="http://169.254.169.254/latest/meta-data/",
                expiry_time=1,
                rows=1,
            )
        await sandbox.idle()
    assert sandbox.workspace.submissions[0].result is not None
    assert sandbox.workspace.submissions[0].result.status == 400


async def started(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moe_segments", "sandbox", *arguments),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.processes
@pytest.mark.asyncio
async def test_the_command_listens_where_it_is_told_to() -> None:
    """It says what others need: its name, and that http and private addresses have to be allowed."""
    port = free_port()
    process = await started(
        "--listen", f"0.0.0.0:{port}", "--allow-host", "sandbox", "--allow-host", "receiver", "--json"
    )
    assert process.stdout is not None
    document = json.loads(await process.stdout.readuntil(b"\n}\n"))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/-/live", headers={"Host": "sandbox"}) as response:
            assert response.status == 200
    process.send_signal(signal.SIGTERM)
    await process.communicate()

    assert process.returncode == 0
    assert document["url"] == f"http://sandbox:{port}"
    assert document["environment"] == {
        "MOE_WORKSPACE_ID": DEMO_CREDENTIALS.workspace_id,
        "MOE_API_KEY": DEMO_CREDENTIALS.api_key,
        "MOE_DATA_CENTER": DEMO_CREDENTIALS.data_center,
        "MOE_BASE_URL": f"http://sandbox:{port}",
        "MOE_PUBLISH": f"http://sandbox:{port}/_files/sent",
        "MOE_ALLOW_HTTP": "1",
        "MOE_FETCH_PRIVATE": "1",
        "MOE_SPEED": "1",
    }


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--listen", "0.0.0.0:0"), "--listen: must be a loopback address"),
        (("--listen", "sandbox:8765"), "--listen: must be an address such as 127.0.0.1 or 0.0.0.0"),
        (("--listen", "0.0.0.0"), "--listen: must be HOST:PORT"),
        (("--listen", "127.0.0.1:0", "--port", "1"), "leave out --port"),
        (("--listen", "0.0.0.0:0", "--allow-host", "http://x"), "--allow-host: 'http://x' is neither"),
    ],
)
@pytest.mark.asyncio
async def test_the_command_says_what_is_wrong_with_where_it_should_listen(arguments: Sequence[str], told: str) -> None:
    """By the option's name."""
    process = await started(*arguments)
    _, err = await process.communicate()
    assert (process.returncode, told in err.decode()) == (2, True), err.decode()


@pytest.mark.processes
@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_said_so() -> None:
    """With what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await started("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        _, err = await process.communicate()
    assert (process.returncode, "the sandbox cannot listen" in err.decode()) == (2, True)
