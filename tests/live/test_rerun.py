"""Running the same thing again: a line is known by what it says, what is done is not sent twice, the rest is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import pytest_asyncio

from moe_segments import AddUsers, CallbackReceiver, CreateFileSegment, SegmentsClient
from moe_segments.bulk.checks import check_files
from moe_segments.bulk.lines import with_digests
from moe_segments.bulk.manifest import Manifest, ManifestError, read_manifest
from moe_segments.bulk.run import BulkReport, remaining_entries, run_bulk
from moe_segments.client.client import replica_of
from moe_segments.core.events import Planned, RunStarted, decode
from moe_segments.core.state.jobs import remembered
from moe_segments.core.wire.presigned_url import unsigned
from moe_segments.errors import OutcomeUnknown
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.sandbox import FaultKind, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio
SPEED = 3_600.0  # an hour is a second
HEADER = "op,name,attribute_name,attribute_type,file_url,file,expiry_time,rows,cs_id\n"


@asynccontextmanager
async def client_on(
    sandbox: Sandbox, journal: Any, *, receives: bool = True, **limits: Any
) -> AsyncIterator[SegmentsClient]:
    """A client that publishes to the sandbox and hears its callbacks."""
    async with (
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials,
            journal=journal,
            callbacks=receiver if receives else None,
            limits=attrs.evolve(sandbox.limits, **limits),
            base_url=sandbox.url,
            requests_per_s=1_000,
            publish=sandbox.publish,
        ) as client,
    ):
        yield client


@pytest_asyncio.fixture
async def client(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[SegmentsClient]:
    async with client_on(sandbox, f"sqlite:///{tmp_path / 'quota.db'}") as opened:
        yield opened


class Work:
    """A directory with a manifest that is edited, and files beside it."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory, self.url = directory, url

    def manifest(self, *rows: str, name: str = "bulk.csv") -> Manifest:
        """The manifest of these rows: `op name` with `=FILE` for a local file, else the URL."""
        path = self.directory / name
        path.write_text(HEADER + "".join(f"{self._row(row)}\n" for row in rows))
        return read_manifest(path)

    def _row(self, row: str) -> str:
        op, name, *file = row.split()
        days = "30" if op == "create" else ""
        if op in ("archive", "unarchive"):
            return f"{op},{name},,,,,,,"
        return f"{op},{name},ID,string,{'' if file else self.url},{''.join(file)},{days},3,"

    def write(self, name: str, *users: str) -> None:
        """A local file of these users."""
        (self.directory / name).write_text("".join(f"{user}\n" for user in users))


@pytest.fixture
def work(tmp_path: Path, url: str) -> Work:
    return Work(tmp_path, url)


def states(report: BulkReport) -> list[str]:
    """Of each line its state, or that it was done before."""
    return ["done before" if row.done_before else row.state for row in report.rows]


def sent(sandbox: Sandbox) -> Counter[str]:
    """How often each operation reached the service."""
    return Counter(f"{request.op} {request.segment}" for request in sandbox.workspace.requests if request.op != "list")


# An edited manifest


@pytest.mark.parametrize(
    "edited",
    [
        ("create a", "create b", "add a", "create c"),
        ("create c", "create a", "create b", "add a"),
        ("create b", "create c", "create a", "add a"),
        ("create c", "create b"),
        ("create a", "create c", "add c", "archive b"),
    ],
)
async def test_an_edited_manifest_sends_only_what_is_new_in_it(
    client: SegmentsClient, sandbox: Sandbox, work: Work, edited: tuple[str, ...]
) -> None:
    """Rows appended, put in between, put elsewhere, taken out: what was done before is shown so."""
    first = ("create a", "create b", "add a")
    assert (await run_bulk(client, work.manifest(*first))).exit_code == 0
    manifest = work.manifest(*edited)
    assert [str(entry.operation.op) for entry in remaining_entries(client, manifest)] == [
        row.split()[0] for row in edited if row not in first
    ]
    checked = await check_files(client, manifest)

    report = await run_bulk(client, checked)

    assert [state == "done before" for state in states(report)] == [row in first for row in edited]
    assert (report.exit_code, report.already_finished) == (0, False)
    assert [row.line for row in report.rows] == list(range(2, 2 + len(edited)))
    assert sent(sandbox) == Counter(set(first) | set(edited))
    again = await run_bulk(client, manifest)
    assert (again.already_finished, again.exit_code) == (True, 0)
    assert sent(sandbox) == Counter(set(first) | set(edited))


async def test_what_was_done_before_is_shown_with_its_figures(client: SegmentsClient, work: Work) -> None:
    await run_bulk(client, work.manifest("create a"))
    report = await run_bulk(client, work.manifest("create b", "create a"))
    assert [(row.name, row.found, row.matched, row.done_before) for row in report.rows] == [
        ("b", 3, 3, False),
        ("a", 3, 3, True),
    ]
    assert report.counts == {"processed": 1, "done before": 1}
    assert report.to_json()["counts"] == {"processed": 1, "done before": 1}


async def test_a_manifest_under_another_name_or_in_json_says_the_same(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """What a line says counts, not how it is written or what the file is called."""
    await run_bulk(client, work.manifest("create a"))
    path = work.directory / "new.jsonl"
    path.write_text(
        '{"op": "create", "name": "a", "attribute_name": "ID", "attribute_type": "string", '
        f'"file_url": "{work.url}", "expiry_time": 30}}\n'
    )
    report = await run_bulk(client, read_manifest(path))
    assert (states(report), report.already_finished) == (["done before"], True)
    assert sent(sandbox) == {"create a": 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("attribute_name", "EMAIL"),
        ("attribute_type", "double"),
        ("cs_id", "64f0c1d2e3a4b5c6d7e8f901"),
        ("op", "remove"),
    ],
)
async def test_a_line_that_says_something_else_is_sent(
    client: SegmentsClient, sandbox: Sandbox, work: Work, column: str, value: str
) -> None:
    await run_bulk(client, work.manifest("create a", "create b", "add a"))
    cells = {"op": "add", "name": "a", "attribute_name": "ID", "attribute_type": "string", "file_url": work.url}
    cells |= {"file": "", "expiry_time": "", "rows": "3", "cs_id": ""} | {column: value}
    path = work.directory / "bulk.csv"
    path.write_text(HEADER + ",".join(cells.values()) + "\n")
    assert len(remaining_entries(client, read_manifest(path))) == 1


async def test_rows_and_addresses_to_tell_are_not_what_a_line_does(client: SegmentsClient, work: Work) -> None:
    await run_bulk(client, work.manifest("create a"))
    path = work.directory / "bulk.csv"
    path.write_text(f"op,name,attribute_name,attribute_type,file_url,expiry_time,emails\n"
                    f"create,a,ID,string,{work.url},30,me@example.com\n")  # fmt: skip
    assert remaining_entries(client, read_manifest(path)) == ()


# Files


async def test_a_local_file_is_known_by_its_content(client: SegmentsClient, sandbox: Sandbox, work: Work) -> None:
    """Under another path it is the same line; with other users it is another, in the unedited manifest, too."""
    work.write("one.csv", "u-1")
    await run_bulk(client, work.manifest("create a", "replace a one.csv"))
    work.write("two.csv", "u-1")
    moved = await run_bulk(client, work.manifest("create a", "replace a two.csv"))
    assert (states(moved), moved.exit_code) == (["done before", "done before"], 0)

    work.write("two.csv", "u-2")
    manifest = work.manifest("create a", "replace a two.csv")
    changed = await run_bulk(client, manifest)
    assert states(changed) == ["done before", "processed"]
    assert sent(sandbox)["replace a"] == 2
    assert (await run_bulk(client, manifest)).already_finished


async def test_a_later_line_that_the_new_one_would_undo_is_sent_again_after_it(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """Else those who were taken out would be in again. What was merely added stays done."""
    work.write("all.csv", "u-1", "u-2")
    work.write("out.csv", "u-2")
    rows = ("create a", "add a", "replace a all.csv", "remove a out.csv")
    await run_bulk(client, work.manifest(*rows))
    work.write("all.csv", "u-1", "u-2", "u-3")
    report = await run_bulk(client, work.manifest(*rows))
    assert states(report) == ["done before", "done before", "processed", "processed"]
    assert sent(sandbox) == {"create a": 1, "add a": 1, "replace a": 2, "remove a": 2}


async def test_no_content_of_a_file_gets_into_the_journal(client: SegmentsClient, work: Work) -> None:
    work.write("one.csv", "canary-7f3a")
    await run_bulk(client, work.manifest("create a one.csv"))
    assert b"canary-7f3a" not in (work.directory / "quota.db").read_bytes()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://x/u.csv?X-Amz-Date=1&X-Amz-Signature=a", "https://x/u.csv?X-Amz-Signature=b&X-Amz-Date=2"),
        ("https://x/u.csv?day=1&X-Goog-Signature=a", "https://x/u.csv?day=1"),
        ("https://x/u.csv?Expires=1&Signature=a&Key-Pair-Id=K", "https://x/u.csv?Expires=2&Signature=b&Key-Pair-Id=K"),
        ("https://x/u.csv?sv=1&se=2026&sr=b&sp=r&sig=a", "https://x/u.csv?sv=2&se=2027&sr=b&sp=r&sig=b"),
    ],
)
async def test_a_url_that_is_signed_anew_is_the_same(one: str, other: str) -> None:
    assert unsigned(one) == unsigned(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://x/u.csv?day=1", "https://x/u.csv?day=2"),
        ("https://x/u.csv?expires=1", "https://x/u.csv?expires=2"),
        ("https://x/a.csv", "https://x/b.csv"),
        ("https://x/u.csv?day=1&X-Amz-Signature=a", "https://x/u.csv?day=2&X-Amz-Signature=a"),
    ],
)
async def test_a_url_that_names_something_else_is_another(one: str, other: str) -> None:
    assert unsigned(one) != unsigned(other)


# Lines that say the same


async def test_lines_that_say_the_same_are_each_done_once(client: SegmentsClient, sandbox: Sandbox, work: Work) -> None:
    """Archived, unarchived, archived: three operations, and three after an edit; a fourth is new."""
    rows = ("create a", "archive a", "unarchive a", "archive a")
    await run_bulk(client, work.manifest(*rows))
    edited = await run_bulk(client, work.manifest(*rows, "create b"))
    assert states(edited) == ["done before"] * 4 + ["processed"]
    more = await run_bulk(client, work.manifest(*rows, "create b", "unarchive a"))
    assert states(more) == ["done before"] * 5 + ["accepted"]
    assert sent(sandbox) == {"create a": 1, "archive a": 2, "unarchive a": 2, "create b": 1}


async def test_what_others_have_undone_since_is_done_again(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """By another manifest or by a call: an archive of last week says nothing about a segment that is active again."""
    await run_bulk(client, work.manifest("create a", "archive a"))
    await client.unarchive_segment(name="a")
    report = await run_bulk(client, work.manifest("archive a", "create b", name="other.csv"))
    assert states(report) == ["accepted", "processed"]
    assert sent(sandbox)["archive a"] == 2


async def test_a_repeat_on_purpose_sends_all_of_it_again_and_can_be_resumed(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """Also of a manifest that an earlier one was edited into; after it, done is what was repeated."""
    await run_bulk(client, work.manifest("create a"))
    await run_bulk(client, work.manifest("add a"))
    edited = work.manifest("add a", "replace a")
    stop = asyncio.Event()
    stop.set()
    stopped = await run_bulk(client, edited, again=True, stop=stop)
    assert stopped.interrupted
    resumed = await run_bulk(client, edited, again=True)
    assert states(resumed) == ["processed", "processed"]
    assert sent(sandbox) == {"create a": 1, "add a": 2, "replace a": 1}
    after = await run_bulk(client, edited)
    assert (states(after), after.already_finished) == (["done before", "done before"], True)


async def test_a_repeat_on_purpose_leaves_creates_done(client: SegmentsClient, sandbox: Sandbox, work: Work) -> None:
    """A name is used up for ever, so the create cannot be what is meant."""
    manifest = work.manifest("create a", "replace a")
    await run_bulk(client, manifest)
    report = await run_bulk(client, manifest, again=True)
    assert (states(report), report.exit_code) == (["done before", "processed"], 0)
    assert sent(sandbox) == {"create a": 1, "replace a": 2}
    only = await run_bulk(client, work.manifest("create a"), again=True)
    assert (states(only), only.already_finished) == (["done before"], True)


async def test_a_repeat_on_purpose_of_a_create_that_another_did_is_a_mistake(
    client: SegmentsClient, work: Work
) -> None:
    await run_bulk(client, work.manifest("create a"))
    work.write("other.csv", "u-9")
    with pytest.raises(ManifestError, match="line 2, name: 'a' is used up for ever"):
        await run_bulk(client, work.manifest("create a other.csv"), again=True)


# What did not go well


async def test_a_line_that_failed_is_sent_again_by_the_same_command(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """As often as it fails; the exit code is not 0 before it went through."""
    await run_bulk(client, work.manifest("create a"))
    manifest = work.manifest("create a", "add a")
    for _ in range(2):
        sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        failed = await run_bulk(client, manifest)
        assert (states(failed), failed.exit_code) == (["done before", "failed"], 1)
    third = await run_bulk(client, manifest)
    assert (states(third), third.exit_code) == (["done before", "processed"], 0)
    fourth = await run_bulk(client, manifest)
    assert (fourth.already_finished, fourth.exit_code) == (True, 0)
    assert sent(sandbox)["add a"] == 3


async def test_a_line_that_failed_is_sent_again_by_an_edited_manifest(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    await run_bulk(client, work.manifest("create a"))
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    assert (await run_bulk(client, work.manifest("create a", "add a"))).exit_code == 1
    report = await run_bulk(client, work.manifest("create c", "create a", "add a"))
    assert (states(report), report.exit_code) == (["processed", "done before", "processed"], 0)
    assert sent(sandbox)["add a"] == 2


async def test_a_refused_line_is_sent_again_after_the_mistake_was_mended(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """The segment was not there, and the create was put before it."""
    first = await run_bulk(client, work.manifest("add a"))
    assert (states(first), first.exit_code) == (["refused"], 1)
    report = await run_bulk(client, work.manifest("create a", "add a"))
    assert (states(report), report.exit_code) == (["processed", "processed"], 0)


@pytest.mark.parametrize("failing", [0, 1])
async def test_one_of_two_lines_that_say_the_same_and_failed_is_sent_again_alone(
    client: SegmentsClient, sandbox: Sandbox, work: Work, failing: int
) -> None:
    await run_bulk(client, work.manifest("create a"))
    manifest = work.manifest("add a", "add a")
    if failing:
        sandbox.fail_next(FaultKind.DOUBLE_CALLBACK)  # of the first one, to which it does no harm
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    assert states(await run_bulk(client, manifest)).index("failed") == failing
    assert states(await run_bulk(client, manifest)).index("processed") == failing
    assert states(await run_bulk(client, manifest)) == ["done before", "done before"]
    assert sent(sandbox)["add a"] == 3


async def test_an_unknown_line_is_not_sent_again_in_silence_by_an_edited_manifest(sandbox: Sandbox, work: Work) -> None:
    """It stays the same job, of unknown outcome, until it is asked for."""
    async with client_on(sandbox, MemoryJournal(), receives=False) as client:
        await run_bulk(client, work.manifest("create a"))
        sandbox.fail_next(FaultKind.SLOW)  # for the read that checks the key
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        first = await run_bulk(client, work.manifest("add a"))
        second = await run_bulk(client, work.manifest("create b", "add a"))
        assert (states(second), second.exit_code) == (["accepted", "unknown"], 4)
        assert first.rows[0].job_id == second.rows[1].job_id
        assert sent(sandbox)["add a"] == 1
        third = await run_bulk(client, work.manifest("create b", "add a"), on_unknown="retry")
        assert (states(third), third.exit_code) == (["done before", "accepted"], 0)


async def test_a_changed_create_does_not_race_one_of_unknown_outcome(sandbox: Sandbox, work: Work) -> None:
    """It would be sent for a name that may be used: told before anything is sent."""
    async with client_on(sandbox, MemoryJournal(), count_late_s=600.0) as client:
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        sandbox.fail_next(FaultKind.LOSE_CALLBACK)
        fields: dict[str, Any] = {"name": "a", "attribute_name": "ID", "attribute_type": "string", "file_url": work.url}
        with pytest.raises(OutcomeUnknown):
            await client.submit(CreateFileSegment(**fields, expiry_time=9, rows=3), job_id="lost")
        with pytest.raises(ManifestError, match="line 2, name: job lost creates it"):
            await run_bulk(client, work.manifest("create a"))
        assert sent(sandbox)["create a"] == 1


async def test_a_line_that_is_under_way_is_waited_for_by_an_edited_manifest(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """Not sent a second time."""
    sandbox.fail_next(FaultKind.LATE_CALLBACK)
    first = await run_bulk(client, work.manifest("create a"), result_timeout_s=0)
    assert states(first) == ["accepted"]
    report = await run_bulk(client, work.manifest("create b", "create a"))
    assert (states(report), report.exit_code) == (["processed", "processed"], 0)
    assert sent(sandbox) == {"create a": 1, "create b": 1}


async def test_an_interrupted_run_is_taken_over_by_an_edited_manifest(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """Planned lines keep their jobs, those that were taken out are not sent."""
    stop = asyncio.Event()
    stop.set()
    first = await run_bulk(client, work.manifest("create a", "create b", "create c"), stop=stop)
    report = await run_bulk(client, work.manifest("create d", "create a", "create c"))
    assert (states(report), report.exit_code) == (["processed"] * 3, 0)
    assert [row.job_id for row in report.rows[1:]] == [first.rows[0].job_id, first.rows[2].job_id]
    assert sent(sandbox) == {"create a": 1, "create c": 1, "create d": 1}


async def test_a_planned_line_whose_file_has_moved_is_sent_from_where_it_is(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """By another job: the one that was planned names a file that is gone."""
    work.write("one.csv", "u-1")
    stop = asyncio.Event()
    stop.set()
    first = await run_bulk(client, work.manifest("create a one.csv"), stop=stop)
    (work.directory / "one.csv").rename(work.directory / "two.csv")
    report = await run_bulk(client, work.manifest("create a two.csv"))
    assert (states(report), report.exit_code) == (["processed"], 0)
    assert report.rows[0].job_id != first.rows[0].job_id
    assert sent(sandbox) == {"create a": 1}


async def test_an_unknown_line_whose_file_has_moved_keeps_its_job(sandbox: Sandbox, work: Work) -> None:
    work.write("one.csv", "u-1")
    async with client_on(sandbox, MemoryJournal(), receives=False) as client:
        await run_bulk(client, work.manifest("create a"))
        sandbox.fail_next(FaultKind.SLOW)  # for the read that checks the key
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        first = await run_bulk(client, work.manifest("add a one.csv"))
        (work.directory / "one.csv").rename(work.directory / "two.csv")
        second = await run_bulk(client, work.manifest("add a two.csv"))
    assert [report.rows[0].job_id for report in (first, second)] == [first.rows[0].job_id] * 2
    assert (states(second), second.exit_code) == (["unknown"], 4)
    assert sent(sandbox)["add a"] == 1


async def test_a_repeat_that_was_killed_while_it_was_planned_repeats_the_rest_as_well(
    sandbox: Sandbox, work: Work
) -> None:
    """What was planned of it says how many lines there are to be."""
    async with client_on(sandbox, MemoryJournal()) as client:
        await run_bulk(client, work.manifest("create a"))
        manifest = work.manifest("create a", "add a", "replace a")
        first = await run_bulk(client, manifest)
        digested = await with_digests(manifest)
        entry, run = digested.entries[1], f"{first.run}-2"
        planned = Planned(f"{run}.3", remembered(entry.operation), run, 3, entry.says, first.rows[1].job_id)
        await replica_of(client).record(RunStarted(run, manifest.name, 2), planned)
        report = await run_bulk(client, manifest)
    assert (states(report), report.run) == (["done before", "processed", "processed"], run)
    assert sent(sandbox) == {"create a": 1, "add a": 2, "replace a": 2}


async def test_a_run_of_long_ago_is_no_earlier_version_but_its_creates_are_done(sandbox: Sandbox, work: Work) -> None:
    """An add of last month in another manifest is meant anew; the very same manifest stays finished."""
    days = 0.0

    def clock() -> int:
        return round((1_800_000_000 + days * 86_400) * 1_000_000)

    def journal() -> SqliteJournal:
        return SqliteJournal(work.directory / "old.db", sandbox.credentials.scope, clock=clock)

    old = work.manifest("create a", "add a")
    async with client_on(sandbox, journal()) as client:
        await run_bulk(client, old)
    days = 8.0
    async with client_on(sandbox, journal()) as client:
        assert (await run_bulk(client, old)).already_finished
        report = await run_bulk(client, work.manifest("create a", "add a", "create b"))
    assert states(report) == ["done before", "processed", "processed"]
    assert sent(sandbox) == {"create a": 1, "add a": 2, "create b": 1}


# Exit codes, and what follows a refused create


async def test_lines_after_a_409_that_says_the_segment_exists_are_sent(sandbox: Sandbox, work: Work) -> None:
    """Another journal made it. No repeat ends with 0, as the create did not happen."""
    async with client_on(sandbox, MemoryJournal()) as other:
        await run_bulk(other, work.manifest("create a"))
    async with client_on(sandbox, MemoryJournal()) as client:
        manifest = work.manifest("create a", "add a")
        first, second, third = [await run_bulk(client, manifest) for _ in range(3)]
    assert (states(first), first.exit_code) == (["refused", "processed"], 1)
    assert [(states(report), report.exit_code) for report in (second, third)] == [(["refused", "done before"], 1)] * 2
    assert second.already_finished
    assert sent(sandbox) == {"create a": 2, "add a": 1}


async def test_a_line_held_back_by_a_refused_create_is_never_taken_for_done(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """The create was refused for another reason, so the segment cannot exist; both are sent when it goes through."""
    manifest = work.manifest("create a", "add a")
    reports = []
    for _ in range(2):
        sandbox.fail_next(FaultKind.SLOW)  # for the read that checks the key
        sandbox.fail_next(FaultKind.PLATFORM_ERROR, status=400)
        reports.append(await run_bulk(client, manifest))
    assert [(states(report), report.exit_code) for report in reports] == [(["refused", "planned"], 1)] * 2
    assert sent(sandbox)["add a"] == 0
    last = await run_bulk(client, manifest)
    assert (states(last), last.exit_code) == (["processed", "processed"], 0)


async def test_a_create_that_failed_cannot_be_sent_again_and_never_ends_with_0(
    client: SegmentsClient, sandbox: Sandbox, work: Work
) -> None:
    """Its name is used up; what follows it goes on, as the segment is there."""
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    manifest = work.manifest("create a", "replace a")
    first, second = await run_bulk(client, manifest), await run_bulk(client, manifest)
    assert (states(first), first.exit_code) == (["failed", "processed"], 1)
    assert (states(second), second.exit_code, second.already_finished) == (["failed", "done before"], 1, True)
    assert sent(sandbox) == {"create a": 1, "replace a": 1}


async def test_a_file_that_matched_nobody_does_not_become_0_by_a_repeat(sandbox: Sandbox, work: Work) -> None:
    work.write("nobody.csv", "x-1")
    work.write("known.csv", "u-1")
    async with (
        Sandbox(speed=SPEED, processing_s=(0, 0), users=work.directory / "known.csv") as strict,
        client_on(strict, MemoryJournal()) as client,
    ):
        manifest = work.manifest("create a nobody.csv")
        assert [(await run_bulk(client, manifest)).exit_code for _ in range(2)] == [1, 1]


# Journals of earlier versions


async def test_a_journal_without_digests_is_read_and_its_lines_are_known(sandbox: Sandbox, work: Work) -> None:
    """By what it kept: the same manifest goes on, an edited one finds creates and lines with URLs."""
    work.write("one.csv", "u-1")
    manifest = work.manifest("create a", "create b one.csv", "add a")
    run = manifest.digest[:16]
    async with client_on(sandbox, MemoryJournal()) as client:
        events = [RunStarted(run, "bulk.csv", 3)]
        planned = [
            Planned(f"{run}.{entry.line}", remembered(entry.operation), run, entry.line) for entry in manifest.entries
        ]
        await replica_of(client).record(*events, *planned)
        first = await run_bulk(client, manifest)
        assert [row.job_id for row in first.rows] == [event.job for event in planned]
        edited = await run_bulk(client, work.manifest("create c", "create b one.csv", "create a", "add a"))
        assert states(edited) == ["processed", "done before", "done before", "done before"]
    assert sent(sandbox) == {"create a": 1, "create b": 1, "add a": 1, "create c": 1}


async def test_an_old_planned_entry_is_readable() -> None:
    """As today's main writes it."""
    (event,) = decode('[["planned",{"job":"r.2","operation":{"op":"archive","name":"a"},"run":"r","line":2}]]')
    assert event == Planned("r.2", {"op": "archive", "name": "a"}, "r", 2)
    assert (event.says, event.replaces) == (None, None)


async def test_operations_of_single_calls_are_no_lines(client: SegmentsClient, sandbox: Sandbox, work: Work) -> None:
    """An add by hand does not do the line's work: who wrote it into a manifest wants it sent."""
    await run_bulk(client, work.manifest("create a"))
    operation = AddUsers(name="a", attribute_name="ID", attribute_type="string", file_url=work.url, rows=3)
    await (await client.submit(operation)).result(timeout=5)
    report = await run_bulk(client, work.manifest("create a", "add a"))
    assert states(report) == ["done before", "processed"]
    assert attrs.asdict(report.rows[1])["done_before"] is False
