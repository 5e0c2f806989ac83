"""Membership changes as they happen: what is acknowledged is applied, once it can be, and the last word wins."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import Audience, FlushTimeout, InputError, NotSent, OutboxError, QuotaLimits, SegmentsClient, events
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.memberships.outbox.place import place_of
from moe_segments.memberships.outbox.protocol import Change, Declared
from moe_segments.memberships.outbox.sqlite import SqliteOutbox
from moe_segments.sandbox import FaultKind
from tests.live.audience_world import FIELDS, World, in_virtual_time, world
from tests.places import read_only_disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from moe_segments import Membership

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


def now_s() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def opened(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[World, SegmentsClient]]:
    async with world(tmp_path, **options) as w, w.client() as client:
        yield w, client


def handle(client: SegmentsClient, tmp_path: Path, name: str = "vip", **fields: Any) -> Membership:
    return client.membership(name, **FIELDS | {"outbox": tmp_path / "outbox.db"} | fields)


@in_virtual_time
async def test_changes_become_as_few_operations_as_possible(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await asyncio.gather(*(vip.add(f"u{number}") for number in range(100)))
        await vip.remove("u7", "u8")
        await vip.add("u8")

        await vip.flushed(timeout=600)
        assert w.members() == {f"u{number}" for number in range(100)} - {"u7"}
        assert w.sent == [("vip", "create"), ("vip", "remove")]


@in_virtual_time
async def test_what_was_acknowledged_is_sent_by_the_next_client(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.client() as client:
            await handle(client, tmp_path).add("u1")
        assert w.sent == []

        async with w.client() as client:
            await handle(client, tmp_path, "another").flushed()
            await handle(client, tmp_path).flushed(timeout=600)
        assert w.members() == {"u1"}


@in_virtual_time
async def test_a_client_sends_what_others_left_for_segments_it_never_named(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.client() as client:
            await handle(client, tmp_path).add("u1")
        async with w.client() as client:
            handle(client, tmp_path, "another")
            await asyncio.sleep(600)
        assert w.members() == {"u1"}


@in_virtual_time
async def test_a_segment_that_is_there_is_not_created(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        job = await client.create_file_segment(name="vip", values=["u0"], **FIELDS)
        await job.result()
        vip = handle(client, tmp_path)
        await vip.add("u1")
        await vip.flushed(timeout=600)
        assert (w.ops, w.members()) == (["create", "add"], {"u0", "u1"})


@in_virtual_time
async def test_a_segment_that_another_journal_created_is_found_in_the_list(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.client() as client:
            await (await client.create_file_segment(name="vip", values=["u0"], **FIELDS)).result()
        other = World(w.sandbox, w.receivers, tmp_path)
        async with other.client() as client:
            vip = handle(client, tmp_path)
            await vip.add("u1")
            await vip.flushed(timeout=600)
        assert (w.ops, w.members()) == (["create", "add"], {"u0", "u1"})
        assert len([request for request in w.sandbox.workspace.requests if request.op == "create"]) == 1


@in_virtual_time
async def test_a_mistake_of_ours_is_told_and_tried_again_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    async def mistaken(*_: object, **__: object) -> None:
        tries.append(now_s())
        raise TypeError("of a driver")

    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add("u1")
        with monkeypatch.context() as broken:
            broken.setattr(SqliteOutbox, "end", mistaken)
            await asyncio.sleep(HOUR_S)
            (status,) = await client.memberships()
        assert 1 < len(tries) < 10
        assert status.error == "a mistake of moe_segments, of which the log tells: TypeError"
        assert sum(one.exc_info is not None for one in caplog.records) == len(tries)

        await vip.flushed(timeout=6 * HOUR_S)
        assert (w.ops, w.members()) == (["create"], {"u1"})


@in_virtual_time
async def test_without_an_expiry_a_missing_segment_is_not_created_and_it_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path, expiry_time=None)
        await vip.add("u1")
        with pytest.raises(FlushTimeout, match="404"):
            await vip.flushed(timeout=HOUR_S)

        status = await vip.pending()
        assert (status.pending, w.sent) == (1, [])
        assert status.error is not None
        assert status.retry_at is not None

        await (await client.create_file_segment(name="vip", values=["u0"], **FIELDS)).result()
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"u0", "u1"}


@in_virtual_time
async def test_nobody_has_to_be_removed_from_a_segment_that_is_not_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await vip.remove("u1")
        await vip.flushed(timeout=600)
        assert w.sent == []
        await vip.add("u2")
        await vip.flushed(timeout=600)
        assert w.members() == {"u2"}


@pytest.mark.parametrize("fault", [FaultKind.FAIL_PROCESSING, FaultKind.LOSE_ANSWER, FaultKind.LOSE_CALLBACK])
@in_virtual_time
async def test_what_is_not_known_to_be_applied_is_sent_again_without_what_changed_meanwhile(
    tmp_path: Path, fault: FaultKind
) -> None:
    async with opened(tmp_path, processing_s=(60, 60)) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add("u0")
        await vip.flushed()
        w.sandbox.fail_next(fault)
        await vip.add("u1", "u2")
        await asyncio.sleep(30)  # it was sent
        await vip.remove("u1")
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"u0", "u2"}


@in_virtual_time
async def test_a_batch_that_a_dead_process_sent_counts_once_its_callback_comes(tmp_path: Path) -> None:
    async with world(tmp_path, processing_s=(600, 600)) as w:
        async with w.client() as client:
            await handle(client, tmp_path).add("u1")
            await asyncio.sleep(30)
        assert w.ops == ["create"]
        async with w.client() as client:
            vip = handle(client, tmp_path)
            assert (await vip.pending()).is_sending
            await vip.flushed(timeout=HOUR_S)
        assert (w.ops, w.members()) == (["create"], {"u1"})


@in_virtual_time
async def test_two_clients_with_one_outbox_send_nothing_twice(tmp_path: Path) -> None:
    async with world(tmp_path, processing_s=(30, 90)) as w, w.client() as one, w.client(host=1) as two:
        names = [f"s{number}" for number in range(3)]
        handles = [handle(client, tmp_path, name) for name in names for client in (one, two)]
        for number in range(4):
            await asyncio.gather(*(each.add(f"u{number}-{place}") for place, each in enumerate(handles)))
            await asyncio.gather(*(each.flushed(timeout=DAY_S) for each in handles))
        expected = [{f"u{number}-{place + host}" for number in range(4) for host in (0, 1)} for place in (0, 2, 4)]
        assert [w.members(name) for name in names] == expected
        assert len(w.ops) <= len(names) * 5  # a change that came a moment late may need one more


@in_virtual_time
async def test_the_older_and_the_more_important_segment_is_sent_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        await client.governor.record_external(operations=10)  # of the hour
        old = handle(client, tmp_path, "old")
        await old.add("u")
        await asyncio.sleep(60)
        young, dear = handle(client, tmp_path, "young"), handle(client, tmp_path, "dear", priority=1)
        await asyncio.gather(young.add("u"), dear.add("u"))
        await asyncio.sleep(2 * HOUR_S)
        assert [name for name, _ in w.sent] == ["dear", "old", "young"]


@in_virtual_time
async def test_direct_callers_find_room_while_changes_gather_all_day(tmp_path: Path) -> None:
    """A caller that does not wait at all gets its turn at any hour of a day on which a hundred segments change."""
    async with opened(tmp_path) as (w, client):
        handles = [handle(client, tmp_path, f"s{number}") for number in range(100)]
        for number in range(30):
            await asyncio.gather(*(each.add(f"u{number}") for each in handles))
            await asyncio.sleep(HOUR_S)
            if number % 12 == 0:
                await client.create_file_segment(name=f"direct {number}", values=["u"], **FIELDS)
        assert len(w.ops) > 90


@in_virtual_time
async def test_a_full_day_is_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await client.governor.record_external(operations=97)
        await vip.add("u1")
        await vip.flushed(timeout=2 * HOUR_S)  # of the hour
        await client.governor.record_external(operations=1)  # what is left is for direct callers
        await vip.add("u2")
        await vip.flushed(timeout=25 * HOUR_S)
        assert w.members() == {"u1", "u2"}


@in_virtual_time
async def test_a_backlog_larger_than_the_day_is_sent_in_parts(tmp_path: Path) -> None:
    async with opened(tmp_path, limits=QuotaLimits(users_per_day=100)) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add(*(f"u{number:03}" for number in range(250)))
        await vip.flushed(timeout=4 * DAY_S)
        assert len(w.members()) == 250
        assert w.ops == ["create", "add", "add"]


@in_virtual_time
async def test_a_segment_that_is_staler_than_it_may_be_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w, w.client() as client:
        told: list[events.Event] = []
        client.events.subscribe(told.append)
        await client.governor.record_external(operations=10)
        with caplog.at_level(logging.WARNING, "moe_segments"):
            vip = handle(client, tmp_path, max_age_s=600)
            handle(client, tmp_path, "calm", max_age_s=600)
            await vip.add("u1", "u2")
            await asyncio.sleep(1_000)

        (lag,) = [event for event in told if isinstance(event, events.MembershipLag)]
        assert (lag.segment, lag.max_age_s, lag.pending) == ("vip", 600, 2)
        assert 600 < lag.lag_s < 640
        (status,) = [one for one in await client.memberships() if one.is_late]
        assert (status.name, status.pending) == ("vip", 2)
        assert status.lag_s == pytest.approx(1_000, abs=1)
        (warning,) = [record for record in caplog.records if "'vip'" in record.getMessage()]
        assert warning.name == "moe_segments.membership"
        assert "the oldest for 10 min" in warning.getMessage()
        assert "u1" not in caplog.text
        await vip.flushed()
        assert not (await vip.pending()).is_late


# Syncs


@in_virtual_time
async def test_a_sync_overtakes_the_changes_before_it_and_not_those_after(tmp_path: Path) -> None:
    async with opened(tmp_path, processing_s=(60, 60)) as (w, client):
        vip = client.membership("vip", **FIELDS, outbox=tmp_path / "outbox.db")
        await vip.add("u1", "u2")
        await vip.flushed()
        await client.governor.record_external(operations=9)
        await vip.add("before", "u3")
        await vip.remove("u1")
        syncing = asyncio.ensure_future(
            client.sync([Audience("vip", members=["u1", "u3", "u4"], max_removed=1, **FIELDS)], snapshots=w.place)
        )
        await asyncio.sleep(1)
        await vip.add("after")
        await vip.remove("u4")
        assert (await syncing).ok
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"u1", "u3", "after"}


@in_virtual_time
async def test_a_sync_reads_its_source_and_overtakes_changes_once_no_flush_is_under_way(tmp_path: Path) -> None:
    """What changes while it waits for the flush is in its source as well, or not: the source has the last word."""
    async with opened(tmp_path, processing_s=(600, 600)) as (w, client):
        vip, stored = handle(client, tmp_path), {"u1", "u3"}
        await vip.add("u1", "u3")
        await asyncio.sleep(30)  # it was sent
        audience = Audience("vip", members=lambda: sorted(stored), max_removed=1, **FIELDS)
        syncing = asyncio.ensure_future(client.sync([audience], snapshots=w.place))
        await asyncio.sleep(30)
        stored ^= {"u1", "u2"}
        await vip.remove("u1", "u3")
        await vip.add("u2", "u9")
        assert (await syncing).ok
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"u2", "u3"}


@in_virtual_time
async def test_a_sync_that_adds_overtakes_the_removals_of_its_values_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add("u1", "ü2", "u3")
        await vip.flushed()
        await vip.remove("u1", "ü2")
        report = await client.sync([Audience("vip", members=["ü2", "u5"], mode="add", **FIELDS)], snapshots=w.place)
        assert report.ok
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"ü2", "u3", "u5"}


@in_virtual_time
async def test_a_sync_that_failed_overtakes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add("u1")
        await vip.flushed()
        await vip.add("u2")
        w.sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        report = await client.sync([Audience("vip", members=["u3"], max_removed=1, **FIELDS)], snapshots=w.place)
        assert not report.ok
        await vip.flushed(timeout=DAY_S)
        assert w.members() == {"u1", "u2"}


@in_virtual_time
async def test_a_sync_after_changes_were_applied_ends_with_the_right_members(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):

        async def synced(*members: str) -> None:
            audience = Audience("vip", members=list(members), max_removed=1, **FIELDS)
            assert (await client.sync([audience], snapshots=w.place)).ok
            assert w.members() == set(members)

        vip = handle(client, tmp_path)
        await synced("u1", "u2", "u3")
        await vip.add("u4", "u5")
        await vip.remove("u1")
        await vip.flushed()
        assert w.members() == {"u2", "u3", "u4", "u5"}
        await synced("u2", "u4", "u6")


@in_virtual_time
async def test_forgetting_an_audience_deletes_its_changes(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        await client.governor.record_external(operations=10)
        vip = handle(client, tmp_path)
        await vip.add("canary-value-0815")
        await client.forget_audience("vip", snapshots=w.place)
        assert (await vip.pending()).pending == 0
    assert b"canary-value-0815" not in (tmp_path / "outbox.db").read_bytes()


# Values and handles


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (("u1", None), "value 2 is None"),
        (("u1", 'se"cret'), "value 2: MOE105"),
        (("u1", "u2", " secret"), "value 3: MOE106"),
        (("sec,ret",), "value 1: MOE103"),
        (("sec\nret",), "value 1 holds a line break"),
        ((b"secret",), "value 1 is of type bytes"),
        (("",), "value 1: MOE102"),
        ((1.5,), "value 1 is a float"),
        ((True,), "value 1 is a bool"),
        ((10**5_000,), "value 1 has too many digits"),
        (("\ufeffsecret", "u1"), "value 1 begins with the byte order mark"),
    ],
)
@in_virtual_time
async def test_a_value_that_no_file_may_hold_is_refused_by_position_and_rule(
    tmp_path: Path, values: tuple[object, ...], problem: str
) -> None:
    async with opened(tmp_path) as (_, client):
        vip = handle(client, tmp_path)
        with pytest.raises(InputError) as caught:
            await vip.add(*values)
        assert problem in str(caught.value)
        assert "secret" not in f"{caught.value!r}"
        assert (await vip.pending()).pending == 0


@in_virtual_time
async def test_ints_rows_and_odd_text_are_values(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add(17, ("row",), "a.b+c@example.com", "été", "x y", "1001.5x")
        await vip.add()
        await vip.flushed()
        assert w.members() == {"17", "row", "a.b+c@example.com", "été", "x y", "1001.5x"}


@in_virtual_time
async def test_numbers_are_values_of_a_double(tmp_path: Path) -> None:
    async with opened(tmp_path) as (w, client):
        scores = handle(client, tmp_path, "scores", attribute_type="double")
        await scores.add(17, 2.5, "3")
        with pytest.raises(InputError, match="MOE119"):
            await scores.add("u1")
        await scores.flushed()
        assert w.members("scores") == {"17", "2.5", "3"}

        await scores.remove(17, 2.5)
        await scores.add(17.0)
        await scores.flushed()
        assert w.members("scores") == {"17", "3"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ".vip"}, "name"),
        ({"attribute_name": ""}, "attribute_name"),
        ({"attribute_type": "int"}, "attribute_type"),
        ({"expiry_time": 0}, "expiry_time"),
        ({"max_age_s": 0}, "max_age_s"),
        ({"max_age_s": "1"}, "max_age_s"),
        ({"max_age_s": 1e308}, "max_age_s"),
        ({"max_age_s": 10**300}, "max_age_s"),
        ({"priority": 1.5}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"outbox": "redis://127.0.0.1"}, "outbox"),
    ],
)
@in_virtual_time
async def test_a_field_that_cannot_be_used_is_refused_at_once(
    tmp_path: Path, fields: dict[str, Any], field: str
) -> None:
    async with opened(tmp_path) as (_, client):
        with pytest.raises(InputError) as caught:
            handle(client, tmp_path, **fields)
        assert caught.value.field == field


@in_virtual_time
async def test_one_segment_is_matched_against_one_attribute_and_all_have_one_outbox(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        handle(client, tmp_path)
        with pytest.raises(InputError, match="attribute_name"):
            handle(client, tmp_path, attribute_name="EMAIL")
        with pytest.raises(InputError, match="outbox"):
            handle(client, tmp_path, "lapsed", outbox=tmp_path / "another.db")


@in_virtual_time
async def test_changes_that_wait_are_not_matched_against_another_attribute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever process asks for it, and those of other segments do not wait for that."""
    async with world(tmp_path) as w, w.client(0) as first, w.client(1) as second:
        ids = handle(first, tmp_path)
        await ids.add("u1")
        emails = handle(second, tmp_path, attribute_name="EMAIL")
        with pytest.raises(
            InputError, match=r"'vip' has 1 changes that are matched against 'ID' \(string\): wait until"
        ):
            await emails.add("a@example.com")
        await handle(second, tmp_path, "other").add("u2")
        await ids.flushed(timeout=600)
        assert "segment 'vip' cannot be changed" in caplog.text

        await emails.add("a@example.com")
        changes = [
            ids.add("u3"),
            handle(first, tmp_path, "other").add("u4"),
            handle(first, tmp_path, "third").add("u5"),
        ]
        refused, *taken = await asyncio.gather(*changes, return_exceptions=True)
        assert isinstance(refused, InputError)
        assert "against 'EMAIL' (string) by another process" in str(refused)
        assert taken == [None, None]
        await emails.flushed(timeout=600)
        assert w.members() == {"u1", "a@example.com"}


@in_virtual_time
async def test_an_outbox_that_cannot_be_looked_for_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        with pytest.raises(OutboxError, match=r"the outbox .* cannot be used.*File name too long"):
            await client.memberships(outbox=tmp_path / ("x" * 300))


@in_virtual_time
async def test_waiting_no_time_tells_whether_everything_is_applied(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, client):
        vip = handle(client, tmp_path)
        await vip.flushed(timeout=0)
        await vip.add("u1")
        with pytest.raises(FlushTimeout, match="1 changes wait after 0 s"):
            await vip.flushed(timeout=0)
        await vip.flushed(timeout=600)
        await vip.flushed(timeout=0)
        for timeout in (-1, float("nan"), "10"):
            with pytest.raises(InputError, match="timeout: must be seconds from 0, or None"):
                await vip.flushed(timeout=timeout)  # type: ignore[arg-type]  # the mistake


@in_virtual_time
async def test_an_outbox_that_cannot_be_written_is_told_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise OutboxError("the disk of this test is full")

    async with opened(tmp_path) as (w, client):
        vip = handle(client, tmp_path)
        await vip.add("u1")
        monkeypatch.setattr(SqliteOutbox, "begin", full)
        with pytest.raises(FlushTimeout, match="the last try: the disk of this test is full"):
            await vip.flushed(timeout=60)
        assert w.sent == []


@in_virtual_time
async def test_a_client_that_cannot_publish_takes_no_changes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with SegmentsClient(
            w.sandbox.credentials, journal=w.journal, base_url=w.sandbox.url, limits=w.sandbox.limits
        ) as client:
            with pytest.raises(InputError, match="publish"):
                client.membership("vip", **FIELDS)


@in_virtual_time
async def test_a_closed_client_takes_no_changes_and_keeps_those_it_took(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.client() as client:
            vip = handle(client, tmp_path)
            adding = [asyncio.ensure_future(vip.add(f"u{number}")) for number in range(20)]
            await asyncio.sleep(0.1)
        await asyncio.gather(*adding)
        with pytest.raises(NotSent):
            await vip.add("late")
        async with w.client() as client:
            assert (await handle(client, tmp_path).pending()).adds == 20


@in_virtual_time
async def test_where_no_callback_can_come_an_acceptance_is_taken_for_applied(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settings: dict[str, Any] = {"base_url": w.sandbox.url, "limits": w.sandbox.limits, "publish": w.sandbox.publish}
        clock = asyncio.get_running_loop().time
        async with SegmentsClient(w.sandbox.credentials, journal=w.journal, clock=clock, **settings) as client:
            vip = client.membership("vip", **FIELDS)  # in memory, as the journal
            await vip.add("u1")
            await vip.flushed(timeout=600)
            await w.sandbox.idle()
        assert w.members() == {"u1"}


@in_virtual_time
async def test_an_outbox_lies_beside_the_journal(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        clock = asyncio.get_running_loop().time
        settings: dict[str, Any] = {"base_url": w.sandbox.url, "limits": w.sandbox.limits, "publish": w.sandbox.publish}
        journal = f"sqlite:///{tmp_path}/quota.db"
        async with SegmentsClient(w.sandbox.credentials, journal=journal, clock=clock, **settings) as client:
            assert await client.memberships() == ()
            assert not (tmp_path / "quota.db.outbox").exists()
            await client.membership("vip", **FIELDS).add("u1")
        found = tmp_path / "quota.db.outbox"
        assert found.stat().st_mode & 0o777 == 0o600


@in_virtual_time
async def test_another_database_is_not_taken_for_an_outbox(tmp_path: Path) -> None:
    """A journal, for example: nothing is written into it."""
    with closing(sqlite3.connect(tmp_path / "mine.db")) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = (tmp_path / "mine.db").read_bytes()
    async with opened(tmp_path) as (_, client):
        vip = handle(client, tmp_path, outbox=tmp_path / "mine.db")
        with pytest.raises(OutboxError, match="no outbox but another database"):
            await vip.add("u1")
    assert (tmp_path / "mine.db").read_bytes() == before


def spoil(kind: str, path: Path) -> None:
    """Make an outbox unusable in one way."""
    whole = path.read_bytes()
    match kind:
        case "no database":
            path.write_bytes(b"id\n" + b"u1\n" * 2_000)
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "pages":
            path.write_bytes(whole[:4_096] + b"\xff" * (len(whole) - 4_096))
        case "text":
            _execute(path, "UPDATE changes SET value = CAST(x'7531ff' AS TEXT)")
        case _:
            _execute(path, "PRAGMA user_version = 99")


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def use(outbox: SqliteOutbox) -> None:
    try:
        await outbox.open()
        await outbox.values(1, adds=True, up_to=9, after="", most=9)
    finally:
        await outbox.close()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("no database", "it is not an SQLite file.*name another place with outbox=.*move it away"),
        ("cut", "is damaged.*move it away.*from a backup"),
        ("pages", "is damaged.*move it away.*from a backup"),
        ("text", "is damaged.*move it away.*from a backup"),
        ("newer", "written by a newer moe_segments; upgrade moe_segments"),
    ],
)
@pytest.mark.asyncio
async def test_an_outbox_that_cannot_be_used_says_what_to_do(tmp_path: Path, kind: str, told: str) -> None:
    path = tmp_path / "outbox.db"
    outbox = SqliteOutbox(path, "W1@01")
    await outbox.open()
    segment = await outbox.declare(Declared(name="vip", **FIELDS, max_age_s=None, priority=0))
    await outbox.write([Change(segment=segment, adds=True, values=["u1"])], 1)
    await outbox.close()
    spoil(kind, path)

    with pytest.raises(OutboxError, match=told) as caught:
        await use(outbox)
    assert "u1" not in str(caught.value)


@pytest.mark.asyncio
async def test_an_outbox_on_a_read_only_disk_says_what_to_do(tmp_path: Path) -> None:
    with read_only_disk(tmp_path / "volume"):
        outbox = SqliteOutbox(tmp_path / "volume" / "outbox.db", "W1@01")
        with pytest.raises(OutboxError, match=r"the outbox .*volume.* read-only.*give this user write access"):
            await outbox.open()


@pytest.mark.parametrize(
    ("journal", "place"),
    [
        ("sqlite:////var/lib/quota.db", Path("/var/lib/quota.db.outbox")),
        ("postgresql://u:p@db/moe?schema=quota", "postgresql://u:p@db/moe?schema=quota"),
        ("redis://cache:6379/0", Path("/state/moe_segments/outbox/W1@01.db")),
        ("memory:", None),
    ],
)
def test_an_outbox_lies_where_its_journal_does(
    monkeypatch: pytest.MonkeyPatch, journal: str, place: Path | str | None
) -> None:
    """That of a journal in Redis is of one host, as Redis is no place for it."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert (
        place_of(
            None, journal, MemoryJournal() if journal == "memory:" else SqliteJournal("quota.db", "W1@01"), "W1@01"
        )
        == place
    )
    assert place_of("/other/changes.db", journal, MemoryJournal(), "W1@01") == Path("/other/changes.db")


def test_a_journal_that_is_an_object_needs_an_outbox_that_is_named() -> None:
    """Changes in memory would not survive what its journal survives."""
    with pytest.raises(InputError, match="outbox"):
        place_of(None, "engine:", SqliteJournal("quota.db", "W1@01"), "W1@01")
