"""`moe-segments` and `python -m moe_segments`: the command line, or how to get it."""

from __future__ import annotations

import os
import sys
from typing import Final

__all__ = ["main"]

_OF_THE_EXTRA: Final = frozenset({"cyclopts", "rich"})
_LAST_STANDARD: Final = 2
_BAD_INPUT: Final = 2
_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and exit with its code, see `moe_segments.bulk.exit_code_of`."""
    _fill_closed_streams()
    if sys.argv[1:] == ["--version"]:
        from importlib import metadata  # needs nothing but the core, nor does what writes it

        from moe_segments.cli import output

        output.say(metadata.version("moe-segments"))
        sys.exit(int(output.is_lost()))
    try:
        from moe_segments.cli.app import run  # only here, so that a missing extra can be explained
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        sys.stderr.write(
            "The moe-segments command needs the packages of its extra, and the library does not: "
            "pip install 'moe-segments[cli]'\n"
        )
        sys.exit(_BAD_INPUT)
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # before the command had signal handlers of its own
        sys.exit(_INTERRUPTED)


def _fill_closed_streams() -> None:
    """Open the null device for each closed standard stream, so that no later file gets its number."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    if not closed:
        return
    number = 0
    while number <= _LAST_STANDARD:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    for name in closed:
        setattr(sys, name, os.fdopen(("stdin", "stdout", "stderr").index(name), "r" if name == "stdin" else "w"))


if __name__ == "__main__":
    main()
