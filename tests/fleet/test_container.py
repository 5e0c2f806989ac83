"""The container files of the examples: their commands run as real processes, under their names and users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from moe_segments.bulk import read_manifest
from tests.fleet.container import COMPOSE, image, services

ROOT = COMPOSE.parents[2]


def test_the_image_is_slim_and_its_processes_are_nobodys() -> None:
    """A base without a compiler, a user that is not root by number, and what lasts on volumes."""
    made = image()
    assert made.base.endswith("-slim")
    uid, gid = made.user.split(":")
    assert int(uid) >= 1_000 <= int(gid)
    for variable in ("MOE_JOURNAL", "XDG_STATE_HOME"):
        assert any(f"{volume}" in made.env[variable] for volume in made.volumes)
    assert len(set(made.volumes)) == 2  # a witness beside its journal is lost with it
    assert any(f"-o {uid} -g {gid}" in step and all(each in step for each in made.volumes) for step in made.runs)


def test_the_image_installs_what_its_commands_need() -> None:
    """From the sources that stand here, with extras that there are."""
    extras = (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]")[2]
    install = next(step for step in image().runs if "pip install" in step)
    wanted = install.partition(".[")[2].partition("]")[0].split(",")
    assert {"cli", "postgres"} <= set(wanted)
    assert [extra for extra in wanted if f"\n{extra} = " not in extras] == []
    for name in ("pyproject.toml", "README.md", "LICENSE", "moe_segments"):
        assert (ROOT / name).exists()


def test_no_service_is_open_to_the_network_of_its_host() -> None:
    """What is published is published on loopback, and only the sandbox's page is."""
    assert [port for service in services().values() for port in service.get("ports", ())] == ["127.0.0.1:8765:8765"]
    for service in services().values():
        if "build" in service:
            assert (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()


@pytest.mark.processes
@pytest.mark.timeout(240)
@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare, for namespaces"
)
def test_the_services_work_together_under_their_names() -> None:
    """Sandbox, receiver, PostgreSQL and worker find one another, and every line of the manifest is processed."""
    with tempfile.TemporaryDirectory(prefix="moe-stack-") as directory:
        Path(directory).chmod(0o755)
        ended = subprocess.run(
            [
                *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-m", "tests.fleet.container", directory),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if "unshare failed" in ended.stderr:
            pytest.skip("needs leave to make namespaces")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)

    lines = len(read_manifest(COMPOSE.parents[1] / "bulk.csv").entries)
    assert (told["code"], told["codes"]) == (0, {"receiver": 0, "sandbox": 0}), told["logs"]
    assert "state directory" not in "".join(told["logs"].values())  # the volume is the user's own
    assert told["state"]["totals"]["rejections"] == 0
    assert len(told["state"]["segments"]) > 0
    assert lines > 0
