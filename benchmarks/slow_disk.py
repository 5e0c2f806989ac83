"""Run a benchmark as if every sync of the disk took longer.

The disk of a virtual machine often answers a sync before anything durable has it, in a tenth of a millisecond; a cloud
volume or a solid state disk that keeps its word takes one to five. Where a ratio is of work beside a sync, both are
worth knowing. The pause is put in front of `fsync` and `fdatasync` of the C library, for all sides of a ratio alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["again_with_slow_syncs", "is_slowed"]

_SOURCE = Path(__file__).with_name("slow_sync.c")


def is_slowed() -> bool:
    """Whether this process runs on the slower disk already."""
    return "SLOW_SYNC_US" in os.environ


def again_with_slow_syncs(sync_ms: float, module: str, *arguments: str) -> int:
    """Run *module* in a process whose syncs take *sync_ms* longer. Returns its exit code; 1 without a C compiler."""
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "slow_sync.so"
        try:
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
        except FileNotFoundError:
            print("needs a C compiler, cc")
            return 1
        slowed = os.environ | {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(round(sync_ms * 1_000))}
        return subprocess.run([sys.executable, "-m", module, *arguments], env=slowed, check=False).returncode
