"""What a page shows can be done: its blocks run, in order, against a sandbox."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks_of
from tests.docs.world import sandbox_world, shows

if TYPE_CHECKING:
    from pathlib import Path

# These say how to come by a sandbox, so they are given none.
FROM_NOTHING: Final = frozenset({"README.md", "tutorial.md", "tutorial-audience.md"})
RUN: Final = ("python", "sh")
BLOCKS: Final = [block for page in PAGES for block in blocks_of(page)]
WITH_BLOCKS: Final = [page for page in PAGES if any(block.language in RUN for block in blocks_of(page))]


@pytest.mark.asyncio
@pytest.mark.timeout(600)  # many commands, each a process of its own
@pytest.mark.processes
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
async def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sandbox_world(tmp_path, from_nothing=page.name in FROM_NOTHING) as world:
        monkeypatch.chdir(tmp_path)
        for name, value in world.environment.items():
            monkeypatch.setenv(name, value)
        await world.run(blocks_of(page))


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "python"], ids=lambda block: block.place)
def test_the_python_of_a_page_compiles(block: Block) -> None:
    compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.language in {"json", "toml", "csv"}], ids=lambda block: block.place
)
def test_the_data_of_a_page_is_well_formed(block: Block) -> None:
    match block.language:
        case "json":
            assert (
                [json.loads(line) for line in block.text.splitlines()] if _is_lines(block) else json.loads(block.text)
            )
        case "toml":
            assert tomllib.loads(block.text)
        case _:
            assert len({len(row) for row in csv.reader(io.StringIO(block.text))}) == 1


def _is_lines(block: Block) -> bool:
    return all(line.startswith("{") and line.endswith("}") for line in block.text.splitlines())


def test_a_file_of_a_page_neither_begins_nor_ends_with_an_empty_line() -> None:
    """A site leaves such lines out, so its readers would copy another file than the one that is tried here."""
    lost = [block.place for block in BLOCKS if block.title is not None and block.text != block.text.strip("\n") + "\n"]
    assert lost == []


def test_a_block_says_its_language() -> None:
    """One that says none could be a command that nobody tries."""
    known = {*RUN, "text", "log", "json", "toml", "csv", "yaml", "mermaid"}
    assert [block.place for block in BLOCKS if block.language not in known] == []


def test_what_is_not_run_is_the_smaller_part_and_says_why() -> None:
    blocks = [block for block in BLOCKS if block.language in RUN]
    skipped = {block.place: block.reason for block in blocks if block.reason is not None}
    print("\n".join(f"{place}: {reason}" for place, reason in skipped.items()))  # noqa: T201 - shown when it fails
    assert all(skipped.values())
    assert len(skipped) * 4 <= len(blocks), Counter(skipped.values())


@pytest.mark.parametrize(
    ("printed", "text", "expected"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("zero\none\ntwo\n", "one\ntwo\n", True),
        ("one 12 s\n", "one … s\n", True),
        ("one\ntwo\nthree\n", "one\n…\n", True),
        ("one\n", "one\ntwo\n", False),
        ("two\none\n", "one\ntwo\n", False),
        ("one.\n", "one!\n", False),
    ],
)
def test_output_is_compared_but_for_what_a_page_leaves_open(printed: str, text: str, *, expected: bool) -> None:
    assert shows(printed, text) is expected


def test_the_examples_of_the_pages_are_those_of_the_project() -> None:
    """Pages speak of files below examples/; each has to be there."""
    named = {name for page in PAGES for name in re.findall(r"\bexamples/[\w./-]*\w", page.read_text("utf-8"))}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
