"""Measure values from a generator beside a preflight of the file that they make, in time and memory.

    python -m benchmarks.values [--rounds N] [--rows N]

One side reads a file of UUIDs with `check_file`, by the rules of a submit, which knows the attribute's name. The other
takes the same UUIDs from a generator over a list, writes them to the private temporary file and checks it, as a submit
does before it publishes. Every run is a fresh process; the sides take turns; the ratio is of medians, to the preflight.
Memory is the peak over what was there when the list was made. Beside it, how long the event loop was held at most while
the values were read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

from benchmarks.preflight import memory_mb
from benchmarks.verdict import ratio_of_medians, spread, state, state_figure

BOUND: Final = 1.3
MEMORY_MB: Final = 60.0
HELD_MS: Final = 50.0
SIDES: Final = ("preflight", "values", "duplicates")


async def longest_hold_s(hold: list[float]) -> None:
    """Note how long the event loop was held, until cancelled."""
    last_s = time.perf_counter()
    while True:
        await asyncio.sleep(0.001)
        now_s = time.perf_counter()
        hold.append(now_s - last_s - 0.001)
        last_s = now_s


async def _run(side: str, path: Path) -> tuple[float, float, float]:
    from moe_segments import QuotaLimits
    from moe_segments.files.check import check_file
    from moe_segments.files.value_file import write_values

    given: list[str] = []
    if side != "preflight":
        with path.open() as file:
            given.extend(map(str.rstrip, file))
    if side == "duplicates":
        given += given[::10]
    before = memory_mb("VmRSS")
    hold: list[float] = []
    watch = asyncio.create_task(longest_hold_s(hold))
    await asyncio.sleep(0)
    began_s = time.perf_counter()
    if side == "preflight":
        await check_file(path, attribute_name="ID")
    else:
        values = (value for value in given)
        written = await write_values(
            values, name="the values", attribute_name="ID", attribute_type="string", limits=QuotaLimits()
        )
        written.remove()
    taken_s = time.perf_counter() - began_s
    watch.cancel()
    return taken_s, memory_mb("VmHWM") - before, max(hold, default=0.0) * 1_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=2_000_000)
    options.add_argument("--one", nargs=2)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(asyncio.run(_run(chosen.one[0], Path(chosen.one[1])))))
        return
    found: dict[str, list[tuple[float, float, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "values.csv"
        path.write_text("".join(f"{uuid.uuid4()}\n" for _ in range(chosen.rows)))
        for _ in range(chosen.rounds):
            for side in SIDES:
                command = [sys.executable, "-m", "benchmarks.values", "--one", side, str(path)]
                found[side].append(tuple(json.loads(subprocess.check_output(command))))
    seconds = {side: [one[0] for one in runs] for side, runs in found.items()}
    for side, runs in found.items():
        memory, held = max(one[1] for one in runs), max(one[2] for one in runs)
        print(f"{side}: {spread(seconds[side])}, {memory:.0f} MB, loop held {held:.0f} ms at most")
    state("values to preflight", ratio_of_medians(seconds["values"], seconds["preflight"]), BOUND)
    state_figure("memory of values", max(one[1] for one in found["values"]), MEMORY_MB, "MB")
    for side in ("values", "duplicates"):
        state_figure(f"loop held while {side} are read", max(one[2] for one in found[side]), HELD_MS, "ms")


if __name__ == "__main__":
    main()
