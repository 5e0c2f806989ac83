"""What leaves and what is understood: requests, answers, errors, callbacks. Bodies are in `tests/samples`."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from moe_segments import errors
from moe_segments.core.wire import file_segments as wire
from moe_segments.core.wire.callbacks import Unparsed, decode_callback
from moe_segments.core.wire.file_segments import Answer, Request, ThrottleFacts
from moe_segments.core.wire.strict_json import foreign_coding
from moe_segments.models import (
    Accepted,
    AddUsers,
    ArchiveSegment,
    CreateFileSegment,
    Credentials,
    FileFailed,
    FileProcessed,
    RemoveUsers,
    ReplaceUsers,
    Segment,
    UnarchiveSegment,
)

if TYPE_CHECKING:
    from moe_segments.models import Operation

SAMPLES = Path(__file__).parent.parent / "samples"
CS_ID = "64f0c1d2e3a4b5c6d7e8f901"
FILE_URL = "https://files.example.com/w.csv?sig=SIGNATURESIGNATURE"
CALLBACK_URL = "https://hooks.example.com/moe/TOKENTOKENTOKENTOKEN"
# A loaded machine is slow, and slowness is no finding here.
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOW_S = 1_770_000_000.0
CREDENTIALS = Credentials(workspace_id="W1", api_key="k3y", data_center="03")
WITH_DATABASE = Credentials(workspace_id="W1", api_key="k3y", data_center="03", db_name="main")

CREATE = CreateFileSegment(
    name="winter_sale",
    attribute_name="ID",
    attribute_type="string",
    file_url=FILE_URL,
    emails=("a@example.com", "b@example.com"),
    callback_url=CALLBACK_URL,
    expiry_time=30,
)
_UPDATE = {"name": "winter_sale", "attribute_name": "ID", "attribute_type": "string"}
ADD = AddUsers(name="winter_sale", attribute_name="ID", attribute_type="string", file_url=FILE_URL)
REMOVE = RemoveUsers(name="winter_sale", attribute_name="ID", attribute_type="string", file_url=FILE_URL)
REPLACE = ReplaceUsers(name="winter_sale", attribute_name="ID", attribute_type="string", file_url=FILE_URL, cs_id=CS_ID)
ARCHIVE = ArchiveSegment(name="winter_sale")
UNARCHIVE = UnarchiveSegment(name="winter_sale", cs_id=CS_ID)
OPERATIONS: tuple[Operation, ...] = (CREATE, ADD, REMOVE, REPLACE, ARCHIVE, UNARCHIVE)

REQUESTS = [
    (
        CREATE,
        "POST",
        "/v2/custom-segments/file-segment",
        {
            **_UPDATE,
            "file_url": FILE_URL,
            "callback_url": CALLBACK_URL,
            "emails": ["a@example.com", "b@example.com"],
            "expiry_time": 30,
        },
    ),
    (ADD, "PUT", "/v2/custom-segments/file-segment/add-users", {**_UPDATE, "file_url": FILE_URL}),
    (REMOVE, "PUT", "/v2/custom-segments/file-segment/remove-users", {**_UPDATE, "file_url": FILE_URL}),
    (
        REPLACE,
        "PUT",
        "/v2/custom-segments/file-segment/replace",
        {**_UPDATE, "file_url": FILE_URL, "cs_id": CS_ID},
    ),
    (ARCHIVE, "PATCH", "/v2/custom-segments/archive", {"name": "winter_sale"}),
    (UNARCHIVE, "PATCH", "/v2/custom-segments/unarchive", {"name": "winter_sale", "cs_id": CS_ID}),
]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def body_of(request: Request) -> dict[str, object]:
    assert request.body is not None
    body = json.loads(request.body)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(("operation", "method", "path", "body"), REQUESTS)
def test_a_request_has_the_documented_shape_and_nothing_else(
    operation: Operation, method: str, path: str, body: dict[str, object]
) -> None:
    """Fields without a value are left out, not sent as null."""
    request = wire.encode(operation, credentials=CREDENTIALS)

    assert (method, path, ()) == (request.method, request.path, request.query)
    assert body == body_of(request)
    assert request.headers == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "MOE-APPKEY": "W1",
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_database_is_named_in_both_documented_headers(operation: Operation) -> None:
    """The documents disagree on the header's name."""
    headers = wire.encode(operation, credentials=WITH_DATABASE).headers

    assert (headers["MOE-DBNAME"], headers["Database"]) == ("main", "main")


def test_the_published_file_and_the_callback_with_its_token_win() -> None:
    """The operation's own URLs are what the user gave; what is sent is what came of them."""
    request = wire.encode(
        CREATE, credentials=CREDENTIALS, file_url="https://a.example/f", callback_url="https://b.example/t"
    )

    assert body_of(request)["file_url"] == "https://a.example/f"
    assert body_of(request)["callback_url"] == "https://b.example/t"


def test_a_file_that_was_not_published_cannot_be_sent() -> None:
    """The service reads a URL, never a path."""
    operation = AddUsers(name="n", attribute_name="ID", attribute_type="string", file=Path("users.csv"))

    with pytest.raises(errors.InputError, match="publish"):
        wire.encode(operation, credentials=CREDENTIALS)


@pytest.mark.parametrize("operation", [CREATE, ADD, REMOVE, REPLACE])
def test_the_content_type_of_a_file_operation_is_a_setting(operation: Operation) -> None:
    """The documents list types of files where they mean JSON; whoever needs one can have it."""
    request = wire.encode(operation, credentials=CREDENTIALS, content_type="text/csv")

    assert request.headers["Content-Type"] == "text/csv"


def test_archiving_is_always_json() -> None:
    """Only the file-segment pages list other types."""
    request = wire.encode(ARCHIVE, credentials=CREDENTIALS, content_type="text/csv")

    assert request.headers["Content-Type"] == "application/json"


def test_listing_asks_for_one_name_or_for_all() -> None:
    """The name is a query pair, encoded by the transport."""
    assert wire.encode_list("a b&c", credentials=CREDENTIALS).query == (("name", "a b&c"),)
    assert wire.encode_list(None, credentials=CREDENTIALS) == Request(
        method="GET",
        path="/v3/custom-segments",
        headers={"Accept": "application/json", "MOE-APPKEY": "W1"},
    )


def test_a_segment_is_asked_for_by_its_identifier() -> None:
    """An identifier with a slash would ask for something else."""
    assert wire.encode_get(CS_ID, credentials=CREDENTIALS).path == f"/v3/custom-segments/{CS_ID}"
    with pytest.raises(errors.InputError):
        wire.encode_get("../v2", credentials=CREDENTIALS)


def test_a_request_shows_neither_its_body_nor_its_secrets() -> None:
    """A request may meet a log."""
    shown = repr(wire.encode(CREATE, credentials=CREDENTIALS))

    assert not [secret for secret in ("SIGNATURE", "TOKEN", "example.com") if secret in shown]
    assert "bytes>" in shown


def test_a_request_names_the_secrets_an_answer_may_echo() -> None:
    """Tokens, signatures and addresses; words of a path are none."""
    assert wire.encode(CREATE, credentials=CREDENTIALS).secrets == (
        "sig=SIGNATURESIGNATURE",
        "SIGNATURESIGNATURE",
        "TOKENTOKENTOKENTOKEN",
        "a@example.com",
        "b@example.com",
    )


@pytest.mark.parametrize(
    ("sent", "meant"), [("%2Fabcdefghijklmnop", "/abcdefghijklmnop"), ("a+bcdefghijklmnop", "a bcdefghijklmnop")]
)
def test_a_secret_is_named_as_the_service_may_have_decoded_it(sent: str, meant: str) -> None:
    """Its answer may quote the value rather than the address."""
    secrets = wire.encode(CREATE, credentials=CREDENTIALS, file_url=f"https://x.example/u.csv?sig={sent}").secrets
    assert {sent, meant} <= set(secrets)


def test_authorization_is_basic_and_not_part_of_the_request() -> None:
    """Added last, by the transport, to one origin."""
    scheme, _, encoded = wire.authorization(CREDENTIALS).partition(" ")

    assert (scheme, base64.b64decode(encoded)) == ("Basic", b"W1:k3y")
    assert "Authorization" not in wire.encode(ADD, credentials=CREDENTIALS).headers


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_acceptance_is_read(operation: Operation) -> None:
    """Message, success, name and identifier."""
    accepted = wire.decode_acceptance(Answer(202, {}, sample(f"{operation.op}/202.json")), operation)

    assert (accepted.success, accepted.cs_name, accepted.cs_id) == (True, "winter_sale", CS_ID)


@pytest.mark.parametrize("operation", [ARCHIVE, UNARCHIVE])
def test_an_acceptance_may_have_no_identifier(operation: Operation) -> None:
    """Newer pages say 200 without cs_id."""
    accepted = wire.decode_acceptance(Answer(200, {}, sample(f"{operation.op}/200.json")), operation)

    assert accepted.cs_id is None


@pytest.mark.parametrize("body", [sample("create/200.txt"), b" \r\n"])
@pytest.mark.parametrize("status", [200, 202])
def test_a_bare_success_is_an_acceptance(status: int, body: bytes) -> None:
    """A 200 without a body is documented."""
    assert wire.decode_acceptance(Answer(status, {}, body), CREATE) == Accepted(cs_name="winter_sale")


def test_unknown_fields_of_an_acceptance_are_kept() -> None:
    """Also one that is called like our own `extra`."""
    accepted = wire.decode_acceptance(Answer(202, {}, b'{"success":true,"new":[1],"extra":2}'), CREATE)

    assert accepted.extra == {"new": [1], "extra": 2}
    assert accepted.cs_name == "winter_sale"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html></html>", "not JSON @ $"),
        (b"[]", "expected object @ $"),
        (b"null", "expected object @ $"),
        (b'"ok"', "expected object @ $"),
        (b'{"success": "true"}', "expected bool @ $.success"),
        (b'{"success": 1}', "expected bool @ $.success"),
        (b'{"success": false}', "success is false @ $.success"),
        (b'{"cs_name": 5}', "expected str @ $.cs_name"),
        (b'{"cs_name": 5, "cs_id": []}', "expected str @ $.cs_id; expected str @ $.cs_name"),
        (b"\xff\xfe", "not UTF-8 text @ $"),
    ],
)
def test_an_acceptance_that_is_none_names_the_path(body: bytes, problem: str) -> None:
    """It may have worked: the error says so, and what did not fit."""
    with pytest.raises(errors.AnswerShapeError) as caught:
        wire.decode_acceptance(Answer(202, {}, body), CREATE, job_id="j1")

    assert (202, problem, "j1") == (caught.value.status, caught.value.problem, caught.value.job_id)


@pytest.mark.parametrize("body", [b"", b'{"success": true}'])
def test_an_acceptance_that_broke_off_is_no_acceptance(body: bytes) -> None:
    """Half an answer must not look like a bare 200."""
    with pytest.raises(errors.AnswerShapeError, match="broke off"):
        wire.decode_acceptance(Answer(202, {}, body, body_complete=False), CREATE)


def test_null_is_absent_and_not_the_text_none() -> None:
    """The library alone would say 'None'."""
    assert wire.decode_acceptance(Answer(202, {}, b'{"cs_id": null}'), CREATE).cs_id is None


def test_a_list_is_read_with_times_in_utc() -> None:
    """The service sends no zone; unknown fields are kept."""
    first, second = wire.decode_segments(Answer(200, {}, sample("list/200.json")))

    assert first.created_time == datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
    assert (second.type, second.extra) == ("CSV_UPLOAD", {"owner": "team-a"})


def test_one_object_is_a_list_of_one() -> None:
    """Get by id is documented both ways."""
    (segment,) = wire.decode_segments(Answer(200, {}, sample("get/200.json")))

    assert (segment.name, segment.id) == ("winter_sale", CS_ID)
    assert segment.description == "buyers of winter"


def test_an_unreadable_time_does_not_hide_the_segment() -> None:
    """Strict in type, gentle in content: the text is kept aside."""
    body = b'{"data": [{"name": "a", "id": "1", "created_time": "yesterday"}]}'

    assert wire.decode_segments(Answer(200, {}, body)) == (
        Segment(name="a", id="1", extra={"created_time": "yesterday"}),
    )


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"data": [{"name": "a"}]}', "required field missing @ $.data[0].id"),
        (
            b'{"data": [{"name": "a", "id": "1", "created_time": 5}]}',
            "ISO 8601 time @ $.data[0].created_time",
        ),
        (b'{"data": [5]}', "expected object @ $.data[0]"),
        (b'{"data": null}', "expected object @ $.data"),
        (b"[]", "expected object @ $"),
        (b"", "not JSON @ $"),
    ],
)
def test_a_list_that_is_none_names_the_path(body: bytes, problem: str) -> None:
    """Down to the item."""
    with pytest.raises(errors.AnswerShapeError) as caught:
        wire.decode_segments(Answer(200, {}, body))

    assert caught.value.problem.endswith(problem)


ERRORS = {
    400: errors.BadRequest,
    401: errors.AuthenticationFailed,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.BadRequest,
    413: errors.BadRequest,
    429: errors.TooManyRequests,
    500: errors.ServerError,
    502: errors.ServerError,
    503: errors.ServerError,
    504: errors.ServerError,
}


@pytest.mark.parametrize(
    "path",
    sorted(path.relative_to(SAMPLES) for path in SAMPLES.rglob("[45][0-9][0-9]*.*") if path.parent.name != "callback"),
    ids=str,
)
def test_every_sample_of_an_error_has_the_class_of_its_status(path: Path) -> None:
    """All four shapes, and gateways that speak HTML or nothing."""
    status = int(path.stem[:3])
    error = wire.error_from(Answer(status, {}, (SAMPLES / path).read_bytes()), job_id="j1")

    assert type(error) is ERRORS[status]
    assert (status, "j1") == (error.status, error.job_id)
    assert error.title


@pytest.mark.parametrize(
    ("name", "title", "description", "request_id"),
    [
        ("create/409.json", "Not created", "There is a winter_sale already", None),
        ("list/401.json", "Who are you", "The key does not belong to this workspace", "Qk3rT9sZ"),
        ("add/403.json", "Access denied", "This address may not call", "r-77aa01"),
        ("create/403.json", "Blocked", "This address may not call", None),
        ("gateway/502.html", "Bad Gateway", None, None),
        ("gateway/503.txt", "Service Unavailable", None, None),
    ],
)
def test_an_error_says_what_the_service_said(
    name: str, title: str, description: str | None, request_id: str | None
) -> None:
    """v2, v3, platform, firewall, gateway."""
    error = wire.error_from(Answer(int(Path(name).stem), {}, sample(name)))

    assert (title, description, request_id) == (error.title, error.description, error.request_id)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(302, errors.ApiError), (405, errors.ApiError), (418, errors.ApiError), (599, errors.ServerError)],
)
def test_other_statuses_have_the_nearest_class(status: int, kind: type[errors.ApiError]) -> None:
    """A redirect is an answer like any other."""
    assert type(wire.error_from(Answer(status))) is kind


def test_a_status_nobody_knows_still_has_a_title() -> None:
    """999 is used by some firewalls."""
    assert str(wire.error_from(Answer(999))) == "HTTP 999 Unknown Status"


def test_a_conflict_names_the_segment_in_the_way() -> None:
    """The v3 error carries it."""
    error = wire.error_from(Answer(409, {}, sample("create_filter/409.json")))

    assert isinstance(error, errors.Conflict)
    assert (error.existing_cs_name, error.existing_cs_id) == ("autumn_sale", "64f0c1d2e3a4b5c6d7e8f903")


def test_a_long_text_with_control_characters_is_made_fit_to_show() -> None:
    """An error page must not repaint somebody's terminal."""
    body = json.dumps({"title": "a\x1b[2Jb\r\nc", "description": "x" * 5_000, "nested": {"deep": 1}}).encode()
    error = wire.error_from(Answer(400, {}, body))

    assert error.title == "a [2Jb c"
    assert error.description is not None
    assert len(error.description) == 300
    assert error.details.keys() == {"title", "description"}


def test_texts_of_the_wrong_type_are_passed_over() -> None:
    """The status alone decides; a title of 5 is no title."""
    error = wire.error_from(Answer(400, {}, b'{"title": 5, "description": ["x"], "error": {"code": 7}}'))

    assert (error.title, error.description) == ("Bad Request", None)


def test_answers_are_looked_up_in_any_case_and_keep_only_what_is_of_use() -> None:
    """HTTP header names have no case; cookies are nobody's business."""
    answer = Answer(200, {"RETRY-after": "3", "Set-Cookie": "s=1"}, b"secret body")

    assert answer.header("Retry-After") == "3"
    assert answer.header("set-cookie") is None
    assert "secret" not in repr(answer)


DATE = {"Date": "Mon, 02 Feb 2026 02:40:00 GMT"}  # NOW_S
LATER = {"Date": "Mon, 02 Feb 2026 02:50:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "٣"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "99999999"}, None),
        ({"Retry-After": "Mon, 02 Feb 2026 02:41:00 GMT"}, 60),
        ({"Retry-After": "Mon, 02 Feb 2026 02:41:00 GMT", **LATER}, 0),
        ({"Retry-After": "Mon, 31 Feb 2026 02:41:00 GMT"}, None),
        ({"Retry-After": "Mon, 02 Foo 2026 02:41:00 GMT"}, None),
        ({"x-ratelimit-reset": str(int(NOW_S) + 30)}, 30),
        ({"x-ratelimit-reset": str(int(NOW_S) + 30), **DATE}, 30),
        ({"x-ratelimit-reset": str(int(NOW_S) + 630), **LATER}, 30),
        ({"x-ratelimit-reset": str(int(NOW_S) - 30)}, 0),
        ({"x-ratelimit-reset": "30"}, None),
        ({"x-ratelimit-reset": "nan"}, None),
        ({"Retry-After": "1", "x-ratelimit-reset": str(int(NOW_S) + 3_000)}, 3_000),
        ({"Retry-After": "7", "Date": "not a date"}, 7),
    ],
)
def test_a_wait_is_taken_from_whatever_names_one(headers: dict[str, str], wait_s: float | None) -> None:
    """The longest named wait; garbage is ignored; a past moment is no wait; our clock is the last resort."""
    assert wire.throttle_facts(Answer(429, headers), now_s=NOW_S) == ThrottleFacts(wait_s=wait_s)


def test_the_limit_that_was_hit_is_told_by_its_capacity() -> None:
    """Ten an hour or a hundred a day."""
    facts = wire.throttle_facts(Answer(429, {"X-RateLimit-Limit": "10"}), now_s=NOW_S)

    assert facts.named_limit_capacity == 10


@pytest.mark.parametrize("text", ["0", "-1", "many", ""])
def test_a_capacity_that_is_none_is_ignored(text: str) -> None:
    """Only a number from 1 can be one."""
    assert wire.throttle_facts(Answer(429, {"X-RateLimit-Limit": text}), now_s=NOW_S) == ThrottleFacts()


def test_the_count_of_active_segments_is_read_from_the_body() -> None:
    """The only authoritative number there is."""
    facts = wire.throttle_facts(Answer(429, {}, sample("create_filter/429-segments.json")), now_s=NOW_S)

    assert (facts.actual_count, facts.limit) == (1001, 1000)


@pytest.mark.parametrize("count", [True, -1, 1.0, "1001", None, 2**70])
def test_a_count_of_active_segments_is_a_whole_number_or_nothing(count: object) -> None:
    """True is not 1."""
    body = json.dumps({"error": {"actual_count": count}}).encode()

    assert wire.throttle_facts(Answer(429, {}, body), now_s=NOW_S).actual_count is None


NAME: Final = str(json.loads(sample("callback/201.json"))["segment_name"])


def callback(**changes: object) -> bytes:
    return json.dumps({**json.loads(sample("callback/201.json")), **changes}).encode()


def test_a_processed_file_is_read() -> None:
    """Found, then usable, then known."""
    processed = decode_callback(sample("callback/201.json"))

    assert isinstance(processed, FileProcessed)
    assert (processed.values_found, processed.values_processed, processed.user_count) == (80, 70, 60)


@pytest.mark.parametrize("status", [400, 500])
def test_a_failed_file_is_read(status: int) -> None:
    """With the service's own text."""
    failed = decode_callback(sample(f"callback/{status}.json"))

    assert isinstance(failed, FileFailed)
    assert failed.status == status
    assert failed.error_message


def test_a_callback_may_lack_its_database_and_have_more_fields() -> None:
    """Unknown fields are kept."""
    body = json.loads(callback(shard=7))
    del body["db_name"]
    processed = decode_callback(json.dumps(body).encode())

    assert isinstance(processed, FileProcessed)
    assert (processed.db_name, processed.extra) == (None, {"shard": 7})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON @ $"),
        (b"{", "not JSON @ $"),
        (b"[]", "expected object @ $"),
        (b"{}", "required field missing @ $.status"),
        (b"\x80", "not UTF-8 text @ $"),
        (b'{"a": "\\ud800"}', "not UTF-8 text @ $"),
        (b'{"status": 201, "status": 400}', "a field given twice @ $"),
        (b'{"status": NaN}', "a number that is not finite @ $"),
        (b'{"status": -Infinity}', "a number that is not finite @ $"),
        (b'{"status": 1e999}', "a number that is not finite @ $"),
        (b'{"status": ' + b"9" * 5_000 + b"}", "not JSON @ $"),
        (b"[" * 33 + b"]" * 33, "JSON nested deeper than 32 @ $"),
        (b"[" * 200_000, "JSON nested deeper than 32 @ $"),
        (b'{"a":' * 200_000, "JSON nested deeper than 32 @ $"),
        (callback(status=True), "expected int @ $.status"),
        (callback(status="2o1"), "expected int @ $.status"),
        (callback(status=201.5), "expected int @ $.status"),
        (callback(status=[201]), "expected int @ $.status"),
        (callback(status=None), "expected int @ $.status"),
        (callback(status=2**63), "expected int of at most 1,099,511,627,776 @ $.status"),
        (callback(status=200), "expected 201 or an error status @ $.status"),
        (callback(status=600), "expected 201 or an error status @ $.status"),
        (callback(values_found="8O"), "expected int @ $.values_found"),
        (callback(values_found="1,000"), "expected int @ $.values_found"),
        (callback(values_found="-1"), "expected int @ $.values_found"),
        (callback(values_found=""), "expected int @ $.values_found"),
        (callback(values_found="8e1"), "expected int @ $.values_found"),
        (callback(values_found="9" * 16), "expected int @ $.values_found"),
        (callback(values_found=80.5), "expected int @ $.values_found"),
        (callback(values_found=1e300), "expected int of at most 1,099,511,627,776 @ $.values_found"),
        (callback(values_found=None), "expected int @ $.values_found"),
        (callback(user_count=True), "expected int @ $.user_count"),
        (callback(values_processed=-1), "expected a count from 0 @ $.values_processed"),
        (callback(values_processed=81), "more values processed than found @ $.values_processed"),
        (callback(segment_name=None), "expected str @ $.segment_name"),
        (callback(segment_name=[NAME]), "expected str @ $.segment_name"),
    ],
)
def test_a_callback_that_does_not_fit_says_why(body: bytes, reason: str) -> None:
    """Strict, without raising, and without repeating what it got."""
    assert decode_callback(body) == Unparsed(reason)


@pytest.mark.parametrize("count", [70, 70.0, "70", "70.0", "70.000", " 70 ", "0070"])
@pytest.mark.parametrize("field", ["values_processed", "user_count"])
def test_a_count_is_read_however_it_is_written(field: str, count: object) -> None:
    """There is no second meaning, and the callback does not come again."""
    read = decode_callback(callback(**{field: count}))

    assert getattr(read, field, read) == 70
    assert type(getattr(read, field)) is int


@pytest.mark.parametrize("status", ["201", 201.0, "201.0", " 201"])
def test_a_status_is_read_however_it_is_written(status: object) -> None:
    assert getattr(decode_callback(callback(status=status)), "status", None) == 201


@pytest.mark.parametrize("status", [400, 404, 413, 499, 500, 503, 599, "400", 500.0])
@pytest.mark.parametrize("message", [None, "", " ", [], {}, False])
def test_a_failure_without_a_message_is_a_failure(status: object, message: object) -> None:
    """The status says so, whatever else is there or is not."""
    for body in (
        callback(status=status, error_message=message),
        json.dumps({"status": status, "segment_name": NAME}).encode(),
    ):
        failed = decode_callback(body)

        assert isinstance(failed, FileFailed)
        assert failed.status == int(float(status))  # type: ignore[arg-type]  # a number or its text
        assert failed.error_message


@pytest.mark.parametrize(
    ("message", "read"),
    [("a\x00b\n", "a b"), (5, "5"), ({"code": "E1"}, '{"code": "E1"}'), (None, "the service gave no reason")],
)
def test_a_failure_says_what_there_is(message: object, read: str) -> None:
    assert getattr(decode_callback(callback(status=400, error_message=message)), "error_message", None) == read


@pytest.mark.parametrize(
    ("label", "read", "extra"),
    [
        ("5f3e", "5f3e", {}),
        (None, None, {}),
        (17, "17", {}),
        (17.0, "17", {}),
        (10**20, str(10**20), {}),
        (10**400, f"1{'0' * 298}…", {}),
        (1.5, "1.5", {}),
        (1e308, f"{int(1e308)}"[:299] + "…", {}),
        (True, None, True),
        (["5f3e"], None, ["5f3e"]),
        ({"id": 1}, None, {"id": 1}),
    ],
)
@pytest.mark.parametrize("field", ["request_id", "db_name"])
@pytest.mark.parametrize("status", [201, 400])
def test_a_label_decides_nothing(status: int, field: str, label: object, read: str | None, extra: object) -> None:
    """What is no label stays readable as it came."""
    verdict = decode_callback(callback(**{"status": status, field: label}))

    assert not isinstance(verdict, Unparsed)
    assert getattr(verdict, field) == read
    assert verdict.extra.get(field, {}) == extra


def test_a_callback_may_lack_its_request_id() -> None:
    body = json.loads(callback())
    del body["request_id"]

    assert getattr(decode_callback(json.dumps(body).encode()), "request_id", "unread") is None


@pytest.mark.parametrize(("name", "read"), [(NAME, NAME), (f" {NAME} ", f" {NAME} "), (None, NAME), ("", NAME)])
@pytest.mark.parametrize("status", [201, 400])
def test_a_callback_is_of_the_segment_that_its_token_is_for(status: int, name: object, read: str) -> None:
    """Where it has no name, the token says which."""
    verdict = decode_callback(callback(status=status, segment_name=name), (NAME, "its name at the service"))

    assert getattr(verdict, "segment_name", verdict) == read


def test_a_name_is_the_same_in_another_form_and_as_a_number() -> None:
    """An é is one character or two; a segment may be called 2026."""
    assert isinstance(decode_callback(callback(segment_name="cafe\u0301"), ("café",)), FileProcessed)
    assert isinstance(decode_callback(callback(segment_name=2026), ("2026",)), FileProcessed)


@pytest.mark.parametrize("name", ["another", NAME.upper(), 5, f"{NAME}2"])
@pytest.mark.parametrize("status", [201, 400])
def test_a_callback_of_another_segment_ends_nothing(status: int, name: object) -> None:
    """Neither as a success nor as a failure."""
    verdict = decode_callback(callback(status=status, segment_name=name), (NAME,))

    assert verdict == Unparsed("another segment's name @ $.segment_name")


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (None, None),
        ("", None),
        ("   ", None),
        ("identity", None),
        (" IDENTITY ", None),
        ("identity, identity", None),
        (",identity,,", None),
        ("gzip", "'gzip'"),
        ("GZIP", "'GZIP'"),
        ("identity, gzip", "'gzip'"),
        ("br,gzip", "'br, gzip'"),
        ("aws-chunked", "'aws-chunked'"),
        ("no-identity", "'no-identity'"),
        ("a\r\nb", "'a b'"),
    ],
)
def test_a_coding_is_named_unless_it_is_none(header: str | None, named: str | None) -> None:
    assert foreign_coding(header) == named


@pytest.mark.parametrize("depth", [31, 32])
def test_nesting_is_taken_up_to_its_bound(depth: int) -> None:
    """32 levels, the outermost object included."""
    body = b'{"status":201,"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert isinstance(decode_callback(body), Unparsed)
    assert "nested" not in str(decode_callback(body))


@FUZZ
@given(st.binary())
@example(b'{"status":')
def test_no_bytes_make_a_callback_raise(body: bytes) -> None:
    """Whoever knows a token can send anything."""
    assert isinstance(decode_callback(body), FileProcessed | FileFailed | Unparsed)


FIELDS = sorted(
    {field for path in SAMPLES.rglob("[2-5][0-9][0-9]*.json") for field in json.loads(path.read_text())}
    | {"extra", "code", "message", "name", "id", "created_time", "actual_count", "limit"}
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner),
    max_leaves=20,
)
_OBJECTS = st.dictionaries(st.sampled_from(FIELDS), _JSON)
_BODIES = (
    st.binary()
    | _JSON.map(lambda value: json.dumps(value).encode())
    | _OBJECTS.map(lambda value: json.dumps(value).encode())
)


@FUZZ
@given(_BODIES)
def test_no_json_makes_a_callback_raise(body: bytes) -> None:
    """Nor any object with the right names and the wrong values."""
    assert isinstance(decode_callback(body), FileProcessed | FileFailed | Unparsed)


@FUZZ
@given(_BODIES, st.sampled_from(OPERATIONS), st.booleans())
def test_an_answer_is_an_acceptance_or_has_another_shape(
    body: bytes,
    operation: Operation,
    complete: bool,  # noqa: FBT001 - drawn
) -> None:
    """No third way."""
    answer = Answer(202, {}, body, body_complete=complete)
    try:
        accepted = wire.decode_acceptance(answer, operation)
    except errors.AnswerShapeError:
        return
    assert accepted.success is not False
    assert accepted.cs_name


@FUZZ
@given(_BODIES)
def test_an_answer_is_a_list_or_has_another_shape(body: bytes) -> None:
    """No third way."""
    try:
        segments = wire.decode_segments(Answer(200, {}, body))
    except errors.AnswerShapeError:
        return
    assert all(isinstance(segment.name, str) for segment in segments)


@FUZZ
@given(_BODIES, st.integers(300, 999), st.dictionaries(st.sampled_from(["date", "retry-after"]), st.text()))
def test_any_other_answer_is_an_error_of_its_status(body: bytes, status: int, headers: dict[str, str]) -> None:
    """Whatever the body and the headers say."""
    answer = Answer(status, headers, body)
    error = wire.error_from(answer)

    assert status == error.status
    assert error.title
    assert error.title.isprintable()
    assert isinstance(wire.throttle_facts(answer, now_s=NOW_S), ThrottleFacts)
    assert isinstance(error, errors.ServerError) == (status >= HTTPStatus.INTERNAL_SERVER_ERROR)
