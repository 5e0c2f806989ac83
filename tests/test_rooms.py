"""Who may import whom: a module imports from rooms below its own, so that each can be read without those above.

Rooms are from top to bottom; those on one line do not import one another. Imports inside functions and under
`TYPE_CHECKING` count too, and nothing is exempt.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import moe_segments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# A room is what it is called and the modules in it, each with all that is below it. `moe_segments` itself is the
# package's face: it names what is public and stands for no module below it.
FACE: Final = "moe_segments"
LINES: Final[tuple[dict[str, tuple[str, ...]], ...]] = (
    {"command line": ("cli", "__main__"), "testing": ("testing",)},
    {"bulk": ("bulk", "checking", "manifest"), "sandbox": ("sandbox",)},
    {"face": ()},
    {
        "client": (
            *("client", "figures", "intake", "job", "many", "submission", "verdict"),
            *("reading", "file_calls", "filter_calls", "job_calls", "job_info", "seeking", "recorder", "under_way"),
            *("calls", "dispatcher"),
        )
    },
    {
        "receiver": ("receiver", "tokens", "receiver_app", "receiver_asgi", "receiver_inbox"),
        "governor": ("governor", "pace", "quota", "quota_calls", "waiting"),
    },
    {
        "transport": ("transport",),
        "files": ("files", "rowcount", "sources", "serving", "pouring", "cleaning", "splitting", "outputs"),
        "publisher": ("publisher", "publisher_file", "publisher_http", "publisher_stores", "destination"),
    },
    {"journal": ("journal",)},
    {"settings": ("settings",)},
    {"core": ("core",)},
    {
        "models": (
            *("models", "fields", "operations", "absent", "filters"),
            *("filter_rules", "filter_ranges", "filter_values", "filter_payloads"),
        )
    },
    {"limits": ("limits",)},
    {"errors": ("errors",)},
)
DEPTH: Final = {room: depth for depth, line in enumerate(LINES) for room in line}
ROOMS: Final = {f"{FACE}.{module}": room for line in LINES for room, modules in line.items() for module in modules}

IMPURE: Final = frozenset(
    {"aiohttp", "asyncio", "logging", "os", "random", "secrets", "socket", "sqlite3", "threading", "time"}
)
# What the client counts by: the sandbox shares none of it, so that each checks the other.
HIDDEN_FROM_SANDBOX: Final = tuple(
    f"{FACE}.{module}"
    for module in (
        *(
            "core.ledger",
            "core.jobs",
            "core.plan",
            "core.profile",
            "core.admission",
            "core.state",
            "core.decisions",
            "core.gauge",
        ),
        *("journal", "governor", "quota", "quota_calls", "waiting", "client"),
    )
)

PACKAGE: Final = Path(moe_segments.__file__).parent
SOURCES: Final = {
    ".".join((FACE, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str | None:
    """The room of a module of the package; None for one that the table does not know."""
    if module == FACE:
        return "face"
    return ROOMS.get(".".join(module.split(".")[:2]))


def imported(source: str, importer: str, modules: Collection[str], *, is_package: bool = False) -> Iterator[str]:
    """Every module that *source* imports, wherever in it: modules of the package in full, others as written."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, importer, is_package=is_package)
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base


def _base(node: ast.ImportFrom, importer: str, *, is_package: bool) -> str:
    """The module that is named after `from`, relative or not."""
    if not node.level:
        return node.module or ""
    up = node.level - is_package
    parts = importer.split(".")[: -up or None]
    return ".".join((*parts, node.module) if node.module else parts)


def wrong_imports(importer: str, imports: Collection[str]) -> list[str]:
    """What of *imports* is neither in the importer's room nor in one below it."""
    room = room_of(importer)
    assert room is not None, f"{importer} is in no room: add it to the table"
    return [
        f"{importer} ({room}) imports {target} ({room_of(target)})"
        for target in imports
        if is_within(target, (FACE,)) and not _may_use(room, room_of(target))
    ]


def _may_use(room: str, other: str | None) -> bool:
    return other is not None and (room == other or DEPTH[room] < DEPTH[other])


def is_within(module: str, roots: Collection[str]) -> bool:
    """Whether *module* is one of *roots* or below one."""
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def imports_of(module: str) -> list[str]:
    path = SOURCES[module]
    source = path.read_text(encoding="utf-8")
    return list(imported(source, module, SOURCES, is_package=path.name == "__init__.py"))


# The package


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_from_rooms_below_its_own(module: str) -> None:
    assert wrong_imports(module, imports_of(module)) == []


@pytest.mark.parametrize("module", [module for module in SOURCES if room_of(module) == "core"])
def test_core_knows_no_clock_no_chance_and_no_input_or_output(module: str) -> None:
    assert [target for target in imports_of(module) if is_within(target, IMPURE)] == []


@pytest.mark.parametrize("module", [module for module in SOURCES if room_of(module) == "sandbox"])
def test_the_sandbox_shares_no_counting_with_the_client(module: str) -> None:
    assert [target for target in imports_of(module) if is_within(target, HIDDEN_FROM_SANDBOX)] == []


def test_every_module_is_in_a_room() -> None:
    assert [module for module in SOURCES if room_of(module) is None] == []


# The checker itself


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("moe_segments.governor", "from moe_segments.client import SegmentsClient"),
        ("moe_segments.governor", "import moe_segments.receiver"),
        ("moe_segments.governor", "import math, moe_segments.receiver_app as app"),
        ("moe_segments.governor", "from moe_segments import client"),
        ("moe_segments.governor", "from moe_segments import SegmentsClient"),
        ("moe_segments.governor", "from .client import SegmentsClient"),
        ("moe_segments.governor", "from . import client"),
        ("moe_segments.journal.sqlite", "from ..governor import Governor"),
        ("moe_segments.governor", "def decide():\n    import moe_segments.client"),
        ("moe_segments.governor", "if TYPE_CHECKING:\n    from moe_segments.client import SegmentsClient"),
        ("moe_segments.governor", "from moe_segments.unheard_of import name"),
        ("moe_segments.bulk", "from moe_segments.sandbox import Sandbox"),
        ("moe_segments.transport", "from moe_segments import rowcount"),
        ("moe_segments.settings", "from moe_segments.journal.memory import MemoryJournal"),
    ],
)
def test_an_import_from_above_or_beside_is_found_however_it_is_written(importer: str, source: str) -> None:
    assert len(wrong_imports(importer, list(imported(source, importer, SOURCES)))) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("moe_segments.client", "from moe_segments import governor, receiver"),
        ("moe_segments.client", "from moe_segments.job import Job"),
        ("moe_segments.core.ledger", "from .gauge import Gauge"),
        ("moe_segments.bulk", "import asyncio\nfrom moe_segments import SegmentsClient"),
        ("moe_segments.errors", "import moe_segments_of_somebody_else"),
    ],
)
def test_an_import_from_below_or_from_outside_is_right(importer: str, source: str) -> None:
    assert wrong_imports(importer, list(imported(source, importer, SOURCES))) == []


def test_a_package_is_its_own_base_for_relative_imports() -> None:
    source = "from .sqlite import SqliteJournal"
    assert list(imported(source, "moe_segments.journal", SOURCES, is_package=True)) == ["moe_segments.journal.sqlite"]


@pytest.mark.parametrize("source", ["import time", "from time import sleep", "def f():\n    from os import path"])
def test_an_impure_import_is_found(source: str) -> None:
    assert [target for target in imported(source, "moe_segments.core.ledger", SOURCES) if is_within(target, IMPURE)]
