"""What people see: tables that fit their terminal, rows that come at once, text from elsewhere that does nothing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from moe_segments import SegmentsClient
from moe_segments.bulk import read_manifest, run_bulk
from moe_segments.sandbox import FaultKind
from tests.live.test_cli import CREATE, HEADER, SPEED, Shell, a_shell
from tests.screens import Shown, on_terminal, terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

SAMPLES: Final = Path(__file__).parents[1] / "samples"
SIZES: Final = [(80, 24), (40, 24), (200, 24)]
INDIA: Final = {"TZ": "IST-5:30"}
NAMES: Final = (
    "दिवाली_2026_उत्तर_क्षेत्र_के_सक्रिय_ग्राहक",
    "春节活动_高价值用户_二零二六年第一季度_北方地区_老客户",
    "🎉_party_❤_🇮🇳_👍🏽_and_more_of_it_for_everybody",
    "diwali_2026_north_zone_gold_members_reactivation",
    "plain",
)
COLUMNS: Final = ["job", "op", "segment", "state", "since", "UTC", "rows", "found", "processed", "matched", "problem"]
ROWS: Final = 20_000
# A colour, a title, a cleared screen, a link, a carriage return, a bell, a rubbed-out letter, bidi overrides, a line
# that looks like one of ours, C1 controls, what is not to be seen, and half a character.
EVIL: Final = (
    "\x1b[31mred\x1b]0;title\x07\x1b[2J\x1b[H\x1b]8;;http://evil\x1b\\link\rover\x08\x7f\u202egpj\u2066\u2069"
    "\nmoe-segments: all is well\x9b31m\x9d0;x\x9c\u200b\u2028\U000e0041[bold]markup[/bold]"
)
OBEYED: Final = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


async def seen(
    shell: Shell, *arguments: str, size: tuple[int, int] = (80, 24), variables: Mapping[str, str] = INDIA
) -> Shown:
    """A command in a terminal, its standard error elsewhere."""
    command = ("-m", "moe_segments", *arguments, "--speed", str(SPEED))
    environment = shell.environ | dict(variables)
    return await on_terminal(environment, shell.directory, *command, size=size, is_err_piped=True)


def manifest(shell: Shell) -> str:
    """Creates of names in many scripts, and a line that is refused."""
    return shell.manifest(*(f"create,{name},ID,string,URL,30" for name in NAMES), "archive,nothing,,,,")


# Terminals


@pytest.mark.parametrize("size", SIZES)
async def test_every_table_fits_its_terminal(shell: Shell, size: tuple[int, int]) -> None:
    """No row is wrapped, no identifier cut, no column moved, whatever the script; what is cut is whole with --json."""
    path = manifest(shell)
    planned = await seen(shell, "plan", path, size=size)
    ran = await seen(shell, "bulk", path, "--listen", "127.0.0.1:0", size=size)
    listed = await seen(shell, "jobs", size=size)
    quotas = await seen(shell, "quota", size=size)
    segments = await seen(shell, "list", size=size)

    for shown in (planned, ran, listed, quotas, segments):
        assert not shown.is_wrapped, shown.lines
        assert all(len(line) <= size[0] for line in shown.lines)
    everything = (await shell.run_at_speed("jobs", "--json")).document["jobs"]
    assert [line.split()[0] for line in listed.lines[1:]] == [job["job_id"] for job in everything]
    assert [job["operation"]["name"] for job in everything] == [*NAMES, "nothing"]
    assert {segment.id for segment in shell.segments} <= {word for line in segments.lines for word in line.split()}
    assert len(ran.lines) == len(planned.lines) == len(listed.lines) == len(NAMES) + 2
    start = listed.screen.display[0].index("state")
    for row in range(1, len(NAMES) + 1):  # columns stand below one another
        cells = (listed.screen.buffer[row][column].data for column in range(start, start + len("processed")))
        assert "".join(cells) == "processed"


async def test_columns_are_left_out_in_the_documented_order(shell: Shell) -> None:
    """The widest terminal has all; a narrower one never has a column that is to go before one that it has not."""
    await seen(shell, "bulk", manifest(shell), "--listen", "127.0.0.1:0")
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
    for command, never in (("jobs", {"job", "state"}), ("quota", {"quota", "used", "of"})):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{command}` |") and "1. " in line)
        order = [name.strip(" `") for name in re.findall(r"\d+\. ([^,|]+)", row)]
        before: set[str] = set()
        for columns in (30, 58, 74, 80, 100, 120, 200):
            shown = await seen(shell, command, size=(columns, 24))
            header = shown.lines[0]
            bar = {"the bar"} if "░" in shown.lines[1] else set()
            found = {name for name in (*order, *never) if re.search(rf"(^|\s){name}(\s|$)", header)} | bar
            assert never <= found
            assert before <= found
            gone = [name for name in order if name not in found]
            assert gone == order[: len(gone)], (columns, header)
            before = found
        assert before == {*order, *never}


async def test_the_bars_of_quotas_are_whole_and_watching_draws_the_same(shell: Shell) -> None:
    """Once, or again and again until Ctrl-C."""
    await shell.run_at_speed(*CREATE, "diwali", "--file-url", shell.url)
    once = await seen(shell, "quota")
    bars = {len(re.findall("[█░]", line)) for line in once.lines[1:]}
    assert len(bars) == 1
    assert bars.pop() >= 8
    assert "operations in the hour" in once.lines[1]

    command = ("-m", "moe_segments", "quota", "--watch", "--speed", str(SPEED))
    async with terminal(shell.environ | INDIA, shell.directory, *command) as watching:
        for text in (b"gets in the day", b"\x1b[1A"):  # drawn, and begun again
            await watching.until(text)
        watching.process.send_signal(signal.SIGINT)
        shown = Shown(await watching.process.wait(), await watching.to_the_end(), 80)
    assert shown.code == 0

    def layout(lines: list[str]) -> list[str]:
        return [re.sub("[█░].*", lambda rest: str(rest[0].count("█") + rest[0].count("░")), line) for line in lines]

    assert layout([line for line in shown.lines if line != "^C"]) == layout(once.lines)


async def test_a_terminal_that_cannot_redraw_is_told_again_and_again(shell: Shell) -> None:
    """Such as that of an editor, or of a job's console: nothing was shown on it before the end."""
    command = ("-m", "moe_segments", "quota", "--watch")
    async with terminal(shell.environ | {"TERM": "dumb"}, shell.directory, *command) as watching:
        for _ in range(2):
            await watching.until(b"gets in the day")
            watching.blocks.clear()
        watching.process.send_signal(signal.SIGINT)
        rest = await watching.to_the_end()
        assert await watching.process.wait() == 0
    assert "\x1b" not in rest


@pytest.mark.parametrize("size", SIZES)
async def test_the_progress_of_a_run_stays_on_its_line(shell: Shell, size: tuple[int, int]) -> None:
    """A bar, what has ended, and what is waited for, on a terminal of any width; then the table."""
    command = ("-m", "moe_segments", "bulk", shell.creates(12), "--speed", str(SPEED), "--listen", "127.0.0.1:0")
    shown = await on_terminal(shell.environ, shell.directory, *command, size=size)
    assert shown.code == 0
    bars = [line for line in shown.lines if "━" in line]
    assert len(bars) == 1
    assert "12/12" in bars[0]
    assert any(line.startswith("line") for line in shown.lines)


async def test_moments_are_local_with_their_zone_beside_utc(shell: Shell) -> None:
    """In tables and in sentences; where the zone is UTC they are told once."""
    path = manifest(shell)
    planned = await seen(shell, "plan", path, size=(200, 24))
    assert re.search(r"\d\d:\d\d:\d\d IST  (\d\d-\d\d )?\d\d:\d\d:\d\d  ", planned.lines[1])
    await shell.run_at_speed("bulk", path)
    job = (await shell.run_at_speed("jobs", "--json")).document["jobs"][0]["job_id"]
    sentence = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d IST \((\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC\)"
    assert re.search(sentence, (await shell.run_at_speed("jobs", job, **INDIA)).out)
    for command in ("jobs", "quota"):
        here = (await shell.run_at_speed(command, **INDIA)).out
        assert re.search(r"\d\d-\d\d \d\d:\d\d:\d\d IST  \d\d-\d\d \d\d:\d\d:\d\d", here)
        there = (await shell.run_at_speed(command, TZ="UTC")).out
        assert " IST" not in there
        assert re.search(r"\d\d-\d\d \d\d:\d\d:\d\d UTC", there)
        assert len(re.findall("UTC", there.splitlines()[0])) == 0


async def test_a_plan_and_a_run_say_by_when_all_is_sent(shell: Shell) -> None:
    """Before the first is sent; and in JSON."""
    path = shell.creates(12)
    document = (await shell.run_at_speed("plan", path, "--json")).document
    assert document["all_sent_by"] == document["operations"][-1]["start"]
    for command in ("plan", "bulk"):
        told = (await shell.run_at_speed(command, path, **INDIA)).err
        assert re.search(r"^all sent by \d{4}-\d\d-\d\d \d\d:\d\d:\d\d IST \(", told, re.MULTILINE)
    assert "all sent by" not in (await shell.run_at_speed("bulk", path)).err, "nothing is left"
    large = shell.directory / "large.csv"
    large.write_text(f"{HEADER.strip()},rows\ncreate,x,ID,string,{shell.url},30,3000000\n")
    assert "none of 1 can ever be sent" in (await shell.run_at_speed("plan", str(large))).err


async def test_what_is_piped_is_whole_and_plain(shell: Shell) -> None:
    """No width is guessed, not even from COLUMNS, and there is no escape sequence."""
    await shell.run_at_speed("bulk", manifest(shell), "--listen", "127.0.0.1:0")
    for variables in ({}, {"COLUMNS": "40"}, {"FORCE_COLOR": "1"}, {"TERM": "xterm-256color"}):
        out = (await shell.run_at_speed("jobs", **INDIA, **variables)).out
        assert "\x1b" not in out
        assert all(name in out for name in NAMES)
        assert out.splitlines()[0].split() == COLUMNS
        assert "HTTP 404" in out


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
async def test_who_wants_no_colours_gets_none(shell: Shell, variables: dict[str, str]) -> None:
    await shell.run_at_speed("archive", "nothing")
    for command in ("jobs", "quota"):
        assert "\x1b" in (await seen(shell, command)).raw
        assert "\x1b" not in (await seen(shell, command, variables=variables)).raw


async def test_a_terminal_that_does_not_know_its_size_has_80_columns(shell: Shell) -> None:
    """As some consoles and containers are."""
    await shell.run_at_speed("bulk", manifest(shell))
    shown = await seen(shell, "jobs", size=(0, 0))
    assert max(len(line.rstrip("\r")) for line in shown.unstyled.split("\n")) <= 80
    assert "processed" in shown.raw or "accepted" in shown.raw


# Large results


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A journal with a planned run of many lines, and what commands need to see it."""

    async def made() -> dict[str, Any]:
        directory = tmp_path_factory.mktemp("large")
        async with a_shell(directory) as shell:
            path = directory / "bulk.csv"
            rows = (f"create,segment_{number:05},ID,string,{shell.url},30,3\n" for number in range(ROWS))
            path.write_text(f"{HEADER.strip()},rows\n{''.join(rows)}")
            sandbox, stop = shell.sandbox, asyncio.Event()
            stop.set()
            async with SegmentsClient(
                sandbox.credentials, base_url=sandbox.url, limits=sandbox.limits, journal=shell.journal
            ) as client:
                await run_bulk(client, read_manifest(path), stop=stop)
            return {"environment": shell.environ, "directory": directory, "manifest": str(path)}

    return asyncio.run(made())


def most_bytes(large: dict[str, Any], *arguments: str) -> tuple[int, int]:
    """How many lines a command prints, and how much memory it needs at most."""
    command = [sys.executable, "-m", "moe_segments", *arguments, "--speed", str(SPEED)]
    out = large["directory"] / "out"
    with out.open("wb") as to:
        process = subprocess.Popen(command, env=large["environment"], cwd=large["directory"], stdout=to)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return out.read_bytes().count(b"\n"), usage.ru_maxrss * 1_024


async def test_a_list_of_many_jobs_needs_no_more_memory_than_one_of_few(large: dict[str, Any]) -> None:
    """As a table and as JSON: each row is printed as it comes."""
    few = most_bytes(large, "jobs", "--limit", "1", "--json")[1]
    table, json_lines = most_bytes(large, "jobs"), most_bytes(large, "jobs", "--json")
    assert table[0] == ROWS + 1
    assert json_lines[0] > ROWS
    assert table[1] - few < 15_000_000
    assert json_lines[1] - few < 15_000_000


async def test_a_plan_of_many_lines_is_no_dearer_as_a_table_than_as_json(large: dict[str, Any]) -> None:
    table, document = (
        most_bytes(large, "plan", large["manifest"]),
        most_bytes(large, "plan", large["manifest"], "--json"),
    )
    assert table[0] == ROWS + 1
    assert table[1] <= document[1]


async def test_the_document_of_many_jobs_is_one_document(large: dict[str, Any]) -> None:
    most_bytes(large, "jobs", "--json")
    document = json.loads((large["directory"] / "out").read_text())
    assert document.keys() == {"jobs"}
    assert len({job["job_id"] for job in document["jobs"]}) == ROWS


async def test_a_reader_that_has_enough_ends_the_list(large: dict[str, Any]) -> None:
    """As `jobs | head -1` has it, before all is listed."""
    for arguments in (("jobs",), ("jobs", "--json")):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "moe_segments", *arguments, "--speed", str(SPEED)),
            env=large["environment"],
            cwd=large["directory"],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # as a reader that ends does
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert await process.stderr.read() == b""


async def test_a_terminal_gets_the_last_fifty_and_how_many_more_there_are(large: dict[str, Any]) -> None:
    """--limit says otherwise; a pipe gets all."""
    environment, directory = large["environment"], large["directory"]
    command = ("-m", "moe_segments", "jobs", "--speed", str(SPEED))
    shown = await on_terminal(environment, directory, *command, is_err_piped=True)
    assert len(shown.lines) == 1 + 50
    assert f"segment_{ROWS - 1}" in shown.lines[-1]
    assert shown.err.startswith(f"{ROWS - 50:,} more before these: --limit {ROWS} shows all")
    few = await on_terminal(environment, directory, *command, "--limit", "3", is_err_piped=True)
    assert len(few.lines) == 1 + 3
    assert f"{ROWS - 3:,} more" in few.err


# Filters


async def test_jobs_are_listed_by_state_segment_and_time(shell: Shell) -> None:
    """Filters hold together; a state may be given several times."""
    await shell.run_at_speed("bulk", shell.creates(3), "--listen", "127.0.0.1:0")
    await shell.run_at_speed("archive", "nothing")
    await shell.run_at_speed("archive", "s1")

    async def listed(*options: str) -> list[tuple[str, str]]:
        jobs = (await shell.run_at_speed("jobs", "--json", *options)).document["jobs"]
        table = (await shell.run_at_speed("jobs", *options)).out.splitlines()[1:]
        assert [line.split()[0] for line in table] == [job["job_id"] for job in jobs]
        return [(job["operation"]["op"], job["operation"]["name"]) for job in jobs]

    assert await listed("--state", "refused") == [("archive", "nothing")]
    assert len(await listed("--state", "refused", "--state", "processed")) == 4
    assert await listed("--segment", "s1") == [("create", "s1"), ("archive", "s1")]
    assert await listed("--segment", "s1", "--state", "accepted") == [("archive", "s1")]
    assert len(await listed("--since", "2h")) == 5
    assert await listed("--since", "2999-01-01") == []
    assert await listed("--limit", "1") == [("archive", "s1")]


@pytest.mark.parametrize(
    "options", [("--state", "done"), ("--since", "yesterday"), ("--limit", "0"), ("--limit", "-3"), ("--run", "none")]
)
async def test_a_filter_that_cannot_be_used_is_bad_input(shell: Shell, options: tuple[str, str]) -> None:
    result = await shell.run_at_speed("jobs", *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"moe-segments: {options[0]}: ")


# Text from elsewhere


@asynccontextmanager
async def evil_service(shell: Shell) -> AsyncIterator[dict[str, str]]:
    """A service whose every text would do something to a terminal; what commands need to reach it."""
    waiting: list[asyncio.Task[None]] = []

    async def report(url: str, body: dict[str, object]) -> None:
        async with ClientSession() as session, session.post(url, json=body):
            pass

    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            found = json.loads((SAMPLES / "list" / "200.json").read_text())
            for one in found["data"]:
                one.update(name=f"a{EVIL}", type=EVIL, source=EVIL)
            return web.json_response(found)
        sent = await request.json()
        if sent["name"] == "refused":
            return web.json_response({"title": f"no{EVIL}", "description": EVIL}, status=400)
        if sent.get("callback_url"):
            failed = json.loads((SAMPLES / "callback" / "400.json").read_text())
            failed |= {"segment_name": f"x{EVIL}", "error_message": f"failed{EVIL}", "request_id": EVIL}
            waiting.append(asyncio.create_task(report(sent["callback_url"], failed)))
        taken = json.loads((SAMPLES / "create" / "202.json").read_text())
        return web.json_response(taken | {"message": EVIL, "cs_name": EVIL, "cs_id": f"64{EVIL}"}, status=202)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        yield shell.environ | {
            "MOE_BASE_URL": f"http://127.0.0.1:{server.port}",
            "MOE_JOURNAL": f"sqlite:///{shell.directory}/evil.db",
        }
        await asyncio.gather(*waiting)


async def piped(environment: Mapping[str, str], shell: Shell, *command: str) -> tuple[str, str]:
    """What `python <command>` says where no terminal is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        env=environment,
        cwd=shell.directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_nothing_that_comes_from_elsewhere_reaches_a_terminal_as_it_is(shell: Shell) -> None:
    """The service's answers, callbacks, lists, names of files and of the command line: on the screen and in a pipe."""
    (shell.directory / f"evil{EVIL.replace('/', '_')}.csv").write_text("op,name\n\x1b[31m,x\n")
    async with evil_service(shell) as environment:
        commands = (
            (*CREATE, "diwali", "--file-url", shell.url, "--listen", "127.0.0.1:0"),
            (*CREATE, "refused", "--file-url", shell.url),
            ("bulk", shell.manifest("create,refused,ID,string,URL,30", "create,x,ID,string,URL,30")),
            ("jobs",),
            ("list",),
            ("journal", "log"),
            ("quota",),
            ("preflight", next(shell.directory.glob("evil*.csv")).name),
            ("plan", next(shell.directory.glob("evil*.csv")).name),
            ("preflight", f"no-such-file{EVIL}"),
            (EVIL.replace("\n", "") + "-command",),
            ("jobs", f"x{EVIL}"),
            ("jobs", "--run", EVIL),
            ("quota", f"--{EVIL}"),
            ("quota", "--journal", f"{EVIL}://x"),
        )
        for command in commands:
            speed = () if command[0] == "preflight" else ("--speed", str(SPEED))
            line = ("-m", "moe_segments", *command, *speed)
            shown, (out, err) = await asyncio.gather(
                on_terminal(environment, shell.directory, *line), piped(environment, shell, *line)
            )
            text = re.sub(r"\x1b\[(\d*[AK]|[0-9;]*m|\?25[lh])", "", shown.raw).replace("\r", "")
            assert not OBEYED.search(text), (command, shown.raw)
            assert "\x1b[31mred" not in shown.raw
            assert not any(line.startswith("moe-segments: all is well") for line in shown.lines), command
            assert not OBEYED.search(out + err), (command, out, err)
            if command == ("list",):
                assert r"a\x1b[31mred\x1b]0;title\x07" in out
                assert "[bold]markup[/bold]" in out


async def test_json_of_what_comes_from_elsewhere_is_json_and_whole(shell: Shell) -> None:
    """With escapes: the text comes back as it was, and nothing in it does anything meanwhile."""
    async with evil_service(shell) as environment:
        create = (*CREATE, "diwali", "--file-url", shell.url, "--listen", "127.0.0.1:0")
        for command in (create, ("jobs",), ("list",)):
            line = ("-m", "moe_segments", *command, "--json", "--speed", str(SPEED))
            out, _ = await piped(environment, shell, *line)
            assert not OBEYED.search(out)
            assert any(EVIL in text for text in strings(json.loads(out))), command


def strings(value: object) -> list[str]:
    """Every text in a document."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


async def test_logs_warnings_and_tracebacks_are_cleaned_too() -> None:
    """Whoever writes to standard error: a library's logger, a warning, an error that nobody expected."""
    code = f"""
import logging, sys, warnings
from moe_segments.cli.app import run
try:
    run(["--version"])
except SystemExit:
    pass
evil = {EVIL!r}
logging.getLogger("any").warning("said %s", evil)
logging.basicConfig(stream=sys.stderr, force=True)
logging.getLogger("any").warning("said %s", evil)
warnings.warn(evil)
sys.stdout.write(evil)
print(evil, file=sys.stderr)
raise RuntimeError(evil)
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert not OBEYED.search(out.decode() + err.decode())
    assert err.decode().count(r"\x1b[31mred") >= 5
    assert r"\u202egpj" in out.decode()


async def test_joiners_of_hindi_persian_and_emoji_are_shown_as_they_are() -> None:
    """They make letters and pictures; between other characters they only hide."""
    code = (
        "import sys; from moe_segments.cli.app import run\n"
        "try:\n    run(['--version'])\nexcept SystemExit:\n    pass\n"
        "sys.stdout.write('क्\\u200dष می\\u200cخو 👨\\u200d👩\\u200d👧 a\\u200db \\u200d')\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().endswith("क्\u200dष می\u200cخو 👨\u200d👩\u200d👧 a\\u200db \\u200d")


async def test_an_unreadable_callback_does_nothing_either(shell: Shell) -> None:
    """It is kept as it came, and shown with escapes."""
    shell.sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
    create = (*CREATE, "diwali", "--file-url", shell.url, "--listen", "127.0.0.1:0", "--json")
    job = (await shell.run_at_speed(*create)).document["job_id"]
    shown = await seen(shell, "jobs", job)
    assert "not JSON @ $" in shown.raw
    assert not OBEYED.search(shown.unstyled.replace("\r", ""))
