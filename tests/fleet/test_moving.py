"""A journal that moves loses no usage and doubles none, whoever goes on writing to it, wherever the copy is stopped."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from moe_segments import (
    CallbackReceiver,
    Credentials,
    InputError,
    JournalError,
    JournalMoved,
    QuotaLimits,
    SegmentsClient,
)
from moe_segments.callbacks.receiver import token_digest
from moe_segments.core.events import Answered, ExternalUsage, Reserved
from moe_segments.journal import open_journal
from moe_segments.journal.checksum import checksum
from moe_segments.journal.replica import Replica
from moe_segments.journal.sqlite.schema import MIGRATIONS
from moe_segments.journal.tools.migrate import cancel_copy, copy_journal
from moe_segments.journal.tools.replay import folded
from moe_segments.models import JobState
from moe_segments.models.urls import place_of
from moe_segments.sandbox import Sandbox
from tests.fleet.moves import EVERYTHING, TOKEN, empty_place, facts, filled, log_of, opened, reserved

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from moe_segments.core.events import Event
    from moe_segments.core.state.workspace import WorkspaceState
    from moe_segments.journal import Journal

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

ENGINES: Final = ("sqlite", "redis", "postgres")
WAYS: Final = [("sqlite", "redis"), ("redis", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite")]


@pytest.fixture
def scope() -> str:
    return f"W{secrets.token_hex(6)}@01"


# Everything is there


@pytest.mark.parametrize(("source", "target"), WAYS)
async def test_all_usage_and_every_job_arrives(source: str, target: str, scope: str, tmp_path: Path) -> None:
    old, new = empty_place(source, tmp_path), empty_place(target, tmp_path)
    await filled(old, scope)
    before = await log_of(old, scope)

    report = await copy_journal(old, new, scope)

    after = await log_of(new, scope)
    assert facts(after, report.postponed_us) == facts(before)
    state = folded(after)
    assert report.jobs == len(state.jobs.records) > 0
    assert state.barred is None
    assert state.jobs.tokens[TOKEN] == ("a", 1)
    assert state.jobs.runs["run"].jobs == ["a", "z"]
    assert (await log_of(old, scope))[: len(EVERYTHING)] == before  # and the log itself stays where it was


@pytest.mark.parametrize("keep_from", [0, 4])
@pytest.mark.parametrize(("source", "target"), WAYS[:3])
async def test_a_checkpoint_goes_along_with_what_is_kept_before_it(
    source: str, target: str, keep_from: int, scope: str, tmp_path: Path
) -> None:
    """What is gone is in the checkpoint alone, and the rest is folded on top of it."""
    old, new = empty_place(source, tmp_path), empty_place(target, tmp_path)
    await filled(old, scope, checkpoint_at=7, keep_from=keep_from)
    before = await log_of(old, scope)
    async with opened(old, scope) as journal:
        wanted = facts(await journal.read(0))  # as every client reads it

    report = await copy_journal(old, new, scope)
    after = await log_of(new, scope)

    assert before[0].version > 1
    assert facts(after, report.postponed_us) == wanted
    assert folded(after).barred is None


async def test_a_copy_of_a_copy_is_complete_and_stands_for_both(scope: str, tmp_path: Path) -> None:
    places = [empty_place(engine, tmp_path) for engine in ("sqlite", "redis", "sqlite")]
    await filled(places[0], scope, checkpoint_at=7)
    before = await log_of(places[0], scope)

    later_us = 0
    for old, new in itertools.pairwise(places):
        later_us += (await copy_journal(old, new, scope)).postponed_us

    last = await log_of(places[2], scope)
    assert len(folded(last).origins) == 2
    assert facts(last, later_us) == facts(before)


# Who goes on with the old place


@pytest.mark.parametrize("engine", ENGINES)
async def test_whoever_spends_while_it_moves_is_carried_over_or_refused(
    engine: str, scope: str, tmp_path: Path
) -> None:
    """Each grant is in the new place, once; after the move there is no grant at the old one."""
    old, new = empty_place(engine, tmp_path), empty_place("redis" if engine != "redis" else "postgres", tmp_path)
    await filled(old, scope)
    granted: list[str] = []
    ready = asyncio.Event()

    async def spend(number: int) -> None:
        async with opened(old, scope) as journal:
            replica = Replica(journal, QuotaLimits())
            await replica.open()
            with pytest.raises(JournalMoved):
                await spend_on(replica, number)

    async def spend_on(replica: Replica, number: int) -> None:
        for again in itertools.count():
            job = f"{number}.{again}"
            await replica.ask(partial(_one_more, job))
            granted.append(job)
            if len(granted) > 20:
                ready.set()

    spenders = [asyncio.create_task(spend(number)) for number in range(3)]
    await ready.wait()
    await copy_journal(old, new, scope)
    await asyncio.gather(*spenders)

    arrived = folded(await log_of(new, scope))
    assert sorted(job for job in arrived.jobs.records if "." in job) == sorted(granted)
    assert sum(row.partition("/")[0] in granted for row in arrived.ledger.rows) == len(granted)


def _one_more(job: str, state: WorkspaceState, now_us: int) -> tuple[Sequence[Event], None]:
    event = Reserved(job, 1, {"op": "archive", "name": job}, 1, 0, 0, (), 0, 0)
    state.try_reserve(event, now_us)
    return [event], None


async def test_a_client_of_the_old_place_is_told_where_to_go(scope: str, tmp_path: Path) -> None:
    """Its calls, its waiters, and whoever starts later; a callback is asked to come again."""
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    async with Sandbox(processing_s=(30.0, 30.0)) as sandbox, CallbackReceiver().serve() as receiver:
        scope = sandbox.credentials.scope
        (tmp_path / "users.csv").write_text("u-1\n")
        async with SegmentsClient(
            sandbox.credentials, journal=old, callbacks=receiver, base_url=sandbox.url, publish=sandbox.publish
        ) as client:
            job = await client.create_file_segment(
                name="diwali", attribute_name="ID", attribute_type="string", file=tmp_path / "users.csv", expiry_time=9
            )
            waiting = asyncio.create_task(job.result(timeout=30))
            await asyncio.sleep(0)
            await copy_journal(old, new, scope)

            with pytest.raises(JournalMoved, match="redis://127"):
                await waiting
            with pytest.raises(JournalMoved):
                await client.governor.usage()
            with pytest.raises(JournalMoved):
                await client.governor.observe_active_segments(3)
            with pytest.raises(JournalMoved):
                await client.archive_segment(name="x")
            reply = await receiver.decide(scope, "any-token", "POST", None, b"{}")
            assert reply.status == 404
        with pytest.raises(JournalMoved):
            await SegmentsClient(sandbox.credentials, journal=old, base_url=sandbox.url).__aenter__()
        alone = CallbackReceiver("http://127.0.0.1/moe", journal=old, scopes=[scope])
        with pytest.raises(JournalMoved):
            await alone.__aenter__()
        async with SegmentsClient(sandbox.credentials, journal=new, base_url=sandbox.url) as client:
            assert client.job(job.id).state == JobState.ACCEPTED


async def test_a_callback_at_the_old_place_is_asked_to_come_again(scope: str, tmp_path: Path) -> None:
    """Its receiver may not have looked since the move: 503, and the new place's receiver takes it in."""
    old, new = empty_place("sqlite", tmp_path), empty_place("postgres", tmp_path)
    async with opened(old, scope) as journal:
        event = reserved("a")
        token = "secret-token"
        await journal.append([attrs.evolve(event, token_sha256=token_digest(token))], batch_id="r")
    body = (
        b'{"segment_name":"a","request_id":"r1","status":201,"values_found":1,"values_processed":1,"user_count":1,'
        b'"db_name":"d"}'
    )
    async with CallbackReceiver("http://127.0.0.1/moe", journal=old, scopes=[scope]) as before:
        await copy_journal(old, new, scope)
        assert (await before.decide(scope, token, "POST", None, body)).status == 503
    async with CallbackReceiver("http://127.0.0.1/moe", journal=new, scopes=[scope]) as now:
        assert (await now.decide(scope, token, "POST", None, body)).status == 200
    assert folded(await log_of(new, scope)).jobs.records["a"].state == JobState.PROCESSED


async def test_a_send_under_way_is_waited_for_and_its_outcome_carried_over(scope: str, tmp_path: Path) -> None:
    old, new = empty_place("redis", tmp_path), empty_place("sqlite", tmp_path)
    told: list[str] = []
    async with opened(old, scope) as journal:
        await journal.append([reserved("sending", attempt_us=50_000_000)], batch_id="r")
        replica = Replica(journal, QuotaLimits())
        await replica.open()
        copying = asyncio.create_task(copy_journal(old, new, scope, tell=told.append))
        while not told and not copying.done():
            await asyncio.sleep(0.01)
        await replica.record(Answered("sending", 1, 202, accepted={"cs_name": "sending"}))
        report = await asyncio.wait_for(copying, 40)

    assert report.left == 0
    assert folded(await log_of(new, scope)).jobs.records["sending"].accepted == {"cs_name": "sending"}


async def test_an_outcome_that_comes_too_late_is_carried_over_by_another_run(scope: str, tmp_path: Path) -> None:
    """Its process had stalled. It ends by the new place's later time, so that nothing is free too early."""
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    async with opened(old, scope) as journal:
        await journal.append([reserved("stalled")], batch_id="r")
        replica = Replica(journal, QuotaLimits())
        await replica.open()
        await copy_journal(old, new, scope)
        async with opened(new, scope) as used:
            await used.append([ExternalUsage(1)], batch_id="used")
        await replica.record(Answered("stalled", 1, 202, accepted={"cs_name": "stalled"}))

    first, second = [await copy_journal(old, new, scope) for _ in range(2)]

    assert (first.was_complete, first.late, second.late) == (True, 1, 0)
    log = await log_of(new, scope)
    assert folded(log).jobs.records["stalled"].state == JobState.ACCEPTED
    assert [batch.at_us for batch in log] == sorted(batch.at_us for batch in log)


# Stopped anywhere


class Stopped(Exception):
    """The process ends here."""


class StoppingJournal:
    """A journal whose process ends with one of the calls to it, before it is made or after."""

    def __init__(self, journal: Journal, countdown: list[int], *, is_after: bool) -> None:
        self._journal, self._countdown, self._is_after = journal, countdown, is_after

    def __getattr__(self, name: str) -> object:
        value = getattr(self._journal, name)
        return self._counted(value) if name in ("transact", "append", "read", "changed") else value

    def _counted(self, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def counted(*args: object, **named: object) -> object:
            self._countdown[0] -= 1
            if self._countdown[0] == 0 and not self._is_after:
                raise Stopped
            answer = await call(*args, **named)
            if self._countdown[0] == 0:
                raise Stopped
            return answer

        return counted


@pytest.mark.parametrize("end", ["before", "after"])
@pytest.mark.parametrize(("source", "target"), WAYS[:3])
async def test_a_copy_that_is_stopped_anywhere_starts_again_and_ends_the_same(
    source: str, target: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never can anybody decide at both places, and until it is complete at neither."""
    countdown = [0]
    monkeypatch.setattr(
        "moe_segments.journal.tools.migrate.open_journal",
        lambda *args, **named: StoppingJournal(open_journal(*args, **named), countdown, is_after=end == "after"),
    )
    for stop_at in itertools.count(1):
        old, new = empty_place(source, tmp_path), empty_place(target, tmp_path)
        scope = f"W{secrets.token_hex(6)}@01"
        await filled(old, scope, checkpoint_at=7, keep_from=4)
        before = await log_of(old, scope)
        countdown[0] = stop_at
        try:
            report = await copy_journal(old, new, scope)
        except Stopped:
            states = [folded(await log_of(place, scope)) for place in (old, new)]
            assert states[1].barred or (states[1].origins if states[0].barred else states[1].version == 0)
            countdown[0] = 0
            report = await copy_journal(old, new, scope)
        else:
            break
        assert facts(await log_of(new, scope), report.postponed_us, exact=not report.was_complete) == facts(
            before, exact=not report.was_complete
        )
        assert folded(await log_of(old, scope)).barred
        assert folded(await log_of(new, scope)).barred is None
    assert stop_at > 8


async def test_a_copy_that_was_not_completed_is_called_off(scope: str, tmp_path: Path) -> None:
    """The old place goes on, the new one stays barred; a later copy goes on from there."""
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    await filled(old, scope)
    async with opened(old, scope) as journal:
        await journal.append([reserved("sending", attempt_us=50_000_000)], batch_id="r")
    told: list[str] = []
    copying = asyncio.create_task(copy_journal(old, new, scope, tell=told.append))
    while not told:  # that it waits for that send
        assert not copying.done()
        await asyncio.sleep(0.01)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying

    await cancel_copy(old, new, scope)

    assert folded(await log_of(old, scope)).barred is None
    assert folded(await log_of(new, scope)).barred is not None
    async with opened(old, scope) as journal:
        await journal.append([Answered("sending", 1, 202, accepted={})], batch_id="later")
    before = await log_of(old, scope)
    report = await copy_journal(old, new, scope)
    assert facts(await log_of(new, scope), report.postponed_us) == facts(before)


@pytest.mark.parametrize("outcome", ["comes", "is lost"])
async def test_of_a_copy_and_its_cancellation_at_once_one_gives_up(outcome: str, scope: str, tmp_path: Path) -> None:
    """Never are both places open, nor both closed for good."""
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    await filled(old, scope)
    told: list[str] = []
    async with opened(old, scope) as journal:
        await journal.append([reserved("sending", attempt_us=3_000_000)], batch_id="r")
        copying = asyncio.create_task(copy_journal(old, new, scope, tell=told.append))
        while not told and not copying.done():
            await asyncio.sleep(0.01)
        await cancel_copy(old, new, scope)
        if outcome == "comes":  # so that there is something to carry over, else only the end is left
            await journal.append([Answered("sending", 1, 202, accepted={})], batch_id="later")

        with pytest.raises(JournalError, match="cancelled"):
            await copying

    assert folded(await log_of(old, scope)).barred is None
    assert folded(await log_of(new, scope)).barred is not None


async def test_two_copies_at_the_same_time_make_one_journal(scope: str, tmp_path: Path) -> None:
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    await filled(old, scope, checkpoint_at=7, keep_from=4)
    before = await log_of(old, scope)

    await asyncio.gather(*(copy_journal(old, new, scope) for _ in range(2)), return_exceptions=True)
    await copy_journal(old, new, scope)

    after = await log_of(new, scope)
    assert folded(after).barred is None
    assert list(folded(after).jobs.records) == list(folded(before).jobs.records)


async def test_a_complete_copy_cannot_be_called_off(scope: str, tmp_path: Path) -> None:
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    await filled(old, scope)
    await copy_journal(old, new, scope)
    with pytest.raises(InputError, match="complete"):
        await cancel_copy(old, new, scope)
    assert folded(await log_of(old, scope)).barred is not None


# What is refused, before anything is changed


async def test_a_place_that_holds_a_journal_is_refused(scope: str, tmp_path: Path) -> None:
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    await filled(old, scope)
    await filled(new, scope)
    before = await log_of(new, scope)

    with pytest.raises(InputError, match="holds a journal of this workspace already"):
        await copy_journal(old, new, scope)

    assert await log_of(new, scope) == before
    assert folded(await log_of(old, scope)).barred is None


async def test_a_journal_is_not_copied_onto_itself_nor_to_two_places(scope: str, tmp_path: Path) -> None:
    old, new, other = (empty_place(engine, tmp_path) for engine in ("sqlite", "redis", "sqlite"))
    await filled(old, scope)
    with pytest.raises(InputError, match="are one journal"):
        await copy_journal(old, old, scope)
    await copy_journal(old, new, scope)
    with pytest.raises(JournalMoved):
        await copy_journal(old, other, scope)


@pytest.mark.parametrize("url", ["memory:", "sqlite:////nowhere/at/all.db"])
async def test_what_is_no_journal_is_not_copied(url: str, scope: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        await copy_journal(url, empty_place("redis", tmp_path), scope)


async def test_a_journal_of_another_workspace_is_none(scope: str, tmp_path: Path) -> None:
    old = empty_place("sqlite", tmp_path)
    await filled(old, "somebody@01")
    with pytest.raises(InputError, match=f"no journal of {scope}"):
        await copy_journal(old, empty_place("redis", tmp_path), scope)


# Clocks and witnesses


@pytest.mark.parametrize("behind_s", [0, 600, -600])
async def test_no_quota_is_free_early_where_the_new_clock_is_ahead(behind_s: int, scope: str, tmp_path: Path) -> None:
    """What the old clock stamped ends as much later as that clock may be behind."""
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    async with opened(old, scope):
        pass
    with closing(sqlite3.connect(old.removeprefix("sqlite:///"))) as file, file:
        file.create_function("checksum_of", -1, checksum)
        file.execute("UPDATE scopes SET wall_us = wall_us - ?", (behind_s * 1_000_000,))
        file.execute(next(statement for statement in MIGRATIONS[1] if statement.startswith("UPDATE scopes")))
    await filled(old, scope)
    async with opened(old, scope) as journal:
        await journal.append([reserved("x"), Answered("x", 1, 202, accepted={})], batch_id="x")
    before = folded(await log_of(old, scope))

    report = await copy_journal(old, new, scope)

    after = folded(await log_of(new, scope))
    shift_us = report.postponed_us
    late_s = shift_us / 1_000_000 - max(0, behind_s)
    assert 0 <= late_s < 10
    assert list(after.ledger.operations.us) == [u_us + shift_us for u_us in before.ledger.operations.us]
    assert list(after.ledger.users.us) == [u_us + shift_us for u_us in before.ledger.users.us]
    ends = [lease.until_us for lease in before.ledger.active.leases.values()]
    assert [lease.until_us for lease in after.ledger.active.leases.values()] == [end and end + shift_us for end in ends]
    assert after.ledger.windows[1].throttled_until_us == before.ledger.windows[1].throttled_until_us + shift_us


@pytest.mark.parametrize("target", ENGINES)
async def test_no_hosts_witness_doubts_the_new_place(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each host has its own, and none of them ran the copy."""
    old, new = empty_place("sqlite", tmp_path), empty_place(target, tmp_path)
    hosts = [tmp_path / f"host-{number}" for number in range(2)]
    credentials = _somebody()
    for host in hosts:
        monkeypatch.setenv("XDG_STATE_HOME", str(host))
        async with SegmentsClient(credentials, journal=old) as client:
            await client.governor.record_external(operations=1)

    await copy_journal(old, new, credentials.scope)

    for host in hosts:
        monkeypatch.setenv("XDG_STATE_HOME", str(host))
        for _ in range(2):
            async with SegmentsClient(credentials, journal=new) as client:
                usage = (await client.governor.usage())["operations_per_hour"]
                assert (usage.used, usage.closed_until) == (2, None)


async def test_a_witness_that_saw_more_than_was_copied_goes_on_doubting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old journal had been put back from a backup before it was copied."""
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    file = Path(old.removeprefix("sqlite:///"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    credentials = _somebody()
    async with SegmentsClient(credentials, journal=old) as client:
        await client.governor.record_external(operations=1)
    shutil.copy(file, tmp_path / "backup.db")
    async with SegmentsClient(credentials, journal=old) as client:
        for _ in range(5):
            await client.governor.record_external(operations=1)
    _put_back(tmp_path / "backup.db", file)

    with pytest.raises(JournalError, match="put back to version"):
        await copy_journal(old, new, credentials.scope, state_dir=tmp_path / "host" / "moe_segments")
    await copy_journal(old, new, credentials.scope)  # on a host that knows nothing

    async with SegmentsClient(credentials, journal=new) as client:
        assert (await client.governor.usage())["operations_per_hour"].closed_until is not None


def _somebody() -> Credentials:
    return Credentials(workspace_id=f"W{secrets.token_hex(6)}", api_key="key", data_center="01")


def _put_back(backup: Path, file: Path) -> None:
    backup.replace(file)
    for witness in file.parent.glob("*.witness"):
        witness.unlink()


# What is shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:pw-canary@h:6379/0?timeout_s=5", "redis://h:6379/0"),
        ("rediss://:pw%2Fcanary@h/1", "rediss://h/1"),
        ("redis://u:pw/canary@h:6379/0", "redis://…"),
        ("redis://u:pw#canary@h:6379/0", "redis://…"),
        ("redis://u:pw?canary@h:6379/0", "redis://…"),
        ("redis://u:pw@canary@h:6379/0", "redis://h:6379/0"),
        ("redis+unix:///run/redis.sock?db=2", "redis+unix:///run/redis.sock?db=2"),
        ("postgresql://u:pw-canary@h/db?schema=q&password=canary", "postgresql://h/db?schema=q"),
        ("postgresql://u@/db?host=/tmp&sslpassword=canary", "postgresql:///db?host=/tmp"),
        ("memory:", "memory:"),
    ],
)
async def test_a_place_is_shown_without_secrets(url: str, shown: str) -> None:
    assert place_of(url) == shown


async def test_no_password_is_written_into_either_journal(scope: str, tmp_path: Path) -> None:
    old, new = empty_place("sqlite", tmp_path), empty_place("redis", tmp_path)
    await filled(old, scope)
    secret = new.replace("redis://", "redis://default:canary-password@")

    report = await copy_journal(old, secret, scope)  # the server asks this user for none

    with pytest.raises(JournalMoved) as caught:
        await copy_journal(old, empty_place("sqlite", tmp_path), scope)
    shown = [str(caught.value), repr(caught.value), repr(report)]
    assert "canary-password" not in repr([*shown, *[await log_of(place, scope) for place in (old, new)]])
