"""The pages as a whole: each is in the navigation, what is made from the code is up to date, and lines can be read."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

import pytest

import moe_segments
from tests.docs import reference
from tests.docs.pages import DOCS, PAGES, ROOT, anchors_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH: Final = 120
MADE: Final = reference.made()
# An option's help is one line however long it is.
MADE_WIDE: Final = frozenset({"commands.md"})
_COMMAND: Final = re.compile(r"^python3 -m venv .*$", re.MULTILINE)  # the README's two are one line each, to be copied
_LOG: Final = re.compile(r"^```log\n.*?^```$", re.DOTALL | re.MULTILINE)
SITE: Final = tomllib.loads((DOCS / "zensical.toml").read_text("utf-8"))["project"]


def entries(nav: object) -> Iterator[str]:
    """Every page of a navigation, in order."""
    match nav:
        case str():
            yield nav
        case list():
            for each in nav:
                yield from entries(each)
        case dict():
            for each in nav.values():
                yield from entries(each)
        case _:
            raise TypeError(f"{nav!r} is no part of a navigation")


def test_every_page_is_in_the_navigation_once() -> None:
    """And nothing else is in it."""
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(entries(SITE["nav"])) == sorted(pages)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_that_is_made_from_the_code_is_up_to_date(path: Path) -> None:
    """`python -m tests.docs.reference` writes them anew."""
    assert path.read_text("utf-8") == MADE[path]


def test_every_public_name_is_in_the_reference_once() -> None:
    directives = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(directives) == sorted(set(directives))
    assert {f"moe_segments.{name}" for name in moe_segments.__all__} <= set(directives)


def test_the_names_of_the_index_lead_to_their_sections() -> None:
    broken = [
        (page, anchor)
        for page, anchor in re.findall(r"\]\(([\w-]+\.md)#([^)]+)\)", (DOCS / "api" / "index.md").read_text("utf-8"))
        if anchor not in anchors_of(DOCS / "api" / page)
    ]
    assert broken == []


def _as_empty(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_s_lines_have_at_most_120_columns(page: Path) -> None:
    """But for rows of tables, lines of a log, and a line that a link or the gate's command makes longer."""
    if page.name in MADE_WIDE:
        pytest.skip("made from the help of the command line")
    wide = [
        f"{page.name}:{number}"
        for number, line in enumerate(_COMMAND.sub("", _LOG.sub(_as_empty, page.read_text("utf-8"))).splitlines(), 1)
        if len(line) > WIDTH
        and not line.lstrip().startswith("|")
        and " " in re.sub(r"https?://\S+|`[^`]*`", "", line)[WIDTH:]
    ]
    assert wide == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_one_title_and_no_heading_twice(page: Path) -> None:
    """Two headings of one name would have one anchor."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^(#+) (.+)$", text, re.MULTILINE)
    assert [level for level, _ in headings].count("#") == 1
    assert headings[0][0] == "#"
    names = [name for _, name in headings]
    assert sorted(names) == sorted(set(names))


def test_the_pictures_of_a_page_say_what_they_show() -> None:
    silent = [page.name for page in PAGES if re.search(r"!\[\s*\]\(", page.read_text("utf-8"))]
    assert silent == []
