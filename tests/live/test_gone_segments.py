"""Segments that are deleted, archived, expired or of filters: refused once, they cost no operation again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import NotFound, attribute
from tests.live.audience_world import FIELDS, World, in_virtual_time, world

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments import Membership, SegmentsClient

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
FILTERS = attribute("city").is_in("Pune")


def handle(client: SegmentsClient, tmp_path: Path, **fields: Any) -> Membership:
    return client.membership("vip", **FIELDS | {"outbox": tmp_path / "outbox.db"} | fields)


def requests(w: World) -> list[tuple[str | None, int]]:
    return [(each.op, each.status) for each in w.sandbox.workspace.requests]


def another_journal(w: World) -> World:
    return World(w.sandbox, w.receivers, w.place)


@in_virtual_time
async def test_a_segment_that_was_deleted_costs_one_operation_however_often_it_is_synced(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(["u1", "u2"])
        w.sandbox.workspace.reset()
        assert isinstance((await w.sync(["u1", "u2", "u3"])).error, NotFound)
        for _ in range(3):
            report = await w.sync(["u1", "u2", "u3"])
            assert (report.status, report.operations) == ("refused", ())
            assert "HTTP 404" in str(report.error)
            assert "moe-segments unarchive vip" in str(report.error)
        assert requests(w) == [("add", 404), *[("list", 200)] * 3]


@in_virtual_time
async def test_a_segment_that_is_there_again_is_found_in_the_list(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(["u1", "u2"])
        w.sandbox.workspace.reset()
        await w.sync(["u1", "u3"])
        await asyncio.sleep(HOUR_S)
        async with another_journal(w).client() as client:
            await (await client.create_file_segment(name="vip", values=["u9"], **FIELDS)).result()
        assert (await w.sync(["u1", "u3"])).ok
        assert w.members() == {"u1", "u3"}


@in_virtual_time
async def test_what_was_forgotten_is_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(["u1", "u2"])
        w.sandbox.workspace.reset()
        await w.sync(["u1", "u3"])
        async with w.client() as client:
            await client.forget_audience("vip", snapshots=w.place)
        assert isinstance((await w.sync(["u1", "u3"])).error, NotFound)


@in_virtual_time
async def test_a_segment_that_expired_waits_until_it_is_unarchived(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(["u1", "u2"], expiry_time=2)
        await asyncio.sleep(4 * DAY_S)
        assert (await w.sync(["u1", "u3"])).status == "failed"
        asked = len(requests(w))
        report = await w.sync(["u1", "u3"])
        assert (report.status, len(requests(w))) == ("refused", asked)
        assert "HTTP 400" in str(report.error)
        assert "expired" in str(report.error)

        async with w.client() as client:
            await client.unarchive_segment(name="vip")
        assert (await w.sync(["u1", "u3"])).ok
        assert w.members() == {"u1", "u3"}


@in_virtual_time
async def test_a_bad_request_on_a_segment_that_may_be_active_is_no_reason_to_stop(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(["u1", "u2"])
        w.sandbox.workspace.archive("vip")  # in the dashboard
        assert (await w.sync(["u1", "u3"])).status == "failed"
        w.sandbox.workspace.unarchive("vip")
        assert (await w.sync(["u1", "u3"])).ok


@in_virtual_time
async def test_a_segment_of_filters_that_others_made_costs_one_operation(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with another_journal(w).client() as client:
            await client.create_filter_segment(name="vip", included_filters=FILTERS)
        assert isinstance((await w.sync(["u1"])).error, NotFound)
        for _ in range(3):
            assert (await w.sync(["u1"])).status == "refused"
        assert [each for each in requests(w) if each[0] == "replace"] == [("replace", 404)]


@in_virtual_time
async def test_a_segment_of_filters_that_the_journal_knows_costs_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        await client.create_filter_segment(name="vip", included_filters=FILTERS)
        report = await w.sync(["u1"], host=1)
        assert report.status == "refused"
        assert "segment of filters" in str(report.error)
        vip = handle(client, tmp_path)
        await vip.add("u1")
        await asyncio.sleep(DAY_S)
        assert "segment of filters" in str((await vip.pending()).error)
        assert requests(w) == [("create_filter", 201)]


@in_virtual_time
async def test_a_name_that_was_never_used_is_created_after_a_404(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        with pytest.raises(NotFound):
            await client.add_users(name="vip", values=["u1"], attribute_name="ID", attribute_type="string")
        assert (await w.sync(["u1"], host=1)).operations == ("create",)
        assert (await w.sync(["u1", "u2"], host=1)).ok
        assert w.ops == ["create", "add"]


@in_virtual_time
async def test_changes_of_a_segment_that_was_deleted_cost_one_operation(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        vip = handle(client, tmp_path)
        await vip.add("u1")
        await vip.flushed()
        w.sandbox.workspace.reset()
        await vip.add("u2")
        await asyncio.sleep(5 * DAY_S)
        asked = requests(w)
        assert asked.count(("add", 404)) == 1
        assert set(asked) == {("add", 404), ("list", 200)}
        status = await vip.pending()
        assert (status.adds, "HTTP 404" in str(status.error)) == (1, True)


@in_virtual_time
async def test_every_process_says_why_changes_of_a_segment_wait(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.client() as client:
            vip = handle(client, tmp_path, expiry_time=None)
            await vip.add("u1")
            await asyncio.sleep(HOUR_S)
        async with w.client() as client:
            (status,) = await client.memberships(outbox=tmp_path / "outbox.db")
            assert "HTTP 404" in str(status.error)


@in_virtual_time
async def test_changes_go_on_once_an_expired_segment_is_unarchived(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        vip = handle(client, tmp_path, expiry_time=2)
        await vip.add("u1")
        await vip.flushed()
        await asyncio.sleep(4 * DAY_S)
        await vip.add("u2")
        await asyncio.sleep(2 * DAY_S)
        assert [status for op, status in requests(w) if op == "add"] == [400]
        async with w.client(host=1) as other:
            await other.unarchive_segment(name="vip")
        await vip.flushed(timeout=600)
        assert w.members() == {"u1", "u2"}


@in_virtual_time
async def test_who_is_removed_from_a_segment_that_is_not_there_costs_one_operation(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        vip = handle(client, tmp_path)
        for user in ("u1", "u2", "u3"):
            await vip.remove(user)
            await vip.flushed(timeout=DAY_S)
        assert [each for each in requests(w) if each[0] == "remove"] == [("remove", 404)]
        await vip.add("u1")
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"u1"}
