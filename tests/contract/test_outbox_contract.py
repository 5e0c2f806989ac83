"""The promise of an outbox, held by every place that keeps one."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import pytest

from moe_segments.core.audiences.backlog import Batch, Pace
from moe_segments.errors import InputError, OutboxError
from moe_segments.memberships.outbox.place import outbox_of
from moe_segments.memberships.outbox.protocol import Change, Declared
from tests.fleet.postgres_server import shared_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from moe_segments.core.audiences.backlog import Backlog
    from moe_segments.memberships.outbox.protocol import Outbox

pytestmark = pytest.mark.asyncio

VIP = Declared(name="vip", attribute_name="ID", attribute_type="string", expiry_time=30, max_age_s=60.0, priority=-1)
LAPSED = Declared(
    name="lapsed", attribute_name="ID", attribute_type="string", expiry_time=None, max_age_s=None, priority=2
)
EARLY, LATE, LATER = 1_000, 2_000, 3_000


def _in_memory(_: Path) -> Callable[..., Outbox]:
    return lambda scope="W1": outbox_of(None, scope)


def _in_a_file(directory: Path) -> Callable[..., Outbox]:
    return lambda scope="W1": outbox_of(directory / "quota.db.outbox", scope)


def _in_postgres(_: Path) -> Callable[..., Outbox]:
    url = f"{shared_postgres().unix_url}&schema=outbox_{secrets.token_hex(8)}"
    return lambda scope="W1": outbox_of(url, scope)


SHARED = [pytest.param(_in_a_file, id="sqlite"), pytest.param(_in_postgres, id="postgres")]


@pytest.fixture(params=[pytest.param(_in_memory, id="memory"), *SHARED])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outbox]:
    made: Callable[..., Outbox] = request.param(tmp_path)
    return made


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outbox]:
    made: Callable[..., Outbox] = request.param(tmp_path)
    return made


@asynccontextmanager
async def opened(place: Callable[..., Outbox], scope: str = "W1") -> AsyncIterator[Outbox]:
    outbox = place(scope)
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


def added(segment: int, values: list[str]) -> Change:
    return Change(segment=segment, adds=True, values=values)


def removed(segment: int, values: list[str]) -> Change:
    return Change(segment=segment, adds=False, values=values)


async def backlog(outbox: Outbox, name: str = "vip") -> Backlog:
    return next(one for one in await outbox.backlogs() if one.name == name)


async def waiting(outbox: Outbox, *, adds: bool, name: str = "vip", most: int = 100, after: str = "") -> list[str]:
    one = await backlog(outbox, name)
    return await outbox.values(one.segment, adds=adds, up_to=one.tip, after=after, most=most)


def batch(one: Backlog, *, adds: bool = True, last: str = "zz", job: str = "J1") -> Batch:
    return Batch(job=job, adds=adds, up_to=one.tip, last_value=last)


async def test_a_segment_is_flushed_as_it_was_declared_last(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        number = await outbox.declare(LAPSED)
        assert await outbox.declare(attrs.evolve(LAPSED, priority=7, expiry_time=3)) == number
        await outbox.declare(VIP)

        lapsed, vip = await backlog(outbox, "lapsed"), await backlog(outbox)
        assert (lapsed.priority, lapsed.expiry_time, lapsed.max_age_s, lapsed.pending) == (7, 3, None, 0)
        assert (vip.priority, vip.expiry_time, vip.max_age_s, vip.oldest_us) == (-1, 30, 60.0, None)


async def test_values_that_wait_keep_the_attribute_that_they_are_matched_against(place: Callable[..., Outbox]) -> None:
    emails = attrs.evolve(VIP, attribute_name="EMAIL")
    ids, doubles = ("ID", "string"), ("ID", "double")
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([attrs.evolve(added(vip, ["u1"]), matched=ids)], EARLY)
        with pytest.raises(InputError, match="1 changes that are matched against 'ID'"):
            await outbox.declare(emails)
        with pytest.raises(InputError, match="by another process"):
            await outbox.write([removed(vip, ["u1"]), attrs.evolve(added(vip, ["u2"]), matched=doubles)], EARLY)
        assert await waiting(outbox, adds=True) == ["u1"]

        await outbox.forget("vip")
        assert await outbox.declare(emails) == vip
        with pytest.raises(InputError, match="EMAIL"):
            await outbox.write([attrs.evolve(added(vip, ["u2"]), matched=ids)], EARLY)
        assert (await backlog(outbox)).pending == 0


async def test_the_last_word_on_a_value_wins(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1", "u2"]), removed(vip, ["u2", "u3"])], EARLY)
        await outbox.write([added(vip, ["u3"])], LATE)

        assert await waiting(outbox, adds=True) == ["u1", "u3"]
        assert await waiting(outbox, adds=False) == ["u2"]
        one = await backlog(outbox)
        assert (one.adds, one.removes, one.oldest_us) == (2, 1, EARLY)


async def test_values_come_in_the_order_of_their_bytes_page_by_page(place: Callable[..., Outbox]) -> None:
    """An `é` comes after every plain letter and before a smiley, whatever the locale of a server says."""
    values = ["b", "B", "a", "é", "😀", "10", "9", "a b", "a-b"]
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, values)], EARLY)

        found, page = [], await waiting(outbox, adds=True, most=4)
        while page:
            found += page
            page = await waiting(outbox, adds=True, most=4, after=page[-1])
        assert found == sorted(values, key=str.encode)


async def test_what_changes_while_a_batch_is_under_way_stays(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1", "u2", "u3"])], EARLY)
        sent = batch(await backlog(outbox))
        await outbox.begin(vip, sent)
        await outbox.write([removed(vip, ["u1"]), added(vip, ["u2", "u4"])], LATE)

        assert (await backlog(outbox)).batch == sent
        await outbox.end(vip, sent, is_applied=True)

        assert await waiting(outbox, adds=True) == ["u2", "u4"]  # u2 was asked for again: once more does no harm
        assert await waiting(outbox, adds=False) == ["u1"]
        one = await backlog(outbox)
        assert (one.adds, one.removes, one.oldest_us, one.batch) == (2, 1, LATE, None)


async def test_a_batch_takes_its_own_kind_and_part_alone(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1", "u3"]), removed(vip, ["u0", "u2"])], EARLY)
        sent = batch(await backlog(outbox), last="u2")
        await outbox.begin(vip, sent)
        await outbox.end(vip, sent, is_applied=True)

        assert await waiting(outbox, adds=True) == ["u3"]
        assert await waiting(outbox, adds=False) == ["u0", "u2"]
        assert not (await backlog(outbox)).is_add_next, "adds and removes take turns"


async def test_a_batch_that_was_not_applied_waits_on_with_its_age(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1"])], EARLY)
        sent = batch(await backlog(outbox))
        await outbox.begin(vip, sent)
        await outbox.end(vip, sent, is_applied=False)

        one = await backlog(outbox)
        assert (one.adds, one.oldest_us, one.batch) == (1, EARLY, None)


async def test_the_end_of_a_batch_that_is_no_longer_the_last_one_changes_nothing(place: Callable[..., Outbox]) -> None:
    """A process that was taken for dead comes back with the outcome of what it sent long ago."""
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1"])], EARLY)
        old, new = batch(await backlog(outbox)), batch(await backlog(outbox), job="J2")
        await outbox.begin(vip, old)
        await outbox.end(vip, old, is_applied=False)
        await outbox.begin(vip, new)

        await outbox.end(vip, old, is_applied=True)

        one = await backlog(outbox)
        assert (one.adds, one.batch) == (1, new)


async def test_the_age_of_a_change_is_that_of_the_last_word(place: Callable[..., Outbox]) -> None:
    """Said again it is as old as before; the opposite is new. What was sent meanwhile does not count any more."""
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["sent", "again", "other"])], EARLY)
        await outbox.write([added(vip, ["again"]), removed(vip, ["other"])], LATE)
        one = await backlog(outbox)
        await outbox.begin(vip, batch(one, last="again"))
        await outbox.end(vip, batch(one, last="again"), is_applied=True)
        assert (await backlog(outbox)).oldest_us == EARLY, "sent waits since then"
        await outbox.begin(vip, batch(one))
        await outbox.end(vip, batch(one), is_applied=True)
        assert (await backlog(outbox)).oldest_us == LATE


async def test_changes_are_deleted_up_to_a_number_by_kind_and_by_value(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1", "u2"]), removed(vip, ["u3", "u4"])], EARLY)
        tip = (await backlog(outbox)).tip
        await outbox.write([removed(vip, ["u4"])], LATE)

        await outbox.discard(vip, tip, adds=True, values=["u1", "u3"])
        assert (await waiting(outbox, adds=True), await waiting(outbox, adds=False)) == (["u2"], ["u3", "u4"])
        await outbox.discard(vip, tip, adds=False)
        assert (await waiting(outbox, adds=True), await waiting(outbox, adds=False)) == (["u2"], ["u4"])
        await outbox.discard(vip, tip)
        one = await backlog(outbox)
        assert (one.adds, one.removes, one.oldest_us, one.oldest) == (0, 1, EARLY, one.tip), "u4 left early"


async def test_a_forgotten_segment_has_no_changes_and_takes_new_ones(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        vip, lapsed = await outbox.declare(VIP), await outbox.declare(LAPSED)
        await outbox.write([added(vip, ["u1"]), added(lapsed, ["u1"])], EARLY)
        await outbox.begin(vip, batch(await backlog(outbox)))

        await outbox.forget("vip")
        await outbox.forget("one that was never heard of")

        one = await backlog(outbox)
        assert (one.pending, one.oldest_us, one.batch) == (0, None, None)
        assert await waiting(outbox, adds=True, name="lapsed") == ["u1"]
        await outbox.write([added(vip, ["u2"])], LATE)
        assert await waiting(outbox, adds=True) == ["u2"]


async def test_more_changes_than_one_transaction_deletes_are_applied(place: Callable[..., Outbox]) -> None:
    values = [f"u{number:06}" for number in range(45_000)]
    async with opened(place) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, values), removed(vip, ["v"])], EARLY)
        sent = batch(await backlog(outbox), last=values[41_000])
        await outbox.begin(vip, sent)
        await outbox.end(vip, sent, is_applied=True)

        one = await backlog(outbox)
        assert (one.adds, one.removes) == (len(values) - 41_001, 1)
        assert await waiting(outbox, adds=True, most=1) == [values[41_001]]


async def test_the_pace_is_kept(place: Callable[..., Outbox]) -> None:
    async with opened(place) as outbox:
        assert await outbox.pace() == Pace()
        await outbox.keep_pace(Pace(17))
        await outbox.keep_pace(Pace(18))
        assert await outbox.pace() == Pace(18)


async def test_a_batch_never_shows_its_last_value(place: Callable[..., Outbox]) -> None:
    assert "u1" not in repr(Batch(job="J", adds=True, up_to=1, last_value="u1"))
    assert "u1" not in repr(added(1, ["u1"]))


async def test_a_closed_outbox_says_so(place: Callable[..., Outbox]) -> None:
    outbox = place()
    await outbox.open()
    await outbox.close()
    await outbox.close()
    with pytest.raises(OutboxError, match="closed"):
        await outbox.backlogs()


# Shared by processes


async def test_another_handle_finds_what_was_acknowledged(shared: Callable[..., Outbox]) -> None:
    assert not await shared().is_there()
    async with opened(shared) as outbox:
        vip = await outbox.declare(VIP)
        await outbox.write([added(vip, ["u1"])], EARLY)
        await outbox.begin(vip, batch(await backlog(outbox)))
        before = await outbox.backlogs()
    assert await shared().is_there()
    async with opened(shared) as outbox:
        assert await outbox.backlogs() == before
        assert await waiting(outbox, adds=True) == ["u1"]


async def test_workspaces_share_a_place_and_see_nothing_of_one_another(shared: Callable[..., Outbox]) -> None:
    async with opened(shared) as one, opened(shared, "W2") as other:
        await one.write([added(await one.declare(VIP), ["u1"])], EARLY)
        assert await other.backlogs() == []
        await other.declare(VIP)
        await other.forget("vip")
        assert await waiting(one, adds=True) == ["u1"]


async def test_many_writers_lose_nothing_and_count_right(shared: Callable[..., Outbox]) -> None:
    """Four handles write to two segments at once, in either order; a batch is applied in the midst of it."""
    async with opened(shared) as first, opened(shared) as second, opened(shared) as third, opened(shared) as flusher:
        segments = [await first.declare(VIP), await first.declare(LAPSED)]

        async def writes(outbox: Outbox, own: int) -> None:
            for number in range(12):
                order = segments if (number + own) % 2 else segments[::-1]
                changes = [
                    Change(segment=segment, adds=number % 3 > 0, values=[f"u{own}-{number}", f"all-{number}"])
                    for segment in order
                ]
                await outbox.write(changes, EARLY + number)

        async def flushes() -> list[str]:
            taken: list[str] = []
            for number in range(6):
                one = await backlog(flusher)
                sent = batch(one, job=f"J{number}")
                taken += await flusher.values(one.segment, adds=True, up_to=one.tip, after="", most=10_000)
                await flusher.begin(one.segment, sent)
                await asyncio.sleep(0)
                await flusher.end(one.segment, sent, is_applied=True)
            return taken

        flushing = asyncio.ensure_future(flushes())
        await asyncio.gather(*(writes(one, own) for own, one in enumerate((first, second, third))))
        taken = await flushing

        joined = {f"u{own}-{number}" for own in range(3) for number in range(12) if number % 3}
        for name in ("vip", "lapsed"):
            adds, removes = (
                await waiting(first, adds=True, name=name, most=999),
                await waiting(first, adds=False, name=name, most=999),
            )
            one = await backlog(first, name)
            assert (one.adds, one.removes) == (len(adds), len(removes))
            assert joined <= {*adds, *(taken if name == "vip" else ())}
            assert len(removes) == 16
