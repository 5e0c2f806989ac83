"""Publishing, against a real store that checks signatures, and against the sandbox's file server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from moe_segments import CallbackReceiver, InputError, PreflightError, QuotaLimits, SegmentsClient, publish
from moe_segments.publishing.destination import Destination
from moe_segments.publishing.http import fetch_once
from moe_segments.publishing.local_file import blocks_of
from moe_segments.publishing.object_store import SMALL_BYTES, open_bucket
from moe_segments.sandbox import DEMO_CREDENTIALS, Sandbox
from tests.live.stores import BUCKET, READER, S3, SECRET, WRITER, s3_server
from tests.places import full_disk
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USERS = b"u-1\nu-2\nu-3\n"
LARGE_BYTES = 4 * SMALL_BYTES


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_credentials_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "diwali vip #1.csv"
    path.write_bytes(USERS)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.csv"
    path.write_bytes(random.Random(4).randbytes(LARGE_BYTES // 2).hex().encode())
    return path


def change(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def fetched(url: str) -> tuple[int, str, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, response.content_type, await response.read()


# A store that speaks S3


@pytest.mark.asyncio
async def test_a_published_file_is_there_for_whoever_has_its_address(s3: S3, users: Path) -> None:
    before = datetime.now(UTC)
    published = await publish(users, s3.to("a/b"), options=WRITER)

    assert await fetched(published.url) == (200, "text/csv", USERS)
    assert published.key == f"a/b/diwali-vip-1-{sha256_of(users)}.csv"
    assert published.sha256 == sha256_of(users)
    assert published.expires_at is not None
    assert timedelta(days=7) <= published.expires_at - before < timedelta(days=7, minutes=1)
    assert parse_qs(urlsplit(published.url).query)["X-Amz-Expires"] == ["604800"]


@pytest.mark.asyncio
async def test_without_its_signature_the_address_opens_nothing(s3: S3, users: Path) -> None:
    """Else the test above would prove nothing: this store checks what it is shown."""
    url = (await publish(users, s3.to(), options=WRITER)).url
    bare, longer = url.partition("?")[0], url.replace("X-Amz-Expires=604800", "X-Amz-Expires=604799")

    assert [(await fetched(changed))[0] for changed in (bare, longer)] == [403, 403]


@pytest.mark.asyncio
async def test_publishing_twice_uploads_once(s3: S3, users: Path) -> None:
    """The second one is signed by somebody who may not write."""
    first = await publish(users, s3.to("twice"), options=WRITER)
    second = await publish(users, s3.to("twice"), options=READER)

    assert (first.uploaded, second.uploaded) == (True, False)
    assert first.key == second.key
    assert (await fetched(second.url))[2] == USERS


@pytest.mark.asyncio
async def test_an_object_that_is_not_whole_is_sent_again(s3: S3, users: Path) -> None:
    first = await publish(users, s3.to("broken"), options=WRITER)
    stump = users.with_name("stump.csv")
    stump.write_bytes(b"u-1\n")
    bucket = open_bucket(Destination.parse(s3.to("broken")), WRITER, None)
    await bucket.upload(first.key, stump, sha256_of(stump), 4)

    assert (await publish(users, s3.to("broken"), options=WRITER)).uploaded
    assert (await fetched(first.url))[2] == USERS


@pytest.mark.asyncio
async def test_what_may_not_write_says_so(s3: S3, users: Path) -> None:
    with pytest.raises(PreflightError, match=r"could not be published to s3://segments/denied .*HTTP 403") as caught:
        await publish(users, s3.to("denied"), options=READER)
    assert "check the credentials" in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "bucket", "said"),
    [
        ({**WRITER, "secret_access_key": SECRET[::-1]}, BUCKET, "SignatureDoesNotMatch"),
        ({**WRITER, "access_key_id": "NOBODY"}, BUCKET, "InvalidAccessKeyId"),
        (WRITER, "no-such-bucket-here", "there is no such bucket"),
    ],
)
async def test_a_refusal_names_the_stores_reason_and_no_secret(
    s3: S3, users: Path, options: dict[str, str], bucket: str, said: str
) -> None:
    with pytest.raises(PreflightError) as caught:
        await publish(users, s3.to().replace(BUCKET, bucket), options=options)

    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__} {caught.value.__suppress_context__}"
    assert said in shown
    assert SECRET not in shown
    assert SECRET[::-1] not in shown
    assert caught.value.__suppress_context__
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.asyncio
async def test_a_large_file_arrives_whole(s3: S3, large: Path) -> None:
    published = await publish(large, s3.to("large"), options=WRITER)
    _, content_type, content = await fetched(published.url)

    assert hashlib.sha256(content).hexdigest() == published.sha256 == sha256_of(large)
    assert content_type == "text/csv"
    assert s3.unfinished_uploads() == 0


@pytest.mark.asyncio
async def test_a_cancelled_upload_leaves_nothing_behind(s3: S3, large: Path) -> None:
    publishing = asyncio.ensure_future(publish(large, s3.to("cancelled"), options=WRITER))
    while not await asyncio.to_thread(s3.unfinished_uploads):
        assert not publishing.done()
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing

    assert s3.unfinished_uploads() == 0
    assert s3.objects("cancelled") == {}
    assert (await publish(large, s3.to("cancelled"), options=WRITER)).uploaded


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["users", "large"])
async def test_a_file_that_changed_is_not_put_under_the_name_of_what_it_was(
    s3: S3, name: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(name)
    bucket = open_bucket(Destination.parse(s3.to("changed")), WRITER, None)
    with pytest.raises(PreflightError, match="changed while it was published"):
        await bucket.upload(f"changed/{name}.csv", path, "0" * 64, len(USERS) if name == "users" else LARGE_BYTES)

    assert s3.objects("changed") == {}
    assert s3.unfinished_uploads() == 0


@pytest.mark.asyncio
async def test_a_file_that_is_not_what_was_checked_is_refused(s3: S3, users: Path) -> None:
    checked = sha256_of(users)
    change(users, b"u-4\n")
    with pytest.raises(PreflightError, match="has changed since it was checked"):
        await publish(users, s3.to("since"), options=WRITER, sha256=checked)
    assert s3.objects("since") == {}


@pytest.mark.asyncio
async def test_temporary_credentials_are_refused_unless_they_are_said_to_last(
    s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**WRITER, "session_token": "TEMPORARY"}
    with pytest.raises(InputError, match="the credentials are temporary"):
        await open_bucket(Destination.parse(s3.to()), options, None).signed("a.csv", 86_400)

    allowed = Destination.parse(s3.to(allow_temporary="true"))
    assert "X-Amz-Security-Token" in await open_bucket(allowed, options, None).signed("a.csv", 86_400)
    assert "ends with the temporary credentials" in caplog.text


@pytest.mark.asyncio
async def test_what_could_not_be_signed_is_not_uploaded(users: Path) -> None:
    """A store that takes temporary credentials is asked whether the file is there, and nothing more."""
    asked: list[str] = []

    async def store(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(status=404 if request.method == "HEAD" else 200, headers={"ETag": '"e"'})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", store)
    async with TestServer(app) as server:
        with pytest.raises(InputError, match="the credentials are temporary"):
            await publish(
                users,
                f"s3://{BUCKET}/moe?endpoint=http://127.0.0.1:{server.port}",
                options={**WRITER, "session_token": "TEMPORARY"},
            )
    assert asked == ["HEAD"]


@pytest.mark.asyncio
async def test_credentials_and_server_come_from_the_environment(
    s3: S3, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    published = await publish(users, f"s3://{BUCKET}/env")
    assert (await fetched(published.url))[0] == 200

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert (await publish(users, s3.to("env"))).key == published.key  # what the URL says goes before it


@pytest.mark.asyncio
async def test_nothing_that_is_shown_holds_a_secret_or_a_signature(s3: S3, users: Path) -> None:
    published = await publish(users, s3.to("shown"), options=WRITER)
    bucket = open_bucket(Destination.parse(s3.to("shown")), WRITER, None)

    for shown in (repr(published), str(published), repr(bucket), str(bucket)):
        assert "Signature" not in shown
        assert SECRET not in shown
    assert pickle.loads(pickle.dumps(published)) == published
    with pytest.raises(TypeError, match="is not pickled"):
        pickle.dumps(bucket)


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_said_to_be_so(users: Path) -> None:
    to = f"s3://{BUCKET}/away?endpoint=http://127.0.0.1:{free_port()}"
    with pytest.raises(PreflightError, match=r"GenericError.*check the address"):
        await publish(users, to, options=WRITER)


@pytest.mark.asyncio
async def test_without_credentials_it_says_which_to_set(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library then asks the machine it runs on, which here has none to give."""
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PreflightError, match="no credentials are set, see AWS_ACCESS_KEY_ID"):
        await publish(users, f"s3://{BUCKET}/nobody?endpoint=http://127.0.0.1:9")


@pytest.mark.asyncio
async def test_a_client_publishes_what_it_is_given(s3: S3, users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file of this machine to the users in the segment: the service fetches it from the store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", WRITER["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    async with Sandbox(processing_s=(0, 0)) as sandbox, CallbackReceiver().serve() as receiver:
        async with SegmentsClient(
            sandbox.credentials, journal="memory:", callbacks=receiver, base_url=sandbox.url, publish=s3.to("client")
        ) as client:
            job = await client.create_file_segment(
                name="diwali", attribute_name="ID", attribute_type="string", file=users, expiry_time=30
            )
            done = await job.result(timeout=10)
            shown = f"{client!r} {job!r} {job.record} {client.settings}"

    assert (done.values_found, done.user_count) == (3, 3)
    assert "X-Amz-Signature" in sandbox.workspace.submissions[0].ask.file_url
    assert SECRET not in shown
    assert "X-Amz" not in shown


@pytest.mark.asyncio
async def test_a_destination_that_cannot_be_used_is_said_when_the_client_is_made() -> None:
    for publish_to in ("s3://bucket/prefix?secret=CANARY", "bucket", "https://files.example.com/"):
        with pytest.raises(InputError) as caught:
            SegmentsClient(DEMO_CREDENTIALS, journal="memory:", publish=publish_to)
        assert caught.value.field == "publish"
        assert "CANARY" not in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("to", "variables", "advice"),
    [
        ("az://container/prefix", {"AZURE_STORAGE_ACCOUNT_KEY": "CANARY"}, r"name the account, with \?account=NAME"),
        ("gs://bucket/prefix", {"GOOGLE_APPLICATION_CREDENTIALS": "/CANARY.json"}, "has to name the key file"),
    ],
)
async def test_what_a_store_needs_beside_its_url_is_named(
    users: Path, monkeypatch: pytest.MonkeyPatch, to: str, variables: dict[str, str], advice: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=advice) as caught:
        await publish(users, to)
    assert "CANARY" not in str(caught.value)


@pytest.mark.asyncio
async def test_a_sandbox_that_is_gone_is_named(users: Path) -> None:
    origin = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(PreflightError, match=rf"could not be published to {origin}/.*whether the sandbox still runs"):
        await publish(users, f"{origin}/_files/sent")


@pytest.mark.asyncio
async def test_without_the_extra_it_says_what_to_install(users: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client is made, not when the first file is to go; a sandbox needs none."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InputError, match=r"pip install 'moe-segments\[storage\]'"):
        SegmentsClient(DEMO_CREDENTIALS, journal="memory:", publish="s3://bucket/prefix")
    async with Sandbox() as sandbox:
        assert (await publish(users, sandbox.files_url)).uploaded


@pytest.mark.processes
def test_the_library_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, moe_segments.client, moe_segments.publishing.publisher; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# Where to


@pytest.mark.parametrize("expires_s", [0, 3_600, 86_399.9, 604_801, float("nan"), float("inf"), True])
@pytest.mark.asyncio
async def test_an_address_lasts_a_day_or_more_and_a_week_at_most(users: Path, expires_s: float) -> None:
    with pytest.raises(InputError, match="expires_s"):
        await publish(users, "s3://bucket/prefix", expires_s=expires_s)


@pytest.mark.asyncio
async def test_how_long_it_lasts_may_stand_in_the_url(s3: S3, users: Path) -> None:
    published = await publish(users, s3.to("day", expires_s="86400"), options=WRITER)
    assert parse_qs(urlsplit(published.url).query)["X-Amz-Expires"] == ["86400"]
    with pytest.raises(InputError, match="24 h"):
        Destination.parse("s3://bucket/prefix?expires_s=86399")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket/prefix",
        "ftp://bucket/prefix",
        "s3://",
        "s3:///prefix",
        "s3://bucket:99/prefix",
        "s3://bucket/pre fix",
        "s3://bucket/pre%20fix",
        "s3://bucket/pr\u00e9fix",
        "s3://bucket/a/../b",
        "s3://bucket/prefix#part",
        "s3://bucket/prefix?endpoint=http://s3.example.com",
        "s3://bucket/prefix?endpoint=s3.example.com",
        "s3://bucket/prefix?region=",
        "s3://bucket/prefix?region=a&region=b",
        "s3://bucket/prefix?path_style=perhaps",
        "s3://bucket/prefix?colour=blue",
        "gs://bucket/prefix?region=eu",
        "https://files.example.com/put",
        "http://files.example.com/put",
    ],
)
def test_what_is_no_destination_is_refused(url: str) -> None:
    with pytest.raises(InputError):
        Destination.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:CANARY@bucket/prefix",
        "s3://bucket/prefix?secret_access_key=CANARY",
        "s3://bucket/prefix?aws_session_token=CANARY",
        "az://container/prefix?account_key=CANARY",
        "az://container/prefix?sas_token=CANARY",
        "gs://bucket/prefix?service_account_key=CANARY",
        "s3://bucket/prefix?endpoint=https://user:CANARY@s3.example.com",
    ],
)
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="secret") as caught:
        Destination.parse(url)
    assert "CANARY" not in f"{caught.value} {caught.value!r}"


def test_a_destination_is_shown_without_its_query() -> None:
    parsed = Destination.parse("s3://bucket//a/b/?region=eu-central-1&path_style=no")
    assert str(parsed) == "s3://bucket/a/b"
    assert parsed.flag("path_style") is False


# What is fetched once


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (200, {"Content-Type": "text/csv"}, None),
        (206, {"Content-Type": "text/csv", "Content-Range": "bytes 0-0/4"}, None),
        (206, {"Content-Type": "text/csv", "Content-Range": "bytes 0-0/5"}, "5 bytes there, and 4 here"),
        (206, {"Content-Type": "text/csv"}, "1 bytes there, and 4 here"),
        (403, {"Content-Type": "text/csv"}, "HTTP 403"),
        (302, {"Location": "/login"}, "HTTP 302"),
        (200, {"Content-Type": "text/html"}, "text/html"),
        (200, {"Content-Type": "text/csv", "Content-Encoding": "gzip"}, "compressed, with Content-Encoding 'gzip'"),
        (200, {"Content-Type": "text/csv", "Content-Encoding": ""}, None),
        (200, {"Content-Type": "text/csv", "Content-Encoding": "identity,identity"}, None),
    ],
)
async def test_a_file_that_cannot_be_fetched_is_found_out(
    status: int, headers: dict[str, str], said: str | None
) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Range"] == "bytes=0-0"
        return web.Response(status=status, body=b"u" if status == 206 else b"u-1\n", headers=headers)

    app = web.Application()
    app.router.add_get("/f", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/f?X-Amz-Signature=CANARY"
    try:
        if said is None:
            await fetch_once(url, 4)
        else:
            with pytest.raises(PreflightError, match=said) as caught:
                await fetch_once(url, 4)
            assert "CANARY" not in str(caught.value)
    finally:
        await runner.cleanup()


# The sandbox


@pytest.mark.asyncio
async def test_a_sandbox_takes_files_over_http(users: Path) -> None:
    async with Sandbox() as sandbox:
        first = await publish(users, sandbox.files_url)
        second = await publish(users, sandbox.files_url)

        assert await fetched(first.url) == (200, "text/csv", USERS)
        assert (first.uploaded, second.uploaded) == (True, False)
        assert (first.url, first.expires_at) == (second.url, None)


@pytest.mark.asyncio
async def test_a_sandbox_keeps_no_more_than_a_file_may_have_and_nothing_of_what_it_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"u" * 100_000)
    async with Sandbox(limits=QuotaLimits(file_bytes=50_000)) as sandbox:
        with pytest.raises(PreflightError):
            await publish(path, sandbox.files_url)
        path.write_bytes(b"u" * 50_000)
        assert (await publish(path, sandbox.files_url)).uploaded


@pytest.mark.asyncio
async def test_a_sandbox_without_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk is full, and not its caller's; what did not fit is gone again."""
    path, full = tmp_path / "users.csv", tmp_path / "full"
    path.write_bytes(b"value\n" * 50_000)
    with full_disk(full, 65_536), monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(full))
        async with Sandbox() as sandbox:
            with pytest.raises(PreflightError, match="HTTP 507, as there is no room for it there"):
                await publish(path, sandbox.files_url)
            assert [each.name for each in full.rglob("*") if each.is_file()] == ["filling"]


@pytest.mark.asyncio
async def test_nobody_writes_over_what_a_sandbox_serves_from_the_disk(users: Path) -> None:
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        url = await sandbox.publish(users)
        async with session.put(url, data=b"other\n") as response:
            assert response.status == 403
        assert (await fetched(url))[2] == USERS


@pytest.mark.asyncio
@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"", "is empty")])
async def test_what_cannot_be_published_is_said_before_anything_is_asked(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "users.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PreflightError, match=said):
        await publish(path, "s3://bucket/prefix?endpoint=http://127.0.0.1:9", options=WRITER)


@pytest.mark.asyncio
async def test_the_last_block_is_held_back_until_the_file_is_known_to_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(b"aabbcc")
    digest, seen = sha256_of(path), []
    assert [block async for block in blocks_of(path, digest, 2)] == [b"aa", b"bb", b"cc"]

    async def read_and_change() -> None:
        async for block in blocks_of(path, digest, 2):
            seen.append(block)
            change(path, b"aabbxx")

    with pytest.raises(PreflightError, match="changed while"):
        await read_and_change()
    assert seen == [b"aa", b"bb"]


# Google and Azure


@pytest.mark.asyncio
async def test_google_and_azure_sign_for_as_long_as_asked_and_for_reading_alone(tmp_path: Path) -> None:
    """No server of theirs is at hand that checks it: this shows what is signed. It opens no connection."""
    account = {"private_key": rsa_key(), "private_key_id": "k", "client_email": "a@example.com", "client_id": "1"}
    google = {"service_account_key": json.dumps({"type": "service_account", **account})}
    signed = await open_bucket(Destination.parse("gs://bucket/p"), google, None).signed("p/a.csv", 86_400)
    asked = parse_qs(urlsplit(signed).query)
    assert signed.startswith("https://storage.googleapis.com/bucket/p/a.csv?")
    assert asked["X-Goog-Expires"] == ["86400"]
    assert asked["X-Goog-Signature"]

    azure = {"account_key": base64.b64encode(b"k" * 64).decode()}
    to = Destination.parse("az://container/p?account=account")
    signed = await open_bucket(to, azure, None).signed("p/a.csv", 86_400)
    asked = parse_qs(urlsplit(signed).query)
    assert signed.startswith("https://account.blob.core.windows.net/container/p/a.csv?")
    assert datetime.fromisoformat(asked["se"][0]) - datetime.fromisoformat(asked["st"][0]) == timedelta(days=1)
    assert asked["sp"] == ["r"]


def rsa_key() -> str:
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
