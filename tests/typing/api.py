"""Uses every public name as a user would. Not run: `mypy --strict` reads it, so that the types keep telling the truth.

`assert_type` states what users may rely on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

import aiohttp
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Mount

from moe_segments import (
    UNSET,
    Accepted,
    ActionFilter,
    AddUsers,
    Answer,
    AnswerShapeError,
    ApiError,
    ArchiveSegment,
    AttributeFilter,
    Audience,
    AudienceReport,
    AuthenticationFailed,
    BadRequest,
    CallbackReceiver,
    CallbackTimeout,
    CallbackUnreadable,
    CleanReport,
    Conflict,
    CreateFileSegment,
    CreateFilterSegment,
    Credentials,
    Evidence,
    FileFailed,
    FileFigures,
    FileProcessed,
    FileProcessingFailed,
    Filter,
    FilterGroup,
    Finding,
    FlushTimeout,
    Forbidden,
    Governor,
    InputError,
    Job,
    JobInfo,
    JobState,
    JournalAmbiguous,
    JournalError,
    JournalMoved,
    JournalReplaced,
    JournalUnavailable,
    LimitForecast,
    LimitUsage,
    Membership,
    MembershipStatus,
    MoeSegmentsError,
    NameTaken,
    NotFound,
    NotSent,
    NoUsersMatched,
    Outcome,
    OutcomeUnknown,
    Plan,
    PlannedStart,
    PreflightError,
    PreflightReport,
    PublishedFile,
    QuotaError,
    QuotaExceeded,
    QuotaLimits,
    QuotaNeverFits,
    RawFilter,
    RemoveUsers,
    ReplaceUsers,
    RunInfo,
    Segment,
    SegmentBusy,
    SegmentFilter,
    SegmentsClient,
    ServerError,
    SplitReport,
    SyncReport,
    TimeRange,
    TooManyRequests,
    UnarchiveSegment,
    UpdateFilterSegment,
    __version__,
    all_of,
    any_of,
    attribute,
    check_file,
    clean_file,
    did,
    did_not,
    events,
    in_segment,
    payload_from_json,
    publish,
    raw_filter,
    read_audiences,
    split_file,
)
from moe_segments.journal import tools
from moe_segments.telemetry.otel import OpenTelemetry
from moe_segments.telemetry.prometheus import PrometheusMetrics, write_textfile

FILE_URL = "https://files.example.com/diwali.csv"

assert_type(__version__, str)


# Opening


def credentials() -> Credentials:
    made = Credentials(workspace_id="W1", api_key="key", data_center="03", db_name=None)
    assert_type(made.scope, str)
    assert_type(made.base_url, str)
    assert_type(made.db_name, str | None)
    return made


def limits() -> QuotaLimits:
    raised = QuotaLimits(
        users_per_day=5_000_000,
        headroom={"operations_per_hour": 2},
        consumes={409: False},
    )
    assert_type(raised.operations_per_hour, int)
    assert_type(raised.headroom, Mapping[str, int])
    assert_type(raised.spends(409), bool)
    return assert_type(raised.scaled(60), QuotaLimits)


async def published_by_us(path: Path) -> str:
    return f"https://files.example.com/{path.name}"


async def opened_simply() -> None:
    async with SegmentsClient(credentials(), journal="sqlite:///quota.db") as client:
        assert_type(client, SegmentsClient)
        assert_type(client.governor, Governor)
        assert_type(client.limits, QuotaLimits)
        assert_type(client.scope, str)


async def opened_from_the_environment() -> None:
    async with SegmentsClient.from_env(journal="memory:", environ={"MOE_WORKSPACE_ID": "W1"}) as client:
        assert_type(client, SegmentsClient)


async def opened_from_a_file() -> None:
    client = SegmentsClient.from_env(
        config=Path("moe.toml"),
        profile="staging",
        users_per_day=2_500_000,
        headroom={"operations_per_hour": 2},
        proxy=None,
        trust_env=True,
        ca_file="company-ca.pem",
        preflight="warn",
    )
    assert_type(client, SegmentsClient)


async def opened_with_everything(session: aiohttp.ClientSession) -> None:
    client = SegmentsClient(
        credentials(),
        journal=None,
        callbacks="https://hooks.example.com/moe",
        limits=limits(),
        base_url="http://127.0.0.1:8080",
        requests_per_s=2,
        session=session,
        proxy="http://proxy.example.com:3128",
        publish=published_by_us,
        preflight="warn",
        raise_on_zero_users=False,
        on_lost_journal="trust",
        connect_timeout_s=5,
        read_timeout_s=10,
        total_timeout_s=20,
        max_attempts=3,
        content_type="text/csv",
        poll_s=0.5,
    )
    async with client:
        pass
    await client.aclose()


async def changed(client: SegmentsClient) -> None:
    vip = client.membership("vip", attribute_name="ID", attribute_type="string")
    assert_type(vip, Membership)
    client.membership(
        name="lapsed",
        attribute_name="score",
        attribute_type="double",
        expiry_time=30,
        max_age_s=3_600,
        priority=1,
        outbox=Path("changes.db"),
    )
    await vip.add("u1", 2, ("u3",))
    await vip.remove("u1")
    try:
        await vip.flushed(timeout=60)
    except FlushTimeout as late:
        assert_type(late.pending, int)
        assert_type(late.reason, str | None)
    assert_type(await vip.pending(), MembershipStatus)
    for status in await client.memberships():
        assert_type(status.lag_s, float)
        assert_type(status.oldest_at, datetime | None)


def publishing() -> tuple[SegmentsClient, SegmentsClient]:
    to_a_bucket = SegmentsClient(credentials(), publish="s3://bucket/prefix?region=eu-central-1")
    with_keys = functools.partial(publish, to="s3://bucket/prefix", options={"access_key_id": "…"})
    return to_a_bucket, SegmentsClient(credentials(), publish=with_keys)


async def published() -> None:
    there = await publish("more.csv", "gs://bucket/prefix", expires_s=86_400, sha256=None, max_bytes=1_000)
    assert_type(there, PublishedFile)
    assert_type(there.url, str)
    assert_type(there.expires_at, datetime | None)
    assert_type(there.key, str)
    assert_type(there.sha256, str)
    assert_type(there.uploaded, bool)


# One operation after another


async def created(client: SegmentsClient) -> None:
    job = await client.create_file_segment(
        name="diwali_2026",
        attribute_name="ID",
        attribute_type="string",
        file_url=FILE_URL,
        expiry_time=30,
        emails=["ops@example.com"],
        rows=48_210,
        preflight="warn",
        max_wait_s=math.inf,
    )
    assert_type(job, Job)
    assert_type(job.id, str)
    assert_type(job.state, str)
    assert_type(job.accepted, Accepted | None)
    assert_type(job.duplicate_possible, bool)
    done = await job.result(timeout=3_600, raise_on_zero_users=False)
    assert_type(done, FileProcessed)
    assert_type(job.figures, FileFigures)
    assert_type(job.figures.rows, int | None)
    assert_type(job.figures.lost, int | None)
    assert_type(job.figures.warnings, tuple[str, ...])
    assert_type(done.values_found, int)
    assert_type(done.user_count, int)
    assert_type(done.extra, Mapping[str, object])


async def updated(client: SegmentsClient) -> None:
    added = await client.add_users(
        name="diwali_2026", attribute_name="ID", attribute_type="string", file=Path("more.csv"), cs_id=None
    )
    assert_type(added, Job)
    removed = await client.remove_users(
        name="diwali_2026", attribute_name="ID", attribute_type="double", file="less.csv", max_wait_s=60
    )
    assert_type(removed, Job)
    replaced = await client.replace_users(
        name="diwali_2026",
        attribute_name="ID",
        attribute_type="string",
        file_url=FILE_URL,
        callback_url="https://example.com/told",
    )
    assert_type(replaced, Job)


async def archived(client: SegmentsClient) -> None:
    accepted = await client.archive_segment(name="diwali_2026", max_wait_s=10)
    assert_type(accepted, Accepted)
    assert_type(accepted.cs_id, str | None)
    assert_type(await client.unarchive_segment(name="diwali_2026", cs_id="65f0"), Accepted)


async def listed(client: SegmentsClient) -> None:
    found = await client.list_segments("diwali_2026")
    assert_type(found, tuple[Segment, ...])
    for segment in found:
        assert_type(segment.id, str)
        assert_type(segment.created_time, datetime | None)
    assert_type(await client.list_segments(), tuple[Segment, ...])


async def attached(client: SegmentsClient) -> None:
    job = client.job("0123456789abcdef")
    assert_type(job, Job)
    await job.refresh()
    if job.state in JobState.TERMINAL or job.state == JobState.ACCEPTED:
        assert_type(await job.result(), FileProcessed)


async def listed_jobs(client: SegmentsClient, yesterday: datetime) -> None:
    assert_type(client.jobs(), AsyncIterator[JobInfo])
    async for info in client.jobs(state={JobState.FAILED}, segment="diwali", run="r1", since=yesterday, limit=10):
        assert_type(info.id, str)
        assert_type(info.segment, str | None)
        assert_type(info.operation, Mapping[str, object])
        assert_type(info.since, datetime)
        assert_type(info.accepted, Accepted | None)
        assert_type(info.result, FileProcessed | FileFailed | None)
        assert_type(info.evidence, Evidence | None)
        assert_type(info.figures, FileFigures)
        assert_type(info.error, MoeSegmentsError | None)
        assert_type(client.job(info.id).info, JobInfo)
    async for run in client.runs(run="r1", since=yesterday, limit=1):
        assert_type(run, RunInfo)
        assert_type(run.counts, Mapping[str, int])
        assert_type(run.started, datetime)


# Many operations


def create() -> CreateFileSegment:
    return CreateFileSegment(
        name="diwali_2026",
        attribute_name="ID",
        attribute_type="string",
        file_url=FILE_URL,
        expiry_time=30,
        emails=("ops@example.com",),
        rows=48_210,
    )


def add() -> AddUsers:
    return AddUsers(name="diwali_2026", attribute_name="ID", attribute_type="string", file=Path("more.csv"), rows=10)


class _Fields(TypedDict):
    name: str
    attribute_name: str
    attribute_type: Literal["string", "double"]


async def values() -> AsyncIterator[str]:
    yield "u1"


async def users_as_values(client: SegmentsClient) -> None:
    fields: _Fields = {"name": "diwali_2026", "attribute_name": "ID", "attribute_type": "string"}
    await client.add_users(**fields, values=["u1", "u2"])
    await client.add_users(**fields, values=(str(number) for number in range(3)))
    await client.add_users(**fields, values=values())
    await client.replace_users(**fields, values=values)
    AddUsers(**fields, values=range(3))
    await check_file(values={"u1"})


async def audiences(client: SegmentsClient, path: Path) -> None:
    fields: _Fields = {"name": "lapsed", "attribute_name": "ID", "attribute_type": "string"}
    told = list[AudienceReport]()
    wanted = [*read_audiences(path, only=["vip"]), Audience(**fields, members=values, full_every_days=30)]
    report: SyncReport = await client.sync(wanted, on_report=told.append)
    assert_type(report["lapsed"].match_rate, float | None)
    for known in await client.audiences():
        assert_type(known.next_full_at, datetime | None)
        assert_type(known.match_rate, float | None)


def remove() -> RemoveUsers:
    return RemoveUsers(name="diwali_2026", attribute_name="ID", attribute_type="string", file_url=FILE_URL, cs_id="65")


def replace() -> ReplaceUsers:
    return ReplaceUsers(name="diwali_2026", attribute_name="ID", attribute_type="string", file_url=FILE_URL)


async def checked_before(client: SegmentsClient) -> None:
    report = await client.preflight(create())
    assert_type(report, PreflightReport)
    assert_type(report.ok, bool)
    await client.submit(create(), preflight="off")
    assert_type(client.publishes, bool)
    assert_type(await client.count_rows(create()), int)
    assert_type(report.only_too_large, bool)
    assert_type(payload_from_json("[]"), dict[str, Any])


async def of_a_journal(url: str, scope: str, since: datetime) -> None:
    assert_type(await tools.check(url, scope), tools.CheckReport)
    assert_type(await tools.copy_journal(url, "redis://quota.internal:6379/0", scope), tools.CopyReport)
    assert_type(await tools.origin_of(url, scope), str | None)
    async for entry in tools.read_log(url, scope, since=since, follow=True):
        assert_type(entry, tools.LogEntry)
        assert_type(entry.at, datetime)
        assert_type(entry.fields, Mapping[str, object])


async def submitted(client: SegmentsClient) -> None:
    assert_type(await client.submit(create(), max_wait_s=10, job_id="diwali", on_unknown="retry"), Job)
    assert_type(await client.submit(add()), Job)
    assert_type(await client.submit(remove()), Job)
    assert_type(await client.submit(replace()), Job)
    assert_type(await client.submit(ArchiveSegment(name="old")), Job)
    assert_type(await client.submit(UnarchiveSegment(name="old", cs_id="65")), Job)


async def submitted_together(client: SegmentsClient) -> None:
    outcomes = client.submit_many([create(), add()], concurrency=10, result_timeout_s=3_600)
    assert_type(outcomes, AsyncIterator[Outcome])
    async for outcome in outcomes:
        assert_type(outcome, Outcome)
        assert_type(outcome.job, Job | None)
        assert_type(outcome.result, FileProcessed | Accepted | None)
        assert_type(outcome.error, MoeSegmentsError | None)


async def submitted_by_name(client: SegmentsClient) -> None:
    operations: dict[str, CreateFileSegment | ArchiveSegment] = {"1": create(), "2": ArchiveSegment(name="old")}
    async for outcome in client.submit_many(operations):
        assert_type(outcome.operation.name, str)


async def submitted_as_they_come(client: SegmentsClient) -> None:
    async def coming() -> AsyncIterator[CreateFileSegment | AddUsers]:
        yield create()
        yield add()

    async for outcome in client.submit_many(coming(), max_wait_s=60, on_unknown="raise"):
        assert_type(outcome.job.id if outcome.job else None, str | None)


# Segments of filters


def filters() -> FilterGroup:
    city = attribute("city").is_in("Pune", "Delhi")
    assert_type(city, AttributeFilter)
    assert_type(~city, AttributeFilter)
    bought = did("Purchase").at_least(2).in_the_last(days=30).where(attribute("price").greater_than(10))
    assert_type(bought, ActionFilter)
    assert_type(did_not("Refund").within(TimeRange.on(date(2026, 8, 1), zone=UTC)), ActionFilter)
    assert_type(in_segment("64f0"), SegmentFilter)
    assert_type(raw_filter({"filter_type": "new"}), Filter)
    assert_type(any_of(city, bought), FilterGroup)
    assert_type(all_of(city, RawFilter({"filter_type": "new"})), FilterGroup)
    return assert_type(city & (bought | in_segment("64f0")), FilterGroup)


async def filter_segments(client: SegmentsClient) -> None:
    made = await client.create_filter_segment(name="buyers", included_filters=filters(), max_wait_s=math.inf)
    assert_type(made, Segment)
    assert_type(made.included_filters, FilterGroup | RawFilter | None)
    assert_type(made.updated_time, datetime | None)
    await client.create_filter_segment(payload={"name": "b", "included_filters": {}})
    await client.create_filter_segment(name="c", included_filters=[attribute("a").today(), {"filter_type": "new"}])
    await client.update_filter_segment(made.id, included_filters=filters(), name=UNSET, excluded_filters=None)
    assert_type(await client.get_segment(made.id, max_wait_s=math.inf), Segment)
    assert_type(await client.list_segments("b", max_wait_s=60), tuple[Segment, ...])
    await client.governor.plan([CreateFilterSegment(name="d", included_filters=filters()), ArchiveSegment(name="old")])


async def filter_values(client: SegmentsClient) -> None:
    job = await client.submit(CreateFilterSegment(name="b", included_filters=filters()))
    assert_type(job.segment, Segment | None)
    assert_type(job.evidence, Evidence | None)
    await client.submit(UpdateFilterSegment(cs_id="64f0", included_filters=filters()), on_unknown="retry")


# The governor


async def asked(governor: Governor) -> None:
    usage = await governor.usage()
    assert_type(usage, Mapping[str, LimitUsage])
    hour = usage["operations_per_hour"]
    assert_type(hour.remaining, int)
    assert_type(hour.next_release, datetime | None)
    assert_type(hour.closed_until, datetime | None)


async def in_the_best_order(client: SegmentsClient) -> None:
    async for outcome in client.submit_many([create()], order="best", priority=lambda operation: len(operation.name)):
        assert_type(outcome.parts, tuple[Outcome, ...])
    async for outcome in client.submit_many([create()], dry_run=True):
        assert_type(outcome.planned, PlannedStart | None)
        assert_type(outcome.doubts, tuple[str, ...])


async def planned(governor: Governor) -> None:
    plan = await governor.plan([create(), ArchiveSegment(name="old")])
    assert_type(plan, Plan)
    assert_type(list(plan), list[PlannedStart])
    assert_type(plan.all_sent_by, datetime | None)
    assert_type(plan.limits[0], LimitForecast)
    assert_type(plan.to_svg(), str)
    best = await governor.plan([create()], order="best", priorities=[2])
    assert_type(best.order, tuple[int, ...])
    assert_type(plan[0].start, datetime | None)
    assert_type(plan[0].limit, str | None)
    assert_type(plan[0].wait_s, float)


async def told(governor: Governor) -> None:
    await governor.record_external(operations=2, rows=1_000, at=datetime(2026, 8, 1, tzinfo=UTC))
    await governor.observe_active_segments(412)
    await governor.lift_quarantine(operations=10)
    assert_type(await governor.quarantine(), str | None)


# The receiver


async def received() -> None:
    receiver = CallbackReceiver(public_url="https://hooks.example.com/moe")
    assert_type(receiver.app, web.Application)
    Starlette(routes=[Mount("/moe", receiver.asgi)])
    assert_type(receiver.public_url, str | None)
    async with SegmentsClient(credentials(), callbacks=receiver) as client:
        await attached(client)
    async with CallbackReceiver().serve(port=0) as listening:
        assert_type(listening, CallbackReceiver)
        assert_type(listening.port, int | None)


def on_event(event: events.Event) -> None:
    match event:
        case events.Refused(limit=limit, wait_s=wait_s):
            assert_type(limit, str | None)
            assert_type(wait_s, float | None)
        case events.Waiting(starts_at=starts_at, job=job):
            assert_type(starts_at, datetime | None)
            assert_type(job, str | None)
        case events.CallbackStored(delay_s=delay_s):
            assert_type(delay_s, float | None)
        case events.MembershipLag(lag_s=lag_s, pending=pending):
            assert_type((lag_s, pending), tuple[float, int])
        case _:
            assert_type(event.scope, str)


async def observed() -> None:
    seen: list[events.Event] = []
    receiver = CallbackReceiver("https://hooks.example.com/moe", on_event=on_event, metrics=True)
    client = SegmentsClient(credentials(), callbacks=receiver, on_event=[on_event, seen.append])
    metrics = PrometheusMetrics()
    assert_type(metrics.watch(client).watch(receiver), PrometheusMetrics)
    assert_type(OpenTelemetry().watch(client), OpenTelemetry)
    async with client:
        stop = client.events.subscribe(on_event)
        stop()
        assert_type(await metrics.exposition(), tuple[str, bytes])
        await write_textfile(Path("moe.prom"), client)


async def received_elsewhere() -> None:
    receiver = CallbackReceiver(
        "https://hooks.example.com/moe", journal="sqlite:///quota.db", scopes=[credentials().scope], limits=limits()
    )
    async with receiver as entered:
        assert_type(entered, CallbackReceiver)


def read(callback: FileProcessed | FileFailed) -> str:
    match callback:
        case FileProcessed(user_count=users):
            return f"{assert_type(users, int)} users"
        case FileFailed(error_message=problem):
            return assert_type(problem, str)


def answered() -> int:
    answer = Answer(202, {"Content-Type": "application/json"}, b"{}")
    assert_type(answer.body, bytes)
    assert_type(answer.header("date"), str | None)
    return answer.status


# Errors, by whose move it is


def advice(error: MoeSegmentsError) -> str:  # noqa: C901, PLR0911, PLR0912 - one case an error
    match error:
        case NameTaken():
            return f"{assert_type(error.existing_cs_name, str)}: {assert_type(error.used_by, str)}"
        case InputError():
            return assert_type(error.field, str | None) or assert_type(error.problem, str)
        case PreflightError():
            return assert_type(error.source, str)
        case QuotaExceeded():
            assert_type(error.ready_at, datetime | None)
            return f"{error.limit}: {assert_type(error.wait_s, float):.0f} s"
        case QuotaNeverFits():
            return f"{assert_type(error.requested, int)} of {assert_type(error.capacity, int)}"
        case SegmentBusy():
            assert_type(error.ready_at, datetime)
            return error.job_id
        case QuotaError():
            return "wait"
        case NotSent():
            return assert_type(error.reason, str)
        case AnswerShapeError():
            return f"{assert_type(error.status, int)}: {assert_type(error.problem, str)}"
        case OutcomeUnknown():
            assert_type(error.status, int | None)
            assert_type(error.title, str | None)
            return assert_type(error.job_id, str)
        case ApiError():
            return refused(error)
        case NoUsersMatched():
            return f"{assert_type(error.segment_name, str)}: {assert_type(error.values_found, int)}"
        case FileProcessingFailed():
            assert_type(error.request_id, str | None)
            assert_type(error.db_name, str | None)
            return error.error_message
        case CallbackTimeout():
            return f"{error.job_id} after {assert_type(error.timeout_s, float)} s"
        case CallbackUnreadable():
            return f"{error.job_id}: {assert_type(error.reason, str)}"
        case JournalAmbiguous():
            return f"perhaps: {error.problem}"
        case JournalUnavailable():
            return f"later: {error.problem}"
        case JournalReplaced():
            return f"start the process again: {error.problem}"
        case JournalMoved():
            return f"start again with {assert_type(error.to, str)}"
        case JournalError():
            return assert_type(error.problem, str)
        case _:
            return str(error)


def refused(error: ApiError) -> str:
    assert_type(error.status, int)
    assert_type(error.details, Mapping[str, object])
    match error:
        case TooManyRequests():
            assert_type(error.ready_at, datetime | None)
            assert_type(error.wait_s, float)
            assert_type(error.actual_count, int | None)
            assert_type(error.allowed_count, int | None)
            return error.limit or "a quota"
        case Conflict():
            return assert_type(error.existing_cs_id, str | None) or "exists"
        case AuthenticationFailed() | Forbidden():
            return "look at the key"
        case BadRequest() | NotFound():
            return error.description or error.title
        case ServerError():
            return "later"
        case _:
            return str(error)


# Files


async def blocks() -> AsyncIterator[bytes]:
    yield b"a\n"


async def files() -> None:
    report = await check_file(
        Path("users.csv"), attribute_name="ID", attribute_type="double", strict=True, findings_per_rule=5
    )
    assert_type(report, PreflightReport)
    assert_type(report.ok, bool)
    assert_type(report.rows, int)
    assert_type(report.distinct_rows, int)
    assert_type(report.file_bytes, int)
    assert_type(report.sha256, str)
    assert_type(report.etag, str | None)
    assert_type(report.findings, tuple[Finding, ...])
    assert_type(report.errors, tuple[Finding, ...])
    assert_type(report.warnings, tuple[Finding, ...])
    assert_type(report.counts, Mapping[str, int])
    assert_type(report.as_text(mask=True), str)
    assert_type(report.as_json(), dict[str, object])
    finding = report.findings[0]
    assert_type(finding.code, str)
    assert_type(finding.line, int | None)
    assert_type(finding.other_line, int | None)
    assert_type(finding.row, str | None)
    await check_file(b"a\n")
    await check_file(FILE_URL)
    await check_file(FILE_URL, fetch_private=True)
    await check_file(FILE_URL, fetch_private="loopback")
    await check_file(blocks())
    cleaned = await clean_file(FILE_URL, "clean.csv", attribute_name="ID")
    assert_type(cleaned, CleanReport)
    assert_type(cleaned.changes, Mapping[str, int])
    parts = await split_file(cleaned.path, Path("parts"), max_rows=100)
    assert_type(parts, SplitReport)
    assert_type([part.path for part in parts.parts], list[Path])
