"""The command line uses public API alone: what a command does, a program can do."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

# The modules that are documented for programs; of each, what its `__all__` names.
PUBLIC: Final = (
    "moe_segments",
    "moe_segments.bulk",
    "moe_segments.dashboard",
    "moe_segments.errors",
    "moe_segments.files.check",
    "moe_segments.journal.tools",
    "moe_segments.limits",
    "moe_segments.sandbox",
    "moe_segments.settings",
    "moe_segments.telemetry.prometheus",
)
UNDERSCORED: Final = {"os._exit"}  # documented so
FOLDER: Final = Path(cli.__file__).parent
SOURCES: Final = {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")}


def private(source: str) -> Iterator[str]:
    """What a module uses that is not public: an import, or an attribute with an underscore of something else's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "moe_segments")
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("moe_segments")):
            yield from _imported(node)
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            whole = ast.unparse(node)
            if whole not in UNDERSCORED and whole.partition(".")[0] != "self":
                yield whole
        elif isinstance(node, ast.Attribute) and node.attr == "replica":
            yield ast.unparse(node)


def _imported(node: ast.ImportFrom) -> Iterator[str]:
    module = node.module or ""
    for alias in node.names:
        whole = f"{module}.{alias.name}"
        if node.level:
            yield f"{'.' * node.level}{whole}"
        elif f"{module}.".startswith("moe_segments.cli.") or whole in {*PUBLIC, "moe_segments.cli"}:
            continue
        elif module not in PUBLIC or alias.name not in import_module(module).__all__:
            yield whole


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@pytest.mark.parametrize("name", SOURCES)
def test_a_command_uses_what_is_public(name: str) -> None:
    assert list(private(SOURCES[name])) == []


@pytest.mark.parametrize(
    "source",
    [
        "from moe_segments.journal.replica import Replica",
        "from moe_segments.core import events",
        "from moe_segments.core.state.jobs import JobRecord",
        "from moe_segments.governor.governor import Governor",
        "from moe_segments.journal import open_journal",
        "from moe_segments.client.client import SegmentsClient",
        "from moe_segments.bulk import _Running",
        "from moe_segments import replica_of",
        "from .. import client",
        "import moe_segments.client",
        "def f():\n    from moe_segments.callbacks.receiver import token_digest",
        "if TYPE_CHECKING:\n    from moe_segments.core.events import Batch",
        "client._replica.refresh()",
        "client.governor._queue",
        "client.replica.state",
    ],
)
def test_what_is_not_public_is_found(source: str) -> None:
    assert len(list(private(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from moe_segments import SegmentsClient, JobInfo",
        "from moe_segments.cli import output",
        "from moe_segments.cli.running import run",
        "from moe_segments.journal import tools",
        "from moe_segments.journal.tools import read_log",
        "self._told_s = 0.0",
        "os._exit(1)",
        "x.__class__",
    ],
)
def test_what_is_public_is_let_pass(source: str) -> None:
    assert list(private(source)) == []
