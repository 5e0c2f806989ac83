"""The tutorial on audiences, as its reader goes through it: every block in order, in a terminal of eighty columns."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from tests.screens import on_terminal

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

PAGE: Final = Path(__file__).parents[2] / "docs" / "tutorial-audience.md"
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOMENT: Final = re.compile(r"(\d\d-\d\d )?\d\d:\d\d:\d\d")


async def test_every_block_of_the_tutorial_does_what_the_page_shows(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "TZ": "UTC0"}
    shown, blocks, compared = list[str](), BLOCK.findall(PAGE.read_text("utf-8")), 0
    assert {kind for kind, _ in blocks} == {"python", "toml", "sh", "text"}
    for kind, text in blocks:
        if kind in ("python", "toml"):
            name = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(text)
        elif kind == "sh":
            for line in text.splitlines():
                shown = await typed(environment, tmp_path, line)
        else:
            assert [fixed(line) for line in shown] == [fixed(line) for line in text.splitlines()]
            compared += 1
    assert compared == 6


async def typed(environment: dict[str, str], directory: Path, line: str) -> list[str]:
    """What a command shows on standard output."""
    program, *arguments = shlex.split(line)
    assert program in ("python", "moe-segments")
    module = ("-m", "moe_segments") if program == "moe-segments" else ()
    ended = await on_terminal(environment, directory, *module, *arguments, is_err_piped=True)
    refused = "the source is empty" in ended.err
    assert ended.code == (2 if refused else 0), ended.err
    return ended.lines


def fixed(line: str) -> str:
    """Return a line with every moment the same, and its columns apart by two blanks."""
    return re.sub(r"  +", "  ", MOMENT.sub("00:00:00", line)).rstrip()
