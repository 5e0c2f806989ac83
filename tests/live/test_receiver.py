"""The callback receiver on real sockets: durable before 200, deaf to everything without a token, hard to hold up."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import aiohttp
import attrs
import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_segments.callbacks.receiver import MAX_BODY_BYTES, CallbackReceiver, Reply, new_token, token_digest
from moe_segments.core.events import Answered, CallbackReceived, Moved, Reserved, encode
from moe_segments.errors import InputError, JournalError
from moe_segments.journal import open_journal
from moe_segments.journal.memory import MemoryJournal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from moe_segments.models import JobState
from moe_segments.testing import run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from moe_segments.core.events import Batch, Event
    from moe_segments.core.state.jobs import JobRecord

SCOPE: Final = "W1.03"
PUBLIC: Final = "https://hooks.example.com/moe"
LONG_S: Final = 10.0  # only ever waited for by a test that fails
BRIEF_S: Final = 0.5  # a deadline under test

SEGMENT: Final = "diwali_2026"
PROCESSED: Final[dict[str, object]] = {
    "db_name": "demo",
    "segment_name": SEGMENT,
    "request_id": "5f3e0c1a",
    "status": 201,
    "values_found": 48_210,
    "values_processed": 48_190,
    "user_count": 40_002,
}
FAILED: Final[dict[str, object]] = {
    "segment_name": SEGMENT,
    "request_id": "5f3e0c1b",
    "status": 400,
    "error_message": "The file could not be downloaded",
}


class WatchedJournal(MemoryJournal):
    """A memory journal that can be broken or held, and counts its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.is_broken = False
        self.may_append = asyncio.Event()
        self.may_append.set()
        self.appending = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def append(self, events: Sequence[Event], *, batch_id: str) -> Batch:
        """When it may, and unless broken."""
        self.appending.set()
        await self.may_append.wait()
        self._refuse_if_broken()
        return await super().append(events, batch_id=batch_id)

    async def read(self, after: int) -> Sequence[Batch]:
        """Counted, and unless broken."""
        self.reads += 1
        await self.may_read.wait()
        self._refuse_if_broken()
        return await super().read(after)

    def _refuse_if_broken(self) -> None:
        if self.is_broken:
            raise JournalError("the disk that holds the journal is full")


@attrs.frozen
class Desk:
    """A receiver, the replica it is bound to, and one job that waits for its callback."""

    receiver: CallbackReceiver
    replica: Replica
    job: str
    token: str

    @property
    def record(self) -> JobRecord:
        """What the journal says of the job."""
        return self.replica.state.jobs.records[self.job]

    @property
    def path(self) -> str:
        """The job's path."""
        return f"/{SCOPE}/{self.token}"

    async def take(self, body: object, token: str | None = None) -> int:
        """The status for a POST of *body*, straight to the decision."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (await self.receiver.decide(SCOPE, token or self.token, "POST", None, raw)).status


async def reserve(replica: Replica, job: str) -> str:
    """A job that waits for a callback. Returns its token."""
    token = new_token()
    event = Reserved(job, 1, {"op": "add", "name": SEGMENT}, keys=(job,), token_sha256=token_digest(token))
    await replica.ask(lambda _state, _now_us: ([event], None))
    return token


@asynccontextmanager
async def opened(journal: Any) -> AsyncIterator[Replica]:
    replica = Replica(journal, QuotaLimits())
    await replica.open()
    try:
        yield replica
    finally:
        await replica.close()


@asynccontextmanager
async def desk_over(journal: Any, public_url: str | None = None) -> AsyncIterator[Desk]:
    async with opened(journal) as replica:
        receiver = CallbackReceiver(public_url)
        receiver.bind(SCOPE, replica)
        yield Desk(receiver, replica, "job-1", await reserve(replica, "job-1"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'quota.db'}"


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def desk(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Desk]:
    url = sqlite_url if request.param == "sqlite" else "memory:"
    async with desk_over(open_journal(url, SCOPE)) as made:
        yield made


@pytest_asyncio.fixture
async def watched() -> AsyncIterator[tuple[Desk, WatchedJournal]]:
    journal = WatchedJournal()
    async with desk_over(journal) as made:
        yield made, journal


# Durable before 200


@pytest.mark.asyncio
async def test_a_callback_is_in_the_journal_before_its_200(sqlite_url: str) -> None:
    """Whoever opens the file after the answer finds the callback there."""
    async with desk_over(open_journal(sqlite_url, SCOPE)) as desk, desk.receiver.serve():
        assert await post(desk.receiver.url_for(SCOPE, desk.token), PROCESSED) == 200

        async with opened(open_journal(sqlite_url, SCOPE)) as other:
            assert other.state.jobs.records[desk.job].state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_the_answer_waits_for_the_disk(watched: tuple[Desk, WatchedJournal]) -> None:
    """No 200 while the append is on its way, however long it takes."""
    desk, journal = watched
    journal.may_append.clear()
    async with desk.receiver.serve():
        answer = asyncio.create_task(post(desk.receiver.url_for(SCOPE, desk.token), PROCESSED))
        await journal.appending.wait()
        for _ in range(3):  # an answer that did not wait for the disk would be there before these
            async with aiohttp.request("GET", desk.receiver.url_for(SCOPE, desk.token)) as refused:
                assert refused.status == 405
        is_early = answer.done()
        journal.may_append.set()

        assert not is_early
        assert await answer == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [PROCESSED, FAILED, b"no json"])
async def test_a_journal_that_is_down_is_a_503_and_nothing_is_kept(
    watched: tuple[Desk, WatchedJournal], body: object
) -> None:
    """The sender is asked to come again; when it does, the callback is taken as if it were the first time."""
    desk, journal = watched
    version = desk.replica.state.version
    journal.is_broken = True
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await desk.receiver.decide(SCOPE, desk.token, "POST", None, raw)

    assert (reply.status, reply.headers) == (503, {"Retry-After": "5"})
    journal.is_broken = False
    assert not await journal.read(version)
    assert await desk.take(body) == 200
    assert desk.replica.state.version == version + 1


@pytest.mark.asyncio
async def test_a_token_that_cannot_be_looked_up_is_a_503_and_no_404(
    watched: tuple[Desk, WatchedJournal],
) -> None:
    """An unreadable journal may hold the token: 404 might end the sender's tries for good."""
    desk, journal = watched
    journal.is_broken = True

    assert await desk.take(PROCESSED, new_token()) == 503


# What is recorded


@pytest.mark.asyncio
async def test_a_processed_file_is_recorded_with_all_its_fields(desk: Desk) -> None:
    """Fields that the documents do not name are kept under `extra`."""
    assert await desk.take({**PROCESSED, "note": ["kept"]}) == 200

    assert desk.record.state == JobState.PROCESSED
    assert desk.record.result == {**PROCESSED, "extra": {"note": ["kept"]}}


@pytest.mark.asyncio
async def test_a_failed_file_is_recorded_with_the_services_text(desk: Desk) -> None:
    """The text and the identifier reach whoever awaits the job."""
    assert await desk.take(FAILED) == 200

    assert desk.record.state == JobState.FAILED
    assert desk.record.result == {**FAILED, "db_name": None}


UNFIT: Final[dict[str, bytes]] = {
    "empty": b"",
    "no JSON": b"<html>502</html>",
    "a list": b"[]",
    "no status": b'{"segment_name": "a"}',
    "NaN": json.dumps({**PROCESSED, "user_count": float("nan")}).encode(),
    "infinity": json.dumps({**PROCESSED, "user_count": float("inf")}).encode(),
    "a key twice": b'{"status": 201, "status": 400}',
    "another status": json.dumps({**PROCESSED, "status": 202}).encode(),
    "count as words": json.dumps({**PROCESSED, "user_count": "many"}).encode(),
    "count as truth": json.dumps({**PROCESSED, "user_count": True}).encode(),
    "count below zero": json.dumps({**PROCESSED, "values_found": -1}).encode(),
    "half a user": json.dumps({**PROCESSED, "user_count": 1.5}).encode(),
    "no count": json.dumps({name: fact for name, fact in PROCESSED.items() if name != "user_count"}).encode(),
    "more processed than found": json.dumps({**PROCESSED, "values_found": 48_189}).encode(),
    "another's segment": json.dumps({**PROCESSED, "segment_name": "diwali_2025"}).encode(),
    "another's failure": json.dumps({**FAILED, "segment_name": "diwali_2025"}).encode(),
    "a list for a name": json.dumps({**PROCESSED, "segment_name": [SEGMENT]}).encode(),
    "deep": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "deep lists": b"[" * MAX_BODY_BYTES,
    "bad UTF-8": b'{"status": 201, "segment_name": "\xff\xfe"}',
    "half a pair": b'{"status": 201, "segment_name": "\\ud800"}',
    "a huge number": b'{"status": ' + b"9" * 6_000 + b"}",
    "NUL": b"\x00" * 100,
    "a form": b"status=201&user_count=7",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("body", UNFIT.values(), ids=UNFIT.keys())
async def test_a_body_that_does_not_fit_is_kept_as_it_came(desk: Desk, body: bytes) -> None:
    """The token proves that the service means this job: 200, and the user is told that nobody can read it."""
    assert await desk.take(body) == 200

    assert desk.record.is_unreadable
    assert desk.record.state_at(desk.record.doubt_us) == JobState.UNREADABLE
    (kept,) = await callbacks(desk)
    assert (kept.outcome, kept.body["raw"]) == ("unparsed", body.decode("utf-8", "replace"))
    assert desk.record.unread is not None
    assert kept.body["reason"] == desk.record.unread["reason"] == desk.record.unreadable_reason


def without(*names: str, **changes: object) -> dict[str, object]:
    return {name: fact for name, fact in (PROCESSED | changes).items() if name not in names}


READABLE: Final[dict[str, tuple[object, str]]] = {
    "no request_id": (without("request_id"), JobState.PROCESSED),
    "null for a request_id": (without(request_id=None), JobState.PROCESSED),
    "a number for a request_id": (without(request_id=17), JobState.PROCESSED),
    "a list for a request_id": (without(request_id=[1]), JobState.PROCESSED),
    "counts as floats": (without(values_found=48_210.0, user_count=2.0), JobState.PROCESSED),
    "counts as text": (without(values_found="48210", user_count="2"), JobState.PROCESSED),
    "status as text": (without(status="201"), JobState.PROCESSED),
    "status as a float": (without(status=201.0), JobState.PROCESSED),
    "no segment": (without("segment_name"), JobState.PROCESSED),
    "null for a segment": (without(segment_name=None), JobState.PROCESSED),
    "nobody matched": (without(user_count=0), JobState.PROCESSED),
    "nothing found": (without(values_found=0, values_processed=0, user_count=0), JobState.PROCESSED),
    "one value of many users": (without(values_found=1, values_processed=1, user_count=9), JobState.PROCESSED),
    "a failure without a message": ({"segment_name": SEGMENT, "request_id": "5f", "status": 400}, JobState.FAILED),
    "a failure and nothing else": ({"status": 500}, JobState.FAILED),
    "a failure with figures": (without(status=400), JobState.FAILED),
    "another failure": (without(status="503"), JobState.FAILED),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("body", "state"), READABLE.values(), ids=READABLE.keys())
async def test_what_is_beyond_doubt_is_read(desk: Desk, body: object, state: str) -> None:
    """It comes once, and nobody can ask for it again."""
    assert await desk.take(body) == 200

    assert desk.record.state == state
    assert not desk.record.is_unreadable
    assert desk.record.result is not None
    assert desk.record.result["segment_name"] == SEGMENT


@pytest.mark.asyncio
async def test_the_names_of_a_segment_are_those_that_the_service_answered_with(desk: Desk) -> None:
    """An operation by identifier reaches the segment of that identifier, whatever it was called in the request."""
    accepted = {"cs_name": "diwali (VIP)", "cs_id": "5f"}
    await desk.replica.record(Answered(desk.job, 1, 202, accepted=accepted))

    assert await desk.take(without(segment_name="diwali (VIP)")) == 200
    assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"callback_url": "{url}"}, {"extra": {"callback_url": f"http://127.0.0.1:1/{SCOPE}/***"}}),
        ({"to": {"path": ["/{token}"], "{token}": 1}}, {"extra": {"to": {"path": ["/***"], "***": 1}}}),
        ({"request_id": "{token}"}, {"request_id": "***"}),
        ({"db_name": "demo-{token}"}, {"db_name": "demo-***"}),
        ({"status": 400, "error_message": "cannot POST {url}"}, {"status": 400}),
        ({"halves": ["{first}", "{second}"]}, {}),
        ({"key": "{key}"}, {"extra": {"key": "***"}}),
    ],
)
async def test_a_token_that_comes_back_in_a_callback_is_not_kept(
    fields: dict[str, object], kept: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """In whichever field, and also where the callback cannot be read."""
    caplog.set_level(logging.DEBUG)
    for name in (SEGMENT, "another"):
        async with opened(MemoryJournal()) as replica:
            receiver = CallbackReceiver("http://127.0.0.1:1")
            receiver.bind(SCOPE, replica, secrets=("the-key-of-the-workspace",))
            desk = Desk(receiver, replica, "job-1", await reserve(replica, "job-1"))
            body = json.dumps(PROCESSED | {"segment_name": name} | fields)
            for mark, text in (
                ("{url}", receiver.url_for(SCOPE, desk.token)),
                ("{token}", desk.token),
                ("{first}", desk.token[:7]),
                ("{second}", desk.token[7:]),
                ("{key}", "the-key-of-the-workspace"),
            ):
                body = body.replace(mark, text)
            assert await desk.take(body.encode()) == 200

            written = encode([event for batch in await replica.journal.read(0) for event in batch.events])
            shown = f"{written}{desk.record}{caplog.text}"
            assert desk.token not in shown
            assert desk.token[7:] not in shown
            assert "the-key" not in shown
            assert desk.record.terminal == (name == SEGMENT)
            if desk.record.result is not None:
                assert {field: desk.record.result[field] for field in kept} == kept


@pytest.mark.asyncio
async def test_a_callback_of_another_send_is_kept_without_its_token(desk: Desk) -> None:
    """Whoever mixed two up may put both addresses into one body."""
    other = await reserve(desk.replica, "job-2")
    await desk.take(without(segment_name="another", callback_url=f"https://hooks.example.com/moe/{SCOPE}/{other}"))

    (kept,) = await callbacks(desk)
    assert other not in str(kept)
    assert f"/{SCOPE}/***" in str(kept.body["raw"])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        (("Content-Encoding: gzip",), b"\x1f\x8b", 415, "its Content-Encoding is 'gzip'"),
        ((), b" " * (MAX_BODY_BYTES + 1), 413, "its body is larger than 65,536 bytes"),
        (("Content-Length: 99999999",), b"", 413, "its body is larger than 65,536 bytes"),
    ],
)
async def test_a_callback_whose_body_is_refused_is_no_silence(
    headers: tuple[str, ...], body: bytes, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its job is told that one came and why it cannot be read; and a good one still ends it."""
    async with brief() as (desk, port):
        for _ in range(2):
            assert statuses(await talk(port, request(desk.path, body, *headers))) == [status]

        assert desk.record.unreadable_reason == reason
        assert len(await callbacks(desk)) == 1
        assert reason in caplog.text
        assert statuses(await talk(port, request(desk.path))) == [200]
        assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_a_coding_that_is_refused_is_named_and_no_token_with_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Also for a token that nobody knows."""
    for token in (desk.token, new_token()):
        assert (await desk.receiver.decide(SCOPE, token, "POST", f"br, {token}", JSON)).status == 415
        assert token not in caplog.text
    assert caplog.text.count("its Content-Encoding is 'br, ***'") == 2


@pytest.mark.asyncio
async def test_a_readable_callback_ends_a_job_after_an_unreadable_one(desk: Desk) -> None:
    """What could not be read settles nothing."""
    await desk.take(b"?")

    assert await desk.take(PROCESSED) == 200
    assert desk.record.state == JobState.PROCESSED


# Twice


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [json.dumps(PROCESSED).encode(), b"no json"])
async def test_the_same_body_again_is_a_200_without_an_entry(desk: Desk, body: bytes) -> None:
    """A sender that lost our answer repeats itself."""
    await desk.take(body)
    version = desk.replica.state.version

    assert [await desk.take(body) for _ in range(3)] == [200, 200, 200]
    assert desk.replica.state.version == version


@pytest.mark.asyncio
async def test_the_same_body_many_times_at_once_ends_the_job_once(desk: Desk) -> None:
    """No repetition counts as a conflict."""
    assert set(await asyncio.gather(*(desk.take(PROCESSED) for _ in range(10)))) == {200}

    assert (desk.record.state, desk.record.conflicts) == (JobState.PROCESSED, 0)


@pytest.mark.asyncio
async def test_a_different_second_body_is_kept_as_a_conflict(desk: Desk) -> None:
    """The first terminal result stays."""
    await desk.take(PROCESSED)

    assert await desk.take(FAILED) == 200
    assert (desk.record.state, desk.record.conflicts) == (JobState.PROCESSED, 1)


@pytest.mark.asyncio
async def test_two_different_bodies_at_once_are_one_result_and_one_conflict(desk: Desk) -> None:
    """Neither is lost, whichever comes first."""
    await asyncio.gather(desk.take(PROCESSED), desk.take(FAILED))

    assert (desk.record.terminal, desk.record.conflicts) == (True, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("first", [None, PROCESSED], ids=["waiting", "ended"])
async def test_a_leaked_token_cannot_fill_the_disk(desk: Desk, first: object, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty odd bodies are kept; further ones get the same 200, and the log says so once."""
    if first is not None:
        await desk.take(first)
    before = len(await callbacks(desk))

    bodies = [f"odd {number}".encode() for number in range(60)]
    assert set(await asyncio.gather(*(desk.take(body) for body in bodies))) == {200}
    assert len(await callbacks(desk)) - before == 20
    assert caplog.text.count("no more of them are kept") == 1
    assert await desk.take(PROCESSED) == 200
    assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_what_could_not_be_written_does_not_count_as_kept(watched: tuple[Desk, WatchedJournal]) -> None:
    """A journal that was down for a while costs no odd body its place."""
    desk, journal = watched
    journal.is_broken = True
    assert {await desk.take(b"odd") for _ in range(30)} == {503}

    journal.is_broken = False
    assert await desk.take(b"odd") == 200
    assert len(await callbacks(desk)) == 1


# Without a token


@pytest.mark.asyncio
async def test_an_unknown_token_changes_nothing(desk: Desk) -> None:
    """404 for a token of nobody, for none, and for a known one under another scope."""
    version = desk.replica.state.version
    decide = desk.receiver.decide
    sends = [(SCOPE, new_token()), (SCOPE, ""), ("", ""), ("W2.03", desk.token), (SCOPE, desk.token[:-1])]

    assert [(await decide(*send, "POST", None, b"{}")).status for send in sends] == [404] * 5
    assert desk.replica.state.version == version


@pytest.mark.asyncio
async def test_a_404_is_warned_of_now_and_then_with_its_reason(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong path would lose each callback; a flood of them must not fill the log."""
    strangers = [new_token() for _ in range(5)]
    for token in strangers:
        await desk.take(PROCESSED, token)
        await desk.receiver.decide("W2.03", token, "POST", None, JSON)
        await desk.receiver.decide("", "", "POST", None, JSON)

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition("404: ")[2] for line in warned] == [
        f"its token is in no job of {SCOPE}: is this the journal that the clients use?",
        f"its scope is none of those served here: {SCOPE}",
        "its path does not end in a scope and a token",
    ]
    assert not [token for token in strangers if token in caplog.text]


def test_a_404_is_warned_of_again_after_a_minute_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        receiver = CallbackReceiver()
        for _ in range(4):
            await receiver.decide("", "x", "POST", None, b"")
        await asyncio.sleep(61)
        await receiver.decide("", "x", "POST", None, b"")

    run_virtually(play)

    assert caplog.text.count("does not end in a scope and a token") == 2
    assert "token; 3 more since the last such line" in caplog.text


@pytest.mark.asyncio
async def test_a_receiver_whose_client_is_not_there_yet_asks_to_come_again(caplog: pytest.LogCaptureFixture) -> None:
    """After each restart the web server may answer before the client is open: it is not ready, and says so."""
    receiver = CallbackReceiver(PUBLIC)
    before = await receiver.decide(SCOPE, "x", "POST", None, b"{}")
    ready = await receiver.decide("-", "ready", "GET", None, b"")
    async with opened(MemoryJournal()) as replica:
        receiver.bind(SCOPE, replica)
        unknown = await receiver.decide(SCOPE, "x", "POST", None, b"{}")

    assert [before.status, ready.status, unknown.status] == [503, 503, 404]
    assert "no client uses this receiver yet" in caplog.text


@pytest.mark.asyncio
async def test_it_is_ready_while_its_journals_can_be_read(watched: tuple[Desk, WatchedJournal]) -> None:
    """Alive it is in any case: to start it anew would mend no journal."""
    desk, journal = watched
    decide = desk.receiver.decide

    async def seen() -> list[int]:
        asked = [(path, method) for path in ("live", "ready") for method in ("GET", "HEAD")]
        return [(await decide("-", path, method, None, b"")).status for path, method in asked]

    assert await seen() == [200, 200, 200, 200]
    journal.is_broken = True
    assert await seen() == [200, 200, 503, 503]
    journal.is_broken = False
    assert await seen() == [200, 200, 200, 200]
    desk.receiver.unbind(SCOPE)
    assert await seen() == [200, 200, 503, 503]


def test_a_journal_that_does_not_answer_is_not_ready() -> None:
    """A probe is answered within seconds."""

    async def play() -> None:
        journal = WatchedJournal()
        async with desk_over(journal) as desk:
            journal.may_read.clear()
            began_s = asyncio.get_running_loop().time()
            assert (await desk.receiver.decide("-", "ready", "GET", None, b"")).status == 503
            assert asyncio.get_running_loop().time() - began_s < LONG_S
            journal.may_read.set()

    run_virtually(play)


@pytest.mark.asyncio
async def test_it_is_not_ready_on_a_journal_that_has_moved(desk: Desk) -> None:
    """Callbacks are asked to come again there, so nobody should be sent here."""
    with suppress(JournalError):
        await desk.replica.record(Moved("sqlite:///elsewhere.db", "id"))

    assert (await desk.receiver.decide("-", "ready", "GET", None, b"")).status == 503


@pytest.mark.asyncio
async def test_unknown_tokens_share_few_reads_of_the_journal(watched: tuple[Desk, WatchedJournal]) -> None:
    """At most ten reads a second, whoever asks how often; each is told 404 after one of them."""
    desk, journal = watched
    before, began_s = journal.reads, time.monotonic()
    for _ in range(4):
        assert set(await asyncio.gather(*(desk.take(b"{}", new_token()) for _ in range(100)))) == {404}

    assert journal.reads - before == 4
    assert time.monotonic() - began_s >= 0.29


@pytest.mark.asyncio
async def test_known_tokens_and_unknown_scopes_read_nothing(watched: tuple[Desk, WatchedJournal]) -> None:
    """What can be told from memory costs no read."""
    desk, journal = watched
    before = journal.reads
    await desk.take(PROCESSED)
    await desk.receiver.decide("W2.03", desk.token, "POST", None, b"{}")

    assert journal.reads == before


@pytest.mark.asyncio
async def test_who_gives_up_waiting_for_a_read_does_not_take_it_from_others(
    watched: tuple[Desk, WatchedJournal],
) -> None:
    """A read is shared, so one sender's hanging up is not the others' failure."""
    desk, _ = watched
    await desk.take(b"{}", new_token())
    gone, staying = (asyncio.create_task(desk.take(b"{}", new_token())) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()

    assert await staying == 404


# Other processes


@pytest.mark.asyncio
async def test_a_token_made_in_another_process_is_known_at_once(sqlite_url: str) -> None:
    """The receiver reads on when it does not know a token, so its first callback is not lost."""
    async with (
        desk_over(open_journal(sqlite_url, SCOPE)) as desk,
        opened(open_journal(sqlite_url, SCOPE)) as other,
    ):
        token = await reserve(other, "job-of-another")

        assert await desk.take(PROCESSED, token) == 200


@pytest.mark.asyncio
async def test_whoever_awaits_the_job_in_another_process_hears_of_it(sqlite_url: str) -> None:
    """A callback taken in here wakes the task that waits there."""
    async with (
        desk_over(open_journal(sqlite_url, SCOPE)) as desk,
        opened(open_journal(sqlite_url, SCOPE)) as other,
    ):
        waiting = asyncio.create_task(other.job_changed(desk.job))
        await asyncio.sleep(0)
        await desk.take(PROCESSED)
        await asyncio.wait_for(waiting, LONG_S)

        assert other.state.jobs.records[desk.job].state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_a_receiver_with_a_journal_of_its_own_serves_alone(sqlite_url: str) -> None:
    """On another host than the client; `serve` opens and closes the journal."""
    alone = CallbackReceiver(PUBLIC, journal=sqlite_url, scopes=[SCOPE])
    async with opened(open_journal(sqlite_url, SCOPE)) as client, alone.serve():
        token = await reserve(client, "job-1")

        assert await post(f"http://127.0.0.1:{alone.port}/moe/{SCOPE}/{token}", PROCESSED) == 200
        assert await post(f"http://127.0.0.1:{alone.port}/moe/W2.03/{token}", PROCESSED) == 404
        await client.refresh()
        assert client.state.jobs.records["job-1"].state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_a_receiver_that_is_not_open_asks_to_come_again(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As one in an ASGI application whose host starts no mounted ones: a 404 would lose the callback for good."""
    alone = CallbackReceiver(PUBLIC, journal=sqlite_url, scopes=[SCOPE])
    async with opened(open_journal(sqlite_url, SCOPE)) as client:
        token = await reserve(client, "job-1")

        early = await alone.decide(SCOPE, token, "POST", None, json.dumps(PROCESSED).encode())
        other = await alone.decide("W2.03", token, "POST", None, b"{}")
        async with alone:
            taken = await alone.decide(SCOPE, token, "POST", None, json.dumps(PROCESSED).encode())
        late = await alone.decide(SCOPE, token, "POST", None, b"{}")

    assert [early.status, other.status, taken.status, late.status] == [503, 404, 200, 503]
    assert "Retry-After" in early.headers
    assert "async with receiver" in caplog.text


@pytest.mark.asyncio
async def test_a_mounted_app_opens_the_receivers_own_journal(sqlite_url: str) -> None:
    """With the host's start, and closes it with the host's end."""
    alone = CallbackReceiver(PUBLIC, journal=sqlite_url, scopes=[SCOPE])
    async with opened(open_journal(sqlite_url, SCOPE)) as client, mounted(alone) as origin:
        token = await reserve(client, "job-1")

        assert await post(f"{origin}/moe/{SCOPE}/{token}", PROCESSED) == 200


@pytest.mark.asyncio
async def test_the_asgi_lifespan_opens_the_receivers_own_journal(sqlite_url: str) -> None:
    """And says so; a journal that cannot be used stops the host with the reason."""
    alone = CallbackReceiver(PUBLIC, journal=sqlite_url, scopes=[SCOPE])
    async with opened(open_journal(sqlite_url, SCOPE)) as client, lifespan(alone) as told:
        token = await reserve(client, "job-1")

        assert told == ["lifespan.startup.complete"]
        assert (await alone.decide(SCOPE, token, "POST", None, b"{}")).status == 200
    assert told[-1] == "lifespan.shutdown.complete"


@pytest.mark.asyncio
async def test_the_asgi_lifespan_reports_a_journal_that_cannot_be_used(tmp_path: Path) -> None:
    """The host learns it at its start, not with the first callback."""
    (tmp_path / "quota.db").write_bytes(b"not a journal" * 100)
    alone = CallbackReceiver(PUBLIC, journal=f"sqlite:///{tmp_path / 'quota.db'}", scopes=[SCOPE])
    sent: list[dict[str, object]] = []

    await alone.asgi({"type": "lifespan"}, _startup, _into(sent))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]


# Setting up


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/moe",
        "ftp://hooks.example.com",
        "https://",
        "https://user:opensesame@hooks.example.com",
        "https://hooks.example.com/moe?key=1",
        "https://hooks.example.com/moe#part",
        "hooks.example.com",
        "",
    ],
)
def test_an_address_that_would_not_work_is_refused(url: str) -> None:
    """https, or http on this machine; the path is its end."""
    with pytest.raises(InputError) as caught:
        CallbackReceiver(url)

    assert caught.value.field == "public_url"
    assert "opensesame" not in str(caught.value)


def test_the_address_of_a_send_is_the_public_one_with_scope_and_token() -> None:
    """Both are quoted; a slash at the end of the public address makes no difference."""
    token = new_token()

    assert CallbackReceiver(f"{PUBLIC}/").url_for("W/1", token) == f"{PUBLIC}/W%2F1/{token}"
    assert CallbackReceiver("http://127.0.0.1:8080").url_for("W1", token) == f"http://127.0.0.1:8080/W1/{token}"


def test_tokens_are_long_and_unlike_one_another() -> None:
    """32 random bytes in characters that a path may hold as they are."""
    tokens = {new_token() for _ in range(1_000)}

    assert len(tokens) == 1_000
    assert {len(token) for token in tokens} == {43}


@pytest.mark.asyncio
async def test_the_address_is_unknown_until_it_listens() -> None:
    """Without a public address the receiver takes that of its own server, while that listens."""
    receiver = CallbackReceiver()
    with pytest.raises(InputError, match="public_url"):
        receiver.url_for(SCOPE, "t")
    async with receiver.serve() as serving:
        assert serving.url_for(SCOPE, "t") == f"http://127.0.0.1:{receiver.port}/{SCOPE}/t"

    assert (receiver.public_url, receiver.port) == (None, None)


@pytest.mark.asyncio
async def test_a_port_in_use_is_said_so() -> None:
    """With what to do about it."""
    async with CallbackReceiver().serve() as first:
        assert first.port is not None
        with pytest.raises(InputError, match=r"in use.*0 for a free one"):
            await CallbackReceiver().serve(port=first.port).__aenter__()
        with pytest.raises(InputError, match="listens already"):
            await first.serve().__aenter__()


@pytest.mark.asyncio
@pytest.mark.parametrize(("url", "host"), [(None, "0.0.0.0"), (PUBLIC, "192.0.2.1"), (PUBLIC, "no.such.invalid")])
async def test_an_address_that_cannot_be_listened_on_is_refused(url: str | None, host: str) -> None:
    """Without a public address only this machine's own will do."""
    with pytest.raises(InputError) as caught:
        await CallbackReceiver(url).serve(host=host).__aenter__()

    assert caught.value.field == "host"


@pytest.mark.parametrize(
    "given",
    [
        {"journal": "sqlite:///quota.db"},
        {"journal": "sqlite:///quota.db", "scopes": SCOPE},
        {"journal": "sqlite:///quota.db", "scopes": [""]},
        {"journal": "memory:", "scopes": [SCOPE]},
        {"journal": MemoryJournal(), "scopes": [SCOPE, "W2.03"]},
        {"scopes": [SCOPE]},
    ],
)
def test_a_journal_of_its_own_comes_with_its_scopes(given: dict[str, Any]) -> None:
    """Nobody makes a scope by asking for it."""
    with pytest.raises(InputError):
        CallbackReceiver(PUBLIC, **given)


@pytest.mark.asyncio
async def test_two_clients_do_not_take_each_others_scope(desk: Desk) -> None:
    """Binding the same replica again is no mistake, and after `unbind` the scope is free."""
    desk.receiver.bind(SCOPE, desk.replica)
    other = Replica(MemoryJournal(), QuotaLimits())
    with pytest.raises(InputError, match="another client"):
        desk.receiver.bind(SCOPE, other)

    desk.receiver.unbind(SCOPE)
    desk.receiver.unbind(SCOPE)
    desk.receiver.bind(SCOPE, other)
    assert await desk.receiver.decide("W9", "t", "POST", None, b"") == Reply(404)


def test_a_receiver_with_a_journal_takes_no_client() -> None:
    """It would not be clear whose journal holds."""
    receiver = CallbackReceiver(PUBLIC, journal=MemoryJournal(), scopes=[SCOPE])

    with pytest.raises(InputError, match="journal of its own"):
        receiver.bind(SCOPE, Replica(MemoryJournal(), QuotaLimits()))


def test_its_repr_is_fit_for_a_log() -> None:
    """Address and number of scopes; no token is in either."""
    receiver = CallbackReceiver(PUBLIC, journal=MemoryJournal(), scopes=[SCOPE])

    assert repr(receiver) == f"CallbackReceiver(public_url='{PUBLIC}', scopes=1)"


def test_importing_it_is_light() -> None:
    """aiohttp.web waits until a face of it is asked for."""
    code = "import sys, moe_segments.callbacks.receiver; sys.exit('aiohttp.web' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Anything at all

SCALARS: Final = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES: Final = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
BODIES: Final = st.binary(max_size=200) | st.dictionaries(
    st.sampled_from([*PROCESSED, *FAILED, "x"]), VALUES | st.sampled_from([201, 400, 500])
).map(lambda fields: json.dumps(PROCESSED | fields).encode())
ANYTHING: Final = st.tuples(st.text(), st.text(), st.sampled_from(["POST", "GET", ""]), st.none() | st.text(), BODIES)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANYTHING, max_size=10), st.lists(BODIES, max_size=10))
def test_whatever_comes_is_answered_and_only_a_token_changes_anything(
    strange: list[tuple[str, str, str, str | None, bytes]], bodies: list[bytes]
) -> None:
    """No mistake of the sender's is one of ours; with the token every body is taken."""

    async def play() -> None:
        async with desk_over(MemoryJournal()) as desk:
            version = desk.replica.state.version
            replies = await asyncio.gather(*(desk.receiver.decide(*one) for one in strange))
            assert {reply.status for reply in replies} <= {404, 405, 415}
            assert desk.replica.state.version == version
            assert [await desk.take(body) for body in bodies] == [200] * len(bodies)

    asyncio.run(play())


# Every face answers the same

JSON: Final = json.dumps(PROCESSED).encode()
GOOD: Final = "/{scope}/{token}"
FACES: Final[dict[str, tuple[str, str, dict[str, str], bytes, int]]] = {
    "a callback": ("POST", GOOD, {"Content-Type": "application/json"}, JSON, 200),
    "without a type": ("POST", GOOD, {}, JSON, 200),
    "of another type": ("POST", GOOD, {"Content-Type": "text/plain; charset=utf-16"}, JSON, 200),
    "with a query": ("POST", GOOD + "?a=b/c", {}, JSON, 200),
    "that does not fit": ("POST", GOOD, {}, b"?", 200),
    "without a body": ("POST", GOOD, {}, b"", 200),
    "as large as allowed": ("POST", GOOD, {}, b" " * MAX_BODY_BYTES, 200),
    "too large": ("POST", GOOD, {}, b" " * (MAX_BODY_BYTES + 1), 413),
    "much too large": ("POST", GOOD, {}, b" " * 3_000_000, 413),
    "zipped": ("POST", GOOD, {"Content-Encoding": "gzip"}, b"\x1f\x8b", 415),
    "zipped twice": ("POST", GOOD, {"Content-Encoding": "identity, br"}, JSON, 415),
    "an odd coding": ("POST", GOOD, {"Content-Encoding": "no coding at all"}, JSON, 415),
    "identity": ("POST", GOOD, {"Content-Encoding": "identity"}, JSON, 200),
    "identity in capitals": ("POST", GOOD, {"Content-Encoding": " Identity "}, JSON, 200),
    "identity twice": ("POST", GOOD, {"Content-Encoding": "identity,identity"}, JSON, 200),
    "an empty coding": ("POST", GOOD, {"Content-Encoding": ""}, JSON, 200),
    "a blank coding": ("POST", GOOD, {"Content-Encoding": " , "}, JSON, 200),
    "GET": ("GET", GOOD, {}, b"", 405),
    "HEAD": ("HEAD", GOOD, {}, b"", 405),
    "PUT": ("PUT", GOOD, {}, JSON, 405),
    "DELETE": ("DELETE", GOOD, {}, b"", 405),
    "OPTIONS": ("OPTIONS", GOOD, {}, b"", 405),
    "GET elsewhere": ("GET", "/x", {}, b"", 405),
    "another token": ("POST", "/{scope}/AAAA", {}, JSON, 404),
    "another scope": ("POST", "/W2.03/{token}", {}, JSON, 404),
    "the token alone": ("POST", "/{token}", {}, JSON, 404),
    "no token": ("POST", "/{scope}/", {}, JSON, 404),
    "a slash more": ("POST", GOOD + "/", {}, JSON, 200),
    "slashes more": ("POST", GOOD + "///", {}, JSON, 200),
    "a slash more and a query": ("POST", GOOD + "/?a=/b/c", {}, JSON, 200),
    "two slashes": ("POST", "/{scope}//{token}", {}, JSON, 200),
    "two slashes first": ("POST", "//{scope}/{token}", {}, JSON, 200),
    "below another path": ("POST", "/api/v1/{scope}/{token}", {}, JSON, 200),
    "below its own path twice": ("POST", "/moe/moe/{scope}/{token}", {}, JSON, 200),
    "dots": ("POST", "/x/../{scope}/{token}", {}, JSON, 200),
    "quoted dots": ("POST", "/%2e%2e/{scope}/{token}", {}, JSON, 200),
    "a segment more": ("POST", GOOD + "/x", {}, JSON, 404),
    "alive": ("GET", "/-/live", {}, b"", 200),
    "alive, without a body": ("HEAD", "/-/live", {}, b"", 200),
    "ready": ("GET", "/-/ready", {}, b"", 200),
    "ready, without a body": ("HEAD", "/-/ready/", {}, b"", 200),
    "ready, elsewhere": ("GET", "//api/-/ready?probe=1", {}, b"", 200),
    "something else": ("GET", "/-/status", {}, b"", 405),
    "ready with a POST": ("POST", "/-/ready", {}, JSON, 404),
    "ready with a PUT": ("PUT", "/-/ready", {}, JSON, 405),
    "a quoted slash": ("POST", "/{scope}%2F{token}", {}, JSON, 404),
    "a quoted NUL": ("POST", GOOD + "%00", {}, JSON, 404),
    "a quoted letter": ("POST", "/%571.03/{token}", {}, JSON, 200),
    "quoted rubbish": ("POST", GOOD + "%ff%zz", {}, JSON, 404),
    "very long": ("POST", "/{scope}/" + "A" * 7_000, {}, JSON, 404),
    "forwarded": ("POST", GOOD, {"X-Forwarded-Host": "a", "X-Original-URL": "/b", "Forwarded": "for=c"}, JSON, 200),
    "overridden": ("GET", GOOD, {"X-HTTP-Method-Override": "POST"}, b"", 405),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), FACES.values(), ids=FACES.keys())
async def test_every_face_gives_the_same_answer(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Our own server, a mounted aiohttp application and ASGI: status, the headers that matter, no body."""
    async with desk_over(MemoryJournal(), PUBLIC) as desk, desk.receiver.serve(), mounted(desk.receiver) as origin:
        target = "/moe" + path.format(scope=SCOPE, token=desk.token)
        served = await answer_of(f"http://127.0.0.1:{desk.receiver.port}", method, target, headers, body)
        mounted_answer = await answer_of(origin, method, target, headers, body)
        asgi = await asgi_answer(desk.receiver, method, target, headers, body)

    allow = "POST" if status == 405 else None
    assert [served, mounted_answer, asgi] == [(status, allow, b"")] * 3


@pytest.mark.asyncio
@pytest.mark.parametrize("root_path", ["", "/moe", "/api", "/api/moe"])
async def test_asgi_finds_the_address_wherever_it_is_mounted(root_path: str) -> None:
    """By the host's root path, by the public path, by both, by neither; also without the raw path."""
    async with desk_over(MemoryJournal(), PUBLIC) as desk:
        for prefix in {"", root_path, "/moe", f"{root_path}/moe"}:
            scope = http_scope("POST", f"{prefix}{desk.path}", {}) | {"root_path": root_path}

            assert (await asgi_status(desk.receiver, scope)) == 200
            assert (await asgi_status(desk.receiver, scope | {"raw_path": None})) == 200


@pytest.mark.asyncio
async def test_asgi_leaves_other_kinds_and_broken_off_requests_alone() -> None:
    """A websocket is nothing of ours, and nobody waits for the answer to a request that was hung up."""
    sent: list[dict[str, object]] = []
    async with desk_over(MemoryJournal(), PUBLIC) as desk:
        await desk.receiver.asgi({"type": "websocket"}, _hung_up, _into(sent))
        await desk.receiver.asgi(http_scope("POST", desk.path, {}), _hung_up, _into(sent))

        assert not sent
        assert not desk.record.terminal


@pytest.mark.asyncio
async def test_asgi_stops_reading_a_body_that_is_too_large() -> None:
    """An endless body costs 64 KiB."""
    read = 0

    async def endless() -> dict[str, object]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 8_192, "more_body": True}

    sent: list[dict[str, object]] = []
    async with desk_over(MemoryJournal(), PUBLIC) as desk:
        await desk.receiver.asgi(http_scope("POST", desk.path, {}), endless, _into(sent))

    assert (sent[0]["status"], read) == (413, 9)


# Hardening, on raw sockets


def request(path: str, body: bytes = JSON, *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request as bytes; its length is stated unless *headers* speak of the length themselves."""
    spoken = any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers)
    length = () if spoken else (f"Content-Length: {len(body)}",)
    lines = (f"{method} {path} HTTP/{version}", "Host: localhost", *headers, *length, "", "")
    return "\r\n".join(lines).encode("latin-1") + body


async def talk(port: int, *pieces: bytes, then: Callable[[asyncio.StreamWriter], None] | None = None) -> bytes:
    """Send *pieces* and read until the receiver ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if then is not None:
            then(writer)
        return await asyncio.wait_for(_rest(reader), LONG_S)
    finally:
        writer.transport.abort()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    read = bytearray()
    try:
        while piece := await reader.read(65_536):
            read += piece
    except ConnectionError:
        pass
    return bytes(read)


@asynccontextmanager
async def brief() -> AsyncIterator[tuple[Desk, int]]:
    """A receiver with short deadlines, and its port."""
    async with (
        desk_over(MemoryJournal()) as desk,
        desk.receiver.serve(
            header_timeout_s=BRIEF_S, request_timeout_s=BRIEF_S, keep_alive_s=BRIEF_S, max_connections=4
        ),
    ):
        assert desk.receiver.port is not None
        yield desk, desk.receiver.port


def statuses(answers: bytes) -> list[int]:
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/")]


CHUNKED: Final = "Transfer-Encoding: chunked"
CHUNK: Final = b"%x\r\n%s\r\n" % (len(JSON), JSON)
BAD_REQUESTS: Final[dict[str, tuple[Callable[[str], bytes], list[int]]]] = {
    "garbage": (lambda _: b"\x00\x01\x02garbage\r\n\r\n", [400]),
    "a TLS hello": (lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", [400]),
    "HTTP/2": (lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "no version": (lambda path: f"POST {path}\r\n\r\n".encode(), [400]),
    "a strange version": (lambda path: request(path, version="9.9"), [400]),
    "a strange method": (lambda path: request(path, method="BREW"), [400]),
    "a long line": (lambda path: request(path + "A" * 10_000), [400]),
    "a long header": (lambda path: request(path, JSON, "X-A: " + "a" * 10_000), [400]),
    "many headers": (lambda path: request(path, JSON, *(f"X-{i}: a" for i in range(200))), [400]),
    "a header with NUL": (lambda path: request(path, JSON, "X-A: a\x00b"), [400]),
    "a folded header": (lambda path: request(path, JSON, "X-A: a", " b"), [400]),
    "a blank before the colon": (lambda path: request(path, JSON, f"Content-Length : {len(JSON)}"), [400]),
    "length twice": (lambda path: request(path, JSON, f"Content-Length: {len(JSON)}", "Content-Length: 1"), [400]),
    "length twice alike": (lambda path: request(path, JSON, *[f"Content-Length: {len(JSON)}"] * 2), [400]),
    "length below zero": (lambda path: request(path, JSON, "Content-Length: -1"), [400]),
    "length signed": (lambda path: request(path, JSON, f"Content-Length: +{len(JSON)}"), [400]),
    "length in words": (lambda path: request(path, JSON, "Content-Length: ten"), [400]),
    "length and chunks": (lambda path: request(path, CHUNK, CHUNKED, f"Content-Length: {len(JSON)}"), [400]),
    "chunks of another coding": (lambda path: request(path, CHUNK, "Transfer-Encoding: chunked, gzip"), [400]),
    "a chunk without a size": (lambda path: request(path, b"zz\r\nab\r\n0\r\n\r\n", CHUNKED), [400]),
    "a length that is huge": (lambda path: request(path, b"", "Content-Length: 99999999999"), [413]),
    "chunks that are huge": (lambda path: request(path, b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n", CHUNKED), [413]),
    "an unknown expectation": (lambda path: request(path, JSON, "Expect: miracles"), [417]),
    "an expectation of a huge body": (
        lambda path: request(path, b"", "Content-Length: 99999999", "Expect: 100-continue"),
        [413],
    ),
    "an upgrade": (lambda path: request(path, b"", "Connection: upgrade", "Upgrade: websocket", method="GET"), [405]),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("made", "expected"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_bad_request_is_refused_and_its_connection_ends(
    made: Callable[[str], bytes], expected: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is empty, nothing is recorded, and neither answer nor log repeats what came."""
    caplog.set_level(logging.DEBUG)
    async with brief() as (desk, port):
        answers = await talk(port, made(desk.path))

        assert statuses(answers) == expected
        assert answers.endswith(b"\r\n\r\n")
        assert len(await callbacks(desk)) == (expected == [413])  # its job learns that one came
        assert not desk.record.terminal
        assert desk.token.encode() not in answers
        assert desk.token not in caplog.text


STALLS: Final[dict[str, Callable[[str], bytes]]] = {
    "nothing": lambda _: b"",
    "half a line": lambda _: b"POST /W1",
    "headers without end": lambda path: request(path).partition(b"\r\n\r\n")[0],
    "a body without end": lambda path: request(path)[:-1],
    "no body": lambda path: request(path, b"", "Content-Length: 10"),
    "chunks without end": lambda path: request(path, CHUNK, CHUNKED),
    "a length that is too long": lambda path: request(path, JSON, f"Content-Length: {len(JSON) + 1}"),
    "a second request begun": lambda path: request(path, b"?") + b"POST /W1",
}


@pytest.mark.asyncio
@pytest.mark.parametrize("made", STALLS.values(), ids=STALLS.keys())
async def test_a_sender_that_stalls_is_cut(made: Callable[[str], bytes], caplog: pytest.LogCaptureFixture) -> None:
    """Connections are few, and nobody holds one by saying nothing; nor is that a mistake of ours."""
    async with brief() as (desk, port):
        began_s = time.monotonic()
        answers = await talk(port, made(desk.path))

        assert set(statuses(answers)) <= {200}
        assert "mistake" not in caplog.text
        assert time.monotonic() - began_s < 10 * BRIEF_S
        assert not desk.record.terminal


@pytest.mark.asyncio
@pytest.mark.parametrize("cut_at", [b"\r\n\r\n", b'"status"'], ids=["headers", "body"])
async def test_a_sender_that_drips_is_cut(cut_at: bytes) -> None:
    """A byte now and then extends no deadline."""
    async with brief() as (desk, port):
        whole = request(desk.path, JSON, "X-Padding: " + "a" * 2_000)
        began_s = time.monotonic()
        sent = await drip(port, whole, whole.index(cut_at))

        assert sent < len(whole)
        assert time.monotonic() - began_s < 10 * BRIEF_S
        assert not desk.record.terminal


@pytest.mark.asyncio
async def test_a_second_request_has_the_deadline_of_a_first_one() -> None:
    """Once it has begun, the patience for silence between requests is over."""
    async with (
        desk_over(MemoryJournal()) as desk,
        desk.receiver.serve(header_timeout_s=BRIEF_S, keep_alive_s=LONG_S),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.receiver.port)
        writer.write(request(desk.path))
        assert statuses(await reader.readuntil(b"\r\n\r\n")) == [200]
        began_s = time.monotonic()
        writer.write(b"POST /W1")

        assert await asyncio.wait_for(_rest(reader), LONG_S) == b""
        assert time.monotonic() - began_s < LONG_S / 2
        writer.transport.abort()


async def drip(port: int, whole: bytes, at_once: int) -> int:
    """Send the first *at_once* bytes less a few, then one by one. Returns how many were sent before the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ended = asyncio.create_task(_rest(reader))
    sent = at_once - 10
    writer.write(whole[:sent])
    while sent < len(whole) and not ended.done():
        writer.write(whole[sent : sent + 1])
        sent += 1
        await asyncio.wait({ended}, timeout=BRIEF_S / 4)
    writer.transport.abort()
    await ended
    return sent


@pytest.mark.asyncio
async def test_a_sender_that_hangs_up_in_a_body_is_no_mistake_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """On our own server and on a host's; nothing is recorded, and the next sender is served."""
    async with desk_over(MemoryJournal(), PUBLIC) as desk, desk.receiver.serve(), mounted(desk.receiver) as origin:
        for port in (desk.receiver.port or 0, int(origin.rpartition(":")[2])):
            await talk(port, request(f"/moe{desk.path}")[:-1], then=lambda writer: writer.write_eof())
            assert statuses(await talk(port, request(f"/moe/{SCOPE}/b", JSON, "Connection: close"))) == [404]

        warned = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
        assert [line for line in warned if "404" not in line] == []
        assert not await callbacks(desk)


@pytest.mark.asyncio
async def test_a_sender_that_reads_no_answer_is_cut() -> None:
    """Answers that pile up hold the connection no longer than a request may take."""
    async with brief() as (desk, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_flood(writer, request("/a/b", b"") * 1_000), 6 * LONG_S)
        writer.transport.abort()

        assert statuses(await talk(port, request(desk.path))) == [200]


async def _flood(writer: asyncio.StreamWriter, flood: bytes) -> None:
    while True:
        writer.write(flood)
        await writer.drain()


@pytest.mark.asyncio
async def test_requests_sent_in_one_go_are_answered_in_turn() -> None:
    """Pipelining is allowed."""
    async with brief() as (desk, port):
        pieces = request(desk.path) + request("/W1.03/none") + request(desk.path, b"", method="GET")

        assert statuses(await talk(port, pieces)) == [200, 404, 405]


@pytest.mark.asyncio
async def test_an_absolute_target_is_a_target() -> None:
    """Some proxies send one."""
    async with brief() as (desk, port):
        assert statuses(await talk(port, request(f"http://127.0.0.1{desk.path}"))) == [200]
        assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_two_headers_of_codings_are_one_list() -> None:
    """On every face."""
    async with desk_over(MemoryJournal(), PUBLIC) as desk, desk.receiver.serve(), mounted(desk.receiver) as origin:
        for port in (desk.receiver.port or 0, int(origin.rpartition(":")[2])):
            codings = ("Content-Encoding: identity", "Content-Encoding: compress", "Connection: close")
            assert statuses(await talk(port, request(f"/moe{desk.path}", JSON, *codings))) == [415]
        scope = http_scope("POST", desk.path, {})
        scope["headers"] = [(b"content-encoding", b"identity"), (b"Content-Encoding", b"compress")]
        assert await asgi_status(desk.receiver, scope) == 415


@pytest.mark.asyncio
async def test_a_body_in_chunks_is_a_body() -> None:
    """However it is cut."""
    async with brief() as (desk, port):
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in JSON) + b"0\r\n\r\n"

        assert statuses(await talk(port, request(desk.path, chunks, CHUNKED))) == [200]
        assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_what_follows_a_body_is_no_part_of_it() -> None:
    """A length that is too short leaves a byte that begins no request: nothing of it is believed."""
    async with brief() as (desk, port):
        pieces = request(desk.path, JSON, f"Content-Length: {len(JSON) - 1}")

        assert statuses(await talk(port, pieces)) == [400]
        assert not await callbacks(desk)


@pytest.mark.asyncio
async def test_a_sender_that_asks_first_is_told_to_go_on() -> None:
    """Expect: 100-continue."""
    async with brief() as (desk, port):
        pieces = request(desk.path, JSON, "Expect: 100-continue").partition(b"\r\n\r\n")

        assert statuses(await talk(port, pieces[0] + pieces[1], pieces[2])) == [100, 200]
        assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_an_old_sender_is_answered_and_its_connection_ends() -> None:
    """HTTP/1.0 knows no second request."""
    async with brief() as (desk, port):
        assert statuses(await talk(port, request(desk.path, version="1.0"))) == [200]
        assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_a_sender_that_says_it_is_done_is_heard() -> None:
    """Half-closed behind a whole request: the callback counts, whether or not the answer gets through."""
    async with brief() as (desk, port):
        changed = asyncio.create_task(desk.replica.job_changed(desk.job))
        await talk(port, request(desk.path), then=lambda writer: writer.write_eof())
        await asyncio.wait_for(changed, LONG_S)

        assert desk.record.state == JobState.PROCESSED


@pytest.mark.asyncio
async def test_one_connection_too_many_is_told_to_come_again() -> None:
    """And is served as soon as another one ends."""
    async with brief() as (desk, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        answers = await talk(port)

        assert statuses(answers) == [503]
        assert b"Retry-After" in answers
        await asyncio.gather(*(asyncio.wait_for(_rest(reader), LONG_S) for reader, _ in held))
        assert statuses(await talk(port, request(desk.path))) == [200]
        for _, writer in held:
            writer.transport.abort()


@pytest.mark.asyncio
async def test_a_callback_that_is_being_stored_is_answered_before_the_server_ends(
    watched: tuple[Desk, WatchedJournal],
) -> None:
    """And an idle connection does not hold it up."""
    desk, journal = watched
    journal.may_append.clear()
    serving = desk.receiver.serve()
    await serving.__aenter__()
    port = desk.receiver.port or 0
    _, idle = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(talk(port, request(desk.path)))
    await journal.appending.wait()
    ending = asyncio.create_task(serving.__aexit__(None, None, None))
    while desk.receiver.port is not None and not ending.done():  # refused as soon as nobody listens any more
        try:
            _, late = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            break
        late.transport.abort()
    journal.may_append.set()

    assert statuses(await answer) == [200]
    await asyncio.wait_for(ending, LONG_S)
    idle.transport.abort()


@pytest.mark.asyncio
async def test_our_server_does_not_say_which_versions_it_runs() -> None:
    """Nobody needs to know."""
    async with brief() as (desk, port):
        for pieces in (request(desk.path), b"\x00 no HTTP\r\n\r\n"):
            answers = (await talk(port, pieces)).lower()

            assert answers
            assert b"aiohttp" not in answers
            assert b"python" not in answers


# Secrets


@pytest.mark.asyncio
async def test_no_token_gets_into_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """At the finest level, with the access log on, through answers of every kind."""
    caplog.set_level(logging.DEBUG)
    journal = WatchedJournal()
    asyncio.get_running_loop().set_debug(True)
    async with desk_over(journal) as desk, desk.receiver.serve(request_timeout_s=BRIEF_S):
        assert desk.receiver.port is not None
        for body in (b"?", JSON, json.dumps(FAILED).encode()):
            await talk(desk.receiver.port, request(desk.path, body) + request(desk.path, method="GET"))
        await asyncio.gather(
            *(
                talk(desk.receiver.port, made(desk.path) + request(desk.path, version="7.7"))
                for made, _ in BAD_REQUESTS.values()
            )
        )
        journal.is_broken = True
        await talk(desk.receiver.port, request(desk.path, b"another") + request(desk.path, method="GET"))
    written = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]

    assert "POST /{scope}/{token} 200" in caplog.text
    assert "asked to come again" in caplog.text
    assert not [line for line in [*written, caplog.text, repr(desk.receiver)] if desk.token in line]


# What the tests use


async def post(url: str, body: object) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return response.status


async def callbacks(desk: Desk) -> list[CallbackReceived]:
    events = [event for batch in await desk.replica.journal.read(0) for event in batch.events]
    return [event for event in events if isinstance(event, CallbackReceived)]


@asynccontextmanager
async def mounted(receiver: CallbackReceiver) -> AsyncIterator[str]:
    """A host application with the receiver at /moe. Gives its origin."""
    host = web.Application()
    host.add_subapp("/moe", receiver.app)
    runner = web.AppRunner(host, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


Seen = tuple[int, str | None, bytes]


async def answer_of(origin: str, method: str, target: str, headers: dict[str, str], body: bytes) -> Seen:
    """What a server answers to a target that is sent exactly as it stands."""
    port = int(origin.rpartition(":")[2])
    lines = [f"{name}: {value}" for name, value in headers.items()]
    answers = await talk(port, request(target, body, *lines, "Connection: close", method=method))
    head, _, rest = answers.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return statuses(answers)[0], fields.get("Allow"), rest


def http_scope(method: str, target: str, headers: dict[str, str]) -> dict[str, object]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }


async def asgi_answer(
    receiver: CallbackReceiver, method: str, target: str, headers: dict[str, str], body: bytes
) -> Seen:
    """What the ASGI face answers, the body handed over in two pieces."""
    pieces = [(body[:1_000], True), (body[1_000:], False)]

    async def receive() -> dict[str, object]:
        piece, more = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": more}

    sent: list[dict[str, Any]] = []
    await receiver.asgi(http_scope(method, target, headers), receive, _into(sent))
    fields = dict(sent[0]["headers"])
    allow = fields.get(b"allow")
    return sent[0]["status"], allow.decode() if allow else None, sent[1]["body"]


async def asgi_status(receiver: CallbackReceiver, scope: dict[str, object]) -> object:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": JSON}

    sent: list[dict[str, object]] = []
    await receiver.asgi(scope, receive, _into(sent))
    return sent[0]["status"]


@asynccontextmanager
async def lifespan(receiver: CallbackReceiver) -> AsyncIterator[list[object]]:
    """The receiver between an ASGI host's start and end. Gives the kinds of what it said."""
    asked: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    sent: list[dict[str, object]] = []
    told: list[object] = []
    heard = asyncio.Event()

    async def send(message: dict[str, object]) -> None:
        sent.append(message)
        told.append(message["type"])
        heard.set()

    running = asyncio.create_task(_as_task(receiver.asgi({"type": "lifespan"}, asked.get, send)))
    asked.put_nowait({"type": "lifespan.startup"})
    await heard.wait()
    yield told
    asked.put_nowait({"type": "lifespan.shutdown"})
    await running


async def _as_task(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _startup() -> dict[str, object]:
    return {"type": "lifespan.startup"}


async def _hung_up() -> dict[str, object]:
    return {"type": "http.disconnect"}


def _into(sent: list[dict[str, Any]]) -> Callable[[dict[str, object]], Awaitable[None]]:
    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    return send
