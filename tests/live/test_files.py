"""Files from wherever they are: checked, cleaned, split; whole or not at all, and never in place of the source."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
from aiohttp import web

from moe_segments import AddUsers, InputError, PreflightError, QuotaLimits, check_file, clean_file, publish, split_file
from moe_segments.core.files.preflight import Preflight
from moe_segments.core.files.splitter import Cutter, RowTooLong
from moe_segments.files.sources import opened
from moe_segments.files.stream import in_thread
from tests.live.network import serving
from tests.places import full_disk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from pathlib import Path


CANARY: Final = "CANARY-9f8e7d6c"
DATA: Final = b'\xef\xbb\xbfID\n "a"\nb,\n\nb\nc#\n'
QUICK: Final = aiohttp.ClientTimeout(total=5, sock_read=0.3)
MANY: Final = b"".join(b"%d\n" % number for number in range(200_000))


def file_of(body: bytes, **options: Any) -> Any:  # a handler of aiohttp.web
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, **{"content_type": "text/csv", "headers": {"ETag": '"v1"'}, **options})

    return handler


async def blocks(data: bytes, size: int = 3) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# Sources


@pytest.mark.asyncio
async def test_every_source_gives_the_same_report(tmp_path: Path) -> None:
    """A path, bytes, a stream and a URL."""
    path = tmp_path / "users.csv"
    path.write_bytes(DATA)
    async with serving(file_of(DATA)) as url:
        reports = [
            await check_file(source, attribute_name="ID", name="users", fetch_private=True)
            for source in (path, DATA, blocks(DATA), f"{url}/users.csv?sig={CANARY}")
        ]

    assert [report.etag for report in reports] == [None, None, None, '"v1"']
    assert len({report.as_text() for report in reports}) == 1
    assert reports[0].sha256 == hashlib.sha256(DATA).hexdigest()
    assert [(one.code, one.line) for one in reports[3].errors if one.code == "MOE105"] == [("MOE105", 2)]


@pytest.mark.asyncio
async def test_a_url_is_named_without_its_query() -> None:
    """It may hold a signature."""
    async with serving(file_of(b"a\n")) as url:
        report = await check_file(f"{url}/users.csv?sig={CANARY}", fetch_private=True)
    assert report.source == f"{url}/users.csv"
    assert CANARY not in f"{report!r}{report.as_text()}"


async def _redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://elsewhere.example.com/login"})


async def _breaking_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/csv", "Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"a\n")
    assert request.transport is not None
    request.transport.close()
    return response


async def _hanging(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/csv", "Content-Length": "100"})
    await response.prepare(request)
    await asyncio.sleep(2)
    return response


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (_redirect, "redirects"),
        (_breaking_off, "broke off"),
        (_hanging, "time-out"),
        (file_of(b"a\n", status=403), "HTTP 403"),
        (file_of(b"a\n", content_type="text/html"), "text/html"),
        (file_of(b"a\n", headers={"Content-Encoding": "gzip"}), "compressed, with Content-Encoding 'gzip'"),
        (file_of(b"a\n", headers={"Content-Encoding": "identity, Zstd"}), "Content-Encoding 'Zstd'"),
        (file_of(b"a\n" * 501), "larger"),
    ],
)
async def test_a_url_that_the_service_would_not_take_is_refused(handler: Any, problem: str, tmp_path: Path) -> None:
    """By each of the three, and nothing is left behind."""
    limits = QuotaLimits(file_bytes=1_000)
    async with serving(handler) as url:
        source = f"{url}/users.csv?sig={CANARY}"
        for work in (
            check_file(source, timeouts=QUICK, limits=limits, fetch_private=True),
            clean_file(source, tmp_path / "clean.csv", timeouts=QUICK, limits=limits, fetch_private=True),
            split_file(source, tmp_path / "parts", timeouts=QUICK, limits=limits, fetch_private=True),
        ):
            with pytest.raises(PreflightError) as caught:
                await work
            assert problem in caught.value.problem
            assert CANARY not in f"{caught.value!r}{caught.value}"
    assert names_in(tmp_path) == ["parts"]
    assert names_in(tmp_path / "parts") == []


@pytest.mark.asyncio
@pytest.mark.parametrize("coding", ["", " ", "identity", "Identity", "identity, identity", ","])
async def test_a_file_served_without_a_coding_is_plain_text(coding: str) -> None:
    """Stores send the header without a value, or with one that says nothing."""
    async with serving(file_of(b"a\nb\n", headers={"Content-Encoding": coding})) as url:
        assert (await check_file(f"{url}/users.csv", timeouts=QUICK, fetch_private=True)).rows == 2


@pytest.mark.asyncio
async def test_a_url_that_expires_within_a_day_is_told() -> None:
    """The service may fetch it hours later."""
    query = "X-Amz-Date=20261123T000000Z&X-Amz-Expires=172800"
    began_s = 1_795_392_000.0
    async with serving(file_of(b"a\n")) as url:
        soon = await check_file(f"{url}/a.csv?{query}", fetch_private=True, clock=lambda: began_s + 86_401)
        late = await check_file(f"{url}/a.csv?{query}", fetch_private=True, clock=lambda: began_s + 86_400)

    assert soon.counts == {"MOE126": 1}
    assert soon.ok
    assert late.counts == {}


@pytest.mark.asyncio
async def test_a_file_too_large_is_told_on_disk_and_cut_off_on_the_way(tmp_path: Path) -> None:
    """On disk it has an end; a stream may have none."""
    limits = QuotaLimits(file_bytes=10)
    path = tmp_path / "users.csv"
    path.write_bytes(b"a\n" * 6)

    assert "MOE121" in (await check_file(path, limits=limits)).counts
    with pytest.raises(PreflightError, match="larger than 10 bytes"):
        await check_file(blocks(b"a\n" * 6), limits=limits)


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["appended", "replaced", "touched"])
async def test_a_file_that_changes_while_it_is_read_is_refused(how: str, tmp_path: Path) -> None:
    """Nobody knows then what was read. Nothing is written from it either."""
    path = tmp_path / "users.csv"

    def change(*_: object) -> None:
        if how == "appended":
            with path.open("ab") as file:
                file.write(b"z\n")
        elif how == "touched":
            os.utime(path, ns=(1, 1))
        else:
            other = tmp_path / "other"
            other.write_bytes(b"a\n")
            other.replace(path)

    actions: list[Callable[[], Awaitable[object]]] = [
        lambda: check_file(path, progress=change),
        lambda: clean_file(path, tmp_path / "clean.csv", progress=change),
    ]
    for action in actions:
        path.write_bytes(MANY)
        with pytest.raises(PreflightError, match="changed while it was read"):
            await action()
    assert names_in(tmp_path) == ["users.csv"]


@pytest.mark.parametrize("rows", [2, 60_000])
def test_a_file_that_changes_after_it_was_read_once_is_refused(rows: int, tmp_path: Path) -> None:
    """Duplicates are read again at the end, and need not be where they were any more."""
    path = tmp_path / "users.csv"
    data = b"".join(b"%08d\n" % number for number in range(rows))
    for changed in (b"", b"x\n" * rows, b"y" * 2 * len(data)):
        path.write_bytes(data + data)
        with pytest.raises(PreflightError, match="changed while it was read"):
            _check_and_change(path, changed)


def _check_and_change(path: Path, changed: bytes) -> None:
    with opened(path) as file:
        check = Preflight(reread=file.reread)
        for block in file.blocks():
            check.feed(block)
        path.write_bytes(changed)
        check.finish()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "nul"])
async def test_a_path_that_cannot_be_read_is_refused(kind: str, tmp_path: Path) -> None:
    """A pipe too: it would be empty afterwards."""
    path = tmp_path / ("users\0.csv" if kind == "nul" else "users.csv")
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(PreflightError) as caught:
        await check_file(path)
    assert caught.value.source == str(path)


@pytest.mark.asyncio
async def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="findings_per_rule"):
        await check_file(b"a\n", findings_per_rule=0)
    with pytest.raises(InputError, match="attribute_type"):
        await check_file(b"a\n", attribute_type="int")  # type: ignore[arg-type]
    with pytest.raises(PreflightError, match="must begin with https"):
        await check_file("ftp://files.example.com/users.csv")


@pytest.mark.asyncio
async def test_progress_is_told_to_the_last_byte(tmp_path: Path) -> None:
    """Of how many, where that is known."""
    path = tmp_path / "users.csv"
    path.write_bytes(MANY)
    told: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        told.append((done, total))

    await check_file(path, progress=progress)
    assert told[-1:] == [(len(MANY), len(MANY))]
    assert len(told) > 3
    await check_file(blocks(MANY, 300_000), progress=progress)
    assert told[-1:] == [(len(MANY), None)]


@pytest.mark.asyncio
async def test_a_check_that_is_called_off_stops_reading(tmp_path: Path) -> None:
    """Neither the thread nor the host is kept busy."""
    path = tmp_path / "users.csv"
    path.write_bytes(MANY * 10)
    loop, begun, told = asyncio.get_running_loop(), asyncio.Event(), []

    def progress(done: int, _: int | None) -> None:
        told.append(done)
        loop.call_soon_threadsafe(begun.set)

    checking = asyncio.create_task(check_file(path, progress=progress))
    await begun.wait()
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    await asyncio.to_thread(int)  # the thread that read is one of these
    await asyncio.sleep(0.05)
    seen = len(told)
    await asyncio.sleep(0.05)
    assert len(told) == seen


@pytest.mark.asyncio
async def test_a_thread_is_waited_for_however_often_its_caller_is_cancelled() -> None:
    """Files are closed after that: the descriptor of a closed file may be another file's by then."""
    release, ended = threading.Event(), []

    def work() -> None:
        release.wait()
        ended.append("the work")

    working = asyncio.ensure_future(in_thread(work))
    try:
        for _ in range(3):
            await asyncio.sleep(0.01)
            working.cancel()
        await asyncio.sleep(0.01)
        assert not working.done()
    finally:
        release.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended == ["the work"]


@pytest.mark.asyncio
async def test_a_stream_that_is_called_off_lets_go_of_everything() -> None:
    """The iterator is left in the middle, and what was spooled is gone."""
    left = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"a\n"
                await asyncio.sleep(0)
        finally:
            left.set()

    source = endless()
    checking = asyncio.create_task(check_file(source))
    await asyncio.sleep(0.05)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    await source.aclose()
    assert left.is_set()


# Cleaning


@pytest.mark.asyncio
async def test_a_cleaned_copy_is_ready(tmp_path: Path) -> None:
    """In order, with a report of what was done."""
    source, target = tmp_path / "users.csv", tmp_path / "clean.csv"
    source.write_bytes(b'\xef\xbb\xbfID\r\n "a" \r\n\r\nb,\r\nc\r\na\r\nJoe@x.com\r\n\xc2\xa0d')

    report = await clean_file(source, target, attribute_name="ID")

    assert target.read_bytes() == b"a\nb\nc\nJoe@x.com\nd\n"
    assert report.changes == {
        "MOE102": 1,
        "MOE104": 1,
        "MOE105": 1,
        "MOE106": 2,
        "MOE113": 1,
        "MOE114": 7,
        "MOE115": 1,
        "MOE116": 1,
        "MOE117": 1,
    }
    assert (report.rows, report.rows_written, report.file_bytes) == (8, 5, target.stat().st_size)
    checked = await check_file(target)
    assert checked.ok
    assert checked.sha256 == report.sha256
    assert source.read_bytes().startswith(b"\xef\xbb\xbf")
    assert "1 x MOE117 duplicate" in report.as_text()
    assert report.as_json()["rows_written"] == 5


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_utf16_becomes_utf8(encoding: str, tmp_path: Path) -> None:
    """From a stream whose blocks cut the characters."""
    text = "abc\r\nnaïve\r\n" + "x\r\n" * 300
    report = await clean_file(blocks(text.encode(encoding), 7), tmp_path / "clean.csv")
    assert (tmp_path / "clean.csv").read_bytes() == "abc\nnaïve\nx\n".encode()
    assert report.changes["MOE109"] == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"\x1f\x8b\x08", "gzip"), (b"<html>", "HTML"), (b"\xff\xfea\x00\x00\xd8b\x00", "damaged UTF-16")],
)
async def test_what_cannot_be_cleaned_leaves_no_copy(data: bytes, problem: str, tmp_path: Path) -> None:
    """And no trace of one; a copy from before stays as it was."""
    (tmp_path / "clean.csv").write_bytes(b"before\n")
    with pytest.raises(PreflightError, match=problem):
        await clean_file(data, tmp_path / "clean.csv")
    assert names_in(tmp_path) == ["clean.csv"]
    assert (tmp_path / "clean.csv").read_bytes() == b"before\n"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link", "another name"])
async def test_the_source_is_never_overwritten(kind: str, tmp_path: Path) -> None:
    """By whatever name it is given."""
    source = tmp_path / "users.csv"
    source.write_bytes(b'"a"\n')
    target = tmp_path / "clean.csv"
    if kind == "itself":
        target = source
    elif kind == "symbolic link":
        target.symlink_to(source)
    elif kind == "hard link":
        target.hardlink_to(source)
    else:
        target = tmp_path / "." / "x" / ".." / "users.csv"
        (tmp_path / "x").mkdir()

    with pytest.raises(InputError, match="never overwritten"):
        await clean_file(source, target)
    assert source.read_bytes() == b'"a"\n'


@pytest.mark.asyncio
async def test_a_copy_that_exists_is_replaced_and_has_usual_permissions(tmp_path: Path) -> None:
    target = tmp_path / "clean.csv"
    target.write_bytes(b"before\n")
    await clean_file(b"a\n", target)
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert target.read_bytes() == b"a\n"
    assert target.stat().st_mode == ordinary.stat().st_mode


@pytest.mark.asyncio
@pytest.mark.parametrize("place", ["nowhere/clean.csv", "directory", "clean\0.csv"])
async def test_a_place_that_cannot_be_written_is_told(place: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises((PreflightError, InputError)) as caught:
        await clean_file(b"a\n", tmp_path / place)
    assert place.partition("/")[0].partition("\0")[0] in str(caught.value)
    assert names_in(tmp_path) == ["directory"]


@pytest.mark.asyncio
async def test_cleaning_that_is_called_off_leaves_nothing(tmp_path: Path) -> None:
    """Whether the blocks come from a stream or not."""
    going = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield MANY
            going.set()
            await asyncio.sleep(0)

    cleaning = asyncio.create_task(clean_file(endless(), tmp_path / "clean.csv"))
    await going.wait()
    cleaning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cleaning
    assert names_in(tmp_path) == []


# Splitting


@pytest.mark.asyncio
async def test_parts_have_whole_rows_and_are_the_file(tmp_path: Path) -> None:
    """Within both limits; each ends with a line feed."""
    source = tmp_path / "users.csv"
    source.write_bytes(b"\xef\xbb\xbf" + MANY + b"last")

    report = await split_file(source, tmp_path / "parts", max_rows=70_000, max_bytes=300_000)

    contents = [part.path.read_bytes() for part in report.parts]
    assert b"".join(contents) == MANY + b"last\n"
    assert all(content.endswith(b"\n") and len(content) <= 300_000 for content in contents)
    assert [part.rows for part in report.parts] == [content.count(b"\n") for content in contents]
    assert [part.sha256 for part in report.parts] == [hashlib.sha256(content).hexdigest() for content in contents]
    assert names_in(tmp_path / "parts") == [f"users-{number:03}.csv" for number in range(1, len(contents) + 1)]
    assert report.rows == 200_001
    assert (report.bom_removed, report.newline_added) == (True, True)
    assert "byte order mark" in report.as_text()


@pytest.mark.asyncio
async def test_parts_fit_a_day_by_default(tmp_path: Path) -> None:
    """The limits' own figures, headroom taken off."""
    limits = QuotaLimits(users_per_day=5, headroom={"users_per_day": 2})
    report = await split_file(b"a\n" * 7, tmp_path, limits=limits)
    assert [part.rows for part in report.parts] == [3, 3, 1]
    assert names_in(tmp_path) == ["part-001.csv", "part-002.csv", "part-003.csv"]


@pytest.mark.asyncio
async def test_a_url_names_its_parts(tmp_path: Path) -> None:
    async with serving(file_of(b"a\nb\n")) as url:
        report = await split_file(f"{url}/exports/di%20wali.csv?sig={CANARY}", tmp_path, max_rows=1, fetch_private=True)
    assert names_in(tmp_path) == ["di_20wali-001.csv", "di_20wali-002.csv"]
    assert CANARY not in report.as_text()


@pytest.mark.asyncio
async def test_parts_from_before_are_not_mixed_with_new_ones(tmp_path: Path) -> None:
    """Whoever takes `users-*.csv` would take yesterday's too. Other files do not matter."""
    source = tmp_path / "users.csv"
    source.write_bytes(b"a\n")
    (tmp_path / "users-007.csv").touch()
    with pytest.raises(InputError, match=r"users-007\.csv is there from before"):
        await split_file(source, tmp_path)
    (tmp_path / "users-007.csv").rename(tmp_path / "users-old.csv")
    assert len((await split_file(source, tmp_path)).parts) == 1


@pytest.mark.asyncio
async def test_a_copy_that_was_called_off_takes_nobody_s_place(tmp_path: Path) -> None:
    """Nor later, from the thread that was writing it: when the call has ended, so has all it does."""
    source, copy = tmp_path / "users.csv", tmp_path / "copy.csv"
    source.write_text("1\n2\n")
    copy.write_text("precious")
    loop, begun, goes_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def progress(*_: object) -> None:
        loop.call_soon_threadsafe(begun.set)
        goes_on.wait(5)

    cleaning = asyncio.ensure_future(clean_file(source, copy, progress=progress))
    await begun.wait()
    cleaning.cancel()
    loop.call_later(0.05, goes_on.set)
    with pytest.raises(asyncio.CancelledError):
        await cleaning
    at_the_end = names_in(tmp_path)
    await asyncio.sleep(0.2)
    assert names_in(tmp_path) == at_the_end == ["copy.csv", "users.csv"]
    assert copy.read_text() == "precious"


@pytest.mark.asyncio
@pytest.mark.parametrize("has_links", [True, False])
async def test_two_files_of_one_name_that_are_split_at_once_do_not_mix_their_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    """Neither found a part when it began: the one that ends later is refused, and its rows are nowhere."""
    if not has_links:

        def link(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "link", link)
    files = [tmp_path / directory / "users.csv" for directory in ("a", "b")]
    for number, path in enumerate(files):
        path.parent.mkdir()
        path.write_text("".join(f"{number}-{row}\n" for row in range(5)))
    out = tmp_path / "out"
    ended = await asyncio.gather(*(split_file(path, out, max_rows=2) for path in files), return_exceptions=True)
    (report,) = (one for one in ended if not isinstance(one, BaseException))
    (error,) = (one for one in ended if isinstance(one, BaseException))
    assert isinstance(error, PreflightError | InputError)
    assert sorted(out.iterdir()) == [part.path for part in report.parts]
    for part in report.parts:
        assert hashlib.sha256(part.path.read_bytes()).hexdigest() == part.sha256


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("data", "options", "problem"),
    [
        (b"a\n" * 9 + b"x" * 200 + b"\n", {"max_bytes": 100, "max_rows": 2}, "fits into no part"),
        (b"x" * 3_000_000, {}, "fits into no part"),
        (b"a\n" * 1_000, {"max_rows": 1}, "more than 999 parts"),
        (b"\x1f\x8b\x08\n", {}, "gzip"),
        ("a\nb\n".encode("utf-16"), {}, "UTF-16"),
    ],
)
async def test_a_file_that_cannot_be_split_leaves_no_part(
    data: bytes, options: dict[str, int], problem: str, tmp_path: Path
) -> None:
    """All of them or none."""
    with pytest.raises(PreflightError, match=problem):
        await split_file(data, tmp_path / "parts", **options)  # type: ignore[arg-type]  # only the numbers
    assert names_in(tmp_path / "parts") == []


@pytest.mark.asyncio
async def test_parts_whose_names_cannot_be_given_are_taken_back(tmp_path: Path) -> None:
    """All of them or none, even at the last moment."""

    def progress(*_: object) -> None:
        (tmp_path / "part-003.csv").mkdir(exist_ok=True)

    with pytest.raises(PreflightError, match="cannot be written"):
        await split_file(b"a\n" * 5, tmp_path, max_rows=1, progress=progress)
    assert names_in(tmp_path) == ["part-003.csv"]


@pytest.mark.asyncio
async def test_an_empty_file_has_no_parts(tmp_path: Path) -> None:
    assert (await split_file(b"", tmp_path)).parts == ()
    assert (await split_file(b"\xef\xbb\xbf", tmp_path)).parts == ()


@pytest.mark.asyncio
@pytest.mark.parametrize("option", ["max_rows", "max_bytes"])
async def test_a_part_must_hold_something(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=option):
        await split_file(b"a\n", tmp_path, **{option: 0})  # type: ignore[arg-type]  # as above


def test_cuts_are_those_of_counting_rows_one_by_one() -> None:
    """Random files, limits and blocks."""
    for seed in range(300):
        chance = random.Random(seed)
        rows = [b"x" * chance.choice((0, 1, 3, 9, 30)) + b"\n" for _ in range(chance.randrange(200))]
        max_rows, max_bytes = chance.choice((1, 2, 7, 1_000)), chance.choice((31, 50, 300, 100_000))
        wanted: list[bytes] = []
        count = max_rows
        for row in rows:
            if count == max_rows or len(wanted[-1]) + len(row) > max_bytes:
                wanted.append(b"")
                count = 0
            wanted[-1] += row
            count += 1
        cutter, data, at = Cutter(max_rows, max_bytes), b"".join(rows), 0
        parts: dict[int, bytes] = {}
        pieces = []
        while at < len(data):
            size = chance.choice((1, 5, 100, 5_000))
            pieces += list(cutter.feed(data[at : at + size]))
            at += size
        for number, piece, held in (*pieces, *cutter.finish()):
            parts[number] = parts.get(number, b"") + piece
            assert held == piece.count(b"\n")
        assert [parts[number] for number in sorted(parts)] == wanted, seed


def test_a_row_larger_than_a_part_is_told() -> None:
    cutter = Cutter(10, 5)
    with pytest.raises(RowTooLong):
        list(cutter.feed(b"abcdef\n"))


@pytest.mark.asyncio
async def test_many_files_are_checked_at_once(tmp_path: Path) -> None:
    """Each in its own thread, none in another's way."""
    paths = []
    for number in range(8):
        paths.append(tmp_path / f"{number}.csv")
        paths[-1].write_bytes(b"%d\n" % number * (number + 1))
    reports = await asyncio.gather(*(check_file(path) for path in paths))
    assert [report.rows for report in reports] == list(range(1, 9))
    assert [report.counts.get("MOE117", 0) for report in reports] == list(range(8))


# What is given


@pytest.mark.asyncio
async def test_a_path_may_be_text(tmp_path: Path) -> None:
    """In all three, and in the home directory."""
    source = tmp_path / "users.csv"
    source.write_bytes(b"a\nb\n")
    assert (await check_file(str(source))).source == str(source)
    assert (await clean_file(str(source), str(tmp_path / "clean.csv"))).rows_written == 2
    parts = await split_file(str(source), str(tmp_path / "parts"), max_rows=1)
    assert [part.path.name for part in parts.parts] == ["users-001.csv", "users-002.csv"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("source", "helps"),
    [
        (["a", "b"], "not a list: for several files call once for each; for values give values="),
        (("a.csv", "b.csv"), "not a tuple: for several files call once for each"),
        ({"a", "b"}, "not a set"),
        ({"a": 1}, "not a dict"),
        (iter([b"a"]), "not a list_iterator"),
        (io.BytesIO(b"a\n"), "not an open file: give its path"),
        (io.StringIO("a\n"), "not an open file"),
        (None, "not None"),
        (7, "not of type int"),
        ("", "blank text"),
        ("file:///users.csv", "without file://"),
    ],
)
async def test_what_is_no_file_is_told_what_to_use(source: Any, helps: str, tmp_path: Path) -> None:
    """The same sentence wherever a file is due."""
    for call in (check_file(source), clean_file(source, tmp_path / "to.csv"), split_file(source, tmp_path)):
        with pytest.raises(InputError) as caught:
            await call
        assert helps in caught.value.problem
        assert caught.value.field == "source"
    assert names_in(tmp_path) == []


@pytest.mark.asyncio
async def test_what_is_no_path_is_told_what_to_use(tmp_path: Path) -> None:
    """Of where to write, of what to publish, and of an operation's file."""
    several: Any = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for call, field in (
        (clean_file(b"a\n", several), "to"),
        (split_file(b"a\n", several), "directory"),
        (publish(several, "s3://bucket"), "path"),
    ):
        with pytest.raises(InputError, match="the path of one file, not a list: call once for each file") as caught:
            await call
        assert caught.value.field == field
    with pytest.raises(InputError, match="file: must be the path of one file, not a list"):
        AddUsers(name="n", attribute_name="ID", attribute_type="string", file=several)


# What a host answers


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "query", "helps"),
    [
        (204, "", "no content to send"),
        (206, "", "a part of the file only"),
        (401, "", "wants a login"),
        (403, "", "refuses to give the file: MoEngage reads it without a login"),
        (403, "?X-Amz-Date=20201123T000000Z&X-Amz-Expires=3600", "its signature expired on 2020-11-23 at 01:00 UTC"),
        (400, "?se=2020-11-23&sig=s", "its signature expired on 2020-11-23 at 00:00 UTC"),
        (403, "?X-Amz-Security-Token=t", "it was signed with temporary credentials"),
        (404, "", "no file at this address"),
        (410, "", "gone"),
        (429, "", "no limit of MoEngage's: try again later; the host asks to wait 30 s"),
        (503, "", "the host is in trouble"),
        (301, "", "redirects to another address"),
        (418, "", "without a login"),
    ],
)
async def test_each_answer_of_the_files_host_has_its_sentence(status: int, query: str, helps: str) -> None:
    """Without the query, which may hold a signature."""

    async def handler(_: web.Request) -> web.Response:
        headers = {"Retry-After": "30", "Location": "/login"}
        return web.Response(status=status, headers=headers, content_type="text/csv")

    async with serving(handler) as url:
        with pytest.raises(PreflightError) as caught:
            await check_file(f"{url}{query}", fetch_private=True)
    assert helps in caught.value.problem
    assert str(status) in caught.value.problem or status == 301
    assert "X-Amz" not in str(caught.value)


@pytest.mark.asyncio
async def test_an_expired_and_a_temporary_url_are_named() -> None:
    """By what the URL itself says, also where its host has not noticed."""
    query = "X-Amz-Date=20261123T000000Z&X-Amz-Expires=3600&X-Amz-Security-Token=t&X-Amz-Credential=ASIAX%2F2026"

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"a\n", content_type="text/csv")

    async with serving(handler) as url:
        report = await check_file(f"{url}?{query}", fetch_private=True, clock=lambda: 1_795_402_800.0)
        fresh = await check_file(f"{url}?{query}", fetch_private=True, clock=lambda: 1_795_392_000.0)
    assert set(report.counts) == {"MOE135", "MOE136"}
    assert "expired 2.0 h ago" in report.as_text()
    assert not report.ok
    assert set(fresh.counts) == {"MOE126", "MOE135"}
    assert fresh.ok


@pytest.mark.asyncio
async def test_one_byte_too_many_is_told_to_the_byte(tmp_path: Path) -> None:
    """150.0 MB of at most 150 MB help nobody."""
    path = tmp_path / "users.csv"
    with path.open("wb") as file:
        file.truncate(150_000_001)
    report = await check_file(path)
    assert "150,000,001 bytes of at most 150,000,000" in report.as_text()
    limits = QuotaLimits(file_bytes=4)
    with pytest.raises(PreflightError, match="larger than 4 bytes, the most MoEngage takes"):
        await check_file(blocks(b"a\nb\nc\n", 2), limits=limits)


@pytest.mark.asyncio
async def test_a_copy_replaces_a_file_only_where_it_may(tmp_path: Path) -> None:
    """Also one that comes while the copy is made."""
    target = tmp_path / "clean.csv"
    target.write_bytes(b"precious\n")
    with pytest.raises(InputError, match="is there"):
        await clean_file(b"a\n", target, replace=False)
    target.unlink()

    def comes_meanwhile(_: int, __: int | None) -> None:
        target.write_bytes(b"precious\n")

    with pytest.raises(PreflightError, match="File exists"):
        await clean_file(b"a\n", target, replace=False, progress=comes_meanwhile)
    assert target.read_bytes() == b"precious\n"
    assert names_in(tmp_path) == ["clean.csv"]
    assert (await clean_file(b"a\n", target)).rows_written == 1
    assert target.read_bytes() == b"a\n"


@pytest.mark.asyncio
async def test_a_change_is_told_rather_than_what_comes_of_it(tmp_path: Path) -> None:
    """A file written anew while it is read seems to have no line ends, say."""
    path = tmp_path / "users.csv"
    path.write_bytes(b"a\n" * 1_000_000)

    def written_anew(done: int, _: int | None) -> None:
        if done < 500_000:
            with path.open("r+b") as file:
                file.write(b"x" * 2_000_000)

    with pytest.raises(PreflightError, match="changed while it was read"):
        await split_file(path, tmp_path / "parts", progress=written_anew)


@pytest.mark.asyncio
@pytest.mark.parametrize("free_bytes", [0, 65_536])
async def test_a_full_temporary_directory_is_blamed_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int
) -> None:
    """And not the file's host, which sends what it has to send."""
    with full_disk(tmp_path / "full", free_bytes), monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "full"))
        async with serving(file_of(b"value\n" * 50_000)) as url:
            with pytest.raises(PreflightError) as caught:
                await check_file(f"{url}/users.csv", fetch_private=True)

    assert str(caught.value).startswith("the temporary directory: cannot take a file")
    assert "No space left on device" in str(caught.value)
    assert "TMPDIR" in str(caught.value)
