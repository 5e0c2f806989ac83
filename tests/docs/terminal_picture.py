"""The picture of the terminal in README.md, docs/main-job.svg: `python -m tests.docs.terminal_picture` draws it anew.

The command of the README runs in a real terminal. What is on its screen at the end, with its colours, becomes an SVG on
a dark window, which can be read on a light and on a dark page. It loads nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.docs.pages import DOCS, ROOT
from tests.screens import on_terminal

if TYPE_CHECKING:
    import pyte

    from tests.screens import Shown

__all__ = ["PICTURE", "main_job", "seen"]

PICTURE: Final = DOCS / "main-job.svg"
_COMMAND: Final = ("bulk", "examples/bulk.csv", "--sandbox", "--speed", "600")
_COLUMNS: Final = 100
_HEX: Final = re.compile(r"[0-9a-f]{6}")
# As the library draws it, without the font that it would load from a public server.
_FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" class="rich-terminal" viewBox="0 0 {width} {height}" role="img">
<title>A terminal after: moe-segments bulk examples/bulk.csv --sandbox --speed 600</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


async def main_job(directory: Path) -> Shown:
    """Run the README's main job in a terminal, at home in *directory*."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "TZ": "UTC", "LANG": "C.UTF-8"}
    return await on_terminal(environment, ROOT, "-m", "moe_segments", *_COMMAND, size=(_COLUMNS, 40))


def seen(shown: Shown) -> list[Text]:
    """Return the lines of the screen, with their colours."""
    screen = shown.screen
    lines = []
    for number in range(screen.cursor.y + 1):
        row = [screen.buffer[number][column] for column in range(_COLUMNS)]
        line = Text()
        for style, characters in groupby(row, key=_style):
            line.append("".join(one.data for one in characters), style)
        line.rstrip()
        lines.append(line)
    return [line for line in lines if line.plain]


def _style(character: pyte.screens.Char) -> Style:
    colour = character.fg
    named = f"#{colour}" if _HEX.fullmatch(colour) else {"brown": "yellow"}.get(colour, colour)
    return Style(color=None if colour == "default" else Color.parse(named), bold=character.bold)


def drawn(lines: list[Text]) -> str:
    """Return the lines, below the command, as the text of an SVG file."""
    console = Console(width=_COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ moe-segments {' '.join(_COMMAND)}", style="bold"))
    for line in lines:
        console.print(line, soft_wrap=True)
    return console.export_svg(theme=MONOKAI, code_format=_FORMAT, title="moe-segments", unique_id="terminal")


def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as directory:
        shown = asyncio.run(main_job(Path(directory)))
    PICTURE.write_text(drawn(seen(shown)), encoding="utf-8")


if __name__ == "__main__":
    main()
