#!/usr/bin/env python3
"""Print constraints for pip: each requirement of the package at its lowest version, which is 1.2 for `name>=1.2,<2`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?>=(?P<floor>[0-9.]+)")
OWN = "moe-segments"


def canonical(name: str) -> str:
    """As indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def floors(project: dict[str, object]) -> dict[str, str]:
    """The lowest version of each requirement."""
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    required = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    lowest = {}
    for text in required:
        if canonical(re.split(r"[^A-Za-z0-9._-]", text)[0]) == OWN:
            continue  # an extra of ours in another
        found = REQUIREMENT.match(text)
        if found is None:
            sys.exit(f"{text}: name its lowest version with >=")
        lowest[canonical(found["name"])] = found["floor"]
    return lowest


def main() -> None:
    """Print them."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    for name, floor in sorted(floors(project).items()):
        print(f"{name}=={floor}")


if __name__ == "__main__":
    main()
