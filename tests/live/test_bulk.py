"""Bulk runs on the sandbox: journal first, resumed by the same call, nothing sent twice, every line accounted for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest

from moe_segments import errors
from moe_segments.bulk.manifest import Manifest, read_manifest
from moe_segments.bulk.run import BulkReport, exit_code_of, remaining_entries, run_bulk, run_id_for
from moe_segments.callbacks.receiver import CallbackReceiver
from moe_segments.client.client import SegmentsClient, replica_of
from moe_segments.sandbox import FaultKind, Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from moe_segments.bulk.run import BulkRow
    from moe_segments.models import Credentials

HEADER = "op,name,attribute_name,attribute_type,file_url,expiry_time,rows\n"
PER_HOUR = 10


@asynccontextmanager
async def open_client(
    sandbox: Sandbox, tmp_path: Path, *, receives: bool = True, credentials: Credentials | None = None
) -> AsyncIterator[SegmentsClient]:
    """A client on the journal that all clients of a test share."""
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            credentials or sandbox.credentials,
            journal=f"sqlite:///{tmp_path / 'quota.db'}",
            callbacks=receiver if receives else None,
            limits=sandbox.limits,
            base_url=sandbox.url,
            requests_per_s=1_000,
        ) as client,
    ):
        yield client


def manifest_of(tmp_path: Path, *rows: str) -> Manifest:
    """A manifest of these rows."""
    path = tmp_path / "bulk.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return read_manifest(path)


def creates(tmp_path: Path, url: str, count: int) -> Manifest:
    """A manifest that creates so many segments."""
    return manifest_of(tmp_path, *(f"create,s{number},ID,string,{url},30,3" for number in range(count)))


def states_of(report: BulkReport) -> list[str]:
    """The state of each line."""
    return [row.state for row in report.rows]


def sent_to(sandbox: Sandbox) -> Counter[tuple[str | None, str | None]]:
    """How often each operation reached the service."""
    return Counter((request.op, request.segment) for request in sandbox.workspace.requests if request.op != "list")


@pytest.mark.asyncio
async def test_every_line_is_carried_out_and_reported_with_its_figures(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """More than an hour allows, operations on one segment in their order, no 429."""
    manifest = manifest_of(
        tmp_path,
        *(f"create,s{number},ID,string,{url},30,3" for number in range(PER_HOUR)),
        f"add,s0,ID,string,{url},,3",
        f"replace,s0,ID,string,{url},,3",
        "archive,s0,,,,,",
    )
    told: list[BulkRow] = []
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest, on_outcome=told.append)

    assert states_of(report) == ["processed"] * 12 + ["accepted"]
    assert {(row.found, row.processed, row.matched) for row in report.rows[:12]} == {(3, 3, 3)}
    assert [row.line for row in report.rows] == list(range(2, 15))
    assert sorted(told, key=lambda row: row.line) == list(report.rows)
    assert report.exit_code == 0
    assert sandbox.workspace.rejections == 0
    ops = [request.op for request in sandbox.workspace.requests if request.segment == "s0"]
    assert ops == ["list", "create", "add", "replace", "archive"]


@pytest.mark.asyncio
async def test_whoever_is_told_of_lines_changes_nothing_by_raising(
    sandbox: Sandbox, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def told_wrongly(_: BulkRow) -> None:
        raise TypeError("of the caller's")

    manifest = manifest_of(tmp_path, *(f"create,s{number},ID,string,{url},30,3" for number in range(3)))
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest, on_outcome=told_wrongly)
    assert states_of(report) == ["processed"] * 3
    assert sum(one.exc_info is not None for one in caplog.records) == 1


@pytest.mark.asyncio
async def test_the_whole_run_is_in_the_journal_before_anything_is_sent(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """Also one of more operations than one append takes; what is stopped at once has sent nothing."""
    manifest = manifest_of(tmp_path, *(f"archive,s{number},,,,," for number in range(1_100)))
    stop = asyncio.Event()
    stop.set()
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest, stop=stop)
    assert report.interrupted
    assert report.exit_code == 130
    assert not sent_to(sandbox)

    async with open_client(sandbox, tmp_path) as client:
        jobs = replica_of(client).state.jobs
        run = jobs.runs[run_id_for(client, manifest)]
        assert (run.manifest, run.total, len(run.jobs)) == ("bulk.csv", 1_100, 1_100)
        assert {jobs.records[job].state for job in run.jobs} <= {"planned", "not_sent"}
        assert [jobs.records[job].line for job in run.jobs] == [entry.line for entry in manifest.entries]


@pytest.mark.asyncio
async def test_a_finished_run_is_not_run_again(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """The same call says so, exits 0 and still has the figures."""
    manifest = creates(tmp_path, url, 3)
    async with open_client(sandbox, tmp_path) as client:
        first = await run_bulk(client, manifest)
    async with open_client(sandbox, tmp_path) as client:
        second = await run_bulk(client, manifest)
        assert remaining_entries(client, manifest) == ()
    assert not first.already_finished
    assert second.already_finished
    assert second.exit_code == 0
    assert [attrs.evolve(row, done_before=False) for row in second.rows] == list(first.rows)
    assert all(row.done_before for row in second.rows)
    assert set(sent_to(sandbox).values()) == {1}


@pytest.mark.asyncio
async def test_again_begins_a_new_run_once_the_last_one_has_ended(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """And goes on with one that has not, so that a command with it can be resumed by itself."""
    adds = manifest_of(tmp_path, *(f"add,s{number},ID,string,{url},,3" for number in range(3)))
    async with open_client(sandbox, tmp_path) as client:
        await run_bulk(client, creates(tmp_path, url, 3))
        first = await run_bulk(client, adds, again=True)
        second = await run_bulk(client, adds, again=True)
        stop = asyncio.Event()
        stop.set()
        third = await run_bulk(client, adds, again=True, stop=stop)
        resumed = await run_bulk(client, adds, again=True)
        after = await run_bulk(client, adds)

    base = adds.digest[:16]
    assert [report.run for report in (first, second, third, resumed, after)] == [
        base, f"{base}-2", f"{base}-3", f"{base}-3", f"{base}-3",
    ]  # fmt: skip
    assert after.already_finished
    assert sent_to(sandbox)["add", "s0"] == 3


@pytest.mark.asyncio
async def test_a_stopped_run_goes_on_where_it_was_and_sends_nothing_twice(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """What is on its way is settled before the report, what waits stays planned."""
    manifest = creates(tmp_path, url, PER_HOUR + 4)
    stop = asyncio.Event()
    seen: list[BulkRow] = []

    def stop_soon(row: BulkRow) -> None:
        seen.append(row)
        if len(seen) == 3:
            stop.set()

    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest, on_outcome=stop_soon, stop=stop)
        assert report.interrupted
        left = len(remaining_entries(client, manifest))
        assert left == states_of(report).count("planned") + states_of(report).count("not_sent") >= 4
        assert sent_to(sandbox).total() == len(manifest.entries) - left

    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest, result_timeout_s=5)
    assert not report.interrupted
    assert set(sent_to(sandbox).values()) == {1}
    assert len(sent_to(sandbox)) == PER_HOUR + 4
    assert sandbox.workspace.rejections == 0


@pytest.mark.asyncio
async def test_without_a_receiver_file_operations_end_as_accepted(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """There is no result to wait for, and that is no failure."""
    manifest = creates(tmp_path, url, 2)
    async with open_client(sandbox, tmp_path, receives=False) as client:
        report = await run_bulk(client, manifest)
        again = await run_bulk(client, manifest)
    assert states_of(report) == ["accepted", "accepted"]
    assert report.exit_code == 0
    assert again.already_finished


@pytest.mark.asyncio
async def test_a_failed_file_makes_the_run_fail_with_the_services_words(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """Exit code 1, and the others go on."""
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, creates(tmp_path, url, 3))
    assert Counter(states_of(report)) == {"processed": 2, "failed": 1}
    (failed,) = (row for row in report.rows if row.state == "failed")
    assert "500" in str(failed.error)
    assert report.exit_code == 1


@pytest.mark.asyncio
async def test_what_follows_a_refused_create_is_not_sent(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """It would cost a tenth of an hour to hear 404."""
    async with open_client(sandbox, tmp_path) as client:
        sandbox.fail_next(FaultKind.SLOW)  # for the read that checks the key
        sandbox.fail_next(FaultKind.PLATFORM_ERROR, status=400)
        manifest = manifest_of(tmp_path, f"create,s0,ID,string,{url},30,3", f"add,s0,ID,string,{url},,3")
        report = await run_bulk(client, manifest)
    assert states_of(report) == ["refused", "planned"]
    assert "400" in str(report.rows[0].error)
    assert "did not go through" in str(report.rows[1].error)
    assert report.exit_code == 1
    assert sent_to(sandbox)["add", "s0"] == 0


@pytest.mark.asyncio
async def test_a_lost_answer_is_unknown_and_is_not_sent_again_in_silence(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """Exit code 4, also on the next call; only when asked for it is it sent again."""
    async with open_client(sandbox, tmp_path, receives=False) as client:
        await run_bulk(client, creates(tmp_path, url, 1))
        sandbox.faults = Faults(slow_s=(0, 0))
        sandbox.fail_next(FaultKind.SLOW)  # a fault that changes nothing, for the read that checks the key
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        manifest = manifest_of(tmp_path, f"add,s0,ID,string,{url},,3")
        first = await run_bulk(client, manifest)
        second = await run_bulk(client, manifest)
        assert sent_to(sandbox)["add", "s0"] == 1
        third = await run_bulk(client, manifest, on_unknown="retry")
    assert [states_of(report) for report in (first, second, third)] == [["unknown"], ["unknown"], ["accepted"]]
    assert [report.exit_code for report in (first, second, third)] == [4, 4, 0]
    assert first.rows[0].error
    assert sent_to(sandbox)["add", "s0"] == 2


@pytest.mark.asyncio
async def test_a_callback_that_does_not_come_in_time_leaves_the_outcome_open(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """Exit code 4, and the next call waits for it again rather than send it again."""
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    manifest = creates(tmp_path, url, 1)
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest, result_timeout_s=0.2)
        again = await run_bulk(client, manifest, result_timeout_s=0.2)
    assert (states_of(report), report.exit_code, again.exit_code) == (["accepted"], 4, 4)
    assert "no callback" in str(report.rows[0].error)
    assert sent_to(sandbox)["create", "s0"] == 1


@pytest.mark.asyncio
async def test_a_file_that_can_never_fit_is_refused_by_the_quota(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Exit code 3, and nothing was sent for it."""
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest_of(tmp_path, f"create,s0,ID,string,{url},30,2000001"))
    assert report.exit_code == 3
    assert not sent_to(sandbox)


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_read_is_bad_input(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """Exit code 2 for its line; the others were carried out."""
    manifest = manifest_of(
        tmp_path, f"create,s0,ID,string,{sandbox.url}/gone.csv,30,", f"create,s1,ID,string,{url},30,"
    )
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, manifest)
    assert states_of(report) == ["planned", "processed"]
    assert report.exit_code == 2
    assert "404" in str(report.rows[0].error)


@pytest.mark.asyncio
async def test_a_wrong_key_is_found_by_one_read_before_any_operation(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """It must not eat the hour; with the right key the same call goes on."""
    manifest = creates(tmp_path, url, 5)
    wrong = attrs.evolve(sandbox.credentials, api_key="wrong")
    async with open_client(sandbox, tmp_path, credentials=wrong) as client:
        with pytest.raises(errors.AuthenticationFailed):
            await run_bulk(client, manifest)
    assert [(request.op, request.status) for request in sandbox.workspace.requests] == [("list", 401)]
    async with open_client(sandbox, tmp_path) as client:
        assert (await run_bulk(client, manifest)).exit_code == 0


@pytest.mark.asyncio
async def test_a_callback_that_cannot_be_read_is_a_line_of_unknown_outcome(
    sandbox: Sandbox, url: str, tmp_path: Path
) -> None:
    """At once and with its reason, also when the run is taken up again; the others are not held up."""
    manifest = creates(tmp_path, url, 3)
    async with open_client(sandbox, tmp_path) as client:
        sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
        first, second = await run_bulk(client, manifest), await run_bulk(client, manifest)

    for report in (first, second):
        assert sorted(states_of(report)) == ["processed", "processed", "unreadable"]
        assert report.exit_code == 4
        (row,) = (row for row in report.rows if row.state == "unreadable")
        assert "a callback came that cannot be read (not JSON @ $)" in str(row.error)
    assert set(sent_to(sandbox).values()) == {1}


@pytest.mark.asyncio
async def test_a_report_is_json_ready(sandbox: Sandbox, url: str, tmp_path: Path) -> None:
    """With every line and every count."""
    async with open_client(sandbox, tmp_path) as client:
        report = await run_bulk(client, creates(tmp_path, url, 2))
    told = json.loads(json.dumps(report.to_json()))
    assert told["counts"] == {"processed": 2}
    assert told["exit_code"] == 0
    assert [row["job_id"] for row in told["rows"]] == [f"{report.run}.2", f"{report.run}.3"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("x"), 2),
        (errors.PreflightError("x", "y"), 2),
        (errors.JournalError("x"), 2),
        (errors.AuthenticationFailed(401, "x"), 2),
        (errors.Forbidden(403, "x"), 2),
        (errors.QuotaNeverFits("users_per_day", 2, 1), 3),
        (errors.TooManyRequests(429, "x"), 3),
        (errors.OutcomeUnknown("j", "x"), 4),
        (errors.AnswerShapeError(202, "x"), 4),
        (errors.CallbackTimeout("j", 1.0), 4),
        (errors.CallbackUnreadable("j", "x"), 4),
        (errors.Conflict(409, "x"), 1),
        (errors.FileProcessingFailed(500, "x"), 1),
        (errors.NotSent("x"), 1),
        (RuntimeError("x"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    """By whose move it is."""
    assert exit_code_of(error) == code
