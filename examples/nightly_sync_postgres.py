"""Bring two segments to the members that a PostgreSQL database has for them, as cron would every night.

    export WAREHOUSE=postgresql://reader@localhost/warehouse MOE_WORKSPACE_ID=… MOE_API_KEY=… MOE_DATA_CENTER=…
    export MOE_PUBLISH=s3://bucket/prefix MOE_CALLBACK_URL=https://hooks.example.com/moe
    python examples/nightly_sync_postgres.py

Callbacks are heard by `moe-segments receive`, which runs elsewhere on the same journal. Killed at any moment, the next
run goes on from there. The exit code is 1 when one of the segments did not end well.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from functools import partial

import psycopg

from moe_segments import Audience, SegmentsClient

QUERIES = {
    "nightly_big_spenders": "SELECT id FROM customers WHERE spent >= 1000",
    "nightly_lapsed": "SELECT id FROM customers WHERE last_seen < now() - interval '90 days'",
}


async def rows(query: str) -> AsyncIterator[tuple[str]]:
    """Yield the rows of a query; the server hands them out a few thousand at a time."""
    async with (
        await psycopg.AsyncConnection.connect(os.environ["WAREHOUSE"]) as connection,
        connection.cursor(name="members") as cursor,
    ):
        cursor.itersize = 5_000
        await cursor.execute(query)
        async for row in cursor:
            yield row


async def main() -> int:
    """Sync, print what became of each segment, return the exit code."""
    audiences = [
        Audience(
            name,
            attribute_name="ID",
            attribute_type="string",
            members=partial(rows, query),
            expiry_time=365,
            full_every_days=30,
        )
        for name, query in QUERIES.items()
    ]
    async with SegmentsClient.from_env() as client:
        report = await client.sync(audiences)
    for one in report.audiences:
        sent = " + ".join(one.operations) or "nothing"
        print(f"{one.name}: {one.status}, sent {sent}: {one.added} added, {one.removed} removed", one.error or "")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
