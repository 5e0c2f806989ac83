"""What is known of audiences: the next full replace, and the last match rate, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from moe_segments import Audience, InputError
from moe_segments.limits import QuotaLimits
from tests.live.audience_world import FIELDS, World, in_virtual_time, world

if TYPE_CHECKING:
    from pathlib import Path

    from moe_segments import KnownAudience

DAY_S = 86_400.0


async def known(w: World, name: str = "vip") -> KnownAudience:
    async with w.client() as client:
        return next(one for one in await client.audiences(snapshots=w.place) if one.name == name)


@in_virtual_time
async def test_the_next_full_replace_is_known_and_comes_true(tmp_path: Path) -> None:
    """At that moment, not before; and it moves on with each full send, not with a difference."""
    async with world(tmp_path) as w:
        await w.sync(["u1", "u2"], full_every_days=2)
        first = await known(w)
        assert first.full_at is not None
        assert first.next_full_at == first.full_at + timedelta(days=2)
        assert first.to_json()["next_full_at"] == first.next_full_at.isoformat()
        await asyncio.sleep(DAY_S)
        await w.sync(["u1", "u2", "u3"], full_every_days=2)
        assert (await known(w)).next_full_at == first.next_full_at
        await asyncio.sleep(DAY_S)
        await w.sync(["u1", "u2", "u3"], full_every_days=2)
        assert w.ops == ["create", "add", "replace"]
        later = (await known(w)).next_full_at
        assert later is not None
        assert later > first.next_full_at + timedelta(days=1)


@in_virtual_time
async def test_without_full_every_days_there_is_no_next_full_replace(tmp_path: Path) -> None:
    """Nor where the members are unknown: the next sync replaces them, whatever the day."""
    async with world(tmp_path) as w:
        await w.sync(["u1"])
        assert (await known(w)).next_full_at is None
        await w.sync(["u1"], full_every_days=2)
        assert (await known(w)).next_full_at is not None, "as the last sync said"
        async with w.client() as client:
            await client.forget_audience("vip", snapshots=w.place)
        assert (await known(w)).next_full_at is None


@in_virtual_time
async def test_days_of_a_full_replace_are_as_short_as_the_windows(tmp_path: Path) -> None:
    async with world(tmp_path, limits=QuotaLimits(), speed=600) as w:
        await w.sync(["u1"], full_every_days=30)
        one = await known(w)
        assert one.full_at is not None
        assert one.next_full_at == one.full_at + timedelta(days=30) / 600


@in_virtual_time
async def test_the_match_rate_is_that_of_the_last_sync_that_sent_something(tmp_path: Path) -> None:
    async with world(tmp_path, users=["u1"]) as w:
        await w.sync(["u1", "u2"])
        assert (await w.sync(["u1", "u2"])).status == "unchanged"
        one = await known(w)
        assert (one.match_rate, one.to_json()["match_rate"]) == (0.5, 0.5)
        assert one.last is not None
        assert one.last.match_rate is None


@in_virtual_time
async def test_each_report_is_told_as_soon_as_it_is_there(tmp_path: Path) -> None:
    """Of those that were refused, too; each once."""
    async with world(tmp_path) as w, w.client() as client:
        told = list[tuple[str, str]]()
        audiences = [
            Audience("refused", members=[], **FIELDS),
            Audience("vip", members=["u1"], **FIELDS),
            Audience("lapsed", members=["u2"], priority=1, **FIELDS),
        ]
        report = await client.sync(
            audiences, snapshots=w.place, on_report=lambda one: told.append((one.name, one.status))
        )
        assert sorted(told) == sorted((one.name, one.status) for one in report.audiences)
        assert told[0] == ("refused", "refused")


@pytest.mark.parametrize(
    "fields", [{"allow_empty": "yes"}, {"full_every_days": float("inf")}, {"full_every_days": float("nan")}]
)
def test_a_field_of_another_kind_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(fields))):
        Audience("vip", members=["u1"], **FIELDS | fields)
