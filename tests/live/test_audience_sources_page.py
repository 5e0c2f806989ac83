"""How-to for each source of an audience: every block of the page runs, and gives the members that it should."""

from __future__ import annotations

import ast
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from moe_segments import Audience, CallbackReceiver, SegmentsClient, read_audiences
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio

PAGE: Final = (Path(__file__).parents[2] / "docs" / "audience-sources.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"^```(python|toml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FRAMES: Final = ("pandas", "polars")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two customers have lapsed, in every form that the page reads them from."""
    (tmp_path / "lapsed.csv").write_text("u-1\nu-2\n")
    (tmp_path / "customers.csv").write_text("id,lapsed\nu-1,true\nu-2,true\nu-3,false\n")
    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as connection, connection:
        connection.execute("CREATE TABLE customers (id TEXT, lapsed INTEGER)")
        connection.executemany("INSERT INTO customers VALUES (?, ?)", [("u-1", 1), ("u-2", 1), ("u-3", 0)])
    monkeypatch.chdir(tmp_path)
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
            pytest.importorskip(name, reason=f"needs {name}: pip install {name}")
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
