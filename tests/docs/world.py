"""What the blocks of a page run in: a sandbox with its variables set, a receiver, a client, files, a shell.

Names that a Python block finds: `client`, `credentials`, `receiver`, `sandbox`, `operation`, `operations`, `app`, and
whatever the blocks above it left. A shell block finds the variables of that sandbox, and those that blocks above
it set. A page that starts from nothing finds neither.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shutil
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
from aiohttp import web

from moe_segments import CallbackReceiver, CreateFileSegment, ReplaceUsers, SegmentsClient
from moe_segments.sandbox import Sandbox
from tests.docs.pages import ROOT, Block

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

__all__ = ["World", "sandbox_world", "shows"]

SPEED: Final = 3_600.0
_PATIENCE_S: Final = 200.0
_BIN: Final = Path(sys.executable).parent
_TOP_LEVEL_AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


@attrs.frozen
class World:
    """A directory, variables and names that the blocks of one page share.

    Attributes:
        directory: Where shell blocks run, and files are.
        environment: The variables of shell blocks.
        names: The names of Python blocks.
        stack: What is ended after the page.
    """

    directory: Path
    environment: dict[str, str]
    names: dict[str, object]
    stack: AsyncExitStack

    async def run(self, blocks: Iterable[Block]) -> None:
        """Run the blocks of a page, in order."""
        printed: str | None = None
        for block in blocks:
            if block.title is not None:
                path = self.directory / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
                printed = None
            elif block.language == "text":
                if printed is not None:
                    assert shows(printed, block.text), f"{block.place}: it prints\n{printed}"
                printed = None
            elif block.reason is None:
                try:
                    printed = await self._ran(block)
                except Exception as error:
                    error.add_note(f"in the block at {block.place}")
                    raise
            else:
                printed = None

    async def _ran(self, block: Block) -> str | None:
        if block.language == "python":
            is_program = re.search(r"^asyncio\.run\(", block.text, re.MULTILINE) is not None
            return await (self._program(block) if is_program else self._python(block))
        if block.language == "sh":
            return await (self._beside(block) if block.beside else self._shell(block))
        return None

    async def _python(self, block: Block) -> str:
        code = compile(block.text, str(block.page), "exec", _TOP_LEVEL_AWAIT, dont_inherit=True)
        out = io.StringIO()
        async with asyncio.timeout(_PATIENCE_S):
            with contextlib.redirect_stdout(out):
                done = eval(code, self.names)
                if inspect.isawaitable(done):
                    await done
        return out.getvalue()

    async def _program(self, block: Block) -> str:
        (self.directory / "program.py").write_text(block.text, encoding="utf-8")
        return await self._completed(sys.executable, "program.py", place=block.place)

    async def _shell(self, block: Block) -> str:
        after = self.directory / ".variables"
        script = f"set -euo pipefail\n{block.text}\nenv -0 > {after}"
        said = await self._completed("bash", "-c", script, place=block.place)
        found = after.read_bytes().decode().split("\0")
        self.environment.update(pair.partition("=")[::2] for pair in found if pair)
        after.unlink()
        return said

    async def _beside(self, block: Block) -> None:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", block.text),
            cwd=self.directory,
            env=self.environment,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.stack.push_async_callback(_ended, process)
        assert process.stderr is not None
        async with asyncio.timeout(_PATIENCE_S):
            assert await process.stderr.readline(), f"{block.place}: it ended at once"

    async def _completed(self, *command: str, place: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.directory,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{place}: exit code {process.returncode}\n{out.decode()}"
        return out.decode()


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)  # the session of its own, that it was started with
    await process.communicate()


def shows(printed: str, text: str) -> bool:
    """Whether *printed* has the lines of the block *text*, in their order; `…` is any text, and so any line."""
    lines = iter(printed.splitlines())
    return all(any(_is_like(line, shown) for line in lines) for shown in text.splitlines() if shown.strip() != "…")


def _is_like(line: str, shown: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, shown.rstrip().split("…"))), line.rstrip()) is not None


@asynccontextmanager
async def sandbox_world(directory: Path, *, from_nothing: bool) -> AsyncIterator[World]:
    """A world with a sandbox at hand, or one with nothing but the installed package and the examples."""
    shutil.copytree(ROOT / "examples", directory / "examples")
    environment = {
        "PATH": os.pathsep.join((str(_BIN), os.environ["PATH"])),
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "COLUMNS": "120",
        "TZ": "UTC",
    }
    async with AsyncExitStack() as stack:
        names: dict[str, object] = {"__name__": "page"}
        if not from_nothing:
            _put_files(directory)
            await _put_sandbox(stack, directory, environment, names)
        async with AsyncExitStack() as beside:
            yield World(directory, environment, names, beside)


def _put_files(directory: Path) -> None:
    for name in ("users.csv", "lapsed.csv", "diwali.csv", "a.csv", "b.csv"):
        (directory / name).write_text("".join(f"{name[0]}-{number}\n" for number in range(1, 8)))
    (directory / "backups").mkdir()


async def _put_sandbox(
    stack: AsyncExitStack, directory: Path, environment: dict[str, str], names: dict[str, object]
) -> None:
    sandbox = await stack.enter_async_context(Sandbox(speed=SPEED))
    journal = f"sqlite:///{directory}/quota.db"
    scopes = [sandbox.credentials.scope]
    served = CallbackReceiver(journal=journal, scopes=scopes, limits=sandbox.limits)
    await stack.enter_async_context(served.serve())
    environment |= {
        "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
        "MOE_API_KEY": sandbox.credentials.api_key,
        "MOE_DATA_CENTER": sandbox.credentials.data_center,
        "MOE_BASE_URL": sandbox.url,
        "MOE_JOURNAL": journal,
        "MOE_PUBLISH": sandbox.files_url,
        "MOE_CALLBACK_URL": str(served.public_url),
        "MOE_SPEED": f"{SPEED:g}",
    }
    client = await stack.enter_async_context(SegmentsClient.from_env(environ=environment))
    url = await sandbox.publish(directory / "users.csv")
    create = CreateFileSegment(
        name="page_segment", attribute_name="ID", attribute_type="string", file_url=url, rows=7, expiry_time=30
    )
    replace = ReplaceUsers(name="page_segment", attribute_name="ID", attribute_type="string", file_url=url, rows=7)
    names |= {
        "sandbox": sandbox,
        "credentials": sandbox.credentials,
        "receiver": served,
        "client": client,
        "app": web.Application(),
        "operation": create,
        "operations": [create, replace],
        "url": url,
    }
    (directory / "manifest.csv").write_text(
        f"op,name,attribute_name,attribute_type,file_url,expiry_time\ncreate,from_manifest,ID,string,{url},30\n"
    )
