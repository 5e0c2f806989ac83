"""FastAPI on uvicorn: two processes behind one journal, and a callback that comes in at either."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fleet.examples import processes, service
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]


async def test_a_segment_is_asked_for_at_one_process_and_looked_at_in_another(tmp_path: Path) -> None:
    """And once the hour is full, the caller is told when to come again."""
    ports = [free_port(), free_port()]
    command = ("-m", "uvicorn", "examples.fleet_fastapi:app", "--no-access-log", "--port")
    async with service(f"sqlite:///{tmp_path}/quota.db", tmp_path) as run:
        environment = {**run.environment, "PUBLIC_URL": f"http://127.0.0.1:{ports[0]}/moe", "SPEED": "3600"}
        async with (
            processes(environment, *((*command, str(port)) for port in ports)) as said,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            here, there = (f"http://127.0.0.1:{port}/segments" for port in ports)
            await _until_up(http, here, there)

            asked = await http.post(there, json={"name": "diwali", "file_url": run.file_url, "rows": 3})
            assert asked.status_code == 202
            assert asked.json()["job"] == "diwali"
            assert asked.json()["state"] in {"accepted", "processed"}, "its callback may be quicker than the answer"
            looked = await _until_processed(http, f"{there}/diwali")
            assert looked["result"]["values_found"] == 3
            assert (await http.get(f"{here}/unheard_of")).status_code == 404
            full = await _until_full(http, here, run.file_url)
            assert int(full.headers["retry-after"]) >= 1
        assert run.sandbox.workspace.rejections == 0
        assert not any("/moe/" in line for lines in said for line in lines)


async def _until_up(http: httpx.AsyncClient, *urls: str) -> None:
    async with asyncio.timeout(20):
        for url in urls:
            while True:
                try:
                    await http.get(f"{url}/x")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)


async def _until_processed(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await http.get(url)).json()
            if found["state"] == "processed":
                return found
            await asyncio.sleep(0.02)


async def _until_full(http: httpx.AsyncClient, url: str, file_url: str) -> httpx.Response:
    """The same segments' hour lasts a second, so eleven at once have to be one too many."""
    new = [{"name": f"segment_{number}", "file_url": file_url, "rows": 3} for number in range(12)]
    answers = await asyncio.gather(*(http.post(url, json=one) for one in new))
    return next(answer for answer in answers if answer.status_code == 429)
