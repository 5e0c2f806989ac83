"""Tools for a whole journal: back it up, move it to another place, check it, read it."""

from moe_segments.journal.tools.commands import (
    BackupReport,
    CheckReport,
    CopyReport,
    LogEntry,
    backup_journal,
    cancel_copy,
    check,
    copy_journal,
    origin_of,
    place_of,
    read_log,
)

__all__ = [
    "BackupReport",
    "CheckReport",
    "CopyReport",
    "LogEntry",
    "backup_journal",
    "cancel_copy",
    "check",
    "copy_journal",
    "origin_of",
    "place_of",
    "read_log",
]
