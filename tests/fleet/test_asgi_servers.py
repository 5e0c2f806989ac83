"""The receiver's ASGI face on uvicorn, over a real socket: by itself with its lifespan, and mounted under a path."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from moe_segments import CallbackReceiver
from moe_segments.callbacks.receiver import MAX_BODY_BYTES, token_digest
from moe_segments.journal.tools.replay import folded
from moe_segments.models import JobState
from tests.fleet.moves import log_of, opened, reserved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.asyncio

SCOPE: Final = "W1@01"
TOKEN: Final = "a-token+of/one send"
BODY: Final = (
    b'{"segment_name":"a","request_id":"r1","status":201,"values_found":1,"values_processed":1,"user_count":1,'
    b'"db_name":"d"}'
)


@asynccontextmanager
async def serving(app: Any, *, lifespan: str = "on", root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:  # ASGI
    """*app* on uvicorn, on a socket of its own."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan=lifespan, root_path=root_path, log_level="warning", access_log=False)  # type: ignore[arg-type]  # one of three texts
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            while not server.started and not running.done():
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", trust_env=False
            ) as client:
                yield client
        finally:
            server.should_exit = True
            await running


async def awaiting(directory: Path) -> str:
    """The URL of a journal that waits for one callback."""
    url = f"sqlite:///{directory}/quota.db"
    async with opened(url, SCOPE) as log:
        await log.append([attrs.evolve(reserved("a"), token_sha256=token_digest(TOKEN))], batch_id="r")
    return url


async def state_of(url: str) -> str:
    return folded(await log_of(url, SCOPE)).jobs.records["a"].state


@pytest.mark.parametrize(("mounted", "root_path"), [("", ""), ("/hooks/moe", ""), ("/moe", "/api"), ("", "/api")])
async def test_a_callback_is_taken_in_wherever_the_receiver_is_mounted(
    mounted: str, root_path: str, tmp_path: Path
) -> None:
    """Its address is the public one, below which a proxy or the host application may have taken a part off."""
    url = await awaiting(tmp_path)
    receiver = CallbackReceiver(f"https://hooks.example.com{root_path}{mounted}", journal=url, scopes=[SCOPE])
    address = receiver.url_for(SCOPE, TOKEN).removeprefix("https://hooks.example.com").removeprefix(root_path)
    if mounted:

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with receiver:
                yield

        app: Any = Starlette(routes=[Mount(mounted, receiver.asgi)], lifespan=lifespan)
    else:
        app = receiver.asgi
    async with serving(app, root_path=root_path) as http:
        wrong = await http.post(f"{address}x", content=BODY)
        read = await http.get(address)
        large = await http.post(address, content=b"x" * (MAX_BODY_BYTES + 1))
        taken = await http.post(address, content=BODY)
        again = await http.post(address, content=BODY)

    assert [answer.status_code for answer in (wrong, read, large, taken, again)] == [404, 405, 413, 200, 200]
    assert {answer.content for answer in (wrong, read, large, taken, again)} == {b""}
    assert await state_of(url) == JobState.PROCESSED


async def test_the_lifespan_opens_and_closes_the_receivers_journal(tmp_path: Path) -> None:
    url = await awaiting(tmp_path)
    receiver = CallbackReceiver("https://hooks.example.com/moe", journal=url, scopes=[SCOPE])
    async with serving(receiver.asgi):
        reply = await receiver.decide(SCOPE, "unheard of", "POST", None, BODY)
        assert reply.status == 404
    assert repr(receiver).endswith("scopes=1)")
    async with serving(receiver.asgi) as http:  # and again
        assert (await http.post(f"/{SCOPE}/x", content=BODY)).status_code == 404


@pytest.mark.processes
async def test_a_server_does_not_start_on_a_journal_that_cannot_be_used(tmp_path: Path) -> None:
    """It exits and says why, rather than lose callbacks."""
    (tmp_path / "no.db").write_bytes(b"not a database, but something else of some length" * 50)
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVE, f"sqlite:///{tmp_path}/no.db"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(server.communicate(), 30)
    assert server.returncode == 3
    assert "is no journal" in said.decode()


_SERVE: Final = """
import sys, uvicorn
from moe_segments import CallbackReceiver
receiver = CallbackReceiver("https://hooks.example.com", journal=sys.argv[1], scopes=["W1@01"])
uvicorn.run(receiver.asgi, port=0, lifespan="on")
"""
