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
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, closing
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import moe_segments
from moe_segments import CallbackReceiver, Credentials, InputError, QuotaNeverFits, SegmentsClient, check_file
from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PROGRAM = Path(sys.executable).with_name("moe-segments")
MANIFEST = """op,name,attribute_name,attribute_type,file,expiry_time
create,winter,ID,string,users.csv,30
add,winter,ID,string,users.csv,
"""
AUDIENCES = """database = "sqlite:///PLACE/warehouse.db"

[[audience]]
name = "winter"
attribute_name = "ID"
attribute_type = "string"
expiry_time = 30
query = "SELECT id FROM users"
"""
USERS = 3
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


@asynccontextmanager
async def client_of(journal: str, workspace: str) -> AsyncIterator[SegmentsClient]:
    """Start the embedded sandbox, a receiver, and a client of a workspace of its own."""
    credentials = Credentials(workspace_id=workspace, api_key="a key of the sandbox", data_center="01")
    async with (
        Sandbox(credentials=credentials) as sandbox,
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            credentials, base_url=sandbox.url, journal=journal, callbacks=receiver, publish=sandbox.publish
        ) as client,
    ):
        yield client


async def create(
    journal: str, directory: Path, workspace: str, watch: Callable[[SegmentsClient], object] = lambda _: None
) -> None:
    """Create a segment and wait for its callback; be refused what can never fit."""
    async with client_of(journal, workspace) as client:
        watch(client)
        what = {"name": "winter", "attribute_name": "ID", "attribute_type": "string"}
        job = await client.create_file_segment(file=users(directory), expiry_time=30, **what)
        done = await job.result(timeout=60)
        assert done.values_found == USERS, done
        usage = await client.governor.usage()
        assert any(limit.used for limit in usage.values()), usage
        try:
            await client.add_users(file_url="http://127.0.0.1:1/file.csv", rows=2_000_001, preflight="off", **what)
        except QuotaNeverFits:
            return
        sys.exit("an operation larger than a day was not refused")


async def sync(path: Path, workspace: str) -> None:
    """Make a segment hold what a file of audiences says."""
    async with client_of("memory:", workspace) as client:
        report = await client.sync(moe_segments.read_audiences(path), max_wait_s=60)
        assert report.ok, report


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
    assert report.rows == USERS, report
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


def try_sql(place: Path, asked: argparse.Namespace) -> None:
    """Sync an audience that is a query."""
    with closing(sqlite3.connect(place / "warehouse.db")) as connection, connection:
        connection.execute("CREATE TABLE users AS SELECT 'ann' AS id UNION SELECT 'bob'")
    (place / "audiences.toml").write_text(AUDIENCES.replace("PLACE", str(place)), encoding="utf-8")
    asyncio.run(sync(place / "audiences.toml", asked.name))


def try_otel(place: Path, asked: argparse.Namespace) -> None:
    """Trace an operation; without an SDK nothing is sent anywhere."""
    telemetry = importlib.import_module("moe_segments.telemetry.otel")
    asyncio.run(create("memory:", place, asked.name, telemetry.OpenTelemetry().watch))


def try_prometheus(place: Path, asked: argparse.Namespace) -> None:
    """Count an operation."""
    telemetry = importlib.import_module("moe_segments.telemetry.prometheus")
    metrics = telemetry.PrometheusMetrics(registry=telemetry.own_registry())
    asyncio.run(create("memory:", place, asked.name, metrics.watch))
    counted = {sample.name for family in metrics.registry.collect() for sample in family.samples if sample.value}
    assert any(name.startswith("moe_segments_") for name in counted), counted


TRIALS = {
    "cli": try_cli,
    "otel": try_otel,
    "postgres": try_postgres,
    "prometheus": try_prometheus,
    "redis": try_redis,
    "sql": try_sql,
    "storage": try_storage,
}


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

    extras = metadata.metadata("moe-segments").get_all("Provides-Extra") or [] if asked.name == "all" else [asked.name]
    trials = [try_core, *(TRIALS[extra] for extra in extras if extra in TRIALS)]
    for trial in trials:
        with tempfile.TemporaryDirectory() as place:
            trial(Path(place), asked)
        print(f"{asked.name}: {trial.__name__.removeprefix('try_')} works")


if __name__ == "__main__":
    main()
