"""The host's witness of a log on a server: its identity, and the last version and batch seen.

A server that failed over to a replica, was restored or flushed looks perfectly well by itself. The witness lies
in this host's state directory and does not go back with it. It is written after each commit and each read, and
not synced; several processes of the host write it, so it may lag, and never runs ahead.

The processes of a host share what they have seen. Each call asks the server for the latest record of any of them
(`ahead`), so a process that was idle while the others went on notices a server that lost what they saw. A record is
replaced by a later one only once the log was found to hold it (`note`). It goes back in one case: the log was opened in
doubt, and the doubt is written down in it, for every process to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from moe_segments.errors import JournalReplaced
from moe_segments.journal.local.files import make_private_directories
from moe_segments.journal.local.outage import Outage
from moe_segments.journal.local.witness import Witness, in_state_directory, record_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_segments.journal.local.witness import Sighting

__all__ = ["HostWitness"]

_NO_IDS: Final[Mapping[int, str]] = {}


class HostWitness:
    """The witness of one log on a server.

    Args:
        state_dir: This host's state directory; None for no witness.
        scope: Which log: what shares one quota.

    Attributes:
        seen: What was remembered before this process; None when nothing was.

    Raises:
        OSError: The state directory cannot be made, or the witness not be read.
    """

    def __init__(self, state_dir: Path | None, scope: str) -> None:
        self._witness: Witness | None = None
        self._outage = Outage()
        self._is_doubted = self._is_elsewhere = False
        self._checked: Sighting | None = None  # the last record that the log was found to hold
        self._asked: Sighting | None = None  # the record that the server was asked for last
        self.seen: Sighting | None = None
        if state_dir is not None:
            path = in_state_directory(state_dir, scope)
            make_private_directories(path.parent)
            self._witness = Witness(path)
            self.seen = self._witness.recall()

    def examine(self, found: Sighting, *, is_new: bool, batch_id: str | None) -> str | None:
        """Return why the log may have lost history; None when nothing speaks against it, which is then noted.

        With a doubt the witness stays as it is until this process commits something, so that a client that stops here
        leaves the doubt to the next. Arguments as for `doubt`.
        """
        doubt = self.doubt(found, is_new=is_new, batch_id=batch_id)
        self._is_doubted = doubt is not None
        self._is_elsewhere = self._is_doubted and self.seen is not None and _is_another_place(self.seen, found)
        if not self._is_doubted:
            self._checked = self.seen
            self.note(found)
        return doubt

    def doubt(self, found: Sighting, *, is_new: bool, batch_id: str | None) -> str | None:
        """Return why the log that was found may have lost history; None when nothing speaks against it.

        Args:
            found: The log as it is.
            is_new: It was made just now.
            batch_id: The id of its batch at the version that `seen` names; None when it holds that no more.
        """
        seen = self.seen
        if seen is None or not seen.version:  # nothing was recorded that could be lost
            return None
        known = f"version {seen.version} was seen"
        if _is_another_place(seen, found):
            return (
                f"this workspace's journal was at {seen.path} ({known} there) and this one is at {found.path}: two "
                f"journals count one quota twice; use {seen.path}, unless it is given up for good"
            )
        if seen.journal_id != found.journal_id:
            what = "was lost, and a new one starts there" if is_new else "was replaced by another one"
            return f"the journal at {found.path} {what} ({known} of the one before)"
        if seen.version > found.version:
            return f"the journal at {found.path} was put back to version {found.version} although {known}"
        if batch_id is not None and seen.batch_id and batch_id != seen.batch_id:
            return (
                f"the journal at {found.path} was put back and went on from there: its version {seen.version} changed"
            )
        return None

    def ahead(self, known: Sighting) -> Sighting | None:
        """Return what another process of this host has seen of the log after *known*; None when nothing.

        Ask the server for it in the next call: a log that does not hold it has lost history.

        Raises:
            JournalReplaced: Another process has seen another batch at the version of *known*.
        """
        if self._witness is None or self._is_doubted or self._is_elsewhere:
            return None
        seen = self._witness.latest()
        if seen is None or seen.journal_id != known.journal_id or not seen.batch_id or seen.version < known.version:
            return None
        if seen.version == known.version:
            if seen.batch_id != known.batch_id:
                raise _other(known, seen)
            return None
        self._asked = seen
        return seen

    def note(
        self, found: Sighting, ids: Mapping[int, str] = _NO_IDS, *, is_ours: bool = True, counts: bool = True
    ) -> None:
        """Remember what was seen, unless the host has seen more. A witness that cannot be written lags.

        Args:
            found: The log as it is now.
            ids: The batches that were read, by version; empty where none were read.
            is_ours: This process committed the last batch; what others did ends no doubt of ours.
            counts: What was committed spends quota, or says that this log is the one to trust. Before that a log at
                another place than the known one does not take its place: a URL mistyped once casts no doubt on the
                right one.

        Raises:
            JournalReplaced: The host has seen another batch where the log has one of *ids*.
        """
        was_doubted, self._is_doubted = self._is_doubted, self._is_doubted and not is_ours
        self._is_elsewhere = self._is_elsewhere and not (is_ours and counts)
        if self._witness is None or self._is_doubted or self._is_elsewhere:
            return
        try:
            with self._witness.locked() as is_locked:
                if is_locked and (was_doubted or self._is_later(found, ids)):
                    self._witness.write(record_of(found), found)
                    self._checked = found
        except OSError as error:
            self._outage.warn("witness", "the witness of the journal could not be written: %s", error)

    def _is_later(self, found: Sighting, ids: Mapping[int, str]) -> bool:
        """Return whether *found* may replace the record, as the log holds what the record says."""
        assert self._witness is not None
        seen = self._witness.latest()
        if seen is None or seen.journal_id != found.journal_id:
            return True
        held = found.batch_id if seen.version == found.version else ids.get(seen.version)
        if held is not None and seen.batch_id and held != seen.batch_id:
            raise _other(found, seen)
        if seen.version >= found.version:
            return False
        # What was not compared waits for a read that shows it; a read that does not show it has only a checkpoint.
        return held is not None or bool(ids) or seen in (self._asked, self._checked) or not seen.batch_id

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        if self._witness is not None:
            self._witness.close()


def _other(found: Sighting, seen: Sighting) -> JournalReplaced:
    return JournalReplaced(
        f"the journal at {found.path} was put back and went on from there: another process of this host has seen "
        f"another version {seen.version} of it; nothing is granted: start every process that uses it again, which "
        "takes the windows for full"
    )


def _is_another_place(seen: Sighting, found: Sighting) -> bool:
    return seen.journal_id != found.journal_id and seen.path != found.path
