"""A receiver that is scraped, and a real Prometheus that scrapes it by the project's examples."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from moe_segments import CallbackReceiver, CreateFileSegment, SegmentsClient
from moe_segments.sandbox import Sandbox
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["EXAMPLES", "FIELDS", "RULES", "SPEED", "alone", "create", "prometheus", "seen", "spend_elsewhere"]

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
RULES: Final = EXAMPLES / "prometheus-rules.yml"
FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}
SPEED: Final = 60


def create(name: str, **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(**(FIELDS | {"name": name, "values": ["u-1", "u-2"], "expiry_time": 30} | fields))


@asynccontextmanager
async def alone(path: Path, **options: Any) -> AsyncIterator[tuple[CallbackReceiver, SegmentsClient, Sandbox]]:
    """A receiver with a journal of its own, which a client uses, too."""
    journal = f"sqlite:///{path / 'quota.db'}"
    async with Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox:
        receiver = CallbackReceiver(
            journal=journal, scopes=[sandbox.credentials.scope], limits=sandbox.limits, **options
        )
        async with (
            receiver.serve(),
            SegmentsClient(
                sandbox.credentials,
                journal=journal,
                callbacks=receiver.public_url,
                limits=sandbox.limits,
                base_url=sandbox.url,
                publish=sandbox.publish,
                poll_s=0.02,
            ) as client,
        ):
            yield receiver, client, sandbox


@asynccontextmanager
async def prometheus(server: str, directory: Path, receiver: CallbackReceiver) -> AsyncIterator[str]:
    """The address of a *server* that scrapes *receiver*: by the examples, but for ports and an interval of a second."""
    config = (EXAMPLES / "prometheus.yml").read_text("utf-8")
    config = config.replace("127.0.0.1:8080", f"127.0.0.1:{receiver.port}").replace("15s", "1s")
    (directory / "prometheus.yml").write_text(config)
    shutil.copy(RULES, directory)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(server, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"),
        f"--web.listen-address=127.0.0.1:{port}",
        cwd=directory,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def spend_elsewhere(sandbox: Sandbox) -> None:
    """Spend the hour by a client of the same workspace with a journal of its own: what no program should be."""
    async with SegmentsClient(
        sandbox.credentials, journal="memory:", limits=sandbox.limits, base_url=sandbox.url, publish=sandbox.publish
    ) as other:
        await asyncio.gather(*(other.submit(create(f"o{number}")) for number in range(10)))


async def seen(session: aiohttp.ClientSession, url: str, *texts: str) -> None:
    """Return when an answer at *url* holds all *texts*."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with session.get(url) as answer:
                    said = await answer.text()
                    if all(text in said for text in texts):
                        return
            except aiohttp.ClientConnectionError:  # it is not up yet
                pass
            await asyncio.sleep(0.1)
