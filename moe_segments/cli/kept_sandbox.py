"""The embedded sandbox that is kept between commands: a sync compares with what the one before has sent.

Where no journal is named, everything is in one directory of the user's state, one for each speed. Beside a named SQLite
journal the sandbox keeps a file. A journal elsewhere has a sandbox that ends with its command.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.cli import output
from moe_segments.errors import InputError
from moe_segments.journal.tools import place_of
from moe_segments.settings import state_dir

if TYPE_CHECKING:
    from moe_segments import QuotaLimits

__all__ = ["KeptSandbox", "kept_sandbox"]

_FILE: Final = "sqlite:///"


@attrs.frozen
class KeptSandbox:
    """A place where a sandbox and its journal are found again.

    Attributes:
        journal: The journal's URL.
        memory: The file of the sandbox.
        directory: What to delete to begin anew; None where the user named the journal.
    """

    journal: str
    memory: Path
    directory: Path | None = None

    @property
    def instead(self) -> str:
        """Return the advice where the port of the sandbox is taken."""
        if self.directory is None:
            return "name another"
        return f"wait for the command that uses it, name a journal, or delete {self.directory} to begin anew"


def kept_sandbox(journal: str | None, limits: QuotaLimits) -> KeptSandbox | None:
    """Return where the sandbox is found again; None where it ends with the command.

    Args:
        journal: The journal that was named.
        limits: The quotas of the sandbox, at its speed.

    Raises:
        InputError: What is remembered cannot be read.
    """
    if journal is not None:
        place = place_of(journal)
        return KeptSandbox(journal, Path(f"{place.removeprefix(_FILE)}.sandbox")) if place.startswith(_FILE) else None
    try:
        directory = state_dir() / "sandbox" / f"speed-{limits.scale:g}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (InputError, OSError):
        output.note("no directory of this user's state can be used: the sandbox ends with this command")
        return None
    found = KeptSandbox(f"{_FILE}{directory / 'quota.db'}", directory / "sandbox.json", directory)
    if _has_aged(found.memory, limits):
        with suppress(OSError):
            shutil.rmtree(directory)
            directory.mkdir(mode=0o700)
        output.note(f"at speed {limits.scale:g} the segments of the sandbox have expired: it begins anew")
    output.note(f"the sandbox is kept in {directory} for the next command; delete that to begin anew", folds=True)
    return found


def _has_aged(memory: Path, limits: QuotaLimits) -> bool:
    """Return whether a segment was archived meanwhile: its name is used up, and nothing can be sent to it."""
    from moe_segments.sandbox import Sandbox

    segments = Sandbox(limits=limits, memory=memory).workspace.segments if memory.exists() else ()
    return any(not segment.is_active for segment in segments)
