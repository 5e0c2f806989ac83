"""What the tests of the examples share: a sandbox to talk to, a receiver on their journal, processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments import CallbackReceiver, SegmentsClient
from moe_segments.models import JobState
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

__all__ = ["ROOT", "SPEED", "Service", "processes", "ran", "service"]

ROOT: Final = Path(__file__).parents[2]
SPEED: Final = 3_600.0
_PATIENCE_S: Final = 40.0


@attrs.frozen
class Service:
    """The sandbox, and how an example finds it.

    Attributes:
        sandbox: The service.
        environment: What to export.
        file_url: A file of three users.
    """

    sandbox: Sandbox
    environment: Mapping[str, str]
    file_url: str

    async def until_processed(self, count: int) -> None:
        """Until the journal says of so many jobs that they are processed."""
        async with (
            SegmentsClient(
                self.sandbox.credentials,
                journal=self.environment["MOE_JOURNAL"],
                base_url=self.sandbox.url,
                limits=self.sandbox.limits,
            ) as client,
            asyncio.timeout(_PATIENCE_S),
        ):
            while True:
                if len([job async for job in client.jobs(state=JobState.PROCESSED)]) >= count:
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def service(journal: str, directory: Path, **more: str) -> AsyncIterator[Service]:
    """The sandbox with a receiver on *journal*."""
    (directory / "users.csv").write_text("u-1\nu-2\nu-3\n")
    async with Sandbox(speed=SPEED) as sandbox:
        credentials = sandbox.credentials
        receiver = CallbackReceiver(journal=journal, scopes=[credentials.scope], limits=sandbox.limits)
        async with receiver.serve():
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "MOE_WORKSPACE_ID": credentials.workspace_id,
                "MOE_API_KEY": credentials.api_key,
                "MOE_DATA_CENTER": credentials.data_center,
                "MOE_BASE_URL": sandbox.url,
                "MOE_JOURNAL": journal,
                "MOE_CALLBACK_URL": str(receiver.public_url),
                "SPEED": str(SPEED),
                **more,
            }
            yield Service(sandbox, environment, await sandbox.publish(directory / "users.csv"))


@asynccontextmanager
async def processes(environment: Mapping[str, str], *commands: Sequence[str]) -> AsyncIterator[list[list[str]]]:
    """Run `python <command>` for each, together. Gives the lines that each has said; all are ended afterwards."""
    said: list[list[str]] = [[] for _ in commands]
    started = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            cwd=ROOT,
            env=dict(environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for command in commands
    ]
    readers = [asyncio.create_task(_read(process, lines)) for process, lines in zip(started, said, strict=True)]
    try:
        yield said
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
        try:
            async with asyncio.timeout(15):
                await asyncio.gather(*(process.wait() for process in started))
        finally:
            for process in started:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*readers)


async def _read(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        lines.append(line.decode().rstrip())


async def ran(environment: Mapping[str, str], *command: str) -> str:
    """What `python <command>` said, which has to end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=ROOT,
        env=dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
    assert process.returncode == 0, out.decode()
    return out.decode()
