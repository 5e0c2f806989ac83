"""Canaries: a unique text in every place that holds a secret, searched for wherever something is shown or kept.

Planted: the API key, a wrong key, the callback's token, a presigned query, the password of a proxy and of a journal
URL, the secret of an object store and what it signed, an address of the caller's own, an e-mail address, and the values
of the file. Searched: every log record at DEBUG
with its arguments, each exception with its traceback, its variables and its pickle, the `repr` of every public object,
the journal's bytes and all that lies beside them, both outputs of the command line, what sandbox and receiver say.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import os
import pickle
import sys
import traceback
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import attrs
import pytest
from aiohttp import web

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    Audience,
    CallbackReceiver,
    CreateFileSegment,
    Credentials,
    InputError,
    Membership,
    PreflightError,
    QuotaLimits,
    SegmentsClient,
    publish,
)
from moe_segments.callbacks.receiver import new_token
from moe_segments.client.client import replica_of
from moe_segments.http.transport import Transport
from moe_segments.journal import open_journal
from moe_segments.journal.replica import Replica
from moe_segments.memberships.outbox.place import outbox_of
from moe_segments.publishing.destination import Destination
from moe_segments.publishing.object_store import open_bucket
from moe_segments.sandbox import FaultKind, Sandbox
from moe_segments.settings import Settings
from tests.fleet.servers import has_redis, shared_redis
from tests.live.stores import WRITER, s3_server
from tests.proofs import say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from moe_segments import AudienceReport
    from tests.live.stores import S3

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(600)]

SPEED: Final = 3_600.0
KEY: Final = "canary-key-Zq81vXp0"
WRONG_KEY: Final = "canary-wrong-Jt62mKd4"
SIGNATURE: Final = "canary-signature-Lw93bNs7"
PROXY_PASSWORD: Final = "canary-proxy-Hf27cRy5"
JOURNAL_PASSWORD: Final = "canary-journal-Bx58gTu1"
STORE_SECRET: Final = "canary/store+Rk85dMh3"
OWN_CALLBACK: Final = "canary-own-callback-Vm46kEo9"
EMAIL: Final = "canary-mail-Qd35zAi2@example.com"
VALUE: Final = "canary-value-Sg74fWc6"
CREDENTIALS: Final = Credentials(workspace_id="CANARYWS", api_key=KEY, data_center="01")
WRONG: Final = attrs.evolve(CREDENTIALS, api_key=WRONG_KEY)
FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30}


def needles(tokens: set[str]) -> dict[bytes, str]:
    """What is searched for, in each form it may take, and what it gives away."""
    plain = {
        "the key": KEY,
        "the wrong key": WRONG_KEY,
        "the signature": SIGNATURE,
        "the proxy's password": PROXY_PASSWORD,
        "the journal's password": JOURNAL_PASSWORD,
        "the store's secret": STORE_SECRET,
        "the caller's own callback": OWN_CALLBACK,
        "the e-mail address": EMAIL,
        "a value of the file": VALUE,
        **{f"callback token {number}": token for number, token in enumerate(sorted(tokens))},
        "the key in a header": base64.b64encode(f"CANARYWS:{KEY}".encode()).decode(),
        "the wrong key in a header": base64.b64encode(f"CANARYWS:{WRONG_KEY}".encode()).decode(),
        "the proxy's password in a header": base64.b64encode(f"user:{PROXY_PASSWORD}".encode()).decode(),
    }
    return {form.encode(): what for what, text in plain.items() for form in (text, quote(text, safe=""))}


class Sinks:
    """Everything that was shown or kept, by where."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def add(self, where: str, content: str | bytes) -> None:
        """Put it on record; one place may come again."""
        data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        self.contents[where] = self.contents.get(where, b"") + data + b"\n"

    def add_error(self, where: str, error: BaseException, *, has_variables: bool = True) -> None:
        """All that somebody may write down of an exception.

        Whoever reads a URL or checks a value has it in a variable, as it came; in all other frames it has to be safe.
        """
        self.add(f"{where}: str", str(error))
        self.add(f"{where}: repr", repr(error))
        self.add(f"{where}: traceback", "".join(traceback.format_exception(error)))
        if has_variables:
            self.add(f"{where}: local variables of the package", "".join(_variables(error)))
        self.add(f"{where}: attributes", repr(vars(error)))
        self.add(f"{where}: pickle", pickle.dumps(error))

    def add_files(self, directory: Path, *, but: frozenset[str] = frozenset()) -> None:
        """Every file below, but the inputs of these names."""
        for path in sorted(directory.rglob("*")):
            if path.is_file() and path.name not in but:
                self.add(f"file {path.relative_to(directory)}", path.read_bytes())

    def leaks(self, tokens: set[str]) -> list[str]:
        """What was found where."""
        return [
            f"{what} in {where}: {content[max(0, content.find(needle) - 80) : content.find(needle) + 20]!r}"
            for where, content in self.contents.items()
            for needle, what in needles(tokens).items()
            if needle in content
        ]


def _variables(error: BaseException | None) -> Iterator[str]:
    """The local variables of our own frames, as error trackers send them, but for the token that was just made."""
    if error is None:
        return
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if "moe_segments" in Path(frame.f_code.co_filename).parts:
            for name, value in frame.f_locals.items():
                with suppress(AttributeError):  # a value that is not made to its end has no repr
                    yield f"{name}={value!r}\n" if name != "token" else ""
    yield from _variables(error.__cause__ or (None if error.__suppress_context__ else error.__context__))


class Handler(logging.Handler):
    """Everything that any logger says, with what it was made of."""

    def __init__(self, sinks: Sinks) -> None:
        super().__init__(logging.DEBUG)
        self._sinks = sinks
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Put it on record."""
        self._sinks.add(f"log {record.name}", self.format(record))
        self._sinks.add(f"log {record.name}: arguments", repr(record.args))


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    """What is collected; from here on every logger speaks."""
    collected = Sinks()
    root, handler = logging.getLogger(), Handler(collected)
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield collected
    root.removeHandler(handler)
    root.setLevel(before)


@asynccontextmanager
async def answering(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server of our own."""
    # Its own log is none of the package's: as a proxy it is told all there is.
    runner = web.ServerRunner(web.Server(handler, access_log=None))  # type: ignore[arg-type]  # any request will do
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def echoing(status: int, content_type: str) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    """A service or a gateway that repeats all it was sent, as some do."""

    async def echo(request: web.BaseRequest) -> web.Response:
        sent = f"{request.raw_headers!r} {(await request.read()).decode()} {request.headers.get('Authorization')}"
        sent += f" {request.headers.get('Proxy-Authorization')}"
        if content_type == "application/json":
            quoted = sent.replace("\\", " ").replace('"', "'")
            body = f'{{"title": "no", "description": "{quoted}", "you_sent": "{quoted}"}}'
            return web.Response(status=status, text=body, content_type=content_type)
        return web.Response(status=status, text=f"<pre>{sent}</pre>", content_type=content_type)

    return echo


class Scene:
    """A client in trouble, and all that can be seen of it."""

    def __init__(self, sinks: Sinks, sandbox: Sandbox, receiver: CallbackReceiver, directory: Path, url: str) -> None:
        (directory / "others").mkdir()
        self.sinks, self.sandbox, self.receiver, self.directory, self.url = sinks, sandbox, receiver, directory, url
        self._numbers = itertools.count()

    def operation(self, name: str, **fields: Any) -> CreateFileSegment:
        """With a presigned URL and an e-mail address."""
        given: dict[str, Any] = {"name": name, "file_url": self.url, "emails": [EMAIL], "rows": 3}
        return CreateFileSegment(**(FIELDS | given | fields))

    def addition(self, name: str) -> AddUsers:
        """The same, to a segment that is there."""
        made = self.operation(name)
        fields = {field: getattr(made, field) for field in ("name", "attribute_name", "attribute_type", "file_url")}
        return AddUsers(**fields, emails=made.emails, rows=made.rows)

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[SegmentsClient]:
        """On a journal of its own where none is named."""
        settings: dict[str, Any] = {
            "credentials": CREDENTIALS,
            "journal": f"sqlite:///{self.directory / 'others' / f'{next(self._numbers)}.db'}",
            "limits": self.sandbox.limits,
            "base_url": self.sandbox.url,
            "requests_per_s": 500,
            "total_timeout_s": 5,
            "max_attempts": 1,
        }
        settings |= options
        async with SegmentsClient(settings.pop("credentials"), **settings) as client:
            yield client

    async def fails(self, where: str, doing: Awaitable[object]) -> None:
        """It must raise, and what it raises is put on record."""
        try:
            await doing
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked at
            self.sinks.add_error(where, error, has_variables=not isinstance(error, PreflightError))
        else:
            pytest.fail(f"{where}: nothing was raised")

    def shows(self, *things: object) -> None:
        """Put what these say of themselves on record."""
        for thing in things:
            self.sinks.add(f"repr of {type(thing).__name__}", f"{thing!r} {thing}")

    async def submitting(self, where: str, operation: CreateFileSegment, **options: Any) -> None:
        """A submission that fails on a client of these options."""
        async with self.client(**options) as client:
            await self.fails(where, client.submit(operation))
            self.shows(client, *replica_of(client).state.jobs.records.values())

    async def working(self, operation: CreateFileSegment, **options: Any) -> None:
        """A submission that the service takes, whatever else it says."""
        async with self.client(**options) as client:
            job = await client.submit(operation)
            self.shows(job, job.accepted)
            self.shows(client, *replica_of(client).state.jobs.records.values())


async def test_no_secret_is_shown_or_kept_anywhere_by_the_package(tmp_path: Path, sinks: Sinks) -> None:
    """Everything that can be done with a client, most of it going wrong."""
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "users.csv").write_text(f"{VALUE}\n{VALUE}-2\n{VALUE}-3\n")
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            Sandbox(speed=SPEED, credentials=CREDENTIALS, processing_s=(0, 0), retry_headers=True)
        )
        receiver = await stack.enter_async_context(CallbackReceiver().serve())
        url = (
            f"{await sandbox.publish(tmp_path / 'users.csv')}?X-Amz-Signature={SIGNATURE}&X-Amz-Credential={SIGNATURE}"
        )
        scene = Scene(sinks, sandbox, receiver, state, url)
        async with scene.client(journal=f"sqlite:///{state / 'quota.db'}", callbacks=receiver) as client:
            await what_a_client_says(scene, client)
        await what_goes_wrong_before_and_between(scene)
        await what_others_repeat(scene)
        await what_memberships_say(scene, tmp_path / "outbox")
        what_is_refused(scene)
        await sandbox.idle()
        tokens = {
            (found.ask.callback_url or "").rpartition("/")[2]
            for found in sandbox.workspace.submissions
            if OWN_CALLBACK not in (found.ask.callback_url or "")
        } - {""}
        workspace = sandbox.workspace
        scene.shows(sandbox, *workspace.requests, *workspace.submissions, *workspace.deliveries, *workspace.segments)
    sinks.add_files(state)
    assert tokens, "no callback was asked for, so nothing was planted"
    assert any(found.result for found in workspace.submissions)
    assert len(sinks.contents) >= 40, sorted(sinks.contents)
    say(f"{len(sinks.contents)} sinks, {sum(map(len, sinks.contents.values()))} bytes, {len(tokens)} tokens")
    leaks = sinks.leaks(tokens)
    assert not leaks, "\n".join(leaks)


async def what_a_client_says(scene: Scene, client: SegmentsClient) -> None:
    """On one journal: what works, what the service refuses, what gets lost."""
    sandbox = scene.sandbox
    job = await client.submit(scene.operation("works", rows=None))
    scene.shows(await job.result(timeout=10), job, job.operation, job.accepted, job.record, client, client.settings)
    await scene.fails("conflict", client.submit(scene.operation("works")))
    for kind, where in (
        (FaultKind.LOSE_ANSWER, "lost answer"),
        (FaultKind.SERVER_ERROR, "server error"),
        (FaultKind.DROP, "reset"),
    ):
        sandbox.fail_next(kind)
        await scene.fails(where, client.submit(scene.operation(where.replace(" ", "-")), max_wait_s=5))
        await asyncio.sleep(scene.sandbox.limits.count_late_s + 0.1)  # until its segment is not looked for any more
    sandbox.fail_next(FaultKind.FAIL_PROCESSING)
    failing = await client.submit(scene.operation("fails"), max_wait_s=5)
    await scene.fails("failed processing", failing.result(timeout=10))
    sandbox.fail_next(FaultKind.LOSE_CALLBACK)
    lost = await client.submit(scene.operation("silent"), max_wait_s=5)
    await scene.fails("callback time-out", lost.result(timeout=0.05))
    await scene.fails("busy segment", client.submit(scene.addition("silent")))
    sandbox.fail_next(FaultKind.GARBAGE_CALLBACK)
    scene.shows(await client.submit(scene.operation("garbage"), max_wait_s=5))
    own = f"{scene.receiver.public_url}/nobody/{OWN_CALLBACK}"
    scene.shows(await client.submit(scene.operation("own", callback_url=own), max_wait_s=5))
    await scene.fails("not found", client.submit(ArchiveSegment(name="nobody")))
    await scene.fails("never fits", client.submit(scene.operation("huge", rows=3_000_000)))
    missing = f"{sandbox.url}/_files/none/none.csv?X-Amz-Signature={SIGNATURE}"
    await scene.fails("no such file", client.submit(scene.operation("missing", file_url=missing, rows=None)))
    nobody = f"http://127.0.0.1:9/users.csv?X-Amz-Signature={SIGNATURE}"
    await scene.fails("no file server", client.submit(scene.operation("missing", file_url=nobody, rows=None)))
    many = [scene.operation(f"many-{number}") for number in range(3)]
    scene.shows(*[outcome async for outcome in client.submit_many(many, max_wait_s=5, result_timeout_s=5)])
    usage = await client.governor.usage()
    scene.shows(
        usage,
        await client.governor.plan([scene.operation("planned")]),
        client.governor,
        replica_of(client),
        scene.receiver,
    )
    scene.shows(client._transport, *await client.list_segments())
    await what_a_receiver_says(scene, client)


async def what_a_receiver_says(scene: Scene, client: SegmentsClient) -> None:
    """Its access log and warnings: what is good, bad, twice, contradicts, or knows no token."""
    delivered = scene.sandbox.workspace.deliveries[0]
    silent = next(found for found in scene.sandbox.workspace.submissions if found.segment.name == "silent")
    assert silent.ask.callback_url is not None
    escaped = scene.url.replace("/", "\\/").replace("&", "\\u0026")
    complaint = (
        f'"segment_name": "silent", "request_id": "1", "error_message": "cannot read {scene.url}", "file": "{escaped}"'
    )
    async with aiohttp.ClientSession() as session:
        for url, body in (
            (delivered.url, delivered.body),
            (delivered.url, delivered.body.replace(b"201", b"400")),
            (delivered.url, f"<html>{VALUE}".encode()[:6]),
            (delivered.url[:-3] + "xyz", delivered.body),
            (scene.receiver.url_for(client.scope, new_token()), b"{"),
            (silent.ask.callback_url, f"<p>cannot read {scene.url}</p>".encode()),
            (silent.ask.callback_url, f'{{"status": 400, {complaint}}}'.encode()),
        ):
            async with session.post(url, data=body) as response:
                scene.sinks.add("receiver's answer", f"{response.status} {response.headers} {await response.read()!r}")
        async with session.get(delivered.url) as response:
            scene.sinks.add("receiver's answer", f"{response.status} {response.headers}")
    failed = next(
        record for record in replica_of(client).state.jobs.records.values() if record.operation["name"] == "silent"
    )
    await scene.fails("a complaint with a signature", client.job(failed.id).result(timeout=1))
    assert failed.result is not None
    scene.shows(failed)


async def what_goes_wrong_before_and_between(scene: Scene) -> None:
    """Wrong keys, full quotas, nobody there, proxies, journals."""
    operation = scene.operation("x")
    await scene.submitting("wrong key", operation, credentials=WRONG)
    await scene.submitting("nobody there", operation, base_url="http://127.0.0.1:9")
    proxy = f"http://user:{PROXY_PASSWORD}@127.0.0.1:9"
    await scene.submitting("no proxy there", operation, proxy=proxy, preflight="off")
    await scene.submitting("no proxy there, a file to check", operation, proxy=proxy)
    await scene.submitting("no proxy there, rows to count", attrs.evolve(operation, rows=None), proxy=proxy)
    limits = attrs.evolve(QuotaLimits(operations_per_hour=1), scale=SPEED)
    async with scene.client(limits=limits) as client:
        scene.shows(await client.submit(scene.operation("fills")))
        await scene.fails("quota exceeded", client.submit(operation))
    scene.sandbox.workspace.spend_elsewhere(operations=10)
    await scene.submitting("429", operation)
    await scene.fails("journal is a directory", scene.client(journal=f"sqlite:///{scene.directory}").__aenter__())
    settings = Settings(base_url=scene.sandbox.url, journal=f"redis://user:{JOURNAL_PASSWORD}@h/0", proxy=proxy)
    scene.shows(settings, CREDENTIALS, WRONG, operation, Transport(CREDENTIALS, settings))
    with pytest.raises(Exception, match="journal") as caught:
        Replica(open_journal(f"no-engine://{JOURNAL_PASSWORD}", "W1"), QuotaLimits())
    scene.sinks.add_error("no such engine", caught.value, has_variables=False)
    for url in (
        f"redis://user:{JOURNAL_PASSWORD}@127.0.0.1:9/0?timeout_s=0.1",
        f"redis+unix://user:{JOURNAL_PASSWORD}@/nowhere?timeout_s=0.1",
        *([shared_redis().url.replace("//", f"//user:{JOURNAL_PASSWORD}@")] if has_redis() else ()),
    ):
        journal = open_journal(url, "W1")
        scene.shows(journal)
        await scene.fails("no journal there", journal.open())
        await scene.fails("no journal for a client there", scene.client(journal=url).__aenter__())
    for url in (f"redis://user:{JOURNAL_PASSWORD}@h:{JOURNAL_PASSWORD}/0", f"redis://h/?{JOURNAL_PASSWORD}=1"):
        with pytest.raises(Exception, match="Redis URL") as caught:
            open_journal(url, "W1")
        scene.sinks.add_error("no URL of a journal", caught.value, has_variables=False)


async def what_others_repeat(scene: Scene) -> None:
    """A service, a gateway and a proxy that put all they were sent into their answers."""
    for status in (400, 401, 404, 409, 429, 500):
        for content_type in ("application/json", "text/html"):
            async with answering(echoing(status, content_type)) as url:
                await scene.submitting(
                    f"an echo of {status}", scene.operation("x"), base_url=url, callbacks=scene.receiver
                )
    async with answering(echoing(202, "application/json")) as url:
        await scene.working(scene.operation("x"), base_url=url, callbacks=scene.receiver)
    async with answering(echoing(202, "text/html")) as url:
        await scene.submitting("an echo of 202", scene.operation("x"), base_url=url, callbacks=scene.receiver)
    async with answering(echoing(407, "text/html")) as url:
        proxy = url.replace("http://", f"http://user:{PROXY_PASSWORD}@")
        await scene.submitting("a proxy's echo", scene.operation("x"), proxy=proxy, preflight="off")
        await scene.submitting("a proxy's echo of a file", scene.operation("x"), proxy=proxy)


async def what_memberships_say(scene: Scene, place: Path) -> None:
    """Changes that are taken, refused, sent, and lost. The outbox holds their values, so it is no sink; all else is."""
    async with scene.client(publish=scene.sandbox.publish, callbacks=scene.receiver) as client:
        vip = client.membership("changed", **FIELDS, outbox=place / "changes.db")
        await vip.add(VALUE, f"{VALUE}-2", f"{VALUE}.5", f"{VALUE} é")
        scene.sandbox.fail_next(FaultKind.FAIL_PROCESSING)
        scene.shows(vip, client, await vip.pending(), await client.memberships(), *await backlogs(place))
        await vip.remove(f"{VALUE}-2")
        await scene.fails("not flushed", vip.flushed(timeout=0))
        await vip.flushed(timeout=30)
        await refused_value(scene, vip, f'"{VALUE}"')
        await refused_value(scene, vip, f" {VALUE}")
        await refused_value(scene, vip, [VALUE, VALUE])
        await scene.fails("another attribute", opened(client, place / "changes.db", attribute_name="EMAIL"))
        (place / "changes.db").rename(place / "away.db")
        await scene.fails("a lost outbox", vip.add(VALUE))
        await scene.fails("a lost outbox again", vip.remove(VALUE))
        scene.shows(vip, client)


async def opened(client: SegmentsClient, outbox: Path, **fields: Any) -> None:
    client.membership("changed", **FIELDS | fields, outbox=outbox)


async def backlogs(place: Path) -> list[object]:
    """What the outbox says of itself."""
    outbox = outbox_of(place / "changes.db", CREDENTIALS.scope)
    await outbox.open()
    try:
        return [outbox, *await outbox.backlogs()]
    finally:
        await outbox.close()


async def refused_value(scene: Scene, vip: Membership, value: object) -> None:
    """It has the value in a variable, whoever checks it."""
    with pytest.raises(InputError) as caught:
        await vip.add(value)
    scene.sinks.add_error("a refused value", caught.value, has_variables=False)


def what_is_refused(scene: Scene) -> None:
    """Values that cannot be used are not repeated where they may be secret."""
    for where, make in (
        ("bad key", lambda: Credentials(workspace_id="W", api_key=f"{KEY}\n", data_center="01")),
        ("bad e-mail", lambda: scene.operation("x", emails=[EMAIL.replace("@", " ")])),
        ("bad e-mails", lambda: scene.operation("x", emails=EMAIL)),
        ("bad file URL", lambda: scene.operation("x", file_url=f"ftp://h/f?{SIGNATURE}")),
        ("file URL with a password", lambda: scene.operation("x", file_url=f"https://u:{SIGNATURE}@h/f")),
        ("bad callback URL", lambda: scene.operation("x", callback_url=f"nowhere/{OWN_CALLBACK}")),
        ("bad proxy", lambda: SegmentsClient(CREDENTIALS, journal="memory:", proxy=f"://user:{PROXY_PASSWORD}@")),
        ("bad journal", lambda: SegmentsClient(CREDENTIALS, journal=f"{JOURNAL_PASSWORD}")),
        ("bad receiver", lambda: CallbackReceiver(f"https://h/?{OWN_CALLBACK}")),
        ("bad base URL", lambda: SegmentsClient(CREDENTIALS, journal="memory:", base_url=f"https://u:{KEY}@h/p?q")),
        (
            "bad environment",
            lambda: SegmentsClient.from_env(environ={"MOE_API_KEY": KEY, "MOE_BASE_URL": f"http://{KEY}"}),
        ),
    ):
        with pytest.raises(Exception, match=r"\w") as caught:
            make()
        scene.sinks.add_error(where, caught.value, has_variables=False)


# Publishing


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A store that signs, with the planted secret."""
    with s3_server(tmp_path_factory.mktemp("s3"), secret=STORE_SECRET) as server:
        yield server


@pytest.mark.processes
async def test_no_secret_of_a_store_is_shown_or_kept_anywhere(
    tmp_path: Path, sinks: Sinks, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is checked, published and fetched, and all that can go wrong with it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORE_SECRET)
    state, file, bad = tmp_path / "state", tmp_path / "users.csv", tmp_path / "bad.csv"
    state.mkdir()
    file.write_text(f"{VALUE}\n{VALUE}-2\n")
    bad.write_text(f'{VALUE}\n"{VALUE}-2"\n\n{VALUE}\n')
    async with (
        Sandbox(speed=SPEED, credentials=CREDENTIALS, processing_s=(0, 0)) as sandbox,
        CallbackReceiver().serve() as receiver,
    ):
        scene = Scene(sinks, sandbox, receiver, state, "https://files.example.com/users.csv")
        fields = {"file_url": None, "rows": None}
        async with scene.client(publish=s3.to(), callbacks=receiver) as client:
            job = await client.submit(scene.operation("works", file=file, **fields))
            scene.shows(await job.result(timeout=10), job, job.operation, job.record, job.figures, client)
            await scene.fails("a bad file", client.submit(scene.operation("bad", file=bad, **fields)))
            scene.shows(await client.preflight(scene.operation("bad", file=bad, **fields)), client._file_preparer)
            sent = client.submit(scene.operation("sent", file=bad, **fields), preflight="warn", max_wait_s=5)
            scene.shows(await sent)
        await what_publishing_says(scene, s3, file)
        what_of_a_store_is_refused(scene)
        await sandbox.idle()
        signed = {
            parse_qs(urlsplit(found.ask.file_url).query)["X-Amz-Signature"][0]
            for found in sandbox.workspace.submissions
        }
        tokens = {(found.ask.callback_url or "").rpartition("/")[2] for found in sandbox.workspace.submissions} - {""}
        scene.shows(*sandbox.workspace.submissions, *sandbox.workspace.requests)
    sinks.add_files(state)
    assert len(signed) == 2
    leaks = sinks.leaks(tokens | signed)
    assert not leaks, "\n".join(leaks)


async def what_publishing_says(scene: Scene, s3: S3, file: Path) -> None:
    """By itself: when it works, with a wrong secret, with nobody there, through a proxy, with keys that end."""
    scene.shows(await publish(file, s3.to()), Destination.parse(s3.to()))
    right = {"access_key_id": WRITER["access_key_id"], "secret_access_key": STORE_SECRET}
    bucket = open_bucket(Destination.parse(s3.to()), right, None)
    scene.shows(bucket, bucket._store, bucket._store.handle)
    wrong = right | {"secret_access_key": f"{STORE_SECRET}x"}
    await scene.fails("a wrong store key", publish(file, s3.to("other"), options=wrong))
    await scene.fails("no such bucket", publish(file, s3.to().replace("//segments", "//no-such-bucket"), options=right))
    await scene.fails("no store there", publish(file, "s3://segments/p?endpoint=http://127.0.0.1:9", options=right))
    proxy = f"http://user:{PROXY_PASSWORD}@127.0.0.1:9"
    await scene.fails("no proxy before the store", publish(file, s3.to(), options=right, proxy=proxy))
    ending = open_bucket(Destination.parse(s3.to()), right | {"session_token": SIGNATURE}, None)
    await scene.fails("keys that end", ending.signed("moe/a.csv", 86_400))
    await scene.fails("too short", publish(file, s3.to(), options=right, expires_s=60))
    await scene.fails("nonsense", publish(file, s3.to(), options=right | {"no_such_setting": STORE_SECRET}))


def what_of_a_store_is_refused(scene: Scene) -> None:
    """Secrets where they do not belong."""
    for where, to in (
        ("a secret in the query", f"s3://bucket/p?secret_access_key={STORE_SECRET}"),
        ("a secret before the bucket", f"s3://key:{STORE_SECRET.replace('/', '%2F')}@bucket/p"),
        ("a secret in the endpoint", f"s3://bucket/p?endpoint=https://u:{PROXY_PASSWORD}@h"),
    ):
        with pytest.raises(InputError) as caught:
            SegmentsClient(CREDENTIALS, journal="memory:", publish=to)
        scene.sinks.add_error(where, caught.value, has_variables=False)
        with pytest.raises(InputError) as caught:
            SegmentsClient.from_env(environ={**_ENVIRONMENT, "MOE_PUBLISH": to})
        scene.sinks.add_error(where, caught.value, has_variables=False)


_ENVIRONMENT: Final = {
    "MOE_WORKSPACE_ID": "W",
    "MOE_API_KEY": KEY,
    "MOE_DATA_CENTER": "01",
    "MOE_JOURNAL": "memory:",
}


# Audiences


@pytest.mark.processes
async def test_no_member_is_shown_or_kept_anywhere_but_in_snapshots(
    tmp_path: Path, sinks: Sinks, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Syncs that go well, fail, are refused, and whose snapshots cannot be used."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORE_SECRET)
    state, place = tmp_path / "state", tmp_path / "snapshots"
    state.mkdir()
    async with (
        Sandbox(speed=SPEED, credentials=CREDENTIALS, processing_s=(0, 0), limits=FEW_BYTES) as sandbox,
        CallbackReceiver().serve() as receiver,
    ):
        scene = Scene(sinks, sandbox, receiver, state, "https://files.example.com/users.csv")
        journal = f"sqlite:///{state / 'quota.db'}"
        async with scene.client(journal=journal, publish=sandbox.publish, callbacks=receiver) as client:
            await what_syncs_say(scene, client, place)
            await what_refused_syncs_say(scene, client, place, tmp_path)
            await what_syncs_say_of_a_bucket(scene, client, s3)
            scene.shows(client, replica_of(client), *replica_of(client).state.jobs.records.values())
            memberships = replica_of(client).state.memberships
            scene.shows(memberships, *memberships.of.values(), client.settings)
        await sandbox.idle()
        tokens = {(found.ask.callback_url or "").rpartition("/")[2] for found in sandbox.workspace.submissions} - {""}
        assert any(VALUE in member for segment in sandbox.workspace.segments for member in segment.members)
    sinks.add_files(state)
    assert any(place.rglob("*/*"))
    leaks = sinks.leaks(tokens)
    assert not leaks, "\n".join(leaks)


FEW_BYTES: Final = QuotaLimits(file_bytes=1_000)
MEMBERS: Final = [f"{VALUE}-{number:02}" for number in range(20)]


def an_audience(members: Any, **fields: Any) -> Audience:
    """Of one segment, with the planted value in every member."""
    return Audience("vip", **FIELDS | {"members": members} | fields)


async def what_syncs_say(scene: Scene, client: SegmentsClient, place: Path) -> None:
    """Creates, changes, parts, plans, lists; files that fail, answers and callbacks that are lost."""
    waits_s = 3.0  # on scaled windows more than any quota takes

    async def synced(members: Any, **fields: Any) -> AudienceReport:
        audience = an_audience(members, **fields)
        scene.shows(audience, await client.plan_sync([audience], snapshots=place))
        report = await client.sync([audience], snapshots=place, max_wait_s=waits_s)
        scene.shows(report, report["vip"], report.to_json())
        if report["vip"].error is not None:
            scene.sinks.add_error(f"a sync that is {report['vip'].status}", report["vip"].error)
        return report["vip"]

    assert (await synced(MEMBERS)).operations == ("create",)
    assert (await synced([*MEMBERS[2:], f"{VALUE}-new"])).ok
    assert len((await synced([f"{VALUE}-of-{number}" for number in range(90)], max_removed=1)).operations) > 2
    for kinds, expected in (
        ((FaultKind.FAIL_PROCESSING,), "failed"),
        ((FaultKind.LOSE_ANSWER, FaultKind.LOSE_CALLBACK), "unknown"),
    ):
        for kind in kinds:
            scene.sandbox.fail_next(kind)
        assert (await synced([*MEMBERS, f"{VALUE}-{expected}"], max_removed=1)).status == expected
    assert (await synced(MEMBERS, max_removed=1)).status in ("synced", "busy")
    for path in [path for path in place.rglob("*") if path.is_file()]:  # noqa: ASYNC240 - nobody waits meanwhile
        path.write_bytes(path.read_bytes()[:-9])
    await synced([*MEMBERS, f"{VALUE}-altered"], max_removed=1)
    scene.shows(await client.audiences(snapshots=place), await client.audience_history("vip"))


async def what_refused_syncs_say(scene: Scene, client: SegmentsClient, place: Path, directory: Path) -> None:
    """Guards, sources that fail half way, values and files that cannot be used."""

    def half_way() -> Iterator[str]:
        yield from MEMBERS
        raise RuntimeError("no more rows")

    def unopened() -> list[str]:
        raise OSError("no connection")

    bad = directory / "bad.csv"
    bad.write_text("".join(f'"{member}"\n' for member in MEMBERS))
    for where, members, fields in (
        ("too many removed", MEMBERS[:3], {}),
        ("too many added", [*MEMBERS, *(f"{VALUE}+{number}" for number in range(30))], {"max_added": 1}),
        ("empty", [], {}),
        ("half way", half_way, {}),
        ("unopened", unopened, {}),
        ("a function that returns nothing to read", lambda: 7, {}),
        ("none", [*MEMBERS, None], {}),
        ("two lines", [*MEMBERS, f"{VALUE}\n{VALUE}"], {}),
        ("a float", [*MEMBERS, 1.5], {}),
        ("a lone surrogate", [*MEMBERS, f"{VALUE}\udc80"], {}),
        ("a value of its own", [f"{VALUE}" * 100], {"max_removed": 1}),
        ("a bad file", bad, {"max_removed": 1}),
        ("no file", directory / "nowhere.csv", {}),
    ):
        audience = an_audience(members, **fields)
        scene.shows(audience, await client.plan_sync([audience], snapshots=place))
        report = await client.sync([audience], snapshots=place, max_wait_s=3.0)
        error = report["vip"].error
        assert (report["vip"].status, error is not None) == ("refused", True), where
        scene.shows(report, report.to_json())
        if error is not None:
            # Who reads and checks values has them in variables.
            scene.sinks.add_error(f"refused: {where}", error, has_variables="removed" in where or "added" in where)


async def what_syncs_say_of_a_bucket(scene: Scene, client: SegmentsClient, s3: S3) -> None:
    """One that takes snapshots, and some that do not."""
    for where, place, status in (
        ("a bucket", s3.to("snapshots"), "synced"),
        ("a bucket once more", s3.to("snapshots"), "unchanged"),
        ("no bucket", s3.to().replace("//segments", "//no-such-bucket"), "failed"),
        ("no store", "s3://segments/p?endpoint=http://127.0.0.1:9", "failed"),
    ):
        audience = an_audience([*MEMBERS, f"{VALUE}-{status[:6]}"], max_removed=1, mode="mirror")
        if status == "failed":
            await client.forget_audience("vip", snapshots="off")
        report = await client.sync([audience], snapshots=place, max_wait_s=30)
        scene.shows(report, report.to_json(), report["vip"])
        if report["vip"].error is not None:
            scene.sinks.add_error(f"a sync on {where}", report["vip"].error)
    for place in (f"s3://b/p?secret_access_key={STORE_SECRET}", f"s3://bucket/p?endpoint=https://u:{PROXY_PASSWORD}@h"):
        with pytest.raises(InputError) as caught:
            await client.audiences(snapshots=place)
        scene.sinks.add_error("a secret in the place of snapshots", caught.value, has_variables=False)
        scene.shows(SegmentsClient(CREDENTIALS, journal="memory:", snapshots=place).settings)


# The command line


class Shell:
    """Runs commands against one sandbox; what they say is put on record."""

    def __init__(self, sinks: Sinks, sandbox: Sandbox, directory: Path) -> None:
        self.sinks, self.sandbox, self.directory = sinks, sandbox, directory
        self.codes: list[int | None] = []
        self._slots = asyncio.Semaphore(3)

    async def run(self, *arguments: str, **variables: str) -> int | None:
        """One command, for people and in JSON."""
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.directory),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MOE_WORKSPACE_ID": CREDENTIALS.workspace_id,
            "MOE_API_KEY": KEY,
            "MOE_DATA_CENTER": "01",
            "MOE_BASE_URL": self.sandbox.url,
            "MOE_JOURNAL": f"sqlite:///{self.directory / 'quota.db'}",
            "AWS_ACCESS_KEY_ID": WRITER["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": STORE_SECRET,
        }
        async with self._slots:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-X", "dev", "-m", "moe_segments", *arguments),
                env=environ | variables,
                cwd=self.directory,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(60):
                    out, err = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        self.sinks.add(f"stdout of {arguments[0]}", out)
        self.sinks.add(f"stderr of {arguments[0]}", err)
        self.codes.append(process.returncode)
        return process.returncode


@pytest.mark.processes
async def test_no_secret_is_shown_or_kept_anywhere_by_the_command_line(tmp_path: Path, sinks: Sinks, s3: S3) -> None:
    """Each command, with and without --json, when it works and when it does not."""
    (tmp_path / "users.csv").write_text(f"{VALUE}\n{VALUE}-2\n")
    async with Sandbox(speed=600, credentials=CREDENTIALS, processing_s=(0, 0)) as sandbox:
        url = f"{await sandbox.publish(tmp_path / 'users.csv')}?X-Amz-Signature={SIGNATURE}"
        shell = Shell(sinks, sandbox, tmp_path)
        await asyncio.gather(*[shell.run(*command) for command in _commands(tmp_path, url)])
        await asyncio.gather(*[shell.run(*command) for command in _publishing(tmp_path, s3)])
        failing = [
            shell.run(*command, "--speed", "600", **variables)
            for command in (("create", *_FILE, "--expiry-time", "3", "bad", "--file-url", url), ("list",))
            for variables in (
                {"MOE_API_KEY": WRONG_KEY, "MOE_JOURNAL": f"sqlite:///{tmp_path / 'wrong.db'}"},
                {"MOE_BASE_URL": "http://127.0.0.1:9", "MOE_JOURNAL": f"sqlite:///{tmp_path / 'nobody.db'}"},
                {"MOE_JOURNAL": f"redis://user:{JOURNAL_PASSWORD}@h/0"},
                {"MOE_DATA_CENTER": "99"},
            )
        ]
        await asyncio.gather(*failing)
        tokens = {(found.ask.callback_url or "").rpartition("/")[2] for found in sandbox.workspace.submissions} - {""}
        signed = {
            signature
            for found in sandbox.workspace.submissions
            for signature in parse_qs(urlsplit(found.ask.file_url).query)["X-Amz-Signature"]
        }
    assert tokens
    assert signed > {SIGNATURE}, "nothing was published"
    tokens |= signed
    assert {0, 2} <= set(shell.codes)
    sinks.add_files(tmp_path, but=frozenset({"users.csv", "broken.csv", "good.csv", "bad.csv"}))
    say(f"{len(sinks.contents)} sinks of {len(shell.codes)} commands, {len(tokens)} tokens")
    leaks = sinks.leaks(tokens)
    assert not leaks, "\n".join(leaks)


def _publishing(directory: Path, s3: S3) -> Iterator[tuple[str, ...]]:
    (directory / "broken.csv").write_text(f'{VALUE}\n"{VALUE}-2"\n')
    for number in range(2):
        for name, file in (("good", "users.csv"), ("bad", "broken.csv")):
            audience = f'name = "a{name}{number}"\nattribute_name = "ID"\nattribute_type = "string"\nexpiry_time = 30'
            (directory / f"{name}{number}.toml").write_text(f'[[audience]]\n{audience}\nfile = "{file}"\n')
    common = ("--speed", "600", "--listen", "127.0.0.1:0", "--result-timeout", "20", "--max-wait", "20")
    for form in ((), ("--json",)):
        create = ("create", f"p{len(form)}", *_FILE, "--expiry-time", "30", *common, *form)
        yield (*create, "--file", "users.csv", "--publish", s3.to("commands"))
        yield (*create, "--file", "broken.csv", "--publish", s3.to("commands"))
        yield (*create, "--file", "users.csv", "--publish", f"s3://b/p?secret_access_key={STORE_SECRET}")
        yield (*create, "--file", "users.csv", "--publish", s3.to().replace("//segments", "//no-such-bucket"))
        sync = (*common, *form, "--publish", s3.to("commands"), "--snapshots", s3.to(f"snapshots{len(form)}"))
        yield ("sync", f"good{len(form)}.toml", *sync)
        yield ("sync", f"good{len(form)}.toml", "--dry-run", *sync)
        yield ("sync", f"bad{len(form)}.toml", *sync)
        yield ("audiences", "--speed", "600", *form, "--snapshots", s3.to("nowhere"))


_FILE: Final = ("--attribute-name", "ID", "--attribute-type", "string")


def _commands(directory: Path, url: str) -> Iterator[tuple[str, ...]]:
    header = "op,name,attribute_name,attribute_type,file_url,expiry_time,emails\n"
    (directory / "good.csv").write_text(
        header + f"create,m0,ID,string,{url},30,{EMAIL}\ncreate,m1,ID,string,{url},30,\n"
    )
    bad = f"create,m2,ID,string,nowhere?{SIGNATURE},30,\ncreate,m3,ID,string,{url},30,{EMAIL.replace('@', ' ')}\n"
    (directory / "bad.csv").write_text(header + bad)
    common = ("--speed", "600")
    listening = ("--listen", "127.0.0.1:0", "--result-timeout", "20")
    file = (*_FILE, "--file-url", url, "--email", EMAIL)
    for form in ((), ("--json",)):
        name = f"c{len(form)}"
        yield ("create", name, *file, "--expiry-time", "30", *listening, *common, *form)
        yield ("create", f"{name}x", *_FILE, "--expiry-time", "30", "--file-url", f"no?{SIGNATURE}", *common, *form)
        for op in ("add-users", "remove-users", "replace-users"):
            yield (op, "nobody", *file, *listening, *common, *form)
        for op in ("archive", "unarchive"):
            yield (op, "nobody", *common, *form)
        yield ("list", *common, *form)
        yield ("bulk", "good.csv", *listening, *common, *form)
        yield ("bulk", "bad.csv", *common, *form)
        yield ("plan", "good.csv", *common, *form)
        yield ("quota", *common, *form)
        yield ("jobs", *common, *form)
        yield ("jobs", "nothing", *common, *form)
        yield ("create", "e", *file, "--expiry-time", "soon", *common, *form)
        yield ("receive", "--public-url", f"http://example.com/{OWN_CALLBACK}", *common, *form)
