"""The v3 calls of the sandbox over real sockets: filter segments, their look-ups, their errors, their quotas."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final, TypeAlias

import aiohttp
import attrs
import pytest
import pytest_asyncio

from moe_segments.errors import InputError
from moe_segments.limits import DAY_S, HOUR_S, QuotaLimits
from moe_segments.sandbox import CallLimits, Complexity, Dialect, FaultKind, Sandbox
from tests.live.sandbox_world import T0, Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

V2, V3 = "/v2/custom-segments", "/v3/custom-segments"
Json: TypeAlias = "dict[str, object]"

CITY: Final[Json] = {
    "filter_type": "user_attributes",
    "name": "city",
    "data_type": "string",
    "operator": "in",
    "value": ["Pune", "Delhi"],
}
BOUGHT: Final[Json] = {
    "filter_type": "actions",
    "action_name": "Purchase",
    "executed": True,
    "execution": {"type": "atleast", "count": 2},
    "primary_time_range": {"type": "inTheLast", "value_type": "relative_past", "value": "30", "period_unit": "days"},
}


@attrs.frozen
class Answer:
    """An answer, as it came."""

    status: int
    headers: dict[str, str]
    json: Json

    @property
    def data(self) -> Json:
        """The segment in a success."""
        data = self.json["data"]
        assert isinstance(data, dict)
        return data

    @property
    def error(self) -> Json:
        """What a refusal says."""
        error = self.json["error"]
        assert isinstance(error, dict)
        return error


class Caller:
    """Signs in to one sandbox."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self._sandbox, self._session = sandbox, session

    async def __call__(
        self, method: str, path: str, body: object = None, *, key: str | None = None, headers: Json | None = None
    ) -> Answer:
        """Send one request."""
        credentials = self._sandbox.credentials
        sent: dict[str, str] = {
            "Authorization": aiohttp.encode_basic_auth(credentials.workspace_id, key or credentials.api_key),
            "MOE-APPKEY": credentials.workspace_id,
            "Content-Type": "application/json",
        } | {name: str(value) for name, value in (headers or {}).items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._session.request(method, self._sandbox.url + path, data=data, headers=sent) as response:
            assert response.content_type == "application/json"
            lowered = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, lowered, await response.json())

    async def create(self, name: str, *filters: Json) -> Answer:
        """Create a filter segment."""
        return await self("POST", V3, wanted(name, *filters))

    async def update(self, cs_id: object, *filters: Json, **fields: object) -> Answer:
        """Update a filter segment."""
        body = {name: value for name, value in wanted("", *filters).items() if name != "name"}
        return await self("PATCH", f"{V3}/{cs_id}", body | fields)

    async def create_file(self, name: str) -> Answer:
        """Create a file segment."""
        fields = {"attribute_name": "ID", "attribute_type": "string", "file_url": "http://127.0.0.1:1/n.csv"}
        return await self("POST", f"{V2}/file-segment", {"name": name, "expiry_time": 30, **fields})


def wanted(name: str, *filters: Json, operator: str = "and") -> Json:
    return {"name": name, "included_filters": {"filter_operator": operator, "filters": list(filters or (CITY,))}}


def nested(levels: int) -> Json:
    group: Json = {"filter_operator": "and", "filters": [CITY]}
    for _ in range(levels - 1):
        group = {"filter_operator": "or", "filters": [{"filter_type": "nested_filters", **group}]}
    return group


def refers_to(*ids: object) -> Json:
    filters = [{"filter_type": "custom_segments", "id": each} for each in ids]
    return {"filter_operator": "and", "filters": filters}


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(clock=Clock()) as sandbox:
        yield sandbox


@pytest.fixture
def call(sandbox: Sandbox, session: aiohttp.ClientSession) -> Caller:
    return Caller(sandbox, session)


@pytest.mark.asyncio
async def test_a_filter_segment_is_created_updated_and_found(call: Caller) -> None:
    """201 with all of it, 200 with the new definition; the filters come back as they were sent."""
    created = await call.create("pune", CITY, BOUGHT)
    cs_id = created.data["id"]
    updated = await call.update(cs_id, BOUGHT, name="buyers", updated_by="a@example.com")
    listed = await call("GET", f"{V3}?name=buyers")
    formerly = await call("GET", f"{V3}?name=pune")
    got = await call("GET", f"{V3}/{cs_id}")

    assert (created.status, updated.status, listed.status, got.status) == (201, 200, 200, 200)
    assert created.json["type"] == "custom_segment"
    assert created.data == {
        "name": "pune",
        "id": cs_id,
        "created_time": "2023-11-14T22:13:20.000000",
        "updated_time": "2023-11-14T22:13:20.000000",
        "type": "ELASTIC_SEARCH",
        "source": "API",
        "description": "city in Pune, Delhi AND did Purchase atleast 2 times inTheLast 30 days",
        "included_filters": {"filter_operator": "and", "filters": [CITY, BOUGHT]},
    }
    assert (updated.data["name"], updated.data["id"]) == ("buyers", cs_id)
    assert updated.data["included_filters"] == {"filter_operator": "and", "filters": [BOUGHT]}
    assert listed.json["data"] == got.json["data"]
    assert formerly.json["data"] == []


@pytest.mark.asyncio
async def test_get_by_id_speaks_both_documented_dialects(session: aiohttp.ClientSession) -> None:
    """A list of summaries, or one object with its filters and a 404 where there is none."""
    seen = []
    for dialect in (Dialect.V2_202, (Dialect.V3_OBJECT, Dialect.V2_ARCHIVE_200)):
        async with Sandbox(dialect=dialect) as sandbox:
            call = Caller(sandbox, session)
            cs_id = (await call.create("pune")).data["id"]
            seen.append((await call("GET", f"{V3}/{cs_id}"), await call("GET", f"{V3}/{'0' * 24}")))
    (listed, nothing), (one, missing) = seen

    assert isinstance(listed.json["data"], list)
    assert nothing.json["data"] == []
    assert one.data["included_filters"] == wanted("")["included_filters"]
    assert (missing.status, missing.error["code"]) == (404, "Entity Not Found")


@pytest.mark.asyncio
async def test_what_the_documents_do_not_name_comes_back_untouched(call: Caller) -> None:
    """Groups within groups, kinds of filter from the dashboard, those to exclude, fields of other versions."""
    group = nested(3)
    group["extra"] = {"a": [1, None]}
    odd: Json = {"filter_type": "user_affinity", "anything": [{"deep": 1.5}]}
    body = {
        "name": "odd",
        "included_filters": group,
        "excluded_filters": {"filter_operator": "or", "filters": [odd, CITY]},
    }

    created = await call("POST", V3, body)

    assert created.status == 201
    assert created.data["included_filters"] == body["included_filters"]
    assert created.data["excluded_filters"] == body["excluded_filters"]


@pytest.mark.asyncio
async def test_an_update_changes_those_to_leave_out_only_when_it_speaks_of_them(call: Caller, sandbox: Sandbox) -> None:
    """Not sent: they stay. Null: nobody is left out."""
    excluded = {"filter_operator": "or", "filters": [BOUGHT]}
    cs_id = (await call("POST", V3, wanted("a", CITY) | {"excluded_filters": excluded})).data["id"]
    kept = await call.update(cs_id, CITY | {"value": "Agra"})
    other = await call("POST", V3, wanted("b", CITY | {"value": "Agra"}))
    twin = await call("POST", V3, wanted("c", CITY | {"value": "Agra"}) | {"excluded_filters": excluded})
    cleared = await call.update(cs_id, CITY, excluded_filters=None)
    created = await call("POST", V3, wanted("d", BOUGHT) | {"excluded_filters": None})

    assert kept.data["excluded_filters"] == excluded
    assert (other.status, twin.status, cleared.status, created.status) == (201, 409, 200, 201)
    assert "excluded_filters" not in cleared.data


@pytest.mark.asyncio
async def test_a_name_is_unique_for_ever_and_over_both_versions(call: Caller) -> None:
    """Archived or renamed away, of a file or of filters: a 409, and nothing is created."""
    await call.create_file("file")
    await call("PATCH", f"{V2}/archive", {"name": "file"})
    first = await call.create("first", CITY)
    await call.update(first.data["id"], CITY, name="renamed")
    conflicts = [
        await call.create("file", BOUGHT),
        await call.create("first", BOUGHT),
        await call.create("renamed", BOUGHT),
        await call.create_file("first"),
        await call.create_file("renamed"),
        await call.update(first.data["id"], BOUGHT, name="file"),
    ]
    same_name = await call.update(first.data["id"], BOUGHT, name="renamed")

    assert [each.status for each in conflicts] == [409] * 6
    assert "existing_cs_id" not in conflicts[0].error
    assert same_name.status == 200
    assert len((await call("GET", V3)).json["data"]) == 2  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_the_same_definition_twice_is_a_409_that_names_the_first(call: Caller) -> None:
    """However its filters and fields are ordered, with defaults written out or not; an archived one counts."""
    first = await call.create("first", CITY, BOUGHT)
    other = await call.create("other", BOUGHT)
    await call("PATCH", f"{V2}/archive", {"name": "first"})
    again = {**dict(reversed(CITY.items())), "negate": False, "case_sensitive": False}
    conflicts = [
        await call.create("again", BOUGHT, again),
        await call.update(other.data["id"], CITY, BOUGHT),
    ]
    different = await call("POST", V3, wanted("any", CITY, BOUGHT, operator="or"))
    unchanged = await call.update(other.data["id"], BOUGHT)

    for conflict in conflicts:
        assert conflict.status == 409
        assert conflict.error["existing_cs_name"] == "first"
        assert conflict.error["existing_cs_id"] == first.data["id"]
    assert (different.status, unchanged.status) == (201, 200)


@pytest.mark.asyncio
async def test_a_definition_given_up_is_free_again(call: Caller) -> None:
    """An update moves the segment to its new definition; the old one is nobody's."""
    first = await call.create("first", CITY)
    await call.update(first.data["id"], BOUGHT)

    assert (await call.create("second", CITY)).status == 201


MALFORMED: Final[tuple[tuple[str, Callable[[Json, Json], object]], ...]] = (
    ("filter_operator", lambda group, _: group.update(filter_operator="xor")),
    ("filters", lambda group, _: group.update(filters={})),
    ("filters[0]", lambda group, _: group.update(filters=[5])),
    ("filters[0].filter_type", lambda _, one: one.update(filter_type=" ")),
    ("filters[0].name", lambda _, one: one.pop("name")),
    ("filters[0].data_type", lambda _, one: one.update(data_type="text")),
    ("filters[0].operator", lambda _, one: one.update(operator="greaterThan")),
    ("filters[0].operator", lambda _, one: one.pop("operator")),
    ("filters[0].value", lambda _, one: one.pop("value")),
    ("filters[0].value", lambda _, one: one.update(value=None)),
    ("filters[0].value", lambda _, one: one.update(value=[True])),
    ("filters[0].value1", lambda _, one: one.update(data_type="double", operator="between", value=1)),
    ("filters[0].negate", lambda _, one: one.update(negate="no")),
    ("filters[1].executed", lambda group, _: group.update(filters=[CITY, BOUGHT | {"executed": 1}])),
    ("filters[1].execution", lambda group, _: group.update(filters=[CITY, BOUGHT | {"execution": None}])),
    (
        "filters[1].execution.count",
        lambda group, _: group.update(filters=[CITY, BOUGHT | {"execution": {"type": "exactly", "count": "2"}}]),
    ),
    (
        "filters[1].primary_time_range.value1",
        lambda group, _: group.update(
            filters=[
                CITY,
                BOUGHT
                | {
                    "primary_time_range": {
                        "type": "between",
                        "value_type": "absolute",
                        "value": "2026-01-01T00:00:00.000Z",
                        "period_unit": "days",
                    }
                },
            ]
        ),
    ),
    (
        "filters[1].primary_time_range.value",
        lambda group, _: group.update(
            filters=[
                CITY,
                BOUGHT
                | {
                    "primary_time_range": {
                        "type": "before",
                        "value_type": "absolute",
                        "value": "30",
                        "period_unit": "days",
                    }
                },
            ]
        ),
    ),
    (
        "filters[1].attributes.filters[0].filter_type",
        lambda group, _: group.update(
            filters=[CITY, BOUGHT | {"attributes": {"filter_operator": "and", "filters": [BOUGHT]}}]
        ),
    ),
)


@pytest.mark.parametrize(("where", "change"), MALFORMED, ids=[where for where, _ in MALFORMED])
@pytest.mark.asyncio
async def test_a_malformed_filter_is_a_400_that_says_where(
    call: Caller, where: str, change: Callable[[Json, Json], object]
) -> None:
    """On create and on update; nothing is created."""
    filter_: Json = dict(CITY)
    group: Json = {"filter_operator": "and", "filters": [filter_]}
    change(group, filter_)
    answer = await call("POST", V3, {"name": "bad", "included_filters": group})

    assert answer.status == 400
    assert str(answer.error["message"]).startswith(f"included_filters.{where}")
    assert (await call("GET", V3)).json["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"name": "x", "included_filters": {"filter_operator": "and", "filters": [1e999]}}',
        {},
        {"name": "x"},
        {"name": "a|b", "included_filters": {"filter_operator": "and", "filters": []}},
        {"name": "<b>", "included_filters": {"filter_operator": "and", "filters": []}},
        {"name": " ", "included_filters": {"filter_operator": "and", "filters": []}},
        {"name": "x", "included_filters": {"filter_operator": "and", "filters": []}, "excluded_filters": 5},
    ],
)
@pytest.mark.asyncio
async def test_a_body_that_is_not_as_documented_is_a_400(call: Caller, body: object) -> None:
    """In the v3 shape."""
    answer = await call("POST", V3, body)

    assert answer.status == 400
    assert set(answer.json) == {"response_id", "type", "error"}


@pytest.mark.asyncio
async def test_credentials_and_headers_are_looked_at_first(call: Caller) -> None:
    """401 for the key, 400 for MOE-APPKEY and for another content type than JSON; 405 for another method."""
    answers = [
        await call("POST", V3, wanted("x"), key="wrong"),
        await call("PATCH", f"{V3}/x", wanted("x"), key="wrong"),
        await call("POST", V3, wanted("x"), headers={"MOE-APPKEY": "other"}),
        await call("POST", V3, wanted("x"), headers={"Content-Type": "text/csv"}),
        await call("DELETE", f"{V3}/x"),
        await call("PUT", V3, wanted("x")),
    ]

    assert [each.status for each in answers] == [401, 401, 400, 400, 405, 405]


@pytest.mark.asyncio
async def test_only_active_segments_of_filters_can_be_updated(call: Caller, sandbox: Sandbox) -> None:
    """403 for a file segment and for an archived one, 404 for none; a file cannot change one of filters."""
    await call.create_file("file")
    file_id = sandbox.workspace.segments[0].id
    filter_id = (await call.create("filter")).data["id"]
    await call("PATCH", f"{V2}/archive", {"name": "filter"})
    refused = [await call.update(each, BOUGHT) for each in (file_id, filter_id, "0" * 24)]
    await call("PATCH", f"{V2}/unarchive", {"name": "filter"})
    fields = {"attribute_name": "ID", "attribute_type": "string", "file_url": "http://127.0.0.1:1/n.csv"}
    added = await call("PUT", f"{V2}/file-segment/add-users", {"name": "filter", **fields})

    assert [each.status for each in refused] == [403, 403, 404]
    assert refused[0].error["code"] == "Forbidden operation"
    assert (await call.update(filter_id, BOUGHT)).status == 200
    assert added.status == 404


@pytest.mark.asyncio
async def test_a_segment_that_would_refer_to_itself_is_a_412(call: Caller) -> None:
    """Directly or through others; a reference to nothing is a 404."""
    ids = [(await call.create("a", CITY)).data["id"]]
    for name in "bc":
        body = {"name": name, "included_filters": refers_to(ids[-1])}
        ids.append((await call("POST", V3, body)).data["id"])
    direct = await call(
        "PATCH", f"{V3}/{ids[0]}", {"included_filters": refers_to(ids[0], ids[0]) | {"filter_operator": "or"}}
    )
    through = await call("PATCH", f"{V3}/{ids[0]}", {"included_filters": refers_to(ids[2], ids[1])})
    nothing = await call("POST", V3, {"name": "d", "included_filters": refers_to("none")})
    forward = await call("PATCH", f"{V3}/{ids[2]}", {"included_filters": refers_to(ids[0], ids[1])})

    assert [direct.status, through.status, nothing.status, forward.status] == [412, 412, 404, 200]
    assert direct.error["code"] == "Cyclic Entity"


@pytest.mark.asyncio
async def test_a_definition_that_is_too_complex_is_a_413(session: aiohttp.ClientSession) -> None:
    """Too many levels, too many other segments, too long, and a body too large to be read."""
    async with Sandbox(complexity=Complexity(levels=3, segments=2, query_bytes=2_000)) as sandbox:
        call = Caller(sandbox, session)
        ids = [(await call.create(name, CITY | {"value": name})).data["id"] for name in "abc"]
        deepest = await call("POST", V3, {"name": "d", "included_filters": nested(3)})
        two = await call("POST", V3, {"name": "e", "included_filters": refers_to(*ids[:2])})
        refused = [
            await call("POST", V3, {"name": "x", "included_filters": nested(4)}),
            await call("POST", V3, {"name": "x", "included_filters": refers_to(*ids)}),
            await call("PATCH", f"{V3}/{ids[0]}", {"included_filters": refers_to(*ids)}),
            await call.create("x", CITY | {"value": "x" * 2_000}),
            await call("POST", V3, b'{"name": "' + b"x" * 300_000 + b'"}'),
            await call("POST", V3, b'{"name":"x","included_filters":' + b"[" * 900 + b"]" * 900 + b"}"),
        ]

    assert (deepest.status, two.status) == (201, 201)
    assert [each.status for each in refused] == [413] * 6
    assert {str(each.error["code"]) for each in refused} == {
        "Query has too many nesting levels",
        "Too many segments in a query",
        "Query length limit exceeded",
    }


@pytest.mark.asyncio
async def test_the_v3_calls_have_quotas_of_their_own(session: aiohttp.ClientSession) -> None:
    """Fifty creates a minute and two hundred an hour; a hundred gets; rejected ones spend nothing by default."""
    clock = Clock()
    async with Sandbox(clock=clock, retry_headers=True) as sandbox:
        call = Caller(sandbox, session)
        statuses: list[int] = []
        for minute in range(5):
            clock.now = T0 + 60 * minute
            await call.create("0 0")  # in use from the second minute on
            answers = [await call.create(f"{minute} {n}", CITY | {"value": [minute, n]}) for n in range(51)]
            statuses += [each.status for each in answers]
        refused = await call.create("more", BOUGHT)
        clock.now = T0 + HOUR_S
        gets = [(await call("GET", f"{V3}/x")).status for _ in range(101)]
        lists = [(await call("GET", V3)).status for _ in range(51)]

    assert statuses.count(201) == 199
    assert (refused.status, refused.headers["retry-after"]) == (429, str(int(HOUR_S - 240)))
    assert gets == [200] * 100 + [429]
    assert lists == [200] * 50 + [429]
    limits = {each.limit for each in sandbox.workspace.requests if each.status == 429}
    assert limits == {"create_filter_per_minute", "create_filter_per_hour", "get_per_minute", "list_per_minute"}
    assert sandbox.workspace.usage()["operations_per_hour"] == 0


@pytest.mark.asyncio
async def test_the_quotas_of_v3_calls_can_be_set_shared_and_shortened(session: aiohttp.ClientSession) -> None:
    """One pool for lists and creates, a limit on updates, rejected calls that spend, windows at a speed."""
    clock = Clock()
    limits = CallLimits(list_calls=(3, 4, 5), update_calls=(1, 2, 3), is_shared=True)
    async with Sandbox(clock=clock, speed=60, call_limits=limits, count_rejected=True) as sandbox:
        call = Caller(sandbox, session)
        cs_id = (await call.create("a")).data["id"]
        bad = await call.create("a")
        full = [(await call("GET", V3)).status for _ in range(2)]
        updates = [(await call.update(cs_id, each)).status for each in (BOUGHT, CITY)]
        clock.now += 1
        after = (await call("GET", V3)).status
        hour = (await call.create("b", BOUGHT | {"action_name": "Visit"})).status

    assert (bad.status, full, updates) == (409, [200, 429], [200, 429])
    assert (after, hour) == (200, 429)


@pytest.mark.parametrize(("shared", "statuses"), [(True, [201, 200, 429]), (False, [201, 200, 200])])
@pytest.mark.asyncio
async def test_the_limits_of_the_client_are_those_of_the_v3_calls_too(
    session: aiohttp.ClientSession, *, shared: bool, statuses: list[int]
) -> None:
    """What is given to both is the same on both sides, the pool of lists and creates included."""
    limits = QuotaLimits(list_per_minute=2, filter_calls_shared=shared, get_per_hour=1)
    async with Sandbox(clock=Clock(), limits=limits) as sandbox:
        call = Caller(sandbox, session)
        seen = [(await call.create("a")).status, *[(await call("GET", V3)).status for _ in range(2)]]
        gets = [(await call("GET", f"{V3}/x")).status for _ in range(2)]

    assert (seen, gets) == (statuses, [200, 429])


@pytest.mark.parametrize("figures", [(0, 1, 1), (1, 2), [1, 2, 3], (1, 2, True), None])
def test_quotas_that_are_none_are_refused(figures: object) -> None:
    """By name."""
    with pytest.raises(InputError):
        CallLimits(get_calls=figures)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_active_segments_are_counted_over_both_versions(session: aiohttp.ClientSession) -> None:
    """The 429 carries the count and the limit; more active than allowed stops updates too."""
    limits = QuotaLimits(active_segments=3, external_active_margin=0)
    async with Sandbox(limits=limits) as sandbox:
        call = Caller(sandbox, session)
        await call.create_file("file")
        cs_id = (await call.create("a", CITY)).data["id"]
        sandbox.workspace.external_active = 1
        refused = await call.create("b", BOUGHT)
        file_refused = await call.create_file("b")
        fits = await call.update(cs_id, BOUGHT)
        sandbox.workspace.external_active = 2
        over = await call.update(cs_id, CITY)
        await call("PATCH", f"{V2}/archive", {"name": "file"})
        sandbox.workspace.external_active = 1
        freed = await call.create("b", CITY)

    assert [refused.status, file_refused.status, fits.status, over.status, freed.status] == [429, 429, 200, 429, 201]
    assert (refused.error["actual_count"], refused.error["limit"]) == (3, 3)
    assert over.error["actual_count"] == 4


@pytest.mark.asyncio
async def test_segments_age(session: aiohttp.ClientSession) -> None:
    """Not used for 60 days: archived. Archived for 30: users gone. For 180: not listed, and the name still used."""
    clock = Clock()
    async with Sandbox(clock=clock) as sandbox:
        call = Caller(sandbox, session)
        filter_id = (await call.create("filter")).data["id"]
        await call.create_file("file")
        file = sandbox.workspace.find("file")
        assert file is not None
        file.members.add("u1")
        clock.now = T0 + 30 * DAY_S  # the file segment expires
        await call.update(filter_id, BOUGHT)
        clock.now = T0 + (60 * DAY_S) - 1
        kept = set(file.members)
        clock.now += 1
        active = sandbox.workspace.usage()["active_segments"]
        dropped = (file.is_active, set(file.members))
        clock.now = T0 + 90 * DAY_S
        idle = (await call.update(filter_id, CITY)).status
        clock.now = T0 + 210 * DAY_S
        listed = await call("GET", V3)
        again = await call.create_file("file")

    assert kept == {"u1"}
    assert (active, dropped) == (1, (False, set()))
    assert idle == 403
    assert [each["name"] for each in listed.json["data"]] == ["filter"]  # type: ignore[attr-defined]
    assert again.status == 409


@pytest.mark.asyncio
async def test_a_use_puts_the_archiving_of_idle_segments_off(session: aiohttp.ClientSession) -> None:
    """A campaign, a file and an unarchive each begin the 60 days anew."""
    clock = Clock()
    async with Sandbox(clock=clock) as sandbox:
        call = Caller(sandbox, session)
        await call.create("s")
        clock.now += 59 * DAY_S
        sandbox.workspace.run("s")
        clock.now += 59 * DAY_S
        first = sandbox.workspace.usage()["active_segments"]
        clock.now += DAY_S
        second = sandbox.workspace.usage()["active_segments"]
        await call("PATCH", f"{V2}/unarchive", {"name": "s"})
        clock.now += 59 * DAY_S
        third = sandbox.workspace.usage()["active_segments"]

    assert (first, second, third) == (1, 0, 1)


@pytest.mark.asyncio
async def test_a_v3_call_meets_the_same_faults(call: Caller, sandbox: Sandbox) -> None:
    """A lost answer to a create leaves a segment behind that a look-up finds."""
    sandbox.fail_next(FaultKind.LOSE_ANSWER)
    sandbox.fail_next(FaultKind.SERVER_ERROR, status=500)
    with pytest.raises(aiohttp.ClientError):
        await call.create("lost")
    failed = await call.create("failed", BOUGHT)
    found = await asyncio.gather(call("GET", f"{V3}?name=lost"), call("GET", f"{V3}?name=failed"))

    assert (failed.status, set(failed.json)) == (500, {"response_id", "type", "error"})
    assert [len(each.json["data"]) for each in found] == [1, 0]  # type: ignore[arg-type]
