"""A journal as a week of work leaves it: filled by real clients on the sandbox, for the dashboard to show.

The week is played on a clock that is behind the host's and catches up; the last hour is on the host's own.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from moe_segments import Audience, CallbackReceiver, OutcomeUnknown, SegmentsClient
from moe_segments.core.events import Answered, CallbackReceived, Claimed, Planned, Reserved, RunStarted
from moe_segments.journal.local.clock import BootClock
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.sandbox import FaultKind, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

    from moe_segments.journal import Journal

__all__ = [
    "ARABIC",
    "FIELDS",
    "HINDI",
    "HOSTILE",
    "DashboardWorld",
    "a_week",
    "dashboard_world",
    "doubtful",
    "file_of",
    "hostile",
]

FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}
HINDI: Final = "दिवाली के ग्राहक"
ARABIC: Final = "عملاء رمضان"
HOSTILE: Final = "<img src=x onerror=document.title='taken'>\u202etxt.exe"
DAY_S: Final = 86_400.0
WEEK_S: Final = 7 * DAY_S
KNOWN: Final = 9_000  # users of the workspace


class DashboardWorld:
    """A service, a receiver, and a journal in a file.

    Attributes:
        sandbox: The service.
        receiver: Takes its callbacks.
        path: The journal's file.
        behind_s: How much the clocks of service and journal are behind the host's.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.behind_s = path, WEEK_S
        self.sandbox = Sandbox(
            users=[f"u{number}" for number in range(KNOWN)], processing_s=(0, 0), clock=self.now_s, callback_pauses_s=()
        )
        self.receiver = CallbackReceiver()

    @property
    def url(self) -> str:
        """The journal's URL."""
        return f"sqlite:///{self.path}"

    @property
    def scope(self) -> str:
        """Whose quota it is."""
        return self.sandbox.credentials.scope

    def now_s(self) -> float:
        """The time of the service."""
        return time.time() - self.behind_s

    @asynccontextmanager
    async def client(self, journal: Journal | str | None = None) -> AsyncIterator[SegmentsClient]:
        """Yield a client; by default on the file, on a host whose clocks are behind as far as the service's."""
        if journal is None:
            boot_id = f"{self.behind_s}" if self.behind_s else None
            journal = SqliteJournal(self.path, self.scope, host=_host(self.now_s, boot_id))
        async with SegmentsClient(
            self.sandbox.credentials,
            journal=journal,
            callbacks=self.receiver,
            base_url=self.sandbox.url,
            publish=self.sandbox.publish,
            preflight="off",
            max_attempts=1,
        ) as client:
            yield client


def _host(now_s: Callable[[], float], boot_id: str | None) -> BootClock:
    """The clocks of a host in a boot of its own; None for this host's, taken for synchronised."""
    if boot_id is None:
        return BootClock(is_synchronised=lambda: True)
    return BootClock(
        wall_us=lambda: round(now_s() * 1e6),
        boot_us=lambda: round(now_s() * 1e6),
        boot_id=lambda: boot_id,
        is_synchronised=lambda: True,
    )


@asynccontextmanager
async def dashboard_world(tmp_path: Path) -> AsyncIterator[DashboardWorld]:
    """Yield a world that has not begun."""
    world = DashboardWorld(tmp_path / "quota.db")
    async with world.sandbox, world.receiver.serve():
        yield world


def file_of(directory: Path, name: str, values: Iterable[str]) -> Path:
    """A file of these values."""
    path = directory / f"{name}.csv"
    path.write_text("".join(f"{value}\n" for value in values))
    return path


def _members(first: int, size: int, strangers: int) -> list[str]:
    """So many users, and so many whom the workspace does not know."""
    known = [f"u{(first + number) % KNOWN}" for number in range(size)]
    return [*known, *(f"stranger{first}-{number}" for number in range(strangers))]


async def a_week(world: DashboardWorld) -> None:
    """Four audiences, synced twice a day: one gets better, one worse, one is steady; and a callback that never came."""
    for done in range(14):
        world.behind_s = WEEK_S - done * DAY_S / 2
        async with world.client() as client:
            report = await client.sync(
                [
                    _audience("cart_abandoners", _members(40 * done, 900, 420 - 28 * done)),
                    _audience("lapsed_90_days", _members(25 * done, 700, 30 + 95 * done)),
                    _audience(HINDI, _members(60 * done, 2_000, 160 + 120 * (done % 3))),
                    _audience(ARABIC, _members(10 * done, 1_200, 90 + 60 * (done % 2))),
                ],
                snapshots=world.path.parent / "snapshots",
                max_wait_s=0,
            )
            assert report.ok, report.to_json()
            if done == 13:  # half a day ago
                world.sandbox.fail_next(FaultKind.LOSE_CALLBACK)
                await client.create_file_segment(name="weekend_trial", values=["u1", "u2"], expiry_time=14, **FIELDS)
            await world.sandbox.idle()
    world.behind_s = 0.0
    async with world.client():  # so that the journal knows this boot, whose clock every process reads
        pass


def _audience(name: str, members: list[str]) -> Audience:
    return Audience(name, members=members, expiry_time=90, max_removed=1.0, full_every_days=0.1, **FIELDS)


async def doubtful(client: SegmentsClient, world: DashboardWorld, name: str = "loyalty_gold") -> None:
    """An operation whose answer and callback are lost, one that fails, and one whose callback cannot be read."""
    await client.create_file_segment(name=name, values=["u1", "u2", "u3"], expiry_time=30, **FIELDS)
    await world.sandbox.idle()
    world.sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    world.sandbox.fail_next(FaultKind.LOSE_ANSWER)
    with suppress(OutcomeUnknown):
        await client.add_users(name=name, values=["u4"], **FIELDS)
    world.sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
    await client.create_file_segment(name="store_pune", values=["u7", "u8"], expiry_time=30, **FIELDS)
    await world.sandbox.idle()
    world.sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    await client.create_file_segment(name="browse_abandon", values=["u9"], expiry_time=30, **FIELDS)
    await world.sandbox.idle()


async def hostile(journal: Journal) -> None:
    """What no client of this version would write, but another program may have: names and errors that attack."""
    operation = {"op": "create", "name": HOSTILE, "attribute_name": "ID", "attribute_type": "string"}
    keys = (HOSTILE,)
    await journal.append(
        [
            RunStarted(run="r", manifest=HOSTILE, total=3),
            Planned(job="h1", operation=operation, run="r", line=1),
            Reserved(
                "h1", 1, operation, 1, 9, 1, keys, fence_us=30_000_000, timeout_us=60_000_000, token_sha256="ab" * 32
            ),
            Answered("h1", 1, 202, accepted={"message": HOSTILE, "cs_name": HOSTILE, "cs_id": HOSTILE}),
            CallbackReceived("h1", 1, "digest", "unparsed", {"reason": HOSTILE, "raw": HOSTILE}),
            Reserved("h2", 1, {**operation, "name": f"2{HOSTILE}"}, 1, 9, 1, (f"2{HOSTILE}",), 1_000_000, 1_000_000),
            Answered("h2", 1, 400, error={"title": HOSTILE, "description": HOSTILE, "request_id": HOSTILE}),
            Claimed("h3", 1, 9, 1, 3_600_000_000, keys=(f"3{HOSTILE}",), waiter=HOSTILE),
        ],
        batch_id="hostile",
    )
