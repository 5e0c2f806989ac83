"""The commands that take files: checked all at once, published, and what became of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.live.stores import SECRET, WRITER, s3_server
from tests.live.test_cli import CREATE, Shell, a_shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.live.stores import S3

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

FILE_HEADER = "op,name,attribute_name,attribute_type,file,expiry_time,rows\n"
LISTENING = ("--listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


def manifest(shell: Shell, *rows: str) -> str:
    path = shell.directory / "bulk.csv"
    path.write_text(FILE_HEADER + "".join(f"{row}\n" for row in rows))
    return str(path)


def bad_file(shell: Shell) -> None:
    (shell.directory / "bad.csv").write_text('u-1\n"u-2"\n\nu-1\n')


async def test_a_bulk_run_publishes_the_files_of_its_manifest(shell: Shell, s3: S3) -> None:
    """On the real API, which here is a sandbox in another process; the service fetches from the store."""
    path = manifest(shell, "create,a,ID,string,users.csv,30,", "add,a,ID,string,users.csv,,")
    keys = {"AWS_ACCESS_KEY_ID": WRITER["access_key_id"], "AWS_SECRET_ACCESS_KEY": SECRET}
    result = await shell.run_at_speed("bulk", path, "--publish", s3.to("bulk"), "--json", *LISTENING, **keys)
    assert result.code == 0, result.err
    outcomes = [line for line in result.lines if line["type"] == "outcome"]
    assert [(one["state"], one["rows"], one["distinct_rows"], one["found"], one["warning"]) for one in outcomes] == [
        ("processed", 3, 3, 3, None)
    ] * 2
    assert len(s3.objects("bulk")) == 1
    assert SECRET not in result.out + result.err
    assert "X-Amz" not in result.out + result.err


async def test_where_files_go_may_stand_in_the_environment(shell: Shell) -> None:
    """The sandbox's own file server takes them, too."""
    result = await shell.run_at_speed(
        *CREATE, "--name", "a", "--file", "users.csv", *LISTENING, MOE_PUBLISH=shell.sandbox.files_url
    )
    assert result.code == 0, result.err
    assert "create a: processed: 3 checked, 3 found, 3 processed, 3 matched" in result.out


async def test_a_secret_in_the_option_is_refused_and_not_repeated(shell: Shell) -> None:
    result = await shell.run_at_speed(
        *CREATE, "--name", "a", "--file", "users.csv", "--publish", "s3://b/p?secret_access_key=CANARY"
    )
    assert result.code == 2
    assert "must not hold a secret" in result.err
    assert "CANARY" not in result.err


async def test_all_that_is_wrong_with_a_manifests_files_is_said_before_anything_is_sent(shell: Shell) -> None:
    """Of every line, by the rule's code and line, without a value."""
    bad_file(shell)
    path = manifest(
        shell,
        "create,a,ID,string,users.csv,30,",
        "create,b,ID,string,bad.csv,30,",
        "create,c,ID,string,users.csv,30,2",
        "add,a,ID,string,bad.csv,,",
    )
    result = await shell.run("bulk", path, "--sandbox")
    assert result.code == 2
    assert "bulk.csv has 7 mistakes; nothing was sent" in result.err
    assert "line 3, file: MOE105 double quotes (line 2)" in result.err
    assert "line 4, rows: is 2 and the file has 3" in result.err
    assert "delete it; segment b, mend it: moe-segments preflight " in result.err
    assert "bad.csv --fix " in result.err
    assert result.err.count("MOE117 duplicate") == 2
    assert "u-2" not in result.err


async def test_files_at_addresses_are_checked_as_well(shell: Shell) -> None:
    bad_file(shell)
    shell.url = await shell.sandbox.publish(shell.directory / "bad.csv")
    result = await shell.run_at_speed("bulk", shell.creates(2))
    assert result.code == 2
    assert result.err.count("file_url: MOE102 empty row") == 2
    assert not shell.sent()


async def test_what_a_run_has_sent_is_not_checked_again(shell: Shell) -> None:
    """Its file may be gone by then."""
    path = shell.creates(2)
    assert (await shell.run_at_speed("bulk", path, *LISTENING)).code == 0
    (shell.directory / "users.csv").unlink()
    again = await shell.run_at_speed("bulk", path, *LISTENING)
    assert again.code == 0, again.err
    assert "was finished before" in again.err


@pytest.mark.parametrize("mode", ["warn", "off"])
async def test_who_knows_better_may_send_it_all_the_same(shell: Shell, mode: str) -> None:
    bad_file(shell)
    path = manifest(shell, "create,b,ID,string,bad.csv,30,")
    result = await shell.run("bulk", path, "--sandbox", "--preflight", mode, "--json")
    assert result.code == 0, result.err
    (row,) = [line for line in result.lines if line["type"] == "outcome"]
    assert (row["state"], row["rows"], row["found"], row["processed"]) == (
        "processed",
        4 if mode == "warn" else None,
        3,
        1,
    )
    assert "could use 1 of" in row["warning"]


async def test_a_single_command_shows_the_whole_report(shell: Shell) -> None:
    """With the shape of what is wrong, and no value: what a command says may be kept in a log."""
    bad_file(shell)
    result = await shell.run(*CREATE, "--name", "b", "--file", "bad.csv", "--sandbox")
    assert result.code == 2
    assert "line 2" in result.err
    assert '"x-9"' in result.err
    assert "u-2" not in result.err
    assert "MOE105" in result.err
    assert "mend it: moe-segments preflight bad.csv --fix bad.clean.csv" in result.err


async def test_a_segment_left_without_users_is_a_failure(shell: Shell) -> None:
    (shell.directory / "known.csv").write_text("x-1\n")
    path = manifest(shell, "create,b,ID,string,users.csv,30,")
    result = await shell.run("bulk", path, "--sandbox", "--users", "known.csv", "--json")
    assert result.code == 1
    (row,) = [line for line in result.lines if line["type"] == "outcome"]
    assert (row["state"], row["matched"], row["exit_code"]) == ("processed", 0, 1)
    assert "none is a user of this workspace" in row["error"]


async def test_the_sandbox_says_where_files_can_be_sent(shell: Shell) -> None:
    process = await shell.start("sandbox", "--json")
    assert process.stdout is not None
    said = b""
    while b"MOE_PUBLISH" not in said:
        said += await process.stdout.readline()
    assert b"/_files/sent" in said
    process.terminate()
    await process.communicate()


@pytest.mark.parametrize("command", ["create", "bulk"])
async def test_nobody_matched_is_a_failure_unless_it_is_allowed(shell: Shell, command: str) -> None:
    """As `raise_on_zero_users` has it in the library; the figures are told either way."""
    (shell.directory / "nobody.csv").write_text("u-9\n")
    path = manifest(shell, "create,diwali,ID,string,users.csv,30,", "replace,diwali,ID,string,users.csv,,")
    arguments = ("bulk", path) if command == "bulk" else (*CREATE, "diwali", "--file", "users.csv")
    where = (*arguments, "--sandbox", "--users", "nobody.csv", "--json")
    for allowed, code in (((), 1), (("--allow-zero-users",), 0)):
        result = await shell.run_at_speed(*where, *allowed)
        assert result.code == code, result.err
        rows = result.lines[:-1] if command == "bulk" else [result.document]
        assert [(row["found"], row["matched"], row["exit_code"]) for row in rows] == [(3, 0, code)] * len(rows)
        assert all(("none is a user" in (row["error"] or "")) == bool(code) for row in rows)
