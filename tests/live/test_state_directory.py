"""Trouble with the state directory is no trouble with the journal, and is told by its own name, once."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments.core.events import ExternalUsage
from moe_segments.errors import JournalError
from moe_segments.journal.local.witness_file import beside, in_state_directory
from moe_segments.journal.sqlite.engine import SqliteJournal
from tests.places import BROKEN, as_user, broken, full_disk, read_only_disk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.processes

UID: Final = 12_345
FACT: Final = ExternalUsage(operations=1)
IDENTITY: Final = {"MOE_WORKSPACE_ID": "W", "MOE_API_KEY": "K", "MOE_DATA_CENTER": "01"}


@pytest.fixture
def volume() -> Iterator[Path]:
    """A directory that everybody can reach and write to, as a container's volume is."""
    with tempfile.TemporaryDirectory(prefix="moe-box-") as made:
        Path(made).chmod(0o777)
        yield Path(made)


def command(*arguments: str, uid: int | None = UID, largest: int | None = None, **variables: str) -> tuple[int, str]:
    """A command's exit code and its standard error; *largest* is the most bytes that it may write to a file."""
    limit = None if largest is None else partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest, largest))
    ended = subprocess.run(
        [*(() if uid is None else as_user(uid)), sys.executable, "-m", "moe_segments", *arguments],
        env={"PATH": os.environ["PATH"], **IDENTITY, **variables},
        cwd="/",
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("subcommand", ["quota", "jobs"])
@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"HOME": "/"}, "the state directory /.local/state/moe_segments cannot be used (Permission denied)"),
        ({"HOME": "/nonexistent"}, "the state directory /nonexistent/.local/state/moe_segments cannot be used"),
        ({"HOME": "/", "XDG_STATE_HOME": "/etc/passwd"}, "the state directory /etc/passwd/moe_segments cannot be used"),
        ({}, "there is no home directory to keep a witness of the journal in"),
    ],
)
def test_a_container_without_a_home_uses_the_journal_that_was_named(
    subcommand: str, variables: dict[str, Any], told: str, volume: Path
) -> None:
    """A user without a name, a home that is not theirs: the volume is writable, and that is what counts."""
    code, err = command(subcommand, "--journal", f"sqlite:///{volume / 'quota.db'}", **variables)

    assert code == 0
    assert err.count(told) == 1
    assert "set XDG_STATE_HOME" in err
    assert str(volume) not in err  # what was named is well
    assert beside(volume / "quota.db", "W@01").is_file()


@pytest.mark.parametrize(
    ("journal", "variables", "told"),
    [
        (None, {}, "there is no home directory: name a journal"),
        (None, {"HOME": "/"}, "the journal /.local/state/moe_segments/quota.db cannot be written"),
        ("sqlite:///~/quota.db", {}, "begins with ~, and there is no home directory"),
        ("sqlite:////usr/quota.db", {}, "the journal /usr/quota.db cannot be written"),
        ("sqlite:////nowhere/quota.db", {}, "there is no directory /nowhere"),
        ("sqlite:////etc/passwd/quota.db", {}, "part of its path is a file"),
        ("sqlite:////dev/full", {}, "the journal /dev/full "),
    ],
)
def test_a_place_that_cannot_hold_the_journal_is_the_one_that_is_blamed(
    journal: str | None, variables: dict[str, Any], told: str
) -> None:
    """Where what was named is at fault, that is said, and nothing of the state directory."""
    code, err = command("quota", *(() if journal is None else ("--journal", journal)), **variables)

    assert (code, told in err) == (2, True)
    assert "state directory" not in err


@pytest.mark.parametrize("largest", [0, 1_000])
def test_a_limit_on_the_size_of_files_is_told_of_the_journal(volume: Path, largest: int) -> None:
    """Nothing is recorded, and nothing is blamed that is well."""
    journal = volume / "quota.db"
    code, err = command("quota", "--journal", f"sqlite:///{journal}", largest=largest, HOME=str(volume))

    assert (code, f"the journal {journal}" in err) == (2, True)
    assert "state directory" not in err


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.asyncio
async def test_a_state_directory_that_cannot_be_used_leaves_the_witness_beside_the_file(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, however often the journal is opened; what is lost is noticed by the witness that is left."""
    path = tmp_path / "quota.db"
    with broken(kind, tmp_path / "state") as state_dir, caplog.at_level(logging.WARNING):
        for number in range(3):
            journal = SqliteJournal(path, "W1", state_dir=state_dir)
            await journal.open()
            await journal.append([FACT], batch_id=f"b{number}")
            await journal.close()
        told = [record.message for record in caplog.records if "the state directory" in record.message]
        assert len(told) == len(caplog.records) == 1
        assert str(state_dir) in told[0]

        path.unlink()
        journal = SqliteJournal(path, "W1", state_dir=state_dir)
        await journal.open()
        await journal.close()
        assert "was lost, deleted or moved away" in str(journal.doubt)


@pytest.mark.asyncio
async def test_a_witness_that_can_only_be_read_is_still_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only mount of a state directory from before knows what was seen before."""
    path, state_dir = tmp_path / "quota.db", tmp_path / "state"
    journal = SqliteJournal(path, "W1", state_dir=state_dir)
    await journal.open()
    await journal.append([FACT], batch_id="b")
    await journal.close()
    path.unlink()
    beside(path, "W1").unlink()

    with read_only_disk(state_dir), caplog.at_level(logging.WARNING):
        journal = SqliteJournal(path, "W1", state_dir=state_dir)
        await journal.open()
        assert "was lost, deleted or moved away" in str(journal.doubt)
        await journal.append([FACT], batch_id="c")
        await journal.close()
    assert sum("cannot be written" in record.message for record in caplog.records) == 1
    assert in_state_directory(state_dir, "W1").is_file()


@pytest.mark.parametrize("kind", ["read-only", "full"])
@pytest.mark.asyncio
async def test_the_disk_of_the_journal_is_blamed_for_the_journal(kind: str, tmp_path: Path) -> None:
    """With a state directory that is well."""
    volume, state_dir = tmp_path / "volume", tmp_path / "state"
    with ExitStack() as stack:
        stack.enter_context(read_only_disk(volume) if kind == "read-only" else full_disk(volume))
        with pytest.raises(JournalError) as caught:
            await SqliteJournal(volume / "quota.db", "W1", state_dir=state_dir).open()
    assert f"the journal {volume / 'quota.db'}" in str(caught.value) or f"the journal {volume}" in str(caught.value)
    assert {"read-only": "read-only", "full": "full"}[kind] in str(caught.value)
    assert str(state_dir) not in str(caught.value)


def test_a_client_with_a_named_journal_needs_no_home() -> None:
    """By argument as by variable; without one it says what to name."""
    program = """
from moe_segments import InputError, SegmentsClient
from os import environ
print(SegmentsClient.from_env(journal="memory:").settings.journal)
print(SegmentsClient.from_env(environ={**environ, "MOE_JOURNAL": "sqlite:////v/q.db"}).settings.journal)
try:
    SegmentsClient.from_env()
except InputError as error:
    print(error)
"""
    ended = subprocess.run(
        [*as_user(UID), sys.executable, "-c", program],
        env=IDENTITY,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )

    memory, file, refused = ended.stdout.splitlines()
    assert (memory, file) == ("memory:", "sqlite:////v/q.db")
    assert "there is no home directory: name a journal" in refused
