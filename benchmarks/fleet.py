"""What the benchmarks of servers share: four processes that fight for thirty places, and news from one to another."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import statistics
import time
from typing import TYPE_CHECKING, Final

from benchmarks.asking import SCOPE
from benchmarks.contention import FAIR, WORKERS, all_told, judged, work
from benchmarks.reservations import WIDE
from benchmarks.verdict import state_fact, state_figure
from moe_segments.core.events import CallbackReceived
from moe_segments.journal import open_journal
from moe_segments.journal.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from moe_segments.core.events import Batch

__all__ = ["contended", "woken"]

WAKE_MS: Final = 50.0
POLL_S: Final = 0.25
WAKES: Final = 60


# Four processes


def contended(url: str, *, tries: int, p99_ms: float) -> bool:
    """Print how four processes of so many *tries* each shared the journal at *url*, and how long their calls took."""
    told = all_told(work, url, tries)
    too_many, _ = judged(asyncio.run(_log_of(url)), ())
    granted = [one.granted for one in told]
    waits_ms = sorted(wait_s * 1_000 for one in told for wait_s in one.waits_s)
    median_ms, longest_ms = statistics.median(waits_ms), waits_ms[-1]
    print(f"four processes, {tries * WORKERS:,} tries: granted by process {granted}; {median_ms:.2f} ms at the median")
    found_ms = waits_ms[len(waits_ms) * 99 // 100]
    return all(
        [
            state_fact(f"over-admissions: {too_many}", holds=not too_many),
            state_fact("nobody starved", holds=min(granted) >= FAIR * sum(granted) / WORKERS),
            state_figure(f"99 of 100 calls (the longest: {longest_ms:.0f} ms)", found_ms, p99_ms, "ms"),
        ]
    )


async def _log_of(url: str) -> Sequence[Batch]:
    journal = open_journal(url, SCOPE)
    await journal.open()
    try:
        return await journal.read(0)
    finally:
        await journal.close()


# From a callback to the wake-up


def woken(url: str, deaf_url: str) -> bool:
    """Print how soon another process hears of what this one stores: with the server's news, and by the poll alone.

    Args:
        url: Of the journal.
        deaf_url: Of the same, for a user whom the server tells nothing.
    """
    told, polled = _wakes_ms(url, url, "told"), _wakes_ms(url, deaf_url, "polled")
    return all(
        [
            state_figure("from a stored callback to the wake-up, median", statistics.median(told), WAKE_MS, "ms"),
            state_figure("the same without news, longest", max(polled), POLL_S * 1_250 + WAKE_MS, "ms"),
        ]
    )


def _wakes_ms(url: str, heard_at: str, scope: str) -> list[float]:
    """Milliseconds from what one process stored to the wake-up of another, which reaches the server at *heard_at*."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=wait_for_callbacks, args=(theirs,))
    process.start()
    try:
        ours.send((heard_at, scope))
        return [one_s * 1_000 for one_s in asyncio.run(_store(ours, url, scope))]
    finally:
        process.join(10)
        process.terminate()


def wait_for_callbacks(orders: Connection) -> None:
    """In a process of its own: say when each of the jobs has news."""
    asyncio.run(_wait(orders, *orders.recv()))


async def _wait(orders: Connection, url: str, scope: str) -> None:
    replica = Replica(open_journal(url, scope, poll_s=POLL_S), WIDE)
    await replica.open()
    for number in range(WAKES):
        waiting = asyncio.ensure_future(replica.job_changed(f"j{number}"))
        await asyncio.sleep(0.02)  # it waits, and hears
        orders.send("waiting")
        await waiting
        orders.send(time.monotonic())
    await replica.close()


async def _store(orders: Connection, url: str, scope: str) -> list[float]:
    replica = Replica(open_journal(url, scope), WIDE)
    await replica.open()
    taken_s = []
    for number in range(WAKES):
        assert await asyncio.to_thread(orders.recv) == "waiting"
        await asyncio.sleep(random.uniform(0, POLL_S / 2))
        await replica.record(CallbackReceived(f"j{number}", 1, "d", "processed", {}))
        stored_s = time.monotonic()
        taken_s.append((await asyncio.to_thread(orders.recv)) - stored_s)
    await replica.close()
    return taken_s
