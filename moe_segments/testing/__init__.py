"""Help for testing applications that use this package: hours of waiting in no time.

For pytest there are fixtures, `pytest_plugins = ["moe_segments.testing.plugin"]` in a `conftest.py`; for anything else
`run_virtually`.
"""

from moe_segments.testing.virtual_time import EPOCH_US, VirtualTimeLoop, journal_clock, run_virtually

__all__ = ["EPOCH_US", "VirtualTimeLoop", "journal_clock", "run_virtually"]
