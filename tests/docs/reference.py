"""The pages that are made from the code: `python -m tests.docs.reference` writes them anew.

- docs/api/: a page for each group of public names. The site fills in what their docstrings say.
- docs/commands.md: every command and option, as the command line itself describes them.
- docs/schemas/, and the table in docs/json.md: what `--json` prints.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Final

import attrs

import moe_segments
from tests.docs import schemas
from tests.docs.pages import DOCS, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["made", "members"]


@attrs.frozen
class Group:
    """A page of the reference.

    Attributes:
        page: Its file in docs/api/.
        title: Its heading.
        intro: What the names on it are for.
        homes: Beginnings of the modules that its names live in.
        modules: Public modules that are described whole.
    """

    page: str
    title: str
    intro: str
    homes: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


GROUPS: Final = (
    Group(
        "client",
        "The client and its jobs",
        "Open one `SegmentsClient` a process. Each call returns a `Job`, or raises one of the [errors](errors.md).",
        ("client", "submission", "types", "core.wire.file_segments"),
    ),
    Group(
        "operations",
        "Operations and answers",
        "Operations as values, for `submit` and `submit_many`, and what the service answers.",
        ("models",),
    ),
    Group(
        "audiences",
        "Audiences",
        "Who should be in a segment, and what a sync did. How to use them: [audiences](../audiences.md).",
        ("audiences", "core.audiences", "membership", "memberships", "outbox"),
    ),
    Group(
        "files",
        "Files and publishing",
        "Check, clean, split and publish files. How to use them: [files](../files.md).",
        ("files", "core.files", "core.state.row_counts", "publishing"),
    ),
    Group(
        "filters",
        "Filters",
        "Build the filters of a segment. How to use them: [filters](../filters.md).",
        ("models.filters",),
    ),
    Group(
        "quotas",
        "Quotas and plans",
        "What is used, when the next slot is free, and what a plan says. `client.governor` is the `Governor`.",
        ("governor", "limits", "core.quota"),
        ("moe_segments.limits",),
    ),
    Group(
        "callbacks",
        "Callbacks",
        "Take the service's callbacks in. How to use it: [callbacks](../callbacks.md).",
        ("callbacks",),
    ),
    Group(
        "events",
        "Events and metrics",
        "What `on_event` of a client is told. What each means: [events](../events.md).",
        ("telemetry",),
        ("moe_segments.events", "moe_segments.telemetry.prometheus", "moe_segments.telemetry.otel"),
    ),
    Group(
        "errors",
        "Errors",
        "Every exception. What each wants of you: [errors](../errors.md).",
        ("errors",),
    ),
    Group(
        "bulk",
        "Bulk runs",
        "Manifests and their reports, in a program. How to use them: [bulk runs](../bulk.md).",
        (),
        ("moe_segments.bulk",),
    ),
    Group(
        "journal",
        "The journal",
        "Open, back up, check, move and read a journal. How to use it: [the journal](../journal.md).",
        (),
        ("moe_segments.journal", "moe_segments.journal.tools"),
    ),
    Group(
        "sandbox",
        "The sandbox and the dashboard",
        "The stand-in for the service, and the page of a journal. How to use it: [the sandbox](../sandbox.md).",
        (),
        ("moe_segments.sandbox", "moe_segments.dashboard"),
    ),
    Group(
        "testing",
        "Help for tests",
        "Virtual time, and fixtures for pytest. How to use them: [the sandbox](../sandbox.md#in-your-own-tests).",
        (),
        ("moe_segments.testing", "moe_segments.testing.plugin"),
    ),
    Group("other", "Other names", "Public names that belong to none of the other pages."),
)
_MOST: Final = 100  # characters of a signature in one line
_MADE: Final = "<!-- made from the code: python -m tests.docs.reference -->\n"


def made() -> Mapping[Path, str]:
    """Return the pages that are made from the code, by their paths."""
    found = members()
    pages = {
        DOCS / "api" / f"{group.page}.md": _page(group, found[group.page]) for group in GROUPS if found[group.page]
    }
    index = {DOCS / "api" / "index.md": "\n".join(_index(found)) + "\n"}
    return {**index, **pages, **schemas.files(), DOCS / "commands.md": _commands(), schemas.PAGE: schemas.page()}


def members() -> dict[str, list[str]]:
    """Return the full names on each page of the API, in order."""
    pages: dict[str, list[str]] = {group.page: [] for group in GROUPS}
    for name in moe_segments.__all__:
        pages[_group_of(name)].append(f"moe_segments.{name}")
    for names in pages.values():
        names.sort(key=_rank)
    on_top = {name.rpartition(".")[2] for names in pages.values() for name in names}
    for group in GROUPS:
        for module in filter(_is_there, group.modules):
            listed = [name for name in import_module(module).__all__ if name not in on_top]
            pages[group.page] += [f"{module}.{name}" for name in sorted(listed, key=str.lower)]
    return pages


def _is_there(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _rank(name: str) -> int:
    """Return 0 for a class, 1 for a function, 2 for a value: a reader looks for them in that order."""
    value = getattr(moe_segments, name.rpartition(".")[2])
    return 0 if inspect.isclass(value) else 1 if inspect.isroutine(value) else 2


def _group_of(name: str) -> str:
    home = f"{_homes()[name].removeprefix('moe_segments.')}."
    fits = [(len(each), group.page) for group in GROUPS for each in group.homes if home.startswith(f"{each}.")]
    return max(fits, default=(0, "other"))[1]


def _homes() -> dict[str, str]:
    source = inspect.getsource(moe_segments)
    return {name: home for home, name in re.findall(r"from (moe_segments\.[\w.]+) import (\w+) as \2\b", source)}


def _page(group: Group, names: list[str]) -> str:
    blocks = "\n".join(f"\n## {name.rpartition('.')[2]}\n\n{_signature(name)}::: {name}" for name in names)
    modules = sorted({name.rpartition(".")[0] for name in names} - {"moe_segments"})
    where = f"\n\nImport what `moe_segments` does not have from `{'`, `'.join(modules)}`." if modules else ""
    return f"# {group.title}\n\n{_MADE}\n{group.intro}{where}\n{blocks}\n"


def _signature(name: str) -> str:
    """Return how a function is called, as a block; the site shows that of a method by itself."""
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    if not inspect.isfunction(value):
        return ""
    node = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    told = list(_parameters(node.args))
    returned = ast.unparse(node.returns) if node.returns else "None"
    start = f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}{attribute}("
    line = f"{start}{', '.join(told)}) -> {returned}"
    if len(line) > _MOST:
        line = "\n    ".join([start, *(f"{one}," for one in told)]) + f"\n) -> {returned}"
    return f"```text\n{line}\n```\n\n"


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    places = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(places) - len(arguments.defaults)) + arguments.defaults
    for number, (place, default) in enumerate(zip(places, defaults, strict=True), 1):
        yield _parameter(place, default)
        if number == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg is not None:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for name, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(name, default)
    if arguments.kwarg is not None:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _parameter(name: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(name) + (f" = {ast.unparse(default)}" if default is not None else "")


def _index(found: Mapping[str, list[str]]) -> Iterator[str]:
    yield f"# The API\n\n{_MADE}\nEvery public name, and what it is. Each leads to its arguments and errors."
    for group in GROUPS:
        if found[group.page]:
            yield f"\n## {group.title}\n\n{group.intro}\n"
            yield "| Name | What it is |\n| --- | --- |"
            for name in found[group.page]:
                short = name.removeprefix("moe_segments.")
                anchor = short.rpartition(".")[2].lower()
                yield f"| [`{short}`]({group.page}.md#{anchor}) | {_summary(name)} |"


def _summary(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    is_documented = inspect.isclass(value) or inspect.isroutine(value)
    first = (inspect.getdoc(value) or "").partition("\n")[0] if is_documented else ""
    return first.replace("|", "\\|") or "A value, or an alias of types."


def _commands() -> str:
    from moe_segments.cli.app import app

    text = app.generate_docs(output_format="markdown", usage_name="moe-segments")
    contents, _, rest = text.partition("## Table of Contents")[2].partition("**Commands**:")
    rest = rest[rest.index("\n## ") :]
    body = re.sub(r"```console\n", "```text\n", f"{contents.strip()}\n{rest}")
    body = re.sub(r"^(moe-segments [\w-]+(?: [a-z]+)?) -m [\w.]+", r"\1", body, flags=re.MULTILINE)  # how this was run
    lines = (line.rstrip() for line in body.splitlines())
    return (
        f"# All commands\n\n{_MADE}\n"
        "Every command with its options, as `--help` shows them. How they work together: [the command\n"
        "line](command-line.md). What they end with: [exit codes](exit-codes.md).\n\n" + "\n".join(lines).strip() + "\n"
    )


def main() -> None:
    """Write the pages."""
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
