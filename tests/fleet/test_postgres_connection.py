"""How a PostgreSQL journal uses its connection: large statements, time-outs, what is cancelled, what comes unasked."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import pytest

from moe_segments.core.events import Checkpoint
from moe_segments.errors import JournalAmbiguous
from tests.fleet.postgres_worlds import Place, held, opened, place, server, waiting
from tests.fleet.proxy import Fault, Proxy
from tests.fleet.worlds import FACT, fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moe_segments.core.events import Batch, Event
    from tests.fleet.postgres_server import PostgresServer

__all__ = ["place", "server"]  # fixtures

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

LARGE: Final = Checkpoint({"text": "x" * 20_000_000})  # more than any socket takes at once


def proxy_of(place: Place) -> Proxy:
    return Proxy(("127.0.0.1", place.server.port))


async def test_a_state_larger_than_a_socket_takes_at_once_goes_there_and_back(place: Place) -> None:
    async with opened(place.url) as journal:
        await fill(journal, 2)
        await journal.checkpoint(2, LARGE, keep_since_us=2**60)
        assert (await journal.read(0))[0].events == (LARGE,)
        assert (await journal.append([FACT], batch_id="next")).version == 3


async def test_a_call_that_is_cancelled_while_it_is_sent_leaves_a_journal_that_works(place: Place) -> None:
    """Whatever became of the connection."""
    async with proxy_of(place) as proxy, opened(f"{place.url_at(proxy.port)}&timeout_s=20") as journal:
        await fill(journal, 1)
        proxy.delay_s = 0.02
        sending = asyncio.ensure_future(journal.append([LARGE], batch_id="large"))
        await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.sleep(0)
        proxy.delay_s = 0.0
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await journal.append([FACT], batch_id="next")).version in {2, 3}


async def test_each_answer_has_the_whole_time_out_and_none_has_more(place: Place) -> None:
    """However many calls there were before, one after another without a pause."""
    async with proxy_of(place) as proxy, opened(f"{place.url_at(proxy.port)}&timeout_s=2") as journal:
        await fill(journal, 1)
        proxy.delay_s = 0.15  # each way
        assert (await fill(journal, 8, "slow"))[-1].version == 9
        proxy.delay_s = 0.0
        proxy.arm(Fault.SWALLOW, b"external")
        began_s = time.monotonic()
        with pytest.raises(JournalAmbiguous, match=r"no answer came within 2 s"):
            await journal.append([FACT], batch_id="late")
        assert 1.95 < time.monotonic() - began_s < 10
        assert (await journal.append([FACT], batch_id="late")).version == 10


async def test_a_server_that_says_goodbye_costs_nothing_until_the_next_call(server: PostgresServer) -> None:
    """What is there to be read stays there, and the loop does not turn for it."""
    async with opened(server.url) as journal:
        await fill(journal, 1)
        server.stop()
        await asyncio.sleep(0.05)
        began_s = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - began_s < 0.25
        server.start()
        assert (await journal.append([FACT], batch_id="next")).version == 2


async def test_the_call_after_one_that_was_called_off_is_answered_at_once(place: Place) -> None:
    """Over the same connection: the server ended the one, and its answer was waited for."""
    async with proxy_of(place) as proxy, opened(place.url_at(proxy.port)) as journal:
        await fill(journal, 1)
        connections = proxy.connections
        async with held(place):
            calling = asyncio.ensure_future(journal.append([FACT], batch_id="cancelled"))
            await waiting(place, calling)
            calling.cancel()
            await asyncio.wait([calling])
            assert calling.cancelled()
            assert [batch.id for batch in await journal.read(0)] == ["b1"], "which asks for no lock"
        assert proxy.connections == connections + 1, "that of the cancellation, and no other for the read"


async def test_after_a_turn_with_the_lock_a_call_is_one_round_trip_again(place: Place) -> None:
    """Nothing that was prepared is gone, and the next answer is heard."""
    async with opened(place.url) as rival, proxy_of(place) as proxy:
        async with opened(place.url_at(proxy.port)) as journal:
            await fill(journal, 1)
            runs: list[int] = []

            def decide(missed: Sequence[Batch], _: int) -> Sequence[Event]:
                runs.append(len(missed))
                return [FACT]

            async def be_quicker() -> None:
                if len(runs) < 3:
                    await rival.append([FACT], batch_id=f"rival {len(runs)}")

            proxy.first = be_quicker
            batch = await journal.transact(1, decide, batch_id="mine")
            proxy.first = None
            assert batch is not None
            assert len(runs) == 3, "two lost races, then one decision under the lock"
            await journal.read(batch.version)
            before = proxy.requests
            assert (await journal.append([FACT], batch_id="after")).version > batch.version
            assert proxy.requests - before == 1
