"""`sync` and `audiences` as a user meets them: processes, exit codes, and what is printed."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from moe_segments import Audience, InputError, read_audiences
from tests.live.test_cli import EXAMPLES, Ended, Shell, a_shell, ended
from tests.screens import on_terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

LISTENING = ("--listen", "127.0.0.1:0")
HEAD = 'attribute_name = "ID"\nattribute_type = "string"\nexpiry_time = 30\n'
KILLS = 6


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


def audiences(shell: Shell, **sources: str) -> str:
    """Write a file of audiences; the rest of each is the same."""
    path = shell.directory / "audiences.toml"
    path.write_text("".join(f'[[audience]]\nname = "{name}"\n{HEAD}{lines}\n' for name, lines in sources.items()))
    return str(path)


async def synced(shell: Shell, *arguments: str) -> Ended:
    """Sync with files published by the sandbox's own store."""
    sandbox = shell.sandbox
    return await shell.run_at_speed("sync", *arguments, "--publish", sandbox.files_url, *LISTENING)


def members(shell: Shell, name: str) -> set[str]:
    return next(segment.members for segment in shell.segments if segment.name == name)


def printing(*values: str, code: int = 0) -> str:
    """Return the line of a command that prints values and ends with a code."""
    script = "; ".join([*(f"print('{value}')" for value in values), f"raise SystemExit({code})"])
    return f'command = ["{sys.executable}", "-c", "{script}"]'


async def test_the_second_time_only_differences_are_sent(shell: Shell) -> None:
    path = audiences(shell, vip='file = "users.csv"', lapsed=printing("u-7", "u-8"))
    first = await synced(shell, path, "--json")
    assert first.code == 0, first.err
    assert [one["operations"] for one in first.document["audiences"]] == [["create"], ["create"]]
    (shell.directory / "users.csv").write_text("u-1\nu-2\nu-3\nu-4\n")
    dry = await synced(shell, path, "--dry-run", "--json")
    assert [(one["operations"], one["users"]) for one in dry.document["audiences"]] == [(["add"], 1), ([], 0)]
    second = await synced(shell, path)
    assert second.code == 0, second.err
    assert "add" in second.out
    assert "unchanged" in second.out
    assert (members(shell, "vip"), members(shell, "lapsed")) == ({"u-1", "u-2", "u-3", "u-4"}, {"u-7", "u-8"})
    assert shell.sent() == {("create", "vip"): 1, ("create", "lapsed"): 1, ("add", "vip"): 1}


async def test_what_is_known_is_listed_and_forgotten(shell: Shell) -> None:
    path = audiences(shell, vip='file = "users.csv"')
    await synced(shell, path)
    (known,) = (await shell.run_at_speed("audiences", "--json")).document["audiences"]
    assert (known["name"], known["size"], known["is_known"], known["last"]["matched"]) == ("vip", 3, True, 3)
    assert "100.0%" in (await shell.run_at_speed("audiences")).out
    assert "vip: its members are unknown now" in (await shell.run_at_speed("audiences", "forget", "vip")).err
    for name in ("vip", "unheard-of"):  # the second time there is nothing
        unheard_of = await shell.run_at_speed("audiences", "forget", name)
        assert (unheard_of.code, unheard_of.out) == (0, "")
        assert f"{name}: nothing is stored" in unheard_of.err
    (known,) = (await shell.run_at_speed("audiences", "--json")).document["audiences"]
    assert known["is_known"] is False
    assert [path for path in shell.directory.glob("quota.db.snapshots/*/*/*") if path.is_file()] == []
    assert (await synced(shell, path, "--json")).document["audiences"][0]["operations"] == ["replace"]


async def test_forgetting_deletes_what_a_lost_journal_left(shell: Shell) -> None:
    """Who erases does not have to know which journal the snapshots came from, and hears no error where nothing is."""
    await synced(shell, audiences(shell, vip='file = "users.csv"'))
    for path in shell.directory.glob("quota.db*"):
        if path.is_file():
            path.unlink()
    assert [path for path in shell.directory.glob("quota.db.snapshots/*/*/*") if path.is_file()]
    forgotten = await shell.run_at_speed("audiences", "forget", "vip")
    assert forgotten.code == 0, forgotten.err
    assert "its snapshots" in forgotten.err
    assert [path for path in shell.directory.glob("quota.db.snapshots/*/*/*") if path.is_file()] == []


async def test_a_segment_that_is_archived_costs_one_operation_until_it_is_unarchived(shell: Shell) -> None:
    path = audiences(shell, vip='file = "users.csv"')
    await synced(shell, path)
    assert (await shell.run_at_speed("archive", "vip")).code == 0
    refused = [await synced(shell, path) for _ in range(3)]
    assert [one.code for one in refused] == [1, 2, 2]
    assert "moe-segments unarchive vip" in refused[-1].out
    assert shell.sent()["replace", "vip"] == 1
    listed = await shell.run_at_speed("audiences")
    assert "gone" in listed.out
    assert "vip: the service refused the last operation" in listed.err
    assert (await shell.run_at_speed("unarchive", "vip")).code == 0
    assert (await synced(shell, path)).code == 0
    (known,) = (await shell.run_at_speed("audiences", "--json")).document["audiences"]
    assert (known["is_known"], known["refusal"]) == (True, None)


async def test_a_command_that_fails_sends_nothing_and_stops_no_other(shell: Shell) -> None:
    path = audiences(shell, bad=printing("u-1", code=3), good=printing("u-2"))
    result = await synced(shell, path, "--json")
    assert result.code == 2
    bad, good = result.document["audiences"]
    assert (bad["status"], good["status"]) == ("refused", "synced")
    assert "ended with exit code 3" in bad["error"]
    assert shell.sent() == {("create", "good"): 1}


async def test_a_command_whose_line_does_not_end_is_ended(shell: Shell) -> None:
    path = audiences(shell, endless='command = ["cat", "/dev/zero"]', good=printing("u-2"))
    result = await synced(shell, path, "--json")
    assert result.code == 2
    assert "gives a line without an end" in result.document["audiences"][0]["error"]
    assert shell.sent() == {("create", "good"): 1}


async def test_only_the_named_audiences_are_synced(shell: Shell) -> None:
    path = audiences(shell, one=printing("u-1"), two=printing("u-2"))
    assert (await synced(shell, path, "--only", "two")).code == 0
    assert shell.sent() == {("create", "two"): 1}
    result = await synced(shell, path, "--only", "three")
    assert (result.code, "it has one, two" in result.err) == (2, True)


# The sandbox that is found again


def documented() -> tuple[str, ...]:
    """The command that the page says to type twice."""
    page = (EXAMPLES.parent / "docs" / "audiences.md").read_text("utf-8")
    (command,) = set(re.findall(r"^moe-segments (sync examples/audiences\.toml --sandbox .*)$", page, re.MULTILINE))
    return tuple(command.split())


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def clone(shell: Shell) -> Path:
    """A fresh clone, and a home of its own; what the environment says of a service does not matter."""
    shutil.copytree(EXAMPLES, shell.directory / "examples")
    return shell.directory / ".local" / "state" / "moe_segments" / "sandbox" / "speed-600"


async def test_the_example_typed_twice_sends_only_differences_the_second_time(shell: Shell, clone: Path) -> None:
    """As the page says it, from a fresh clone: the table shows it, and nothing is left in the clone."""
    first = await shell.run(*documented())
    begun = int(time.time())
    while int(time.time()) == begun:  # the visitors are others with every second
        await asyncio.sleep(0.05)
    second = await shell.run(*documented())
    assert (first.code, second.code) == (0, 0), first.err + second.err
    rows = [[line.split() for line in each.out.splitlines()[1:]] for each in (first, second)]
    assert [row[:3] for row in rows[0]] == [["sync_vip", "synced", "create"], ["sync_visitors", "synced", "create"]]
    assert rows[1][0][:3] == ["sync_vip", "unchanged", "nothing"]
    assert rows[1][1][:5] == ["sync_visitors", "synced", "add", "+", "remove"]
    added, removed, unchanged = (int(figure) for figure in rows[1][1][5:8])
    assert (added, unchanged) == (removed, 601 - added)
    assert 0 < added < 300
    assert f"the sandbox is kept in {clone}" in first.err
    assert names_in(shell.directory) == {"examples", ".local", "users.csv"}
    known = (await shell.run("audiences", *documented()[2:], "--json")).document["audiences"]
    assert [(one["name"], one["size"], one["is_known"]) for one in known] == [
        ("sync_vip", len((EXAMPLES / "users.csv").read_text().split()), True),
        ("sync_visitors", 601, True),
    ]
    shutil.rmtree(clone)
    again = await shell.run(*documented(), "--json")
    assert [one["operations"] for one in again.document["audiences"]] == [["create"], ["create"]]


async def test_a_sandbox_whose_segments_have_expired_begins_anew(shell: Shell, clone: Path) -> None:
    """At its speed thirty days are soon over, and a name that was used is used up."""
    await shell.run(*documented())
    memory = json.loads((clone / "sandbox.json").read_text())
    for segment in memory["segments.1"]:
        segment["expires_at"] = segment["created_at"] + 0.001
    (clone / "sandbox.json").write_text(json.dumps(memory))
    again = await shell.run(*documented(), "--json")
    assert again.code == 0, again.err
    assert "the segments of the sandbox have expired: it begins anew" in again.err
    assert [one["operations"] for one in again.document["audiences"]] == [["create"], ["create"]]


async def test_the_sandbox_is_kept_beside_a_named_journal(shell: Shell, clone: Path) -> None:
    command = (*documented(), "--only", "sync_vip", "--journal", "demo.db", "--json")
    results = [await shell.run(*command) for _ in range(2)]
    assert [one.document["audiences"][0]["status"] for one in results] == ["synced", "unchanged"]
    assert {"demo.db", "demo.db.sandbox"} <= names_in(shell.directory)
    assert ".local" not in names_in(shell.directory)


async def test_the_sandbox_has_snapshots_of_its_own(shell: Shell, clone: Path) -> None:
    """Those of the real service, wherever the environment says they are, are neither read nor written."""
    result = await shell.run(*documented(), "--only", "sync_vip", MOE_SNAPSHOTS=str(shell.directory / "real"))
    assert result.code == 0, result.err
    assert "real" not in names_in(shell.directory)
    assert "quota.db.snapshots" in names_in(clone)


async def test_two_commands_on_one_sandbox_do_not_mix(shell: Shell, clone: Path) -> None:
    """The second one is told what to do; the first goes on."""
    await shell.run(*documented())
    slow = shell.directory / "slow.toml"
    slow.write_text(f'[[audience]]\nname = "slow"\n{HEAD}command = ["sh", "-c", "sleep 600; echo u-1"]\n')
    first = await shell.start("sync", "slow.toml", *documented()[2:])
    assert first.stderr is not None
    while b"1 audience of slow.toml" not in await first.stderr.readline():
        pass
    second = await shell.run(*documented())
    assert second.code == 2
    assert f"wait for the command that uses it, name a journal, or delete {clone} to begin anew" in second.err
    first.terminate()
    await first.communicate()
    assert first.returncode == 130
    assert (await shell.run(*documented())).code == 0


async def test_without_a_home_the_sandbox_ends_with_its_command(shell: Shell, clone: Path) -> None:
    result = await shell.run(*documented(), "--json", HOME=str(shell.directory / "users.csv"))
    assert result.code == 0, result.err
    assert "the sandbox ends with this command" in result.err


# Progress, and what fits a terminal


async def test_progress_is_drawn_on_a_terminal_and_nowhere_else(shell: Shell, clone: Path) -> None:
    on_screen = await on_terminal(shell.environ, shell.directory, "-m", "moe_segments", *documented())
    assert on_screen.code == 0
    assert "2/2" in "".join(on_screen.lines)
    assert "reading and comparing" in on_screen.raw
    piped = await shell.run(*documented(), "--json")
    assert set(piped.document) == {"ok", "audiences"}
    assert "\u2501" not in piped.err + piped.out
    assert "\x1b" not in piped.err + piped.out


async def test_a_problem_is_whole_on_a_terminal_of_eighty_columns(shell: Shell, clone: Path) -> None:
    """Under the table, which has the figures: nothing that helps is cut."""
    long = "f" * 60
    (shell.directory / "bad.toml").write_text(
        f'[[audience]]\nname = "of_a_file_that_is_not_there"\n{HEAD}file = "{long}.csv"\n'
        f'[[audience]]\nname = "vip"\n{HEAD}file = "users.csv"\n'
    )
    for more in ((), ("--dry-run",)):
        command = ("sync", "bad.toml", *documented()[2:], *more)
        shown = await on_terminal(shell.environ, shell.directory, "-m", "moe_segments", *command)
        text = " ".join(" ".join(shown.lines).split())
        assert shown.code == 2
        assert f"of_a_file_that_is_not_there: {long}.csv: cannot be read: No such file or directory" in text
        header = next(line for line in shown.lines if line.startswith("segment"))
        assert {"added", "removed", "unchanged"} <= set(header.split())


async def test_what_is_known_fits_eighty_columns(shell: Shell, clone: Path) -> None:
    await shell.run(*documented())
    command = ("-m", "moe_segments", "audiences", *documented()[2:])
    shown = await on_terminal({**shell.environ, "TZ": "IST-5:30"}, shell.directory, *command, is_err_piped=True)
    header, vip, visitors = shown.lines
    assert re.split(r"  +", header) == [
        *("segment", "members", "known", "last sync", "match rate", "next full replace")
    ]
    assert re.search(r"601  yes +\S+ IST +100\.0%  (\d\d-\d\d )?\S+ IST$", visitors), visitors
    assert vip.endswith("100.0%"), "it is never replaced by the calendar"


async def test_a_sync_that_cannot_publish_is_refused_before_its_sources_are_read(shell: Shell) -> None:
    path = audiences(shell, vip='command = ["touch", "was-run"]')
    result = await shell.run_at_speed("sync", path)
    assert (result.code, "--publish: say where files are put" in result.err) == (2, True)
    assert "was-run" not in names_in(shell.directory)


async def test_a_sync_that_hears_no_callbacks_says_what_that_means(shell: Shell) -> None:
    path = audiences(shell, vip='file = "users.csv"')
    result = await shell.run_at_speed("sync", path, "--publish", shell.sandbox.files_url)
    assert result.code == 0
    assert "no callback can come here, so the next sync replaces all members" in result.err


SOURCES_THAT_FAIL: dict[str, str] = {
    "gone.csv: cannot be read: No such file or directory": 'file = "gone.csv"',
    "'no-such-program' cannot be started (No such file or directory)": 'command = ["no-such-program"]',
    "'false' ended with exit code 1": 'command = ["false"]',
    "the source is empty": 'command = ["true"]',
    "'sh' was ended by signal 9": 'command = ["sh", "-c", "echo u-1; kill -9 $$"]',
    "a line of its output is no UTF-8": 'command = ["printf", "\\\\377"]',
    "query: gives 2 columns: select one": "query = 'SELECT 1, 2'\ndatabase = 'sqlite://'",
    "query: failed: OperationalError: no such table: t": "query = 'SELECT id FROM t'\ndatabase = 'sqlite://'",
}


async def test_a_source_that_fails_is_told_in_its_row_and_stops_no_other(shell: Shell) -> None:
    """The exit code is that of bad input, also of a dry run; nothing is spent for it."""
    names = {f"bad-{number}": lines for number, lines in enumerate(SOURCES_THAT_FAIL.values())}
    path = audiences(shell, **names, good=printing("u-1"))
    for more in (("--dry-run",), ()):
        result = await synced(shell, path, "--json", *more)
        assert result.code == 2, result.err
        *bad, _ = result.document["audiences"]
        for one, said in zip(bad, SOURCES_THAT_FAIL, strict=True):
            assert said in one["error"]
    assert shell.sent() == {("create", "good"): 1}


async def test_a_sync_waits_for_quota_and_says_so_in_a_log(shell: Shell) -> None:
    path = audiences(shell, **{f"s{number}": 'file = "users.csv"' for number in range(11)})
    result = await synced(shell, path, "--json")
    assert result.code == 0, result.err
    assert re.search(r"[1-9]\d* waiting: operations_per_hour is full .10 of 10.; next slot in", result.err)


@pytest.mark.timeout(400)
async def test_a_killed_sync_goes_on_by_the_same_command(tmp_path: Path) -> None:
    """Killed at random moments: the process that comes next does not wait for the dead one's right.

    A send whose answer or callback went with its process keeps its segment for a while: a minute and a half here.
    """
    async with a_shell(tmp_path, latency_s=0.05) as shell:
        chance, wanted = random.Random(5), set[str]()
        path = audiences(shell, vip='file = "users.csv"\nmax_removed = 1.0')
        options = ("--publish", shell.sandbox.files_url, *LISTENING, "--speed", "600")
        for number in range(KILLS):
            wanted = {f"u-{chance.randrange(90)}" for _ in range(40)}
            (tmp_path / "users.csv").write_text("".join(f"{value}\n" for value in wanted))
            process = await shell.start("sync", path, *options)
            await asyncio.sleep(0.8 + 0.15 * number)
            if process.returncode is None:
                process.kill()
            await process.communicate()
        last = [await ended(await shell.start("sync", path, "--json", *options), 200) for _ in range(3)][-1]
        assert last.code == 0, last
        assert last.document["audiences"][0]["status"] == "unchanged"
        await shell.sandbox.idle()
        assert members(shell, "vip") == wanted
        assert shell.sandbox.workspace.rejections == 0


BROKEN: dict[str, str] = {
    "no TOML": "[[audience",
    "has 'title' outside of its": "title = 'x'",
    r"must hold \[\[audience\]\] tables, in double brackets": f'[audience]\nname = "a"\n{HEAD}file = "f"',
    "audience 2 [(]a[)] has the name of audience 1": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\n' * 2,
    "is 'expiry_time' meant?": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\nexpirytime = 3',
    "has 'database', which goes with 'query'": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\ndatabase = "x"',
    "query: needs a 'database'": f'[[audience]]\nname = "a"\n{HEAD}query = "SELECT 1"',
    "query: must be text": f'[[audience]]\nname = "a"\n{HEAD}query = 1\ndatabase = "sqlite://"',
    "query: must be a statement": f'[[audience]]\nname = "a"\n{HEAD}query = ""\ndatabase = "sqlite://"',
    "database: must be text": f'[[audience]]\nname = "a"\n{HEAD}query = "SELECT 1"\ndatabase = 5',
    "file: must be text": f'[[audience]]\nname = "a"\n{HEAD}file = 5',
    "allow_empty: must be true or false": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\nallow_empty = "yes"',
    "full_every_days: must be days": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\nfull_every_days = inf',
    "priority: must be a whole number": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\npriority = 1.5',
    "needs exactly one of 'file', 'query', 'command'": f'[[audience]]\nname = "a"\n{HEAD}',
    "has 'color'": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\ncolor = 1',
    "needs 'attribute_name'": '[[audience]]\nname = "a"\nattribute_type = "string"\nfile = "f"',
    "mode: must be": f'[[audience]]\nname = "a"\n{HEAD}file = "f"\nmode = "x"',
    "must be a list of a program": f'[[audience]]\nname = "a"\n{HEAD}command = "ls"',
}


@pytest.mark.parametrize("said", BROKEN)
async def test_a_file_of_audiences_says_what_is_wrong_and_where(tmp_path: Path, said: str) -> None:
    path = tmp_path / "audiences.toml"
    path.write_text(BROKEN[said])
    with pytest.raises(InputError, match=said):
        read_audiences(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_audiences(tmp_path / "missing.toml")


async def test_a_file_of_audiences_is_read(tmp_path: Path) -> None:
    path = tmp_path / "audiences.toml"
    path.write_text(f'[[audience]]\nname = "a"\n{HEAD}file = "f.csv"\npriority = 2')
    fields: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30, "priority": 2}
    (read,) = read_audiences(str(path))
    expected = Audience("a", members=read.members, **fields)
    assert read == expected
    assert read.members == tmp_path / "f.csv"
    path.write_text(f'[[audience]]\nname = "a"\n{HEAD}file = "~nobody-of-this-name/f.csv"')
    assert read_audiences(path)[0].members == tmp_path / "~nobody-of-this-name" / "f.csv"
