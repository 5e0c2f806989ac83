"""Audiences on the sandbox, in virtual time: after a sync the segment's members are the desired ones."""

from __future__ import annotations

import asyncio
import functools
import gc
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import Audience, InputError, PreflightError, QuotaLimits
from moe_segments.audiences.snapshots.directory import SnapshotDirectory
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import FaultKind
from moe_segments.testing import journal_clock
from tests.live.audience_world import FIELDS, World, in_virtual_time, world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator

    from moe_segments import SegmentsClient

HOUR_S = 3_600.0
MANY = {f"user-{number:04}" for number in range(200)}


@in_virtual_time
async def test_only_differences_are_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await w.sync(MANY)
        assert (first.status, first.operations, first.added, first.users) == ("synced", ("create",), 200, 200)
        assert (await w.sync(MANY)).status == "unchanged"
        report = await w.sync(MANY | {"new-1", "new-2"})
        assert (report.operations, report.added, report.removed, report.unchanged) == (("add",), 2, 0, 200)
        report = await w.sync(MANY - {"user-0001"})
        assert (report.operations, report.added, report.removed, report.unchanged) == (("remove",), 0, 3, 199)
        report = await w.sync(MANY - {"user-0002"})
        assert (report.operations, report.users, report.unchanged) == (("add", "remove"), 2, 198)
        assert w.ops == ["create", "add", "remove", "add", "remove"]
        assert w.members() == MANY - {"user-0002"}


@in_virtual_time
async def test_a_report_tells_the_match_rate_now_and_last_time(tmp_path: Path) -> None:
    async with world(tmp_path, users=["u1", "u2", "u4"]) as w:
        first = await w.sync(["u1", "u2", "u3"])
        assert (first.found, first.processed, first.matched, first.last_match_rate) == (3, 3, 2, None)
        second = await w.sync(["u1", "u2", "u3", "u4"])
        assert (second.match_rate, second.last_match_rate) == (1.0, 2 / 3)
        assert second.to_json()["match_rate"] == 1.0
        async with w.client() as client:
            past = await client.audience_history("vip")
            assert [(one.facts["added"], one.facts["matched"]) for one in past] == [(3, 2), (1, 1)]
            assert past[0].at < past[1].at
            assert await client.audience_history("unheard-of") == ()


SOURCES: dict[str, Callable[[Path], Any]] = {
    "list": lambda _: ["u2", "u1", "u2"],
    "generator": lambda _: (value for value in ("u1", "u2")),
    "function": lambda _: lambda: ["u1", "u2"],
    "path": lambda path: path,
    "text": str,
    "function of a path": lambda path: lambda: path,
    "rows": lambda _: [("u1",), ("u2",)],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_members_come_from_any_source(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "users.csv"
    path.write_text("u2\nu1\nu2")

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path) as w:
            assert (await w.sync(SOURCES[kind](path))).status == "synced"
            assert w.members() == {"u1", "u2"}

    story()


@in_virtual_time
async def test_modes_leave_other_members_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await w.sync(["x"], mode="remove")).status == "unchanged"
        await w.sync(MANY)
        report = await w.sync(["new", "user-0001"], mode="add")
        assert (report.operations, report.added, report.removed, report.unchanged) == (("add",), 1, 0, 200)
        report = await w.sync(["user-0001", "unheard-of"], mode="remove")
        assert (report.operations, report.added, report.removed, report.unchanged) == (("remove",), 0, 1, 200)
        assert w.members() == MANY - {"user-0001"} | {"new"}
        assert (await w.sync(MANY - {"user-0001"} | {"new"})).status == "unchanged"


@in_virtual_time
async def test_a_mode_that_leaves_others_alone_does_not_replace_unknown_members(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(MANY)
        await _edited(w, "user-0001")
        report = await w.sync(["new"], mode="add")
        assert (report.status, report.operations) == ("synced", ("add",))
        assert w.members() == MANY - {"user-0001"} | {"new"}


# One that is refused


def _raising() -> Iterator[str]:
    yield from MANY
    raise RuntimeError


async def _cancelled() -> AsyncIterator[str]:
    yield "user-0001"
    raise asyncio.CancelledError


async def _exiting() -> AsyncIterator[str]:
    yield "user-0001"
    raise GeneratorExit


def _exiting_at_once() -> list[str]:
    raise GeneratorExit


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception]]] = {
    "empty": ([], {}, InputError),
    "too many removed": (["user-0001"], {}, InputError),
    "too many added": (MANY | {"a", "b"}, {"max_added": 1}, InputError),
    "failed half way": (_raising, {"max_removed": 1}, InputError),
    "bad value": (["u1", None], {}, InputError),
    "blank at an edge": ([*MANY, " u1"], {}, InputError),
    "byte order mark": (["\ufeffu1", *MANY], {}, InputError),
    "a source whose work was cancelled": (_cancelled, {}, InputError),
    "a source that exits": (_exiting, {}, InputError),
    "a function that exits": (_exiting_at_once, {}, InputError),
    "a path that cannot be": (Path("x" * 300), {}, PreflightError),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_one_that_is_refused_spends_nothing_and_stops_no_other(tmp_path: Path, kind: str) -> None:
    members, fields, expected = REFUSED[kind]

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path) as w:
            await w.sync(MANY)
            async with w.client() as client:
                audiences = [
                    Audience("vip", members=members, **FIELDS | fields),
                    Audience("other", members=["u1"], **FIELDS),
                ]
                report = await client.sync(audiences, snapshots=w.place)
            assert (report["vip"].status, report["other"].status, report.ok) == ("refused", "synced", False)
            assert isinstance(report["vip"].error, expected)
            assert w.sent == [("vip", "create"), ("other", "create")]
            assert w.members() == MANY

    story()


@in_virtual_time
async def test_a_value_that_breaks_a_rule_is_refused_before_the_first_of_several_parts(tmp_path: Path) -> None:
    """The plan says so, too."""
    members = [*(f"u{number}" for number in range(1_500)), "secret "]
    async with world(tmp_path, limits=QuotaLimits(users_per_day=1_000)) as w, w.client() as client:
        audience = Audience("vip", members=members, **FIELDS)
        plan = await client.plan_sync([audience], snapshots=w.place)
        report = await client.sync([audience], snapshots=w.place)
        for error in (plan["vip"].error, report["vip"].error):
            assert str(error).startswith("values: value 1,501: MOE106 blanks at the edges")
            assert "secret" not in f"{error!r}"
        assert (report["vip"].status, w.sent) == ("refused", [])


@in_virtual_time
async def test_a_difference_is_not_judged_by_the_rules_of_whole_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two values that end in .0 are odd in a file of two, and none of many others."""
    async with world(tmp_path) as w:
        await w.sync(MANY)
        report = await w.sync([*MANY, "7.0", "8.0", "ID"])
        assert (report.status, report.added, report.error) == ("synced", 3, None)
        assert "the members of 'vip': MOE116" in caplog.text
        assert "moe-segments-values" not in caplog.text


@in_virtual_time
async def test_line_ends_and_a_byte_order_mark_are_no_part_of_the_values_of_a_file(tmp_path: Path) -> None:
    """The service may take a carriage return for a part of a value, or not: so the same file would be another one."""
    source = tmp_path / "vip.csv"
    values = sorted(MANY)
    async with world(tmp_path) as w:
        source.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(values).encode())
        await w.sync(source)
        assert w.members() == MANY
        source.write_bytes("\n".join(values).encode() + b"\r")
        assert (await w.sync(source)).status == "unchanged"
        source.write_text("")
        assert (await w.sync(source, allow_empty=True)).operations == ("remove",)
        source.write_text("u")
        await w.sync(source)
        assert w.members() == {"u"}


@in_virtual_time
async def test_a_whole_number_is_one_value_whether_int_or_float(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"attribute_type": "double"}
    async with world(tmp_path) as w:
        await w.sync([1, 2, 3.5, 1e22], **fields)
        assert w.members() == {"1", "2", "3.5", "1e+22"}
        assert (await w.sync([1.0, 2.0, 2, 3.5, 10**22], **fields)).unchanged == 3


@pytest.mark.parametrize("other", [{"attribute_name": "email"}, {"attribute_type": "double"}])
def test_members_that_are_matched_against_another_attribute_are_unknown(tmp_path: Path, other: dict[str, Any]) -> None:
    @in_virtual_time
    async def story() -> None:
        numbers = [str(number) for number in range(100, 150)]
        async with world(tmp_path) as w:
            await w.sync(numbers)
            report = await w.sync([*numbers, "99"], **other)
            assert (report.status, report.operations) == ("synced", ("replace",))
            assert (await w.sync([*numbers, "99"], **other)).status == "unchanged"

    story()


@in_virtual_time
async def test_an_empty_source_empties_the_segment_when_that_is_allowed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(MANY)
        assert (await w.sync([], allow_empty=True)).operations == ("remove",)
        assert w.members() == set()


# What makes members unknown


async def _edited(w: World, value: str) -> None:
    """Somebody removes a user by another call of the API."""
    async with w.client() as client:
        job = await client.remove_users(
            name="vip", attribute_name="ID", attribute_type="string", values=[value], max_wait_s=1e9
        )
        await job.result()


async def _deleted(w: World) -> None:
    for path in w.snapshots():
        path.unlink()


async def _altered(w: World) -> None:
    for path in w.snapshots():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


async def _cut(w: World) -> None:
    for path in w.snapshots():
        path.write_bytes(path.read_bytes()[:-20])


async def _forgotten(w: World) -> None:
    async with w.client() as client:
        await client.forget_audience("vip", snapshots=w.place)


async def _failed(w: World) -> None:
    w.sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    assert (await w.sync(MANY | {"failed"})).status == "failed"


async def _lost(w: World) -> None:
    w.sandbox.fail_next(FaultKind.LOSE_ANSWER)
    w.sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    assert (await w.sync(MANY | {"lost"})).status == "unknown"


async def _callback_lost(w: World) -> None:
    w.sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    assert (await w.sync(MANY | {"lost"})).status == "failed"


async def _days_passed(w: World) -> None:
    await asyncio.sleep(7 * 24 * HOUR_S)


async def _elsewhere(w: World) -> None:
    """Another host, whose snapshots are elsewhere, synced meanwhile."""
    w.place = w.place.with_name("of another host")


DOUBTS: dict[str, Callable[[World], Coroutine[Any, Any, None]]] = {
    "edited": functools.partial(_edited, value="user-0001"),
    "deleted": _deleted,
    "altered": _altered,
    "cut": _cut,
    "forgotten": _forgotten,
    "failed": _failed,
    "lost": _lost,
    "callback lost": _callback_lost,
    "days passed": _days_passed,
    "elsewhere": _elsewhere,
}


@pytest.mark.parametrize("kind", DOUBTS)
def test_unknown_members_are_replaced(tmp_path: Path, kind: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path) as w:
            await w.sync(MANY)
            await DOUBTS[kind](w)
            report = await w.sync(MANY | {"new"}, full_every_days=6)
            assert (report.status, report.operations) == ("synced", ("replace",))
            assert w.members() == MANY | {"new"}
            assert (await w.sync(MANY | {"new"}, full_every_days=6)).status == "unchanged"

    story()


@in_virtual_time
async def test_an_answer_that_was_lost_is_no_doubt_once_the_callback_came(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(MANY)
        w.sandbox.fail_next(FaultKind.LOSE_ANSWER)
        assert (await w.sync(MANY | {"new"})).status == "synced"
        assert (await w.sync(MANY | {"new"})).status == "unchanged"


@in_virtual_time
async def test_a_segment_made_elsewhere_is_replaced(tmp_path: Path) -> None:
    """The journal does not know it; the service is asked before a create is spent in vain."""
    async with world(tmp_path) as w:
        await w.sync(["u1"])
        w.journal = MemoryJournal(clock=journal_clock)
        await asyncio.sleep(24 * HOUR_S)
        assert (await w.sync(MANY)).operations == ("replace",)
        assert w.members() == MANY


# Snapshots


@in_virtual_time
async def test_snapshots_are_private_and_only_the_current_one_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for members in (MANY, MANY | {"new"}, MANY - {"user-0001"}):
            await w.sync(members)
        (path,) = w.snapshots()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path.parent.parent, w.place)} == {0o700}
        assert b"user-0002" not in path.read_bytes()
        async with w.client() as client:
            await client.forget_audience("vip", snapshots=w.place)
        assert w.snapshots() == []


def test_values_that_are_alike_are_read_in_small_blocks(tmp_path: Path) -> None:
    """They are packed to a hundredth, and memory is bounded nevertheless."""
    values = [f"{'x' * 200}-{number:06}" for number in range(50_000)]
    snapshots = SnapshotDirectory(tmp_path)
    digest, count = snapshots.write("vip", (values[at : at + 1_000] for at in range(0, len(values), 1_000)))
    blocks = list(snapshots.read("vip", digest))
    assert [value for block in blocks for value in block] == values
    assert count == len(values)
    assert max(map(len, blocks)) <= 1_000
    assert next(path for path in tmp_path.rglob("*/*") if path.is_file()).stat().st_size < 500_000


@in_virtual_time
async def test_without_snapshots_all_members_are_sent_each_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.client() as client:
            for expected in ("create", "replace", "replace"):
                report = await client.sync([Audience("vip", members=MANY, **FIELDS)], snapshots="off")
                assert report["vip"].operations == (expected,)
        assert w.snapshots() == []


@in_virtual_time
async def test_the_journal_has_no_value(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.sync(["secret-member-1", "u2", "u3"])
        await w.sync(["secret-member-2", "u2", "u3"])
        assert "secret-member" not in repr(await w.journal.read(0))
        assert "secret-member" not in repr(Audience("vip", members=["secret-member"], **FIELDS))


# Kills, and two at a time


@pytest.mark.parametrize("at_s", [0.0, 0.01, 0.05, 0.2, 0.5, 1.0, 5.0, 20.0, 60.0])
def test_a_sync_that_is_cut_off_is_called_again_and_ends_as_desired(tmp_path: Path, at_s: float) -> None:
    """Wherever it stopped: nothing is sent twice."""

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, latency_s=(0.1, 0.3), processing_s=(0, 30)) as w:
            await w.sync(MANY)
            wanted = MANY - {"user-0001"} | {"new"}
            cut_off = asyncio.ensure_future(w.sync(wanted))
            await asyncio.sleep(at_s)
            cut_off.cancel()
            await asyncio.gather(cut_off, return_exceptions=True)
            assert (await w.sync(wanted)).ok
            await w.sandbox.idle()
            assert w.members() == wanted
            assert w.ops.count("add") <= 1
            assert w.ops.count("remove") <= 1
            assert (await w.sync(wanted)).status == "unchanged"

    story()


@in_virtual_time
async def test_a_callback_that_comes_after_the_client_has_gone_still_confirms(tmp_path: Path) -> None:
    """Through the receiver of whichever process is there."""
    async with world(tmp_path, processing_s=(600, 600)) as w:
        cut_off = asyncio.ensure_future(w.sync(MANY))
        await asyncio.sleep(300)
        cut_off.cancel()
        await asyncio.gather(cut_off, return_exceptions=True)
        async with w.client(host=0):
            await asyncio.sleep(600)
        assert (await w.sync(MANY)).status == "unchanged"
        assert w.ops == ["create"]


@in_virtual_time
async def test_two_hosts_sync_one_after_the_other(tmp_path: Path) -> None:
    async with world(tmp_path, processing_s=(600, 600)) as w:
        first = asyncio.ensure_future(w.sync(MANY))
        await asyncio.sleep(60)
        second = await w.sync(MANY | {"new"}, host=1)
        assert (await first).status == "synced"
        assert (second.status, second.operations) == ("synced", ("add",))
        assert w.members() == MANY | {"new"}


@in_virtual_time
async def test_a_host_that_cannot_wait_is_told_that_another_one_syncs(tmp_path: Path) -> None:
    async with world(tmp_path, processing_s=(600, 600)) as w:
        first = asyncio.ensure_future(w.sync(MANY))
        await asyncio.sleep(60)
        told = await w.sync(MANY | {"new"}, host=1, max_wait_s=0)
        assert (told.status, str(told.error)) == (
            "busy",
            "audiences: 'vip' is being synced by another process: try again later",
        )
        await first
        assert w.ops == ["create"]


# Many together


@in_virtual_time
async def test_higher_priorities_are_sent_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        audiences = [Audience(f"a{number}", members=MANY, priority=number % 3, **FIELDS) for number in range(12)]
        plan = await client.plan_sync(audiences, snapshots=w.place)
        assert w.sent == []
        assert [len(plan.audiences), len(plan.plan), plan["a3"].operations] == [12, 12, ("create",)]
        report = await client.sync(audiences, snapshots=w.place)
        assert report.ok
        assert [one.name for one in report.audiences] == [audience.name for audience in audiences]
        priorities = [int(name[1:]) % 3 for name, _ in w.sent]
        assert priorities == sorted(priorities, reverse=True)


@in_virtual_time
async def test_thirty_audiences_are_synced_within_four_hours(tmp_path: Path) -> None:
    """All replaced would take a day more, all changed an hour more."""
    async with world(tmp_path) as w, w.client() as client:
        scale = 100  # the users of a day and the audiences alike
        limits = w.sandbox.limits
        before = [f"user-{number}" for number in range(1_000)]
        after = [*before[20:], *(f"new-{number}" for number in range(20))]
        assert limits.users_per_day // scale == 20_000
        await client.sync([Audience(f"a{number}", members=before, **FIELDS) for number in range(30)], snapshots=w.place)
        await asyncio.sleep(25 * HOUR_S)
        await client.governor.record_external(rows=limits.users_per_day - limits.users_per_day // scale)
        began, known = asyncio.get_running_loop().time(), len(w.sandbox.workspace.counted)
        report = await client.sync(
            [Audience(f"a{number}", members=after, **FIELDS) for number in range(30)], snapshots=w.place
        )
        assert report.ok
        counted = w.sandbox.workspace.counted[known:]
        assert counted[-1] - counted[0] <= 4 * HOUR_S + 5 * 120
        assert all(w.members(f"a{number}") == set(after) for number in range(30))
        assert asyncio.get_running_loop().time() - began < 6 * HOUR_S


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "merge"),
        ("members", 7),
        ("members", {"u1": 1}),
        ("max_removed", 2),
        ("max_added", -1),
        ("priority", "high"),
        ("full_every_days", 0),
        ("full_every_days", 1e308),
        ("full_every_days", 10**400),
        ("attribute_type", "text"),
        ("expiry_time", 0),
    ],
)
def test_an_audience_says_which_field_cannot_be_used(field: str, value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Audience("vip", **{"members": ["u1"]} | FIELDS | {field: value})
    assert caught.value.field == field


@in_virtual_time
async def test_one_segment_is_given_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client() as client:
        audience = Audience("vip", members=["u1"], **FIELDS)
        with pytest.raises(InputError, match="given twice"):
            await client.sync([audience, audience])
        with pytest.raises(InputError, match="entry 1 must be an Audience"):
            await client.sync(["vip"])  # type: ignore[list-item]  # the mistake
        for mistake in (audience, None):
            with pytest.raises(InputError, match="audiences: must be several"):
                await client.sync(mistake)  # type: ignore[arg-type]  # the mistake


async def refused(client: SegmentsClient, iterators: Iterable[Any]) -> None:
    for members in iterators:
        audiences = [Audience(name, members=members, allow_empty=True, **FIELDS) for name in ("vip", "lapsed")]
        for call in (client.sync, client.plan_sync):
            with pytest.raises(InputError, match="an iterator is read once: give a list, or a function"):
                await call(audiences)


@in_virtual_time
async def test_an_iterator_is_the_source_of_one_audience_alone(tmp_path: Path) -> None:
    """Each would get a part of its values, and the second one might be emptied."""
    async with world(tmp_path) as w, w.client() as client:
        with closing(sqlite3.connect(":memory:")) as database:
            rows = database.execute("SELECT 'u1' UNION SELECT 'u2'")
            await refused(client, (iter(["u1", "u2"]), rows))
        shared = ["u1"]
        report = await client.sync([Audience(name, members=shared, **FIELDS) for name in ("vip", "lapsed")])
        assert report.ok


@in_virtual_time
async def test_a_generator_that_was_read_before_empties_no_segment(tmp_path: Path) -> None:
    async def users() -> AsyncIterator[str]:
        yield "u1"

    async with world(tmp_path) as w:
        for name, members in (("vip", (value for value in ("u1", "u2"))), ("lapsed", users())):
            assert (await w.sync(members, name, allow_empty=True)).ok
            report = await w.sync(members, name, allow_empty=True)
            assert report.status == "refused"
            assert "this generator was read before" in str(report.error)
        assert w.ops == ["create", "create"]


def told_wrongly(_: object) -> None:
    raise TypeError("of the caller's")


def told_of_a_cancelled_future(_: object) -> None:
    raise asyncio.CancelledError


async def told_late(_: object) -> None: ...


def told_through_another(one: object) -> Any:
    return told_late(one)


@pytest.mark.parametrize("on_report", [told_wrongly, told_of_a_cancelled_future, told_through_another])
@in_virtual_time
async def test_whoever_is_told_of_reports_changes_nothing_by_raising(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, on_report: Callable[[object], None]
) -> None:
    async with world(tmp_path) as w, w.client() as client:
        audiences = [Audience(name, members=["u1"], **FIELDS) for name in ("vip", "lapsed")]
        refused = Audience("no", members=[None], **FIELDS)
        report = await client.sync([refused, *audiences], snapshots=w.place, on_report=on_report)
        assert [one.status for one in report.audiences] == ["refused", "synced", "synced"]
        assert [one.exc_info is not None for one in caplog.records] == [True]


@pytest.mark.parametrize("after_s", [0.0, 1.0, 40.0])
@in_virtual_time
async def test_a_sync_that_is_cancelled_leaves_no_file_of_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    """While one source is still read, another one was compared, and a third one is sent."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def slow() -> AsyncIterator[str]:
        yield "u1"
        await asyncio.sleep(30)

    async with world(tmp_path, processing_s=(60, 60)) as w, w.client() as client:
        sources = {"slow": slow(), "vip": ["u1"], "lapsed": ["u2"]}
        audiences = [Audience(name, members=members, **FIELDS) for name, members in sources.items()]
        syncing = asyncio.ensure_future(client.sync(audiences, snapshots=w.place))
        await asyncio.sleep(after_s)
        syncing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await syncing
        gc.collect()
        assert [path.name for path in tmp_path.iterdir() if "values" in path.name] == []  # noqa: ASYNC240 - local, few


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"another")])
@in_virtual_time
async def test_a_snapshot_that_is_altered_after_the_comparison_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], object]
) -> None:
    write = SnapshotDirectory.write

    def write_later(*arguments: Any) -> tuple[str, int]:
        for path in w.snapshots():
            harm(path)
        return write(*arguments)

    async with world(tmp_path) as w:
        await w.sync(["u1"], mode="add")
        with monkeypatch.context() as patch:
            patch.setattr(SnapshotDirectory, "write", write_later)
            report = await w.sync(["u2"], mode="add")
        assert (report.status, w.ops) == ("failed", ["create"])
        assert "nothing was sent; sync again" in str(report.error)
        assert (await w.sync(["u2"], mode="add")).ok
        assert w.members() == {"u1", "u2"}


@pytest.mark.parametrize("on_report", [None, "no function", told_late])
@in_virtual_time
async def test_a_report_goes_to_a_plain_function_alone(tmp_path: Path, on_report: Any) -> None:
    async with world(tmp_path) as w, w.client() as client:
        with pytest.raises(InputError, match="on_report: must be a plain function"):
            await client.sync([Audience("vip", members=["u1"], **FIELDS)], on_report=on_report)
        assert w.sent == []


@pytest.mark.parametrize("place", ["", " ", "\0", 5])
def test_what_is_no_place_for_snapshots_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any) -> None:
    monkeypatch.chdir(tmp_path)

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path) as w, w.client() as client:
            with pytest.raises(InputError, match="snapshots: must be a directory, a bucket"):
                await client.sync([Audience("vip", members=["u1"], **FIELDS)], snapshots=place)
            assert w.sent == []

    story()
