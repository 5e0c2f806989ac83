"""Import direction: a module imports only from packages below its own, and no modules import one another in a circle.

Packages are listed from top to bottom; those on one line do not import one another. Imports inside functions and
under `TYPE_CHECKING` count too, and nothing is exempt. The `__init__` of a package may name what the package offers.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import moe_segments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

FACE: Final = "moe_segments"
# Each entry stands for the package or module of that name and what is inside, down to the next entry inside it.
LINES: Final[tuple[tuple[str, ...], ...]] = (
    ("__main__",),
    ("cli.app",),
    ("cli.commands",),
    ("cli",),
    ("testing",),
    ("checking",),
    ("bulk", "dashboard", "sandbox"),
    ("sandbox.page",),
    ("sandbox.api",),
    ("sandbox.model",),
    (FACE,),
    ("client",),
    ("memberships",),
    ("audiences",),
    ("submission",),
    ("governor", "callbacks", "files", "publishing"),
    ("events",),
    ("http", "page", "telemetry"),
    ("journal.tools",),
    ("journal.opening", "journal.witness_handover"),
    ("journal.sqlite", "journal.redis", "journal.postgres"),
    ("journal",),
    ("journal.local",),
    ("journal.protocol",),
    ("settings",),
    ("core.planning",),
    ("core.state", "core.files", "core.wire"),
    ("core.quota",),
    ("core",),
    ("models",),
    ("models.filters",),
    ("types", "old_module_names"),
    ("limits",),
    ("errors",),
)
DEPTH: Final = {entry: depth for depth, line in enumerate(LINES) for entry in line}
IMPURE: Final = frozenset(
    {"aiohttp", "asyncio", "logging", "os", "random", "secrets", "socket", "sqlite3", "threading", "time"}
)
# What the client counts by: the sandbox shares none of it, so that each checks the other.
HIDDEN_FROM_SANDBOX: Final = tuple(
    f"{FACE}.{module}" for module in ("core.quota", "core.state", "journal", "governor", "submission", "client")
)

PACKAGE: Final = Path(moe_segments.__file__).parent
SOURCES: Final = {
    ".".join((FACE, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str | None:
    """Return the entry of `LINES` that a module belongs to; None for one that the table does not know."""
    if module == FACE:
        return FACE
    name = module.removeprefix(f"{FACE}.")
    while name not in DEPTH:
        if "." not in name:
            return None
        name = name.rpartition(".")[0]
    return name


def imported(source: str, importer: str, modules: Collection[str], *, is_package: bool = False) -> Iterator[str]:
    """Yield every module that *source* imports, wherever in it: modules of the package in full, others as written."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, importer, is_package=is_package)
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base


def _base(node: ast.ImportFrom, importer: str, *, is_package: bool) -> str:
    """Return the module that is named after `from`, relative or not."""
    if not node.level:
        return node.module or ""
    up = node.level - is_package
    parts = importer.split(".")[: -up or None]
    return ".".join((*parts, node.module) if node.module else parts)


def wrong_imports(importer: str, imports: Collection[str], *, is_package: bool = False) -> list[str]:
    """Return those of *imports* that are neither in the importer's room nor in one below it."""
    room = room_of(importer)
    assert room is not None, f"{importer} is in no room: add it to the table"
    return [
        f"{importer} ({room}) imports {target} ({room_of(target)})"
        for target in imports
        if is_within(target, (FACE,))
        and not (is_package and importer != FACE and is_within(target, (importer,)))
        and not _may_use(room, room_of(target))
    ]


def _may_use(room: str, other: str | None) -> bool:
    return other is not None and (room == other or DEPTH[room] < DEPTH[other])


def is_within(module: str, roots: Collection[str]) -> bool:
    """Return whether *module* is one of *roots* or inside one."""
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def imports_of(module: str) -> list[str]:
    path = SOURCES[module]
    source = path.read_text(encoding="utf-8")
    return list(imported(source, module, SOURCES, is_package=path.name == "__init__.py"))


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the modules that import one another in a circle, each circle sorted."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        rest = list(graph[start])
        while rest:
            module = rest.pop()
            if module not in seen:
                seen.add(module)
                rest.extend(graph.get(module, ()))
        return seen

    after = {module: reached(module) for module in graph}
    groups = {
        tuple(sorted({module, *(other for other in after[module] if module in after.get(other, ()))}))
        for module in graph
        if module in after[module]
    }
    return [list(group) for group in sorted(groups)]


# The package


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_from_rooms_below_its_own(module: str) -> None:
    is_package = SOURCES[module].name == "__init__.py"
    assert wrong_imports(module, imports_of(module), is_package=is_package) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {module: {name for name in imports_of(module) if name in SOURCES} - {FACE} for module in SOURCES}
    assert circles(graph) == []


@pytest.mark.parametrize("module", SOURCES)
def test_a_private_module_stays_in_its_package(module: str) -> None:
    private = [name for name in imports_of(module) if is_within(name, (FACE,)) and "._" in name]
    assert [name for name in private if not is_within(module, (name.partition("._")[0],))] == []


@pytest.mark.parametrize("module", [module for module in SOURCES if is_within(module, (f"{FACE}.core",))])
def test_core_knows_no_clock_no_chance_and_no_input_or_output(module: str) -> None:
    assert [target for target in imports_of(module) if is_within(target, IMPURE)] == []


@pytest.mark.parametrize("module", [module for module in SOURCES if is_within(module, (f"{FACE}.sandbox",))])
def test_the_sandbox_shares_no_counting_with_the_client(module: str) -> None:
    assert [target for target in imports_of(module) if is_within(target, HIDDEN_FROM_SANDBOX)] == []


def test_every_module_is_in_a_room() -> None:
    assert [module for module in SOURCES if room_of(module) is None] == []


def test_a_package_has_at_most_ten_modules() -> None:
    packages = [path.parent for path in SOURCES.values() if path.name == "__init__.py"]
    sizes = {str(each.relative_to(PACKAGE)): len(list(each.glob("*.py"))) - 1 for each in packages}
    assert {name: size for name, size in sizes.items() if size > 10} == {}


# The checker itself


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("moe_segments.governor.governor", "from moe_segments.client.client import SegmentsClient"),
        ("moe_segments.governor.governor", "import moe_segments.callbacks.receiver"),
        ("moe_segments.governor.governor", "import math, moe_segments.callbacks.asgi as app"),
        ("moe_segments.governor.governor", "from moe_segments.client import client"),
        ("moe_segments.governor.governor", "from moe_segments import SegmentsClient"),
        ("moe_segments.governor.governor", "from ..client.client import SegmentsClient"),
        ("moe_segments.governor.governor", "from .. import client"),
        ("moe_segments.journal.sqlite.engine", "from ...governor.governor import Governor"),
        ("moe_segments.governor.governor", "def decide():\n    import moe_segments.client"),
        ("moe_segments.governor.governor", "if TYPE_CHECKING:\n    from moe_segments.client import job"),
        ("moe_segments.governor.governor", "from moe_segments.unheard_of import name"),
        ("moe_segments.bulk.run", "from moe_segments.sandbox import Sandbox"),
        ("moe_segments.http.transport", "from moe_segments.files import rowcount"),
        ("moe_segments.settings", "from moe_segments.journal.memory import MemoryJournal"),
        ("moe_segments.journal.sqlite.engine", "from moe_segments.journal.redis import url"),
        ("moe_segments.core.quota.ledger", "from moe_segments.core.state.jobs import JobRecord"),
    ],
)
def test_an_import_from_above_or_beside_is_found_however_it_is_written(importer: str, source: str) -> None:
    assert len(wrong_imports(importer, list(imported(source, importer, SOURCES)))) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("moe_segments.client.client", "from moe_segments.callbacks import receiver"),
        ("moe_segments.client.client", "from moe_segments.client.job import Job"),
        ("moe_segments.core.quota.ledger", "from .window import Window"),
        ("moe_segments.bulk.run", "import asyncio\nfrom moe_segments import SegmentsClient"),
        ("moe_segments.errors", "import moe_segments_of_somebody_else"),
    ],
)
def test_an_import_from_below_or_from_outside_is_right(importer: str, source: str) -> None:
    assert wrong_imports(importer, list(imported(source, importer, SOURCES))) == []


def test_a_package_may_name_what_it_offers() -> None:
    assert wrong_imports("moe_segments.journal", ["moe_segments.journal.opening"], is_package=True) == []
    assert wrong_imports("moe_segments.journal", ["moe_segments.client.client"], is_package=True)


def test_a_package_is_its_own_base_for_relative_imports() -> None:
    source = "from .sqlite import engine"
    found = list(imported(source, "moe_segments.journal", SOURCES, is_package=True))
    assert found == ["moe_segments.journal.sqlite.engine"]


def test_a_circle_is_found_whole() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("source", ["import time", "from time import sleep", "def f():\n    from os import path"])
def test_an_impure_import_is_found(source: str) -> None:
    found = imported(source, "moe_segments.core.quota.ledger", SOURCES)
    assert [target for target in found if is_within(target, IMPURE)]
