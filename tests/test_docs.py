"""What the pages show can be used: their Python compiles, the names they import exist, their links lead somewhere."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

import moe_segments
from moe_segments.settings import read_settings
from tests import settings_table
from tests.docs.pages import PAGES, anchors_of
from tests.pure.test_configuration import CERTIFICATE

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL), 1)
]
LINK: Final = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")


@pytest.mark.parametrize("block", PYTHON)
def test_the_python_of_a_page_compiles_and_imports_what_exists(block: str) -> None:
    tree = compile(block, "page", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    compile(block, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "moe_segments"
        for alias in node.names
    ]
    assert [
        name for name in imported if not hasattr(moe_segments, name) and not find_spec(f"moe_segments.{name}")
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = []
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(f"{path}#{anchor}")
    assert broken == []


def test_the_table_of_settings_is_that_of_the_code() -> None:
    """`python -m tests.settings_table` writes it anew."""
    assert f"\n{settings_table.table()}\n" in settings_table.PAGE.read_text("utf-8")


def test_the_file_of_settings_that_the_page_shows_can_be_used(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", settings_table.PAGE.read_text("utf-8"), re.DOTALL)
    assert text is not None
    path = tmp_path / "moe.toml"
    path.write_text(text[1])
    (tmp_path / "company-ca.pem").write_text(CERTIFICATE)
    for profile in ("staging", "office"):
        found = read_settings({"api_key": "key"}, environ={}, config=path, profile=profile).checked()
        assert found.settings.limits.users_per_day == 2_500_000


def test_the_files_that_the_architecture_names_are_there() -> None:
    """A page that leads a reader through the files is of no use when one of them has moved."""
    named = re.findall(r"`([a-z_/]+\.py)`", (ROOT / "docs" / "architecture.md").read_text("utf-8"))
    assert len(named) > 20
    assert [
        name for name in named if not any((folder / name).is_file() for folder in (ROOT, ROOT / "moe_segments"))
    ] == []


def test_the_picture_of_the_architecture_has_every_package() -> None:
    """But for those inside another box: what a picture lacks seems not to matter."""
    package = ROOT / "moe_segments"
    homes = (*package.iterdir(), *(package / "core").iterdir(), *(package / "journal").iterdir())
    packages = {str(home.relative_to(package)) for home in homes if (home / "__init__.py").is_file()}
    shown = re.findall(r'<text class="t"[^>]*>([a-z/]+)<', (ROOT / "docs" / "architecture.svg").read_text("utf-8"))
    assert set(shown) >= packages - {"core"}
