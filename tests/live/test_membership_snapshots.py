"""A flush says what its segment holds after it, so that a sync goes on sending differences."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from moe_segments import Audience, CallbackReceiver, SegmentsClient
from moe_segments.sandbox import FaultKind, Sandbox
from tests.live.audience_world import FIELDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments import AudienceReport

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.timeout(120),
]

SPEED = 3_600.0


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[Sandbox, SegmentsClient]]:
    """A client on a journal in a file, so that snapshots and outbox are beside it. An hour is a second."""
    async with (
        Sandbox(speed=SPEED, processing_s=(0, 0)) as sandbox,
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials,
            base_url=sandbox.url,
            journal=directory / "quota.db",
            callbacks=receiver,
            limits=sandbox.limits,
            publish=sandbox.publish,
        ) as client,
    ):
        yield sandbox, client


async def synced(client: SegmentsClient, *members: str) -> AudienceReport:
    report = await client.sync([Audience("vip", members=list(members), max_removed=1, **FIELDS)])
    assert report.ok, report
    return report["vip"]


def snapshots(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("quota.db.snapshots/**/*") if path.is_file()]


async def test_after_a_flush_a_sync_sends_differences_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (sandbox, client):
        await synced(client, "u1", "u2", "ü3", "u4")
        vip = client.membership("vip", **FIELDS)
        await vip.add("u5", "ü6", "u1")
        await vip.flushed(timeout=60)
        await vip.remove("u2", "u99")
        await vip.flushed(timeout=60)
        async with asyncio.timeout(60):  # older ones hold identifiers that nobody needs
            while len(snapshots(tmp_path)) != 1:
                await asyncio.sleep(0.02)

        report = await synced(client, "u1", "ü3", "u4", "u5", "ü6", "u7")
        assert (report.operations, report.added, report.removed, report.unchanged) == (("add",), 1, 0, 5)
        (segment,) = sandbox.workspace.segments
        assert segment.members == {"u1", "ü3", "u4", "u5", "ü6", "u7"}


async def test_after_a_flush_that_failed_a_sync_replaces(tmp_path: Path) -> None:
    async with opened(tmp_path) as (sandbox, client):
        await synced(client, "u1", "u2")
        vip = client.membership("vip", **FIELDS)
        await vip.add("u3")
        sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        await vip.flushed(timeout=60)  # the second time

        report = await synced(client, "u1", "u4")
        assert report.operations == ("replace",)
        (segment,) = sandbox.workspace.segments
        assert segment.members == {"u1", "u4"}


async def test_after_a_flush_of_another_attribute_a_sync_replaces(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        await synced(client, "u1", "u2", "u3")
        vip = client.membership("vip", **FIELDS | {"attribute_name": "EMAIL"})
        await vip.add("u4")
        await vip.flushed(timeout=60)
        assert (await synced(client, "u1", "u2", "u3")).operations == ("replace",)


async def test_a_segment_that_is_never_synced_has_no_snapshot(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        vip = client.membership("vip", **FIELDS)
        await vip.add("u1")
        await vip.flushed(timeout=60)
        await vip.add("u2")
        await vip.flushed(timeout=60)
    assert snapshots(tmp_path) == []
