"""Bulk runs in the best order, by priority, and dry runs of them: the plan, and nothing sent."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import attrs
import pytest
import pytest_asyncio
from aiohttp import web

from moe_segments import AuthenticationFailed, CallbackReceiver, CreateFileSegment, QuotaLimits, SegmentsClient
from moe_segments.bulk import (
    BulkRow,
    ManifestError,
    check_files,
    coalesced,
    dry_run_bulk,
    plan_bulk,
    read_manifest,
    run_bulk,
)
from moe_segments.sandbox import FaultKind, Sandbox
from tests.live.network import serving
from tests.live.test_bulk import creates, manifest_of, open_client, states_of
from tests.live.test_cli import HEADER, Shell, a_shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments.bulk import Manifest

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


def urgent_last(tmp_path: Path, url: str, count: int = 12) -> Manifest:
    """Creates, of which the last two are urgent."""
    rows = (f"create,s{number},ID,string,{url},30,3,{int(number >= count - 2)}" for number in range(count))
    path = tmp_path / "urgent.csv"
    path.write_text(f"{HEADER.strip()},rows,priority\n" + "".join(f"{row}\n" for row in rows))
    return read_manifest(path)


def sent(sandbox: Sandbox) -> list[str | None]:
    """The segments that operations reached, in order."""
    return [request.segment for request in sandbox.workspace.requests if request.op != "list"]


# Order


@pytest.mark.parametrize(("order", "last"), [("best", {"s8", "s9"}), ("given", {"s10", "s11"})])
async def test_urgent_lines_go_first_in_the_best_order(
    sandbox: Sandbox, url: str, tmp_path: Path, order: Any, last: set[str]
) -> None:
    """Ten fit the hour: with "best" the two urgent ones are among them; with "given" they are the last."""
    async with open_client(sandbox, tmp_path) as client:
        planned = await plan_bulk(client, urgent_last(tmp_path, url), order=order)
        # Unread files: those that are read come into line as they have been.
        report = await run_bulk(client, urgent_last(tmp_path, url), order=order, preflight="off")

    assert states_of(report) == ["processed"] * 12
    assert {row.name for row in planned.rows if row.limit} == last
    assert set(sent(sandbox)[10:]) == last


async def test_a_priority_is_no_part_of_what_a_line_says(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Made urgent after it was done, a line stays done."""
    async with open_client(sandbox, tmp_path) as client:
        await run_bulk(client, creates(tmp_path, url, 3))
        report = await run_bulk(client, urgent_last(tmp_path, url, 3))

    assert [row.done_before for row in report.rows] == [True] * 3
    assert len(sent(sandbox)) == 3


@pytest.mark.parametrize("order", ["best", "given"])
async def test_a_run_goes_on_with_what_is_under_way_in_any_order(tmp_path: Path, order: Any) -> None:
    """Creates that were accepted have used their names up, and are still waited for."""
    async with Sandbox(processing_s=(1, 1)) as sandbox:
        (tmp_path / "users.csv").write_text("u-1\n")
        manifest = creates(tmp_path, await sandbox.publish(tmp_path / "users.csv"), 3)
        async with open_client(sandbox, tmp_path) as client:
            first = await run_bulk(client, manifest, order=order, result_timeout_s=0)
            again = await run_bulk(client, manifest, order=order)

    assert states_of(first) == ["accepted"] * 3
    assert (states_of(again), again.exit_code) == (["processed"] * 3, 0)
    assert len(sent(sandbox)) == 3


# Dry runs


async def test_a_dry_run_says_when_each_line_would_start_and_leaves_nothing(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """No operation, no run, no job; the run that follows does what was said."""
    manifest = urgent_last(tmp_path, url)
    async with open_client(sandbox, tmp_path) as client:
        tried = await dry_run_bulk(client, manifest)
        runs, jobs = [run async for run in client.runs()], [job async for job in client.jobs()]
        assert (sent(sandbox), runs, jobs) == ([], [], [])
        report = await run_bulk(client, manifest)

    assert tried.exit_code == report.exit_code == 0
    assert {row.name for row in tried.rows if row.limit == "operations_per_hour"} == {"s8", "s9"}
    assert {row.state for row in tried.rows} == {"planned"}
    assert (tried.plan.operations, tried.plan.users, tried.never) == (12, 36, ())
    assert tried.plan.all_sent_by == max(row.start for row in tried.rows if row.start)


async def test_a_dry_run_tells_what_is_done_and_what_would_be_refused(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """Done before; a name that only the service knows; a segment that nobody knows; more users than a day takes."""
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials, journal="memory:", callbacks=receiver, limits=sandbox.limits, base_url=sandbox.url
        ) as other,
    ):
        await run_bulk(other, manifest_of(tmp_path, f"create,theirs,ID,string,{url},30,3"))
    manifest = manifest_of(
        tmp_path,
        f"create,ours,ID,string,{url},30,3",
        f"create,theirs,ID,string,{url},30,3",
        f"add,nowhere,ID,string,{url},,3",
        f"add,ours,ID,string,{url},,3",
    )
    async with open_client(sandbox, tmp_path) as client:
        await run_bulk(client, manifest_of(tmp_path, f"create,ours,ID,string,{url},30,3"))
        before = sent(sandbox)
        tried = await dry_run_bulk(client, manifest)
        never = await dry_run_bulk(client, manifest_of(tmp_path, f"create,l,ID,string,{url},30,3000000"), order="given")
        assert sent(sandbox) == before

    assert [row.state for row in tried.rows] == ["done before", "refused", "planned", "planned"]
    assert [row.exit_code for row in tried.rows] == [0, 1, 0, 0]
    assert "the service's list shows" in str(tried.rows[1].error)
    assert [bool(row.doubts) for row in tried.rows] == [False, False, True, False]
    assert (tried.exit_code, len(tried.left)) == (1, 3)
    assert (never.exit_code, never.rows[0].start) == (3, None)


async def test_a_dry_run_refuses_used_names_and_a_wrong_key_as_a_run_does(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    async with open_client(sandbox, tmp_path) as client:
        await run_bulk(client, creates(tmp_path, url, 1))
        with pytest.raises(ManifestError, match="s0"):
            await dry_run_bulk(client, manifest_of(tmp_path, f"create,s0,ID,string,{url},60,3"))
    wrong = attrs.evolve(sandbox.credentials, api_key="wrong")
    async with open_client(sandbox, tmp_path, credentials=wrong) as client:
        with pytest.raises(AuthenticationFailed):
            await dry_run_bulk(client, creates(tmp_path, url, 2))


async def test_a_line_that_never_fits_is_planned_as_never(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """In any order, with the limit; the others are planned."""
    manifest = manifest_of(tmp_path, f"create,l,ID,string,{url},30,3000000", f"create,s,ID,string,{url},30,3")
    async with open_client(sandbox, tmp_path) as client:
        for order in ("best", "given"):
            planned = await plan_bulk(client, manifest, order=order)
            assert [(row.start is None, row.limit) for row in planned.rows] == [(True, "users_per_day"), (False, None)]
            assert planned.exit_code == 3


ANY: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}
DOUBTFUL: Final = {
    "quoted.csv": "".join(f'"u-{number}"\n' for number in range(2_500)),
    "large.csv": "".join(f"u-{number}\n" for number in range(2_500)),
    "three.csv": "u-1\nu-2\nu-3\n",
    "empty.csv": "",
}


@pytest.mark.parametrize("order", ["best", "given"])
@pytest.mark.parametrize("mode", ["error", "warn", "off"])
@pytest.mark.parametrize(
    ("file", "rows"),
    [
        *(("quoted.csv", ""), ("quoted.csv", "2500"), ("large.csv", ""), ("large.csv", "3000")),
        *(("three.csv", "2"), ("three.csv", "1001"), ("three.csv", "9000000"), ("empty.csv", "3"), ("empty.csv", "")),
    ],
)
async def test_a_dry_run_ends_as_the_run_does_whatever_a_preflight_may_pass(
    sandbox: Sandbox, tmp_path: Path, file: str, rows: str, mode: Any, order: Any
) -> None:
    """A file that breaks a rule, is too large, is declared wrongly, or is empty."""
    for name, text in DOUBTFUL.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / "doubtful.csv"
    path.write_text(f"{HEADER.strip().replace('file_url', 'file')},rows\nreplace,s,ID,string,{file},,{rows}\n")
    manifest = read_manifest(path)
    async with few_a_day(sandbox, tmp_path, QuotaLimits(users_per_day=1_000).scaled(500_000)) as client:
        await (await client.submit(CreateFileSegment(name="s", expiry_time=30, values=["u"], **ANY))).result(timeout=20)
        tried = await dry_run_bulk(client, manifest, order=order, preflight=mode)
        report = await run_bulk(client, manifest, order=order, preflight=mode)

    (planned,), (row,) = tried.rows, report.rows
    found_out_later = mode != "error" and row.state in ("processed", "failed")  # by the service, which reads the file
    assert (planned.exit_code, planned.parts) == (0 if found_out_later else row.exit_code, row.parts)


# Lines that are too large for a day

SHORT_DAY: Final = 20_000.0  # a day is four seconds
FEW: Final = QuotaLimits(users_per_day=1_000).scaled(SHORT_DAY)
RUN: Final = """
import asyncio, shutil, sys
from pathlib import Path
from moe_segments import CallbackReceiver, Credentials, QuotaLimits, SegmentsClient
from moe_segments.bulk import read_manifest, run_bulk

async def main(manifest, journal, url, served, served_url, *credentials):
    async def publish(path):
        shutil.copy(path, served)
        return served_url + path.name

    limits = QuotaLimits(users_per_day=1_000).scaled(20_000.0)
    async with CallbackReceiver().serve() as receiver:
        async with SegmentsClient(
            Credentials(workspace_id=credentials[0], api_key=credentials[1], data_center=credentials[2]),
            journal=journal, callbacks=receiver, base_url=url, publish=publish,
            limits=limits, requests_per_s=1_000,
        ) as client:
            await run_bulk(client, read_manifest(Path(manifest)))

asyncio.run(main(*sys.argv[1:]))
"""


def of_a_large_file(tmp_path: Path, op: str = "create", rows: int = 2_500) -> Manifest:
    (tmp_path / "large.csv").write_text("".join(f"u-{number}\n" for number in range(rows)))
    path = tmp_path / "large_manifest.csv"
    days = "30" if op == "create" else ""
    path.write_text(f"{HEADER.replace('file_url', 'file')}{op},large,ID,string,large.csv,{days}\n")
    return read_manifest(path)


@asynccontextmanager
async def few_a_day(sandbox: Sandbox, tmp_path: Path, limits: QuotaLimits = FEW) -> AsyncIterator[SegmentsClient]:
    """A client that may send a thousand users a day."""
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials,
            journal=f"sqlite:///{tmp_path / 'few.db'}",
            callbacks=receiver,
            limits=limits,
            base_url=sandbox.url,
            publish=sandbox.publish,
            requests_per_s=1_000,
        ) as client,
    ):
        yield client


def ops(sandbox: Sandbox) -> list[str | None]:
    return [request.op for request in sandbox.workspace.requests if request.op != "list"]


async def test_a_line_that_is_too_large_for_a_day_is_sent_in_parts(sandbox: Sandbox, tmp_path: Path) -> None:
    """One row in the report, with the sums; in the dry run, too. Done, it is not sent again."""
    manifest, told = of_a_large_file(tmp_path), list[BulkRow]()
    async with few_a_day(sandbox, tmp_path) as client:
        checked = await check_files(client, manifest)
        tried = await dry_run_bulk(client, checked)
        planned = await plan_bulk(client, manifest)
        report = await run_bulk(client, checked, on_outcome=told.append)
        again = await run_bulk(client, manifest)

    (row,) = report.rows
    assert (row.state, row.parts, row.found, row.exit_code) == ("processed", 3, 2_500, 0)
    assert (row.op, told, report.exit_code) == ("create", [row], 0)
    assert ops(sandbox) == ["create", "add", "add"]
    assert [(one.rows[0].parts, one.rows[0].rows, one.exit_code) for one in (tried, planned)] == [(3, 2_500, 0)] * 2
    assert (tried.plan.operations, tried.plan.users) == (3, 2_500)
    assert (again.already_finished, again.rows[0].done_before, again.rows[0].parts) == (True, True, 3)


async def test_a_line_that_was_killed_between_two_parts_goes_on_with_the_next(tmp_path: Path) -> None:
    """Also under other limits: the parts are those that were planned. No part is sent twice."""
    async with Sandbox(speed=SHORT_DAY, processing_s=(0, 0)) as sandbox:
        manifest, served, who = of_a_large_file(tmp_path), tmp_path / "served", sandbox.credentials
        served.mkdir()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", RUN, str(tmp_path / "large_manifest.csv"), f"sqlite:///{tmp_path / 'few.db'}", sandbox.url),
            *(str(served), await sandbox.publish(served)),
            *(who.workspace_id, who.api_key, who.data_center),
        )
        async with asyncio.timeout(30):
            while not ops(sandbox):
                await asyncio.sleep(0.01)
            async with few_a_day(sandbox, tmp_path) as client:
                while not [job async for job in client.jobs(state="processed")]:
                    await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        assert ops(sandbox) == ["create"]
        other = QuotaLimits(users_per_day=1_200).scaled(SHORT_DAY)
        async with few_a_day(sandbox, tmp_path, other) as client:
            planned = await plan_bulk(client, manifest)
            report = await run_bulk(client, manifest)

    (row,) = report.rows
    assert (row.state, row.parts, row.found, row.done_before, report.exit_code) == ("processed", 3, 2_500, False, 0)
    assert (planned.rows[0].state, planned.rows[0].parts, planned.rows[0].rows) == ("planned", 2, 1_500)
    assert ops(sandbox) == ["create", "add", "add"]


async def test_in_the_given_order_a_line_that_is_too_large_is_refused_with_what_helps(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with few_a_day(sandbox, tmp_path) as client:
        with pytest.raises(ManifestError, match="--order best, or mend it: moe-segments preflight"):
            await check_files(client, of_a_large_file(tmp_path), order="given")
        report = await run_bulk(client, of_a_large_file(tmp_path), order="given")

    assert (report.exit_code, ops(sandbox)) == (3, [])


async def test_a_part_that_failed_sends_its_line_anew(sandbox: Sandbox, tmp_path: Path) -> None:
    """A replace whose second part failed is no done line, and begins again with its first part."""
    url = await sandbox.publish(tmp_path)
    async with few_a_day(sandbox, tmp_path) as client:
        (tmp_path / "one.csv").write_text("u-0\n")
        await run_bulk(client, manifest_of(tmp_path, f"create,large,ID,string,{url}one.csv,30,1"))
        sandbox.fail_next(FaultKind.DOUBLE_CALLBACK)  # a fault that changes nothing, for the first part
        sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        first = await run_bulk(client, of_a_large_file(tmp_path, "replace"))
        second = await run_bulk(client, of_a_large_file(tmp_path, "replace"))

    assert [row.exit_code for row in (*first.rows, *second.rows)] == [1, 0]
    assert ops(sandbox) == ["create", "replace", "add", "add", "replace", "add", "add"]
    assert (second.rows[0].found, second.rows[0].parts) == (2_500, 3)


# Coalescing


def of_neighbours(tmp_path: Path, *more: str) -> Manifest:
    """A create, three adds and two removes on one segment, and an add on another between them."""
    for name, users in {"a": "ab", "b": "bc", "c": "cd", "d": "de", "e": "ef"}.items():
        (tmp_path / f"{name}.csv").write_text("".join(f"u-{user}\n" for user in users))
    rows = (
        *("create,s,ID,string,a.csv,30", "create,t,ID,string,a.csv,30", "add,s,ID,string,b.csv,"),
        *("add,t,ID,string,b.csv,", "add,s,ID,string,c.csv,", "add,s,ID,string,d.csv,"),
        *("remove,s,ID,string,b.csv,", "remove,s,ID,string,e.csv,", *more),
    )
    path = tmp_path / "neighbours.csv"
    path.write_text(HEADER.replace("file_url", "file") + "".join(f"{row}\n" for row in rows))
    return read_manifest(path)


@asynccontextmanager
async def publishing(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[SegmentsClient]:
    async with few_a_day(sandbox, tmp_path, sandbox.limits) as client:
        yield client


async def test_neighbours_are_sent_as_one_operation_and_every_line_says_into_what(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """In the dry run, in the run, and in the next one, which knows them; a user in two files counts once."""
    told: list[BulkRow] = []
    async with publishing(sandbox, tmp_path) as client:
        manifest = await coalesced(await check_files(client, of_neighbours(tmp_path)), client.limits)
        tried = await dry_run_bulk(client, manifest)
        report = await run_bulk(client, manifest, on_outcome=told.append)
        counted = await check_files(client, of_neighbours(tmp_path))
        again = await run_bulk(client, await coalesced(counted, client.limits))

    into = [None, None, None, None, 4, 4, None, 8]
    assert [row.merged_into for row in report.rows] == [row.merged_into for row in tried.rows] == into
    assert [row.line for row in report.rows] == list(range(2, 10))
    assert sorted(told, key=lambda row: row.line) == list(report.rows)
    requests = [(one.op, one.segment) for one in sandbox.workspace.requests if one.op != "list"]
    assert sorted(requests) == sorted(
        [*(("create", one) for one in "st"), *(("add", one) for one in "st"), ("remove", "s")]
    )
    assert [row.found for row in report.rows] == [2, 2, 4, 2, None, None, 4, None]
    assert (report.exit_code, tried.plan.operations) == (0, 5)
    assert (again.already_finished, {row.done_before for row in again.rows}) == (True, {True})


async def test_what_differs_or_does_not_fit_is_not_merged(sandbox: Sandbox, tmp_path: Path) -> None:
    """Another priority, another attribute, more users than a day, a file at an address, rows that nobody counted."""
    header = f"{HEADER.strip().replace('file_url', 'file')},priority,file_url,rows\n"
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"u-{name}\n")
    pairs = [
        ("add,s,ID,string,a.csv,,0,,1", "add,s,ID,string,b.csv,,1,,1"),
        ("add,s,ID,string,a.csv,,,,1", "add,s,email,string,b.csv,,,,1"),
        ("add,s,ID,string,a.csv,,,,1", "remove,s,ID,string,b.csv,,,,1"),
        ("add,s,ID,string,a.csv,,,,1", "add,s,ID,string,,,,https://files.example.com/b.csv,1"),
        ("add,s,ID,string,a.csv,,,,", "add,s,ID,string,b.csv,,,,1"),
        ("add,s,ID,string,a.csv,,,,1200000", "add,s,ID,string,b.csv,,,,1200000"),
        ("replace,s,ID,string,a.csv,,,,1", "replace,s,ID,string,b.csv,,,,1"),
    ]
    for pair in pairs:
        path = tmp_path / "pair.csv"
        path.write_text(header + "".join(f"{row}\n" for row in pair))
        assert len((await coalesced(read_manifest(path), QuotaLimits())).entries) == 2, pair


# The command line


@pytest.mark.processes
async def test_lines_are_merged_where_that_was_asked_for(shell: Shell) -> None:
    """By plan, by a dry run and by a run: the table says into which line."""
    of_neighbours(shell.directory)
    for command, code in ((("plan",), 0), (("bulk", "--dry-run"), 0), (("bulk",), 0)):
        shown = await shell.run(*command, "neighbours.csv", "--coalesce", "--sandbox", "--speed", "600")
        assert shown.code == code, shown.err
        assert (shown.out.count("merged into line 4"), shown.out.count("merged into line 8")) == (2, 1)
        assert "8 lines are 5 operations" in shown.err


@pytest.mark.processes
async def test_a_dry_run_prints_the_plan_and_ends_with_the_code_of_a_run(shell: Shell) -> None:
    """As a table and as JSON; the journal has no run."""
    manifest = shell.creates(12)
    shown = await shell.run_at_speed("bulk", manifest, "--dry-run")
    assert shown.code == 0, shown.err
    assert shown.out.count("operations_per_hour") == 2
    assert "all sent by" in shown.err
    assert "it spends 12 operations and 36 users" in shown.err
    assert "nothing was sent" in shown.err
    document = (await shell.run_at_speed("bulk", manifest, "--dry-run", "--json")).document
    assert [one["state"] for one in document["operations"]] == ["planned"] * 12
    assert (document["operations_spent"], document["users_spent"], document["exit_code"]) == (12, 36, 0)
    assert (await shell.run_at_speed("jobs", "--json")).document["jobs"] == []
    assert not shell.sent()

    await shell.run_at_speed("bulk", shell.creates(1))
    done = await shell.run_at_speed("bulk", shell.creates(2), "--dry-run")
    assert "done before" in done.out
    assert "1 of 2 operations left" in done.err
    assert (await shell.run_at_speed("bulk", shell.manifest("create,s0,ID,string,URL,60"), "--dry-run")).code == 2


@pytest.mark.processes
@pytest.mark.parametrize("command", [("plan",), ("bulk", "--dry-run"), ("bulk",)])
async def test_a_plan_is_drawn_where_it_was_asked_for(shell: Shell, command: tuple[str, ...]) -> None:
    """Over an earlier drawing, and over nothing else without --force."""
    picture, other = shell.directory / "plan.svg", shell.directory / "notes.txt"
    other.write_text("not to be lost\n")
    line = (*command, shell.creates(2))
    for _ in range(2):
        result = await shell.run_at_speed(*line, "--timeline", "plan.svg")
        assert result.code == 0, result.err
        assert ET.fromstring(picture.read_text()).tag.endswith("svg")
    assert sorted(path.suffix for path in shell.directory.glob(".*.part")) == []

    sent = shell.sent()
    for place in ("notes.txt", "nowhere/plan.svg", "."):
        result = await shell.run_at_speed(*line, "--timeline", place)
        assert result.code == 2
        assert "--timeline" in result.err
    assert other.read_text() == "not to be lost\n"
    assert shell.sent() == sent
    assert (await shell.run_at_speed(*line, "--timeline", "notes.txt", "--force")).code == 0
    assert "<svg" in other.read_text()


@pytest.mark.processes
async def test_a_dry_run_of_one_operation_says_when_it_would_start(shell: Shell) -> None:
    """Now, later than it may wait, a used name, a doubt, a bad file; nothing is sent, and there is no job."""
    file = ("--attribute-name", "ID", "--file-url", shell.url)
    create = ("create", "--expiry-time", "30", *file)
    now = await shell.run_at_speed(*create, "s", "--dry-run")
    assert (now.code, now.out) == (0, "create s: would start now\n"), now.err
    for command, doubt in (
        (("archive", "gone"), True),
        (("unarchive", "gone"), True),
        (("add-users", "s", *file), True),
        (("remove-users", "s", *file), True),
        (("replace-users", "s", *file), True),
        (("add-users", "s", *file, "--cs-id", "65a0"), False),
    ):
        tried = await shell.run_at_speed(*command, "--dry-run")
        assert (tried.code, "would start now" in tried.out, "knows a segment" in tried.err) == (0, True, doubt)
    large = await shell.run_at_speed(*create, "large", "--rows", "3000000", "--dry-run")
    assert large.code == 3
    assert not shell.sent()
    assert (await shell.run_at_speed("jobs", "--json")).document["jobs"] == []

    slow = ("--journal", "slow.db")
    assert (await shell.run(*create, "used", *slow)).code == 0
    assert (await shell.run("quota", "--spent-operations", "9", *slow)).code == 0
    sent = shell.sent()
    full = await shell.run(*create, "later", "--dry-run", "--json", *slow)
    assert (full.code, full.document["limit"], full.document["state"]) == (3, "operations_per_hour", "planned")
    assert (await shell.run(*create, "later", "--dry-run", "--max-wait", "inf", *slow)).code == 0
    used = await shell.run(*create, "used", "--dry-run", *slow)
    assert (used.code, "used" in used.err) == (2, True)
    assert shell.sent() == sent


@pytest.mark.processes
async def test_a_dry_run_of_one_operation_knows_the_names_of_the_service(shell: Shell) -> None:
    """A create that would be answered with a conflict ends as that would."""
    create = ("create", "s", "--expiry-time", "30", "--attribute-name", "ID", "--file-url", shell.url)
    assert (await shell.run(*create)).code == 0
    tried = await shell.run(*create, "--dry-run", "--journal", "other.db")
    assert (tried.code, tried.out) == (1, "create s: would be refused\n")
    assert "the service's list shows" in tried.err


@pytest.mark.parametrize("order", ["best", "given"])
async def test_a_run_reads_a_file_at_a_url_once_before_it_is_sent(sandbox: Sandbox, tmp_path: Path, order: Any) -> None:
    """Then there is a look at its headers, whether it is the same, and the service reads it: it may have 150 MB."""
    reads: list[str] = []

    async def file(request: web.Request) -> web.Response:
        reads.append(request.method)
        return web.Response(body=b"u-1\nu-2\n", content_type="text/csv", headers={"ETag": '"v1"'})

    async with serving(file) as url, open_client(sandbox, tmp_path) as client:
        manifest = await check_files(client, manifest_of(tmp_path, f"create,s0,ID,string,{url}/u.csv,30,2"))
        await plan_bulk(client, manifest, order=order)
        report = await run_bulk(client, manifest, order=order)
    assert states_of(report) == ["processed"]
    assert reads.count("GET") == 3
