"""Audiences that do not fit a day or a file: sent in parts, and what was sent is never sent again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import Audience, InputError, QuotaExceeded, QuotaLimits, QuotaNeverFits
from moe_segments.sandbox import FaultKind
from tests.live.audience_world import FIELDS, World, in_virtual_time, world

if TYPE_CHECKING:
    from pathlib import Path

A_DAY = 100
DAY_S = 86_400.0
LIMITS = QuotaLimits(users_per_day=A_DAY)
MANY = {f"user-{number:04}" for number in range(250)}
SOME = {f"new-{number:04}" for number in range(150)}


def rows_of(w: World) -> list[int]:
    """Return the rows of each operation that the service took, in order."""
    return [getattr(each.result, "values_found", 0) for each in w.sandbox.workspace.submissions]


@in_virtual_time
async def test_a_create_is_sent_over_days(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w:
        began_s = asyncio.get_running_loop().time()
        report = await w.sync(MANY)
        assert (report.status, report.operations, report.users) == ("synced", ("create", "add", "add"), 250)
        assert (report.added, report.found, report.processed) == (250, 250, 250)
        assert (w.ops, rows_of(w)) == (["create", "add", "add"], [100, 100, 50])
        assert 2 * DAY_S <= asyncio.get_running_loop().time() - began_s <= 2.1 * DAY_S
        assert w.members() == MANY
        assert len(w.snapshots()) == 1
        assert (await w.sync(MANY)).status == "unchanged"


@in_virtual_time
async def test_a_plan_knows_the_parts(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w, w.client() as client:
        planned = await client.plan_sync([Audience("vip", members=MANY, **FIELDS)], snapshots=w.place)
        assert (planned["vip"].operations, planned["vip"].users) == (("create", "add", "add"), 250)
        waits_s = [start.wait_s for start in planned.plan]
        assert [round(wait_s / DAY_S) for wait_s in waits_s] == [0, 1, 2]
        assert w.sent == []


@in_virtual_time
async def test_members_that_are_unknown_are_replaced_in_parts(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w:
        await w.sync(MANY)
        async with w.client() as client:
            await client.forget_audience("vip", snapshots=w.place)
        wanted = MANY - {"user-0001"} | {"new"}
        report = await w.sync(wanted)
        assert report.operations == ("replace", "add", "add")
        assert w.members() == wanted
        assert (await w.sync(wanted)).status == "unchanged"


@in_virtual_time
async def test_changes_are_sent_in_parts(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w:
        await w.sync(MANY)
        before = len(w.sent)
        gone = set(sorted(MANY)[:120])
        report = await w.sync(MANY - gone | SOME)
        assert report.operations in (("replace", "add", "add"), ("add", "add", "remove", "remove"))
        assert sum(rows_of(w)[before:]) == report.users
        assert w.members() == MANY - gone | SOME
        report = await w.sync(MANY | SOME, mode="add")
        assert (report.operations, w.members()) == (("add", "add"), MANY | SOME)
        report = await w.sync(SOME, mode="remove", max_removed=1)
        assert (report.operations, w.members()) == (("remove", "remove"), MANY)
        assert (await w.sync(MANY)).status == "unchanged"


@in_virtual_time
async def test_who_cannot_wait_sends_a_part_a_day(tmp_path: Path) -> None:
    """What a part made of the segment is known, so that the next sync goes on where it stopped."""
    async with world(tmp_path, limits=LIMITS) as w:
        first = await w.sync(MANY, max_wait_s=60)
        assert (first.status, type(first.error)) == ("failed", QuotaExceeded)
        assert first.warnings == ("1 of 3 operations went through: the next sync goes on from there",)
        async with w.client() as client:
            (known,) = await client.audiences(snapshots=w.place)
            assert (known.size, known.is_known) == (100, True)
        for expected in ("failed", "synced"):
            await asyncio.sleep(1.01 * DAY_S)
            assert (await w.sync(MANY, max_wait_s=60)).status == expected
        assert (w.ops, rows_of(w)) == (["create", "add", "add"], [100, 100, 50])
        assert w.members() == MANY


GUARDS: list[dict[str, Any]] = [{"max_added": 10}, {"max_removed": 0.05}]


@pytest.mark.parametrize("guards", GUARDS)
def test_guards_let_a_replacement_go_on(tmp_path: Path, guards: dict[str, Any]) -> None:
    """They have let it pass as a whole, and the segment has fewer members while it is under way."""

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, limits=LIMITS) as w:
            await w.sync(MANY)
            async with w.client() as client:
                await client.forget_audience("vip", snapshots=w.place)
            wanted, statuses = MANY - {"user-0001"} | {"new"}, []
            while "synced" not in statuses:
                await asyncio.sleep(1.01 * DAY_S)
                statuses.append((await w.sync(wanted, max_wait_s=60, **guards)).status)
            assert statuses == ["failed", "failed", "synced"]
            assert w.members() == wanted
            refused = await w.sync(MANY | SOME if "max_added" in guards else MANY - set(sorted(MANY)[:20]), **guards)
            assert (refused.status, type(refused.error)) == ("refused", InputError)

    story()


@in_virtual_time
async def test_a_replacement_that_takes_days_does_not_begin_again_every_day(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w:
        statuses: list[str] = []
        while "synced" not in statuses:
            statuses.append((await w.sync(MANY, max_wait_s=60, full_every_days=0.9)).status)
            await asyncio.sleep(1.01 * DAY_S)
        assert (statuses, w.ops) == (["failed", "failed", "synced"], ["create", "add", "add"])
        assert (await w.sync(MANY, full_every_days=0.9)).operations == ("replace", "add", "add")


@pytest.mark.parametrize("at_s", [0.05, 1.0, 0.5 * DAY_S, 1.5 * DAY_S, 2.5 * DAY_S])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_sync_that_is_cut_off_between_parts_goes_on_without_doubling(
    tmp_path: Path, at_s: float, *, is_new: bool
) -> None:
    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, limits=LIMITS, latency_s=(0.1, 0.3), processing_s=(0, 30)) as w:
            if not is_new:
                await w.sync({"user-0000"})
                await asyncio.sleep(2 * DAY_S)
            before = len(w.sent)
            cut_off = asyncio.ensure_future(w.sync(MANY))
            await asyncio.sleep(at_s)
            cut_off.cancel()
            await asyncio.gather(cut_off, return_exceptions=True)
            assert (await w.sync(MANY)).ok
            await w.sandbox.idle()
            assert w.members() == MANY
            assert sum(rows_of(w)[before:]) == (250 if is_new else 249)
            assert (await w.sync(MANY)).status == "unchanged"

    story()


@in_virtual_time
async def test_a_part_that_failed_makes_the_members_unknown(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w:
        running = asyncio.ensure_future(w.sync(MANY))
        await asyncio.sleep(0.5 * DAY_S)
        w.sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        failed = await running
        assert (failed.status, w.ops) == ("failed", ["create", "add"])
        assert (await w.sync(MANY)).operations == ("replace", "add", "add")
        assert w.members() == MANY


@in_virtual_time
async def test_a_file_that_is_too_large_is_cut_where_it_fits(tmp_path: Path) -> None:
    """The rows of one part may be longer than those of another: their bytes are counted."""
    limits = QuotaLimits(file_bytes=1_000)
    members = {f"{number:03}-{'x' * (number if number < 100 else 2)}" for number in range(200)}
    async with world(tmp_path, limits=limits) as w:
        report = await w.sync(members)
        assert report.status == "synced"
        assert set(report.operations) == {"create", "add"}
        assert w.members() == members
        least = -(-sum(len(member) + 1 for member in members) // 1_000)
        assert least <= len(report.operations) <= least + 2
        assert (await w.sync(members)).status == "unchanged"


@in_virtual_time
async def test_a_value_that_fits_no_file_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, limits=QuotaLimits(file_bytes=10)) as w:
        report = await w.sync({"a", "b", "a value that is long"})
        assert (report.status, type(report.error)) == ("refused", QuotaNeverFits)
        assert w.sent == []


@in_virtual_time
async def test_two_hosts_share_the_days_of_one_audience(tmp_path: Path) -> None:
    async with world(tmp_path, limits=LIMITS) as w:
        first = asyncio.ensure_future(w.sync(MANY))
        await asyncio.sleep(0.5 * DAY_S)
        told = await w.sync(MANY | {"new"}, host=1, max_wait_s=0)
        assert told.status == "busy"
        second = await w.sync(MANY | {"new"}, host=1)
        assert ((await first).status, second.operations) == ("synced", ("add",))
        assert w.members() == MANY | {"new"}
