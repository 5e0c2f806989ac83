"""Log records of the library on standard error, for a person who asked for them."""

from __future__ import annotations

import logging
import sys
from typing import Final

from moe_segments.cli.terminal import clean

__all__ = ["show_logs"]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Cleaned(logging.Formatter):
    """Records without anything that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return clean(super().format(record))


def show_logs(level: str | None) -> None:
    """Show records of this level and above; None leaves it at warnings, as Python has it."""
    if level is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Cleaned(_FORMAT))
    logger = logging.getLogger("moe_segments")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
