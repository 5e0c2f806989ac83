"""Tools for a whole journal: back it up, move it to another place, check it, read it. The commands `journal` use them.

Every function takes the URLs of journals and the scope: workspace and data center, as in `SegmentsClient.scope`.
"""

from __future__ import annotations

from moe_segments.journal.opening import file_of, open_journal
from moe_segments.journal.tools.backup import BackupReport, backup_journal
from moe_segments.journal.tools.log import LogEntry, read_log
from moe_segments.journal.tools.migrate import CopyReport, cancel_copy, copy_journal, existing_journal
from moe_segments.journal.tools.replay import folded
from moe_segments.journal.tools.verify import CheckReport, check_journal
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


async def check(url: str, scope: str) -> CheckReport:
    """Read a whole log and look for what is wrong with it. Changes nothing.

    Raises:
        InputError: There is no such journal, or it lasts no longer than its process.
        JournalError: It cannot be opened.
    """
    async with existing_journal(url, scope) as journal:
        return await check_journal(journal)


async def origin_of(url: str, scope: str) -> str | None:
    """Return the address of the service that a journal was kept for; None where nothing was kept.

    Raises:
        InputError: The URL cannot be used.
        JournalError: The journal cannot be read.
    """
    path = file_of(url)
    if url == "memory:" or (path is not None and not path.is_file()):  # opening it would make one
        return None
    journal = open_journal(url, scope)
    await journal.open()
    try:
        opened = folded(await journal.read(0)).opened
    finally:
        await journal.close()
    return None if opened is None else opened.origin
