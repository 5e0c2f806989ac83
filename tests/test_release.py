"""What is said of a release is true of it: its tag, its changelog, the versions of Python, the systems it runs on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[1]
CI: Final = ROOT / ".ci"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
VERSION: Final[str] = PROJECT["version"]
CHANGELOG: Final = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-30

### Added

- More.

## [1.1.0] - 2026-11-23

- Less.

[Unreleased]: #unreleased
[1.2.0]: #120---2026-11-30
"""
WITHOUT_POSIX: Final = """
import importlib, pkgutil, sys, time
import asyncio, aiohttp.web, cattrs, concurrent.futures, logging.handlers, sqlite3, subprocess, tempfile
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in [name for name in dir(time) if name.startswith(("CLOCK_", "clock_get"))]:
    delattr(time, name)
sys.platform = "win32"
import moe_segments
for name in moe_segments.__all__:
    getattr(moe_segments, name)
import moe_segments.sandbox
"""


def needs_the_gate() -> None:
    if not CI.is_dir():
        pytest.skip("the gate is not in an unpacked source distribution")


@pytest.fixture
def release(tmp_path: Path) -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """Ask for the notes of a tag in a project of version 1.2.0 with a given changelog."""
    needs_the_gate()
    (tmp_path / ".ci").mkdir()
    shutil.copy(CI / "release_notes.py", tmp_path / ".ci")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')

    def asked(tag: str, changelog: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "CHANGELOG.md").write_text(changelog)
        script = tmp_path / ".ci" / "release_notes.py"
        return subprocess.run((sys.executable, script, tag), check=False, capture_output=True, text=True, timeout=60)

    return asked


@pytest.mark.processes
def test_a_release_is_announced_with_its_own_section(
    release: Callable[[str, str], subprocess.CompletedProcess[str]],
) -> None:
    done = release("v1.2.0", CHANGELOG)
    assert (done.returncode, done.stdout) == (0, "### Added\n\n- More.\n")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("tag", "changelog", "why"),
    [
        ("v1.3.0", CHANGELOG, "is not v1.2.0"),
        ("1.2.0", CHANGELOG, "is not v1.2.0"),
        ("v1.2.0", CHANGELOG.replace(" - 2026-11-30", "", 1), "lacks its day"),
        ("v1.2.0", CHANGELOG.replace("## [1.2.0] - 2026-11-30", "", 1), "Unreleased"),
        ("v1.2.0", CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n- Even more.\n", 1), "Unreleased"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(
    release: Callable[[str, str], subprocess.CompletedProcess[str]], tag: str, changelog: str, why: str
) -> None:
    done = release(tag, changelog)
    assert done.returncode != 0
    assert why in done.stderr
    assert done.stdout == ""


def test_the_changelog_begins_with_what_is_not_released_and_has_this_version_with_its_day() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(VERSION)}\] - \d{{4}}-\d\d-\d\d", headings[1])
    assert f"\n[{VERSION}]: #" in text


def test_every_python_that_is_named_is_one_that_the_workflows_test() -> None:
    needs_the_gate()
    named = set(re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"])))
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")
    listed = re.search(r"python: \[(.*)\]", workflow)
    assert listed is not None
    tested = set(re.findall(r'"([\d.]+)"', listed[1]))
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert {lowest} <= named <= tested


def test_the_version_is_written_once() -> None:
    """Everything else asks the installed distribution."""
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("moe_segments", "docs", "examples", ".github")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".toml", ".yml", ".yaml"}
        for line in path.read_text("utf-8").splitlines()
        if re.search(rf"(?<![\w.]){re.escape(VERSION)}(?![\w.])", line)
    ]
    assert found == []


def test_every_extra_is_in_the_one_that_holds_all() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything.partition("[")[2])) == set(extras) - {"all"}


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_the_pages_for_contributors_lead_somewhere(page: str) -> None:
    needs_the_gate()
    path = ROOT / ".github" / page
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", path.read_text("utf-8"))
    named = re.findall(r"`((?:tests|\.ci)/[\w./-]+)`", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.processes
def test_the_package_can_be_imported_where_only_windows_is() -> None:
    """Values, filters and rules are of use there, so that nothing of POSIX may be needed to import them."""
    done = subprocess.run(
        (sys.executable, "-c", WITHOUT_POSIX), check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
