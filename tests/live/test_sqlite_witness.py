"""What the witnesses of a SQLite journal notice, and the clock that no one can set."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moe_segments.core.events import ExternalUsage, Quarantined, Reserved, Trusted
from moe_segments.errors import JournalError
from moe_segments.journal.local.clock import Anchor, BootClock, anchored_now
from moe_segments.journal.local.witness_file import beside, in_state_directory
from moe_segments.journal.sqlite.engine import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event

FACT = ExternalUsage(operations=1)
HOUR_US = 3_600 * 1_000_000
T0_US = 1_790_000_000_000_000


@asynccontextmanager
async def opened(path: Path, scope: str = "W1", **options: Any) -> AsyncIterator[SqliteJournal]:  # its own parameters
    journal = SqliteJournal(path, scope, **options)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def fill(path: Path, count: int, **options: Any) -> str:  # its own parameters
    """Append *count* batches more; the log's id."""
    async with opened(path, **options) as journal:
        for _ in range(count):
            last = len(await journal.read(0))
            await journal.append([FACT], batch_id=f"{path.name}-{last}")
        return journal.journal_id


def delete(*paths: Path) -> None:
    for path in paths:
        path.unlink()


async def doubt(path: Path, **options: Any) -> str | None:  # its own parameters
    async with opened(path, **options) as journal:
        return journal.doubt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "data" / "quota.db"
    place.parent.mkdir()
    return place


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


# Witnesses


@pytest.mark.asyncio
async def test_a_log_that_kept_everything_is_beyond_doubt(path: Path, state_dir: Path) -> None:
    await fill(path, 2, state_dir=state_dir)
    assert await doubt(path, state_dir=state_dir) is None


@pytest.mark.asyncio
async def test_a_witness_knows_the_log_its_version_and_where_it_lies(path: Path, state_dir: Path) -> None:
    journal_id = await fill(path, 2, state_dir=state_dir)
    for witness in (beside(path, "W1"), in_state_directory(state_dir, "W1")):
        seen = json.loads(witness.read_text())
        assert (seen["journal_id"], seen["version"], seen["path"]) == (journal_id, 2, str(path))


@pytest.mark.asyncio
@pytest.mark.parametrize("gone", ["file", "file and its witness"])
async def test_a_deleted_journal_is_noticed(path: Path, state_dir: Path, gone: str) -> None:
    await fill(path, 3, state_dir=state_dir)
    delete(path, *([] if gone == "file" else [beside(path, "W1")]))

    async with opened(path, state_dir=state_dir) as journal:
        assert journal.is_new
        assert journal.doubt is not None
        assert "was lost, deleted or moved away (version 3 was seen)" in journal.doubt


@pytest.mark.asyncio
async def test_without_a_state_directory_the_witness_beside_the_file_suffices(path: Path) -> None:
    await fill(path, 3)
    delete(path)
    assert "deleted" in str(await doubt(path))


@pytest.mark.asyncio
@pytest.mark.parametrize("restored", ["file", "directory"])
async def test_a_restored_backup_is_noticed(path: Path, state_dir: Path, restored: str) -> None:
    """The file alone, or with everything beside it: the state directory still knows."""
    await fill(path, 2, state_dir=state_dir)
    backup = path.parent.with_name("backup")
    shutil.copytree(path.parent, backup)
    await fill(path, 1, state_dir=state_dir)
    if restored == "file":
        shutil.copy(backup / path.name, path)
    else:
        shutil.rmtree(path.parent)
        backup.rename(path.parent)

    assert "was put back to version 2 although version 3 was seen" in str(await doubt(path, state_dir=state_dir))


@pytest.mark.asyncio
async def test_another_log_in_its_place_is_noticed(path: Path) -> None:
    await fill(path, 1)
    other = path.with_name("other.db")
    await fill(other, 5)
    other.rename(path)
    assert "was replaced by another one" in str(await doubt(path))


@pytest.mark.asyncio
async def test_two_paths_for_one_workspace_are_noticed_and_the_other_is_named(path: Path, state_dir: Path) -> None:
    await fill(path, 1, state_dir=state_dir)
    text = str(await doubt(path.with_name("second.db"), state_dir=state_dir))
    assert "two journals count one quota twice" in text
    assert f"use {path}, unless" in text


@pytest.mark.asyncio
async def test_a_path_mistyped_once_casts_no_doubt_on_the_right_one(path: Path, state_dir: Path) -> None:
    """Nothing was spent there: the client that noticed took every window to be full."""
    await fill(path, 1, state_dir=state_dir)
    wrong = path.with_name("wrong.db")
    async with opened(wrong, state_dir=state_dir) as journal:
        assert journal.doubt
        await journal.append([Quarantined(journal.doubt)], batch_id="q")
    assert await doubt(wrong, state_dir=state_dir), "and the wrong one stays in doubt"
    assert await doubt(path, state_dir=state_dir) is None


@pytest.mark.asyncio
async def test_the_doubt_at_another_place_is_the_same_until_the_known_one_is_used(path: Path, state_dir: Path) -> None:
    """So its quarantine ends, however often somebody looks; and begins anew where more was spent elsewhere."""
    await fill(path, 1, state_dir=state_dir)
    second = path.with_name("second.db")
    async with opened(second, state_dir=state_dir) as journal:
        first = journal.doubt
        await journal.append([Quarantined(str(first))], batch_id="q")
    assert first is not None
    assert await doubt(second, state_dir=state_dir) == first
    await fill(path, 1, state_dir=state_dir)
    assert await doubt(second, state_dir=state_dir) not in (None, first)


@pytest.mark.asyncio
@pytest.mark.parametrize("event", [Reserved("j", 1, {"op": "add", "name": "s"}), Trusted("moved there on purpose")])
async def test_a_journal_that_was_used_or_trusted_is_the_one(path: Path, state_dir: Path, event: Event) -> None:
    """From then on the old path is the doubtful one."""
    await fill(path, 1, state_dir=state_dir)
    moved = path.with_name("moved.db")
    async with opened(moved, state_dir=state_dir) as journal:
        assert journal.doubt
        await journal.append([event], batch_id="e")
    assert await doubt(moved, state_dir=state_dir) is None
    assert "two journals count one quota twice" in str(await doubt(path, state_dir=state_dir))


@pytest.mark.asyncio
async def test_a_copy_in_use_beside_its_original_is_noticed(path: Path) -> None:
    """Also without a state directory, when the witness was copied along."""
    await fill(path, 1)
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    assert "two journals count one quota twice" in str(await doubt(copy / path.name))


@pytest.mark.asyncio
async def test_moving_a_journal_raises_no_doubt(path: Path, state_dir: Path) -> None:
    await fill(path, 1, state_dir=state_dir)
    moved = path.parent.rename(path.parent.with_name("moved")) / path.name
    assert await doubt(moved, state_dir=state_dir) is None


@pytest.mark.asyncio
async def test_another_name_of_the_same_file_raises_no_doubt(path: Path, state_dir: Path) -> None:
    """A link shares the queue and the witness of what it names."""
    await fill(path, 1, state_dir=state_dir)
    link = path.parent.with_name("link.db")
    link.symlink_to(path)
    await fill(link, 1, state_dir=state_dir)
    assert await doubt(path, state_dir=state_dir) is None
    assert not link.with_name("link.db.lock").exists()


@pytest.mark.asyncio
async def test_a_doubt_stays_until_something_is_recorded(path: Path, state_dir: Path) -> None:
    """Looking does not settle it; the quarantine that the governor records does."""
    await fill(path, 3, state_dir=state_dir)
    delete(path)
    assert await doubt(path, state_dir=state_dir) is not None
    assert await doubt(path, state_dir=state_dir) is not None
    await fill(path, 1, state_dir=state_dir)
    assert await doubt(path, state_dir=state_dir) is None


@pytest.mark.asyncio
async def test_a_log_that_recorded_nothing_cannot_be_lost(path: Path) -> None:
    assert await doubt(path) is None
    delete(path)
    assert await doubt(path) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"", b"\xff\xfe not a witness", None], ids=["empty", "foreign", "half"])
async def test_a_damaged_witness_counts_as_absent_and_is_said(
    path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(path, 2)
    witness = beside(path, "W1")
    witness.write_bytes(witness.read_bytes()[:70] if content is None else content)

    assert await doubt(path) is None
    assert "is damaged and taken for absent" in caplog.text
    assert json.loads(witness.read_text())["version"] == 2


@pytest.mark.asyncio
async def test_each_scope_has_its_own_witness(path: Path, state_dir: Path) -> None:
    """Names that look alike as file names do not share one."""
    scopes = ("W/1", "W_1", "w_1", "W" * 300)
    for scope in scopes:
        await fill(path, 1, scope=scope, state_dir=state_dir)
    assert len(list(path.parent.glob("*.witness"))) == len(list((state_dir / "witness").iterdir())) == len(scopes)


@pytest.mark.asyncio
@pytest.mark.parametrize("change", ["deleted", "exchanged", "put back"])
async def test_a_journal_that_is_lost_while_it_is_open_is_refused(path: Path, change: str) -> None:
    """Nothing is decided on a file that others no longer see, or on a past that was put back."""
    await fill(path, 2)
    copy = shutil.copy(path, path.with_name("copy.db"))
    async with opened(path) as journal:
        await journal.append([FACT], batch_id="third")
        if change != "put back":
            shutil.move(path, path.with_name("away.db"))
        if change != "deleted":
            shutil.copyfile(copy, path)

        with pytest.raises(JournalError, match="while it was open"):
            await journal.append([FACT], batch_id="lost")
        with pytest.raises(JournalError, match="while it was open"):
            await journal.read(3)
        with pytest.raises(JournalError, match="while it was open"):
            await journal.transact(3, lambda _missed, _now_us: [FACT], batch_id="lost")


# The clock


@attrs.define
class FakeHost:
    """A host whose clocks are turned by hand, microseconds."""

    wall_us: int = T0_US
    boot_us: int = 50
    boot: str = "first"
    is_synchronised: bool | None = None

    def pass_time(self, time_us: int) -> None:
        """Both clocks go on."""
        self.wall_us += time_us
        self.boot_us += time_us

    def reboot(self, *, wall_us: int, is_synchronised: bool) -> None:
        """Another boot, whose wall clock shows something."""
        self.boot, self.boot_us = f"{self.boot}+", 80
        self.wall_us, self.is_synchronised = wall_us, is_synchronised

    def sources(self) -> BootClock:
        """What the journal asks."""
        return BootClock(
            wall_us=lambda: self.wall_us,
            boot_us=lambda: self.boot_us,
            boot_id=lambda: self.boot,
            is_synchronised=lambda: self.is_synchronised,
        )


async def stamp(journal: SqliteJournal, batch_id: str) -> int:
    return (await journal.append([FACT], batch_id=batch_id)).at_us - T0_US


async def seen_us(journal: SqliteJournal) -> int:
    """The journal's time, as a decision that writes nothing sees it."""
    seen: list[int] = []

    def look(_missed: Sequence[Batch], now_us: int) -> Sequence[Event]:
        seen.append(now_us)
        return ()

    await journal.transact(0, look, batch_id="look")
    return seen[-1] - T0_US


@pytest.mark.asyncio
@pytest.mark.parametrize("step_us", [HOUR_US, -HOUR_US])
async def test_setting_the_wall_clock_does_not_move_the_journal_s(path: Path, step_us: int) -> None:
    """Neither while it is open nor when it is opened again within the boot."""
    host = FakeHost()
    async with opened(path, host=host.sources()) as journal:
        assert await stamp(journal, "a") == 0
        host.wall_us += step_us
        host.pass_time(7)
        assert await stamp(journal, "b") == 7
    host.pass_time(5)
    async with opened(path, host=host.sources()) as journal:
        assert await stamp(journal, "c") == 12


@pytest.mark.asyncio
async def test_after_a_reboot_the_wall_clock_is_asked_once(path: Path) -> None:
    host = FakeHost()
    async with opened(path, host=host.sources()) as journal:
        await stamp(journal, "a")
    host.boot, host.boot_us = "second", 80
    host.wall_us += 2 * HOUR_US
    async with opened(path, host=host.sources()) as journal:
        assert await stamp(journal, "b") == 2 * HOUR_US
        host.wall_us += HOUR_US
        assert await stamp(journal, "c") == 2 * HOUR_US


@pytest.mark.asyncio
async def test_a_reboot_with_a_late_wall_clock_goes_on_from_the_last_batch(path: Path) -> None:
    """A dead battery costs waiting: time goes on from where the log ended."""
    host = FakeHost()
    async with opened(path, host=host.sources()) as journal:
        await stamp(journal, "a")
    host.boot, host.boot_us, host.wall_us = "second", 3, 0
    async with opened(path, host=host.sources()) as journal:
        host.pass_time(9)
        assert await stamp(journal, "b") == 9


@pytest.mark.asyncio
async def test_a_wall_clock_that_is_not_synchronised_frees_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two hours ahead after a reboot: for all that is known no time has passed."""
    host = FakeHost(is_synchronised=True)
    async with opened(path, host=host.sources()) as journal:
        await stamp(journal, "a")
    host.reboot(wall_us=T0_US + 2 * HOUR_US, is_synchronised=False)
    async with opened(path, host=host.sources()) as journal:
        assert "is not synchronised" in caplog.text
        host.pass_time(9)
        assert await stamp(journal, "b") == 10
        host.wall_us, host.is_synchronised = T0_US + 5_000, True
        assert await stamp(journal, "c") == 10
    host.reboot(wall_us=T0_US + HOUR_US, is_synchronised=True)
    async with opened(path, host=host.sources()) as journal:
        assert await stamp(journal, "d") == HOUR_US - 5_000 + 10, "what has passed since it was synchronised"


@pytest.mark.asyncio
async def test_once_the_wall_clock_is_synchronised_the_time_between_is_known(path: Path) -> None:
    """A service that starts before the network, and only waits, loses nothing by it."""
    host = FakeHost(is_synchronised=True)
    async with opened(path, host=host.sources()) as journal:
        await stamp(journal, "a")
    host.reboot(wall_us=0, is_synchronised=False)
    async with opened(path, host=host.sources()) as one, opened(path, host=host.sources()) as other:
        host.pass_time(5)
        assert await seen_us(one) == await seen_us(other) == 6
        host.wall_us, host.is_synchronised = T0_US + HOUR_US, True
        assert await seen_us(one) == HOUR_US
        assert await seen_us(other) == HOUR_US
        assert await stamp(one, "b") == HOUR_US


_STEPS = st.one_of(
    st.tuples(st.just("pass"), st.integers(1, 3 * HOUR_US)),
    st.tuples(st.just("record"), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0)),
    st.tuples(st.just("synchronise"), st.just(0)),
    st.tuples(st.just("boot"), st.integers(-5 * HOUR_US, 5 * HOUR_US)),
    st.tuples(st.just("boot right"), st.just(0)),
)


_RECORD, _BOOT_RIGHT = ("record", 0), ("boot right", 0)


@example(is_right=False, wrong_us=0, steps=[_RECORD, _BOOT_RIGHT, _RECORD, _BOOT_RIGHT, _RECORD])  # a lag is kept
@given(st.booleans(), st.integers(-5 * HOUR_US, 5 * HOUR_US), st.lists(_STEPS, max_size=30))
def test_a_journal_s_time_never_passes_faster_than_time(
    is_right: bool,  # noqa: FBT001 - drawn
    wrong_us: int,
    steps: list[tuple[str, int]],
) -> None:
    """However wrong the wall clock is while it is not synchronised: what was recorded never looks older than it is."""
    host = FakeHost(wall_us=T0_US + (0 if is_right else wrong_us), is_synchronised=is_right)
    now_us, last_us, anchor = T0_US, (0, 0), host.sources().anchor()
    for step, amount_us in steps:
        match step:
            case "pass":
                now_us += amount_us
                host.pass_time(amount_us)
            case "synchronise":
                host.wall_us, host.is_synchronised = now_us, True
            case "boot" | "boot right":
                now_us += 60_000_000
                host.reboot(wall_us=now_us + amount_us, is_synchronised=step == "boot right")
                anchor = host.sources().anchor(anchor, last_at_us=last_us[0])
            case "reopen":
                anchor = host.sources().anchor(anchor, last_at_us=last_us[0])
            case _:
                at_us = max(last_us[0], host.sources().clock(anchor)())
                assert not last_us[0] or at_us - last_us[0] <= now_us - last_us[1]
                last_us = at_us, now_us
                now_us += 1
                host.pass_time(1)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the system tells")
def test_linux_tells_whether_its_clock_is_synchronised() -> None:
    assert BootClock().is_synchronised() in {True, False}


@pytest.mark.asyncio
async def test_two_scopes_of_one_file_have_their_own_anchor(path: Path) -> None:
    host = FakeHost()
    async with opened(path, "W1", host=host.sources()) as one:
        host.wall_us += HOUR_US
        async with opened(path, "W2", host=host.sources()) as two:
            assert await stamp(one, "a") == 0
            assert await stamp(two, "a") == HOUR_US


def test_a_boot_clock_behind_its_anchor_counts_as_another_boot() -> None:
    """A virtual machine that was put back to a snapshot keeps the name of its boot."""
    host = FakeHost()
    anchor = host.sources().anchor()
    host.boot_us -= 20
    host.wall_us += HOUR_US
    assert host.sources().anchor(anchor).wall_us == T0_US + HOUR_US


def test_the_host_s_own_clock_agrees_with_its_anchor() -> None:
    host = BootClock()
    anchor = host.anchor()
    assert host.anchor(anchor) == anchor
    earliest_us = host.boot_us()
    now_us = host.clock(anchor)()
    assert anchored_now(anchor, earliest_us) <= now_us <= anchored_now(anchor, host.boot_us())
    assert anchored_now(Anchor("b", 100, 10), 15) == 105
