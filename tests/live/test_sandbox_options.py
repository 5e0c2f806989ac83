"""Starting and stopping the sandbox: what it refuses, what it imports, what it leaves behind."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

import moe_segments.sandbox
from moe_segments.errors import InputError
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = Path(moe_segments.sandbox.__file__).parent
ROUTE = "/v2/custom-segments/file-segment"
FIELDS = {
    "attribute_name": "ID",
    "attribute_type": "string",
    "file_url": "http://127.0.0.1:1/none.csv",
    "callback_url": "http://127.0.0.1:1/hook",
    "expiry_time": 1,
}


def sign(sandbox: Sandbox) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(sandbox.credentials.workspace_id, sandbox.credentials.api_key)}


def test_the_sandbox_knows_nothing_of_the_client() -> None:
    """It counts in its own way: it imports errors, limits, models, itself, parts of pages, and what bodies are."""
    trees = [ast.parse(path.read_text()) for path in SOURCES.rglob("*.py")]
    imported = {
        name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        if name.startswith("moe_segments")
    }

    others = {name for name in imported if name.split(".")[1] not in {"errors", "limits", "models", "page", "sandbox"}}
    assert others == {"moe_segments.core.wire.strict_json"}


async def status_of(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "localhost", "", "example.com"])
def test_the_sandbox_refuses_to_listen_beyond_loopback(host: str) -> None:
    """It fetches what it is told to: nobody else may tell it."""
    with pytest.raises(InputError):
        Sandbox(host=host)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sandbox(speed=0),
        lambda: Sandbox(latency_s=(2, 1)),
        lambda: Sandbox(processing_s=(-1, 1)),
        lambda: Sandbox(dialect="v9"),
        lambda: Sandbox(users="u1"),
        lambda: Sandbox(users=Path("/none/users.csv")),
        lambda: Sandbox(allowed_hosts=["http://x"]),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Sandbox]) -> None:
    """At once, by name."""
    with pytest.raises(InputError):
        make()


@pytest.mark.asyncio
async def test_leaving_the_block_leaves_nothing_behind() -> None:
    """Not even with files in the queue, callbacks to come, and a request that hangs."""
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as session:
        async with Sandbox(processing_s=(60, 60)) as sandbox:
            port = int(sandbox.url.rpartition(":")[2])
            for n in range(5):
                fields = FIELDS | {"name": f"s{n}"}
                async with session.post(f"{sandbox.url}{ROUTE}", json=fields, headers=sign(sandbox)):
                    pass
            sandbox.fail_next("slow")
            hanging = asyncio.create_task(status_of(session, f"{sandbox.url}/v3/custom-segments"))
            await asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientError):
            await hanging

    assert len(sandbox.workspace.submissions) == 5
    assert asyncio.all_tasks() == before
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.asyncio
async def test_a_port_in_use_fails_the_start_and_leaves_nothing_open() -> None:
    """The error is the system's own."""
    async with Sandbox() as sandbox:
        other = Sandbox(port=int(sandbox.url.rpartition(":")[2]))
        with pytest.raises(OSError, match="address already in use"):
            await other.__aenter__()


def test_the_address_is_known_once_started() -> None:
    """Not before: the port is chosen by the system."""
    with pytest.raises(RuntimeError, match="not started"):
        assert Sandbox().url
