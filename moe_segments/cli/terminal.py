"""Clean everything that the command line prints, at the one place that all of it passes: the standard streams.

Text comes from elsewhere: from the service, its callbacks, manifests, the journal, the names of files. A terminal would
obey what is in it. So both streams are guarded, for messages, logs, warnings and tracebacks alike. Light: no rich.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["clean", "guard_streams", "one_line", "unguarded"]

_JOINERS: Final = re.compile(r"(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")  # as Hindi, Persian and emoji use them


def clean(text: str) -> str:
    r"""Return *text* with its line breaks, and with everything that a terminal obeys or hides as an escape.

    Escaped are control characters, bidi overrides, invisible characters and blanks other than the space: `\x1b`,
    `\u202e`. Joiners between letters that are not ASCII stay.
    """
    if text.isprintable():
        return text
    joiners = {match.start() for match in _JOINERS.finditer(text)}
    return "".join(
        one if one.isprintable() or one == "\n" or place in joiners else one.encode("unicode_escape").decode("ascii")
        for place, one in enumerate(text)
    )


def one_line(text: str) -> str:
    """Return *text* cleaned, its line breaks escaped too."""
    return clean(text).replace("\n", "\\n")


class _Guarded:
    """A stream that cleans what is written to it.

    Attributes:
        unguarded: The stream itself, for what the command line has drawn and cleaned.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write *text*, cleaned. Returns its length."""
        self.unguarded.write(clean(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts, cleaned."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def guard_streams() -> None:
    """Guard standard output and standard error, for the rest of the process."""
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind a guarded one. Whoever writes to it has cleaned what comes from elsewhere."""
    return stream.unguarded if isinstance(stream, _Guarded) else stream


def _guarded(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, _Guarded) else cast("TextIO", _Guarded(stream))
