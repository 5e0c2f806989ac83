"""Users as values: from any source to the segment, in a private file that is gone afterwards."""

from __future__ import annotations

import asyncio
import gc
import io
import multiprocessing
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import (
    Audience,
    CreateFileSegment,
    InputError,
    PreflightError,
    QuotaExceeded,
    ReplaceUsers,
    check_file,
    clean_file,
    split_file,
)
from moe_segments.audiences.comparison import read_source
from moe_segments.files.private_file import PrivateFile
from moe_segments.sandbox import Sandbox
from tests.live.sandbox_world import client_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from moe_segments.sandbox import Sandbox

FIELDS: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string"}
SECRET = "secret-member-77"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory, for one test alone."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def _segment(sandbox: Sandbox, name: str) -> Any:
    return next(one for one in sandbox.workspace.segments if one.name == name)


def members(sandbox: Sandbox, name: str) -> set[str]:
    return {value.decode() if isinstance(value, bytes) else str(value) for value in _segment(sandbox, name).members}


def create(values: Any, name: str = "vip", **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(**(FIELDS | {"name": name, "values": values, "expiry_time": 30} | fields))


@contextmanager
def no_room() -> Iterator[None]:
    """Let this process write no file above 64 KB while inside: as on a disk that is full."""
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        signal.signal(signal.SIGXFSZ, before)


def left(scratch: Path) -> list[str]:
    return [str(path) for path in scratch.glob("moe-segments-values-*")]


async def agen(*values: object) -> AsyncIterator[object]:
    for value in values:
        await asyncio.sleep(0)
        yield value


OPENED: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what `rows` opened."""
    yield
    while OPENED:
        OPENED.pop().close()


def rows() -> Iterator[Any]:
    connection = sqlite3.connect(":memory:")
    OPENED.append(connection)
    connection.execute("CREATE TABLE users (id TEXT)")
    connection.executemany("INSERT INTO users VALUES (?)", [("u1",), ("u2",), ("u3",)])
    connection.row_factory = sqlite3.Row
    return connection.execute("SELECT id FROM users")


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: ["u1", "u2", "u3"],
    "tuple": lambda: ("u1", "u2", "u3"),
    "set": lambda: {"u1", "u2", "u3"},
    "keys": {"u1": 1, "u2": 2, "u3": 3}.keys,
    "generator": lambda: (f"u{number}" for number in (1, 2, 3)),
    "async generator": lambda: agen("u1", "u2", "u3"),
    "cursor": rows,
    "tuples of one": lambda: [("u1",), ("u2",), ("u3",)],
    "lists of one": lambda: [["u1"], ["u2"], ["u3"]],
    "function": lambda: lambda: ["u1", "u2", "u3"],
    "async function": lambda: lambda: agen("u1", "u2", "u3"),
    "mixed with rows": lambda: ["u1", ("u2",), "u3"],
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.asyncio
async def test_every_kind_of_source_becomes_the_members_of_the_segment(
    sandbox: Sandbox, scratch: Path, kind: str
) -> None:
    """A list, a cursor, a generator: whatever gives values is enough."""
    async with client_on(sandbox) as client:
        job = await client.create_file_segment(name="vip", values=SOURCES[kind](), expiry_time=30, **FIELDS)
        done = await job.result(timeout=20)

    assert done.values_found == 3
    assert members(sandbox, "vip") == {"u1", "u2", "u3"}
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_ints_become_their_decimal_digits(sandbox: Sandbox) -> None:
    """An identifier that is a number is sent as people write it."""
    async with client_on(sandbox) as client:
        await (await client.create_file_segment(name="vip", values=[7, 10**20, -3], expiry_time=1, **FIELDS)).result(20)

    assert members(sandbox, "vip") == {"7", "100000000000000000000", "-3"}


@pytest.mark.asyncio
async def test_floats_are_values_of_a_double_attribute(sandbox: Sandbox) -> None:
    """Amounts are floats; identifiers are not."""
    fields: dict[str, Any] = {"attribute_name": "amount", "attribute_type": "double"}
    async with client_on(sandbox) as client:
        job = await client.create_file_segment(name="vip", values=[1.5, 2, "3.25"], expiry_time=1, **fields)
        await job.result(20)

    assert members(sandbox, "vip") == {"1.5", "2", "3.25"}


@pytest.mark.asyncio
async def test_all_four_operations_take_values(sandbox: Sandbox) -> None:
    """Create, add, remove and replace: the same argument."""
    async with client_on(sandbox) as client:
        await (await client.create_file_segment(name="vip", values=["a", "b"], expiry_time=1, **FIELDS)).result(20)
        await (await client.add_users(name="vip", values=["c"], **FIELDS)).result(20)
        await (await client.remove_users(name="vip", values=["a"], **FIELDS)).result(20)
        assert members(sandbox, "vip") == {"b", "c"}
        await (await client.replace_users(name="vip", values=["z"], **FIELDS)).result(20)

    assert members(sandbox, "vip") == {"z"}


@pytest.mark.asyncio
async def test_duplicates_are_dropped_and_counted(sandbox: Sandbox, scratch: Path) -> None:
    """A list of users is a set: who is named twice is sent once, and the quota pays once."""
    values = [f"u{number % 1_000}" for number in range(2_500)]
    async with client_on(sandbox) as client:
        job = await client.create_file_segment(name="vip", values=values, expiry_time=30, **FIELDS)
        done = await job.result(timeout=20)
        usage = await client.governor.usage()

    assert (done.values_found, done.values_processed) == (1_000, 1_000)
    assert (job.figures.rows, job.figures.duplicates, job.figures.warnings) == (1_000, 1_500, ())
    assert usage["users_per_day"].used == 1_000
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_a_byte_order_mark_is_no_part_of_the_first_value(sandbox: Sandbox, scratch: Path) -> None:
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="value 1 begins with the byte order mark of a file: open that with"):
            await client.submit(create(["\ufeffu1", "u2"]))

    assert not sandbox.workspace.requests
    assert left(scratch) == []


BAD: dict[str, tuple[list[object], str]] = {
    "None": ([None], "None"),
    "NaN": ([float("nan")], "NaN"),
    "float": ([1.0], "float"),
    "bool": ([True], "bool"),
    "bytes": ([b"x"], "bytes"),
    "mapping": ([{"id": "x"}], "dict"),
    "two columns": ([("a", "b")], "2 columns"),
    "no column": ([()], "0 columns"),
    "set": ([{"a"}], "set"),
    "object": ([object()], "object"),
    "line break": (["a\nb"], "line break"),
    "carriage return": (["a\r"], "line break"),
    "surrogate": (["\udc80"], "surrogate"),
    "endless int": ([10**5_000], "digits"),
    "nested None": ([(None,)], "None"),
}


@pytest.mark.parametrize("before", [0, 3, 9_000])
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.asyncio
async def test_a_bad_value_is_named_by_position_and_type(
    sandbox: Sandbox, scratch: Path, kind: str, before: int
) -> None:
    """Never by what it is: values are about people."""
    bad, said = BAD[kind]
    values = [*(SECRET + str(number) for number in range(before)), *bad, SECRET]
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match=said) as caught:
            await client.create_file_segment(name="vip", values=values, expiry_time=30, **FIELDS)

    assert f"value {before + 1:,} " in str(caught.value)
    assert SECRET not in f"{caught.value!r}{caught.value}"
    assert not sandbox.workspace.requests
    assert left(scratch) == []


@pytest.mark.parametrize("values", ["u1", b"u1", {"u1": 1}, 7, Path("users.csv"), object(), io.StringIO()], ids=type)
def test_what_is_no_source_of_values_is_refused_when_the_operation_is_made(values: Any) -> None:
    """Text is one value and a path is a file: the error says what to give."""
    with pytest.raises(InputError, match="values"):
        create(values)


def test_a_table_is_refused_with_the_column_as_advice() -> None:
    """A data frame iterates over the names of its columns: that would make a segment of them."""

    class Frame(list[str]):
        columns = ("id", "name")

    with pytest.raises(InputError, match="select a column"):
        create(Frame(["id", "name"]))


def test_one_source_alone_is_given() -> None:
    """A file and values at the same time: nobody could say which counts."""
    with pytest.raises(InputError, match="exactly one"):
        create(["u1"], file="users.csv")


@pytest.mark.asyncio
async def test_preflight_rules_name_the_position_in_the_source(sandbox: Sandbox) -> None:
    """Values that were dropped as duplicates are counted in, so the line is the position."""
    async with client_on(sandbox) as client:
        with pytest.raises(PreflightError, match="line 5") as caught:
            await client.submit(create(["u1", "u1", "u1", "u2", 'u"3']))

    assert "the values of 'vip'" in str(caught.value)
    assert not sandbox.workspace.requests


@pytest.mark.asyncio
async def test_an_empty_source_is_refused(sandbox: Sandbox) -> None:
    """An iterator that was read already has no values left."""
    spent = iter(["u1"])
    next(spent)
    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="there is no value"):
            await client.submit(create(spent))

    assert not sandbox.workspace.requests


@pytest.mark.parametrize("kind", ["generator", "async generator"])
@pytest.mark.asyncio
async def test_a_source_that_raises_sends_nothing_and_is_the_cause(sandbox: Sandbox, scratch: Path, kind: str) -> None:
    """Half a list is not the list."""

    class Lost(Exception):
        pass

    def source() -> Iterator[str]:
        yield from (f"u{number}" for number in range(50_000))
        raise Lost(SECRET)

    async def async_source() -> AsyncIterator[str]:
        for value in source():
            yield value

    async with client_on(sandbox) as client:
        with pytest.raises(InputError, match="raised Lost") as caught:
            await client.submit(create(source() if kind == "generator" else async_source()))

    assert isinstance(caught.value.__cause__, Lost)
    assert SECRET not in str(caught.value)
    assert not sandbox.workspace.requests
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_the_file_is_private_and_gone_after_a_refusal(sandbox: Sandbox, scratch: Path) -> None:
    """Nobody else on the machine can read it, and it does not stay."""
    modes: list[int] = []

    async def publish(path: Path) -> str:
        modes.extend(stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent))
        return await sandbox.publish(path)

    async with client_on(sandbox, publish=publish) as client:
        for number in range(10):
            await (await client.submit(create([f"u{number}"], f"s{number}"))).result(20)
        with pytest.raises(QuotaExceeded):
            await client.submit(create(["u"], "one-too-many"))
        assert left(scratch) == []

    assert set(modes) == {0o600, 0o700}


@pytest.mark.asyncio
async def test_the_file_is_gone_after_a_cancellation(sandbox: Sandbox, scratch: Path) -> None:
    """Who waits for quota and is cancelled leaves nothing."""
    async with client_on(sandbox) as client:
        for number in range(10):
            await (await client.submit(create([f"u{number}"], f"s{number}"))).result(20)
        waiting = asyncio.create_task(client.submit(create(["u"], "waits"), max_wait_s=3_600))
        while not left(scratch):
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

        assert left(scratch) == []


@pytest.mark.asyncio
async def test_what_a_killed_process_left_is_removed_at_the_next_start(sandbox: Sandbox, scratch: Path) -> None:
    """A kill leaves no time to delete; the file of a process that lives is left alone."""
    code = """
        import asyncio, sys
        from moe_segments import AddUsers, SegmentsClient
        from moe_segments.models import Credentials

        async def values():
            yield "u1"
            for number in range(20_000):
                yield f"v{number}"
            print("written", flush=True)
            await asyncio.sleep(600)

        async def main():
            credentials = Credentials(workspace_id="W", api_key="K", data_center="01")
            async with SegmentsClient(credentials, journal="memory:", base_url="http://127.0.0.1:9") as client:
                await client.submit(AddUsers(name="s", attribute_name="ID", attribute_type="string", values=values()))

        asyncio.run(main())
    """
    process = subprocess.Popen(  # noqa: ASYNC220 - started once
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        async with client_on(sandbox):
            assert left(scratch)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    async with client_on(sandbox):
        assert left(scratch) == []


@pytest.mark.asyncio
async def test_a_full_disk_is_named_and_leaves_nothing(sandbox: Sandbox, scratch: Path) -> None:
    async with client_on(sandbox) as client:
        with no_room():
            with pytest.raises(PreflightError, match="TMPDIR"):
                await client.submit(create(f"user-{number}" for number in range(50_000)))

    assert not sandbox.workspace.requests
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_a_temporary_directory_that_is_missing_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only containers have none; the error says which variable names another."""
    async with client_on(sandbox) as client:
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
        with pytest.raises(PreflightError, match="TMPDIR"):
            await client.submit(create(["u1"]))

    assert not sandbox.workspace.requests


@pytest.mark.asyncio
async def test_a_preflight_reads_the_values_once_for_the_submit_too(sandbox: Sandbox, scratch: Path) -> None:
    """A generator is read once; what was checked is what is sent."""
    operation = create(f"u{number}" for number in range(3))
    async with client_on(sandbox) as client:
        report = await client.preflight(operation)
        assert (report.ok, report.rows, report.source) == (True, 3, "the values of 'vip'")
        (start,) = await client.governor.plan([operation])
        assert start.wait_s == 0
        await (await client.submit(operation)).result(20)
        assert left(scratch) == []

    assert members(sandbox, "vip") == {"u0", "u1", "u2"}


@pytest.mark.asyncio
async def test_a_preflight_alone_leaves_nothing_when_the_client_closes(sandbox: Sandbox, scratch: Path) -> None:
    """The file is kept for the submit that never comes."""
    async with client_on(sandbox) as client:
        await client.preflight(create(["u1"]))
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_a_plan_counts_a_list_without_reading_it(sandbox: Sandbox) -> None:
    """What has a length has its rows."""
    async with client_on(sandbox) as client:
        first, second = await client.governor.plan([create([1] * 1_500_000, "a"), create([2] * 1_500_000, "b")])

    assert first.wait_s == 0
    assert second.limit == "users_per_day"


@pytest.mark.asyncio
async def test_many_operations_with_generators_are_each_sent_once(sandbox: Sandbox, scratch: Path) -> None:
    """A 429 puts the operation back in line, and its generator is not read again."""
    sandbox.workspace.spend_elsewhere(operations=8)
    operations = [create(map(name.__add__, "012"), name) for name in "abc"]
    async with client_on(sandbox) as client:
        outcomes = [outcome async for outcome in client.submit_many(operations)]

    assert sandbox.workspace.rejections
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert {outcome.operation for outcome in outcomes} == set(operations)
    assert members(sandbox, "b") == {"b0", "b1", "b2"}
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_an_iterator_is_read_for_one_operation_alone(sandbox: Sandbox, scratch: Path) -> None:
    """Or each would be sent a part of its values."""
    for source in (f"u{number}" for number in range(100_000)), _slowly():
        async with client_on(sandbox) as client:
            operations = [ReplaceUsers(name=name, values=source, **FIELDS) for name in "ab"]
            found = await asyncio.gather(*map(client.preflight, operations), return_exceptions=True)

        (report,) = (one for one in found if not isinstance(one, BaseException))
        (error,) = (one for one in found if isinstance(one, BaseException))
        assert report.rows == 100_000
        assert isinstance(error, InputError)
        assert "an iterator is read once" in str(error)
        assert left(scratch) == []


async def _slowly() -> AsyncIterator[str]:
    for number in range(100_000):
        yield f"u{number}"


@pytest.mark.asyncio
async def test_a_cancellation_within_a_source_is_an_error_of_that_source(sandbox: Sandbox, scratch: Path) -> None:
    """A task that it waited for was cancelled, and not the call."""

    async def source() -> AsyncIterator[str]:
        yield "u1"
        task = asyncio.create_task(asyncio.sleep(0))
        task.cancel()
        await task

    async def opened() -> list[str]:
        raise asyncio.CancelledError

    async with client_on(sandbox) as client:
        for values in (source(), opened):
            with pytest.raises(InputError, match="the source raised CancelledError; nothing was sent"):
                await client.submit(create(values))

    assert not sandbox.workspace.requests
    assert left(scratch) == []


def test_a_temporary_file_that_nobody_holds_any_more_is_gone(scratch: Path) -> None:
    """One that was made in a thread whose caller was cancelled, for example; a copy of the process deletes nothing."""
    file = PrivateFile("the values")
    file.append(b"u1\n")
    copy = multiprocessing.get_context("fork").Process(target=file.remove)
    copy.start()
    copy.join()
    assert (copy.exitcode, len(left(scratch))) == (0, 1)
    del file, copy
    gc.collect()
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_a_source_is_closed_at_once_when_its_values_cannot_be_written(sandbox: Sandbox, scratch: Path) -> None:
    ended: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            for number in range(100_000):
                yield f"user-{number}"
        finally:
            ended.append("closed")

    async with client_on(sandbox) as client:
        with no_room():
            with pytest.raises(PreflightError, match="TMPDIR"):
                await client.submit(create(source()))
            assert ended == ["closed"]
            audience = Audience("vip", members=source(), **FIELDS)
            with pytest.raises(PreflightError, match="TMPDIR"):
                await read_source(audience, client.limits)
    assert ended == ["closed"] * 2
    assert left(scratch) == []


@pytest.mark.asyncio
async def test_the_journal_keeps_no_value(sandbox: Sandbox, tmp_path: Path) -> None:
    """Nor does what is shown of an operation or of its job."""
    journal = tmp_path / "quota.db"
    operation = ReplaceUsers(name="vip", values=[SECRET], **FIELDS)
    async with client_on(sandbox, journal=f"sqlite:///{journal}") as client:
        await (await client.submit(create(["x"]))).result(20)
        job = await client.submit(operation, job_id="mine")
        await job.result(20)

    async with client_on(sandbox, journal=f"sqlite:///{journal}") as client:
        again = client.job("mine")
        await again.refresh()
        assert (await client.submit(operation, job_id="mine")).id == "mine"
        known = again.operation
    assert SECRET not in repr((operation, job, known, again.info))
    assert SECRET.encode() not in journal.read_bytes()


@pytest.mark.asyncio
async def test_the_files_functions_take_values(tmp_path: Path) -> None:
    """Check, clean and split: wherever a file is taken."""
    assert (await check_file(values=["u1", "u2"])).rows == 2
    cleaned = await clean_file(to=tmp_path / "clean.csv", values=["u1", " u1", "u2"])
    assert (cleaned.path.read_text(), cleaned.rows) == ("u1\nu2\n", 3)
    split = await split_file(directory=tmp_path / "parts", values=map(str, range(5)), max_rows=2)
    assert [part.rows for part in split.parts] == [2, 2, 1]
    for call in (check_file(), check_file("x.csv", values=["u1"]), clean_file(values=["u1"])):
        with pytest.raises(InputError):
            await call


@pytest.mark.asyncio
async def test_the_event_loop_has_its_turn_while_values_are_read(sandbox: Sandbox) -> None:
    """A list, a generator and an async generator that never waits: none of them holds other tasks."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def endless() -> AsyncIterator[str]:
        for number in range(100_000):
            yield f"u{number}"

    sources = (list(map(str, range(100_000))), (f"u{number}" for number in range(100_000)), endless())
    async with client_on(sandbox) as client:
        for number, source in enumerate(sources):
            task = asyncio.create_task(other())
            turns = 0
            operation = create(source, f"s{number}")
            await client.preflight(operation)
            task.cancel()
            assert turns > 10
