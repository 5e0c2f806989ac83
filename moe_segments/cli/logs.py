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


class _OnStandardError(logging.Handler):
    """Writes to what standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, a line."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - as handlers of the standard library do
            self.handleError(record)


def show_logs(level: str | None) -> None:
    """Show records of this level and above; None: warnings, each as its bare sentence."""
    handler = _OnStandardError(logging.WARNING if level is None else logging.NOTSET)
    handler.setFormatter(_Cleaned(None if level is None else _FORMAT))
    logger = logging.getLogger("moe_segments")
    logger.handlers[:] = [handler]
    if level is not None:
        logger.setLevel(level.upper())
