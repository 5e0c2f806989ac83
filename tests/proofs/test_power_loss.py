"""What the SQLite journal still holds after the power went, at any moment, with whatever was not synced gone.

The real store runs on a VFS in memory that keeps a log: writes, syncs, files made and deleted, and what was
acknowledged. A cut at a random place of the log, and a random choice of what reached the disk unasked, give the files
as the next boot finds them; the real store opens those. With `synchronous=FULL` and less the same test loses rows, so
it can fail.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import pytest

from moe_segments.core.events import ExternalUsage
from moe_segments.journal.sqlite.engine import SqliteJournal
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from moe_segments.core.events import Batch

try:
    import apsw
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("needs apsw, of the dependency group `test`", allow_module_level=True)

CUTS: Final = cases(short=20, full=300)
RUNS: Final = cases(short=1, full=6)
BATCHES: Final = 40
SECTOR_BYTES: Final = 512
SCOPE: Final = "W1"


@attrs.frozen
class Made:
    """A directory entry that is durable once its directory is synced."""

    name: str


@attrs.frozen
class Deleted:
    """A directory entry removed; durable at once if *synced*."""

    name: str
    synced: bool


@attrs.frozen
class Written:
    """Bytes at a place."""

    name: str
    offset: int
    data: bytes


@attrs.frozen
class Cut:
    """The file was made this long."""

    name: str
    size: int


@attrs.frozen
class Synced:
    """The file's content is on the disk, and where it was just made its directory entry, too."""

    name: str


@attrs.frozen
class Acknowledged:
    """The store said that this version is recorded."""

    version: int


Step: TypeAlias = Made | Deleted | Written | Cut | Synced | Acknowledged


class Disk:
    """Files in memory and the log of what was done to them."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.log: list[Step] = []

    def make(self, name: str) -> None:
        if name not in self.files:
            self.files[name] = bytearray()
            self.log.append(Made(name))


class RecordedFile:
    """One open file, as SQLite calls it. One process, one connection: its locks are always free."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk, self._name = disk, name
        self._level = 0

    @property
    def _content(self) -> bytearray:
        return self._disk.files[self._name]

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name, as all below
        return bytes(self._content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - as above
        _write(self._content, bytes(data), offset)
        self._disk.log.append(Written(self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802 - as above
        del self._content[size:]
        self._disk.log.append(Cut(self._name, size))

    def xSync(self, _flags: int) -> None:  # noqa: N802 - as above
        self._disk.log.append(Synced(self._name))

    def xFileSize(self) -> int:  # noqa: N802 - as above
        return len(self._content)

    def xLock(self, level: int) -> None:  # noqa: N802 - as above
        self._level = max(self._level, level)

    def xUnlock(self, level: int) -> None:  # noqa: N802 - as above
        self._level = level

    def xCheckReservedLock(self) -> bool:  # noqa: N802 - as above
        return self._level > 1

    def xFileControl(self, _op: int, _pointer: int) -> bool:  # noqa: N802 - as above
        return False

    def xSectorSize(self) -> int:  # noqa: N802 - as above
        return SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:  # noqa: N802 - as above
        return 0

    def xClose(self) -> None:  # noqa: N802 - as above
        pass


class RecordedVfs(apsw.VFS):
    """A disk, as SQLite sees it. The journal's own file is made outside of SQLite, so it is there from the start."""

    def __init__(self, disk: Disk, database: Path) -> None:
        super().__init__(f"power-{id(disk)}", base="")
        self._disk = disk
        self._disk.files[database.name] = bytearray()

    def xOpen(self, name: Any, flags: list[int]) -> RecordedFile:  # type: ignore[override]  # noqa: N802 - any object with these methods will do
        assert name is not None, "nothing is sorted on disk"
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        flags[1] = flags[0]
        self._disk.make(path.name)
        return RecordedFile(self._disk, path.name)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001 - SQLite's
        del self._disk.files[Path(filename).name]
        self._disk.log.append(Deleted(Path(filename).name, syncdir))

    def xAccess(self, pathname: str, _flags: int) -> bool:  # noqa: N802 - as above
        return Path(pathname).name in self._disk.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802 - as above
        return name


def _write(content: bytearray, data: bytes, offset: int) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class Image:
    """What is on the disk for certain, and what may be."""

    def __init__(self, database: str) -> None:
        self.entries: dict[str, bytearray] = {database: bytearray()}  # by name: what is durable of the content
        self._open: dict[str, bytearray] = {database: self.entries[database]}
        self._pending: dict[int, list[Written | Cut]] = {}
        self._directory: list[tuple[str, bytearray | None]] = []  # entries made and deleted, in order

    def play(self, step: Step) -> None:
        """Take in one step."""
        match step:
            case Made(name):
                self._open[name] = bytearray()
                self._directory.append((name, self._open[name]))
            case Deleted(name, synced):
                del self._open[name]
                self._directory.append((name, None))
                if synced:
                    self._settle_directory(len(self._directory))
            case Written(name) | Cut(name):
                self._pending.setdefault(id(self._open[name]), []).append(step)
            case Synced(name):
                content = self._open[name]
                for change in self._pending.pop(id(content), ()):
                    _apply(content, change)
                if any(made is content for _, made in self._directory):
                    self._settle_directory(len(self._directory))
            case Acknowledged():
                pass

    def lose_power(self, chance: random.Random) -> dict[str, bytes]:
        """The files as the next boot finds them: of what was not synced, chance says what got through."""
        self._settle_directory(chance.randrange(len(self._directory) + 1))
        for content in self.entries.values():
            survival = chance.choice((0.0, 0.5, 1.0))
            for change in self._pending.get(id(content), ()):
                for part in _sectors(change):
                    if chance.random() < survival:
                        _apply(content, part)
        return {name: bytes(content) for name, content in self.entries.items()}

    def _settle_directory(self, count: int) -> None:
        for name, content in self._directory[:count]:
            if content is None:
                self.entries.pop(name, None)
            else:
                self.entries[name] = content
        del self._directory[:count]


def _sectors(change: Written | Cut) -> Iterator[Written | Cut]:
    """A write may reach the disk in part, by whole sectors."""
    if isinstance(change, Cut):
        yield change
        return
    end, start = change.offset + len(change.data), change.offset
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Written(change.name, start, change.data[start - change.offset : stop - change.offset])
        start = stop


def _apply(content: bytearray, change: Written | Cut) -> None:
    if isinstance(change, Cut):
        del content[change.size :]
    else:
        _write(content, change.data, change.offset)


class _Connection:
    """An apsw connection where the store wants one of `sqlite3`."""

    def __init__(self, uri: str, vfs: str) -> None:
        self._connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI, vfs=vfs)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        try:
            return self._connection.execute(statement, tuple(values) or None)
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error

    def create_function(self, name: str, arguments: int, function: Callable[..., Any]) -> None:
        self._connection.create_scalar_function(name, function, arguments)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        self._connection.close()


def recorded(path: Path, seed: int, pragmas: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The log of a journal's life: forty batches small and large, through the store's own code and pragmas."""
    disk, chance = Disk(), random.Random(seed)
    vfs = RecordedVfs(disk, path)

    def connect(address: str, **_: object) -> _Connection:
        return _Connection(address, f"power-{id(disk)}")

    shim = SimpleNamespace(**{**vars(sqlite3), "connect": connect})

    async def live() -> None:
        journal = SqliteJournal(path, SCOPE, pragmas=pragmas)
        await journal.open()
        for _ in range(BATCHES):
            events = [ExternalUsage(chance.randrange(10**6))] * chance.choice((1, 1, 3, 400))
            batch = await journal.append(events, batch_id=f"{chance.getrandbits(64):x}")
            disk.log.append(Acknowledged(batch.version))
        await journal.close()

    with monkeypatch.context() as patch:
        patch.setattr("moe_segments.journal.sqlite.store.sqlite3", shim)
        asyncio.run(live())
    vfs.unregister()
    return disk.log


def after_a_cut(log: Sequence[Step], cut: int, database: str, chance: random.Random) -> tuple[dict[str, bytes], int]:
    """The files after a cut before step *cut*, and the last version that was acknowledged by then."""
    image, acknowledged = Image(database), 0
    for step in log[:cut]:
        image.play(step)
        if isinstance(step, Acknowledged):
            acknowledged = step.version
    return image.lose_power(chance), acknowledged


def held_by(files: dict[str, bytes], directory: Path, database: str) -> int | None:
    """The last version that the journal of these files holds; None when it cannot be opened."""
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    path = directory / database

    async def read() -> Sequence[Batch]:
        journal = SqliteJournal(path, SCOPE)
        await journal.open()
        try:
            return await journal.read(0)
        finally:
            await journal.close()

    try:
        batches = asyncio.run(read())
        with closing(sqlite3.connect(path)) as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    except Exception:  # noqa: BLE001 - however it cannot be used, it is lost
        return None
    assert [batch.version for batch in batches] == list(range(1, len(batches) + 1))
    return len(batches) if whole else None


def lost(pragmas: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """In how many of the cuts something acknowledged is not there afterwards."""
    losses = 0
    for run in range(RUNS):
        path = tmp_path / f"quota-{run}.db"
        log = recorded(path, run, pragmas, monkeypatch)
        told = [place for place, step in enumerate(log) if isinstance(step, Acknowledged)]
        for number in range(CUTS // RUNS):
            chance = random.Random(f"{run} {number}")
            # Anywhere, or just after something was acknowledged, when most can be lost.
            anywhere, soon = chance.randrange(told[0], len(log) + 1), chance.choice(told) + chance.randrange(1, 6)
            cut = min(chance.choice((anywhere, soon)), len(log))
            files, acknowledged = after_a_cut(log, cut, path.name, chance)
            held = held_by(files, tmp_path / f"cut-{run}-{number}", path.name)
            if held is None or held < acknowledged:
                losses += 1
                say(f"run {run}, cut {number} at step {cut}: {acknowledged} acknowledged, {held} held")
    return losses


@pytest.mark.timeout(600)
def test_no_loss_of_power_takes_a_batch_that_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the journal is shipped: rollback journal, synchronous=EXTRA."""
    assert lost((), tmp_path, monkeypatch) == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("level", ["FULL", "NORMAL", "OFF"])
def test_every_lesser_setting_does_lose_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """FULL does not sync the directory after it deleted the rollback journal, which then undoes what was committed."""
    losses = lost((f"synchronous = {level}",), tmp_path, monkeypatch)
    say(f"synchronous={level}: something lost in {losses} of {CUTS} cuts")
    assert losses > 0
