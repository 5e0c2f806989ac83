"""The pages of the project and the code blocks in them.

A page says what is done with a block by a comment on the line above it, and by the words behind its language:

- `<!-- not run: REASON -->`: the block needs something that a test does not have. It is compiled all the same.
- `<!-- beside -->`: the shell block is started, and goes on beside those that follow.
- `title="FILE"`, or a first line `# FILE`: the block is the content of that file. Later blocks find it in their
  directory.
- A `text` block below a block that ran shows lines of what that one prints, in their order; `…` stands for any text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs

__all__ = ["DOCS", "PAGES", "ROOT", "Block", "anchors_of", "blocks_of"]

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
_COMMENT: Final = re.compile(r"<!-- (.*?)(?:: (.*))? -->")
_FENCE: Final = re.compile(r"^```(\w*) *(.*)$")
_TITLE: Final = re.compile(r'title="([^"]+)"')
_NAME: Final = re.compile(r"# ([\w-]+\.(?:py|toml|sh))\n")
# The gate runs these two commands of the README to the letter.
_BY_THE_GATE: Final = frozenset({"main job", "tests"})


@attrs.frozen
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page.
        line: The line of its first line.
        language: What is written behind the fence.
        text: The block.
        title: The file that it is the content of, if any.
        reason: Why it is not run, if it is not.
        beside: Whether it goes on beside the blocks that follow.
    """

    page: Path
    line: int
    language: str
    text: str
    title: str | None = None
    reason: str | None = None
    beside: bool = False

    @property
    def place(self) -> str:
        """Return page and line, as an editor takes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    blocks: list[Block] = []
    comment: re.Match[str] | None = None
    opened: tuple[int, re.Match[str]] | None = None
    inside: list[str] = []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if opened is None:
            fence = _FENCE.match(line)
            if fence is None:
                comment = _COMMENT.fullmatch(line) or (comment if not line.strip() else None)
                continue
            opened, inside = (number + 1, fence), []
        elif line == "```":
            blocks.append(_block(page, *opened, "".join(f"{one}\n" for one in inside), comment))
            opened = comment = None
        else:
            inside.append(line)
    assert opened is None, f"{page}: a block is not closed"
    return blocks


def _block(page: Path, line: int, fence: re.Match[str], text: str, comment: re.Match[str] | None) -> Block:
    title = _TITLE.search(fence[2]) or _NAME.match(text)
    kind = comment[1] if comment else ""
    reason = comment[2] if comment and kind == "not run" else None
    return Block(
        page=page,
        line=line,
        language=fence[1],
        text=text,
        title=title and title[1],
        reason="the gate runs it" if kind in _BY_THE_GATE else reason,
        beside=kind == "beside",
    )


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as sites and repositories make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
