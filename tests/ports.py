"""Ports of this machine for servers of tests: none that a connection or another test takes meanwhile.

A port that the system gives out and that is let go again may be anybody's a moment later: another server's, or the near
end of a connection. These lie outside the range that connections get theirs from, and each is kept as long as this
process lives by a socket of another kind, which a server does not collide with and another process of tests does.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

_LOWEST: Final = 10_000
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_kept: list[socket.socket] = []
_draw: Final = random.SystemRandom()  # the tests' own chance is seeded alike in each process


def free_port() -> int:
    """A loopback port that nobody listens on, and that nobody else who asks here gets."""
    for _ in range(1_000):
        port = _draw.randrange(_LOWEST, _first_of_connections())
        keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            keeper.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            keeper.close()
            continue
        _kept.append(keeper)
        return port
    raise RuntimeError("no port of this machine is free")


def _first_of_connections() -> int:
    """Where the range begins that connections get their own ports from."""
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    return first if first > _LOWEST + 1_000 else 65_536
