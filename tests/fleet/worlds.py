"""What the tests of every server engine share: facts, decisions, a host whose clock goes wrong, a certificate."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from moe_segments.core.events import ExternalUsage, Reserved
from moe_segments.journal.local.clock import BootClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal import Journal
    from moe_segments.journal.replica import Question

__all__ = ["FACT", "certificate", "fact", "fill", "host", "reserve"]

FACT = ExternalUsage(operations=1)


def fact(number: int) -> Event:
    return ExternalUsage(operations=1, rows=number)


def host(boot_us: Callable[[], int]) -> BootClock:
    """A host whose clock shows what *boot_us* says."""
    return BootClock(boot_us=boot_us)


async def fill(journal: Journal, count: int, prefix: str = "b") -> list[Batch]:
    return [await journal.append([FACT], batch_id=f"{prefix}{number}") for number in range(1, count + 1)]


def reserve(job: str, places: int = 10**6) -> Question[bool]:
    """One of so many places."""

    def question(state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], bool]:
        if len(state.jobs.records) >= places:
            return [], False
        event = Reserved(job, 1, {"op": "create"}, 1, 0, 0, (), 30, 60)
        state.try_reserve(event, now_us)
        return [event], True

    return question


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
            check=True,
            capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    return cert, key
