"""Calls of the v3 API in their pools: a log, two processes that share it, and a service that counts when it likes.

As `worlds`, for what has no file, no users and no callback. A call counts at any instant between its send and the
moment its sender knew how it ended, or may still be counted for D after the sender gave up. Times are microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from moe_segments.core.events import (
    Answered,
    Batch,
    Event,
    NeverSent,
    OwnerGone,
    Reserved,
    Unknown,
    decode,
    encode,
)
from moe_segments.core.quota.decision import Cost, Granted, Wait
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import CALL_LIMITS, QuotaLimits
from tests.proofs.services import ASSERTED
from tests.proofs.worlds import PROCESSES, SECOND, lean_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.proofs.services import Model

__all__ = ["CallWorld", "play_calls"]

START_US: Final = 1_764_547_200 * SECOND
CALLS: Final = tuple(CALL_LIMITS)
_READS: Final = ("list", "get")


@attrs.define(eq=False)
class Call:
    """One call, as the service and the world know it.

    Attributes:
        number: It names the row.
        call: Which of the calls it is.
        process: Who sends it; None when that process died.
        reserved_us: When it was reserved.
        lean: Where in its span it is counted, 0 to 1.
        sent_us: When its first byte left; None before.
        late_us: Until when the service may count it.
        is_over: Its sender knows how it ended, or gave it back.
        is_charged: The service counts it once it was sent.
    """

    number: int
    call: str
    process: int | None
    reserved_us: int
    lean: float
    sent_us: int | None = None
    late_us: int = 0
    is_over: bool = False
    is_charged: bool = True

    @property
    def job(self) -> str:
        """The row's name."""
        return f"{self.call}-{self.number}"

    @property
    def counted_us(self) -> int | None:
        """When the service counts it; None for never."""
        if self.sent_us is None or not self.is_charged:
            return None
        return self.sent_us + round((self.late_us - self.sent_us) * self.lean)


class CallWorld:
    """One history of calls."""

    def __init__(self, chance: random.Random, guard_s: float) -> None:
        self.chance = chance
        unit_s = guard_s if guard_s >= 1 else 30.0
        self.limits = QuotaLimits(
            **{
                name: chance.randint(1, 3 + place * 3)
                for names in CALL_LIMITS.values()
                for place, name in enumerate(names)
            },  # type: ignore[arg-type]  # whole numbers
            filter_calls_shared=chance.random() < 0.5,
            hour_s=60.0 * chance.randint(3, 6),
            day_s=60.0 * chance.randint(7, 15),
            guard_s=guard_s,
            count_late_s=unit_s * chance.choice((0, 0.3, 2)),
            consumes=chance.choice(({}, {409: False})),
        )
        # A client that shares is safe before both kinds of service, one that does not only before one that does not.
        self.service_shares = self.limits.filter_calls_shared and chance.random() < 0.5
        self.fence_us = round(unit_s * chance.choice((0.1, 0.5, 2)) * SECOND)
        self.timeout_us = round(unit_s * chance.choice((0.2, 1.5, 4)) * SECOND)
        self.late_us = round(self.limits.count_late_s * SECOND)
        self.drift_ppm = chance.choice((-500, 0, 500)) if guard_s else 0
        self.phase_us = chance.randrange(3_600 * SECOND)
        self.now_us = START_US
        self.log: list[tuple[int, str]] = []
        self.checkpoint: tuple[int, int, str] | None = None
        self.processes = [WorkspaceState(self.limits) for _ in range(PROCESSES)]
        self.calls: list[Call] = []
        self.admissions = self.refusals = 0

    # The log

    def _write(self, event: Event) -> None:
        self.log.append((self.now_us, encode([event])))

    def _caught_up(self, state: WorkspaceState) -> WorkspaceState:
        for number, (at_us, text) in enumerate(self.log[state.version :], state.version + 1):
            state.fold(Batch(number, f"batch-{number}", at_us, decode(text)))
        return state

    # Steps

    def wait(self) -> None:
        """Let time pass: from nothing to past a window."""
        limits = self.limits
        longest_s = self.chance.choice((1.0, 60.0, limits.count_late_s, limits.hour_s, limits.hour_s * 1.2))
        self.now_us += round(longest_s * self.chance.choice((self.chance.random(), 0.99, 1.0)) * SECOND)

    def ask(self) -> None:
        """Ask for a call; when it is refused, perhaps wait exactly as long as was promised and ask again."""
        call, process = self.chance.choice(CALLS), self.chance.randrange(PROCESSES)
        cost = Cost(segments=int(call == "create_filter"), call=call)
        for _ in range(self.chance.randint(1, 3)):
            decision = self._caught_up(self.processes[process]).ledger.decide(cost, self.now_us)
            if isinstance(decision, Granted):
                self._reserve(call, process, cost)
                return
            self.refusals += 1
            if isinstance(decision, Wait) and decision.until_us is not None:
                assert decision.until_us > self.now_us
                self.now_us = decision.until_us

    def _reserve(self, call: str, process: int, cost: Cost) -> None:
        self.admissions += 1
        one = Call(len(self.calls), call, process, self.now_us, lean_of(self.chance))
        self.calls.append(one)
        self._write(
            Reserved(
                job=one.job,
                attempt=1,
                operation={"op": call, "name": one.job},
                segments=cost.segments,
                call=call,
                fence_us=self.fence_us,
                timeout_us=self.timeout_us,
            )
        )
        if self.chance.random() < 0.7:
            self.send(one)

    def send(self, one: Call) -> None:
        """The first byte leaves, unless the fence has passed: then it is given back."""
        if one.sent_us is not None or one.is_over or one.process is None:
            return
        if self.now_us >= one.reserved_us + self.fence_us:
            self._end(one, NeverSent(one.job, 1, "too late"))
            return
        one.sent_us, one.late_us = self.now_us, self.now_us + self.timeout_us + self.late_us

    def end(self, one: Call) -> None:
        """Its sender hears an answer, gives up, or never had a connection."""
        if one.is_over or one.process is None:
            return
        if one.sent_us is None:
            self._end(one, NeverSent(one.job, 1, "no connection"))
            return
        self.now_us = min(self.now_us + self.chance.choice((0, 0, self.timeout_us)), one.sent_us + self.timeout_us)
        self.now_us = max(self.now_us, self.log[-1][0])
        match self.chance.choice(("answer", "answer", "refusal", "lost")):
            case "answer":
                event: Event = Answered(one.job, 1, 200, accepted={})
            case "refusal":
                spends = self.limits.spends(409)
                one.is_charged, event = spends, Answered(one.job, 1, 409, error={}, spends=spends)
            case _:
                event = Unknown(one.job, 1, "time-out")
        one.late_us = min(one.late_us, self.now_us + (self.late_us if isinstance(event, Unknown) else 0))
        self._end(one, event)

    def _end(self, one: Call, event: Event) -> None:
        one.is_over = True
        self._write(event)

    def crash(self) -> None:
        """A process dies and another takes over, from the log or from a checkpoint."""
        process = self.chance.randrange(PROCESSES)
        for one in self.calls:
            if one.process == process and not one.is_over:
                one.process = None
                if one.call not in _READS:
                    self._write(OwnerGone(one.job, 1))
        state = WorkspaceState(self.limits)
        if self.checkpoint is not None and self.chance.random() < 0.7:
            version, at_us, text = self.checkpoint
            state.fold(Batch(version, f"checkpoint-{version}", at_us, decode(text)))
        self.processes[process] = self._caught_up(state)

    def compact(self) -> None:
        """A process writes a checkpoint."""
        state = self._caught_up(self.processes[self.chance.randrange(PROCESSES)])
        if state.version:
            self.checkpoint = state.version, state.now_us, encode([state.snapshot()])

    # Judging

    def objections(self, model: str) -> int:
        """How often a service that counts so would have answered 429."""
        kind = ASSERTED[model]
        return sum(
            window.objects(self._service_us(at_us), 1)
            for windows, hits in self._pools(kind)
            for at_us in sorted(hits)
            for window in windows
        )

    def _pools(self, kind: type[Model]) -> Iterator[tuple[list[Model], list[int]]]:
        groups = [("list", "create_filter"), ("get",)] if self.service_shares else [(call,) for call in CALLS]
        lengths_s = (self.limits.minute_s, self.limits.hour_s, self.limits.day_s)
        for group in groups:
            names = CALL_LIMITS[group[0]]
            windows = [
                kind(getattr(self.limits, name), round(length_s * SECOND))
                for name, length_s in zip(names, lengths_s, strict=True)
            ]
            counted = (one.counted_us for one in self.calls if one.call in group)
            yield windows, [at_us for at_us in counted if at_us is not None]

    def _service_us(self, at_us: int) -> int:
        return at_us + (at_us - START_US) * self.drift_ppm // 1_000_000 + self.phase_us

    def quiesce(self) -> None:
        """When every window has passed, nothing counts; reads left no job, and no row that heard how it ended."""
        for process in self.processes:
            state = self._caught_up(process)
            end_us = (
                self.now_us + self.fence_us + self.timeout_us + self.late_us + round(3 * self.limits.day_s * SECOND)
            )
            used = {limit.limit: (limit.used, limit.pending) for limit in state.ledger.usage(end_us)}
            assert {name: used[name] for name in used if "_per_" in name} == {
                name: (0, 0) for name in used if "_per_" in name
            }
            assert not [job for job in state.jobs.records if job.startswith(_READS)]
            over = {one.job for one in self.calls if one.is_over and one.call in _READS}
            assert not over & state.ledger.rows.keys()


def play_calls(world: CallWorld, steps: int) -> None:
    """Play so many steps."""
    chance = world.chance
    for _ in range(steps):
        kind = chance.random()
        recent = world.calls[-6:]
        if kind < 0.2:
            world.wait()
        elif kind < 0.65 or not recent:
            world.ask()
        elif kind < 0.75:
            world.send(chance.choice(recent))
        elif kind < 0.93:
            world.end(chance.choice(recent))
        elif kind < 0.96:
            world.crash()
        else:
            world.compact()
