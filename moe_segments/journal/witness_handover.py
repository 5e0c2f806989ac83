"""Hand the witness of a log over to the log that it was migrated to, which has another identity.

A log that stands for another says so itself, see `core.events.Copied`. Where that covers all that this host has seen of
the other, the witness is handed over and nothing is doubted; where it does not (the other was put back before it was
copied, or somebody went on writing there), the doubt stands.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from moe_segments.journal.local.witness_file import Sighting, WitnessFile, in_state_directory, record_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moe_segments.journal.replica import Replica

__all__ = ["open_handed_over"]


async def open_handed_over(replica: Replica, state_dir: Path, scope: str) -> None:
    """Open the journal of *scope*. Where it was migrated, hand over the witness of the log that it stands for.

    Raises:
        JournalError: It cannot be opened.
    """
    before = recalled(state_dir, scope)
    await replica.open()
    journal, origins = replica.journal, replica.state.origins
    if journal.doubt and before and stands_for(origins, before) and hand_over(state_dir, scope, journal.journal_id):
        await replica.close()
        await replica.open()


def recalled(state_dir: Path, scope: str) -> Sighting | None:
    """Return what this host has seen last of the log of *scope*, wherever that was; None when nothing can be read."""
    with suppress(OSError):  # which is said when the journal is opened
        return WitnessFile(in_state_directory(state_dir, scope)).recall()
    return None


def stands_for(origins: Mapping[str, int], seen: Sighting) -> bool:
    """Return whether a log with these *origins* holds everything that was *seen* of another one."""
    return seen.version <= origins.get(seen.journal_id, -1)


def hand_over(state_dir: Path, scope: str, journal_id: str) -> bool:
    """Let the witness of *scope* expect the log *journal_id* from now on; the next opening notes what it finds.

    Returns:
        Whether it does. A witness that cannot be written keeps its doubt, and says so when the journal is opened.
    """
    witness = WitnessFile(in_state_directory(state_dir, scope))
    try:
        witness.write(record_of(Sighting(journal_id, 0, "")))
    except OSError:
        return False
    else:
        return True
    finally:
        witness.close()
