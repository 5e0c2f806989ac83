"""A service, a journal and snapshots in virtual time, which outlive the clients that sync audiences on them."""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_segments import Audience, CallbackReceiver, SegmentsClient
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from moe_segments import AudienceReport
    from moe_segments.journal import Journal

__all__ = ["FIELDS", "World", "in_virtual_time", "world"]

FIELDS: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30}
HOSTS = 2


class World:
    """A service, a journal and snapshots that outlive any client."""

    def __init__(self, sandbox: Sandbox, receivers: Sequence[CallbackReceiver], place: Path | str) -> None:
        self.sandbox, self.receivers = sandbox, receivers
        self.place: Any = place  # a directory, or the URL of a bucket
        self.journal = MemoryJournal(clock=journal_clock)

    @asynccontextmanager
    async def client(self, host: int = 0, journal: Journal | None = None) -> AsyncIterator[SegmentsClient]:
        settings: dict[str, Any] = {
            "journal": journal or self.journal,
            "callbacks": self.receivers[host],
            "limits": self.sandbox.limits,
            "base_url": self.sandbox.url,
            "publish": self.sandbox.publish,
            "clock": asyncio.get_running_loop().time,
        }
        async with SegmentsClient(self.sandbox.credentials, **settings) as client:
            yield client

    async def sync(
        self, members: Any, name: str = "vip", *, host: int = 0, max_wait_s: float = 1e9, **fields: Any
    ) -> AudienceReport:
        """Sync one audience with a client of its own."""
        async with self.client(host) as client:
            audience = Audience(name, members=members, **FIELDS | fields)
            report = await client.sync([audience], snapshots=self.place, max_wait_s=max_wait_s)
        return report[name]

    def members(self, name: str = "vip") -> set[str]:
        return next(segment.members for segment in self.sandbox.workspace.segments if segment.name == name)

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(each.ask.name, str(each.ask.op)) for each in self.sandbox.workspace.submissions]

    @property
    def ops(self) -> list[str]:
        return [op for _, op in self.sent]

    def snapshots(self) -> list[Path]:
        return [path for path in Path(self.place).rglob("*") if path.is_file()]


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test in a loop whose clock jumps and whose network is its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        run_virtually(functools.partial(test, **arguments), in_memory=True)

    return run


@asynccontextmanager
async def world(tmp_path: Path, *, place: str | None = None, **options: Any) -> AsyncIterator[World]:
    """Yield a world in virtual time, its snapshots in a directory or at *place*. The service never answers 429."""
    async with Sandbox(clock=lambda: journal_clock() / 1e6, **options) as sandbox:
        async with AsyncExitStack() as stack:
            serving = [
                CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600)
                for _ in range(HOSTS)
            ]
            receivers = [await stack.enter_async_context(each) for each in serving]
            yield World(sandbox, receivers, place or tmp_path / "snapshots")
            assert sandbox.workspace.rejections == 0
