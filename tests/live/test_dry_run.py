"""A dry run of many operations: everything a run would find out before its first send, and nothing sent."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio

from moe_segments import (
    AddUsers,
    ArchiveSegment,
    CallbackReceiver,
    CreateFileSegment,
    InputError,
    NameTaken,
    Outcome,
    PreflightError,
    QuotaLimits,
    QuotaNeverFits,
    SegmentsClient,
)
from moe_segments.sandbox import Sandbox
from tests.live import stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

FIELDS: Final[dict[str, Any]] = {"attribute_name": "ID", "attribute_type": "string"}


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(processing_s=(0, 0)) as running:
        yield running


@asynccontextmanager
async def client_on(sandbox: Sandbox, **options: Any) -> AsyncIterator[SegmentsClient]:
    settings: dict[str, Any] = {"journal": "memory:", "base_url": sandbox.url, "publish": sandbox.publish}
    async with CallbackReceiver().serve() as receiver:
        async with SegmentsClient(sandbox.credentials, callbacks=receiver, **(settings | options)) as client:
            yield client


def create(name: str, values: Any = ("u1",), **fields: Any) -> CreateFileSegment:
    return CreateFileSegment(name=name, expiry_time=30, **FIELDS, **(fields or {"values": values}))


def add(name: str, **fields: Any) -> AddUsers:
    return AddUsers(name=name, **FIELDS, **(fields or {"values": ["u1"]}))


async def tried(client: SegmentsClient, operations: Any, **options: Any) -> list[Outcome]:
    return [outcome async for outcome in client.submit_many(operations, dry_run=True, **options)]


def sent(sandbox: Sandbox) -> list[str | None]:
    return [request.op for request in sandbox.workspace.requests if request.op != "list"]


@pytest.mark.asyncio
@pytest.mark.parametrize("order", ["given", "best"])
async def test_a_dry_run_says_when_each_would_start_and_sends_nothing(sandbox: Sandbox, order: Any) -> None:
    """Twelve creates: ten now, two in an hour."""
    operations = [create(f"s{number}") for number in range(12)]
    async with client_on(sandbox) as client:
        outcomes = await tried(client, operations, order=order)
        usage = await client.governor.usage()
        jobs = [job async for job in client.jobs()]

    assert [outcome.planned is not None and outcome.planned.wait_s for outcome in outcomes][:10] == [0.0] * 10
    assert [outcome.planned.limit for outcome in outcomes[10:] if outcome.planned] == ["operations_per_hour"] * 2
    assert {outcome.operation for outcome in outcomes} == set(operations)
    assert {(outcome.error, outcome.job, outcome.result, outcome.doubts) for outcome in outcomes} == {
        (None, None, None, ())
    }
    assert (sent(sandbox), jobs, usage["operations_per_hour"].used) == ([], [], 0)


@pytest.mark.asyncio
async def test_a_dry_run_finds_what_a_run_would(sandbox: Sandbox, tmp_path: Path) -> None:
    """A used name, a name that only the service knows, a bad file, a missing one, one that is too large."""
    bad = tmp_path / "bad.csv"
    bad.write_text('"u1"\n')
    async with client_on(sandbox, journal="memory:") as other:
        await (await other.submit(create("theirs"))).result(timeout=20)
    async with client_on(sandbox) as client:
        await (await client.submit(create("ours"))).result(timeout=20)
        before = sent(sandbox)
        url = await sandbox.publish(bad)
        outcomes = await tried(
            client,
            [
                create("ours"),
                create("theirs"),
                create("bad", file=bad),
                create("missing", file=tmp_path / "missing.csv"),
                create("large", file_url=url, rows=3_000_000),
                create("fine"),
            ],
            preflight="error",
        )
        after = sent(sandbox)

    errors = {outcome.operation.name: outcome.error for outcome in outcomes}
    assert {name: type(error) for name, error in errors.items()} == {
        "ours": NameTaken,
        "theirs": InputError,
        "bad": PreflightError,
        "missing": InputError,
        "large": QuotaNeverFits,
        "fine": type(None),
    }
    assert "the service's list shows" in str(errors["theirs"])
    assert before == after


@pytest.mark.asyncio
async def test_a_segment_that_nobody_knows_is_a_doubt(sandbox: Sandbox) -> None:
    """The list may leave segments out, so it is no error; one that the run itself creates is known."""
    async with client_on(sandbox) as client:
        outcomes = await tried(
            client,
            [
                add("nowhere"),
                create("new"),
                add("new"),
                add("by id", values=["u1"], cs_id="65a0"),
                ArchiveSegment(name="gone"),
            ],
        )

    doubtful = {outcome.operation.name for outcome in outcomes if outcome.doubts}
    assert doubtful == {"nowhere", "gone"}
    assert all(outcome.error is None for outcome in outcomes)


@pytest.mark.asyncio
async def test_without_the_quota_for_a_list_the_journal_alone_is_asked(sandbox: Sandbox) -> None:
    """A dry run never waits for it."""
    async with client_on(sandbox) as client:
        for _ in range(50):
            await client.list_segments()
        (outcome,) = await tried(client, [add("nowhere")])

    assert (outcome.error, outcome.doubts) == (None, ())


@pytest.mark.asyncio
async def test_what_would_be_split_is_told_with_its_parts(sandbox: Sandbox) -> None:
    """One outcome for one operation, with the starts of its parts."""
    large = create("large", values=lambda: (f"u{number}" for number in range(2_500)))
    async with client_on(sandbox, limits=QuotaLimits(users_per_day=1_000)) as client:
        outcomes = await tried(client, [large, create("small")], order="best")
        given = await tried(client, [large])

    outcome = next(one for one in outcomes if one.operation is large)
    assert [part.operation.op for part in outcome.parts] == ["create", "add", "add"]
    assert [part.planned.limit for part in outcome.parts if part.planned] == [None, "users_per_day", "users_per_day"]
    assert type(given[0].error) in {PreflightError, QuotaNeverFits}


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[stores.S3]:
    with stores.s3_server(tmp_path) as server:
        yield server


@pytest.mark.asyncio
async def test_the_right_to_publish_is_proved_without_leaving_anything(
    sandbox: Sandbox, s3: stores.S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may only read hears of it now; who may write leaves no object and no part of one."""
    for keys, error in ((stores.WRITER, type(None)), (stores.READER, PreflightError)):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
        async with client_on(sandbox, publish=s3.to("moe")) as client:
            (outcome,) = await tried(client, [create("s")])
            assert type(outcome.error) is error
    assert s3.objects("moe") == {}
    assert s3.unfinished_uploads() == 0


@pytest.mark.asyncio
async def test_without_a_place_to_publish_local_files_are_refused(sandbox: Sandbox) -> None:
    """As a run would, after it has read them all."""
    async with client_on(sandbox, publish=None) as client:
        local, remote = await tried(
            client, [create("s"), create("t", file_url=f"{sandbox.url}/x", rows=1)], preflight="off"
        )

    assert "publish=" in str(local.error)
    assert remote.error is None
