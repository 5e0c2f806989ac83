#!/usr/bin/env python3
"""Build the site of docs/ into the directory that is given, and end with 1 where the builder warns of anything.

The pages are copied first. Links from a page to files outside docs/ lead to the repository there, and entries of the
navigation whose page does not exist are left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/moe-segments/moe-segments"
LINK = re.compile(r"(\]\()((?:\.\./)+)([^)]*\))")
ENTRY = re.compile(r'^\s*(?:\{ "[^"]+" = )?"([\w/-]+\.md)"(?: \})?,\s*$')


def link_to_repository(page: Path, text: str) -> str:
    """Return a page's text with its links to files outside docs/ leading to the repository."""

    def changed(link: re.Match[str]) -> str:
        target = (page.parent / link[2] / link[3].partition("#")[0].rstrip(")")).resolve()
        if target.is_relative_to(DOCS):
            return link[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{link[1]}{REPOSITORY}/{kind}/main/{target.relative_to(ROOT)})"

    return LINK.sub(changed, text)


def stage(place: Path) -> None:
    """Lay the configuration and the pages out as the builder wants them."""
    text = (DOCS / "zensical.toml").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    absent = {name for line in lines if (entry := ENTRY.match(line)) and not (DOCS / (name := entry[1])).is_file()}
    kept = [line for line in lines if not ((entry := ENTRY.match(line)) and entry[1] in absent)]
    (place / "zensical.toml").write_text("".join(kept), encoding="utf-8")
    shutil.copytree(DOCS, place / "docs", ignore=shutil.ignore_patterns("zensical.toml"))
    for page in DOCS.rglob("*.md"):
        changed = link_to_repository(page, page.read_text(encoding="utf-8"))
        (place / "docs" / page.relative_to(DOCS)).write_text(changed, encoding="utf-8")
    (place / "moe_segments").symlink_to(ROOT / "moe_segments")


def main() -> int:
    """Build it."""
    target = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory).resolve()
        stage(place)
        command = (sys.executable, "-m", "zensical", "build", "--strict", "-f", str(place / "zensical.toml"))
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        said = done.stdout + done.stderr
        if done.returncode or re.search(r"warning", said, re.IGNORECASE):
            print(said)
            return 1
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(place / "site", target)
    pages = list(target.rglob("*.html"))
    print(f"{len(pages)} pages in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
