"""What a client and a receiver tell of their work: the story of an operation, as events and as log records."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from moe_segments import (
    AddUsers,
    CallbackReceiver,
    CreateFileSegment,
    Credentials,
    JournalUnavailable,
    OutcomeUnknown,
    QuotaExceeded,
    SegmentsClient,
    TooManyRequests,
    events,
)
from moe_segments.journal.memory import MemoryJournal
from moe_segments.sandbox import FaultKind, Sandbox
from moe_segments.testing import journal_clock
from tests.live.virtual_world import client_of, stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from moe_segments.events import Event

E = TypeVar("E")
ROOT = Path(__file__).parents[2]
FIELDS: dict[str, Any] = {"attribute_name": "ID", "attribute_type": "string"}
VALUE = "canary-value-9f2"


@pytest.fixture
def told() -> list[Event]:
    """Everything that was told, in order."""
    return []


def of(told: Sequence[Event], kind: type[E]) -> list[E]:
    return [event for event in told if isinstance(event, kind)]


def names(told: Sequence[Event], job: str | None = None) -> list[str]:
    return [event.name for event in told if job is None or getattr(event, "job", None) == job]


@asynccontextmanager
async def world(told: list[Event] | None = None, **options: Any) -> AsyncIterator[tuple[Sandbox, SegmentsClient]]:
    """A sandbox at the documented limits and a client with a receiver, in virtual time."""
    async with stage() as (sandbox, receiver):
        options = {"callbacks": receiver, "on_event": None if told is None else told.append, **options}
        async with client_of(sandbox, **options) as client:
            yield sandbox, client


def create(name: str, **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(**(FIELDS | {"name": name, "values": [VALUE, "u-2"], "expiry_time": 30} | fields))


@pytest.mark.virtual_time
async def test_an_operation_tells_its_whole_life_in_order_with_how_long_each_part_took(told: list[Event]) -> None:
    async with world(told) as (_, client):
        job = await client.submit(create("vip"))
        await job.result(timeout=600)

    assert names(told, job.id)[:5] == ["submitted", "reserved", "sent", "answered", "accepted"]
    assert sorted(names(told, job.id)[5:]) == ["callback_stored", "processed"]
    assert {(event.scope, event.operation, event.segment) for event in of(told, events.OperationEvent)} == {
        (client.scope, "create", "vip")
    }
    (processed,), (stored,) = of(told, events.Processed), of(told, events.CallbackStored)
    assert (processed.values_found, processed.values_processed, processed.user_count) == (2, 2, 2)
    assert processed.took_s is not None
    assert stored.delay_s is not None
    assert 30 <= stored.delay_s <= processed.took_s + 1 <= 35
    (accepted,) = of(told, events.Accepted)
    assert accepted.cs_id == job.accepted.cs_id if job.accepted else False


@pytest.mark.virtual_time
async def test_a_client_that_nobody_listens_to_tells_at_info_what_was_refused_and_when_it_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Twelve creates of which two are refused: the log of an embedded client shows it, without a line of its user's."""
    with caplog.at_level(logging.INFO, "moe_segments"):
        async with world() as (_, client):
            ended = await asyncio.gather(
                *(client.submit(create(f"s{number}")) for number in range(12)), return_exceptions=True
            )
            for job in ended:
                if not isinstance(job, BaseException):
                    await job.result(timeout=600)

    assert sum(isinstance(one, QuotaExceeded) for one in ended) == 2
    ours = [record for record in caplog.records if record.name == "moe_segments.client"]
    counts = {name: sum(vars(record)["moe_event"] == name for record in ours) for name in ("accepted", "processed")}
    assert counts == {"accepted": 10, "processed": 10}
    refused = [record for record in ours if vars(record)["moe_event"] == "refused"]
    assert len(refused) == 2
    for record in refused:
        assert record.levelno == logging.INFO
        assert "operations_per_hour: 10 of 10 used and 1 asked for; fits at 2025-12-01 01:" in record.getMessage()
        assert vars(record)["moe_limit"] == "operations_per_hour"
        assert 3_000 < vars(record)["moe_wait_s"] < 3_700


@pytest.mark.virtual_time
@pytest.mark.parametrize("max_wait_s", [math.inf, 86_400.0])
async def test_who_waits_for_quota_is_told_with_the_moment_of_its_start(
    max_wait_s: float, told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """And the moment comes true."""
    with caplog.at_level(logging.INFO, "moe_segments"):
        async with world(told) as (_, client):
            await asyncio.gather(*(client.submit(create(f"s{number}"), max_wait_s=max_wait_s) for number in range(12)))

    waiting = of(told, events.Waiting)
    assert len(waiting) == 2
    starts = {event.job: event for event in of(told, events.Reserved)}
    for event in waiting:
        assert (event.limit, event.behind) == ("operations_per_hour", None)
        assert event.wait_s is not None
        assert abs(starts[event.job].waited_s - event.wait_s) < 5
    lines = [record.getMessage() for record in caplog.records if record.name == "moe_segments.governor"]
    assert (
        len([line for line in lines if "waits for operations_per_hour; it will start at 2025-12-01 01:" in line]) == 2
    )


@pytest.mark.virtual_time
async def test_who_waits_for_its_segment_is_told_which_job_keeps_it_busy(told: list[Event]) -> None:
    async with world(told) as (_, client):
        first = await client.submit(create("vip"))
        await client.submit(AddUsers(**FIELDS, name="vip", values=["u-3"]), max_wait_s=600)

    (waiting,) = of(told, events.Waiting)
    assert (waiting.operation, waiting.segment, waiting.behind, waiting.limit) == ("add", "vip", first.id, None)


@pytest.mark.virtual_time
async def test_who_would_not_wait_is_refused_and_not_told_to_wait(told: list[Event]) -> None:
    async with world(told) as (_, client):
        await asyncio.gather(*(client.submit(create(f"s{number}")) for number in range(10)))
        for max_wait_s in (0, 60):
            with pytest.raises(QuotaExceeded):
                await client.submit(create("late"), max_wait_s=max_wait_s)
        await asyncio.sleep(10)

    assert of(told, events.Waiting) == []
    assert [event.error for event in of(told, events.Refused)] == ["QuotaExceeded"] * 2


@pytest.mark.virtual_time
async def test_who_has_left_before_it_could_be_told_to_wait_is_not_told(told: list[Event]) -> None:
    """They are told once a second, all together; a wait that is over by then was none."""
    async with world(told) as (_, client):
        await asyncio.gather(*(client.submit(create(f"s{number}")) for number in range(10)))
        stays = asyncio.create_task(client.submit(create("stays"), max_wait_s=math.inf))
        await asyncio.sleep(0.2)
        leaves = asyncio.create_task(client.submit(create("leaves"), max_wait_s=math.inf))
        await asyncio.sleep(0.3)
        leaves.cancel()
        await asyncio.sleep(5)
        stays.cancel()
        await asyncio.gather(stays, leaves, return_exceptions=True)

    assert [event.segment for event in of(told, events.Waiting)] == ["stays"]


@pytest.mark.virtual_time
async def test_a_lost_answer_is_an_unknown_outcome_that_its_callback_ends(
    told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    async with world(told) as (sandbox, client):
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.submit(create("vip"))
        await client.job(caught.value.job_id).result(timeout=600)

    mine = names(told, caught.value.job_id)
    assert mine.index("unknown") < mine.index("processed")
    assert "answered" not in mine
    assert [event.adopted for event in of(told, events.Accepted)] == [True]  # the service's list shows it
    (record,) = [record for record in caplog.records if vars(record).get("moe_event") == "unknown"]
    assert record.levelno == logging.WARNING


@pytest.mark.virtual_time
async def test_a_429_although_we_admitted_is_a_warning_told_once(
    told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else spent the hour: `Throttled` says until when, and its end is a refusal with status 429."""
    async with world(told) as (sandbox, client):
        async with client_of(sandbox) as other:
            await asyncio.gather(*(other.submit(create(f"o{number}")) for number in range(10)))
        with caplog.at_level(logging.INFO, "moe_segments"), pytest.raises(TooManyRequests):
            await client.submit(create("vip"))

    (throttled,), (refused,) = of(told, events.Throttled), of(told, events.Refused)
    assert throttled.limit == "operations_per_hour"
    assert throttled.wait_s is not None
    assert throttled.wait_s > 0
    assert (refused.status, refused.error) == (429, "TooManyRequests")
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [vars(record)["moe_event"] for record in warned] == ["throttled"]
    assert [record for record in caplog.records if vars(record).get("moe_event") == "refused"] == []


@pytest.mark.virtual_time
async def test_a_send_that_is_repeated_is_told_with_its_pause(told: list[Event]) -> None:
    async with world(told) as (sandbox, client):
        sandbox.fail_next(FaultKind.SERVER_ERROR, status=503)
        await client.list_segments(max_wait_s=600)

    (retried,) = of(told, events.Retried)
    assert (retried.job, retried.operation, retried.reason) == (None, "list", "503")
    assert [event.status for event in of(told, events.Answered)] == [503, 200]


@pytest.mark.virtual_time
async def test_a_job_that_is_known_is_told_as_attached_and_nothing_is_sent(told: list[Event]) -> None:
    async with world(told) as (_, client):
        await client.submit(create("vip"), job_id="nightly-1")
        del told[:]
        await client.submit(create("vip"), job_id="nightly-1")

    assert [(event.name, getattr(event, "state", "")) for event in told] == [("attached", "accepted")]


@pytest.mark.virtual_time
async def test_a_bad_file_is_refused_with_the_name_of_its_error(told: list[Event], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(f"u-1\n\n{VALUE}\n")
    async with world(told) as (_, client):
        with pytest.raises(Exception, match="MOE102"):
            await client.create_file_segment(name="vip", file=tmp_path / "bad.csv", expiry_time=30, **FIELDS)

    assert names(told) == ["submitted", "refused"]
    assert of(told, events.Refused)[0].error == "PreflightError"


@pytest.mark.virtual_time
async def test_a_caller_that_goes_away_before_its_turn_is_told_as_not_sent(told: list[Event]) -> None:
    async with world(told) as (_, client):
        await asyncio.gather(*(client.submit(create(f"s{number}")) for number in range(10)))
        waiting = asyncio.create_task(client.submit(create("late"), max_wait_s=math.inf))
        await asyncio.sleep(5)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    assert names(told)[-2:] == ["waiting", "not_sent"] or "not_sent" in names(told)
    assert [event.segment for event in of(told, events.NotSent)] == ["late"]


@pytest.mark.virtual_time
async def test_a_consumer_that_raises_costs_no_operation(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: Event) -> None:
        raise RuntimeError("the consumer's own mistake")

    async with world(on_event=fails) as (_, client):
        job = await client.submit(create("vip"))
        assert (await job.result(timeout=600)).user_count == 2

    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


@pytest.mark.virtual_time
async def test_a_read_tells_what_it_spends_and_is_no_job(told: list[Event]) -> None:
    async with world(told) as (_, client):
        await client.list_segments()

    assert [(event.name, getattr(event, "job", "")) for event in told] == [
        *(("reserved", None), ("sent", None), ("answered", None)),
    ]


@pytest.mark.virtual_time
async def test_no_event_and_no_record_holds_a_key_a_token_or_a_value(
    told: list[Event], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text(f"{VALUE}\n\n{VALUE}\n")
    key = "key-canary-77"
    with caplog.at_level(logging.DEBUG):
        async with (
            Sandbox(
                clock=lambda: journal_clock() / 1e6,
                credentials=Credentials(workspace_id="W1", api_key=key, data_center="03"),
            ) as sandbox,
            CallbackReceiver().serve(header_timeout_s=600, request_timeout_s=600, keep_alive_s=600) as receiver,
            SegmentsClient(
                sandbox.credentials,
                journal=MemoryJournal(clock=journal_clock),
                limits=sandbox.limits,
                base_url=sandbox.url,
                publish=sandbox.publish,
                callbacks=receiver,
                clock=asyncio.get_running_loop().time,
                on_event=told.append,
            ) as client,
        ):
            job = await client.submit(create("vip"))
            await job.result(timeout=600)
            with pytest.raises(Exception, match="MOE102"):
                await client.create_file_segment(name="x", file=tmp_path / "bad.csv", expiry_time=30, **FIELDS)
            addresses = [delivery.url for delivery in sandbox.workspace.deliveries]

    tokens = [address.rpartition("/")[2] for address in addresses]
    assert tokens
    shown = repr(told) + caplog.text + repr([vars(record) for record in caplog.records])
    assert [secret for secret in (key, VALUE, *tokens) if secret in shown] == []


# Other processes


@pytest.mark.asyncio
async def test_a_receiver_alone_tells_of_callbacks_and_the_client_hears_of_them_by_the_journal(
    told: list[Event], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a receiver in another process: both have the journal, and nothing else, in common."""
    heard: list[Event] = []
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as sandbox:
        receiver = CallbackReceiver(
            journal=journal, scopes=[sandbox.credentials.scope], limits=sandbox.limits, on_event=heard.append
        )
        with caplog.at_level(logging.INFO, "moe_segments"):
            async with receiver.serve():
                async with SegmentsClient(
                    sandbox.credentials,
                    journal=journal,
                    callbacks=receiver.public_url,
                    limits=sandbox.limits,
                    base_url=sandbox.url,
                    publish=sandbox.publish,
                    poll_s=0.02,
                    on_event=told.append,
                ) as client:
                    job = await client.submit(create("vip"))
                    await job.result(timeout=10)

    assert names(heard) == ["callback_stored"]
    assert (of(heard, events.CallbackStored)[0].outcome, of(heard, events.CallbackStored)[0].job) == (
        *("processed", job.id),
    )
    assert {"accepted", "processed"} <= set(names(told, job.id))  # in either order, as the service is quick
    assert "callback_stored" not in names(told)
    lines = [record.getMessage() for record in caplog.records if record.name == "moe_segments.receiver"]
    assert lines[1:] == [f"job {job.id}: create of 'vip': a callback came: processed"]


@pytest.mark.asyncio
async def test_a_client_that_takes_up_a_job_tells_how_it_ended(tmp_path: Path, told: list[Event]) -> None:
    """A worker that was restarted waits for a job of the one before it: that is its news, too."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as sandbox:
        sandbox.fail_next(FaultKind.LATE_CALLBACK)
        receiver = CallbackReceiver(journal=journal, scopes=[sandbox.credentials.scope], limits=sandbox.limits)
        options: dict[str, Any] = {
            "journal": journal,
            "limits": sandbox.limits,
            "base_url": sandbox.url,
            "publish": sandbox.publish,
            "poll_s": 0.02,
        }
        async with receiver.serve():
            async with SegmentsClient(sandbox.credentials, callbacks=receiver.public_url, **options) as client:
                job = await client.submit(create("vip"))
            async with SegmentsClient(sandbox.credentials, on_event=told.append, **options) as client:
                await client.job(job.id).result(timeout=20)

    assert names(told) == ["processed"]


@pytest.mark.asyncio
async def test_a_client_tells_nothing_of_the_jobs_of_others(tmp_path: Path, told: list[Event]) -> None:
    """Else the sum over a fleet would count each result as often as there are workers."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as sandbox, CallbackReceiver().serve() as receiver:
        options: dict[str, Any] = {
            "journal": journal,
            "limits": sandbox.limits,
            "base_url": sandbox.url,
            "publish": sandbox.publish,
            "poll_s": 0.02,
        }
        async with (
            SegmentsClient(sandbox.credentials, callbacks=receiver, **options) as other,
            SegmentsClient(sandbox.credentials, on_event=told.append, **options) as client,
        ):
            job = await other.submit(create("vip"))
            await job.result(timeout=20)
            await client.job(job.id).refresh()
            assert client.job(job.id).state == "processed"

    assert told == []


# The journal


class AwayJournal(MemoryJournal):
    """A journal in memory that can be away."""

    is_away = False

    async def append(self, *arguments: Any, **options: Any) -> Any:
        if self.is_away:
            raise JournalUnavailable("it is away")
        return await super().append(*arguments, **options)

    async def transact(self, *arguments: Any, **options: Any) -> Any:
        if self.is_away:
            raise JournalUnavailable("it is away")
        return await super().transact(*arguments, **options)


@pytest.mark.virtual_time
async def test_an_outage_of_the_journal_is_told_and_so_is_its_end(told: list[Event]) -> None:
    journal = AwayJournal(clock=journal_clock)
    async with world(told, journal=journal) as (_, client):
        journal.is_away = True
        waiting = asyncio.create_task(client.submit(create("vip"), max_wait_s=600))
        await asyncio.sleep(5)
        journal.is_away = False
        await waiting

    assert names(told).count("journal_unavailable") == 1
    assert names(told).count("journal_available") == 1
    assert names(told).index("journal_available") < names(told).index("accepted")


@pytest.mark.virtual_time
async def test_every_extra_of_a_record_can_be_written_as_json(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "moe_segments"):
        async with world() as (_, client):
            await asyncio.gather(*(client.submit(create(f"s{n}"), max_wait_s=math.inf) for n in range(11)))

    told = [{key: value for key, value in vars(record).items() if key.startswith("moe_")} for record in caplog.records]
    assert {one["moe_event"] for one in told if one} >= {"submitted", "reserved", "accepted", "waiting"}
    assert json.loads(json.dumps(told)) == told


@pytest.mark.virtual_time
async def test_a_refusal_that_no_time_will_end_has_no_wait(told: list[Event]) -> None:
    """Infinity is no number of JSON."""
    async with world(told) as (_, client):
        await client.governor.observe_active_segments(1_000)
        with pytest.raises(QuotaExceeded) as caught:
            await client.submit(create("vip"))

    assert caught.value.wait_s == math.inf
    assert [(event.limit, event.wait_s, event.ready_at) for event in of(told, events.Refused)] == [
        ("active_segments", None, None)
    ]


@pytest.mark.virtual_time
async def test_the_json_lines_of_the_page_are_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Its example is run as it stands there."""
    page = (ROOT / "docs" / "events.md").read_text("utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "JsonLines" in block]
    logger = logging.getLogger("moe_segments")
    before = logger.handlers[:], logger.level
    try:
        exec(compile(example, "events.md", "exec"), {})
        async with world() as (_, client):
            await (await client.submit(create("vip"))).result(timeout=600)
    finally:
        logger.handlers[:], level = before
        logger.setLevel(level)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (accepted,) = [line for line in lines if line.get("moe_event") == "accepted"]
    assert accepted.keys() >= {"time", "level", "logger", "message", "moe_job", "moe_operation", "moe_segment"}
    assert (accepted["level"], accepted["logger"]) == ("INFO", "moe_segments.client")
