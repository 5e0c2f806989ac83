"""The sandbox's faults over real sockets: each kind, on demand and by chance."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from moe_segments.errors import InputError
from moe_segments.sandbox import FaultKind, Faults, Sandbox
from tests.live.sandbox_world import hook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROUTE = "/v2/custom-segments/file-segment"


class Receiver:
    """Takes callbacks as they are."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        """Keep one callback."""
        self.bodies.append(await request.read())
        return web.Response()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with hook(receiver.take) as receiver.url:
        yield receiver


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(processing_s=(0, 0), faults=Faults(slow_s=(0.1, 0.1), late_s=(0.1, 0.1))) as sandbox:
        yield sandbox


async def create(
    sandbox: Sandbox, name: str = "s", *, callback_url: str | None = None, timeout_s: float = 10
) -> tuple[int, bytes]:
    """One create on a connection of its own: status and body."""
    file = Path(__file__)
    fields = {
        "name": name,
        "attribute_name": "ID",
        "attribute_type": "string",
        "file_url": await sandbox.publish(file),
        "expiry_time": 1,
    }
    if callback_url:
        fields["callback_url"] = callback_url
    signed = aiohttp.encode_basic_auth(sandbox.credentials.workspace_id, sandbox.credentials.api_key)
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
        session.post(sandbox.url + ROUTE, json=fields, headers={"Authorization": signed}) as response,
    ):
        return response.status, await response.read()


@pytest.mark.asyncio
async def test_a_slow_answer_is_counted_at_once(sandbox: Sandbox) -> None:
    """The caller waits; the quota is spent already."""
    sandbox.faults = Faults(slow_s=(1, 1))
    sandbox.fail_next(FaultKind.SLOW)
    asking = asyncio.create_task(create(sandbox))
    while not sandbox.workspace.counted:
        await asyncio.sleep(0.01)
        assert not asking.done()

    assert len(sandbox.workspace.counted) == 1
    assert not asking.done()
    assert (await asking)[0] == 202


@pytest.mark.asyncio
async def test_a_request_can_be_counted_after_its_caller_has_left(sandbox: Sandbox) -> None:
    """The case that a client's lateness allowance is for."""
    sandbox.faults = Faults(slow_s=(1.5, 1.5))
    sandbox.fail_next(FaultKind.COUNT_LATE)
    with pytest.raises(TimeoutError):
        await create(sandbox, timeout_s=0.5)
    counted_then = sandbox.workspace.counted
    while not sandbox.workspace.counted:
        await asyncio.sleep(0.01)

    assert counted_then == ()
    assert len(sandbox.workspace.counted) == 1


@pytest.mark.asyncio
async def test_a_dropped_connection_counts_nothing(sandbox: Sandbox) -> None:
    """Reset before anything is decided; the next request is served."""
    sandbox.fail_next(FaultKind.DROP)
    with pytest.raises(aiohttp.ClientOSError):
        await create(sandbox)

    assert (sandbox.workspace.counted, sandbox.workspace.segments) == ((), ())
    assert [(each.status, each.fault) for each in sandbox.workspace.requests] == [(0, "drop")]
    assert (await create(sandbox))[0] == 202


@pytest.mark.asyncio
async def test_a_lost_answer_was_decided_counted_and_called_back(sandbox: Sandbox, receiver: Receiver) -> None:
    """All happened but the answer."""
    sandbox.fail_next(FaultKind.LOSE_ANSWER)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await create(sandbox, callback_url=receiver.url)
    await sandbox.idle()

    assert len(sandbox.workspace.counted) == len(receiver.bodies) == 1
    assert [(each.status, each.counted, each.fault) for each in sandbox.workspace.requests] == [
        (202, True, "lose_answer")
    ]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.asyncio
async def test_a_server_error_may_or_may_not_have_counted(sandbox: Sandbox, status: int) -> None:
    """JSON for 500, HTML or nothing for a gateway's; the caller cannot tell what happened behind it."""
    sandbox.fail_next(FaultKind.SERVER_ERROR, status=status)
    not_counted, body = await create(sandbox)
    before = sandbox.workspace.counted
    sandbox.fail_next(FaultKind.SERVER_ERROR_COUNTED, status=status)
    counted, _ = await create(sandbox)

    assert not_counted == counted == status
    assert body.startswith(b"{") if status == 500 else body[:6] in {b"", b"<html>"}
    assert (before, len(sandbox.workspace.counted)) == ((), 1)


@pytest.mark.asyncio
async def test_a_file_can_fail_to_be_processed(sandbox: Sandbox, receiver: Receiver) -> None:
    """Status 500 in the callback; the segment is there, with zero users."""
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    await create(sandbox, callback_url=receiver.url)
    await sandbox.idle()

    assert b'"status": 500' in receiver.bodies[0]
    assert [segment.members for segment in sandbox.workspace.segments] == [set()]


@pytest.mark.asyncio
async def test_a_callback_can_be_lost_doubled_or_garbage(sandbox: Sandbox, receiver: Receiver) -> None:
    """A lost one is on record as never tried, a doubled one is the same twice."""
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    await create(sandbox, "lost", callback_url=receiver.url)
    await sandbox.idle()
    lost = list(receiver.bodies)
    sandbox.fail_next(FaultKind.DOUBLE_CALLBACK)
    await create(sandbox, "double", callback_url=receiver.url)
    await sandbox.idle()
    sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
    await create(sandbox, "garbage", callback_url=receiver.url)
    await sandbox.idle()

    assert lost == []
    assert receiver.bodies[0] == receiver.bodies[1]
    assert receiver.bodies[2].startswith(b"<html>")
    assert len(receiver.bodies) == 3
    assert [(each.segment, each.attempt, each.fault) for each in sandbox.workspace.deliveries] == [
        ("lost", 0, "lose_callback"),
        ("double", 1, "double_callback"),
        ("double", 1, "double_callback"),
        ("garbage", 1, "garbage_callback"),
    ]


@pytest.mark.asyncio
async def test_a_callback_can_come_before_the_answer_or_long_after(sandbox: Sandbox, receiver: Receiver) -> None:
    """Both orders happen in the wild; neither is documented."""
    sandbox.fail_next(FaultKind.EARLY_CALLBACK)
    await create(sandbox, "early", callback_url=receiver.url)
    early = len(receiver.bodies)
    sandbox.faults = Faults(late_s=(1, 1))
    sandbox.fail_next(FaultKind.LATE_CALLBACK)
    await create(sandbox, "late", callback_url=receiver.url)
    await asyncio.sleep(0.05)
    in_between = len(receiver.bodies)
    await sandbox.idle()

    assert (early, in_between, len(receiver.bodies)) == (1, 1, 2)


@pytest.mark.asyncio
async def test_an_early_callback_that_nobody_asked_for_does_not_hold_the_answer(sandbox: Sandbox) -> None:
    """Without an address there is nothing to wait for but the file."""
    sandbox.fail_next(FaultKind.EARLY_CALLBACK)

    assert (await create(sandbox))[0] == 202


@pytest.mark.asyncio
async def test_queued_faults_are_played_in_order_and_then_no_more(sandbox: Sandbox) -> None:
    """First asked, first played."""
    sandbox.fail_next("server_error", 2, status=503)
    sandbox.fail_next("server_error", status=504)

    assert [(await create(sandbox))[0] for _ in range(4)] == [503, 503, 504, 202]


@pytest.mark.asyncio
async def test_the_same_seed_plays_the_same_faults() -> None:
    """And another seed others; the value can be replaced while running."""

    async def run(seed: int) -> list[str | None]:
        async with Sandbox(seed=seed, processing_s=(9, 9)) as sandbox:
            sandbox.faults = Faults(server_error=0.3, server_error_counted=0.3)
            for n in range(12):
                await create(sandbox, f"s{n}")
            return [each.fault for each in sandbox.workspace.requests]

    one, same, other = [await run(seed) for seed in (1, 1, 2)]

    assert one == same != other
    assert {None, "server_error", "server_error_counted"} == set(one)


@pytest.mark.asyncio
async def test_latency_falls_before_and_after_the_counting() -> None:
    """Counting happens anywhere between the request and the answer."""
    async with Sandbox(latency_s=(0.1, 0.1), processing_s=(9, 9), seed=5) as sandbox:
        asked_at = sandbox.workspace.now()
        await create(sandbox)
        answered_at = sandbox.workspace.now()

    (counted_at,) = sandbox.workspace.counted
    assert answered_at - asked_at >= 0.099
    assert asked_at < counted_at < answered_at


@pytest.mark.parametrize(
    ("kind", "status"),
    [("none", None), ("", None), ("server_error", 418)],
)
@pytest.mark.asyncio
async def test_a_fault_that_does_not_exist_is_refused(sandbox: Sandbox, kind: str, status: int | None) -> None:
    """With the names of those that do."""
    with pytest.raises(InputError):
        sandbox.fail_next(kind, status=status)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Faults(drop=1.5),
        lambda: Faults(drop=0.6, slow=0.6),
        lambda: Faults(statuses=(404,)),
        lambda: Faults(slow_s=(2, 1)),
    ],
)
def test_probabilities_must_make_sense(make: Callable[[], Faults]) -> None:
    """Each from 0 to 1, and those of one group no more than 1 together."""
    assert Faults(drop=0.6, late_callback=0.6).probability(FaultKind.DROP) == 0.6
    with pytest.raises(InputError):
        make()
