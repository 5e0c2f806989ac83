"""How-to for each source of an audience: every block of the page runs, and gives the members that it should."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import Audience, CallbackReceiver, SegmentsClient, read_audiences
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio

PAGE: Final = (Path(__file__).parents[2] / "docs" / "audience-sources.md").read_text("utf-8")
ALL: Final = re.findall(r"^```(python|toml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES: Final = re.findall(r'^```csv title="(\S+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
(_, WAREHOUSE), *BLOCKS = ALL
FRAMES: Final = ("pandas", "polars")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page begins with."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    exec(WAREHOUSE, {})
    return tmp_path


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What a block defines."""
    defined: dict[str, Any] = {}
    yield defined
    if "connection" in defined:
        defined["connection"].close()


def audience(kind: str, text: str, place: Path, names: dict[str, Any]) -> Audience:
    if kind == "toml":
        path = place / "audiences.toml"
        path.write_text(text)
        (one,) = read_audiences(path)
        return one
    for name in FRAMES:
        if f"import {name}" in text:
            pytest.importorskip(name, reason="install the group frames for it")
    exec(compile(ast.parse(text), "page", "exec"), names)
    found = names["audience"]
    assert isinstance(found, Audience)
    return found


@pytest.mark.parametrize(("kind", "text"), BLOCKS, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(BLOCKS, 1)])
async def test_every_source_of_the_page_gives_its_members(
    place: Path, names: dict[str, Any], kind: str, text: str
) -> None:
    async with (
        Sandbox(processing_s=(0, 0)) as sandbox,
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials, base_url=sandbox.url, journal="memory:", callbacks=receiver, publish=sandbox.publish
        ) as client,
    ):
        report = await client.sync([audience(kind, text, place, names)])
        assert report["lapsed"].status == "synced", report["lapsed"].error
        assert [each.members for each in sandbox.workspace.segments] == [{"u-1", "u-2"}]


async def test_the_page_has_each_kind_of_source() -> None:
    assert len(BLOCKS) == 10
    for kind in ("file", "query", "command"):
        assert f"\n{kind} = " in PAGE
