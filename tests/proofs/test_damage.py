"""A damaged journal file is refused, or nothing of it was hurt that anybody reads: never another error, never misread.

Bytes are flipped, pages copied, swapped, zeroed and filled, files cut off, before a client opens the file and while one
has it open. A file of the schema before checksums cannot tell every damage; it never raises another error either.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from moe_segments.core.events import Event, Reserved, encode
from moe_segments.errors import JournalError
from moe_segments.journal.local.witness_file import WitnessFile, beside, record_of
from moe_segments.journal.replica import Replica
from moe_segments.journal.sqlite.engine import SqliteJournal
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.journal.tools.replay import folded
from moe_segments.limits import QuotaLimits
from tests.fleet.moves import EVERYTHING
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch
    from moe_segments.core.state.workspace import WorkspaceState

pytestmark = pytest.mark.asyncio

SCOPE: Final = "W1@01"
PAGE: Final = 4_096
T0_US: Final = 1_790_000_000_000_000
CASES: Final = cases(short=240, full=2_000)


# What is done to a file


def flip(data: bytearray, chance: random.Random) -> None:
    """A single bit, or a few."""
    for _ in range(chance.choice((1, 1, 1, 3, 20))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_in_front(data: bytearray, chance: random.Random) -> None:
    """In the header of the file or of a page, where one bit says most."""
    page = chance.randrange(len(data) // PAGE) * PAGE
    data[page + chance.randrange(120)] = chance.randrange(256)


def copy_page(data: bytearray, chance: random.Random) -> None:
    one, other = chance.sample(range(len(data) // PAGE), 2)
    data[other * PAGE : (other + 1) * PAGE] = data[one * PAGE : (one + 1) * PAGE]


def swap_pages(data: bytearray, chance: random.Random) -> None:
    one, other = (slice(page * PAGE, (page + 1) * PAGE) for page in chance.sample(range(len(data) // PAGE), 2))
    data[one], data[other] = data[other], data[one]


def fill(data: bytearray, chance: random.Random) -> None:
    """A page, or a sector of one: zeros, ones, brackets, noise."""
    begin = chance.randrange(len(data) // 512) * 512
    size = min(chance.choice((16, 512, PAGE)), len(data) - begin)
    kinds = (bytes(size), b"\xff" * size, b"[" * size, chance.randbytes(size))
    data[begin : begin + size] = chance.choice(kinds)


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.choice((chance.randrange(len(data)), chance.randrange(len(data) // PAGE) * PAGE)) :]


def exchange_text(data: bytearray, chance: random.Random) -> None:
    """A letter or a digit by another one, which leaves the file and its JSON in order."""
    places = [place for place, byte in enumerate(data) if chr(byte).isalnum() and place > PAGE]
    place = chance.choice(places)
    data[place] = ord(chance.choice("0123456789" if chr(data[place]).isdigit() else "abcdefghijklmnopqrstuvwxyz"))


DAMAGES: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    *(flip, flip_in_front, copy_page, swap_pages),
    *(fill, truncate, exchange_text),
)


# The files


def reserved(number: int) -> Event:
    return Reserved(f"job-{number}", 1, {"op": "add", "name": f"s{number % 5}"}, 1, 10, 0, (f"s{number % 5}",), 30, 60)


async def write(path: Path, *, batches: int, checkpoint_at: int = 0, scopes: Sequence[str] = (SCOPE,)) -> None:
    """A file of this version, with some history in each of its logs."""
    for scope in scopes:
        journal = SqliteJournal(path, scope)
        await journal.open()
        for number, events in enumerate(EVERYTHING):
            await journal.append(events, batch_id=f"e{number}")
        for number in range(batches):
            await journal.append([reserved(number)], batch_id=f"b{number}")
        if checkpoint_at:
            log = await journal.read(0)
            state = folded(log[:checkpoint_at])
            await journal.checkpoint(checkpoint_at, state.snapshot(), keep_since_us=log[checkpoint_at - 1].at_us)
        await journal.close()


def write_first_schema(path: Path) -> None:
    """A file of the version before checksums."""
    with closing(sqlite3.connect(path)) as file, file:
        for statement in (*MIGRATIONS[0], "PRAGMA user_version = 1"):
            file.execute(statement)
        file.execute("INSERT INTO scopes VALUES (?, ?, ?, ?, ?)", (SCOPE, "f" * 32, "boot", T0_US, 5))
        log = [*EVERYTHING, *([reserved(number)] for number in range(40))]
        for version, events in enumerate(log, 1):
            row = (SCOPE, version, f"b{version}", T0_US + version, encode(events))
            file.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)


async def make_files(directory: Path) -> dict[Path, Sequence[Batch]]:
    """Several sound files, with what each holds."""
    files = {}
    for name, options in (
        ("short", {"batches": 2}),
        ("long", {"batches": 150}),
        ("compacted", {"batches": 60, "checkpoint_at": 40}),
        ("shared", {"batches": 20, "checkpoint_at": 9, "scopes": ("W0@01", SCOPE, "W2@01")}),
    ):
        path = directory / f"{name}.db"
        await write(path, **options)
        files[path] = await read(path)
    return files


async def read(path: Path) -> Sequence[Batch]:
    journal = SqliteJournal(path, SCOPE)
    await journal.open()
    try:
        return await journal.read(0)
    finally:
        await journal.close()


# What a client makes of it


def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], int]:
    event = reserved(state.version + 1_000)
    assert isinstance(event, Reserved)
    state.try_reserve(event, now_us)
    return [event], now_us


async def use(path: Path, sound: Sequence[Batch], *, damage: Callable[[], None], while_open: bool) -> str:
    """Open, decide, record, close and read again; how that ended. Other errors than `JournalError` are passed on."""
    journal = SqliteJournal(path, SCOPE)
    replica = Replica(journal, QuotaLimits())
    if not while_open:
        damage()
    try:
        await replica.open()
        if while_open:
            damage()
        if journal.doubt is not None:
            assert journal.is_new, journal.doubt
            return "doubted"
        await replica.ask(question)
        await replica.record(reserved(5_000))
        await replica.refresh()
        log = await journal.read(0)
        assert list(log[: len(sound)]) == list(sound), "what was written before"
        assert replica.state.version == log[-1].version == sound[-1].version + 2
    except JournalError:
        return "refused"
    finally:
        await replica.close()
    try:
        assert list(await read(path))[: len(sound)] == list(sound), "what the next one reads"
    except JournalError:
        return "refused later"
    return "unhurt"


def damaged(path: Path, to: Path, chance: random.Random) -> Callable[[], None]:
    """Copy a sound file; returns what damages the copy in place."""
    shutil.copyfile(path, to)
    seen = WitnessFile(beside(path, SCOPE)).recall()
    if seen is not None:
        beside(to, SCOPE).write_bytes(record_of(attrs.evolve(seen, path=str(to))))
    data = bytearray(to.read_bytes())
    chance.choice(DAMAGES)(data, chance)

    def damage() -> None:
        with to.open("r+b") as file:
            file.write(data)
            file.truncate(len(data))

    return damage


def numbered(count: int) -> Iterator[random.Random]:
    return (random.Random(f"damage {number}") for number in range(count))


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("while_open", [False, True])
async def test_a_damaged_file_is_refused_or_unhurt(while_open: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    files = await make_files(tmp_path)
    ends = Counter[str]()
    for number, chance in enumerate(numbered(CASES if not while_open else CASES // 4)):
        path = chance.choice(sorted(files))
        copy = tmp_path / str(number) / "quota.db"
        copy.parent.mkdir()
        ends[await use(copy, files[path], damage=damaged(path, copy, chance), while_open=while_open)] += 1
        shutil.rmtree(copy.parent)
    say(f"damaged files{' while open' * while_open}: {dict(ends)}")
    assert ends["refused"] + ends["refused later"] > ends["unhurt"] / 2


@pytest.mark.timeout(600)
async def test_a_damaged_file_of_the_first_schema_raises_no_other_error(tmp_path: Path) -> None:
    """And an undamaged one is read as what it was."""
    old = tmp_path / "old.db"
    write_first_schema(old)
    fresh = tmp_path / "fresh.db"
    shutil.copyfile(old, fresh)
    sound = await read(fresh)
    assert len(sound) == len(EVERYTHING) + 40
    refused = 0
    for number, chance in enumerate(numbered(CASES // 4)):
        copy = tmp_path / str(number) / "quota.db"
        copy.parent.mkdir()
        with suppress(AssertionError):  # a letter that changed is not noticed
            refused += await use(copy, sound, damage=damaged(old, copy, chance), while_open=False) == "refused"
        shutil.rmtree(copy.parent)
    say(f"damaged files of the first schema: {refused} of {CASES // 4} refused")
    assert refused
