"""A live page of a real journal: quotas, the plan ahead, segments, jobs, callbacks, the log. Read-only, on loopback."""

from moe_segments.dashboard.server import Dashboard

__all__ = ["Dashboard"]
