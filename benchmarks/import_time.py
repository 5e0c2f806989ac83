"""What does importing the package cost beside `import aiohttp`, which it cannot do without?

    python -m benchmarks.import_time [--rounds N]

Each import is timed inside a fresh interpreter, its start excluded and its bytecode warm (compiled before, into a
directory of this run), all in turn. A ratio is of the medians: 1.0 would mean that the package costs nothing on top of
aiohttp. Wanted: at most 0.1 for the package alone, 1.4 for a client.

`import moe_segments` alone loads each public name when it is first used, so it costs next to nothing; the ratio that
tells something is that of `from moe_segments import SegmentsClient`, which loads all that a client needs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Final

from benchmarks.verdict import ratio_of_medians, spread, state

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS: Final = {"import moe_segments": 0.1, "from moe_segments import SegmentsClient": 1.4}
THEIRS: Final = "import aiohttp"
WARM_UP: Final = 2


def import_s(statement: str, environ: Mapping[str, str]) -> float:
    """Seconds that *statement* takes in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    told = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True, env=environ)
    return float(told.stdout)


def measure(rounds: int, bytecode: str) -> dict[str, list[float]]:
    """Seconds of each import, by statement; bytecode is kept in the directory *bytecode*."""
    environ = os.environ | {"PYTHONPYCACHEPREFIX": bytecode}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, list[float]] = {statement: [] for statement in (THEIRS, *BOUNDS)}
    for number in range(WARM_UP + rounds):
        for statement, samples in found.items():
            taken_s = import_s(statement, environ)
            if number >= WARM_UP:
                samples.append(taken_s)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as bytecode:
        found = measure(rounds, bytecode)
    for statement, samples in found.items():
        print(f"{statement:<40}{spread(samples)}")
    within = [
        state(statement, ratio_of_medians(found[statement], found[THEIRS]), bound)
        for statement, bound in BOUNDS.items()
    ]
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
