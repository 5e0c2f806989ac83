"""Tables that fit their terminal and are printed row by row, so that a large one needs no memory and no patience.

The first rows decide on the columns' widths. On a terminal a cell that has no room is cut, and whole columns are left
out in the order that the table states. Elsewhere nothing is cut: a longer cell moves the rest of its row.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias
from unicodedata import category

import attrs
from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.style import Style

from moe_segments.cli.output import speaks_unicode, write
from moe_segments.cli.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["STATE_STYLES", "Cell", "Column", "Table", "show_facts", "terminal_width"]

Cell: TypeAlias = "str | Callable[[int], str]"  # a text, or what draws itself in so many cells
STATE_STYLES: Final[Mapping[str, str]] = {
    "processed": "green",
    "accepted": "cyan",
    "failed": "red",
    "refused": "red",
    "unknown": "bold magenta",
    "unreadable": "bold magenta",
    "not_sent": "yellow",
    "planned": "dim",
}
_GAP: Final = "  "
_MEASURED_ROWS: Final = 100
_FLAG_OR_TONE: Final = re.compile("[\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff]")  # two cells where it is not joined
_EMOJI_STYLE: Final = "\ufe0f"  # makes the character before it two cells wide, on some terminals


@attrs.frozen(kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its header.
        is_number: Whether its cells go to the right.
        least: How many cells it may be cut to on a terminal; None where its texts are not cut.
        most: How wide it is where a cell draws itself.
        styles: The styles of texts, by the text.
    """

    name: str
    is_number: bool = False
    least: int | None = None
    most: int = 0
    styles: Mapping[str, str] = {}


class Table:
    """A table that is printed while its rows come.

    Args:
        columns: Its columns, from left to right.
        left_out: The names of columns that a narrow terminal does without, the first to go first.
        room: How wide a row may be, cells; None for no limit.
        print_line: Where lines go. Returns whether somebody still reads.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        left_out: Sequence[str] = (),
        room: int | None = None,
        print_line: Callable[[str], bool] = write,
    ) -> None:
        self._columns, self._left_out, self._room, self._print = columns, left_out, room, print_line
        self._first: list[Sequence[Cell]] | None = []
        self._widths: Mapping[int, int] = {}
        self._is_coloured = _is_coloured()

    def add(self, cells: Sequence[Cell]) -> bool:
        """Add a row. Returns whether somebody still reads."""
        if self._first is None:
            return self._print(self._line(cells))
        self._first.append([cell if callable(cell) else _encodable(one_line(cell)) for cell in cells])
        return len(self._first) < _MEASURED_ROWS or self._begin(is_all=False)

    def end(self) -> bool:
        """Print what is left. Returns whether somebody still reads."""
        return self._first is None or self._begin(is_all=True)

    def _begin(self, *, is_all: bool) -> bool:
        rows, self._first = self._first or [], None
        wanted = [
            max(column.most, _text_width(column.name), *(_text_width(row[index]) for row in rows if row), 0)
            for index, column in enumerate(self._columns)
        ]
        empty = {index for index in range(len(wanted)) if is_all and rows and not any(row[index] for row in rows)}
        self._widths = _layout(self._columns, wanted, empty, self._left_out, self._room)
        header = self._line([column.name for column in self._columns], style="bold")
        return self._print(header) and all(self._print(self._line(row)) for row in rows)

    def _line(self, cells: Sequence[Cell], style: str = "") -> str:
        parts, styles = [], []
        for index, width in self._widths.items():
            column, cell = self._columns[index], cells[index]
            text = cell(width) if callable(cell) else _encodable(one_line(cell))
            styles.append(style or column.styles.get(text, ""))
            if self._room is not None and column.least is not None:
                text = _cut(text, width)
            parts.append(_padded(text, width, to_the_right=column.is_number))
        if self._room is not None:
            parts = _clipped(parts, [self._columns[index].least is not None for index in self._widths], self._room)
        painted = [_painted(part, one) if self._is_coloured else part for part, one in zip(parts, styles, strict=True)]
        return f"{_GAP.join(painted).rstrip()}\n"


def terminal_width() -> int | None:
    """Return how wide standard output is, cells; None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and their whole texts; on a terminal folded between words."""
    indent = max(map(len, facts), default=0) + len(_GAP)
    room = terminal_width()
    for name, text in facts.items():
        lines = [_encodable(one_line(line)) for line in text.split("\n")]
        if room is not None and room > 2 * indent:
            lines = [part for line in lines for part in _folded(line, room - indent)]
        for number, line in enumerate(lines):
            write(f"{'' if number else name:{indent}}{line}".rstrip() + "\n")


def _folded(text: str, room: int) -> list[str]:
    """Return the lines of a text; its own indentation stays, and a word that is too long is left whole."""
    blank = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(
        text, room, subsequent_indent=blank, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    ) or [""]


def _text_width(cell: Cell) -> int:
    """Return how many cells a text takes at most: terminals differ in joined characters and in vowel signs."""
    if callable(cell):
        return 0
    return len(cell) if cell.isascii() else sum(map(_character_width, cell))


@cache
def _character_width(one: str) -> int:
    if _FLAG_OR_TONE.match(one):
        return 2
    return 1 if one == _EMOJI_STYLE or category(one) == "Mc" else get_character_cell_size(one)


def _layout(
    columns: Sequence[Column],
    wanted: Sequence[int],
    empty: set[int],
    left_out: Sequence[str],
    room: int | None,
) -> dict[int, int]:
    """Return the width of each column that is shown, by its index."""
    if room is None:
        return dict(enumerate(wanted))
    widths = {
        index: wanted[index] if column.least is None else min(column.least, wanted[index])
        for index, column in enumerate(columns)
        if index not in empty
    }
    for name in left_out:
        if _total(widths) <= room:
            break
        widths = {index: width for index, width in widths.items() if columns[index].name != name}
    while (spare := room - _total(widths)) > 0:
        narrow = [index for index, width in widths.items() if width < wanted[index]]
        if not narrow:
            break
        for index in narrow[:spare]:
            widths[index] += 1
    return widths


def _total(widths: Mapping[int, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _clipped(parts: list[str], may_cut: Sequence[bool], room: int) -> list[str]:
    """Return a row that is not wider than the terminal: texts that may be cut give way first, then the row's end."""
    excess = sum(map(_text_width, parts)) + len(_GAP) * (len(parts) - 1) - room
    for index in reversed(range(len(parts))):
        if excess > 0 and may_cut[index]:
            before, width = parts[index], max(1, _text_width(parts[index]) - excess)
            parts[index] = _padded(_cut(before.rstrip(), width), width)
            excess -= _text_width(before) - width
    for index, part in enumerate(parts if excess > 0 else ()):
        parts[index] = _cut(part, max(0, room))
        room -= _text_width(parts[index]) + len(_GAP)
    return parts


def _cut(text: str, width: int) -> str:
    """Return a text that takes so many cells at most; a mark says that it was longer."""
    if _text_width(text) <= width:
        return text
    mark = ("…" if speaks_unicode() else "...")[:width]
    kept, left = [], width - len(mark)
    for one in text:
        left -= _text_width(one)
        if left < 0:
            break
        kept.append(one)
    return "".join(kept).rstrip() + mark


def _padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    blank = " " * (width - _text_width(text))
    return blank + text if to_the_right else text + blank


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text if text.isascii() else text.encode(encoding, "backslashreplace").decode(encoding)


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _painted(text: str, style: str) -> str:
    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD) if style else text
