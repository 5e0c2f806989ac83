"""Whatever is posted to the receiver: no 5xx, no change without a token, and with one never more than a first result.

Bodies are documented callbacks that were bent (fields left out, doubled, of another type, bytes flipped, cut off), and
bytes that never were one. Each is sent over HTTP with a known token and with an unknown one.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from moe_segments.callbacks.receiver import CallbackReceiver, new_token, token_digest
from moe_segments.core.events import Reserved
from moe_segments.journal import open_journal
from moe_segments.journal.replica import Replica
from moe_segments.limits import QuotaLimits
from tests.proofs import cases, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from moe_segments.core.state.jobs import JobRecord

SCOPE: Final = "W1.01"
AT_ONCE: Final = 100
EACH_JOB: Final = 5  # bodies sent to one job, so that later ones meet a result
KNOWN: Final = {200, 413}  # with a token
UNKNOWN: Final = {404, 413}  # without one
PROCESSED: Final[Mapping[str, object]] = {
    "db_name": "demo",
    "segment_name": "diwali",
    "request_id": "5f3e0c1a",
    "status": 201,
    "values_found": 80,
    "values_processed": 70,
    "user_count": 60,
}
FAILED: Final[Mapping[str, object]] = {
    "db_name": "demo",
    "segment_name": "diwali",
    "request_id": "5f3e0c1a",
    "status": 400,
    "error_message": "the file is too large",
}
ODD: Final[tuple[object, ...]] = (
    None,
    True,
    -1,
    2**70,
    1e308,
    "",
    "\x00",
    "\ud800",
    "201",
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
)


def bent(chance: random.Random) -> bytes:
    """A body."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.choice((0, 1, 7, 300, 70_000)))
    fields = dict(chance.choice((PROCESSED, FAILED)))
    for name in chance.sample(sorted(fields), chance.randrange(3)):
        if chance.random() < 0.5:
            del fields[name]
        else:
            fields[name] = chance.choice(ODD)
    if chance.random() < 0.2:
        fields[chance.choice(("extra", "status2", "\u202e", "__proto__"))] = chance.choice(ODD)
    body = bytearray(json.dumps(fields).encode())
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        body[chance.randrange(len(body))] = chance.randrange(256)
    return bytes(body[: chance.choice((len(body), len(body), len(body), chance.randrange(len(body))))])


async def reserve(replica: Replica, job: str) -> str:
    """A job that waits for its callback. Returns its token."""
    token = new_token()
    event = Reserved(job, 1, {"op": "add", "name": "diwali"}, keys=(job,), token_sha256=token_digest(token))
    await replica.ask(lambda _state, _now_us: ([event], None))
    return token


def told(record: JobRecord) -> tuple[object, object]:
    """What is known of a job's end."""
    return record.state, record.result


@pytest.mark.timeout(600)
@pytest.mark.asyncio
async def test_no_body_breaks_the_receiver_or_ends_a_job_twice() -> None:
    """Five thousand in the full form."""
    chance, count = random.Random(20_261_124), cases(250, 5_000)
    replica = Replica(open_journal("memory:", SCOPE), QuotaLimits())
    await replica.open()
    receiver = CallbackReceiver()
    receiver.bind(SCOPE, replica)
    seen: Counter[tuple[str, int]] = Counter()
    async with receiver.serve(), aiohttp.ClientSession() as session:

        async def post(token: str, body: bytes) -> int:
            async with session.post(receiver.url_for(SCOPE, token), data=body) as response:
                await response.read()
                return response.status

        bodies = [bent(chance) for _ in range(count)]
        version = replica.state.version
        for start in range(0, count, AT_ONCE):  # an unknown token waits for a look at the journal, shared by all
            strangers = await asyncio.gather(*(post(new_token(), body) for body in bodies[start : start + AT_ONCE]))
            assert set(strangers) <= UNKNOWN
            seen.update(("unknown token", status) for status in strangers)
        assert replica.state.version == version
        for start in range(0, count, EACH_JOB):
            job = f"job-{start}"
            token = await reserve(replica, job)
            for body in bodies[start : start + EACH_JOB]:
                before = told(replica.state.jobs.records[job])
                status = await post(token, body)
                after = told(replica.state.jobs.records[job])
                assert status in KNOWN
                assert after == before or before[1] is None
                seen["known token", status] += 1
    records = replica.state.jobs.records.values()
    await replica.close()
    ends = Counter(str(record.state) if record.terminal else "unread" for record in records)
    say(f"{count} bodies: {dict(seen)}; {len(records)} jobs: {dict(ends)}")
    assert {"processed", "failed"} <= set(ends)
