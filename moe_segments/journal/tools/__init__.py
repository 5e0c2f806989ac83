"""Tools for a whole journal: copy it to another place, check it, read it."""

from moe_segments.journal.tools.commands import (
    CheckReport,
    CopyReport,
    LogEntry,
    cancel_copy,
    check,
    copy_journal,
    origin_of,
    place_of,
    read_log,
)

__all__ = [
    "CheckReport",
    "CopyReport",
    "LogEntry",
    "cancel_copy",
    "check",
    "copy_journal",
    "origin_of",
    "place_of",
    "read_log",
]
