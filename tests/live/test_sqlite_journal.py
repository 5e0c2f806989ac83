"""What only the SQLite engine promises: one file, other processes, the disk and what it says when it fails."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments.core.events import Checkpoint, ExternalUsage
from moe_segments.errors import JournalError
from moe_segments.journal import open_journal
from moe_segments.journal.local.file_errors import explain
from moe_segments.journal.local.files import file_system
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.settings import default_journal_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


FACT = ExternalUsage(operations=1)


@asynccontextmanager
async def opened(path: Path, scope: str = "W1", **options: Any) -> AsyncIterator[SqliteJournal]:  # its own parameters
    journal = SqliteJournal(path, scope, **options)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def refused(path: Path, **options: Any) -> str:
    """What opening *path* is refused with."""
    with pytest.raises(JournalError) as caught:
        async with opened(path, **options):
            pass
    return str(caught.value)


async def opened_and_closed(path: Path) -> None:
    """Open, and close again."""
    async with opened(path):
        pass


def files_in(directory: Path) -> list[str]:
    """The names of what lies in a directory."""
    return sorted(place.name for place in directory.iterdir())


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """The queue's file, made and held as by another process."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def damage(path: Path) -> None:
    """Spoil every page but those of the schema."""
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 2048)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 256 KiB at *place*, where mounting is allowed."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def in_a_child(journal: SqliteJournal) -> int:
    """The exit status of a fork that appends: 7 when it was refused."""
    child = os.fork()
    if not child:
        try:
            # No loop here: the refusal comes before anything is awaited.
            journal.append([FACT], batch_id="child").send(None)
        except JournalError as error:
            os._exit(7 if "forked from it" in str(error) else 8)
        finally:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def append_until_refused(journal: SqliteJournal) -> None:
    for number in range(1_000):
        await journal.append([FACT] * 20, batch_id=f"filler-{number}")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quota.db"


# The file


@pytest.mark.asyncio
@pytest.mark.parametrize("umask", [0o000, 0o277])
async def test_only_this_user_can_read_any_of_the_files(tmp_path: Path, umask: int) -> None:
    """Whatever the umask, the file's directories included."""
    path = tmp_path / "a" / "b" / "quota.db"
    before = os.umask(umask)
    try:
        async with opened(path, state_dir=tmp_path / "state", makes_directories=True) as journal:
            await journal.append([FACT], batch_id="a")
            seen = {place.name: mode(place) for place in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert len(seen) == 3
    assert {"quota.db", "quota.db.lock"} < seen.keys()
    assert set(seen.values()) == {0o600}
    assert [mode(place) for place in (path.parent, path.parent.parent, tmp_path / "state")] == [0o700] * 3
    assert [mode(place) for place in (tmp_path / "state" / "witness").iterdir()] == [0o600]


@pytest.mark.asyncio
async def test_the_file_is_private_from_its_first_moment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only once its mode has been set: there is no moment to open it in."""
    monkeypatch.setattr("pathlib.Path.chmod", lambda _path, _mode: None)
    before = os.umask(0)
    try:
        async with opened(path):
            assert [mode(place) for place in (path, path.with_name("quota.db.lock"))] == [0o600, 0o600]
    finally:
        os.umask(before)


@pytest.mark.asyncio
async def test_sqlite_s_own_sidecars_are_private_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    before = os.umask(0)
    try:
        async with opened(path, journal_mode="WAL") as journal:
            await journal.append([FACT], batch_id="a")
            assert [mode(path.with_name(path.name + end)) for end in ("-wal", "-shm")] == [0o600, 0o600]
    finally:
        os.umask(before)


@pytest.mark.asyncio
async def test_the_file_says_whose_it_is_and_keeps_a_rollback_journal(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append([FACT], batch_id="a")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x6D6F6573,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@pytest.mark.asyncio
async def test_each_append_is_synced_and_its_directory_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`synchronous=EXTRA`, as the connection itself says; WAL takes FULL."""
    said: list[int] = []
    connect = sqlite3.connect

    class Spy(sqlite3.Connection):
        def close(self) -> None:
            said.append(self.execute("PRAGMA synchronous").fetchone()[0])
            super().close()

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Spy, **options))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    for journal_mode in ("DELETE", "WAL"):
        async with opened(path, journal_mode=journal_mode):
            pass
    assert said == [3, 2]


@pytest.mark.asyncio
async def test_wal_is_refused_before_sqlite_3_51_3(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    assert "needs SQLite 3.51.3" in await refused(path, journal_mode="WAL")


@pytest.mark.asyncio
async def test_an_older_file_becomes_current_and_keeps_its_log(path: Path) -> None:
    async with opened(path) as journal:
        batch = await journal.append([FACT], batch_id="a")
    migrations = [*MIGRATIONS, ["CREATE TABLE later (x)"], ["INSERT INTO later VALUES (3)"]]
    async with opened(path, migrations=migrations) as journal:
        assert list(await journal.read(0)) == [batch]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT x FROM later").fetchall() == [(3,)]
    assert "upgrade moe_segments" in await refused(path)


@pytest.mark.asyncio
async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    async with opened(path):
        pass
    await refused(path, migrations=[*MIGRATIONS, ["CREATE TABLE later (x)", "INSERT INTO missing VALUES (3)"]])
    async with opened(path) as journal:
        await journal.append([FACT], batch_id="a")


@pytest.mark.asyncio
async def test_a_relative_url_names_a_file_under_the_working_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    journal = open_journal("sqlite:///quota.db", "W1")
    monkeypatch.chdir("/")
    await journal.open()
    await journal.close()
    assert mode(path) == 0o600


# Refusals


@pytest.mark.asyncio
async def test_a_directory_that_is_missing_is_no_place_for_a_journal(tmp_path: Path) -> None:
    """The path may be mistyped, and a new journal there would count from nothing."""
    assert f"there is no directory {tmp_path / 'moe'}; make it, or mend the path" in await refused(
        tmp_path / "moe" / "quota.db"
    )
    assert files_in(tmp_path) == []


@pytest.mark.asyncio
async def test_the_default_place_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new user has no state directory of ours, and perhaps none at all."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local" / "state"))
    journal = open_journal(default_journal_url(), "W1")
    await journal.open()
    await journal.close()
    assert mode(tmp_path / "local" / "state" / "moe_segments") == 0o700
    with pytest.raises(JournalError, match="there is no directory"):
        await open_journal(f"sqlite:///{tmp_path / 'elsewhere' / 'quota.db'}", "W1").open()


@pytest.mark.asyncio
async def test_what_cannot_be_a_journal_is_refused_with_what_to_do(tmp_path: Path) -> None:
    note, foreign, pipe = tmp_path / "note.txt", tmp_path / "foreign.db", tmp_path / "pipe"
    os.mkfifo(pipe)
    note.write_text("This is a text, and longer than the header of a database.\n" * 100)
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = note.read_bytes(), foreign.read_bytes()

    assert "part of its path is a file" in await refused(note / "quota.db")
    assert "is a directory; name a file in it" in await refused(tmp_path)
    assert "is no journal: it is not an SQLite file" in await refused(note)
    assert "another program's database" in await refused(foreign)
    assert "is not an ordinary file" in await refused(pipe)
    assert before == (note.read_bytes(), foreign.read_bytes())


@pytest.mark.asyncio
async def test_what_is_refused_has_nothing_new_beside_it(tmp_path: Path) -> None:
    """No database, another program's, a newer version's, a spoilt one, a directory: nobody's queue lies beside them."""
    note, foreign, newer, spoilt, directory = (
        tmp_path / name for name in ("note.txt", "foreign.db", "newer.db", "spoilt.db", "directory")
    )
    directory.mkdir()
    note.write_text("This is a text, and longer than the header of a database.\n" * 100)
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    async with opened(newer, migrations=[*MIGRATIONS, ["CREATE TABLE later (x)"]]):
        pass
    async with opened(spoilt) as journal:
        await journal.append([FACT] * 1_000, batch_id="a")
    damage(spoilt)
    for name in files_in(tmp_path):
        if name.endswith((".lock", ".witness")):
            (tmp_path / name).unlink()
    before = files_in(tmp_path)

    for path in (note, foreign, newer, spoilt, directory):
        await refused(path)
    assert files_in(tmp_path) == before


@pytest.mark.asyncio
async def test_whoever_waits_for_one_that_is_refused_goes_on_with_the_queue_of_all(path: Path) -> None:
    """The file that it waited on is taken away meanwhile, so it takes the next one: two queues would keep no order."""
    lock = path.with_name("quota.db.lock")
    with held(lock):
        waiting = asyncio.create_task(opened_and_closed(path))
        await asyncio.sleep(0.2)  # for it to wait
        lock.unlink()
    await waiting
    assert "quota.db.lock" in files_in(path.parent)


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_written_is_refused(path: Path) -> None:
    assert "is read-only for this user" in await refused(path, pragmas=["query_only = ON"])


@pytest.mark.asyncio
async def test_a_damaged_page_is_named_when_it_is_read(path: Path) -> None:
    async with opened(path) as journal:
        for number in range(40):
            await journal.append([FACT] * 20, batch_id=str(number))
    damage(path)
    assert "is damaged" in await refused(path)


@pytest.mark.asyncio
async def test_a_full_disk_records_nothing_and_room_ends_it(path: Path) -> None:
    """`max_page_count` stands for the disk; a checkpoint gives pages back."""
    async with opened(path, pragmas=["max_page_count = 20"]) as journal:
        with pytest.raises(JournalError, match=r"disk .* is full; nothing was recorded"):
            await append_until_refused(journal)
        kept = await journal.read(0)
        assert await journal.transact(len(kept), lambda _missed, _now_us: [], batch_id="reads") is None
        await journal.checkpoint(len(kept), Checkpoint({}), keep_since_us=2**60)

        batch = await journal.append([FACT], batch_id="after")
        assert batch.version == len(kept) + 1


@pytest.mark.asyncio
async def test_a_disk_that_is_full_for_real_is_named_and_forgiven(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        async with opened(disk / "quota.db") as journal:
            await journal.append([FACT], batch_id="a")
            ballast = disk / "ballast"
            with pytest.raises(OSError, match="No space left"):
                ballast.write_bytes(b"x" * 1_000_000)
            with pytest.raises(JournalError, match="is full; nothing was recorded"):
                await journal.append([FACT], batch_id="b")
            ballast.unlink()
            assert (await journal.append([FACT], batch_id="c")).version == 2


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "give this user write access"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "make room there"),
        (errno.ENOENT, "its directory may be missing"),
        (errno.EIO, "see to the cause"),
    ],
)
def test_errors_of_the_system_say_what_to_do(path: Path, number: int, words: str) -> None:
    text = str(explain(OSError(number, os.strerror(number)), path))
    assert words in text
    assert str(path) in text


def test_a_network_file_system_is_known_by_the_longest_mount_point(tmp_path: Path) -> None:
    mounts = "/dev/a / ext4 rw 0 0\nhost:/x /net nfs4 rw 0 0\n/dev/b /net/my\\040disk ext4 rw 0 0\n"
    root = tmp_path.joinpath("/")
    assert file_system(root / "network" / "q.db", mounts) == "ext4"
    assert file_system(root / "net" / "q.db", mounts) == "nfs4"
    assert file_system(root / "net" / "my disk" / "q.db", mounts) == "ext4"


@pytest.mark.asyncio
async def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = path.with_name("mounts")
    mounts.write_text(f"host:/x {path.parent} nfs4 rw 0 0\n")
    monkeypatch.setattr("moe_segments.journal.local.files._MOUNTS", mounts)
    assert "network file system (nfs4)" in await refused(path)


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # the very thing that is refused
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
async def test_a_forked_child_is_refused_and_leaves_the_parent_alone(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append([FACT], batch_id="a")
        assert in_a_child(journal) == 7
        assert (await journal.append([FACT], batch_id="b")).version == 2


@pytest.mark.asyncio
async def test_a_journal_that_is_not_open_says_so(path: Path) -> None:
    async with opened(path) as journal:
        pass
    with pytest.raises(JournalError, match="is not open"):
        await journal.read(0)
