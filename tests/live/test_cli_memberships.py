"""Membership changes as a user of the command line and of the examples meets them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from moe_segments.memberships.outbox.place import outbox_of
from moe_segments.memberships.outbox.protocol import Change, Declared
from tests.live.test_cli import EXAMPLES, Shell, a_shell, python

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.processes,
]


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with a_shell(tmp_path) as one:
        yield one


async def left_behind(shell: Shell) -> None:
    """Leave changes in the outbox, as a worker that is not running now did some seconds ago."""
    outbox = outbox_of(shell.directory / "quota.db.outbox", shell.sandbox.credentials.scope)
    await outbox.open()
    fields = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": None, "priority": 0}
    vip = await outbox.declare(Declared(name="vip", max_age_s=1.0, **fields))  # type: ignore[arg-type]  # as named
    await outbox.declare(Declared(name="calm", max_age_s=None, **fields))  # type: ignore[arg-type]  # likewise
    change = Change(segment=vip, adds=True, values=["u-secret-1", "u-secret-2"])
    await outbox.write([change], round((time.time() - 90) * 1e6))
    await outbox.close()


async def test_quota_shows_which_segments_are_behind(shell: Shell) -> None:
    nothing = await shell.run_at_speed("quota", "--json")
    assert nothing.document["memberships"] == []
    assert not (shell.directory / "quota.db.outbox").exists()
    await left_behind(shell)

    drawn = await shell.run_at_speed("quota")
    assert re.search(r"vip +\d min \d+ s +1\.0 s +2 +0 +late, waits", drawn.out), drawn.out
    assert "calm" not in drawn.out
    calm, vip = (await shell.run_at_speed("quota", "--json")).document["memberships"]
    assert (vip["name"], vip["pending"], vip["is_late"], vip["max_age_s"]) == ("vip", 2, True, 1.0)
    assert 89 < vip["lag_s"] < 600
    assert (calm["name"], calm["pending"], calm["is_late"]) == ("calm", 0, False)
    assert "secret" not in drawn.out


async def test_forgetting_an_audience_deletes_its_changes(shell: Shell) -> None:
    await shell.run_at_speed("quota")
    await left_behind(shell)
    forgotten = await shell.run_at_speed("audiences", "forget", "vip")
    assert forgotten.code == 0, forgotten.err
    assert "the changes that waited are deleted" in forgotten.err
    assert "nothing is stored" in (await shell.run_at_speed("audiences", "forget", "vip")).err
    assert b"secret" not in (shell.directory / "quota.db.outbox").read_bytes()
    assert (await shell.run_at_speed("audiences", "forget", "unheard-of")).code == 0


async def test_quotas_are_shown_when_the_changes_cannot_be_read(shell: Shell) -> None:
    await shell.run_at_speed("quota")
    (shell.directory / "quota.db.outbox").write_bytes(b"no database" * 100)
    shown = await shell.run_at_speed("quota")
    assert shown.code == 0, shown.err
    assert "operations" in shown.out
    assert "membership changes: " in shown.out
    assert "is no outbox" in shown.out
    assert (await shell.run_at_speed("quota", "--json")).code == 1


async def test_the_example_of_a_worker_sends_what_its_queue_held() -> None:
    result = await python(str(EXAMPLES / "membership_worker.py"))
    assert result.code == 0, result.err
    waiting, became = result.out.splitlines()
    assert re.fullmatch(r"\d+ changes wait", waiting)
    assert re.fullmatch(r"202 orders became [1-9] operations: create.*", became)
