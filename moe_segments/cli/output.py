"""Output of the commands: results to standard output, everything else to standard error.

A closed pipe is no error. Any other output that cannot be written is told, and ends in an exit code other than 0; the
work goes on, since what it did is in the journal.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType

__all__ = [
    "clean",
    "clock_time",
    "document",
    "figure",
    "is_lost",
    "line",
    "note",
    "say",
    "show",
    "span",
    "speaks_unicode",
    "styled_state",
    "table",
]

_TRAILING: Final = re.compile(r" +$", re.MULTILINE)  # what a table fills its cells with
_PIPED_WIDTH: Final = 10_000  # what a program or a file reads is not folded
_MINUTE_S: Final = 60
_STYLES: Final[Mapping[str, str]] = {
    "processed": "green",
    "accepted": "cyan",
    "failed": "red",
    "refused": "red",
    "unknown": "bold magenta",
    "unreadable": "bold magenta",
    "not_sent": "yellow",
    "planned": "dim",
}


def show(renderable: RenderableType) -> bool:
    """Show a result to a person. Returns whether somebody still reads."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    drawn = io.StringIO()  # rich would write by itself, and end the program where nobody reads
    Console(file=drawn, force_terminal=sys.stdout.isatty() or None, width=width, highlight=False).print(renderable)
    return _write(drawn.getvalue() if sys.stdout.isatty() else _TRAILING.sub("", drawn.getvalue()))


def document(data: Mapping[str, object]) -> None:
    """Give the one JSON document of a command."""
    _write(json.dumps(data, indent=2, default=_plain) + "\n")


def line(data: Mapping[str, object]) -> bool:
    """Give one line of JSON Lines. Returns whether somebody still reads."""
    return _write(json.dumps(data, default=_plain) + "\n")


def say(text: str) -> None:
    """Give a result as it is, unwrapped."""
    _write(clean(text) + "\n")


def note(text: str) -> None:
    """Say something that is no result."""
    try:
        print(clean(text), file=sys.stderr, flush=True)
    except OSError:  # nobody reads it, or it cannot be written, and there is nowhere to say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def table(columns: Sequence[str], rows: Iterable[Sequence[Text | str]], *, numbers: Iterable[str] = ()) -> Table:
    """Return a table of plain text; *numbers* names the columns to align to the right.

    Without names there is no header.
    """
    drawn = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    to_the_right = frozenset(numbers)
    for column in columns:
        drawn.add_column(column, justify="right" if column in to_the_right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return drawn


def styled_state(state: str) -> Text:
    """Return a job's state, in its colour."""
    return Text(state, style=_STYLES.get(state, ""))


def figure(number: int | None) -> str:
    """Return a whole number with its thousands set off; nothing for None."""
    return "" if number is None else f"{number:,}"


def span(seconds: float) -> str:
    """Return a time to wait, for people."""
    if seconds < _MINUTE_S:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest_s = divmod(round(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest_s} s"


def clock_time(moment: datetime | None) -> str:
    """Return a moment, UTC; nothing for None."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def is_lost() -> bool:
    """Return whether results could not be written, other than to somebody who reads no more."""
    return isinstance(sys.stdout, _Lost)


def speaks_unicode() -> bool:
    """Return whether standard output takes any character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def clean(text: str) -> str:
    """Return a text that may come from elsewhere, without anything that a terminal would obey."""
    return "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)


def _write(text: str) -> bool:
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return False
    except OSError as error:
        _discard_output()
        sys.stdout = _Lost()
        note(f"moe-segments: standard output cannot be written: {error.strerror}; what was to be shown is lost")
        return False
    return True


class _Lost(io.StringIO):
    """Stands for a standard output that could not be written."""

    def write(self, text: str, /) -> int:
        """Discard the text."""
        return len(text)


def _discard_output() -> None:
    """Discard the rest of the output: its reader is gone, the run goes on and ends quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(value: object) -> object:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")
