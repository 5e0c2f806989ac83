"""The command `preflight` as a user meets it: exit codes, what goes where, the progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

CANARY = "canary-9f8e7d6c"


async def preflight(*arguments: object, stderr: int = asyncio.subprocess.PIPE) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error."""
    command = (sys.executable, "-m", "moe_segments", "preflight", *map(str, arguments))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=stderr)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), (err or b"").decode()


async def test_a_file_that_is_ready_exits_0(tmp_path: Path) -> None:
    """Warnings included, unless they are asked to be errors."""
    path = tmp_path / "users.csv"
    path.write_bytes(b"a#b\n")
    code, out, err = await preflight(path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{path}: ready (1 warning by rule)")
    code, out, _ = await preflight(path, "--strict")
    assert code == 1
    assert "MOE118 error" in out


async def test_a_file_with_errors_exits_1_and_shows_them(tmp_path: Path) -> None:
    """Masked on request."""
    path = tmp_path / "users.csv"
    path.write_bytes(f'ID\n"{CANARY}"\n'.encode())
    code, out, _ = await preflight(path, "--attribute-name", "ID")
    assert code == 1
    assert f'line 2: |"{CANARY}"|' in out
    assert "MOE116 warning" in out
    code, out, _ = await preflight(path, "--mask")
    assert CANARY not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere.csv",),
        ("https://",),
        ("users.csv", "--findings", "0"),
        ("users.csv", "--max-rows", "5"),
    ],
)
async def test_bad_input_exits_2(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one sentence, and nothing on standard output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users.csv").write_bytes(b"a\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    code, out, err = await preflight(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("moe-segments: ")


async def test_json_is_one_document(tmp_path: Path) -> None:
    """Everything that the text says, and what was written."""
    path, fixed = tmp_path / "users.csv", tmp_path / "fixed.csv"
    path.write_bytes(b'"a"\n\n"a"\nb\n')
    code, out, err = await preflight(path, "--fix", fixed, "--split", tmp_path / "parts", "--max-rows", 1, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["source"], told["ok"], told["rows"]) == (str(fixed), True, 2)
    assert told["fixed"]["changes"] == {"MOE102": 1, "MOE105": 2, "MOE117": 1}
    assert [part["rows"] for part in told["split"]["parts"]] == [1, 1]
    assert fixed.read_bytes() == b"a\nb\n"


async def test_what_cannot_be_fixed_is_not_split(tmp_path: Path) -> None:
    """Parts of a bad file are bad files."""
    path = tmp_path / "users.csv"
    path.write_bytes(b"a,b\n")
    code, _, err = await preflight(path, "--fix", tmp_path / "fixed.csv", "--split", tmp_path / "parts")
    assert code == 1
    assert "not split" in err
    assert "--fix leaves these" in err
    assert not (tmp_path / "parts").exists()


@contextlib.asynccontextmanager
async def slow_host() -> AsyncIterator[str]:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/csv", "Content-Length": "8"})
        await response.prepare(request)
        for row in (b"a\n", b"b\n", b"c\n", b"d\n"):
            await response.write(row)
            await asyncio.sleep(0.35)
        return response

    application = web.Application()
    application.router.add_get("/users.csv", handler)
    async with TestServer(application) as server:
        yield f"http://127.0.0.1:{server.port}/users.csv"


async def on_a_terminal(*arguments: object) -> tuple[Any, str, bytes]:
    """Exit code, standard output, and what the terminal behind standard error showed."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    try:
        code, out, _ = await preflight(*arguments, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):
            while block := os.read(ours, 65_536):
                shown += block
    finally:
        os.close(ours)
    return code, out, shown


async def test_what_takes_long_shows_a_bar_on_a_terminal_only(tmp_path: Path) -> None:
    """On standard error; what is quick shows none, and a pipe never sees one."""
    quick = tmp_path / "users.csv"
    quick.write_bytes(b"a\n")
    async with slow_host() as url:
        (_, out, shown), (_, _, piped) = await asyncio.gather(
            on_a_terminal(url, "--json", "--fetch-private"), preflight(url, "--json", "--fetch-private")
        )
    assert json.loads(out)["rows"] == 4
    assert b"checking" in shown
    assert piped == ""
    assert (await on_a_terminal(quick))[2] == b""


async def test_a_copy_does_not_replace_another_file_unless_told_to(tmp_path: Path) -> None:
    """Neither before the work nor, were it to come meanwhile, after it."""
    path, there = tmp_path / "users.csv", tmp_path / "there.csv"
    path.write_bytes(b'"a"\n')
    there.write_bytes(b"precious\n")
    code, out, err = await preflight(path, "--fix", there)
    assert (code, out, there.read_bytes()) == (2, "", b"precious\n")
    assert "--force" in err
    code, _, _ = await preflight(path, "--fix", there, "--force")
    assert (code, there.read_bytes()) == (0, b"a\n")


async def test_several_files_are_checked_and_the_worst_decides(tmp_path: Path) -> None:
    """One that cannot be read does not hide the others; each is told with the command that mends it."""
    good, bad, gone = tmp_path / "good.csv", tmp_path / "my bad.csv", tmp_path / "gone.csv"
    good.write_bytes(b"a\n")
    bad.write_bytes(b'"a"\n')
    code, out, err = await preflight(good, bad)
    assert (code, err) == (1, "")
    assert f"{good}: ready" in out
    assert f"mend it: moe-segments preflight '{bad}' --fix '{tmp_path / 'my bad.clean.csv'}'" in out
    code, out, err = await preflight(gone, bad, "--json")
    told = json.loads(out)
    assert code == 2
    assert str(gone) in err
    assert not told["ok"]
    assert [file["ok"] for file in told["files"]] == [False, False]
    code, _, err = await preflight(good, bad, "--fix", tmp_path / "fixed.csv")
    assert code == 2
    assert "--fix: takes one file" in err


async def test_the_command_that_mends_a_file_takes_its_header_out_as_well(tmp_path: Path) -> None:
    """Without the attribute's name the copy would keep the row. Typed as it is shown it makes a clean copy."""
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b'"User Id"\n\nu1\n')
    _, out, _ = await preflight(bad, "--attribute-name", "user id")
    _, _, command = out.partition("mend it: moe-segments ")
    assert "--attribute-name 'User Id' --fix" in command
    code, _, _ = await preflight(*shlex.split(command)[1:])
    assert (code, bad.with_suffix(".clean.csv").read_bytes()) == (0, b"u1\n")


async def test_a_manifest_stands_for_its_files(tmp_path: Path) -> None:
    """Each is told with line and segment, and judged by its own attribute."""
    (tmp_path / "vip.csv").write_bytes(b"ID\na\n\n")
    (tmp_path / "scores.csv").write_bytes(b"1\nx\n")
    manifest = tmp_path / "bulk.csv"
    manifest.write_text(
        "op,name,attribute_name,attribute_type,expiry_time,file\n"
        "create,vip,ID,string,30,vip.csv\n"
        "archive,old,,,,\n"
        "add,scores,score,double,,scores.csv\n",
        encoding="utf-8",
    )
    code, out, err = await preflight(manifest)
    assert (code, err) == (1, "")
    assert f"{manifest}, line 2, segment vip:\n{tmp_path / 'vip.csv'}: not ready" in out
    assert "MOE116 warning" in out
    assert f"--fix {tmp_path / 'vip.clean.csv'}" in out
    assert f"{manifest}, line 4, segment scores:" in out
    assert "MOE119 error" in out
    told = json.loads((await preflight(manifest, "--json"))[1])
    assert [(file["line"], file["segment"]) for file in told["files"]] == [(2, "vip"), (4, "scores")]


async def test_a_manifest_with_mistakes_exits_2(tmp_path: Path) -> None:
    manifest = tmp_path / "bulk.jsonl"
    manifest.write_text('{"op": "create", "name": "vip", "file": "gone.csv"}\n', encoding="utf-8")
    code, out, err = await preflight(manifest)
    assert (code, out) == (2, "")
    assert "line 1, file" in err
