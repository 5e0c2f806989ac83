"""Which process holds a reservation, so that a restart can tell a dead one from a slow one. Linux; elsewhere silent."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["is_gone", "this_process"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> str | None:
    """This process as boot, pid and start time; None where the system does not tell."""
    boot, start = _boot_id(), _start_time(os.getpid())
    return f"{boot}/{os.getpid()}/{start}" if boot and start else None


def is_gone(owner: str | None) -> bool:
    """Whether *owner*, as `this_process` named it on this host, is certainly not running. False when in doubt."""
    boot = _boot_id()
    if owner is None or boot is None:
        return False
    owner_boot, pid, start = owner.split("/")
    return owner_boot != boot or _start_time(int(pid)) != start


@cache
def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold blanks; the start time is the 20th field after it.
    return stat.rpartition(")")[2].split()[19]
