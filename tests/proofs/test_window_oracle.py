"""The ledger against rules 3 to 14 in their plainest form: a list, added up anew at each question.

Any event may come at any time and about any send, in the middle of a history the state is written down and taken up
again, and after every step the sums, the decision and the promised time must be the list's.
"""

from __future__ import annotations

import random
from typing import Final

import attrs

from moe_segments.core.events import (
    ActiveObserved,
    Adopted,
    Answered,
    Batch,
    CallbackReceived,
    Event,
    ExternalUsage,
    NeverSent,
    Quarantined,
    Reserved,
    Throttled,
    Trusted,
    Unknown,
    decode,
    encode,
    row_of,
)
from moe_segments.core.quota.decision import Cost, Granted, Never, Wait
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits
from tests.proofs import cases, say

SECOND: Final = 1_000_000
START_US: Final = 1_000 * SECOND
FENCE_US, TIMEOUT_US = 2 * SECOND, 10 * SECOND
NAMES: Final = ("a", "b", "c")
FILES: Final = ("operations_per_hour", "operations_per_day", "users_per_day")
STEPS: Final = 30


def limits_for(chance: random.Random) -> QuotaLimits:
    """Small limits of every shape, so that each of them binds."""
    return QuotaLimits(
        operations_per_hour=chance.randint(1, 5),
        operations_per_day=chance.randint(1, 9),
        users_per_day=100,
        active_segments=chance.randint(2, 6),
        external_active_margin=chance.randint(0, 1),
        headroom=chance.choice(({}, {"users_per_day": 20})),
        list_per_minute=chance.randint(1, 3),
        list_per_hour=chance.randint(2, 5),
        list_per_day=chance.randint(3, 9),
        create_filter_per_minute=chance.randint(1, 3),
        create_filter_per_day=chance.randint(3, 9),
        get_per_minute=chance.randint(1, 3),
        get_per_hour=chance.randint(2, 5),
        filter_calls_shared=chance.random() < 0.5,
        minute_s=20,
        hour_s=60,
        day_s=300,
        guard_s=chance.choice((0, 5)),
        count_late_s=chance.choice((0, 7, 40)),
        processing_allowance_s=chance.choice((0, 30, 80)),
        callback_lowers_users=chance.random() < 0.5,
        expiry_day_s=50,
        expiry_slack_s=chance.choice((0, 20)),
    )


@attrs.define(eq=False)
class Count:
    """What one send, or somebody else, counts of operations or users, and until when.

    Attributes:
        weight: How much.
        end_us: Its `u`, or the bound that becomes it.
        doubt_us: While it is in flight: until when its end is expected at any moment; None once it has ended.
    """

    weight: int
    end_us: int
    doubt_us: int | None = None

    def earliest_us(self, now_us: int) -> int:
        """The earliest `u` it may still get."""
        return now_us if self.doubt_us is not None and now_us < min(self.doubt_us, self.end_us) else self.end_us


@attrs.define(eq=False)
class Segment:
    """One active segment of ours."""

    name: str
    until_us: int | None
    confirmed: bool = False
    cs_id: str | None = None

    def may_be(self, name: str, cs_id: str | None) -> bool:
        """Whether it is the segment of this name, as far as identifiers tell."""
        return self.name == name and (cs_id is None or self.cs_id is None)


@attrs.define(eq=False)
class Sent:
    """One send while news of it still matters."""

    name: str
    archives: bool
    has_token: bool
    reserved_us: int
    life_us: int | None
    operation: Count
    users: Count
    segment: Segment | None = None
    called: str = ""
    call: Count | None = None


class Oracle:
    """Everything that counts, in lists."""

    def __init__(self, limits: QuotaLimits) -> None:
        self.limits = limits
        self.late_us = round(limits.count_late_s * SECOND)
        self.allowance_us = round(limits.processing_allowance_s * SECOND)
        self.sends: dict[str, Sent] = {}
        self.operations: list[Count] = []
        self.users: list[Count] = []
        shared = ("list", "create_filter")
        groups = (shared,) if limits.filter_calls_shared else (shared[:1], shared[1:])
        self.calls: dict[tuple[str, ...], list[Count]] = {calls: [] for calls in (*groups, ("get",))}
        self.segments: list[Segment] = []
        self.others = 0
        self.names = tuple(name for name, *_ in self.windows())
        self.closed_us = dict.fromkeys((*self.names, "active_segments"), 0)
        self.quarantined = dict.fromkeys(self.names, 0)
        self.probing = dict.fromkeys(self.names, False)
        self.struck = dict.fromkeys(self.names, False)

    # What the limits are

    def windows(self) -> list[tuple[str, list[Count], int, int]]:
        """Name, counts, capacity, span."""
        limits = self.limits
        minute_us, hour_us, day_us = (
            round((window_s + (limits.guard_s + 0.0005 * window_s + 1 if limits.guard_s else 0)) * SECOND)
            for window_s in (limits.minute_s, limits.hour_s, limits.day_s)
        )
        calls = [
            (f"{group[0]}_per_{unit}", counts, min(getattr(limits, f"{call}_per_{unit}") for call in group), span)
            for group, counts in self.calls.items()
            for unit, span in (("minute", minute_us), ("hour", hour_us), ("day", day_us))
        ]
        return [
            ("operations_per_hour", self.operations, limits.operations_per_hour, hour_us),
            ("operations_per_day", self.operations, limits.operations_per_day, day_us),
            ("users_per_day", self.users, limits.users_per_day - limits.headroom.get("users_per_day", 0), day_us),
            *calls,
        ]

    def asked(self, cost: Cost) -> tuple[int, ...]:
        """What a cost asks of each window."""
        calls = (int(cost.call in group) for group in self.calls for _ in range(3))
        return (cost.operations, cost.operations, cost.rows, *calls)

    def group_of(self, call: str) -> list[Count]:
        """The calls that share a pool with this one."""
        return next(counts for group, counts in self.calls.items() if call in group)

    @property
    def room(self) -> int:
        """Active segments that may be ours and theirs."""
        return self.limits.active_segments - self.limits.external_active_margin

    def used(self, now_us: int) -> tuple[int, ...]:
        """What counts against each limit."""
        self._expire(now_us)
        windows = [
            sum(one.weight for one in counts if now_us < one.end_us + span) for _, counts, _, span in self.windows()
        ]
        return (*windows[: len(FILES)], len(self.segments) + self.others, *windows[len(FILES) :])

    def _expire(self, now_us: int) -> None:
        self.segments = [one for one in self.segments if one.until_us is None or now_us < one.until_us]

    # Deciding

    def fits_from_us(self, cost: Cost, now_us: int) -> int | None:
        """The first time at which it fits if all in flight end as soon as they can; None if that is never known."""
        self._expire(now_us)
        moments = [now_us]
        for (name, counts, capacity, span), weight in zip(self.windows(), self.asked(cost), strict=True):
            if not weight:
                continue
            ends = [(one.earliest_us(now_us) + span, one.weight) for one in counts]
            times = sorted({now_us, *(end for end, _ in ends if end > now_us)})
            moments.append(next(at for at in times if sum(more for end, more in ends if at < end) + weight <= capacity))
            moments.append(max(self.closed_us[name], self.quarantined[name]))
        if cost.segments:
            ends_us = sorted({now_us, *(one.until_us for one in self.segments if one.until_us is not None)})
            free = [at for at in ends_us if self._active_at(at) + cost.segments <= self.room]
            if not free:
                return None
            moments += [free[0], self.closed_us["active_segments"]]
        return max(moments)

    def _active_at(self, at_us: int) -> int:
        return self.others + sum(one.until_us is None or at_us < one.until_us for one in self.segments)

    def is_probed(self, cost: Cost, now_us: int) -> bool:
        """One operation at a time after a 429, until one is accepted."""
        return any(
            weight and self.probing[name] and any(one.doubt_us is not None and now_us < one.end_us for one in counts)
            for (name, counts, _, _), weight in zip(self.windows(), self.asked(cost), strict=True)
        )

    # What happens

    def take(self, event: Event, now_us: int) -> None:
        """Take in one event."""
        self._expire(now_us)
        match event:
            case Reserved():
                self._reserve(event, now_us)
            case ExternalUsage(operations, rows, at_us):
                self.operations.append(Count(operations, at_us))
                self.users.append(Count(rows, at_us))
            case ActiveObserved(count, source):
                found = max(0, count - sum(one.confirmed for one in self.segments))
                self.others = max(self.others, found) if source == "hint" else found
            case Throttled(limit, until_us, probe):
                self.closed_us[limit] = max(self.closed_us[limit], until_us)
                if limit in self.names:
                    self.probing[limit], self.struck[limit] = probe, True
            case Quarantined():
                self.quarantined = {name: now_us + span for name, _, _, span in self.windows()}
            case Trusted():
                self.quarantined = dict.fromkeys(self.names, 0)
            case NeverSent() | Answered() | Unknown() | CallbackReceived() | Adopted():
                row = row_of(event.job, event.attempt)
                if row in self.sends and self._ends(self.sends[row], event, now_us):
                    del self.sends[row]
            case _:
                raise AssertionError(event)

    def _reserve(self, event: Reserved, now_us: int) -> None:
        over_us = now_us + event.fence_us + event.timeout_us
        lease_us = over_us + self.late_us
        life_us = None
        if event.expiry_days is not None:
            life_us = round((event.expiry_days * self.limits.expiry_day_s + self.limits.expiry_slack_s) * SECOND)
        sent = self.sends[event.row] = Sent(
            name=str(event.operation["name"]),
            archives=event.operation["op"] == "archive",
            has_token=event.token_sha256 is not None,
            reserved_us=now_us,
            life_us=life_us,
            operation=Count(event.operations, lease_us, over_us),
            users=Count(event.rows, lease_us + self.allowance_us, over_us),
        )
        if event.operations:
            self.operations.append(sent.operation)
        if event.rows or sent.has_token:  # a callback may find users of which none were declared
            self.users.append(sent.users)
        if event.call:
            sent.called, sent.call = event.call, Count(1, lease_us, over_us)
            self.group_of(event.call).append(sent.call)
        if event.segments:
            sent.segment = Segment(sent.name, None if life_us is None else lease_us + life_us)
            self.segments.append(sent.segment)

    def _ends(self, sent: Sent, event: Event, now_us: int) -> bool:
        """Take in news of a send. Returns whether nothing more can come."""
        match event:
            case NeverSent():
                return self._drop(sent, operation=True)
            case Answered(error=None):
                return self._accepted(sent, event, now_us)
            case Answered():
                self._counted(sent, now_us)
                return self._drop(sent, operation=not event.spends)
            case Unknown():
                end_us = now_us + self.late_us
                self._counted(sent, end_us)
                sent.users.end_us, sent.users.doubt_us = end_us + self.allowance_us, 0
                if sent.segment in self.segments and sent.segment is not None:
                    sent.segment.until_us = None if sent.life_us is None else end_us + sent.life_us
                    sent.segment.confirmed = False
                return sent.call is not None and sent.segment not in self.segments
            case CallbackReceived():
                return self._called(sent, event, now_us)
            case _:
                self._happened(sent, now_us)
                self._confirm(sent, now_us, event.cs_id if isinstance(event, Adopted) else None)
                return False

    def _counted(self, sent: Sent, end_us: int) -> None:
        for one in (sent.operation, sent.call):
            if one is not None:
                one.end_us, one.doubt_us = end_us, None

    def _drop(self, sent: Sent, *, operation: bool) -> bool:
        if operation:
            self.operations = [one for one in self.operations if one is not sent.operation]
            for counts in self.calls.values():
                counts[:] = [one for one in counts if one is not sent.call]
        self.users = [one for one in self.users if one is not sent.users]
        self.segments = [one for one in self.segments if one is not sent.segment]
        return True

    def _accepted(self, sent: Sent, event: Answered, now_us: int) -> bool:
        self._counted(sent, now_us)
        if event.accepted is not None:
            for (name, *_), asked in zip(self.windows(), self.asked(Cost(1, 1, 0, sent.called)), strict=True):
                if asked and self.struck[name] and sent.reserved_us >= self.closed_us[name]:
                    self.probing[name] = self.struck[name] = False
            self._confirm(sent, now_us)
            if sent.archives:
                self.segments = [one for one in self.segments if one.name != sent.name]
        end_us = now_us + self.allowance_us
        sent.users.end_us, sent.users.doubt_us = end_us, end_us if sent.has_token else None
        return not sent.has_token

    def _called(self, sent: Sent, event: CallbackReceived, now_us: int) -> bool:
        if event.outcome == "unparsed":  # who knows what it is about
            return False
        self._happened(sent, now_us)
        if event.outcome == "failed":
            self.users = [one for one in self.users if one is not sent.users]
        else:
            sent.users.end_us, sent.users.doubt_us = now_us, None
            found = event.values_found
            if found is not None and (found > sent.users.weight or self.limits.callback_lowers_users):
                sent.users.weight = found
        self._confirm(sent, now_us)
        return True

    def _happened(self, sent: Sent, now_us: int) -> None:
        for one in (sent.operation, sent.call):
            if one is not None and (one.end_us > now_us or one.doubt_us is not None):
                one.end_us, one.doubt_us = min(one.end_us, now_us), None

    def _confirm(self, sent: Sent, now_us: int, cs_id: str | None = None) -> None:
        if sent.segment is None or sent.segment not in self.segments:
            return
        cs_id = cs_id or sent.segment.cs_id
        others = [one for one in self.segments if one is not sent.segment]
        known = [one for one in others if cs_id is not None and one.cs_id == cs_id]
        same = known or [one for one in others if one.may_be(sent.name, cs_id)]
        self.segments = [one for one in others if one not in same]
        until_us = None if sent.life_us is None else now_us + sent.life_us
        sent.segment = Segment(sent.name, until_us, confirmed=True, cs_id=cs_id)
        self.segments.append(sent.segment)


class Case:
    """One history, told to the ledger and to the list."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.limits = limits_for(self.chance)
        self.state, self.oracle = WorkspaceState(self.limits), Oracle(self.limits)
        self.now_us, self.version, self.count = START_US, 0, 0
        self.granted = self.promised = 0
        self.with_token: set[str] = set()
        self.names: dict[str, str] = {}

    def step(self) -> None:
        """Some time, then something, then the sums."""
        chance = self.chance
        self.now_us += round(chance.choice((0, 0, 1, chance.random() * 30, 40, 70)) * SECOND)
        kind = chance.random()
        if kind < 0.45:
            self._ask()
        elif kind < 0.85 and self.count:
            self.tell(self._news())
        elif kind < 0.96:
            self.tell(self._elsewhere())
        else:
            self._write_down()
        self.check_sums()

    def tell(self, event: Event) -> None:
        """One batch, to both."""
        self.version += 1
        self.state.fold(Batch(self.version, f"batch-{self.version}", self.now_us, decode(encode([event]))))
        self.oracle.take(event, self.now_us)

    def check_sums(self) -> None:
        """What counts is the same."""
        usage = self.state.ledger.usage(self.now_us)
        assert tuple(limit.used for limit in usage) == self.oracle.used(self.now_us)

    def _ask(self) -> None:
        chance = self.chance
        op = chance.choice(("add", "create", "create", "archive", "unarchive", "list", "get", "create_filter"))
        cost = {
            "add": Cost(1, chance.choice((0, 1, 30, 80, 101))),
            "create": Cost(1, chance.choice((0, 5, 50)), 1),
            "unarchive": Cost(segments=1),
            "create_filter": Cost(segments=1, call=op),
            "list": Cost(call=op),
            "get": Cost(call=op),
        }.get(op, Cost())
        if self._decide(cost):
            self.count += 1
            has_token = op in ("add", "create") and chance.random() < 0.6
            if has_token:
                self.with_token.add(f"job-{self.count}")
            self.tell(
                Reserved(
                    job=f"job-{self.count}",
                    attempt=1,
                    operation={"op": op, "name": self.names.setdefault(f"job-{self.count}", chance.choice(NAMES))},
                    operations=cost.operations,
                    rows=cost.rows,
                    segments=cost.segments,
                    call=cost.call,
                    fence_us=FENCE_US,
                    timeout_us=TIMEOUT_US,
                    token_sha256=f"token-{self.count}" if has_token else None,
                    expiry_days=chance.randint(1, 4) if op == "create" else None,
                )
            )

    def _decide(self, cost: Cost) -> bool:
        decision = self.state.ledger.decide(cost, self.now_us)
        asked = zip(self.oracle.windows(), self.oracle.asked(cost), strict=True)
        too_large = [weight > window[2] for window, weight in asked]
        assert isinstance(decision, Never) == any(too_large)
        if isinstance(decision, Never):
            return False
        at_us = self.oracle.fits_from_us(cost, self.now_us)
        probed = self.oracle.is_probed(cost, self.now_us)
        assert isinstance(decision, Granted) == (at_us == self.now_us and not probed)
        if isinstance(decision, Wait):
            assert decision.until_us is None or decision.until_us > self.now_us
            if not probed:
                assert decision.until_us == at_us
                self.promised += 1
        else:
            self.granted += 1
        return isinstance(decision, Granted)

    def _news(self) -> Event:
        job = f"job-{self.chance.randint(max(1, self.count - 6), self.count)}"
        event = self._any_news(job)
        is_called = isinstance(event, CallbackReceived)
        return Unknown(job, 1, "lost") if is_called and job not in self.with_token else event

    def _any_news(self, job: str) -> Event:
        chance = self.chance
        return chance.choice(
            (
                Answered(job, 1, 202, accepted={}),
                Answered(job, 1, 202, accepted={}),
                Answered(job, 1, 409, error={}, spends=chance.random() < 0.7),
                Answered(job, 1, 200, problem="no JSON"),
                Unknown(job, 1, "lost"),
                NeverSent(job, 1, "no connection"),
                CallbackReceived(job, 1, "d", "processed", {}, chance.choice((None, 0, 10, 60, 150))),
                CallbackReceived(job, 1, "d", "processed", {}, chance.choice((10, 60, 90))),
                CallbackReceived(job, 1, "d", chance.choice(("failed", "unparsed")), {}),
                Adopted(job, 1, f"id of {self.names[job]}"),
            )
        )

    def _elsewhere(self) -> Event:
        chance = self.chance
        past_us = self.now_us - chance.choice((0, 10, 70, 400)) * SECOND
        until_us = self.now_us + chance.choice((0, 20, 100)) * SECOND
        return chance.choice(
            (
                ExternalUsage(chance.randint(0, 2), chance.choice((0, 30)), past_us),
                ExternalUsage(chance.randint(0, 2), chance.choice((0, 30)), past_us),
                Throttled(
                    chance.choice((*self.oracle.names, "active_segments")), until_us, probe=chance.random() < 0.5
                ),
                ActiveObserved(chance.randint(0, 6), chance.choice(("user", "hint", "service"))),
                Quarantined("a doubt") if chance.random() < 0.3 else Trusted("sure"),
            )
        )

    def _write_down(self) -> None:
        """A checkpoint is taken up by another process, which also knows all that came after it."""
        if not self.version:
            return
        text = encode([self.state.snapshot()])
        self.state = WorkspaceState(self.limits)
        self.state.fold(Batch(self.version, "checkpoint", self.now_us, decode(text)))


def test_the_ledger_agrees_with_a_list_added_up_anew() -> None:
    """Granted exactly when the plain sums leave room; a promised time is the first at which they do."""
    granted = promised = 0
    for seed in range(cases(500, 20_000)):
        case = Case(seed)
        try:
            for _ in range(STEPS):
                case.step()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        granted, promised = granted + case.granted, promised + case.promised
    say(f"window oracle: {granted} granted, {promised} promises of a time")
    assert promised > granted / 10


def test_the_same_seed_is_the_same_case() -> None:
    """So a failure can be repeated."""
    for seed in range(10):
        one, other = Case(seed), Case(seed)
        for _ in range(STEPS):
            one.step()
            other.step()
        assert (one.now_us, one.version) == (other.now_us, other.version)
        assert encode([one.state.snapshot()]) == encode([other.state.snapshot()])
