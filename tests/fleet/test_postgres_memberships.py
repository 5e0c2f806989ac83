"""Membership changes of a fleet: the outbox is in the journal's database, and every host sends what waits."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import CallbackReceiver, OutboxError, SegmentsClient
from moe_segments.memberships.outbox.place import outbox_of
from moe_segments.memberships.outbox.protocol import Change, Declared
from moe_segments.sandbox import Sandbox
from tests.fleet.postgres_server import postgres_server, shared_postgres
from tests.live.audience_world import FIELDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(180)]

SPEED = 3_600.0
VIP = Declared(name="vip", attribute_name="ID", attribute_type="string", expiry_time=30, max_age_s=None, priority=0)


@asynccontextmanager
async def host(sandbox: Sandbox, journal: str) -> AsyncIterator[SegmentsClient]:
    """One of a fleet, with a receiver of its own."""
    settings: dict[str, Any] = {"base_url": sandbox.url, "limits": sandbox.limits, "publish": sandbox.publish}
    async with CallbackReceiver().serve() as receiver:
        async with SegmentsClient(sandbox.credentials, journal=journal, callbacks=receiver, **settings) as client:
            yield client


async def test_hosts_share_an_outbox_and_send_nothing_twice() -> None:
    journal = f"{shared_postgres().unix_url}&schema=memberships_{secrets.token_hex(8)}"
    async with Sandbox(speed=SPEED, processing_s=(0, 0.1)) as sandbox:
        async with host(sandbox, journal) as one, host(sandbox, journal) as two:
            assert await one.memberships() == ()
            names = ("vip", "lapsed")
            handles = [client.membership(name, **FIELDS) for name in names for client in (one, two)]
            await asyncio.gather(
                *(each.add(*(f"u{place}-{n}" for n in range(9))) for place, each in enumerate(handles))
            )
            await handles[0].remove("u1-3", "u0-0")
            await asyncio.gather(*(each.flushed(timeout=90) for each in handles))
            assert [status.pending for status in await two.memberships()] == [0, 0]
        members = {segment.name: segment.members for segment in sandbox.workspace.segments}
        everybody = {
            name: {f"u{place + side}-{n}" for side in (0, 1) for n in range(9)}
            for name, place in (("vip", 0), ("lapsed", 2))
        }
        assert members == {**everybody, "vip": everybody["vip"] - {"u1-3", "u0-0"}}
        assert sandbox.workspace.rejections == 0


async def test_what_a_host_left_behind_is_sent_by_another() -> None:
    journal = f"{shared_postgres().unix_url}&schema=memberships_{secrets.token_hex(8)}"
    async with Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox:
        async with host(sandbox, journal) as gone:
            await gone.governor.record_external(operations=10)
            await gone.membership("vip", **FIELDS).add("u1", "u2")
        async with host(sandbox, journal) as other:
            await other.membership("vip", **FIELDS).flushed(timeout=90)
        (segment,) = sandbox.workspace.segments
        assert segment.members == {"u1", "u2"}


async def test_an_outage_of_the_server_loses_nothing_that_was_acknowledged() -> None:
    with postgres_server() as server:
        outbox = outbox_of(server.url, "W1")
        await outbox.open()
        vip = await outbox.declare(VIP)
        await outbox.write([Change(segment=vip, adds=True, values=["u1"])], 1)
        server.kill()
        with pytest.raises(OutboxError, match="the outbox's server cannot be reached"):
            await outbox.write([Change(segment=vip, adds=True, values=["u-secret"])], 2)
        server.start()
        await outbox.write([Change(segment=vip, adds=True, values=["u2"])], 3)
        (backlog,) = await outbox.backlogs()
        found = await outbox.values(vip, adds=True, up_to=backlog.tip, after="", most=9)
        assert found == ["u1", "u2"]
        await outbox.close()
