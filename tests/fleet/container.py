"""Run the services of `examples/container` as real processes, where no container engine is: its commands, users, names.

    unshare --net --mount --pid --fork --kill-child --mount-proc python -m tests.fleet.container DIRECTORY

In namespaces of its own, loopback is the network of the services: their names lead there and every port is free. It
prints one JSON document.
"""

from __future__ import annotations

import fcntl
import json
import re
import shlex
import socket
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import attrs
import yaml

from tests.fleet.postgres_server import postgres_program, postgres_server
from tests.places import as_user

__all__ = ["COMPOSE", "Image", "image", "services"]

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
COMPOSE: Final = EXAMPLES / "container" / "compose.yaml"
DOCKERFILE: Final = EXAMPLES / "container" / "Dockerfile"
PATIENCE_S: Final = 90.0


@attrs.frozen
class Image:
    """What the last stage of a Dockerfile makes.

    Attributes:
        base: What it begins from.
        env: Its variables.
        user: Who its processes run as.
        volumes: Its volumes.
        health: The command of its health check.
        entrypoint: What every command begins with.
        command: What is run where no command is given.
        runs: What was run to make it, in all stages.
    """

    base: str
    env: dict[str, str]
    user: str
    volumes: list[str]
    health: list[str]
    entrypoint: list[str]
    command: list[str]
    runs: list[str]


def image() -> Image:
    """The image of the examples."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    last = max(number for number, (name, _) in enumerate(steps) if name == "FROM")
    final = {step[0]: step[1] for step in steps[last:]}
    return Image(
        base=final["FROM"],
        env=dict(pair.split("=", 1) for pair in shlex.split(final["ENV"])),
        user=final["USER"],
        volumes=json.loads(final["VOLUME"]),
        health=json.loads(final["HEALTHCHECK"].partition("CMD ")[2]),
        entrypoint=json.loads(final["ENTRYPOINT"]),
        command=json.loads(final["CMD"]),
        runs=[value for name, value in steps if name == "RUN"],
    )


def services() -> dict[str, Any]:
    """The services of the compose file."""
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return services


@attrs.define
class Stack:
    """The services, started in the order that they depend on one another in.

    Attributes:
        directory: Where their volumes are.
        running: Those that were started.
    """

    directory: Path
    running: dict[str, subprocess.Popen[bytes]] = attrs.field(factory=dict)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service once those that it waits for are well."""
        service = services()[name]
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            if other not in self.running and other != "postgres":
                self.start(other)
            self.wait_until_healthy(other)
        made = image()
        places = self._places(name, made)
        words = [*made.entrypoint, *(service.get("command") or made.command)]
        env = {key: _moved(value, places) for key, value in {**made.env, **service.get("environment", {})}.items()}
        uid = int(made.user.partition(":")[0])
        log = (self.directory / f"{name}.log").open("wb")
        self.running[name] = subprocess.Popen(
            [*as_user(uid), *_found([_moved(word, places) for word in words], env["PATH"])],
            env=env,
            cwd=places["/var/lib/moe"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        return self.running[name]

    def wait_until_healthy(self, name: str) -> None:
        """Run its health check until it is content."""
        given = services()[name].get("healthcheck")
        words = image().health if given is None else given["test"][1:]
        if name == "postgres":
            words = [postgres_program(words[0]), *words[1:]]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        until_s = time.monotonic() + PATIENCE_S
        while subprocess.run(_found(words, path), capture_output=True, check=False).returncode != 0:
            process = self.running.get(name)
            assert process is None or process.poll() is None, (self.directory / f"{name}.log").read_text()
            assert time.monotonic() < until_s, f"{name} is not healthy"
            time.sleep(0.1)

    def _places(self, name: str, made: Image) -> dict[str, str]:
        places = {"/opt/moe/bin": str(Path(sys.executable).parent), "/manifests": str(EXAMPLES)}
        uid, gid = made.user.split(":")
        for volume in made.volumes:
            place = self.directory / name / volume.rpartition("/")[2]
            place.mkdir(parents=True, mode=0o700)
            subprocess.run(["chown", f"{uid}:{gid}", str(place)], check=True)
            places[volume] = str(place)
        return places


def _moved(text: str, places: dict[str, str]) -> str:
    longest_first = sorted(places, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), lambda found: places[found[0]], text)


def _found(words: list[str], path: str) -> list[str]:
    """The program's own path: the search is that of the service, not that of this process."""
    where = [Path(each) / words[0] for each in path.split(":")]
    return [str(next((each for each in where if each.exists()), words[0])), *words[1:]]


def _network(directory: Path) -> None:
    """Bring loopback up, and let the services' names lead there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up and running
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(services())}\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


def main(directory: Path) -> None:
    """Start everything, let the worker end, and say how that went."""
    _network(directory)
    database = services()["postgres"]["environment"]
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(password=database["POSTGRES_PASSWORD"], port=5_432))
        server.sql(f"CREATE DATABASE {database['POSTGRES_DB']}")
        fleet = Stack(directory)
        worker = fleet.start("worker")
        code = worker.wait(timeout=PATIENCE_S)
        with urlopen("http://sandbox:8765/_sandbox/state") as answer:
            state = json.load(answer)
        logs = {name: (directory / f"{name}.log").read_text() for name in fleet.running}
        for name in ("receiver", "sandbox"):
            fleet.running[name].terminate()
        codes = {name: fleet.running[name].wait(timeout=PATIENCE_S) for name in ("receiver", "sandbox")}
    json.dump({"code": code, "codes": codes, "state": state, "logs": logs}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
