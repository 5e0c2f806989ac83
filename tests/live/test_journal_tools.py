"""What programs do with a whole journal, as the command line does: read it, ask whose it is, check it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from moe_segments import (
    CreateFileSegment,
    Credentials,
    InputError,
    PreflightError,
    SegmentsClient,
    check_file,
    payload_from_json,
)
from moe_segments.bulk.checks import count_rows
from moe_segments.bulk.manifest import ManifestError, read_manifest
from moe_segments.journal import tools

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio

CREDENTIALS = Credentials(workspace_id="W1", api_key="key-of-the-test", data_center="01")
SCOPE = CREDENTIALS.scope
SERVICE = "http://127.0.0.1:9"
FILTER = (
    '{"filter_type": "user_attributes", "name": "city", "data_type": "string", "operator": "in", "value": ["Pune"]}'
)


def client_on(journal: str) -> SegmentsClient:
    return SegmentsClient(CREDENTIALS, journal=journal, base_url=SERVICE)


async def events(url: str, since: datetime | None = None) -> list[str]:
    return [entry.event async for entry in tools.read_log(url, SCOPE, since=since)]


async def test_a_log_is_read_event_by_event(tmp_path: Path) -> None:
    """Oldest first, each with its moment, its sentence and its fields."""
    url = f"sqlite:///{tmp_path / 'quota.db'}"
    async with client_on(url) as client:
        await client.governor.record_external(operations=2, rows=5_000)
        await client.governor.observe_active_segments(7)
    opened, spent, observed = [entry async for entry in tools.read_log(url, SCOPE)]
    assert [opened.event, spent.event, observed.event] == ["opened", "external", "active_observed"]
    assert [opened.version, spent.version, observed.version] == [1, 2, 3]
    assert spent.text == "2 operations and 5,000 users of others"
    assert (spent.fields["operations"], spent.fields["rows"]) == (2, 5_000)
    assert spent.at.utcoffset() == timedelta(0)
    assert abs((spent.at - datetime.fromtimestamp(spent.at_us / 1e6, UTC)).total_seconds()) < 1e-5
    assert await events(url, since=observed.at) == ["active_observed"]
    assert await events(url, since=observed.at + timedelta(microseconds=1)) == []


async def test_a_log_is_followed_as_it_grows(tmp_path: Path) -> None:
    """Without end; leaving it lets go of the journal."""
    url = f"sqlite:///{tmp_path / 'quota.db'}"
    async with client_on(url) as client:
        following = tools.read_log(url, SCOPE, follow=True)
        assert (await anext(following)).event == "opened"
        coming = asyncio.ensure_future(anext(following))
        await client.governor.observe_active_segments(7)
        async with asyncio.timeout(10):
            assert (await coming).event == "active_observed"
        await following.aclose()  # type: ignore[attr-defined]  # of a generator


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{path}"])
async def test_what_is_not_there_is_not_made(url: str, tmp_path: Path) -> None:
    path = tmp_path / "nothing.db"
    with pytest.raises(InputError):
        await events(url.format(path=path))
    with pytest.raises(InputError):
        await tools.check(url.format(path=path), SCOPE)
    assert await tools.origin_of(url.format(path=path), SCOPE) is None
    assert not path.exists()


async def test_a_journal_says_whose_it_is_and_that_it_is_sound(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'quota.db'}"
    async with client_on(url):
        pass
    assert await tools.origin_of(url, SCOPE) == SERVICE
    assert await tools.origin_of(url, "another@01") is None
    assert (await tools.check(url, SCOPE)).problems == []


# Files and filters


async def test_rows_are_counted_without_any_other_check(tmp_path: Path) -> None:
    """Of one operation, and of a manifest, where what cannot be read is told by its line."""
    (tmp_path / "users.csv").write_text('"u-1"\nu-1\nu-1\n')  # breaks rules that are none of its business
    fields = {"attribute_name": "ID", "attribute_type": "string", "expiry_time": 30}
    operation = CreateFileSegment(name="one", file=tmp_path / "users.csv", **fields)  # type: ignore[arg-type]  # known
    (tmp_path / "bulk.csv").write_text(
        "op,name,attribute_name,attribute_type,file,file_url,expiry_time,rows\n"
        "create,one,ID,string,users.csv,,30,\n"
        "create,two,ID,string,users.csv,,30,9\n"
        f"create,three,ID,string,,{SERVICE}/users.csv,30,\n"
        "archive,four,,,,,,\n"
    )
    manifest = read_manifest(tmp_path / "bulk.csv")
    async with client_on("memory:") as client:
        assert await client.count_rows(operation) == 3
        counted = await count_rows(client, manifest, remote=False)
        assert [getattr(entry.operation, "rows", None) for entry in counted.entries] == [3, 9, None, None]
        with pytest.raises(ManifestError) as caught:
            await count_rows(client, manifest, remote=True)
        assert [(mistake.line, mistake.field) for mistake in caught.value.mistakes] == [(4, "file_url")]
        (tmp_path / "users.csv").write_text("")
        with pytest.raises(PreflightError, match="empty"):
            await client.count_rows(operation)
        with pytest.raises(InputError):
            await client.count_rows(manifest.operations[3])  # type: ignore[arg-type]  # what is refused


async def test_a_report_says_whether_splitting_is_enough() -> None:
    assert (await check_file(b"u-1\nu-2\n")).only_too_large
    assert not (await check_file(b'"u-1"\n')).only_too_large


@pytest.mark.parametrize(
    "text",
    [FILTER, f"[{FILTER}]", f'{{"filter_operator": "and", "filters": [{FILTER}]}}', f"\ufeff{FILTER}".encode()],
)
async def test_filters_in_json_become_a_whole_payload(text: str | bytes) -> None:
    (only,) = payload_from_json(text)["included_filters"]["filters"]
    assert only["name"] == "city"


async def test_a_whole_payload_stays_as_it_is() -> None:
    assert payload_from_json('{"name": "n", "included_filters": {}, "x": 1}') == {
        "name": "n",
        "included_filters": {},
        "x": 1,
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[\n{"a": 1,}]', "not JSON, line 2, column [89]"),
        ("5", "holds no filters"),
        ("{}", "holds no filters"),
        ('{"a": 1, "a": 2}', "given twice"),
        ("[" * 99 + "]" * 99, "nested deeper"),
        ("[NaN]", "not finite"),
        ("\ud800", "not UTF-8"),
        (b"\xff", "not UTF-8"),
    ],
)
async def test_what_holds_no_filters_is_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        payload_from_json(text)
