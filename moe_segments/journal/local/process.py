"""Identify the process that holds a reservation, so that a restart can tell a dead one from a slow one. Linux only."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["is_gone", "this_process"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE: Final = Path("/proc/self/ns/pid")
_DEAD: Final = frozenset("ZX")  # not reaped yet, and being reaped


def this_process() -> str | None:
    """Return this process as boot, PID namespace, pid and start time; None where the system does not tell."""
    boot, namespace, start = _boot_id(), _pid_namespace(), _start_time(os.getpid())
    return f"{boot}/{namespace}/{os.getpid()}/{start}" if boot and namespace and start else None


def is_gone(owner: str | None, *, spans_hosts: bool = False) -> bool:
    """Return whether *owner*, as `this_process` named it, is certainly not running. False when in doubt.

    Containers of one host share its boot and not its process numbers: of another one's processes nothing is known.

    Args:
        owner: A process; None where it was not named.
        spans_hosts: It may have been named on another host, whose boot is another without being over.
    """
    boot = _boot_id()
    if owner is None or boot is None:
        return False
    owner_boot, *rest = owner.split("/")
    if owner_boot != boot:
        return not spans_hosts
    namespace, pid, start = rest
    return namespace == _pid_namespace() and _start_time(int(pid)) != start


@cache
def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def _pid_namespace() -> str | None:
    try:
        return str(_PID_NAMESPACE.readlink())
    except OSError:
        return None


def _start_time(pid: int) -> str | None:
    """Return when a running process was started, in the kernel's ticks; None for one that is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold blanks; after it come the state and, as the 20th field, the start time.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in _DEAD else fields[18]
