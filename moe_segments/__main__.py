"""`moe-segments` and `python -m moe_segments`: the command line, or how to get it."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["main"]

_OF_THE_EXTRA: Final = frozenset({"cyclopts", "rich"})
_BAD_INPUT: Final = 2
_INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line and exit with its code, see `moe_segments.bulk.exit_code_of`."""
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


if __name__ == "__main__":
    main()
