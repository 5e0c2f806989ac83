"""Any sequence of calls on any engine answers as a plain list would."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_segments.core.events import Batch, Checkpoint, Event, ExternalUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.contract.conftest import FakeClock, Place

STATE = Checkpoint({"folded": [1, 2]})


def fact(number: int) -> Event:
    return ExternalUsage(operations=1, rows=number)


_EXAMPLES = itertools.count()


class Model:
    """A log as a list, with what a checkpoint dropped still in it."""

    def __init__(self) -> None:
        self.log: list[Batch] = []
        self.dropped = 0
        self.checkpoint: Batch | None = None

    def stored(self, batch_id: str) -> Batch | None:
        """The batch that still has this id."""
        return next((batch for batch in self.log[self.dropped :] if batch.id == batch_id), None)

    def read(self, after: int) -> list[Batch]:
        """As `Journal.read`."""
        if self.checkpoint is None or after >= self.dropped:
            return self.log[after:]
        return [self.checkpoint, *self.log[self.checkpoint.version :]]

    def add(self, batch_id: str, clock_us: int, *events: Event) -> Batch:
        """Append, whatever the id."""
        at_us = max(clock_us, *(batch.at_us for batch in self.log[-1:]), 0)
        self.log.append(Batch(len(self.log) + 1, batch_id, at_us, events))
        return self.log[-1]

    def compact(self, version: int, keep_since_us: int) -> None:
        """As `Journal.checkpoint`."""
        if self.checkpoint is not None and self.checkpoint.version > version:
            return
        self.checkpoint = Batch(version, f"checkpoint-{version}", self.log[version - 1].at_us, (STATE,))
        while self.dropped < min(version, len(self.log) - 1) and self.log[self.dropped].at_us < keep_since_us:
            self.dropped += 1


async def follow(place: Place, clock: FakeClock, scope: str, steps: list[tuple[str, int, int]]) -> None:
    """Do *steps* to a log and to the model; they must answer the same."""
    model = Model()
    journal = place.journal(scope, clock=clock)
    await journal.open()
    for step, number, shift in steps:
        batch_id, version = f"id-{number}", min(number, len(model.log))
        match step:
            case "a":
                expected = model.stored(batch_id) or model.add(batch_id, clock.now_us, fact(number))
                assert await journal.append([fact(number)], batch_id=batch_id) == expected
            case "t":
                missed = model.read(version)
                stored, seen = model.stored(batch_id), list[Batch]()
                events = (fact(number),) if shift > 0 else ()

                def decide(
                    given: Sequence[Batch], _now_us: int, seen: list[Batch] = seen, events: tuple[Event, ...] = events
                ) -> Sequence[Event]:
                    seen[:] = given
                    return events

                answer = await journal.transact(version, decide, batch_id=batch_id)
                new = model.add(batch_id, clock.now_us, *events) if events and stored is None else None
                assert (answer, seen) == ((stored, []) if stored else (new, missed))
            case "r":
                assert list(await journal.read(version)) == model.read(version)
            case "c" if version:
                keep_since_us = clock.now_us + shift
                model.compact(version, keep_since_us)
                await journal.checkpoint(version, STATE, keep_since_us=keep_since_us)
            case "k":
                clock.now_us += shift
            case _:
                await journal.close()
                await journal.open()
    assert list(await journal.read(0)) == model.read(0)
    await journal.close()


@given(steps=st.lists(st.tuples(st.sampled_from("atrcko"), st.integers(0, 7), st.integers(-5, 5)), max_size=25))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_agrees_with_a_plain_list(
    place: Place, clock: FakeClock, steps: list[tuple[str, int, int]]
) -> None:
    """Append, transact, read, checkpoint, clock steps and reopening, in any order."""
    asyncio.run(follow(place, clock, f"example-{next(_EXAMPLES)}", steps))
