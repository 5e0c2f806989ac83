"""What is true of the package as a whole: light at the door, documented, typed, and of one version everywhere."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module, resources
from pathlib import Path
from typing import Final

import pytest

import moe_segments

ROOT: Final = Path(__file__).parents[1]
HEAVY: Final = (
    *("aiohttp.web", "sqlite3", "redis", "psycopg", "cyclopts", "rich", "opentelemetry", "prometheus_client"),
    *("moe_segments.sandbox", "moe_segments.cli", "moe_segments.testing", "moe_segments.bulk"),
)
# Of one machine, or of one company's package index, and so of no use to anybody else.
LOCAL_PATH: Final = re.compile(r"(?<![\w.${}/:-])/(?:root|work|mnt|workspace|Users)/\w|/(?:venv|site-packages)/\w")
INDEX: Final = re.compile(
    r"(?:extra-)?index-url|find-links|https?://[^\s/\"']*(?:artifactory|nexus|devpi|mirror)", re.IGNORECASE
)
CLASSES: Final = [name for name in moe_segments.__all__ if inspect.isclass(getattr(moe_segments, name))]
FORBIDDEN_TEXT: Final = {"a path of one machine": LOCAL_PATH, "a package index": INDEX}


def python(*arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run((sys.executable, *arguments), check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def modules_after(code: str) -> set[str]:
    """Every module that is loaded after *code*, in a fresh interpreter."""
    printed = python("-c", f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)), file=sys.__stdout__)")
    return set(json.loads(printed.splitlines()[-1]))


def pyproject() -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# The door


@pytest.mark.processes
def test_importing_the_package_loads_no_driver_no_server_and_no_terminal() -> None:
    loaded = modules_after("import moe_segments")
    assert {"moe_segments"} < loaded
    assert [name for name in HEAVY if any(f"{module}.".startswith(f"{name}.") for module in loaded)] == []


@pytest.mark.processes
def test_using_every_public_name_loads_nothing_heavy_either() -> None:
    loaded = modules_after("from moe_segments import *")
    assert [name for name in HEAVY if any(f"{module}.".startswith(f"{name}.") for module in loaded)] == []


@pytest.mark.processes
def test_an_application_that_configures_no_logging_sees_no_records() -> None:
    """Python would print warnings by its last resort."""
    code = "import logging, moe_segments\nlogging.getLogger('moe_segments.client').warning('a record')"
    done = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.processes
@pytest.mark.parametrize(("module", "extra"), [("otel", "opentelemetry"), ("prometheus", "prometheus_client")])
def test_an_extra_that_is_missing_is_named(module: str, extra: str) -> None:
    """Without a traceback's riddle: what to install is in the sentence."""
    code = (
        f"import sys\nsys.modules[{extra!r}] = None\n"
        f"try:\n    import moe_segments.telemetry.{module}\nexcept Exception as error:\n    print(error)"
    )
    assert f"pip install 'moe-segments[{module}]'" in python("-c", code)


@pytest.mark.processes
def test_help_is_shown() -> None:
    shown = python("-m", "moe_segments", "--help")
    assert "bulk" in shown
    assert "quota" in shown


@pytest.mark.processes
def test_help_is_shown_without_aiohttp() -> None:
    shown = (
        "import contextlib, io, runpy\n"
        "sys.argv[1:] = ['--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    runpy.run_module('moe_segments', run_name='__main__')\n"
    )
    loaded = modules_after(shown)
    assert "cyclopts" in loaded
    assert "aiohttp" not in loaded


# What is public


@pytest.mark.parametrize("name", moe_segments.__all__)
def test_a_public_name_exists(name: str) -> None:
    assert getattr(moe_segments, name) is not None


def test_a_public_name_is_at_run_time_what_type_checkers_are_told() -> None:
    """The package imports its names when they are first used, from where its hints say they are."""
    told = told_to_type_checkers()
    assert set(told) == set(moe_segments.__all__)
    differing = [name for name in told if getattr(moe_segments, name) is not getattr(import_module(told[name]), name)]
    assert differing == []


def told_to_type_checkers() -> dict[str, str]:
    """Each public name and the module that the package's source imports it from."""
    nodes = ast.walk(ast.parse(Path(moe_segments.__file__).read_text(encoding="utf-8")))
    return {
        alias.name: node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("moe_segments.")
        for alias in node.names
    }


def test_every_public_name_is_offered_for_completion() -> None:
    assert set(moe_segments.__all__) <= set(dir(moe_segments))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(moe_segments, "unheard_of")


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_says_what_it_is(name: str) -> None:
    own = (vars(getattr(moe_segments, name))["__doc__"] or "").strip()
    assert own.partition("\n")[0].endswith(".")


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_public_class_can_be_asked_is_documented(name: str) -> None:
    members = vars(getattr(moe_segments, name))
    asked = {
        member: value
        for member, value in members.items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod))
    }
    assert [member for member, value in asked.items() if not inspect.getdoc(value)] == []


def test_public_names_are_named_once() -> None:
    names = moe_segments.__all__
    assert sorted(names) == sorted(set(names))


def test_every_exception_is_public() -> None:
    from moe_segments import errors

    assert set(errors.__all__) <= set(moe_segments.__all__)


# What is shipped


def test_the_types_are_shipped() -> None:
    assert resources.files("moe_segments").joinpath("py.typed").is_file()


def test_the_version_is_the_projects() -> None:
    assert moe_segments.__version__ == pyproject()["project"]["version"]


def test_the_changelog_knows_the_version() -> None:
    headings = re.findall(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert moe_segments.__version__ in headings


@pytest.mark.processes
@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_tracked_file_names(what: str) -> None:
    found = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in FORBIDDEN_TEXT[what].finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a path of one machine", "see /mnt/disk/notes.md"),
        ("a path of one machine", '"/Users/me/x"'),
        ("a path of one machine", "/opt/venv/bin/python"),
        ("a package index", "--extra-index-url file:///here"),
        ("a package index", "https://artifactory.example.com/pypi"),
    ],
)
def test_what_no_file_may_name_is_recognised(what: str, text: str) -> None:
    assert FORBIDDEN_TEXT[what].search(text)


def tracked_files() -> list[Path]:
    """The files under version control; there are none in an unpacked source distribution."""
    if not (ROOT / ".git").exists():
        pytest.skip("no version control here")
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True, text=True)
    here = Path(__file__)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and path != here]
