#!/usr/bin/env python3
"""Try what is installed, as its user would: `smoke.py NAME`, where NAME is an extra, or `core` for none.

`.ci/distributions.py` runs it in an environment that holds the wheel with that one extra and nothing of the
repository. Each extra is used for what it is there for; an extra without a trial here is given the general ones.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import pkgutil
import subprocess
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import moe_segments
from moe_segments import CallbackReceiver, Credentials, InputError, QuotaNeverFits, SegmentsClient, check_file
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(sys.executable).with_name("moe-segments")
MANIFEST = """op,name,attribute_name,attribute_type,file,expiry_time
create,winter,ID,string,users.csv,30
add,winter,ID,string,users.csv,
"""
FOR_TESTS = {"pytest"}  # which users of `moe_segments.testing.plugin` have


def run(*command: str, code: int = 0) -> str:
    """Run the installed program; return what it printed."""
    done = subprocess.run([str(PROGRAM), *command], check=False, capture_output=True, text=True, timeout=120)
    if done.returncode != code:
        sys.exit(f"moe-segments {' '.join(command)}: ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def users(directory: Path) -> Path:
    """Write a file of three users."""
    path = directory / "users.csv"
    path.write_text("ann\nbob\ncid\n", encoding="utf-8")
    return path


async def create(journal: str, directory: Path, workspace: str) -> None:
    """Create a segment on the embedded sandbox and wait for its callback; be refused what can never fit."""
    credentials = Credentials(workspace_id=workspace, api_key="a key of the sandbox", data_center="01")
    async with (
        Sandbox(credentials=credentials) as sandbox,
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            credentials, base_url=sandbox.url, journal=journal, callbacks=receiver, publish=sandbox.publish
        ) as client,
    ):
        what = {"name": "winter", "attribute_name": "ID", "attribute_type": "string"}
        job = await client.create_file_segment(file=users(directory), expiry_time=30, **what)
        done = await job.result(timeout=60)
        assert done.values_found == 3, done
        usage = await client.governor.usage()
        assert any(limit.used for limit in usage.values()), usage
        try:
            await client.add_users(file_url=f"{sandbox.url}/file.csv", rows=2_000_001, preflight="off", **what)
        except QuotaNeverFits:
            return
        sys.exit("an operation larger than a day was not refused")


def refuses(names: str, attempt: Callable[[], object]) -> None:
    """Hold the advice that a missing extra gives."""
    try:
        attempt()
    except InputError as error:
        if names in str(error):
            return
        sys.exit(f"the advice does not name {names}: {error}")
    sys.exit(f"nothing said that {names} is missing")


def try_core(place: Path, asked: argparse.Namespace) -> None:
    """Use what needs no extra, and hear which extra is missing for the rest."""
    report = asyncio.run(check_file(users(place)))
    assert report.rows == 3, report
    (place / "journal").mkdir()
    asyncio.run(create(f"sqlite:///{place}/journal/quota.db", place, asked.name))
    if asked.name != "core":
        return
    assert "moe-segments[cli]" in run("--help", code=2)

    async def opened(journal: str) -> None:
        await create(journal, place, asked.name)

    refuses("moe-segments[redis]", lambda: asyncio.run(opened("redis://127.0.0.1:1/0")))
    refuses("moe-segments[postgres]", lambda: asyncio.run(opened("postgresql://127.0.0.1:1/none")))


def try_cli(place: Path, _: argparse.Namespace) -> None:
    """Run a manifest on the embedded sandbox."""
    users(place)
    (place / "manifest.csv").write_text(MANIFEST, encoding="utf-8")
    assert "winter" in run("bulk", str(place / "manifest.csv"), "--sandbox", "--speed", "600")
    assert "bulk" in run("--help")


def try_storage(place: Path, asked: argparse.Namespace) -> None:
    """Publish to a store that speaks S3 and checks signatures."""
    published = asyncio.run(moe_segments.publish(users(place), asked.store))
    assert published.url.startswith("http"), published


def try_redis(place: Path, asked: argparse.Namespace) -> None:
    """Keep the journal on Redis."""
    asyncio.run(create(asked.redis, place, asked.name))


def try_postgres(place: Path, asked: argparse.Namespace) -> None:
    """Keep the journal on PostgreSQL."""
    asyncio.run(create(asked.postgres, place, asked.name))


TRIALS = {"cli": try_cli, "storage": try_storage, "redis": try_redis, "postgres": try_postgres}


def import_everything(of_other_extras: set[str]) -> None:
    """Import every module; only what another extra brings may be absent."""
    for module in pkgutil.walk_packages(moe_segments.__path__, "moe_segments."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:
            top = (missing.name or "").partition(".")[0]
            if top not in of_other_extras | FOR_TESTS:
                sys.exit(f"{module.name} needs {missing.name}, which no extra brings")
        except InputError as missing:
            if "moe-segments[" not in str(missing):
                raise


def main() -> None:
    """Try it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--version")
    parser.add_argument("--redis")
    parser.add_argument("--postgres")
    parser.add_argument("--store")
    parser.add_argument("--of-extras", default="", help="import names that extras bring, with commas")
    asked = parser.parse_args()

    home = Path(moe_segments.__file__).parent
    assert "site-packages" in home.parts, home
    assert resources.files("moe_segments").joinpath("py.typed").is_file()
    assert run("--version").strip() == moe_segments.__version__ == metadata.version("moe-segments") == asked.version
    for name in moe_segments.__all__:
        getattr(moe_segments, name)
    import_everything(set(filter(None, asked.of_extras.split(","))))

    trials = [try_core, *(TRIALS.values() if asked.name == "all" else filter(None, [TRIALS.get(asked.name)]))]
    for trial in trials:
        with tempfile.TemporaryDirectory() as place:
            trial(Path(place), asked)
        print(f"{asked.name}: {trial.__name__.removeprefix('try_')} works")


if __name__ == "__main__":
    main()
