"""Places on the disk that cannot be used, and users who may not use them. Real mounts and real users, or a skip."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["BROKEN", "as_user", "broken", "full_disk", "read_only_disk"]

BROKEN: Final = ("a file", "read-only", "full")
# A user may not read the interpreter in somebody's home: this capability reads everything, and writes nothing.
_READS_ALL: Final = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


def as_user(uid: int) -> Sequence[str]:
    """What to put before a command so that it runs as *uid*, who has no name and no home."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to run as another user")
    return ("setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *_READS_ALL)


@contextmanager
def _mounted(directory: Path, options: str) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=False).returncode:
        pytest.skip("needs leave to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def full_disk(directory: Path, free_bytes: int = 0) -> Iterator[None]:
    """A file system of its own at *directory*, which has room for so much."""
    with _mounted(directory, "size=1m,mode=777"):
        with (directory / "filling").open("wb", buffering=0) as filling:
            block = bytes(4_096)
            try:
                while filling.write(block) == len(block):
                    pass
            except OSError:
                pass
            filling.truncate((1 << 20) - free_bytes)
        yield


@contextmanager
def read_only_disk(directory: Path) -> Iterator[None]:
    """What is at *directory*, mounted once more over itself and read-only."""
    directory.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "--bind", directory, directory], check=False).returncode:
        pytest.skip("needs leave to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


@contextmanager
def broken(kind: str, directory: Path) -> Iterator[Path]:
    """A state directory at *directory* that cannot be used: one of `BROKEN`."""
    with ExitStack() as stack:
        if kind == "a file":
            directory.write_text("no directory")
        elif kind == "read-only":
            stack.enter_context(read_only_disk(directory))
        else:
            stack.enter_context(full_disk(directory))
        yield directory
