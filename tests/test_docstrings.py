"""What may be called tells a caller everything: each argument, what comes back, and what is raised.

And what a docstring or a comment names is there: a reader looks it up.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import textwrap
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import moe_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODULES: Final = ("moe_segments", "moe_segments.sandbox", "moe_segments.testing", "moe_segments.checking")
# Of these packages users call the following; the rest is for the command line.
NAMED: Final = (
    ("moe_segments.bulk", "run_bulk", "plan_bulk", "dry_run_bulk", "read_manifest", "coalesced", "exit_code_of"),
    ("moe_segments.bulk", "BulkReport", "BulkRow", "BulkPlan", "PlannedRow"),
    ("moe_segments.settings", "read_settings", "Configuration"),
)
RETURNED: Final = ("moe_segments.Job", "moe_segments.Plan")  # nobody makes them but the client
# What goes wrong here is an answer to the service, or is waited out.
RAISE_NOTHING: Final = (
    *("CallbackReceiver.decide", "CallbackReceiver.decide_unread", "CallbackReceiver.take"),
    *("Governor.close", "Sandbox.idle", "Sandbox.reset"),
)
SECTION: Final = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Source|Example|Examples|Note):\s*$", re.MULTILINE)
NOTHING: Final = ("None", "NoReturn")
YIELDING: Final = re.compile(r"^(?:Async)?(?:Iterator|Generator)\[|ContextManager\[")


def public() -> Iterator[tuple[str, object]]:
    """Each public class, function and method, by the name that a user knows it by."""
    seen = set()
    listed = [(name, *import_module(name).__all__) for name in MODULES]
    for module, *names in (*listed, *NAMED):
        for name in names:
            value = getattr(import_module(module), name)
            if not (inspect.isclass(value) or inspect.isfunction(value)) or value in seen:
                continue
            seen.add(value)
            yield f"{module}.{name}", value
            if inspect.isclass(value):
                yield from ((f"{module}.{name}.{method}", function) for method, function in methods(value))


def methods(of: type) -> Iterator[tuple[str, object]]:
    """The public methods that a class or its bases of ours define; what a foreign base promises is that one's."""
    for home in of.__mro__:
        if not home.__module__.startswith("moe_segments"):
            continue
        for name, value in vars(home).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            is_ours = inspect.isfunction(function) and not name.startswith("_")
            if is_ours and not any(hasattr(base, name) for base in foreign(of)):
                yield name, inspect.unwrap(function)


def foreign(of: type) -> list[type]:
    return [base for base in of.__mro__ if not base.__module__.startswith("moe_segments") and base is not object]


def sections(of: object) -> dict[str, str]:
    """The text of each section of a docstring; a class may leave attributes to the bases that have them."""
    homes = [one for one in of.__mro__ if one.__module__.startswith("moe_segments")] if inspect.isclass(of) else [of]
    found: dict[str, str] = {}
    for home in homes:
        parts = SECTION.split(inspect.cleandoc(home.__doc__ or ""))
        for title, text in zip(parts[1::2], parts[2::2], strict=True):
            found[title] = found.get(title, "") + text
    return found


def entries(text: str) -> set[str]:
    """The names that a section explains: those at the start of its lines, alone or with commas."""
    named = re.findall(r"^ {4}((?:\*{0,2}\w+)(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: \S", text, re.MULTILINE)
    return {name.strip("* ") for names in named for name in names.split(",")}


def parameters(of: Callable[..., object]) -> list[str]:
    given = inspect.signature(of).parameters
    return [name for name in given if name not in ("self", "cls") and not name.startswith("_")]


def raises(function: Callable[..., object]) -> bool:
    """Whether the function itself has a `raise` with an exception."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def gaps(value: object) -> list[str]:
    """What the docstring does not tell."""
    told = sections(value)
    explained = entries(told.get("Args", ""))
    if inspect.isclass(value):
        explained |= entries(told.get("Attributes", ""))
        return [f"argument {name}" for name in parameters(value) if name not in explained]
    assert inspect.isfunction(value)
    missing = [f"argument {name}" for name in parameters(value) if name not in explained]
    returned = str(inspect.signature(value).return_annotation)
    section = "Yields" if YIELDING.search(returned) else "Returns"
    if returned not in NOTHING and section not in told and not (section == "Yields" and "Returns" in told):
        missing.append(f"{section}: {returned}")
    is_quiet = value.__qualname__ in RAISE_NOTHING
    if "Raises" not in told and not is_quiet and (inspect.iscoroutinefunction(value) or raises(value)):
        missing.append("Raises")
    return missing


PUBLIC: Final = dict(public())
CALLABLE: Final = [
    name
    for name, value in PUBLIC.items()
    if not (inspect.isclass(value) and issubclass(value, BaseException | enum.Enum | dict)) and name not in RETURNED
]


@pytest.mark.parametrize("name", CALLABLE)
def test_what_may_be_called_tells_its_arguments_its_result_and_its_errors(name: str) -> None:
    assert gaps(PUBLIC[name]) == []


def test_the_names_of_a_section_are_those_that_begin_its_lines() -> None:
    text = "    name: Of the segment.\n        More: of it.\n    *rows: All.\n    a, b: Both.\n    empty:\n"
    assert entries(text) == {"name", "rows", "a", "b"}


def test_a_docstring_that_leaves_something_out_is_seen() -> None:
    async def told(rows: int) -> int:
        """Count.

        Args:
            rows: How many.

        Returns:
            As many.

        Raises:
            ValueError: Too many.
        """
        return rows

    async def untold(rows: int) -> int:
        """Count rows: how many."""
        return rows

    assert gaps(told) == []
    assert gaps(untold) == ["argument rows", "Returns: int", "Raises"]


# What is named

ROOT: Final = Path(moe_segments.__file__).parent
NOT_YET: Final = frozenset({"core/events.py"})  # five names of modules as they were called before
SOURCES: Final = sorted({str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")} - NOT_YET)
DOTTED: Final = re.compile(r"`([a-z_]+(?:\.\w+)+)`")
OF_A_VALUE: Final = frozenset({"conftest.py", "job.state", "loop.run_in_executor", "quota.db"})


def lost_names(text: str, package: str) -> list[str]:
    """Dotted names in a text that lead nowhere, seen from *package*, from those above it, and from outside."""
    parts = package.split(".")
    homes = [".".join((*parts[:count], "")) for count in range(len(parts), -1, -1)]
    return [name for name in DOTTED.findall(text) if name not in OF_A_VALUE and not is_there(name, homes)]


def is_there(name: str, homes: list[str]) -> bool:
    return any(leads_somewhere(home + name) for home in homes)


def leads_somewhere(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, rest = name, ""
    while not is_module(module):
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}".strip(".")
        if not module:
            return False
    value: object = import_module(module)
    for part in filter(None, rest.split(".")):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


@pytest.mark.parametrize("source", SOURCES)
def test_a_name_that_a_docstring_or_a_comment_refers_to_is_there(source: str) -> None:
    """Modules are renamed, and the sentences that send a reader to them are not found by any tool."""
    package = ".".join(("moe_segments", *Path(source).parent.parts))
    assert lost_names((ROOT / source).read_text(encoding="utf-8"), package) == []


def test_a_name_that_leads_nowhere_is_seen() -> None:
    assert (
        lost_names("`json.dumps`, `state.jobs.remembered`, `jobs.JobRecord.state_at`", "moe_segments.core.state") == []
    )
    lost = "`core.jobs.remembered`, `jobs.JobRecord.state_then`, `no_module.at_all`"
    assert lost_names(lost, "moe_segments.core.state") == lost.replace("`", "").split(", ")
