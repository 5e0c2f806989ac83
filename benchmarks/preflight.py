"""What does an exact verdict on a file cost, in time and memory, beside the loop that anybody would write?

    python -m benchmarks.preflight [--rounds N] [--share S] [--files NAME...] [--directory DIR]

The plain loop reads line by line, tries one regular expression and keeps a set: it finds that something is wrong, but
neither which rule nor the line of the first occurrence. Beside it `check_file`, `clean_file` and `split_file`; and,
where they are installed, polars and duckdb reading one column and counting what is distinct and what does not match.

Every run is a fresh process; the sides take turns. A ratio is of medians, to the plain loop on the same file. Memory is
what a run needs at its peak over the interpreter with its modules imported. With `--share 1` the files have 148 MB
(some minutes, and more than a gigabyte of memory for the plain loop); the bounds are for 2 to 4 million UUIDs.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.file_makers import MAKERS, made
from benchmarks.verdict import ratio_of_medians, spread, state

if TYPE_CHECKING:
    from collections.abc import Callable

Samples = dict[tuple[str, str], list[tuple[float, float]]]  # side, file -> seconds, MB

_ROW: Final = rb"[A-Za-z0-9@.+_-]+"
BOUNDS: Final[dict[str, dict[str, float]]] = {"check": {"uuids": 0.70}}  # of the ratio to the plain loop
SIDES: Final = ("plain", "check", "clean", "split")


def plain(path: Path) -> None:
    row, seen, wrong, doubled = re.compile(_ROW + rb"\Z"), set(), 0, 0
    with path.open("rb") as file:
        for line in file:
            value = line.rstrip(b"\n")
            if not row.match(value):
                wrong += 1
            if value in seen:
                doubled += 1
            else:
                seen.add(value)


def check(path: Path) -> None:
    from moe_segments.files.check import check_file

    asyncio.run(check_file(path))


def clean(path: Path) -> None:
    from moe_segments.files.check import clean_file

    asyncio.run(clean_file(path, path.with_suffix(".clean")))


def split(path: Path) -> None:
    from moe_segments.files.check import split_file

    with tempfile.TemporaryDirectory(dir=path.parent) as parts:
        asyncio.run(split_file(path, parts))


def polars(path: Path) -> None:
    pl = importlib.import_module("polars")

    frame = pl.read_csv(path, has_header=False, separator="\x01", quote_char=None, infer_schema=False)
    column = frame.get_column(frame.columns[0])
    column.n_unique()
    column.str.contains(r"^[A-Za-z0-9@.+_-]+$").sum()


def duckdb(path: Path) -> None:
    db = importlib.import_module("duckdb")

    read = f"read_csv('{path}', header=false, delim='\x01', quote='', columns={{'v': 'VARCHAR'}})"
    relation = db.sql(f"SELECT count(DISTINCT v), sum(regexp_full_match(v, '[A-Za-z0-9@.+_-]+')::INT) FROM {read}")
    relation.fetchall()


NEEDS: Final = {"plain": "re", "polars": "polars", "duckdb": "duckdb"}  # imported before
ALL: Final[dict[str, Callable[[Path], None]]] = {
    "plain": plain,
    "check": check,
    "clean": clean,
    "split": split,
    "polars": polars,
    "duckdb": duckdb,
}


def memory_mb(field: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def one_run(side: str, path: Path) -> None:
    """In a process of its own: print seconds and MB."""
    importlib.import_module(NEEDS.get(side, "moe_segments.files.check"))
    before = memory_mb("VmRSS")
    began_s = time.perf_counter()
    ALL[side](path)
    taken_s = time.perf_counter() - began_s
    print(json.dumps([taken_s, memory_mb("VmHWM") - before]))


def measured(side: str, path: Path) -> tuple[float, float]:
    command = (sys.executable, "-m", "benchmarks.preflight", "--one", side, str(path))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    taken_s, memory_mb = json.loads(done.stdout.splitlines()[-1])
    return taken_s, memory_mb


def measure(names: list[str], rounds: int, share: float, directory: Path) -> Samples:
    files = {name: made(name, directory, share) for name in names}
    sides = [*SIDES, *(peer for peer in ("polars", "duckdb") if importlib.util.find_spec(peer))]
    found: Samples = defaultdict(list)
    for number in range(rounds):
        for name, path in files.items():
            for side in sides:
                if side in ("polars", "duckdb") and number >= 2:  # to know them is enough
                    continue
                found[side, name].append(measured(side, path))
    for path in directory.glob("*.clean"):
        path.unlink()
    return found


def told(found: Samples) -> bool:
    for (side, name), samples in found.items():
        memory = max(sample[1] for sample in samples)
        print(f"{name:<10}{side:<8}{spread([sample[0] for sample in samples], 's', 1.0)}  {memory:,.0f} MB", flush=True)
    within = [_told_one(found, side, name) for side, name in found if side != "plain"]
    within += [_memory_told(found, name) for name in {name for side, name in found if side == "check"}]
    return all(within)


def _seconds(found: Samples, side: str, name: str) -> list[float]:
    return [sample[0] for sample in found[side, name]]


def _told_one(found: Samples, side: str, name: str) -> bool:
    ratio = ratio_of_medians(_seconds(found, side, name), _seconds(found, "plain", name))
    bound = BOUNDS.get(side, {}).get(name)
    if bound is not None:
        return state(f"{name}, {side}", ratio, bound)
    print(f"{name}, {side}: ratio {ratio:.2f}")
    return True


def _memory_told(found: Samples, name: str) -> bool:
    peak = {side: max(sample[1] for sample in found[side, name]) for side in ("plain", "check")}
    ratio = peak["check"] / peak["plain"]
    if name in BOUNDS["check"]:
        return state(f"{name}, check, peak memory to the plain loop's", ratio, 1.0)
    print(f"{name}, check, peak memory to the plain loop's: ratio {ratio:.2f}")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--files", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one_run(arguments.one[0], Path(arguments.one[1]))
        return
    with tempfile.TemporaryDirectory() as place:
        directory = arguments.directory or Path(place)
        within = told(measure(arguments.files, arguments.rounds, arguments.share, directory))
    sys.exit(not within)


if __name__ == "__main__":
    main()
