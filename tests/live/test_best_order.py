"""`submit_many(order="best")` and its plan: what happens is what was planned, also when others spend meanwhile."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import random
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    CallbackReceiver,
    CreateFileSegment,
    Governor,
    InputError,
    JournalUnavailable,
    NameTaken,
    Outcome,
    PreflightError,
    QuotaLimits,
    QuotaNeverFits,
    ReplaceUsers,
    SegmentsClient,
)
from moe_segments.client.ordering import Planned, in_best_order
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import Sandbox
from moe_segments.testing import journal_clock, run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from moe_segments import Plan

FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}
HOUR_S: Final = 3_600.0
LARGE, MIDDLE, SMALL = 1_200_000, 700_000, 10_000


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test in a loop whose clock jumps and whose network is its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        run_virtually(functools.partial(test, **arguments), in_memory=True)

    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


LIMITS: Final = QuotaLimits(guard_s=0, callback_lowers_users=False)  # the files have one row, whatever is declared


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[Sandbox, SegmentsClient, str]]:
    """A sandbox, a client, and the URL of a file, without a wait anywhere but for the quotas."""
    sandbox = Sandbox(clock=now_s, processing_s=(0, 0))
    receiver = CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600)
    async with sandbox, receiver as callbacks:
        settings: dict[str, Any] = {
            "journal": MemoryJournal(clock=journal_clock),
            "limits": LIMITS,
            "base_url": sandbox.url,
            "callbacks": callbacks,
            "publish": sandbox.publish,
            "requests_per_s": 1_000,
            "clock": now_s,
            "preflight": "off",
        }
        with TemporaryDirectory() as directory:
            file = Path(directory) / "users.csv"
            file.write_text("u1\n")
            async with SegmentsClient(sandbox.credentials, **(settings | options)) as client:
                yield sandbox, client, await sandbox.publish(file)


def create(number: int, rows: int, url: str) -> CreateFileSegment:
    return CreateFileSegment(name=f"s{number:03}", file_url=url, rows=rows, expiry_time=30, **FIELDS)


def add(name: str, rows: int, url: str) -> AddUsers:
    return AddUsers(name=name, file_url=url, rows=rows, **FIELDS)


async def all_of(outcomes: AsyncIterator[Outcome]) -> list[Outcome]:
    return [outcome async for outcome in outcomes]


def accepted_s(sandbox: Sandbox) -> dict[str, list[float]]:
    """When each segment's operations were accepted."""
    found: dict[str, list[float]] = {}
    for submission in sandbox.workspace.submissions:
        found.setdefault(str(submission.ask.name), []).append(submission.accepted_at)
    return found


def last_s(plan: Plan) -> float:
    return max(start.wait_s for start in plan)


SIZES: Final = (MIDDLE, MIDDLE, LARGE, LARGE, MIDDLE, LARGE, SMALL, MIDDLE, LARGE)


@in_virtual_time
async def test_what_happens_is_what_was_planned() -> None:
    """A large and a middle one fill a day, two middle ones waste it: the order decides how many days it takes."""
    async with running() as (sandbox, client, url):
        operations = [create(number, rows, url) for number, rows in enumerate(SIZES)]
        given = await client.governor.plan(operations)
        best = await client.governor.plan(operations, order="best")
        began_s = now_s()
        outcomes = await all_of(client.submit_many(operations, order="best"))

        assert [outcome.error for outcome in outcomes] == [None] * len(operations)
        assert last_s(best) < last_s(given)
        real = {name: times[0] - began_s for name, times in accepted_s(sandbox).items()}
        assert real == pytest.approx({start.operation.name: start.wait_s for start in best}, abs=1.0)


@in_virtual_time
@pytest.mark.parametrize("seed", range(4))
async def test_runs_of_any_mix_happen_as_planned(seed: int) -> None:
    """Creates, adds to the same segments, archives, priorities: drawn at random."""
    chance = random.Random(seed)
    async with running() as (sandbox, client, url):
        for number in range(3):
            job = await client.submit(create(900 + number, 1, url), max_wait_s=math.inf)
            await job.result(timeout=60)
        operations: list[Any] = [ArchiveSegment(name="s900")]
        operations += [create(number, chance.choice((10, 400_000, LARGE)), url) for number in range(15)]
        operations += [add(f"s{chance.randrange(15):03}", chance.choice((5, MIDDLE)), url) for _ in range(8)]
        urgent = {id(one): chance.randrange(3) for one in operations}
        plan = await client.governor.plan(operations, order="best", priorities=[urgent[id(one)] for one in operations])
        began_s, before = now_s(), len(sandbox.workspace.submissions)
        outcomes = await all_of(client.submit_many(operations, order="best", priority=lambda one: urgent[id(one)]))

        assert [outcome.error for outcome in outcomes if outcome.error] == []
        planned: dict[str, list[float]] = {}
        for position in plan.order:
            planned.setdefault(str(plan[position].operation.name), []).append(plan[position].wait_s)
        planned.pop("s900")
        real: dict[str, list[float]] = {}
        for submission in sandbox.workspace.submissions[before:]:
            real.setdefault(str(submission.ask.name), []).append(submission.accepted_at - began_s)
        assert {name: sorted(times) for name, times in planned.items()} == {
            name: pytest.approx(times, abs=1.0) for name, times in real.items()
        }


@in_virtual_time
async def test_what_follows_another_on_its_segment_comes_into_line_behind_all_that_are_there() -> None:
    """Twelve creates, each with an add behind it, in the given order: all creates go before the first add."""
    async with running() as (sandbox, client, url):
        operations = [one for at in range(12) for one in (create(at, 10, url), add(f"s{at:03}", 10, url))]
        plan = await client.governor.plan(operations)
        began_s = now_s()
        await all_of(client.submit_many(operations))

    assert [start.wait_s for start in plan[::2]] == [0.0] * 10 + [HOUR_S] * 2
    assert [start.wait_s for start in plan[1::2]] == [HOUR_S] * 8 + [2 * HOUR_S] * 4
    real = accepted_s(sandbox)
    for at in range(12):
        planned = [start.wait_s for start in plan[2 * at : 2 * at + 2]]
        assert [time_s - began_s for time_s in real[f"s{at:03}"]] == pytest.approx(planned, abs=1.0)


@in_virtual_time
async def test_a_higher_priority_is_never_delayed_by_a_lower_one() -> None:
    """The urgent ones start as if the others were not there."""
    async with running() as (_, client, url):
        urgent = [create(number, LARGE, url) for number in range(3)]
        others = [create(100 + number, MIDDLE, url) for number in range(12)]
        alone = await client.governor.plan(urgent, order="best")
        plan = await client.governor.plan([*others, *urgent], order="best", priorities=[0] * 12 + [1] * 3)

        assert [start.wait_s for start in plan[12:]] == [start.wait_s for start in alone]


@in_virtual_time
async def test_the_rest_is_planned_anew_when_somebody_else_spends() -> None:
    """A colleague uploads in the dashboard: nothing is refused, nothing is lost, and the run goes on around it."""
    async with running() as (sandbox, client, url):
        operations = [create(number, rows, url) for number, rows in enumerate(SIZES)]
        coming = client.submit_many(operations, order="best")
        first = await anext(coming)
        await client.governor.record_external(operations=4, rows=1_500_000)
        sandbox.workspace.spend_elsewhere(operations=4, users=1_500_000)
        outcomes = [first, *await all_of(coming)]

        assert [outcome.error for outcome in outcomes] == [None] * len(operations)
        assert sandbox.workspace.rejections == 0


@in_virtual_time
async def test_quota_that_becomes_free_early_is_used() -> None:
    """The service found one row where 1.2 million were declared: the next one need not wait for tomorrow."""
    limits = QuotaLimits(guard_s=0)  # as documented: what a callback did not find is given back
    async with running(limits=limits) as (_, client, url):
        began_s = now_s()
        outcomes = await all_of(client.submit_many([create(number, LARGE, url) for number in range(5)], order="best"))

        assert [outcome.error for outcome in outcomes] == [None] * 5
        assert now_s() - began_s < HOUR_S


@in_virtual_time
async def test_what_cannot_be_planned_ends_with_its_own_error() -> None:
    """A used name, a file that is too large, a bad file: the others go on."""
    async with running(preflight="error") as (sandbox, client, url):
        await (await client.submit(create(1, 1, url))).result(timeout=60)
        operations = [
            create(1, 1, url),
            create(2, 3_000_000, url),
            create(3, 1, "https://127.0.0.1:9/x"),
            create(4, 1, url),
        ]
        outcomes = await all_of(client.submit_many(operations, order="best"))
        errors = {outcome.operation.name: type(outcome.error) for outcome in outcomes}

        assert errors == {"s001": NameTaken, "s002": QuotaNeverFits, "s003": PreflightError, "s004": type(None)}
        assert list(accepted_s(sandbox)) == ["s001", "s004"]


@in_virtual_time
async def test_a_wait_that_is_too_long_is_refused_at_once() -> None:
    """`max_wait_s` means the same in any order."""
    async with running() as (_, client, url):
        began_s = now_s()
        operations = [create(number, LARGE, url) for number in range(2)]
        outcomes = await all_of(client.submit_many(operations, order="best", max_wait_s=HOUR_S))

        assert sorted(type(outcome.error).__name__ for outcome in outcomes) == ["NoneType", "QuotaExceeded"]
        assert now_s() - began_s < HOUR_S


@in_virtual_time
async def test_impossible_orders_and_priorities_are_refused_before_anything_is_sent() -> None:
    """A replace before its create; a priority that is no number."""
    async with running() as (sandbox, client, url):
        backwards: list[Any] = [ReplaceUsers(name="s001", file_url=url, rows=1, **FIELDS), create(1, 1, url)]
        one: list[Any] = [create(1, 1, url)]
        with pytest.raises(InputError, match="create comes first"):
            await all_of(client.submit_many(backwards, order="best"))
        for wrong in (math.nan, math.inf, "high", None, True):
            say: Any = itertools.repeat(wrong).__next__
            with pytest.raises(InputError, match="priority"):
                await all_of(client.submit_many(one, order="best", priority=lambda _, say=say: say()))  # type: ignore[misc]
        for options in ({"order": "fastest"}, {"priority": lambda _: 1}, {"order": None}):
            with pytest.raises(InputError):
                client.submit_many(one, **options)

        assert not sandbox.workspace.submissions


def numbered(path: Path, count: int) -> Path:
    path.write_text("".join(f"u{number}\n" for number in range(count)))
    return path


SMALL_DAY: Final = attrs.evolve(LIMITS, users_per_day=1_000)


@in_virtual_time
@pytest.mark.parametrize("given", ["file", "values"])
async def test_what_does_not_fit_a_day_is_sent_in_parts(tmp_path: Path, given: str) -> None:
    """2,500 users at 1,000 a day: a create and two adds, told as one outcome."""
    source = numbered(tmp_path / "many.csv", 2_500)
    async with running(preflight="error", limits=SMALL_DAY) as (sandbox, client, url):
        fields: dict[str, Any] = {"file": source} if given == "file" else {"values": (f"u{n}" for n in range(2_500))}
        large = CreateFileSegment(name="large", expiry_time=30, **FIELDS, **fields)
        outcomes = await all_of(client.submit_many({"mine": large, "other": create(1, 1, url)}, order="best"))
        outcome = next(one for one in outcomes if one.operation is large)

        assert len(outcomes) == 2
        assert outcome.error is None
        assert outcome.result is not None
        assert outcome.result.values_found == 2_500  # type: ignore[union-attr]  # its callback came
        assert [part.operation.op for part in outcome.parts] == ["create", "add", "add"]
        assert [part.job.id for part in outcome.parts if part.job] == ["mine", "mine.2", "mine.3"]
        segment = next(one for one in sandbox.workspace.segments if one.name == "large")
        assert len(segment.members) == 2_500


@in_virtual_time
async def test_the_parts_are_those_of_the_file_as_it_was_when_it_was_checked(tmp_path: Path) -> None:
    """The file is written anew before the second part is sent, a day later."""
    source = numbered(tmp_path / "many.csv", 2_500)
    async with running(preflight="error", limits=SMALL_DAY) as (sandbox, client, _):
        rewritten = asyncio.get_running_loop().call_later(10 * HOUR_S, source.write_text, "other\n" * 2_500)
        large = CreateFileSegment(name="large", expiry_time=30, file=source, **FIELDS)
        (outcome,) = await all_of(client.submit_many([large], order="best"))

        assert (outcome.error, rewritten.when() < now_s()) == (None, True)
        segment = next(one for one in sandbox.workspace.segments if one.name == "large")
        assert len(segment.members) == 2_500
        assert "other" not in segment.members


@in_virtual_time
async def test_a_part_that_cannot_be_read_is_found_before_the_first_is_sent(tmp_path: Path) -> None:
    """No check was made that would have found it."""
    source = tmp_path / "many.csv"
    source.write_bytes(b"".join(b"u%d\n" % number for number in range(2_000)) + b"\xff\n")
    async with running(preflight="off", limits=SMALL_DAY) as (sandbox, client, _):
        large = CreateFileSegment(name="large", expiry_time=30, file=source, **FIELDS)
        (outcome,) = await all_of(client.submit_many([large], order="best"))

        assert isinstance(outcome.error, InputError)
        assert not outcome.parts
        assert not sandbox.workspace.submissions


@in_virtual_time
@pytest.mark.parametrize("rows", [1_500, 2_500, 9_000])
async def test_the_parts_are_those_of_the_file_whatever_was_declared(tmp_path: Path, rows: int) -> None:
    """No check was made: with too few rows declared those beyond were left out, in silence."""
    source = numbered(tmp_path / "many.csv", 2_500)
    async with running(preflight="off", limits=SMALL_DAY) as (sandbox, client, _):
        large = CreateFileSegment(name="large", expiry_time=30, file=source, rows=rows, **FIELDS)
        (outcome,) = await all_of(client.submit_many([large], order="best"))

        assert (outcome.error, len(outcome.parts)) == (None, 3)
        segment = next(one for one in sandbox.workspace.segments if one.name == "large")
        assert len(segment.members) == 2_500


@in_virtual_time
async def test_a_part_that_fails_is_the_error_of_the_whole(tmp_path: Path) -> None:
    """Nothing is added to a segment whose create did not go through."""
    source = numbered(tmp_path / "many.csv", 1_500)
    async with running(preflight="error", limits=SMALL_DAY) as (sandbox, client, _):
        sandbox.fail_next("fail_processing", status=None)
        large = CreateFileSegment(name="large", expiry_time=30, file=source, **FIELDS)
        (outcome,) = await all_of(client.submit_many([large], order="best"))

        assert outcome.error is not None
        assert outcome.result is None
        assert len(outcome.parts) == 2


@in_virtual_time
async def test_what_no_split_can_help_is_refused(tmp_path: Path) -> None:
    """A file at a URL cannot be cut here; and no segment holds more than five million users."""
    async with running() as (sandbox, client, url):
        operations = [create(1, 3_000_000, url), create(2, 6_000_000, url)]
        outcomes = await all_of(client.submit_many(operations, order="best"))

        assert {type(outcome.error) for outcome in outcomes} == {QuotaNeverFits}
        assert not sandbox.workspace.submissions


@in_virtual_time
async def test_closing_the_run_sends_nothing_more_and_leaves_no_file(tmp_path: Path) -> None:
    """Whoever stops in the middle keeps the quota of the rest."""
    source = numbered(tmp_path / "many.csv", 2_500)
    async with running(preflight="error", limits=SMALL_DAY) as (sandbox, client, _):
        large = CreateFileSegment(name="large", expiry_time=30, file=source, **FIELDS)
        small = CreateFileSegment(name="small", expiry_time=30, values=["u1"], **FIELDS)
        coming = client.submit_many([large, small], order="best")
        await anext(coming)
        await coming.aclose()  # type: ignore[attr-defined]  # a generator
        sent = len(sandbox.workspace.submissions)
        await asyncio.sleep(200 * HOUR_S)

        assert len(sandbox.workspace.submissions) == sent < 4


class Away:
    """A governor whose journal is away when it is asked for a plan the first time."""

    def __init__(self, governor: Governor) -> None:
        self._governor, self._is_away = governor, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._governor, name)

    async def plan(self, *given: Any, **options: Any) -> Plan:
        if self._is_away:
            self._is_away = False
            raise JournalUnavailable("the server is away")
        return await self._governor.plan(*given, **options)


@in_virtual_time
async def test_a_line_that_is_refused_while_the_journal_goes_away_is_told_all_the_same() -> None:
    """Each line has its outcome: the refused one is not forgotten with the plan that could not be made."""
    async with running() as (_, client, url):
        await (await client.submit(create(1, 1, url))).result(timeout=60)
        shaky: Any = SimpleNamespace(limits=LIMITS, governor=Away(client.governor))
        lines = [Planned(job_id=f"j{number}", operation=create(number, 1, url)) for number in (1, 2)]
        given = in_best_order(
            shaky, lines, max_wait_s=math.inf, changed=asyncio.Event(), following=list, others=client.governor.usage
        )
        found = {line.job_id: type(line.error) async for line in given}

    assert found == {"j1": NameTaken, "j2": type(None)}
