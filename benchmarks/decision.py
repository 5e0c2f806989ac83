"""What does one decision cost beside other limiters, does it grow with what is live, and what does memory hold?

    python -m benchmarks.decision [--rounds N]

Ours: `Ledger.decide` on three windows and the gauge, for one operation that also takes an active segment. Two states:
100 operations of 20,000 users in the last day, as documented, and 10,000 of them with limits a hundred times as large.
To admit there is room for the last one of them; to refuse there is none, so that both day windows say until when. A
light operation has one user, a heavy one 20,000 when admitted and half a day's users when refused.

A figure is the median over many short slices, microseconds a call; all sides take their turn in every round. "Decide
and hold" is what the peers' calls do: ours then also counts the reservation; nobody's undoing is timed. The peers
are filled to the same state where that is feasible; a ratio is of their call over ours. aiolimiter is not exact:
it is asked how many it admits in an hour.

Bounds: 20 us for an admission and for a refusal, each within 1.5 times of the cheapest over states and weights. A
settled operation takes at most 100 bytes of the ledger and a pending one 400, by tracemalloc at 10,000; names and
identifiers are the jobs' and stand in their own line. Folding one decoded event of a journal into the whole state takes
at most 5 us. What has no bound is printed for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import time
import tracemalloc
from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

import aiolimiter
import attrs

from benchmarks.peers import Limits, PyrateMemory, loaded
from benchmarks.verdict import state_fact, state_figure
from moe_segments.core.events import Answered, Batch, CallbackReceived, Event, Reserved, decode, encode
from moe_segments.core.quota.decision import Cost, Granted, Wait
from moe_segments.core.quota.ledger import Ledger
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits
from moe_segments.testing import EPOCH_US, run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.peers import Peer

ADMIT_US: Final = 20.0
REFUSE_US: Final = 20.0
SAME: Final = 1.5
SETTLED_BYTES: Final = 100
PENDING_BYTES: Final = 400
FOLD_US: Final = 5.0

ROWS: Final = 20_000
REAL, LARGE = 100, 10_000
SECOND_US: Final = 1_000_000
HOUR_US: Final = 3_600 * SECOND_US
SLICE: Final = 200  # calls of ours
WARM_UP: Final = 20  # before a slice: a peer with millions of items leaves the caches to nobody
PEER_SLICE: Final = 20
_PEERS_REST_S: Final = 0.1  # limits clears up in a thread, a moment after it was asked

Sample: TypeAlias = "Callable[[], float]"  # seconds a call, over one slice


# Our states


def limits_for(count: int) -> QuotaLimits:
    return QuotaLimits(
        operations_per_hour=count // 10,
        operations_per_day=count,
        users_per_day=count * ROWS,
        active_segments=count + 1_000,
    )


def reserved(number: int, *, segments: int = 0) -> Reserved:
    name = f"segment {number}"
    operation = {"op": "create" if segments else "add", "name": name, "rows": ROWS}
    return Reserved(
        f"{number:016x}",
        1,
        operation,
        operations=1,
        rows=ROWS,
        segments=segments,
        keys=(name,),
        fence_us=30 * SECOND_US,
        timeout_us=60 * SECOND_US,
        token_sha256=f"{number:064x}",
    )


def story(number: int) -> tuple[Event, Event, Event]:
    """What the journal tells of one operation."""
    sent = reserved(number)
    body = {"status": 201, "values_found": ROWS, "values_processed": ROWS, "user_count": ROWS}
    return (
        sent,
        Answered(sent.job, 1, 202, accepted={"success": True, "cs_name": f"segment {number}"}),
        CallbackReceived(sent.job, 1, f"{number:064x}", "processed", body, ROWS),
    )


def ledger_with(live: int, of: int) -> tuple[Ledger, int]:
    """A ledger with *live* settled operations, at limits for *of*, and the time an hour after the last."""
    ledger, at_us = Ledger(limits_for(of)), EPOCH_US
    for number in range(live):
        at_us += 21 * HOUR_US // of
        for event in story(number):
            ledger.advance(at_us)
            ledger.fold(event, at_us)
    return ledger, at_us + HOUR_US


def calls(ledger: Ledger, cost: Cost, now_us: int, wanted: type[Granted | Wait]) -> Sample:
    assert isinstance(ledger.decide(cost, now_us), wanted)

    def sample() -> float:
        decide = ledger.decide
        for _ in range(WARM_UP):
            decide(cost, now_us)
        began_s = time.perf_counter()
        for _ in range(SLICE):
            decide(cost, now_us)
        return (time.perf_counter() - began_s) / SLICE

    return sample


def decide_and_hold(ledger: Ledger, now_us: int) -> Sample:
    cost, event = Cost(1, ROWS, 1), reserved(LARGE, segments=1)

    def sample() -> float:
        taken_s = 0.0
        for _ in range(SLICE // 10):
            began_s = time.perf_counter()
            ledger.decide(cost, now_us)
            ledger.reserve(event, now_us)
            taken_s += time.perf_counter() - began_s
            ledger.forget(event.row)
        return taken_s / (SLICE // 10)

    return sample


def nothing() -> float:
    def decide(_: Cost, __: int) -> None:
        pass

    cost = Cost(1, ROWS, 1)
    began_s = time.perf_counter()
    for _ in range(SLICE):
        decide(cost, 0)
    return (time.perf_counter() - began_s) / SLICE


def our_sides() -> Iterator[tuple[str, Sample]]:
    for of in (REAL, LARGE):
        room, room_us = ledger_with(of - 1, of)
        yield f"admit, {of} live, light", calls(room, Cost(1, 1, 1), room_us, Granted)
        yield f"admit, {of} live, heavy", calls(room, Cost(1, ROWS, 1), room_us, Granted)
        full, full_us = ledger_with(of, of)
        yield f"refuse, {of} live, light", calls(full, Cost(1, 1, 1), full_us, Wait)
        yield f"refuse, {of} live, heavy", calls(full, Cost(1, of * ROWS // 2, 1), full_us, Wait)
        yield f"decide and hold, {of} live", decide_and_hold(room, room_us)
    yield "refuse, 90 live and 10 in flight", calls(*in_flight(10), Wait)
    yield "refuse, 100 waiting for callbacks", calls(*awaiting_callbacks(), Wait)
    yield "an empty function", nothing


def in_flight(count: int) -> tuple[Ledger, Cost, int]:
    ledger, now_us = ledger_with(REAL - count, REAL)
    for number in range(count):
        ledger.reserve(reserved(REAL + number), now_us)
    return ledger, Cost(1, ROWS, 1), now_us


def awaiting_callbacks() -> tuple[Ledger, Cost, int]:
    """Not documented to happen in an hour; it is what a service costs whose callbacks are late."""
    ledger = Ledger(attrs.evolve(limits_for(REAL), operations_per_hour=REAL, processing_allowance_s=86_400.0))
    for number in range(REAL):
        sent, answered, _ = story(number)
        ledger.fold(sent, EPOCH_US + number * SECOND_US)
        ledger.fold(answered, EPOCH_US + number * SECOND_US)
    return ledger, Cost(1, ROWS, 1), EPOCH_US + HOUR_US


# Peers


def peer_calls(peer: Peer, rows: int, *, rest_s: float = 0.0) -> Sample:
    def sample() -> float:
        taken_s = 0.0
        for _ in range(PEER_SLICE):
            began_s = time.perf_counter()
            admitted = peer.admit(rows)
            taken_s += time.perf_counter() - began_s
            assert admitted
            peer.undo(rows)
        time.sleep(rest_s)
        return taken_s / PEER_SLICE

    return sample


def peer_sides() -> Iterator[tuple[str, Sample]]:
    # The larger state has one user an operation here: 200 million items fit no memory.
    states = (("100 live of 1", REAL, 1), ("100 live of 20,000", REAL, ROWS), ("10,000 live of 1", LARGE, 1))
    pyrate, limits = loaded("pyrate_limiter"), loaded("limits")
    for state, count, rows in states:
        if pyrate is not None:
            in_memory = PyrateMemory(pyrate, limits_for(count))
            in_memory.fill(count - 1, rows)
            yield f"pyrate-limiter, {state}", peer_calls(in_memory, rows)
        if limits is not None:
            moving = Limits(limits, limits_for(count))
            moving.fill(count - 1, rows)
            yield f"limits, {state}", peer_calls(moving, rows, rest_s=_PEERS_REST_S)


async def admitted_in_an_hour() -> int:
    """How many `AsyncLimiter(10, 3600)` lets through in one sliding hour to somebody who always wants."""
    limiter, admitted = aiolimiter.AsyncLimiter(10, 3_600), 0
    loop = asyncio.get_running_loop()
    while loop.time() < 3_600:
        await limiter.acquire()
        admitted += loop.time() < 3_600
    return admitted


# Memory and folding


def bytes_of(make: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size


def folded_ledger(stories: list[tuple[Event, ...]]) -> Ledger:
    ledger = Ledger(limits_for(LARGE))
    for number, events in enumerate(stories):
        at_us = EPOCH_US + number * SECOND_US
        for event in events:
            ledger.fold(event, at_us)
    return ledger


def folded_state(batches: list[Batch]) -> WorkspaceState:
    state = WorkspaceState(limits_for(LARGE))
    for batch in batches:
        state.fold(batch)
    return state


def log_of(stories: list[tuple[Event, ...]]) -> list[Batch]:
    """One event a batch."""
    events = [(event, EPOCH_US + number * SECOND_US) for number, told in enumerate(stories) for event in told]
    return [Batch(version, f"{version:x}", at_us, (event,)) for version, (event, at_us) in enumerate(events, 1)]


def seconds_for(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def report_memory() -> bool:
    stories: list[tuple[Event, ...]] = [story(number) for number in range(LARGE)]
    settled = bytes_of(lambda: folded_ledger(stories)) / LARGE
    pending = bytes_of(lambda: folded_ledger([events[:1] for events in stories])) / LARGE
    rowless = [(attrs.evolve(reserved(number), rows=0, token_sha256=None),) for number in range(LARGE)]
    batches = log_of(stories)
    print(f"a pending one without users: {bytes_of(lambda: folded_ledger(list(rowless))) / LARGE:,.0f} bytes")
    print(f"a settled one with its job, remembered for 90 days: {bytes_of(lambda: folded_state(batches)) / LARGE:,.0f}")
    return all(
        [
            state_figure("a settled operation in the ledger", settled, SETTLED_BYTES, "bytes"),
            state_figure("a pending operation in the ledger", pending, PENDING_BYTES, "bytes"),
        ]
    )


def report_folding(rounds: int) -> bool:
    batches = log_of([story(number) for number in range(LARGE // 4)])
    texts = [encode(batch.events) for batch in batches]
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        found["fold"].append(seconds_for(lambda: folded_state(batches)) / len(batches))
        found["decode"].append(seconds_for(lambda: [decode(text) for text in texts]) / len(batches))
    fold_us, decode_us = (statistics.median(found[side]) * 1e6 for side in ("fold", "decode"))
    print(f"decoding an event: {decode_us:.2f} us; decoding and folding: {fold_us + decode_us:.2f} us")
    return state_figure("folding an event", fold_us, FOLD_US, "us")


# Report


def measured(rounds: int) -> dict[str, float]:
    """Microseconds a call by side: the median over slices."""
    sides = [*our_sides(), *peer_sides()]
    found: defaultdict[str, list[float]] = defaultdict(list)
    gc.collect()
    gc.freeze()  # the peers' millions of items are not to be looked through during ours
    for _ in range(rounds):
        for side, sample in random.sample(sides, len(sides)):
            found[side].append(sample())
    return {side: statistics.median(found[side]) * 1e6 for side, _ in sides}


def report_decisions(found: dict[str, float]) -> bool:
    for side, us in found.items():
        print(f"  {side:<42}{us:>10,.2f} us")
    within = []
    for kind, bound in (("admit", ADMIT_US), ("refuse", REFUSE_US)):
        ours = [us for side, us in found.items() if side.startswith(f"{kind}, ") and " live, " in side]
        within.append(state_figure(f"{kind}, the dearest state and weight", max(ours), bound, "us"))
        within.append(state_figure(f"{kind}, the dearest over the cheapest", max(ours) / min(ours), SAME, "times"))
    for side, us in found.items():
        if side.startswith(("pyrate", "limits")):
            live = f"{LARGE if '10,000' in side else REAL} live"
            decided, held = found[f"admit, {live}, heavy"], found[f"decide and hold, {live}"]
            print(f"{side}: {us / decided:,.1f} times our decision, {us / held:,.1f} times it with the holding")
    return all(within)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds: int = parser.parse_args().rounds
    within = [report_memory(), report_folding(max(5, rounds // 4)), report_decisions(measured(rounds))]
    admitted = run_virtually(admitted_in_an_hour)
    within.append(state_fact(f"aiolimiter admits {admitted} of 10 in a sliding hour: not exact", holds=admitted > 10))
    sys.exit(not all(within))


if __name__ == "__main__":
    main()
