"""The tutorial on audiences, as its reader goes through it: every block in order, and what it prints."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.processes]

PAGE: Final = Path(__file__).parents[2] / "docs" / "tutorial-audience.md"
BLOCK: Final = re.compile(r'^```(\w+)(?: title="(\S+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


async def test_every_block_of_the_tutorial_does_what_the_page_shows(tmp_path: Path) -> None:
    shown, compared = "", 0
    for kind, title, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if title:
            (tmp_path / title).write_text(text)
        elif kind == "sh":
            shown = await typed(tmp_path, text)
        else:
            assert kind == "text"
            pattern = re.escape(text).replace("…\\\n", "…").replace("…", "(?s:.*)")
            assert re.fullmatch(pattern, shown), shown
            compared += 1
    assert compared == 6


async def typed(directory: Path, script: str) -> str:
    """What a shell prints that is given a block; it ends at the first command that fails."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=directory,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(directory), "TZ": "UTC0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()
