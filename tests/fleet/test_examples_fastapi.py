"""FastAPI on uvicorn: two processes behind one journal, and a callback that comes in at either."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from examples import fleet_fastapi
from moe_segments import errors
from tests.fleet.examples import ROOT, processes, service
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

PUBLIC: Final = [name for name in errors.__all__ if name != "MoeSegmentsError"]
IN_10_H: Final = datetime.now(UTC) + timedelta(hours=10)


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
            assert (await http.get(f"{here}/diwali/result")).json()["values_found"] == 3
            assert (await http.get(f"{here}/unheard_of")).status_code == 404
            bad = await http.post(here, json={"name": "a|b", "file_url": run.file_url, "rows": 3})
            assert (bad.status_code, bad.json()["error"]) == (422, "InputError")
            assert "name: " in bad.json()["problem"]
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


# Every error


def rows_of_the_page() -> str:
    """The first column of the table of errors."""
    table = (ROOT / "docs" / "errors.md").read_text("utf-8").partition("| Raised |")[2].partition("\n\n")[0]
    return " ".join(line.split("|")[1] for line in table.splitlines()[2:])


@pytest.mark.parametrize("name", PUBLIC)
async def test_every_public_error_has_a_row_on_its_page_and_a_status(name: str) -> None:
    assert re.search(rf"`{name}`", rows_of_the_page())
    assert 400 <= fleet_fastapi.STATUS[getattr(errors, name)] < 600


async def test_the_page_names_no_error_that_there_is_not() -> None:
    assert set(re.findall(r"`(\w+)`", rows_of_the_page())) == set(PUBLIC)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (errors.InputError("is wrong", "name"), 422, None),
        (errors.NameTaken("winter", "j0"), 409, None),
        (errors.SegmentGone("is gone", "name"), 404, None),
        (errors.QuotaExceeded("operations_per_hour", 10, 1, 10, IN_10_H, 36_000.0), 429, range(30_000, 36_001)),
        (errors.QuotaExceeded("active_segments", 950, 1, 950, None, math.inf), 429, None),
        (errors.SegmentBusy("winter", "j1", IN_10_H, 36_000.0), 429, range(30_000, 36_001)),
        (errors.QuotaNeverFits("users_per_day", 3, 2), 413, None),
        (errors.NotSent("no connection"), 503, range(1, 2)),
        (errors.OutcomeUnknown("j1", "no answer"), 504, None),
        (
            errors.TooManyRequests(429, "Busy", None, None, None, "j1", "operations_per_hour", IN_10_H),
            503,
            range(30_000, 36_001),
        ),
        (errors.JournalUnavailable("cannot be reached"), 503, range(5, 6)),
        (errors.JournalError("is locked"), 503, None),
    ],
)
async def test_an_error_is_told_over_http(error: Exception, status: int, retry_after: range | None) -> None:
    """Whichever call of a route raises it."""
    path = f"/raised-{id(error)}"

    @fleet_fastapi.app.get(path)
    async def raised() -> None:
        raise error

    transport = httpx.ASGITransport(fleet_fastapi.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        answer = await http.get(path)
    told = answer.headers.get("retry-after")
    assert (answer.status_code, answer.json()["problem"]) == (status, str(error))
    assert (told is None) if retry_after is None else (int(told) in retry_after)
