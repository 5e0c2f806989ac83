#!/usr/bin/env python3
"""Build the sdist and the wheel, check them, and install them as users do: the core alone, and each extra alone.

Run by the gate with the Python that has the groups `test`, `types` and `release`. `--keep DIR` leaves there what a
release consists of: `dist/` with both, and `sbom.cdx.json`, which names all that the extra `all` installs. Nothing is
published.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / ".ci"
PACKAGE = "moe_segments"
COMPLETE = 0.99  # of the public names have a type that pyright knows
AT_ONCE = 3
# What runs from the unpacked sdist: the package as a whole, the pages, and files on the embedded sandbox.
SDIST_TESTS = ("tests/test_package.py", "tests/test_docs.py", "tests/pure/test_wire.py", "tests/live/test_files.py")


def run(*command: str | Path, **options: object) -> str:
    """Run a command; return what it printed, or end with it."""
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def tool(module: str, *arguments: str | Path, **options: object) -> str:
    """Run a tool of this Python."""
    return run(sys.executable, "-m", module, *arguments, **options)


def build(place: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it."""
    tool("build", "--outdir", place, ROOT)
    (sdist,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    tool("twine", "check", "--strict", sdist, wheel)
    run(Path(sys.executable).with_name("check-wheel-contents"), "--package", ROOT / PACKAGE, wheel)
    return sdist, wheel


def tracked(*below: str) -> set[str]:
    """Return the files under version control, by their paths in the repository."""
    return {name for name in run("git", "ls-files", "-z", *below, cwd=ROOT).split("\0") if (ROOT / name).is_file()}


def check_contents(sdist: Path, wheel: Path) -> None:
    """Hold both to the repository: nothing is missing, nothing strays in."""
    metadata = re.compile(r"[\w.-]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)")
    with zipfile.ZipFile(wheel) as opened:
        files = {name for name in opened.namelist() if not metadata.fullmatch(name)}
    _same("the wheel", files, tracked(PACKAGE))
    with tarfile.open(sdist) as opened:
        files = {name.partition("/")[2] for name in opened.getnames()} - {"PKG-INFO"}
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    wanted = [name.removeprefix("/") for name in targets["sdist"]["include"]]
    _same("the sdist", files, tracked(*wanted, "pyproject.toml", "README.md", "LICENSE", ".gitignore"))


def _same(what: str, files: set[str], wanted: set[str]) -> None:
    if files != wanted:
        raise SystemExit(f"{what} lacks {sorted(wanted - files)} and has {sorted(files - wanted)} beside")
    print(f"{what}: {len(files)} files, those of the repository")


def furnish(place: Path, wheel: Path, extra: str) -> Path:
    """Make an environment with the wheel and one extra; return its Python."""
    venv.create(place)
    python = place / "bin" / "python"
    what = f"{wheel}[{extra}]" if extra != "core" else str(wheel)
    tool("pip", "--python", python, "install", "-q", what)
    tool("pip", "--python", python, "check")
    return python


def brought(python: Path) -> str:
    """Return the import names of an environment, with commas."""
    return run(python, "-c", "from importlib.metadata import *; print(','.join(packages_distributions()))").strip()


def install(place: Path, wheel: Path, project: dict[str, object], servers: list[str]) -> Path:
    """Install the core and each extra alone and try them; return the Python that has all of them."""
    extras = project["optional-dependencies"]
    version = str(project["version"])
    assert "all" in extras, "the extra `all` holds the others"
    everything = furnish(place / "all", wheel, "all")
    names = brought(everything)

    def tried(extra: str) -> str:
        python = everything if extra == "all" else furnish(place / extra, wheel, extra)
        arguments = (extra, "--version", version, "--of-extras", names, *servers)
        return run(python, "-I", CI / "smoke.py", *arguments, cwd=place, env=_clean_environment(place))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for said in pool.map(tried, ["core", *extras]):
            print(said, end="")
    return everything


def _clean_environment(home: Path) -> dict[str, str]:
    # Keys for the store of the trial, and no setting of whoever runs this.
    from tests.live.stores import WRITER

    keys = {f"AWS_{name.upper()}": text for name, text in WRITER.items()}
    return {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": tempfile.gettempdir(), **keys}


def check_types(python: Path) -> None:
    """Hold the types that a user's checker sees, which reads the installed package."""
    # It looks for the package where the `python` on the PATH has it, whatever --pythonpath says.
    command = (sys.executable, "-m", "pyright", "--verifytypes", PACKAGE, "--ignoreexternal", "--outputjson")
    path = os.pathsep.join((str(python.parent), os.environ["PATH"]))
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=python.parent, env={**os.environ, "PATH": path}
    )
    try:
        report = json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        raise SystemExit(f"pyright --verifytypes: {done.stdout}{done.stderr}") from None
    for symbol in report["symbols"]:
        # Not what is only unknown because it uses another one of them.
        causes = [one["message"] for one in symbol["diagnostics"] if "partially unknown" not in one["message"]]
        if causes and symbol["isExported"] and (not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]):
            print(f"{symbol['name']}: {causes[0]}")
    names = sum(report["exportedSymbolCounts"].values())
    print(f"types: pyright knows those of {report['completenessScore']:.2%} of {names} public names")
    if report["completenessScore"] < COMPLETE:
        raise SystemExit(f"less than {COMPLETE:.0%} of the public names have a type that pyright knows")


def describe(python: Path, path: Path) -> None:
    """Write the bill of materials of an environment, by the names and versions that are installed."""
    options = ("--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--of", "JSON", "-o", path)
    tool("cyclonedx_py", "environment", *options, python)
    document = json.loads(path.read_text(encoding="utf-8"))
    named = {component["name"] for component in document["components"]}
    if not {"aiohttp", "attrs", "cattrs", "aiolimiter"} <= named:
        raise SystemExit(f"the bill of materials lacks what the core needs: it has {sorted(named)}")
    print(f"bill of materials: {document['specVersion']}, {len(named)} components")


def check_sdist(place: Path, sdist: Path) -> None:
    """Run tests from the unpacked sdist, and collect all of them."""
    with tarfile.open(sdist) as opened:
        opened.extractall(place, filter="data")
    (home,) = (path for path in place.iterdir() if path.is_dir())
    where = run(sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=home).strip()
    assert Path(where).is_relative_to(home), f"the tests would use {where}"
    print(tool("pytest", "-q", "-n", "0", "--collect-only", cwd=home).splitlines()[-1])
    print(tool("pytest", "-q", "-n", "2", *SDIST_TESTS, cwd=home).splitlines()[-1])


def main() -> None:
    """Do all of it."""
    sys.path.insert(0, str(ROOT))
    from tests.fleet.postgres_server import postgres_server
    from tests.fleet.servers import redis_server
    from tests.live.stores import s3_server

    for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        os.environ[name] = str(CI / "constraints.txt")
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    keep = parser.parse_args().keep
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory(prefix="moe-dist-") as made, ExitStack() as stack:
        place = Path(made)
        release = place / "release" if keep is None else keep.resolve()
        for path in (release, *(place / name for name in ("store", "venvs", "sdist"))):
            path.mkdir()
        sdist, wheel = build(release / "dist")
        check_contents(sdist, wheel)
        redis, postgres = stack.enter_context(redis_server()), stack.enter_context(postgres_server())
        store = stack.enter_context(s3_server(place / "store"))
        servers = ["--redis", redis.url, "--postgres", postgres.url, "--store", store.to()]
        everything = install(place / "venvs", wheel, project, servers)
        check_types(everything)
        describe(everything, release / "sbom.cdx.json")
        check_sdist(place / "sdist", sdist)


if __name__ == "__main__":
    main()
