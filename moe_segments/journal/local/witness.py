"""The witness of a log: its identity, and the last version and batch that any process of this host has seen.

A log that was deleted, put back from a copy, exchanged, or that failed over to a replica looks perfectly well by
itself. Its witness does not go back with it: one file lies in this host's state directory and, for a journal in a
file, one beside that. It is written after each commit, and after each read of a server. It is not synced: it may lag,
and never runs ahead.

The processes of a host share what they have seen. Each call compares the log with the latest record of any of them
(`ahead`), so a process that was idle while the others went on notices a log that lost what they saw. A record is
replaced by a later one only once the log was found to hold it (`note`). It goes back in one case: the log was opened in
doubt, and the doubt is written down in it, for every process to read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalReplaced
from moe_segments.journal.local.files import make_private_directories
from moe_segments.journal.local.outage import Outage
from moe_segments.journal.local.witness_file import WitnessFile, beside, in_state_directory, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from moe_segments.journal.local.witness_file import Sighting

__all__ = ["Witness"]

_NO_IDS: Final[Mapping[int, str]] = {}


class Witness:
    """The witness of one log.

    Args:
        state_dir: This host's state directory; None for none.
        scope: Which log: what shares one quota.
        journal: The real path of the file that holds the log; None for a log on a server.

    Raises:
        OSError: The state directory cannot be made, or a file not be read.
    """

    def __init__(self, state_dir: Path | None, scope: str, journal: Path | None = None) -> None:
        self._is_file = journal is not None
        self._beside = [] if journal is None else [WitnessFile(beside(journal, scope))]
        self._files = [*self._beside]
        self._outage = Outage()
        self._is_doubted = self._is_elsewhere = False
        self._checked: Sighting | None = None  # the last record that the log was found to hold
        self._asked: Sighting | None = None  # the last record that the log was asked for
        if state_dir is not None:
            path = in_state_directory(state_dir, scope)
            make_private_directories(path.parent)
            self._files.append(WitnessFile(path))
        self._recalled = [file.recall() for file in self._files]

    @property
    def seen(self) -> Sighting | None:
        """What this host's state directory remembered before this process; None when nothing."""
        return self._recalled[-1] if self._recalled else None

    def examine(self, found: Sighting, *, is_new: bool, id_at: Callable[[int], str | None]) -> str | None:
        """Return why the log may have lost history; None when nothing speaks against it, which is then noted.

        With a doubt the witness stays as it is until this process commits something, so that a client that stops here
        leaves the doubt to the next.

        Args:
            found: The log as it is.
            is_new: It was made just now.
            id_at: Returns the id of the log's batch at a version; None where it holds that no more.
        """
        for seen in self._recalled:
            if seen is None or not seen.version:  # nothing was recorded that could be lost
                continue
            is_elsewhere = self._is_another_place(seen, found)
            doubt = _doubt(seen, found, is_elsewhere=is_elsewhere, is_new=is_new, id_at=id_at)
            if doubt is not None:
                self._is_doubted, self._is_elsewhere = True, is_elsewhere
                return doubt
            self._checked = seen
        self.note(found)
        return None

    def ahead(self, known: Sighting) -> Sighting | None:
        """Return what another process of this host has seen of the log after *known*; None when nothing.

        Look for it in the next call: a log that does not hold it has lost history.

        Raises:
            JournalReplaced: Another process has seen another batch at the version of *known*.
        """
        if self._is_doubted:  # which is said already
            return None
        last: Sighting | None = None
        for file in self._files:
            seen = file.latest()
            if seen is None or not self._is_same_log(seen, known) or not seen.batch_id or seen.version < known.version:
                continue
            if seen.version == known.version and seen.batch_id != known.batch_id:
                raise _other(known, seen)
            if seen.version > (last or known).version:
                last = seen
        if last is not None:
            self._asked = last
        return last

    def note(
        self, found: Sighting, ids: Mapping[int, str] = _NO_IDS, *, is_ours: bool = True, counts: bool = True
    ) -> None:
        """Remember what was seen, unless the host has seen more. A file that cannot be written lags.

        Args:
            found: The log as it is now.
            ids: The batches that were read, by version; empty where none were read.
            is_ours: This process committed the last batch; what others did ends no doubt of ours.
            counts: What was committed spends quota, or says that this log is the one to trust. Before that a log at
                another place than the known one does not take its place: a place mistyped once casts no doubt on the
                right one.

        Raises:
            JournalReplaced: The host has seen another batch where the log has one of *ids*.
        """
        was_doubted, self._is_doubted = self._is_doubted, self._is_doubted and not is_ours
        self._is_elsewhere = self._is_elsewhere and not (is_ours and counts)
        if self._is_doubted:
            return
        for file in self._beside if self._is_elsewhere else self._files:
            try:
                with file.locked() as is_locked:
                    if is_locked and (was_doubted or self._is_later(file.latest(), found, ids)):
                        file.write(record_of(found), found)
                        self._checked = found
            except OSError as error:
                self._outage.warn("witness", "the witness of the journal could not be written: %s", error)

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        for file in self._files:
            file.close()

    def _is_later(self, seen: Sighting | None, found: Sighting, ids: Mapping[int, str]) -> bool:
        """Return whether *found* may replace the record, as the log holds what the record says."""
        if seen is None or not self._is_same_log(seen, found):
            return True
        held = found.batch_id if seen.version == found.version else ids.get(seen.version)
        if held is not None and seen.batch_id and held != seen.batch_id:
            raise _other(found, seen)
        if seen.version >= found.version:
            return False
        # What was not compared waits for a read that shows it; a read that does not show it has only a checkpoint.
        return held is not None or bool(ids) or seen in (self._asked, self._checked) or not seen.batch_id

    def _is_same_log(self, seen: Sighting, found: Sighting) -> bool:
        """Return whether both are of one log. A copied file keeps the identity; a server has many addresses."""
        return seen.journal_id == found.journal_id and (not self._is_file or seen.path == found.path)

    def _is_another_place(self, seen: Sighting, found: Sighting) -> bool:
        if seen.path == found.path:
            return False
        if not self._is_file:
            return seen.journal_id != found.journal_id
        try:
            return not Path(seen.path).samefile(found.path)
        except OSError:  # the file that was seen is gone: moved or deleted, the identity tells which
            return False


def _doubt(
    seen: Sighting, found: Sighting, *, is_elsewhere: bool, is_new: bool, id_at: Callable[[int], str | None]
) -> str | None:
    known = f"version {seen.version} was seen"
    if is_elsewhere:
        return (
            f"this workspace's journal was at {seen.path} ({known} there) and this one is at {found.path}: two "
            f"journals count one quota twice; use {seen.path}, unless it is given up for good"
        )
    if seen.journal_id != found.journal_id and is_new:
        return f"the journal at {seen.path} was lost, deleted or moved away ({known}), and {found.path} starts anew"
    if seen.journal_id != found.journal_id:
        return f"the journal at {found.path} was replaced by another one ({known} of the one before)"
    if seen.version > found.version:
        return f"the journal at {found.path} was put back to version {found.version} although {known}"
    if seen.batch_id and (id_at(seen.version) or seen.batch_id) != seen.batch_id:
        return (
            f"the journal at {found.path} was put back and went on from there: its version {seen.version} changed, and "
            f"it is at version {found.version}"
        )
    return None


def _other(found: Sighting, seen: Sighting) -> JournalReplaced:
    return JournalReplaced(
        f"the journal at {found.path} was put back and went on from there: another process of this host has seen "
        f"another version {seen.version} of it; nothing is granted: end every process that uses it, and start again, "
        "which takes the windows for full"
    )
