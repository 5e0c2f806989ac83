"""The host's clock for journals: wall time anchored once per boot to the clock that no one can set.

Integer microseconds since the epoch. Within a boot only the boot clock moves a journal's time, so an NTP
step, an operator's `date` and a suspend neither turn it back nor push it forward. The wall clock is asked
once per boot, and never takes a journal back before its last batch.

On Linux the boot clock is CLOCK_BOOTTIME, which counts suspends, and the boot is named by the kernel's
`boot_id`, with the time namespace, since namespaces of one boot have clocks of their own. Elsewhere it is
CLOCK_MONOTONIC (on macOS that counts sleep, too) or `time.monotonic_ns`, and the boot is named by its moment,
rounded to ten minutes: a wall clock set while the host runs then looks like another boot to whoever opens the
journal next. A clock that stops during a suspend runs late, which costs waiting and admits nothing too early.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.journal import Clock

__all__ = ["Anchor", "BootClock", "anchored_now"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE: Final = Path("/proc/self/ns/time")
_BOOT_MOMENT_STEP_US: Final = 600 * 1_000_000


@attrs.frozen
class Anchor:
    """One moment on both clocks; the journal keeps it for the rest of the boot.

    Attributes:
        boot_id: The boot it belongs to.
        wall_us: Microseconds since the epoch at that moment.
        boot_us: Microseconds of the boot clock at that moment.
    """

    boot_id: str
    wall_us: int
    boot_us: int


def anchored_now(anchor: Anchor, boot_us: int) -> int:
    """Microseconds since the epoch when the boot clock shows *boot_us*, as *anchor* tells it."""
    return anchor.wall_us + boot_us - anchor.boot_us


def _wall_us() -> int:
    return time.time_ns() // 1_000


if hasattr(time, "CLOCK_BOOTTIME"):

    def _boot_us() -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000

elif hasattr(time, "CLOCK_MONOTONIC"):

    def _boot_us() -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000

else:

    def _boot_us() -> int:
        return time.monotonic_ns() // 1_000


def _boot_id() -> str:
    try:
        boot = _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return f"moment-{round((_wall_us() - _boot_us()) / _BOOT_MOMENT_STEP_US)}"
    try:
        return f"{boot} {_TIME_NAMESPACE.readlink()}"
    except OSError:  # a kernel without time namespaces has one boot clock
        return boot


@attrs.frozen(kw_only=True)
class BootClock:
    """The sources of the host's time, each replaceable in tests.

    Attributes:
        wall_us: The wall clock, microseconds since the epoch.
        boot_us: A clock that cannot be set, microseconds since some moment of this boot.
        boot_id: The name of this boot.
    """

    wall_us: Callable[[], int] = _wall_us
    boot_us: Callable[[], int] = _boot_us
    boot_id: Callable[[], str] = _boot_id

    def anchor(self, stored: Anchor | None = None, *, last_at_us: int = 0) -> Anchor:
        """The stored anchor while its boot lasts, else a new one that is not before *last_at_us*.

        A boot clock behind the stored anchor (a virtual machine put back to a snapshot) counts as another
        boot.
        """
        boot_id, boot_us = self.boot_id(), self.boot_us()
        if stored is not None and stored.boot_id == boot_id and stored.boot_us <= boot_us:
            return stored
        return Anchor(boot_id, max(self.wall_us(), last_at_us), boot_us)

    def clock(self, anchor: Anchor) -> Clock:
        """A clock that only the boot clock moves from *anchor* on."""
        boot_us, offset_us = self.boot_us, anchored_now(anchor, 0)
        return lambda: offset_us + boot_us()
