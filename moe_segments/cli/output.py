"""Output of the commands: results to standard output, everything else to standard error.

A closed pipe is no error. Any other output that cannot be written is told, and ends in an exit code other than 0; the
work goes on, since what it did is in the journal.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import textwrap
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar, cast

from moe_segments.cli.terminal import guard_streams, one_line, unguarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from rich.live import Live
    from rich.progress import Progress

__all__ = [
    "clock_time",
    "document",
    "drawn",
    "figure",
    "is_lost",
    "is_utc",
    "line",
    "list_document",
    "local_time",
    "note",
    "redraws",
    "say",
    "span",
    "speaks_unicode",
    "steady",
    "utc_time",
    "write",
]

L = TypeVar("L", bound="Live | Progress")
_MINUTE_S: Final = 60


def document(data: Mapping[str, object]) -> None:
    """Print the one JSON document of a command."""
    write(_json(data, indent=2) + "\n")


async def list_document(name: str, items: AsyncIterator[Mapping[str, object]]) -> None:
    """Print the one JSON document of a command whose results are a list, each item as it comes.

    Args:
        name: What the list is called.
        items: Its items.
    """
    before = f'{{\n  "{name}": ['
    async for item in items:
        text = _json(item, indent=2).replace("\n", "\n    ")
        if not write(f"{before}\n    {text}"):
            return
        before = ","
    write("\n  ]\n}\n" if before == "," else f"{before}]\n}}\n")


def line(data: Mapping[str, object]) -> bool:
    """Print one line of JSON Lines. Returns whether somebody still reads."""
    return write(_json(data) + "\n")


def say(*lines: str) -> bool:
    """Print a result line by line, unwrapped. Returns whether somebody still reads."""
    return write("".join(f"{one_line(text)}\n" for text in lines))


def note(text: str, *, folds: bool = False) -> None:
    """Print a message to standard error. Further lines are indented: none looks like a message of its own.

    Args:
        text: What to say.
        folds: On a terminal, break it between words. Leave a command that is to be copied in one piece.
    """
    if folds and sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    first, *others = text.split("\n")
    try:
        print(first, *(other if other.startswith(" ") else f"  {other}" for other in others), sep="\n", file=sys.stderr)
        sys.stderr.flush()
    except OSError:  # nobody reads it, or it cannot be written, and there is nowhere to say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


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
    """Return a moment in the zone of this machine and in UTC; nothing for None."""
    if moment is None:
        return ""
    there, here = moment.astimezone(UTC), moment.astimezone()
    if not here.utcoffset():
        return f"{there:%Y-%m-%d %H:%M:%S} UTC"
    day = "" if there.date() == here.date() else f"{there:%Y-%m-%d} "
    return f"{here:%Y-%m-%d %H:%M:%S %Z} ({day}{there:%H:%M:%S} UTC)"


def local_time(moment: datetime | None) -> str:
    """Return a moment in the zone of this machine, short, for a column; nothing for None.

    On a terminal a moment of today has no day.
    """
    return "" if moment is None else _short(moment.astimezone(), "%H:%M:%S %Z")


def utc_time(moment: datetime | None) -> str:
    """Return a moment in UTC, short, for a column beside that of `local_time`."""
    return "" if moment is None else _short(moment.astimezone(UTC), "%H:%M:%S")


def is_utc() -> bool:
    """Return whether the zone of this machine is UTC all year."""
    return not time.timezone and not time.daylight


def is_lost() -> bool:
    """Return whether results could not be written, other than to somebody who reads no more."""
    return isinstance(sys.stdout, _Lost)


def redraws(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can take back what was drawn on it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def speaks_unicode() -> bool:
    """Return whether standard output takes any character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


@contextmanager
def drawn(live: L) -> Iterator[L]:
    """Draw *live* on its terminal while inside; messages go above it, and stay guarded."""
    before = sys.stderr
    with live:
        guard_streams()  # what rich has put in their place, since it would obey what is written
        try:
            yield live
        finally:
            sys.stderr = before


def write(text: str) -> bool:
    """Write drawn and cleaned text to standard output. Returns whether somebody still reads."""
    stream = unguarded(sys.stdout)
    try:
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        _discard_output()
        return False
    except OSError as error:
        _discard_output()
        sys.stdout = _Lost()
        note(f"moe-segments: standard output cannot be written: {error.strerror}; what was to be shown is lost")
        return False
    return True


def steady() -> TextIO:
    """Return standard output for who draws on it by itself: a write that fails is dealt with as `write` does."""
    return cast("TextIO", _Steady())


class _Steady:
    def write(self, text: str) -> int:
        """Write drawn text."""
        write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(unguarded(sys.stdout), name)


class _Lost(io.StringIO):
    """Stands for a standard output that could not be written."""

    def write(self, text: str, /) -> int:
        """Discard the text."""
        return len(text)


def _short(moment: datetime, form: str) -> str:
    is_today = sys.stdout.isatty() and moment.date() == datetime.now(moment.tzinfo).date()
    return moment.strftime(form if is_today else f"%m-%d {form}")


def _discard_output() -> None:
    """Discard the rest of the output: its reader is gone, the run goes on and ends quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json(data: Mapping[str, object], indent: int | None = None) -> str:
    # The one control character that JSON may hold as it is.
    return json.dumps(data, indent=indent, default=_plain).replace("\x7f", "\\u007f")


def _plain(value: object) -> object:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")
