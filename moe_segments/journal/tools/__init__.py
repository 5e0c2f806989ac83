"""Tools for a whole journal: back it up, move it to another place, check it, read it. The commands `journal` use them.

Every function takes the URLs of journals and the scope: workspace and data center, as in `SegmentsClient.scope`.
"""

from moe_segments.journal.tools.backup import BackupReport, backup_journal
from moe_segments.journal.tools.log import LogEntry, read_log
from moe_segments.journal.tools.migrate import CopyReport, cancel_copy, copy_journal
from moe_segments.journal.tools.replay import origin_of
from moe_segments.journal.tools.verify import CheckReport, check
from moe_segments.models.urls import place_of

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
