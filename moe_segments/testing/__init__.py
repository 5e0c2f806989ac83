"""Help for testing applications that use this package: hours of waiting in no time."""

from moe_segments.testing.virtual_time import EPOCH_US, VirtualTimeLoop, journal_clock, run_virtually

__all__ = ["EPOCH_US", "VirtualTimeLoop", "journal_clock", "run_virtually"]
