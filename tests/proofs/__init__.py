"""Proofs of the governor over many histories; `python -m tests.prove` runs their full form.

`MOE_PROOF=full` in the environment asks for the full form. A proof that fails names its seed, or the example to repeat.
"""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["IS_FULL", "cases", "say"]

IS_FULL: Final = os.environ.get("MOE_PROOF") == "full"


def cases(short: int, full: int) -> int:
    """How many cases a proof tries: *short* unless the environment asks for all."""
    return full if IS_FULL else short


def say(*words: object) -> None:
    """Show figures at once; pytest keeps them for who asks."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()
