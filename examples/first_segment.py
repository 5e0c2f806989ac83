"""Create a segment and wait for its users, on the embedded sandbox; see README for the real service."""

import asyncio
from pathlib import Path

from moe_segments import CallbackReceiver, SegmentsClient
from moe_segments.sandbox import Sandbox

FILE = Path(__file__).parent / "files" / "diwali_vip.csv"


async def main() -> None:
    """Create the segment, print what became of its file."""
    async with (
        Sandbox() as sandbox,
        CallbackReceiver().serve() as receiver,
        SegmentsClient(
            sandbox.credentials, base_url=sandbox.url, journal="memory:", callbacks=receiver, publish=sandbox.publish
        ) as client,
    ):
        job = await client.create_file_segment(
            name="diwali_2026", attribute_name="ID", attribute_type="string", file=FILE, expiry_time=30
        )
        done = await job.result(timeout=60)
        print(f"{done.values_found} found, {done.values_processed} processed, {done.user_count} matched")


asyncio.run(main())
