"""The full form of every proof, then the mutants: `python -m tests.prove [PYTEST OPTIONS]`.

Takes some minutes. Each proof's own figures are shown as it prints them. Exit status 0 when everything holds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.proofs import say

TREE: Final = Path(__file__).resolve().parent.parent
LONGEST_S: Final = 3_600  # of one proof


def run(title: str, *command: str) -> bool:
    """Run a part and say how it ended."""
    say(f"== {title}")
    begun = time.monotonic()
    environment = os.environ | {"MOE_PROOF": "full"}
    status = subprocess.run([sys.executable, *command], cwd=TREE, env=environment, check=False).returncode
    say(f"== {title}: {'holds' if status == 0 else f'FAILED, {status}'}, {time.monotonic() - begun:.0f} s")
    return status == 0


def main(options: list[str]) -> int:
    """Both parts, the second also when the first failed."""
    begun = time.monotonic()
    proofs = run(
        "proofs in full",
        *(
            "-m",
            "pytest",
            "tests/proofs",
            "tests/fleet",
            "-q",
            "-rP",
            "--durations=20",
            f"--timeout={LONGEST_S}",
            *options,
        ),
    )
    mutants = run("mutants", "-m", "tests.mutants")
    say(f"{'everything holds' if proofs and mutants else 'something does not hold'}, {time.monotonic() - begun:.0f} s")
    return 0 if proofs and mutants else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
