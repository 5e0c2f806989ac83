"""Events and who is told of them."""

from __future__ import annotations

import logging
from asyncio import Future, new_event_loop
from functools import partial
from typing import TYPE_CHECKING

import attrs
import pytest

from moe_segments import InputError, events
from moe_segments.telemetry.emitter import Events, Tracing, consumers_of
from moe_segments.telemetry.events import KINDS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from moe_segments.events import Event


def test_every_kind_of_event_is_public_under_its_own_name() -> None:
    assert {kind.__name__ for kind in KINDS} <= set(events.__all__)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_a_frozen_value_that_says_whose_quota_it_concerns(kind: type[Event]) -> None:
    assert attrs.fields(kind)[0].name == "scope"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kind.__setattr__(object.__new__(kind), "scope", "other")


def test_every_consumer_is_told_in_order_with_the_scope_of_the_emitter() -> None:
    told: list[tuple[str, Event]] = []
    hub = Events("W1.03", [lambda event: told.append(("first", event)), lambda event: told.append(("second", event))])

    hub.emit(events.MembershipLag, segment="vip", lag_s=5.0, max_age_s=60.0, pending=3)

    lag = events.MembershipLag("W1.03", segment="vip", lag_s=5.0, max_age_s=60.0, pending=3)
    assert told == [("first", lag), ("second", lag)]


def test_a_consumer_that_raises_is_logged_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def fails(_: Event) -> None:
        raise ValueError("a mistake of the consumer's")

    hub = Events("W1.03", [fails, told.append])
    with caplog.at_level(logging.DEBUG, "moe_segments.events"):
        for _ in range(3):
            hub.emit(events.JournalUnavailable, reason="away")

    assert len(told) == 3
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None


@pytest.mark.filterwarnings("error")
def test_a_consumer_that_only_looks_like_a_plain_function_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits what it returns, so no event would ever arrive."""
    told: list[Event] = []
    hub = Events("W1.03", [partial(lambda consumer, event: consumer(event), _awaited), told.append])

    for _ in range(3):
        hub.emit(events.JournalUnavailable, reason="away")

    assert len(told) == 3
    (record,) = caplog.records
    assert "asyncio.Queue" in caplog.text
    assert record.levelno == logging.ERROR


class _Traces(Tracing):
    """Traces, and asks a future of its own that was cancelled."""

    def __init__(self) -> None:
        self.future = Future[None](loop=new_event_loop())
        self.future.cancel()
        self.future.get_loop().close()

    def __call__(self, _: Event) -> None:
        self.future.result()

    def around(self, _: events.Sent) -> AbstractContextManager[object]:
        self.future.result()
        raise AssertionError("it was cancelled")

    def trace_of(self, _: str) -> str | None:
        self.future.result()
        raise AssertionError("it was cancelled")


def test_a_future_that_was_cancelled_is_a_consumers_own_affair(caplog: pytest.LogCaptureFixture) -> None:
    """Not the operation's, whose task would take it for its own end."""
    hub = Events("W1.03", [_Traces()])

    with hub.around(events.Sent("W1.03", job="j", operation="add", segment="s", attempt=1)):
        assert hub.trace_of("j") is None

    assert len(caplog.records) == 1


def test_a_consumer_can_be_added_later_and_taken_away() -> None:
    told: list[Event] = []
    hub = Events("W1.03")

    end = hub.subscribe(told.append)
    hub.emit(events.JournalAvailable, away_s=1.0)
    end()
    hub.emit(events.JournalAvailable, away_s=2.0)

    assert [event.away_s for event in told if isinstance(event, events.JournalAvailable)] == [1.0]


async def _awaited(_: Event) -> None: ...


@pytest.mark.parametrize("wrong", ["print", 1, [print, None], _awaited])
def test_what_is_no_plain_function_is_refused_as_a_consumer(wrong: object) -> None:
    with pytest.raises(InputError, match="on_event"):
        consumers_of(wrong)
