"""Choose whether this host's witness can be kept in the state directory, a place that nobody named.

A state directory that cannot be used is no reason to refuse a journal that can: a container has a home directory that
it may not write to, or none. The witness beside the journal's file is there in any case, see `witness`.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import tempfile
from typing import TYPE_CHECKING, Final

from moe_segments.journal.local.files import make_private_directories
from moe_segments.journal.local.witness_file import in_state_directory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["usable"]

_LOG: Final = logging.getLogger("moe_segments.journal")
_WITNESS_BYTES: Final = 512
_HELP: Final = "set XDG_STATE_HOME to a directory that this user can write to and that is kept, such as one on a volume"
_ALONE: Final = (
    "a journal in a file is watched by the witness beside it alone, one on a server by the processes that have it open"
)


def usable(directory: Path | None, scope: str) -> Path | None:
    """Return *directory* if the witness of *scope* can be kept there, or at least read; else None, logged once.

    Args:
        directory: The state directory, made when missing; None for none.
        scope: Which log.
    """
    if directory is None:
        return None
    path = in_state_directory(directory, scope)
    why = _why_not_writable(path.parent)
    is_readable = _is_readable(path)
    if why is None and (is_readable or not path.exists()):
        return directory
    if is_readable:
        _say_once(f"the state directory {directory} cannot be written ({why}): the witness in it stays behind; {_HELP}")
        return directory
    _say_once(
        f"the state directory {directory} cannot be used ({why or 'its witness is unreadable'}): {_ALONE}; {_HELP}"
    )
    return None


def _why_not_writable(directory: Path) -> str | None:
    try:
        make_private_directories(directory)
        with tempfile.TemporaryFile(dir=directory, buffering=0) as probe:  # a full disk makes files, and fills none
            if probe.write(bytes(_WITNESS_BYTES)) < _WITNESS_BYTES:
                return os.strerror(errno.ENOSPC)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _is_readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


@functools.cache  # a process opens a journal again and again, and the directory stays what it is
def _say_once(text: str) -> None:
    _LOG.warning(text)
