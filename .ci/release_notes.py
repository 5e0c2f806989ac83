#!/usr/bin/env python3
"""Print the changelog's section of a tag, such as `v1.2.3`; refuse a tag that does not fit what is to be released.

The tag is the version in pyproject.toml, its section has a date and says something, and nothing is left in
*Unreleased*.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<day>\d{4}-\d\d-\d\d))?$", re.MULTILINE)


def sections(changelog: str) -> dict[str, tuple[str | None, str]]:
    """Return the day and the text of each section."""
    body = changelog.partition("\n[Unreleased]:")[0]
    found = list(HEADING.finditer(body))
    ends = [*(one.start() for one in found[1:]), len(body)]
    return {one["name"]: (one["day"], body[one.end() : end].strip()) for one, end in zip(found, ends, strict=True)}


def notes(tag: str, version: str, changelog: str) -> str:
    """Return the text of the section, or end with what is wrong."""
    if tag != f"v{version}":
        sys.exit(f"the tag {tag} is not v{version}, the version in pyproject.toml")
    known = sections(changelog)
    if known.get("Unreleased", (None, ""))[1]:
        sys.exit("CHANGELOG.md: what is in Unreleased belongs in the section of this version")
    day, text = known.get(version, (None, ""))
    if day is None or not text:
        sys.exit(f"CHANGELOG.md: the section of {version} lacks its day or its text")
    return text


def main() -> None:
    """Print them."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - its own name and a tag
        sys.exit("usage: release_notes.py TAG")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    print(notes(sys.argv[1], version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
