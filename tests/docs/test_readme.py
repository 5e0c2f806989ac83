"""The README renders wherever it is shown, and what it shows is true."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import DOCS, ROOT, anchors_of
from tests.docs.terminal_picture import PICTURE, main_job, seen

if TYPE_CHECKING:
    from pathlib import Path

README: Final = (ROOT / "README.md").read_text("utf-8")
SITE: Final = "https://moe-segments.github.io/moe-segments/"
REPOSITORY: Final = "https://github.com/moe-segments/moe-segments"
RAW: Final = "https://raw.githubusercontent.com/moe-segments/moe-segments/main/"
LINKS: Final = re.findall(r"\]\(([^)]*)\)", README)


def test_every_link_is_absolute() -> None:
    """An index of packages shows this file where there is no folder beside it."""
    assert [link for link in LINKS if not link.startswith("https://")] == []


@pytest.mark.parametrize("link", LINKS)
def test_a_link_to_the_project_leads_to_a_file(link: str) -> None:
    path, _, anchor = link.partition("#")
    if path.startswith(SITE):
        name = path.removeprefix(SITE).strip("/") or "index"
        file = next((each for each in (DOCS / f"{name}.md", DOCS / name / "index.md") if each.is_file()), None)
        assert file is not None
        assert not anchor or anchor in anchors_of(file)
    elif path.startswith(RAW):
        assert (ROOT / path.removeprefix(RAW)).is_file()
    elif path.startswith(f"{REPOSITORY}/"):
        kind, branch, name = path.removeprefix(f"{REPOSITORY}/").split("/", 2)
        assert kind in {"blob", "tree"}
        assert branch == "main"
        assert (ROOT / name).exists()
    else:
        assert path.startswith(("https://moengage.com/", REPOSITORY))


def test_it_is_short() -> None:
    """About five hundred words: what and why, a first result, an example, where to go."""
    words = re.sub(r"https?://\S+", "", README).split()
    assert len(words) < 550


def test_its_example_is_short() -> None:
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    body = example[1].partition("async def main")[2]
    assert len(body.strip().splitlines()) <= 12


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
async def test_the_picture_is_what_a_terminal_shows(tmp_path: Path) -> None:
    """`python -m tests.docs.terminal_picture` draws it anew. Times and moments differ from run to run."""
    shown = await main_job(tmp_path)
    assert shown.code == 0
    written = [_text(line) for line in PICTURE.read_text("utf-8").splitlines() if "<text" in line]
    _title, command, *lines = written
    assert command.startswith("$ moe-segments bulk")
    assert [_steady(line) for line in lines] == [_steady(line.plain) for line in seen(shown)]


def _text(line: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", line)).replace("\N{NO-BREAK SPACE}", " ").rstrip()


def _steady(line: str) -> str:
    """Return a line without what differs: moments, durations, and what is used of the hour at the end."""
    if line.startswith(("all sent by", "quotas:")) or " s" in line:
        line = re.sub(r"[\d.:,-]+", "#", line)
    return re.sub(r"\s+", "", line)


def test_the_picture_loads_nothing() -> None:
    """Where a README is shown, a picture may load nothing, and should ask nobody."""
    text = PICTURE.read_text("utf-8")
    assert re.findall(r"https?://(?!www\.w3\.org/)\S+|@import|@font-face|<script", text) == []
