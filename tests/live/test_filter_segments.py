"""Filter segments and look-ups against the sandbox: real sockets, both documented dialects, every way to end."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from moe_segments import (
    AnswerShapeError,
    BadRequest,
    Conflict,
    CreateFilterSegment,
    Credentials,
    Evidence,
    FilterGroup,
    Forbidden,
    InputError,
    JobState,
    NotFound,
    NotSent,
    OutcomeUnknown,
    QuotaExceeded,
    QuotaLimits,
    RawFilter,
    Segment,
    SegmentBusy,
    SegmentsClient,
    TooManyRequests,
    UpdateFilterSegment,
    attribute,
    did,
    in_segment,
)
from moe_segments.client.client import replica_of
from moe_segments.core.wire.filter_segments import are_other_filters, filters_digest
from moe_segments.sandbox import Complexity, Dialect, FaultKind, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from moe_segments.models import FilterOperation

pytestmark = pytest.mark.asyncio

SPEED = 3_600.0  # an hour is a second
IN_PUNE = attribute("city").is_in("Pune", "Delhi")
BUYERS = IN_PUNE & did("Purchase").at_least(2).in_the_last(days=30)
PAYLOAD = {
    "name": "from_dashboard",
    "included_filters": {
        "filter_operator": "and",
        "filters": [
            {"filter_type": "user_affinity", "action_name": "Search", "value": [1, None]},
            {**IN_PUNE.to_payload(), "category": "Tracked Custom Attribute"},
        ],
    },
    "team": "growth",
}


@pytest_asyncio.fixture(params=["list", "object"])
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """The service as each of its pages has it: one segment as a list of one, and as itself."""
    dialect = () if request.param == "list" else (Dialect.V3_OBJECT,)
    async with Sandbox(speed=SPEED, processing_s=(0, 0), dialect=dialect) as running:
        yield running


@asynccontextmanager
async def client_on(sandbox: Sandbox, **options: Any) -> AsyncIterator[SegmentsClient]:
    settings: dict[str, Any] = {
        "journal": "memory:",
        "limits": sandbox.limits,
        "base_url": sandbox.url,
        "requests_per_s": 500,
        "poll_s": 0.02,
    }
    async with SegmentsClient(sandbox.credentials, **(settings | options)) as client:
        yield client


async def test_a_filter_segment_lives_its_whole_life(sandbox: Sandbox) -> None:
    """Create, look, update, look again, archive, unarchive: one client, one way to write each."""
    async with client_on(sandbox) as client:
        made = await client.create_filter_segment(name="buyers", included_filters=BUYERS)
        assert (made.name, made.included_filters, made.source) == ("buyers", BUYERS, "API")
        assert made.created_time is not None
        assert abs(made.created_time - datetime.now(UTC)) < timedelta(days=1)
        assert made.description
        listed = await client.list_segments("buyers")
        got = await client.get_segment(made.id)
        assert [one.id for one in listed] == [got.id] == [made.id]
        changed = await client.update_filter_segment(
            made.id, included_filters=~IN_PUNE, name="elsewhere", updated_by="ops@example.com"
        )
        assert (changed.id, changed.name) == (made.id, "elsewhere")
        assert changed.included_filters == FilterGroup(filters=(~IN_PUNE,))
        assert (await client.get_segment(made.id)).name == "elsewhere"
        assert (await client.archive_segment(name="elsewhere")).success
        assert (await client.unarchive_segment(name="elsewhere", cs_id=made.id)).success
    assert [segment.name for segment in sandbox.workspace.segments] == ["elsewhere"]


async def test_a_payload_of_the_dashboard_is_taken_as_it_is(sandbox: Sandbox) -> None:
    """Filters nobody documented arrive untouched and come back untouched; the rest of the payload is sent too."""
    async with client_on(sandbox) as client:
        made = await client.create_filter_segment(payload=PAYLOAD)
        assert made.name == "from_dashboard"
        assert made.included_filters is not None
        assert made.included_filters.to_payload() == PAYLOAD["included_filters"]
        assert isinstance(made.included_filters, FilterGroup)
        assert isinstance(made.included_filters.filters[0], RawFilter)
        again = await client.update_filter_segment(made.id, included_filters=made.included_filters, name="renamed")
        assert again.included_filters == made.included_filters
        assert (await client.update_filter_segment(made.id, payload={**PAYLOAD, "name": "third"})).name == "third"
    (segment,) = sandbox.workspace.segments
    assert segment.definition is not None
    assert segment.definition.included == PAYLOAD["included_filters"]


async def test_who_is_excluded_is_said_and_taken_back(sandbox: Sandbox) -> None:
    """UNSET leaves it open, None says nobody."""
    async with client_on(sandbox) as client:
        vip = await client.create_filter_segment(name="vip", included_filters=attribute("plan").is_("gold"))
        made = await client.create_filter_segment(
            name="rest", included_filters=BUYERS, excluded_filters=[in_segment(vip.id, "vip")]
        )
        definition = sandbox.workspace.segments[1].definition
        assert definition is not None
        assert definition.excluded is not None
        assert definition.references == {vip.id}
        await client.update_filter_segment(made.id, included_filters=BUYERS, excluded_filters=None)
    definition = sandbox.workspace.segments[1].definition
    assert definition is not None
    assert definition.excluded is None


async def test_a_conflict_names_the_segment_in_the_way(sandbox: Sandbox) -> None:
    """The same filters under another name: use that one. The same name: take another."""
    async with client_on(sandbox) as client:
        made = await client.create_filter_segment(name="first", included_filters=BUYERS)
        with pytest.raises(Conflict) as caught:
            await client.create_filter_segment(name="second", included_filters=BUYERS)
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.existing_cs_name, error.existing_cs_id) == ("first", made.id)
        assert client.job(error.job_id).state == JobState.REFUSED
    async with client_on(sandbox) as other:  # whose journal does not know the first one
        with pytest.raises(Conflict):
            await other.create_filter_segment(name="first", included_filters=IN_PUNE)


async def test_each_refusal_has_its_class() -> None:
    """400, 403, 404, 412, 413, and what the service says of each."""
    async with Sandbox(speed=SPEED, complexity=Complexity(levels=1)) as sandbox, client_on(sandbox) as client:
        made = await client.create_filter_segment(name="a", included_filters=IN_PUNE)
        with pytest.raises(BadRequest) as wrong:
            await client.create_filter_segment(name="b", included_filters={"filter_operator": "nor", "filters": []})
        with pytest.raises(BadRequest) as deep:
            await client.create_filter_segment(name="b", included_filters=IN_PUNE & (~IN_PUNE | ~BUYERS.filters[1]))
        with pytest.raises(BadRequest) as circle:
            await client.update_filter_segment(made.id, included_filters=in_segment(made.id))
        with pytest.raises(NotFound):
            await client.update_filter_segment("64f0c1d2e3a4b5c6d7e8f901", included_filters=IN_PUNE)
        await client.archive_segment(name="a")
        with pytest.raises(Forbidden):
            await client.update_filter_segment(made.id, included_filters=IN_PUNE)
        assert [one.value.status for one in (wrong, deep, circle)] == [400, 413, 412]


async def test_a_segment_nobody_knows_is_not_found(sandbox: Sandbox) -> None:
    """An empty list in one dialect, a 404 in the other: one error."""
    async with client_on(sandbox) as client:
        with pytest.raises(NotFound):
            await client.get_segment("64f0c1d2e3a4b5c6d7e8f901")
        assert await client.list_segments("nobody") == ()
        for wrong in ("../v2", "", "a b"):
            with pytest.raises(InputError):
                await client.get_segment(wrong)


async def test_what_cannot_be_sent_is_refused_before_anything_is_held(sandbox: Sandbox) -> None:
    """A filter that does not say when, no filters at all, a bad name, both forms at once."""
    async with client_on(sandbox) as client:
        calls: list[dict[str, Any]] = [
            {"name": "a", "included_filters": did("Purchase")},
            {"name": "a", "included_filters": []},
            {"name": "a"},
            {"name": "a|b", "included_filters": IN_PUNE},
            {"included_filters": IN_PUNE},
            {"payload": PAYLOAD, "included_filters": IN_PUNE},
            {"payload": {"name": "a"}},
            {"payload": {"included_filters": {}, "excluded_filters": 5}},
        ]
        for call in calls:
            with pytest.raises(InputError):
                await client.create_filter_segment(**call)
        with pytest.raises(InputError):
            await client.update_filter_segment("../v2", included_filters=IN_PUNE)
        with pytest.raises(InputError):
            await client.update_filter_segment("1", included_filters=IN_PUNE, updated_by="nobody")
        assert (await client.governor.usage())["active_segments"].used == 0
        assert not replica_of(client).state.jobs.records
    assert sandbox.workspace.requests == ()


@pytest.mark.parametrize("kind", [FaultKind.LOSE_ANSWER, FaultKind.SERVER_ERROR_COUNTED])
async def test_a_create_whose_answer_is_lost_is_unknown_and_then_found(sandbox: Sandbox, kind: FaultKind) -> None:
    """Never sent again in silence: its name is looked for, and the job holds what was found."""
    async with client_on(sandbox) as client:
        sandbox.fail_next(kind)
        with pytest.raises(OutcomeUnknown) as caught:  # however long it may wait
            await client.create_filter_segment(name="buyers", included_filters=BUYERS, max_wait_s=60)
        job = client.job(caught.value.job_id)
        assert (job.segment, job.evidence) == (None, None)
        assert await job.wait_until(lambda record: record.adopted, 5)
        (segment,) = sandbox.workspace.segments
        assert job.state == JobState.ACCEPTED
        created = datetime.fromtimestamp(segment.created_at, UTC)
        found = job.evidence
        assert found == Evidence(source="list", cs_id=segment.id, created_time=created)
        assert job.segment == Segment(name="buyers", id=segment.id, created_time=created)
        assert (await client.governor.usage())["active_segments"].pending == 0
    assert [request.op for request in sandbox.workspace.requests].count("create_filter") == 1


async def test_a_create_that_never_arrived_stays_unknown(sandbox: Sandbox) -> None:
    """Nothing is listed: the doubt stays, and so does the active segment that it may have taken."""
    async with client_on(sandbox) as client:
        sandbox.fail_next(FaultKind.DROP)
        with pytest.raises(OutcomeUnknown) as caught:
            await client.create_filter_segment(name="buyers", included_filters=BUYERS)
        job = client.job(caught.value.job_id)
        assert not await job.wait_until(lambda record: record.adopted, 0.5)
        assert job.state == JobState.UNKNOWN
        assert (await client.governor.usage())["active_segments"].used == 1


async def test_an_update_whose_answer_is_lost_is_unknown_and_repeated_only_when_asked(sandbox: Sandbox) -> None:
    """Single calls: a lost answer is an OutcomeUnknown, and the same job can be asked for again."""
    async with client_on(sandbox) as client:
        made = await client.create_filter_segment(name="buyers", included_filters=BUYERS)
        update = UpdateFilterSegment(cs_id=made.id, included_filters=IN_PUNE)
        sandbox.fail_next(FaultKind.LOSE_ANSWER)
        with pytest.raises(OutcomeUnknown):
            await client.submit(update, job_id="mine")
        assert (await client.submit(update, job_id="mine")).state == JobState.UNKNOWN
        job = await client.submit(update, job_id="mine", on_unknown="retry")
        assert job.segment is not None
        assert job.segment.included_filters == FilterGroup(filters=(IN_PUNE,))
        assert job.duplicate_possible
    assert [request.op for request in sandbox.workspace.requests].count("update_filter") == 2


@pytest.mark.parametrize("op", ["create", "update"])
async def test_a_job_id_stands_for_one_set_of_filters(sandbox: Sandbox, tmp_path: Any, op: str) -> None:
    """As for other fields, also in another process; written otherwise they are the same, and who updates is no part."""
    journal = f"sqlite:///{tmp_path / 'quota.db'}"
    async with client_on(sandbox, journal=journal) as client:
        made = await client.create_filter_segment(name="theirs", included_filters=attribute("city").is_in("Delhi"))

    def operation(filters: Any, **fields: Any) -> FilterOperation:
        if op == "create":
            return CreateFilterSegment(name="ours", included_filters=filters, **fields)
        return UpdateFilterSegment(cs_id=made.id, included_filters=filters, **fields)

    async with client_on(sandbox, journal=journal) as client:
        await client.submit(operation(IN_PUNE), job_id="mine")
    async with client_on(sandbox, journal=journal) as client:
        for other in (
            operation(BUYERS),
            operation(IN_PUNE, excluded_filters=BUYERS),
            operation(IN_PUNE, extra={"x": 1}),
        ):
            with pytest.raises(InputError, match="differs in filters"):
                await client.submit(other, job_id="mine")
        backwards = dict(reversed(IN_PUNE.to_payload().items()))
        assert (await client.submit(operation(backwards), job_id="mine")).id == "mine"
        if op == "update":
            assert (
                await client.submit(operation(IN_PUNE, updated_by="somebody@example.com"), job_id="mine")
            ).id == "mine"
    kept = (tmp_path / "quota.db").read_bytes()
    plain = json.dumps({"included_filters": IN_PUNE.to_payload()}, sort_keys=True, separators=(",", ":"))
    assert b"Pune" not in kept
    assert hashlib.sha256(plain.encode()).hexdigest()[:16].encode() not in kept


async def test_filters_are_compared_where_they_can_be() -> None:
    """Not with a journal of before, not after the key was changed, not with what was recalled without its filters."""
    asked = CreateFilterSegment(name="ours", included_filters=IN_PUNE)
    kept = filters_digest(asked, job_id="mine", api_key="key-1")
    other = filters_digest(attrs.evolve(asked, included_filters=BUYERS), job_id="mine", api_key="key-1")
    assert are_other_filters(kept, other)
    assert not are_other_filters(kept, filters_digest(asked, job_id="mine", api_key="key-1"))
    assert not are_other_filters(kept, filters_digest(asked, job_id="mine", api_key="key-2"))
    assert not are_other_filters(None, other)
    assert filters_digest(attrs.evolve(asked, included_filters=()), job_id="mine", api_key="key-1") is None
    assert kept != filters_digest(asked, job_id="another", api_key="key-1"), "equal filters are not seen to be equal"


async def test_a_filter_create_is_a_job_that_others_can_follow(sandbox: Sandbox, tmp_path: Any) -> None:
    """Another process knows name, state and identifier; no filter is written down, values may be about people."""
    path = tmp_path / "quota.db"
    async with client_on(sandbox, journal=f"sqlite:///{path}") as client:
        job = await client.submit(
            CreateFilterSegment(name="one", included_filters=attribute("email").is_in("somebody@example.com"))
        )
        made = job.segment
    async with client_on(sandbox, journal=f"sqlite:///{path}") as client:
        known = client.job(job.id)
        assert made is not None
        assert known.segment is not None
        assert (known.segment.name, known.segment.id, known.evidence) == ("one", made.id, None)
        operation = known.operation
        assert isinstance(operation, CreateFilterSegment)
        assert operation.name == "one"
        assert (await client.submit(operation, job_id=job.id)).id == job.id
        with pytest.raises(InputError, match="at least one filter"):
            await client.submit(attrs.evolve(operation, name="two"))
    assert b"somebody@" not in path.read_bytes()


async def test_updates_of_one_segment_take_turns(sandbox: Sandbox) -> None:
    """One operation at a time: the second is refused at once, or waits when it may."""
    async with client_on(sandbox) as client:
        made = await client.create_filter_segment(name="buyers", included_filters=BUYERS)
        sandbox.fail_next(FaultKind.DROP)
        with pytest.raises(OutcomeUnknown):
            await client.update_filter_segment(made.id, included_filters=IN_PUNE)
        with pytest.raises(SegmentBusy):
            await client.update_filter_segment(made.id, included_filters=BUYERS)
        with pytest.raises(SegmentBusy):
            await client.archive_segment(name="buyers")
        changed = await client.update_filter_segment(made.id, included_filters=IN_PUNE, max_wait_s=math.inf)
        assert changed.name == "buyers"


async def test_filter_and_file_segments_share_the_active_segments() -> None:
    """One gauge, v2 and v3: an archive of either makes room for either."""
    async with Sandbox(speed=SPEED) as sandbox:
        limits = type(sandbox.limits)(active_segments=2, external_active_margin=0).scaled(SPEED)
        async with client_on(sandbox, limits=limits) as client:
            await client.create_filter_segment(name="a", included_filters=IN_PUNE)
            await client.create_filter_segment(name="b", included_filters=~IN_PUNE)
            with pytest.raises(QuotaExceeded) as caught:
                await client.create_filter_segment(name="c", included_filters=BUYERS)
            assert caught.value.limit == "active_segments"
            await client.archive_segment(name="a")
            await client.create_filter_segment(name="c", included_filters=BUYERS)


async def test_the_services_count_of_active_segments_is_taken_as_an_observation() -> None:
    """The 429 names the only figure there is: the caller hears of it, and the gauge knows it from then on."""
    few = QuotaLimits(active_segments=3, external_active_margin=0)
    async with Sandbox(speed=SPEED, limits=few) as full:
        async with client_on(full, limits=QuotaLimits().scaled(SPEED)) as others:
            for number in range(3):
                await others.create_filter_segment(name=f"s{number}", included_filters=attribute("n").is_in(number))
        async with client_on(full, limits=QuotaLimits().scaled(SPEED)) as client:
            with pytest.raises(TooManyRequests) as caught:
                await client.create_filter_segment(name="one", included_filters=BUYERS)
            error = pickle.loads(pickle.dumps(caught.value))
            assert (error.limit, error.allowed_count) == ("active_segments", 3)
            assert error.actual_count >= 3
            usage = (await client.governor.usage())["active_segments"]
            assert usage.external == error.actual_count
            assert usage.closed_until is not None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": []}', b'{"data": {"name": "a"}}', b"<html>"])
async def test_an_answer_that_is_no_segment_is_not_taken_for_one(body: bytes) -> None:
    """It may have worked: the caller hears what did not fit, and the job is unknown."""

    async def made(_: web.Request) -> web.Response:
        return web.Response(status=201, body=body, content_type="application/json")

    async def listed(_: web.Request) -> web.Response:
        return web.json_response({"data": []})

    app = web.Application()
    app.router.add_post("/v3/custom-segments", made)
    app.router.add_get("/v3/custom-segments", listed)
    async with TestServer(app) as server:
        credentials = Credentials(workspace_id="W1", api_key="k", data_center="01")
        async with SegmentsClient(credentials, journal="memory:", base_url=str(server.make_url("/"))) as client:
            with pytest.raises(AnswerShapeError) as caught:
                await client.create_filter_segment(name="a", included_filters=IN_PUNE)
            assert caught.value.job_id is not None
            assert client.job(caught.value.job_id).state == JobState.UNKNOWN


async def test_what_never_left_gives_everything_back(sandbox: Sandbox) -> None:
    """No connection, no segment: the gauge is as it was."""
    async with client_on(sandbox, base_url="http://127.0.0.1:9", max_attempts=1) as nobody:
        with pytest.raises(NotSent):
            await nobody.create_filter_segment(name="a", included_filters=IN_PUNE)
        assert (await nobody.governor.usage())["active_segments"].used == 0
