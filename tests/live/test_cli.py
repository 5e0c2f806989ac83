"""The command line as a user meets it: processes, signals, exit codes, and what is printed where."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import pytest_asyncio

from moe_segments.client.client import SegmentsClient
from moe_segments.sandbox import FaultKind, Faults, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from moe_segments.sandbox import SandboxSegment

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SPEED: Final = 600
KEY: Final = "key-that-nobody-may-read"
FIELDS: Final = ("--attribute-name", "ID", "--attribute-type", "string")
CREATE: Final = ("create", *FIELDS, "--expiry-time", "30")
HEADER: Final = "op,name,attribute_name,attribute_type,file_url,expiry_time\n"
PATIENCE_S: Final = 60


@attrs.frozen
class Ended:
    """How a command ended."""

    code: int | None
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its standard output, which must be one JSON object."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its standard output, which must be JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs commands against one sandbox, on one journal, in a home of its own.

    Attributes:
        sandbox: The service, in this process, where its requests can be counted.
        url: A file of three users that it can read.
        environ: What every command is told.
    """

    def __init__(self, sandbox: Sandbox, url: str, directory: Path) -> None:
        self.sandbox, self.url, self.directory = sandbox, url, directory
        self.environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(directory),
            "MOE_WORKSPACE_ID": sandbox.credentials.workspace_id,
            "MOE_API_KEY": sandbox.credentials.api_key,
            "MOE_DATA_CENTER": sandbox.credentials.data_center,
            "MOE_BASE_URL": sandbox.url,
            "MOE_JOURNAL": self.journal,
        }

    @property
    def journal(self) -> str:
        """The journal that all commands share."""
        return f"sqlite:///{self.directory / 'quota.db'}"

    async def start(self, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
        """Start a command."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "moe_segments", *arguments),
            env=self.environ | variables,
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, **variables: str) -> Ended:
        """Run a command to its end; none of them may print the key or a traceback."""
        return await ended(await self.start(*arguments, **variables))

    async def run_at_speed(self, *arguments: str, **variables: str) -> Ended:
        """Run a command with windows as short as the sandbox's."""
        return await self.run(*arguments, "--speed", str(SPEED), **variables)

    def manifest(self, *rows: str) -> str:
        """A manifest of these rows; `URL` in them is the file's."""
        path = self.directory / "bulk.csv"
        path.write_text(HEADER + "".join(f"{row.replace('URL', self.url)}\n" for row in rows))
        return str(path)

    def creates(self, count: int) -> str:
        """A manifest that creates so many segments."""
        return self.manifest(*(f"create,s{number},ID,string,URL,30" for number in range(count)))

    def sent(self) -> Counter[tuple[str | None, str | None]]:
        """How often each operation reached the service."""
        requests = self.sandbox.workspace.requests
        return Counter((request.op, request.segment) for request in requests if request.op not in {None, "list"})

    @property
    def segments(self) -> tuple[SandboxSegment, ...]:
        """What the service has."""
        return self.sandbox.workspace.segments


async def ended(process: asyncio.subprocess.Process, patience_s: float = PATIENCE_S) -> Ended:
    """Wait for a command's end."""
    async with asyncio.timeout(patience_s):
        out, err = await process.communicate()
    result = Ended(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in result.err, result.err
    assert KEY not in result.out + result.err
    return result


@asynccontextmanager
async def a_shell(directory: Path, **options: float) -> AsyncIterator[Shell]:
    """A sandbox of these latencies, and a shell against it."""
    latency_s = options.get("latency_s", 0.0)
    async with Sandbox(
        speed=options.get("speed", SPEED), latency_s=(latency_s, latency_s), processing_s=(0, 0)
    ) as sandbox:
        (directory / "users.csv").write_text("u-1\nu-2\nu-3\n")
        yield Shell(sandbox, await sandbox.publish(directory / "users.csv"), directory)


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    """A sandbox that answers at once, and a shell against it."""
    async with a_shell(tmp_path) as one:
        yield one


async def until_sent(shell: Shell, count: int) -> None:
    """Wait until so many operations have reached the service."""
    async with asyncio.timeout(PATIENCE_S):
        while shell.sent().total() < count:
            await asyncio.sleep(0.01)


# Bulk


async def test_the_first_command_of_the_readme_waits_for_quota_and_processes_everything(shell: Shell) -> None:
    """More file operations than an hour allows, on the embedded sandbox, within half a minute."""
    result = await shell.run("bulk", str(EXAMPLES / "bulk.csv"), "--sandbox", "--speed", "600")
    assert result.code == 0, result.err
    assert result.out.count("processed") == 13 + 1  # and the column
    assert "waiting: operations_per_hour is full (10 of 10)" in result.err
    assert "13 processed, 1 accepted" in result.err
    assert "quotas: " in result.err
    assert not (shell.directory / "quota.db").exists(), "a throwaway journal unless one is named"


async def test_json_is_all_that_standard_output_has(shell: Shell) -> None:
    """A line for each outcome, the report last."""
    result = await shell.run_at_speed("bulk", shell.creates(3), "--listen", "127.0.0.1:0", "--json")
    assert result.code == 0, result.err
    *outcomes, report = result.lines
    assert {line["type"] for line in outcomes} == {"outcome"}
    assert {line["line"]: line["state"] for line in outcomes} == dict.fromkeys((2, 3, 4), "processed")
    assert report["type"] == "report"
    assert report["counts"] == {"processed": 3}


async def test_a_manifest_with_ten_mistakes_is_refused_with_all_ten(shell: Shell) -> None:
    """Before anything is sent."""
    bad = [
        "create,a|b,ID,string,URL,30", "create,c,ID,text,URL,30", "create,d,ID,string,URL,soon",
        "create,e,ID,string,nowhere,30", "create,f,,string,URL,30", "create,g,ID,string,,30", "make,h,ID,string,URL,30",
        "create,i,ID,string,URL,", "add,j,ID,string,URL,30", "create,k",
    ]  # fmt: skip
    result = await shell.run_at_speed("bulk", shell.manifest(*bad))
    assert result.code == 2
    assert "bulk.csv has 10 mistakes; nothing was sent" in result.err
    assert [line.split(",")[0].split(":")[0].strip() for line in result.err.splitlines()[1:]] == [
        f"line {number}" for number in range(2, 12)
    ]
    assert not shell.sandbox.workspace.requests
    assert not (shell.directory / "quota.db").exists()


async def test_files_without_rows_are_mistakes_of_the_manifest(shell: Shell) -> None:
    """An empty file is found before the first operation is sent."""
    (shell.directory / "empty.csv").write_text("")
    path = shell.directory / "bulk.csv"
    path.write_text(
        f"{HEADER.replace('file_url', 'file')}create,a,ID,string,users.csv,30\nadd,a,ID,string,empty.csv,\n"
    )
    result = await shell.run("bulk", str(path), "--sandbox")
    assert result.code == 2
    assert "line 3, file: MOE101 no value in the file" in result.err


async def test_local_files_need_somebody_who_publishes_them(shell: Shell) -> None:
    """Said for every line, before anything is sent."""
    result = await shell.run_at_speed("bulk", str(EXAMPLES / "bulk.csv"))
    assert result.code == 2
    assert result.err.count("give file_url") == 13
    assert not shell.sent()


async def test_a_finished_run_exits_0_and_says_so(shell: Shell) -> None:
    """The same command again sends nothing; --again runs it anew."""
    await shell.run_at_speed("bulk", shell.creates(2))
    manifest = shell.manifest("archive,s0,,,,", "archive,s1,,,,")
    first = await shell.run_at_speed("bulk", manifest)
    second = await shell.run_at_speed("bulk", manifest, "--json")
    third = await shell.run_at_speed("bulk", manifest, "--again")

    assert [result.code for result in (first, second, third)] == [0, 0, 0]
    assert "was finished before" in second.err
    assert second.lines[-1]["already_finished"] is True
    assert [line["state"] for line in second.lines[:-1]] == ["accepted", "accepted"]
    assert shell.sent()["archive", "s0"] == 2


async def test_a_row_appended_to_a_finished_manifest_is_sent_and_the_others_are_not(shell: Shell) -> None:
    """The table says "done before" of them, `plan` leaves them out, and JSON has a field for it."""
    await shell.run_at_speed("bulk", shell.creates(2))
    edited = shell.creates(3)
    plan = await shell.run_at_speed("plan", edited)
    report = await shell.run_at_speed("bulk", edited)
    again = await shell.run_at_speed("bulk", edited, "--json")

    assert "1 of 3 operations left" in plan.err
    assert (report.code, report.out.count("done before")) == (0, 2), report.out
    assert "3 operations of bulk.csv, 1 of them still to be sent" in report.err
    assert [(line["state"], line["done_before"]) for line in again.lines[:-1]] == [("accepted", True)] * 3
    assert (again.code, again.lines[-1]["counts"]) == (0, {"done before": 3})
    assert shell.sent() == {("create", f"s{number}"): 1 for number in range(3)}


async def test_no_repeat_ends_with_0_while_a_line_was_never_sent(shell: Shell) -> None:
    """A create that the service refuses for good, and what cannot be done without its segment."""
    manifest = shell.manifest("add,nowhere,ID,string,URL,")
    codes = [(await shell.run_at_speed("bulk", manifest)).code for _ in range(3)]
    assert codes == [1, 1, 1]
    await shell.run_at_speed(*CREATE, "s0", "--file-url", shell.url, "--journal", "sqlite:///other.db")
    manifest = shell.creates(2)
    results = [await shell.run_at_speed("bulk", manifest) for _ in range(3)]
    assert [result.code for result in results] == [1, 1, 1]
    assert "cannot be done as they stand" in results[-1].err
    assert shell.sent()["create", "s0"] == 2


async def test_what_people_type_is_met_halfway(shell: Shell) -> None:
    """A path for the journal, one at home behind an equals sign, a type in capitals, a manifest of a spreadsheet."""
    home = {"HOME": str(shell.directory)}
    (shell.directory / "users.csv").write_text("u-1\n")
    created = await shell.run_at_speed(
        *("create", "s0", "--expiry-time", "30", "--attribute-name", "ID", "--attribute-type", "STRING"),
        *("--file-url", shell.url, "--journal=~/q.db"),
        **home,
    )
    assert (created.code, (shell.directory / "q.db").is_file()) == (0, True), created.err
    (shell.directory / "m.csv").write_text(
        f"\ufeffOp;Name;Attribute Name;Attribute Type;File URL;Rows;\nAdd Users;s0;ID;String;{shell.url};1,000;\n"
    )
    added = await shell.run_at_speed("bulk", "~/m.csv", "--journal", "./q.db", **home)
    assert added.code == 0, added.err
    checked = await shell.run("preflight", "--attribute-type", "String", "~/users.csv", **home)
    assert checked.code == 0, checked.err
    fixed = await shell.run("preflight", "~/users.csv", "--fix=~/fixed.csv", **home)
    assert (fixed.code, (shell.directory / "fixed.csv").is_file()) == (0, True), fixed.err
    assert shell.sent() == {("create", "s0"): 1, ("add", "s0"): 1}


@pytest.mark.parametrize(
    ("journal", "told"),
    [
        ("C:\\q.db", "Windows"),
        ("quota", "./quota.db"),
        ("sqlite:///etc/q.db", "four slashes, sqlite:////etc/q.db"),
        ("etc/q.db", "four slashes, sqlite:////etc/q.db"),
    ],
)
async def test_a_journal_that_is_not_what_was_meant_is_named_in_one_sentence(
    shell: Shell, journal: str, told: str
) -> None:
    for command in (("quota",), ("journal", "check", journal)):
        result = await shell.run_at_speed(*command, *(() if len(command) > 1 else ("--journal", journal)))
        assert result.code == 2
        assert told in result.err.replace("\n", " ")
        assert len(result.err.splitlines()) == 1


async def test_a_name_that_nobody_sees_as_it_is_is_said_once_and_taken(shell: Shell) -> None:
    """With its line by a manifest, by itself otherwise."""
    name = "Family\u200d2026"
    manifest = shell.manifest(f"create,{name},ID,string,URL,30", f"add,{name},ID,string,URL,")
    report = await shell.run_at_speed("bulk", manifest)
    assert report.code == 0, report.err
    assert report.err.count("U+200D ZERO WIDTH JOINER") == 1
    assert "bulk.csv: line 2, name: has characters that nobody sees" in report.err
    single = await shell.run_at_speed(*CREATE, "a\u00a0b", "--file-url", shell.url)
    assert (single.code, single.err.count("U+00A0 NO-BREAK SPACE")) == (0, 1), single.err


async def test_without_a_receiver_the_summary_says_that_processing_is_not_known(shell: Shell) -> None:
    """Accepted is all there will be, and it is no failure."""
    result = await shell.run_at_speed("bulk", shell.creates(1))
    assert result.code == 0
    assert "no callback can come here" in result.err


async def test_a_refused_line_ends_in_exit_code_1(shell: Shell) -> None:
    """With the service's words in the table."""
    await shell.run_at_speed(*CREATE, "s0", "--file-url", shell.url, "--journal", "sqlite:///other.db")
    result = await shell.run_at_speed("bulk", shell.creates(2))
    assert result.code == 1
    assert "HTTP 409" in result.out


async def test_a_used_name_ends_in_exit_code_2_before_anything_is_sent(shell: Shell) -> None:
    """For each command that would create it, with the job that shows it."""
    made = await shell.run_at_speed(*CREATE, "s0", "--file-url", shell.url, "--json")
    job_id = json.loads(made.out)["job_id"]
    for command in ((*CREATE, "s0", "--file-url", shell.url), *((name, shell.creates(2)) for name in ("plan", "bulk"))):
        result = await shell.run_at_speed(*command)
        assert (result.code, result.out) == (2, "")
        assert f"job {job_id}" in result.err
        assert "Traceback" not in result.err
    assert shell.sent() == {("create", "s0"): 1}


async def test_a_sandbox_run_on_a_named_journal_is_known_the_next_time(shell: Shell) -> None:
    """Although it is another sandbox: it listens where the journal knows it."""
    arguments = ("bulk", str(EXAMPLES / "bulk.csv"), "--sandbox", "--speed", "3600", "--journal", "sqlite:///demo.db")
    first, second = await shell.run(*arguments), await shell.run(*arguments)
    assert (first.code, second.code) == (0, 0), second.err
    assert "was finished before" in second.err


async def test_an_edited_manifest_does_not_go_on_on_another_sandbox(shell: Shell) -> None:
    """The segments of what was done before ended with the sandbox that had them."""
    arguments = ("--sandbox", "--speed", "3600", "--journal", "./demo.db")
    manifest = ("create,a,ID,string,URL,30", "create,b,ID,string,URL,30")
    first = await shell.run("bulk", shell.manifest(*manifest), "--preflight", "off", *arguments)
    assert "a" in first.out, first.err
    edited = await shell.run("bulk", shell.manifest(*manifest, "add,a,ID,string,URL,"), *arguments)
    assert (edited.code, edited.out) == (2, "")
    assert "the sandbox that had its segments ended with its command" in edited.err


# Interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_run_goes_on_by_the_same_command(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 130, what was sent is settled, and nothing is sent twice."""
    async with a_shell(tmp_path, latency_s=0.3) as shell:
        manifest = shell.creates(9)
        process = await shell.start("bulk", manifest, "--speed", str(SPEED), "--concurrency", "2")
        await until_sent(shell, 3)
        process.send_signal(number)
        result = await ended(process)
        assert result.code == 130, result.err
        assert "run the same command again: moe-segments bulk" in result.err
        assert 3 <= len(shell.segments) < 9
        jobs = (await shell.run_at_speed("jobs", "--json")).document["jobs"]
        assert {job["state"] for job in jobs} <= {"accepted", "planned", "not_sent"}, "nothing is left in doubt"

        resumed = await shell.run_at_speed("bulk", manifest)
        assert resumed.code == 0, resumed.err
        assert shell.sent() == {("create", f"s{number}"): 1 for number in range(9)}


async def test_a_killed_run_goes_on_by_the_same_command(tmp_path: Path) -> None:
    """What was on its way is in doubt and is looked for, never sent again in silence."""
    async with a_shell(tmp_path, latency_s=0.3) as shell:
        manifest = shell.creates(9)
        process = await shell.start("bulk", manifest, "--speed", str(SPEED), "--concurrency", "3")
        await until_sent(shell, 4)
        process.kill()
        await process.wait()

        resumed = await shell.run_at_speed("bulk", manifest, "--result-timeout", "4", "--json")
        assert resumed.code in {0, 4}, resumed.err
        assert max(shell.sent().values()) == 1
        doubtful = [line["name"] for line in resumed.lines if line.get("state") == "unknown"]
        assert {segment.name for segment in shell.segments} | set(doubtful) == {f"s{number}" for number in range(9)}
        assert (resumed.code == 4) == bool(doubtful)


async def test_an_interrupted_run_on_the_embedded_sandbox_cannot_go_on_and_says_so(shell: Shell) -> None:
    """Its segments are gone with it: going on would wait for callbacks that nobody sends."""
    command = ("bulk", str(EXAMPLES / "bulk.csv"), "--sandbox", "--speed", "60", "--journal", "sqlite:///demo.db")
    process = await shell.start(*command)
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        while b" waiting: " not in await process.stderr.readline():  # for the hour's eleventh operation
            pass
    process.send_signal(signal.SIGINT)
    interrupted = await ended(process)
    assert interrupted.code == 130, interrupted.err
    assert "run the same command again" not in interrupted.err
    assert "the sandbox is gone" in interrupted.err

    again = await shell.run(*command)
    assert again.code == 2, again.err
    assert "name another journal" in again.err
    assert again.out == ""


async def test_two_processes_share_a_run_without_sending_anything_twice(tmp_path: Path) -> None:
    """Started by mistake, or to be sure: one journal, one plan."""
    async with a_shell(tmp_path, latency_s=0.1) as shell:
        manifest = shell.creates(12)
        command = ("bulk", manifest, "--speed", str(SPEED), "--json")
        both = await asyncio.gather(*[shell.start(*command) for _ in range(2)])
        for result in await asyncio.gather(*[ended(process) for process in both]):
            assert result.code == 0, result.err
            assert len(result.lines) == 12 + 1
        assert shell.sent() == {("create", f"s{number}"): 1 for number in range(12)}
        run = result.lines[-1]["run"]
        assert len((await shell.run_at_speed("jobs", "--run", run, "--json")).document["jobs"]) == 12


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether the process has not taken the signal yet; False where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """Even while an answer is awaited."""
    async with a_shell(tmp_path) as shell:
        shell.sandbox.faults = Faults(slow=1, slow_s=(50, 50))
        process = await shell.start("archive", "s0", "--speed", str(SPEED))
        async with asyncio.timeout(PATIENCE_S):
            while not shell.sandbox.workspace.requests:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.3)
            while is_pending(process.pid, signal.SIGINT):  # or the second one would be the same
                await asyncio.sleep(0.01)
            assert process.returncode is None, "the first one waits for the answer"
            process.send_signal(signal.SIGINT)
            assert (await ended(process)).code == 130


async def test_a_terminal_that_closes_says_so_twice_and_the_answer_is_still_awaited(tmp_path: Path) -> None:
    """The shell tells its jobs, and the system tells everybody in the terminal: the second one is no impatience."""
    async with a_shell(tmp_path) as shell:
        shell.sandbox.faults = Faults(slow=1, slow_s=(2, 2))
        process = await shell.start("archive", "s0", "--speed", str(SPEED))
        async with asyncio.timeout(PATIENCE_S):
            while not shell.sandbox.workspace.requests:
                await asyncio.sleep(0.01)
            for _ in range(2):
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.2)
        result = await ended(process)
        assert result.code == 130, result.err
        assert "HTTP 404" in result.err, "the answer came"


async def test_under_nohup_a_hangup_is_nothing(shell: Shell) -> None:
    """The command was asked to go on without its terminal."""
    command = [sys.executable, "-m", "moe_segments", "quota", "--watch", "--json"]
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command),
        env=shell.environ,
        cwd=shell.directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        await process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        await process.stdout.readline()
        assert await process.stdout.readline(), "it goes on"
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


async def test_a_reader_that_goes_away_does_not_stop_the_run(shell: Shell) -> None:
    """`| head -1` is no error, and what was begun is finished."""
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moe_segments", "bulk", shell.creates(3), "--speed", str(SPEED), "--json"),
        env=shell.environ,
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"BrokenPipe" not in err
    assert len(shell.segments) == 3


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("jobs", "--help")])
async def test_help_that_nobody_reads_is_no_error_and_help_that_is_lost_is_one(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    """`| head -1` and a disk that is full, as for results."""
    for place, code in (("| true", 0), ("> /dev/full", 1)):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f'"$@" {place}; exit ${{PIPESTATUS[0]}}', "bash", sys.executable, "-m", "moe_segments"),
            *arguments,
            env=shell.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
        assert (process.returncode, b"Traceback" in err) == (code, False), err.decode()


async def test_a_log_that_is_followed_ends_when_its_reader_has_gone(shell: Shell) -> None:
    """With the next entry, and not never."""
    await shell.run("quota", "--spent-operations", "1")
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moe_segments", "journal", "log", "--follow"), env=shell.environ, stdout=writing
    )
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as reader:
        await asyncio.to_thread(reader.read, 1)
    await shell.run("quota", "--spent-operations", "1")
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == 0


@pytest.mark.parametrize("option", [("--since", "9" * 12 + "d"), ("--since", "9" * 5_000 + "s"), ("--limit", "9" * 30)])
async def test_more_than_there_is_is_all_of_it(shell: Shell, option: tuple[str, str]) -> None:
    """No number of an option is a traceback."""
    await shell.run_at_speed("archive", "s0")
    for more in ((), ("--json",)):
        listed = await shell.run_at_speed("jobs", *option, *more)
        assert (listed.code, "archive" in listed.out) == (0, True), listed.err


async def test_why_every_limit_is_full_is_said_for_as_long_as_it_is(shell: Shell) -> None:
    """The one who looks is seldom the one who was warned."""
    await shell.run("quota", "--spent-operations", "1")
    database = shell.directory / "quota.db"
    copy = database.read_bytes()
    await shell.run("quota", "--spent-operations", "1")
    database.write_bytes(copy)

    warned = await shell.run("quota")
    looked = await shell.run("quota", "--json")
    trusted = await shell.run("quota", "--trust", "--spent-operations", "2")
    assert "is taken to be full from now" in warned.err
    assert "in quarantine: the journal at" in looked.err
    assert looked.document["limits"]["operations_per_hour"]["remaining"] == 0
    assert "in quarantine" not in trusted.err


async def test_one_job_is_shown_without_what_chooses_among_many(shell: Shell) -> None:
    """The job would be shown whatever those options say."""
    job = (await shell.run_at_speed("archive", "s0", "--json")).document["job_id"]
    assert (await shell.run_at_speed("jobs", job)).code == 0
    refused = await shell.run_at_speed("jobs", job, "--state", "failed")
    assert (refused.code, refused.out) == (2, "")
    assert "leave the job out" in refused.err


async def test_what_waited_and_was_not_sent_is_not_called_sent(shell: Shell) -> None:
    """Whoever stops a command reads what it left behind."""
    await shell.run("quota", "--spent-operations", "10")
    archived = await shell.run("archive", "s0", "--max-wait", "inf")
    assert "next slot" not in archived.err, "it takes none, so it waits for none"
    process = await shell.start(*CREATE, "s0", "--file-url", shell.url, "--max-wait", "inf")
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        while b"next slot" not in await process.stderr.readline():
            pass
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stopped = await ended(process)
    assert stopped.code == 130, stopped.err
    assert "what was sent" not in stopped.err
    jobs = (await shell.run("jobs", "--json")).document["jobs"]
    assert [job["operation"]["op"] for job in jobs] == ["archive"]


@pytest.mark.parametrize(
    "arguments", [("quota",), ("quota", "--json"), ("bulk", "MANIFEST"), ("bulk", "MANIFEST", "--json")]
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is Linux's /dev/full")
async def test_results_that_cannot_be_written_are_told_and_the_run_goes_on(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    """A full disk is no success, and no reason to leave operations unsent."""
    manifest = shell.creates(3)
    code, err = await into("/dev/full", shell, *(manifest if one == "MANIFEST" else one for one in arguments))
    assert code == 1
    assert "moe-segments: standard output cannot be written: No space left on device" in err
    assert err.count("cannot be written") == 1
    assert "Traceback" not in err
    assert len(shell.segments) == (3 if "bulk" in arguments else 0)


@pytest.mark.parametrize("arguments", [("quota",), ("quota", "--json"), ("--help",), ("list",)])
async def test_an_output_that_is_closed_is_nobodys(shell: Shell, arguments: tuple[str, ...]) -> None:
    """As `>&-` has it: nothing that is opened takes its place."""
    code, err = await into("&-", shell, *arguments)
    assert (code, err) == (0, "")


async def into(where: str, shell: Shell, *arguments: str) -> tuple[int | None, str]:
    """A command whose standard output goes there; its exit code, and what it said besides."""
    speed = () if "--help" in arguments else ("--speed", str(SPEED))
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'exec "$@" >{where}', "sh", sys.executable, "-m", "moe_segments", *arguments, *speed),
        env=shell.environ,
        cwd=shell.directory,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    return process.returncode, err.decode()


# One operation


async def test_one_operation_is_followed_to_its_figures(shell: Shell) -> None:
    """With a receiver in the process."""
    create = (*CREATE, "diwali", "--file-url", shell.url, "--listen", "127.0.0.1:0")
    result = await shell.run_at_speed(*create)
    assert result.code == 0, result.err
    assert "3 found, 3 processed, 3 matched" in result.out
    named = ("create", "--name", "holi", "--attribute-name", "ID", "--expiry-time", "30", "--file-url", shell.url)
    assert (await shell.run_at_speed(*named)).code == 0, "a name may be an option, and text is the usual type"
    told = (await shell.run_at_speed("add-users", "diwali", *FIELDS, *create[len(CREATE) + 1 :], "--json")).document
    assert (told["op"], told["state"], told["found"]) == ("add", "processed", 3)


@pytest.mark.parametrize("command", ["add-users", "remove-users", "replace-users"])
async def test_every_update_reaches_the_service(shell: Shell, command: str) -> None:
    """On the segment that is named."""
    await shell.run_at_speed(*CREATE, "diwali", "--file-url", shell.url)
    result = await shell.run_at_speed(command, "diwali", *FIELDS, "--file-url", shell.url)
    assert result.code == 0, result.err
    assert shell.sent()[command.removesuffix("-users"), "diwali"] == 1


async def test_a_segment_is_archived_and_unarchived_and_listed(shell: Shell) -> None:
    """The commands without a file."""
    await shell.run_at_speed(*CREATE, "diwali", "--file-url", shell.url)
    assert (await shell.run_at_speed("archive", "diwali")).code == 0
    assert [segment.is_active for segment in shell.segments] == [False]
    assert (await shell.run_at_speed("unarchive", "diwali", "--json")).document["state"] == "accepted"
    assert [segment.is_active for segment in shell.segments] == [True]
    listed = (await shell.run_at_speed("list", "--name", "diwali", "--json")).document["segments"]
    assert [segment["name"] for segment in listed] == ["diwali"]
    assert "diwali" in (await shell.run_at_speed("list")).out


async def test_a_file_of_this_machine_is_published_by_the_embedded_sandbox(shell: Shell) -> None:
    """And matched against the users it is given."""
    (shell.directory / "known.csv").write_text("u-1\n")
    result = await shell.run(*CREATE, "diwali", "--file", "users.csv", "--sandbox", "--users", "known.csv")
    assert result.code == 0, result.err
    assert "3 found, 3 processed, 1 matched" in result.out


async def test_a_full_quota_ends_in_exit_code_3_and_says_until_when(shell: Shell) -> None:
    """Nothing is sent."""
    async with SegmentsClient(
        shell.sandbox.credentials, journal=shell.journal, limits=shell.sandbox.limits, base_url=shell.sandbox.url
    ) as client:
        await client.governor.record_external(operations=10)
    result = await shell.run_at_speed(*CREATE, "diwali", "--file-url", shell.url)
    assert result.code == 3
    assert "operations_per_hour: 10 of 10 used" in result.err
    assert not shell.sent()
    create = (*CREATE, "diwali", "--file-url", shell.url)
    waited = await shell.run_at_speed(*create, "--max-wait", "inf")
    assert waited.code == 0
    assert "operations_per_hour is full (10 of 10); next slot in" in waited.err


async def test_a_lost_answer_ends_in_exit_code_4(shell: Shell) -> None:
    """With the job to look for."""
    await shell.run_at_speed(*CREATE, "diwali", "--file-url", shell.url)
    before = len(shell.sandbox.workspace.requests)
    add = shell.run_at_speed("add-users", "diwali", *FIELDS, "--file-url", shell.url, "--json")
    running = asyncio.ensure_future(add)
    while len(shell.sandbox.workspace.requests) == before:  # the read that proves the key
        await asyncio.sleep(0.001)
    shell.sandbox.fail_next(FaultKind.LOSE_ANSWER)
    result = await running
    assert result.code == 4
    assert result.document["state"] == "unknown"
    assert "the outcome is unknown" in result.err
    assert shell.sent()["add", "diwali"] == 1


async def test_a_failed_file_ends_in_exit_code_1(shell: Shell) -> None:
    """With the service's words."""
    shell.sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    create = (*CREATE, "diwali", "--file-url", shell.url, "--listen", "127.0.0.1:0")
    result = await shell.run_at_speed(*create)
    assert result.code == 1
    assert "processing failed with 500" in result.err


async def test_a_callback_that_cannot_be_read_ends_in_exit_code_4_and_is_shown(shell: Shell) -> None:
    """With its job, and what came."""
    shell.sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
    create = (*CREATE, "diwali", "--file-url", shell.url, "--listen", "127.0.0.1:0", "--json")
    result = await shell.run_at_speed(*create)
    assert result.code == 4
    assert result.document["state"] == "unreadable"
    assert "a callback came that cannot be read (not JSON @ $)" in result.err

    job_id, raw = result.document["job_id"], shell.sandbox.workspace.deliveries[-1].body.decode()
    told = (await shell.run_at_speed("jobs", job_id, "--json")).document
    assert (told["state"], told["unreadable"]) == ("unreadable", {"reason": "not JSON @ $", "raw": raw})
    listed, shown = (await shell.run_at_speed("jobs")).out, (await shell.run_at_speed("jobs", job_id)).out
    assert "unreadable" in listed
    assert "not JSON @ $" in listed
    assert raw.splitlines()[0] in shown
    logged = (await shell.run("journal", "log", shell.journal)).out
    assert f"{job_id}: unreadable: not JSON @ $" in logged


# Looking


async def test_quota_shows_what_is_used_and_when_it_is_free(shell: Shell) -> None:
    """As bars, and as one document."""
    await shell.run_at_speed(*CREATE, "diwali", "--file-url", shell.url)
    drawn = await shell.run_at_speed("quota")
    assert "operations in the hour" in drawn.out
    assert "█" in drawn.out
    limits = (await shell.run_at_speed("quota", "--json")).document["limits"]
    calls = {f"{call}_per_{unit}" for call in ("list", "get") for unit in ("minute", "hour", "day")}
    assert set(limits) == {"operations_per_hour", "operations_per_day", "users_per_day", "active_segments"} | calls
    assert limits["operations_per_day"]["used"] == 1
    assert limits["operations_per_day"]["next_release"]


async def test_the_journal_is_told_what_others_spent(shell: Shell) -> None:
    """A colleague used the dashboard; a journal was lost and its quarantine is ended with what is known."""
    told = await shell.run_at_speed("quota", "--json", "--spent-operations", "4", "--spent-rows", "70", "--active", "9")
    limits = told.document["limits"]
    assert [limits[name]["used"] for name in ("operations_per_hour", "users_per_day", "active_segments")] == [4, 70, 9]
    (shell.directory / "quota.db").unlink()
    lost = (await shell.run_at_speed("quota", "--json")).document["limits"]
    assert lost["operations_per_day"]["closed_until"]
    trusted = (await shell.run_at_speed("quota", "--json", "--trust", "--spent-operations", "2")).document["limits"]
    assert not trusted["operations_per_day"]["closed_until"]
    assert trusted["operations_per_day"]["used"] == 2
    assert (await shell.run_at_speed("quota", "--spent-operations", "-1")).code == 2


async def test_watching_the_quota_ends_with_ctrl_c(shell: Shell) -> None:
    """Which is the way to end it, so exit code 0."""
    process = await shell.start("quota", "--watch", "--json", "--speed", str(SPEED))
    assert process.stdout is not None
    for _ in range(2):
        assert "limits" in json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S))
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).code == 0


async def test_jobs_are_listed_and_shown(shell: Shell) -> None:
    """All, those of a run, or one with everything that is known of it."""
    await shell.run_at_speed("archive", "nothing")
    report = (await shell.run_at_speed("bulk", shell.creates(2), "--json")).lines[-1]
    run = str(report["run"])
    everything = (await shell.run_at_speed("jobs", "--json")).document["jobs"]
    of_run = (await shell.run_at_speed("jobs", "--run", run, "--json")).document["jobs"]
    assert [job["job_id"] for job in of_run] == [f"{run}.2", f"{run}.3"]
    assert len(everything) == 3
    one = await shell.run_at_speed("jobs", f"{run}.2", "--json")
    assert one.document["operation"] == of_run[0]["operation"]
    assert (await shell.run_at_speed("jobs", f"{run}.2")).out.startswith(f"job_id     {run}.2")
    assert "HTTP 404" in (await shell.run_at_speed("jobs")).out
    for unknown in (("jobs", "nobody"), ("jobs", "--run", "nothing")):
        assert (await shell.run_at_speed(*unknown)).code == 2


async def test_a_plan_says_when_each_line_can_start_and_sends_nothing(shell: Shell) -> None:
    """What has been sent is left out; what can never start ends in exit code 3."""
    manifest = shell.creates(12)
    before = (await shell.run_at_speed("plan", manifest, "--json")).document["operations"]
    assert [operation["limit"] for operation in before] == [None] * 10 + ["operations_per_hour"] * 2
    assert before[11]["wait_s"] > 5
    assert not shell.sent()
    assert "operations_per_hour" in (await shell.run_at_speed("plan", manifest)).out
    await shell.run_at_speed("bulk", manifest)
    assert (await shell.run_at_speed("plan", manifest, "--json")).document["operations"] == []
    path = shell.directory / "large.csv"
    path.write_text(f"{HEADER.strip()},rows\ncreate,a,ID,string,{shell.url},30,3000000\n")
    assert (await shell.run_at_speed("plan", str(path))).code == 3


# Serving


async def test_a_receiver_of_its_own_hears_callbacks_for_a_run_elsewhere(shell: Shell) -> None:
    """Through the journal, and without an API key."""
    receiver = await shell.start("receive", "--port", "0", "--json", "--speed", str(SPEED), MOE_API_KEY="")
    assert receiver.stdout is not None
    told = json.loads(await asyncio.wait_for(receiver.stdout.readuntil(b"}\n"), PATIENCE_S))
    result = await shell.run_at_speed("bulk", shell.creates(2), MOE_CALLBACK_URL=told["public_url"])
    assert result.code == 0, result.err
    assert "2 processed" in result.err
    receiver.send_signal(signal.SIGTERM)
    assert (await ended(receiver)).code == 0


async def test_the_sandbox_command_says_all_that_the_other_commands_need(shell: Shell) -> None:
    """Its environment is enough."""
    sandbox = await shell.start("sandbox", "--speed", str(SPEED), "--json")
    assert sandbox.stdout is not None
    told = json.loads(await asyncio.wait_for(sandbox.stdout.readuntil(b"}\n}\n"), PATIENCE_S))
    result = await shell.run_at_speed(*CREATE, "x", "--file-url", shell.url, **told["environment"])
    assert result.code == 0, result.err
    assert not shell.sent()
    sandbox.send_signal(signal.SIGINT)
    assert (await ended(sandbox)).code == 0


# Bad input


async def test_a_watch_ends_when_nobody_reads_it_any_more(shell: Shell) -> None:
    """As `quota --watch --json | head -1` has it."""
    watching = await shell.start("quota", "--watch", "--json", "--speed", str(SPEED))
    assert watching.stdout is not None
    assert b"operations_per_hour" in await watching.stdout.readline()
    watching.stdout._transport.close()  # type: ignore[attr-defined]  # as a reader that ends does
    assert await asyncio.wait_for(watching.wait(), 20) == 0


async def test_a_wrong_key_spends_no_operation(shell: Shell) -> None:
    """One operation or a whole manifest: exit code 2 after one read."""
    shell.environ["MOE_API_KEY"] = KEY
    create = (*CREATE, "diwali", "--file-url", shell.url)
    for arguments in (create, ("bulk", shell.creates(3))):
        before = len(shell.sandbox.workspace.requests)
        result = await shell.run_at_speed(*arguments)
        assert result.code == 2, result.err
        assert "HTTP 401" in result.err
        assert len(shell.sandbox.workspace.requests) == before + 1
    assert not shell.sent()
    usage = await shell.run_at_speed("quota", "--json")
    assert json.loads(usage.out)["limits"]["operations_per_hour"]["used"] == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (("list",), {"MOE_API_KEY": ""}, "MOE_API_KEY: is empty, which is as good as not set"),
        (("quota",), {"MOE_DATA_CENTER": "99"}, "MOE_DATA_CENTER: '99' is no data center"),
        (("quota",), {"MOE_BASE_URL": "http://example.com"}, "MOE_BASE_URL: must begin with https"),
        (("quota", "--speed", "5"), {"MOE_BASE_URL": ""}, "--speed: goes with --sandbox"),
        (("quota", "--speed", "0"), {}, "--speed: must be a positive number"),
        (("quota", "--users", "x.csv"), {}, "--users: goes with --sandbox"),
        (("quota", "--journal", "sqlite:////proc/nothing/x.db"), {}, "the journal /proc/nothing/x.db"),
        (("quota", "--journal", "mysql://localhost"), {}, "no journal engine for a 'mysql' URL"),
        (("quota", "--journal", "sqlite://x.db"), {}, "three slashes"),
        (("quota", "--sandbox", "--users", "nothing.csv"), {}, "users: the file cannot be read"),
        (("bulk", "nothing.csv"), {}, "the manifest cannot be read"),
        ((*CREATE, "a|b", "--file-url", "https://x.in/y"), {}, "name: must not contain |"),
        ((*CREATE, "a", "--file-url", "x"), {}, "--file-url: must begin with https"),
        ((*CREATE, "a"), {}, "give exactly one of --file-url and --file"),
        ((*CREATE, "a", "--file", "users.csv"), {}, "--file: the service cannot read"),
        ((*CREATE, "a", "--file-url", "https://x.in/y", "--listen", "8080"), {}, "--listen: must be HOST:PORT"),
        ((*CREATE, "a", "--file", "users.csv", "--sandbox", "--listen", "[::1]:0"), {}, "brings its own receiver"),
        ((*CREATE, "a", "--file-url", "https://x.in/y", "--max-wait", "-5"), {}, "--max-wait: must be seconds from 0"),
        ((*CREATE, "a", "--file-url", "https://x.in/y", "--result-timeout", "-1"), {}, "--result-timeout: must be"),
        (("list", "--max-wait", "nan"), {}, "--max-wait: must be seconds from 0, or inf"),
        (("quota", "--spent-operations", "-1", "--journal", "memory:", "--sandbox"), {}, "--spent-operations: must be"),
        (("quota", "--active", "-1", "--journal", "memory:", "--sandbox"), {}, "--active: must be a whole number"),
        (("sandbox", "--port", "70000"), {}, "--port: must be from 0 to 65535, not 70000"),
        (("receive", "--sandbox"), {}, "brings its own receiver"),
        (("receive", "--host", "0.0.0.0"), {}, "--host: an address that is not on this machine needs --public-url"),
        (("receive", "--public-url", "http://example.com"), {}, "must begin with https"),
    ],
)
async def test_bad_input_is_one_paragraph_and_exit_code_2(
    shell: Shell, arguments: tuple[str, ...], variables: dict[str, str], told: str
) -> None:
    """It says what to do; nothing is sent, nothing is on standard output."""
    result = await shell.run(*arguments, **variables)
    assert result.code == 2, result.err
    assert told in result.err
    assert result.out == ""
    assert len(result.err.strip().splitlines()) == 1
    assert not shell.sent()


@pytest.mark.parametrize(
    "arguments",
    [
        (*CREATE, "a", "--file", "users.csv"),
        (*CREATE, "a", "--file", "nothing.csv", "--publish", "s3://bucket"),
        (*CREATE, "a", "--file-url", "https://x.in/y", "--callback-url", "x"),
        (*CREATE, "a", "--file-url", "https://x.in/y", "--listen", "127.0.0.1:99999"),
        (*CREATE, "a", "--file-url", "https://x.in/y", "--max-wait", "-1"),
        ("bulk", str(EXAMPLES / "bulk.csv")),
        ("bulk", str(EXAMPLES / "bulk.csv"), "--concurrency", "0"),
        ("quota", "--spent-operations", "-1"),
        ("quota", "--active", "-1"),
        ("list", "--max-wait", "-1"),
        ("receive", "--port", "99999"),
    ],
)
async def test_what_cannot_work_makes_no_journal(shell: Shell, arguments: tuple[str, ...]) -> None:
    """Arguments are looked at before anything is made."""
    before = set(shell.directory.rglob("*"))
    result = await shell.run(*arguments)
    assert result.code == 2, result.err
    assert set(shell.directory.rglob("*")) == before


@pytest.mark.parametrize("option", ["--concurrency", "--result-timeout"])
async def test_a_run_with_a_wrong_option_is_not_begun(shell: Shell, option: str) -> None:
    """Its plan is not written either."""
    result = await shell.run_at_speed("bulk", shell.creates(2), f"{option}=-1")
    assert result.code == 2
    assert f"{option}: must be" in result.err
    assert (await shell.run_at_speed("jobs", "--json")).document["jobs"] == []


async def test_a_segment_that_is_not_there_is_told_without_a_status_of_success(shell: Shell) -> None:
    """The service answers 200 with an empty list."""
    assert "moe-segments: Not Found: the service lists no segment" in (await shell.run_at_speed("get", "a1")).err


async def test_a_table_that_is_piped_has_no_blanks_at_its_ends(shell: Shell) -> None:
    """Nor does its last column fill a terminal that is none."""
    out = (await shell.run_at_speed("quota")).out
    assert all(line == line.rstrip() for line in out.splitlines())


async def test_a_callback_url_that_is_not_reachable_is_bad_input(shell: Shell) -> None:
    """A result nobody hears of is found out before anything is sent; whoever knows better says --unchecked."""
    with socket.create_server(("127.0.0.1", 0)) as closing:
        nobody = f"http://127.0.0.1:{closing.getsockname()[1]}/moe"
    create = (*CREATE, "diwali", "--file-url", shell.url, "--result-timeout", "0.1")
    for url in (nobody, f"{shell.sandbox.url}/v2"):
        result = await shell.run_at_speed(*create, "--callback-url", url)
        assert result.code == 2
        assert f"--callback-url: no receiver is reached at {url}" in result.err
    assert not shell.sent()
    result = await shell.run_at_speed(*create, "--callback-url", nobody, "--unchecked")
    assert result.code == 4
    assert "no callback within" in result.err


async def test_a_port_in_use_is_bad_input(shell: Shell) -> None:
    """For each of the servers."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments in (
            ("receive", "--port", port),
            ("sandbox", "--port", port),
            ("bulk", shell.creates(1), "--listen", f"127.0.0.1:{port}"),
        ):
            result = await shell.run(*arguments)
            assert result.code == 2, result.err
            assert port in result.err
    assert not shell.sent()


@pytest.mark.parametrize("arguments", [("--port", "99999"), ("--port", "-1"), ("--host", "no.such.host.invalid")])
async def test_a_receiver_at_a_wrong_address_leaves_nothing_behind(shell: Shell, arguments: tuple[str, str]) -> None:
    """It is refused before the journal is made."""
    result = await shell.run("receive", "--public-url", "https://hooks.example.com/moe", *arguments)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1
    assert [path.name for path in shell.directory.iterdir()] == ["users.csv"]


async def test_a_damaged_journal_is_bad_input(shell: Shell) -> None:
    """It says what to do, and the file is left as it is."""
    (shell.directory / "quota.db").write_bytes(b"no database" * 1_000)
    result = await shell.run_at_speed("bulk", shell.creates(1))
    assert result.code == 2
    assert "quota.db" in result.err
    assert not shell.sent()
    assert (shell.directory / "quota.db").read_bytes() == b"no database" * 1_000


async def test_output_fits_a_terminal_that_knows_only_ascii(shell: Shell) -> None:
    """Nothing breaks, and JSON stays JSON."""
    await shell.run_at_speed("archive", "café")
    assert "....." in (await shell.run_at_speed("quota", PYTHONIOENCODING="ascii")).out
    listed = await shell.run_at_speed("jobs", PYTHONIOENCODING="ascii")
    assert "caf\\xe9" in listed.out
    (job,) = (await shell.run_at_speed("jobs", "--json", PYTHONIOENCODING="ascii")).document["jobs"]
    assert job["operation"]["name"] == "café"


async def test_a_journal_of_other_windows_is_refused(shell: Shell) -> None:
    """Rather than counted wrong."""
    await shell.run_at_speed("quota")
    result = await shell.run("quota", "--speed", "60")
    assert result.code == 2
    assert "use the same (--speed" in result.err


@pytest.mark.parametrize("arguments", [("blk",), ("bulk",), ("quota", "--speed", "fast"), ("create", "a")])
async def test_a_command_line_that_does_not_parse_ends_in_exit_code_2(shell: Shell, arguments: tuple[str, ...]) -> None:
    """And standard output stays empty."""
    result = await shell.run(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err


# The front door


async def python(*arguments: str) -> Ended:
    """Run Python."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    return await ended(process)


async def test_help_answers_without_the_modules_that_do_the_work() -> None:
    """It names every command, and imports no network, no server and no journal beyond what the package itself does."""
    result = await python(
        "-c",
        "import sys\n"
        "import moe_segments\n"
        "before = set(sys.modules)\n"
        "from moe_segments.__main__ import main\n"
        "sys.argv = ['moe-segments', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'aiohttp', 'aiohttp.web', 'sqlite3', 'moe_segments.sandbox', 'moe_segments.client'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)), file=sys.stderr)\n",
    )
    assert result.code == 0
    for command in (
        "create", "add-users", "remove-users", "replace-users", "archive", "unarchive", "list", "bulk", "plan", "quota",
        "jobs", "dashboard", "receive", "sandbox",
    ):  # fmt: skip
        assert f" {command} " in result.out
    assert result.err.strip() == "[]"


async def test_without_its_extra_the_command_says_how_to_get_it() -> None:
    """One paragraph, exit code 2."""
    result = await python(
        "-c", "import sys\nsys.modules['cyclopts'] = None\nfrom moe_segments.__main__ import main\nmain()\n"
    )
    assert result.code == 2
    assert "pip install 'moe-segments[cli]'" in result.err


async def test_the_example_of_the_library_runs_as_written() -> None:
    """On the embedded sandbox."""
    result = await python(str(EXAMPLES / "first_segment.py"))
    assert result.code == 0, result.err
    assert result.out == "36 found, 36 processed, 36 matched\n"


# Segments of filters


FILTER: Final = {
    "filter_type": "user_attributes",
    "name": "city",
    "data_type": "string",
    "operator": "in",
    "value": ["Pune"],
}


async def test_a_filter_segment_is_created_looked_at_and_updated(shell: Shell) -> None:
    """From a file, whatever form its JSON has, and from standard input."""
    payload = {"name": "from_file", "included_filters": {"filter_operator": "and", "filters": [FILTER]}, "team": "x"}
    (shell.directory / "payload.json").write_text(json.dumps(payload))
    (shell.directory / "filter.json").write_text(json.dumps(FILTER | {"value": ["Delhi"]}))
    (shell.directory / "list.json").write_text(json.dumps([FILTER | {"value": ["Goa"]}]))
    made = await shell.run_at_speed("create-filter", "--filters", "payload.json", "--json")
    assert made.code == 0, made.err
    assert made.document["name"] == "from_file"
    assert made.document["included_filters"] == payload["included_filters"]
    cs_id = made.document["id"]
    told = await shell.run_at_speed("create-filter", "delhi", "--filters", "filter.json")
    assert told.code == 0, told.err
    assert "delhi" in told.out
    assert '"Delhi"' in told.out
    assert told.out.startswith("name ")
    updated = await shell.run_at_speed(
        "update-filter", cs_id, "--filters", "list.json", "--name", "goa", "--updated-by", "a@example.com", "--json"
    )
    assert updated.code == 0, updated.err
    assert (updated.document["id"], updated.document["name"]) == (cs_id, "goa")
    got = await shell.run_at_speed("get", cs_id, "--json")
    assert got.document["name"] == "goa"
    got = await shell.run_at_speed("get", cs_id)
    assert "goa" in got.out
    assert got.out.startswith("name ")
    listed = await shell.run_at_speed("list", "--json")
    assert {one["name"] for one in listed.document["segments"]} == {"goa", "delhi"}
    jobs = await shell.run_at_speed("jobs", "--json")
    assert [job["operation"]["op"] for job in jobs.document["jobs"]] == [
        "create_filter",
        "create_filter",
        "update_filter",
    ]
    assert "update_filter" in (await shell.run_at_speed("jobs")).out


async def test_filters_come_from_standard_input(shell: Shell) -> None:
    """As the dashboard's payload is copied; a group alone is enough."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "moe_segments", "create-filter", "piped", "--filters", "-", "--json", "--speed", str(SPEED)),
        env=shell.environ,
        cwd=shell.directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(json.dumps({"filter_operator": "or", "filters": [FILTER]}).encode())
    assert process.returncode == 0, err
    assert json.loads(out)["included_filters"]["filter_operator"] == "or"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ('[\n{"a" 1}]', "filters.json: not JSON, line 2, column 6"),
        ('[\n{"a": 1,}]', "filters.json: not JSON, line 2, column "),  # of the comma, or after it before Python 3.13
        ("5", "holds no filters"),
        ('{"a": 1}', "holds no filters"),
        ("[]", "at least one filter"),
        (json.dumps(FILTER), "name"),
    ],
)
async def test_filters_that_cannot_be_used_are_bad_input(shell: Shell, text: str | None, problem: str) -> None:
    """Exit code 2 and a sentence; nothing is sent."""
    if text is not None:
        (shell.directory / "filters.json").write_text(text)
    name = () if problem == "name" else ("n",)
    result = await shell.run_at_speed("create-filter", *name, "--filters", "filters.json")
    assert (result.code, result.out) == (2, "")
    assert problem in result.err
    assert shell.sandbox.workspace.requests == ()


async def test_a_conflict_and_an_unknown_segment_are_told(shell: Shell) -> None:
    """Exit code 1, with what is in the way."""
    (shell.directory / "filter.json").write_text(json.dumps(FILTER))
    await shell.run_at_speed("create-filter", "first", "--filters", "filter.json")
    again = await shell.run_at_speed("create-filter", "second", "--filters", "filter.json")
    assert again.code == 1
    assert "in the way is 'first' (" in again.err
    missing = await shell.run_at_speed("get", "64f0c1d2e3a4b5c6d7e8f901")
    assert (missing.code, missing.out) == (1, "")
