"""Durable places that remember: one append-only, versioned log per workspace and data center."""

from moe_segments.journal.opening import open_journal
from moe_segments.journal.protocol import Clock, Decide, Journal

__all__ = ["Clock", "Decide", "Journal", "open_journal"]
