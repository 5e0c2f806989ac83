"""Measure the difference of a source and a snapshot beside plain sets, polars, and `sort` and `comm`.

    python -m benchmarks.audience_difference [--rounds N] [--values N]

A segment of N values has a snapshot; the source has N values, 1 % of them others, in any order, from a generator over
the lines of a file. The plain way reads the old and the new file into two sets and subtracts them both ways. Every run
is a fresh process; the sides take turns; the ratio is of medians, to the sets. Memory is the peak over what the
imports take. polars, of the dependency group `frames`, reads both files and joins them both ways.

Beside it, how long the event loop was held at most: on the clock, and of that what the process itself computed in the
meantime, since a busy machine holds whom it likes. The bound is for the latter. A thread that only counts (`counting`)
shows what the interpreter and the machine add.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.preflight import memory_mb
from benchmarks.verdict import ratio_of_medians, spread, state, state_figure

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND: Final = 2.5
MEMORY_MB: Final = 200.0
HELD_MS: Final = 50.0
SIDES: Final = ("set", "sort and comm", "polars", "counting", "ours")
CHURN: Final = 100  # one in so many
SEGMENT: Final = "vip"
_COUNTED_S: Final = 4.0


def _lines(path: Path) -> Iterator[str]:
    with path.open() as file:
        for line in file:
            yield line[:-1]


async def _ours(place: Path) -> tuple[int, int]:
    from moe_segments import Audience, QuotaLimits
    from moe_segments.audiences.comparison import compare, read_source
    from moe_segments.audiences.snapshots.directory import SnapshotDirectory
    from moe_segments.core.audiences.memberships import Held
    from moe_segments.files.stream import in_thread

    digest, size = json.loads((place / "snapshot.json").read_text())
    held = Held(holds=(digest,), size=size, job="", since_us=0, full_us=0)
    audience = Audience(
        SEGMENT, attribute_name="ID", attribute_type="string", members=lambda: _lines(place / "new.csv")
    )
    given = await read_source(audience, QuotaLimits())
    blocks = SnapshotDirectory(place / "snapshots").read(SEGMENT, digest)
    comparison = await in_thread(lambda: compare(audience, given, held, blocks, exists=True, last_held=size))
    found = comparison.added.count, comparison.removed.count
    comparison.remove_files()
    return found


def _sets(place: Path) -> tuple[int, int]:
    old, new = (set(_lines(place / name)) for name in ("old.csv", "new.csv"))
    return len(new - old), len(old - new)


def _commands(place: Path) -> tuple[int, int]:
    sort = "LC_ALL=C sort -S 150M -u new.csv > new.sorted && LC_ALL=C comm -3 old.sorted new.sorted > changes"
    subprocess.run(["sh", "-c", sort], cwd=place, check=True)
    lines = (place / "changes").read_text().splitlines()
    added = sum(line.startswith("\t") for line in lines)
    return added, len(lines) - added


def _polars(place: Path) -> tuple[int, int]:
    import polars as pl

    old, new = (
        pl.read_csv(place / name, has_header=False, schema={"value": pl.String}).unique()
        for name in ("old.csv", "new.csv")
    )
    return new.join(old, on="value", how="anti").height, old.join(new, on="value", how="anti").height


def _counting(seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        sum(range(1_000))


async def _watch(holds: list[tuple[float, float]]) -> None:
    """Note how long the event loop was held, on the clock and by this process' own computing, until cancelled."""
    last_s, used_s = time.perf_counter(), time.process_time()
    while True:
        await asyncio.sleep(0.001)
        now_s, now_used_s = time.perf_counter(), time.process_time()
        held_s = now_s - last_s - 0.001
        holds.append((held_s, min(held_s, now_used_s - used_s)))
        last_s, used_s = now_s, now_used_s


async def _found(side: str, place: Path) -> tuple[int, int]:
    match side:
        case "ours":
            return await _ours(place)
        case "counting":
            await asyncio.to_thread(_counting, _COUNTED_S)
            return 0, 0
        case "set":
            return _sets(place)
        case "polars":
            return _polars(place)
        case _:
            return _commands(place)


async def _run(side: str, place: Path) -> tuple[float, float, float, float, tuple[int, int]]:
    import moe_segments.audiences.comparison  # noqa: F401 - before the clock starts

    if side == "polars":
        import polars as pl  # noqa: F401 - likewise
    before, holds = memory_mb("VmRSS"), list[tuple[float, float]]()
    watch = asyncio.create_task(_watch(holds))
    await asyncio.sleep(0)
    began_s = time.perf_counter()
    found = await _found(side, place)
    taken_s = time.perf_counter() - began_s
    watch.cancel()
    held, computed = (max((hold[at] for hold in holds), default=0.0) * 1_000 for at in (0, 1))
    return taken_s, memory_mb("VmHWM") - before, held, computed, found


def prepare(place: Path, values: int) -> None:
    """Make the files, the snapshot, and the sorted file of the old values."""
    from moe_segments.audiences.snapshots.directory import SnapshotDirectory
    from moe_segments.audiences.sorted_file import Sorter, lines_of

    chance = random.Random(7)
    old = [f"{chance.getrandbits(64):016x}" for _ in range(values)]
    new = [f"n{value[1:]}" if index % CHURN == 0 else value for index, value in enumerate(old)]
    chance.shuffle(new)
    (place / "old.csv").write_text("\n".join((*old, "")))
    (place / "new.csv").write_text("\n".join((*new, "")))
    sorter = Sorter("the old values")
    for begin in range(0, values, 100_000):
        sorter.feed(lines_of(old[begin : begin + 100_000]))
    whole = sorter.finish()
    (place / "snapshot.json").write_text(
        json.dumps(SnapshotDirectory(place / "snapshots").write(SEGMENT, whole.blocks()))
    )
    (place / "old.sorted").write_bytes(whole.path.read_bytes())
    whole.remove()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--values", type=int, default=4_000_000)
    options.add_argument("--one", nargs=2)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(asyncio.run(_run(chosen.one[0], Path(chosen.one[1])))))
        return
    sides = [side for side in SIDES if side != "polars" or find_spec("polars")]
    if "polars" not in sides:
        print("polars is skipped: pip install --group frames")
    found: dict[str, list[tuple[float, float, float, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as directory:
        making = (
            f"from benchmarks.audience_difference import Path, prepare; prepare(Path({directory!r}), {chosen.values})"
        )
        subprocess.run([sys.executable, "-c", making], check=True)
        for number in range(chosen.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                command = [sys.executable, "-m", "benchmarks.audience_difference", "--one", side, directory]
                *figures, changes = json.loads(subprocess.check_output(command))
                assert side == "counting" or changes == [-(-chosen.values // CHURN)] * 2, changes
                found[side].append(tuple(figures))
    for side, runs in found.items():
        times, memories, holds, computed = zip(*runs, strict=True)
        held = f", event loop held {max(holds):.0f} ms, {max(computed):.0f} ms of them by itself"
        in_thread = side in ("counting", "ours")
        print(f"{side:14} {spread(times)}, {max(memories):.0f} MB{held if in_thread else ''}")
    seconds = {side: [taken_s for taken_s, *_ in runs] for side, runs in found.items()}
    for peer in sides[1:-2]:
        print(f"{peer} to sets: ratio {ratio_of_medians(seconds[peer], seconds['set']):.2f}")
    passed = [
        state("difference to sets", ratio_of_medians(seconds["ours"], seconds["set"]), BOUND),
        state_figure("memory", max(memory for _, memory, *_ in found["ours"]), MEMORY_MB, "MB"),
        state_figure("event loop held", max(computed for *_, computed in found["ours"]), HELD_MS, "ms"),
    ]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
