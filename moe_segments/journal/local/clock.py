"""The host's clock for journals: wall time anchored once per boot to the clock that no one can set.

Integer microseconds since the epoch. Within a boot only the boot clock moves a journal's time, so an NTP
step, an operator's `date` and a suspend neither turn it back nor push it forward. The journal's time never goes back
before its last batch.

Across boots wall time is all there is. It is taken at its word unless the system says that it is not synchronised
(Linux: `adjtimex`). The time between two boots is the difference of two readings of it; where one of them could not be
relied on, no time has passed, and the journal's time lags behind from then on. So a wall clock that is wrong until it
is synchronised frees no quota early.

On Linux the boot clock is CLOCK_BOOTTIME, which counts suspends, and the boot is named by the kernel's
`boot_id`, with the time namespace, since namespaces of one boot have clocks of their own. Elsewhere it is
CLOCK_MONOTONIC (on macOS that counts sleep, too) or `time.monotonic_ns`, and the boot is named by its moment,
rounded to ten minutes: a wall clock set while the host runs then looks like another boot to whoever opens the
journal next. A clock that stops during a suspend runs late, which costs waiting and admits nothing too early.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from moe_segments.journal.protocol import Clock

__all__ = ["Anchor", "BootClock", "anchored_now"]

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE: Final = Path("/proc/self/ns/time")
_TIME_ERROR: Final = 5  # of adjtimex: the clock is not synchronised
_BOOT_MOMENT_STEP_US: Final = 600 * 1_000_000


@attrs.frozen
class Anchor:
    """One moment on both clocks; the journal keeps it for the rest of the boot.

    Attributes:
        boot_id: The boot it belongs to.
        wall_us: The journal's time at that moment, microseconds since the epoch.
        boot_us: Microseconds of the boot clock at that moment.
        lag_us: How far the journal's time is behind wall time; None when that is not known yet.
        is_sure: The lag is that of this boot; else of an earlier one, as the wall clock could not be relied on.
    """

    boot_id: str
    wall_us: int
    boot_us: int
    lag_us: int | None = 0
    is_sure: bool = True


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


@functools.cache
def _adjtimex() -> Callable[[], int] | None:
    import ctypes  # for the first look in a boot, and until the clock is synchronised

    try:
        call = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError, TypeError):  # another system
        return None
    # A `struct timex` of zeros asks and changes nothing; it has 208 bytes, and may grow.
    return lambda: int(call(ctypes.create_string_buffer(1_024)))


def _is_synchronised() -> bool | None:
    adjtimex = _adjtimex()
    state = -1 if adjtimex is None else adjtimex()
    return None if state < 0 else state != _TIME_ERROR


@attrs.frozen(kw_only=True)
class BootClock:
    """The sources of the host's time, each replaceable in tests.

    Attributes:
        wall_us: The wall clock, microseconds since the epoch.
        boot_us: A clock that cannot be set, microseconds since some moment of this boot.
        boot_id: The name of this boot.
        is_synchronised: Whether the wall clock is synchronised; None where the system does not tell.
    """

    wall_us: Callable[[], int] = _wall_us
    boot_us: Callable[[], int] = _boot_us
    boot_id: Callable[[], str] = _boot_id
    is_synchronised: Callable[[], bool | None] = _is_synchronised

    def anchor(self, stored: Anchor | None = None, *, last_at_us: int = 0) -> Anchor:
        """Return the stored anchor while its boot lasts, else a new one that is not before *last_at_us*.

        A boot clock behind the stored anchor (a virtual machine put back to a snapshot) counts as another
        boot.
        """
        boot_id, boot_us = self.boot_id(), self.boot_us()
        if stored is not None and stored.boot_id == boot_id and stored.boot_us <= boot_us:
            return stored if stored.is_sure else self._measured(stored, boot_us, last_at_us)
        lag_us = _known_lag_us(stored, last_at_us)
        if self.is_synchronised() is not False:
            return self._begun(boot_id, boot_us, lag_us, last_at_us)
        if not last_at_us:
            return Anchor(boot_id, self.wall_us(), boot_us, None, is_sure=False)
        # One more than the last batch has, so that a batch of this boot is told from those before.
        return Anchor(boot_id, last_at_us + 1, boot_us, lag_us, is_sure=False)

    def _begun(self, boot_id: str, boot_us: int, lag_us: int | None, last_at_us: int) -> Anchor:
        """Return the anchor of a boot whose wall clock can be relied on."""
        wall_us = self.wall_us()
        begin_us = last_at_us if lag_us is None else max(wall_us - lag_us, last_at_us)
        return Anchor(boot_id, begin_us, boot_us, self._lag_us(wall_us, begin_us))

    def _measured(self, stored: Anchor, boot_us: int, last_at_us: int) -> Anchor:
        """Return the anchor of this boot, taken again once the wall clock can be relied on."""
        if self.is_synchronised() is False:
            return stored
        if last_at_us < stored.wall_us and stored.lag_us is not None:  # nothing was recorded meanwhile
            return self._begun(stored.boot_id, boot_us, stored.lag_us, last_at_us)
        return attrs.evolve(stored, lag_us=self._lag_us(self.wall_us(), anchored_now(stored, boot_us)), is_sure=True)

    def _lag_us(self, wall_us: int, now_us: int) -> int:
        """Return how far the journal's time *now_us* is behind; 0 where it is ahead, or the system does not tell."""
        return max(0, wall_us - now_us) if self.is_synchronised() else 0

    def clock(self, anchor: Anchor) -> Clock:
        """Return a clock that only the boot clock moves from *anchor* on."""
        boot_us, offset_us = self.boot_us, anchored_now(anchor, 0)
        return lambda: offset_us + boot_us()


def _known_lag_us(stored: Anchor | None, last_at_us: int) -> int | None:
    """Return the lag at the last batch; None where the wall clock could not be relied on in its boot."""
    if stored is None or not last_at_us:
        return 0
    return stored.lag_us if stored.is_sure or last_at_us < stored.wall_us else None
