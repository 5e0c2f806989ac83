"""Fixtures that most tests of a client begin with; a module that needs another sandbox has one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from moe_segments.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A service whose hour is a second, and which processes files at once."""
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as running:
        yield running


@pytest_asyncio.fixture
async def url(sandbox: Sandbox, tmp_path: Path) -> str:
    """A file of three users that the service can read."""
    (tmp_path / "users.csv").write_text("u-1\nu-2\nu-3\n")
    return await sandbox.publish(tmp_path / "users.csv")
