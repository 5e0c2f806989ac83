"""A line that is too long for one step: what each step looks at, says and hands on to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from moe_segments.core.events import Claimed, KeyRejected, Reserved, Throttled, Unclaimed
from moe_segments.core.quota.decision import Cost
from moe_segments.core.state.admission import Round, admit
from moe_segments.core.state.verdicts import Admitted, Busy, Deferred
from moe_segments.core.state.waiting_line import Outlook
from tests.lines import EVER, LIMITS, Line, S, ask

if TYPE_CHECKING:
    from moe_segments.core.state.verdicts import Ask

PLACED: Final = 384  # how many get a place in the schedule in one step
NEWS: Final = 2_048  # how many are looked at for the first time in one step
WIDE: Final = attrs.evolve(LIMITS, operations_per_hour=10**6, operations_per_day=10**6)
HEAVY, LIGHT = Cost(1, 90), Cost(1)


class Long(Line):
    """A line of which the first wait for users, sixty of whom count until long after."""

    def __init__(self) -> None:
        super().__init__(WIDE)
        self.spent(1, "a", rows=60)
        self.outlook = Outlook()

    def step(self, at: float, asks: list[Ask], fresh_from: int = 0, **options: Any) -> Round:
        """The next step; the governor of these asks is called "me"."""
        given: dict[str, Any] = {"outlook": self.outlook, "for_us": EVER, "waiter": "me", **options}
        return admit(self.state, asks, round(at * S), fresh_from=fresh_from, **given)

    def left(self) -> list[str]:
        """Who is still to be looked at."""
        return [one.job for one in self.outlook.walk.line] if self.outlook.walk else []


def heavy(*numbers: int) -> list[Ask]:
    return [ask(f"h{number}", HEAVY) for number in numbers]


def claimed(job: str, waiter: str) -> Claimed:
    return Claimed(job, 1, 90, 0, EVER, waiter=waiter, keys=(f"s-{job}",))


def test_a_step_goes_on_with_those_who_still_wait_and_then_with_those_who_came_since() -> None:
    """Those who left meanwhile are left out, wherever they waited; claims come before those who have none yet."""
    line = Long()
    ours = [*heavy(*range(1_000)), ask("light", LIGHT)]
    line.tell(1, *(claimed(f"h{number}", "me") for number in range(400)))
    line.tell(1, claimed("theirs", "other"), claimed("ends", "other"))
    line.step(2, ours)
    rest = [f"h{number}" for number in range(PLACED, 400)] + ["theirs", "ends"]
    rest += [f"h{number}" for number in range(400, 1_000)] + ["light"]
    assert line.left() == rest
    line.tell(2, Unclaimed("ends"), Unclaimed("h390"), claimed("new", "other"), claimed("h391", "me"))
    ours = [one for one in ours if one.job not in ("h390", "h3", "h500")]
    step = line.step(2, [*ours, ask("fresh", HEAVY)], len(ours))
    expected = [job for job in [*rest, "new", "fresh"] if job not in ("ends", "h390", "h500")]
    assert (line.left(), step.is_done) == (expected[PLACED:], False)
    jobs = [*(one.job for one in ours), "fresh"]
    assert line.outlook.walk is not None
    positions = {one.job: one.position for one in line.outlook.walk.line}
    assert positions == {job: jobs.index(job) if job in jobs else None for job in expected[PLACED:]}


def walked(line: Long, asks: list[Ask], change: Any = None) -> tuple[list[str], list[str], list[bool]]:
    """Take all steps of one walk. Returns who was claimed and who left, in order, and which step was done."""
    claims, left, done, fresh_from = list[str](), list[str](), list[bool](), 0
    while not done or line.outlook.walk is not None:
        step = line.step(2, asks, fresh_from)
        fresh_from = max(step.verdicts, default=fresh_from - 1) + 1
        assert [asks[position].job for position in step.claimed] == [
            event.job for event in step.events if isinstance(event, Claimed)
        ]
        claims += [event.job for event in step.events if isinstance(event, Claimed)]
        left += [event.job for event in step.events if isinstance(event, Reserved)]
        done.append(step.is_done)
        line.state.take_back()
        line.tell(2, *(event for event in step.events if isinstance(event, Claimed)))
        if change is not None:
            line.tell(2, change)
            change = None
    return claims, left, done


def test_each_of_a_long_line_is_claimed_once() -> None:
    """As soon as it is known that it waits, whichever step that was; another's claim is nobody's of ours."""
    line = Long()
    line.tell(1, claimed("theirs", "other"))
    asks = heavy(*range(900))
    claims, left, done = walked(line, [*asks, ask("light", LIGHT), *heavy(900, 901)])
    assert (sorted(claims), left) == (sorted(one.job for one in [*asks, *heavy(900, 901)]), ["light"])
    assert done == [False, False, True]
    claims, left, done = walked(line, [*asks, ask("light", LIGHT), *heavy(900, 901)])
    assert (claims, left, done) == ([], ["light"], [False, False, True])


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        (None, False),
        (claimed("another", "other"), False),
        (Throttled("users_per_day", 3 * S), True),
        (KeyRejected("another key", 401), True),
    ],
)
def test_a_walk_during_which_something_changed_is_followed_by_another(change: Any, *, is_news: bool) -> None:
    """Whoever was looked at before it may leave now; a claim that is made behind changes nothing for them."""
    done = walked(Long(), [*heavy(*range(900)), ask("light", LIGHT)], change)[2]
    assert done == [False, False, not is_news]


def test_what_was_found_to_wake_somebody_is_kept_until_the_end() -> None:
    """In the first step of three: the start of the first who waits."""
    line, asks = Long(), [*heavy(*range(900)), ask("light", LIGHT)]
    assert line.step(40, asks).wake_us == 1_201 * S
    line.state.take_back()
    line.step(41, asks)
    line.state.take_back()
    assert line.step(42, asks).wake_us == 1_201 * S


def test_starts_are_told_in_the_order_of_the_line_a_part_in_each_step() -> None:
    """Nothing is said in a step of those whose start is not known yet, nor are they claimed."""
    line, asks, told = Long(), heavy(*range(900)), list[int]()
    while len(told) < len(asks):
        fresh = range(len(told), len(asks))
        step = line.step(2, asks, len(told), patience_us=dict.fromkeys(fresh, 10**12 * S))
        assert step.claimed == list(step.verdicts) == list(range(len(told), min(len(told) + PLACED, len(asks))))
        told += step.verdicts
        assert step.is_done is (len(told) == len(asks))
        starts = [verdict.start_us for verdict in step.verdicts.values() if isinstance(verdict, Deferred)]
        assert starts == [(1_201 + 1_000 * number) * S for number in step.verdicts]
        line.tell(2, *step.events)


def test_behind_one_whose_start_is_not_known_yet_only_what_waits_for_it_is_put_off() -> None:
    """Whoever never fits, is busy with its own segment or leaves is told at once."""
    line = Long()
    line.tell(1, Reserved("sent", 1, {"op": "add", "name": "t"}, 0, 0, 0, ("t",), 3 * S, 7 * S))
    asks = [*heavy(*range(400)), ask("large", Cost(1, 101)), ask("l", LIGHT), *heavy(400)]
    step = line.step(2, asks, patience_us=dict.fromkeys(range(len(asks)), 10**12 * S))
    told = [position for position in step.verdicts if position >= PLACED]
    assert not step.is_done
    assert all(not isinstance(step.verdicts[position], Deferred | Busy) for position in told)
    assert step.claimed == list(range(PLACED))


def test_a_step_grants_no_more_behind_somebody_than_the_journal_is_held_for() -> None:
    """With nobody ahead there is little to look at for each, and a step grants more."""
    line = Long()
    light = [ask(str(number), LIGHT) for number in range(600)]
    for ahead, most in (([], 512), (heavy(1), 48)):
        step = line.step(2, [*ahead, *light], outlook=Outlook())
        assert sum(isinstance(verdict, Admitted) for verdict in step.verdicts.values()) == most
        assert not step.is_done
        line.state.take_back()


def test_very_many_who_come_at_once_are_looked_at_in_parts() -> None:
    """Those for whom there is no room, so that there is little to say of each."""
    line, asks = Long(), heavy(*range(3_000))
    for first, last in ((0, NEWS), (NEWS, len(asks))):
        step = line.step(2, asks, first)
        assert list(step.verdicts) == step.claimed == list(range(first, last))
        assert step.is_done is (last == len(asks))
        line.tell(2, *step.events)
