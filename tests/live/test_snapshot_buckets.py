"""Snapshots in a bucket, against a real store: hosts that share it know what segments hold."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING, Any

import obstore
import pytest

from moe_segments import Audience, CallbackReceiver, InputError, PreflightError, SegmentsClient
from moe_segments.audiences.snapshots.bucket import SnapshotBucket
from moe_segments.audiences.snapshots.format import SnapshotAltered
from moe_segments.publishing.destination import Destination
from moe_segments.publishing.objects import Objects
from moe_segments.publishing.store import Store, open_store
from moe_segments.sandbox import DEMO_CREDENTIALS, Sandbox
from tests.live.audience_world import FIELDS, in_virtual_time, world
from tests.live.stores import READER, S3, SECRET, WRITER, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.processes

MANY = {f"user-{number:04}" for number in range(200)}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    _be(monkeypatch, WRITER)


def _be(monkeypatch: pytest.MonkeyPatch, keys: dict[str, str]) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)


@pytest.fixture
def place(s3: S3, request: pytest.FixtureRequest) -> str:
    """A prefix of its own in the bucket."""
    return s3.to(f"snapshots-{hashlib.sha256(request.node.name.encode()).hexdigest()[:16]}")


def store_of(place: str) -> Store:
    return open_store(Destination.parse(place), WRITER, None)


def objects_of(place: str) -> dict[str, bytes]:
    """Every object below the prefix, with its bytes."""
    store = store_of(place)
    found = [meta["path"] for page in obstore.list(store.handle, store.destination.prefix) for meta in page]
    return {path: bytes(obstore.get(store.handle, path).bytes()) for path in found}


def put_back(place: str, objects: dict[str, bytes]) -> None:
    """Bring the prefix to an earlier state."""
    store = store_of(place)
    for path in objects_of(place):
        obstore.delete(store.handle, path)
    for path, data in objects.items():
        obstore.put(store.handle, path, data)


def test_a_second_host_sends_only_differences(tmp_path: Path, place: str) -> None:
    """Each host has its own disk: what they share is the journal and the bucket."""

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, place=place) as w:
            assert (await w.sync(MANY)).operations == ("create",)
            report = await w.sync(MANY | {"new"}, host=1)
            assert (report.operations, report.users, report.unchanged) == (("add",), 1, 200)
            report = await w.sync(MANY - {"user-0001"})
            assert (report.operations, report.unchanged) == (("remove",), 199)
            report = await w.sync(MANY, host=1)
            assert (report.operations, report.users) == (("add",), 1)
            assert w.members() == MANY
            assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - nobody waits meanwhile
            (path,) = objects_of(place)
            assert "/SANDBOX@" in path

    story()


def _deleted(place: str, _: dict[str, bytes]) -> None:
    put_back(place, {})


def _altered(place: str, _: dict[str, bytes]) -> None:
    put_back(place, {path: data[:99] + b"\0" + data[100:] for path, data in objects_of(place).items()})


def _cut(place: str, _: dict[str, bytes]) -> None:
    put_back(place, {path: data[:-20] for path, data in objects_of(place).items()})


def _restored(place: str, earlier: dict[str, bytes]) -> None:
    put_back(place, earlier)


DOUBTS = {"deleted": _deleted, "altered": _altered, "cut": _cut, "restored": _restored}


@pytest.mark.parametrize("kind", DOUBTS)
def test_a_snapshot_that_is_not_what_the_journal_says_means_replace(tmp_path: Path, place: str, kind: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, place=place) as w:
            await w.sync(MANY)
            earlier = objects_of(place)
            await w.sync(MANY | {"new"})
            DOUBTS[kind](place, earlier)
            report = await w.sync(MANY | {"newer"})
            assert (report.status, report.operations) == ("synced", ("replace",))
            assert w.members() == MANY | {"newer"}
            assert (await w.sync(MANY | {"newer"})).status == "unchanged"

    story()


def test_only_the_current_snapshot_stays_and_forgetting_deletes_it(tmp_path: Path, place: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, place=place) as w:
            for members in (MANY, MANY | {"new"}, MANY - {"user-0001"}):
                await w.sync(members)
                (data,) = objects_of(place).values()
                assert b"user-0002" not in data
            async with w.client() as client:
                (known,) = await client.audiences(snapshots=place)
                assert (known.is_known, known.size) == (True, 199)
                await client.forget_audience("vip", snapshots=place)
                assert objects_of(place) == {}
                assert not (await client.audiences(snapshots=place))[0].is_known

    story()


@pytest.mark.asyncio
async def test_a_client_is_told_the_place_once(place: str) -> None:
    """By an argument or by a variable: then no call needs to name it."""
    receiver = CallbackReceiver().serve()
    async with Sandbox(speed=3_600, processing_s=(0, 0)) as sandbox, receiver as callbacks:
        keys = sandbox.credentials
        variables = {
            "MOE_WORKSPACE_ID": keys.workspace_id,
            "MOE_API_KEY": keys.api_key,
            "MOE_DATA_CENTER": keys.data_center,
            "MOE_BASE_URL": sandbox.url,
            "MOE_JOURNAL": "memory:",
            "MOE_SNAPSHOTS": place,
        }
        async with SegmentsClient.from_env(
            environ=variables, callbacks=callbacks, publish=sandbox.publish, limits=sandbox.limits
        ) as client:
            assert (await client.sync([Audience("vip", members=MANY, **FIELDS)])).ok
            assert (await client.audiences())[0].is_known
            assert place.partition("?")[2] not in repr(client.settings)
    assert len(objects_of(place)) == 1


# A store that is away, or refuses


AWAY: dict[str, Callable[[str], str]] = {
    "nobody there": lambda _: "s3://segments/moe?endpoint=http://127.0.0.1:9",
    "no such bucket": lambda place: place.replace("//segments", "//no-such-bucket"),
}


@pytest.mark.parametrize("kind", AWAY)
def test_nothing_is_sent_when_the_snapshot_cannot_be_written(tmp_path: Path, place: str, kind: str) -> None:
    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, place=AWAY[kind](place)) as w:
            report = await w.sync(MANY)
            assert report.status == "failed"
            assert isinstance(report.error, InputError)
            assert report.error.field == "snapshots"
            assert "could not be written to s3://" in str(report.error)
            assert str(report.error).endswith("nothing was sent")
            assert w.sent == []

    story()


def test_a_store_that_is_away_is_no_reason_to_send_everything(tmp_path: Path, place: str) -> None:
    """The members are known; to replace them because of a network that is down would cost a day's users."""

    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, place=place) as w:
            await w.sync(MANY)
            w.place = AWAY["nobody there"](place)
            report = await w.sync(MANY | {"new"})
            assert (report.status, type(report.error)) == ("refused", PreflightError)
            assert "could not be read from s3://" in str(report.error)
            w.place = place
            assert (await w.sync(MANY | {"new"})).operations == ("add",)

    story()


def test_who_may_only_read_is_told_so_and_no_secret_is_repeated(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @in_virtual_time
    async def story() -> None:
        async with world(tmp_path, place=place) as w:
            await w.sync(MANY)
            _be(monkeypatch, READER)
            report = await w.sync(MANY | {"new"}, host=1)
            assert report.status == "failed"
            assert "HTTP 403" in str(report.error)
            assert w.ops == ["create"]
            with pytest.raises(PreflightError, match="could not be deleted from s3://"):
                async with w.client() as client:
                    await client.forget_audience("vip", snapshots=place)
            _be(monkeypatch, WRITER | {"secret_access_key": f"{SECRET}x"})
            wrong = await w.sync(MANY | {"new"})
            assert wrong.status == "failed"
            shown = f"{report!r} {report.to_json()} {wrong!r} {wrong.error!r} {wrong.error}"
            assert SECRET not in shown
            assert SECRET not in repr(SnapshotBucket(place, "W@01"))

    story()


# The place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://b/p?region=x", r"must name a bucket"),
        ("s3://bucket/p?secret_access_key=CANARY", "must not hold a secret"),
        ("s3://key:CANARY@bucket/p", "must not hold a secret"),
        ("s3://bucket/p?colour=CANARY", "not known here"),
        ("http://127.0.0.1:9/_files/p", "must be a directory, or begin with s3://"),
        ("ftp://bucket/CANARY", "must begin with s3://"),
    ],
)
@pytest.mark.asyncio
async def test_a_place_that_cannot_be_used_is_said_before_anything_is_read(url: str, said: str) -> None:
    read: list[int] = []

    def members() -> list[str]:
        read.append(1)
        return ["u1"]

    async with SegmentsClient(DEMO_CREDENTIALS, journal="memory:", base_url="http://127.0.0.1:9") as client:
        calls: list[Any] = [
            client.sync([Audience("vip", members=members, **FIELDS)], snapshots=url),
            client.plan_sync([Audience("vip", members=members, **FIELDS)], snapshots=url),
            client.audiences(snapshots=url),
            client.forget_audience("vip", snapshots=url),
        ]
        for call in calls:
            with pytest.raises(InputError, match=said) as caught:
                await call
            assert caught.value.field == "snapshots"
            assert "CANARY" not in str(caught.value)
    assert read == []


# Large ones


def test_a_large_snapshot_is_read_in_ranges(place: str, tmp_path: Path) -> None:
    """Memory is bounded, however slowly the values are used."""
    objects, path = Objects(store_of(place)), tmp_path / "large"
    path.write_bytes(random.Random(3).randbytes(11 << 20))
    objects.put("large", path, "it")
    blocks = list(objects.blocks("large", "it"))
    assert max(map(len, blocks)) <= 2 << 20
    assert b"".join(blocks) == path.read_bytes()


def test_a_snapshot_that_vanishes_while_it_is_read_makes_the_members_unknown(place: str) -> None:
    snapshots = SnapshotBucket(place, "W@01")
    chance = random.Random(5)
    values = sorted({f"{chance.getrandbits(128):032x}" for _ in range(200_000)})
    digest, count = snapshots.write("vip", (values[at : at + 1_000] for at in range(0, len(values), 1_000)))
    assert count == len(values)
    assert [value for block in snapshots.read("vip", digest) for value in block] == values
    reading = snapshots.read("vip", digest)
    next(reading)
    snapshots.forget("vip")
    with pytest.raises(SnapshotAltered, match="'vip' is not there"):
        list(reading)
