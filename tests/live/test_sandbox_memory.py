"""What a sandbox remembers in a file: the next one has the segments, the members and what was spent."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import InputError, QuotaLimits, SegmentsClient
from moe_segments.cli.kept_sandbox import kept_sandbox
from moe_segments.sandbox import Ask, Op, Rows, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio


def ask(op: Op = Op.CREATE, name: str = "vip") -> Ask:
    days = 30 if op is Op.CREATE else None
    return Ask(op=op, name=name, file_url="http://127.0.0.1/users.csv", expiry_days=days)


def sent(sandbox: Sandbox, *values: str, op: Op = Op.CREATE, name: str = "vip") -> str:
    """Send a file and process it. Returns the request's identifier."""
    submission: Any = sandbox.workspace.submit(ask(op, name))
    sandbox.workspace.process(submission, Rows(found=len(values), values=frozenset(values)))
    return str(submission.request_id)


def modes(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def test_the_next_sandbox_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    memory = tmp_path / "sandbox.json"
    async with Sandbox(speed=600, memory=memory) as first:
        request = sent(first, "u-1", "u-2")
        sent(first, "u-3", op=Op.ADD)
        sent(first, "u-9", name="archived")
        first.workspace.archive("archived")
        first.advance(2.0)
    async with Sandbox(speed=600, memory=memory) as second:
        vip, archived = second.workspace.segments
        assert (vip.name, vip.members, vip.is_active) == ("vip", {"u-1", "u-2", "u-3"}, True)
        assert (archived.members, archived.is_active) == ({"u-9"}, False)
        assert second.workspace.usage()["operations_per_hour"] == 3
        assert second.workspace.usage()["users_per_day"] == 4
        assert second.workspace.usage()["active_segments"] == 1
        assert second.ahead_s == 2.0
        assert getattr(second.workspace.submit(ask()), "status", None) == 409, "the name is used up"
        assert sent(second, "u-4", op=Op.ADD) != request
        assert second.workspace.find("new") is None
        sent(second, "u-5", name="new")
        assert len({each.id for each in second.workspace.segments}) == 3


async def test_a_sandbox_that_is_killed_has_lost_nothing_that_was_told(tmp_path: Path) -> None:
    """The file is written before anybody hears of a change; it needs no good end."""
    memory = tmp_path / "sandbox.json"
    async with Sandbox(memory=memory) as first:
        submission: Any = first.workspace.submit(ask())
        async with Sandbox(memory=memory) as second:
            assert [each.name for each in second.workspace.segments] == ["vip"]
        first.workspace.process(submission, Rows(found=1, values=frozenset({"u-1"})))
        async with Sandbox(memory=memory) as third:
            assert third.workspace.segments[0].members == {"u-1"}


async def test_the_memory_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """It holds users' values."""
    async with Sandbox(memory=tmp_path / "sandbox.json") as sandbox:
        sent(sandbox, "u-1")
    assert modes(tmp_path) == {"sandbox.json": 0o600}


async def test_calls_are_remembered_too(tmp_path: Path) -> None:
    memory = tmp_path / "sandbox.json"
    async with (
        Sandbox(memory=memory) as first,
        SegmentsClient(first.credentials, base_url=first.url, journal="memory:") as client,
    ):
        await client.list_segments()
    assert Sandbox(memory=memory).workspace.windows()["list_per_hour"].used(first.workspace.now()) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"segments.1": [{}]}', "\x00", '{"segments.1": 5}'])
async def test_a_file_that_is_no_memory_is_told(tmp_path: Path, text: str) -> None:
    memory = tmp_path / "sandbox.json"
    memory.write_text(text)
    with pytest.raises(InputError, match="is no memory of a sandbox: delete it"):
        Sandbox(memory=memory)
    assert memory.read_text() == text
    with pytest.raises(InputError, match="cannot be read"):
        Sandbox(memory=tmp_path)


async def test_a_reset_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "sandbox.json"
    async with Sandbox(memory=memory) as sandbox:
        sent(sandbox, "u-1")
        await sandbox.reset()
        assert json.loads(memory.read_text())["segments.1"] == []


# Where the command line keeps it


def expire(memory: Path) -> None:
    data = json.loads(memory.read_text())
    for segment in data["segments.1"]:
        segment["expires_at"] = segment["created_at"]
    memory.write_text(json.dumps(data))


async def test_a_kept_sandbox_begins_anew_once_a_segment_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is used up, so nothing could be sent to it any more. The journal goes with it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    limits = QuotaLimits().scaled(600)
    kept = kept_sandbox(None, limits)
    assert kept is not None
    assert kept.directory == tmp_path / "moe_segments" / "sandbox" / "speed-600"
    async with Sandbox(limits=limits, memory=kept.memory) as sandbox:
        sent(sandbox, "u-1")
    (kept.directory / "quota.db").touch()
    assert kept_sandbox(None, limits) == kept
    assert set(modes(kept.directory)) == {"quota.db", "sandbox.json"}
    expire(kept.memory)
    assert kept_sandbox(None, limits) == kept
    assert modes(kept.directory) == {}
    assert "begins anew" in capsys.readouterr().err


@pytest.mark.parametrize("journal", ["memory:", "redis://127.0.0.1/0", "postgresql://127.0.0.1/db"])
async def test_a_journal_that_is_no_file_has_no_kept_sandbox(journal: str) -> None:
    assert kept_sandbox(journal, QuotaLimits()) is None


async def test_a_named_journal_has_its_sandbox_beside_it(tmp_path: Path) -> None:
    """And its user deletes it: nobody else's journal is thrown away."""
    kept = kept_sandbox(str(tmp_path / "demo.db"), QuotaLimits())
    assert kept is not None
    assert (kept.memory, kept.directory) == (tmp_path / "demo.db.sandbox", None)
