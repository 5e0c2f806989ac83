"""A service, its clock, a log and two processes that share it: where histories are played and then judged.

Time is true time in microseconds. The processes decide on the log's clock, which is the host's unless somebody sets
that back. What the service counts, and when, is known to this module alone and is laid out when it is known as little
as can be: an operation counts at any instant between its send and the moment its sender knew how it ended, or may
still be counted for D after the sender gave up; users count between their operation and the callback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from moe_segments.core.events import (
    Answered,
    Batch,
    CallbackReceived,
    Event,
    ExternalUsage,
    NeverSent,
    OwnerGone,
    Reserved,
    Unknown,
    decode,
    encode,
)
from moe_segments.core.quota.decision import Cost, Granted, Never, Wait
from moe_segments.core.state.workspace import WorkspaceState
from moe_segments.limits import QuotaLimits
from tests.proofs.services import ASSERTED, GRAIN_S, REPORTED

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

__all__ = ["PROCESSES", "SECOND", "Profile", "Sent", "World", "play", "profile_for", "sharpest_guard_s"]

SECOND: Final = 1_000_000
START_US: Final = 1_764_547_200 * SECOND
PROCESSES: Final = 2


@attrs.frozen(kw_only=True)
class Profile:
    """What a history is played under.

    Attributes:
        limits: The quotas; the service's own are the same.
        fence_s: How long after the reservation a request may start.
        timeout_s: How long it may take.
        drift_ppm: How much faster the service's clock is.
        phase_us: Where the service's clock stands when ours is at 0.
    """

    limits: QuotaLimits
    fence_s: float
    timeout_s: float
    drift_ppm: int = 0
    phase_us: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The models for which these limits promise that there is no 429."""
        guard_s, sharp = self.limits.guard_s, sharpest_guard_s
        return tuple(name for name in ASSERTED if guard_s >= sharp(name) and (guard_s or not self.drift_ppm))

    def span_us(self, window_s: float) -> int:
        """How long an ended operation counts."""
        guard_s = 0.0
        if self.limits.guard_s:
            guard_s = self.limits.guard_s + 500e-6 * window_s + 1.0
        return _us(window_s + guard_s)


def sharpest_guard_s(model: str) -> float:
    """The smallest guard that the theory asks for."""
    return {"inclusive log": 0.001, "minute buckets": float(GRAIN_S)}.get(model, 0.0)


def profile_for(chance: random.Random, guard_s: float) -> Profile:
    """A profile with latencies, time-outs and D drawn relative to the guard, larger ones often."""
    unit_s = guard_s if guard_s >= 1 else 30.0
    hour_s = 60.0 * chance.randint(4, 12)
    limits = QuotaLimits(
        operations_per_hour=chance.randint(1, 4),
        operations_per_day=chance.randint(3, 9),
        users_per_day=100,
        active_segments=chance.choice((3, 6, 50)),
        external_active_margin=0,
        hour_s=hour_s,
        day_s=hour_s * chance.randint(2, 4),
        guard_s=guard_s,
        count_late_s=unit_s * chance.choice((0, 0.3, 2, 6)),
        processing_allowance_s=unit_s * chance.choice((0, 1, 5, 20)),
        expiry_day_s=hour_s / 2,
        expiry_slack_s=chance.choice((0.0, hour_s / 5)),
        consumes=chance.choice(({}, {409: False})),
        callback_lowers_users=chance.random() < 0.7,
    )
    return Profile(
        limits=limits,
        fence_s=unit_s * chance.choice((0.1, 0.5, 2)),
        timeout_s=unit_s * chance.choice((0.2, 1.5, 4, 9)),
        drift_ppm=chance.choice((-500, 0, 500)) if guard_s else 0,
        phase_us=chance.randrange(3_600 * SECOND),
    )


@attrs.define(eq=False)
class Sent:
    """One send, as the service and the world know it. Times in microseconds.

    Attributes:
        number: It names the job.
        process: Who sends it; None when that process died.
        version: Where its reservation is in the log.
        reserved_us: When it was reserved.
        declared: Its users as declared.
        segments: Active segments it makes.
        has_token: A callback can come.
        lean: Where in their spans the operation and its users are counted, 0 to 1.
        ends: The log's time at which the operation, the users and the segment end, by what the log knows.
        weights: What of each counts.
        is_open: The log expects further news of it.
        sent_us: When its first byte left; None before.
        is_over: Its sender knows how it ended.
        is_charged: The service counts the operation once it was sent.
        is_made: The service makes its segment.
        is_read: The service reads its file, so the users count.
        is_called: A callback came.
        has_gap: For a while its users did not count, so they had been counted before by what is assumed of D.
        late_us: Until when the service may count the operation.
        users_late_us: Until when it may count the users.
        counted_us: When it did count the operation.
        users_us: When it did count the users.
        found: The users it counts.
        known: Where the log knows *found*.
        news: The last outcome, for saying it twice.
    """

    number: int
    process: int | None
    version: int
    reserved_us: int
    declared: int
    segments: int
    has_token: bool
    lean: tuple[float, float]
    ends: list[int]
    weights: list[int]
    is_open: bool = True
    sent_us: int | None = None
    is_over: bool = False
    is_charged: bool = True
    is_made: bool = True
    is_read: bool = True
    is_called: bool = False
    has_gap: bool = False
    late_us: int = 0
    users_late_us: int = 0
    counted_us: int | None = None
    users_us: int | None = None
    found: int = 0
    known: int | None = None
    news: Event | None = None

    @property
    def job(self) -> str:
        """The job's identifier."""
        return f"job-{self.number}"


class World:
    """One history in the making. Each step does what it can do then, else nothing."""

    def __init__(self, profile: Profile) -> None:
        self.profile, self.limits = profile, profile.limits
        self.now_us = START_US
        self.set_back_us = 0
        self.seen_us = 0
        self.log: list[tuple[int, str]] = []
        self.checkpoint: tuple[int, int, str] | None = None
        self.processes = [WorkspaceState(self.limits) for _ in range(PROCESSES)]
        self.sends: list[Sent] = []
        self.external: list[tuple[int, int, int]] = []  # log's time, operations, users
        self.external_true_us: list[int] = []
        self.admissions = self.refusals = 0
        self.promised_us: int | None = None
        self._late_us = _us(self.limits.count_late_s)
        self._allowance_us = _us(self.limits.processing_allowance_s)
        self._attempt_us = _us(profile.fence_s), _us(profile.timeout_s)
        self._life_us = _us(3 * self.limits.expiry_day_s + self.limits.expiry_slack_s)
        self._hour_us, self._day_us = profile.span_us(self.limits.hour_s), profile.span_us(self.limits.day_s)

    # The log

    def log_now_us(self) -> int:
        """The log's clock: the host's, never before the last entry."""
        return max(self.now_us - self.set_back_us, self.log[-1][0] if self.log else 0)

    def write(self, *events: Event) -> tuple[int, int]:
        """Append a batch. Returns its version and time."""
        at_us = self.log_now_us()
        self.log.append((at_us, encode(events)))
        self._seen(at_us)
        return len(self.log), at_us

    def _seen(self, at_us: int) -> None:
        self.seen_us = max(self.seen_us, at_us)

    def _caught_up(self, process: int) -> WorkspaceState:
        state = self.processes[process]
        self._fold_after(state, state.version)
        return state

    def _fold_after(self, state: WorkspaceState, version: int) -> None:
        for number, (at_us, text) in enumerate(self.log[version:], version + 1):
            state.fold(Batch(number, f"batch-{number}", at_us, decode(text)))

    def _is_behind(self) -> bool:
        return self.log_now_us() < self.seen_us

    # Steps of processes

    def wait(self, passed_us: int) -> None:
        """Let true time pass."""
        self.now_us += passed_us

    def wait_as_promised(self) -> None:
        """Let true time pass until the log's clock shows what the last refusal promised, and not a moment more."""
        if self.promised_us is not None:
            self.now_us = max(self.now_us, self.promised_us + self.set_back_us)

    def set_clock_back(self, by_us: int) -> None:
        """Somebody sets the host's clock back."""
        self.set_back_us += by_us

    def reserve(self, process: int, rows: int, segments: int, lean: tuple[float, float], *, has_token: bool) -> bool:
        """Ask for one operation. Returns whether it was granted; a refusal must be right, and its time exact."""
        state, now_us = self._caught_up(process), self.log_now_us()
        cost = Cost(1, rows, segments)
        decision = state.ledger.decide(cost, now_us)
        self._check(state, cost, decision, now_us)
        self._seen(now_us)
        if not isinstance(decision, Granted):
            self.refusals += 1
            self.promised_us = decision.until_us if isinstance(decision, Wait) else None
            return False
        self.admissions += 1
        number = len(self.sends)
        fence_us, timeout_us = self._attempt_us
        version, at_us = self.write(
            Reserved(
                job=f"job-{number}",
                attempt=1,
                operation={"op": "create", "name": f"segment-{number}"},
                operations=1,
                rows=rows,
                segments=segments,
                keys=(f"segment-{number}",),
                fence_us=fence_us,
                timeout_us=timeout_us,
                token_sha256=f"token-{number}" if has_token else None,
                expiry_days=3 if segments else None,
            )
        )
        lease_us = at_us + fence_us + timeout_us + self._late_us
        ends = [lease_us, lease_us + self._allowance_us, lease_us + self._life_us]
        sent = Sent(
            number,
            process,
            version,
            self.now_us,
            rows,
            segments,
            has_token,
            lean,
            ends,
            [1, rows, segments],
            found=rows,
        )
        self.sends.append(sent)
        return True

    def send(self, sent: Sent) -> None:
        """The first byte leaves, unless its fence has passed: then it is given back."""
        if sent.sent_us is not None or sent.is_over or sent.process is None:
            return
        if self.now_us >= sent.reserved_us + self._attempt_us[0]:
            self.never(sent)
            return
        sent.sent_us = self.now_us
        sent.late_us = self.now_us + self._attempt_us[1] + self._late_us
        sent.users_late_us = sent.late_us + self._allowance_us

    def never(self, sent: Sent) -> None:
        """No connection was obtained."""
        if sent.sent_us is not None or sent.is_over or sent.process is None:
            return
        sent.is_over, sent.is_open = True, False
        sent.is_charged = sent.is_made = sent.is_read = False
        sent.weights = [0, 0, 0]
        self._tell(sent, NeverSent(sent.job, 1, "no connection"))

    def answer(self, sent: Sent, status: int) -> None:
        """An answer below 500 is read, perhaps long after its process was stopped."""
        if not self._is_waiting(sent):
            return
        self._note_gap(sent)
        status = 202 if sent.is_called else status
        # As long as it was counted until now, the service may have counted it until now; else until its lease.
        if self.log_now_us() < sent.ends[0] + self._hour_us or self.now_us < sent.late_us:
            sent.late_us = self.now_us
        if not sent.has_gap:
            sent.users_late_us = self.now_us + self._allowance_us
        sent.is_over = True
        self._count(sent)
        if status < 400:
            accepted = {"cs_name": f"segment-{sent.number}", "cs_id": f"id-{sent.number}"}
            at_us = self._tell(sent, Answered(sent.job, 1, status, accepted=accepted))
        else:
            spends = self.limits.spends(status)
            sent.is_charged, sent.is_made, sent.is_read = spends, False, False
            at_us = self._tell(sent, Answered(sent.job, 1, status, error={"title": "no"}, spends=spends))
        self._learn(sent, at_us, status)

    def _learn(self, sent: Sent, at_us: int, status: int) -> None:
        """What the log knows after an answer."""
        if not sent.is_open:
            return
        sent.ends[0] = at_us
        if status < 400:
            sent.ends[1] = at_us + self._allowance_us
            self._keep_segment(sent, at_us, at_us)
            sent.is_open = sent.has_token
        else:
            sent.weights = [int(self.limits.spends(status)), 0, 0]
            sent.is_open = False

    def lose(self, sent: Sent) -> None:
        """The sender gives up without an answer: a time-out, a reset, a 5xx."""
        if not self._is_waiting(sent):
            return
        late_us = self.now_us + self._late_us
        self._note_gap(sent)
        if self.log_now_us() < sent.ends[0] + self._hour_us and not sent.is_called:
            sent.late_us = late_us
        if not sent.has_gap:
            sent.users_late_us = late_us + self._allowance_us
        sent.is_over = True
        at_us = self._tell(sent, Unknown(sent.job, 1, "time-out"))
        self._doubt(sent, at_us)

    def _doubt(self, sent: Sent, at_us: int) -> None:
        if sent.is_open:
            end_us = at_us + self._late_us
            sent.ends[:2] = [end_us, end_us + self._allowance_us]
            self._keep_segment(sent, at_us, end_us)

    def _keep_segment(self, sent: Sent, at_us: int, made_us: int) -> None:
        if at_us < sent.ends[2]:  # else it has expired, whatever is heard of it
            sent.ends[2] = made_us + self._life_us

    def _note_gap(self, sent: Sent) -> None:
        sent.has_gap = sent.has_gap or self.log_now_us() >= sent.ends[1] + self._day_us

    def callback(self, sent: Sent, outcome: str, found: int) -> None:
        """The service reports on the file: before the answer, late, or again."""
        if sent.sent_us is None or not sent.has_token or not sent.is_made:
            return
        if not sent.is_open:
            self.write(CallbackReceived(sent.job, 1, f"again-{found}", "processed", {}, found))
            return
        if outcome == "unparsed":  # about anything: the service may count as late as without it
            self.write(CallbackReceived(sent.job, 1, "digest-unparsed", outcome, {}))
            return
        self._note_gap(sent)
        sent.is_called, sent.late_us = True, min(sent.late_us, self.now_us)
        if not sent.has_gap:
            sent.users_late_us = self.now_us
        self._count(sent)
        if outcome == "failed":
            sent.is_read, sent.users_us, sent.found = False, None, 0
        elif sent.users_us is None:
            sent.found = found
            self._count_users(sent)
        counted = sent.found if outcome == "processed" else None
        event = CallbackReceived(sent.job, 1, f"digest-{outcome}", outcome, {}, counted)
        version, at_us = self.write(event)
        sent.news = event
        sent.ends[0] = min(sent.ends[0], at_us)
        if outcome == "failed":
            sent.weights[1] = 0
        else:
            sent.ends[1] = at_us
        if outcome == "processed" and (sent.found > sent.weights[1] or self.limits.callback_lowers_users):
            sent.weights[1] = sent.found
        self._keep_segment(sent, at_us, at_us)
        sent.is_open, sent.known = False, version

    def repeat(self, sent: Sent) -> None:
        """The last outcome is written down a second time."""
        if sent.news is None:
            return
        self._note_gap(sent)
        _, at_us = self.write(sent.news)
        match sent.news:
            case Answered(status=status):
                self._learn(sent, at_us, status)
            case Unknown():
                self._doubt(sent, at_us)
            case _:
                pass

    def crash(self, process: int, capacity: int | None, *, from_checkpoint: bool) -> None:
        """A process dies and starts again, perhaps with another hour limit, from the log or from a checkpoint."""
        for sent in self.sends:
            if sent.process == process and not sent.is_over:
                sent.process = None
        if capacity is not None:
            self.limits = attrs.evolve(self.limits, operations_per_hour=capacity)
            for number in range(PROCESSES):
                self.processes[number] = self._restarted(from_checkpoint=from_checkpoint)
        else:
            self.processes[process] = self._restarted(from_checkpoint=from_checkpoint)
        gone = [OwnerGone(sent.job, 1) for sent in self.sends if sent.process is None and not sent.is_over]
        if gone:
            self.write(*gone)

    def _restarted(self, *, from_checkpoint: bool) -> WorkspaceState:
        if self.checkpoint is None:
            return self._folded()
        if not self._is_behind():
            _check_same(self._folded(), self._resumed(), self.log_now_us())
        return self._resumed() if from_checkpoint else self._folded()

    def _folded(self) -> WorkspaceState:
        state = WorkspaceState(self.limits)
        self._fold_after(state, 0)
        return state

    def _resumed(self) -> WorkspaceState:
        assert self.checkpoint is not None
        state = WorkspaceState(self.limits)
        version, at_us, text = self.checkpoint
        state.fold(Batch(version, f"checkpoint-{version}", at_us, decode(text)))
        self._fold_after(state, version)
        return state

    def compact(self, process: int) -> None:
        """A process writes a checkpoint, and goes on."""
        state = self._caught_up(process)
        if state.version:
            self.checkpoint = state.version, state.now_us, encode([state.snapshot()])

    def spend_elsewhere(self, process: int, operations: int, rows: int) -> None:
        """Somebody in the dashboard looks whether there is room, spends, and says so at once."""
        state, now_us = self._caught_up(process), self.log_now_us()
        decision = state.ledger.decide(Cost(operations, rows), now_us)
        self._seen(now_us)
        if isinstance(decision, Granted):
            _, at_us = self.write(ExternalUsage(operations, rows, now_us))
            self.external.append((at_us, operations, rows))
            self.external_true_us.append(self.now_us)

    def _is_waiting(self, sent: Sent) -> bool:
        return sent.sent_us is not None and not sent.is_over and sent.process is not None

    def _tell(self, sent: Sent, event: Event) -> int:
        sent.news = event
        return self.write(event)[1]

    def _count(self, sent: Sent) -> None:
        if sent.counted_us is None and sent.sent_us is not None:
            sent.counted_us = _between(sent.sent_us, sent.late_us, sent.lean[0])

    def _count_users(self, sent: Sent) -> None:
        if sent.users_us is None and sent.counted_us is not None:
            sent.users_us = _between(sent.counted_us, max(sent.counted_us, sent.users_late_us), sent.lean[1])

    # Checks on the way

    def counted(self, now_us: int) -> tuple[int, int, int, int]:
        """Operations of the hour and of the day, users and segments, added up anew from what the log knows."""
        hour = day = users = active = 0
        for sent in self.sends:
            (operation_end, users_end, segment_end), (operation, rows, segment) = sent.ends, sent.weights
            hour += operation if now_us < operation_end + self._hour_us else 0
            day += operation if now_us < operation_end + self._day_us else 0
            users += rows if now_us < users_end + self._day_us else 0
            active += segment if now_us < segment_end else 0
        for at_us, operation, rows in self.external:
            hour += operation if now_us < at_us + self._hour_us else 0
            day += operation if now_us < at_us + self._day_us else 0
            users += rows if now_us < at_us + self._day_us else 0
        return hour, day, users, active

    def _check(self, state: WorkspaceState, cost: Cost, decision: object, now_us: int) -> None:
        if self._is_behind():
            return  # a process that saw a later time already let go of what has ended since
        counts = self.counted(now_us)
        asked = (cost.operations, cost.operations, cost.rows, cost.segments)
        limits = self.limits
        capacities = (
            limits.operations_per_hour,
            limits.operations_per_day,
            limits.users_per_day,
            limits.active_segments,
        )
        fits = all(
            not more or count + more <= capacity
            for count, more, capacity in zip(counts, asked, capacities, strict=True)
        )
        assert isinstance(decision, Granted) == fits, f"{decision} although {counts} of {capacities} are counted"
        if isinstance(decision, Wait) and decision.until_us is not None:
            assert decision.until_us > now_us
            if not any(history.holds for history in state.ledger.histories):
                _check_exact(state, cost, decision.until_us)

    # Judging

    def judge(self, models: Iterable[str]) -> dict[str, int]:
        """Lay out what is still open, and count the objections of each model. None of the asserted ones may object."""
        for sent in self.sends:
            self._count(sent)
            if sent.is_read:
                self._count_users(sent)
        objections = {name: self._objections(name) for name in (*models, *REPORTED)}
        for name in models:
            assert not objections[name], f"{name}: {objections[name]} times 429"
        assert self._most_active() <= self.profile.limits.active_segments
        return objections

    def _objections(self, model: str) -> int:
        kind, limits = (ASSERTED | REPORTED)[model], self.profile.limits
        hour = kind(limits.operations_per_hour, _us(limits.hour_s))
        day = kind(limits.operations_per_day, _us(limits.day_s))
        users = kind(limits.users_per_day, _us(limits.day_s))
        operations = [sent.counted_us for sent in self.sends if sent.counted_us is not None and sent.is_charged]
        hits = [(at_us, 1) for at_us in operations]
        hits += [
            (at_us, count) for at_us, (_, count, _) in zip(self.external_true_us, self.external, strict=True) if count
        ]
        files = [
            (sent.users_us, sent.found, self._unforeseen(sent, carries=kind.carries))
            for sent in self.sends
            if sent.users_us is not None and sent.found
        ]
        total = sum(max(0, sent.found - sent.declared) for sent in self.sends)
        files += [
            (at_us, rows, total)
            for at_us, (_, _, rows) in zip(self.external_true_us, self.external, strict=True)
            if rows
        ]
        objections = 0
        for at_us, count in sorted(hits):
            objections += hour.objects(self._service_us(at_us), count) + day.objects(self._service_us(at_us), count)
        for at_us, count, excess in sorted(files):
            objections += users.objects(self._service_us(at_us), count, excess)
        return objections

    def _unforeseen(self, sent: Sent, *, carries: bool) -> int:
        """How much larger than declared files were that nobody knew of when this one was reserved.

        One that was declared empty waits for no users at all, so whatever was too much before is too much for it.
        """
        return sum(
            max(0, other.found - other.declared)
            for other in self.sends
            if carries or not sent.declared or other.known is None or other.known > sent.version
        )

    def _service_us(self, at_us: int) -> int:
        return at_us + (at_us - START_US) * self.profile.drift_ppm // 1_000_000 + self.profile.phase_us

    def _most_active(self) -> int:
        life_us = _us(3 * self.limits.expiry_day_s)
        starts = [sent.counted_us for sent in self.sends if sent.segments and sent.counted_us and sent.is_made]
        return max((sum(start <= at < start + life_us for start in starts) for at in starts), default=0)

    def quiesce(self) -> None:
        """When every window has passed, nothing counts and nothing is remembered."""
        for process in range(PROCESSES):
            self._caught_up(process)
        longest_us = sum(self._attempt_us) + self._late_us + self._allowance_us + self._day_us + self._life_us
        end_us = self.log_now_us() + longest_us
        for state in self.processes:
            for usage in state.ledger.usage(end_us):
                assert (usage.used, usage.pending, usage.external) == (0, 0, 0), usage
            state.ledger.prune(end_us + 31 * 86_400 * SECOND)
            assert not state.ledger.rows
            assert not any(history.holds or history.held for history in state.ledger.histories)


def _check_exact(state: WorkspaceState, cost: Cost, until_us: int) -> None:
    """With nothing in flight a time that is promised is the first at which it fits."""
    twin = WorkspaceState(state.limits)
    twin.fold(Batch(1, "twin", state.now_us, decode(encode([state.snapshot()]))))
    assert isinstance(twin.ledger.decide(cost, until_us - 1), Wait | Never), "the wait is too long"
    assert isinstance(twin.ledger.decide(cost, until_us), Granted), "the wait is too short"


def _check_same(whole: WorkspaceState, resumed: WorkspaceState, now_us: int) -> None:
    """A checkpoint and what came after it stand for the whole log."""
    assert whole.version == resumed.version
    for passed_s in (0, 61, 400, 2_000):
        at_us = now_us + passed_s * SECOND
        assert whole.ledger.usage(at_us) == resumed.ledger.usage(at_us)
        for cost in (Cost(1), Cost(1, 60), Cost(1, 100, 1), Cost(segments=1)):
            assert whole.ledger.decide(cost, at_us) == resumed.ledger.decide(cost, at_us)
    for job, record in whole.jobs.records.items():
        assert record.state_at(now_us) == resumed.jobs.records[job].state_at(now_us)


def _between(first_us: int, last_us: int, lean: float) -> int:
    return first_us + round((last_us - first_us) * lean)


def _us(seconds: float) -> int:
    return round(seconds * SECOND)


def play(world: World, chance: random.Random, steps: int) -> str:
    """Play *steps* steps drawn by *chance*. Returns the trace."""
    trace = []
    for _ in range(steps):
        name = chance.choices(_STEPS, _WEIGHTS)[0]
        _DRAWN[name](world, chance)
        trace.append(f"{name}@{world.now_us - START_US}/{len(world.log)}")
    return " ".join(trace)


def lean_of(chance: random.Random) -> float:
    """Where in its span something is counted: at an end, often."""
    return chance.choice((0.0, 1.0, chance.random()))


def pause_of(world: World, chance: random.Random) -> int:
    """A while that matters under this profile: from nothing to past a window."""
    limits, profile = world.limits, world.profile
    longest_s = chance.choice(
        (1.0, profile.fence_s, profile.timeout_s, limits.count_late_s, limits.hour_s / 2, limits.hour_s * 1.2)
    )
    return round(longest_s * SECOND * chance.choice((chance.random(), 0.99, 1.0)))


def _wait(world: World, chance: random.Random) -> None:
    world.wait(pause_of(world, chance))


def _operate(world: World, chance: random.Random) -> None:
    """One operation from leave to outcome, at the first moment at which it may go, often."""
    latency_us = round(world.profile.timeout_s * SECOND * chance.choice((0.0, 0.5, 1.0)))
    if _reserve(world, chance, patience=chance.choice((0, 1, 2))):
        world.send(world.sends[-1])
        world.wait(latency_us)
        if chance.random() < 0.8:
            world.answer(world.sends[-1], chance.choice((202, 202, 400)))
        else:
            world.lose(world.sends[-1])


def _ask(world: World, chance: random.Random) -> None:
    if _reserve(world, chance, patience=chance.choice((0, 1))) and chance.random() < 0.7:
        world.wait(round(world.profile.fence_s * SECOND * chance.choice((0.0, 0.5, 0.999, 1.0))))
        world.send(world.sends[-1])


def _reserve(world: World, chance: random.Random, *, patience: int) -> bool:
    world.wait(chance.choice((0, 0, SECOND)))
    rows, segments = chance.choice((0, 0, 1, 20, 40, 100)), chance.choice((0, 0, 1))
    leans = lean_of(chance), lean_of(chance)
    process, has_token = chance.randrange(PROCESSES), chance.random() < 0.6
    while not world.reserve(process, rows, segments, leans, has_token=has_token):
        if not patience:
            return False
        patience -= 1
        world.wait_as_promised()
    return True


def _send(world: World, chance: random.Random) -> None:
    _with_one(World.send, world, chance)


def _never(world: World, chance: random.Random) -> None:
    _with_one(World.never, world, chance)


def _answer(world: World, chance: random.Random) -> None:
    status = chance.choice((202, 202, 202, 409, 400))
    _with_one(lambda world, sent: world.answer(sent, status), world, chance)


def _lose(world: World, chance: random.Random) -> None:
    _with_one(World.lose, world, chance)


def _callback(world: World, chance: random.Random) -> None:
    outcome = chance.choice(("processed", "processed", "processed", "failed", "unparsed"))
    found = chance.choice((0, 10, 30, 60, 140))
    _with_one(lambda world, sent: world.callback(sent, outcome, found), world, chance)


def _repeat(world: World, chance: random.Random) -> None:
    _with_one(World.repeat, world, chance)


def _crash(world: World, chance: random.Random) -> None:
    most = world.profile.limits.operations_per_hour
    capacity = chance.choice((None, None, most, chance.randint(1, most)))
    world.crash(chance.randrange(PROCESSES), capacity, from_checkpoint=chance.random() < 0.7)


def _compact(world: World, chance: random.Random) -> None:
    world.compact(chance.randrange(PROCESSES))


def _set_back(world: World, chance: random.Random) -> None:
    world.set_clock_back(round(chance.choice((1.0, 60.0, world.limits.hour_s)) * SECOND))


def _spend_elsewhere(world: World, chance: random.Random) -> None:
    world.spend_elsewhere(chance.randrange(PROCESSES), chance.randint(0, 2), chance.choice((0, 0, 50)))


def _with_one(step: Callable[[World, Sent], None], world: World, chance: random.Random) -> None:
    if world.sends:
        step(world, chance.choice(world.sends[-6:] if chance.random() < 0.8 else world.sends))


_Step: TypeAlias = "Callable[[World, random.Random], None]"
_DRAWN: Final[dict[str, _Step]] = {
    "wait": _wait,
    "operate": _operate,
    "ask": _ask,
    "send": _send,
    "never": _never,
    "answer": _answer,
    "lose": _lose,
    "callback": _callback,
    "repeat": _repeat,
    "crash": _crash,
    "compact": _compact,
    "set back": _set_back,
    "elsewhere": _spend_elsewhere,
}
_STEPS: Final = tuple(_DRAWN)
_WEIGHTS: Final = (5, 14, 8, 2, 1, 4, 2, 4, 1, 0.7, 0.7, 0.3, 0.5)
